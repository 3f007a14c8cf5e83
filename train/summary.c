#include "train/summary.h"

#include "core/log.h"

void lcl_summary_print_trainable(const struct lcl_model *m)
{
    lcl_log_info("  %-10s %14s %14s", "part", "parameters", "trainable");
    for (int part = 0; part < LCL_PART_COUNT; part++) {
        long long total = 0, trainable = 0;
        for (int i = 0; i < m->params.n_rows; i++) {
            const struct lcl_param *p = &m->params.rows[i];
            if ((int)p->part != part) continue;
            total += (long long)p->count;
            if (lcl_param_moves(p)) trainable += (long long)p->count;
        }
        if (total > 0)
            lcl_log_info("  %-10s %14lld %14lld", lcl_part_name((enum lcl_part)part), total,
                         trainable);
    }
}
