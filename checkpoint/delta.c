#include "checkpoint/delta.h"

#include <stdlib.h>

#include "checkpoint/hf.h"
#include "checkpoint/misfits.h"

/* One tensor of the result; base NULL: the delta's alone. */
struct sum {
    const struct lcl_st_tensor *delta, *base;
    struct lcl_st_reader reader;
};

static lcl_status read_sum(const void *from, size_t first, size_t n, float *x)
{
    enum { STEP = 1024 };
    const struct sum *s = from;
    float more[STEP];
    size_t end = s->base ? s->base->count : 0;
    LCL_TRY(lcl_st_read(s->delta, first, n, LCL_F32, x));
    for (size_t at = first, k; at < first + n && at < end; at += k) {
        k = first + n - at < end - at ? first + n - at : end - at;
        if (k > STEP) k = STEP;
        LCL_TRY(lcl_st_read(s->base, at, k, LCL_F32, more));
        for (size_t i = 0; i < k; i++) x[at - first + i] += more[i];
    }
    return LCL_OK;
}

struct work {
    struct lcl_safetensors base, delta;
    struct sum *sums; /* [delta.n_tensors] */
    struct lcl_st_item *items;
    size_t n;
    struct lcl_misfits bad;
};

static bool is_vocabulary(const char *name)
{
    return strcmp(name, "language_model.model.embed_tokens.weight") == 0 ||
           strcmp(name, "language_model.lm_head.weight") == 0;
}

static void check_shapes(struct work *w, const char *name, const struct sum *s, bool *extended)
{
    const struct lcl_st_tensor *d = s->delta, *b = s->base;
    char has[128], wants[128];
    bool same = d->n_dims == b->n_dims;
    *extended = same && d->n_dims == 2 && is_vocabulary(name) && d->shape[0] > b->shape[0];
    for (int i = *extended; same && i < d->n_dims; i++) same = d->shape[i] == b->shape[i];
    if (!same)
        lcl_misfits_add(&w->bad, "misshapen: %.200s is %s in the delta, %s in the base", d->name,
                        lcl_st_shape_text(d->n_dims, d->shape, has, sizeof has),
                        lcl_st_shape_text(b->n_dims, b->shape, wants, sizeof wants));
    if (b->dtype > LCL_F64)
        lcl_misfits_add(&w->bad, "not floating in the base: %.200s is of type %s", b->name,
                        b->stored);
}

static lcl_status add_tensor(struct work *w, const struct lcl_st_tensor *d,
                             struct lcl_delta_counts *counts)
{
    char name[LCL_PARAM_NAME_BYTES];
    struct sum *s = &w->sums[w->n];
    bool extended = false;
    if (lcl_hf_is_buffer(d->name)) return LCL_OK;
    LCL_TRY(lcl_hf_table_name(d->name, name));
    *s = (struct sum){d, lcl_hf_find(&w->base, name), {read_sum, s}};
    if (lcl_hf_find(&w->delta, name) != d)
        lcl_misfits_add(&w->bad, "twice in the delta: %.200s", d->name);
    if (d->dtype > LCL_F64)
        lcl_misfits_add(&w->bad, "not floating: %.200s is of type %s", d->name, d->stored);
    if (s->base)
        check_shapes(w, name, s, &extended);
    else if (strncmp(name, "language_model.", 15) == 0)
        lcl_misfits_add(&w->bad, "missing in the base: %.200s", d->name);
    ++*(s->base ? &counts->added : &counts->own);
    counts->extended += extended;
    struct lcl_st_item *item = &w->items[w->n++];
    *item = (struct lcl_st_item){.name = d->name,
                                 .dtype = d->dtype == LCL_F64 ? LCL_F32 : d->dtype,
                                 .source = LCL_DTYPE_COUNT,
                                 .n_dims = d->n_dims,
                                 .data = &s->reader};
    memcpy(item->shape, d->shape, sizeof item->shape);
    return LCL_OK;
}

static lcl_status pair_tensors(struct work *w, const char *delta, struct lcl_delta_counts *counts)
{
    char name[LCL_PARAM_NAME_BYTES];
    for (size_t i = 0; i < w->delta.n_tensors; i++)
        LCL_TRY(add_tensor(w, &w->delta.tensors[i], counts));
    for (size_t i = 0; i < w->base.n_tensors; i++) {
        const char *own = w->base.tensors[i].name;
        LCL_TRY(lcl_hf_table_name(own, name));
        if (!lcl_hf_is_buffer(own) && !lcl_hf_find(&w->delta, name))
            lcl_misfits_add(&w->bad, "missing in the delta: %.200s", own);
    }
    return lcl_misfits_refuse(&w->bad, delta, "the delta is for another base");
}

lcl_status lcl_delta_apply(const char *base, const char *delta, const char *out,
                           size_t max_shard_bytes, struct lcl_delta_counts *counts)
{
    struct work w = {0};
    lcl_status status;
    *counts = (struct lcl_delta_counts){0};
    LCL_TRY_GOTO(lcl_st_open(base, &w.base));
    LCL_TRY_GOTO(lcl_st_open(delta, &w.delta));
    w.sums = calloc(w.delta.n_tensors + 1, sizeof *w.sums);
    w.items = calloc(w.delta.n_tensors + 1, sizeof *w.items);
    if (!w.sums || !w.items) {
        status = LCL_FAIL(LCL_MEMORY, "no memory for a list of %zu tensors", w.delta.n_tensors);
        goto out;
    }
    LCL_TRY_GOTO(pair_tensors(&w, delta, counts));
    status = lcl_st_write_folder(out, w.items, w.n,
                                 max_shard_bytes ? max_shard_bytes : LCL_ST_SHARD_BYTES);
out:
    free(w.sums);
    free(w.items);
    lcl_st_close(&w.base);
    lcl_st_close(&w.delta);
    return status;
}
