/* CLIP's tokenizer: words that end in "</w>", lower case, and its first files. */
#include "core/fs.h"
#include "data/tokenizer.h"
#include "tests/support/support.h"

static const char vocab[] =
    "{\"c\": 0, \"a\": 1, \"t\": 2, \"c</w>\": 3, \"a</w>\": 4, \"t</w>\": 5, \"!</w>\": 6, "
    "\"ca\": 7, \"cat</w>\": 8, \"at</w>\": 9, \"1</w>\": 10, \"<|startoftext|>\": 11, "
    "\"<|endoftext|>\": 12, \"!\": 13}";
static const char merges[] = "#version: 0.2\nc a\nca t</w>\na t</w>\n";

static struct lcl_tokenizer *load(const char *vocab_text, const char *merges_text)
{
    struct lcl_tokenizer *t = NULL;
    ASSERT_OK(lcl_fs_write_text(temp_dir(), "vocab.json", vocab_text));
    ASSERT_OK(lcl_fs_write_text(temp_dir(), "merges.txt", merges_text));
    ASSERT_OK(lcl_fs_write_text(temp_dir(), "tokenizer_config.json",
                                "{\"model_max_length\": 1000000000000000019884624838656}"));
    ASSERT_OK(lcl_tokenizer_load_folder(temp_dir(), &t));
    return t;
}

/* ids end in -1 */
static void assert_ids(const struct lcl_tokenizer *t, const char *text, const int32_t *wanted,
                       const char *decoded)
{
    struct lcl_ids ids = {0};
    char *back;
    ASSERT_OK(lcl_tokenizer_encode(t, text, true, &ids));
    int64_t n = 0;
    for (; wanted[n] >= 0; n++)
        if (n >= ids.n || ids.v[n] != wanted[n]) fail_msg("token %d of \"%s\"", (int)n, text);
    assert_int_equal(ids.n, n);
    ASSERT_OK(lcl_tokenizer_decode(t, ids.v, ids.n, true, &back));
    assert_string_equal(back, decoded);
    free(back);
    lcl_ids_free(&ids);
}

static void test_words(void **state)
{
    (void)state;
    struct lcl_tokenizer *t = load(vocab, merges);
    assert_int_equal(lcl_tokenizer_bos(t), 11);
    assert_int_equal(lcl_tokenizer_eos(t), 12);
    assert_ids(t, "cat", (int32_t[]){11, 8, 12, -1}, "cat");
    assert_ids(t, "  Cat \n TAT", (int32_t[]){11, 8, 2, 9, 12, -1}, "cat tat");
    assert_ids(t, "ca cata", (int32_t[]){11, 0, 4, 7, 2, 4, 12, -1}, "ca cata");
    assert_ids(t, "cat1!!", (int32_t[]){11, 8, 10, 13, 6, 12, -1}, "cat 1 !!");
    assert_ids(t, "x", (int32_t[]){11, 12, 12, -1}, ""); /* unknown: <|endoftext|> */
    assert_ids(t, "", (int32_t[]){11, 12, -1}, "");
    lcl_tokenizer_free(t);
}

/* tokenizer.json says the same, and is what a folder with both is read by. */
static void test_saved(void **state)
{
    (void)state;
    struct lcl_tokenizer *t = load(vocab, merges), *again = NULL;
    char dir[512];
    snprintf(dir, sizeof dir, "%s/saved", temp_dir());
    ASSERT_OK(lcl_tokenizer_save(t, dir));
    ASSERT_OK(lcl_tokenizer_load_folder(dir, &again));
    assert_ids(again, "Cat ta", (int32_t[]){11, 8, 2, 4, 12, -1}, "cat ta");
    lcl_tokenizer_free(t);
    lcl_tokenizer_free(again);
}

static void test_lower_case(void **state)
{
    (void)state;
    struct lcl_tokenizer *t;
    char *json = lcl_strdupf(
        "{\"model\": {\"type\": \"BPE\", \"vocab\": {\"\xc3\xa9\": 0, \"\xcf\x83\": 1, \"i\": 2, "
        "\"\xcc\x87\": 3, \"\xc7\x86\": 4, \"z\": 5, \"\xf0\x90\x90\xa8\": 6, \"\xea\x9d\xb5\": 7, "
        "\"\xcc\xa7\": 8}, \"merges\": []}, \"normalizer\": {\"type\": \"Sequence\", "
        "\"normalizers\": [{\"type\": \"NFC\"}, {\"type\": \"Lowercase\"}]}}");
    struct lcl_ids ids = {0};
    ASSERT_OK(lcl_fs_write_text(temp_dir(), "tokenizer.json", json));
    free(json);
    ASSERT_OK(lcl_tokenizer_load_folder(temp_dir(), &t));
    /* E acute, sigma, I with a dot, D with Z and caron in title case, z, a letter of Deseret */
    ASSERT_OK(
        lcl_tokenizer_encode(t, "\xc3\x89\xce\xa3\xc4\xb0\xc7\x85Z\xf0\x90\x90\x80", false, &ids));
    const int32_t wanted[] = {0, 1, 2, 3, 4, 5, 6};
    assert_int_equal(ids.n, 7);
    assert_memory_equal(ids.v, wanted, sizeof wanted);
    ASSERT_FAILS(lcl_tokenizer_encode(t, "ze\xcc\x81", false, &ids), LCL_UNSUPPORTED,
                 "U+0301 at byte 2: the tokenizer asks for normal form C");
    lcl_ids_free(&ids);
    lcl_tokenizer_free(t);
    ASSERT_OK(lcl_fs_remove_tree(temp_dir()));
    ASSERT_OK(lcl_fs_mkdirs(temp_dir()));
}

static void refuse(const char *vocab_text, const char *merges_text, const char *message)
{
    struct lcl_tokenizer *t;
    ASSERT_OK(lcl_fs_write_text(temp_dir(), "vocab.json", vocab_text));
    ASSERT_OK(lcl_fs_write_text(temp_dir(), "merges.txt", merges_text));
    ASSERT_FAILS(lcl_tokenizer_load_folder(temp_dir(), &t), LCL_FORMAT, message);
    assert_null(t);
}

static void test_hostile(void **state)
{
    (void)state;
    refuse("{\"a\": 0}", merges, "no vocabulary of CLIP");
    refuse("[", merges, "vocab.json: line 1");
    refuse(vocab, "c\n", "merge 0 is not a pair of tokens");
    refuse(vocab, "c x\n", "names a token that is not in the vocabulary");
    refuse("{\"<|startoftext|>\": 99999999, \"<|endoftext|>\": 1}", "", "has no id in");
    refuse("{\"<|startoftext|>\": \"0\", \"<|endoftext|>\": 1}", "", "no vocabulary of CLIP");
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_lower_case),
                                       cmocka_unit_test(test_words), cmocka_unit_test(test_saved),
                                       cmocka_unit_test(test_hostile)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
