#include "tests/support/hf_folder.h"

struct lcl_model_config small_config(void)
{
    return (struct lcl_model_config){.vision = {16, 8, 12, 20, 2, 3, LCL_GELU_QUICK, 1e-5},
                                     .text = {.C = 16,
                                              .F = 24,
                                              .n_layers = 2,
                                              .H = 4,
                                              .G = 2,
                                              .D = 4,
                                              .V = 40,
                                              .eps = 1e-6,
                                              .rope_theta = 500000,
                                              .rope_factor = 1,
                                              .rope_low_freq_factor = 1,
                                              .rope_high_freq_factor = 1,
                                              .max_positions = 128},
                                     .projector = LCL_PROJECTOR_MLP2,
                                     .projector_bias = true,
                                     .select_layer = -2,
                                     .image_token = 38,
                                     .bos_token = 1,
                                     .eos_token = 2,
                                     .pad_token = 39};
}

void make_model(struct lcl_model *m, const struct lcl_model_config *c, uint64_t seed)
{
    ASSERT_OK(lcl_model_create(m, c));
    ASSERT_OK(lcl_model_reserve(m, false, false, false));
    fill_normal(m->params.value, m->params.n_elements, 1, seed);
}

const char *fresh_dir(const char *name)
{
    static char path[2][300];
    static int turn;
    turn = !turn;
    snprintf(path[turn], sizeof path[turn], "%s/%s", temp_dir(), name);
    ASSERT_OK(lcl_fs_mkdirs(path[turn]));
    return path[turn];
}

void rename_tensors(const char *from_dir, const char *to_dir, const char *const (*rules)[2])
{
    struct lcl_safetensors st;
    ASSERT_OK(lcl_st_open(from_dir, &st));
    struct lcl_st_item *items = calloc(st.n_tensors, sizeof *items);
    for (size_t i = 0; i < st.n_tensors; i++) {
        const struct lcl_st_tensor *t = &st.tensors[i];
        const char *const(*r)[2] = rules;
        while ((*r)[0] && strncmp(t->name, (*r)[0], strlen((*r)[0])) != 0) r++;
        const char *head = (*r)[0] ? (*r)[1] : "",
                   *tail = t->name + ((*r)[0] ? strlen((*r)[0]) : 0);
        items[i] = (struct lcl_st_item){.name = lcl_strdupf("%s%s", head, tail),
                                        .dtype = t->dtype,
                                        .source = t->dtype,
                                        .n_dims = t->n_dims,
                                        .data = t->data};
        memcpy(items[i].shape, t->shape, sizeof t->shape);
    }
    char path[500];
    snprintf(path, sizeof path, "%s/model.safetensors", to_dir);
    ASSERT_OK(lcl_st_write(path, items, st.n_tensors, NULL));
    for (size_t i = 0; i < st.n_tensors; i++) free((char *)(uintptr_t)items[i].name);
    free(items);
    lcl_st_close(&st);
}
