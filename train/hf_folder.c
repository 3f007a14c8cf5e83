#include "train/hf_folder.h"

#include "checkpoint/hf.h"
#include "data/tokenizer.h"

lcl_status lcl_hf_image_token(const char *dir, struct lcl_model_config *m)
{
    struct lcl_tokenizer *t;
    if (m->image_token >= 0) return LCL_OK;
    lcl_status status = lcl_tokenizer_load_folder(dir, &t);
    if (status == LCL_NOT_FOUND) return LCL_OK;
    LCL_TRY(status);
    int32_t patch = lcl_tokenizer_id(t, "<im_patch>");
    m->image_token = patch >= 0 ? patch : lcl_tokenizer_image(t);
    lcl_tokenizer_free(t);
    return LCL_OK;
}

lcl_status lcl_hf_folder_config(const char *dir, struct lcl_model_config *m)
{
    LCL_TRY(lcl_hf_load_config(dir, m));
    if (lcl_hf_is_tower_folder(dir)) return LCL_OK; /* a tokenizer there is CLIP's */
    return lcl_hf_image_token(dir, m);
}
