/* results.json: the documented shape, read back; bad numbers are named. */
#include "tests/support/support.h"

#include <jansson.h>
#include <math.h>

#include "core/fs.h"
#include "train/results.h"

static struct lcl_results results; /* too large for a stack frame */

static const char *file(void)
{
    static char path[512];
    snprintf(path, sizeof path, "%s/results.json", temp_dir());
    return path;
}

static void put(const char *row, int64_t shots, double greedy, double likelihood)
{
    struct lcl_result_cell *c;
    ASSERT_OK(lcl_results_cell(&results, row, shots, &c));
    c->greedy = greedy;
    c->likelihood = likelihood;
    c->episodes = 1000;
    c->ci95[0] = 0.5;
    c->ci95[1] = 0.75;
}

static void the_file_has_the_documented_shape(void **state)
{
    (void)state;
    memset(&results, 0, sizeof results);
    put("lcl", 16, 0.9375, 0.95);
    put("lcl", 2, 0.6171, 0.75);
    put("prototype", 2, (double)NAN, 0.625);
    ASSERT_OK(lcl_results_seconds(&results, "vision", 70.25));
    ASSERT_OK(lcl_results_seconds(&results, "vision", 71.5));
    ASSERT_OK(lcl_results_save(&results, file()));
    json_t *root = json_load_file(file(), 0, NULL);
    json_t *cell = json_object_get(json_object_get(root, "lcl"), "2");
    json_t *interval = json_object_get(cell, "ci95");
    assert_true(json_real_value(json_object_get(cell, "greedy")) == 0.6171);
    assert_true(json_real_value(json_object_get(cell, "likelihood")) == 0.75);
    assert_int_equal(json_integer_value(json_object_get(cell, "episodes")), 1000);
    assert_int_equal(json_array_size(interval), 2);
    assert_true(json_real_value(json_array_get(interval, 1)) == 0.75);
    cell = json_object_get(json_object_get(root, "prototype"), "2");
    assert_null(json_object_get(cell, "greedy")); /* not measured, so not there */
    json_t *seconds = json_object_get(json_object_get(root, "seconds"), "vision");
    assert_true(json_real_value(seconds) == 71.5);
    json_decref(root);
}

static void saved_results_are_read_back(void **state)
{
    (void)state;
    memset(&results, 0, sizeof results);
    put("lcl", 16, 0.9375, 0.95);
    put("lcl", 2, 0.5, 0.75);
    put("before", 2, (double)NAN, 0.49);
    ASSERT_OK(lcl_results_save(&results, file()));
    memset(&results, 0, sizeof results);
    ASSERT_OK(lcl_results_load(file(), &results));
    assert_int_equal(results.n_rows, 2);
    assert_int_equal(results.rows[0].cells[0].shots, 2); /* ascending */
    const struct lcl_result_cell *c = lcl_results_find(&results, "lcl", 16);
    assert_non_null(c);
    assert_true(c->greedy == 0.9375);
    assert_true(isnan(c->likelihood_ci95[0]));
    assert_null(lcl_results_find(&results, "lcl", 4));
    assert_null(lcl_results_find(&results, "nothing", 2));
    c = lcl_results_find(&results, "before", 2);
    assert_true(isnan(c->greedy));
    assert_true(c->likelihood == 0.49);
}

static void the_interval_goes_with_its_measure(void **state)
{
    (void)state;
    double interval[2];
    memset(&results, 0, sizeof results);
    put("lcl", 2, 0.625, 0.75);
    put("prototype", 2, (double)NAN, 0.625);
    const struct lcl_result_cell *c = lcl_results_find(&results, "lcl", 2);
    assert_true(lcl_result_value(c, LCL_BY_GREEDY, interval) == 0.625);
    assert_true(interval[0] == 0.5);
    assert_true(lcl_result_value(c, LCL_BY_LIKELIHOOD, interval) == 0.75);
    assert_true(isnan(interval[0])); /* ci95 is that of the greedy answers */
    c = lcl_results_find(&results, "prototype", 2);
    assert_true(isnan(lcl_result_value(c, LCL_BY_GREEDY, interval)));
    assert_true(isnan(interval[0]));
    assert_true(lcl_result_value(c, LCL_BY_LIKELIHOOD, interval) == 0.625);
    assert_true(interval[1] == 0.75);
}

static void expect_refused(const char *text, const char *message)
{
    ASSERT_OK(lcl_fs_write_atomic(file(), text, strlen(text)));
    ASSERT_FAILS(lcl_results_load(file(), &results), LCL_FORMAT, message);
}

static void bad_files_are_refused(void **state)
{
    (void)state;
    expect_refused("{\"lcl\": ", "results.json:1:");
    expect_refused("[]", "no JSON object");
    expect_refused("{\"lcl\": 3}", "\"lcl\" is no object");
    expect_refused("{\"lcl\": {\"two\": {}}}", "wanted a shot count");
    expect_refused("{\"lcl\": {\"-2\": {}}}", "wanted a shot count");
    expect_refused("{\"lcl\": {\"2\": {\"greedy\": 87}}}", "\"greedy\" is not a number in 0..1");
    expect_refused("{\"lcl\": {\"2\": {\"greedy\": \"x\"}}}", "\"greedy\"");
    expect_refused("{\"lcl\": {\"2\": {\"ci95\": [0.1]}}}", "\"ci95\" is not [low, high]");
    expect_refused("{\"seconds\": {\"a\": -1}}", "\"a\" is not a number");
}

static void too_many_rows_are_an_error(void **state)
{
    (void)state;
    struct lcl_result_cell *c;
    memset(&results, 0, sizeof results);
    for (int i = 0; i < LCL_RESULTS_MAX_ROWS; i++) {
        char name[16];
        snprintf(name, sizeof name, "row%d", i);
        ASSERT_OK(lcl_results_cell(&results, name, 2, &c));
    }
    ASSERT_FAILS(lcl_results_cell(&results, "one more", 2, &c), LCL_RANGE, "one more");
    for (int i = 0; i < LCL_RESULTS_MAX_CELLS - 1; i++)
        ASSERT_OK(lcl_results_cell(&results, "row0", 100 + i, &c));
    ASSERT_FAILS(lcl_results_cell(&results, "row0", 1, &c), LCL_RANGE, "row0");
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(the_file_has_the_documented_shape),
                                       cmocka_unit_test(saved_results_are_read_back),
                                       cmocka_unit_test(the_interval_goes_with_its_measure),
                                       cmocka_unit_test(bad_files_are_refused),
                                       cmocka_unit_test(too_many_rows_are_an_error)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
