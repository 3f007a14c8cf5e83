#!/bin/sh
# What lcl plan says of the demo's stages beside what they take: peak memory, and seconds a step by wall clock and by CPU time.
# usage: sh dev/plan/measure.sh [STEPS]     after `make demo` (or UNTIL=language make demo); LCL, DEMO, SEED as there
# Needs GNU time. Seconds are those of a machine that does nothing else: CPU seconds over threads tell what another program took away.
set -eu
LCL=${LCL:-build/lcl}
DEMO=${DEMO:-build/demo}
S=$DEMO/seed-${SEED:-1}
STEPS=${1:-40}
OUT=$(mktemp -d)
trap 'rm -rf "$OUT"' EXIT
[ -s "$DEMO/pack.h5" ] && [ -e "$S/language/finished" ] || { echo "error: $S/language is not finished: UNTIL=language make demo" >&2; exit 1; }
[ -x /usr/bin/time ] || { echo "error: there is no /usr/bin/time (GNU time)" >&2; exit 1; }

number() { sed -n "s/^ *\"$1\": *\([0-9.e+-]*\),*$/\1/p" "$2"; }
# Peak KiB, wall seconds and CPU seconds of a run of so many steps.
taken() { # steps, config, settings
    N=$1 C=$2
    shift 2
    /usr/bin/time -o "$OUT/time" -f '%M %e %U %S' "$LCL" train "$C" "$@" --set "max_steps=$N" --set eval_steps=0 \
        --set "output_dir=$OUT/run-$N" --quiet >/dev/null
    rm -rf "$OUT/run-$N"
    cat "$OUT/time"
}
printf '%-14s %10s %10s %6s   %9s %9s %9s %6s %6s\n' stage 'plan MiB' 'peak MiB' ratio 'plan s' 'wall s' 'CPU s/th' wall CPU
measure() { # name, config, settings
    NAME=$1 C=$2
    shift 2
    "$LCL" plan "$C" "$@" --set eval_steps=0 --set "max_steps=$STEPS" --json --quiet >"$OUT/plan.json"
    ONE=$(taken 1 "$C" "$@")
    ALL=$(taken "$STEPS" "$C" "$@")
    MEMORY=$(number total "$OUT/plan.json" | sort -g | tail -1)
    # Stages run one after another with STEPS steps each: their seconds are summed.
    SECONDS_A_STEP=$(number seconds_per_step "$OUT/plan.json" | awk '{ s += $1 } END { print s }')
    echo "$MEMORY $SECONDS_A_STEP $ONE $ALL" | awk -v n="$NAME" -v k="$STEPS" -v t="$(nproc)" '{
        wall = ($8 - $4) / (k - 1); cpu = ($9 + $10 - $5 - $6) / (k - 1) / t
        printf "%-14s %10.1f %10.1f %6.2f   %9.4f %9.4f %9.4f %6.2f %6.2f\n", n, $1 / 1048576, $7 / 1024, $1 / 1024 / $7, $2, wall, cpu, $2 / wall, $2 / cpu
    }'
}
measure vision configs/demo/1-vision.yaml --set "data.pack=$DEMO/pack.h5"
measure language configs/demo/2-language.yaml --set "data.pack=$DEMO/pack.h5" --set "init_from=$S/vision"
measure link-context configs/demo/3-link-context.yaml --set "data.pack=$DEMO/pack.h5" --set "init_from=$S/language" --set "data.neighbors=$S/neighbors.h5"
