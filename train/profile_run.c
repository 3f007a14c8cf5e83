#include "train/profile_run.h"

#include <stdlib.h>
#include <string.h>

#include "core/fs.h"
#include "core/log.h"
#include "train/plan.h"

enum { ROWS_PRINTED = 24 };

lcl_status lcl_profile_run_check(const char *stage, int64_t steps, int64_t left)
{
    if (steps == 0 || left >= steps + LCL_PROFILE_WARM_UP) return LCL_OK;
    return LCL_FAIL_HINT(LCL_RANGE, "raise max_steps, or profile fewer steps",
                         "--profile %lld takes %lld steps, %d of them to warm up; stage %s has "
                         "%lld to go",
                         (long long)steps, (long long)steps + LCL_PROFILE_WARM_UP,
                         LCL_PROFILE_WARM_UP, stage, (long long)left);
}

lcl_status lcl_profile_run_refuse_old(const char *output_dir, bool force)
{
    char *dir = lcl_strdupf("%s/" LCL_PROFILE_DIR, output_dir);
    if (!dir) return LCL_FAIL(LCL_MEMORY, "no memory for a path");
    bool there = lcl_fs_exists(dir) && !force;
    free(dir);
    if (!there) return LCL_OK;
    return LCL_FAIL_HINT(LCL_EXISTS, "move it away, or give --force to write over it",
                         "%s/" LCL_PROFILE_DIR " holds a profile already", output_dir);
}

lcl_status lcl_profile_run_open(struct lcl_profile_run *r, struct lcl_trainer *t, int64_t steps,
                                const char *output_dir)
{
    *r = (struct lcl_profile_run){.trainer = t, .wanted = steps, .output_dir = output_dir};
    if (steps == 0) return LCL_OK;
    LCL_TRY(lcl_profile_open(&r->profile, &t->env->exec));
    t->profile = r->profile;
    return LCL_OK;
}

void lcl_profile_run_close(struct lcl_profile_run *r)
{
    if (!r->profile) return;
    r->trainer->profile = NULL;
    lcl_profile_close(r->profile);
    r->profile = NULL;
}

/* Line by line, so that the progress line stays whole. */
static lcl_status print_table(const struct lcl_profile_sum *s, const struct lcl_limits *limits)
{
    struct lcl_text text = {0};
    char *save = NULL;
    lcl_profile_table(s, limits, ROWS_PRINTED, &text);
    lcl_status status = lcl_text_check(&text);
    if (status == LCL_OK)
        for (char *line = strtok_r(text.data, "\n", &save); line;
             line = strtok_r(NULL, "\n", &save))
            lcl_log_info("%s", line);
    lcl_text_free(&text);
    return status;
}

static lcl_status write_and_print(struct lcl_profile_run *r, const struct lcl_profile_sum *s)
{
    struct lcl_exec *ex = &r->trainer->env->exec;
    struct lcl_limits limits;
    LCL_TRY(lcl_profile_limits(ex, r->trainer->env->model.bf16, &limits));
    char *dir = lcl_strdupf("%s/" LCL_PROFILE_DIR, r->output_dir);
    if (!dir) return LCL_FAIL(LCL_MEMORY, "no memory for a path");
    lcl_status status = lcl_profile_write(r->profile, s, &limits, dir);
    if (status == LCL_OK) status = print_table(s, &limits);
    if (status == LCL_OK)
        lcl_log_info("%s: trace.json (for ui.perfetto.dev), ops.txt, ops.json", dir);
    free(dir);
    return status;
}

lcl_status lcl_profile_run_before(struct lcl_profile_run *r, int64_t number)
{
    return r->profile ? lcl_profile_step_begin(r->profile, number) : LCL_OK;
}

lcl_status lcl_profile_run_after(struct lcl_profile_run *r, int64_t tokens)
{
    const struct lcl_trainer *t = r->trainer;
    if (!r->profile) return LCL_OK;
    double flops = lcl_plan_step_flops(t->env, t->config, t->lane, t->n_lanes);
    LCL_TRY(lcl_profile_step_end(r->profile, ++r->seen > LCL_PROFILE_WARM_UP, flops, tokens));
    return r->seen == r->wanted + LCL_PROFILE_WARM_UP ? lcl_profile_run_end(r) : LCL_OK;
}

lcl_status lcl_profile_run_end(struct lcl_profile_run *r)
{
    struct lcl_profile_sum sum;
    int64_t kept = r->seen - LCL_PROFILE_WARM_UP;
    if (!r->profile) return LCL_OK;
    if (kept < r->wanted)
        lcl_log_warn("the stage ended after %lld of the %lld steps to profile",
                     (long long)(kept > 0 ? kept : 0), (long long)r->wanted);
    lcl_status status = LCL_OK;
    if (kept > 0) status = lcl_profile_sum(r->profile, &sum);
    if (kept > 0 && status == LCL_OK) {
        status = write_and_print(r, &sum);
        lcl_profile_sum_free(&sum);
    }
    lcl_profile_run_close(r);
    return status;
}
