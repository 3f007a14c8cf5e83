/* Verbs that ranks run together under mpirun: the same files and numbers as one rank's. */
#include "tests/support/command.h"

#include <math.h>
#include <stdlib.h>
#include <unistd.h>

#include "core/fs.h"
#include "core/h5.h"
#include "core/log.h"
#include "tests/support/tiny.h"
#include "train/metrics.h"

static const char *config(void)
{
    static char yaml[3072];
    snprintf(yaml, sizeof yaml,
             "%sstages:\n  - {name: first, max_steps: 3, logging_steps: 3, eval_steps: 2}\n",
             tiny_yaml());
    return tiny_file("ranks.yaml", yaml);
}

/* Trains, evaluates and keeps features anew; the run's folder. */
static const char *train(const char *before, const char *name, const char *sets)
{
    static char dir[8][512];
    static int next;
    char *out = dir[next++ % 8];
    snprintf(out, sizeof dir[0], "%s", at(name));
    ASSERT_OK(lcl_fs_remove_tree(out));
    if (lcl_after(before, "train %s --set output_dir=%s %s", config(), out, sets) != 0)
        fail_msg("it said:\n%s", output);
    return out;
}

/* The lines of evaluations of a run, which must be there. */
static int evaluations(const char *dir, struct lcl_metrics_table *t)
{
    char path[600];
    int n = 0;
    snprintf(path, sizeof path, "%s/metrics.jsonl", dir);
    ASSERT_OK(lcl_metrics_load(path, t));
    for (size_t i = 0; i < t->n; i++)
        if (!strcmp(t->rows[i].kind, "eval")) t->rows[n++] = t->rows[i];
    return n;
}

static void forget_features(void)
{
    char path[400];
    snprintf(path, sizeof path, "%s.features", tiny_pack());
    ASSERT_OK(lcl_fs_remove_tree(path));
}

/* The same datasets with the same bytes; HDF5 keeps times of its own in a file. */
static void assert_same_h5(const char *a, const char *b)
{
    struct lcl_h5 f[2];
    char **names[2];
    size_t n[2];
    for (int i = 0; i < 2; i++) {
        ASSERT_OK(lcl_h5_open(i ? b : a, false, &f[i]));
        ASSERT_OK(lcl_h5_list_datasets(&f[i], &names[i], &n[i]));
    }
    assert_int_equal(n[0], n[1]);
    assert_true(n[0] > 0);
    for (size_t k = 0; k < n[0]; k++) {
        struct lcl_h5_set set;
        void *data[2];
        uint64_t count[2];
        assert_string_equal(names[0][k], names[1][k]);
        ASSERT_OK(lcl_h5_set_open(&f[0], names[0][k], &set));
        for (int i = 0; i < 2; i++)
            ASSERT_OK(
                lcl_h5_read_alloc(&f[i], names[0][k], set.type, 1 << 28, &data[i], &count[i]));
        assert_int_equal(count[0], count[1]);
        if (memcmp(data[0], data[1], count[0] * lcl_h5_type_bytes(set.type)) != 0)
            fail_msg("%s differs in %s and %s", names[0][k], a, b);
        free(data[0]);
        free(data[1]);
        lcl_h5_set_close(&set);
    }
    for (int i = 0; i < 2; i++) {
        lcl_fs_list_free(names[i], n[i]);
        lcl_h5_discard(&f[i]);
    }
}

/* The one file of each folder. */
static void assert_same_cache(const char *a, const char *b)
{
    char **files, path[2][600];
    size_t n;
    ASSERT_OK(lcl_fs_list(a, &files, &n));
    assert_int_equal(n, 1);
    snprintf(path[0], sizeof path[0], "%s/%s", a, files[0]);
    snprintf(path[1], sizeof path[1], "%s/%s", b, files[0]);
    lcl_fs_list_free(files, n);
    assert_same_h5(path[0], path[1]);
}

/* Three ranks against one: losses and evaluations bit for bit, with the same cached features. */
static void assert_same_run(const char *name, const char *sets)
{
    struct lcl_metrics_table one, three;
    char all[600], features[400], run[64];
    const char *ranks = under_ranks(3);
    snprintf(
        all, sizeof all,
        "--set deterministic=true --set lanes=4 --set eval_episodes=40 --set eval.shots=0,2 %s",
        sets);
    snprintf(features, sizeof features, "%s.features", tiny_pack());
    forget_features();
    snprintf(run, sizeof run, "%s-1", name);
    const char *a = train("", run, all), *kept = at(strcat(run, "-features"));
    bool cached = rename(features, kept) == 0;
    snprintf(run, sizeof run, "%s-3", name);
    const char *b = train(ranks, run, all);
    int n = evaluations(a, &one);
    assert_int_equal(n, 4); /* after steps 2 and 3, of two shot counts */
    assert_int_equal(evaluations(b, &three), n);
    for (int i = 0; i < n; i++) {
        const struct lcl_metrics_row *x = &one.rows[i], *y = &three.rows[i];
        assert_int_equal(x->step, y->step);
        assert_true(x->shots == y->shots && x->episodes == y->episodes);
        if (x->greedy != y->greedy || x->likelihood != y->likelihood)
            fail_msg("%g and %g with one rank, %g and %g with three", x->greedy, x->likelihood,
                     y->greedy, y->likelihood);
    }
    lcl_metrics_table_free(&one);
    lcl_metrics_table_free(&three);
    if (cached) assert_same_cache(kept, features);
}

static void training_with_cached_features(void **state)
{
    (void)state;
    assert_same_run("cached", "--set data.augment_views=3");
}

static void training_reads_pictures(void **state)
{
    (void)state;
    SUCCEEDS("neighbors --pack %s", tiny_pack());
    assert_same_run("pictures", "--set freeze_vision_tower=false --set data.hard_fraction=0.5 "
                                "--set data.refresh_neighbors=1");
}

static void training_on_conversations(void **state)
{
    (void)state;
    assert_same_run("any-shot", "--set data.strategy=any-shot");
}

/* Lines of ranks say what they waited for; one rank's say nothing of it. */
static void training_shows_the_slowest_rank(void **state)
{
    (void)state;
    struct lcl_metrics_table t;
    char path[600];
    const char *ranks = under_ranks(2);
    for (int n = 1; n <= 2; n++) {
        const char *dir = train(n == 1 ? "" : ranks, n == 1 ? "pace-1" : "pace-2", "");
        snprintf(path, sizeof path, "%s/metrics.jsonl", dir);
        ASSERT_OK(lcl_metrics_load(path, &t));
        const struct lcl_metrics_row *row = &t.rows[0];
        for (; strcmp(row->kind, "train") != 0;) row++;
        if (n == 1) {
            assert_true(isnan(row->compute_s) && isnan(row->slowest_rank));
        } else {
            assert_true(row->compute_s > 0 && row->slowest_s >= row->compute_s);
            assert_true(row->wait_s > 0 && row->wait_s + row->compute_s < 2 * row->seconds);
            assert_true(row->slowest_rank == 0 || row->slowest_rank == 1);
        }
        lcl_metrics_table_free(&t);
    }
}

/* The same losses whoever has the lanes; other ones than with samples in the order of numbers. */
static void training_balanced_by_tokens(void **state)
{
    (void)state;
    struct lcl_metrics_table t[3];
    char path[600];
    const char *ranks = under_ranks(3), *name[] = {"even-1", "even-3", "plain"};
    for (int i = 0; i < 3; i++) {
        char sets[300];
        snprintf(sets, sizeof sets,
                 "--set deterministic=true --set lanes=4 --set data.strategy=any-shot --set "
                 "eval_steps=0 --set logging_steps=1 --set balance=%s",
                 i < 2 ? "tokens" : "none");
        snprintf(path, sizeof path, "%s/metrics.jsonl", train(i == 1 ? ranks : "", name[i], sets));
        ASSERT_OK(lcl_metrics_load(path, &t[i]));
        assert_int_equal(t[i].n, 3 + 1);
    }
    for (int k = 0; k < 3; k++) assert_true(t[0].rows[k].loss == t[1].rows[k].loss);
    assert_true(t[0].rows[0].loss != t[2].rows[0].loss); /* sums in another order, of the same */
    assert_true(fabs(t[0].rows[0].loss - t[2].rows[0].loss) < 1e-5 * t[2].rows[0].loss);
    for (int i = 0; i < 3; i++) lcl_metrics_table_free(&t[i]);
}

/* A run to ask, made once; ranks are there. */
static const char *asked_run(const char **ranks)
{
    static char dir[512];
    *ranks = under_ranks(3);
    if (!dir[0]) snprintf(dir, sizeof dir, "%s", train("", "asked", "--set eval_steps=0"));
    return dir;
}

/* Row for row; seconds differ. */
static void assert_same_results(const char *a, const char *b)
{
    static const char cut[] = "sed '/seconds/,$d' ";
    char command[1400];
    snprintf(command, sizeof command, "[ \"$(%s %s)\" = \"$(%s %s)\" ] && grep -q greedy %s", cut,
             a, cut, b, b);
    assert_int_equal(system(command), 0);
}

static void held_out_classes(void **state)
{
    (void)state;
    const char *ranks, *run = asked_run(&ranks);
    const char *ask = "eval %s --rows lcl,made_up,shuffled,prototype --results %s --predictions %s "
                      "--views 20 --set eval.episodes=50 --set eval.shots=2,4";
    SUCCEEDS(ask, run, at("held-1.json"), at("held-1.jsonl"));
    forget_features();
    if (lcl_after(ranks, ask, run, at("held-3.json"), at("held-3.jsonl")) != 0)
        fail_msg("it said:\n%s", output);
    assert_true(same_files(at("held-1.jsonl"), at("held-3.jsonl")));
    assert_same_results(at("held-1.json"), at("held-3.json"));
}

static void class_folders(void **state)
{
    (void)state;
    const char *ranks, *run = asked_run(&ranks);
    const char *ask = "eval folders --support %s/train --model %s --ways 2 --episodes 30 --shots "
                      "0,2 --predictions %s --results %s --show %s";
    SUCCEEDS(ask, tiny_folder(), run, at("folders-1.jsonl"), at("folders-1.json"),
             at("shown-1.jsonl"));
    char *said = strdup(strstr(output, "folders:"));
    if (lcl_after(ranks, ask, tiny_folder(), run, at("folders-3.jsonl"), at("folders-3.json"),
                  at("shown-3.jsonl")) != 0)
        fail_msg("it said:\n%s", output);
    says(said);
    assert_null(strstr(strstr(output, "folders:") + 1, "folders:")); /* once */
    assert_true(same_files(at("folders-1.jsonl"), at("folders-3.jsonl")));
    assert_true(same_files(at("shown-1.jsonl"), at("shown-3.jsonl")));
    assert_same_results(at("folders-1.json"), at("folders-3.json"));
    free(said);
}

/* Ranks go on with what one was stopped at, and keep a part as one does. */
static void stopped_ones_and_parts(void **state)
{
    (void)state;
    const char *ranks, *run = asked_run(&ranks);
    const char *ask = "eval folders --support %s/train --model %s --ways 2 --episodes 30 --shots "
                      "0,2 --predictions %s %s";
    SUCCEEDS(ask, tiny_folder(), run, at("whole.jsonl"), "");
    assert_int_not_equal(lcl_after("ulimit -f 16;", ask, tiny_folder(), run, at("cut.jsonl"), ""),
                         0);
    if (lcl_after(ranks, ask, tiny_folder(), run, at("cut.jsonl"), "") != 0)
        fail_msg("it said:\n%s", output);
    says("goes on behind");
    assert_true(same_files(at("whole.jsonl"), at("cut.jsonl")));
    if (lcl_after(ranks, ask, tiny_folder(), run, at("parts.jsonl"), "--part 0/2") != 0)
        fail_msg("it said:\n%s", output);
    SUCCEEDS(ask, tiny_folder(), run, at("parts.jsonl"), "--part 1/2");
    if (lcl_after(ranks, ask, tiny_folder(), run, at("parts.jsonl"), "--join 2") != 0)
        fail_msg("it said:\n%s", output);
    assert_true(same_files(at("whole.jsonl"), at("parts.jsonl")));
}

static void questions_of_rows(void **state)
{
    (void)state;
    const char *ranks, *run = asked_run(&ranks);
    char rows[4000] = "";
    for (int i = 0; i < 40; i++)
        sprintf(rows + strlen(rows),
                "{\"image\": \"train/a-thing/%d.png\", \"question\": \"is it %d?\", \"answer\": "
                "\"yes\"}\n",
                i % TINY_PICTURES, i);
    const char *table = tiny_file("rows.jsonl", rows);
    const char *ask = "eval pope --rows %s --images %s --model %s --candidates yes,no "
                      "--predictions %s";
    SUCCEEDS(ask, table, tiny_folder(), run, at("rows-1.jsonl"));
    if (lcl_after(ranks, ask, table, tiny_folder(), run, at("rows-3.jsonl")) != 0)
        fail_msg("it said:\n%s", output);
    assert_true(same_files(at("rows-1.jsonl"), at("rows-3.jsonl")));
}

static void neighbor_tables(void **state)
{
    (void)state;
    const char *ranks, *run = asked_run(&ranks);
    const char *with[] = {"", "--model", "--cut intervals --num-neighbors 3 --model"};
    for (int i = 0; i < 3; i++) {
        const char *make = "neighbors --pack %s --out %s --force %s %s", *model = i ? run : "";
        forget_features();
        SUCCEEDS(make, tiny_pack(), at("one.h5"), with[i], model);
        forget_features();
        if (lcl_after(ranks, make, tiny_pack(), at("three.h5"), with[i], model) != 0)
            fail_msg("it said:\n%s", output);
        assert_same_h5(at("one.h5"), at("three.h5"));
    }
    FAILS_AFTER(ranks, "three.h5 exists", "neighbors --pack %s --out %s", tiny_pack(),
                at("three.h5"));
}

/* The first rank works alone, the others end. */
static void packs_and_exports(void **state)
{
    (void)state;
    const char *ranks, *run = asked_run(&ranks);
    SUCCEEDS("export %s --out %s", run, at("hf-1"));
    SUCCEEDS("pack --images %s --min-images 2 --out %s", tiny_folder(), at("pack-1.h5"));
    if (lcl_after(ranks, "export %s --out %s", run, at("hf-3")) != 0)
        fail_msg("it said:\n%s", output);
    if (lcl_after(ranks, "pack --images %s --min-images 2 --out %s", tiny_folder(),
                  at("pack-3.h5")) != 0)
        fail_msg("it said:\n%s", output);
    assert_true(same_files(at("hf-1/model.safetensors"), at("hf-3/model.safetensors")));
    assert_true(same_files(at("hf-1/config.json"), at("hf-3/config.json")));
    assert_same_h5(at("pack-1.h5"), at("pack-3.h5"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(training_with_cached_features),
                                       cmocka_unit_test(training_reads_pictures),
                                       cmocka_unit_test(training_on_conversations),
                                       cmocka_unit_test(training_shows_the_slowest_rank),
                                       cmocka_unit_test(training_balanced_by_tokens),
                                       cmocka_unit_test(held_out_classes),
                                       cmocka_unit_test(class_folders),
                                       cmocka_unit_test(stopped_ones_and_parts),
                                       cmocka_unit_test(questions_of_rows),
                                       cmocka_unit_test(neighbor_tables),
                                       cmocka_unit_test(packs_and_exports)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
