#include "checkpoint/assembly.h"

#include <stdlib.h>

#include "checkpoint/hf.h"
#include "checkpoint/hf_export.h"
#include "model/model.h"

struct lcl_source {
    /* one of: */
    const struct lcl_st_tensor *st;
    const struct lcl_gguf_tensor *gguf;
    float *made; /* owned */

    size_t rotary_heads; /* of gguf */
    size_t count;        /* elements there are; behind them `mean`, over and over */
    float *mean;         /* [width] of a longer vocabulary, or NULL; owned */
    size_t width;
    struct lcl_st_reader reader;
};

lcl_status lcl_assembly_begin(struct lcl_assembly *a, const struct lcl_params *table)
{
    *a = (struct lcl_assembly){.table = table};
    a->of_row = calloc((size_t)table->n_rows + 1, sizeof *a->of_row);
    return a->of_row ? LCL_OK : LCL_FAIL(LCL_MEMORY, "no memory for %d tensors", table->n_rows);
}

void lcl_assembly_free(struct lcl_assembly *a)
{
    for (int i = 0; a->of_row && i < a->table->n_rows; i++) {
        free(a->of_row[i].made);
        free(a->of_row[i].mean);
    }
    free(a->of_row);
    *a = (struct lcl_assembly){0};
}

/* ---- reading ---- */

static bool has_values(const struct lcl_source *s) { return s->st || s->gguf || s->made; }

static lcl_status read_stored(const struct lcl_source *s, size_t first, size_t n, float *x)
{
    if (s->st) return lcl_st_read(s->st, first, n, LCL_F32, x);
    if (s->gguf) return lcl_gguf_read(s->gguf, s->rotary_heads, first, n, x);
    memcpy(x, s->made + first, n * sizeof *x);
    return LCL_OK;
}

static lcl_status read_piece(const void *from, size_t first, size_t n, float *x)
{
    const struct lcl_source *s = from;
    size_t left = first < s->count ? s->count - first : 0, stored = left < n ? left : n;
    if (stored > 0) LCL_TRY(read_stored(s, first, stored, x));
    for (size_t k = stored; k < n; k++) x[k] = s->mean[(first + k) % s->width];
    return LCL_OK;
}

static lcl_status average_rows(struct lcl_source *s)
{
    enum { STEP = 2048 };
    float x[STEP];
    double *sum = calloc(s->width, sizeof *sum);
    lcl_status status = LCL_OK;
    s->mean = malloc(s->width * sizeof *s->mean);
    if (!sum || !s->mean) {
        status = LCL_FAIL(LCL_MEMORY, "no memory for a row of %zu elements", s->width);
        goto out;
    }
    for (size_t at = 0, n; at < s->count; at += n) {
        n = s->count - at < STEP ? s->count - at : STEP;
        LCL_TRY_GOTO(read_stored(s, at, n, x));
        for (size_t k = 0; k < n; k++) sum[(at + k) % s->width] += (double)x[k];
    }
    for (size_t k = 0; k < s->width; k++)
        s->mean[k] = (float)(sum[k] / (double)(s->count / s->width));
out:
    free(sum);
    return status;
}

/* ---- sources ---- */

static bool is_vocabulary(const struct lcl_param *p)
{
    return strcmp(p->name, "language_model.model.embed_tokens.weight") == 0 ||
           strcmp(p->name, "language_model.lm_head.weight") == 0;
}

/* `from`: the row as the file has it. */
static lcl_status put(struct lcl_assembly *a, const struct lcl_param *from, struct lcl_source s)
{
    const struct lcl_param *p =
        lcl_params_find((struct lcl_params *)(uintptr_t)a->table, from->name);
    if (!p) return LCL_FAIL(LCL_SHAPE, "the model that is made has no %s", from->name);
    bool same = p->n_dims == from->n_dims, longer = is_vocabulary(p);
    for (int d = 0; same && d < p->n_dims; d++)
        same = d == 0 && longer ? p->shape[0] >= from->shape[0] : p->shape[d] == from->shape[d];
    if (!same) return LCL_FAIL(LCL_SHAPE, "%s has another shape in the model made", p->name);
    struct lcl_source *slot = &a->of_row[p - a->table->rows];
    if (has_values(slot)) return LCL_FAIL(LCL_EXISTS, "%s comes from two files", p->name);
    s.count = from->count;
    s.width = (size_t)from->shape[from->n_dims - 1];
    *slot = s;
    slot->reader = (struct lcl_st_reader){read_piece, slot};
    return p->count > from->count ? average_rows(slot) : LCL_OK;
}

static lcl_status take_rows(struct lcl_assembly *a, const struct lcl_params *t, unsigned parts,
                            const struct lcl_st_tensor *const *of_row)
{
    for (int i = 0; i < t->n_rows; i++)
        if (of_row[i] && parts >> t->rows[i].part & 1u)
            LCL_TRY(put(a, &t->rows[i], (struct lcl_source){.st = of_row[i]}));
    return LCL_OK;
}

lcl_status lcl_assembly_take_hf(struct lcl_assembly *a, const char *where,
                                const struct lcl_safetensors *st,
                                const struct lcl_model_config *config, unsigned parts)
{
    const struct lcl_st_tensor **of_row = NULL;
    struct lcl_model m;
    LCL_TRY(lcl_model_create(&m, config));
    lcl_status status = lcl_hf_match(where, st, config, &m.params, parts, &of_row);
    if (status == LCL_OK) status = take_rows(a, &m.params, parts, of_row);
    free(of_row);
    lcl_model_free(&m);
    return status;
}

lcl_status lcl_assembly_take_projector(struct lcl_assembly *a, const char *file,
                                       const struct lcl_safetensors *st)
{
    const struct lcl_st_tensor **of_row;
    LCL_TRY(lcl_hf_match_projector(file, st, a->table, &of_row));
    lcl_status status = take_rows(a, a->table, 1u << LCL_PART_PROJECTOR, of_row);
    free(of_row);
    return status;
}

static lcl_status take_gguf_rows(struct lcl_assembly *a, const struct lcl_gguf *g,
                                 const struct lcl_model *m, unsigned parts)
{
    char name[LCL_PARAM_NAME_BYTES];
    for (int i = 0; i < m->params.n_rows; i++) {
        const struct lcl_param *p = &m->params.rows[i];
        if (!(parts >> p->part & 1u) || !lcl_gguf_file_name(p->name, name)) continue;
        const struct lcl_gguf_tensor *t = lcl_gguf_tensor(g, name);
        if (!t) continue; /* lcl_gguf_require_fit knows which may lack */
        const struct lcl_source s = {
            .gguf = t, .rotary_heads = lcl_gguf_rotary_heads(t->name, &m->config.text)};
        LCL_TRY(put(a, p, s));
    }
    return LCL_OK;
}

lcl_status lcl_assembly_take_gguf(struct lcl_assembly *a, const struct lcl_gguf *g,
                                  const struct lcl_model_config *config, unsigned parts)
{
    struct lcl_model m;
    LCL_TRY(lcl_model_create(&m, config));
    lcl_status status = lcl_gguf_require_fit(g, &m.params, parts);
    if (status == LCL_OK) status = take_gguf_rows(a, g, &m, parts);
    lcl_model_free(&m);
    return status;
}

/* One row by itself: what it is drawn as depends on its name alone. */
static lcl_status draw_row(const struct lcl_param *p, uint64_t seed, float **values)
{
    struct lcl_param row = *p;
    row.offset = 0;
    struct lcl_params one = {.rows = &row, .n_rows = 1, .n_elements = p->count};
    lcl_params_place(&one);
    one.value = *values = calloc(one.n_values + 1, sizeof **values);
    if (!*values) return LCL_FAIL(LCL_MEMORY, "no memory for %s", p->name);
    lcl_params_initialise(&one, seed);
    return LCL_OK;
}

lcl_status lcl_assembly_draw(struct lcl_assembly *a, bool (*wanted)(const struct lcl_param *),
                             uint64_t seed, int *n)
{
    *n = 0;
    for (int i = 0; i < a->table->n_rows; i++) {
        const struct lcl_param *p = &a->table->rows[i];
        struct lcl_source *s = &a->of_row[i];
        if (lcl_hf_is_own_row(p) || has_values(s) || !wanted(p)) continue;
        LCL_TRY(draw_row(p, seed, &s->made));
        s->count = p->count;
        s->reader = (struct lcl_st_reader){read_piece, s};
        ++*n;
    }
    return LCL_OK;
}

/* ---- writing ---- */

static lcl_dtype dtype_of(const struct lcl_source *s)
{
    if (s->st) return s->st->dtype == LCL_F64 ? LCL_F32 : s->st->dtype;
    return s->gguf ? lcl_gguf_dtype(s->gguf) : LCL_F32;
}

lcl_dtype lcl_assembly_dtype(const struct lcl_assembly *a, const char *row)
{
    const struct lcl_param *p = lcl_params_find((struct lcl_params *)(uintptr_t)a->table, row);
    return p ? dtype_of(&a->of_row[p - a->table->rows]) : LCL_F32;
}

static lcl_status check_complete(const struct lcl_assembly *a, const char *where, unsigned parts)
{
    struct lcl_misfits bad = {0};
    for (int i = 0; i < a->table->n_rows; i++) {
        const struct lcl_param *p = &a->table->rows[i];
        if (parts >> p->part & 1u && !lcl_hf_is_own_row(p) && !has_values(&a->of_row[i]))
            lcl_misfits_add(&bad, "missing: %s", p->name);
    }
    return lcl_misfits_refuse(&bad, where, "nothing is filled in that the files lack");
}

/* HF's projector always has two layers: behind a linear one stands an identity. */
struct identity {
    int64_t C;
    struct lcl_st_reader weight, bias;
};

static lcl_status read_identity(const void *from, size_t first, size_t n, float *x)
{
    const struct identity *e = from;
    for (size_t k = 0; k < n; k++) x[k] = (first + k) % ((size_t)e->C + 1) == 0 ? 1.0f : 0.0f;
    return LCL_OK;
}

static lcl_status read_zeros(const void *from, size_t first, size_t n, float *x)
{
    (void)from;
    (void)first;
    memset(x, 0, n * sizeof *x);
    return LCL_OK;
}

/* Appends the identity where the projector that is written has one layer; returns how many. */
static size_t add_identity(const struct lcl_assembly *a, unsigned parts, struct identity *e,
                           lcl_dtype dtype, struct lcl_st_item *items)
{
    struct lcl_params *t = (struct lcl_params *)(uintptr_t)a->table;
    const struct lcl_param *w = lcl_params_find(t, "multi_modal_projector.linear_1.weight");
    if (!(parts >> LCL_PART_PROJECTOR & 1u) || !w ||
        lcl_params_find(t, "multi_modal_projector.linear_2.weight"))
        return 0;
    *e = (struct identity){w->shape[0], {read_identity, e}, {read_zeros, e}};
    items[0] = (struct lcl_st_item){.name = "multi_modal_projector.linear_2.weight",
                                    .dtype = dtype,
                                    .source = LCL_DTYPE_COUNT,
                                    .n_dims = 2,
                                    .shape = {e->C, e->C},
                                    .data = &e->weight};
    if (!lcl_params_find(t, "multi_modal_projector.linear_1.bias")) return 1;
    items[1] = items[0];
    items[1].name = "multi_modal_projector.linear_2.bias";
    items[1].n_dims = 1;
    items[1].data = &e->bias;
    return 2;
}

lcl_status lcl_assembly_write(const struct lcl_assembly *a, const char *where, const char *dir,
                              const struct lcl_assembly_write_options *o)
{
    const size_t skip = o->decoder_alone ? strlen("language_model.") : 0;
    struct identity identity;
    size_t n = 0;
    LCL_TRY(check_complete(a, where, o->parts));
    struct lcl_st_item *items = calloc((size_t)a->table->n_rows + 2, sizeof *items);
    if (!items) return LCL_FAIL(LCL_MEMORY, "no memory for a list of tensors");
    for (int i = 0; i < a->table->n_rows; i++) {
        const struct lcl_param *p = &a->table->rows[i];
        const struct lcl_source *s = &a->of_row[i];
        if (!(o->parts >> p->part & 1u) || lcl_hf_is_own_row(p)) continue;
        items[n] =
            (struct lcl_st_item){.name = p->name + skip,
                                 .dtype = o->dtype < LCL_DTYPE_COUNT ? o->dtype : dtype_of(s),
                                 .source = LCL_DTYPE_COUNT,
                                 .n_dims = p->n_dims,
                                 .data = &s->reader};
        memcpy(items[n++].shape, p->shape, sizeof p->shape);
    }
    n += add_identity(a, o->parts, &identity, o->dtype < LCL_DTYPE_COUNT ? o->dtype : LCL_F32,
                      items + n);
    lcl_status status = lcl_st_write_folder(
        dir, items, n, o->max_shard_bytes ? o->max_shard_bytes : LCL_ST_SHARD_BYTES);
    free(items);
    return status;
}
