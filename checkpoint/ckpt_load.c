#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "checkpoint/ckpt_manifest.h"
#include "checkpoint/hf_config.h"
#include "core/code8.h"
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
    float *wide; /* a row on its way from one type to another */
    size_t wide_count;
    int n_values, n_moments; /* rows that were kept in another type */
};

static void dataset_name(char *out, size_t size, const char *group, const struct lcl_param *p)
{
    snprintf(out, size, "%s/%s", group, p->name);
}

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
    bool known = set.type == LCL_H5_F32 || set.type == LCL_H5_U16 || set.type == LCL_H5_U8;
    bool same = known && set.rank == p->n_dims;
    if (same && set.type == LCL_H5_U8 && strcmp(group, "/params") == 0)
        same = blocks_of(p, &set) != LCL_F32;
    else
        for (int d = 0; same && d < p->n_dims; d++) same = set.dims[d] == (uint64_t)p->shape[d];
    lcl_h5_set_close(&set);
    if (!same) add_name(&l->misshapen, name);
    return LCL_OK;
}

static lcl_status type_of(const struct loading *l, const char *name, lcl_h5_type *type)
{
    struct lcl_h5_set set;
    LCL_TRY(lcl_h5_set_open(&l->f, name, &set));
    *type = set.type;
    lcl_h5_set_close(&set);
    return LCL_OK;
}

static lcl_status reserve_wide(struct loading *l, size_t count)
{
    if (l->wide_count >= count) return LCL_OK;
    free(l->wide);
    l->wide = malloc(count * sizeof *l->wide);
    l->wide_count = l->wide ? count : 0;
    return l->wide ? LCL_OK : LCL_FAIL(LCL_MEMORY, "no memory for a tensor of %zu elements", count);
}

/* Reads f32 or the bits of bf16 as they are, or the one as the other. */
static lcl_status read_as(struct loading *l, const char *name, size_t count, lcl_dtype dtype,
                          void *x, int *n_other)
{
    lcl_h5_type type;
    LCL_TRY(type_of(l, name, &type));
    lcl_dtype stored = type == LCL_H5_F32 ? LCL_F32 : LCL_BF16;
    if (stored == dtype) return lcl_h5_read(&l->f, name, type, count, x);
    LCL_TRY(reserve_wide(l, count));
    LCL_TRY(lcl_h5_read(&l->f, name, type, count, l->wide));
    ++*n_other;
    return lcl_convert(x, dtype, l->wide, stored, count);
}

static lcl_status stored_as(const struct loading *l, const char *name, const struct lcl_param *p,
                            lcl_dtype *dtype)
{
    struct lcl_h5_set set;
    LCL_TRY(lcl_h5_set_open(&l->f, name, &set));
    *dtype = set.type == LCL_H5_F32   ? LCL_F32
             : set.type == LCL_H5_U16 ? LCL_BF16
                                      : blocks_of(p, &set);
    lcl_h5_set_close(&set);
    return LCL_OK;
}

static lcl_status read_blocks(const struct loading *l, const char *name, const struct lcl_param *p,
                              lcl_dtype blocks, uint8_t *code, lcl_f16 *scale)
{
    char scales[LCL_PARAM_NAME_BYTES + 16];
    dataset_name(scales, sizeof scales, "/params_scale", p);
    LCL_TRY(lcl_h5_read(&l->f, scales, LCL_H5_U16, p->count / LCL_BLOCK, scale));
    return lcl_h5_read(&l->f, name, LCL_H5_U8, lcl_code_bytes(blocks, p->count), code);
}

/* A row of which the file or the table has blocks, and the other has not, or others. */
static lcl_status read_recoded(struct loading *l, const char *name, lcl_dtype stored,
                               struct lcl_params *t, const struct lcl_param *p)
{
    enum { SOME = 4096 }; /* whole blocks */
    float x[SOME];
    LCL_TRY(reserve_wide(l, p->count)); /* codes and scales need less */
    lcl_f16 *scale = (lcl_f16 *)(void *)l->wide;
    uint8_t *raw = (uint8_t *)l->wide, *code = (uint8_t *)(scale + p->count / LCL_BLOCK);
    if (lcl_is_blocks(stored))
        LCL_TRY(read_blocks(l, name, p, stored, code, scale));
    else
        LCL_TRY(lcl_h5_read(&l->f, name, stored == LCL_F32 ? LCL_H5_F32 : LCL_H5_U16, p->count,
                            l->wide));
    for (size_t at = 0, n; at < p->count; at += n) {
        n = p->count - at < SOME ? p->count - at : SOME;
        if (lcl_is_blocks(stored))
            lcl_blocks_decode(stored, code + lcl_code_bytes(stored, at), scale + at / LCL_BLOCK, n,
                              x);
        else
            LCL_TRY(lcl_convert(x, LCL_F32, raw + at * lcl_dtype_bytes(stored), stored, n));
        lcl_param_put(t, p, at, n, x);
    }
    l->n_values++;
    return LCL_OK;
}

struct splitting {
    struct lcl_params *t;
    const struct lcl_param *p;
    lcl_dtype stored;
};

static lcl_status split_some(void *ctx, const void *x, size_t first, size_t n)
{
    enum { SOME = 4096 };
    const struct splitting *s = ctx;
    float wide[SOME];
    if (s->stored == LCL_F32) {
        lcl_param_put(s->t, s->p, first, n, x);
        return LCL_OK;
    }
    for (size_t at = 0, k; at < n; at += k) {
        k = n - at < SOME ? n - at : SOME;
        LCL_TRY(lcl_convert(wide, LCL_F32, (const lcl_bf16 *)x + at, s->stored, k));
        lcl_param_put(s->t, s->p, first + at, k, wide);
    }
    return LCL_OK;
}

/* f32, or the bits of bf16, into a row whose values are in halves. */
static lcl_status read_split(struct loading *l, const char *name, lcl_dtype stored,
                             struct lcl_params *t, const struct lcl_param *p)
{
    struct splitting s = {t, p, stored};
    struct lcl_h5_set set;
    LCL_TRY(lcl_h5_set_open(&l->f, name, &set));
    lcl_status status = set.count == p->count
                            ? lcl_h5_set_stream(&set, split_some, &s)
                            : LCL_FAIL(LCL_SHAPE, "%s: dataset %s has %llu elements, wanted %zu",
                                       l->f.path, name, (unsigned long long)set.count, p->count);
    lcl_h5_set_close(&set);
    l->n_values += stored != LCL_F32;
    return status;
}

static lcl_status read_value(struct loading *l, struct lcl_params *t, const struct lcl_param *p)
{
    char name[LCL_PARAM_NAME_BYTES + 16];
    const lcl_dtype kept = lcl_param_dtype(t, p);
    lcl_dtype stored;
    dataset_name(name, sizeof name, "/params", p);
    LCL_TRY(stored_as(l, name, p, &stored));
    if (lcl_is_blocks(kept) && stored == kept)
        return read_blocks(l, name, p, kept, lcl_param_code(t, p), lcl_param_scale(t, p));
    if (lcl_is_blocks(kept) || lcl_is_blocks(stored)) return read_recoded(l, name, stored, t, p);
    if (lcl_param_is_split(t, p)) return read_split(l, name, stored, t, p);
    void *value = kept == LCL_F32 ? (void *)lcl_param_value(t, p) : (void *)lcl_param_value16(t, p);
    return read_as(l, name, p->count, kept, value, &l->n_values);
}

/* Codes and their scales, into such, or as f32. */
static lcl_status read_coded(struct loading *l, const char *name, const struct lcl_param *p,
                             bool second, const struct lcl_moment *m)
{
    char scale[LCL_PARAM_NAME_BYTES + 16];
    uint64_t blocks = (uint64_t)lcl_code8_blocks((int64_t)p->count);
    dataset_name(scale, sizeof scale, second ? "/adam/v_scale" : "/adam/m_scale", p);
    if (m->dtype == LCL_U8) {
        LCL_TRY(lcl_h5_read(&l->f, scale, LCL_H5_F32, blocks, m->scale_B));
        return lcl_h5_read(&l->f, name, LCL_H5_U8, p->count, m->x);
    }
    struct lcl_moment coded = {.dtype = LCL_U8, .count = m->count, .B = (int64_t)blocks};
    coded.x = malloc(p->count);
    coded.scale_B = malloc(blocks * sizeof(float));
    lcl_status status = coded.x && coded.scale_B
                            ? reserve_wide(l, p->count)
                            : LCL_FAIL(LCL_MEMORY, "no memory for the moments of %s", p->name);
    if (status == LCL_OK) status = lcl_h5_read(&l->f, scale, LCL_H5_F32, blocks, coded.scale_B);
    if (status == LCL_OK) status = lcl_h5_read(&l->f, name, LCL_H5_U8, p->count, coded.x);
    if (status == LCL_OK) {
        lcl_moment_read(&coded, second, l->wide);
        lcl_moment_write(m, second, l->wide);
        l->n_moments++;
    }
    free(coded.x);
    free(coded.scale_B);
    return status;
}

/* Absent moments are zero: lcl_checkpoint_save leaves those out. */
static lcl_status read_moment(struct loading *l, const struct lcl_param *p, bool second,
                              const struct lcl_moment *m)
{
    char name[LCL_PARAM_NAME_BYTES + 16];
    lcl_h5_type type;
    dataset_name(name, sizeof name, second ? "/adam/v" : "/adam/m", p);
    if (!lcl_h5_exists(&l->f, name)) {
        memset(m->x, 0, p->count * lcl_dtype_bytes(m->dtype));
        memset(m->scale_B, 0, (size_t)m->B * sizeof *m->scale_B);
        return LCL_OK;
    }
    LCL_TRY(type_of(l, name, &type));
    if (type == LCL_H5_U8) return read_coded(l, name, p, second, m);
    if (m->dtype != LCL_U8) return read_as(l, name, p->count, m->dtype, m->x, &l->n_moments);
    float *x = malloc(p->count * sizeof *x);
    if (!x) return LCL_FAIL(LCL_MEMORY, "no memory for the moments of %s", p->name);
    lcl_status status = read_as(l, name, p->count, LCL_F32, x, &l->n_moments);
    if (status == LCL_OK) {
        lcl_moment_write(m, second, x);
        l->n_moments += type == LCL_H5_F32; /* read_as has counted the others */
    }
    free(x);
    return status;
}

/* The file's types are another config's. */
static void tell_conversions(const struct loading *l)
{
    if (l->n_values > 0)
        lcl_log_info("%s: %d parameters were kept in another precision and are converted "
                     "(bf16, master_weights, lora.base)",
                     l->f.path, l->n_values);
    if (l->n_moments > 0)
        lcl_log_warn("%s: %d moments were kept in another type and are converted (optim): the run "
                     "does not go on bit for bit",
                     l->f.path, l->n_moments);
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

static lcl_status load_moments(struct loading *l, struct lcl_params *t)
{
    for (int i = 0; i < t->n_rows; i++)
        for (int second = 0; second < 2; second++) {
            const struct lcl_param *p = &t->rows[i];
            if (!lcl_param_has_moments(p)) continue;
            struct lcl_moment m = lcl_param_moment(t, p, second);
            LCL_TRY(read_moment(l, p, second, &m));
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
    for (int i = 0; i < t->n_rows; i++) LCL_TRY_GOTO(read_value(l, t, &t->rows[i]));
    if (with_optimizer) LCL_TRY_GOTO(load_moments(l, t));
    tell_conversions(l);
    lcl_params_changed(t);
out:
    lcl_h5_discard(&l->f);
    free(l->wide);
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
        LCL_TRY_GOTO(read_value(l, t, &t->rows[i]));
        if (report) report->n_loaded++;
    }
    lcl_params_changed(t);
out:
    lcl_h5_discard(&l->f);
    free(l->wide);
    free(l);
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
