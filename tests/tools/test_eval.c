/* lcl eval SUITE as a user meets it: class folders, stopped and joined evaluations, tables. */
#include "tests/support/command.h"

#include <jansson.h>
#include <math.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/fs.h"
#include "tests/support/tiny.h"

enum { EPISODES = 60 };
static char run_dir[400], folder[400];

/* A run of a small model, and folders of pictures. */
static int make_run(void **state)
{
    (void)state;
    const char *config =
        tiny_file("model.yaml",
                  "task: language\nmax_steps: 1\nlogging_steps: 1\nper_device_train_batch_size: 1\n"
                  "vision: {image_size: 16, patch_size: 8, hidden_size: 16, intermediate_size: 32, "
                  "num_hidden_layers: 1, num_attention_heads: 2}\nmm_vision_select_layer: -1\n"
                  "text: {hidden_size: 16, intermediate_size: 32, num_hidden_layers: 1, "
                  "num_attention_heads: 2}\neval: {max_new_tokens: 4}\n");
    snprintf(run_dir, sizeof run_dir, "%s", at("run"));
    snprintf(folder, sizeof folder, "%s/train", tiny_folder());
    if (lcl("train %s --set output_dir=%s", config, run_dir) == 0) return 0;
    fprintf(stderr, "%s", output);
    return 1;
}

static char *whole(const char *path)
{
    char *text;
    size_t size;
    ASSERT_OK(lcl_fs_read(path, 1 << 24, &text, &size));
    return text;
}

/* Line `i` of a JSON lines file; json_decref. */
static json_t *line_of(const char *path, int i)
{
    char *text = whole(path), *at = text;
    for (; i > 0; i--) at = strchr(at, '\n') + 1;
    json_t *line = json_loadb(at, strcspn(at, "\n"), 0, NULL);
    free(text);
    assert_non_null(line);
    return line;
}

static const char *text_at(const json_t *line, const char *key, size_t i)
{
    return json_string_value(json_array_get(json_object_get(line, key), i));
}

static int count_lines(const char *path)
{
    char *text = whole(path);
    int n = 0;
    for (char *c = text; *c; c++) n += *c == '\n';
    free(text);
    return n;
}

static void folders_are_asked_n_ways(void **state)
{
    (void)state;
    const char *p = at("n-way.jsonl");
    SUCCEEDS(
        "eval folders --support %s --model %s --ways 3 --episodes 12 --queries 6 --shots 0,3,6 "
        "--predictions %s --classes %s --confusion %s --results %s",
        folder, run_dir, p, at("classes.csv"), at("confusion.csv"), at("n-way.json"));
    says("folders: 72 queries");
    assert_int_equal(count_lines(p), 12 * 6 * 3);
    json_t *line = line_of(p, 0);
    assert_int_equal(json_array_size(json_object_get(line, "labels")), 3);
    assert_int_equal(json_array_size(json_object_get(line, "logprob")), 3);
    assert_string_equal(text_at(line, "classes", 0),
                        json_string_value(json_object_get(line, "class")));
    assert_string_equal(text_at(line, "labels", 0),
                        json_string_value(json_object_get(line, "target")));
    assert_string_not_equal(text_at(line, "labels", 0), text_at(line, "classes", 0));
    json_decref(line);
    char *classes = whole(at("classes.csv")), *confusion = whole(at("confusion.csv"));
    assert_int_equal(count_lines(at("classes.csv")), 1 + 3 * TINY_TRAIN_CLASSES);
    assert_non_null(strstr(classes, "folders,3,\""));
    long likeliest = 0; /* every query has a likeliest class */
    for (char *at = confusion; (at = strchr(at, '\n')) && at[1];) {
        char *end = strchr(++at, '\n');
        while (end > at && end[-1] != ',') end--;
        likeliest += strtol(end, NULL, 10);
    }
    assert_int_equal(likeliest, 12 * 6 * 3);
    free(classes);
    free(confusion);
    FAILS("--shots 4: 4 is no multiple of the 3 classes",
          "eval folders --support %s --model %s --ways 3 --shots 4", folder, run_dir);
    FAILS("has 6 classes; wanted 7", "eval folders --support %s --model %s --ways 7", folder,
          run_dir);
}

/* Words that name nothing, no likelihoods; candidates beside the labels. */
static void words_and_candidates(void **state)
{
    (void)state;
    const char *p = at("open.jsonl");
    SUCCEEDS("eval open --support %s --model %s --episodes 3 --shots 2 --predictions %s", folder,
             run_dir, p);
    assert_null(strstr(output, "likelihood"));
    json_t *line = line_of(p, 0);
    assert_null(json_object_get(line, "logprob"));
    assert_true(strlen(text_at(line, "labels", 0)) <= 5);
    json_decref(line);
    p = at("candidates.jsonl");
    SUCCEEDS("eval folders --support %s --model %s --episodes 3 --shots 2 --labels names "
             "--candidates 'red wolf,ant' --no-greedy --predictions %s",
             folder, run_dir, p);
    assert_null(strstr(output, "strict"));
    line = line_of(p, 0);
    assert_null(json_object_get(line, "prediction"));
    assert_string_equal(text_at(line, "candidates", 0), "red wolf");
    assert_int_equal(json_array_size(json_object_get(line, "logprob")), 4);
    json_decref(line);
    FAILS("\"a\" is there twice", "eval folders --support %s --model %s --candidates a,a --shots 2",
          folder, run_dir);
}

/* Lists of numbers, equal but for what a library sums in another order for another batch. */
static bool are_near(const json_t *a, const json_t *b)
{
    for (size_t i = 0; i < json_array_size(a); i++)
        if (fabs(json_number_value(json_array_get(a, i)) -
                 json_number_value(json_array_get(b, i))) > 1e-4)
            return false;
    return json_array_size(a) == json_array_size(b);
}

/* The same questions with a support set of their classes, and of others. */
static void the_other_task_shows_no_class_of_the_question(void **state)
{
    (void)state;
    const char *p = at("icl.jsonl");
    SUCCEEDS("eval icl --support %s --model %s --episodes 5 --queries 2 --shots 0,4 --predictions "
             "%s --results %s",
             folder, run_dir, p, at("icl.json"));
    says("lcl: 10 queries");
    says("icl: 10 queries");
    for (int i = 0; i < 5; i++)
        for (int k = 0; k < 4; k++) {
            json_t *lcl = line_of(p, 8 * i + k), *icl = line_of(p, 8 * i + 4 + k);
            const bool shown = json_integer_value(json_object_get(lcl, "shots")) > 0;
            assert_string_equal(json_string_value(json_object_get(icl, "row")), "icl");
            assert_true(json_equal(json_object_get(lcl, "image"), json_object_get(icl, "image")));
            assert_true(json_equal(json_object_get(lcl, "labels"), json_object_get(icl, "labels")));
            assert_int_equal(
                are_near(json_object_get(lcl, "logprob"), json_object_get(icl, "logprob")), !shown);
            json_decref(lcl);
            json_decref(icl);
        }
    FAILS("icl asks for names", "eval icl --support %s --model %s --labels words", folder, run_dir);
}

#define ASK                                                                                       \
    "eval folders --support %s --model %s --episodes 60 --set threads=1 --shots 0,2 --seeds 3,5 " \
    "--results %s "                                                                               \
    "--predictions %s"

/* Runs `lcl ARGUMENTS` until the file has so many bytes, then kills it. */
static void kill_at(const char *file, off_t bytes, const char *arguments)
{
    const char *bin = getenv("LCL_BIN");
    struct stat is;
    int status = 0;
    char *command = lcl_strdupf("exec %s %s >/dev/null 2>&1", bin ? bin : "build/lcl", arguments);
    assert_non_null(command);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        execl("/bin/sh", "sh", "-c", command, NULL);
        _exit(127);
    }
    while (waitpid(child, &status, WNOHANG) == 0)
        if (stat(file, &is) == 0 && is.st_size >= bytes) {
            kill(child, SIGKILL);
            assert_int_equal(waitpid(child, &status, 0), child);
            break;
        }
    free(command);
    if (!WIFSIGNALED(status)) fail_msg("it ended by itself, %d", WEXITSTATUS(status));
}

static void a_killed_evaluation_goes_on(void **state)
{
    (void)state;
    const char *straight = at("straight.jsonl"), *killed = at("killed.jsonl");
    char partial[500], arguments[4096];
    struct stat is;
    snprintf(partial, sizeof partial, "%s.partial", killed);
    snprintf(arguments, sizeof arguments, ASK, folder, run_dir, at("killed.json"), killed);
    SUCCEEDS(ASK, folder, run_dir, at("straight.json"), straight);
    says("seed 3 0.");
    assert_int_equal(count_lines(straight), 2 * EPISODES * 4 * 2);
    assert_int_equal(stat(straight, &is), 0);
    for (int k = 1; k < 4; k++) {
        kill_at(partial, is.st_size / 5 * k, arguments);
        assert_int_equal(truncate(partial, is.st_size / 5 * k), 0); /* in the middle of a line */
        assert_false(lcl_fs_exists(killed));
        assert_false(lcl_fs_exists(at("killed.json")));
    }
    /* A full disk is the same, but that it is said. */
    FAILS_AFTER("ulimit -f 2;", "full.jsonl.partial", ASK, folder, run_dir, at("killed.json"),
                at("full.jsonl"));
    FAILS("holds an evaluation with other settings", ASK " --set eval.seed=4", folder, run_dir,
          at("killed.json"), killed);
    SUCCEEDS(ASK, folder, run_dir, at("killed.json"), killed);
    says("goes on behind ");
    assert_true(same_files(straight, killed));
    assert_true(same_files(at("straight.json"), at("killed.json")));
    assert_false(lcl_fs_exists(partial));
}

static void parts_give_the_same_numbers(void **state)
{
    (void)state;
    const char *whole_file = at("straight.jsonl"), *joined = at("joined.jsonl");
    for (int n = 2; n <= 5; n += 3) {
        for (int r = 0; r < n; r++) {
            SUCCEEDS(ASK " --part %d/%d", folder, run_dir, at("part.json"), joined, r, n);
            assert_false(lcl_fs_exists(at("part.json")));
            if (r == 0)
                FAILS("there is no ", ASK " --join %d", folder, run_dir, at("joined.json"), joined,
                      n);
        }
        SUCCEEDS(ASK " --join %d", folder, run_dir, at("joined.json"), joined, n);
        assert_true(same_files(whole_file, joined));
        assert_true(same_files(at("straight.json"), at("joined.json")));
    }
    FAILS("wanted r/n", ASK " --part 2/2", folder, run_dir, at("x.json"), joined);
}

/* Rows of a table and of a pack; what is scored is what lcl score says of the lines. */
static void rows_are_answered_and_scored(void **state)
{
    (void)state;
    char rows[1024], table[500], name[600];
    int at_row = 0;
    for (int i = 0; i < 10; i++)
        at_row += snprintf(rows + at_row, sizeof rows - (size_t)at_row,
                           "{\"image\": \"p%d.png\", \"question\": \"what?\", \"answers\": "
                           "[\"a\", \"b\"]}\n",
                           i % 5);
    for (int i = 0; i < 5; i++) {
        snprintf(name, sizeof name, "p%d.png", i);
        tiny_write_picture(at(name), i % 4, i);
    }
    snprintf(table, sizeof table, "%s", tiny_file("vqa.jsonl", rows));
#define ROWS "--model %s --rows %s --images %s --predictions %s --results %s --max-new 3 "
    const char *p = at("vqa-p.jsonl"), *images = temp_dir(), *results = at("rows.json");
    SUCCEEDS("eval vqa " ROWS "--candidates a,b,c --ask '<image> {question} Say it.'", run_dir,
             table, images, p, results);
    says("vqa: 10 rows");
    assert_int_equal(count_lines(p), 10);
    json_t *line = line_of(p, 0);
    assert_string_equal(json_string_value(json_object_get(line, "question")),
                        "<image> what? Say it.");
    assert_int_equal(json_array_size(json_object_get(line, "logprob")), 3);
    const char *likeliest = json_string_value(json_object_get(line, "likeliest"));
    double best = -1e9, of_likeliest = 0;
    for (size_t i = 0; i < 3; i++) {
        double x = json_number_value(json_array_get(json_object_get(line, "logprob"), i));
        best = x > best ? x : best;
        if (likeliest[0] == (char)('a' + (int)i)) of_likeliest = x;
    }
    assert_true(best == of_likeliest);
    json_decref(line);
    SUCCEEDS("score --metric vqa --in %s", p); /* its lines are those of lcl score */
    SUCCEEDS("eval caption " ROWS, run_dir, table, images, at("caption.jsonl"), results);
    says("caption: 5 rows"); /* two rows of a picture are one */
    says("CIDEr ");
    FAILS("vqa.jsonl, line 1: \"answers\" must be", "eval vqa " ROWS, run_dir,
          tiny_file("vqa.jsonl", "{\"question\": \"x\"}\n"), images, at("x"), results);
}

/* Shots are rows of another table: other pictures, each with its answer, more going on from fewer;
 * parts join to the same file. */
static void rows_show_shots(void **state)
{
    (void)state;
    char support[1024], yes[500], shown[500];
    int n = 0;
    for (int i = 0; i < 5; i++)
        n += snprintf(support + n, sizeof support - (size_t)n,
                      "{\"image\": \"p%d.png\", \"question\": \"is it?\", \"answer\": \"%s\"}\n", i,
                      i % 2 ? "yes" : "no");
    snprintf(yes, sizeof yes, "%s", tiny_file("pope.jsonl", support));
    snprintf(shown, sizeof shown, "%s", tiny_file("shown.jsonl", support));
    const char *images = temp_dir(), *p = at("pope-p.jsonl"), *joined = at("pope-j.jsonl");
    SUCCEEDS("eval pope " ROWS "--support %s --shots 0,4", run_dir, yes, images, p, at("pope.json"),
             shown);
    says("precision ");
    assert_int_equal(count_lines(p), 10);
    for (int r = 0; r < 2; r++)
        SUCCEEDS("eval pope " ROWS "--support %s --shots 0,4 --part %d/2", run_dir, yes, images,
                 joined, at("x.json"), shown, r);
    SUCCEEDS("eval pope " ROWS "--support %s --shots 0,4 --join 2", run_dir, yes, images, joined,
             at("joined-pope.json"), shown);
    assert_true(same_files(p, joined));
    assert_true(same_files(at("pope.json"), at("joined-pope.json")));
    FAILS("fewer than 5 rows of other pictures", "eval pope " ROWS "--support %s --shots 5",
          run_dir, yes, images, at("y"), at("y.json"), shown);
    FAILS("shows rows of a support table", "eval pope " ROWS "--shots 2", run_dir, yes, images,
          at("y"), at("y.json"));
}

static void rows_of_a_pack(void **state)
{
    (void)state;
    SUCCEEDS("pack --format llava --in %s --images %s --out %s",
             tiny_file("boxes.jsonl",
                       "{\"image\": \"p0.png\", \"conversations\": [{\"from\": \"human\", "
                       "\"value\": \"<image> where?\"}, {\"from\": \"gpt\", \"value\": "
                       "\"[0.1,0.2,0.5,0.6]\"}]}\n"),
             temp_dir(), at("boxes.h5"));
    SUCCEEDS("eval box --model %s --rows %s --candidates '[0;0],there' --predictions %s", run_dir,
             at("boxes.h5"), at("box-p.jsonl"));
    says("box: 1 rows");
    json_t *line = line_of(at("box-p.jsonl"), 0);
    assert_string_equal(json_string_value(json_object_get(line, "target")), "[0.1,0.2,0.5,0.6]");
    json_decref(line);
}

/* A table of n questions on one support set, dax and wug in turns; its path. */
static const char *one_set(const char *name, int n)
{
    static char table[80000];
    char row[2000];
    size_t used = 0;
    for (int q = 0; q < n; q++) {
        snprintf(row, sizeof row,
                 "{\"image_name\": \"%s/%d.png\", \"positive_list\": [\"a-thing/0.png\", "
                 "\"a-thing/1.png\"], \"negative_list\": [\"b-thing/0.png\", "
                 "\"b-thing/1.png\"], \"positive_promt\": \"dax\", \"negative_promt\": "
                 "\"wug\", \"label_name\": \"%s\"}\n",
                 q % 2 ? "b-thing" : "a-thing", 2 + q % 4, q % 2 ? "wug" : "dax");
        used += (size_t)snprintf(table + used, sizeof table - used, "%s", row);
    }
    return tiny_file(name, table);
}

/* However many questions a support set has, and whatever is asked about it. */
static void a_support_set_is_read_once(void **state)
{
    (void)state;
    long read[3];
    for (int i = 0; i < 3; i++) {
        SUCCEEDS("eval isekai --table %s --images %s --model %s --shots 2,4 %s -v",
                 one_set("set.jsonl", i ? 200 : 1), folder, run_dir, i == 2 ? "" : "--no-greedy");
        const char *said = strstr(output, " tokens of support sets were read");
        assert_non_null(said);
        while (said > output && said[-1] >= '0' && said[-1] <= '9') said--;
        read[i] = atol(said);
    }
    assert_true(read[0] > 0);
    assert_int_equal(read[0], read[1]);
    assert_int_equal(read[0], read[2]);
}

/* lcl report shows the first questions of a table, support and query, with what was said. */
static void questions_are_shown(void **state)
{
    (void)state;
    ASSERT_OK(lcl_fs_mkdirs(at("shown")));
    SUCCEEDS("eval isekai --table %s --images %s --model %s --shots 2,4 --results %s --show %s",
             one_set("shown.jsonl", 20), folder, run_dir, at("shown/results.json"),
             at("shown/episodes.jsonl"));
    const char *shown = at("shown/episodes.jsonl");
    assert_int_equal(count_lines(shown), 2 * 12);
    for (int i = 0; i < 24; i++) {
        json_t *v = line_of(shown, i);
        const json_t *support = json_object_get(v, "support"), *one;
        const char *expected = json_string_value(json_object_get(v, "expected"));
        size_t k;
        assert_string_equal(expected, i % 2 ? "wug" : "dax");
        assert_string_equal(json_string_value(json_object_get(v, "other")), i % 2 ? "dax" : "wug");
        assert_int_equal(json_array_size(support), i < 12 ? 2 : 4);
        json_array_foreach(support, k, one) assert_non_null(json_object_get(one, "png"));
        assert_non_null(json_object_get(json_object_get(v, "query"), "png"));
        assert_non_null(json_object_get(v, "answer"));
        assert_int_equal(json_array_size(json_object_get(v, "logprob")), 2);
        json_decref(v);
    }
    SUCCEEDS("report %s", at("shown"));
    char *page = whole(at("shown/report.html"));
    assert_null(strstr(page, "picture left out"));
    assert_non_null(strstr(page, "12 of 24 in episodes.jsonl"));
    free(page);
    FAILS("cannot write ", "eval isekai --table %s --images %s --model %s --shots 2 --show %s",
          at("shown.jsonl"), folder, run_dir, at("no/such/folder.jsonl"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(folders_are_asked_n_ways),
        cmocka_unit_test(a_support_set_is_read_once),
        cmocka_unit_test(questions_are_shown),
        cmocka_unit_test(words_and_candidates),
        cmocka_unit_test(the_other_task_shows_no_class_of_the_question),
        cmocka_unit_test(a_killed_evaluation_goes_on),
        cmocka_unit_test(parts_give_the_same_numbers),
        cmocka_unit_test(rows_are_answered_and_scored),
        cmocka_unit_test(rows_show_shots),
        cmocka_unit_test(rows_of_a_pack),
    };
    return cmocka_run_group_tests(tests, make_run, NULL);
}
