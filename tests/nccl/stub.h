/* The calls of CUDA and NCCL that train/comm_nccl.c makes, for ranks that are threads. A stream is
 * a queue that goes on when one of its events is asked for. Ops of a device run as late as can be:
 * when something waits for them. */
#ifndef LCL_TESTS_NCCL_STUB_H
#define LCL_TESTS_NCCL_STUB_H

#include "core/ops.h"
#include "tests/nccl/nccl.h"

enum { STUB_RANKS = 16, STUB_CALLS = 8192 };

/* A message as a filling was given it. */
struct stub_message {
    int peer;
    bool receive;
    size_t bytes;
    int group; /* which one it began with, from 0 */
};
struct stub_log {
    int n, groups;
    struct stub_message m[STUB_CALLS];
};

/* Forgets all; streams, events and memory of before are to be gone. */
void stub_reset(void);
/* What a rank's ncclSend and ncclRecv were, since its first one. */
struct stub_log *stub_log_of(int rank);
/* "" or the first call that a real library would not have borne. */
const char *stub_fault(void);
/* Streams, events, communicators and blocks of memory that were not given back. */
int stub_left(void);
/* How often a call was made. */
int stub_count(const char *call);

/* The call fails from its nth time on (from 0); NULL: none does. */
void stub_fail(const char *call, int nth);
/* What NCCL finds out behind its calls' backs. */
void stub_break_links(void);

/* A device that `ex` then has: number, and a stream of ops. */
void stub_device_open(struct lcl_exec *ex, int number);
void stub_device_close(struct lcl_exec *ex);
/* An op: y[0..bytes) = value, some time. */
void stub_op_fill(struct lcl_exec *ex, void *y, int value, size_t bytes);
/* y = x as it is now, some time. */
void stub_op_copy(struct lcl_exec *ex, void *y, const void *x, size_t bytes);
void stub_op_finish(struct lcl_exec *ex); /* runs what has not run */

#endif
