#include "tests/support/mpi_job.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <signal.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "core/fs.h"
#include "core/log.h"
#include "tests/support/command.h"
#include "train/metrics.h"

void mpi_job_need_launcher(void)
{
    const char *why = NULL;
    if (system("mpirun --version >/dev/null 2>&1") != 0)
        why = "no mpirun: install openmpi-bin";
    else if (lcl_stdout("--version") == 0 && strstr(output, "mpi: not built in"))
        why = "lcl was built without MPI: install libopenmpi-dev and run make again";
    if (!why) return;
    print_message("skipped: %s\n", why);
    skip();
}

static void nap(void)
{
    const struct timespec t = {0, 5 * 1000 * 1000};
    nanosleep(&t, NULL);
}

/* Open MPI's words for root and for more ranks than processors; others' launchers read none. */
static void allow_here(void)
{
    setenv("OMPI_ALLOW_RUN_AS_ROOT", "1", 1);
    setenv("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1", 1);
    setenv("OMPI_MCA_rmaps_base_oversubscribe", "1", 1);
    setenv("OMPI_MCA_hwloc_base_binding_policy", "none", 1);
}

static _Noreturn void become(const struct mpi_job *j, int n, const char *config, const char *words)
{
    char number[16], set[340], copy[1024], *argv[64], *save = NULL;
    const char *bin = getenv("LCL_BIN");
    int k = 0, fd = open(j->log, O_WRONLY | O_CREAT | O_TRUNC, 0666);
    if (fd < 0 || dup2(fd, 1) < 0 || dup2(fd, 2) < 0) _exit(126);
    snprintf(number, sizeof number, "%d", n);
    snprintf(set, sizeof set, "output_dir=%s", j->dir);
    snprintf(copy, sizeof copy, "%s", words);
    if (n > 0) argv[k++] = "mpirun", argv[k++] = "-np", argv[k++] = number;
    argv[k++] = (char *)(bin ? bin : "build/lcl");
    argv[k++] = "train", argv[k++] = (char *)config, argv[k++] = "--set", argv[k++] = set;
    for (char *w = strtok_r(copy, " ", &save); w && k < 63; w = strtok_r(NULL, " ", &save))
        argv[k++] = w;
    argv[k] = NULL;
    allow_here();
    execvp(argv[0], argv);
    _exit(127);
}

void mpi_job_start(struct mpi_job *j, int n, const char *config, const char *dir, const char *words)
{
    *j = (struct mpi_job){.n_ranks = 0};
    snprintf(j->dir, sizeof j->dir, "%s", dir);
    snprintf(j->log, sizeof j->log, "%s.log", dir);
    j->launcher = fork();
    assert_true(j->launcher >= 0);
    if (j->launcher == 0) become(j, n, config, words);
}

/* Of /proc/PID/stat: parent and state; false where there is no such process. */
static bool look_at(pid_t pid, char name[32], pid_t *parent, char *state)
{
    char path[64], line[512];
    snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    FILE *f = fopen(path, "r");
    if (!f) return false;
    bool read = fgets(line, sizeof line, f) != NULL;
    fclose(f);
    char *open = strchr(line, '('), *close = read ? strrchr(line, ')') : NULL;
    int ppid;
    if (!open || !close || sscanf(close + 1, " %c %d", state, &ppid) != 2) return false;
    snprintf(name, 32, "%.*s", (int)(close - open - 1), open + 1);
    *parent = ppid;
    return true;
}

void mpi_job_find_ranks(struct mpi_job *j)
{
    DIR *proc = opendir("/proc");
    assert_non_null(proc);
    j->n_ranks = 0;
    for (struct dirent *e; (e = readdir(proc)) != NULL;) {
        char name[32], state;
        pid_t parent, pid = (pid_t)atoi(e->d_name);
        if (!isdigit((unsigned char)e->d_name[0]) || !look_at(pid, name, &parent, &state)) continue;
        if (parent == j->launcher && strcmp(name, "lcl") == 0 && j->n_ranks < MPI_JOB_RANKS)
            j->rank[j->n_ranks++] = pid;
    }
    closedir(proc);
}

static bool is_there(pid_t pid)
{
    char name[32], state;
    pid_t parent;
    return look_at(pid, name, &parent, &state) && state != 'Z' && strcmp(name, "lcl") == 0;
}

static void read_log(struct mpi_job *j)
{
    char *text;
    size_t size;
    ASSERT_OK(lcl_fs_read(j->log, 1 << 24, &text, &size));
    snprintf(j->output, sizeof j->output, "%s", text);
    free(text);
}

void mpi_job_fail(const struct mpi_job *j, const char *fmt, ...)
{
    char why[512];
    va_list args;
    va_start(args, fmt);
    vsnprintf(why, sizeof why, fmt, args);
    va_end(args);
    fflush(stdout);
    fprintf(stderr, "%s\n", j->output);
    fail_msg("%s", why);
    abort(); /* fail_msg does not return */
}

static void kill_all(const struct mpi_job *j)
{
    kill(j->launcher, SIGKILL);
    for (int i = 0; i < j->n_ranks; i++)
        if (is_there(j->rank[i])) kill(j->rank[i], SIGKILL);
}

void mpi_job_await_step(struct mpi_job *j, int64_t step)
{
    char path[340], word[40];
    snprintf(path, sizeof path, "%s/metrics.jsonl", j->dir);
    snprintf(word, sizeof word, "\"step\":%lld,", (long long)step);
    for (double begin = lcl_time_s();; nap()) {
        char *text = NULL;
        size_t size;
        int status;
        bool read = lcl_fs_exists(path) && lcl_fs_read(path, 1 << 26, &text, &size) == LCL_OK;
        bool there = read && strstr(text, word);
        free(text);
        if (there) return;
        if (waitpid(j->launcher, &status, WNOHANG) != 0 || lcl_time_s() - begin > 60) {
            kill_all(j);
            read_log(j);
            mpi_job_fail(j, "no step %lld", (long long)step);
        }
    }
}

int mpi_job_end(struct mpi_job *j, double limit_s)
{
    const double begin = lcl_time_s();
    int status = 0, left = 0;
    pid_t ended = 0;
    for (;; nap()) {
        if (ended == 0) ended = waitpid(j->launcher, &status, WNOHANG);
        left = 0;
        for (int i = 0; i < j->n_ranks; i++) left += is_there(j->rank[i]);
        if (ended != 0 && left == 0) break;
        if (lcl_time_s() - begin < limit_s) continue;
        kill_all(j);
        read_log(j);
        mpi_job_fail(j, "after %.0f s %s and %d ranks are there", limit_s,
                     ended ? "no launcher" : "the launcher", left);
    }
    read_log(j);
    return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

void mpi_job_run(struct mpi_job *j, int n, const char *config, const char *dir, const char *words)
{
    mpi_job_start(j, n, config, dir, words);
    int rc = mpi_job_end(j, 100);
    if (rc != 0) mpi_job_fail(j, "%d ranks, %s: exit status %d", n, words, rc);
}

int mpi_job_says(const struct mpi_job *j, const char *text)
{
    int n = 0;
    for (const char *at = j->output; (at = strstr(at, text)) != NULL; at++) n++;
    return n;
}

int64_t mpi_job_newest(const char *dir)
{
    DIR *d = opendir(dir);
    int64_t newest = -1;
    if (!d) return -1;
    for (struct dirent *e; (e = readdir(d)) != NULL;) {
        long long step;
        char rest;
        if (sscanf(e->d_name, "checkpoint-%lld%c", &step, &rest) == 1 && step > newest)
            newest = step;
    }
    closedir(d);
    return newest;
}

void mpi_losses_read(struct mpi_losses *l, const char *dir)
{
    char path[340];
    struct lcl_metrics_table t;
    snprintf(path, sizeof path, "%s/metrics.jsonl", dir);
    ASSERT_OK(lcl_metrics_load(path, &t));
    l->n = 0;
    for (int i = 0; i < MPI_JOB_STEPS; i++) l->loss[i] = l->gradients[i] = l->values[i] = NAN;
    for (size_t i = 0; i < t.n; i++) {
        const struct lcl_metrics_row *r = &t.rows[i];
        if (strcmp(r->kind, "train") != 0) continue;
        assert_in_range(r->step, 1, MPI_JOB_STEPS - 1);
        l->loss[r->step] = r->loss;
        l->gradients[r->step] = r->sent_bytes_gradients;
        l->values[r->step] = r->sent_bytes_values;
        if (r->step > l->n) l->n = r->step;
    }
    lcl_metrics_table_free(&t);
}

void mpi_losses_assert_same(const struct mpi_losses *wanted, const struct mpi_losses *got,
                            int64_t first, double relative)
{
    assert_int_equal(wanted->n, got->n);
    for (int64_t i = first; i <= wanted->n; i++) {
        const double a = wanted->loss[i], b = got->loss[i];
        if (!(fabs(a - b) <= relative * fabs(a)))
            fail_msg("step %lld: the loss is %.17g, wanted %.17g", (long long)i, b, a);
    }
}
