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

static void *host_reserve(size_t bytes)
{
    void *base = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (base == MAP_FAILED) return NULL;
    madvise(base, bytes, MADV_HUGEPAGE); /* fewer page faults and TLB misses in the hot loops */
    return base;
}

static void host_release(void *base, size_t bytes) { munmap(base, bytes); }

enum { PAGE = 4096 };

static void host_give_back(void *at, size_t bytes)
{
    const uintptr_t page = PAGE, first = ((uintptr_t)at + page - 1) & ~(page - 1);
    const uintptr_t end = ((uintptr_t)at + bytes) & ~(page - 1);
    if (first < end) madvise((void *)first, end - first, MADV_DONTNEED);
}

static const struct lcl_memory host = {host_reserve, host_release, host_give_back};
static const struct lcl_memory *tensors = &host;

void lcl_arena_memory(const struct lcl_memory *m) { tensors = m ? m : &host; }

static lcl_status reserve(struct lcl_arena *a, const struct lcl_memory *memory, const char *name,
                          size_t size_bytes)
{
    *a = (struct lcl_arena){.name = name, .size_bytes = size_bytes, .memory = memory};
    if (size_bytes == 0) return LCL_OK;
    a->base = memory->reserve(size_bytes);
    if (a->base) return LCL_OK;
    char text[24];
    return LCL_FAIL_HINT(
        LCL_MEMORY, "lower per_device_train_batch_size, or set gradient_checkpointing: true",
        "no memory for %s: %s wanted", name, lcl_format_bytes((double)size_bytes, text));
}

lcl_status lcl_arena_reserve(struct lcl_arena *a, const char *name, size_t size_bytes)
{
    return reserve(a, tensors, name, size_bytes);
}

lcl_status lcl_arena_reserve_host(struct lcl_arena *a, const char *name, size_t size_bytes)
{
    return reserve(a, &host, name, size_bytes);
}

void lcl_arena_free(struct lcl_arena *a)
{
    if (a->base) a->memory->release(a->base, a->size_bytes);
    *a = (struct lcl_arena){0};
}

bool lcl_arena_give_back(const struct lcl_arena *a, void *at, size_t bytes)
{
    if (!a->base || !a->memory->give_back) return false;
    a->memory->give_back(at, bytes);
    return true;
}

bool lcl_arena_zero(const struct lcl_arena *a, void *at, size_t bytes)
{
    const size_t edge = bytes < PAGE ? bytes : PAGE;
    if (!lcl_arena_give_back(a, at, bytes)) return false;
    memset(at, 0, edge);
    memset((char *)at + bytes - edge, 0, edge);
    return true;
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
