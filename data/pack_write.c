#include "data/pack_write.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "core/fs.h"
#include "core/h5.h"
#include "core/log.h"
#include "data/md5.h"
#include "data/pack_format.h"

enum { COPY_BYTES = 8 << 20 };

/* Writes n strings, each with its NUL, end to end. */
static lcl_status write_strings(struct lcl_h5 *f, const char *name, int64_t n,
                                const char *(*text_of)(const void *ctx, int64_t i), const void *ctx)
{
    size_t size = 0, at = 0;
    for (int64_t i = 0; i < n; i++) size += strlen(text_of(ctx, i)) + 1;
    char *all = malloc(size + 1);
    if (!all) return LCL_FAIL(LCL_MEMORY, "no memory for %zu bytes of names", size);
    for (int64_t i = 0; i < n; i++) {
        size_t len = strlen(text_of(ctx, i)) + 1;
        memcpy(all + at, text_of(ctx, i), len);
        at += len;
    }
    uint64_t dims = size;
    lcl_status status = lcl_h5_write(f, name, LCL_H5_U8, 1, &dims, all);
    free(all);
    return status;
}

/* The index of a pack while it is written; picture k is file number file[k] of the listing. */
struct index {
    int64_t n;
    int64_t *file;
    uint64_t *offset; /* [n + 1] */
    int32_t *crc, *class_index, *shape;
    int32_t n_classes;
    int32_t *class_of; /* [classes of the listing] number in the pack, or -1 */
    int32_t *listed;   /* [n_classes] number in the listing */
    uint8_t *split;
};

static void index_free(struct index *x)
{
    free(x->file);
    free(x->offset);
    free(x->crc);
    free(x->class_index);
    free(x->shape);
    free(x->class_of);
    free(x->listed);
    free(x->split);
}

static lcl_status index_alloc(struct index *x, const struct lcl_listing *l, const bool *keep)
{
    *x = (struct index){0};
    for (int64_t i = 0; i < l->n_files; i++) x->n += keep[i];
    size_t n = (size_t)x->n, c = (size_t)l->n_classes;
    x->file = calloc(n, sizeof *x->file);
    x->offset = calloc(n + 1, sizeof *x->offset);
    x->crc = calloc(n, sizeof *x->crc);
    x->class_index = calloc(n, sizeof *x->class_index);
    x->shape = calloc(n, 3 * sizeof *x->shape);
    x->class_of = calloc(c, sizeof *x->class_of);
    x->listed = calloc(c, sizeof *x->listed);
    x->split = calloc(c, 1);
    if (x->file && x->offset && x->crc && x->class_index && x->shape && x->class_of && x->listed &&
        x->split)
        return LCL_OK;
    return LCL_FAIL(LCL_MEMORY, "no memory for the index of %zu pictures", n);
}

static void index_fill(struct index *x, const struct lcl_listing *l, const struct lcl_item *items,
                       const bool *keep)
{
    for (int32_t c = 0; c < l->n_classes; c++) x->class_of[c] = -1;
    int64_t k = 0;
    for (int64_t i = 0; i < l->n_files; i++) {
        if (!keep[i]) continue;
        int32_t *number = &x->class_of[l->files[i].class_index];
        if (*number < 0) {
            x->listed[x->n_classes] = l->files[i].class_index;
            x->split[x->n_classes] = (uint8_t)l->classes[l->files[i].class_index].split;
            *number = x->n_classes++;
        }
        x->file[k] = i;
        x->class_index[k] = *number;
        x->shape[3 * k] = items[i].width;
        x->shape[3 * k + 1] = items[i].height;
        x->shape[3 * k + 2] = items[i].channels;
        memcpy(&x->crc[k], &items[i].payload_crc, 4);
        x->offset[k + 1] = x->offset[k] + items[i].payload_bytes;
        k++;
    }
}

/* Copies the pictures from the journal, in pieces of many. */
static lcl_status write_bytes(struct lcl_h5 *f, const struct index *x, const struct lcl_item *items,
                              const struct lcl_journal *j)
{
    struct lcl_h5_set set;
    lcl_status status;
    uint32_t crc = 0;
    size_t room = COPY_BYTES;
    for (int64_t k = 0; k < x->n; k++)
        if (items[x->file[k]].payload_bytes > room) room = items[x->file[k]].payload_bytes;
    unsigned char *buffer = malloc(room);
    if (!buffer) return LCL_FAIL(LCL_MEMORY, "no memory for a picture of %zu bytes", room);
    struct lcl_progress progress;
    status = lcl_h5_set_create(f, LCL_PACK_BYTES, LCL_H5_U8, 1, &x->offset[x->n], 0, &set);
    if (status != LCL_OK) {
        free(buffer);
        return status;
    }
    lcl_progress_begin(&progress, "writing", "pictures", x->n);
    for (int64_t k = 0; k < x->n;) {
        int64_t first = k;
        size_t used = 0;
        while (k < x->n && used + items[x->file[k]].payload_bytes <= room) {
            LCL_TRY_GOTO(lcl_journal_read(j, &items[x->file[k]], buffer + used));
            used += items[x->file[k++]].payload_bytes;
        }
        LCL_TRY_GOTO(lcl_h5_set_write(&set, x->offset[first], used, buffer));
        crc = lcl_crc32c(crc, buffer, used);
        lcl_progress_update(&progress, k, NULL);
    }
    lcl_progress_end(&progress, NULL);
    status = lcl_h5_set_store_crc(&set, crc);
out:
    lcl_h5_set_close(&set);
    free(buffer);
    return status;
}

struct names_ctx {
    const struct index *x;
    const struct lcl_listing *l;
};

static const char *picture_name(const void *ctx, int64_t i)
{
    const struct names_ctx *c = ctx;
    return c->l->files[c->x->file[i]].name;
}

static const char *class_id(const void *ctx, int64_t i)
{
    const struct names_ctx *c = ctx;
    return c->l->classes[c->x->listed[i]].id;
}

static const char *class_name(const void *ctx, int64_t i)
{
    const struct names_ctx *c = ctx;
    return c->l->classes[c->x->listed[i]].name;
}

static lcl_status write_index(struct lcl_h5 *f, const struct index *x, const struct lcl_listing *l)
{
    uint64_t n = (uint64_t)x->n, n1 = n + 1, c = (uint64_t)x->n_classes, shape[2] = {n, 3};
    const struct names_ctx ctx = {x, l};
    LCL_TRY(lcl_h5_write(f, LCL_PACK_OFFSET, LCL_H5_U64, 1, &n1, x->offset));
    LCL_TRY(lcl_h5_write(f, LCL_PACK_CRC, LCL_H5_I32, 1, &n, x->crc));
    LCL_TRY(lcl_h5_write(f, LCL_PACK_CLASS, LCL_H5_I32, 1, &n, x->class_index));
    LCL_TRY(lcl_h5_write(f, LCL_PACK_SHAPE, LCL_H5_I32, 2, shape, x->shape));
    LCL_TRY(write_strings(f, LCL_PACK_NAMES, x->n, picture_name, &ctx));
    LCL_TRY(write_strings(f, LCL_PACK_CLASS_IDS, x->n_classes, class_id, &ctx));
    LCL_TRY(write_strings(f, LCL_PACK_CLASS_NAMES, x->n_classes, class_name, &ctx));
    return lcl_h5_write(f, LCL_PACK_CLASS_SPLIT, LCL_H5_U8, 1, &c, x->split);
}

/* Bad files that were left out, with their reasons. */
struct skipped {
    int64_t n;
    char **text; /* [2, n]: names (not owned), then reasons */
};

static const char *skipped_name(const void *ctx, int64_t i)
{
    return ((const struct skipped *)ctx)->text[i];
}

static const char *skipped_reason(const void *ctx, int64_t i)
{
    const struct skipped *s = ctx;
    return s->text[s->n + i];
}

static lcl_status write_skipped(struct lcl_h5 *f, const struct lcl_listing *l,
                                const struct lcl_item *items, const struct lcl_journal *j)
{
    struct skipped s = {0};
    lcl_status status = LCL_OK;
    for (int64_t i = 0; i < l->n_files; i++) s.n += items[i].state == LCL_ITEM_BAD;
    if (s.n == 0) return LCL_OK;
    s.text = calloc((size_t)s.n, 2 * sizeof *s.text);
    if (!s.text) return LCL_FAIL(LCL_MEMORY, "no memory for the table of bad files");
    int64_t k = 0;
    for (int64_t i = 0; i < l->n_files; i++) {
        if (items[i].state != LCL_ITEM_BAD) continue;
        s.text[k] = l->files[i].name;
        s.text[s.n + k] = calloc(1, (size_t)items[i].payload_bytes + 1);
        if (!s.text[s.n + k]) {
            status = LCL_FAIL(LCL_MEMORY, "no memory for the table of bad files");
            goto out;
        }
        LCL_TRY_GOTO(lcl_journal_read(j, &items[i], s.text[s.n + k++]));
    }
    LCL_TRY_GOTO(write_strings(f, LCL_PACK_SKIPPED_NAMES, s.n, skipped_name, &s));
    LCL_TRY_GOTO(write_strings(f, LCL_PACK_SKIPPED_REASONS, s.n, skipped_reason, &s));
out:
    for (int64_t i = 0; i < s.n; i++) free(s.text[s.n + i]);
    free(s.text);
    return status;
}

/* source: of the files as they were found; content: of what the pack holds, classes and splits
 * included. */
static void hash_all(const struct index *x, const struct lcl_listing *l,
                     const struct lcl_item *items, bool decoded, char source[33], uint64_t *content)
{
    struct lcl_md5 s, c;
    unsigned char digest[16];
    lcl_md5_begin(&s);
    lcl_md5_begin(&c);
    lcl_md5_update(&c, decoded ? "pixels" : "file", decoded ? 6 : 4);
    for (int64_t k = 0; k < x->n; k++) {
        const struct lcl_item *item = &items[x->file[k]];
        lcl_md5_update(&s, l->files[x->file[k]].name, strlen(l->files[x->file[k]].name) + 1);
        lcl_md5_update(&s, item->md5, 16);
        lcl_md5_update(&c, item->md5, 16);
        lcl_md5_update(&c, &x->class_index[k], sizeof x->class_index[k]);
    }
    for (int32_t i = 0; i < x->n_classes; i++) {
        const struct lcl_source_class *class = &l->classes[x->listed[i]];
        lcl_md5_update(&c, class->id, strlen(class->id) + 1);
        lcl_md5_update(&c, class->name, strlen(class->name) + 1);
        lcl_md5_update(&c, &x->split[i], 1);
    }
    lcl_md5_end(&s, digest);
    lcl_md5_hex(digest, source);
    lcl_md5_end(&c, digest);
    memcpy(content, digest, sizeof *content);
}

static lcl_status write_provenance(struct lcl_h5 *f, const struct lcl_pack_options *o,
                                   const struct lcl_listing *l, const struct index *x,
                                   const struct lcl_item *items)
{
    char source[33], date[40], text[200];
    uint64_t content = 0;
    time_t now = time(NULL);
    struct tm utc;
    hash_all(x, l, items, o->decoded, source, &content);
    strftime(date, sizeof date, "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&now, &utc));
    snprintf(text, sizeof text, "%s%stest_fraction=%g min_images=%d", o->decoded ? "decoded " : "",
             o->skip_bad ? "skip_bad " : "", o->test_fraction, o->min_images);
    LCL_TRY(lcl_h5_make_group(f, "/format"));
    LCL_TRY(lcl_h5_set_str(f, "/format", "magic", LCL_PACK_MAGIC));
    LCL_TRY(lcl_h5_set_u64(f, "/format", "version", LCL_PACK_FORMAT_VERSION));
    LCL_TRY(lcl_h5_set_str(f, "/format", "creator", "lcl pack"));
    LCL_TRY(lcl_h5_set_u64(f, "/format", "content_hash", content));
    LCL_TRY(lcl_h5_set_str(f, "/images", "encoding", o->decoded ? "pixels" : "file"));
    LCL_TRY(lcl_h5_make_group(f, "/source"));
    LCL_TRY(lcl_h5_set_str(f, "/source", "format", o->format));
    LCL_TRY(lcl_h5_set_str(f, "/source", "folder", l->root));
    LCL_TRY(lcl_h5_set_str(f, "/source", "date", date));
    LCL_TRY(lcl_h5_set_str(f, "/source", "options", text));
    LCL_TRY(lcl_h5_set_str(f, "/source", "md5", source));
    snprintf(text, sizeof text, "%d,%d,%d", o->background[0], o->background[1], o->background[2]);
    return lcl_h5_set_str(f, "/source", "background", text);
}

lcl_status lcl_pack_write(const struct lcl_pack_options *options, const struct lcl_listing *l,
                          const struct lcl_item *items, const bool *keep,
                          const struct lcl_journal *j)
{
    struct index x;
    struct lcl_h5 f = {0};
    lcl_status status;
    char *beside = lcl_strdupf("%s.writing", options->out);
    if (!beside) return LCL_FAIL(LCL_MEMORY, "no memory for a path");
    LCL_TRY_GOTO(index_alloc(&x, l, keep));
    index_fill(&x, l, items, keep);
    LCL_TRY_GOTO(lcl_h5_create(beside, &f));
    LCL_TRY_GOTO(write_bytes(&f, &x, items, j));
    LCL_TRY_GOTO(write_index(&f, &x, l));
    LCL_TRY_GOTO(write_skipped(&f, l, items, j));
    if (l->write_more) LCL_TRY_GOTO(l->write_more(l->more, &f, items, keep));
    LCL_TRY_GOTO(write_provenance(&f, options, l, &x, items));
    LCL_TRY_GOTO(lcl_h5_close(&f));
    LCL_TRY_GOTO(lcl_fs_commit(beside, options->out));
out:
    if (status != LCL_OK) {
        struct lcl_error error;
        lcl_error_save(&error, status);
        lcl_h5_discard(&f);
        unlink(beside);
        status = lcl_error_restore(&error);
    }
    index_free(&x);
    free(beside);
    return status;
}
