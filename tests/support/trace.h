/* A profile's trace as a viewer needs it. */
#ifndef LCL_TESTS_TRACE_H
#define LCL_TESTS_TRACE_H

#include <stdbool.h>

/* Fails the test unless DIR/trace.json is JSON with steps first .. first + n - 1, ranges that nest
 * on every thread, and ops inside of steps; on a device: the ops' device times too. */
void trace_check(const char *dir, int first, int n, bool device);
/* Trains the tiny world with `words` added to its keys and N steps profiled (0: none) into a fresh
 * output_dir; losses[max_steps] of metrics.jsonl are handed back. Returns output_dir (static). */
const char *trace_train(const char *words, int profile, double *losses, int n);

#endif
