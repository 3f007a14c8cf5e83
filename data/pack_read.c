/* Reading packs: the index through HDF5 at opening, the pictures by plain positioned reads, which
 * any thread may do. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/fs.h"
#include "core/h5.h"
#include "core/threads.h"
#include "data/archived.h"
#include "data/image_formats.h"
#include "data/pack.h"
#include "data/pack_format.h"
#include "data/pack_internal.h"

static const uint64_t MAX_INDEX_BYTES = (uint64_t)1 << 36;
enum { READ_GRAIN = 4 }; /* pictures of a chunk */

/* ---- opening ---- */

static lcl_status check_version(const struct lcl_h5 *f)
{
    char kind[64] = "";
    uint64_t version = 0;
    if (!lcl_h5_exists(f, "/format"))
        return LCL_FAIL_HINT(LCL_FORMAT, "lcl pack makes one", "%s is not a pack (no /format)",
                             f->path);
    LCL_TRY(lcl_h5_get_str(f, "/format", "magic", kind, sizeof kind));
    if (strcmp(kind, LCL_PACK_MAGIC) != 0)
        return LCL_FAIL_HINT(LCL_FORMAT, "lcl pack makes one", "%s is not a pack but \"%s\"",
                             f->path, kind);
    LCL_TRY(lcl_h5_get_u64(f, "/format", "version", &version));
    if (version == LCL_PACK_FORMAT_VERSION) return LCL_OK;
    return LCL_FAIL_HINT(LCL_VERSION,
                         "make the pack again with this lcl, or use the lcl that made it",
                         "%s: pack format version %llu, this lcl reads version %d", f->path,
                         (unsigned long long)version, LCL_PACK_FORMAT_VERSION);
}

static lcl_status damaged(const struct lcl_pack *p, const char *what)
{
    return LCL_FAIL(LCL_FORMAT, "%s: %s", p->path, what);
}

static lcl_status read_images(const struct lcl_h5 *f, struct lcl_pack *p)
{
    struct pack_impl *m = p->impl;
    uint64_t n1 = 0, n = 0;
    void *data;
    LCL_TRY(lcl_h5_read_alloc(f, LCL_PACK_OFFSET, LCL_H5_U64, MAX_INDEX_BYTES, &data, &n1));
    m->offset = data;
    if (n1 < 1 || n1 - 1 > INT32_MAX || (n1 == 1 && p->n_rows == 0))
        return damaged(p, "no pictures, or more than 2^31");
    n = n1 - 1;
    p->n_images = (int64_t)n;
    if (n == 0) return LCL_OK;
    m->crc = calloc(n, sizeof *m->crc);
    m->shape = calloc(n, 3 * sizeof *m->shape);
    m->images = calloc(n, sizeof *m->images);
    p->image_class = calloc(n, sizeof *p->image_class);
    if (!m->crc || !m->shape || !m->images || !p->image_class)
        return LCL_FAIL(LCL_MEMORY, "no memory for the index of %llu pictures",
                        (unsigned long long)n);
    LCL_TRY(lcl_h5_read(f, LCL_PACK_CRC, LCL_H5_I32, n, m->crc));
    LCL_TRY(lcl_h5_read(f, LCL_PACK_SHAPE, LCL_H5_I32, 3 * n, m->shape));
    return lcl_h5_read(f, LCL_PACK_CLASS, LCL_H5_I32, n, p->image_class);
}

/* Splits a dataset of NUL-terminated strings; there must be `want` of them. at[i] is where the i-th
 * begins. */
static lcl_status read_strings(const struct lcl_h5 *f, const char *name, uint64_t want, char **text,
                               uint64_t **at)
{
    uint64_t size = 0, found = 0;
    void *data;
    *at = NULL;
    LCL_TRY(lcl_h5_read_alloc(f, name, LCL_H5_U8, MAX_INDEX_BYTES, &data, &size));
    *text = data;
    for (uint64_t i = 0; i < size; i++) found += (*text)[i] == 0;
    if (size == 0 || (*text)[size - 1] != 0 || (want && found != want))
        return LCL_FAIL(LCL_FORMAT, "%s: %s holds %llu strings, wanted %llu", f->path, name,
                        (unsigned long long)found, (unsigned long long)want);
    *at = calloc(found, sizeof **at);
    if (!*at) return LCL_FAIL(LCL_MEMORY, "no memory for %llu names", (unsigned long long)found);
    for (uint64_t i = 0, k = 1; i + 1 < size; i++)
        if ((*text)[i] == 0) (*at)[k++] = i + 1;
    return LCL_OK;
}

static lcl_status copy_text(const struct lcl_pack *p, char *to, const char *from)
{
    size_t n = strlen(from);
    if (n == 0 || n >= LCL_CLASS_NAME_BYTES) return damaged(p, "a class name is empty or too long");
    memcpy(to, from, n + 1);
    return LCL_OK;
}

static lcl_status read_classes(const struct lcl_h5 *f, struct lcl_pack *p)
{
    char *ids = NULL, *names = NULL;
    uint64_t *id_at = NULL, *name_at = NULL, n = 0;
    void *split = NULL;
    lcl_status status;
    LCL_TRY_GOTO(
        lcl_h5_read_alloc(f, LCL_PACK_CLASS_SPLIT, LCL_H5_U8, MAX_INDEX_BYTES, &split, &n));
    if (n == 0 || n > (uint64_t)p->n_images) {
        status = damaged(p, "no classes, or more than pictures");
        goto out;
    }
    LCL_TRY_GOTO(read_strings(f, LCL_PACK_CLASS_IDS, n, &ids, &id_at));
    LCL_TRY_GOTO(read_strings(f, LCL_PACK_CLASS_NAMES, n, &names, &name_at));
    p->classes = calloc(n, sizeof *p->classes);
    if (!p->classes) {
        status = LCL_FAIL(LCL_MEMORY, "no memory for %llu classes", (unsigned long long)n);
        goto out;
    }
    p->n_classes = (int32_t)n;
    for (uint64_t i = 0; i < n; i++) {
        LCL_TRY_GOTO(copy_text(p, p->classes[i].id, ids + id_at[i]));
        LCL_TRY_GOTO(copy_text(p, p->classes[i].name, names + name_at[i]));
        uint8_t s = ((uint8_t *)split)[i];
        if (s > LCL_SPLIT_TEST) {
            status = damaged(p, "a class is of an unknown split");
            goto out;
        }
        p->classes[i].split = (enum lcl_split)s;
    }
out:
    free(ids);
    free(names);
    free(id_at);
    free(name_at);
    free(split);
    return status;
}

/* Offsets ascend within the bytes; classes are in range and none is empty; lists of pictures by
 * class. */
static lcl_status check_index(struct lcl_pack *p, uint64_t bytes)
{
    struct pack_impl *m = p->impl;
    uint64_t n = (uint64_t)p->n_images;
    if (m->offset[0] != 0 || m->offset[n] != bytes)
        return damaged(p, "picture offsets do not span the picture bytes");
    for (uint64_t i = 0; i < n; i++) {
        const int32_t *s = m->shape + 3 * i;
        if (m->offset[i + 1] < m->offset[i]) return damaged(p, "picture offsets do not ascend");
        if (p->image_class[i] < 0 || p->image_class[i] >= p->n_classes)
            return damaged(p, "a picture is of a class that is not there");
        if (s[0] < 1 || s[1] < 1 || s[0] > LCL_IMAGE_MAX_SIDE || s[1] > LCL_IMAGE_MAX_SIDE ||
            (s[2] != 3 && s[2] != 4))
            return damaged(p, "a picture has an impossible size");
        if (m->pixels && (int64_t)(m->offset[i + 1] - m->offset[i]) != (int64_t)s[0] * s[1] * s[2])
            return damaged(p, "a picture's pixels do not fit its size");
        p->classes[p->image_class[i]].n_images++;
    }
    int32_t at = 0;
    for (int32_t c = 0; c < p->n_classes; c++) {
        if (p->classes[c].n_images == 0)
            return LCL_FAIL(LCL_FORMAT, "%s: class %s has no picture", p->path, p->classes[c].id);
        p->classes[c].images = m->images + at;
        at += p->classes[c].n_images;
        p->classes[c].n_images = 0;
    }
    for (uint64_t i = 0; i < n; i++) {
        struct lcl_class *c = &p->classes[p->image_class[i]];
        m->images[(c->images - m->images) + c->n_images++] = (int32_t)i;
    }
    return LCL_OK;
}

/* Where a list of bytes lies, which is read without HDF5, and how long it is. */
static lcl_status find_bytes(const struct lcl_h5 *f, const char *name, int64_t *at, uint64_t *count)
{
    struct lcl_h5_set bytes;
    LCL_TRY(lcl_h5_set_open(f, name, &bytes));
    lcl_h5_set_close(&bytes);
    *at = bytes.file_offset;
    *count = bytes.count;
    if (bytes.type == LCL_H5_U8 && bytes.rank == 1 && *at >= 0 &&
        *count <= (uint64_t)(f->size_bytes - *at))
        return LCL_OK;
    return LCL_FAIL_HINT(LCL_FORMAT, "h5repack -l CONTI makes it so",
                         "%s: %s is not a contiguous list of bytes in the file", f->path, name);
}

static lcl_status read_rows(const struct lcl_h5 *f, struct lcl_pack *p)
{
    struct pack_impl *m = p->impl;
    uint64_t n1 = 0, count = 0, boxes = 0;
    void *data;
    LCL_TRY(lcl_h5_read_alloc(f, LCL_PACK_ROW_OFFSET, LCL_H5_U64, MAX_INDEX_BYTES, &data, &n1));
    m->row_offset = data;
    if (n1 < 2 || n1 - 1 > INT32_MAX) return damaged(p, "no rows, or more than 2^31");
    p->n_rows = (int64_t)(n1 - 1);
    m->row_crc = calloc(n1, sizeof *m->row_crc);
    if (!m->row_crc) return LCL_FAIL(LCL_MEMORY, "no memory for the index of rows");
    LCL_TRY(lcl_h5_read(f, LCL_PACK_ROW_CRC, LCL_H5_I32, n1 - 1, m->row_crc));
    LCL_TRY(lcl_h5_get_u64(f, "/rows", "boxes", &boxes));
    p->rows_of_boxes = boxes != 0;
    LCL_TRY(find_bytes(f, LCL_PACK_ROW_BYTES, &m->rows_at, &count));
    if (m->row_offset[0] != 0 || m->row_offset[n1 - 1] != count)
        return damaged(p, "row offsets do not span the rows' bytes");
    for (uint64_t i = 0; i + 1 < n1; i++)
        if (m->row_offset[i + 1] < m->row_offset[i]) return damaged(p, "row offsets do not ascend");
    return LCL_OK;
}

static lcl_status read_index(const struct lcl_h5 *f, struct lcl_pack *p)
{
    struct pack_impl *m = p->impl;
    uint64_t count;
    char encoding[16];
    LCL_TRY(check_version(f));
    LCL_TRY(lcl_h5_get_u64(f, "/format", "content_hash", &p->content_hash));
    LCL_TRY(lcl_h5_get_str(f, "/images", "encoding", encoding, sizeof encoding));
    m->pixels = strcmp(encoding, "pixels") == 0;
    if (!m->pixels && strcmp(encoding, "file") != 0)
        return LCL_FAIL(LCL_FORMAT, "%s: unknown picture encoding \"%s\"", p->path, encoding);
    if (lcl_h5_exists(f, LCL_PACK_ROW_OFFSET)) LCL_TRY(read_rows(f, p));
    LCL_TRY(read_images(f, p));
    if (p->n_images == 0) return LCL_OK;
    LCL_TRY(read_classes(f, p));
    LCL_TRY(read_strings(f, LCL_PACK_NAMES, (uint64_t)p->n_images, &m->names, &m->name_at));
    LCL_TRY(find_bytes(f, LCL_PACK_BYTES, &m->at, &count));
    return check_index(p, count);
}

lcl_status lcl_pack_open(const char *path, struct lcl_pack *pack)
{
    struct lcl_h5 f;
    *pack = (struct lcl_pack){0};
    LCL_TRY(lcl_h5_open(path, false, &f));
    memcpy(pack->path, f.path, sizeof pack->path);
    struct pack_impl *m = calloc(1, sizeof *m);
    lcl_status status = LCL_OK;
    if (m) {
        m->fd = open(path, O_RDONLY | O_CLOEXEC);
        pack->impl = m;
        if (m->fd < 0) status = LCL_FAIL(LCL_IO, "cannot open %s: %s", path, strerror(errno));
    } else {
        status = LCL_FAIL(LCL_MEMORY, "no memory to open %s", path);
    }
    if (status == LCL_OK) status = read_index(&f, pack);
    if (status == LCL_OK) {
        status = lcl_h5_close(&f);
    } else {
        struct lcl_error error;
        lcl_error_save(&error, status);
        lcl_h5_discard(&f);
        status = lcl_error_restore(&error);
    }
    if (status != LCL_OK) lcl_pack_close(pack);
    return status;
}

void lcl_pack_close(struct lcl_pack *pack)
{
    struct pack_impl *m = pack->impl;
    if (m) {
        if (m->fd >= 0) close(m->fd);
        free(m->offset);
        free(m->crc);
        free(m->shape);
        free(m->names);
        free(m->name_at);
        free(m->images);
        free(m->row_offset);
        free(m->row_crc);
        free(m->root);
        if (m->archived) lcl_archived_free(m->archived);
        free(m->archived);
        free(m);
    }
    free(pack->classes);
    free(pack->image_class);
    *pack = (struct lcl_pack){0};
}

/* ---- pictures ---- */

static lcl_status check_number(const struct lcl_pack *p, int64_t i)
{
    if (i >= 0 && i < p->n_images) return LCL_OK;
    return LCL_FAIL(LCL_RANGE, "%s: picture %lld of %lld", p->path, (long long)i,
                    (long long)p->n_images);
}

/* Bytes of the file, against their checksum. */
static lcl_status read_checked(const struct lcl_pack *p, int64_t at, int32_t crc_bits,
                               const char *kind, int64_t i, const char *name, unsigned char *to,
                               size_t size)
{
    const struct pack_impl *m = p->impl;
    for (size_t done = 0; done < size;) {
        ssize_t got = pread(m->fd, to + done, size - done, (off_t)(at + (int64_t)done));
        if (got < 0 && errno == EINTR) continue;
        if (got <= 0)
            return LCL_FAIL(LCL_IO, "cannot read %s: %s", p->path,
                            got < 0 ? strerror(errno) : "the file became shorter");
        done += (size_t)got;
    }
    uint32_t crc = lcl_crc32c(0, to, size), stored;
    memcpy(&stored, &crc_bits, 4);
    if (crc == stored) return LCL_OK;
    return LCL_FAIL_HINT(LCL_CORRUPT, "the file is damaged; copy or make it again",
                         "%s: %s %lld%s: checksum %08x, stored %08x", p->path, kind, (long long)i,
                         name, (unsigned)crc, (unsigned)stored);
}

static lcl_status read_stored(const struct lcl_pack *p, int64_t i, unsigned char *to, size_t size)
{
    const struct pack_impl *m = p->impl;
    char name[1024];
    snprintf(name, sizeof name, " (%.1000s)", m->names + m->name_at[i]);
    return read_checked(p, m->at + (int64_t)m->offset[i], m->crc[i], "picture", i, name, to, size);
}

lcl_status lcl_pack_read_row(const struct lcl_pack *pack, int64_t i, char **text, size_t *size)
{
    const struct pack_impl *m = pack->impl;
    *text = NULL;
    if (i < 0 || i >= pack->n_rows)
        return LCL_FAIL(LCL_RANGE, "%s: row %lld of %lld", pack->path, (long long)i,
                        (long long)pack->n_rows);
    *size = (size_t)(m->row_offset[i + 1] - m->row_offset[i]);
    *text = malloc(*size + 1);
    if (!*text) return LCL_FAIL(LCL_MEMORY, "no memory for a row of %zu bytes", *size);
    (*text)[*size] = '\0';
    lcl_status status = read_checked(pack, m->rows_at + (int64_t)m->row_offset[i], m->row_crc[i],
                                     "row", i, "", (unsigned char *)*text, *size);
    if (status == LCL_OK) return LCL_OK;
    free(*text);
    *text = NULL;
    return status;
}

/* ---- copies ---- */

struct print { /* of a picture's stored bytes */
    uint64_t size;
    int32_t crc, image;
};

static int by_print(const void *a, const void *b)
{
    const struct print *p = a, *q = b;
    if (p->size != q->size) return p->size < q->size ? -1 : 1;
    if (p->crc != q->crc) return p->crc < q->crc ? -1 : 1;
    return (p->image > q->image) - (p->image < q->image);
}

/* Whether two pictures of one checksum and size are the same, bytes and shape. Others of that
 * checksum are compared with its first alone. */
static lcl_status compare(const struct lcl_pack *p, const struct print *a, const struct print *b,
                          bool *same)
{
    const struct pack_impl *m = p->impl;
    unsigned char *x = malloc(2 * a->size + 1);
    if (!x) return LCL_FAIL(LCL_MEMORY, "no memory for two pictures");
    lcl_status status = read_stored(p, a->image, x, a->size);
    if (status == LCL_OK) status = read_stored(p, b->image, x + a->size, a->size);
    *same = status == LCL_OK && memcmp(x, x + a->size, a->size) == 0 &&
            memcmp(&m->shape[3 * a->image], &m->shape[3 * b->image], 3 * sizeof *m->shape) == 0;
    free(x);
    return status;
}

lcl_status lcl_pack_find_copies(const struct lcl_pack *pack, int32_t **first)
{
    const struct pack_impl *m = pack->impl;
    size_t n = (size_t)pack->n_images, run = 0;
    struct print *v = malloc((n + 1) * sizeof *v);
    lcl_status status = LCL_OK;
    *first = malloc((n + 1) * sizeof **first);
    if (!v || !*first) {
        status = LCL_FAIL(LCL_MEMORY, "no memory to compare %zu pictures", n);
        goto out;
    }
    for (size_t i = 0; i < n; i++) (*first)[i] = (int32_t)i;
    if (m->root) goto out; /* files of their own, which a table names */
    for (size_t i = 0; i < n; i++)
        v[i] = (struct print){m->offset[i + 1] - m->offset[i], m->crc[i], (int32_t)i};
    qsort(v, n, sizeof *v, by_print);
    for (size_t i = 1; i < n; i++) {
        bool same = false;
        if (v[i].size != v[run].size || v[i].crc != v[run].crc) run = i;
        if (run == i) continue;
        LCL_TRY_GOTO(compare(pack, &v[run], &v[i], &same));
        if (same) (*first)[v[i].image] = v[run].image;
    }
out:
    free(v);
    if (status == LCL_OK) return LCL_OK;
    free(*first);
    *first = NULL;
    return status;
}

/* A picture of a table: a file of its own, or a member of an archive. */
static lcl_status read_file(const struct lcl_pack *p, int64_t i,
                            const struct lcl_decode_options *options, struct lcl_image *out)
{
    const struct pack_impl *m = p->impl;
    const char *name = m->names + m->name_at[i];
    if (m->root[0] == '\0')
        return LCL_FAIL_HINT(LCL_CONFIG, "set data.images to the folder that its paths begin in",
                             "%s: %s cannot be read: data.images is none", p->path, name);
    if (m->archived && m->archived->place[i].archive >= 0)
        return lcl_archived_read(m->archived, i, name, options, out);
    char *path = lcl_strdupf("%s/%s", m->root, name);
    if (!path) return LCL_FAIL(LCL_MEMORY, "no memory for a path");
    lcl_status status = lcl_image_load(path, options, out);
    free(path);
    return status;
}

lcl_status lcl_pack_read_image(struct lcl_pack *pack, int64_t i,
                               const struct lcl_decode_options *options, struct lcl_image *out)
{
    const struct pack_impl *m = pack->impl;
    *out = (struct lcl_image){0};
    LCL_TRY(check_number(pack, i));
    if (m->root) return read_file(pack, i, options, out);
    size_t size = (size_t)(m->offset[i + 1] - m->offset[i]);
    unsigned char *bytes = malloc(size + 1);
    if (!bytes) return LCL_FAIL(LCL_MEMORY, "no memory for a picture of %zu bytes", size);
    lcl_status status = read_stored(pack, i, bytes, size);
    if (status == LCL_OK && m->pixels) {
        const int32_t *s = m->shape + 3 * i;
        *out = (struct lcl_image){s[0], s[1], s[2], bytes};
        lcl_image_apply_alpha(out, options);
        return LCL_OK;
    }
    if (status == LCL_OK)
        status = lcl_image_decode(bytes, size, m->names + m->name_at[i], options, out);
    free(bytes);
    return status;
}

lcl_status pack_picture(const struct pack_pixels *j, int64_t k, struct lcl_image *out)
{
    struct lcl_decode_options o = {.composite_alpha = true, .apply_exif = true};
    memcpy(o.background, j->p->background, 3);
    return lcl_pack_read_image(j->pack, j->images[k], &o, out);
}

lcl_status pack_put(const struct pack_pixels *j, int64_t k, const struct lcl_image *image)
{
    size_t one = 3 * (size_t)j->p->size * (size_t)j->p->size;
    return lcl_preprocess_image(image, j->p, j->out + (size_t)k * one);
}

lcl_status pack_about(const struct pack_pixels *j, int64_t k, lcl_status status)
{
    if (status == LCL_OK) return LCL_OK;
    return lcl_fail_context(status, "%s: picture %lld", j->pack->path, (long long)j->images[k]);
}

static lcl_status pixel_chunk(void *ctx, int64_t chunk)
{
    const struct pack_pixels *j = ctx;
    int64_t end = lcl_chunk_end(chunk, READ_GRAIN, j->n);
    for (int64_t k = lcl_chunk_begin(chunk, READ_GRAIN); k < end; k++) {
        struct lcl_image image;
        LCL_TRY(pack_picture(j, k, &image));
        lcl_status status = pack_put(j, k, &image);
        lcl_image_free(&image);
        LCL_TRY(pack_about(j, k, status));
    }
    return LCL_OK;
}

lcl_status lcl_pack_read_pixels(struct lcl_pack *pack, const int64_t *images, int64_t n,
                                const struct lcl_preprocess *p, float *out_n3SS)
{
    struct pack_pixels j = {pack, images, NULL, n, p, out_n3SS};
    return lcl_parallel(lcl_chunk_count(n, READ_GRAIN), pixel_chunk, &j);
}

lcl_status lcl_pack_image_name(const struct lcl_pack *pack, int64_t i, const char **name)
{
    const struct pack_impl *m = pack->impl;
    *name = "";
    LCL_TRY(check_number(pack, i));
    if (m) *name = m->names + m->name_at[i]; /* a pack made in memory has no names */
    return LCL_OK;
}

int32_t lcl_pack_find_class(const struct lcl_pack *pack, const char *id)
{
    for (int32_t c = 0; c < pack->n_classes; c++)
        if (strcmp(pack->classes[c].id, id) == 0) return c;
    return -1;
}

lcl_status lcl_pack_verify(struct lcl_pack *pack)
{
    const struct pack_impl *m = pack->impl;
    struct lcl_h5 f;
    if (m->root) return LCL_FAIL(LCL_UNSUPPORTED, "%s: a table has no checksums", pack->path);
    LCL_TRY(lcl_h5_open(pack->path, false, &f));
    lcl_status status = lcl_h5_verify_all(&f);
    struct lcl_error error;
    lcl_error_save(&error, status);
    lcl_h5_discard(&f);
    return status == LCL_OK ? LCL_OK : lcl_error_restore(&error);
}
