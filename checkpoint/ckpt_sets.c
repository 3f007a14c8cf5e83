#include "checkpoint/ckpt_sets.h"

#include <stdio.h>
#include <stdlib.h>

#include "core/code8.h"
#include "core/fs.h"

void lcl_set_name(enum lcl_set_kind kind, const struct lcl_param *p, char name[LCL_SET_NAME_BYTES])
{
    static const char *const groups[LCL_SET_KINDS] = {
        "/params", "/params_scale", "/adam/m", "/adam/m_scale", "/adam/v", "/adam/v_scale"};
    snprintf(name, LCL_SET_NAME_BYTES, "%s/%s", groups[kind], p->name);
}

lcl_h5_type lcl_set_type(lcl_dtype dtype)
{
    return dtype == LCL_F32 ? LCL_H5_F32 : dtype == LCL_BF16 ? LCL_H5_U16 : LCL_H5_U8;
}

size_t lcl_set_bytes(enum lcl_set_kind kind, lcl_dtype dtype, size_t n)
{
    if (kind == LCL_SET_VALUE_SCALE) return n / LCL_BLOCK * sizeof(lcl_f16);
    if (kind == LCL_SET_M_SCALE || kind == LCL_SET_V_SCALE)
        return (size_t)lcl_code8_blocks((int64_t)n) * sizeof(float);
    return lcl_is_blocks(dtype) ? lcl_code_bytes(dtype, n) : n * lcl_dtype_bytes(dtype);
}

struct lcl_set_range lcl_set_own(const struct lcl_param *p, int rank, int size)
{
    const int64_t first = lcl_comm_cut((int64_t)p->count, rank, size);
    const int64_t end = lcl_comm_cut((int64_t)p->count, rank + 1, size);
    return (struct lcl_set_range){(size_t)first, (size_t)(end - first)};
}

size_t lcl_set_own_bytes(const struct lcl_params *t, const struct lcl_set_part *s, int rank,
                         int size, size_t *at)
{
    const struct lcl_set_range own = lcl_set_own(&t->rows[s->row], rank, size);
    *at = lcl_set_bytes(s->kind, s->dtype, own.first);
    return lcl_set_bytes(s->kind, s->dtype, own.first + own.count) - *at;
}

void lcl_sets_join(const struct lcl_params *t, struct lcl_set_list *list, const uint32_t *crc_RN,
                   int size)
{
    for (int i = 0; i < list->n; i++) {
        uint32_t crc = 0;
        for (int r = 0; r < size; r++) {
            size_t at, bytes = lcl_set_own_bytes(t, &list->part[i], r, size, &at);
            crc = lcl_crc32c_combine(crc, crc_RN[(size_t)r * (size_t)list->n + (size_t)i], bytes);
        }
        list->part[i].crc = crc;
    }
}

/* ---- what there is to write ---- */

struct listing {
    const struct lcl_params *t;
    struct lcl_set_list *list;
    int rank, size;
};

/* from: of the whole row; halves have none. */
static void add(const struct listing *l, int row, enum lcl_set_kind kind, lcl_dtype dtype,
                const void *from)
{
    struct lcl_set_part *s = &l->list->part[l->list->n++];
    size_t at;
    *s = (struct lcl_set_part){.row = row, .kind = kind, .dtype = dtype, .offset = -1};
    (void)lcl_set_own_bytes(l->t, s, l->rank, l->size, &at);
    if (from) s->from = (const unsigned char *)from + at;
}

static void add_value(const struct listing *l, int row)
{
    const struct lcl_param *p = &l->t->rows[row];
    const lcl_dtype dtype = lcl_param_dtype(l->t, p);
    if (p->in_blocks) {
        add(l, row, LCL_SET_VALUE_SCALE, dtype, lcl_param_scale(l->t, p));
        add(l, row, LCL_SET_VALUE, dtype, lcl_param_code(l->t, p));
        return;
    }
    const float *value = lcl_param_value(l->t, p);
    const bool split = lcl_param_is_split(l->t, p);
    add(l, row, LCL_SET_VALUE, dtype,
        split   ? NULL
        : value ? (const void *)value
                : lcl_param_value16(l->t, p));
}

/* Arrays of moments have all elements of a row, or this rank's own. */
static lcl_status add_moment(const struct listing *l, int row, bool second)
{
    const struct lcl_param *p = &l->t->rows[row];
    const struct lcl_moment m = lcl_param_moment(l->t, p, second);
    const struct lcl_set_range own = lcl_set_own(p, l->rank, l->size);
    const bool whole = m.count == (int64_t)p->count;
    const enum lcl_set_kind kind = second ? LCL_SET_V : LCL_SET_M;
    if (!whole && m.count != (int64_t)own.count)
        return LCL_FAIL(LCL_INTERNAL, "%s: moments of %lld elements, of its own are %zu", p->name,
                        (long long)m.count, own.count);
    for (int scale = 0; scale <= (m.dtype == LCL_U8); scale++) {
        enum lcl_set_kind of = scale ? kind + 1 : kind;
        add(l, row, of, m.dtype, scale ? (void *)m.scale_B : m.x);
        if (!whole) l->list->part[l->list->n - 1].from = scale ? (void *)m.scale_B : m.x;
    }
    return LCL_OK;
}

/* Moments of rows that never trained are zero and need no room: on all ranks, or on none. */
static lcl_status find_zeros(struct lcl_comm *comm, const struct lcl_params *t,
                             unsigned char *zero_R)
{
    const size_t size = (size_t)lcl_comm_size(comm), n = (size_t)t->n_rows;
    unsigned char *all = malloc(size * n + 1);
    if (!all) return LCL_FAIL(LCL_MEMORY, "no memory for a list of rows");
    for (size_t i = 0; i < n; i++) {
        const struct lcl_param *p = &t->rows[i];
        zero_R[i] = true;
        if (!lcl_param_has_moments(p)) continue;
        struct lcl_moment m = lcl_param_moment(t, p, false), v = lcl_param_moment(t, p, true);
        zero_R[i] = lcl_moment_is_zero(&m) && lcl_moment_is_zero(&v);
    }
    lcl_status status = lcl_comm_all_gather(comm, "rows with moments", zero_R, n, all);
    for (size_t i = 0; i < n; i++)
        for (size_t r = 0; r < size && status == LCL_OK; r++) zero_R[i] &= all[r * n + i];
    free(all);
    return status;
}

lcl_status lcl_sets_list(struct lcl_comm *comm, const struct lcl_params *t, bool with_moments,
                         struct lcl_set_list *list)
{
    const struct listing l = {t, list, lcl_comm_rank(comm), lcl_comm_size(comm)};
    unsigned char *zero = malloc((size_t)t->n_rows + 1);
    *list = (struct lcl_set_list){0};
    list->part = malloc((size_t)t->n_rows * LCL_SET_KINDS * sizeof *list->part + 1);
    lcl_status status =
        zero && list->part ? LCL_OK : LCL_FAIL(LCL_MEMORY, "no memory for a list of datasets");
    if (status == LCL_OK && with_moments) status = find_zeros(comm, t, zero);
    for (int i = 0; i < t->n_rows && status == LCL_OK; i++) {
        add_value(&l, i);
        if (!with_moments || zero[i]) continue;
        status = add_moment(&l, i, false);
        if (status == LCL_OK) status = add_moment(&l, i, true);
    }
    free(zero);
    if (status != LCL_OK) lcl_sets_free(list);
    return status;
}

void lcl_sets_free(struct lcl_set_list *list)
{
    free(list->part);
    *list = (struct lcl_set_list){0};
}
