/* safetensors files and their index, files of torch.save, and the pickle in one. */
#include "tests/fuzz/fuzz.h"

#include "checkpoint/delta.h"
#include "checkpoint/safetensors.h"
#include "checkpoint/torch_pickle.h"
#include "core/fs.h"
#include "tests/support/torch_file.h"

/* Opens the file and reads the end of every tensor. */
static lcl_status read_weights(const char *path, const struct fuzz_file *f)
{
    struct lcl_safetensors st;
    lcl_status status = LCL_OK;
    float first[4];
    (void)f;
    LCL_TRY(lcl_st_open(path, &st));
    for (size_t i = 0; i < st.n_tensors && status == LCL_OK; i++) {
        const struct lcl_st_tensor *t = &st.tensors[i];
        size_t n = t->count < 4 ? t->count : 4;
        if (t->dtype >= LCL_I64 || n == 0) continue;
        status = lcl_st_read(t, t->count - n, n, LCL_F32, first);
    }
    lcl_st_close(&st);
    return status;
}

static float data[24];

/* Two tensors in one file of fuzz_dir(). */
static void write_weights(const char *file, const char *a, const char *b)
{
    fill_normal(data, 24, 1, 3);
    const struct lcl_st_item items[] = {
        {.name = a,
         .dtype = LCL_F32,
         .source = LCL_F32,
         .n_dims = 2,
         .shape = {4, 6},
         .data = data},
        {.name = b, .dtype = LCL_BF16, .source = LCL_F32, .n_dims = 1, .shape = {8}, .data = data}};
    ASSERT_OK(lcl_st_write(fuzz_path(file), items, 2, NULL));
}

static size_t safetensors_seeds(struct fuzz_file *seeds)
{
    write_weights("seed", "a.weight", "b");
    seeds[0] = fuzz_whole(fuzz_path("seed"));
    return 1;
}

static size_t index_seeds(struct fuzz_file *seeds)
{
    write_weights("one.safetensors", "a.weight", "b");
    write_weights("two.safetensors", "c.weight", "d");
    seeds[0] = fuzz_text("{\"metadata\": {\"total_size\": 224}, \"weight_map\": {"
                         "\"a.weight\": \"one.safetensors\", \"b\": \"one.safetensors\", "
                         "\"c.weight\": \"two.safetensors\", \"d\": \"two.safetensors\"}}");
    return 1;
}

static const struct torch_item torch_items[] = {
    {"a.weight", "FloatStorage", data, 24, 4, 0, 2, {4, 6}},
    {"b", "BFloat16Storage", data, 24, 2, 3, 1, {5}},
    {"c", "LongStorage", data, 2, 8, 1, 0, {0}}};

static size_t torch_seeds(struct fuzz_file *seeds)
{
    struct torch_bytes pickle = {0}, file = {0};
    fill_normal(data, 24, 1, 3);
    torch_write(fuzz_path("seed"), torch_items, 2);
    torch_pickle(&pickle, torch_items, 3);
    torch_zip(&file, &pickle, torch_items, 3, 1);
    free(pickle.v);
    seeds[0] = fuzz_whole(fuzz_path("seed"));
    seeds[1] = (struct fuzz_file){file.v, file.n};
    return 2;
}

static size_t pickle_seeds(struct fuzz_file *seeds)
{
    struct torch_bytes pickle = {0};
    torch_pickle(&pickle, torch_items, 3);
    seeds[0] = (struct fuzz_file){pickle.v, pickle.n};
    return 1;
}

static lcl_status read_pickle(const char *path, const struct fuzz_file *f)
{
    struct lcl_torch_tensor *tensors = NULL;
    size_t n = 0;
    (void)path;
    LCL_TRY(lcl_torch_unpickle("case", f->bytes, f->size, &tensors, &n));
    free(tensors);
    return LCL_OK;
}

/* A delta of four tensors, with an extended vocabulary, against a base that is whole. */
static size_t delta_seeds(struct fuzz_file *seeds)
{
    static float values[40];
    fill_normal(values, 40, 1, 3);
    struct lcl_st_item items[] = {
        {.name = "lm_head.weight", .n_dims = 2, .shape = {5, 6}},
        {.name = "model.embed_tokens.weight", .n_dims = 2, .shape = {5, 6}},
        {.name = "model.norm.weight", .n_dims = 1, .shape = {6}},
        {.name = "model.mm_projector.weight", .n_dims = 2, .shape = {6, 4}}};
    for (int i = 0; i < 4; i++) {
        items[i].dtype = i % 2 ? LCL_F16 : LCL_BF16;
        items[i].source = LCL_F32;
        items[i].data = values;
    }
    ASSERT_OK(lcl_fs_mkdirs(fuzz_path("sum")));
    ASSERT_OK(lcl_st_write(fuzz_path("base.safetensors"), items, 3, NULL));
    items[0].shape[0] = items[1].shape[0] = 6;
    ASSERT_OK(lcl_st_write(fuzz_path("seed"), items, 4, NULL));
    seeds[0] = fuzz_whole(fuzz_path("seed"));
    return 1;
}

static lcl_status read_delta(const char *path, const struct fuzz_file *f)
{
    struct lcl_delta_counts n;
    char *base = strdup(fuzz_path("base.safetensors"));
    (void)f;
    assert_non_null(base);
    lcl_status status = lcl_delta_apply(base, path, fuzz_path("sum"), 200, &n);
    free(base);
    return status;
}

static const char *const safetensors_words[] = {
    "\"dtype\"", "\"shape\"", "\"data_offsets\"", "__metadata__", "\"F32\"", "\"BF16\"",
    "\"F16\"",   "\"I64\"",   "\"BOOL\"",         "[0,0]",        "[]",      "{",
    "}",         NULL};
static const char *const index_words[] = {"\"weight_map\"",
                                          "one.safetensors",
                                          "two.safetensors",
                                          "../one.safetensors",
                                          "index.json",
                                          "{",
                                          "}",
                                          "null",
                                          "\\u0000",
                                          NULL};
/* Marks of zip records, opcodes of pickles and what torch.save calls. */
static const char *const torch_words[] = {"PK\3\4",
                                          "PK\1\2",
                                          "PK\5\6",
                                          "PK\6\6",
                                          "PK\6\7",
                                          "\xff\xff\xff\xff",
                                          "/data.pkl",
                                          "data/0",
                                          "byteorder",
                                          "\x80\2",
                                          "ctorch._utils\n_rebuild_tensor_v2\n",
                                          "ctorch._utils\n_rebuild_parameter\n",
                                          "ctorch\nFloatStorage\n",
                                          "ccollections\nOrderedDict\n",
                                          "cposix\nsystem\n",
                                          "\x8a\xff",
                                          "\x95",
                                          "\x93",
                                          "\x94",
                                          "(",
                                          "}",
                                          "]",
                                          "t",
                                          "u",
                                          "R",
                                          "b",
                                          "Q",
                                          "q\1",
                                          "h\1",
                                          "\x85",
                                          NULL};

const struct fuzz_target fuzz_safetensors = {.name = "safetensors",
                                             .file = "case.safetensors",
                                             .seeds = safetensors_seeds,
                                             .read = read_weights,
                                             .words = safetensors_words};
const struct fuzz_target fuzz_delta = {.name = "delta",
                                       .file = "case.safetensors",
                                       .seeds = delta_seeds,
                                       .read = read_delta,
                                       .words = safetensors_words};
const struct fuzz_target fuzz_index = {.name = "index",
                                       .file = "case.index.json",
                                       .seeds = index_seeds,
                                       .read = read_weights,
                                       .words = index_words};
const struct fuzz_target fuzz_torch = {.name = "torch",
                                       .file = "case.bin",
                                       .seeds = torch_seeds,
                                       .read = read_weights,
                                       .words = torch_words};
const struct fuzz_target fuzz_pickle = {
    .name = "pickle", .file = "", .seeds = pickle_seeds, .read = read_pickle, .words = torch_words};
