/* A plan for many ranks as people and programs read it. */
#include <stdio.h>

#include "core/log.h"
#include "train/plan_ranks.h"

void lcl_plan_ranks_assumed(const struct lcl_cluster *k)
{
    printf("  Assumed, measured nowhere:\n");
    if (k->gpu)
        printf("  - ops one after another, each at 40 %% of the data sheet's dense bf16 rate (f32: "
               "60 %%) or 80 %% of its memory's,\n    whichever takes longer; reading pictures and "
               "launching kernels cost nothing; every lane is like the drawn one\n    nearest the "
               "mean;\n  - each part of a collective goes straight to the rank that wants it, at "
               "70 %% of %.4g GB/s within a node of %d and\n    of %.4g GB/s between nodes (%s: "
               "%s), after 20 us; collectives go one after another,\n    beside the ops;\n",
               k->gpu->link_bytes / 1e9, LCL_GPUS_A_NODE, k->network->bytes / 1e9, k->network->name,
               k->network->doc);
    printf(
        "  - gradients, f32 sums of a rank's lanes, leave by layers, at least %.4g MiB at a time, "
        "as the last lane's backward\n    completes them, and what lies in no layer when it "
        "ends; with zero 2 and 3 %s;\n"
        "  - zero 0: the sums go back to all; 1 and 2: new values go to all after the update; 3: "
        "the decoder's layers come for\n    every forward and backward, while the layer before "
        "is at work, the rest once a step;\n"
        "  - memory outside of a rank's share is given back%s;\n    low halves of bf16 values stay "
        "and never travel.\n",
        k->bucket_bytes / (1 << 20),
        k->deterministic ? "no earlier (deterministic)"
                         : "once a lane, and only the rank's own stay",
        k->gpu ? ", as on CPUs (the CUDA backend keeps it so far: 2 and 3 take what 1 does)" : "");
}

static const char *size(double bytes, char *text) { return lcl_format_bytes(bytes, text); }

static void print_memory(const struct lcl_rank_plan *r)
{
    char v[7][24];
    printf("    zero  parameters   gradients     moments activations     buckets       other"
           "  a rank in all\n");
    for (int z = 0; z < LCL_ZERO_STAGES; z++)
        printf("    %4d  %10s  %10s  %10s  %10s  %10s  %10s  %13s\n", r[z].zero,
               size(r[z].parameters, v[0]), size(r[z].gradients, v[1]), size(r[z].moments, v[2]),
               size(r[z].activations, v[3]), size(r[z].buckets, v[4]), size(r[z].others, v[5]),
               size(r[z].total, v[6]));
}

static void print_bytes(const struct lcl_rank_plan *r)
{
    char v[4][24];
    printf("    zero   gradients out    sums to all   values to all  sent by a rank, a step\n");
    for (int z = 0; z < LCL_ZERO_STAGES; z++)
        printf("    %4d  %14s %14s  %14s  %22s\n", r[z].zero, size(r[z].reduce.bytes, v[0]),
               size(r[z].gather_grads.bytes, v[1]), size(r[z].gather.bytes, v[2]),
               size(r[z].reduce.bytes + r[z].gather_grads.bytes + r[z].gather.bytes, v[3]));
}

static void print_times(const struct lcl_rank_plan *r)
{
    printf(
        "    zero  lanes s  update s  collectives s  exposed s  step s   tokens/s  efficiency\n");
    for (int z = 0; z < LCL_ZERO_STAGES; z++)
        printf("    %4d  %7.4g  %8.3g  %13.3g  %9.3g  %6.4g  %9.0f  %8.1f %%\n", r[z].zero,
               r[z].compute_s, r[z].update_s, r[z].comm_s, r[z].exposed_s, r[z].step_s,
               r[z].tokens_per_s, 100 * r[z].efficiency);
}

void lcl_plan_ranks_print(const struct lcl_rank_plan *r, const struct lcl_cluster *k,
                          const struct lcl_config *c)
{
    printf("  %s: lanes: %lld, at most %lld a rank; the config has zero: %lld\n",
           c->stage_name[0] ? c->stage_name : "train", (long long)r->lanes,
           (long long)r->rank_lanes, (long long)c->zero);
    print_memory(r);
    print_bytes(r);
    if (k->gpu) print_times(r);
}

static json_t *json_collective(const struct lcl_collective *c)
{
    return json_pack("{s:f, s:f}", "bytes", c->bytes, "calls", c->calls);
}

static json_t *json_zero(const struct lcl_rank_plan *r, bool timed)
{
    json_t *o =
        json_pack("{s:i, s:{s:f, s:f, s:f, s:f, s:f, s:f, s:f}, s:{s:o, s:o, s:o}, s:f}", "zero",
                  r->zero, "memory_bytes", "parameters", r->parameters, "gradients", r->gradients,
                  "moments", r->moments, "activations", r->activations, "buckets", r->buckets,
                  "other", r->others, "total", r->total, "sent", "reduce_gradients",
                  json_collective(&r->reduce), "gather_gradients",
                  json_collective(&r->gather_grads), "gather_values", json_collective(&r->gather),
                  "sent_bytes", r->reduce.bytes + r->gather_grads.bytes + r->gather.bytes);
    json_t *times = json_pack("{s:f, s:f, s:f, s:f, s:f, s:f, s:f}", "lanes_seconds", r->compute_s,
                              "update_seconds", r->update_s, "collectives_seconds", r->comm_s,
                              "exposed_seconds", r->exposed_s, "seconds_per_step", r->step_s,
                              "tokens_per_second", r->tokens_per_s, "efficiency", r->efficiency);
    if (timed) json_object_update(o, times);
    json_decref(times);
    return o;
}

json_t *lcl_plan_ranks_json(const struct lcl_rank_plan *r, const struct lcl_cluster *k,
                            const struct lcl_config *c)
{
    json_t *stages = json_array();
    for (int z = 0; z < LCL_ZERO_STAGES; z++)
        json_array_append_new(stages, json_zero(&r[z], k->gpu != NULL));
    json_t *o = json_pack("{s:I, s:f, s:b, s:I, s:I, s:o}", "ranks", (json_int_t)k->ranks,
                          "bucket_bytes", (double)(c->bucket_mb << 20), "deterministic",
                          (int)c->deterministic, "lanes", (json_int_t)r->lanes, "lanes_per_rank",
                          (json_int_t)r->rank_lanes, "zero", stages);
    if (!o || !k->gpu) return o;
    json_object_set_new(o, "gpu", json_string(k->gpu->name));
    json_object_set_new(o, "network", json_string(k->network->name));
    return o;
}
