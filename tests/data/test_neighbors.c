#include "data/neighbors.h"

#include <math.h>
#include <stdio.h>

#include "core/fs.h"
#include "core/h5.h"
#include "core/threads.h"
#include "tests/support/support.h"

/* A pack in memory: n classes of `each` pictures; every fifth class held out. */
struct made_up {
    struct lcl_pack pack;
    int32_t *numbers;
};

static struct made_up make_pack(int32_t n, int32_t each)
{
    struct made_up m = {.numbers = malloc((size_t)(n * each) * sizeof(int32_t))};
    snprintf(m.pack.path, sizeof m.pack.path, "made-up.h5");
    m.pack.n_classes = n;
    m.pack.n_images = (int64_t)n * each;
    m.pack.content_hash = 42;
    m.pack.classes = calloc((size_t)n, sizeof *m.pack.classes);
    m.pack.image_class = malloc((size_t)(n * each) * sizeof(int32_t));
    for (int32_t i = 0; i < n * each; i++) {
        m.numbers[i] = i;
        m.pack.image_class[i] = i / each;
    }
    for (int32_t c = 0; c < n; c++) {
        struct lcl_class *k = &m.pack.classes[c];
        snprintf(k->id, sizeof k->id, "class %d", c);
        snprintf(k->name, sizeof k->name, "class %d", c);
        k->split = c % 5 == 4 ? LCL_SPLIT_TEST : LCL_SPLIT_TRAIN;
        k->n_images = each;
        k->images = m.numbers + (size_t)c * (size_t)each;
    }
    return m;
}

static void free_pack(struct made_up *m)
{
    free(m->numbers);
    free(m->pack.classes);
    free(m->pack.image_class);
}

static const char *table_path(void)
{
    static char path[512];
    snprintf(path, sizeof path, "%s/table.h5", temp_dir());
    return path;
}

/* Class c points at angle c degrees, its pictures spread around it and of any length: nearer angles
 * are more similar. */
static void test_ranking(void **state)
{
    (void)state;
    enum { C = 20, EACH = 4 };
    struct made_up m = make_pack(C, EACH);
    float feature[C * EACH][3] = {{0}};
    for (int i = 0; i < C * EACH; i++) {
        double spread = (i % EACH - 1.5) * 0.1, length = 1 + i % 7;
        double angle = (i / EACH + spread) * 3.14159265 / 180;
        feature[i][0] = (float)(length * cos(angle));
        feature[i][1] = (float)(length * sin(angle));
    }
    struct lcl_neighbors t;
    ASSERT_OK(lcl_neighbors_from_features(&m.pack, feature[0], 3, &t));
    assert_int_equal(t.n_classes, C);
    assert_int_equal(t.width, 15); /* 16 train classes less one */
    for (int c = 0; c < C; c++) {
        int n = 0, before = 0;
        for (int k = 0; k < t.width && t.index[c * t.width + k] >= 0; k++, n++) {
            int o = t.index[c * t.width + k];
            assert_int_equal(m.pack.classes[o].split, m.pack.classes[c].split);
            assert_true(abs(o - c) >= before && o != c);
            before = abs(o - c);
            assert_true(fabs((double)t.similarity[c * t.width + k] -
                             cos(before * 3.14159265 / 180)) < 1e-5);
        }
        assert_int_equal(n, c % 5 == 4 ? 3 : 15);
    }
    lcl_neighbors_free(&t);
    feature[7][1] = NAN;
    ASSERT_FAILS(lcl_neighbors_from_features(&m.pack, feature[0], 3, &t), LCL_NUMERIC,
                 "picture 7 (class class 1)");
    free_pack(&m);
}

/* The table of many classes is the same for any number of threads. */
static void test_threads(void **state)
{
    (void)state;
    enum { C = 300, EACH = 10, F = 64 };
    struct made_up m = make_pack(C, EACH);
    float *feature = malloc(C * EACH * F * sizeof *feature);
    fill_normal(feature, C * EACH * F, 1, 1);
    struct lcl_neighbors one, many;
    ASSERT_OK(lcl_threads_start(1));
    ASSERT_OK(lcl_neighbors_from_features(&m.pack, feature, F, &one));
    ASSERT_OK(lcl_threads_start(4));
    ASSERT_OK(lcl_neighbors_from_features(&m.pack, feature, F, &many));
    size_t cells = (size_t)one.n_classes * (size_t)one.width;
    assert_int_equal(one.width, many.width);
    assert_memory_equal(one.index, many.index, cells * sizeof *one.index);
    assert_memory_equal(one.similarity, many.similarity, cells * sizeof *one.similarity);
    lcl_neighbors_free(&one);
    lcl_neighbors_free(&many);
    free(feature);
    free_pack(&m);
}

static void test_file(void **state)
{
    (void)state;
    enum { C = 12, EACH = 2, F = 8 };
    struct made_up m = make_pack(C, EACH), other = make_pack(C, EACH);
    snprintf(other.pack.classes[3].id, sizeof other.pack.classes[3].id, "another");
    float feature[C * EACH * F];
    fill_normal(feature, C * EACH * F, 1, 2);
    struct lcl_neighbors t, got;
    ASSERT_OK(lcl_neighbors_from_features(&m.pack, feature, F, &t));
    ASSERT_OK(lcl_neighbors_save(&t, &m.pack, table_path(), "a test", false));
    ASSERT_OK(lcl_neighbors_load(table_path(), &m.pack, &got));
    assert_int_equal(got.width, t.width);
    size_t cells = (size_t)t.n_classes * (size_t)t.width;
    assert_memory_equal(got.index, t.index, cells * sizeof *t.index);
    assert_memory_equal(got.similarity, t.similarity, cells * sizeof *t.similarity);
    lcl_neighbors_free(&got);
    ASSERT_FAILS(lcl_neighbors_save(&t, &m.pack, table_path(), "a test", false), LCL_EXISTS,
                 "exists");
    ASSERT_FAILS(lcl_neighbors_load(table_path(), &other.pack, &got), LCL_FORMAT,
                 "belongs to another pack than made-up.h5");
    ASSERT_FAILS(lcl_neighbors_load("no/table.h5", &m.pack, &got), LCL_NOT_FOUND, "no/table.h5");
    t.index[4] = 7000; /* as a wrong program might write it */
    ASSERT_OK(lcl_neighbors_save(&t, &m.pack, table_path(), "a test", true));
    ASSERT_FAILS(lcl_neighbors_load(table_path(), &m.pack, &got), LCL_FORMAT,
                 "row of class class 0: entry 4 is 7000");
    struct lcl_h5 f;
    ASSERT_OK(lcl_h5_open(table_path(), true, &f));
    ASSERT_OK(lcl_h5_set_u64(&f, "/format", "version", 3));
    ASSERT_OK(lcl_h5_close(&f));
    ASSERT_FAILS(lcl_neighbors_load(table_path(), &m.pack, &got), LCL_VERSION,
                 "version 3, this lcl reads version 1");
    ASSERT_OK(lcl_h5_open(table_path(), true, &f));
    ASSERT_OK(lcl_h5_set_str(&f, "/format", "magic", "lcl-pack"));
    ASSERT_OK(lcl_h5_close(&f));
    ASSERT_FAILS(lcl_neighbors_load(table_path(), &m.pack, &got), LCL_FORMAT,
                 "is not a neighbor table but lcl-pack");
    lcl_neighbors_free(&t);
    free_pack(&m);
    free_pack(&other);
}

static double product(const float *a, const float *b, int n)
{
    double s = 0;
    for (int i = 0; i < n; i++) s += (double)a[i] * (double)b[i];
    return s;
}

/* Every row against the formula and the order that a person would write down. */
static void test_similarities(void **state)
{
    (void)state;
    enum { C = 23, F = 11 };
    struct made_up m = make_pack(C, 1);
    float image[C * F], text[C * F];
    fill_normal(image, C * F, 0.3f, 5);
    fill_normal(text, C * F, 0.3f, 6);
    for (int by = LCL_BY_IMAGE; by <= LCL_BY_OFFICIAL; by++) {
        struct lcl_neighbors t;
        struct lcl_neighbors_options o = {.by = (enum lcl_neighbors_by)by, .num = 6};
        ASSERT_OK(lcl_neighbors_from_classes(&m.pack, image, text, F, &o, &t));
        assert_int_equal(t.width, 6);
        for (int c = 0; c < C; c++) {
            double before = 1e9, s[C];
            int better = 0, row = c * t.width;
            for (int o2 = 0; o2 < C; o2++) {
                const float *i = image + c * F, *j = image + o2 * F, *u = text + c * F,
                            *v = text + o2 * F;
                s[o2] = by == LCL_BY_IMAGE  ? product(i, j, F)
                        : by == LCL_BY_TEXT ? product(u, v, F)
                                            : 0.5 * product(u, v, F) + 0.5 * product(i, j, F) +
                                                  0.8 * (product(i, v, F) + product(u, j, F));
            }
            for (int k = 0; k < t.width && t.index[row + k] >= 0; k++) {
                assert_true(fabs((double)t.similarity[row + k] - s[t.index[row + k]]) < 1e-5);
                assert_true(s[t.index[row + k]] < before + 1e-6);
                before = s[t.index[row + k]];
            }
            for (int o2 = 0; o2 < C; o2++)
                better += o2 != c && m.pack.classes[o2].split == m.pack.classes[c].split &&
                          s[o2] > before + 1e-6;
            assert_true(better <= 5); /* no other is nearer than the last of the row */
        }
        lcl_neighbors_free(&t);
    }
    free_pack(&m);
}

/* One of each interval of the sorted list, uniformly, the same for a seed. */
static void test_intervals(void **state)
{
    (void)state;
    enum { C = 26, N = 4, DRAWS = 400, TRAIN = 21 }; /* 20 others: intervals of 5 */
    struct made_up m = make_pack(C, 1);
    float angle[C][2];
    int seen[TRAIN - 1] = {0};
    for (int c = 0; c < C; c++) {
        angle[c][0] = cosf((float)c / 30);
        angle[c][1] = sinf((float)c / 30);
    }
    for (int d = 0; d < DRAWS; d++) {
        struct lcl_neighbors t, again;
        const struct lcl_neighbors_options o = {
            .cut = LCL_CUT_INTERVALS, .num = N, .seed = (uint64_t)d};
        ASSERT_OK(lcl_neighbors_from_classes(&m.pack, angle[0], NULL, 2, &o, &t));
        ASSERT_OK(lcl_neighbors_from_classes(&m.pack, angle[0], NULL, 2, &o, &again));
        assert_int_equal(t.width, N);
        assert_memory_equal(t.index, again.index, C * N * sizeof *t.index);
        for (int k = 0; k < N; k++) { /* of class 0, whose others are sorted by number */
            int rank = t.index[k] - t.index[k] / 5 - 1;
            assert_int_equal(rank / 5, k);
            seen[rank]++;
        }
        lcl_neighbors_free(&t);
        lcl_neighbors_free(&again);
    }
    for (int i = 0; i < TRAIN - 1; i++) /* 80 expected, deviation 8 */
        assert_in_range(seen[i], 80 - 40, 80 + 40);
    free_pack(&m);
}

/* Of 5 train classes with two hardest neighbors each, one has one new and one has two. */
static void test_new_share(void **state)
{
    (void)state;
    enum { C = 6, W = 3 };
    const int32_t before[C * W] = {1, 2, 3, 0, 2, 3, 0, 1, 3, 0, 1, 2, -1, -1, -1, 0, 1, 2};
    const int32_t after[C * W] = {2, 1, 3, 0, 3, 5, 3, 5, 0, 1, 0, 2, -1, -1, -1, 0, 1, 3};
    struct made_up m = make_pack(C, 1);
    struct lcl_neighbors a, b;
    ASSERT_OK(lcl_neighbors_from_index(before, C, W, &m.pack, "a", &a));
    ASSERT_OK(lcl_neighbors_from_index(after, C, W, &m.pack, "b", &b));
    assert_true(lcl_neighbors_new_share(&m.pack, &a, &b, 2) == 3.0 / 10);
    assert_true(lcl_neighbors_new_share(&m.pack, &a, &a, 2) == 0);
    lcl_neighbors_free(&a);
    lcl_neighbors_free(&b);
    assert_int_equal(lcl_neighbors_from_index(before, C, 0, &m.pack, "c", &a), LCL_FORMAT);
    assert_int_equal(lcl_neighbors_from_index(before, C - 1, W, &m.pack, "c", &a), LCL_FORMAT);
    free_pack(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ranking),   cmocka_unit_test(test_threads),
        cmocka_unit_test(test_file),      cmocka_unit_test(test_similarities),
        cmocka_unit_test(test_intervals), cmocka_unit_test(test_new_share)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
