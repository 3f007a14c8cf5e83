/* lcl neighbors: the class-neighbor table of a pack, and its picture. */
#include <stdio.h>
#include <stdlib.h>

#include "core/fs.h"
#include "core/log.h"
#include "tools/cli.h"
#include "train/features.h"
#include "train/sheet.h"

enum { PIXEL_SIDE = 16 };

/* Without a model: pictures shrunk to 16 x 16, centred on mid grey. */
static lcl_status pixel_features(struct lcl_env *e, const struct lcl_config *c,
                                 struct lcl_features *f)
{
    struct lcl_preprocess p;
    lcl_preprocess_defaults(&p, PIXEL_SIDE);
    LCL_TRY(lcl_parse_background(c->data_background, p.background));
    for (int i = 0; i < 3; i++) {
        p.mean[i] = 0.5f;
        p.std[i] = 0.5f;
    }
    int64_t n = e->pack.n_images, batch = 256;
    *f = (struct lcl_features){.n_images = n, .views = 1, .row = 3 * PIXEL_SIDE * PIXEL_SIDE};
    f->data = malloc((size_t)(n * f->row) * sizeof *f->data);
    int64_t *index = malloc((size_t)batch * sizeof *index);
    lcl_status status = LCL_OK;
    if (!f->data || !index)
        status = LCL_FAIL(LCL_MEMORY, "no memory for %lld pictures", (long long)n);
    struct lcl_progress progress;
    lcl_progress_begin(&progress, "reading pictures", "pictures", n);
    for (int64_t begin = 0; begin < n && status == LCL_OK; begin += batch) {
        int64_t count = n - begin < batch ? n - begin : batch;
        for (int64_t i = 0; i < count; i++) index[i] = begin + i;
        status = lcl_pack_read_pixels(&e->pack, index, count, &p, f->data + begin * f->row);
        lcl_progress_update(&progress, begin + count, NULL);
    }
    lcl_progress_end(&progress, NULL);
    free(index);
    return status;
}

/* One mean row a picture, whatever tokens it has. */
static void mean_rows(const struct lcl_features *f, int64_t C, float *out)
{
    for (int64_t i = 0; i < f->n_images; i++) {
        const float *x = lcl_features_row(f, i, 0);
        for (int64_t k = 0; k < C; k++) out[i * C + k] = 0;
        for (int64_t k = 0; k < f->row; k++) out[i * C + k % C] += x[k] * (float)C / (float)f->row;
    }
}

struct request {
    const char *pack, *model, *out, *sheet;
    bool force;
};

static lcl_status make_table(struct lcl_env *e, const struct lcl_config *c, const struct request *r,
                             const char *out)
{
    struct lcl_features f = {0};
    struct lcl_neighbors table = {0};
    float *rows = NULL;
    char *dir = lcl_strdupf("%s.features", r->pack);
    lcl_status status = dir ? LCL_OK : LCL_FAIL(LCL_MEMORY, "no memory for a path");
    if (status == LCL_OK)
        status = r->model ? lcl_features_open(&f, e, c, 1, dir) : pixel_features(e, c, &f);
    int64_t C = r->model ? e->model.config.vision.C : f.row;
    if (status == LCL_OK) {
        rows = malloc((size_t)(f.n_images * C) * sizeof *rows);
        if (!rows) status = LCL_FAIL(LCL_MEMORY, "no memory for class features");
    }
    if (status == LCL_OK) {
        mean_rows(&f, C, rows);
        status = lcl_neighbors_from_features(&e->pack, rows, C, &table);
    }
    if (status == LCL_OK)
        status =
            lcl_neighbors_save(&table, &e->pack, out, r->model ? r->model : "pixels", r->force);
    if (status == LCL_OK) printf("%s\n", out);
    if (status == LCL_OK && r->sheet) {
        status = lcl_sheet_neighbors(&e->pack, &table, 40, r->sheet);
        if (status == LCL_OK) printf("%s\n", r->sheet);
    }
    lcl_neighbors_free(&table);
    lcl_features_close(&f);
    free(rows);
    free(dir);
    return status;
}

static lcl_status neighbors(const struct request *r, const struct cli_list *sets)
{
    struct lcl_env e = {0};
    struct lcl_config c;
    char *standard = lcl_strdupf("%s.neighbors.h5", r->pack);
    lcl_status status = LCL_OK;
    if (!standard) return LCL_FAIL(LCL_MEMORY, "no memory for a path");
    const char *out = r->out ? r->out : standard;
    if (lcl_fs_exists(out) && !r->force) {
        status = LCL_FAIL_HINT(LCL_EXISTS, "--force replaces it", "%s exists", out);
        goto out;
    }
    LCL_TRY_GOTO(lcl_env_run_config(r->model ? r->model : "", sets->v, sets->n, &c));
    LCL_TRY_GOTO(lcl_env_start(&e, &c));
    snprintf(c.data_pack, sizeof c.data_pack, "%s", r->pack);
    LCL_TRY_GOTO(lcl_env_open_pack(&e, &c));
    if (r->model) LCL_TRY_GOTO(lcl_env_load_model(&e, r->model, &c));
    LCL_TRY_GOTO(make_table(&e, &c, r, out));
out:
    lcl_env_close(&e);
    free(standard);
    return status;
}

static lcl_status run(int argc, char **argv)
{
    struct request r = {0};
    struct cli_list sets = {0};
    const struct cli_option options[] = {
        {"--pack", CLI_STR, &r.pack, .value = "FILE", .required = true,
         .doc = "pack made by lcl pack"},
        {"--model", CLI_STR, &r.model, .value = "RUN",
         .doc = "run or HF folder whose vision tower measures similarity (default: pictures at 16 "
                "x 16)"},
        {"--out", CLI_STR, &r.out, .value = "FILE",
         .doc = "the table (default: PACK.neighbors.h5, which lcl train finds by itself)"},
        {"--sheet", CLI_STR, &r.sheet, .value = "FILE.png",
         .doc = "also draw classes beside their five hardest neighbors"},
        {"--force", CLI_FLAG, &r.force, .doc = "replace an existing table"},
        CLI_SET_OPTION(&sets),
        CLI_END};
    const struct cli_spec spec = {
        .usage = "--pack FILE [--model RUN] [options]",
        .about = "Ranks, for each class of a pack, the other classes of its split from most to "
                 "least similar\n"
                 "(cosine of mean image features): the table from which hard negatives are drawn.",
        .options = options};
    struct cli_args args;
    LCL_TRY(cli_parse(&spec, argc, argv, &args));
    return args.help ? LCL_OK : neighbors(&r, &sets);
}

const struct cli_verb verb_neighbors = {"neighbors", "rank each class's most similar classes", 20,
                                        run};
