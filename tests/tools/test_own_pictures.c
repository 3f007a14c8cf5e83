/* lcl generate, lcl classify and lcl plan as a user meets them: build/lcl (LCL_BIN) is run. */
#include "tests/support/support.h"

#include <jansson.h>
#include <sys/wait.h>

#include "core/fs.h"
#include "data/image.h"

static char output[1 << 16], dir[256];

/* A copy of the text with the test's folder for DIR; at most `bytes`. Returns its end. */
static char *with_dir(char *to, const char *from, size_t bytes)
{
    for (const char *end = to + bytes - sizeof dir; *from && to < end;) {
        if (strncmp(from, "DIR", 3) == 0) {
            to += sprintf(to, "%s", dir);
            from += 3;
        } else {
            *to++ = *from++;
        }
    }
    *to = 0;
    return to;
}

/* Runs `lcl ARGUMENTS`; DIR in them is the test's folder. Standard output and error are kept
 * together, or the former alone. */
static int run_lcl(const char *arguments, bool errors)
{
    const char *bin = getenv("LCL_BIN");
    char command[4096], *to = command;
    to += snprintf(command, sizeof command, "{ %s ", bin ? bin : "build/lcl");
    to = with_dir(to, arguments, sizeof command - 400);
    sprintf(to, "; } 2>%s", errors ? "&1" : "/dev/null");
    FILE *f = popen(command, "r");
    assert_non_null(f);
    size_t n = fread(output, 1, sizeof output - 1, f);
    output[n] = 0;
    int status = pclose(f);
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}
static int lcl(const char *arguments) { return run_lcl(arguments, true); }

#define ASSERT_SAYS(text)                                                                  \
    do {                                                                                   \
        if (!strstr(output, (text))) fail_msg("it said:\n%s\nwanted: %s", output, (text)); \
    } while (0)

static void write_file(const char *name, const void *data, size_t size)
{
    char path[512];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    *strrchr(path, '/') = '\0';
    ASSERT_OK(lcl_fs_mkdirs(path));
    path[strlen(path)] = '/';
    ASSERT_OK(lcl_fs_write_atomic(path, data, size));
}

static void write_picture(const char *name, int red)
{
    uint8_t pixels[18 * 18 * 3], *png;
    size_t size;
    for (int i = 0; i < 18 * 18 * 3; i++) pixels[i] = (uint8_t)(i % 3 ? 7 * i % 251 : red);
    struct lcl_image image = {.width = 18, .height = 18, .channels = 3, .pixels = pixels};
    ASSERT_OK(lcl_image_encode_png(&image, &png, &size));
    write_file(name, png, size);
    free(png);
}

/* DIR/run: one step of a small model, which needs no pictures. */
static int make_run(void **state)
{
    (void)state;
    static const char config[] =
        "task: language\nmax_steps: 1\nlogging_steps: 1\nper_device_train_batch_size: 1\n"
        "vision: {image_size: 16, patch_size: 8, hidden_size: 16, intermediate_size: 32, "
        "num_hidden_layers: 1, num_attention_heads: 2}\nmm_vision_select_layer: -1\n"
        "text: {hidden_size: 16, intermediate_size: 32, num_hidden_layers: 1, "
        "num_attention_heads: 2}\neval: {max_new_tokens: 4}\n";
    snprintf(dir, sizeof dir, "%s", temp_dir());
    write_file("model.yaml", config, strlen(config));
    write_picture("few/Red_Fox/1.png", 250);
    write_picture("few/Red_Fox/2.png", 240);
    write_picture("few/ant, black/1.png", 10);
    write_picture("new/a.png", 230);
    write_picture("new/b, \"c\".png", 20);
    if (lcl("train DIR/model.yaml --set output_dir=DIR/run") == 0) return 0;
    fprintf(stderr, "%s", output);
    return 1;
}

static void generate_answers_each_query(void **state)
{
    (void)state;
    const char *ask = "generate --model DIR/run --support fox=DIR/few/Red_Fox/1.png,"
                      "DIR/few/Red_Fox/2.png --support ant=DIR/new/a.png --query DIR/new/a.png "
                      "--query DIR/few/Red_Fox/1.png";
    char json[1024];
    assert_int_equal(lcl(ask), 0);
    ASSERT_SAYS("new/a.png\n  answer: ");
    ASSERT_SAYS("log-likelihood -");
    snprintf(json, sizeof json, "%s --json", ask);
    assert_int_equal(run_lcl(json, false), 0);
    json_t *root = json_loads(output, 0, NULL);
    assert_non_null(root);
    json_t *queries = json_object_get(root, "queries");
    assert_int_equal(json_array_size(queries), 2);
    json_t *share = json_object_get(json_array_get(queries, 1), "likelihood");
    double fox = json_real_value(json_object_get(share, "fox"));
    double ant = json_real_value(json_object_get(share, "ant"));
    assert_true(fox > 0 && ant > 0 && fox + ant > 0.999 && fox + ant < 1.001);
    assert_int_equal(json_array_size(json_object_get(
                         json_array_get(json_object_get(root, "support"), 0), "images")),
                     2);
    json_decref(root);
}

static void generate_draws(void **state)
{
    (void)state;
#define ASK                                                             \
    "generate --model DIR/run --query DIR/new/a.png --support fox=DIR/" \
    "few/Red_Fox/1.png --support ant=DIR/new/a.png "
    char *said[5];
    static const char *const how[] = {"", "--temperature 30 --top-k 1", "--temperature 30",
                                      "--temperature 30", "--temperature 30 --seed 2"};
    for (int i = 0; i < 5; i++) {
        char words[512];
        snprintf(words, sizeof words, ASK "%s", how[i]);
        assert_int_equal(lcl(words), 0);
        said[i] = strdup(output);
        assert_non_null(said[i]);
    }
    assert_string_equal(said[0], said[1]); /* of one token there is no choice */
    assert_string_not_equal(said[0], said[2]);
    assert_string_equal(said[2], said[3]);
    assert_string_not_equal(said[2], said[4]);
    for (int i = 0; i < 5; i++) free(said[i]);
    assert_int_equal(lcl(ASK "--top-p 0.5"), 1);
    ASSERT_SAYS("hint: give --temperature 1");
    assert_int_equal(lcl(ASK "--temperature 1 --top-p 0"), 1);
    ASSERT_SAYS("top_p 0, wanted above 0, up to 1");
    assert_int_equal(lcl(ASK "--temperature -1"), 1);
    ASSERT_SAYS("--temperature");
    assert_int_equal(lcl(ASK "--temperature nan"), 1);
    ASSERT_SAYS("--temperature");
#undef ASK
}

static void generate_says_what_is_wrong(void **state)
{
    (void)state;
#define ASK "generate --model DIR/run --query DIR/new/a.png --support "
    assert_int_equal(lcl(ASK "fox=DIR/new/a.png"), 1);
    ASSERT_SAYS("error: the support set has 1 label; wanted 2..64\nhint: ");
    assert_int_equal(lcl(ASK "fox=DIR/new/a.png --support fox=DIR/new/a.png"), 1);
    ASSERT_SAYS("the label \"fox\" is there already");
    assert_int_equal(lcl(ASK "fox=DIR/new/a.png --support ant=DIR/gone.png"), 1);
    ASSERT_SAYS("--support ant: there is no ");
    assert_int_equal(lcl(ASK "fox=DIR/new/a.png --support ant=DIR/model.yaml"), 1);
    ASSERT_SAYS("model.yaml: not a picture of a known format");
    assert_int_equal(lcl(ASK "fox=DIR/new/a.png --support 'a\"b=DIR/new/a.png'"), 1);
    ASSERT_SAYS("the label holds a double quote");
    assert_int_equal(lcl("generate --model DIR/none --query DIR/new/a.png --support "
                         "a=DIR/new/a.png --support b=DIR/new/a.png"),
                     1);
    ASSERT_SAYS("error: ");
#undef ASK
}

/* Runs `lcl chat` on commands in which DIR is the test's folder. */
static int chat(const char *commands)
{
    char text[4096];
    with_dir(text, commands, sizeof text);
    write_file("ask.txt", text, strlen(text));
    return lcl("chat --model DIR/run <DIR/ask.txt");
}

static void chat_teaches_and_asks(void **state)
{
    (void)state;
    char told[256];
    assert_int_equal(lcl("generate --model DIR/run --support fox=DIR/few/Red_Fox/1.png,"
                         "DIR/few/Red_Fox/2.png --support 'an ant=DIR/new/a.png' "
                         "--query DIR/few/Red_Fox/1.png"),
                     0);
    const char *answer = strstr(output, "answer: ");
    assert_non_null(answer);
    snprintf(told, sizeof told, "Red_Fox/1.png: %.*s\n  fox ", (int)strcspn(answer + 8, "\n"),
             answer + 8);
    assert_int_equal(chat("/teach fox DIR/few/Red_Fox/1.png\n/teach fox DIR/few/Red_Fox/2.png\n\n"
                          "/teach gone DIR/new/a.png\n/forget gone\n"
                          "/teach 'an ant' \"DIR\"/new/a.png\n/classes\n"
                          "DIR/few/Red_Fox/1.png DIR/new/b,\\ \\\"c\\\".png\n"),
                     0);
    ASSERT_SAYS("fox: 1 picture; teach another class, to tell it from\nfox: 2 pictures");
    ASSERT_SAYS("an ant: 1 picture\n");
    ASSERT_SAYS("/new/b, \"c\".png: ");
    ASSERT_SAYS(told); /* as generate answers */
    assert_null(strstr(strstr(output, "an ant: 1"), "gone"));
}

static void chat_says_what_is_wrong(void **state)
{
    (void)state;
    assert_int_equal(chat("/teach fox DIR/new/a.png\nDIR/new/a.png\n"), 1);
    ASSERT_SAYS("error: line 2: an answer chooses between classes: teach another one\nhint: ");
    assert_int_equal(chat("/tech fox\n"), 1);
    ASSERT_SAYS("there is no command /tech\nhint: did you mean /teach?");
    assert_int_equal(chat("/teach fox DIR/new/none.png\n"), 1);
    ASSERT_SAYS("there is no file ");
    assert_int_equal(chat("/teach fox DIR/new\n"), 1);
    ASSERT_SAYS("/new is a folder");
    assert_int_equal(chat("/teach fox DIR/model.yaml\n"), 1);
    ASSERT_SAYS("model.yaml: not a picture of a known format");
    assert_int_equal(chat("/teach 'fox\n"), 1);
    ASSERT_SAYS("the quote ' is not closed");
    assert_int_equal(chat("/teach 'a\"b' DIR/new/a.png\n"), 1);
    ASSERT_SAYS("the label holds a double quote");
    assert_int_equal(chat("/forget fox\n"), 1);
    ASSERT_SAYS("no class is called \"fox\"");
    assert_int_equal(chat("/classes\n/quit\nno such file\n"), 0);
    ASSERT_SAYS("none yet: /teach");
}

static void classify_writes_a_table(void **state)
{
    (void)state;
    char path[512], *csv;
    size_t size;
#define ASK "classify --model DIR/run --support DIR/few --images DIR/new --out DIR/table.csv"
    assert_int_equal(lcl(ASK), 0);
    ASSERT_SAYS("2 classes, 2 pictures, 1 question a picture");
    snprintf(path, sizeof path, "%s/table.csv", dir);
    ASSERT_OK(lcl_fs_read(path, 1 << 16, &csv, &size));
    assert_non_null(strstr(csv, "file,label,score,red fox,\"ant, black\"\na.png,"));
    assert_non_null(strstr(csv, "\n\"b, \"\"c\"\".png\","));
    free(csv);
    assert_int_equal(lcl(ASK), 1);
    ASSERT_SAYS("table.csv exists\nhint: --force replaces it");
    write_file("new/broken.png", "no picture", 10);
    write_file("new/worse.jpg", "no picture", 10);
    assert_int_equal(lcl(ASK " --force"), 1);
    ASSERT_SAYS("new/broken.png: ");
    ASSERT_SAYS("new/worse.jpg: ");
    ASSERT_SAYS("error: 2 of the pictures cannot be read");
    assert_int_equal(lcl(ASK " --force --skip-bad --labels names"), 0);
    ASSERT_SAYS("2 bad pictures were left out");
    ASSERT_OK(lcl_fs_read(path, 1 << 16, &csv, &size));
    assert_null(strstr(csv, "broken"));
    free(csv);
    assert_int_equal(lcl(ASK " --force --images DIR/none"), 1);
    ASSERT_SAYS("there is no folder ");
#undef ASK
}

static void an_hf_folder_answers_too(void **state)
{
    (void)state;
    char ask[1024];
    snprintf(ask, sizeof ask,
             "generate --model %s --set data.layout=vicuna --support fox=DIR/new/a.png "
             "--support ant=DIR/few/Red_Fox/1.png --query DIR/new/a.png",
             shared_path("golden/llava-tiny"));
    assert_int_equal(lcl(ask), 0);
    ASSERT_SAYS("answer: ");
}

static void a_plan_is_printed_or_refused(void **state)
{
    (void)state;
    assert_int_equal(run_lcl("plan DIR/model.yaml --json", false), 0);
    json_t *root = json_loads(output, 0, NULL);
    json_t *stage = json_array_get(json_object_get(root, "stages"), 0);
    json_t *memory = json_object_get(stage, "memory_bytes");
    assert_true(json_real_value(json_object_get(memory, "total")) > 10000);
    assert_true(json_real_value(json_object_get(stage, "seconds")) > 0);
    assert_int_equal(json_integer_value(json_object_get(stage, "largest_tokens")), 64);
    json_decref(root);
    assert_int_equal(lcl("plan DIR/model.yaml --set init_from=DIR/later"), 0);
    ASSERT_SAYS("later (init_from) yet: the shapes of the config are planned");
    ASSERT_SAYS("memory, the most at once");
    assert_int_equal(lcl("plan DIR/model.yaml --set task=link-context --set data.pack=no.h5 "
                         "--set memory_limit_mib=1 --set per_device_train_batch_size=64"),
                     1);
    ASSERT_SAYS("there is no pack no.h5: batches are bounded by the config");
    ASSERT_SAYS("memory_limit_mib allows 1.0 MiB");
    ASSERT_SAYS("hint: lower per_device_train_batch_size (64)");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(generate_answers_each_query),
        cmocka_unit_test(generate_draws),
        cmocka_unit_test(generate_says_what_is_wrong),
        cmocka_unit_test(chat_teaches_and_asks),
        cmocka_unit_test(chat_says_what_is_wrong),
        cmocka_unit_test(classify_writes_a_table),
        cmocka_unit_test(an_hf_folder_answers_too),
        cmocka_unit_test(a_plan_is_printed_or_refused),
    };
    return cmocka_run_group_tests(tests, make_run, NULL);
}
