/* Damaged files of every kind that a user may hand over: the answer is a result or an error with a
 * message, never a crash or a hang (the sanitizers' runs see what a plain one would not).
 *
 * FUZZ_SECONDS a target (default 1), FUZZ_FIRST the number of the first case. The case at work lies
 * in build/fuzz/TARGET/: after a crash it is the culprit. */
#include "core/log.h"
#include "core/rng.h"
#include "tests/fuzz/fuzz.h"

enum { MOST_EDITS = 6 };

/* ---- mutations ---- */

static size_t at_random(struct lcl_rng *r, size_t n)
{
    return n ? lcl_rng_below(r, (uint32_t)n) : 0;
}

/* Overwrites 1, 2, 4 or 8 bytes with a number that length fields trip over, in either order. */
static void put_number(struct lcl_rng *r, struct fuzz_file *f)
{
    static const uint64_t numbers[] = {0,          1,          0x7f,      0x80,
                                       0xff,       0x7fff,     0xffff,    0x7fffffff,
                                       0x80000000, 0xffffffff, INT64_MAX, UINT64_MAX};
    size_t width = (size_t)1 << lcl_rng_below(r, 4), at = at_random(r, f->size);
    uint64_t x = numbers[at_random(r, sizeof numbers / sizeof *numbers)];
    bool big_end = lcl_rng_below(r, 2);
    for (size_t i = 0; i < width && at + i < f->size; i++)
        f->bytes[at + i] = (uint8_t)(x >> 8 * (big_end ? width - 1 - i : i));
}

/* Moves what lies behind `at` by `by` bytes; a gap keeps what it held. */
static void shift(struct fuzz_file *f, size_t at, ptrdiff_t by)
{
    if (by < 0) {
        size_t cut = (size_t)-by < f->size - at ? (size_t)-by : f->size - at;
        memmove(f->bytes + at, f->bytes + at + cut, f->size - at - cut);
        f->size -= cut;
    } else if (f->size + (size_t)by <= FUZZ_MOST_BYTES) {
        memmove(f->bytes + at + by, f->bytes + at, f->size - at);
        f->size += (size_t)by;
    }
}

/* A word that one of the text formats knows, or knows to be trouble. */
static void put_word(struct lcl_rng *r, const struct fuzz_target *t, struct fuzz_file *f)
{
    static const char *const words[] = {"-1",   "1e999",    "99999999999999999999",
                                        "null", "{}",       "[[[[[[[[",
                                        "\"",   "\\u0000",  "\n- ",
                                        ": ",   "&a *a",    "\xff\xfe",
                                        "nan",  "true",     "<unk>",
                                        "F32",  "!!binary "};
    size_t n_words = 0;
    while (t->words && t->words[n_words]) n_words++;
    const char *word = n_words && lcl_rng_below(r, 2)
                           ? t->words[at_random(r, n_words)]
                           : words[at_random(r, sizeof words / sizeof *words)];
    size_t n = strlen(word), at = at_random(r, f->size + 1);
    if (lcl_rng_below(r, 2)) shift(f, at, (ptrdiff_t)n);
    for (size_t i = 0; i < n && at + i < f->size; i++) f->bytes[at + i] = (uint8_t)word[i];
}

static void edit(struct lcl_rng *r, const struct fuzz_target *t, struct fuzz_file *f)
{
    size_t at = at_random(r, f->size), n = 1 + at_random(r, 32);
    switch (lcl_rng_below(r, 7)) {
    case 0:
        if (f->size) f->bytes[at] ^= (uint8_t)(1u << lcl_rng_below(r, 8));
        break;
    case 1:
        if (f->size) f->bytes[at] = (uint8_t)lcl_rng_u32(r);
        break;
    case 2:
        put_number(r, f);
        break;
    case 3:
        put_word(r, t, f);
        break;
    case 4:
        shift(f, at, -(ptrdiff_t)n);
        break;
    case 5: /* twice the same */
        shift(f, at, (ptrdiff_t)n);
        break;
    default:
        if (lcl_rng_below(r, 4) == 0) f->size = at;
        break;
    }
}

/* ---- running ---- */

/* The seeds as they are must be read; then mutations of them until the time is up. */
static void fuzz(void **state)
{
    const struct fuzz_target *t = *state;
    const char *seconds = getenv("FUZZ_SECONDS"), *first = getenv("FUZZ_FIRST");
    uint64_t i = first ? strtoull(first, NULL, 10) : 0, failed = 0, begin = i;
    struct fuzz_file seeds[FUZZ_MOST_SEEDS], f = {malloc(FUZZ_MOST_BYTES), 0};
    assert_non_null(f.bytes);
    size_t n_seeds = fuzz_begin(t, seeds);
    for (size_t s = 0; s < n_seeds; s++) ASSERT_OK(fuzz_read(t, &seeds[s]));
    double end = lcl_time_s() + (seconds ? atof(seconds) : 1);
    for (; lcl_time_s() < end; i++) {
        struct lcl_rng r = lcl_rng_stream(1, LCL_RNG_TEST, 0, i);
        const struct fuzz_file *seed = &seeds[at_random(&r, n_seeds)];
        memcpy(f.bytes, seed->bytes, seed->size);
        f.size = seed->size;
        for (uint32_t e = 1 + lcl_rng_below(&r, MOST_EDITS); e > 0; e--) edit(&r, t, &f);
        if (!t->file[0]) fuzz_write(fuzz_path("case"), &f);
        if (fuzz_read(t, &f) == LCL_OK) continue;
        failed++;
        if (lcl_error_message()[0] == '\0')
            fail_msg("%s, case %llu: an error without a message", t->name, (unsigned long long)i);
    }
    print_message("%s: %llu cases, %llu of them refused\n", t->name,
                  (unsigned long long)(i - begin), (unsigned long long)failed);
    if (i - begin > 500) assert_in_range(failed, 1, i - begin - 1); /* else it tests nothing */
    remove(fuzz_path(t->file[0] ? t->file : "case"));
    free(f.bytes);
    for (size_t s = 0; s < n_seeds; s++) free(seeds[s].bytes);
}

#define FUZZ_TEST(name) cmocka_unit_test_prestate(fuzz, (void *)(uintptr_t)&fuzz_##name),

int main(void)
{
    struct CMUnitTest tests[] = {FUZZ_TARGETS(FUZZ_TEST)};
    for (size_t i = 0; i < fuzz_n_targets; i++) tests[i].name = fuzz_targets[i]->name;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
