/* Rows of data sets: each format on a row as its data set writes it, and on rows that are wrong;
 * tables, packs of rows. */
#include <sys/stat.h>

#include "core/fs.h"
#include "core/log.h"
#include "data/pack_rows.h"
#include "data/row_table.h"
#include "tests/support/support.h"
#include "tests/support/tiny.h"

/* Pictures of 200 x 100 pixels: 50 rows of padding above and below. */
static lcl_status picture(void *ctx, const char *name, int64_t *number, int *width, int *height)
{
    snprintf(ctx, 128, "%s", name);
    *number = 3;
    *width = 200;
    *height = 100;
    return LCL_OK;
}

static lcl_status convert(const char *format, const char *row, char name[128], json_t **out)
{
    struct lcl_row_context c = {.format = lcl_row_format_find(format),
                                .path = "table.jsonl",
                                .row = 5,
                                .line = 7,
                                .picture = picture,
                                .ctx = name};
    assert_non_null(c.format);
    c.image_name = c.format->image_name;
    json_t *in = json_loads(row, 0, NULL);
    assert_non_null(in);
    *out = NULL;
    lcl_status status = lcl_row_convert(&c, in, out);
    json_decref(in);
    return status;
}

/* The messages end to end, an answer that is not learned in parentheses. */
static void join(const json_t *out, char *to, size_t size)
{
    const json_t *list = json_object_get(out, "messages");
    size_t used = 0;
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *m = json_array_get(list, i);
        bool silent = json_is_false(json_object_get(m, "learn"));
        used += (size_t)snprintf(to + used, size - used, "%s%c:%s%s", i ? " | " : "",
                                 json_string_value(json_object_get(m, "role"))[0],
                                 json_string_value(json_object_get(m, "content")),
                                 silent ? " (not learned)" : "");
        assert_true(used < size);
    }
}

static const struct {
    const char *format, *row, *picture, *says;
} good[] = {
    {"llava",
     "{\"id\": \"1\", \"image\": \"coco/train2017/1.jpg\", \"conversations\": [{\"from\": "
     "\"human\", "
     "\"value\": \"<image>\\nWho?\"}, {\"from\": \"gpt\", \"value\": \"A fox.\"}, {\"from\": "
     "\"human\", \"value\": \"Where?\"}, {\"from\": \"gpt\", \"value\": \"Here.\"}]}",
     "coco/train2017/1.jpg", "u:<image>\nWho? | a:A fox. | u:Where? | a:Here."},
    {"llava",
     "{\"images\": [\"a.jpg\", \"b.jpg\"], \"conversations\": [{\"from\": \"system\", \"value\": "
     "\"s\"}, {\"from\": \"human\", \"value\": \"<image><image>?\"}, {\"from\": \"gpt\", "
     "\"value\": \"no\"}]}",
     "b.jpg", "s:s | u:<image><image>? | a:no"},
    {"messages",
     "{\"messages\": [{\"role\": \"user\", \"content\": [{\"type\": \"image_url\", \"image_url\": "
     "{\"url\": \"file://x/a.png\"}}, {\"type\": \"text\", \"text\": \" what?\"}]}, {\"role\": "
     "\"assistant\", \"content\": \"dax\", \"weight\": 0}, {\"role\": \"user\", \"content\": "
     "\"sure?\"}, {\"role\": \"assistant\", \"content\": \"yes\"}]}",
     "x/a.png", "u:<image> what? | a:dax (not learned) | u:sure? | a:yes"},
    {"messages",
     "{\"images\": [{\"path\": \"./q.jpg\"}], \"messages\": [{\"role\": \"user\", \"content\": "
     "\"<image>?\"}, {\"role\": \"assistant\", \"content\": \"q\"}]}",
     "q.jpg", "u:<image>? | a:q"},
    {"caption", "{\"img_path\": \"a/b.jpg\", \"caption\": \"A dog.\"}", "a/b.jpg", "a:A dog."},
    {"webdataset-captions", "{\"image\": \"s.tar/1.jpg\", \"caption\": \"A dog.\"}", "s.tar/1.jpg",
     "a:A dog."},
    {"vqav2",
     "{\"question\": {\"image_id\": 458752, \"question\": \"Why?\", \"question_id\": 1}, "
     "\"annotation\": {\"multiple_choice_answer\": \"net\", \"image_id\": 458752}}",
     "COCO_train2014_000000458752.jpg", "a:The answer is net."},
    {"vqa-e",
     "{\"file_path\": \"a.jpg\", \"question\": \"Why?\", \"answer\": \"rain\", \"explanation\": "
     "[\"It is wet\", 0.9]}",
     "a.jpg", "a:It is wet. So the answer is rain."},
    {"vqa-x",
     "{\"file_path\": \"a.jpg\", \"question\": \"Why?\", \"answer\": \"rain\", \"justification\": "
     "\"It is wet!\"}",
     "a.jpg", "a:It is wet! So the answer is rain."},
    {"rec", "{\"img_path\": \"a.jpg\", \"expression\": \"the fox\", \"bbox\": [0, 0, 100, 50]}",
     "a.jpg", "a:Answer: [0.000,0.250,0.500,0.500] ."},
    {"reg", "{\"img_path\": \"a.jpg\", \"expression\": \"the fox\", \"bbox\": [20, 10, 201, 50]}",
     "a.jpg", "a:the fox"},
    {"gc", "{\"img_path\": \"a.jpg\", \"expression\": \"a fox\", \"bbox\": [0, 0, 1, 1]}", "a.jpg",
     "a:a fox"},
    {"flickr",
     "{\"image_id\": \"36979\", \"sentence\": \"<ph_st>A man<ph_ed> and <ph_st>two dogs<ph_ed>.\", "
     "\"boxes\": [[0, 0, 20, 20], [0, 0, 200, 100], [40, 0, 60, 20]], \"boxes_seq\": [[1], [0, "
     "2]]}",
     "36979.jpg",
     "a:A man [0.000,0.250,1.000,0.750] and two dogs "
     "[0.000,0.250,0.100,0.350;0.200,0.250,0.300,0.350]."},
    {"point",
     "{\"file_path\": \"a.jpg\", \"question\": \"What is this?\", \"answer\": \"cup\", \"point\": "
     "{\"x\": 100, \"y\": 0}}",
     "a.jpg", "u:<image>\nWhat is this? [0.500,0.250] | a:The answer is cup ."},
    {"point",
     "{\"file_path\": \"a.jpg\", \"question\": \"How many of these?\", \"answer\": \"2\", "
     "\"bbox\": [0, 0, 100, 100]}",
     "a.jpg", "u:<image>\nHow many of these? [0.000,0.250,0.500,0.750] | a:The answer is 2 ."},
    {"point",
     "{\"file_path\": \"a.jpg\", \"question\": \"Which flies?\", \"answer\": [0, 0, 20, 20], "
     "\"candidates\": [[0, 0, 20, 20], [20, 0, 40, 20]]}",
     "a.jpg",
     "u:<image>\nWhich flies? Candidates: "
     "[0.000,0.250,0.100,0.350;0.100,0.250,0.200,0.350] | a:The answer is "
     "[0.000,0.250,0.100,0.350] ."},
#define VCR                                                                                       \
    "{\"img_fn\": \"m/a.jpg\", \"objects\": [\"person\", \"cup\"], \"boxes\": [[0, 0, 100, 100, " \
    "0.9], [100, 0, 200, 100, 0.8]], \"question\": [\"Why\", \"does\", [0], \"smile\", \"?\"], "  \
    "\"answer_choices\": [[\"no\"], [\"Tea\", \".\"]], \"answer_label\": 1, "                     \
    "\"rationale_choices\": [[\"A\", [1], \"steams\", \".\"]], \"rationale_label\": 0}"
#define VCR_Q "<image>\nWhy does person [0.000,0.250,0.500,0.750] smile?"
#define VCR_R "A cup [0.500,0.250,1.000,0.750] steams."
    {"vcr-q-a", VCR, "m/a.jpg", "u:" VCR_Q " | a:Tea."},
    {"vcr-qa-r", VCR, "m/a.jpg", "u:" VCR_Q " The answer: Tea. Why? | a:" VCR_R},
    {"vcr-q-ar", VCR, "m/a.jpg", "u:" VCR_Q " Say why. | a:Tea. " VCR_R},
    {"gqa", "{\"imageId\": \"2405722\", \"question\": \"Is it red?\", \"answer\": \"no\"}",
     "2405722.jpg", "a:The answer is no."},
    {"clevr",
     "{\"image_filename\": \"CLEVR_train_000000.png\", \"question\": \"How many?\", \"answer\": "
     "\"3\"}",
     "CLEVR_train_000000.png", "a:The answer is 3."},
    {"pope",
     "{\"question_id\": 1, \"image\": \"COCO_val2014_1.jpg\", \"text\": \"Is there a snowboard?\", "
     "\"label\": \"yes\"}",
     "COCO_val2014_1.jpg", "u:<image>\nIs there a snowboard? | a:The answer is yes ."},
    {"text", "{\"text\": \"Once.\"}", "", "a:Once."},
};

static void every_format(void **state)
{
    (void)state;
    bool seen[64] = {false};
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        char name[128] = "", says[2048];
        json_t *out;
        ASSERT_OK(convert(good[i].format, good[i].row, name, &out));
        assert_string_equal(name, good[i].picture);
        join(out, says, sizeof says);
        const char *answer = good[i].says[0] == 'a' ? strstr(says, " | a:") : NULL;
        assert_string_equal(answer ? answer + 3 : says, good[i].says);
        assert_int_equal(json_integer_value(json_object_get(out, "line")), 7);
        json_decref(out);
        for (size_t k = 0; lcl_row_format_at(k); k++)
            seen[k] |= lcl_row_format_at(k) == lcl_row_format_find(good[i].format);
    }
    for (size_t k = 0; lcl_row_format_at(k); k++)
        if (!seen[k]) fail_msg("no row of format %s", lcl_row_format_at(k)->name);
}

#define TURN(from, value) "{\"from\": \"" from "\", \"value\": \"" value "\"}"

static const struct {
    const char *format, *row, *message;
} bad[] = {
    {"llava", "{}", "table.jsonl:7: row 5: \"conversations\": wanted a list, got nothing"},
    {"llava", "{\"conversations\": [" TURN("bard", "x") "]}",
     "\"from\": wanted human, gpt or system, got \"bard\""},
    {"llava", "{\"conversations\": [3]}", "\"from\": wanted human, gpt or system, got nothing"},
    {"llava", "{\"conversations\": [" TURN("human", " ") "]}",
     "\"value\": wanted a text, got \" \""},
    {"llava", "{\"conversations\": [" TURN("human", "x") "]}",
     "row 5: wanted users and assistants"},
    {"llava", "{\"conversations\": [" TURN("gpt", "x") ", " TURN("human", "x") "]}",
     "wanted users and assistants in turn"},
    {"llava",
     "{\"image\": \"a\", \"conversations\": [" TURN("human", "x") ", " TURN("gpt", "x") "]}",
     "row 5: 1 pictures, and 0 times <image>"},
    {"llava", "{\"conversations\": [" TURN("human", "<image>") ", " TURN("gpt", "x") "]}",
     "0 pictures, and 1 times <image>"},
    {"llava", "{\"image\": \"../a\", \"conversations\": []}",
     "wanted a path below the picture folder"},
    {"llava", "{\"image\": \"a/../../b\", \"conversations\": []}", "below the picture folder"},
    {"llava", "{\"image\": \"/etc/passwd\", \"conversations\": []}", "got \"/etc/passwd\""},
    {"llava", "{\"image\": 3, \"conversations\": []}", "\"image\": wanted a path or a list"},
    {"messages", "{\"messages\": [{\"role\": \"user\", \"content\": [{\"type\": \"audio\"}]}]}",
     "\"type\": wanted text, image or image_url, got \"audio\""},
    {"messages",
     "{\"messages\": [{\"role\": \"user\", \"content\": [{\"type\": \"image_url\", \"image_url\": "
     "{\"url\": \"data:image/png;base64,AA\"}}]}]}",
     "\"url\": wanted a path of a file"},
    {"messages",
     "{\"messages\": [{\"role\": \"user\", \"content\": \"a\"}, {\"role\": \"assistant\", "
     "\"content\": \"b\", \"weight\": 0}]}",
     "one of them learned"},
    {"caption", "{\"img_path\": \"a\", \"caption\": [\"x\"]}",
     "\"caption\": wanted a text, got [\"x\"]"},
    {"caption", "{\"caption\": \"x\"}", "\"image\": wanted a path, got nothing"},
    {"caption", "{\"image\": \"a\", \"caption\": \"an <image>\"}",
     "1 pictures, and 2 times <image>"},
    {"vqav2", "{\"question\": \"a\", \"image_id\": -1}",
     "\"image_id\": wanted a picture's number, got -1"},
    {"vqav2", "{\"question\": \"a\", \"image_id\": 1}",
     "\"multiple_choice_answer\": wanted a text"},
    {"vqa-e", "{\"file_path\": \"a\", \"question\": \"q\", \"answer\": \"b\", \"explanation\": []}",
     "\"explanation\": wanted a text, or a list of texts"},
    {"rec", "{\"img_path\": \"a\", \"expression\": \"x\", \"bbox\": [0, 0, 300, 10]}",
     "\"bbox\": wanted [x1, y1, x2, y2] in pixels of a picture of 200 x 100, got [0, 0, 300, 10]"},
    {"rec", "{\"img_path\": \"a\", \"expression\": \"x\", \"bbox\": [10, 0, 5, 10]}", "wanted [x1"},
    {"rec", "{\"img_path\": \"a\", \"expression\": \"x\", \"bbox\": [10, 0, 50]}", "wanted [x1"},
    {"rec", "{\"img_path\": \"a\", \"expression\": \"x\", \"bbox\": \"0,0,1,1\"}", "wanted [x1"},
    {"flickr",
     "{\"image_id\": 1, \"sentence\": \"<ph_st>a<ph_ed> <ph_st>b\", \"boxes\": [[0, 0, 1, 1]], "
     "\"boxes_seq\": [[0], [0]]}",
     "a list of boxes for each"},
    {"flickr",
     "{\"image_id\": 1, \"sentence\": \"<ph_st>a<ph_ed>\", \"boxes\": [[0, 0, 1, 1]], "
     "\"boxes_seq\": [[1]]}",
     "\"boxes_seq\": wanted numbers of boxes that are there, got [1]"},
    {"point", "{\"file_path\": \"a\", \"question\": \"q\", \"answer\": \"b\"}", "\"bbox\": wanted"},
    {"point", "{\"file_path\": \"a\", \"question\": \"q\", \"answer\": \"b\", \"point\": [1]}",
     "\"point\": wanted [x, y] in pixels"},
    {"vcr-q-a",
     "{\"img_fn\": \"a\", \"question\": [\"a\", [9]], \"objects\": [\"x\"], \"boxes\": []}",
     "\"question\": wanted words, and lists of numbers of objects, got [9]"},
    {"vcr-q-a",
     "{\"img_fn\": \"a\", \"question\": [\"a\"], \"answer_choices\": [[\"b\"]], \"answer_label\": "
     "1}",
     "\"answer_label\": wanted the number of a choice"},
    {"gqa", "{\"imageId\": {}, \"question\": \"q\", \"answer\": \"b\"}", "\"imageId\": wanted"},
    {"pope", "{\"image\": \"a\", \"text\": \"q\", \"label\": \"maybe\"}",
     "\"label\": wanted yes or no, got \"maybe\""},
    {"text", "{\"text\": \"a <image>\"}", "0 pictures, and 1 times <image>"},
};

static void wrong_rows(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        char name[128] = "";
        json_t *out;
        ASSERT_FAILS(convert(bad[i].format, bad[i].row, name, &out), LCL_FORMAT, bad[i].message);
        assert_null(out);
    }
}

static int64_t count_rows(const char *text, lcl_status wanted, const char *message)
{
    struct lcl_row_table t;
    json_t *row;
    lcl_status status;
    int64_t n = 0;
    ASSERT_OK(lcl_row_table_open(tiny_file("table.json", text), &t));
    while ((status = lcl_row_table_next(&t, &row, NULL)) == LCL_OK && row) {
        n++;
        json_decref(row);
    }
    if (status != wanted || (wanted != LCL_OK && !strstr(lcl_error_message(), message)))
        fail_msg("%s: %d, %s", text, (int)status, lcl_error_message());
    lcl_row_table_close(&t);
    return n;
}

static void tables(void **state)
{
    (void)state;
    assert_int_equal(count_rows("", LCL_OK, ""), 0);
    assert_int_equal(count_rows("{}\n\n{\"a\": \"}{\"}\r\n{}", LCL_OK, ""), 3);
    assert_int_equal(count_rows("\xEF\xBB\xBF[]", LCL_OK, ""), 0);
    assert_int_equal(count_rows(" [\n{\"a\": [\"]\\\"}\"]}, {} ]\n", LCL_OK, ""), 2);
    assert_int_equal(count_rows("{}\n[1]\n", LCL_FORMAT, "table.json:2: row 2: is no JSON object"),
                     1);
    assert_int_equal(count_rows("{}\n{\"a\":\n1}\n", LCL_FORMAT, "table.json:2: row 2"), 1);
    assert_int_equal(count_rows("{\"a\": 1, \"a\": 2}", LCL_FORMAT, "row 1: duplicate"), 0);
    assert_int_equal(count_rows("[{}", LCL_FORMAT, "the list is not closed"), 1);
    assert_int_equal(count_rows("[{}{}]", LCL_FORMAT, "a comma is missing"), 1);
    assert_int_equal(count_rows("[{},]", LCL_FORMAT, "ends with a comma"), 1);
    assert_int_equal(count_rows("[{}] x", LCL_FORMAT, "something follows the list"), 1);
    assert_int_equal(count_rows("[{\"a\": \"", LCL_FORMAT, "the file ends within it"), 0);
    assert_int_equal(count_rows("[3]", LCL_FORMAT, "row 1: is no JSON object"), 0);
    struct lcl_row_table t;
    ASSERT_FAILS(lcl_row_table_open(temp_dir(), &t), LCL_IO, "no regular file");
    ASSERT_FAILS(lcl_row_table_open("there/is/none", &t), LCL_NOT_FOUND, "there/is/none");
}

static void templates(void **state)
{
    (void)state;
    struct lcl_row_templates t;
    const struct lcl_row_format *rec = lcl_row_format_find("rec");
    ASSERT_OK(lcl_row_templates_load(tiny_file("t.json", "[\"<image> <expr>?\"]"), rec, &t));
    json_decref(t.list);
    ASSERT_FAILS(lcl_row_templates_load(tiny_file("t.json", "[\"<expr>\"]"), rec, &t), LCL_FORMAT,
                 "text 1: wanted <image> once and <expr>");
    ASSERT_FAILS(lcl_row_templates_load(tiny_file("t.json", "[]"), rec, &t), LCL_FORMAT, "a list");
    ASSERT_FAILS(lcl_row_templates_load(tiny_file("t.json", "[\"<image><image><expr>\"]"), rec, &t),
                 LCL_FORMAT, "text 1");
    ASSERT_FAILS(lcl_row_templates_load("t", lcl_row_format_find("llava"), &t), LCL_CONFIG,
                 "bring their own");
}

/* Three rows of two pictures by three names, a picture that is none, and a row that is wrong. */
static struct lcl_pack_options options(void)
{
    static char dir[256], out[300];
    snprintf(dir, sizeof dir, "%s/rows", temp_dir());
    snprintf(out, sizeof out, "%s/rows.h5", temp_dir());
    mkdir(dir, 0777);
    tiny_write_picture(tiny_file("rows/a.png", ""), 0, 0);
    tiny_write_picture(tiny_file("rows/b.png", ""), 0, 0);
    tiny_write_picture(tiny_file("rows/c.png", ""), 1, 0);
    tiny_file("rows/d.png", "no picture");
    return (struct lcl_pack_options){
        .format = "caption", .images = dir, .out = out, .min_images = 8, .force = true};
}

#define CAPTION(file, words) "{\"image\": \"" file "\", \"caption\": \"" words "\"}\n"

static void packs(void **state)
{
    (void)state;
    struct lcl_pack_options o = options();
    struct lcl_pack pack;
    struct lcl_conversation c;
    json_t *owner;
    const char *name;
    lcl_log_set_level(LCL_LOG_QUIET);
    o.table = tiny_file("t.jsonl",
                        CAPTION("c.png", "one") CAPTION("b.png", "two") CAPTION("a.png", "three")
                            CAPTION("d.png", "four") "{\"image\": 3}\n");
    ASSERT_FAILS(lcl_pack_create(&o), LCL_FORMAT, "t.jsonl:5: row 5: \"image\": wanted a path");
    o.skip_bad = true;
    ASSERT_OK(lcl_pack_create(&o));
    ASSERT_OK(lcl_pack_open(o.out, &pack));
    assert_int_equal(pack.n_rows, 3);
    assert_int_equal(pack.n_images, 2); /* a and b have the same bytes */
    for (int64_t i = 0; i < 3; i++) {
        ASSERT_OK(lcl_pack_conversation(&pack, i, 100, &c, &owner));
        assert_int_equal(c.n_messages, 2);
        assert_string_equal(c.messages[1].text, i == 0 ? "one" : i == 1 ? "two" : "three");
        assert_int_equal(c.n_images, 1);
        ASSERT_OK(lcl_pack_image_name(&pack, c.image[0] - 100, &name));
        assert_string_equal(name, i == 0 ? "c.png" : "a.png");
        lcl_pack_conversation_free(&c, owner);
    }
    ASSERT_FAILS(lcl_pack_conversation(&pack, 3, 0, &c, &owner), LCL_RANGE, "row 3 of 3");
    ASSERT_OK(lcl_pack_verify(&pack));
    lcl_pack_close(&pack);
    o.table = tiny_file("t.jsonl", CAPTION("d.png", "four"));
    ASSERT_FAILS(lcl_pack_create(&o), LCL_FORMAT, "no row is left of 1");
    o.skip_bad = false;
    ASSERT_FAILS(lcl_pack_create(&o), LCL_FORMAT, "1 bad picture");
}

/* Plain text has no pictures at all. */
static void packs_of_text(void **state)
{
    (void)state;
    struct lcl_pack_options o = options();
    struct lcl_pack pack;
    struct lcl_conversation c;
    json_t *owner;
    o.format = "text";
    o.table = tiny_file("t.json", "[{\"text\": \"a\"}, {\"text\": \"b\"}]");
    ASSERT_OK(lcl_pack_create(&o));
    ASSERT_OK(lcl_pack_open(o.out, &pack));
    assert_int_equal(pack.n_rows, 2);
    assert_int_equal(pack.n_images, 0);
    ASSERT_OK(lcl_pack_conversation(&pack, 1, 0, &c, &owner));
    assert_string_equal(c.messages[0].text, "b");
    lcl_pack_conversation_free(&c, owner);
    ASSERT_OK(lcl_pack_verify(&pack));
    lcl_pack_close(&pack);
}

/* A byte of a row that flips is found when the row is read. */
static void damaged_rows(void **state)
{
    (void)state;
    struct lcl_pack_options o = options();
    struct lcl_pack pack;
    struct lcl_conversation c;
    json_t *owner;
    char *bytes;
    size_t size;
    o.format = "text";
    o.table = tiny_file("t.json", "[{\"text\": \"unmistakable\"}]");
    ASSERT_OK(lcl_pack_create(&o));
    ASSERT_OK(lcl_fs_read(o.out, 1 << 24, &bytes, &size));
    char *at = memmem(bytes, size, "unmistakable", 12);
    assert_non_null(at);
    *at ^= 1;
    ASSERT_OK(lcl_fs_write_atomic(o.out, bytes, size));
    free(bytes);
    ASSERT_OK(lcl_pack_open(o.out, &pack));
    ASSERT_FAILS(lcl_pack_conversation(&pack, 0, 0, &c, &owner), LCL_CORRUPT, "row 0: checksum");
    assert_int_equal(lcl_pack_verify(&pack), LCL_CORRUPT);
    lcl_pack_close(&pack);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_format), cmocka_unit_test(wrong_rows),
        cmocka_unit_test(tables),       cmocka_unit_test(templates),
        cmocka_unit_test(packs),        cmocka_unit_test(packs_of_text),
        cmocka_unit_test(damaged_rows)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
