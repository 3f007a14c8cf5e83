#include "tools/eval_record.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/fs.h"
#include "core/log.h"

#define MOST_BYTES ((size_t)1 << 30)
enum { MOST_PARTS = 4096 };
/* Units that a rank of several asks for before lines are gathered: a killed evaluation loses no
 * more. */
enum { RANK_UNITS = 4 };

lcl_status record_parse_part(const char *text, int64_t *part, int64_t *parts)
{
    long r = 0, n = 1;
    char end;
    *part = 0;
    *parts = 1;
    if (!text) return LCL_OK;
    if (sscanf(text, "%ld/%ld%c", &r, &n, &end) != 2 || n < 1 || n > MOST_PARTS || r < 0 || r >= n)
        return LCL_FAIL_HINT(LCL_CONFIG, "as 0/4, 1/4, 2/4 and 3/4, then --join 4",
                             "--part %s: wanted r/n with 0 <= r < n <= %d", text, MOST_PARTS);
    *part = r;
    *parts = n;
    return LCL_OK;
}

/* The first unit of part r of n. */
static int64_t first_of(const struct record *r, int64_t part) { return r->units * part / r->parts; }

static char *partial_path(const struct record *r)
{
    return r->parts == 1 ? lcl_strdupf("%s.partial", r->path)
                         : lcl_strdupf("%s.part-%lld-of-%lld", r->path, (long long)r->part,
                                       (long long)r->parts);
}

static json_t *header(const struct record *r)
{
    return json_pack("{s:O, s:I, s:[I, I]}", "evaluation", r->settings, "units",
                     (json_int_t)r->units, "part", (json_int_t)r->part, (json_int_t)r->parts);
}

/* ---- reading ---- */

static lcl_status check_header(const struct record *r, const char *name, const json_t *line)
{
    json_t *wanted = header(r);
    if (!wanted) return LCL_FAIL(LCL_MEMORY, "no memory for settings");
    lcl_status status = LCL_OK;
    if (!json_is_object(json_object_get(line, "evaluation")))
        status = LCL_FAIL(LCL_FORMAT, "%s:1: wanted {\"evaluation\": ...}", name);
    else if (!json_equal(wanted, line))
        status = LCL_FAIL_HINT(LCL_CONFIG,
                               "give the options that it was begun with, another --predictions, "
                               "or --anew to begin anew",
                               "%s holds an evaluation with other settings", name);
    json_decref(wanted);
    return status;
}

/* Lines of one unit until it is whole. */
struct unit {
    json_t *lines;
    int64_t next;
};

static lcl_status end_unit(struct record *r, struct unit *u, const json_t *number)
{
    if (!json_is_integer(number) || json_integer_value(number) != u->next || u->next >= r->end)
        return LCL_FAIL(LCL_FORMAT, "wanted the end of unit %lld of %lld", (long long)u->next,
                        (long long)r->end);
    for (size_t i = 0; i < json_array_size(u->lines); i++)
        LCL_TRY(r->take(r->ctx, json_array_get(u->lines, i)));
    json_array_clear(u->lines);
    u->next++;
    return LCL_OK;
}

static lcl_status read_line(struct record *r, struct unit *u, const char *name, int64_t number,
                            const char *line, size_t size)
{
    json_error_t error;
    json_t *in = json_loadb(line, size, JSON_REJECT_DUPLICATES, &error);
    if (!in) return LCL_FAIL(LCL_FORMAT, "%s", error.text);
    lcl_status status = LCL_OK;
    const json_t *unit = json_object_get(in, "unit");
    if (number == 1)
        status = check_header(r, name, in);
    else if (unit)
        status = end_unit(r, u, unit);
    else if (json_array_append(u->lines, in) != 0)
        status = LCL_FAIL(LCL_MEMORY, "no memory for a unit's lines");
    json_decref(in);
    return status;
}

lcl_status record_read(struct record *r, const char *name, const char *data, size_t size,
                       size_t *used, struct lcl_text *kept)
{
    struct unit u = {.lines = json_array(), .next = first_of(r, r->part)};
    lcl_status status = u.lines ? LCL_OK : LCL_FAIL(LCL_MEMORY, "no memory for a unit's lines");
    const char *whole = data, *end = data + size, *line = data;
    int64_t number = 0, before = u.next;
    r->end = first_of(r, r->part + 1);
    while (status == LCL_OK && line < end) {
        const char *stop = memchr(line, '\n', (size_t)(end - line));
        if (!stop) break;
        status = read_line(r, &u, name, ++number, line, (size_t)(stop - line));
        if (status != LCL_OK && status != LCL_CONFIG)
            status = lcl_fail_context(status, "%s:%lld", name, (long long)number);
        bool ends = u.next > before;
        if (status == LCL_OK && ends && kept) lcl_text_bytes(kept, whole, (size_t)(line - whole));
        line = stop + 1;
        if (number == 1 || ends) whole = line;
        before = u.next;
    }
    *used = (size_t)(whole - data);
    r->next = u.next;
    json_decref(u.lines);
    return status;
}

/* ---- writing ---- */

static lcl_status begin_file(struct record *r)
{
    json_t *first = header(r);
    char *text = first ? json_dumps(first, JSON_COMPACT) : NULL;
    lcl_status status = LCL_OK;
    json_decref(first);
    if (!text) return LCL_FAIL(LCL_FORMAT, "a path or label of the evaluation is not UTF-8");
    r->f = fopen(r->partial, "w");
    if (!r->f || fprintf(r->f, "%s\n", text) < 0 || fflush(r->f) != 0)
        status = lcl_fs_fail_write(r->partial);
    free(text);
    return status;
}

static lcl_status go_on(struct record *r)
{
    char *data;
    size_t size, used;
    LCL_TRY(lcl_fs_read(r->partial, MOST_BYTES, &data, &size));
    lcl_status status = record_read(r, r->partial, data, size, &used, NULL);
    free(data);
    if (status != LCL_OK || used == 0) return status == LCL_OK ? begin_file(r) : status;
    r->f = fopen(r->partial, "r+");
    if (!r->f || ftruncate(fileno(r->f), (off_t)used) != 0 || fseek(r->f, 0, SEEK_END) != 0)
        return lcl_fs_fail_write(r->partial);
    if (r->next > first_of(r, r->part))
        lcl_log_info("%s: goes on behind %lld of %lld units", r->partial,
                     (long long)(r->next - first_of(r, r->part)),
                     (long long)(r->end - first_of(r, r->part)));
    return LCL_OK;
}

static lcl_status open_file(struct record *r, bool anew)
{
    r->partial = partial_path(r);
    if (!r->partial) return LCL_FAIL(LCL_MEMORY, "no memory for a path");
    return lcl_fs_exists(r->partial) && !anew ? go_on(r) : begin_file(r);
}

lcl_status record_open(struct record *r, struct lcl_comm *comm, bool anew)
{
    r->next = first_of(r, r->part);
    r->end = first_of(r, r->part + 1);
    if (!r->path) {
        if (r->parts > 1)
            return LCL_FAIL_HINT(LCL_CONFIG, "--predictions FILE, the same for all parts",
                                 "--part keeps its answers in a file");
        return LCL_OK;
    }
    if (lcl_comm_rank(comm) == 0) LCL_TRY(open_file(r, anew));
    return lcl_comm_broadcast(comm, "the unit to go on with", 0, &r->next, sizeof r->next);
}

/* Hands on the lines of a text. */
static lcl_status hand_on(struct record *r, const struct lcl_text *lines)
{
    json_error_t error;
    lcl_status status = LCL_OK;
    for (const char *at = lines->data, *stop; at && status == LCL_OK; at = stop + 1) {
        stop = strchr(at, '\n');
        if (!stop) break;
        json_t *line = json_loadb(at, (size_t)(stop - at), 0, &error);
        status = line ? r->take(r->ctx, line)
                      : LCL_FAIL(LCL_INTERNAL, "a line of an answer is no JSON: %s", error.text);
        json_decref(line);
    }
    return status;
}

/* Keeps a unit's lines and hands them on. */
static lcl_status put(struct record *r, const struct lcl_text *lines)
{
    LCL_TRY(lcl_text_check(lines));
    LCL_TRY(hand_on(r, lines));
    if (r->f && ((lines->size && fwrite(lines->data, 1, lines->size, r->f) != lines->size) ||
                 fprintf(r->f, "{\"unit\": %lld}\n", (long long)r->next) < 0 || fflush(r->f) != 0))
        return lcl_fs_fail_write(r->partial);
    r->next++;
    return LCL_OK;
}

static void add_sized(struct lcl_text *all, const struct lcl_text *part)
{
    const int64_t size = (int64_t)part->size;
    lcl_text_bytes(all, (const char *)&size, sizeof size);
    lcl_text_bytes(all, part->data ? part->data : "", part->size);
}

/* Asks for units [begin, end): of each its lines and what goes aside, a number of bytes before
 * each. */
static lcl_status ask_units(record_ask_fn ask, void *ctx, int64_t begin, int64_t end,
                            struct lcl_text *all)
{
    struct lcl_text lines = {0}, aside = {0};
    lcl_status status = LCL_OK;
    for (int64_t unit = begin; unit < end && status == LCL_OK; unit++) {
        lcl_text_clear(&lines);
        lcl_text_clear(&aside);
        status = ask(ctx, unit, &lines, &aside);
        if (status == LCL_OK) status = lcl_text_check(&lines);
        if (status == LCL_OK) status = lcl_text_check(&aside);
        add_sized(all, &lines);
        add_sized(all, &aside);
    }
    lcl_text_free(&lines);
    lcl_text_free(&aside);
    return status == LCL_OK ? lcl_text_check(all) : status;
}

/* Texts of the ranks one behind the other, on all; malloc'd. */
static lcl_status gather_text(struct lcl_comm *comm, const struct lcl_text *mine, char **all)
{
    size_t bytes_R[LCL_COMM_MOST], total = 0;
    LCL_TRY(lcl_comm_all_gather(comm, "sizes of answers", &mine->size, sizeof mine->size, bytes_R));
    for (int r = 0; r < lcl_comm_size(comm); r++) total += bytes_R[r];
    *all = malloc(total + 1);
    if (!*all) return LCL_FAIL(LCL_MEMORY, "no memory for %zu bytes of answers", total);
    lcl_status status =
        lcl_comm_all_gather_v(comm, "answers", mine->data ? mine->data : "", bytes_R, *all);
    if (status != LCL_OK) free(*all);
    return status;
}

/* The next part of *at; the text's bytes are its own. */
static void take_sized(const char **at, struct lcl_text *part)
{
    int64_t size;
    memcpy(&size, *at, sizeof size);
    lcl_text_clear(part);
    lcl_text_bytes(part, *at + sizeof size, (size_t)size);
    *at += sizeof size + (size_t)size;
}

/* n units, in order. */
static lcl_status put_units(struct record *r, const char *all, int64_t n)
{
    struct lcl_text lines = {0}, aside = {0};
    lcl_status status = LCL_OK;
    for (int64_t i = 0; i < n && status == LCL_OK; i++) {
        take_sized(&all, &lines);
        take_sized(&all, &aside);
        status = lcl_text_check(&aside);
        if (status == LCL_OK) status = put(r, &lines);
        if (status == LCL_OK && r->aside && aside.size &&
            fwrite(aside.data, 1, aside.size, r->aside) != aside.size)
            status = LCL_FAIL(LCL_IO, "cannot write the questions to show: %m");
    }
    lcl_text_free(&lines);
    lcl_text_free(&aside);
    return status;
}

/* Ranks take units that lie together: suites keep pictures from one to the next. */
static lcl_status ask_round(struct record *r, struct lcl_comm *comm, record_ask_fn ask, void *ctx)
{
    const int64_t size = lcl_comm_size(comm), rank = lcl_comm_rank(comm), left = r->end - r->next;
    const int64_t most = size > 1 ? RANK_UNITS : 1;
    const int64_t n = left < most * size ? left : most * size;
    struct lcl_text mine = {0};
    char *all = NULL;
    lcl_status status =
        ask_units(ask, ctx, r->next + n * rank / size, r->next + n * (rank + 1) / size, &mine);
    if (status == LCL_OK) status = gather_text(comm, &mine, &all);
    lcl_text_free(&mine);
    LCL_TRY(status);
    if (rank == 0)
        status = put_units(r, all, n);
    else
        r->next += n;
    free(all);
    return status;
}

lcl_status record_ask(struct record *r, struct lcl_comm *comm, record_ask_fn ask, void *ctx,
                      const char *of, int64_t scale)
{
    struct lcl_progress progress;
    lcl_status status = LCL_OK;
    lcl_progress_begin(&progress, "asking", of, r->end * scale);
    while (r->next < r->end && status == LCL_OK) {
        status = ask_round(r, comm, ask, ctx);
        lcl_progress_update(&progress, r->next * scale, NULL);
    }
    lcl_progress_end(&progress, NULL);
    return status;
}

/* The lines of the partial file of r->part, which must be whole; NULL: they are not kept. */
static lcl_status read_whole(struct record *r, struct lcl_text *kept)
{
    char *path = partial_path(r), *data = NULL;
    size_t size, used;
    if (!path) return LCL_FAIL(LCL_MEMORY, "no memory for a path");
    lcl_status status = LCL_OK;
    if (!lcl_fs_exists(path))
        status = LCL_FAIL_HINT(LCL_CONFIG, "ask it first: the same command with --part",
                               "there is no %s", path);
    if (status == LCL_OK) status = lcl_fs_read(path, MOST_BYTES, &data, &size);
    if (status == LCL_OK) status = record_read(r, path, data, size, &used, kept);
    if (status == LCL_OK && r->next < r->end)
        status = LCL_FAIL_HINT(LCL_CONFIG, "the same command with --part goes on with it",
                               "%s is not done: %lld of its units are missing", path,
                               (long long)(r->end - r->next));
    free(data);
    free(path);
    return status;
}

lcl_status record_join(struct record *r, int64_t n)
{
    struct lcl_text all = {0};
    lcl_status status = LCL_OK;
    if (!r->path)
        return LCL_FAIL_HINT(LCL_CONFIG, "--predictions FILE, as it was given to the parts",
                             "--join reads files of parts");
    r->parts = n;
    for (r->part = 0; r->part < n && status == LCL_OK; r->part++) status = read_whole(r, &all);
    if (status == LCL_OK) status = lcl_text_check(&all);
    if (status == LCL_OK) status = lcl_fs_write_atomic(r->path, all.data ? all.data : "", all.size);
    lcl_text_free(&all);
    return status;
}

lcl_status record_finish(struct record *r)
{
    struct lcl_text all = {0};
    char *data;
    size_t size;
    if (!r->f) return LCL_OK;
    int failed = fclose(r->f);
    r->f = NULL;
    if (failed) return lcl_fs_fail_write(r->partial);
    if (r->parts > 1) return LCL_OK;
    LCL_TRY(lcl_fs_read(r->partial, MOST_BYTES, &data, &size));
    const char *at = memchr(data, '\n', size);
    for (const char *stop; at && (stop = strchr(at + 1, '\n')); at = stop)
        if (strncmp(at + 1, "{\"unit\": ", 9) != 0)
            lcl_text_bytes(&all, at + 1, (size_t)(stop - at));
    free(data);
    lcl_status status = lcl_text_check(&all);
    if (status == LCL_OK) status = lcl_fs_write_atomic(r->path, all.data ? all.data : "", all.size);
    lcl_text_free(&all);
    if (status == LCL_OK && remove(r->partial) != 0) status = lcl_fs_fail_write(r->partial);
    return status;
}

void record_close(struct record *r)
{
    if (r->f) fclose(r->f);
    free(r->partial);
    json_decref(r->settings);
    *r = (struct record){0};
}
