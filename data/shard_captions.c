#include "data/shard_captions.h"

#include <ctype.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "core/fs.h"
#include "data/shards.h"
#include "data/tar.h"

enum { MAX_CAPTION_BYTES = 64 << 10, MAX_JSON_BYTES = 1 << 20, WRONG_BYTES = 160 };

/* The files of one name up to its first full stop. */
struct sample {
    char key[LCL_TAR_NAME_BYTES]; /* "": none */
    int64_t number, first_header;
    int n_pictures;
    bool of_txt; /* the captions are that of .txt */
    char picture[LCL_TAR_NAME_BYTES];
    struct lcl_source_file where;
    json_t *captions; /* list of texts; NULL: none yet */
    char wrong[WRONG_BYTES];
};

struct reader {
    const struct lcl_listing *l;
    const char *key;
    size_t cut; /* bytes of every shard's path before what pictures' names begin with */
    int32_t next_shard;
    int64_t n_samples; /* of the shard that is open */
    bool open;
    struct lcl_tar tar;
    struct sample sample[2]; /* that whose rows are told, and that which is being read */
    int told;                /* which is which */
    size_t next_caption;
};

/* ---- captions ---- */

/* A text without the blanks around it, in the sample's list. */
static void add_caption(struct sample *x, const char *text, size_t n)
{
    while (n && isspace((unsigned char)*text)) text++, n--;
    while (n && isspace((unsigned char)text[n - 1])) n--;
    json_t *caption = n && n <= MAX_CAPTION_BYTES ? json_stringn(text, n) : NULL;
    if (!x->captions) x->captions = json_array();
    if (caption && json_array_append_new(x->captions, caption) == 0) return;
    snprintf(x->wrong, sizeof x->wrong, "%s",
             n == 0                  ? "its caption is empty"
             : n > MAX_CAPTION_BYTES ? "its caption has over 64 KiB"
                                     : "its caption is no UTF-8");
}

static void add_value(struct sample *x, const char *key, const json_t *value)
{
    const size_t n = json_array_size(value);
    bool texts = json_is_string(value) || n > 0;
    for (size_t i = 0; i < n; i++) texts = texts && json_is_string(json_array_get(value, i));
    if (!texts) {
        snprintf(x->wrong, sizeof x->wrong, "\"%.60s\" of its .json is no text, nor a list of some",
                 key);
        return;
    }
    if (json_is_string(value)) add_caption(x, json_string_value(value), json_string_length(value));
    for (size_t i = 0; i < n; i++) {
        const json_t *one = json_array_get(value, i);
        add_caption(x, json_string_value(one), json_string_length(one));
    }
}

static void add_json(struct sample *x, const char *asked, const char *text, size_t n)
{
    static const char *const usual[] = {"caption", "captions", "text", "TEXT"};
    json_error_t error;
    json_t *all = json_loadb(text, n, JSON_REJECT_DUPLICATES, &error), *value = NULL;
    const char *key = asked;
    if (!json_is_object(all)) snprintf(x->wrong, sizeof x->wrong, "its .json is no JSON object");
    if (asked) value = json_object_get(all, asked);
    for (size_t i = 0; !asked && !value && i < sizeof usual / sizeof *usual; i++)
        value = json_object_get(all, key = usual[i]);
    if (value && !json_is_null(value)) add_value(x, key, value);
    json_decref(all);
}

/* .txt goes before .json, whichever comes first. */
static lcl_status take_text(struct reader *r, struct sample *x, const struct lcl_tar_member *m,
                            bool txt)
{
    char *text;
    if ((txt && r->key) || (!txt && x->of_txt)) return LCL_OK;
    if (m->size_bytes > MAX_JSON_BYTES) {
        snprintf(x->wrong, sizeof x->wrong, "its caption's file has over 1 MiB");
        return LCL_OK;
    }
    LCL_TRY(lcl_tar_read(&r->tar, m, MAX_JSON_BYTES, &text));
    if (txt) {
        json_decref(x->captions);
        x->captions = NULL;
        x->wrong[0] = 0;
        x->of_txt = true;
        add_caption(x, text, (size_t)m->size_bytes);
    } else {
        add_json(x, r->key, text, (size_t)m->size_bytes);
    }
    free(text);
    return LCL_OK;
}

/* ---- samples ---- */

static void clear(struct sample *x)
{
    json_decref(x->captions);
    *x = (struct sample){0};
}

static lcl_status take_file(struct reader *r, struct sample *x, const struct lcl_tar_member *m,
                            int64_t *n_other)
{
    const char *ending = m->name + lcl_shards_key(m->name);
    if (strcasecmp(ending, ".txt") == 0) return take_text(r, x, m, true);
    if (strcasecmp(ending, ".json") == 0) return take_text(r, x, m, false);
    if (strchr(ending + 1, '.') || !lcl_source_is_picture(m->name)) {
        ++*n_other;
        return LCL_OK;
    }
    x->n_pictures++;
    snprintf(x->picture, sizeof x->picture, "%s", m->name);
    x->where = (struct lcl_source_file){.size_bytes = m->size_bytes,
                                        .mtime_ns = r->tar.mtime_ns,
                                        .archive = r->next_shard - 1,
                                        .offset = m->offset};
    return LCL_OK;
}

static lcl_status open_shard(struct lcl_shard_captions *c, struct reader *r)
{
    LCL_TRY(lcl_tar_open(r->l->archives[r->next_shard], &r->tar));
    r->open = true;
    c->shard = r->l->archives[r->next_shard++];
    r->n_samples = 0;
    return LCL_OK;
}

/* Reads on until a sample is whole, which is then the one that is told; *ended behind the last. */
static lcl_status next_sample(struct lcl_shard_captions *c, bool *ended)
{
    struct reader *r = c->impl;
    struct lcl_tar_member m;
    clear(&r->sample[r->told]);
    r->told = !r->told; /* what was being read, if anything was */
    r->next_caption = 0;
    for (;;) {
        struct sample *x = &r->sample[r->told], *next = &r->sample[!r->told];
        *ended = !r->open && !x->key[0] && r->next_shard == r->l->n_archives;
        if (*ended) return LCL_OK;
        if (!r->open) LCL_TRY(open_shard(c, r));
        LCL_TRY(lcl_tar_next(&r->tar, &m));
        if (!m.name) { /* a sample does not go on in the next shard */
            lcl_tar_close(&r->tar);
            r->open = false;
            if (x->key[0]) return LCL_OK;
            continue;
        }
        size_t n = m.regular ? lcl_shards_key(m.name) : 0;
        if (n == 0) {
            c->n_other += m.regular || m.other;
            continue;
        }
        bool same = strlen(x->key) == n && memcmp(x->key, m.name, n) == 0;
        struct sample *to = same || !x->key[0] ? x : next;
        if (!same) {
            memcpy(to->key, m.name, n);
            to->number = ++r->n_samples;
            to->first_header = m.header;
        }
        LCL_TRY(take_file(r, to, &m, &c->n_other));
        if (to == next) return LCL_OK;
    }
}

/* ---- rows ---- */

/* Why a sample with a picture makes no row, or NULL. */
static const char *fault(const struct sample *x)
{
    if (x->wrong[0]) return x->wrong;
    if (x->n_pictures > 1) return "it has two pictures";
    return json_array_size(x->captions) ? NULL : "a picture, but no caption beside it";
}

lcl_status lcl_shard_captions_next(struct lcl_shard_captions *c, json_t **row, bool *mended)
{
    static const char hint[] = "17.jpg with 17.txt, or with \"caption\" in 17.json (--caption-key "
                               "names another); leave such samples out with --skip-bad";
    struct reader *r = c->impl;
    bool ended;
    *row = NULL;
    *mended = false;
    while (r->next_caption >= json_array_size(r->sample[r->told].captions)) {
        LCL_TRY(next_sample(c, &ended));
        if (ended) return LCL_OK;
        const struct sample *x = &r->sample[r->told];
        const char *wrong = x->n_pictures ? fault(x) : NULL;
        if (x->n_pictures && !wrong) continue;
        r->next_caption = SIZE_MAX;
        c->n_other += !x->n_pictures; /* one that could not be fetched: its .json alone is there */
        *mended = wrong != NULL;
        if (wrong)
            return LCL_FAIL_HINT(LCL_FORMAT, hint, "%s: sample %.200s at byte %" PRId64 ": %s",
                                 c->shard, x->key, x->first_header, wrong);
    }
    const struct sample *x = &r->sample[r->told];
    c->member = x->where;
    c->sample = x->number;
    *row = json_pack("{s:o*, s:O}", "image", json_sprintf("%s/%s", c->shard + r->cut, x->picture),
                     "caption", json_array_get(x->captions, r->next_caption++));
    return *row ? LCL_OK : LCL_FAIL(LCL_MEMORY, "no memory for a row");
}

lcl_status lcl_shard_captions_open(struct lcl_shard_captions *c, const struct lcl_listing *l,
                                   const char *key)
{
    *c = (struct lcl_shard_captions){0};
    struct reader *r = c->impl = calloc(1, sizeof *r);
    if (!r) return LCL_FAIL(LCL_MEMORY, "no memory to read shards");
    r->l = l;
    r->key = key;
    r->cut = lcl_shards_common(l);
    return LCL_OK;
}

void lcl_shard_captions_close(struct lcl_shard_captions *c)
{
    struct reader *r = c->impl;
    if (!r) return;
    for (int i = 0; i < 2; i++) clear(&r->sample[i]);
    if (r->open) lcl_tar_close(&r->tar);
    free(r);
    c->impl = NULL;
}
