/* What preprocessor_config.json asks for, and sizes that it may ask for. */
#include "core/fs.h"
#include "data/image.h"
#include "tests/support/support.h"

/* Settings of a preprocessor_config.json; `text` NULL: no such file. */
static lcl_status load_settings(const char *file, const char *text, struct lcl_preprocess *p,
                                bool *found)
{
    static int n;
    char dir[300], path[400];
    snprintf(dir, sizeof dir, "%s/settings-%d", temp_dir(), n++);
    snprintf(path, sizeof path, "%s/%s", dir, file);
    ASSERT_OK(lcl_fs_mkdirs(dir));
    if (text) ASSERT_OK(lcl_fs_write_atomic(path, text, strlen(text)));
    return lcl_preprocess_load(dir, p, found);
}

static void test_settings(void **state)
{
    (void)state;
    static const char clip_file[] = "preprocessor_config.json";
    static const char pad[] =
        "{\"image_processor\": {\"image_processor_type\": \"LlavaImageProcessor\", \"do_pad\": "
        "true, \"size\": {\"shortest_edge\": 32}, \"crop_size\": 32, \"image_mean\": [0.5, 0.25, "
        "1], \"image_std\": 0.5}}";
    struct lcl_preprocess p = {.size = 7}, clip;
    bool found = true;
    ASSERT_OK(load_settings(clip_file, NULL, &p, &found));
    assert_true(!found && p.size == 7);
    ASSERT_OK(load_settings(clip_file, "{}", &p, &found)); /* CLIP's own */
    lcl_preprocess_defaults(&clip, 224);
    assert_true(found && p.size == 224 && p.short_edge == 224 && p.mode == LCL_RESIZE_CROP);
    for (int k = 0; k < 3; k++) {
        assert_float_equal(p.mean[k], clip.mean[k], 1e-7);
        assert_float_equal(p.std[k], clip.std[k], 1e-7);
    }
    ASSERT_OK(load_settings("processor_config.json", pad, &p, &found));
    assert_true(found && p.size == 32 && p.mode == LCL_RESIZE_PAD);
    assert_true(p.background[0] == 127 && p.background[1] == 63 && p.background[2] == 255);
    assert_float_equal(p.mean[2], 1, 1e-7);
    assert_float_equal(p.std[0], 0.5, 1e-7);
    ASSERT_OK(load_settings(clip_file,
                            "{\"size\": {\"shortest_edge\": 40}, \"crop_size\": {\"height\": 32, "
                            "\"width\": 32}, \"do_normalize\": false, \"do_rescale\": false}",
                            &p, &found));
    assert_true(p.size == 32 && p.short_edge == 40 && p.mode == LCL_RESIZE_CROP);
    assert_float_equal(p.std[1], 1 / 255.0f, 1e-7); /* the bytes as they are */
    ASSERT_OK(load_settings(
        clip_file, "{\"size\": {\"height\": 48, \"width\": 48}, \"do_center_crop\": false}", &p,
        &found));
    assert_true(p.size == 48 && p.mode == LCL_RESIZE_STRETCH);
    ASSERT_FAILS(load_settings(clip_file, "{\"resample\": 2}", &p, &found), LCL_UNSUPPORTED,
                 "resample");
    ASSERT_FAILS(load_settings(clip_file, "{\"do_resize\": false}", &p, &found), LCL_UNSUPPORTED,
                 "do_resize");
    ASSERT_FAILS(load_settings(clip_file, "{\"crop_size\": 300}", &p, &found), LCL_UNSUPPORTED,
                 "crop_size above size");
    ASSERT_FAILS(load_settings(clip_file, "{\"size\": {\"height\": 4, \"width\": 5}}", &p, &found),
                 LCL_FORMAT, "size");
    ASSERT_FAILS(load_settings(clip_file, "{\"image_std\": [1, 0, 1]}", &p, &found), LCL_FORMAT,
                 "image_std");
    ASSERT_FAILS(
        load_settings(clip_file, "{\"image_processor_type\": \"ViTImageProcessor\"}", &p, &found),
        LCL_FORMAT, "ViTImageProcessor");
    ASSERT_FAILS(load_settings(clip_file, "[]", &p, &found), LCL_FORMAT, "no JSON object");
}

static void test_geometry(void **state)
{
    (void)state;
    struct lcl_preprocess p = {.std = {1.0f / 255, 1.0f / 255, 1.0f / 255}};
    float out[3 * 2 * 2];
    /* Stretched, sides go to the same; a crop after a larger shortest edge takes its middle. */
    p.mode = LCL_RESIZE_STRETCH;
    p.size = 2;
    uint8_t steps[4 * 2 * 3];
    for (int i = 0; i < 24; i++) steps[i] = i / 3 % 4 < 2 ? 10 : 250;
    struct lcl_image wide = {4, 2, 3, steps};
    ASSERT_OK(lcl_preprocess_image(&wide, &p, out));
    assert_true(out[0] < 60 && out[1] > 200);
    p.mode = LCL_RESIZE_CROP;
    p.size = 1;
    p.short_edge = 2; /* 4 x 2: column (4 - 1) / 2 */
    ASSERT_OK(lcl_preprocess_image(&wide, &p, out));
    assert_float_equal(out[0], 10, 1e-3);
    p.size = 3;
    ASSERT_FAILS(lcl_preprocess_image(&wide, &p, out), LCL_RANGE, "shortest edge 2");
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_settings),
                                       cmocka_unit_test(test_geometry)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
