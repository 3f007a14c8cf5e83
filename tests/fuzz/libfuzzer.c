/* The targets under clang's libFuzzer: FUZZ names the target, the arguments are libFuzzer's own.
 * Before it reads them, the seeds lie in build/fuzz/NAME/seeds and the words, as a dictionary, in
 * build/fuzz/NAME/words. */
#include "core/fs.h"
#include "tests/fuzz/fuzz.h"

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const struct fuzz_target *target;

static void write_words(void)
{
    FILE *out = fopen(fuzz_path("words"), "w");
    assert_non_null(out);
    for (size_t i = 0; target->words && target->words[i]; i++) {
        fputc('"', out);
        for (const char *c = target->words[i]; *c; c++) fprintf(out, "\\x%02x", (unsigned char)*c);
        fputs("\"\n", out);
    }
    assert_int_equal(fclose(out), 0);
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    struct fuzz_file seeds[FUZZ_MOST_SEEDS];
    const char *wanted = getenv("FUZZ");
    (void)argc;
    (void)argv;
    for (size_t i = 0; wanted && i < fuzz_n_targets; i++)
        if (strcmp(fuzz_targets[i]->name, wanted) == 0) target = fuzz_targets[i];
    if (!target) {
        fprintf(stderr, "FUZZ=%s names no target; there are:\n", wanted ? wanted : "");
        for (size_t i = 0; i < fuzz_n_targets; i++)
            fprintf(stderr, "  %s\n", fuzz_targets[i]->name);
        exit(2);
    }
    size_t n = fuzz_begin(target, seeds);
    ASSERT_OK(lcl_fs_mkdirs(fuzz_path("seeds")));
    ASSERT_OK(lcl_fs_mkdirs(fuzz_path("corpus")));
    for (size_t i = 0; i < n; i++) {
        char name[32];
        snprintf(name, sizeof name, "seeds/%zu", i);
        if (fuzz_read(target, &seeds[i]) != LCL_OK) {
            fprintf(stderr, "%s: seed %zu: %s\n", target->name, i, lcl_error_message());
            exit(2);
        }
        fuzz_write(fuzz_path(name), &seeds[i]);
        free(seeds[i].bytes);
    }
    write_words();
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const struct fuzz_file f = {(uint8_t *)(uintptr_t)data, size};
    if (fuzz_read(target, &f) != LCL_OK && lcl_error_message()[0] == '\0') {
        fprintf(stderr, "%s: an error without a message\n", target->name);
        abort();
    }
    return 0;
}
