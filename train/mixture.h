/* Row packs and strategies of data.sources, and which source each sample of a stage comes from: a
 * function of (config, packs, stage, sample) alone. */
#ifndef LCL_TRAIN_MIXTURE_H
#define LCL_TRAIN_MIXTURE_H

#include "core/config.h"
#include "data/any_shot.h"
#include "data/episode.h"

enum { LCL_MOST_SOURCES = 32 };

struct lcl_row_source {
    bool episodes; /* the word "episodes", or a strategy's: episodes instead of a pack */
    int strategy;  /* of episodes: an lcl_strategy; -1: data.strategy's */
    struct lcl_pack pack;
    double weight;
    int64_t first_picture; /* its pictures' numbers begin here: behind those of the packs before */
};

/* Packs that are open; n 0: none. */
struct lcl_row_sources {
    char text[LCL_CONFIG_STR_BYTES]; /* data.sources that they were opened for */
    int n;
    struct lcl_row_source *source;
};
/* LCL_CONFIG names the entry and what was wanted: with data.strategy: any-shot, no other strategy's
 * word. first_picture: of the first pack. */
LCL_CHECKED lcl_status lcl_row_sources_open(struct lcl_row_sources *s, const struct lcl_config *c,
                                            int64_t first_picture);
/* Their words and weights alone, no pack opened: enough for lcl_mixture_strategy. */
LCL_CHECKED lcl_status lcl_row_sources_parse(struct lcl_row_sources *s, const struct lcl_config *c);
void lcl_row_sources_close(struct lcl_row_sources *s);

/* What any-shot conversations draw from: lcl_any_shot_open with the packs of the sources that are
 * open: not of s that was parsed alone. */
LCL_CHECKED lcl_status lcl_row_sources_any_shot(const struct lcl_row_sources *s,
                                                const struct lcl_config *c,
                                                const struct lcl_pack *pack,
                                                const struct lcl_neighbors *neighbors,
                                                enum lcl_split split, unsigned tasks,
                                                struct lcl_any_shot *out);

/* Draws of a stage. Samples are best asked for in ascending order: how often a source came before
 * is counted from the first sample on. */
struct lcl_mixture {
    const struct lcl_config *config;
    const struct lcl_row_sources *sources;
    uint32_t epoch;
    uint64_t next; /* the sample that `count` stands before */
    int64_t count[LCL_MOST_SOURCES], pass[LCL_MOST_SOURCES];
    int32_t *order[LCL_MOST_SOURCES]; /* rows of pass order_pass, shuffled */
    int64_t order_pass[LCL_MOST_SOURCES];
};
LCL_CHECKED lcl_status lcl_mixture_open(struct lcl_mixture *m, const struct lcl_config *c,
                                        const struct lcl_row_sources *sources, uint32_t epoch);
void lcl_mixture_close(struct lcl_mixture *m);
/* *source: index of the source, -1 for an episode; *row: of its pack. Rows come in shuffled passes,
 * each once a pass. */
void lcl_mixture_draw(struct lcl_mixture *m, uint64_t sample, int *source, int64_t *row);
/* By which strategy (an lcl_strategy; -1: data.strategy's) a sample's episode is drawn; -1 also for
 * a row's sample. */
int lcl_mixture_strategy(const struct lcl_mixture *m, uint64_t sample);
/* True where a sample is a row of a pack. */
bool lcl_mixture_is_row(const struct lcl_mixture *m, uint64_t sample);
/* A row in place of one that is left out, for the attempt-th time. */
int64_t lcl_mixture_redraw(const struct lcl_mixture *m, uint64_t sample, int source, int attempt);

/* Samplers of a stage's training episodes: of data.strategy, and of each strategy that data.sources
 * names, whose config differs by that word alone. */
struct lcl_samplers {
    struct lcl_sampler own;
    struct lcl_named_sampler *named[LCL_JIGSAW + 1]; /* NULL: not named */
};
/* capped as lcl_sampler_init_capped. All are kept in one place: s must not move. */
LCL_CHECKED lcl_status lcl_samplers_open(struct lcl_samplers *s, const struct lcl_config *c,
                                         const struct lcl_pack *pack,
                                         const struct lcl_neighbors *neighbors,
                                         const struct lcl_row_sources *sources, bool capped);
void lcl_samplers_close(struct lcl_samplers *s);
/* Whether they would open, capped: what a stage would refuse, before the run. */
LCL_CHECKED lcl_status lcl_samplers_check(const struct lcl_config *c, const struct lcl_pack *pack,
                                          const struct lcl_neighbors *neighbors);
/* That of a sample's episode; m NULL: there is no mixture. */
const struct lcl_sampler *lcl_samplers_of(const struct lcl_samplers *s, const struct lcl_mixture *m,
                                          uint64_t sample);

#endif
