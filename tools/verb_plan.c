/* lcl plan: what a config takes, before it runs. */
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>

#include "core/fs.h"
#include "core/log.h"
#include "core/threads.h"
#include "tools/cli.h"
#include "train/device.h"
#include "train/plan_ranks.h"
#include "train/plan_trial.h"
#include "train/refresh.h"

enum { BATCHES = 512 };

/* Of a GPU that is not here: what the driver and the CUDA libraries keep for themselves. */
static const double device_overhead = 1 << 30;

struct stage {
    const struct lcl_config *config;
    struct lcl_plan plan;
    struct lcl_plan_rates rates;
    struct lcl_plan_trial trial;
    double step_s; /* NAN: the device is not here to be measured */
    struct lcl_rank_plan ranks[LCL_ZERO_STAGES];
};

/* What the options ask for. */
struct request {
    const char *path;
    struct cli_list sets;
    double gpu_gib;
    const struct lcl_gpu_kind *projected; /* on 1, 4, 8, 64 GPUs; NULL: none */
    struct lcl_cluster cluster;           /* ranks 0: none */
    bool json;
};

struct planned {
    int n;
    struct stage stages[LCL_CONFIG_MAX_STAGES];
    double free_memory, free_disk;
    double free_device; /* INFINITY: unknown, or it computes on the CPU */
    bool has_pack;
    bool device_absent;
};

static const char *name_of(const struct stage *s)
{
    return s->config->stage_name[0] ? s->config->stage_name : "train";
}

/* Bytes free where output_dir will be; NAN: unknown. */
static double free_disk(const char *dir)
{
    char path[LCL_CONFIG_STR_BYTES];
    struct statvfs fs;
    snprintf(path, sizeof path, "%s", dir[0] ? dir : ".");
    while (statvfs(path, &fs) != 0) {
        char *slash = strrchr(path, '/');
        if (!slash && strcmp(path, ".") == 0) return NAN;
        if (slash == path) return NAN;
        if (slash)
            *slash = '\0';
        else
            snprintf(path, sizeof path, ".");
    }
    return (double)fs.f_bavail * (double)fs.f_frsize;
}

static lcl_status open_pack(struct lcl_env *e, const struct lcl_run_config *run)
{
    const struct lcl_config *c = &run->stages[0];
    bool wanted = false;
    for (int i = 0; i < run->n_stages; i++)
        wanted = wanted || run->stages[i].task != LCL_TASK_LANGUAGE;
    if (!wanted) return LCL_OK;
    const char *source = lcl_config_source(c);
    if (source[0] && lcl_fs_exists(source)) return lcl_env_open_data(e, c);
    lcl_log_warn("there is no %s %s: batches are bounded by the config, and features and "
                 "pictures of the pack are not counted",
                 c->data_table[0] ? "table" : "pack",
                 source[0] ? source : "(data.pack is not set)");
    return LCL_OK;
}

/* Starts the backend. A GPU that is given by its memory, or that this machine lacks, is planned for
 * with the CPU's ops. */
static lcl_status start(struct lcl_env *e, struct lcl_run_config *run, double gpu_gib,
                        struct planned *out)
{
    struct lcl_config *first = &run->stages[0];
    for (int i = 0; gpu_gib > 0 && i < run->n_stages; i++) run->stages[i].device = LCL_DEVICE_CUDA;
    if (gpu_gib == 0) {
        lcl_status status = lcl_env_start(e, first);
        if (status == LCL_OK) out->free_device = lcl_device_free_bytes(&e->exec);
        if (status != LCL_UNSUPPORTED || first->device == LCL_DEVICE_CPU) return status;
        lcl_log_warn("%s: planned for a GPU of unknown size; --gpu-memory GIB tells it",
                     lcl_error_message());
    }
    out->free_device = gpu_gib > 0 ? fmax(0, gpu_gib * (1 << 30) - device_overhead) : INFINITY;
    out->device_absent = true;
    first->device = LCL_DEVICE_CPU;
    lcl_status status = lcl_env_start(e, first);
    first->device = LCL_DEVICE_CUDA;
    e->one_at_a_time = true;
    return status;
}

static lcl_status plan_ranks(struct lcl_env *e, uint32_t epoch, const struct lcl_cluster *cluster,
                             struct stage *s)
{
    struct lcl_schedule schedule;
    const struct lcl_cluster own = lcl_cluster_of(cluster, s->config), *k = &own;
    if (k->ranks > s->config->lanes)
        lcl_log_warn("lanes: %lld are fewer than %lld ranks: planned for one a rank, as lanes: "
                     "%lld has it, with more samples a step",
                     (long long)s->config->lanes, (long long)k->ranks, (long long)k->ranks);
    const struct lcl_op_rates rates = lcl_cluster_rates(k->gpu);
    lcl_status status =
        lcl_schedule_make(e, s->config, epoch, BATCHES, &s->plan, &rates, &schedule);
    for (int zero = 0; zero < LCL_ZERO_STAGES && status == LCL_OK; zero++)
        s->ranks[zero] = lcl_plan_rank(e, s->config, &s->plan, &schedule, k, zero);
    lcl_schedule_free(&schedule);
    return status;
}

static lcl_status plan_stages(struct lcl_env *e, struct lcl_run_config *run,
                              const struct request *r, struct planned *out)
{
    bool vision = false;
    for (int i = 0; i < run->n_stages; i++)
        vision = vision || run->stages[i].task == LCL_TASK_VISION;
    LCL_TRY(start(e, run, r->gpu_gib, out));
    LCL_TRY(open_pack(e, run));
    e->stages = run->stages;
    e->n_stages = run->n_stages;
    lcl_env_count_epochs(e, run);
    LCL_TRY(lcl_env_shape_model(e, &run->stages[0], vision && e->has_pack));
    out->n = run->n_stages;
    out->has_pack = e->has_pack;
    out->free_memory = lcl_plan_free_bytes();
    out->free_disk = free_disk(run->stages[0].output_dir);
    for (int i = 0; i < run->n_stages; i++) {
        struct stage *s = &out->stages[i];
        s->config = &run->stages[i];
        LCL_TRY(lcl_plan_stage(e, s->config, (uint32_t)i, BATCHES, &s->plan));
        s->step_s = NAN;
        if (r->cluster.ranks > 0) LCL_TRY(plan_ranks(e, (uint32_t)i, &r->cluster, s));
        if (out->device_absent || r->cluster.ranks > 0) continue;
        LCL_TRY(lcl_plan_try(e, s->config, (uint32_t)i, &s->plan, &s->trial));
        if (s->trial.steps > 0) {
            lcl_plan_set_libraries(&s->plan, s->config, s->trial.libraries);
            s->step_s = s->trial.cpu_s / lcl_threads_count();
            if (s->plan.refresh_flops == 0) continue; /* tables are timed by the rates */
        }
        LCL_TRY(lcl_plan_measure(e, s->config, &s->plan, &s->rates));
        if (s->trial.steps == 0) s->step_s = lcl_plan_step_seconds(&s->plan, &s->rates);
    }
    return LCL_OK;
}

static void print_bytes(const char *title, double bytes)
{
    char text[24];
    if (bytes > 0) printf("  %-32s %12s\n", title, lcl_format_bytes(bytes, text));
}

/* Steps, and the neighbor tables made between them; NAN: not known. */
static double stage_seconds(const struct stage *s)
{
    const double steps = (double)s->config->max_steps;
    const double tables = lcl_refresh_count(s->config, steps) * s->plan.refresh_flops;
    return s->step_s * steps + (tables > 0 ? tables / s->rates.flops : 0);
}

static void print_refreshes(const struct stage *s)
{
    const double n = lcl_refresh_count(s->config, (double)s->config->max_steps);
    if (n == 0) return;
    printf("  %.0f new neighbor tables", n);
    if (s->plan.refresh_flops > 0)
        printf(": %.3g GFLOP each\n", s->plan.refresh_flops / 1e9);
    else
        printf(", of pictures that are not here\n");
}

static void print_time(const struct stage *s)
{
    char took[24];
    const struct lcl_config *c = s->config;
    if (isnan(s->step_s)) {
        printf("\n  %lld steps\n\n", (long long)c->max_steps);
        return;
    }
    if (s->trial.steps > 0)
        printf("; about %.3g s by %d that were tried (%.3g s of processor time on %d thread%s)",
               s->step_s, s->trial.steps, s->trial.cpu_s, lcl_threads_count(),
               lcl_threads_count() == 1 ? "" : "s");
    else
        printf("; about %.3g s at %.3g GFLOP/s", s->step_s, s->rates.flops / 1e9);
    printf("\n  %lld steps: about %s%s\n\n", (long long)c->max_steps,
           lcl_format_duration(stage_seconds(s), took),
           c->stop_at_loss > 0 || c->stop_at_accuracy > 0
               ? ", less where stop_at_loss or stop_at_accuracy ends it"
               : "");
}

static void print_stage(const struct stage *s)
{
    const struct lcl_plan *p = &s->plan;
    printf("%s: %lld parameters, %lld train\n", name_of(s), (long long)p->n_parameters,
           (long long)p->n_trainable);
#define X(field, title, is_tensor) \
    if (is_tensor) print_bytes(title, p->field);
    LCL_PLAN_ARENAS(X)
#undef X
    print_bytes("scratch of its ops", p->scratch);
    print_bytes("the GPU's memory, the most", p->device);
#define X(field, title, is_tensor) \
    if (!is_tensor) print_bytes(title, p->field);
    LCL_PLAN_ARENAS(X)
#undef X
    print_bytes("memory, the most at once", p->total);
    print_bytes("one checkpoint", p->checkpoint);
    print_bytes("disk", p->disk);
    if (p->largest.with_text)
        printf("  largest batch of a lane: %lld tokens, %lld pictures (%s)\n",
               (long long)p->largest.T, (long long)p->largest.images,
               p->drawn ? "of those drawn" : "the config's bound");
    else
        printf("  batch of a lane: %lld pictures\n", (long long)p->largest.images);
    print_refreshes(s);
    printf("  a step: %.0f tokens, %.0f pictures, %.3g GFLOP", p->tokens, p->images,
           p->flops / 1e9);
    print_time(s);
}

static json_t *json_stage(const struct stage *s)
{
    const struct lcl_plan *p = &s->plan;
    json_t *memory = json_object(), *root = json_object();
#define X(field, title, is_tensor) json_object_set_new(memory, #field, json_real(p->field));
    LCL_PLAN_ARENAS(X)
#undef X
    json_object_set_new(memory, "total", json_real(p->total));
    if (p->device > 0) {
        json_object_set_new(memory, "scratch", json_real(p->scratch));
        json_object_set_new(memory, "device_total", json_real(p->device));
    }
    json_object_set_new(root, "stage", json_string(name_of(s)));
    json_object_set_new(root, "parameters", json_integer(p->n_parameters));
    json_object_set_new(root, "trainable", json_integer(p->n_trainable));
    json_object_set_new(root, "memory_bytes", memory);
    json_object_set_new(root, "disk_bytes", json_real(p->disk));
    json_object_set_new(root, "checkpoint_bytes", json_real(p->checkpoint));
    json_object_set_new(root, "batches_drawn", json_integer(p->drawn));
    json_object_set_new(root, "largest_tokens", json_integer(p->largest.T));
    json_object_set_new(root, "largest_pictures", json_integer(p->largest.images));
    json_object_set_new(root, "tokens_per_step", json_real(p->tokens));
    json_object_set_new(root, "pictures_per_step", json_real(p->images));
    json_object_set_new(root, "flops_per_step", json_real(p->flops));
    json_object_set_new(root, "steps", json_integer(s->config->max_steps));
    const double tables = lcl_refresh_count(s->config, (double)s->config->max_steps);
    json_object_set_new(root, "neighbor_tables", json_real(tables));
    json_object_set_new(root, "flops_per_neighbor_table", json_real(p->refresh_flops));
    if (isnan(s->step_s)) return root;
    json_object_set_new(root, "steps_tried", json_integer(s->trial.steps));
    if (s->trial.steps > 0)
        json_object_set_new(root, "processor_seconds_per_step", json_real(s->trial.cpu_s));
    else
        json_object_set_new(root, "flops_per_second", json_real(s->rates.flops));
    json_object_set_new(root, "seconds_per_step", json_real(s->step_s));
    json_object_set_new(root, "seconds", json_real(stage_seconds(s)));
    return root;
}

/* ---- GPUs that are not here ---- */

static const int64_t gpu_counts[] = {1, 4, 8, 64};
enum { N_COUNTS = sizeof gpu_counts / sizeof *gpu_counts };

static void print_projection(const struct planned *p, const struct lcl_gpu_kind *kind)
{
    char took[24];
    printf("\non %s, a projection:\n", kind->name);
    for (int i = 0; i < p->n; i++) {
        const struct stage *s = &p->stages[i];
        printf(
            "  %s\n    GPUs  lanes      steps   s/step  (sums)   tokens/s       time  GPU hours\n",
            name_of(s));
        for (int k = 0; k < N_COUNTS; k++) {
            const struct lcl_projection r =
                lcl_plan_project(&s->plan, s->config, kind, gpu_counts[k]);
            printf("  %6lld %6lld %10.0f %8.3g  %6.2g %10.0f %10s %10.4g\n", (long long)r.gpus,
                   (long long)r.lanes, r.steps, r.step_s, r.sums_s, r.tokens_per_s,
                   lcl_format_duration(r.stage_s, took), (double)r.gpus * r.stage_s / 3600);
        }
    }
    printf("%s", lcl_projection_assumptions);
}

static json_t *json_projection(const struct stage *s, const struct lcl_gpu_kind *kind)
{
    json_t *rows = json_array();
    for (int k = 0; k < N_COUNTS; k++) {
        const struct lcl_projection r = lcl_plan_project(&s->plan, s->config, kind, gpu_counts[k]);
        json_t *row = json_object();
        json_object_set_new(row, "gpu", json_string(kind->name));
        json_object_set_new(row, "gpus", json_integer(r.gpus));
        json_object_set_new(row, "lanes", json_integer(r.lanes));
        json_object_set_new(row, "steps", json_real(r.steps));
        json_object_set_new(row, "seconds_per_step", json_real(r.step_s));
        json_object_set_new(row, "seconds_of_sums", json_real(r.sums_s));
        json_object_set_new(row, "tokens_per_second", json_real(r.tokens_per_s));
        json_object_set_new(row, "seconds", json_real(r.stage_s));
        json_array_append_new(rows, row);
    }
    return rows;
}

/* ---- ranks that are not here ---- */

static void print_ranks(const struct planned *p, const struct lcl_cluster *k)
{
    const int64_t nodes = (k->ranks + LCL_GPUS_A_NODE - 1) / LCL_GPUS_A_NODE;
    if (k->gpu)
        printf("%lld ranks on %s (%lld node%s, %s), a model, not a result:\n", (long long)k->ranks,
               k->gpu->name, (long long)nodes, nodes > 1 ? "s" : "", k->network->name);
    else
        printf("%lld ranks, a model, not a result (--device KIND adds times):\n",
               (long long)k->ranks);
    for (int i = 0; i < p->n; i++) lcl_plan_ranks_print(p->stages[i].ranks, k, p->stages[i].config);
    const struct lcl_cluster own = lcl_cluster_of(k, p->stages[0].config);
    lcl_plan_ranks_assumed(&own);
}

/* LCL_MEMORY where no ZeRO stage fits in the GPUs' memory. */
static lcl_status ranks_fit(const struct planned *p)
{
    for (int i = 0; i < p->n; i++) {
        const struct lcl_rank_plan *r = p->stages[i].ranks;
        double least = r[0].total;
        char wanted[24], has[24];
        for (int z = 1; z < LCL_ZERO_STAGES; z++) least = fmin(least, r[z].total);
        if (least <= p->free_device) continue;
        return LCL_FAIL_HINT(LCL_MEMORY,
                             "more ranks, a lower per_device_train_batch_size, "
                             "gradient_checkpointing: true, optim: adamw_8bit",
                             "stage %s needs %s of a GPU's memory at least; free are %s",
                             name_of(&p->stages[i]), lcl_format_bytes(least, wanted),
                             lcl_format_bytes(p->free_device, has));
    }
    return LCL_OK;
}

static lcl_status print_json(const struct planned *p, const struct request *r)
{
    json_t *stages = json_array(), *root = json_object();
    for (int i = 0; i < p->n; i++) {
        json_t *stage = json_stage(&p->stages[i]);
        if (r->projected)
            json_object_set_new(stage, "projection", json_projection(&p->stages[i], r->projected));
        if (r->cluster.ranks > 0)
            json_object_set_new(
                stage, "ranks",
                lcl_plan_ranks_json(p->stages[i].ranks, &r->cluster, p->stages[i].config));
        json_array_append_new(stages, stage);
    }
    json_object_set_new(root, "stages", stages);
    if (isfinite(p->free_memory))
        json_object_set_new(root, "free_memory_bytes", json_real(p->free_memory));
    if (isfinite(p->free_device))
        json_object_set_new(root, "free_device_bytes", json_real(p->free_device));
    if (isfinite(p->free_disk))
        json_object_set_new(root, "free_disk_bytes", json_real(p->free_disk));
    int failed = json_dumpf(root, stdout, JSON_INDENT(1) | JSON_REAL_PRECISION(9));
    printf("\n");
    json_decref(root);
    return failed ? LCL_FAIL(LCL_IO, "cannot print the plan") : LCL_OK;
}

static void print_sum(const struct planned *p)
{
    double seconds = 0, memory = 0, device = 0, disk = 0;
    char took[24], most[24], has[24], kept[24], room[24];
    for (int i = 0; i < p->n; i++) {
        const struct stage *s = &p->stages[i];
        seconds += stage_seconds(s);
        memory = fmax(memory, s->plan.total);
        device = fmax(device, s->plan.device);
        disk = fmax(disk, s->plan.disk);
    }
    printf("in all: ");
    if (!isnan(seconds)) printf("about %s; ", lcl_format_duration(seconds, took));
    if (device > 0)
        printf("%s of the GPU's memory (free: %s); ", lcl_format_bytes(device, most),
               isfinite(p->free_device) ? lcl_format_bytes(p->free_device, has) : "unknown");
    printf("%s of memory (free: %s); %s of disk (free: %s)\n", lcl_format_bytes(memory, most),
           isfinite(p->free_memory) ? lcl_format_bytes(p->free_memory, has) : "unknown",
           lcl_format_bytes(disk, kept),
           isfinite(p->free_disk) ? lcl_format_bytes(p->free_disk, room) : "unknown");
}

static lcl_status plan(const struct request *r)
{
    struct lcl_run_config *run = malloc(sizeof *run);
    struct planned *p = calloc(1, sizeof *p);
    struct lcl_env e = {0};
    lcl_status status = LCL_OK;
    if (!run || !p) {
        status = LCL_FAIL(LCL_MEMORY, "no memory for a plan");
        goto out;
    }
    LCL_TRY_GOTO(lcl_config_load(r->path, r->sets.v, r->sets.n, run));
    lcl_env_forget_missing(run);
    LCL_TRY_GOTO(plan_stages(&e, run, r, p));
    if (r->json) {
        LCL_TRY_GOTO(print_json(p, r));
    } else if (r->cluster.ranks > 0) {
        print_ranks(p, &r->cluster);
    } else {
        for (int i = 0; i < p->n; i++) print_stage(&p->stages[i]);
        print_sum(p);
        if (r->projected) print_projection(p, r->projected);
    }
    if (r->cluster.ranks > 0) {
        status = ranks_fit(p);
        goto out;
    }
    for (int i = 0; i < p->n; i++) {
        const struct stage *s = &p->stages[i];
        LCL_TRY_GOTO(lcl_plan_fits_device(&s->plan, s->config, p->free_device, 0));
        LCL_TRY_GOTO(lcl_plan_fits(&s->plan, s->config, e.program_bytes));
    }
out:
    lcl_env_close(&e);
    free(run);
    free(p);
    return status;
}

/* Kinds of GPUs and the network by their names. --device names a kind, or what computes here. */
static lcl_status resolve(struct request *r, const char *device, const char *gpu,
                          const char *network)
{
    const struct lcl_gpu_kind *kind = NULL;
    if (gpu) LCL_TRY(lcl_gpu_kind(gpu, &r->projected));
    kind = r->projected;
    if (device && !strcmp(device, "cpu")) {
        r->sets.v[r->sets.n++] = "device=cpu";
    } else if (device && !strcmp(device, "cuda")) {
        r->sets.v[r->sets.n++] = "device=cuda";
    } else if (device) {
        LCL_TRY(lcl_gpu_kind(device, &kind));
    }
    if (kind && r->gpu_gib == 0) r->gpu_gib = kind->memory_gib;
    r->cluster.gpu = kind;
    LCL_TRY(lcl_network_named(network, &r->cluster.network));
    return kind ? lcl_cluster_check(&r->cluster) : LCL_OK;
}

static lcl_status run(int argc, char **argv)
{
    struct request r = {0};
    const char *gpu = NULL, *device = NULL, *network = "ib400";
    const struct cli_option options[] = {
        {"--gpu-memory", CLI_FLOAT, &r.gpu_gib, .low = 0, .high = 1e6, .value = "GIB",
         .doc = "plan for a GPU of so much memory, which need not be here"},
        {"--device", CLI_STR, &device, .value = "cpu|cuda|KIND",
         .doc = "what computes: short for --set device=...; or a kind of GPU that need not be "
                "here: a100, h100, h200, b200, rtx4090"},
        {"--gpu", CLI_STR, &gpu, .value = "KIND",
         .doc = "the same kinds: memory, and a projection of the time on 1, 4, 8 and 64 of them"},
        {"--ranks", CLI_INT, &r.cluster.ranks, .low = 0, .high = 65536,
         .doc = "plan for so many ranks instead: memory of each, bytes of collectives and, with "
                "--device KIND, time a step, for every ZeRO stage"},
        {"--network", CLI_STR, &network, .value = "NAME",
         .doc = "between nodes of 8 GPUs: ib200, ib400, ib800, roce400, eth100, eth25, or nvlink: "
                "there is one node"},
        {"--json", CLI_FLAG, &r.json, .doc = "print one JSON object"},
        {"--set", CLI_LIST, &r.sets, .value = "KEY=VALUE",
         .doc = "set a config key after the file is read; NAME:KEY=VALUE for the stage NAME only"},
        CLI_END};
    const struct cli_spec spec = {
        .usage = "CONFIG.yaml [options]",
        .about = "Tells what a run takes before it runs: memory by use, tokens and work a step, "
                 "disk, and about how\nlong it takes here. Nothing is trained or written; no "
                 "picture is opened. A run that does not fit in\nmemory_limit_mib, or in what the "
                 "machine or its GPU has free, is an error that names the keys to change.",
        .options = options,
        .min_args = 1,
        .max_args = 1,
        .notes =
            "The largest batch is that of up to 512 drawn ones where the pack is there, else "
            "the most that the config\nallows. Memory is what is resident at the peak, "
            "program and libraries included. Of small stages some\nsteps are tried, on values "
            "and pictures made up, for 3 s of processor time: they tell what libraries\nkeep "
            "and a step's time, its processor time over the threads. Else time is an estimate "
            "from products\nand copies measured for a fraction of a second. Seconds are those "
            "of a machine that does nothing else.\nOf --gpu-memory one GiB is left to the "
            "driver and CUDA's libraries.\nExample: lcl plan configs/paper/2-way.yaml --ranks 8 "
            "--device h100"};
    struct cli_args args;
    LCL_TRY(cli_parse(&spec, argc, argv, &args));
    if (args.help) return LCL_OK;
    r.path = args.v[0];
    if (r.sets.n == CLI_LIST_MAX)
        return LCL_FAIL(LCL_RANGE, "--set: at most %d times", CLI_LIST_MAX - 1);
    LCL_TRY(resolve(&r, device, gpu, network));
    return plan(&r);
}

const struct cli_verb verb_plan = {"plan", "memory, disk and time of a run, before it", 25, run};
