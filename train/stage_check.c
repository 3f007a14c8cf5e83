#include "train/stage_check.h"

#include <string.h>

lcl_status lcl_stages_check(const struct lcl_env *e, const struct lcl_run_config *run)
{
    const struct lcl_neighbors *neighbors = e->has_neighbors ? &e->neighbors : NULL;
    for (int i = 0; i < run->n_stages; i++) {
        const struct lcl_config *c = &run->stages[i], *first = &run->stages[0];
        struct lcl_config eval = *c;
        struct lcl_sampler sampler;
        eval.data_queries = 1;
        if (c->optim != first->optim || c->master_weights != first->master_weights ||
            c->zero != first->zero || c->lora_rank != first->lora_rank ||
            c->lora_alpha != first->lora_alpha ||
            strcmp(c->lora_targets, first->lora_targets) != 0 ||
            strcmp(c->lora_adapter, first->lora_adapter) != 0 || c->lora_base != first->lora_base)
            return LCL_FAIL_HINT(LCL_CONFIG, "set them outside of stages",
                                 "stage %s has optim, master_weights, zero or lora.* of its own",
                                 c->stage_name);
        if (strcmp(c->data_table, first->data_table) != 0 ||
            strcmp(c->data_images, first->data_images) != 0 ||
            c->data_reading != first->data_reading)
            return LCL_FAIL_HINT(LCL_CONFIG, "set them outside of stages",
                                 "stage %s has data.table, data.images or data.reading of its own",
                                 c->stage_name);
        if (c->task != LCL_TASK_LANGUAGE && strcmp(c->data_images, "none") == 0)
            return LCL_FAIL_HINT(LCL_CONFIG,
                                 "set data.images: pack, or the folder of data.table's "
                                 "pictures; without them, lcl inspect CONFIG --episodes N prints "
                                 "what training would draw",
                                 "data.images: none leaves no pictures to train on");
        if (c->task != LCL_TASK_LINK_CONTEXT) continue;
        if (c->data_strategy == LCL_ANY_SHOT) {
            struct lcl_row_sources sources;
            LCL_TRY(lcl_row_sources_parse(&sources, c));
            lcl_row_sources_close(&sources);
            LCL_TRY(lcl_any_shot_check_eval(c, &e->pack, neighbors));
            continue;
        }
        LCL_TRY(lcl_samplers_check(c, &e->pack, neighbors));
        if (c->eval_steps == 0) continue;
        LCL_TRY(lcl_sampler_init_capped(&sampler, &eval, &e->pack, neighbors,
                                        (enum lcl_split)c->eval_split));
        lcl_sampler_free(&sampler);
    }
    return LCL_OK;
}
