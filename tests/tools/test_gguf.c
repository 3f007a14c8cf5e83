/* GGUF as a user meets it: build/lcl (LCL_BIN) exports, shows and imports files. */
#include "tests/support/command.h"

#include <jansson.h>

#include "checkpoint/ckpt.h"
#include "checkpoint/gguf_model.h"
#include "checkpoint/hf.h"
#include "checkpoint/safetensors.h"
#include "core/fs.h"
#include "data/tokenizer.h"
#include "model/model.h"
#include "tests/support/tiny.h"

/* A trained tiny LLaVA, made once; with standardised features, whose export folds them. */
static const char *tiny_run(void)
{
    static char path[400];
    if (*path) return path;
    char yaml[4096];
    snprintf(path, sizeof path, "%s/run", temp_dir());
    snprintf(yaml, sizeof yaml, "%soutput_dir: %s\nmm_standardize: true\n", tiny_yaml(), path);
    SUCCEEDS("train %s --quiet", tiny_file("run.yaml", yaml));
    return path;
}

/* f32 loses nothing: the files read back compute what the run does. */
static void a_run_becomes_two_files(void **state)
{
    (void)state;
    const char *run = tiny_run(), *out = at("pair");
    SUCCEEDS("export %s --to gguf --out %s", run, out);
    says("self-check");
    says("GGUF, f32");
    assert_null(strstr(output, "warning"));
    struct lcl_gguf g;
    char path[500];
    snprintf(path, sizeof path, "%s/model.gguf", out);
    ASSERT_OK(lcl_gguf_open(path, &g));
    char *template;
    ASSERT_OK(lcl_gguf_get_text(&g, "tokenizer.ggml.model", &template));
    assert_string_equal(template, "gpt2");
    free(template);
    lcl_gguf_close(&g);
    snprintf(path, sizeof path, "%s/mmproj.gguf", out);
    ASSERT_OK(lcl_gguf_open(path, &g));
    assert_non_null(lcl_gguf_tensor(&g, "mm.0.bias"));
    lcl_gguf_close(&g);
    FAILS("holds files already", "export %s --to gguf --out %s", run, out);
    SUCCEEDS("export %s --to gguf --out %s --force --text-only --dtype bf16", run, out);
    assert_false(lcl_fs_exists(path)); /* no tower of another export stays behind */
    FAILS("go with --to gguf", "export %s --out %s --dtype q8_0", run, at("never"));
    assert_false(lcl_fs_exists(at("never")));
}

static void files_are_shown(void **state)
{
    (void)state;
    SUCCEEDS("export %s --to gguf --out %s --dtype f16", tiny_run(), at("shown"));
    SUCCEEDS("inspect %s/model.gguf", at("shown"));
    says("LLaMA, width ");
    says("tokenizer.ggml.tokens ");
    says(" of string");
    says("tokenizer.chat_template ");
    says("F16 ");
    SUCCEEDS("inspect %s/mmproj.gguf --json", at("shown"));
    json_t *root = json_loads(output, 0, NULL);
    assert_non_null(root);
    assert_string_equal(json_string_value(json_object_get(root, "kind")),
                        "GGUF file, vision tower and projector");
    assert_int_equal(json_array_size(json_object_get(root, "misfits")), 0);
    assert_true(json_is_object(json_object_get(root, "metadata")));
    json_decref(root);
    /* A file without tensors is shown with what it lacks. */
    struct lcl_gguf_meta meta = {0};
    float x[4] = {0};
    const struct lcl_gguf_item item = {.name = "stray", .n_dims = 1, .shape = {4}, .data = x};
    lcl_gguf_put_text(&meta, "general.architecture", "bert");
    ASSERT_OK(lcl_gguf_write(at("bert.gguf"), &meta, &item, 1));
    lcl_gguf_meta_free(&meta);
    SUCCEEDS("inspect %s", at("bert.gguf"));
    says("GGUF file, bert");
    says("cannot_be_computed");
    FAILS("general.architecture is \"bert\"", "import gguf --file %s --out %s", at("bert.gguf"),
          at("never"));
    assert_false(lcl_fs_exists(at("never")));
}

/* GGUF -> HF folder -> GGUF: the same file, byte by byte, in each type that loses nothing. */
static void there_and_back(void **state)
{
    (void)state;
    static const char *const dtypes[] = {"f16", "bf16", "f32"};
    for (int i = 0; i < 3; i++) {
        SUCCEEDS("export %s --to gguf --out %s --text-only --force --dtype %s", tiny_run(),
                 at("one"), dtypes[i]);
        SUCCEEDS("import gguf --file %s/model.gguf --out %s --force", at("one"), at("hf"));
        says("LlamaForCausalLM");
        assert_true(lcl_hf_is_text_folder(at("hf")));
        SUCCEEDS("export %s --to gguf --out %s --force --dtype %s", at("hf"), at("two"), dtypes[i]);
        char a[500], b[500];
        snprintf(a, sizeof a, "%s/model.gguf", at("one"));
        snprintf(b, sizeof b, "%s/model.gguf", at("two"));
        assert_true(same_files(a, b));
    }
    FAILS("without a vision tower", "export %s --out %s", at("hf"), at("never"));
    /* Quantised weights are what the file says, in floats. */
    SUCCEEDS("export %s --to gguf --out %s --text-only --dtype q8_0", tiny_run(), at("q8"));
    SUCCEEDS("import gguf --file %s/model.gguf --out %s --dtype f32", at("q8"), at("q8-hf"));
    SUCCEEDS("export %s --to gguf --out %s --dtype q8_0", at("q8-hf"), at("q8-two"));
    says("self-check");
    FAILS("lcl import knows no \"nothing\"", "import nothing --file x");
}

/* The logits of words alone: those of the model that the decoder came from. */
static void an_imported_decoder_computes_the_same(void **state)
{
    (void)state;
    enum { T = 9 };
    const int64_t ids[T] = {9, 8, 70, 60, 50, 10, 11, 12, 13};
    const struct lcl_st_item items[] = {{"input_ids", LCL_I64, LCL_I64, 2, {1, T}, ids},
                                        {"labels", LCL_I64, LCL_I64, 2, {1, T}, ids}};
    struct lcl_safetensors a, b;
    ASSERT_OK(lcl_st_write(at("words"), items, 2, NULL));
    SUCCEEDS("export %s --out %s", tiny_run(), at("whole"));
    SUCCEEDS("export %s --to gguf --out %s --text-only --force", tiny_run(), at("one"));
    SUCCEEDS("import gguf --file %s/model.gguf --out %s --force", at("one"), at("hf"));
    SUCCEEDS("forward --model %s --case %s --out %s", at("whole"), at("words"), at("a"));
    SUCCEEDS("forward --model %s --case %s --out %s", at("hf"), at("words"), at("b"));
    ASSERT_OK(lcl_st_open(at("a"), &a));
    ASSERT_OK(lcl_st_open(at("b"), &b));
    const struct lcl_st_tensor *x = lcl_st_find(&a, "logits"), *y = lcl_st_find(&b, "logits");
    assert_int_equal(x->count, y->count);
    assert_memory_equal(x->data, y->data, x->count * sizeof(float));
    assert_non_null(lcl_st_find(&b, "loss"));
    assert_non_null(lcl_st_find(&b, "grad.model.embed_tokens.weight"));
    lcl_st_close(&a);
    lcl_st_close(&b);
}

static void load_run(const char *run, struct lcl_model *m)
{
    struct lcl_model_config c;
    char path[LCL_CHECKPOINT_PATH_BYTES];
    ASSERT_OK(lcl_checkpoint_find(run, path, sizeof path));
    ASSERT_OK(lcl_checkpoint_load_config(path, &c));
    ASSERT_OK(lcl_model_create(m, &c));
    ASSERT_OK(lcl_model_reserve(m, false, false, false));
    ASSERT_OK(lcl_checkpoint_load(path, &m->params, false, NULL));
}

/* A run that takes its decoder from an imported folder, and makes its own tower or takes that of
 * another run. */
static void an_imported_decoder_is_joined(void **state)
{
    (void)state;
    char yaml[4096];
    struct lcl_model joined, own;
    SUCCEEDS("export %s --to gguf --out %s --text-only --force", tiny_run(), at("one"));
    SUCCEEDS("import gguf --file %s/model.gguf --out %s --force", at("one"), at("hf"));
    snprintf(yaml, sizeof yaml, "%soutput_dir: %s\ninit_from: %s\ninit_parts: text\n", tiny_yaml(),
             at("joined"), at("hf"));
    const char *file = tiny_file("joined.yaml", yaml);
    SUCCEEDS("train %s --quiet", file);
    SUCCEEDS("train %s --force --set learning_rate=0 --set init_vision_from=%s", file, tiny_run());
    load_run(at("joined"), &joined);
    load_run(tiny_run(), &own);
    for (int i = 0; i < joined.params.n_rows; i++) {
        const struct lcl_param *q = &joined.params.rows[i];
        const struct lcl_param *p = lcl_params_find(&own.params, q->name);
        assert_non_null(p);
        bool same = memcmp(own.params.value + p->offset, joined.params.value + q->offset,
                           p->count * sizeof(float)) == 0;
        if (p->part == LCL_PART_VISION || p->part == LCL_PART_TEXT) assert_true(same);
        if (strcmp(p->name, "multi_modal_projector.linear_1.weight") == 0) assert_false(same);
    }
    lcl_model_free(&joined);
    lcl_model_free(&own);
    FAILS("nowhere", "train %s --force --set init_vision_from=%s", file, at("nowhere"));
}

/* A language model has no token for pictures: one that texts do not need is named. */
static void an_image_token_is_named(void **state)
{
    (void)state;
    SUCCEEDS("export %s --to gguf --out %s --text-only --force", tiny_run(), at("one"));
    SUCCEEDS("import gguf --file %s/model.gguf --out %s --force --image-token '<pad>'", at("one"),
             at("hf"));
    struct lcl_tokenizer *t;
    ASSERT_OK(lcl_tokenizer_load_folder(at("hf"), &t));
    assert_int_equal(lcl_tokenizer_image(t), lcl_tokenizer_id(t, "<pad>"));
    lcl_tokenizer_free(t);
    FAILS("no token \"<picture>\"",
          "import gguf --file %s/model.gguf --out %s --force --image-token '<picture>'", at("one"),
          at("hf"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_run_becomes_two_files),
        cmocka_unit_test(files_are_shown),
        cmocka_unit_test(there_and_back),
        cmocka_unit_test(an_imported_decoder_is_joined),
        cmocka_unit_test(an_image_token_is_named),
        cmocka_unit_test(an_imported_decoder_computes_the_same),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
