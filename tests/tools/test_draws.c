/* Train tables and draws as a user meets them: ranks, resumes, training by paths, the paper's
 * configs. */
#include "tests/support/command.h"

#include "core/fs.h"
#include "data/pack.h"
#include "tests/support/table.h"
#include "tests/support/tiny.h"

enum { EPISODES = 96, STEP = 24 };

static const char *generated(void)
{
    static bool made;
    const char *path = at("table.jsonl");
    if (!made) write_table(path, (struct table_size){40, 20, 36});
    made = true;
    return path;
}

/* Prints episodes of the generated table; lines in *line, their number. */
static int draw(const char *arguments, char **line)
{
    int n = 0;
    PRINTS("inspect configs/paper/2-way-random.yaml --stage random --set data.table=%s "
           "--set data.images=none --set lanes=8 --set per_device_train_batch_size=3 --set "
           "data.layout=terse --json %s",
           generated(), arguments);
    char *save = NULL, *copy = strdup(output);
    assert_non_null(copy);
    for (char *s = strtok_r(copy, "\n", &save); s; s = strtok_r(NULL, "\n", &save)) {
        assert_in_range(n, 0, EPISODES - 1);
        line[n++] = strdup(s);
    }
    free(copy);
    return n;
}

static void free_lines(char **line, int n)
{
    for (int i = 0; i < n; i++) free(line[i]);
}

static int64_t number_after(const char *line, const char *key)
{
    const char *at_key = strstr(line, key);
    assert_non_null(at_key);
    return strtoll(at_key + strlen(key), NULL, 10);
}

/* The episodes of 1, 2 and 4 ranks are the same ones, each of one rank, in every step. */
static void test_ranks(void **state)
{
    (void)state;
    char *all[EPISODES], *of[EPISODES], text[128];
    snprintf(text, sizeof text, "--episodes %d", EPISODES);
    assert_int_equal(draw(text, all), EPISODES);
    for (int i = 0; i < EPISODES; i++) {
        assert_int_equal(number_after(all[i], "\"sample\":"), i);
        assert_int_equal(number_after(all[i], "\"step\":"), i / STEP);
    }
    for (int world = 2; world <= 4; world += 2) {
        int seen[EPISODES] = {0};
        for (int rank = 0; rank < world; rank++) {
            snprintf(text, sizeof text, "--episodes %d --rank %d --world %d", EPISODES, rank,
                     world);
            int n = draw(text, of);
            assert_int_equal(n, EPISODES / world);
            for (int i = 0; i < n; i++) {
                int64_t sample = number_after(of[i], "\"sample\":");
                assert_in_range(sample, 0, EPISODES - 1);
                assert_string_equal(of[i], all[sample]);
                assert_int_equal(seen[sample]++, 0);
            }
            free_lines(of, n);
        }
    }
    snprintf(text, sizeof text, "--episodes %d --from-step 3 --rank 1 --world 2", STEP);
    int n = draw(text, of);
    assert_int_equal(n, STEP / 2);
    for (int i = 0; i < n; i++) assert_string_equal(of[i], all[number_after(of[i], "\"sample\":")]);
    assert_int_equal(number_after(of[0], "\"step\":"), 3);
    free_lines(of, n);
    free_lines(all, EPISODES);
}

/* What a line says of reference names and of jigsaws. */
static void test_policies(void **state)
{
    (void)state;
    char *line[EPISODES];
    int n = draw("--episodes 20 --set data.strategy=ref_or_weight", line), refs = 0;
    assert_int_equal(n, 20);
    for (int i = 0; i < n; i++) {
        bool ref = strstr(line[i], "\"strategy\":\"ref\"") != NULL;
        assert_int_equal(strstr(line[i], "\"said\":[") != NULL, ref);
        assert_int_equal(strstr(line[i], "\"strategy\":\"2-way\"") != NULL, !ref);
        refs += ref;
    }
    assert_in_range(refs, 1, 19);
    free_lines(line, n);
    n = draw("--episodes 1 --set data.strategy=ref --set data.reading=official", line);
    assert_non_null(strstr(line[0], "\",\"['"));
    assert_non_null(strstr(line[0], "']._"));
    free_lines(line, n);
    n = draw("--episodes 1 --set data.strategy=jigsaw", line);
    assert_non_null(strstr(line[0], "\"strategy\":\"jigsaw\""));
    assert_non_null(strstr(line[0], "\"places\":[[["));
    assert_non_null(strstr(line[0], "\"query_in_support\":false"));
    free_lines(line, n);
    n = draw("--episodes 1 --set data.strategy=jigsaw --set data.reading=official", line);
    assert_non_null(strstr(line[0], "\"places\":[null]"));
    assert_non_null(strstr(line[0], "\"query_in_support\":true"));
    free_lines(line, n);
}

/* The mix of the official code, whose packs of rows need not be there to be counted. */
static void test_official_mix(void **state)
{
    (void)state;
    int of[4] = {0};
    static const char *const words[] = {"\"strategy\":\"2-way\"", "\"strategy\":\"ref\"",
                                        "\"strategy\":\"jigsaw\"", "\"row\":true"};
    PRINTS(
        "inspect configs/paper/mix-official.yaml --episodes 400 --json --set data.table=%s --set "
        "data.images=none",
        generated());
    char *save = NULL, *copy = strdup(output);
    assert_non_null(copy);
    for (char *s = strtok_r(copy, "\n", &save); s; s = strtok_r(NULL, "\n", &save))
        for (int k = 0; k < 4; k++) of[k] += strstr(s, words[k]) != NULL;
    free(copy);
    assert_int_equal(of[0] + of[1] + of[2] + of[3], 400);
    assert_in_range(of[0], 36, 84);   /* 0.15: 60, deviation 7.1 */
    assert_in_range(of[1], 36, 84);   /* 0.15 */
    assert_in_range(of[2], 52, 108);  /* 0.2: 80, deviation 8 */
    assert_in_range(of[3], 165, 235); /* 0.5: 200, deviation 10 */
}

static void test_refused_ranks(void **state)
{
    (void)state;
    const char *with = "--set data.images=none --episodes 1";
    FAILS("--rank 2 of --world 2",
          "inspect configs/paper/2-way.yaml --set data.table=%s %s "
          "--rank 2 --world 2",
          generated(), with);
    FAILS("a step has 8 lanes",
          "inspect configs/paper/2-way.yaml --set data.table=%s %s "
          "--world 9",
          generated(), with);
    FAILS("data.table x needs data.images",
          "inspect configs/paper/2-way.yaml --set data.table=x --set data.images=pack");
}

/* The train classes of the tiny pack, in its order, as a table. */
static const char *tiny_table(void)
{
    const char *path = at("tiny.jsonl");
    struct lcl_pack p;
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    ASSERT_OK(lcl_pack_open(tiny_pack(), &p));
    for (int32_t c = 0; c < p.n_classes; c++) {
        const struct lcl_class *k = &p.classes[c];
        if (k->split != LCL_SPLIT_TRAIN) continue;
        fprintf(f, "{\"class_id\": \"%s\", \"class_name\": \"%s\", \"samples\": [", k->id, k->name);
        for (int32_t i = 0; i < k->n_images; i++) {
            const char *name;
            ASSERT_OK(lcl_pack_image_name(&p, k->images[i], &name));
            fprintf(f, "%s\"%s\"", i ? ", " : "", name);
        }
        fprintf(f, "]}\n");
    }
    assert_int_equal(fclose(f), 0);
    lcl_pack_close(&p);
    return path;
}

/* Pictures by path train to the bit as those of a pack do; their features are cached beside the
 * table. */
static void test_training(void **state)
{
    (void)state;
    static const char with[] = "--force --set max_steps=4 --set eval_steps=0";
    char table[1200], weights[2][600];
    const char *config = tiny_file("draws.yaml", tiny_yaml());
    snprintf(table, sizeof table, "--set data.table=%s --set data.images=%s", tiny_table(),
             tiny_folder());
    for (int i = 0; i < 2; i++) {
        const char *run = i ? "of-table" : "of-pack";
        SUCCEEDS("train %s %s --set output_dir=%s --set cache_features=false %s", config, with,
                 at(run), i ? table : "");
        snprintf(weights[i], sizeof weights[i], "%s-hf/model.safetensors", at(run));
        SUCCEEDS("export %s --to hf --out %s-hf", at(run), at(run));
    }
    assert_true(same_files(weights[0], weights[1]));
    SUCCEEDS("train %s %s --set output_dir=%s %s", config, with, at("cached"), table);
    assert_true(lcl_fs_is_dir(at("tiny.jsonl.features")));
    /* A report of its evaluation has the pictures, which no pack holds. */
    ASSERT_OK(lcl_fs_mkdirs(at("shown")));
    SUCCEEDS("eval %s --set eval.split=train --set eval.episodes=30 --set eval.shots=2 "
             "--results %s --predictions %s",
             at("cached"), at("shown/results.json"), at("shown/episodes.jsonl"));
    SUCCEEDS("report %s", at("shown"));
    char *page;
    size_t size;
    ASSERT_OK(lcl_fs_read(at("shown/report.html"), 1 << 24, &page, &size));
    assert_null(strstr(page, "picture left out"));
    int pictures = 0;
    for (char *p = page; (p = strstr(p, "data:image/png")); p++) pictures++;
    assert_int_equal(pictures, 12 * 3);
    free(page);
    FAILS("data.images: none leaves no pictures to train on",
          "train %s --set data.table=%s --set data.images=none --set output_dir=%s", config,
          tiny_table(), at("none"));
}

/* They are planned without any of the files that they name. */
static void test_plans_of_the_paper(void **state)
{
    (void)state;
    static const char *const configs[] = {"2-way", "2-way-random", "2-way-weight"};
    for (int i = 0; i < 3; i++) {
        lcl("plan configs/paper/%s.yaml --gpu-memory 100000", configs[i]);
        says("there is no build/paper/shikra-7b (init_from) yet");
        says("there is no table build/paper/train900_pairs.jsonl");
        says("1450 steps");
        if (i > 0) says("290 steps");
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ranks),        cmocka_unit_test(test_policies),
        cmocka_unit_test(test_official_mix), cmocka_unit_test(test_refused_ranks),
        cmocka_unit_test(test_training),     cmocka_unit_test(test_plans_of_the_paper),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
