/* Neighbor tables made anew while a stage trains. */
#include "train/refresh.h"

#include <math.h>

#include "core/fs.h"
#include "core/log.h"
#include "tests/support/kills.h"
#include "tests/support/support.h"
#include "tests/support/tiny.h"
#include "train/class_vectors.h"
#include "train/loop.h"
#include "train/metrics.h"
#include "train/plan.h"
#include "train/step.h"

static const char trains[] =
    "freeze_vision_tower=false data.hard_fraction=1 data.num_neighbors=2 data.refresh_neighbors=2 "
    "data.refresh_images=3 learning_rate=0.03";

/* The tiny world with the table of its pixels beside its pack, and a model. */
static void open_env(struct lcl_env *e, struct lcl_config *c, const char *words)
{
    const struct lcl_neighbors_options all = {.by = LCL_BY_IMAGE};
    char beside[340];
    lcl_log_set_level(LCL_LOG_QUIET);
    tiny_config(c, words);
    *e = (struct lcl_env){0};
    ASSERT_OK(lcl_env_start(e, c));
    ASSERT_OK(lcl_env_open_pack(e, c));
    snprintf(beside, sizeof beside, "%s.neighbors.h5", tiny_pack());
    if (!lcl_fs_exists(beside)) {
        struct lcl_class_vectors v;
        ASSERT_OK(lcl_class_vectors_pixels(e, c, 0, &v));
        ASSERT_OK(lcl_neighbors_from_classes(&e->pack, v.image_CF, NULL, v.F, &all, &e->neighbors));
        ASSERT_OK(lcl_neighbors_save(&e->neighbors, &e->pack, beside, "pixels", false));
        lcl_neighbors_free(&e->neighbors);
        lcl_class_vectors_free(&v);
    }
    lcl_env_close(e);
    ASSERT_OK(lcl_env_start(e, c));
    ASSERT_OK(lcl_env_open_data(e, c));
    assert_true(e->has_neighbors);
    ASSERT_OK(lcl_env_make_model(e, c, false));
}

static bool is_train(const struct lcl_env *e, int32_t class)
{
    return e->pack.classes[class].split == LCL_SPLIT_TRAIN;
}

static int32_t at(const struct lcl_neighbors *t, int32_t class, int32_t k)
{
    return t->index[class * t->width + k];
}

static void is_due_between_steps(void **state)
{
    (void)state;
    struct lcl_config c;
    tiny_config(&c, "data.refresh_neighbors=4");
    const bool due[] = {false, false, false, false, true, false, false, false, true};
    for (int64_t step = 0; step < 9; step++)
        assert_int_equal(lcl_refresh_is_due(&c, step), due[step]);
    assert_true(lcl_refresh_count(&c, 8) == 1 && lcl_refresh_count(&c, 9) == 2);
    assert_true(lcl_refresh_count(&c, 0) == 0 && lcl_refresh_count(&c, 1) == 0);
    c.task = LCL_TASK_VISION;
    assert_true(!lcl_refresh_is_due(&c, 4) && lcl_refresh_count(&c, 9) == 0);
}

/* The table is that of the tower's means over the pictures that were asked for, its train classes
 * alone, whatever table was there. */
static void ranks_by_the_towers_features(void **state)
{
    (void)state;
    struct lcl_env e;
    struct lcl_config c;
    struct lcl_class_vectors v;
    struct lcl_neighbors wanted;
    struct lcl_refresh r;
    const struct lcl_neighbors_options two = {.by = LCL_BY_IMAGE, .num = 2};
    open_env(&e, &c, trains);
    assert_ptr_equal(lcl_env_training_neighbors(&e), &e.neighbors);
    ASSERT_OK(lcl_class_vectors_model(&e, 3, false, &v));
    ASSERT_OK(lcl_neighbors_from_classes(&e.pack, v.image_CF, NULL, v.F, &two, &wanted));
    ASSERT_OK(lcl_refresh_neighbors(&e, &c, &r));
    const struct lcl_neighbors *got = lcl_env_training_neighbors(&e);
    assert_int_equal(got->width, 2);
    for (int32_t i = 0; i < e.pack.n_classes; i++)
        for (int32_t k = 0; is_train(&e, i) && k < 2; k++)
            assert_int_equal(at(got, i, k), at(&wanted, i, k));
    assert_true(r.new_share == lcl_neighbors_new_share(&e.pack, &e.neighbors, got, 5));
    ASSERT_OK(lcl_refresh_neighbors(&e, &c, &r)); /* the same model: the same table */
    assert_true(r.new_share == 0);
    lcl_neighbors_free(&wanted);
    lcl_class_vectors_free(&v);
    lcl_env_close(&e);
}

/* One of each interval: of five others in two intervals, ranks 1, 2 and ranks 3, 4, 5. */
static void cuts_by_intervals(void **state)
{
    (void)state;
    struct lcl_env e;
    struct lcl_config c;
    struct lcl_class_vectors v;
    struct lcl_neighbors all;
    struct lcl_refresh r;
    const struct lcl_neighbors_options options = {.by = LCL_BY_IMAGE};
    char words[300];
    snprintf(words, sizeof words, "%s data.refresh_cut=intervals", trains);
    open_env(&e, &c, words);
    ASSERT_OK(lcl_refresh_neighbors(&e, &c, &r));
    ASSERT_OK(lcl_class_vectors_model(&e, 3, true, &v));
    ASSERT_OK(lcl_neighbors_from_classes(&e.pack, v.image_CF, NULL, v.F, &options, &all));
    for (int32_t i = 0; i < e.pack.n_classes; i++) {
        if (!is_train(&e, i)) continue;
        int32_t near = at(&e.refreshed, i, 0), far = at(&e.refreshed, i, 1);
        assert_true(near == at(&all, i, 0) || near == at(&all, i, 1));
        assert_true(far == at(&all, i, 2) || far == at(&all, i, 3) || far == at(&all, i, 4));
    }
    lcl_neighbors_free(&all);
    lcl_class_vectors_free(&v);
    lcl_env_close(&e);
}

/* A table that names one neighbor of each class: the k-th other train class. */
static void only_neighbor(struct lcl_env *e, int k)
{
    int32_t train[TINY_TRAIN_CLASSES], n = 0, *index;
    index = malloc((size_t)e->pack.n_classes * sizeof *index);
    assert_non_null(index);
    for (int32_t i = 0; i < e->pack.n_classes; i++)
        if (is_train(e, i)) train[n++] = i;
    for (int32_t i = 0; i < e->pack.n_classes; i++) index[i] = -1;
    for (int i = 0; i < n; i++) index[train[i]] = train[(i + k) % n];
    lcl_neighbors_free(&e->refreshed);
    ASSERT_OK(
        lcl_neighbors_from_index(index, e->pack.n_classes, 1, &e->pack, "here", &e->refreshed));
    free(index);
}

static void samples_come_from_the_new_table(void **state)
{
    (void)state;
    struct lcl_env e;
    struct lcl_config c;
    struct lcl_source s;
    struct lcl_pictures pictures;
    char words[300];
    snprintf(words, sizeof words, "%s data.num_neighbors=1", trains);
    open_env(&e, &c, words);
    ASSERT_OK(lcl_pictures_open(&pictures, &e.pack, &e.preprocess, &c));
    ASSERT_OK(lcl_source_open(&s, &e, &c, 0, NULL, &pictures));
    for (int k = 0; k < 3; k++) { /* the data's table, then two others */
        if (k) only_neighbor(&e, k);
        if (k) ASSERT_OK(lcl_source_renew_draws(&s));
        for (uint64_t i = 0; i < 50; i++) {
            struct lcl_episode episode;
            ASSERT_OK(lcl_sampler_draw(lcl_samplers_of(&s.samplers, NULL, i), 0, i, 0, &episode));
            assert_int_equal(episode.class_id[1],
                             at(lcl_env_training_neighbors(&e), episode.class_id[0], 0));
            lcl_episode_free(&episode);
        }
    }
    lcl_source_close(&s);
    lcl_pictures_close(&pictures);
    lcl_env_close(&e);
}

/* What the plan counts is what one table takes, in work and in the tower's memory. */
static void the_plan_knows_its_work(void **state)
{
    (void)state;
    static const char *const more[] = {"", "lora.rank=2 lora.targets=q_proj,fc1",
                                       "data.refresh_images=0", "bf16=true"};
    for (size_t i = 0; i < sizeof more / sizeof *more; i++) {
        struct lcl_env e;
        struct lcl_config c;
        struct lcl_plan plan;
        struct lcl_profile *p;
        struct lcl_profile_sum sum;
        struct lcl_refresh r;
        double flops = 0;
        char words[400];
        snprintf(words, sizeof words, "%s %s", trains, more[i]);
        open_env(&e, &c, words);
        ASSERT_OK(lcl_plan_stage(&e, &c, 0, 2, &plan));
        ASSERT_OK(lcl_profile_open(&p, &e.exec));
        ASSERT_OK(lcl_profile_step_begin(p, 1));
        ASSERT_OK(lcl_refresh_neighbors(&e, &c, &r));
        ASSERT_OK(lcl_profile_step_end(p, true, 1, 0));
        ASSERT_OK(lcl_profile_sum(p, &sum));
        for (size_t k = 0; k < sum.n; k++) flops += sum.row[k].flops;
        if (fabs(flops - plan.refresh_flops) > 1e-9 * flops)
            fail_msg("%s: ops %.0f, plan %.0f", words, flops, plan.refresh_flops);
        assert_true(flops > 0 && plan.evaluation >= lcl_refresh_bytes(&e, &c));
        lcl_profile_sum_free(&sum);
        lcl_profile_close(p);
        lcl_env_close(&e);
    }
}

/* ---- runs ---- */

static struct kills k;

static void train(const char *name, const char *const *more, int n, lcl_status wanted)
{
    struct lcl_run_config *run = malloc(sizeof *run);
    struct lcl_train_options o = {0};
    bool interrupted;
    const char *sets[16];
    char set[340];
    assert_non_null(run);
    snprintf(set, sizeof set, "output_dir=%s/%s", temp_dir(), name);
    sets[0] = set;
    for (int i = 0; i < n; i++) sets[1 + i] = more[i];
    lcl_log_set_level(LCL_LOG_QUIET);
    ASSERT_OK(lcl_config_load(tiny_file("refresh.yaml", tiny_yaml()), sets, 1 + n, run));
    assert_int_equal(lcl_train_run(run, &o, &interrupted), wanted);
    lcl_log_set_level(LCL_LOG_INFO);
    free(run);
}

/* A line a table, of the step that first draws from it; and the tower's training moves classes. */
static void says_what_changed(void **state)
{
    (void)state;
    static const char *const sets[] = {
        "freeze_vision_tower=false", "data.hard_fraction=1", "data.refresh_neighbors=3",
        "data.num_neighbors=2",      "max_steps=10",         "learning_rate=0.03"};
    struct lcl_metrics_table t;
    char path[340];
    int n = 0;
    double changed = 0;
    train("says", sets, 6, LCL_OK);
    snprintf(path, sizeof path, "%s/says/metrics.jsonl", temp_dir());
    ASSERT_OK(lcl_metrics_load(path, &t));
    for (size_t i = 0; i < t.n; i++) {
        if (strcmp(t.rows[i].kind, "neighbors") != 0) continue;
        assert_int_equal(t.rows[i].step, 4 + 3 * n); /* after 3, 6 and 9 */
        assert_true(t.rows[i].seconds > 0 && t.rows[i].new_share >= 0);
        changed += n++ > 0 ? t.rows[i].new_share : 0;
    }
    assert_int_equal(n, 3);
    assert_true(changed > 0); /* beyond the first, which replaces the table of pixels */
    lcl_metrics_table_free(&t);
}

/* Stopped and killed anywhere; checkpoints come every 7 steps. */
static void goes_on_across_tables(void **state)
{
    (void)state;
    char keys[600];
    snprintf(keys, sizeof keys,
             "freeze_vision_tower: false\ndata.hard_fraction: 1\ndata.refresh_neighbors: 5\n"
             "data.num_neighbors: 2\ndata.neighbors: %s.neighbors.h5\n",
             tiny_pack());
    kills_set_up(&k, keys);
    if (!strstr(k.output, "neighbors from step 26 on:")) fail_msg("%s", k.output);
    kills_many(&k, 6, 3);
}

static void fails_with(const char *const *sets, int n, const char *text)
{
    train("refused", sets, n, LCL_CONFIG);
    if (!strstr(lcl_error_message(), text)) fail_msg("%s; wanted: %s", lcl_error_message(), text);
}

static void refuses_what_cannot_change(void **state)
{
    (void)state;
    static const char *const frozen[] = {"freeze_vision_tower=true", "data.hard_fraction=1",
                                         "data.refresh_neighbors=3"};
    static const char *const unused[] = {"freeze_vision_tower=false", "data.refresh_neighbors=3"};
    static const char *const jigsaw[] = {"freeze_vision_tower=false", "data.refresh_neighbors=3",
                                         "data.strategy=jigsaw", "data.hard_fraction=1"};
    fails_with(frozen, 3, "the tower is frozen");
    fails_with(unused, 2, "draws from no neighbor table");
    fails_with(jigsaw, 4, "draws from no neighbor table");
}

/* Tables of a checkpoint are as hostile as any file. */
static void refuses_damaged_tables(void **state)
{
    (void)state;
    struct lcl_env e;
    struct lcl_config c;
    int32_t index[2 * (TINY_TRAIN_CLASSES + TINY_TEST_CLASSES)];
    open_env(&e, &c, trains);
    int32_t n = e.pack.n_classes;
    struct lcl_run_state s = {.neighbors = index, .neighbor_classes = n, .neighbor_width = 2};
    for (int32_t i = 0; i < 2 * n; i++) index[i] = -1;
    ASSERT_OK(lcl_refresh_restore(&e, &s, "checkpoint-9"));
    assert_int_equal(e.refreshed.n_classes, n);
    for (int bad = 0; bad < 4; bad++) {
        int32_t other = 0;
        while (is_train(&e, other) == is_train(&e, 0)) other++;
        const int32_t entry[] = {n, -2, 0, other}; /* beyond, negative, itself, the other split */
        index[0] = entry[bad];
        assert_int_equal(lcl_refresh_restore(&e, &s, "checkpoint-9"), LCL_FORMAT);
        assert_non_null(strstr(lcl_error_message(), "checkpoint-9: row of class"));
        assert_int_equal(e.refreshed.n_classes, 0);
    }
    index[0] = -1;
    s.neighbor_classes = n - 1;
    assert_int_equal(lcl_refresh_restore(&e, &s, "checkpoint-9"), LCL_FORMAT);
    lcl_env_close(&e);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(is_due_between_steps),
        cmocka_unit_test(ranks_by_the_towers_features),
        cmocka_unit_test(cuts_by_intervals),
        cmocka_unit_test(samples_come_from_the_new_table),
        cmocka_unit_test(the_plan_knows_its_work),
        cmocka_unit_test(says_what_changed),
        cmocka_unit_test(goes_on_across_tables),
        cmocka_unit_test(refuses_what_cannot_change),
        cmocka_unit_test(refuses_damaged_tables),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
