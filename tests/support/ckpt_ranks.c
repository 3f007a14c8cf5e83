#include "tests/support/ckpt_ranks.h"

#include <sched.h>

#include "core/code8.h"
#include "core/config.h"
#include "tests/support/fake_ranks.h"
#include "tests/support/support.h"

enum { ZEROS = 3, MOST = 9000 };
void ckpt_table_free(struct ckpt_table *t)
{
    lcl_params_free(&t->params);
    lcl_arena_free(&t->values);
    lcl_arena_free(&t->moments);
}

lcl_status ckpt_table_reserve(struct ckpt_table *t)
{
    lcl_arena_measure(&t->values, "values");
    lcl_arena_measure(&t->moments, "moments");
    lcl_params_layout(&t->params, &t->values, NULL, &t->moments);
    LCL_TRY(lcl_arena_reserve(&t->values, "values", t->values.used_bytes));
    LCL_TRY(lcl_arena_reserve(&t->moments, "moments", t->moments.used_bytes));
    lcl_params_layout(&t->params, &t->values, NULL, &t->moments);
    return LCL_OK;
}

lcl_status ckpt_table_make(struct ckpt_table *t, int kind)
{
    return ckpt_table_make_share(t, kind, 0, 1);
}

lcl_status ckpt_table_make_share(struct ckpt_table *t, int kind, int rank, int size)
{
    static const struct {
        const char *name;
        int64_t rows, columns;
    } list[CKPT_ROWS] = {{"a.small", 5, 1},
                         {"a.norm", 1, 700},
                         {"b.weight", 70, 128},
                         {"c.never_trained", 9, 131},
                         {"d.weight", 80, 101}};
    *t = (struct ckpt_table){0};
    lcl_params_init(&t->params);
    t->params.states = (enum lcl_states)(kind % 3);
    t->params.share_rank = size > 1 ? rank : 0;
    t->params.share_ranks = size > 1 ? size : 0;
    t->params.bf16 = kind / 3 == 1 || kind / 3 == 2;
    t->params.no_master = kind / 3 == 2;
    t->params.blocks = kind / 3 == 3 ? LCL_Q4_0 : LCL_F32;
    for (int i = 0; i < CKPT_ROWS; i++) {
        int index;
        const struct lcl_param_spec spec = {.part = LCL_PART_TEXT, .f32 = i < 2};
        LCL_TRY(lcl_params_add(&t->params, list[i].name, 2,
                               (int64_t[]){list[i].rows, list[i].columns}, spec, &index));
        t->params.rows[i].linear = i == 2;
    }
    return ckpt_table_reserve(t);
}

void ckpt_table_fill(struct ckpt_table *t, uint64_t noise)
{
    static float x[3][MOST];
    for (int i = 0; i < CKPT_ROWS; i++) {
        struct lcl_param *p = &t->params.rows[i];
        for (int k = 0; k < 3; k++) fill_normal(x[k], p->count, 1, noise + (uint64_t)(3 * i + k));
        for (size_t k = 0; k < p->count; k++) x[2][k] *= x[2][k];
        lcl_param_put(&t->params, p, 0, p->count, x[0]);
        for (int second = 0; second < 2 && i != ZEROS; second++) {
            struct lcl_moment m = lcl_param_moment(&t->params, p, second);
            if (m.count) lcl_moment_write(&m, second, x[1 + second]);
        }
    }
    lcl_params_changed(&t->params);
}

static struct lcl_model_config model;

static void make_model(void)
{
    struct lcl_config config;
    lcl_config_defaults(&config);
    lcl_model_config_from(&config, 300, &model);
}

lcl_status ckpt_begin(struct lcl_checkpoint_saver *s, struct lcl_comm *c, const struct ckpt_task *k)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    int32_t table[] = {1, 0, 1, 0};
    pthread_once(&once, make_model);
    return lcl_checkpoint_begin(
        s, k->dir,
        &(struct lcl_run_state){.step = k->step,
                                .config_yaml = "seed: 1\n",
                                .extra_json = "{}",
                                .neighbors = table,
                                .neighbor_classes = 2,
                                .neighbor_width = 2},
        &k->table->params, &model,
        &(struct lcl_checkpoint_options){
            .keep = 2, .with_optimizer = true, .async = k->async, .share = {.comm = c}});
}

/* Of the whole table's, the elements that the share has; all values. */
static void take_share(const struct ckpt_table *whole, struct ckpt_table *share)
{
    static __thread float x[MOST];
    for (int i = 0; i < CKPT_ROWS; i++) {
        const struct lcl_param *p = &share->params.rows[i];
        lcl_param_get(&whole->params, p, 0, p->count, x);
        lcl_param_put(&share->params, p, 0, p->count, x);
        for (int second = 0; second < 2; second++) {
            struct lcl_moment to = lcl_param_moment(&share->params, p, second);
            if (to.count == 0) continue;
            const struct lcl_param *q = &whole->params.rows[i];
            struct lcl_moment from = lcl_param_moment(&whole->params, q, second);
            const size_t each = lcl_dtype_bytes(from.dtype);
            memcpy(to.x, (char *)from.x + p->own_first * each, p->own_count * each);
            if (to.B)
                memcpy(to.scale_B, from.scale_B + p->own_first / LCL_CODE8_BLOCK,
                       (size_t)to.B * sizeof(float));
        }
    }
}

static lcl_status save_polled(struct lcl_comm *c, const struct ckpt_task *k)
{
    struct lcl_checkpoint_saver *s;
    LCL_TRY(lcl_checkpoint_saver_open(&s));
    lcl_status status = ckpt_begin(s, c, k);
    if (status == LCL_OK && lcl_checkpoint_is_saving(s) != k->async)
        status = LCL_FAIL(LCL_INTERNAL, "is_saving after begin");
    while (status == LCL_OK && lcl_checkpoint_is_saving(s)) {
        sched_yield();
        status = lcl_checkpoint_poll(s);
    }
    if (status == LCL_OK && !(lcl_checkpoint_stalled_s(s) > 0))
        status = LCL_FAIL(LCL_INTERNAL, "no time passed");
    lcl_checkpoint_saver_close(s);
    return status;
}

lcl_status ckpt_save(struct lcl_comm *c, void *ctx)
{
    struct ckpt_task k = *(const struct ckpt_task *)ctx;
    struct ckpt_table share;
    if (!k.shared) return save_polled(c, &k);
    LCL_TRY(ckpt_table_make_share(&share, k.kind, lcl_comm_rank(c), lcl_comm_size(c)));
    take_share(k.table, &share);
    k.table = &share;
    lcl_status status = save_polled(c, &k);
    ckpt_table_free(&share);
    return status;
}

/* b has all elements of a, or its own. */
static lcl_status same_moments(const struct ckpt_table *a, const struct ckpt_table *b, int row)
{
    float x[2][MOST];
    const struct lcl_param *p = &b->params.rows[row];
    for (int second = 0; second < 2; second++) {
        struct lcl_moment m = lcl_param_moment(&a->params, &a->params.rows[row], second);
        struct lcl_moment n = lcl_param_moment(&b->params, p, second);
        if (m.count == 0) continue;
        lcl_moment_read(&m, second, x[0]);
        lcl_moment_read(&n, second, x[1]);
        FAKE_CHECK(n.count == (int64_t)p->own_count);
        FAKE_CHECK(memcmp(x[0] + p->own_first, x[1], p->own_count * sizeof(float)) == 0);
    }
    return LCL_OK;
}

/* Of rank c: values [first, end) are those of the original, all else is 0. */
static lcl_status same_values(const struct ckpt_table *a, const struct ckpt_table *b, int row,
                              int64_t first, int64_t end)
{
    float x[2][MOST];
    const struct lcl_param *p = &a->params.rows[row];
    lcl_param_get(&a->params, p, 0, p->count, x[0]);
    lcl_param_get(&b->params, p, 0, p->count, x[1]);
    for (int64_t k = 0; k < (int64_t)p->count; k++)
        FAKE_CHECK(k >= first && k < end ? memcmp(&x[0][k], &x[1][k], 4) == 0 : x[1][k] == 0);
    return LCL_OK;
}

static lcl_status check_loaded(struct lcl_comm *c, const struct ckpt_task *k,
                               const struct ckpt_table *t, const struct lcl_run_state_loaded *s)
{
    const int rank = lcl_comm_rank(c), size = lcl_comm_size(c);
    FAKE_CHECK(s->state.step == k->step && s->has_optimizer);
    FAKE_CHECK(strcmp(s->state.config_yaml, "seed: 1\n") == 0);
    FAKE_CHECK(strcmp(s->state.extra_json, "{}") == 0);
    FAKE_CHECK(s->state.neighbor_classes == 2 && s->state.neighbors[2] == 1);
    for (int i = 0; i < CKPT_ROWS; i++) {
        const int64_t n = (int64_t)t->params.rows[i].count;
        LCL_TRY(same_moments(k->table, t, i));
        LCL_TRY(same_values(k->table, t, i, k->values ? lcl_comm_cut(n, rank, size) : 0,
                            k->values ? lcl_comm_cut(n, rank + 1, size) : n));
    }
    return LCL_OK;
}

lcl_status ckpt_load(struct lcl_comm *c, void *ctx)
{
    const struct ckpt_task *k = ctx;
    const struct lcl_checkpoint_share share = {c, k->values};
    struct lcl_run_state_loaded s;
    struct ckpt_table t;
    char path[LCL_CHECKPOINT_PATH_BYTES];
    LCL_TRY(lcl_checkpoint_find_shared(c, k->dir, path, sizeof path));
    LCL_TRY(ckpt_table_make_share(&t, k->kind, lcl_comm_rank(c), k->shared ? lcl_comm_size(c) : 1));
    lcl_status status = lcl_checkpoint_load_shared(path, &t.params, true, &share, &s);
    if (status == LCL_OK) status = check_loaded(c, k, &t, &s);
    if (status == LCL_OK) lcl_run_state_free(&s);
    ckpt_table_free(&t);
    return status;
}
