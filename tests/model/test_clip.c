/* CLIP's features against a plain double implementation of Radford et al. 2021 as transformers'
 * CLIPModel computes it, and through a folder. */
#include "model/clip.h"

#include <math.h>

#include "checkpoint/hf.h"
#include "core/fs.h"
#include "tests/support/clip_folder.h"

enum {
    SIDE = CLIP_SIDE,
    PATCH = CLIP_PATCH,
    P = CLIP_P,
    PICTURES = 3,
    TEXTS = 4,
    TOKENS = 5 + 1 + 7 + 2,
    MOST = 64
};

/* ---- the reference: one picture or text of T tokens ---- */

static const float *value(const struct lcl_clip *m, int row)
{
    return lcl_model_vector(&m->model, row);
}

static void linear(const float *w, const float *b, int64_t N, int64_t K, const double *x, double *y)
{
    for (int64_t n = 0; n < N; n++) {
        y[n] = b ? (double)b[n] : 0;
        for (int64_t k = 0; k < K; k++) y[n] += (double)w[n * K + k] * x[k];
    }
}

static void norm(const struct lcl_clip *m, int w, int b, int64_t C, const double *x, double *y)
{
    double mean = 0, var = 0;
    for (int64_t c = 0; c < C; c++) mean += x[c] / (double)C;
    for (int64_t c = 0; c < C; c++) var += (x[c] - mean) * (x[c] - mean) / (double)C;
    for (int64_t c = 0; c < C; c++)
        y[c] = (x[c] - mean) / sqrt(var + 1e-5) * (double)value(m, w)[c] + (double)value(m, b)[c];
}

/* qkv [T, 3C] to out [T, C] */
static void attend(const struct lcl_vision_config *v, int64_t T, bool causal, const double *qkv,
                   double *out)
{
    int64_t C = v->C, D = C / v->H;
    for (int64_t t = 0; t < T; t++)
        for (int64_t c = 0; c < C; c++) {
            double sum = 0, o = 0;
            for (int64_t j = 0; j < (causal ? t + 1 : T); j++) {
                double s = 0;
                for (int64_t d = c / D * D; d < (c / D + 1) * D; d++)
                    s += qkv[t * 3 * C + d] * qkv[j * 3 * C + C + d];
                s = exp(s / sqrt((double)D));
                sum += s;
                o += s * qkv[j * 3 * C + 2 * C + c];
            }
            out[t * C + c] = o / sum;
        }
}

static void blocks(const struct lcl_clip *m, const struct lcl_vision_config *v,
                   const struct lcl_vision_layer_rows *rows, int64_t T, bool causal, double *x)
{
    static double qkv[MOST * 3 * MOST], mid[MOST * MOST];
    int64_t C = v->C, F = v->F;
    double y[MOST], f[MOST];
    for (const struct lcl_vision_layer_rows *r = rows; r < rows + v->n_layers; r++) {
        for (int64_t t = 0; t < T; t++) {
            norm(m, r->ln1_w, r->ln1_b, C, x + t * C, y);
            for (int64_t part = 0; part < 3; part++)
                linear(value(m, r->qkv_w + (int)part), value(m, r->qkv_b + (int)part), C, C, y,
                       qkv + t * 3 * C + part * C);
        }
        attend(v, T, causal, qkv, mid);
        for (int64_t t = 0; t < T; t++) {
            linear(value(m, r->out_w), value(m, r->out_b), C, C, mid + t * C, y);
            for (int64_t c = 0; c < C; c++) x[t * C + c] += y[c];
            norm(m, r->ln2_w, r->ln2_b, C, x + t * C, y);
            linear(value(m, r->fc1_w), value(m, r->fc1_b), F, C, y, f);
            for (int64_t k = 0; k < F; k++)
                f[k] *= v->act == LCL_GELU_QUICK ? 1 / (1 + exp(-1.702 * f[k]))
                                                 : (1 + erf(f[k] / sqrt(2))) / 2;
            linear(value(m, r->fc2_w), value(m, r->fc2_b), C, F, f, y);
            for (int64_t c = 0; c < C; c++) x[t * C + c] += y[c];
        }
    }
}

static void project(const struct lcl_clip *m, int w, int b, int weight, int64_t C, const double *x,
                    double *out)
{
    double y[MOST], square = 0;
    norm(m, w, b, C, x, y);
    linear(value(m, weight), NULL, P, C, y, out);
    for (int i = 0; i < P; i++) square += out[i] * out[i];
    for (int i = 0; i < P; i++) out[i] /= sqrt(square);
}

static void picture(const struct lcl_clip *m, const float *pixels, double *out)
{
    const struct lcl_vision_config *v = &m->config.image;
    const struct lcl_model_rows *r = &m->model.rows;
    const int64_t C = v->C, side = SIDE / PATCH, T = side * side + 1, K = 3 * PATCH * PATCH;
    static double x[MOST * MOST];
    double patch[3 * PATCH * PATCH];
    for (int64_t c = 0; c < C; c++) x[c] = (double)value(m, r->class_embed)[c];
    for (int64_t t = 1; t < T; t++) {
        for (int64_t k = 0; k < K; k++) {
            int64_t row = (t - 1) / side * PATCH + k / PATCH % PATCH;
            patch[k] = (double)pixels[(k / (PATCH * PATCH) * SIDE + row) * SIDE +
                                      (t - 1) % side * PATCH + k % PATCH];
        }
        linear(value(m, r->patch_w), NULL, C, K, patch, x + t * C);
    }
    for (int64_t t = 0; t < T; t++) {
        for (int64_t c = 0; c < C; c++) x[t * C + c] += (double)value(m, r->position)[t * C + c];
        norm(m, r->pre_ln_w, r->pre_ln_b, C, x + t * C, x + t * C);
    }
    blocks(m, v, r->vision, T, false, x);
    project(m, m->post_w, m->post_b, m->visual_projection, C, x, out);
}

static void text(const struct lcl_clip *m, const int32_t *id, int64_t T, int64_t end, double *out)
{
    const int64_t C = m->config.text.C;
    static double x[MOST * MOST];
    for (int64_t i = 0; i < T * C; i++)
        x[i] = (double)value(m, m->embed)[id[i / C] * C + i % C] + (double)value(m, m->position)[i];
    blocks(m, &m->config.text, m->text, T, true, x);
    project(m, m->final_w, m->final_b, m->text_projection, C, x + end * C, out);
}

/* ---- tests ---- */

static const int32_t ids[TOKENS] = {3, 8, 1, 30, 30, /**/ 30, /**/ 3, 30,
                                    5, 5, 9, 30, 2,  /**/ 4,  30};
static const int32_t lengths[TEXTS] = {5, 1, 7, 2};
static const int64_t ends[TEXTS] = {3, 0, 1, 1}; /* the first of the greatest, which is also 30's */

static void assert_near(const float *got, const double *wanted, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        if (!(fabs((double)got[i] - wanted[i]) < 2e-6))
            fail_msg("feature %d is %.8g, wanted %.8g", (int)i, (double)got[i], wanted[i]);
}

static void check_features(const struct lcl_clip *m)
{
    struct lcl_clip_pass pass = {.exec = test_exec()};
    float pixels[PICTURES * 3 * SIDE * SIDE], got[TEXTS * P];
    double wanted[TEXTS * P];
    fill_normal(pixels, sizeof pixels / sizeof *pixels, 1, 77);
    for (int i = 0; i < PICTURES; i++) picture(m, pixels + i * 3 * SIDE * SIDE, wanted + i * P);
    ASSERT_OK(lcl_clip_images(m, &pass, pixels, PICTURES, got));
    assert_near(got, wanted, PICTURES * P);
    for (int64_t i = 0, at = 0; i < TEXTS; at += lengths[i++])
        text(m, ids + at, lengths[i], ends[i], wanted + i * P);
    ASSERT_OK(lcl_clip_texts(m, &pass, ids, lengths, TEXTS, got));
    assert_near(got, wanted, TEXTS * P);
    ASSERT_OK(lcl_clip_images(m, &pass, pixels, 1, got)); /* fewer than before */
    lcl_clip_pass_free(&pass);
}

static void test_features(void **state)
{
    (void)state;
    struct lcl_clip_config configs[2] = {clip_shapes(2, LCL_GELU_QUICK),
                                         clip_shapes(30, LCL_GELU_ERF)};
    for (int i = 0; i < 2; i++) {
        struct lcl_clip m;
        make_clip(&m, &configs[i]);
        check_features(&m);
        lcl_clip_free(&m);
    }
}

static void test_refusals(void **state)
{
    (void)state;
    struct lcl_clip_config c = clip_shapes(30, LCL_GELU_QUICK);
    struct lcl_clip m;
    struct lcl_clip_pass pass = {.exec = test_exec()};
    float got[P];
    make_clip(&m, &c);
    ASSERT_FAILS(lcl_clip_texts(&m, &pass, ids, (int32_t[]){3}, 1, got), LCL_RANGE,
                 "text 0 has no end-of-text token 30");
    ASSERT_FAILS(lcl_clip_texts(&m, &pass, ids, (int32_t[]){8}, 1, got), LCL_RANGE,
                 "text 0 has 8 tokens, CLIP takes 1..7");
    lcl_clip_pass_free(&pass);
    lcl_clip_free(&m);
    c.text.H = 3;
    ASSERT_FAILS(lcl_clip_create(&m, &c), LCL_CONFIG, "text tower: ");
}

static void test_folder(void **state)
{
    (void)state;
    struct lcl_clip_config c = clip_shapes(2, LCL_GELU_QUICK);
    struct lcl_clip m, read;
    char dir[512];
    snprintf(dir, sizeof dir, "%s/clip", temp_dir());
    make_clip(&m, &c);
    save_clip_folder(&m, dir, "logit_scale");
    ASSERT_OK(lcl_hf_clip_load(dir, false, &read));
    check_features(&read);
    lcl_clip_free(&read);
    save_clip_folder(&m, dir, "text_model.encoder.layers.3.layer_norm1.bias");
    ASSERT_FAILS(lcl_hf_clip_load(dir, false, &read), LCL_SHAPE,
                 "left over: text_model.encoder.layers.3.layer_norm1.bias");
    ASSERT_OK(lcl_fs_write_text(dir, "config.json",
                                "{\"model_type\": \"clip\", \"vision_config\": {}, "
                                "\"text_config\": {\"vocab_size\": 0}}"));
    ASSERT_FAILS(lcl_hf_clip_load(dir, false, &read), LCL_FORMAT, "text_config.vocab_size is 0");
    lcl_clip_free(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_features),
                                       cmocka_unit_test(test_refusals),
                                       cmocka_unit_test(test_folder)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
