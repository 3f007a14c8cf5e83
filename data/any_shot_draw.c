/* Drawing any-shot conversations: docs/any-shot.md has the laws. */
#include <stdlib.h>
#include <string.h>

#include "data/any_shot_internal.h"
#include "data/pack_rows.h"

enum { MAX_TRIES = 1000, FRESH_TRIES = 64 };

/* ---- texts ---- */

struct texts {
    int n;
    char *text[];
};

const char *any_keep(struct lcl_any_turns *t, char *text)
{
    struct texts *o = t->owner;
    int n = o ? o->n : 0;
    struct texts *grown = text ? realloc(o, sizeof *o + (size_t)(n + 1) * sizeof *o->text) : NULL;
    if (!grown) {
        free(text);
        return NULL;
    }
    grown->n = n + 1;
    grown->text[n] = text;
    t->owner = grown;
    return text;
}

void lcl_any_turns_free(struct lcl_any_turns *t)
{
    struct texts *o = t->owner;
    for (int i = 0; o && i < o->n; i++) free(o->text[i]);
    free(o);
    free(t->conversation.messages);
    free(t->conversation.learned);
    free(t->conversation.recurs);
    free(t->conversation.image);
    free(t->conversation.view);
    *t = (struct lcl_any_turns){0};
}

void lcl_any_turns_drop_last(struct lcl_any_turns *t)
{
    if (t->n < 2) return;
    t->n--;
    t->conversation.n_messages -= t->turn[t->n].n_messages;
    t->conversation.n_images -= t->turn[t->n].n_images;
}

void lcl_any_turns_shuffle_answers(struct lcl_any_turns *t, struct lcl_rng *rng)
{
    struct lcl_message *m = t->conversation.messages;
    for (uint32_t i = (uint32_t)t->n - 1; i > 1; i--) { /* single answers: not those of long rows */
        uint32_t j = lcl_rng_below(rng, i);
        if (t->turn[i - 1].way < 0) return;
        const char *text = m[2 * i - 1].text;
        m[2 * i - 1].text = m[2 * j + 1].text;
        m[2 * j + 1].text = text;
    }
}

static lcl_status no_memory(void) { return LCL_FAIL(LCL_MEMORY, "no memory for a conversation"); }

static lcl_status grow(struct lcl_conversation *c, int messages, int64_t images)
{
    size_t m = (size_t)(c->n_messages + messages) + 1, k = (size_t)(c->n_images + images) + 1;
    void *p;
    if (!(p = realloc(c->messages, m * sizeof *c->messages))) return no_memory();
    c->messages = p;
    if (!(p = realloc(c->learned, m * sizeof *c->learned))) return no_memory();
    c->learned = p;
    if (!(p = realloc(c->recurs, m * sizeof *c->recurs))) return no_memory();
    c->recurs = p;
    if (!(p = realloc(c->image, k * sizeof *c->image))) return no_memory();
    c->image = p;
    if (!(p = realloc(c->view, k * sizeof *c->view))) return no_memory();
    c->view = p;
    return LCL_OK;
}

static void say(struct lcl_conversation *c, enum lcl_role role, const char *text)
{
    c->learned[c->n_messages] = role == LCL_ROLE_ASSISTANT;
    c->recurs[c->n_messages] = false;
    c->messages[c->n_messages++] = (struct lcl_message){role, text};
}

/* ---- what a conversation, or a turn that shares nothing, is about ---- */

struct theme {
    enum lcl_turn_task task;
    int32_t attribute;
    const struct lcl_any_pool *pool;
    const struct lcl_any_text *text;
    const char *question;
    int n_ways;
    int32_t value[LCL_MAX_WAYS];
    char label[LCL_MAX_WAYS][LCL_LABEL_BYTES];
    bool made_up;
    enum lcl_answer_format format;
    char word[LCL_LABEL_BYTES];
    int32_t source;        /* of rows */
    int64_t begin, n_rows; /* in its order: those of one instruction, or all */
};

/* What is drawn where. */
struct draw {
    const struct lcl_any_shot *s;
    struct lcl_rng *rng;
    bool own_names; /* made-up labels and words would tell nothing */
    double repeat;  /* probability that a turn repeats a picture of its way */
    int64_t views;
};

static int draw_weighted(struct lcl_rng *rng, const double *weight, int n)
{
    double sum = 0, at;
    int last = 0;
    for (int i = 0; i < n; i++) sum += weight[i];
    at = lcl_rng_uniform(rng) * sum;
    for (int i = 0; i < n; i++) {
        if (!(weight[i] > 0)) continue;
        last = i;
        if (at < weight[i]) return i;
        at -= weight[i];
    }
    return last;
}

static bool label_taken(const struct theme *t, int n, const char *label)
{
    for (int w = 0; w < n; w++)
        if (strcmp(t->label[w], label) == 0) return true;
    return false;
}

/* The value of rank `rank` below the class of the first, or -1: of another split, too small. */
static int32_t neighbor_of(const struct draw *d, const struct theme *t, int32_t rank)
{
    const struct lcl_neighbors *n = d->s->neighbors;
    int32_t first = t->pool->value[t->value[0]].class_id;
    int32_t c = n->index[(int64_t)first * n->width + rank];
    return c < 0 || c >= d->s->pack->n_classes ? -1 : t->pool->of_class_id[c];
}

static int32_t draw_value(const struct draw *d, const struct theme *t, int way)
{
    int64_t near = d->s->config->data_fine_neighbors;
    if (t->task != LCL_TURN_FINE || way == 0)
        return (int32_t)lcl_rng_below(d->rng, (uint32_t)t->pool->n);
    if (near < t->n_ways - 1) near = t->n_ways - 1;
    if (near > d->s->neighbors->width) near = d->s->neighbors->width;
    return neighbor_of(d, t, (int32_t)lcl_rng_below(d->rng, (uint32_t)near));
}

/* Ways, each of another label; first: the value of the first, or -1: drawn too. */
static lcl_status draw_ways(const struct draw *d, int32_t first, struct theme *t)
{
    const struct lcl_config *c = d->s->config;
    t->n_ways = (int)(c->data_ways < t->pool->n ? c->data_ways : t->pool->n);
    for (int w = 0; w < t->n_ways; w++) {
        int tries = 0;
        for (; tries < MAX_TRIES; tries++) {
            int32_t v = w == 0 && first >= 0 ? first : draw_value(d, t, w);
            if (v < 0 || label_taken(t, w, t->pool->value[v].label)) continue;
            t->value[w] = v;
            strcpy(t->label[w], t->pool->value[v].label);
            break;
        }
        if (tries == MAX_TRIES)
            return LCL_FAIL_HINT(LCL_CONFIG, "lower data.ways, or raise data.fine_neighbors",
                                 "%s has too few others of other names for data.ways %lld",
                                 t->pool->value[t->value[0]].label, (long long)c->data_ways);
    }
    for (int w = 0; w < t->n_ways && t->made_up; w++) t->label[w][0] = '\0';
    for (int w = 0; w < t->n_ways && t->made_up; w++) {
        char label[LCL_LABEL_BYTES];
        do
            lcl_draw_label(d->rng, (int)c->data_label_min_letters, (int)c->data_label_max_letters,
                           label);
        while (label_taken(t, w, label));
        strcpy(t->label[w], label);
    }
    return LCL_OK;
}

static void draw_rows(const struct draw *d, struct theme *t)
{
    double weight[LCL_MOST_TURNS] = {0};
    const struct lcl_any_shot *s = d->s;
    for (int i = 0; i < s->n_sources; i++) weight[i] = s->source[i].rows.weight;
    t->source = draw_weighted(d->rng, weight, s->n_sources);
    const struct lcl_any_source *from = &s->source[t->source];
    int64_t n = from->rows.pack->n_rows, row = lcl_rng_below(d->rng, (uint32_t)n);
    bool all = s->config->data_coherence != LCL_COHERENT_CONCEPT;
    t->begin = all ? 0 : from->begin[from->group_of[row]];
    t->n_rows = all ? n : from->begin[from->group_of[row] + 1] - t->begin;
}

/* task -1, format -1: drawn. */
static lcl_status draw_theme(const struct draw *d, int task, int format, int32_t first,
                             struct theme *t)
{
    const struct lcl_any_shot *s = d->s;
    double weight[LCL_ANSWER_FORMATS];
    *t = (struct theme){.attribute = -1, .source = -1, .pool = &s->pool[0]};
    if (task < 0) task = draw_weighted(d->rng, s->weight, LCL_TURN_TASKS);
    t->task = (enum lcl_turn_task)task;
    for (int i = 0; i < LCL_ANSWER_FORMATS; i++) {
        bool word = i == LCL_ANSWER_PREFIX || i == LCL_ANSWER_SUFFIX;
        weight[i] = s->format[i] && !(word && d->own_names);
    }
    if (format < 0) format = draw_weighted(d->rng, weight, LCL_ANSWER_FORMATS);
    t->format = (enum lcl_answer_format)format;
    if (format == LCL_ANSWER_PREFIX || format == LCL_ANSWER_SUFFIX)
        lcl_draw_label(d->rng, (int)s->config->data_label_min_letters,
                       (int)s->config->data_label_max_letters, t->word);
    if (task == LCL_TURN_ROWS) {
        draw_rows(d, t);
        return LCL_OK;
    }
    t->text = task == LCL_TURN_FINE ? &s->tasks.fine : &s->tasks.classes;
    if (task == LCL_TURN_ATTRIBUTES) {
        t->attribute = (int32_t)lcl_rng_below(d->rng, (uint32_t)s->n_pools - 1);
        t->pool = &s->pool[1 + t->attribute];
        t->text = &s->tasks.attribute[t->attribute].text;
    }
    t->question = t->text->question[lcl_rng_below(d->rng, (uint32_t)t->text->n_questions)];
    t->made_up = lcl_rng_uniform(d->rng) < s->config->data_made_up_fraction && !d->own_names;
    return draw_ways(d, first, t);
}

/* ---- turns ---- */

static bool is_shown(const struct lcl_any_turns *out, int64_t image)
{
    for (int64_t i = 0; i < out->conversation.n_images; i++)
        if (out->conversation.image[i] == image) return true;
    return false;
}

/* A picture of the value that no turn shows yet, where there is one. */
static int64_t draw_image(struct lcl_rng *rng, const struct any_value *v,
                          const struct lcl_any_turns *out, int64_t besides)
{
    uint32_t n = (uint32_t)v->n_images, from = 0;
    for (int tries = 0; tries < FRESH_TRIES; tries++) {
        int64_t image = v->images[from = lcl_rng_below(rng, n)];
        if (!is_shown(out, image) && image != besides) return image;
    }
    for (uint32_t i = 0; i < n; i++) {
        int64_t image = v->images[(from + i) % n];
        if (!is_shown(out, image) && image != besides) return image;
    }
    return v->images[from] != besides ? v->images[from] : v->images[(from + 1) % n];
}

/* The formatted label in the answer's words. */
static const char *word_answer(struct lcl_any_turns *out, const struct theme *t, const char *label)
{
    char *formatted = lcl_answer_formatted(t->format, t->word, label);
    const char *mark = strstr(t->text->answer, "{answer}");
    char *text = formatted ? malloc(strlen(t->text->answer) + strlen(formatted) + 1) : NULL;
    if (text) {
        char *to = mempcpy(text, t->text->answer, (size_t)(mark - t->text->answer));
        stpcpy(stpcpy(to, formatted), mark + strlen("{answer}"));
    }
    free(formatted);
    return any_keep(out, text);
}

/* An earlier turn about a class or a value has this answer. */
static bool was_said(const struct lcl_any_turns *out, const char *answer)
{
    int message = 0;
    for (int i = 0; i < out->n; message += out->turn[i++].n_messages)
        if (out->turn[i].way >= 0 &&
            strcmp(out->conversation.messages[message + 1].text, answer) == 0)
            return true;
    return false;
}

/* Image -1: drawn, or repeated; besides: one that it may not be, or -1. */
static lcl_status add_turn(const struct draw *d, const struct theme *t, int way, int64_t image,
                           int64_t besides, struct lcl_any_turns *out)
{
    struct lcl_conversation *c = &out->conversation;
    struct lcl_turn *turn = &out->turn[out->n];
    int32_t view = 0, n = 0;
    LCL_TRY(grow(c, 2, 1));
    const char *answer = word_answer(out, t, t->label[way]);
    if (!answer) return no_memory();
    if (d->views > 1) view = (int32_t)lcl_rng_below(d->rng, (uint32_t)d->views);
    bool repeat = d->repeat > 0 && lcl_rng_uniform(d->rng) < d->repeat;
    for (int i = 0; i < out->n && repeat; i++) /* reservoir of one */
        if (out->turn[i].way == way && lcl_rng_below(d->rng, (uint32_t)++n) == 0) {
            image = c->image[i];
            view = c->view[i];
        }
    if (image < 0) image = draw_image(d->rng, &t->pool->value[t->value[way]], out, besides);
    *turn = (struct lcl_turn){.task = t->task,
                              .attribute = t->attribute,
                              .class_id = d->s->pack->image_class[image],
                              .way = way,
                              .image = image,
                              .source = -1,
                              .row = -1,
                              .n_messages = 2,
                              .n_images = 1};
    strcpy(turn->label, t->label[way]);
    c->image[c->n_images] = image;
    c->view[c->n_images++] = view;
    say(c, LCL_ROLE_USER, t->question);
    say(c, LCL_ROLE_ASSISTANT, answer);
    c->recurs[c->n_messages - 1] = was_said(out, answer);
    out->n++;
    return LCL_OK;
}

static bool row_shown(const struct lcl_any_turns *out, int32_t source, int64_t row)
{
    for (int i = 0; i < out->n; i++)
        if (out->turn[i].source == source && out->turn[i].row == row) return true;
    return false;
}

/* A row's messages but for a system one, its answers in the conversation's format. */
static lcl_status add_messages(const struct theme *t, const struct lcl_conversation *row,
                               struct lcl_any_turns *out, struct lcl_turn *turn)
{
    struct lcl_conversation *c = &out->conversation;
    LCL_TRY(grow(c, row->n_messages, row->n_images));
    for (int i = 0; i < row->n_messages; i++) {
        const struct lcl_message *m = &row->messages[i];
        bool answer = m->role == LCL_ROLE_ASSISTANT;
        if (m->role == LCL_ROLE_SYSTEM) continue;
        const char *text = any_keep(out, answer ? lcl_answer_formatted(t->format, t->word, m->text)
                                                : strdup(m->text));
        if (!text) return no_memory();
        say(c, m->role, text);
        turn->n_messages++;
    }
    for (int64_t i = 0; i < row->n_images; i++) {
        c->image[c->n_images] = row->image[i];
        c->view[c->n_images++] = 0;
        turn->n_images++;
    }
    return LCL_OK;
}

/* A row of the theme that no turn shows yet; where all are shown, none: the conversation is as long
 * as its instruction has rows. */
static lcl_status add_row(const struct draw *d, const struct theme *t, struct lcl_any_turns *out)
{
    const struct lcl_any_source *from = &d->s->source[t->source];
    struct lcl_turn *turn = &out->turn[out->n];
    int64_t at = 0, row = -1;
    struct lcl_conversation c;
    json_t *owner;
    for (int tries = 0; tries < FRESH_TRIES && row < 0; tries++) {
        at = lcl_rng_below(d->rng, (uint32_t)t->n_rows);
        row = from->order[t->begin + at];
        if (row_shown(out, t->source, row)) row = -1;
    }
    for (int64_t i = 0; i < t->n_rows && i <= LCL_MOST_TURNS && row < 0; i++) {
        row = from->order[t->begin + (at + i) % t->n_rows];
        if (row_shown(out, t->source, row)) row = -1;
    }
    if (row < 0) return LCL_OK;
    LCL_TRY(lcl_pack_conversation(from->rows.pack, row, from->rows.first_picture, &c, &owner));
    *turn = (struct lcl_turn){.task = LCL_TURN_ROWS,
                              .attribute = -1,
                              .class_id = -1,
                              .way = -1,
                              .image = -1,
                              .source = t->source,
                              .row = row};
    lcl_status status = c.n_messages > 1
                            ? add_messages(t, &c, out, turn)
                            : LCL_FAIL_HINT(LCL_CONFIG,
                                            "leave its pack out of "
                                            "data.tasks: rows",
                                            "%s is plain text without a question", c.name);
    lcl_pack_conversation_free(&c, owner);
    out->n++;
    return status;
}

static void conclude(const struct theme *t, struct lcl_any_turns *out)
{
    out->made_up = t->made_up;
    out->format = t->format;
    strcpy(out->word, t->word);
    out->conversation.name = "an any-shot conversation";
}

/* ---- training ---- */

/* The theme of the next turn: the conversation's, its classes anew, or all anew. */
static lcl_status next_theme(const struct draw *d, struct theme *t)
{
    switch ((enum lcl_coherence)d->s->config->data_coherence) {
    case LCL_COHERENT_CONCEPT:
        return LCL_OK;
    case LCL_COHERENT_TASK:
        return t->task == LCL_TURN_ROWS ? LCL_OK : draw_ways(d, -1, t);
    case LCL_COHERENT_NONE:
        return draw_theme(d, -1, -1, -1, t);
    }
    return LCL_OK;
}

static lcl_status draw_training(const struct draw *d, int64_t turns, struct lcl_any_turns *out)
{
    struct theme t;
    LCL_TRY(draw_theme(d, -1, -1, -1, &t));
    for (int64_t i = 0; i < turns; i++) {
        if (i > 0) LCL_TRY(next_theme(d, &t));
        LCL_TRY(t.task == LCL_TURN_ROWS
                    ? add_row(d, &t, out)
                    : add_turn(d, &t, (int)lcl_rng_below(d->rng, (uint32_t)t.n_ways), -1, -1, out));
    }
    conclude(&t, out);
    return LCL_OK;
}

lcl_status lcl_any_shot_draw(const struct lcl_any_shot *s, uint32_t epoch, uint64_t sample,
                             double progress, struct lcl_any_turns *out)
{
    const struct lcl_config *c = s->config;
    *out = (struct lcl_any_turns){.sample = sample};
    struct lcl_rng rng = lcl_rng_stream((uint64_t)c->seed, LCL_RNG_ZERO_SHOT, epoch, sample);
    bool zero_shot = lcl_rng_uniform(&rng) < c->data_zero_shot_fraction;
    rng = lcl_rng_stream((uint64_t)c->seed, LCL_RNG_ANY_SHOT, epoch, sample);
    struct draw d = {.s = s, .rng = &rng, .views = c->data_augment_views};
    d.own_names = zero_shot || c->data_coherence != LCL_COHERENT_CONCEPT;
    if (c->data_coherence == LCL_COHERENT_CONCEPT)
        d.repeat = c->data_repeat_query_start +
                   (c->data_repeat_query_end - c->data_repeat_query_start) * progress;
    int64_t turns = c->data_min_turns;
    turns += lcl_rng_below(&rng, (uint32_t)(c->data_turns - c->data_min_turns + 1));
    lcl_status status = draw_training(&d, zero_shot ? 1 : turns, out);
    if (status == LCL_OK) return LCL_OK;
    lcl_any_turns_free(out);
    return lcl_fail_context(status, "sample %llu", (unsigned long long)sample);
}

/* ---- evaluation ---- */

/* The asked picture first, so that no shot shows it; it is the last turn. */
static lcl_status draw_asked(const struct draw *d, const struct theme *t, int64_t shots,
                             struct lcl_any_turns *out)
{
    int32_t way_of[LCL_MOST_TURNS], order[LCL_MAX_WAYS];
    int way = (int)lcl_rng_below(d->rng, (uint32_t)t->n_ways);
    int64_t asked = draw_image(d->rng, &t->pool->value[t->value[way]], out, -1);
    for (int32_t w = 0; w < t->n_ways; w++) order[w] = w;
    lcl_rng_shuffle(d->rng, order, t->n_ways);
    for (int64_t i = 0; i < shots; i++) way_of[i] = order[i % t->n_ways];
    lcl_rng_shuffle(d->rng, way_of, shots);
    for (int64_t i = 0; i < shots; i++) LCL_TRY(add_turn(d, t, way_of[i], -1, asked, out));
    LCL_TRY(add_turn(d, t, way, asked, -1, out));
    out->n_candidates = t->n_ways;
    for (int w = 0; w < t->n_ways; w++)
        if (!(out->candidate[w] = word_answer(out, t, t->label[w]))) return no_memory();
    return LCL_OK;
}

lcl_status lcl_any_shot_draw_eval(const struct lcl_any_shot *s, int64_t shots, uint64_t sample,
                                  struct lcl_any_turns *out)
{
    const struct lcl_config *c = s->config;
    *out = (struct lcl_any_turns){.sample = sample};
    if (shots < 0 || shots >= LCL_MOST_TURNS)
        return LCL_FAIL(LCL_RANGE, "%lld shots; any-shot conversations have 0..%d",
                        (long long)shots, LCL_MOST_TURNS - 1);
    struct lcl_rng rng = lcl_rng_stream((uint64_t)c->eval_seed, LCL_RNG_EVAL, 1, sample);
    struct draw d = {.s = s, .rng = &rng, .views = 1};
    bool classes = c->eval_task == LCL_TURN_CLASSES || c->eval_task == LCL_TURN_FINE;
    int32_t first = classes ? (int32_t)(sample % (uint64_t)s->pool[0].n) : -1;
    struct theme t;
    lcl_status status = draw_theme(&d, c->eval_task, c->eval_format, first, &t);
    if (status == LCL_OK && t.task != LCL_TURN_ROWS) status = draw_asked(&d, &t, shots, out);
    for (int64_t i = 0; i <= shots && status == LCL_OK && t.task == LCL_TURN_ROWS; i++)
        status = add_row(&d, &t, out);
    if (status == LCL_OK) conclude(&t, out);
    if (status != LCL_OK) lcl_any_turns_free(out);
    return status;
}
