#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "checkpoint/ckpt_folder.h"
#include "checkpoint/ckpt_manifest.h"
#include "checkpoint/ckpt_sets.h"
#include "checkpoint/hf_config.h"
#include "core/fs.h"
#include "core/log.h"
#include "core/threads.h"

struct lcl_checkpoint_saver {
    struct lcl_checkpoint_options o; /* of the save under way, as all below */
    int64_t step, serial;
    char name[48];
    char *output_dir, *final, *temporary, *part, *state; /* paths */
    const struct lcl_params *params;
    struct lcl_set_list sets;
    int fd; /* of `part`; -1: not open */
    bool saving, has_snapshot, has_thread;
    pthread_t thread;
    atomic_bool written;
    struct lcl_error error; /* of the writing */
    /* for the whole run */
    unsigned char *snapshot;
    size_t snapshot_bytes;
    bool said_no_memory, has_sweeper;
    pthread_t sweeper; /* removes old checkpoints, which takes its time where they are large */
    char *swept;       /* the folder that it does so in */
    double stalled_s;
};

static struct lcl_comm *comm_of(const struct lcl_checkpoint_saver *s) { return s->o.share.comm; }
static bool is_first(const struct lcl_checkpoint_saver *s)
{
    return lcl_comm_rank(comm_of(s)) == 0;
}

/* Bytes of this rank in set i, [*at, *at + n) of it. */
static size_t own_bytes(const struct lcl_checkpoint_saver *s, int i, size_t *at)
{
    return lcl_set_own_bytes(s->params, &s->sets.part[i], lcl_comm_rank(comm_of(s)),
                             lcl_comm_size(comm_of(s)), at);
}

/* ---- state.h5 laid out, by the first rank: all but the bytes of rows ---- */

static lcl_status write_text(struct lcl_h5 *f, const char *name, const char *text)
{
    const char *s = text ? text : "";
    uint64_t n = strlen(s) + 1; /* with the NUL: a dataset is never empty */
    return lcl_h5_write(f, name, LCL_H5_U8, 1, &n, s);
}

static lcl_status write_neighbors(struct lcl_h5 *f, const struct lcl_run_state *s)
{
    const uint64_t dims[] = {(uint64_t)s->neighbor_classes, (uint64_t)s->neighbor_width};
    return s->neighbors ? lcl_h5_write(f, "/run/neighbors", LCL_H5_I32, 2, dims, s->neighbors)
                        : LCL_OK;
}

static lcl_status write_run_state(struct lcl_h5 *f, const struct lcl_run_state *s)
{
    LCL_TRY(write_neighbors(f, s));
    LCL_TRY(write_text(f, "/run/config_yaml", s->config_yaml));
    LCL_TRY(write_text(f, "/run/extra_json", s->extra_json));
    LCL_TRY(lcl_h5_set_u64(f, "/run", "step", (uint64_t)s->step));
    LCL_TRY(lcl_h5_set_u64(f, "/run", "stage", (uint64_t)s->stage));
    LCL_TRY(lcl_h5_set_u64(f, "/run", "stage_step", (uint64_t)s->stage_step));
    LCL_TRY(lcl_h5_set_u64(f, "/run", "epoch", (uint64_t)s->epoch));
    LCL_TRY(lcl_h5_set_u64(f, "/run", "sample", (uint64_t)s->sample));
    LCL_TRY(lcl_h5_set_u64(f, "/run", "tokens", (uint64_t)s->tokens));
    LCL_TRY(lcl_h5_set_u64(f, "/run", "seed", s->seed));
    return lcl_h5_set_f64(f, "/run", "best_metric", s->best_metric);
}

/* Codes as bytes, scales as f16's bits; `blocks` tells a person which they are. */
static lcl_status reserve_set(struct lcl_h5 *f, const struct lcl_params *t, struct lcl_set_part *s)
{
    const struct lcl_param *p = &t->rows[s->row];
    const bool in_blocks = lcl_is_blocks(s->dtype) && s->kind <= LCL_SET_VALUE_SCALE;
    char name[LCL_SET_NAME_BYTES];
    uint64_t dims[LCL_PARAM_MAX_DIMS];
    lcl_h5_type type = lcl_set_type(s->dtype);
    int rank = p->n_dims;
    lcl_set_name(s->kind, p, name);
    for (int d = 0; d < p->n_dims; d++) dims[d] = (uint64_t)p->shape[d];
    if (s->kind == LCL_SET_VALUE_SCALE) {
        type = LCL_H5_U16;
        dims[1] /= LCL_BLOCK;
    } else if (s->kind == LCL_SET_M_SCALE || s->kind == LCL_SET_V_SCALE) {
        type = LCL_H5_F32;
        rank = 1;
        dims[0] = lcl_set_bytes(s->kind, s->dtype, p->count) / sizeof(float);
    } else if (in_blocks) {
        dims[1] = lcl_code_bytes(s->dtype, dims[1]);
    }
    LCL_TRY(lcl_h5_set_reserve(f, name, type, rank, dims, &s->offset));
    if (s->kind != LCL_SET_VALUE) return LCL_OK;
    if (in_blocks) LCL_TRY(lcl_h5_set_str(f, name, "blocks", lcl_dtype_name(s->dtype)));
    LCL_TRY(lcl_h5_set_u64(f, name, "part", p->part));
    return lcl_h5_set_u64(f, name, "trainable", lcl_param_moves(p));
}

static lcl_status write_contents(struct lcl_checkpoint_saver *s, struct lcl_h5 *f,
                                 const struct lcl_run_state *run, const char *model_json)
{
    LCL_TRY(lcl_h5_make_group(f, "/format"));
    LCL_TRY(lcl_h5_set_str(f, "/format", "magic", LCL_CHECKPOINT_MAGIC));
    LCL_TRY(lcl_h5_set_u64(f, "/format", "version", LCL_CHECKPOINT_FORMAT_VERSION));
    LCL_TRY(lcl_h5_set_str(f, "/format", "creator", "lcl train"));
    LCL_TRY(write_text(f, "/model/config", model_json));
    LCL_TRY(lcl_h5_make_group(f, "/params"));
    LCL_TRY(write_run_state(f, run));
    LCL_TRY(lcl_h5_set_u64(f, "/run", "has_optimizer", s->o.with_optimizer));
    for (int i = 0; i < s->sets.n; i++) LCL_TRY(reserve_set(f, s->params, &s->sets.part[i]));
    return LCL_OK;
}

/* Asks the file system for the room before anything is written there: HDF5's own failure in the
 * middle is clumsy, and one after hours would be late. */
static lcl_status reserve_room(const char *path, size_t bytes)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0666);
    if (fd < 0) return lcl_folder_fail("create", path);
    bool failed = fallocate(fd, 0, 0, (off_t)bytes) != 0 && errno != EOPNOTSUPP && errno != ENOSYS;
    int error = errno;
    close(fd);
    if (!failed) return LCL_OK;
    char size[24];
    return LCL_FAIL_HINT(LCL_IO, "free some disk space, lower save_total_limit or save elsewhere",
                         "no room for the %s of %s: %s", lcl_format_bytes((double)bytes, size),
                         path, strerror(error));
}

static size_t bytes_of_rows(const struct lcl_checkpoint_saver *s)
{
    size_t bytes = 0;
    for (int i = 0; i < s->sets.n; i++) {
        const struct lcl_set_part *p = &s->sets.part[i];
        bytes += lcl_set_bytes(p->kind, p->dtype, s->params->rows[p->row].count);
    }
    return bytes;
}

static lcl_status write_layout(struct lcl_checkpoint_saver *s, const struct lcl_run_state *run,
                               const char *model_json)
{
    struct lcl_h5 f = {0};
    struct stat st;
    lcl_status status = LCL_OK;
    LCL_TRY_GOTO(reserve_room(s->part, 4096 + bytes_of_rows(s)));
    LCL_TRY_GOTO(lcl_h5_create(s->part, &f));
    LCL_TRY_GOTO(write_contents(s, &f, run, model_json));
    LCL_TRY_GOTO(lcl_h5_close(&f));
    if (stat(s->part, &st) != 0)
        status = lcl_folder_fail("find", s->part);
    else
        status = reserve_room(s->part, (size_t)st.st_size);
out:
    lcl_h5_discard(&f);
    return status;
}

static lcl_status lay_out(struct lcl_checkpoint_saver *s, const struct lcl_run_state *run,
                          const struct lcl_model_config *m)
{
    char *json = NULL;
    LCL_TRY(lcl_fs_mkdirs(s->output_dir));
    LCL_TRY(lcl_folder_remove_temporaries(s->output_dir));
    LCL_TRY(lcl_folder_next_serial(s->output_dir, &s->serial));
    LCL_TRY(lcl_fs_mkdirs(s->temporary));
    LCL_TRY(lcl_model_config_to_json(m, &json));
    lcl_status status = write_layout(s, run, json);
    free(json);
    return status;
}

static lcl_status tell_offsets(struct lcl_checkpoint_saver *s)
{
    const size_t n = (size_t)s->sets.n;
    int64_t *offset = malloc(n * sizeof *offset + 1);
    if (!offset) return LCL_FAIL(LCL_MEMORY, "no memory for a list of datasets");
    for (size_t i = 0; i < n; i++) offset[i] = s->sets.part[i].offset;
    lcl_status status = lcl_comm_broadcast(comm_of(s), "where a checkpoint's datasets lie", 0,
                                           offset, n * sizeof *offset);
    for (size_t i = 0; i < n; i++) s->sets.part[i].offset = offset[i];
    free(offset);
    return status;
}

/* ---- its rows filled in, by every rank its own elements ---- */

static lcl_status put(const struct lcl_checkpoint_saver *s, const void *data, size_t n, int64_t at)
{
    const char *from = data;
    while (n > 0) {
        ssize_t some = pwrite(s->fd, from, n, (off_t)at);
        if (some < 0 && errno == EINTR) continue;
        if (some < 0) return lcl_fs_fail_write(s->part);
        from += some;
        at += some;
        n -= (size_t)some;
    }
    return LCL_OK;
}

enum { PIECE = 4 << 20 }; /* bytes that are summed and written at a time: they stay in the cache */

static lcl_status write_part(const struct lcl_checkpoint_saver *s, struct lcl_set_part *p,
                             const unsigned char *from, float *joined)
{
    const struct lcl_param *row = &s->params->rows[p->row];
    size_t first, bytes = own_bytes(s, (int)(p - s->sets.part), &first);
    p->crc = 0;
    for (size_t at = 0, n; at < bytes; at += n) {
        n = bytes - at < PIECE ? bytes - at : PIECE;
        if (!from)
            lcl_param_get(s->params, row, (first + at) / sizeof *joined, n / sizeof *joined,
                          joined);
        const void *piece = from ? (const void *)(from + at) : joined;
        p->crc = lcl_crc32c(p->crc, piece, n);
        LCL_TRY(put(s, piece, n, p->offset + (int64_t)(first + at)));
    }
    return LCL_OK;
}

/* Without a snapshot: from the arrays themselves. */
static lcl_status write_parts(struct lcl_checkpoint_saver *s)
{
    float *joined = malloc(PIECE);
    lcl_status status = joined ? LCL_OK : LCL_FAIL(LCL_MEMORY, "no memory to write a checkpoint");
    for (int i = 0; i < s->sets.n && status == LCL_OK; i++) {
        struct lcl_set_part *p = &s->sets.part[i];
        status = write_part(s, p, s->has_snapshot ? s->snapshot + p->kept : p->from, joined);
    }
    free(joined);
    if (status == LCL_OK && fdatasync(s->fd) != 0 && errno != EINVAL)
        status = lcl_folder_fail("sync", s->part);
    return status;
}

static void *write_behind(void *arg)
{
    struct lcl_checkpoint_saver *s = arg;
    lcl_status status = write_parts(s);
    if (status != LCL_OK) lcl_error_save(&s->error, status);
    atomic_store(&s->written, true);
    return NULL;
}

static lcl_status keep_part(void *ctx, int64_t i)
{
    const struct lcl_checkpoint_saver *s = ctx;
    const struct lcl_set_part *p = &s->sets.part[i];
    size_t at, n = own_bytes(s, (int)i, &at);
    if (n == 0) return LCL_OK;
    if (p->from)
        memcpy(s->snapshot + p->kept, p->from, n);
    else
        lcl_param_get(s->params, &s->params->rows[p->row], at / sizeof(float), n / sizeof(float),
                      (float *)(void *)(s->snapshot + p->kept));
    return LCL_OK;
}

/* Room for it stays for the next one. Without: the save goes on without a snapshot. */
static lcl_status take_snapshot(struct lcl_checkpoint_saver *s)
{
    size_t bytes = 0, at;
    char text[24];
    for (int i = 0; i < s->sets.n; i++) {
        s->sets.part[i].kept = bytes;
        bytes += (own_bytes(s, i, &at) + 63) / 64 * 64;
    }
    if (bytes > s->snapshot_bytes) {
        if (s->snapshot) munmap(s->snapshot, s->snapshot_bytes);
        s->snapshot = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (s->snapshot == MAP_FAILED) s->snapshot = NULL;
        s->snapshot_bytes = s->snapshot ? bytes : 0;
    }
    s->has_snapshot = s->snapshot != NULL;
    if (s->has_snapshot) return lcl_parallel(s->sets.n, keep_part, s);
    if (!s->said_no_memory)
        lcl_log_warn("no memory for a snapshot of %s: training waits while checkpoints are written",
                     lcl_format_bytes((double)bytes, text));
    s->said_no_memory = true;
    return LCL_OK;
}

/* With the signals of the program left to its first thread; an error's number, or 0. */
static int start_thread(pthread_t *thread, void *(*run)(void *), void *arg)
{
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int error = pthread_create(thread, NULL, run, arg);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return error;
}

/* ---- a save from its beginning to its end ---- */

static void *sweep(void *arg)
{
    if (lcl_folder_remove_temporaries(arg) != LCL_OK)
        lcl_log_warn("old checkpoints stay: %s", lcl_error_message());
    return NULL;
}

static void join_sweeper(struct lcl_checkpoint_saver *s)
{
    if (s->has_sweeper) pthread_join(s->sweeper, NULL);
    s->has_sweeper = false;
    free(s->swept);
    s->swept = NULL;
}

/* The new one is safe by now: failing to remove old ones is no reason to stop a run. What is left
 * the next save removes. */
static void remove_old(struct lcl_checkpoint_saver *s)
{
    if (!is_first(s) || s->o.keep <= 0) return;
    join_sweeper(s);
    if (lcl_folder_set_old_aside(s->output_dir, s->o.keep) != LCL_OK)
        lcl_log_warn("old checkpoints stay: %s", lcl_error_message());
    s->swept = lcl_strdupf("%s", s->output_dir);
    s->has_sweeper = s->swept && start_thread(&s->sweeper, sweep, s->swept) == 0;
}

static lcl_status open_part(struct lcl_checkpoint_saver *s)
{
    s->fd = open(s->part, O_WRONLY | O_CLOEXEC);
    if (s->fd >= 0) return LCL_OK;
    return LCL_FAIL_HINT(LCL_IO, "output_dir has to be on a file system that all ranks see",
                         "rank %d cannot open %s: %s", lcl_comm_rank(comm_of(s)), s->part,
                         strerror(errno));
}

static lcl_status begin(struct lcl_checkpoint_saver *s, const struct lcl_run_state *run,
                        const struct lcl_model_config *m)
{
    LCL_TRY(lcl_sets_list(comm_of(s), s->params, s->o.with_optimizer, &s->sets));
    join_sweeper(s);
    lcl_status status = is_first(s) ? lay_out(s, run, m) : LCL_OK;
    LCL_TRY(lcl_comm_agree(comm_of(s), "the layout of a checkpoint", status));
    LCL_TRY(tell_offsets(s));
    status = open_part(s);
    if (status == LCL_OK && s->o.async) status = take_snapshot(s);
    LCL_TRY(lcl_comm_agree(comm_of(s), "the begin of a checkpoint", status));
    s->has_thread = s->has_snapshot && start_thread(&s->thread, write_behind, s) == 0;
    if (!s->has_thread) write_behind(s); /* and nothing goes on meanwhile */
    return LCL_OK;
}

static void free_save(struct lcl_checkpoint_saver *s)
{
    if (s->has_thread) pthread_join(s->thread, NULL);
    if (s->fd >= 0) close(s->fd);
    lcl_sets_free(&s->sets);
    free(s->output_dir);
    free(s->final);
    free(s->temporary);
    free(s->part);
    free(s->state);
    s->output_dir = s->final = s->temporary = s->part = s->state = NULL;
    s->fd = -1;
    s->saving = s->has_thread = s->has_snapshot = false;
}

/* Removes what a failed save wrote; the first error stays. */
static lcl_status give_up(struct lcl_checkpoint_saver *s, lcl_status status)
{
    struct lcl_error error;
    lcl_error_save(&error, status);
    if (is_first(s) && s->temporary && lcl_fs_remove_tree(s->temporary) != LCL_OK)
        lcl_log_warn("%s is left over: %s", s->temporary, lcl_error_message());
    lcl_status first = lcl_error_restore(&error);
    return lcl_fail_context(first, "saving %s/%s (earlier checkpoints are untouched)",
                            s->output_dir ? s->output_dir : "?", s->name);
}

static lcl_status store_sums(const struct lcl_checkpoint_saver *s)
{
    struct lcl_h5 f = {0};
    lcl_status status = LCL_OK;
    LCL_TRY_GOTO(lcl_h5_open(s->part, true, &f));
    for (int i = 0; i < s->sets.n; i++) {
        const struct lcl_set_part *p = &s->sets.part[i];
        char name[LCL_SET_NAME_BYTES];
        lcl_set_name(p->kind, &s->params->rows[p->row], name);
        LCL_TRY_GOTO(lcl_h5_set_u64(&f, name, "crc32c", p->crc));
    }
    LCL_TRY_GOTO(lcl_h5_close(&f));
out:
    lcl_h5_discard(&f);
    return status;
}

static lcl_status seal(const struct lcl_checkpoint_saver *s)
{
    LCL_TRY(store_sums(s));
    LCL_TRY(lcl_fs_commit(s->part, s->state));
    LCL_TRY(lcl_manifest_write(s->temporary, s->step, s->serial));
    LCL_TRY(lcl_folder_put_in_place(s->output_dir, s->temporary, s->final));
    LCL_TRY(lcl_folder_set_link(s->output_dir, "last", s->name));
    return s->o.is_best ? lcl_folder_set_link(s->output_dir, "best", s->name) : LCL_OK;
}

static lcl_status join_sums(struct lcl_checkpoint_saver *s)
{
    const size_t size = (size_t)lcl_comm_size(comm_of(s)), n = (size_t)s->sets.n;
    uint32_t *all = malloc((size + 1) * n * sizeof *all + 1), *mine = all ? all + size * n : NULL;
    if (!all) return LCL_FAIL(LCL_MEMORY, "no memory for a list of checksums");
    for (size_t i = 0; i < n; i++) mine[i] = s->sets.part[i].crc;
    lcl_status status =
        lcl_comm_all_gather(comm_of(s), "checksums of a checkpoint", mine, n * sizeof *mine, all);
    if (status == LCL_OK) lcl_sets_join(s->params, &s->sets, all, (int)size);
    free(all);
    return status;
}

static lcl_status end(struct lcl_checkpoint_saver *s)
{
    if (s->has_thread) pthread_join(s->thread, NULL);
    s->has_thread = false;
    lcl_status status = s->error.code == LCL_OK ? LCL_OK : lcl_error_restore(&s->error);
    LCL_TRY(lcl_comm_agree(comm_of(s), "the writing of a checkpoint", status));
    LCL_TRY(join_sums(s));
    status = is_first(s) ? seal(s) : LCL_OK;
    LCL_TRY(lcl_comm_agree(comm_of(s), "the end of a checkpoint", status));
    remove_old(s);
    return LCL_OK;
}

lcl_status lcl_checkpoint_finish(struct lcl_checkpoint_saver *s)
{
    if (!s->saving) return LCL_OK;
    double start = lcl_time_s();
    lcl_status status = end(s);
    if (status != LCL_OK) status = give_up(s, status);
    free_save(s);
    s->stalled_s += lcl_time_s() - start;
    return status;
}

lcl_status lcl_checkpoint_poll(struct lcl_checkpoint_saver *s)
{
    if (!s->saving) return LCL_OK;
    double start = lcl_time_s();
    unsigned char mine = atomic_load(&s->written), all[LCL_COMM_MOST];
    LCL_TRY(lcl_comm_all_gather(comm_of(s), "whether a checkpoint is written", &mine, 1, all));
    s->stalled_s += lcl_time_s() - start;
    for (int r = 0; r < lcl_comm_size(comm_of(s)); r++)
        if (!all[r]) return LCL_OK;
    return lcl_checkpoint_finish(s);
}

static lcl_status name_paths(struct lcl_checkpoint_saver *s, const char *output_dir)
{
    snprintf(s->name, sizeof s->name, "checkpoint-%lld", (long long)s->step);
    s->output_dir = lcl_strdupf("%s", output_dir);
    s->final = lcl_strdupf("%s/%s", output_dir, s->name);
    s->temporary = lcl_strdupf("%s/%s.tmp", output_dir, s->name);
    s->part = lcl_strdupf("%s/%s.tmp/" LCL_CHECKPOINT_STATE ".part", output_dir, s->name);
    s->state = lcl_strdupf("%s/%s.tmp/" LCL_CHECKPOINT_STATE, output_dir, s->name);
    if (s->output_dir && s->final && s->temporary && s->part && s->state) return LCL_OK;
    return LCL_FAIL(LCL_MEMORY, "no memory for a path");
}

lcl_status lcl_checkpoint_begin(struct lcl_checkpoint_saver *s, const char *output_dir,
                                const struct lcl_run_state *run, const struct lcl_params *t,
                                const struct lcl_model_config *m,
                                const struct lcl_checkpoint_options *options)
{
    LCL_TRY(lcl_checkpoint_finish(s));
    if (run->step < 0)
        return LCL_FAIL(LCL_RANGE, "a checkpoint of step %lld", (long long)run->step);
    if (options->with_optimizer && (!t->m || !t->v))
        return LCL_FAIL(LCL_INTERNAL, "there are no optimizer states to save");
    double start = lcl_time_s();
    s->o = *options;
    s->step = run->step;
    s->params = t;
    s->error = (struct lcl_error){.code = LCL_OK};
    atomic_store(&s->written, false);
    lcl_status status = name_paths(s, output_dir);
    if (status == LCL_OK) status = begin(s, run, m);
    s->saving = status == LCL_OK;
    if (status != LCL_OK) {
        status = give_up(s, status);
        free_save(s);
    }
    s->stalled_s += lcl_time_s() - start;
    return status == LCL_OK && !s->has_thread ? lcl_checkpoint_finish(s) : status;
}

lcl_status lcl_checkpoint_saver_open(struct lcl_checkpoint_saver **out)
{
    *out = calloc(1, sizeof **out);
    if (!*out) return LCL_FAIL(LCL_MEMORY, "no memory to save checkpoints");
    (*out)->fd = -1;
    return LCL_OK;
}

void lcl_checkpoint_saver_close(struct lcl_checkpoint_saver *s)
{
    if (!s) return;
    char *left = s->saving && is_first(s) && s->temporary ? lcl_strdupf("%s", s->temporary) : NULL;
    free_save(s);
    join_sweeper(s);
    if (left && lcl_fs_remove_tree(left) != LCL_OK)
        lcl_log_warn("%s is left over: %s", left, lcl_error_message());
    free(left);
    if (s->snapshot) munmap(s->snapshot, s->snapshot_bytes);
    free(s);
}

bool lcl_checkpoint_is_saving(const struct lcl_checkpoint_saver *s) { return s && s->saving; }

double lcl_checkpoint_stalled_s(const struct lcl_checkpoint_saver *s)
{
    return s ? s->stalled_s : 0;
}

lcl_status lcl_checkpoint_save(const char *output_dir, const struct lcl_run_state *run,
                               const struct lcl_params *t, const struct lcl_model_config *m,
                               const struct lcl_checkpoint_options *options)
{
    struct lcl_checkpoint_saver *s;
    LCL_TRY(lcl_checkpoint_saver_open(&s));
    lcl_status status = lcl_checkpoint_begin(s, output_dir, run, t, m, options);
    if (status == LCL_OK) status = lcl_checkpoint_finish(s);
    lcl_checkpoint_saver_close(s);
    return status;
}
