#include "tools/speak.h"

#include <stdlib.h>
#include <string.h>

#include "core/ops_check.h"

lcl_status speak_how(const struct speak_options *s, struct lcl_answer_how *how)
{
    *how = (struct lcl_answer_how){.sampling = {.temperature = (float)s->temperature,
                                                .top_p = (float)s->top_p,
                                                .top_k = s->top_k,
                                                .seed = (uint64_t)s->seed},
                                   .max_new = s->max_new,
                                   .stop = s->stop.v,
                                   .n_stop = s->stop.n};
    for (int i = 0; i < s->stop.n; i++)
        if (s->stop.v[i][0] == '\0') return LCL_FAIL(LCL_CONFIG, "--stop: the text is empty");
    if (s->temperature == 0 && (s->top_k != 0 || s->top_p != 1 || s->seed != 0))
        return LCL_FAIL_HINT(LCL_CONFIG, "give --temperature 1, or less for safer answers",
                             "--top-k, --top-p and --seed are for tokens that are drawn, and "
                             "without --temperature the likeliest one is taken");
    return lcl_check_sampling(how->sampling.temperature, how->sampling.top_k, how->sampling.top_p);
}

lcl_status speaker_open(struct speaker *s, int64_t n)
{
    s->n = n;
    s->now = 0;
    s->begun = false;
    s->ended = calloc((size_t)n + 1, sizeof *s->ended);
    s->held = calloc((size_t)n + 1, sizeof *s->held);
    return s->ended && s->held ? LCL_OK
                               : LCL_FAIL(LCL_MEMORY, "no memory for %lld answers", (long long)n);
}

void speaker_close(struct speaker *s)
{
    for (int64_t i = 0; s->held && i < s->n; i++) lcl_text_free(&s->held[i]);
    free(s->held);
    free(s->ended);
    s->held = NULL;
    s->ended = NULL;
}

void speaker_say(void *ctx, int64_t answer, const char *text, bool end)
{
    struct speaker *s = ctx;
    lcl_text_puts(&s->held[answer], text);
    s->ended[answer] |= end;
    while (s->now < s->n && (s->held[s->now].size > 0 || s->ended[s->now])) {
        struct lcl_text *t = &s->held[s->now];
        const char *words = t->data ? t->data : "";
        if (!s->begun) words += strspn(words, " \n");
        if (!s->begun && (*words || s->ended[s->now])) {
            if (s->begin) s->begin(s->ctx, s->now);
            s->begun = true;
        }
        fputs(words, stdout);
        lcl_text_clear(t);
        if (!s->ended[s->now]) break;
        if (s->end) s->end(s->ctx, s->now);
        s->begun = false;
        s->now++;
    }
    fflush(stdout);
}
