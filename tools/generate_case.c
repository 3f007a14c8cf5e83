#include "tools/generate_case.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>

#include "core/threads.h"
#include "cpu/cpu.h"
#include "train/forward.h"
#include "train/generate.h"
#include "train/hf_folder.h"

enum { USUAL_NEW = 12 };

static lcl_status print_ids(const struct lcl_ids *ids, int64_t B, bool json)
{
    json_t *all = json_array();
    for (int64_t s = 0; s < B; s++) {
        json_t *list = json_array();
        for (int64_t i = 0; i < ids[s].n; i++)
            json_array_append_new(list, json_integer(ids[s].v[i]));
        json_array_append_new(all, list);
    }
    json_t *root = json ? json_pack("{s:O}", "new_ids", all) : NULL;
    for (size_t s = 0; !json && s < json_array_size(all); s++) {
        json_dumpf(json_array_get(all, s), stdout, 0);
        printf("\n");
    }
    if (json && json_dumpf(root, stdout, 0) == 0) printf("\n");
    json_decref(root);
    json_decref(all);
    return ferror(stdout) ? LCL_FAIL(LCL_IO, "the ids cannot be printed") : LCL_OK;
}

static lcl_status continue_case(struct lcl_exec *exec, const struct lcl_model *m,
                                const struct lcl_case *c, int64_t max_new, struct lcl_ids *out)
{
    struct lcl_generator g;
    struct lcl_generate_how how = {.max_new = max_new};
    struct lcl_images images = {.pixels = c->pixels};
    bool *is_branch = malloc((size_t)c->B + 1);
    if (!is_branch) return LCL_FAIL(LCL_MEMORY, "no memory for %lld sequences", (long long)c->B);
    for (int64_t s = 0; s < c->B; s++) is_branch[s] = true;
    lcl_generator_init(&g, exec, m);
    lcl_status status = lcl_generate(&g, &c->batch, &images, is_branch, &how, out);
    /* What ended early ended with the end token. */
    for (int64_t s = 0; status == LCL_OK && s < c->B; s++)
        if (out[s].n < max_new) status = lcl_ids_push(&out[s], m->config.eos_token);
    lcl_generator_free(&g);
    free(is_branch);
    return status;
}

lcl_status generate_case(const char *model_dir, const char *case_path, int64_t max_new, bool json)
{
    struct lcl_model_config config;
    struct lcl_model model = {0};
    struct lcl_safetensors st = {0};
    struct lcl_case c = {0};
    struct lcl_exec exec = {0};
    struct lcl_ids *out = NULL;
    lcl_status status;
    LCL_TRY(lcl_threads_start(0));
    LCL_TRY(lcl_cpu_ops(&exec.ops));
    LCL_TRY(lcl_hf_folder_config(model_dir, &config));
    LCL_TRY(lcl_model_create(&model, &config));
    LCL_TRY_GOTO(lcl_model_reserve(&model, false, false, false));
    LCL_TRY_GOTO(lcl_hf_load(model_dir, &model.params, LCL_ALL_PARTS, NULL));
    LCL_TRY_GOTO(lcl_st_open(case_path, &st));
    LCL_TRY_GOTO(lcl_case_read(&st, case_path, "generate.", &config, &c));
    const struct lcl_st_tensor *wanted = lcl_st_find(&st, "generate.new_ids");
    for (int64_t s = 0; s < c.B || c.B == 0; s++) {
        if (c.B > 0 && c.batch.runs[s].q_end > c.batch.runs[s].q_begin) continue;
        status = LCL_FAIL(LCL_SHAPE, "%s: sequence %lld of generate.input_ids is empty", case_path,
                          (long long)s);
        goto out;
    }
    if (max_new == 0) max_new = wanted ? (int64_t)wanted->count / c.B : USUAL_NEW;
    out = calloc((size_t)c.B + 1, sizeof *out);
    if (!out) {
        status = LCL_FAIL(LCL_MEMORY, "no memory for %lld sequences", (long long)c.B);
        goto out;
    }
    LCL_TRY_GOTO(continue_case(&exec, &model, &c, max_new, out));
    status = print_ids(out, c.B, json);
out:
    for (int64_t s = 0; out && s < c.B; s++) lcl_ids_free(&out[s]);
    free(out);
    lcl_case_free(&c);
    lcl_st_close(&st);
    lcl_model_free(&model);
    return status;
}
