#include "tests/support/support.h"

#include <unistd.h>

#include "core/fs.h"
#include "core/rng.h"
#include "core/threads.h"

static const char *shared_root(void)
{
    const char *root = getenv("LCL_SHARED");
    return root && *root ? root : "../shared";
}

static const char *join(const char *relative)
{
    static char path[4096];
    snprintf(path, sizeof path, "%s/%s", shared_root(), relative);
    return path;
}

bool shared_has(const char *relative) { return access(join(relative), R_OK) == 0; }

const char *shared_path(const char *relative)
{
    if (!shared_has(relative)) {
        print_message("skipped: %s is not here\n", join(relative));
        skip();
    }
    return join(relative);
}

static char temp_path[256];

static void temp_remove(void)
{
    if (lcl_fs_remove_tree(temp_path) != LCL_OK) fprintf(stderr, "%s\n", lcl_error_message());
}

const char *temp_dir(void)
{
    if (temp_path[0]) return temp_path;
    snprintf(temp_path, sizeof temp_path, "build/tmp/test-XXXXXX");
    if (lcl_fs_mkdirs("build/tmp") != LCL_OK || !mkdtemp(temp_path)) {
        fprintf(stderr, "cannot make %s\n", temp_path);
        exit(1);
    }
    atexit(temp_remove);
    return temp_path;
}

void fill_normal(float *x, size_t n, float std, uint64_t sample)
{
    struct lcl_rng rng = lcl_rng_stream(1, LCL_RNG_TEST, 0, sample);
    for (size_t i = 0; i < n; i++) x[i] = std * lcl_rng_normal(&rng);
}

struct lcl_exec *test_exec(void)
{
    static struct lcl_exec exec;
    if (!exec.ops) {
        if (lcl_threads_start(0) != LCL_OK || test_backend_open(&exec) != LCL_OK) {
            fprintf(stderr, "%s\n", lcl_error_message());
            exit(1);
        }
    }
    return &exec;
}
