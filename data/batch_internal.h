/* The batch builder's insides, shared by batch.c, batch_text.c and episode.c only. */
#ifndef LCL_DATA_BATCH_INTERNAL_H
#define LCL_DATA_BATCH_INTERNAL_H

#include "data/official.h"

/* A fixed piece of the template: its text, and its ids with the image token once for every feature
 * row. */
struct batch_part {
    char *text;
    struct lcl_ids ids;
    int64_t image_at; /* first image row in ids, or -1 */
};
enum batch_part_name {
    PART_SYSTEM,        /* with the ids that begin a text */
    PART_SUPPORT_FIRST, /* right after the system line */
    PART_SUPPORT,       /* after another answer */
    PART_QUERY_FIRST,
    PART_QUERY,
    PART_SHOT_HEAD,   /* a shot's answer up to the label */
    PART_SHOT_TAIL,   /* and from there on */
    PART_ANSWER_HEAD, /* a query's */
    PART_ANSWER_TAIL,
    PART_COUNT
};

struct lcl_batch_builder {
    const struct lcl_tokenizer *tokenizer;
    int64_t tokens_per_image;
    struct batch_part part[LCL_POLICY_COUNT][PART_COUNT]; /* text NULL: no words for this policy */
    struct batch_part *question; /* [n_questions, 2] for PART_QUERY_FIRST and PART_QUERY */
    int n_questions;
    struct lcl_ids label; /* what the answers of the episode at hand say, end to end */
    int64_t *label_at;    /* [ways + 1], or [shots and queries + 1] of an episode with `said` */
    int64_t cap_labels;
    struct lcl_official *official; /* of data.layout: official; else NULL */
    struct lcl_ids turn[2],
        said[2];        /* with it: ids of context and branch, and what is said there */
    uint8_t *target[2]; /* of the same */
    int64_t cap_target[2];

    struct lcl_batch batch;
    struct lcl_branch *branches;
    int64_t cap_T, cap_runs, cap_images, cap_slots, cap_S;
    int32_t *image_slot; /* open addressing over (image, view): image index or -1 */
    size_t image_mask;
    int32_t n_episodes, n_groups;
};

/* Whether the template has words for a policy; LCL_CONFIG says what to add. */
LCL_CHECKED lcl_status batch_check_words(const struct lcl_batch_builder *b, enum lcl_policy policy);
/* The piece that asks an episode's question, right after the system line or not. */
const struct batch_part *batch_query(const struct lcl_batch_builder *b, const struct lcl_episode *e,
                                     bool first);

/* Is a shot's answer learned, whose label was shown before or not? */
bool batch_learns_shot(enum lcl_supervise supervise, bool seen);

/* A text as one run: ids in which the image token stands once for each picture. */
struct batch_run {
    const int32_t *ids;
    const uint8_t *target; /* [n] an lcl_target each; NULL: nothing is supervised */
    int64_t n;
    const int64_t *image; /* [n_images], as many as ids has image tokens; 0: none of them is one */
    const int32_t *view;  /* NULL: as they are */
    int64_t n_images;
    bool asks;    /* it is a branch of its own, to be continued */
    float weight; /* of its targets; 0: 1 each */
};
/* Words of the policies that config draws (NULL: of labels alone), into b->part and b->question. */
LCL_CHECKED lcl_status batch_compile(struct lcl_batch_builder *b, const struct lcl_template *t,
                                     const struct lcl_config *config);
/* What an append is going to add at most. */
struct batch_need {
    int64_t T, runs, images, S;
};
/* All room an append needs, so that nothing after this can fail and leave half an episode. */
LCL_CHECKED lcl_status batch_reserve(struct lcl_batch_builder *b, struct batch_need n);
/* Writes a run behind a context's tokens [prefix_begin, prefix_end), or alone where these are
 * equal; room is there. position: of its first token. */
void batch_put_run(struct lcl_batch_builder *b, const struct batch_run *r, int32_t position,
                   int64_t prefix_begin, int64_t prefix_end, struct lcl_branch branch);
LCL_CHECKED lcl_status batch_check_length(const struct lcl_episode *e, int64_t n,
                                          int64_t max_length);
/* lcl_batch_append_episode in the official layout; the episode is checked. */
LCL_CHECKED lcl_status batch_append_official(struct lcl_batch_builder *b,
                                             const struct lcl_episode *e, enum lcl_encode_mode mode,
                                             enum lcl_supervise supervise, const int32_t *labels,
                                             int64_t max_length);
LCL_CHECKED lcl_status batch_append_run(struct lcl_batch_builder *b, const struct batch_run *r);

#endif
