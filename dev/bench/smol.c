#include "dev/bench/smol.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "checkpoint/hf.h"
#include "core/log.h"
#include "core/threads.h"
#include "cpu/cpu.h"
#include "train/hf_folder.h"

double bench_cpu_s(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static lcl_status read_prompt(struct smol *s, const char *dir, int64_t n)
{
    char path[1024];
    snprintf(path, sizeof path, "%s/prompt.i32", dir);
    s->ids = malloc((size_t)n * sizeof *s->ids);
    s->position = malloc((size_t)n * sizeof *s->position);
    FILE *f = fopen(path, "rb");
    bool good = f && s->ids && s->position && fread(s->ids, 4, (size_t)n, f) == (size_t)n;
    if (f) fclose(f);
    if (!good) return LCL_FAIL(LCL_IO, "%s does not hold %lld ids", path, (long long)n);
    for (int64_t i = 0; i < n; i++) s->position[i] = (int32_t)i;
    s->run = (struct lcl_attn_run){.q_end = (int32_t)n, .own_end = (int32_t)n};
    s->last_row = (int32_t)n - 1;
    s->batch = (struct lcl_batch){.T = n,
                                  .id_T = s->ids,
                                  .position_T = s->position,
                                  .n_runs = 1,
                                  .runs = &s->run,
                                  .S = 1,
                                  .row_S = &s->last_row};
    return LCL_OK;
}

lcl_status smol_open(struct smol *s, struct lcl_exec *exec, const char *dir, bool bf16, int64_t n,
                     int64_t max_new)
{
    struct lcl_model_config config;
    char folder[1024];
    snprintf(folder, sizeof folder, "%s/hf", dir);
    s->max_new = max_new;
    LCL_TRY(lcl_threads_start(0));
    LCL_TRY(lcl_cpu_ops(&exec->ops));
    LCL_TRY(lcl_hf_folder_config(folder, &config));
    config.eos_token = -1; /* answers run to their full length */
    LCL_TRY(lcl_model_create(&s->model, &config));
    s->model.bf16 = bf16;
    LCL_TRY(lcl_model_reserve(&s->model, bf16, false, false));
    LCL_TRY(lcl_hf_load(folder, &s->model.params, 1u << LCL_PART_TEXT, NULL));
    lcl_params_changed(&s->model.params);
    lcl_generator_init(&s->generator, exec, &s->model);
    return read_prompt(s, dir, n);
}

/* The hidden state that the first token is picked from, times some rows of the head. */
static void keep_logits(struct smol *s)
{
    const struct lcl_model *m = &s->model;
    const int64_t C = m->config.text.C, V = m->config.text.V;
    const void *hidden = s->generator.pass.text.hidden, *head = lcl_model_weight(m, m->rows.head_w);
    for (int i = 0; i < SMOL_LOGITS; i++) {
        double sum = 0;
        for (int64_t c = 0, at = V / SMOL_LOGITS * i * C; c < C; c++)
            sum += m->bf16
                       ? (double)lcl_bf16_to_f32(((const lcl_bf16 *)hidden)[c]) *
                             (double)lcl_bf16_to_f32(((const lcl_bf16 *)head)[at + c])
                       : (double)((const float *)hidden)[c] * (double)((const float *)head)[at + c];
        s->logits[i] = (float)sum;
    }
}

static lcl_status first_token(void *ctx, int64_t run, const struct lcl_ids *so_far, bool *end)
{
    struct smol *s = ctx;
    (void)run;
    (void)end;
    if (so_far->n > 1) return LCL_OK;
    keep_logits(s);
    if (s->max_new == 1) return LCL_OK;
    s->begin_s = lcl_time_s();
    s->begin_cpu_s = bench_cpu_s();
    return LCL_OK;
}

lcl_status smol_run(struct smol *s)
{
    bool is_branch = true;
    lcl_ids_free(&s->answer);
    s->answer = (struct lcl_ids){0};
    s->begin_s = lcl_time_s();
    s->begin_cpu_s = bench_cpu_s();
    return lcl_generate(
        &s->generator, &s->batch, NULL, &is_branch,
        &(struct lcl_generate_how){.max_new = s->max_new, .token = first_token, .token_ctx = s},
        &s->answer);
}

void smol_close(struct smol *s)
{
    lcl_ids_free(&s->answer);
    lcl_generator_free(&s->generator);
    lcl_model_free(&s->model);
    free(s->ids);
    free(s->position);
}
