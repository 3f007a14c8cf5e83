/* MD5 (RFC 1321): names and contents to numbers that are the same on every machine; no protection
 * against forgery. */
#ifndef LCL_DATA_MD5_H
#define LCL_DATA_MD5_H

#include <stddef.h>
#include <stdint.h>

struct lcl_md5 {
    uint32_t state[4];
    uint64_t size; /* bytes so far */
    unsigned char block[64];
};

void lcl_md5_begin(struct lcl_md5 *m);
void lcl_md5_update(struct lcl_md5 *m, const void *data, size_t size);
void lcl_md5_end(struct lcl_md5 *m, unsigned char digest[16]);
void lcl_md5_of(const void *data, size_t size, unsigned char digest[16]);
void lcl_md5_hex(const unsigned char digest[16], char hex[33]);
/* The digest as one big-endian number, modulo n. */
uint32_t lcl_md5_mod(const unsigned char digest[16], uint32_t n);

#endif
