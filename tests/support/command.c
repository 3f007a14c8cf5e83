#include "tests/support/command.h"

#include <sys/wait.h>

#include "core/fs.h"

char output[COMMAND_OUTPUT_BYTES];

static int run(const char *before, const char *streams, const char *format, va_list args)
{
    const char *bin = getenv("LCL_BIN");
    char arguments[8192];
    size_t length = (size_t)vsnprintf(arguments, sizeof arguments, format, args);
    assert_in_range(length, 0, sizeof arguments - 1);
    char *command =
        lcl_strdupf("{ %s %s %s; } %s", before, bin ? bin : "build/lcl", arguments, streams);
    FILE *f = popen(command, "r");
    assert_non_null(f);
    size_t n = fread(output, 1, sizeof output - 1, f);
    output[n] = 0;
    int status = pclose(f);
    if (!WIFEXITED(status)) fail_msg("%s was killed:\n%s", command, output);
    free(command);
    return WEXITSTATUS(status);
}

int lcl(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    int status = run("", "2>&1", format, args);
    va_end(args);
    return status;
}

int lcl_stdout(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    int status = run("", "", format, args);
    va_end(args);
    return status;
}

int lcl_after(const char *before, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    int status = run(before, "2>&1", format, args);
    va_end(args);
    return status;
}

const char *under_ranks(int n)
{
    static char launcher[200];
    const char *most = "--allow-run-as-root --oversubscribe"; /* of Open MPI */
    if (system("command -v mpirun >/dev/null 2>&1") != 0) {
        print_message("skipped: there is no mpirun here\n");
        skip();
    }
    assert_int_equal(lcl("--version"), 0);
    if (strstr(output, "mpi: not built in")) {
        print_message("skipped: lcl was built without MPI\n");
        skip();
    }
    if (system("mpirun --version 2>/dev/null | grep -q 'Open MPI'") != 0) most = "";
    /* The address sanitizer would count what MPI's libraries never free. */
    snprintf(launcher, sizeof launcher, "env ASAN_OPTIONS=detect_leaks=0 mpirun %s -np %d", most,
             n);
    return launcher;
}

void says(const char *text)
{
    if (!strstr(output, text)) fail_msg("it said:\n%s\nwanted: %s", output, text);
}

const char *at(const char *name)
{
    static char paths[32][600];
    static int next;
    char *path = paths[next++ % 32];
    snprintf(path, sizeof paths[0], "%s/%s", temp_dir(), name);
    return path;
}

bool same_files(const char *a, const char *b)
{
    char *x, *y;
    size_t n, m;
    ASSERT_OK(lcl_fs_read(a, 1 << 26, &x, &n));
    ASSERT_OK(lcl_fs_read(b, 1 << 26, &y, &m));
    bool same = n == m && memcmp(x, y, n) == 0;
    free(x);
    free(y);
    return same;
}
