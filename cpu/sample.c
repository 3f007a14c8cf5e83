/* Tokens drawn from logits, by core/sample.h's whole numbers. A threshold is found by halving the
 * range of keys, without sorting. Legend: S rows, V vocabulary. */
#include "core/sample.h"

#include "cpu/rows.h"

/* One row, and what stays of it: the keys above `least`, and the first `ties` that equal it. */
struct choice {
    int64_t V;
    const uint32_t *key_V;
    const uint64_t *weight_V;
    uint32_t least;
    int64_t ties;
};

/* How many tokens have keys of `key` and above, or what they weigh. */
static uint64_t measure(const struct choice *c, uint64_t key, bool count)
{
    uint64_t sum = 0;
    for (int64_t v = 0; v < c->V; v++) {
        uint64_t x = count ? 1 : c->weight_V[v];
        sum += c->key_V[v] >= key ? x : 0;
    }
    return sum;
}

/* The greatest key from `low` on whose measure is `need` or more, as low's is. */
static uint32_t threshold(const struct choice *c, uint32_t low, uint64_t need, bool count)
{
    uint32_t high = UINT32_MAX;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2 + 1;
        if (measure(c, middle, count) >= need)
            low = middle;
        else
            high = middle - 1;
    }
    return low;
}

/* Sets what stays; returns its weight. */
static uint64_t keep(const struct lcl_sample_args *a, struct choice *c, float most)
{
    const float scale = lcl_sample_scale(a->temperature);
    c->least = 0;
    c->ties = c->V;
    uint64_t total = measure(c, 0, false);
    if (a->top_k > 0 && a->top_k < c->V) {
        c->least = threshold(c, 0, (uint64_t)a->top_k, true);
        c->ties = a->top_k - (int64_t)measure(c, (uint64_t)c->least + 1, true);
        total = measure(c, (uint64_t)c->least + 1, false) +
                (uint64_t)c->ties * lcl_sample_weight(lcl_sample_logit(c->least), most, scale);
    }
    if (a->top_p == 1 || total == 0) return total;
    const uint64_t need = lcl_sample_part(total, lcl_sample_share(a->top_p));
    c->least = threshold(c, c->least, need, false);
    const uint64_t above = measure(c, (uint64_t)c->least + 1, false);
    const uint64_t each = lcl_sample_weight(lcl_sample_logit(c->least), most, scale);
    c->ties = (int64_t)((need - above + each - 1) / each);
    return above + (uint64_t)c->ties * each;
}

static int32_t draw(const struct choice *c, uint64_t place)
{
    uint64_t sum = 0;
    int64_t ties = 0, v = 0;
    for (; v < c->V; v++) {
        if (c->key_V[v] < c->least) continue;
        if (c->key_V[v] == c->least && ties++ >= c->ties) continue;
        sum += c->weight_V[v];
        if (sum > place) break;
    }
    return (int32_t)v;
}

static int32_t sample_row(const struct lcl_sample_args *a, int64_t s, uint32_t *key_V,
                          uint64_t *weight_V)
{
    const float *logit_V = a->logits_SV + s * a->V;
    const float scale = a->temperature > 0 ? lcl_sample_scale(a->temperature) : 0;
    int64_t first = 0;
    for (int64_t v = 0; v < a->V; v++) {
        key_V[v] = lcl_sample_key(logit_V[v]);
        if (key_V[v] > key_V[first]) first = v;
    }
    if (a->temperature == 0) return (int32_t)first;
    for (int64_t v = 0; v < a->V; v++)
        weight_V[v] = lcl_sample_weight(logit_V[v], logit_V[first], scale);
    struct choice c = {.V = a->V, .key_V = key_V, .weight_V = weight_V};
    const uint64_t total = keep(a, &c, logit_V[first]);
    if (total == 0) return (int32_t)first;
    return draw(&c, lcl_sample_place(total, a->draw_S[s]));
}

static lcl_status sample_rows(void *ctx, int64_t chunk)
{
    const struct rows *r = ctx;
    const struct lcl_sample_args *a = r->args;
    const size_t V = (size_t)a->V;
    uint64_t *weight_V =
        lcl_thread_scratch(ROW_SCRATCH_LOGITS, V * (sizeof *weight_V + sizeof(uint32_t)));
    if (!weight_V)
        return LCL_FAIL(LCL_MEMORY, "sample: no memory for %lld weights", (long long)a->V);
    for (int64_t s = rows_begin(r, chunk); s < rows_end(r, chunk); s++)
        a->token_S[s] = sample_row(a, s, (uint32_t *)(weight_V + V), weight_V);
    return LCL_OK;
}

lcl_status LCL_CPU(sample_fwd)(struct lcl_exec *ex, const struct lcl_sample_args *a)
{
    (void)ex;
    LCL_TRY(lcl_check_sample(a));
    return rows_over(sample_rows, a, a->S, a->V);
}
