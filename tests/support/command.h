/* Runs build/lcl (LCL_BIN names another) as a user does, for tests of what it says. */
#ifndef LCL_TESTS_COMMAND_H
#define LCL_TESTS_COMMAND_H

#include "tests/support/support.h"

enum { COMMAND_OUTPUT_BYTES = 1 << 20 };
/* What the last run wrote, cut to fit and ended by a zero byte. */
extern char output[COMMAND_OUTPUT_BYTES];

/* Runs `lcl ARGUMENTS` in a shell, keeps standard output and error together; returns the exit
 * status, and fails the test where a signal ended it. */
int LCL_PRINTF(1, 2) lcl(const char *format, ...);
/* The same with standard output alone. */
int LCL_PRINTF(1, 2) lcl_stdout(const char *format, ...);
/* `BEFORE lcl ARGUMENTS`; both streams. */
int LCL_PRINTF(2, 3) lcl_after(const char *before, const char *format, ...);
/* A launcher of n ranks, as lcl_after's BEFORE, static; skips the test where there is none, or
 * where lcl was built without MPI. */
const char *under_ranks(int n);
/* The last run's output must contain the text. */
void says(const char *text);
/* Path below temp_dir(), in a static buffer of its own for each of 32 calls. */
const char *at(const char *name);
bool same_files(const char *a, const char *b);

#define SUCCEEDS(...)                                                \
    do {                                                             \
        if (lcl(__VA_ARGS__) != 0) fail_msg("it said:\n%s", output); \
    } while (0)
/* Succeeds, and `output` is what it printed without its notes and warnings. */
#define PRINTS(...)                                                         \
    do {                                                                    \
        if (lcl_stdout(__VA_ARGS__) != 0) fail_msg("it said:\n%s", output); \
    } while (0)
/* Fails with the exit status of an error, whose message contains `text`. */
#define FAILS(text, ...) FAILS_AFTER("", text, __VA_ARGS__)
#define FAILS_AFTER(before, text, ...)                                                \
    do {                                                                              \
        int status_ = lcl_after(before, __VA_ARGS__);                                 \
        if (status_ != 1) fail_msg("exit status %d, wanted 1:\n%s", status_, output); \
        says("error: ");                                                              \
        says(text);                                                                   \
    } while (0)

#endif
