/* What an export of a model holds, whatever its format: rows of the table, and tensors made of
 * them. */
#ifndef LCL_CHECKPOINT_HF_EXPORT_H
#define LCL_CHECKPOINT_HF_EXPORT_H

#include "checkpoint/safetensors.h"
#include "core/param.h"
#include "model/config.h"

enum { LCL_HF_EXPORT_MADE = 4 };

struct lcl_hf_export {
    struct lcl_model_config config; /* as written: of the projector that the items make */
    struct lcl_st_item *items;      /* named as the table's rows; sources are f32 */
    size_t n;
    float *made[LCL_HF_EXPORT_MADE];
    int n_made;
    char (*names)[LCL_PARAM_NAME_BYTES]; /* of the original LLaVA's layout */
};
/* Items in the table's order with a standardisation folded into linear_1, a linear projector
 * completed by an identity (not for v1, the original LLaVA's layout), and the warm-up's classifier
 * left out. They point into t, whose values are f32 in one piece: others are LCL_UNSUPPORTED. */
LCL_CHECKED lcl_status lcl_hf_export_collect(const struct lcl_params *t,
                                             const struct lcl_model_config *m, lcl_dtype dtype,
                                             bool v1, struct lcl_hf_export *e);
/* Rows of the table that no HF folder holds: adapters, the warm-up's classifier, the
 * standardisation. */
bool lcl_hf_is_own_row(const struct lcl_param *p);
void lcl_hf_export_free(struct lcl_hf_export *e);

#endif
