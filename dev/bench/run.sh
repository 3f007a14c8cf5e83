#!/bin/sh
# Speed side by side with PyTorch, and with llama.cpp where build/venv has llama-cpp-python (pip compiles it, so not by
# itself): makes build/venv where it is missing, then runs dev/bench/run.py.
# CASES names the cases (a b c-small c-large smol lora), REPEATS the timed repetitions of each variant,
# THREADS those of each side (2); BENCH another program of the same environment, which gets the arguments.
set -eu
venv=build/venv
python=$venv/bin/python
if ! "$python" -c 'import numpy, peft, safetensors, torch, transformers' 2>/dev/null; then
    echo "making $venv with torch, transformers and peft"
    command -v python3 >/dev/null || { echo 'error: python3 is missing' >&2; exit 1; }
    python3 -m venv "$venv" || {
        echo 'error: no virtual environment' >&2
        echo 'hint: apt-get install python3-venv' >&2
        exit 1
    }
    "$venv/bin/pip" install --quiet torch transformers peft safetensors numpy
fi
exec nice -n "${NICE:-0}" "$python" "${BENCH:-dev/bench/run.py}" "$@"
