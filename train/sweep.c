#include "train/sweep.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/config.h"
#include "core/fs.h"

enum { TEXT_BYTES = 4096 };

/* ---- placeholders ---- */

struct scope {
    const struct lcl_sweep *s;
    const struct lcl_sweep_unit *units; /* those so far */
    int n_units;
    const struct lcl_sweep_run *run;
    int64_t seed;
    int *level; /* raised above those of the units that are named */
};

/* The unit of a run with this seed, or with its only one. */
static const struct lcl_sweep_unit *find_unit(const struct scope *c, const char *name)
{
    for (int i = 0; i < c->n_units; i++) {
        const struct lcl_sweep_run *run = &c->s->runs[c->units[i].run];
        if (strcmp(run->name, name) == 0 && (c->units[i].seed == c->seed || run->n_seeds == 1))
            return &c->units[i];
    }
    return NULL;
}

static lcl_status fill_one(const struct scope *c, const char *name, char *out, size_t size)
{
    int n;
    if (strcmp(name, "seed") == 0) {
        n = snprintf(out, size, "%lld", (long long)c->seed);
    } else if (strcmp(name, "output_dir") == 0) {
        n = snprintf(out, size, "%s", c->s->output_dir);
    } else {
        const struct lcl_sweep_unit *unit = find_unit(c, name);
        if (!unit)
            return LCL_FAIL_HINT(LCL_CONFIG,
                                 "{seed}, {output_dir}, or {NAME} of a run above this one that has "
                                 "the same seed or a single one",
                                 "%s:%d: {%s} is nothing that run %s can begin with", c->s->path,
                                 c->run->line, name, c->run->name);
        if (*c->level <= unit->level) *c->level = unit->level + 1;
        n = snprintf(out, size, "%s", unit->model);
    }
    if (n < 0 || (size_t)n >= size)
        return LCL_FAIL(LCL_RANGE, "%s:%d: a setting is too long", c->s->path, c->run->line);
    return LCL_OK;
}

/* `text` with {placeholders} filled in, malloc'd. */
static lcl_status fill(const struct scope *c, const char *text, char **out)
{
    char filled[TEXT_BYTES], name[LCL_SWEEP_NAME_BYTES];
    size_t at = 0;
    while (*text) {
        size_t n = *text == '{' ? strcspn(text, "}") : 0;
        if (n > 1 && text[n] == '}' && n - 1 < sizeof name) {
            memcpy(name, text + 1, n - 1);
            name[n - 1] = '\0';
            LCL_TRY(fill_one(c, name, filled + at, sizeof filled - at));
            at += strlen(filled + at);
            text += n + 1;
        } else if (at + 1 < sizeof filled) {
            filled[at++] = *text++;
        } else {
            return LCL_FAIL(LCL_RANGE, "%s:%d: a setting is too long", c->s->path, c->run->line);
        }
    }
    filled[at] = '\0';
    *out = strdup(filled);
    return *out ? LCL_OK : LCL_FAIL(LCL_MEMORY, "%s: no memory", c->s->path);
}

static lcl_status add_filled(const struct scope *c, const struct lcl_sweep_sets *from,
                             struct lcl_sweep_sets *to)
{
    for (int i = 0; i < from->n; i++) {
        if (to->n == LCL_SWEEP_MAX_SETS)
            return LCL_FAIL(LCL_RANGE, "%s:%d: more than %d settings in all", c->s->path,
                            c->run->line, LCL_SWEEP_MAX_SETS);
        LCL_TRY(fill(c, from->v[i], &to->v[to->n]));
        to->n++;
    }
    return LCL_OK;
}

static lcl_status add_text(const struct scope *c, char *text, struct lcl_sweep_sets *to)
{
    if (!text || to->n == LCL_SWEEP_MAX_SETS) {
        free(text);
        return LCL_FAIL(LCL_MEMORY, "%s:%d: no room for a setting", c->s->path, c->run->line);
    }
    to->v[to->n++] = text;
    return LCL_OK;
}

/* ---- units ---- */

/* Reads the config as the unit will: a wrong key is found before the first run. */
static lcl_status check_config(const struct scope *c, const struct lcl_sweep_unit *unit)
{
    struct lcl_run_config *config = malloc(sizeof *config);
    if (!config) return LCL_FAIL(LCL_MEMORY, "%s: no memory", c->s->path);
    lcl_status status = LCL_OK;
    for (int i = -1; i < c->run->n_evals && status == LCL_OK; i++) {
        struct lcl_sweep_sets both = unit->sets; /* borrows the texts */
        for (int k = 0; i >= 0 && k < unit->evals[i].n; k++) {
            if (both.n == LCL_SWEEP_MAX_SETS) break;
            both.v[both.n++] = unit->evals[i].v[k];
        }
        status = lcl_config_load(c->run->config, (const char *const *)both.v, both.n, config);
        if (status != LCL_OK && i >= 0)
            status = lcl_fail_context(status, "%s:%d: evaluation %s of run %s", c->s->path,
                                      c->run->line, c->run->evals[i].row, c->run->name);
        else if (status != LCL_OK)
            status =
                lcl_fail_context(status, "%s:%d: run %s", c->s->path, c->run->line, c->run->name);
    }
    free(config);
    return status;
}

static lcl_status make_unit(struct scope *c, struct lcl_sweep_unit *unit)
{
    const struct lcl_sweep_run *run = c->run;
    c->level = &unit->level;
    unit->evals = calloc((size_t)run->n_evals + 1, sizeof *unit->evals);
    unit->dir = lcl_strdupf("%s/%s/seed-%lld", c->s->output_dir, run->name, (long long)unit->seed);
    if (!unit->evals || !unit->dir) return LCL_FAIL(LCL_MEMORY, "%s: no memory", c->s->path);
    LCL_TRY(fill(c, run->model ? run->model : unit->dir, &unit->model));
    if (run->config) {
        LCL_TRY(add_filled(c, &c->s->sets, &unit->sets));
        LCL_TRY(add_filled(c, &run->sets, &unit->sets));
        LCL_TRY(add_text(c, lcl_strdupf("seed=%lld", (long long)unit->seed), &unit->sets));
        LCL_TRY(add_text(c, lcl_strdupf("output_dir=%s", unit->dir), &unit->sets));
    }
    for (int i = 0; i < run->n_evals; i++) {
        if (!run->config) LCL_TRY(add_filled(c, &c->s->sets, &unit->evals[i]));
        if (!run->config) LCL_TRY(add_filled(c, &run->sets, &unit->evals[i]));
        LCL_TRY(add_filled(c, &run->evals[i].sets, &unit->evals[i]));
    }
    return run->config ? check_config(c, unit) : LCL_OK;
}

static bool has_seed(const struct lcl_sweep_run *run, int64_t seed)
{
    for (int i = 0; i < run->n_seeds; i++)
        if (run->seeds[i] == seed) return true;
    return false;
}

/* Every seed of any run, those of the sweep first. */
static int all_seeds(const struct lcl_sweep *s, int64_t *seeds, int max)
{
    int n = s->n_seeds;
    memcpy(seeds, s->seeds, (size_t)n * sizeof *seeds);
    for (int r = 0; r < s->n_runs; r++)
        for (int i = 0; i < s->runs[r].n_seeds; i++) {
            bool seen = false;
            for (int k = 0; k < n; k++) seen = seen || seeds[k] == s->runs[r].seeds[i];
            if (!seen && n < max) seeds[n++] = s->runs[r].seeds[i];
        }
    return n;
}

lcl_status lcl_sweep_units(const struct lcl_sweep *s, struct lcl_sweep_unit **units, int *n)
{
    enum { MAX_SEEDS = 4 * LCL_SWEEP_MAX_SEEDS };
    int64_t seeds[MAX_SEEDS];
    int n_seeds = all_seeds(s, seeds, MAX_SEEDS);
    *n = 0;
    *units = calloc((size_t)s->n_runs * (size_t)n_seeds, sizeof **units);
    if (!*units) return LCL_FAIL(LCL_MEMORY, "%s: no memory", s->path);
    for (int k = 0; k < n_seeds; k++)
        for (int r = 0; r < s->n_runs; r++) {
            if (!has_seed(&s->runs[r], seeds[k])) continue;
            struct scope c = {s, *units, *n, &s->runs[r], seeds[k], NULL};
            struct lcl_sweep_unit *unit = &(*units)[(*n)++];
            *unit = (struct lcl_sweep_unit){.run = r, .seed = seeds[k]};
            lcl_status status = make_unit(&c, unit);
            if (status == LCL_OK) continue;
            lcl_sweep_units_free(s, *units, *n);
            *units = NULL;
            *n = 0;
            return status;
        }
    return LCL_OK;
}

void lcl_sweep_units_free(const struct lcl_sweep *s, struct lcl_sweep_unit *units, int n)
{
    for (int i = 0; i < n; i++) {
        for (int k = 0; units[i].evals && k < s->runs[units[i].run].n_evals; k++)
            lcl_sweep_sets_free(&units[i].evals[k]);
        free(units[i].evals);
        lcl_sweep_sets_free(&units[i].sets);
        free(units[i].dir);
        free(units[i].model);
    }
    free(units);
}
