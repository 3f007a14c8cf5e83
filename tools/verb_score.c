/* lcl score: answers judged, a JSON object a line. */
#include <stdio.h>

#include "tools/cli.h"
#include "tools/lines.h"
#include "train/match.h"

enum { OFFICIAL, STRICT };

struct score {
    int metric;
    int64_t n, right;
};

static lcl_status get_text(const json_t *line, const char *key, const char **text)
{
    *text = json_string_value(json_object_get(line, key));
    if (*text) return LCL_OK;
    return LCL_FAIL_HINT(LCL_FORMAT,
                         "{\"prediction\": \"...\", \"target\": \"...\", \"other\": \"...\"} "
                         "on each line",
                         "\"%s\" must be a text", key);
}

static lcl_status one_line(void *ctx, json_t *line)
{
    struct score *s = ctx;
    const char *prediction, *target, *other = "";
    bool right;
    LCL_TRY(get_text(line, "prediction", &prediction));
    LCL_TRY(get_text(line, "target", &target));
    if (s->metric == OFFICIAL) {
        LCL_TRY(get_text(line, "other", &other));
        LCL_TRY(lcl_official_match(prediction, target, other, &right));
    } else {
        right = lcl_strict_match(prediction, target);
    }
    s->n++;
    s->right += right;
    return puts(right ? "{\"correct\": true}" : "{\"correct\": false}") < 0
               ? LCL_FAIL(LCL_IO, "cannot write to standard output")
               : LCL_OK;
}

static lcl_status run(int argc, char **argv)
{
    struct score s = {.metric = OFFICIAL};
    const char *in = "-";
    const struct cli_option options[] = {
        {"--metric", CLI_CHOICE, &s.metric, .words = "official|strict",
         .doc = "the rule by which an answer is right"},
        {"--in", CLI_STR, &in, .value = "FILE", .doc = "lines to read; -: standard input"},
        CLI_END};
    const struct cli_spec spec = {
        .usage = "[--metric official|strict] [--in FILE]",
        .about =
            "Reads {\"prediction\":, \"target\":, \"other\":} lines, writes {\"correct\":} for "
            "each, and the share that is\nright to standard error. official: the target in "
            "lower case without quotes and full stops occurs in\nthe prediction, and without "
            "it the other label does not. strict: the first words between double\nquotes are "
            "the target, letter for letter; other is not looked at.",
        .options = options,
        .notes = "Example:\n  lcl score --metric official --in predictions.jsonl"};
    struct cli_args args;
    LCL_TRY(cli_parse(&spec, argc, argv, &args));
    if (args.help) return LCL_OK;
    LCL_TRY(lines_read(in, one_line, &s));
    fprintf(stderr, "%lld of %lld correct (%.4f)\n", (long long)s.right, (long long)s.n,
            s.n ? (double)s.right / (double)s.n : 0);
    return LCL_OK;
}

const struct cli_verb verb_score = {"score", "answers judged by a metric", 93, run};
