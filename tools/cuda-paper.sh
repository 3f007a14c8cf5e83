#!/bin/sh
# The kernels of cuda/ on paper: what the emulator counts at shapes of real models, what an op must at least move and
# compute, and how many blocks fit a multiprocessor by the registers of tests/cuda/ptxas.txt.
#   tools/cuda-paper.sh            checks: of every kernel at least 95 % of the sectors that it touches are used, and no bank of
#                                  shared memory is met twice, but for what tests/cuda/counters.txt excuses. Prints a line a problem.
#   tools/cuda-paper.sh --write    writes that table and those of dev/cuda-*/README.md anew
# PROGRAM is dev/cuda-paper/, built; JOBS processors at a time. Exit status 1 when anything was found.
set -u
cd "$(dirname "$0")/.." || exit 1

PROGRAM=${PROGRAM:-build/sim/dev/cuda-paper/paper} JOBS=${JOBS:-$(nproc 2>/dev/null || echo 1)}
table=tests/cuda/counters.txt
registers=tests/cuda/ptxas.txt

write=
[ "${1:-}" = --write ] && write=1
dir=$(mktemp -d) || exit 1
trap 'rm -rf "$dir"' EXIT

"$PROGRAM" --list >"$dir/cases" || exit 1
cut -f1 "$dir/cases" | xargs -d '\n' -P "$JOBS" -I@ sh -c 'LCL_SIM_COUNT="$2/@.count" "$1" "@" || echo "@: failed" >>"$2/failed"' \
    run "$PROGRAM" "$dir"
[ ! -s "$dir/failed" ] || { cat "$dir/failed"; exit 1; }

# case, kernel, threads, bytes of shared memory, sectors, sectors at best, turns at the banks, turns at best; then, as many
# lines, where turns were lost: case, kernel, "at", place, turns, turns at best
cut -f1 "$dir/cases" | while read -r name; do
    [ -f "$dir/$name.count" ] || continue # products alone
    awk -F '\t' -v OFS='\t' -v name="$name" '
        /^#/ { next }
        $2 == "launch" { threads[$1] = $5; shared[$1] = $6 + 0; next }
        $2 == "global" { sectors[$1] += $5; best[$1] += $6 }
        $2 == "shared" { turns[$1] += $5; needed[$1] += $6 }
        $5 > $6 { print name, $1, "at", $2 " " $3 " " $7, $5, $6 }
        END { for (k in threads) print name, k, threads[k], shared[k], sectors[k] + 0, best[k] + 0, turns[k] + 0, needed[k] + 0 }
    ' "$dir/$name.count"
done | sort >"$dir/measured"

# kernel, percent of sectors used, percent of turns more than needed: the worst of its cases
awk -F '\t' '
    $3 == "at" { next }
    {
        used = $5 ? 100 * $6 / $5 : 100
        more = $8 ? 100 * ($7 - $8) / $8 : 0
        if (!($2 in least) || used < least[$2]) least[$2] = used
        if (!($2 in most) || more > most[$2]) most[$2] = more
    }
    END { for (k in least) printf "%s %.1f %.1f\n", k, int(least[k] * 10) / 10, most[k] }' "$dir/measured" | sort >"$dir/kernels"

check() {
    rows=$table
    [ -f $rows ] || rows=/dev/null
    awk -v rows=$rows -v table=$table -v measured="$dir/measured" '
        function name(text) { sub(/ +[^ ]+ +[^ ]+$/, "", text); return text }
        function places(kernel,   line, w, said) {
            while ((getline line < measured) > 0) {
                split(line, w, "\t")
                if (w[2] == kernel && w[3] == "at" && !(w[4] in said)) {
                    said[w[4]] = 1
                    printf "    %s: %d, %d needed\n", w[4], w[5], w[6]
                }
            }
            close(measured)
        }
        /^#/ { next }
        FILENAME == rows {
            excused = index($0, " # ") > 0
            text = $0
            sub(/ # .*/, "", text)
            n = split(text, w, " ")
            known[name(text)] = 1
            if (excused) { used[name(text)] = w[n - 1]; more[name(text)] = w[n] }
            next
        }
        {
            k = name($0)
            here[k] = 1
            if (!(k in known)) print k ": not in " table ": run `make paper`"
            if ($(NF - 1) < (k in used ? used[k] : 95)) {
                printf "%s: %s %% of its sectors are used; wanted %s\n", k, $(NF - 1), k in used ? used[k] : 95
                places(k)
            }
            if ($NF > (k in more ? more[k] : 0)) {
                printf "%s: %s %% more turns at the banks than needed; wanted %s\n", k, $NF, k in more ? more[k] : 0
                places(k)
            }
        }
        END { for (k in known) if (!(k in here)) print k ": in " table ", and no longer run: run `make paper`" }
    ' $rows "$dir/kernels"
}

write_table() {
    [ ! -f $table ] || sed -n 's/ [0-9.]* [0-9.]* # /\t/p' $table >"$dir/why"
    touch "$dir/why"
    {
        echo '# What the emulator counts for each kernel that tools/cuda-paper.sh runs: percent of the sectors it touches that are'
        echo '# used, and of turns at the banks of shared memory more than needed. 95 and 0 are the bar; a row that misses it says why.'
        echo '# Written by tools/cuda-paper.sh --write; reasons are kept.'
        awk -F '\t' 'FILENAME == ARGV[1] { why[$1] = $2; next }
            { k = $0; sub(/ [^ ]+ [^ ]+$/, "", k); print k in why ? $0 " # " why[k] : $0 }' "$dir/why" "$dir/kernels"
    } >"$dir/table" && mv "$dir/table" $table
}

# The tables of one folder of dev/, for its README.
tables_of() {
    awk -F '\t' -v folder="$1" -v registers=$registers '
        function ceil(x) { return x == int(x) ? x : int(x) + 1 }
        function least(a, b) { return a < b ? a : b }
        function amount(x) { return x >= 1e12 ? sprintf("%.2f T", x / 1e12) : x >= 1e9 ? sprintf("%.2f G", x / 1e9) : sprintf("%.1f M", x / 1e6) }
        function time(s) { return s >= 1e-3 ? sprintf("%.2f ms", s * 1e3) : sprintf("%.1f µs", s * 1e6) }
        # Of sm_90: 64 warps, 32 blocks; 16,384 registers a quarter, given to warps by 256; 228 KiB, 1 KiB of it a block kept.
        function blocks(regs, threads, shared,   warps, n) {
            warps = ceil(threads / 32)
            n = least(32, int(64 / warps))
            n = least(n, int(4 * int(16384 / (ceil(regs * 32 / 256) * 256)) / warps))
            return least(n, int(233472 / (ceil((shared + 1024) / 128) * 128)))
        }
        BEGIN {
            while ((getline line < registers) > 0) {
                if (line ~ /^#/) continue
                n = split(line, w, " ")
                if (w[n - 2] != "90a") continue
                static[k = substr(line, 1, length(line) - length(w[n - 2] w[n - 1] w[n]) - 3)] = w[n]
                regs[k] = w[n - 1]
            }
        }
        FILENAME == ARGV[1] {
            if ($2 != folder || $3 == "-") next
            order[++cases] = $1
            size[$1] = $3; bytes[$1] = $4; flops[$1] = $5; peak[$1] = $6; at_run[$1] = $7; grow[$1] = $8
            next
        }
        !($1 in size) || $3 == "at" { next }
        {
            touched[$1] += 32 * $5
            turns[$1] += $7
            if (!($2 in threads)) kernels[++n_kernels] = $2
            if ($3 > threads[$2]) threads[$2] = $3
            if ($4 > shared[$2]) shared[$2] = $4
            used = $5 ? 100 * $6 / $5 : 100
            more = $8 ? 100 * ($7 - $8) / $8 : 0
            if (!($2 in worst) || used < worst[$2]) worst[$2] = used
            if (more > lost[$2]) lost[$2] = more
        }
        END {
            print "| op | size | moves at least | touched / least | FLOP | floor | shared memory |"
            print "|---|---|---|---|---|---|---|"
            for (i = 1; i <= cases; i++) {
                k = order[i]
                memory = bytes[k] / 3.35e12
                math = flops[k] / peak[k]
                printf "| %s | %s | %sB | %s | %s | %s, %s | %s |\n", k, size[k], amount(bytes[k]),
                    flops[k] / bytes[k] < 20 ? sprintf("%.2f", touched[k] / at_run[k]) : "", flops[k] ? amount(flops[k]) : "",
                    time(memory < math ? math : memory), memory < math ? "tensor cores" : "memory",
                    turns[k] ? time(turns[k] * grow[k] / (132 * 1.755e9)) : ""
            }
            print ""
            print "| kernel | threads | shared | registers | blocks | warps of 64 | sectors used | lost turns |"
            print "|---|---|---|---|---|---|---|---|"
            for (i = 1; i <= n_kernels; i++) {
                k = kernels[i]
                short = k
                sub(/^void /, "", short)
                sub(/\(.*/, "", short)
                n = blocks(regs[k], threads[k], shared[k] + static[k])
                printf "| `%s` | %d | %d | %s | %d | %d | %.1f %% | %.1f %% |\n", short, threads[k], shared[k] + static[k],
                    k in regs ? regs[k] : "?", n, n * ceil(threads[k] / 32), int(worst[k] * 10) / 10, lost[k]
            }
        }' "$dir/cases" "$dir/measured"
}

if [ -n "$write" ]; then
    write_table
    for readme in dev/cuda-*/README.md; do
        grep -q '^<!-- paper: ' "$readme" || continue
        tables_of "$(sed -n 's/^<!-- paper: \([a-z-]*\) .*/\1/p' "$readme" | head -n 1)" >"$dir/tables"
        awk -v tables="$dir/tables" '
            /^<!-- end of paper/ { inside = 0 }
            !inside { print }
            /^<!-- paper: / { inside = 1; while ((getline line < tables) > 0) print line }' "$readme" >"$dir/readme" && cat "$dir/readme" >"$readme"
    done
fi
check >"$dir/found"
cat "$dir/found"
echo "cuda paper: $(wc -l <"$dir/kernels" | tr -d ' ') kernels, $(grep -cv '^ ' "$dir/found") problems"
[ ! -s "$dir/found" ]
