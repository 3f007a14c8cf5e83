/* Models in GGUF: names, configs and values there and back, and what is refused. */
#include "tests/support/support.h"

#include "checkpoint/gguf_model.h"
#include "model/model.h"

static const char *file_in_temp(const char *name)
{
    static char path[400];
    snprintf(path, sizeof path, "%s/%s", temp_dir(), name);
    return path;
}

static const struct lcl_gguf_save_options f32 = {.image_mean = {0.5f, 0.5f, 0.5f},
                                                 .image_std = {1, 1, 1}};

static struct lcl_model_config small(void)
{
    return (struct lcl_model_config){.vision = {16, 8, 12, 20, 3, 3, LCL_GELU_QUICK, 1e-5},
                                     .text = {.C = 24,
                                              .F = 20,
                                              .n_layers = 2,
                                              .H = 4,
                                              .G = 2,
                                              .D = 8,
                                              .V = 11,
                                              .eps = 1e-6,
                                              .rope_theta = 10000,
                                              .rope_factor = 1,
                                              .rope_low_freq_factor = 1,
                                              .rope_high_freq_factor = 1,
                                              .max_positions = 128},
                                     .projector = LCL_PROJECTOR_MLP2,
                                     .projector_bias = true,
                                     .select_layer = -2,
                                     .image_token = 9,
                                     .bos_token = -1,
                                     .eos_token = -1,
                                     .pad_token = -1};
}

static void make(struct lcl_model *m, const struct lcl_model_config *c, bool with_values)
{
    ASSERT_OK(lcl_model_create(m, c));
    ASSERT_OK(lcl_model_reserve(m, false, false, false));
    if (with_values) lcl_params_initialise(&m->params, 1);
}

/* Writes the decoder; returns the config that is read back. The caller closes g. */
static struct lcl_model_config text_back(struct lcl_model *m, struct lcl_gguf *g)
{
    struct lcl_gguf_meta meta = {0};
    struct lcl_model_config back;
    ASSERT_OK(lcl_gguf_save_text(file_in_temp("text.gguf"), &m->params, &m->config, &meta, &f32));
    lcl_gguf_meta_free(&meta);
    ASSERT_OK(lcl_gguf_open(file_in_temp("text.gguf"), g));
    ASSERT_OK(lcl_gguf_read_text(g, &back));
    return back;
}

static void same_rows(const struct lcl_params *a, const struct lcl_params *b, enum lcl_part part)
{
    int n = 0;
    for (int i = 0; i < a->n_rows; i++) {
        const struct lcl_param *p = &a->rows[i];
        if (p->part != part || strstr(p->name, "post_layernorm")) continue;
        const struct lcl_param *q = lcl_params_find((struct lcl_params *)(uintptr_t)b, p->name);
        assert_non_null(q);
        assert_memory_equal(lcl_param_value(a, p), lcl_param_value(b, q), p->count * sizeof(float));
        n++;
    }
    assert_true(n > 0);
}

/* Every row of a model has a name in the files, no two the same, and finds back. */
static void names(void **state)
{
    (void)state;
    struct lcl_model_config c = small();
    struct lcl_model m;
    char name[LCL_PARAM_NAME_BYTES], back[LCL_PARAM_NAME_BYTES];
    ASSERT_OK(lcl_model_create(&m, &c));
    for (int i = 0; i < m.params.n_rows; i++) {
        assert_true(lcl_gguf_file_name(m.params.rows[i].name, name));
        assert_true(lcl_gguf_table_name(name, back));
        assert_string_equal(back, m.params.rows[i].name);
    }
    lcl_model_free(&m);
    static const char *const unknown[] = {
        "blk.attn_q.weight", "blk.0.attn_qkv.weight",   "blk.0.", "blk.0000000001.attn_q.weight",
        "rope_freqs.weight", "v.blk.1.attn_gate.weight"};
    for (int i = 0; i < 6; i++) assert_false(lcl_gguf_table_name(unknown[i], name));
    assert_int_equal(lcl_gguf_rotary_heads("blk.3.attn_q.weight", &c.text), 4);
    assert_int_equal(lcl_gguf_rotary_heads("blk.3.attn_k.weight", &c.text), 2);
    assert_int_equal(lcl_gguf_rotary_heads("blk.3.attn_v.weight", &c.text), 0);
    assert_int_equal(lcl_gguf_rotary_heads("v.blk.3.attn_q.weight", &c.text), 0);
}

/* Heads that are no share of the width, grouped-query attention, both kinds of head. */
static void decoders_come_back(void **state)
{
    (void)state;
    for (int tied = 0; tied < 2; tied++) {
        struct lcl_model_config c = small();
        struct lcl_model m, n;
        struct lcl_gguf g;
        c.text.tied = tied;
        make(&m, &c, true);
        struct lcl_model_config back = text_back(&m, &g);
        assert_memory_equal(&back.text, &c.text, sizeof c.text);
        make(&n, &back, false);
        ASSERT_OK(lcl_gguf_load(&g, &back.text, &n.params, 1u << LCL_PART_TEXT));
        same_rows(&m.params, &n.params, LCL_PART_TEXT);
        lcl_gguf_close(&g);
        lcl_model_free(&n);
        lcl_model_free(&m);
    }
}

/* A q8_0 file into a table of such blocks is the file's bits, rotary rows in their order; into one
 * of other blocks, or from a plain file, it is what encoding the values gives. */
static void blocks_are_taken_as_they_are(void **state)
{
    (void)state;
    static const lcl_dtype kinds[] = {LCL_F32, LCL_Q8_0, LCL_Q4_0};
    struct lcl_gguf_save_options as = f32;
    for (int kind = 0; kind < 6; kind++) {
        struct lcl_model_config c = small();
        struct lcl_model m, n, plain;
        struct lcl_gguf g;
        struct lcl_gguf_meta meta = {0};
        as.type = kind % 2 ? LCL_GGUF_TYPE_Q8_0 : LCL_GGUF_TYPE_F32;
        c.text.C = 64;
        make(&m, &c, true);
        ASSERT_OK(lcl_gguf_save_text(file_in_temp("b.gguf"), &m.params, &m.config, &meta, &as));
        lcl_gguf_meta_free(&meta);
        ASSERT_OK(lcl_gguf_open(file_in_temp("b.gguf"), &g));
        make(&plain, &c, false);
        ASSERT_OK(lcl_gguf_load(&g, &c.text, &plain.params, 1u << LCL_PART_TEXT));
        ASSERT_OK(lcl_model_create(&n, &c));
        n.params.blocks = kinds[kind / 2];
        ASSERT_OK(lcl_model_reserve(&n, false, false, false));
        ASSERT_OK(lcl_gguf_load(&g, &c.text, &n.params, 1u << LCL_PART_TEXT));
        int coded = 0;
        for (int i = 0; i < n.params.n_rows; i++) {
            const struct lcl_param *p = &n.params.rows[i];
            if (p->part != LCL_PART_TEXT || !p->in_blocks) continue;
            const size_t bytes = lcl_code_bytes(n.params.blocks, p->count);
            uint8_t *code = malloc(bytes);
            lcl_f16 *scale = malloc(p->count / LCL_BLOCK * sizeof *scale);
            assert_true(code && scale);
            lcl_blocks_encode(n.params.blocks,
                              lcl_param_value(&plain.params, &plain.params.rows[i]), p->count, code,
                              scale);
            assert_memory_equal(code, lcl_param_code(&n.params, p), bytes);
            assert_memory_equal(scale, lcl_param_scale(&n.params, p),
                                p->count / LCL_BLOCK * sizeof *scale);
            free(code);
            free(scale);
            coded++;
        }
        assert_true(kind / 2 ? coded > 4 : coded == 0);
        lcl_gguf_close(&g);
        lcl_model_free(&plain);
        lcl_model_free(&n);
        lcl_model_free(&m);
    }
}

static void rotary_scaling(void **state)
{
    (void)state;
    struct lcl_model_config c = small();
    struct lcl_model m;
    struct lcl_gguf g;
    c.text.rope_scaling = LCL_ROPE_LINEAR;
    c.text.rope_factor = 2.5;
    make(&m, &c, true);
    struct lcl_model_config back = text_back(&m, &g);
    assert_memory_equal(&back.text, &c.text, sizeof c.text);
    lcl_gguf_close(&g);
    lcl_model_free(&m);

    c.text.rope_scaling = LCL_ROPE_LLAMA3;
    c.text.rope_factor = 8;
    c.text.rope_low_freq_factor = 2;
    c.text.rope_high_freq_factor = 6;
    c.text.rope_original_positions = 200;
    make(&m, &c, true);
    back = text_back(&m, &g);
    assert_memory_equal(&back.text, &c.text, sizeof c.text);
    const struct lcl_gguf_tensor *t = lcl_gguf_tensor(&g, "rope_freqs.weight");
    float factors[4];
    assert_non_null(t);
    ASSERT_OK(lcl_gguf_read_rows(t, 0, 1, factors));
    assert_true(factors[0] == 1 && factors[3] == 8);
    lcl_gguf_close(&g);
    lcl_model_free(&m);
}

/* Files of others hold the factors alone: those of Llama 3 are known, others refused. */
static void factors_of_llama3(void **state)
{
    (void)state;
    for (int known = 0; known < 2; known++) {
        struct lcl_model_config c = small(), back;
        struct lcl_gguf_meta meta = {0};
        struct lcl_gguf g;
        float embedding[11 * 24] = {0}, *factors;
        c.text.rope_theta = 500000;
        lcl_gguf_put_text_config(&meta, &c);
        c.text.rope_scaling = LCL_ROPE_LLAMA3;
        c.text.rope_factor = 32;
        c.text.rope_high_freq_factor = 4;
        c.text.rope_original_positions = 8192;
        factors = lcl_gguf_rope_factors(&c.text);
        assert_non_null(factors);
        if (!known) factors[1] = 3;
        const struct lcl_gguf_item items[] = {
            {.name = "token_embd.weight", .n_dims = 2, .shape = {11, 24}, .data = embedding},
            {.name = "rope_freqs.weight", .n_dims = 1, .shape = {4}, .data = factors}};
        ASSERT_OK(lcl_gguf_write(file_in_temp("rope.gguf"), &meta, items, 2));
        ASSERT_OK(lcl_gguf_open(file_in_temp("rope.gguf"), &g));
        if (known) {
            ASSERT_OK(lcl_gguf_read_text(&g, &back));
            c.text.tied = true;
            assert_memory_equal(&back.text, &c.text, sizeof c.text);
        } else {
            ASSERT_FAILS(lcl_gguf_read_text(&g, &back), LCL_UNSUPPORTED, "rope_freqs.weight");
        }
        free(factors);
        lcl_gguf_meta_free(&meta);
        lcl_gguf_close(&g);
    }
}

static void towers_come_back(void **state)
{
    (void)state;
    static const int64_t layers[] = {-2, -1, 1};
    for (int i = 0; i < 3; i++) {
        struct lcl_model_config c = small();
        struct lcl_model m, n;
        struct lcl_gguf g;
        c.select_layer = layers[i];
        c.projector_bias = i != 1;
        make(&m, &c, true);
        const char *path = file_in_temp("mmproj.gguf");
        ASSERT_OK(lcl_gguf_save_vision(path, &m.params, &c, &f32));
        ASSERT_OK(lcl_gguf_open(path, &g));
        struct lcl_model_config back = {.text = c.text};
        ASSERT_OK(lcl_gguf_read_vision(&g, &back));
        assert_memory_equal(&back.vision, &c.vision, sizeof c.vision);
        assert_int_equal(lcl_vision_layers_used(&back), lcl_vision_layers_used(&c));
        assert_true(back.projector_bias); /* llama.cpp wants them: zeros where the model has none */
        assert_null(lcl_gguf_tensor(&g, "v.post_ln.weight"));
        make(&n, &back, false);
        ASSERT_OK(lcl_gguf_load(&g, &back.text, &n.params,
                                1u << LCL_PART_VISION | 1u << LCL_PART_PROJECTOR));
        same_rows(&m.params, &n.params, LCL_PART_VISION);
        same_rows(&m.params, &n.params, LCL_PART_PROJECTOR);
        lcl_gguf_close(&g);
        lcl_model_free(&n);
        lcl_model_free(&m);
    }
}

static void what_llama_cpp_cannot_compute(void **state)
{
    (void)state;
    const char *path = file_in_temp("refused.gguf");
    for (int i = 0; i < 5; i++) {
        static const char *const why[] = {"class token", "projector", "projector", "every patch",
                                          "no Q-Former"};
        struct lcl_model_config c = small();
        struct lcl_model m;
        if (i == 0) c.keep_class = true;
        if (i == 1) c.projector = LCL_PROJECTOR_LINEAR;
        if (i == 2) c.projector = LCL_PROJECTOR_LINEAR2;
        if (i == 3) c.pool = LCL_POOL_MEAN;
        if (i == 4) {
            c.projector = LCL_PROJECTOR_QFORMER;
            c.qformer = (struct lcl_qformer_config){2, 8, 8, 1, 1, 1, 1e-12};
        }
        make(&m, &c, true);
        ASSERT_FAILS(lcl_gguf_save_vision(path, &m.params, &c, &f32), LCL_UNSUPPORTED, why[i]);
        assert_false(lcl_fs_exists(path));
        lcl_model_free(&m);
    }
}

/* A file of a decoder's metadata with `put` on top and an embedding alone. */
static void refused(void (*put)(struct lcl_gguf_meta *), lcl_status code, const char *text)
{
    struct lcl_model_config c = small(), back;
    struct lcl_gguf_meta meta = {0};
    struct lcl_gguf g;
    float embedding[11 * 24] = {0};
    const struct lcl_gguf_item item = {
        .name = "token_embd.weight", .n_dims = 2, .shape = {11, 24}, .data = embedding};
    if (code != LCL_SHAPE) put(&meta);
    if (meta.n_values < 2) lcl_gguf_put_text_config(&meta, &c);
    ASSERT_OK(lcl_gguf_write(file_in_temp("bad.gguf"), &meta, &item, 1));
    lcl_gguf_meta_free(&meta);
    ASSERT_OK(lcl_gguf_open(file_in_temp("bad.gguf"), &g));
    if (code == LCL_SHAPE) {
        struct lcl_model m;
        ASSERT_OK(lcl_gguf_read_text(&g, &back));
        ASSERT_OK(lcl_model_create(&m, &back));
        ASSERT_FAILS(lcl_gguf_require_fit(&g, &m.params, 1u << LCL_PART_TEXT), code, text);
        lcl_model_free(&m);
    } else {
        ASSERT_FAILS(lcl_gguf_read_text(&g, &back), code, text);
        assert_non_null(strstr(lcl_error_message(), "bad.gguf"));
    }
    lcl_gguf_close(&g);
}

static void experts(struct lcl_gguf_meta *m) { lcl_gguf_put_u32(m, "llama.expert_count", 8); }
static void window(struct lcl_gguf_meta *m)
{
    lcl_gguf_put_u32(m, "llama.attention.sliding_window", 64);
}
static void yarn(struct lcl_gguf_meta *m)
{
    lcl_gguf_put_text(m, "llama.rope.scaling.type", "yarn");
}
static void qwen(struct lcl_gguf_meta *m)
{
    lcl_gguf_put_text(m, "general.architecture", "qwen2");
    lcl_gguf_put_u32(m, "qwen2.block_count", 1);
}
static void no_layers(struct lcl_gguf_meta *m)
{
    lcl_gguf_put_text(m, "general.architecture", "llama");
    lcl_gguf_put_u32(m, "llama.embedding_length", 24);
    lcl_gguf_put_u32(m, "llama.feed_forward_length", 24);
}
static void huge(struct lcl_gguf_meta *m)
{
    no_layers(m);
    lcl_gguf_put_u32(m, "llama.block_count", UINT32_MAX);
}

static void what_is_not_known_is_named(void **state)
{
    (void)state;
    refused(experts, LCL_UNSUPPORTED, "8 experts");
    refused(window, LCL_UNSUPPORTED, "sliding window of 64");
    refused(yarn, LCL_UNSUPPORTED, "llama.rope.scaling.type is \"yarn\"");
    refused(qwen, LCL_UNSUPPORTED, "general.architecture is \"qwen2\"");
    refused(no_layers, LCL_FORMAT, "has no llama.block_count");
    refused(huge, LCL_FORMAT, "llama.block_count is 4.29497e+09");
    refused(NULL, LCL_SHAPE, "missing: language_model.model.layers.0.self_attn.q_proj.weight");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names),
        cmocka_unit_test(decoders_come_back),
        cmocka_unit_test(blocks_are_taken_as_they_are),
        cmocka_unit_test(rotary_scaling),
        cmocka_unit_test(factors_of_llama3),
        cmocka_unit_test(towers_come_back),
        cmocka_unit_test(what_llama_cpp_cannot_compute),
        cmocka_unit_test(what_is_not_known_is_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
