#!/bin/sh
# Installs what the build needs and lacks (Debian, Ubuntu); on other systems says what that is.
# usage: tools/setup.sh [--dev|--nightly|--fuzz] [--check]
#   --dev      also what the tests need (cmocka; clang-format, and clang with libFuzzer, where they can be had)
#   --fuzz     the same; clang must be there
#   --nightly  what --dev has and OpenBLAS, which the nightly tests compare with
#   --check    install nothing: exit 1 and say what is missing
# It does nothing, in a fraction of a second, when all is there.
set -u

dev=0
nightly=0
fuzz=0
check=0
for arg in "$@"; do
    case $arg in
    --dev) dev=1 ;;
    --nightly) dev=1 nightly=1 ;;
    --fuzz) dev=1 fuzz=1 ;;
    --check) check=1 ;;
    *) echo "usage: tools/setup.sh [--dev|--nightly|--fuzz] [--check]" >&2; exit 2 ;;
    esac
done

missing= # Debian packages

need() { missing="$missing $1"; }
has() { command -v "$1" >/dev/null 2>&1; }
has_pkg() { pkg-config --exists "$@" 2>/dev/null; }
# Are these headers found by the compiler?
has_headers() {
    has "${CC:-cc}" || return 1
    for header in "$@"; do echo "#include <$header>"; done | "${CC:-cc}" -E -x c - >/dev/null 2>&1
}

has make || need make
if ! has "${CC:-cc}"; then
    need gcc
    need libc6-dev
elif ! has_headers stdio.h; then
    need libc6-dev
fi
has pkg-config || need pkg-config
if ! has_pkg yaml-0.1 jansson libpng libwebp libpcre2-8 || ! { has_pkg hdf5 || has_pkg hdf5-serial; }; then
    has_pkg hdf5 || has_pkg hdf5-serial || need libhdf5-dev
    has_pkg yaml-0.1 || need libyaml-dev
    has_pkg jansson || need libjansson-dev
    has_pkg libpng || need libpng-dev
    has_pkg libwebp || need libwebp-dev
    has_pkg libpcre2-8 || need libpcre2-dev
fi
if ! has_headers stdio.h jpeglib.h gif_lib.h; then
    has_headers stdio.h jpeglib.h || need libjpeg-dev
    has_headers gif_lib.h || need libgif-dev
fi
# A program that calls OpenBLAS links? The header alone may be the reference BLAS's.
has_openblas() {
    has_pkg openblas || { has_headers cblas.h && echo 'int main(void) { return 0; }' |
        "${CC:-cc}" -x c - -o /dev/null -lopenblas >/dev/null 2>&1; }
}
gemm= # one of them will do; oneDNN is the faster
if ! has_headers oneapi/dnnl/dnnl.h && ! has_openblas; then gemm=1; fi
optional=
if [ $dev = 1 ]; then
    has_pkg cmocka || need libcmocka-dev
    # Ranks: any MPI will do; where there is none, Open MPI.
    if [ -z "$(sh "$(dirname "$0")/mpi-flags.sh" libs)" ]; then need libopenmpi-dev; fi
    has mpirun || need openmpi-bin
    has "${CXX:-c++}" || need g++ # the emulated CUDA kernels
    has clang-format || optional=clang-format
    # Its libFuzzer comes with it, or in a package of its own.
    if [ -z "$(sh "$(dirname "$0")/fuzz.sh" clang)" ]; then
        if [ $fuzz = 1 ]; then need clang; else optional="$optional clang"; fi
        optional="$optional libclang-rt-dev"
    fi
fi

if [ $nightly = 1 ]; then has_pkg openblas || need libopenblas-dev; fi

missing=${missing# }
[ -z "$missing$gemm" ] && { [ -z "$optional" ] || [ $check = 1 ]; } && exit 0

if [ $check = 1 ]; then
    echo "error: the build needs these Debian packages (or what holds the same):" \
        "$missing${gemm:+ libdnnl-dev (or libopenblas-dev)}" >&2
    echo "hint: run \`make setup\`" >&2
    exit 1
fi

if ! has apt-get; then
    [ -z "$missing$gemm" ] && exit 0
    echo "error: this system has no apt-get; install with its own package manager, by their Debian names:" >&2
    for p in $missing ${gemm:+libdnnl-dev}; do echo "  $p" >&2; done
    [ -n "$gemm" ] && echo "  (libopenblas-dev in place of libdnnl-dev will do)" >&2
    exit 1
fi

as_root=
if [ "$(id -u)" != 0 ]; then
    if has sudo; then
        as_root=sudo
    elif [ -z "$missing$gemm" ]; then
        exit 0
    else
        echo "error: packages are missing, and there is neither root nor sudo to install them" >&2
        echo "hint: as root: apt-get install $missing${gemm:+ libdnnl-dev}" >&2
        exit 1
    fi
fi

log=$(mktemp) || exit 1
trap 'rm -f "$log"' EXIT
# Runs quietly; what it printed is shown when it fails.
quietly() {
    $as_root env DEBIAN_FRONTEND=noninteractive "$@" >"$log" 2>&1 && return 0
    tail -n 15 "$log" >&2
    return 1
}
can_be_had() { apt-cache show "$1" >/dev/null 2>&1; }

echo "setup: reading the package lists${as_root:+ (with sudo)}"
if ! quietly apt-get update -qq; then
    echo "error: apt-get update failed (above)" >&2
    echo "hint: check the network and /etc/apt/sources.list" >&2
    exit 1
fi
if [ -n "$gemm" ]; then
    if can_be_had libdnnl-dev; then need libdnnl-dev; else need libopenblas-dev; fi
fi
for p in $optional; do
    if can_be_had "$p"; then need "$p"; fi
done
for p in $missing; do
    can_be_had "$p" && continue
    echo "error: the package lists have no $p" >&2
    echo "hint: check /etc/apt/sources.list and its folder; on Ubuntu: add-apt-repository universe" >&2
    exit 1
done
[ -n "$missing" ] || exit 0
echo "setup: installing" $missing
# shellcheck disable=SC2086
if ! quietly apt-get install -y -qq --no-install-recommends -o DPkg::Lock::Timeout=120 $missing; then
    echo "error: apt-get could not install: $missing (above)" >&2
    exit 1
fi
echo "setup: done"
