/* Work done again: the same as calling it, with what the arrays hold by then. */
#include "tests/support/fd.h"

enum { V = 19, C = 24, H = 4, G = 2, D = 8, N = 2, KEYS = 600, STEPS = 9, FIRST = 255 };

/* One decoding step of a model of one layer without norms: the tokens' rows are queries, keys and
 * values; the next token is the likeliest by the table. */
struct decoder {
    struct lcl_exec *ex;
    int32_t id[N], row[N], index[N], next[N];
    struct lcl_attn_run run[N];
    float *table, *qkv_w, *out_w;                  /* [V, C], [(H + 2 G) D, C], [C, H D] */
    float *x, *qkv, *k_cache, *v_cache, *attn, *y; /* rows of N tokens; caches of N * KEYS rows */
    int calls;
};

static lcl_status step(void *ctx)
{
    struct decoder *d = ctx;
    const struct lcl_ops *ops = d->ex->ops;
    const int64_t W = (H + 2 * G) * D;
    d->calls++;
    struct lcl_embed_args e = {N, C, V, LCL_F32, LCL_F32, d->id, d->table, d->x, NULL, NULL};
    LCL_TRY(ops->embed_fwd(d->ex, &e));
    struct lcl_linear_args in = {.M = N,
                                 .N = W,
                                 .K = C,
                                 .dtype = LCL_F32,
                                 .weight_dtype = LCL_F32,
                                 .x_MK = d->x,
                                 .weight_NK = d->qkv_w,
                                 .y_MN = d->qkv};
    LCL_TRY(ops->linear_fwd(d->ex, &in));
    float *k = d->qkv + H * D, *v = k + G * D;
    struct lcl_kv_store_args s = {N,      G * D, W, N * KEYS,   LCL_F32,
                                  d->row, k,     v, d->k_cache, d->v_cache};
    LCL_TRY(ops->kv_store_fwd(d->ex, &s));
    struct lcl_attention_args a = {.n_runs = N,
                                   .H = H,
                                   .G = G,
                                   .D = D,
                                   .q_stride = W,
                                   .kv_stride = G * D,
                                   .out_stride = H * D,
                                   .dtype = LCL_F32,
                                   .causal = true,
                                   .scale = 0.3f,
                                   .runs = d->run,
                                   .q = d->qkv,
                                   .k = d->k_cache,
                                   .v = d->v_cache,
                                   .out = d->attn,
                                   .most_keys = KEYS};
    LCL_TRY(ops->attention_fwd(d->ex, &a));
    struct lcl_linear_args out = {.M = N,
                                  .N = C,
                                  .K = H * D,
                                  .dtype = LCL_F32,
                                  .weight_dtype = LCL_F32,
                                  .x_MK = d->attn,
                                  .weight_NK = d->out_w,
                                  .y_MN = d->y};
    LCL_TRY(ops->linear_fwd(d->ex, &out));
    struct lcl_head_xent_args h = {.T = N,
                                   .C = C,
                                   .V = V,
                                   .S = N,
                                   .dtype = LCL_F32,
                                   .weight_dtype = LCL_F32,
                                   .logit_scale = 1,
                                   .hidden_TC = d->y,
                                   .weight_VC = d->table,
                                   .row_S = d->index,
                                   .argmax_S = d->next};
    return ops->head_xent_fwd(d->ex, &h);
}

static float *numbers(size_t n, uint64_t sample)
{
    return buf_of(dbl_normal(n, 1, sample), n, LCL_F32);
}

static void set_up(struct decoder *d)
{
    *d = (struct decoder){.ex = test_exec()};
    d->table = numbers(V * C, 1);
    d->qkv_w = numbers((H + 2 * G) * D * C, 2);
    d->out_w = numbers(C * H * D, 3);
    d->k_cache = numbers(N * KEYS * G * D, 4);
    d->v_cache = numbers(N * KEYS * G * D, 5);
    d->x = buf_new(N * C, LCL_F32);
    d->qkv = buf_new(N * (H + 2 * G) * D, LCL_F32);
    d->attn = buf_new(N * H * D, LCL_F32);
    d->y = buf_new(N * C, LCL_F32);
    for (int32_t i = 0; i < N; i++) {
        d->id[i] = 3 + i;
        d->index[i] = i;
        d->run[i] = (struct lcl_attn_run){i, i + 1, 0, 0, i * KEYS, i * KEYS, i};
    }
}

/* Tokens and attention's rows of STEPS steps: keys grow by one, the second sequence's from one part
 * of its keys to two, the first one's by jumps. */
static void decode(struct lcl_recording **recording, int32_t (*token)[N], float (*attn)[N * H * D],
                   int *calls)
{
    struct decoder d;
    set_up(&d);
    for (int32_t t = 0; t < STEPS; t++) {
        for (int32_t i = 0; i < N; i++) {
            const int32_t at = i ? FIRST + t : 40 * t;
            d.row[i] = i * KEYS + at;
            d.run[i].own_end = d.row[i] + 1;
        }
        struct lcl_replay_args r = {recording, step, &d};
        ASSERT_OK(recording ? d.ex->ops->replay_fwd(d.ex, &r) : step(&d));
        ASSERT_OK(lcl_exec_sync(d.ex));
        memcpy(token[t], d.next, sizeof d.next);
        memcpy(attn[t], d.attn, sizeof attn[t]);
        memcpy(d.id, d.next, sizeof d.id);
    }
    *calls = d.calls;
    if (recording) lcl_recording_free(recording);
    buf_end();
}

static void replay_equals_calls(void **state)
{
    (void)state;
    static int32_t token[2][STEPS][N];
    static float attn[2][STEPS][N * H * D];
    struct lcl_recording *recording = NULL;
    int calls[2], changes = 0;
    decode(NULL, token[0], attn[0], &calls[0]);
    decode(&recording, token[1], attn[1], &calls[1]);
    assert_null(recording);
    assert_memory_equal(token[0], token[1], sizeof token[0]);
    assert_memory_equal(attn[0], attn[1], sizeof attn[0]);
    for (int t = 1; t < STEPS; t++) changes += token[0][t][0] != token[0][t - 1][0];
    assert_true(changes > 2); /* else the tokens say too little */
    assert_int_equal(calls[0], STEPS);
    assert_true(test_exec()->records ? calls[1] < STEPS : calls[1] == STEPS);
}

/* n rows of attention and of the head: more partial sums, and rows gathered, than a step has. */
static void larger(struct decoder *d, int64_t n)
{
    struct lcl_attn_run *runs = calloc((size_t)n, sizeof *runs);
    int32_t *row = calloc((size_t)n, sizeof *row), *most = calloc((size_t)n, sizeof *most);
    float *q = numbers((size_t)(n * H * D), 7), *out = buf_new((size_t)(n * H * D), LCL_F32);
    assert_true(runs && row && most);
    for (int32_t i = 0; i < n; i++) {
        runs[i] = (struct lcl_attn_run){i, i + 1, 0, 0, 0, 300, i};
        row[i] = i;
    }
    struct lcl_attention_args a = {.n_runs = n,
                                   .H = H,
                                   .G = G,
                                   .D = D,
                                   .q_stride = H * D,
                                   .kv_stride = G * D,
                                   .out_stride = H * D,
                                   .dtype = LCL_F32,
                                   .scale = 1,
                                   .runs = runs,
                                   .q = q,
                                   .k = d->k_cache,
                                   .v = d->v_cache,
                                   .out = out};
    ASSERT_OK(d->ex->ops->attention_fwd(d->ex, &a));
    struct lcl_head_xent_args h = {.T = n,
                                   .C = C,
                                   .V = V,
                                   .S = n,
                                   .dtype = LCL_F32,
                                   .weight_dtype = LCL_F32,
                                   .logit_scale = 1,
                                   .hidden_TC = q,
                                   .weight_VC = d->table,
                                   .row_S = row,
                                   .argmax_S = most};
    ASSERT_OK(d->ex->ops->head_xent_fwd(d->ex, &h));
    ASSERT_OK(lcl_exec_sync(d->ex));
    free(runs);
    free(row);
    free(most);
}

/* Scratch that a recording uses, and that another op needs larger, moves; the recording follows. */
static void memory_that_grows(void **state)
{
    (void)state;
    struct decoder d;
    struct lcl_recording *recording = NULL;
    int32_t want[N];
    set_up(&d);
    for (int32_t i = 0; i < N; i++) {
        d.row[i] = i * KEYS + FIRST;
        d.run[i].own_end = d.row[i] + 1;
    }
    struct lcl_replay_args r = {&recording, step, &d};
    for (int t = 0; t < 6; t++) {
        memset(d.next, 0xFF, sizeof d.next);
        ASSERT_OK(d.ex->ops->replay_fwd(d.ex, &r));
        ASSERT_OK(lcl_exec_sync(d.ex));
        if (t == 0) memcpy(want, d.next, sizeof want);
        assert_memory_equal(want, d.next, sizeof want);
        if (t % 2 == 0) larger(&d, 40 + 60 * t);
    }
    lcl_recording_free(&recording);
    buf_end();
}

/* ---- what cannot be recorded ---- */

static struct lcl_exec *now;

static lcl_status waits(void *ctx)
{
    (void)ctx;
    return lcl_exec_sync(now);
}

static lcl_status uploads(void *ctx)
{
    return now->ops->upload_fwd(now, &(struct lcl_upload_args){1, LCL_F32, (float[]){1}, ctx});
}

static lcl_status fails(void *ctx)
{
    return now->ops->zero_fwd(now, &(struct lcl_zero_args){-1, ctx});
}

static void refusals(void **state)
{
    (void)state;
    now = test_exec();
    float *x = buf_new(1, LCL_F32);
    lcl_status (*const work[])(void *) = {waits, uploads};
    const char *const words[] = {"a wait cannot be recorded", "upload cannot be recorded"};
    for (int i = 0; i < 2; i++) {
        struct lcl_recording *recording = NULL;
        struct lcl_replay_args r = {&recording, work[i], x};
        if (now->records)
            ASSERT_FAILS(now->ops->replay_fwd(now, &r), LCL_UNSUPPORTED, words[i]);
        else
            ASSERT_OK(now->ops->replay_fwd(now, &r));
        lcl_recording_free(&recording);
    }
    struct lcl_recording *recording = NULL;
    struct lcl_replay_args r = {&recording, fails, x};
    ASSERT_FAILS(now->ops->replay_fwd(now, &r), LCL_SHAPE, "zero: -1");
    ASSERT_FAILS(now->ops->replay_fwd(now, &r), LCL_SHAPE, "zero: -1");
    lcl_recording_free(&recording);
    buf_end();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(replay_equals_calls),
        cmocka_unit_test(memory_that_grows),
        cmocka_unit_test(refusals),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
