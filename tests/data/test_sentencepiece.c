/* SentencePiece models and unigram vocabularies: small ones made here, with ids worked out by hand
 * from the scores. */
#include "core/fs.h"
#include "data/tokenizer.h"
#include "tests/support/sp_file.h"
#include "tests/support/support.h"

#define MARK "\xe2\x96\x81"

static const char *in_dir(const char *dir, const char *file)
{
    static char path[2][500];
    static int turn;
    turn = !turn;
    snprintf(path[turn], sizeof path[turn], "%s/%s%s%s", temp_dir(), dir, *file ? "/" : "", file);
    return path[turn];
}

static void write_model(const char *dir, int kind, bool bytes)
{
    struct torch_bytes b = {0};
    sp_small(&b, kind, bytes);
    ASSERT_OK(lcl_fs_mkdirs(in_dir(dir, "")));
    ASSERT_OK(lcl_fs_write_atomic(in_dir(dir, "tokenizer.model"), b.v, b.n));
    free(b.v);
}

static struct lcl_tokenizer *load(const char *dir)
{
    struct lcl_tokenizer *t = NULL;
    ASSERT_OK(lcl_tokenizer_load_folder(in_dir(dir, ""), &t));
    return t;
}

/* The tokens of a text, one string: each followed by a bar. */
static void assert_tokens(const struct lcl_tokenizer *t, const char *text, const char *wanted)
{
    struct lcl_ids ids = {0};
    char got[500] = "";
    ASSERT_OK(lcl_tokenizer_encode(t, text, false, &ids));
    for (int64_t i = 0; i < ids.n; i++) strcat(strcat(got, lcl_tokenizer_token(t, ids.v[i])), "|");
    assert_string_equal(got, wanted);
    lcl_ids_free(&ids);
}

static void assert_back(const struct lcl_tokenizer *t, const char *text)
{
    struct lcl_ids ids = {0};
    char *back;
    ASSERT_OK(lcl_tokenizer_encode(t, text, true, &ids));
    assert_int_equal(ids.v[0], lcl_tokenizer_bos(t));
    ASSERT_OK(lcl_tokenizer_decode(t, ids.v, ids.n, true, &back));
    assert_string_equal(back, text);
    free(back);
    lcl_ids_free(&ids);
}

/* sp_small: ab is better than bc, abc than both; unigrams prefer a|bc (-3) to ab|c (-4). */
static void bpe_merges_the_best_pair(void **state)
{
    (void)state;
    write_model("bpe", SP_BPE, true);
    struct lcl_tokenizer *t = load("bpe");
    assert_tokens(t, "abc", MARK "|abc|");
    assert_tokens(t, "bc", MARK "|bc|");
    assert_tokens(t, "aab", MARK "a|ab|");
    assert_tokens(t, "a a", MARK "a|" MARK "a|");
    assert_tokens(t, "d\xc3\xa9", MARK "|<0x64>|<0xC3>|<0xA9>|");
    assert_tokens(t, "a</s>", MARK "a|</s>|");
    assert_back(t, "abc a\xc3\xa9 \xf0\x9f\x98\x80 bc");
    assert_int_equal(lcl_tokenizer_eos(t), 2);
    /* Saved, it is a tokenizer.json that says the same. */
    ASSERT_OK(lcl_tokenizer_save(t, in_dir("saved", "")));
    lcl_tokenizer_free(t);
    t = load("saved");
    assert_tokens(t, "aab d", MARK "a|ab|" MARK "|<0x64>|");
    lcl_tokenizer_free(t);
}

static void unigram_takes_the_best_sum(void **state)
{
    (void)state;
    write_model("unigram", SP_UNIGRAM, true);
    struct lcl_tokenizer *t = load("unigram");
    assert_tokens(t, "abc", MARK "a|bc|");
    assert_tokens(t, "abcabc", MARK "a|bc|abc|");
    assert_tokens(t, "d", MARK "|<0x64>|");
    assert_back(t, "abc \xf0\x9f\x98\x80 b");
    lcl_tokenizer_free(t);
    write_model("plain", SP_UNIGRAM, false);
    t = load("plain");
    assert_tokens(t, "dda", MARK "|<unk>|a|"); /* unknown characters in a row are one */
    lcl_tokenizer_free(t);
}

static void tokens_beside_the_model(void **state)
{
    (void)state;
    static const char config[] = "{\"legacy\": false, \"add_bos_token\": false, "
                                 "\"added_tokens_decoder\": {\"270\": {\"content\": \"<im_end>\", "
                                 "\"special\": true}}}";
    static const char added[] = "{\"<im_patch>\": 269, \"<im_end>\": 270}";
    write_model("beside", SP_BPE, true);
    ASSERT_OK(lcl_fs_write_atomic(in_dir("beside", "added_tokens.json"), added, strlen(added)));
    struct lcl_tokenizer *t = load("beside");
    assert_int_equal(lcl_tokenizer_id(t, "<im_patch>"), 269);
    assert_tokens(t, "a<im_patch>a<im_end>", MARK "a|<im_patch>|" MARK "a|<im_end>|");
    lcl_tokenizer_free(t);
    ASSERT_OK(
        lcl_fs_write_atomic(in_dir("beside", "tokenizer_config.json"), config, strlen(config)));
    t = load("beside");
    assert_tokens(t, "a<im_patch>a", MARK "a|<im_patch>|a|"); /* a mark at the beginning alone */
    struct lcl_ids ids = {0};
    ASSERT_OK(lcl_tokenizer_encode(t, "a", true, &ids));
    assert_int_equal(ids.n, 1); /* add_bos_token */
    lcl_ids_free(&ids);
    lcl_tokenizer_free(t);
}

static void damaged_models(void **state)
{
    (void)state;
    struct torch_bytes b = {0};
    struct lcl_tokenizer *t;
    const char *path = in_dir("bad", "tokenizer.model");
    ASSERT_OK(lcl_fs_mkdirs(in_dir("bad", "")));
    sp_small(&b, SP_BPE, false);
    for (size_t n = 0; n < b.n; n++) { /* cut short: an error, or fewer pieces */
        ASSERT_OK(lcl_fs_write_atomic(path, b.v, n));
        lcl_status status = lcl_tokenizer_load(path, &t);
        assert_true(status != LCL_OK);
    }
    b.n = 0;
    sp_small(&b, 3, false);
    ASSERT_OK(lcl_fs_write_atomic(path, b.v, b.n));
    ASSERT_FAILS(lcl_tokenizer_load(path, &t), LCL_UNSUPPORTED, "model_type 3");
    b.n = 0;
    sp_piece(&b, "a", 0, 9);
    ASSERT_OK(lcl_fs_write_atomic(path, b.v, b.n));
    ASSERT_FAILS(lcl_tokenizer_load(path, &t), LCL_FORMAT, "unknown type 9");
    b.n = 0;
    sp_piece(&b, "a", 0, 1);
    sp_piece(&b, "a", 0, 1);
    sp_settings(&b, SP_BPE, false, "");
    ASSERT_OK(lcl_fs_write_atomic(path, b.v, b.n));
    ASSERT_FAILS(lcl_tokenizer_load(path, &t), LCL_FORMAT, "twice");
    b.n = 0;
    sp_piece(&b, "a", 0, 1);
    sp_settings(&b, SP_UNIGRAM, false, "map");
    ASSERT_OK(lcl_fs_write_atomic(path, b.v, b.n));
    ASSERT_FAILS(lcl_tokenizer_load(path, &t), LCL_UNSUPPORTED, "normalises characters");
    free(b.v);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bpe_merges_the_best_pair), cmocka_unit_test(unigram_takes_the_best_sum),
        cmocka_unit_test(tokens_beside_the_model), cmocka_unit_test(damaged_models)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
