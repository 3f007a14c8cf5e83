/* lcl plan's numbers against what training takes; refusals that name the keys. */
#include <math.h>

#include "tests/train/small_stage.h"

#include "train/plan_gpus.h"
#include "train/plan_trial.h"
#include "train/step.h"

enum { STEPS = 4 };

static size_t reserved(const struct lcl_trainer *t)
{
    size_t bytes = 0;
    for (int i = 0; i < t->n_passes; i++) bytes += t->pass[i].arena.size_bytes;
    return bytes;
}

static void the_plan_covers_what_training_takes(void **state)
{
    (void)state;
    struct fake f;
    struct lcl_env e;
    struct lcl_plan p;
    struct lcl_trainer t;
    struct lcl_step_result r;
    small_stage_open(&f, &e);
    ASSERT_OK(lcl_env_make_model(&e, &f.config, false));
    ASSERT_OK(lcl_plan_stage(&e, &f.config, 0, 64, &p));
    assert_int_equal(p.drawn, STEPS * 2); /* all that the stage has */
    struct lcl_features features = {
        .n_images = e.pack.n_images, .views = 1, .row = lcl_feature_rows(&e.model.config) * 16};
    features.data = calloc((size_t)(features.n_images * features.row), sizeof(float));
    ASSERT_OK(lcl_trainer_open(&t, &e, &f.config, 0, &features, NULL));
    int64_t tokens = 0;
    for (int step = 0; step < STEPS; step++) {
        ASSERT_OK(lcl_trainer_step(&t, step, STEPS, step + 1, &r));
        tokens += r.tokens;
    }
    double taken = (double)reserved(&t);
    assert_true(p.activations >= taken && p.activations < 1.5 * taken);
    assert_true(p.features == (double)(features.n_images * features.row) * 4);
    assert_true(p.tokens > 0.6 * (double)tokens / STEPS && p.tokens < 1.6 * (double)tokens / STEPS);
    assert_true(p.moments == 8 * (double)lcl_params_trainable_count(&e.model.params));
    assert_true(p.total >= p.parameters + p.gradients + p.moments + p.activations + p.features);
    lcl_trainer_close(&t);
    free(features.data);
    small_stage_close(&f, &e);
}

/* Two lanes' gradients of these elements in the adapters' 12 rows, each at a whole 1 KiB. */
static bool gradients_of(int64_t n, const struct lcl_plan *p)
{
    const double least = 2 * 4.0 * (double)n;
    return p->gradients >= least && p->gradients < least + 2 * 12 * 1024;
}

/* Codes and scales in place of what linear layers are: 18 bytes for 32 elements of 4 each, in
 * memory and on disk. */
static void blocks_in_the_plan(struct fake *f, double values, double disk)
{
    struct lcl_env e = {.pack = f->pack, .neighbors = f->neighbors, .has_neighbors = true};
    struct lcl_plan p;
    ASSERT_OK(lcl_env_start(&e, &f->config));
    e.has_pack = true;
    small_stage_set(&f->config, "lora.base", "q4_0");
    ASSERT_OK(lcl_env_shape_model(&e, &f->config, false));
    ASSERT_OK(lcl_plan_stage(&e, &f->config, 0, 16, &p));
    const double coded = (double)e.model.params.n_coded, saved = coded * (4 - 18.0 / 32);
    assert_true(coded > 0 && p.n_trainable == 3 * 2 * 2 * (32 + 32));
    if (fabs(values - p.parameters - saved) > 4096 || disk - p.checkpoint != saved)
        fail_msg("%g of %g, %g of %g for %g in blocks", p.parameters, values, p.checkpoint, disk,
                 coded);
    assert_true(gradients_of(p.n_trainable, &p));
    e.has_pack = e.has_neighbors = false;
    lcl_env_close(&e);
    small_stage_set(&f->config, "lora.base", "plain");
}

/* Of adapters alone there are gradients and moments; the base costs its forward and d_x. */
static void adapters_in_the_plan(struct fake *f, const struct lcl_plan *plain)
{
    struct lcl_env e;
    struct lcl_plan p, more;
    e = (struct lcl_env){.pack = f->pack, .neighbors = f->neighbors, .has_neighbors = true};
    ASSERT_OK(lcl_env_start(&e, &f->config));
    e.has_pack = true;
    small_stage_set(&f->config, "lora.rank", "2");
    ASSERT_OK(lcl_env_shape_model(&e, &f->config, false));
    ASSERT_OK(lcl_plan_stage(&e, &f->config, 0, 16, &p));
    assert_int_equal(p.n_trainable, 3 * 2 * 2 * (32 + 32)); /* layers, q and v, rank, A and B */
    assert_int_equal(p.n_parameters, plain->n_parameters + p.n_trainable);
    assert_true(p.moments == 8 * (double)p.n_trainable);
    assert_true(gradients_of(p.n_trainable, &p));
    assert_true(p.flops < plain->flops && p.flops > plain->flops / 2);
    double plain_values = p.parameters, plain_disk = p.checkpoint;
    e.has_pack = e.has_neighbors = false;
    lcl_env_close(&e);
    blocks_in_the_plan(f, plain_values, plain_disk);
    small_stage_set(&f->config, "lora.rank", "4");
    e = (struct lcl_env){.pack = f->pack, .neighbors = f->neighbors, .has_neighbors = true};
    ASSERT_OK(lcl_env_start(&e, &f->config));
    e.has_pack = true;
    ASSERT_OK(lcl_env_shape_model(&e, &f->config, false));
    ASSERT_OK(lcl_plan_stage(&e, &f->config, 0, 16, &more));
    assert_true(more.flops > p.flops && more.activations > p.activations);
    e.has_pack = e.has_neighbors = false;
    lcl_env_close(&e);
    small_stage_set(&f->config, "lora.rank", "0");
}

static void settings_change_the_plan(void **state)
{
    (void)state;
    struct fake f;
    struct lcl_env e;
    struct lcl_plan plain, half, other;
    small_stage_open(&f, &e);
    ASSERT_OK(lcl_env_shape_model(&e, &f.config, false));
    ASSERT_OK(lcl_plan_stage(&e, &f.config, 0, 16, &plain));
    assert_true(plain.evaluation == 0 && plain.features > 0);
    small_stage_set(&f.config, "gradient_checkpointing", "mlp");
    ASSERT_OK(lcl_plan_stage(&e, &f.config, 0, 16, &half));
    assert_true(half.activations < plain.activations && half.flops > plain.flops);
    small_stage_set(&f.config, "gradient_checkpointing", "true");
    ASSERT_OK(lcl_plan_stage(&e, &f.config, 0, 16, &other));
    assert_true(other.activations < half.activations && other.flops > half.flops);
    small_stage_set(&f.config, "gradient_checkpointing", "false");
    small_stage_set(&f.config, "freeze_text", "true");
    ASSERT_OK(lcl_plan_stage(&e, &f.config, 0, 16, &other));
    assert_true(other.n_trainable < plain.n_trainable && other.flops < plain.flops);
    assert_true(other.moments < plain.moments && other.checkpoint < plain.checkpoint);
    small_stage_set(&f.config, "freeze_text", "false");
    adapters_in_the_plan(&f, &plain);
    small_stage_set(&f.config, "cache_features", "false");
    small_stage_set(&f.config, "eval_steps", "1");
    ASSERT_OK(lcl_plan_stage(&e, &f.config, 0, 16, &other));
    assert_true(other.features == 0 && other.pictures == 90 * 3 * 16 * 16);
    assert_true(other.activations > plain.activations && other.evaluation > 0);
    assert_true(other.flops > plain.flops); /* the tower runs in every step */
    e.has_pack = false;                     /* the config's bound covers every batch drawn */
    ASSERT_OK(lcl_plan_stage(&e, &f.config, 0, 16, &other));
    assert_int_equal(other.drawn, 0);
    assert_true(other.largest.T >= plain.largest.T && other.largest.images >= plain.largest.images);
    small_stage_close(&f, &e);
}

/* The same stage for a GPU that is not here: tensors in its memory, lanes one after another. */
static void a_gpu_is_planned_without_one(void **state)
{
    (void)state;
    struct fake f;
    struct lcl_env e;
    struct lcl_plan cpu, gpu;
    small_stage_open(&f, &e);
    small_stage_set(&f.config, "gradient_checkpointing", "true");
    ASSERT_OK(lcl_env_shape_model(&e, &f.config, false));
    ASSERT_OK(lcl_plan_stage(&e, &f.config, 0, 16, &cpu));
    assert_true(cpu.device == 0 && cpu.scratch == 0);
    ASSERT_OK(lcl_plan_fits_device(&cpu, &f.config, 0, 0));
    e.one_at_a_time = true;
    small_stage_set(&f.config, "device", "cuda");
    ASSERT_OK(lcl_plan_stage(&e, &f.config, 0, 16, &gpu));
    assert_true(gpu.activations < cpu.activations && /* one of two lanes at a time, the larger */
                gpu.activations >= cpu.activations / 2);
    assert_true(gpu.device ==
                gpu.parameters + gpu.gradients + gpu.moments + gpu.activations + gpu.scratch);
    assert_true(gpu.total >= gpu.features && gpu.total < cpu.total);
    ASSERT_OK(lcl_plan_fits_device(&gpu, &f.config, gpu.device - 64, 64));
    ASSERT_FAILS(lcl_plan_fits_device(&gpu, &f.config, gpu.device - 64, 0), LCL_MEMORY,
                 "of the GPU's memory (activations ");
    assert_non_null(
        strstr(lcl_error_hint(), "lower per_device_train_batch_size (2) or data.shots"));
    small_stage_close(&f, &e);
}

/* All of LLaVA-1.5-7B's text and projector, gradients aside: 16 bytes a parameter and less. */
static void fewer_bits_take_less(void **state)
{
    (void)state;
    static const char *const optim[] = {"adamw", "adamw_bf16", "adamw_8bit"};
    const double moment_bytes[] = {8, 4, 2 * (1 + 4.0 / 256)};
    for (int i = 0; i < 6; i++) {
        struct lcl_config c;
        struct lcl_env e = {0};
        struct lcl_plan p;
        lcl_config_defaults(&c);
        small_stage_set(&c, "optim", optim[i % 3]);
        small_stage_set(&c, "bf16", "true");
        small_stage_set(&c, "master_weights", i < 3 ? "f32" : "none");
        ASSERT_OK(lcl_config_check(&c));
        ASSERT_OK(lcl_env_start(&e, &c));
        ASSERT_OK(lcl_env_shape_model(&e, &c, false));
        ASSERT_OK(lcl_plan_stage(&e, &c, 0, 4, &p));
        double n = (double)p.n_trainable, all = (double)p.n_parameters;
        assert_true(fabs(p.moments / n - moment_bytes[i % 3]) < 0.01);
        assert_true(fabs(p.parameters / all - (i < 3 ? 4 : 2)) < 0.01);
        double saved = (i < 3 ? 4 : 2) * all + moment_bytes[i % 3] * n;
        assert_true(fabs(p.checkpoint - saved) < 0.01 * all);
        lcl_env_close(&e);
    }
    struct lcl_config c;
    lcl_config_defaults(&c);
    small_stage_set(&c, "master_weights", "none");
    ASSERT_FAILS(lcl_config_check(&c), LCL_CONFIG, "but bf16 is false");
}

static void too_little_memory_names_the_keys(void **state)
{
    (void)state;
    struct fake f;
    struct lcl_env e;
    small_stage_open(&f, &e);
    small_stage_set(&f.config, "memory_limit_mib", "1");
    ASSERT_OK(lcl_env_shape_model(&e, &f.config, false));
    ASSERT_FAILS(lcl_plan_check(&e, &f.config, 0), LCL_MEMORY, "memory_limit_mib allows 1.0 MiB");
    assert_non_null(strstr(lcl_error_message(), "stage train needs "));
    assert_non_null(strstr(lcl_error_hint(), "lower per_device_train_batch_size (2) or lanes"));
    assert_non_null(strstr(lcl_error_hint(), "raise memory_limit_mib"));
    small_stage_set(&f.config, "memory_limit_mib", "1000");
    ASSERT_OK(lcl_plan_check(&e, &f.config, 0));
    small_stage_close(&f, &e);
}

/* A model that is made anew has the rows that the config says, and no fewer than the tokenizer. */
static void rows_of_the_vocabulary_are_planned(void **state)
{
    (void)state;
    struct fake f;
    struct lcl_env e;
    struct lcl_plan p;
    small_stage_open(&f, &e);
    small_stage_set(&f.config, "text.vocab_size", "32003");
    ASSERT_OK(lcl_env_shape_model(&e, &f.config, false));
    assert_int_equal(e.model.config.text.V, 32003);
    ASSERT_OK(lcl_plan_stage(&e, &f.config, 0, 4, &p));
    assert_true(p.program > 1 << 20 && p.total > p.program + p.parameters);
    small_stage_close(&f, &e);
    small_stage_open(&f, &e);
    small_stage_set(&f.config, "text.vocab_size", "3");
    ASSERT_FAILS(lcl_env_shape_model(&e, &f.config, false), LCL_CONFIG, "text.vocab_size is 3");
    small_stage_close(&f, &e);
}

/* The default shapes are LLaVA-1.5-7B's (at 224 pixels): planned without memory for it. */
static void a_model_of_seven_billion_is_planned_and_refused(void **state)
{
    (void)state;
    struct lcl_config c;
    struct lcl_env e = {0};
    struct lcl_plan p;
    lcl_config_defaults(&c);
    ASSERT_OK(lcl_env_start(&e, &c));
    ASSERT_OK(lcl_env_shape_model(&e, &c, false));
    ASSERT_OK(lcl_plan_stage(&e, &c, 0, 4, &p));
    int64_t text = 0, V = e.model.config.text.V;
    for (int i = 0; i < e.model.params.n_rows; i++)
        if (e.model.params.rows[i].part == LCL_PART_TEXT)
            text += (int64_t)e.model.params.rows[i].count;
    assert_int_equal(text, 6738415616 + 2 * (V - 32000) * 4096); /* LLaMA-7B's count */
    assert_true(p.n_parameters > text && p.parameters >= 4.0 * (double)p.n_parameters);
    assert_true(p.largest.images == 4 * 17);
    assert_true(p.largest.T > 4 * 17 * 256);
    lcl_env_close(&e);
    e = (struct lcl_env){0};
    c.memory_limit_mib = 16384;
    ASSERT_OK(lcl_env_start(&e, &c));
    ASSERT_FAILS(lcl_env_make_model(&e, &c, false), LCL_MEMORY, "memory_limit_mib allows 16");
    assert_non_null(strstr(lcl_error_hint(), "choose a smaller model"));
    lcl_env_close(&e);
    assert_true(lcl_plan_resident_bytes() < (double)((int64_t)1 << 30));
}

static void the_machine_is_measured(void **state)
{
    (void)state;
    struct fake f;
    struct lcl_env e;
    struct lcl_plan p;
    struct lcl_plan_rates r;
    small_stage_open(&f, &e);
    ASSERT_OK(lcl_env_shape_model(&e, &f.config, false));
    ASSERT_OK(lcl_plan_stage(&e, &f.config, 0, 4, &p));
    ASSERT_OK(lcl_plan_measure(&e, &f.config, &p, &r));
    assert_true(r.flops > 1e6 && r.bytes > 1e6);
    double seconds = lcl_plan_step_seconds(&p, &r);
    assert_true(seconds > 0 && seconds < 600);
    assert_true(lcl_plan_free_bytes() > 0);
    small_stage_close(&f, &e);
}

/* Twice the same stage: the model's table is as it was, without memory for it. */
static void a_stage_is_tried(void **state)
{
    (void)state;
    struct fake f;
    struct lcl_env e;
    struct lcl_plan p;
    struct lcl_plan_trial t;
    small_stage_open(&f, &e);
    ASSERT_OK(lcl_env_shape_model(&e, &f.config, false));
    for (int i = 0; i < 4; i++) {
        small_stage_set(&f.config, "cache_features", i % 2 ? "false" : "true");
        ASSERT_OK(lcl_plan_stage(&e, &f.config, 0, 16, &p));
        const double untried = p.total;
        ASSERT_OK(lcl_plan_try(&e, &f.config, 0, &p, &t));
        assert_true(t.steps >= 2 && t.cpu_s > 0 && t.cpu_s < 600);
        assert_null(e.model.values.base);
        assert_null(lcl_param_value(&e.model.params, &e.model.params.rows[0]));
        lcl_plan_set_libraries(&p, &f.config, p.libraries + 1000);
        assert_true(p.total == untried + 1000);
    }
    p.pictures = 0; /* more than are kept: they would have to be opened */
    ASSERT_OK(lcl_plan_try(&e, &f.config, 0, &p, &t));
    assert_int_equal(t.steps, 0);
    small_stage_set(&f.config, "cache_features", "true");
    p.flops = 1e12;
    ASSERT_OK(lcl_plan_try(&e, &f.config, 0, &p, &t));
    assert_int_equal(t.steps, 0);
    small_stage_close(&f, &e);
}

static bool near(double x, double y) { return fabs(x - y) <= 1e-9 * fabs(y); }

static void many_gpus_are_projected(void **state)
{
    (void)state;
    struct lcl_config c;
    const struct lcl_gpu_kind *h100;
    lcl_config_defaults(&c);
    c.bf16 = true;
    c.lanes = 8;
    c.max_steps = 1000;
    const struct lcl_plan p = {.flops = 8e15, .tokens = 8000, .n_trainable = 1000000000};
    ASSERT_FAILS(lcl_gpu_kind("h10", &h100), LCL_CONFIG, "no GPU is called \"h10\"");
    ASSERT_OK(lcl_gpu_kind("h100", &h100));
    const struct lcl_projection one = lcl_plan_project(&p, &c, h100, 1),
                                four = lcl_plan_project(&p, &c, h100, 4),
                                many = lcl_plan_project(&p, &c, h100, 64);
    assert_true(near(one.step_s, 8e15 / (0.4 * h100->bf16)));
    assert_true(one.sums_s == 0 && one.steps == 1000);
    assert_true(near(four.compute_s, one.compute_s / 4));
    assert_true(near(four.sums_s, 2 * 4e9 * 0.75 / (0.7 * h100->link_bytes)));
    assert_true(near(four.step_s, four.compute_s));     /* the backward covers the sums */
    assert_true(many.lanes == 64 && many.steps == 125); /* the same samples */
    assert_true(many.sums_s > four.sums_s);             /* over the network */
    assert_true(near(many.tokens_per_s, 64000 / many.step_s));
    c.lanes = 3; /* two GPUs: one has two lanes */
    assert_true(near(lcl_plan_project(&p, &c, h100, 2).compute_s, one.step_s * 2 / 3));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_plan_covers_what_training_takes),
        cmocka_unit_test(settings_change_the_plan),
        cmocka_unit_test(a_gpu_is_planned_without_one),
        cmocka_unit_test(fewer_bits_take_less),
        cmocka_unit_test(too_little_memory_names_the_keys),
        cmocka_unit_test(rows_of_the_vocabulary_are_planned),
        cmocka_unit_test(a_model_of_seven_billion_is_planned_and_refused),
        cmocka_unit_test(the_machine_is_measured),
        cmocka_unit_test(a_stage_is_tried),
        cmocka_unit_test(many_gpus_are_projected),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
