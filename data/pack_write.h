/* Second half of packing: from the journal to the HDF5 file. */
#ifndef LCL_DATA_PACK_WRITE_H
#define LCL_DATA_PACK_WRITE_H

#include "data/pack_journal.h"

/* Reads the pictures of a listing and packs them (lcl_pack_create, from there on). */
LCL_CHECKED lcl_status lcl_pack_listing(const struct lcl_pack_options *o,
                                        const struct lcl_listing *l);

/* Writes the pictures whose keep[i] is set, and the classes that have any, beside `out`, then
 * renames into place. */
LCL_CHECKED lcl_status lcl_pack_write(const struct lcl_pack_options *options,
                                      const struct lcl_listing *l, const struct lcl_item *items,
                                      const bool *keep, const struct lcl_journal *j);

#endif
