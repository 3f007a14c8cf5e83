#!/bin/sh
# Do the tests see faults in the kernels? Plants one small fault at a time in a copy of a file of cuda/, and runs the tests of
# its op in the emulator. A mutant is caught when it does not compile, or a test fails, or takes ten times as much
# processor time as without the fault (60 s at most; of tests that take more than 30 s, twice as much), or ten minutes.
#   tools/cuda-mutants.sh [FILE...]      files with kernels (all of cuda/*.cu)
# N=200 mutants, drawn by SEED=1; JOBS=processors at a time; GO_ON=1 keeps what was tried before, where sources and
# tests are as they were: after a stop, or with more mutants excused. Prints a line for each survivor, `FILE:LINE: before -> after`, and
# how many were caught; exit status 1 under 95 %. Mutants that change nothing that matters are in tests/cuda/mutants.txt,
# `FILE: before -> after # why`, and are not drawn.
set -u
cd "$(dirname "$0")/.." || exit 1

N=${N:-200} SEED=${SEED:-1} JOBS=${JOBS:-$(nproc 2>/dev/null || echo 1)}
known=tests/cuda/mutants.txt
dir=build/mutants
wanted=95 # percent
seconds=60

mkdir -p $dir || exit 1
[ $# -gt 0 ] || set -- $(grep -l __global__ cuda/*.cu | grep -v gemm_cublaslt)
run=$(cat cuda/*.* cuda/sim/* tests/ops/* tests/support/* | cksum)
cat $dir/*/tried >$dir/before 2>/dev/null
if [ "${GO_ON:-0}" = 0 ] || [ "$run" != "$(cat $dir/run 2>/dev/null)" ]; then
    [ "${GO_ON:-0}" = 0 ] || echo 'cuda mutants: nothing to go on with: sources or tests are others'
    : >$dir/before
fi
rm -rf ${dir:?}/[0-9]*
mkdir -p $dir/0 || exit 1
mv $dir/before $dir/0/tried
echo "$run" >$dir/run

# The tests of a file: its namesake, or those of this table.
tests_of() {
    name=$(basename "$1" .cu)
    case $name in
    partials) echo linear norm ;;
    attention_bwd* | attention_wgmma) echo attention ;;
    *) [ -f "tests/ops/test_$name.c" ] && echo "$name" ;;
    esac
}

# FILE, line, the line after the change: tab between.
candidates() {
    awk -v known="$known" '
        function trim(s) { sub(/^[ \t]+/, "", s); sub(/[ \t]+$/, "", s); return s }
        function add(after,   key) {
            if (after == $0) return
            key = FILENAME ": " trim($0) " -> " trim(after)
            if (key in excused) { used[key] = 1; return }
            print FILENAME "\t" FNR "\t" after
        }
        # Each place where `from` (a regular expression) stands in the code, with `to` in its stead.
        function replace(from, to,   at, rest) {
            at = 1
            rest = code
            while (match(rest, from)) {
                add(substr($0, 1, at + RSTART - 2) to substr($0, at + RSTART + RLENGTH - 1))
                at += RSTART + RLENGTH - 1
                rest = substr(code, at)
            }
        }
        # `before NUMBER` with another number.
        function renumber(before, factor, more,   at, rest, n, start) {
            at = 1
            rest = code
            while (match(rest, before "[0-9]+")) {
                start = at + RSTART - 1
                n = substr(code, start, RLENGTH)
                match(n, /[0-9]+$/)
                add(substr($0, 1, start + RSTART - 2) (substr(n, RSTART) * factor + more) \
                    substr($0, start + length(n)))
                at = start + length(n)
                rest = substr(code, at)
            }
        }
        # The contents of the n-th and the next brackets [...] of the line change places.
        function swap_indices(   at, rest, n, begin, len, i) {
            at = 1
            rest = code
            while (match(rest, /\[[^][]+\]/)) {
                n++
                begin[n] = at + RSTART
                len[n] = RLENGTH - 2
                at += RSTART + RLENGTH - 1
                rest = substr(code, at)
            }
            for (i = 1; i < n; i++)
                add(substr($0, 1, begin[i] - 1) substr($0, begin[i + 1], len[i + 1]) \
                    substr($0, begin[i] + len[i], begin[i + 1] - begin[i] - len[i]) \
                    substr($0, begin[i], len[i]) substr($0, begin[i + 1] + len[i + 1]))
        }
        # The line with comments and strings blanked, column by column.
        function blank(text,   out, i, c, two) {
            out = ""
            for (i = 1; i <= length(text); i++) {
                c = substr(text, i, 1)
                two = substr(text, i, 2)
                if (in_comment) {
                    if (two == "*/") { in_comment = 0; out = out " "; i++ }
                    out = out " "
                } else if (two == "/*") { in_comment = 1; out = out "  "; i++ }
                else if (in_string) { if (c == "\\") { out = out " "; i++ } else if (c == "\"") in_string = 0; out = out " " }
                else if (c == "\"") { in_string = 1; out = out " " }
                else out = out c
            }
            return out
        }
        BEGIN {
            while ((getline line < known) > 0)
                if (line !~ /^#/ && line != "") { sub(/ +# .*$/, "", line); excused[line] = 1 }
        }
        { code = blank($0) }
        code ~ /^[ \t]*(#|template|static_assert|enum)/ { next }
        {
            replace("sync_block\\(\\);", ";")
            replace("sync_warp\\(\\);", ";")
            replace("copy_commit\\(\\);", ";")
            replace("copy_wait<[^>]*>\\(\\);", ";")
            renumber("copy_wait<", 1, 1)
            replace(" \\+ ", " - ")
            replace(" - ", " + ")
            replace(" \\* ", " + ")
            replace(" < ", " <= ")
            replace(" <= ", " < ")
            replace(" > ", " >= ")
            replace(" >= ", " > ")
            replace(" == ", " != ")
            replace(" && ", " || ")
            replace(" \\+= ", " = ")
            replace(" % ", " / ")
            replace(" / WARP", " % WARP")
            renumber(" / ", 2, 0)
            renumber(" % ", 2, 0)
            renumber(" (<<|>>) ", 1, 1)
            renumber(" (\\^|\\|) ", 1, 1)
            renumber("shuffle_xor\\([^()]*, ", 2, 0)
            if (code ~ /(float|double|bool|int|unsigned|int[0-9]+_t|T|bf16|u32x4) \*?[A-Za-z_0-9]+\[/) next
            renumber("\\[", 1, 1)
            swap_indices()
        }
        END {
            for (k in excused)
                if (!(k in used)) { split(k, w, ":"); if (w[1] in seen) print k ": no such mutant any more" >"/dev/stderr" }
        }
        FNR == 1 { seen[FILENAME] = 1 }' "$@"
}

# N of the lines, in an order by seed and text alone: where one is excused, or lines move, the others stay drawn.
draw() {
    awk -F '\t' -v seed="$SEED" '
        BEGIN { for (i = 1; i < 256; i++) code[sprintf("%c", i)] = i }
        {
            text = $1 $3
            h = seed + 1
            for (i = 1; i <= length(text); i++) h = (h * 16807 + code[substr(text, i, 1)]) % 2147483647
            for (i = 0; i < 3; i++) h = h * 16807 % 2147483647
            printf "%010d\t%s\n", h, $0
        }' | LC_ALL=C sort | cut -f2- | head -n "$N"
}

# How to compile FILE and to link its tests, with @ for the folder of the mutant: from what make would do.
recipe() {
    for t in $(tests_of "$1"); do
        make -n --no-print-directory -W "$1" V=1 "build/sim/tests/ops/test_$t" >$dir/make || return 1
        object=build/sim/${1%.cu}.o
        grep -e " -o $object " $dir/make | sed "s|-o $object $1|-o @/mutant.o @/mutant.cu|" >"$dir/$(basename "$1").compile"
        grep -e " -o build/sim/tests/ops/test_$t " $dir/make |
            sed "s|-o build/sim/tests/ops/test_$t |-o @/test_$t |; s| $object | @/mutant.o |" >"$dir/$(basename "$1").link.$t"
    done
}

# In folder $1, the mutant of file $2: how it was caught, or `survived`.
try() {
    sh -c "$(sed "s|@|$1|g" "$dir/$(basename "$2").compile")" >/dev/null 2>&1 || { echo 'does not compile'; return; }
    for t in $(tests_of "$2"); do
        sh -c "$(sed "s|@|$1|g" "$dir/$(basename "$2").link.$t")" >/dev/null 2>&1 || { echo 'does not link'; return; }
        # Most show in the results alone, at a tenth of the time; then under the watch, in two orders.
        for how in '0 forward' '1 forward' '1 reverse'; do
            # The reader goes at the first failure, and the program with it.
            said=$({
                ulimit -t "$(cat "$dir/limit.$t")"
                LCL_SIM_CHECK=${how% *} LCL_SIM_SCHEDULE=${how#* } timeout -k 5 600 "$1/test_$t" 2>&1 </dev/null
                echo "rc $?"
            } 2>/dev/null | awk '/^\[  FAILED/ { print "fails"; exit } /^rc / { print $2; exit }')
            case $said in
            0) ;;
            124 | 137 | 152) echo "test_$t takes too long"; return ;;
            *) echo "test_$t fails"; return ;;
            esac
        done
    done
    echo survived
}

# Mutants number $1, $1 + JOBS, ...
worker() {
    mkdir -p "$dir/$1"
    awk -v first="$1" -v step="$JOBS" 'NR % step == first % step' $dir/left >"$dir/$1/drawn"
    while IFS= read -r mutant; do
        file=$(printf '%s\n' "$mutant" | cut -f1)
        printf '%s\n' "$mutant" | awk -F '\t' 'NR == FNR { line = $2; text = $3; next } FNR == line { $0 = text } { print }' \
            - "$file" >"$dir/$1/mutant.cu"
        printf '%s\t%s\n' "$(try "$dir/$1" "$file")" "$mutant"
    done <"$dir/$1/drawn" >>"$dir/$1/tried"
}

for f in "$@"; do
    [ -n "$(tests_of "$f")" ] || { echo "cuda mutants: which tests are of $f? tools/cuda-mutants.sh has a table" >&2; exit 1; }
done
programs=$(for f in "$@"; do for t in $(tests_of "$f"); do echo "build/sim/tests/ops/test_$t"; done; done | sort -u)
# shellcheck disable=SC2086
make --no-print-directory -j"$JOBS" $programs >$dir/make 2>&1 || { cat $dir/make; exit 1; }
for p in $programs; do
    (timeout $((10 * seconds)) "$p" >$dir/make 2>&1 </dev/null && times >$dir/times) ||
        { echo "cuda mutants: $p fails without any fault planted"; exit 1; }
    took=$(awk 'NR == 2 { gsub(/[ms]/, " "); print int($1 * 60 + $2 + $3 * 60 + $4) + 1 }' $dir/times)
    limit=$((10 * took < seconds ? 10 * took : seconds))
    echo $((limit > 2 * took ? limit : 2 * took)) >"$dir/limit.${p##*/test_}"
done
candidates "$@" >$dir/all 2>$dir/stale
draw <$dir/all >$dir/drawn
cut -f2- $dir/0/tried | awk 'before { tried[$0] = 1; next } !($0 in tried)' before=1 - before=0 $dir/drawn >$dir/left
for f in "$@"; do recipe "$f" || exit 1; done

w=0
while [ $w -lt "$JOBS" ]; do
    worker $w &
    w=$((w + 1))
done
wait
cat $dir/*/tried |
    awk -F '\t' 'NR == FNR { drawn[$0]; next } (substr($0, length($1) + 2)) in drawn' $dir/drawn - |
    sort -t "$(printf '\t')" -k2,2 -k3,3n >$dir/tried
awk -F '\t' -v wanted=$wanted -v stale=$dir/stale -v all="$(wc -l <$dir/all)" '
    function trim(s) { sub(/^[ \t]+/, "", s); sub(/[ \t]+$/, "", s); return s }
    function source(file, line,   n, text) {
        while ((getline text < file) > 0 && ++n < line) { }
        close(file)
        return trim(text)
    }
    { n++ }
    $1 != "survived" { caught++; how[$1 ~ /compile|link/ ? "not compiled" : $1 ~ /long/ ? "too long" : "failed"]++; next }
    { print $2 ":" $3 ": " source($2, $3) " -> " trim($4) }
    END {
        while ((getline line < stale) > 0) { print line; bad = 1 }
        percent = n ? 100 * caught / n : 100
        printf "mutants: %d of %d caught (%.1f %%): %d by a test, %d too long, %d do not compile; of %d possible\n",
               caught, n, percent, how["failed"], how["too long"], how["not compiled"], all
        exit bad || percent < wanted
    }' $dir/tried
