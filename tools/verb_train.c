/* lcl train: runs configs one after another. */
#include <stdio.h>
#include <stdlib.h>

#include "core/log.h"
#include "tools/cli.h"
#include "train/loop.h"

static lcl_status train_one(const char *path, const struct cli_list *sets,
                            const struct lcl_train_options *options, bool *interrupted)
{
    char took[24];
    double begin = lcl_time_s();
    struct lcl_run_config *config = malloc(sizeof *config);
    if (!config) return LCL_FAIL(LCL_MEMORY, "no memory for a config");
    lcl_status status = lcl_config_load(path, sets->v, sets->n, config);
    if (status == LCL_OK) {
        lcl_log_info("%s -> %s", path, config->stages[0].output_dir);
        status = lcl_train_run(config, options, interrupted);
    }
    if (status == LCL_OK && !*interrupted)
        lcl_log_info("%s: done in %s", path, lcl_format_duration(lcl_time_s() - begin, took));
    free(config);
    return status;
}

static lcl_status run(int argc, char **argv)
{
    struct cli_list sets = {0};
    bool force = false, resume = false;
    int64_t profile = 0;
    const struct cli_option options[] = {
        {"--resume", CLI_FLAG, &resume,
         .doc = "go on from the newest good checkpoint of output_dir; begin where there is none"},
        {"--auto-resume", CLI_FLAG, &resume,
         .doc = "the same: for jobs that a queue starts again (Slurm's --requeue)"},
        {"--force", CLI_FLAG, &force,
         .doc = "remove the run that output_dir holds, and begin anew"},
        {"--profile", CLI_INT, &profile, .low = 1, .high = 1000,
         .doc = "time N steps by op, after 3 that warm up: a table, and output_dir/profile/"},
        CLI_SET_OPTION(&sets),
        CLI_END};
    const struct cli_spec spec = {
        .usage = "CONFIG.yaml... [options]",
        .about =
            "Trains: each config's stages in turn, then the next config's. Ctrl-C and SIGTERM save "
            "a\n"
            "checkpoint and end; --resume goes on, bit for bit as if the run had never stopped.",
        .options = options,
        .min_args = 1,
        .max_args = CLI_ARGS_MAX,
        .notes = "docs/config.md lists every key; lcl config prints what a file resolves to."};
    struct cli_args args;
    LCL_TRY(cli_parse(&spec, argc, argv, &args));
    if (args.help) {
        printf("\n");
        lcl_config_write_help(stdout);
        return LCL_OK;
    }
    struct lcl_train_options o = {
        .force = force, .resume = resume ? "auto" : NULL, .profile = profile};
    bool interrupted = false;
    for (int i = 0; i < args.n && !interrupted; i++)
        LCL_TRY(train_one(args.v[i], &sets, &o, &interrupted));
    return LCL_OK;
}

const struct cli_verb verb_train = {"train", "train a model: stages from config files", 30, run};
