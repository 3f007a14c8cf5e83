#include "core/param.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "core/code8.h"
#include "core/comm.h"
#include "core/rng.h"

void lcl_params_init(struct lcl_params *t) { *t = (struct lcl_params){0}; }

void lcl_params_free(struct lcl_params *t)
{
    free(t->rows);
    *t = (struct lcl_params){0};
}

struct lcl_param *lcl_params_find(struct lcl_params *t, const char *name)
{
    for (int i = 0; i < t->n_rows; i++)
        if (strcmp(t->rows[i].name, name) == 0) return &t->rows[i];
    return NULL;
}

static lcl_status grow(struct lcl_params *t)
{
    if (t->n_rows < t->cap_rows) return LCL_OK;
    int cap = t->cap_rows ? 2 * t->cap_rows : 64;
    struct lcl_param *rows = realloc(t->rows, (size_t)cap * sizeof *rows);
    if (!rows) return LCL_FAIL(LCL_MEMORY, "no memory for a parameter table of %d rows", cap);
    t->rows = rows;
    t->cap_rows = cap;
    return LCL_OK;
}

static size_t align(size_t n)
{
    return (n + LCL_PARAM_ALIGN - 1) / LCL_PARAM_ALIGN * LCL_PARAM_ALIGN;
}

static int layer_of(const char *name)
{
    const char *at = strstr(name, ".layers.");
    return at ? atoi(at + strlen(".layers.")) : -1;
}

lcl_status lcl_params_add(struct lcl_params *t, const char *name, int n_dims, const int64_t *shape,
                          struct lcl_param_spec spec, int *index)
{
    if (strlen(name) >= LCL_PARAM_NAME_BYTES)
        return LCL_FAIL(LCL_RANGE, "parameter name of %zu bytes, at most %d: %s", strlen(name),
                        LCL_PARAM_NAME_BYTES - 1, name);
    if (lcl_params_find(t, name))
        return LCL_FAIL(LCL_EXISTS, "parameter %s is in the table already", name);
    LCL_TRY(grow(t));
    struct lcl_param *p = &t->rows[t->n_rows];
    *p = (struct lcl_param){.n_dims = n_dims,
                            .count = 1,
                            .layer = layer_of(name),
                            .part = spec.part,
                            .init = spec.init,
                            .init_std = spec.init_std,
                            .decay = spec.decay,
                            .f32 = spec.f32,
                            .adapter = spec.adapter,
                            .trainable = true,
                            .used = !spec.unused,
                            .follows = spec.follows};
    snprintf(p->name, sizeof p->name, "%s", name);
    for (int d = 0; d < n_dims; d++) {
        if (shape[d] <= 0 || (size_t)shape[d] > (SIZE_MAX / 64) / p->count)
            return LCL_FAIL(LCL_RANGE, "parameter %s: dimension %d is %lld", name, d,
                            (long long)shape[d]);
        p->shape[d] = shape[d];
        p->count *= (size_t)shape[d];
    }
    size_t begin = p->follows ? t->n_elements : align(t->n_elements);
    if (p->count > SIZE_MAX / 64 - begin)
        return LCL_FAIL(LCL_RANGE, "parameter %s: the table grows past 2^58 elements", name);
    p->offset = begin;
    p->own_count = p->count;
    t->n_elements = begin + p->count;
    *index = t->n_rows++;
    return LCL_OK;
}

static lcl_dtype moment_dtype(const struct lcl_params *t, const struct lcl_param *p)
{
    if (t->states == LCL_STATES_F32 || p->count < LCL_STATES_LEAST) return LCL_F32;
    return t->states == LCL_STATES_BF16 ? LCL_BF16 : LCL_U8;
}

static size_t scales_of(const struct lcl_params *t, const struct lcl_param *p)
{
    return moment_dtype(t, p) == LCL_U8 ? (size_t)lcl_code8_blocks((int64_t)p->own_count) : 0;
}

size_t lcl_param_moment_bytes(const struct lcl_params *t, const struct lcl_param *p)
{
    if (!lcl_param_has_moments(p)) return 0;
    return 2 *
           (p->own_count * lcl_dtype_bytes(moment_dtype(t, p)) + scales_of(t, p) * sizeof(float));
}

/* Codes and scales. */
static size_t coded_bytes(lcl_dtype blocks, size_t n)
{
    return lcl_code_bytes(blocks, n) + n / LCL_BLOCK * sizeof(lcl_f16);
}

size_t lcl_param_value_bytes(const struct lcl_params *t, const struct lcl_param *p)
{
    const lcl_dtype dtype = lcl_param_dtype(t, p);
    return lcl_is_blocks(dtype) ? coded_bytes(dtype, p->count) : p->count * lcl_dtype_bytes(dtype);
}

static bool has_halves(const struct lcl_params *t) { return t->bf16 && !t->no_master; }

size_t lcl_params_values_bytes(const struct lcl_params *t)
{
    return t->n_values * sizeof(float) + (t->bf16 ? t->n_elements * sizeof(lcl_bf16) : 0) +
           (has_halves(t) ? t->n_elements * sizeof(uint16_t) : 0) +
           coded_bytes(t->blocks, t->n_coded);
}

static void take_share(const struct lcl_params *t, struct lcl_param *p)
{
    const int n = t->share_ranks > 1 ? t->share_ranks : 1;
    const int64_t count = (int64_t)p->count;
    p->own_first = (size_t)lcl_comm_cut(count, t->share_rank, n);
    p->own_count = (size_t)lcl_comm_cut(count, t->share_rank + 1, n) - p->own_first;
}

static void place_row(struct lcl_params *t, struct lcl_param *p)
{
    take_share(t, p);
    size_t *flat = p->in_blocks ? &t->n_coded : &t->n_elements;
    p->offset = p->follows ? *flat : align(*flat);
    *flat = p->offset + p->count;
    if (p->in_blocks) return;
    if (!t->bf16 || p->f32) {
        p->value_at = p->follows ? t->n_values : align(t->n_values);
        t->n_values = p->value_at + p->count;
    }
    p->grad_at = p->offset;
    if (p->still) return;
    p->state_at = t->state_bytes;
    p->scale_at = t->n_scales;
    t->state_bytes = align(t->state_bytes + p->own_count * lcl_dtype_bytes(moment_dtype(t, p)));
    t->n_scales += scales_of(t, p);
}

void lcl_params_place(struct lcl_params *t)
{
    t->n_elements = t->n_coded = t->n_values = t->state_bytes = t->n_scales = 0;
    for (int i = 0; i < t->n_rows; i++) {
        struct lcl_param *p = &t->rows[i];
        p->in_blocks =
            lcl_is_blocks(t->blocks) && p->linear && p->shape[p->n_dims - 1] % LCL_BLOCK == 0;
        p->trainable &= !p->in_blocks;
        place_row(t, p);
    }
    t->n_grads = t->n_elements;
}

void lcl_params_place_grads(struct lcl_params *t)
{
    bool before = false; /* the row before moves */
    t->n_grads = 0;
    for (int i = 0; i < t->n_rows; i++) {
        struct lcl_param *p = &t->rows[i];
        const bool moves = lcl_param_moves(p);
        if (moves) {
            p->grad_at = p->follows && before ? t->n_grads : align(t->n_grads);
            t->n_grads = p->grad_at + p->count;
        }
        before = moves;
    }
}

void lcl_params_layout(struct lcl_params *t, struct lcl_arena *values, struct lcl_arena *grads,
                       struct lcl_arena *moments)
{
    lcl_params_place(t);
    t->value = LCL_ARENA_NEW(values, float, t->n_values);
    t->value16 = t->bf16 ? LCL_ARENA_NEW(values, lcl_bf16, t->n_elements) : NULL;
    t->low16 = has_halves(t) ? LCL_ARENA_NEW(values, uint16_t, t->n_elements) : NULL;
    t->code = LCL_ARENA_NEW(values, uint8_t, lcl_code_bytes(t->blocks, t->n_coded));
    t->code_scale = LCL_ARENA_NEW(values, lcl_f16, t->n_coded / LCL_BLOCK);
    t->grad = grads ? LCL_ARENA_NEW(grads, float, t->n_grads) : NULL;
    t->m = moments ? LCL_ARENA_NEW(moments, unsigned char, t->state_bytes) : NULL;
    t->v = moments ? LCL_ARENA_NEW(moments, unsigned char, t->state_bytes) : NULL;
    t->m_scale_B = moments ? LCL_ARENA_NEW(moments, float, t->n_scales) : NULL;
    t->v_scale_B = moments ? LCL_ARENA_NEW(moments, float, t->n_scales) : NULL;
}

void lcl_param_get(const struct lcl_params *t, const struct lcl_param *p, size_t first, size_t n,
                   float *x)
{
    const lcl_dtype dtype = lcl_param_dtype(t, p);
    if (lcl_param_is_split(t, p))
        lcl_f32_join(x, lcl_param_value16(t, p) + first, lcl_param_low16(t, p) + first, n);
    else if (dtype == LCL_F32)
        memcpy(x, lcl_param_value(t, p) + first, n * sizeof *x);
    else if (lcl_is_blocks(dtype))
        lcl_blocks_decode(dtype, lcl_param_code(t, p) + lcl_code_bytes(dtype, first),
                          lcl_param_scale(t, p) + first / LCL_BLOCK, n, x);
    else
        for (size_t i = 0; i < n; i++) x[i] = lcl_bf16_to_f32(lcl_param_value16(t, p)[first + i]);
}

void lcl_param_put(struct lcl_params *t, const struct lcl_param *p, size_t first, size_t n,
                   const float *x)
{
    const lcl_dtype dtype = lcl_param_dtype(t, p);
    if (lcl_param_is_split(t, p))
        lcl_f32_split(x, n, lcl_param_value16(t, p) + first, lcl_param_low16(t, p) + first);
    else if (dtype == LCL_F32)
        memcpy(lcl_param_value(t, p) + first, x, n * sizeof *x);
    else if (lcl_is_blocks(dtype))
        lcl_blocks_encode(dtype, x, n, lcl_param_code(t, p) + lcl_code_bytes(dtype, first),
                          lcl_param_scale(t, p) + first / LCL_BLOCK);
    else
        for (size_t i = 0; i < n; i++) lcl_param_value16(t, p)[first + i] = lcl_f32_to_bf16(x[i]);
}

struct lcl_moment lcl_param_moment(const struct lcl_params *t, const struct lcl_param *p,
                                   bool second)
{
    if (!lcl_param_has_moments(p)) return (struct lcl_moment){0};
    return (struct lcl_moment){.dtype = moment_dtype(t, p),
                               .x = (second ? t->v : t->m) + p->state_at,
                               .scale_B = (second ? t->v_scale_B : t->m_scale_B) + p->scale_at,
                               .count = (int64_t)p->own_count,
                               .B = (int64_t)scales_of(t, p)};
}

void lcl_moment_read(const struct lcl_moment *m, bool second, float *x)
{
    const struct lcl_code8_pair *code = lcl_code8();
    if (m->dtype == LCL_U8)
        lcl_code8_decode(second ? &code->v : &code->m, m->x, m->scale_B, m->count, x);
    else
        for (int64_t i = 0; i < m->count; i++)
            x[i] =
                m->dtype == LCL_F32 ? ((float *)m->x)[i] : lcl_bf16_to_f32(((lcl_bf16 *)m->x)[i]);
}

void lcl_moment_write(const struct lcl_moment *m, bool second, const float *x)
{
    if (m->dtype == LCL_U8) {
        lcl_code8_encode(second, x, m->count, m->x, m->scale_B);
        return;
    }
    for (int64_t i = 0; i < m->count; i++)
        if (m->dtype == LCL_F32)
            ((float *)m->x)[i] = x[i];
        else
            ((lcl_bf16 *)m->x)[i] = lcl_f32_to_bf16(x[i]);
}

static bool all_zero(const void *bytes, size_t n)
{
    const unsigned char *b = bytes;
    return n == 0 || (*b == 0 && memcmp(b, b + 1, n - 1) == 0);
}

/* Codes without a scale are 0, whatever they are. */
bool lcl_moment_is_zero(const struct lcl_moment *m)
{
    if (m->dtype == LCL_U8) return all_zero(m->scale_B, (size_t)m->B * sizeof *m->scale_B);
    return all_zero(m->x, (size_t)m->count * lcl_dtype_bytes(m->dtype));
}

static float draw(const struct lcl_param *p, struct lcl_rng *rng)
{
    switch (p->init) {
    case LCL_INIT_ZEROS:
        return 0;
    case LCL_INIT_ONES:
        return 1;
    case LCL_INIT_NORMAL:
        return p->init_std * lcl_rng_normal(rng);
    case LCL_INIT_UNIFORM:
        return p->init_std * (float)(2 * lcl_rng_uniform(rng) - 1);
    }
    return 0;
}

void lcl_params_initialise(struct lcl_params *t, uint64_t seed)
{
    enum { SOME = 4096 }; /* whole blocks */
    float x[SOME];
    for (int i = 0; i < t->n_rows; i++) {
        const struct lcl_param *p = &t->rows[i];
        struct lcl_rng rng = lcl_rng_stream(seed, LCL_RNG_INIT, 0, lcl_hash_string(p->name));
        for (size_t at = 0, n; at < p->count; at += n) {
            n = p->count - at < SOME ? p->count - at : SOME;
            for (size_t k = 0; k < n; k++) x[k] = draw(p, &rng);
            lcl_param_put(t, p, at, n, x);
        }
    }
    lcl_params_changed(t);
}

/* Pages that were never written take no memory: keep it so. */
static void clear_where_set(void *bytes, size_t n)
{
    enum { PAGE = 4096 };
    unsigned char *b = bytes;
    for (size_t at = 0; at < n; at += PAGE) {
        size_t some = n - at < PAGE ? n - at : PAGE;
        if (!all_zero(b + at, some)) memset(b + at, 0, some);
    }
}

void lcl_params_forget_moments(struct lcl_params *t)
{
    clear_where_set(t->m, t->state_bytes);
    clear_where_set(t->v, t->state_bytes);
    clear_where_set(t->m_scale_B, t->n_scales * sizeof(float));
    clear_where_set(t->v_scale_B, t->n_scales * sizeof(float));
}

void lcl_params_set_trainable(struct lcl_params *t, enum lcl_part part, bool trainable)
{
    for (int i = 0; i < t->n_rows; i++)
        if (t->rows[i].part == part) t->rows[i].trainable = trainable && !t->rows[i].in_blocks;
}

void lcl_params_set_adapting(struct lcl_params *t, bool adapting)
{
    bool any = false;
    for (int i = 0; i < t->n_rows; i++) any |= t->rows[i].adapter;
    for (int i = 0; any && i < t->n_rows; i++)
        if (t->rows[i].adapter != adapting) t->rows[i].trainable = false;
}

void lcl_params_changed(struct lcl_params *t)
{
    for (int i = 0; t->value16 && i < t->n_rows; i++) {
        const struct lcl_param *p = &t->rows[i];
        const float *value = lcl_param_value(t, p);
        lcl_bf16 *value16 = lcl_param_value16(t, p);
        for (size_t k = 0; value && k < p->count; k++) value16[k] = lcl_f32_to_bf16(value[k]);
    }
    t->version++;
}

size_t lcl_params_trainable_count(const struct lcl_params *t)
{
    size_t n = 0;
    for (int i = 0; i < t->n_rows; i++)
        if (lcl_param_moves(&t->rows[i])) n += t->rows[i].count;
    return n;
}

const char *lcl_part_name(enum lcl_part part)
{
    static const char *const names[LCL_PART_COUNT] = {"vision", "projector", "text", "head"};
    return part < LCL_PART_COUNT ? names[part] : "unknown";
}

uint64_t lcl_params_hash(const struct lcl_params *t, enum lcl_part part)
{
    enum { SOME = 4096 }; /* whole blocks */
    float x[SOME];
    uint64_t h = 0xcbf29ce484222325u;
    for (int i = 0; i < t->n_rows; i++) {
        const struct lcl_param *p = &t->rows[i];
        for (size_t at = 0, n; p->part == part && at < p->count; at += n) {
            n = p->count - at < SOME ? p->count - at : SOME;
            lcl_param_get(t, p, at, n, x);
            for (size_t k = 0; k < n; k++) {
                uint32_t word;
                memcpy(&word, &x[k], sizeof word);
                h = (h ^ word) * 0x100000001b3u;
                h ^= h >> 29;
            }
        }
    }
    return h;
}
