/* Private to cuda/: the device that launchers work on. */
#ifndef LCL_CUDA_DEVICE_H
#define LCL_CUDA_DEVICE_H

#include "core/ops.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Slots of scratch: ops that run one after another share them. */
enum lcl_cuda_slot {
    LCL_CUDA_PARTIALS, /* partial sums on their way to one */
    LCL_CUDA_ROWS,     /* rows gathered, widened or between two products */
    LCL_CUDA_LOGITS,
    LCL_CUDA_INDEX, /* tables that a launcher makes on the host */
    LCL_CUDA_GEMM,
    LCL_CUDA_SLOTS
};

/* A host array that kernels read: its copy on the device, and what it held when it was made. */
struct lcl_cuda_upload {
    const void *host;
    void *copy, *device;
    size_t bytes, capacity;
    uint64_t used; /* when, for the oldest to give way */
};

/* What kernels wrote for the host, at `at` of the device's results. */
struct lcl_cuda_result {
    void *host;
    size_t at, bytes;
};

enum { LCL_CUDA_UPLOADS = 64 };

struct lcl_cuda_device {
    void *stream; /* cudaStream_t */
    int number;
    bool synchronous; /* wait after every launch: LCL_CUDA_SYNC=1 */
    bool hopper;      /* compute capability 9.0 */
    bool wgmma;       /* attention in bf16 runs on wgmma, where rows allow it */
    void *scratch[LCL_CUDA_SLOTS];
    size_t scratch_bytes[LCL_CUDA_SLOTS];
    struct lcl_cuda_upload upload[LCL_CUDA_UPLOADS];
    uint64_t uses;
    unsigned char *staging; /* pinned: what is on its way to the device since the last wait */
    size_t staged, staging_bytes;
    struct lcl_cuda_result *result;
    int n_results, results_cap;
    unsigned char *results, *results_host; /* on the device, and pinned */
    size_t results_used, results_bytes;
    int64_t waits; /* of the host */
    void *gemm;    /* of gemm*.cu */
    void **marks;  /* cudaEvent_t [n_marks], of marks.cu */
    int64_t n_marks;
    bool graphs;                          /* replay by graphs; LCL_CUDA_GRAPH=0: by calls */
    struct lcl_cuda_recording *recording; /* of the work that is being recorded (replay.cu) */
    bool capturing;                       /* its calls, as a graph; else they run, too */
    uint64_t scratch_grown;               /* how often, so far */
    char text[320];
};

/* Memory of the device for one op, contents undefined; it grows in first steps only. */
LCL_CHECKED lcl_status lcl_cuda_scratch(struct lcl_cuda_device *d, enum lcl_cuda_slot slot,
                                        size_t bytes, void **out);

/* Waits for all that was asked for. */
LCL_CHECKED lcl_status lcl_cuda_wait(struct lcl_cuda_device *d);
/* A copy to the device, in the stream's order, by way of pinned memory: the host's bytes may change
 * as soon as this returns, and it does not wait. */
LCL_CHECKED lcl_status lcl_cuda_send(struct lcl_cuda_device *d, void *device, const void *host,
                                     size_t bytes);
/* The device's copy of `bytes` of host memory. Arrays that did not change since they were last
 * asked for are not sent again: positions and runs serve all layers. The array must be the op's
 * argument itself, for a recording reads it again; a table that the launcher makes begins with
 * lcl_cuda_unrecorded. */
LCL_CHECKED lcl_status lcl_cuda_upload(struct lcl_cuda_device *d, const void *host, size_t bytes,
                                       const void **out);
/* Memory of the device, all zeros, whose contents reach `host` at the next sync (at once where the
 * device is synchronous, by lcl_cuda_op_end). host NULL: *out is NULL. */
LCL_CHECKED lcl_status lcl_cuda_result(struct lcl_cuda_device *d, void *host, size_t bytes,
                                       void **out);
/* Room for n results of `bytes` in all. An op of several results begins with it: without, room made
 * for a later one might send off those before it, which no kernel has written yet. */
LCL_CHECKED lcl_status lcl_cuda_results_reserve(struct lcl_cuda_device *d, int n, size_t bytes);
/* Ends an op that gives results. */
LCL_CHECKED lcl_status lcl_cuda_op_end(struct lcl_cuda_device *d);
void lcl_cuda_exchange_free(struct lcl_cuda_device *d);
void lcl_cuda_marks_free(struct lcl_cuda_device *d);

/* replay.cu. LCL_UNSUPPORTED while work is being recorded: of an op that works on the host. */
LCL_CHECKED lcl_status lcl_cuda_unrecorded(const struct lcl_cuda_device *d, const char *op);
/* Of a recording under way: where kernels find an upload or a result; NULL: as without. */
LCL_CHECKED lcl_status lcl_cuda_record_upload(struct lcl_cuda_device *d, const void *host,
                                              size_t bytes, const void **out);
LCL_CHECKED lcl_status lcl_cuda_record_result(struct lcl_cuda_device *d, void *host, size_t bytes,
                                              void **out);

static inline struct lcl_cuda_device *lcl_cuda_device_of(struct lcl_exec *ex)
{
    return (struct lcl_cuda_device *)ex->device;
}

#ifdef __cplusplus
}
#endif
#endif
