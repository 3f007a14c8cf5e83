#include <math.h>
#include <stdlib.h>

#include "checkpoint/gguf.h"

const char *lcl_gguf_kind_name(enum lcl_gguf_kind kind)
{
    static const char *const names[LCL_GGUF_KIND_COUNT] = {"u8",  "i8",  "u16",  "i16",    "u32",
                                                           "i32", "f32", "bool", "string", "array",
                                                           "u64", "i64", "f64"};
    return names[kind];
}

/* Numbers lie in the file as this machine has them (little-endian), at any byte. */
#define LOAD(type, i)                                      \
    do {                                                   \
        type x_;                                           \
        memcpy(&x_, v->data + (i) * sizeof x_, sizeof x_); \
        *x = (double)x_;                                   \
        return true;                                       \
    } while (0)

bool lcl_gguf_number(const struct lcl_gguf_value *v, size_t i, double *x)
{
    if (i >= v->n) return false;
    switch (v->kind == LCL_GGUF_ARRAY ? v->element : v->kind) {
    case LCL_GGUF_U8:
    case LCL_GGUF_BOOL:
        LOAD(uint8_t, i);
    case LCL_GGUF_I8:
        LOAD(int8_t, i);
    case LCL_GGUF_U16:
        LOAD(uint16_t, i);
    case LCL_GGUF_I16:
        LOAD(int16_t, i);
    case LCL_GGUF_U32:
        LOAD(uint32_t, i);
    case LCL_GGUF_I32:
        LOAD(int32_t, i);
    case LCL_GGUF_F32:
        LOAD(float, i);
    case LCL_GGUF_U64:
        LOAD(uint64_t, i);
    case LCL_GGUF_I64:
        LOAD(int64_t, i);
    case LCL_GGUF_F64:
        LOAD(double, i);
    default:
        return false;
    }
}

static lcl_status wrong(const struct lcl_gguf *g, const struct lcl_gguf_value *v,
                        const char *wanted)
{
    return LCL_FAIL(LCL_FORMAT, "%s: %s is of type %s%s%s, wanted %s", g->path, v->key,
                    lcl_gguf_kind_name(v->kind), v->kind == LCL_GGUF_ARRAY ? " of " : "",
                    v->kind == LCL_GGUF_ARRAY ? lcl_gguf_kind_name(v->element) : "", wanted);
}

lcl_status lcl_gguf_get_real(const struct lcl_gguf *g, const char *key, double low, double high,
                             double *x)
{
    const struct lcl_gguf_value *v = lcl_gguf_find(g, key);
    double number;
    if (!v) return LCL_OK;
    if (v->kind == LCL_GGUF_ARRAY || !lcl_gguf_number(v, 0, &number))
        return wrong(g, v, "a number");
    if (!(number >= low && number <= high))
        return LCL_FAIL(LCL_FORMAT, "%s: %s is %g, wanted %g..%g", g->path, key, number, low, high);
    *x = number;
    return LCL_OK;
}

lcl_status lcl_gguf_get_int(const struct lcl_gguf *g, const char *key, int64_t low, int64_t high,
                            int64_t *x)
{
    double number = (double)*x;
    LCL_TRY(lcl_gguf_get_real(g, key, (double)low, (double)high, &number));
    if (number != floor(number))
        return LCL_FAIL(LCL_FORMAT, "%s: %s is %g, no whole number", g->path, key, number);
    *x = (int64_t)number;
    return LCL_OK;
}

/* The string at *p, which moves behind it; lcl_gguf_open checked that it lies in the file. */
static const char *next_text(const unsigned char **p, size_t *n)
{
    uint64_t length;
    memcpy(&length, *p, sizeof length);
    const char *text = (const char *)*p + sizeof length;
    *n = (size_t)length;
    *p += sizeof length + *n;
    return text;
}

lcl_status lcl_gguf_get_text(const struct lcl_gguf *g, const char *key, char **text)
{
    const struct lcl_gguf_value *v = lcl_gguf_find(g, key);
    size_t n;
    *text = NULL;
    if (!v) return LCL_OK;
    if (v->kind != LCL_GGUF_STRING) return wrong(g, v, "a string");
    const unsigned char *p = v->data;
    const char *s = next_text(&p, &n);
    if (memchr(s, 0, n)) return LCL_FAIL(LCL_FORMAT, "%s: %s holds a NUL byte", g->path, key);
    *text = strndup(s, n);
    return *text ? LCL_OK : LCL_FAIL(LCL_MEMORY, "no memory for %s of %s", key, g->path);
}

lcl_status lcl_gguf_get_texts(const struct lcl_gguf *g, const char *key, char ***list, size_t *n)
{
    const struct lcl_gguf_value *v = lcl_gguf_find(g, key);
    size_t length, bytes = 0;
    *list = NULL;
    *n = 0;
    if (!v) return LCL_OK;
    if (v->kind != LCL_GGUF_ARRAY || v->element != LCL_GGUF_STRING)
        return wrong(g, v, "an array of strings");
    const unsigned char *p = v->data;
    for (size_t i = 0; i < v->n; i++) {
        const char *s = next_text(&p, &length);
        if (memchr(s, 0, length))
            return LCL_FAIL(LCL_FORMAT, "%s: %s[%zu] holds a NUL byte", g->path, key, i);
        bytes += length + 1;
    }
    char **texts = malloc((v->n + 1) * sizeof *texts + bytes);
    if (!texts) return LCL_FAIL(LCL_MEMORY, "no memory for %s of %s", key, g->path);
    char *at = (char *)(texts + v->n + 1);
    p = v->data;
    for (size_t i = 0; i < v->n; i++) {
        const char *s = next_text(&p, &length);
        texts[i] = at;
        memcpy(at, s, length);
        at[length] = '\0';
        at += length + 1;
    }
    texts[v->n] = NULL;
    *list = texts;
    *n = v->n;
    return LCL_OK;
}

lcl_status lcl_gguf_get_numbers(const struct lcl_gguf *g, const char *key, double **list, size_t *n)
{
    const struct lcl_gguf_value *v = lcl_gguf_find(g, key);
    double x;
    *list = NULL;
    *n = 0;
    if (!v) return LCL_OK;
    if (v->kind != LCL_GGUF_ARRAY || (v->n > 0 && !lcl_gguf_number(v, 0, &x)))
        return wrong(g, v, "an array of numbers");
    *list = malloc((v->n + 1) * sizeof **list);
    if (!*list) return LCL_FAIL(LCL_MEMORY, "no memory for %s of %s", key, g->path);
    for (*n = 0; *n < v->n; ++*n) (void)lcl_gguf_number(v, *n, *list + *n);
    return LCL_OK;
}
