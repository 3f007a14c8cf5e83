/* lcl classify: a folder of pictures sorted into the classes of another folder; a CSV of scores. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/fs.h"
#include "core/log.h"
#include "tools/cli.h"
#include "train/classify.h"
#include "train/text.h"

enum { BATCH = 64, BAD_SHOWN = 20 };

struct request {
    const char *model, *support, *images, *out;
    int64_t shots;
    int method; /* enum lcl_classify_method */
    int labels; /* 0: made up, 1: names */
    bool force, skip_bad;
    struct cli_list sets;
};

/* As RFC 4180 quotes: only where needed. */
static void csv_field(struct lcl_text *t, const char *s)
{
    if (!strpbrk(s, ",\"\r\n")) {
        lcl_text_puts(t, s);
        return;
    }
    lcl_text_puts(t, "\"");
    for (; *s; s++) {
        if (*s == '"') lcl_text_puts(t, "\"");
        lcl_text_bytes(t, s, 1);
    }
    lcl_text_puts(t, "\"");
}

static void csv_header(struct lcl_text *t, const struct lcl_support *s)
{
    lcl_text_puts(t, "file,label,score");
    for (int i = 0; i < s->n; i++) {
        lcl_text_puts(t, ",");
        csv_field(t, s->classes[i].label);
    }
    lcl_text_puts(t, "\n");
}

static void csv_row(struct lcl_text *t, const struct lcl_support *s, const char *path,
                    const double *score)
{
    int best = 0;
    for (int i = 1; i < s->n; i++)
        if (score[i] > score[best]) best = i;
    csv_field(t, lcl_fs_basename(path));
    lcl_text_puts(t, ",");
    csv_field(t, s->classes[best].label);
    lcl_text_printf(t, ",%.6f", score[best]);
    for (int i = 0; i < s->n; i++) lcl_text_printf(t, ",%.6f", score[i]);
    lcl_text_puts(t, "\n");
}

/* Keeps at most `most` pictures of each class, drawn by eval.seed, so that no more are read than
 * are shown. */
static void draw_support(struct lcl_support *s, int64_t most, uint64_t seed)
{
    for (int i = 0; i < s->n; i++) {
        struct lcl_support_class *c = &s->classes[i];
        struct lcl_rng rng = lcl_rng_stream(seed, LCL_RNG_EVAL, 2, lcl_hash_string(c->label));
        for (int64_t k = 0; k < c->n && k < most; k++) {
            int64_t j = k + lcl_rng_below(&rng, (uint32_t)(c->n - k));
            char *path = c->paths[k];
            c->paths[k] = c->paths[j];
            c->paths[j] = path;
        }
        while (c->n > most) free(c->paths[--c->n]);
    }
}

static void list_bad(const struct lcl_bad_pictures *bad)
{
    for (int64_t i = 0; i < bad->n && i < BAD_SHOWN; i++) lcl_log_warn("%s", bad->v[i].why);
    if (bad->n > BAD_SHOWN) lcl_log_warn("... and %lld more", (long long)bad->n - BAD_SHOWN);
}

/* Every picture is read once before any work, so that all bad ones are named at once. */
static lcl_status check_pictures(struct lcl_gallery *g, const struct lcl_support *s,
                                 char *const *files, size_t n)
{
    struct lcl_bad_pictures bad = {0};
    lcl_status status = LCL_OK;
    for (int i = 0; i < s->n && status == LCL_OK; i++)
        status =
            lcl_pictures_check(g, (const char *const *)s->classes[i].paths, s->classes[i].n, &bad);
    struct lcl_progress progress;
    lcl_progress_begin(&progress, "checking pictures", "pictures", (int64_t)n);
    for (size_t i = 0; i < n && status == LCL_OK; i += BATCH) {
        size_t count = n - i < BATCH ? n - i : BATCH;
        status = lcl_pictures_check(g, (const char *const *)files + i, (int64_t)count, &bad);
        lcl_progress_update(&progress, (int64_t)(i + count), NULL);
    }
    lcl_progress_end(&progress, NULL);
    if (status == LCL_OK && bad.n > 0) {
        list_bad(&bad);
        status = LCL_FAIL_HINT(LCL_FORMAT, "mend or remove them, or leave them out with --skip-bad",
                               "%lld of the pictures cannot be read", (long long)bad.n);
    }
    lcl_bad_pictures_free(&bad);
    return status;
}

static lcl_status add_support(struct lcl_gallery *g, struct lcl_support *s,
                              struct lcl_bad_pictures *bad)
{
    for (int i = 0; i < s->n; i++) {
        struct lcl_support_class *c = &s->classes[i];
        LCL_TRY(lcl_gallery_add(g, (const char *const *)c->paths, c->n, c->image, bad));
    }
    return lcl_support_compact(s);
}

static lcl_status classify_files(struct lcl_classifier *k, struct lcl_gallery *g,
                                 char *const *files, size_t n, struct lcl_bad_pictures *bad,
                                 struct lcl_text *csv)
{
    int C = k->support->n;
    int64_t first = g->n, number[BATCH], image[BATCH], done = 0;
    double *score = malloc(BATCH * (size_t)C * sizeof *score);
    lcl_status status = score ? LCL_OK : LCL_FAIL(LCL_MEMORY, "no memory for scores");
    struct lcl_progress progress;
    lcl_progress_begin(&progress, "classifying", "pictures", (int64_t)n);
    for (size_t begin = 0; begin < n && status == LCL_OK; begin += BATCH) {
        size_t count = n - begin < BATCH ? n - begin : BATCH;
        int64_t good = 0;
        lcl_gallery_cut(g, first);
        status =
            lcl_gallery_add(g, (const char *const *)files + begin, (int64_t)count, number, bad);
        for (size_t i = 0; i < count; i++)
            if (status == LCL_OK && number[i] >= 0) image[good++] = number[i];
        if (status == LCL_OK && good > 0) status = lcl_classifier_score(k, image, good, score);
        good = 0;
        for (size_t i = 0; i < count && status == LCL_OK; i++)
            if (number[i] >= 0) csv_row(csv, k->support, files[begin + i], score + C * good++);
        done += (int64_t)count;
        lcl_progress_update(&progress, done, NULL);
    }
    lcl_progress_end(&progress, NULL);
    free(score);
    return status;
}

static lcl_status work(const struct request *r, const struct lcl_config *c, struct lcl_gallery *g,
                       struct lcl_support *s, char *const *files, size_t n)
{
    struct lcl_classifier k = {0};
    struct lcl_bad_pictures bad = {0};
    struct lcl_text csv = {0};
    lcl_status status;
    if (!r->skip_bad) LCL_TRY(check_pictures(g, s, files, n));
    LCL_TRY_GOTO(add_support(g, s, &bad));
    LCL_TRY_GOTO(lcl_classifier_open(&k, g, s, c, (enum lcl_classify_method)r->method, r->shots,
                                     r->labels == 0));
    lcl_log_info("%d classes, %zu pictures, %lld question%s a picture", s->n, n,
                 (long long)lcl_classifier_questions(&k),
                 lcl_classifier_questions(&k) == 1 ? "" : "s");
    csv_header(&csv, s);
    LCL_TRY_GOTO(classify_files(&k, g, files, n, &bad, &csv));
    LCL_TRY_GOTO(lcl_text_check(&csv));
    LCL_TRY_GOTO(lcl_fs_write_atomic(r->out, csv.data, csv.size));
    if (bad.n > 0) {
        list_bad(&bad);
        lcl_log_warn("%lld bad pictures were left out", (long long)bad.n);
    }
    printf("%s\n", r->out);
out:
    lcl_classifier_close(&k);
    lcl_bad_pictures_free(&bad);
    lcl_text_free(&csv);
    return status;
}

static lcl_status classify(const struct request *r)
{
    struct lcl_env e = {0};
    struct lcl_config c;
    struct lcl_support support = {0};
    struct lcl_gallery gallery = {0};
    char **files = NULL;
    size_t n = 0;
    lcl_status status = LCL_OK;
    if (lcl_fs_exists(r->out) && !r->force)
        return LCL_FAIL_HINT(LCL_EXISTS, "--force replaces it", "%s exists", r->out);
    LCL_TRY_GOTO(lcl_support_scan(&support, r->support));
    if (r->method == LCL_CLASSIFY_ALL) LCL_TRY_GOTO(lcl_support_check(&support, LCL_MAX_WAYS));
    if (!lcl_fs_is_dir(r->images)) {
        status = LCL_FAIL(LCL_NOT_FOUND, "--images: there is no folder %s", r->images);
        goto out;
    }
    LCL_TRY_GOTO(lcl_picture_files(r->images, &files, &n));
    LCL_TRY_GOTO(lcl_env_run_config(r->model, r->sets.v, r->sets.n, &c));
    LCL_TRY_GOTO(lcl_env_start(&e, &c));
    LCL_TRY_GOTO(lcl_env_load_model(&e, r->model, &c));
    int ways = r->method == LCL_CLASSIFY_ALL ? support.n : 2;
    draw_support(&support, r->shots / ways > 0 ? r->shots / ways : 1, (uint64_t)c.eval_seed);
    LCL_TRY_GOTO(lcl_gallery_open(&gallery, &e));
    LCL_TRY_GOTO(work(r, &c, &gallery, &support, files, n));
out:
    if (files) lcl_fs_list_free(files, n);
    lcl_gallery_close(&gallery);
    lcl_support_free(&support);
    lcl_env_close(&e);
    return status;
}

static lcl_status run(int argc, char **argv)
{
    struct request r = {.shots = 16};
    const struct cli_option options[] = {
        {"--model", CLI_STR, &r.model, .value = "RUN", .required = true,
         .doc = "run folder, checkpoint, or HF LLaVA folder"},
        {"--support", CLI_STR, &r.support, .value = "DIR", .required = true,
         .doc = "folder of class folders with pictures; their names are the labels"},
        {"--images", CLI_STR, &r.images, .value = "DIR", .required = true,
         .doc = "folder of pictures to classify"},
        {"--out", CLI_STR, &r.out, .value = "CSV", .required = true, .doc = "table to write"},
        {"--shots", CLI_INT, &r.shots, .low = 2, .high = 100000,
         .doc = "support pictures of a question in all, shared equally by its classes"},
        {"--method", CLI_CHOICE, &r.method, .words = "pairs|all",
         .doc = "questions: every pair of classes, or all classes (at most 64) at once"},
        {"--labels", CLI_CHOICE, &r.labels, .words = "made_up|names",
         .doc = "what a question calls its classes: labels made up for it, or the folders' names"},
        {"--skip-bad", CLI_FLAG, &r.skip_bad, .doc = "leave unreadable pictures out"},
        {"--force", CLI_FLAG, &r.force, .doc = "replace an existing table"},
        CLI_SET_OPTION(&r.sets),
        CLI_END};
    const struct cli_spec spec = {
        .usage = "--model RUN --support DIR --images DIR --out CSV [options]",
        .about =
            "Sorts a folder of pictures into classes that a few pictures show. CSV columns: file, "
            "label\n(the best), its score, then the score of each class.",
        .options = options,
        .notes = "A model trained on two-way episodes is asked about every pair of classes: N "
                 "classes are\nN (N - 1) / 2 questions, each for 64 pictures at once. A class's "
                 "score is its mean share of the\nlikelihood over its pairs: 1 is preferred to "
                 "every other class, 0.5 is chance. --method all asks about\nall classes in one "
                 "question, for models trained with data.strategy: n-way; scores then sum to 1."};
    struct cli_args args;
    LCL_TRY(cli_parse(&spec, argc, argv, &args));
    return args.help ? LCL_OK : classify(&r);
}

const struct cli_verb verb_classify = {"classify", "sort a folder of pictures into classes", 46,
                                       run};
