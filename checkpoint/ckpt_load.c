#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "checkpoint/ckpt_manifest.h"
#include "checkpoint/hf_config.h"
#include "core/fs.h"
#include "core/log.h"

enum { MAX_TEXT_BYTES = 64 << 20 };

/* ---- finding ---- */

static bool holds(const char *dir, const char *file)
{
    char *path = lcl_strdupf("%s/%s", dir, file);
    bool there = path && lcl_fs_exists(path);
    free(path);
    return there;
}

static bool is_checkpoint(const char *dir)
{
    return holds(dir, LCL_CHECKPOINT_STATE) || holds(dir, LCL_CHECKPOINT_MANIFEST);
}

bool lcl_checkpoint_is_folder(const char *path)
{
    struct lcl_checkpoint_entry *entries;
    size_t n;
    if (is_checkpoint(path)) return true;
    if (lcl_checkpoint_entries(path, &entries, &n) != LCL_OK) return false;
    free(entries);
    return n > 0;
}

static lcl_status keep_path(char *path, size_t size, const char *dir, const char *name)
{
    int n = name ? snprintf(path, size, "%s/%s", dir, name) : snprintf(path, size, "%s", dir);
    if (n < 0 || (size_t)n >= size)
        return LCL_FAIL(LCL_RANGE, "a path of over %zu bytes: %s", size - 1, dir);
    return LCL_OK;
}

static lcl_status find_newest(const char *dir, const struct lcl_checkpoint_entry *entries, size_t n,
                              char *path, size_t size)
{
    size_t n_damaged = 0;
    for (size_t i = 0; i < n; i++) {
        LCL_TRY(keep_path(path, size, dir, entries[i].name));
        lcl_status status = lcl_manifest_verify(path);
        if (status == LCL_OK) {
            if (n_damaged > 0) lcl_log_warn("going on from %s", path);
            return LCL_OK;
        }
        if (status == LCL_VERSION || status == LCL_MEMORY) return status;
        n_damaged++;
        lcl_log_warn("%s is passed over: %s", path, lcl_error_message());
    }
    if (n_damaged > 0)
        return LCL_FAIL_HINT(LCL_CORRUPT, "restore one from a copy, or begin the run anew",
                             "none of the %zu checkpoints in %s is whole; the last one tried: %s",
                             n_damaged, dir, lcl_error_message());
    return LCL_FAIL_HINT(LCL_NOT_FOUND, "give a run's output_dir or one of its checkpoint folders",
                         "%s holds no checkpoint", dir);
}

lcl_status lcl_checkpoint_find(const char *output_dir_or_checkpoint, char *path, size_t size)
{
    const char *given = output_dir_or_checkpoint;
    if (!lcl_fs_exists(given))
        return LCL_FAIL_HINT(LCL_NOT_FOUND, "check the spelling of the path",
                             "there is no checkpoint %s", given);
    if (is_checkpoint(given)) {
        LCL_TRY(keep_path(path, size, given, NULL));
        return lcl_manifest_verify(path);
    }
    struct lcl_checkpoint_entry *entries;
    size_t n;
    LCL_TRY(lcl_checkpoint_entries(given, &entries, &n));
    lcl_status status = find_newest(given, entries, n, path, size);
    free(entries);
    return status;
}

/* ---- small contents ---- */

static lcl_status read_text(const struct lcl_h5 *f, const char *name, char **text)
{
    void *data = NULL;
    uint64_t n = 0;
    *text = NULL;
    LCL_TRY(lcl_h5_read_alloc(f, name, LCL_H5_U8, MAX_TEXT_BYTES, &data, &n));
    *text = data; /* a NUL follows */
    return LCL_OK;
}

lcl_status lcl_checkpoint_load_config(const char *path, struct lcl_model_config *m)
{
    struct lcl_h5 f;
    char *text = NULL;
    LCL_TRY(lcl_checkpoint_open_state(path, &f));
    lcl_status status = read_text(&f, "/model/config", &text);
    if (status == LCL_OK) status = lcl_model_config_from_json(text, f.path, m);
    free(text);
    lcl_h5_discard(&f);
    return status;
}

void lcl_run_state_free(struct lcl_run_state_loaded *s)
{
    free(s->config_yaml);
    free(s->extra_json);
    *s = (struct lcl_run_state_loaded){0};
}

static lcl_status read_count(const struct lcl_h5 *f, const char *name, int64_t *value)
{
    uint64_t x = 0;
    LCL_TRY(lcl_h5_get_u64(f, "/run", name, &x));
    if (x > INT64_MAX)
        return LCL_FAIL(LCL_FORMAT, "%s: %s is %" PRIu64 ", too large", f->path, name, x);
    *value = (int64_t)x;
    return LCL_OK;
}

static lcl_status read_run_state(const struct lcl_h5 *f, struct lcl_run_state_loaded *s)
{
    uint64_t has_optimizer = 0;
    LCL_TRY(read_count(f, "step", &s->state.step));
    LCL_TRY(read_count(f, "stage", &s->state.stage));
    LCL_TRY(read_count(f, "stage_step", &s->state.stage_step));
    LCL_TRY(read_count(f, "epoch", &s->state.epoch));
    LCL_TRY(read_count(f, "sample", &s->state.sample));
    LCL_TRY(read_count(f, "tokens", &s->state.tokens));
    LCL_TRY(lcl_h5_get_u64(f, "/run", "seed", &s->state.seed));
    LCL_TRY(lcl_h5_get_f64(f, "/run", "best_metric", &s->state.best_metric));
    LCL_TRY(lcl_h5_get_u64(f, "/run", "has_optimizer", &has_optimizer));
    s->has_optimizer = has_optimizer != 0;
    LCL_TRY(read_text(f, "/run/config_yaml", &s->config_yaml));
    LCL_TRY(read_text(f, "/run/extra_json", &s->extra_json));
    s->state.config_yaml = s->config_yaml;
    s->state.extra_json = s->extra_json;
    return LCL_OK;
}

lcl_status lcl_checkpoint_load_state(const char *path, struct lcl_run_state_loaded *s)
{
    struct lcl_h5 f;
    *s = (struct lcl_run_state_loaded){0};
    LCL_TRY(lcl_checkpoint_open_state(path, &f));
    lcl_status status = read_run_state(&f, s);
    lcl_h5_discard(&f);
    if (status != LCL_OK) lcl_run_state_free(s);
    return status;
}

/* ---- parameters ---- */

/* Lists of names for one message, cut short. */
struct name_list {
    int n;
    size_t used;
    char text[1024];
};

static void add_name(struct name_list *l, const char *name)
{
    size_t left = sizeof l->text - l->used, need = strlen(name) + 8;
    l->n++;
    if (l->used > 3 && strcmp(l->text + l->used - 3, "...") == 0) return;
    if (need > left)
        l->used += (size_t)snprintf(l->text + l->used, left, ", ...");
    else
        l->used += (size_t)snprintf(l->text + l->used, left, "%s%s", l->n > 1 ? ", " : "", name);
}

struct loading {
    struct lcl_h5 f;
    struct name_list missing, misshapen, left_over;
};

static void dataset_name(char *out, size_t size, const char *group, const struct lcl_param *p)
{
    snprintf(out, size, "%s/%s", group, p->name);
}

/* Compares one dataset with a row; *there tells whether it exists. */
static lcl_status check_dataset(struct loading *l, const char *group, const struct lcl_param *p,
                                bool *there)
{
    char name[LCL_PARAM_NAME_BYTES + 16];
    dataset_name(name, sizeof name, group, p);
    *there = lcl_h5_exists(&l->f, name);
    if (!*there) return LCL_OK;
    struct lcl_h5_set set;
    LCL_TRY(lcl_h5_set_open(&l->f, name, &set));
    bool same = set.type == LCL_H5_F32 && set.rank == p->n_dims;
    for (int d = 0; same && d < p->n_dims; d++) same = set.dims[d] == (uint64_t)p->shape[d];
    lcl_h5_set_close(&set);
    if (!same) add_name(&l->misshapen, name);
    return LCL_OK;
}

static lcl_status read_dataset(struct loading *l, const char *group, const struct lcl_param *p,
                               float *flat)
{
    char name[LCL_PARAM_NAME_BYTES + 16];
    dataset_name(name, sizeof name, group, p);
    return lcl_h5_read(&l->f, name, LCL_H5_F32, p->count, flat + p->offset);
}

/* Names in /params that the table lacks. */
static lcl_status find_left_over(struct loading *l, struct lcl_params *t)
{
    char **names;
    size_t n;
    LCL_TRY(lcl_h5_list(&l->f, "/params", &names, &n));
    for (size_t i = 0; i < n; i++)
        if (!lcl_params_find(t, names[i])) add_name(&l->left_over, names[i]);
    lcl_fs_list_free(names, n);
    return LCL_OK;
}

static lcl_status check_values(struct loading *l, struct lcl_params *t, unsigned parts)
{
    for (int i = 0; i < t->n_rows; i++) {
        bool there = true;
        if (parts >> t->rows[i].part & 1u)
            LCL_TRY(check_dataset(l, "/params", &t->rows[i], &there));
        if (!there) add_name(&l->missing, t->rows[i].name);
    }
    return LCL_OK;
}

static lcl_status complain(const struct loading *l)
{
    const struct name_list *m = &l->missing, *s = &l->misshapen, *o = &l->left_over;
    if (m->n + s->n + o->n == 0) return LCL_OK;
    return LCL_FAIL_HINT(LCL_SHAPE, "the model in the config and the one in the checkpoint differ",
                         "%s does not fit the model%s%.600s%s%.600s%s%.600s", l->f.path,
                         m->n ? "; missing: " : "", m->text, s->n ? "; misshapen: " : "", s->text,
                         o->n ? "; left over: " : "", o->text);
}

/* Absent moments are zero: lcl_checkpoint_save leaves those out. */
static lcl_status load_moments(struct loading *l, struct lcl_params *t)
{
    static const char *const groups[2] = {"/adam/m", "/adam/v"};
    float *const flats[2] = {t->m, t->v};
    for (int i = 0; i < t->n_rows; i++)
        for (int k = 0; k < 2; k++) {
            const struct lcl_param *p = &t->rows[i];
            char name[LCL_PARAM_NAME_BYTES + 16];
            dataset_name(name, sizeof name, groups[k], p);
            if (lcl_h5_exists(&l->f, name))
                LCL_TRY(read_dataset(l, groups[k], p, flats[k]));
            else
                memset(flats[k] + p->offset, 0, p->count * sizeof(float));
        }
    return LCL_OK;
}

static lcl_status check_moments(struct loading *l, const struct lcl_params *t)
{
    uint64_t has = 0;
    if (!t->m || !t->v) return LCL_FAIL(LCL_INTERNAL, "there is no room for optimizer states");
    LCL_TRY(lcl_h5_get_u64(&l->f, "/run", "has_optimizer", &has));
    if (!has)
        return LCL_FAIL_HINT(LCL_NOT_FOUND,
                             "begin a new run with init_from instead of resuming this one",
                             "%s holds no optimizer states", l->f.path);
    for (int i = 0; i < t->n_rows; i++) {
        bool there;
        LCL_TRY(check_dataset(l, "/adam/m", &t->rows[i], &there));
        LCL_TRY(check_dataset(l, "/adam/v", &t->rows[i], &there));
    }
    return LCL_OK;
}

lcl_status lcl_checkpoint_load(const char *path, struct lcl_params *t, bool with_optimizer,
                               struct lcl_run_state_loaded *state)
{
    struct loading *l = calloc(1, sizeof *l);
    if (state) *state = (struct lcl_run_state_loaded){0};
    if (!l) return LCL_FAIL(LCL_MEMORY, "no memory to load %s", path);
    lcl_status status;
    LCL_TRY_GOTO(lcl_checkpoint_open_state(path, &l->f));
    LCL_TRY_GOTO(check_values(l, t, ~0u));
    LCL_TRY_GOTO(find_left_over(l, t));
    if (with_optimizer) LCL_TRY_GOTO(check_moments(l, t));
    LCL_TRY_GOTO(complain(l));
    if (state) LCL_TRY_GOTO(read_run_state(&l->f, state));
    for (int i = 0; i < t->n_rows; i++)
        LCL_TRY_GOTO(read_dataset(l, "/params", &t->rows[i], t->value));
    if (with_optimizer) LCL_TRY_GOTO(load_moments(l, t));
    lcl_params_changed(t);
out:
    lcl_h5_discard(&l->f);
    free(l);
    if (status != LCL_OK && state) lcl_run_state_free(state);
    return status;
}

lcl_status lcl_checkpoint_load_parts(const char *path, struct lcl_params *t, unsigned parts,
                                     struct lcl_load_report *report)
{
    struct loading *l = calloc(1, sizeof *l);
    if (report) *report = (struct lcl_load_report){0};
    if (!l) return LCL_FAIL(LCL_MEMORY, "no memory to load %s", path);
    lcl_status status;
    LCL_TRY_GOTO(lcl_checkpoint_open_state(path, &l->f));
    LCL_TRY_GOTO(check_values(l, t, parts));
    if (report) {
        report->n_missing = l->missing.n;
        snprintf(report->missing, sizeof report->missing, "%s", l->missing.text);
    } else if (l->missing.n > 0) {
        status = LCL_FAIL(LCL_NOT_FOUND, "%s lacks: %s", l->f.path, l->missing.text);
        goto out;
    }
    l->missing.n = 0;
    l->missing.text[0] = '\0';
    LCL_TRY_GOTO(complain(l));
    for (int i = 0; i < t->n_rows; i++) {
        char name[LCL_PARAM_NAME_BYTES + 16];
        dataset_name(name, sizeof name, "/params", &t->rows[i]);
        if (!(parts >> t->rows[i].part & 1u) || !lcl_h5_exists(&l->f, name)) continue;
        LCL_TRY_GOTO(read_dataset(l, "/params", &t->rows[i], t->value));
        if (report) report->n_loaded++;
    }
    lcl_params_changed(t);
out:
    lcl_h5_discard(&l->f);
    free(l);
    return status;
}

/* ---- listing ---- */

static lcl_status list_row(const struct lcl_h5 *f, const char *name, struct lcl_checkpoint_row *r)
{
    char path[LCL_PARAM_NAME_BYTES + 16];
    struct lcl_h5_set set;
    uint64_t part = 0, trainable = 0;
    if (strlen(name) >= LCL_PARAM_NAME_BYTES)
        return LCL_FAIL(LCL_FORMAT, "%s: a parameter name of %zu bytes", f->path, strlen(name));
    snprintf(r->name, sizeof r->name, "%s", name);
    snprintf(path, sizeof path, "/params/%s", name);
    LCL_TRY(lcl_h5_set_open(f, path, &set));
    bool fits = set.rank >= 1 && set.rank <= LCL_PARAM_MAX_DIMS;
    r->n_dims = fits ? set.rank : 0;
    for (int d = 0; d < r->n_dims; d++) r->shape[d] = (int64_t)set.dims[d];
    lcl_h5_set_close(&set);
    if (!fits) return LCL_FAIL(LCL_FORMAT, "%s: %s has %d dimensions", f->path, path, set.rank);
    LCL_TRY(lcl_h5_get_u64(f, path, "part", &part));
    LCL_TRY(lcl_h5_get_u64(f, path, "trainable", &trainable));
    if (part >= LCL_PART_COUNT)
        return LCL_FAIL(LCL_FORMAT, "%s: %s is of part %" PRIu64, f->path, path, part);
    r->part = (enum lcl_part)part;
    r->trainable = trainable != 0;
    snprintf(path, sizeof path, "/adam/m/%s", name);
    r->has_moments = lcl_h5_exists(f, path);
    return LCL_OK;
}

lcl_status lcl_checkpoint_list(const char *path, struct lcl_checkpoint_row **rows, int *n_rows)
{
    struct lcl_h5 f;
    char **names = NULL;
    size_t n = 0;
    *rows = NULL;
    *n_rows = 0;
    LCL_TRY(lcl_checkpoint_open_state(path, &f));
    lcl_status status;
    LCL_TRY_GOTO(lcl_h5_list(&f, "/params", &names, &n));
    *rows = calloc(n + 1, sizeof **rows);
    if (!*rows) {
        status = LCL_FAIL(LCL_MEMORY, "no memory to list %s", path);
        goto out;
    }
    for (size_t i = 0; i < n; i++) LCL_TRY_GOTO(list_row(&f, names[i], &(*rows)[i]));
    *n_rows = (int)n;
out:
    if (status != LCL_OK) {
        free(*rows);
        *rows = NULL;
    }
    lcl_fs_list_free(names, n);
    lcl_h5_discard(&f);
    return status;
}
