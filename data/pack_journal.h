/* OUT.partial: what a packing has read so far, record by record, so that it goes on where it was
 * stopped.
 *
 * Records lie in the order of the listing. Each carries its own checksum: a record that a kill cut
 * short is found and cut off, and the work goes on from there. */
#ifndef LCL_DATA_PACK_JOURNAL_H
#define LCL_DATA_PACK_JOURNAL_H

#include "data/pack_source.h"

enum lcl_item_state {
    LCL_ITEM_OK = 1,
    LCL_ITEM_BAD = 2,     /* payload: the reason */
    LCL_ITEM_UNWANTED = 3 /* the source's rule leaves it out */
};

struct lcl_item {
    enum lcl_item_state state;
    int width, height, channels;
    unsigned char md5[16]; /* of the file's bytes */
    uint32_t payload_crc;
    uint64_t payload_bytes;
    int64_t offset; /* of the payload in the journal */
};

struct lcl_journal {
    int fd;
    char *path;
    int64_t end; /* bytes that hold */
};

/* Opens or makes OUT.partial. Records that belong to the first files of the listing, under the same
 * options, are kept: items[0 .. *kept). Others are cut off. LCL_EXISTS while another program packs
 * to the same place. */
LCL_CHECKED lcl_status lcl_journal_open(const char *out, const struct lcl_pack_options *options,
                                        const struct lcl_listing *l, struct lcl_item *items,
                                        int64_t *kept, struct lcl_journal *j);
/* Appends the record of `file`; sets item->offset and payload_crc. */
LCL_CHECKED lcl_status lcl_journal_append(struct lcl_journal *j, const struct lcl_source_file *file,
                                          struct lcl_item *item, const void *payload);
LCL_CHECKED lcl_status lcl_journal_read(const struct lcl_journal *j, const struct lcl_item *item,
                                        void *payload);
/* Closes; with `remove` the file goes. */
void lcl_journal_close(struct lcl_journal *j, bool remove);

#endif
