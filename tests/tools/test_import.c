/* Models in, as a user meets them: build/lcl (LCL_BIN) joins, adds deltas, takes projectors by
 * themselves and pairs of GGUF files, and shows each. */
#include "tests/support/command.h"

#include <jansson.h>

#include "checkpoint/hf.h"
#include "core/fs.h"
#include "data/tokenizer.h"
#include "model/model.h"
#include "tests/support/tiny.h"
#include "tests/support/torch_file.h"

/* Replaces every `from` by `to`, as long, in a file. */
static void rename_in(const char *path, const char *from, const char *to)
{
    char *text;
    size_t size;
    assert_int_equal(strlen(from), strlen(to));
    ASSERT_OK(lcl_fs_read(path, 1 << 26, &text, &size));
    for (char *s = strstr(text, from); s; s = strstr(s, from)) memcpy(s, to, strlen(to));
    ASSERT_OK(lcl_fs_write_atomic(path, text, size));
    free(text);
}

/* A tiny LLaVA, made once, as: a run, an HF folder, the original layout, whose vision_tower is a
 * CLIPModel's folder, and a LlamaForCausalLM whose tokenizer has neither <image> nor <pad>. */
static void make_models(void)
{
    static const char *const files[] = {"tokenizer.json", "tokenizer_config.json",
                                        "special_tokens_map.json"};
    char yaml[4096], path[500];
    if (lcl_fs_exists(at("run"))) return;
    snprintf(yaml, sizeof yaml, "%soutput_dir: %s\n", tiny_yaml(), at("run"));
    SUCCEEDS("train %s --quiet", tiny_file("run.yaml", yaml));
    SUCCEEDS("export %s --to hf --out %s", at("run"), at("llava"));
    SUCCEEDS("export %s --to llava-v1 --out %s", at("run"), at("v1"));
    SUCCEEDS("export %s --to gguf --out %s", at("run"), at("pair"));
    SUCCEEDS("import gguf --file %s/model.gguf --out %s --dtype f16", at("pair"), at("llama"));
    for (int i = 0; i < 3; i++) {
        snprintf(path, sizeof path, "%s/%s", at("llama"), files[i]);
        rename_in(path, "<image>", "<imago>");
        rename_in(path, "<pad>", "<pat>");
        rename_in(path, "image_token", "other_token");
    }
}

/* A tensor of a folder by its table name, as f32 in malloc'd memory. */
static float *values(const char *dir, const char *name, size_t *n)
{
    struct lcl_safetensors st;
    ASSERT_OK(lcl_st_open(dir, &st));
    const struct lcl_st_tensor *t = lcl_hf_find(&st, name);
    if (!t) fail_msg("%s holds no %s", dir, name);
    float *x = malloc((t->count + 1) * sizeof *x);
    assert_non_null(x);
    ASSERT_OK(lcl_st_read(t, 0, t->count, LCL_F32, x));
    *n = t->count;
    lcl_st_close(&st);
    return x;
}

static bool same_tensor(const char *a, const char *b, const char *name)
{
    size_t n, m;
    float *x = values(a, name, &n), *y = values(b, name, &m);
    bool same = n == m && memcmp(x, y, n * sizeof *x) == 0;
    free(x);
    free(y);
    return same;
}

/* Every tensor of `dir` whose table name begins so is in `other`, with the same values. */
static void assert_same_part(const char *dir, const char *other, const char *prefix)
{
    struct lcl_safetensors st;
    char name[LCL_PARAM_NAME_BYTES];
    int n = 0;
    ASSERT_OK(lcl_st_open(dir, &st));
    for (size_t i = 0; i < st.n_tensors; i++) {
        ASSERT_OK(lcl_hf_table_name(st.tensors[i].name, name));
        if (strncmp(name, prefix, strlen(prefix)) != 0) continue;
        if (!same_tensor(dir, other, name)) fail_msg("%s differs", name);
        n++;
    }
    assert_true(n > 3);
    lcl_st_close(&st);
}

/* Rows [V, V + 2) are the mean of those before, to the type's rounding. */
static void assert_extended(const char *joined, const char *name)
{
    size_t n, m;
    float *own = values(at("llama"), name, &n), *x = values(joined, name, &m);
    const size_t C = 32, V = n / C;
    assert_int_equal(m, n + 2 * C);
    assert_memory_equal(own, x, n * sizeof *x);
    for (size_t c = 0; c < C; c++) {
        double sum = 0;
        for (size_t v = 0; v < V; v++) sum += (double)own[v * C + c];
        assert_float_equal(x[n + c], (float)(sum / (double)V), 1e-3);
        assert_true(x[n + c] == x[n + C + c]);
    }
    free(own);
    free(x);
}

/* The projector is what a run's initialiser draws from the same seed. */
static void assert_drawn(const char *joined, uint64_t seed)
{
    struct lcl_model_config c;
    struct lcl_model m;
    size_t n;
    ASSERT_OK(lcl_hf_load_config(joined, &c));
    ASSERT_OK(lcl_model_create(&m, &c));
    ASSERT_OK(lcl_model_reserve(&m, false, false, false));
    lcl_params_initialise(&m.params, seed);
    for (int i = 0; i < m.params.n_rows; i++) {
        const struct lcl_param *p = &m.params.rows[i];
        if (p->part != LCL_PART_PROJECTOR) continue;
        float *x = values(joined, p->name, &n);
        assert_int_equal(n, p->count);
        assert_memory_equal(x, lcl_param_value(&m.params, p), n * sizeof *x);
        free(x);
    }
    lcl_model_free(&m);
}

static void a_tower_and_a_decoder_are_joined(void **state)
{
    (void)state;
    char clip[500], yaml[4096], index[500];
    struct lcl_tokenizer *t, *before;
    struct lcl_model_config c;
    make_models();
    snprintf(clip, sizeof clip, "%s/vision_tower", at("v1"));
    SUCCEEDS("import join --vision %s --text %s --out %s --seed 5", clip, at("llama"),
             at("joined"));
    says("4 tensors drawn fresh from seed 5");
    says("2 rows are added");
    assert_same_part(clip, at("joined"), "vision_tower.");
    assert_same_part(at("llama"), at("joined"), "language_model.model.layers.");
    assert_extended(at("joined"), "language_model.model.embed_tokens.weight");
    assert_extended(at("joined"), "language_model.lm_head.weight");
    assert_drawn(at("joined"), 5);
    ASSERT_OK(lcl_tokenizer_load_folder(at("llama"), &before));
    ASSERT_OK(lcl_tokenizer_load_folder(at("joined"), &t));
    ASSERT_OK(lcl_hf_load_config(at("joined"), &c));
    assert_int_equal(lcl_tokenizer_image(before), -1);
    assert_int_equal(c.image_token, lcl_tokenizer_vocab_size(before));
    assert_int_equal(lcl_tokenizer_image(t), c.image_token);
    assert_int_equal(lcl_tokenizer_id(t, "<pad>"), c.pad_token);
    assert_int_equal(c.text.V, lcl_tokenizer_vocab_size(t));
    assert_int_equal(c.select_layer, -2);
    lcl_tokenizer_free(before);
    lcl_tokenizer_free(t);
    snprintf(yaml, sizeof yaml, "%soutput_dir: %s\ninit_from: %s\n", tiny_yaml(), at("tuned"),
             at("joined"));
    SUCCEEDS("train %s --quiet", tiny_file("tuned.yaml", yaml));
    /* Another seed, another projector; a linear one; shards. */
    FAILS("holds files already", "import join --vision %s --text %s --out %s", clip, at("llama"),
          at("joined"));
    SUCCEEDS("import join --vision %s --text %s --out %s --seed 6", clip, at("llama"), at("six"));
    assert_false(same_tensor(at("joined"), at("six"), "multi_modal_projector.linear_1.weight"));
    SUCCEEDS("import join --vision %s --text %s --out %s --projector linear --dtype bf16 "
             "--shard-size 20KB",
             clip, at("llama"), at("linear"));
    snprintf(index, sizeof index, "%s/model.safetensors.index.json", at("linear"));
    assert_true(lcl_fs_exists(index));
    ASSERT_OK(lcl_hf_load_config(at("linear"), &c));
    assert_int_equal(c.projector, LCL_PROJECTOR_LINEAR);
    SUCCEEDS("inspect %s", at("linear"));
    says("projector        linear");
}

/* A copy of a folder's weights without one tensor. */
static void drop_tensor(const char *from, const char *dir, const char *dropped)
{
    struct lcl_safetensors st;
    ASSERT_OK(lcl_st_open(from, &st));
    struct lcl_st_item *items = calloc(st.n_tensors, sizeof *items);
    size_t n = 0;
    assert_non_null(items);
    for (size_t i = 0; i < st.n_tensors; i++) {
        const struct lcl_st_tensor *t = &st.tensors[i];
        if (strcmp(t->name, dropped) == 0) continue;
        items[n] = (struct lcl_st_item){.name = t->name,
                                        .dtype = t->dtype,
                                        .source = t->dtype,
                                        .n_dims = t->n_dims,
                                        .data = t->data};
        memcpy(items[n++].shape, t->shape, sizeof t->shape);
    }
    assert_int_equal(n, st.n_tensors - 1);
    ASSERT_OK(lcl_fs_mkdirs(dir));
    ASSERT_OK(lcl_st_write_folder(dir, items, n, 0));
    free(items);
    lcl_st_close(&st);
}

static void copy_file(const char *from, const char *to, const char *name)
{
    char a[500], b[500], *text;
    size_t size;
    snprintf(a, sizeof a, "%s/%s", from, name);
    snprintf(b, sizeof b, "%s/%s", to, name);
    ASSERT_OK(lcl_fs_read(a, 1 << 26, &text, &size));
    ASSERT_OK(lcl_fs_write_atomic(b, text, size));
    free(text);
}

/* Nothing that is missing is drawn. */
static void a_part_that_lacks_a_tensor_is_refused(void **state)
{
    (void)state;
    char clip[500];
    make_models();
    snprintf(clip, sizeof clip, "%s/vision_tower", at("v1"));
    drop_tensor(clip, at("less"), "vision_model.encoder.layers.0.mlp.fc1.bias");
    copy_file(clip, at("less"), "config.json");
    FAILS("missing: vision_tower.encoder.layers.0.mlp.fc1.bias",
          "import join --vision %s --text %s --out %s", at("less"), at("llama"), at("never"));
    drop_tensor(at("llama"), at("no-norm"), "model.norm.weight");
    copy_file(at("llama"), at("no-norm"), "config.json");
    copy_file(at("llama"), at("no-norm"), "tokenizer.json");
    FAILS("missing: language_model.model.norm.weight", "import join --vision %s --text %s --out %s",
          clip, at("no-norm"), at("never"));
    FAILS("--vision: ", "import join --vision %s --text %s --out %s", at("llama"), at("llama"),
          at("never"));
    FAILS("--text: ", "import join --vision %s --text %s --out %s", clip, clip, at("never"));
    assert_false(lcl_fs_exists(at("never")));
    assert_false(lcl_fs_exists(at("never.lcl-export")));
}

/* mm_projector.bin with the projector of the tiny LLaVA, under LLaVA's names. */
static const char *projector_file(void)
{
    static const char *const names[][2] = {{"linear_1.weight", "model.mm_projector.0.weight"},
                                           {"linear_1.bias", "model.mm_projector.0.bias"},
                                           {"linear_2.weight", "model.mm_projector.2.weight"},
                                           {"linear_2.bias", "model.mm_projector.2.bias"}};
    const char *path = at("mm_projector.bin");
    struct torch_item items[4];
    float *x[4];
    for (int i = 0; i < 4; i++) {
        char name[128];
        size_t n;
        snprintf(name, sizeof name, "multi_modal_projector.%s", names[i][0]);
        x[i] = values(at("llava"), name, &n);
        const bool matrix = i % 2 == 0;
        items[i] = (struct torch_item){names[i][1],    "FloatStorage",       x[i], (int64_t)n, 4, 0,
                                       matrix ? 2 : 1, {32, (int64_t)n / 32}};
    }
    torch_write(path, items, 4);
    for (int i = 0; i < 4; i++) free(x[i]);
    return path;
}

static void a_projector_by_itself(void **state)
{
    (void)state;
    char yaml[4096], clip[500];
    make_models();
    char file[600];
    snprintf(file, sizeof file, "%s", projector_file());
    SUCCEEDS("inspect %s", file);
    says("PyTorch file");
    says("mlp2x_gelu, from width 16 to 32, with biases");
    snprintf(clip, sizeof clip, "%s/vision_tower", at("v1"));
    SUCCEEDS("import join --vision %s --text %s --out %s --init-projector %s", clip, at("llama"),
             at("with-file"), file);
    assert_null(strstr(output, "fresh"));
    assert_same_part(at("llava"), at("with-file"), "multi_modal_projector.");
    FAILS("mm_projector_type says",
          "import join --vision %s --text %s --out %s --projector linear --init-projector %s", clip,
          at("llama"), at("never"), file);
    says("left over: model.mm_projector.2.weight");
    FAILS("of no projector: ", "import join --vision %s --text %s --out %s --init-projector %s",
          clip, at("llama"), at("never"), at("llava"));
    /* In a run, whose other parts come from elsewhere. */
    snprintf(yaml, sizeof yaml,
             "%soutput_dir: %s\ninit_from: %s\npretrain_mm_mlp_adapter: %s\nmm_standardize: true\n",
             tiny_yaml(), at("adapted"), at("joined"), file);
    if (!lcl_fs_exists(at("joined")))
        SUCCEEDS("import join --vision %s --text %s --out %s --seed 5", clip, at("llama"),
                 at("joined"));
    SUCCEEDS("train %s --quiet --set seed=99 --set learning_rate=0",
             tiny_file("adapted.yaml", yaml));
    SUCCEEDS("export %s --out %s", at("adapted"), at("adapted-hf"));
    assert_same_part(at("llava"), at("adapted-hf"), "multi_modal_projector.");
    assert_same_part(at("joined"), at("adapted-hf"), "vision_tower.");
    FAILS("mm_projector_type says",
          "train %s --quiet --set mm_projector_type=linear --set "
          "init_parts=vision,text --set output_dir=%s",
          at("adapted.yaml"), at("refused-run"));
}

/* Without a join: a run takes the decoder from one folder and the tower from a CLIP folder, which
 * does not say at which layer it is read. */
static void a_run_takes_parts(void **state)
{
    (void)state;
    char yaml[4096], clip[600];
    make_models();
    snprintf(clip, sizeof clip, "%s/vision_tower", at("v1"));
    SUCCEEDS("import gguf --file %s/model.gguf --out %s --force", at("pair"), at("base"));
    snprintf(yaml, sizeof yaml,
             "%soutput_dir: %s\ninit_from: %s\ninit_parts: text\ninit_vision_from: %s\n"
             "mm_vision_select_layer: -1\n",
             tiny_yaml(), at("parts"), at("base"), clip);
    SUCCEEDS("train %s --quiet", tiny_file("parts.yaml", yaml));
    SUCCEEDS("inspect %s", at("parts"));
    says("hidden state -1, ");
    SUCCEEDS("export %s --out %s", at("parts"), at("parts-hf"));
    assert_same_part(clip, at("parts-hf"), "vision_tower.");
}

/* The original layout as a delta of the decoder: its projector is the delta's alone. */
static void a_delta_is_added(void **state)
{
    (void)state;
    size_t n, m;
    make_models();
    SUCCEEDS("import gguf --file %s/model.gguf --out %s --force", at("pair"), at("base"));
    SUCCEEDS("import delta --base %s --delta %s --out %s --shard-size 30KB", at("base"), at("v1"),
             at("sum"));
    says("4 of the delta alone");
    float *x = values(at("sum"), "language_model.model.layers.1.mlp.up_proj.weight", &n);
    float *b = values(at("base"), "language_model.model.layers.1.mlp.up_proj.weight", &m);
    assert_int_equal(n, m);
    for (size_t i = 0; i < n; i++) assert_true(x[i] == b[i] + b[i]);
    free(x);
    free(b);
    assert_same_part(at("v1"), at("sum"), "multi_modal_projector.");
    SUCCEEDS("inspect %s --vision-tower %s/vision_tower", at("sum"), at("v1"));
    says("HF LLaVA folder");
    drop_tensor(at("v1"), at("less-delta"), "model.norm.weight");
    copy_file(at("v1"), at("less-delta"), "config.json");
    FAILS("missing in the delta: model.norm.weight", "import delta --base %s --delta %s --out %s",
          at("base"), at("less-delta"), at("never"));
    assert_false(lcl_fs_exists(at("never")));
}

/* GGUF text and mmproj -> HF LLaVA -> GGUF: the same files; HF -> GGUF -> HF: the same tensors. */
static void a_pair_of_gguf_files(void **state)
{
    (void)state;
    static const char *const dtypes[] = {"f32", "f16"};
    make_models();
    for (int i = 0; i < 2; i++) {
        char a[500], b[500];
        SUCCEEDS("export %s --to gguf --out %s --dtype %s --force", at("llava"), at("one"),
                 dtypes[i]);
        SUCCEEDS("import gguf --file %s/model.gguf --mmproj %s/mmproj.gguf --out %s --force",
                 at("one"), at("one"), at("hf"));
        says("LlavaForConditionalGeneration");
        says("post_layernorm: not in the file");
        SUCCEEDS("export %s --to gguf --out %s --dtype %s --force", at("hf"), at("two"), dtypes[i]);
        for (int k = 0; k < 2; k++) {
            snprintf(a, sizeof a, "%s/%s", at("one"), k ? "mmproj.gguf" : "model.gguf");
            snprintf(b, sizeof b, "%s/%s", at("two"), k ? "mmproj.gguf" : "model.gguf");
            if (!same_files(a, b)) fail_msg("%s and %s differ", a, b);
        }
        if (i > 0) continue;
        assert_same_part(at("llava"), at("hf"), "language_model.");
        assert_same_part(at("llava"), at("hf"), "multi_modal_projector.");
        assert_same_part(at("llava"), at("hf"), "vision_tower.encoder.");
    }
    FAILS("general.architecture",
          "import gguf --file %s/mmproj.gguf --mmproj %s/model.gguf --out %s", at("one"), at("one"),
          at("never"));
    SUCCEEDS("import join --vision %s/vision_tower --text %s --out %s --projector linear", at("v1"),
             at("llama"), at("line"));
    FAILS("the projector", "export %s --to gguf --out %s", at("line"), at("never"));
}

static json_t *shown(const char *path)
{
    SUCCEEDS("inspect %s --json", path);
    json_t *root = json_loads(output, 0, NULL);
    assert_non_null(root);
    return root;
}

static void parts_are_shown(void **state)
{
    (void)state;
    char clip[500];
    make_models();
    snprintf(clip, sizeof clip, "%s/vision_tower", at("v1"));
    json_t *root = shown(clip), *a = json_object_get(root, "architecture");
    assert_string_equal(json_string_value(json_object_get(root, "kind")), "HF CLIP folder");
    assert_non_null(json_object_get(a, "vision"));
    assert_null(json_object_get(a, "text"));
    assert_int_equal(json_array_size(json_object_get(root, "missing")), 0);
    json_decref(root);
    root = shown(at("llama"));
    a = json_object_get(root, "architecture");
    assert_string_equal(json_string_value(json_object_get(root, "kind")), "HF LLaMA folder");
    assert_null(json_object_get(a, "vision"));
    assert_non_null(json_object_get(a, "text"));
    assert_int_equal(json_array_size(json_object_get(root, "missing")), 0);
    json_decref(root);
    drop_tensor(clip, at("shown"), "vision_model.embeddings.class_embedding");
    copy_file(clip, at("shown"), "config.json");
    root = shown(at("shown"));
    assert_int_equal(json_array_size(json_object_get(root, "missing")), 1);
    json_decref(root);
    /* A delta, whose norms are near 0. */
    float small[32];
    fill_normal(small, 32, 0.01f, 1);
    const struct lcl_st_item norm = {.name = "model.norm.weight",
                                     .dtype = LCL_F32,
                                     .source = LCL_F32,
                                     .n_dims = 1,
                                     .shape = {32},
                                     .data = small};
    ASSERT_OK(lcl_fs_mkdirs(at("zero")));
    ASSERT_OK(lcl_st_write_folder(at("zero"), &norm, 1, 0));
    copy_file(at("llama"), at("zero"), "config.json");
    copy_file(at("llama"), at("zero"), "tokenizer.json");
    SUCCEEDS("inspect %s", at("zero"));
    says("as in a weight delta");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_tower_and_a_decoder_are_joined),
        cmocka_unit_test(a_part_that_lacks_a_tensor_is_refused),
        cmocka_unit_test(a_projector_by_itself),
        cmocka_unit_test(a_run_takes_parts),
        cmocka_unit_test(a_delta_is_added),
        cmocka_unit_test(a_pair_of_gguf_files),
        cmocka_unit_test(parts_are_shown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
