#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "checkpoint/ckpt_manifest.h"
#include "checkpoint/hf_config.h"
#include "core/fs.h"
#include "core/log.h"

static lcl_status fail_errno(const char *what, const char *path)
{
    return LCL_FAIL_HINT(LCL_IO,
                         errno == EACCES ? "choose an output_dir that you may write to" : NULL,
                         "cannot %s %s: %s", what, path, strerror(errno));
}

/* ---- state.h5 ---- */

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

/* f32, bf16 as its bits, codes as bytes. */
static lcl_h5_type stored_type(lcl_dtype dtype)
{
    return dtype == LCL_F32 ? LCL_H5_F32 : dtype == LCL_BF16 ? LCL_H5_U16 : LCL_H5_U8;
}

static lcl_status write_array(struct lcl_h5 *f, const char *group, const struct lcl_param *p,
                              lcl_dtype dtype, const void *x)
{
    char name[LCL_PARAM_NAME_BYTES + 16];
    uint64_t dims[LCL_PARAM_MAX_DIMS];
    snprintf(name, sizeof name, "%s/%s", group, p->name);
    for (int d = 0; d < p->n_dims; d++) dims[d] = (uint64_t)p->shape[d];
    return lcl_h5_write(f, name, stored_type(dtype), p->n_dims, dims, x);
}

static lcl_status write_moment(struct lcl_h5 *f, const char *group, const struct lcl_param *p,
                               const struct lcl_moment *m)
{
    char name[LCL_PARAM_NAME_BYTES + 16];
    uint64_t blocks = (uint64_t)m->B;
    LCL_TRY(write_array(f, group, p, m->dtype, m->x));
    if (!m->B) return LCL_OK;
    snprintf(name, sizeof name, "%s_scale/%s", group, p->name);
    return lcl_h5_write(f, name, LCL_H5_F32, 1, &blocks, m->scale_B);
}

/* Codes as bytes, scales as f16's bits; `blocks` tells a person which they are. */
static lcl_status write_blocks(struct lcl_h5 *f, const struct lcl_params *t,
                               const struct lcl_param *p)
{
    char name[LCL_PARAM_NAME_BYTES + 16];
    const uint64_t N = (uint64_t)p->shape[0], K = (uint64_t)p->shape[1];
    const uint64_t codes[] = {N, lcl_code_bytes(t->blocks, K)}, scales[] = {N, K / LCL_BLOCK};
    snprintf(name, sizeof name, "/params_scale/%s", p->name);
    LCL_TRY(lcl_h5_write(f, name, LCL_H5_U16, 2, scales, lcl_param_scale(t, p)));
    snprintf(name, sizeof name, "/params/%s", p->name);
    LCL_TRY(lcl_h5_write(f, name, LCL_H5_U8, 2, codes, lcl_param_code(t, p)));
    return lcl_h5_set_str(f, name, "blocks", lcl_dtype_name(t->blocks));
}

/* Values in halves, joined some rows at a time. */
static lcl_status write_split(struct lcl_h5 *f, const struct lcl_params *t,
                              const struct lcl_param *p)
{
    enum { SOME = 1 << 18 }; /* elements: 1 MiB, or a row */
    char name[LCL_PARAM_NAME_BYTES + 16];
    uint64_t dims[LCL_PARAM_MAX_DIMS], rows = (uint64_t)p->shape[0];
    const size_t width = p->count / (size_t)rows, some = width < SOME ? SOME / width : 1;
    struct lcl_h5_set set;
    uint32_t crc = 0;
    lcl_status status;
    float *x = malloc((some < rows ? some : rows) * width * sizeof *x);
    if (!x) return LCL_FAIL(LCL_MEMORY, "no memory to write %s", p->name);
    snprintf(name, sizeof name, "/params/%s", p->name);
    for (int d = 0; d < p->n_dims; d++) dims[d] = (uint64_t)p->shape[d];
    LCL_TRY_GOTO(lcl_h5_set_create(f, name, LCL_H5_F32, p->n_dims, dims, 0, &set));
    for (uint64_t at = 0, n; at < rows && status == LCL_OK; at += n) {
        n = rows - at < some ? rows - at : some;
        lcl_param_get(t, p, at * width, n * width, x);
        crc = lcl_crc32c(crc, x, n * width * sizeof *x);
        status = lcl_h5_set_write(&set, at, n, x);
    }
    if (status == LCL_OK) status = lcl_h5_set_store_crc(&set, crc);
    lcl_h5_set_close(&set);
out:
    free(x);
    return status;
}

static lcl_status write_value(struct lcl_h5 *f, const struct lcl_params *t,
                              const struct lcl_param *p)
{
    if (p->in_blocks) return write_blocks(f, t, p);
    if (lcl_param_is_split(t, p)) return write_split(f, t, p);
    const float *value = lcl_param_value(t, p);
    return value ? write_array(f, "/params", p, LCL_F32, value)
                 : write_array(f, "/params", p, LCL_BF16, lcl_param_value16(t, p));
}

static lcl_status write_row(struct lcl_h5 *f, const struct lcl_params *t, const struct lcl_param *p,
                            bool with_optimizer)
{
    char name[LCL_PARAM_NAME_BYTES + 16];
    LCL_TRY(write_value(f, t, p));
    snprintf(name, sizeof name, "/params/%s", p->name);
    LCL_TRY(lcl_h5_set_u64(f, name, "part", p->part));
    LCL_TRY(lcl_h5_set_u64(f, name, "trainable", lcl_param_moves(p)));
    if (!with_optimizer || !lcl_param_has_moments(p)) return LCL_OK;
    struct lcl_moment m = lcl_param_moment(t, p, false), v = lcl_param_moment(t, p, true);
    /* Moments of a row that never trained are zero and need no room. */
    if (lcl_moment_is_zero(&m) && lcl_moment_is_zero(&v)) return LCL_OK;
    LCL_TRY(write_moment(f, "/adam/m", p, &m));
    return write_moment(f, "/adam/v", p, &v);
}

static lcl_status write_contents(struct lcl_h5 *f, const struct lcl_run_state *s,
                                 const struct lcl_params *t, const char *model_json,
                                 bool with_optimizer)
{
    LCL_TRY(lcl_h5_make_group(f, "/format"));
    LCL_TRY(lcl_h5_set_str(f, "/format", "magic", LCL_CHECKPOINT_MAGIC));
    LCL_TRY(lcl_h5_set_u64(f, "/format", "version", LCL_CHECKPOINT_FORMAT_VERSION));
    LCL_TRY(lcl_h5_set_str(f, "/format", "creator", "lcl train"));
    LCL_TRY(write_text(f, "/model/config", model_json));
    LCL_TRY(lcl_h5_make_group(f, "/params"));
    LCL_TRY(write_run_state(f, s));
    LCL_TRY(lcl_h5_set_u64(f, "/run", "has_optimizer", with_optimizer));
    for (int i = 0; i < t->n_rows; i++) LCL_TRY(write_row(f, t, &t->rows[i], with_optimizer));
    return LCL_OK;
}

/* Asks the file system for the room before HDF5 begins: its own failure in the middle is clumsy. */
static lcl_status reserve_room(const char *path, const struct lcl_params *t, bool with_optimizer)
{
    size_t bytes = 4096;
    for (int i = 0; i < t->n_rows; i++)
        bytes += lcl_param_value_bytes(t, &t->rows[i]) +
                 (with_optimizer ? lcl_param_moment_bytes(t, &t->rows[i]) : 0);
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (fd < 0) return fail_errno("create", path);
    bool failed = fallocate(fd, 0, 0, (off_t)bytes) != 0 && errno != EOPNOTSUPP && errno != ENOSYS;
    int error = errno;
    close(fd);
    if (!failed) return LCL_OK;
    char size[24];
    return LCL_FAIL_HINT(LCL_IO, "free some disk space, lower save_total_limit or save elsewhere",
                         "no room for the %s of %s: %s", lcl_format_bytes((double)bytes, size),
                         path, strerror(error));
}

/* Writes, closes and syncs dir/state.h5. */
static lcl_status write_state(const char *dir, const struct lcl_run_state *s,
                              const struct lcl_params *t, const struct lcl_model_config *m,
                              bool with_optimizer)
{
    struct lcl_h5 f = {0};
    char *json = NULL, *path = lcl_strdupf("%s/" LCL_CHECKPOINT_STATE, dir);
    char *part = lcl_strdupf("%s/" LCL_CHECKPOINT_STATE ".part", dir);
    lcl_status status = path && part ? LCL_OK : LCL_FAIL(LCL_MEMORY, "no memory for a path");
    if (status != LCL_OK) goto out;
    LCL_TRY_GOTO(lcl_model_config_to_json(m, &json));
    LCL_TRY_GOTO(reserve_room(part, t, with_optimizer));
    LCL_TRY_GOTO(lcl_h5_create(part, &f));
    LCL_TRY_GOTO(write_contents(&f, s, t, json, with_optimizer));
    LCL_TRY_GOTO(lcl_h5_close(&f));
    status = lcl_fs_commit(part, path);
out:
    lcl_h5_discard(&f);
    free(json);
    free(part);
    free(path);
    return status;
}

/* ---- putting it in place ---- */

static lcl_status sync_folder(const char *path)
{
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    lcl_status status = LCL_OK;
    if (fd < 0 || (fsync(fd) != 0 && errno != EINVAL)) status = fail_errno("sync", path);
    if (fd >= 0) close(fd);
    return status;
}

/* Renames the written folder into place. One of the same step is exchanged for it in one call, so
 * that at no instant neither is there; it is then removed with the other temporary folders. */
static lcl_status put_in_place(const char *output_dir, const char *temporary, const char *final)
{
    LCL_TRY(sync_folder(temporary));
    if (!lcl_fs_exists(final)) return lcl_fs_commit(temporary, final);
    if (renameat2(AT_FDCWD, temporary, AT_FDCWD, final, RENAME_EXCHANGE) == 0) {
        LCL_TRY(sync_folder(output_dir));
        return lcl_fs_remove_tree(temporary);
    }
    /* File systems without the exchange: aside, then in. */
    char *aside = lcl_strdupf("%s.old.tmp", final);
    if (!aside) return LCL_FAIL(LCL_MEMORY, "no memory for a path");
    lcl_status status = LCL_OK;
    if (rename(final, aside) != 0) status = fail_errno("replace", final);
    if (status == LCL_OK) status = lcl_fs_commit(temporary, final);
    if (status == LCL_OK) status = lcl_fs_remove_tree(aside);
    free(aside);
    return status;
}

/* Points output_dir/name at a checkpoint, in one rename. */
static lcl_status set_link(const char *output_dir, const char *name, const char *target)
{
    char *path = lcl_strdupf("%s/%s", output_dir, name);
    char *fresh = lcl_strdupf("%s/.%s.tmp", output_dir, name);
    lcl_status status = path && fresh ? LCL_OK : LCL_FAIL(LCL_MEMORY, "no memory for a path");
    if (status == LCL_OK) {
        unlink(fresh);
        if (symlink(target, fresh) != 0 || rename(fresh, path) != 0)
            status = fail_errno("link", path);
    }
    free(path);
    free(fresh);
    return status;
}

/* What an interrupted save, or an interrupted removal, left. */
static lcl_status remove_temporaries(const char *output_dir)
{
    char **names;
    size_t n;
    LCL_TRY(lcl_fs_list(output_dir, &names, &n));
    lcl_status status = LCL_OK;
    for (size_t i = 0; i < n && status == LCL_OK; i++) {
        size_t len = strlen(names[i]);
        if (strncmp(names[i], "checkpoint-", 11) != 0 || strcmp(names[i] + len - 4, ".tmp") != 0)
            continue;
        char *path = lcl_strdupf("%s/%s", output_dir, names[i]);
        status = path ? lcl_fs_remove_tree(path) : LCL_FAIL(LCL_MEMORY, "no memory for a path");
        free(path);
    }
    lcl_fs_list_free(names, n);
    return status;
}

/* Renamed away first, so that half a folder never looks like a damaged checkpoint. */
static lcl_status remove_checkpoint(const char *output_dir, const char *name)
{
    char *path = lcl_strdupf("%s/%s", output_dir, name);
    char *away = lcl_strdupf("%s/%s.tmp", output_dir, name);
    lcl_status status = path && away ? LCL_OK : LCL_FAIL(LCL_MEMORY, "no memory for a path");
    if (status == LCL_OK && rename(path, away) != 0) status = fail_errno("remove", path);
    if (status == LCL_OK) status = lcl_fs_remove_tree(away);
    free(path);
    free(away);
    return status;
}

/* Keeps the `keep` newest and the best. Those whose manifest cannot be read are not counted. */
static lcl_status prune(const char *output_dir, int64_t keep)
{
    struct lcl_checkpoint_entry *entries;
    size_t n;
    char best[64] = "", *link = lcl_strdupf("%s/best", output_dir);
    ssize_t len = link ? readlink(link, best, sizeof best - 1) : -1;
    best[len > 0 ? len : 0] = '\0';
    free(link);
    LCL_TRY(lcl_checkpoint_entries(output_dir, &entries, &n));
    lcl_status status = LCL_OK;
    int64_t kept = 0;
    for (size_t i = 0; i < n && status == LCL_OK; i++) {
        if (entries[i].serial == INT64_MAX) continue;
        if (kept++ < keep || strcmp(entries[i].name, best) == 0) continue;
        status = remove_checkpoint(output_dir, entries[i].name);
    }
    free(entries);
    return status;
}

static lcl_status next_serial(const char *output_dir, int64_t *serial)
{
    struct lcl_checkpoint_entry *entries;
    size_t n;
    *serial = 1;
    LCL_TRY(lcl_checkpoint_entries(output_dir, &entries, &n));
    for (size_t i = 0; i < n; i++)
        if (entries[i].serial != INT64_MAX && entries[i].serial >= *serial)
            *serial = entries[i].serial + 1;
    free(entries);
    return LCL_OK;
}

/* Removes what a failed save wrote; the first error stays. */
static lcl_status give_up(const char *temporary, lcl_status status)
{
    struct lcl_error error;
    lcl_error_save(&error, status);
    if (lcl_fs_remove_tree(temporary) != LCL_OK)
        lcl_log_warn("%s is left over: %s", temporary, lcl_error_message());
    return lcl_error_restore(&error);
}

static lcl_status write_folder(const char *output_dir, const char *name,
                               const struct lcl_run_state *s, const struct lcl_params *t,
                               const struct lcl_model_config *m, bool with_optimizer)
{
    int64_t serial = 0;
    char *final = lcl_strdupf("%s/%s", output_dir, name);
    char *temporary = lcl_strdupf("%s/%s.tmp", output_dir, name);
    lcl_status status = final && temporary ? LCL_OK : LCL_FAIL(LCL_MEMORY, "no memory for a path");
    if (status != LCL_OK) goto out;
    LCL_TRY_GOTO(next_serial(output_dir, &serial));
    status = lcl_fs_mkdirs(temporary);
    if (status == LCL_OK) status = write_state(temporary, s, t, m, with_optimizer);
    if (status == LCL_OK) status = lcl_manifest_write(temporary, s->step, serial);
    if (status == LCL_OK) status = put_in_place(output_dir, temporary, final);
    if (status != LCL_OK) status = give_up(temporary, status);
out:
    free(final);
    free(temporary);
    return status;
}

lcl_status lcl_checkpoint_save(const char *output_dir, const struct lcl_run_state *s,
                               const struct lcl_params *t, const struct lcl_model_config *m,
                               const struct lcl_checkpoint_options *options)
{
    char name[48];
    if (s->step < 0) return LCL_FAIL(LCL_RANGE, "a checkpoint of step %lld", (long long)s->step);
    if (options->with_optimizer && (!t->m || !t->v))
        return LCL_FAIL(LCL_INTERNAL, "there are no optimizer states to save");
    snprintf(name, sizeof name, "checkpoint-%lld", (long long)s->step);
    lcl_status status = lcl_fs_mkdirs(output_dir);
    if (status == LCL_OK) status = remove_temporaries(output_dir);
    if (status == LCL_OK) status = write_folder(output_dir, name, s, t, m, options->with_optimizer);
    if (status == LCL_OK) status = set_link(output_dir, "last", name);
    if (status == LCL_OK && options->is_best) status = set_link(output_dir, "best", name);
    if (status != LCL_OK)
        return lcl_fail_context(status, "saving %s/%s (earlier checkpoints are untouched)",
                                output_dir, name);
    /* The new one is safe by now: failing to remove old ones is no reason to stop a run. */
    if (options->keep > 0 && prune(output_dir, options->keep) != LCL_OK)
        lcl_log_warn("old checkpoints stay: %s", lcl_error_message());
    return LCL_OK;
}
