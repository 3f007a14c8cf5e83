/* WebDataset shards whose samples are a picture and its caption, as img2dataset writes them: read
 * as rows {"image": SHARD/MEMBER, "caption": text}, one sample in memory at a time. */
#ifndef LCL_DATA_SHARD_CAPTIONS_H
#define LCL_DATA_SHARD_CAPTIONS_H

#include <jansson.h>

#include "data/pack_source.h"

struct lcl_shard_captions {
    const char *shard;             /* of the row read last: its path */
    int64_t sample;                /* and its number in the shard, from 1 */
    struct lcl_source_file member; /* where its picture lies; no name */
    int64_t n_other;               /* so far: files of no use, samples without a picture */
    void *impl;
};

/* l: its archives are the shards, and must outlive *c. key: that of captions in .json, where .txt
 * is then not read; NULL: .txt, else "caption", "captions", "text" or "TEXT" of .json. A list of
 * texts is a row each. Lists no shard before it is its turn. */
LCL_CHECKED lcl_status lcl_shard_captions_open(struct lcl_shard_captions *c,
                                               const struct lcl_listing *l, const char *key);
/* The next row, which the caller releases; NULL behind the last. LCL_FORMAT names shard, sample and
 * byte; *mended is set where the next row can be read all the same: of a sample without a caption,
 * with two pictures, or with a caption that is empty, no UTF-8 or over 64 KiB. */
LCL_CHECKED lcl_status lcl_shard_captions_next(struct lcl_shard_captions *c, json_t **row,
                                               bool *mended);
void lcl_shard_captions_close(struct lcl_shard_captions *c);

#endif
