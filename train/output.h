/* The folder of a run. */
#ifndef LCL_TRAIN_OUTPUT_H
#define LCL_TRAIN_OUTPUT_H

#include "core/status.h"

#define LCL_OUTPUT_FINISHED "finished" /* a file that is there once all stages are done */

/* True where a run has left something: a checkpoint, or lines of metrics. */
bool lcl_output_holds_run(const char *dir);
/* Removes what a run writes (checkpoints and their links, metrics, TensorBoard events, a profile)
 * and nothing else. */
LCL_CHECKED lcl_status lcl_output_empty(const char *dir);

/* Makes the folder and holds it until *lock is closed or the process ends; LCL_EXISTS while another
 * process holds it. */
LCL_CHECKED lcl_status lcl_output_open(const char *dir, int *lock);
/* Writes or removes the file LCL_OUTPUT_FINISHED. */
LCL_CHECKED lcl_status lcl_output_set_finished(const char *dir, bool finished);

#endif
