#include "data/policy.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "data/jigsaw.h"

static const char *const names[] = {
    [LCL_2WAY] = "2-way",
    [LCL_2WAY_RANDOM] = "2-way-random",
    [LCL_2WAY_WEIGHT] = "2-way-weight",
    [LCL_NWAY] = "n-way",
    [LCL_MIX] = "mix",
    [LCL_REF] = "ref",
    [LCL_REF_OR_WEIGHT] = "ref_or_weight",
    [LCL_JIGSAW] = "jigsaw",
    [LCL_ANY_SHOT] = "any-shot",
};

const char *lcl_strategy_name(enum lcl_strategy strategy) { return names[strategy]; }

int lcl_strategy_of(const char *word)
{
    for (int i = 0; i < (int)(sizeof names / sizeof *names); i++)
        if (strcmp(word, names[i]) == 0) return i;
    return -1;
}

static bool draws(int strategy, enum lcl_policy policy)
{
    if (policy == LCL_POLICY_JIGSAW) return strategy == LCL_JIGSAW;
    if (policy == LCL_POLICY_REF) return strategy == LCL_REF || strategy == LCL_REF_OR_WEIGHT;
    return strategy != LCL_REF && strategy != LCL_JIGSAW && strategy != LCL_ANY_SHOT;
}

bool lcl_policy_is_drawn(const struct lcl_config *c, enum lcl_policy policy)
{
    char copy[LCL_CONFIG_STR_BYTES], *save = NULL;
    if (draws(c->data_strategy, policy)) return true;
    memcpy(copy, c->data_sources, sizeof copy);
    for (char *entry = strtok_r(copy, ", ", &save); entry; entry = strtok_r(NULL, ", ", &save)) {
        entry[strcspn(entry, "=")] = '\0';
        int strategy = lcl_strategy_of(entry);
        if (strategy >= 0 && draws(strategy, policy)) return true;
    }
    return false;
}

enum lcl_policy lcl_policy_of_sample(const struct lcl_config *c, uint32_t epoch, uint64_t sample)
{
    if (c->data_strategy == LCL_JIGSAW) return LCL_POLICY_JIGSAW;
    if (c->data_strategy == LCL_REF) return LCL_POLICY_REF;
    if (c->data_strategy != LCL_REF_OR_WEIGHT) return LCL_POLICY_LINK;
    struct lcl_rng rng = lcl_rng_stream((uint64_t)c->seed, LCL_RNG_POLICY, epoch, sample);
    return lcl_rng_below(&rng, 2) ? LCL_POLICY_LINK : LCL_POLICY_REF;
}

/* ---- ref ---- */

/* "NAME_CLASS" */
enum { NAME_BYTES = 2 * LCL_LABEL_BYTES };

static void draw_name(const struct lcl_config *c, struct lcl_rng *rng, const char *of_class,
                      char *name)
{
    lcl_draw_label(rng, (int)c->data_label_min_letters, (int)c->data_label_max_letters, name);
    char *end = name + strlen(name);
    *end++ = '_';
    strcpy(end, of_class);
}

static bool is_new(char *const *said, int i)
{
    for (int k = 0; k < i; k++)
        if (strcmp(said[k], said[i]) == 0) return false;
    return true;
}

/* The names of the shots that belong in the answer, in order of appearance. paper: those of the
 * query's class, "a_x, b_x"; official: those of the other, as Python prints a list, and the end of
 * all names after it: "['a_y', 'b_y']._y". */
static char *write_names(const struct lcl_episode *e, bool official, int way, char *to)
{
    int n = 0;
    if (official) to = stpcpy(to, "[");
    for (int i = 0; i < e->n_shots; i++) {
        if ((e->shots[i].way == way) == official) continue;
        to = stpcpy(to, n++ ? ", " : "");
        to = stpcpy(stpcpy(stpcpy(to, official ? "'" : ""), e->said[i]), official ? "'" : "");
    }
    return official ? stpcpy(stpcpy(to, "]._"), e->label[0]) : to;
}

static void name_classes(const struct lcl_config *c, struct lcl_rng *rng, bool official,
                         struct lcl_episode *e)
{
    for (int w = 0; w < e->n_ways; w++) {
        e->made_up[w] = true;
        if (w && official) { /* one for all */
            strcpy(e->label[w], e->label[0]);
            continue;
        }
        do {
            lcl_draw_label(rng, (int)c->data_label_min_letters, (int)c->data_label_max_letters,
                           e->label[w]);
        } while (w && strcmp(e->label[w], e->label[0]) == 0);
    }
}

/* Room for answers of the shots and of the queries, of so many bytes each; *text: where they go. */
static lcl_status reserve(struct lcl_episode *e, size_t shot_bytes, size_t query_bytes, char **text)
{
    size_t n = (size_t)e->n_shots, q = (size_t)e->n_queries, size = (n + q) * sizeof *e->said;
    e->said = malloc(size + n * shot_bytes + q * query_bytes + 1);
    if (!e->said) return LCL_FAIL(LCL_MEMORY, "no memory for the answers of %zu pictures", n + q);
    *text = (char *)e->said + size;
    return LCL_OK;
}

static size_t names_bytes(const struct lcl_episode *e)
{
    return ((size_t)e->n_shots + 1) * (NAME_BYTES + 4);
}

lcl_status lcl_policy_name_shots(const struct lcl_config *c, struct lcl_rng *rng,
                                 struct lcl_episode *e)
{
    bool official = c->data_reading == LCL_READING_OFFICIAL;
    char *to;
    e->policy = LCL_POLICY_REF;
    LCL_TRY(reserve(e, NAME_BYTES, names_bytes(e), &to));
    name_classes(c, rng, official, e);
    for (int i = 0; i < e->n_shots; i++) {
        e->said[i] = to;
        do draw_name(c, rng, e->label[e->shots[i].way], to);
        while (!official && !is_new(e->said, i));
        to += strlen(to) + 1;
    }
    for (int i = 0; i < e->n_queries; i++) {
        e->said[e->n_shots + i] = to;
        to = write_names(e, official, e->queries[i].way, to) + 1;
    }
    return LCL_OK;
}

/* ---- jigsaw ---- */

/* "[3,2];", or "[3, 2], " */
enum { PLACE_BYTES = 8, PIECE_BYTES = 4 };

/* 4, 6, 9, 12 or 16 tiles, each equally likely, then which way they lie. */
static int draw_grid(struct lcl_rng *rng)
{
    static const int first[] = {0, 1, 3, 4, 6}, ways[] = {1, 2, 1, 2, 1};
    uint32_t k = lcl_rng_below(rng, 5);
    return first[k] + (int)lcl_rng_below(rng, (uint32_t)ways[k]);
}

/* paper: "[0,1];[1,1]"; official: "[[0, 1], [1, 1]]", as Python prints a list. cell: of each piece
 * in order of appearance, row * columns + column. */
static char *write_cells(bool official, int columns, const int32_t *cell, int n, char *to)
{
    if (official) to = stpcpy(to, "[");
    for (int i = 0; i < n; i++)
        to += sprintf(to, official ? "%s[%d, %d]" : "%s[%d,%d]",
                      i == 0     ? ""
                      : official ? ", "
                                 : ";",
                      (int)cell[i] % columns, (int)cell[i] / columns);
    return official ? stpcpy(to, "]") : to;
}

/* A query and what it is answered with. paper: the tiles put together in another order, and where
 * each piece stands there. official: the last piece once more, and the cells of the grid in an
 * order that nothing shows. */
static char *ask_places(struct lcl_rng *rng, bool official, int grid, const struct lcl_episode *e,
                        struct lcl_shot *query, char *to)
{
    int32_t cell[LCL_JIGSAW_MOST_TILES];
    int place[LCL_JIGSAW_MOST_TILES];
    *query = e->shots[e->n_shots - 1];
    if (official) {
        for (int i = 0; i < e->n_shots; i++) cell[i] = i;
        lcl_rng_shuffle(rng, cell, e->n_shots);
    } else {
        query->view = lcl_jigsaw_whole(grid, lcl_rng_below(rng, LCL_JIGSAW_SHUFFLES));
        lcl_jigsaw_places(query->view, place);
        for (int i = 0; i < e->n_shots; i++) cell[i] = place[lcl_jigsaw_tile_of(e->shots[i].view)];
    }
    return write_cells(official, lcl_jigsaw_grid(grid).columns, cell, e->n_shots, to);
}

/* Room for an episode of n tiles; *text: where its answers go. */
static lcl_status reserve_tiles(struct lcl_episode *e, int n, int n_queries, char **text)
{
    e->policy = LCL_POLICY_JIGSAW;
    e->n_ways = 1;
    e->n_shots = n;
    e->n_queries = n_queries;
    e->shots = malloc((size_t)n * sizeof *e->shots);
    e->queries = malloc((size_t)n_queries * sizeof *e->queries);
    if (!e->shots || !e->queries) return LCL_FAIL(LCL_MEMORY, "no memory for %d tiles", n);
    return reserve(e, PIECE_BYTES, (size_t)n * PLACE_BYTES + 2, text);
}

lcl_status lcl_policy_draw_tiles(const struct lcl_sampler *s, struct lcl_rng *rng,
                                 struct lcl_episode *e)
{
    const struct lcl_config *c = s->config;
    const struct lcl_class *class;
    int32_t order[LCL_JIGSAW_MOST_TILES];
    char *to;
    e->class_id[0] = s->classes[lcl_rng_below(rng, (uint32_t)s->n_classes)];
    class = &s->pack->classes[e->class_id[0]];
    if (class->n_images < 1)
        return LCL_FAIL(LCL_CONFIG, "sample %llu: %s has no pictures",
                        (unsigned long long)e->sample, class->id);
    int64_t image = class->images[lcl_rng_below(rng, (uint32_t) class->n_images)];
    int grid = draw_grid(rng), n = lcl_jigsaw_grid(grid).columns * lcl_jigsaw_grid(grid).rows;
    LCL_TRY(reserve_tiles(e, n, (int)c->data_queries, &to));
    lcl_label_of_name(class->name, e->label[0]);
    for (int i = 0; i < n; i++) order[i] = i;
    lcl_rng_shuffle(rng, order, n);
    for (int i = 0; i < n; i++) {
        e->shots[i] = (struct lcl_shot){.image = image, .view = lcl_jigsaw_tile(grid, order[i])};
        e->said[i] = to;
        to += sprintf(to, "%d", i + 1) + 1;
    }
    bool official = c->data_reading == LCL_READING_OFFICIAL;
    for (int q = 0; q < e->n_queries; q++) {
        e->said[n + q] = to;
        to = ask_places(rng, official, grid, e, &e->queries[q], to) + 1;
    }
    return LCL_OK;
}

/* ---- plans ---- */

static void longest_names(const struct lcl_config *c, struct lcl_episode *e, char *to)
{
    for (int i = 0; i < e->n_shots; i++) {
        size_t n = (size_t)c->data_label_max_letters;
        e->said[i] = to;
        memset(to, 'q', n);
        to[n] = '_';
        to = stpcpy(to + n + 1, e->label[e->shots[i].way]) + 1;
    }
    for (int i = 0; i < e->n_queries; i++) {
        e->said[e->n_shots + i] = to;
        to = write_names(e, c->data_reading == LCL_READING_OFFICIAL, 0, to) + 1;
    }
}

static void longest_places(const struct lcl_config *c, struct lcl_episode *e, char *to)
{
    static const int32_t cell[LCL_JIGSAW_MOST_TILES];
    for (int i = 0; i < e->n_shots; i++) {
        e->said[i] = to;
        to = stpcpy(to, "16") + 1;
    }
    for (int i = 0; i < e->n_queries; i++) {
        e->said[e->n_shots + i] = to;
        to = write_cells(c->data_reading == LCL_READING_OFFICIAL, 4, cell, e->n_shots, to) + 1;
    }
}

lcl_status lcl_policy_say_most(const struct lcl_config *c, enum lcl_policy policy,
                               struct lcl_episode *e)
{
    char *to;
    if (policy == LCL_POLICY_LINK) return LCL_OK;
    e->policy = policy;
    LCL_TRY(reserve(e, NAME_BYTES, names_bytes(e), &to));
    if (policy == LCL_POLICY_REF)
        longest_names(c, e, to);
    else
        longest_places(c, e, to);
    return LCL_OK;
}
