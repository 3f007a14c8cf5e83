/* A small CLIP of random weights, and its HF folder. */
#ifndef LCL_TESTS_CLIP_FOLDER_H
#define LCL_TESTS_CLIP_FOLDER_H

#include "model/clip.h"
#include "tests/support/support.h"

enum { CLIP_SIDE = 12, CLIP_PATCH = 4, CLIP_P = 9 };

struct lcl_clip_config clip_shapes(int32_t eos, enum lcl_gelu_kind act);
void make_clip(struct lcl_clip *m, const struct lcl_clip_config *c);
/* config.json (of clip_shapes(2, LCL_GELU_QUICK)) and weights, with a scalar called `extra`. */
void save_clip_folder(const struct lcl_clip *m, const char *dir, const char *extra);

#endif
