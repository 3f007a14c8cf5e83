/* First half of packing: list, read and check the pictures on all threads, decide what is kept. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/fs.h"
#include "core/log.h"
#include "core/threads.h"
#include "data/md5.h"
#include "data/pack_rows.h"
#include "data/pack_write.h"
#include "data/tar.h"

enum { BATCH_FILES = 512, SHOWN_BAD = 100 };
static const int64_t BATCH_BYTES = 64 << 20;
static const size_t MAX_FILE_BYTES = (size_t)1 << 30;

struct batch {
    const struct lcl_pack_options *options;
    const struct lcl_listing *l;
    struct lcl_item *items; /* of the whole listing */
    int64_t first;
    char *payload[BATCH_FILES];
};

/* A failure of this file alone, with its reason as payload; a lack of memory is not the file's. */
static lcl_status note_bad(lcl_status why, const char *name, struct lcl_item *item, char **payload)
{
    if (why == LCL_MEMORY) return why;
    const char *reason = lcl_error_message();
    size_t n = strlen(name);
    if (strncmp(reason, name, n) == 0 && strncmp(reason + n, ": ", 2) == 0) reason += n + 2;
    free(*payload);
    *payload = lcl_strdupf("%s", reason);
    if (!*payload) return LCL_FAIL(LCL_MEMORY, "no memory for a message");
    item->state = LCL_ITEM_BAD;
    item->payload_bytes = strlen(*payload);
    return LCL_OK;
}

static lcl_status read_bytes(const struct lcl_listing *l, const struct lcl_source_file *file,
                             char **bytes, size_t *size)
{
    if (file->archive >= 0) {
        *size = (size_t)file->size_bytes;
        if (*size <= MAX_FILE_BYTES)
            return lcl_tar_read_at(l->archives[file->archive], file->offset, file->size_bytes,
                                   bytes);
        return LCL_FAIL(LCL_RANGE, "%s: %zu bytes at byte %lld of its archive, at most %zu",
                        file->name, *size, (long long)file->offset, MAX_FILE_BYTES);
    }
    char *path = lcl_strdupf("%s/%s", l->root, file->name);
    if (!path) return LCL_FAIL(LCL_MEMORY, "no memory for a path");
    lcl_status status = lcl_fs_read(path, MAX_FILE_BYTES, bytes, size);
    free(path);
    return status;
}

static lcl_status read_file(struct batch *b, const struct lcl_source_file *file,
                            struct lcl_item *item, char **payload)
{
    const struct lcl_decode_options decode = {.keep_alpha = true,
                                              .apply_exif = b->options->decoded};
    struct lcl_image image;
    size_t size = 0;
    lcl_status status = read_bytes(b->l, file, payload, &size);
    if (status != LCL_OK) return note_bad(status, file->name, item, payload);
    lcl_md5_of(*payload, size, item->md5);
    status = lcl_image_decode(*payload, size, file->name, &decode, &image);
    if (status != LCL_OK) return note_bad(status, file->name, item, payload);
    item->width = image.width;
    item->height = image.height;
    item->channels = image.channels;
    item->state = !b->l->wanted || b->l->wanted(&image) ? LCL_ITEM_OK : LCL_ITEM_UNWANTED;
    if (item->state == LCL_ITEM_UNWANTED) {
        item->payload_bytes = 0;
    } else if (b->options->decoded) {
        free(*payload);
        *payload = (char *)image.pixels;
        item->payload_bytes =
            (uint64_t)image.width * (uint64_t)image.height * (uint64_t)image.channels;
        image.pixels = NULL;
    } else {
        item->payload_bytes = size;
    }
    lcl_image_free(&image);
    return LCL_OK;
}

static lcl_status read_chunk(void *ctx, int64_t chunk)
{
    struct batch *b = ctx;
    struct lcl_item *item = &b->items[b->first + chunk];
    *item = (struct lcl_item){0};
    return read_file(b, &b->l->files[b->first + chunk], item, &b->payload[chunk]);
}

/* Reads the files from `first` on and notes them in the journal. */
static lcl_status read_all(struct batch *b, int64_t first, struct lcl_journal *j)
{
    const struct lcl_listing *l = b->l;
    struct lcl_progress progress;
    lcl_status status = LCL_OK;
    int64_t bad = 0;
    lcl_progress_begin(&progress, "reading", "pictures", l->n_files - first);
    for (int64_t i = first; i < l->n_files && status == LCL_OK;) {
        char note[64] = "";
        int64_t n = 0, bytes = 0;
        while (n < BATCH_FILES && i + n < l->n_files && (n == 0 || bytes < BATCH_BYTES))
            bytes += l->files[i + n++].size_bytes;
        b->first = i;
        status = lcl_parallel(n, read_chunk, b);
        for (int64_t k = 0; k < n; k++) {
            struct lcl_item *item = &b->items[i + k];
            if (status == LCL_OK)
                status = lcl_journal_append(j, &l->files[i + k], item, b->payload[k]);
            bad += item->state == LCL_ITEM_BAD;
            free(b->payload[k]);
            b->payload[k] = NULL;
        }
        i += n;
        if (bad) snprintf(note, sizeof note, "%lld bad", (long long)bad);
        lcl_progress_update(&progress, i - first, note);
    }
    lcl_progress_end(&progress, NULL);
    return status;
}

struct counts {
    int64_t bad, unwanted, duplicates, small_images, kept;
    int32_t small_classes, classes, test_classes;
};

static const struct lcl_item *sorted_items;

static int by_digest(const void *a, const void *b)
{
    int64_t i = *(const int64_t *)a, j = *(const int64_t *)b;
    int c = memcmp(sorted_items[i].md5, sorted_items[j].md5, 16);
    return c ? c : (i > j) - (i < j);
}

/* Of files with the same bytes only the first in the listing is kept. */
static lcl_status drop_duplicates(const struct lcl_listing *l, const struct lcl_item *items,
                                  bool *keep, struct counts *n)
{
    int64_t *order = malloc((size_t)l->n_files * sizeof *order), m = 0;
    if (!order) return LCL_FAIL(LCL_MEMORY, "no memory to look for duplicates");
    for (int64_t i = 0; i < l->n_files; i++)
        if (keep[i]) order[m++] = i;
    sorted_items = items;
    qsort(order, (size_t)m, sizeof *order, by_digest);
    for (int64_t k = 1; k < m; k++)
        if (memcmp(items[order[k]].md5, items[order[k - 1]].md5, 16) == 0) {
            keep[order[k]] = false;
            n->duplicates++;
        }
    free(order);
    return LCL_OK;
}

static lcl_status choose(const struct lcl_pack_options *o, const struct lcl_listing *l,
                         const struct lcl_item *items, bool *keep, struct counts *n)
{
    for (int64_t i = 0; i < l->n_files; i++) {
        keep[i] = items[i].state == LCL_ITEM_OK;
        n->bad += items[i].state == LCL_ITEM_BAD;
        n->unwanted += items[i].state == LCL_ITEM_UNWANTED;
    }
    if (l->drop_duplicates) LCL_TRY(drop_duplicates(l, items, keep, n));
    int64_t first = 0;
    for (int32_t c = 0; c < l->n_classes; c++) {
        int64_t end = first, count = 0;
        for (; end < l->n_files && l->files[end].class_index == c; end++) count += keep[end];
        if (count < o->min_images || count == 0) {
            for (int64_t i = first; i < end; i++) keep[i] = false;
            n->small_classes++;
            n->small_images += count;
        } else {
            n->kept += count;
            n->classes++;
            n->test_classes += l->classes[c].split == LCL_SPLIT_TEST;
        }
        first = end;
    }
    return LCL_OK;
}

/* The table of bad files; an error unless they may be left out. */
static lcl_status report_bad(const struct lcl_pack_options *o, const struct lcl_listing *l,
                             const struct lcl_item *items, const struct lcl_journal *j, int64_t bad)
{
    char first_name[512] = "", first_reason[512] = "";
    int64_t shown = 0;
    if (!bad) return LCL_OK;
    lcl_log_warn("%lld bad file%s:", (long long)bad, bad == 1 ? "" : "s");
    for (int64_t i = 0; i < l->n_files && shown < SHOWN_BAD; i++) {
        char reason[2049];
        if (items[i].state != LCL_ITEM_BAD || items[i].payload_bytes >= sizeof reason) continue;
        LCL_TRY(lcl_journal_read(j, &items[i], reason));
        reason[items[i].payload_bytes] = 0;
        if (l->files[i].archive >= 0)
            lcl_log_info("  %-48s  %s (at byte %lld of %s)", l->files[i].name, reason,
                         (long long)l->files[i].offset, l->archives[l->files[i].archive]);
        else
            lcl_log_info("  %-48s  %s", l->files[i].name, reason);
        if (shown++) continue;
        snprintf(first_name, sizeof first_name, "%s", l->files[i].name);
        snprintf(first_reason, sizeof first_reason, "%.500s", reason);
    }
    if (bad > shown) lcl_log_info("  ... and %lld more", (long long)(bad - shown));
    if (o->skip_bad) return LCL_OK;
    return LCL_FAIL_HINT(LCL_FORMAT, "mend or remove them, or leave them out with --skip-bad",
                         "%lld bad picture%s in %s; the first: %s: %s", (long long)bad,
                         bad == 1 ? "" : "s", l->root, first_name, first_reason);
}

static void log_left_out(const struct lcl_pack_options *o, const struct lcl_listing *l,
                         const struct counts *n)
{
    if (l->n_other)
        lcl_log_info("left out: %lld files or folders that are no pictures by name",
                     (long long)l->n_other);
    if (n->unwanted)
        lcl_log_info("left out: %lld pictures of another size or nearly empty",
                     (long long)n->unwanted);
    if (n->duplicates) lcl_log_info("left out: %lld exact duplicates", (long long)n->duplicates);
    if (n->small_classes)
        lcl_log_info("left out: %d classes with fewer than %d pictures (%lld pictures)",
                     n->small_classes, o->min_images, (long long)n->small_images);
}

static lcl_status check_options(const struct lcl_pack_options *o)
{
    if (!o->format || !o->images || !o->out)
        return LCL_FAIL(LCL_CONFIG, "packing needs a format, a picture folder and an output file");
    if (!(o->test_fraction >= 0 && o->test_fraction <= 1))
        return LCL_FAIL(LCL_RANGE, "test fraction %g, wanted 0 to 1", o->test_fraction);
    if (o->min_images < 1)
        return LCL_FAIL(LCL_RANGE, "min images %d, wanted at least 1", o->min_images);
    if (lcl_fs_is_dir(o->out))
        return LCL_FAIL(LCL_EXISTS, "%s is a folder, wanted a file name", o->out);
    if (lcl_fs_exists(o->out) && !o->force)
        return LCL_FAIL_HINT(LCL_EXISTS, "--force replaces it", "%s exists", o->out);
    return LCL_OK;
}

lcl_status lcl_pack_listing(const struct lcl_pack_options *o, const struct lcl_listing *l)
{
    struct lcl_journal j = {.fd = -1};
    struct counts n = {0};
    lcl_status status;
    int64_t kept = 0;
    struct lcl_item *items = calloc((size_t)l->n_files + 1, sizeof *items);
    bool *keep = calloc((size_t)l->n_files + 1, sizeof *keep);
    struct batch *b = calloc(1, sizeof *b);
    if (!items || !keep || !b) {
        status = LCL_FAIL(LCL_MEMORY, "no memory for a list of %lld files", (long long)l->n_files);
        goto out;
    }
    LCL_TRY_GOTO(lcl_journal_open(o->out, o, l, items, &kept, &j));
    if (kept)
        lcl_log_info("going on: %lld of %lld pictures were read before", (long long)kept,
                     (long long)l->n_files);
    *b = (struct batch){.options = o, .l = l, .items = items};
    LCL_TRY_GOTO(read_all(b, kept, &j));
    LCL_TRY_GOTO(choose(o, l, items, keep, &n));
    LCL_TRY_GOTO(report_bad(o, l, items, &j, n.bad));
    log_left_out(o, l, &n);
    if (n.classes == 0 && !l->write_more) {
        status = LCL_FAIL_HINT(LCL_FORMAT, "--min-images sets the fewest a class may have",
                               "%s: none of %d classes has %d pictures", l->root, l->n_classes,
                               o->min_images);
        goto out;
    }
    LCL_TRY_GOTO(lcl_pack_write(o, l, items, keep, &j));
    lcl_journal_close(&j, true);
    lcl_log_info("packed %lld pictures of %d classes, %d of them held out, in %s",
                 (long long)n.kept, n.classes, n.test_classes, o->out);
out:
    lcl_journal_close(&j, false);
    free(items);
    free(keep);
    free(b);
    return status;
}

lcl_status lcl_pack_create(const struct lcl_pack_options *options)
{
    struct lcl_listing l;
    LCL_TRY(check_options(options));
    const struct lcl_row_format *rows = lcl_row_format_find(options->format);
    if (rows && (options->class_names || options->labels))
        return LCL_FAIL(LCL_CONFIG, "--class-names and --labels are for archives, not for %s",
                        options->format);
    if (rows) return lcl_pack_rows(options, rows);
    if (options->table || options->templates || options->image_name || options->caption_key)
        return LCL_FAIL(LCL_CONFIG,
                        "--in, --templates, --image-name and --caption-key are for formats of "
                        "rows, not for %s",
                        options->format);
    LCL_TRY(lcl_source_list(options, &l));
    lcl_status status = lcl_pack_listing(options, &l);
    lcl_listing_free(&l);
    return status;
}
