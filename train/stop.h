/* The signal that asks a run to end: SIGINT or SIGTERM while lcl_train_run is at work, else 0. Long
 * work within a run looks at it and returns LCL_INTERRUPTED. */
#ifndef LCL_TRAIN_STOP_H
#define LCL_TRAIN_STOP_H

#include <signal.h>

extern volatile sig_atomic_t lcl_stop_signal;

#endif
