/* The ground everything stands on: errors, arenas, randomness, threads, the parameter
 * table, files. */
#include "tests/support/support.h"

#include <math.h>
#include <pthread.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/arena.h"
#include "core/fs.h"
#include "core/log.h"
#include "core/param.h"
#include "core/rng.h"
#include "core/threads.h"

static void errors_keep_message_hint_and_place(void **state)
{
    (void)state;
    assert_int_equal(LCL_FAIL_HINT(LCL_RANGE, "use 3", "x is %d", 7), LCL_RANGE);
    assert_string_equal(lcl_error_message(), "x is 7");
    assert_string_equal(lcl_error_hint(), "use 3");
    assert_non_null(strstr(lcl_error_where(), "test_core.c:"));
    assert_int_equal(lcl_fail_context(LCL_IO, "file %s", "a"), LCL_IO);
    assert_string_equal(lcl_error_message(), "file a: x is 7");
    assert_string_equal(lcl_error_hint(), "use 3");
    assert_int_equal(LCL_FAIL(LCL_IO, "again: %s", lcl_error_message()), LCL_IO);
    assert_string_equal(lcl_error_message(), "again: file a: x is 7");
    assert_string_equal(lcl_error_hint(), "");
    /* a name in a file that would clear the screen */
    assert_int_equal(LCL_FAIL(LCL_IO, "tensor %s\nGr\303\274n", "\033[2J\302\233\177a"), LCL_IO);
    assert_string_equal(lcl_error_message(), "tensor ?[2J???a\nGr\303\274n");
    assert_string_equal(lcl_status_text(LCL_CORRUPT), "checksum mismatch");
    assert_string_equal(lcl_status_text((lcl_status)999), "unknown status");
}

static void errors_are_cut_not_overrun(void **state)
{
    (void)state;
    char *huge = malloc(10001);
    assert_non_null(huge);
    memset(huge, 'x', 10000);
    huge[10000] = 0;
    assert_int_equal(LCL_FAIL_HINT(LCL_IO, huge, "%s", huge), LCL_IO);
    assert_true(strlen(lcl_error_message()) == 2047);
    assert_true(strlen(lcl_error_hint()) == 511);
    for (int i = 0; i < 100; i++)
        assert_int_equal(lcl_fail_context(LCL_IO, "context %d", i), LCL_IO);
    assert_true(strlen(lcl_error_message()) < 2048);
    assert_non_null(strstr(lcl_error_message(), "context 99: context 98: "));
    assert_int_equal(lcl_fail_context(LCL_IO, "%s", huge), LCL_IO);
    assert_true(strlen(lcl_error_message()) == 2047);
    free(huge);
}

static void *fail_elsewhere(void *arg)
{
    *(lcl_status *)arg = LCL_FAIL(LCL_IO, "other thread");
    return NULL;
}

static void errors_belong_to_their_thread(void **state)
{
    (void)state;
    pthread_t thread;
    lcl_status other = LCL_OK;
    assert_int_equal(LCL_FAIL(LCL_RANGE, "mine"), LCL_RANGE);
    assert_int_equal(pthread_create(&thread, NULL, fail_elsewhere, &other), 0);
    pthread_join(thread, NULL);
    assert_int_equal(other, LCL_IO);
    assert_string_equal(lcl_error_message(), "mine");
}

static size_t lay_out(struct lcl_arena *a)
{
    float *x = LCL_ARENA_NEW(a, float, 3);
    double *y = LCL_ARENA_NEW(a, double, 100);
    if (a->base) {
        assert_int_equal((uintptr_t)x % 64, 0);
        assert_int_equal((uintptr_t)y % 64, 0);
        assert_true((char *)y >= (char *)(x + 3));
        memset(x, 1, 3 * sizeof *x);
        memset(y, 2, 100 * sizeof *y);
    } else {
        assert_null(x);
        assert_null(y);
    }
    return a->used_bytes;
}

static void arenas_measure_what_they_use(void **state)
{
    (void)state;
    struct lcl_arena measured, real;
    lcl_arena_measure(&measured, "test");
    size_t bytes = lay_out(&measured);
    ASSERT_OK(lcl_arena_reserve(&real, "test", bytes));
    assert_int_equal(lay_out(&real), bytes);
    size_t mark = lcl_arena_mark(&real);
    assert_int_equal(mark, bytes);
    lcl_arena_release(&real, 0);
    assert_int_equal(lay_out(&real), bytes);
    assert_int_equal(real.peak_bytes, bytes);
    lcl_arena_free(&real);
    assert_null(real.base);
    ASSERT_OK(lcl_arena_reserve(&real, "empty", 0));
    lcl_arena_free(&real);
}

static void arenas_too_large_are_errors(void **state)
{
    (void)state;
    struct lcl_arena a;
    ASSERT_FAILS(lcl_arena_reserve(&a, "activations", (size_t)1 << 60), LCL_MEMORY, "activations");
    assert_non_null(strstr(lcl_error_hint(), "per_device_train_batch_size"));
    lcl_arena_free(&a);
}

/* The vectors that Random123 publishes for philox4x32-10. */
static void philox_gives_the_published_numbers(void **state)
{
    (void)state;
    static const uint32_t cases[3][10] = {
        {0, 0, 0, 0, 0, 0, 0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8},
        {0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff, 0x408f276d,
         0x41c83b0e, 0xa20bc7c6, 0x6d5451fd},
        {0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344, 0xa4093822, 0x299f31d0, 0xd16cfe09,
         0x94fdcceb, 0x5001e420, 0x24126ea1}};
    for (int i = 0; i < 3; i++) {
        uint32_t out[4];
        lcl_philox(cases[i], cases[i] + 4, out);
        assert_memory_equal(out, cases[i] + 6, sizeof out);
    }
}

static void streams_depend_on_every_part_of_their_name(void **state)
{
    (void)state;
    struct lcl_rng streams[] = {
        lcl_rng_stream(1, LCL_RNG_EPISODE, 0, 0),          lcl_rng_stream(2, LCL_RNG_EPISODE, 0, 0),
        lcl_rng_stream(1ull << 32, LCL_RNG_EPISODE, 0, 0), lcl_rng_stream(1, LCL_RNG_EVAL, 0, 0),
        lcl_rng_stream(1, LCL_RNG_EPISODE, 1, 0),          lcl_rng_stream(1, LCL_RNG_EPISODE, 0, 1),
        lcl_rng_stream(1, LCL_RNG_EPISODE, 0, 1ull << 32)};
    enum { N = sizeof streams / sizeof streams[0] };
    uint32_t word[N];
    struct lcl_rng again = lcl_rng_stream(1, LCL_RNG_EPISODE, 0, 0);
    for (int i = 0; i < N; i++) {
        word[i] = lcl_rng_u32(&streams[i]);
        for (int j = 0; j < i; j++) assert_true(word[i] != word[j]);
    }
    assert_int_equal(lcl_rng_u32(&again), word[0]);
    for (int i = 0; i < 100; i++) assert_int_equal(lcl_rng_u32(&again), lcl_rng_u32(&streams[0]));
}

static void draws_have_their_distributions(void **state)
{
    (void)state;
    enum { N = 200000 };
    struct lcl_rng r = lcl_rng_stream(3, LCL_RNG_TEST, 0, 0);
    int count[7] = {0};
    double sum = 0, square = 0, uniform = 0;
    for (int i = 0; i < N; i++) {
        double u = lcl_rng_uniform(&r), z = (double)lcl_rng_normal(&r);
        assert_true(u >= 0 && u < 1);
        uniform += u;
        sum += z;
        square += z * z;
        uint32_t k = lcl_rng_below(&r, 7);
        assert_true(k < 7);
        count[k]++;
    }
    /* Five deviations of each mean. */
    assert_true(fabs(uniform / N - 0.5) < 5 * 0.2887 / sqrt(N));
    assert_true(fabs(sum / N) < 5 / sqrt(N));
    assert_true(fabs(square / N - 1) < 5 * sqrt(2.0 / N));
    for (int k = 0; k < 7; k++) assert_true(abs(count[k] - N / 7) < 5 * sqrt(N / 7.0));
    assert_int_equal(lcl_rng_below(&r, 1), 0);
}

static void shuffles_reach_every_order_equally(void **state)
{
    (void)state;
    struct lcl_rng r = lcl_rng_stream(4, LCL_RNG_TEST, 0, 0);
    int count[27] = {0};
    for (int i = 0; i < 6000; i++) {
        int32_t x[3] = {0, 1, 2};
        lcl_rng_shuffle(&r, x, 3);
        assert_int_equal(x[0] + x[1] + x[2], 3);
        count[9 * x[0] + 3 * x[1] + x[2]]++;
    }
    static const int orders[] = {5, 7, 11, 15, 19, 21};
    for (int i = 0; i < 6; i++) assert_true(abs(count[orders[i]] - 1000) < 150);
    assert_true(lcl_hash_string("orc") != lcl_hash_string("ocr"));
    assert_true(lcl_hash_string("") == lcl_hash_string(""));
}

struct sums {
    int64_t n, grain;
    double part[64];
    int runs[64];
};

static lcl_status sum_chunk(void *ctx, int64_t chunk)
{
    struct sums *s = ctx;
    /* cmocka's asserts may fail in the main thread only. */
    if (lcl_thread_index() < 0 || lcl_thread_index() >= lcl_threads_count() ||
        !lcl_threads_in_chunk())
        return LCL_FAIL(LCL_INTERNAL, "thread %d of %d", lcl_thread_index(), lcl_threads_count());
    s->runs[chunk]++;
    s->part[chunk] = 0;
    for (int64_t i = lcl_chunk_begin(chunk, s->grain); i < lcl_chunk_end(chunk, s->grain, s->n);
         i++)
        s->part[chunk] += 1.0 / (double)(i + 1);
    return LCL_OK;
}

static void sums_do_not_depend_on_the_thread_count(void **state)
{
    (void)state;
    double first = 0;
    for (int threads = 1; threads <= 5; threads++) {
        ASSERT_OK(lcl_threads_start(threads));
        assert_int_equal(lcl_threads_count(), threads);
        for (int again = 0; again < 200; again++) {
            struct sums s = {.n = 1000, .grain = 33};
            int64_t chunks = lcl_chunk_count(s.n, s.grain);
            ASSERT_OK(lcl_parallel(chunks, sum_chunk, &s));
            double total = 0;
            for (int64_t c = 0; c < chunks; c++) {
                assert_int_equal(s.runs[c], 1);
                total += s.part[c];
            }
            if (first == 0) first = total;
            assert_true(total == first);
        }
    }
    assert_false(lcl_threads_in_chunk());
    ASSERT_OK(lcl_parallel(0, sum_chunk, NULL));
    lcl_threads_stop();
    assert_int_equal(lcl_threads_count(), 1);
}

static lcl_status fail_some(void *ctx, int64_t chunk)
{
    (void)ctx;
    return chunk % 5 == 3 ? LCL_FAIL(LCL_NUMERIC, "chunk %d", (int)chunk) : LCL_OK;
}

static void the_first_failing_chunk_is_reported(void **state)
{
    (void)state;
    for (int threads = 1; threads <= 4; threads++) {
        ASSERT_OK(lcl_threads_start(threads));
        for (int again = 0; again < 50; again++) {
            ASSERT_FAILS(lcl_parallel(40, fail_some, NULL), LCL_NUMERIC, "chunk 3");
            assert_string_equal(lcl_error_message(), "chunk 3");
        }
    }
    lcl_threads_stop();
}

static lcl_status nest(void *ctx, int64_t chunk)
{
    struct sums inner = {.n = 10, .grain = 1};
    LCL_TRY(lcl_parallel(10, sum_chunk, &inner));
    ((int *)ctx)[chunk] = inner.runs[9];
    unsigned char *a = lcl_thread_scratch(0, 100), *b = lcl_thread_scratch(1, 100000);
    memset(a, 1, 100);
    memset(b, 2, 100000);
    if ((uintptr_t)a % 64 || a[99] != 1 || lcl_thread_scratch(1, 50) != b)
        return LCL_FAIL(LCL_INTERNAL, "scratch moved or overlaps");
    return LCL_OK;
}

static void nested_work_runs_inline(void **state)
{
    (void)state;
    int ran[20] = {0};
    ASSERT_OK(lcl_threads_start(3));
    ASSERT_OK(lcl_parallel(20, nest, ran));
    for (int i = 0; i < 20; i++) assert_int_equal(ran[i], 1);
    lcl_threads_stop();
}

static void add_row(struct lcl_params *t, const char *name, int64_t n, int64_t k,
                    struct lcl_param_spec spec)
{
    int index;
    ASSERT_OK(lcl_params_add(t, name, k ? 2 : 1, (int64_t[]){n, k}, spec, &index));
    assert_string_equal(t->rows[index].name, name);
}

static void build_table(struct lcl_params *t, bool turned)
{
    const struct lcl_param_spec normal = {
        .part = LCL_PART_TEXT, .init = LCL_INIT_NORMAL, .init_std = 0.5f, .decay = true};
    struct lcl_param_spec other = normal, unused = {.part = LCL_PART_VISION, .unused = true};
    struct lcl_param_spec follower = normal;
    struct lcl_param_spec norm = {.part = LCL_PART_TEXT, .init = LCL_INIT_ONES, .f32 = true};
    other.part = LCL_PART_VISION;
    follower.follows = true;
    lcl_params_init(t);
    if (turned) add_row(t, "vision.a", 5, 3, other);
    add_row(t, "text.q", 5, 3, normal);
    add_row(t, "text.k", 2, 3, follower);
    add_row(t, "text.norm", 7, 0, norm);
    add_row(t, "vision.unused", 4, 0, unused);
}

static void rows_follow_or_align(void **state)
{
    (void)state;
    struct lcl_params t;
    build_table(&t, false);
    assert_int_equal(lcl_params_find(&t, "text.q")->offset, 0);
    assert_int_equal(lcl_params_find(&t, "text.k")->offset, 15); /* q and k are one [7, 3] matrix */
    assert_int_equal(lcl_params_find(&t, "text.norm")->offset, 256);
    assert_int_equal(lcl_params_find(&t, "vision.unused")->offset, 512);
    assert_null(lcl_params_find(&t, "text"));
    assert_int_equal(lcl_params_trainable_count(&t), 15 + 6 + 7);
    lcl_params_set_trainable(&t, LCL_PART_TEXT, false);
    assert_int_equal(lcl_params_trainable_count(&t), 0);
    int index;
    struct lcl_param_spec spec = {0};
    ASSERT_FAILS(lcl_params_add(&t, "text.q", 1, (int64_t[]){1}, spec, &index), LCL_EXISTS,
                 "text.q");
    ASSERT_FAILS(lcl_params_add(&t, "z", 1, (int64_t[]){0}, spec, &index), LCL_RANGE, "z");
    ASSERT_FAILS(lcl_params_add(&t, "z", 2, ((int64_t[]){INT64_MAX / 2, 16}), spec, &index),
                 LCL_RANGE, "z");
    char name[200];
    memset(name, 'n', sizeof name);
    name[199] = 0;
    ASSERT_FAILS(lcl_params_add(&t, name, 1, (int64_t[]){1}, spec, &index), LCL_RANGE, "199 bytes");
    assert_int_equal(t.n_rows, 4);
    lcl_params_free(&t);
}

/* Whether rows are f32 in one piece or, of the table that ops read as bf16, in halves. */
static void first_values_do_not_depend_on_the_order(void **state)
{
    (void)state;
    struct lcl_params t[2];
    struct lcl_arena values[2], measured;
    for (int i = 0; i < 2; i++) {
        build_table(&t[i], i);
        t[i].bf16 = i;
        lcl_arena_measure(&measured, "values");
        lcl_params_layout(&t[i], &measured, NULL, NULL);
        ASSERT_OK(lcl_arena_reserve(&values[i], "values", measured.used_bytes));
        lcl_params_layout(&t[i], &values[i], NULL, NULL);
        assert_null(t[i].grad);
        assert_null(t[i].m);
        lcl_params_initialise(&t[i], 9);
    }
    const float *a = t[0].value;
    const struct lcl_param *q = lcl_params_find(&t[1], "text.q"), *k = q + 1, *norm = q + 2;
    float b[21];
    assert_null(t[0].value16);
    lcl_param_get(&t[1], q, 0, 15, b);
    lcl_param_get(&t[1], k, 0, 6, b + 15);
    assert_memory_equal(a, b, 21 * sizeof(float));
    assert_true(a[0] != a[1] && fabsf(a[0]) < 3);
    assert_true(a[256] == 1 && a[262] == 1 && a[512] == 0);
    for (int i = 0; i < 21; i++) /* k follows q */
        assert_int_equal(lcl_param_value16(&t[1], q)[i], lcl_f32_to_bf16(a[i]));
    assert_true(lcl_param_is_split(&t[1], q) && !lcl_param_is_split(&t[1], norm));
    assert_null(lcl_param_value(&t[1], q));
    assert_null(lcl_param_low16(&t[1], norm));
    assert_int_equal(lcl_param_dtype(&t[1], q), LCL_F32);
    assert_int_equal(t[1].n_values, 7); /* of the norm alone, whose bf16 copies ops may read */
    assert_int_equal(lcl_param_value16(&t[1], norm)[6], 0x3f80);
    assert_int_equal(lcl_params_values_bytes(&t[1]), 4 * 7 + 4 * t[1].n_elements);
    assert_int_equal(lcl_params_values_bytes(&t[0]), 4 * t[0].n_elements);
    uint64_t version = t[0].version, hash = lcl_params_hash(&t[0], LCL_PART_TEXT);
    uint64_t vision = lcl_params_hash(&t[0], LCL_PART_VISION);
    assert_true(hash == lcl_params_hash(&t[1], LCL_PART_TEXT));
    t[0].value[20] = nextafterf(t[0].value[20], 10);
    lcl_params_changed(&t[0]);
    assert_true(t[0].version > version);
    assert_true(lcl_params_hash(&t[0], LCL_PART_TEXT) != hash);
    lcl_param_put(&t[1], k, 5, 1, &t[0].value[20]);
    lcl_params_changed(&t[1]);
    assert_true(lcl_params_hash(&t[1], LCL_PART_TEXT) == lcl_params_hash(&t[0], LCL_PART_TEXT));
    assert_true(lcl_params_hash(&t[0], LCL_PART_VISION) == vision);
    for (int i = 0; i < 2; i++) {
        lcl_params_free(&t[i]);
        lcl_arena_free(&values[i]);
    }
}

static const char *in_temp(const char *name)
{
    static char path[512];
    snprintf(path, sizeof path, "%s/%s", temp_dir(), name);
    return path;
}

static void crc32c_gives_the_published_numbers(void **state)
{
    (void)state;
    unsigned char zeros[32] = {0}, ramp[1001];
    assert_int_equal(lcl_crc32c(0, "123456789", 9), 0xe3069283); /* RFC 3720, B.4 */
    assert_int_equal(lcl_crc32c(0, zeros, 32), 0x8a9136aa);
    assert_int_equal(lcl_crc32c(0, "", 0), 0);
    for (int i = 0; i < 1001; i++) ramp[i] = (unsigned char)(i * 7);
    uint32_t whole = lcl_crc32c(0, ramp + 1, 1000);
    for (size_t cut = 0; cut <= 40; cut++)
        assert_int_equal(lcl_crc32c(lcl_crc32c(0, ramp + 1, cut), ramp + 1 + cut, 1000 - cut),
                         whole);
    /* Pieces, each by itself: at any cut, also where one is empty, or 2^33 zeros. */
    for (size_t cut = 0; cut <= 1000; cut += 1 + cut / 9)
        assert_int_equal(lcl_crc32c_combine(lcl_crc32c(0, ramp + 1, cut),
                                            lcl_crc32c(0, ramp + 1 + cut, 1000 - cut), 1000 - cut),
                         whole);
    assert_int_equal(lcl_crc32c_combine(whole, 0, 0), whole);
    uint32_t zero = lcl_crc32c(0, zeros, 1), wide = zero; /* of 2^k of them */
    for (int k = 0; k < 33; k++) wide = lcl_crc32c_combine(wide, wide, (uint64_t)1 << k);
    assert_int_equal(lcl_crc32c_combine(wide, zero, 1),
                     lcl_crc32c_combine(zero, wide, (uint64_t)1 << 33));
    ramp[500] ^= 1;
    assert_true(lcl_crc32c(0, ramp + 1, 1000) != whole);
}

static void files_are_read_whole_or_refused(void **state)
{
    (void)state;
    char *data;
    size_t size;
    ASSERT_OK(lcl_fs_write_atomic(in_temp("f"), "ab\0c", 4));
    ASSERT_OK(lcl_fs_read(in_temp("f"), 4, &data, &size));
    assert_int_equal(size, 4);
    assert_memory_equal(data, "ab\0c\0", 5);
    free(data);
    ASSERT_FAILS(lcl_fs_read(in_temp("f"), 3, &data, &size), LCL_RANGE, "holds 4 bytes, at most 3");
    ASSERT_FAILS(lcl_fs_read(in_temp("none"), 3, &data, &size), LCL_NOT_FOUND, "none");
    ASSERT_FAILS(lcl_fs_read(temp_dir(), 3, &data, &size), LCL_IO, "Is a directory");
    assert_null(data);
    assert_int_equal(mkfifo(in_temp("pipe"), 0600), 0); /* whose writer would never come */
    struct lcl_map map;
    ASSERT_FAILS(lcl_fs_read(in_temp("pipe"), 3, &data, &size), LCL_IO, "device or a pipe");
    ASSERT_FAILS(lcl_fs_map(in_temp("pipe"), &map), LCL_IO, "device or a pipe");
    ASSERT_OK(lcl_fs_map(in_temp("f"), &map));
    assert_int_equal(map.size, 4);
    assert_memory_equal(map.data, "ab\0c", 4);
    lcl_fs_unmap(&map);
    assert_null(map.data);
    ASSERT_OK(lcl_fs_write_atomic(in_temp("f"), "", 0));
    ASSERT_OK(lcl_fs_map(in_temp("f"), &map));
    assert_int_equal(map.size, 0);
    lcl_fs_unmap(&map);
    ASSERT_FAILS(lcl_fs_map(temp_dir(), &map), LCL_IO, "");
}

static void folders_are_made_listed_and_removed(void **state)
{
    (void)state;
    char **names;
    size_t n;
    ASSERT_OK(lcl_fs_mkdirs(in_temp("d/e/g")));
    ASSERT_OK(lcl_fs_mkdirs(in_temp("d/e/g")));
    assert_true(lcl_fs_is_dir(in_temp("d/e/g")));
    ASSERT_OK(lcl_fs_write_atomic(in_temp("d/b"), "1", 1));
    ASSERT_OK(lcl_fs_write_atomic(in_temp("d/B"), "1", 1));
    ASSERT_OK(lcl_fs_list(in_temp("d"), &names, &n));
    assert_int_equal(n, 3); /* no temporary file is left */
    assert_string_equal(names[0], "B");
    assert_string_equal(names[1], "b");
    assert_string_equal(names[2], "e");
    lcl_fs_list_free(names, n);
    ASSERT_FAILS(lcl_fs_mkdirs(in_temp("d/b/c")), LCL_IO, "make folder");
    ASSERT_FAILS(lcl_fs_list(in_temp("d/x"), &names, &n), LCL_NOT_FOUND, "d/x");
    /* A link is removed, not what it points to. */
    assert_int_equal(symlink("../f", in_temp("d/link")), 0);
    ASSERT_OK(lcl_fs_write_atomic(in_temp("f"), "kept", 4));
    ASSERT_OK(lcl_fs_remove_tree(in_temp("d")));
    assert_false(lcl_fs_exists(in_temp("d")));
    assert_true(lcl_fs_exists(in_temp("f")));
    ASSERT_OK(lcl_fs_remove_tree(in_temp("d")));
    assert_string_equal(lcl_fs_basename("a/b.h5"), "b.h5");
    assert_string_equal(lcl_fs_basename("b.h5"), "b.h5");
}

static void a_failed_write_leaves_the_old_file(void **state)
{
    (void)state;
    struct rlimit old, small = {.rlim_cur = 100, .rlim_max = RLIM_INFINITY};
    char *data, big[1000] = {1};
    size_t size;
    ASSERT_OK(lcl_fs_write_atomic(in_temp("w"), "old", 3));
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
    small.rlim_max = old.rlim_max;
    signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    lcl_status status = lcl_fs_write_atomic(in_temp("w"), big, sizeof big);
    setrlimit(RLIMIT_FSIZE, &old);
    assert_int_equal(status, LCL_IO);
    assert_non_null(strstr(lcl_error_message(), "File too large"));
    ASSERT_OK(lcl_fs_read(in_temp("w"), 100, &data, &size));
    assert_string_equal(data, "old");
    free(data);
    ASSERT_FAILS(lcl_fs_write_atomic(in_temp("no/such/w"), "x", 1), LCL_NOT_FOUND, "no/such/w");
    ASSERT_FAILS(lcl_fs_write_atomic("/dev/null/w", "x", 1), LCL_IO, "/dev/null/w");
}

static void durations_and_sizes_read_well(void **state)
{
    (void)state;
    char buf[24];
    assert_string_equal(lcl_format_duration(3.26, buf), "3.3 s");
    assert_string_equal(lcl_format_duration(45, buf), "45 s");
    assert_string_equal(lcl_format_duration(200, buf), "3 m 20 s");
    assert_string_equal(lcl_format_duration(7500, buf), "2 h 05 m");
    assert_string_equal(lcl_format_duration(NAN, buf), "0.0 s");
    assert_non_null(lcl_format_duration(1e300, buf));
    assert_string_equal(lcl_format_bytes(1536.0 * 1024 * 1024, buf), "1.5 GiB");
    assert_string_equal(lcl_format_bytes(312.0 * 1024 * 1024, buf), "312 MiB");
    assert_string_equal(lcl_format_bytes(7, buf), "7 B");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(errors_keep_message_hint_and_place),
        cmocka_unit_test(errors_are_cut_not_overrun),
        cmocka_unit_test(errors_belong_to_their_thread),
        cmocka_unit_test(arenas_measure_what_they_use),
        cmocka_unit_test(arenas_too_large_are_errors),
        cmocka_unit_test(philox_gives_the_published_numbers),
        cmocka_unit_test(streams_depend_on_every_part_of_their_name),
        cmocka_unit_test(draws_have_their_distributions),
        cmocka_unit_test(shuffles_reach_every_order_equally),
        cmocka_unit_test(sums_do_not_depend_on_the_thread_count),
        cmocka_unit_test(the_first_failing_chunk_is_reported),
        cmocka_unit_test(nested_work_runs_inline),
        cmocka_unit_test(rows_follow_or_align),
        cmocka_unit_test(first_values_do_not_depend_on_the_order),
        cmocka_unit_test(crc32c_gives_the_published_numbers),
        cmocka_unit_test(files_are_read_whole_or_refused),
        cmocka_unit_test(folders_are_made_listed_and_removed),
        cmocka_unit_test(a_failed_write_leaves_the_old_file),
        cmocka_unit_test(durations_and_sizes_read_well),
    };
    return cmocka_run_group_tests_name("core", tests, NULL, NULL);
}
