"""Helper of tests/interop/run.sh in the environment of llama.cpp.

    logits GGUF CASE.npz          llama.cpp computes the logits of the case's ids within 1e-4
    tokens GGUF TEXTS TOKENS      it splits the lines' texts as `lcl tokenize` did"""
import json, sys
import numpy as np
from llama_cpp import Llama


def logits(gguf, case):
    x = np.load(case)
    ids = x["input_ids"][0].tolist()
    f32 = 0  # its keys and values are f16 as by default
    m = Llama(gguf, n_ctx=256, n_threads=2, verbose=False, logits_all=True, type_k=f32, type_v=f32)
    m.eval(ids)
    apart = float(np.abs(np.array(m.scores[:len(ids)]) - x["logits"][0]).max())
    print(f"max abs difference {apart:.3g} of {np.abs(x['logits']).max():.3g}")
    sys.exit(not apart <= 1e-4)


def tokens(gguf, texts, lines):
    m = Llama(gguf, n_ctx=256, vocab_only=True, verbose=False)
    read = lambda path: [json.loads(line) for line in open(path, encoding="utf-8")]
    for row, found in zip(read(texts), read(lines), strict=True):
        theirs = m.tokenize(row["text"].encode(), add_bos=False, special=True)
        assert theirs == found["ids_no_special"], f"{row['text']!r}: {theirs}, lcl {found['ids_no_special']}"


if __name__ == "__main__":
    {"logits": logits, "tokens": tokens}[sys.argv[1]](*sys.argv[2:])
