#include "train/text.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void lcl_text_free(struct lcl_text *t)
{
    free(t->data);
    *t = (struct lcl_text){0};
}

void lcl_text_clear(struct lcl_text *t)
{
    t->size = 0;
    t->failed = false;
}

lcl_status lcl_text_check(const struct lcl_text *t)
{
    if (!t->failed) return LCL_OK;
    return LCL_FAIL(LCL_MEMORY, "out of memory while writing a text of more than %zu bytes",
                    t->size);
}

/* Makes room for `extra` bytes and a NUL; false (and remembered) when there is none. */
static bool reserve(struct lcl_text *t, size_t extra)
{
    if (t->failed) return false;
    if (extra < t->cap && t->size < t->cap - extra) return true;
    if (extra > SIZE_MAX / 4 || t->size > SIZE_MAX / 4) {
        t->failed = true;
        return false;
    }
    size_t cap = t->cap ? t->cap : 256;
    while (cap <= t->size + extra) cap *= 2;
    char *data = realloc(t->data, cap);
    if (!data) {
        t->failed = true;
        return false;
    }
    t->data = data;
    t->cap = cap;
    return true;
}

void lcl_text_bytes(struct lcl_text *t, const void *bytes, size_t size)
{
    if (!reserve(t, size)) return;
    if (size) memcpy(t->data + t->size, bytes, size);
    t->size += size;
    t->data[t->size] = '\0';
}

void lcl_text_puts(struct lcl_text *t, const char *s) { lcl_text_bytes(t, s, strlen(s)); }

void lcl_text_printf(struct lcl_text *t, const char *fmt, ...)
{
    va_list args, again;
    va_start(args, fmt);
    va_copy(again, args);
    int n = vsnprintf(NULL, 0, fmt, args);
    va_end(args);
    if (n < 0) t->failed = true;
    if (n >= 0 && reserve(t, (size_t)n)) {
        vsnprintf(t->data + t->size, (size_t)n + 1, fmt, again);
        t->size += (size_t)n;
    }
    va_end(again);
}

/* Bytes of the well-formed UTF-8 character at s (RFC 3629), or 0. */
static size_t utf8_length(const unsigned char *s)
{
    if (s[0] < 0x80) return 1;
    size_t n = s[0] >= 0xC2 && s[0] <= 0xDF   ? 2
               : s[0] >= 0xE0 && s[0] <= 0xEF ? 3
               : s[0] >= 0xF0 && s[0] <= 0xF4 ? 4
                                              : 0;
    for (size_t i = 1; i < n; i++)
        if ((s[i] & 0xC0) != 0x80) return 0;
    if ((s[0] == 0xE0 && s[1] < 0xA0) || (s[0] == 0xED && s[1] > 0x9F)) return 0;
    if ((s[0] == 0xF0 && s[1] < 0x90) || (s[0] == 0xF4 && s[1] > 0x8F)) return 0;
    return n;
}

static const char replacement[] = "\xEF\xBF\xBD";

void lcl_text_html(struct lcl_text *t, const char *s)
{
    for (const unsigned char *p = (const unsigned char *)s; *p;) {
        size_t n = utf8_length(p);
        const char *entity = *p == '&'    ? "&amp;"
                             : *p == '<'  ? "&lt;"
                             : *p == '>'  ? "&gt;"
                             : *p == '"'  ? "&quot;"
                             : *p == '\'' ? "&#39;"
                                          : NULL;
        bool control = (*p < 0x20 && *p != '\n' && *p != '\t') || *p == 0x7F;
        if (entity)
            lcl_text_puts(t, entity);
        else if (!n || control)
            lcl_text_puts(t, replacement);
        else
            lcl_text_bytes(t, p, n);
        p += n ? n : 1;
    }
}

void lcl_text_json_string(struct lcl_text *t, const char *s)
{
    lcl_text_puts(t, "\"");
    for (const unsigned char *p = (const unsigned char *)s; *p;) {
        size_t n = utf8_length(p);
        if (*p == '"' || *p == '\\')
            lcl_text_printf(t, "\\%c", *p);
        else if (*p < 0x20)
            lcl_text_printf(t, "\\u%04x", *p);
        else if (!n)
            lcl_text_puts(t, replacement);
        else
            lcl_text_bytes(t, p, n);
        p += n ? n : 1;
    }
    lcl_text_puts(t, "\"");
}

/* As few as give the same number back. */
static int digits_of(double value)
{
    char text[40];
    int digits = 9;
    for (; digits < 17; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, value);
        if (strtod(text, NULL) == value) break;
    }
    return digits;
}

void lcl_text_json_number(struct lcl_text *t, double value)
{
    if (!isfinite(value))
        lcl_text_puts(t, "null");
    else if (floor(value) == value && fabs(value) < 9007199254740992.0)
        lcl_text_printf(t, "%lld", (long long)value);
    else
        lcl_text_printf(t, "%.*g", digits_of(value), value);
}

static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

void lcl_text_base64(struct lcl_text *t, const void *bytes, size_t size)
{
    const uint8_t *p = bytes;
    if (size > SIZE_MAX / 8 || !reserve(t, size / 3 * 4 + 4)) {
        t->failed = true;
        return;
    }
    for (size_t i = 0; i < size; i += 3) {
        size_t left = size - i;
        uint32_t v = (uint32_t)p[i] << 16;
        if (left > 1) v |= (uint32_t)p[i + 1] << 8;
        if (left > 2) v |= p[i + 2];
        char *out = t->data + t->size;
        out[0] = alphabet[v >> 18];
        out[1] = alphabet[v >> 12 & 63];
        out[2] = left > 1 ? alphabet[v >> 6 & 63] : '=';
        out[3] = left > 2 ? alphabet[v & 63] : '=';
        t->size += 4;
    }
    t->data[t->size] = '\0';
}

void lcl_text_grouped(struct lcl_text *t, int64_t value)
{
    char digits[32];
    int n = snprintf(digits, sizeof digits, "%lld", (long long)value);
    int start = digits[0] == '-';
    for (int i = 0; i < n; i++) {
        if (i > start && (n - i) % 3 == 0) lcl_text_puts(t, ",");
        lcl_text_bytes(t, digits + i, 1);
    }
}

lcl_status lcl_base64_decode(const char *text, size_t length, uint8_t **bytes, size_t *size)
{
    *bytes = NULL;
    *size = 0;
    if (length % 4) return LCL_FAIL(LCL_FORMAT, "base64 of %zu characters, not of 4 n", length);
    uint8_t *out = malloc(length / 4 * 3 + 1);
    if (!out) return LCL_FAIL(LCL_MEMORY, "out of memory for %zu base64 characters", length);
    size_t n = 0;
    for (size_t i = 0; i < length; i += 4) {
        size_t pad = i + 4 < length ? 0 : (text[i + 3] == '=') + (size_t)(text[i + 2] == '=');
        uint32_t v = 0;
        for (size_t k = 0; k < 4; k++) {
            char c = text[i + k];
            const char *at = c && k < 4 - pad ? strchr(alphabet, c) : NULL;
            if (!at && k < 4 - pad) {
                free(out);
                return LCL_FAIL(LCL_FORMAT, "bad base64 character 0x%02x at %zu", (unsigned char)c,
                                i + k);
            }
            v = v << 6 | (uint32_t)(at ? at - alphabet : 0);
        }
        for (size_t k = 0; k < 3 - pad; k++) out[n++] = (uint8_t)(v >> (16 - 8 * k));
    }
    *bytes = out;
    *size = n;
    return LCL_OK;
}
