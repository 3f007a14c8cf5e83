#include "core/code8.h"

#include <math.h>
#include <pthread.h>

static struct lcl_code8_pair pair;
static pthread_once_t once = PTHREAD_ONCE_INIT;

static float float_of(uint32_t bits)
{
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

/* 0, then seven decades up to 1, each in twice as many equal steps as the one below, whose middles
 * are the values; then 1. */
static int magnitudes(int first_steps, float magnitude[256])
{
    int n = 0;
    magnitude[n++] = 0;
    for (int decade = 0; decade < 7; decade++) {
        int steps = first_steps << decade;
        for (int i = 0; i < steps; i++)
            magnitude[n++] =
                (float)(pow(10, decade - 6) * (0.1 + 0.9 * ((double)i + 0.5) / (double)steps));
    }
    magnitude[n++] = 1;
    return n;
}

static void make(struct lcl_code8 *c, bool is_signed)
{
    float magnitude[256];
    int n = magnitudes(is_signed ? 1 : 2, magnitude), k = 0;
    for (int i = 0; i < n; i++) {
        c->middle[i] = i + 1 < n ? (magnitude[i] + magnitude[i + 1]) / 2 : INFINITY;
        if (!is_signed) {
            c->value[i] = magnitude[i];
            continue;
        }
        c->value[LCL_CODE8_ZERO + i] = magnitude[i];
        if (i <= LCL_CODE8_ZERO) c->value[LCL_CODE8_ZERO - i] = -magnitude[i];
    }
    c->value[LCL_CODE8_ZERO * is_signed] = 0; /* not -0 */
    for (uint32_t i = 0; i < LCL_CODE8_GUESSES; i++) {
        while (float_of((LCL_CODE8_FIRST + i) << 16) > c->middle[k]) k++;
        c->guess[i] = (uint8_t)k;
    }
}

static void make_pair(void)
{
    make(&pair.m, true);
    make(&pair.v, false);
}

const struct lcl_code8_pair *lcl_code8(void)
{
    pthread_once(&once, make_pair);
    return &pair;
}

void lcl_code8_decode(const struct lcl_code8 *c, const uint8_t *code, const float *scale_B,
                      int64_t n, float *x)
{
    for (int64_t i = 0; i < n; i++) x[i] = c->value[code[i]] * scale_B[i / LCL_CODE8_BLOCK];
}

void lcl_code8_encode(bool second, const float *x, int64_t n, uint8_t *code, float *scale_B)
{
    const struct lcl_code8_pair *c = lcl_code8();
    for (int64_t first = 0; first < n; first += LCL_CODE8_BLOCK) {
        int64_t end = first + LCL_CODE8_BLOCK < n ? first + LCL_CODE8_BLOCK : n;
        float scale = 0;
        for (int64_t i = first; i < end; i++) scale = fmaxf(scale, fabsf(x[i]));
        scale_B[first / LCL_CODE8_BLOCK] = scale;
        for (int64_t i = first; i < end; i++)
            code[i] = second ? lcl_code8_v(&c->v, x[i], scale) : lcl_code8_m(&c->m, x[i], scale);
    }
}
