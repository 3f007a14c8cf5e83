/* When an answer counts as right, by both rules. */
#include "tests/support/support.h"
#include "train/match.h"

static void the_official_rule(void **state)
{
    (void)state;
    static const struct {
        const char *prediction, *target, *other;
        bool right;
    } cases[] = {
        {"there is \"dax\" in the image.", "dax", "wug", true},
        {"there is \"wug\" in the image.", "dax", "wug", false},
        {"dax or wug", "dax", "wug", false},
        {"a kit fox", "fox", "wolf", true},             /* part of a word passes */
        {"there is \"Dax\"", "Dax", "wug", false},      /* the prediction keeps its case */
        {"a St. Bernard", "St. Bernard", "wug", false}, /* and its full stops */
        {"a st bernard", "St. Bernard", "wug", true},
        {"a dax", "USER: x ASSISTANT: there is \"Dax\" in the image.</s> wug", "wug", true},
        {"dadaxx", "dax", "dax", false}, /* every occurrence goes, but once */
        {"dax dax", "dax", "dax", true},
        {"dax wug", "dax", "WUG", false},
        {"dax WUG", "dax", "WUG", true},
        {"dax it's", "dax", "it's", false}, /* the other label keeps its quotes */
        {"dax its", "dax", "it's", true},
        {"dax", "dax", "", false}, /* nothing is in every text */
        {"wug", "\"'.", "dax", true},
        {"\xc5\xa1tika", "\xc2\xa0\xc5\xa0tika\x1f", "dax", true},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        bool right;
        ASSERT_OK(lcl_official_match(cases[i].prediction, cases[i].target, cases[i].other, &right));
        if (right != cases[i].right) fail_msg("case %zu: %d", i, right);
    }
}

static void the_strict_rule(void **state)
{
    (void)state;
    assert_true(lcl_strict_match("there is \"dax\" in the image.", "dax"));
    assert_false(lcl_strict_match("there is \"kit fox\" in the image.", "fox"));
    assert_false(lcl_strict_match("dax", "dax"));
    assert_false(lcl_strict_match("\"Dax\"", "dax"));
    assert_false(lcl_strict_match("\"wug\", not \"dax\"", "dax"));
}

static void both_rules_at_once(void **state)
{
    (void)state;
    static const char label[3][LCL_LABEL_BYTES] = {"fox", "kit fox", "wolf"};
    struct lcl_judgement j;
    ASSERT_OK(lcl_judge("a \"kit fox\"", label, 3, 1, &j));
    assert_true(j.strict && j.official && !j.unparsed);
    ASSERT_OK(lcl_judge("a \"kit fox\"", label, 3, 0, &j)); /* part of a word passes */
    assert_true(!j.strict && j.official);
    ASSERT_OK(lcl_judge("fox or wolf", label, 3, 0, &j)); /* against each other label */
    assert_true(!j.strict && !j.official && j.unparsed);
    ASSERT_OK(lcl_judge("fox or wolf", label, 2, 0, &j));
    assert_true(j.official);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(the_official_rule),
                                       cmocka_unit_test(the_strict_rule),
                                       cmocka_unit_test(both_rules_at_once)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
