/* The op table is whole: every op of LCL_OPS has its halves, and a test program that calls them. */
#include <dirent.h>

#include "cpu/cpu.h"
#include "tests/support/support.h"

static void test_every_half_is_there(void **state)
{
    (void)state;
    const struct lcl_ops *ops = test_exec()->ops;
#define DIFF(op)                                            \
    if (!ops->op##_fwd) fail_msg("%s has no forward", #op); \
    if (!ops->op##_bwd) fail_msg("%s has no backward", #op);
#define FWD(op) \
    if (!ops->op##_fwd) fail_msg("%s is not there", #op);
    LCL_OPS(DIFF, FWD)
#undef DIFF
#undef FWD
}

/* All of tests/ops/test_*.c but this file, end to end. */
static char *read_tests(void)
{
    DIR *dir = opendir("tests/ops");
    if (!dir) fail_msg("tests run from the repository's root");
    size_t used = 0, size = 1 << 22;
    char *text = malloc(size), path[512];
    assert_non_null(text);
    for (struct dirent *e; (e = readdir(dir)) != NULL;) {
        size_t n = strlen(e->d_name);
        if (strncmp(e->d_name, "test_", 5) != 0 || n < 7 || strcmp(e->d_name + n - 2, ".c") != 0 ||
            strcmp(e->d_name, "test_table.c") == 0)
            continue;
        snprintf(path, sizeof path, "tests/ops/%s", e->d_name);
        FILE *f = fopen(path, "r");
        assert_non_null(f);
        used += fread(text + used, 1, size - 1 - used, f);
        fclose(f);
    }
    closedir(dir);
    assert_true(used < size - 1);
    text[used] = 0;
    return text;
}

/* A call "NAME_fwd(", not a longer name that ends in it. */
static bool calls(const char *text, const char *name)
{
    size_t n = strlen(name);
    for (const char *at = text; (at = strstr(at, name)) != NULL; at += n)
        if (at > text && at[-1] == '>' && at[n] == '(') return true;
    return false;
}

static void test_every_half_is_tested(void **state)
{
    (void)state;
    char *text = read_tests();
#define CHECK(name) \
    if (!calls(text, name)) fail_msg("no test of tests/ops calls ex->ops->%s(...)", name);
#define DIFF(op) CHECK(#op "_fwd") CHECK(#op "_bwd")
#define FWD(op) CHECK(#op "_fwd")
    LCL_OPS(DIFF, FWD)
#undef DIFF
#undef FWD
#undef CHECK
    free(text);
}

static void test_instruction_sets(void **state)
{
    (void)state;
    const struct lcl_ops *ops = NULL;
    const char *before = getenv("LCL_CPU_ISA");
    char *saved = before ? strdup(before) : NULL;
    unsetenv("LCL_CPU_ISA");
    ASSERT_OK(lcl_cpu_ops(&ops));
    assert_non_null(ops);
    assert_non_null(strstr(lcl_cpu_describe(), "GEMM by "));
#if defined(__x86_64__)
    setenv("LCL_CPU_ISA", "v2", 1);
    ASSERT_OK(lcl_cpu_ops(&ops));
    assert_non_null(strstr(lcl_cpu_describe(), "v2 (SSE4.2)"));
#endif
    setenv("LCL_CPU_ISA", "v7", 1);
    ASSERT_FAILS(lcl_cpu_ops(&ops), LCL_UNSUPPORTED, "LCL_CPU_ISA=v7 is not one of");
    if (saved)
        setenv("LCL_CPU_ISA", saved, 1);
    else
        unsetenv("LCL_CPU_ISA");
    free(saved);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_half_is_there),
        cmocka_unit_test(test_every_half_is_tested),
        cmocka_unit_test(test_instruction_sets),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
