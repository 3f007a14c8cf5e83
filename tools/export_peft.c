#include "tools/export_peft.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "checkpoint/peft.h"
#include "core/fs.h"
#include "core/log.h"
#include "tools/out_folder.h"
#include "train/env.h"

static lcl_status check_target(const char *out, bool force)
{
    char **names;
    size_t n;
    if (!lcl_fs_exists(out)) return LCL_OK;
    LCL_TRY(lcl_fs_list(out, &names, &n));
    lcl_fs_list_free(names, n);
    if (n == 0 || (force && lcl_peft_is_folder(out))) return LCL_OK;
    return LCL_FAIL_HINT(LCL_EXISTS,
                         force ? "name another folder" : "name another folder, or give --force",
                         "%s holds files already%s", out, force ? ", and no adapter" : "");
}

/* What the folder holds is what the table did, rounded once; the table then holds it. */
static lcl_status compare_values(const char *dir, struct lcl_params *t, int first, lcl_dtype dtype)
{
    const size_t begin = t->rows[first].offset, n = t->n_elements - begin;
    float *kept = malloc(n * sizeof *kept), *half = malloc(n * sizeof *half);
    lcl_status status = LCL_OK;
    if (!kept || !half) {
        status = LCL_FAIL(LCL_MEMORY, "no memory to compare what was written");
        goto out;
    }
    LCL_TRY_GOTO(lcl_convert(half, dtype, t->value + begin, LCL_F32, n));
    LCL_TRY_GOTO(lcl_convert(kept, LCL_F32, half, dtype, n));
    memset(t->value + begin, 0, n * sizeof *kept);
    LCL_TRY_GOTO(lcl_peft_load(dir, t));
    for (int i = first; i < t->n_rows; i++) {
        const struct lcl_param *p = &t->rows[i];
        if (memcmp(kept + (p->offset - begin), lcl_param_value(t, p), p->count * sizeof *kept) == 0)
            continue;
        status =
            LCL_FAIL(LCL_CORRUPT, "%s: %s reads back as another than was written", dir, p->name);
        goto out;
    }
out:
    free(kept);
    free(half);
    return status;
}

static lcl_status write_and_compare(struct lcl_env *e, const char *stage, lcl_dtype dtype,
                                    const char *base)
{
    const struct lcl_peft_save_options o = {.dtype = dtype, .base = base};
    struct lcl_lora_config read;
    LCL_TRY(lcl_fs_remove_tree(stage));
    LCL_TRY(lcl_peft_save(stage, &e->model.params, &e->model.config, &o));
    LCL_TRY(lcl_peft_load_config(stage, &read));
    if (read.rank != e->model.config.lora.rank || read.alpha != e->model.config.lora.alpha)
        return LCL_FAIL(LCL_CORRUPT, "%s: rank or alpha read back as others than were written",
                        stage);
    LCL_TRY(compare_values(stage, &e->model.params, e->model.n_base, dtype));
    lcl_log_info("self-check: %d tensors read back as they are",
                 e->model.params.n_rows - e->model.n_base);
    return LCL_OK;
}

lcl_status export_peft(const char *from, const char *out, lcl_dtype dtype, bool force,
                       const struct lcl_config *c)
{
    struct lcl_env e = {0};
    char *stage = NULL;
    lcl_status status;
    LCL_TRY_GOTO(check_target(out, force));
    LCL_TRY_GOTO(out_folder_stage(out, &stage));
    LCL_TRY_GOTO(lcl_env_start(&e, c));
    LCL_TRY_GOTO(lcl_env_load_model(&e, from, c));
    LCL_TRY_GOTO(write_and_compare(&e, stage, dtype, c->init_from));
    LCL_TRY_GOTO(lcl_fs_remove_tree(out));
    LCL_TRY_GOTO(lcl_fs_commit(stage, out));
    printf("%s: PEFT adapter of rank %lld, %s\n", out, (long long)e.model.config.lora.rank,
           lcl_dtype_name(dtype));
out:
    if (status != LCL_OK && stage) out_folder_discard(stage, status);
    lcl_env_close(&e);
    free(stage);
    return status;
}
