#include "cpu/rows.h"

lcl_status LCL_CPU(rows_partial)(lcl_chunk_fn body, const void *args, int64_t n, int64_t width,
                                 int64_t partial_width, struct rows *r)
{
    int64_t least = lcl_chunk_count(n, ROW_MAX_PARTIALS), grain = rows_grain(width);
    *r = (struct rows){.args = args, .n = n, .grain = grain > least ? grain : least};
    if (partial_width > 0 && n > 0) {
        r->partial_width = (partial_width + 15) / 16 * 16; /* no shared cache lines */
        size_t bytes = (size_t)(lcl_chunk_count(n, r->grain) * r->partial_width) * sizeof(float);
        r->partial = lcl_thread_scratch(ROW_SCRATCH_PARTIAL, bytes);
        if (!r->partial) return LCL_FAIL(LCL_MEMORY, "no memory for %zu bytes of sums", bytes);
        memset(r->partial, 0, bytes);
    }
    return rows_run(body, r);
}

void LCL_CPU(rows_reduce)(const struct rows *r, int64_t offset, int64_t count, float *into)
{
    if (!into || r->n == 0) return;
    int64_t n_chunks = lcl_chunk_count(r->n, r->grain);
    const float *partial = r->partial + offset;
    for (int64_t chunk = 1; chunk < n_chunks; chunk++)
        for (int64_t i = 0; i < count; i++)
            r->partial[offset + i] += partial[chunk * r->partial_width + i];
    for (int64_t i = 0; i < count; i++) into[i] += partial[i];
}
