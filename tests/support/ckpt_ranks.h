/* Tables of every kind, saved and loaded by ranks that are threads. */
#ifndef LCL_TESTS_CKPT_RANKS_H
#define LCL_TESTS_CKPT_RANKS_H

#include "checkpoint/ckpt.h"
#include "core/comm.h"

enum { CKPT_ROWS = 5, CKPT_KINDS = 3 * 4 };
struct ckpt_table {
    struct lcl_params params;
    struct lcl_arena values, moments;
};

/* Room for values and moments, all 0. */
lcl_status ckpt_table_reserve(struct ckpt_table *t);
/* Of any kind by its number: f32, bf16 or 8-bit moments; f32, halves, bf16 or blocks for values.
 * Rows of less than a piece that ranks share, of some, and of many; one never trains. */
lcl_status ckpt_table_make(struct ckpt_table *t, int kind);
/* The same on one of several ranks, with moments of its own elements alone (zero: 1 and above). */
lcl_status ckpt_table_make_share(struct ckpt_table *t, int kind, int rank, int size);
void ckpt_table_fill(struct ckpt_table *t, uint64_t noise);
void ckpt_table_free(struct ckpt_table *t);

struct ckpt_task {
    const char *dir;
    int step, kind;
    bool async;
    bool shared;              /* moments lie with their owners, in tables of the ranks' own */
    bool values;              /* loading: of values, too, own elements alone */
    struct ckpt_table *table; /* that all ranks have */
};
/* Begins a save of the task's table. */
lcl_status ckpt_begin(struct lcl_checkpoint_saver *s, struct lcl_comm *c,
                      const struct ckpt_task *k);
/* For fake_ranks(), ctx being a task: a whole save, polled to its end; a load of what is newest in
 * its folder, compared with its table. */
lcl_status ckpt_save(struct lcl_comm *c, void *ctx);
lcl_status ckpt_load(struct lcl_comm *c, void *ctx);

#endif
