#!/bin/sh
# Packs lcl and all that it needs beyond glibc and NVIDIA's driver: OUT/lcl-RELEASE-linux-ARCH.tar.gz. `make dist`.
# usage: tools/dist.sh BINARY RELEASE OUT
#   BINARY  linked with an RPATH of $ORIGIN/../lib, so that it and its libraries find each other wherever they lie
# LD_LIBRARY_PATH names folders outside of the loader's own where libraries are found (CUDA's).
set -eu
cd "$(dirname "$0")/.."
binary=$1 release=$2 out=$3
name=lcl-$release-linux-$(uname -m)
dir=$out/dist/$name

rm -rf "$dir"
mkdir -p "$dir/bin" "$dir/lib" "$dir/licences"
cp "$binary" "$dir/bin/lcl"
strip "$dir/bin/lcl"
cp -R configs README.md LICENSE THIRD_PARTY.md "$dir/"
mv "$dir/README.md" "$dir/README-source.md"

sh tools/libraries.sh "$binary" >"$out/dist/libraries"
: >"$out/dist/without-licence"
while read -r soname path; do
    cp -L "$path" "$dir/lib/$soname"
    real=$(readlink -f "$path")
    package=$({ dpkg -S "$real" || dpkg -S "${real#/usr}"; } 2>/dev/null | head -1 | cut -d: -f1)
    if [ -n "$package" ] && [ -f "/usr/share/doc/$package/copyright" ]; then
        cp -L "/usr/share/doc/$package/copyright" "$dir/licences/$package"
    else
        echo "$soname" >>"$out/dist/without-licence"
    fi
done <"$out/dist/libraries"

# The newest symbol of glibc that anything in the bundle asks for.
glibc=$(objdump -T "$dir/bin/lcl" "$dir"/lib/* 2>/dev/null | grep -o 'GLIBC_2\.[0-9.]*' | sed 's/GLIBC_//' | sort -Vu | tail -1)
cuda=$("$binary" --version | sed -n 's/^cuda: //p')
case $cuda in
'CUDA '*) gpu="It was built with $cuda: a GPU needs NVIDIA's driver for that CUDA release or newer, and nothing else.
The driver itself (libcuda) is not part of the bundle; \`--device cpu\` needs none." ;;
*) gpu='It was built without CUDA: it runs on the CPU.' ;;
esac
{
    cat <<TEXT
# lcl $release for Linux, $(uname -m)

\`bin/lcl\` runs from wherever this folder lies; \`bin/lcl --help\` lists its verbs, \`configs/\` holds recipes,
\`README-source.md\` is the project's own page.

Needs Linux on $(uname -m) with glibc $glibc or newer (\`ldd --version\` tells; Debian 12 and Ubuntu 24.04 have 2.36 and 2.39). On an
older one the loader says \`version GLIBC_... not found\` and nothing runs: build from source there.
$gpu

\`lib/\` holds the libraries that it uses, as the build machine's packages have them; \`licences/\` has their licences by
package, THIRD_PARTY.md says what each is for. Unset LD_LIBRARY_PATH or keep these libraries out of it: bin/lcl finds its own.
TEXT
    if [ -s "$out/dist/without-licence" ]; then
        echo
        echo "Licences of these came with no package: $(tr '\n' ' ' <"$out/dist/without-licence")"
        echo '(libraries of CUDA: see the redistribution list in https://docs.nvidia.com/cuda/eula/).'
    fi
} >"$dir/README.md"

tar -C "$out/dist" -cf - "$name" | gzip -5 >"$out/$name.tar.gz.writing"
mv "$out/$name.tar.gz.writing" "$out/$name.tar.gz"
mib() { du -sm "$1" | cut -f1; }
libraries=$(wc -l <"$out/dist/libraries" | tr -d ' ')
echo "$out/$name.tar.gz: $(mib "$out/$name.tar.gz") MiB, $(mib "$dir") MiB unpacked, $libraries libraries; needs glibc $glibc; cuda: $cuda"
if [ -f "$dir/lib/libcublasLt.so.13" ] || [ -f "$dir/lib/libcublasLt.so.12" ]; then
    echo "of that libcublasLt: $(du -Lm "$dir"/lib/libcublasLt.so.* | cut -f1) MiB, kernels for every GPU that CUDA supports"
fi
