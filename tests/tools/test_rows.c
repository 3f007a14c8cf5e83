/* Packs of rows as a user makes and looks at them. */
#include <jansson.h>
#include <sys/stat.h>

#include "tests/support/command.h"
#include "tests/support/tiny.h"

static void packed_and_shown(void **state)
{
    (void)state;
    mkdir(at("pictures"), 0777);
    tiny_write_picture(tiny_file("pictures/COCO_train2014_000000000007.jpg", ""), 0, 0);
    tiny_file("t.json", "[{\"image_id\": 7, \"question\": \"Why?\", \"multiple_choice_answer\": "
                        "\"rain\"}]");
    tiny_file("ask.json", "[\"Look: <image> <question>\"]");
    SUCCEEDS("pack --format vqav2 --in %s --images %s --out %s --templates %s", at("t.json"),
             at("pictures"), at("vqa.h5"), at("ask.json"));
    PRINTS("inspect %s --rows 3", at("vqa.h5"));
    says("row 0, line 1 of its table; pictures: COCO_train2014_000000000007.jpg\n");
    says("USER: Look: <image> Why? ASSISTANT:[[ The answer is rain.</s>]]");
    PRINTS("inspect %s --rows 3 --json --set chat.template=chatml", at("vqa.h5"));
    json_t *row = json_loads(output, 0, NULL);
    assert_non_null(row);
    assert_string_equal(json_string_value(json_object_get(row, "text")),
                        "<|im_start|>user\nLook: <image> Why?<|im_end|>\n<|im_start|>assistant\n"
                        "[[The answer is rain.<|im_end|>]]");
    json_decref(row);
    tiny_file("mix.yaml", "data.strategy: mix\n");
    PRINTS("inspect %s --rows 3 --set data.sources=%s", at("mix.yaml"), at("vqa.h5"));
    says("sample 0: an episode, 2-way\n");
    says("sample 1: ");
    says("sample 2: an episode, 2-way\n");
    PRINTS("inspect %s", at("vqa.h5"));
    says("rows               1\n");
}

/* Lines that a script makes rows of. */
static void pictures_of_a_pack(void **state)
{
    (void)state;
    int lines = 0;
    PRINTS("inspect %s --pictures", tiny_pack());
    says("train/a-thing/0.png\ttrain\ttrain/a-thing\ta thing\n");
    for (const char *p = output; (p = strchr(p, '\n')); p++) lines++;
    assert_int_equal(lines, (TINY_TRAIN_CLASSES + TINY_TEST_CLASSES) * TINY_PICTURES);
    PRINTS("inspect %s --pictures --json", tiny_pack());
    says("{\"image\":\"train/a-thing/0.png\",\"split\":\"train\",\"class\":\"train/a-thing\","
         "\"name\":\"a thing\"}\n");
    says("\"split\":\"test\"");
    FAILS("--pictures lists what a pack holds", "inspect %s --pictures --rows 1", tiny_pack());
    FAILS("nowhere.h5", "inspect %s --pictures", at("nowhere.h5"));
}

static void what_is_refused(void **state)
{
    (void)state;
    mkdir(at("none"), 0777);
    FAILS("--format rec reads a table", "pack --format rec --images %s --out %s", at("none"),
          at("x.h5"));
    FAILS("are for formats of rows", "pack --in t --images %s --out %s", at("none"), at("x.h5"));
    tiny_file("bad.jsonl", "{\"text\": \"a\"}\n{\"text\": 3}\n");
    FAILS("bad.jsonl:2: row 2: \"text\": wanted a text, got 3",
          "pack --format text --in %s --images %s --out %s", at("bad.jsonl"), at("none"),
          at("x.h5"));
    SUCCEEDS("pack --format text --in %s --images %s --out %s --skip-bad", at("bad.jsonl"),
             at("none"), at("x.h5"));
    says("packed 1 rows, 1 left out");
    FAILS("holds no rows", "inspect %s --rows 1", tiny_pack());
    tiny_file("empty.yaml", "seed: 1\n");
    FAILS("data.sources is not set", "inspect %s --rows 1", at("empty.yaml"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(packed_and_shown),
                                       cmocka_unit_test(pictures_of_a_pack),
                                       cmocka_unit_test(what_is_refused)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
