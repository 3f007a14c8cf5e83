/* CIDEr-D. An n-gram is the 64-bit hash of its words (of a million n-grams two share one with
 * probability 3e-8); a table counts the pictures whose references have it. */
#include <ctype.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "train/scores.h"

enum { MAX_N = 4 };
#define SIGMA 6.0

struct gram {
    uint64_t key;           /* 0: a free place */
    int64_t pictures, last; /* whose references have it; the last one counted, from 1 */
};

/* Open addressing, at most half full. */
struct table {
    struct gram *v;
    size_t n, size;
};

struct term {
    uint64_t key;
    int n; /* words of it */
    double count, weight;
};

struct sentence {
    struct term *v; /* ascending by key, each once */
    size_t n;
    double norm[MAX_N + 1], length;
};

static lcl_status no_memory(void) { return LCL_FAIL(LCL_MEMORY, "no memory to score captions"); }

/* ---- the table ---- */

static struct gram *place_of(const struct table *t, uint64_t key)
{
    size_t k = key & (t->size - 1);
    while (t->v[k].key && t->v[k].key != key) k = (k + 1) & (t->size - 1);
    return &t->v[k];
}

static bool grow(struct table *t)
{
    struct table more = {.size = t->size ? 2 * t->size : 4096, .n = t->n};
    if (!(more.v = calloc(more.size, sizeof *more.v))) return false;
    for (size_t i = 0; i < t->size; i++)
        if (t->v[i].key) *place_of(&more, t->v[i].key) = t->v[i];
    free(t->v);
    *t = more;
    return true;
}

/* Picture number `picture`, from 1, has it. */
static bool count(struct table *t, uint64_t key, int64_t picture)
{
    if (2 * (t->n + 1) > t->size && !grow(t)) return false;
    struct gram *g = place_of(t, key);
    if (!g->key) {
        *g = (struct gram){.key = key};
        t->n++;
    }
    if (g->last != picture) g->pictures++;
    g->last = picture;
    return true;
}

/* ---- sentences ---- */

/* Letters, digits and apostrophes within words; bytes beyond ASCII count as letters. */
static bool in_word(char c) { return isalnum((unsigned char)c) || (unsigned char)c >= 0x80; }

static const char *next_word(const char *s, size_t *n)
{
    while (*s && !in_word(*s)) s++;
    for (*n = 0; in_word(s[*n]) || (s[*n] == '\'' && *n > 0 && in_word(s[*n + 1]));) ++*n;
    return s;
}

static uint64_t hash_word(uint64_t h, const char *word, size_t n)
{
    for (size_t i = 0; i <= n; i++) { /* a blank ends it */
        h ^= i < n ? (uint64_t)tolower((unsigned char)word[i]) : ' ';
        h *= 0x100000001b3u;
        h ^= h >> 32;
    }
    return h;
}

static int by_key(const void *a, const void *b)
{
    const struct term *x = a, *y = b;
    return (x->key > y->key) - (x->key < y->key);
}

/* The n-grams of a text with their counts. free(v). */
static lcl_status take_apart(const char *text, struct sentence *s)
{
    size_t n_words = 0, length, n = 0, made = 0;
    for (const char *w = next_word(text, &length); length; w = next_word(w + length, &length))
        n_words++;
    *s = (struct sentence){.v = calloc(MAX_N * n_words + 1, sizeof *s->v)};
    if (!s->v) return no_memory();
    for (const char *w = next_word(text, &length); length; w = next_word(w + length, &length)) {
        uint64_t h = 0xcbf29ce484222325u;
        const char *at = w;
        size_t m = length;
        for (int k = 1; k <= MAX_N && m > 0; k++) {
            h = hash_word(h, at, m);
            s->v[n++] = (struct term){.key = h ? h : 1, .n = k, .count = 1};
            at = next_word(at + m, &m);
        }
    }
    qsort(s->v, n, sizeof *s->v, by_key);
    for (size_t i = 0; i < n; i++) {
        if (made > 0 && s->v[made - 1].key == s->v[i].key)
            s->v[made - 1].count++;
        else
            s->v[made++] = s->v[i];
    }
    s->n = made;
    return LCL_OK;
}

/* Weights of term count by inverse document frequency; the length is that in pairs of words. */
static void weigh(struct sentence *s, const struct table *t, double log_pictures)
{
    for (size_t i = 0; i < s->n; i++) {
        struct term *x = &s->v[i];
        const double df = t->size ? (double)place_of(t, x->key)->pictures : 0;
        x->weight = x->count * (log_pictures - log(df > 1 ? df : 1));
        s->norm[x->n] += x->weight * x->weight;
        if (x->n == 2) s->length += x->count;
    }
    for (int k = 1; k <= MAX_N; k++) s->norm[k] = sqrt(s->norm[k]);
}

/* Mean over n of the clipped cosine, less where the lengths differ. */
static double similarity(const struct sentence *hyp, const struct sentence *ref)
{
    double sum[MAX_N + 1] = {0}, all = 0;
    const double delta = hyp->length - ref->length;
    for (size_t i = 0, j = 0; i < hyp->n && j < ref->n;) {
        const struct term *x = &hyp->v[i], *y = &ref->v[j];
        if (x->key == y->key) sum[x->n] += fmin(x->weight, y->weight) * y->weight;
        i += x->key <= y->key;
        j += y->key <= x->key;
    }
    for (int k = 1; k <= MAX_N; k++)
        if (hyp->norm[k] > 0 && ref->norm[k] > 0) all += sum[k] / (hyp->norm[k] * ref->norm[k]);
    return all / MAX_N * exp(-delta * delta / (2 * SIGMA * SIGMA));
}

/* ---- scores ---- */

static lcl_status count_references(struct table *t, const char *const *references, int64_t n,
                                   int64_t picture)
{
    for (int64_t r = 0; r < n; r++) {
        struct sentence s;
        LCL_TRY(take_apart(references[r], &s));
        bool ok = true;
        for (size_t i = 0; i < s.n && ok; i++) ok = count(t, s.v[i].key, picture);
        free(s.v);
        if (!ok) return no_memory();
    }
    return LCL_OK;
}

static lcl_status score_picture(const struct table *t, double log_pictures, const char *prediction,
                                const char *const *references, int64_t n, double *score)
{
    struct sentence hyp, ref;
    double sum = 0;
    LCL_TRY(take_apart(prediction, &hyp));
    weigh(&hyp, t, log_pictures);
    lcl_status status = LCL_OK;
    for (int64_t r = 0; r < n && status == LCL_OK; r++) {
        status = take_apart(references[r], &ref);
        if (status != LCL_OK) break;
        weigh(&ref, t, log_pictures);
        sum += similarity(&hyp, &ref);
        free(ref.v);
    }
    free(hyp.v);
    *score = 10 * sum / (double)n;
    return status;
}

lcl_status lcl_score_cider(const char *const *predictions, const char *const *const *references,
                           const int64_t *n_references, int64_t n, double *scores, double *mean)
{
    struct table t = {0};
    lcl_status status = LCL_OK;
    double sum = 0;
    if (n < 1) return LCL_FAIL(LCL_RANGE, "no captions to score");
    for (int64_t i = 0; i < n && status == LCL_OK; i++)
        status = n_references[i] < 1
                     ? LCL_FAIL(LCL_RANGE, "picture %lld has no reference caption", (long long)i)
                     : count_references(&t, references[i], n_references[i], i + 1);
    for (int64_t i = 0; i < n && status == LCL_OK; i++) {
        status = score_picture(&t, log((double)n), predictions[i], references[i], n_references[i],
                               &scores[i]);
        sum += scores[i];
    }
    free(t.v);
    *mean = sum / (double)n;
    return status;
}
