/* lcl neighbors: the class-neighbor table of a pack, and its picture. */
#include <stdio.h>
#include <stdlib.h>

#include "core/fs.h"
#include "core/log.h"
#include "data/neighbors_official.h"
#include "tools/cli.h"
#include "train/class_vectors.h"
#include "train/features.h"
#include "train/ranks.h"
#include "train/sheet.h"

/* Features of a whole pack are held, and kept beside it, up to this many bytes. */
static const double CACHE_BYTES = 1 << 30;

struct request {
    const char *pack, *model, *clip, *template, *import, *export, *out, *sheet;
    int64_t images_per_class, num, seed;
    int by, cut;
    bool force;
};

/* One mean row a picture, whatever tokens it has. */
static void mean_rows(const struct lcl_features *f, int64_t C, float *out)
{
    for (int64_t i = 0; i < f->n_images; i++) {
        const float *x = lcl_features_row(f, i, 0);
        for (int64_t k = 0; k < C; k++) out[i * C + k] = 0;
        for (int64_t k = 0; k < f->row; k++) out[i * C + k % C] += x[k] * (float)C / (float)f->row;
    }
}

/* The model's own tower on all pictures, by the features that training keeps too. */
static lcl_status table_of_cache(struct lcl_env *e, const struct lcl_config *c,
                                 const struct request *r, struct lcl_neighbors *table)
{
    struct lcl_features f = {0};
    int64_t C = e->model.config.vision.C;
    char *dir = lcl_strdupf("%s.features", r->pack);
    if (!dir) return LCL_FAIL(LCL_MEMORY, "no memory for a path");
    lcl_status status = lcl_features_open(&f, e, c, 1, dir);
    float *rows = malloc((size_t)(e->pack.n_images * C) * sizeof *rows);
    if (status == LCL_OK && !rows) status = LCL_FAIL(LCL_MEMORY, "no memory for class features");
    if (status == LCL_OK) {
        mean_rows(&f, C, rows);
        status = lcl_neighbors_from_features(&e->pack, rows, C, table);
    }
    lcl_features_close(&f);
    free(rows);
    free(dir);
    return status;
}

/* Whether what is asked for is all that the cache holds, and the cache is small. */
static bool suits_cache(const struct lcl_env *e, const struct request *r)
{
    const struct lcl_model_config *m = &e->model.config;
    if (!r->model || r->cut != LCL_CUT_RANK || r->num != 0) return false;
    for (int32_t c = 0; c < e->pack.n_classes && r->images_per_class > 0; c++)
        if (e->pack.classes[c].n_images > r->images_per_class) return false;
    return (double)e->pack.n_images * (double)(lcl_feature_rows(m) * m->vision.C) * sizeof(float) <=
           CACHE_BYTES;
}

static lcl_status compute_table(struct lcl_env *e, const struct lcl_config *c,
                                const struct request *r, struct lcl_neighbors *table)
{
    const struct lcl_neighbors_options options = {.by = (enum lcl_neighbors_by)r->by,
                                                  .cut = (enum lcl_neighbors_cut)r->cut,
                                                  .num = (int32_t)r->num,
                                                  .seed = (uint64_t)r->seed};
    int64_t each = r->images_per_class;
    struct lcl_class_vectors v = {0};
    if (suits_cache(e, r)) return table_of_cache(e, c, r, table);
    if (r->clip)
        LCL_TRY(lcl_class_vectors_clip(e, r->clip, c->bf16, r->by != LCL_BY_TEXT,
                                       r->by != LCL_BY_IMAGE, each,
                                       r->template ? r->template : "{name}", &v));
    else
        LCL_TRY(r->model ? lcl_class_vectors_model(e, each, false, &v)
                         : lcl_class_vectors_pixels(e, c, each, &v));
    lcl_status status =
        lcl_neighbors_from_classes(&e->pack, v.image_CF, v.text_CF, v.F, &options, table);
    lcl_class_vectors_free(&v);
    return status;
}

static void tell(const char *what, int64_t n)
{
    if (n > 0) lcl_log_warn("%lld %s", (long long)n, what);
}

static lcl_status import_table(struct lcl_env *e, const struct request *r,
                               struct lcl_neighbors *table)
{
    struct lcl_official_report o;
    LCL_TRY(lcl_neighbors_import(&e->pack, r->import, table, &o));
    lcl_log_info("%lld of %lld rows are classes of the pack, with %lld neighbors",
                 (long long)(o.rows - o.unknown_rows), (long long)o.rows, (long long)o.neighbors);
    tell("neighbors are no class of the pack: left out", o.unknown_neighbors);
    tell("neighbors are of the other split: left out, or held-out classes would leak into training",
         o.other_split);
    tell("neighbors are the class itself, or named twice: left out", o.repeated);
    tell("sample paths stand in the rows of several classes", o.shared_paths);
    tell("sample paths were not compared, behind the first 2,097,152", o.paths_not_compared);
    tell("sample paths lie below val/: pictures of a validation set among those of training",
         o.val_paths);
    if (o.missing > 0)
        lcl_log_warn("%d classes of the pack have no row (as %s): no hard negatives for them",
                     o.missing, o.first_missing);
    return LCL_OK;
}

/* What the file tells of how its table was made. */
static lcl_status save_table(struct lcl_env *e, const struct request *r, const char *out,
                             const struct lcl_neighbors *table)
{
    static const char *const by[] = {"image", "text", "official"};
    const char *from = r->import ? r->import : r->clip ? r->clip : r->model ? r->model : "pixels";
    char *source = r->import || (!r->clip && r->cut == LCL_CUT_RANK)
                       ? lcl_strdupf("%s", from)
                       : lcl_strdupf("%s by %s%s", from, by[r->by],
                                     r->cut == LCL_CUT_INTERVALS ? ", intervals" : "");
    if (!source) return LCL_FAIL(LCL_MEMORY, "no memory for a text");
    lcl_status status = lcl_neighbors_save(table, &e->pack, out, source, r->force);
    free(source);
    LCL_TRY(status);
    printf("%s\n", out);
    if (!r->sheet) return LCL_OK;
    LCL_TRY(lcl_sheet_neighbors(&e->pack, table, 40, r->sheet));
    printf("%s\n", r->sheet);
    return LCL_OK;
}

static lcl_status export_table(struct lcl_env *e, const struct request *r, const char *from)
{
    struct lcl_neighbors table;
    LCL_TRY(lcl_neighbors_load(from, &e->pack, &table));
    lcl_status status =
        lcl_neighbors_export(&e->pack, &table, r->images_per_class, (uint64_t)r->seed, r->export);
    lcl_neighbors_free(&table);
    if (status == LCL_OK) printf("%s\n", r->export);
    return status;
}

static lcl_status check_request(const struct request *r, const char *out)
{
    const char *sources[] = {r->model, r->clip, r->import, r->export};
    int n = 0;
    for (int i = 0; i < 4; i++) n += sources[i] != NULL;
    if (n > 1)
        return LCL_FAIL(LCL_CONFIG, "only one of --model, --clip, --import and --export at a time");
    if (r->by != LCL_BY_IMAGE && !r->clip)
        return LCL_FAIL_HINT(LCL_CONFIG, "--clip names a CLIPModel folder",
                             "--by text and official need a text tower");
    if (r->cut == LCL_CUT_INTERVALS && r->num == 0)
        return LCL_FAIL_HINT(LCL_CONFIG, "100 in the paper, 36 in the official table",
                             "--cut intervals needs --num-neighbors");
    const char *made = r->export ? r->export : out;
    if (lcl_fs_exists(made) && !r->force)
        return LCL_FAIL_HINT(LCL_EXISTS, "--force replaces it", "%s exists", made);
    return LCL_OK;
}

static lcl_status make_table(struct lcl_env *e, const struct lcl_config *c, const struct request *r,
                             const char *out)
{
    struct lcl_neighbors table = {0};
    lcl_status status = r->import ? import_table(e, r, &table) : compute_table(e, c, r, &table);
    if (status == LCL_OK && lcl_comm_rank(e->comm) == 0) status = save_table(e, r, out, &table);
    lcl_neighbors_free(&table);
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
    const bool first = lcl_comm_rank(lcl_ranks()) == 0;
    if (first) LCL_TRY_GOTO(check_request(r, out));
    if (!first && (r->import || r->export)) goto out; /* there is nothing to share */
    LCL_TRY_GOTO(lcl_env_run_config(r->model ? r->model : "", sets->v, sets->n, &c));
    LCL_TRY_GOTO(lcl_env_start(&e, &c));
    snprintf(c.data_pack, sizeof c.data_pack, "%s", r->pack);
    LCL_TRY_GOTO(lcl_env_open_pack(&e, &c));
    if (r->model) LCL_TRY_GOTO(lcl_env_load_model(&e, r->model, &c));
    status = r->export ? export_table(&e, r, out) : make_table(&e, &c, r, out);
out:
    lcl_env_close(&e);
    free(standard);
    return status;
}

static lcl_status run(int argc, char **argv)
{
    struct request r = {.images_per_class = 100};
    struct cli_list sets = {0};
    const struct cli_option options[] = {
        {"--pack", CLI_STR, &r.pack, .value = "FILE", .required = true,
         .doc = "pack made by lcl pack"},
        {"--model", CLI_STR, &r.model, .value = "RUN",
         .doc = "run or HF folder whose vision tower measures similarity (default: pictures at 16 "
                "x 16)"},
        {"--clip", CLI_STR, &r.clip, .value = "DIR",
         .doc = "CLIPModel folder whose picture and text features measure similarity"},
        {"--by", CLI_CHOICE, &r.by, .words = "image|text|official",
         .doc = "similarity of pictures i.i', of names t.t', or 0.5 t.t' + 0.8 (i.t' + t.i') + 0.5 "
                "i.i'"},
        {"--images-per-class", CLI_INT, &r.images_per_class, .value = "N", .low = 0, .high = 1e9,
         .doc = "pictures whose mean is a class's vector, evenly spread over them; 0: all; "
                "of an export: sample paths a row"},
        {"--text-template", CLI_STR, &r.template, .value = "TEXT",
         .doc = "what --clip reads of a class, {name} being its name (default: {name})"},
        {"--cut", CLI_CHOICE, &r.cut, .words = "rank|intervals",
         .doc = "the most similar classes, or one drawn from each of N equal intervals of the "
                "sorted list, as the paper does"},
        {"--num-neighbors", CLI_INT, &r.num, .value = "N", .low = 0, .high = LCL_NEIGHBORS_MAX,
         .doc = "neighbors a class; 0: all"},
        {"--seed", CLI_INT, &r.seed, .value = "N", .low = 0, .high = 1e15,
         .doc = "of the draws from intervals and of exported samples"},
        {"--import", CLI_STR, &r.import, .value = "FILE.jsonl",
         .doc = "the official train table instead: classes match by id, folder or name"},
        {"--export", CLI_STR, &r.export, .value = "FILE.jsonl",
         .doc = "write the table that there is (--out) in the official form"},
        {"--out", CLI_STR, &r.out, .value = "FILE",
         .doc = "the table (default: PACK.neighbors.h5, which lcl train finds by itself)"},
        {"--sheet", CLI_STR, &r.sheet, .value = "FILE.png",
         .doc = "also draw classes beside their five hardest neighbors"},
        {"--force", CLI_FLAG, &r.force, .doc = "replace an existing table"},
        CLI_SET_OPTION(&sets),
        CLI_END};
    const struct cli_spec spec = {
        .usage = "--pack FILE [--model RUN | --clip DIR | --import TABLE] [options]",
        .about = "Ranks, for each class of a pack, the other classes of its split from most to "
                 "least similar\n"
                 "(cosine of mean image features, or as --by says): the table from which hard "
                 "negatives are drawn.",
        .options = options,
        .notes = "mpirun -np N lcl neighbors ... shares the pictures; the table is the same for "
                 "every N."};
    struct cli_args args;
    LCL_TRY(cli_parse(&spec, argc, argv, &args));
    return args.help ? LCL_OK : neighbors(&r, &sets);
}

const struct cli_verb verb_neighbors = {"neighbors", "rank each class's most similar classes", 20,
                                        run};
