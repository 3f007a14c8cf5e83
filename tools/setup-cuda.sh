#!/bin/sh
# What the CUDA build needs: nvcc 12.4 or newer with cuBLAS's headers. Says what is there; installs Debian's or Ubuntu's
# nvidia-cuda-toolkit where that is new enough; explains what to do elsewhere. The CPU build needs none of it.
# usage: tools/setup-cuda.sh [--check]   (--check installs nothing)
set -u

check=0
case ${1:-} in
--check) check=1 ;;
'') ;;
*) echo 'usage: tools/setup-cuda.sh [--check]' >&2; exit 2 ;;
esac

# 12.4.131 -> 1204
number() { echo "$1" | awk -F. '{ print $1 * 100 + $2 }'; }

nvcc=$(command -v nvcc || ls /usr/local/cuda/bin/nvcc 2>/dev/null)
if [ -n "$nvcc" ]; then
    release=$("$nvcc" --version | sed -n 's/.*release \([0-9.]*\).*/\1/p')
    if [ "$(number "${release:-0}")" -ge 1204 ]; then
        root=$(dirname "$(dirname "$(readlink -f "$nvcc")")")
        for dir in "$root/include" "$root/targets/x86_64-linux/include" /usr/include; do
            [ -f "$dir/cublasLt.h" ] && { echo "setup-cuda: nvcc $release ($nvcc) and cuBLAS are here: run make"; exit 0; }
        done
        echo "setup-cuda: nvcc $release ($nvcc) is here, but not cublasLt.h: install cuBLAS's development package (libcublas-dev-*)"
        exit 1
    fi
    echo "setup-cuda: nvcc $release ($nvcc) is too old: 12.4 or newer is needed"
else
    echo 'setup-cuda: there is no nvcc'
fi

offered=
if command -v apt-cache >/dev/null 2>&1; then
    offered=$(apt-cache policy nvidia-cuda-toolkit 2>/dev/null | sed -n 's/ *Candidate: \([0-9.]*\).*/\1/p')
fi
if [ -n "$offered" ] && [ "$(number "$offered")" -ge 1204 ]; then
    if [ $check = 1 ]; then
        echo "setup-cuda: this system's packages have nvidia-cuda-toolkit $offered"
        exit 1
    fi
    sudo=
    [ "$(id -u)" = 0 ] || sudo=sudo
    echo "setup-cuda: installing nvidia-cuda-toolkit $offered${sudo:+ with sudo}"
    DEBIAN_FRONTEND=noninteractive $sudo apt-get install -y nvidia-cuda-toolkit && exit 0
    exit 1
fi
[ -n "$offered" ] && echo "setup-cuda: this system's packages have nvidia-cuda-toolkit $offered: too old"
cat <<'TEXT'
hint: install the CUDA toolkit 12.4 or newer from https://developer.nvidia.com/cuda-downloads (the packages cuda-nvcc-*,
      cuda-cudart-dev-* and libcublas-dev-* are enough), put its bin/ on PATH, then run make. On Debian 13 add non-free to
      the components in /etc/apt/sources.list.d/debian.sources, run apt-get update, and this script again.
TEXT
exit 1
