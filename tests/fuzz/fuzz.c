#include "tests/fuzz/fuzz.h"

#include <fcntl.h>
#include <unistd.h>

#include "core/fs.h"
#include "core/log.h"

#define FUZZ_ADDRESS(name) &fuzz_##name,
const struct fuzz_target *const fuzz_targets[] = {FUZZ_TARGETS(FUZZ_ADDRESS)};
const size_t fuzz_n_targets = sizeof fuzz_targets / sizeof *fuzz_targets;

const char *const fuzz_json_words[] = {"{",
                                       "}",
                                       "[",
                                       "]",
                                       ":",
                                       ",",
                                       "\"",
                                       "null",
                                       "true",
                                       "false",
                                       "-1",
                                       "1e999",
                                       "{}",
                                       "[]",
                                       "[[[[",
                                       "\\u0000",
                                       "0.5",
                                       "99999",
                                       "F32",
                                       "BF16",
                                       "\\",
                                       "\"\"",
                                       "\\ud83d\\ude00",
                                       NULL};

/* HDF5 itself leaks where a file's structure is damaged. */
const char *__lsan_default_suppressions(void);
const char *__lsan_default_suppressions(void) { return "leak:libhdf5"; }

static char folder[128];

const char *fuzz_dir(void) { return folder; }

const char *fuzz_path(const char *file)
{
    static char path[256];
    snprintf(path, sizeof path, "%s/%s", folder, file);
    return path;
}

size_t fuzz_begin(const struct fuzz_target *t, struct fuzz_file *seeds)
{
    lcl_log_set_level(LCL_LOG_QUIET);
    snprintf(folder, sizeof folder, "build/fuzz/%s", t->name);
    ASSERT_OK(lcl_fs_mkdirs(folder));
    size_t n = t->seeds(seeds);
    assert_in_range(n, 1, FUZZ_MOST_SEEDS);
    return n;
}

lcl_status fuzz_read(const struct fuzz_target *t, const struct fuzz_file *f)
{
    char path[256]; /* a reader may ask for more paths */
    snprintf(path, sizeof path, "%s", fuzz_path(t->file));
    if (t->file[0]) fuzz_write(path, f);
    return t->read(path, f);
}

/* Over the last case, not in place of it: file systems sync a file that was cut to nothing. */
void fuzz_write(const char *path, const struct fuzz_file *f)
{
    int out = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0666);
    assert_true(out >= 0);
    assert_int_equal(write(out, f->bytes, f->size), f->size);
    assert_int_equal(ftruncate(out, (off_t)f->size), 0);
    assert_int_equal(close(out), 0);
}

struct fuzz_file fuzz_whole(const char *path)
{
    struct fuzz_file f;
    char *text;
    ASSERT_OK(lcl_fs_read(path, FUZZ_MOST_BYTES / 2, &text, &f.size));
    f.bytes = (uint8_t *)text;
    return f;
}

struct fuzz_file fuzz_text(const char *text)
{
    struct fuzz_file f = {(uint8_t *)strdup(text), strlen(text)};
    assert_non_null(f.bytes);
    return f;
}
