#include <stdio.h>
#include <stdlib.h>

#include "checkpoint/gguf_model.h"

static const struct lcl_gguf_tensor *tensor_of(const struct lcl_gguf *g, const struct lcl_param *p)
{
    char name[LCL_PARAM_NAME_BYTES];
    return lcl_gguf_file_name(p->name, name) ? lcl_gguf_tensor(g, name) : NULL;
}

/* Rows that llama.cpp's files need not hold: the layer norm that no selected layer passes, our own
 * standardisation. */
static bool may_lack(const struct lcl_param *p)
{
    return strncmp(p->name, "vision_tower.post_layernorm.", 28) == 0 ||
           strncmp(p->name, "image_standardize.", 18) == 0;
}

static void check_row(const struct lcl_gguf *g, const struct lcl_param *p, struct lcl_misfits *fit)
{
    const struct lcl_gguf_tensor *t = tensor_of(g, p);
    if (!t) {
        if (!may_lack(p)) lcl_misfits_add(fit, "missing: %s", p->name);
        return;
    }
    if (!lcl_misfits_shape(fit, t->name, t->n_dims, t->shape, p) && !lcl_gguf_readable(t))
        lcl_misfits_add(fit, "not readable: %s is of type %s", t->name, t->type->name);
}

void lcl_gguf_check_fit(const struct lcl_gguf *g, const struct lcl_params *t, unsigned parts,
                        struct lcl_misfits *fit)
{
    char name[LCL_PARAM_NAME_BYTES];
    *fit = (struct lcl_misfits){0};
    for (int i = 0; i < t->n_rows; i++)
        if (parts >> t->rows[i].part & 1u) check_row(g, &t->rows[i], fit);
    for (size_t i = 0; i < g->n_tensors; i++) {
        const char *own = g->tensors[i].name;
        bool known = lcl_gguf_table_name(own, name) &&
                     lcl_params_find((struct lcl_params *)(uintptr_t)t, name);
        if (!known && strcmp(own, "rope_freqs.weight") != 0)
            lcl_misfits_add(fit, "left over: %s", own);
    }
}

lcl_status lcl_gguf_require_fit(const struct lcl_gguf *g, const struct lcl_params *t,
                                unsigned parts)
{
    struct lcl_misfits fit;
    lcl_gguf_check_fit(g, t, parts, &fit);
    return lcl_misfits_refuse(&fit, g->path,
                              "the file's metadata and tensors differ, or it is another kind");
}

size_t lcl_gguf_rotary_heads(const char *in_file, const struct lcl_text_config *t)
{
    const char *end = strrchr(in_file, '.');
    if (strncmp(in_file, "blk.", 4) != 0 || !end || end - in_file < 7) return 0;
    if (strncmp(end - 7, ".attn_q", 7) == 0) return (size_t)t->H;
    return strncmp(end - 7, ".attn_k", 7) == 0 ? (size_t)t->G : 0;
}

/* Elements [first, first + n) as they lie in the file, within rows or over them. */
static lcl_status read_plain(const struct lcl_gguf_tensor *t, size_t first, size_t n, float *x)
{
    struct lcl_gguf_tensor line = *t; /* seen as rows of one block */
    line.n_dims = 2;
    line.shape[0] = (int64_t)(t->count / t->type->block);
    line.shape[1] = (int64_t)t->type->block;
    return lcl_gguf_read_rows(&line, first / t->type->block, n / t->type->block, x);
}

lcl_status lcl_gguf_read(const struct lcl_gguf_tensor *t, size_t rotary_heads, size_t first,
                         size_t n, float *x)
{
    size_t row = lcl_gguf_row(t), rows = t->count / row;
    if (rotary_heads == 0) return read_plain(t, first, n, x);
    for (size_t at = first, k; at < first + n; at += k) {
        size_t r = at / row, column = at % row, left = first + n - at;
        k = left < row - column ? left : row - column;
        LCL_TRY(read_plain(t, lcl_gguf_rotary_row(r, rows, rotary_heads) * row + column, k,
                           x + (at - first)));
    }
    return LCL_OK;
}

/* Blocks of the file's own, rotary rows in their order, their bits as they are. */
static void copy_blocks(const struct lcl_gguf_tensor *t, size_t heads, struct lcl_params *params,
                        const struct lcl_param *p)
{
    const size_t row = lcl_gguf_row(t), rows = t->count / row, blocks = row / LCL_BLOCK;
    const size_t codes = lcl_code_bytes(params->blocks, LCL_BLOCK);
    uint8_t *code = lcl_param_code(params, p);
    lcl_f16 *scale = lcl_param_scale(params, p);
    for (size_t r = 0; r < rows; r++) {
        const size_t from = heads ? lcl_gguf_rotary_row(r, rows, heads) : r;
        const unsigned char *x = t->data + from * blocks * t->type->bytes;
        for (size_t b = 0; b < blocks; b++, x += t->type->bytes, code += codes, scale++) {
            memcpy(scale, x, sizeof *scale);
            memcpy(code, x + sizeof *scale, codes);
        }
    }
}

static lcl_status fill_row(const struct lcl_gguf_tensor *t, size_t heads, struct lcl_params *params,
                           const struct lcl_param *p)
{
    enum { CHUNK = 4096 }; /* whole blocks */
    float x[CHUNK], *value = lcl_param_value(params, p);
    if (value) return lcl_gguf_read(t, heads, 0, p->count, value);
    if (p->in_blocks && lcl_gguf_blocks(t->type->id) == params->blocks) {
        copy_blocks(t, heads, params, p);
        return LCL_OK;
    }
    for (size_t at = 0, n; at < p->count; at += n) {
        n = p->count - at < CHUNK ? p->count - at : CHUNK;
        LCL_TRY(lcl_gguf_read(t, heads, at, n, x));
        lcl_param_put(params, p, at, n, x);
    }
    return LCL_OK;
}

lcl_status lcl_gguf_load(const struct lcl_gguf *g, const struct lcl_text_config *text,
                         struct lcl_params *t, unsigned parts)
{
    LCL_TRY(lcl_gguf_require_fit(g, t, parts));
    for (int i = 0; i < t->n_rows; i++) {
        const struct lcl_param *p = &t->rows[i];
        const struct lcl_gguf_tensor *tensor = parts >> p->part & 1u ? tensor_of(g, p) : NULL;
        if (!tensor) continue;
        LCL_TRY(fill_row(tensor, lcl_gguf_rotary_heads(tensor->name, text), t, p));
        lcl_fs_map_done(tensor->data, tensor->bytes);
    }
    lcl_params_changed(t);
    return LCL_OK;
}
