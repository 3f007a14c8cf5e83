"""The PyTorch side: torch_side.py CASE DTYPE VARIANT DIR. Speaks as bench.c's worker does.

Variants: a, b, lora: eager, compile (logits of the supervised rows only), plain (transformers' own loss over all rows).
c: reread (every query reads the context anew), reuse (one prefill, past_key_values shared), each NAME-N with N queries
a batch; reuse-static-N keeps keys and values in a StaticCache.
"""
import contextlib
import json
import os
import resource
import sys
import time

import numpy as np
import peft
import torch
from transformers import CLIPVisionConfig, CLIPVisionModel, DynamicCache, LlamaConfig, LlamaForCausalLM, StaticCache

THREADS = int(os.environ["OMP_NUM_THREADS"])
STEPS, NEW_TOKENS = 4, 12


class Batch:
    """What bench.c packed: sequences end to end."""

    def __init__(self, path):
        raw = np.fromfile(path, dtype=np.uint8)
        self.T, self.n_runs, self.n_images, self.n_slots, self.S = raw[:40].view(np.int64)
        self.at = 40
        self.raw = raw
        self.ids = self.take(np.int32, self.T)
        self.position = self.take(np.int32, self.T)
        self.runs = self.take(np.int32, self.n_runs * 7).reshape(-1, 7)
        self.image = self.take(np.int64, self.n_images)
        self.view = self.take(np.int32, self.n_images)
        self.slot = self.take(np.int32, self.n_slots)
        self.slot_row = self.take(np.int32, self.n_slots)
        self.row = self.take(np.int32, self.S)
        self.target = self.take(np.int32, self.S)
        self.weight = self.take(np.float32, self.S)

    def take(self, kind, n):
        size = int(n) * np.dtype(kind).itemsize
        part = self.raw[self.at:self.at + size].view(kind)
        self.at += size
        return part


class Params:
    """bench.c's table: views of one mapped file."""

    def __init__(self, folder):
        self.flat = np.memmap(folder + "/params.f32", dtype=np.float32, mode="r")
        self.rows = {r["name"]: r for r in json.load(open(folder + "/params.json"))}

    def get(self, name):
        r = self.rows[name]
        n = int(np.prod(r["shape"]))
        return torch.from_numpy(self.flat[r["offset"]:r["offset"] + n].reshape(r["shape"]).copy())

    def load(self, module, prefix):
        own = module.state_dict()
        found = {k: self.get(prefix + k) for k in own if prefix + k in self.rows}
        missing = [k for k in own if k not in found and "position_ids" not in k]
        module.load_state_dict(found, strict=False)
        return missing


class Projector(torch.nn.Module):
    def __init__(self, wide, narrow):
        super().__init__()
        self.linear_1 = torch.nn.Linear(wide, narrow)
        self.linear_2 = torch.nn.Linear(narrow, narrow)

    def forward(self, x):
        return self.linear_2(torch.nn.functional.gelu(self.linear_1(x)))


def build(case, folder, dtype):
    params = Params(folder)
    names = params.rows
    embed = next(n for n in names if n.endswith("embed_tokens.weight"))
    prefix = embed[:-len("embed_tokens.weight")]
    vocabulary, width = names[embed]["shape"]
    layers = 1 + max(int(n[len(prefix):].split(".")[1]) for n in names if n.startswith(prefix + "layers."))
    up = names[prefix + "layers.0.mlp.up_proj.weight"]["shape"]
    q = names[prefix + "layers.0.self_attn.q_proj.weight"]["shape"][0]
    k = names[prefix + "layers.0.self_attn.k_proj.weight"]["shape"][0]
    small = case in ("a", "c-small")
    heads = 2 if small else 9
    head = next((n for n in names if n.endswith("lm_head.weight")), None)
    config = LlamaConfig(vocab_size=vocabulary, hidden_size=width, intermediate_size=up[0], num_hidden_layers=layers,
                         num_attention_heads=heads, num_key_value_heads=heads * k // q, rms_norm_eps=1e-5,
                         rope_theta=10000.0, max_position_embeddings=8192, tie_word_embeddings=head is None,
                         attn_implementation="sdpa")
    text = LlamaForCausalLM(config)
    missing = params.load(text.model, prefix)
    if head is None:
        text.tie_weights()
    else:
        text.lm_head.weight.data.copy_(params.get(head))
    start = next(n for n in names if n.endswith("linear_1.weight"))
    projector = Projector(names[start]["shape"][1], width)
    missing += params.load(projector, start[:-len("linear_1.weight")])
    if missing:
        raise SystemExit(f"error: not in the table: {missing}")
    if dtype == torch.bfloat16 and case[0] == "c":
        text, projector = text.to(dtype), projector.to(dtype)
    mean = next((n for n in names if n.endswith("image_standardize.mean")), None)
    shift = (params.get(mean), params.get(mean[:-4] + "inv_std")) if mean else None
    return text, projector, shift, params


def tower(params):
    """CLIP ViT-B/16 up to the selected hidden state; the layer after it is left out, as on the other side."""
    name = next(n for n in params.rows if n.endswith("patch_embedding.weight"))
    prefix = name[:-len("embeddings.patch_embedding.weight")]
    config = CLIPVisionConfig(image_size=224, patch_size=16, hidden_size=768, intermediate_size=3072,
                              num_hidden_layers=12, num_attention_heads=12, hidden_act="quick_gelu",
                              attn_implementation="sdpa")
    model = CLIPVisionModel(config)
    inner = getattr(model, "vision_model", model)
    params.load(inner, prefix)
    inner.encoder.layers = inner.encoder.layers[:11]
    inner.post_layernorm = torch.nn.Identity()
    return model.requires_grad_(False).eval()


def cast(dtype, case):
    if dtype == torch.bfloat16 and case[0] != "c":
        return torch.autocast("cpu", dtype=torch.bfloat16)
    return contextlib.nullcontext()


class Trainer:
    def __init__(self, modules, lr, betas, decay):
        self.params = [p for m in modules for p in m.parameters() if p.requires_grad]
        matrices = [p for p in self.params if p.dim() > 1]
        vectors = [p for p in self.params if p.dim() <= 1]
        self.optimizer = torch.optim.AdamW([{"params": matrices, "weight_decay": decay},
                                            {"params": vectors, "weight_decay": 0.0}], lr=lr, betas=betas, fused=True)

    def step(self):
        torch.nn.utils.clip_grad_norm_(self.params, 1.0, foreach=True)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)


def weighted_loss(logits, target, weight):
    return (torch.nn.functional.cross_entropy(logits.float(), target, reduction="none") * weight).sum()


class CaseA:
    """A step over 8 lanes of 4 episodes: one padded batch of 32 (right padding needs no mask under a causal one)."""

    def __init__(self, folder, dtype, variant):
        self.dtype, self.variant = dtype, variant
        self.text, self.projector, self.shift, params = build("a", folder, dtype)
        width = self.projector.linear_1.in_features
        features = torch.from_numpy(np.fromfile(folder + "/features.f32", dtype=np.float32).reshape(-1, width))
        self.batches = [self.pack(folder, s, features) for s in range(STEPS)]
        if variant == "compile":  # one shape, so that nothing is compiled twice
            self.same_shape()
        self.trainer = Trainer([self.text, self.projector], 3e-3, (0.9, 0.98), 0.05)
        self.forward = torch.compile(self.loss, dynamic=False) if variant == "compile" else self.loss

    def pack(self, folder, step, features):
        lanes = [Batch(f"{folder}/batch-{step:02d}-{i}.bin") for i in range(8)]
        length = max(int(r[1] - r[0]) for b in lanes for r in b.runs)
        n = sum(int(b.n_runs) for b in lanes)
        ids = np.zeros((n, length), np.int64)
        slots, rows, targets, weights, pictures, first, tokens = [], [], [], [], [], 0, 0
        for b in lanes:
            base = np.zeros(int(b.T), np.int64)
            for i, r in enumerate(b.runs):
                ids[first + i, :r[1] - r[0]] = b.ids[r[0]:r[1]]
                base[r[0]:r[1]] = (first + i) * length + np.arange(r[1] - r[0])
            order = np.argsort(b.slot_row)
            pictures.append(features[torch.from_numpy(b.image[b.slot_row[order]] * 4 + b.view[b.slot_row[order]])])
            slots.append(base[b.slot[order]])
            rows.append(base[b.row])
            targets.append(b.target)
            weights.append(b.weight)
            first += int(b.n_runs)
            tokens += int(b.T)
        weight = torch.from_numpy(np.concatenate(weights))
        return {"ids": torch.from_numpy(ids), "slots": torch.from_numpy(np.concatenate(slots)),
                "rows": torch.from_numpy(np.concatenate(rows)),
                "target": torch.from_numpy(np.concatenate(targets).astype(np.int64)),
                "weight": weight / weight.sum(), "pictures": torch.cat(pictures), "tokens": tokens}

    def same_shape(self):
        length = max(b["ids"].shape[1] for b in self.batches)
        count = max(b["rows"].numel() for b in self.batches)
        for b in self.batches:
            n, old = b["ids"].shape
            b["ids"] = torch.nn.functional.pad(b["ids"], (0, length - old))
            for key in ("slots", "rows"):
                b[key] = b[key] // old * length + b[key] % old
            more = count - b["rows"].numel()
            for key in ("rows", "target", "weight"):
                b[key] = torch.nn.functional.pad(b[key], (0, more))

    def loss(self, ids, slots, rows, target, weight, pictures):
        x = self.text.model.embed_tokens(ids)
        y = self.projector((pictures - self.shift[0]) * self.shift[1])
        n, length, width = x.shape
        x = x.reshape(-1, width).index_copy(0, slots, y.to(x.dtype)).reshape(n, length, width)
        if self.variant == "plain":
            labels = torch.full((n * length,), -100)
            labels[rows] = target
            logits = self.text(inputs_embeds=x, use_cache=False).logits.reshape(n * length, -1)
            return torch.nn.functional.cross_entropy(logits.float(), labels)
        hidden = self.text.model(inputs_embeds=x, use_cache=False).last_hidden_state
        logits = self.text.lm_head(hidden.reshape(-1, width)[rows])
        return weighted_loss(logits, target, weight)

    def run(self):
        tokens, first = 0, None
        for b in self.batches:
            with cast(self.dtype, "a"):
                loss = self.forward(b["ids"], b["slots"], b["rows"], b["target"], b["weight"], b["pictures"])
            loss.backward()
            self.trainer.step()
            first = loss.item() if first is None else first
            loss.item()
            tokens += b["tokens"]
        return {"tokens": tokens, "loss": first, "steps": STEPS}


class CaseB:
    """One 8-shot episode with the tower in the step."""

    def __init__(self, folder, dtype, variant):
        self.dtype, self.variant = dtype, variant
        self.text, self.projector, self.shift, params = build("b", folder, dtype)
        self.batch = b = Batch(folder + "/batch.bin")
        self.see(params, torch.from_numpy(np.fromfile(folder + "/pixels.f32", dtype=np.float32)))
        order = np.argsort(b.slot_row)
        self.ids = torch.from_numpy(b.ids.astype(np.int64))[None]
        self.slots = torch.from_numpy(b.slot[order].astype(np.int64))
        self.rows = torch.from_numpy(b.row.astype(np.int64))
        self.target = torch.from_numpy(b.target.astype(np.int64))
        self.weight = torch.from_numpy(b.weight / b.weight.sum())
        self.trainer = self.make_trainer(params)
        self.forward = torch.compile(self.loss, dynamic=False) if variant == "compile" else self.loss

    def see(self, params, pixels):
        self.vision = tower(params)
        self.pixels = pixels.reshape(-1, 3, 224, 224)

    def features(self):
        with torch.no_grad():
            seen = self.vision(pixel_values=self.pixels).last_hidden_state[:, 1:]
        return seen.reshape(-1, seen.shape[-1])

    def make_trainer(self, params):
        return Trainer([self.text, self.projector], 2e-5, (0.9, 0.999), 0.0)

    def loss(self):
        x = self.text.model.embed_tokens(self.ids)
        y = self.projector(self.features())
        x = x[0].index_copy(0, self.slots, y.to(x.dtype))[None]
        if self.variant == "plain":
            labels = torch.full_like(self.ids, -100)
            labels[0, self.rows + 1] = self.target
            return self.text(inputs_embeds=x, labels=labels, use_cache=False).loss
        hidden = self.text.model(inputs_embeds=x, use_cache=False).last_hidden_state
        return weighted_loss(self.text.lm_head(hidden[0, self.rows]), self.target, self.weight)

    def run(self):
        with cast(self.dtype, "b"):
            loss = self.forward()
        loss.backward()
        self.trainer.step()
        return {"tokens": int(self.batch.T), "loss": loss.item(), "steps": 1}


class CaseLora(CaseB):
    """The same with adapters of rank 16 on a frozen model, features given."""
    targets = ["q_proj", "v_proj"]

    def see(self, params, pixels):
        self.given = pixels.reshape(-1, self.projector.linear_1.in_features)

    def features(self):
        return self.given

    def make_trainer(self, params):
        self.projector.requires_grad_(False)
        config = peft.LoraConfig(r=16, lora_alpha=32, lora_dropout=0.0, target_modules=self.targets)
        adapted = peft.get_peft_model(self.text, config)
        for name, module in self.text.named_modules():
            if hasattr(module, "lora_A"):
                row = next(n for n in params.rows if n.endswith(name.removeprefix("model.") + ".lora_A.weight"))
                module.lora_A["default"].weight.data.copy_(params.get(row))
        return Trainer([adapted], 1e-3, (0.9, 0.999), 0.0)


class CaseLoraAll(CaseLora):
    targets = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


class CaseC:
    """Greedy answers of 12 tokens to 64 queries on one support set; queries are equally long, so nothing is padded."""

    def __init__(self, folder, dtype, variant, case):
        self.text, self.projector, self.shift, params = build(case, folder, dtype)
        parts = variant.split("-")
        self.mode, self.static, self.size = parts[0], parts[1:-1] == ["static"], int(parts[-1])
        b = Batch(folder + "/batch.bin")
        pictures = torch.from_numpy(np.fromfile(folder + "/features.f32", dtype=np.float32)).reshape(int(b.n_images), -1)
        pictures = pictures.to(self.projector.linear_1.weight.dtype)
        self.pictures, self.b = pictures, b
        self.slots = torch.from_numpy(b.slot.astype(np.int64))
        self.slot_row = torch.from_numpy(b.slot_row.astype(np.int64))
        self.ids = torch.from_numpy(b.ids.astype(np.int64))
        self.context = int(b.runs[0][1])
        self.length = int(b.runs[1][1] - b.runs[1][0])
        self.n = int(b.n_runs) - 1
        assert all(r[1] - r[0] == self.length for r in b.runs[1:])
        self.text.eval()

    def cache(self, rows, length):
        if not self.static:
            return DynamicCache(config=self.text.config)
        return StaticCache(config=self.text.config, max_cache_len=length)

    def decode(self, logits, past, at):
        tokens = [logits[:, -1].argmax(-1)]
        for i in range(NEW_TOKENS - 1):
            where = torch.arange(at + i, at + i + 1)
            out = self.text(input_ids=tokens[-1][:, None], past_key_values=past, use_cache=True,
                            position_ids=where[None], **self.kept(where))
            tokens.append(out.logits[:, -1].argmax(-1))
        return torch.stack(tokens, 1)

    def kept(self, where):
        return {"cache_position": where} if self.static else {}

    @torch.no_grad()
    def run(self):
        pictures = self.pictures
        if self.shift:
            pictures = (pictures - self.shift[0].to(pictures.dtype)) * self.shift[1].to(pictures.dtype)
        y = self.projector(pictures)
        x = self.text.model.embed_tokens(self.ids)
        x[self.slots] = y[self.slot_row]
        context, queries = x[:self.context], x[self.context:].reshape(self.n, self.length, -1)
        whole = self.context + self.length
        answers = []
        first = None
        if self.mode == "reuse":
            first = self.text(inputs_embeds=context[None], past_key_values=DynamicCache(config=self.text.config),
                              use_cache=True, logits_to_keep=1).past_key_values
        for i in range(0, self.n, self.size):
            q = queries[i:i + self.size]
            rows = q.shape[0]
            past = self.cache(rows, whole + NEW_TOKENS)
            if self.mode == "reread":
                out = self.text(inputs_embeds=torch.cat([context[None].expand(rows, -1, -1), q], 1), use_cache=True,
                                past_key_values=past, logits_to_keep=1, **self.kept(torch.arange(whole)))
            else:
                where = torch.arange(self.context)
                for at, layer in enumerate(first.layers):
                    keys, values = (t.expand(rows, -1, -1, -1) for t in (layer.keys, layer.values))
                    past.update(keys, values, at, {"cache_position": where})
                where = torch.arange(self.context, whole)
                out = self.text(inputs_embeds=q, use_cache=True, past_key_values=past, position_ids=where[None],
                                logits_to_keep=1, **self.kept(where))
            answers.append(self.decode(out.logits, past, whole))
        answers = torch.cat(answers)
        return {"tokens": answers.numel(), "loss": -1, "steps": 1, "answers": answers[:4].flatten().tolist()}


def main():
    case, dtype, variant, folder = sys.argv[1:5]
    torch.set_num_threads(THREADS)
    torch.manual_seed(1)
    dtype = torch.bfloat16 if dtype == "bf16" else torch.float32
    kinds = {"a": CaseA, "b": CaseB, "lora": CaseLora, "lora-all": CaseLoraAll}
    side = kinds[case](folder, dtype, variant) if case in kinds else CaseC(folder, dtype, variant, case)
    print(json.dumps({"ready": True, "torch": torch.__version__}), flush=True)
    for _ in sys.stdin:
        wall, cpu = time.monotonic(), time.process_time()
        out = side.run()
        out.update(wall_s=time.monotonic() - wall, cpu_s=time.process_time() - cpu)
        print(json.dumps(out), flush=True)
    print(json.dumps({"peak_kib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss}), flush=True)


main()
