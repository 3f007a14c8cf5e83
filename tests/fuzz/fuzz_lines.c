/* Lines of JSON that evaluations read: what a stopped one left, and tables of questions, rows,
 * episodes and answers. */
#include "tests/fuzz/fuzz.h"

#include "core/fs.h"
#include "tools/encode_line.h"
#include "tools/eval_record.h"
#include "tools/eval_rows_read.h"
#include "tools/eval_tally.h"
#include "tools/eval_trials.h"
#include "tools/lines.h"
#include "tools/scoring.h"

static json_t *settings(void)
{
    json_t *s = json_pack("{s:s}", "suite", "folders");
    assert_non_null(s);
    return s;
}

/* Numbers of what was read are made, too. */
static lcl_status read_unfinished(const char *path, const struct fuzz_file *f)
{
    struct tally t = {0};
    struct record r = {
        .settings = settings(), .units = 3, .parts = 1, .take = tally_line, .ctx = &t};
    struct lcl_text kept = {0};
    size_t used;
    lcl_status status = record_read(&r, path, (const char *)f->bytes, f->size, &used, &kept);
    assert_true(used <= f->size && kept.size <= f->size);
    if (status == LCL_OK && t.n > 0) status = tally_write_confusion(&t, fuzz_path("table.csv"));
    if (status == LCL_OK && t.n > 0) status = tally_write_classes(&t, fuzz_path("table.csv"));
    lcl_text_free(&kept);
    tally_free(&t);
    record_close(&r);
    return status;
}

#define ANSWER                                                                                    \
    "{\"row\": \"lcl\", \"seed\": 1, \"set\": 0, \"shots\": 2, \"image\": \"a.png\", \"class\": " \
    "\"fox\", \"labels\": [\"dax\", \"wug\"], \"classes\": [\"fox\", \"wolf\"], \"candidates\": " \
    "[\"ant\"], \"target\": \"dax\", \"prediction\": \"a \\\"dax\\\"\", \"strict\": true, "       \
    "\"official\": true, \"likelihood\": true, \"logprob\": [-0.5, -2.5, -3]}\n"

static size_t unfinished_seeds(struct fuzz_file *seeds)
{
    seeds[0] = fuzz_text(
        "{\"evaluation\": {\"suite\": \"folders\"}, \"units\": 3, \"part\": [0, 1]}\n" ANSWER
        "{\"unit\": 0}\n" ANSWER ANSWER "{\"unit\": 1}\n" ANSWER);
    return 1;
}

const struct fuzz_target fuzz_unfinished = {.name = "unfinished",
                                            .file = "p.jsonl.partial",
                                            .seeds = unfinished_seeds,
                                            .read = read_unfinished,
                                            .words = fuzz_json_words};

static lcl_status encode_one(void *ctx, json_t *line)
{
    struct lcl_official_episode e;
    const char **labels;
    (void)ctx;
    LCL_TRY(encode_read(line, &e, &labels));
    free(labels);
    return LCL_OK;
}

static lcl_status score_one(void *ctx, json_t *line)
{
    struct scoring *s = ctx;
    lcl_status status = LCL_OK;
    for (int i = 0; i < SCORING_METRICS; i++) {
        lcl_status one = scoring_metrics[i].line(&s[i], line);
        if (one != LCL_OK && i == 0) status = one;
    }
    return status;
}

static lcl_status read_scores(const char *path)
{
    struct scoring s[SCORING_METRICS] = {{0}};
    lcl_status status = lines_read(path, score_one, s);
    for (int i = 0; i < SCORING_METRICS; i++) {
        lcl_status end = scoring_metrics[i].end(&s[i]);
        if (status == LCL_OK) status = end;
        scoring_free(&s[i]);
    }
    return status;
}

/* A file that any reader takes is good. */
static lcl_status read_questions(const char *path, const struct fuzz_file *f)
{
    struct trials trials;
    struct eval_rows rows;
    (void)f;
    lcl_status isekai = trials_isekai(path, &trials);
    if (isekai == LCL_OK) trials_free(&trials);
    lcl_status imagenet = trials_imagenet(path, &trials);
    if (imagenet == LCL_OK) trials_free(&trials);
    lcl_status table = eval_rows_read(path, "", "Now: {question}", true, 0, &rows);
    if (table == LCL_OK) eval_rows_free(&rows);
    lcl_status encoded = lines_read(path, encode_one, NULL), scored = read_scores(path);
    bool taken = isekai == LCL_OK || imagenet == LCL_OK || table == LCL_OK || encoded == LCL_OK;
    return taken ? LCL_OK : scored;
}

static size_t question_seeds(struct fuzz_file *seeds)
{
    seeds[0] = fuzz_text("{\"image_name\": \"a\", \"positive_list\": [\"b\"], \"negative_list\": "
                         "[\"c\"], \"positive_promt\": \"x\", \"negative_promt\": \"y\", "
                         "\"label_name\": \"x\"}\n");
    seeds[1] = fuzz_text("{\"class_name\": \"Red Fox\", \"context_samples\": [\"a\"], "
                         "\"test_samples\": [\"b\"]}\n{\"class_name\": \"ant\", "
                         "\"context_samples\": [\"c\"], \"test_samples\": []}\n");
    seeds[2] = fuzz_text("{\"images\": [\"a\", \"b\"], \"question\": \"<image> <image> who?\", "
                         "\"answers\": [\"x\", \"y\"], \"support\": [{\"label\": \"dax\"}], "
                         "\"query\": {\"label\": null, \"question\": \"q\"}}\n");
    seeds[3] = fuzz_text("{\"prediction\": \"The answer is [0.1,0.2,0.3,0.4].\", \"target\": "
                         "\"[0,0,1,1];yes\", \"other\": \"no\", \"answers\": [\"a\", \"a\"], "
                         "\"references\": [\"a red cat\", \"cat\"]}\n");
    return 4;
}

const struct fuzz_target fuzz_questions = {.name = "questions",
                                           .file = "q.jsonl",
                                           .seeds = question_seeds,
                                           .read = read_questions,
                                           .words = fuzz_json_words};
