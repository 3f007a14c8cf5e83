#include "tests/fuzz/fuzz.h"

#include "core/fs.h"
#include "data/tokenizer.h"
#include "tests/support/sp_file.h"

static lcl_status read_tokenizer(const char *path, const struct fuzz_file *f)
{
    struct lcl_tokenizer *t;
    struct lcl_ids ids = {0};
    char *back = NULL;
    (void)f;
    LCL_TRY(lcl_tokenizer_load(path, &t));
    lcl_status status = lcl_tokenizer_encode(t, "<s>there is \"abc\" in\xc3\xa9 it", true, &ids);
    if (status == LCL_OK) status = lcl_tokenizer_decode(t, ids.v, ids.n, false, &back);
    free(back);
    lcl_ids_free(&ids);
    lcl_tokenizer_free(t);
    return status;
}

/* Byte-level BPE as we train it, and BPE as LLaMA-2's tokenizer.json has it. */
static size_t json_seeds(struct fuzz_file *seeds)
{
    const char *const texts[] = {"there is \"abc\" in it", "a picture of a knight"};
    struct lcl_tokenizer *t;
    ASSERT_OK(lcl_tokenizer_train(texts, 2, 290, &t));
    ASSERT_OK(lcl_fs_mkdirs(fuzz_path("trained")));
    ASSERT_OK(lcl_tokenizer_save(t, fuzz_path("trained")));
    lcl_tokenizer_free(t);
    seeds[0] = fuzz_whole(fuzz_path("trained/tokenizer.json"));
    seeds[1] = fuzz_text(
        "{\"added_tokens\": [{\"id\": 1, \"content\": \"<s>\", \"single_word\": false, "
        "\"lstrip\": false, \"rstrip\": false, \"normalized\": false, \"special\": true}], "
        "\"normalizer\": {\"type\": \"Sequence\", \"normalizers\": [{\"type\": \"Prepend\", "
        "\"prepend\": \"\\u2581\"}, {\"type\": \"Replace\", \"pattern\": {\"String\": \" \"}, "
        "\"content\": \"\\u2581\"}]}, \"pre_tokenizer\": null, \"post_processor\": {\"type\": "
        "\"TemplateProcessing\", \"single\": [{\"SpecialToken\": {\"id\": \"<s>\", \"type_id\": "
        "0}}, {\"Sequence\": {\"id\": \"A\", \"type_id\": 0}}], \"pair\": [], "
        "\"special_tokens\": {\"<s>\": {\"id\": \"<s>\", \"ids\": [1], \"tokens\": [\"<s>\"]}}}, "
        "\"decoder\": {\"type\": \"Sequence\", \"decoders\": [{\"type\": \"Replace\", "
        "\"pattern\": {\"String\": \"\\u2581\"}, \"content\": \" \"}, {\"type\": "
        "\"ByteFallback\"}, {\"type\": \"Fuse\"}, {\"type\": \"Strip\", \"content\": \" \", "
        "\"start\": 1, \"stop\": 0}]}, \"model\": {\"type\": \"BPE\", \"unk_token\": \"<unk>\", "
        "\"fuse_unk\": true, \"byte_fallback\": true, \"vocab\": {\"<unk>\": 0, \"<s>\": 1, "
        "\"<0x61>\": 2, \"\\u2581\": 3, \"a\": 4, \"b\": 5, \"ab\": 6}, \"merges\": [\"a b\"]}}");
    return 2;
}

static size_t sentencepiece_seeds(struct fuzz_file *seeds)
{
    struct torch_bytes bpe = {0}, unigram = {0};
    sp_small(&bpe, SP_BPE, true);
    sp_small(&unigram, SP_UNIGRAM, false);
    seeds[0] = (struct fuzz_file){bpe.v, bpe.n};
    seeds[1] = (struct fuzz_file){unigram.v, unigram.n};
    return 2;
}

static const char *const json_words[] = {"\"type\"",
                                         "\"model\"",
                                         "\"vocab\"",
                                         "\"merges\"",
                                         "\"BPE\"",
                                         "\"ByteLevel\"",
                                         "\"Metaspace\"",
                                         "\"Split\"",
                                         "\"Regex\"",
                                         "\"String\"",
                                         "\"Sequence\"",
                                         "\"Replace\"",
                                         "\"Prepend\"",
                                         "\"NFC\"",
                                         "\"Strip\"",
                                         "\"ByteFallback\"",
                                         "\"Fuse\"",
                                         "\"Digits\"",
                                         "\"TemplateProcessing\"",
                                         "\"behavior\"",
                                         "\"invert\"",
                                         "\"prepend_scheme\"",
                                         "\"added_tokens\"",
                                         "\"single_word\"",
                                         "\"normalized\"",
                                         "\"dropout\"",
                                         "\"unk_token\"",
                                         "\"ignore_merges\"",
                                         "2147483647",
                                         "4294967296",
                                         "(a*)*",
                                         "\\\\p{L}+",
                                         "null",
                                         "true",
                                         NULL};
/* Field tags of the protocol buffer. */
static const char *const proto_words[] = {
    "\x0a",         "\x12",  "\x1a",   "\x0d",   "\x15",   "\x18\1", "\xff\xff\xff\xff\x0f",
    "\xe2\x96\x81", "<unk>", "<0x61>", "\x18\2", "\x18\6", NULL};

const struct fuzz_target fuzz_tokenizer_json = {.name = "tokenizer_json",
                                                .file = "tokenizer.json",
                                                .seeds = json_seeds,
                                                .read = read_tokenizer,
                                                .words = json_words};
const struct fuzz_target fuzz_tokenizer_model = {.name = "tokenizer_model",
                                                 .file = "tokenizer.model",
                                                 .seeds = sentencepiece_seeds,
                                                 .read = read_tokenizer,
                                                 .words = proto_words};
