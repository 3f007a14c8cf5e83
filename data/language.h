/* Sequences of `task: language`: they teach a decoder that begins from nothing what a pretrained
 * one brings, copying from its context.
 *
 * Two kinds, both a pure function of (config, vocabulary, epoch, sample). Repeats: a segment of
 * random tokens again and again; the loss is on what has been seen. Recall: link-context text in
 * which a random token stands where a picture would, so that what it was linked to must be found
 * again; the text between the two is cut to its last 0, 1, ... all tokens, from sequence to
 * sequence, since a link over many tokens is learned from links over few. */
#ifndef LCL_DATA_LANGUAGE_H
#define LCL_DATA_LANGUAGE_H

#include "data/episode.h"

struct lcl_language;
/* vocab: tokens that the model knows. config and tokenizer must outlive the object. LCL_CONFIG
 * where the vocabulary is too small for what language.* asks. */
LCL_CHECKED lcl_status lcl_language_create(const struct lcl_config *config,
                                           const struct lcl_tokenizer *tokenizer, int64_t vocab,
                                           struct lcl_language **out);
void lcl_language_free(struct lcl_language *l);
/* Appends sequence `sample` of stage `epoch` as one run. Not for two threads at a time. */
LCL_CHECKED lcl_status lcl_language_append(struct lcl_language *l, uint32_t epoch, uint64_t sample,
                                           struct lcl_batch_builder *builder);

#endif
