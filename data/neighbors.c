/* Class-neighbor tables: mean features, cosines, ranking; and their file. */
#include "data/neighbors.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/fs.h"
#include "core/h5.h"
#include "core/rng.h"
#include "core/threads.h"

static const char magic[] = "lcl-neighbors";
static const uint64_t format_version = 1;
static const uint64_t MAX_TABLE_BYTES = (uint64_t)1 << 34;
enum { CLASS_GRAIN = 4 };

void lcl_neighbors_free(struct lcl_neighbors *t)
{
    free(t->index);
    free(t->similarity);
    free(t->image);
    *t = (struct lcl_neighbors){0};
}

/* ---- class vectors ---- */

lcl_status lcl_class_means_init(struct lcl_class_means *m, const struct lcl_pack *pack, int64_t F)
{
    *m = (struct lcl_class_means){.pack = pack, .F = F};
    if (F < 1 || pack->n_classes < 1)
        return LCL_FAIL(LCL_SHAPE, "%lld features of %d classes", (long long)F, pack->n_classes);
    m->sum_CF = calloc((size_t)pack->n_classes * (size_t)F, sizeof *m->sum_CF);
    if (!m->sum_CF)
        return LCL_FAIL(LCL_MEMORY, "no memory for %lld features of %d classes", (long long)F,
                        pack->n_classes);
    return LCL_OK;
}

void lcl_class_means_free(struct lcl_class_means *m)
{
    free(m->sum_CF);
    *m = (struct lcl_class_means){0};
}

lcl_status lcl_class_means_add(struct lcl_class_means *m, int64_t image, const float *x)
{
    int32_t c = m->pack->image_class[image];
    double *sum = m->sum_CF + (size_t)c * (size_t)m->F, square = 0;
    for (int64_t i = 0; i < m->F; i++) square += (double)x[i] * (double)x[i];
    if (!isfinite(square))
        return LCL_FAIL(LCL_NUMERIC, "the features of picture %lld (class %s) are not finite",
                        (long long)image, m->pack->classes[c].id);
    double scale = square > 0 ? 1 / sqrt(square) : 0;
    for (int64_t i = 0; i < m->F; i++) sum[i] += scale * (double)x[i];
    return LCL_OK;
}

void lcl_class_means_finish(const struct lcl_class_means *m, float *mean_CF)
{
    for (int32_t c = 0; c < m->pack->n_classes; c++) {
        const double *sum = m->sum_CF + (size_t)c * (size_t)m->F;
        float *mean = mean_CF + (size_t)c * (size_t)m->F;
        double square = 0;
        for (int64_t i = 0; i < m->F; i++) square += sum[i] * sum[i];
        double scale = square > 0 ? 1 / sqrt(square) : 0;
        for (int64_t i = 0; i < m->F; i++) mean[i] = (float)(scale * sum[i]);
    }
}

/* ---- ranking ---- */

struct candidate {
    float similarity;
    int32_t index;
};

/* Similarity of classes c and o: query row c times key row o. */
struct ranking {
    const struct lcl_pack *pack;
    const struct lcl_neighbors_options *options;
    const float *query_CK, *key_CK;
    int64_t K;
    struct lcl_neighbors *t;
};

/* Most similar first; equals by class number, so that the order is one and the same everywhere. */
static int by_similarity(const void *a, const void *b)
{
    const struct candidate *p = a, *q = b;
    if (p->similarity != q->similarity) return p->similarity > q->similarity ? -1 : 1;
    return (p->index > q->index) - (p->index < q->index);
}

/* Eight partial sums in a fixed order: vector code without fast-math. */
static float dot(const float *restrict a, const float *restrict b, size_t n)
{
    float part[8] = {0};
    size_t i = 0;
    for (; i + 8 <= n; i += 8)
        for (size_t k = 0; k < 8; k++) part[k] += a[i + k] * b[i + k];
    for (; i < n; i++) part[i % 8] += a[i] * b[i];
    return ((part[0] + part[4]) + (part[1] + part[5])) +
           ((part[2] + part[6]) + (part[3] + part[7]));
}

/* Draws one of each of `width` equal intervals of n sorted candidates, in place. */
static size_t cut_intervals(const struct ranking *r, int32_t c, struct candidate *v, size_t n)
{
    size_t width = (size_t)r->t->width, N = n < width ? n : width;
    struct lcl_rng rng =
        lcl_rng_stream(r->options->seed, LCL_RNG_NEIGHBORS, 0, (uint64_t)(uint32_t)c);
    for (size_t k = 0; k < N; k++) {
        size_t low = k * n / N, high = (k + 1) * n / N;
        v[k] = v[low + lcl_rng_below(&rng, (uint32_t)(high - low))];
    }
    return N;
}

static void rank_class(const struct ranking *r, int32_t c, struct candidate *v)
{
    size_t K = (size_t)r->K, width = (size_t)r->t->width;
    const struct lcl_class *classes = r->pack->classes;
    size_t n = 0;
    for (int32_t o = 0; o < r->pack->n_classes; o++) {
        if (o == c || classes[o].split != classes[c].split) continue;
        float s = dot(r->query_CK + (size_t)c * K, r->key_CK + (size_t)o * K, K);
        v[n++] = (struct candidate){s, o};
    }
    if (n) qsort(v, n, sizeof *v, by_similarity);
    if (r->options->cut == LCL_CUT_INTERVALS) n = cut_intervals(r, c, v, n);
    for (size_t k = 0; k < width; k++) {
        r->t->index[(size_t)c * width + k] = k < n ? v[k].index : -1;
        r->t->similarity[(size_t)c * width + k] = k < n ? v[k].similarity : 0;
    }
}

static lcl_status rank_chunk(void *ctx, int64_t chunk)
{
    const struct ranking *r = ctx;
    size_t bytes = (size_t)r->pack->n_classes * sizeof(struct candidate);
    struct candidate *v = lcl_thread_scratch(0, bytes);
    if (!v) return LCL_FAIL(LCL_MEMORY, "no memory to rank %d classes", r->pack->n_classes);
    int64_t end = lcl_chunk_end(chunk, CLASS_GRAIN, r->pack->n_classes);
    for (int64_t c = lcl_chunk_begin(chunk, CLASS_GRAIN); c < end; c++)
        rank_class(r, (int32_t)c, v);
    return LCL_OK;
}

/* The longest row: the larger split less one, at most `num` and LCL_NEIGHBORS_MAX. */
static int32_t table_width(const struct lcl_pack *pack, int32_t num)
{
    int32_t n[2] = {0, 0};
    for (int32_t c = 0; c < pack->n_classes; c++) n[pack->classes[c].split == LCL_SPLIT_TEST]++;
    int32_t most = (n[0] > n[1] ? n[0] : n[1]) - 1;
    if (num < 1 || num > LCL_NEIGHBORS_MAX) num = LCL_NEIGHBORS_MAX;
    return most < 1 ? 1 : most > num ? num : most;
}

/* The official mix as one product of rows twice as long: (i, t) . (0.5 i' + 0.8 t', 0.8 i' + 0.5
 * t'). */
static void mix_vectors(const float *image_CF, const float *text_CF, size_t C, size_t F,
                        float *query, float *key)
{
    for (size_t c = 0; c < C; c++, query += 2 * F, key += 2 * F)
        for (size_t k = 0; k < F; k++) {
            float i = image_CF[c * F + k], t = text_CF[c * F + k];
            query[k] = i;
            query[F + k] = t;
            key[k] = 0.5f * i + 0.8f * t;
            key[F + k] = 0.8f * i + 0.5f * t;
        }
}

lcl_status lcl_neighbors_from_classes(const struct lcl_pack *pack, const float *image_CF,
                                      const float *text_CF, int64_t F,
                                      const struct lcl_neighbors_options *options,
                                      struct lcl_neighbors *out)
{
    *out = (struct lcl_neighbors){.n_classes = pack->n_classes,
                                  .width = table_width(pack, options->num)};
    size_t C = (size_t)pack->n_classes, cells = C * (size_t)out->width;
    const float *only = options->by == LCL_BY_TEXT ? text_CF : image_CF;
    struct ranking r = {
        .pack = pack, .options = options, .query_CK = only, .key_CK = only, .K = F, .t = out};
    float *query = NULL, *key = NULL;
    lcl_status status = LCL_OK;
    out->index = malloc(cells * sizeof *out->index);
    out->similarity = malloc(cells * sizeof *out->similarity);
    if (options->by == LCL_BY_OFFICIAL) {
        r.K = 2 * F;
        r.query_CK = query = malloc(C * (size_t)r.K * sizeof *query);
        r.key_CK = key = malloc(C * (size_t)r.K * sizeof *key);
    }
    if (!out->index || !out->similarity || !r.query_CK || !r.key_CK) {
        status = LCL_FAIL(LCL_MEMORY, "no memory for the neighbors of %zu classes", C);
        goto out;
    }
    if (query) mix_vectors(image_CF, text_CF, C, (size_t)F, query, key);
    LCL_TRY_GOTO(lcl_parallel(lcl_chunk_count((int64_t)C, CLASS_GRAIN), rank_chunk, &r));
out:
    free(query);
    free(key);
    if (status != LCL_OK) lcl_neighbors_free(out);
    return status;
}

lcl_status lcl_neighbors_from_features(const struct lcl_pack *pack, const float *feature_NF,
                                       int64_t F, struct lcl_neighbors *out)
{
    const struct lcl_neighbors_options options = {.by = LCL_BY_IMAGE};
    struct lcl_class_means means;
    float *mean_CF = NULL;
    lcl_status status;
    *out = (struct lcl_neighbors){0};
    LCL_TRY_GOTO(lcl_class_means_init(&means, pack, F));
    mean_CF = malloc((size_t)pack->n_classes * (size_t)F * sizeof *mean_CF);
    if (!mean_CF) {
        status = LCL_FAIL(LCL_MEMORY, "no memory for class vectors");
        goto out;
    }
    for (int64_t i = 0; i < pack->n_images; i++)
        LCL_TRY_GOTO(lcl_class_means_add(&means, i, feature_NF + i * F));
    lcl_class_means_finish(&means, mean_CF);
    status = lcl_neighbors_from_classes(pack, mean_CF, NULL, F, &options, out);
out:
    lcl_class_means_free(&means);
    free(mean_CF);
    return status;
}

/* ---- the file ---- */

/* Class ids, each with its NUL, end to end: how a table knows its pack. malloc'd. */
static char *join_ids(const struct lcl_pack *pack, uint64_t *size)
{
    size_t n = 0, at = 0;
    for (int32_t c = 0; c < pack->n_classes; c++) n += strlen(pack->classes[c].id) + 1;
    char *all = malloc(n + 1);
    for (int32_t c = 0; all && c < pack->n_classes; c++) {
        size_t len = strlen(pack->classes[c].id) + 1;
        memcpy(all + at, pack->classes[c].id, len);
        at += len;
    }
    *size = n;
    return all;
}

static lcl_status write_table(struct lcl_h5 *f, const struct lcl_neighbors *t,
                              const struct lcl_pack *pack, const char *source)
{
    uint64_t dims[2] = {(uint64_t)t->n_classes, (uint64_t)t->width}, size = 0;
    LCL_TRY(lcl_h5_make_group(f, "/format"));
    LCL_TRY(lcl_h5_set_str(f, "/format", "magic", magic));
    LCL_TRY(lcl_h5_set_u64(f, "/format", "version", format_version));
    LCL_TRY(lcl_h5_set_str(f, "/format", "creator", "lcl neighbors"));
    LCL_TRY(lcl_h5_set_str(f, "/format", "source", source ? source : ""));
    LCL_TRY(lcl_h5_set_str(f, "/format", "pack", pack->path));
    LCL_TRY(lcl_h5_set_u64(f, "/format", "pack_content_hash", pack->content_hash));
    LCL_TRY(lcl_h5_write(f, "/neighbors/index", LCL_H5_I32, 2, dims, t->index));
    LCL_TRY(lcl_h5_write(f, "/neighbors/similarity", LCL_H5_F32, 2, dims, t->similarity));
    char *ids = join_ids(pack, &size);
    if (!ids) return LCL_FAIL(LCL_MEMORY, "no memory for class ids");
    lcl_status status = lcl_h5_write(f, "/classes/ids", LCL_H5_U8, 1, &size, ids);
    free(ids);
    return status;
}

lcl_status lcl_neighbors_save(const struct lcl_neighbors *t, const struct lcl_pack *pack,
                              const char *path, const char *source, bool force)
{
    struct lcl_h5 f = {0};
    lcl_status status;
    if (t->n_classes != pack->n_classes)
        return LCL_FAIL(LCL_SHAPE, "a neighbor table of %d classes for a pack of %d", t->n_classes,
                        pack->n_classes);
    if (lcl_fs_exists(path) && !force)
        return LCL_FAIL_HINT(LCL_EXISTS, "--force replaces it", "%s exists", path);
    char *beside = lcl_strdupf("%s.writing", path);
    if (!beside) return LCL_FAIL(LCL_MEMORY, "no memory for a path");
    LCL_TRY_GOTO(lcl_h5_create(beside, &f));
    LCL_TRY_GOTO(write_table(&f, t, pack, source));
    LCL_TRY_GOTO(lcl_h5_close(&f));
    LCL_TRY_GOTO(lcl_fs_commit(beside, path));
out:
    if (status != LCL_OK) {
        struct lcl_error error;
        lcl_error_save(&error, status);
        lcl_h5_discard(&f);
        unlink(beside);
        status = lcl_error_restore(&error);
    }
    free(beside);
    return status;
}

static lcl_status check_format(const struct lcl_h5 *f)
{
    char kind[64] = "";
    uint64_t version = 0;
    if (lcl_h5_exists(f, "/format"))
        LCL_TRY(lcl_h5_get_str(f, "/format", "magic", kind, sizeof kind));
    if (strcmp(kind, magic) != 0)
        return LCL_FAIL_HINT(LCL_FORMAT, "lcl neighbors makes one",
                             "%s is not a neighbor table%s%s", f->path, kind[0] ? " but " : "",
                             kind);
    LCL_TRY(lcl_h5_get_u64(f, "/format", "version", &version));
    if (version == format_version) return LCL_OK;
    return LCL_FAIL_HINT(LCL_VERSION, "make it again with lcl neighbors",
                         "%s: neighbor format version %llu, this lcl reads version %llu", f->path,
                         (unsigned long long)version, (unsigned long long)format_version);
}

static lcl_status check_pack(const struct lcl_h5 *f, const struct lcl_pack *pack)
{
    uint64_t have_size = 0, want_size = 0;
    void *have = NULL;
    LCL_TRY(lcl_h5_read_alloc(f, "/classes/ids", LCL_H5_U8, MAX_TABLE_BYTES, &have, &have_size));
    char *want = join_ids(pack, &want_size);
    bool same = want && have_size == want_size && memcmp(have, want, (size_t)want_size) == 0;
    free(have);
    free(want);
    if (same) return LCL_OK;
    return LCL_FAIL_HINT(LCL_FORMAT, "make it again with lcl neighbors --pack",
                         "%s: this neighbor table belongs to another pack than %s (other classes)",
                         f->path, pack->path);
}

/* Every entry is another class of the same split or the end of its row. */
static lcl_status check_entries(const struct lcl_neighbors *t, const struct lcl_pack *pack,
                                const char *path)
{
    for (int32_t c = 0; c < t->n_classes; c++) {
        bool ended = false;
        for (int32_t k = 0; k < t->width; k++) {
            int32_t o = t->index[(size_t)c * (size_t)t->width + (size_t)k];
            float s = t->similarity ? t->similarity[(size_t)c * (size_t)t->width + (size_t)k] : 0;
            bool good = o == -1 || (!ended && o >= 0 && o < t->n_classes && o != c &&
                                    pack->classes[o].split == pack->classes[c].split);
            if (!good || !isfinite(s))
                return LCL_FAIL(LCL_FORMAT, "%s: row of class %s: entry %d is %d", path,
                                pack->classes[c].id, k, o);
            ended = ended || o == -1;
        }
    }
    return LCL_OK;
}

static lcl_status read_table(const struct lcl_h5 *f, const struct lcl_pack *pack,
                             struct lcl_neighbors *out)
{
    struct lcl_h5_set set;
    uint64_t n = 0;
    void *data;
    LCL_TRY(check_format(f));
    LCL_TRY(check_pack(f, pack));
    LCL_TRY(lcl_h5_set_open(f, "/neighbors/index", &set));
    lcl_h5_set_close(&set);
    if (set.rank != 2 || set.dims[0] != (uint64_t)pack->n_classes || set.dims[1] < 1 ||
        set.dims[1] > INT32_MAX)
        return LCL_FAIL(LCL_FORMAT, "%s: the table's shape does not fit %d classes", f->path,
                        pack->n_classes);
    out->n_classes = pack->n_classes;
    out->width = (int32_t)set.dims[1];
    LCL_TRY(lcl_h5_read_alloc(f, "/neighbors/index", LCL_H5_I32, MAX_TABLE_BYTES, &data, &n));
    out->index = data;
    out->similarity = malloc(n * sizeof *out->similarity);
    if (!out->similarity) return LCL_FAIL(LCL_MEMORY, "no memory for %s", f->path);
    LCL_TRY(lcl_h5_read(f, "/neighbors/similarity", LCL_H5_F32, n, out->similarity));
    return check_entries(out, pack, f->path);
}

lcl_status lcl_neighbors_load(const char *path, const struct lcl_pack *pack,
                              struct lcl_neighbors *out)
{
    struct lcl_h5 f;
    struct lcl_error error;
    *out = (struct lcl_neighbors){0};
    LCL_TRY(lcl_h5_open(path, false, &f));
    lcl_status status = read_table(&f, pack, out);
    if (status != LCL_OK) lcl_error_save(&error, status);
    lcl_h5_discard(&f);
    if (status == LCL_OK) return LCL_OK;
    lcl_neighbors_free(out);
    return lcl_error_restore(&error);
}

lcl_status lcl_neighbors_from_index(const int32_t *index, int64_t n_classes, int64_t width,
                                    const struct lcl_pack *pack, const char *from,
                                    struct lcl_neighbors *out)
{
    *out = (struct lcl_neighbors){0};
    if (n_classes != pack->n_classes || width < 1 || width > INT32_MAX)
        return LCL_FAIL(LCL_FORMAT, "%s: a neighbor table of %lld classes for %s, which has %d",
                        from, (long long)n_classes, pack->path, pack->n_classes);
    size_t cells = (size_t)n_classes * (size_t)width;
    out->n_classes = pack->n_classes;
    out->width = (int32_t)width;
    out->index = malloc(cells * sizeof *out->index);
    if (!out->index)
        return LCL_FAIL(LCL_MEMORY, "no memory for the neighbors of %d classes", pack->n_classes);
    memcpy(out->index, index, cells * sizeof *out->index);
    lcl_status status = check_entries(out, pack, from);
    if (status != LCL_OK) lcl_neighbors_free(out);
    return status;
}

/* ---- tables compared ---- */

/* Entries of a row, at most n. */
static int32_t row_length(const struct lcl_neighbors *t, int32_t c, int32_t n)
{
    int32_t k = 0;
    while (k < n && k < t->width && t->index[(size_t)c * (size_t)t->width + (size_t)k] >= 0) k++;
    return k;
}

double lcl_neighbors_new_share(const struct lcl_pack *pack, const struct lcl_neighbors *before,
                               const struct lcl_neighbors *now, int32_t hardest)
{
    int64_t all = 0, fresh = 0;
    for (int32_t c = 0; c < pack->n_classes; c++) {
        const int32_t *old = before->index + (size_t)c * (size_t)before->width;
        const int32_t *row = now->index + (size_t)c * (size_t)now->width;
        int32_t n_old = row_length(before, c, hardest), n = row_length(now, c, hardest);
        if (pack->classes[c].split != LCL_SPLIT_TRAIN) continue;
        for (int32_t k = 0; k < n; k++) {
            int32_t j = 0;
            while (j < n_old && old[j] != row[k]) j++;
            fresh += j == n_old;
        }
        all += n;
    }
    return all > 0 ? (double)fresh / (double)all : 0;
}
