#include "train/env.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "checkpoint/ckpt.h"
#include "checkpoint/hf.h"
#include "checkpoint/peft.h"
#include "core/fs.h"
#include "core/log.h"
#include "core/threads.h"
#include "data/shards.h"
#include "data/table.h"
#include "train/device.h"
#include "train/hf_folder.h"
#include "train/plan.h"
#include "train/ranks.h"
#include "train/step.h"

lcl_status lcl_env_start(struct lcl_env *e, const struct lcl_config *c)
{
    char device[LCL_DEVICE_LABEL_BYTES];
    e->comm = lcl_ranks();
    LCL_TRY(lcl_threads_start((int)c->threads));
    LCL_TRY(lcl_device_open(&e->exec, c));
    e->one_at_a_time = e->exec.device != NULL;
    lcl_device_label(&e->exec, device);
    return lcl_ranks_print(e->comm, device);
}

lcl_status lcl_parse_background(const char *text, uint8_t rgb[3])
{
    int r, g, b, used = 0;
    if (sscanf(text, "%d,%d,%d%n", &r, &g, &b, &used) != 3 || text[used] != '\0' || r < 0 ||
        g < 0 || b < 0 || r > 255 || g > 255 || b > 255)
        return LCL_FAIL_HINT(LCL_CONFIG, "three numbers 0..255, as 128,128,128",
                             "data.background is \"%s\"", text);
    rgb[0] = (uint8_t)r;
    rgb[1] = (uint8_t)g;
    rgb[2] = (uint8_t)b;
    return LCL_OK;
}

static lcl_status number_train_classes(struct lcl_env *e)
{
    e->class_label = malloc((size_t)e->pack.n_classes * sizeof *e->class_label);
    if (!e->class_label) return LCL_FAIL(LCL_MEMORY, "no memory for %d classes", e->pack.n_classes);
    for (int32_t i = 0; i < e->pack.n_classes; i++)
        e->class_label[i] = e->pack.classes[i].split == LCL_SPLIT_TRAIN ? e->n_train_classes++ : -1;
    return LCL_OK;
}

static lcl_status open_table(struct lcl_env *e, const struct lcl_config *c)
{
    struct lcl_table_flaws flaws;
    LCL_TRY(lcl_pack_open_table(
        &(struct lcl_table_options){.table = c->data_table,
                                    .images = c->data_images,
                                    .neighbor_pictures = c->data_reading == LCL_READING_OFFICIAL},
        &e->pack, &e->neighbors, &flaws));
    e->has_pack = true;
    e->has_neighbors = e->neighbors.width > 0;
    char *text = lcl_table_flaws_text(&flaws);
    if (!text) return LCL_FAIL(LCL_MEMORY, "no memory for a notice");
    if (text[0])
        lcl_log_warn("%s: of %lld pictures: %s", c->data_table, (long long)flaws.n_samples, text);
    free(text);
    return LCL_OK;
}

lcl_status lcl_env_open_pack(struct lcl_env *e, const struct lcl_config *c)
{
    if (lcl_config_source(c)[0] == '\0')
        return LCL_FAIL_HINT(LCL_CONFIG, "make one with lcl pack and set data.pack",
                             "data.pack is not set");
    if (c->data_table[0]) {
        LCL_TRY(open_table(e, c));
    } else {
        LCL_TRY(lcl_pack_open(c->data_pack, &e->pack));
        e->has_pack = true;
    }
    return number_train_classes(e);
}

lcl_status lcl_env_open_data(struct lcl_env *e, const struct lcl_config *c)
{
    LCL_TRY(lcl_env_open_pack(e, c));
    if (c->data_table[0] && !c->data_neighbors[0]) return LCL_OK;
    char *beside = lcl_strdupf("%s.neighbors.h5", c->data_pack);
    if (!beside) return LCL_FAIL(LCL_MEMORY, "no memory for a path");
    const char *path = c->data_neighbors[0] ? c->data_neighbors : beside;
    lcl_status status = LCL_OK;
    if (c->data_neighbors[0] || lcl_fs_exists(path)) {
        lcl_neighbors_free(&e->neighbors);
        status = lcl_neighbors_load(path, &e->pack, &e->neighbors);
        e->has_neighbors = status == LCL_OK;
    }
    free(beside);
    return status;
}

void lcl_env_count_epochs(const struct lcl_env *e, struct lcl_run_config *run)
{
    int64_t pictures = 0;
    for (int32_t i = 0; e->has_pack && i < e->pack.n_classes; i++)
        pictures += e->class_label[i] >= 0 ? e->pack.classes[i].n_images : 0;
    for (int i = 0; i < run->n_stages; i++) {
        struct lcl_config *c = &run->stages[i];
        double steps = c->num_train_epochs * (double)pictures / (double)lcl_step_samples(c);
        if (steps > 0) c->max_steps = (int64_t)ceil(steps);
    }
}

lcl_status lcl_env_open_sources(struct lcl_env *e, const struct lcl_config *c)
{
    if (strcmp(e->sources.text, c->data_sources) == 0) return LCL_OK;
    lcl_row_sources_close(&e->sources);
    return lcl_row_sources_open(&e->sources, c, e->has_pack ? e->pack.n_images : 0);
}

/* Where values are read from: a checkpoint (its path) or an HF folder. */
struct origin {
    bool hf, tower_alone; /* a CLIP folder says nothing of how it is read */
    char path[LCL_CHECKPOINT_PATH_BYTES];
};

static lcl_status find_origin(const char *from, struct origin *o, struct lcl_model_config *m)
{
    *o = (struct origin){.hf = !lcl_checkpoint_is_folder(from) && lcl_hf_is_folder(from)};
    if (o->hf) {
        o->tower_alone = lcl_hf_is_tower_folder(from);
        snprintf(o->path, sizeof o->path, "%s", from);
        return lcl_hf_folder_config(from, m);
    }
    LCL_TRY(lcl_checkpoint_find(from, o->path, sizeof o->path));
    return lcl_checkpoint_load_config(o->path, m);
}

static lcl_status parse_parts(const char *text, unsigned *parts)
{
    static const char *const names[] = {"all", "vision", "projector", "text"};
    char copy[LCL_CONFIG_STR_BYTES], *save = NULL;
    snprintf(copy, sizeof copy, "%s", text);
    *parts = 0;
    for (char *word = strtok_r(copy, ", ", &save); word; word = strtok_r(NULL, ", ", &save)) {
        if (strcmp(word, "all") == 0)
            *parts |= 1u << LCL_PART_VISION | 1u << LCL_PART_PROJECTOR | 1u << LCL_PART_TEXT;
        else if (strcmp(word, "vision") == 0)
            *parts |= 1u << LCL_PART_VISION;
        else if (strcmp(word, "projector") == 0)
            *parts |= 1u << LCL_PART_PROJECTOR;
        else if (strcmp(word, "text") == 0)
            *parts |= 1u << LCL_PART_TEXT;
        else {
            const char *near = lcl_nearest_word(word, names, 4);
            return LCL_FAIL_HINT(LCL_CONFIG, near ? near : "all, vision, projector, text",
                                 "init_parts has an unknown part \"%s\"", word);
        }
    }
    return LCL_OK;
}

static lcl_status load_parts(struct lcl_env *e, const struct origin *o, unsigned parts)
{
    if (o->hf) return lcl_hf_load(o->path, &e->model.params, parts, NULL);
    struct lcl_load_report report;
    LCL_TRY(lcl_checkpoint_load_parts(o->path, &e->model.params, parts, &report));
    if (report.n_missing > 0)
        lcl_log_warn("%s lacks %d parameters, which start fresh: %s", o->path, report.n_missing,
                     report.missing);
    return LCL_OK;
}

static void set_tokens(struct lcl_model_config *m, const struct lcl_tokenizer *t)
{
    m->image_token = lcl_tokenizer_image(t);
    m->bos_token = lcl_tokenizer_bos(t);
    m->eos_token = lcl_tokenizer_eos(t);
    m->pad_token = lcl_tokenizer_id(t, "<pad>");
}

/* The official layout's image tokens need rows of the embedding. */
static lcl_status check_vocabulary(const struct lcl_env *e, const struct lcl_config *c,
                                   const struct lcl_model_config *m)
{
    int64_t n = lcl_tokenizer_vocab_size(e->tokenizer);
    if (c->data_layout != LCL_LAYOUT_OFFICIAL || n <= m->text.V) return LCL_OK;
    return LCL_FAIL_HINT(LCL_SHAPE,
                         "begin with a model that has <im_patch>, <im_start> and <im_end>, as "
                         "Shikra's and the official ones do",
                         "data.layout: official makes a vocabulary of %lld tokens, the model has "
                         "rows for %lld",
                         (long long)n, (long long)m->text.V);
}

/* The table, without memory for it. */
static lcl_status shape_model(struct lcl_env *e, const struct lcl_config *c,
                              const struct lcl_model_config *m)
{
    if (e->program_bytes == 0) e->program_bytes = lcl_plan_resident_bytes();
    LCL_TRY(lcl_model_create(&e->model, m));
    e->has_model = true;
    e->model.bf16 = e->model.params.bf16 = c->bf16;
    e->model.params.states = (enum lcl_states)c->optim;
    e->model.params.no_master = c->bf16 && c->master_weights == LCL_MASTER_NONE;
    e->model.params.blocks = c->lora_base == LCL_BASE_Q8_0   ? LCL_Q8_0
                             : c->lora_base == LCL_BASE_Q4_0 ? LCL_Q4_0
                                                             : LCL_F32;
    if (e->comm && c->zero > 0) {
        e->model.params.share_rank = e->comm->rank;
        e->model.params.share_ranks = e->comm->size;
    }
    if (e->n_stages) lcl_step_mark_still(&e->model.params, e->stages, e->n_stages);
    lcl_params_place(&e->model.params);
    lcl_preprocess_defaults(&e->preprocess, (int)m->vision.image_size);
    e->preprocess.mode = c->data_resize == 1 ? LCL_RESIZE_PAD : LCL_RESIZE_CROP;
    return lcl_parse_background(c->data_background, e->preprocess.background);
}

static lcl_status finish_model(struct lcl_env *e, const struct lcl_config *c,
                               const struct lcl_model_config *m, bool training)
{
    LCL_TRY(shape_model(e, c, m));
    LCL_TRY(lcl_plan_check_values(e, c));
    return lcl_model_reserve(&e->model, c->bf16, false, training);
}

/* Adapters of what a run begins with go on, or there are none. */
static lcl_status check_adapters(const char *from, const struct lcl_lora_config *loaded,
                                 const struct lcl_lora_config *c)
{
    if (loaded->rank == 0 || (loaded->rank == c->rank && loaded->alpha == c->alpha &&
                              strcmp(loaded->targets, c->targets) == 0))
        return LCL_OK;
    return LCL_FAIL_HINT(LCL_CONFIG,
                         "set the same to go on with them, or begin with what lcl export --to hf "
                         "makes of it: it merges them",
                         "init_from: %s has adapters of lora.rank %lld, lora.alpha %g, "
                         "lora.targets %s; this run has others",
                         from, (long long)loaded->rank, loaded->alpha, loaded->targets);
}

/* lora.adapter brings its own rank, alpha and targets. */
static lcl_status adapters_to_begin_with(const struct lcl_config *c, struct lcl_lora_config *lora)
{
    struct lcl_lora_config folder;
    if (!c->lora_adapter[0]) return LCL_OK;
    LCL_TRY(lcl_peft_load_config(c->lora_adapter, &folder));
    if (c->lora_rank != 0 && c->lora_rank != folder.rank)
        return LCL_FAIL_HINT(LCL_CONFIG, "leave lora.rank out: the folder brings it",
                             "lora.rank is %lld, that of lora.adapter %s is %lld",
                             (long long)c->lora_rank, c->lora_adapter, (long long)folder.rank);
    *lora = folder;
    return LCL_OK;
}

/* What a new run begins with: parts of init_from, the tower of init_vision_from. */
struct origins {
    struct origin from, vision;
    unsigned parts;
};

static void take_tower(const struct origin *o, const struct lcl_model_config *loaded,
                       struct lcl_model_config *m)
{
    m->vision = loaded->vision;
    if (o->tower_alone) return;
    m->select_layer = loaded->select_layer;
    m->keep_class = loaded->keep_class;
}

/* Tokenizer and shapes of a new run, and where its values come from. */
static lcl_status resolve_model(struct lcl_env *e, const struct lcl_config *c, bool with_classifier,
                                struct lcl_model_config *model, struct origins *o)
{
    struct lcl_model_config m, loaded;
    const char *from = c->init_from;
    unsigned parts;
    *o = (struct origins){0};
    LCL_TRY(parse_parts(c->init_parts, &o->parts));
    if (c->init_vision_from[0]) o->parts &= ~(1u << LCL_PART_VISION);
    if (c->pretrain_mm_mlp_adapter[0]) o->parts &= ~(1u << LCL_PART_PROJECTOR);
    parts = o->parts;
    if (from[0]) LCL_TRY(find_origin(from, &o->from, &loaded));
    LCL_TRY(lcl_tokenizer_for_config(c, &e->tokenizer));
    int64_t vocab = lcl_tokenizer_vocab_size(e->tokenizer);
    if (c->text_vocab_size > 0 && !(from[0] && parts & 1u << LCL_PART_TEXT)) {
        if (c->text_vocab_size < vocab)
            return LCL_FAIL_HINT(LCL_CONFIG, "raise it, or leave it 0",
                                 "text.vocab_size is %lld, but the tokenizer has %lld tokens",
                                 (long long)c->text_vocab_size, (long long)vocab);
        vocab = c->text_vocab_size;
    }
    lcl_model_config_from(c, vocab, &m);
    if (from[0]) {
        if (parts & 1u << LCL_PART_VISION) {
            take_tower(&o->from, &loaded, &m);
            if (!o->from.tower_alone) m.pool = loaded.pool;
        }
        if (parts & 1u << LCL_PART_PROJECTOR) {
            m.projector = loaded.projector;
            m.projector_act = loaded.projector_act;
            m.projector_bias = loaded.projector_bias;
            m.qformer = loaded.qformer;
            m.standardize = loaded.standardize;
        }
        if (parts & 1u << LCL_PART_TEXT) m.text = loaded.text;
        LCL_TRY(check_adapters(from, &loaded.lora, &m.lora));
    }
    if (c->init_vision_from[0]) {
        LCL_TRY(find_origin(c->init_vision_from, &o->vision, &loaded));
        take_tower(&o->vision, &loaded, &m);
    }
    if (c->pretrain_mm_mlp_adapter[0])
        m.standardize = false; /* it takes the features as they are */
    LCL_TRY(adapters_to_begin_with(c, &m.lora));
    LCL_TRY(check_vocabulary(e, c, &m));
    set_tokens(&m, e->tokenizer);
    m.n_classes = with_classifier ? e->n_train_classes : 0;
    *model = m;
    return LCL_OK;
}

lcl_status lcl_env_shape_model(struct lcl_env *e, const struct lcl_config *c, bool with_classifier)
{
    struct lcl_model_config m;
    struct origins origins;
    LCL_TRY(resolve_model(e, c, with_classifier, &m, &origins));
    return shape_model(e, c, &m);
}

lcl_status lcl_env_make_model(struct lcl_env *e, const struct lcl_config *c, bool with_classifier)
{
    struct lcl_model_config m;
    struct origins origins;
    LCL_TRY(resolve_model(e, c, with_classifier, &m, &origins));
    LCL_TRY(finish_model(e, c, &m, true));
    lcl_params_initialise(&e->model.params, (uint64_t)c->seed);
    if (c->init_from[0] && origins.parts) LCL_TRY(load_parts(e, &origins.from, origins.parts));
    if (c->init_vision_from[0]) LCL_TRY(load_parts(e, &origins.vision, 1u << LCL_PART_VISION));
    if (c->pretrain_mm_mlp_adapter[0])
        LCL_TRY(lcl_hf_load_projector(c->pretrain_mm_mlp_adapter, &e->model.params));
    if (c->lora_adapter[0]) LCL_TRY(lcl_peft_load(c->lora_adapter, &e->model.params));
    lcl_params_changed(&e->model.params);
    return LCL_OK;
}

/* Pictures as the HF folder's preprocessor_config.json says, but for what the user has set. */
static lcl_status folder_preprocess(struct lcl_env *e, const char *dir, const struct lcl_config *c)
{
    static const char hint[] = "--set data.resize=crop or pad goes without the folder's settings";
    struct lcl_preprocess p = e->preprocess;
    struct lcl_error error;
    bool found;
    if (c->resize_given) return LCL_OK;
    lcl_status status = lcl_preprocess_load(dir, &p, &found);
    if (status != LCL_OK) {
        lcl_error_save(&error, status);
        return LCL_FAIL_HINT(status, hint, "%s", error.message);
    }
    if (!found) return LCL_OK;
    if (p.size != e->preprocess.size)
        return LCL_FAIL_HINT(LCL_SHAPE, hint,
                             "preprocessor_config.json of %s makes pictures of %d px, its tower "
                             "takes %d",
                             dir, p.size, e->preprocess.size);
    if (c->background_given) memcpy(p.background, e->preprocess.background, sizeof p.background);
    e->preprocess = p;
    return LCL_OK;
}

lcl_status lcl_env_load_model(struct lcl_env *e, const char *path, const struct lcl_config *c)
{
    struct lcl_model_config m;
    struct origin origin;
    struct lcl_config from = *c;
    LCL_TRY(find_origin(path, &origin, &m));
    snprintf(from.init_from, sizeof from.init_from, "%s", origin.path);
    snprintf(from.init_parts, sizeof from.init_parts, "all");
    LCL_TRY(lcl_tokenizer_for_config(&from, &e->tokenizer));
    LCL_TRY(check_vocabulary(e, c, &m));
    m.n_classes = 0;
    /* a run's own adapters are those that it began with, tuned */
    bool brings = m.lora.rank == 0 && c->lora_adapter[0] != '\0';
    if (brings) LCL_TRY(adapters_to_begin_with(c, &m.lora));
    LCL_TRY(finish_model(e, c, &m, false));
    if (origin.hf) LCL_TRY(folder_preprocess(e, origin.path, c));
    lcl_params_initialise(&e->model.params, 0);
    LCL_TRY(load_parts(e, &origin, LCL_ALL_PARTS & ~(1u << LCL_PART_HEAD)));
    if (brings) LCL_TRY(lcl_peft_load(c->lora_adapter, &e->model.params));
    lcl_params_changed(&e->model.params);
    return LCL_OK;
}

lcl_status lcl_env_run_config(const char *path, const char *const *overrides, int n,
                              struct lcl_config *c)
{
    struct lcl_run_config *run = malloc(sizeof *run);
    char *here = lcl_strdupf("%s/config.yaml", path),
         *above = lcl_strdupf("%s/../config.yaml", path);
    lcl_status status = LCL_OK;
    if (!run || !here || !above) {
        status = LCL_FAIL(LCL_MEMORY, "no memory for a config");
        goto out;
    }
    if (path[0] && !lcl_fs_exists(path)) {
        status = LCL_FAIL_HINT(LCL_NOT_FOUND, "check the spelling of the path",
                               "there is no run or model %s", path);
        goto out;
    }
    const char *file = lcl_fs_exists(here) ? here : lcl_fs_exists(above) ? above : NULL;
    if (!path[0]) file = NULL;
    if (file) {
        LCL_TRY_GOTO(lcl_config_load(file, overrides, n, run));
        *c = run->stages[run->n_stages - 1];
        c->resize_given = c->background_given = true;
    } else {
        lcl_config_defaults(c);
        for (int i = 0; i < n; i++) {
            char key[128];
            const char *equals = strchr(overrides[i], '=');
            if (!equals || (size_t)(equals - overrides[i]) >= sizeof key) {
                status = LCL_FAIL(LCL_CONFIG, "--set %s: KEY=VALUE wanted", overrides[i]);
                goto out;
            }
            snprintf(key, sizeof key, "%.*s", (int)(equals - overrides[i]), overrides[i]);
            LCL_TRY_GOTO(lcl_config_set(c, key, equals + 1, "--set"));
            c->resize_given |= strcmp(key, "data.resize") == 0;
            c->background_given |= strcmp(key, "data.background") == 0;
        }
    }
out:
    free(run);
    free(here);
    free(above);
    return status;
}

void lcl_env_forget_missing(struct lcl_run_config *run)
{
    static const char own[] = "the shapes of the config are planned";
    for (int i = 0; i < run->n_stages; i++) {
        struct lcl_config *c = &run->stages[i];
        struct {
            const char *key, *instead;
            char *path;
        } files[] = {{"init_from", own, c->init_from},
                     {"init_vision_from", own, c->init_vision_from},
                     {"tokenizer", "a small one takes its place", c->tokenizer},
                     {"data.template", "data.layout takes its place", c->data_template},
                     {"data.images", "pictures are not counted", c->data_images}};
        for (int k = 0; k < 5; k++) {
            bool word = k == 4 &&
                        (strcmp(files[k].path, "pack") == 0 || strcmp(files[k].path, "none") == 0);
            bool there = k == 4 ? lcl_shards_exist(files[k].path) : lcl_fs_exists(files[k].path);
            if (!files[k].path[0] || word || there) continue;
            if (i == 0)
                lcl_log_warn("there is no %s (%s) yet: %s", files[k].path, files[k].key,
                             files[k].instead);
            snprintf(files[k].path, LCL_CONFIG_STR_BYTES, "%s", k == 4 ? "none" : "");
            if (k == 3 && c->data_layout == LCL_LAYOUT_OFFICIAL)
                c->data_layout = LCL_LAYOUT_VICUNA; /* official has no words of its own */
        }
    }
}

const struct lcl_neighbors *lcl_env_training_neighbors(const struct lcl_env *e)
{
    if (e->refreshed.n_classes) return &e->refreshed;
    return e->has_neighbors ? &e->neighbors : NULL;
}

void lcl_env_close(struct lcl_env *e)
{
    if (e->has_model) lcl_model_free(&e->model);
    lcl_tokenizer_free(e->tokenizer);
    if (e->has_neighbors) lcl_neighbors_free(&e->neighbors);
    lcl_neighbors_free(&e->refreshed);
    if (e->has_pack) lcl_pack_close(&e->pack);
    lcl_row_sources_close(&e->sources);
    free(e->class_label);
    lcl_device_close(&e->exec);
    *e = (struct lcl_env){0};
}

bool lcl_env_lanes_in_parallel(const struct lcl_env *e, int64_t lanes)
{
    const size_t budget = (size_t)512 << 20; /* bytes of lane gradients worth holding at once */
    if (e->one_at_a_time) return false;
    return lanes > 1 && e->model.params.n_elements * sizeof(float) <= budget / (size_t)lanes;
}
