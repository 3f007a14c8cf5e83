/* Folders with a small model, for tests of what reads and writes them. */
#ifndef LCL_TESTS_HF_FOLDER_H
#define LCL_TESTS_HF_FOLDER_H

#include "tests/support/support.h"

#include "checkpoint/hf.h"
#include "model/model.h"

/* A LLaVA of two layers each; ids of special tokens as its vocabulary of 40 ends with. */
struct lcl_model_config small_config(void);
/* A model of the config with normal values. */
void make_model(struct lcl_model *m, const struct lcl_model_config *c, uint64_t seed);
/* temp_dir()/NAME, made; in a static buffer of its own for each of two calls. */
const char *fresh_dir(const char *name);
/* Copies a folder's weights under other names: {from, to} pairs of prefixes, first match wins. */
void rename_tensors(const char *from_dir, const char *to_dir, const char *const (*rules)[2]);

#endif
