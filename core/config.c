#include "core/config.h"

#include <assert.h>
#include <ctype.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "core/config_schema.h"

#define FIELD(field) offsetof(struct lcl_config, field)
#define S(title, doc) {title, LCL_KEY_SECTION, 0, 0, 0, "", NULL, doc},
#define K(kind, key, field, default_, low, high, doc) \
    {key, LCL_KEY_##kind, FIELD(field), low, high, DEFAULT_##kind(default_), NULL, doc},
#define E(key, field, default_, words, doc) \
    {key, LCL_KEY_WORD, FIELD(field), 0, 0, default_, words, doc},
#define L(key, field, default_, low, high, doc) \
    {key, LCL_KEY_LIST, FIELD(field), low, high, default_, NULL, doc},
#define DEFAULT_INT(x) #x
#define DEFAULT_FLOAT(x) #x
#define DEFAULT_BOOL(x) ((x) ? "true" : "false")
#define DEFAULT_STR(x) x
const struct lcl_key lcl_config_keys[] = {LCL_CONFIG_SECTIONS(S, K, E, L)};
#undef S
#undef K
#undef E
#undef L
const int lcl_config_n_keys = sizeof lcl_config_keys / sizeof lcl_config_keys[0];

int lcl_config_find(const char *name, size_t n)
{
    for (int i = 0; i < lcl_config_n_keys; i++) {
        const struct lcl_key *k = &lcl_config_keys[i];
        if (k->kind != LCL_KEY_SECTION && strlen(k->name) == n && memcmp(k->name, name, n) == 0)
            return i;
    }
    return -1;
}

const char *lcl_config_kind_text(enum lcl_key_kind kind)
{
    switch (kind) {
    case LCL_KEY_INT:
        return "a whole number";
    case LCL_KEY_FLOAT:
        return "a number";
    case LCL_KEY_BOOL:
        return "true or false";
    case LCL_KEY_STR:
        return "text";
    case LCL_KEY_WORD:
        return "a word";
    case LCL_KEY_LIST:
        return "a list of whole numbers";
    case LCL_KEY_SECTION:
        break;
    }
    return "";
}

enum { WORD_MAX = 80 };

static char plain_char(char c) { return c == '-' ? '_' : (char)tolower((unsigned char)c); }

/* Edits (insert, delete, replace, swap of neighbours) between two words, case and - against _
 * ignored. */
static int edit_distance(const char *a, const char *b)
{
    int rows[3][WORD_MAX + 1];
    int n = (int)strlen(a), m = (int)strlen(b);
    if (n > WORD_MAX || m > WORD_MAX) return INT_MAX;
    for (int j = 0; j <= m; j++) rows[0][j] = j;
    for (int i = 1; i <= n; i++) {
        int *now = rows[i % 3], *up = rows[(i + 2) % 3], *up2 = rows[(i + 1) % 3];
        now[0] = i;
        for (int j = 1; j <= m; j++) {
            char x = plain_char(a[i - 1]), y = plain_char(b[j - 1]);
            int best = up[j - 1] + (x != y);
            if (up[j] + 1 < best) best = up[j] + 1;
            if (now[j - 1] + 1 < best) best = now[j - 1] + 1;
            if (i > 1 && j > 1 && x == plain_char(b[j - 2]) && plain_char(a[i - 2]) == y &&
                up2[j - 2] + 1 < best)
                best = up2[j - 2] + 1;
            now[j] = best;
        }
    }
    return rows[n % 3][m];
}

const char *lcl_nearest_word(const char *word, const char *const *words, int n)
{
    const char *nearest = NULL;
    int best =
        (int)strlen(word) / 3 + 1; /* a third of the letters may be wrong, of short words one */
    for (int i = 0; i < n; i++) {
        int d = edit_distance(word, words[i]);
        if (d > best || d >= (int)strlen(words[i]) || (d == best && nearest)) continue;
        best = d;
        nearest = words[i];
    }
    return nearest;
}

lcl_status lcl_config_unknown_key(const char *name, const char *where)
{
    const char *full[256], *last[256];
    int n = 0;
    for (int i = 0; i < lcl_config_n_keys && n < 256; i++) {
        const struct lcl_key *k = &lcl_config_keys[i];
        if (k->kind == LCL_KEY_SECTION) continue;
        full[n] = k->name;
        last[n++] = strrchr(k->name, '.') ? strrchr(k->name, '.') + 1 : k->name;
    }
    const char *near = lcl_nearest_word(name, full, n);
    if (!near) { /* the right name in the wrong group: "shots" for "data.shots" */
        const char *dot = strrchr(name, '.');
        const char *part = lcl_nearest_word(dot ? dot + 1 : name, last, n);
        for (int i = 0; i < n && part && !near; i++)
            if (last[i] == part) near = full[i];
    }
    char hint[192] = "docs/config.md lists the keys";
    if (near) snprintf(hint, sizeof hint, "did you mean %s?", near);
    return LCL_FAIL_HINT(LCL_CONFIG, hint, "%s: unknown key %.100s", where, name);
}

static void *field_of(struct lcl_config *c, const struct lcl_key *key)
{
    return (char *)c + key->offset;
}

static const void *const_field_of(const struct lcl_config *c, const struct lcl_key *key)
{
    return (const char *)c + key->offset;
}

static lcl_status wrong_type(const struct lcl_key *key, const char *value, const char *where)
{
    return LCL_FAIL(LCL_CONFIG, "%s: %s is %s, not \"%.100s\"", where, key->name,
                    lcl_config_kind_text(key->kind), value);
}

static lcl_status out_of_range(const struct lcl_key *key, const char *value, const char *where)
{
    return LCL_FAIL(LCL_RANGE, "%s: %s is %.100s; it must be within %.15g..%.15g", where, key->name,
                    value, key->low, key->high);
}

/* A whole number that ends at *end; false when there is none. Out of int64's range it saturates. */
static bool read_int(const char *text, int64_t *v, const char **end)
{
    if (!isdigit((unsigned char)text[text[0] == '-' || text[0] == '+'])) return false;
    char *stop;
    *v = strtoll(text, &stop, 10);
    *end = stop;
    return true;
}

static lcl_status assign_int(int64_t *field, const struct lcl_key *key, const char *value,
                             const char *where)
{
    int64_t v;
    const char *end;
    if (!read_int(value, &v, &end) || *end) return wrong_type(key, value, where);
    if ((double)v < key->low || (double)v > key->high) return out_of_range(key, value, where);
    *field = v;
    return LCL_OK;
}

static lcl_status assign_float(double *field, const struct lcl_key *key, const char *value,
                               const char *where)
{
    /* strtod alone would also take "inf", "nan", hexadecimal and leading blanks. */
    if (!*value || value[strspn(value, "0123456789+-.eE")]) return wrong_type(key, value, where);
    char *end;
    double v = strtod(value, &end);
    if (*end || end == value) return wrong_type(key, value, where);
    if (!(v >= key->low && v <= key->high)) return out_of_range(key, value, where);
    *field = v;
    return LCL_OK;
}

static lcl_status assign_bool(bool *field, const struct lcl_key *key, const char *value,
                              const char *where)
{
    static const char *const words[] = {"false", "true", "no", "yes", "off", "on"};
    for (int i = 0; i < 6; i++) {
        if (strcasecmp(value, words[i])) continue;
        *field = i % 2;
        return LCL_OK;
    }
    return LCL_FAIL_HINT(LCL_CONFIG, "write true or false (yes, no, on, off are understood too)",
                         "%s: %s is true or false, not \"%.100s\"", where, key->name, value);
}

/* Length in bytes of the UTF-8 character at s, with its code point; 0 when malformed. */
static int utf8_char(const unsigned char *s, uint32_t *code)
{
    static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
    int n = s[0] < 0x80   ? 1
            : s[0] < 0xc2 ? 0
            : s[0] < 0xe0 ? 2
            : s[0] < 0xf0 ? 3
            : s[0] < 0xf5 ? 4
                          : 0;
    if (n < 2) {
        *code = s[0];
        return n;
    }
    uint32_t c = s[0] & (0xffu >> (n + 1));
    for (int i = 1; i < n; i++) {
        if ((s[i] & 0xc0) != 0x80) return 0;
        c = c << 6 | (s[i] & 0x3fu);
    }
    *code = c;
    return c < least[n] || c > 0x10ffff || (c >= 0xd800 && c < 0xe000) ? 0 : n;
}

static lcl_status assign_str(char *field, const struct lcl_key *key, const char *value,
                             const char *where)
{
    size_t n = strlen(value);
    if (n >= LCL_CONFIG_STR_BYTES)
        return LCL_FAIL(LCL_RANGE, "%s: %s has %zu bytes, at most %d", where, key->name, n,
                        LCL_CONFIG_STR_BYTES - 1);
    uint32_t code;
    for (size_t i = 0; i < n;) {
        int bytes = utf8_char((const unsigned char *)value + i, &code);
        if (!bytes) return LCL_FAIL(LCL_CONFIG, "%s: %s is not UTF-8 text", where, key->name);
        i += (size_t)bytes;
    }
    memset(field, 0, LCL_CONFIG_STR_BYTES);
    memcpy(field, value, n);
    return LCL_OK;
}

static lcl_status assign_word(int *field, const struct lcl_key *key, const char *value,
                              const char *where)
{
    char copy[256], hint[320];
    const char *words[32];
    int n = 0;
    snprintf(copy, sizeof copy, "%s", key->words);
    char *rest = NULL;
    for (char *w = strtok_r(copy, "|", &rest); w && n < 32; w = strtok_r(NULL, "|", &rest))
        words[n++] = w;
    for (int i = 0; i < n; i++) {
        if (strcmp(words[i], value)) continue;
        *field = i;
        return LCL_OK;
    }
    const char *near = lcl_nearest_word(value, words, n);
    if (near)
        snprintf(hint, sizeof hint, "did you mean %s?", near);
    else
        snprintf(hint, sizeof hint, "one of %s", key->words);
    return LCL_FAIL_HINT(LCL_CONFIG, hint, "%s: %s is one of %s, not \"%.100s\"", where, key->name,
                         key->words, value);
}

static lcl_status assign_list(struct lcl_int_list *field, const struct lcl_key *key,
                              const char *value, const char *where)
{
    struct lcl_int_list list = {0};
    const char *p = value;
    for (;;) {
        int64_t v;
        const char *end;
        p += strspn(p, " ");
        if (!read_int(p, &v, &end)) return wrong_type(key, value, where);
        if ((double)v < key->low || (double)v > key->high) {
            char item[32];
            snprintf(item, sizeof item, "%.*s", (int)(end - p), p);
            return out_of_range(key, item, where);
        }
        if (list.n == LCL_CONFIG_MAX_LIST)
            return LCL_FAIL(LCL_RANGE, "%s: %s has more than %d numbers", where, key->name,
                            LCL_CONFIG_MAX_LIST);
        list.v[list.n++] = v;
        p = end + strspn(end, " ");
        if (!*p) break;
        if (*p++ != ',') return wrong_type(key, value, where);
    }
    *field = list;
    return LCL_OK;
}

lcl_status lcl_config_assign(struct lcl_config *c, const struct lcl_key *key, const char *value,
                             const char *where)
{
    void *field = field_of(c, key);
    switch (key->kind) {
    case LCL_KEY_INT:
        return assign_int(field, key, value, where);
    case LCL_KEY_FLOAT:
        return assign_float(field, key, value, where);
    case LCL_KEY_BOOL:
        return assign_bool(field, key, value, where);
    case LCL_KEY_STR:
        return assign_str(field, key, value, where);
    case LCL_KEY_WORD:
        return assign_word(field, key, value, where);
    case LCL_KEY_LIST:
        return assign_list(field, key, value, where);
    case LCL_KEY_SECTION:
        break;
    }
    return LCL_FAIL(LCL_INTERNAL, "%s: %s is no key", where, key->name);
}

lcl_status lcl_config_set(struct lcl_config *c, const char *key, const char *value,
                          const char *where)
{
    int i = lcl_config_find(key, strlen(key));
    if (i < 0) return lcl_config_unknown_key(key, where);
    return lcl_config_assign(c, &lcl_config_keys[i], value, where);
}

void lcl_config_defaults(struct lcl_config *c)
{
    memset(c, 0, sizeof *c);
    for (int i = 0; i < lcl_config_n_keys; i++) {
        const struct lcl_key *key = &lcl_config_keys[i];
        if (key->kind == LCL_KEY_SECTION) continue;
        lcl_status status = lcl_config_assign(c, key, key->default_, "default");
        assert(status == LCL_OK);
        (void)status;
    }
}

static void format_float(double v, char *buf)
{
    for (int digits = 1; digits <= 17; digits++) { /* the shortest text that reads back the same */
        snprintf(buf, LCL_CONFIG_VALUE_BYTES, "%.*g", digits, v);
        if (strtod(buf, NULL) == v) return;
    }
}

const char *lcl_config_value(const struct lcl_config *c, const struct lcl_key *key, char *buf)
{
    const void *field = const_field_of(c, key);
    const struct lcl_int_list *list = field;
    const size_t size = LCL_CONFIG_VALUE_BYTES;
    const char *w;
    size_t at = 0;
    buf[0] = 0;
    switch (key->kind) {
    case LCL_KEY_INT:
        snprintf(buf, size, "%lld", (long long)*(const int64_t *)field);
        break;
    case LCL_KEY_FLOAT:
        format_float(*(const double *)field, buf);
        break;
    case LCL_KEY_BOOL:
        snprintf(buf, size, "%s", *(const bool *)field ? "true" : "false");
        break;
    case LCL_KEY_STR:
        snprintf(buf, size, "%s", (const char *)field);
        break;
    case LCL_KEY_WORD:
        w = key->words;
        for (int i = 0; i < *(const int *)field; i++) w = strchr(w, '|') + 1;
        snprintf(buf, size, "%.*s", (int)strcspn(w, "|"), w);
        break;
    case LCL_KEY_LIST:
        for (int i = 0; i < list->n; i++)
            at += (size_t)snprintf(buf + at, size - at, "%s%lld", i ? "," : "",
                                   (long long)list->v[i]);
        break;
    case LCL_KEY_SECTION:
        break;
    }
    return buf;
}

bool lcl_config_same(const struct lcl_config *a, const struct lcl_config *b,
                     const struct lcl_key *key)
{
    char x[LCL_CONFIG_VALUE_BYTES], y[LCL_CONFIG_VALUE_BYTES];
    return strcmp(lcl_config_value(a, key, x), lcl_config_value(b, key, y)) == 0;
}
