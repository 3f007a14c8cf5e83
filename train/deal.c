#include "train/deal.h"

#include <stdlib.h>
#include <string.h>

struct card {
    int64_t sample, tokens;
};

struct table {
    int64_t lanes, rounds, each;
    struct card *spare; /* as many as there are cards */
    int64_t *dealt;
};

static int by_tokens(const void *a, const void *b)
{
    const struct card *x = a, *y = b;
    if (x->tokens != y->tokens) return x->tokens > y->tokens ? -1 : 1;
    return (x->sample > y->sample) - (x->sample < y->sample);
}

static int by_sample(const void *a, const void *b)
{
    const struct card *x = a, *y = b;
    return (x->sample > y->sample) - (x->sample < y->sample);
}

/* Places are the rounds of a lane one after another, lane by lane: as ranks own them. */
static void deal_place(const struct table *t, struct card *card, int64_t place)
{
    const int64_t index = place % t->rounds * t->lanes + place / t->rounds;
    qsort(card, (size_t)t->each, sizeof *card, by_sample);
    for (int64_t i = 0; i < t->each; i++) t->dealt[index * t->each + i] = card[i].sample;
}

/* The cards of places [first, first + n), longest first. */
static void deal_places(const struct table *t, struct card *card, int64_t first, int64_t n)
{
    if (n == 1) {
        deal_place(t, card, first);
        return;
    }
    /* whole lanes, as long as there are several */
    const int64_t left = n > t->rounds ? n / t->rounds / 2 * t->rounds : n / 2;
    const int64_t room[2] = {left * t->each, (n - left) * t->each};
    int64_t count[2] = {0}, sum[2] = {0};
    for (int64_t i = 0; i < n * t->each; i++) {
        int side = sum[0] * room[1] > sum[1] * room[0];
        if (count[side] == room[side]) side = 1 - side;
        t->spare[(side ? room[0] : 0) + count[side]++] = card[i];
        sum[side] += card[i].tokens;
    }
    memcpy(card, t->spare, (size_t)(n * t->each) * sizeof *card);
    deal_places(t, card, first, left);
    deal_places(t, card + room[0], first + left, n - left);
}

lcl_status lcl_deal(const int64_t *tokens_N, int64_t lanes, int64_t rounds, int64_t each,
                    int64_t *dealt_N)
{
    const int64_t n = lanes * rounds * each;
    struct card *card = malloc((size_t)(2 * n) * sizeof *card);
    if (!card) return LCL_FAIL(LCL_MEMORY, "no memory to deal %lld samples", (long long)n);
    for (int64_t i = 0; i < n; i++) card[i] = (struct card){i, tokens_N[i]};
    qsort(card, (size_t)n, sizeof *card, by_tokens);
    const struct table t = {lanes, rounds, each, card + n, dealt_N};
    deal_places(&t, card, 0, lanes * rounds);
    free(card);
    return LCL_OK;
}
