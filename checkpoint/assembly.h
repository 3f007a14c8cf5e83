/* A model put together from files of other programs, row by row: from HF folders, GGUF files, or
 * fresh. The files stay mapped; values are read when they are written, a piece at a time.
 *
 * A vocabulary longer than that of the files (tokens that were added) goes on with the mean of
 * their rows, in the embedding and in the head. */
#ifndef LCL_CHECKPOINT_ASSEMBLY_H
#define LCL_CHECKPOINT_ASSEMBLY_H

#include "checkpoint/gguf_model.h"
#include "checkpoint/safetensors.h"

struct lcl_source; /* where a row's values come from */

struct lcl_assembly {
    const struct lcl_params *table; /* of the model to make: shapes alone */
    struct lcl_source *of_row;      /* [n_rows] */
};
LCL_CHECKED lcl_status lcl_assembly_begin(struct lcl_assembly *a, const struct lcl_params *table);
void lcl_assembly_free(struct lcl_assembly *a);

/* The rows of `parts` (bits 1 << enum lcl_part) from open weights, which must be what `config`,
 * that of their folder, says: lcl_hf_match. LCL_SHAPE where the table has other shapes. */
LCL_CHECKED lcl_status lcl_assembly_take_hf(struct lcl_assembly *a, const char *where,
                                            const struct lcl_safetensors *st,
                                            const struct lcl_model_config *config, unsigned parts);
/* The projector from a file of its own: lcl_hf_match_projector. */
LCL_CHECKED lcl_status lcl_assembly_take_projector(struct lcl_assembly *a, const char *file,
                                                   const struct lcl_safetensors *st);
/* The same from a GGUF file that `config` describes: lcl_gguf_require_fit. */
LCL_CHECKED lcl_status lcl_assembly_take_gguf(struct lcl_assembly *a, const struct lcl_gguf *g,
                                              const struct lcl_model_config *config,
                                              unsigned parts);
/* Rows that are wanted and have no source are drawn as lcl_params_initialise draws them. *n: how
 * many rows. */
LCL_CHECKED lcl_status lcl_assembly_draw(struct lcl_assembly *a,
                                         bool (*wanted)(const struct lcl_param *), uint64_t seed,
                                         int *n);

struct lcl_assembly_write_options {
    unsigned parts;         /* rows to write */
    bool decoder_alone;     /* named as LlamaForCausalLM's */
    lcl_dtype dtype;        /* LCL_DTYPE_COUNT: each tensor's own; f32 for what has none */
    size_t max_shard_bytes; /* 0: 5 GB */
};
/* DIR/model.safetensors or its shards. LCL_SHAPE listing the rows that have no source; then nothing
 * was written. where: names the model in messages. */
LCL_CHECKED lcl_status lcl_assembly_write(const struct lcl_assembly *a, const char *where,
                                          const char *dir,
                                          const struct lcl_assembly_write_options *o);
/* The type of a row as it would be written without conversion. */
lcl_dtype lcl_assembly_dtype(const struct lcl_assembly *a, const char *row);

#endif
