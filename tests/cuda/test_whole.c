/* Whole training steps on the CUDA backend, here in the emulator, against the same on the CPU: the
 * same episodes, the same losses. */
#include <math.h>

#include "core/log.h"
#include "cuda/cuda.h"
#include "tests/support/support.h"
#include "tests/support/tiny.h"
#include "train/class_vectors.h"
#include "train/device.h"
#include "train/features.h"
#include "train/generate.h"
#include "train/plan.h"
#include "train/refresh.h"
#include "train/step.h"

enum { MOST_STEPS = 20 };

struct course {
    double loss[MOST_STEPS], norm[MOST_STEPS];
    int64_t correct;
};

/* What ops reserved is within the plan; of it, cuBLASLt's two chunks are not there in the emulator.
 */
static void check_scratch(struct lcl_env *e, const struct lcl_config *c)
{
    struct lcl_plan p;
    const double library = strcmp(lcl_device_describe(), "emulator") == 0 ? 128 << 20 : 0;
    ASSERT_OK(lcl_plan_stage(e, c, 0, 16, &p));
    assert_true((double)lcl_cuda_scratch_bytes(&e->exec) <= p.scratch - library);
    assert_true(p.device >= p.parameters + p.gradients + p.moments + p.activations + p.scratch);
}

static const char *on_gpu = ""; /* overrides for the GPU alone */

/* The table of the pictures at 16 x 16, where a recipe draws from one. */
static void rank_classes(struct lcl_env *e, const struct lcl_config *c)
{
    const struct lcl_neighbors_options all = {.by = LCL_BY_IMAGE};
    struct lcl_class_vectors v;
    if (c->data_hard_fraction == 0) return;
    ASSERT_OK(lcl_class_vectors_pixels(e, c, 0, &v));
    ASSERT_OK(lcl_neighbors_from_classes(&e->pack, v.image_CF, NULL, v.F, &all, &e->neighbors));
    e->has_neighbors = true;
    lcl_class_vectors_free(&v);
}

/* data.refresh_neighbors, as a run does it. */
static void refresh(struct lcl_env *e, struct lcl_trainer *t, int64_t step)
{
    struct lcl_refresh r;
    if (!lcl_refresh_is_due(t->config, step)) return;
    ASSERT_OK(lcl_refresh_neighbors(e, t->config, &r));
    ASSERT_OK(lcl_source_renew_draws(&t->source));
}

/* Losses and gradient norms of some steps on a device. */
static void train(const char *device, const char *overrides, int n, bool cached, struct course *out)
{
    char words[512];
    struct lcl_config c;
    struct lcl_env e = {0};
    struct lcl_features features = {0};
    struct lcl_pictures pictures = {0};
    struct lcl_trainer t;
    snprintf(words, sizeof words, "device=%s %s %s", device, overrides,
             strcmp(device, "cuda") == 0 ? on_gpu : "");
    tiny_config(&c, words);
    ASSERT_OK(lcl_env_start(&e, &c));
    assert_string_equal(e.exec.ops->backend, device);
    ASSERT_OK(lcl_env_open_data(&e, &c));
    rank_classes(&e, &c);
    ASSERT_OK(lcl_env_make_model(&e, &c, c.task == LCL_TASK_VISION));
    if (cached) ASSERT_OK(lcl_features_open(&features, &e, &c, c.data_augment_views, NULL));
    ASSERT_OK(lcl_pictures_open(&pictures, &e.pack, &e.preprocess, &c));
    ASSERT_OK(lcl_trainer_open(&t, &e, &c, 0, cached ? &features : NULL, &pictures));
    out->correct = 0;
    for (int64_t i = 0; i < n; i++) {
        struct lcl_step_result r;
        refresh(&e, &t, i);
        ASSERT_OK(lcl_trainer_step(&t, i, n, i + 1, &r));
        out->loss[i] = r.loss;
        out->norm[i] = r.grad_norm;
        out->correct += r.label_correct;
    }
    if (e.one_at_a_time) check_scratch(&e, &c);
    lcl_trainer_close(&t);
    lcl_pictures_close(&pictures);
    if (cached) lcl_features_close(&features);
    lcl_env_close(&e);
}

static void compare(const char *overrides, int n, bool cached, double tolerance)
{
    struct course cpu, cuda;
    train("cpu", overrides, n, cached, &cpu);
    train("cuda", overrides, n, cached, &cuda);
    double worst = 0, worst_norm = 0;
    for (int i = 0; i < n; i++) {
        worst = fmax(worst, fabs(cpu.loss[i] - cuda.loss[i]) / fabs(cpu.loss[i]));
        worst_norm = fmax(worst_norm, fabs(cpu.norm[i] - cuda.norm[i]) / cpu.norm[i]);
    }
    print_message("%s: losses within %.2g, gradient norms within %.2g; %g to %g\n", overrides,
                  worst, worst_norm, cpu.loss[0], cpu.loss[n - 1]);
    assert_true(worst <= tolerance);
    assert_true(cpu.loss[0] != cpu.loss[n - 1]); /* it trains */
}

static void link_context_with_cached_features(void **state)
{
    (void)state;
    compare("freeze_vision_tower=true cache_features=true mm_image_pool=mean", MOST_STEPS, true,
            1e-4);
}

static void link_context_with_the_tower(void **state)
{
    (void)state;
    compare("freeze_vision_tower=false mm_image_pool=2x2 gradient_accumulation_steps=2", 3, false,
            1e-4);
}

/* A step that begins with a new table was not drawn ahead from the old one. */
static void tables_made_anew(void **state)
{
    (void)state;
    compare("freeze_vision_tower=false mm_image_pool=mean data.hard_fraction=1 "
            "data.num_neighbors=1 data.refresh_neighbors=2",
            7, false, 1e-4);
}

static void patches_and_checkpointing(void **state)
{
    (void)state;
    compare("freeze_vision_tower=false mm_image_pool=none gradient_checkpointing=mlp", 3, false,
            1e-4);
}

static void vision_warm_up(void **state)
{
    (void)state;
    compare("task=vision mm_image_pool=mean", 5, false, 1e-4);
}

static void language(void **state)
{
    (void)state;
    compare("task=language", 3, false, 1e-4);
}

/* bf16 rounds on its way, so courses part; STYLE's rule for single ops is in tests/ops. */
static void bf16(void **state)
{
    (void)state;
    compare("bf16=true freeze_vision_tower=false mm_image_pool=mean learning_rate=1e-4", 3, false,
            1e-2);
    if (strcmp(lcl_device_describe(), "emulator") != 0) return; /* a GPU may not be a Hopper */
    on_gpu = "attention=wgmma";
    compare("bf16=true mm_image_pool=mean learning_rate=1e-4", 3, false, 1e-2);
    on_gpu = "";
}

/* Moments in fewer bits, and bf16 values alone. Rounded by the same bits on both; the products
 * before it are not quite the same. */
static void fewer_bits(void **state)
{
    (void)state;
    const char *large = "mm_image_pool=mean freeze_vision_tower=false text.intermediate_size=160";
    char words[300];
    snprintf(words, sizeof words, "optim=adamw_8bit %s", large);
    compare(words, 5, false, 1e-4);
    snprintf(words, sizeof words, "optim=adamw_bf16 %s", large);
    compare(words, 5, false, 1e-4);
    snprintf(words, sizeof words, "optim=adamw_8bit bf16=true master_weights=none %s", large);
    compare(words, 3, false, 1e-2);
}

/* Adapters on all parts, the base as it is; in bf16 their masters are f32 whatever the base has. */
static void adapters(void **state)
{
    (void)state;
    const char *all = "lora.rank=3 lora.targets=*_proj,linear_?,fc? freeze_vision_tower=false "
                      "gradient_checkpointing=mlp";
    char words[300];
    compare("lora.rank=4 lora.dropout=0.25 cache_features=true mm_image_pool=mean", 5, true, 1e-4);
    compare(all, 3, false, 1e-4);
    snprintf(words, sizeof words, "bf16=true master_weights=none learning_rate=1e-3 %s", all);
    compare(words, 3, false, 1e-2);
}

/* Queries attend to the features of a tower that is frozen or trains, alone or through adapters. */
static void qformer(void **state)
{
    (void)state;
    compare("mm_projector_type=qformer freeze_vision_tower=true cache_features=true", 5, true,
            1e-4);
    compare("mm_projector_type=qformer freeze_vision_tower=false mm_standardize=true "
            "gradient_checkpointing=true",
            3, false, 1e-4);
    compare("mm_projector_type=qformer lora.rank=2 lora.targets=query,key,value,dense", 3, false,
            1e-4);
    compare("mm_projector_type=qformer bf16=true freeze_vision_tower=false learning_rate=1e-4", 3,
            false, 1e-2);
}

/* A base in blocks: decoded panel by panel in steps, as they are read in answers. */
static void blocks(void **state)
{
    (void)state;
    const char *all =
        "lora.rank=3 lora.targets=*_proj freeze_vision_tower=false learning_rate=1e-3";
    char words[300];
    snprintf(words, sizeof words, "lora.base=q8_0 %s", all);
    compare(words, 2, false, 1e-4);
    snprintf(words, sizeof words, "lora.base=q4_0 bf16=true master_weights=none %s", all);
    compare(words, 2, false, 1e-2);
}

/* However many lanes a step has, the host waits for the GPU once, at its end; a batch larger than
 * any before makes room besides. */
static void a_step_waits_once(void **state)
{
    (void)state;
    struct lcl_config c;
    struct lcl_env e = {0};
    struct lcl_pictures pictures = {0};
    struct lcl_trainer t;
    struct lcl_step_result r;
    tiny_config(&c, "device=cuda freeze_vision_tower=false lanes=3 gradient_accumulation_steps=2 "
                    "data.min_shots=4 data.shots=4");
    ASSERT_OK(lcl_env_start(&e, &c));
    ASSERT_OK(lcl_env_open_data(&e, &c));
    ASSERT_OK(lcl_env_make_model(&e, &c, false));
    ASSERT_OK(lcl_pictures_open(&pictures, &e.pack, &e.preprocess, &c));
    ASSERT_OK(lcl_trainer_open(&t, &e, &c, 0, NULL, &pictures));
    int once = 0;
    for (int64_t i = 0; i < 6; i++) {
        int64_t before = lcl_cuda_waits(&e.exec);
        ASSERT_OK(lcl_trainer_step(&t, i, 6, i + 1, &r));
        int64_t waits = lcl_cuda_waits(&e.exec) - before;
        if (i >= 2) assert_true(waits < t.n_lanes);
        assert_int_equal(t.next_step, i + 1 < 6 ? i + 1 : -1); /* drawn before the wait */
        once += waits == 1;
    }
    assert_true(once >= 2);
    lcl_trainer_close(&t);
    lcl_pictures_close(&pictures);
    lcl_env_close(&e);
}

/* The host's arrays may change as soon as an upload returns, though its copy may come later. More
 * is sent than a first reservation of pinned memory holds. */
static void uploads_outlive_their_source(void **state)
{
    (void)state;
    enum { N = 200000, ROUNDS = 4 };
    struct lcl_config c;
    struct lcl_env e = {0};
    struct lcl_arena arena;
    float *host = malloc(N * sizeof *host);
    assert_non_null(host);
    tiny_config(&c, "device=cuda");
    ASSERT_OK(lcl_env_start(&e, &c));
    ASSERT_OK(lcl_arena_reserve(&arena, "test", ROUNDS * N * sizeof(float)));
    float *device = LCL_ARENA_NEW(&arena, float, ROUNDS *N);
    for (int pass = 1; pass <= 2; pass++) {
        for (int k = 0; k < ROUNDS; k++) {
            for (int i = 0; i < N; i++) host[i] = (float)(pass * 1000 * k + i % 997);
            ASSERT_OK(e.exec.ops->upload_fwd(
                &e.exec, &(struct lcl_upload_args){N, LCL_F32, host, device + k * N}));
        }
        for (int k = 0; k < ROUNDS; k++) {
            ASSERT_OK(e.exec.ops->download_fwd(
                &e.exec, &(struct lcl_download_args){N, LCL_F32, device + k * N, host}));
            for (int i = 0; i < N; i++)
                if (host[i] != (float)(pass * 1000 * k + i % 997))
                    fail_msg("upload %d: element %d is %g", k, i, (double)host[i]);
        }
    }
    free(host);
    lcl_arena_free(&arena);
    lcl_env_close(&e);
}

/* ---- generation ---- */

enum { ANSWERS = 4, MAX_NEW = 12 };

/* Every seventh answer that is asked about ends: lanes end one by one. */
static lcl_status ends(void *count, int64_t run, const struct lcl_ids *so_far, bool *stop)
{
    (void)run;
    (void)so_far;
    if (++*(int *)count % 7 == 0) *stop = true;
    return LCL_OK;
}

/* Answers to the queries of one episode with one context. */
static void answer(const char *device, const char *overrides, struct lcl_sampling sampling,
                   struct lcl_ids *out)
{
    char words[512];
    struct lcl_config c;
    struct lcl_env e = {0};
    struct lcl_pictures pictures = {0};
    struct lcl_sampler sampler = {0};
    struct lcl_batch_builder *builder;
    struct lcl_generator g;
    struct lcl_episode episode;
    bool is_branch[ANSWERS + 1];
    struct lcl_ids by_run[ANSWERS + 1] = {{0}};
    snprintf(words, sizeof words, "device=%s data.queries=%d data.layout=vicuna %s", device,
             ANSWERS, overrides);
    tiny_config(&c, words);
    ASSERT_OK(lcl_env_start(&e, &c));
    ASSERT_OK(lcl_env_open_data(&e, &c));
    ASSERT_OK(lcl_env_make_model(&e, &c, false));
    ASSERT_OK(lcl_pictures_open(&pictures, &e.pack, &e.preprocess, &c));
    ASSERT_OK(lcl_sampler_init(&sampler, &c, &e.pack, NULL, LCL_SPLIT_TRAIN));
    ASSERT_OK(lcl_batch_builder_create(e.tokenizer, (enum lcl_layout)c.data_layout,
                                       lcl_tokens_per_image(&e.model.config), &builder));
    ASSERT_OK(lcl_sampler_draw(&sampler, 0, 3, 0, &episode));
    ASSERT_OK(lcl_batch_append_episode(builder, &episode, LCL_ENCODE_PROMPT,
                                       (enum lcl_supervise)c.data_supervise, NULL, 0));
    const struct lcl_batch *b = lcl_batch_builder_get(builder);
    const struct lcl_branch *branch = lcl_batch_builder_branches(builder);
    const size_t side = (size_t)e.preprocess.size;
    float *pixels = malloc((size_t)b->n_images * 3 * side * side * sizeof *pixels);
    assert_non_null(pixels);
    ASSERT_OK(lcl_pictures_read(&pictures, b->image_I, b->view_I, b->n_images, pixels));
    assert_int_equal(b->n_runs, ANSWERS + 1);
    for (int64_t r = 0; r < b->n_runs; r++) is_branch[r] = branch[r].query >= 0;
    lcl_generator_init(&g, &e.exec, &e.model);
    for (int again = 0; again < 2; again++) { /* a generator serves one batch after another */
        int count = 0;
        for (int64_t r = 0; r < b->n_runs; r++) lcl_ids_free(&by_run[r]);
        const struct lcl_generate_how how = {
            .max_new = MAX_NEW, .sampling = sampling, .token = ends, .token_ctx = &count};
        ASSERT_OK(
            lcl_generate(&g, b, &(struct lcl_images){.pixels = pixels}, is_branch, &how, by_run));
    }
    for (int64_t r = 0, n = 0; r < b->n_runs; r++)
        if (is_branch[r]) out[n++] = by_run[r];
    lcl_generator_free(&g);
    free(pixels);
    lcl_episode_free(&episode);
    lcl_batch_builder_free(builder);
    lcl_sampler_free(&sampler);
    lcl_pictures_close(&pictures);
    lcl_env_close(&e);
}

static void same_answers(const struct lcl_ids *a, const struct lcl_ids *b)
{
    for (int i = 0; i < ANSWERS; i++) {
        assert_int_equal(a[i].n, b[i].n);
        assert_memory_equal(a[i].v, b[i].v, (size_t)a[i].n * sizeof *a[i].v);
    }
}

/* Steps done again from a recording give what steps called one by one give, and the CPU. */
static void answers(void **state)
{
    (void)state;
    static const char *const recipes[] = {"", "bf16=true", "", "bf16=true",
                                          "lora.rank=2 lora.base=q4_0"};
    static const struct lcl_sampling how[] = {
        {.top_k = 0}, {.top_k = 0}, {1, 0.9f, 40, 11, 0}, {3, 1, 0, 12, 0}, {.top_k = 0}};
    for (int i = 0; i < 5; i++) {
        struct lcl_ids cpu[ANSWERS], called[ANSWERS], recorded[ANSWERS];
        int64_t shortest = MAX_NEW, longest = 0;
        answer("cpu", recipes[i], how[i], cpu);
        setenv("LCL_CUDA_GRAPH", "0", 1);
        answer("cuda", recipes[i], how[i], called);
        unsetenv("LCL_CUDA_GRAPH");
        answer("cuda", recipes[i], how[i], recorded);
        same_answers(called, recorded);
        same_answers(cpu, recorded);
        for (int k = 0; k < ANSWERS; k++) {
            shortest = cpu[k].n < shortest ? cpu[k].n : shortest;
            longest = cpu[k].n > longest ? cpu[k].n : longest;
            lcl_ids_free(&cpu[k]);
            lcl_ids_free(&called[k]);
            lcl_ids_free(&recorded[k]);
        }
        print_message("answers of %d to %d tokens\n", (int)shortest, (int)longest);
        assert_true(shortest < longest && longest > 4);
    }
}

/* A GPU too small is an error before the first step, with the keys to change; the speed that a plan
 * is made with is the device's. */
static void plans(void **state)
{
    (void)state;
    struct lcl_config c;
    struct lcl_env e = {0};
    struct lcl_plan p;
    struct lcl_plan_rates rates;
    tiny_config(&c, "device=cuda");
    ASSERT_OK(lcl_env_start(&e, &c));
    ASSERT_OK(lcl_env_open_data(&e, &c));
    ASSERT_OK(lcl_env_make_model(&e, &c, false));
    ASSERT_OK(lcl_plan_check(&e, &c, 0));
    ASSERT_OK(lcl_plan_stage(&e, &c, 0, 2, &p));
    ASSERT_OK(lcl_plan_measure(&e, &c, &p, &rates));
    assert_true(rates.flops > 0 && rates.bytes > 0);
    if (strcmp(lcl_device_describe(), "emulator") != 0) { /* whose memory can be made small */
        lcl_env_close(&e);
        return;
    }
    setenv("LCL_SIM_MEMORY", "100000", 1);
    ASSERT_FAILS(lcl_plan_check(&e, &c, 0), LCL_MEMORY, "of the GPU's memory (");
    assert_non_null(strstr(lcl_error_hint(), "per_device_train_batch_size (2)"));
    unsetenv("LCL_SIM_MEMORY");
    lcl_env_close(&e);
}

static void refuses_other_devices(void **state)
{
    (void)state;
    struct lcl_config c;
    struct lcl_env e = {0};
    tiny_config(&c, "device=cuda device_number=3");
    ASSERT_FAILS(lcl_env_start(&e, &c), LCL_UNSUPPORTED, "there is no GPU 3");
    lcl_env_close(&e);
}

int main(void)
{
    lcl_log_set_level(LCL_LOG_QUIET);
    /* The watch is tests/ops' business; without it this takes a fifth of the time. */
    setenv("LCL_SIM_CHECK", "0", 1);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(link_context_with_cached_features),
        cmocka_unit_test(link_context_with_the_tower),
        cmocka_unit_test(tables_made_anew),
        cmocka_unit_test(patches_and_checkpointing),
        cmocka_unit_test(vision_warm_up),
        cmocka_unit_test(language),
        cmocka_unit_test(bf16),
        cmocka_unit_test(fewer_bits),
        cmocka_unit_test(adapters),
        cmocka_unit_test(qformer),
        cmocka_unit_test(blocks),
        cmocka_unit_test(a_step_waits_once),
        cmocka_unit_test(uploads_outlive_their_source),
        cmocka_unit_test(answers),
        cmocka_unit_test(plans),
        cmocka_unit_test(refuses_other_devices),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
