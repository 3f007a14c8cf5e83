#include "train/mixture.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/log.h"
#include "core/rng.h"

/* ---- the packs ---- */

static lcl_status wrong(const char *entry, const char *what)
{
    return LCL_FAIL_HINT(LCL_CONFIG, "for example episodes=0.5, llava.h5=0.3, vqav2.h5=0.2",
                         "data.sources: \"%s\": %s", entry, what);
}

static lcl_status open_source(struct lcl_row_sources *s, const struct lcl_config *c, char *entry,
                              int64_t *first_picture)
{
    struct lcl_row_source *to = &s->source[s->n];
    char *end, *equals = strrchr(entry, '=');
    if (s->n == LCL_MOST_SOURCES) return wrong(entry, "there are over 32 sources");
    to->weight = equals ? strtod(equals + 1, &end) : 1;
    if (equals && (end == equals + 1 || *end || !(to->weight > 0) || !isfinite(to->weight)))
        return wrong(entry, "wanted PATH=WEIGHT, the weight a number above 0");
    if (equals) *equals = '\0';
    to->episodes = strcmp(entry, "episodes") == 0;
    s->n++;
    if (to->episodes)
        return c->data_strategy == LCL_MIX
                   ? wrong(entry, "data.strategy: mix adds the episodes itself, half of each batch")
                   : LCL_OK;
    LCL_TRY(lcl_pack_open(entry, &to->pack));
    if (to->pack.n_rows == 0)
        return LCL_FAIL_HINT(LCL_CONFIG, "lcl pack --format llava, messages, ... makes such packs",
                             "data.sources: %s holds no rows", entry);
    if (to->pack.rows_of_boxes && c->data_resize == 0)
        lcl_log_warn("%s has boxes of pictures padded to a square; data.resize is crop", entry);
    to->first_picture = *first_picture;
    *first_picture += to->pack.n_images;
    return LCL_OK;
}

lcl_status lcl_row_sources_open(struct lcl_row_sources *s, const struct lcl_config *c,
                                int64_t first_picture)
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
         entry = strtok_r(NULL, ", ", &save))
        status = open_source(s, c, entry, &first_picture);
    if (status == LCL_OK && s->n == 0) status = wrong(s->text, "no source is named");
    if (status == LCL_OK) return LCL_OK;
    struct lcl_error error;
    lcl_error_save(&error, status);
    lcl_row_sources_close(s);
    return lcl_error_restore(&error);
}

void lcl_row_sources_close(struct lcl_row_sources *s)
{
    for (int i = 0; i < s->n; i++) lcl_pack_close(&s->source[i].pack);
    free(s->source);
    *s = (struct lcl_row_sources){0};
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

/* The source of a sample; -1: the half of mix that is episodes. */
static int choose(const struct lcl_mixture *m, uint64_t sample)
{
    const struct lcl_row_sources *s = m->sources;
    bool mix = m->config->data_strategy == LCL_MIX;
    if (mix && sample % 2 == 0) return -1;
    if (m->config->data_mixing == LCL_MIXING_EVEN)
        return (int)((mix ? sample / 2 : sample) % (uint64_t)s->n);
    struct lcl_rng rng = stream(m, sample);
    double sum = 0, at;
    for (int i = 0; i < s->n; i++) sum += s->source[i].weight;
    at = lcl_rng_uniform(&rng) * sum;
    int i = 0;
    while (i + 1 < s->n && at >= s->source[i].weight) at -= s->source[i++].weight;
    return i;
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
