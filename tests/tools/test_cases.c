/* Reference cases through lcl generate --case, tokenize and preprocess: build/lcl (LCL_BIN) is run
 * and what it prints or writes is compared with transformers' words and numbers. */
#include "tests/support/command.h"

#include <jansson.h>
#include <math.h>

#include "checkpoint/safetensors.h"
#include "core/fs.h"
#include "tests/support/tiny.h"

static const char *model(void) { return shared_path("golden/llava-tiny"); }

static void greedy_tokens(void **state)
{
    (void)state;
    struct lcl_safetensors st;
    char path[600];
    int64_t wanted[64];
    snprintf(path, sizeof path, "%s/case.safetensors", model());
    ASSERT_OK(lcl_st_open(path, &st));
    const struct lcl_st_tensor *t = lcl_st_find(&st, "generate.new_ids");
    assert_non_null(t);
    ASSERT_OK(lcl_st_read(t, 0, t->count, LCL_I64, wanted));
    PRINTS("generate --model %s --case %s", model(), path);
    json_t *ids = json_loads(output, 0, NULL);
    assert_int_equal(json_array_size(ids), t->count);
    for (size_t i = 0; i < t->count; i++)
        assert_int_equal(json_integer_value(json_array_get(ids, i)), wanted[i]);
    json_decref(ids);
    PRINTS("generate --model %s --case %s --max-new 3 --json", model(), path);
    json_t *root = json_loads(output, 0, NULL);
    ids = json_array_get(json_object_get(root, "new_ids"), 0);
    assert_int_equal(json_array_size(ids), 3);
    assert_int_equal(json_integer_value(json_array_get(ids, 2)), wanted[2]);
    json_decref(root);
    lcl_st_close(&st);
    FAILS("--case alone", "generate --model x");
    FAILS("--case alone", "generate --model %s --case %s --query x", model(), path);
}

/* Every string of the reference file as one line. */
static void tokenizer_strings(void **state)
{
    (void)state;
    static const char *const keys[] = {"ids", "ids_no_special", "decoded", "decoded_skip_special"};
    char path[600];
    snprintf(path, sizeof path, "%s/tokenizer_cases.json", model());
    json_t *root = json_load_file(path, JSON_ALLOW_NUL, NULL), *c;
    json_t *cases = json_object_get(root, "cases");
    size_t i;
    assert_true(json_array_size(cases) > 50);
    char *lines = calloc(1, 1 << 20);
    json_array_foreach(cases, i, c)
    {
        json_t *row = json_pack("{s:O}", "text", json_object_get(c, "text"));
        char *line = json_dumps(row, 0);
        strcat(strcat(lines, line), "\n");
        free(line);
        json_decref(row);
    }
    PRINTS("tokenize --model %s < %s", model(), tiny_file("texts.jsonl", lines));
    char *rest = NULL, *line = strtok_r(output, "\n", &rest);
    json_array_foreach(cases, i, c)
    {
        json_t *got = line ? json_loads(line, JSON_ALLOW_NUL, NULL) : NULL;
        for (int k = 0; k < 4; k++)
            if (!json_equal(json_object_get(got, keys[k]), json_object_get(c, keys[k])))
                fail_msg("%s of case %zu: %s", keys[k], i, line);
        json_decref(got);
        line = strtok_r(NULL, "\n", &rest);
    }
    assert_null(line);
    json_decref(root);
    free(lines);
    FAILS("line 3", "tokenize --model %s < %s", model(),
          tiny_file("bad.jsonl", "{\"text\": \"a\"}\n\n{\"words\": 1}\n"));
}

static void pictures(void **state)
{
    (void)state;
    static const char *const files[][2] = {{"rgb.png", "rgb"},           {"rgba.png", "white"},
                                           {"gray16.png", "rgb"},        {"jpeg420.jpg", "rgb"},
                                           {"exif6.jpg", "exif"},        {"wide.png", "rgb"},
                                           {"progressive444.jpg", "rgb"}};
    enum { N = sizeof files / sizeof *files, PLANE = 3 * 32 * 32 };
    char arguments[2048], images[600], out[400], name[100];
    float *got = malloc(N * PLANE * sizeof *got), want[PLANE];
    struct lcl_safetensors st, expected;
    snprintf(images, sizeof images, "%s/../images", model());
    snprintf(out, sizeof out, "%s/pictures.safetensors", temp_dir());
    int n = snprintf(arguments, sizeof arguments, "preprocess --model %s --out %s", model(), out);
    for (int i = 0; i < N; i++)
        n += snprintf(arguments + n, sizeof arguments - (size_t)n, " --image %s/%s", images,
                      files[i][0]);
    PRINTS("%s", arguments);
    ASSERT_OK(lcl_st_open(out, &st));
    assert_int_equal(lcl_st_find(&st, "pixel_values")->shape[0], N);
    ASSERT_OK(lcl_st_read(lcl_st_find(&st, "pixel_values"), 0, N * PLANE, LCL_F32, got));
    snprintf(name, sizeof name, "golden/images/expected.safetensors");
    ASSERT_OK(lcl_st_open(shared_path(name), &expected));
    for (int i = 0; i < N; i++) {
        snprintf(name, sizeof name, "%s.%s.clip.32", files[i][0], files[i][1]);
        const struct lcl_st_tensor *t = lcl_st_find(&expected, name);
        assert_non_null(t);
        ASSERT_OK(lcl_st_read(t, 0, PLANE, LCL_F32, want));
        for (int k = 0; k < PLANE; k++)
            if (!(fabsf(got[i * PLANE + k] - want[k]) <= 1e-5f))
                fail_msg("%s[%d]: %g, wanted %g", name, k, (double)got[i * PLANE + k],
                         (double)want[k]);
    }
    lcl_st_close(&st);
    lcl_st_close(&expected);
    free(got);
    FAILS("no.png", "preprocess --model %s --out %s --image no.png", model(), out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(greedy_tokens),
                                       cmocka_unit_test(tokenizer_strings),
                                       cmocka_unit_test(pictures)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
