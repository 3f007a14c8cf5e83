#include "core/param.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

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
                            .part = spec.part,
                            .init = spec.init,
                            .init_std = spec.init_std,
                            .decay = spec.decay,
                            .trainable = true,
                            .used = !spec.unused};
    snprintf(p->name, sizeof p->name, "%s", name);
    for (int d = 0; d < n_dims; d++) {
        if (shape[d] <= 0 || (size_t)shape[d] > (SIZE_MAX / 64) / p->count)
            return LCL_FAIL(LCL_RANGE, "parameter %s: dimension %d is %lld", name, d,
                            (long long)shape[d]);
        p->shape[d] = shape[d];
        p->count *= (size_t)shape[d];
    }
    size_t begin = t->n_elements;
    if (!spec.follows) begin = (begin + LCL_PARAM_ALIGN - 1) / LCL_PARAM_ALIGN * LCL_PARAM_ALIGN;
    p->offset = begin;
    t->n_elements = begin + p->count;
    *index = t->n_rows++;
    return LCL_OK;
}

void lcl_params_layout(struct lcl_params *t, struct lcl_arena *values, struct lcl_arena *grads,
                       struct lcl_arena *moments, bool with_bf16)
{
    t->value = LCL_ARENA_NEW(values, float, t->n_elements);
    t->value16 = with_bf16 ? LCL_ARENA_NEW(values, lcl_bf16, t->n_elements) : NULL;
    t->grad = grads ? LCL_ARENA_NEW(grads, float, t->n_elements) : NULL;
    t->m = moments ? LCL_ARENA_NEW(moments, float, t->n_elements) : NULL;
    t->v = moments ? LCL_ARENA_NEW(moments, float, t->n_elements) : NULL;
}

void lcl_params_initialise(struct lcl_params *t, uint64_t seed)
{
    for (int i = 0; i < t->n_rows; i++) {
        const struct lcl_param *p = &t->rows[i];
        float *value = t->value + p->offset;
        struct lcl_rng rng = lcl_rng_stream(seed, LCL_RNG_INIT, 0, lcl_hash_string(p->name));
        for (size_t k = 0; k < p->count; k++) {
            switch (p->init) {
            case LCL_INIT_ZEROS:
                value[k] = 0;
                break;
            case LCL_INIT_ONES:
                value[k] = 1;
                break;
            case LCL_INIT_NORMAL:
                value[k] = p->init_std * lcl_rng_normal(&rng);
                break;
            }
        }
    }
    lcl_params_changed(t);
}

void lcl_params_set_trainable(struct lcl_params *t, enum lcl_part part, bool trainable)
{
    for (int i = 0; i < t->n_rows; i++)
        if (t->rows[i].part == part) t->rows[i].trainable = trainable;
}

void lcl_params_changed(struct lcl_params *t)
{
    if (t->value16)
        for (size_t i = 0; i < t->n_elements; i++) t->value16[i] = lcl_f32_to_bf16(t->value[i]);
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
    uint64_t h = 0xcbf29ce484222325u;
    for (int i = 0; i < t->n_rows; i++) {
        const struct lcl_param *p = &t->rows[i];
        if (p->part != part) continue;
        const uint32_t *words = (const uint32_t *)(const void *)(t->value + p->offset);
        for (size_t k = 0; k < p->count; k++) {
            h = (h ^ words[k]) * 0x100000001b3u;
            h ^= h >> 29;
        }
    }
    return h;
}
