#include "cuda/tensor_map.cuh"

#include <string.h>

#if defined(__CUDACC__)
#include <cuda.h>

typedef CUresult (*encode_fn)(CUtensorMap *, CUtensorMapDataType, cuuint32_t, void *,
                              const cuuint64_t *, const cuuint64_t *, const cuuint32_t *,
                              const cuuint32_t *, CUtensorMapInterleave, CUtensorMapSwizzle,
                              CUtensorMapL2promotion, CUtensorMapFloatOOBfill);

/* From the driver that is there at run time, so that the program links without one. */
static lcl_status encoder(encode_fn *out)
{
    static encode_fn found;
    if (!found) {
        void *f = NULL;
        cudaDriverEntryPointQueryResult result;
#if CUDART_VERSION >= 12050
        LCL_CUDA_TRY(cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &f, 12000,
                                                      cudaEnableDefault, &result));
#else
        LCL_CUDA_TRY(
            cudaGetDriverEntryPoint("cuTensorMapEncodeTiled", &f, cudaEnableDefault, &result));
#endif
        if (result != cudaDriverEntryPointSuccess || !f)
            return LCL_FAIL_HINT(LCL_UNSUPPORTED, "update the driver, or set attention: mma",
                                 "the driver has no cuTensorMapEncodeTiled");
        found = (encode_fn)f;
    }
    *out = found;
    return LCL_OK;
}

lcl_status tensor_map_make(tensor_map *m, const void *base, int64_t D, int64_t heads, int64_t rows,
                           int64_t stride, int panel, int box_rows)
{
    static_assert(sizeof(tensor_map) == sizeof(CUtensorMap), "the driver's size");
    encode_fn encode = NULL;
    LCL_TRY(encoder(&encode));
    const cuuint64_t size[3] = {(cuuint64_t)D, (cuuint64_t)heads, (cuuint64_t)rows};
    const cuuint64_t strides[2] = {(cuuint64_t)D * sizeof(bf16), (cuuint64_t)stride * sizeof(bf16)};
    const cuuint32_t box[3] = {(cuuint32_t)panel, 1, (cuuint32_t)box_rows}, step[3] = {1, 1, 1};
    const CUtensorMapSwizzle swizzle = panel == 64   ? CU_TENSOR_MAP_SWIZZLE_128B
                                       : panel == 32 ? CU_TENSOR_MAP_SWIZZLE_64B
                                                     : CU_TENSOR_MAP_SWIZZLE_32B;
    const CUresult e =
        encode((CUtensorMap *)m, CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, 3, (void *)(uintptr_t)base, size,
               strides, box, step, CU_TENSOR_MAP_INTERLEAVE_NONE, swizzle,
               CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
    if (e != CUDA_SUCCESS)
        return LCL_FAIL(LCL_INTERNAL,
                        "tensor map of %lld x %lld x %lld, stride %lld: driver's error %d",
                        (long long)rows, (long long)heads, (long long)D, (long long)stride, (int)e);
    return LCL_OK;
}

#else

lcl_status tensor_map_make(tensor_map *m, const void *base, int64_t D, int64_t heads, int64_t rows,
                           int64_t stride, int panel, int box_rows)
{
    static_assert(sizeof(tensor_map) >= sizeof(lcl_sim_tensor_map), "the emulator's fits");
    const lcl_sim_tensor_map map = {base,
                                    {D, heads, rows},
                                    {D * (int64_t)sizeof(bf16), stride * (int64_t)sizeof(bf16)},
                                    {panel, 1, box_rows}};
    *m = tensor_map();
    memcpy(m, &map, sizeof map);
    return lcl_sim_tensor_map_check(&map);
}

#endif
