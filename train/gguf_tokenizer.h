/* Tokenizers in and out of GGUF metadata (tokenizer.*). */
#ifndef LCL_TRAIN_GGUF_TOKENIZER_H
#define LCL_TRAIN_GGUF_TOKENIZER_H

#include "checkpoint/gguf.h"
#include "data/tokenizer_gguf.h"

/* LCL_FORMAT where lists differ in length. Free with lcl_tokenizer_tables_free. */
LCL_CHECKED lcl_status lcl_gguf_tokenizer_read(const struct lcl_gguf *g,
                                               struct lcl_tokenizer_tables *t);
void lcl_gguf_tokenizer_put(struct lcl_gguf_meta *meta, const struct lcl_tokenizer_tables *t);

#endif
