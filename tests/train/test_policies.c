/* Training on reference names and jigsaws: the pictures that a step reads, runs of stages. */
#include <math.h>

#include "checkpoint/ckpt.h"
#include "core/fs.h"
#include "core/log.h"
#include "data/jigsaw.h"
#include "tests/support/support.h"
#include "tests/support/tiny.h"
#include "train/eval.h"
#include "train/lane.h"
#include "train/loop.h"
#include "train/plan.h"

enum { N = 6, S = 16 };

/* Plain, augmented and cut pictures of one call: each as if it were read alone. */
static void pictures_of_all_kinds(void **state)
{
    (void)state;
    static float out[N][3 * S * S], alone[3 * S * S];
    const int64_t image[N] = {1, 1, 5, 5, 5, 3};
    const int32_t view[N] = {
        0, lcl_jigsaw_tile(2, 1), lcl_jigsaw_whole(6, 7), lcl_jigsaw_tile(6, 15), 2, 0};
    struct lcl_config c;
    struct lcl_pack pack;
    struct lcl_preprocess p;
    struct lcl_pictures kept;
    struct lcl_picture_buffer buffer = {0};
    struct lcl_images images;
    tiny_config(&c, "");
    lcl_preprocess_defaults(&p, S);
    ASSERT_OK(lcl_pack_open(tiny_pack(), &pack));
    ASSERT_OK(lcl_pictures_open(&kept, &pack, &p, &c));
    assert_non_null(kept.bytes);
    ASSERT_OK(lcl_pictures_read(&kept, image, view, N, out[0]));
    for (int i = 0; i < N; i++) {
        if (lcl_jigsaw_is_view(view[i]))
            ASSERT_OK(lcl_jigsaw_read_pixels(&pack, &image[i], &view[i], 1, &p, alone));
        else
            ASSERT_OK(lcl_pictures_read(&kept, &image[i], &view[i], 1, alone));
        assert_memory_equal(out[i], alone, sizeof alone);
    }
    assert_true(memcmp(out[0], out[1], sizeof alone) != 0);
    ASSERT_OK(lcl_pictures_batch(&kept, image, view, N, &buffer, &images));
    assert_memory_equal(images.pixels, out, sizeof out);
    lcl_picture_buffer_free(&buffer);
    float *before = malloc(sizeof out);
    assert_non_null(before);
    memcpy(before, out, sizeof out);
    free(kept.bytes); /* from now on they are read from the pack */
    kept.bytes = NULL;
    ASSERT_OK(lcl_pictures_read(&kept, image, view, N, out[0]));
    for (int i = 0; i < N; i++) /* bytes and pixels are one value apart by rounding at most */
        for (int k = 0; k < 3 * S * S; k++)
            assert_true(fabsf(out[i][k] - before[i * 3 * S * S + k]) < 1e-5f);
    free(before);
    lcl_pictures_close(&kept);
    lcl_pack_close(&pack);
}

/* A run of these stages from a checkpoint-less start; its folder. */
static const char *train(const char *name, const char *stages)
{
    static char dir[400];
    char yaml[2048];
    bool interrupted = false;
    struct lcl_run_config *run = malloc(sizeof *run);
    assert_non_null(run);
    tiny_file("base.yaml", tiny_yaml());
    snprintf(dir, sizeof dir, "%s/%s", temp_dir(), name);
    snprintf(yaml, sizeof yaml, "base: base.yaml\noutput_dir: %s\n%s", dir, stages);
    ASSERT_OK(lcl_config_load(tiny_file("policies.yaml", yaml), NULL, 0, run));
    ASSERT_OK(lcl_train_run(run, &(struct lcl_train_options){0}, &interrupted));
    assert_false(interrupted);
    free(run);
    return dir;
}

static void assert_finished(const char *dir)
{
    char path[500];
    snprintf(path, sizeof path, "%s/finished", dir);
    assert_true(lcl_fs_exists(path));
}

/* A frozen tower's features are kept for stages without jigsaws, and computed in the steps of one.
 */
static void stages_of_all_policies(void **state)
{
    (void)state;
    lcl_log_set_level(LCL_LOG_QUIET);
    assert_finished(train("stages",
                          "stages:\n"
                          "  - {name: link, max_steps: 4, save_steps: 2}\n"
                          "  - {name: names, max_steps: 4, data.strategy: ref, data.shots: 6}\n"
                          "  - {name: tiles, max_steps: 4, data.strategy: jigsaw, eval_steps: 2}\n"
                          "  - {name: again, max_steps: 4, data.augment_views: 2}\n"));
    assert_finished(train("official",
                          "data.reading: official\ndata.shots: 4\n"
                          "stages:\n"
                          "  - {name: both, max_steps: 4, data.strategy: ref_or_weight}\n"
                          "  - {name: tiles, max_steps: 4, data.strategy: jigsaw}\n"));
}

/* Tiles and pictures as they are in one batch, of a tower that trains. */
static void sources_of_all_policies(void **state)
{
    (void)state;
    lcl_log_set_level(LCL_LOG_QUIET);
    assert_finished(train("sources", "data: {sources: \"episodes=1,ref_or_weight=1,jigsaw=1\", "
                                     "shots: 6}\nfreeze_vision_tower: false\nmax_steps: 8\n"));
}

static const char official_texts[] =
    "{\"format\": \"lcl-template-1\", \"system\": \"Look.\", \"first\": \" \", \"next\": \"\", "
    "\"support\": \"USER: what is <image>? ASSISTANT: a {label}. [/e]</s>\", \"shot_answer\": \" a "
    "{label}. [/e]</s>\", \"query\": \"[F]:  USER: {question} ASSISTANT:\", \"question\": \"and "
    "<image>?\", \"answer\": \" a {label}.</s>\", \"ref\": {\"support\": \"USER: <image> "
    "ASSISTANT: {label}</s>\", \"shot_answer\": \" {label}</s>\", \"query\": \"USER: which <image> "
    "ASSISTANT:\", \"answer\": \" {label}</s>\"}}";

/* data.layout: official, in training, its evaluations, and those of the run that it left. */
static void the_official_layout(void **state)
{
    (void)state;
    char keys[1000], path[LCL_CHECKPOINT_PATH_BYTES];
    struct lcl_config c;
    struct lcl_env e = {0};
    struct lcl_eval_outcome o;
    lcl_log_set_level(LCL_LOG_QUIET);
    snprintf(keys, sizeof keys,
             "data: {layout: official, template: %s, shots: 6, strategy: ref_or_weight}\n"
             "max_steps: 4\neval_steps: 2\n",
             tiny_file("official.json", official_texts));
    const char *dir = train("layout", keys);
    assert_finished(dir);
    ASSERT_OK(lcl_env_run_config(dir, NULL, 0, &c));
    assert_int_equal(c.data_layout, LCL_LAYOUT_OFFICIAL);
    ASSERT_OK(lcl_checkpoint_find(dir, path, sizeof path));
    ASSERT_OK(lcl_env_start(&e, &c));
    ASSERT_OK(lcl_env_open_data(&e, &c));
    ASSERT_OK(lcl_env_load_model(&e, path, &c));
    assert_int_equal(e.model.config.image_token, lcl_tokenizer_id(e.tokenizer, "<im_patch>"));
    assert_int_equal(e.model.config.text.V, lcl_tokenizer_vocab_size(e.tokenizer));
    const struct lcl_eval_request q = {
        .shots = 4, .episodes = 8, .greedy = true, .likelihood = true};
    ASSERT_OK(lcl_eval_run(&e, &c, NULL, &q, &o));
    assert_true(o.likelihood.mean >= 0 && o.likelihood.mean <= 1);
    lcl_eval_outcome_free(&o);
    lcl_env_close(&e);
}

/* A model without rows for the image tokens cannot begin such a run. */
static void a_small_vocabulary_is_refused(void **state)
{
    (void)state;
    struct lcl_config c;
    struct lcl_env e = {0};
    lcl_log_set_level(LCL_LOG_QUIET);
    const char *dir = train("plain", "max_steps: 2\n");
    tiny_config(&c, "");
    c.data_layout = LCL_LAYOUT_OFFICIAL;
    snprintf(c.init_from, sizeof c.init_from, "%s", dir);
    snprintf(c.data_template, sizeof c.data_template, "%s",
             tiny_file("official.json", official_texts));
    ASSERT_OK(lcl_env_start(&e, &c));
    ASSERT_FAILS(lcl_env_make_model(&e, &c, false), LCL_SHAPE, "a vocabulary of");
    lcl_env_close(&e);
}

/* What a run keeps in memory: features, but for stages that draw jigsaws. */
static void a_plan_has_no_features(void **state)
{
    (void)state;
    struct lcl_config c;
    tiny_config(&c, "data.strategy=jigsaw freeze_vision_tower=true cache_features=true");
    assert_false(lcl_plan_caches_features(&c));
    tiny_config(&c, "data.sources=ref=1,episodes=2 freeze_vision_tower=true cache_features=true");
    assert_true(lcl_plan_caches_features(&c));
    tiny_config(&c, "data.sources=jigsaw=1,episodes=2 freeze_vision_tower=true");
    assert_false(lcl_plan_caches_features(&c));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pictures_of_all_kinds),         cmocka_unit_test(stages_of_all_policies),
        cmocka_unit_test(sources_of_all_policies),       cmocka_unit_test(the_official_layout),
        cmocka_unit_test(a_small_vocabulary_is_refused), cmocka_unit_test(a_plan_has_no_features)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
