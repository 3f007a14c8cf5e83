#include "train/plan_gpus.h"

#include <math.h>
#include <string.h>

#include "train/refresh.h"

/* H100: NVIDIA H100 data sheet, SXM; A100 80 GB SXM; H200; B200 (of HGX B200); GeForce RTX 4090
 * (Ada whitepaper, appendix A). Links: NVLink 3, 4, 5; PCIe 4.0 x16. Networks: InfiniBand of 200
 * and 400 Gbit/s a GPU; 100 Gbit/s. */
static const struct lcl_gpu_kind kinds[] = {
    {"a100", 80, 312e12, 19.5e12, 300e9, 25e9, 2.039e12},
    {"h100", 80, 989e12, 67e12, 450e9, 50e9, 3.35e12},
    {"h200", 141, 989e12, 67e12, 450e9, 50e9, 4.8e12},
    {"b200", 180, 2250e12, 80e12, 900e9, 50e9, 8e12},
    {"rtx4090", 24, 165e12, 82.6e12, 25e9, 12.5e9, 1.008e12}};
enum { N_KINDS = sizeof kinds / sizeof *kinds };

#define BF16_SHARE 0.4 /* of the data sheet's rate */
#define F32_SHARE 0.6
#define MEMORY_SHARE 0.8
#define LINK_SHARE 0.7
#define BACKWARD_SHARE 0.6 /* of a step's compute, while which sums may be made */

const char lcl_projection_assumptions[] =
    "  Assumed, measured on no GPU: products at 40 % of the data sheet's dense bf16 rate (60 % in "
    "f32);\n"
    "  GPUs share the lanes of a step, with at least one lane each, so that a step may grow and "
    "steps become\n"
    "  fewer; every GPU holds the whole model (memory a GPU as above); gradients are summed in a "
    "ring, f32,\n"
    "  at 70 % of NVLink (or PCIe) within a node of 8 and of the network between nodes, and the "
    "backward,\n"
    "  60 % of the compute, covers what it can of that. Reading pictures and launching kernels "
    "cost "
    "nothing:\n"
    "  small models take longer.\n";

lcl_status lcl_gpu_kind(const char *name, const struct lcl_gpu_kind **out)
{
    const char *names[N_KINDS];
    for (int i = 0; i < N_KINDS; i++) {
        names[i] = kinds[i].name;
        *out = &kinds[i];
        if (strcmp(name, names[i]) == 0) return LCL_OK;
    }
    const char *near = lcl_nearest_word(name, names, N_KINDS);
    return LCL_FAIL_HINT(LCL_CONFIG, near ? near : "a100, h100, h200, b200, rtx4090",
                         "no GPU is called \"%.80s\" here", name);
}

double lcl_gpu_rate(const struct lcl_gpu_kind *k, bool bf16)
{
    return bf16 ? BF16_SHARE * k->bf16 : F32_SHARE * k->f32;
}

double lcl_gpu_memory_rate(const struct lcl_gpu_kind *k) { return MEMORY_SHARE * k->memory_bytes; }

/* Seconds to sum `bytes` over n GPUs in a ring: each sends all of it twice but for one part of n,
 * over the slowest link. */
static double ring_seconds(const struct lcl_gpu_kind *k, double bytes, double n)
{
    const double link = n > LCL_GPUS_A_NODE ? k->network_bytes : k->link_bytes;
    return 2 * bytes * (n - 1) / n / (LINK_SHARE * link);
}

struct lcl_projection lcl_plan_project(const struct lcl_plan *p, const struct lcl_config *c,
                                       const struct lcl_gpu_kind *kind, int64_t gpus)
{
    const int64_t lanes = c->lanes * c->gradient_accumulation_steps;
    const double rate = lcl_gpu_rate(kind, c->bf16);
    struct lcl_projection r = {.gpus = gpus, .lanes = lanes > gpus ? lanes : gpus};
    const double grown = (double)r.lanes / (double)lanes;
    const int64_t most = (r.lanes + gpus - 1) / gpus; /* lanes of the busiest GPU */
    r.steps = ceil((double)c->max_steps / grown);
    r.compute_s = p->flops / (double)lanes * (double)most / rate;
    r.sums_s = ring_seconds(kind, 4.0 * (double)p->n_trainable, (double)gpus);
    r.step_s = r.compute_s + fmax(0, r.sums_s - BACKWARD_SHARE * r.compute_s);
    r.tokens_per_s = p->tokens * grown / r.step_s;
    r.stage_s = r.steps * r.step_s + lcl_refresh_count(c, r.steps) * p->refresh_flops / rate;
    return r;
}
