/* Tokenizers from and to the tables of GGUF files. */
#include "tests/support/support.h"

#include <math.h>

#include "data/tokenizer_gguf.h"
#include "tests/support/tiny.h"

static void same_ids(const struct lcl_tokenizer *a, const struct lcl_tokenizer *b, const char *text)
{
    struct lcl_ids x = {0}, y = {0};
    ASSERT_OK(lcl_tokenizer_encode(a, text, true, &x));
    ASSERT_OK(lcl_tokenizer_encode(b, text, true, &y));
    bool same = x.n == y.n && memcmp(x.v, y.v, (size_t)x.n * sizeof *x.v) == 0;
    if (!same) fail_msg("\"%s\" is split otherwise", text);
    lcl_ids_free(&x);
    lcl_ids_free(&y);
}

static const char *const texts[] = {"there is \"abc\" in it, 1234 times",
                                    "  spaces  and\nlines \t\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80",
                                    "<s>special</s><image> tokens<image>", "", "the-theThe THE"};

static void byte_level(void **state)
{
    (void)state;
    struct lcl_tokenizer *t, *back;
    struct lcl_tokenizer_tables tables;
    ASSERT_OK(lcl_tokenizer_train(texts, 5, 300, &t));
    int32_t n = lcl_tokenizer_vocab_size(t);
    ASSERT_FAILS(lcl_tokenizer_to_tables(t, (size_t)n - 1, &tables), LCL_RANGE, "the embedding");
    ASSERT_OK(lcl_tokenizer_to_tables(t, (size_t)n + 3, &tables));
    assert_string_equal(tables.model, "gpt2");
    assert_string_equal(tables.pre, "gpt-2");
    assert_true(tables.add_bos == 1 && tables.add_eos == 0 && tables.bos == 1 && tables.eos == 2);
    assert_true(tables.type[3] == 3 && tables.type[100] == 1 && tables.type[n + 2] == 5);
    ASSERT_OK(lcl_tokenizer_from_tables(&tables, "x.gguf", &back));
    for (int i = 0; i < 5; i++) same_ids(t, back, texts[i]);
    assert_int_equal(lcl_tokenizer_image(back), lcl_tokenizer_image(t));
    lcl_tokenizer_free(back);

    free(tables.pre);
    tables.pre = strdup("mystery");
    ASSERT_FAILS(lcl_tokenizer_from_tables(&tables, "x.gguf", &back), LCL_UNSUPPORTED,
                 "x.gguf: its tokenizer: tokenizer.ggml.pre is \"mystery\"");
    lcl_tokenizer_tables_free(&tables);
    lcl_tokenizer_free(t);
}

/* Every pattern's name survives, and splits digits as its model does. */
static void patterns(void **state)
{
    (void)state;
    static const struct {
        const char *name, *written;
        int digits; /* tokens of "12345" where "12", "34" and "345" can be merged */
    } cases[] = {{"gpt-2", "gpt-2", 2},        {"smollm", "smollm", 5},
                 {"starcoder", "smollm", 5},   {"llama-bpe", "llama-bpe", 4},
                 {"llama-v3", "llama-bpe", 4}, {"qwen2", "qwen2", 5}};
    char *tokens[] = {"1", "2", "3", "4", "5", "12", "34", "345", "<|x|>"};
    char *merge[] = {"1 2", "3 4", "34 5"};
    int32_t types[] = {1, 1, 1, 1, 1, 1, 1, 1, 3};
    for (int i = 0; i < 6; i++) {
        struct lcl_tokenizer_tables t = {.model = "gpt2",
                                         .pre = (char *)(uintptr_t)cases[i].name,
                                         .token = tokens,
                                         .type = types,
                                         .n_tokens = 9,
                                         .merge = merge,
                                         .n_merges = 3,
                                         .bos = 8,
                                         .eos = 8,
                                         .unk = -1,
                                         .pad = -1,
                                         .add_bos = 0,
                                         .add_eos = -1,
                                         .add_space_prefix = 0},
                                    back;
        struct lcl_tokenizer *tok;
        struct lcl_ids ids = {0};
        ASSERT_OK(lcl_tokenizer_from_tables(&t, "x.gguf", &tok));
        ASSERT_OK(lcl_tokenizer_encode(tok, "12345", true, &ids));
        assert_int_equal(ids.n, cases[i].digits);
        lcl_ids_free(&ids);
        ASSERT_OK(lcl_tokenizer_to_tables(tok, 9, &back));
        assert_string_equal(back.pre, cases[i].written);
        for (int k = 0; k < 9; k++) {
            assert_string_equal(back.token[k], tokens[k]);
            assert_int_equal(back.type[k], types[k]);
        }
        for (int k = 0; k < 3; k++) assert_string_equal(back.merge[k], merge[k]);
        lcl_tokenizer_tables_free(&back);
        lcl_tokenizer_free(tok);
    }
}

#define MARK "\xe2\x96\x81"

/* Scores decide: "ab" is better than "bc", so "abc" is ab + c; unknown bytes fall back. */
static void sentencepiece(void **state)
{
    (void)state;
    enum { N = 3 + 256 + 6 };
    static char bytes[256][8];
    char *tokens[N] = {"<unk>", "<s>", "</s>"};
    int32_t types[N] = {2, 3, 3};
    float scores[N] = {0};
    for (int b = 0; b < 256; b++) {
        snprintf(bytes[b], sizeof bytes[b], "<0x%02X>", (unsigned)b);
        tokens[3 + b] = bytes[b];
        types[3 + b] = 6;
    }
    static const char *const pieces[] = {"ab", "bc", MARK, "a", "b", "c"};
    for (int i = 0; i < 6; i++) {
        tokens[259 + i] = (char *)(uintptr_t)pieces[i];
        types[259 + i] = 1;
        scores[259 + i] = (float)-i;
    }
    struct lcl_tokenizer_tables t = {.model = "llama",
                                     .token = tokens,
                                     .type = types,
                                     .score = scores,
                                     .n_tokens = N,
                                     .bos = 1,
                                     .eos = 2,
                                     .unk = 0,
                                     .pad = -1,
                                     .add_bos = -1,
                                     .add_eos = -1,
                                     .add_space_prefix = -1},
                                back;
    static const int32_t wanted[] = {1, 261, 259, 264, 261, 3 + 'd', 260};
    struct lcl_tokenizer *tok;
    struct lcl_ids ids = {0};
    ASSERT_OK(lcl_tokenizer_from_tables(&t, "x.gguf", &tok));
    ASSERT_OK(lcl_tokenizer_encode(tok, "abc dbc", true, &ids));
    assert_int_equal(ids.n, 7);
    assert_memory_equal(ids.v, wanted, sizeof wanted);
    lcl_ids_free(&ids);
    ASSERT_OK(lcl_tokenizer_to_tables(tok, N, &back));
    assert_string_equal(back.model, "llama");
    assert_true(back.add_bos == 1 && back.add_space_prefix == 1 && !back.pre && !back.merge);
    assert_memory_equal(back.type, types, sizeof types);
    assert_memory_equal(back.score, scores, sizeof scores);
    lcl_tokenizer_tables_free(&back);
    lcl_tokenizer_free(tok);

    scores[260] = 1; /* now "bc" is better */
    t.add_bos = 0;
    t.add_space_prefix = 0;
    static const int32_t other[] = {262, 260};
    ASSERT_OK(lcl_tokenizer_from_tables(&t, "x.gguf", &tok));
    ASSERT_OK(lcl_tokenizer_encode(tok, "abc", true, &ids));
    assert_int_equal(ids.n, 2);
    assert_memory_equal(ids.v, other, sizeof other);
    lcl_ids_free(&ids);
    lcl_tokenizer_free(tok);
}

/* The golden tokenizer comes back from its scores with the same ids for everything it was asked. */
static void golden(void **state)
{
    (void)state;
    struct lcl_tokenizer *t, *back;
    struct lcl_tokenizer_tables tables;
    ASSERT_OK(lcl_tokenizer_load(shared_path("golden/llava-tiny/tokenizer.json"), &t));
    ASSERT_OK(lcl_tokenizer_to_tables(t, 512, &tables));
    assert_int_equal(tables.type[511], 5);
    assert_non_null(tables.chat_template);
    ASSERT_OK(lcl_tokenizer_from_tables(&tables, "x.gguf", &back));
    for (int i = 0; i < 5; i++) same_ids(t, back, texts[i]);
    lcl_tokenizer_tables_free(&tables);
    lcl_tokenizer_free(back);
    lcl_tokenizer_free(t);
}

static void tables_that_do_not_fit(void **state)
{
    (void)state;
    char *tokens[] = {"a", "b", "ab"}, *twice[] = {"a", "a", "ab"}, *odd[] = {"a\xff", "b", "ab"};
    char *merge[] = {"a b"}, *one[] = {"ab"}, *far[] = {"a c"};
    int32_t types[] = {1, 1, 9};
    float scores[] = {0, 0, 1};
    const struct lcl_tokenizer_tables good = {.model = "gpt2",
                                              .pre = "gpt-2",
                                              .token = tokens,
                                              .n_tokens = 3,
                                              .merge = merge,
                                              .n_merges = 1,
                                              .bos = -1,
                                              .eos = -1,
                                              .unk = -1,
                                              .pad = -1};
    struct lcl_tokenizer *t;
    ASSERT_OK(lcl_tokenizer_from_tables(&good, "x.gguf", &t));
    lcl_tokenizer_free(t);
#define REFUSED(change, code, text)                                              \
    do {                                                                         \
        struct lcl_tokenizer_tables bad = good;                                  \
        change;                                                                  \
        ASSERT_FAILS(lcl_tokenizer_from_tables(&bad, "x.gguf", &t), code, text); \
        assert_null(t);                                                          \
    } while (0)
    REFUSED(bad.model = NULL, LCL_FORMAT, "no tokenizer.ggml.model");
    REFUSED(bad.model = "bert", LCL_UNSUPPORTED, "tokenizer.ggml.model is \"bert\"");
    REFUSED(bad.n_tokens = 0, LCL_FORMAT, "no tokenizer.ggml.tokens");
    REFUSED(bad.merge = NULL, LCL_FORMAT, "no tokenizer.ggml.merges");
    REFUSED(bad.model = "llama", LCL_FORMAT, "no tokenizer.ggml.scores");
    REFUSED(bad.token = twice, LCL_FORMAT, "token 1, \"a\", is there twice");
    REFUSED(bad.token = odd, LCL_FORMAT, "token 0 is no UTF-8");
    REFUSED(bad.merge = one, LCL_FORMAT, "merge 0");
    REFUSED(bad.merge = far, LCL_FORMAT, "not in the vocabulary");
    REFUSED(bad.type = types, LCL_UNSUPPORTED, "token 2 has the unknown type 9");
    REFUSED(bad.eos = 3, LCL_FORMAT, "special token id 3");
    scores[1] = INFINITY;
    REFUSED((bad.model = "llama", bad.score = scores), LCL_FORMAT, "score of token 1");
#undef REFUSED
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(byte_level),
        cmocka_unit_test(patterns),
        cmocka_unit_test(sentencepiece),
        cmocka_unit_test(golden),
        cmocka_unit_test(tables_that_do_not_fit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
