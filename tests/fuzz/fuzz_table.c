/* Class tables of JSON lines. */
#include "tests/fuzz/fuzz.h"

#include "data/official_table.h"
#include "data/table.h"

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

/* Whatever opens keeps its promises: numbers in range, each picture named. */
static lcl_status read_pack(const char *path, const struct fuzz_file *f)
{
    const struct lcl_table_options o = {path, "none", true};
    struct lcl_pack p;
    struct lcl_neighbors t;
    struct lcl_table_flaws flaws;
    const char *name;
    (void)f;
    LCL_TRY(lcl_pack_open_table(&o, &p, &t, &flaws));
    for (int32_t c = 0; c < p.n_classes; c++) {
        assert_true(p.classes[c].n_images > 0);
        for (int32_t i = 0; i < p.classes[c].n_images; i++)
            assert_int_equal(p.image_class[p.classes[c].images[i]], c);
    }
    for (int64_t i = 0; i < (int64_t)t.n_classes * t.width; i++)
        assert_true(t.index[i] == -1 || p.image_class[t.image[i]] == t.index[i]);
    for (int64_t i = 0; i < p.n_images; i++) ASSERT_OK(lcl_pack_image_name(&p, i, &name));
    free(lcl_table_flaws_text(&flaws));
    lcl_pack_close(&p);
    lcl_neighbors_free(&t);
    return LCL_OK;
}

static size_t table_seeds(struct fuzz_file *seeds)
{
    row_seeds(seeds);
    free(seeds[1].bytes);
    return 1;
}

const struct fuzz_target fuzz_train_table = {.name = "train_table",
                                             .file = "train.jsonl",
                                             .seeds = table_seeds,
                                             .read = read_pack,
                                             .words = row_words};
