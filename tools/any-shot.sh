#!/bin/sh
# make any-shot-demo: any-shot in-context tuning at the demo's size. The demo's pictures, tower and pretrained decoder (SEED=1), then every
# run of configs/any-shot/demo/sweep.yaml, and a page of figures. What is done is skipped: the same command goes on after a stop.
set -eu
LCL=${LCL:-build/lcl}
UNTIL=language SEED=1 LCL=$LCL sh tools/demo.sh
"$LCL" sweep configs/any-shot/demo/sweep.yaml
"$LCL" report build/demo/any-shot
