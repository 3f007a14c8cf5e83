/* Rows of packs, for people. */
#ifndef LCL_TOOLS_INSPECT_ROWS_H
#define LCL_TOOLS_INSPECT_ROWS_H

#include "core/config.h"
#include "data/conversation.h"
#include "data/pack.h"
#include "tools/inspect_page.h"
#include "train/mixture.h"

/* The first n rows of a pack: text in the chat format of `c`, what is learned between [[ and ]],
 * pictures' names, boxes. json: a line each. sheet: where a page of them is written
 * (inspect_page.h), or NULL. */
LCL_CHECKED lcl_status inspect_rows(const char *path, const struct lcl_config *c, int64_t n,
                                    bool json, const char *sheet);
/* The first n samples that stage number `epoch`, with data.sources, trains on: which are episodes,
 * and the rows of the others. */
LCL_CHECKED lcl_status inspect_mixture(const struct lcl_config *c, uint32_t epoch, int64_t n,
                                       bool json, const char *sheet);
/* The strategy of a sample that is an episode: the one that its source names, else the config's. */
const char *inspect_strategy(const struct lcl_config *c, const struct lcl_mixture *m,
                             uint64_t sample);
/* Row `row` of a pack on a page, as sample number `sample` (-1: none). */
LCL_CHECKED lcl_status inspect_row_on_page(struct inspect_page *page,
                                           const struct lcl_conversation_rules *rules,
                                           struct lcl_pack *pack, int64_t row, int64_t sample);

#endif
