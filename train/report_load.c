/* Gathers what a report shows from a run or demo folder. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/fs.h"
#include "core/log.h"
#include "data/pack.h"
#include "train/report.h"
#include "train/report_parts.h"

#define MAX_CONFIG_BYTES ((size_t)1 << 20)
#define MAX_SHEET_BYTES ((size_t)32 << 20)
enum { MAX_VIEWS_READ = 20000, SHOWN = LCL_REPORT_EPISODES };

void report_note(struct report *r, const char *fmt, ...)
{
    char text[2400];
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    lcl_text_puts(&r->notes, "<li>");
    lcl_text_html(&r->notes, text);
    lcl_text_puts(&r->notes, "</li>\n");
}

/* A file that is there and cannot be used: on the page and as a warning. */
static void note_damage(struct report *r)
{
    lcl_log_warn("%s", lcl_error_message());
    report_note(r, "Left out, as it could not be read: %s", lcl_error_message());
}

static char *join(const char *dir, const char *name) { return lcl_strdupf("%s/%s", dir, name); }

/* The text of dir/config.yaml, or NULL. */
static char *load_config(struct report *r, const char *dir)
{
    char *path = join(dir, "config.yaml"), *text = NULL;
    size_t size = 0;
    if (path && lcl_fs_exists(path) &&
        lcl_fs_read(path, MAX_CONFIG_BYTES, &text, &size) != LCL_OK) {
        note_damage(r);
        text = NULL;
    }
    free(path);
    return text;
}

static lcl_status load_run(struct report *r, const char *dir, const char *name)
{
    char *path = join(dir, "metrics.jsonl");
    if (!path) return LCL_FAIL(LCL_MEMORY, "out of memory for a path in %s", dir);
    if (lcl_fs_exists(path) && r->n_runs == REPORT_MAX_RUNS) {
        report_note(r, "Only %d runs are shown; %s is left out.", REPORT_MAX_RUNS, dir);
    } else if (lcl_fs_exists(path)) {
        struct report_run *run = &r->runs[r->n_runs];
        if (lcl_metrics_load(path, &run->metrics) != LCL_OK) note_damage(r);
        snprintf(run->name, sizeof run->name, "%s", name);
        run->config = load_config(r, dir);
        run->time_s = run->metrics.n && !isnan(run->metrics.rows[0].time)
                          ? run->metrics.rows[0].time
                          : (double)INFINITY;
        r->n_runs++;
    }
    free(path);
    return LCL_OK;
}

static int by_time(const void *a, const void *b)
{
    const struct report_run *x = a, *y = b;
    if (x->time_s != y->time_s) return x->time_s < y->time_s ? -1 : 1;
    return strcmp(x->name, y->name);
}

static lcl_status load_runs(struct report *r)
{
    lcl_status status = LCL_OK;
    char **names = NULL;
    size_t n = 0;
    LCL_TRY(load_run(r, r->dir, ""));
    LCL_TRY(lcl_fs_list(r->dir, &names, &n));
    for (size_t i = 0; i < n; i++) {
        char *path = join(r->dir, names[i]);
        if (!path) {
            status = LCL_FAIL(LCL_MEMORY, "out of memory for a path in %s", r->dir);
            goto out;
        }
        if (lcl_fs_is_dir(path)) status = load_run(r, path, names[i]);
        free(path);
        if (status != LCL_OK) goto out;
    }
    qsort(r->runs, (size_t)r->n_runs, sizeof r->runs[0], by_time);
    if (!r->n_runs || r->runs[0].name[0]) r->config = load_config(r, r->dir);
out:
    lcl_fs_list_free(names, n);
    return status;
}

static void load_results(struct report *r)
{
    char *path = join(r->dir, "results.json");
    if (!path || !lcl_fs_exists(path)) {
        report_note(r, "No results.json: accuracy by shots is left out (lcl eval writes it).");
    } else if (lcl_results_load(path, &r->results) != LCL_OK) {
        note_damage(r);
        r->results.n_rows = r->results.n_seconds = 0;
    }
    free(path);
}

static void load_sheet(struct report *r)
{
    char *path = join(r->dir, "neighbors.png"), *data = NULL;
    size_t size = 0;
    if (!path || !lcl_fs_exists(path)) {
        report_note(r, "No neighbors.png: the picture of the class neighbors is left out.");
    } else if (lcl_fs_read(path, MAX_SHEET_BYTES, &data, &size) != LCL_OK) {
        note_damage(r);
    } else if (size < 8 || memcmp(data, "\x89PNG\r\n\x1a\n", 8) != 0) {
        report_note(r, "Left out: %s is no PNG picture.", path);
        free(data);
    } else {
        r->sheet = (uint8_t *)data;
        r->sheet_size = size;
    }
    free(path);
}

/* ---- episodes ---- */

static int by_shots(const void *a, const void *b)
{
    const struct lcl_episode_view *x = a, *y = b;
    if (x->shots != y->shots) return x->shots < y->shots ? -1 : 1;
    return (x->sample > y->sample) - (x->sample < y->sample);
}

/* Keeps the shown episodes, ordered by shots: the first ones of each shot count, taken in turns. */
static void choose_views(struct report *r)
{
    if (!r->n_views) return;
    struct lcl_episode_view shown[SHOWN];
    bool taken[MAX_VIEWS_READ] = {false};
    size_t n = 0, wanted = r->n_views < SHOWN ? r->n_views : SHOWN;
    int64_t last = -1; /* shot count of the turn before */
    while (n < wanted) {
        size_t best = r->n_views;
        for (size_t i = 0; i < r->n_views; i++) {
            if (taken[i] || r->views[i].shots <= last) continue;
            if (best == r->n_views || r->views[i].shots < r->views[best].shots) best = i;
        }
        if (best == r->n_views) {
            last = INT64_MIN;
            continue;
        }
        taken[best] = true;
        last = r->views[best].shots;
        shown[n++] = r->views[best];
    }
    for (size_t i = 0; i < r->n_views; i++)
        if (!taken[i]) lcl_episode_view_free(&r->views[i]);
    memcpy(r->views, shown, n * sizeof shown[0]);
    r->n_views = n;
    qsort(r->views, n, sizeof *r->views, by_shots);
}

/* The pictures of a view that carry no PNG, from its pack; the pack of the view before stays open
 * in *pack. */
static lcl_status fetch_view(struct lcl_episode_view *v, struct lcl_pack *pack, bool *is_open)
{
    bool missing = !v->query.png;
    for (int i = 0; i < v->n_support; i++) missing = missing || !v->support[i].png;
    if (!missing) return LCL_OK;
    if (!v->pack[0])
        return LCL_FAIL(LCL_NOT_FOUND, "episode %lld names pictures by number and no pack",
                        (long long)v->sample);
    if (*is_open && strcmp(pack->path, v->pack) != 0) {
        lcl_pack_close(pack);
        *is_open = false;
    }
    if (!*is_open) LCL_TRY(lcl_pack_open(v->pack, pack));
    *is_open = true;
    return lcl_episode_view_fetch(v, pack);
}

static void load_views(struct report *r)
{
    static const char *const names[] = {"episodes.jsonl", "predictions.jsonl"};
    char *path = NULL;
    for (int i = 0; i < 2; i++) {
        free(path);
        path = join(r->dir, names[i]);
        snprintf(r->views_file, sizeof r->views_file, "%s", names[i]);
        if (path && lcl_fs_exists(path)) break;
    }
    if (!path || !lcl_fs_exists(path)) {
        report_note(r, "No episodes.jsonl or predictions.jsonl: episodes are left out.");
    } else if (lcl_episode_views_load(path, MAX_VIEWS_READ, &r->views, &r->n_views,
                                      &r->total_views) != LCL_OK) {
        note_damage(r);
    }
    free(path);
    choose_views(r);
    struct lcl_pack pack = {0};
    bool is_open = false;
    for (size_t i = 0; i < r->n_views; i++) {
        if (fetch_view(&r->views[i], &pack, &is_open) == LCL_OK) continue;
        lcl_log_warn("%s", lcl_error_message());
        report_note(r, "Pictures of some episodes are left out: %s", lcl_error_message());
        break;
    }
    if (is_open) lcl_pack_close(&pack);
}

lcl_status report_load(struct report *r, const char *dir)
{
    r->dir = dir;
    if (!lcl_fs_is_dir(dir))
        return LCL_FAIL_HINT(LCL_NOT_FOUND, "give a run's output_dir, or the demo's folder",
                             "%s is no folder", dir);
    LCL_TRY(load_runs(r));
    LCL_TRY(report_load_sweep(r));
    if (r->sweep) {
        report_note(r, "Curves and episodes of a run: lcl report %s/RUN/seed-N.", dir);
        return lcl_text_check(&r->notes);
    }
    load_results(r);
    if (!r->n_runs && !r->results.n_rows)
        return LCL_FAIL_HINT(LCL_NOT_FOUND,
                             "lcl train writes metrics.jsonl and lcl eval results.json there",
                             "%s holds neither metrics.jsonl nor a readable results.json, and no "
                             "folder with metrics.jsonl",
                             dir);
    load_views(r);
    load_sheet(r);
    return lcl_text_check(&r->notes);
}

void report_free(struct report *r)
{
    for (int i = 0; i < r->n_runs; i++) {
        lcl_metrics_table_free(&r->runs[i].metrics);
        free(r->runs[i].config);
    }
    lcl_episode_views_free(r->views, r->n_views);
    free(r->sheet);
    report_free_sweep(r);
    free(r->config);
    lcl_text_free(&r->notes);
}
