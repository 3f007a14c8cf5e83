/* The probe of an export: logits of one picture between random words, or of words alone. */
#ifndef LCL_TOOLS_EXPORT_PROBE_H
#define LCL_TOOLS_EXPORT_PROBE_H

#include "train/env.h"

struct probe {
    bool picture;
    int64_t T, V;
    float *pixels, *logits; /* [3, S, S], [PROBE_WORDS, V] of the words after the picture */
    int32_t *words;         /* [4 T] */
};
LCL_CHECKED lcl_status probe_make(struct probe *p, const struct lcl_model_config *m, bool picture);
void probe_free(struct probe *p);
/* Fills p->logits with those of e's model. */
LCL_CHECKED lcl_status probe_run(struct probe *p, struct lcl_env *e);
/* own: the model's logits; rounded: those of the model with its parameters rounded as the export's
 * are. What was written to `out` may lose at most twice as much as plain rounding does, and the
 * noise of f32: else LCL_CORRUPT. LCL_NUMERIC where it does not fit f16. */
LCL_CHECKED lcl_status probe_check(const char *out, bool f16, const struct probe *own,
                                   const struct probe *rounded, const struct probe *written);

#endif
