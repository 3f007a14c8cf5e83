/* Cases smol-prefill and smol-decode: a LLaMA from an HF folder reads a prompt, or answers to it.
 */
#ifndef LCL_DEV_BENCH_SMOL_H
#define LCL_DEV_BENCH_SMOL_H

#include "train/generate.h"

enum { SMOL_LOGITS = 8 };

struct smol {
    struct lcl_model model;
    struct lcl_generator generator;
    struct lcl_batch batch; /* one run: the prompt */
    struct lcl_attn_run run;
    int32_t *ids, *position, last_row;
    int64_t max_new; /* 1: the prompt's forward and its first token */
    struct lcl_ids answer;
    double begin_s, begin_cpu_s; /* of what is timed: after the prompt where there is an answer */
    float logits[SMOL_LOGITS];   /* of the last row, at ids spread over the vocabulary */
};

/* Starts threads and the CPU backend. DIR/hf is the model, DIR/prompt.i32 its ids; n of them. */
LCL_CHECKED lcl_status smol_open(struct smol *s, struct lcl_exec *exec, const char *dir, bool bf16,
                                 int64_t n, int64_t max_new);
LCL_CHECKED lcl_status smol_run(struct smol *s);
void smol_close(struct smol *s);

/* Processor time of the process, in seconds. */
double bench_cpu_s(void);

#endif
