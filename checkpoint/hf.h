/* HF LLaVA folders: loaded into a parameter table, and saved from one.
 *
 * On-disk spellings that map to the table's names (those of transformers 5 on disk):
 *   language_model.model.*  <- model.language_model.*, model.* (LLaVA v1)
 *   language_model.lm_head.weight  <- lm_head.weight
 *   vision_tower.*  <- vision_tower.vision_model.*, model.vision_tower.*,
 *                      model.vision_tower.vision_tower.vision_model.* (LLaVA v1), [vision_model.]*
 *                      of a CLIP folder
 *   multi_modal_projector.linear_1.*  <- model.multi_modal_projector.linear_1.*,
 *       multi_modal_projector.weight, [model.]mm_projector.weight, [model.]mm_projector.0.weight
 *   multi_modal_projector.linear_2.*  <- the same with linear_2, .2 */
#ifndef LCL_CHECKPOINT_HF_H
#define LCL_CHECKPOINT_HF_H

#include "checkpoint/hf_config.h"
#include "core/param.h"

enum { LCL_ALL_PARTS = (1u << LCL_PART_COUNT) - 1u };

/* The table's name of an on-disk spelling. LCL_RANGE when it is too long for the table. */
LCL_CHECKED lcl_status lcl_hf_table_name(const char *on_disk, char name[LCL_PARAM_NAME_BYTES]);
/* A buffer of old checkpoints that models compute themselves (position_ids, inv_freq). */
bool lcl_hf_is_buffer(const char *on_disk);
/* The tensor whose table name is `name`, NULL when there is none. */
const struct lcl_st_tensor *lcl_hf_find(const struct lcl_safetensors *st, const char *name);

/* name[i]: what row i of the table is called on disk, so that gradients can be written as
 * grad.NAME. */
struct lcl_hf_names {
    int n_rows;
    char (*name)[LCL_PARAM_NAME_BYTES]; /* owned; "" for a row that the folder does not hold */
};
void lcl_hf_names_free(struct lcl_hf_names *names);

/* True where dir holds a config.json (and so is taken for an HF folder, not for a run). */
bool lcl_hf_is_folder(const char *dir);
/* True where its config.json is that of a LlamaForCausalLM: a decoder without a tower. */
bool lcl_hf_is_text_folder(const char *dir);
/* True where it is that of a CLIPModel or CLIPVisionModel: a tower without a decoder. */
bool lcl_hf_is_tower_folder(const char *dir);
/* The parts (bits 1 << enum lcl_part) that a folder of its kind holds. */
unsigned lcl_hf_parts(const char *dir);
/* The vision tower's folder in place of what mm_vision_tower names, for every folder of the
 * original LLaVA layout that is read from now on (LLaVA's own configs name a model of a hub). The
 * text is kept by the caller; NULL: as config.json says. Set before threads read. */
void lcl_hf_use_tower(const char *dir);
/* The folder's weights. Where they hold no vision tower and config.json's mm_vision_tower names a
 * folder (in this one, or a path), the vision tower of that one too: the original LLaVA layout. */
LCL_CHECKED lcl_status lcl_hf_open(const char *dir, struct lcl_safetensors *st);
/* The model that the folder describes. */
LCL_CHECKED lcl_status lcl_hf_load_config(const char *dir, struct lcl_model_config *m);
/* Fills the values of the rows whose part is in `parts` (bits 1 << enum lcl_part) from f32, f16 or
 * bf16 tensors; other rows stay as they are. LCL_SHAPE / LCL_NOT_FOUND listing every tensor that is
 * missing, misshapen, of a type that is not floating, or left over of these parts; then nothing was
 * written. image_standardize.* become 0 and 1 and the warm-up's classifier is left alone: no
 * HF folder has them. names may be NULL. */
LCL_CHECKED lcl_status lcl_hf_load(const char *dir, struct lcl_params *t, unsigned parts,
                                   struct lcl_hf_names *names);

/* The tensor of each row of `parts`, of the open weights `st` that `config` describes: *of_row
 * [n_rows] malloc'd, NULL where a row has none. Fails as lcl_hf_load does; `where` names the
 * weights in messages. */
LCL_CHECKED lcl_status lcl_hf_match(const char *where, const struct lcl_safetensors *st,
                                    const struct lcl_model_config *config,
                                    const struct lcl_params *t, unsigned parts,
                                    const struct lcl_st_tensor ***of_row);
/* The same of a projector by itself: mm_projector.bin, as LLaVA's first stage saves it. All it
 * holds must be the projector of the model's kind. */
LCL_CHECKED lcl_status lcl_hf_match_projector(const char *file, const struct lcl_safetensors *st,
                                              const struct lcl_params *t,
                                              const struct lcl_st_tensor ***of_row);
/* A CLIPModel whole: its table, and values from the folder's weights (text_model.*,
 * visual_projection, text_projection beside the tower). The caller frees it by lcl_clip_free.
 * Fails as lcl_hf_load does. */
LCL_CHECKED lcl_status lcl_hf_clip_load(const char *dir, bool bf16, struct lcl_clip *m);
/* Fills the projector's rows from such a file. */
LCL_CHECKED lcl_status lcl_hf_load_projector(const char *file, struct lcl_params *t);

struct lcl_hf_save_options {
    lcl_dtype dtype;                   /* LCL_F32, LCL_BF16 or LCL_F16 */
    size_t max_shard_bytes;            /* 0: 5 GB, as transformers */
    float image_mean[3], image_std[3]; /* all 0: CLIP's */
    bool pad_to_square;                /* data.resize: pad */
    uint8_t background[3];             /* behind the padding */
    bool llava_v1; /* the original LLaVA layout: names of its own, the tower in DIR/vision_tower */
};
/* Writes config.json, generation_config.json, preprocessor_config.json and the weights, which
 * transformers' LlavaForConditionalGeneration loads; tokenizer files are the caller's. A
 * standardisation of the features is folded into linear_1 (and adds a bias to it); a linear
 * projector is written as linear_1 and an identity linear_2 with projector_hidden_act "linear"; the
 * warm-up's classifier is left out. LCL_UNSUPPORTED for pooled models. options NULL: f32, CLIP's.
 */
LCL_CHECKED lcl_status lcl_hf_save(const char *dir, const struct lcl_params *t,
                                   const struct lcl_model_config *m,
                                   const struct lcl_hf_save_options *options);
/* The files beside the weights alone. */
LCL_CHECKED lcl_status lcl_hf_save_settings(const char *dir, const struct lcl_model_config *m,
                                            const struct lcl_hf_save_options *o);

#endif
