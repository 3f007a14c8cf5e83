/* Tables of rows, each row through every format. */
#include "tests/fuzz/fuzz.h"

#include "data/row_table.h"
#include "data/rows.h"

static lcl_status picture(void *ctx, const char *name, int64_t *number, int *width, int *height)
{
    const char *last = strrchr(name, '/');
    (void)ctx;
    assert_true(name[0] != '/' && strncmp(name, "../", 3) != 0); /* ".../" is a folder's name */
    assert_true(!strstr(name, "/../") && strcmp(last ? last + 1 : name, "..") != 0);
    *number = 0;
    *width = 64;
    *height = 48;
    return LCL_OK;
}

/* A row that any format takes is good. */
static lcl_status convert_row(const char *path, const json_t *row)
{
    lcl_status status = LCL_OK;
    bool taken = false;
    for (size_t i = 0; lcl_row_format_at(i); i++) {
        struct lcl_row_context c = {.format = lcl_row_format_at(i), .path = path, .row = 1};
        json_t *out;
        c.image_name = c.format->image_name;
        c.picture = picture;
        status = lcl_row_convert(&c, row, &out);
        if (status == LCL_OK) json_decref(out);
        taken |= status == LCL_OK;
    }
    return taken ? LCL_OK : status;
}

static lcl_status read_rows(const char *path, const struct fuzz_file *f)
{
    struct lcl_row_table t;
    json_t *row;
    (void)f;
    LCL_TRY(lcl_row_table_open(path, &t));
    lcl_status status = lcl_row_table_next(&t, &row, NULL);
    while (status == LCL_OK && row) {
        status = convert_row(path, row);
        json_decref(row);
        if (status == LCL_OK) status = lcl_row_table_next(&t, &row, NULL);
    }
    lcl_row_table_close(&t);
    return status;
}

static size_t row_seeds(struct fuzz_file *seeds)
{
    seeds[0] = fuzz_text(
        "{\"image\": \"a.jpg\", \"conversations\": [{\"from\": \"human\", \"value\": "
        "\"<image> who?\"}, {\"from\": \"gpt\", \"value\": \"x\"}]}\n{\"messages\": [{\"role\": "
        "\"user\", \"content\": [{\"type\": \"image\", \"image\": \"b\"}]}, {\"role\": "
        "\"assistant\", \"content\": \"y\", \"weight\": 1}]}\n");
    seeds[1] =
        fuzz_text("[{\"image_id\": 3, \"sentence\": \"<ph_st>a<ph_ed> b\", \"boxes\": [[1, 2, "
                  "30, 40]], \"boxes_seq\": [[0]]},\n {\"file_path\": \"a\", \"question\": "
                  "\"q\", \"answer\": [0, 0, 1, 1], \"candidates\": [[0, 0, 1, 1]]}]");
    seeds[2] = fuzz_text("{\"img_fn\": \"a\", \"objects\": [\"p\"], \"boxes\": [[0, 0, 9, 9]], "
                         "\"question\": [\"why\", [0], \"?\"], \"answer_choices\": [[\"b\"]], "
                         "\"answer_label\": 0, \"rationale_choices\": [[\"c\", [0]]], "
                         "\"rationale_label\": 0}\n{\"img_path\": \"a\", \"expression\": \"e\", "
                         "\"bbox\": [1, 2, 3, 4]}\n");
    return 3;
}

const struct fuzz_target fuzz_rows = {.name = "rows",
                                      .file = "rows.json",
                                      .seeds = row_seeds,
                                      .read = read_rows,
                                      .words = fuzz_json_words};
