"""The other sides of smol-prefill and smol-decode: smol_side.py CASE DTYPE VARIANT DIR. Speaks as bench.c's worker does.

Variants: eager (transformers), llama.cpp (llama-cpp-python; its default cache of keys and values, in f16).
"""
import json
import os
import resource
import sys
import time

import numpy as np

THREADS = int(os.environ["OMP_NUM_THREADS"])
PROMPT, SHORT_PROMPT, ANSWER, IDS_SHOWN, LOGITS = 512, 32, 128, 16, 8


class Transformers:
    def __init__(self, folder, dtype):
        import torch
        from transformers import DynamicCache, LlamaForCausalLM
        torch.set_num_threads(THREADS)
        self.torch = torch
        self.model = LlamaForCausalLM.from_pretrained(
            folder + "/hf", dtype=torch.bfloat16 if dtype == "bf16" else torch.float32, attn_implementation="sdpa").eval()
        self.new_cache = lambda: DynamicCache(config=self.model.config)

    def begin(self):
        self.cache = self.new_cache()

    def read(self, ids):
        """The logits of the last token."""
        torch = self.torch
        with torch.inference_mode():
            out = self.model(input_ids=torch.tensor([ids]), past_key_values=self.cache, use_cache=True, logits_to_keep=1)
            return out.logits[0, -1]

    def pick(self, logits):
        return int(logits.argmax())

    def some(self, logits):
        return logits[::len(logits) // LOGITS].float().tolist()


class LlamaCpp:
    def __init__(self, folder, dtype):
        import llama_cpp
        self.api = api = llama_cpp
        quiet = api.llama_log_callback(lambda level, text, data: None)
        api.llama_log_set(quiet, None)
        self.quiet = quiet
        api.llama_backend_init()
        self.model = api.llama_model_load_from_file(f"{folder}/{dtype}/model.gguf".encode(), api.llama_model_default_params())
        self.vocabulary = api.llama_vocab_n_tokens(api.llama_model_get_vocab(self.model))
        p = api.llama_context_default_params()
        p.n_ctx, p.n_batch, p.n_ubatch, p.n_threads, p.n_threads_batch = PROMPT + ANSWER, PROMPT, PROMPT, THREADS, THREADS
        self.context = api.llama_init_from_model(self.model, p)

    def begin(self):
        self.api.llama_memory_clear(self.api.llama_get_memory(self.context), True)

    def read(self, ids):
        api = self.api
        tokens = (api.llama_token * len(ids))(*ids)
        if api.llama_decode(self.context, api.llama_batch_get_one(tokens, len(ids))) != 0:
            raise RuntimeError("llama_decode failed")
        return np.ctypeslib.as_array(api.llama_get_logits_ith(self.context, -1), shape=(self.vocabulary,))

    def pick(self, logits):
        return int(logits.argmax())

    def some(self, logits):
        return logits[::len(logits) // LOGITS].tolist()


def repeat(side, case, prompt):
    """The prompt's forward and its first token; or the tokens after that one."""
    wall, cpu = time.monotonic(), time.process_time()
    side.begin()
    logits = side.read(prompt)
    answer, some, tokens = [side.pick(logits)], side.some(logits), len(prompt)
    if case == "smol-decode":
        wall, cpu, tokens = time.monotonic(), time.process_time(), ANSWER - 1
        while len(answer) < ANSWER:
            answer.append(side.pick(side.read(answer[-1:])))
    return {"wall_s": time.monotonic() - wall, "cpu_s": time.process_time() - cpu, "steps": 1, "tokens": tokens, "loss": -1,
            "answers": answer[:IDS_SHOWN], "logits": some}


def main():
    case, dtype, variant, folder = sys.argv[1:5]
    prompt = np.fromfile(folder + "/prompt.i32", dtype=np.int32)[:PROMPT if case == "smol-prefill" else SHORT_PROMPT].tolist()
    side = (LlamaCpp if variant == "llama.cpp" else Transformers)(folder, dtype)
    print(json.dumps({"ready": True}), flush=True)
    for _ in sys.stdin:
        print(json.dumps(repeat(side, case, prompt)), flush=True)
    print(json.dumps({"peak_kib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss}), flush=True)


main()
