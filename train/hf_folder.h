/* What an HF folder's weights and tokenizer say together. */
#ifndef LCL_TRAIN_HF_FOLDER_H
#define LCL_TRAIN_HF_FOLDER_H

#include "model/config.h"

/* lcl_hf_load_config, and lcl_hf_image_token. */
LCL_CHECKED lcl_status lcl_hf_folder_config(const char *dir, struct lcl_model_config *m);
/* The original LLaVA names no image token in config.json: the tokenizer's <im_patch>, which stands
 * for a picture's patches there, else its image token. Left alone where the config names one, or
 * the folder has no tokenizer. */
LCL_CHECKED lcl_status lcl_hf_image_token(const char *dir, struct lcl_model_config *m);

#endif
