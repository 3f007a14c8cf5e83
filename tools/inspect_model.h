/* What `lcl inspect` tells about models: HF folders, safetensors and GGUF files, checkpoints, run
 * folders. Each fills a JSON object that verb_inspect.c prints as JSON or as text. */
#ifndef LCL_TOOLS_INSPECT_MODEL_H
#define LCL_TOOLS_INSPECT_MODEL_H

#include <jansson.h>

#include "core/status.h"
#include "model/config.h"

LCL_CHECKED lcl_status inspect_hf_folder(const char *dir, json_t *out);
/* Adapters: adapter_config.json and their tensors. */
LCL_CHECKED lcl_status inspect_peft_folder(const char *dir, json_t *out);
LCL_CHECKED lcl_status inspect_safetensors(const char *path, json_t *out);
LCL_CHECKED lcl_status inspect_gguf(const char *path, json_t *out);
/* "architecture" in words, and "config". */
void inspect_model_config(const struct lcl_model_config *m, json_t *out);
/* A checkpoint folder, or a run folder's newest good one. */
LCL_CHECKED lcl_status inspect_checkpoint(const char *dir, json_t *out);
LCL_CHECKED lcl_status inspect_run(const char *dir, json_t *out);

#endif
