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
