#include "core/arena.h"

#include <assert.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>

#include "core/log.h"

void lcl_arena_measure(struct lcl_arena *a, const char *name)
{
    *a = (struct lcl_arena){.name = name, .size_bytes = SIZE_MAX};
}

lcl_status lcl_arena_reserve(struct lcl_arena *a, const char *name, size_t size_bytes)
{
    *a = (struct lcl_arena){.name = name, .size_bytes = size_bytes};
    if (size_bytes == 0) return LCL_OK;
    void *base = mmap(NULL, size_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (base == MAP_FAILED) {
        char text[24];
        return LCL_FAIL_HINT(
            LCL_MEMORY, "lower per_device_train_batch_size, or set gradient_checkpointing: true",
            "no memory for %s: %s wanted", name, lcl_format_bytes((double)size_bytes, text));
    }
    madvise(base, size_bytes,
            MADV_HUGEPAGE); /* fewer page faults and TLB misses in the hot loops */
    a->base = base;
    return LCL_OK;
}

void lcl_arena_free(struct lcl_arena *a)
{
    if (a->base) munmap(a->base, a->size_bytes);
    *a = (struct lcl_arena){0};
}

void *lcl_arena_alloc(struct lcl_arena *a, size_t count, size_t elem_bytes)
{
    assert(elem_bytes == 0 || count <= (SIZE_MAX / 2) / elem_bytes);
    size_t bytes = (count * elem_bytes + LCL_ARENA_ALIGN - 1) / LCL_ARENA_ALIGN * LCL_ARENA_ALIGN;
    size_t begin = a->used_bytes;
    assert(bytes <= a->size_bytes - begin && "arena layout larger than its measure");
    a->used_bytes += bytes;
    if (a->used_bytes > a->peak_bytes) a->peak_bytes = a->used_bytes;
    return a->base ? a->base + begin : NULL;
}
