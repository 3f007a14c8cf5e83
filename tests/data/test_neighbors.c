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
    for (int32_t i = 0; i < n * each; i++) m.numbers[i] = i;
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

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_ranking),
                                       cmocka_unit_test(test_threads), cmocka_unit_test(test_file)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
