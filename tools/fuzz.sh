#!/bin/sh
# libFuzzer's runs of tests/fuzz.
#   tools/fuzz.sh clang            prints the clang that links libFuzzer, or nothing
#   tools/fuzz.sh run PROGRAM [TARGET]
#        FUZZ_SECONDS (10) a target, as many at once as there are processors; FUZZ_ARGS are libFuzzer's own
# What was found lies in build/fuzz/TARGET/; the corpus of one run feeds the next.
set -u

find_clang() {
    probe=$(mktemp) || exit 1
    for c in clang clang-19 clang-18 clang-17 clang-16 clang-15 clang-14; do
        command -v $c >/dev/null 2>&1 || continue
        echo 'int LLVMFuzzerTestOneInput(const char *d, unsigned long n) { return d && n > 9; }' |
            $c -fsanitize=fuzzer,address,undefined -x c - -o "$probe" >/dev/null 2>&1 && echo $c && break
    done
    rm -f "$probe"
}

# One target: a line of what it did, the log where it failed.
run_one() {
    program=$1 name=$2 dir=build/fuzz/$2
    mkdir -p "$dir"
    FUZZ=$name timeout -k 5 $((${FUZZ_SECONDS:-10} + 120)) "$program" -max_total_time="${FUZZ_SECONDS:-10}" \
        -timeout=20 -rss_limit_mb=2560 -print_final_stats=1 -verbosity=1 \
        -artifact_prefix="$dir/" -dict="$dir/words" ${FUZZ_ARGS:-} "$dir/corpus" "$dir/seeds" >"$dir/log" 2>&1
    rc=$?
    awk -v name="$name" -v rc=$rc '
        / cov: / { for (i = 1; i < NF; i++) { if ($i == "cov:") cov = $(i + 1); if ($i == "ft:") ft = $(i + 1) } }
        /number_of_executed_units/ { n = $2 }
        /^Done / { seconds = $5 }
        END { printf "%-7s fuzz: %s: %d executions, %d s, cov %d, ft %d\n", (rc ? "FAILED" : "ok"), name, n, seconds, cov, ft }' "$dir/log"
    [ $rc = 0 ] && return 0
    grep -v ' REDUCE \| NEW \| pulse ' "$dir/log" | tail -n 40
    for f in "$dir"/crash-* "$dir"/leak-* "$dir"/oom-* "$dir"/timeout-*; do
        [ -f "$f" ] && echo "to reproduce: FUZZ=$name $program $f"
    done
    return 1
}

case ${1:-} in
clang) find_clang ;;
one) run_one "$2" "$3" ;;
run)
    program=$2
    targets=${3:-$(FUZZ='' "$program" 2>&1 | sed -n 's/^  //p')}
    [ -n "$targets" ] || exit 1
    echo "$targets" | xargs -n 1 -P "$(nproc)" sh "$0" one "$program"
    ;;
*)
    echo "usage: tools/fuzz.sh clang | run PROGRAM [TARGET]" >&2
    exit 2
    ;;
esac
