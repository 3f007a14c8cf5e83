#include "train/contexts.h"

#include <stdlib.h>
#include <string.h>

enum { FEWEST_COMMON = 16 }; /* tokens that are worth a pass of their own */

/* ---- what is kept ---- */

void lcl_contexts_drop(struct lcl_contexts *c)
{
    struct lcl_context *last = &c->v[--c->n];
    c->rows = last->first;
    free(last->id);
    free(last->picture);
}

void lcl_contexts_clear(struct lcl_contexts *c)
{
    while (c->n > 0) lcl_contexts_drop(c);
}

void lcl_contexts_free(struct lcl_contexts *c)
{
    lcl_contexts_clear(c);
    free(c->v);
    *c = (struct lcl_contexts){0};
}

const struct lcl_context *lcl_contexts_find(const struct lcl_contexts *c,
                                            const struct lcl_batch *context,
                                            const uint64_t *picture, int64_t n_pictures)
{
    for (int i = 0; i < c->n; i++) {
        const struct lcl_context *k = &c->v[i];
        if (k->n == context->T && k->n_pictures == n_pictures &&
            memcmp(k->id, context->id_T, (size_t)k->n * sizeof *k->id) == 0 &&
            memcmp(k->picture, picture, (size_t)n_pictures * sizeof *picture) == 0)
            return k;
    }
    return NULL;
}

lcl_status lcl_contexts_add(struct lcl_contexts *c, const struct lcl_batch *context,
                            const uint64_t *picture, int64_t n_pictures,
                            const struct lcl_context **out)
{
    if (c->n > 0 && c->rows + context->T > c->most_rows) lcl_contexts_drop(c);
    struct lcl_context *v = realloc(c->v, ((size_t)c->n + 1) * sizeof *v);
    int32_t *id = malloc((size_t)context->T * sizeof *id);
    uint64_t *pictures = malloc(((size_t)n_pictures + 1) * sizeof *pictures);
    if (v) c->v = v;
    if (!v || !id || !pictures) {
        free(id);
        free(pictures);
        return LCL_FAIL(LCL_MEMORY, "no memory for a context");
    }
    memcpy(id, context->id_T, (size_t)context->T * sizeof *id);
    memcpy(pictures, picture, (size_t)n_pictures * sizeof *pictures);
    v[c->n] = (struct lcl_context){c->rows, context->T, id, n_pictures, pictures};
    c->rows += context->T;
    *out = &v[c->n++];
    return LCL_OK;
}

/* ---- splitting ---- */

static int64_t length_of(const struct lcl_batch *b, int64_t r)
{
    return b->runs[r].q_end - b->runs[r].q_begin;
}

/* Whether run 0 is all others' prefix. */
static bool has_shared_prefix(const struct lcl_batch *b)
{
    for (int64_t r = 1; r < b->n_runs; r++)
        if (b->runs[r].prefix_begin != b->runs[0].q_begin ||
            b->runs[r].prefix_end != b->runs[0].q_end)
            return false;
    return b->runs[0].prefix_begin == b->runs[0].prefix_end;
}

/* Row of the features that each token takes, -1 where it takes none: [T]. */
static int32_t *rows_of_tokens(const struct lcl_batch *b)
{
    int32_t *row_T = malloc((size_t)b->T * sizeof *row_T);
    for (int64_t t = 0; t < b->T && row_T; t++) row_T[t] = -1;
    for (int64_t k = 0; k < b->n_slots && row_T; k++) row_T[b->slot[k]] = b->slot_row[k];
    return row_T;
}

/* What all runs begin with, up to the first supervised row of any; each keeps a token of its own.
 */
static int64_t common_tokens(const struct lcl_batch *b, const int32_t *row_T)
{
    int64_t n = length_of(b, 0) - 1, k = 0;
    const int32_t *first = b->id_T + b->runs[0].q_begin, *rows = row_T + b->runs[0].q_begin;
    for (int64_t r = 0; r < b->n_runs; r++) {
        const int64_t begin = b->runs[r].q_begin;
        int64_t same = 0, most = length_of(b, r) - 1;
        if (b->runs[r].prefix_begin != b->runs[r].prefix_end) return 0;
        while (k < b->S && b->row_S[k] < begin) k++;
        if (k < b->S && b->row_S[k] < b->runs[r].q_end && b->row_S[k] - begin < most)
            most = b->row_S[k] - begin;
        if (most < n) n = most;
        while (same < n && b->id_T[begin + same] == first[same] &&
               row_T[begin + same] == rows[same])
            same++;
        n = same;
    }
    return n;
}

/* Copies tokens [begin, end) of b to the end of `to`, with what is spliced into them and what they
 * supervise; image [b->n_images] numbers the pictures that `to` has, -1 for others. */
static void take(const struct lcl_batch *b, int64_t begin, int64_t end, int64_t per_image,
                 int32_t *image, struct lcl_batch *to)
{
    const int64_t shift = to->T - begin;
    memcpy(to->id_T + to->T, b->id_T + begin, (size_t)(end - begin) * sizeof *to->id_T);
    memcpy(to->position_T + to->T, b->position_T + begin,
           (size_t)(end - begin) * sizeof *to->position_T);
    to->T += end - begin;
    for (int64_t k = 0; k < b->n_slots; k++) {
        if (b->slot[k] < begin || b->slot[k] >= end) continue;
        const int64_t of = b->slot_row[k] / per_image;
        if (image[of] < 0) {
            image[of] = (int32_t)to->n_images;
            to->image_I[to->n_images] = b->image_I[of];
            to->view_I[to->n_images++] = b->view_I[of];
        }
        to->slot[to->n_slots] = (int32_t)(b->slot[k] + shift);
        to->slot_row[to->n_slots++] = (int32_t)(image[of] * per_image + b->slot_row[k] % per_image);
    }
    for (int64_t k = 0; k < b->S; k++) {
        if (b->row_S[k] < begin || b->row_S[k] >= end) continue;
        to->row_S[to->S] = (int32_t)(b->row_S[k] + shift);
        to->target_S[to->S] = b->target_S[k];
        to->weight_S[to->S] = b->weight_S[k];
        to->is_label_S[to->S++] = b->is_label_S[k];
    }
}

static void free_batch(struct lcl_batch *b)
{
    free(b->id_T);
    free(b->position_T);
    free(b->runs);
    free(b->image_I);
    free(b->view_I);
    free(b->slot);
    free(b->slot_row);
    free(b->row_S);
    free(b->target_S);
    free(b->weight_S);
    free(b->is_label_S);
    *b = (struct lcl_batch){0};
}

/* Room for as much as b holds, and a supervised row more. */
static lcl_status reserve(const struct lcl_batch *b, struct lcl_batch *to)
{
    const size_t T = (size_t)b->T, S = (size_t)b->S + 1, I = (size_t)b->n_images + 1,
                 slots = (size_t)b->n_slots + 1;
    to->id_T = malloc(T * sizeof *to->id_T);
    to->position_T = malloc(T * sizeof *to->position_T);
    to->runs = malloc((size_t)b->n_runs * sizeof *to->runs);
    to->image_I = malloc(I * sizeof *to->image_I);
    to->view_I = malloc(I * sizeof *to->view_I);
    to->slot = malloc(slots * sizeof *to->slot);
    to->slot_row = malloc(slots * sizeof *to->slot_row);
    to->row_S = malloc(S * sizeof *to->row_S);
    to->target_S = malloc(S * sizeof *to->target_S);
    to->weight_S = malloc(S * sizeof *to->weight_S);
    to->is_label_S = malloc(S);
    if (to->id_T && to->position_T && to->runs && to->image_I && to->view_I && to->slot &&
        to->slot_row && to->row_S && to->target_S && to->weight_S && to->is_label_S)
        return LCL_OK;
    return LCL_FAIL(LCL_MEMORY, "no memory to split a batch of %lld tokens", (long long)b->T);
}

static struct lcl_attn_run run_at(int64_t begin, int64_t end)
{
    const int32_t b = (int32_t)begin, e = (int32_t)end;
    return (struct lcl_attn_run){b, e, b, b, b, e, 0};
}

void lcl_halves_free(struct lcl_halves *s)
{
    free_batch(&s->context);
    free_batch(&s->rest);
    free(s->run);
    *s = (struct lcl_halves){0};
}

lcl_status lcl_split_batch(const struct lcl_batch *b, int64_t per_image, struct lcl_halves *s)
{
    *s = (struct lcl_halves){0};
    if (b->n_runs < 2) return LCL_OK;
    const bool shared = has_shared_prefix(b);
    int32_t *row_T = rows_of_tokens(b), *image = malloc(((size_t)b->n_images + 1) * sizeof *image);
    lcl_status status =
        row_T && image ? LCL_OK : LCL_FAIL(LCL_MEMORY, "no memory to split a batch");
    if (status == LCL_OK) s->n = shared ? length_of(b, 0) : common_tokens(b, row_T);
    if (!shared && s->n < FEWEST_COMMON) s->n = 0;
    if (s->n == 0) goto out;
    LCL_TRY_GOTO(reserve(b, &s->context));
    LCL_TRY_GOTO(reserve(b, &s->rest));
    s->run = malloc((size_t)b->n_runs * sizeof *s->run);
    LCL_TRY_GOTO(s->run ? LCL_OK : LCL_FAIL(LCL_MEMORY, "no memory to split a batch"));
    for (int64_t i = 0; i < b->n_images; i++) image[i] = -1;
    take(b, b->runs[0].q_begin, b->runs[0].q_begin + s->n, per_image, image, &s->context);
    s->context.runs[s->context.n_runs++] = run_at(0, s->n);
    s->context.row_S[0] = (int32_t)(s->n - 1); /* none is wanted; a pass has one at least */
    s->context.S = 1;
    for (int64_t i = 0; i < b->n_images; i++) image[i] = -1;
    for (int64_t r = shared; r < b->n_runs; r++) {
        const int64_t begin = s->rest.T;
        take(b, b->runs[r].q_begin + (shared ? 0 : s->n), b->runs[r].q_end, per_image, image,
             &s->rest);
        s->run[s->rest.n_runs] = r;
        s->rest.runs[s->rest.n_runs++] = run_at(begin, s->rest.T);
    }
out:
    free(row_T);
    free(image);
    if (status != LCL_OK) lcl_halves_free(s);
    return status;
}
