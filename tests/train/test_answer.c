/* One's own pictures as support and queries: labels and folders read, bad pictures named, answers
 * that do not depend on what is asked beside them. */
#include "tests/support/support.h"

#include <math.h>

#include "core/fs.h"
#include "core/threads.h"
#include "train/classify.h"

static struct lcl_config config;
static struct lcl_env env;

/* A small model with weights by chance. */
static void open_model(const char *pool)
{
    static const char *const keys[][2] = {
        {"vision.image_size", "16"},       {"vision.patch_size", "8"},
        {"vision.hidden_size", "16"},      {"vision.intermediate_size", "32"},
        {"vision.num_hidden_layers", "1"}, {"vision.num_attention_heads", "2"},
        {"mm_vision_select_layer", "-1"},  {"text.hidden_size", "16"},
        {"text.intermediate_size", "32"},  {"text.num_hidden_layers", "2"},
        {"text.num_attention_heads", "2"}, {"text.embed_std", "1"},
        {"init_scheme", "fan_in"},         {"eval.max_new_tokens", "6"}};
    lcl_config_defaults(&config);
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
        ASSERT_OK(lcl_config_set(&config, keys[i][0], keys[i][1], "test"));
    ASSERT_OK(lcl_config_set(&config, "mm_image_pool", pool, "test"));
    env = (struct lcl_env){0};
    ASSERT_OK(lcl_env_start(&env, &config));
    ASSERT_OK(lcl_env_make_model(&env, &config, false));
}

/* A picture of noise around a colour; the path is in a static buffer for each i < 16. */
static const char *picture(const char *name, int i)
{
    static char path[16][512];
    float noise[20 * 24 * 3];
    uint8_t pixels[20 * 24 * 3], *png;
    size_t size;
    fill_normal(noise, 20 * 24 * 3, 40, (uint64_t)(100 + i));
    for (int k = 0; k < 20 * 24 * 3; k++) {
        float v = (float)(40 + 17 * i * (k % 3 + 1) % 180) + noise[k];
        pixels[k] = (uint8_t)(v < 0 ? 0 : v > 255 ? 255 : v);
    }
    struct lcl_image image = {.width = 20, .height = 24, .channels = 3, .pixels = pixels};
    ASSERT_OK(lcl_image_encode_png(&image, &png, &size));
    snprintf(path[i], sizeof path[i], "%s/%s", temp_dir(), name);
    char *dir = lcl_strdupf("%.*s", (int)(lcl_fs_basename(path[i]) - path[i]), path[i]);
    ASSERT_OK(lcl_fs_mkdirs(dir));
    ASSERT_OK(lcl_fs_write_atomic(path[i], png, size));
    free(dir);
    free(png);
    return path[i];
}

static void write_text(const char *name)
{
    char path[512];
    snprintf(path, sizeof path, "%s/%s", temp_dir(), name);
    *strrchr(path, '/') = '\0';
    ASSERT_OK(lcl_fs_mkdirs(path));
    path[strlen(path)] = '/';
    ASSERT_OK(lcl_fs_write_atomic(path, "no picture", 10));
}

static void labels_and_files_are_read(void **state)
{
    (void)state;
    struct lcl_support s = {0};
    char text[2048];
    const char *a = picture("a.png", 0), *b = picture("b,c.png", 1);
    snprintf(text, sizeof text, "a b=%s,%s", a, a);
    ASSERT_OK(lcl_support_parse(&s, text));
    ASSERT_FAILS(lcl_support_check(&s, 64), LCL_CONFIG, "has 1 label; wanted 2..64");
    snprintf(text, sizeof text, "c=%s", b); /* the comma is part of the name */
    ASSERT_OK(lcl_support_parse(&s, text));
    ASSERT_OK(lcl_support_check(&s, 64));
    assert_string_equal(s.classes[0].label, "a b");
    assert_int_equal(s.classes[0].n, 2);
    assert_int_equal(s.classes[1].n, 1);
    assert_string_equal(s.classes[1].paths[0], b);
    ASSERT_FAILS(lcl_support_parse(&s, text), LCL_CONFIG, "\"c\" is there already");
    ASSERT_FAILS(lcl_support_parse(&s, "no equals"), LCL_CONFIG, "is not LABEL=FILE");
    ASSERT_FAILS(lcl_support_parse(&s, "=x.png"), LCL_CONFIG, "label is empty");
    ASSERT_FAILS(lcl_support_parse(&s, "say \"x\"=x.png"), LCL_CONFIG, "double quote");
    ASSERT_FAILS(lcl_support_parse(&s, "d=no/such.png"), LCL_NOT_FOUND, "no/such.png");
    lcl_support_free(&s);
}

static void class_folders_are_read(void **state)
{
    (void)state;
    struct lcl_support s = {0};
    char dir[512], other[600];
    snprintf(dir, sizeof dir, "%s/classes", temp_dir());
    ASSERT_FAILS(lcl_support_scan(&s, dir), LCL_NOT_FOUND, "there is no folder");
    picture("classes/Snow_Fox/2.png", 0);
    picture("classes/Snow_Fox/1.png", 1);
    ASSERT_FAILS(lcl_support_scan(&s, dir), LCL_CONFIG, "1 class folder and 0 loose pictures");
    lcl_support_free(&s);
    picture("classes/owl/1.png", 2);
    write_text("classes/owl/notes.txt");
    ASSERT_OK(lcl_support_scan(&s, dir));
    assert_int_equal(s.n, 2);
    assert_string_equal(s.classes[0].label, "snow fox");
    assert_int_equal(s.classes[0].n, 2);
    assert_string_equal(lcl_fs_basename(s.classes[0].paths[0]), "1.png");
    assert_int_equal(s.classes[1].n, 1);
    lcl_support_free(&s);
    picture("classes/snow-fox/1.png", 3);
    ASSERT_FAILS(lcl_support_scan(&s, dir), LCL_CONFIG, "\"snow fox\" is there already");
    lcl_support_free(&s);
    snprintf(other, sizeof other, "%s/snow-fox", dir);
    ASSERT_OK(lcl_fs_remove_tree(other));
    write_text("classes/empty/notes.txt");
    ASSERT_FAILS(lcl_support_scan(&s, dir), LCL_NOT_FOUND, "classes/empty has no pictures");
    lcl_support_free(&s);
}

static void bad_pictures_are_named_and_left_out(void **state)
{
    (void)state;
    struct lcl_gallery g, alone;
    struct lcl_bad_pictures bad = {0};
    char broken[512];
    open_model("none");
    write_text("broken.png");
    snprintf(broken, sizeof broken, "%s/broken.png", temp_dir());
    const char *paths[] = {picture("g0.png", 0), broken, picture("g1.png", 1)};
    int64_t number[3];
    ASSERT_OK(lcl_gallery_open(&g, &env));
    ASSERT_FAILS(lcl_gallery_add(&g, paths, 3, number, NULL), LCL_FORMAT, "broken.png");
    assert_int_equal(g.n, 0);
    ASSERT_OK(lcl_pictures_check(&g, paths, 3, &bad));
    assert_int_equal(bad.n, 1);
    assert_int_equal(g.n, 0);
    lcl_bad_pictures_free(&bad);
    ASSERT_OK(lcl_gallery_add(&g, paths, 3, number, &bad));
    assert_int_equal(bad.n, 1);
    assert_string_equal(bad.v[0].path, broken);
    assert_int_equal(number[0], 0);
    assert_int_equal(number[1], -1);
    assert_int_equal(number[2], 1);
    ASSERT_OK(lcl_gallery_open(&alone, &env));
    ASSERT_OK(lcl_gallery_add(&alone, paths + 2, 1, NULL, NULL));
    for (int64_t k = 0; k < g.row; k++)
        assert_true(fabsf(g.rows[g.row + k] - alone.rows[k]) < 1e-5f);
    lcl_bad_pictures_free(&bad);
    lcl_gallery_close(&g);
    lcl_gallery_close(&alone);
    lcl_env_close(&env);
}

/* Three classes of two pictures, then queries: numbers 0 .. 5 and 6 .. 10 of the gallery. */
static void fill(struct lcl_gallery *g, struct lcl_support *s, int64_t query[5])
{
    static const char *const labels[] = {"wug", "dax", "blicket"};
    ASSERT_OK(lcl_gallery_open(g, &env));
    for (int i = 0; i < 3; i++) {
        char a[32], text[2048];
        snprintf(a, sizeof a, "s%d.png", 2 * i);
        const char *first = picture(a, 2 * i);
        snprintf(a, sizeof a, "s%d.png", 2 * i + 1);
        snprintf(text, sizeof text, "%s=%s,%s", labels[i], first, picture(a, 2 * i + 1));
        ASSERT_OK(lcl_support_parse(s, text));
        struct lcl_support_class *c = &s->classes[i];
        ASSERT_OK(lcl_gallery_add(g, (const char *const *)c->paths, c->n, c->image, NULL));
    }
    for (int q = 0; q < 5; q++) {
        char name[32];
        snprintf(name, sizeof name, "q%d.png", q);
        const char *path = picture(name, 6 + q);
        ASSERT_OK(lcl_gallery_add(g, &path, 1, &query[q], NULL));
    }
}

static void check_queries_alone(const char *pool)
{
    struct lcl_gallery g;
    struct lcl_support s = {0};
    struct lcl_answerer a;
    struct lcl_episode *e = calloc(2, sizeof *e);
    int64_t query[5];
    double all[15], one[3];
    char *text[5], *alone;
    const int way[] = {0, 1, 2};
    open_model(pool);
    fill(&g, &s, query);
    ASSERT_OK(lcl_answerer_open(&a, &g, &config));
    ASSERT_OK(lcl_support_episode(&s, way, 3, 100, NULL, query, 5, &e[0]));
    assert_int_equal(e[0].n_shots, 6);
    for (int i = 0; i < 6; i++) assert_int_equal(e[0].shots[i].way, i % 3); /* in turns */
    ASSERT_OK(lcl_answer_likelihood(&a, &e[0], all));
    ASSERT_OK(lcl_answer(&a, &e[0], &(struct lcl_answer_how){0}, text));
    double spread = 0;
    for (int q = 0; q < 5; q++) {
        ASSERT_OK(lcl_support_episode(&s, way, 3, 100, NULL, &query[q], 1, &e[1]));
        ASSERT_OK(lcl_answer_likelihood(&a, &e[1], one));
        ASSERT_OK(lcl_answer(&a, &e[1], &(struct lcl_answer_how){0}, &alone));
        for (int w = 0; w < 3; w++) {
            assert_true(fabs(all[3 * q + w] - one[w]) < 1e-3);
            assert_true(all[3 * q + w] < 0);
            spread = fmax(spread, fabs(all[3 * q + w] - all[w]));
        }
        assert_string_equal(text[q], alone);
        free(alone);
        free(text[q]);
        lcl_episode_free(&e[1]);
    }
    assert_true(spread > 1e-3); /* the query's picture matters */
    lcl_episode_free(&e[0]);
    free(e);
    lcl_answerer_close(&a);
    lcl_gallery_close(&g);
    lcl_support_free(&s);
    lcl_env_close(&env);
}

static void queries_of_one_support_set_equal_single_ones(void **state)
{
    (void)state;
    check_queries_alone("none");
    check_queries_alone("mean");
}

static void scores_of_pairs_and_of_all(void **state)
{
    (void)state;
    struct lcl_gallery g;
    struct lcl_support s = {0};
    struct lcl_classifier k;
    int64_t query[5];
    double score[2][15];
    open_model("mean");
    fill(&g, &s, query);
    for (int threads = 1; threads <= 2; threads++) {
        ASSERT_OK(lcl_threads_start(threads));
        ASSERT_OK(lcl_classifier_open(&k, &g, &s, &config, LCL_CLASSIFY_PAIRS, 4, true));
        assert_int_equal(lcl_classifier_questions(&k), 3);
        ASSERT_OK(lcl_classifier_score(&k, query, 5, score[threads - 1]));
        lcl_classifier_close(&k);
    }
    assert_memory_equal(score[0], score[1], sizeof score[0]);
    for (int q = 0; q < 5; q++) { /* each of 3 pairs shares 1, halved over a class's 2 pairs */
        double sum = 0;
        for (int i = 0; i < 3; i++) {
            assert_true(score[0][3 * q + i] > 0 && score[0][3 * q + i] < 1);
            sum += score[0][3 * q + i];
        }
        assert_true(fabs(sum - 1.5) < 1e-9);
    }
    ASSERT_OK(lcl_classifier_open(&k, &g, &s, &config, LCL_CLASSIFY_ALL, 6, false));
    ASSERT_OK(lcl_classifier_score(&k, query, 5, score[0]));
    for (int q = 0; q < 5; q++)
        assert_true(fabs(score[0][3 * q] + score[0][3 * q + 1] + score[0][3 * q + 2] - 1) < 1e-9);
    lcl_classifier_close(&k);
    lcl_gallery_close(&g);
    lcl_support_free(&s);
    lcl_env_close(&env);
}

/* ---- words as they come ---- */

struct heard {
    char text[5][400];
    int ends[5], pieces;
};

static void hear(void *ctx, int64_t answer, const char *text, bool end)
{
    struct heard *h = ctx;
    assert_int_equal(h->ends[answer], 0);
    strcat(h->text[answer], text);
    h->ends[answer] += end;
    h->pieces++;
}

static void words_come_one_by_one(void **state)
{
    (void)state;
    struct lcl_gallery g;
    struct lcl_support s = {0};
    struct lcl_answerer a;
    struct lcl_episode *e = calloc(1, sizeof *e);
    struct heard heard = {0};
    int64_t query[5];
    char *text[5], stop[3] = "", *cut[5];
    const char *stops[] = {stop, "no such words"};
    const int way[] = {0, 1, 2};
    open_model("mean");
    fill(&g, &s, query);
    ASSERT_OK(lcl_answerer_open(&a, &g, &config));
    ASSERT_OK(lcl_support_episode(&s, way, 3, 100, NULL, query, 5, e));
    struct lcl_answer_how how = {.sampling = {.temperature = 3, .top_p = 1, .seed = 5},
                                 .max_new = 24,
                                 .say = hear,
                                 .say_ctx = &heard};
    ASSERT_OK(lcl_answer(&a, e, &how, text));
    for (int q = 0; q < 5; q++) {
        assert_string_equal(heard.text[q], text[q]);
        assert_int_equal(heard.ends[q], 1);
    }
    assert_true(heard.pieces > 20);
    assert_true(strlen(text[0]) > 8);
    memcpy(stop, text[0] + 4, 2); /* ends where it first stands, and what stands there goes */
    heard = (struct heard){0};
    how.stop = stops;
    how.n_stop = 2;
    ASSERT_OK(lcl_answer(&a, e, &how, cut));
    for (int q = 0; q < 5; q++) {
        const char *at = strstr(text[q], stop);
        size_t n = at ? (size_t)(at - text[q]) : strlen(text[q]);
        assert_int_equal(strlen(cut[q]), n);
        assert_memory_equal(cut[q], text[q], n);
        assert_string_equal(heard.text[q], cut[q]);
        assert_int_equal(heard.ends[q], 1);
        free(text[q]);
        free(cut[q]);
    }
    lcl_episode_free(e);
    free(e);
    lcl_answerer_close(&a);
    lcl_gallery_close(&g);
    lcl_support_free(&s);
    lcl_env_close(&env);
}

/* Prompts of a batch are answered as alone; what a picture shows matters. */
static void prompts_equal_single_ones(void **state)
{
    (void)state;
    struct lcl_gallery g;
    struct lcl_support s = {0};
    struct lcl_answerer a;
    int64_t query[5];
    char *text[4], *alone;
    open_model("none");
    fill(&g, &s, query);
    const int64_t images[] = {-1 - query[0], -1 - query[1], -1 - query[2], -1 - query[1]};
    const struct lcl_prompt prompts[] = {{"what is in <image> or <image>?", images, 2},
                                         {"no picture", NULL, 0},
                                         {"what is in <image> or <image>?", images + 1, 2},
                                         {"what is in <image> or <image>?", images + 2, 2}};
    const struct lcl_answer_how how = {.sampling = {.temperature = 1, .top_p = 1}, .max_new = 12};
    ASSERT_OK(lcl_answerer_open(&a, &g, &config));
    ASSERT_OK(lcl_answer_prompts(&a, prompts, 4, &how, text));
    for (int i = 0; i < 4; i++) {
        struct lcl_answer_how one = how;
        one.sampling.first_sequence = (uint64_t)i;
        ASSERT_OK(lcl_answer_prompts(&a, &prompts[i], 1, &one, &alone));
        assert_string_equal(text[i], alone);
        free(alone);
    }
    struct lcl_answer_how greedy = {.max_new = 12};
    char *order[2];
    ASSERT_OK(lcl_answer_prompts(&a, prompts + 2, 2, &greedy, order));
    assert_string_not_equal(order[0], order[1]); /* the same pictures, in another order */
    for (int i = 0; i < 4; i++) free(text[i]);
    for (int i = 0; i < 2; i++) free(order[i]);
    const struct lcl_prompt bad[] = {prompts[1], {"<image>", NULL, 0}};
    ASSERT_FAILS(lcl_answer_prompts(&a, bad, 2, &greedy, text), LCL_CONFIG, "has 1 times <image>");
    lcl_answerer_close(&a);
    lcl_gallery_close(&g);
    lcl_support_free(&s);
    lcl_env_close(&env);
}

static void shares_of_large_differences(void **state)
{
    (void)state;
    const double logprob[] = {-2000, -2000 + log(3), -5000};
    double share[3];
    lcl_answer_shares(logprob, 3, share);
    assert_true(fabs(share[0] - 0.25) < 1e-12 && fabs(share[1] - 0.75) < 1e-12 && share[2] == 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(labels_and_files_are_read),
        cmocka_unit_test(class_folders_are_read),
        cmocka_unit_test(bad_pictures_are_named_and_left_out),
        cmocka_unit_test(queries_of_one_support_set_equal_single_ones),
        cmocka_unit_test(scores_of_pairs_and_of_all),
        cmocka_unit_test(words_come_one_by_one),
        cmocka_unit_test(prompts_equal_single_ones),
        cmocka_unit_test(shares_of_large_differences),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
