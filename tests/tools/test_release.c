/* make release: what a finished demo is packed as, and that one which is not finished is refused.
 */
#include "tests/support/command.h"

#include <stdlib.h>
#include <unistd.h>

#include "core/fs.h"
#include "tests/support/tiny.h"

static int shell(const char *command)
{
    char *whole = lcl_strdupf("{ %s; } 2>&1", command);
    FILE *f = whole ? popen(whole, "r") : NULL;
    assert_non_null(f);
    size_t n = fread(output, 1, sizeof output - 1, f);
    output[n] = 0;
    free(whole);
    return pclose(f);
}

static int release(void)
{
    char command[2048];
    const char *bin = getenv("LCL_BIN");
    snprintf(command, sizeof command, "LCL=%s sh tools/release.sh %s 9.9.9 %s",
             bin ? bin : "build/lcl", at("seed-1"), at("out"));
    return shell(command);
}

static void refuses(const char *text)
{
    assert_int_not_equal(release(), 0);
    says("error: ");
    says(text);
    says("hint: make demo makes it");
}

static void a_finished_demo_is_packed(void **state)
{
    (void)state;
    char command[2048];
    refuses("there is no finished demo in ");
    ASSERT_OK(lcl_fs_mkdirs(at("out")));
    ASSERT_OK(lcl_fs_mkdirs(at("seed-1")));
    SUCCEEDS(
        "train %s --set output_dir=%s",
        tiny_file("model.yaml",
                  "task: language\nmax_steps: 1\nlogging_steps: 1\n"
                  "per_device_train_batch_size: 1\nvision: {image_size: 16, patch_size: 8, "
                  "hidden_size: 16, intermediate_size: 32, num_hidden_layers: 1, "
                  "num_attention_heads: 2}\nmm_vision_select_layer: -1\ntext: {hidden_size: "
                  "16, intermediate_size: 32, num_hidden_layers: 1, num_attention_heads: 2}\n"),
        at("seed-1/link"));
    refuses("was not evaluated");
    tiny_file("seed-1/results.json", "{\"lcl\": {}}\n");
    assert_int_equal(rename(at("seed-1/link/finished"), at("kept")), 0);
    refuses("is not finished");
    assert_int_equal(rename(at("kept"), at("seed-1/link/finished")), 0);
    if (release() != 0) fail_msg("it said:\n%s", output);
    snprintf(command, sizeof command,
             "cd %s && tar xzf lcl-demo-9.9.9.tar.gz && cd lcl-demo-9.9.9 && sha256sum -c "
             "SHA256SUMS && grep -c . SHA256SUMS && grep 'lcl 9.9.9' README.md",
             at("out"));
    if (shell(command) != 0) fail_msg("it said:\n%s", output);
    says("config.yaml: OK");
    says("README.md: OK");
    SUCCEEDS("inspect %s", at("out/lcl-demo-9.9.9")); /* it is a run as any other */
    tiny_write_picture(at("a.png"), 0, 0);
    SUCCEEDS("generate --model %s --support a=%s --support b=%s --query %s",
             at("out/lcl-demo-9.9.9"), at("a.png"), at("a.png"), at("a.png"));
    says("answer: ");
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(a_finished_demo_is_packed)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
