/* A run's folder: a written checkpoint put in place, the links to it, what is kept. Internal to
 * checkpoint/. */
#ifndef LCL_CHECKPOINT_CKPT_FOLDER_H
#define LCL_CHECKPOINT_CKPT_FOLDER_H

#include "core/status.h"

/* By errno: "cannot WHAT PATH: reason". */
LCL_CHECKED lcl_status lcl_folder_fail(const char *what, const char *path);
/* Renames the written folder into place. One of the same step is exchanged for it in one call, so
 * that at no instant neither is there; it is then removed with the other temporary folders. */
LCL_CHECKED lcl_status lcl_folder_put_in_place(const char *output_dir, const char *temporary,
                                               const char *final);
/* Points output_dir/name at a checkpoint, in one rename. */
LCL_CHECKED lcl_status lcl_folder_set_link(const char *output_dir, const char *name,
                                           const char *target);
/* What an interrupted save, or an interrupted removal, left, and what was set aside. */
LCL_CHECKED lcl_status lcl_folder_remove_temporaries(const char *output_dir);
/* All but the `keep` newest and the best get names of temporary folders, which the function above
 * removes. Those whose manifest cannot be read are not counted. */
LCL_CHECKED lcl_status lcl_folder_set_old_aside(const char *output_dir, int64_t keep);
/* Of the next save: one more than any before. */
LCL_CHECKED lcl_status lcl_folder_next_serial(const char *output_dir, int64_t *serial);

#endif
