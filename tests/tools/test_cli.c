/* The command line as a user meets it: build/lcl (LCL_BIN) is run and its words are read. */
#include "tests/support/support.h"

#include <glob.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/fs.h"

static char output[1 << 17];

/* Runs `lcl ARGUMENTS`, keeps standard output and error together, returns the exit status. */
static int lcl(const char *arguments)
{
    const char *bin = getenv("LCL_BIN");
    char command[1024];
    snprintf(command, sizeof command, "{ %s %s; } 2>&1", bin ? bin : "build/lcl", arguments);
    FILE *f = popen(command, "r");
    assert_non_null(f);
    size_t n = fread(output, 1, sizeof output - 1, f);
    output[n] = 0;
    int status = pclose(f);
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

#define ASSERT_SAYS(text)                                                                  \
    do {                                                                                   \
        if (!strstr(output, (text))) fail_msg("it said:\n%s\nwanted: %s", output, (text)); \
    } while (0)

static void help_lists_the_verbs(void **state)
{
    (void)state;
    assert_int_equal(lcl("--help"), 0);
    ASSERT_SAYS("Usage: lcl VERB");
    ASSERT_SAYS("  config ");
    assert_int_equal(lcl(""), 0);
    ASSERT_SAYS("Usage: lcl VERB");
    assert_int_equal(lcl("--version"), 0);
    ASSERT_SAYS("cpu: ");
    ASSERT_SAYS("GEMM");
}

static void every_verb_has_help(void **state)
{
    (void)state;
    static char list[sizeof output];
    assert_int_equal(lcl("--help"), 0);
    snprintf(list, sizeof list, "%s", strstr(output, "Verbs:\n"));
    int n = 0;
    char *rest = NULL;
    for (char *line = strtok_r(list, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest)) {
        char verb[32], arguments[64];
        if (strncmp(line, "  ", 2) || sscanf(line, " %31[a-z-] ", verb) != 1) continue;
        snprintf(arguments, sizeof arguments, "%s --help", verb);
        assert_int_equal(lcl(arguments), 0);
        ASSERT_SAYS("Usage: lcl ");
        ASSERT_SAYS("--help");
        n++;
    }
    assert_true(n >= 1);
}

static void mistakes_are_met_with_the_nearest(void **state)
{
    (void)state;
    assert_int_equal(lcl("confg"), 1);
    ASSERT_SAYS("error: lcl has no verb \"confg\"\nhint: did you mean lcl config?\n");
    assert_int_equal(lcl("xyzzy"), 1);
    ASSERT_SAYS("hint: lcl --help lists the verbs");
    assert_int_equal(lcl("config --sett a=b"), 1);
    ASSERT_SAYS("error: lcl config has no option --sett\nhint: did you mean --set?\n");
    assert_int_equal(lcl("config --set"), 1);
    ASSERT_SAYS("error: --set needs a value: --set KEY=VALUE");
    assert_int_equal(lcl("config --markdown=yes"), 1);
    ASSERT_SAYS("error: --markdown takes no value");
    assert_int_equal(lcl("config a b"), 1);
    ASSERT_SAYS("unexpected argument \"b\"\nhint: usage: lcl config [FILE]");
    assert_int_equal(lcl("config no/such.yaml"), 1);
    ASSERT_SAYS("error: config no/such.yaml: No such file");
}

static void configs_are_resolved(void **state)
{
    (void)state;
    char path[256], command[512];
    snprintf(path, sizeof path, "%s/a.yaml", temp_dir());
    ASSERT_OK(lcl_fs_write_atomic(path, "seed: 5\n", 8));
    snprintf(command, sizeof command, "config --set max_steps=7 %s --set=lanes=3", path);
    assert_int_equal(lcl(command), 0);
    ASSERT_SAYS("\nseed: 5\n");
    ASSERT_SAYS("\nmax_steps: 7\n");
    ASSERT_SAYS("\nlanes: 3\n");
    snprintf(command, sizeof command, "config %s --set max_step=7", path);
    assert_int_equal(lcl(command), 1);
    ASSERT_SAYS("error: --set: unknown key max_step\nhint: did you mean max_steps?\n");
    assert_int_equal(lcl("config -- --odd"), 1);
    ASSERT_SAYS("error: config --odd: ");
    assert_int_equal(lcl("config"), 0);
    ASSERT_SAYS("learning_rate");
}

static void shipped_configs_load(void **state)
{
    (void)state;
    glob_t found = {0};
    glob("configs/*.yaml", 0, NULL, &found);
    glob("configs/*/*.yaml", GLOB_APPEND, NULL, &found);
    size_t n = 0;
    for (size_t i = 0; i < found.gl_pathc; i++) {
        char command[512];
        if (strstr(found.gl_pathv[i], "configs/launch/")) continue; /* of a cluster's scheduler */
        snprintf(command, sizeof command, "config '%s'", found.gl_pathv[i]);
        if (lcl(command) != 0) fail_msg("%s: %s", found.gl_pathv[i], output);
        n++;
    }
    globfree(&found);
    assert_true(n > 0);
}

static void a_full_disk_is_not_a_success(void **state)
{
    (void)state;
    if (access("/dev/full", W_OK)) skip();
    assert_int_equal(lcl("config --markdown >/dev/full"), 1);
    ASSERT_SAYS("No space left");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(help_lists_the_verbs),
        cmocka_unit_test(every_verb_has_help),
        cmocka_unit_test(mistakes_are_met_with_the_nearest),
        cmocka_unit_test(configs_are_resolved),
        cmocka_unit_test(shipped_configs_load),
        cmocka_unit_test(a_full_disk_is_not_a_success),
    };
    return cmocka_run_group_tests_name("cli", tests, NULL, NULL);
}
