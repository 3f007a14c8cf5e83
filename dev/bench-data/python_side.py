"""A Python dataset of the same episodes: `python_side.py official|official-quiet|reference DIR THREADS [OFFICIAL]`.

A worker like bench.c: for each line "N" on its input it makes N episodes in THREADS processes of torch's DataLoader and prints a JSON
line. `official` runs the data set classes of a clone of isekai-portal/Link-Context-Learning (OFFICIAL) as they are; `official-quiet`
leaves out the text that they decode and print for every sample. `reference` is a data set of our own: Pillow, transformers'
CLIPImageProcessor, SentencePiece.
"""
import json
import os
import random
import sys
import time
import types
import unittest.mock

import torch

KIND, DIR, THREADS = sys.argv[1], sys.argv[2], int(sys.argv[3])
SHOTS_PER_CLASS, SIDE, IMAGE_TOKENS = 8, 224, 256
OUT = os.fdopen(os.dup(1), "w")  # what the data set prints goes nowhere
os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def say(**values):
    OUT.write(json.dumps(values) + "\n")
    OUT.flush()


def stub(*names):
    """Packages that the clone imports for pictures of results and other data sets."""
    for name in names:
        try:
            __import__(name)
        except ImportError:
            sys.modules[name] = unittest.mock.MagicMock()


def official(clone, quiet):
    stub("matplotlib", "matplotlib.pyplot", "pycocotools", "pycocotools.coco", "torchvision", "torchvision.ops", "torchvision.utils", "torchvision.transforms",
         "torchvision.transforms.functional")
    sys.path.insert(0, clone)
    from mmengine.config import Config
    from transformers import CLIPImageProcessor, LlamaTokenizer
    from mllm.dataset import prepare_data
    model_args = Config.fromfile(f"{clone}/config/_base_/model/lcl_7b.py").model_args
    tokenizer = LlamaTokenizer(f"{DIR}/tokenizer.model", model_max_length=model_args.model_max_length)
    tokenizer.pad_token = tokenizer.unk_token
    tokenizer.add_tokens(["<im_patch>"], special_tokens=True)
    tokenizer.add_tokens(["<im_start>", "<im_end>"], special_tokens=True)
    if quiet:
        tokenizer.decode = lambda *_, **__: ""
    preprocessor = dict(image=CLIPImageProcessor(), text=tokenizer, target=dict(boxes=None),
                        conv=dict(image_token_len=model_args.image_token_len, is_multimodal=True, sep_image_conv_front=False,
                                  use_im_start_end=model_args.mm_use_im_start_end))
    data_args = Config(dict(use_icl=True, shot=SHOTS_PER_CLASS, train=dict(
        type="ImageNet1kDatasetTrain", policy="policy_2way_weight", filename=f"{DIR}/table.jsonl", image_folder=f"{DIR}/pictures",
        template_file=f"{clone}/config/_base_/dataset/template/ICL.json")))
    training_args = types.SimpleNamespace(do_train=True, do_eval=False, do_predict=False)
    return prepare_data(data_args, model_args, training_args, preprocessor)[0]["train"]


class Reference(torch.utils.data.Dataset):
    """An episode the plain way, in as few steps as Pillow and transformers allow."""

    def __init__(self):
        import sentencepiece
        from transformers import CLIPImageProcessor
        with open(f"{DIR}/table.jsonl", encoding="utf8") as f:
            self.rows = [json.loads(line) for line in f]
        self.by_id = {row["class_id"]: row for row in self.rows}
        self.pieces = sentencepiece.SentencePieceProcessor(model_file=f"{DIR}/tokenizer.model")
        self.processor = CLIPImageProcessor()

    def __len__(self):
        return len(self.rows)

    def picture(self, path):
        from PIL import Image
        image = Image.open(f"{DIR}/pictures/{path}").convert("RGB")
        side = max(image.size)
        square = Image.new("RGB", (side, side), (255, 255, 255))
        square.paste(image, ((side - image.width) // 2, (side - image.height) // 2))
        return self.processor.preprocess(square, return_tensors="pt")["pixel_values"]

    def turn(self, question, label):
        before, after = question.split("<image>")
        patch = self.pieces.vocab_size()
        ids = [1] + self.pieces.encode(f"USER: {before.strip()}") + [patch + 1] + [patch] * IMAGE_TOKENS + [patch + 2]
        ids += self.pieces.encode(f"{after.strip()} ASSISTANT:")
        return ids, self.pieces.encode(f'there is "{label}" in the image.') + [2]

    def __getitem__(self, index):
        row = self.rows[index]
        ranked = row["neighbors"]
        other = self.by_id[random.choices(ranked, weights=range(len(ranked), 0, -1))[0][0]]
        made_up = "".join(random.choices("abcdefghijklmnopqrstuvwxyz", k=random.randint(1, 10)))
        sides = [(row, made_up), (other, other["class_name"].lower())]
        shots = [side for side in sides for _ in range(SHOTS_PER_CLASS)]
        random.shuffle(shots)
        shots.append(random.choice(sides))
        ids, labels, pixels = [], [], []
        for k, (side, label) in enumerate(shots):
            asked, answer = self.turn("What is in the image <image>?", label)
            ids += asked + answer
            labels += [-100] * len(asked) + (answer if k == len(shots) - 1 else [-100] * len(answer))
            pixels.append(self.picture(random.choice(side["samples"])))
        return {"input_ids": torch.tensor(ids), "labels": torch.tensor(labels), "image": torch.cat(pixels)}


class Order:
    """The classes of a round, in an order that is drawn anew."""

    def __init__(self, n_classes):
        self.n_classes, self.n, self.random = n_classes, 0, random.Random(1)

    def __iter__(self):
        return iter([self.random.randrange(self.n_classes) for _ in range(self.n)])

    def __len__(self):
        return self.n


def one(batch):
    return batch[0]


def main():
    torch.set_num_threads(1)
    dataset = Reference() if KIND == "reference" else official(sys.argv[4], KIND == "official-quiet")
    order = Order(len(dataset))
    loader = torch.utils.data.DataLoader(dataset, sampler=order, collate_fn=one, num_workers=THREADS, persistent_workers=True)
    say(ready=True)
    for line in sys.stdin:
        order.n = int(line)
        begin = time.monotonic()
        tokens = pictures = 0
        total = 0.0
        for episode in loader:
            tokens += len(episode["input_ids"])
            pictures += len(episode["image"])
            assert episode["image"].shape[1:] == (3, SIDE, SIDE)
            total += float(episode["image"][:, 0, SIDE // 2, 0].sum())
        say(seconds=time.monotonic() - begin, tokens=tokens, pictures=pictures, sum=total)


main()
