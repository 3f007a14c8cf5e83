/* Models in GGUF: the decoder in a file of architecture "llama", tower and projector in one of
 * architecture "clip" (llama.cpp's mmproj). Keys and tensor names are those of llama.cpp's
 * converter.
 *
 * Names: blk.N.attn_q.weight <-> language_model.model.layers.N.self_attn.q_proj.weight, and so on;
 * v.blk.N.* <-> vision_tower.encoder.layers.N.*, mm.0 and mm.2 <-> the projector's layers. Rows of
 * the decoder's q and k are in another order in the file (lcl_gguf_rotary_row). */
#ifndef LCL_CHECKPOINT_GGUF_MODEL_H
#define LCL_CHECKPOINT_GGUF_MODEL_H

#include "checkpoint/gguf.h"
#include "checkpoint/misfits.h"
#include "core/param.h"
#include "model/config.h"

/* The table's name of a tensor, and the tensor's name of a row; false where there is none. */
bool lcl_gguf_table_name(const char *in_file, char name[LCL_PARAM_NAME_BYTES]);
bool lcl_gguf_file_name(const char *row, char name[LCL_PARAM_NAME_BYTES]);

/* Fills m->text and the special tokens from a file of architecture llama, and the least of a tower
 * (lcl_model_config_text_only). LCL_UNSUPPORTED names the key that cannot be computed. llama3
 * scaling, which the file holds as factors (rope_freqs.weight), is read from keys lcl.rope.* of our
 * own, else tried as that of Llama 3; factors that neither explains are refused. */
LCL_CHECKED lcl_status lcl_gguf_read_text(const struct lcl_gguf *g, struct lcl_model_config *m);
/* Fills m->vision, projector and select_layer from a file of architecture clip with an "mlp"
 * projector. m->text is that of the decoder, or lcl_gguf_least_text's where there is none. */
LCL_CHECKED lcl_status lcl_gguf_read_vision(const struct lcl_gguf *g, struct lcl_model_config *m);
void lcl_gguf_least_text(const struct lcl_gguf *g, struct lcl_model_config *m);
/* What llama3 scaling divides the frequencies of the D / 2 pairs by; malloc'd, NULL without memory.
 */
float *lcl_gguf_rope_factors(const struct lcl_text_config *t);
void lcl_gguf_put_text_config(struct lcl_gguf_meta *meta, const struct lcl_model_config *m);
void lcl_gguf_put_vision_config(struct lcl_gguf_meta *meta, const struct lcl_model_config *m);

/* A line a tensor that a table's rows of `parts` lack in the file, that is misshapen or not
 * readable, and that the file has beyond them. */
void lcl_gguf_check_fit(const struct lcl_gguf *g, const struct lcl_params *t, unsigned parts,
                        struct lcl_misfits *fit);
/* LCL_SHAPE listing them. */
LCL_CHECKED lcl_status lcl_gguf_require_fit(const struct lcl_gguf *g, const struct lcl_params *t,
                                            unsigned parts);
/* Heads whose rows a tensor of the file has in llama.cpp's order; 0 for tensors in plain order. */
size_t lcl_gguf_rotary_heads(const char *in_file, const struct lcl_text_config *t);
/* Elements [first, first + n), whole blocks of the type, in the table's order. */
LCL_CHECKED lcl_status lcl_gguf_read(const struct lcl_gguf_tensor *t, size_t rotary_heads,
                                     size_t first, size_t n, float *x);
/* Fills the rows of `parts` (bits 1 << enum lcl_part). LCL_SHAPE listing every tensor that does not
 * fit; then nothing was written. text: of the config that the file describes. */
LCL_CHECKED lcl_status lcl_gguf_load(const struct lcl_gguf *g, const struct lcl_text_config *text,
                                     struct lcl_params *t, unsigned parts);

struct lcl_gguf_save_options {
    enum lcl_gguf_type type;           /* of matrices: f32, f16, bf16 or q8_0; vectors are f32 */
    float image_mean[3], image_std[3]; /* of the mmproj file */
    const char *name;                  /* general.name, or NULL */
};
/* Writes the decoder; `meta` holds the tokenizer's keys and is added to. */
LCL_CHECKED lcl_status lcl_gguf_save_text(const char *path, const struct lcl_params *t,
                                          const struct lcl_model_config *m,
                                          struct lcl_gguf_meta *meta,
                                          const struct lcl_gguf_save_options *o);
/* Writes tower and projector. LCL_UNSUPPORTED for what llama.cpp's graph does not compute: pooled
 * features, the class token among them, a projector without a GELU. Types that a tensor's rows or
 * llama.cpp's operations do not take are f16 or f32 there. */
LCL_CHECKED lcl_status lcl_gguf_save_vision(const char *path, const struct lcl_params *t,
                                            const struct lcl_model_config *m,
                                            const struct lcl_gguf_save_options *o);

#endif
