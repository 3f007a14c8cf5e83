"""Helper of tests/interop/run.sh.

    pictures DIR                  class folders of generated pictures
    case CASE FORWARD OUT         the inputs of CASE with the logits and loss of FORWARD (lcl forward)
    differs CASE OTHER            the logits of two cases are not the same
    inputs HF DIR OUT             a case's inputs for HF by its own processor and chat template
    parts DIR LLAVA               DIR/clip and DIR/llama, made by transformers, with LLaVA's tokenizer but its image and
                                  pad tokens; DIR/delta of torch.save, and DIR/sum.safetensors, what torch makes of both
    joined DIR JOINED             transformers loads JOINED whole, each tensor as DIR/clip and DIR/llama have it
    same A B                      two files of safetensors hold the same
    peft BASE ADAPTER MERGED      peft merges ADAPTER into BASE: the parameters of MERGED, which are not BASE's
    queries RUN OUT               a case's random inputs for the run's model, which has a Q-Former
    qformer RUN FORWARD           Blip2QFormerModel of the run's tensors on FORWARD's features: FORWARD's image features
    words CASE [TOKENS]           a case of words alone: 40 random ids, or those of the first line of lcl tokenize's output
    arrays CASE FORWARD OUT.npz   ids of CASE and logits of FORWARD (lcl forward) for who reads no safetensors
    perplexity CASE FORWARD P     that of the ids under the logits is P within 0.01; FORWARD may be an HF folder
    clip DIR                      DIR/old and DIR/new, CLIPModels of transformers with a small CLIP tokenizer (old: eos_token_id 2 and
                                  vocab.json with merges.txt), and DIR/old.safetensors, DIR/new.safetensors of their inputs
    clip_ids DIR TEXTS OUT        CLIPTokenizer's ids of the texts are those of lcl tokenize's output
    clip_features DIR CASE OUT    CLIPModel's features of CASE are those of OUT (lcl forward) within 1e-5
    processor HF DIR              AutoProcessor: chat template, placeholders, pixels, and a forward pass"""
import os, sys
os.environ.setdefault("HF_HUB_OFFLINE", "1")
import numpy as np
from PIL import Image


def pictures(folder):
    rng = np.random.default_rng(1)
    for k in range(6):
        path = os.path.join(folder, "train" if k < 4 else "test", f"thing-{'abcdef'[k]}")
        os.makedirs(path)
        colour = rng.integers(0, 256, 3)
        for i in range(5):
            noise = rng.integers(-40, 40, (40, 48, 3))
            Image.fromarray(np.clip(colour + noise, 0, 255).astype(np.uint8)).save(f"{path}/{i}.png")


def case(source, forward, out):
    from safetensors.torch import load_file, save_file
    inputs, computed = load_file(source), load_file(forward)
    kept = {k: inputs[k] for k in ("input_ids", "attention_mask", "pixel_values", "labels") if k in inputs}
    save_file(kept | {k: computed[k] for k in ("logits", "loss") if k in computed}, out)


def differs(a, b):
    from safetensors.torch import load_file
    live = load_file(b)["attention_mask"].bool()
    change = float((load_file(a)["logits"][live] - load_file(b)["logits"][live]).abs().max())
    print(f"max abs change of logits {change:.3g}")
    sys.exit(change < 0.01)


def prepared(hf, folder):
    """Two turns of a support set and a question, as the processor makes them. The tiny LLaVA brings a template of its
    own, which takes plain strings; lcl's takes parts too."""
    from transformers import AutoProcessor
    processor = AutoProcessor.from_pretrained(hf)
    own = "macro" not in processor.chat_template
    def user(words):
        parts = [{"type": "text", "text": words}, {"type": "image"}]
        return {"role": "user", "content": words + "<image>" if own else parts}
    answer = 'there is "dax" in the image.'
    said = {"role": "assistant", "content": answer if own else [{"type": "text", "text": answer}]}
    text = processor.apply_chat_template([user("what is in the image? "), said, user("what is in the image? ")],
                                         add_generation_prompt=True)
    images = [Image.open(f"{folder}/train/thing-{name}/0.png") for name in "ab"]
    return processor, text, images, processor(text=text, images=images, return_tensors="pt")


def inputs(hf, folder, out):
    from safetensors.torch import save_file
    _, _, _, x = prepared(hf, folder)
    labels = x["input_ids"].clone()
    save_file({"input_ids": x["input_ids"], "attention_mask": x["attention_mask"], "labels": labels,
               "pixel_values": x["pixel_values"].contiguous()}, out)


def checkpoint(run):
    """Config and tensors of a run's newest checkpoint."""
    import glob, json, h5py, torch
    path = max(glob.glob(f"{run}/checkpoint-*/state.h5"), key=lambda p: int(p.split("-")[-1].split("/")[0]))
    tensors = {}
    with h5py.File(path) as f:
        config = json.loads(bytes(f["model/config"][()]).rstrip(b"\0"))
        f["params"].visititems(lambda name, x: tensors.update({name: torch.from_numpy(x[()])})
                               if isinstance(x, h5py.Dataset) else None)
    return config, tensors


def queries(run, out):
    import torch
    from safetensors.torch import save_file
    c, _ = checkpoint(run)
    torch.manual_seed(0)
    side = c["vision.image_size"]
    ids = torch.tensor([[1] + [c["image_token"]] * (2 * c["qformer.Q"]) + [2]])
    save_file({"input_ids": ids, "attention_mask": torch.ones_like(ids),
               "pixel_values": torch.randn(2, 3, side, side)}, out)


def qformer(run, forward):
    import torch
    from safetensors.torch import load_file
    from transformers import Blip2QFormerConfig, Blip2QFormerModel
    c, tensors = checkpoint(run)
    model = Blip2QFormerModel(Blip2QFormerConfig(
        hidden_size=c["qformer.C"], num_hidden_layers=c["qformer.n_layers"], num_attention_heads=c["qformer.H"],
        intermediate_size=c["qformer.F"], layer_norm_eps=c["qformer.eps"], encoder_hidden_size=c["vision.C"],
        cross_attention_frequency=c["qformer.cross_every"])).eval()
    own = {k[len("qformer."):]: v for k, v in tensors.items() if k.startswith("qformer.")}
    model.load_state_dict(own, strict=True)
    computed = load_file(forward)
    features = computed["vision_hidden"][:, 0 if c["keep_class"] else 1:]
    tokens = tensors["query_tokens"].expand(len(features), -1, -1)
    with torch.no_grad():
        hidden = model(query_embeds=tokens, encoder_hidden_states=features).last_hidden_state
        want = hidden @ tensors["language_projection.weight"].T + tensors["language_projection.bias"]
    apart = float((want - computed["image_features"]).abs().max())
    print(f"max abs difference {apart:.3g} of {float(want.abs().max()):.3g}")
    sys.exit(not apart < 1e-5 * max(1, float(want.abs().max())))


def words(out, tokens=None):
    import json, torch
    from safetensors.torch import save_file
    if tokens:
        ids = json.loads(open(tokens).readline())["ids"]
    else:
        ids = [1] + torch.randint(5, 400, (40,), generator=torch.Generator().manual_seed(0)).tolist()
    save_file({"input_ids": torch.tensor([ids])}, out)


def arrays(source, forward, out):
    from safetensors.numpy import load_file
    np.savez(out, input_ids=load_file(source)["input_ids"], logits=load_file(forward)["logits"])


def perplexity(source, forward, wanted):
    import torch
    from safetensors.torch import load_file
    ids = load_file(source)["input_ids"]
    if os.path.isdir(forward):
        from transformers import AutoModelForCausalLM
        with torch.no_grad():
            logits = AutoModelForCausalLM.from_pretrained(forward, dtype=torch.float32).eval()(ids).logits
    else:
        logits = load_file(forward)["logits"]
    loss = torch.nn.functional.cross_entropy(logits[0, :-1].double(), ids[0, 1:])
    found = float(loss.exp())
    print(f"max abs difference {abs(found - float(wanted)):.3g}: perplexity {found:.4f} over {ids.shape[1]} tokens")
    sys.exit(not abs(found - float(wanted)) <= 0.01)


def processor(hf, folder):
    import torch
    from transformers import AutoModelForImageTextToText
    made, text, images, x = prepared(hf, folder)
    model = AutoModelForImageTextToText.from_pretrained(hf, dtype=torch.float32).eval()
    c = model.config
    per_image = (c.vision_config.image_size // c.vision_config.patch_size) ** 2
    slots = int((x["input_ids"] == c.image_token_index).sum())
    assert slots == 2 * per_image, f"{slots} placeholders, wanted {2 * per_image}"
    assert text.count("ASSISTANT:") == 2 and text.endswith("ASSISTANT:"), text
    assert "dax" in text and made.tokenizer.eos_token in text, text
    new = model.generate(**x, do_sample=False, max_new_tokens=4)[0, x["input_ids"].shape[1]:]
    assert 1 <= len(new) <= 4
    print(f"max abs pixel {float(x['pixel_values'].abs().max()):.3g}, {slots} placeholders")


def parts(folder, llava):
    import json, torch
    from safetensors.torch import save_file
    from transformers import CLIPConfig, CLIPModel, LlamaConfig, LlamaForCausalLM
    torch.manual_seed(0)
    sizes = dict(hidden_size=48, intermediate_size=96, num_hidden_layers=3, num_attention_heads=4)
    CLIPModel(CLIPConfig(text_config=dict(sizes, vocab_size=64, bos_token_id=0, eos_token_id=1, pad_token_id=1),
                         vision_config=dict(sizes, image_size=32, patch_size=8))).save_pretrained(f"{folder}/clip")
    llama = LlamaForCausalLM(LlamaConfig(vocab_size=508, hidden_size=64, intermediate_size=176, num_hidden_layers=3,
                                         num_attention_heads=4, num_key_value_heads=2)).half()
    llama.save_pretrained(f"{folder}/llama", max_shard_size="200KB")
    os.makedirs(f"{folder}/delta")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        made = json.load(open(f"{llava}/{name}"))
        gone = {"image_token", "pad_token", "added_tokens_decoder"}
        if "added_tokens" in made:
            made["added_tokens"] = [t for t in made["added_tokens"] if t["content"] not in ("<image>", "<pad>")]
        for kind in ("llama", "delta"):
            json.dump({k: v for k, v in made.items() if k not in gone}, open(f"{folder}/{kind}/{name}", "w"))
    delta, total = {"model.mm_projector.weight": torch.randn(64, 48).half()}, {}
    for name, x in llama.state_dict().items():
        rows = x.shape[0] + 3 * (x.shape[0] == 508)
        delta[name] = torch.randn(rows, *x.shape[1:]).half() * 0.1
    for name, x in delta.items():
        total[name], base = x.clone(), llama.state_dict().get(name)
        if base is not None:
            total[name][:base.shape[0]] += base
    torch.save(delta, f"{folder}/delta/pytorch_model.bin")
    save_file(total, f"{folder}/sum.safetensors")
    config = json.load(open(f"{folder}/llama/config.json"))
    json.dump(config | {"model_type": "llava", "vocab_size": 511, "mm_vision_tower": os.path.abspath(f"{folder}/clip"),
                        "mm_projector_type": "linear"}, open(f"{folder}/delta/config.json", "w"))


def joined(folder, made):
    import torch
    from transformers import AutoTokenizer, CLIPModel, LlamaForCausalLM, LlavaForConditionalGeneration
    model, report = LlavaForConditionalGeneration.from_pretrained(made, dtype=torch.float32, output_loading_info=True)
    assert not any(report.values()), report
    own = {k.replace("vision_model.", ""): v for k, v in model.state_dict().items()}
    clip = CLIPModel.from_pretrained(f"{folder}/clip").vision_model.state_dict()
    llama = LlamaForCausalLM.from_pretrained(f"{folder}/llama", dtype=torch.float32).state_dict()
    theirs = {f"model.vision_tower.{k}": v for k, v in clip.items()}
    theirs |= {k.replace("model.", "model.language_model."): v for k, v in llama.items()}
    for k, v in theirs.items():
        assert torch.equal(own[k][:v.shape[0]], v), k
        if own[k].shape != v.shape:
            assert torch.allclose(own[k][v.shape[0]:], v.mean(0).expand(2, -1), atol=1e-4), k
    fresh = [k for k in own if k not in theirs]
    assert all("multi_modal_projector" in k for k in fresh) and len(fresh) == 4, fresh
    assert AutoTokenizer.from_pretrained(made).convert_tokens_to_ids(["<image>", "<pad>"]) == [508, 509]


def same(a, b):
    import torch
    from safetensors.torch import load_file
    a, b = load_file(a), load_file(b)
    assert a.keys() == b.keys() and all(a[k].dtype == b[k].dtype and torch.equal(a[k], b[k]) for k in a)


def peft(base, adapter, merged):
    import torch
    from peft import PeftModel
    from transformers import AutoModelForImageTextToText
    load = lambda folder: AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32)
    theirs = PeftModel.from_pretrained(load(base), adapter).merge_and_unload().state_dict()
    ours, before = load(merged).state_dict(), load(base).state_dict()
    assert theirs.keys() == ours.keys() == before.keys()
    change = max(float((ours[k] - before[k]).abs().max()) for k in ours)
    apart = max(float((ours[k] - theirs[k]).abs().max()) for k in ours)
    print(f"max abs difference {apart:.3g}, change by the adapter {change:.3g}")
    sys.exit(not (apart <= 1e-6 and change > 1e-3))


def clip(folder):
    import json, torch
    from safetensors.torch import save_file
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
    from transformers import CLIPConfig, CLIPModel, CLIPTokenizer
    texts = [json.loads(line)["text"] for line in open("tests/interop/texts.jsonl")]
    made = Tokenizer(models.BPE(end_of_word_suffix="</w>", unk_token="<|endoftext|>"))
    made.normalizer = normalizers.Lowercase()
    made.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Whitespace(), pre_tokenizers.ByteLevel(add_prefix_space=False)])
    made.train_from_iterator(texts * 3 + ["a photo of a kit fox", "the crane and the maillot", "there is a kit fox there"],
                             trainers.BpeTrainer(end_of_word_suffix="</w>", min_frequency=2, vocab_size=700,
                                                 initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
    merges = [tuple(m) for m in json.loads(made.to_str())["model"]["merges"]]
    bytes_ = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocab = {t: i for i, t in enumerate(bytes_ + [b + "</w>" for b in bytes_] + ["".join(m) for m in merges] +
                                        ["<|startoftext|>", "<|endoftext|>"])}
    tokenizer = CLIPTokenizer(vocab=vocab, merges=merges)
    sizes = dict(hidden_size=48, intermediate_size=96, num_hidden_layers=3, num_attention_heads=4)
    for seed, kind in enumerate(("old", "new")):
        torch.manual_seed(seed)
        eos = 2 if kind == "old" else tokenizer.eos_token_id
        model = CLIPModel(CLIPConfig(text_config=dict(sizes, vocab_size=len(vocab), bos_token_id=0, eos_token_id=eos, pad_token_id=1,
                                                      hidden_act=("quick_gelu", "gelu")[seed]),
                                     vision_config=dict(sizes, hidden_size=64, image_size=40, patch_size=8), projection_dim=36))
        for p in model.parameters():
            torch.nn.init.normal_(p, 0.0 if p.ndim > 1 else 0.5, 0.15)
        model.save_pretrained(f"{folder}/{kind}")
        tokenizer.save_pretrained(f"{folder}/{kind}")
        if kind == "old":
            os.remove(f"{folder}/old/tokenizer.json")
            json.dump(vocab, open(f"{folder}/old/vocab.json", "w"))
            open(f"{folder}/old/merges.txt", "w").write("#version: 0.2\n" + "".join(f"{a} {b}\n" for a, b in merges))
        ids = tokenizer(texts + ["kit fox", ""], padding=True, return_tensors="pt")["input_ids"]
        save_file({"input_ids": ids, "pixel_values": torch.randn(3, 3, 40, 40)}, f"{folder}/{kind}.safetensors")


def clip_ids(folder, texts, out):
    import json
    from transformers import CLIPTokenizer
    tokenizer = CLIPTokenizer.from_pretrained(folder)
    ours = [json.loads(line) for line in open(out)]
    theirs = [json.loads(line)["text"] for line in open(texts)]
    assert len(ours) == len(theirs) > 0
    for text, got in zip(theirs, ours):
        want = tokenizer(text)["input_ids"]
        assert got["ids"] == want and len(set(want)) > 4, (text, got["ids"], want)
        assert got["decoded"] == tokenizer.decode(want[1:-1]), (got["decoded"], tokenizer.decode(want[1:-1]))


def clip_features(folder, inputs, out):
    import torch
    from safetensors.torch import load_file
    from transformers import CLIPModel
    model, case, ours = CLIPModel.from_pretrained(folder, dtype=torch.float32), load_file(inputs), load_file(out)
    with torch.no_grad():
        theirs = model(**case)
    apart = max(float((theirs[k] - ours[k]).abs().max()) for k in ("image_embeds", "text_embeds"))
    spread = min(float(theirs[k].std(0).max()) for k in ("image_embeds", "text_embeds"))
    print(f"max abs difference {apart:.3g} of features that spread by {spread:.3g}")
    sys.exit(not (apart <= 1e-5 and spread > 0.01))


if __name__ == "__main__":
    {"pictures": pictures, "case": case, "differs": differs, "inputs": inputs, "parts": parts,
     "joined": joined, "same": same, "peft": peft, "queries": queries, "qformer": qformer, "words": words,
     "arrays": arrays, "perplexity": perplexity, "processor": processor, "clip": clip, "clip_ids": clip_ids,
     "clip_features": clip_features}[sys.argv[1]](*sys.argv[2:])
