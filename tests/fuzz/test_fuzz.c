/* Damaged files of every kind that a user may hand over: the answer is a result or an error with a
 * message, never a crash or a hang (the sanitizers' runs see what a plain one would not).
 *
 * Long: one target a format, and the mutations that they share.
 *
 * FUZZ_SECONDS a target (default 1), FUZZ_FIRST the number of the first case. The case at work lies
 * under build/fuzz/: after a crash it is the culprit. */
#include "tests/support/support.h"

#include <jpeglib.h>
#include <webp/encode.h>

#include "checkpoint/ckpt.h"
#include "checkpoint/delta.h"
#include "checkpoint/gguf_model.h"
#include "checkpoint/hf.h"
#include "checkpoint/hf_config.h"
#include "checkpoint/peft.h"
#include "checkpoint/safetensors.h"
#include "core/config.h"
#include "core/fs.h"
#include "core/log.h"
#include "core/rng.h"
#include "data/image.h"
#include "data/pack.h"
#include "data/tokenizer.h"
#include "model/model.h"
#include "tests/support/sp_file.h"
#include "tests/support/tiny.h"
#include "tests/support/torch_file.h"
#include "train/gguf_tokenizer.h"
#include "train/metrics.h"

struct file {
    uint8_t *bytes;
    size_t size;
};

enum { MOST_BYTES = 1 << 20, MOST_EDITS = 6 };

/* ---- mutations ---- */

static size_t at_random(struct lcl_rng *r, size_t n)
{
    return n ? lcl_rng_below(r, (uint32_t)n) : 0;
}

/* Overwrites 1, 2, 4 or 8 bytes with a number that length fields trip over, in either order. */
static void put_number(struct lcl_rng *r, struct file *f)
{
    static const uint64_t numbers[] = {0,          1,          0x7f,      0x80,
                                       0xff,       0x7fff,     0xffff,    0x7fffffff,
                                       0x80000000, 0xffffffff, INT64_MAX, UINT64_MAX};
    size_t width = (size_t)1 << lcl_rng_below(r, 4), at = at_random(r, f->size);
    uint64_t x = numbers[at_random(r, sizeof numbers / sizeof *numbers)];
    bool big_end = lcl_rng_below(r, 2);
    for (size_t i = 0; i < width && at + i < f->size; i++)
        f->bytes[at + i] = (uint8_t)(x >> 8 * (big_end ? width - 1 - i : i));
}

/* Moves what lies behind `at` by `by` bytes; a gap keeps what it held. */
static void shift(struct file *f, size_t at, ptrdiff_t by)
{
    if (by < 0) {
        size_t cut = (size_t)-by < f->size - at ? (size_t)-by : f->size - at;
        memmove(f->bytes + at, f->bytes + at + cut, f->size - at - cut);
        f->size -= cut;
    } else if (f->size + (size_t)by <= MOST_BYTES) {
        memmove(f->bytes + at + by, f->bytes + at, f->size - at);
        f->size += (size_t)by;
    }
}

/* A word that one of the text formats knows, or knows to be trouble. */
static void put_word(struct lcl_rng *r, struct file *f)
{
    static const char *const words[] = {"-1",   "1e999",    "99999999999999999999",
                                        "null", "{}",       "[[[[[[[[",
                                        "\"",   "\\u0000",  "\n- ",
                                        ": ",   "&a *a",    "\xff\xfe",
                                        "nan",  "true",     "<unk>",
                                        "F32",  "!!binary "};
    const char *word = words[at_random(r, sizeof words / sizeof *words)];
    size_t n = strlen(word), at = at_random(r, f->size + 1);
    if (lcl_rng_below(r, 2)) shift(f, at, (ptrdiff_t)n);
    for (size_t i = 0; i < n && at + i < f->size; i++) f->bytes[at + i] = (uint8_t)word[i];
}

static void edit(struct lcl_rng *r, struct file *f)
{
    size_t at = at_random(r, f->size), n = 1 + at_random(r, 32);
    switch (lcl_rng_below(r, 7)) {
    case 0:
        if (f->size) f->bytes[at] ^= (uint8_t)(1u << lcl_rng_below(r, 8));
        break;
    case 1:
        if (f->size) f->bytes[at] = (uint8_t)lcl_rng_u32(r);
        break;
    case 2:
        put_number(r, f);
        break;
    case 3:
        put_word(r, f);
        break;
    case 4:
        shift(f, at, -(ptrdiff_t)n);
        break;
    case 5: /* twice the same */
        shift(f, at, (ptrdiff_t)n);
        break;
    default:
        if (lcl_rng_below(r, 4) == 0) f->size = at;
        break;
    }
}

/* ---- running ---- */

typedef lcl_status (*reader)(const char *path, const struct file *f);

static void write_case(const char *path, const struct file *f)
{
    FILE *out = fopen(path, "wb");
    assert_non_null(out);
    assert_int_equal(fwrite(f->bytes, 1, f->size, out), f->size);
    assert_int_equal(fclose(out), 0);
}

/* The seeds as they are must be read; then mutations of them until the time is up. */
static void fuzz(const char *name, const struct file *seeds, size_t n_seeds, reader read)
{
    const char *seconds = getenv("FUZZ_SECONDS"), *first = getenv("FUZZ_FIRST");
    double end = lcl_time_s() + (seconds ? atof(seconds) : 1);
    uint64_t i = first ? strtoull(first, NULL, 10) : 0, failed = 0, begin = i;
    char path[128];
    struct file f = {malloc(MOST_BYTES), 0};
    assert_non_null(f.bytes);
    ASSERT_OK(lcl_fs_mkdirs("build/fuzz"));
    snprintf(path, sizeof path, "build/fuzz/%s", name);
    for (size_t s = 0; s < n_seeds; s++) {
        write_case(path, &seeds[s]);
        ASSERT_OK(read(path, &seeds[s]));
    }
    for (; lcl_time_s() < end; i++) {
        struct lcl_rng r = lcl_rng_stream(1, LCL_RNG_TEST, 0, i);
        const struct file *seed = &seeds[at_random(&r, n_seeds)];
        memcpy(f.bytes, seed->bytes, seed->size);
        f.size = seed->size;
        for (uint32_t e = 1 + lcl_rng_below(&r, MOST_EDITS); e > 0; e--) edit(&r, &f);
        write_case(path, &f);
        if (read(path, &f) == LCL_OK) continue;
        failed++;
        if (lcl_error_message()[0] == '\0')
            fail_msg("%s, case %llu: an error without a message", name, (unsigned long long)i);
    }
    print_message("%s: %llu cases, %llu of them refused\n", name, (unsigned long long)(i - begin),
                  (unsigned long long)failed);
    assert_true(failed > 0 && failed < i - begin); /* else it tests nothing */
    remove(path);
    free(f.bytes);
    for (size_t s = 0; s < n_seeds; s++) free(seeds[s].bytes);
}

static struct file whole(const char *path)
{
    struct file f;
    char *text;
    ASSERT_OK(lcl_fs_read(path, MOST_BYTES / 2, &text, &f.size));
    f.bytes = (uint8_t *)text;
    return f;
}

static struct file text(const char *text)
{
    struct file f = {(uint8_t *)strdup(text), strlen(text)};
    assert_non_null(f.bytes);
    return f;
}

/* ---- pictures ---- */

enum { SIDE = 24 };

static void draw(uint8_t *rgb)
{
    for (int i = 0; i < SIDE * SIDE * 3; i++) rgb[i] = (uint8_t)(i * 37 ^ i >> 5);
}

static struct file png_file(void)
{
    char path[300];
    snprintf(path, sizeof path, "%s/seed.png", temp_dir());
    tiny_write_picture(path, 1, 2);
    return whole(path);
}

static struct file jpeg_file(void)
{
    uint8_t rgb[SIDE * SIDE * 3];
    unsigned char *bytes = NULL;
    unsigned long size = 0;
    struct jpeg_compress_struct c;
    struct jpeg_error_mgr errors;
    draw(rgb);
    c.err = jpeg_std_error(&errors);
    jpeg_create_compress(&c);
    jpeg_mem_dest(&c, &bytes, &size);
    c.image_width = c.image_height = SIDE;
    c.input_components = 3;
    c.in_color_space = JCS_RGB;
    jpeg_set_defaults(&c);
    jpeg_start_compress(&c, TRUE);
    while (c.next_scanline < SIDE) {
        JSAMPROW row = rgb + c.next_scanline * SIDE * 3;
        jpeg_write_scanlines(&c, &row, 1);
    }
    jpeg_finish_compress(&c);
    jpeg_destroy_compress(&c);
    return (struct file){bytes, size};
}

static struct file webp_file(void)
{
    uint8_t rgb[SIDE * SIDE * 3], *bytes = NULL;
    draw(rgb);
    size_t size = WebPEncodeLosslessRGB(rgb, SIDE, SIDE, SIDE * 3, &bytes);
    struct file f = {malloc(size), size};
    assert_true(size > 0 && f.bytes);
    memcpy(f.bytes, bytes, size);
    WebPFree(bytes);
    return f;
}

/* Two by two gray pixels as plain codes between a clear and an end. */
static struct file gif_file(void)
{
    static const uint8_t head[] = {'G', 'I', 'F', '8', '9', 'a', 4, 0, 3, 0, 0xf6, 0, 0};
    static const uint8_t frame[] = {',', 1, 0,    1, 0, 2, 0, 2,    0, 0x40,
                                    7,   6, 0x80, 5, 6, 7, 9, 0x81, 0, ';'};
    struct file f = {malloc(600), 0};
    assert_non_null(f.bytes);
    memcpy(f.bytes, head, sizeof head);
    for (size_t i = 0; i < 128; i++) memset(f.bytes + sizeof head + 3 * i, (int)i, 3);
    f.size = sizeof head + 3 * 128;
    memcpy(f.bytes + f.size, frame, sizeof frame);
    f.size += sizeof frame;
    return f;
}

static lcl_status read_picture(const char *path, const struct file *f)
{
    struct lcl_decode_options o = {.keep_alpha = f->size % 2, .apply_exif = true};
    struct lcl_image image;
    (void)path;
    LCL_TRY(lcl_image_decode(f->bytes, f->size, "case", &o, &image));
    lcl_image_free(&image);
    return LCL_OK;
}

static void pictures(void **state)
{
    (void)state;
    struct file seeds[] = {png_file(), jpeg_file(), webp_file(), gif_file()};
    fuzz("picture", seeds, 4, read_picture);
}

/* ---- text formats ---- */

static lcl_status read_config(const char *path, const struct file *f)
{
    static struct lcl_run_config run;
    (void)f;
    return lcl_config_load(path, NULL, 0, &run);
}

static void configs(void **state)
{
    (void)state;
    struct file seeds[] = {
        text(tiny_yaml()),
        text("seed: 3\nlearning_rate: 1e-3\ndata: {strategy: 2-way, shots: 4}\n"
             "stages:\n  - {name: a, max_steps: 5}\n  - name: b\n    max_steps: 9\n"
             "    data:\n      strategy: 2-way-weight\n      background: \"1,2,3\"\n")};
    fuzz("config.yaml", seeds, 2, read_config);
}

static lcl_status read_tokenizer(const char *path, const struct file *f)
{
    struct lcl_tokenizer *t;
    struct lcl_ids ids = {0};
    char *back = NULL;
    (void)f;
    LCL_TRY(lcl_tokenizer_load(path, &t));
    lcl_status status = lcl_tokenizer_encode(t, "there is \"abc\" in it", true, &ids);
    if (status == LCL_OK) status = lcl_tokenizer_decode(t, ids.v, ids.n, false, &back);
    free(back);
    lcl_ids_free(&ids);
    lcl_tokenizer_free(t);
    return status;
}

static void tokenizers(void **state)
{
    (void)state;
    const char *const texts[] = {"there is \"abc\" in it", "a picture of a knight"};
    struct lcl_tokenizer *t;
    char dir[300], path[340];
    snprintf(dir, sizeof dir, "%s/tokenizer", temp_dir());
    snprintf(path, sizeof path, "%s/tokenizer.json", dir);
    ASSERT_OK(lcl_tokenizer_train(texts, 2, 290, &t));
    ASSERT_OK(lcl_fs_mkdirs(dir));
    ASSERT_OK(lcl_tokenizer_save(t, dir));
    lcl_tokenizer_free(t);
    struct file seeds[] = {whole(path)};
    fuzz("tokenizer.json", seeds, 1, read_tokenizer);
}

static void sentencepiece_models(void **state)
{
    (void)state;
    struct torch_bytes bpe = {0}, unigram = {0};
    sp_small(&bpe, SP_BPE, true);
    sp_small(&unigram, SP_UNIGRAM, false);
    struct file seeds[] = {{bpe.v, bpe.n}, {unigram.v, unigram.n}};
    fuzz("tokenizer.model", seeds, 2, read_tokenizer);
}

static lcl_status read_settings(const char *path, const struct file *f)
{
    struct lcl_preprocess p;
    bool found;
    (void)path; /* build/fuzz/preprocessor_config.json */
    (void)f;
    return lcl_preprocess_load("build/fuzz", &p, &found);
}

static void preprocessing(void **state)
{
    (void)state;
    struct file seeds[] = {text(
        "{\"image_processor_type\": \"LlavaImageProcessor\", \"do_pad\": true, \"size\": "
        "{\"shortest_edge\": 32}, \"crop_size\": {\"height\": 32, \"width\": 32}, \"image_mean\": "
        "[0.5, 0.4, 0.3], \"image_std\": 0.25, \"resample\": 3, \"rescale_factor\": 0.0039}")};
    fuzz("preprocessor_config.json", seeds, 1, read_settings);
}

static lcl_status read_metrics(const char *path, const struct file *f)
{
    struct lcl_metrics_table t;
    (void)f;
    LCL_TRY(lcl_metrics_load(path, &t));
    lcl_metrics_table_free(&t);
    return LCL_OK;
}

static void metrics(void **state)
{
    (void)state;
    struct file seeds[] = {text(
        "{\"kind\":\"train\",\"stage\":\"a\",\"step\":1,\"time\":1.5,\"loss\":2.25,\"lr\":null}\n"
        "{\"kind\":\"eval\",\"stage\":\"a\",\"step\":1,\"shots\":2,\"greedy\":0.5}\n"
        "{\"kind\":\"stage\",\"stage\":\"a\",\"step\":1,\"steps\":1,\"seconds\":3}\n")};
    fuzz("metrics.jsonl", seeds, 1, read_metrics);
}

static lcl_status read_model_config(const char *path, const struct file *f)
{
    struct lcl_model_config m;
    char copy[MOST_BYTES / 16];
    size_t n = f->size < sizeof copy - 1 ? f->size : sizeof copy - 1;
    memcpy(copy, f->bytes, n);
    copy[n] = '\0';
    return lcl_model_config_from_json(copy, path, &m);
}

static void model_configs(void **state)
{
    (void)state;
    struct lcl_config c;
    struct lcl_model_config m;
    struct file seeds[2];
    for (int i = 0; i < 2; i++) {
        char *json;
        tiny_config(&c, i ? "mm_projector_type=qformer" : "lora.rank=2");
        lcl_model_config_from(&c, 300, &m);
        ASSERT_OK(lcl_model_config_to_json(&m, &json));
        seeds[i] = (struct file){(uint8_t *)json, strlen(json)};
    }
    fuzz("model-config.json", seeds, 2, read_model_config);
}

/* config.json of a folder, whichever model it is of. */
static lcl_status read_hf_config(const char *path, const struct file *f)
{
    struct lcl_model_config m;
    char dir[200];
    (void)f;
    snprintf(dir, sizeof dir, "%.*s", (int)(lcl_fs_basename(path) - path), path);
    return lcl_hf_config_read(dir, NULL, &m);
}

static void hf_configs(void **state)
{
    (void)state;
    static const char clip[] =
        "{\"model_type\":\"clip\",\"vision_config\":{\"model_type\":\"clip_vision_model\","
        "\"image_size\":16,\"patch_size\":8,\"hidden_size\":12,\"num_attention_heads\":3,"
        "\"num_hidden_layers\":2,\"intermediate_size\":20,\"hidden_act\":\"quick_gelu\"}}";
    struct lcl_config c;
    struct lcl_model_config m;
    char *llava, *llama, *v1, *tower;
    tiny_config(&c, "");
    lcl_model_config_from(&c, 300, &m);
    m.text.rope_scaling = LCL_ROPE_LLAMA3;
    m.text.rope_factor = m.text.rope_low_freq_factor = 2;
    m.text.rope_high_freq_factor = 4;
    m.text.rope_original_positions = 4;
    ASSERT_OK(lcl_hf_config_write(&m, LCL_F32, &llava));
    ASSERT_OK(lcl_hf_text_config_write(&m, LCL_F32, &llama));
    ASSERT_OK(lcl_hf_config_write_v1(&m, LCL_F32, "clip-vit-base-patch32", &v1, &tower));
    struct file seeds[] = {text(llava), text(llama), text(v1), text(tower), text(clip)};
    ASSERT_OK(lcl_fs_mkdirs("build/fuzz/hf"));
    fuzz("hf/config.json", seeds, 5, read_hf_config);
    free(llava);
    free(llama);
    free(v1);
    free(tower);
}

/* ---- weights ---- */

static lcl_status read_safetensors(const char *path, const struct file *f)
{
    struct lcl_safetensors st;
    lcl_status status = LCL_OK;
    float first[4];
    (void)f;
    LCL_TRY(lcl_st_open(path, &st));
    for (size_t i = 0; i < st.n_tensors && status == LCL_OK; i++) {
        const struct lcl_st_tensor *t = &st.tensors[i];
        size_t n = t->count < 4 ? t->count : 4;
        if (t->dtype >= LCL_I64 || n == 0) continue;
        status = lcl_st_read(t, t->count - n, n, LCL_F32, first);
    }
    lcl_st_close(&st);
    return status;
}

static void safetensors(void **state)
{
    (void)state;
    char path[300];
    float data[24];
    fill_normal(data, 24, 1, 3);
    const struct lcl_st_item items[] = {{.name = "a.weight",
                                         .dtype = LCL_F32,
                                         .source = LCL_F32,
                                         .n_dims = 2,
                                         .shape = {4, 6},
                                         .data = data},
                                        {.name = "b",
                                         .dtype = LCL_BF16,
                                         .source = LCL_F32,
                                         .n_dims = 1,
                                         .shape = {8},
                                         .data = data}};
    snprintf(path, sizeof path, "%s/seed.safetensors", temp_dir());
    ASSERT_OK(lcl_st_write(path, items, 2, NULL));
    struct file seeds[] = {whole(path)};
    fuzz("case.safetensors", seeds, 1, read_safetensors);
}

/* The decoder's tables: a tokenizer and a config. */
static lcl_status read_gguf_model(const struct lcl_gguf *g)
{
    struct lcl_tokenizer_tables tables;
    struct lcl_tokenizer *t;
    struct lcl_model_config m;
    struct lcl_ids ids = {0};
    LCL_TRY(lcl_gguf_read_text(g, &m));
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

static lcl_status read_gguf(const char *path, const struct file *f)
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
    if (status == LCL_OK) status = read_gguf_model(&g);
    lcl_gguf_close(&g);
    return status;
}

/* A decoder's metadata and a tokenizer around three tensors. */
static struct file gguf_file(const char *model, int number)
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
    return whole(path);
}

static void gguf(void **state)
{
    (void)state;
    struct file seeds[] = {gguf_file("gpt2", 0), gguf_file("llama", 1)};
    fuzz("case.gguf", seeds, 2, read_gguf);
}

/* A delta of four tensors against a base that is whole. */
static lcl_status read_delta(const char *path, const struct file *f)
{
    struct lcl_delta_counts n;
    (void)f;
    return lcl_delta_apply("build/fuzz/base.safetensors", path, "build/fuzz/sum", 200, &n);
}

static void deltas(void **state)
{
    (void)state;
    float data[40];
    fill_normal(data, 40, 1, 3);
    struct lcl_st_item items[] = {
        {.name = "lm_head.weight", .n_dims = 2, .shape = {5, 6}},
        {.name = "model.embed_tokens.weight", .n_dims = 2, .shape = {5, 6}},
        {.name = "model.norm.weight", .n_dims = 1, .shape = {6}},
        {.name = "model.mm_projector.weight", .n_dims = 2, .shape = {6, 4}}};
    for (int i = 0; i < 4; i++) {
        items[i].dtype = i % 2 ? LCL_F16 : LCL_BF16;
        items[i].source = LCL_F32;
        items[i].data = data;
    }
    ASSERT_OK(lcl_fs_mkdirs("build/fuzz/sum"));
    ASSERT_OK(lcl_st_write("build/fuzz/base.safetensors", items, 3, NULL));
    items[0].shape[0] = items[1].shape[0] = 6; /* an extended vocabulary */
    ASSERT_OK(lcl_st_write("build/fuzz/seed-delta.safetensors", items, 4, NULL));
    struct file seeds[] = {whole("build/fuzz/seed-delta.safetensors")};
    fuzz("delta.safetensors", seeds, 1, read_delta);
    ASSERT_OK(lcl_fs_remove_tree("build/fuzz/sum"));
    ASSERT_OK(lcl_fs_remove_tree("build/fuzz/base.safetensors"));
    ASSERT_OK(lcl_fs_remove_tree("build/fuzz/seed-delta.safetensors"));
}

static struct lcl_model_config adapted;

/* Both files of an adapter, into a model that has the layers that they name. */
static lcl_status read_adapter(const char *path, const struct file *f)
{
    struct lcl_model_config config = adapted;
    struct lcl_model m;
    char dir[200];
    (void)f;
    snprintf(dir, sizeof dir, "%.*s", (int)(lcl_fs_basename(path) - path), path);
    LCL_TRY(lcl_peft_load_config(dir, &config.lora));
    LCL_TRY(lcl_model_create(&m, &config));
    lcl_status status = lcl_model_reserve(&m, false, false, false);
    if (status == LCL_OK) status = lcl_peft_load(dir, &m.params);
    lcl_model_free(&m);
    return status;
}

static void adapters(void **state)
{
    (void)state;
    struct lcl_config c;
    struct lcl_model m;
    test_exec();
    tiny_config(&c, "lora.rank=2");
    lcl_model_config_from(&c, 300, &adapted);
    ASSERT_OK(lcl_model_create(&m, &adapted));
    ASSERT_OK(lcl_model_reserve(&m, false, false, false));
    for (int i = 0; i < 2; i++) { /* a target leaves no file of its own behind */
        ASSERT_OK(lcl_peft_save("build/fuzz/adapter", &m.params, &m.config,
                                &(struct lcl_peft_save_options){.dtype = LCL_F32}));
        struct file seeds[] = {whole(i ? "build/fuzz/adapter/adapter_config.json"
                                       : "build/fuzz/adapter/adapter_model.safetensors")};
        fuzz(i ? "adapter/adapter_config.json" : "adapter/adapter_model.safetensors", seeds, 1,
             read_adapter);
    }
    lcl_model_free(&m);
}

static void torch_files(void **state)
{
    (void)state;
    char path[300];
    float data[24];
    fill_normal(data, 24, 1, 3);
    const struct torch_item items[] = {{"a.weight", "FloatStorage", data, 24, 4, 0, 2, {4, 6}},
                                       {"b", "BFloat16Storage", data, 24, 2, 3, 1, {5}},
                                       {"c", "LongStorage", data, 2, 8, 1, 0, {0}}};
    struct torch_bytes pickle = {0}, file = {0};
    snprintf(path, sizeof path, "%s/seed.bin", temp_dir());
    torch_write(path, items, 2);
    torch_pickle(&pickle, items, 3);
    torch_zip(&file, &pickle, items, 3, 1);
    free(pickle.v);
    struct file seeds[] = {whole(path), {file.v, file.n}};
    fuzz("case.bin", seeds, 2, read_safetensors);
}

/* ---- HDF5 ---- */

/* The library itself leaks where a file's structure is damaged. */
const char *__lsan_default_suppressions(void);
const char *__lsan_default_suppressions(void) { return "leak:libhdf5"; }

static lcl_status read_pack(const char *path, const struct file *f)
{
    struct lcl_pack pack;
    struct lcl_image image;
    struct lcl_decode_options o = {0};
    const char *name;
    (void)f;
    LCL_TRY(lcl_pack_open(path, &pack));
    lcl_status status = lcl_pack_verify(&pack);
    if (status == LCL_OK) status = lcl_pack_image_name(&pack, 0, &name);
    if (status == LCL_OK) status = lcl_pack_read_image(&pack, 0, &o, &image);
    if (status == LCL_OK) lcl_image_free(&image);
    lcl_pack_close(&pack);
    return status;
}

static void packs(void **state)
{
    (void)state;
    struct file seeds[] = {whole(tiny_pack())};
    fuzz("pack.h5", seeds, 1, read_pack);
}

static int quiet(void **state)
{
    (void)state;
    lcl_log_set_level(LCL_LOG_QUIET);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pictures),      cmocka_unit_test(configs),
        cmocka_unit_test(tokenizers),    cmocka_unit_test(metrics),
        cmocka_unit_test(model_configs), cmocka_unit_test(safetensors),
        cmocka_unit_test(hf_configs),    cmocka_unit_test(deltas),
        cmocka_unit_test(adapters),      cmocka_unit_test(packs),
        cmocka_unit_test(torch_files),   cmocka_unit_test(sentencepiece_models),
        cmocka_unit_test(preprocessing), cmocka_unit_test(gguf),
    };
    return cmocka_run_group_tests(tests, quiet, NULL);
}
