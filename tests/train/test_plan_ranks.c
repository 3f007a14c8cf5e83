/* Plans for many ranks against cases worked out by hand, and schedules against what the plan's
 * formulas and the model's own order say. */
#include <math.h>
#include <string.h>

#include "tests/train/small_stage.h"

#include "train/plan_ranks.h"

static void assert_within(double x, double y, double share, const char *what)
{
    if (fabs(x - y) > share * fabs(y)) fail_msg("%s is %.12g, not %.12g", what, x, y);
}
static void assert_near(double x, double y, const char *what) { assert_within(x, y, 1e-9, what); }

/* ---- a schedule by hand ---- */

#define TELL 20e-6 /* seconds to begin a collective, as assumed */

/* A second for 1e9 bytes on any link, 70 % of the data sheet's; nothing else matters. */
static const struct lcl_gpu_kind gpu = {.name = "test", .link_bytes = 1e9 / 0.7};

/* Two layers and a head, each with 4/3 GB of gradients: a second on their way to 4 ranks, half of
 * one for their values; forth in a second each, back in two, but the head, whose second is both. */
#define BYTES .moved_bytes = 2e9 / 3, .grad_bytes = 4e9 / 3
static const struct lcl_unit three_units[] = {
    {.name = "a", .part = LCL_PART_TEXT, .layer = 0, BYTES},
    {.name = "b", .part = LCL_PART_TEXT, .layer = 1, BYTES},
    {.name = "head", .part = LCL_PART_TEXT, .layer = -1, BYTES}};
static const struct lcl_visit five_visits[] = {
    {0, 1, false}, {1, 1, false}, {2, 1, true}, {1, 2, true}, {0, 2, true}};

struct by_hand {
    struct lcl_config c;
    struct lcl_env e; /* without rows: memory is another test's */
    struct lcl_plan p;
    struct lcl_unit unit[3];
    struct lcl_visit visit[5];
    struct lcl_schedule s;
    struct lcl_cluster k;
};

static void make_by_hand(struct by_hand *h, int64_t lanes)
{
    *h = (struct by_hand){.p = {.gradients = 1}};
    lcl_config_defaults(&h->c);
    h->c.lanes = lanes;
    memcpy(h->unit, three_units, sizeof h->unit);
    memcpy(h->visit, five_visits, sizeof h->visit);
    h->s = (struct lcl_schedule){.unit = h->unit,
                                 .n_units = 3,
                                 .visit = h->visit,
                                 .n_visits = 5,
                                 .tokens = 100,
                                 .update_s = 4};
    h->k = (struct lcl_cluster){.ranks = 4, .gpu = &gpu, .bucket_bytes = 4e9 / 3};
    ASSERT_OK(lcl_network_named("ib400", &h->k.network));
}

static struct lcl_rank_plan rank(struct by_hand *h, int zero)
{
    return lcl_plan_rank(&h->e, &h->c, &h->p, &h->s, &h->k, zero);
}

/* Reductions of a unit begin when its backward ends, one after another; what comes after the last
 * backward is exposed. */
static void a_step_is_worked_out_by_hand(void **state)
{
    (void)state;
    struct by_hand h;
    make_by_hand(&h, 4);
    struct lcl_rank_plan r = rank(&h, 1);
    assert_int_equal(r.rank_lanes, 1);
    assert_near(r.compute_s, 7, "lanes");
    assert_near(r.update_s, 1, "a quarter of the update");
    assert_near(r.reduce.bytes, 3e9, "gradients sent");
    assert_near(r.gather.bytes, 1.5e9, "values sent");
    assert_true(r.reduce.calls == 3 && r.gather.calls == 3);
    assert_true(r.buckets == 2 * (4e9 / 3));
    /* b 5..6, a 7..8, the head 8..9; norm; update; 2 GB of values in three buckets */
    assert_near(r.step_s, 9 + 2 * TELL + TELL + 1 + 1.5 + 3 * TELL, "step of zero 1");
    assert_near(r.exposed_s, r.step_s - 8, "exposed");
    assert_near(r.efficiency, 8 / r.step_s, "efficiency");
    assert_near(r.tokens_per_s, 400 / r.step_s, "tokens");
    assert_near(rank(&h, 2).step_s, r.step_s, "one lane: zero 2 as zero 1");

    r = rank(&h, 0); /* sums go back when all have come; the update is whole */
    assert_near(r.gather_grads.bytes, 3e9, "sums sent");
    assert_near(r.step_s, 9 + 2 * TELL + 3 * (1 + TELL) + TELL + 4, "step of zero 0");

    /* the head's values, then a's; b's while a works, a's again while b goes back */
    r = rank(&h, 3);
    assert_near(r.gather.bytes, 4 * 0.5e9, "values sent");
    assert_near(r.compute_s, 7, "lanes");
    assert_near(r.step_s, 2 * (0.5 + TELL) + 7 + 2 * (1 + TELL) + TELL + 1, "step of zero 3");
    assert_near(r.comm_s, 4 * (0.5 + TELL) + 3 * (1 + TELL), "collectives");
}

/* Slow links: visits wait for parameters. */
static void what_is_not_there_yet_is_waited_for(void **state)
{
    (void)state;
    struct by_hand h;
    make_by_hand(&h, 4);
    for (int i = 0; i < 3; i++) {
        h.unit[i].moved_bytes = 4e9; /* 3 s each */
        h.unit[i].grad_bytes = 0;
        h.visit[i].last_gradient = false;
    }
    h.k.bucket_bytes = 4e9;
    h.visit[3].last_gradient = h.visit[4].last_gradient = false;
    struct lcl_rank_plan r = rank(&h, 3);
    /* the head's and a's values; b's, for which a is too short; b, head, b; a's, for which b is too
     * short by a second; a; the update */
    assert_near(r.step_s, 3 * (3 + TELL) + 2 + (3 + TELL) + 2 + TELL + 1, "step");
}

static void lanes_of_a_rank_are_reduced_once_or_each(void **state)
{
    (void)state;
    struct by_hand h;
    make_by_hand(&h, 8);
    h.s.add_s = 1;
    struct lcl_rank_plan one = rank(&h, 1), two = rank(&h, 2);
    assert_int_equal(one.rank_lanes, 2);
    assert_near(one.compute_s, 15, "two lanes and a sum");
    assert_near(two.compute_s, 14.25, "two lanes and a quarter of a sum");
    assert_near(one.reduce.bytes, 3e9, "once a step");
    assert_near(two.reduce.bytes, 6e9, "once a lane");
    h.c.gradient_accumulation_steps = 2; /* rounds of a lane add up in its buffer */
    struct lcl_rank_plan rounds = rank(&h, 2);
    assert_near(rounds.compute_s, 28.25, "two lanes of two rounds");
    assert_near(rounds.reduce.bytes, two.reduce.bytes, "a lane's rounds leave once");
    assert_near(rank(&h, 3).gather.bytes, 4 * 1.5e9 + 0.5e9, "values, in every round");
    h.c.gradient_accumulation_steps = 1;
    h.k.deterministic = true;
    two = rank(&h, 2);
    assert_near(two.reduce.bytes, 3e9, "deterministic: once a step");
    assert_near(two.compute_s, 15, "deterministic: whole sums");
    h.k.ranks = 4;
    h.c.lanes = 12; /* groups of 3, in pairs: each rank's lanes are a node of the tree */
    assert_near(rank(&h, 1).reduce.bytes, 3e9, "a node a rank");
    h.k.ranks = 3; /* 4 lanes each: (0 1 2) 3, 4 5 (6 7), 8 (9 10 11) */
    assert_near(rank(&h, 1).reduce.bytes, 7 / 3.0 * 4e9 * 2 / 3, "seven nodes of three ranks");
    h.k.deterministic = false;
    assert_near(rank(&h, 1).reduce.bytes, 4e9 * 2 / 3, "one sum a rank");
    h.c.lanes = 8;
    h.k.ranks = 3; /* 3, 3, 2 lanes: the busiest have 3 */
    struct lcl_rank_plan uneven = rank(&h, 1);
    assert_int_equal(uneven.rank_lanes, 3);
    assert_near(uneven.compute_s, 23, "three lanes, two sums");
    assert_true(uneven.efficiency < one.efficiency);
    h.k.ranks = 16; /* a step grows to one lane a rank */
    assert_int_equal(rank(&h, 1).lanes, 16);
    h.k.ranks = 1;
    for (int zero = 0; zero < LCL_ZERO_STAGES; zero++) {
        struct lcl_rank_plan alone = rank(&h, zero);
        assert_true(alone.comm_s == 0 && alone.exposed_s == 0 && alone.efficiency == 1);
        assert_near(alone.step_s, 8 * 7 + 7 + 4, "eight lanes, seven sums, an update");
    }
}

static void links_of_a_cluster(void **state)
{
    (void)state;
    const struct lcl_gpu_kind *h100;
    struct lcl_cluster k = {.ranks = 8, .bucket_bytes = 1};
    ASSERT_OK(lcl_gpu_kind("h100", &h100));
    k.gpu = h100;
    ASSERT_OK(lcl_network_named("ib400", &k.network));
    assert_near(lcl_cluster_seconds(&k, 8e9), 7e9 / (0.7 * 450e9), "8 in a node");
    k.ranks = 64; /* 56 of 64 parts go to other nodes */
    assert_near(lcl_cluster_seconds(&k, 64e9), 56e9 / (0.7 * 50e9), "64 over the network");
    k.ranks = 9; /* the ninth has no other in its node */
    assert_near(lcl_cluster_seconds(&k, 9e9), 8e9 / (0.7 * 50e9), "9");
    ASSERT_OK(lcl_cluster_check(&k));
    ASSERT_OK(lcl_network_named("nvlink", &k.network));
    ASSERT_FAILS(lcl_cluster_check(&k), LCL_CONFIG, "9 ranks are more than the 8 of a node");
    k.ranks = 8;
    ASSERT_OK(lcl_cluster_check(&k));
    assert_near(lcl_cluster_seconds(&k, 8e9), 7e9 / (0.7 * 450e9), "8 without a network");
    ASSERT_FAILS(lcl_network_named("ib40", &k.network), LCL_CONFIG,
                 "no network is called \"ib40\"");
    assert_true(lcl_largest_share(1000, 3) == 512 && lcl_largest_share(100, 8) == 100);
    assert_true(lcl_largest_share(4096, 8) == 512 && lcl_largest_share(4096, 1) == 4096);
}

/* ---- schedules of real stages ---- */

struct drawn {
    double pairs, T;
};

static lcl_status see(void *ctx, const struct lcl_batch *b, int64_t images)
{
    struct drawn *d = ctx;
    assert_int_equal(images, b->n_images);
    *d = (struct drawn){.T = (double)b->T};
    for (int64_t r = 0; r < b->n_runs; r++) {
        double own = b->runs[r].q_end - b->runs[r].q_begin;
        double prefix = b->runs[r].prefix_end - b->runs[r].prefix_begin;
        d->pairs += own * (own + 1) / 2 + own * prefix;
    }
    return LCL_OK;
}

static double seconds_of(const struct lcl_schedule *s)
{
    double sum = 0;
    for (size_t i = 0; i < s->n_visits; i++) sum += s->visit[i].seconds;
    return sum;
}

/* One operation a second, memory in no time: seconds are products. The plan's formulas and the
 * model's code say the same of them, but for what the op table counts as computed again. */
static void a_schedule_has_the_plans_products(void **state)
{
    (void)state;
    const struct lcl_op_rates products = {1, 1, INFINITY};
    static const char *const lora_ranks[] = {"0", "4"};
    for (int i = 0; i < 2; i++) {
        struct fake f;
        struct lcl_env e;
        struct lcl_plan p;
        struct lcl_schedule s;
        struct drawn d;
        small_stage_open(&f, &e);
        small_stage_set(&f.config, "lora.rank", lora_ranks[i]);
        ASSERT_OK(lcl_env_shape_model(&e, &f.config, false));
        ASSERT_OK(lcl_plan_stage(&e, &f.config, 0, 1, &p));
        ASSERT_OK(lcl_plan_look(&e, &f.config, 0, 1, see, &d));
        ASSERT_OK(lcl_schedule_make(&e, &f.config, 0, 1, &p, &products, &s));
        const struct lcl_text_config *t = &e.model.config.text;
        const double wide = (double)(t->H * t->D);
        const double again = (double)t->n_layers * 2 * wide * d.pairs; /* attention's scores */
        assert_true(s.tokens == d.T);
        if (i == 0)
            assert_near(seconds_of(&s), p.flops / 2 + again, "products of a lane");
        else
            assert_true(seconds_of(&s) > p.flops / 2); /* what adapters read is made again */
        lcl_schedule_free(&s);
        small_stage_close(&f, &e);
    }
}

static int find_unit(const struct lcl_schedule *s, const char *name)
{
    for (int i = 0; i < s->n_units; i++)
        if (strcmp(s->unit[i].name, name) == 0) return i;
    fail_msg("no unit is called %s", name);
    return -1;
}

static void assert_order(const struct lcl_schedule *s, const char *const *names, size_t n)
{
    for (size_t i = 0; i < n && i < s->n_visits; i++)
        assert_string_equal(s->unit[s->visit[i].unit].name, names[i]);
    assert_int_equal(s->n_visits, n);
}

#define TEXT "language_model.model."
#define LAYER(n) TEXT "layers." #n

static void units_are_visited_forth_and_back(void **state)
{
    (void)state;
    static const char *const order[] = {"multi_modal_projector.linear_1.weight",
                                        TEXT "embed_tokens.weight",
                                        LAYER(0),
                                        LAYER(1),
                                        LAYER(2),
                                        TEXT "norm.weight",
                                        LAYER(2),
                                        LAYER(1),
                                        LAYER(0),
                                        TEXT "embed_tokens.weight",
                                        "multi_modal_projector.linear_1.weight"};
    const struct lcl_op_rates rates = {1, 1, 1};
    struct fake f;
    struct lcl_env e;
    struct lcl_plan p;
    struct lcl_schedule s;
    small_stage_open(&f, &e);
    ASSERT_OK(lcl_env_shape_model(&e, &f.config, false));
    ASSERT_OK(lcl_plan_stage(&e, &f.config, 0, 4, &p));
    ASSERT_OK(lcl_schedule_make(&e, &f.config, 0, 4, &p, &rates, &s));
    assert_order(&s, order, sizeof order / sizeof *order);
    double grads = 0, moved = 0;
    for (int i = 0; i < s.n_units; i++) {
        int last = 0;
        for (size_t v = 0; v < s.n_visits; v++)
            last += s.visit[v].unit == i && s.visit[v].last_gradient;
        assert_int_equal(last, s.unit[i].grad_bytes > 0);
        grads += s.unit[i].grad_bytes;
        moved += s.unit[i].moved_bytes;
    }
    for (size_t v = 0; v < 5; v++) assert_false(s.visit[v].last_gradient);
    assert_true(grads == 4 * (double)p.n_trainable && moved == grads);
    assert_true(s.unit[find_unit(&s, "vision_tower.encoder.layers.0")].grad_bytes == 0);
    assert_true(s.update_s > 0 && s.clear_s > 0 && s.add_s > s.clear_s);
    lcl_schedule_free(&s);
    small_stage_set(&f.config, "freeze_text", "true");
    ASSERT_OK(lcl_plan_stage(&e, &f.config, 0, 4, &p));
    ASSERT_OK(lcl_schedule_make(&e, &f.config, 0, 4, &p, &rates, &s));
    for (size_t v = 0; v < s.n_visits; v++)
        assert_true(s.visit[v].last_gradient == (v == s.n_visits - 1)); /* the projector's */
    lcl_schedule_free(&s);
    small_stage_close(&f, &e);
}

/* Other models and tasks: a tower in the step, its warm-up, adapters, a Q-Former. */
static void every_kind_of_stage_has_a_schedule(void **state)
{
    (void)state;
    static const char *const kinds[][4] = {
        {"freeze_vision_tower", "false", "task", "link-context"},
        {"cache_features", "false", "gradient_checkpointing", "true"},
        {"lora.rank", "2", "lora.dropout", "0.1"},
        {"mm_projector_type", "qformer", "freeze_vision_tower", "false"},
        {"task", "vision", "bf16", "true"},
        {"task", "language", "bf16", "true"}};
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        const struct lcl_op_rates rates = {1, 1, 1};
        struct fake f;
        struct lcl_env e;
        struct lcl_plan p;
        struct lcl_schedule s;
        small_stage_open(&f, &e);
        small_stage_set(&f.config, "qformer.hidden_size", "16");
        small_stage_set(&f.config, "qformer.num_attention_heads", "2");
        small_stage_set(&f.config, "qformer.num_hidden_layers", "2");
        small_stage_set(&f.config, kinds[i][0], kinds[i][1]);
        small_stage_set(&f.config, kinds[i][2], kinds[i][3]);
        ASSERT_OK(lcl_env_shape_model(&e, &f.config, strcmp(kinds[i][1], "vision") == 0));
        ASSERT_OK(lcl_plan_stage(&e, &f.config, 0, 2, &p));
        ASSERT_OK(lcl_schedule_make(&e, &f.config, 0, 2, &p, &rates, &s));
        double grads = 0, left = 0;
        for (int u = 0; u < s.n_units; u++) grads += s.unit[u].grad_bytes;
        for (size_t v = 0; v < s.n_visits; v++)
            if (s.visit[v].last_gradient) left += s.unit[s.visit[v].unit].grad_bytes;
        assert_near(grads, 4 * (double)p.n_trainable, "gradients");
        assert_near(left, grads, "gradients that some visit completes");
        assert_true(seconds_of(&s) > 0 && s.n_visits >= 3);
        lcl_schedule_free(&s);
        small_stage_close(&f, &e);
    }
}

static const double LAYER_ELEMENTS = 4.0 * 4096 * 4096 + 3.0 * 4096 * 11008 + 2 * 4096;

/* LLaVA-1.5-7B's shapes in bf16: the formulas of the ZeRO paper, within what gaps between rows and
 * parameters kept as f32 come to. */
static void seven_billion_on_eight_and_sixty_four(void **state)
{
    (void)state;
    static const int64_t ranks[] = {8, 64};
    struct lcl_config c;
    struct lcl_env e = {0};
    struct lcl_plan p;
    struct lcl_schedule s;
    lcl_config_defaults(&c);
    small_stage_set(&c, "bf16", "true");
    small_stage_set(&c, "lanes", "8");
    ASSERT_OK(lcl_env_start(&e, &c));
    e.one_at_a_time = true;
    e.stages = &c;
    e.n_stages = 1;
    c.device = LCL_DEVICE_CUDA;
    ASSERT_OK(lcl_env_shape_model(&e, &c, false));
    ASSERT_OK(lcl_plan_stage(&e, &c, 0, 4, &p));
    struct lcl_cluster k = {.bucket_bytes = 64 << 20};
    ASSERT_OK(lcl_gpu_kind("h100", &k.gpu));
    ASSERT_OK(lcl_network_named("ib400", &k.network));
    const struct lcl_op_rates rates = lcl_cluster_rates(k.gpu);
    ASSERT_OK(lcl_schedule_make(&e, &c, 0, 4, &p, &rates, &s));
    const double psi = (double)p.n_trainable;
    for (int i = 0; i < 2; i++) {
        struct lcl_rank_plan r[LCL_ZERO_STAGES];
        const double N = (double)(k.ranks = ranks[i]), out = (N - 1) / N;
        for (int z = 0; z < LCL_ZERO_STAGES; z++) r[z] = lcl_plan_rank(&e, &c, &p, &s, &k, z);
        assert_near(r[0].reduce.bytes + r[0].gather_grads.bytes, 8 * psi * out, "zero 0");
        assert_near(r[1].reduce.bytes, 4 * psi * out, "zero 1, gradients");
        assert_true(fabs(r[1].gather.bytes / (2 * psi * out) - 1) < 1e-3);
        assert_near(r[2].reduce.bytes, 4 * psi * out, "zero 2: one lane");
        /* layers forth and back, the last once for both; the rest once */
        assert_true(fabs(r[3].gather.bytes / (2 * (psi + 31 * LAYER_ELEMENTS) * out) - 1) < 1e-3);
        assert_true(fabs(r[0].moments / (8 * psi) - 1) < 1e-3);
        assert_true(fabs(r[1].moments * N / (8 * psi) - 1) < 0.01);
        assert_true(r[2].parameters == p.parameters);
        assert_within(p.parameters - r[3].parameters,
                      2.0 * 32 * LAYER_ELEMENTS * out - 2 * 2.0 * LAYER_ELEMENTS, 2e-3,
                      "zero 3: what is given back");
        assert_near(r[0].gradients, (double)e.model.params.n_grads * 4, "zero 0: a buffer");
        assert_within(
            r[2].gradients,
            4 * (32 * LAYER_ELEMENTS / N + psi - 32 * LAYER_ELEMENTS + 2 * LAYER_ELEMENTS), 2e-3,
            "zero 2: its own, those of no layer, two layers");
        for (int z = 0; z < LCL_ZERO_STAGES; z++)
            assert_true(r[z].efficiency > 0.5 && r[z].efficiency < 1);
    }
    lcl_schedule_free(&s);
    lcl_env_close(&e);
    assert_true(lcl_plan_resident_bytes() < (double)((int64_t)1 << 30));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_step_is_worked_out_by_hand),
        cmocka_unit_test(what_is_not_there_yet_is_waited_for),
        cmocka_unit_test(lanes_of_a_rank_are_reduced_once_or_each),
        cmocka_unit_test(links_of_a_cluster),
        cmocka_unit_test(a_schedule_has_the_plans_products),
        cmocka_unit_test(units_are_visited_forth_and_back),
        cmocka_unit_test(every_kind_of_stage_has_a_schedule),
        cmocka_unit_test(seven_billion_on_eight_and_sixty_four),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
