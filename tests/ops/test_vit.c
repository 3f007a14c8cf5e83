/* Patches and the vision tower's token matrix. Legend: I images, P patches, T = P + 1, C width, S
 * side. */
#include "core/rng.h"
#include "tests/support/fd.h"

static const lcl_dtype dtypes[] = {LCL_F32, LCL_BF16};

static void check_patchify(int64_t I, int64_t S, int64_t p, lcl_dtype t)
{
    struct lcl_exec *ex = test_exec();
    int64_t side = S / p;
    size_t n_pixels = (size_t)(I * 3 * S * S), n = (size_t)(I * side * side * 3 * p * p);
    double *pixel = dbl_normal(n_pixels, 1, 1), *row = dbl_new(n);
    struct lcl_patchify_args a = {.I = I,
                                  .size = S,
                                  .patch = p,
                                  .dtype = t,
                                  .pixel_I3SS = buf_of(pixel, n_pixels, LCL_F32),
                                  .row_IPK = buf_new(n, t)};
    ASSERT_OK(ex->ops->patchify_fwd(ex, &a));
    size_t at = 0;
    for (int64_t i = 0; i < I; i++)
        for (int64_t k = 0; k < side * side; k++)
            for (int64_t channel = 0; channel < 3; channel++)
                for (int64_t y = 0; y < p; y++)
                    for (int64_t x = 0; x < p; x++)
                        row[at++] = pixel[((i * 3 + channel) * S + k / side * p + y) * S +
                                          k % side * p + x];
    check_close("rows", a.row_IPK, t, row, n, 0);
    buf_end();
}

static void test_patchify(void **state)
{
    (void)state;
    for (int t = 0; t < 2; t++) {
        check_patchify(1, 1, 1, dtypes[t]);
        check_patchify(3, 31, 31, dtypes[t]);
        check_patchify(5, 33, 11, dtypes[t]);
        check_patchify(2, 48, 16, dtypes[t]);
        check_patchify(2, 224, 14, dtypes[t]);
        check_patchify(2, 33, 14, dtypes[t]); /* what is left at the right and below is dropped */
        check_patchify(2, 36, 8, dtypes[t]);
        check_patchify(3, 38, 8, dtypes[t]);
    }
}

static void check_bytes(int64_t I, int64_t S, int64_t p, lcl_dtype t)
{
    static const float mean[3] = {0.48f, 0.46f, 0.41f}, std[3] = {0.27f, 0.26f, 0.25f};
    struct lcl_exec *ex = test_exec();
    size_t n = (size_t)(I * 3 * S * S);
    double *pixel = dbl_new(n);
    uint8_t *byte = malloc(n);
    assert_non_null(byte);
    struct lcl_rng rng = lcl_rng_stream(2, LCL_RNG_TEST, 0, n);
    for (size_t i = 0; i < n; i++) {
        size_t c = i / (size_t)(S * S) % 3;
        byte[i] = (uint8_t)lcl_rng_u32(&rng);
        pixel[i] = (double)(float)((byte[i] / 255.0 - (double)mean[c]) / (double)std[c]);
    }
    struct lcl_patchify_args a = {
        .I = I, .size = S, .patch = p, .dtype = t, .row_IPK = buf_new(n, t)};
    struct lcl_patchify_args of_values = a;
    of_values.pixel_I3SS = buf_of(pixel, n, LCL_F32);
    of_values.row_IPK = buf_new(n, t);
    memcpy(a.mean, mean, sizeof mean);
    memcpy(a.std, std, sizeof std);
    a.byte_I3SS = byte;
    ASSERT_OK(ex->ops->patchify_fwd(ex, &a));
    ASSERT_OK(ex->ops->patchify_fwd(ex, &of_values));
    ASSERT_OK(lcl_exec_sync(ex));
    assert_memory_equal(a.row_IPK, of_values.row_IPK, n * lcl_dtype_bytes(t));
    free(byte);
    buf_end();
}

/* Bit for bit what their normalised values give. */
static void test_patchify_bytes(void **state)
{
    (void)state;
    for (int t = 0; t < 2; t++) {
        check_bytes(1, 1, 1, dtypes[t]);
        check_bytes(3, 31, 31, dtypes[t]);
        check_bytes(5, 33, 11, dtypes[t]);
        check_bytes(2, 48, 16, dtypes[t]);
    }
}

static void test_patchify_bytes_refused(void **state)
{
    (void)state;
    struct lcl_exec *ex = test_exec();
    float x = 0;
    uint8_t byte[12] = {0};
    struct lcl_patchify_args a = {.I = 1, .size = 2, .patch = 2, .byte_I3SS = byte, .row_IPK = &x};
    ASSERT_FAILS(ex->ops->patchify_fwd(ex, &a), LCL_RANGE, "a standard deviation of 0");
    a.pixel_I3SS = &x;
    ASSERT_FAILS(ex->ops->patchify_fwd(ex, &a), LCL_SHAPE, "both as values and as bytes");
}

static void test_patchify_sides(void **state)
{
    (void)state;
    struct lcl_exec *ex = test_exec();
    float x = 0;
    struct lcl_patchify_args a = {.I = 1, .size = 13, .patch = 14, .pixel_I3SS = &x, .row_IPK = &x};
    ASSERT_FAILS(ex->ops->patchify_fwd(ex, &a), LCL_SHAPE, "side 13 hold no patch of 14");
}

struct vit {
    int64_t I, P, C;
    double *patch, *class, *position, *dy;
};

static double token(const struct vit *v, int64_t i, int64_t t, int64_t c)
{
    return (t ? v->patch[(i * v->P + t - 1) * v->C + c] : v->class[c]) + v->position[t * v->C + c];
}

static double loss(void *ctx)
{
    const struct vit *v = ctx;
    double sum = 0;
    for (int64_t i = 0; i < v->I; i++)
        for (int64_t t = 0; t <= v->P; t++)
            for (int64_t c = 0; c < v->C; c++)
                sum += v->dy[(i * (v->P + 1) + t) * v->C + c] * token(v, i, t, c);
    return sum;
}

static void check_assemble(int64_t I, int64_t P, int64_t C, lcl_dtype t)
{
    struct lcl_exec *ex = test_exec();
    size_t n = (size_t)(I * (P + 1) * C), patches = (size_t)(I * P * C);
    size_t positions = (size_t)((P + 1) * C), width = (size_t)C;
    struct vit v = {I,
                    P,
                    C,
                    dbl_normal(patches, 1, 1),
                    dbl_normal(width, 1, 2),
                    dbl_normal(positions, 1, 3),
                    dbl_normal(n, 1, 4)};
    double *class0 = dbl_normal(width, 1, 5), *position0 = dbl_normal(positions, 1, 6);
    double *x = dbl_new(n);
    struct lcl_vit_assemble_args a = {.I = I,
                                      .P = P,
                                      .C = C,
                                      .dtype = t,
                                      .patch_IPC = buf_of(v.patch, patches, t),
                                      .class_C = buf_of(v.class, width, LCL_F32),
                                      .position_TC = buf_of(v.position, positions, LCL_F32),
                                      .x_ITC = buf_new(n, t),
                                      .d_x_ITC = buf_of(v.dy, n, t),
                                      .d_patch_IPC = buf_new(patches, t),
                                      .d_class_C = buf_of(class0, width, LCL_F32),
                                      .d_position_TC = buf_of(position0, positions, LCL_F32)};
    ASSERT_OK(ex->ops->vit_assemble_fwd(ex, &a));
    for (size_t i = 0; i < n; i++)
        x[i] = token(&v, (int64_t)i / C / (P + 1), (int64_t)i / C % (P + 1), (int64_t)i % C);
    check_close("x", a.x_ITC, t, x, n, 2e-7);
    ASSERT_OK(ex->ops->vit_assemble_bwd(ex, &a));
    fd_check("d_patch", loss, &v, v.patch, patches, a.d_patch_IPC, t, NULL, 1e-6);
    fd_check("d_class", loss, &v, v.class, width, a.d_class_C, LCL_F32, class0, 1e-6);
    fd_check("d_position", loss, &v, v.position, positions, a.d_position_TC, LCL_F32, position0,
             1e-6);
    /* A frozen tower wants none; frozen embeddings want d_patch alone. */
    a.d_class_C = a.d_position_TC = NULL;
    a.d_patch_IPC = buf_new(patches, t);
    ASSERT_OK(ex->ops->vit_assemble_bwd(ex, &a));
    fd_check("d_patch alone", loss, &v, v.patch, patches, a.d_patch_IPC, t, NULL, 1e-6);
    a.d_patch_IPC = NULL;
    ASSERT_OK(ex->ops->vit_assemble_bwd(ex, &a));
    buf_end();
}

static void test_assemble(void **state)
{
    (void)state;
    for (int t = 0; t < 2; t++) {
        check_assemble(1, 1, 1, dtypes[t]);
        check_assemble(3, 16, 31, dtypes[t]);
        check_assemble(31, 9, 257, dtypes[t]);
        check_assemble(31, 9, 264, dtypes[t]);
        check_assemble(2, 256, 33, dtypes[t]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_patchify),
        cmocka_unit_test(test_patchify_bytes),
        cmocka_unit_test(test_patchify_bytes_refused),
        cmocka_unit_test(test_patchify_sides),
        cmocka_unit_test(test_assemble),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
