/* Answers over a key/value cache, greedy or drawn: one prefill of contexts and questions, then one
 * token a branch a step. */
#ifndef LCL_TRAIN_GENERATE_H
#define LCL_TRAIN_GENERATE_H

#include "data/episode.h"
#include "model/model.h"
#include "train/contexts.h"

/* How tokens are picked from logits: struct lcl_sample_args; all zero: the likeliest. A draw is a
 * function of (seed, sequence, position): an answer's sequence is first_sequence and its place
 * among the branches of its batch, so it does not depend on what is asked along with it. */
struct lcl_sampling {
    float temperature, top_p;
    int64_t top_k;
    uint64_t seed, first_sequence;
};

/* Buffers that serve one batch after another; one for each thread that generates. A lane is one
 * branch that is being answered: its arrays are what a step reads, and stay in place so that steps
 * can be recorded (lcl_replay_args). */
struct lcl_generator {
    struct lcl_pass pass;
    struct lcl_kv_cache cache; /* rows of contexts, then those of the batch at work */
    struct lcl_contexts contexts;
    int64_t *base, *length;    /* by run: first cache row, prompt length */
    int32_t *cache_row;        /* by token of the prompt */
    struct lcl_attn_run *runs; /* by run, over the cache */
    int64_t n_lanes;
    int32_t *run_of; /* by lane: its run, -1 when its answer has ended */
    uint64_t *sequence, *draw;
    int32_t *id, *position, *slot, *last_row, *picked;
    struct lcl_attn_run *decode;
    struct lcl_recording *step; /* of n_lanes lanes */
    int64_t cap_runs, cap_tokens;
    struct lcl_sampling sampling;
    struct lcl_arena logits; /* of lanes, where tokens are drawn */
};
void lcl_generator_init(struct lcl_generator *g, struct lcl_exec *exec,
                        const struct lcl_model *model);
void lcl_generator_free(struct lcl_generator *g);

/* Sees a run's answer grow. *end: it ends here, by its end token or its length; may be set. */
typedef lcl_status (*lcl_token_fn)(void *ctx, int64_t run, const struct lcl_ids *so_far, bool *end);
struct lcl_generate_how {
    int64_t max_new;
    const struct lcl_context *after; /* what the batch's runs go on from, or NULL */
    struct lcl_sampling sampling;
    lcl_token_fn token; /* called for every token and at the end token; or NULL */
    void *token_ctx;
};
/* Continues every branch run (is_branch[run]) of a batch of LCL_ENCODE_PROMPT: out[run] receives up
 * to max_new tokens (malloc'd lcl_ids, the end token left out). LCL_RANGE for a sampling that is
 * none; what how->token fails with. */
LCL_CHECKED lcl_status lcl_generate(struct lcl_generator *g, const struct lcl_batch *b,
                                    const struct lcl_images *images, const bool *is_branch,
                                    const struct lcl_generate_how *how, struct lcl_ids *out);

/* Log-probabilities of a batch's supervised rows: g->pass.row_logprob [S]. after: as above. */
LCL_CHECKED lcl_status lcl_generator_score(struct lcl_generator *g, const struct lcl_batch *b,
                                           const struct lcl_images *images,
                                           const struct lcl_context *after);
/* Computes a context (of lcl_split_batch, which the generator keeps under these pictures' numbers)
 * in the cache's rows. `more`: cache rows that its batches may come to need besides; a guess. */
LCL_CHECKED lcl_status lcl_generator_read(struct lcl_generator *g, const struct lcl_batch *context,
                                          const struct lcl_images *images, const uint64_t *picture,
                                          int64_t n_pictures, int64_t more,
                                          const struct lcl_context **out);

#endif
