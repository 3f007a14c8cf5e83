/* manifest.json of a checkpoint folder, and the list of a run's checkpoints. Internal to
 * checkpoint/. */
#ifndef LCL_CHECKPOINT_CKPT_MANIFEST_H
#define LCL_CHECKPOINT_CKPT_MANIFEST_H

#include "checkpoint/ckpt.h"
#include "core/h5.h"

#define LCL_CHECKPOINT_MAGIC "lcl-checkpoint"
#define LCL_CHECKPOINT_STATE "state.h5"
#define LCL_CHECKPOINT_MANIFEST "manifest.json"

/* Writes dir/manifest.json over the closed dir/state.h5. */
LCL_CHECKED lcl_status lcl_manifest_write(const char *dir, int64_t step, int64_t serial);
/* Manifest, version, size and CRC32C: LCL_CORRUPT naming what is damaged (the dataset too where
 * that can be told), LCL_VERSION, LCL_NOT_FOUND where a file is missing. */
LCL_CHECKED lcl_status lcl_manifest_verify(const char *dir);

/* One checkpoint-STEP folder of a run. */
struct lcl_checkpoint_entry {
    char name[48];
    int64_t step;
    int64_t serial; /* counts the saves of a run; INT64_MAX where the manifest cannot be read */
};
/* Newest first: by serial, so that a run that went back to an earlier step goes on from where it
 * last was. *entries malloc'd. No folder: an empty list. */
LCL_CHECKED lcl_status lcl_checkpoint_entries(const char *output_dir,
                                              struct lcl_checkpoint_entry **entries, size_t *n);

/* Opens dir/state.h5 and checks format and version. */
LCL_CHECKED lcl_status lcl_checkpoint_open_state(const char *dir, struct lcl_h5 *f);

#endif
