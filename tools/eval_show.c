#include "tools/eval_show.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/fs.h"
#include "train/episode_view.h"
#include "train/match.h"
#include "train/report.h"

lcl_status show_open(struct show *s, const char *path, bool append)
{
    *s = (struct show){.path = path};
    if (!path) return LCL_OK;
    s->f = fopen(path, append ? "a" : "w");
    return s->f ? LCL_OK : LCL_FAIL(LCL_IO, "cannot write %s: %m", path);
}

lcl_status show_close(struct show *s)
{
    FILE *f = s->f;
    s->f = NULL;
    if (f && fclose(f) != 0) return LCL_FAIL(LCL_IO, "cannot write %s: %m", s->path);
    return LCL_OK;
}

bool show_wants(const struct show *s, int64_t units, int64_t unit, int64_t q)
{
    if (units > LCL_REPORT_EPISODES) units = LCL_REPORT_EPISODES;
    return s->f && unit < units && q < (LCL_REPORT_EPISODES + units - 1) / units;
}

static lcl_status take(const struct show *s, const char *dir, const char *path,
                       struct lcl_view_picture *p)
{
    const struct lcl_decode_options options = {
        .composite_alpha = true, .background = {128, 128, 128}, .apply_exif = true};
    struct lcl_image image = {0};
    char *whole = dir ? lcl_strdupf("%s/%s", dir, path) : lcl_strdupf("%s", path);
    lcl_status status = whole ? lcl_gallery_read(s->gallery, whole, &options, &image)
                              : LCL_FAIL(LCL_MEMORY, "no memory for a path");
    if (status == LCL_OK) status = lcl_view_picture_take(&image, p);
    lcl_image_free(&image);
    free(whole);
    return status;
}

static const char *class_name(const struct ask_set *set, int way)
{
    return way < set->n_labels && set->class_names[0] ? set->class_names[way]
                                                      : set->support.classes[way].label;
}

/* A support picture: of the class with that number in the gallery. */
static lcl_status take_shot(const struct show *s, const struct ask_set *set,
                            const struct lcl_episode *e, int shot, struct lcl_view_picture *p)
{
    const int way = e->shots[shot].way;
    const struct lcl_support_class *c = NULL;
    *p = (struct lcl_view_picture){.image = -1};
    for (int w = 0; w < set->support.n; w++)
        if (strcmp(set->support.classes[w].label, e->label[way]) == 0) {
            c = &set->support.classes[w];
            snprintf(p->class_name, sizeof p->class_name, "%s", class_name(set, w));
        }
    snprintf(p->label, sizeof p->label, "%s", e->label[lcl_episode_shown(e, shot)]);
    for (int64_t i = 0; c && i < c->n; i++)
        if (c->image[i] == -1 - e->shots[shot].image) return take(s, NULL, c->paths[i], p);
    return LCL_FAIL(LCL_INTERNAL, "picture %lld of a question is not of its support",
                    (long long)(-1 - e->shots[shot].image));
}

/* The likeliest label beside the right one; the first where likelihoods were not asked. */
static int other_of(const struct ask_set *set, int target, const double *logprob)
{
    int other = target == 0;
    for (int w = 0; w < set->n_labels && logprob; w++)
        if (w != target && logprob[w] > logprob[other]) other = w;
    return other;
}

static lcl_status fill(const struct show *show, const struct ask_set *set,
                       const struct lcl_episode *e, int64_t q, const char *text,
                       const double *logprob, struct lcl_episode_view *v)
{
    const struct ask_query *query = &set->query[q];
    const int target = query->target, other = other_of(set, target, logprob);
    snprintf(v->row, sizeof v->row, "%s", set->row);
    v->support = calloc((size_t)e->n_shots + 1, sizeof *v->support);
    v->answer = text ? strdup(text) : NULL;
    if (!v->support || (text && !v->answer))
        return LCL_FAIL(LCL_MEMORY, "no memory for an episode");
    for (int s = 0; s < e->n_shots; s++, v->n_support++)
        LCL_TRY(take_shot(show, set, e, s, &v->support[s]));
    v->query.image = -1;
    snprintf(v->query.class_name, sizeof v->query.class_name, "%s", query->class_name);
    LCL_TRY(take(show, set->images, query->image, &v->query));
    snprintf(v->expected, sizeof v->expected, "%s", e->label[target]);
    if (set->n_labels > 1) snprintf(v->other, sizeof v->other, "%s", e->label[other]);
    const bool both = logprob && set->n_labels > 1;
    v->logprob[0] = both ? logprob[target] : (double)NAN;
    v->logprob[1] = both ? logprob[other] : (double)NAN;
    v->correct = text ? lcl_first_quoted(text, v->said) && strcmp(v->said, v->expected) == 0
                      : both && logprob[target] > logprob[other];
    return LCL_OK;
}

lcl_status show_question(struct show *s, const struct ask_set *set, const struct lcl_episode *e,
                         int64_t sample, int64_t shots, int64_t q, const char *text,
                         const double *logprob)
{
    struct lcl_episode_view v = {.sample = sample, .shots = shots};
    if (e->n_shots > LCL_VIEW_MAX_SUPPORT) return LCL_OK;
    lcl_status status = fill(s, set, e, q, text, logprob, &v);
    if (status == LCL_OK) status = lcl_episode_view_write(s->f, &v);
    lcl_episode_view_free(&v);
    return status;
}
