#include <ctype.h>
#include <stdio.h>

#include "checkpoint/gguf_model.h"

/* Without ".weight" and ".bias", which are the same on both sides. */
static const struct {
    const char *file, *table;
} wholes[] = {
    {"token_embd", "language_model.model.embed_tokens"},
    {"output_norm", "language_model.model.norm"},
    {"output", "language_model.lm_head"},
    {"v.class_embd", "vision_tower.embeddings.class_embedding"},
    {"v.patch_embd", "vision_tower.embeddings.patch_embedding"},
    {"v.position_embd", "vision_tower.embeddings.position_embedding"},
    {"v.pre_ln", "vision_tower.pre_layrnorm"},
    {"v.post_ln", "vision_tower.post_layernorm"},
    {"mm.0", "multi_modal_projector.linear_1"},
    {"mm.2", "multi_modal_projector.linear_2"},
};

/* Of layers: after "blk.N." and after "language_model.model.layers.N.", or the tower's. */
static const struct {
    const char *file, *table;
} of_layer[2][9] = {{{"attn_norm", "input_layernorm"},
                     {"ffn_norm", "post_attention_layernorm"},
                     {"attn_q", "self_attn.q_proj"},
                     {"attn_k", "self_attn.k_proj"},
                     {"attn_v", "self_attn.v_proj"},
                     {"attn_output", "self_attn.o_proj"},
                     {"ffn_gate", "mlp.gate_proj"},
                     {"ffn_up", "mlp.up_proj"},
                     {"ffn_down", "mlp.down_proj"}},
                    {{"attn_q", "self_attn.q_proj"},
                     {"attn_k", "self_attn.k_proj"},
                     {"attn_v", "self_attn.v_proj"},
                     {"attn_out", "self_attn.out_proj"},
                     {"ln1", "layer_norm1"},
                     {"ln2", "layer_norm2"},
                     {"ffn_up", "mlp.fc1"},
                     {"ffn_down", "mlp.fc2"},
                     {NULL, NULL}}};
static const char *const file_layers[2] = {"blk.", "v.blk."};
static const char *const table_layers[2] = {"language_model.model.layers.",
                                            "vision_tower.encoder.layers."};

/* Splits "STEM.weight" or "STEM.bias"; a name without an ending is all stem. */
static size_t stem_of(const char *s, const char **tail)
{
    static const char *const tails[] = {".weight", ".bias"};
    size_t n = strlen(s);
    for (int i = 0; i < 2; i++) {
        size_t m = strlen(tails[i]);
        *tail = tails[i];
        if (n > m && strcmp(s + n - m, tails[i]) == 0) return n - m;
    }
    *tail = "";
    return n;
}

static bool same(const char *stem, size_t n, const char *name)
{
    return strlen(name) == n && strncmp(stem, name, n) == 0;
}

/* to_table: from the file's spelling to the table's; else back. */
static bool translate(const char *s, bool to_table, char name[LCL_PARAM_NAME_BYTES])
{
    const char *tail;
    size_t n = stem_of(s, &tail);
    for (size_t i = 0; i < sizeof wholes / sizeof *wholes; i++) {
        if (!same(s, n, to_table ? wholes[i].file : wholes[i].table)) continue;
        const char *to = to_table ? wholes[i].table : wholes[i].file;
        return snprintf(name, LCL_PARAM_NAME_BYTES, "%s%s", to, tail) < LCL_PARAM_NAME_BYTES;
    }
    for (int k = 0; k < 2; k++) {
        const char *from = to_table ? file_layers[k] : table_layers[k];
        const char *to = to_table ? table_layers[k] : file_layers[k];
        size_t m = strlen(from), digits = 0;
        if (strncmp(s, from, m) != 0) continue;
        while (isdigit((unsigned char)s[m + digits])) digits++;
        if (digits == 0 || digits > 6 || s[m + digits] != '.' || n <= m + digits + 1) return false;
        const char *stem = s + m + digits + 1;
        for (size_t i = 0; i < 9 && of_layer[k][i].file; i++) {
            if (!same(stem, n - m - digits - 1,
                      to_table ? of_layer[k][i].file : of_layer[k][i].table))
                continue;
            snprintf(name, LCL_PARAM_NAME_BYTES, "%s%.*s.%s%s", to, (int)digits, s + m,
                     to_table ? of_layer[k][i].table : of_layer[k][i].file, tail);
            return true;
        }
    }
    return false;
}

bool lcl_gguf_table_name(const char *in_file, char name[LCL_PARAM_NAME_BYTES])
{
    return translate(in_file, true, name);
}

bool lcl_gguf_file_name(const char *row, char name[LCL_PARAM_NAME_BYTES])
{
    return translate(row, false, name);
}
