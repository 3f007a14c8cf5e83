/* SentencePiece models (tokenizer.model) made by hand. */
#ifndef LCL_TESTS_SP_FILE_H
#define LCL_TESTS_SP_FILE_H

#include <stdbool.h>

#include "tests/support/torch_file.h"

enum { SP_UNIGRAM = 1, SP_BPE = 2 };
void sp_piece(struct torch_bytes *b, const char *text, float score, int type);
/* Trainer and normalizer: identity where charsmap is "", no extra spaces removed. */
void sp_settings(struct torch_bytes *b, int kind, bool byte_fallback, const char *charsmap);
/* <unk> <s> </s>, the 256 bytes where asked, then mark, a, b, c, mark + a, ab, bc, abc. */
void sp_small(struct torch_bytes *b, int kind, bool byte_fallback);

#endif
