/* The model against transformers: tensors of ../shared/golden/llava-tiny within its README's CPU
 * tolerances. */
#include <math.h>

#include "checkpoint/hf.h"
#include "optim/optimizer.h"
#include "tests/support/support.h"
#include "train/forward.h"

#define MODEL "golden/llava-tiny"

struct golden {
    struct lcl_safetensors st;
    struct lcl_model model;
    struct lcl_hf_names names;
    struct lcl_case c;
};

static void golden_open_with(struct golden *g, const struct lcl_lora_config *lora)
{
    struct lcl_model_config config;
    char path[4096];
    memset(g, 0, sizeof *g);
    test_exec(); /* the backend, in whose memory the model will lie */
    snprintf(path, sizeof path, "%s", shared_path(MODEL "/case.safetensors"));
    ASSERT_OK(lcl_hf_load_config(shared_path(MODEL), &config));
    if (lora) config.lora = *lora;
    ASSERT_OK(lcl_model_create(&g->model, &config));
    ASSERT_OK(lcl_model_reserve(&g->model, false, true, true));
    ASSERT_OK(lcl_hf_load(shared_path(MODEL), &g->model.params, LCL_ALL_PARTS, &g->names));
    lcl_params_changed(&g->model.params);
    ASSERT_OK(lcl_st_open(path, &g->st));
    ASSERT_OK(lcl_case_read(&g->st, path, "", &config, &g->c));
}

static void golden_open(struct golden *g) { golden_open_with(g, NULL); }

static void golden_close(struct golden *g)
{
    lcl_case_free(&g->c);
    lcl_st_close(&g->st);
    lcl_hf_names_free(&g->names);
    lcl_model_free(&g->model);
}

static double *read_all(const struct lcl_safetensors *st, const char *name, size_t *n)
{
    const struct lcl_st_tensor *t = lcl_st_find(st, name);
    if (!t) fail_msg("no tensor %s", name);
    double *x = malloc((t->count + 1) * sizeof *x);
    ASSERT_OK(lcl_st_read(t, 0, t->count, LCL_F64, x));
    *n = t->count;
    return x;
}

static void compare_max(const struct lcl_safetensors *got, const struct golden *g, const char *name,
                        double tolerance)
{
    size_t n, m;
    double *a = read_all(got, name, &n), *b = read_all(&g->st, name, &m), worst = 0;
    assert_int_equal(n, m);
    const struct lcl_st_tensor *ids = lcl_st_find(&g->st, "attention_mask");
    int64_t V = g->model.config.text.V;
    for (size_t i = 0; i < n; i++) {
        if (strcmp(name, "logits") == 0) { /* compared where attended */
            int64_t mask;
            ASSERT_OK(lcl_st_read(ids, i / (size_t)V, 1, LCL_I64, &mask));
            if (!mask) continue;
        }
        worst = fmax(worst, fabs(a[i] - b[i]));
    }
    print_message("%-16s largest difference %.2g (tolerance %.0e)\n", name, worst, tolerance);
    assert_true(worst <= tolerance);
    free(a);
    free(b);
}

static void compare_grads(const struct lcl_safetensors *got, const struct golden *g)
{
    int compared = 0;
    double worst = 0;
    for (size_t i = 0; i < g->st.n_tensors; i++) {
        const char *name = g->st.tensors[i].name;
        if (strncmp(name, "grad.", 5) != 0) continue;
        size_t n, m;
        double *a = read_all(got, name, &n), *b = read_all(&g->st, name, &m), diff = 0, norm = 0;
        assert_int_equal(n, m);
        for (size_t k = 0; k < n; k++) {
            diff += (a[k] - b[k]) * (a[k] - b[k]);
            norm += b[k] * b[k];
        }
        diff = sqrt(diff);
        norm = sqrt(norm);
        if (diff > 1e-4 * norm && diff > 1e-6)
            fail_msg("%s: relative error %.3g (norm %.3g)", name, diff / norm, norm);
        if (norm > 1e-6) worst = fmax(worst, diff / norm);
        compared++;
        free(a);
        free(b);
    }
    print_message("%d gradients, largest relative error %.2g (tolerance 1e-4)\n", compared, worst);
    assert_true(compared > 60);
}

static void forward_and_gradients(void **state)
{
    (void)state;
    struct golden g;
    struct lcl_safetensors got;
    char out[4096];
    golden_open(&g);
    snprintf(out, sizeof out, "%s/out.safetensors", temp_dir());
    ASSERT_OK(lcl_forward_case(test_exec(), &g.model, &g.names, &g.c, out));
    ASSERT_OK(lcl_st_open(out, &got));
    compare_max(&got, &g, "vision_hidden", 5e-5);
    compare_max(&got, &g, "image_features", 5e-5);
    compare_max(&got, &g, "logits", 8e-5);
    compare_max(&got, &g, "loss", 1e-5);
    compare_grads(&got, &g);
    lcl_st_close(&got);
    golden_close(&g);
}

/* The same gradients when layers are recomputed in the backward: bit for bit. */
static void checkpointing_changes_nothing(void **state)
{
    (void)state;
    struct golden g;
    golden_open(&g);
    size_t bytes = g.model.params.n_elements * sizeof(float);
    float *kept = malloc(bytes);
    double loss[3];
    const enum lcl_checkpointing kinds[] = {LCL_CHECKPOINT_NONE, LCL_CHECKPOINT_MLP,
                                            LCL_CHECKPOINT_LAYERS};
    for (int pass = 0; pass < 3; pass++) {
        struct lcl_pass p = {.exec = test_exec(),
                             .model = &g.model,
                             .grad = g.model.params.grad,
                             .checkpointing = kinds[pass],
                             .train_vision = true,
                             .train_projector = true,
                             .train_text = true};
        struct lcl_images images = {.pixels = g.c.pixels};
        memset(p.grad, 0, bytes);
        ASSERT_OK(lcl_model_step(&p, &g.c.batch, &images, 0.01f, &loss[pass], NULL));
        if (pass == 0) memcpy(kept, p.grad, bytes);
        lcl_pass_free(&p);
        assert_true(loss[0] == loss[pass]);
        assert_memory_equal(kept, g.model.params.grad, bytes);
    }
    free(kept);
    golden_close(&g);
}

/* Checksums RUN.NAME of the parameters; returns how many. */
static int check_sums(const struct golden *g, const char *run, bool frozen, double tolerance)
{
    int n_checked = 0;
    for (int i = 0; i < g->model.params.n_rows; i++) {
        const struct lcl_param *r = &g->model.params.rows[i];
        char name[256];
        size_t n;
        double sum = 0, norm = 0;
        snprintf(name, sizeof name, "%s.%s", run, g->names.name[i]);
        if (!lcl_st_find(&g->st, name)) continue;
        /* its gradient is zero but for rounding, which Adam amplifies */
        if (!frozen && r->part == LCL_PART_VISION && strstr(r->name, "k_proj.bias")) continue;
        for (size_t k = 0; k < r->count; k++) {
            double x = (double)g->model.params.value[r->offset + k];
            sum += x;
            norm += x * x;
        }
        double *want = read_all(&g->st, name, &n);
        if (fabs(sum - want[0]) > tolerance || fabs(sqrt(norm) - want[1]) > tolerance)
            fail_msg("%s: sum %.7g, norm %.7g; wanted %.7g, %.7g", name, sum, sqrt(norm), want[0],
                     want[1]);
        free(want);
        n_checked++;
    }
    return n_checked;
}

static void take_steps(struct golden *g, const char *run, bool train_vision)
{
    struct lcl_config config;
    char name[64];
    size_t n;
    lcl_config_defaults(&config);
    config.learning_rate = 1e-3;
    config.weight_decay = 0.1;
    config.warmup_steps = 2;
    config.max_grad_norm = 1;
    snprintf(name, sizeof name, "%s.loss", run);
    double *loss = read_all(&g->st, name, &n), *lr = read_all(&g->st, "train.lr", &n);
    snprintf(name, sizeof name, "%s.grad_norm", run);
    double *norm = read_all(&g->st, name, &n), worst_loss = 0, worst_norm = 0;
    struct lcl_optimizer optimizer;
    ASSERT_OK(lcl_optimizer_open(&optimizer, &g->model.params, NULL, 1));
    struct lcl_pass p = {.exec = test_exec(),
                         .model = &g->model,
                         .grad = g->model.params.grad,
                         .train_vision = train_vision,
                         .train_projector = true,
                         .train_text = true};
    for (int step = 0; step < 10; step++) {
        struct lcl_images images = {.pixels = g->c.pixels};
        struct lcl_update u = {.step = step, .n_steps = 10, .adam_step = step + 1};
        double loss_sum;
        memset(p.grad, 0, g->model.params.n_elements * sizeof(float));
        ASSERT_OK(
            lcl_model_step(&p, &g->c.batch, &images, 1.0f / (float)g->c.batch.S, &loss_sum, NULL));
        ASSERT_OK(lcl_optimizer_update(&optimizer, test_exec(), &config, &u));
        ASSERT_OK(lcl_exec_sync(test_exec()));
        ASSERT_OK(lcl_optimizer_finish(&optimizer, &g->model.params, &u));
        assert_float_equal(u.lr, lr[step], 1e-9);
        worst_loss = fmax(worst_loss, fabs(loss_sum / (double)g->c.batch.S - loss[step]));
        worst_norm = fmax(worst_norm, fabs(u.grad_norm - norm[step]) / norm[step]);
    }
    print_message("%s: ten losses within %.2g (tolerance 5e-5), norms within %.2g (1e-4)\n", run,
                  worst_loss, worst_norm);
    assert_true(worst_loss <= 5e-5);
    assert_true(worst_norm <= 1e-4);
    free(loss);
    free(lr);
    free(norm);
    lcl_optimizer_close(&optimizer);
    lcl_pass_free(&p);
}

static void ten_steps(const char *run, bool frozen)
{
    struct golden g;
    golden_open(&g);
    lcl_params_set_trainable(&g.model.params, LCL_PART_VISION, !frozen);
    take_steps(&g, run, !frozen);
    assert_true(check_sums(&g, frozen ? "train_frozen_vision.final" : "train_full.final", frozen,
                           5e-4) > 20);
    golden_close(&g);
}

static void ten_steps_full(void **state)
{
    (void)state;
    ten_steps("train_full", false);
}

static void ten_steps_frozen_vision(void **state)
{
    (void)state;
    ten_steps("train_frozen_vision", true);
}

/* ---- adapters ---- */

static const struct lcl_lora_config golden_lora = {
    .rank = 4, .alpha = 8, .targets = "language_model.*.q_proj,language_model.*.v_proj"};

/* lora.WHEN.MODULE.lora_A of the case, for the row MODULE.lora_A.weight. */
static double *read_adapter(const struct golden *g, const struct lcl_param *p, const char *when)
{
    char name[256];
    size_t n;
    snprintf(name, sizeof name, "lora.%s.%.*s", when, (int)(strlen(p->name) - strlen(".weight")),
             p->name);
    double *x = read_all(&g->st, name, &n);
    assert_int_equal(n, p->count);
    return x;
}

/* Largest difference of the adapters' values to those of the case. */
static double compare_adapters(const struct golden *g, const char *when)
{
    double worst = 0;
    for (int i = g->model.n_base; i < g->model.params.n_rows; i++) {
        const struct lcl_param *p = &g->model.params.rows[i];
        double *want = read_adapter(g, p, when);
        for (size_t k = 0; k < p->count; k++)
            worst = fmax(worst, fabs((double)g->model.params.value[p->offset + k] - want[k]));
        free(want);
    }
    return worst;
}

static void begin_adapters(struct golden *g)
{
    int n_adapters = 0;
    for (int i = g->model.n_base; i < g->model.params.n_rows; i++, n_adapters++) {
        const struct lcl_param *p = &g->model.params.rows[i];
        double *x = read_adapter(g, p, "init");
        for (size_t k = 0; k < p->count; k++) g->model.params.value[p->offset + k] = (float)x[k];
        free(x);
    }
    assert_int_equal(n_adapters, 2 * 2 * g->model.config.text.n_layers);
    lcl_params_set_adapting(&g->model.params, true);
    lcl_params_changed(&g->model.params);
}

static double *logits_of(struct golden *g)
{
    struct lcl_safetensors got;
    char out[4096];
    size_t n;
    snprintf(out, sizeof out, "%s/lora.safetensors", temp_dir());
    ASSERT_OK(lcl_forward_case(test_exec(), &g->model, &g->names, &g->c, out));
    ASSERT_OK(lcl_st_open(out, &got));
    double *logits = read_all(&got, "logits", &n);
    lcl_st_close(&got);
    return logits;
}

/* Largest difference where tokens are attended. */
static double logits_apart(const struct golden *g, const double *a, const double *b)
{
    const struct lcl_st_tensor *mask = lcl_st_find(&g->st, "attention_mask");
    const int64_t V = g->model.config.text.V;
    double worst = 0;
    for (size_t t = 0; t < mask->count; t++) {
        int64_t attended;
        ASSERT_OK(lcl_st_read(mask, t, 1, LCL_I64, &attended));
        for (int64_t v = 0; attended && v < V; v++)
            worst = fmax(worst, fabs(a[(int64_t)t * V + v] - b[(int64_t)t * V + v]));
    }
    return worst;
}

/* Adapters of the text's q and v alone, the base as it is; then merged into it. */
static void ten_steps_lora(void **state)
{
    (void)state;
    struct golden g;
    size_t n;
    golden_open_with(&g, &golden_lora);
    begin_adapters(&g);
    take_steps(&g, "train_lora", false);
    double apart = compare_adapters(&g, "final");
    double *unmerged = logits_of(&g), *want = read_all(&g.st, "lora.merged_logits", &n);
    ASSERT_OK(lcl_lora_merge(&g.model));
    double *merged = logits_of(&g);
    double to_case = logits_apart(&g, merged, want), to_own = logits_apart(&g, merged, unmerged);
    print_message(
        "adapters within %.2g, merged logits within %.2g of the case's (8e-5) and %.2g of "
        "the unmerged\n",
        apart, to_case, to_own);
    assert_true(apart <= 1e-4);
    assert_true(to_case <= 8e-5);
    assert_true(to_own <= 8e-5);
    assert_int_equal(check_sums(&g, "lora.merged", true, 1e-4), 2 * g.model.config.text.n_layers);
    free(unmerged);
    free(want);
    free(merged);
    golden_close(&g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(forward_and_gradients), cmocka_unit_test(checkpointing_changes_nothing),
        cmocka_unit_test(ten_steps_full),        cmocka_unit_test(ten_steps_frozen_vision),
        cmocka_unit_test(ten_steps_lora),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
