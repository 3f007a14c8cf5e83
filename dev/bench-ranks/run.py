"""Two CPU ranks of one thread each, in turns: `mpirun -np 2 lcl train` and PyTorch's DistributedDataParallel. run.py LCL DIR."""
import json
import os
import shutil
import statistics
import subprocess
import sys

LCL, DIR = sys.argv[1:3]
HERE = os.path.dirname(os.path.abspath(__file__))
REPEATS, STEPS = int(os.environ.get("REPEATS") or 3), int(os.environ.get("STEPS") or 24)
WARM, SAVE_AT, RANKS = 4, STEPS // 2, 2
SAMPLES = 4 * RANKS


def lcl_side():
    out = DIR + "/run"
    root = ["--allow-run-as-root"] if os.getuid() == 0 else []
    subprocess.run(["mpirun", *root, "--oversubscribe", "-np", str(RANKS), LCL, "train", HERE + "/model.yaml", "--quiet", "--force",
                    "--set", "output_dir=" + out, "--set", f"max_steps={STEPS}", "--set", f"save_steps={SAVE_AT}"], check=True)
    lines = [json.loads(x) for x in open(out + "/metrics.jsonl")]
    train = [x for x in lines if x["kind"] == "train"]
    times = [x["time"] for x in train]
    steps = [b - a for a, b in zip(times, times[1:])]  # of step 2 on; the save falls in that of SAVE_AT + 1
    return {"seconds": [0.0] + steps, "stall": sum(x["save_s"] for x in train)}


def ddp_side(port):
    command = [sys.executable, HERE + "/ddp_side.py"]
    tail = [str(RANKS), str(port), str(STEPS), str(SAVE_AT), DIR + "/checkpoint.pt"]
    others = [subprocess.Popen(command + [str(r)] + tail, stdout=subprocess.DEVNULL) for r in range(1, RANKS)]
    first = subprocess.run(command + ["0"] + tail, check=True, stdout=subprocess.PIPE, text=True)
    for p in others:
        p.wait()
    return json.loads(first.stdout.strip().splitlines()[-1])


def main():
    shutil.rmtree(DIR, ignore_errors=True)
    os.makedirs(DIR)
    rates, stalls = {"lcl": [], "ddp": []}, {"lcl": [], "ddp": []}
    for k in range(REPEATS):
        for name, side in (("lcl", lcl_side), ("ddp", lambda: ddp_side(29600 + k))):
            r = side()
            rates[name].append(SAMPLES / statistics.median(r["seconds"][WARM:]))
            stalls[name].append(r["stall"])
            print(f"  {name}: {rates[name][-1]:.2f} samples/s, a save holds training up for {r['stall']:.3f} s", flush=True)
    ours, theirs = (statistics.median(rates[n]) for n in ("lcl", "ddp"))
    save, torch_save = (statistics.median(stalls[n]) for n in ("lcl", "ddp"))
    print(f"samples/s: lcl {ours:.2f}, DistributedDataParallel {theirs:.2f}: {ours / theirs:.2f}x, target 1.2x: "
          f"{'met' if ours >= 1.2 * theirs else 'not met'}")
    print(f"a save holds training up: lcl {save:.3f} s, torch.save {torch_save:.3f} s: {save / torch_save:.3f}, target 0.1: "
          f"{'met' if save <= 0.1 * torch_save else 'not met'}")


main()
