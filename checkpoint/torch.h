/* Files of torch.save (pytorch_model.bin, mm_projector.bin): the tensors of a state dict, read in
 * place from the map like those of a safetensors file. */
#ifndef LCL_CHECKPOINT_TORCH_H
#define LCL_CHECKPOINT_TORCH_H

#include "checkpoint/safetensors.h"

/* True where the file is one of torch.save by its first bytes: a zip archive, or the pickle of
 * torch before 1.6, which lcl_torch_add refuses with a hint. */
bool lcl_torch_is_file(const struct lcl_map *map);
/* Appends the tensors of shard `shard`, whose map is open, to st->tensors. LCL_FORMAT for damaged
 * files, LCL_UNSUPPORTED for what is no state dict of contiguous tensors. */
LCL_CHECKED lcl_status lcl_torch_add(struct lcl_safetensors *st, int shard);

#endif
