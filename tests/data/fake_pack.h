/* A pack and a neighbor table in memory: classes of n pictures each, no files. */
#ifndef LCL_TESTS_DATA_FAKE_PACK_H
#define LCL_TESTS_DATA_FAKE_PACK_H

#include <math.h>

#include "data/episode.h"
#include "tests/support/support.h"

struct fake {
    struct lcl_config config;
    struct lcl_pack pack;
    struct lcl_neighbors neighbors;
    int32_t *images;
};

/* Train classes 0 .. n_train-1, then test classes; class c is "Name c" with id "folder/c". The
 * neighbors of a class are the others of its split in the order c + 1, c + 2, ... around. */
static inline void fake_make(struct fake *f, int32_t n_train, int32_t n_test, int32_t n_images)
{
    int32_t n = n_train + n_test;
    memset(f, 0, sizeof *f);
    lcl_config_defaults(&f->config);
    f->pack.n_classes = n;
    f->pack.n_images = (int64_t)n * n_images;
    f->pack.classes = calloc((size_t)n, sizeof *f->pack.classes);
    f->pack.image_class = calloc((size_t)n * (size_t)n_images, sizeof(int32_t));
    f->images = calloc((size_t)n * (size_t)n_images, sizeof(int32_t));
    f->neighbors.n_classes = n;
    f->neighbors.width = n > 1 ? n - 1 : 1;
    f->neighbors.index = malloc((size_t)n * (size_t)f->neighbors.width * sizeof(int32_t));
    assert_non_null(f->pack.classes);
    assert_non_null(f->pack.image_class);
    assert_non_null(f->images);
    assert_non_null(f->neighbors.index);
    for (int32_t i = 0; i < n * n_images; i++) {
        f->images[i] = i;
        f->pack.image_class[i] = i / n_images;
    }
    for (int32_t c = 0; c < n; c++) {
        struct lcl_class *k = &f->pack.classes[c];
        snprintf(k->name, sizeof k->name, "Name %d", (int)c);
        snprintf(k->id, sizeof k->id, "folder/%d", (int)c);
        k->split = c < n_train ? LCL_SPLIT_TRAIN : LCL_SPLIT_TEST;
        k->n_images = n_images;
        k->images = f->images + (ptrdiff_t)c * n_images;
        int32_t first = c < n_train ? 0 : n_train, count = c < n_train ? n_train : n_test;
        int32_t *row = f->neighbors.index + (ptrdiff_t)c * f->neighbors.width;
        for (int32_t j = 0; j < f->neighbors.width; j++)
            row[j] = j < count - 1 ? first + (c - first + 1 + j) % count : -1;
    }
}

static inline void fake_free(struct fake *f)
{
    free(f->pack.classes);
    free(f->pack.image_class);
    free(f->images);
    free(f->neighbors.index);
}

/* Pearson's statistic of counts against expected shares. */
static inline double chi_square(const int64_t *count, const double *share, int n)
{
    double total = 0, sum = 0, x = 0;
    for (int i = 0; i < n; i++) {
        total += (double)count[i];
        sum += share[i];
    }
    for (int i = 0; i < n; i++) {
        double expected = total * share[i] / sum, d = (double)count[i] - expected;
        x += d * d / expected;
    }
    return x;
}

/* A quantile of chi-square by Wilson and Hilferty's cube; z: the same one of the normal
 * distribution. */
static inline double chi_square_quantile(int degrees, double z)
{
    double k = degrees, a = 2.0 / (9.0 * k);
    double root = 1 - a + z * sqrt(a);
    return k * root * root * root;
}

/* That of 1 - 1e-6. */
static inline double chi_square_limit(int degrees) { return chi_square_quantile(degrees, 4.753); }

#endif
