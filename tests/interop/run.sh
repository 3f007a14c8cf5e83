#!/bin/sh
# What `lcl export` writes, read by transformers and llama.cpp (`make test-interop`). usage: tests/interop/run.sh LCL
#   re-saved   ../shared/golden/llava-tiny through `lcl export`: its own reference logits
#   tuned      the same after a few steps of `lcl train`: the logits of `lcl forward`
#   CLIP       CLIPModels of transformers with CLIP tokenizers: ids, and features of texts and pictures within 1e-5
#   adapted    LoRA on it: our adapter merged by peft, and one of peft's by us, against what the other merges
#   joined     a CLIPModel and a LlamaForCausalLM of transformers by `lcl import join`; a delta of torch.save by `import delta`
#   folded     a fresh model with a linear projector and standardised features: the same
#   queries    a fresh model with a Q-Former: what transformers' Blip2QFormerModel makes of its features
#   gguf       the tuned and the golden model through `lcl export --to gguf`: every tensor, by check_gguf.py; and back again
#   llama.cpp  the tuned model's GGUF pair: logits of words within 1e-4 of ours, and an answer about pictures
#   SmolLM2    out of GGUF: the perplexity of a sentence by lcl, and by transformers on what lcl imports
# and each folder through AutoProcessor: chat template, tokens, pixels. Ends with `N passed, N failed`.
# and the examples that come with the exports. PIP_ARGS goes to pip install, for a wheel index of one's own. LLAMA_CPP=0 leaves
# llama.cpp out (it is built from source: about 11 minutes), SMOLLM2=0 SmolLM2 (a download of 90 MB). POSIX shell.
set -u
cd "$(dirname "$0")/../.." || exit 1
lcl=${1:-build/lcl}
golden=${LCL_SHARED:-../shared}/golden
if [ ! -f "$golden/check_hf.py" ] || [ ! -f "$golden/llava-tiny/case.safetensors" ]; then
    echo "test-interop: skipped: $golden/check_hf.py and llava-tiny are not here (LCL_SHARED names their folder's parent)"
    exit 0
fi

works() { [ -x "$1" ] && "$1" -c 'import torch, transformers, peft, safetensors, PIL, numpy, jinja2, gguf, h5py' 2>/dev/null; }
python=
for venv in build/venv-interop build/venv; do
    if [ -z "$python" ] && works $venv/bin/python; then python=$venv/bin/python; fi
done
if [ -z "$python" ]; then
    echo "test-interop: making build/venv-interop (torch, transformers, peft: a download of some minutes)"
    python3 -m venv build/venv-interop || { echo 'error: python3 -m venv failed; hint: apt-get install python3-venv' >&2; exit 1; }
    # shellcheck disable=SC2086
    build/venv-interop/bin/pip install --quiet ${PIP_ARGS:-} torch transformers peft safetensors pillow numpy jinja2 gguf h5py || exit 1
    python=build/venv-interop/bin/python
fi

llama=build/venv-llama/bin/python
llama_works() { [ -x $llama ] && $llama -c 'import llama_cpp, numpy, PIL' 2>/dev/null; }
if [ "${LLAMA_CPP:-1}" = 0 ]; then
    echo 'test-interop: llama.cpp is left out (LLAMA_CPP=0)'
    llama=
elif ! llama_works; then
    echo "test-interop: making build/venv-llama (llama-cpp-python is built from source, which takes about 11 minutes; LLAMA_CPP=0 leaves it out)"
    # shellcheck disable=SC2086
    python3 -m venv build/venv-llama && build/venv-llama/bin/pip install --quiet ${PIP_ARGS:-} llama-cpp-python==0.3.36 numpy pillow || exit 1
fi

work=build/interop
rm -rf $work
mkdir -p $work
passed=0
failed=0
log=$work/log
# check NAME COMMAND...: one line, and the command's words where it fails.
check() {
    name=$1
    shift
    if "$@" >$log 2>&1; then
        passed=$((passed + 1))
        echo "ok      $name$(sed -n 's/.*\(max abs.*\)/: \1/p' $log)"
    else
        failed=$((failed + 1))
        echo "FAILED  $name"
        sed 's/^/        /' $log
    fi
}
hf() { "$python" "$golden/check_hf.py" "$@"; }
helper() { "$python" tests/interop/helper.py "$@"; }
# The exported folder against what lcl computes on the same inputs.
against_lcl() {
    "$lcl" forward --model "$1" --case "$2" --out $work/forward.safetensors &&
        helper case "$2" $work/forward.safetensors $work/case.safetensors && hf "$1" $work/case.safetensors --tol 8e-5
}
resave() { "$lcl" export "$golden/llava-tiny" --to hf --out $work/resaved --quiet; }
tune() { "$lcl" train $work/"$1".yaml --quiet && "$lcl" export $work/"$1" --to hf --out $work/"$1"-hf --quiet; }

# to_gguf MODEL HF_DIR DTYPE: both files against the folder's tensors.
to_gguf() {
    "$lcl" export "$1" --to gguf --out "$work/$3-gguf" --dtype "$3" --force --quiet &&
        "$python" "$golden/check_gguf.py" "$work/$3-gguf/model.gguf" "$2" --mmproj "$work/$3-gguf/mmproj.gguf"
}
back_again() {
    "$lcl" import gguf --file $work/f16-gguf/model.gguf --out $work/imported --quiet &&
        "$python" "$golden/check_gguf.py" $work/f16-gguf/model.gguf $work/imported &&
        "$lcl" export $work/imported --to gguf --out $work/again-gguf --dtype f16 --quiet &&
        cmp $work/f16-gguf/model.gguf $work/again-gguf/model.gguf
}

# The example of an export on two labelled pictures and a third: example PYTHON DIR
example() {
    "$1" "$2/example.py" dax=$work/pictures/train/thing-a/0.png blicket=$work/pictures/train/thing-b/0.png \
        $work/pictures/train/thing-a/1.png
}
llama_logits() {
    helper words $work/words.safetensors &&
        "$lcl" forward --model $work/tuned-hf --case $work/words.safetensors --out $work/forward.safetensors --quiet &&
        helper arrays $work/words.safetensors $work/forward.safetensors $work/words.npz &&
        $llama tests/interop/llama.py logits $work/f32-gguf/model.gguf $work/words.npz
}
llama_tokens() {
    "$lcl" tokenize --model $work/tuned-hf <tests/interop/texts.jsonl >$work/tokens.jsonl &&
        $llama tests/interop/llama.py tokens $work/f32-gguf/model.gguf tests/interop/texts.jsonl $work/tokens.jsonl
}
smollm2() {
    printf '{"text": "%s"}\n' 'The sun rises in the east and sets in the west, and the moon goes around the earth once a month.' \
        >$work/sentence.jsonl
    gguf=$(sh tools/smollm2-gguf.sh build/smollm2/download) &&
        "$lcl" import gguf --file "$gguf" --out $work/smollm2 --quiet &&
        "$lcl" tokenize --model $work/smollm2 <$work/sentence.jsonl >$work/tokens.jsonl &&
        helper words $work/sentence.safetensors $work/tokens.jsonl &&
        "$lcl" forward --model $work/smollm2 --case $work/sentence.safetensors --out $work/forward.safetensors --quiet &&
        helper perplexity $work/sentence.safetensors $work/forward.safetensors 10.53
}
# A pair of GGUF files as one folder: every tensor of both.
paired() {
    "$lcl" import gguf --file $work/f32-gguf/model.gguf --mmproj $work/f32-gguf/mmproj.gguf --out $work/paired --quiet &&
        "$python" "$golden/check_gguf.py" $work/f32-gguf/model.gguf $work/paired --mmproj $work/f32-gguf/mmproj.gguf &&
        helper processor $work/paired $work/pictures
}
clip_tokens() {
    "$lcl" tokenize --model $work/clip/"$1" <tests/interop/texts.jsonl >$work/tokens.jsonl &&
        helper clip_ids $work/clip/new tests/interop/texts.jsonl $work/tokens.jsonl
}
clip_features() {
    "$lcl" forward --model $work/clip/"$1" --case $work/clip/"$1".safetensors --out $work/forward.safetensors --quiet &&
        helper clip_features $work/clip/"$1" $work/clip/"$1".safetensors $work/forward.safetensors
}
join() { "$lcl" import join --vision $work/parts/clip --text $work/parts/llama --out $work/joined --quiet; }
sum() {
    "$lcl" import delta --base $work/parts/llama --delta $work/parts/delta --out $work/summed --quiet &&
        helper same $work/summed/model.safetensors $work/parts/sum.safetensors
}

helper pictures $work/pictures || exit 1
"$lcl" pack --format imagefolder --images $work/pictures --out $work/pack.h5 --min-images 1 --quiet || exit 1
cat >$work/tuned.yaml <<YAML
output_dir: $work/tuned
init_from: $golden/llava-tiny
freeze_vision_tower: false
learning_rate: 1e-3
max_steps: 4
lanes: 2
per_device_train_batch_size: 1
save_steps: 0
data: {pack: $work/pack.h5, shots: 4, hard_fraction: 0, layout: vicuna}
eval: {shots: [2], negatives: random}
YAML
cat >$work/adapted.yaml <<YAML
output_dir: $work/adapted
init_from: $golden/llava-tiny
freeze_vision_tower: false
learning_rate: 1e-2
max_steps: 4
lanes: 2
per_device_train_batch_size: 1
save_steps: 0
lora: {rank: 3, alpha: 5, targets: '*_proj,linear_?,fc?'}
data: {pack: $work/pack.h5, shots: 4, hard_fraction: 0, layout: vicuna}
eval: {shots: [2], negatives: random}
YAML
cat >$work/folded.yaml <<YAML
output_dir: $work/folded
vision: {image_size: 32, patch_size: 8, hidden_size: 32, intermediate_size: 64, num_hidden_layers: 2, num_attention_heads: 2}
text: {hidden_size: 48, intermediate_size: 64, num_hidden_layers: 2, num_attention_heads: 4, num_key_value_heads: 2, tie_word_embeddings: true}
mm_projector_type: linear
mm_standardize: true
init_scheme: fan_in
learning_rate: 1e-3
max_steps: 4
lanes: 2
per_device_train_batch_size: 1
save_steps: 0
data: {pack: $work/pack.h5, shots: 4, hard_fraction: 0}
eval: {shots: [2], negatives: random}
YAML
cat >$work/queries.yaml <<YAML
output_dir: $work/queries
vision: {image_size: 32, patch_size: 8, hidden_size: 32, intermediate_size: 64, num_hidden_layers: 2, num_attention_heads: 2}
qformer: {num_query_tokens: 5, hidden_size: 48, intermediate_size: 80, num_hidden_layers: 4, num_attention_heads: 4, cross_attention_frequency: 2}
text: {hidden_size: 48, intermediate_size: 64, num_hidden_layers: 2, num_attention_heads: 4}
mm_projector_type: qformer
mm_vision_select_feature: cls_patch
freeze_vision_tower: false
learning_rate: 1e-2
max_steps: 4
lanes: 2
per_device_train_batch_size: 1
save_steps: 0
data: {pack: $work/pack.h5, shots: 4, hard_fraction: 0}
eval: {shots: [2], negatives: random}
YAML

check 're-saved: lcl export' resave
check 're-saved: logits and greedy answer of the golden case' hf $work/resaved "$golden/llava-tiny/case.safetensors" --tol 8e-5 --generate
check 're-saved: processor' helper processor $work/resaved $work/pictures
check 'tuned: lcl train, lcl export' tune tuned
check 'tuned: logits' against_lcl $work/tuned-hf "$golden/llava-tiny/case.safetensors"
check 'tuned: it is another model than before' helper differs $work/case.safetensors "$golden/llava-tiny/case.safetensors"
check 'tuned: processor' helper processor $work/tuned-hf $work/pictures
for dtype in f32 bf16 q8_0 f16; do check "gguf: the golden model, $dtype" to_gguf "$golden/llava-tiny" "$golden/llava-tiny" $dtype; done
check 'gguf: f16 as a folder, and back to the same bytes' back_again
check 'gguf: the tuned model, f32' to_gguf $work/tuned $work/tuned-hf f32
check 'tuned: its example' example "$python" $work/tuned-hf
if [ -n "$llama" ]; then
    check 'llama.cpp: tokens of the tuned model' llama_tokens
    check 'llama.cpp: logits of the tuned text model, f32' llama_logits
    check 'llama.cpp: the pair answers about pictures, by its example' example $llama $work/f32-gguf
fi
check 'gguf: the tuned pair as a folder' paired
check 'CLIP: models made by transformers' helper clip $work/clip
for kind in new old; do
    check "CLIP, $kind: ids of its tokenizer" clip_tokens $kind
    check "CLIP, $kind: features of texts and pictures" clip_features $kind
done
check 'joined: parts made by transformers' helper parts $work/parts "$golden/llava-tiny"
check 'joined: lcl import join' join
check 'joined: transformers has every tensor of both' helper joined $work/parts $work/joined
check 'joined: lcl import delta, the sums of torch' sum
check 'adapted: lcl train, lcl export' tune adapted
check 'adapted: lcl export --to peft' "$lcl" export $work/adapted --to peft --out $work/adapted-peft --quiet
check 'adapted: peft merges our adapter to our folder' helper peft "$golden/llava-tiny" $work/adapted-peft $work/adapted-hf
check 'adapted: the example of the adapter' example "$python" $work/adapted-peft
check 'adapted: lcl export with an adapter of peft' "$lcl" export "$golden/llava-tiny" --to hf --out $work/peft-hf --quiet \
    --set lora.adapter="$golden/llava-tiny/lora-final"
check 'adapted: peft merges its own to the same' helper peft "$golden/llava-tiny" "$golden/llava-tiny/lora-final" $work/peft-hf
check 'folded: lcl train, lcl export' tune folded
helper inputs $work/folded-hf $work/pictures $work/inputs.safetensors >$log 2>&1 || cat $log
check 'folded: logits' against_lcl $work/folded-hf $work/inputs.safetensors
check 'folded: processor' helper processor $work/folded-hf $work/pictures
check 'queries: lcl train' "$lcl" train $work/queries.yaml --quiet
helper queries $work/queries $work/queries.safetensors >$log 2>&1 || cat $log
check 'queries: lcl forward' "$lcl" forward --model $work/queries --case $work/queries.safetensors --out $work/queries-forward.safetensors
check 'queries: Blip2QFormerModel' helper qformer $work/queries $work/queries-forward.safetensors
if [ "${SMOLLM2:-1}" = 0 ]; then
    echo 'test-interop: SmolLM2 is left out (SMOLLM2=0)'
else
    check 'SmolLM2 out of GGUF: perplexity by lcl' smollm2
    check 'SmolLM2 out of GGUF: perplexity by transformers' helper perplexity $work/sentence.safetensors $work/smollm2 10.53
fi
echo
echo "$passed passed, $failed failed"
[ $failed = 0 ]
