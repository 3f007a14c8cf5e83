#include "train/saving.h"

#include "core/comm.h"
#include "core/log.h"

lcl_status lcl_saving_open(struct lcl_saving *s)
{
    *s =
        (struct lcl_saving){.begun_step = -1, .saved_step = -1, .good_step = -1, .proved_step = -1};
    return lcl_checkpoint_saver_open(&s->saver);
}

void lcl_saving_resume(struct lcl_saving *s, int64_t step) { s->begun_step = s->saved_step = step; }

/* A checkpoint is good once it is there and the step after it has been made. */
static void settle(struct lcl_saving *s)
{
    if (!lcl_checkpoint_is_saving(s->saver)) s->saved_step = s->begun_step;
    if (s->saved_step == s->proved_step) s->good_step = s->saved_step;
}

lcl_status lcl_saving_begin(struct lcl_saving *s, const struct lcl_env *e,
                            const struct lcl_config *c, const struct lcl_run_state *run,
                            bool is_best)
{
    const struct lcl_checkpoint_options o = {.keep = c->save_total_limit,
                                             .is_best = is_best,
                                             .with_optimizer = true,
                                             .async = c->save_async && !e->save_at_once,
                                             .share = {.comm = e->comm}};
    LCL_TRY(lcl_saving_finish(s));
    s->comm = e->comm;
    LCL_TRY(
        lcl_checkpoint_begin(s->saver, c->output_dir, run, &e->model.params, &e->model.config, &o));
    s->begun_step = run->step;
    settle(s);
    return LCL_OK;
}

lcl_status lcl_saving_poll(struct lcl_saving *s)
{
    LCL_TRY(lcl_checkpoint_poll(s->saver));
    settle(s);
    return LCL_OK;
}

void lcl_saving_proved(struct lcl_saving *s)
{
    s->proved_step = s->begun_step;
    settle(s);
}

lcl_status lcl_saving_finish(struct lcl_saving *s)
{
    if (!s->saver) return LCL_OK;
    LCL_TRY(lcl_checkpoint_finish(s->saver));
    settle(s);
    return LCL_OK;
}

lcl_status lcl_saving_finish_after(struct lcl_saving *s, lcl_status status)
{
    struct lcl_error error;
    if (s->comm || !lcl_checkpoint_is_saving(s->saver)) return status;
    lcl_error_save(&error, status);
    if (lcl_saving_finish(s) != LCL_OK) lcl_log_warn("%s", lcl_error_message());
    return lcl_error_restore(&error);
}

double lcl_saving_stalled_s(struct lcl_saving *s)
{
    const double all = lcl_checkpoint_stalled_s(s->saver), since = all - s->told_s;
    s->told_s = all;
    return since;
}

void lcl_saving_close(struct lcl_saving *s)
{
    lcl_checkpoint_saver_close(s->saver);
    s->saver = NULL;
}
