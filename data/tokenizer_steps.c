/* The text steps of a tokenizer: normalizers, pre-tokenizers and decoders, over lists of pieces. */
#include <stdlib.h>
#include <string.h>

#include "data/tokenizer_internal.h"

int tok_utf8(const char *s, size_t n, uint32_t *code)
{
    const uint8_t *u = (const uint8_t *)s;
    if (n == 0) return 0;
    int size = u[0] < 0x80   ? 1
               : u[0] < 0xc2 ? 0
               : u[0] < 0xe0 ? 2
               : u[0] < 0xf0 ? 3
               : u[0] < 0xf5 ? 4
                             : 0;
    if (size == 0 || (size_t)size > n) return 0;
    uint32_t c = size == 1 ? u[0] : u[0] & (0xffu >> (size + 1));
    for (int i = 1; i < size; i++) {
        if ((u[i] & 0xc0) != 0x80) return 0;
        c = c << 6 | (u[i] & 0x3f);
    }
    if ((size == 3 && (c < 0x800 || (c >= 0xd800 && c < 0xe000))) ||
        (size == 4 && (c < 0x10000 || c > 0x10ffff)))
        return 0;
    if (code) *code = c;
    return size;
}

size_t tok_utf8_put(uint32_t c, char out[4])
{
    if (c < 0x80) {
        out[0] = (char)c;
        return 1;
    }
    size_t size = c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
    for (size_t i = size - 1; i > 0; i--, c >>= 6) out[i] = (char)(0x80 | (c & 0x3f));
    out[0] = (char)((0xf00u >> size & 0xffu) | c);
    return size;
}

/* GPT-2's printable stand-ins: visible Latin-1 as itself, the other bytes from U+0100 on. */
static bool stands_for_itself(unsigned b)
{
    return (b >= 33 && b <= 126) || (b >= 161 && b <= 172) || b >= 174;
}

uint32_t tok_byte_char(uint8_t byte)
{
    if (stands_for_itself(byte)) return byte;
    uint32_t n = 256;
    for (unsigned b = 0; b < byte; b++) n += !stands_for_itself(b);
    return n;
}

/* The byte a stand-in stands for, or -1. */
static int byte_of_char(uint32_t c)
{
    if (c < 256) return stands_for_itself(c) ? (int)c : -1;
    if (c > 256 + 67) return -1;
    uint32_t n = 256;
    for (int b = 0; b < 256; b++)
        if (!stands_for_itself((unsigned)b) && n++ == c) return b;
    return -1;
}

lcl_status tok_pieces_text(struct tok_pieces *p, const char *s, size_t n)
{
    if (p->most > 0 && n > p->most - p->size)
        return LCL_FAIL_HINT(LCL_RANGE, "its tokenizer.json is damaged, or made to do harm",
                             "the tokenizer's steps make a text larger than %zu bytes", p->most);
    if (p->size + n + 1 > p->cap) {
        size_t cap = 2 * (p->size + n) + 256;
        char *text = realloc(p->text, cap);
        if (!text) return LCL_FAIL(LCL_MEMORY, "no memory for a text of %zu bytes", n);
        p->text = text;
        p->cap = cap;
    }
    if (n) memcpy(p->text + p->size, s, n);
    p->size += n;
    p->text[p->size] = 0;
    return LCL_OK;
}

lcl_status tok_pieces_end(struct tok_pieces *p, size_t begin, bool first)
{
    if (p->n == p->cap_v) {
        size_t cap = 2 * p->cap_v + 16;
        struct tok_piece *v = realloc(p->v, cap * sizeof *v);
        if (!v) return LCL_FAIL(LCL_MEMORY, "no memory for %zu pieces of text", cap);
        p->v = v;
        p->cap_v = cap;
    }
    p->v[p->n++] = (struct tok_piece){.at = begin, .size = p->size - begin, .first = first};
    return LCL_OK;
}

lcl_status tok_pieces_add(struct tok_pieces *p, const char *s, size_t n, bool first)
{
    size_t begin = p->size;
    LCL_TRY(tok_pieces_text(p, s, n));
    return tok_pieces_end(p, begin, first);
}

void tok_pieces_clear(struct tok_pieces *p) { p->size = p->n = 0; }

void tok_pieces_free(struct tok_pieces *p)
{
    free(p->text);
    free(p->v);
    *p = (struct tok_pieces){0};
}

lcl_status tok_steps_push(struct tok_steps *s, struct tok_step **step)
{
    struct tok_step *v = realloc(s->v, (size_t)(s->n + 1) * sizeof *v);
    if (!v) return LCL_FAIL(LCL_MEMORY, "no memory for the tokenizer's steps");
    s->v = v;
    *step = &v[s->n++];
    **step = (struct tok_step){0};
    return LCL_OK;
}

void tok_steps_free(struct tok_steps *s)
{
    for (int i = 0; i < s->n; i++) {
        pcre2_code_free(s->v[i].regex);
        free(s->v[i].pattern);
        free(s->v[i].content);
    }
    free(s->v);
    *s = (struct tok_steps){0};
}

lcl_status tok_step_set(char **field, size_t *size, const char *s, size_t n)
{
    free(*field);
    *field = malloc(n + 1);
    if (!*field) return LCL_FAIL(LCL_MEMORY, "no memory for the tokenizer's steps");
    memcpy(*field, s, n);
    (*field)[n] = 0;
    *size = n;
    return LCL_OK;
}

lcl_status tok_step_regex(struct tok_step *step, const char *pattern, size_t n)
{
    int code;
    PCRE2_SIZE at;
    step->regex = pcre2_compile((PCRE2_SPTR)pattern, n, PCRE2_UTF | PCRE2_UCP, &code, &at, NULL);
    if (!step->regex) {
        char why[128];
        pcre2_get_error_message(code, (PCRE2_UCHAR *)why, sizeof why);
        return LCL_FAIL(LCL_FORMAT, "bad regular expression \"%.*s\" at character %zu: %s",
                        (int)(n < 200 ? n : 200), pattern, (size_t)at, why);
    }
    /* Without a JIT it is matched all the same, only slower. */
    (void)pcre2_jit_compile(step->regex, PCRE2_JIT_COMPLETE);
    return LCL_OK;
}

/* Finds matches of a step's pattern one after another. */
struct finder {
    const struct tok_step *step;
    const char *s;
    size_t n, at;
    pcre2_match_data *data;
    pcre2_match_context *context;
};

static lcl_status finder_begin(struct finder *f, const struct tok_step *step, const char *s,
                               size_t n)
{
    *f = (struct finder){.step = step, .s = s, .n = n};
    if (!step->regex) return LCL_OK;
    f->data = pcre2_match_data_create_from_pattern(step->regex, NULL);
    f->context = pcre2_match_context_create(NULL);
    if (!f->data || !f->context) return LCL_FAIL(LCL_MEMORY, "no memory to match a pattern");
    /* A hostile pattern must not run for ever; an honest one takes a few steps a byte. */
    pcre2_set_match_limit(f->context, 1000000 + 16 * (uint32_t)(n < 1 << 26 ? n : 1 << 26));
    return LCL_OK;
}

static void finder_end(struct finder *f)
{
    pcre2_match_data_free(f->data);
    pcre2_match_context_free(f->context);
}

/* The next match that is not empty; *begin == n when there is none. */
static lcl_status finder_next(struct finder *f, size_t *begin, size_t *end)
{
    *begin = *end = f->n;
    if (!f->step->regex) {
        const struct tok_step *p = f->step;
        if (p->pattern_size == 0 || f->at >= f->n) return LCL_OK;
        const char *hit = memmem(f->s + f->at, f->n - f->at, p->pattern, p->pattern_size);
        if (!hit) return LCL_OK;
        *begin = (size_t)(hit - f->s);
        *end = f->at = *begin + p->pattern_size;
        return LCL_OK;
    }
    while (f->at < f->n) {
        int rc = pcre2_match(f->step->regex, (PCRE2_SPTR)f->s, f->n, f->at, PCRE2_NO_UTF_CHECK,
                             f->data, f->context);
        if (rc == PCRE2_ERROR_JIT_STACKLIMIT) /* the interpreter keeps its stack on the heap */
            rc = pcre2_match(f->step->regex, (PCRE2_SPTR)f->s, f->n, f->at,
                             PCRE2_NO_UTF_CHECK | PCRE2_NO_JIT, f->data, f->context);
        if (rc == PCRE2_ERROR_NOMATCH) return LCL_OK;
        if (rc < 0)
            return LCL_FAIL(LCL_FORMAT, "the tokenizer's pattern failed on a text (PCRE2 error %d)",
                            rc);
        const PCRE2_SIZE *v = pcre2_get_ovector_pointer(f->data);
        if (v[1] > v[0] && v[0] >= f->at) {
            *begin = v[0];
            *end = f->at = v[1];
            return LCL_OK;
        }
        int size = tok_utf8(f->s + f->at, f->n - f->at, NULL);
        f->at += size ? (size_t)size : 1;
    }
    return LCL_OK;
}

static lcl_status run_replace(const struct tok_step *step, const char *s, size_t n, bool first,
                              struct tok_pieces *out)
{
    struct finder f;
    lcl_status status;
    size_t begin = 0, end = 0, done = 0, piece = out->size;
    LCL_TRY_GOTO(finder_begin(&f, step, s, n));
    for (;;) {
        LCL_TRY_GOTO(finder_next(&f, &begin, &end));
        LCL_TRY_GOTO(tok_pieces_text(out, s + done, begin - done));
        if (begin == n) break;
        LCL_TRY_GOTO(tok_pieces_text(out, step->content, step->content_size));
        done = end;
    }
    LCL_TRY_GOTO(tok_pieces_end(out, piece, first));
out:
    finder_end(&f);
    return status;
}

/* A stretch of text: a match or what lies between two. */
struct stretch {
    size_t begin, end;
    bool match;
};
struct stretches {
    struct stretch *v;
    size_t n, cap;
};

static lcl_status stretch_add(struct stretches *l, size_t begin, size_t end, bool match)
{
    if (begin == end) return LCL_OK;
    if (l->n == l->cap) {
        size_t cap = 2 * l->cap + 16;
        struct stretch *v = realloc(l->v, cap * sizeof *v);
        if (!v) return LCL_FAIL(LCL_MEMORY, "no memory to split a text");
        l->v = v;
        l->cap = cap;
    }
    l->v[l->n++] = (struct stretch){begin, end, match};
    return LCL_OK;
}

/* Joins stretches in place as the step's behavior says; returns how many are left. */
static size_t join_stretches(enum tok_behavior behavior, struct stretch *v, size_t n)
{
    size_t m = 0;
    bool previous = false;
    switch (behavior) {
    case TOK_ISOLATED:
        return n;
    case TOK_REMOVED:
        for (size_t i = 0; i < n; i++)
            if (!v[i].match) v[m++] = v[i];
        return m;
    case TOK_CONTIGUOUS:
        for (size_t i = 0; i < n; i++) {
            if (m > 0 && v[m - 1].match == v[i].match)
                v[m - 1].end = v[i].end;
            else
                v[m++] = v[i];
        }
        return m;
    case TOK_WITH_PREVIOUS:
        for (size_t i = 0; i < n; i++) {
            bool match = v[i].match;
            if (match && !previous && m > 0)
                v[m - 1].end = v[i].end;
            else
                v[m++] = v[i];
            previous = match;
        }
        return m;
    case TOK_WITH_NEXT: /* as above from the back; kept stretches gather at the end */
        m = n;
        for (size_t i = n; i-- > 0;) {
            bool match = v[i].match;
            if (match && !previous && m < n)
                v[m].begin = v[i].begin;
            else
                v[--m] = v[i];
            previous = match;
        }
        memmove(v, v + m, (n - m) * sizeof *v);
        return n - m;
    }
    return n;
}

static lcl_status run_split(const struct tok_step *step, const char *s, size_t n, bool first,
                            struct tok_pieces *out)
{
    struct finder f;
    struct stretches l = {0};
    lcl_status status;
    size_t begin = 0, end = 0, done = 0;
    LCL_TRY_GOTO(finder_begin(&f, step, s, n));
    while (done < n) {
        LCL_TRY_GOTO(finder_next(&f, &begin, &end));
        LCL_TRY_GOTO(stretch_add(&l, done, begin, step->invert));
        LCL_TRY_GOTO(stretch_add(&l, begin, end, !step->invert));
        done = end;
    }
    l.n = join_stretches(step->behavior, l.v, l.n);
    for (size_t i = 0; i < l.n; i++)
        LCL_TRY_GOTO(tok_pieces_add(out, s + l.v[i].begin, l.v[i].end - l.v[i].begin,
                                    first && l.v[i].begin == 0));
out:
    finder_end(&f);
    free(l.v);
    return status;
}

static lcl_status run_prepend(const struct tok_step *step, bool continued, const char *s, size_t n,
                              bool first, struct tok_pieces *out)
{
    bool there = n >= step->content_size && memcmp(s, step->content, step->content_size) == 0;
    bool wanted = n > 0 && !continued && (step->prepend == TOK_PREPEND_PLAIN || !there) &&
                  (step->prepend != TOK_PREPEND_FIRST || first);
    size_t begin = out->size;
    if (wanted) LCL_TRY(tok_pieces_text(out, step->content, step->content_size));
    LCL_TRY(tok_pieces_text(out, s, n));
    return tok_pieces_end(out, begin, first);
}

static lcl_status run_byte_chars(const char *s, size_t n, bool first, struct tok_pieces *out)
{
    size_t begin = out->size;
    for (size_t i = 0; i < n; i++) {
        char c[4];
        LCL_TRY(tok_pieces_text(out, c, tok_utf8_put(tok_byte_char((uint8_t)s[i]), c)));
    }
    return tok_pieces_end(out, begin, first);
}

static lcl_status run_lower(const char *s, size_t n, bool first, struct tok_pieces *out)
{
    size_t begin = out->size;
    for (size_t i = 0, size; i < n; i += size) {
        uint32_t code = 0;
        char c[4];
        size = (size_t)tok_utf8(s + i, n - i, &code);
        if (size == 0) return LCL_FAIL(LCL_FORMAT, "text is not UTF-8 at byte %zu", i);
        if (code == 0x130) /* i and a dot above */
            LCL_TRY(tok_pieces_text(out, "i\xcc\x87", 3));
        else
            LCL_TRY(tok_pieces_text(out, c, tok_utf8_put(tok_lower(code), c)));
    }
    return tok_pieces_end(out, begin, first);
}

/* Texts as they are typed have normal form C already; others are refused rather than taken for
 * what they are not. */
static lcl_status run_nfc(const char *s, size_t n, bool first, struct tok_pieces *out)
{
    bool mark = false;
    for (size_t i = 0, size; i < n; i += size) {
        uint32_t code = 0;
        size = (size_t)tok_utf8(s + i, n - i, &code);
        if (size == 0) return LCL_FAIL(LCL_FORMAT, "text is not UTF-8 at byte %zu", i);
        if (tok_nfc_may_change(code, &mark))
            return LCL_FAIL_HINT(LCL_UNSUPPORTED, "write the text in Unicode normal form C",
                                 "U+%04X at byte %zu: the tokenizer asks for normal form C, which "
                                 "may change it there",
                                 code, i);
    }
    return tok_pieces_add(out, s, n, first);
}

static lcl_status run_trim(const struct tok_step *step, const char *s, size_t n,
                           struct tok_pieces *out)
{
    const char *what = step->content;
    size_t size = step->content_size;
    for (int i = 0; i < step->start && n >= size && memcmp(s, what, size) == 0; i++) {
        s += size;
        n -= size;
    }
    for (int i = 0; i < step->stop && n >= size && memcmp(s + n - size, what, size) == 0; i++)
        n -= size;
    return tok_pieces_add(out, s, n, false);
}

/* Each maximal run of <0xNN> tokens becomes its text, or one U+FFFD a byte where that is not UTF-8.
 */
static int byte_token(const char *s, size_t n)
{
    static const char digits[] = "0123456789ABCDEF";
    if (n != 6 || memcmp(s, "<0x", 3) != 0 || s[5] != '>' || !s[3] || !s[4]) return -1;
    const char *high = strchr(digits, s[3]), *low = strchr(digits, s[4]);
    return high && low ? (int)((high - digits) * 16 + (low - digits)) : -1;
}

static lcl_status flush_bytes(const char *bytes, size_t n, struct tok_pieces *out)
{
    bool good = true;
    for (size_t i = 0; i < n && good;) {
        int size = tok_utf8(bytes + i, n - i, NULL);
        good = size > 0;
        i += (size_t)size;
    }
    if (good) return n ? tok_pieces_add(out, bytes, n, false) : LCL_OK;
    for (size_t i = 0; i < n; i++) LCL_TRY(tok_pieces_add(out, "\xef\xbf\xbd", 3, false));
    return LCL_OK;
}

static lcl_status run_from_bytes(const struct tok_pieces *in, struct tok_pieces *out)
{
    char *bytes = malloc(in->n + 1);
    size_t n = 0;
    lcl_status status = LCL_OK;
    if (!bytes) return LCL_FAIL(LCL_MEMORY, "no memory to decode %zu tokens", in->n);
    for (size_t i = 0; i < in->n; i++) {
        const char *s = in->text + in->v[i].at;
        int byte = byte_token(s, in->v[i].size);
        if (byte >= 0) {
            bytes[n++] = (char)byte;
            continue;
        }
        LCL_TRY_GOTO(flush_bytes(bytes, n, out));
        n = 0;
        LCL_TRY_GOTO(tok_pieces_add(out, s, in->v[i].size, false));
    }
    LCL_TRY_GOTO(flush_bytes(bytes, n, out));
out:
    free(bytes);
    return status;
}

/* Appends bytes as UTF-8, malformed ones as U+FFFD (one for each maximal prefix of a character). */
static lcl_status add_lossy(const char *s, size_t n, struct tok_pieces *out)
{
    for (size_t i = 0; i < n;) {
        int size = tok_utf8(s + i, n - i, NULL);
        if (size > 0) {
            LCL_TRY(tok_pieces_text(out, s + i, (size_t)size));
            i += (size_t)size;
            continue;
        }
        uint8_t b = (uint8_t)s[i];
        size_t want = b >= 0xf0 && b < 0xf5   ? 4
                      : b >= 0xe0 && b < 0xf0 ? 3
                      : b >= 0xc2 && b < 0xe0 ? 2
                                              : 1;
        uint8_t low = b == 0xe0 ? 0xa0 : b == 0xf0 ? 0x90 : 0x80;
        uint8_t high = b == 0xed ? 0x9f : b == 0xf4 ? 0x8f : 0xbf;
        size_t k = 1;
        while (k < want && i + k < n && (uint8_t)s[i + k] >= low && (uint8_t)s[i + k] <= high) {
            k++;
            low = 0x80;
            high = 0xbf;
        }
        LCL_TRY(tok_pieces_text(out, "\xef\xbf\xbd", 3));
        i += k;
    }
    return LCL_OK;
}

/* Byte stand-ins back to text; a token with any other character stands as it is. */
static lcl_status run_from_byte_chars(const struct tok_pieces *in, struct tok_pieces *out)
{
    char *bytes = malloc(in->size + 1);
    size_t n = 0;
    if (!bytes) return LCL_FAIL(LCL_MEMORY, "no memory to decode %zu bytes", in->size);
    for (size_t i = 0; i < in->n; i++) {
        const char *s = in->text + in->v[i].at;
        size_t size = in->v[i].size, mark = n;
        for (size_t k = 0; k < size;) {
            uint32_t c = 0;
            int step = tok_utf8(s + k, size - k, &c);
            int byte = step ? byte_of_char(c) : -1;
            if (byte < 0) {
                memcpy(bytes + mark, s, size);
                n = mark + size;
                break;
            }
            bytes[n++] = (char)byte;
            k += (size_t)step;
        }
    }
    size_t begin = out->size;
    lcl_status status = add_lossy(bytes, n, out);
    free(bytes);
    LCL_TRY(status);
    return tok_pieces_end(out, begin, false);
}

static lcl_status run_from_metaspace(const struct tok_step *step, size_t index, const char *s,
                                     size_t n, struct tok_pieces *out)
{
    size_t begin = out->size;
    bool drop = index == 0 && step->prepend != TOK_PREPEND_PLAIN;
    for (size_t i = 0; i < n;) {
        if (n - i >= step->pattern_size && memcmp(s + i, step->pattern, step->pattern_size) == 0) {
            if (!drop) LCL_TRY(tok_pieces_text(out, " ", 1));
            i += step->pattern_size;
        } else {
            LCL_TRY(tok_pieces_text(out, s + i++, 1));
        }
    }
    return tok_pieces_end(out, begin, false);
}

static lcl_status run_piece(const struct tok_step *step, bool continued, size_t index,
                            const struct tok_pieces *in, struct tok_pieces *out)
{
    const char *s = in->text + in->v[index].at;
    size_t n = in->v[index].size;
    bool first = in->v[index].first;
    switch (step->kind) {
    case TOK_PREPEND:
        return run_prepend(step, continued, s, n, first, out);
    case TOK_REPLACE:
        return run_replace(step, s, n, first, out);
    case TOK_SPLIT:
        return run_split(step, s, n, first, out);
    case TOK_BYTE_CHARS:
        return run_byte_chars(s, n, first, out);
    case TOK_LOWER:
        return run_lower(s, n, first, out);
    case TOK_NFC:
        return run_nfc(s, n, first, out);
    case TOK_TRIM:
        return run_trim(step, s, n, out);
    case TOK_FUSE:
        return tok_pieces_text(out, s, n);
    case TOK_FROM_METASPACE:
        return run_from_metaspace(step, index, s, n, out);
    case TOK_FROM_BYTES:
    case TOK_FROM_BYTE_CHARS:
        break; /* these see all pieces at once */
    }
    return LCL_FAIL(LCL_INTERNAL, "unknown step %d of a tokenizer", (int)step->kind);
}

lcl_status tok_steps_run(const struct tok_steps *s, bool continued, struct tok_pieces *p,
                         struct tok_pieces *other)
{
    /* An honest step makes three bytes of one; sixty that each double the text would fill memory.
     */
    p->most = other->most = 64 * p->size + 65536;
    for (int i = 0; i < s->n; i++) {
        const struct tok_step *step = &s->v[i];
        tok_pieces_clear(other);
        LCL_TRY(tok_pieces_text(other, "", 0));
        if (step->kind == TOK_FROM_BYTES)
            LCL_TRY(run_from_bytes(p, other));
        else if (step->kind == TOK_FROM_BYTE_CHARS)
            LCL_TRY(run_from_byte_chars(p, other));
        else
            for (size_t k = 0; k < p->n; k++) LCL_TRY(run_piece(step, continued, k, p, other));
        if (step->kind == TOK_FUSE) LCL_TRY(tok_pieces_end(other, 0, false));
        struct tok_pieces swap = *p;
        *p = *other;
        *other = swap;
    }
    return LCL_OK;
}
