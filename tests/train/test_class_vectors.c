/* Class vectors by CLIP, by a model's tower and by pixels, against means over all features. */
#include "train/class_vectors.h"

#include <math.h>

#include "core/fs.h"
#include "core/log.h"
#include "data/tokenizer.h"
#include "tests/support/clip_folder.h"
#include "tests/support/tiny.h"

static void open_env(struct lcl_env *e, struct lcl_config *c)
{
    lcl_log_set_level(LCL_LOG_QUIET);
    tiny_config(c, "");
    *e = (struct lcl_env){0};
    ASSERT_OK(lcl_env_start(e, c));
    ASSERT_OK(lcl_env_open_pack(e, c));
}

/* The CLIP of test_clip.c with letters for tokens; its folder. */
static const char *clip_folder(struct lcl_clip *m)
{
    static char dir[512];
    struct lcl_clip_config c = clip_shapes(2, LCL_GELU_QUICK);
    char vocab[1024] = "{\"t\": 20, \"h\": 21, \"i\": 22, \"n\": 23, \"o\": 24, ";
    for (int i = 0; i < 10; i++)
        snprintf(vocab + strlen(vocab), sizeof vocab - strlen(vocab),
                 "\"%c</w>\": %d, \"%c\": %d, ", 'a' + i, i, i == 7 || i == 8 ? 'A' + i : 'a' + i,
                 10 + i);
    snprintf(vocab + strlen(vocab), sizeof vocab - strlen(vocab),
             "\"<|startoftext|>\": 29, \"<|endoftext|>\": 30}");
    snprintf(dir, sizeof dir, "%s/clip", temp_dir());
    make_clip(m, &c);
    save_clip_folder(m, dir, "logit_scale");
    ASSERT_OK(lcl_fs_write_text(dir, "vocab.json", vocab));
    ASSERT_OK(lcl_fs_write_text(dir, "merges.txt", "#version: 0.2\n"));
    ASSERT_OK(lcl_fs_write_text(dir, "preprocessor_config.json",
                                "{\"image_processor_type\": \"CLIPImageProcessor\", \"size\": "
                                "{\"shortest_edge\": 12}, \"crop_size\": {\"height\": 12, "
                                "\"width\": 12}}"));
    return dir;
}

/* The class's vector of these pictures, by features that are of length 1. */
static void wanted_mean(const float *feature_NF, const struct lcl_class *class, int64_t step,
                        int64_t F, double *mean)
{
    double square = 0;
    for (int64_t k = 0; k < F; k++) {
        mean[k] = 0;
        for (int64_t i = 0; i < class->n_images; i += step)
            mean[k] += (double)feature_NF[class->images[i] * F + k];
        square += mean[k] * mean[k];
    }
    for (int64_t k = 0; k < F; k++) mean[k] /= sqrt(square);
}

static void assert_vectors(const struct lcl_env *e, const float *mean_CF, const float *feature_NF,
                           int64_t step, int64_t F)
{
    double mean[1024];
    for (int32_t c = 0; c < e->pack.n_classes; c++) {
        wanted_mean(feature_NF, &e->pack.classes[c], step, F, mean);
        for (int64_t k = 0; k < F; k++)
            if (!(fabs(mean[k] - (double)mean_CF[c * F + k]) < 1e-6))
                fail_msg("class %d: feature %d is %g, wanted %g", c, (int)k,
                         (double)mean_CF[c * F + k], mean[k]);
    }
}

static void test_clip_images(void **state)
{
    (void)state;
    struct lcl_env e;
    struct lcl_config c;
    struct lcl_clip m;
    struct lcl_class_vectors v;
    struct lcl_preprocess p;
    bool found;
    open_env(&e, &c);
    const char *dir = clip_folder(&m);
    struct lcl_clip_pass pass = {.exec = &e.exec};
    int64_t n = e.pack.n_images;
    float *pixels = malloc((size_t)(n * 3 * CLIP_SIDE * CLIP_SIDE) * sizeof *pixels);
    float *feature = malloc((size_t)(n * CLIP_P) * sizeof *feature);
    int64_t *all = malloc((size_t)n * sizeof *all);
    for (int64_t i = 0; i < n; i++) all[i] = i;
    lcl_preprocess_defaults(&p, CLIP_SIDE);
    ASSERT_OK(lcl_preprocess_load(dir, &p, &found));
    ASSERT_OK(lcl_pack_read_pixels(&e.pack, all, n, &p, pixels));
    ASSERT_OK(lcl_clip_images(&m, &pass, pixels, n, feature));
    for (int64_t step = 1; step <= 3; step++) { /* 6 pictures a class: all, 3 or 2 of them */
        ASSERT_OK(
            lcl_class_vectors_clip(&e, dir, false, true, false, TINY_PICTURES / step, "", &v));
        assert_int_equal(v.F, CLIP_P);
        assert_null(v.text_CF);
        assert_vectors(&e, v.image_CF, feature, step, CLIP_P);
        lcl_class_vectors_free(&v);
    }
    lcl_clip_pass_free(&pass);
    lcl_clip_free(&m);
    free(pixels);
    free(feature);
    free(all);
    lcl_env_close(&e);
}

static void test_clip_texts(void **state)
{
    (void)state;
    struct lcl_env e;
    struct lcl_config c;
    struct lcl_clip m;
    struct lcl_class_vectors v;
    float got[CLIP_P];
    open_env(&e, &c);
    const char *dir = clip_folder(&m);
    struct lcl_clip_pass pass = {.exec = &e.exec};
    ASSERT_OK(lcl_class_vectors_clip(&e, dir, false, false, true, 0, "A{name}", &v));
    assert_null(v.image_CF);
    for (int32_t k = 0; k < e.pack.n_classes; k++) {
        /* "aX thing": a X</w> t h i n g</w> cut to the 7 positions, the end of text the last */
        int32_t x = e.pack.classes[k].name[0] - 'a';
        const int32_t ids[] = {29, 10, x, 20, 21, 22, 30};
        ASSERT_OK(lcl_clip_texts(&m, &pass, ids, (int32_t[]){7}, 1, got));
        for (int i = 0; i < CLIP_P; i++)
            assert_true(fabsf(got[i] - v.text_CF[k * CLIP_P + i]) < 1e-6f);
    }
    lcl_class_vectors_free(&v);
    ASSERT_FAILS(lcl_class_vectors_clip(&e, dir, false, false, true, 0, "a photo", &v), LCL_CONFIG,
                 "has no {name}");
    lcl_clip_pass_free(&pass);
    lcl_clip_free(&m);
    lcl_env_close(&e);
}

/* The streamed means of a tower are those of its features held all at once. */
static void test_model(void **state)
{
    (void)state;
    struct lcl_env e;
    struct lcl_config c;
    struct lcl_class_vectors v;
    open_env(&e, &c);
    ASSERT_OK(lcl_env_make_model(&e, &c, false));
    const int64_t C = e.model.config.vision.C, n = e.pack.n_images, S = e.preprocess.size,
                  T = lcl_feature_rows(&e.model.config);
    struct lcl_pass pass = {.exec = &e.exec, .model = &e.model};
    float *pixels = malloc((size_t)(3 * S * S) * sizeof *pixels);
    float *feature = calloc((size_t)(n * C), sizeof *feature);
    for (int64_t i = 0; i < n; i++) {
        double square = 0;
        ASSERT_OK(lcl_pack_read_pixels(&e.pack, &i, 1, &e.preprocess, pixels));
        ASSERT_OK(lcl_model_vision_fwd(&pass, pixels, 1));
        const float *x = pass.features;
        for (int64_t k = 0; k < T * C; k++) feature[i * C + k % C] += x[k] / (float)T;
        for (int64_t k = 0; k < C; k++)
            square += (double)feature[i * C + k] * (double)feature[i * C + k];
        for (int64_t k = 0; k < C; k++) feature[i * C + k] /= (float)sqrt(square);
    }
    ASSERT_OK(lcl_class_vectors_model(&e, 0, false, &v));
    assert_vectors(&e, v.image_CF, feature, 1, C);
    lcl_class_vectors_free(&v);
    ASSERT_OK(lcl_class_vectors_pixels(&e, &c, 2, &v));
    assert_int_equal(v.F, 3 * 16 * 16);
    lcl_class_vectors_free(&v);
    lcl_pass_free(&pass);
    free(pixels);
    free(feature);
    lcl_env_close(&e);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_clip_images),
                                       cmocka_unit_test(test_clip_texts),
                                       cmocka_unit_test(test_model)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
