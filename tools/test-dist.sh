#!/bin/sh
# The bundle of `make dist` runs where nothing but glibc is: unpacked into a folder that becomes the root of its file system.
# usage: tools/test-dist.sh BINARY RELEASE DIR   (DIR: scratch, removed first)
# Where no root may be changed (no user namespaces), its libraries are checked by ldd, and it runs with an empty environment.
set -eu
cd "$(dirname "$0")/.."
binary=$1 release=$2 dir=$3
rm -rf "$dir"
mkdir -p "$dir"
sh tools/dist.sh "$binary" "$release" "$dir"
name=lcl-$release-linux-$(uname -m)
root=$PWD/$dir/root
mkdir -p "$root/anywhere" "$root/tmp"
tar -C "$root/anywhere" -xzf "$dir/$name.tar.gz"
lcl=/anywhere/$name/bin/lcl

fail() {
    echo "test-dist: $*" >&2
    exit 1
}
[ -f "$root/anywhere/$name/lib/libcuda.so.1" ] && fail 'libcuda is in the bundle'
[ -f "$root/anywhere/$name/lib/libc.so.6" ] && fail 'glibc is in the bundle'
for f in README.md LICENSE THIRD_PARTY.md configs/demo/base.yaml licences; do
    [ -e "$root/anywhere/$name/$f" ] || fail "there is no $f"
done

# Everything resolves to the bundle or to glibc.
glibc='linux-vdso|/ld-linux|lib(c|m|dl|rt|pthread|resolv|util|mvec)\.so'
env -i ldd "$root$lcl" >"$dir/ldd"
grep 'not found' "$dir/ldd" && fail 'a library is missing'
outside=$(grep -v "$root/anywhere" "$dir/ldd" | grep -Ev "$glibc" || true)
[ -z "$outside" ] || fail "from outside of the bundle: $outside"

# glibc alone beside it.
awk '/=> \// { print $3 } $1 ~ /^\// { print $1 }' "$dir/ldd" | grep -v "^$root" | while read -r path; do
    mkdir -p "$root$(dirname "$path")"
    cp -L "$path" "$root$path"
done
cat >"$root/tmp/tiny.yaml" <<'YAML'
task: language
output_dir: /tmp/run
max_steps: 2
text: {hidden_size: 32, intermediate_size: 48, num_hidden_layers: 2, num_attention_heads: 4}
vision: {image_size: 16, patch_size: 8, hidden_size: 16, intermediate_size: 32, num_hidden_layers: 2, num_attention_heads: 2}
YAML
# The loader finds $ORIGIN in /proc, which is not there, or in this.
origin=LD_ORIGIN_PATH=/anywhere/$name/bin
if env "$origin" chroot "$root" "$lcl" --help >/dev/null 2>&1; then
    inside() { env -i "$origin" "$(command -v chroot)" "$root" "$@"; }
elif env "$origin" unshare -r chroot "$root" "$lcl" --help >/dev/null 2>&1; then
    inside() { env -i "$origin" "$(command -v unshare)" -r "$(command -v chroot)" "$root" "$@"; }
else
    echo 'test-dist: the root cannot be changed here: checked by ldd only'
    sed -i "s|/tmp/run|$root/tmp/run|" "$root/tmp/tiny.yaml"
    inside() {
        program=$1
        shift
        case ${2:-} in /tmp/*) env -i "$root$program" "$1" "$root$2" ;; *) env -i "$root$program" "$@" ;; esac
    }
fi
inside "$lcl" --version >"$dir/version" || fail '--version does not run'
grep -q "^lcl $release" "$dir/version" || fail "--version says: $(cat "$dir/version")"
inside "$lcl" train /tmp/tiny.yaml >"$dir/train" 2>&1 || fail "training does not run: $(cat "$dir/train")"
[ -f "$root/tmp/run/checkpoint-2/state.h5" ] || fail "training left no checkpoint: $(cat "$dir/train")"
cat "$dir/version"
rm -rf "$dir"
