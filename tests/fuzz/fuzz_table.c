/* Class tables of JSON lines. */
#include "tests/fuzz/fuzz.h"

#include "data/official_table.h"

static lcl_status read_rows(const char *path, const struct fuzz_file *f)
{
    struct lcl_official_table t;
    const struct lcl_official_row *row;
    size_t bytes = 0;
    LCL_TRY(lcl_official_open(path, &t));
    lcl_status status = lcl_official_next(&t, &row);
    for (; status == LCL_OK && row; status = lcl_official_next(&t, &row)) {
        bytes += strlen(row->id) + strlen(row->name);
        for (size_t i = 0; i < row->samples.n; i++) bytes += strlen(row->samples.v[i]);
        for (size_t i = 0; i < row->n_neighbors; i++)
            bytes += strlen(row->neighbors[i].id) + strlen(row->neighbors[i].name) +
                     strlen(row->neighbors[i].sample);
    }
    lcl_official_close(&t);
    assert_true(bytes <= f->size);
    return status;
}

static size_t row_seeds(struct fuzz_file *seeds)
{
    seeds[0] =
        fuzz_text("{\"class_id\": \"1\", \"class_name\": \"kit fox\", \"samples\": [\"a/1.png\", "
                  "\"a/2.png\"], \"neighbors\": [[\"2\", \"crane\", \"b/1.png\"]]}\n\n"
                  "{\"class_id\": \"2\", \"class_name\": \"crane\", \"samples\": [\"b/1.png\"], "
                  "\"neighbors\": []}\n");
    seeds[1] = fuzz_text("{\"class_id\": \"7\", \"class_name\": \"crane\", \"context_samples\": "
                         "[\"a\"], \"test_samples\": [\"b\"]}\n");
    return 2;
}

static const char *const row_words[] = {
    "\"class_id\"", "\"neighbors\"", "\"samples\"", "}\n{", "[[", "]]", "\\u0000", NULL};

const struct fuzz_target fuzz_official_table = {.name = "official_table",
                                                .file = "table.jsonl",
                                                .seeds = row_seeds,
                                                .read = read_rows,
                                                .words = row_words};
