/* Episodes as the official code of link-context learning makes them, id for id: every turn is a
 * text of its own, tokenised alone as the slow LLaMA tokenizer of transformers 4.29 does it. */
#ifndef LCL_DATA_OFFICIAL_H
#define LCL_DATA_OFFICIAL_H

#include "data/episode.h"

enum { LCL_OFFICIAL_IMAGE_TOKENS = 256, LCL_OFFICIAL_IGNORED = -100 };

/* A turn alone: ids and what is to be said there are appended to both lists, equally many in
 * training. */
struct lcl_official;
/* A support turn; `first`: the episode's first, which holds the system text and keeps its end. */
LCL_CHECKED lcl_status lcl_official_support(const struct lcl_official *o, enum lcl_policy policy,
                                            const char *label, bool first, bool train,
                                            struct lcl_ids *ids, struct lcl_ids *labels);
/* The last turn, with its answer; label NULL: up to where the answer begins, nothing supervised.
 * question: 0 the template's fixed one, else a draw among its questions. *label_at (may be NULL):
 * the first and behind the last of the ids that spell the label, as far as tokens can tell. */
LCL_CHECKED lcl_status lcl_official_query(const struct lcl_official *o, enum lcl_policy policy,
                                          uint32_t question, const char *label, struct lcl_ids *ids,
                                          struct lcl_ids *labels, int64_t label_at[2]);
/* Adds the three image tokens to a tokenizer that lacks them. */
LCL_CHECKED lcl_status lcl_official_tokenizer(const struct lcl_tokenizer *t,
                                              struct lcl_tokenizer **out);

struct lcl_official_episode {
    const char *const *labels; /* [n_shots] what the support pictures are called, in order */
    int n_shots;
    const char *label;    /* the query's; NULL in an evaluation where it is not known */
    const char *question; /* with <image>; NULL: the template's fixed one */
};

/* struct lcl_official is immutable once made. */
/* t: as `lcl import templates` makes it, and the tokenizer gets <im_patch>, <im_start> and <im_end>
 * where it lacks them; both are needed no longer than this call. LCL_FORMAT where the template has
 * no turn for a question, or the tokenizer no <unk>. */
LCL_CHECKED lcl_status lcl_official_create(const struct lcl_template *t,
                                           const struct lcl_tokenizer *tokenizer,
                                           int64_t tokens_per_image, struct lcl_official **out);
void lcl_official_free(struct lcl_official *o);
/* Fills two empty lists: the ids, and for each what is to be said there (LCL_OFFICIAL_IGNORED:
 * nothing). Of an evaluation the ids end where the answer begins, and the labels are the whole last
 * turn without its <s>, for the metric, as the official code gives them: longer than the ids;
 * without a label they are as many as the ids, none supervised. LCL_FORMAT for texts that hold
 * <boxes>, or labels with <image>; LCL_RANGE where image tokens alone are over the 2,048 of a turn.
 */
LCL_CHECKED lcl_status lcl_official_encode(const struct lcl_official *o,
                                           const struct lcl_official_episode *e, bool train,
                                           struct lcl_ids *ids, struct lcl_ids *labels);

#endif
