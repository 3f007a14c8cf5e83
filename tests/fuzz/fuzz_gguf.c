#include "tests/fuzz/fuzz.h"

#include "checkpoint/gguf_model.h"
#include "data/tokenizer.h"
#include "model/model.h"
#include "tests/support/tiny.h"
#include "train/gguf_tokenizer.h"

/* The model that a file is said to hold, and what of its tensors does not fit. */
static lcl_status compare(const struct lcl_gguf *g, const struct lcl_model_config *config,
                          unsigned parts)
{
    struct lcl_misfits fit;
    struct lcl_model m;
    if (config->text.n_layers > 8 || config->vision.n_layers > 8) return LCL_OK; /* slow */
    LCL_TRY(lcl_model_create(&m, config));
    lcl_gguf_check_fit(g, &m.params, parts, &fit);
    lcl_model_free(&m);
    return LCL_OK;
}

static lcl_status read_gguf_tower(const struct lcl_gguf *g)
{
    struct lcl_model_config m = {0};
    lcl_gguf_least_text(g, &m);
    LCL_TRY(lcl_gguf_read_vision(g, &m));
    return compare(g, &m, 1u << LCL_PART_VISION | 1u << LCL_PART_PROJECTOR);
}

/* The decoder's tables: a tokenizer and a config. */
static lcl_status read_gguf_model(const struct lcl_gguf *g)
{
    struct lcl_tokenizer_tables tables;
    struct lcl_tokenizer *t;
    struct lcl_model_config m;
    struct lcl_ids ids = {0};
    LCL_TRY(lcl_gguf_read_text(g, &m));
    LCL_TRY(compare(g, &m, 1u << LCL_PART_TEXT));
    LCL_TRY(lcl_gguf_tokenizer_read(g, &tables));
    lcl_status status = lcl_tokenizer_from_tables(&tables, g->path, &t);
    lcl_tokenizer_tables_free(&tables);
    if (status != LCL_OK) return status;
    status = lcl_tokenizer_encode(t, "<s>abba", true, &ids);
    if (status == LCL_OK) status = lcl_tokenizer_to_tables(t, (size_t)m.text.V, &tables);
    if (status == LCL_OK) lcl_tokenizer_tables_free(&tables);
    lcl_ids_free(&ids);
    lcl_tokenizer_free(t);
    return status;
}

static lcl_status read_gguf(const char *path, const struct fuzz_file *f)
{
    struct lcl_gguf g;
    lcl_status status = LCL_OK;
    float x[64];
    (void)f;
    LCL_TRY(lcl_gguf_open(path, &g));
    for (size_t i = 0; i < g.n_tensors && status == LCL_OK; i++) {
        const struct lcl_gguf_tensor *t = &g.tensors[i];
        size_t row = lcl_gguf_row(t);
        if (row <= 64) status = lcl_gguf_read_rows(t, t->count / row - 1, 1, x);
    }
    bool tower = lcl_gguf_tensor(&g, "v.patch_embd.weight") != NULL;
    if (status == LCL_OK) status = tower ? read_gguf_tower(&g) : read_gguf_model(&g);
    lcl_gguf_close(&g);
    return status;
}

/* A decoder's metadata and a tokenizer around three tensors. */
static struct fuzz_file gguf_file(const char *model, int number)
{
    static const enum lcl_gguf_type types[] = {LCL_GGUF_TYPE_F32, LCL_GGUF_TYPE_F16,
                                               LCL_GGUF_TYPE_Q8_0};
    static char *tokens[] = {"<unk>", "<s>", "a", "b", "ab"}, *merges[] = {"a b"};
    static int32_t kinds[] = {2, 3, 1, 1, 1};
    static float scores[] = {0, 0, -1, -2, -1.5f};
    struct lcl_tokenizer_tables tables = {.model = (char *)(uintptr_t)model,
                                          .pre = (char *)(uintptr_t) "smollm",
                                          .token = tokens,
                                          .score = scores,
                                          .type = kinds,
                                          .n_tokens = 5,
                                          .merge = merges,
                                          .n_merges = 1,
                                          .bos = 1,
                                          .eos = 1};
    struct lcl_config c;
    struct lcl_model_config m;
    struct lcl_gguf_meta meta = {0};
    struct lcl_gguf_item items[3];
    char path[300];
    float data[5 * 32];
    tiny_config(&c, "");
    lcl_model_config_from(&c, 5, &m);
    fill_normal(data, 5 * 32, 1, 4);
    for (int i = 0; i < 3; i++)
        items[i] = (struct lcl_gguf_item){.name = i == 0   ? "token_embd.weight"
                                                  : i == 1 ? "b.weight"
                                                           : "c.weight",
                                          .type = types[i],
                                          .n_dims = 2,
                                          .shape = {5, 32},
                                          .data = data};
    lcl_gguf_put_text_config(&meta, &m);
    lcl_gguf_tokenizer_put(&meta, &tables);
    snprintf(path, sizeof path, "%s/seed%d.gguf", temp_dir(), number);
    ASSERT_OK(lcl_gguf_write(path, &meta, items, 3));
    lcl_gguf_meta_free(&meta);
    return fuzz_whole(path);
}

static struct fuzz_file tower_file(void)
{
    struct lcl_config c;
    struct lcl_model_config config;
    struct lcl_model m;
    char path[300];
    tiny_config(&c, "");
    lcl_model_config_from(&c, 40, &config);
    ASSERT_OK(lcl_model_create(&m, &config));
    ASSERT_OK(lcl_model_reserve(&m, false, false, false));
    snprintf(path, sizeof path, "%s/tower.gguf", temp_dir());
    ASSERT_OK(lcl_gguf_save_vision(
        path, &m.params, &config,
        &(struct lcl_gguf_save_options){.type = LCL_GGUF_TYPE_F16, .image_std = {1, 1, 1}}));
    lcl_model_free(&m);
    return fuzz_whole(path);
}

static size_t seeds(struct fuzz_file *s)
{
    s[0] = gguf_file("gpt2", 0);
    s[1] = gguf_file("llama", 1);
    s[2] = tower_file();
    return 3;
}

static const char *const words[] = {"GGUF",
                                    "general.architecture",
                                    "general.alignment",
                                    "llama",
                                    "clip",
                                    "llama.block_count",
                                    "llama.context_length",
                                    "llama.rope.freq_base",
                                    "tokenizer.ggml.tokens",
                                    "tokenizer.ggml.merges",
                                    "tokenizer.ggml.scores",
                                    "tokenizer.ggml.token_type",
                                    "tokenizer.ggml.model",
                                    "tokenizer.ggml.pre",
                                    "tokenizer.chat_template",
                                    "token_embd.weight",
                                    "output_norm.weight",
                                    "v.patch_embd.weight",
                                    "clip.projector_type",
                                    "clip.vision.block_count",
                                    "\x09",
                                    "\x08",
                                    NULL};

const struct fuzz_target fuzz_gguf = {
    .name = "gguf", .file = "case.gguf", .seeds = seeds, .read = read_gguf, .words = words};
