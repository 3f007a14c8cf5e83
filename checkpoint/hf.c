#include "checkpoint/hf.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>

#include "checkpoint/hf_export.h"
#include "checkpoint/misfits.h"

bool lcl_hf_is_folder(const char *dir)
{
    char *path = lcl_strdupf("%s/config.json", dir);
    bool there = path && lcl_fs_is_dir(dir) && lcl_fs_exists(path);
    free(path);
    return there;
}

static bool is_of_type(const char *dir, const char *const *types)
{
    char *path = lcl_strdupf("%s/config.json", dir);
    char *config = NULL;
    size_t size;
    json_t *root = NULL;
    if (path && lcl_hf_is_folder(dir) &&
        lcl_fs_read(path, LCL_HF_CONFIG_BYTES, &config, &size) == LCL_OK)
        root = json_loadb(config, size, 0, NULL);
    const char *type = json_string_value(json_object_get(root, "model_type"));
    bool is = false;
    for (; type && *types; types++) is |= strcmp(type, *types) == 0;
    json_decref(root);
    free(config);
    free(path);
    return is;
}

bool lcl_hf_is_text_folder(const char *dir)
{
    static const char *const types[] = {"llama", NULL};
    return is_of_type(dir, types);
}

bool lcl_hf_is_tower_folder(const char *dir)
{
    static const char *const types[] = {"clip", "clip_vision_model", NULL};
    return is_of_type(dir, types);
}

unsigned lcl_hf_parts(const char *dir)
{
    if (lcl_hf_is_text_folder(dir)) return 1u << LCL_PART_TEXT;
    if (lcl_hf_is_tower_folder(dir)) return 1u << LCL_PART_VISION;
    return 1u << LCL_PART_VISION | 1u << LCL_PART_PROJECTOR | 1u << LCL_PART_TEXT;
}

static bool is_vision(const char *on_disk)
{
    char name[LCL_PARAM_NAME_BYTES];
    return lcl_hf_table_name(on_disk, name) == LCL_OK && strncmp(name, "vision_tower.", 13) == 0;
}

static bool has_vision_tower(const struct lcl_safetensors *st)
{
    for (size_t i = 0; i < st->n_tensors; i++)
        if (is_vision(st->tensors[i].name)) return true;
    return false;
}

lcl_status lcl_hf_open(const char *dir, struct lcl_safetensors *st)
{
    char *tower = NULL;
    LCL_TRY(lcl_st_open(dir, st));
    lcl_status status = has_vision_tower(st) ? LCL_OK : lcl_hf_tower_folder(dir, &tower);
    if (status == LCL_OK && tower) status = lcl_st_join(st, tower, is_vision);
    free(tower);
    if (status != LCL_OK) lcl_st_close(st);
    return status;
}

lcl_status lcl_hf_load_config(const char *dir, struct lcl_model_config *m)
{
    struct lcl_safetensors st;
    LCL_TRY(lcl_hf_open(dir, &st));
    lcl_status status = lcl_hf_config_read(dir, &st, m);
    lcl_st_close(&st);
    return status;
}

/* ---- matching tensors to rows ---- */

struct matching {
    const char *dir;
    const struct lcl_safetensors *st;
    struct lcl_model_config config;
    const struct lcl_st_tensor **of_row; /* [n_rows] */
    struct lcl_misfits bad;
};

bool lcl_hf_is_buffer(const char *name)
{
    static const char *const ends[] = {".position_ids", ".rotary_emb.inv_freq"};
    size_t n = strlen(name);
    for (int i = 0; i < 2; i++) {
        size_t m = strlen(ends[i]);
        if (n >= m && strcmp(name + n - m, ends[i]) == 0) return true;
    }
    return false;
}

bool lcl_hf_is_own_row(const struct lcl_param *p)
{
    return p->adapter || p->part == LCL_PART_HEAD ||
           strncmp(p->name, "image_standardize.", 18) == 0;
}

/* By the first word of a tensor's table name; false for those of no part. */
static bool is_of_parts(const char *name, unsigned parts)
{
    static const struct {
        const char *prefix;
        enum lcl_part part;
    } words[] = {{"vision_tower.", LCL_PART_VISION},
                 {"multi_modal_projector.", LCL_PART_PROJECTOR},
                 {"language_model.", LCL_PART_TEXT}};
    if (parts == LCL_ALL_PARTS) return true;
    for (int i = 0; i < 3; i++)
        if (parts >> words[i].part & 1u &&
            strncmp(name, words[i].prefix, strlen(words[i].prefix)) == 0)
            return true;
    return false;
}

static lcl_status match_tensor(struct matching *m, const struct lcl_params *t, unsigned parts,
                               const struct lcl_st_tensor *tensor)
{
    char name[LCL_PARAM_NAME_BYTES];
    LCL_TRY(lcl_hf_table_name(tensor->name, name));
    const struct lcl_param *p = lcl_params_find((struct lcl_params *)(uintptr_t)t, name);
    if (p) {
        const struct lcl_st_tensor **slot = &m->of_row[p - t->rows];
        if (*slot)
            lcl_misfits_add(&m->bad, "both %s and %s are %s", (*slot)->name, tensor->name, name);
        *slot = tensor;
        return LCL_OK;
    }
    if (m->config.projector == LCL_PROJECTOR_LINEAR &&
        strncmp(name, "multi_modal_projector.linear_2.", 31) == 0)
        return LCL_OK; /* an identity: lcl_hf_config_read looked */
    if (m->config.text.tied && strcmp(name, "language_model.lm_head.weight") == 0)
        return LCL_OK; /* equal to the embedding: the same */
    if (is_of_parts(name, parts) && !lcl_hf_is_buffer(tensor->name))
        lcl_misfits_add(&m->bad, "left over: %.200s", tensor->name);
    return LCL_OK;
}

static void check_row(struct matching *m, const struct lcl_param *p,
                      const struct lcl_st_tensor *tensor)
{
    if (!tensor) {
        lcl_misfits_add(&m->bad, "missing: %s", p->name);
        return;
    }
    if (!lcl_misfits_shape(&m->bad, tensor->name, tensor->n_dims, tensor->shape, p) &&
        tensor->dtype > LCL_F64)
        lcl_misfits_add(&m->bad, "not floating: %.200s is of type %s", tensor->name,
                        tensor->stored);
}

static lcl_status match_open(struct matching *m, const struct lcl_params *t, unsigned parts)
{
    m->of_row = calloc((size_t)t->n_rows + 1, sizeof *m->of_row);
    if (!m->of_row) return LCL_FAIL(LCL_MEMORY, "no memory to load %s", m->dir);
    for (size_t i = 0; i < m->st->n_tensors; i++)
        LCL_TRY(match_tensor(m, t, parts, &m->st->tensors[i]));
    for (int i = 0; i < t->n_rows; i++)
        if (parts >> t->rows[i].part & 1u && !lcl_hf_is_own_row(&t->rows[i]))
            check_row(m, &t->rows[i], m->of_row[i]);
    return LCL_OK;
}

static lcl_status refuse_misfits(const struct matching *m)
{
    return lcl_misfits_refuse(
        &m->bad, m->dir, "the weights and config.json, or the model that is asked for, differ");
}

lcl_status lcl_hf_match(const char *where, const struct lcl_safetensors *st,
                        const struct lcl_model_config *config, const struct lcl_params *t,
                        unsigned parts, const struct lcl_st_tensor ***of_row)
{
    struct matching m = {.dir = where, .st = st, .config = *config};
    lcl_status status = match_open(&m, t, parts);
    if (status == LCL_OK) status = refuse_misfits(&m);
    if (status != LCL_OK) free(m.of_row);
    *of_row = status == LCL_OK ? m.of_row : NULL;
    return status;
}

/* ---- filling ---- */

static lcl_status put_row(const struct lcl_st_tensor *tensor, struct lcl_params *t,
                          const struct lcl_param *p)
{
    enum { SOME = 4096 }; /* whole blocks */
    float x[SOME];
    for (size_t at = 0, n; at < p->count; at += n) {
        n = p->count - at < SOME ? p->count - at : SOME;
        LCL_TRY(lcl_st_read(tensor, at, n, LCL_F32, x));
        lcl_param_put(t, p, at, n, x);
    }
    return LCL_OK;
}

static lcl_status fill(const struct matching *m, struct lcl_params *t, unsigned parts)
{
    for (int i = 0; i < t->n_rows; i++) {
        const struct lcl_param *p = &t->rows[i];
        if (!(parts >> p->part & 1u)) continue;
        float *value = lcl_param_value(t, p);
        if (m->of_row[i] && (p->in_blocks || lcl_param_is_split(t, p))) {
            LCL_TRY(put_row(m->of_row[i], t, p));
        } else if (m->of_row[i] && !value) {
            LCL_TRY(lcl_st_read(m->of_row[i], 0, p->count, LCL_BF16, lcl_param_value16(t, p)));
        } else if (m->of_row[i]) {
            LCL_TRY(lcl_st_read(m->of_row[i], 0, p->count, LCL_F32, value));
        } else if (strncmp(p->name, "image_standardize.", 18) == 0) {
            float constant = strcmp(p->name, "image_standardize.mean") == 0 ? 0.0f : 1.0f;
            for (size_t k = 0; k < p->count; k++) value[k] = constant;
        }
        if (m->of_row[i]) lcl_fs_map_done(m->of_row[i]->data, m->of_row[i]->bytes);
    }
    lcl_params_changed(t);
    return LCL_OK;
}

static lcl_status keep_names(const struct matching *m, const struct lcl_params *t,
                             struct lcl_hf_names *names)
{
    names->name = calloc((size_t)t->n_rows + 1, sizeof *names->name);
    if (!names->name) return LCL_FAIL(LCL_MEMORY, "no memory for %d names", t->n_rows);
    names->n_rows = t->n_rows;
    for (int i = 0; i < t->n_rows; i++)
        if (m->of_row[i])
            snprintf(names->name[i], sizeof names->name[i], "%.*s", LCL_PARAM_NAME_BYTES - 1,
                     m->of_row[i]->name);
    return LCL_OK;
}

lcl_status lcl_hf_load(const char *dir, struct lcl_params *t, unsigned parts,
                       struct lcl_hf_names *names)
{
    struct lcl_safetensors st = {0};
    struct matching m = {.dir = dir, .st = &st};
    lcl_status status;
    if (names) *names = (struct lcl_hf_names){0};
    LCL_TRY_GOTO(lcl_hf_open(dir, &st));
    LCL_TRY_GOTO(lcl_hf_config_read(dir, &st, &m.config));
    LCL_TRY_GOTO(match_open(&m, t, parts));
    LCL_TRY_GOTO(refuse_misfits(&m));
    if (names) LCL_TRY_GOTO(keep_names(&m, t, names));
    status = fill(&m, t, parts);
out:
    if (status != LCL_OK && names) lcl_hf_names_free(names);
    lcl_st_close(&st);
    free(m.of_row);
    return status;
}

/* Tensors of the text tower that config.json knows nothing of. */
static lcl_status refuse_more_text(const char *dir, const struct lcl_params *t)
{
    struct lcl_safetensors st;
    struct lcl_misfits bad = {0};
    LCL_TRY(lcl_hf_open(dir, &st));
    for (size_t i = 0; i < st.n_tensors; i++) {
        const char *name = st.tensors[i].name;
        if (strncmp(name, "text_model.", 11) == 0 && !lcl_hf_is_buffer(name) &&
            !lcl_params_find((struct lcl_params *)(uintptr_t)t, name))
            lcl_misfits_add(&bad, "left over: %.200s", name);
    }
    lcl_st_close(&st);
    return lcl_misfits_refuse(&bad, dir, "the weights and text_config of config.json differ");
}

lcl_status lcl_hf_clip_load(const char *dir, bool bf16, struct lcl_clip *m)
{
    struct lcl_clip_config config;
    LCL_TRY(lcl_hf_clip_config(dir, &config));
    LCL_TRY(lcl_clip_create(m, &config));
    lcl_status status = lcl_model_reserve(&m->model, bf16, false, false);
    if (status == LCL_OK) status = lcl_hf_load(dir, &m->model.params, 1u << LCL_PART_VISION, NULL);
    if (status == LCL_OK) status = refuse_more_text(dir, &m->model.params);
    if (status != LCL_OK) lcl_clip_free(m);
    return status;
}

lcl_status lcl_hf_match_projector(const char *file, const struct lcl_safetensors *st,
                                  const struct lcl_params *t, const struct lcl_st_tensor ***of_row)
{
    struct matching m = {.dir = file, .st = st, .config = {.projector = LCL_PROJECTOR_MLP2}};
    char name[LCL_PARAM_NAME_BYTES];
    *of_row = NULL;
    lcl_status status = match_open(&m, t, 1u << LCL_PART_PROJECTOR);
    for (size_t i = 0; i < st->n_tensors && status == LCL_OK; i++) {
        status = lcl_hf_table_name(st->tensors[i].name, name);
        if (status == LCL_OK && !is_of_parts(name, 1u << LCL_PART_PROJECTOR))
            lcl_misfits_add(&m.bad, "of no projector: %.200s", st->tensors[i].name);
    }
    if (status == LCL_OK)
        status = lcl_misfits_refuse(&m.bad, file,
                                    "mm_projector_type says which kind of projector the model has");
    if (status == LCL_OK)
        *of_row = m.of_row;
    else
        free(m.of_row);
    return status;
}

lcl_status lcl_hf_load_projector(const char *file, struct lcl_params *t)
{
    const unsigned projector = 1u << LCL_PART_PROJECTOR;
    struct lcl_safetensors st;
    struct matching m = {.dir = file, .st = &st};
    LCL_TRY(lcl_st_open(file, &st));
    lcl_status status = lcl_hf_match_projector(file, &st, t, &m.of_row);
    if (status == LCL_OK) status = fill(&m, t, projector);
    lcl_st_close(&st);
    free(m.of_row);
    return status;
}
