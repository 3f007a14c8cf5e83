#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "checkpoint/ckpt_manifest.h"
#include "checkpoint/ckpt_read.h"
#include "checkpoint/hf_config.h"
#include "core/fs.h"
#include "core/log.h"

enum { MAX_TEXT_BYTES = 64 << 20 };
static const uint64_t MAX_NEIGHBOR_BYTES = (uint64_t)1 << 34;

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
    free(s->neighbors);
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

/* In checkpoints of runs that made their neighbor table anew. */
static lcl_status read_neighbors(const struct lcl_h5 *f, struct lcl_run_state_loaded *s)
{
    static const char name[] = "/run/neighbors";
    struct lcl_h5_set set;
    uint64_t n = 0;
    void *data;
    if (!lcl_h5_exists(f, name)) return LCL_OK;
    LCL_TRY(lcl_h5_set_open(f, name, &set));
    lcl_h5_set_close(&set);
    if (set.rank != 2 || set.dims[0] > INT32_MAX || set.dims[1] > INT32_MAX)
        return LCL_FAIL(LCL_FORMAT, "%s: %s is no table of classes and their neighbors", f->path,
                        name);
    LCL_TRY(lcl_h5_read_alloc(f, name, LCL_H5_I32, MAX_NEIGHBOR_BYTES, &data, &n));
    s->state.neighbors = s->neighbors = data;
    s->state.neighbor_classes = (int64_t)set.dims[0];
    s->state.neighbor_width = (int64_t)set.dims[1];
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
    return read_neighbors(f, s);
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
    struct lcl_row_places *place; /* [n_rows] */
};

/* What bytes are the codes of such a row; LCL_F32: of none. */
static lcl_dtype blocks_of(const struct lcl_param *p, const struct lcl_h5_set *set)
{
    static const lcl_dtype blocks[] = {LCL_Q8_0, LCL_Q4_0};
    if (p->n_dims != 2 || p->shape[1] % LCL_BLOCK || set->dims[0] != (uint64_t)p->shape[0])
        return LCL_F32;
    for (size_t i = 0; i < sizeof blocks / sizeof *blocks; i++)
        if (set->dims[1] == lcl_code_bytes(blocks[i], (size_t)p->shape[1])) return blocks[i];
    return LCL_F32;
}

/* How the elements of a set are kept. */
static lcl_dtype dtype_of(enum lcl_set_kind kind, const struct lcl_param *p,
                          const struct lcl_h5_set *set)
{
    if (set->type == LCL_H5_F32) return LCL_F32;
    if (set->type == LCL_H5_U16) return LCL_BF16;
    return kind == LCL_SET_VALUE ? blocks_of(p, set) : LCL_U8;
}

static lcl_status place_set(const struct lcl_h5_set *set, lcl_dtype dtype,
                            struct lcl_set_place *place)
{
    uint64_t crc;
    LCL_TRY(lcl_h5_get_u64(set->file, set->name, "crc32c", &crc));
    if (set->file_offset < 0)
        return LCL_FAIL(LCL_FORMAT, "%s: dataset %s does not lie in one piece", set->file->path,
                        set->name);
    *place = (struct lcl_set_place){set->file_offset, dtype, (uint32_t)crc};
    return LCL_OK;
}

/* Scales that go with codes. */
static lcl_status find_scales(struct loading *l, enum lcl_set_kind kind, const struct lcl_param *p,
                              lcl_dtype dtype, struct lcl_set_place *place)
{
    const lcl_h5_type type = kind == LCL_SET_VALUE_SCALE ? LCL_H5_U16 : LCL_H5_F32;
    const uint64_t count = lcl_set_bytes(kind, dtype, p->count) / lcl_h5_type_bytes(type);
    char name[LCL_SET_NAME_BYTES];
    struct lcl_h5_set set;
    lcl_set_name(kind, p, name);
    LCL_TRY(lcl_h5_set_open(&l->f, name, &set));
    lcl_status status = LCL_OK;
    if (set.type != type)
        status = LCL_FAIL(LCL_FORMAT, "%s: dataset %s is %s, wanted %s", l->f.path, name,
                          lcl_h5_type_name(set.type), lcl_h5_type_name(type));
    else if (set.count != count)
        status = LCL_FAIL(LCL_SHAPE, "%s: dataset %s has %llu elements, wanted %llu", l->f.path,
                          name, (unsigned long long)set.count, (unsigned long long)count);
    else
        status = place_set(&set, dtype, place);
    lcl_h5_set_close(&set);
    return status;
}

/* Compares one dataset with a row and notes where it lies; *there tells whether it exists. */
static lcl_status check_dataset(struct loading *l, enum lcl_set_kind kind,
                                const struct lcl_param *p, struct lcl_row_places *row, bool *there)
{
    char name[LCL_SET_NAME_BYTES];
    lcl_set_name(kind, p, name);
    *there = lcl_h5_exists(&l->f, name);
    if (!*there) return LCL_OK;
    struct lcl_h5_set set;
    LCL_TRY(lcl_h5_set_open(&l->f, name, &set));
    const lcl_dtype dtype = dtype_of(kind, p, &set);
    bool known = set.type == LCL_H5_F32 || set.type == LCL_H5_U16 || set.type == LCL_H5_U8;
    bool same = known && set.rank == p->n_dims;
    if (same && set.type == LCL_H5_U8 && kind == LCL_SET_VALUE)
        same = dtype != LCL_F32;
    else
        for (int d = 0; same && d < p->n_dims; d++) same = set.dims[d] == (uint64_t)p->shape[d];
    lcl_status status = same ? place_set(&set, dtype, &row->of[kind]) : LCL_OK;
    lcl_h5_set_close(&set);
    if (!same) add_name(&l->misshapen, name);
    if (same && status == LCL_OK && (lcl_is_blocks(dtype) || dtype == LCL_U8))
        status = find_scales(l, kind + 1, p, dtype, &row->of[kind + 1]);
    return status;
}

/* The file's types are another config's. */
static void tell_conversions(const struct lcl_rows_reading *r)
{
    if (lcl_comm_rank(r->share.comm) != 0) return;
    if (r->n_values > 0)
        lcl_log_info("%s: %d parameters were kept in another precision and are converted "
                     "(bf16, master_weights, lora.base)",
                     r->path, r->n_values);
    if (r->n_moments > 0)
        lcl_log_warn("%s: %d moments were kept in another type and are converted (optim): the run "
                     "does not go on bit for bit",
                     r->path, r->n_moments);
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
            LCL_TRY(check_dataset(l, LCL_SET_VALUE, &t->rows[i], &l->place[i], &there));
        /* parts of another model may have no adapters: those begin as they are */
        if (!there && !(t->rows[i].adapter && parts != ~0u)) add_name(&l->missing, t->rows[i].name);
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
        LCL_TRY(check_dataset(l, LCL_SET_M, &t->rows[i], &l->place[i], &there));
        LCL_TRY(check_dataset(l, LCL_SET_V, &t->rows[i], &l->place[i], &there));
    }
    return LCL_OK;
}

static lcl_status open_loading(const char *path, const struct lcl_params *t, struct loading **out)
{
    struct loading *l = calloc(1, sizeof *l);
    if (l) l->place = calloc((size_t)t->n_rows + 1, sizeof *l->place);
    *out = l;
    if (!l || !l->place) return LCL_FAIL(LCL_MEMORY, "no memory to load %s", path);
    for (int i = 0; i < t->n_rows; i++)
        for (int k = 0; k < LCL_SET_KINDS; k++) l->place[i].of[k].offset = -1;
    return LCL_OK;
}

static void close_loading(struct loading *l)
{
    if (!l) return;
    lcl_h5_discard(&l->f);
    free(l->place);
    free(l);
}

/* All that is to be known before the first byte of a row is read. */
static lcl_status find_all(struct loading *l, const char *path, struct lcl_params *t,
                           bool with_optimizer, struct lcl_run_state_loaded *state)
{
    LCL_TRY(lcl_checkpoint_open_state(path, &l->f));
    LCL_TRY(check_values(l, t, ~0u));
    LCL_TRY(find_left_over(l, t));
    if (with_optimizer) LCL_TRY(check_moments(l, t));
    LCL_TRY(complain(l));
    return state ? read_run_state(&l->f, state) : LCL_OK;
}

/* A text, or a table, that the first rank has. */
static lcl_status tell_bytes(struct lcl_comm *comm, void **data, uint64_t n)
{
    if (lcl_comm_rank(comm) != 0) *data = n ? malloc(n) : NULL;
    if (n == 0) return LCL_OK;
    if (!*data) return LCL_FAIL(LCL_MEMORY, "no memory for a checkpoint's state");
    return lcl_comm_broadcast(comm, "a run's state", 0, *data, n);
}

static lcl_status tell_state(struct lcl_comm *comm, struct lcl_run_state_loaded *s)
{
    struct {
        struct lcl_run_state state;
        uint64_t yaml, json, table, has_optimizer;
    } head = {.state = s->state};
    void *yaml = s->config_yaml, *json = s->extra_json, *table = s->neighbors;
    if (lcl_comm_size(comm) == 1) return LCL_OK;
    if (lcl_comm_rank(comm) == 0) {
        head.yaml = strlen(s->config_yaml) + 1;
        head.json = strlen(s->extra_json) + 1;
        head.table = s->neighbors
                         ? (uint64_t)(s->state.neighbor_classes * s->state.neighbor_width) *
                               sizeof *s->neighbors
                         : 0;
        head.has_optimizer = s->has_optimizer;
    }
    LCL_TRY(lcl_comm_broadcast(comm, "a run's state", 0, &head, sizeof head));
    lcl_status status = tell_bytes(comm, &yaml, head.yaml);
    if (status == LCL_OK) status = tell_bytes(comm, &json, head.json);
    if (status == LCL_OK) status = tell_bytes(comm, &table, head.table);
    *s = (struct lcl_run_state_loaded){head.state, yaml, json, table, head.has_optimizer != 0};
    s->state.config_yaml = s->config_yaml;
    s->state.extra_json = s->extra_json;
    s->state.neighbors = s->neighbors;
    return status;
}

static lcl_status read_rows(struct loading *l, const char *path, struct lcl_params *t,
                            unsigned parts, bool with_moments,
                            const struct lcl_checkpoint_share *share)
{
    char *file = lcl_strdupf("%s/" LCL_CHECKPOINT_STATE, path);
    struct lcl_rows_reading r = {.path = file,
                                 .t = t,
                                 .place = l->place,
                                 .parts = parts,
                                 .with_moments = with_moments,
                                 .share = *share};
    lcl_status status = file ? LCL_OK : LCL_FAIL(LCL_MEMORY, "no memory for a path");
    if (status == LCL_OK)
        status = lcl_comm_broadcast(share->comm, "where a checkpoint's datasets lie", 0, l->place,
                                    (size_t)t->n_rows * sizeof *l->place);
    if (status == LCL_OK) status = lcl_rows_read(&r);
    if (status == LCL_OK) tell_conversions(&r);
    if (status == LCL_OK) lcl_params_changed(t);
    free(file);
    return status;
}

lcl_status lcl_checkpoint_load_shared(const char *path, struct lcl_params *t, bool with_optimizer,
                                      const struct lcl_checkpoint_share *share,
                                      struct lcl_run_state_loaded *state)
{
    struct loading *l;
    if (state) *state = (struct lcl_run_state_loaded){0};
    lcl_status status = open_loading(path, t, &l);
    if (status == LCL_OK && lcl_comm_rank(share->comm) == 0)
        status = find_all(l, path, t, with_optimizer, state);
    status = lcl_comm_agree(share->comm, "the datasets of a checkpoint", status);
    if (status == LCL_OK && state) status = tell_state(share->comm, state);
    if (status == LCL_OK) status = read_rows(l, path, t, ~0u, with_optimizer, share);
    close_loading(l);
    if (status != LCL_OK && state) lcl_run_state_free(state);
    return status;
}

lcl_status lcl_checkpoint_load(const char *path, struct lcl_params *t, bool with_optimizer,
                               struct lcl_run_state_loaded *state)
{
    return lcl_checkpoint_load_shared(path, t, with_optimizer, &(struct lcl_checkpoint_share){0},
                                      state);
}

lcl_status lcl_checkpoint_load_parts(const char *path, struct lcl_params *t, unsigned parts,
                                     struct lcl_load_report *report)
{
    struct loading *l;
    if (report) *report = (struct lcl_load_report){0};
    lcl_status status;
    LCL_TRY_GOTO(open_loading(path, t, &l));
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
    LCL_TRY_GOTO(read_rows(l, path, t, parts, false, &(struct lcl_checkpoint_share){0}));
    for (int i = 0; report && i < t->n_rows; i++)
        report->n_loaded += l->place[i].of[LCL_SET_VALUE].offset >= 0;
out:
    close_loading(l);
    return status;
}

/* ---- listing ---- */

/* The shape of a row in blocks is that of its scales, as many times as a block has elements. */
static lcl_status list_blocks(const struct lcl_h5 *f, const char *name,
                              struct lcl_checkpoint_row *r)
{
    char path[LCL_PARAM_NAME_BYTES + 16];
    struct lcl_h5_set set;
    snprintf(path, sizeof path, "/params_scale/%s", name);
    LCL_TRY(lcl_h5_set_open(f, path, &set));
    const bool fits = r->n_dims == 2 && set.rank == 2 && set.dims[1] > 0 &&
                      set.dims[1] <= (uint64_t)INT64_MAX / LCL_BLOCK;
    const uint64_t K = fits ? set.dims[1] * LCL_BLOCK : 1;
    lcl_h5_set_close(&set);
    r->dtype = (uint64_t)r->shape[1] == K ? LCL_Q8_0 : LCL_Q4_0;
    if (!fits || (uint64_t)r->shape[1] != lcl_code_bytes(r->dtype, K))
        return LCL_FAIL(LCL_FORMAT, "%s: the codes and the scales of %s do not go together",
                        f->path, name);
    r->shape[1] = (int64_t)K;
    return LCL_OK;
}

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
    r->dtype = set.type == LCL_H5_F32 ? LCL_F32 : LCL_BF16;
    bool coded = set.type == LCL_H5_U8;
    lcl_h5_set_close(&set);
    if (fits && coded) LCL_TRY(list_blocks(f, name, r));
    if (!fits) return LCL_FAIL(LCL_FORMAT, "%s: %s has %d dimensions", f->path, path, set.rank);
    LCL_TRY(lcl_h5_get_u64(f, path, "part", &part));
    LCL_TRY(lcl_h5_get_u64(f, path, "trainable", &trainable));
    if (part >= LCL_PART_COUNT)
        return LCL_FAIL(LCL_FORMAT, "%s: %s is of part %" PRIu64, f->path, path, part);
    r->part = (enum lcl_part)part;
    r->trainable = trainable != 0;
    snprintf(path, sizeof path, "/adam/m/%s", name);
    r->has_moments = lcl_h5_exists(f, path);
    if (!r->has_moments) return LCL_OK;
    LCL_TRY(lcl_h5_set_open(f, path, &set));
    r->moments = set.type == LCL_H5_F32 ? LCL_F32 : set.type == LCL_H5_U16 ? LCL_BF16 : LCL_U8;
    lcl_h5_set_close(&set);
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
