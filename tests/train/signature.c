/* `make signature`: one number for the maths of a tiny run over all three tasks (vision warm-up,
 * language pretraining, link-context training on generated pictures). A change that leaves the
 * maths alone leaves the number alone; it hashes every step's loss and gradient norm (9 digits) and
 * the bits of the parameters at the end. */
#include "tests/support/support.h"

#include "checkpoint/ckpt.h"
#include "core/fs.h"
#include "core/log.h"
#include "model/model.h"
#include "tests/support/tiny.h"
#include "train/loop.h"
#include "train/metrics.h"

static const char stages[] =
    "freeze_vision_tower: false\nmm_standardize: true\n"
    "stages:\n"
    "  - {name: vision, task: vision, max_steps: 6}\n"
    "  - {name: language, task: language, max_steps: 6, language.length: 24,\n"
    "     language.min_segment: 3, language.max_segment: 8}\n"
    "  - {name: link, max_steps: 8, gradient_accumulation_steps: 2, data.augment_views: 2}\n"
    "  - {name: frozen, max_steps: 4, freeze_vision_tower: true, data.supervise: repeats,\n"
    "     gradient_checkpointing: true}\n"
    "  - {name: queries, max_steps: 4, data.queries: 2}\n";

static uint64_t mix(uint64_t hash, const void *bytes, size_t size)
{
    const uint8_t *b = bytes;
    for (size_t i = 0; i < size; i++) hash = (hash ^ b[i]) * 0x100000001b3u;
    return hash;
}

static uint64_t hash_parameters(uint64_t hash, const char *dir)
{
    char path[LCL_CHECKPOINT_PATH_BYTES];
    struct lcl_model_config config;
    struct lcl_model m;
    ASSERT_OK(lcl_checkpoint_find(dir, path, sizeof path));
    ASSERT_OK(lcl_checkpoint_load_config(path, &config));
    ASSERT_OK(lcl_model_create(&m, &config));
    ASSERT_OK(lcl_model_reserve(&m, false, false, false));
    ASSERT_OK(lcl_checkpoint_load(path, &m.params, false, NULL));
    for (int i = 0; i < m.params.n_rows; i++)
        hash = mix(hash, m.params.value + m.params.rows[i].offset,
                   m.params.rows[i].count * sizeof(float));
    lcl_model_free(&m);
    return hash;
}

int main(void)
{
    char yaml[4096], dir[300], path[400];
    const char *every_step = "logging_steps=1";
    bool interrupted = false;
    lcl_log_set_level(LCL_LOG_QUIET);
    snprintf(dir, sizeof dir, "%s/run", temp_dir());
    snprintf(path, sizeof path, "%s/metrics.jsonl", dir);
    snprintf(yaml, sizeof yaml, "%soutput_dir: %s\n%s", tiny_yaml(), dir, stages);
    struct lcl_run_config *config = malloc(sizeof *config);
    assert_non_null(config);
    ASSERT_OK(lcl_config_load(tiny_file("run.yaml", yaml), &every_step, 1, config));
    ASSERT_OK(lcl_train_run(config, &(struct lcl_train_options){0}, &interrupted));
    struct lcl_metrics_table t;
    ASSERT_OK(lcl_metrics_load(path, &t));
    uint64_t hash = 0xcbf29ce484222325u;
    size_t steps = 0;
    for (size_t i = 0; i < t.n; i++) {
        if (strcmp(t.rows[i].kind, "train") != 0) continue;
        hash = mix(hash, &t.rows[i].loss, sizeof t.rows[i].loss);
        hash = mix(hash, &t.rows[i].grad_norm, sizeof t.rows[i].grad_norm);
        steps++;
    }
    assert_int_equal(steps, 28);
    printf("%016llx\n", (unsigned long long)hash_parameters(hash, dir));
    lcl_metrics_table_free(&t);
    free(config);
    return 0;
}
