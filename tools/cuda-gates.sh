#!/bin/sh
# What nvcc makes of the kernels in cuda/, without a GPU: registers, shared memory and spills against the table
# tests/cuda/ptxas.txt, and the tensor cores' instructions where a file asks for them. Prints one line a problem.
#   tools/cuda-gates.sh [FILE...]          checks (all of cuda/*.cu)
#   tools/cuda-gates.sh --write            writes the table's rows of this architecture anew
# ARCH=90a is the architecture, NVCC the compiler. Exit status 1 when anything was found.
set -u
cd "$(dirname "$0")/.." || exit 1

ARCH=${ARCH:-90a}
NVCC=${NVCC:-nvcc}
table=tests/cuda/ptxas.txt
slack=8 # registers that a kernel may take more than the table says

write=
[ "${1:-}" = --write ] && write=1 && shift
if ! command -v "$NVCC" >/dev/null 2>&1; then
    echo 'cuda gates: nvcc is not here: skipped'
    exit 0
fi
if [ -n "$write" ] && [ $# -gt 0 ]; then
    echo 'cuda gates: --write takes all files' >&2
    exit 2
fi
whole=
if [ $# = 0 ]; then # wgmma is Hopper's alone
    whole=1
    case $ARCH in 90a) set -- cuda/*.cu ;; *) set -- $(ls cuda/*.cu | grep -v _wgmma) ;; esac
fi

dir=$(mktemp -d) || exit 1
trap 'rm -rf "$dir"' EXIT

# Leaves NAME.ptx and NAME.log.
compile() {
    name=$(basename "$1" .cu)
    mkdir -p "$dir/$name"
    "$NVCC" -std=c++17 -O3 -gencode "arch=compute_$ARCH,code=sm_$ARCH" -I. -DLCL_CUDA_ARCHES="\"sm_$ARCH\"" -Xptxas -v \
        --keep --keep-dir "$dir/$name" -c "$1" -o "$dir/$name.o" >"$dir/$name.log" 2>&1 ||
        echo "$1: does not compile" >"$dir/$name.failed"
    mv "$dir/$name/$name.ptx" "$dir/$name.ptx" 2>/dev/null
    rm -rf "${dir:?}/$name"
}

# As many at a time as there are processors.
jobs=$(nproc 2>/dev/null || echo 1)
running=0
for f in "$@"; do
    compile "$f" &
    running=$((running + 1))
    [ $((running % jobs)) = 0 ] && wait
done
wait

# kernel, architecture, registers, bytes of static shared memory, bytes spilled
: >"$dir/kernels"
for f in "$@"; do
    awk -v arch="$ARCH" '
        function number_before(word,   text) {
            text = $0
            if (!match(text, "[0-9]+ " word)) return 0
            return substr(text, RSTART, RLENGTH) + 0
        }
        /Compiling entry function/ { split($0, w, "\047"); kernel = w[2] }
        /bytes spill stores/ { spilled = number_before("bytes spill stores") + number_before("bytes spill loads") }
        /Used [0-9]+ registers/ && kernel {
            print kernel, arch, number_before("registers"), number_before("bytes smem"), spilled
            kernel = ""
        }' "$dir/$(basename "$f" .cu).log"
done | c++filt | sort -u >"$dir/kernels"

compiled() {
    for f in "$@"; do
        name=$(basename "$f" .cu)
        cat "$dir/$name.failed" 2>/dev/null
        # ptxas only informs where it serializes products
        grep -E '(warning|error)([ #:]|$)|wgmma.*serialized|Performance Loss' "$dir/$name.log" | sed "s|^|$f: |"
    done
}

# What stands in a file's PTX when the file, or a header of cuda/ that it includes, calls an intrinsic.
instructions() {
    for f in "$@"; do
        [ -f "$dir/$(basename "$f" .cu).ptx" ] || continue
        headers=$(sed -n 's/^#include "\(cuda\/.*\.cuh\)"$/\1/p' "$f" | grep -v -x 'cuda/intrinsics.cuh')
        # shellcheck disable=SC2086
        cat "$f" $headers >"$dir/text"
        while read -r called instruction; do
            grep -Eq "(^|[^a-z_0-9])$called(<[^>]*>)?\(" "$dir/text" || continue
            grep -q "$instruction" "$dir/$(basename "$f" .cu).ptx" ||
                echo "$f: calls $called, and its PTX has no $instruction"
        done <<'END'
mma_bf16 mma\.sync\.aligned\.m16n8k16\.row\.col\.f32\.bf16\.bf16\.f32
mma_tf32 mma\.sync\.aligned\.m16n8k8\.row\.col\.f32\.tf32\.tf32\.f32
load_matrix_x4 ldmatrix\.sync\.aligned\.m8n8\.x4\.shared
load_matrix_x4_transposed ldmatrix\.sync\.aligned\.m8n8\.x4\.trans
copy_async16 cp\.async\.cg\.shared\.global
copy_async4 cp\.async\.ca\.shared\.global
bulk_load cp\.async\.bulk\.tensor\.3d\.shared::cluster\.global\.tile\.mbarrier::complete_tx::bytes
mbarrier_wait mbarrier\.try_wait\.parity
wgmma_rows wgmma\.mma_async\.sync\.aligned\.m64n[0-9]*k16\.f32\.bf16\.bf16
wgmma_columns wgmma\.mma_async\.sync\.aligned\.m64n[0-9]*k16\.f32\.bf16\.bf16
registers_raise setmaxnreg\.inc
END
    done
}

resources() {
    rows=$table
    [ -f $rows ] || rows=/dev/null
    awk -v arch="$ARCH" -v slack=$slack -v whole="$whole" -v table=$table -v rows=$rows '
        function name(to,   text) { # all but the last fields
            text = $0
            while (to-- > 0) sub(/ +[^ ]+$/, "", text)
            return text
        }
        /^#/ { next }
        FILENAME == rows && NF < 4 { print table ":" FNR ": not a row as --write writes it"; next }
        FILENAME == rows { if ($(NF - 2) == arch) { k = name(3); registers[k] = $(NF - 1); shared[k] = $NF }; next }
        {
            k = name(4)
            here[k] = 1
            if ($NF) print k ": spills " $NF " bytes"
            if (!(k in registers)) { print k ": not in " table ": run `tools/cuda-gates.sh --write`"; next }
            if ($(NF - 2) > registers[k] + slack)
                print k ": " $(NF - 2) " registers, more than the table\047s " registers[k] " and " slack
            if ($(NF - 1) != shared[k])
                print k ": " $(NF - 1) " bytes of static shared memory; the table has " shared[k]
        }
        END {
            if (whole)
                for (k in registers)
                    if (!(k in here)) print k ": in " table ", and no longer in cuda/: run `tools/cuda-gates.sh --write`"
        }' $rows "$dir/kernels" | sort
}

if [ -n "$write" ]; then
    compiled "$@"
    ls "$dir"/*.failed >/dev/null 2>&1 && exit 1
    sed 's/ [0-9]*$//' "$dir/kernels" >"$dir/rows"
    [ ! -f $table ] || awk -v arch="$ARCH" '!/^#/ && $(NF - 2) != arch' $table >>"$dir/rows"
    {
        echo '# What ptxas says of each kernel: kernel, architecture, registers, bytes of static shared memory.'
        echo '# Written by tools/cuda-gates.sh --write.'
        sort "$dir/rows"
    } >$table
fi
{
    compiled "$@"
    instructions "$@"
    resources
} >"$dir/found"
cat "$dir/found"
echo "cuda gates: $(wc -l <"$dir/kernels" | tr -d ' ') kernels, sm_$ARCH, $(wc -l <"$dir/found" | tr -d ' ') problems"
[ ! -s "$dir/found" ]
