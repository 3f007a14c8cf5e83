#include "core/ops.h"

int64_t lcl_image_pool_tokens(enum lcl_image_pool_kind kind, int64_t T, int64_t first_token)
{
    int64_t n = T - first_token, side = 1;
    if (n <= 0 || first_token < 0) return 0;
    switch (kind) {
    case LCL_POOL_NONE:
        return n;
    case LCL_POOL_MEAN:
        return 1;
    case LCL_POOL_2X2:
        while (side * side < n) side++;
        return side * side == n && side % 2 == 0 ? 4 : 0;
    }
    return 0;
}

int64_t lcl_segment_tiles(const struct lcl_segment *segment_N, int64_t N, int64_t tile,
                          int64_t *first_N1)
{
    first_N1[0] = 0;
    for (int64_t s = 0; s < N; s++)
        first_N1[s + 1] = first_N1[s] + (segment_N[s].count + tile - 1) / tile;
    return first_N1[N];
}
