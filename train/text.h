/* A growing text: what reports, metric lines and pictures of curves are written into.
 *
 * A failed allocation is remembered instead of returned, so that a page is written without a check
 * a line; lcl_text_check reports it once at the end. */
#ifndef LCL_TRAIN_TEXT_H
#define LCL_TRAIN_TEXT_H

#include "core/status.h"

struct lcl_text {
    char *data; /* NUL-terminated once anything was written; lcl_text_free */
    size_t size, cap;
    bool failed;
};

void lcl_text_free(struct lcl_text *t);
/* Empties the text and keeps its memory. */
void lcl_text_clear(struct lcl_text *t);
/* LCL_MEMORY when anything written so far did not fit. */
LCL_CHECKED lcl_status lcl_text_check(const struct lcl_text *t);

void lcl_text_bytes(struct lcl_text *t, const void *bytes, size_t size);
void lcl_text_puts(struct lcl_text *t, const char *s);
void lcl_text_printf(struct lcl_text *t, const char *fmt, ...) LCL_PRINTF(2, 3);
/* Text content or a double-quoted attribute of HTML and SVG: & < > " ' become entities; control
 * bytes and broken UTF-8 become U+FFFD. */
void lcl_text_html(struct lcl_text *t, const char *s);
/* A JSON string with its quotes; broken UTF-8 becomes U+FFFD. */
void lcl_text_json_string(struct lcl_text *t, const char *s);
/* A JSON number: integers without exponent, others with 9 digits, null for NaN and infinities. */
void lcl_text_json_number(struct lcl_text *t, double value);
void lcl_text_base64(struct lcl_text *t, const void *bytes, size_t size);
/* 12,345,678 */
void lcl_text_grouped(struct lcl_text *t, int64_t value);

/* Decodes base64 (RFC 4648, padded, no blanks) into malloc'd bytes; LCL_FORMAT names the first bad
 * character. */
LCL_CHECKED lcl_status lcl_base64_decode(const char *text, size_t length, uint8_t **bytes,
                                         size_t *size);

#endif
