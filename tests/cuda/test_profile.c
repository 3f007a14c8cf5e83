/* A profile of a run on the CUDA backend: the device's own times, and the same losses. */
#include "core/log.h"
#include "tests/support/support.h"
#include "tests/support/trace.h"
#include "train/profile_run.h"

enum { STEPS = 5, KEPT = 2 };

static void a_profiled_run_is_the_same(void **state)
{
    (void)state;
    static const char words[] = "device=cuda freeze_vision_tower=false mm_image_pool=mean";
    double plain[STEPS], profiled[STEPS];
    char dir[340];
    trace_train(words, 0, plain, STEPS);
    snprintf(dir, sizeof dir, "%s/profile", trace_train(words, KEPT, profiled, STEPS));
    assert_memory_equal(plain, profiled, sizeof plain);
    trace_check(dir, LCL_PROFILE_WARM_UP + 1, KEPT, true);
}

int main(void)
{
    setenv("LCL_SIM_CHECK", "0", 1); /* the watch is tests/ops' business */
    const struct CMUnitTest tests[] = {cmocka_unit_test(a_profiled_run_is_the_same)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
