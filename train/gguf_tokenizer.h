/* Tokenizers in and out of GGUF metadata (tokenizer.*). */
#ifndef LCL_TRAIN_GGUF_TOKENIZER_H
#define LCL_TRAIN_GGUF_TOKENIZER_H

#include "checkpoint/gguf.h"
#include "data/tokenizer_gguf.h"

/* LCL_FORMAT where lists differ in length. Free with lcl_tokenizer_tables_free. */
LCL_CHECKED lcl_status lcl_gguf_tokenizer_read(const struct lcl_gguf *g,
                                               struct lcl_tokenizer_tables *t);
/* The tokenizer of a file. n_rows: of the embedding, which the tokens must number; 0: any.
 * image_token: what stands for a picture (borrowed); NULL: as the tables have it. */
LCL_CHECKED lcl_status lcl_gguf_tokenizer_load(const struct lcl_gguf *g, int64_t n_rows,
                                               const char *image_token, struct lcl_tokenizer **out);
void lcl_gguf_tokenizer_put(struct lcl_gguf_meta *meta, const struct lcl_tokenizer_tables *t);

#endif
