/* `bench OUT SECONDS NOTE [dry]`: measures kernels and whole steps on the GPU, or on the emulator
 * where it is linked with that, and writes OUT.md and OUT.json. NOTE: a line on the machine
 * (driver, date). No kernel is begun once SECONDS have passed. */
#include "dev/bench-gpu/bench.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/fs.h"
#include "core/log.h"
#include "core/threads.h"
#include "train/device.h"

enum { WARM_UP = 3, LEAST = 5, MOST = 50, DRY = 2 };
static const double KERNEL_S = 0.3; /* of repetitions */
static const double STEPS_S = 150;  /* left for whole steps */

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

lcl_status bench_time(struct bench *b, bench_run run, void *ctx, int copies, double *ms)
{
    double s[MOST];
    int n = DRY;
    for (int i = 0; i < (b->dry ? 1 : WARM_UP); i++) LCL_TRY(run(ctx, i % copies));
    LCL_TRY(lcl_device_mark(&b->exec, 0));
    LCL_TRY(run(ctx, 0));
    LCL_TRY(lcl_device_mark(&b->exec, 1));
    LCL_TRY(lcl_exec_sync(&b->exec));
    LCL_TRY(lcl_device_marks_between(&b->exec, 0, 1, &s[0]));
    if (!b->dry) n = (int)fmin(MOST, fmax(LEAST, KERNEL_S / fmax(s[0], 1e-6)));
    for (int i = 0; i < n; i++) {
        LCL_TRY(lcl_device_mark(&b->exec, 2 * i));
        LCL_TRY(run(ctx, i % copies));
        LCL_TRY(lcl_device_mark(&b->exec, 2 * i + 1));
    }
    LCL_TRY(lcl_exec_sync(&b->exec));
    for (int i = 0; i < n; i++)
        LCL_TRY(lcl_device_marks_between(&b->exec, 2 * i, 2 * i + 1, &s[i]));
    qsort(s, (size_t)n, sizeof *s, by_value);
    *ms = 1e3 * s[n / 2];
    return LCL_OK;
}

/* ---- what is written ---- */

static void put_share(struct lcl_text *t, double rate, double most)
{
    if (most > 0 && rate > 0)
        lcl_text_printf(t, " %.0f %% |", 100 * rate / most);
    else
        lcl_text_puts(t, " - |");
}

/* Ours at the peer's speed is 1: the same work in its time. */
static double against_peer(const struct row *r)
{
    return r->peer_ms > 0 ? r->peer_ms / r->peer_work / r->ms : 0;
}

static void put_row(const struct bench *b, const struct row *r, struct lcl_text *t)
{
    double seconds = r->ms / 1e3, flops = seconds > 0 ? r->cost.flops / seconds : 0;
    double bytes = seconds > 0 ? r->cost.bytes / seconds : 0;
    double most = r->cost.dtype == LCL_BF16 ? b->limits.flops_bf16 : b->limits.flops_f32;
    lcl_text_printf(t, "| %s | %s |", r->name, r->shape);
    if (r->ms > 0)
        lcl_text_printf(t, " %.4f |", r->ms);
    else
        lcl_text_puts(t, " - |");
    if (flops > 0)
        lcl_text_printf(t, " %.1f |", flops / 1e12);
    else
        lcl_text_puts(t, " - |");
    put_share(t, flops, most);
    lcl_text_printf(t, " %.0f |", bytes / 1e9);
    put_share(t, bytes, b->limits.bytes);
    lcl_text_printf(t, " %s |", r->peer[0] ? r->peer : "-");
    if (r->peer_ms > 0)
        lcl_text_printf(t, " %.4f | %.2f |\n", r->peer_ms, against_peer(r));
    else
        lcl_text_printf(t, " - | %s |\n", r->note[0] ? r->note : "-");
}

static void put_markdown(const struct bench *b, const char *device, const char *machine,
                         struct lcl_text *t)
{
    lcl_text_printf(t, "# Kernels and steps on %s\n\n%s. %s.\n\n", device, machine,
                    lcl_device_describe());
    if (b->dry) lcl_text_puts(t, "**A dry run: shapes are tiny, and the times say nothing.**\n\n");
    lcl_text_printf(t, "Limits: %.0f TFLOP/s bf16, %.0f TFLOP/s f32, %.0f GB/s (%s).\n\n",
                    b->limits.flops_bf16 / 1e12, b->limits.flops_f32 / 1e12, b->limits.bytes / 1e9,
                    b->limits.source);
    lcl_text_puts(t,
                  "Medians of the device's own times, warmed, sets of buffers in turns past its "
                  "caches. FLOPs: products, visible pairs of attention only; bytes: each tensor "
                  "once. Ours / its: our speed over that of what stands beside it, for the same "
                  "work; 1 is as fast.\n\n"
                  "| kernel | shape | ms | TFLOP/s | of peak | GB/s | of peak | beside | its ms | "
                  "ours / its |\n|---|---|---|---|---|---|---|---|---|---|\n");
    for (int i = 0; i < b->n_rows; i++) put_row(b, &b->row[i], t);
    lcl_text_puts(t, "\n## Whole steps\n");
    if (b->steps_md.data) lcl_text_puts(t, b->steps_md.data);
}

static void put_json(const struct bench *b, const char *device, const char *machine,
                     struct lcl_text *t)
{
    lcl_text_puts(t, "{\"device\": ");
    lcl_text_json_string(t, device);
    lcl_text_puts(t, ", \"machine\": ");
    lcl_text_json_string(t, machine);
    lcl_text_printf(t,
                    ", \"dry\": %s,\n\"limits\": {\"flops_bf16\": %.6g, \"flops_f32\": %.6g, "
                    "\"bytes_per_s\": %.6g},\n\"kernels\": [",
                    b->dry ? "true" : "false", b->limits.flops_bf16, b->limits.flops_f32,
                    b->limits.bytes);
    for (int i = 0; i < b->n_rows; i++) {
        const struct row *r = &b->row[i];
        lcl_text_puts(t, i ? ",\n{\"name\": " : "\n{\"name\": ");
        lcl_text_json_string(t, r->name);
        lcl_text_printf(t,
                        ", \"shape\": \"%s\", \"ms\": %.6g, \"flops\": %.6g, \"bytes\": %.6g, "
                        "\"peer\": \"%s\", \"peer_ms\": %.6g, \"ours_to_peer\": %.6g, \"note\": ",
                        r->shape, r->ms, r->cost.flops, r->cost.bytes, r->peer, r->peer_ms,
                        against_peer(r));
        lcl_text_json_string(t, r->note);
        lcl_text_puts(t, "}");
    }
    lcl_text_puts(t, "],\n\"steps\": [");
    if (b->steps_json.data) lcl_text_puts(t, b->steps_json.data);
    lcl_text_puts(t, "]}\n");
}

static lcl_status write_file(const char *out, const char *ending, struct lcl_text *text)
{
    lcl_status status = lcl_text_check(text);
    char *path = lcl_strdupf("%s.%s", out, ending);
    if (status == LCL_OK && !path) status = LCL_FAIL(LCL_MEMORY, "no memory for a path");
    if (status == LCL_OK) status = lcl_fs_write_atomic(path, text->data, text->size);
    if (status == LCL_OK) lcl_log_info("wrote %s", path);
    free(path);
    lcl_text_free(text);
    return status;
}

static lcl_status work(struct bench *b, const char *out, double seconds, const char *machine)
{
    static struct lcl_config c;
    struct lcl_text text = {0};
    char device[320];
    double begin = lcl_time_s();
    lcl_config_defaults(&c);
    c.device = LCL_DEVICE_CUDA;
    LCL_TRY(lcl_device_open(&b->exec, &c));
    lcl_device_limits(&b->exec, &b->limits);
    snprintf(device, sizeof device, "%s", lcl_device_name(&b->exec));
    b->deadline_s = begin + seconds - (b->dry ? 0 : STEPS_S);
    bench_kernels(b);
    lcl_device_close(&b->exec); /* whole steps open their own */
    b->deadline_s = begin + seconds;
    bench_steps(b);
    put_markdown(b, device, machine, &text);
    LCL_TRY(write_file(out, "md", &text));
    put_json(b, device, machine, &text);
    LCL_TRY(write_file(out, "json", &text));
    return b->failed ? LCL_FAIL(LCL_INTERNAL, "not all of it ran: see %s.md", out) : LCL_OK;
}

int main(int argc, char **argv)
{
    static struct bench b;
    if (argc < 4 || atof(argv[2]) <= 0) {
        fputs("usage: bench OUT SECONDS NOTE [dry]\n", stderr);
        return 2;
    }
    b.dry = argc > 4 && strcmp(argv[4], "dry") == 0;
    lcl_status status = lcl_threads_start(0);
    if (status == LCL_OK) status = work(&b, argv[1], atof(argv[2]), argv[3]);
    if (status != LCL_OK) fprintf(stderr, "error: %s\n", lcl_error_message());
    if (status != LCL_OK && *lcl_error_hint()) fprintf(stderr, "hint: %s\n", lcl_error_hint());
    lcl_text_free(&b.steps_md);
    lcl_text_free(&b.steps_json);
    lcl_threads_stop();
    return status == LCL_OK ? 0 : 1;
}
