/* lcl config: a config resolved, or the list of keys. */
#include "core/config.h"
#include "tools/cli.h"

static lcl_status print_resolved(const char *path, const struct cli_list *sets)
{
    static struct lcl_run_config config;
    LCL_TRY(lcl_config_load(path, sets->v, sets->n, &config));
    return lcl_config_write_yaml(&config, stdout);
}

static lcl_status run(int argc, char **argv)
{
    bool markdown = false;
    struct cli_list sets = {0};
    const struct cli_option options[] = {
        {"--markdown", CLI_FLAG, &markdown, .doc = "print docs/config.md, made from the schema"},
        CLI_SET_OPTION(&sets),
        CLI_END};
    const struct cli_spec spec = {
        .usage = "[FILE] [options]",
        .about = "Prints FILE as it is after its bases, stages and --set, every key set.\n"
                 "Without FILE it prints every key with its meaning, range and default.",
        .options = options,
        .max_args = 1,
        .notes = "Example: lcl config configs/demo/train.yaml --set learning_rate=1e-4"};
    struct cli_args args;
    LCL_TRY(cli_parse(&spec, argc, argv, &args));
    if (args.help) return LCL_OK;
    if (markdown) return lcl_config_write_markdown(stdout);
    if (args.n) return print_resolved(args.v[0], &sets);
    lcl_config_write_help(stdout);
    return LCL_OK;
}

const struct cli_verb verb_config = {"config", "print a config resolved, or the list of keys", 90,
                                     run};
