/* LM head and cross-entropy on the supervised rows, in chunks of rows whose logits fit a fixed
 * budget. Legend: T tokens, C width, V vocabulary, S supervised rows, n rows of a chunk. */
#include "cpu/gemm.h"
#include "cpu/rows.h"
#include "cpu/simd.h"

enum { LOGITS_BYTES = 32 << 20, BLOCK = 512 };

/* One chunk of supervised rows: [first, first + n). */
struct xent {
    const struct lcl_head_xent_args *a;
    int64_t first, n;
    float
        *logits_nV; /* the backward leaves their gradient here, as f32 or as bf16 rows 2 V apart */
    float *kept_SV; /* all rows' logits, wherever they are wanted; or NULL */
    void *hidden_nC;
    double *loss_n;
    bool backward, narrow;
};

/* x[i] = exp(x[i] - shift); returns the sum. */
static double exponentials(float *x, float shift, int64_t V)
{
    double total = 0;
    for (int64_t b = 0; b < V; b += BLOCK) {
        int64_t end = V - b < BLOCK ? V : b + BLOCK;
        float sum = 0;
#pragma omp simd reduction(+ : sum)
        for (int64_t v = b; v < end; v++) {
            x[v] = simd_exp(x[v] - shift);
            sum += x[v];
        }
        total += (double)sum;
    }
    return total;
}

static double exponential_sum(const float *x, float shift, int64_t V)
{
    double total = 0;
    for (int64_t b = 0; b < V; b += BLOCK) {
        int64_t end = V - b < BLOCK ? V : b + BLOCK;
        float sum = 0;
#pragma omp simd reduction(+ : sum)
        for (int64_t v = b; v < end; v++) sum += simd_exp(x[v] - shift);
        total += (double)sum;
    }
    return total;
}

/* Exponentials become gradients: scale * (e / sum - [v = target]). Narrowed in place: the write
 * never overtakes. */
static void gradient_row(const struct xent *k, float *row_V, int32_t target, float scale,
                         double sum)
{
    int64_t V = k->a->V;
    float share = (float)((double)scale / sum), temp[BLOCK];
    float at_target = (float)((double)row_V[target] / sum - 1.0) * scale;
    if (!k->narrow) {
#pragma omp simd
        for (int64_t v = 0; v < V; v++) row_V[v] *= share;
        row_V[target] = at_target;
        return;
    }
    lcl_bf16 *out_V = (lcl_bf16 *)row_V;
    for (int64_t b = 0; b < V; b += BLOCK) {
        int64_t n = V - b < BLOCK ? V - b : BLOCK;
#pragma omp simd
        for (int64_t v = 0; v < n; v++) temp[v] = row_V[b + v] * share;
        if (target >= b && target < b + n) temp[target - b] = at_target;
        row_narrow(out_V + b, temp, n);
    }
}

static lcl_status softmax_rows(void *ctx, int64_t chunk)
{
    const struct rows *r = ctx;
    const struct xent *k = r->args;
    const struct lcl_head_xent_args *a = k->a;
    int64_t V = a->V;
    for (int64_t i = rows_begin(r, chunk); i < rows_end(r, chunk); i++) {
        int64_t s = k->first + i;
        float *row_V = k->logits_nV + i * V;
        float *kept_V = k->kept_SV ? k->kept_SV + s * V : row_V;
        if (kept_V != row_V) memcpy(kept_V, row_V, (size_t)V * sizeof *kept_V);
        float most = row_max(row_V, V);
        if (a->argmax_S) {
            int32_t at = 0;
            while (at + 1 < V && row_V[at] != most) at++;
            a->argmax_S[s] = row_V[at] == most ? at : 0;
        }
        if (!a->target_S) continue;
        double logit = (double)row_V[a->target_S[s]];
        double sum = k->backward ? exponentials(row_V, most, V) : exponential_sum(row_V, most, V);
        double logprob = logit - (double)most - log(sum);
        double weight = a->weight_S ? (double)a->weight_S[s] : 1.0;
        k->loss_n[i] = weight == 0.0 ? 0.0 : -weight * logprob;
        if (a->logprob_S) a->logprob_S[s] = (float)logprob;
        if (k->backward) {
            double scale = weight * (double)a->grad_scale * (double)a->logit_scale;
            gradient_row(k, row_V, a->target_S[s], (float)scale, sum);
        }
    }
    return LCL_OK;
}

/* d_hidden = G weight (then scattered), d_weight += G^T hidden. */
static lcl_status backward_chunk(const struct xent *k, void *d_hidden_nC)
{
    const struct lcl_head_xent_args *a = k->a;
    lcl_dtype type = k->narrow ? LCL_BF16 : LCL_F32;
    int64_t stride = k->narrow ? 2 * a->V : a->V;
    if (a->d_weight_VC)
        LCL_TRY(LCL_CPU(gemm)(1, 0, a->V, a->C, k->n, 1.0f, k->logits_nV, type, stride,
                              k->hidden_nC, a->dtype, a->C, 1.0f, a->d_weight_VC, LCL_F32, a->C));
    if (!a->d_hidden_TC) return LCL_OK;
    LCL_TRY(LCL_CPU(gemm)(0, 0, k->n, a->C, a->V, 1.0f, k->logits_nV, type, stride, a->weight_VC,
                          a->weight_dtype, a->C, 0.0f, d_hidden_nC, a->dtype, a->C));
    size_t row_bytes = (size_t)a->C * lcl_dtype_bytes(a->dtype);
    for (int64_t i = 0; i < k->n; i++)
        memcpy(row_at(a->d_hidden_TC, a->dtype, a->row_S[k->first + i] * a->C),
               row_at(d_hidden_nC, a->dtype, i * a->C), row_bytes);
    return LCL_OK;
}

static lcl_status run(const struct lcl_head_xent_args *a, bool backward)
{
    LCL_TRY(lcl_check_head_xent(a, backward));
    size_t row_bytes = (size_t)a->C * lcl_dtype_bytes(a->dtype);
    if (backward && a->d_hidden_TC) memset(a->d_hidden_TC, 0, (size_t)a->T * row_bytes);
    int64_t limit = LOGITS_BYTES / 4 / a->V, n_max = limit > 0 ? limit : 1;
    if (n_max > a->S) n_max = a->S;
    /* Kept logits are computed in place; a backward overwrites its own. */
    float *kept_SV = a->kept_SV ? a->kept_SV : a->logits_SV;
    bool in_place = kept_SV && !backward;
    float *logits =
        in_place ? kept_SV : lcl_thread_scratch(ROW_SCRATCH_LOGITS, (size_t)(n_max * a->V + 1) * 4);
    size_t copy_bytes = ((size_t)n_max * row_bytes + 63) / 64 * 64;
    char *gather = lcl_thread_scratch(ROW_SCRATCH_GATHER, 2 * copy_bytes + (size_t)(n_max + 1) * 8);
    if (!logits || !gather)
        return LCL_FAIL(LCL_MEMORY, "head_xent: no memory for %lld rows of %lld logits",
                        (long long)n_max, (long long)a->V);
    struct xent k = {.a = a,
                     .logits_nV = logits,
                     .kept_SV = kept_SV,
                     .hidden_nC = gather,
                     .loss_n = (double *)(gather + 2 * copy_bytes),
                     .backward = backward,
                     .narrow = a->dtype == LCL_BF16 && a->weight_dtype == LCL_BF16};
    double loss = 0;
    for (k.first = 0; k.first < a->S; k.first += k.n) {
        k.n = a->S - k.first < n_max ? a->S - k.first : n_max;
        if (in_place) k.logits_nV = kept_SV + k.first * a->V;
        for (int64_t i = 0; i < k.n; i++)
            memcpy(gather + (size_t)i * row_bytes,
                   row_at_const(a->hidden_TC, a->dtype, a->row_S[k.first + i] * a->C), row_bytes);
        LCL_TRY(LCL_CPU(gemm)(0, 1, k.n, a->V, a->C, a->logit_scale, k.hidden_nC, a->dtype, a->C,
                              a->weight_VC, a->weight_dtype, a->C, 0.0f, k.logits_nV, LCL_F32,
                              a->V));
        LCL_TRY(rows_over(softmax_rows, &k, k.n, a->V));
        for (int64_t i = 0; a->target_S && i < k.n; i++) loss += k.loss_n[i];
        if (backward) LCL_TRY(backward_chunk(&k, gather + copy_bytes));
    }
    if (a->loss_sum) *a->loss_sum = loss;
    return LCL_OK;
}

lcl_status LCL_CPU(head_xent_fwd)(struct lcl_exec *ex, const struct lcl_head_xent_args *a)
{
    (void)ex;
    return run(a, false);
}

lcl_status LCL_CPU(head_xent_bwd)(struct lcl_exec *ex, const struct lcl_head_xent_args *a)
{
    (void)ex;
    return run(a, true);
}
