#!/bin/sh
# Speed side by side with PyTorch: makes build/venv where it is missing, then runs dev/bench/run.py.
# CASES names the cases (a b c-small c-large), REPEATS the timed repetitions of each variant.
set -eu
venv=build/venv
python=$venv/bin/python
if ! "$python" -c 'import numpy, safetensors, torch, transformers' 2>/dev/null; then
    echo "making $venv with torch and transformers"
    command -v python3 >/dev/null || { echo 'error: python3 is missing' >&2; exit 1; }
    python3 -m venv "$venv" || {
        echo 'error: no virtual environment' >&2
        echo 'hint: apt-get install python3-venv' >&2
        exit 1
    }
    "$venv/bin/pip" install --quiet torch transformers safetensors numpy
fi
exec nice -n "${NICE:-0}" "$python" dev/bench/run.py
