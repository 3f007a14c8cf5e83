/* Checkpoints of every kind of moments and values, into tables of every kind. */
#include <math.h>

#include "checkpoint/ckpt.h"
#include "core/config.h"
#include "core/h5.h"
#include "core/log.h"
#include "tests/support/support.h"

struct table {
    struct lcl_params params;
    struct lcl_arena values, moments;
};

static void free_table(struct table *t)
{
    lcl_params_free(&t->params);
    lcl_arena_free(&t->values);
    lcl_arena_free(&t->moments);
}

enum kept { F32, HALVES, BF16, KEPT };

static void keep_as(struct lcl_params *t, enum kept kept)
{
    t->bf16 = kept != F32;
    t->no_master = kept == BF16;
}

/* Rows large enough for every kind of moments, of which one is f32 in any case; states and values
 * as asked for. */
static void make_kind(struct table *t, enum lcl_states states, enum kept kept, uint64_t noise)
{
    *t = (struct table){0};
    lcl_params_init(&t->params);
    t->params.states = states;
    keep_as(&t->params, kept);
    for (int i = 0; i < 3; i++) {
        int index;
        const char *const names[] = {"a.weight", "a.norm", "b.weight"};
        ASSERT_OK(lcl_params_add(&t->params, names[i], 2, (int64_t[]){i == 1 ? 1 : 70, 81},
                                 (struct lcl_param_spec){.part = LCL_PART_TEXT, .f32 = i == 1},
                                 &index));
    }
    lcl_arena_measure(&t->values, "values");
    lcl_arena_measure(&t->moments, "moments");
    lcl_params_layout(&t->params, &t->values, NULL, &t->moments);
    ASSERT_OK(lcl_arena_reserve(&t->values, "values", t->values.used_bytes));
    ASSERT_OK(lcl_arena_reserve(&t->moments, "moments", t->moments.used_bytes));
    lcl_params_layout(&t->params, &t->values, NULL, &t->moments);
    float x[70 * 81];
    for (int i = 0; i < 3 && noise; i++) {
        struct lcl_param *p = &t->params.rows[i];
        for (int second = 0; second < 2; second++) {
            struct lcl_moment m = lcl_param_moment(&t->params, p, second);
            fill_normal(x, p->count, 1, noise + (uint64_t)(3 * i + second));
            for (size_t k = 0; k < p->count && second; k++) x[k] *= x[k];
            lcl_moment_write(&m, second, x);
        }
        fill_normal(x, p->count, 1, noise + (uint64_t)(3 * i + 2));
        lcl_param_put(&t->params, p, 0, p->count, x);
    }
}

/* How far the second table's moments and values are from the first one's, at most. */
static double apart(const struct table *a, const struct table *b)
{
    double most = 0;
    static float x[2][70 * 81];
    for (int i = 0; i < 3; i++)
        for (int which = 0; which < 3; which++) {
            const struct table *t[2] = {a, b};
            const struct lcl_param *p = &a->params.rows[i];
            for (int k = 0; k < 2; k++) {
                const struct lcl_params *q = &t[k]->params;
                struct lcl_moment m = lcl_param_moment(q, &q->rows[i], which == 1);
                if (which < 2)
                    lcl_moment_read(&m, which == 1, x[k]);
                else
                    lcl_param_get(q, &q->rows[i], 0, p->count, x[k]);
            }
            for (size_t e = 0; e < p->count; e++)
                most = fmax(most, fabs((double)x[0][e] - (double)x[1][e]));
        }
    return most;
}

/* Every kind of moments and values comes back in its own type bit for bit, and in another type as
 * near as that type is. */
static void every_kind_comes_back(void **state)
{
    (void)state;
    char dir[400], path[512];
    struct table a, b;
    struct lcl_model_config model;
    struct lcl_config c;
    snprintf(dir, sizeof dir, "%s/kinds", temp_dir());
    lcl_config_defaults(&c);
    lcl_model_config_from(&c, 300, &model);
    for (int from = 0; from < 3 * KEPT; from++) {
        make_kind(&a, (enum lcl_states)(from % 3), (enum kept)(from / 3), 70);
        ASSERT_OK(lcl_checkpoint_save(
            dir, &(struct lcl_run_state){.step = from}, &a.params, &model,
            &(struct lcl_checkpoint_options){.keep = 2, .with_optimizer = true}));
        ASSERT_OK(lcl_checkpoint_find(dir, path, sizeof path));
        for (int to = 0; to < 3 * KEPT; to++) {
            make_kind(&b, (enum lcl_states)(to % 3), (enum kept)(to / 3), 0);
            ASSERT_OK(lcl_checkpoint_load(path, &b.params, true, NULL));
            double most = apart(&a, &b);
            bool exact =
                (to / 3 != BF16 || from / 3 == BF16) && (to % 3 == 0 || to % 3 == from % 3);
            if (exact ? most != 0 : !(most > 0 && most < 0.5))
                fail_msg("from kind %d to kind %d: %g apart", from, to, most);
            if (from == to) {
                assert_memory_equal(a.params.m, b.params.m, a.params.state_bytes);
                assert_memory_equal(a.params.v, b.params.v, a.params.state_bytes);
                size_t n = a.params.n_scales * sizeof(float);
                assert_true(memcmp(a.params.m_scale_B, b.params.m_scale_B, n) == 0);
                assert_true(memcmp(a.params.v_scale_B, b.params.v_scale_B, n) == 0);
            }
            free_table(&b);
        }
        struct lcl_checkpoint_row *rows;
        int n;
        const lcl_dtype types[] = {LCL_F32, LCL_BF16, LCL_U8};
        ASSERT_OK(lcl_checkpoint_list(path, &rows, &n));
        assert_int_equal(n, 3);
        for (int i = 0; i < n; i++) {
            bool small = strcmp(rows[i].name, "a.norm") == 0;
            assert_int_equal(rows[i].dtype, from / 3 == BF16 && !small ? LCL_BF16 : LCL_F32);
            assert_int_equal(rows[i].moments, small ? LCL_F32 : types[from % 3]);
        }
        free(rows);
        free_table(&a);
    }
}

/* Values in halves are written and read in pieces: the file holds what that of an f32 table does,
 * and damage is found. */
static void halves_go_in_pieces(void **state)
{
    (void)state;
    enum { ROWS = 30, COLUMNS = 100000, COUNT = ROWS * COLUMNS }; /* 12 MB: pieces of 8 and less */
    char dir[2][400], path[2][512];
    struct table t[3];
    struct lcl_model_config model;
    struct lcl_config c;
    float *x = malloc(COUNT * sizeof *x), *y = malloc(COUNT * sizeof *y);
    assert_true(x && y);
    lcl_config_defaults(&c);
    lcl_model_config_from(&c, 300, &model);
    fill_normal(x, COUNT, 1, 11);
    for (int i = 0; i < 3; i++) {
        int index;
        t[i] = (struct table){0};
        lcl_params_init(&t[i].params);
        keep_as(&t[i].params, i ? HALVES : F32);
        ASSERT_OK(lcl_params_add(&t[i].params, "wide.weight", 2, (int64_t[]){ROWS, COLUMNS},
                                 (struct lcl_param_spec){.part = LCL_PART_TEXT}, &index));
        lcl_arena_measure(&t[i].values, "values");
        lcl_params_layout(&t[i].params, &t[i].values, NULL, NULL);
        ASSERT_OK(lcl_arena_reserve(&t[i].values, "values", t[i].values.used_bytes));
        lcl_params_layout(&t[i].params, &t[i].values, NULL, NULL);
    }
    for (int i = 0; i < 2; i++) {
        snprintf(dir[i], sizeof dir[i], "%s/pieces%d", temp_dir(), i);
        lcl_param_put(&t[i].params, t[i].params.rows, 0, COUNT, x);
        ASSERT_OK(lcl_checkpoint_save(dir[i], &(struct lcl_run_state){.step = 1}, &t[i].params,
                                      &model, &(struct lcl_checkpoint_options){.keep = 1}));
        ASSERT_OK(lcl_checkpoint_find(dir[i], path[i], sizeof path[i]));
    }
    for (int i = 0; i < 3; i++) { /* halves' file into f32; f32's and halves' into halves */
        ASSERT_OK(lcl_checkpoint_load(path[i != 1], &t[i].params, false, NULL));
        lcl_param_get(&t[i].params, t[i].params.rows, 0, COUNT, y);
        assert_memory_equal(x, y, COUNT * sizeof *x);
    }
    char file[600];
    struct lcl_h5 f;
    struct lcl_h5_set set;
    snprintf(file, sizeof file, "%s/state.h5", path[1]);
    ASSERT_OK(lcl_h5_open(file, true, &f));
    ASSERT_OK(lcl_h5_set_open(&f, "/params/wide.weight", &set));
    assert_int_equal(set.type, LCL_H5_F32);
    y[0] += 1;
    ASSERT_OK(lcl_h5_set_write(&set, ROWS - 1, 1, y));
    lcl_h5_set_close(&set);
    ASSERT_OK(lcl_h5_close(&f));
    ASSERT_FAILS(lcl_checkpoint_load(path[1], &t[2].params, false, NULL), LCL_CORRUPT,
                 "/params/wide.weight: checksum");
    for (int i = 0; i < 3; i++) free_table(&t[i]);
    free(x);
    free(y);
}

enum { BLOCK_ROWS = 9, BLOCK_COLUMNS = 64 };

/* A linear layer and another matrix, the layer in blocks of `blocks` (f32: plain). */
static void make_blocks(struct table *t, lcl_dtype blocks, bool bf16, uint64_t noise)
{
    *t = (struct table){0};
    lcl_params_init(&t->params);
    t->params.blocks = blocks;
    keep_as(&t->params, bf16 ? BF16 : F32);
    for (int i = 0; i < 2; i++) {
        int index;
        ASSERT_OK(lcl_params_add(&t->params, i ? "other.weight" : "linear.weight", 2,
                                 (int64_t[]){BLOCK_ROWS, BLOCK_COLUMNS},
                                 (struct lcl_param_spec){.part = LCL_PART_TEXT}, &index));
        t->params.rows[i].linear = i == 0;
    }
    lcl_arena_measure(&t->values, "values");
    lcl_arena_measure(&t->moments, "moments");
    lcl_params_layout(&t->params, &t->values, NULL, &t->moments);
    ASSERT_OK(lcl_arena_reserve(&t->values, "values", t->values.used_bytes));
    ASSERT_OK(lcl_arena_reserve(&t->moments, "moments", t->moments.used_bytes));
    lcl_params_layout(&t->params, &t->values, NULL, &t->moments);
    float x[BLOCK_ROWS * BLOCK_COLUMNS];
    for (int i = 0; i < 2 && noise; i++) {
        fill_normal(x, BLOCK_ROWS * BLOCK_COLUMNS, 1, noise + (uint64_t)i);
        lcl_param_put(&t->params, &t->params.rows[i], 0, BLOCK_ROWS * BLOCK_COLUMNS, x);
    }
}

/* Plain, bf16 and blocks of either kind into each other: what one can hold of the other. */
static void blocks_come_back(void **state)
{
    (void)state;
    enum { COUNT = BLOCK_ROWS * BLOCK_COLUMNS };
    static const lcl_dtype kinds[] = {LCL_F32, LCL_BF16, LCL_Q8_0, LCL_Q4_0};
    char dir[400], path[512];
    struct table a, b, c;
    struct lcl_model_config model;
    struct lcl_config config;
    struct lcl_checkpoint_row *rows;
    int n;
    snprintf(dir, sizeof dir, "%s/blocks", temp_dir());
    lcl_config_defaults(&config);
    lcl_model_config_from(&config, 300, &model);
    for (int pair = 0; pair < 16; pair++) {
        const lcl_dtype from = kinds[pair / 4], to = kinds[pair % 4];
        make_blocks(&a, lcl_is_blocks(from) ? from : LCL_F32, from == LCL_BF16, 5);
        make_blocks(&b, lcl_is_blocks(to) ? to : LCL_F32, to == LCL_BF16, 0);
        ASSERT_OK(lcl_checkpoint_save(
            dir, &(struct lcl_run_state){.step = pair}, &a.params, &model,
            &(struct lcl_checkpoint_options){.keep = 2, .with_optimizer = true}));
        ASSERT_OK(lcl_checkpoint_find(dir, path, sizeof path));
        ASSERT_OK(lcl_checkpoint_load(path, &b.params, true, NULL));
        /* what b should hold: put there as floats */
        make_blocks(&c, lcl_is_blocks(to) ? to : LCL_F32, to == LCL_BF16, 0);
        for (int i = 0; i < 2; i++) {
            float x[COUNT], want[COUNT], got[COUNT];
            lcl_param_get(&a.params, &a.params.rows[i], 0, COUNT, x);
            lcl_param_put(&c.params, &c.params.rows[i], 0, COUNT, x);
            lcl_param_get(&c.params, &c.params.rows[i], 0, COUNT, want);
            lcl_param_get(&b.params, &b.params.rows[i], 0, COUNT, got);
            assert_memory_equal(got, want, sizeof want);
        }
        if (from == to && lcl_is_blocks(to)) {
            assert_memory_equal(a.params.code, b.params.code, lcl_code_bytes(to, COUNT));
            assert_memory_equal(a.params.code_scale, b.params.code_scale, COUNT / LCL_BLOCK * 2);
        }
        ASSERT_OK(lcl_checkpoint_list(path, &rows, &n));
        assert_int_equal(n, 2);
        for (int i = 0; i < n; i++) {
            const bool linear = strcmp(rows[i].name, "linear.weight") == 0;
            assert_int_equal(rows[i].dtype, linear || from == LCL_BF16 ? from : LCL_F32);
            assert_int_equal(rows[i].shape[0], BLOCK_ROWS);
            assert_int_equal(rows[i].shape[1], BLOCK_COLUMNS);
        }
        free(rows);
        free_table(&a);
        free_table(&b);
        free_table(&c);
    }
}

int main(void)
{
    lcl_log_set_level(LCL_LOG_QUIET);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_kind_comes_back),
        cmocka_unit_test(halves_go_in_pieces),
        cmocka_unit_test(blocks_come_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
