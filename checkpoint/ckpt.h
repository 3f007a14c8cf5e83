/* Training checkpoints: output_dir/checkpoint-STEP/ with state.h5 (parameters, AdamW moments, run
 * state, model config) and manifest.json (version, sizes, checksums). docs/formats.md has the
 * layout.
 *
 * A checkpoint is written as checkpoint-STEP.tmp, synced and renamed into place, so that at any
 * instant the folder holds either the whole of it or nothing of it. Every byte is under a CRC32C:
 * each dataset's, the file's in the manifest, and the manifest's own. HDF5: call from one thread.
 */
#ifndef LCL_CHECKPOINT_CKPT_H
#define LCL_CHECKPOINT_CKPT_H

#include "core/param.h"
#include "model/config.h"

enum { LCL_CHECKPOINT_FORMAT_VERSION = 1, LCL_CHECKPOINT_PATH_BYTES = 512 };

struct lcl_run_state {
    int64_t step; /* optimizer steps since the run began, over all stages: names the folder */
    int64_t stage, stage_step, epoch;
    int64_t sample; /* sample counter of the stage */
    int64_t tokens; /* seen so far */
    uint64_t seed;
    double best_metric;      /* NAN: none yet */
    const char *config_yaml; /* resolved config; NULL: "" */
    const char *extra_json;  /* anything the trainer wants back; NULL: "" */
    /* The neighbor table that training draws from, where it was made anew (lcl_neighbors.index);
     * NULL: it is the data's. */
    const int32_t *neighbors;
    int64_t neighbor_classes, neighbor_width;
};
/* What a load gives back: `state`'s strings and table point at the owned ones. The table's shape
 * fits its number of entries; what they are is for the caller to check. */
struct lcl_run_state_loaded {
    struct lcl_run_state state;
    char *config_yaml, *extra_json;
    int32_t *neighbors;
    bool has_optimizer;
};
void lcl_run_state_free(struct lcl_run_state_loaded *s);

/* Ranks that save, or load, one checkpoint: all of them call, each with its own table. A rank
 * writes its own elements of every row (lcl_comm_cut), wherever its arrays hold more; moments may
 * be of these alone. The folder has to be on a file system that all ranks see. */
struct lcl_comm;
struct lcl_checkpoint_share {
    struct lcl_comm *comm; /* NULL: a single rank */
    bool values;           /* loading: own elements of values alone, not whole rows */
};

struct lcl_checkpoint_options {
    int64_t keep; /* save_total_limit: most recently written ones kept, the best besides; 0: all */
    bool is_best; /* links `best` to it */
    bool with_optimizer; /* m and v too; t->m must not be NULL */
    bool async;          /* a thread writes a snapshot while the caller goes on */
    struct lcl_checkpoint_share share;
};

/* Writes output_dir/checkpoint-<step>/, then links `last` (and `best`), then removes what is over
 * `keep`. An error (full disk, no permission, ...) leaves every earlier checkpoint as it was. One
 * of the same step is replaced. `async` does nothing here. */
LCL_CHECKED lcl_status lcl_checkpoint_save(const char *output_dir, const struct lcl_run_state *s,
                                           const struct lcl_params *t,
                                           const struct lcl_model_config *m,
                                           const struct lcl_checkpoint_options *options);

/* The same in two halves, for a run: it keeps the snapshot's memory from save to save. */
struct lcl_checkpoint_saver;
LCL_CHECKED lcl_status lcl_checkpoint_saver_open(struct lcl_checkpoint_saver **s);
/* Ends the save before it, lays the file out, and returns once values and moments may change
 * (without `async`: once all is done). t stays where it is until the save's end. */
LCL_CHECKED lcl_status lcl_checkpoint_begin(struct lcl_checkpoint_saver *s, const char *output_dir,
                                            const struct lcl_run_state *run,
                                            const struct lcl_params *t,
                                            const struct lcl_model_config *m,
                                            const struct lcl_checkpoint_options *options);
/* Of a save that was begun and is not yet a checkpoint. */
bool lcl_checkpoint_is_saving(const struct lcl_checkpoint_saver *s);
/* Between two steps, on all ranks: puts the checkpoint in its place if all have written their part;
 * else does nothing. The writer's error comes from here. HDF5 is called here and in the two around,
 * never by the writer. */
LCL_CHECKED lcl_status lcl_checkpoint_poll(struct lcl_checkpoint_saver *s);
/* Waits for it. Nothing where no save is under way. */
LCL_CHECKED lcl_status lcl_checkpoint_finish(struct lcl_checkpoint_saver *s);
/* Seconds that callers have spent in the three above: training stood still for them. */
double lcl_checkpoint_stalled_s(const struct lcl_checkpoint_saver *s);
/* What was not finished is given up. NULL is fine. */
void lcl_checkpoint_saver_close(struct lcl_checkpoint_saver *s);

/* Path of a checkpoint folder whose checksums hold. Given a run folder: the one written last;
 * damaged ones are passed over with a warning that names them. Given a checkpoint folder, or a link
 * to one: itself, or LCL_CORRUPT. LCL_NOT_FOUND where there is none, LCL_VERSION (never passed
 * over) for one of another format version. */
LCL_CHECKED lcl_status lcl_checkpoint_find(const char *output_dir_or_checkpoint, char *path,
                                           size_t size);
/* The first rank looks, all get its answer; the same `size` on all. */
LCL_CHECKED lcl_status lcl_checkpoint_find_shared(struct lcl_comm *comm,
                                                  const char *output_dir_or_checkpoint, char *path,
                                                  size_t size);
/* True where the folder is, or holds, a checkpoint, good or not. */
bool lcl_checkpoint_is_folder(const char *path);

/* `path` of the four below: what lcl_checkpoint_find gave. */
LCL_CHECKED lcl_status lcl_checkpoint_load_config(const char *path, struct lcl_model_config *m);
/* Run state alone. */
LCL_CHECKED lcl_status lcl_checkpoint_load_state(const char *path, struct lcl_run_state_loaded *s);
/* Every row of the table, with_optimizer: m and v too; what the file keeps in another type is
 * converted, and said; LCL_SHAPE listing what is missing, misshapen
 * or left over, and then nothing is changed. state may be NULL. */
LCL_CHECKED lcl_status lcl_checkpoint_load(const char *path, struct lcl_params *t,
                                           bool with_optimizer, struct lcl_run_state_loaded *state);

/* The same on ranks, all of which call it with tables of one model. The first rank alone calls
 * HDF5; each reads values (whole, or with share->values its own elements), and of moments what its
 * table has; checksums of what no rank reads as a whole are put together. The same error on all
 * ranks. */
LCL_CHECKED lcl_status lcl_checkpoint_load_shared(const char *path, struct lcl_params *t,
                                                  bool with_optimizer,
                                                  const struct lcl_checkpoint_share *share,
                                                  struct lcl_run_state_loaded *state);

/* What a load of parts did. */
struct lcl_load_report {
    int n_loaded, n_missing;
    char missing[1024]; /* names of rows that the file lacks, cut short with ", ..." */
};
/* Values of the rows whose part is in `parts` (bits 1 << enum lcl_part). Rows that the file lacks
 * stay as they are and are listed in *report; with report NULL they are LCL_NOT_FOUND. Misshapen
 * ones are LCL_SHAPE; then nothing is changed. */
LCL_CHECKED lcl_status lcl_checkpoint_load_parts(const char *path, struct lcl_params *t,
                                                 unsigned parts, struct lcl_load_report *report);

/* For `lcl inspect`: rows of the file in its order of names. */
struct lcl_checkpoint_row {
    char name[LCL_PARAM_NAME_BYTES];
    enum lcl_part part;
    int n_dims;
    int64_t shape[LCL_PARAM_MAX_DIMS];
    lcl_dtype dtype; /* f32, bf16, q8_0 or q4_0 */
    bool trainable, has_moments;
    lcl_dtype moments; /* f32, bf16, or u8: codes */
};
/* *rows malloc'd. */
LCL_CHECKED lcl_status lcl_checkpoint_list(const char *path, struct lcl_checkpoint_row **rows,
                                           int *n_rows);

#endif
