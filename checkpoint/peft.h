/* PEFT adapter folders (LoRA): adapter_config.json and adapter_model.safetensors, with the module
 * names that transformers 5 gives a LLaVA in memory. */
#ifndef LCL_CHECKPOINT_PEFT_H
#define LCL_CHECKPOINT_PEFT_H

#include "core/param.h"
#include "model/config.h"

/* True where dir holds an adapter_config.json and no model of its own. */
bool lcl_peft_is_folder(const char *dir);
/* Rank, alpha (that of the plain scale alpha / r, also where the folder's is alpha / sqrt(r)) and
 * the modules as patterns of lora.targets, which name them in every layer, or in those that the
 * folder adapts (layers_to_transform). LCL_UNSUPPORTED for other adapters than plain LoRA,
 * naming the key. */
LCL_CHECKED lcl_status lcl_peft_load_config(const char *dir, struct lcl_lora_config *lora);
/* Fills the table's adapters. LCL_SHAPE listing what is missing, misshapen or left over; then
 * nothing was written. */
LCL_CHECKED lcl_status lcl_peft_load(const char *dir, struct lcl_params *t);

struct lcl_peft_save_options {
    lcl_dtype dtype;  /* LCL_F32, LCL_BF16 or LCL_F16 */
    const char *base; /* the model that the adapters are for; NULL or "": not said */
};
/* Writes both files. LCL_UNSUPPORTED where the model has no adapters, and where one is on a
 * projector behind standardised features, which PEFT has no place for. */
LCL_CHECKED lcl_status lcl_peft_save(const char *dir, const struct lcl_params *t,
                                     const struct lcl_model_config *m,
                                     const struct lcl_peft_save_options *options);

#endif
