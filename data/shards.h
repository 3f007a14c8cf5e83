/* Lists of tar archives as people write them: a folder's, or patterns. */
#ifndef LCL_DATA_SHARDS_H
#define LCL_DATA_SHARDS_H

#include "data/pack_source.h"

/* Adds to the listing's archives what `images` means: a folder (every *.tar in it, by name), an
 * archive, a pattern as DIR/shard-{0000..0009}.tar or {a,b}, or several of these with :: between.
 * Archives are not opened, and need not be there. LCL_NOT_FOUND for a folder without one,
 * LCL_CONFIG for a range that is none, LCL_RANGE over 2^17. */
LCL_CHECKED lcl_status lcl_shards_list(struct lcl_listing *l, const char *images);
/* Bytes that the archives' paths begin with alike, up to a '/'; there is one or more. */
size_t lcl_shards_common(const struct lcl_listing *l);
/* Of a WebDataset shard: length of the sample's name that a file's begins with, up to the first
 * full stop of its last part; 0 for what is no sample's, as __meta__. */
size_t lcl_shards_key(const char *name);
/* Whether a file or folder is there, or the first archive of a pattern. */
bool lcl_shards_exist(const char *images);

#endif
