#include "tests/support/clip_folder.h"

#include "checkpoint/hf.h"
#include "core/fs.h"

struct lcl_clip_config clip_shapes(int32_t eos, enum lcl_gelu_kind act)
{
    return (struct lcl_clip_config){.image = {CLIP_SIDE, CLIP_PATCH, 24, 40, 2, 3, act, 1e-5},
                                    .text = {1, 1, 16, 28, 3, 2, act, 1e-5},
                                    .V = 31,
                                    .positions = 7,
                                    .P = CLIP_P,
                                    .eos = eos};
}

void make_clip(struct lcl_clip *m, const struct lcl_clip_config *c)
{
    test_exec();
    ASSERT_OK(lcl_clip_create(m, c));
    ASSERT_OK(lcl_model_reserve(&m->model, false, false, false));
    for (int i = 0; i < m->model.params.n_rows; i++) {
        const struct lcl_param *p = &m->model.params.rows[i];
        fill_normal(lcl_param_value(&m->model.params, p), p->count, 0.3f, (uint64_t)i);
    }
    lcl_params_changed(&m->model.params);
}

/* transformers' name of a row. */
static const char *on_disk(const struct lcl_param *p, char *name)
{
    bool tower = strncmp(p->name, "vision_tower.", 13) == 0;
    snprintf(name, LCL_PARAM_NAME_BYTES + 16, "%s%s", tower ? "vision_model." : "",
             p->name + (tower ? 13 : 0));
    return name;
}

void save_clip_folder(const struct lcl_clip *m, const char *dir, const char *extra)
{
    static const char config[] =
        "{\"model_type\": \"clip\", \"projection_dim\": 9, \"vision_config\": {\"hidden_size\": "
        "24, "
        "\"intermediate_size\": 40, \"num_hidden_layers\": 2, \"num_attention_heads\": 3, "
        "\"image_size\": 12, \"patch_size\": 4}, \"text_config\": {\"hidden_size\": 16, "
        "\"intermediate_size\": 28, \"num_hidden_layers\": 3, \"num_attention_heads\": 2, "
        "\"vocab_size\": 31, \"max_position_embeddings\": 7, \"eos_token_id\": 2}}";
    static char names[128][LCL_PARAM_NAME_BYTES + 16];
    struct lcl_st_item item[128];
    size_t n = 0;
    const struct lcl_params *t = &m->model.params;
    for (int i = 0; i < t->n_rows; i++) {
        const struct lcl_param *p = &t->rows[i];
        if (p->part != LCL_PART_VISION) continue;
        item[n] = (struct lcl_st_item){.name = on_disk(p, names[n]),
                                       .dtype = LCL_F32,
                                       .source = LCL_F32,
                                       .n_dims = p->n_dims,
                                       .data = lcl_param_value(t, p)};
        memcpy(item[n++].shape, p->shape, sizeof p->shape);
    }
    static const float scale = 4.6f;
    item[n++] = (struct lcl_st_item){
        .name = extra, .dtype = LCL_F32, .source = LCL_F32, .n_dims = 0, .data = &scale};
    ASSERT_OK(lcl_fs_mkdirs(dir));
    ASSERT_OK(lcl_fs_write_text(dir, "config.json", config));
    ASSERT_OK(lcl_st_write_folder(dir, item, n, 0));
}
