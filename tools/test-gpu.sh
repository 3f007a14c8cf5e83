#!/bin/sh
# The op tests, a golden vector for each intrinsic, the golden model and whole training steps on the GPU of this machine: `make test-gpu`. Within 8 minutes.
# Then, where compute-sanitizer is found, its memcheck, racecheck and synccheck on the tests of attention and norms.
# usage: tools/test-gpu.sh DIR   (DIR/gpu/tests/ROOM/test_X: the programs)
set -u
cd "$(dirname "$0")/.." || exit 1
B=$1
score=build/test-results-gpu

if ! device=$(nvidia-smi --query-gpu=name,driver_version,compute_cap --format=csv,noheader 2>/dev/null | head -1) || [ -z "$device" ]; then
    echo 'test-gpu: this machine has no NVIDIA GPU, or no driver for it (nvidia-smi says so); nothing was run.'
    echo 'hint: `make test-cuda-sim` runs the same kernels in the emulator.'
    exit 1
fi
echo "on $device, $(date +%Y-%m-%d)"
# Libraries that came with the programs (make gpu-kit), and the toolkit's.
export LD_LIBRARY_PATH="$B/gpu/lib:/usr/local/cuda/lib64${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"
sh tools/run-tests.sh start $score
TEST_TIMEOUT=120 sh tools/run-tests.sh suite $score gpu "$B"/gpu/tests/ops/test_* "$B"/gpu/tests/model/test_* "$B"/gpu/tests/cuda/test_* \
    $(ls "$B"/gpu/tests/nccl/test_* 2>/dev/null)
sanitizer=$(command -v compute-sanitizer || ls /usr/local/cuda/bin/compute-sanitizer 2>/dev/null)
if [ -n "$sanitizer" ]; then
    for tool in memcheck racecheck synccheck; do
        for t in attention norm head_xent; do
            sh tools/run-tests.sh step $score "$tool: test_$t" timeout 100 "$sanitizer" --tool $tool --error-exitcode 1 "$B/gpu/tests/ops/test_$t"
        done
    done
else
    echo 'compute-sanitizer is not here: not run'
fi
sh tools/run-tests.sh end $score
