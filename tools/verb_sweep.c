/* lcl sweep: the runs of a file, with every seed, and what they amount to. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/fs.h"
#include "core/log.h"
#include "tools/cli.h"
#include "train/output.h"
#include "train/sweep.h"

enum { MAX_ARGS = 16 + 2 * LCL_SWEEP_MAX_SETS, MAX_TEXT = 1 << 20 };

struct command {
    int n;
    const char *v[MAX_ARGS];
};

static void add(struct command *c, const char *word)
{
    if (c->n < MAX_ARGS - 1) c->v[c->n++] = word;
}

static void add_sets(struct command *c, const struct lcl_sweep_sets *sets)
{
    for (int i = 0; i < sets->n; i++) {
        add(c, "--set");
        add(c, sets->v[i]);
    }
}

static volatile sig_atomic_t child_running; /* its process, 0: none */

/* A run that is asked to end saves first: the sweep hands the signal on and waits. */
static void hand_on(int signal)
{
    int kept = errno;
    if (child_running) kill((pid_t)child_running, signal);
    errno = kept;
}

/* Ctrl-C reaches the run itself. */
static void watch_signals(void)
{
    signal(SIGINT, SIG_IGN);
    sigaction(SIGTERM, &(struct sigaction){.sa_handler = hand_on}, NULL);
}

/* This program again, with these arguments. LCL_INTERRUPTED where it failed or was stopped. */
static lcl_status run_self(struct command *c)
{
    char self[4096];
    ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    if (n < 0) return LCL_FAIL(LCL_IO, "/proc/self/exe: %s", strerror(errno));
    self[n] = '\0';
    c->v[0] = "lcl";
    c->v[c->n] = NULL;
    fflush(NULL);
    watch_signals();
    pid_t child = fork();
    if (child < 0) return LCL_FAIL(LCL_IO, "cannot start lcl %s: %s", c->v[1], strerror(errno));
    if (child == 0) {
        signal(SIGINT, SIG_DFL);
        signal(SIGTERM, SIG_DFL);
        execv(self, (char *const *)(uintptr_t)c->v);
        _exit(127);
    }
    int ended;
    child_running = child;
    while (waitpid(child, &ended, 0) < 0)
        if (errno != EINTR) return LCL_FAIL(LCL_IO, "waiting for lcl %s: %m", c->v[1]);
    child_running = 0;
    if (WIFEXITED(ended) && WEXITSTATUS(ended) == 0) return LCL_OK;
    return LCL_FAIL_HINT(LCL_INTERRUPTED, "mend what it says; the same lcl sweep goes on from here",
                         "lcl %s of %s has failed", c->v[1], c->v[2]);
}

/* ---- what was done ---- */

/* The command as a text: kept beside what it made, so that other settings are noticed. */
static char *text_of(const struct command *c)
{
    char *text = strdup("");
    for (int i = 1; i < c->n && text; i++) {
        char *longer = lcl_strdupf("%s%s\n", text, c->v[i]);
        free(text);
        text = longer;
    }
    return text;
}

/* *same: DIR/NAME says that this command was begun; LCL_EXISTS where it says another one, unless
 * forced. */
static lcl_status check_record(const char *dir, const char *name, const char *text, bool force,
                               bool *same, bool *other)
{
    char *path = lcl_strdupf("%s/%s", dir, name), *old = NULL;
    size_t size;
    lcl_status status = path ? LCL_OK : LCL_FAIL(LCL_MEMORY, "no memory for a path");
    *same = *other = false;
    if (status == LCL_OK && lcl_fs_exists(path)) {
        status = lcl_fs_read(path, MAX_TEXT, &old, &size);
        if (status == LCL_OK) {
            *same = strcmp(old, text) == 0;
            *other = !*same;
        }
        if (*other && !force)
            status = LCL_FAIL_HINT(LCL_EXISTS,
                                   "lcl sweep --force makes it again; or give the run another name",
                                   "%s was made with other settings", path);
    }
    free(old);
    free(path);
    return status;
}

struct sweep {
    struct lcl_sweep *s;
    struct lcl_sweep_unit *units;
    int n, done; /* units */
    bool force, dry;
    double begin;
};

static bool is_finished(const char *dir)
{
    char *path = lcl_strdupf("%s/" LCL_OUTPUT_FINISHED, dir);
    bool finished = path && lcl_fs_exists(path);
    free(path);
    return finished;
}

static lcl_status train(const struct sweep *w, const struct lcl_sweep_unit *u, bool *made)
{
    const struct lcl_sweep_run *run = &w->s->runs[u->run];
    struct command c = {.n = 1};
    bool same, other;
    add(&c, "train");
    add(&c, run->config);
    add_sets(&c, &u->sets);
    char *text = text_of(&c);
    lcl_status status = text ? LCL_OK : LCL_FAIL(LCL_MEMORY, "no memory for a command");
    if (status == LCL_OK)
        status = check_record(u->dir, "sweep-train.txt", text, w->force, &same, &other);
    if (status != LCL_OK || (same && is_finished(u->dir))) goto out;
    *made = true;
    if (w->dry) {
        printf("  train %s\n", run->config);
        goto out;
    }
    LCL_TRY_GOTO(lcl_fs_mkdirs(u->dir));
    LCL_TRY_GOTO(lcl_fs_write_text(u->dir, "sweep-train.txt", text));
    add(&c, other ? "--force" : "--resume");
    LCL_TRY_GOTO(run_self(&c));
    if (!is_finished(u->dir))
        status = LCL_FAIL_HINT(LCL_INTERRUPTED, "the same lcl sweep goes on from there",
                               "%s was stopped and saved", u->dir);
out:
    free(text);
    return status;
}

/* *there: the results have the row. `drop`: they have it no longer, so that a stop leaves it
 * undone.
 */
static lcl_status find_row(const char *path, const char *row, bool drop, bool *there)
{
    *there = false;
    if (!lcl_fs_exists(path)) return LCL_OK;
    struct lcl_results *r = malloc(sizeof *r);
    if (!r) return LCL_FAIL(LCL_MEMORY, "no memory for results");
    lcl_status status = lcl_results_load(path, r);
    for (int i = 0; status == LCL_OK && i < r->n_rows; i++) {
        if (strcmp(r->rows[i].name, row) != 0) continue;
        *there = true;
        if (!drop) break;
        memmove(&r->rows[i], &r->rows[i + 1], (size_t)(--r->n_rows - i) * sizeof r->rows[0]);
        status = lcl_results_save(r, path);
    }
    free(r);
    return status;
}

static lcl_status evaluate(const struct sweep *w, const struct lcl_sweep_unit *u, int k, bool *made)
{
    const struct lcl_sweep_run *run = &w->s->runs[u->run];
    const char *row = run->evals[k].row;
    struct command c = {.n = 1};
    bool same = false, other = false, there = false;
    char *results = lcl_strdupf("%s/results.json", u->dir);
    char *record = lcl_strdupf("sweep-eval-%s.txt", row), *text = NULL;
    lcl_status status = results && record ? LCL_OK : LCL_FAIL(LCL_MEMORY, "no memory for a path");
    if (status != LCL_OK) goto out;
    add(&c, "eval");
    add(&c, u->model);
    add(&c, "--row");
    add(&c, row);
    add(&c, "--results");
    add(&c, results);
    add_sets(&c, &u->evals[k]);
    if (!(text = text_of(&c))) status = LCL_FAIL(LCL_MEMORY, "no memory for a command");
    LCL_TRY_GOTO(status);
    LCL_TRY_GOTO(check_record(u->dir, record, text, w->force || *made, &same, &other));
    const bool fresh = !same || *made; /* of other settings, or of a run made anew */
    LCL_TRY_GOTO(find_row(results, row, fresh && !w->dry, &there));
    if (there && !fresh) goto out;
    if (w->dry) {
        printf("  eval %s\n", row);
        goto out;
    }
    LCL_TRY_GOTO(lcl_fs_mkdirs(u->dir));
    LCL_TRY_GOTO(lcl_fs_write_text(u->dir, record, text));
    LCL_TRY_GOTO(run_self(&c));
out:
    free(results);
    free(record);
    free(text);
    return status;
}

/* Trains where that is not done, then evaluates what is not; all of it where it trained. */
static lcl_status run_unit(struct sweep *w, int index)
{
    const struct lcl_sweep_unit *u = &w->units[index];
    const struct lcl_sweep_run *run = &w->s->runs[u->run];
    bool made = false;
    char took[24];
    double spent = lcl_time_s() - w->begin;
    printf("== [%d/%d] %s, seed %lld", index + 1, w->n, run->name, (long long)u->seed);
    if (w->done > 0 && !w->dry)
        printf("   about %s to go", lcl_format_duration(spent / w->done * (w->n - index), took));
    printf("\n");
    fflush(stdout);
    if (run->config) LCL_TRY(train(w, u, &made));
    for (int k = 0; k < run->n_evals; k++) LCL_TRY(evaluate(w, u, k, &made));
    w->done++;
    return LCL_OK;
}

/* ---- Slurm ---- */

static void quote(const char *text)
{
    putchar('\'');
    for (; *text; text++) *text == '\'' ? (void)fputs("'\\''", stdout) : (void)putchar(*text);
    putchar('\'');
}

static void write_slurm(const struct sweep *w)
{
    int levels = 0;
    for (int i = 0; i < w->n; i++)
        if (w->units[i].level >= levels) levels = w->units[i].level + 1;
    printf("#!/bin/sh\n# The %d units of %s as %d Slurm arrays: units of one begin with runs of an "
           "earlier one.\n# Further options go to every sbatch: sh FILE --partition=gpu --gpus=1 "
           "--time=8:00:00\nset -eu\nsweep=",
           w->n, w->s->path, levels);
    quote(w->s->path);
    printf("\n");
    for (int level = 0; level < levels; level++) {
        printf("level%d=$(sbatch --parsable \"$@\"", level);
        if (level) printf(" --dependency=\"afterok:$level%d\"", level - 1);
        printf(" --job-name=sweep-%d --array=", level);
        const char *comma = "";
        for (int i = 0; i < w->n; i++) {
            if (w->units[i].level != level) continue;
            printf("%s%d", comma, i + 1);
            comma = ",";
        }
        printf(" --wrap \"lcl sweep '$sweep' --unit \\$SLURM_ARRAY_TASK_ID\")\n");
    }
    printf("sbatch \"$@\" --dependency=\"afterok:$level%d\" --job-name=sweep-summary --wrap \"lcl "
           "sweep '$sweep'\"\n",
           levels - 1);
}

/* ---- the verb ---- */

static lcl_status summarise(const struct sweep *w)
{
    int missing;
    LCL_TRY(lcl_sweep_summarise(w->s, w->units, w->n, &missing));
    printf("%s/%s", w->s->output_dir, LCL_SWEEP_SUMMARY);
    if (missing > 0) printf("   (%d points of figures are not measured yet)", missing);
    printf("\nlcl report %s makes a page of it\n", w->s->output_dir);
    return LCL_OK;
}

static lcl_status sweep(struct sweep *w, int64_t unit, bool slurm, bool summary)
{
    if (unit > w->n)
        return LCL_FAIL(LCL_RANGE, "%s has %d units, there is no unit %lld", w->s->path, w->n,
                        (long long)unit);
    if (slurm) {
        write_slurm(w);
        return LCL_OK;
    }
    if (summary) return summarise(w);
    if (unit > 0) return run_unit(w, (int)unit - 1);
    for (int i = 0; i < w->n; i++) LCL_TRY(run_unit(w, i));
    return w->dry ? LCL_OK : summarise(w);
}

static lcl_status run(int argc, char **argv)
{
    bool slurm = false, dry = false, force = false, summary = false;
    int64_t unit = 0;
    const struct cli_option options[] = {
        {"--dry-run", CLI_FLAG, &dry, .doc = "say what is left to do, and do nothing"},
        {"--unit", CLI_INT, &unit, .low = 1, .high = 1e6,
         .doc = "one unit alone (a run with one seed): what an array of jobs calls"},
        {"--summary", CLI_FLAG, &summary,
         .doc = "run nothing: figures of what is done so far, also while another sweep runs"},
        {"--slurm", CLI_FLAG, &slurm, .doc = "print a script that submits all units to Slurm"},
        {"--force", CLI_FLAG, &force,
         .doc = "make again what was made with other settings than the file's"},
        CLI_END};
    const struct cli_spec spec = {
        .usage = "FILE.yaml [options]",
        .about = "Runs an experiment: every run of a file with every seed, each trained and "
                 "evaluated, one after\n"
                 "another; then means over seeds with 95 % intervals. What is done is skipped, so "
                 "the same command\ngoes on after a stop.",
        .options = options,
        .min_args = 1,
        .max_args = 1,
        .notes = "docs/formats.md has the form of the file; lcl report OUTPUT_DIR makes a page of "
                 "the result."};
    struct cli_args args;
    LCL_TRY(cli_parse(&spec, argc, argv, &args));
    if (args.help) return LCL_OK;
    struct sweep w = {.force = force, .dry = dry, .begin = lcl_time_s()};
    LCL_TRY(lcl_sweep_load(args.v[0], &w.s));
    lcl_status status = lcl_sweep_units(w.s, &w.units, &w.n);
    if (status == LCL_OK) {
        status = sweep(&w, unit, slurm, summary);
        lcl_sweep_units_free(w.s, w.units, w.n);
    }
    lcl_sweep_free(w.s);
    return status;
}

const struct cli_verb verb_sweep = {"sweep", "run an experiment of many runs and seeds", 45, run};
