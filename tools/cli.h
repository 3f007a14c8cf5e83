/* Arguments of `lcl VERB ...`: one table of options makes the parser, the checks and `--help`.
 *
 * A verb is one file, tools/verb_NAME.c (dashes of the name as underscores), that defines a
 * `const struct cli_verb verb_NAME`; the Makefile finds it, so nothing else has to be edited:
 *
 *     static lcl_status run(int argc, char **argv)
 *     {
 *         const char *out = NULL;
 *         int64_t episodes = 100;
 *         struct cli_list sets = {0};
 *         const struct cli_option options[] = {
 *             {"--out", CLI_STR, &out, .value = "FILE", .required = true, .doc = "table made"},
 *             {"--episodes", CLI_INT, &episodes, .low = 1, .high = 1e6, .doc = "how many"},
 *             CLI_SET_OPTION(&sets),
 *             CLI_END};
 *         const struct cli_spec spec = {.usage = "CONFIG --out FILE [options]",
 *                                       .about = "Prints the first episodes of a run.",
 *                                       .options = options, .min_args = 1, .max_args = 1};
 *         struct cli_args args;
 *         LCL_TRY(cli_parse(&spec, argc, argv, &args));
 *         if (args.help) return LCL_OK;
 *         LCL_TRY(lcl_config_load(args.v[0], sets.v, sets.n, &config));
 *         ...
 *     }
 *     const struct cli_verb verb_inspect = {"inspect", "show what a file holds", 80, run};
 *
 * Targets keep their value where an option is not given, so initialising them sets the default,
 * which `--help` shows. `--name value` and `--name=value` are the same; `--` ends the options;
 * options and arguments may come in any order. `--help` prints the help (args.help is then true:
 * return LCL_OK); `--quiet` and `--verbose` set the log level of every verb. Errors are LCL_CONFIG
 * or LCL_RANGE; main prints them with their hint and exits with 1. Strings belong to argv. */
#ifndef LCL_TOOLS_CLI_H
#define LCL_TOOLS_CLI_H

#include <stdio.h>

#include "core/status.h"

enum { CLI_LIST_MAX = 1024, CLI_ARGS_MAX = 1024 };

enum cli_kind {
    CLI_FLAG,   /* bool: true when given */
    CLI_INT,    /* int64_t within [low, high] */
    CLI_FLOAT,  /* double within [low, high] */
    CLI_SIZE,   /* size_t: bytes, with KB, MB, GB or KiB, MiB, GiB */
    CLI_STR,    /* const char * */
    CLI_CHOICE, /* int: index of one of `words` ("a|b|c") */
    CLI_LIST,   /* struct cli_list: may be given many times */
    CLI_DEVICE  /* the same list: cpu or cuda, as the setting device=... */
};

struct cli_list {
    int n;
    const char *v[CLI_LIST_MAX];
};

struct cli_option {
    const char *name; /* with its dashes: "--out" */
    enum cli_kind kind;
    void *target;
    const char *value; /* name of the value in the help: "FILE"; NULL: N, X, TEXT or the words */
    double low, high;  /* of CLI_INT and CLI_FLOAT; both 0: no limits */
    const char *words; /* of CLI_CHOICE */
    bool required;
    const char *doc; /* one sentence, lower case, without a full stop */
};
#define CLI_END      \
    {                \
        .name = NULL \
    }
/* Collects `--set key=value` for lcl_config_load. */
#define CLI_SET_OPTION(list)                                                                    \
    {.name = "--set",                                                                           \
     .kind = CLI_LIST,                                                                          \
     .target = (list),                                                                          \
     .value = "KEY=VALUE",                                                                      \
     .doc = "set a config key after the file is read; NAME:KEY=VALUE for the stage NAME only"}, \
    {                                                                                           \
        .name = "--device", .kind = CLI_DEVICE, .target = (list), .value = "cpu|cuda",          \
        .doc = "what computes: short for --set device=..."                                      \
    }

/* Of the weights' files of an HF folder. */
#define CLI_SHARD_OPTION(bytes)                                                       \
    {                                                                                 \
        .name = "--shard-size", .kind = CLI_SIZE, .target = (bytes), .value = "SIZE", \
        .doc = "most bytes in a file of weights: 500MB, 2GiB (default 5GB)"           \
    }

/* For lcl_hf_use_tower. */
#define CLI_TOWER_OPTION(tower)                                                       \
    {                                                                                 \
        .name = "--vision-tower", .kind = CLI_STR, .target = (tower), .value = "DIR", \
        .doc = "CLIP folder of an original LLaVA, in place of its mm_vision_tower"    \
    }

struct cli_spec {
    const char *usage;                /* what follows `lcl VERB ` */
    const char *about;                /* a few sentences; \n where a line must end */
    const struct cli_option *options; /* ends with CLI_END */
    int min_args, max_args;           /* arguments besides the options */
    const char *notes;                /* printed after the options: examples; NULL for none */
};

struct cli_args {
    bool help; /* the help was printed: nothing else to do */
    int n;
    const char *v[CLI_ARGS_MAX];
};

/* argv[0] is the verb's name. */
LCL_CHECKED lcl_status cli_parse(const struct cli_spec *spec, int argc, char **argv,
                                 struct cli_args *args);
void cli_print_help(const struct cli_spec *spec, const char *verb, FILE *out);
/* Splits "a=b" at the first '='; `what` names it in the message ("--support"). left is cut at
 * left_size. */
LCL_CHECKED lcl_status cli_split_pair(const char *text, const char *what, char *left,
                                      size_t left_size, const char **right);

struct cli_verb {
    const char *name;
    const char *summary; /* one line of `lcl --help` */
    int order;           /* place in `lcl --help`; 0: not shown */
    lcl_status (*run)(int argc, char **argv);
};

#endif
