#!/bin/sh
# The programs of `make test-gpu` and `make bench-gpu` with their libraries, for a machine with a GPU and CUDA's toolkit that cannot
# build them: unpacked in a checkout there, tools/test-gpu.sh and dev/bench-gpu/run.sh find them. cuBLASLt and NCCL are left to the toolkit.
# usage: tools/gpu-kit.sh DIR   (DIR/gpu/tests/ROOM/test_X, DIR/dev/bench-gpu/bench: the programs)
set -eu
cd "$(dirname "$0")/.."
B=$1
kit=$B/gpu-kit
rm -rf "$kit"
mkdir -p "$kit/$B/gpu/lib"
for program in "$B"/gpu/tests/*/test_* "$B/dev/bench-gpu/bench"; do
    mkdir -p "$kit/$(dirname "$program")"
    strip -o "$kit/$program" "$program"
done
sh tools/libraries.sh "$B"/gpu/tests/*/test_* "$B/dev/bench-gpu/bench" | grep -v -e '^libcublas' -e '^libnccl' | while read -r soname path; do
    cp -L "$path" "$kit/$B/gpu/lib/$soname"
done
tar -C "$kit" -cJf "$B/gpu-kit.tar.xz.writing" "$B"
mv "$B/gpu-kit.tar.xz.writing" "$B/gpu-kit.tar.xz"
rm -rf "$kit"
echo "$B/gpu-kit.tar.xz: $(du -m "$B/gpu-kit.tar.xz" | cut -f1) MiB. There, in a checkout: tar -xJf gpu-kit.tar.xz,"
echo "  sh tools/test-gpu.sh $B; sh dev/bench-gpu/run.sh $B/dev/bench-gpu/bench $B/bench-gpu/results"
