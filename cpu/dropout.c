/* Dropout by counted randomness: four elements a Philox block, so that a mask need not be kept. */
#include "core/rng.h"
#include "cpu/rows.h"

enum { BLOCK = 512 }; /* elements that bf16 data are widened at a time, on the stack */

struct dropout {
    const struct lcl_dropout_args *args;
    const void *in;
    void *out;
    bool accumulate;
};

/* out[j] (+)= in[j] / (1 - p), or 0, for n elements from `first`, a multiple of 4, on. */
static void drop_block(const struct dropout *d, int64_t first, int64_t n, const float *in,
                       float *out)
{
    const struct lcl_dropout_args *a = d->args;
    struct lcl_rng rng = lcl_rng_stream(a->seed, LCL_RNG_DROPOUT, a->epoch, a->stream);
    const uint32_t dropped = (uint32_t)(a->p * 4294967296.0);
    const float scale = (float)(1 / (1 - a->p));
    uint32_t word[4] = {0};
    for (int64_t j = 0; j < n; j++) {
        if (j % 4 == 0) {
            rng.counter[0] = (uint32_t)((first + j) / 4);
            lcl_philox(rng.counter, rng.key, word);
        }
        float x = word[j % 4] < dropped ? 0 : scale * in[j];
        out[j] = d->accumulate ? out[j] + x : x;
    }
}

static lcl_status drop_chunk(void *ctx, int64_t chunk)
{
    const struct rows *r = ctx;
    const struct dropout *d = r->args;
    const lcl_dtype dtype = d->args->dtype;
    float in_temp[BLOCK], out_temp[BLOCK];
    int64_t end = 4 * rows_end(r, chunk);
    if (end > d->args->count) end = d->args->count;
    for (int64_t i = 4 * rows_begin(r, chunk); i < end; i += BLOCK) {
        int64_t n = end - i < BLOCK ? end - i : BLOCK;
        float *out = row_open(d->out, dtype, i, out_temp);
        if (d->accumulate && dtype != LCL_F32) row_load(d->out, dtype, i, n, out_temp);
        drop_block(d, i, n, row_load(d->in, dtype, i, n, in_temp), out);
        row_store(d->out, dtype, i, n, out);
    }
    return LCL_OK;
}

lcl_status LCL_CPU(dropout_fwd)(struct lcl_exec *ex, const struct lcl_dropout_args *a)
{
    struct dropout d = {.args = a, .in = a->x, .out = a->y};
    (void)ex;
    LCL_TRY(lcl_check_dropout(a));
    return rows_over(drop_chunk, &d, (a->count + 3) / 4, 4);
}

lcl_status LCL_CPU(dropout_bwd)(struct lcl_exec *ex, const struct lcl_dropout_args *a)
{
    struct dropout d = {.args = a, .in = a->d_y, .out = a->d_x, .accumulate = a->accumulate_d_x};
    (void)ex;
    LCL_TRY(lcl_check_dropout(a));
    return rows_over(drop_chunk, &d, (a->count + 3) / 4, 4);
}
