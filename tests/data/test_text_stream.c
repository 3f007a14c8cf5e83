/* Streaming decode: pieces that add up to the whole text, each of them whole characters. */
#include "core/fs.h"
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

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(byte_level), cmocka_unit_test(byte_tokens)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
