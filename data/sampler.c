/* Drawing episodes: docs/strategies.md has the laws. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "data/policy.h"
#include "data/sampler_check.h"

enum {
    MAX_TRIES = 10000,
    SMALL_CLASS = 1024,
    FEW_PICKS = 256,
    OFFICIAL_NEIGHBORS = 36,
    FEW_WAYS = 8 /* they are told apart by one digit */
};

static int64_t n_shot_counts(const struct lcl_sampler *s)
{
    return (s->max_shots - s->min_shots) / s->shot_step + 1;
}

/* Running sums of p_j = e^j / sum for j shots in all; official: weights e^(k / 2) for k shots of a
 * class. Scaled by the last so that no term overflows. */
static lcl_status weigh_shots(struct lcl_sampler *s)
{
    size_t n = (size_t)n_shot_counts(s);
    double slope = s->config->data_reading == LCL_READING_OFFICIAL ? 0.5 : 1;
    s->shot_cumulative = malloc(n * sizeof *s->shot_cumulative);
    if (!s->shot_cumulative) return LCL_FAIL(LCL_MEMORY, "no memory for the law of shots");
    double sum = 0;
    for (size_t i = 0; i < n; i++) {
        sum += exp(slope * ((double)i - (double)(n - 1)));
        s->shot_cumulative[i] = sum;
    }
    return LCL_OK;
}

static lcl_status init(struct lcl_sampler *s, const struct lcl_config *config,
                       const struct lcl_pack *pack, const struct lcl_neighbors *neighbors,
                       enum lcl_split split, bool cap_shots)
{
    *s = (struct lcl_sampler){.config = config,
                              .pack = pack,
                              .neighbors = neighbors,
                              .split = split,
                              .cap_shots = cap_shots};
    size_t n = (size_t)pack->n_classes + 1;
    s->classes = malloc(n * sizeof *s->classes);
    s->name_group = calloc(n, sizeof *s->name_group);
    s->row_length = calloc(n, sizeof *s->row_length);
    lcl_status status = LCL_OK;
    if (!s->classes || !s->name_group || !s->row_length) {
        status =
            LCL_FAIL(LCL_MEMORY, "no memory for a sampler of %d classes", (int)pack->n_classes);
        goto out;
    }
    for (int32_t i = 0; i < pack->n_classes; i++)
        if (pack->classes[i].split == split) s->classes[s->n_classes++] = i;
    LCL_TRY_GOTO(lcl_sampler_check(s));
    status = weigh_shots(s);
out:
    if (status != LCL_OK) lcl_sampler_free(s);
    return status;
}

lcl_status lcl_sampler_init(struct lcl_sampler *s, const struct lcl_config *config,
                            const struct lcl_pack *pack, const struct lcl_neighbors *neighbors,
                            enum lcl_split split)
{
    return init(s, config, pack, neighbors, split, false);
}

lcl_status lcl_sampler_init_capped(struct lcl_sampler *s, const struct lcl_config *config,
                                   const struct lcl_pack *pack,
                                   const struct lcl_neighbors *neighbors, enum lcl_split split)
{
    return init(s, config, pack, neighbors, split, true);
}

void lcl_sampler_free(struct lcl_sampler *s)
{
    free(s->classes);
    free(s->name_group);
    free(s->row_length);
    free(s->shot_cumulative);
    *s = (struct lcl_sampler){0};
}

/* ---- classes ---- */

/* Rank 1..J with p_j = (J + 1 - j) / sum m: the weight of rank j is J + 1 - j, so a number below
 * the sum J(J+1)/2 falls, counted from the far end, in the m-th triangle of weight m = J + 1 - j.
 */
static int32_t draw_rank(struct lcl_rng *rng, int32_t J)
{
    int64_t sum = (int64_t)J * (J + 1) / 2;
    int64_t v = sum <= UINT32_MAX ? (int64_t)lcl_rng_below(rng, (uint32_t)sum)
                                  : (int64_t)(lcl_rng_uniform(rng) * (double)sum);
    int64_t m = (int64_t)((sqrt(8.0 * (double)v + 1) + 1) / 2);
    while (m * (m - 1) / 2 > v) m--;
    while (m * (m + 1) / 2 <= v) m++;
    return (int32_t)(J + 1 - m);
}

/* No class twice, and never two of one name. */
static bool is_usable(const struct lcl_sampler *s, const struct lcl_episode *e, int n, int32_t c)
{
    for (int i = 0; i < n; i++)
        if (s->name_group[e->class_id[i]] == s->name_group[c]) return false;
    return true;
}

static lcl_status no_negative(const struct lcl_sampler *s, const struct lcl_episode *e,
                              const char *where)
{
    return LCL_FAIL_HINT(
        LCL_CONFIG, "lower data.ways, or raise data.num_neighbors",
        "sample %llu: %s has too few other classes of other names in %s for %d ways",
        (unsigned long long)e->sample, s->pack->classes[e->class_id[0]].id, where, e->n_ways);
}

/* Length of the neighbor table that is used, at most. */
static int64_t table_length(const struct lcl_config *c)
{
    bool official = c->data_reading == LCL_READING_OFFICIAL;
    return official && c->data_num_neighbors > OFFICIAL_NEIGHBORS ? OFFICIAL_NEIGHBORS
                                                                  : c->data_num_neighbors;
}

/* fixed[w]: the picture that the table shows of way w, or -1; may be NULL. */
static lcl_status draw_negatives(const struct lcl_sampler *s, struct lcl_rng *rng, bool hard,
                                 struct lcl_episode *e, int64_t *fixed)
{
    int32_t positive = e->class_id[0];
    if (hard && !s->neighbors)
        return LCL_FAIL_HINT(LCL_CONFIG, "make one with lcl neighbors",
                             "hard negatives need a neighbor table, and there is none");
    int64_t J = hard ? s->row_length[positive] : 0;
    if (J > table_length(s->config)) J = table_length(s->config);
    if (hard && J < e->n_ways - 1) return no_negative(s, e, "the neighbor table");
    e->neighbor_rank = 0;
    for (int w = 1; w < e->n_ways; w++) {
        int32_t c = positive, rank = 0;
        int tries = 0;
        for (; tries < MAX_TRIES; tries++) {
            if (hard) {
                rank = draw_rank(rng, (int32_t)J);
                c = s->neighbors->index[(int64_t)positive * s->neighbors->width + rank - 1];
            } else {
                c = s->classes[lcl_rng_below(rng, (uint32_t)s->n_classes)];
            }
            if (is_usable(s, e, w, c)) break;
        }
        if (tries == MAX_TRIES) return no_negative(s, e, hard ? "the neighbor table" : "the split");
        e->class_id[w] = c;
        if (w == 1) e->neighbor_rank = rank;
        if (fixed && rank && s->neighbors->image)
            fixed[w] = s->neighbors->image[(int64_t)positive * s->neighbors->width + rank - 1];
    }
    return LCL_OK;
}

/* One of the eval.hard_neighbors most similar classes, each equally likely. */
static lcl_status hardest_negative(const struct lcl_sampler *s, struct lcl_rng *rng,
                                   struct lcl_episode *e)
{
    int32_t positive = e->class_id[0], seen = 0;
    if (!s->neighbors)
        return LCL_FAIL_HINT(LCL_CONFIG,
                             "make one with lcl neighbors, or set eval.negatives: random",
                             "eval.negatives: hardest needs a neighbor table, and there is none");
    for (int32_t j = 0; j < s->row_length[positive] && seen < s->config->eval_hard_neighbors; j++) {
        int32_t c = s->neighbors->index[(int64_t)positive * s->neighbors->width + j];
        if (!is_usable(s, e, 1, c)) continue;
        seen++;
        if (lcl_rng_below(rng, (uint32_t)seen) > 0) continue; /* reservoir of one */
        e->class_id[1] = c;
        e->neighbor_rank = j + 1;
    }
    return seen > 0 ? LCL_OK : no_negative(s, e, "the neighbor table");
}

/* ---- pictures ---- */

/* k distinct pictures of a class, every ordered choice equally likely; k <= n_images. */
static lcl_status pick_distinct(struct lcl_rng *rng, const struct lcl_class *c, int64_t k,
                                int64_t *out)
{
    uint32_t n = (uint32_t)c->n_images;
    if (n > SMALL_CLASS && k <= FEW_PICKS) { /* few of many: draw again when one is taken */
        for (int64_t i = 0; i < k;) {
            int64_t image = c->images[lcl_rng_below(rng, n)], j = 0;
            while (j < i && out[j] != image) j++;
            if (j == i) out[i++] = image;
        }
        return LCL_OK;
    }
    int32_t small[SMALL_CLASS], *order = small;
    if (n > SMALL_CLASS && !(order = malloc(n * sizeof *order)))
        return LCL_FAIL(LCL_MEMORY, "no memory to draw from %u pictures", (unsigned)n);
    for (uint32_t i = 0; i < n; i++) order[i] = c->images[i];
    for (uint32_t i = 0; i < (uint32_t)k; i++) {
        uint32_t j = i + lcl_rng_below(rng, n - i);
        out[i] = order[j];
        order[j] = order[i];
    }
    if (order != small) free(order);
    return LCL_OK;
}

/* What a draw asks for. */
struct plan {
    int64_t shots, queries;
    double repeat; /* probability that a query repeats a support picture */
    int64_t views;
    bool replace;          /* pictures are drawn with replacement */
    bool distinct_queries; /* else a class too small for all queries shows some of them twice */
    int64_t shots_of[LCL_MAX_WAYS], queries_of[LCL_MAX_WAYS];
    int64_t fixed[LCL_MAX_WAYS]; /* with replace: a way's first shot, or -1 */
};

/* With cap_shots: as many shots as the smallest class of the episode allows. */
static void cap(const struct lcl_sampler *s, const struct lcl_episode *e, struct plan *p)
{
    int64_t queries = p->distinct_queries ? p->queries : 1;
    for (int w = 0; w < e->n_ways; w++) {
        int64_t room = (s->pack->classes[e->class_id[w]].n_images - queries) * e->n_ways;
        if (room < e->n_ways) room = e->n_ways;
        if (p->shots > room) p->shots = room;
    }
}

/* Equal shares; what is left over goes to ways drawn by chance (of two: by a fair coin). */
static void share_shots(struct lcl_rng *rng, const struct lcl_episode *e, struct plan *p)
{
    int32_t order[LCL_MAX_WAYS];
    for (int32_t w = 0; w < e->n_ways; w++) order[w] = w;
    int64_t extra = p->shots % e->n_ways;
    if (extra) lcl_rng_shuffle(rng, order, e->n_ways);
    for (int w = 0; w < e->n_ways; w++) p->shots_of[w] = p->shots / e->n_ways;
    for (int64_t i = 0; i < extra; i++) p->shots_of[order[i]]++;
}

/* Ways of the queries; those that will repeat a support picture are marked by image -1. */
static void draw_query_ways(struct lcl_rng *rng, struct lcl_episode *e, struct plan *p)
{
    for (int q = 0; q < e->n_queries; q++) {
        int32_t way = (int32_t)lcl_rng_below(rng, (uint32_t)e->n_ways);
        bool repeat = p->repeat > 0 && lcl_rng_uniform(rng) < p->repeat && p->shots_of[way] > 0;
        e->queries[q] = (struct lcl_shot){.way = way, .image = repeat ? -1 : 0};
        if (!repeat) p->queries_of[way]++;
    }
}

/* Each picture by a draw of its own: they may coincide. */
static void draw_way_again(const struct lcl_sampler *s, struct lcl_rng *rng, struct lcl_episode *e,
                           const struct plan *p, int way, struct lcl_shot **shot)
{
    const struct lcl_class *c = &s->pack->classes[e->class_id[way]];
    for (int64_t i = 0; i < p->shots_of[way]; i++) {
        bool fixed = i == 0 && p->fixed[way] >= 0;
        int64_t image =
            fixed ? p->fixed[way] : c->images[lcl_rng_below(rng, (uint32_t)c->n_images)];
        *(*shot)++ = (struct lcl_shot){.way = way, .image = image};
    }
    for (int q = 0; q < e->n_queries; q++)
        if (e->queries[q].way == way && e->queries[q].image != -1)
            e->queries[q].image = c->images[lcl_rng_below(rng, (uint32_t)c->n_images)];
}

/* Support and fresh queries of one way, from one draw of distinct pictures: they never meet. */
static lcl_status draw_way(const struct lcl_sampler *s, struct lcl_rng *rng, struct lcl_episode *e,
                           const struct plan *p, int way, struct lcl_shot **shot)
{
    const struct lcl_class *c = &s->pack->classes[e->class_id[way]];
    int64_t n_shots = p->shots_of[way], n_queries = p->queries_of[way];
    int64_t room = c->n_images - n_shots;
    if (room < n_queries && !p->distinct_queries && room > 0) n_queries = room;
    if (room < n_queries)
        return LCL_FAIL_HINT(
            LCL_CONFIG, "lower the shots or the queries, or leave small classes out",
            "sample %llu: %s has %d pictures; its %lld shots and %lld queries need "
            "%lld",
            (unsigned long long)e->sample, c->id, (int)c->n_images, (long long)n_shots,
            (long long)n_queries, (long long)(n_shots + n_queries));
    int64_t few[64], *picked = few;
    if (n_shots + n_queries > 64 &&
        !(picked = malloc((size_t)(n_shots + n_queries) * sizeof *picked)))
        return LCL_FAIL(LCL_MEMORY, "no memory for %lld pictures",
                        (long long)(n_shots + n_queries));
    lcl_status status = pick_distinct(rng, c, n_shots + n_queries, picked);
    if (status == LCL_OK) {
        for (int64_t i = 0; i < n_shots; i++)
            *(*shot)++ = (struct lcl_shot){.way = way, .image = picked[i]};
        int64_t next = 0;
        for (int q = 0; q < e->n_queries; q++)
            if (e->queries[q].way == way && e->queries[q].image != -1)
                e->queries[q].image = picked[n_shots + next++ % n_queries];
    }
    if (picked != few) free(picked);
    return status;
}

static void shuffle_shots(struct lcl_rng *rng, struct lcl_episode *e)
{
    for (uint32_t i = (uint32_t)e->n_shots; i > 1; i--) {
        uint32_t j = lcl_rng_below(rng, i);
        struct lcl_shot shot = e->shots[i - 1];
        e->shots[i - 1] = e->shots[j];
        e->shots[j] = shot;
    }
}

/* The k-th support shot of the query's way, k drawn: the query is that picture, same view. */
static void repeat_shot(struct lcl_rng *rng, struct lcl_episode *e, const struct plan *p,
                        struct lcl_shot *query)
{
    int64_t k = lcl_rng_below(rng, (uint32_t)p->shots_of[query->way]);
    for (int i = 0; i < e->n_shots; i++)
        if (e->shots[i].way == query->way && k-- == 0) *query = e->shots[i];
}

static lcl_status draw_pictures(const struct lcl_sampler *s, struct lcl_rng *rng, struct plan *p,
                                struct lcl_episode *e)
{
    if (s->cap_shots && !p->replace) cap(s, e, p);
    e->n_shots = (int)p->shots;
    e->n_queries = (int)p->queries;
    e->shots = malloc(((size_t)p->shots + 1) * sizeof *e->shots);
    e->queries = malloc(((size_t)p->queries + 1) * sizeof *e->queries);
    if (!e->shots || !e->queries)
        return LCL_FAIL(LCL_MEMORY, "no memory for an episode of %lld shots", (long long)p->shots);
    share_shots(rng, e, p);
    draw_query_ways(rng, e, p);
    struct lcl_shot *shot = e->shots;
    for (int w = 0; w < e->n_ways; w++) {
        if (p->replace)
            draw_way_again(s, rng, e, p, w, &shot);
        else
            LCL_TRY(draw_way(s, rng, e, p, w, &shot));
    }
    shuffle_shots(rng, e);
    if (p->views > 1) {
        for (int i = 0; i < e->n_shots; i++)
            e->shots[i].view = (int32_t)lcl_rng_below(rng, (uint32_t)p->views);
        for (int q = 0; q < e->n_queries; q++)
            e->queries[q].view = (int32_t)lcl_rng_below(rng, (uint32_t)p->views);
    }
    for (int q = 0; q < e->n_queries; q++)
        if (e->queries[q].image == -1) repeat_shot(rng, e, p, &e->queries[q]);
    return LCL_OK;
}

/* ---- labels ---- */

/* rate: a share of the support pictures, as near as their number allows and exact on average, shows
 * another class's label; position, from 1: that one does. */
static void draw_wrong_labels(struct lcl_rng *rng, double rate, int64_t position,
                              struct lcl_episode *e)
{
    double want = rate * e->n_shots;
    int64_t left = (int64_t)want;
    if (rate > 0 && lcl_rng_uniform(rng) < want - (double)left) left++;
    for (int i = 0; i < e->n_shots; i++) {
        bool wrong = position == i + 1 ||
                     (left > 0 && (int64_t)lcl_rng_below(rng, (uint32_t)(e->n_shots - i)) < left);
        if (!wrong) continue;
        left--;
        e->shots[i].wrong = 1 + (int32_t)lcl_rng_below(rng, (uint32_t)(e->n_ways - 1));
    }
}

static bool is_taken(const struct lcl_episode *e, int way)
{
    for (int w = 0; w < e->n_ways; w++)
        if (w != way && strcmp(e->label[w], e->label[way]) == 0) return true;
    return false;
}

/* Names first, then what is drawn, new in this episode and unlike every other. */
static void draw_labels(const struct lcl_sampler *s, struct lcl_rng *rng,
                        const enum lcl_label_kind *kind, struct lcl_episode *e)
{
    for (int w = 0; w < e->n_ways; w++) {
        int named = kind[w] == LCL_LABEL_SWAPPED ? (w + 1) % e->n_ways : w;
        e->label[w][0] = 0;
        e->made_up[w] = kind[w] == LCL_LABEL_MADE_UP;
        if (kind[w] == LCL_LABEL_NAME || kind[w] == LCL_LABEL_SWAPPED)
            lcl_label_of_name(s->pack->classes[e->class_id[named]].name, e->label[w]);
    }
    for (int w = 0; w < e->n_ways; w++) {
        if (kind[w] != LCL_LABEL_MADE_UP && kind[w] != LCL_LABEL_NUMBER) continue;
        do {
            if (kind[w] == LCL_LABEL_NUMBER)
                snprintf(e->label[w], LCL_LABEL_BYTES, "%u",
                         (unsigned)lcl_rng_below(rng, e->n_ways > FEW_WAYS ? 100 : 10));
            else
                lcl_draw_label(rng, (int)s->config->data_label_min_letters,
                               (int)s->config->data_label_max_letters, e->label[w]);
        } while (is_taken(e, w));
    }
}

/* ---- episodes ---- */

static int64_t draw_shots(const struct lcl_sampler *s, struct lcl_rng *rng)
{
    int64_t n = n_shot_counts(s);
    if (n == 1) return s->max_shots;
    if (s->config->data_strategy == LCL_2WAY_RANDOM && s->config->data_reading == LCL_READING_PAPER)
        return s->min_shots + lcl_rng_below(rng, (uint32_t)n);
    double u = lcl_rng_uniform(rng) * s->shot_cumulative[n - 1];
    int64_t low = 0, high = n - 1; /* the first running sum above u */
    while (low < high) {
        int64_t middle = (low + high) / 2;
        if (s->shot_cumulative[middle] > u)
            high = middle;
        else
            low = middle + 1;
    }
    return s->min_shots + low * s->shot_step;
}

/* ref: k of each class, k = LCL_REF_MIN_SHOTS..S equally likely. */
static int64_t draw_ref_shots(const struct lcl_sampler *s, struct lcl_rng *rng)
{
    int64_t most = s->max_shots / s->ways;
    uint32_t n = (uint32_t)(most - LCL_REF_MIN_SHOTS + 1);
    return s->ways * (LCL_REF_MIN_SHOTS + lcl_rng_below(rng, n));
}

/* Zero-shot episodes ask for own names: nothing else could be known. */
static void draw_kinds(const struct lcl_sampler *s, struct lcl_rng *rng, bool zero_shot,
                       const struct lcl_episode *e, enum lcl_label_kind *kind)
{
    const struct lcl_config *c = s->config;
    bool all = lcl_rng_uniform(rng) < c->data_made_up_fraction;
    for (int w = 0; w < e->n_ways; w++) {
        int usual = w == 0 ? c->data_positive_label : c->data_negative_label;
        kind[w] = zero_shot ? LCL_LABEL_NAME : all ? LCL_LABEL_MADE_UP : (enum lcl_label_kind)usual;
    }
}

/* Classes and pictures of an episode of labels or of reference names. */
static lcl_status draw_support(const struct lcl_sampler *s, struct lcl_rng *rng, double progress,
                               bool zero_shot, struct lcl_episode *e)
{
    const struct lcl_config *c = s->config;
    e->n_ways = (int)s->ways;
    e->class_id[0] = s->classes[lcl_rng_below(rng, (uint32_t)s->n_classes)];
    double repeat = c->data_repeat_query_start +
                    (c->data_repeat_query_end - c->data_repeat_query_start) * progress;
    bool ref = e->policy == LCL_POLICY_REF;
    struct plan p = {.shots = ref ? draw_ref_shots(s, rng) : draw_shots(s, rng),
                     .queries = c->data_queries,
                     .repeat = repeat,
                     .views = c->data_augment_views,
                     .replace = c->data_reading == LCL_READING_OFFICIAL,
                     .distinct_queries = true};
    for (int w = 0; w < e->n_ways; w++) p.fixed[w] = -1;
    if (zero_shot) p.shots = 0;
    bool hard = lcl_rng_uniform(rng) < c->data_hard_fraction;
    LCL_TRY(draw_negatives(s, rng, hard, e, p.fixed));
    return draw_pictures(s, rng, &p, e);
}

static lcl_status draw_training(const struct lcl_sampler *s, struct lcl_rng *rng, double progress,
                                bool zero_shot, struct lcl_episode *e)
{
    enum lcl_label_kind kind[LCL_MAX_WAYS];
    if (e->policy == LCL_POLICY_JIGSAW) return lcl_policy_draw_tiles(s, rng, e);
    LCL_TRY(draw_support(s, rng, progress, zero_shot, e));
    if (e->policy == LCL_POLICY_REF) return lcl_policy_name_shots(s->config, rng, e);
    draw_kinds(s, rng, zero_shot, e, kind);
    draw_labels(s, rng, kind, e);
    return LCL_OK;
}

lcl_status lcl_sampler_draw(const struct lcl_sampler *s, uint32_t epoch, uint64_t sample,
                            double progress, struct lcl_episode *out)
{
    const struct lcl_config *c = s->config;
    *out = (struct lcl_episode){.sample = sample, .policy = lcl_policy_of_sample(c, epoch, sample)};
    bool link = out->policy == LCL_POLICY_LINK;
    uint64_t seed = (uint64_t)c->seed;
    struct lcl_rng rng = lcl_rng_stream(seed, LCL_RNG_ZERO_SHOT, epoch, sample);
    bool zero_shot = link && lcl_rng_uniform(&rng) < c->data_zero_shot_fraction;
    rng = lcl_rng_stream(seed, LCL_RNG_EPISODE, epoch, sample);
    lcl_status status = draw_training(s, &rng, progress, zero_shot, out);
    rng = lcl_rng_stream(seed, LCL_RNG_FALSE_LABEL, epoch, sample);
    if (status == LCL_OK && link)
        draw_wrong_labels(&rng, c->data_false_rate, c->data_false_position, out);
    rng = lcl_rng_stream(seed, LCL_RNG_QUESTION, epoch, sample);
    out->question = 1 + (lcl_rng_u32(&rng) >> 1);
    if (status != LCL_OK) lcl_episode_free(out);
    return status;
}

static lcl_status draw_eval(const struct lcl_sampler *s, struct lcl_rng *rng, int64_t shots,
                            bool negative_made_up, struct lcl_episode *e)
{
    e->n_ways = 2;
    /* Every class is asked for equally often, so that intervals over classes are balanced. */
    e->class_id[0] = s->classes[e->sample % (uint64_t)s->n_classes];
    if (s->config->eval_negatives == LCL_NEG_HARDEST)
        LCL_TRY(hardest_negative(s, rng, e));
    else
        LCL_TRY(draw_negatives(s, rng, s->config->eval_negatives == LCL_NEG_TABLE, e, NULL));
    struct plan p = {.shots = shots, .queries = s->config->eval_queries, .views = 1};
    LCL_TRY(draw_pictures(s, rng, &p, e));
    draw_labels(s, rng,
                (const enum lcl_label_kind[]){
                    LCL_LABEL_MADE_UP, negative_made_up ? LCL_LABEL_MADE_UP : LCL_LABEL_NAME},
                e);
    return LCL_OK;
}

lcl_status lcl_sampler_draw_eval(const struct lcl_sampler *s, int64_t shots, uint64_t sample,
                                 bool negative_made_up, struct lcl_episode *out)
{
    *out = (struct lcl_episode){.sample = sample};
    if (shots < 0 || shots > 100000)
        return LCL_FAIL(LCL_RANGE, "%lld shots; wanted 0..100000", (long long)shots);
    struct lcl_rng rng = lcl_rng_stream((uint64_t)s->config->eval_seed, LCL_RNG_EVAL, 0, sample);
    lcl_status status = draw_eval(s, &rng, shots, negative_made_up, out);
    rng = lcl_rng_stream((uint64_t)s->config->eval_seed, LCL_RNG_FALSE_LABEL, UINT32_MAX, sample);
    if (status == LCL_OK)
        draw_wrong_labels(&rng, s->config->eval_false_rate, s->config->eval_false_position, out);
    if (status != LCL_OK) lcl_episode_free(out);
    return status;
}
