#include "train/stop.h"

volatile sig_atomic_t lcl_stop_signal, lcl_stop_asked;
static volatile sig_atomic_t alone; /* no other ranks to agree with */

static const int stops[LCL_STOP_SIGNALS] = {SIGINT, SIGTERM, SIGUSR1};

static void on_signal(int sig)
{
    lcl_stop_asked = sig;
    if (alone) lcl_stop_signal = sig;
}

void lcl_stop_begin(struct lcl_stop_handlers *before, bool of_ranks)
{
    const struct sigaction act = {.sa_handler = on_signal, .sa_flags = SA_RESTART};
    lcl_stop_signal = lcl_stop_asked = 0;
    alone = !of_ranks;
    for (int i = 0; i < LCL_STOP_SIGNALS; i++) sigaction(stops[i], &act, &before->of[i]);
}

void lcl_stop_end(const struct lcl_stop_handlers *before)
{
    for (int i = 0; i < LCL_STOP_SIGNALS; i++) sigaction(stops[i], &before->of[i], NULL);
}
