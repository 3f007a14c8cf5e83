#include "tools/export_peft.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "checkpoint/peft.h"
#include "core/fs.h"
#include "core/log.h"
#include "tools/export_card.h"
#include "tools/out_folder.h"

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

/* The table's adapters, rounded once to what the folder holds. */
static lcl_status round_values(struct lcl_params *t, int first, lcl_dtype dtype)
{
    const size_t begin = t->rows[first].offset, n = t->n_elements - begin;
    float *half = malloc(n * sizeof *half);
    if (!half) return LCL_FAIL(LCL_MEMORY, "no memory to compare what was written");
    lcl_status status = lcl_convert(half, dtype, t->value + begin, LCL_F32, n);
    if (status == LCL_OK) status = lcl_convert(t->value + begin, LCL_F32, half, dtype, n);
    free(half);
    lcl_params_changed(t);
    return status;
}

/* The folder holds what the table did; the table then has it from there. */
static lcl_status compare_values(const char *dir, struct lcl_params *t, int first)
{
    const size_t begin = t->rows[first].offset, n = t->n_elements - begin;
    float *kept = malloc(n * sizeof *kept);
    lcl_status status;
    if (!kept) return LCL_FAIL(LCL_MEMORY, "no memory to compare what was written");
    memcpy(kept, t->value + begin, n * sizeof *kept);
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
    lcl_params_changed(t);
    return status;
}

static lcl_status write_folder(const struct lcl_env *e, const char *stage, lcl_dtype dtype,
                               const char *base)
{
    const struct lcl_peft_save_options o = {.dtype = dtype, .base = base};
    struct lcl_lora_config read;
    LCL_TRY(lcl_fs_remove_tree(stage));
    LCL_TRY(lcl_peft_save(stage, &e->model.params, &e->model.config, &o));
    LCL_TRY(lcl_peft_load_config(stage, &read));
    if (read.rank == e->model.config.lora.rank && read.alpha == e->model.config.lora.alpha)
        return LCL_OK;
    return LCL_FAIL(LCL_CORRUPT, "%s: rank or alpha read back as others than were written", stage);
}

/* Logits before, with the adapters rounded, and with those of the folder. */
static lcl_status write_and_compare(const struct export_request *r, struct lcl_env *e,
                                    const char *stage, lcl_dtype dtype, const struct lcl_config *c)
{
    struct probe probes[3] = {0};
    struct lcl_params *t = &e->model.params;
    lcl_status status;
    for (int i = 0; i < 3; i++) LCL_TRY_GOTO(probe_make(&probes[i], &e->model.config, true));
    LCL_TRY_GOTO(probe_run(&probes[0], e));
    LCL_TRY_GOTO(write_folder(e, stage, dtype, c->init_from));
    LCL_TRY_GOTO(export_card_write(r, e, c, stage));
    LCL_TRY_GOTO(round_values(t, e->model.n_base, dtype));
    LCL_TRY_GOTO(probe_run(&probes[1], e));
    LCL_TRY_GOTO(compare_values(stage, t, e->model.n_base));
    LCL_TRY_GOTO(probe_run(&probes[2], e));
    LCL_TRY_GOTO(probe_check(r->out, dtype == LCL_F16, &probes[0], &probes[1], &probes[2]));
    lcl_log_info("self-check: %d tensors read back as they are", t->n_rows - e->model.n_base);
out:
    for (int i = 0; i < 3; i++) probe_free(&probes[i]);
    return status;
}

lcl_status export_peft(const struct export_request *r, lcl_dtype dtype, const struct lcl_config *c)
{
    struct lcl_env e = {0};
    char *stage = NULL;
    lcl_status status;
    LCL_TRY_GOTO(check_target(r->out, r->force));
    LCL_TRY_GOTO(out_folder_stage(r->out, &stage));
    LCL_TRY_GOTO(lcl_env_start(&e, c));
    LCL_TRY_GOTO(lcl_env_load_model(&e, r->from, c));
    LCL_TRY_GOTO(write_and_compare(r, &e, stage, dtype, c));
    LCL_TRY_GOTO(lcl_fs_remove_tree(r->out));
    LCL_TRY_GOTO(lcl_fs_commit(stage, r->out));
    printf("%s: PEFT adapter of rank %lld, %s\n", r->out, (long long)e.model.config.lora.rank,
           lcl_dtype_name(dtype));
out:
    if (status != LCL_OK && stage) out_folder_discard(stage, status);
    lcl_env_close(&e);
    free(stage);
    return status;
}
