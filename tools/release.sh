#!/bin/sh
# Packs the model of a finished demo: OUT/lcl-demo-RELEASE.tar.gz, a run folder with a model card and SHA256SUMS. `make release`.
# usage: tools/release.sh DEMO RELEASE OUT
#   DEMO  folder of one seed: link/ (finished) and results.json
# LCL names the program (default build/lcl).
set -eu
demo=$1 release=$2 out=$3
lcl=${LCL:-build/lcl}

lacks() {
    echo "error: $1" >&2
    echo "hint: make demo makes it (SEED=n, DEMO=dir as they were given there)" >&2
    exit 1
}
[ -d "$demo/link" ] || lacks "there is no finished demo in $demo: no $demo/link"
[ -e "$demo/link/finished" ] || lacks "the demo in $demo is not finished: no $demo/link/finished"
[ -s "$demo/results.json" ] || lacks "the demo in $demo was not evaluated: no $demo/results.json"
# A link, or a file that names the checkpoint.
if [ -L "$demo/link/last" ]; then last=$(basename "$(readlink "$demo/link/last")"); else last=$(cat "$demo/link/last"); fi
[ -d "$demo/link/$last" ] || lacks "$demo/link/last names $last, which is not there"
"$lcl" inspect "$demo/link" >/dev/null

name=lcl-demo-$release
dir=$out/release/$name
rm -rf "$dir"
mkdir -p "$dir"
cp -RP "$demo/link/last" "$demo/link/$last" "$demo/link/config.yaml" "$demo/link/finished" "$dir/"
for f in "$demo/link"/*.json; do [ ! -f "$f" ] || cp "$f" "$dir/"; done
cp "$demo/results.json" "$dir/"
[ ! -f "$demo/accuracy.svg" ] || cp "$demo/accuracy.svg" "$dir/"
cat >"$dir/README.md" <<CARD
# The demo's model, lcl $release

A small vision-language model that answers by the pictures that its prompt labels (link-context learning), trained from nothing by \`make demo\`. It shows the
method at work; it knows no classes of the world and is of no use beyond that.

- **Architecture**: a ViT of 72-pixel pictures, one token a picture, and a LLaMA-shaped decoder; shapes and training in \`config.yaml\`.
- **Data**: unit pictures of The Battle for Wesnoth, GPL-2.0-or-later, from the Debian package that \`make demo\` names. The classes of the
  split \`test\` were never trained on.
- **Results**: accuracies on those classes by shots with 95 % intervals, and controls, in \`results.json\`; drawn in \`accuracy.svg\` where it is there.
- **Limits**: two-way questions in the words of \`data.layout\`; English template words and made-up labels only.

    sha256sum -c SHA256SUMS
    lcl generate --model . --support "dax=a.png,b.png" --support "wug=c.png" --query d.png
    lcl eval . --set data.pack=pack.h5
CARD
(cd "$dir" && find . -type f ! -name SHA256SUMS | LC_ALL=C sort | xargs -d '\n' sha256sum >SHA256SUMS)
tar -C "$out/release" --sort=name --owner=0 --group=0 --numeric-owner -cf - "$name" | gzip -n >"$out/$name.tar.gz.writing"
mv "$out/$name.tar.gz.writing" "$out/$name.tar.gz"
rm -rf "$out/release"
echo "$out/$name.tar.gz"
