/* Counters: for each kernel, how full its memory sectors were and how often banks of shared memory
 * were in each other's way. Lanes run one after another here, so the n-th run of an instruction by
 * each lane of a warp, since the lanes last met, stands for one request of the warp. */
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cuda/sim/block.h"

enum { SECTOR_BYTES = 32, BANKS = 32, BANK_BYTES = 4, MAX_LINES = 4096, MAX_KERNELS = 256 };

struct kernel {
    uintptr_t entry;
    uint64_t launches, blocks;
    unsigned threads;    /* a block, at most */
    size_t shared_bytes; /* a block, at most */
};

struct line { /* of one instruction of one kernel */
    uintptr_t entry;
    uintptr_t pc;
    const char *file;
    bool shared, write;
    uint64_t requests, passes, ideal; /* sectors, or turns at the banks */
};

static struct kernel kernels[MAX_KERNELS];
static int n_kernels;
static struct line lines[MAX_LINES];
static int n_lines;
static const char *path;

static void report(void);

bool lcl_sim_counting(void)
{
    static int known;
    if (!known) {
        path = getenv("LCL_SIM_COUNT");
        known = path && *path ? 1 : -1;
        if (known == 1) atexit(report);
    }
    return known == 1;
}

void lcl_sim_count_launch(const struct lcl_sim_launch *l)
{
    int i = 0;
    while (i < n_kernels && kernels[i].entry != l->entry) i++;
    if (i == MAX_KERNELS) return;
    if (i == n_kernels) kernels[n_kernels++] = (struct kernel){.entry = l->entry};
    struct kernel *k = &kernels[i];
    const unsigned threads = l->block.x * l->block.y * l->block.z;
    k->launches++;
    k->blocks += (uint64_t)l->grid.x * l->grid.y * l->grid.z;
    if (threads > k->threads) k->threads = threads;
    if (l->shared_bytes > k->shared_bytes) k->shared_bytes = l->shared_bytes;
}

void lcl_sim_count(struct lcl_sim_block *b, struct lcl_sim_trace access)
{
    struct lcl_sim_thread *t = b->self;
    if (t->n_traces == t->cap_traces) {
        size_t cap = t->cap_traces ? 2 * t->cap_traces : 256;
        struct lcl_sim_trace *grown = realloc(t->traces, cap * sizeof *grown);
        if (!grown) return;
        t->traces = grown;
        t->cap_traces = cap;
    }
    access.order = (uint32_t)t->n_traces;
    access.lane = (uint16_t)(t->index % LCL_SIM_WARP);
    t->traces[t->n_traces++] = access;
}

static bool same_instruction(const struct lcl_sim_trace *a, const struct lcl_sim_trace *b)
{
    return a->pc == b->pc && a->file == b->file && a->shared == b->shared;
}

static int by_instruction(const struct lcl_sim_trace *a, const struct lcl_sim_trace *b)
{
    if (a->file != b->file) return a->file < b->file ? -1 : 1;
    if (a->pc != b->pc) return a->pc < b->pc ? -1 : 1;
    if (a->shared != b->shared) return a->shared ? 1 : -1;
    return (a->order > b->order) - (a->order < b->order);
}

static int by_order(const void *x, const void *y) { return by_instruction(x, y); }

static int by_request(const void *x, const void *y)
{
    const struct lcl_sim_trace *a = x, *b = y;
    int order = by_instruction(a, b);
    return order ? order : (a->lane > b->lane) - (a->lane < b->lane);
}

static struct line *line_of(const struct lcl_sim_block *b, const struct lcl_sim_trace *t)
{
    for (int i = 0; i < n_lines; i++)
        if (lines[i].pc == t->pc && lines[i].file == t->file && lines[i].shared == t->shared &&
            lines[i].entry == b->launch->entry)
            return &lines[i];
    if (n_lines == MAX_LINES) return NULL;
    struct line *l = &lines[n_lines++];
    *l = (struct line){.entry = b->launch->entry,
                       .pc = t->pc,
                       .file = t->file,
                       .shared = t->shared,
                       .write = t->write};
    return l;
}

static int compare_u64(const void *x, const void *y)
{
    uint64_t a = *(const uint64_t *)x, b = *(const uint64_t *)y;
    return (a > b) - (a < b);
}

static int distinct(uint64_t *x, int n)
{
    qsort(x, (size_t)n, sizeof *x, compare_u64);
    int d = 0;
    for (int i = 0; i < n; i++)
        if (!d || x[d - 1] != x[i]) x[d++] = x[i];
    return d;
}

/* Sectors of one request, and those that its distinct bytes would fill. */
static void count_global(struct line *l, const struct lcl_sim_trace *t, int n)
{
    uint64_t sector[LCL_SIM_WARP], place[LCL_SIM_WARP];
    for (int i = 0; i < n; i++) {
        sector[i] = t[i].at / SECTOR_BYTES;
        place[i] = t[i].at;
    }
    uint64_t bytes = (uint64_t)distinct(place, n) * t[0].bytes;
    l->passes += (uint64_t)distinct(sector, n);
    l->ideal += (bytes + SECTOR_BYTES - 1) / SECTOR_BYTES;
}

/* Turns at the banks: lanes go in groups of 128 bytes, and a bank serves one word a turn. */
static void count_shared(struct line *l, const struct lcl_sim_trace *t, int n)
{
    int group = (int)(BANKS * BANK_BYTES / (t[0].bytes < 4 ? 4 : t[0].bytes));
    for (int begin = 0; begin < n; begin += group) {
        uint64_t word[LCL_SIM_WARP * 4];
        int words = 0, turns = 0, of_bank[BANKS] = {0};
        for (int i = begin; i < n && i < begin + group; i++)
            for (uintptr_t at = t[i].at; at < t[i].at + t[i].bytes; at += BANK_BYTES)
                word[words++] = at / BANK_BYTES;
        words = distinct(word, words);
        for (int i = 0; i < words; i++)
            if (++of_bank[word[i] % BANKS] > turns) turns = of_bank[word[i] % BANKS];
        l->passes += (uint64_t)turns;
        l->ideal += 1;
    }
}

void lcl_sim_count_warp(struct lcl_sim_block *b, unsigned w)
{
    size_t n = 0;
    struct lcl_sim_thread *lanes = &b->threads[w * LCL_SIM_WARP];
    unsigned n_lanes = b->n_threads - w * LCL_SIM_WARP;
    if (n_lanes > LCL_SIM_WARP) n_lanes = LCL_SIM_WARP;
    for (unsigned i = 0; i < n_lanes; i++) n += lanes[i].n_traces;
    if (!n) return;
    struct lcl_sim_trace *all = malloc(n * sizeof *all);
    n = 0;
    for (unsigned i = 0; i < n_lanes; i++) {
        struct lcl_sim_thread *t = &lanes[i];
        qsort(t->traces, t->n_traces, sizeof *t->traces, by_order);
        uint32_t run = 0;
        for (size_t k = 0; k < t->n_traces; k++) {
            run = k && same_instruction(&t->traces[k], &t->traces[k - 1]) ? run + 1 : 0;
            if (!all) continue;
            all[n] = t->traces[k];
            all[n++].order = run;
        }
        t->n_traces = 0;
    }
    if (!all) return;
    qsort(all, n, sizeof *all, by_request);
    for (size_t i = 0, end; i < n; i = end) {
        for (end = i + 1;
             end < n && same_instruction(&all[end], &all[i]) && all[end].order == all[i].order;)
            end++;
        struct line *l = line_of(b, &all[i]);
        if (!l) continue;
        l->requests++;
        if (l->shared)
            count_shared(l, all + i, (int)(end - i));
        else
            count_global(l, all + i, (int)(end - i));
    }
    free(all);
}

void lcl_sim_count_bulk(struct lcl_sim_block *b, const void *from, size_t bytes,
                        const struct lcl_sim_site *site)
{
    const uintptr_t at = (uintptr_t)from;
    struct lcl_sim_trace t = {.pc = (uintptr_t)site->line, .at = at, .file = site->file};
    struct line *l = line_of(b, &t);
    if (!l || !bytes) return;
    l->requests++;
    l->passes += (at + bytes - 1) / SECTOR_BYTES - at / SECTOR_BYTES + 1;
    l->ideal += (bytes + SECTOR_BYTES - 1) / SECTOR_BYTES;
}

/* --- the report --- */

enum { NAME_BYTES = 320 };
struct name {
    char function[NAME_BYTES], place[NAME_BYTES];
};

/* Function and "file:line" of program addresses, all of this program, by one run of addr2line. */
static void names_of(const uintptr_t *pc, int n, struct name *out)
{
    Dl_info info;
    const size_t cap = 512 + (size_t)n * 20;
    char *command = malloc(cap);
    memset(out, 0, (size_t)n * sizeof *out);
    if (!command || !n || !dladdr((void *)pc[0], &info) || !info.dli_fname) goto out;
    int at = snprintf(command, 512, "addr2line -f -C -e '%.400s'", info.dli_fname);
    for (int i = 0; i < n; i++)
        at += snprintf(command + at, cap - (size_t)at, " %#lx",
                       (unsigned long)(pc[i] - (uintptr_t)info.dli_fbase));
    FILE *f = popen(command, "r");
    if (!f) goto out;
    for (int i = 0; i < n; i++) {
        if (!fgets(out[i].function, NAME_BYTES, f) || !fgets(out[i].place, NAME_BYTES, f)) break;
        out[i].function[strcspn(out[i].function, "\n")] = 0;
        out[i].place[strcspn(out[i].place, "\n")] = 0;
        char *more = strstr(out[i].place, " (discriminator");
        if (more) *more = 0;
    }
    pclose(f);
out:
    free(command);
}

static int by_kernel(const void *x, const void *y)
{
    const struct line *a = x, *b = y;
    if (a->entry != b->entry) return a->entry < b->entry ? -1 : 1;
    if (a->shared != b->shared) return a->shared ? 1 : -1;
    return (b->passes > a->passes) - (b->passes < a->passes);
}

static void report_lines(FILE *f, const struct kernel *k, const char *kernel,
                         const struct name *names)
{
    for (int i = 0; i < n_lines; i++) {
        const struct line *l = &lines[i];
        if (l->entry != k->entry) continue;
        char place[NAME_BYTES + 16];
        if (l->file)
            snprintf(place, sizeof place, "%s:%lu", l->file, (unsigned long)l->pc);
        else
            snprintf(place, sizeof place, "%s", names[i].place);
        fprintf(f, "%s\t%s\t%s\t%llu\t%llu\t%llu\t%s\n", kernel, l->shared ? "shared" : "global",
                l->write ? "write" : "read", (unsigned long long)l->requests,
                (unsigned long long)l->passes, (unsigned long long)l->ideal, place);
    }
}

static void report(void)
{
    static uintptr_t pc[MAX_LINES + MAX_KERNELS];
    static struct name names[MAX_LINES + MAX_KERNELS];
    FILE *f = fopen(path, "w");
    if (!f) {
        perror(path);
        return;
    }
    qsort(lines, (size_t)n_lines, sizeof *lines, by_kernel);
    /* A return address is past the call: one byte before it is in its line. */
    for (int i = 0; i < n_lines; i++) pc[i] = lines[i].file ? kernels[0].entry : lines[i].pc - 1;
    for (int i = 0; i < n_kernels; i++) pc[n_lines + i] = kernels[i].entry;
    names_of(pc, n_lines + n_kernels, names);
    fprintf(f, "# kernel\tlaunch\tlaunches\tblocks\tthreads a block\tbytes of shared memory\n"
               "# kernel\tmemory\taccess\trequests\tpasses\tideal\twhere\n"
               "# passes: sectors of 32 bytes (global) or turns at the banks (shared)\n");
    for (int i = 0; i < n_kernels; i++) {
        const struct kernel *k = &kernels[i];
        const char *name = names[n_lines + i].function;
        fprintf(f, "%s\tlaunch\t%llu\t%llu\t%u\t%zu\n", name, (unsigned long long)k->launches,
                (unsigned long long)k->blocks, k->threads, k->shared_bytes);
        report_lines(f, k, name, names);
    }
    fclose(f);
}
