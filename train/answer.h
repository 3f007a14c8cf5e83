/* Answers about pictures in files: a gallery of their features, and questions (episodes whose
 * picture i of the gallery is image -1 - i) answered in words or by the likelihood of each label.
 * Many queries share one support set. lcl generate and lcl classify stand on it. */
#ifndef LCL_TRAIN_ANSWER_H
#define LCL_TRAIN_ANSWER_H

#include "data/archived.h"
#include "data/conversation.h"
#include "train/env.h"
#include "train/generate.h"
#include "train/support.h"
#include "train/words.h"

struct lcl_bad_picture {
    char *path, *why;
};
struct lcl_bad_pictures {
    int64_t n;
    struct lcl_bad_picture *v; /* owned */
};
void lcl_bad_pictures_free(struct lcl_bad_pictures *b);

/* Features of pictures as the tower gives them, in order of addition. */
struct lcl_gallery {
    struct lcl_env *env;
    struct lcl_pass pass;
    int64_t n, cap, row; /* row: tokens_per_image * Cv floats of a picture */
    float *rows;         /* [n, row] */
    uint64_t *stamp;     /* [n] of each picture its own, never used again */
    uint64_t stamps;
    float *pixels;                             /* of the pictures being added */
    const struct lcl_archived_files *archived; /* files that lie in archives; may be NULL */
};
LCL_CHECKED lcl_status lcl_gallery_open(struct lcl_gallery *g, struct lcl_env *e);
void lcl_gallery_close(struct lcl_gallery *g);
/* Decodes and preprocesses n files (on all threads) and adds their features. number[i] (may be
 * NULL) receives the picture's number, -1 where it is bad. bad NULL: the first bad picture is the
 * error; else bad ones are listed in it. */
LCL_CHECKED lcl_status lcl_gallery_add(struct lcl_gallery *g, const char *const *paths, int64_t n,
                                       int64_t *number, struct lcl_bad_pictures *bad);
/* The same of pictures that a pack holds, by their numbers there. */
LCL_CHECKED lcl_status lcl_gallery_add_packed(struct lcl_gallery *g, struct lcl_pack *pack,
                                              const int64_t *image, int64_t n, int64_t *number);
/* A picture as lcl_gallery_add decodes it: a file, or one that lies in an archive. */
LCL_CHECKED lcl_status lcl_gallery_read(const struct lcl_gallery *g, const char *path,
                                        const struct lcl_decode_options *o,
                                        struct lcl_image *image);
/* Forgets the pictures from number n on. */
static inline void lcl_gallery_cut(struct lcl_gallery *g, int64_t n) { g->n = n < g->n ? n : g->n; }
/* Decodes and preprocesses n files and keeps nothing: lists the bad ones. */
LCL_CHECKED lcl_status lcl_pictures_check(struct lcl_gallery *g, const char *const *paths,
                                          int64_t n, struct lcl_bad_pictures *bad);

/* Buffers that serve one question after another; one for each thread that asks. */
struct lcl_answerer {
    const struct lcl_config *config;
    const struct lcl_gallery *gallery;
    struct lcl_batch_builder *builder;
    struct lcl_generator generator; /* its contexts: a support set is read once for all queries */
    float *features;
    size_t features_cap;
};
LCL_CHECKED lcl_status lcl_answerer_open(struct lcl_answerer *a, const struct lcl_gallery *g,
                                         const struct lcl_config *c);
void lcl_answerer_close(struct lcl_answerer *a);
/* logprob [n_queries, n_ways]: log-likelihood of the whole answer that names each label. */
LCL_CHECKED lcl_status lcl_answer_likelihood(struct lcl_answerer *a, const struct lcl_episode *e,
                                             double *logprob);

/* All zero: the likeliest words, up to the config's eval.max_new_tokens. */
struct lcl_answer_how {
    struct lcl_sampling sampling; /* answer i's sequence is first_sequence + i */
    int64_t max_new;              /* tokens; 0: eval.max_new_tokens */
    const char *const *stop;      /* [n_stop] strings that end an answer, left out of it */
    int n_stop;
    const char *end_token; /* as lcl_chat_end, or NULL */
    lcl_say_fn say;        /* receives the words as they come, or NULL */
    void *say_ctx;
};
/* text [n_queries]: the answers, malloc'd; NULL on failure. */
LCL_CHECKED lcl_status lcl_answer(struct lcl_answerer *a, const struct lcl_episode *e,
                                  const struct lcl_answer_how *how, char **text);

struct lcl_prompt {
    const char *text;     /* whole, as lcl_chat_text makes it; <image> where a picture stands */
    const int64_t *image; /* [n_images] as lcl_shot's: -1 - i for picture i of the gallery */
    int64_t n_images;
};
/* text [n]: how the model goes on after each prompt, malloc'd; NULL on failure. */
LCL_CHECKED lcl_status lcl_answer_prompts(struct lcl_answerer *a, const struct lcl_prompt *p, int n,
                                          const struct lcl_answer_how *how, char **text);
/* logprob [n]: log-likelihood of each conversation's last answer, with what ends it, after all that
 * is before it; pictures are numbered as lcl_prompt's. */
LCL_CHECKED lcl_status lcl_answer_conversations(struct lcl_answerer *a,
                                                const struct lcl_conversation *c, int n,
                                                double *logprob);
/* Shares exp(x) / sum exp of n log-likelihoods. */
void lcl_answer_shares(const double *logprob, int n, double *share);

#endif
