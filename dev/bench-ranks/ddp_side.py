"""PyTorch's side: ddp_side.py RANK RANKS PORT STEPS SAVE_AT FILE. The same decoder and sequences under DistributedDataParallel (gloo).

Rank 0 prints a JSON object: seconds of each step, and how long torch.save of the parameters and the optimizer's states held training up.
"""
import json
import os
import sys
import time

rank, ranks, port, steps, save_at, file = [int(x) for x in sys.argv[1:6]] + [sys.argv[6]]
os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port), OMP_NUM_THREADS="1", MKL_NUM_THREADS="1")

import torch
import torch.distributed as dist
from transformers import LlamaConfig, LlamaForCausalLM

LENGTH, SEGMENT, BATCH = 256, 64, 4
torch.set_num_threads(1)
torch.manual_seed(1)
dist.init_process_group("gloo", rank=rank, world_size=ranks)
config = LlamaConfig(vocab_size=8192, hidden_size=512, intermediate_size=1376, num_hidden_layers=6, num_attention_heads=8,
                     num_key_value_heads=8, tie_word_embeddings=False, attn_implementation="sdpa", use_cache=False)
plain = LlamaForCausalLM(config)
head = plain.lm_head


class Step(torch.nn.Module):
    """Logits of the supervised rows alone, as lcl makes them."""

    def __init__(self):
        super().__init__()
        self.model, self.head = plain.model, head

    def forward(self, ids):
        hidden = self.model(input_ids=ids).last_hidden_state[:, SEGMENT - 1:-1]
        return torch.nn.functional.cross_entropy(self.head(hidden).flatten(0, 1), ids[:, SEGMENT:].flatten())


model = torch.nn.parallel.DistributedDataParallel(Step(), gradient_as_bucket_view=True)
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, weight_decay=0.01, fused=True)
generator = torch.Generator().manual_seed(rank)
seconds, stall = [], 0.0
for step in range(1, steps + 1):
    ids = torch.randint(300, 8192, (BATCH, SEGMENT), generator=generator).repeat(1, LENGTH // SEGMENT)
    begin = time.monotonic()
    optimizer.zero_grad(set_to_none=True)
    model(ids).backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    seconds.append(time.monotonic() - begin)
    if step == save_at:
        begin = time.monotonic()
        if rank == 0:
            torch.save({"model": model.module.state_dict(), "optimizer": optimizer.state_dict()}, file)
            with open(file, "rb") as f:
                os.fsync(f.fileno())
        dist.barrier()
        stall = time.monotonic() - begin
if rank == 0:
    print(json.dumps({"seconds": seconds, "stall": stall}))
dist.destroy_process_group()
