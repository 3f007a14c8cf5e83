/* Tables of a million rows through every reader that goes row by row, each within an address space
 * that they would not fit in. */
#include <sys/stat.h>

#include "tests/support/command.h"
#include "tests/support/tiny.h"

enum { ROWS = 1000000 };

/* KiB of address space: the program and its libraries take 150 MiB of it, rows of these tables as
 * jansson's values 1.5 to 3 KiB each. */
#define WITHIN "ulimit -v 400000;"

/* The millionth row alone is wrong, where `last` is given. */
static const char *table(const char *name, const char *row, const char *last)
{
    const char *path = at(name);
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    for (int i = 0; i < ROWS; i++) {
        for (const char *p = i == ROWS - 1 && last ? last : row; *p; p++)
            if (*p == '#')
                fprintf(f, "%d", i);
            else
                fputc(*p, f);
        fputc('\n', f);
    }
    assert_int_equal(fclose(f), 0);
    return path;
}

static void succeeds_within(const char *arguments)
{
    if (lcl_after(WITHIN, "%s", arguments) != 0) fail_msg("it said:\n%s", output);
}

static void fails_within(const char *arguments, const char *text)
{
    if (lcl_after(WITHIN, "%s", arguments) != 1) fail_msg("it said:\n%s", output);
    says(text);
}

static const char *arguments(const char *format, const char *a, const char *b)
{
    static char text[2048];
    snprintf(text, sizeof text, format, a, b);
    return text;
}

static void neighbors(void **state)
{
    (void)state;
    static const char row[] =
        "{\"class_id\": \"#\", \"class_name\": \"kind #\", \"samples\": [\"t/#_1.jpg\", "
        "\"t/#_2.jpg\", \"t/#_3.jpg\"], \"neighbors\": [[\"#\", \"kind #\", \"t/#_1.jpg\"]]}";
    mkdir(at("few"), 0777);
    for (int c = 0; c < 2; c++) {
        char name[64];
        snprintf(name, sizeof name, "few/%d", 7 * c);
        mkdir(at(name), 0777);
        snprintf(name, sizeof name, "few/%d/a.png", 7 * c);
        tiny_write_picture(tiny_file(name, ""), c, 0);
    }
    SUCCEEDS("pack --images %s --out %s --min-images 1 --test-fraction 0", at("few"), at("few.h5"));
    table("n.jsonl", row, NULL);
    const char *import = "neighbors --pack %s --import %s --force";
    succeeds_within(arguments(import, at("few.h5"), at("n.jsonl")));
    says("2 of 1000000 rows are classes of the pack");
    table("n.jsonl", row, "{\"class_id\": \"5\", \"class_name\": \"x\", \"samples\": [\"y\"]}");
    fails_within(arguments(import, at("few.h5"), at("n.jsonl")), "n.jsonl:1000000: ");
}

static void rows(void **state)
{
    (void)state;
    const char *pack = "pack --format text --in %s --images . --out %s --force";
    table("t.jsonl", "{\"text\": \"row number #\"}", NULL);
    succeeds_within(arguments(pack, at("t.jsonl"), at("t.h5")));
    says("packed 1000000 rows, 0 left out");
    succeeds_within(arguments("inspect %s --rows 2%s", at("t.h5"), ""));
    says("row number 1");
    table("t.jsonl", "{\"text\": \"row number #\"}", "{\"text\": 3}");
    fails_within(arguments(pack, at("t.jsonl"), at("t.h5")),
                 "t.jsonl:1000000: row 1000000: \"text\": wanted a text, got 3");
}

static void scores(void **state)
{
    (void)state;
    static const char row[] =
        "{\"prediction\": \"there is \\\"k#\\\"\", \"target\": \"k#\", \"other\": \"fox\"}";
    const char *score = "score --metric official --in %s >%s";
    table("s.jsonl", row, NULL);
    succeeds_within(arguments(score, at("s.jsonl"), at("s.out")));
    says("1000000 of 1000000 correct");
    table("s.jsonl", row, "{\"prediction\": 1}");
    fails_within(arguments(score, at("s.jsonl"), at("s.out")), "s.jsonl, line 1000000");
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(neighbors), cmocka_unit_test(rows),
                                       cmocka_unit_test(scores)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
