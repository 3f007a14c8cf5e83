/* Train tables of the official form, generated. */
#ifndef LCL_TESTS_TABLE_H
#define LCL_TESTS_TABLE_H

#include "tests/support/support.h"

struct table_size {
    int classes, samples, neighbors;
};

/* Class c has id 1000 + c, name "Thing c" and pictures cC/I.png; its j-th neighbor is class
 * c + 1 + j around, shown by a picture cC/extra-c.png that is no sample. */
static inline void write_table(const char *path, struct table_size n)
{
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    for (int c = 0; c < n.classes; c++) {
        fprintf(f, "{\"class_id\": \"%d\", \"class_name\": \"Thing %d\", \"samples\": [", 1000 + c,
                c);
        for (int i = 0; i < n.samples; i++) fprintf(f, "%s\"c%d/%d.png\"", i ? ", " : "", c, i);
        fprintf(f, "], \"neighbors\": [");
        for (int j = 0; j < n.neighbors; j++) {
            int k = (c + 1 + j) % n.classes;
            fprintf(f, "%s[\"%d\", \"Thing %d\", \"c%d/extra-%d.png\"]", j ? ", " : "", 1000 + k, k,
                    k, c);
        }
        fprintf(f, "]}\n");
    }
    assert_int_equal(fclose(f), 0);
}

#endif
