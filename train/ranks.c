#include "train/ranks.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "core/log.h"
#include "core/threads.h"
#include "train/stop.h"

/* The variables of one launcher. */
struct words {
    enum lcl_launcher launcher;
    const char *size, *rank, *local_size, *local_rank;
};
static const struct words known[] = {
    {LCL_LAUNCHER_OPEN_MPI, "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK",
     "OMPI_COMM_WORLD_LOCAL_SIZE", "OMPI_COMM_WORLD_LOCAL_RANK"},
    {LCL_LAUNCHER_PMI, "PMI_SIZE", "PMI_RANK", "MPI_LOCALNRANKS", "MPI_LOCALRANKID"},
    /* the last: mpirun within a Slurm job has these too */
    {LCL_LAUNCHER_SLURM, "SLURM_STEP_NUM_TASKS", "SLURM_PROCID", NULL, "SLURM_LOCALID"},
};

const char *lcl_launcher_name(enum lcl_launcher l)
{
    static const char *const names[] = {"none", "Open MPI", "PMI (MPICH, Intel MPI)", "Slurm"};
    return names[l];
}

/* *value stays as it is where the variable is not set. */
static lcl_status read_number(const char *(*get)(const char *name), const char *name, int *value)
{
    const char *text = name ? get(name) : NULL;
    char *end;
    if (!text) return LCL_OK;
    errno = 0;
    long number = strtol(text, &end, 10);
    if (end == text || *end || errno || number < 0 || number > INT_MAX)
        return LCL_FAIL_HINT(LCL_CONFIG, "it is the launcher's: unset it where there is none",
                             "%s is \"%s\", a number of ranks was expected", name, text);
    *value = (int)number;
    return LCL_OK;
}

lcl_status lcl_launch_detect(const char *(*get)(const char *name), struct lcl_launch *l)
{
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        const struct words *w = &known[i];
        *l = (struct lcl_launch){.launcher = w->launcher, .local_rank = -1, .local_size = -1};
        /* Slurm's are there in its batch script too, which is no rank: a step of one task. */
        if (!get(w->size) || !get(w->rank)) continue;
        LCL_TRY(read_number(get, w->size, &l->size));
        LCL_TRY(read_number(get, w->rank, &l->rank));
        LCL_TRY(read_number(get, w->local_size, &l->local_size));
        LCL_TRY(read_number(get, w->local_rank, &l->local_rank));
        if (l->rank >= l->size)
            return LCL_FAIL_HINT(LCL_CONFIG, "they are the launcher's: unset them outside of one",
                                 "%s is %d, but %s is %d", w->rank, l->rank, w->size, l->size);
        return LCL_OK;
    }
    *l = (struct lcl_launch){.size = 1, .local_rank = -1, .local_size = -1};
    return LCL_OK;
}

static const char *from_environment(const char *name) { return getenv(name); }

lcl_status lcl_launch_detect_here(struct lcl_launch *l)
{
    return lcl_launch_detect(from_environment, l);
}

static struct lcl_comm *ours;

struct lcl_comm *lcl_ranks(void) { return ours; }

lcl_status lcl_ranks_open(struct lcl_comm **comm)
{
    struct lcl_launch l;
    *comm = NULL;
    LCL_TRY(lcl_launch_detect_here(&l));
    if (l.size < 2) return LCL_OK;
    if (!lcl_filling_mpi())
        return LCL_FAIL_HINT(LCL_UNSUPPORTED,
                             "install one (Debian: libopenmpi-dev openmpi-bin; a cluster's: module "
                             "load) and run make again",
                             "%s started %d ranks, but this lcl was built without MPI",
                             lcl_launcher_name(l.launcher), l.size);
    struct lcl_comm *c = malloc(sizeof *c);
    if (!c) return LCL_FAIL(LCL_MEMORY, "no memory for the ranks' communicator");
    if (l.rank > 0) lcl_log_set_level(LCL_LOG_WARN);
    lcl_status status = lcl_comm_open(c, lcl_filling_mpi());
    if (status == LCL_OK && c->size != l.size)
        status = LCL_FAIL_HINT(LCL_CONFIG,
                               "start it with the launcher of the MPI that lcl was built with "
                               "(lcl --version); under Slurm: srun --mpi=pmix, or mpirun",
                               "%s says that there are %d ranks, MPI knows of %d",
                               lcl_launcher_name(l.launcher), l.size, c->size);
    if (status != LCL_OK) {
        free(c);
        return status;
    }
    *comm = ours = c;
    lcl_threads_share(lcl_ranks_threads(c));
    return LCL_OK;
}

void lcl_ranks_close(struct lcl_comm *comm)
{
    if (!comm) return;
    lcl_comm_close(comm);
    if (ours == comm) ours = NULL;
    free(comm);
}

void lcl_ranks_configure(const struct lcl_config *c)
{
    if (!ours) return;
    ours->timeout_s = (double)c->comm_timeout_s;
    ours->pulse_timeout_s = (double)c->rank_timeout_s;
    ours->signalled = &lcl_stop_asked;
}

/* A launcher that binds ranks to processors has shared them out already. */
int lcl_ranks_threads(const struct lcl_comm *comm)
{
    long all = sysconf(_SC_NPROCESSORS_ONLN);
    int mine = lcl_threads_processors();
    if (!comm || mine < all) return mine;
    int share = mine / comm->local_size;
    return share > 0 ? share : 1;
}

struct place {
    char device[160];
    int64_t memory_bytes;
    int32_t numa, threads;
};

static int numa_node(void)
{
    unsigned cpu = 0, node = 0;
    return syscall(SYS_getcpu, &cpu, &node, NULL) == 0 ? (int)node : 0;
}

lcl_status lcl_ranks_print(struct lcl_comm *comm, const char *device)
{
    if (lcl_comm_size(comm) == 1) return LCL_OK;
    struct place *all = calloc((size_t)comm->size, sizeof *all), mine = {0};
    if (!all) return LCL_FAIL(LCL_MEMORY, "no memory for a table of ranks");
    snprintf(mine.device, sizeof mine.device, "%s", device);
    mine.memory_bytes = (int64_t)sysconf(_SC_PHYS_PAGES) * sysconf(_SC_PAGESIZE);
    mine.numa = numa_node();
    mine.threads = lcl_threads_count();
    lcl_status status = lcl_comm_all_gather(comm, "table of ranks", &mine, sizeof mine, all);
    if (status == LCL_OK && comm->rank == 0) {
        lcl_log_info("%d ranks:", comm->size);
        lcl_log_info("  rank  host              NUMA  threads  memory     device");
        for (int r = 0; r < comm->size; r++) {
            char memory[24];
            lcl_log_info("  %4d  %-16s  %4d  %7d  %-9s  %s", r, comm->host[r], all[r].numa,
                         all[r].threads, lcl_format_bytes((double)all[r].memory_bytes, memory),
                         all[r].device);
        }
    }
    free(all);
    return status;
}

/* On the courier, after the jobs before it: what they sent is counted. */
static lcl_status copy_sent(struct lcl_comm *c, void *sent_bytes)
{
    memcpy(sent_bytes, c->sent_bytes, sizeof c->sent_bytes);
    return LCL_OK;
}

/* Bytes that all ranks together sent until now. */
static lcl_status add_sent(struct lcl_comm *c, uint64_t sent_bytes[LCL_TRAFFIC_COUNT])
{
    static const char what[] = "bytes that were sent";
    uint64_t mine[LCL_TRAFFIC_COUNT];
    struct lcl_comm_job job = {.run = copy_sent, .ctx = mine, .what = what};
    lcl_comm_submit(c, &job);
    LCL_TRY(lcl_comm_wait(c, &job));
    uint64_t *all = malloc((size_t)c->size * sizeof mine);
    if (!all) return LCL_FAIL(LCL_MEMORY, "no memory for numbers of %d ranks", c->size);
    lcl_status status = lcl_comm_all_gather(c, what, mine, sizeof mine, all);
    memset(sent_bytes, 0, sizeof mine);
    for (int i = 0; status == LCL_OK && i < c->size * LCL_TRAFFIC_COUNT; i++)
        sent_bytes[i % LCL_TRAFFIC_COUNT] += all[i];
    free(all);
    return status;
}

lcl_status lcl_ranks_log(struct lcl_comm *comm, int64_t steps, struct lcl_metrics *m,
                         const char *stage, int64_t step, const struct lcl_metric *values, size_t n)
{
    static const struct {
        const char *name;
        enum lcl_traffic traffic;
    } kinds[] = {{"sent_bytes_gradients", LCL_TRAFFIC_GRADIENTS},
                 {"sent_bytes_values", LCL_TRAFFIC_VALUES}};
    enum { KINDS = sizeof kinds / sizeof *kinds };
    static uint64_t logged[LCL_TRAFFIC_COUNT];
    struct lcl_metric all[LCL_METRICS_PER_LINE];
    uint64_t sent[LCL_TRAFFIC_COUNT];
    if (!comm) return lcl_metrics_log(m, "train", stage, step, values, n);
    if (n + KINDS > LCL_METRICS_PER_LINE)
        return LCL_FAIL(LCL_RANGE, "%zu metrics in one line of ranks", n);
    LCL_TRY(add_sent(comm, sent));
    memcpy(all, values, n * sizeof *all);
    for (size_t i = 0; i < KINDS; i++) {
        const uint64_t bytes = sent[kinds[i].traffic] - logged[kinds[i].traffic];
        all[n++] = (struct lcl_metric){kinds[i].name, (double)bytes / (double)steps};
    }
    memcpy(logged, sent, sizeof sent);
    return lcl_metrics_log(m, "train", stage, step, all, n);
}
