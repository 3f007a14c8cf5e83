/* Ways of computing the same thing give the same thing: what is shared, cached, packed, cut in
 * lanes or recomputed changes no result. */
#include "tests/support/support.h"

#include <math.h>

#include "core/log.h"
#include "core/threads.h"
#include "tests/support/tiny.h"
#include "train/generate.h"
#include "train/step.h"

/* ---- a model with a batch builder ---- */

struct bench {
    struct lcl_config config;
    struct lcl_env env;
    struct lcl_pictures pictures;
    struct lcl_sampler sampler;
    struct lcl_batch_builder *builder;
    struct lcl_pass pass;
    struct lcl_sampling sampling; /* of answers */
    float *grad, *pixels;
};

static void set_up(struct bench *b, const char *overrides)
{
    memset(b, 0, sizeof *b);
    tiny_config(&b->config, overrides);
    ASSERT_OK(lcl_env_start(&b->env, &b->config));
    ASSERT_OK(lcl_env_open_data(&b->env, &b->config));
    ASSERT_OK(lcl_env_make_model(&b->env, &b->config, false));
    ASSERT_OK(lcl_pictures_open(&b->pictures, &b->env.pack, &b->env.preprocess, &b->config));
    ASSERT_OK(lcl_sampler_init(&b->sampler, &b->config, &b->env.pack, NULL, LCL_SPLIT_TRAIN));
    ASSERT_OK(lcl_batch_builder_create(b->env.tokenizer, (enum lcl_layout)b->config.data_layout,
                                       lcl_tokens_per_image(&b->env.model.config), &b->builder));
    b->grad = calloc(b->env.model.params.n_elements, sizeof *b->grad);
    assert_non_null(b->grad);
    b->pass = (struct lcl_pass){.exec = &b->env.exec,
                                .model = &b->env.model,
                                .train_vision = true,
                                .train_projector = true,
                                .train_text = true};
}

static void tear_down(struct bench *b)
{
    lcl_pass_free(&b->pass);
    lcl_batch_builder_free(b->builder);
    lcl_sampler_free(&b->sampler);
    lcl_pictures_close(&b->pictures);
    lcl_env_close(&b->env);
    free(b->grad);
    free(b->pixels);
}

static struct lcl_images read_images(struct bench *b, const struct lcl_batch *batch)
{
    int64_t S = b->env.preprocess.size;
    free(b->pixels);
    b->pixels = malloc((size_t)(batch->n_images * 3 * S * S) * sizeof *b->pixels);
    assert_non_null(b->pixels);
    ASSERT_OK(
        lcl_pictures_read(&b->pictures, batch->image_I, batch->view_I, batch->n_images, b->pixels));
    return (struct lcl_images){.pixels = b->pixels};
}

static void append(struct bench *b, const struct lcl_episode *e, enum lcl_encode_mode mode)
{
    ASSERT_OK(lcl_batch_append_episode(b->builder, e, mode,
                                       (enum lcl_supervise)b->config.data_supervise, NULL, 0));
}

/* Forward and backward of the batch in the builder; gradients are added to grad, the loss is
 * returned. */
static double step(struct bench *b, float *grad)
{
    const struct lcl_batch *batch = lcl_batch_builder_get(b->builder);
    struct lcl_images images = read_images(b, batch);
    double loss;
    b->pass.grad = grad;
    ASSERT_OK(lcl_model_step(&b->pass, batch, &images, 1, &loss, NULL));
    b->pass.grad = NULL;
    return loss;
}

/* The episode with one of its queries. */
static struct lcl_episode with_query(const struct lcl_episode *e, int query)
{
    struct lcl_episode one = *e;
    one.queries = &e->queries[query];
    one.n_queries = 1;
    return one;
}

/* Each parameter's gradients differ by at most 1e-5 of the larger of its own norm and 1e-3 of the
 * whole's: below that stands the rounding of sums of larger terms. */
static void assert_same_grads(const struct bench *b, const float *wanted, const float *got)
{
    const struct lcl_params *t = &b->env.model.params;
    double all = 0;
    for (size_t i = 0; i < t->n_elements; i++) all += (double)wanted[i] * (double)wanted[i];
    assert_true(all > 0);
    for (int r = 0; r < t->n_rows; r++) {
        double norm = 0, apart = 0;
        for (size_t i = t->rows[r].offset; i < t->rows[r].offset + t->rows[r].count; i++) {
            double d = (double)wanted[i] - (double)got[i];
            norm += (double)wanted[i] * (double)wanted[i];
            apart += d * d;
        }
        if (sqrt(apart) > 1e-5 * fmax(sqrt(norm), 1e-3 * sqrt(all)))
            fail_msg("%s: gradients of norm %g are %g apart", t->rows[r].name, sqrt(norm),
                     sqrt(apart));
    }
}

static void assert_near(double wanted, double got, double relative)
{
    if (!(fabs(wanted - got) <= relative * fabs(wanted)))
        fail_msg("%.9g instead of %.9g", got, wanted);
}

/* ---- shared prefixes and packing ---- */

static void shared_prefix_equals_separate(const char *overrides)
{
    struct bench b;
    struct lcl_episode e;
    enum { Q = 3 };
    set_up(&b, overrides);
    float *separate = calloc(b.env.model.params.n_elements, sizeof *separate);
    assert_non_null(separate);
    ASSERT_OK(lcl_sampler_draw(&b.sampler, 0, 5, 0, &e));
    assert_int_equal(e.n_queries, Q);
    append(&b, &e, LCL_ENCODE_TRAIN);
    const struct lcl_batch *batch = lcl_batch_builder_get(b.builder);
    assert_true(batch->n_runs == 1 + Q);
    int32_t context = batch->runs[0].q_end;
    double shared = step(&b, b.grad), sum = 0;
    bool last = b.config.data_supervise == LCL_SUPERVISE_LAST;
    int64_t context_rows = 0;
    for (int q = 0; q < Q; q++) {
        struct lcl_episode one = with_query(&e, q);
        lcl_batch_builder_reset(b.builder);
        append(&b, &one, LCL_ENCODE_TRAIN);
        batch = lcl_batch_builder_get(b.builder);
        assert_true(batch->n_runs == 1);
        /* Shared, the context's terms count once for all queries. */
        for (int64_t s = 0; s < batch->S; s++) {
            bool in_context = batch->row_S[s] < context - 1;
            context_rows += in_context;
            if (last || in_context) batch->weight_S[s] /= (float)Q;
        }
        sum += step(&b, separate);
    }
    assert_true(last ? context_rows == 0 : context_rows > 0);
    assert_near(sum, shared, 1e-5);
    assert_same_grads(&b, separate, b.grad);
    free(separate);
    lcl_episode_free(&e);
    tear_down(&b);
}

static void shared_prefix_last(void **state)
{
    (void)state;
    shared_prefix_equals_separate("data.queries=3 data.supervise=last");
}

static void shared_prefix_repeats(void **state)
{
    (void)state;
    shared_prefix_equals_separate("data.queries=3 data.supervise=repeats data.layout=vicuna");
}

/* The last layer goes on with the supervised rows alone, or with all. */
static void wanted_rows_equal_all(void **state)
{
    (void)state;
    const enum lcl_checkpointing ways[] = {LCL_CHECKPOINT_NONE, LCL_CHECKPOINT_MLP,
                                           LCL_CHECKPOINT_LAYERS};
    for (size_t i = 0; i < sizeof ways / sizeof *ways; i++) {
        struct bench b;
        struct lcl_episode e;
        set_up(&b, "data.supervise=repeats");
        b.pass.checkpointing = ways[i];
        float *all = calloc(b.env.model.params.n_elements, sizeof *all);
        assert_non_null(all);
        ASSERT_OK(lcl_sampler_draw(&b.sampler, 0, 5, 0, &e));
        append(&b, &e, LCL_ENCODE_TRAIN);
        double some_loss = step(&b, b.grad);
        assert_true(b.pass.text.R > 0 && b.pass.text.R < b.pass.text.T);
        b.pass.all_rows = true;
        double all_loss = step(&b, all);
        assert_true(b.pass.text.R == b.pass.text.T);
        assert_near(all_loss, some_loss, 1e-6);
        assert_same_grads(&b, all, b.grad);
        free(all);
        lcl_episode_free(&e);
        tear_down(&b);
    }
}

static void packed_equals_single(void **state)
{
    (void)state;
    struct bench b;
    struct lcl_episode e[4];
    set_up(&b, "data.supervise=repeats data.strategy=2-way-random data.shots=6 mm_image_pool=mean");
    float *single = calloc(b.env.model.params.n_elements, sizeof *single);
    assert_non_null(single);
    double sum = 0;
    for (int i = 0; i < 4; i++) {
        ASSERT_OK(lcl_sampler_draw(&b.sampler, 0, (uint64_t)i, 0, &e[i]));
        lcl_batch_builder_reset(b.builder);
        append(&b, &e[i], LCL_ENCODE_TRAIN);
        sum += step(&b, single);
    }
    lcl_batch_builder_reset(b.builder);
    for (int i = 0; i < 4; i++) append(&b, &e[i], LCL_ENCODE_TRAIN);
    assert_near(sum, step(&b, b.grad), 1e-5);
    assert_same_grads(&b, single, b.grad);
    for (int i = 0; i < 4; i++) lcl_episode_free(&e[i]);
    free(single);
    tear_down(&b);
}

/* ---- likelihoods and greedy answers ---- */

/* Log-probability of the batch's supervised rows of each run. */
static void run_logprobs(struct bench *b, double *sum, int64_t max_runs)
{
    const struct lcl_batch *batch = lcl_batch_builder_get(b->builder);
    struct lcl_images images = read_images(b, batch);
    double loss;
    assert_true(batch->n_runs <= max_runs);
    ASSERT_OK(lcl_model_loss(&b->pass, batch, &images, &loss, NULL));
    for (int64_t r = 0; r < batch->n_runs; r++) {
        sum[r] = 0;
        for (int64_t s = 0; s < batch->S; s++)
            if (batch->row_S[s] >= batch->runs[r].q_begin && batch->row_S[s] < batch->runs[r].q_end)
                sum[r] += (double)b->pass.row_logprob[s];
    }
}

static void candidates_equal_teacher_forcing(void **state)
{
    (void)state;
    struct bench b;
    struct lcl_episode e;
    double by_run[16], alone[1];
    int scored = 0;
    set_up(&b, "data.queries=3");
    ASSERT_OK(lcl_sampler_draw(&b.sampler, 0, 9, 0, &e));
    append(&b, &e, LCL_ENCODE_CANDIDATES);
    run_logprobs(&b, by_run, 16);
    int64_t n_runs = lcl_batch_builder_get(b.builder)->n_runs;
    struct lcl_branch branch[16];
    memcpy(branch, lcl_batch_builder_branches(b.builder), (size_t)n_runs * sizeof *branch);
    for (int64_t r = 0; r < n_runs; r++) {
        if (branch[r].query < 0) continue;
        struct lcl_shot query = e.queries[branch[r].query];
        query.way = branch[r].way;
        struct lcl_episode one = e;
        one.queries = &query;
        one.n_queries = 1;
        lcl_batch_builder_reset(b.builder);
        append(&b, &one, LCL_ENCODE_TRAIN);
        run_logprobs(&b, alone, 1);
        assert_true(alone[0] < 0);
        assert_near(alone[0], by_run[r], 1e-5);
        scored++;
    }
    assert_int_equal(scored, 3 * e.n_ways);
    lcl_episode_free(&e);
    tear_down(&b);
}

enum { MAX_NEW = 10 };

/* Greedy answers of the batch in the builder, by branch in order. */
static int generate(struct bench *b, struct lcl_ids *answers)
{
    struct lcl_generator g;
    bool is_branch[16];
    struct lcl_ids by_run[16] = {{0}};
    const struct lcl_batch *batch = lcl_batch_builder_get(b->builder);
    const struct lcl_branch *branch = lcl_batch_builder_branches(b->builder);
    struct lcl_images images = read_images(b, batch);
    int n = 0;
    assert_true(batch->n_runs <= 16);
    for (int64_t r = 0; r < batch->n_runs; r++) is_branch[r] = branch[r].query >= 0;
    lcl_generator_init(&g, &b->env.exec, &b->env.model);
    const struct lcl_generate_how how = {.max_new = MAX_NEW, .sampling = b->sampling};
    ASSERT_OK(lcl_generate(&g, batch, &images, is_branch, &how, by_run));
    for (int64_t r = 0; r < batch->n_runs; r++)
        if (is_branch[r]) answers[n++] = by_run[r];
    lcl_generator_free(&g);
    return n;
}

/* Answers do not depend on what is asked along with them. Returns a sum that tells them apart. */
static uint64_t together_and_alone(struct lcl_sampling sampling)
{
    struct bench b;
    struct lcl_episode e;
    struct lcl_ids together[4], alone[1];
    uint64_t sum = 0;
    set_up(&b, "data.queries=4 data.layout=vicuna");
    b.sampling = sampling;
    ASSERT_OK(lcl_sampler_draw(&b.sampler, 0, 3, 0, &e));
    append(&b, &e, LCL_ENCODE_PROMPT);
    assert_int_equal(generate(&b, together), 4);
    for (int q = 0; q < 4; q++) {
        struct lcl_episode one = with_query(&e, q);
        lcl_batch_builder_reset(b.builder);
        append(&b, &one, LCL_ENCODE_PROMPT);
        b.sampling.first_sequence = sampling.first_sequence + (uint64_t)q;
        assert_int_equal(generate(&b, alone), 1);
        assert_int_equal(alone[0].n, together[q].n);
        for (int64_t i = 0; i < alone[0].n; sum = sum * 31 + (uint64_t)alone[0].v[i++])
            assert_int_equal(alone[0].v[i], together[q].v[i]);
        lcl_ids_free(&alone[0]);
        lcl_ids_free(&together[q]);
    }
    lcl_episode_free(&e);
    tear_down(&b);
    return sum;
}

static void queries_together_equal_one_at_a_time(void **state)
{
    (void)state;
    static const struct lcl_sampling one = {2, 0.95f, 1, 5, 0}, fifty = {2, 0.95f, 50, 5, 0};
    const uint64_t greedy = together_and_alone((struct lcl_sampling){.seed = 0});
    assert_int_equal(greedy, together_and_alone(one)); /* of one token there is no choice */
    assert_int_not_equal(greedy, together_and_alone(fifty));
}

/* The likeliest token after the prompt of the builder's batch (context and one branch) and `n` ids
 * more, by one forward over all of it. */
static int32_t reread(struct bench *b, const struct lcl_batch *prompt, const int32_t *ids,
                      int64_t n)
{
    int64_t T = prompt->T + n;
    struct lcl_batch batch = *prompt;
    struct lcl_attn_run run = {.q_end = (int32_t)T, .own_end = (int32_t)T};
    int32_t row = (int32_t)(T - 1), target = 0;
    float weight = 1;
    uint8_t label = 0;
    double loss;
    batch.T = T;
    batch.id_T = malloc((size_t)T * sizeof(int32_t));
    batch.position_T = malloc((size_t)T * sizeof(int32_t));
    assert_true(batch.id_T && batch.position_T);
    for (int64_t t = 0; t < T; t++) {
        batch.id_T[t] = t < prompt->T ? prompt->id_T[t] : ids[t - prompt->T];
        batch.position_T[t] = (int32_t)t;
    }
    batch.n_runs = 1;
    batch.runs = &run;
    batch.S = 1;
    batch.row_S = &row;
    batch.target_S = &target;
    batch.weight_S = &weight;
    batch.is_label_S = &label;
    struct lcl_images images = read_images(b, prompt);
    ASSERT_OK(lcl_model_loss(&b->pass, &batch, &images, &loss, NULL));
    free(batch.id_T);
    free(batch.position_T);
    return b->pass.row_argmax[0];
}

static void cached_decoding_equals_rereading(void **state)
{
    (void)state;
    struct bench b;
    struct lcl_episode e;
    struct lcl_ids answer[1];
    int64_t distinct = 0;
    set_up(&b, "");
    for (uint64_t sample = 0; sample < 4; sample++) {
        ASSERT_OK(lcl_sampler_draw(&b.sampler, 0, sample, 0, &e));
        lcl_batch_builder_reset(b.builder);
        append(&b, &e, LCL_ENCODE_PROMPT);
        assert_int_equal(generate(&b, answer), 1);
        const struct lcl_batch *prompt = lcl_batch_builder_get(b.builder);
        for (int64_t i = 0; i < answer->n; i++) {
            assert_int_equal(reread(&b, prompt, answer->v, i), answer->v[i]);
            distinct += i > 0 && answer->v[i] != answer->v[i - 1];
        }
        if (answer->n < MAX_NEW)
            assert_int_equal(reread(&b, prompt, answer->v, answer->n),
                             b.env.model.config.eos_token);
        lcl_ids_free(answer);
        lcl_episode_free(&e);
    }
    assert_true(distinct > 4); /* else the answers say too little */
    tear_down(&b);
}

/* ---- steps ---- */

struct outcome {
    float *params;
    size_t n;
    double loss[5], grad_norm[5];
};

enum how { AS_CHOSEN, LANES_IN_SEQUENCE };

/* Five steps; features: from a cache in memory (the tower must be frozen), else the tower runs. */
static struct outcome train(const char *overrides, enum how how)
{
    struct lcl_config c;
    struct lcl_env e = {0};
    struct lcl_pictures pictures = {0};
    struct lcl_features features = {0};
    struct lcl_trainer t;
    struct outcome o = {0};
    tiny_config(&c, overrides);
    ASSERT_OK(lcl_env_start(&e, &c));
    ASSERT_OK(lcl_env_open_data(&e, &c));
    ASSERT_OK(lcl_env_make_model(&e, &c, c.task == LCL_TASK_VISION));
    bool cached = c.task == LCL_TASK_LINK_CONTEXT && c.freeze_vision_tower && c.cache_features;
    if (cached)
        ASSERT_OK(lcl_features_open(&features, &e, &c, c.data_augment_views, NULL));
    else
        ASSERT_OK(lcl_pictures_open(&pictures, &e.pack, &e.preprocess, &c));
    ASSERT_OK(lcl_trainer_open(&t, &e, &c, 0, cached ? &features : NULL, &pictures));
    assert_true(c.lanes == 1 || t.parallel);
    if (how == LANES_IN_SEQUENCE) t.parallel = false;
    for (int i = 0; i < 5; i++) {
        struct lcl_step_result r;
        ASSERT_OK(lcl_trainer_step(&t, i, 5, i + 1, &r));
        o.loss[i] = r.loss;
        o.grad_norm[i] = r.grad_norm;
    }
    o.n = e.model.params.n_values;
    o.params = malloc(o.n * sizeof *o.params);
    assert_non_null(o.params);
    memcpy(o.params, e.model.params.value, o.n * sizeof *o.params);
    lcl_trainer_close(&t);
    lcl_pictures_close(&pictures);
    lcl_features_close(&features);
    lcl_env_close(&e);
    return o;
}

static void assert_same_bits(struct outcome a, struct outcome b)
{
    assert_int_equal(a.n, b.n);
    assert_memory_equal(a.loss, b.loss, sizeof a.loss);
    for (size_t i = 0; i < a.n; i++)
        if (memcmp(&a.params[i], &b.params[i], sizeof(float)) != 0)
            fail_msg("parameter %zu of %zu: %a and %a", i, a.n, (double)a.params[i],
                     (double)b.params[i]);
    assert_true(a.loss[4] != a.loss[0]);
    free(a.params);
    free(b.params);
}

static void assert_same_losses(struct outcome a, struct outcome b, double relative)
{
    for (int i = 0; i < 5; i++) assert_near(a.loss[i], b.loss[i], relative);
    free(a.params);
    free(b.params);
}

static void lanes_in_parallel_equal_in_sequence(void **state)
{
    (void)state;
    const char *three = "lanes=3 threads=2", *seven = "lanes=7 threads=2 freeze_vision_tower=false";
    assert_same_bits(train(three, AS_CHOSEN), train(three, LANES_IN_SEQUENCE));
    assert_same_bits(train(seven, AS_CHOSEN), train(seven, LANES_IN_SEQUENCE));
}

static void threads_change_nothing(void **state)
{
    (void)state;
    const char *const runs[] = {"lanes=4 freeze_vision_tower=false threads=", "lanes=1 threads=",
                                "lora.rank=2 lora.base=q4_0 lanes=4 bf16=true threads=",
                                "task=vision lanes=3 per_device_train_batch_size=4 threads=",
                                "task=language lanes=3 threads="};
    for (size_t i = 0; i < sizeof runs / sizeof *runs; i++) {
        char one[128], two[128], five[128];
        snprintf(one, sizeof one, "%s1", runs[i]);
        snprintf(two, sizeof two, "%s2", runs[i]);
        snprintf(five, sizeof five, "%s5", runs[i]);
        assert_same_bits(train(one, AS_CHOSEN), train(two, LANES_IN_SEQUENCE));
        assert_same_bits(train(two, AS_CHOSEN), train(five, AS_CHOSEN));
    }
}

static void accumulation_is_the_same_data(void **state)
{
    (void)state;
    assert_same_losses(train("lanes=6", AS_CHOSEN),
                       train("lanes=2 gradient_accumulation_steps=3", AS_CHOSEN), 1e-6);
    assert_same_losses(train("task=vision lanes=4", AS_CHOSEN),
                       train("task=vision lanes=1 gradient_accumulation_steps=4", AS_CHOSEN), 1e-6);
    assert_same_losses(train("task=language lanes=4", AS_CHOSEN),
                       train("task=language lanes=1 gradient_accumulation_steps=4", AS_CHOSEN),
                       1e-6);
}

static void checkpointing_recomputes_the_same(void **state)
{
    (void)state;
    const char *const runs[] = {"freeze_vision_tower=false", "data.queries=2 bf16=true",
                                "task=language", "task=vision", "lora.rank=2 lora.dropout=0.3"};
    const char *const words[] = {"mlp", "true"};
    for (size_t i = 0; i < 2 * (sizeof runs / sizeof *runs); i++) {
        char with[128];
        snprintf(with, sizeof with, "%s gradient_checkpointing=%s", runs[i / 2], words[i % 2]);
        assert_same_bits(train(runs[i / 2], AS_CHOSEN), train(with, AS_CHOSEN));
    }
}

static void cached_features_equal_recomputed(void **state)
{
    (void)state;
    assert_same_losses(train("", AS_CHOSEN), train("cache_features=false", AS_CHOSEN), 1e-5);
    const char *views = "data.augment_views=3 data.background=10,200,30 mm_image_pool=2x2";
    char without[256];
    snprintf(without, sizeof without, "%s cache_features=false", views);
    assert_same_losses(train(views, AS_CHOSEN), train(without, AS_CHOSEN), 1e-5);
}

static void bf16_stays_near_f32(void **state)
{
    (void)state;
    assert_same_losses(train("freeze_vision_tower=false", AS_CHOSEN),
                       train("freeze_vision_tower=false bf16=true", AS_CHOSEN), 0.02);
}

/* Of each part: whether five steps changed it. */
static void assert_moves(const char *overrides, bool vision, bool projector, bool text)
{
    struct bench b;
    const bool wanted[] = {vision, projector, text};
    set_up(&b, overrides);
    struct outcome o = train(overrides, AS_CHOSEN);
    const struct lcl_params *t = &b.env.model.params;
    assert_true(o.n == t->n_elements || b.config.task == LCL_TASK_VISION);
    bool moved[3] = {false};
    for (int r = 0; r < t->n_rows; r++) {
        const struct lcl_param *p = &t->rows[r];
        bool same =
            memcmp(t->value + p->offset, o.params + p->offset, p->count * sizeof(float)) == 0;
        if (p->part <= LCL_PART_TEXT) moved[p->part] = moved[p->part] || !same;
    }
    for (int i = 0; i < 3; i++)
        if (moved[i] != wanted[i])
            fail_msg("%s: %s %s", overrides, lcl_part_name((enum lcl_part)i),
                     moved[i] ? "moved" : "stayed");
    free(o.params);
    tear_down(&b);
}

static void frozen_parts_stay(void **state)
{
    (void)state;
    assert_moves("", false, true, true);
    assert_moves("freeze_vision_tower=false", true, true, true);
    assert_moves("freeze_text=true", false, true, false);
    assert_moves("freeze_text=true freeze_projector=true freeze_vision_tower=false", true, false,
                 false);
    assert_moves("freeze_projector=true", false, false, true);
    assert_moves("task=language", false, false, true);
    assert_moves("task=vision", true, false, false);
}

static int quiet(void **state)
{
    (void)state;
    lcl_log_set_level(LCL_LOG_QUIET);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(shared_prefix_last),
        cmocka_unit_test(shared_prefix_repeats),
        cmocka_unit_test(wanted_rows_equal_all),
        cmocka_unit_test(packed_equals_single),
        cmocka_unit_test(candidates_equal_teacher_forcing),
        cmocka_unit_test(queries_together_equal_one_at_a_time),
        cmocka_unit_test(cached_decoding_equals_rereading),
        cmocka_unit_test(lanes_in_parallel_equal_in_sequence),
        cmocka_unit_test(threads_change_nothing),
        cmocka_unit_test(accumulation_is_the_same_data),
        cmocka_unit_test(checkpointing_recomputes_the_same),
        cmocka_unit_test(cached_features_equal_recomputed),
        cmocka_unit_test(bf16_stays_near_f32),
        cmocka_unit_test(frozen_parts_stay),
    };
    return cmocka_run_group_tests(tests, quiet, NULL);
}
