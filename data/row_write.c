#include "data/row_write.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/fs.h"
#include "core/rng.h"

enum { GOT_BYTES = 60, MAX_FILE_BYTES = 4 << 20, MAX_TEMPLATES = 4096, MAX_NAME_BYTES = 1024 };
enum { MAX_BOXES = 256 };

/* ---- keys ---- */

lcl_status row_wrong(const struct row *r, const char *key, const char *wanted, const json_t *got)
{
    char *text = got ? json_dumps(got, JSON_ENCODE_ANY | JSON_REAL_PRECISION(6)) : NULL;
    const struct lcl_row_context *c = r->context;
    lcl_status status =
        LCL_FAIL_HINT(LCL_FORMAT, "mend the row, or leave such rows out with --skip-bad",
                      "%s:%lld: row %lld: \"%s\": wanted %s, got %.*s%s", c->path,
                      (long long)c->line, (long long)c->row, key, wanted, GOT_BYTES,
                      text ? text : "nothing", text && strlen(text) > GOT_BYTES ? "..." : "");
    free(text);
    return status;
}

lcl_status row_text(const struct row *r, const json_t *in, const char *key, const char **text)
{
    const json_t *v = json_object_get(in, key);
    *text = json_string_value(v);
    if (*text && (*text)[strspn(*text, " \t\r\n")]) return LCL_OK;
    return row_wrong(r, key, "a text", v);
}

lcl_status row_list(const struct row *r, const json_t *in, const char *key, size_t least,
                    const json_t **list)
{
    *list = json_object_get(in, key);
    if (json_is_array(*list) && json_array_size(*list) >= least) return LCL_OK;
    return row_wrong(r, key, least > 1 ? "a longer list" : "a list", *list);
}

const json_t *row_either(const json_t *in, const char *a, const char *b, const char **key)
{
    const json_t *v = json_object_get(in, a);
    *key = v ? a : b;
    return v ? v : json_object_get(in, b);
}

const char *row_keep(struct row *r, char *text, size_t n)
{
    json_t *kept = text ? json_stringn(text, n) : NULL;
    free(text);
    if (!kept || json_array_append_new(r->kept, kept) != 0) return NULL;
    return json_string_value(kept);
}

const char *row_format(struct row *r, const char *fmt, ...)
{
    char *text = NULL;
    va_list args;
    va_start(args, fmt);
    int n = vasprintf(&text, fmt, args);
    va_end(args);
    return n < 0 ? NULL : row_keep(r, text, (size_t)n);
}

/* ---- pictures ---- */

static bool stays_below(const char *name)
{
    size_t n = strlen(name);
    if (n == 0 || n > MAX_NAME_BYTES || name[0] == '/') return false;
    for (const char *p = name; *p;) {
        size_t part = strcspn(p, "/");
        if (part == 2 && p[0] == '.' && p[1] == '.') return false;
        p += part + (p[part] == '/');
    }
    return true;
}

lcl_status row_picture(struct row *r, const char *key, const char *name)
{
    int64_t number = 0;
    int w = 0, h = 0;
    while (strncmp(name, "./", 2) == 0) name += 2;
    if (!stays_below(name)) {
        json_t *got = json_string(name);
        lcl_status status = row_wrong(r, key, "a path below the picture folder", got);
        json_decref(got);
        return status;
    }
    lcl_status status = r->context->picture(r->context->ctx, name, &number, &w, &h);
    if (status != LCL_OK)
        return lcl_fail_context(status, "%s:%lld: row %lld: \"%s\"", r->context->path,
                                (long long)r->context->line, (long long)r->context->row, key);
    if (json_array_size(r->images) == 0) {
        r->width = w;
        r->height = h;
    }
    if (json_array_append_new(r->images, json_integer(number)) == 0) return LCL_OK;
    return LCL_FAIL(LCL_MEMORY, "no memory for a row");
}

/* {id} and {id:12} of the pattern, filled with digits or a name. */
static lcl_status name_of(struct row *r, const char *key, const char *id, const char **name)
{
    const char *pattern = r->context->image_name, *mark = strstr(pattern, "{id");
    int width = 0, end = 0;
    if (!mark || (sscanf(mark, "{id:%2d}%n", &width, &end) != 1 && strncmp(mark, "{id}", 4) != 0) ||
        (end == 0 && width > 0))
        return LCL_FAIL_HINT(LCL_CONFIG, "for example COCO_train2014_{id:12}.jpg",
                             "--image-name %s says no {id} or {id:DIGITS}", pattern);
    int pad = width - (int)strlen(id);
    *name = row_format(r, "%.*s%.*s%s%s", (int)(mark - pattern), pattern, pad > 0 ? pad : 0,
                       "0000000000000000000000000000000000000000000000000000000000000000"
                       "000000000000000000000000000000000000",
                       id, mark + (end ? end : 4));
    return *name ? LCL_OK : LCL_FAIL(LCL_MEMORY, "no memory for a picture's name (%s)", key);
}

lcl_status row_picture_of(struct row *r, const json_t *in, const char *key)
{
    const json_t *v = json_object_get(in, key);
    const char *name = json_string_value(v);
    if (r->context->image_name && json_is_integer(v) && json_integer_value(v) >= 0)
        name = row_format(r, "%lld", (long long)json_integer_value(v));
    if (!name || !*name)
        return row_wrong(r, key, r->context->image_name ? "a picture's number" : "a path", v);
    if (r->context->image_name) LCL_TRY(name_of(r, key, name, &name));
    return row_picture(r, key, name);
}

/* ---- boxes ---- */

/* A coordinate as a fraction of the padded side; two pixels beyond the picture are rounding. */
static bool fraction(const json_t *v, int length, int side, double *out)
{
    double x = json_number_value(v);
    if (!json_is_number(v) || !isfinite(x)) return false;
    if (length == 0) { /* not yet known */
        *out = 0;
        return true;
    }
    if (x < -2 || x > length + 2) return false;
    x = fmin(fmax(x, 0), length);
    *out = (x + (double)((side - length) / 2)) / side;
    return true;
}

static bool place(const struct row *r, const json_t *x, const json_t *y, double out[2])
{
    int side = r->width > r->height ? r->width : r->height;
    return fraction(x, r->width, side, &out[0]) && fraction(y, r->height, side, &out[1]);
}

static lcl_status one_box(struct row *r, const char *key, const json_t *box, double b[4])
{
    bool ok = json_is_array(box) && json_array_size(box) >= 4 &&
              place(r, json_array_get(box, 0), json_array_get(box, 1), b) &&
              place(r, json_array_get(box, 2), json_array_get(box, 3), b + 2) && b[0] <= b[2] &&
              b[1] <= b[3];
    if (!ok && r->width)
        return row_wrong(r, key,
                         row_format(r, "[x1, y1, x2, y2] in pixels of a picture of %d x %d",
                                    r->width, r->height),
                         box);
    if (!ok) return row_wrong(r, key, "[x1, y1, x2, y2] in pixels", box);
    json_t *kept = json_pack("[f, f, f, f]", b[0], b[1], b[2], b[3]);
    if (kept && json_array_append_new(r->boxes, kept) == 0) return LCL_OK;
    return LCL_FAIL(LCL_MEMORY, "no memory for a row");
}

lcl_status row_boxes(struct row *r, const char *key, const json_t *boxes, const json_t *which,
                     const char **text)
{
    size_t n = json_array_size(which ? which : boxes);
    const char *all = "[";
    if (n == 0 || n > MAX_BOXES) return row_wrong(r, key, "1 to 256 boxes", which ? which : boxes);
    for (size_t i = 0; i < n && all; i++) {
        const json_t *number = json_array_get(which, i);
        json_int_t k = which ? json_integer_value(number) : (json_int_t)i;
        double b[4];
        if (which && (!json_is_integer(number) || k < 0 || (size_t)k >= json_array_size(boxes)))
            return row_wrong(r, key, "numbers of boxes that are there", which);
        LCL_TRY(one_box(r, key, json_array_get(boxes, (size_t)k), b));
        all = row_format(r, "%s%s%.3f,%.3f,%.3f,%.3f", all, i ? ";" : "", b[0], b[1], b[2], b[3]);
    }
    *text = all ? row_format(r, "%s]", all) : NULL;
    return *text ? LCL_OK : LCL_FAIL(LCL_MEMORY, "no memory for a row");
}

lcl_status row_box(struct row *r, const char *key, const json_t *box, const char **text)
{
    double b[4];
    LCL_TRY(one_box(r, key, box, b));
    *text = row_format(r, "[%.3f,%.3f,%.3f,%.3f]", b[0], b[1], b[2], b[3]);
    return *text ? LCL_OK : LCL_FAIL(LCL_MEMORY, "no memory for a row");
}

lcl_status row_point(struct row *r, const char *key, const json_t *point, const char **text)
{
    double p[2];
    bool list = json_is_array(point);
    const json_t *x = list ? json_array_get(point, 0) : json_object_get(point, "x");
    const json_t *y = list ? json_array_get(point, 1) : json_object_get(point, "y");
    if (!place(r, x, y, p)) return row_wrong(r, key, "[x, y] in pixels of the picture", point);
    *text = row_format(r, "[%.3f,%.3f]", p[0], p[1]);
    return *text ? LCL_OK : LCL_FAIL(LCL_MEMORY, "no memory for a row");
}

/* ---- turns ---- */

lcl_status row_say(struct row *r, const char *role, const char *text, bool learned)
{
    if (!text) return LCL_FAIL(LCL_MEMORY, "no memory for a row");
    json_t *m = json_pack("{s:s, s:s}", "role", role, "content", text);
    if (m && !learned && strcmp(role, "assistant") == 0)
        json_object_set_new(m, "learn", json_false());
    if (m && json_array_append_new(r->messages, m) == 0) return LCL_OK;
    return LCL_FAIL(LCL_MEMORY, "no memory for a row");
}

static const char *const places[] = {"<question>", "<expr>", "<objs>", "<boxes>", "<points>"};
enum { N_PLACES = sizeof places / sizeof *places };

/* The template with what stands in its places; a value is not read again. */
static const char *fill(struct row *r, const char *t, const char *const values[N_PLACES])
{
    const char *out = "";
    while (*t && out) {
        int k = 0;
        while (k < N_PLACES && strncmp(t, places[k], strlen(places[k])) != 0) k++;
        size_t plain = k < N_PLACES ? 0 : 1 + strcspn(t + 1, "<");
        out = k < N_PLACES ? row_format(r, "%s%s", out, values[k] ? values[k] : "")
                           : row_format(r, "%s%.*s", out, (int)plain, t);
        t += k < N_PLACES ? strlen(places[k]) : plain;
    }
    return out;
}

lcl_status row_ask(struct row *r, const struct row_fills *f, const char *answer)
{
    const struct lcl_row_context *c = r->context;
    const char *const values[N_PLACES] = {f->question, f->expr, f->objs, f->boxes, f->points};
    size_t n = 0;
    while (!c->templates && c->format->templates[n]) n++;
    if (c->templates) n = json_array_size(c->templates);
    struct lcl_rng rng = lcl_rng_stream(0, LCL_RNG_QUESTION, 0, (uint64_t)c->row);
    size_t k = lcl_rng_below(&rng, (uint32_t)n);
    const char *t =
        c->templates ? json_string_value(json_array_get(c->templates, k)) : c->format->templates[k];
    LCL_TRY(row_say(r, "user", fill(r, t, values), false));
    return row_say(r, "assistant", answer, true);
}

lcl_status lcl_row_templates_load(const char *path, const struct lcl_row_format *format,
                                  struct lcl_row_templates *t)
{
    char *text = NULL;
    size_t size;
    json_error_t error;
    *t = (struct lcl_row_templates){0};
    if (!format->templates)
        return LCL_FAIL(LCL_CONFIG, "--templates: rows of --format %s bring their own texts",
                        format->name);
    LCL_TRY(lcl_fs_read(path, MAX_FILE_BYTES, &text, &size));
    t->list = json_loadb(text, size, JSON_REJECT_DUPLICATES, &error);
    free(text);
    if (!t->list) return LCL_FAIL(LCL_FORMAT, "%s:%d: %s", path, error.line, error.text);
    size_t n = json_array_size(t->list);
    lcl_status status = LCL_OK;
    if (!json_is_array(t->list) || n == 0 || n > MAX_TEMPLATES)
        status = LCL_FAIL(LCL_FORMAT, "%s: wanted a list of 1 to %d texts", path, MAX_TEMPLATES);
    for (size_t i = 0; i < n && status == LCL_OK; i++) {
        const char *one = json_string_value(json_array_get(t->list, i));
        const char *image = one ? strstr(one, "<image>") : NULL;
        if (!image || strstr(image + 1, "<image>") ||
            (format->needs && !strstr(one, format->needs)))
            status = LCL_FAIL(LCL_FORMAT, "%s: text %zu: wanted <image> once%s%s", path, i + 1,
                              format->needs ? " and " : "", format->needs ? format->needs : "");
    }
    if (status != LCL_OK) {
        json_decref(t->list);
        t->list = NULL;
    }
    return status;
}

/* ---- a row ---- */

static size_t times_image(const json_t *messages)
{
    size_t n = 0;
    for (size_t i = 0; i < json_array_size(messages); i++)
        for (const char *t =
                 json_string_value(json_object_get(json_array_get(messages, i), "content"));
             t && (t = strstr(t, "<image>")); t += strlen("<image>"))
            n++;
    return n;
}

static lcl_status check_marks(const struct row *r)
{
    size_t marks = times_image(r->messages), n = json_array_size(r->images);
    if (marks == n) return LCL_OK;
    return LCL_FAIL_HINT(LCL_FORMAT, "each picture stands where the text says <image>",
                         "%s:%lld: row %lld: %zu pictures, and %zu times <image> in its texts",
                         r->context->path, (long long)r->context->line, (long long)r->context->row,
                         n, marks);
}

/* Users and assistants in turn behind a system message, an answer last; or an answer alone. */
static lcl_status check_turns(const struct row *r)
{
    size_t n = json_array_size(r->messages), turn = 0;
    bool learned = false, ok = n > 0;
    for (size_t i = 0; i < n && ok; i++) {
        const json_t *m = json_array_get(r->messages, i);
        const char *role = json_string_value(json_object_get(m, "role"));
        bool answer = strcmp(role, "assistant") == 0;
        learned |= answer && !json_object_get(m, "learn");
        if (strcmp(role, "system") == 0)
            ok = i == 0;
        else
            ok = n == 1 ? answer : strcmp(role, turn++ % 2 ? "assistant" : "user") == 0;
    }
    if (ok && learned && (n == 1 || turn % 2 == 0)) return LCL_OK;
    return LCL_FAIL(LCL_FORMAT,
                    "%s:%lld: row %lld: wanted users and assistants in turn behind a system "
                    "message at most, the last an answer, one of them learned",
                    r->context->path, (long long)r->context->line, (long long)r->context->row);
}

lcl_status lcl_row_convert(const struct lcl_row_context *context, const json_t *row, json_t **out)
{
    struct row r = {.context = context,
                    .in = row,
                    .messages = json_array(),
                    .images = json_array(),
                    .boxes = json_array(),
                    .kept = json_array()};
    bool made = r.messages && r.images && r.boxes && r.kept;
    lcl_status status =
        made ? context->format->convert(&r) : LCL_FAIL(LCL_MEMORY, "no memory for a row");
    if (status == LCL_OK) status = check_turns(&r);
    if (status == LCL_OK) status = check_marks(&r);
    *out = status == LCL_OK ? json_pack("{s:O, s:O, s:I}", "messages", r.messages, "images",
                                        r.images, "line", (json_int_t)context->line)
                            : NULL;
    if (*out && json_array_size(r.boxes) > 0) json_object_set(*out, "boxes", r.boxes);
    if (status == LCL_OK && !*out) status = LCL_FAIL(LCL_MEMORY, "no memory for a row");
    json_decref(r.messages);
    json_decref(r.images);
    json_decref(r.boxes);
    json_decref(r.kept);
    return status;
}
