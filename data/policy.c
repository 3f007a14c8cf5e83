#include "data/policy.h"

#include <stdlib.h>
#include <string.h>

static const char *const names[] = {
    [LCL_2WAY] = "2-way",
    [LCL_2WAY_RANDOM] = "2-way-random",
    [LCL_2WAY_WEIGHT] = "2-way-weight",
    [LCL_NWAY] = "n-way",
    [LCL_MIX] = "mix",
    [LCL_REF] = "ref",
    [LCL_REF_OR_WEIGHT] = "ref_or_weight",
    [LCL_JIGSAW] = "jigsaw",
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
    return strategy != LCL_REF && strategy != LCL_JIGSAW;
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
        to = write_names(e, official, e->queries[i].way, to);
        *to++ = '\0';
    }
    return LCL_OK;
}

lcl_status lcl_policy_say_most(const struct lcl_config *c, enum lcl_policy policy,
                               struct lcl_episode *e)
{
    char *to;
    if (policy == LCL_POLICY_LINK) return LCL_OK;
    e->policy = policy;
    LCL_TRY(reserve(e, NAME_BYTES, names_bytes(e), &to));
    for (int i = 0; i < e->n_shots; i++) {
        size_t n = (size_t)c->data_label_max_letters;
        const char *end = e->label[e->shots[i].way];
        e->said[i] = to;
        memset(to, 'q', n);
        to[n] = '_';
        to = stpcpy(to + n + 1, end) + 1;
    }
    for (int i = 0; i < e->n_queries; i++) {
        e->said[e->n_shots + i] = to;
        to = write_names(e, c->data_reading == LCL_READING_OFFICIAL, 0, to);
        *to++ = '\0';
    }
    return LCL_OK;
}
