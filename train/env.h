/* What a verb opens before it works: threads, backend, pack, neighbor table, tokenizer, model. */
#ifndef LCL_TRAIN_ENV_H
#define LCL_TRAIN_ENV_H

#include "data/episode.h"
#include "data/image.h"
#include "model/model.h"
#include "train/mixture.h"

struct lcl_env {
    struct lcl_comm *comm; /* the ranks', of which this is one; NULL: a single one */
    struct lcl_exec exec;
    bool one_at_a_time;   /* ops: exec is a GPU, or stands for one in a plan */
    struct lcl_pack pack; /* n_classes 0: none was opened */
    struct lcl_neighbors neighbors;
    struct lcl_neighbors refreshed; /* data.refresh_neighbors: made of the model's own features;
                                       n_classes 0: none was */
    bool has_pack, has_neighbors;
    struct lcl_row_sources sources; /* packs of data.sources, of the stage at work */
    struct lcl_tokenizer *tokenizer;
    struct lcl_model model;
    bool has_model;
    struct lcl_preprocess preprocess; /* of the model's pictures */
    int32_t *class_label; /* [pack.n_classes] number of a train class among the train classes, -1
                             for others */
    int32_t n_train_classes;
    /* Of the run, before its model is shaped: rows that none of them moves get no moments. */
    const struct lcl_config *stages;
    int n_stages;         /* 0: any row may move */
    bool save_at_once;    /* there is no memory for snapshots of checkpoints: lcl_plan_check() */
    double program_bytes; /* resident before the first model: libraries, tokenizer, indices */
};

/* Starts threads and picks the backend. */
LCL_CHECKED lcl_status lcl_env_start(struct lcl_env *e, const struct lcl_config *c);
/* Opens data.pack, or data.table with data.images and its neighbors. */
LCL_CHECKED lcl_status lcl_env_open_pack(struct lcl_env *e, const struct lcl_config *c);
/* lcl_env_open_pack, and the neighbor table: data.neighbors, else data.table's own, else the one
 * that lies beside the pack (PACK.neighbors.h5). */
LCL_CHECKED lcl_status lcl_env_open_data(struct lcl_env *e, const struct lcl_config *c);
/* Stages that count in passes over the train pictures (num_train_epochs): their max_steps, where
 * pictures are open. */
void lcl_env_count_epochs(const struct lcl_env *e, struct lcl_run_config *run);
/* Opens the packs of data.sources; those that are open for the same text stay. */
LCL_CHECKED lcl_status lcl_env_open_sources(struct lcl_env *e, const struct lcl_config *c);
/* Tokenizer and model of a new run: from init_from where given, else from the config.
 * with_classifier: rows for the train classes. */
LCL_CHECKED lcl_status lcl_env_make_model(struct lcl_env *e, const struct lcl_config *c,
                                          bool with_classifier);
/* The same tokenizer and parameter table, without values or memory for them: for plans. */
LCL_CHECKED lcl_status lcl_env_shape_model(struct lcl_env *e, const struct lcl_config *c,
                                           bool with_classifier);
/* Tokenizer and model of a run folder, a checkpoint or an HF folder, for inference. Pictures are
 * prepared as the config says; those of an HF folder as its preprocessor_config.json does, but for
 * what was given (config's *_given). */
LCL_CHECKED lcl_status lcl_env_load_model(struct lcl_env *e, const char *path,
                                          const struct lcl_config *c);
/* config.yaml of the run that `path` is, or is a checkpoint of; the defaults for an HF folder.
 * overrides as lcl_config_load. */
LCL_CHECKED lcl_status lcl_env_run_config(const char *path, const char *const *overrides, int n,
                                          struct lcl_config *c);
/* For plans and draws, which need none of them: init_from, init_vision_from, tokenizer,
 * data.template and the folder data.images are taken out of all stages where they are not there,
 * with a notice. The config's own shapes and a small tokenizer stand for them. */
void lcl_env_forget_missing(struct lcl_run_config *run);
/* The table that training draws from: the refreshed one, else the data's; NULL: there is none.
 * Evaluations draw from the data's. */
const struct lcl_neighbors *lcl_env_training_neighbors(const struct lcl_env *e);
void lcl_env_close(struct lcl_env *e);

/* "R,G,B" to bytes; LCL_CONFIG. */
LCL_CHECKED lcl_status lcl_parse_background(const char *text, uint8_t rgb[3]);

/* True where lanes should run one a thread (small models), rather than each op over all threads. */
bool lcl_env_lanes_in_parallel(const struct lcl_env *e, int64_t lanes);

#endif
