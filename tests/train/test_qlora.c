/* Runs whose base is in blocks: what is kept, that a resumed run ends in the same bits, what is
 * refused. */
#include <math.h>

#include "checkpoint/ckpt.h"
#include "core/fs.h"
#include "core/log.h"
#include "tests/support/support.h"
#include "tests/support/tiny.h"
#include "train/env.h"
#include "train/loop.h"
#include "train/metrics.h"

static const char keys[] =
    "base: base.yaml\noutput_dir: %s/%s\nlora: {rank: 3, alpha: 6, targets: 'q_proj,mlp.*', base: "
    "%s}\nmax_steps: 8\nsave_steps: 4\nsave_total_limit: 3\nlearning_rate: 3e-3\n"
    "lr_scheduler_type: constant\n%s";

/* set: key=value, separated by a blank. */
static lcl_status train(const char *name, const char *base, const char *set, const char *stages)
{
    char yaml[2048], words[1024], *rest = NULL;
    const char *sets[8];
    int n = 0;
    bool interrupted = false;
    struct lcl_run_config *run = malloc(sizeof *run);
    assert_non_null(run);
    tiny_file("base.yaml", tiny_yaml());
    snprintf(yaml, sizeof yaml, keys, temp_dir(), name, base, stages);
    snprintf(words, sizeof words, "%s", set);
    for (char *w = strtok_r(words, " ", &rest); w; w = strtok_r(NULL, " ", &rest)) sets[n++] = w;
    lcl_status status = lcl_config_load(tiny_file("qlora.yaml", yaml), sets, n, run);
    if (status == LCL_OK) status = lcl_train_run(run, &(struct lcl_train_options){0}, &interrupted);
    assert_false(interrupted);
    free(run);
    return status;
}

/* The parameters of the last checkpoint, as they are kept. */
static void open_last(const char *name, struct lcl_env *e)
{
    char dir[400], path[LCL_CHECKPOINT_PATH_BYTES];
    struct lcl_config c;
    snprintf(dir, sizeof dir, "%s/%s", temp_dir(), name);
    ASSERT_OK(lcl_env_run_config(dir, NULL, 0, &c));
    ASSERT_OK(lcl_checkpoint_find(dir, path, sizeof path));
    *e = (struct lcl_env){0};
    ASSERT_OK(lcl_env_start(e, &c));
    ASSERT_OK(lcl_env_load_model(e, path, &c));
}

static void assert_same_params(const struct lcl_params *a, const struct lcl_params *b)
{
    assert_int_equal(a->n_coded, b->n_coded);
    assert_memory_equal(a->code, b->code, lcl_code_bytes(a->blocks, a->n_coded));
    assert_memory_equal(a->code_scale, b->code_scale, a->n_coded / LCL_BLOCK * sizeof(lcl_f16));
    for (int i = 0; i < a->n_rows; i++)
        if (!a->rows[i].in_blocks)
            assert_memory_equal(lcl_param_value(a, &a->rows[i]), lcl_param_value(b, &b->rows[i]),
                                a->rows[i].count * sizeof(float));
}

static void resumes_bit_for_bit(void **state)
{
    (void)state;
    const char *const bases[] = {"q8_0", "q4_0"};
    for (int i = 0; i < 2; i++) {
        struct lcl_env straight, resumed;
        char more[400], name[2][24], dir[400], path[LCL_CHECKPOINT_PATH_BYTES];
        struct lcl_checkpoint_row *rows;
        int n, coded = 0, moving = 0;
        snprintf(name[0], sizeof name[0], "straight%d", i);
        snprintf(name[1], sizeof name[1], "resumed%d", i);
        ASSERT_OK(train(name[0], bases[i], "", ""));
        snprintf(more, sizeof more, "resume_from_checkpoint=%s/%s/checkpoint-4", temp_dir(),
                 name[0]);
        ASSERT_OK(train(name[1], bases[i], more, ""));
        open_last(name[0], &straight);
        open_last(name[1], &resumed);
        assert_true(straight.model.params.n_coded > 0);
        assert_same_params(&straight.model.params, &resumed.model.params);
        snprintf(dir, sizeof dir, "%s/%s", temp_dir(), name[1]);
        ASSERT_OK(lcl_checkpoint_find(dir, path, sizeof path));
        assert_non_null(strstr(path, "checkpoint-8"));
        ASSERT_OK(lcl_checkpoint_list(path, &rows, &n));
        for (int k = 0; k < n; k++) {
            const bool in_blocks = lcl_is_blocks(rows[k].dtype);
            if (in_blocks) assert_int_equal(rows[k].dtype, i ? LCL_Q4_0 : LCL_Q8_0);
            assert_false(in_blocks && (rows[k].trainable || rows[k].has_moments));
            coded += in_blocks;
            moving += rows[k].trainable && rows[k].has_moments;
        }
        assert_true(coded >= 2 * 6 && moving == 2 * 2 * 4); /* q, k, v, o, gate, up; A and B */
        free(rows);
        lcl_env_close(&straight);
        lcl_env_close(&resumed);
    }
}

static void losses_of(const char *name, double loss[8])
{
    struct lcl_metrics_table t;
    char path[400];
    int n = 0;
    snprintf(path, sizeof path, "%s/%s/metrics.jsonl", temp_dir(), name);
    ASSERT_OK(lcl_metrics_load(path, &t));
    for (size_t i = 0; i < t.n; i++)
        if (strcmp(t.rows[i].kind, "train") == 0 && n < 8) loss[n++] = t.rows[i].loss;
    assert_int_equal(n, 8);
    lcl_metrics_table_free(&t);
}

/* The losses of eight steps differ from those on a plain base by less than rounding it changes one
 * loss: a step of q8_0 is 1/127 of a block's greatest, of q4_0 1/8. */
static void trains_as_on_a_plain_base(void **state)
{
    (void)state;
    static const struct {
        const char *base, *more;
        double relative;
    } runs[] = {{"plain", "", 0},
                {"q8_0", "", 1.0 / 127},
                {"q4_0", "", 1.0 / 8},
                {"q8_0", "bf16=true", 1.0 / 127},
                {"q4_0", "bf16=true master_weights=none freeze_vision_tower=false", 1.0 / 8}};
    double loss[5][8];
    for (int i = 0; i < 5; i++) {
        char name[16], set[128];
        snprintf(name, sizeof name, "near%d", i);
        snprintf(set, sizeof set, "logging_steps=1 %s", runs[i].more);
        ASSERT_OK(train(name, runs[i].base, set, ""));
        losses_of(name, loss[i]);
        assert_true(i == 0 || loss[i][0] != loss[0][0]);
        for (int k = 0; k < 8; k++)
            if (!(fabs(loss[i][k] - loss[0][k]) <= runs[i].relative * loss[0][k]))
                fail_msg("%s, step %d: %g for %g", runs[i].base, k, loss[i][k], loss[0][k]);
    }
}

/* Another kind of blocks reads what the first wrote, and a plain run what it stands for. */
static void other_kinds_read_it(void **state)
{
    (void)state;
    char more[400];
    struct lcl_env a, b;
    ASSERT_OK(train("eight", "q8_0", "", ""));
    snprintf(more, sizeof more, "init_from=%s/eight max_steps=1 learning_rate=0", temp_dir());
    ASSERT_OK(train("plain", "plain", more, ""));
    open_last("eight", &a);
    open_last("plain", &b);
    assert_int_equal(b.model.params.n_coded, 0);
    for (int i = 0; i < a.model.params.n_rows; i++) {
        float x[32 * 48];
        const struct lcl_param *p = &a.model.params.rows[i];
        if (p->count > sizeof x / sizeof *x) continue;
        lcl_param_get(&a.model.params, p, 0, p->count, x);
        assert_memory_equal(x, lcl_param_value(&b.model.params, &b.model.params.rows[i]),
                            p->count * sizeof *x);
    }
    lcl_env_close(&a);
    lcl_env_close(&b);
}

static void refuses_what_would_train(void **state)
{
    (void)state;
    ASSERT_FAILS(train("no", "q8_0", "task=vision", ""), LCL_CONFIG,
                 "task: vision and language do");
    ASSERT_FAILS(train("no", "q8_0", "lora.rank=0", ""), LCL_CONFIG, "there are no adapters");
    ASSERT_FAILS(
        train("no", "q8_0", "", "stages:\n  - {name: one}\n  - {name: two, lora.base: q4_0}\n"),
        LCL_CONFIG, "stage two has optim, master_weights, zero or lora.* of its own");
}

int main(void)
{
    lcl_log_set_level(LCL_LOG_QUIET);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(resumes_bit_for_bit),
        cmocka_unit_test(trains_as_on_a_plain_base),
        cmocka_unit_test(other_kinds_read_it),
        cmocka_unit_test(refuses_what_would_train),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
