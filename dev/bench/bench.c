/* One side of the comparison: `bench CASE f32|bf16 DIR [dump|profile N]`.
 *
 * As a worker it prints a JSON line when it is ready, then does one repetition for each line "go"
 * on its input and prints its times; at the end of input it prints its peak memory. `dump` writes
 * what the other side needs to do the same work: parameters, batches, pictures. README.md has the
 * cases. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "core/fs.h"
#include "core/log.h"
#include "core/threads.h"
#include "dev/bench/smol.h"
#include "dev/bench/world.h"
#include "train/profile.h"

enum { STEPS = 4, QUERIES = 64, SHOTS = 16, NEW_TOKENS = 12 };
enum { PROMPT = 512, SHORT_PROMPT = 32, ANSWER = 128, IDS_SHOWN = 16 };

struct bench {
    struct world w;
    const char *dir;
    bool bf16, dump;
    struct lcl_trainer trainer; /* a */
    int64_t step;
    struct world_step whole;           /* b */
    struct lcl_batch_builder *builder; /* c */
    const struct lcl_batch *batch;
    struct lcl_generator generator;
    float *features;
    struct lcl_ids *answer;
    bool *is_branch;
    struct smol smol;
};

struct outcome {
    int64_t tokens;
    double loss;
    double begin_s, begin_cpu_s; /* what the time counts from */
    char note[512], logits[256];
};

struct bench_case {
    const char *name, *config; /* config NULL: open does everything */
    int64_t stage, vocabulary;
    const char *const *overrides;
    lcl_status (*open)(struct bench *);
    lcl_status (*repeat)(struct bench *, struct outcome *);
};

static lcl_status write_mean_and_scale(struct bench *b)
{
    return world_write(b->dir, "features.f32", b->w.features.data,
                       (size_t)(b->w.features.n_images * b->w.features.views * b->w.features.row) *
                           sizeof(float));
}

/* ---- a: a step of the demo's link-context stage ---- */

static lcl_status open_a(struct bench *b)
{
    struct world *w = &b->w;
    LCL_TRY(world_features(w));
    LCL_TRY(lcl_trainer_open(&b->trainer, &w->env, &w->config, 3, &w->features, NULL));
    if (!b->dump) return LCL_OK;
    LCL_TRY(write_mean_and_scale(b));
    for (int64_t s = 0; s < STEPS; s++)
        for (int64_t i = 0; i < b->trainer.n_lanes; i++) {
            char name[64];
            snprintf(name, sizeof name, "batch-%02d-%d.bin", (int)s, (int)i);
            LCL_TRY(lcl_lane_fill(&b->trainer.lane[i], &b->trainer.source, s, 1000, i));
            LCL_TRY(world_write_batch(b->trainer.lane[i].batch, b->dir, name));
        }
    return LCL_OK;
}

static lcl_status repeat_a(struct bench *b, struct outcome *o)
{
    for (int i = 0; i < STEPS; i++) {
        struct lcl_step_result r;
        b->step++;
        LCL_TRY(lcl_trainer_step(&b->trainer, i, 1000, b->step, &r));
        if (i == 0) o->loss = r.loss;
        o->tokens += r.tokens;
    }
    return LCL_OK;
}

/* ---- b: forward, backward and AdamW on one 8-shot episode, the tower run each time ---- */

static lcl_status open_b(struct bench *b)
{
    LCL_TRY(world_step_open(&b->w, &b->whole));
    if (!b->dump) return LCL_OK;
    LCL_TRY(world_write(b->dir, "pixels.f32", b->whole.pixels,
                        (size_t)b->whole.n_pixels * sizeof(float)));
    return world_write_batch(b->whole.batch, b->dir, "batch.bin");
}

static lcl_status repeat_b(struct bench *b, struct outcome *o)
{
    LCL_TRY(world_step_run(&b->w, &b->whole));
    o->loss = b->whole.loss;
    o->tokens = b->whole.batch->T;
    return LCL_OK;
}

/* ---- c: greedy answers to 64 queries on one 16-shot support set ---- */

static lcl_status open_c(struct bench *b)
{
    struct world *w = &b->w;
    struct lcl_sampler sampler;
    struct lcl_episode e;
    w->config.eval_queries = QUERIES;
    LCL_TRY(world_features(w));
    LCL_TRY(lcl_sampler_init_capped(&sampler, &w->config, &w->env.pack, &w->env.neighbors,
                                    LCL_SPLIT_TEST));
    lcl_status status = lcl_sampler_draw_eval(&sampler, SHOTS, 0, false, &e);
    if (status == LCL_OK) {
        status = lcl_batch_append_episode(b->builder, &e, LCL_ENCODE_PROMPT, LCL_SUPERVISE_LAST,
                                          NULL, 0);
        lcl_episode_free(&e);
    }
    lcl_sampler_free(&sampler);
    LCL_TRY(status);
    b->batch = lcl_batch_builder_get(b->builder);
    lcl_generator_init(&b->generator, &w->env.exec, &w->env.model);
    size_t row = (size_t)w->features.row;
    b->features = malloc((size_t)b->batch->n_images * row * sizeof(float));
    b->answer = calloc((size_t)b->batch->n_runs, sizeof *b->answer);
    b->is_branch = calloc((size_t)b->batch->n_runs, sizeof *b->is_branch);
    if (!b->features || !b->answer || !b->is_branch)
        return LCL_FAIL(LCL_MEMORY, "no memory for queries");
    for (int64_t i = 0; i < b->batch->n_images; i++)
        memcpy(b->features + (size_t)i * row,
               lcl_features_row(&w->features, b->batch->image_I[i], 0), row * sizeof(float));
    for (int64_t r = 0; r < b->batch->n_runs; r++)
        b->is_branch[r] = lcl_batch_builder_branches(b->builder)[r].query >= 0;
    if (!b->dump) return LCL_OK;
    LCL_TRY(world_write(b->dir, "features.f32", b->features,
                        (size_t)b->batch->n_images * row * sizeof(float)));
    return world_write_batch(b->batch, b->dir, "batch.bin");
}

static lcl_status repeat_c(struct bench *b, struct outcome *o)
{
    struct lcl_images images = {.features = b->features};
    LCL_TRY(lcl_generate(&b->generator, b->batch, &images, b->is_branch,
                         &(struct lcl_generate_how){.max_new = NEW_TOKENS}, b->answer));
    int used = snprintf(o->note, sizeof o->note, "[");
    for (int64_t r = 0; r < b->batch->n_runs; r++) {
        struct lcl_ids *ids = &b->answer[r];
        for (size_t i = 0; i < (size_t)ids->n; i++)
            if (used < 400 && r < 5)
                used += snprintf(o->note + used, sizeof o->note - (size_t)used, "%s%d",
                                 used > 1 ? ", " : "", (int)ids->v[i]);
        o->tokens += (int64_t)ids->n;
        lcl_ids_free(ids);
    }
    snprintf(o->note + used, sizeof o->note - (size_t)used, "]");
    return LCL_OK;
}

/* ---- smol: a prompt, or an answer, of the model in DIR/hf ---- */

static lcl_status open_prefill(struct bench *b)
{
    return smol_open(&b->smol, &b->w.env.exec, b->dir, b->bf16, PROMPT, 1);
}

static lcl_status open_decode(struct bench *b)
{
    return smol_open(&b->smol, &b->w.env.exec, b->dir, b->bf16, SHORT_PROMPT, ANSWER);
}

static lcl_status repeat_smol(struct bench *b, struct outcome *o)
{
    struct smol *s = &b->smol;
    LCL_TRY(smol_run(s));
    o->tokens = s->max_new == 1 ? s->batch.T : s->answer.n - 1;
    o->begin_s = s->begin_s;
    o->begin_cpu_s = s->begin_cpu_s;
    int used = 0, n = 0;
    for (int64_t i = 0; i < s->answer.n && i < IDS_SHOWN; i++)
        used += snprintf(o->note + used, sizeof o->note - (size_t)used, "%s%d", i ? ", " : "[",
                         (int)s->answer.v[i]);
    snprintf(o->note + used, sizeof o->note - (size_t)used, "]");
    for (int i = 0; i < SMOL_LOGITS; i++)
        n += snprintf(o->logits + n, sizeof o->logits - (size_t)n, "%s%.6f", i ? ", " : "[",
                      (double)s->logits[i]);
    snprintf(o->logits + n, sizeof o->logits - (size_t)n, "]");
    return LCL_OK;
}

static const char *const demo_sets[] = {"threads=0", "init_from=", "data.pack=", NULL};
static const char *const large_sets[] = {"threads=0", NULL};
static const char *const mlp_sets[] = {"threads=0", "gradient_checkpointing=mlp", NULL};
static const char *const pooled_sets[] = {"threads=0", "mm_image_pool=mean", "data.shots=16", NULL};
#define LORA                                                                          \
    "threads=0", "cache_features=true", "vision.num_hidden_layers=2", "lora.rank=16", \
        "lora.alpha=32", "learning_rate=1e-3"
#define LORA_ALL LORA, "lora.targets=language_model.*_proj"
static const char *const lora_sets[] = {LORA, NULL};
static const char *const lora_mlp_sets[] = {LORA, "gradient_checkpointing=mlp", NULL};
static const char *const lora_all_sets[] = {LORA_ALL, NULL};
static const char *const lora_all_mlp_sets[] = {LORA_ALL, "gradient_checkpointing=mlp", NULL};
#define DEMO "configs/demo/3-link-context.yaml"
#define LARGE "dev/bench/large.yaml"
static const struct bench_case cases[] = {
    {"a", DEMO, 2, 0, demo_sets, open_a, repeat_a},
    {"b", LARGE, 0, LARGE_VOCABULARY, large_sets, open_b, repeat_b},
    {"b-mlp", LARGE, 0, LARGE_VOCABULARY, mlp_sets, open_b, repeat_b},
    {"c-small", DEMO, 2, 0, demo_sets, open_c, repeat_c},
    {"c-large", LARGE, 0, LARGE_VOCABULARY, pooled_sets, open_c, repeat_c},
    {"smol-prefill", NULL, 0, 0, NULL, open_prefill, repeat_smol},
    {"smol-decode", NULL, 0, 0, NULL, open_decode, repeat_smol},
    {"lora", LARGE, 0, LARGE_VOCABULARY, lora_sets, open_b, repeat_b},
    {"lora-mlp", LARGE, 0, LARGE_VOCABULARY, lora_mlp_sets, open_b, repeat_b},
    {"lora-all", LARGE, 0, LARGE_VOCABULARY, lora_all_sets, open_b, repeat_b},
    {"lora-all-mlp", LARGE, 0, LARGE_VOCABULARY, lora_all_mlp_sets, open_b, repeat_b},
};

static long peak_kib(void)
{
    struct rusage u;
    getrusage(RUSAGE_SELF, &u);
    return u.ru_maxrss;
}

static lcl_status open_case(struct bench *b, const struct bench_case *k)
{
    struct world *w = &b->w;
    int n = 0;
    if (!k->config) return k->open(b);
    while (k->overrides[n]) n++;
    LCL_TRY(world_open(w, k->config, k->stage, k->overrides, n));
    LCL_TRY(world_model(w, k->vocabulary, b->bf16, k->open == open_a || k->open == open_b));
    if (b->dump) {
        lcl_params_initialise(&w->env.model.params, 1);
        LCL_TRY(lcl_fs_mkdirs(b->dir));
        LCL_TRY(world_write_params(w, b->dir));
    } else {
        LCL_TRY(world_read_params(w, b->dir));
    }
    LCL_TRY(lcl_batch_builder_create(w->env.tokenizer, (enum lcl_layout)w->config.data_layout,
                                     lcl_tokens_per_image(&w->env.model.config), &b->builder));
    return k->open(b);
}

/* A repetition, with its line; its ops go to p where one is given. */
static lcl_status one(struct bench *b, const struct bench_case *k, struct lcl_profile *p)
{
    struct outcome o = {.loss = NAN, .note = "[]", .logits = "[]"};
    o.begin_s = lcl_time_s();
    o.begin_cpu_s = bench_cpu_s();
    if (p) LCL_TRY(lcl_profile_step_begin(p, 1));
    LCL_TRY(k->repeat(b, &o));
    if (p) LCL_TRY(lcl_profile_step_end(p, true, 0, o.tokens));
    double wall = lcl_time_s() - o.begin_s, cpu = bench_cpu_s() - o.begin_cpu_s;
    int steps = k->name[0] == 'a' ? STEPS : 1;
    printf("{\"wall_s\": %.6f, \"cpu_s\": %.6f, \"steps\": %d, \"tokens\": %lld, \"loss\": %.6f, "
           "\"answers\": %s, \"logits\": %s}\n",
           wall, cpu, steps, (long long)o.tokens, isnan(o.loss) ? -1 : o.loss, o.note, o.logits);
    return LCL_OK;
}

static lcl_status profile(struct bench *b, const struct bench_case *k, int n)
{
    struct lcl_exec *ex = &b->w.env.exec;
    struct lcl_profile *p = NULL;
    struct lcl_profile_sum sum = {0};
    struct lcl_limits limits;
    struct lcl_text table = {0};
    double cpu = 0;
    LCL_TRY(one(b, k, NULL));
    lcl_status status;
    LCL_TRY_GOTO(lcl_profile_limits(ex, b->bf16, &limits));
    LCL_TRY_GOTO(lcl_profile_open(&p, ex));
    cpu = bench_cpu_s();
    for (int i = 0; i < n; i++) LCL_TRY_GOTO(one(b, k, p));
    cpu = bench_cpu_s() - cpu;
    LCL_TRY_GOTO(lcl_profile_sum(p, &sum));
    lcl_profile_table(&sum, &limits, 0, &table);
    LCL_TRY_GOTO(lcl_text_check(&table));
    fputs(table.data, stdout);
    printf("%.3f s wall, %.3f s of processors, %ld MiB at most\n", sum.wall_s, cpu,
           peak_kib() / 1024);
out:
    lcl_text_free(&table);
    lcl_profile_sum_free(&sum);
    lcl_profile_close(p);
    return status;
}

static lcl_status work(struct bench *b, const struct bench_case *k)
{
    char line[64];
    puts("{\"ready\": true}");
    while (fgets(line, sizeof line, stdin)) LCL_TRY(one(b, k, NULL));
    printf("{\"peak_kib\": %ld}\n", peak_kib());
    return LCL_OK;
}

static void close_bench(struct bench *b)
{
    if (b->trainer.env) lcl_trainer_close(&b->trainer);
    world_step_close(&b->whole);
    if (b->builder) lcl_batch_builder_free(b->builder);
    smol_close(&b->smol);
    if (b->answer) lcl_generator_free(&b->generator);
    free(b->features);
    free(b->answer);
    free(b->is_branch);
    world_close(&b->w);
}

int main(int argc, char **argv)
{
    static struct bench b;
    const struct bench_case *k = NULL;
    for (size_t i = 0; argc >= 4 && i < sizeof cases / sizeof *cases; i++)
        if (strcmp(cases[i].name, argv[1]) == 0) k = &cases[i];
    if (!k) {
        fputs("usage: bench CASE f32|bf16 DIR [dump | profile N]; CASE is one of", stderr);
        for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
            fprintf(stderr, " %s", cases[i].name);
        fputs("\n", stderr);
        return 2;
    }
    setvbuf(stdout, NULL, _IOLBF, 0);
    b.bf16 = strcmp(argv[2], "bf16") == 0;
    b.dir = argv[3];
    b.dump = argc > 4 && strcmp(argv[4], "dump") == 0;
    lcl_status status = open_case(&b, k);
    if (status == LCL_OK && !b.dump)
        status = argc > 5 ? profile(&b, k, atoi(argv[5])) : work(&b, k);
    if (status != LCL_OK) fprintf(stderr, "error: %s\n", lcl_error_message());
    close_bench(&b);
    lcl_threads_stop();
    return status == LCL_OK ? 0 : 1;
}
