/* The command line as a user meets it: build/lcl (LCL_BIN) is run and its words are read. */
#include "tests/support/command.h"

#include <glob.h>
#include <unistd.h>

#include "core/fs.h"

static void help_lists_the_verbs(void **state)
{
    (void)state;
    SUCCEEDS("--help");
    says("Usage: lcl VERB");
    says("  config ");
    SUCCEEDS(" ");
    says("Usage: lcl VERB");
    SUCCEEDS("--version");
    says("cpu: ");
    says("GEMM");
}

static void every_verb_has_help(void **state)
{
    (void)state;
    static char list[sizeof output];
    SUCCEEDS("--help");
    snprintf(list, sizeof list, "%s", strstr(output, "Verbs:\n"));
    int n = 0;
    char *rest = NULL;
    for (char *line = strtok_r(list, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest)) {
        char verb[32], arguments[64];
        if (strncmp(line, "  ", 2) || sscanf(line, " %31[a-z-] ", verb) != 1) continue;
        snprintf(arguments, sizeof arguments, "%s --help", verb);
        SUCCEEDS("%s", arguments);
        says("Usage: lcl ");
        says("--help");
        n++;
    }
    assert_true(n >= 1);
}

static void mistakes_are_met_with_the_nearest(void **state)
{
    (void)state;
    FAILS("error: lcl has no verb \"confg\"\nhint: did you mean lcl config?\n", "confg");
    FAILS("hint: lcl --help lists the verbs", "xyzzy");
    FAILS("error: lcl config has no option --sett\nhint: did you mean --set?\n",
          "config --sett a=b");
    FAILS("error: --set needs a value: --set KEY=VALUE", "config --set");
    FAILS("error: --markdown takes no value", "config --markdown=yes");
    FAILS("unexpected argument \"b\"\nhint: usage: lcl config [FILE]", "config a b");
    FAILS("error: config no/such.yaml: No such file", "config no/such.yaml");
}

static void configs_are_resolved(void **state)
{
    (void)state;
    char path[256];
    snprintf(path, sizeof path, "%s/a.yaml", temp_dir());
    ASSERT_OK(lcl_fs_write_atomic(path, "seed: 5\n", 8));
    SUCCEEDS("config --set max_steps=7 %s --set=lanes=3", path);
    says("\nseed: 5\n");
    says("\nmax_steps: 7\n");
    says("\nlanes: 3\n");
    FAILS("error: --set: unknown key max_step\nhint: did you mean max_steps?\n",
          "config %s --set max_step=7", path);
    FAILS("error: config --odd: ", "config -- --odd");
    SUCCEEDS("config");
    says("learning_rate");
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
        if (lcl("%s", command) != 0) fail_msg("%s: %s", found.gl_pathv[i], output);
        n++;
    }
    globfree(&found);
    assert_true(n > 0);
}

static void a_full_disk_is_not_a_success(void **state)
{
    (void)state;
    if (access("/dev/full", W_OK)) skip();
    FAILS("No space left", "config --markdown >/dev/full");
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
