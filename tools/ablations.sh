#!/bin/sh
# make ablations-demo: the paper's ablations at the demo's size. The demo's pictures, tower and pretrained decoder (SEED=1), then every
# run of configs/demo/ablations/sweep.yaml with three seeds, and a page of figures. What is done is skipped: the same command goes on after a stop.
set -eu
LCL=${LCL:-build/lcl}
UNTIL=language SEED=1 LCL=$LCL sh tools/demo.sh
"$LCL" sweep configs/demo/ablations/sweep.yaml
"$LCL" report build/demo/ablations
