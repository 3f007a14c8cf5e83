#!/bin/sh
# The data side beside Python's: makes build/venv-data where it is missing, then runs dev/bench-data/run.py. OFFICIAL names a clone of the
# official code, which wants transformers 4.29. POSIX shell.
set -eu
venv=build/venv-data
python=$venv/bin/python
if ! "$python" -c 'import cv2, jsonlines, mmengine, numpy, PIL, sentencepiece, torch, transformers' 2>/dev/null; then
    echo "making $venv with torch, transformers 4.29, Pillow and what the official code imports"
    command -v python3 >/dev/null || { echo 'error: python3 is missing' >&2; exit 1; }
    python3 -m venv "$venv" || {
        echo 'error: no virtual environment' >&2
        echo 'hint: apt-get install python3-venv' >&2
        exit 1
    }
    # shellcheck disable=SC2086
    "$venv/bin/pip" install --quiet ${PIP_ARGS:-} 'transformers==4.29.2' torch 'numpy<2' pillow sentencepiece 'protobuf<4' mmengine \
        jsonlines opencv-python-headless==4.9.0.80 accelerate==0.21.0
fi
exec nice -n "${NICE:-0}" "$python" dev/bench-data/run.py
