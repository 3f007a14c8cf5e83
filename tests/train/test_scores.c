/* Benchmarks' scores against their definitions: VQA accuracy, CIDEr-D, boxes. */
#include "tests/support/support.h"

#include <math.h>

#include "train/scores.h"

static double vqa(const char *said, int n, const char *const *answers)
{
    double score = -1;
    ASSERT_OK(lcl_score_vqa(said, answers, n, &score));
    return score;
}

static bool near(double x, double y) { return fabs(x - y) < 1e-9; }

static void vqa_leaves_one_out(void **state)
{
    (void)state;
    const char *const ten[] = {"yes", "yes", "no", "yes", "no", "no", "no", "no", "no", "no"};
    /* three agree: left out is one of them (2/3) three times of ten, else 3/3 */
    assert_true(near(vqa("yes", 10, ten), 0.9));
    assert_true(near(vqa("no", 10, ten), 1));
    assert_true(near(vqa("maybe", 10, ten), 0));
    const char *const one[] = {"Yes"};
    assert_true(near(vqa("Yes", 1, one), 1));
    assert_true(near(vqa("yes", 1, one), 0)); /* where all agree, as they stand */
    const char *none[1] = {NULL};
    double score;
    ASSERT_FAILS(lcl_score_vqa("x", none, 0, &score), LCL_RANGE, "without an answer");
}

/* Whether both are the same answer, among people who do not all agree. */
static bool agrees(const char *said, const char *answer)
{
    const char *const answers[] = {answer, answer, answer, answer, "something else"};
    return vqa(said, 5, answers) > 0.99;
}

static void vqa_compares_words(void **state)
{
    (void)state;
    assert_true(agrees("The Cat", "cat"));
    assert_true(agrees("  two\tdogs\n", "2 dogs"));
    assert_true(agrees("none", "0"));
    assert_true(agrees("dont know", "don't know"));
    assert_true(agrees("1,000", "1000"));
    assert_true(agrees("black-white", "black white"));   /* no blank beside it: a blank */
    assert_true(agrees("black - white", "black white")); /* beside a blank: nothing */
    assert_true(agrees("3.5", "3.5"));
    assert_true(agrees("it is red.", "it is red"));
    assert_false(agrees("3.5", "35"));
    assert_false(agrees("cats", "cat"));
}

/* By the definition, with n-grams as strings. */
enum { GRAMS = 64 };
struct bag {
    int n;
    char gram[GRAMS][64];
    double count[GRAMS], weight[GRAMS];
    int words[GRAMS];
};
static void bag_of(const char *const *words, int n_words, struct bag *b)
{
    b->n = 0;
    for (int k = 1; k <= 4; k++)
        for (int i = 0; i + k <= n_words; i++) {
            char gram[64] = "";
            int at = 0;
            for (int j = i; j < i + k; j++) strcat(strcat(gram, words[j]), " ");
            while (at < b->n && strcmp(b->gram[at], gram) != 0) at++;
            if (at == b->n) {
                assert_true(b->n < GRAMS);
                strcpy(b->gram[b->n], gram);
                b->count[b->n] = 0;
                b->words[b->n++] = k;
            }
            b->count[at]++;
        }
}
static double weight_in(const struct bag *b, const char *gram)
{
    for (int i = 0; i < b->n; i++)
        if (strcmp(b->gram[i], gram) == 0) return b->weight[i];
    return 0;
}
static double similar(const struct bag *h, const struct bag *r, int h_words, int r_words)
{
    double all = 0, delta = (h_words > 1 ? h_words - 1 : 0) - (r_words > 1 ? r_words - 1 : 0);
    for (int k = 1; k <= 4; k++) {
        double dot = 0, hh = 0, rr = 0;
        for (int i = 0; i < h->n; i++) {
            if (h->words[i] != k) continue;
            const double other = weight_in(r, h->gram[i]);
            dot += fmin(h->weight[i], other) * other;
            hh += h->weight[i] * h->weight[i];
        }
        for (int i = 0; i < r->n; i++)
            if (r->words[i] == k) rr += r->weight[i] * r->weight[i];
        if (hh > 0 && rr > 0) all += dot / sqrt(hh * rr);
    }
    return 10 * all / 4 * exp(-delta * delta / 72);
}

static void cider_is_its_definition(void **state)
{
    (void)state;
    const char *said[] = {"A red cat, on a mat!", "two dogs run", "a bird"};
    const char *const refs0[] = {"a cat on a mat"}, *const refs1[] = {"dogs run on a mat"},
                      *const refs2[] = {"one tree"};
    const char *const *const refs[] = {refs0, refs1, refs2};
    const int64_t one[] = {1, 1, 1};
    static const char *const w[6][8] = {{"a", "red", "cat", "on", "a", "mat"},
                                        {"two", "dogs", "run"},
                                        {"a", "bird"},
                                        {"a", "cat", "on", "a", "mat"},
                                        {"dogs", "run", "on", "a", "mat"},
                                        {"one", "tree"}};
    static const int n[6] = {6, 3, 2, 5, 5, 2};
    static struct bag bag[6];
    double scores[3], mean;
    for (int i = 0; i < 6; i++) bag_of(w[i], n[i], &bag[i]);
    for (int i = 0; i < 6; i++)
        for (int g = 0; g < bag[i].n; g++) {
            double df = 0;
            for (int r = 3; r < 6; r++)
                for (int h = 0; h < bag[r].n; h++)
                    df += strcmp(bag[r].gram[h], bag[i].gram[g]) == 0;
            bag[i].weight[g] = bag[i].count[g] * (log(3) - log(fmax(df, 1)));
        }
    ASSERT_OK(lcl_score_cider(said, refs, one, 3, scores, &mean));
    for (int i = 0; i < 3; i++)
        assert_true(near(scores[i], similar(&bag[i], &bag[3 + i], n[i], n[3 + i])));
    assert_true(near(mean, (scores[0] + scores[1] + scores[2]) / 3));
    assert_true(scores[0] > scores[1] && scores[1] > 0 && scores[2] == 0);
    ASSERT_OK(lcl_score_cider((const char *const[]){"a cat on a mat", "x", "y"}, refs, one, 3,
                              scores, &mean));
    assert_true(near(scores[0], 10));
    const int64_t lacking[] = {1, 0, 1};
    ASSERT_FAILS(lcl_score_cider(said, refs, lacking, 3, scores, &mean), LCL_RANGE,
                 "picture 1 has no reference");
}

static void many_captions_fill_the_table(void **state)
{
    (void)state;
    enum { N = 3000 };
    static char text[N][64];
    static const char *said[N], *ref[N], *const *refs[N];
    static int64_t one[N];
    static double scores[N];
    double mean;
    for (int i = 0; i < N; i++) {
        snprintf(text[i], sizeof text[i], "picture %d shows thing %d of %d", i, i * 7, i * i);
        said[i] = ref[i] = text[i];
        refs[i] = &ref[i];
        one[i] = 1;
    }
    ASSERT_OK(lcl_score_cider(said, refs, one, N, scores, &mean));
    assert_true(near(mean, 10));
}

static void boxes(void **state)
{
    (void)state;
    struct lcl_box b[4] = {{0}};
    assert_int_equal(lcl_boxes_of("Answer: [0.1,0.2,0.5,0.6] .", b, 4), 1);
    assert_true(near(b[0].x1, 0.1) && near(b[0].y2, 0.6));
    assert_int_equal(lcl_boxes_of("[0,0,1,1;0.5, 0.5, 1, 1] and [0.2,0.2,0.4,0.4]", b, 2), 3);
    assert_true(near(b[1].x1, 0.5));
    static const char *const none[] = {"",           "no box",    "[1,2,3]",     "[0.5,0,0.1,1]",
                                       "[0,0,1,1",   "[a,0,1,1]", "[nan,0,1,1]", "0,0,1,1",
                                       "[0,0,1,1,2]"};
    for (size_t i = 0; i < sizeof none / sizeof *none; i++)
        assert_int_equal(lcl_boxes_of(none[i], b, 4), 0);
    const struct lcl_box x = {0, 0, 2, 2}, y = {1, 1, 3, 3}, z = {2, 2, 3, 3}, flat = {0, 0, 0, 2};
    assert_true(near(lcl_box_iou(&x, &y), 1.0 / 7));
    assert_true(lcl_box_iou(&x, &z) == 0 && near(lcl_box_iou(&x, &x), 1));
    assert_true(lcl_box_iou(&flat, &flat) == 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(vqa_leaves_one_out),
        cmocka_unit_test(vqa_compares_words),
        cmocka_unit_test(cider_is_its_definition),
        cmocka_unit_test(many_captions_fill_the_table),
        cmocka_unit_test(boxes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
