#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "checkpoint/ckpt.h"
#include "checkpoint/gguf_model.h"
#include "checkpoint/hf.h"
#include "core/fs.h"
#include "core/log.h"
#include "data/chat.h"
#include "tools/export.h"
#include "train/gguf_tokenizer.h"

/* By --dtype. */
static const struct {
    enum lcl_gguf_type type;
    const char *name;
} types[] = {{LCL_GGUF_TYPE_F32, "f32"},
             {LCL_GGUF_TYPE_BF16, "bf16"},
             {LCL_GGUF_TYPE_F16, "f16"},
             {LCL_GGUF_TYPE_Q8_0, "q8_0"}};

const char *export_dtype_name(const struct export_request *r) { return types[r->dtype].name; }

lcl_status export_load_text(const char *dir, const struct lcl_config *c, struct lcl_env *e)
{
    struct lcl_config from = *c;
    struct lcl_model_config m;
    snprintf(from.init_from, sizeof from.init_from, "%s", dir);
    snprintf(from.init_parts, sizeof from.init_parts, "text");
    LCL_TRY(lcl_hf_load_config(dir, &m));
    LCL_TRY(lcl_tokenizer_for_config(&from, &e->tokenizer));
    LCL_TRY(lcl_model_create(&e->model, &m));
    e->has_model = true;
    LCL_TRY(lcl_model_reserve(&e->model, false, false, false));
    lcl_params_initialise(&e->model.params, 0);
    return lcl_hf_load(dir, &e->model.params, 1u << LCL_PART_TEXT, NULL);
}

/* The template of the tokenizer, else of chat_template.jinja, else chat.template's; where that
 * names one, that. A language model that brought none stays without. */
static lcl_status choose_template(const struct export_request *r, const struct lcl_env *e,
                                  const struct lcl_config *c, struct lcl_tokenizer_tables *t)
{
    enum { MOST = 1 << 20 };
    bool chosen = c->chat_template != LCL_CHAT_AUTO;
    if (!chosen && (t->chat_template || r->is_text)) return LCL_OK;
    const char *from = lcl_checkpoint_is_folder(r->from) ? c->init_from : r->from;
    const char *image = lcl_tokenizer_token(e->tokenizer, lcl_tokenizer_image(e->tokenizer));
    char *path = lcl_strdupf("%s/chat_template.jinja", from), *text = NULL;
    size_t size;
    lcl_status status = path ? LCL_OK : LCL_FAIL(LCL_MEMORY, "no memory for a path");
    if (path && !chosen && from[0] && lcl_fs_exists(path))
        status = lcl_fs_read(path, MOST, &text, &size);
    else if (path)
        status = lcl_chat_jinja(lcl_chat_for(c, e->tokenizer), image ? image : "<image>", &text);
    free(path);
    if (status != LCL_OK) return status;
    free(t->chat_template);
    t->chat_template = text;
    return LCL_OK;
}

static lcl_status write_text(const struct export_request *r, const struct lcl_env *e,
                             const struct lcl_config *c, const char *dir,
                             const struct lcl_gguf_save_options *o)
{
    struct lcl_tokenizer_tables t;
    struct lcl_gguf_meta meta = {0};
    const struct lcl_model_config *m = &e->model.config;
    LCL_TRY(lcl_tokenizer_to_tables(e->tokenizer, (size_t)m->text.V, &t));
    lcl_status status = choose_template(r, e, c, &t);
    if (status == LCL_OK) lcl_gguf_tokenizer_put(&meta, &t);
    lcl_tokenizer_tables_free(&t);
    LCL_TRY(status);
    char *path = lcl_strdupf("%s/model.gguf", dir);
    status = path ? lcl_gguf_save_text(path, &e->model.params, m, &meta, o)
                  : LCL_FAIL(LCL_MEMORY, "no memory for a path");
    free(path);
    lcl_gguf_meta_free(&meta);
    return status;
}

lcl_status export_gguf_write(const struct export_request *r, const struct lcl_env *e,
                             const struct lcl_config *c, const char *dir)
{
    struct lcl_gguf_save_options o = {.type = types[r->dtype].type};
    memcpy(o.image_mean, e->preprocess.mean, sizeof o.image_mean);
    memcpy(o.image_std, e->preprocess.std, sizeof o.image_std);
    LCL_TRY(lcl_fs_mkdirs(dir));
    LCL_TRY(write_text(r, e, c, dir, &o));
    if (r->text_only) return LCL_OK;
    char *path = lcl_strdupf("%s/mmproj.gguf", dir);
    lcl_status status = path ? lcl_gguf_save_vision(path, &e->model.params, &e->model.config, &o)
                             : LCL_FAIL(LCL_MEMORY, "no memory for a path");
    free(path);
    return status;
}

lcl_status export_gguf_round(struct lcl_params *t, const struct export_request *r)
{
    enum { CHUNK = 4096 };
    unsigned char bytes[CHUNK * 4];
    for (int i = 0; i < t->n_rows; i++) {
        const struct lcl_param *p = &t->rows[i];
        enum lcl_gguf_type type = lcl_gguf_type_for(types[r->dtype].type, p->n_dims, p->shape);
        float *v = lcl_param_value(t, p);
        for (size_t at = 0, n; p->n_dims > 1 && at < p->count; at += n) {
            n = p->count - at < CHUNK ? p->count - at : CHUNK;
            const struct lcl_gguf_type_info *info = lcl_gguf_type_info((uint32_t)type);
            struct lcl_gguf_tensor line = {.name = (char *)(uintptr_t)p->name,
                                           .type = info,
                                           .n_dims = 1,
                                           .shape = {(int64_t)n},
                                           .count = n,
                                           .data = bytes};
            lcl_gguf_encode(type, v + at, n, bytes);
            LCL_TRY(lcl_gguf_read_rows(&line, 0, 1, v + at));
        }
    }
    lcl_params_changed(t);
    return LCL_OK;
}

/* ---- reading back ---- */

static bool same_ids(const struct lcl_tokenizer *a, const struct lcl_tokenizer *b, const char *text,
                     size_t size)
{
    struct lcl_ids x = {0}, y = {0};
    bool same = lcl_tokenizer_encode_bytes(a, text, size, true, &x) == LCL_OK &&
                lcl_tokenizer_encode_bytes(b, text, size, true, &y) == LCL_OK && x.n == y.n &&
                (x.n == 0 || memcmp(x.v, y.v, (size_t)x.n * sizeof *x.v) == 0);
    lcl_ids_free(&x);
    lcl_ids_free(&y);
    return same;
}

/* The words of the vocabulary, twice in a row so that they meet a neighbour, through both. */
static void compare_tokenizers(const struct lcl_tokenizer *own, const struct lcl_tokenizer *other)
{
    int32_t differ = 0, n = lcl_tokenizer_vocab_size(own), first = -1;
    for (int32_t id = 0; id < n; id++) {
        const int32_t twice[2] = {id, id};
        char *text;
        size_t size;
        if (lcl_tokenizer_decode_bytes(own, twice, 2, false, &text, &size) != LCL_OK) continue;
        if (!same_ids(own, other, text, size) && differ++ == 0) first = id;
        free(text);
    }
    if (differ > 0)
        lcl_log_warn("the file's tokenizer splits %d of the vocabulary's %d words otherwise (first "
                     "\"%s\"): GGUF orders merges by the pieces that they make",
                     differ, n, lcl_tokenizer_token(own, first));
}

/* Shapes and values from the open files; vision NULL: the decoder alone. */
static lcl_status fill_model(const struct lcl_gguf *text, const struct lcl_gguf *vision,
                             const struct lcl_model_config *own, struct lcl_env *e)
{
    struct lcl_model_config m;
    LCL_TRY(lcl_gguf_read_text(text, &m));
    if (vision) {
        LCL_TRY(lcl_gguf_read_vision(vision, &m));
        m.vision.act = own->vision.act;
        m.projector_act = own->projector_act;
    }
    m.image_token = own->image_token; /* the probe's words leave it out */
    LCL_TRY(lcl_model_create(&e->model, &m));
    e->has_model = true;
    LCL_TRY(lcl_model_reserve(&e->model, false, false, false));
    lcl_params_initialise(&e->model.params, 0);
    LCL_TRY(lcl_gguf_load(text, &m.text, &e->model.params, 1u << LCL_PART_TEXT));
    if (!vision) return LCL_OK;
    return lcl_gguf_load(vision, &m.text, &e->model.params,
                         1u << LCL_PART_VISION | 1u << LCL_PART_PROJECTOR);
}

static lcl_status open_in(const char *dir, const char *name, struct lcl_gguf *g)
{
    char *path = lcl_strdupf("%s/%s", dir, name);
    lcl_status status =
        path ? lcl_gguf_open(path, g) : LCL_FAIL(LCL_MEMORY, "no memory for a path");
    free(path);
    return status;
}

lcl_status export_gguf_read_back(const struct export_request *r, const struct lcl_config *c,
                                 const char *dir, const struct lcl_model_config *own,
                                 struct lcl_env *e)
{
    struct lcl_gguf text = {0}, vision = {0};
    struct lcl_tokenizer *original = NULL;
    struct lcl_config from = *c;
    lcl_status status;
    snprintf(from.init_from, sizeof from.init_from, "%s", r->from);
    snprintf(from.init_parts, sizeof from.init_parts, "all");
    LCL_TRY_GOTO(open_in(dir, "model.gguf", &text));
    if (!r->text_only) LCL_TRY_GOTO(open_in(dir, "mmproj.gguf", &vision));
    LCL_TRY_GOTO(fill_model(&text, r->text_only ? NULL : &vision, own, e));
    LCL_TRY_GOTO(lcl_gguf_tokenizer_load(&text, 0, NULL, &e->tokenizer));
    LCL_TRY_GOTO(lcl_tokenizer_for_config(&from, &original));
    compare_tokenizers(original, e->tokenizer);
out:
    lcl_tokenizer_free(original);
    lcl_gguf_close(&text);
    lcl_gguf_close(&vision);
    return status;
}
