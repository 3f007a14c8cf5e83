#include "data/pack_rows.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/fs.h"
#include "core/h5.h"
#include "core/log.h"
#include "core/rng.h"
#include "data/pack_format.h"
#include "data/pack_write.h"
#include "data/row_table.h"
#include "data/shard_captions.h"
#include "data/shards.h"

enum { SHOWN_BAD = 20, COPY_BYTES = 1 << 20 };

/* Both passes over a table. */
struct rows {
    const struct lcl_pack_options *options;
    struct lcl_row_context context;
    struct lcl_row_templates templates;
    struct lcl_listing listing;
    struct lcl_shard_captions *captions; /* of formats of shards, while they are read */
    /* first pass: the names so far */
    int64_t *slot; /* open addressing: file number or -1 */
    size_t mask;
    /* second pass */
    const struct lcl_item *items; /* of the listing */
    int64_t *number;              /* [n_files] in the pack, -1: left out */
    FILE *spool;
    uint64_t *offset; /* [n + 1] */
    int32_t *crc;
    int64_t n, cap, bad;
};

/* ---- the pictures' names ---- */

static bool grow_slots(struct rows *r)
{
    size_t size = r->slot ? 2 * (r->mask + 1) : 1024;
    int64_t *slot = malloc(size * sizeof *slot);
    if (!slot) return false;
    memset(slot, -1, size * sizeof *slot);
    for (int64_t i = 0; i < r->listing.n_files; i++) {
        size_t k = lcl_hash_string(r->listing.files[i].name) & (size - 1);
        while (slot[k] >= 0) k = (k + 1) & (size - 1);
        slot[k] = i;
    }
    free(r->slot);
    r->slot = slot;
    r->mask = size - 1;
    return true;
}

static lcl_status fail_twice(const struct rows *r, const struct lcl_source_file *f)
{
    return LCL_FAIL(LCL_FORMAT, "%s is there twice, at bytes %lld and %lld", f->name,
                    (long long)f->offset, (long long)r->captions->member.offset);
}

static lcl_status note_name(void *ctx, const char *name, int64_t *number, int *width, int *height)
{
    struct rows *r = ctx;
    *number = *width = *height = 0;
    if ((!r->slot || 2 * (size_t)r->listing.n_files > r->mask) && !grow_slots(r))
        return LCL_FAIL(LCL_MEMORY, "no memory for the names of pictures");
    size_t k = lcl_hash_string(name) & r->mask;
    for (; r->slot[k] >= 0; k = (k + 1) & r->mask) {
        const struct lcl_source_file *f = &r->listing.files[r->slot[k]];
        if (strcmp(f->name, name) != 0) continue;
        if (!r->captions || f->offset == r->captions->member.offset) return LCL_OK;
        return fail_twice(r, f);
    }
    r->slot[k] = r->listing.n_files;
    return r->captions ? lcl_listing_add_member(&r->listing, name, 0, &r->captions->member)
                       : lcl_listing_add_file(&r->listing, name, 0);
}

static int by_name(const void *a, const void *b)
{
    const struct lcl_source_file *f = a, *g = b;
    return strcmp(f->name, g->name);
}

/* ---- the second pass ---- */

static lcl_status find_number(void *ctx, const char *name, int64_t *number, int *width, int *height)
{
    struct rows *r = ctx;
    const struct lcl_source_file key = {.name = (char *)(uintptr_t)name};
    const struct lcl_source_file *f = bsearch(&key, r->listing.files, (size_t)r->listing.n_files,
                                              sizeof *r->listing.files, by_name);
    if (!f) return LCL_FAIL(LCL_IO, "%s changed while it was read", r->context.path);
    if (r->captions && f->offset != r->captions->member.offset) return fail_twice(r, f);
    int64_t i = f - r->listing.files;
    *number = r->number[i];
    *width = r->items[i].width;
    *height = r->items[i].height;
    return *number >= 0 ? LCL_OK : LCL_FAIL(LCL_FORMAT, "picture %s was left out", name);
}

static const struct lcl_item *digest_items;

static int by_digest(const void *a, const void *b)
{
    int64_t i = *(const int64_t *)a, j = *(const int64_t *)b;
    int c = memcmp(digest_items[i].md5, digest_items[j].md5, 16);
    return c ? c : (i > j) - (i < j);
}

/* Pictures in the order of the listing; one that is another's bytes has its number. */
static lcl_status number_pictures(struct rows *r, const struct lcl_item *items, const bool *keep)
{
    int64_t n = r->listing.n_files, kept = 0, m = 0;
    int64_t *order = malloc((size_t)(n + 1) * sizeof *order);
    r->items = items;
    r->number = malloc((size_t)(n + 1) * sizeof *r->number);
    if (!order || !r->number) {
        free(order);
        return LCL_FAIL(LCL_MEMORY, "no memory for the numbers of %lld pictures", (long long)n);
    }
    for (int64_t i = 0; i < n; i++) {
        r->number[i] = keep[i] ? kept++ : -1;
        if (items[i].state == LCL_ITEM_OK) order[m++] = i;
    }
    digest_items = items;
    qsort(order, (size_t)m, sizeof *order, by_digest);
    for (int64_t k = 1; k < m; k++) /* the first of equal ones is the one that is kept */
        if (memcmp(items[order[k]].md5, items[order[k - 1]].md5, 16) == 0)
            r->number[order[k]] = r->number[order[k - 1]];
    free(order);
    return LCL_OK;
}

static lcl_status put_row(struct rows *r, const json_t *out)
{
    if (r->n + 1 >= r->cap) {
        int64_t cap = r->cap ? 2 * r->cap : 1024;
        void *offset = realloc(r->offset, (size_t)cap * sizeof *r->offset);
        if (offset) r->offset = offset;
        void *crc = offset ? realloc(r->crc, (size_t)cap * sizeof *r->crc) : NULL;
        if (!crc) return LCL_FAIL(LCL_MEMORY, "no memory for %lld rows", (long long)cap);
        r->crc = crc;
        r->cap = cap;
    }
    if (r->n == 0) r->offset[0] = 0;
    char *text = json_dumps(out, JSON_COMPACT);
    if (!text) return LCL_FAIL(LCL_MEMORY, "no memory for a row");
    size_t size = strlen(text);
    uint32_t crc = lcl_crc32c(0, text, size);
    bool written = fwrite(text, 1, size, r->spool) == size;
    free(text);
    if (!written) return lcl_fs_fail_write(r->options->out);
    memcpy(&r->crc[r->n], &crc, sizeof crc);
    r->offset[r->n + 1] = r->offset[r->n] + size;
    r->n++;
    return LCL_OK;
}

/* A row that cannot be had: an error, unless such rows may be left out. */
static lcl_status bad_row(struct rows *r, lcl_status why, bool mended)
{
    if (why != LCL_FORMAT || !mended || !r->options->skip_bad) return why;
    if (r->bad++ < SHOWN_BAD && r->spool) lcl_log_warn("left out: %s", lcl_error_message());
    return LCL_OK;
}

/* The next row, and where it is from; NULL behind the last. */
static lcl_status next_row(struct rows *r, struct lcl_row_table *t, json_t **in, bool *mended)
{
    struct lcl_row_context *x = &r->context;
    if (!r->captions) {
        LCL_TRY(lcl_row_table_next(t, in, mended));
        x->row = t->row;
        x->line = t->line;
        return LCL_OK;
    }
    LCL_TRY(lcl_shard_captions_next(r->captions, in, mended));
    x->path = r->captions->shard;
    x->line = r->captions->sample;
    x->row += *in != NULL;
    *mended = true;
    return LCL_OK;
}

/* Every row through the format; with a spool it is written there. */
static lcl_status pass(struct rows *r)
{
    struct lcl_row_table t = {0};
    struct lcl_shard_captions captions = {0};
    struct lcl_progress progress;
    json_t *in = NULL, *out;
    bool mended;
    if (r->context.format->shards) {
        LCL_TRY(lcl_shard_captions_open(&captions, &r->listing, r->options->caption_key));
        r->captions = &captions;
    } else {
        LCL_TRY(lcl_row_table_open(r->options->table, &t));
    }
    r->bad = r->context.row = 0;
    lcl_progress_begin(&progress, r->spool ? "writing rows" : "reading rows", "rows", 0);
    lcl_status status;
    for (;;) {
        status = next_row(r, &t, &in, &mended);
        if (status == LCL_OK && !in) break;
        if (status == LCL_OK) {
            status = lcl_row_convert(&r->context, in, &out);
            json_decref(in);
            if (status == LCL_OK && r->spool) status = put_row(r, out);
            if (status == LCL_OK) json_decref(out);
        }
        if (status != LCL_OK) status = bad_row(r, status, mended);
        if (status != LCL_OK) break;
        if (r->context.row % 4096 == 0) lcl_progress_update(&progress, r->context.row, NULL);
    }
    lcl_progress_update(&progress, r->context.row, NULL);
    lcl_progress_end(&progress, NULL);
    r->listing.n_other = captions.n_other;
    r->captions = NULL;
    lcl_shard_captions_close(&captions);
    lcl_row_table_close(&t);
    return status;
}

static lcl_status copy_spool(struct rows *r, struct lcl_h5 *f)
{
    struct lcl_h5_set set;
    uint64_t size = r->offset[r->n], at = 0;
    uint32_t crc = 0;
    char *buffer = malloc(COPY_BYTES);
    if (!buffer) return LCL_FAIL(LCL_MEMORY, "no memory to copy rows");
    lcl_status status = lcl_h5_set_create(f, LCL_PACK_ROW_BYTES, LCL_H5_U8, 1, &size, 0, &set);
    if (status != LCL_OK) {
        free(buffer);
        return status;
    }
    rewind(r->spool);
    while (at < size && status == LCL_OK) {
        size_t n = fread(buffer, 1, COPY_BYTES, r->spool);
        if (n == 0) status = LCL_FAIL(LCL_IO, "cannot read rows back: %s", strerror(errno));
        crc = lcl_crc32c(crc, buffer, n);
        if (status == LCL_OK) status = lcl_h5_set_write(&set, at, n, buffer);
        at += n;
    }
    if (status == LCL_OK) status = lcl_h5_set_store_crc(&set, crc);
    lcl_h5_set_close(&set);
    free(buffer);
    return status;
}

/* Called when the pictures are in the file. */
static lcl_status write_rows(void *ctx, struct lcl_h5 *f, const struct lcl_item *items,
                             const bool *keep)
{
    struct rows *r = ctx;
    LCL_TRY(number_pictures(r, items, keep));
    r->context.picture = find_number;
    r->spool = tmpfile();
    if (!r->spool) return LCL_FAIL(LCL_IO, "cannot make a temporary file: %s", strerror(errno));
    LCL_TRY(pass(r));
    if (r->bad > SHOWN_BAD) lcl_log_warn("... and %lld more", (long long)(r->bad - SHOWN_BAD));
    if (r->n == 0)
        return LCL_FAIL(LCL_FORMAT, "%s: no row is left of %lld", r->context.path,
                        (long long)r->bad);
    if (fflush(r->spool) != 0) return lcl_fs_fail_write(r->options->out);
    uint64_t n = (uint64_t)r->n, n1 = n + 1;
    LCL_TRY(copy_spool(r, f));
    LCL_TRY(lcl_h5_write(f, LCL_PACK_ROW_OFFSET, LCL_H5_U64, 1, &n1, r->offset));
    LCL_TRY(lcl_h5_write(f, LCL_PACK_ROW_CRC, LCL_H5_I32, 1, &n, r->crc));
    LCL_TRY(lcl_h5_set_u64(f, "/rows", "boxes", r->context.format->boxes));
    LCL_TRY(lcl_h5_set_u64(f, "/rows", "left_out", (uint64_t)r->bad));
    lcl_log_info("packed %lld rows, %lld left out", (long long)r->n, (long long)r->bad);
    return LCL_OK;
}

/* ---- all of it ---- */

static lcl_status check_rows(const struct lcl_pack_options *o, const struct lcl_row_format *format)
{
    if (format->shards && o->table)
        return LCL_FAIL(LCL_CONFIG, "--in names a table; --format %s reads the shards of --images",
                        format->name);
    if (!format->shards && o->caption_key)
        return LCL_FAIL(LCL_CONFIG, "--caption-key is for webdataset-captions, not for %s",
                        format->name);
    if (!o->table && !format->shards)
        return LCL_FAIL_HINT(LCL_CONFIG, "--in FILE.jsonl", "--format %s reads a table",
                             format->name);
    if (o->decoded && format->boxes)
        return LCL_FAIL(LCL_CONFIG,
                        "--decoded turns pictures as their EXIF data say; boxes of "
                        "--format %s would no longer fit",
                        format->name);
    return LCL_OK;
}

lcl_status lcl_pack_rows(const struct lcl_pack_options *options,
                         const struct lcl_row_format *format)
{
    struct rows r = {.options = options};
    struct lcl_pack_options all;
    int32_t class_index;
    lcl_status status;
    LCL_TRY(check_rows(options, format));
    r.context = (struct lcl_row_context){.format = format,
                                         .image_name = options->image_name ? options->image_name
                                                                           : format->image_name,
                                         .path = format->shards ? options->images : options->table,
                                         .picture = note_name,
                                         .ctx = &r};
    r.listing = (struct lcl_listing){.root = lcl_strdupf("%s", options->images),
                                     .drop_duplicates = true,
                                     .write_more = write_rows,
                                     .more = &r};
    if (options->templates)
        LCL_TRY_GOTO(lcl_row_templates_load(options->templates, format, &r.templates));
    r.context.templates = r.templates.list;
    status = r.listing.root ? LCL_OK : LCL_FAIL(LCL_MEMORY, "no memory for a path");
    LCL_TRY_GOTO(status);
    LCL_TRY_GOTO(lcl_listing_add_class(&r.listing, "rows", format->name, &class_index));
    if (format->shards) LCL_TRY_GOTO(lcl_shards_list(&r.listing, options->images));
    LCL_TRY_GOTO(pass(&r));
    if (r.listing.n_files)
        qsort(r.listing.files, (size_t)r.listing.n_files, sizeof *r.listing.files, by_name);
    all = *options; /* a row may name one picture */
    all.min_images = 1;
    LCL_TRY_GOTO(lcl_pack_listing(&all, &r.listing));
out:
    lcl_listing_free(&r.listing);
    json_decref(r.templates.list);
    if (r.spool) fclose(r.spool);
    free(r.slot);
    free(r.number);
    free(r.offset);
    free(r.crc);
    return status;
}
