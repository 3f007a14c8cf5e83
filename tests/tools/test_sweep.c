/* lcl sweep as a user meets it: runs of a file, skipped where they are done, figures of them. */
#include "tests/support/command.h"

#include <jansson.h>
#include <math.h>

#include "core/fs.h"
#include "tests/support/tiny.h"
#include "train/sweep.h"

/* Two runs that branch from a third, and one that is only evaluated. */
static const char *sweep_file(const char *shots)
{
    static char text[2048];
    tiny_file("base.yaml", tiny_yaml());
    snprintf(text, sizeof text,
             "output_dir: %s/sweep\n"
             "seeds: [1, 2]\n"
             "set: {max_steps: 2, eval.episodes: 4, eval.shots: %s}\n"
             "runs:\n"
             "  emerged: {config: %s/base.yaml, seeds: [1]}\n"
             "  2-way:\n"
             "    config: %s/base.yaml\n"
             "    set: {init_from: \"{emerged}\", data: {strategy: 2-way}}\n"
             "    eval: {lcl: {}, few: {eval.shots: [2]}}\n"
             "  weight:\n"
             "    config: %s/base.yaml\n"
             "    set: {init_from: \"{emerged}\", data: {strategy: 2-way-weight}}\n"
             "    eval: {lcl: {}, few: {eval.shots: [2]}}\n"
             "  before:\n"
             "    model: \"{emerged}\"\n"
             "    seeds: [1]\n"
             "    eval: {lcl: {}}\n"
             "figures:\n"
             "  - title: Strategies <here>\n"
             "    runs: [2-way, weight, before]\n"
             "    paper: {Printed: {2: 0.5, 4: 0.75}}\n"
             "  - {title: One row, axis: rows, shots: 2, points: {0: lcl, 1: few}, runs: [2-way], "
             "paper: {\"paper: 2-way\": {1: 0.25}}, chance: 0.125}\n",
             temp_dir(), shots, temp_dir(), temp_dir(), temp_dir());
    return tiny_file("sweep.yaml", text);
}

static bool near(double x, double y) { return fabs(x - y) <= 1e-8; }

static json_t *summary(void)
{
    json_t *root = json_load_file(at("sweep/sweep.json"), 0, NULL);
    assert_non_null(root);
    return root;
}

static double number(json_t *root, int figure, const char *line, const char *x, const char *key)
{
    json_t *cell = json_array_get(json_object_get(root, "figures"), (size_t)figure);
    cell = json_object_get(json_object_get(cell, "results"), line);
    cell = json_object_get(json_object_get(cell, x), key);
    assert_non_null(cell);
    return json_number_value(cell);
}

/* The mean of a row over both seeds, as their results say. */
static double mean_of(const char *run, const char *row, const char *shots)
{
    double sum = 0;
    for (int seed = 1; seed <= 2; seed++) {
        char name[128];
        snprintf(name, sizeof name, "sweep/%s/seed-%d/results.json", run, seed);
        json_t *root = json_load_file(at(name), 0, NULL);
        assert_non_null(root);
        json_t *cell = json_object_get(json_object_get(root, row), shots);
        sum += json_number_value(json_object_get(cell, "likelihood"));
        json_decref(root);
    }
    return sum / 2;
}

static void test_runs_what_is_not_done(void **state)
{
    (void)state;
    const char *file = sweep_file("[2, 4]");
    SUCCEEDS("sweep %s --dry-run", file);
    says("[1/6] emerged, seed 1");
    says("train ");
    assert_false(lcl_fs_exists(at("sweep")));
    SUCCEEDS("sweep %s", file);
    says("[6/6] weight, seed 2");
    json_t *root = summary();
    assert_true(near(number(root, 0, "2-way", "4", "likelihood"), mean_of("2-way", "lcl", "4")));
    assert_true(near(number(root, 0, "2-way", "4", "seeds"), 2));
    assert_true(near(number(root, 0, "before", "2", "seeds"), 1));
    assert_true(near(number(root, 0, "Printed", "4", "greedy"), 0.75));
    assert_true(near(number(root, 1, "2-way", "1", "likelihood"), mean_of("2-way", "few", "2")));
    json_decref(root);
    SUCCEEDS("sweep %s", file); /* all is done: nothing is trained or asked */
    assert_null(strstr(output, "evaluated in"));
    assert_null(strstr(output, "done in"));
    ASSERT_OK(lcl_fs_remove_tree(at("sweep/weight/seed-2")));
    SUCCEEDS("sweep %s --dry-run", file);
    assert_null(strstr(output, "2-way, seed 1\n  "));
    says("weight, seed 2");
    says("  train ");
    SUCCEEDS("sweep %s --summary", file);
    assert_false(lcl_fs_exists(at("sweep/weight/seed-2")));
    SUCCEEDS("sweep %s --unit 6", file);
    assert_true(lcl_fs_exists(at("sweep/weight/seed-2/results.json")));
    SUCCEEDS("report %s", at("sweep"));
    char *page;
    size_t size;
    ASSERT_OK(lcl_fs_read(at("sweep/report.html"), 1 << 24, &page, &size));
    assert_non_null(strstr(page, "Strategies &lt;here&gt;"));
    assert_non_null(strstr(page, "<th scope=\"row\">Printed</th><td>printed</td>"));
    free(page);
}

static bool file_has(const char *name, const char *text)
{
    char *data;
    size_t size;
    ASSERT_OK(lcl_fs_read(at(name), 1 << 24, &data, &size));
    bool has = strstr(data, text) != NULL;
    free(data);
    return has;
}

/* Each figure as a picture of its own, and their tables in Markdown. */
static void test_figures_as_files(void **state)
{
    (void)state;
    SUCCEEDS("report %s --figures %s/drawn", at("sweep"), temp_dir());
    says("drawn/figures.md");
    assert_true(file_has("drawn/strategies-here.svg", "chance: 50 %"));
    assert_true(file_has("drawn/one-row.svg", "chance: 12.5 %"));
    assert_true(file_has("drawn/one-row.svg", "<g class=\"s0 pr\">")); /* the run's colour */
    assert_true(file_has("drawn/figures.md", "## Strategies \\<here\\>"));
    assert_true(file_has("drawn/figures.md", "](one-row.svg)"));
    assert_true(file_has("drawn/figures.md", "| Printed | 0.500 | 0.750 |"));
    FAILS("has no sweep.json with figures", "report %s --figures %s/drawn",
          at("sweep/2-way/seed-1"), temp_dir());
}

static void test_other_settings_are_noticed(void **state)
{
    (void)state;
    FAILS("was made with other settings", "sweep %s", sweep_file("[2]"));
    says("lcl sweep --force");
    SUCCEEDS("sweep %s --force", sweep_file("[2]"));
    json_t *root = summary();
    json_t *figure = json_array_get(json_object_get(root, "figures"), 0);
    json_t *line = json_object_get(json_object_get(figure, "results"), "2-way");
    assert_int_equal(json_object_size(line), 1);
    json_decref(root);
}

static void test_slurm(void **state)
{
    (void)state;
    PRINTS("sweep %s --slurm", sweep_file("[2]"));
    says("--array=1 --wrap");
    says("--dependency=\"afterok:$level0\" --job-name=sweep-1 --array=2,3,4,5,6 --wrap");
    char command[600];
    tiny_file("submit.sh", output);
    snprintf(command, sizeof command, "sh -n %s/submit.sh", temp_dir());
    assert_int_equal(system(command), 0);
}

/* A file of this text is refused with this message. */
static void refuses(const char *message, const char *text)
{
    const char *file = tiny_file("wrong.yaml", text);
    FAILS(message, "sweep %s", file);
}

static void test_refusals(void **state)
{
    (void)state;
    sweep_file("[2]");
    refuses("wrong.yaml: nothing is in it", "");
    refuses("not YAML", "runs: [");
    refuses("a sweep has output_dir and runs", "seeds: [1]\n");
    refuses("wrong.yaml:2: a sweep has no key \"sedes\"", "output_dir: o\nsedes: [1]\n");
    says("seeds");
    refuses("seed 3 stands twice", "seeds: [3, 3]\n");
    refuses("a seed \"x\" is not a whole number", "seeds: [x]\n");
    refuses("wrong.yaml:2: runs is given twice (first in line 1)", "runs: {}\nruns: {}\n");
    refuses("needs one of config and model", "output_dir: o\nruns: {a: {}}\n");
    refuses("the name of a run \"../a\"", "output_dir: o\nruns: {../a: {config: b}}\n");
    refuses("{seed} means something else", "output_dir: o\nruns: {seed: {config: b}}\n");
    refuses("no run is called b",
            "output_dir: o\nruns: {a: {config: b}}\nfigures: [{title: t, runs: [b]}]\n");
    refuses("has an evaluation \"lcl\"",
            "output_dir: o\nruns: {a: {config: b}}\nfigures: [{title: t, runs: [a]}]\n");
    refuses("a chance \"2\" is not a number in 0..1",
            "output_dir: o\nruns: {a: {config: b}}\nfigures: [{title: t, chance: 2}]\n");
    refuses("a figure is not whole",
            "output_dir: o\nruns: {a: {config: b}}\nfigures: [{shots: 2}]");
    refuses("nowhere.yaml", "output_dir: o\nruns: {a: {config: nowhere.yaml}}\n");
    char text[512];
    snprintf(text, sizeof text,
             "output_dir: o\nruns:\n  a: {config: %s/base.yaml, set: {max_stepz: 1}}\n",
             temp_dir());
    refuses("wrong.yaml:3: run a: ", text);
    says("max_steps");
    snprintf(text, sizeof text,
             "output_dir: o\nruns:\n  a: {config: %s/base.yaml, set: {init_from: \"{b}\"}}\n",
             temp_dir());
    refuses("{b} is nothing that run a can begin with", text);
    assert_false(lcl_fs_exists("o"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_runs_what_is_not_done),
        cmocka_unit_test(test_figures_as_files),
        cmocka_unit_test(test_other_settings_are_noticed),
        cmocka_unit_test(test_slurm),
        cmocka_unit_test(test_refusals),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
