/* Run configs: YAML files with `base:` inheritance and stages, `--set key=value`, one schema
 * (core/config_keys.h). */
#ifndef LCL_CORE_CONFIG_H
#define LCL_CORE_CONFIG_H

#include <stdio.h>

#include "core/config_keys.h"
#include "core/status.h"

enum { LCL_CONFIG_STR_BYTES = 512, LCL_CONFIG_MAX_LIST = 32, LCL_CONFIG_MAX_STAGES = 16 };

struct lcl_int_list {
    int n;
    int64_t v[LCL_CONFIG_MAX_LIST];
};

struct lcl_config {
    char stage_name[64]; /* "" outside a stage */
    /* No keys: data.resize, data.background were given, and win over what a model's folder says. */
    bool resize_given, background_given;
#define S(title, doc)
#define K(kind, key, field, default_, low, high, doc) LCL_CONFIG_FIELD_##kind(field)
#define E(key, field, default_, words, doc) int field;
#define L(key, field, default_, low, high, doc) struct lcl_int_list field;
#define LCL_CONFIG_FIELD_INT(field) int64_t field;
#define LCL_CONFIG_FIELD_FLOAT(field) double field;
#define LCL_CONFIG_FIELD_BOOL(field) bool field;
#define LCL_CONFIG_FIELD_STR(field) char field[LCL_CONFIG_STR_BYTES];
    LCL_CONFIG_SECTIONS(S, K, E, L)
#undef S
#undef K
#undef E
#undef L
};

/* Indices of the words of the E keys, in their order in the schema. */
enum lcl_device { LCL_DEVICE_CPU, LCL_DEVICE_CUDA };
enum lcl_attention { LCL_ATTENTION_MMA, LCL_ATTENTION_WGMMA };
enum lcl_task { LCL_TASK_LINK_CONTEXT, LCL_TASK_VISION, LCL_TASK_LANGUAGE };
enum lcl_balance { LCL_BALANCE_NONE, LCL_BALANCE_TOKENS };
enum lcl_master { LCL_MASTER_F32, LCL_MASTER_NONE };
enum lcl_lora_base { LCL_BASE_PLAIN, LCL_BASE_Q8_0, LCL_BASE_Q4_0 };
enum lcl_scheduler { LCL_LR_COSINE, LCL_LR_LINEAR, LCL_LR_CONSTANT, LCL_LR_WSD };
enum lcl_strategy {
    LCL_2WAY,
    LCL_2WAY_RANDOM,
    LCL_2WAY_WEIGHT,
    LCL_NWAY,
    LCL_MIX,
    LCL_REF,
    LCL_REF_OR_WEIGHT,
    LCL_JIGSAW,
    LCL_ANY_SHOT
};
enum lcl_coherence { LCL_COHERENT_CONCEPT, LCL_COHERENT_TASK, LCL_COHERENT_NONE };
enum lcl_reading { LCL_READING_PAPER, LCL_READING_OFFICIAL };
enum lcl_label_kind { LCL_LABEL_MADE_UP, LCL_LABEL_NAME, LCL_LABEL_SWAPPED, LCL_LABEL_NUMBER };
enum lcl_supervise { LCL_SUPERVISE_LAST, LCL_SUPERVISE_REPEATS, LCL_SUPERVISE_ALL };
enum lcl_layout {
    LCL_LAYOUT_PLAIN,
    LCL_LAYOUT_VICUNA,
    LCL_LAYOUT_TERSE,
    LCL_LAYOUT_LLAMA_2,
    LCL_LAYOUT_LLAMA_3,
    LCL_LAYOUT_CHATML,
    LCL_LAYOUT_OFFICIAL
};
enum lcl_chat {
    LCL_CHAT_AUTO,
    LCL_CHAT_PLAIN,
    LCL_CHAT_VICUNA,
    LCL_CHAT_LLAMA_2,
    LCL_CHAT_LLAMA_3,
    LCL_CHAT_CHATML
};
enum lcl_checkpointing { LCL_CHECKPOINT_NONE, LCL_CHECKPOINT_MLP, LCL_CHECKPOINT_LAYERS };
enum lcl_mixing { LCL_MIXING_DRAW, LCL_MIXING_EVEN, LCL_MIXING_EXHAUST };
enum lcl_too_long { LCL_LONG_REFUSE, LCL_LONG_DROP, LCL_LONG_SHORTEN };
enum lcl_negatives { LCL_NEG_HARDEST, LCL_NEG_TABLE, LCL_NEG_RANDOM };
enum lcl_split { LCL_SPLIT_TRAIN, LCL_SPLIT_TEST };

/* A file resolved: the stages in order (one when the file has none), each with every key set. */
struct lcl_run_config {
    char path[LCL_CONFIG_STR_BYTES];
    int n_stages;
    struct lcl_config stages[LCL_CONFIG_MAX_STAGES];
};

void lcl_config_defaults(struct lcl_config *c);
/* A file is a map of keys; dotted keys may be nested maps. Besides the schema's keys it may hold
 *   base: other.yaml   read first; relative to this file's folder; at most 8 deep, no cycles
 *   stages: [...]      a list of maps, each with `name:` and overrides of any keys; it replaces
 *                      the base's list
 *   stages: {...}      a map from names of the base's stages to overrides of their keys
 * What stands outside `stages` holds for all stages, unless a stage says otherwise. Paths in it are
 * relative to the working folder. Aliases, repeated keys and files over 1 MiB are errors.
 *
 * overrides: n strings (from --set), applied after the file in their order: "key=value" for all
 * stages, or "NAME:key=value" for the stage NAME. The result has passed lcl_config_check.
 * LCL_CONFIG and LCL_RANGE errors name file, line, key and the nearest known key. */
LCL_CHECKED lcl_status lcl_config_load(const char *path, const char *const *overrides, int n,
                                       struct lcl_run_config *out);
/* One assignment; `where` ("file.yaml:12", "--set") goes in messages. */
LCL_CHECKED lcl_status lcl_config_set(struct lcl_config *c, const char *key, const char *value,
                                      const char *where);
/* What no single key can tell: widths divide by heads, min_shots <= shots, and so on. */
LCL_CHECKED lcl_status lcl_config_check(const struct lcl_config *c);
/* The file that classes and pictures come from, "" where none is named; its caches lie beside it.
 */
const char *lcl_config_source(const struct lcl_config *c);
/* Support pictures of the largest training episode, in all. */
int64_t lcl_config_most_shots(const struct lcl_config *c);
/* The resolved config as YAML that loads to the same (keys that differ from the default first, all
 * of them). */
LCL_CHECKED lcl_status lcl_config_write_yaml(const struct lcl_run_config *c, FILE *out);
/* docs/config.md, from the schema. */
LCL_CHECKED lcl_status lcl_config_write_markdown(FILE *out);
/* `lcl train --help`'s table of keys. */
void lcl_config_write_help(FILE *out);

/* Nearest of n words to `word` by edit distance, or NULL when none is near: for "did you mean". */
const char *lcl_nearest_word(const char *word, const char *const *words, int n);

#endif
