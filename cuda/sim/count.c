/* Counters: for each kernel, how full its memory sectors were and how often banks of shared memory
 * were in each other's way. Lanes run one after another here, so the n-th run of an instruction by
 * each lane of a warp, since the lanes last met, stands for one request of the warp. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cuda/sim/block.h"

enum { SECTOR_BYTES = 32, BANKS = 32, BANK_BYTES = 4, MAX_LINES = 4096 };

struct line { /* of one instruction of one kernel */
    char kernel[96];
    uintptr_t pc;
    const char *file;
    bool shared, write;
    uint64_t requests, passes, ideal; /* sectors, or turns at the banks */
};

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
            strncmp(lines[i].kernel, b->launch->kernel, sizeof lines[i].kernel - 1) == 0)
            return &lines[i];
    if (n_lines == MAX_LINES) return NULL;
    struct line *l = &lines[n_lines++];
    *l = (struct line){.pc = t->pc, .file = t->file, .shared = t->shared, .write = t->write};
    snprintf(l->kernel, sizeof l->kernel, "%s", b->launch->kernel);
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

static int by_kernel(const void *x, const void *y)
{
    const struct line *a = x, *b = y;
    int names = strcmp(a->kernel, b->kernel);
    if (names) return names;
    if (a->shared != b->shared) return a->shared ? 1 : -1;
    return (b->passes > a->passes) - (b->passes < a->passes);
}

static void report(void)
{
    FILE *f = fopen(path, "w");
    if (!f) {
        perror(path);
        return;
    }
    qsort(lines, (size_t)n_lines, sizeof *lines, by_kernel);
    fprintf(f, "# kernel  memory  access  requests  passes  ideal  full%%  where\n"
               "# passes: sectors of 32 bytes (global) or turns at the banks (shared)\n");
    for (int i = 0; i < n_lines; i++) {
        const struct line *l = &lines[i];
        char place[320];
        if (l->file)
            snprintf(place, sizeof place, "%s:%lu", l->file, (unsigned long)l->pc);
        else
            snprintf(place, sizeof place, "%s", lcl_sim_where(l->pc));
        fprintf(f, "%s %s %s %llu %llu %llu %.1f %s\n", l->kernel, l->shared ? "shared" : "global",
                l->write ? "write" : "read", (unsigned long long)l->requests,
                (unsigned long long)l->passes, (unsigned long long)l->ideal,
                100.0 * (double)l->ideal / (double)l->passes, place);
    }
    fclose(f);
}
