#include "tools/export_probe.h"

#include <math.h>
#include <stdlib.h>

#include "core/log.h"
#include "core/rng.h"

enum { PROBE_WORDS = 16 };

void probe_free(struct probe *p)
{
    free(p->pixels);
    free(p->logits);
    free(p->words);
    *p = (struct probe){0};
}

lcl_status probe_make(struct probe *p, const struct lcl_model_config *m, bool picture)
{
    int64_t side = m->vision.image_size, pixels = 3 * side * side;
    if (picture && (m->image_token < 0 || m->image_token >= m->text.V))
        return LCL_FAIL(LCL_UNSUPPORTED,
                        "the model has no image token in its vocabulary of %lld tokens (id %d)",
                        (long long)m->text.V, m->image_token);
    p->picture = picture;
    p->T = PROBE_WORDS + (picture ? lcl_tokens_per_image(m) : 0) + PROBE_WORDS;
    p->V = m->text.V;
    p->pixels = malloc((size_t)pixels * sizeof *p->pixels);
    p->logits = malloc((size_t)(PROBE_WORDS * p->V) * sizeof *p->logits);
    p->words = malloc((size_t)(4 * p->T) * sizeof *p->words);
    if (!p->pixels || !p->logits || !p->words)
        return LCL_FAIL(LCL_MEMORY, "no memory for a probe of %lld tokens", (long long)p->T);
    struct lcl_rng rng = lcl_rng_stream(0, LCL_RNG_SAMPLING, 0, 0);
    for (int64_t i = 0; i < pixels; i++) p->pixels[i] = lcl_rng_normal(&rng);
    rng =
        lcl_rng_stream(0, LCL_RNG_SAMPLING, 0, 1); /* the same words whatever the picture's size */
    for (int64_t t = 0; t < p->T; t++) {
        bool slot = t >= PROBE_WORDS && t < p->T - PROBE_WORDS;
        do {
            p->words[t] = slot ? m->image_token : (int32_t)lcl_rng_below(&rng, (uint32_t)p->V);
        } while (!slot && p->words[t] == m->image_token);
    }
    return LCL_OK;
}

lcl_status probe_run(struct probe *p, struct lcl_env *e)
{
    struct lcl_pass pass = {.exec = &e->exec, .model = &e->model};
    struct lcl_attn_run run = {.q_end = (int32_t)p->T, .own_end = (int32_t)p->T};
    int32_t *position = p->words + p->T, *slot = position + p->T, *slot_row = slot + p->T;
    int32_t row[PROBE_WORDS], target[PROBE_WORDS] = {0}, view = 0;
    float weight[PROBE_WORDS];
    uint8_t is_label[PROBE_WORDS] = {0};
    int64_t image = 0;
    struct lcl_batch b = {.T = p->T,
                          .id_T = p->words,
                          .position_T = position,
                          .n_runs = 1,
                          .runs = &run,
                          .n_images = p->picture,
                          .image_I = &image,
                          .view_I = &view,
                          .n_slots = p->T - 2 * PROBE_WORDS,
                          .slot = slot,
                          .slot_row = slot_row,
                          .S = PROBE_WORDS,
                          .row_S = row,
                          .target_S = target,
                          .weight_S = weight,
                          .is_label_S = is_label};
    for (int32_t t = 0; t < p->T; t++) position[t] = t;
    for (int32_t i = 0; i < b.n_slots; i++) {
        slot[i] = PROBE_WORDS + i;
        slot_row[i] = i;
    }
    for (int i = 0; i < PROBE_WORDS; i++) {
        row[i] = (int32_t)p->T - PROBE_WORDS + i;
        weight[i] = 1;
    }
    double loss;
    lcl_status status =
        lcl_model_loss(&pass, &b, &(struct lcl_images){.pixels = p->pixels}, &loss, p->logits);
    lcl_pass_free(&pass);
    return status;
}

struct difference {
    double rms, most, size; /* of a - b; greatest; rms of a */
};

static struct difference compare(const float *a, const float *b, int64_t n)
{
    struct difference d = {0};
    for (int64_t i = 0; i < n; i++) {
        double x = fabs((double)a[i] - (double)b[i]);
        d.rms += x * x / (double)n;
        d.size += (double)a[i] * (double)a[i] / (double)n;
        if (!(x <= d.most)) d.most = x; /* NaN stays */
    }
    d.rms = sqrt(d.rms);
    d.size = sqrt(d.size);
    return d;
}

lcl_status probe_check(const char *out, bool f16, const struct probe *own,
                       const struct probe *rounded, const struct probe *written)
{
    int64_t n = PROBE_WORDS * own->V;
    struct difference plain = compare(own->logits, rounded->logits, n);
    struct difference export = compare(own->logits, written->logits, n);
    double allowed = 2 * plain.rms + 1e-5 * export.size;
    if (!isfinite(export.rms) && f16)
        return LCL_FAIL_HINT(LCL_NUMERIC, "export with --dtype bf16 or f32",
                             "the model does not fit f16: its logits are not finite");
    if (!(export.rms <= allowed))
        return LCL_FAIL(LCL_CORRUPT,
                        "what was written to %s does not compute what the model does: logits "
                        "differ by %.3g (root mean square, of %.3g), allowed are %.3g",
                        out, export.rms, export.size, allowed);
    lcl_log_info("self-check: logits of the folder read back differ by at most %.3g (root mean "
                 "square %.3g, of %.3g)",
                 export.most, export.rms, export.size);
    return LCL_OK;
}
