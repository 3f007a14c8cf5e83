/* lcl export as a user meets it: build/lcl (LCL_BIN) is run, and what it wrote is read. */
#include "tests/support/command.h"

#include <jansson.h>
#include <math.h>

#include "checkpoint/ckpt.h"
#include "checkpoint/hf.h"
#include "core/fs.h"
#include "data/tokenizer.h"
#include "model/model.h"
#include "tests/support/tiny.h"

/* A run of a few steps under temp_dir()/NAME with more config lines. */
static const char *tiny_run(const char *name, const char *keys)
{
    char yaml[4096], file[64];
    snprintf(yaml, sizeof yaml, "%soutput_dir: %s\n%s", tiny_yaml(), at(name), keys);
    snprintf(file, sizeof file, "%s.yaml", name);
    SUCCEEDS("train %s --quiet", tiny_file(file, yaml));
    return at(name);
}

static json_t *read_json(const char *dir, const char *file)
{
    char path[600];
    snprintf(path, sizeof path, "%s/%s", dir, file);
    json_t *root = json_load_file(path, 0, NULL);
    if (!root) fail_msg("%s is no JSON", path);
    return root;
}

static void load_hf(struct lcl_model *m, const char *dir)
{
    struct lcl_model_config c;
    ASSERT_OK(lcl_hf_load_config(dir, &c));
    ASSERT_OK(lcl_model_create(m, &c));
    ASSERT_OK(lcl_model_reserve(m, false, false, false));
    ASSERT_OK(lcl_hf_load(dir, &m->params, LCL_ALL_PARTS, NULL));
}

/* chat.template names another template than the usual one. */
static void a_template_is_named(void **state)
{
    (void)state;
    SUCCEEDS("export %s --out %s --set chat.template=llama-2", tiny_run("named", ""),
             at("llama-hf"));
    json_t *tok = read_json(at("llama-hf"), "tokenizer_config.json");
    assert_non_null(
        strstr(json_string_value(json_object_get(tok, "chat_template")), "[INST] <<SYS>>"));
    json_decref(tok);
}

/* Plain models lose nothing: every parameter of the run is in the folder, bit for bit. */
static void a_run_becomes_a_folder(void **state)
{
    (void)state;
    const char *run = tiny_run("plain", ""), *out = at("plain-hf");
    SUCCEEDS("export %s --to hf --out %s", run, out);
    says("self-check");
    says("differ by at most 0 ");
    struct lcl_model exported, own;
    struct lcl_model_config c;
    char path[LCL_CHECKPOINT_PATH_BYTES];
    load_hf(&exported, out);
    ASSERT_OK(lcl_checkpoint_find(run, path, sizeof path));
    ASSERT_OK(lcl_checkpoint_load_config(path, &c));
    ASSERT_OK(lcl_model_create(&own, &c));
    ASSERT_OK(lcl_model_reserve(&own, false, false, false));
    ASSERT_OK(lcl_checkpoint_load(path, &own.params, false, NULL));
    assert_int_equal(own.params.n_rows, exported.params.n_rows);
    for (int i = 0; i < own.params.n_rows; i++) {
        const struct lcl_param *p = &own.params.rows[i];
        assert_string_equal(p->name, exported.params.rows[i].name);
        assert_memory_equal(own.params.value + p->offset, exported.params.value + p->offset,
                            p->count * sizeof(float));
    }
    lcl_model_free(&own);
    lcl_model_free(&exported);
    /* What a server needs besides: tokenizer, template, preprocessing. */
    struct lcl_tokenizer *t;
    char file[500];
    snprintf(file, sizeof file, "%s/tokenizer.json", out);
    ASSERT_OK(lcl_tokenizer_load(file, &t));
    json_t *config = read_json(out, "config.json"), *tok = read_json(out, "tokenizer_config.json"),
           *processor = read_json(out, "processor_config.json"),
           *pictures = read_json(out, "preprocessor_config.json");
    assert_int_equal(json_integer_value(json_object_get(config, "image_token_index")),
                     lcl_tokenizer_image(t));
    const char *template = json_string_value(json_object_get(tok, "chat_template"));
    assert_non_null(template);
    assert_non_null(strstr(template, "<image>"));
    char *jinja;
    size_t size;
    snprintf(file, sizeof file, "%s/chat_template.jinja", out);
    ASSERT_OK(lcl_fs_read(file, 1 << 16, &jinja, &size));
    assert_string_equal(jinja, template);
    free(jinja);
    assert_int_equal(json_integer_value(json_object_get(processor, "patch_size")), 8);
    assert_string_equal(json_string_value(json_object_get(pictures, "image_processor_type")),
                        "CLIPImageProcessor");
    json_decref(config);
    json_decref(tok);
    json_decref(processor);
    json_decref(pictures);
    lcl_tokenizer_free(t);
    /* The folder is a model like any other: exported again it is the same. */
    SUCCEEDS("export %s --out %s", out, at("again-hf"));
    char cmp[1000];
    snprintf(cmp, sizeof cmp, "cmp %s/model.safetensors %s/model.safetensors", out, at("again-hf"));
    assert_int_equal(system(cmp), 0);
    /* A single checkpoint, in half the bytes. */
    SUCCEEDS("export %s --out %s --dtype bf16", path, at("half-hf"));
    json_t *half = read_json(at("half-hf"), "config.json");
    assert_string_equal(json_string_value(json_object_get(half, "dtype")), "bfloat16");
    json_decref(half);
}

/* What HF cannot say in so many words is folded: standardised features, a linear projector. */
static void folded_models_compute_the_same(void **state)
{
    (void)state;
    const char *run = tiny_run("folded", "mm_standardize: true\nmm_projector_type: linear\n"
                                         "text.tie_word_embeddings: true\nfreeze_vision_tower: "
                                         "false\n");
    static const char *const dtypes[] = {"f32", "bf16", "f16"};
    for (int i = 0; i < 3; i++) {
        SUCCEEDS("export %s --out %s --dtype %s", run, at(dtypes[i]), dtypes[i]);
        says("self-check");
        struct lcl_safetensors st;
        ASSERT_OK(lcl_st_open(at(dtypes[i]), &st));
        assert_null(lcl_st_find(&st, "image_standardize.mean"));
        const struct lcl_st_tensor *w = lcl_st_find(&st, "multi_modal_projector.linear_1.weight");
        assert_non_null(w);
        assert_int_equal(w->dtype, i == 0 ? LCL_F32 : i == 1 ? LCL_BF16 : LCL_F16);
        lcl_st_close(&st);
    }
}

static void file_says(const char *path, const char *text)
{
    char *words;
    size_t size;
    ASSERT_OK(lcl_fs_read(path, 1 << 20, &words, &size));
    if (!strstr(words, text)) fail_msg("%s:\n%s\nwanted: %s", path, words, text);
    free(words);
}

/* A model card with what the run was, and an example worded as its episodes are. */
static void exports_say_what_they_are(void **state)
{
    (void)state;
    const char *run = tiny_run("told", "data.layout: vicuna\n");
    SUCCEEDS("export %s --out %s", run, at("told-hf"));
    file_says(at("told-hf/README.md"), "library_name: transformers");
    file_says(at("told-hf/README.md"), "CLIP ViT, ");
    file_says(at("told-hf/README.md"), "- began with: random weights");
    file_says(at("told-hf/README.md"), "- training loss at the end: ");
    file_says(at("told-hf/README.md"), "\ndata.layout: vicuna\n");
    file_says(at("told-hf/example.py"),
              "SHOT = \"USER: Example: <image>\\nWhat is in this picture? "
              "ASSISTANT: there is \\\"{label}\\\" in the image.</s>\"");
    file_says(at("told-hf/example.py"), "AutoProcessor.from_pretrained(here)");
    SUCCEEDS("export %s --to gguf --out %s --dtype q8_0", run, at("told-gguf"));
    file_says(at("told-gguf/README.md"), "Weights are q8_0.");
    file_says(at("told-gguf/example.py"), "IMAGE = \"<image>\"");
    SUCCEEDS("export %s --to gguf --out %s --text-only", run, at("told-text"));
    file_says(at("told-text/README.md"), "without a vision tower");
    assert_false(lcl_fs_exists(at("told-text/example.py")));
    SUCCEEDS("export %s --to llava-v1 --out %s", run, at("told-v1"));
    file_says(at("told-v1/README.md"), "original LLaVA layout");
    SUCCEEDS("export %s --out %s", at("told-hf"), at("retold-hf"));
    file_says(at("retold-hf/README.md"), "Not by lcl: it was read from `");
}

/* Files of the size that is asked for, under either kind of unit. */
static void shards_of_a_size(void **state)
{
    (void)state;
    const char *run = tiny_run("sharded", "");
    char path[500];
    struct lcl_safetensors st;
    SUCCEEDS("export %s --out %s --shard-size 20KB", run, at("shards"));
    ASSERT_OK(lcl_st_open(at("shards"), &st));
    assert_true(st.n_shards > 2);
    for (int i = 0; i < st.n_shards; i++) {
        size_t bytes = 0;
        int tensors = 0;
        for (size_t k = 0; k < st.n_tensors; k++) {
            if (st.tensors[k].shard != i) continue;
            bytes += st.tensors[k].bytes;
            tensors++;
        }
        assert_true(bytes <= 20000 || tensors == 1);
    }
    lcl_st_close(&st);
    snprintf(path, sizeof path, "%s/model.safetensors", at("shards"));
    assert_false(lcl_fs_exists(path));
    SUCCEEDS("export %s --out %s --shard-size 1MiB --force", run, at("shards"));
    assert_true(lcl_fs_exists(path));
    FAILS("--shard-size: \"ten\" is not a size", "export %s --out %s --shard-size ten", run,
          at("never"));
    FAILS("--shard-size: \"5XB\"", "export %s --out %s --shard-size 5XB", run, at("never"));
    FAILS("--shard-size: \"0\"", "export %s --out %s --shard-size 0", run, at("never"));
    FAILS("--shard-size goes with", "export %s --to gguf --out %s --shard-size 1MB", run,
          at("never"));
}

static void pooled_models_are_refused(void **state)
{
    (void)state;
    const char *run = tiny_run("pooled", "mm_image_pool: mean\n");
    FAILS("mm_image_pool: mean has no HF form", "export %s --out %s", run, at("pooled-hf"));
    says("hint: train with mm_image_pool: none");
    assert_false(lcl_fs_exists(at("pooled-hf")));
    assert_false(lcl_fs_exists(at("pooled-hf.lcl-export")));
}

/* Its decoder alone goes to GGUF. */
static void a_qformer_stays_a_checkpoint(void **state)
{
    (void)state;
    const char *run = tiny_run("queries", "mm_projector_type: qformer\nmm_standardize: true\n");
    static const char *const forms[] = {"hf", "llava-v1", "gguf"};
    for (int i = 0; i < 3; i++) {
        FAILS("no Q-Former", "export %s --to %s --out %s", run, forms[i], at("queries-out"));
        says("hint: lcl's own checkpoint is the form of such a model");
        assert_false(lcl_fs_exists(at("queries-out")));
    }
    SUCCEEDS("export %s --to gguf --text-only --out %s", run, at("queries-text"));
    SUCCEEDS("inspect %s", run);
    says("Q-Former, 3 query tokens, width 24, 3 layers, 2 heads, feed-forward 40");
}

static void nothing_is_overwritten_by_chance(void **state)
{
    (void)state;
    const char *run = tiny_run("kept", ""), *out = at("kept-hf"), *note = at("kept-hf/notes.md");
    SUCCEEDS("export %s --out %s", run, out);
    ASSERT_OK(lcl_fs_write_atomic(note, "mine", 4));
    ASSERT_OK(lcl_fs_write_atomic(at("kept-hf/model-00001-of-00002.safetensors"), "old", 3));
    FAILS("holds files already", "export %s --out %s", run, out);
    says("--force");
    SUCCEEDS("export %s --out %s/ --dtype f16 --force", run, out);
    assert_true(lcl_fs_exists(note));
    assert_false(lcl_fs_exists(at("kept-hf/model-00001-of-00002.safetensors")));
    assert_false(lcl_fs_exists(at("kept-hf.lcl-export")));
    struct lcl_safetensors st;
    ASSERT_OK(lcl_st_open(out, &st));
    assert_int_equal(st.tensors[0].dtype, LCL_F16);
    lcl_st_close(&st);
    /* Folders that hold something else stay as they are. */
    FAILS("no HF folder", "export %s --out %s --force", run, tiny_folder());
    FAILS("no HF folder", "export %s --out %s --force", out, run);
    FAILS("there is no run or model", "export %s --out %s", at("nowhere"), at("x-hf"));
    FAILS("--dtype", "export %s --out %s --dtype f8", run, at("x-hf"));
}

/* A model that f16 cannot hold is found out before the folder is in place. */
static void what_does_not_fit_is_found(void **state)
{
    (void)state;
    struct lcl_model m;
    const char *run = tiny_run("large", ""), *out = at("large-hf"), *big = at("larger-hf");
    SUCCEEDS("export %s --out %s", run, out);
    SUCCEEDS("export %s --out %s", run, big);
    load_hf(&m, out);
    struct lcl_param *p =
        lcl_params_find(&m.params, "language_model.model.layers.0.self_attn.v_proj.weight");
    assert_non_null(p);
    for (size_t i = 0; i < p->count; i++) m.params.value[p->offset + i] *= 1e7f;
    ASSERT_OK(lcl_hf_save(big, &m.params, &m.config, NULL));
    lcl_model_free(&m);
    FAILS("does not fit f16", "export %s --out %s --dtype f16", big, at("large-f16"));
    says("hint: export with --dtype bf16");
    assert_false(lcl_fs_exists(at("large-f16")));
    assert_false(lcl_fs_exists(at("large-f16.lcl-export")));
    SUCCEEDS("export %s --out %s --dtype bf16", big, at("large-bf16"));
}

/* The same tensors in two PEFT folders. */
static void same_adapters(const char *a, const char *b)
{
    char cmp[1000];
    snprintf(cmp, sizeof cmp, "cmp %s/adapter_model.safetensors %s/adapter_model.safetensors", a,
             b);
    assert_int_equal(system(cmp), 0);
}

/* Adapters merge into a folder, or go out alone and begin another run, or stand on its base. */
static void adapters_go_out_and_in(void **state)
{
    (void)state;
    char keys[900];
    const char *base = at("adapted-base"), *peft = at("adapted-peft"), *bad = at("x-peft");
    SUCCEEDS("export %s --out %s", tiny_run("base", ""), base);
    snprintf(keys, sizeof keys,
             "init_from: %s\nlora: {rank: 3, alpha: 5, targets: 'q_proj,down_proj,linear_2'}\n"
             "freeze_vision_tower: false\n",
             base);
    const char *run = tiny_run("adapted", keys);
    SUCCEEDS("inspect %s", run);
    says("LoRA of rank 3, alpha 5");
    SUCCEEDS("export %s --out %s", run, at("adapted-hf"));
    says("self-check");
    SUCCEEDS("export %s --to peft --out %s", run, peft);
    says("self-check: 14 tensors");
    says("logits of the folder read back differ by at most 0 ");
    file_says(at("adapted-peft/README.md"), "LoRA of rank 3, alpha 5");
    file_says(at("adapted-peft/example.py"), "PeftModel.from_pretrained(base, here)");
    json_t *config = read_json(peft, "adapter_config.json");
    assert_int_equal(json_array_size(json_object_get(config, "target_modules")), 7);
    assert_string_equal(json_string_value(json_object_get(config, "base_model_name_or_path")),
                        base);
    json_decref(config);
    SUCCEEDS("inspect %s", peft);
    says("PEFT adapter");
    SUCCEEDS("export %s --to peft --out %s --set lora.adapter=%s", base, at("same-peft"), peft);
    same_adapters(peft, at("same-peft"));
    SUCCEEDS("export %s --out %s --set lora.adapter=%s", base, at("same-hf"), peft);
    char cmp[1000];
    snprintf(cmp, sizeof cmp, "cmp %s/model.safetensors %s/model.safetensors", at("same-hf"),
             at("adapted-hf"));
    assert_int_equal(system(cmp), 0);
    const char *plain = tiny_file("begun.yaml", tiny_yaml());
    SUCCEEDS("train %s --quiet --set output_dir=%s --set init_from=%s --set lora.adapter=%s "
             "--set max_steps=1 --set learning_rate=0",
             plain, at("begun"), base, peft);
    SUCCEEDS("export %s --to peft --out %s", at("begun"), at("begun-peft"));
    same_adapters(peft, at("begun-peft"));
    SUCCEEDS("export %s --to peft --dtype bf16 --out %s --force", run, peft);
    FAILS("and no adapter", "export %s --to peft --out %s --force", run, base);
    FAILS("the model has no adapters", "export %s --to peft --out %s", base, bad);
    assert_false(lcl_fs_exists(bad));
    FAILS("lora.rank is 2", "export %s --out %s --set lora.adapter=%s --set lora.rank=2", base, bad,
          peft);
    FAILS("adapters of lora.rank 3", "train %s --set init_from=%s --set output_dir=%s", plain, run,
          at("other"));
}

/* What a base in blocks stands for is what the adapters are merged into, and what adapters that
 * went out alone stand on. */
static void a_base_in_blocks_goes_out(void **state)
{
    (void)state;
    char keys[900], cmp[1000];
    const char *base = at("blocks-base"), *peft = at("blocks-peft");
    SUCCEEDS("export %s --out %s", tiny_run("blocks-from", ""), base);
    snprintf(keys, sizeof keys,
             "init_from: %s\nlora: {rank: 3, alpha: 5, targets: 'q_proj,linear_2', base: q4_0}\n",
             base);
    const char *run = tiny_run("blocks", keys);
    SUCCEEDS("inspect %s", run);
    says("Q4_0");
    SUCCEEDS("export %s --out %s", run, at("blocks-hf"));
    says("self-check");
    SUCCEEDS("export %s --to gguf --dtype q8_0 --out %s", run, at("blocks-gguf"));
    SUCCEEDS("export %s --to peft --out %s", run, peft);
    /* a plain run of what the blocks stand for: its merge is the same */
    SUCCEEDS("train %s --quiet --set output_dir=%s --set init_from=%s --set lora.rank=3 "
             "--set lora.alpha=5 --set lora.targets=q_proj,linear_2 --set max_steps=1 "
             "--set learning_rate=0",
             tiny_file("blocks-plain.yaml", tiny_yaml()), at("blocks-plain"), run);
    SUCCEEDS("export %s --out %s", at("blocks-plain"), at("blocks-plain-hf"));
    snprintf(cmp, sizeof cmp, "cmp %s/model.safetensors %s/model.safetensors", at("blocks-hf"),
             at("blocks-plain-hf"));
    assert_int_equal(system(cmp), 0);
    SUCCEEDS("export %s --to peft --out %s", at("blocks-plain"), at("blocks-plain-peft"));
    same_adapters(peft, at("blocks-plain-peft"));
}

/* Behind standardised features an adapter of the projector is merged, then folded. */
static void adapters_are_folded_with_the_projector(void **state)
{
    (void)state;
    const char *run = tiny_run("lora-folded", "mm_standardize: true\n"
                                              "lora: {rank: 2, targets: linear_1}\n");
    SUCCEEDS("export %s --out %s", run, at("lora-folded-hf"));
    says("self-check");
    FAILS("standardised", "export %s --to peft --out %s", run, at("lora-folded-peft"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(a_run_becomes_a_folder),
                                       cmocka_unit_test(a_template_is_named),
                                       cmocka_unit_test(folded_models_compute_the_same),
                                       cmocka_unit_test(exports_say_what_they_are),
                                       cmocka_unit_test(shards_of_a_size),
                                       cmocka_unit_test(pooled_models_are_refused),
                                       cmocka_unit_test(a_qformer_stays_a_checkpoint),
                                       cmocka_unit_test(adapters_go_out_and_in),
                                       cmocka_unit_test(a_base_in_blocks_goes_out),
                                       cmocka_unit_test(adapters_are_folded_with_the_projector),
                                       cmocka_unit_test(nothing_is_overwritten_by_chance),
                                       cmocka_unit_test(what_does_not_fit_is_found)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
