/* Jobs of several ranks: `mpirun -np N lcl train CONFIG` on this host, as a user starts it. */
#ifndef LCL_TESTS_MPI_JOB_H
#define LCL_TESTS_MPI_JOB_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "core/status.h"

enum { MPI_JOB_STEPS = 64, MPI_JOB_RANKS = 16 };

struct mpi_job {
    pid_t launcher;
    int n_ranks;
    pid_t rank[MPI_JOB_RANKS]; /* processes, in the order of their start: mpi_job_find_ranks() */
    char dir[300], log[340];
    char output[1 << 16]; /* of the ended job: standard output and error */
};

/* Stages of zero:, to be tried each. */
enum { MPI_JOB_STAGES = 4 };

/* Skips the test, saying why, where there is no mpirun or lcl was built without MPI. */
void mpi_job_need_launcher(void);
/* Starts `mpirun -np n lcl train CONFIG --set output_dir=DIR WORDS`; WORDS are split at blanks.
 * n 0: without mpirun. */
void mpi_job_start(struct mpi_job *j, int n, const char *config, const char *dir,
                   const char *words);
/* Waits until metrics.jsonl tells of the step, and fails the test where the job ends before. */
void mpi_job_await_step(struct mpi_job *j, int64_t step);
void mpi_job_find_ranks(struct mpi_job *j);
/* Waits for the launcher and all ranks that were found, at most limit_s together; the test fails
 * (and they are killed) where they take longer. The launcher's exit status, or 128 + its signal. */
int mpi_job_end(struct mpi_job *j, double limit_s);
/* Fails the test with these words, after what the job printed (cmocka cuts long messages). */
_Noreturn void mpi_job_fail(const struct mpi_job *j, const char *fmt, ...) LCL_PRINTF(2, 3);
/* Start and end; fails the test unless the exit status is 0. */
void mpi_job_run(struct mpi_job *j, int n, const char *config, const char *dir, const char *words);
/* How often the output has the text. */
int mpi_job_says(const struct mpi_job *j, const char *text);
/* The number of the newest checkpoint-N in a folder; -1: none. */
int64_t mpi_job_newest(const char *dir);

/* What metrics.jsonl tells of steps 1 .. n, n < MPI_JOB_STEPS; NaN where it does not. */
struct mpi_losses {
    double loss[MPI_JOB_STEPS], gradients[MPI_JOB_STEPS], values[MPI_JOB_STEPS];
    int64_t n;
};
void mpi_losses_read(struct mpi_losses *l, const char *dir);
/* Of steps first ..: the same bits (relative 0), or nearly so. */
void mpi_losses_assert_same(const struct mpi_losses *wanted, const struct mpi_losses *got,
                            int64_t first, double relative);

#endif
