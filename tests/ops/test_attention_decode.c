/* Attention of single rows over a cache, against a naive double reference. */
#include <math.h>

#include "tests/support/attention.h"
#include "tests/support/fd.h"

/* The last rows of a causal sequence, asked for one at a time over a cache, and as a prefill's
 * tail. */
static void test_decode_equals_full(void **state)
{
    (void)state;
    struct attn_problem full = {.H = 6, .G = 2, .D = 48, .causal = true};
    attn_add_sequences(&full, (int32_t[]){203}, 1);
    attn_fill(&full, 8);
    struct attn_buffers b = attn_run(&full, LCL_F32, false);
    double *want = buf_read(b.out, (size_t)(full.T * full.H * full.D), LCL_F32);
    struct attn_problem decode = full;
    decode.n_runs = 4;
    for (int32_t i = 0; i < 3; i++)
        decode.runs[i] = (struct lcl_attn_run){200 + i, 201 + i, 0, 0, 0, 201 + i, i};
    decode.runs[3] = (struct lcl_attn_run){100, 200, 0, 0, 0, 200, 3};
    struct attn_buffers d = attn_run(&decode, LCL_F32, false);
    int64_t from = 100 * full.H * full.D;
    check_close("decoded rows", (float *)d.out + from, LCL_F32, want + from,
                (size_t)(103 * full.H * full.D), 3e-6);
    buf_end();
}

/* One row a run, over a cache that is the problem's own rows: out and lse against the reference,
 * and no other row touched. */
static void check_decode(struct attn_problem *p, lcl_dtype dtype)
{
    struct attn_buffers b = attn_run(p, dtype, false);
    struct attn_result want = attn_reference(p, false, false);
    const size_t width = (size_t)(p->H * p->D);
    bool *asked = calloc((size_t)p->T, sizeof *asked);
    assert_non_null(asked);
    struct attn_result plain = {0};
    if (dtype == LCL_BF16) plain = attn_reference(p, true, false);
    for (int i = 0; i < p->n_runs; i++) {
        const int64_t row = p->runs[i].q_begin, at = row * (int64_t)width;
        asked[row] = true;
        check_close("lse", b.lse + row * p->H, LCL_F32, want.lse + row * p->H, (size_t)p->H,
                    dtype == LCL_BF16 ? 1e-5 : 3e-6);
        if (dtype == LCL_BF16)
            check_bf16("out", (lcl_bf16 *)b.out + at, plain.out + at, want.out + at, width);
        else
            check_close("out", (float *)b.out + at, LCL_F32, want.out + at, width, 3e-6);
    }
    const double *out = buf_read(b.out, (size_t)p->T * width, dtype);
    for (size_t i = 0; i < (size_t)p->T * width; i++)
        assert_true(asked[i / width] || isnan(out[i]));
    free(asked);
    buf_end();
}

/* Decoding many branches of one context at once: one row each, over the context and a few own keys.
 */
static void test_decode_branches(void **state)
{
    (void)state;
    struct attn_problem p = {
        .T = 100 + 70 * 3, .H = 3, .G = 1, .D = 32, .causal = true, .n_runs = 70};
    for (int32_t i = 0; i < 70; i++) {
        int32_t own = 100 + 3 * i;
        p.runs[i] =
            (struct lcl_attn_run){own + i % 3, own + i % 3 + 1, 0, 100, own, own + i % 3 + 1, 0};
    }
    attn_fill(&p, 9);
    check_decode(&p, LCL_F32);
}

/* A sequence's last row over all of it: keys that end within a tile, and that fill several parts.
 */
static void test_decode_lengths_and_widths(void **state)
{
    (void)state;
    static const int32_t lengths[] = {1, 31, 33, 257, 600};
    static const int64_t widths[] = {4, 16, 20, 32, 48, 64, 100, 128};
    for (size_t w = 0; w < sizeof widths / sizeof *widths; w++)
        for (int dtype = 0; dtype < 2; dtype++) {
            struct attn_problem p = {.G = 2, .D = widths[w], .pad = w % 3 ? 4 : 0, .causal = w % 2};
            p.H = p.G * (1 + (int64_t)w);
            attn_add_sequences(&p, lengths, 5);
            for (int i = 0; i < p.n_runs; i++) p.runs[i].q_begin = p.runs[i].q_end - 1;
            attn_fill(&p, 20 + w);
            check_decode(&p, dtype ? LCL_BF16 : LCL_F32);
        }
}

/* Contexts of several groups with their branches, two tokens long so far: tiles of rows that hold
 * more than one group, prefixes of several parts, and runs without one. */
static void test_decode_groups(void **state)
{
    (void)state;
    static const int64_t heads[] = {1, 3, 4, 8, 17};
    static const int32_t contexts[] = {300, 0, 31, 520};
    for (size_t h = 0; h < sizeof heads / sizeof *heads; h++)
        for (int dtype = 0; dtype < 2; dtype++) {
            struct attn_problem p = {.H = 2 * heads[h], .G = 2, .D = 24, .causal = true};
            for (int32_t g = 0; g < 4; g++) {
                const int32_t from = (int32_t)p.T, to = from + contexts[g];
                p.T = to;
                for (int32_t i = 0; i < 2 + 3 * (g % 2); i++, p.T += 2)
                    p.runs[p.n_runs++] =
                        (struct lcl_attn_run){(int32_t)p.T + 1, (int32_t)p.T + 2, from, to,
                                              (int32_t)p.T,     (int32_t)p.T + 2, g};
            }
            attn_fill(&p, 40 + h);
            check_decode(&p, dtype ? LCL_BF16 : LCL_F32);
        }
}

/* More keys than the most parts of their usual length hold. */
static void test_decode_long(void **state)
{
    (void)state;
    struct attn_problem p = {.H = 2, .G = 1, .D = 4, .causal = true};
    attn_add_sequences(&p, (int32_t[]){16500}, 1);
    p.runs[0].q_begin = p.runs[0].q_end - 1;
    attn_fill(&p, 50);
    check_decode(&p, LCL_F32);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_decode_equals_full),
        cmocka_unit_test(test_decode_branches),
        cmocka_unit_test(test_decode_lengths_and_widths),
        cmocka_unit_test(test_decode_groups),
        cmocka_unit_test(test_decode_long),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
