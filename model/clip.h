/* CLIP whole (Radford et al. 2021): features of pictures and of texts in one space, forward only.
 *
 * Legend: N pictures or texts, P width of the common space, C width of a tower. */
#ifndef LCL_MODEL_CLIP_H
#define LCL_MODEL_CLIP_H

#include "model/model.h"

struct lcl_clip_config {
    struct lcl_vision_config image;
    struct lcl_vision_config text; /* its blocks; image_size and patch_size are 1 */
    int64_t V, positions, P;       /* vocabulary, longest text, width of the common space */
    int32_t eos;                   /* the token whose hidden state stands for a text; 2, as old
                                      configs say: the first of the greatest ids */
};
struct lcl_clip {
    struct lcl_clip_config config;
    struct lcl_model model; /* the image tower, and rows for the rest behind its own */
    struct lcl_vision_layer_rows *text;
    int post_w, post_b, visual_projection;
    int embed, position, final_w, final_b, text_projection;
};

/* Makes the table; values as of lcl_model_reserve(&m->model). LCL_CONFIG where shapes do not fit
 * together. */
LCL_CHECKED lcl_status lcl_clip_create(struct lcl_clip *m, const struct lcl_clip_config *config);
void lcl_clip_free(struct lcl_clip *m);

/* One lane. Set exec, zero the rest. */
struct lcl_clip_pass {
    struct lcl_exec *exec;
    struct lcl_pass pass;
    int64_t N;
    void *pooled, *normed, *projected, *unit; /* [N, C] twice, [N, P] twice */
    float *mean, *rstd, *norm;                /* [N] */
    int32_t *slot, *row, *position;           /* [N] twice, [tokens] */
};
void lcl_clip_pass_free(struct lcl_clip_pass *p);
/* pixels [n, 3, S, S]; out [n, P] of the host, L2-normalised. */
LCL_CHECKED lcl_status lcl_clip_images(const struct lcl_clip *m, struct lcl_clip_pass *p,
                                       const float *pixels, int64_t n, float *out_NP);
/* id: the ids of n texts end to end, length[i] of text i, with the tokens that CLIP puts around a
 * text. LCL_RANGE where a text is empty, longer than config.positions, or lacks config.eos. */
LCL_CHECKED lcl_status lcl_clip_texts(const struct lcl_clip *m, struct lcl_clip_pass *p,
                                      const int32_t *id, const int32_t *length, int64_t n,
                                      float *out_NP);

#endif
