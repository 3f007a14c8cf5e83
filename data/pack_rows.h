/* Packs of rows: a table of a data set and the pictures that it names (docs/formats.md). */
#ifndef LCL_DATA_PACK_ROWS_H
#define LCL_DATA_PACK_ROWS_H

#include "data/conversation.h"
#include "data/pack.h"
#include "data/rows.h"

/* What lcl_pack_create does for a format of rows.h: reads options->table twice, once for the names
 * of its pictures and, when these were read, for its rows. */
LCL_CHECKED lcl_status lcl_pack_rows(const struct lcl_pack_options *options,
                                     const struct lcl_row_format *format);

/* Row `row` of a pack as a conversation; its pictures' numbers begin at first_picture. LCL_FORMAT
 * names pack, row and key. */
LCL_CHECKED lcl_status lcl_pack_conversation(const struct lcl_pack *pack, int64_t row,
                                             int64_t first_picture, struct lcl_conversation *c,
                                             json_t **owner);
/* Releases it, and what it points into. */
void lcl_pack_conversation_free(struct lcl_conversation *c, json_t *owner);

#endif
