/* Streaming decode: pieces that add up to the whole text, each of them whole characters. */
#include "core/fs.h"
#include "core/rng.h"
#include "data/tokenizer.h"
#include "tests/support/sp_file.h"
#include "tests/support/support.h"

/* Streams the ids of a text; returns how many pushes gave something. */
static int stream(const struct lcl_tokenizer *t, const struct lcl_ids *ids, const char *wanted)
{
    struct lcl_text_stream s = {.tokenizer = t, .skip_special = true};
    char all[500] = "", *piece;
    int shown = 0;
    for (int64_t i = 0; i < ids->n; i++) {
        ASSERT_OK(lcl_text_stream_push(&s, ids->v[i], &piece));
        assert_null(strstr(piece, "\xef\xbf\xbd"));
        shown += *piece != 0;
        strcat(all, piece);
        if (strncmp(all, wanted, strlen(all)) != 0) fail_msg("\"%s\" of \"%s\"", all, wanted);
        free(piece);
    }
    ASSERT_OK(lcl_text_stream_end(&s, &piece));
    strcat(all, piece);
    assert_string_equal(all, wanted);
    free(piece);
    lcl_text_stream_free(&s);
    return shown;
}

static void check_text(const struct lcl_tokenizer *t, const char *text, int least)
{
    struct lcl_ids ids = {0};
    char *wanted;
    ASSERT_OK(lcl_tokenizer_encode(t, text, false, &ids));
    ASSERT_OK(lcl_tokenizer_decode(t, ids.v, ids.n, true, &wanted));
    assert_true(stream(t, &ids, wanted) >= least);
    free(wanted);
    lcl_ids_free(&ids);
}

static void byte_level(void **state)
{
    (void)state;
    const char *const words[] = {"there is \"abc\" in it"};
    struct lcl_tokenizer *t;
    ASSERT_OK(lcl_tokenizer_train(words, 1, 280, &t));
    check_text(t, "there is \"abc\" in it", 5);
    check_text(t, "in \xc3\xa9\xe4\xb8\xad\xf0\x9f\x98\x80 it", 4);
    struct lcl_ids ids = {0}; /* half a character at the end, and one that never comes */
    ASSERT_OK(lcl_tokenizer_encode(t, "a\xc3\xa9", false, &ids));
    ids.n--;
    assert_int_equal(stream(t, &ids, "a\xef\xbf\xbd"), 1);
    lcl_ids_free(&ids);
    lcl_tokenizer_free(t);
}

static void byte_tokens(void **state)
{
    (void)state;
    struct torch_bytes b = {0};
    struct lcl_tokenizer *t;
    char path[400];
    snprintf(path, sizeof path, "%s/tokenizer.model", temp_dir());
    sp_small(&b, SP_BPE, true);
    ASSERT_OK(lcl_fs_write_atomic(path, b.v, b.n));
    free(b.v);
    ASSERT_OK(lcl_tokenizer_load(path, &t));
    check_text(t, "abc a\xc3\xa9 \xf0\x9f\x98\x80 bc", 4);
    check_text(t, "d\xf0\x9f\x98\x80", 0);
    /* A run that ends in a byte of no character is none as a whole: nothing of it was shown. */
    struct lcl_ids ids = {0};
    ASSERT_OK(lcl_tokenizer_encode(t, "a\xc3\xa9", false, &ids));
    ASSERT_OK(lcl_ids_push(&ids, lcl_tokenizer_id(t, "<0xFF>")));
    assert_int_equal(stream(t, &ids, "a\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd"), 1);
    lcl_ids_free(&ids);
    lcl_tokenizer_free(t);
}

/* However long the text, a push decodes a few tokens; random ones too give the whole's text. */
static void check_long(const struct lcl_tokenizer *t, int n, int kinds, int64_t most)
{
    struct lcl_text_stream s = {.tokenizer = t, .skip_special = true};
    struct lcl_ids ids = {0};
    struct lcl_rng rng = lcl_rng_stream(7, LCL_RNG_SAMPLING, 0, (uint64_t)kinds);
    char *wanted, *piece, *all = calloc(1, 64 * (size_t)n + 1), *to = all;
    for (int i = 0; i < n; i++) {
        ASSERT_OK(lcl_ids_push(&ids, (int32_t)(6 + lcl_rng_below(&rng, (uint32_t)kinds - 6))));
        ASSERT_OK(lcl_text_stream_push(&s, ids.v[i], &piece));
        to = stpcpy(to, piece);
        free(piece);
        if (s.ids.n > most) fail_msg("token %d: a window of %lld", i, (long long)s.ids.n);
    }
    ASSERT_OK(lcl_text_stream_end(&s, &piece));
    stpcpy(to, piece);
    ASSERT_OK(lcl_tokenizer_decode(t, ids.v, ids.n, true, &wanted));
    assert_string_equal(all, wanted);
    free(piece);
    free(wanted);
    free(all);
    lcl_ids_free(&ids);
    lcl_text_stream_free(&s);
}

static void long_texts(void **state)
{
    (void)state;
    const char *const words[] = {"there is \"abc\" in it"};
    struct lcl_tokenizer *t;
    ASSERT_OK(lcl_tokenizer_train(words, 1, 280, &t));
    check_long(t, 400, 280, 400);    /* most of the bytes are of no character */
    check_long(t, 5000, 5 + 128, 2); /* ASCII */
    lcl_tokenizer_free(t);
    struct torch_bytes b = {0};
    char path[400];
    snprintf(path, sizeof path, "%s/long.model", temp_dir());
    sp_small(&b, SP_BPE, true);
    ASSERT_OK(lcl_fs_write_atomic(path, b.v, b.n));
    free(b.v);
    ASSERT_OK(lcl_tokenizer_load(path, &t));
    check_long(t, 2000, lcl_tokenizer_vocab_size(t), 2000);
    lcl_tokenizer_free(t);
}

/* A special token that is not shown does not end a run of bytes. */
static void special_tokens_between_bytes(void **state)
{
    (void)state;
    struct torch_bytes b = {0};
    struct lcl_tokenizer *t;
    struct lcl_ids ids = {0};
    char path[400];
    snprintf(path, sizeof path, "%s/special.model", temp_dir());
    sp_small(&b, SP_BPE, true);
    ASSERT_OK(lcl_fs_write_atomic(path, b.v, b.n));
    free(b.v);
    ASSERT_OK(lcl_tokenizer_load(path, &t));
    const char *const tokens[] = {"a", "<0xC3>", "</s>", "<0xA9>", "b"};
    for (int i = 0; i < 5; i++) {
        assert_true(lcl_tokenizer_id(t, tokens[i]) >= 0);
        ASSERT_OK(lcl_ids_push(&ids, lcl_tokenizer_id(t, tokens[i])));
    }
    assert_int_equal(stream(t, &ids,
                            "a\xc3\xa9"
                            "b"),
                     2);
    lcl_ids_free(&ids);
    lcl_tokenizer_free(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(byte_level), cmocka_unit_test(byte_tokens),
                                       cmocka_unit_test(long_texts),
                                       cmocka_unit_test(special_tokens_between_bytes)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
