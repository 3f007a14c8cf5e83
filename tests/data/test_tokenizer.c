/* Tokenizers: the reference cases, round trips, layouts of tokenizer.json, training, hostile files.
 */
#include <jansson.h>

#include "core/fs.h"
#include "core/rng.h"
#include "data/tokenizer.h"
#include "tests/support/support.h"

static struct lcl_tokenizer *load(const char *path)
{
    struct lcl_tokenizer *t = NULL;
    ASSERT_OK(lcl_tokenizer_load(path, &t));
    return t;
}

static void assert_ids(const json_t *wanted, const struct lcl_ids *got, const char *text)
{
    bool same = json_array_size(wanted) == (size_t)got->n;
    for (int64_t i = 0; same && i < got->n; i++)
        same = json_integer_value(json_array_get(wanted, (size_t)i)) == got->v[i];
    if (same) return;
    for (int64_t i = 0; i < got->n; i++) print_message("%d ", (int)got->v[i]);
    fail_msg("ids of \"%s\" differ", text);
}

static void assert_text(const json_t *wanted, const struct lcl_tokenizer *t,
                        const struct lcl_ids *ids, bool skip)
{
    char *text;
    size_t size;
    ASSERT_OK(lcl_tokenizer_decode_bytes(t, ids->v, ids->n, skip, &text, &size));
    if (size != json_string_length(wanted) || memcmp(text, json_string_value(wanted), size) != 0)
        fail_msg("decoded \"%s\", wanted \"%s\"", text, json_string_value(wanted));
    free(text);
}

/* Every string of the reference file gives its ids and texts. */
static void check_cases(const struct lcl_tokenizer *t, const char *path)
{
    json_error_t error;
    json_t *root = json_load_file(path, JSON_ALLOW_NUL, &error), *c;
    assert_non_null(root);
    size_t i;
    assert_true(json_array_size(json_object_get(root, "cases")) > 50);
    json_array_foreach(json_object_get(root, "cases"), i, c)
    {
        const json_t *text = json_object_get(c, "text");
        const char *s = json_string_value(text);
        struct lcl_ids ids = {0};
        ASSERT_OK(lcl_tokenizer_encode_bytes(t, s, json_string_length(text), false, &ids));
        assert_ids(json_object_get(c, "ids_no_special"), &ids, s);
        assert_text(json_object_get(c, "decoded"), t, &ids, false);
        assert_text(json_object_get(c, "decoded_skip_special"), t, &ids, true);
        ids.n = 0;
        ASSERT_OK(lcl_tokenizer_encode_bytes(t, s, json_string_length(text), true, &ids));
        assert_ids(json_object_get(c, "ids"), &ids, s);
        lcl_ids_free(&ids);
    }
    json_decref(root);
}

static void test_reference_cases(void **state)
{
    (void)state;
    struct lcl_tokenizer *t = load(shared_path("golden/llava-tiny/tokenizer.json"));
    assert_int_equal(lcl_tokenizer_bos(t), 1);
    assert_int_equal(lcl_tokenizer_eos(t), 2);
    assert_int_equal(lcl_tokenizer_image(t), 508);
    assert_int_equal(lcl_tokenizer_vocab_size(t), 510);
    check_cases(t, shared_path("golden/llava-tiny/tokenizer_cases.json"));
    lcl_tokenizer_free(t);
}

static void test_saved_copy_is_the_same(void **state)
{
    (void)state;
    struct lcl_tokenizer *t = load(shared_path("golden/llava-tiny/tokenizer.json"));
    char path[512];
    snprintf(path, sizeof path, "%s/saved", temp_dir());
    ASSERT_OK(lcl_tokenizer_save(t, path));
    lcl_tokenizer_free(t);
    snprintf(path, sizeof path, "%s/saved/tokenizer.json", temp_dir());
    t = load(path);
    check_cases(t, shared_path("golden/llava-tiny/tokenizer_cases.json"));
    lcl_tokenizer_free(t);
}

static const char *const training[] = {
    "USER: what is in the image? <image> ASSISTANT: there is \"{label}\" in the image.</s>",
    "Look at the examples, and find the link between picture and name.",
};

static struct lcl_tokenizer *train(void)
{
    struct lcl_tokenizer *t = NULL;
    ASSERT_OK(lcl_tokenizer_train(training, 2, 512, &t));
    return t;
}

static int64_t count_ids(const struct lcl_tokenizer *t, const char *text)
{
    struct lcl_ids ids = {0};
    ASSERT_OK(lcl_tokenizer_encode(t, text, false, &ids));
    int64_t n = ids.n;
    lcl_ids_free(&ids);
    return n;
}

/* Template words are single tokens; made-up labels are one token a letter. */
static void test_trained_words(void **state)
{
    (void)state;
    struct lcl_tokenizer *t = train();
    assert_true(lcl_tokenizer_vocab_size(t) <= 512);
    assert_int_equal(lcl_tokenizer_id(t, "<unk>"), 0);
    assert_int_equal(lcl_tokenizer_bos(t), 1);
    assert_int_equal(lcl_tokenizer_eos(t), 2);
    assert_int_equal(lcl_tokenizer_image(t), 3);
    assert_int_equal(lcl_tokenizer_id(t, "<pad>"), 4);
    assert_int_equal(count_ids(t, "USER: what is in the image?"), 8);
    assert_int_equal(count_ids(t, "<image> ASSISTANT: there is \""), 6);
    assert_int_equal(count_ids(t, "\" in the image.</s>"), 6);
    struct lcl_rng rng = lcl_rng_stream(1, LCL_RNG_TEST, 0, 7);
    for (int i = 0; i < 200; i++) {
        char label[16] = {0};
        int n = 1 + (int)lcl_rng_below(&rng, 10);
        for (int k = 0; k < n; k++) label[k] = (char)('a' + lcl_rng_below(&rng, 26));
        assert_int_equal(count_ids(t, label), n);
    }
    lcl_tokenizer_free(t);
}

static size_t random_text(struct lcl_rng *rng, char *out, size_t cap)
{
    size_t n = 0;
    for (uint32_t left = lcl_rng_below(rng, 40); left > 0 && n + 8 < cap; left--) {
        uint32_t kind = lcl_rng_below(rng, 6);
        uint32_t c = kind < 2   ? 32 + lcl_rng_below(rng, 95)
                     : kind < 3 ? lcl_rng_below(rng, 32) + 1
                     : kind < 4 ? 0x80 + lcl_rng_below(rng, 0x780)
                     : kind < 5 ? 0x800 + lcl_rng_below(rng, 0xd000)
                                : 0x10000 + lcl_rng_below(rng, 0x100000);
        if (kind == 0) c = ' ';
        if (c < 0x80)
            out[n++] = (char)c;
        else if (c < 0x800)
            n += (size_t)sprintf(out + n, "%c%c", 0xc0 | c >> 6, 0x80 | (c & 63));
        else if (c < 0x10000)
            n += (size_t)sprintf(out + n, "%c%c%c", 0xe0 | c >> 12, 0x80 | (c >> 6 & 63),
                                 0x80 | (c & 63));
        else
            n += (size_t)sprintf(out + n, "%c%c%c%c", 0xf0 | c >> 18, 0x80 | (c >> 12 & 63),
                                 0x80 | (c >> 6 & 63), 0x80 | (c & 63));
    }
    out[n] = 0;
    return n;
}

static void check_round_trips(const struct lcl_tokenizer *t)
{
    struct lcl_rng rng = lcl_rng_stream(1, LCL_RNG_TEST, 0, 8);
    for (int i = 0; i < 2000; i++) {
        char text[512], *back;
        size_t n = random_text(&rng, text, sizeof text), size;
        struct lcl_ids ids = {0};
        ASSERT_OK(lcl_tokenizer_encode_bytes(t, text, n, true, &ids));
        ASSERT_OK(lcl_tokenizer_decode_bytes(t, ids.v, ids.n, true, &back, &size));
        assert_int_equal(size, n);
        assert_memory_equal(back, text, n);
        free(back);
        lcl_ids_free(&ids);
    }
}

static void test_any_text_round_trips(void **state)
{
    (void)state;
    struct lcl_tokenizer *t = train();
    check_round_trips(t);
    lcl_tokenizer_free(t);
}

static void test_save_and_load_of_a_trained_one(void **state)
{
    (void)state;
    char dir[512];
    struct lcl_tokenizer *t = train(), *u;
    snprintf(dir, sizeof dir, "%s/trained", temp_dir());
    ASSERT_OK(lcl_tokenizer_save(t, dir));
    snprintf(dir, sizeof dir, "%s/trained/tokenizer.json", temp_dir());
    u = load(dir);
    struct lcl_ids a = {0}, b = {0};
    const char *text = "USER: caf\xc3\xa9 <image> there is \"zzyq\" in the image.</s> 12 don't";
    ASSERT_OK(lcl_tokenizer_encode(t, text, true, &a));
    ASSERT_OK(lcl_tokenizer_encode(u, text, true, &b));
    assert_int_equal(a.n, b.n);
    assert_memory_equal(a.v, b.v, (size_t)a.n * sizeof *a.v);
    assert_int_equal(a.v[0], 1);
    assert_int_equal(lcl_tokenizer_image(u), 3);
    lcl_ids_free(&a);
    lcl_ids_free(&b);
    lcl_tokenizer_free(t);
    lcl_tokenizer_free(u);
}

/* <pad> is there; the others get the ids behind, are one token inside text, and are saved. */
static void test_tokens_are_added(void **state)
{
    (void)state;
    static const struct lcl_special_token tokens[] = {
        {"<a>", "a_token"}, {"<pad>", "pad_token"}, {"<b>", "image_token"}};
    char dir[512];
    struct lcl_tokenizer *t = train(), *more, *saved;
    const int32_t n = lcl_tokenizer_vocab_size(t);
    struct lcl_ids ids = {0};
    ASSERT_OK(lcl_tokenizer_with_tokens(t, tokens, 3, &more));
    assert_int_equal(lcl_tokenizer_vocab_size(more), n + 2);
    assert_int_equal(lcl_tokenizer_id(more, "<a>"), n);
    assert_int_equal(lcl_tokenizer_id(more, "<b>"), n + 1);
    assert_int_equal(lcl_tokenizer_id(more, "<pad>"), lcl_tokenizer_id(t, "<pad>"));
    snprintf(dir, sizeof dir, "%s/more", temp_dir());
    ASSERT_OK(lcl_tokenizer_save(more, dir));
    ASSERT_OK(lcl_tokenizer_load_folder(dir, &saved));
    ASSERT_OK(lcl_tokenizer_encode(saved, "no<b>no", false, &ids));
    int found = 0;
    for (int64_t i = 0; i < ids.n; i++) found += ids.v[i] == n + 1;
    assert_int_equal(found, 1);
    /* A saved one names its tokens; a key that says nothing yet is set, another stays. */
    lcl_tokenizer_free(more);
    ASSERT_OK(lcl_tokenizer_with_tokens(saved, tokens, 3, &more));
    assert_int_equal(lcl_tokenizer_vocab_size(more), n + 2);
    assert_int_equal(lcl_tokenizer_image(more), lcl_tokenizer_id(more, "<image>"));
    lcl_ids_free(&ids);
    lcl_tokenizer_free(t);
    lcl_tokenizer_free(more);
    lcl_tokenizer_free(saved);
}

/* Loads a tokenizer.json given as text. */
static lcl_status load_text(const char *json, struct lcl_tokenizer **out)
{
    char path[512];
    snprintf(path, sizeof path, "%s/t/tokenizer.json", temp_dir());
    char dir[512];
    snprintf(dir, sizeof dir, "%s/t", temp_dir());
    ASSERT_OK(lcl_fs_mkdirs(dir));
    ASSERT_OK(lcl_fs_write_atomic(path, json, strlen(json)));
    return lcl_tokenizer_load(path, out);
}

/* The layouts that newer LLaMA and Llama-3 files have. */
static void test_metaspace_and_split_layouts(void **state)
{
    (void)state;
    struct lcl_tokenizer *t;
    ASSERT_OK(
        load_text("{\"added_tokens\":[{\"id\":9,\"content\":\"<x>\",\"special\":true}],"
                  "\"pre_tokenizer\":{\"type\":\"Metaspace\",\"replacement\":\"\xe2\x96\x81\","
                  "\"prepend_scheme\":\"first\",\"split\":false},"
                  "\"decoder\":{\"type\":\"Metaspace\",\"replacement\":\"\xe2\x96\x81\"},"
                  "\"model\":{\"type\":\"BPE\",\"vocab\":{\"\xe2\x96\x81\":0,\"a\":1,\"b\":2,"
                  "\"\xe2\x96\x81"
                  "a\":3,\"ab\":4},\"merges\":[\"\xe2\x96\x81 a\",\"a b\"]}}",
                  &t));
    struct lcl_ids ids = {0};
    ASSERT_OK(lcl_tokenizer_encode(t, "ab ab<x>ab", false, &ids));
    const int32_t wanted[] = {3, 2, 3, 2, 9, 4}; /* no mark after the special token */
    assert_int_equal(ids.n, 6);
    assert_memory_equal(ids.v, wanted, sizeof wanted);
    char *text;
    ASSERT_OK(lcl_tokenizer_decode(t, ids.v, ids.n, true, &text));
    assert_string_equal(text, "ab abab");
    free(text);
    ASSERT_FAILS(lcl_tokenizer_encode(t, "q", false, &ids), LCL_FORMAT, "no token for U+0071");
    lcl_ids_free(&ids);
    lcl_tokenizer_free(t);

    ASSERT_OK(load_text(
        "{\"pre_tokenizer\":{\"type\":\"Sequence\",\"pretokenizers\":["
        "{\"type\":\"Split\",\"pattern\":{\"Regex\":\"\\\\p{N}{1,3}|\\\\p{L}+\"},"
        "\"behavior\":\"Isolated\",\"invert\":false},"
        "{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"use_regex\":false}]},"
        "\"decoder\":{\"type\":\"ByteLevel\"},\"model\":{\"type\":\"BPE\",\"ignore_merges\":true,"
        "\"vocab\":{\"1\":0,\"2\":1,\"a\":2,\"b\":3,\"121\":4,\"ab\":5,\"\xc4\xa0\":6},"
        "\"merges\":[]}}",
        &t));
    ASSERT_OK(lcl_tokenizer_encode(t, "1212 ab aba", false, &ids));
    const int32_t split[] = {4, 1, 6, 5, 6, 2, 3, 2};
    assert_int_equal(ids.n, 8);
    assert_memory_equal(ids.v, split, sizeof split);
    lcl_ids_free(&ids);
    lcl_tokenizer_free(t);
}

/* A label is only text, even when it spells a special token. */
static void test_plain_text_holds_no_special_tokens(void **state)
{
    (void)state;
    struct lcl_tokenizer *t = train();
    struct lcl_ids ids = {0};
    ASSERT_OK(lcl_tokenizer_encode_at(t, "<image>", 7, LCL_TEXT_PLAIN, &ids));
    for (int64_t i = 0; i < ids.n; i++) assert_int_not_equal(ids.v[i], lcl_tokenizer_image(t));
    ids.n = 0;
    ASSERT_OK(lcl_tokenizer_encode_at(t, "<image>", 7, LCL_TEXT_NEW, &ids));
    assert_int_equal(ids.n, 1);
    ASSERT_FAILS(lcl_tokenizer_encode(t, "ab\xff", false, &ids), LCL_FORMAT, "byte 2");
    assert_int_equal(ids.n, 1);
    lcl_ids_free(&ids);
    lcl_tokenizer_free(t);
}

#define MODEL(rest) "{\"model\":{\"type\":\"BPE\"," rest "}}"
#define VOCAB "\"vocab\":{\"a\":0,\"b\":1,\"ab\":2},"

static void test_hostile_files(void **state)
{
    (void)state;
    static const struct {
        const char *json, *says;
    } cases[] = {
        {"", ":1"},
        {"{\"model\":{", ":1"},
        {"[]", "not a JSON object"},
        {"{}", "no \"model\""},
        {"{\"model\":3}", "no \"model\""},
        {"{\"model\":{\"type\":\"WordPiece\"}}", "WordPiece"},
        {MODEL("\"vocab\":[],\"merges\":[]"), "model.vocab"},
        {MODEL("\"vocab\":{},\"merges\":[]"), "model.vocab"},
        {MODEL("\"vocab\":{\"a\":\"x\"},\"merges\":[]"), "\"a\""},
        {MODEL("\"vocab\":{\"a\":-1},\"merges\":[]"), "\"a\""},
        {MODEL("\"vocab\":{\"a\":2000000000},\"merges\":[]"), "\"a\""},
        {MODEL("\"vocab\":{\"a\":9223372036854775807},\"merges\":[]"), "\"a\""},
        {MODEL("\"vocab\":{\"a\":1,\"b\":1},\"merges\":[]"), "two tokens"},
        {MODEL(VOCAB "\"merges\":3"), "model.merges"},
        {MODEL(VOCAB "\"merges\":[\"a\"]"), "merge 0"},
        {MODEL(VOCAB "\"merges\":[[\"a\"]]"), "merge 0"},
        {MODEL(VOCAB "\"merges\":[[\"a\",1]]"), "merge 0"},
        {MODEL(VOCAB "\"merges\":[\"a b\",\"b a\"]"), "merge 1"},
        {MODEL(VOCAB "\"merges\":[],\"unk_token\":\"zz\""), "zz"},
        {MODEL(VOCAB "\"merges\":[],\"byte_fallback\":\"yes\""), "byte_fallback"},
        {"{\"added_tokens\":{},\"model\":{" VOCAB "\"merges\":[]}}", "added_tokens"},
        {"{\"added_tokens\":[{\"id\":7}],\"model\":{" VOCAB "\"merges\":[]}}", "no content"},
        {"{\"added_tokens\":[{\"id\":0,\"content\":\"q\"}],\"model\":{" VOCAB "\"merges\":[]}}",
         "two tokens"},
        {"{\"normalizer\":{\"type\":\"NFKC\"},\"model\":{" VOCAB "\"merges\":[]}}", "NFKC"},
        {"{\"pre_tokenizer\":{\"type\":\"Split\",\"behavior\":\"Isolated\",\"pattern\":{\"Regex\":"
         "\"(\"}},\"model\":{" VOCAB "\"merges\":[]}}",
         "regular expression"},
        {"{\"decoder\":{\"type\":\"Strip\",\"content\":\" "
         "\",\"start\":99999999999},\"model\":{" VOCAB "\"merges\":[]}}",
         "Strip"},
        {"{\"post_processor\":{\"type\":\"TemplateProcessing\",\"single\":[{\"SpecialToken\":{"
         "\"id\":\"x\"}}],\"special_tokens\":{\"x\":{\"ids\":[77]}}},\"model\":{" VOCAB
         "\"merges\":[]}}",
         "77"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct lcl_tokenizer *t = NULL;
        lcl_status s = load_text(cases[i].json, &t);
        if (s == LCL_OK || !strstr(lcl_error_message(), cases[i].says) ||
            !strstr(lcl_error_message(), "tokenizer.json"))
            fail_msg("case %zu: status %d, \"%s\"; wanted \"%s\"", i, (int)s, lcl_error_message(),
                     cases[i].says);
        assert_null(t);
    }
}

static void test_deep_nesting_is_refused(void **state)
{
    (void)state;
    enum { DEPTH = 100000 };
    char *json = malloc(DEPTH + 1);
    assert_non_null(json);
    memset(json, '[', DEPTH);
    json[DEPTH] = 0;
    struct lcl_tokenizer *t = NULL;
    ASSERT_FAILS(load_text(json, &t), LCL_FORMAT, "depth");
    free(json);

    char nested[4096] = "{\"normalizer\":";
    for (int i = 0; i < 20; i++) strcat(nested, "{\"type\":\"Sequence\",\"normalizers\":[");
    strcat(nested, "{\"type\":\"Prepend\",\"prepend\":\"x\"}");
    for (int i = 0; i < 20; i++) strcat(nested, "]}");
    strcat(nested, ",\"model\":{" VOCAB "\"merges\":[]}}");
    ASSERT_FAILS(load_text(nested, &t), LCL_FORMAT, "nested");
}

/* Every truncation of a good file is an error, never a crash. */
/* Steps that each make eight texts of one, and a piece of which no text can have many. */
static void test_growth_is_bounded(void **state)
{
    (void)state;
    enum { STEPS = 60, PIECE = 600 };
    struct lcl_tokenizer *t;
    struct lcl_ids ids = {0};
    char json[8192], piece[PIECE + 1];
    size_t n = (size_t)snprintf(json, sizeof json,
                                "{\"normalizer\":{\"type\":\"Sequence\",\"normalizers\":[");
    for (int i = 0; i < STEPS; i++)
        n += (size_t)snprintf(json + n, sizeof json - n,
                              "%s{\"type\":\"Replace\",\"pattern\":{\"String\":\"a\"},"
                              "\"content\":\"aaaaaaaa\"}",
                              i ? "," : "");
    snprintf(json + n, sizeof json - n,
             "]},\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":[]}}");
    ASSERT_OK(load_text(json, &t));
    ASSERT_FAILS(lcl_tokenizer_encode(t, "a", false, &ids), LCL_RANGE, "larger than");
    lcl_tokenizer_free(t);
    memset(piece, 'a', PIECE);
    piece[PIECE] = 0;
    snprintf(json, sizeof json,
             "{\"model\":{\"type\":\"Unigram\",\"unk_id\":0,\"vocab\":[[\"?\",0],[\"%s\",-1]]}}",
             piece);
    ASSERT_FAILS(load_text(json, &t), LCL_UNSUPPORTED, "a piece of 600 bytes, at most 512");
    lcl_ids_free(&ids);
}

static void test_truncated_files(void **state)
{
    (void)state;
    struct lcl_tokenizer *t = train();
    char path[512], *json;
    size_t size;
    snprintf(path, sizeof path, "%s/whole", temp_dir());
    ASSERT_OK(lcl_tokenizer_save(t, path));
    lcl_tokenizer_free(t);
    snprintf(path, sizeof path, "%s/whole/tokenizer.json", temp_dir());
    ASSERT_OK(lcl_fs_read(path, 1 << 20, &json, &size));
    for (int i = 0; i < 40; i++) {
        size_t keep = size * (size_t)i / 40;
        char kept = json[keep];
        json[keep] = 0;
        t = NULL;
        ASSERT_FAILS(load_text(json, &t), LCL_FORMAT, "tokenizer.json:");
        json[keep] = kept;
    }
    free(json);
}

/* Unicode's words and white space around added tokens. */
static void test_added_tokens_in_any_script(void **state)
{
    (void)state;
    static const char json[] =
        "{\"added_tokens\": [{\"id\": 3, \"content\": \"<i>\", \"single_word\": true, "
        "\"normalized\": false}, {\"id\": 4, \"content\": \"W\", \"lstrip\": true, \"rstrip\": "
        "true, "
        "\"normalized\": false}], \"model\": {\"type\": \"BPE\", \"unk_token\": \"u\", "
        "\"fuse_unk\": "
        "true, \"vocab\": {\"u\": 0, \"a\": 1, \"b\": 2}, \"merges\": []}}";
    static const struct {
        const char *text;
        int n, ids[4];
    } cases[] = {{"a\xc3\xa9<i>b", 3, {1, 0, 2}},                        /* after a letter */
                 {"\xe2\x80\x9c<i>\xe2\x80\x9d", 3, {0, 3, 0}},          /* in quotes */
                 {"<i>\xe0\xa4\xbe", 1, {0}},                            /* before a mark */
                 {"a\xe2\x80\xa8\xc2\xa0W\xe3\x80\x80 b", 3, {1, 4, 2}}, /* spaces */
                 {"W\xe2\x80\x8b", 2, {4, 0}}};                          /* none: width zero */
    char path[512];
    snprintf(path, sizeof path, "%s/added.json", temp_dir());
    ASSERT_OK(lcl_fs_write_atomic(path, json, strlen(json)));
    struct lcl_tokenizer *t = load(path);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct lcl_ids ids = {0};
        ASSERT_OK(lcl_tokenizer_encode(t, cases[i].text, false, &ids));
        assert_int_equal(ids.n, cases[i].n);
        for (int k = 0; k < cases[i].n; k++) assert_int_equal(ids.v[k], cases[i].ids[k]);
        lcl_ids_free(&ids);
    }
    lcl_tokenizer_free(t);
}

static void test_missing_file(void **state)
{
    (void)state;
    struct lcl_tokenizer *t = NULL;
    assert_int_not_equal(lcl_tokenizer_load("build/tmp/absent/tokenizer.json", &t), LCL_OK);
    assert_non_null(strstr(lcl_error_message(), "build/tmp/absent/tokenizer.json"));
    ASSERT_FAILS(lcl_tokenizer_train(training, 2, 100, &t), LCL_RANGE, "261");
}

/* A long text without spaces takes no quadratic time: one word of 200,000 bytes. */
static void test_long_word(void **state)
{
    (void)state;
    struct lcl_tokenizer *t = train();
    enum { N = 200000 };
    char *text = malloc(N + 1), *back;
    assert_non_null(text);
    for (int i = 0; i < N; i++) text[i] = "ASUIT"[i % 5];
    text[N] = 0;
    struct lcl_ids ids = {0};
    ASSERT_OK(lcl_tokenizer_encode(t, text, false, &ids));
    ASSERT_OK(lcl_tokenizer_decode(t, ids.v, ids.n, false, &back));
    assert_string_equal(back, text);
    free(back);
    free(text);
    lcl_ids_free(&ids);
    lcl_tokenizer_free(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_reference_cases),
        cmocka_unit_test(test_saved_copy_is_the_same),
        cmocka_unit_test(test_trained_words),
        cmocka_unit_test(test_any_text_round_trips),
        cmocka_unit_test(test_save_and_load_of_a_trained_one),
        cmocka_unit_test(test_tokens_are_added),
        cmocka_unit_test(test_metaspace_and_split_layouts),
        cmocka_unit_test(test_plain_text_holds_no_special_tokens),
        cmocka_unit_test(test_hostile_files),
        cmocka_unit_test(test_deep_nesting_is_refused),
        cmocka_unit_test(test_growth_is_bounded),
        cmocka_unit_test(test_truncated_files),
        cmocka_unit_test(test_missing_file),
        cmocka_unit_test(test_added_tokens_in_any_script),
        cmocka_unit_test(test_long_word),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
