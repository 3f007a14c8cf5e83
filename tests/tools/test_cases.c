/* Reference cases through lcl generate --case, tokenize and preprocess: build/lcl (LCL_BIN) is run
 * and what it prints or writes is compared with transformers' words and numbers. */
#include "tests/support/support.h"

#include <jansson.h>
#include <math.h>
#include <sys/wait.h>

#include "checkpoint/safetensors.h"
#include "core/fs.h"
#include "tests/support/tiny.h"

static char output[1 << 20];

/* Runs `lcl ARGUMENTS`, keeps standard output (and error where `both`); returns the exit status. */
static int lcl(bool both, const char *arguments)
{
    const char *bin = getenv("LCL_BIN");
    char command[2048];
    snprintf(command, sizeof command, "{ %s %s; } %s", bin ? bin : "build/lcl", arguments,
             both ? "2>&1" : "");
    FILE *f = popen(command, "r");
    assert_non_null(f);
    size_t n = fread(output, 1, sizeof output - 1, f);
    output[n] = 0;
    int status = pclose(f);
    if (!WIFEXITED(status)) fail_msg("%s was killed:\n%s", command, output);
    return WEXITSTATUS(status);
}

static void succeeds(const char *arguments)
{
    if (lcl(false, arguments) != 0) fail_msg("%s said:\n%s", arguments, output);
}

static void fails(const char *arguments, const char *text)
{
    assert_int_equal(lcl(true, arguments), 1);
    if (!strstr(output, text)) fail_msg("it said:\n%s\nwanted: %s", output, text);
}

static const char *model(void) { return shared_path("golden/llava-tiny"); }

static void greedy_tokens(void **state)
{
    (void)state;
    struct lcl_safetensors st;
    char arguments[1200], path[600];
    int64_t wanted[64];
    snprintf(path, sizeof path, "%s/case.safetensors", model());
    ASSERT_OK(lcl_st_open(path, &st));
    const struct lcl_st_tensor *t = lcl_st_find(&st, "generate.new_ids");
    assert_non_null(t);
    ASSERT_OK(lcl_st_read(t, 0, t->count, LCL_I64, wanted));
    snprintf(arguments, sizeof arguments, "generate --model %s --case %s", model(), path);
    succeeds(arguments);
    json_t *ids = json_loads(output, 0, NULL);
    assert_int_equal(json_array_size(ids), t->count);
    for (size_t i = 0; i < t->count; i++)
        assert_int_equal(json_integer_value(json_array_get(ids, i)), wanted[i]);
    json_decref(ids);
    snprintf(arguments, sizeof arguments, "generate --model %s --case %s --max-new 3 --json",
             model(), path);
    succeeds(arguments);
    json_t *root = json_loads(output, 0, NULL);
    ids = json_array_get(json_object_get(root, "new_ids"), 0);
    assert_int_equal(json_array_size(ids), 3);
    assert_int_equal(json_integer_value(json_array_get(ids, 2)), wanted[2]);
    json_decref(root);
    lcl_st_close(&st);
    fails("generate --model x", "--case alone");
    snprintf(arguments, sizeof arguments, "generate --model %s --case %s --query x", model(), path);
    fails(arguments, "--case alone");
}

/* Every string of the reference file as one line. */
static void tokenizer_strings(void **state)
{
    (void)state;
    static const char *const keys[] = {"ids", "ids_no_special", "decoded", "decoded_skip_special"};
    char arguments[1200], path[600];
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
    snprintf(arguments, sizeof arguments, "tokenize --model %s < %s", model(),
             tiny_file("texts.jsonl", lines));
    succeeds(arguments);
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
    snprintf(arguments, sizeof arguments, "tokenize --model %s < %s", model(),
             tiny_file("bad.jsonl", "{\"text\": \"a\"}\n\n{\"words\": 1}\n"));
    fails(arguments, "line 3");
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
    succeeds(arguments);
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
    snprintf(arguments, sizeof arguments, "preprocess --model %s --out %s --image no.png", model(),
             out);
    fails(arguments, "no.png");
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(greedy_tokens),
                                       cmocka_unit_test(tokenizer_strings),
                                       cmocka_unit_test(pictures)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
