/* Runs of `lcl train` that are stopped at a chosen system call, and what they leave compared. */
#ifndef LCL_TESTS_KILLS_H
#define LCL_TESTS_KILLS_H

#include <stdint.h>

/* A two-stage run of 60 steps on the tiny world: vision warm-up, then link-context training with
 * evaluations and an early end. */
struct kills {
    char config[400];     /* path of its YAML */
    char straight[300];   /* output_dir of the run that was never stopped */
    long n_calls;         /* system calls of that run, entries and exits counted */
    char output[1 << 16]; /* standard output and error of the last run */
};

/* Writes the config, with `keys` (YAML lines) in place of the tiny world's, and makes the straight
 * run; skips the test where processes may not be traced. */
void kills_set_up(struct kills *k, const char *keys);
/* Runs `lcl train --resume` into output_dir; at system call number `at` (counted from 0; -1: never)
 * the process gets `signal`. Returns its exit status, or 128 + the signal that ended it. */
int kills_run(struct kills *k, const char *output_dir, long at, int signal, long *n_calls);
/* Parameters and AdamW moments of the newest checkpoints equal bit for bit, and metrics.jsonl tells
 * of the same steps with the same losses and accuracies. */
void kills_assert_same(const struct kills *k, const char *output_dir);
/* Parameters and moments alone, of the newest checkpoints of any two runs. */
void kills_assert_same_state(const char *one, const char *other);
/* Kills runs n times by SIGKILL at seeded random calls (and, in between, stops them by SIGTERM) and
 * resumes them; every one must end as the straight one did. */
void kills_many(struct kills *k, int n, uint64_t seed);

#endif
