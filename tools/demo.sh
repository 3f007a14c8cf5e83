#!/bin/sh
# make demo: the main job end to end on the CPU. Pictures, pack, vision warm-up, neighbor table, language pretraining, link-context
# training, evaluation on classes never trained on, report. A step whose output is whole
# is skipped, one that was stopped goes on.
#   SEED=n       another seed                 IMAGES=dir   a folder of class folders instead of the demo's pictures
#   DEMO=dir     where it all goes (default build/demo)      FRESH=1      begin anew
#   UNTIL=pack|language   no more than that
set -eu
LCL=${LCL:-build/lcl}
SEED=${SEED:-1}
IMAGES=${IMAGES:-}
BASE=${DEMO:-build/demo}
# Each seed and each set of pictures has a folder of its own: nothing that was made is written over.
D=$BASE/seed-$SEED
[ -z "$IMAGES" ] || D=$BASE/own-$(printf %s "$IMAGES" | cksum | cut -d' ' -f1)-seed-$SEED
[ "${FRESH:-0}" = 0 ] || rm -rf "$D/vision" "$D/language" "$D/link" "$D/results.json" "$D/episodes.jsonl"
mkdir -p "$D"
T0=$(date +%s)

say() { printf '\n== %s  [%s s since the start]\n' "$1" "$(($(date +%s) - T0))"; }

fetch_pictures() {
    P=$BASE/pictures
    UNITS=$(find "$P" -type d -path '*/data/core/images/units' 2>/dev/null | head -n 1)
    [ -z "$UNITS" ] || { SRC=$UNITS; return 0; }
    mkdir -p "$P/download"
    for V in 1.16 1.18 1.14 1.20; do
        if apt-cache show "wesnoth-$V-data" >/dev/null 2>&1; then
            echo "downloading the Debian package wesnoth-$V-data (146 MB; unpacked under $P, nothing is installed)"
            if (cd "$P/download" && apt-get download "wesnoth-$V-data" >apt.log 2>&1); then
                DEB=$(find "$P/download" -name "wesnoth-$V-data_*.deb" | head -n 1)
                dpkg-deb -x "$DEB" "$P" && rm -f "$DEB"
                break
            fi
            cat "$P/download/apt.log"
        fi
    done
    SRC=$(find "$P" -type d -path '*/data/core/images/units' 2>/dev/null | head -n 1)
    [ -n "$SRC" ] && return 0
    echo "error: the demo's pictures (Debian package wesnoth-1.16-data) cannot be had here" >&2
    echo "hint: run 'apt-get update', or use your own: make demo IMAGES=dir, a folder of class folders with 9 pictures or more each" >&2
    exit 1
}

PACK=$BASE/pack.h5
[ -z "$IMAGES" ] || PACK=$D/pack.h5
if [ ! -s "$PACK" ]; then
    if [ -n "$IMAGES" ]; then
        say "pack $IMAGES"
        "$LCL" pack --format imagefolder --images "$IMAGES" --out "$PACK"
    else
        say "pictures"
        fetch_pictures
        say "pack"
        "$LCL" pack --format wesnoth --images "$SRC" --out "$PACK" --min-images 9
    fi
fi
[ "${UNTIL:-}" != pack ] || exit 0

TABLE=$D/neighbors.h5
train() { # name, config, further --set
    NAME=$1 CONFIG=$2
    shift 2
    if [ -e "$D/$NAME/finished" ]; then
        echo "$NAME: done before ($D/$NAME)"
        return 0
    fi
    S=$(date +%s)
    "$LCL" train "$CONFIG" --resume --set "output_dir=$D/$NAME" --set "data.pack=$PACK" --set "seed=$SEED" "$@"
    [ -e "$D/$NAME/finished" ] || { echo "stopped and saved; make demo goes on from there"; exit 1; }
    echo $(($(date +%s) - S)) >"$D/$NAME/seconds"
}

say "vision warm-up on the train classes"
train vision configs/demo/1-vision.yaml

if [ ! -s "$TABLE" ]; then
    say "class neighbors"
    "$LCL" neighbors --pack "$PACK" --model "$D/vision" --out "$TABLE" --sheet "$D/neighbors.png" --force
fi

say "language pretraining of the decoder"
train language configs/demo/2-language.yaml --set "init_from=$D/vision"
[ "${UNTIL:-}" != language ] || exit 0

say "link-context training"
train link configs/demo/3-link-context.yaml --set "init_from=$D/language" --set "data.neighbors=$TABLE"

say "evaluation on classes never trained on"
if [ ! -s "$D/results.json" ]; then
    R=$D/results.json.part
    rm -f "$R"
    "$LCL" eval "$D/link" --rows lcl,made_up,shuffled,prototype --results "$R" --predictions "$D/episodes.jsonl" \
        --set "data.pack=$PACK" --set "data.neighbors=$TABLE"
    echo "before link-context training:"
    "$LCL" eval "$D/language" --row before --results "$R" --set "data.pack=$PACK" --set "data.neighbors=$TABLE" \
        --set "eval.shots=2,4,8,16" --seconds "vision=$(cat "$D/vision/seconds")" \
        --seconds "language=$(cat "$D/language/seconds")" --seconds "link-context=$(cat "$D/link/seconds")" \
        --seconds "total so far=$(($(date +%s) - T0))"
    mv "$R" "$D/results.json"
fi

say "report"
"$LCL" report "$D" --svg "$D/accuracy.svg"
# The newest run's results stand at the top of the demo's folder.
for F in results.json report.html accuracy.svg neighbors.png; do
    ln -sf "$(basename "$D")/$F" "$BASE/$F"
done
say "done"
echo "results: $D/results.json"
echo "report:  $(cd "$D" && pwd)/report.html   (open it in a browser)"
