/* What ranks exchange of a step: gradients to those who own them, values from those who changed
 * them (ZeRO, Rajbhandari et al. 2020). Each row is cut in shares by itself (lcl_comm_cut), rows go
 * in buckets of a layer or more, and only rows that move are sent.
 *
 *   stage 0  gradients are reduced to their owners and gathered again; every rank updates all
 *   stage 1  each rank updates its share, of which alone it has moments; values are gathered
 *   stage 2  gradients outside of the share are given back to the system once they are reduced
 *   stage 3  values outside of the share too, but for those of the layers at work
 *
 * Bytes that a rank of N sends a step, of P moving elements: (N-1)/N P 4 for gradients, and
 * (N-1)/N P times 4 (values in f32) or 2 (bf16) for values; stage 0: 2 (N-1)/N P 4. */
#ifndef LCL_OPTIM_ZERO_H
#define LCL_OPTIM_ZERO_H

#include "core/comm.h"
#include "core/ops.h"
#include "core/param.h"
#include "core/sum_tree.h"

/* Rows of consecutive layers. */
struct lcl_bucket {
    int first, n; /* in lcl_zero.row */
    int64_t elements, own_elements;
};

struct lcl_zero {
    struct lcl_comm *comm;
    struct lcl_exec *exec;
    struct lcl_params *params;
    int stage;
    bool in_order; /* sums by the tree of the lanes alone, whatever they cost to send */
    int64_t lanes;
    int n_rows, n_buckets;
    int *row; /* [n_rows] that move, last layers first */
    struct lcl_bucket *bucket;
    int *n_nodes;                                    /* [size] sums that each rank sends */
    struct lcl_sum_node (*node)[LCL_SUM_TREE_DEPTH]; /* [size] */
    int most_nodes, all_nodes;
    struct lcl_arena arena; /* what arrives, of one bucket */
    float *arrived;
    struct lcl_parcel *message;
    int cap_messages;
    double wait_s; /* that this rank waited for others, since lcl_zero_open() */
};

/* For ranks (size > 1) whose lanes are lcl_lanes_begin()'s; bucket_bytes: of gradients, at least a
 * layer. params->share_ranks is set where stage >= 1, before values are laid out. */
LCL_CHECKED lcl_status lcl_zero_open(struct lcl_zero *z, struct lcl_comm *comm,
                                     struct lcl_exec *exec, struct lcl_params *params, int stage,
                                     bool in_order, int64_t lanes, int64_t bucket_bytes);
void lcl_zero_close(struct lcl_zero *z);
/* Sums of all lanes, to sum's own elements (stage 0: all elements), from this rank's nodes of the
 * tree, place k of them in buffer grad[k]. sum is one of the buffers, or not; all are changed. */
LCL_CHECKED lcl_status lcl_zero_reduce(struct lcl_zero *z, float *const *grad, float *sum);
/* Values that other ranks have changed. */
LCL_CHECKED lcl_status lcl_zero_gather(struct lcl_zero *z);

#endif
