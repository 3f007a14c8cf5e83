#!/bin/sh
# make smollm2: a real language model learns from its context on the CPU. SmolLM2-135M-Instruct out of GGUF, a small vision tower made on
# the demo's pictures, joined by a fresh projector and tuned with LoRA on link-context episodes; accuracy by shots before and after on
# classes never trained on, a GGUF export, and an answer from llama.cpp. A step whose output is whole is skipped.
#   SEED=n       another seed                 SMOLLM2=dir   where it all goes (default build/smollm2)
#   FRESH=1      begin anew                   LLAMA_CPP=1   make llama-cpp-python, where it is not there (from source: about 11 minutes)
set -eu
LCL=${LCL:-build/lcl}
SEED=${SEED:-1}
D=${SMOLLM2:-build/smollm2}
DEMO=${DEMO:-build/demo}
[ "${FRESH:-0}" = 0 ] || rm -rf "$D/vision" "$D/joined" "$D/link" "$D/gguf" "$D/neighbors.h5" "$D/results.json"
mkdir -p "$D"
T0=$(date +%s)

say() { printf '\n== %s  [%s s since the start]\n' "$1" "$(($(date +%s) - T0))"; }

PACK=$DEMO/pack.h5
[ -s "$PACK" ] || LCL=$LCL DEMO=$DEMO UNTIL=pack sh tools/demo.sh

if [ ! -e "$D/base/config.json" ]; then
    say "SmolLM2-135M-Instruct"
    GGUF=$(sh tools/smollm2-gguf.sh "$D/download")
    # A token that no text of ours needs stands for pictures: the vocabulary stays as it is.
    "$LCL" import gguf --file "$GGUF" --out "$D/base" --image-token '<empty_output>' --force
fi

train() { # name, config, further --set
    NAME=$1 CONFIG=$2
    shift 2
    if [ -e "$D/$NAME/finished" ]; then
        echo "$NAME: done before ($D/$NAME)"
        return 0
    fi
    "$LCL" train "$CONFIG" --resume --set "output_dir=$D/$NAME" --set "data.pack=$PACK" --set "seed=$SEED" "$@"
    [ -e "$D/$NAME/finished" ] || { echo "stopped and saved; make smollm2 goes on from there"; exit 1; }
}
joined() { # name, further --set
    NAME=$1
    shift
    train "$NAME" configs/smollm2/2-link-context.yaml --set "init_from=$D/base" --set "init_vision_from=$D/vision" \
        --set "data.neighbors=$D/neighbors.h5" "$@"
}
evaluate() { # run, rows
    "$LCL" eval "$D/$1" --results "$D/results.json.part" --set "data.pack=$PACK" --set "data.neighbors=$D/neighbors.h5" "$2" "$3"
}

say "vision warm-up on the train classes"
train vision configs/smollm2/1-vision.yaml
[ -s "$D/neighbors.h5" ] || "$LCL" neighbors --pack "$PACK" --model "$D/vision" --out "$D/neighbors.h5" --force

say "link-context training: LoRA and projector"
joined link

say "accuracy by shots on classes never trained on, chance is 0.5"
if [ ! -s "$D/results.json" ]; then
    rm -f "$D/results.json.part"
    # The model before its first step, as a run of its own: one step at a learning rate of 0.
    [ -e "$D/joined/finished" ] || joined joined --set max_steps=1 --set learning_rate=0 --quiet
    echo "before: SmolLM2 and the tower, joined and not tuned"
    evaluate joined --row before
    echo "after:"
    evaluate link --rows lcl,shuffled,prototype
    mv "$D/results.json.part" "$D/results.json"
    rm -rf "$D/joined"
fi

say "GGUF"
[ -e "$D/gguf/model.gguf" ] || "$LCL" export "$D/link" --to gguf --out "$D/gguf" --dtype f16

# Five pictures of a class never trained on, from the folder that the pack was made of: none of other packs.
pictures() {
    "$LCL" inspect "$PACK" --pictures | awk -F'\t' -v class="$1" '$2 == "test" && $3 == class { print $1 }' | head -n 5 |
        while read -r NAME; do [ ! -e "$FOLDER/$NAME" ] || echo "$FOLDER/$NAME"; done
}
FOLDER=$("$LCL" inspect "$PACK" --json | sed -n 's/^ "folder": "\(.*\)",$/\1/p')
# shellcheck disable=SC2046
set -- $("$LCL" inspect "$PACK" | awk '$3 == "test" { print $1 }' | head -n 2)
DAX=${1:-} ZUP=${2:-}
# shellcheck disable=SC2046
set -- $(pictures "$DAX") $(pictures "$ZUP")

say "questions"
if [ $# = 10 ]; then
    echo "four pictures of $DAX, called dax, and four of $ZUP, called zup; what is the fifth of each?"
    "$LCL" generate --model "$D/link" --support "dax=$1,$2,$3,$4" --support "zup=$6,$7,$8,$9" --query "$5" --query "${10}"
else
    echo "the pictures of $PACK are not here: lcl generate --model $D/link asks about your own"
fi

say "the same in llama.cpp"
PYTHON=build/venv-llama/bin/python
works() { [ -x $PYTHON ] && $PYTHON -c 'import llama_cpp, PIL' 2>/dev/null; }
if ! works && [ "${LLAMA_CPP:-0}" != 0 ]; then
    echo "making build/venv-llama: llama-cpp-python is built from source, which takes about 11 minutes"
    # shellcheck disable=SC2086
    python3 -m venv build/venv-llama && build/venv-llama/bin/pip install --quiet ${PIP_ARGS:-} llama-cpp-python==0.3.36 numpy pillow
fi
llama() { # the ten pictures, and the one that is asked about
    ANSWER=$($PYTHON "$D/gguf/example.py" "dax=$1" "zup=$6" "dax=$2" "zup=$7" "dax=$3" "zup=$8" "dax=$4" "zup=$9" "${11}" 2>"$D/llama.log") ||
        { cat "$D/llama.log" >&2; exit 1; }
    echo "${11}"
    echo "  answer: $ANSWER"
}
if ! works; then
    echo "llama-cpp-python is not in build/venv-llama: make smollm2 LLAMA_CPP=1 builds it (about 11 minutes) and asks it"
elif [ $# = 10 ]; then
    llama "$@" "$5"
    llama "$@" "${10}"
    echo "(builds with issue 25814 of llama.cpp drop the first of a picture's four tokens and show the tower's class token as the last)"
else
    echo "$PYTHON $D/gguf/example.py asks about your own pictures"
fi

say "done"
awk -F'"' '
    /^  "/ { row = $2 }
    /^    "[0-9]+": / {
        match($0, /"likelihood": [0-9.]+/)
        of[$2, row] = substr($0, RSTART + 14, RLENGTH - 14)
        if (!($2 in seen)) { seen[$2]; shots[++n] = $2 }
    }
    END {
        print "accuracy by likelihood, classes never trained on:"
        printf "%7s %8s %8s %16s %18s\n", "shots", "before", "after", "shuffled labels", "nearest prototype"
        for (i = 1; i <= n; i++) {
            k = shots[i]
            printf "%7s %8.3f %8.3f %16.3f %18.3f\n", k, of[k, "before"], of[k, "lcl"], of[k, "shuffled_labels"], of[k, "prototype"]
        }
    }' "$D/results.json"
echo "results: $D/results.json"
echo "llama.cpp: $D/gguf (README.md, example.py)"
