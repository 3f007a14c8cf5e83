/* Attention for tests: problems of runs, their answers in double by the definition, and the op's.
 */
#ifndef LCL_TESTS_SUPPORT_ATTENTION_H
#define LCL_TESTS_SUPPORT_ATTENTION_H

#include "tests/support/support.h"

enum { ATTN_MAX_RUNS = 80 };

struct attn_problem {
    int64_t T, H, G, D, pad; /* pad: unused elements at the end of each packed row */
    bool causal;
    bool cross;    /* q and d_q are matrices of their own, [T, H * D + q_pad] */
    int64_t q_pad; /* 8 as attn_add_cross sets it */
    int n_runs;
    struct lcl_attn_run runs[ATTN_MAX_RUNS];
    double *qkv, *d_out; /* [T, row], [T, H * D] */
};

struct attn_result {
    double *out, *lse, *d_qkv;
};

/* What the op was given and wrote. */
struct attn_buffers {
    struct lcl_attention_args args;
    void *out, *d_qkv;
    float *lse;
};

/* Elements of a packed row; what scores are multiplied by. */
int64_t attn_row_width(const struct attn_problem *p);
double attn_scale(const struct attn_problem *p);

/* Separate sequences of these lengths. */
void attn_add_sequences(struct attn_problem *p, const int32_t *lengths, int n);

/* A context and branches that see it and themselves. */
void attn_add_episode(struct attn_problem *p, int32_t context, const int32_t *branches, int n);

/* Queries of these numbers that see keys of those: query rows one after another, their keys from
 * the last run to the first, so that rows of q and rows of k are others. */
void attn_add_cross(struct attn_problem *p, const int32_t *queries, const int32_t *keys, int n);

/* Random numbers for all rows. */
void attn_fill(struct attn_problem *p, uint64_t sample);

/* By the definition; `plain` rounds each step to bf16, as a plain implementation in bf16 would. */
struct attn_result attn_reference(const struct attn_problem *p, bool plain, bool backward);

/* sum(d_out * out) of the problem `ctx`, small enough to be done hundreds of times. */
double attn_loss(void *ctx);

/* Runs the op on the problem's numbers rounded to dtype (which rounds the problem too). */
struct attn_buffers attn_run(struct attn_problem *p, lcl_dtype dtype, bool backward);

/* Forward and backward of grouped heads over sequences and an episode: the same bits on one, two
 * and three threads. */
void attn_check_threads(lcl_dtype dtype);

#endif
