#include "train/mixture.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/log.h"
#include "core/rng.h"
#include "data/policy.h"

/* ---- the packs ---- */

static lcl_status wrong(const char *entry, const char *what)
{
    return LCL_FAIL_HINT(LCL_CONFIG, "for example episodes=0.5, llava.h5=0.3, vqav2.h5=0.2",
                         "data.sources: \"%s\": %s", entry, what);
}

/* Weight, and which kind of source it is; cuts entry to its word or path. */
static lcl_status parse_source(struct lcl_row_sources *s, const struct lcl_config *c, char *entry)
{
    struct lcl_row_source *to = &s->source[s->n];
    char *end, *equals = strrchr(entry, '=');
    if (s->n == LCL_MOST_SOURCES) return wrong(entry, "there are over 32 sources");
    to->weight = equals ? strtod(equals + 1, &end) : 1;
    if (equals && (end == equals + 1 || *end || !(to->weight > 0) || !isfinite(to->weight)))
        return wrong(entry, "wanted PATH=WEIGHT, the weight a number above 0");
    if (equals) *equals = '\0';
    to->strategy = lcl_strategy_of(entry);
    to->episodes = to->strategy >= 0 || strcmp(entry, "episodes") == 0;
    s->n++;
    if (to->episodes && to->strategy < 0 && c->data_strategy == LCL_MIX)
        return wrong(entry, "data.strategy: mix adds the episodes itself, half of each batch; "
                            "2-way, ref, ... name what they are");
    if (to->strategy == LCL_MIX) return wrong(entry, "a source cannot be a mix");
    if (to->strategy == LCL_ANY_SHOT)
        return wrong(entry, "data.strategy says any-shot; its conversations go by the word "
                            "episodes");
    if (to->strategy >= 0 && c->data_strategy == LCL_ANY_SHOT)
        return wrong(entry, "data.strategy: any-shot draws conversations (episodes) and packs of "
                            "rows; episodes of other strategies take a stage of their own");
    return LCL_OK;
}

static lcl_status open_source(struct lcl_row_source *to, const struct lcl_config *c,
                              const char *path, int64_t *first_picture)
{
    LCL_TRY(lcl_pack_open(path, &to->pack));
    if (to->pack.n_rows == 0)
        return LCL_FAIL_HINT(LCL_CONFIG, "lcl pack --format llava, messages, ... makes such packs",
                             "data.sources: %s holds no rows", path);
    if (to->pack.rows_of_boxes && c->data_resize == 0)
        lcl_log_warn("%s has boxes of pictures padded to a square; data.resize is crop", path);
    to->first_picture = *first_picture;
    *first_picture += to->pack.n_images;
    return LCL_OK;
}

/* mix: the half of rows needs a source; where draws go over all, episodes do too. */
static lcl_status check_mix(const struct lcl_row_sources *s, const struct lcl_config *c)
{
    int episodes = 0;
    for (int i = 0; i < s->n; i++) episodes += s->source[i].episodes;
    if (c->data_strategy != LCL_MIX) return LCL_OK;
    if (episodes == s->n) return wrong(s->text, "data.strategy: mix needs a pack of rows");
    if (episodes == 0 && c->data_reading == LCL_READING_OFFICIAL)
        return wrong(s->text, "the official mix draws all samples by weight, and no strategy of "
                              "episodes is named (ref_or_weight=0.3, jigsaw=0.2)");
    return LCL_OK;
}

/* first_picture NULL: no pack is opened. */
static lcl_status open_sources(struct lcl_row_sources *s, const struct lcl_config *c,
                               int64_t *first_picture)
{
    char copy[LCL_CONFIG_STR_BYTES], *save = NULL;
    lcl_status status = LCL_OK;
    *s = (struct lcl_row_sources){0};
    memcpy(s->text, c->data_sources, sizeof s->text);
    if (s->text[0] == '\0') return LCL_OK;
    s->source = calloc(LCL_MOST_SOURCES, sizeof *s->source);
    if (!s->source) return LCL_FAIL(LCL_MEMORY, "no memory for sources");
    memcpy(copy, s->text, sizeof copy);
    for (char *entry = strtok_r(copy, ", ", &save); entry && status == LCL_OK;
         entry = strtok_r(NULL, ", ", &save)) {
        status = parse_source(s, c, entry);
        if (status == LCL_OK && first_picture && !s->source[s->n - 1].episodes)
            status = open_source(&s->source[s->n - 1], c, entry, first_picture);
    }
    if (status == LCL_OK && s->n == 0) status = wrong(s->text, "no source is named");
    if (status == LCL_OK) status = check_mix(s, c);
    if (status == LCL_OK) return LCL_OK;
    struct lcl_error error;
    lcl_error_save(&error, status);
    lcl_row_sources_close(s);
    return lcl_error_restore(&error);
}

lcl_status lcl_row_sources_open(struct lcl_row_sources *s, const struct lcl_config *c,
                                int64_t first_picture)
{
    return open_sources(s, c, &first_picture);
}

lcl_status lcl_row_sources_parse(struct lcl_row_sources *s, const struct lcl_config *c)
{
    return open_sources(s, c, NULL);
}

void lcl_row_sources_close(struct lcl_row_sources *s)
{
    for (int i = 0; i < s->n; i++) lcl_pack_close(&s->source[i].pack);
    free(s->source);
    *s = (struct lcl_row_sources){0};
}

lcl_status lcl_row_sources_any_shot(const struct lcl_row_sources *s, const struct lcl_config *c,
                                    const struct lcl_pack *pack,
                                    const struct lcl_neighbors *neighbors, enum lcl_split split,
                                    unsigned tasks, struct lcl_any_shot *out)
{
    struct lcl_any_rows rows[LCL_MOST_SOURCES];
    int n = 0;
    for (int i = 0; i < s->n; i++)
        if (!s->source[i].episodes)
            rows[n++] = (struct lcl_any_rows){&s->source[i].pack, s->source[i].first_picture,
                                              s->source[i].weight};
    return lcl_any_shot_open(out, c, pack, neighbors, rows, n, split, tasks);
}

/* ---- draws ---- */

static void restart(struct lcl_mixture *m)
{
    m->next = 0;
    memset(m->count, 0, sizeof m->count);
    memset(m->pass, 0, sizeof m->pass);
}

lcl_status lcl_mixture_open(struct lcl_mixture *m, const struct lcl_config *c,
                            const struct lcl_row_sources *sources, uint32_t epoch)
{
    *m = (struct lcl_mixture){.config = c, .sources = sources, .epoch = epoch};
    for (int i = 0; i < sources->n; i++) {
        m->order_pass[i] = -1;
        if (sources->source[i].episodes) continue;
        m->order[i] = malloc((size_t)sources->source[i].pack.n_rows * sizeof *m->order[i]);
        if (m->order[i]) continue;
        lcl_mixture_close(m);
        return LCL_FAIL(LCL_MEMORY, "no memory for the order of rows");
    }
    return LCL_OK;
}

void lcl_mixture_close(struct lcl_mixture *m)
{
    for (int i = 0; i < LCL_MOST_SOURCES; i++) free(m->order[i]);
    *m = (struct lcl_mixture){0};
}

static struct lcl_rng stream(const struct lcl_mixture *m, uint64_t sample)
{
    return lcl_rng_stream((uint64_t)m->config->seed, LCL_RNG_MIXTURE, m->epoch, sample);
}

/* mix of the paper: even samples are episodes, odd ones rows. */
enum half { EPISODES, ROWS, BOTH };

static bool is_of(const struct lcl_row_source *source, enum half half)
{
    return half == BOTH || source->episodes == (half == EPISODES);
}

/* The source of a sample; -1: the half of mix that is episodes, of no named strategy. */
static int choose(const struct lcl_mixture *m, uint64_t sample)
{
    const struct lcl_row_sources *s = m->sources;
    const struct lcl_config *c = m->config;
    bool halves = c->data_strategy == LCL_MIX && c->data_reading == LCL_READING_PAPER;
    enum half half = !halves ? BOTH : sample % 2 ? ROWS : EPISODES;
    uint64_t n = 0;
    double sum = 0;
    int last = -1;
    for (int i = 0; i < s->n; i++) {
        if (!is_of(&s->source[i], half)) continue;
        n++;
        sum += s->source[i].weight;
        last = i;
    }
    if (n < 2) return last;
    bool even = c->data_mixing == LCL_MIXING_EVEN;
    uint64_t turn = (halves ? sample / 2 : sample) % n;
    struct lcl_rng rng = stream(m, sample);
    double at = even ? 0 : lcl_rng_uniform(&rng) * sum;
    for (int i = 0; i < last; i++) {
        if (!is_of(&s->source[i], half)) continue;
        if (even ? turn-- == 0 : at < s->source[i].weight) return i;
        at -= s->source[i].weight;
    }
    return last;
}

int lcl_mixture_strategy(const struct lcl_mixture *m, uint64_t sample)
{
    int i = choose(m, sample);
    return i >= 0 && m->sources->source[i].episodes ? m->sources->source[i].strategy : -1;
}

bool lcl_mixture_is_row(const struct lcl_mixture *m, uint64_t sample)
{
    int i = choose(m, sample);
    return i >= 0 && !m->sources->source[i].episodes;
}

/* Counts the draw of the next sample: which source, and how often it came in its pass before. */
static int advance(struct lcl_mixture *m, int64_t *before)
{
    const struct lcl_row_sources *s = m->sources;
    int i = choose(m, m->next++);
    *before = 0;
    if (i < 0 || s->source[i].episodes) return i;
    if (m->count[i] == s->source[i].pack.n_rows) { /* it is exhausted */
        bool all = m->config->data_mixing == LCL_MIXING_EXHAUST;
        for (int k = all ? 0 : i; k < (all ? s->n : i + 1); k++) {
            m->count[k] = 0;
            m->pass[k]++;
        }
    }
    *before = m->count[i]++;
    return i;
}

/* Rows of source i in the order of its pass: from sorted order each time, a function of the pass
 * alone. */
static const int32_t *order_of(struct lcl_mixture *m, int i)
{
    int64_t n = m->sources->source[i].pack.n_rows;
    if (m->order_pass[i] == m->pass[i]) return m->order[i];
    for (int64_t k = 0; k < n; k++) m->order[i][k] = (int32_t)k;
    struct lcl_rng rng = lcl_rng_stream((uint64_t)m->config->seed, LCL_RNG_SHUFFLE, m->epoch,
                                        (uint64_t)(i + 1) << 40 | (uint64_t)m->pass[i]);
    lcl_rng_shuffle(&rng, m->order[i], n);
    m->order_pass[i] = m->pass[i];
    return m->order[i];
}

void lcl_mixture_draw(struct lcl_mixture *m, uint64_t sample, int *source, int64_t *row)
{
    int64_t before = 0;
    *source = -1;
    *row = 0;
    if (sample < m->next) restart(m);
    while (m->next <= sample) *source = advance(m, &before);
    if (*source < 0 || m->sources->source[*source].episodes)
        *source = -1;
    else
        *row = order_of(m, *source)[before];
}

int64_t lcl_mixture_redraw(const struct lcl_mixture *m, uint64_t sample, int source, int attempt)
{
    struct lcl_rng rng = stream(m, sample);
    uint32_t n = (uint32_t)m->sources->source[source].pack.n_rows, row = 0;
    (void)lcl_rng_uniform(&rng); /* the source's */
    for (int i = 0; i < attempt; i++) row = lcl_rng_below(&rng, n);
    return row;
}

/* ---- episodes ---- */

struct lcl_named_sampler {
    struct lcl_config config;
    struct lcl_sampler sampler;
};

static lcl_status open_sampler(struct lcl_sampler *s, const struct lcl_config *c,
                               const struct lcl_pack *pack, const struct lcl_neighbors *neighbors,
                               bool capped)
{
    return capped ? lcl_sampler_init_capped(s, c, pack, neighbors, LCL_SPLIT_TRAIN)
                  : lcl_sampler_init(s, c, pack, neighbors, LCL_SPLIT_TRAIN);
}

lcl_status lcl_samplers_open(struct lcl_samplers *s, const struct lcl_config *c,
                             const struct lcl_pack *pack, const struct lcl_neighbors *neighbors,
                             const struct lcl_row_sources *sources, bool capped)
{
    *s = (struct lcl_samplers){0};
    LCL_TRY(open_sampler(&s->own, c, pack, neighbors, capped));
    for (int i = 0; i < sources->n; i++) {
        int k = sources->source[i].strategy;
        if (!sources->source[i].episodes || k < 0 || s->named[k]) continue;
        struct lcl_named_sampler *n = s->named[k] = calloc(1, sizeof *n);
        lcl_status status = n ? LCL_OK : LCL_FAIL(LCL_MEMORY, "no memory for a sampler");
        if (n) n->config = *c;
        if (n) n->config.data_strategy = k;
        if (status == LCL_OK)
            status = open_sampler(&n->sampler, &n->config, pack, neighbors, capped);
        if (status == LCL_OK) continue;
        lcl_samplers_close(s);
        return status;
    }
    return LCL_OK;
}

void lcl_samplers_close(struct lcl_samplers *s)
{
    lcl_sampler_free(&s->own);
    for (int k = 0; k <= LCL_JIGSAW; k++) {
        if (s->named[k]) lcl_sampler_free(&s->named[k]->sampler);
        free(s->named[k]);
        s->named[k] = NULL;
    }
}

const struct lcl_sampler *lcl_samplers_of(const struct lcl_samplers *s, const struct lcl_mixture *m,
                                          uint64_t sample)
{
    int k = m ? lcl_mixture_strategy(m, sample) : -1;
    return k >= 0 ? &s->named[k]->sampler : &s->own;
}

lcl_status lcl_samplers_check(const struct lcl_config *c, const struct lcl_pack *pack,
                              const struct lcl_neighbors *neighbors)
{
    struct lcl_row_sources sources;
    struct lcl_samplers samplers;
    LCL_TRY(lcl_row_sources_parse(&sources, c));
    lcl_status status = lcl_samplers_open(&samplers, c, pack, neighbors, &sources, true);
    if (status == LCL_OK) lcl_samplers_close(&samplers);
    lcl_row_sources_close(&sources);
    return status;
}
