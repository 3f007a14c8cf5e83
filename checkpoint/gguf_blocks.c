/* Element types of GGUF tensors: plain floats, and blocks of 32 small numbers with a scale (and a
 * least value) in f16. */
#include "checkpoint/gguf.h"

/* ggml's types; those past the ones that are read let `inspect` show a file. */
static const struct lcl_gguf_type_info types[] = {
    {0, "F32", 1, 4},         {1, "F16", 1, 2},         {2, "Q4_0", 32, 18},
    {3, "Q4_1", 32, 20},      {6, "Q5_0", 32, 22},      {7, "Q5_1", 32, 24},
    {8, "Q8_0", 32, 34},      {9, "Q8_1", 32, 40},      {10, "Q2_K", 256, 84},
    {11, "Q3_K", 256, 110},   {12, "Q4_K", 256, 144},   {13, "Q5_K", 256, 176},
    {14, "Q6_K", 256, 210},   {15, "Q8_K", 256, 292},   {16, "IQ2_XXS", 256, 66},
    {17, "IQ2_XS", 256, 74},  {18, "IQ3_XXS", 256, 98}, {19, "IQ1_S", 256, 50},
    {20, "IQ4_NL", 32, 18},   {21, "IQ3_S", 256, 110},  {22, "IQ2_S", 256, 82},
    {23, "IQ4_XS", 256, 136}, {24, "I8", 1, 1},         {25, "I16", 1, 2},
    {26, "I32", 1, 4},        {27, "I64", 1, 8},        {28, "F64", 1, 8},
    {29, "IQ1_M", 256, 56},   {30, "BF16", 1, 2},       {34, "TQ1_0", 256, 54},
    {35, "TQ2_0", 256, 66},   {39, "MXFP4", 32, 17},
};

const struct lcl_gguf_type_info *lcl_gguf_type_info(uint32_t id)
{
    for (size_t i = 0; i < sizeof types / sizeof *types; i++)
        if (types[i].id == id) return &types[i];
    return NULL;
}

bool lcl_gguf_readable(const struct lcl_gguf_tensor *t)
{
    switch (t->type->id) {
    case LCL_GGUF_TYPE_F32:
    case LCL_GGUF_TYPE_F16:
    case LCL_GGUF_TYPE_BF16:
    case LCL_GGUF_TYPE_Q8_0:
    case LCL_GGUF_TYPE_Q4_0:
    case LCL_GGUF_TYPE_Q4_1:
        return true;
    default:
        return false;
    }
}

lcl_dtype lcl_gguf_dtype(const struct lcl_gguf_tensor *t)
{
    return t->type->id == LCL_GGUF_TYPE_F16    ? LCL_F16
           : t->type->id == LCL_GGUF_TYPE_BF16 ? LCL_BF16
                                               : LCL_F32;
}

lcl_dtype lcl_gguf_blocks(uint32_t type)
{
    return type == LCL_GGUF_TYPE_Q8_0 ? LCL_Q8_0 : type == LCL_GGUF_TYPE_Q4_0 ? LCL_Q4_0 : LCL_F32;
}

static float f16_at(const unsigned char *p)
{
    lcl_f16 h;
    memcpy(&h, p, sizeof h);
    return lcl_f16_to_f32(h);
}

static void read_block(uint32_t type, const unsigned char *p, float *x)
{
    lcl_f16 scale;
    memcpy(&scale, p, sizeof scale);
    if (type == LCL_GGUF_TYPE_Q8_0 || type == LCL_GGUF_TYPE_Q4_0) {
        lcl_blocks_decode(lcl_gguf_blocks(type), p + sizeof scale, &scale, LCL_BLOCK, x);
        return;
    }
    const float step = lcl_f16_to_f32(scale), least = f16_at(p + 2); /* q4_1 */
    for (int i = 0; i < LCL_BLOCK / 2; i++) {
        x[i] = (float)(p[4 + i] & 15) * step + least;
        x[i + LCL_BLOCK / 2] = (float)(p[4 + i] >> 4) * step + least;
    }
}

/* The data may lie at any byte where the alignment is 8. */
static void read_floats(uint32_t type, const unsigned char *p, size_t n, float *x)
{
    if (type == LCL_GGUF_TYPE_F32) {
        memcpy(x, p, n * sizeof *x);
        return;
    }
    for (size_t i = 0; i < n; i++) {
        uint16_t half;
        memcpy(&half, p + 2 * i, sizeof half);
        x[i] = type == LCL_GGUF_TYPE_F16 ? lcl_f16_to_f32(half) : lcl_bf16_to_f32(half);
    }
}

lcl_status lcl_gguf_read_rows(const struct lcl_gguf_tensor *t, size_t first, size_t n, float *x)
{
    size_t row = lcl_gguf_row(t), rows = t->count / row, block = t->type->block;
    if (first > rows || n > rows - first)
        return LCL_FAIL(LCL_RANGE, "tensor \"%s\": rows %zu..%zu of %zu", t->name, first, first + n,
                        rows);
    if (!lcl_gguf_readable(t))
        return LCL_FAIL_HINT(LCL_UNSUPPORTED,
                             "quantise the model as q8_0, or take its f16 or bf16 file",
                             "tensor \"%s\" is of type %s; f32, f16, bf16, q8_0, q4_0 and q4_1 are "
                             "read",
                             t->name, t->type->name);
    const unsigned char *p = t->data + first * (row / block) * t->type->bytes;
    if (block == 1)
        read_floats(t->type->id, p, n * row, x);
    else
        for (size_t i = 0; i < n * row; i += LCL_BLOCK, p += t->type->bytes)
            read_block(t->type->id, p, x + i);
    return LCL_OK;
}

/* A block of the file is its scale, then its codes. */
static void encode_block(const float *x, unsigned char *out)
{
    lcl_f16 scale;
    lcl_blocks_encode(LCL_Q8_0, x, LCL_BLOCK, out + sizeof scale, &scale);
    memcpy(out, &scale, sizeof scale);
}

enum lcl_gguf_type lcl_gguf_type_for(enum lcl_gguf_type wanted, int n_dims, const int64_t *shape)
{
    bool blocks = n_dims == 2 && shape[1] % 32 == 0;
    return wanted == LCL_GGUF_TYPE_Q8_0 && !blocks ? LCL_GGUF_TYPE_F16 : wanted;
}

void lcl_gguf_encode(enum lcl_gguf_type type, const float *x, size_t n, unsigned char *out)
{
    if (type == LCL_GGUF_TYPE_F32) {
        memcpy(out, x, n * sizeof *x);
    } else if (type == LCL_GGUF_TYPE_Q8_0) {
        for (size_t i = 0; i < n; i += LCL_BLOCK) encode_block(x + i, out + i / LCL_BLOCK * 34);
    } else {
        for (size_t i = 0; i < n; i++) {
            uint16_t half =
                type == LCL_GGUF_TYPE_F16 ? lcl_f32_to_f16(x[i]) : lcl_f32_to_bf16(x[i]);
            memcpy(out + 2 * i, &half, sizeof half);
        }
    }
}

size_t lcl_gguf_rotary_row(size_t row, size_t rows, size_t heads)
{
    size_t D = rows / heads, d = row % D, half = d / (D / 2), pair = d % (D / 2);
    return row - d + 2 * pair + half;
}
