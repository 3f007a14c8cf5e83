/* Readers of files that a user may hand over, each fed with damaged ones by two programs:
 * test_fuzz.c, whose mutations any compiler builds, and libfuzzer.c, which clang's libFuzzer
 * drives by coverage. One fuzz_NAME.c a reader, or a few of one kind. */
#ifndef LCL_TESTS_FUZZ_H
#define LCL_TESTS_FUZZ_H

#include "tests/support/support.h"

struct fuzz_file {
    uint8_t *bytes; /* malloc'd where it is a seed */
    size_t size;
};

enum { FUZZ_MOST_BYTES = 1 << 20, FUZZ_MOST_SEEDS = 4 };

struct fuzz_target {
    const char *name;
    const char *file; /* the case's name in fuzz_dir(); "": in memory only */
    /* Fills seeds[FUZZ_MOST_SEEDS] with good files of our own writers, gives their number; what
     * lies beside a case in its folder is written here too. */
    size_t (*seeds)(struct fuzz_file *seeds);
    /* A result, or an error with a message. path: of the case's file. */
    lcl_status (*read)(const char *path, const struct fuzz_file *f);
    const char *const *words; /* of the format, up to a NULL; may be NULL */
};

/* In the order in which they run. */
// clang-format off
#define FUZZ_TARGETS(X)                                                                         \
    X(safetensors) X(index) X(gguf) X(torch) X(pickle) X(delta) X(tokenizer_json)               \
    X(tokenizer_model) X(template) X(python) X(tasks) X(official_table) X(train_table) X(rows)  \
    X(tar) X(places) X(class_names) X(hf_config) X(preprocessor) X(adapter_config)              \
    X(adapter_model) X(model_config) X(config) X(sweep) X(metrics) X(unfinished) X(questions)   \
    X(png) X(jpeg) X(webp) X(gif) X(pack) X(manifest) X(state)
// clang-format on

#define FUZZ_DECLARE(name) extern const struct fuzz_target fuzz_##name;
FUZZ_TARGETS(FUZZ_DECLARE)

/* fuzz.c */
extern const struct fuzz_target *const fuzz_targets[];
extern const size_t fuzz_n_targets;
/* Makes the target's folder (build/fuzz/NAME) and quiets the log; then its seeds. */
size_t fuzz_begin(const struct fuzz_target *t, struct fuzz_file *seeds);
/* The folder of the target that was begun last, and a path in it (static). */
const char *fuzz_dir(void);
const char *fuzz_path(const char *file);
/* Writes the case where the target reads a file, then reads it. */
lcl_status fuzz_read(const struct fuzz_target *t, const struct fuzz_file *f);

void fuzz_write(const char *path, const struct fuzz_file *f);
struct fuzz_file fuzz_whole(const char *path);
struct fuzz_file fuzz_text(const char *text);

extern const char *const fuzz_json_words[];

#endif
