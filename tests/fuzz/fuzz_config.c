/* The configs: of a run (YAML), of models and preprocessing (JSON), and a run's metrics. */
#include "tests/fuzz/fuzz.h"

#include "checkpoint/hf_config.h"
#include "core/config.h"
#include "core/fs.h"
#include "data/image.h"
#include "model/model.h"
#include "tests/support/tiny.h"
#include "train/metrics.h"
#include "train/sweep.h"

static lcl_status read_run(const char *path, const struct fuzz_file *f)
{
    static struct lcl_run_config run;
    (void)f;
    return lcl_config_load(path, NULL, 0, &run);
}

static size_t run_seeds(struct fuzz_file *seeds)
{
    seeds[0] = fuzz_text(tiny_yaml());
    seeds[1] = fuzz_text("seed: 3\nlearning_rate: 1e-3\ndata: {strategy: 2-way, shots: 4}\n"
                         "stages:\n  - {name: a, max_steps: 5}\n  - name: b\n    max_steps: 9\n"
                         "    data:\n      strategy: 2-way-weight\n      background: \"1,2,3\"\n");
    return 2;
}

/* No config that a case names is there, so reading ends at the first; placeholders are filled in.
 */
static lcl_status read_sweep(const char *path, const struct fuzz_file *f)
{
    struct lcl_sweep *s;
    struct lcl_sweep_unit *units;
    int n;
    (void)f;
    LCL_TRY(lcl_sweep_load(path, &s));
    lcl_status status = lcl_sweep_units(s, &units, &n);
    if (status == LCL_OK) lcl_sweep_units_free(s, units, n);
    lcl_sweep_free(s);
    return status;
}

static size_t sweep_seeds(struct fuzz_file *seeds)
{
    seeds[0] = fuzz_text("output_dir: o\nseeds: [1, 2]\nset: {max_steps: 2, data: {shots: 4}}\n"
                         "runs:\n  a: {model: x, seeds: [1], eval: {lcl: {}}}\n"
                         "  b: {model: \"{a}/{seed}\", set: {init_from: \"{output_dir}\"},\n"
                         "      eval: {lcl: {}, f: {eval.shots: [2, 4]}}}\n"
                         "figures:\n  - {title: t, runs: [a, b], paper: {p: {2: 0.5}}}\n"
                         "  - {title: u, axis: x, note: n, shots: 2, points: {0: lcl, 1: f}, "
                         "runs: [b]}\n");
    return 1;
}

static void tiny_model(struct lcl_model_config *m, const char *overrides)
{
    struct lcl_config c;
    tiny_config(&c, overrides);
    lcl_model_config_from(&c, 300, m);
}

/* Rows without memory for their values. */
static lcl_status make_table(const struct lcl_model_config *config)
{
    struct lcl_model m;
    if (config->text.n_layers > 4 || config->vision.n_layers > 4) return LCL_OK; /* slow */
    LCL_TRY(lcl_model_create(&m, config));
    lcl_model_free(&m);
    return LCL_OK;
}

static lcl_status read_model(const char *path, const struct fuzz_file *f)
{
    struct lcl_model_config m;
    char *copy = strndup((const char *)f->bytes, f->size);
    assert_non_null(copy);
    lcl_status status = lcl_model_config_from_json(copy, path, &m);
    free(copy);
    return status == LCL_OK ? make_table(&m) : status;
}

static size_t model_seeds(struct fuzz_file *seeds)
{
    static const char *const models[] = {"lora.rank=2", "mm_projector_type=qformer"};
    for (size_t i = 0; i < 2; i++) {
        struct lcl_model_config m;
        char *json;
        tiny_model(&m, models[i]);
        ASSERT_OK(lcl_model_config_to_json(&m, &json));
        seeds[i] = (struct fuzz_file){(uint8_t *)json, strlen(json)};
    }
    return 2;
}

static lcl_status read_hf(const char *path, const struct fuzz_file *f)
{
    struct lcl_model_config m;
    char *tower = NULL;
    (void)path;
    (void)f;
    LCL_TRY(lcl_hf_tower_folder(fuzz_dir(), &tower));
    free(tower);
    LCL_TRY(lcl_hf_config_read(fuzz_dir(), NULL, &m));
    return make_table(&m);
}

/* As we write it, a decoder alone, hub LLaVA-1.5's, which leaves most keys out, and a CLIP
 * folder's. */
static size_t hf_seeds(struct fuzz_file *seeds)
{
    struct lcl_model_config m;
    char *text[2];
    tiny_model(&m, "");
    ASSERT_OK(lcl_hf_config_write(&m, LCL_F32, &text[0]));
    ASSERT_OK(lcl_hf_text_config_write(&m, LCL_F32, &text[1]));
    for (int i = 0; i < 2; i++) seeds[i] = (struct fuzz_file){(uint8_t *)text[i], strlen(text[i])};
    seeds[2] = fuzz_text(
        "{\"model_type\":\"llava\",\"image_token_index\":32000,\"pad_token_id\":32001,"
        "\"projector_hidden_act\":\"gelu\",\"text_config\":{\"architectures\":[\"LlamaForCausalLM"
        "\"],\"max_position_embeddings\":4096,\"model_type\":\"llama\",\"rms_norm_eps\":1e-05,"
        "\"vocab_size\":32064,\"rope_scaling\":{\"rope_type\":\"llama3\",\"factor\":8.0,"
        "\"low_freq_factor\":1.0,\"high_freq_factor\":4.0,"
        "\"original_max_position_embeddings\":8192}},\"vision_config\":{\"hidden_size\":1024,"
        "\"image_size\":336,\"intermediate_size\":4096,\"model_type\":\"clip_vision_model\","
        "\"num_attention_heads\":16,\"num_hidden_layers\":24,\"patch_size\":14,"
        "\"projection_dim\":768},\"vision_feature_layer\":-2,"
        "\"vision_feature_select_strategy\":\"default\"}");
    seeds[3] = fuzz_text(
        "{\"model_type\":\"clip\",\"vision_config\":{\"model_type\":\"clip_vision_model\","
        "\"image_size\":16,\"patch_size\":8,\"hidden_size\":12,\"num_attention_heads\":3,"
        "\"num_hidden_layers\":2,\"intermediate_size\":20,\"hidden_act\":\"quick_gelu\"}}");
    return 4;
}

static lcl_status read_preprocessor(const char *path, const struct fuzz_file *f)
{
    struct lcl_preprocess p;
    bool found;
    (void)path;
    (void)f;
    return lcl_preprocess_load(fuzz_dir(), &p, &found);
}

static size_t preprocessor_seeds(struct fuzz_file *seeds)
{
    seeds[0] = fuzz_text(
        "{\"image_processor_type\": \"LlavaImageProcessor\", \"do_pad\": true, \"size\": "
        "{\"shortest_edge\": 32}, \"crop_size\": {\"height\": 32, \"width\": 32}, \"image_mean\": "
        "[0.5, 0.4, 0.3], \"image_std\": 0.25, \"resample\": 3, \"rescale_factor\": 0.0039}");
    return 1;
}

static lcl_status read_metrics(const char *path, const struct fuzz_file *f)
{
    struct lcl_metrics_table t;
    (void)f;
    LCL_TRY(lcl_metrics_load(path, &t));
    lcl_metrics_table_free(&t);
    return LCL_OK;
}

static size_t metrics_seeds(struct fuzz_file *seeds)
{
    seeds[0] = fuzz_text(
        "{\"kind\":\"train\",\"stage\":\"a\",\"step\":1,\"time\":1.5,\"loss\":2.25,\"lr\":null}\n"
        "{\"kind\":\"eval\",\"stage\":\"a\",\"step\":1,\"shots\":2,\"greedy\":0.5}\n"
        "{\"kind\":\"stage\",\"stage\":\"a\",\"step\":1,\"steps\":1,\"seconds\":3}\n");
    return 1;
}

static const char *const yaml_words[] = {
    "stages:", "  - ",  "<<: ", "&a ",  "*a",     "!!str ", "!!binary ", "---\n", "...\n",
    "? ",      "|\n",   ">-\n", "%TAG", "data:",  "text:",  "vision:",   "lora:", "seed:",
    "name:",   "eval:", "1e-3", ".nan", ".inf",   "0x1f",   "1_000",     "true",  "null",
    "{",       "}",     "[",    "]",    "&a [*a", "\t",     "# ",        "'",     NULL};
static const char *const hf_words[] = {"\"text_config\"",
                                       "\"vision_config\"",
                                       "\"model_type\"",
                                       "\"llava\"",
                                       "\"llava_llama\"",
                                       "\"llama\"",
                                       "\"clip\"",
                                       "\"clip_vision_model\"",
                                       "\"architectures\"",
                                       "\"LlamaForCausalLM\"",
                                       "\"hidden_size\"",
                                       "\"head_dim\"",
                                       "\"num_attention_heads\"",
                                       "\"num_key_value_heads\"",
                                       "\"rope_scaling\"",
                                       "\"rope_parameters\"",
                                       "\"rope_type\"",
                                       "\"linear\"",
                                       "\"factor\"",
                                       "\"vision_feature_layer\"",
                                       "\"mm_vision_tower\"",
                                       "\"mm_projector_type\"",
                                       "\"mm_hidden_size\"",
                                       "\"mlp2x_gelu\"",
                                       "\"tie_word_embeddings\"",
                                       "\"eos_token_id\"",
                                       "2147483648",
                                       "-1",
                                       "1e308",
                                       "null",
                                       "[]",
                                       "{}",
                                       NULL};

const struct fuzz_target fuzz_config = {.name = "config",
                                        .file = "config.yaml",
                                        .seeds = run_seeds,
                                        .read = read_run,
                                        .words = yaml_words};
const struct fuzz_target fuzz_hf_config = {.name = "hf_config",
                                           .file = "config.json",
                                           .seeds = hf_seeds,
                                           .read = read_hf,
                                           .words = hf_words};
const struct fuzz_target fuzz_model_config = {.name = "model_config",
                                              .file = "",
                                              .seeds = model_seeds,
                                              .read = read_model,
                                              .words = fuzz_json_words};
const struct fuzz_target fuzz_preprocessor = {.name = "preprocessor",
                                              .file = "preprocessor_config.json",
                                              .seeds = preprocessor_seeds,
                                              .read = read_preprocessor,
                                              .words = fuzz_json_words};
const struct fuzz_target fuzz_sweep = {.name = "sweep",
                                       .file = "sweep.yaml",
                                       .seeds = sweep_seeds,
                                       .read = read_sweep,
                                       .words = yaml_words};
const struct fuzz_target fuzz_metrics = {.name = "metrics",
                                         .file = "metrics.jsonl",
                                         .seeds = metrics_seeds,
                                         .read = read_metrics,
                                         .words = fuzz_json_words};
