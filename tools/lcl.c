/* The `lcl` command: finds the verb, runs it, prints its error. Verbs are the files tools/verb_*.c
 * (see tools/cli.h). */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/config.h"
#include "core/threads.h"
#include "cpu/cpu.h"
#include "tools/cli.h"
#include "train/comm_nccl.h"
#include "train/device.h"
#include "train/ranks.h"

/* Made by the Makefile: one VERB(name) for each file tools/verb_name.c. */
#define VERB(name) extern const struct cli_verb verb_##name;
#include "tools/verbs.inc"
#undef VERB

#define VERB(name) &verb_##name,
static const struct cli_verb *verbs[] = {
#include "tools/verbs.inc"
    NULL};
#undef VERB
enum { N_VERBS = sizeof verbs / sizeof verbs[0] - 1 };

static int by_order(const void *a, const void *b)
{
    return (*(const struct cli_verb *const *)a)->order -
           (*(const struct cli_verb *const *)b)->order;
}

static void print_help(void)
{
    printf("lcl trains and runs multimodal LLMs that learn new classes from a few pictures.\n\n"
           "Usage: lcl VERB [arguments]\n\nVerbs:\n");
    for (int i = 0; i < N_VERBS; i++)
        if (verbs[i]->order > 0) printf("  %-12s %s\n", verbs[i]->name, verbs[i]->summary);
    printf("\nlcl VERB --help   the options of a verb\n"
           "lcl --version     version, processor, libraries\n\n"
           "Environment: LCL_THREADS=N, LCL_CPU_ISA=v2|v3|v4.\n");
}

static void print_version(void)
{
    printf("lcl %s\ncpu: %s\ncuda: %s\nmpi: %s\nnccl: %s\nbuilt: %s\n", LCL_RELEASE,
           lcl_cpu_describe(), lcl_device_describe(), lcl_mpi_describe(), lcl_nccl_describe(),
           LCL_BUILD);
}

static lcl_status unknown_verb(const char *word)
{
    const char *names[N_VERBS + 1];
    int n = 0;
    char hint[128] = "lcl --help lists the verbs";
    for (int i = 0; i < N_VERBS; i++)
        if (verbs[i]->order > 0) names[n++] = verbs[i]->name;
    const char *near = lcl_nearest_word(word, names, n);
    if (near) snprintf(hint, sizeof hint, "did you mean lcl %s?", near);
    return LCL_FAIL_HINT(LCL_CONFIG, hint, "lcl has no verb \"%s\"", word);
}

/* Verbs that a launcher's ranks run together; others the first rank runs alone. */
static bool is_for_ranks(const struct cli_verb *verb)
{
    static const char *const together[] = {"train", "eval", "neighbors"};
    for (size_t i = 0; i < sizeof together / sizeof *together; i++)
        if (!strcmp(verb->name, together[i])) return true;
    return false;
}

/* An error of one rank ends all. */
static lcl_status run_verb(const struct cli_verb *verb, int argc, char **argv)
{
    struct lcl_launch launch;
    struct lcl_comm *ranks = NULL;
    if (is_for_ranks(verb)) {
        LCL_TRY(lcl_ranks_open(&ranks));
    } else {
        LCL_TRY(lcl_launch_detect_here(&launch));
        if (launch.rank > 0) return LCL_OK;
    }
    lcl_status status = LCL_OK; /* what is printed, the first rank prints */
    if (lcl_comm_rank(ranks) > 0 && !freopen("/dev/null", "w", stdout))
        status = LCL_FAIL(LCL_IO, "/dev/null: %s", strerror(errno));
    if (status == LCL_OK) status = verb->run(argc, argv);
    if (status != LCL_OK && ranks) lcl_comm_fail(ranks);
    lcl_threads_stop();
    lcl_ranks_close(ranks);
    return status;
}

static lcl_status run(int argc, char **argv)
{
    qsort(verbs, N_VERBS, sizeof verbs[0], by_order);
    if (argc < 2 || !strcmp(argv[1], "--help") || !strcmp(argv[1], "-h") ||
        !strcmp(argv[1], "help")) {
        print_help();
        return LCL_OK;
    }
    if (!strcmp(argv[1], "--version")) {
        print_version();
        return LCL_OK;
    }
    for (int i = 0; i < N_VERBS; i++)
        if (!strcmp(argv[1], verbs[i]->name)) return run_verb(verbs[i], argc - 1, argv + 1);
    return unknown_verb(argv[1]);
}

int main(int argc, char **argv)
{
    signal(SIGXFSZ, SIG_IGN); /* a file-size limit is then an error with a message */
    lcl_status status = run(argc, argv);
    lcl_threads_stop();
    /* A full disk behind `> file` shows only here. */
    if (status == LCL_OK && (fflush(stdout) || ferror(stdout)))
        status = LCL_FAIL(LCL_IO, "writing standard output: %s", strerror(errno));
    if (status == LCL_OK) return EXIT_SUCCESS;
    fflush(stdout);
    fprintf(stderr, "error: %s\n", lcl_error_message());
    if (*lcl_error_hint()) fprintf(stderr, "hint: %s\n", lcl_error_hint());
    if (getenv("LCL_DEBUG")) fprintf(stderr, "at: %s\n", lcl_error_where());
    return EXIT_FAILURE;
}
