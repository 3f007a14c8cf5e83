/* What ranks exchange of a step: gradients to those who own them, values from those who changed
 * them (ZeRO, Rajbhandari et al. 2020). Each row is cut in shares by itself (lcl_comm_cut), rows go
 * in buckets of a layer or more, and only rows that move are sent.
 *
 *   stage 0  gradients are reduced to their owners and gathered again; every rank updates all
 *   stage 1  each rank updates its share, of which alone it has moments; values are gathered
 *   stage 2  gradients outside of the share are given back to the system once they are reduced
 *   stage 3  the decoder's values outside of the share too, but for the layers at work
 *
 * A bucket is sent as soon as its layers have gone back, while the pass goes on; the values of a
 * layer come while the one before it works. Bytes that a rank of N sends a step, of P moving
 * elements: (N-1)/N P 4 for gradients (stage 0: twice that), and (N-1)/N P times 4 (f32) or 2
 * (bf16) for values. From stage 2 on, where sums need not be in order, gradients of each of a
 * rank's lanes are sent by themselves; in stage 3 the decoder's values go twice a lane, those of
 * its last layer once. */
#ifndef LCL_OPTIM_ZERO_H
#define LCL_OPTIM_ZERO_H

#include "core/comm.h"
#include "core/ops.h"
#include "core/param.h"
#include "core/sum_tree.h"

enum { LCL_ZERO_SLOTS = 2 };

/* Rows of consecutive layers. */
struct lcl_bucket {
    int first, n; /* in lcl_zero.row */
    int64_t elements, own_elements;
    int n_ready; /* rows whose gradients are whole, in the pass at work */
};

/* A bucket, or a layer, on its way. */
struct lcl_zero_slot {
    struct lcl_zero *zero;
    struct lcl_comm_job job;
    struct lcl_parcel *parcel;
    int n_parcels;
    int what; /* number of the bucket or layer; -1: the slot is free */
    enum lcl_traffic traffic;
    float *arrived;
};

struct lcl_zero_options {
    int stage;
    bool in_order;                  /* sums by the tree of the lanes, whatever they cost to send */
    int64_t lanes, bucket_bytes;    /* of gradients, at least a layer */
    const struct lcl_arena *values; /* where the table's values lie */
};

/* What a pass's gradients are added to before they are sent: places are numbers of buffers. */
struct lcl_zero_sum {
    float *const *grad; /* buffers */
    int n_merges, into[LCL_SUM_TREE_DEPTH * 32], from[LCL_SUM_TREE_DEPTH * 32];
    int n_nodes, node[LCL_SUM_TREE_DEPTH]; /* that this rank sends */
    float *sum;                            /* gets the own elements; stage 0: all */
    bool more;                             /* they are added to what sum has */
};

struct lcl_zero {
    struct lcl_comm *comm;
    struct lcl_exec *exec;
    struct lcl_params *params;
    struct lcl_zero_options o;
    const struct lcl_arena *grads; /* where gradients lie */
    int rounds;                    /* times that gradients are sent in a step */
    int n_rows, n_buckets, n_layers;
    int *row; /* [n_rows] that move, the decoder's last layers first, rows of no layer last */
    struct lcl_bucket *bucket, *layer; /* [n_buckets]; [n_layers] of the decoder */
    int *n_nodes;                      /* [size] sums that each rank sends in the round at hand */
    struct lcl_sum_node (*node)[LCL_SUM_TREE_DEPTH]; /* [size] */
    struct lcl_arena arrivals;
    struct lcl_zero_slot reducing[LCL_ZERO_SLOTS], gathering[LCL_ZERO_SLOTS];
    int next_bucket;                /* to be sent */
    const struct lcl_zero_sum *sum; /* of the pass at work; NULL: its gradients are not sent */
    bool *is_here; /* [n_layers + 1] the layer's values are whole; the last: those of no layer */
    double wait_s; /* that this rank waited for others, since lcl_zero_open() */
};

/* For ranks (size > 1) whose lanes are lcl_lanes_begin()'s. params->share_ranks is set where
 * stage >= 1, before values are laid out. */
LCL_CHECKED lcl_status lcl_zero_open(struct lcl_zero *z, struct lcl_comm *comm,
                                     struct lcl_exec *exec, struct lcl_params *params,
                                     const struct lcl_zero_options *o);
/* False where an error has left the courier at work on it: then it stays, until the process ends.
 */
bool lcl_zero_close(struct lcl_zero *z);
/* Times that each rank reduces in a step: for each lane, or once. */
int lcl_zero_rounds(int stage, bool in_order, int64_t lanes, int n_ranks);

/* Before the first pass of a step: values that no layer has. */
LCL_CHECKED lcl_status lcl_zero_begin(struct lcl_zero *z);
/* The coming pass makes the gradients of round `round` whole: layers are sent as they go back. */
LCL_CHECKED lcl_status lcl_zero_expect(struct lcl_zero *z, int round,
                                       const struct lcl_zero_sum *sum);
/* A watch's calls (model/model.h). */
LCL_CHECKED lcl_status lcl_zero_enter(struct lcl_zero *z, enum lcl_part part, int64_t layer,
                                      bool back);
LCL_CHECKED lcl_status lcl_zero_leave(struct lcl_zero *z, enum lcl_part part, int64_t layer,
                                      bool back);
/* After that pass: sends the rest, waits for all of it. sum has what lcl_zero_expect said. */
LCL_CHECKED lcl_status lcl_zero_reduce(struct lcl_zero *z);
/* After the update: values that other ranks have changed; stage 3: they are forgotten. */
LCL_CHECKED lcl_status lcl_zero_gather(struct lcl_zero *z);
/* All values, whole on every rank until the next step begins. Called by all. */
LCL_CHECKED lcl_status lcl_zero_whole(struct lcl_zero *z);
/* Bytes of what arrives, for plans. */
int64_t lcl_zero_bytes(const struct lcl_zero *z);

#endif
