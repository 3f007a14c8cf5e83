/* What no single key of a config can tell: keys that contradict each other. */
#include <string.h>

#include "core/config.h"
#include "core/ops.h"

#define CHECK(ok, hint, ...)                                              \
    do {                                                                  \
        if (!(ok)) return LCL_FAIL_HINT(LCL_CONFIG, (hint), __VA_ARGS__); \
    } while (0)
#define LL(x) ((long long)(x))

enum { SELECT_PATCH }; /* first word of mm_vision_select_feature */

static lcl_status check_vision(const struct lcl_config *c)
{
    int64_t side = c->vision_image_size / c->vision_patch_size;
    int64_t layers = c->vision_num_hidden_layers, select = c->mm_vision_select_layer;
    CHECK(c->vision_image_size % c->vision_patch_size == 0, "224 and 14 are CLIP's",
          "vision.image_size %lld is not a multiple of vision.patch_size %lld",
          LL(c->vision_image_size), LL(c->vision_patch_size));
    CHECK(c->vision_hidden_size % c->vision_num_attention_heads == 0,
          "heads share the width evenly",
          "vision.hidden_size %lld is not a multiple of vision.num_attention_heads %lld",
          LL(c->vision_hidden_size), LL(c->vision_num_attention_heads));
    CHECK(select <= layers && select >= -layers - 1, "-2 is the layer before the last",
          "mm_vision_select_layer %lld: a tower of %lld layers has %lld..%lld", LL(select),
          LL(layers), LL(-layers - 1), LL(layers));
    CHECK(c->mm_image_pool != LCL_POOL_2X2 || side % 2 == 0, "mean gives one token a picture",
          "mm_image_pool: 2x2 needs an even number of patches a side; here there are %lld",
          LL(side));
    CHECK(c->mm_image_pool == LCL_POOL_NONE || c->mm_vision_select_feature == SELECT_PATCH,
          "mm_vision_select_feature: patch",
          "mm_image_pool pools patches, without the class token");
    return LCL_OK;
}

static lcl_status check_text(const struct lcl_config *c)
{
    int64_t heads = c->text_num_attention_heads, kv = c->text_num_key_value_heads;
    CHECK(c->text_hidden_size % heads == 0, "heads share the width evenly",
          "text.hidden_size %lld is not a multiple of text.num_attention_heads %lld",
          LL(c->text_hidden_size), LL(heads));
    CHECK(c->text_hidden_size / heads % 2 == 0, "rotary embeddings turn pairs of values",
          "the width of a head, text.hidden_size / text.num_attention_heads = %lld, is odd",
          LL(c->text_hidden_size / heads));
    CHECK(kv == 0 || (kv <= heads && heads % kv == 0), "0: as many as query heads",
          "text.num_attention_heads %lld is not a multiple of text.num_key_value_heads %lld",
          LL(heads), LL(kv));
    return LCL_OK;
}

static lcl_status check_training(const struct lcl_config *c)
{
    CHECK(c->adam_beta1 < 1 && c->adam_beta2 < 1, "0.9 and 0.999 are usual",
          "adam_beta1 %g and adam_beta2 %g must be below 1", c->adam_beta1, c->adam_beta2);
    CHECK(c->attention == LCL_ATTENTION_MMA || (c->device == LCL_DEVICE_CUDA && c->bf16),
          "set attention: mma", "attention: wgmma is for device: cuda with bf16: true");
    CHECK(c->master_weights == LCL_MASTER_F32 || c->bf16, "set bf16: true, or master_weights: f32",
          "master_weights: none leaves bfloat16 values alone, but bf16 is false");
    CHECK(c->adam_epsilon > 0, "1e-8 is usual", "adam_epsilon must be above 0");
    CHECK(c->lora_rank == 0 || c->lora_alpha > 0, "the rank, or twice the rank, is usual",
          "lora.alpha must be above 0");
    CHECK(c->lora_base == LCL_BASE_PLAIN || c->lora_rank > 0 || c->lora_adapter[0],
          "set lora.rank, or lora.base: plain",
          "lora.base keeps the base in blocks, which do not train, and there are no adapters");
    CHECK(c->lora_base == LCL_BASE_PLAIN || c->task == LCL_TASK_LINK_CONTEXT,
          "make the base in a run of its own, and begin with it: init_from",
          "lora.base keeps the base in blocks, which do not train; task: vision and language do");
    CHECK(c->language_min_segment <= c->language_max_segment, "6 and 32 go with a length of 64",
          "language.min_segment %lld is above language.max_segment %lld",
          LL(c->language_min_segment), LL(c->language_max_segment));
    CHECK(c->language_recall_ways <= c->language_recall_shots, "each of them comes once or more",
          "language.recall_ways %lld is above language.recall_shots %lld",
          LL(c->language_recall_ways), LL(c->language_recall_shots));
    CHECK(c->task != LCL_TASK_LANGUAGE || c->language_max_segment < c->language_length,
          "a segment must be shorter than the sequence that repeats it",
          "language.max_segment %lld is not below language.length %lld",
          LL(c->language_max_segment), LL(c->language_length));
    return LCL_OK;
}

const char *lcl_config_source(const struct lcl_config *c)
{
    return c->data_table[0] ? c->data_table : c->data_pack;
}

int64_t lcl_config_most_shots(const struct lcl_config *c)
{
    int64_t ways = c->data_strategy == LCL_NWAY ? c->data_ways : 2;
    if (c->data_shots_per_class) return c->data_shots_per_class * ways;
    return c->data_reading == LCL_READING_OFFICIAL ? c->data_shots * ways : c->data_shots;
}

static lcl_status check_data(const struct lcl_config *c)
{
    bool draws_shots = c->data_strategy == LCL_2WAY_RANDOM || c->data_strategy == LCL_2WAY_WEIGHT;
    int64_t ways = c->data_strategy == LCL_NWAY ? c->data_ways : 2;
    int64_t shots = lcl_config_most_shots(c);
    draws_shots = draws_shots && c->data_reading == LCL_READING_PAPER;
    CHECK(!draws_shots || c->data_min_shots <= shots, "the draw goes from min_shots to shots",
          "data.min_shots %lld is above the %lld support pictures of data.shots",
          LL(c->data_min_shots), LL(shots));
    CHECK(c->data_strategy != LCL_NWAY || shots >= ways, "each class is shown at least once",
          "data.shots %lld is below data.ways %lld", LL(shots), LL(ways));
    bool no_labels = c->data_strategy == LCL_REF || c->data_strategy == LCL_JIGSAW;
    CHECK(!no_labels || (c->data_false_rate == 0 && c->data_false_position == 0),
          "they are for labels of classes: 2-way and its like",
          "data.false_rate and data.false_position change labels; this data.strategy has none");
    CHECK(!no_labels || c->data_zero_shot_fraction == 0, "2-way and its like can do without",
          "data.zero_shot_fraction: this data.strategy asks for its support set");
    int64_t batch = c->lanes * c->gradient_accumulation_steps * c->per_device_train_batch_size;
    CHECK(c->data_strategy != LCL_MIX || c->data_sources[0], "PATH=WEIGHT of packs of rows",
          "data.strategy: mix needs data.sources");
    bool halves = c->data_strategy == LCL_MIX && c->data_reading == LCL_READING_PAPER;
    CHECK(!halves || batch % 2 == 0, "make the batch even",
          "data.strategy: mix halves a batch, but lanes x gradient_accumulation_steps x "
          "per_device_train_batch_size is %lld",
          LL(batch));
    CHECK(c->data_min_turns <= c->data_turns, "the draw goes from min_turns to turns",
          "data.min_turns %lld is above data.turns %lld", LL(c->data_min_turns), LL(c->data_turns));
    CHECK(c->data_label_min_letters <= c->data_label_max_letters, "the paper draws 1 to 10 letters",
          "data.label_min_letters %lld is above data.label_max_letters %lld",
          LL(c->data_label_min_letters), LL(c->data_label_max_letters));
    CHECK(c->data_layout != LCL_LAYOUT_OFFICIAL || c->data_template[0],
          "lcl import templates --from CLONE makes the file",
          "data.layout: official has its words in a file, data.template");
    bool own = strcmp(c->data_images, "pack") == 0, none = strcmp(c->data_images, "none") == 0;
    CHECK(!own || !c->data_table[0], "the folder that its paths begin in, or none",
          "data.table %.200s needs data.images", c->data_table);
    CHECK(own || none || c->data_table[0], "pack, or none; a folder goes with data.table",
          "data.images \"%.200s\" is a folder, and there is no data.table", c->data_images);
    bool swap[2] = {c->data_positive_label == LCL_LABEL_SWAPPED,
                    c->data_negative_label == LCL_LABEL_SWAPPED};
    CHECK(swap[0] == swap[1], "swap both, or none",
          "data.positive_label and data.negative_label: only one is swapped, so both are one name");
    CHECK(c->data_false_rate == 0 || c->data_false_position == 0, "set one of them",
          "data.false_rate and data.false_position are both set");
    CHECK(c->eval_false_rate == 0 || c->eval_false_position == 0, "set one of them",
          "eval.false_rate and eval.false_position are both set");
    int rgb[3], end = 0;
    bool colour =
        sscanf(c->data_background, "%3d,%3d,%3d%n", &rgb[0], &rgb[1], &rgb[2], &end) == 3 &&
        !c->data_background[end];
    for (int i = 0; i < 3 && colour; i++) colour = rgb[i] >= 0 && rgb[i] <= 255;
    CHECK(colour, "for example 128,128,128",
          "data.background \"%.40s\" is not R,G,B of 0..255 each", c->data_background);
    return LCL_OK;
}

static lcl_status check_init_parts(const struct lcl_config *c)
{
    static const char *const parts[] = {"vision", "projector", "text"};
    char copy[LCL_CONFIG_STR_BYTES], *rest = NULL;
    if (!strcmp(c->init_parts, "all")) return LCL_OK;
    snprintf(copy, sizeof copy, "%s", c->init_parts);
    int n = 0;
    for (char *p = strtok_r(copy, ", ", &rest); p; p = strtok_r(NULL, ", ", &rest), n++) {
        bool known = false;
        for (int i = 0; i < 3; i++) known |= !strcmp(p, parts[i]);
        CHECK(known, "all, or some of vision,projector,text",
              "init_parts: there is no part \"%.40s\"", p);
    }
    CHECK(n, "all, or some of vision,projector,text", "init_parts is empty");
    return LCL_OK;
}

lcl_status lcl_config_check(const struct lcl_config *c)
{
    LCL_TRY(check_vision(c));
    LCL_TRY(check_text(c));
    LCL_TRY(check_training(c));
    LCL_TRY(check_data(c));
    return check_init_parts(c);
}
