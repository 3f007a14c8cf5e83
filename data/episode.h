/* Episodes: what is drawn (classes, pictures, labels), and how it becomes a packed batch.
 *
 * Drawing is a pure function of (config, pack, neighbor table, seed, epoch, sample). */
#ifndef LCL_DATA_EPISODE_H
#define LCL_DATA_EPISODE_H

#include "core/batch.h"
#include "core/config.h"
#include "core/rng.h"
#include "data/neighbors.h"
#include "data/pack.h"
#include "data/tokenizer.h"

enum { LCL_MAX_WAYS = 64, LCL_LABEL_BYTES = 128 };

/* What an episode asks for: a label, the names of pictures of one class, the places of tiles. */
enum lcl_policy { LCL_POLICY_LINK, LCL_POLICY_REF, LCL_POLICY_JIGSAW, LCL_POLICY_COUNT };

struct lcl_shot {
    int32_t way;   /* index into classes / labels of the episode */
    int64_t image; /* picture number in the pack, or -1 - i for pictures from elsewhere */
    int32_t view;  /* augmented view; training draws one for each shot and query. Or a tile, or the
                      whole that tiles make (jigsaw.h) */
    int32_t wrong; /* of a shot: its label is that of way (way + wrong) % n_ways; 0: its own */
};

struct lcl_episode {
    uint64_t sample;
    enum lcl_policy policy;
    int n_ways;
    int32_t class_id[LCL_MAX_WAYS]; /* class numbers in the pack; [0] is the positive class */
    char label[LCL_MAX_WAYS][LCL_LABEL_BYTES];
    bool made_up[LCL_MAX_WAYS];
    int32_t neighbor_rank; /* of class_id[1] in class_id[0]'s table, 1 the most similar; 0: drawn
                              uniformly */
    uint32_t question;     /* 0: the template's query; else a draw among its questions */
    int n_shots, n_queries;
    struct lcl_shot *shots;   /* [n_shots] in order of appearance; malloc'd by the drawer */
    struct lcl_shot *queries; /* [n_queries] */
    char **said; /* [n_shots + n_queries], one malloc'd block: what stands at {label} in the answers
                    of shots and queries; NULL: the labels of their ways */
};
void lcl_episode_free(struct lcl_episode *e);
/* The way whose label shot i shows. */
int32_t lcl_episode_shown(const struct lcl_episode *e, int i);

/* Samples of a step. */
int64_t lcl_step_samples(const struct lcl_config *c);
/* Number of the i-th sample of lane `index` of a step; a step has lanes x
 * gradient_accumulation_steps lanes. Whatever the number of ranks, a step's samples are the same.
 */
uint64_t lcl_sample_number(const struct lcl_config *c, int64_t step, int64_t index, int64_t i);
/* The rank of `world` that lane `index` of a step belongs to: ranks own whole lanes. */
int64_t lcl_lane_rank(const struct lcl_config *c, int64_t index, int64_t world);

struct lcl_sampler {
    const struct lcl_config *config;
    const struct lcl_pack *pack;
    const struct lcl_neighbors *neighbors; /* may be NULL when data.hard_fraction is 0 */
    int32_t *classes;                      /* class numbers of the split, ascending */
    int32_t n_classes;
    enum lcl_split split;
    /* The rest is the sampler's own. */
    bool cap_shots;
    int64_t ways, min_shots, max_shots; /* of training episodes; shots in all */
    int64_t shot_step;                  /* between numbers of shots that may be drawn */
    double *shot_cumulative;            /* [number of those], of strategies with weights */
    int32_t *name_group;                /* [n_classes of the pack] equal for equal names */
    int32_t *row_length; /* [n_classes of the pack] neighbors in a row of the table */
};
/* Checks that every class of the split has pictures enough for shots and queries without repeats
 * (errors name the classes; with the way out), and duplicate names as data.duplicate_names says.
 * Training sizes are checked on the train split, those of eval.shots on eval.split (there a class
 * needs one picture for queries: further queries may repeat among themselves). */
LCL_CHECKED lcl_status lcl_sampler_init(struct lcl_sampler *s, const struct lcl_config *config,
                                        const struct lcl_pack *pack,
                                        const struct lcl_neighbors *neighbors,
                                        enum lcl_split split);
/* The same, but classes that are too small make an episode's shots fewer (never fewer than one of
 * each class), with one notice here: for one's own small folders. */
LCL_CHECKED lcl_status lcl_sampler_init_capped(struct lcl_sampler *s,
                                               const struct lcl_config *config,
                                               const struct lcl_pack *pack,
                                               const struct lcl_neighbors *neighbors,
                                               enum lcl_split split);
void lcl_sampler_free(struct lcl_sampler *s);
/* A training episode. progress in [0, 1] is how far the stage is (for the repeat-query
 * probability). */
LCL_CHECKED lcl_status lcl_sampler_draw(const struct lcl_sampler *s, uint32_t epoch,
                                        uint64_t sample, double progress, struct lcl_episode *out);
/* An evaluation episode of `shots` pictures: class pair by eval.negatives, made-up positive; the
 * negative has its own name, or a made-up one. Support and query never share a picture. Streams are
 * keyed by eval.seed. */
LCL_CHECKED lcl_status lcl_sampler_draw_eval(const struct lcl_sampler *s, int64_t shots,
                                             uint64_t sample, bool negative_made_up,
                                             struct lcl_episode *out);
/* Lower case in place, of ASCII and of Latin, Greek and Cyrillic letters of two bytes. */
void lcl_lower_case(char *text);
/* What a class is called where its own name is used: lower case, and ' for ". out holds
 * LCL_LABEL_BYTES. */
void lcl_label_of_name(const char *name, char *out);
/* Random lower-case string of min..max letters, every length equally likely. */
void lcl_draw_label(struct lcl_rng *rng, int min_letters, int max_letters, char *out);

/* ---- text and packing ---- */

/* The turns of an episode of another policy, as those of lcl_template; support NULL: it has none.
 */
struct lcl_turns {
    const char *support, *query, *shot_answer, *answer;
};

/* How an episode is written. Pieces hold "<image>" where a picture stands and "{label}" where its
 * label stands. */
struct lcl_template {
    const char *system;      /* once, at the start */
    const char *first;       /* between it and the first turn */
    const char *next;        /* before the other turns */
    const char *support;     /* one shot, with its answer */
    const char *query;       /* up to where the answer begins */
    const char *shot_answer; /* what a shot ends with */
    const char *answer;      /* the query's, e.g.  there is "{label}" in the image.</s> */
    const char *turn;        /* of a loaded one: `query` with {question} for its question */
    const char *question;    /* of a loaded one: the fixed question, which `query` asks */
    int n_questions;
    const char *const *questions; /* [n_questions] queries that training draws from; else `query` */
    struct lcl_turns ref, jigsaw; /* {label}: a name; names; a piece's number; places. A piece's
                                     answer may lack it. */
    void *owner, *owned;          /* of a loaded one */
};
/* NULL: LCL_LAYOUT_OFFICIAL, whose words are data.template's. */
const struct lcl_template *lcl_template_get(enum lcl_layout layout);
/* A copy of text[0, n) in which <image>, <s> and </s> are spelled as the tokenizer, which has them,
 * spells them; malloc'd, NULL when memory ran out. */
char *lcl_template_spell(const struct lcl_tokenizer *t, const char *text, size_t n);
/* A file of data.template (docs/formats.md). LCL_FORMAT and LCL_RANGE name file and key. */
LCL_CHECKED lcl_status lcl_template_load(const char *path, struct lcl_template *t);
/* The same from a text of size bytes; name: what errors call it. */
LCL_CHECKED lcl_status lcl_template_parse(const char *name, const char *text, size_t size,
                                          struct lcl_template *t);
/* That of data.template, else of data.layout; lcl_template_free. */
LCL_CHECKED lcl_status lcl_template_for(const struct lcl_config *config, struct lcl_template *t);
void lcl_template_free(struct lcl_template *t);
/* Texts that a tokenizer for a layout should know: the template's words. *texts points to static
 * strings. */
size_t lcl_template_texts(enum lcl_layout layout, const char *const **texts);

/* The tokenizer that a config asks for, with the image tokens of data.layout: official:
 * `tokenizer`, else tokenizer.json of init_from, else a small one made from the words of the
 * layout's texts (class names are spelled by letters, as made-up labels are). */
LCL_CHECKED lcl_status lcl_tokenizer_for_config(const struct lcl_config *config,
                                                struct lcl_tokenizer **out);
/* Of a folder, as the official code loads it: tokenizer.model goes before tokenizer.json. */
LCL_CHECKED lcl_status lcl_tokenizer_load_slow(const char *dir, struct lcl_tokenizer **out);

/* Collects episodes into one lcl_batch; reused from step to step, grows on demand. */
struct lcl_batch_builder;
LCL_CHECKED lcl_status lcl_batch_builder_create(const struct lcl_tokenizer *tokenizer,
                                                enum lcl_layout layout, int64_t tokens_per_image,
                                                struct lcl_batch_builder **out);
/* The same for data.template, else data.layout. */
LCL_CHECKED lcl_status lcl_batch_builder_for(const struct lcl_config *config,
                                             const struct lcl_tokenizer *tokenizer,
                                             int64_t tokens_per_image,
                                             struct lcl_batch_builder **out);
void lcl_batch_builder_free(struct lcl_batch_builder *b);
void lcl_batch_builder_reset(struct lcl_batch_builder *b);

enum lcl_encode_mode {
    LCL_ENCODE_TRAIN,  /* context run, then one branch a query with its answer; supervised rows as
                          `supervise` says (the query's answer always). With one query: a single run
                          without a prefix. Each query's loss terms weigh 1 / n_queries of the
                          episode's when supervise is last, all rows weigh 1 otherwise. Labels that
                          shots show wrongly are supervised as they are shown. */
    LCL_ENCODE_PROMPT, /* context run, then a branch a query up to where the answer begins; nothing
                          supervised */
    LCL_ENCODE_CANDIDATES /* context run, then for each query one branch for each way's label, its
                            answer supervised: likelihood by label = sum of logprob over that
                            branch's supervised rows */
};
/* Appends an episode. `labels` NULL: the episode's own; else [n_shots] way indices that the SUPPORT
 * answers show instead (shuffled-label controls, wrong labels). Errors: sequence over max_length
 * (0: none), naming the sample. */
LCL_CHECKED lcl_status lcl_batch_append_episode(struct lcl_batch_builder *b,
                                                const struct lcl_episode *e,
                                                enum lcl_encode_mode mode,
                                                enum lcl_supervise supervise, const int32_t *labels,
                                                int64_t max_length);
enum lcl_target {
    LCL_NO_TARGET,
    LCL_TARGET,
    LCL_TARGET_LABEL /* accuracy counts it */
};
/* Appends plain tokens as one run; the row before token i predicts it where target[i] (an
 * lcl_target) says so. target NULL: nothing is supervised. */
LCL_CHECKED lcl_status lcl_batch_append_tokens(struct lcl_batch_builder *b, const int32_t *ids,
                                               const uint8_t *target, int64_t n);
/* Appends a text as one run that is to be continued: a branch of the next episode number, query 0.
 * Each <image> in it stands for the next of n_images pictures (numbers as in lcl_shot). LCL_CONFIG
 * where their counts differ or nothing is said, LCL_RANGE for over max_length tokens (0: none). */
LCL_CHECKED lcl_status lcl_batch_append_prompt(struct lcl_batch_builder *b, const char *text,
                                               const int64_t *image, int64_t n_images,
                                               int64_t max_length);
/* The batch so far; owned by the builder, valid until its next change. */
const struct lcl_batch *lcl_batch_builder_get(struct lcl_batch_builder *b);
/* Which branch (index in append order of all branches of ENCODE_PROMPT / CANDIDATES) each run is:
 * [n_runs] of {episode, query, way}; -1 where it is a context run. Owned by the builder. Supervised
 * rows lie in run order. */
struct lcl_branch {
    int32_t episode, query, way;
};
const struct lcl_branch *lcl_batch_builder_branches(struct lcl_batch_builder *b);
/* The text of an episode as ENCODE_TRAIN writes it, malloc'd: for people. */
LCL_CHECKED lcl_status lcl_episode_text(const struct lcl_batch_builder *b,
                                        const struct lcl_episode *e, char **text);
/* The same with each answer that is learned between [[ and ]]. */
LCL_CHECKED lcl_status lcl_episode_learned_text(const struct lcl_batch_builder *b,
                                                const struct lcl_episode *e,
                                                enum lcl_supervise supervise, char **text);
/* Where in a run an episode stands, and whether its tokens are printed. */
struct lcl_episode_place {
    int64_t step, lane;
    bool with_tokens;
};
/* One JSON line of `lcl inspect --episodes` (malloc'd); resets the builder. images (numbers),
 * paths, ways and views go by picture in order of appearance, the n_queries last ones being the
 * queries'; shown: the way whose label each support picture shows; classes (ids), names, labels and
 * made_up by way; neighbor_rank null where the negative was drawn uniformly; query_is_positive a
 * list with several queries; query_in_support where a query is a support picture too; with_tokens:
 * supervised[i] 1 where input_ids[i] is a target. */
LCL_CHECKED lcl_status lcl_episode_json(struct lcl_batch_builder *b, const struct lcl_sampler *s,
                                        const struct lcl_episode *e,
                                        const struct lcl_episode_place *place, char **line);
/* True where a query is a picture of the support set. */
bool lcl_episode_coincides(const struct lcl_episode *e);

#endif
