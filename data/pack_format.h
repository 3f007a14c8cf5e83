/* Names inside a pack: what pack_write.c writes and pack_read.c reads (docs/formats.md). */
#ifndef LCL_DATA_PACK_FORMAT_H
#define LCL_DATA_PACK_FORMAT_H

#define LCL_PACK_MAGIC "lcl-pack"
#define LCL_PACK_BYTES "/images/bytes"          /* u8: files or pixels end to end */
#define LCL_PACK_OFFSET "/images/offset"        /* u64 [n + 1] */
#define LCL_PACK_CRC "/images/crc32c"           /* i32 [n]: the bits of each picture's checksum */
#define LCL_PACK_CLASS "/images/class"          /* i32 [n] */
#define LCL_PACK_SHAPE "/images/shape"          /* i32 [n, 3]: width, height, channels */
#define LCL_PACK_NAMES "/images/names"          /* u8: NUL-terminated, end to end */
#define LCL_PACK_CLASS_IDS "/classes/ids"       /* u8: the same */
#define LCL_PACK_CLASS_NAMES "/classes/names"   /* u8: the same */
#define LCL_PACK_CLASS_SPLIT "/classes/split"   /* u8 [C]: 0 train, 1 test */
#define LCL_PACK_SKIPPED_NAMES "/skipped/names" /* u8: bad files that were left out */
#define LCL_PACK_SKIPPED_REASONS "/skipped/reasons"
#define LCL_PACK_ROW_BYTES "/rows/bytes"   /* u8: JSON texts end to end */
#define LCL_PACK_ROW_OFFSET "/rows/offset" /* u64 [rows + 1] */
#define LCL_PACK_ROW_CRC "/rows/crc32c"    /* i32 [rows] */

#endif
