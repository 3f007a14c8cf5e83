#!/bin/sh
# Ranks on the GPUs of this node, one each, with NCCL between them: `make test-nccl N=8`. One rank alone; losses of 1, 2, 4 .. N
# ranks for each zero: stage; a run resumed by other numbers of ranks; runs whose ranks are killed. Says what is missing where that is so.
# usage: tools/test-nccl.sh DIR N   (DIR/lcl, DIR/gpu/tests/nccl/test_alone: the programs)
# KILLS=20 SIGKILLs, STAGES='0 1 2 3' of zero:, STEPS=10, SEED=1 (of the kills); MPIRUN='mpirun --map-by ...' starts ranks.
# DRY=1: on the CPU with MPI, to see that all of this runs.
set -u
cd "$(dirname "$0")/.." || exit 1
B=$1 N=$2
stages=${STAGES:-0 1 2 3} steps=${STEPS:-10} kills=${KILLS:-20} dry=${DRY:-}
score=build/test-results-nccl work=$PWD/build/test-nccl config=configs/tests/ranks.yaml
device=cuda
[ -z "$dry" ] || device=cpu
self=tools/test-nccl.sh

missing() { # what, hint
    echo "test-nccl: $1; nothing was run."
    echo "hint: $2"
    exit 1
}

check_machine() {
    case $N in '' | *[!0-9]* | 0) missing "N is \"$N\", a number of ranks was expected" 'make test-nccl N=8' ;; esac
    command -v "${MPIRUN:-mpirun}" >/dev/null 2>&1 || [ -n "${MPIRUN:-}" ] ||
        missing 'there is no mpirun' 'install an MPI (Debian: openmpi-bin libopenmpi-dev; a cluster: module load)'
    "$B/lcl" --version | grep -q '^mpi: not built in' && missing "$B/lcl was built without MPI" 'install its development package and run make again'
    [ -z "$dry" ] || return 0
    gpus=$(nvidia-smi -L 2>/dev/null | grep -c '^GPU ')
    [ "$gpus" -gt 0 ] || missing 'this machine has no NVIDIA GPU, or no driver for it (nvidia-smi says so)' \
        'DRY=1 runs the same on the CPU; make test-quick TEST_FILTER=nccl has the calls of NCCL over a stub'
    [ "$gpus" -ge "$N" ] || missing "this machine has $gpus GPUs, and N is $N: NCCL wants one for each rank" "make test-nccl N=$gpus"
    "$B/lcl" --version | grep -q '^nccl: NCCL' || missing "$B/lcl was built without NCCL" \
        'nccl.h and libnccl.so belong in the toolkit or in NCCL_HOME (Debian and Ubuntu: libnccl-dev of NVIDIA'"'"'s repository); run make again'
    nvidia-smi --query-gpu=index,name,driver_version --format=csv,noheader
}

# Ranks are started by whom the machine has them started; Open MPI refuses root, and more ranks than processors, unless told.
launcher() {
    if [ -n "${MPIRUN:-}" ]; then
        echo "$MPIRUN"
    elif mpirun --version 2>/dev/null | grep -q 'Open MPI'; then
        echo "mpirun --oversubscribe --bind-to none $([ "$(id -u)" != 0 ] || echo --allow-run-as-root)"
    else
        echo mpirun
    fi
}

train() { # ranks, folder, options...
    n=$1 out=$2
    shift 2
    $(launcher) -np "$n" "$B/lcl" train "$config" --device $device --set max_steps="$steps" --set output_dir="$out" "$@"
}

losses() { # folder: "step loss" of each step, the last that was written of it
    sed -n 's/.*"kind":"train".*"step":\([0-9]*\),.*"loss":\([^,]*\),.*/\1 \2/p' "$1/metrics.jsonl" | sort -n -k1,1 -s |
        awk '{ loss[$1] = $2; if ($1 > n) n = $1 } END { for (i = 1; i <= n; i++) if (i in loss) print i, loss[i] }'
}

same() { # folder, folder, how far apart losses may be, relative; after which step
    losses "$1" >"$work/wanted" && losses "$2" >"$work/got"
    awk -v most="$3" -v after="${4:-0}" -v steps="$steps" '
        NR == FNR { wanted[$1] = $2; next }
        $1 > after {
            apart = wanted[$1] - $2
            if (apart < 0) apart = -apart
            if (!($1 in wanted) || !(apart <= most * wanted[$1])) { print "step " $1 ": loss " $2 ", wanted " wanted[$1]; bad = 1 }
            else n++
        }
        END { if (n != steps - after) { print n + 0 " steps of " steps - after " agree"; bad = 1 } exit bad }' "$work/wanted" "$work/got"
}

# --- the checks, each a call of this script by itself ---

check_losses() { # ranks, stage, true|false: deterministic
    train 1 "$work/1-$2-$3" --force --set zero="$2" --set deterministic="$3" &&
        train "$1" "$work/$1-$2-$3" --force --set zero="$2" --set deterministic="$3" &&
        same "$work/1-$2-$3" "$work/$1-$2-$3" "$([ "$3" = true ] && echo 0 || echo 1e-5)"
}

# Each run goes on from a checkpoint of the one before, with other ranks and another stage.
check_resume() {
    third=$((steps / 3 > 0 ? steps / 3 : 1)) at=0
    set -- --set save_steps=$third --set save_total_limit=100 --set deterministic=true
    train 1 "$work/straight" --force --set zero=0 "$@" || return 1
    for part in "$N 3" "$(((N + 1) / 2)) 2" "1 0" "$N 1"; do
        ranks=${part% *} stage=${part#* }
        case " $stages " in *" $stage "*) ;; *) stage=${stages%% *} ;; esac
        echo "$ranks ranks, zero $stage, from step $at"
        from=
        [ $at = 0 ] || from=resume_from_checkpoint=$work/resumed-$((at - third))/checkpoint-$at
        train "$ranks" "$work/resumed-$at" --force --set zero="$stage" "$@" ${from:+--set $from} || return 1
        same "$work/straight" "$work/resumed-$at" 0 $at || return 1
        at=$((at + third))
        [ $at -lt "$steps" ] || return 0
    done
}

# A rank, or the launcher, is killed at a random moment; the job must be gone within a minute, and the next start go on.
check_kills() { # how many
    out=$work/killed log=$work/killed.log
    awk -v seed="${SEED:-1}" -v n="$1" 'BEGIN { srand(seed); for (i = 0; i < n; i++) print int(rand() * 1000), int(rand() * 4000) }' >"$work/moments"
    train 1 "$work/straight-kills" --force --set deterministic=true --set save_steps=1 || return 1
    rm -rf "$out"
    while read -r which after_ms; do
        train "$N" "$out" --resume --set deterministic=true --set save_steps=1 >"$log" 2>&1 &
        job=$!
        sleep "$(awk -v ms="$after_ms" 'BEGIN { printf "%.3f", ms / 1000 }')"
        victims=$(pgrep -f -- "output_dir=$out( |\$)")
        count=$(echo "$victims" | grep -c .)
        [ "$count" -eq 0 ] || kill -9 "$(echo "$victims" | sed -n "$((which % count + 1))p")" 2>/dev/null
        wait $job 2>/dev/null
        for s in $(seq 60); do
            pgrep -f -- "output_dir=$out( |\$)" >/dev/null || break
            sleep 1
        done
        if pgrep -af -- "output_dir=$out( |\$)"; then
            echo "these processes are left after 60 s:"
            return 1
        fi
        if [ -f "$out/finished" ]; then
            same "$work/straight-kills" "$out" 0 || return 1
            rm -rf "$out"
        fi
    done <"$work/moments"
    train "$N" "$out" --resume --set deterministic=true --set save_steps=1 && same "$work/straight-kills" "$out" 0
}

case ${CHECK:-} in
'') ;;
*) $CHECK $ARGS; exit ;;
esac

check_machine
mkdir -p "$work"
export LD_LIBRARY_PATH="$B/gpu/lib:/usr/local/cuda/lib64${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"
check() { # title, function, arguments...
    title=$1 call=$2
    shift 2
    sh tools/run-tests.sh step $score "$title" env CHECK="$call" ARGS="$*" STAGES="$stages" STEPS="$steps" timeout 1200 sh $self "$B" "$N"
}
sh tools/run-tests.sh start $score
[ -n "$dry" ] || TEST_TIMEOUT=120 sh tools/run-tests.sh suite $score 'one rank' "$B"/gpu/tests/nccl/test_alone
for stage in $stages; do
    ranks=2
    while [ $ranks -le "$N" ]; do
        check "zero $stage, $ranks ranks" check_losses $ranks "$stage" false
        check "zero $stage, $ranks ranks, to the last bit" check_losses $ranks "$stage" true
        ranks=$((ranks * 2))
    done
done
check 'resumed by other ranks' check_resume
check "$kills kills" check_kills "$kills"
sh tools/run-tests.sh end $score
