/* The source `webdataset`: tar shards in which the files of a sample follow each other under one
 * name, as in 000017.jpg and 000017.cls. */
#include <ctype.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "core/fs.h"
#include "core/log.h"
#include "data/class_names.h"
#include "data/pack_source.h"
#include "data/shards.h"
#include "data/tar.h"

enum { MAX_LABEL_BYTES = 1 << 20 };

/* Which file of a sample says its class; a later one gives way to an earlier one. */
enum label_kind { LABEL_CLS, LABEL_JSON, LABEL_TXT, LABEL_NONE };

struct sample {
    char key[LCL_TAR_NAME_BYTES];
    char picture_name[LCL_TAR_NAME_BYTES];
    struct lcl_source_file picture; /* where it lies, once `has_picture` */
    int64_t picture_header, first_header;
    bool has_picture;
    enum label_kind kind;
    bool is_number;
    int64_t number;
    char text[LCL_CLASS_NAME_BYTES];
};

struct shards {
    struct lcl_listing *l;
    struct lcl_class_names names;
    bool named;
    size_t cut; /* bytes of every shard's path before what pictures' names begin with */
    int32_t shard;
    struct sample sample;
    struct lcl_progress progress;
    int64_t members;
};

/* ---- labels ---- */

static lcl_status bad_label(const struct lcl_tar *t, const struct lcl_tar_member *m,
                            const char *hint, const char *what)
{
    return LCL_FAIL_HINT(LCL_FORMAT, hint, "%s: member %s at byte %lld: %s", t->label, m->name,
                         (long long)m->header, what);
}

/* A class's name: a text of one line. */
static bool take_text(struct sample *x, const char *text, size_t n)
{
    if (n == 0 || n >= sizeof x->text) return false;
    for (size_t i = 0; i < n; i++)
        if ((unsigned char)text[i] < 0x20) return false;
    json_t *utf8 = json_stringn(text, n);
    if (!utf8) return false;
    json_decref(utf8);
    memcpy(x->text, text, n);
    x->text[n] = 0;
    x->is_number = false;
    return true;
}

static bool take_number(struct sample *x, const char *text, size_t n)
{
    if (n == 0 || n > 9 || strspn(text, "0123456789") < n) return false;
    x->number = strtol(text, NULL, 10);
    x->is_number = true;
    return true;
}

/* The class of a JSON object, under the first of its usual keys; false where it has none. */
static bool take_json(struct sample *x, const char *text, size_t n, const char **wrong)
{
    static const char *const keys[] = {"cls", "label", "class", "class_name", "class_id"};
    json_error_t error;
    json_t *all = json_loadb(text, n, JSON_REJECT_DUPLICATES, &error), *value = NULL;
    bool taken = false;
    if (!json_is_object(all)) *wrong = "is no JSON object";
    for (size_t i = 0; i < sizeof keys / sizeof *keys && !value; i++)
        value = json_object_get(all, keys[i]);
    if (json_is_integer(value)) {
        x->number = json_integer_value(value);
        x->is_number = taken = x->number >= 0 && x->number <= 999999999;
    } else if (json_is_string(value)) {
        taken = take_text(x, json_string_value(value), json_string_length(value));
    }
    if (value && !taken) *wrong = "its class is no number from 0 and no name of 1 to 127 bytes";
    json_decref(all);
    return taken;
}

static lcl_status take_label(struct sample *x, const struct lcl_tar *t,
                             const struct lcl_tar_member *m, enum label_kind kind)
{
    char *text;
    const char *wrong = NULL, *hint = NULL;
    bool taken = false;
    LCL_TRY(lcl_tar_read(t, m, MAX_LABEL_BYTES, &text));
    const char *p = text;
    size_t n = (size_t)m->size_bytes;
    while (n && isspace((unsigned char)*p)) p++, n--;
    while (n && isspace((unsigned char)p[n - 1])) n--;
    if (kind == LABEL_JSON) {
        taken = take_json(x, p, n, &wrong);
    } else if (kind == LABEL_CLS) {
        taken = take_number(x, p, n);
        if (!taken) wrong = "is no number of a class, from 0 on";
    } else {
        taken = take_text(x, p, n);
        if (!taken) wrong = "is no class name: one line of 1 to 127 bytes of UTF-8";
        hint = "captions are no classes: --format webdataset-captions packs them as rows";
    }
    if (taken) x->kind = kind;
    free(text);
    return wrong ? bad_label(t, m, hint, wrong) : LCL_OK;
}

/* ---- samples ---- */

static lcl_status class_of(struct shards *s, const struct sample *x, int32_t *c)
{
    char id[LCL_CLASS_NAME_BYTES];
    if (!x->is_number) {
        const struct lcl_class_name *known = lcl_class_names_find(&s->names, x->text);
        return lcl_listing_class(s->l, x->text, known ? known->name : x->text, c);
    }
    if (!s->named)
        return LCL_FAIL_HINT(LCL_NOT_FOUND,
                             "--class-names FILE, a name a line; with --class-names none they "
                             "are called by their numbers",
                             "class %lld is a number, and no file says what it is called",
                             (long long)x->number);
    snprintf(id, sizeof id, "%lld", (long long)x->number);
    if (!s->names.n) return lcl_listing_class(s->l, id, id, c);
    if (x->number >= s->names.n)
        return LCL_FAIL(LCL_FORMAT, "class %lld, but the file of names has %d, from 0 on",
                        (long long)x->number, s->names.n);
    const struct lcl_class_name *known = &s->names.list[x->number];
    return lcl_listing_class(s->l, known->id[0] ? known->id : id, known->name, c);
}

static lcl_status end_sample(struct shards *s, const struct lcl_tar *t)
{
    struct sample *x = &s->sample;
    int32_t c = 0;
    lcl_status status = LCL_OK;
    if (!x->key[0]) return LCL_OK;
    if (!x->has_picture) {
        s->l->n_other++;
    } else if (x->kind == LABEL_NONE) {
        status = LCL_FAIL_HINT(LCL_FORMAT, "files of a sample stand together: 17.jpg, 17.cls",
                               "%s: sample %s at byte %lld: a picture, but no class beside it in "
                               ".cls, .json or .txt",
                               t->label, x->key, (long long)x->first_header);
    } else {
        status = class_of(s, x, &c);
        if (status != LCL_OK)
            return lcl_fail_context(status, "%s: sample %s at byte %lld", t->label, x->key,
                                    (long long)x->first_header);
        char *name = lcl_strdupf("%s/%s", t->label + s->cut, x->picture_name);
        if (!name) return LCL_FAIL(LCL_MEMORY, "no memory for a name");
        status = lcl_listing_add_member(s->l, name, c, &x->picture);
        free(name);
    }
    x->key[0] = 0;
    return status;
}

static lcl_status take_file(struct shards *s, const struct lcl_tar *t,
                            const struct lcl_tar_member *m)
{
    struct sample *x = &s->sample;
    const size_t n = lcl_shards_key(m->name);
    const char *dot = m->name + n;
    enum label_kind kind = LABEL_NONE;
    if (n == 0) { /* __meta__ and the like */
        s->l->n_other++;
        return LCL_OK;
    }
    if (strlen(x->key) != n || memcmp(x->key, m->name, n) != 0) {
        LCL_TRY(end_sample(s, t));
        *x = (struct sample){.kind = LABEL_NONE, .first_header = m->header};
        memcpy(x->key, m->name, n);
    }
    if (strcasecmp(dot, ".cls") == 0) kind = LABEL_CLS;
    if (strcasecmp(dot, ".json") == 0) kind = LABEL_JSON;
    if (strcasecmp(dot, ".txt") == 0) kind = LABEL_TXT;
    if (kind < x->kind) return take_label(x, t, m, kind);
    if (strchr(dot + 1, '.') || !lcl_source_is_picture(m->name)) return LCL_OK;
    if (x->has_picture)
        return LCL_FAIL(LCL_FORMAT, "%s: sample %s has two pictures, at bytes %lld and %lld",
                        t->label, x->key, (long long)x->picture_header, (long long)m->header);
    x->has_picture = true;
    x->picture_header = m->header;
    memcpy(x->picture_name, m->name, strlen(m->name) + 1);
    x->picture = (struct lcl_source_file){.size_bytes = m->size_bytes,
                                          .mtime_ns = t->mtime_ns,
                                          .archive = s->shard,
                                          .offset = m->offset};
    return LCL_OK;
}

static lcl_status read_shard(struct shards *s, struct lcl_tar *t, int32_t shard)
{
    struct lcl_tar_member m;
    LCL_TRY(lcl_tar_open(s->l->archives[shard], t));
    lcl_status status = LCL_OK;
    s->shard = shard;
    s->sample.key[0] = 0;
    while (status == LCL_OK) {
        status = lcl_tar_next(t, &m);
        if (status != LCL_OK || !m.name) break;
        if (++s->members % 4096 == 0) lcl_progress_update(&s->progress, s->members, NULL);
        if (m.regular)
            status = take_file(s, t, &m);
        else
            s->l->n_other += m.other;
    }
    if (status == LCL_OK) status = end_sample(s, t);
    lcl_tar_close(t);
    return status;
}

lcl_status lcl_source_webdataset(const struct lcl_pack_options *o, struct lcl_listing *out)
{
    struct shards *s = calloc(1, sizeof *s);
    struct lcl_tar *t = malloc(sizeof *t);
    char *folder = NULL;
    lcl_status status = LCL_OK;
    if (!s || !t) {
        status = LCL_FAIL(LCL_MEMORY, "no memory for a list of shards");
        goto out;
    }
    s->l = out;
    if (o->labels) {
        status = LCL_FAIL(LCL_CONFIG, "--labels is for imagenet: shards hold their labels");
        goto out;
    }
    LCL_TRY_GOTO(lcl_shards_list(out, o->images));
    s->cut = lcl_shards_common(out);
    const char *first = out->archives[0];
    int upto = (int)(lcl_fs_basename(first) - first);
    folder = upto ? lcl_strdupf("%.*s", upto - 1, first) : lcl_strdupf(".");
    if (!folder) status = LCL_FAIL(LCL_MEMORY, "no memory for a path");
    LCL_TRY_GOTO(status);
    LCL_TRY_GOTO(lcl_class_names_choose(o->class_names, folder, &s->names, &s->named));
    lcl_progress_begin(&s->progress, "listing", "members", 0);
    for (int32_t i = 0; i < out->n_archives && status == LCL_OK; i++) status = read_shard(s, t, i);
    lcl_progress_end(&s->progress, NULL);
out:
    if (s) lcl_class_names_free(&s->names);
    free(folder);
    free(s);
    free(t);
    return status;
}
