/* lcl generate, lcl classify and lcl plan as a user meets them: build/lcl (LCL_BIN) is run. */
#include "tests/support/command.h"

#include <jansson.h>

#include "core/fs.h"
#include "data/image.h"

static char dir[256];

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

/* The arguments of a run with the test's folder for DIR, in a static buffer. */
static const char *here(const char *arguments)
{
    static char text[4096];
    with_dir(text, arguments, sizeof text);
    return text;
}

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
    if (lcl("%s", here("train DIR/model.yaml --set output_dir=DIR/run")) == 0) return 0;
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
    SUCCEEDS("%s", here(ask));
    says("new/a.png\n  answer: ");
    says("log-likelihood -");
    snprintf(json, sizeof json, "%s --json", ask);
    PRINTS("%s", here(json));
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
        SUCCEEDS("%s", here(words));
        said[i] = strdup(output);
        assert_non_null(said[i]);
    }
    assert_string_equal(said[0], said[1]); /* of one token there is no choice */
    assert_string_not_equal(said[0], said[2]);
    assert_string_equal(said[2], said[3]);
    assert_string_not_equal(said[2], said[4]);
    for (int i = 0; i < 5; i++) free(said[i]);
    FAILS("hint: give --temperature 1", "%s", here(ASK "--top-p 0.5"));
    FAILS("top_p 0, wanted above 0, up to 1", "%s", here(ASK "--temperature 1 --top-p 0"));
    FAILS("--temperature", "%s", here(ASK "--temperature -1"));
    FAILS("--temperature", "%s", here(ASK "--temperature nan"));
#undef ASK
}

static void generate_says_what_is_wrong(void **state)
{
    (void)state;
#define ASK "generate --model DIR/run --query DIR/new/a.png --support "
    FAILS("error: the support set has 1 label; wanted 2..64\nhint: ", "%s",
          here(ASK "fox=DIR/new/a.png"));
    FAILS("the label \"fox\" is there already", "%s",
          here(ASK "fox=DIR/new/a.png --support fox=DIR/new/a.png"));
    FAILS("--support ant: there is no ", "%s",
          here(ASK "fox=DIR/new/a.png --support ant=DIR/gone.png"));
    FAILS("model.yaml: not a picture of a known format", "%s",
          here(ASK "fox=DIR/new/a.png --support ant=DIR/model.yaml"));
    FAILS("the label holds a double quote", "%s",
          here(ASK "fox=DIR/new/a.png --support 'a\"b=DIR/new/a.png'"));
    assert_int_equal(lcl("%s", here("generate --model DIR/none --query DIR/new/a.png --support "
                                    "a=DIR/new/a.png --support b=DIR/new/a.png")),
                     1);
    says("error: ");
#undef ASK
}

/* Runs `lcl chat` on commands in which DIR is the test's folder. */
static int chat(const char *commands)
{
    char text[4096];
    with_dir(text, commands, sizeof text);
    write_file("ask.txt", text, strlen(text));
    return lcl("%s", here("chat --model DIR/run <DIR/ask.txt"));
}

static void chat_teaches_and_asks(void **state)
{
    (void)state;
    char told[256];
    assert_int_equal(lcl("%s", here("generate --model DIR/run --support fox=DIR/few/Red_Fox/1.png,"
                                    "DIR/few/Red_Fox/2.png --support 'an ant=DIR/new/a.png' "
                                    "--query DIR/few/Red_Fox/1.png")),
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
    says("fox: 1 picture; teach another class, to tell it from\nfox: 2 pictures");
    says("an ant: 1 picture\n");
    says("/new/b, \"c\".png: ");
    says(told); /* as generate answers */
    assert_null(strstr(strstr(output, "an ant: 1"), "gone"));
}

static void chat_says_what_is_wrong(void **state)
{
    (void)state;
    assert_int_equal(chat("/teach fox DIR/new/a.png\nDIR/new/a.png\n"), 1);
    says("error: line 2: an answer chooses between classes: teach another one\nhint: ");
    assert_int_equal(chat("/tech fox\n"), 1);
    says("there is no command /tech\nhint: did you mean /teach?");
    assert_int_equal(chat("/teach fox DIR/new/none.png\n"), 1);
    says("there is no file ");
    assert_int_equal(chat("/teach fox DIR/new\n"), 1);
    says("/new is a folder");
    assert_int_equal(chat("/teach fox DIR/model.yaml\n"), 1);
    says("model.yaml: not a picture of a known format");
    assert_int_equal(chat("/teach 'fox\n"), 1);
    says("the quote ' is not closed");
    assert_int_equal(chat("/teach 'a\"b' DIR/new/a.png\n"), 1);
    says("the label holds a double quote");
    assert_int_equal(chat("/forget fox\n"), 1);
    says("no class is called \"fox\"");
    assert_int_equal(chat("/classes\n/quit\nno such file\n"), 0);
    says("none yet: /teach");
}

/* The output up to its end, and a copy of it. */
static char *said(const char *arguments)
{
    assert_int_equal(lcl_stdout("%s", here(arguments)), 0);
    char *copy = strdup(output);
    assert_non_null(copy);
    return copy;
}

static void generate_answers_prompts(void **state)
{
    (void)state;
#define ASK \
    "generate --model DIR/run --max-new 8 --temperature 2 --prompt 'what is <image>, <image>?' "
#define TWO "--image DIR/new/a.png --image DIR/few/Red_Fox/1.png "
    char *one = said(ASK TWO),
         *both = said(ASK TWO "--prompt 'say: <image>' --image DIR/new/a.png");
    assert_true(strlen(one) > 1);
    assert_memory_equal(both, "what is <image>, <image>?\n  answer: ", 36);
    assert_memory_equal(both + 36, one, strlen(one)); /* alone and beside another */
    assert_non_null(strstr(both, "\n\nsay: <image>\n  answer: "));
    char *json = said(ASK TWO "--json"), stop[600];
    json_t *root = json_loads(json, 0, NULL);
    json_t *first = json_array_get(json_object_get(root, "answers"), 0);
    const char *answer = json_string_value(json_object_get(first, "answer"));
    assert_memory_equal(answer, one, strlen(answer));
    assert_int_equal(json_array_size(json_object_get(first, "images")), 2);
    json_decref(root);
    snprintf(stop, sizeof stop, ASK TWO "--max-new 1");
    char *shorter = said(stop);
    assert_true(strlen(shorter) < strlen(one));
    assert_memory_equal(shorter, one, strlen(shorter) - 1);
    free(one);
    free(both);
    free(json);
    free(shorter);
    assert_int_equal(lcl("%s", here(ASK "--image DIR/new/a.png")), 1);
    says("1 --image, but the prompts say <image> 2 times\nhint: ");
    assert_int_equal(lcl("%s", here(ASK TWO "--image DIR/none.png")), 1);
    says("--image: there is no ");
    assert_int_equal(lcl("%s", here(ASK TWO "--query DIR/new/a.png")), 1);
    says("or --prompt and --image");
    assert_int_equal(lcl("%s", here(ASK TWO "--stop ''")), 1);
    says("--stop: the text is empty");
#undef TWO
#undef ASK
}

/* What `lcl chat` with these options says to commands; free. */
static char *heard(const char *options, const char *commands)
{
    char text[2048], call[600];
    with_dir(text, commands, sizeof text);
    write_file("ask.txt", text, strlen(text));
    snprintf(call, sizeof call, "chat --model DIR/run %s <DIR/ask.txt", options);
    return said(call);
}

/* A question with its picture in place is the prompt that `lcl generate` makes. */
static void chat_answers_free_questions(void **state)
{
    (void)state;
#define OPTIONS "--set chat.system=Look. --max-new 20 --temperature 3 "
    static const char *const asked[] = {"what is DIR/new/a.png?\n",
                                        "/show DIR/new/a.png\nwhat is <image>?\n"};
    char *wanted = said("generate --model DIR/run --prompt 'what is <image>?' "
                        "--image DIR/new/a.png " OPTIONS);
    for (int i = 0; i < 2; i++) {
        char *answer = heard(OPTIONS, asked[i]);
        assert_string_equal(answer, wanted);
        free(answer);
    }
#undef OPTIONS
    free(wanted);
    assert_int_equal(chat("what is <image>\n"), 1);
    says("line 1: there is no picture for <image>\nhint: /show FILE");
    assert_int_equal(chat("what is DIR/new/none.png?\n"), 1);
    says("there is no file ");
    assert_int_equal(chat("/show DIR/new\n"), 1);
    says("/new is a folder");
    assert_int_equal(chat("/show\n"), 1);
    says("/show wants pictures");
}

/* What was said and taught stands before a question: there it takes room. */
static void chat_remembers(void **state)
{
    (void)state;
#define SHORT "--max-new 1 --set model_max_length=26 "
    free(heard(SHORT, "don't say DIR/new/a.png\n/new\nonce more DIR/new/a.png\n"));
    assert_int_equal(lcl("%s", here("chat --model DIR/run " SHORT "<DIR/ask.txt")), 0);
    write_file("ask.txt", "don't say\nonce more\n", 20);
    assert_int_equal(lcl("%s", here("chat --model DIR/run " SHORT "<DIR/ask.txt")), 1);
    says("line 2: a prompt is ");
    assert_int_equal(chat("/teach fox DIR/new/a.png\nonce more\n"), 0);
    assert_int_equal(lcl("%s", here("chat --model DIR/run " SHORT "<DIR/ask.txt")), 1);
    says("line 2: a prompt is ");
#undef SHORT
}

static void classify_writes_a_table(void **state)
{
    (void)state;
    char path[512], *csv;
    size_t size;
#define ASK "classify --model DIR/run --support DIR/few --images DIR/new --out DIR/table.csv"
    SUCCEEDS("%s", here(ASK));
    says("2 classes, 2 pictures, 1 question a picture");
    snprintf(path, sizeof path, "%s/table.csv", dir);
    ASSERT_OK(lcl_fs_read(path, 1 << 16, &csv, &size));
    assert_non_null(strstr(csv, "file,label,score,red fox,\"ant, black\"\na.png,"));
    assert_non_null(strstr(csv, "\n\"b, \"\"c\"\".png\","));
    free(csv);
    FAILS("table.csv exists\nhint: --force replaces it", "%s", here(ASK));
    write_file("new/broken.png", "no picture", 10);
    write_file("new/worse.jpg", "no picture", 10);
    FAILS("new/broken.png: ", "%s", here(ASK " --force"));
    says("new/worse.jpg: ");
    says("error: 2 of the pictures cannot be read");
    SUCCEEDS("%s", here(ASK " --force --skip-bad --labels names"));
    says("2 bad pictures were left out");
    ASSERT_OK(lcl_fs_read(path, 1 << 16, &csv, &size));
    assert_null(strstr(csv, "broken"));
    free(csv);
    FAILS("there is no folder ", "%s", here(ASK " --force --images DIR/none"));
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
    SUCCEEDS("%s", here(ask));
    says("answer: ");
}

/* DIR/hf/preprocessor_config.json with these keys in place of its own. */
static void write_settings(const char *json)
{
    write_file("hf/preprocessor_config.json", json, strlen(json));
}

static void an_hf_folder_prepares_its_pictures(void **state)
{
    (void)state;
#define ASK                                                                                     \
    "generate --model DIR/hf --json --support fox=DIR/few/Red_Fox/1.png --support ant=DIR/new/" \
    "a.png --query DIR/few/Red_Fox/2.png "
#define CLIP "\"image_processor_type\": \"CLIPImageProcessor\", \"crop_size\": 32, "
    char copy[2048];
    snprintf(copy, sizeof copy,
             "mkdir -p %s/hf && cp %s/*.json %s/*.safetensors %s/hf && chmod -R u+w %s/hf", dir,
             shared_path("golden/llava-tiny"), shared_path("golden/llava-tiny"), dir, dir);
    assert_int_equal(system(copy), 0);
    char *usual = said(ASK);
    write_settings("{" CLIP "\"size\": 32, \"image_mean\": 0.5, \"image_std\": 0.5}");
    char *own = said(ASK), *asked = said(ASK "--set data.resize=crop"),
         *coloured = said(ASK "--set data.background=1,2,3");
    assert_string_not_equal(own, usual);
    assert_string_equal(asked, usual);  /* what is set goes before the folder */
    assert_string_equal(coloured, own); /* and leaves the rest to it */
    free(usual);
    free(own);
    free(asked);
    free(coloured);
    write_settings("{" CLIP "\"size\": 32, \"resample\": 2}");
    assert_int_equal(lcl("%s", here(ASK)), 1);
    says("resample: only 3 (bicubic) can be computed\nhint: --set data.resize=crop or pad");
    write_settings("{\"crop_size\": 24, \"size\": 32}");
    assert_int_equal(lcl("%s", here(ASK)), 1);
    says("makes pictures of 24 px, its tower takes 32");
#undef CLIP
#undef ASK
}

static void check_policies(const json_t *root)
{
    const json_t *ref = json_object_get(root, "ref"), *jigsaw = json_object_get(root, "jigsaw");
    assert_string_equal(json_string_value(json_object_get(ref, "support")),
                        "USER: [BEGIN EXAMPLE] Tell me something of it <image>. ASSISTANT: the "
                        "reference name of this image: {label} [END EXAMPLE]</s>");
    assert_string_equal(json_string_value(json_object_get(ref, "answer")), " {label}</s>");
    assert_string_equal(json_string_value(json_object_get(jigsaw, "support")),
                        "USER: [BEGIN EXAMPLE] <image> is a puzzle piece. ASSISTANT: [END "
                        "EXAMPLE]</s>");
    assert_string_equal(json_string_value(json_object_get(jigsaw, "query")),
                        "[FINAL QUESTION]:  USER: The puzzle pieces have what coordinates here "
                        "<image>? ASSISTANT:");
    assert_string_equal(json_string_value(json_object_get(jigsaw, "answer")),
                        " their order is: {label}.</s>");
}

/* A clone with texts of its own in the places where the official code keeps them. */
static void templates_are_imported(void **state)
{
    (void)state;
    static const char code[] =
        "SYSTEM = ('Find the causal link in each example ' # and so on\n  'and say it.')\n"
        "begin = '[BEGIN EXAMPLE] ' + 'What is the image <image>?'\n"
        "answer = f'there is \"{name}\" in the image. [END EXAMPLE]'\n"
        "last = '[FINAL QUESTION]' + ': '\n"
        "tell = '[BEGIN EXAMPLE] Tell me something of it <image>.'\n"
        "name = f'the reference name of this image: {name} [END EXAMPLE]'\n"
        "names = 'Which are of the same category <image>?'\n"
        "tile = '[BEGIN EXAMPLE] <image> is a puzzle piece.'\n"
        "where = 'The puzzle pieces have what coordinates here <image>?'\n"
        "order = 'their order is: ' + str(list)\n";
    static const char questions[] = "[\"So what is <image>?\", \"Now <image>?\"]";
    write_file("clone/other.json", "[\"no\"]", 6);
    assert_int_equal(lcl("%s", here("import templates --from DIR/clone --out DIR/t.json")), 1);
    says("not found in its 1 Python and JSON files: system line, begin-example mark");
    write_file("clone/mllm/data.py", code, strlen(code));
    assert_int_equal(lcl("%s", here("import templates --from DIR/clone --out DIR/t.json")), 1);
    says("files: list of questions\nhint: ");
    write_file("clone/template/ICL.json", questions, strlen(questions));
    assert_int_equal(lcl("%s", here("import templates --from DIR/clone --out DIR/t.json")), 0);
    says("data.py:1:\n  Find the causal link in each example and say it.\n");
    says("2 questions: ");
    assert_int_equal(lcl("%s", here("import templates --from DIR/clone --out DIR/t.json")), 1);
    says("t.json exists\nhint: --force");
    static const char lines[] =
        "{\"support\": [], \"query\": {\"label\": null}}\n{\"support\": [{}], \"query\": {}}\n";
    write_file("lines.jsonl", lines, strlen(lines));
    assert_int_equal(
        lcl("%s", here("encode --templates DIR/clone --model DIR/run --in DIR/lines.jsonl")), 1);
    says("{\"input_ids\": [");
    says("lines.jsonl, line 2: \"support[0].label\" must be a text\nhint: ");
    char text[500], *made;
    size_t size;
    snprintf(text, sizeof text, "%s/t.json", dir);
    ASSERT_OK(lcl_fs_read(text, 1 << 16, &made, &size));
    json_t *root = json_loadb(made, size, 0, NULL);
    assert_string_equal(json_string_value(json_object_get(root, "support")),
                        "USER: [BEGIN EXAMPLE] What is the image <image>? ASSISTANT: there is "
                        "\"{label}\" in the image. [END EXAMPLE]</s>");
    assert_string_equal(json_string_value(json_object_get(root, "query")),
                        "[FINAL QUESTION]:  USER: {question} ASSISTANT:");
    assert_string_equal(json_string_value(json_object_get(root, "answer")),
                        " there is \"{label}\" in the image.</s>");
    check_policies(root);
    json_decref(root);
    free(made);
    assert_int_equal(
        lcl("%s", here("generate --model DIR/run --set data.template=DIR/t.json --support "
                       "fox=DIR/few/Red_Fox/1.png --support ant=DIR/new/a.png --query "
                       "DIR/few/Red_Fox/2.png")),
        0);
    says("answer: ");
}

static void a_plan_is_printed_or_refused(void **state)
{
    (void)state;
    PRINTS("plan %s/model.yaml --json", dir);
    json_t *root = json_loads(output, 0, NULL);
    json_t *stage = json_array_get(json_object_get(root, "stages"), 0);
    json_t *memory = json_object_get(stage, "memory_bytes");
    assert_true(json_real_value(json_object_get(memory, "total")) > 10000);
    assert_true(json_real_value(json_object_get(stage, "seconds")) > 0);
    assert_int_equal(json_integer_value(json_object_get(stage, "largest_tokens")), 64);
    json_decref(root);
    SUCCEEDS("%s", here("plan DIR/model.yaml --set init_from=DIR/later"));
    says("later (init_from) yet: the shapes of the config are planned");
    says("memory, the most at once");
    assert_int_equal(
        lcl("%s", here("plan DIR/model.yaml --set task=link-context --set data.pack=no.h5 "
                       "--set memory_limit_mib=1 --set per_device_train_batch_size=64")),
        1);
    says("there is no pack no.h5: batches are bounded by the config");
    says("memory_limit_mib allows 1.0 MiB");
    says("hint: lower per_device_train_batch_size (64)");
}

/* The groups of a folder, evaluated with a model that knows nothing: what is counted and written.
 */
static void evaluate_groups(const char *groups, int n_queries)
{
    char wanted[64];
    snprintf(wanted, sizeof wanted, "isekai: %d queries", n_queries);
    assert_int_equal(
        lcl("eval isekai --groups %s %s", groups,
            here("--table DIR/t.jsonl --model DIR/run --shots 0,2,8 --predictions DIR/p.jsonl")),
        0);
    says(wanted);
    says("shot counts over 2 are left out: a class has 1 pictures for support");
    says("    2 shots   official ");
    char path[512], *text;
    size_t size;
    snprintf(path, sizeof path, "%s/p.jsonl", dir);
    ASSERT_OK(lcl_fs_read(path, 1 << 20, &text, &size));
    int lines = 0;
    for (char *line = text, *end; (end = strchr(line, '\n')); line = end + 1, lines++) {
        json_t *row = json_loadb(line, (size_t)(end - line), 0, NULL);
        assert_int_equal(json_integer_value(json_object_get(row, "shots")), lines % 2 ? 2 : 0);
        assert_string_equal(json_string_value(json_object_get(row, "target")),
                            json_string_value(json_array_get(json_object_get(row, "labels"), 0)));
        const json_t *logprob = json_object_get(row, "logprob");
        bool likelier = json_number_value(json_array_get(logprob, 0)) >
                        json_number_value(json_array_get(logprob, 1));
        assert_int_equal(json_is_true(json_object_get(row, "likelihood")), likelier);
        json_decref(row);
    }
    assert_int_equal(lines, 2 * n_queries);
    free(text);
}

static void groups_are_evaluated(void **state)
{
    (void)state;
    write_picture("groups/ice_mic/pos1.png", 200);
    write_picture("groups/ice_mic/neg1.png", 20);
    write_picture("groups/ice_mic/infer1.png", 210);
    write_picture("groups/ice_mic/infer2.png", 220);
    write_file("groups/ice_mic/labels.txt", "icemic\nmicrophone\n", 18);
    char own[512], shared[512];
    const char *root = getenv("LCL_SHARED");
    snprintf(own, sizeof own, "%s/groups", dir);
    snprintf(shared, sizeof shared, "%s/data/lcl/isekai", root ? root : "");
    evaluate_groups(own, 2);
    if (root && lcl_fs_is_dir(shared)) evaluate_groups(shared, 3);
    write_picture("groups/more/pos1.png", 200);
    assert_int_equal(
        lcl("%s", here("eval isekai --groups DIR/groups --table DIR/t.jsonl --model DIR/run")), 1);
    says("groups/more holds 1 pos, 0 neg and 0 infer pictures\nhint: ");
}

/* The official test table: pairs of classes, every sample asked. */
static void test_tables_are_evaluated(void **state)
{
    (void)state;
    static const char rows[] =
        "{\"class_id\": \"1\", \"class_name\": \"Red Fox\", \"context_samples\": "
        "[\"Red_Fox/1.png\"], \"test_samples\": [\"Red_Fox/2.png\", \"Red_Fox/1.png\"]}\n"
        "{\"class_id\": \"2\", \"class_name\": \"ant\", \"context_samples\": "
        "[\"ant, black/1.png\"], \"test_samples\": [\"ant, black/1.png\"]}\n";
#define ASK                                                                                  \
    "eval imagenet-100 --table DIR/test.jsonl --images DIR/few --model DIR/run --shots 0,2 " \
    "--results DIR/r.json"
    write_file("test.jsonl", rows, strlen(rows));
    assert_int_equal(lcl("%s", here(ASK)), 0);
    says("imagenet-100: 3 queries");
    write_file("test.jsonl", rows, (size_t)(strchr(rows, '\n') - rows));
    assert_int_equal(lcl("%s", here(ASK)), 1);
    says("test.jsonl has 1 rows; wanted pairs of classes");
    static const char no_path[] = "{\"class_name\": \"x\", \"context_samples\": [1]}\n";
    write_file("test.jsonl", no_path, strlen(no_path));
    assert_int_equal(lcl("%s", here(ASK)), 1);
    says("test.jsonl, line 1: \"context_samples\"[0] must be a path");
    static const char no_name[] = "{\"class_name\": \"\", \"context_samples\": []}\n";
    write_file("test.jsonl", no_name, strlen(no_name));
    assert_int_equal(lcl("%s", here(ASK)), 1);
    says("test.jsonl, line 1: \"class_name\" must have 1 to 127 bytes, has 0");
    assert_int_equal(lcl("%s", here("eval isekai --table DIR/test.jsonl --images DIR --model x")),
                     1);
    says("test.jsonl, line 1: \"image_name\" must be a text");
#undef ASK
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(generate_answers_each_query),
        cmocka_unit_test(generate_draws),
        cmocka_unit_test(generate_says_what_is_wrong),
        cmocka_unit_test(chat_teaches_and_asks),
        cmocka_unit_test(chat_says_what_is_wrong),
        cmocka_unit_test(generate_answers_prompts),
        cmocka_unit_test(chat_answers_free_questions),
        cmocka_unit_test(chat_remembers),
        cmocka_unit_test(classify_writes_a_table),
        cmocka_unit_test(an_hf_folder_answers_too),
        cmocka_unit_test(an_hf_folder_prepares_its_pictures),
        cmocka_unit_test(groups_are_evaluated),
        cmocka_unit_test(test_tables_are_evaluated),
        cmocka_unit_test(templates_are_imported),
        cmocka_unit_test(a_plan_is_printed_or_refused),
    };
    return cmocka_run_group_tests(tests, make_run, NULL);
}
