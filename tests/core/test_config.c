/* Configs: what a file means, and what is said about a file that means nothing. */
#include "tests/support/support.h"

#include <sys/stat.h>
#include <unistd.h>

#include "core/config.h"
#include "core/fs.h"

static struct lcl_run_config run;

static const char *write_named(const char *name, const char *text)
{
    static char path[512];
    snprintf(path, sizeof path, "%s/%s", temp_dir(), name);
    FILE *f = fopen(path, "w"); /* without the fsync of lcl_fs_write_atomic: there are hundreds */
    assert_non_null(f);
    assert_int_equal(fwrite(text, 1, strlen(text), f), strlen(text));
    assert_int_equal(fclose(f), 0);
    return path;
}

static lcl_status load(const char *text)
{
    return lcl_config_load(write_named("run.yaml", text), NULL, 0, &run);
}

static lcl_status load_set(const char *text, const char *override)
{
    return lcl_config_load(write_named("run.yaml", text), &override, 1, &run);
}

#define ASSERT_HINT(text)                                                     \
    do {                                                                      \
        if (!strstr(lcl_error_hint(), (text)))                                \
            fail_msg("hint \"%s\"; wanted \"%s\"", lcl_error_hint(), (text)); \
    } while (0)

static void defaults_are_those_of_the_schema(void **state)
{
    (void)state;
    struct lcl_config c;
    lcl_config_defaults(&c);
    assert_int_equal(c.task, LCL_TASK_LINK_CONTEXT);
    assert_int_equal(c.max_steps, 1000);
    assert_true(c.learning_rate == 2e-5);
    assert_true(c.freeze_vision_tower);
    assert_false(c.bf16);
    assert_string_equal(c.data_background, "128,128,128");
    assert_int_equal(c.vision_hidden_act, 1);
    assert_int_equal(c.eval_shots.n, 4);
    assert_int_equal(c.eval_shots.v[3], 16);
    ASSERT_OK(lcl_config_check(&c));
}

static void reads_every_kind_nested_and_dotted(void **state)
{
    (void)state;
    ASSERT_OK(load("# a comment\nseed: 7\nlearning_rate: 3e-3\nbf16: Yes\noutput_dir: \"a: b\"\n"
                   "data:\n  strategy: 2-way-weight\n  shots: 8\ndata.min_shots: 3\n"
                   "eval:\n  shots: [2, 8]\nvision.hidden_act: gelu\n"));
    const struct lcl_config *c = &run.stages[0];
    assert_int_equal(run.n_stages, 1);
    assert_string_equal(c->stage_name, "");
    assert_int_equal(c->seed, 7);
    assert_true(c->learning_rate == 3e-3);
    assert_true(c->bf16);
    assert_string_equal(c->output_dir, "a: b");
    assert_int_equal(c->data_strategy, LCL_2WAY_WEIGHT);
    assert_int_equal(c->data_shots, 8);
    assert_int_equal(c->data_min_shots, 3);
    assert_int_equal(c->eval_shots.n, 2);
    assert_int_equal(c->eval_shots.v[1], 8);
    assert_int_equal(c->vision_hidden_act, 0);
    ASSERT_OK(load("eval.shots: 4, 6\n"));
    assert_int_equal(run.stages[0].eval_shots.v[1], 6);
}

static void stages_override_and_keep_their_order(void **state)
{
    (void)state;
    ASSERT_OK(load("stages:\n  - name: warm-up\n    task: vision\n    max_steps: 5\n"
                   "  - name: icl\n    data: {shots: 6}\nmax_steps: 9\n"));
    assert_int_equal(run.n_stages, 2);
    assert_string_equal(run.stages[0].stage_name, "warm-up");
    assert_int_equal(run.stages[0].task, LCL_TASK_VISION);
    assert_int_equal(run.stages[0].max_steps, 5);
    assert_int_equal(run.stages[0].data_shots, 16);
    assert_int_equal(run.stages[1].task, LCL_TASK_LINK_CONTEXT);
    assert_int_equal(run.stages[1].max_steps, 9);
    assert_int_equal(run.stages[1].data_shots, 6);
}

static void base_comes_first_wherever_it_stands(void **state)
{
    (void)state;
    char folder[512];
    snprintf(folder, sizeof folder, "%s/sub", temp_dir());
    ASSERT_OK(lcl_fs_mkdirs(folder));
    write_named("root.yaml", "seed: 1\nmax_steps: 10\nlanes: 2\n"
                             "stages:\n  - name: a\n    max_steps: 11\n  - name: icl\n");
    write_named("sub/middle.yaml", "seed: 2\nbase: ../root.yaml\nmax_steps: 20\n");
    ASSERT_OK(load("base: sub/middle.yaml\nseed: 3\nstages:\n  icl: {lanes: 7}\n"));
    assert_int_equal(run.n_stages, 2);
    assert_int_equal(run.stages[0].seed, 3);
    assert_int_equal(run.stages[0].max_steps,
                     11); /* a stage's own key stands over the common ones */
    assert_int_equal(run.stages[1].max_steps, 20);
    assert_int_equal(run.stages[0].lanes, 2);
    assert_int_equal(run.stages[1].lanes, 7);
    ASSERT_OK(load("base: sub/middle.yaml\nstages:\n  - name: only\n"));
    assert_int_equal(run.n_stages, 1);
    assert_string_equal(run.stages[0].stage_name, "only");
    ASSERT_FAILS(load("base: sub/middle.yaml\nstages:\n  ic: {lanes: 7}\n"), LCL_CONFIG,
                 "run.yaml:3: the base has no stage ic");
    ASSERT_HINT("did you mean icl?");
}

static void bases_end(void **state)
{
    (void)state;
    write_named("x.yaml", "base: y.yaml\n");
    write_named("y.yaml", "base: x.yaml\n");
    ASSERT_FAILS(load("base: x.yaml\n"), LCL_CONFIG, "is its own base");
    ASSERT_FAILS(load("base: run.yaml\n"), LCL_CONFIG, "is its own base");
    char name[32], text[64];
    for (int i = 0; i < 9; i++) {
        snprintf(name, sizeof name, "d%d.yaml", i);
        snprintf(text, sizeof text, i < 8 ? "base: d%d.yaml\n" : "seed: 1\n", i + 1);
        write_named(name, text);
    }
    ASSERT_FAILS(load("base: d0.yaml\n"), LCL_CONFIG, "more than 8 files deep");
    ASSERT_OK(load("base: d2.yaml\n"));
    ASSERT_FAILS(load("seed: 1\nbase: nowhere.yaml\n"), LCL_NOT_FOUND, "run.yaml:2: config ");
    ASSERT_FAILS(load("base: .\n"), LCL_IO, "is not a file");
    ASSERT_FAILS(load("base: [a.yaml]\n"), LCL_CONFIG, "base is the path of one file");
    ASSERT_FAILS(load("base: a.yaml\nbase: b.yaml\n"), LCL_CONFIG, "given twice");
    ASSERT_FAILS(load("base: ''\n"), LCL_CONFIG, "empty");
}

static void overrides_come_last(void **state)
{
    (void)state;
    const char *two = "stages:\n  - name: a\n    seed: 5\n  - name: b\n";
    ASSERT_OK(load_set(two, "seed=9"));
    assert_int_equal(run.stages[0].seed, 9);
    assert_int_equal(run.stages[1].seed, 9);
    ASSERT_OK(load_set(two, "b:seed=9"));
    assert_int_equal(run.stages[0].seed, 5);
    assert_int_equal(run.stages[1].seed, 9);
    ASSERT_OK(load_set(two, "output_dir=a:b=c"));
    assert_string_equal(run.stages[1].output_dir, "a:b=c");
    ASSERT_OK(load_set(two, "output_dir="));
    ASSERT_FAILS(load_set(two, "c:seed=9"), LCL_CONFIG, "has no stage \"c\"");
    ASSERT_FAILS(load_set("seed: 1\n", "c:seed=9"), LCL_CONFIG, "has no stage \"c\"");
    ASSERT_HINT("leave NAME: out");
    ASSERT_FAILS(load_set(two, "seed"), LCL_CONFIG, "not of the form key=value");
    ASSERT_FAILS(load_set(two, "=1"), LCL_CONFIG, "not of the form key=value");
    ASSERT_FAILS(load_set(two, "seed=1x"), LCL_CONFIG, "--set: seed is a whole number, not \"1x\"");
    ASSERT_FAILS(load_set(two, "sede=1"), LCL_CONFIG, "--set: unknown key sede");
    ASSERT_HINT("did you mean seed?");
}

static void unknown_keys_name_line_and_nearest(void **state)
{
    (void)state;
    ASSERT_FAILS(load("seed: 1\n\nlearning_rat: 1\n"), LCL_CONFIG,
                 "run.yaml:3: unknown key learning_rat");
    ASSERT_HINT("did you mean learning_rate?");
    ASSERT_FAILS(load("data:\n  shot: 1\n"), LCL_CONFIG, "run.yaml:2: unknown key data.shot");
    ASSERT_HINT("did you mean data.shots?");
    ASSERT_FAILS(load("ways: 4\n"), LCL_CONFIG, "unknown key ways");
    ASSERT_HINT("did you mean data.ways?");
    ASSERT_FAILS(load("max-steps: 4\n"), LCL_CONFIG, "unknown key max-steps");
    ASSERT_HINT("did you mean max_steps?");
    ASSERT_FAILS(load("xyzzy: 4\n"), LCL_CONFIG, "unknown key xyzzy");
    ASSERT_HINT("docs/config.md");
    ASSERT_FAILS(load("stages:\n  - name: a\n    sed: 1\n"), LCL_CONFIG,
                 "run.yaml:3: unknown key sed");
    ASSERT_FAILS(load("trainer:\n  seed: 1\n"), LCL_CONFIG, "run.yaml:1: unknown key trainer");
    ASSERT_FAILS(load("name: a\n"), LCL_CONFIG, "unknown key name");
}

static void values_name_the_range(void **state)
{
    (void)state;
    ASSERT_FAILS(load("a: 1\n"), LCL_CONFIG, "unknown key a");
    ASSERT_FAILS(load("lanes: 0\n"), LCL_RANGE,
                 "run.yaml:1: lanes is 0; it must be within 1..1024");
    ASSERT_FAILS(load("lanes: 99999999999999999999\n"), LCL_RANGE, "lanes is 99999999999999999999");
    ASSERT_FAILS(load("seed: -1\n"), LCL_RANGE, "within 0..4294967295");
    ASSERT_FAILS(load("adam_beta1: 1.5\n"), LCL_RANGE, "adam_beta1 is 1.5; it must be within 0..1");
    ASSERT_FAILS(load("learning_rate: 1e999\n"), LCL_RANGE, "learning_rate is 1e999");
    ASSERT_FAILS(load("eval.shots: [2, -1]\n"), LCL_RANGE,
                 "eval.shots is -1; it must be within 0..");
    ASSERT_FAILS(load("lanes: 4x\n"), LCL_CONFIG, "lanes is a whole number, not \"4x\"");
    ASSERT_FAILS(load("lanes: 4.5\n"), LCL_CONFIG, "lanes is a whole number");
    ASSERT_FAILS(load("lanes: 0x4\n"), LCL_CONFIG, "lanes is a whole number");
    ASSERT_FAILS(load("learning_rate: nan\n"), LCL_CONFIG, "learning_rate is a number");
    ASSERT_FAILS(load("learning_rate: inf\n"), LCL_CONFIG, "learning_rate is a number");
    ASSERT_FAILS(load("learning_rate: 1e-4 per step\n"), LCL_CONFIG, "not \"1e-4 per step\"");
    ASSERT_FAILS(load("bf16: maybe\n"), LCL_CONFIG, "bf16 is true or false");
    ASSERT_FAILS(load("bf16: 1\n"), LCL_CONFIG, "bf16 is true or false");
    ASSERT_FAILS(load("data.strategy: 2-ways\n"), LCL_CONFIG, "is one of 2-way|2-way-random");
    ASSERT_HINT("did you mean 2-way?");
    ASSERT_FAILS(load("eval.shots: 2,,4\n"), LCL_CONFIG, "eval.shots is a list");
    ASSERT_FAILS(load("eval.shots: [2, x]\n"), LCL_CONFIG, "eval.shots is a list");
}

static void wrong_shapes_are_errors(void **state)
{
    (void)state;
    ASSERT_FAILS(load("seed: 1\nseed: 2\n"), LCL_CONFIG,
                 "run.yaml:2: seed is given twice (first in line 1)");
    ASSERT_FAILS(load("data.shots: 1\ndata:\n  shots: 2\n"), LCL_CONFIG,
                 "data.shots is given twice");
    ASSERT_FAILS(load("seed: {a: 1}\n"), LCL_CONFIG, "seed is a whole number, not a map");
    ASSERT_FAILS(load("seed: [1]\n"), LCL_CONFIG, "seed is a whole number, not a list");
    ASSERT_FAILS(load("data: 3\n"), LCL_CONFIG, "unknown key data");
    ASSERT_FAILS(load("eval.shots: [[2]]\n"), LCL_CONFIG, "eval.shots is a list");
    ASSERT_FAILS(load("seed:\n"), LCL_CONFIG, "seed has no value");
    ASSERT_FAILS(load("tokenizer: ~\n"), LCL_CONFIG, "tokenizer has no value");
    ASSERT_FAILS(load("? [a]\n: 1\n"), LCL_CONFIG, "a key is a word");
    ASSERT_FAILS(load("- seed\n"), LCL_CONFIG, "a config is a map");
    ASSERT_FAILS(load("seed\n"), LCL_CONFIG, "a config is a map");
    ASSERT_FAILS(load(""), LCL_CONFIG, "the file is empty");
    ASSERT_FAILS(load("# nothing\n"), LCL_CONFIG, "the file is empty");
    ASSERT_FAILS(load("seed: 1\n---\nseed: 2\n"), LCL_CONFIG, "not several documents");
    ASSERT_FAILS(load("data:\n\tshots: 2\n"), LCL_CONFIG, "run.yaml:2: not YAML");
    ASSERT_FAILS(load("seed: \"1\n"), LCL_CONFIG, "not YAML");
    ASSERT_FAILS(load("output_dir: \"a\\0b\"\n"), LCL_CONFIG, "a NUL character");
    ASSERT_FAILS(load("output_dir: \xff\xfe\n"), LCL_CONFIG, "not YAML");
    ASSERT_FAILS(load_set("seed: 1\n", "output_dir=\xc3("), LCL_CONFIG, "not UTF-8");
}

static void stages_must_make_sense(void **state)
{
    (void)state;
    ASSERT_FAILS(load("stages: 3\n"), LCL_CONFIG, "stages is a list of maps");
    ASSERT_FAILS(load("stages: []\n"), LCL_CONFIG, "stages is empty");
    ASSERT_FAILS(load("stages:\n  - max_steps: 3\n"), LCL_CONFIG,
                 "run.yaml:2: this stage has no name");
    ASSERT_FAILS(load("stages:\n  - name: a\n  - name: a\n"), LCL_CONFIG,
                 "two stages are called a");
    ASSERT_FAILS(load("stages:\n  - name: a b\n"), LCL_CONFIG, "not \"a b\"");
    ASSERT_FAILS(load("stages:\n  - a\n"), LCL_CONFIG, "a stage is a map");
    ASSERT_FAILS(load("stages:\n  a: {seed: 1}\n"), LCL_CONFIG, "the base has no stage a");
    ASSERT_FAILS(load("stages:\n  - name: a\n    stages: []\n"), LCL_CONFIG, "unknown key stages");
    ASSERT_FAILS(load("stages:\n  - name: a\n    base: x.yaml\n"), LCL_CONFIG, "unknown key base");
    char text[2048] = "stages:\n";
    for (int i = 0; i < 17; i++)
        snprintf(text + strlen(text), sizeof text - strlen(text), "  - name: s%d\n", i);
    ASSERT_FAILS(load(text), LCL_RANGE, "more than 16 stages");
}

static char *repeat(const char *head, const char *piece, size_t n, const char *tail)
{
    size_t size = strlen(head) + n * strlen(piece) + strlen(tail) + 1;
    char *text = malloc(size), *p = text;
    assert_non_null(text);
    p += sprintf(p, "%s", head);
    for (size_t i = 0; i < n; i++) p += sprintf(p, "%s", piece);
    sprintf(p, "%s", tail);
    return text;
}

static void hostile_files_are_refused(void **state)
{
    (void)state;
    ASSERT_FAILS(load("eval.shots: &a [2]\ndata.shots: *a\n"), LCL_CONFIG, "aliases");
    ASSERT_FAILS(load("a: &a [x,x]\nb: &b [*a,*a]\n"), LCL_CONFIG, "unknown key a");
    ASSERT_FAILS(load("seed: 1\n*x : 2\n"), LCL_CONFIG, "aliases");
    ASSERT_FAILS(load("data: {data: {data: {shots: 1}}}\n"), LCL_CONFIG, "unknown key data.data");
    char *deep = repeat("eval.shots: ", "[", 300000, "\n");
    ASSERT_FAILS(load(deep), LCL_CONFIG, "");
    free(deep);
    deep = repeat("data: ", "{data: ", 100000, "\n");
    ASSERT_FAILS(load(deep), LCL_CONFIG, "unknown key data.data");
    free(deep);
    char *big = repeat("# ", "0123456789abcdef", 70000, "\nseed: 1\n");
    ASSERT_FAILS(load(big), LCL_RANGE, "run.yaml");
    free(big);
    char *key = repeat("", "k", 5000, ": 1\n");
    ASSERT_FAILS(load(key), LCL_CONFIG, "run.yaml:1");
    free(key);
    char *text = repeat("output_dir: ", "k", 512, "\n");
    ASSERT_FAILS(load(text), LCL_RANGE, "output_dir has 512 bytes, at most 511");
    free(text);
    char *list = repeat("eval.shots: [2", ",2", 32, "]\n");
    ASSERT_FAILS(load(list), LCL_RANGE, "eval.shots has more than 32 numbers");
    free(list);
    char *set = repeat("", "k", 300, "=1");
    ASSERT_FAILS(load_set("seed: 1\n", set), LCL_CONFIG, "too long");
    free(set);
}

/* Every prefix of a valid file and every single flipped byte: an error or a config, never a crash
 * or a hang. */
static void damaged_files_are_survived(void **state)
{
    (void)state;
    static const char text[] =
        "seed: 1\ndata: {shots: 4}\neval.shots: [2, 4]\noutput_dir: \"x\\u00e9\"\n"
        "stages:\n  - name: a\n    bf16: true\n";
    char copy[sizeof text];
    int loaded = 0, refused = 0;
    for (size_t n = 0; n < sizeof text; n++) {
        snprintf(copy, n + 1, "%s", text);
        if (load(copy) == LCL_OK)
            loaded++;
        else
            refused++;
    }
    for (size_t i = 0; i + 1 < sizeof text; i++) {
        memcpy(copy, text, sizeof text);
        copy[i] = (char)(copy[i] ^ (1 << (i % 7)));
        if (load(copy) == LCL_OK)
            loaded++;
        else
            refused++;
    }
    assert_true(loaded > 0 && refused > 100);
    assert_int_equal(load(text), LCL_OK);
}

static void contradictions_name_both_keys(void **state)
{
    (void)state;
    ASSERT_FAILS(load("vision: {image_size: 30, patch_size: 7}\n"), LCL_CONFIG,
                 "vision.image_size 30 is not a multiple of vision.patch_size 7");
    ASSERT_FAILS(load("vision.num_attention_heads: 3\n"), LCL_CONFIG,
                 "vision.num_attention_heads 3");
    ASSERT_FAILS(load("text.hidden_size: 100\n"), LCL_CONFIG, "text.hidden_size 100");
    ASSERT_FAILS(load("text: {hidden_size: 96, num_attention_heads: 32}\n"), LCL_CONFIG,
                 "= 3, is odd");
    ASSERT_FAILS(load("text.num_key_value_heads: 5\n"), LCL_CONFIG, "text.num_key_value_heads 5");
    ASSERT_FAILS(load("mm_vision_select_layer: -26\n"), LCL_CONFIG, "has -25..24");
    ASSERT_FAILS(load("mm_image_pool: 2x2\nvision: {image_size: 21, patch_size: 7}\n"), LCL_CONFIG,
                 "even number of patches");
    ASSERT_FAILS(load("data: {strategy: 2-way-random, shots: 4, min_shots: 5}\n"), LCL_CONFIG,
                 "data.min_shots 5 is above the 4");
    ASSERT_OK(load("data: {strategy: 2-way, shots: 1}\n"));
    ASSERT_FAILS(load("data: {strategy: n-way, shots: 4, ways: 8}\n"), LCL_CONFIG, "data.ways 8");
    ASSERT_FAILS(load("data: {label_min_letters: 5, label_max_letters: 4}\n"), LCL_CONFIG,
                 "data.label_min_letters 5");
    ASSERT_FAILS(load("data.background: 1,2\n"), LCL_CONFIG, "data.background \"1,2\"");
    ASSERT_FAILS(load("data.background: 1,2,256\n"), LCL_CONFIG, "data.background");
    ASSERT_FAILS(load("init_parts: vision,txt\n"), LCL_CONFIG, "no part \"txt\"");
    ASSERT_OK(load("init_parts: vision, text\n"));
    ASSERT_FAILS(load("task: language\nlanguage.max_segment: 64\n"), LCL_CONFIG,
                 "language.max_segment");
    ASSERT_FAILS(load("language.recall_ways: 9\n"), LCL_CONFIG,
                 "language.recall_ways 9 is above language.recall_shots 8");
    ASSERT_FAILS(load("attention: wgmma\n"), LCL_CONFIG, "is for device: cuda with bf16: true");
    ASSERT_FAILS(load("attention: wgmma\ndevice: cuda\n"), LCL_CONFIG, "with bf16: true");
    ASSERT_OK(load("attention: wgmma\ndevice: cuda\nbf16: true\n"));
    ASSERT_FAILS(load("adam_epsilon: 0\n"), LCL_CONFIG, "adam_epsilon");
    ASSERT_FAILS(load("stages:\n  - name: a\n  - name: b\n    adam_beta2: 1\n"), LCL_CONFIG,
                 "run.yaml: stage b: adam_beta1");
}

static void missing_and_unreadable_files(void **state)
{
    (void)state;
    ASSERT_FAILS(lcl_config_load("no/such.yaml", NULL, 0, &run), LCL_NOT_FOUND, "no/such.yaml");
    ASSERT_FAILS(lcl_config_load(temp_dir(), NULL, 0, &run), LCL_IO, "is not a file");
    ASSERT_FAILS(lcl_config_load("/dev/zero", NULL, 0, &run), LCL_IO, "is not a file");
    ASSERT_FAILS(lcl_config_load("", NULL, 0, &run), LCL_NOT_FOUND, "config");
}

/* Writes the resolved config and loads that again: each stage must be the same, byte for byte. */
static void assert_round_trip(const char *text)
{
    static struct lcl_run_config first;
    char path[512];
    ASSERT_OK(load(text));
    first = run;
    snprintf(path, sizeof path, "%s/resolved.yaml", temp_dir());
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    ASSERT_OK(lcl_config_write_yaml(&run, f));
    fclose(f);
    ASSERT_OK(lcl_config_load(path, NULL, 0, &run));
    assert_int_equal(run.n_stages, first.n_stages);
    for (int i = 0; i < run.n_stages; i++)
        assert_memory_equal(&run.stages[i], &first.stages[i], sizeof run.stages[i]);
}

static void what_is_written_loads_to_the_same(void **state)
{
    (void)state;
    assert_round_trip("seed: 1\n");
    assert_round_trip("stages: [{name: only}]\n");
    assert_round_trip(
        "learning_rate: 0.1234567890123456789\nadam_epsilon: 3.3e-309\nbf16: on\n"
        "eval.shots: [1]\noutput_dir: \"a\\\"b\\\\c\\n\\t\\x7f\\u0085\\u2028\\ufeff é 漢 "
        "\\U0001f600 #x: ~\"\ndata.pack: null.h5\ntokenizer: \" lead\"\n"
        "stages:\n  - name: a\n    seed: 2\n    output_dir: 'x'\n"
        "  - name: b\n    mm_image_pool: mean\n    eval.shots: [3, 4]\n");
}

static void written_config_lists_changes_first(void **state)
{
    (void)state;
    char *text = NULL;
    size_t size = 0;
    ASSERT_OK(load("max_steps: 77\n"));
    FILE *f = open_memstream(&text, &size);
    assert_non_null(f);
    ASSERT_OK(lcl_config_write_yaml(&run, f));
    fclose(f);
    const char *changed = strstr(text, "max_steps: 77\n"), *rest = strstr(text, "# as by default");
    assert_non_null(changed);
    assert_non_null(rest);
    assert_true(changed < rest);
    assert_non_null(strstr(rest, "learning_rate: 2e-05"));
    free(text);
}

static void a_full_disk_is_an_error(void **state)
{
    (void)state;
    FILE *f = fopen("/dev/full", "w");
    if (!f) skip();
    ASSERT_OK(load("seed: 1\n"));
    ASSERT_FAILS(lcl_config_write_yaml(&run, f), LCL_IO, "No space left");
    fclose(f);
}

static void docs_are_current(void **state)
{
    (void)state;
    char *now = NULL, *kept = NULL;
    size_t size = 0, kept_size = 0;
    FILE *f = open_memstream(&now, &size);
    assert_non_null(f);
    ASSERT_OK(lcl_config_write_markdown(f));
    fclose(f);
    ASSERT_OK(lcl_fs_read("docs/config.md", 1 << 20, &kept, &kept_size));
    if (size != kept_size || memcmp(now, kept, size))
        fail_msg("docs/config.md is not what the schema says: run `make docs`");
    free(now);
    free(kept);
}

static void nearest_word_is_near(void **state)
{
    (void)state;
    static const char *const words[] = {"train", "eval", "inspect", "export", "import"};
    assert_string_equal(lcl_nearest_word("trian", words, 5), "train");
    assert_string_equal(lcl_nearest_word("EVAL", words, 5), "eval");
    assert_string_equal(lcl_nearest_word("evla", words, 5), "eval");
    assert_string_equal(lcl_nearest_word("inpsect", words, 5), "inspect");
    assert_null(lcl_nearest_word("serve", words, 5));
    assert_null(lcl_nearest_word("", words, 5));
    assert_null(lcl_nearest_word("x", words, 0));
    char *huge = repeat("", "train", 1000, "");
    assert_null(lcl_nearest_word(huge, words, 5));
    free(huge);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(defaults_are_those_of_the_schema),
        cmocka_unit_test(reads_every_kind_nested_and_dotted),
        cmocka_unit_test(stages_override_and_keep_their_order),
        cmocka_unit_test(base_comes_first_wherever_it_stands),
        cmocka_unit_test(bases_end),
        cmocka_unit_test(overrides_come_last),
        cmocka_unit_test(unknown_keys_name_line_and_nearest),
        cmocka_unit_test(values_name_the_range),
        cmocka_unit_test(wrong_shapes_are_errors),
        cmocka_unit_test(stages_must_make_sense),
        cmocka_unit_test(hostile_files_are_refused),
        cmocka_unit_test(damaged_files_are_survived),
        cmocka_unit_test(contradictions_name_both_keys),
        cmocka_unit_test(missing_and_unreadable_files),
        cmocka_unit_test(what_is_written_loads_to_the_same),
        cmocka_unit_test(written_config_lists_changes_first),
        cmocka_unit_test(a_full_disk_is_an_error),
        cmocka_unit_test(docs_are_current),
        cmocka_unit_test(nearest_word_is_near),
    };
    return cmocka_run_group_tests_name("config", tests, NULL, NULL);
}
