#!/bin/sh
# libFuzzer's runs of tests/fuzz.
#   tools/fuzz.sh clang            prints the clang that links libFuzzer, or nothing
#   tools/fuzz.sh run PROGRAM [TARGET...]
#        FUZZ_SECONDS (10) a target, as many at once as there are processors; FUZZ_ARGS are libFuzzer's own
#   tools/fuzz.sh long PROGRAM [TARGET...]
#        until each target has had FUZZ_SECONDS (3600) of processor time in all, over all runs: always the one that has had
#        the least, the first named of equals, FUZZ_SLICE (300) seconds at a time, FUZZ_JOBS at once (as many as there are
#        processors). A stop loses one slice at most: build/fuzz/ledger.tsv has a line for each. A target with a finding
#        rests until the next run; exit 1 then.
#   tools/fuzz.sh table PROGRAM    what each target has had, by tests/fuzz/ledger.tsv and build/fuzz/ledger.tsv
#   tools/fuzz.sh record PROGRAM   adds build/fuzz/ledger.tsv to tests/fuzz/ledger.tsv and writes docs/security.md's table
# What was found lies in build/fuzz/TARGET/; the corpus of one run feeds the next, and is cut to what is new in it when it
# has doubled.
set -u
KEPT=tests/fuzz/ledger.tsv NEW=build/fuzz/ledger.tsv
TAB=$(printf '\t')
STOPPED=72 BUSY=75 # exit statuses: libFuzzer's when it is ended by a signal, flock's when another holds the lock

find_clang() {
    probe=$(mktemp) || exit 1
    for c in clang clang-19 clang-18 clang-17 clang-16 clang-15 clang-14; do
        command -v $c >/dev/null 2>&1 || continue
        echo 'int LLVMFuzzerTestOneInput(const char *d, unsigned long n) { return d && n > 9; }' |
            $c -fsanitize=fuzzer,address,undefined -x c - -o "$probe" >/dev/null 2>&1 && echo $c && break
    done
    rm -f "$probe"
}

targets_of() { FUZZ='' "$1" 2>&1 | sed -n 's/^  //p'; }

# libFuzzer on one target for so many seconds; $dir/log has what it said. It does not end with its shell, so `long` ends it
# by build/fuzz/TARGET/pid.
fuzz() { # program, name, seconds
    dir=build/fuzz/$2
    # shellcheck disable=SC2086
    FUZZ=$2 timeout -k 5 $(($3 + 120)) "$1" -max_total_time="$3" \
        -timeout=20 -rss_limit_mb=2560 -print_final_stats=1 -verbosity=1 \
        -artifact_prefix="$dir/" -dict="$dir/words" ${FUZZ_ARGS:-} "$dir/corpus" "$dir/seeds" >"$dir/log" 2>&1 &
    finish $!
}
finish() { # process of $dir: waits for it
    echo "$1" >"$dir/pid"
    wait "$1"
    rc=$?
    rm -f "$dir/pid"
    return $rc
}

# cov, ft, executions and seconds of a log.
figures() {
    awk '
        / cov: / { for (i = 1; i < NF; i++) { if ($i == "cov:") cov = $(i + 1); if ($i == "ft:") ft = $(i + 1) } }
        /number_of_executed_units/ { n = $2 }
        /^Done / { seconds = $5 }
        END { printf "%d %d %d %d\n", cov, ft, n, seconds }' "$1"
}

found() { # program, name: what a failed run left
    grep -v ' REDUCE \| NEW \| pulse ' "build/fuzz/$2/log" | tail -n 40
    for f in "build/fuzz/$2"/crash-* "build/fuzz/$2"/leak-* "build/fuzz/$2"/oom-* "build/fuzz/$2"/timeout-*; do
        [ -f "$f" ] && echo "to reproduce: FUZZ=$2 $1 $f"
    done
}

# One target: a line of what it did, the log where it failed.
run_one() { # program, name
    mkdir -p "build/fuzz/$2"
    fuzz "$1" "$2" "${FUZZ_SECONDS:-10}"
    rc=$?
    # shellcheck disable=SC2046
    set -- "$1" "$2" $(figures "build/fuzz/$2/log")
    verdict=ok
    [ $rc = 0 ] || verdict=FAILED
    printf '%-7s fuzz: %s: %d executions, %d s, cov %d, ft %d\n' $verdict "$2" "$5" "$6" "$3" "$4"
    [ $rc = 0 ] && return 0
    found "$1" "$2"
    return 1
}

# Keeps of the corpus what adds to coverage, once it holds twice as many files as after the last time.
merge() { # program, name
    dir=build/fuzz/$2
    now=$(find "$dir/corpus" -type f | wc -l)
    then=$(cat "$dir/merged" 2>/dev/null || echo 250)
    [ "$now" -gt $((2 * then)) ] || return 0
    rm -rf "$dir/less" && mkdir "$dir/less"
    FUZZ=$2 timeout -k 5 900 "$1" -merge=1 -timeout=20 -rss_limit_mb=2560 -artifact_prefix="$dir/" \
        "$dir/less" "$dir/corpus" >"$dir/merge-log" 2>&1 &
    if finish $!; then
        rm -rf "$dir/corpus" && mv "$dir/less" "$dir/corpus"
    fi
    rm -rf "$dir/less"
    find "$dir/corpus" -type f | wc -l >"$dir/merged"
}

# A slice of one target and its line in the ledger. Exit 1: a finding.
slice() { # program, name, seconds
    dir=build/fuzz/$2
    fuzz "$1" "$2" "$3"
    rc=$?
    times >"$dir/times" # no pipe: it tells of this shell's own children
    cpu=$(awk 'NR == 2 { split($1, u, /[ms]/); split($2, s, /[ms]/); print 60 * (u[1] + s[1]) + u[2] + s[2] }' "$dir/times")
    commit=$(git rev-parse --short HEAD 2>/dev/null || echo -)
    # shellcheck disable=SC2046
    set -- "$1" "$2" $(figures "$dir/log")
    printf '%s\t%.1f\t%d\t%d\t%d\t%s\t%s\n' "$2" "$cpu" "$5" "$3" "$4" "$(date -u +%F)" "$commit" >>"$NEW"
    printf '%s: %.0f s of processor time, %d executions, cov %d, ft %d\n' "$2" "$cpu" "$5" "$3" "$4"
    [ $rc != $STOPPED ] || return 0
    if [ $rc != 0 ]; then
        printf 'FAILED  fuzz: %s\n' "$2"
        found "$1" "$2"
        return 1
    fi
    merge "$1" "$2"
}

# By target, in the order given: name, processor time, executions, cov, ft, last date and commit, from ledgers.
sums() { # targets (one a line), ledgers
    names=$1
    shift
    { echo "$names" | sed 's/^/+ /'; cat "$@" 2>/dev/null; } | awk -F'\t' -v OFS='\t' '
        /^\+ / { name[++n] = substr($0, 3); next }
        /^target\t/ || NF < 7 { next }
        { cpu[$1] += $2; runs[$1] += $3; if ($4 > cov[$1]) cov[$1] = $4; if ($5 > ft[$1]) ft[$1] = $5
          if ($6 >= date[$1]) { date[$1] = $6; commit[$1] = $7 } }
        END { for (i = 1; i <= n; i++) { t = name[i]
              print t, sprintf("%.1f", cpu[t]), sprintf("%.0f", runs[t]), cov[t] + 0, ft[t] + 0, t in date ? date[t] : "-", t in date ? commit[t] : "-" } }'
}

table() { # of sums
    awk -F'\t' '
        function thousands(x,  s) { s = sprintf("%.0f", x); while (s ~ /[0-9][0-9][0-9][0-9]/) { sub(/[0-9][0-9][0-9](,|$)/, ",&", s) } return s }
        BEGIN { print "| target | processor time, s | executions | cov | ft | last run | commit |"; print "|---|--:|--:|--:|--:|---|---|" }
        { printf "| %s | %s | %s | %s | %s | %s | %s |\n", $1, thousands($2), thousands($3), $4, $5, $6, $7; cpu += $2; runs += $3 }
        END { printf "| all | %s | %s | | | | |\n", thousands(cpu), thousands(runs) }'
}

# Works off what has had the least until all have had their share; build/fuzz/TARGET/lock keeps two from one target.
work() { # program, file of failed targets, targets
    program=$1 failed=$2 whole=${FUZZ_SECONDS:-3600}
    shift 2
    names=$(printf '%s\n' "$@")
    while [ ! -e "$failed.stop" ]; do
        taken=0
        for t in $(sums "$names" "$KEPT" "$NEW" | sort -s -t "$TAB" -k 2,2n | awk -F'\t' -v most="$whole" '$2 < most { print $1 }'); do
            grep -qx "$t" "$failed" && continue
            mkdir -p "build/fuzz/$t"
            flock -n -E $BUSY "build/fuzz/$t/lock" sh "$0" slice "$program" "$t" "${FUZZ_SLICE:-300}"
            rc=$?
            [ $rc = $BUSY ] && continue # at work elsewhere
            [ $rc = 0 ] || echo "$t" >>"$failed"
            taken=1
            break
        done
        [ $taken = 1 ] || return 0
    done
}

long() { # program, targets
    program=$1
    shift
    mkdir -p build/fuzz
    failed=$(mktemp) || exit 1
    trap 'rm -f "$failed" "$failed.stop"' EXIT
    trap 'touch "$failed.stop"; stop "$@"' INT TERM
    workers=
    for _ in $(seq "${FUZZ_JOBS:-$(nproc)}"); do
        work "$program" "$failed" "$@" &
        workers="$workers $!"
    done
    for w in $workers; do
        while kill -0 "$w" 2>/dev/null; do wait "$w"; done # a signal ends a wait
    done
    sums "$(printf '%s\n' "$@")" "$KEPT" "$NEW" | table
    [ ! -e "$failed.stop" ] || { echo "stopped and saved; make fuzz-long goes on from there"; exit 130; }
    [ ! -s "$failed" ]
}
stop() { # targets
    for t in "$@"; do
        p=$(cat "build/fuzz/$t/pid" 2>/dev/null) && kill "$p"
    done
}

record() { # program
    [ -s "$NEW" ] || { echo "tools/fuzz.sh: $NEW is not there or empty: nothing to record" >&2; exit 1; }
    names=$(targets_of "$1")
    { printf 'target\tcpu_seconds\texecutions\tcov\tft\tdate\tcommit\n'; sums "$names" "$KEPT" "$NEW"; } >"$KEPT.new" || exit 1
    sums "$names" "$KEPT" "$NEW" | table >build/fuzz/table || exit 1
    awk 'FNR == NR { table = table $0 "\n"; next }
        /^\| target \| processor time/ { printf "%s", table; inside = 1; done = 1 }
        inside && /^\|/ { next }
        { inside = 0; print }
        END { exit !done }' build/fuzz/table docs/security.md >docs/security.md.new || {
        echo "tools/fuzz.sh: docs/security.md has no table that begins with | target | processor time" >&2
        rm -f docs/security.md.new "$KEPT.new"
        exit 1
    }
    mv docs/security.md.new docs/security.md && mv "$KEPT.new" "$KEPT" && mv "$NEW" "build/fuzz/ledger-$(date -u +%Y%m%dT%H%M%S).tsv"
}

mode=${1:-}
[ $# -ge 2 ] || [ "$mode" = clang ] || mode=
[ $# = 0 ] || shift
case $mode in
clang) find_clang ;;
one) run_one "$@" ;;
slice) slice "$@" ;;
run | long)
    program=$1
    shift
    # shellcheck disable=SC2046
    [ $# -gt 0 ] || set -- $(targets_of "$program")
    [ $# -gt 0 ] || exit 1
    if [ "$mode" = long ]; then
        long "$program" "$@"
    else
        printf '%s\n' "$@" | xargs -n 1 -P "$(nproc)" sh "$0" one "$program"
    fi
    ;;
table) sums "$(targets_of "$1")" "$KEPT" "$NEW" | table ;;
record) record "$1" ;;
*)
    echo "usage: tools/fuzz.sh clang | run PROGRAM [TARGET...] | long PROGRAM [TARGET...] | table PROGRAM | record PROGRAM" >&2
    exit 2
    ;;
esac
