/* lcl score: answers judged, a JSON object a line. */
#include <stdio.h>

#include "tools/cli.h"
#include "tools/lines.h"
#include "tools/scoring.h"

struct request {
    struct scoring score;
    const struct scoring_metric *metric;
};

static lcl_status one_line(void *ctx, json_t *line)
{
    struct request *r = ctx;
    return r->metric->line(&r->score, line);
}

static lcl_status run(int argc, char **argv)
{
    struct request r = {.score.out = stdout};
    int metric = 0;
    const char *in = "-";
    const struct cli_option options[] = {
        {"--metric", CLI_CHOICE, &metric, .words = "official|strict|vqa|pope|box|cider",
         .doc = "the rule by which an answer is right"},
        {"--in", CLI_STR, &in, .value = "FILE", .doc = "lines to read; -: standard input"},
        CLI_END};
    const struct cli_spec spec = {
        .usage = "[--metric NAME] [--in FILE]",
        .about = "Reads a JSON object a line, writes one for each, and the mean of all to standard "
                 "error.",
        .options = options,
        .notes =
            "official  {\"prediction\":, \"target\":, \"other\":}: the target in lower case "
            "without quotes and full\n          stops occurs in the prediction, and without it the "
            "other label does not\n"
            "strict    {\"prediction\":, \"target\":}: the first words between double quotes are "
            "the target\n"
            "vqa       {\"prediction\":, \"answers\": [people's answers]}: VQA accuracy (of \"The "
            "answer is x.\" the x)\n"
            "pope      {\"prediction\":, \"target\": \"yes\" or \"no\"}: the first yes or no; F1 "
            "besides\n"
            "box       {\"prediction\":, \"target\": \"[x1,y1,x2,y2]\"}: boxes in order, right "
            "where they share more\n          than half of their union\n"
            "cider     {\"prediction\":, \"references\": [captions]}: CIDEr-D\n\n"
            "Example:\n  lcl score --metric official --in predictions.jsonl"};
    struct cli_args args;
    LCL_TRY(cli_parse(&spec, argc, argv, &args));
    if (args.help) return LCL_OK;
    r.metric = &scoring_metrics[metric];
    lcl_status status = lines_read(in, one_line, &r);
    if (status == LCL_OK) status = r.metric->end(&r.score);
    if (status == LCL_OK) fprintf(stderr, "%s\n", r.score.text);
    scoring_free(&r.score);
    return status;
}

const struct cli_verb verb_score = {"score", "answers judged by a metric", 93, run};
