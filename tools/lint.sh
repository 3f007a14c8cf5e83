#!/bin/sh
# Style that a machine can check (STYLE of the code: CONTRIBUTING.md). POSIX shell and awk; prints `file:line: what`.
# Exit status 1 when anything was found.
#   includes   each room includes only what the table below allows, by paths from the root
#   size       functions over 60 lines, files over 600, lines over 100 columns; `Long: why` in the comment above the
#              function, or in the file's first comment, lifts the limit
#   marks      no TODO, FIXME, XXX
#   rooms      every folder of sources has a README.md
#   format     clang-format's, where clang-format 14 or newer is found
set -u
cd "$(dirname "$0")/.." || exit 1

found=$(mktemp) || exit 1
trap 'rm -f "$found"' EXIT

# room: rooms it may include besides itself
rooms='core:
cpu: core
cuda: core cpu
model: core
data: core
optim: core
checkpoint: core model
train: core cpu cuda model data optim checkpoint
tools: core cpu cuda model data optim checkpoint train
tests: core cpu cuda model data optim checkpoint train tools'

folders=
for room in core cpu cuda model data optim checkpoint train tools tests; do
    [ -d $room ] && folders="$folders $room"
done
sources=$(find $folders -name '*.[ch]' -o -name '*.cu' -o -name '*.cuh' | sort)
# The same, with scripts and the Makefile.
texts="$sources $(find $folders dev .ci -name '*.sh' -o -path '.ci/run' 2>/dev/null | sort) Makefile"

includes() {
    awk -v table="$rooms" '
        BEGIN {
            n = split(table, lines, "\n")
            for (i = 1; i <= n; i++) {
                m = split(lines[i], w, /:? +|:/)
                known[w[1]] = 1
                may[w[1], w[1]] = 1
                for (j = 2; j <= m; j++) may[w[1], w[j]] = 1
            }
        }
        FNR == 1 { room = FILENAME; sub(/\/.*/, "", room) }
        /^[ \t]*#[ \t]*include[ \t]*"/ {
            path = $0
            sub(/^[^"]*"/, "", path)
            sub(/".*/, "", path)
            if (path !~ /\//) { printf "%s:%d: include \"%s\" by its path from the root\n", FILENAME, FNR, path; next }
            to = path
            sub(/\/.*/, "", to)
            if (!(to in known)) printf "%s:%d: \"%s\" is in no room\n", FILENAME, FNR, path
            else if (!((room, to) in may)) printf "%s:%d: %s/ may not include %s/\n", FILENAME, FNR, room, to
        }' $sources
}

# A function begins at `{` in column 1 and ends at `}` in column 1 (the code is formatted so).
sizes() {
    awk '
        function end_of_file() {
            if (lines > 600 && !file_excused)
                printf "%s: %d lines, more than 600, and its first comment has no `Long: why`\n", name, lines
        }
        FNR == 1 {
            if (name) end_of_file()
            name = FILENAME; file_excused = 0; top = 1; start = 0; in_comment = 0; excuse = 0
        }
        { lines = FNR }
        # What the comment at the top, and the one right above a function, say.
        /^\/\*/ { in_comment = 1; said = "" }
        in_comment { 
            said = said " " $0
            if (/\*\//) { in_comment = 0; excuse = said ~ /Long: ./; if (top) file_excused = excuse }
            next
        }
        /^$/ { excuse = 0 }
        /^[^\/]/ { top = 0 }
        /^\{/ { start = FNR; excused = excuse }
        /^\}/ {
            if (start && FNR - start + 1 > 62 && !excused)
                printf "%s:%d: a function of %d lines, more than 60, without `Long: why` in the comment above it\n", FILENAME, start, FNR - start - 1
            start = 0; excuse = 0
        }
        END { if (name) end_of_file() }' $sources
    # Columns, not bytes: continuation bytes of UTF-8 are not counted. Tables of data keep their rows whole.
    LC_ALL=C awk '
        { text = $0; gsub(/[\200-\277]/, "", text) }
        length(text) > limit(FILENAME) { printf "%s:%d: %d columns, more than %d\n", FILENAME, FNR, length(text), limit(FILENAME) }
        function limit(file) { return file ~ /\.(c|h|cu|cuh)$/ ? 100 : 160 }' \
        $(for f in $texts; do [ "$f" = core/config_keys.h ] || echo "$f"; done)
}

marks() {
    for f in $texts; do
        case $f in
        tools/lint.sh | CONTRIBUTING.md) ;;
        *) grep -nEw 'TODO|FIXME|XXX' /dev/null "$f" | sed 's/$/ (a mark: do it, or file it)/' ;;
        esac
    done
}

readmes() {
    for room in $folders configs docs dev; do
        [ -d $room ] && [ ! -f $room/README.md ] && echo "$room/: has no README.md"
    done
}

formatted() {
    command -v clang-format >/dev/null 2>&1 || { echo "lint: clang-format is not here: format not checked" >&2; return; }
    version=$(clang-format --version | sed 's/.*version \([0-9]*\).*/\1/')
    [ "${version:-0}" -ge 14 ] || { echo "lint: clang-format $version is older than 14: format not checked" >&2; return; }
    # Versions differ in details: what 14 wrote, the others may want otherwise, so only 14 to 16 are asked.
    [ "$version" -le 16 ] || { echo "lint: clang-format $version is newer than 16: format not checked" >&2; return; }
    clang-format --dry-run $sources 2>&1 | awk -F: '
        /warning: code should be clang-formatted/ && !seen[$1]++ { print $1 ":" $2 ": not formatted: run `make format`" }'
}

{
    includes
    sizes
    marks
    readmes
    formatted
} >"$found"
if [ -s "$found" ]; then
    cat "$found"
    echo "lint: $(wc -l <"$found" | tr -d ' ') findings"
    exit 1
fi
echo "lint: clean"
