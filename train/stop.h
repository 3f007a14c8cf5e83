/* The signals that ask a run to end: SIGINT, SIGTERM and SIGUSR1 (which Slurm sends before its time
 * limit, and mpirun passes on) while lcl_train_run is at work. */
#ifndef LCL_TRAIN_STOP_H
#define LCL_TRAIN_STOP_H

#include <signal.h>
#include <stdbool.h>

/* The one that ends the run, else 0. Long work within a run looks at it and returns
 * LCL_INTERRUPTED. */
extern volatile sig_atomic_t lcl_stop_signal;
/* The one that this process was sent. A single rank's lcl_stop_signal is the same at once; of
 * several, all take over what any was sent after the same step. */
extern volatile sig_atomic_t lcl_stop_asked;

enum { LCL_STOP_SIGNALS = 3 };
struct lcl_stop_handlers {
    struct sigaction of[LCL_STOP_SIGNALS];
};
/* Catches them from now on; what was there before is kept in *before. */
void lcl_stop_begin(struct lcl_stop_handlers *before, bool of_ranks);
void lcl_stop_end(const struct lcl_stop_handlers *before);

#endif
