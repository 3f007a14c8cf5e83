/* Ranks: processes of one run that exchange messages. A filling (MPI, NCCL) moves bytes between two
 * ranks; every collective is made of such messages here, so sums have one order whatever moves
 * them, and bytes are counted in one place.
 *
 * One thread a rank, the courier, makes all calls of a filling. Work for it is handed over as jobs;
 * ranks hand over the same jobs in the same order. While it works or waits it also tells rank 0,
 * and rank 0 tells all, that this rank is alive: a rank that dies, stops, or fails ends the job on
 * all ranks, with one message. A single rank has no communicator: NULL stands for one. */
#ifndef LCL_CORE_COMM_H
#define LCL_CORE_COMM_H

#include <pthread.h>
#include <signal.h>
#include <sys/types.h>

#include "core/status.h"

/* Bytes to, or from, one peer. Messages between two ranks on one channel arrive in the order in
 * which they were begun. */
struct lcl_parcel {
    int peer;
    bool receive;
    void *data;
    size_t bytes;
};

enum lcl_channel { LCL_CHANNEL_WORK, LCL_CHANNEL_PULSE };

/* What moves bytes. All calls come from the courier, but for fence(). */
struct lcl_filling {
    const char *name;
    LCL_CHECKED lcl_status (*open)(void **state, int *rank, int *size);
    /* Begins all n at once; data stay where they are until the request is done. */
    LCL_CHECKED lcl_status (*begin)(void *state, enum lcl_channel channel,
                                    const struct lcl_parcel *m, int n, void **request);
    /* *request becomes NULL once all of it is done. */
    LCL_CHECKED lcl_status (*test)(void *state, void **request);
    /* Ends all ranks of the job, as far as it can; does not return. An added filling's ends what it
     * has under way, and returns. */
    void (*abort)(void *state);
    void (*close)(void *state); /* after the last message of all ranks */
    /* NULL where ops are done when they return. Else lcl_comm_submit() calls fence() on its thread:
     * *mark is the moment behind all ops called so far, NULL where none is to be waited for; and
     * the courier pass() before it runs the job, whose messages are to wait for the mark. */
    LCL_CHECKED lcl_status (*fence)(void *state, void **mark);
    LCL_CHECKED lcl_status (*pass)(void *state, void *mark);
};

/* What bytes are sent for. */
enum lcl_traffic {
    LCL_TRAFFIC_CONTROL,
    LCL_TRAFFIC_GRADIENTS,
    LCL_TRAFFIC_VALUES,
    LCL_TRAFFIC_STATES, /* of checkpoints */
    LCL_TRAFFIC_COUNT
};

enum { LCL_HOST_BYTES = 64, LCL_COMM_MOST = 4096 };

struct lcl_comm;

/* Work for the courier. Stays where it is from lcl_comm_submit() to lcl_comm_wait(). */
struct lcl_comm_job {
    lcl_status (*run)(struct lcl_comm *c, void *ctx);
    void *ctx;
    const char *what; /* for messages: "gradients of layer 3" */
    /* private */
    struct lcl_comm_job *next;
    void *mark; /* of the filling's fence */
    struct lcl_error error;
    bool done;
};

struct lcl_comm {
    int rank, size;
    int local_rank, local_size;             /* among the ranks of this host */
    char (*host)[LCL_HOST_BYTES];           /* [size] */
    uint64_t sent_bytes[LCL_TRAFFIC_COUNT]; /* by this rank; read after lcl_comm_wait() */
    double timeout_s;       /* of gradients or values on their way, all ranks being alive */
    double pulse_timeout_s; /* without a sign of life */
    /* A handler's: once it is not 0 the first rank prints where the run stands, since a launcher
     * that ends the job leaves a second for it. NULL: none. */
    const volatile sig_atomic_t *signalled;

    /* private: of the courier and its queue */
    const struct lcl_filling *work, *pulse; /* pulse moves control messages too */
    void *work_state, *pulse_state;
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    struct lcl_comm_job *first, *last;
    bool closing;
    char note[256];     /* where the run stands, for messages: lcl_comm_note() */
    char failure[2048]; /* this rank's, on its way to rank 0 */
    struct lcl_pulses *pulses;
    pid_t launcher; /* this process's parent at its start; a rank ends once it has another */
    bool said_signal;
};

static inline int lcl_comm_rank(const struct lcl_comm *c) { return c ? c->rank : 0; }
static inline int lcl_comm_size(const struct lcl_comm *c) { return c ? c->size : 1; }

/* Whether messages wait for the ops that were called before their job was submitted; where not, the
 * caller waits for them. */
static inline bool lcl_comm_waits_for_ops(const struct lcl_comm *c) { return c->work->fence; }

/* Starts the courier, which opens the filling; LCL_TRY what it says. */
LCL_CHECKED lcl_status lcl_comm_open(struct lcl_comm *c, const struct lcl_filling *filling);
/* Moves LCL_TRAFFIC_GRADIENTS and _VALUES by another filling from now on (NCCL, opened with MPI's
 * help). Its open() runs on the courier, within a job, and finds `state`, rank and size where it is
 * to put its own; what it leaves there is its state. */
LCL_CHECKED lcl_status lcl_comm_add_filling(struct lcl_comm *c, const struct lcl_filling *filling,
                                            void *state);
/* Waits for all ranks to come here. */
void lcl_comm_close(struct lcl_comm *c);

void lcl_comm_submit(struct lcl_comm *c, struct lcl_comm_job *job);
/* The job's status, with its message. */
LCL_CHECKED lcl_status lcl_comm_wait(struct lcl_comm *c, struct lcl_comm_job *job);
/* Whether it is done; does not wait. */
bool lcl_comm_is_done(struct lcl_comm *c, struct lcl_comm_job *job);

/* Within a job: all n messages at once, and waits for them. */
LCL_CHECKED lcl_status lcl_comm_exchange(struct lcl_comm *c, enum lcl_traffic traffic,
                                         const struct lcl_parcel *m, int n);

/* As jobs of their own, from any other thread; c NULL or one rank: at once. */
LCL_CHECKED lcl_status lcl_comm_barrier(struct lcl_comm *c, const char *what);
/* mine [bytes] of every rank, to all [size * bytes]. */
LCL_CHECKED lcl_status lcl_comm_all_gather(struct lcl_comm *c, const char *what, const void *mine,
                                           size_t bytes, void *all);
/* Of different lengths: bytes_R [size], the same on all ranks. */
LCL_CHECKED lcl_status lcl_comm_all_gather_v(struct lcl_comm *c, const char *what, const void *mine,
                                             const size_t *bytes_R, void *all);
LCL_CHECKED lcl_status lcl_comm_broadcast(struct lcl_comm *c, const char *what, int root,
                                          void *data, size_t bytes);
/* LCL_OK where every rank says so; else the error of the first that does not, on all ranks. */
LCL_CHECKED lcl_status lcl_comm_agree(struct lcl_comm *c, const char *what, lcl_status mine);

/* Where the run stands ("step 12, last good checkpoint: checkpoint-10"): messages end with it. */
void lcl_comm_note(struct lcl_comm *c, const char *fmt, ...) LCL_PRINTF(2, 3);
/* Ends the job on all ranks because of this thread's error; does not return. Rank 0 prints the one
 * message. */
_Noreturn void lcl_comm_fail(struct lcl_comm *c);

/* Elements of a row of `count` are owned by ranks in pieces of whole LCL_PARAM_ALIGN (256): rank r
 * has [cut(r), cut(r + 1)). The same cuts are met by any other number of ranks at shares that are
 * the same. */
static inline int64_t lcl_comm_cut(int64_t count, int64_t r, int64_t size)
{
    const int64_t unit = 256, units = (count + unit - 1) / unit;
    const int64_t cut = units * r / size * unit;
    return cut < count ? cut : count;
}

#endif
