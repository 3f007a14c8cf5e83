/* The emulator: what it says of faulty kernels, and that it leaves right ones alone. */
#include <math.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/dtype.h"
#include "cuda/sim/runtime.h"
#include "tests/cuda/faulty.h"
#include "tests/support/support.h"

static const char *program;              /* this one */
static const char *source = "faulty.cu"; /* of tests/cuda/ */
static lcl_status (*run)(const char *name, float *global) = faulty_run;
static const char *const schedules[] = {"forward", "reverse", "random:7", "random:8"};
enum { N_SCHEDULES = sizeof schedules / sizeof schedules[0] };

/* FAULTY_FLOATS floats that the emulator knows: small whole numbers, the same every time. */
static float *known(void)
{
    static float *p;
    if (!p) p = test_backend_alloc(64, FAULTY_FLOATS * sizeof(float) + 8);
    assert_non_null(p);
    float *g = (float *)((unsigned char *)p + 64);
    for (int i = 0; i < FAULTY_FLOATS + 2; i++) g[i] = (float)((i * 37 + 11) % 64 - 32);
    return g;
}

/* Whether `message` names a line of the source that has this comment. */
static bool names_line(const char *message, const char *comment)
{
    char line[256], place[64], path[64];
    snprintf(path, sizeof path, "tests/cuda/%s", source);
    FILE *f = fopen(path, "r");
    if (!f) fail_msg("%s: run the test in the repository's root", path);
    bool named = false;
    int marked = 0;
    for (int n = 1; fgets(line, sizeof line, f); n++) {
        if (!strstr(line, comment)) continue;
        marked++;
        snprintf(place, sizeof place, "%s:%d", source, n);
        const char *at = strstr(message, place);
        named |= at && !strchr("0123456789", at[strlen(place)] ? at[strlen(place)] : ' ');
    }
    fclose(f);
    if (!marked) fail_msg("%s has no line with \"%s\"", source, comment);
    return named;
}

/* The kernel must fail under every schedule, with its name and one of the words. */
static void assert_says(const char *name, float *g, const char *words, const char * or, bool placed)
{
    char comment[96];
    snprintf(comment, sizeof comment, "fault: %s */", name);
    for (int i = 0; i < N_SCHEDULES; i++) {
        setenv("LCL_SIM_SCHEDULE", schedules[i], 1);
        lcl_status status = run(name, g);
        if (status != LCL_INTERNAL)
            fail_msg("%s, %s: status %d, and no fault found", name, schedules[i], (int)status);
        const char *message = lcl_error_message();
        if (!strstr(message, name) || !(strstr(message, words) || (or &&strstr(message, or))))
            fail_msg("%s, %s: \"%s\"; wanted \"%s\"", name, schedules[i], message, words);
        if (placed && !names_line(message, comment))
            fail_msg("%s, %s: \"%s\" names another line", name, schedules[i], message);
    }
    unsetenv("LCL_SIM_SCHEDULE");
}

struct fault {
    const char *name, *words, * or ;
};

static void assert_all_say(const struct fault *f, size_t n)
{
    for (size_t i = 0; i < n; i++) assert_says(f[i].name, known(), f[i].words, f[i].or, true);
}

/* Runs a right kernel under every schedule, without the watch too: each must give this. */
static void assert_gives(const char *name, size_t first, size_t n, const float *want)
{
    for (int i = 0; i <= N_SCHEDULES; i++) {
        if (i < N_SCHEDULES)
            setenv("LCL_SIM_SCHEDULE", schedules[i], 1);
        else
            setenv("LCL_SIM_CHECK", "0", 1);
        float *g = known();
        lcl_status status = run(name, g);
        unsetenv("LCL_SIM_SCHEDULE");
        unsetenv("LCL_SIM_CHECK");
        const char *how = i < N_SCHEDULES ? schedules[i] : "unwatched";
        if (status != LCL_OK) fail_msg("%s, %s: %s", name, how, lcl_error_message());
        for (size_t k = 0; k < n; k++)
            if (memcmp(&g[first + k], &want[k], sizeof(float)) != 0)
                fail_msg("%s, %s: %zu is %g and should be %g", name, how, first + k,
                         (double)g[first + k], (double)want[k]);
    }
}

static void test_places(void **state)
{
    (void)state;
    static const struct fault faults[] = {
        {"shared_past_end", "past the block's 128 bytes", NULL},
        {"shared_before_begin", "memory that the device does not have", NULL},
        {"global_before_begin", "memory that the device does not have", NULL},
        {"misaligned_16", "not aligned", NULL},
        {"misaligned_4", "not aligned", NULL},
        {"own_array_past_end", "index 4 is outside of the array", NULL},
    };
    assert_all_say(faults, sizeof faults / sizeof faults[0]);
    assert_says("global_past_end", known() + 2, "memory that the device does not have", NULL, true);
    float *unknown = calloc(FAULTY_FLOATS, sizeof(float));
    assert_non_null(unknown);
    assert_says("no_such_memory", unknown, "memory that the device does not have", NULL, true);
    free(unknown);
    /* 8 bytes over the end of a region, at 16-byte alignment. */
    assert_says("global_over_end", known() + 4, "past its end", NULL, true);
}

static void test_places_that_are_right(void **state)
{
    (void)state;
    static const float primes[] = {2, 3, 5, 7, 2, 3, 5, 7};
    assert_gives("program_constants", 0, 8, primes);
    const float *g = known();
    const float parts[] = {g[1], g[2], g[3], g[20], g[5], g[6], g[23]};
    assert_gives("structs_in_parts", 17, 7, parts);
}

static void test_values(void **state)
{
    (void)state;
    static const struct fault faults[] = {
        {"shared_unwritten", "no thread of the block wrote it", NULL},
        {"shared_of_last_block", "no thread of the block wrote it", NULL},
    };
    assert_all_say(faults, sizeof faults / sizeof faults[0]);
    void *fresh = NULL;
    assert_int_equal(cudaMalloc(&fresh, FAULTY_FLOATS * sizeof(float)), cudaSuccess);
    assert_says("fresh_unwritten", fresh, "nothing has written it", NULL, true);
    assert_says("fresh_atomic", fresh, "nothing has written it", NULL, true);
    ASSERT_OK(faulty_run("fresh_written", fresh));
    /* What a kernel, a copy or the host's memset wrote has a value. */
    cudaMemsetAsync((float *)fresh + FAULTY_FLOATS / 2, 0, 31 * sizeof(float), NULL);
    assert_says("fresh_unwritten", fresh, "nothing has written it", NULL, true);
    cudaMemcpyAsync((float *)fresh + FAULTY_FLOATS / 2 + 31, fresh, sizeof(float),
                    cudaMemcpyDeviceToDevice, NULL);
    ASSERT_OK(faulty_run("fresh_unwritten", fresh));
    ASSERT_OK(faulty_run("fresh_atomic", fresh));
    cudaFree(fresh);
    ASSERT_FAILS(faulty_run("fresh_written", fresh), LCL_INTERNAL, "does not have");
}

static void test_races(void **state)
{
    (void)state;
    static const struct fault faults[] = {
        {"race_of_warps", "a race: read without a barrier between", NULL},
        {"race_of_warps_that_met", "without a barrier between", NULL},
        {"race_of_lanes", "a race: read without a barrier between", NULL},
        {"shuffle_between", "a race: written without a barrier between", NULL},
        {"read_then_written", "without a barrier between", NULL},
        {"read_by_warps_then_written", "without a barrier between", NULL},
        {"blocks_write", "a race: written in another block", NULL},
        {"blocks_read_and_write", "in another block", NULL},
        {"warps_write", "a race: written without a barrier between", NULL},
    };
    assert_all_say(faults, sizeof faults / sizeof faults[0]);
}

static void test_no_races(void **state)
{
    (void)state;
    float want[256];
    for (int i = 0; i < 64; i++) want[i] = (float)(i ^ 32);
    assert_gives("barrier_between", 0, 64, want);
    for (int i = 0; i < 64; i++) want[i] = (float)(i ^ 1);
    assert_gives("sync_warp_between", 0, 64, want);
    for (int i = 0; i < 64; i++) want[i] = (float)i;
    assert_gives("neighbours_of_two_bytes", 0, 64, want);
    for (int i = 0; i < 64; i++) want[i] = i < 32 ? 0 : 1;
    assert_gives("read_by_lanes_then_written", 0, 64, want);
    const float *g = known();
    for (int i = 0; i < 256; i++) want[i] = g[i % 64] + g[0];
    assert_gives("blocks_read", 1024, 256, want);
}

static void test_atomics(void **state)
{
    (void)state;
    static const struct fault faults[] = {
        {"atomic_then_read", "without a barrier between", NULL},
        {"written_then_atomic", "a race: written without a barrier between",
         "no thread of the block wrote it"},
        {"block_written_then_atomic", "a race: written in another block", NULL},
        {"block_atomic_then_read", "in another block", NULL},
        {"read_then_atomic", "without a barrier between", NULL},
    };
    assert_all_say(faults, sizeof faults / sizeof faults[0]);
    for (int i = 0; i < N_SCHEDULES + 1; i++) {
        unsigned long long *g = (unsigned long long *)known();
        g[0] = 5;
        g[1] = 1003;
        if (i < N_SCHEDULES)
            setenv("LCL_SIM_SCHEDULE", schedules[i], 1);
        else
            setenv("LCL_SIM_CHECK", "0", 1);
        ASSERT_OK(faulty_run("atomics", (float *)g));
        unsetenv("LCL_SIM_SCHEDULE");
        unsetenv("LCL_SIM_CHECK");
        assert_int_equal(g[0], 5 + 255 * 256 / 2);
        assert_int_equal(g[1], 1000);
        for (int b = 0; b < 4; b++) assert_int_equal(g[2 + b], 63 * 64 / 2);
    }
    unsigned long long *g = (unsigned long long *)known();
    g[1] = 999;
    ASSERT_OK(faulty_run("atomics", (float *)g));
    assert_int_equal(g[1], 999);
}

static void test_barriers(void **state)
{
    (void)state;
    static const struct fault faults[] = {
        {"two_barriers", "a barrier, while thread", NULL},
        {"barrier_after_return", "threads of the block have left", "is stuck: 1 of 64"},
        {"barrier_and_warp", "is stuck: 0 of 64 threads ended, 32 at a barrier", NULL},
        {"lane_has_ended", "waits for lane 3, which has ended", "is stuck: 1 of 32"},
        {"part_of_a_warp", "names lanes beyond the block's 48 threads", NULL},
        {"two_warp_ops", "of it is at", NULL},
        {"one_warp_op_twice", "of it is at", NULL},
    };
    assert_all_say(faults, sizeof faults / sizeof faults[0]);
}

static void test_copies(void **state)
{
    (void)state;
    static const struct fault faults[] = {
        {"copy_without_wait", "an asynchronous copy to it is under way", NULL},
        {"copy_without_commit", "an asynchronous copy to it is under way", NULL},
        {"copy_of_newest_group", "an asynchronous copy to it is under way", NULL},
        {"copy_without_barrier", "an asynchronous copy to it is under way", "a race: written"},
        {"copy_into_global", "it goes from global to shared memory", NULL},
        {"copy_misaligned", "cp.async of 16 bytes", NULL},
    };
    assert_all_say(faults, sizeof faults / sizeof faults[0]);
    assert_says("copy_left", known(), "ended with 1 asynchronous copies under way", NULL, false);
    /* What was left under way is not held against the next launch. */
    float want[512];
    memcpy(want, known(), sizeof want);
    memset(want + 384, 0, 128 * sizeof(float));
    assert_gives("copy_right", 1024, 512, want);
}

/* mbarriers, bulk copies and products of warpgroups. */
static void test_async(void **state)
{
    (void)state;
    static const struct fault faults[] = {
        {"bulk_without_wait", "an asynchronous copy to it is under way", "brought it, and no wait"},
        {"bulk_waited_for_by_another", "an asynchronous copy to it is under way",
         "brought it, and no wait"},
        {"bulk_waited_for_in_another_phase", "an asynchronous copy to it is under way",
         "brought it, and no wait"},
        {"bulk_of_a_phase_that_never_comes", "its mbarrier lacks 1 arrivals and 0 bytes", NULL},
        {"bulk_expects_more", "its mbarrier lacks 0 arrivals and 16 bytes", NULL},
        {"bulk_for_an_unfenced_mbarrier", "whose making no fence has shown it", NULL},
        {"bulk_for_no_mbarrier", "a bulk copy for no mbarrier", NULL},
        {"bulk_misaligned", "to shared memory, at 128 bytes", NULL},
        {"bulk_past_shared_end", "past the block's 32768 bytes", NULL},
        {"bulk_over_unfenced_writes", "written with no fence.proxy.async between", NULL},
        {"arrival_too_many", "its mbarrier lacks 1 arrivals and 0 bytes", NULL},
        {"mbarrier_used_at_once", "without a barrier between", "no thread of the block wrote it"},
        {"arrival_for_others", "a race: written without a barrier between",
         "no thread of the block wrote it"},
        {"product_without_fence", "no wgmma.fence", NULL},
        {"product_after_wait_without_fence", "no wgmma.fence", NULL},
        {"product_without_wait", "registers that a product under way sums in", NULL},
        {"product_without_commit", "registers that a product under way sums in", NULL},
        {"product_of_newest_group", "registers that a product under way sums in", NULL},
        {"product_left", "ended before a wait for its product", NULL},
        {"product_with_changed_operand", "registers that a product under way reads", NULL},
        {"product_of_three_warps", "is stuck: 32 of 128 threads ended", NULL},
        {"product_of_two_minds", "wants another product", NULL},
        {"product_of_unwritten", "no thread of the block wrote it", NULL},
        {"product_before_its_operands", "an asynchronous copy to it is under way",
         "brought it, and no wait"},
        {"product_without_proxy_fence", "written with no fence.proxy.async between", NULL},
        {"bulk_over_a_product", "a product reads it, and nothing tells that it is done", NULL},
        {"write_under_a_product", "a product reads it, and nothing tells that it is done", NULL},
    };
    source = "faulty_async.cu";
    run = faulty_async_run;
    assert_all_say(faults, sizeof faults / sizeof faults[0]);
    assert_says("bulk_expects_less", known(), "16 bytes more than were announced", NULL, false);
    assert_says("bulk_left", known(), "ended before a wait for its bulk copies", NULL, false);
    for (int i = 0; i < N_SCHEDULES; i++) {
        setenv("LCL_SIM_SCHEDULE", schedules[i], 1);
        ASSERT_OK(faulty_async_run("product_right", known()));
        ASSERT_OK(faulty_async_run("product_with_proxy_fence", known()));
    }
    unsetenv("LCL_SIM_SCHEDULE");
    source = "faulty.cu";
    run = faulty_run;
}

static void test_shapes(void **state)
{
    (void)state;
    static const struct {
        unsigned grid[3], block[3];
        size_t shared;
        const char *words; /* NULL: fine */
    } c[] = {
        {{1, 1, 1}, {1024, 1, 1}, 227 * 1024, NULL},
        {{3, 2, 2}, {4, 4, 64}, 0, NULL},
        {{0, 1, 1}, {32, 1, 1}, 0, NULL}, /* nothing runs */
        {{1, 1, 1}, {1025, 1, 1}, 0, "no device takes grid (1, 1, 1), block (1025, 1, 1)"},
        {{1, 1, 1}, {32, 33, 1}, 0, "no device takes"},
        {{1, 1, 1}, {1, 1, 65}, 0, "no device takes"},
        {{1, 1, 1}, {0, 1, 1}, 0, "no device takes"},
        {{1, 65536, 1}, {32, 1, 1}, 0, "no device takes"},
        {{1, 1, 65536}, {32, 1, 1}, 0, "no device takes"},
        {{2147483648u, 1, 1}, {32, 1, 1}, 0, "no device takes"},
        {{65536, 65535, 2}, {32, 1, 1}, 0, "more blocks than the emulator counts"},
        {{1, 1, 1}, {32, 1, 1}, 227 * 1024 + 1, "232449 bytes of shared memory"},
    };
    for (size_t i = 0; i < sizeof c / sizeof c[0]; i++) {
        if (!c[i].words)
            ASSERT_OK(faulty_launch(c[i].grid, c[i].block, c[i].shared));
        else
            ASSERT_FAILS(faulty_launch(c[i].grid, c[i].block, c[i].shared), LCL_SHAPE, c[i].words);
    }
}

static void test_schedules(void **state)
{
    (void)state;
    static const char *const bad[] = {"forwards", "backward", "random7",
                                      "random:",  "random:x", "random:7x"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        setenv("LCL_SIM_SCHEDULE", bad[i], 1);
        lcl_status status = faulty_run("sums", known());
        unsetenv("LCL_SIM_SCHEDULE");
        ASSERT_FAILS(status, LCL_CONFIG, "is not forward, reverse or random[:SEED]");
        assert_non_null(strstr(lcl_error_message(), bad[i]));
    }
    float want[1024];
    const float *g = known();
    for (int b = 0; b < 4; b++) {
        float sum = 0;
        for (int i = 0; i < 256; i++) sum += g[256 * b + i];
        for (int i = 0; i < 256; i++) want[256 * b + i] = sum;
    }
    assert_gives("sums", 2048, 1024, want);
}

static void test_stacks(void **state)
{
    (void)state;
    float want[1024];
    /* here[255] of level k, from the kernel's 0 on: 255 k + thread; the deepest of the neighbour.
     */
    for (int t = 0; t < 1024; t++) {
        float sum = (float)(255 * 31 + (t ^ 1));
        for (int k = 1; k <= 30; k++) sum += (float)(255 * k + t);
        want[t] = sum;
    }
    assert_gives("deep_stacks", 0, 1024, want);
    assert_says("deeper_stacks", known(), "thread 9 needs more than the 65536 bytes of stack", NULL,
                false);
}

/* --- counting --- */

/* Adds up the numbers of the counters' lines that name a line with this comment. */
static void counters(const char *path, const char *comment, unsigned long long sum[3])
{
    FILE *f = fopen(path, "r");
    char line[512];
    unsigned long long n[3];
    assert_non_null(f);
    memset(sum, 0, 3 * sizeof *sum);
    while (fgets(line, sizeof line, f)) {
        if (!names_line(line, comment)) continue;
        assert_int_equal(
            sscanf(line, "counted(float*) %*s %*s %llu %llu %llu", &n[0], &n[1], &n[2]), 3);
        for (int i = 0; i < 3; i++) sum[i] += n[i];
    }
    fclose(f);
}

/* The report names each kernel with its launches, blocks, threads and shared memory. */
static void check_launch_counted(const char *path)
{
    FILE *f = fopen(path, "r");
    char line[512];
    bool found = false;
    assert_non_null(f);
    while (fgets(line, sizeof line, f))
        if (strcmp(line, "counted(float*)\tlaunch\t1\t1\t32\t4224\n") == 0) found = true;
    fclose(f);
    assert_true(found);
}

/* In a process of its own: whether to count is asked once, and the counters are written at exit. */
static void test_counting(void **state)
{
    (void)state;
    char path[512];
    snprintf(path, sizeof path, "%s/count.txt", temp_dir());
    pid_t child = fork();
    if (child == 0) {
        setenv("LCL_SIM_COUNT", path, 1);
        execl(program, program, "counted", (char *)NULL);
        _exit(1);
    }
    int rc = -1;
    assert_int_equal(waitpid(child, &rc, 0), child);
    assert_int_equal(rc, 0);
    static const struct {
        const char *comment;
        unsigned long long requests, passes, ideal;
    } c[] = {
        {"count: in a row */", 1, 4, 4},    {"count: a sector each */", 1, 32, 4},
        {"count: a bank each */", 1, 1, 1}, {"count: one bank */", 1, 32, 1},
        {"count: of one word */", 1, 4, 4}, {"count: some lanes twice */", 2, 8, 6},
    };
    for (size_t i = 0; i < sizeof c / sizeof c[0]; i++) {
        unsigned long long n[3];
        counters(path, c[i].comment, n);
        if (n[0] != c[i].requests || n[1] != c[i].passes || n[2] != c[i].ideal)
            fail_msg("%s: %llu requests, %llu passes, %llu at best", c[i].comment, n[0], n[1],
                     n[2]);
    }
    check_launch_counted(path);
}

/* With the name of a kernel, runs just that. */
int main(int argc, char **argv)
{
    program = argv[0];
    if (argc > 1) return faulty_run(argv[1], known()) != LCL_OK;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_counting),
        cmocka_unit_test(test_places),
        cmocka_unit_test(test_places_that_are_right),
        cmocka_unit_test(test_values),
        cmocka_unit_test(test_races),
        cmocka_unit_test(test_no_races),
        cmocka_unit_test(test_atomics),
        cmocka_unit_test(test_barriers),
        cmocka_unit_test(test_copies),
        cmocka_unit_test(test_async),
        cmocka_unit_test(test_shapes),
        cmocka_unit_test(test_schedules),
        cmocka_unit_test(test_stacks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
