/* `lcl inspect CONFIG --episodes N`: the first training episodes of a config. */
#ifndef LCL_TOOLS_INSPECT_EPISODES_H
#define LCL_TOOLS_INSPECT_EPISODES_H

#include "core/status.h"

struct lcl_config;

struct inspect_request {
    int64_t n; /* episodes of the run from from_step on; those of other ranks are left out */
    int64_t from_step;   /* of the stage, as after a resume */
    int64_t rank, world; /* 0 and 1: all of them */
    uint32_t epoch;      /* number of the stage */
    bool json;           /* lines of JSON; else text for people */
    const char *sheet;   /* where a page of them is written (inspect_page.h), or NULL */
};

/* Prints training episodes to standard output. Opens the pack's index or the table, the neighbor
 * table and the tokenizer; pictures for a page alone. With data.images: none JSON lines have no
 * tokens. */
LCL_CHECKED lcl_status inspect_episodes(const struct lcl_config *config,
                                        const struct inspect_request *r);

#endif
