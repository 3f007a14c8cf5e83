#!/bin/sh
# make ablations-demo: the paper's ablations at the demo's size. The demo's pictures, tower and pretrained decoder (SEED=1), rows for `mix`,
# then every run of configs/demo/ablations/sweep.yaml with three seeds, and a page of figures. What is done is skipped: the same command goes on after a stop.
set -eu
LCL=${LCL:-build/lcl}
DEMO=build/demo
UNTIL=language SEED=1 LCL=$LCL sh tools/demo.sh

# The base tasks of `mix`: two questions about each picture of the train classes, what it shows and in which pose. Names and poses
# have letters, blanks and hyphens alone, so nothing in them ends a string of JSON.
make_rows() {
    "$LCL" inspect "$DEMO/pack.h5" --pictures | awk -F '\t' '
    function row(question, answer) {
        printf "{\"images\":[\"%s\"],\"messages\":[{\"role\":\"user\",\"content\":\"%s <image>\"},", $1, question
        printf "{\"role\":\"assistant\",\"content\":\"%s\"}]}\n", answer
    }
    $2 != "train" || $1 ~ /["\\]/ || $4 ~ /["\\]/ { next }
    {
        pose = "standing"
        if ($1 ~ /-(die|death)/) pose = "dying"
        else if ($1 ~ /-idle/) pose = "idle"
        else if ($1 ~ /-run/) pose = "running"
        else if ($1 ~ /-fly/) pose = "flying"
        else if ($1 ~ /-(bow|ranged|throw)/) pose = "shooting"
        else if ($1 ~ /-(attack|melee)/) pose = "fighting"
        else if ($1 ~ /-defend/) pose = "defending"
        row("what is in the image?", "there is \\\"" $4 "\\\" in the image.")
        row("what is it doing?", "it is " pose ".")
    }' >"$DEMO/rows.jsonl.part"
    mv "$DEMO/rows.jsonl.part" "$DEMO/rows.jsonl"
    "$LCL" pack --format messages --in "$DEMO/rows.jsonl" --out "$DEMO/rows.h5" \
        --images "$("$LCL" inspect "$DEMO/pack.h5" | sed -n 's/^folder *//p')"
}

[ -s "$DEMO/rows.h5" ] || make_rows
"$LCL" sweep configs/demo/ablations/sweep.yaml
"$LCL" report "$DEMO/ablations"
