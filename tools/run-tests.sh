#!/bin/sh
# Runs test programs (cmocka) and keeps the score in a folder, so that several suites add up to one last line.
#   tools/run-tests.sh start DIR
#   tools/run-tests.sh suite DIR NAME PROGRAM...   each within TEST_TIMEOUT seconds (120), TEST_JOBS (processors) at a time
#   tools/run-tests.sh step DIR NAME COMMAND...    a command that counts as one test
#   tools/run-tests.sh end DIR                     failures with their text, skipped cases, `N passed, N failed`
# TEST_FILTER=word runs the programs whose path holds the word. `end` exits with 1 when anything failed.
set -u

command=${1:?usage: start|suite|step|end DIR ...}
dir=${2:?usage: start|suite|step|end DIR ...}
shift 2
passed=$dir/passed failed=$dir/failed skipped=$dir/skipped texts=$dir/failures.txt

keep_text() { # what failed, its log
    text=$(echo "---- $1" && tail -n "${3:-60}" "$2")
    printf '%s\n' "$text" >>"$texts"
}

seconds() { date +%s; }

# Several of these run at once: a log of its own, and the score is added to by the line.
run_program() { # suite, program
    name=${2#build/}
    log=$dir/log.$$
    begin=$(seconds)
    CMOCKA_MESSAGE_OUTPUT=TAP timeout -k 5 "${TEST_TIMEOUT:-120}" "$2" >"$log" 2>&1 </dev/null
    rc=$?
    # cmocka's TAP: "1..N", "ok 1 - case", "not ok 2 - case", "ok|not ok 3 # SKIP case".
    line=$(awk -v who="$name" -v suite="$1" -v rc=$rc -v limit="${TEST_TIMEOUT:-120}" \
        -v P="$passed" -v F="$failed" -v S="$skipped" '
        /^1\.\.[0-9]+/ { plan += substr($1, 4) }
        /^skipped: / { reason = " (" substr($0, 10) ")" }
        /^(not )?ok [0-9]+.*# SKIP/ {
            sub(/.*# SKIP */, "")
            print suite ": " who ": " $0 reason >>S
            s++
            reason = ""
            next
        }
        /^ok [0-9]+/ { sub(/^ok [0-9]+ *-? */, ""); print suite ": " who ": " $0 >>P; p++; next }
        /^not ok [0-9]+/ { sub(/^not ok [0-9]+ *-? */, ""); print suite ": " who ": " $0 >>F; f++; next }
        END {
            why = ""
            if (rc == 124 || rc == 137) why = "not done within " limit " s"
            else if (rc > 128) why = "killed by signal " (rc - 128)
            else if (rc != 0 && f == 0) why = "exit status " rc " without a failed case"
            else if (p + f + s == 0) why = "ran no case"
            else if (p + f + s < plan) why = "stopped after " (p + f + s) " of " plan " cases"
            if (why != "") { print suite ": " who ": " why >>F; f++ }
            printf "%-7s %s: %s: %d passed", (f ? "FAILED" : "ok"), suite, who, p
            if (f) printf ", %d failed", f
            if (s) printf ", %d skipped", s
            if (why != "") printf " (%s)", why
            exit f > 0
        }' "$log")
    ok=$?
    took=$(($(seconds) - begin))
    [ $took -ge 5 ] && line="$line, $took s"
    echo "$line"
    [ $ok = 0 ] || keep_text "$1: $name" "$log"
    rm -f "$log"
}

count() { wc -l <"$1" | tr -d ' '; }

case $command in
start)
    rm -rf "$dir"
    mkdir -p "$dir" && : >"$passed" && : >"$failed" && : >"$skipped" && : >"$texts"
    ;;
suite)
    suite=${1:?name of the suite}
    shift
    for program in "$@"; do
        case $program in
        *"${TEST_FILTER:-}"*) echo "$program" ;;
        esac
    done | xargs -r -n 1 -P "${TEST_JOBS:-$(nproc)}" sh "$0" one "$dir" "$suite"
    ;;
one) run_program "$1" "$2" ;; # of a suite, by the above
step)
    name=${1:?name of the step}
    shift
    begin=$(seconds)
    if "$@" >"$dir/log" 2>&1 </dev/null; then
        echo "$name" >>"$passed"
        printf 'ok      %s' "$name"
    else
        echo "$name" >>"$failed"
        keep_text "$name" "$dir/log" 100
        printf 'FAILED  %s' "$name"
    fi
    took=$(($(seconds) - begin))
    [ $took -ge 5 ] && printf ', %d s' "$took"
    echo
    ;;
end)
    if [ -s "$failed" ]; then
        echo
        cat "$texts"
        echo "---- failed:"
        sed 's/^/  /' "$failed"
    fi
    if [ -s "$skipped" ]; then
        echo "---- skipped ($(count "$skipped")):"
        sed 's/^/  /' "$skipped"
    fi
    if [ "$(($(count "$passed") + $(count "$failed")))" = 0 ]; then
        echo "no test ran (TEST_FILTER=${TEST_FILTER:-})" >>"$failed"
        cat "$failed"
    fi
    echo
    echo "$(count "$passed") passed, $(count "$failed") failed" | tee "$dir/tally"
    [ ! -s "$failed" ]
    ;;
*)
    echo "usage: tools/run-tests.sh start|suite|step|end DIR ..." >&2
    exit 2
    ;;
esac
