/* Ranks as threads of one program: core/comm.h over queues, without a launcher, in every mode.
 *
 * A message is done when it was received, and its bytes are copied then: data that change too early
 * arrive changed, and the thread sanitizer sees it. */
#ifndef LCL_TESTS_FAKE_RANKS_H
#define LCL_TESTS_FAKE_RANKS_H

#include "core/comm.h"

enum { FAKE_RANKS_MOST = 16 };

/* Opens n communicators, runs `run` on a thread for each (c->rank tells which it is), and closes
 * them. A status other than LCL_OK ends the program with its message: other ranks wait for that
 * one. cmocka's asserts are for the main thread: FAKE_CHECK stands for them. n 1: c is NULL. */
void fake_ranks(int n, lcl_status (*run)(struct lcl_comm *c, void *ctx), void *ctx);
/* For lcl_comm_add_filling(): queues of their own. */
const struct lcl_filling *fake_second_filling(void);
/* Messages of work that the second filling has moved since fake_ranks() began. */
int fake_second_count(void);

#define FAKE_CHECK(condition)                                                           \
    do {                                                                                \
        if (!(condition))                                                               \
            return LCL_FAIL(LCL_INTERNAL, "line %d: not so: %s", __LINE__, #condition); \
    } while (0)

#endif
