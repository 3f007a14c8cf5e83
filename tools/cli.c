#include "tools/cli.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/config.h"
#include "core/log.h"

enum { HELP_COLUMN = 28, HELP_WIDTH = 100, MAX_OPTIONS = 128 };

static const char *const common_names[] = {"--help", "--quiet", "--verbose"};

static const char *value_name(const struct cli_option *o)
{
    if (o->value) return o->value;
    switch (o->kind) {
    case CLI_INT:
        return "N";
    case CLI_FLOAT:
        return "X";
    case CLI_CHOICE:
        return o->words;
    default:
        return "TEXT";
    }
}

/* Prints words of `text` from column `at` on, wrapped at HELP_WIDTH and indented by HELP_COLUMN. */
static void print_wrapped(FILE *out, int at, const char *text)
{
    while (*text) {
        int n = (int)strcspn(text, " ");
        if (at > HELP_COLUMN && at + 1 + n > HELP_WIDTH) {
            fprintf(out, "\n%*s", HELP_COLUMN, "");
            at = HELP_COLUMN;
        } else if (at > HELP_COLUMN) {
            fputc(' ', out);
            at++;
        }
        fprintf(out, "%.*s", n, text);
        at += n;
        text += n + (text[n] == ' ');
    }
    fputc('\n', out);
}

/* "(default 100)" and the like after an option's sentence. */
static void describe_default(const struct cli_option *o, char *text, size_t size)
{
    size_t n = strlen(text);
    if (o->required) {
        snprintf(text + n, size - n, " (required)");
    } else if (o->kind == CLI_INT) {
        snprintf(text + n, size - n, " (default %lld)", (long long)*(int64_t *)o->target);
    } else if (o->kind == CLI_FLOAT) {
        snprintf(text + n, size - n, " (default %g)", *(double *)o->target);
    } else if (o->kind == CLI_STR && *(const char **)o->target) {
        snprintf(text + n, size - n, " (default %s)", *(const char **)o->target);
    } else if (o->kind == CLI_CHOICE) {
        const char *w = o->words;
        for (int i = 0; i < *(int *)o->target && w; i++)
            w = strchr(w, '|') ? strchr(w, '|') + 1 : w;
        snprintf(text + n, size - n, " (default %.*s)", (int)strcspn(w, "|"), w);
    } else if (o->kind == CLI_LIST) {
        snprintf(text + n, size - n, " (may be repeated)");
    }
}

void cli_print_help(const struct cli_spec *spec, const char *verb, FILE *out)
{
    fprintf(out, "Usage: lcl %s %s\n\n%s\n\nOptions:\n", verb, spec->usage, spec->about);
    for (const struct cli_option *o = spec->options; o->name; o++) {
        char text[1024];
        int at = o->kind == CLI_FLAG ? fprintf(out, "  %s", o->name)
                                     : fprintf(out, "  %s %s", o->name, value_name(o));
        if (at >= HELP_COLUMN) at = fprintf(out, "\n") - 1;
        fprintf(out, "%*s", HELP_COLUMN - at, "");
        snprintf(text, sizeof text, "%s", o->doc);
        describe_default(o, text, sizeof text);
        print_wrapped(out, HELP_COLUMN, text);
    }
    fprintf(out, "  %-*s%s\n", HELP_COLUMN - 2, "-q, --quiet", "errors only");
    fprintf(out, "  %-*s%s\n", HELP_COLUMN - 2, "-v, --verbose", "more about what is done");
    fprintf(out, "  %-*s%s\n", HELP_COLUMN - 2, "-h, --help", "this text");
    if (spec->notes) fprintf(out, "\n%s\n", spec->notes);
}

static const struct cli_option *find_option(const struct cli_spec *spec, const char *name, size_t n)
{
    for (const struct cli_option *o = spec->options; o->name; o++)
        if (strlen(o->name) == n && memcmp(o->name, name, n) == 0) return o;
    return NULL;
}

static lcl_status unknown_option(const struct cli_spec *spec, const char *verb, const char *name)
{
    const char *names[MAX_OPTIONS];
    char hint[256];
    int n = 0;
    for (const struct cli_option *o = spec->options; o->name && n < MAX_OPTIONS - 3; o++)
        names[n++] = o->name;
    for (int i = 0; i < 3; i++) names[n++] = common_names[i];
    const char *near = lcl_nearest_word(name, names, n);
    if (near)
        snprintf(hint, sizeof hint, "did you mean %s?", near);
    else
        snprintf(hint, sizeof hint, "lcl %s --help lists the options", verb);
    return LCL_FAIL_HINT(LCL_CONFIG, hint, "lcl %s has no option %s", verb, name);
}

static lcl_status set_int(const struct cli_option *o, const char *value)
{
    char *end;
    errno = 0;
    long long v = strtoll(value, &end, 10);
    if (end == value || *end || errno == ERANGE)
        return LCL_FAIL_HINT(LCL_CONFIG, "give a whole number, for example 100",
                             "%s: \"%s\" is not a whole number", o->name, value);
    if ((o->low != 0 || o->high != 0) && ((double)v < o->low || (double)v > o->high))
        return LCL_FAIL(LCL_RANGE, "%s: %lld is not within %.15g..%.15g", o->name, v, o->low,
                        o->high);
    *(int64_t *)o->target = v;
    return LCL_OK;
}

static lcl_status set_float(const struct cli_option *o, const char *value)
{
    char *end;
    double v = strtod(value, &end);
    if (end == value || *end || !isfinite(v))
        return LCL_FAIL_HINT(LCL_CONFIG, "give a number, for example 0.5",
                             "%s: \"%s\" is not a finite number", o->name, value);
    if ((o->low != 0 || o->high != 0) && (v < o->low || v > o->high))
        return LCL_FAIL(LCL_RANGE, "%s: %.15g is not within %.15g..%.15g", o->name, v, o->low,
                        o->high);
    *(double *)o->target = v;
    return LCL_OK;
}

static lcl_status set_size(const struct cli_option *o, const char *value)
{
    static const struct {
        const char *name;
        double bytes;
    } units[] = {{"", 1},      {"B", 1},         {"KB", 1e3},      {"MB", 1e6},     {"GB", 1e9},
                 {"TB", 1e12}, {"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30}};
    char *end;
    double v = strtod(value, &end), bytes = -1;
    for (size_t i = 0; i < sizeof units / sizeof *units; i++)
        if (end != value && strcasecmp(end, units[i].name) == 0) bytes = v * units[i].bytes;
    if (!(bytes >= 1 && bytes <= 1e15))
        return LCL_FAIL_HINT(LCL_CONFIG, "give a size, for example 500MB or 2GiB",
                             "%s: \"%s\" is not a size of 1 byte or more", o->name, value);
    *(size_t *)o->target = (size_t)bytes;
    return LCL_OK;
}

static lcl_status set_choice(const struct cli_option *o, const char *value)
{
    size_t n = strlen(value);
    int index = 0;
    for (const char *w = o->words;; index++) {
        size_t len = strcspn(w, "|");
        if (len == n && memcmp(w, value, n) == 0) break;
        if (!w[len])
            return LCL_FAIL(LCL_CONFIG, "%s: \"%s\" is none of %s", o->name, value, o->words);
        w += len + 1;
    }
    *(int *)o->target = index;
    return LCL_OK;
}

static lcl_status add_to_list(const struct cli_option *o, const char *value)
{
    struct cli_list *list = o->target;
    if (list->n >= CLI_LIST_MAX)
        return LCL_FAIL(LCL_RANGE, "%s is given more than %d times", o->name, CLI_LIST_MAX);
    list->v[list->n++] = value;
    return LCL_OK;
}

static lcl_status set_option(const struct cli_option *o, const char *value)
{
    switch (o->kind) {
    case CLI_FLAG:
        *(bool *)o->target = true;
        return LCL_OK;
    case CLI_INT:
        return set_int(o, value);
    case CLI_FLOAT:
        return set_float(o, value);
    case CLI_SIZE:
        return set_size(o, value);
    case CLI_STR:
        *(const char **)o->target = value;
        return LCL_OK;
    case CLI_CHOICE:
        return set_choice(o, value);
    case CLI_LIST:
        return add_to_list(o, value);
    case CLI_DEVICE:
        if (strcmp(value, "cpu") == 0) return add_to_list(o, "device=cpu");
        if (strcmp(value, "cuda") == 0) return add_to_list(o, "device=cuda");
        return LCL_FAIL(LCL_CONFIG, "%s is cpu or cuda, not \"%s\"", o->name, value);
    }
    return LCL_FAIL(LCL_INTERNAL, "%s: kind %d of option", o->name, (int)o->kind);
}

static bool is_common(const char *arg, const char *name, char letter)
{
    return strcmp(arg, name) == 0 || (arg[0] == '-' && arg[1] == letter && !arg[2]);
}

/* Handles argv[*i], which begins with a dash; *i moves on over its value. */
static lcl_status parse_option(const struct cli_spec *spec, int argc, char **argv, int *i,
                               bool *given, struct cli_args *args)
{
    const char *arg = argv[*i];
    if (is_common(arg, "--help", 'h')) {
        args->help = true;
    } else if (is_common(arg, "--quiet", 'q')) {
        lcl_log_set_level(LCL_LOG_QUIET);
    } else if (is_common(arg, "--verbose", 'v')) {
        lcl_log_set_level(LCL_LOG_DEBUG);
    } else {
        const char *equals = strchr(arg, '=');
        size_t n = equals ? (size_t)(equals - arg) : strlen(arg);
        const struct cli_option *o = find_option(spec, arg, n);
        if (!o) {
            char name[128];
            snprintf(name, sizeof name, "%.*s", (int)(n < 120 ? n : 120), arg);
            return unknown_option(spec, argv[0], name);
        }
        if (o->kind == CLI_FLAG && equals)
            return LCL_FAIL(LCL_CONFIG, "%s takes no value (here: \"%s\")", o->name, equals + 1);
        if (o->kind != CLI_FLAG && !equals && *i + 1 >= argc)
            return LCL_FAIL(LCL_CONFIG, "%s needs a value: %s %s", o->name, o->name, value_name(o));
        given[o - spec->options] = true;
        if (o->kind == CLI_FLAG) return set_option(o, NULL);
        return set_option(o, equals ? equals + 1 : argv[++*i]);
    }
    return LCL_OK;
}

static lcl_status check_counts(const struct cli_spec *spec, const char *verb, const bool *given,
                               const struct cli_args *args)
{
    char hint[512];
    snprintf(hint, sizeof hint, "usage: lcl %s %s", verb, spec->usage);
    for (const struct cli_option *o = spec->options; o->name; o++)
        if (o->required && !given[o - spec->options])
            return LCL_FAIL_HINT(LCL_CONFIG, hint, "lcl %s needs %s %s", verb, o->name,
                                 value_name(o));
    if (args->n < spec->min_args)
        return LCL_FAIL_HINT(LCL_CONFIG, hint, "lcl %s needs %d argument%s; %d given", verb,
                             spec->min_args, spec->min_args == 1 ? "" : "s", args->n);
    if (args->n > spec->max_args)
        return LCL_FAIL_HINT(LCL_CONFIG, hint, "lcl %s: unexpected argument \"%s\"", verb,
                             args->v[spec->max_args]);
    return LCL_OK;
}

lcl_status cli_parse(const struct cli_spec *spec, int argc, char **argv, struct cli_args *args)
{
    bool given[MAX_OPTIONS] = {false};
    bool options_over = false;
    int n_options = 0;
    while (spec->options[n_options].name) n_options++;
    if (n_options > MAX_OPTIONS)
        return LCL_FAIL(LCL_INTERNAL, "lcl %s has over %d options", argv[0], MAX_OPTIONS);
    /* Help shows the defaults, so it must come before anything is set. */
    for (int i = 1; i < argc && strcmp(argv[i], "--"); i++) {
        if (!is_common(argv[i], "--help", 'h')) continue;
        cli_print_help(spec, argv[0], stdout);
        args->help = true;
        return LCL_OK;
    }
    args->help = false;
    args->n = 0;
    for (int i = 1; i < argc; i++) {
        if (!options_over && strcmp(argv[i], "--") == 0) {
            options_over = true;
        } else if (!options_over && argv[i][0] == '-' && argv[i][1]) {
            LCL_TRY(parse_option(spec, argc, argv, &i, given, args));
        } else if (args->n < CLI_ARGS_MAX) {
            args->v[args->n++] = argv[i];
        } else {
            return LCL_FAIL(LCL_RANGE, "more than %d arguments", CLI_ARGS_MAX);
        }
    }
    return check_counts(spec, argv[0], given, args);
}

lcl_status cli_split_pair(const char *text, const char *what, char *left, size_t left_size,
                          const char **right)
{
    const char *equals = strchr(text, '=');
    size_t n = equals ? (size_t)(equals - text) : 0;
    if (!equals || n == 0 || !equals[1])
        return LCL_FAIL(LCL_CONFIG, "%s: \"%s\" is not of the form NAME=VALUE", what, text);
    if (n >= left_size)
        return LCL_FAIL(LCL_RANGE, "%s: the name before '=' has %zu bytes, at most %zu", what, n,
                        left_size - 1);
    memcpy(left, text, n);
    left[n] = 0;
    *right = equals + 1;
    return LCL_OK;
}
