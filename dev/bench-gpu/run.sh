#!/bin/sh
# `make bench-gpu`: kernels and whole steps on this machine's GPU, within 8 minutes. `make bench-gpu DRY=1`: the same program
# on the emulator with tiny shapes, which proves that it runs to its end and nothing else.
# usage: dev/bench-gpu/run.sh PROGRAM OUT [dry]
set -u
cd "$(dirname "$0")/../.." || exit 1
program=$1 out=$2 dry=${3:-}
mkdir -p "$(dirname "$out")"
commit=$(git rev-parse --short HEAD 2>/dev/null || echo 'unknown commit')
date=$(date -u +%Y-%m-%d)
rm -f "$out.md" "$out.json"
if [ -n "$dry" ]; then
    LCL_SIM_CHECK=0 timeout 480 "$program" "$out" 400 "$date, $commit, no GPU" dry || exit 1
    [ "$(grep -c ' ms a step' "$out.md")" = 2 ] && [ -s "$out.json" ] && exit 0
    echo "bench-gpu: $out.md lacks whole steps" >&2
    exit 1
fi
if ! gpu=$(nvidia-smi --query-gpu=name,driver_version,memory.total,clocks.max.sm --format=csv,noheader 2>/dev/null | head -1) || [ -z "$gpu" ]; then
    echo 'bench-gpu: this machine has no NVIDIA GPU, or no driver for it (nvidia-smi says so); nothing was run.'
    echo 'hint: `make bench-gpu DRY=1` runs it on the emulator, to see that it runs.'
    exit 1
fi
# The toolkit's folder, where libcudnn often lies; libraries that came with the program (make gpu-kit).
cuda=$(dirname "$(dirname "$(readlink -f "$(command -v nvcc || echo /usr/local/cuda/bin/nvcc)")")")
LD_LIBRARY_PATH="${LD_LIBRARY_PATH:+$LD_LIBRARY_PATH:}$cuda/lib64:$(dirname "$program")/../../gpu/lib" \
    timeout 420 "$program" "$out" 390 "$gpu, $date, $commit"
rc=$?
[ -s "$out.md" ] || exit 1
if python3 -c 'import torch; assert torch.cuda.is_available()' 2>/dev/null; then
    timeout 60 python3 dev/bench-gpu/torch_sdpa.py >"$out.torch.md" && cat "$out.torch.md" >>"$out.md" && rm -f "$out.torch.md"
else
    printf '\nPyTorch was not here: its attention was not run.\n' >>"$out.md"
fi
cat "$out.md"
[ $rc = 0 ] || exit $rc
echo "commit $out.md and $out.json under docs/bench/"
