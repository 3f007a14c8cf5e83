/* A reference case through a model: inputs, hidden states, logits, loss and gradients as
 * safetensors. */
#ifndef LCL_TRAIN_FORWARD_H
#define LCL_TRAIN_FORWARD_H

#include "checkpoint/hf.h"
#include "checkpoint/safetensors.h"
#include "core/batch.h"
#include "model/model.h"

/* A case's right-padded rows as one packed batch. Legend: B sequences, L padded length. */
struct lcl_case {
    int64_t B, L, n_images;
    struct lcl_batch batch;
    float *pixels;     /* [n_images, 3, S, S] */
    int32_t *padded_T; /* [T] place of a packed token in the padded [B, L] */
    void *owned;
};
/* Reads PREFIXinput_ids, attention_mask (optional: all of it), labels (optional: nothing
 * supervised) and pixel_values (optional: no pictures). LCL_SHAPE when image placeholders and
 * pictures do not match, with both counts. */
LCL_CHECKED lcl_status lcl_case_read(const struct lcl_safetensors *st, const char *path,
                                     const char *prefix, const struct lcl_model_config *m,
                                     struct lcl_case *c);
void lcl_case_free(struct lcl_case *c);

/* Runs forward and backward (m->params.grad must be laid out; it is cleared first) and writes
 * vision_hidden [I, T, Cv], image_features [I, t, C], logits [B, L, V] (zeros at padding), loss,
 * and grad.NAME by on-disk names of every parameter in the loss. */
LCL_CHECKED lcl_status lcl_forward_case(struct lcl_exec *exec, struct lcl_model *m,
                                        const struct lcl_hf_names *names, const struct lcl_case *c,
                                        const char *out_path);

/* Writes image_embeds [N, P] of the case's pixel_values and text_embeds [N, P] of its input_ids,
 * L2-normalised; what is not there is left out. */
LCL_CHECKED lcl_status lcl_forward_clip(struct lcl_exec *exec, const struct lcl_clip *m,
                                        const char *case_path, const char *out_path);

#endif
