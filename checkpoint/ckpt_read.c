#include "checkpoint/ckpt_read.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/code8.h"
#include "core/fs.h"

enum { SOME = 1 << 16 }; /* elements that are converted at a time: whole blocks of any kind */

/* What this rank has read of a dataset: all of it, or its own elements. */
struct sum {
    uint32_t crc, whole;
};

struct reading {
    struct lcl_rows_reading *r;
    int fd, rank, size;
    uint64_t file_bytes;
    struct sum *sum; /* [n_rows * LCL_SET_KINDS] */
    float *wide;     /* [SOME] */
    unsigned char *raw, *scale;
};

static const struct lcl_param *row_of(const struct reading *l, int row)
{
    return &l->r->t->rows[row];
}

static const struct lcl_set_place *place_of(const struct reading *l, int row,
                                            enum lcl_set_kind kind)
{
    return &l->r->place[row].of[kind];
}

static lcl_status read_bytes(const struct reading *l, int64_t at, void *data, size_t n)
{
    char *to = data;
    if (at < 0 || (uint64_t)at > l->file_bytes || n > l->file_bytes - (uint64_t)at)
        return LCL_FAIL_HINT(LCL_FORMAT, "the file was cut short; copy or make it again",
                             "%s: a dataset reaches past its %llu bytes", l->r->path,
                             (unsigned long long)l->file_bytes);
    while (n > 0) {
        ssize_t some = pread(l->fd, to, n, (off_t)at);
        if (some < 0 && errno == EINTR) continue;
        if (some <= 0)
            return LCL_FAIL(LCL_IO, "cannot read %s: %s", l->r->path,
                            some < 0 ? strerror(errno) : "it became shorter meanwhile");
        to += some;
        at += some;
        n -= (size_t)some;
    }
    return LCL_OK;
}

static lcl_status compare(const struct reading *l, int row, enum lcl_set_kind kind, uint32_t crc)
{
    const uint32_t stored = place_of(l, row, kind)->crc;
    char name[LCL_SET_NAME_BYTES];
    if (crc == stored) return LCL_OK;
    lcl_set_name(kind, row_of(l, row), name);
    return LCL_FAIL_HINT(LCL_CORRUPT, "the file is damaged; copy or make it again",
                         "%s: dataset %s: checksum %08x, stored %08x", l->r->path, name,
                         (unsigned)crc, (unsigned)stored);
}

/* All of [of.first, of.first + of.count) has been read. */
static lcl_status settle(struct reading *l, int row, enum lcl_set_kind kind,
                         struct lcl_set_range of, uint32_t crc)
{
    const bool whole = of.count == row_of(l, row)->count;
    l->sum[row * LCL_SET_KINDS + (int)kind] = (struct sum){crc, whole};
    return whole ? compare(l, row, kind, crc) : LCL_OK;
}

/* Elements of a dataset, to their bytes in x; *crc goes on over them. */
static lcl_status read_elements(const struct reading *l, int row, enum lcl_set_kind kind,
                                size_t first, size_t n, void *x, uint32_t *crc)
{
    const struct lcl_set_place *place = place_of(l, row, kind);
    const size_t at = lcl_set_bytes(kind, place->dtype, first);
    const size_t bytes = lcl_set_bytes(kind, place->dtype, first + n) - at;
    if (bytes == 0) return LCL_OK;
    LCL_TRY(read_bytes(l, place->offset + (int64_t)at, x, bytes));
    *crc = lcl_crc32c(*crc, x, bytes);
    return LCL_OK;
}

static lcl_status read_as_is(struct reading *l, int row, enum lcl_set_kind kind,
                             struct lcl_set_range of, void *x)
{
    uint32_t crc = 0;
    LCL_TRY(read_elements(l, row, kind, of.first, of.count, x, &crc));
    return settle(l, row, kind, of, crc);
}

static bool has_scales(lcl_dtype dtype) { return lcl_is_blocks(dtype) || dtype == LCL_U8; }

/* n elements that lie in raw and scale, as f32. */
static lcl_status widen(struct reading *l, enum lcl_set_kind kind, lcl_dtype stored, size_t n)
{
    if (lcl_is_blocks(stored)) {
        lcl_blocks_decode(stored, l->raw, (const lcl_f16 *)(const void *)l->scale, n, l->wide);
        return LCL_OK;
    }
    if (stored != LCL_U8) return lcl_convert(l->wide, LCL_F32, l->raw, stored, n);
    const struct lcl_moment m = {.dtype = LCL_U8,
                                 .x = l->raw,
                                 .scale_B = (float *)(void *)l->scale,
                                 .count = (int64_t)n,
                                 .B = lcl_code8_blocks((int64_t)n)};
    lcl_moment_read(&m, kind == LCL_SET_V, l->wide);
    return LCL_OK;
}

/* base: the row's first element that the moment's arrays have. */
static void put_moment(const struct lcl_moment *m, bool second, size_t at, size_t n, const float *x)
{
    const bool coded = m->dtype == LCL_U8;
    const struct lcl_moment some = {
        .dtype = m->dtype,
        .x = (unsigned char *)m->x + at * lcl_dtype_bytes(m->dtype),
        .scale_B = coded ? m->scale_B + at / LCL_CODE8_BLOCK : NULL,
        .count = (int64_t)n,
        .B = coded ? lcl_code8_blocks((int64_t)n) : 0,
    };
    lcl_moment_write(&some, second, x);
}

/* Of another type than the table's, some at a time. m NULL: values. */
static lcl_status read_converted(struct reading *l, int row, enum lcl_set_kind kind,
                                 struct lcl_set_range of, const struct lcl_moment *m)
{
    const lcl_dtype stored = place_of(l, row, kind)->dtype;
    uint32_t crc = 0, scale_crc = 0;
    for (size_t done = 0, n; done < of.count; done += n) {
        const size_t at = of.first + done;
        n = of.count - done < SOME ? of.count - done : SOME;
        LCL_TRY(read_elements(l, row, kind, at, n, l->raw, &crc));
        if (has_scales(stored))
            LCL_TRY(read_elements(l, row, kind + 1, at, n, l->scale, &scale_crc));
        LCL_TRY(widen(l, kind, stored, n));
        if (m)
            put_moment(m, kind == LCL_SET_V, done, n, l->wide);
        else
            lcl_param_put(l->r->t, row_of(l, row), at, n, l->wide);
    }
    if (has_scales(stored)) LCL_TRY(settle(l, row, kind + 1, of, scale_crc));
    return settle(l, row, kind, of, crc);
}

static lcl_status read_value(struct reading *l, int row)
{
    const struct lcl_param *p = row_of(l, row);
    const struct lcl_params *t = l->r->t;
    const lcl_dtype kept = lcl_param_dtype(t, p), stored = place_of(l, row, LCL_SET_VALUE)->dtype;
    const struct lcl_set_range all = {0, p->count};
    const struct lcl_set_range of =
        l->r->share.values && l->size > 1 ? lcl_set_own(p, l->rank, l->size) : all;
    l->r->n_values += stored != kept;
    if (stored != kept || lcl_param_is_split(t, p))
        return read_converted(l, row, LCL_SET_VALUE, of, NULL);
    if (p->in_blocks) {
        LCL_TRY(read_as_is(l, row, LCL_SET_VALUE_SCALE, of,
                           lcl_param_scale(t, p) + of.first / LCL_BLOCK));
        return read_as_is(l, row, LCL_SET_VALUE, of,
                          lcl_param_code(t, p) + lcl_code_bytes(kept, of.first));
    }
    return read_as_is(l, row, LCL_SET_VALUE, of,
                      kept == LCL_F32 ? (void *)(lcl_param_value(t, p) + of.first)
                                      : (void *)(lcl_param_value16(t, p) + of.first));
}

/* Arrays of moments have all elements of the row, or this rank's own. */
static lcl_status read_moment(struct reading *l, int row, bool second)
{
    const enum lcl_set_kind kind = second ? LCL_SET_V : LCL_SET_M;
    const struct lcl_set_place *place = place_of(l, row, kind);
    const struct lcl_moment m = lcl_param_moment(l->r->t, row_of(l, row), second);
    struct lcl_set_range of = {0, row_of(l, row)->count};
    if (m.count != (int64_t)of.count) of = lcl_set_own(row_of(l, row), l->rank, l->size);
    if (m.count != (int64_t)of.count)
        return LCL_FAIL(LCL_INTERNAL, "%s: moments of %lld elements, of its own are %zu",
                        row_of(l, row)->name, (long long)m.count, of.count);
    if (place->offset < 0) { /* lcl_checkpoint_save leaves out what is zero */
        memset(m.x, 0, of.count * lcl_dtype_bytes(m.dtype));
        memset(m.scale_B, 0, (size_t)m.B * sizeof *m.scale_B);
        return LCL_OK;
    }
    l->r->n_moments += place->dtype != m.dtype;
    if (place->dtype != m.dtype) return read_converted(l, row, kind, of, &m);
    if (m.dtype == LCL_U8) LCL_TRY(read_as_is(l, row, kind + 1, of, m.scale_B));
    return read_as_is(l, row, kind, of, m.x);
}

static lcl_status read_rows(struct reading *l)
{
    const struct lcl_params *t = l->r->t;
    for (int i = 0; i < t->n_rows; i++)
        if (l->r->parts >> t->rows[i].part & 1u && place_of(l, i, LCL_SET_VALUE)->offset >= 0)
            LCL_TRY(read_value(l, i));
    for (int i = 0; i < t->n_rows && l->r->with_moments; i++)
        for (int second = 0; second < 2; second++)
            if (lcl_param_has_moments(&t->rows[i])) LCL_TRY(read_moment(l, i, second));
    return LCL_OK;
}

/* Of datasets that no rank has read as a whole: the ranks' parts end to end. */
static lcl_status join(struct reading *l, const struct sum *all)
{
    const int n = l->r->t->n_rows * LCL_SET_KINDS;
    for (int i = 0; i < n; i++) {
        const int row = i / LCL_SET_KINDS;
        const enum lcl_set_kind kind = (enum lcl_set_kind)(i % LCL_SET_KINDS);
        const struct lcl_set_part part = {
            .row = row, .kind = kind, .dtype = place_of(l, row, kind)->dtype};
        bool read = false, whole = false;
        uint32_t crc = 0;
        for (int r = 0; r < l->size; r++) {
            const struct sum *s = &all[(size_t)r * (size_t)n + (size_t)i];
            size_t at, bytes = lcl_set_own_bytes(l->r->t, &part, r, l->size, &at);
            crc = lcl_crc32c_combine(crc, s->crc, bytes);
            read = read || s->crc != 0;
            whole = whole || s->whole;
        }
        if (read && !whole) LCL_TRY(compare(l, row, kind, crc));
    }
    return LCL_OK;
}

static lcl_status join_sums(struct reading *l)
{
    const size_t n = (size_t)l->r->t->n_rows * LCL_SET_KINDS;
    if (l->size == 1) return LCL_OK;
    struct sum *all = malloc((size_t)l->size * n * sizeof *all + 1);
    if (!all) return LCL_FAIL(LCL_MEMORY, "no memory for a list of checksums");
    lcl_status status = lcl_comm_all_gather(l->r->share.comm, "checksums of a checkpoint", l->sum,
                                            n * sizeof *l->sum, all);
    if (status == LCL_OK) status = join(l, all);
    free(all);
    return status;
}

static lcl_status open_file(struct reading *l)
{
    struct stat st;
    l->fd = open(l->r->path, O_RDONLY | O_CLOEXEC);
    if (l->fd < 0 || fstat(l->fd, &st) != 0)
        return LCL_FAIL_HINT(
            LCL_IO,
            l->size > 1 ? "checkpoints have to be on a file system that all ranks see" : NULL,
            "cannot open %s: %s", l->r->path, strerror(errno));
    l->file_bytes = (uint64_t)st.st_size;
    l->sum = calloc((size_t)l->r->t->n_rows * LCL_SET_KINDS + 1, sizeof *l->sum);
    l->wide = malloc(SOME * sizeof *l->wide);
    l->raw = malloc(SOME * sizeof(float));
    l->scale = malloc(SOME * sizeof(float));
    if (l->sum && l->wide && l->raw && l->scale) return LCL_OK;
    return LCL_FAIL(LCL_MEMORY, "no memory to read %s", l->r->path);
}

lcl_status lcl_rows_read(struct lcl_rows_reading *r)
{
    struct lcl_comm *comm = r->share.comm;
    struct reading l = {.r = r, .fd = -1, .rank = lcl_comm_rank(comm), .size = lcl_comm_size(comm)};
    lcl_status status = open_file(&l);
    if (status == LCL_OK) status = read_rows(&l);
    status = lcl_comm_agree(comm, "the reading of a checkpoint", status);
    if (status == LCL_OK) status = join_sums(&l);
    if (l.fd >= 0) close(l.fd);
    free(l.sum);
    free(l.wide);
    free(l.raw);
    free(l.scale);
    return status;
}
