/* TensorBoard event files: scalars, written by hand.
 *
 * A file is a row of TFRecords: u64 length, u32 masked CRC32C of it, the bytes, u32 masked CRC32C
 * of them, all little endian (tensorflow/core/lib/io/record_writer). Each record is an Event of
 * tensorflow/core/util/event.proto, encoded as protocol buffers: wall_time = 1 (double), step = 2,
 * file_version = 3, summary = 5 { value = 1 { tag = 1, simple_value = 2 (float) } }, session_log =
 * 7 { status = 1 }. */
#ifndef LCL_TRAIN_TFEVENTS_H
#define LCL_TRAIN_TFEVENTS_H

#include "core/status.h"
#include "train/text.h"

struct lcl_tfevents;

struct lcl_tfscalar {
    const char *tag; /* "train/loss" */
    double value;
};

/* Makes `dir` and in it events.out.tfevents.TIME.HOST (with .2, .3, ... after it where that
 * exists). Values that older files of the folder hold for steps from first_step on are superseded:
 * TensorBoard drops them. */
LCL_CHECKED lcl_status lcl_tfevents_open(const char *dir, int64_t first_step,
                                         struct lcl_tfevents **out);
/* One event with n scalars, written at once. */
LCL_CHECKED lcl_status lcl_tfevents_scalars(struct lcl_tfevents *t, double wall_time, int64_t step,
                                            const struct lcl_tfscalar *scalars, size_t n);
LCL_CHECKED lcl_status lcl_tfevents_sync(struct lcl_tfevents *t);
/* Path of the file; owned by t. */
const char *lcl_tfevents_path(const struct lcl_tfevents *t);
void lcl_tfevents_close(struct lcl_tfevents *t); /* NULL is fine */

#endif
