/* A tiny world: pictures of coloured shapes in class folders, packed, and a config that trains on
 * them within milliseconds a step. Everything lies under temp_dir(). */
#ifndef LCL_TESTS_TINY_H
#define LCL_TESTS_TINY_H

#include "core/config.h"

enum { TINY_TRAIN_CLASSES = 6, TINY_TEST_CLASSES = 4, TINY_PICTURES = 6, TINY_SIDE = 20 };

/* Writes one PNG of class `kind` (shape and colour) with the position of its shape by `number`. */
void tiny_write_picture(const char *path, int kind, int number);
/* Folders DIR/train/CLASS and DIR/test/CLASS with TINY_PICTURES each; returns DIR (static). */
const char *tiny_folder(void);
/* The folder packed by lcl_pack_create, made on the first call; its path (static). */
const char *tiny_pack(void);
/* Keys of a tiny run as YAML (threads: 1), without output_dir; data.pack is tiny_pack(). */
const char *tiny_yaml(void);
/* The same as a config, with `overrides` ("key=value", separated by blanks; may be "") applied. */
void tiny_config(struct lcl_config *c, const char *overrides);
/* Writes text to temp_dir()/name; the path in a static buffer of its own for each of 8 calls. */
const char *tiny_file(const char *name, const char *text);

#endif
