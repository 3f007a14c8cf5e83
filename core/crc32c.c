/* CRC32C (Castagnoli, RFC 3720): the SSE4.2 instruction where there is one, slicing by 8 elsewhere;
 * same values. */
#include <pthread.h>
#include <string.h>

#include "core/fs.h"

static uint32_t table[8][256];

static void make_table(void)
{
    for (uint32_t i = 0; i < 256; i++) {
        uint32_t c = i;
        for (int k = 0; k < 8; k++) c = (c >> 1) ^ (0x82F63B78u & (0u - (c & 1u)));
        table[0][i] = c;
    }
    for (uint32_t i = 0; i < 256; i++)
        for (int t = 1; t < 8; t++)
            table[t][i] = (table[t - 1][i] >> 8) ^ table[0][table[t - 1][i] & 255u];
}

static uint32_t crc_table(uint32_t c, const unsigned char *p, size_t n)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, make_table);
    for (; n >= 8; n -= 8, p += 8) {
        uint32_t low, high;
        memcpy(&low, p, 4);
        memcpy(&high, p + 4, 4);
        low ^= c;
        c = table[7][low & 255u] ^ table[6][(low >> 8) & 255u] ^ table[5][(low >> 16) & 255u] ^
            table[4][low >> 24] ^ table[3][high & 255u] ^ table[2][(high >> 8) & 255u] ^
            table[1][(high >> 16) & 255u] ^ table[0][high >> 24];
    }
    for (; n > 0; n--, p++) c = (c >> 8) ^ table[0][(c ^ *p) & 255u];
    return c;
}

#if defined(__x86_64__)
__attribute__((target("sse4.2"))) static uint32_t crc_sse42(uint32_t c, const unsigned char *p,
                                                            size_t n)
{
    uint64_t wide = c;
    for (; n >= 8; n -= 8, p += 8) {
        uint64_t word;
        memcpy(&word, p, 8);
        wide = __builtin_ia32_crc32di(wide, word);
    }
    c = (uint32_t)wide;
    for (; n > 0; n--, p++) c = __builtin_ia32_crc32qi(c, *p);
    return c;
}
#endif

uint32_t lcl_crc32c(uint32_t crc, const void *data, size_t size)
{
#if defined(__x86_64__)
    if (__builtin_cpu_supports("sse4.2")) return ~crc_sse42(~crc, data, size);
#endif
    return ~crc_table(~crc, data, size);
}

/* Appending zero bytes is linear over GF(2): a 32 x 32 matrix of bits, whose columns are what it
 * makes of each bit of the register (zlib's crc32_combine; Adler). */
static uint32_t times(const uint32_t *m, uint32_t x)
{
    uint32_t sum = 0;
    for (; x; x >>= 1, m++)
        if (x & 1u) sum ^= *m;
    return sum;
}

static void square(uint32_t *out, const uint32_t *m)
{
    for (int i = 0; i < 32; i++) out[i] = times(m, m[i]);
}

/* [k]: of 2^k zero bytes. */
static uint32_t zeros[64][32];

static void make_zeros(void)
{
    uint32_t bit[32], twice[32]; /* of one zero bit, of two */
    bit[0] = 0x82F63B78u;
    for (int i = 1; i < 32; i++) bit[i] = 1u << (i - 1);
    square(twice, bit);
    square(bit, twice);
    square(zeros[0], bit);
    for (int k = 1; k < 64; k++) square(zeros[k], zeros[k - 1]);
}

uint32_t lcl_crc32c_combine(uint32_t first, uint32_t second, uint64_t second_bytes)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, make_zeros);
    for (int k = 0; second_bytes; second_bytes >>= 1, k++)
        if (second_bytes & 1u) first = times(zeros[k], first);
    return first ^ second;
}
