/* Any-shot conversations (Doveh et al., "Towards Multimodal In-Context Learning for Vision &
 * Language Models"): several turns that share a concept, each answer learned, so that one
 * conversation trains 0, 1, ... K - 1 shots at once.
 *
 * Drawing is a pure function of (config, packs, neighbor table, seed, epoch, sample);
 * docs/any-shot.md has the laws. */
#ifndef LCL_DATA_ANY_SHOT_H
#define LCL_DATA_ANY_SHOT_H

#include "data/any_shot_tasks.h"
#include "data/conversation.h"

enum { LCL_MOST_TURNS = 64 };

struct lcl_turn {
    enum lcl_turn_task task;
    int32_t attribute;           /* of task attributes: which; else -1 */
    int32_t class_id;            /* of the picture; -1: a row's */
    int32_t way;                 /* index into the conversation's classes or values; -1: a row's */
    char label[LCL_LABEL_BYTES]; /* what the answer says, before its format; "" of rows */
    int64_t image;               /* number as in lcl_shot; -1: a row's, which may have several */
    int32_t source;              /* of task rows: which pack, and its row; else -1 */
    int64_t row;
    int n_messages, n_images; /* of the conversation: those of this turn */
};

struct lcl_any_turns {
    uint64_t sample;
    int n;
    struct lcl_turn turn[LCL_MOST_TURNS];
    bool made_up; /* labels are made-up words */
    enum lcl_answer_format format;
    char word[LCL_LABEL_BYTES]; /* of formats prefix and suffix */
    /* What the last turn could be answered with, by way: of evaluations; 0: rows. */
    int n_candidates;
    const char *candidate[LCL_MAX_WAYS];
    struct lcl_conversation conversation; /* all answers learned */
    void *owner;                          /* of the texts */
};
void lcl_any_turns_free(struct lcl_any_turns *t);
/* Leaves the last turn out; one at least stays. */
void lcl_any_turns_drop_last(struct lcl_any_turns *t);
/* Permutes the answers of all turns but the last over their questions: a control. */
void lcl_any_turns_shuffle_answers(struct lcl_any_turns *t, struct lcl_rng *rng);

/* A pack of rows; its pictures' numbers begin at first_picture. */
struct lcl_any_rows {
    const struct lcl_pack *pack;
    int64_t first_picture;
    double weight;
};

struct lcl_any_shot {
    const struct lcl_config *config;
    const struct lcl_pack *pack;
    const struct lcl_neighbors *neighbors;
    enum lcl_split split;
    struct lcl_any_tasks tasks;
    double weight[LCL_TURN_TASKS];   /* of data.tasks */
    bool format[LCL_ANSWER_FORMATS]; /* of data.formats */
    int n_pools;                     /* the classes, then the attributes */
    struct lcl_any_pool *pool;
    int n_sources;
    struct lcl_any_source *source;
};

/* On the classes of a split, whose pictures alone are shown, and the rows of n_rows packs, which
 * are read once to find those of one instruction. tasks: a bit (1 << task) for each that will be
 * drawn; 0: those of data.tasks. LCL_CONFIG says which of them has nothing to draw from. What is
 * handed in must outlive it. */
LCL_CHECKED lcl_status lcl_any_shot_open(struct lcl_any_shot *s, const struct lcl_config *c,
                                         const struct lcl_pack *pack,
                                         const struct lcl_neighbors *neighbors,
                                         const struct lcl_any_rows *rows, int n_rows,
                                         enum lcl_split split, unsigned tasks);
void lcl_any_shot_close(struct lcl_any_shot *s);
/* What evaluations during training would be refused for, but for packs of rows. */
LCL_CHECKED lcl_status lcl_any_shot_check_eval(const struct lcl_config *c,
                                               const struct lcl_pack *pack,
                                               const struct lcl_neighbors *neighbors);
/* A training conversation; progress in [0, 1] is how far the stage is. */
LCL_CHECKED lcl_status lcl_any_shot_draw(const struct lcl_any_shot *s, uint32_t epoch,
                                         uint64_t sample, double progress,
                                         struct lcl_any_turns *out);
/* An evaluation's: `shots` turns and one that is asked, of eval.task in eval.format, coherent,
 * keyed by eval.seed. Its picture is in no other turn; shots show each way equally often, as near
 * as their number allows. */
LCL_CHECKED lcl_status lcl_any_shot_draw_eval(const struct lcl_any_shot *s, int64_t shots,
                                              uint64_t sample, struct lcl_any_turns *out);
/* One JSON line of `lcl inspect --episodes`, malloc'd. */
LCL_CHECKED lcl_status lcl_any_turns_json(const struct lcl_any_shot *s,
                                          const struct lcl_any_turns *t,
                                          const struct lcl_conversation_rules *rules, char **line);

#endif
