/* Bump arenas: one reservation for each lifetime (parameters, gradients, optimizer, activations,
 * scratch).
 *
 * An arena that was only `measured` hands out NULL and counts; running the same layout code on a
 * measuring arena therefore tells how many bytes it needs before anything is reserved. This is what
 * `lcl plan` prints. */
#ifndef LCL_CORE_ARENA_H
#define LCL_CORE_ARENA_H

#include "core/status.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { LCL_ARENA_ALIGN = 64 }; /* bytes; every block starts on a cache line */

/* Where a backend keeps tensors; the host may read and write them, but only while no op runs. */
struct lcl_memory {
    void *(*reserve)(size_t bytes); /* NULL where there is not as much */
    void (*release)(void *base, size_t bytes);
    /* Whole pages of [at, at + bytes) hold zeros from now on, and take no room until they are
     * written; NULL: memory stays, with what it holds. */
    void (*give_back)(void *at, size_t bytes);
};
/* Arenas reserved from now on lie there; NULL: in the host's memory, as at first. */
void lcl_arena_memory(const struct lcl_memory *m);

struct lcl_arena {
    const char *name;
    unsigned char *base; /* NULL while measuring */
    size_t size_bytes;   /* SIZE_MAX while measuring */
    size_t used_bytes;
    size_t peak_bytes;
    const struct lcl_memory *memory;
};

void lcl_arena_measure(struct lcl_arena *a, const char *name);
/* Reserves size_bytes (zeroed on first touch by the kernel). LCL_MEMORY with a hint when it cannot
 * be had. */
LCL_CHECKED lcl_status lcl_arena_reserve(struct lcl_arena *a, const char *name, size_t size_bytes);
/* The same in the host's memory, whatever the backend. */
LCL_CHECKED lcl_status lcl_arena_reserve_host(struct lcl_arena *a, const char *name,
                                              size_t size_bytes);
void lcl_arena_free(struct lcl_arena *a);
/* Lets go of what [at, at + bytes) of the arena holds, where the memory can: false where not. */
bool lcl_arena_zero(const struct lcl_arena *a, void *at, size_t bytes); /* and zeros around them */
bool lcl_arena_give_back(const struct lcl_arena *a, void *at, size_t bytes);

/* Returns 64-byte-aligned memory of count * elem_bytes, not zeroed; NULL while measuring.
 * Running over the reservation is a bug of the layout (asserted), never of the input. */
void *lcl_arena_alloc(struct lcl_arena *a, size_t count, size_t elem_bytes);
#define LCL_ARENA_NEW(arena, type, count) ((type *)lcl_arena_alloc((arena), (count), sizeof(type)))

static inline size_t lcl_arena_mark(const struct lcl_arena *a) { return a->used_bytes; }
static inline void lcl_arena_release(struct lcl_arena *a, size_t mark) { a->used_bytes = mark; }

#ifdef __cplusplus
}
#endif
#endif
