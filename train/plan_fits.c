/* What the machine and its GPU have free, and whether a plan fits. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/log.h"
#include "train/device.h"
#include "train/plan.h"

enum { CHECK_BATCHES = 8 };

/* A number of a small file, at `word` where given; NAN when it is not there. */
static double read_number(const char *path, const char *word)
{
    char line[256];
    double value = NAN;
    FILE *f = fopen(path, "r");
    if (!f) return value;
    while (isnan(value) && fgets(line, sizeof line, f)) {
        size_t n = word ? strlen(word) : 0;
        if (n && strncmp(line, word, n) != 0) continue;
        char *end;
        double read = strtod(line + n, &end);
        if (end != line + n) value = read;
        if (!n) break;
    }
    fclose(f);
    return value;
}

static double cgroup_free(const char *limit, const char *used, const char *stat, const char *cache)
{
    double most = read_number(limit, NULL), now = read_number(used, NULL);
    double reclaimable = read_number(stat, cache);
    if (isnan(most) || isnan(now)) return INFINITY;
    return fmax(0, most - now + (isnan(reclaimable) ? 0 : reclaimable));
}

double lcl_plan_free_bytes(void)
{
    double kib = read_number("/proc/meminfo", "MemAvailable:");
    double all = isnan(kib) ? INFINITY : kib * 1024;
#define V2 "/sys/fs/cgroup/"
#define V1 "/sys/fs/cgroup/memory/"
    all = fmin(
        all, cgroup_free(V2 "memory.max", V2 "memory.current", V2 "memory.stat", "inactive_file "));
    return fmin(all, cgroup_free(V1 "memory.limit_in_bytes", V1 "memory.usage_in_bytes",
                                 V1 "memory.stat", "total_inactive_file "));
#undef V1
#undef V2
}

double lcl_plan_resident_bytes(void)
{
    long long pages = 0, resident = 0;
    FILE *f = fopen("/proc/self/statm", "r");
    if (!f) return 0;
    if (fscanf(f, "%lld %lld", &pages, &resident) != 2) resident = 0;
    fclose(f);
    return (double)resident * (double)sysconf(_SC_PAGESIZE);
}

struct part {
    const char *title;
    double bytes;
    bool is_tensor;
    char keys[200];
};

/* What the config's keys make smaller, in the order of LCL_PLAN_ARENAS. */
static int list_parts(const struct lcl_plan *p, const struct lcl_config *c, struct part *v)
{
    char batch[200];
    snprintf(batch, sizeof batch, "lower per_device_train_batch_size (%lld)%s%s%s",
             (long long)c->per_device_train_batch_size,
             p->device == 0 && c->lanes > 1 ? " or lanes" : "",
             c->task == LCL_TASK_LINK_CONTEXT ? " or data.shots" : "",
             c->gradient_checkpointing == LCL_CHECKPOINT_LAYERS
                 ? ""
                 : ", or set gradient_checkpointing: true");
    const char *keys[] = {
        c->bf16 && c->master_weights == LCL_MASTER_F32
            ? "set master_weights: none"
            : "choose a smaller model (text.*, vision.*)",
        c->lanes > 1 ? "lower lanes, or set freeze_text or freeze_vision_tower: true"
                     : "set freeze_text or freeze_vision_tower: true",
        c->optim == LCL_STATES_8BIT ? "set freeze_text or freeze_vision_tower: true"
                                    : "set optim: adamw_8bit",
        batch,
        "lower eval.shots, or set eval_steps: 0, and data.refresh_neighbors: 0",
        "lower per_device_train_batch_size or gradient_accumulation_steps",
        "lower data.augment_views, or set cache_features: false",
        "lower vision.image_size",
        "set save_async: false",
        "", /* no key makes the program smaller */
        ""};
    int n = 0;
#define X(field, name, tensor)                            \
    v[n].title = name;                                    \
    v[n].bytes = p->field;                                \
    v[n].is_tensor = tensor;                              \
    snprintf(v[n].keys, sizeof v[n].keys, "%s", keys[n]); \
    n++;
    LCL_PLAN_ARENAS(X)
#undef X
    return n;
}

static int by_bytes(const void *a, const void *b)
{
    const struct part *x = a, *y = b;
    return (x->bytes < y->bytes) - (x->bytes > y->bytes);
}

/* Memory that does not suffice. */
struct shortage {
    const char *memory, *has; /* "the GPU's memory"; "free are" */
    const char *hint;         /* more to do, or "" */
    double wanted, limit;
    bool tensors, others; /* which parts lie in it */
};

static lcl_status refuse(const struct lcl_plan *p, const struct lcl_config *c,
                         const struct shortage *s)
{
    struct part part[16];
    char hint[512], largest[128] = "", wanted[24], has[24], bytes[24];
    int all = list_parts(p, c, part), n = 0;
    for (int i = 0; i < all; i++)
        if (part[i].keys[0] && (part[i].is_tensor ? s->tensors : s->others)) part[n++] = part[i];
    qsort(part, (size_t)n, sizeof *part, by_bytes);
    bool two = part[1].bytes > s->wanted / 8;
    if (part[1].bytes > 0)
        snprintf(largest, sizeof largest, ", %s %s", part[1].title,
                 lcl_format_bytes(part[1].bytes, bytes));
    snprintf(hint, sizeof hint, "%s%s%s%s", part[0].keys, two ? "; " : "", two ? part[1].keys : "",
             s->hint);
    return LCL_FAIL_HINT(LCL_MEMORY, hint, "stage %s needs %s of %s (%s %s%s); %s %s",
                         c->stage_name[0] ? c->stage_name : "train",
                         lcl_format_bytes(s->wanted, wanted), s->memory, part[0].title,
                         lcl_format_bytes(part[0].bytes, bytes), largest, s->has,
                         lcl_format_bytes(s->limit, has));
}

lcl_status lcl_plan_fits(const struct lcl_plan *p, const struct lcl_config *c, double resident)
{
    bool limited = c->memory_limit_mib > 0;
    double limit =
        limited ? (double)c->memory_limit_mib * (1 << 20) : lcl_plan_free_bytes() + resident;
    if (p->total <= limit) return LCL_OK;
    return refuse(p, c,
                  &(struct shortage){.memory = "memory",
                                     .has = limited ? "memory_limit_mib allows" : "free are",
                                     .hint = limited ? "; or raise memory_limit_mib" : "",
                                     .wanted = p->total,
                                     .limit = limit,
                                     .tensors = p->device == 0,
                                     .others = true});
}

lcl_status lcl_plan_fits_device(const struct lcl_plan *p, const struct lcl_config *c, double unused,
                                double resident)
{
    if (p->device <= unused + resident) return LCL_OK;
    return refuse(p, c,
                  &(struct shortage){.memory = "the GPU's memory",
                                     .has = "free are",
                                     .hint = "",
                                     .wanted = p->device,
                                     .limit = unused + resident,
                                     .tensors = true});
}

/* What is there before steps begin may still be the most at once. */
static void leave_snapshot_out(struct lcl_plan *p)
{
    const double tensors = p->device > 0 ? 0 : p->parameters + p->feature_tower;
    p->total =
        fmax(p->total - p->snapshot, tensors + p->features + p->feature_pictures + p->program);
    p->snapshot = 0;
}

lcl_status lcl_plan_check(struct lcl_env *e, const struct lcl_config *c, uint32_t epoch)
{
    struct lcl_plan p;
    double reserved = 0;
    LCL_TRY(lcl_plan_stage(e, c, epoch, CHECK_BATCHES, &p));
    if (e->model.values.base) reserved += p.parameters;
    if (e->model.moments.base) reserved += p.moments;
    LCL_TRY(lcl_plan_fits_device(&p, c, lcl_device_free_bytes(&e->exec), reserved));
    const double resident = lcl_plan_resident_bytes();
    if (p.snapshot == 0 || lcl_plan_fits(&p, c, resident) == LCL_OK)
        return lcl_plan_fits(&p, c, resident);
    leave_snapshot_out(&p);
    LCL_TRY(lcl_plan_fits(&p, c, resident));
    if (!e->save_at_once)
        lcl_log_info("no memory for snapshots: training waits while checkpoints are written");
    e->save_at_once = true;
    return LCL_OK;
}

lcl_status lcl_plan_check_values(const struct lcl_env *e, const struct lcl_config *c)
{
    struct lcl_plan p = {.parameters = (double)lcl_params_values_bytes(&e->model.params)};
    *(e->exec.device ? &p.device : &p.total) = p.parameters;
    LCL_TRY(lcl_plan_fits_device(&p, c, lcl_device_free_bytes(&e->exec), 0));
    return lcl_plan_fits(&p, c, 0);
}
