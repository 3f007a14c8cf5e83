/* Episodes for people and checkers: labels, the text of an episode, its JSON line. */
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "data/batch_internal.h"
#include "data/jigsaw.h"
#include "data/policy.h"

void lcl_episode_free(struct lcl_episode *e)
{
    free(e->shots);
    free(e->queries);
    free(e->said);
    e->shots = e->queries = NULL;
    e->said = NULL;
    e->n_shots = e->n_queries = 0;
}

int32_t lcl_episode_shown(const struct lcl_episode *e, int i)
{
    return (e->shots[i].way + e->shots[i].wrong) % e->n_ways;
}

int64_t lcl_step_samples(const struct lcl_config *c)
{
    return c->lanes * c->gradient_accumulation_steps * c->per_device_train_batch_size;
}

uint64_t lcl_sample_number(const struct lcl_config *c, int64_t step, int64_t index, int64_t i)
{
    return (uint64_t)(step * lcl_step_samples(c) + index * c->per_device_train_batch_size + i);
}

int64_t lcl_lane_rank(const struct lcl_config *c, int64_t index, int64_t world)
{
    return index % c->lanes * world / c->lanes;
}

/* A letter of two bytes: Latin-1, Latin Extended-A, Greek and Cyrillic. */
static unsigned lower_letter(unsigned c)
{
    if ((c >= 0xc0 && c <= 0xde && c != 0xd7) || (c >= 0x391 && c <= 0x3ab && c != 0x3a2) ||
        (c >= 0x410 && c <= 0x42f))
        return c + 0x20;
    if (c >= 0x400 && c <= 0x40f) return c + 0x50;
    if ((c >= 0x139 && c <= 0x148) || (c >= 0x179 && c <= 0x17e)) return c + (c & 1);
    if (c >= 0x100 && c <= 0x177 && c != 0x130 && c != 0x138) return c | 1;
    if (c == 0x178) return 0xff;
    if (c == 0x386) return 0x3ac;
    if (c >= 0x388 && c <= 0x38a) return c + 0x25;
    if (c == 0x38c) return 0x3cc;
    return c == 0x38e || c == 0x38f ? c + 0x3f : c;
}

void lcl_lower_case(char *text)
{
    for (unsigned char *u = (unsigned char *)text; *u; u++) {
        if (*u >= 'A' && *u <= 'Z') *u = (unsigned char)(*u + 32);
        if (*u < 0xc2 || *u > 0xdf || (u[1] & 0xc0) != 0x80) continue;
        unsigned c = lower_letter((u[0] & 0x1fu) << 6 | (u[1] & 0x3fu));
        u[0] = (unsigned char)(0xc0 | c >> 6);
        *++u = (unsigned char)(0x80 | (c & 0x3f));
    }
}

void lcl_label_of_name(const char *name, char *out)
{
    size_t n = strnlen(name, LCL_LABEL_BYTES - 1);
    memcpy(out, name, n);
    out[n] = 0;
    lcl_lower_case(out);
    for (char *at = out; (at = strchr(at, '"'));) *at = '\''; /* a label's quotes end it */
}

void lcl_draw_label(struct lcl_rng *rng, int min_letters, int max_letters, char *out)
{
    int n = min_letters + (int)lcl_rng_below(rng, (uint32_t)(max_letters - min_letters + 1));
    for (int i = 0; i < n; i++) out[i] = (char)('a' + lcl_rng_below(rng, 26));
    out[n] = 0;
}

/* ---- text ---- */

struct text {
    char *s;
    size_t n, cap;
};

static lcl_status text_add(struct text *t, const char *s)
{
    size_t n = strlen(s);
    if (t->n + n + 1 > t->cap) {
        size_t cap = 2 * (t->n + n) + 256;
        char *v = realloc(t->s, cap);
        if (!v) return LCL_FAIL(LCL_MEMORY, "no memory for the text of an episode");
        t->s = v;
        t->cap = cap;
    }
    memcpy(t->s + t->n, s, n + 1);
    t->n += n;
    return LCL_OK;
}

static lcl_status text_turn(struct text *t, const struct batch_part *turn,
                            const struct batch_part *head, const char *label, bool marked)
{
    LCL_TRY(text_add(t, turn->text));
    if (marked) LCL_TRY(text_add(t, "[["));
    LCL_TRY(text_add(t, head[0].text));
    if (head[1].text) {
        LCL_TRY(text_add(t, label));
        LCL_TRY(text_add(t, head[1].text));
    }
    return marked ? text_add(t, "]]") : LCL_OK;
}

static lcl_status write_text(const struct lcl_batch_builder *b, const struct lcl_episode *e,
                             bool marked, enum lcl_supervise supervise, char **text)
{
    struct text t = {0};
    const struct batch_part *part = b->part[e->policy];
    bool seen[LCL_MAX_WAYS] = {false};
    lcl_status status;
    *text = NULL;
    LCL_TRY(batch_check_words(b, e->policy));
    LCL_TRY_GOTO(text_add(&t, part[PART_SYSTEM].text));
    for (int i = 0; i < e->n_shots; i++) {
        int32_t way = e->said ? 0 : lcl_episode_shown(e, i);
        LCL_TRY_GOTO(text_turn(&t, &part[i ? PART_SUPPORT : PART_SUPPORT_FIRST],
                               &part[PART_SHOT_HEAD], e->said ? e->said[i] : e->label[way],
                               marked && batch_learns_shot(supervise, !e->said && seen[way])));
        seen[way] = true;
    }
    for (int q = 0; q < e->n_queries; q++)
        LCL_TRY_GOTO(
            text_turn(&t, batch_query(b, e, e->n_shots == 0 && q == 0), &part[PART_ANSWER_HEAD],
                      e->said ? e->said[e->n_shots + q] : e->label[e->queries[q].way], marked));
    *text = t.s;
    t.s = NULL;
out:
    free(t.s);
    return status;
}

lcl_status lcl_episode_text(const struct lcl_batch_builder *b, const struct lcl_episode *e,
                            char **text)
{
    return write_text(b, e, false, LCL_SUPERVISE_LAST, text);
}

lcl_status lcl_episode_learned_text(const struct lcl_batch_builder *b, const struct lcl_episode *e,
                                    enum lcl_supervise supervise, char **text)
{
    return write_text(b, e, true, supervise, text);
}

bool lcl_episode_coincides(const struct lcl_episode *e)
{
    bool tiles = e->policy == LCL_POLICY_JIGSAW; /* all of one picture */
    for (int q = 0; q < e->n_queries; q++)
        for (int i = 0; i < e->n_shots; i++)
            if (e->queries[q].image == e->shots[i].image &&
                (!tiles || e->queries[q].view == e->shots[i].view))
                return true;
    return false;
}

/* ---- JSON ---- */

static json_t *shot_list(const struct lcl_episode *e, const char *what)
{
    json_t *list = json_array();
    for (int i = 0; i < e->n_shots + e->n_queries; i++) {
        const struct lcl_shot *s = i < e->n_shots ? &e->shots[i] : &e->queries[i - e->n_shots];
        json_int_t v = *what == 'i' ? s->image : *what == 'w' ? s->way : s->view;
        json_array_append_new(list, json_integer(v));
    }
    return list;
}

static lcl_status add_pictures(json_t *row, const struct lcl_sampler *s,
                               const struct lcl_episode *e)
{
    json_t *paths = json_array(), *shown = json_array();
    json_object_set_new(row, "images", shot_list(e, "images"));
    json_object_set_new(row, "paths", paths);
    json_object_set_new(row, "ways", shot_list(e, "ways"));
    json_object_set_new(row, "shown", shown);
    json_object_set_new(row, "views", shot_list(e, "views"));
    for (int i = 0; i < e->n_shots + e->n_queries; i++) {
        const char *name;
        LCL_TRY(lcl_pack_image_name(
            s->pack, i < e->n_shots ? e->shots[i].image : e->queries[i - e->n_shots].image, &name));
        json_t *text = json_string(name);
        json_array_append_new(paths, text ? text : json_null());
    }
    for (int i = 0; i < e->n_shots; i++)
        json_array_append_new(shown, json_integer(lcl_episode_shown(e, i)));
    return LCL_OK;
}

static json_t *class_list(const struct lcl_sampler *s, const struct lcl_episode *e, bool names)
{
    json_t *list = json_array();
    for (int w = 0; w < e->n_ways; w++) {
        const struct lcl_class *c = &s->pack->classes[e->class_id[w]];
        json_t *text = json_string(names ? c->name : c->id);
        json_array_append_new(list, text ? text : json_null()); /* null: a name that is not UTF-8 */
    }
    return list;
}

static json_t *label_list(const struct lcl_episode *e, bool made_up)
{
    json_t *list = json_array();
    for (int w = 0; w < e->n_ways; w++)
        json_array_append_new(list,
                              made_up ? json_boolean(e->made_up[w]) : json_string(e->label[w]));
    return list;
}

/* [column, row] of a cell. */
static json_t *cell_of(int cell, int columns)
{
    return json_pack("[i, i]", cell % columns, cell / columns);
}

/* Columns and rows; where each piece is in the picture; and for each query where each stands there,
 * null where it shows a piece alone. */
static void add_tiles(json_t *row, const struct lcl_episode *e)
{
    struct lcl_jigsaw_grid g = lcl_jigsaw_grid(lcl_jigsaw_grid_of(e->shots[0].view));
    json_t *tiles = json_array(), *places = json_array();
    for (int i = 0; i < e->n_shots; i++)
        json_array_append_new(tiles, cell_of(lcl_jigsaw_tile_of(e->shots[i].view), g.columns));
    for (int q = 0; q < e->n_queries; q++) {
        bool whole = lcl_jigsaw_tile_of(e->queries[q].view) < 0;
        json_t *list = whole ? json_array() : json_null();
        int place[LCL_JIGSAW_MOST_TILES];
        lcl_jigsaw_places(e->queries[q].view, place);
        for (int i = 0; whole && i < e->n_shots; i++) {
            int tile = lcl_jigsaw_tile_of(e->shots[i].view);
            json_array_append_new(list, cell_of(place[tile], g.columns));
        }
        json_array_append_new(places, list);
    }
    json_object_set_new(row, "grid", json_pack("[i, i]", g.columns, g.rows));
    json_object_set_new(row, "tiles", tiles);
    json_object_set_new(row, "places", places);
}

/* The strategy by which it was drawn, and what stands at {label} in each answer. */
static void add_said(json_t *row, const struct lcl_config *c, const struct lcl_episode *e)
{
    static const enum lcl_strategy of[] = {
        [LCL_POLICY_REF] = LCL_REF, [LCL_POLICY_JIGSAW] = LCL_JIGSAW};
    bool labels = c->data_strategy <= LCL_NWAY; /* mix and ref_or_weight: those of 2-way */
    enum lcl_strategy link = labels ? (enum lcl_strategy)c->data_strategy : LCL_2WAY;
    enum lcl_strategy strategy = e->policy == LCL_POLICY_LINK ? link : of[e->policy];
    json_object_set_new(row, "strategy", json_string(lcl_strategy_name(strategy)));
    if (!e->said) return;
    json_t *said = json_array();
    for (int i = 0; i < e->n_shots + e->n_queries; i++)
        json_array_append_new(said, json_string(e->said[i]));
    json_object_set_new(row, "said", said);
    if (e->policy == LCL_POLICY_JIGSAW) add_tiles(row, e);
}

/* One query: true or false; several: a list. */
static json_t *sides(const struct lcl_episode *e)
{
    if (e->n_queries == 1) return json_boolean(e->queries[0].way == 0);
    json_t *list = json_array();
    for (int q = 0; q < e->n_queries; q++)
        json_array_append_new(list, json_boolean(e->queries[q].way == 0));
    return list;
}

static void add_tokens(json_t *row, const struct lcl_batch *m)
{
    json_t *ids = json_array(), *flags = json_array();
    int64_t s = 0;
    for (int64_t t = 0; t < m->T; t++) {
        bool target = s < m->S && m->row_S[s] + 1 == t;
        s += target;
        json_array_append_new(ids, json_integer(m->id_T[t]));
        json_array_append_new(flags, json_integer(target));
    }
    json_object_set_new(row, "input_ids", ids);
    json_object_set_new(row, "supervised", flags);
}

lcl_status lcl_episode_json(struct lcl_batch_builder *b, const struct lcl_sampler *s,
                            const struct lcl_episode *e, const struct lcl_episode_place *place,
                            char **line)
{
    char *text = NULL;
    json_t *row = NULL;
    lcl_status status;
    *line = NULL;
    lcl_batch_builder_reset(b);
    if (place->with_tokens)
        LCL_TRY_GOTO(lcl_batch_append_episode(b, e, LCL_ENCODE_TRAIN,
                                              (enum lcl_supervise)s->config->data_supervise, NULL,
                                              s->config->model_max_length));
    LCL_TRY_GOTO(lcl_episode_text(b, e, &text));
    row = json_object();
    json_object_set_new(row, "sample", json_integer((json_int_t)e->sample));
    json_object_set_new(row, "step", json_integer(place->step));
    json_object_set_new(row, "lane", json_integer(place->lane));
    LCL_TRY_GOTO(add_pictures(row, s, e));
    json_object_set_new(row, "classes", class_list(s, e, false));
    json_object_set_new(row, "names", class_list(s, e, true));
    json_object_set_new(row, "labels", label_list(e, false));
    json_object_set_new(row, "made_up", label_list(e, true));
    json_object_set_new(row, "shots", json_integer(e->n_shots));
    json_object_set_new(row, "queries", json_integer(e->n_queries));
    json_object_set_new(row, "neighbor_rank",
                        e->neighbor_rank ? json_integer(e->neighbor_rank) : json_null());
    json_object_set_new(row, "query_is_positive", sides(e));
    add_said(row, s->config, e);
    json_object_set_new(row, "query_in_support", json_boolean(lcl_episode_coincides(e)));
    json_object_set_new(row, "text", json_string(text));
    if (place->with_tokens) add_tokens(row, lcl_batch_builder_get(b));
    *line = json_dumps(row, JSON_COMPACT);
    if (!*line) status = LCL_FAIL(LCL_MEMORY, "no memory for the JSON of an episode");
out:
    lcl_batch_builder_reset(b);
    json_decref(row);
    free(text);
    return status;
}
