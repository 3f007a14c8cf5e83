"""Makes pictures and a table, lets both sides work in turns, prints episodes a second and their ratio; writes build/bench-data.json.

Environment: OFFICIAL (a clone of isekai-portal/Link-Context-Learning), ROUNDS (5), EPISODES a round (8), THREADS (2).
"""
import json
import os
import random
import statistics
import subprocess
import sys

DIR, BENCH, LCL = "build/bench-data", "build/dev/bench-data/bench", "build/lcl"
OFFICIAL = os.environ.get("OFFICIAL", "")
ROUNDS = int(os.environ.get("ROUNDS") or 5)
EPISODES = int(os.environ.get("EPISODES") or 8)
THREADS = os.environ.get("THREADS") or "2"
CLASSES, SAMPLES, NEIGHBORS, TARGET = 24, 36, 12, 5.0
PICTURES = 17  # of an episode


def make_picture(path, rng):
    """500 x 375 (or upright), as ImageNet's: smooth ground, texture and edges, JPEG of quality 90 in 4:2:0, about 100 kB."""
    import numpy
    from PIL import Image
    noise = numpy.random.default_rng(rng.getrandbits(32))
    coarse = Image.fromarray(noise.integers(0, 256, (6, 8, 3), dtype=numpy.uint8)).resize((500, 375), Image.BICUBIC)
    middle = Image.fromarray(noise.integers(0, 256, (75, 100, 3), dtype=numpy.uint8)).resize((500, 375), Image.BILINEAR)
    fine = noise.normal(0, 12, (375, 500, 1))
    pixels = 0.65 * numpy.asarray(coarse, float) + 0.3 * numpy.asarray(middle, float) + fine
    image = Image.fromarray(numpy.clip(pixels, 0, 255).astype(numpy.uint8))
    if rng.random() < 0.3:
        image = image.transpose(Image.ROTATE_90)
    image.save(path, quality=90)


def make_data():
    """The same for every run: a table of classes like the official one, its pictures, a tokenizer of SentencePiece."""
    import sentencepiece
    rng = random.Random(5)
    os.makedirs(f"{DIR}/pictures", exist_ok=True)
    rows = []
    for c in range(CLASSES):
        samples = [f"n{c:08d}_{i}.JPEG" for i in range(SAMPLES)]
        rows.append({"class_id": str(c), "class_name": f"Kind number {c}", "samples": samples, "neighbors": []})
        for name in samples:
            if not os.path.exists(f"{DIR}/pictures/{name}"):
                make_picture(f"{DIR}/pictures/{name}", rng)
    for row in rows:
        for other in rng.sample([r for r in rows if r is not row], NEIGHBORS):
            row["neighbors"].append([other["class_id"], other["class_name"], other["samples"][0]])
    with open(f"{DIR}/table.jsonl", "w", encoding="utf8") as f:
        f.writelines(json.dumps(row) + "\n" for row in rows)
    if not os.path.exists(f"{DIR}/tokenizer.model"):
        sentencepiece.SentencePieceTrainer.train(
            input="docs/architecture.md,docs/strategies.md,docs/formats.md,docs/tutorial.md", model_prefix=f"{DIR}/tokenizer",
            vocab_size=3000, model_type="bpe", byte_fallback=True, normalization_rule_name="identity",
            remove_extra_whitespaces=False, user_defined_symbols=["<image>", "<pad>"], minloglevel=2)


def write_config():
    layout = "layout: vicuna"
    if OFFICIAL:
        subprocess.run([LCL, "import", "templates", "--from", OFFICIAL, "--out", f"{DIR}/template.json", "--force", "-q"], check=True,
                       stdout=subprocess.DEVNULL)
        layout = f"template: {DIR}/template.json"
    with open(f"{DIR}/config.yaml", "w", encoding="utf8") as f:
        f.write(f"""output_dir: {DIR}/run
tokenizer: {DIR}/tokenizer.model
per_device_train_batch_size: 4
max_steps: 1
data:
  table: {DIR}/table.jsonl
  images: {DIR}/pictures
  reading: paper
  strategy: 2-way
  shots: 16
  {layout}
  resize: pad
  background: "255,255,255"
""")


def processor_s(pid):
    """Processor time of a process and all below it so far, by the kernel's accounts."""
    with open(f"/proc/{pid}/stat", encoding="utf8") as f:
        fields = f.read().rpartition(")")[2].split()
    total = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    for task in os.listdir(f"/proc/{pid}/task"):
        with open(f"/proc/{pid}/task/{task}/children", encoding="utf8") as f:
            total += sum(processor_s(child) for child in f.read().split())
    return total


class Side:
    """A worker process; idle between rounds."""

    def __init__(self, name, command):
        self.name, self.rates, self.by_processor, self.tokens = name, [], [], 0
        environment = dict(os.environ, OMP_NUM_THREADS="1", TOKENIZERS_PARALLELISM="false")
        self.log = open(f"{DIR}/{name}.log", "w", encoding="utf8")
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.log, text=True,
                                        env=environment)
        self.answer()

    def answer(self):
        line = self.process.stdout.readline()
        if not line:
            sys.exit(f"error: {self.name} ended; {self.log.name} says why")
        return json.loads(line)

    def round(self, episodes, counts):
        begin = processor_s(self.process.pid)
        self.process.stdin.write(f"{episodes}\n")
        self.process.stdin.flush()
        said = self.answer()
        # A picture that a lane of ours holds twice is decoded once: what counts is what was decoded.
        assert 0.8 * PICTURES * episodes < said["pictures"] <= PICTURES * episodes, f"{self.name}: {said} of {episodes} episodes"
        if counts:
            made = said["pictures"] / PICTURES
            self.rates.append(made / said["seconds"])
            self.by_processor.append(int(THREADS) * made / (processor_s(self.process.pid) - begin))
            self.tokens = said["tokens"] / episodes


def main():
    make_data()
    write_config()
    python = [sys.executable, "dev/bench-data/python_side.py"]
    sides = [Side("lcl", [BENCH, f"{DIR}/config.yaml", THREADS])]
    for kind in ["official-quiet", "official"] if OFFICIAL else []:
        sides.append(Side(kind, python + [kind, DIR, THREADS, os.path.abspath(OFFICIAL)]))
    sides.append(Side("reference", python + ["reference", DIR, THREADS]))
    for number in range(ROUNDS + 1):  # the first one warms up
        for side in sides:
            side.round(EPISODES * (4 if side.name == "lcl" else 1), number > 0)
    for side in sides:
        side.process.stdin.close()
        side.process.wait()
    ours = statistics.median(sides[0].rates)
    ours_cpu = statistics.median(sides[0].by_processor)
    print(f"episodes of 16 shots and a query ({PICTURES} JPEGs of 500 x 375, {sides[0].tokens:.0f} tokens), {THREADS} threads or processes, "
          f"median of {ROUNDS} rounds in turns; load {os.getloadavg()[0]:.1f} on {os.cpu_count()} processors")
    print(f"{'':16}{'episodes/s':>12}{'least':>9}{'most':>9}{'lcl is':>9}{'by processor time':>20}{'lcl is':>9}")
    result = {}
    for side in sides:
        rate, cpu = statistics.median(side.rates), statistics.median(side.by_processor)
        result[side.name] = {"episodes_per_s": rate, "rounds": side.rates, "by_processor": side.by_processor, "tokens": side.tokens,
                             "ratio": ours / rate, "ratio_by_processor": ours_cpu / cpu}
        print(f"{side.name:16}{rate:12.2f}{min(side.rates):9.2f}{max(side.rates):9.2f}{ours / rate:8.1f}x{cpu:20.2f}{ours_cpu / cpu:8.1f}x")
    with open("build/bench-data.json", "w", encoding="utf8") as f:
        json.dump(result, f, indent=1)
    if OFFICIAL:
        for kind, key in [("as timed", "ratio"), ("by processor time", "ratio_by_processor")]:
            ratio = result["official-quiet"][key]
            print(f"bar: {TARGET:.0f}x the official code's data set (without its print of every sample), {kind}: "
                  f"{'met' if ratio >= TARGET else 'missed'}, {ratio:.1f}x")
    else:
        print("the official code was not measured: OFFICIAL=DIR names a clone; `reference` is our own Pillow + transformers data set")


main()
