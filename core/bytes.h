/* Numbers in files, byte by byte. */
#ifndef LCL_CORE_BYTES_H
#define LCL_CORE_BYTES_H

#include <stddef.h>
#include <stdint.h>

/* The unsigned little-endian number of n bytes (0..8) at p, at any alignment. */
static inline uint64_t lcl_little_endian(const unsigned char *p, size_t n)
{
    uint64_t x = 0;
    while (n-- > 0) x = x << 8 | p[n];
    return x;
}

#endif
