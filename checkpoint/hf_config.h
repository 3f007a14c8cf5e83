/* config.json of LLaVA folders, read and written. */
#ifndef LCL_CHECKPOINT_HF_CONFIG_H
#define LCL_CHECKPOINT_HF_CONFIG_H

#include "checkpoint/safetensors.h"
#include "model/clip.h"

enum { LCL_HF_CONFIG_BYTES = 4 << 20 }; /* larger ones are refused */

/* Reads dir/config.json (HF LlavaForConditionalGeneration with old or new key names, or the
 * original LLaVA-v1 layout), or of a LlamaForCausalLM, whose tower is then the least there can be
 * (lcl_model_config_text_only), or of a CLIPModel or CLIPVisionModel (..._vision_only). What it
 * leaves out is as in transformers' LlavaConfig, CLIPVisionConfig and LlamaConfig; special tokens
 * that it leaves out come from generation_config.json. `st`, the folder's open weights, tells the
 * projector's kind; NULL: the kind that the config names. LCL_UNSUPPORTED for what the model cannot
 * compute, naming the key. */
LCL_CHECKED lcl_status lcl_hf_config_read(const char *dir, const struct lcl_safetensors *st,
                                          struct lcl_model_config *m);
/* Of a CLIPModel, with its text tower and projections. LCL_UNSUPPORTED for other models. */
LCL_CHECKED lcl_status lcl_hf_clip_config(const char *dir, struct lcl_clip_config *c);
/* The folder of mm_vision_tower of dir/config.json, where it is one: below dir, absolute, or from
 * the working folder. *tower malloc'd, NULL where it is none or is not named. */
LCL_CHECKED lcl_status lcl_hf_tower_folder(const char *dir, char **tower);
/* config.json text of the model as transformers 5 and 4 read it; malloc'd. dtype: of the weights
 * beside it. LCL_UNSUPPORTED for pooled models, which have no HF form. */
LCL_CHECKED lcl_status lcl_hf_config_write(const struct lcl_model_config *m, lcl_dtype dtype,
                                           char **text);

/* config.json text of the decoder alone, as LlamaForCausalLM. */
LCL_CHECKED lcl_status lcl_hf_text_config_write(const struct lcl_model_config *m, lcl_dtype dtype,
                                                char **text);
/* The same as the original LLaVA has it: *text for config.json, the tower named `tower` below the
 * folder; *tower_text for the tower's own. LCL_UNSUPPORTED for projectors that it cannot name. */
LCL_CHECKED lcl_status lcl_hf_config_write_v1(const struct lcl_model_config *m, lcl_dtype dtype,
                                              const char *tower, char **text, char **tower_text);

/* LCL_UNSUPPORTED for models with a Q-Former, which `form` has no place for. */
LCL_CHECKED lcl_status lcl_refuse_qformer(const struct lcl_model_config *m, const char *form);

/* Every field of the config as JSON, for checkpoints: malloc'd text, and back. */
LCL_CHECKED lcl_status lcl_model_config_to_json(const struct lcl_model_config *m, char **text);
LCL_CHECKED lcl_status lcl_model_config_from_json(const char *text, const char *where,
                                                  struct lcl_model_config *m);

#endif
