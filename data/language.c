#include "data/language.h"

#include <stdlib.h>
#include <string.h>

#include "data/batch_internal.h"

enum { SPECIALS = 5 }; /* <unk> <s> </s> <image> <pad> come first in a vocabulary */

struct lcl_language {
    const struct lcl_config *config;
    const struct lcl_tokenizer *tokenizer;
    struct lcl_batch_builder *words; /* for the layout's pieces; a picture is one token */
    uint32_t n_plain;                /* tokens after the special ones */
    int32_t *subset;                 /* [n_plain] scratch of draw_subset */
    int32_t *key;                    /* tokens that may stand for a picture */
    uint32_t n_keys;
    /* The sequence at hand. */
    struct lcl_ids ids;
    uint8_t *target; /* [cap] enum lcl_target of each of ids */
    int64_t cap;
};

/* ---- what there is to draw from ---- */

/* Marks the ids of the layout's pieces and of the letters of labels. */
static lcl_status mark_words(const struct lcl_language *l, uint8_t *is_word, int64_t vocab)
{
    for (int i = 0; i < PART_COUNT; i++) {
        const struct lcl_ids *ids = &l->words->part[LCL_POLICY_LINK][i].ids;
        for (int64_t k = 0; k < ids->n; k++)
            if (ids->v[k] < vocab) is_word[ids->v[k]] = 1;
    }
    for (char letter = 'a'; letter <= 'z'; letter++) {
        struct lcl_ids ids = {0};
        lcl_status status = lcl_tokenizer_encode_at(l->tokenizer, &letter, 1, LCL_TEXT_PLAIN, &ids);
        for (int64_t k = 0; k < ids.n; k++)
            if (ids.v[k] < vocab) is_word[ids.v[k]] = 1;
        lcl_ids_free(&ids);
        if (status != LCL_OK) return status;
    }
    return LCL_OK;
}

/* A key is a token that stands nowhere else in a text: as a picture is unlike every word. */
static lcl_status list_keys(struct lcl_language *l, int64_t vocab)
{
    uint8_t *is_word = calloc((size_t)vocab, 1);
    l->key = malloc((size_t)vocab * sizeof *l->key);
    lcl_status status;
    if (!is_word || !l->key) {
        status =
            LCL_FAIL(LCL_MEMORY, "no memory for a vocabulary of %lld tokens", (long long)vocab);
        goto out;
    }
    LCL_TRY_GOTO(mark_words(l, is_word, vocab));
    for (int64_t id = SPECIALS; id < vocab; id++)
        if (!is_word[id]) l->key[l->n_keys++] = (int32_t)id;
    if (l->n_keys < l->config->language_recall_ways)
        status = LCL_FAIL_HINT(LCL_CONFIG, "lower it, or set language.recall_fraction: 0",
                               "the vocabulary has %u tokens that are not words of the layout or "
                               "letters; language.recall_ways %lld needs as many",
                               l->n_keys, (long long)l->config->language_recall_ways);
out:
    free(is_word);
    return status;
}

static lcl_status init(struct lcl_language *l, int64_t vocab)
{
    const struct lcl_config *c = l->config;
    if (vocab <= SPECIALS)
        return LCL_FAIL(LCL_CONFIG, "a vocabulary of %lld tokens leaves none for task: language",
                        (long long)vocab);
    l->n_plain = (uint32_t)vocab - SPECIALS;
    l->subset = malloc(l->n_plain * sizeof *l->subset);
    if (!l->subset)
        return LCL_FAIL(LCL_MEMORY, "no memory for a vocabulary of %lld tokens", (long long)vocab);
    if (c->language_recall_fraction == 0) return LCL_OK;
    LCL_TRY(lcl_batch_builder_for(c, l->tokenizer, 1, &l->words));
    return list_keys(l, vocab);
}

lcl_status lcl_language_create(const struct lcl_config *config,
                               const struct lcl_tokenizer *tokenizer, int64_t vocab,
                               struct lcl_language **out)
{
    *out = NULL;
    struct lcl_language *l = calloc(1, sizeof *l);
    if (!l) return LCL_FAIL(LCL_MEMORY, "no memory for language pretraining");
    l->config = config;
    l->tokenizer = tokenizer;
    lcl_status status = init(l, vocab);
    if (status == LCL_OK)
        *out = l;
    else
        lcl_language_free(l);
    return status;
}

void lcl_language_free(struct lcl_language *l)
{
    if (!l) return;
    lcl_batch_builder_free(l->words);
    lcl_ids_free(&l->ids);
    free(l->subset);
    free(l->key);
    free(l->target);
    free(l);
}

/* ---- the sequence at hand ---- */

static lcl_status put(struct lcl_language *l, int32_t id, enum lcl_target target)
{
    if (l->ids.n == l->cap) {
        int64_t cap = 2 * l->cap + 64;
        uint8_t *grown = realloc(l->target, (size_t)cap);
        if (!grown)
            return LCL_FAIL(LCL_MEMORY, "no memory for a sequence of %lld tokens", (long long)cap);
        l->target = grown;
        l->cap = cap;
    }
    l->target[l->ids.n] = (uint8_t)target;
    return lcl_ids_push(&l->ids, id);
}

static lcl_status put_all(struct lcl_language *l, const int32_t *ids, int64_t n,
                          enum lcl_target target)
{
    for (int64_t i = 0; i < n; i++) LCL_TRY(put(l, ids[i], target));
    return LCL_OK;
}

/* ---- repeats ---- */

/* The tokens that a sequence may use: all of them after the special ones, or a random few
 * (language.few_distinct). */
static uint32_t draw_subset(struct lcl_language *l, struct lcl_rng *rng)
{
    uint32_t n = l->n_plain, few = (uint32_t)l->config->language_few_distinct;
    for (uint32_t i = 0; i < n; i++) l->subset[i] = (int32_t)(SPECIALS + i);
    if (few == 0 || lcl_rng_below(rng, 2) == 0) return n;
    uint32_t most = 8 * few < n ? 8 * few : n;
    uint32_t wanted = few < most ? few + lcl_rng_below(rng, most - few + 1) : most;
    for (uint32_t i = 0; i < wanted; i++) {
        uint32_t j = i + lcl_rng_below(rng, n - i);
        int32_t kept = l->subset[i];
        l->subset[i] = l->subset[j];
        l->subset[j] = kept;
    }
    return wanted;
}

/* A repeat's first token cannot be foreseen the first time: no target. */
static lcl_status draw_repeats(struct lcl_language *l, struct lcl_rng *rng)
{
    const struct lcl_config *c = l->config;
    uint32_t span = (uint32_t)(c->language_max_segment - c->language_min_segment + 1);
    int64_t segment = c->language_min_segment + lcl_rng_below(rng, span);
    uint32_t n_distinct = draw_subset(l, rng);
    for (int64_t i = 0; i < c->language_length; i++)
        LCL_TRY(put(l,
                    i < segment ? l->subset[lcl_rng_below(rng, n_distinct)] : l->ids.v[i - segment],
                    i > segment ? LCL_TARGET : LCL_NO_TARGET));
    return LCL_OK;
}

/* ---- recall ---- */

/* Keys and their labels, new in this sequence and unlike each other. */
struct links {
    int n_ways;
    int32_t key[LCL_MAX_WAYS];
    char label[LCL_MAX_WAYS][LCL_LABEL_BYTES];
    bool seen[LCL_MAX_WAYS];
    int64_t gap; /* tokens between a key and its label */
};

static bool is_taken(const struct links *k, int way)
{
    for (int w = 0; w < way; w++)
        if (k->key[w] == k->key[way] || strcmp(k->label[w], k->label[way]) == 0) return true;
    return false;
}

/* Spells a label anew with the first n of 26 shuffled letters. */
static void narrow(char *label, const int32_t *letters, uint32_t n)
{
    for (char *at = label; *at; at++) *at = (char)('a' + letters[(uint32_t)(*at - 'a') % n]);
}

/* With language.few_distinct half of the sequences spell their labels with few letters. */
static void draw_links(const struct lcl_language *l, struct lcl_rng *rng, struct links *k)
{
    const struct lcl_config *c = l->config;
    int32_t letters[26];
    uint32_t n_letters = 26;
    for (int32_t i = 0; i < 26; i++) letters[i] = i;
    if (c->language_few_distinct > 0 && lcl_rng_below(rng, 2)) {
        n_letters = 2 + lcl_rng_below(rng, 5);
        lcl_rng_shuffle(rng, letters, 26);
    }
    k->n_ways = 2 + (int)lcl_rng_below(rng, (uint32_t)c->language_recall_ways - 1);
    for (int w = 0; w < k->n_ways; w++) do {
            k->key[w] = l->key[lcl_rng_below(rng, l->n_keys)];
            lcl_draw_label(rng, (int)c->data_label_min_letters, (int)c->data_label_max_letters,
                           k->label[w]);
            narrow(k->label[w], letters, n_letters);
        } while (is_taken(k, w));
    const struct batch_part *turn = &l->words->part[LCL_POLICY_LINK][PART_SUPPORT];
    int64_t most =
        turn->ids.n - turn->image_at - 1 + l->words->part[LCL_POLICY_LINK][PART_ANSWER_HEAD].ids.n;
    if (most > c->language_recall_gap) most = c->language_recall_gap;
    k->gap = lcl_rng_below(rng, (uint32_t)most + 1);
}

/* The words up to the key, the last `gap` of those between it and the label, the label, its end. */
static lcl_status put_turn(struct lcl_language *l, enum batch_part_name name, struct links *k,
                           int way)
{
    const struct batch_part *turn = &l->words->part[LCL_POLICY_LINK][name];
    const struct lcl_ids *head = &l->words->part[LCL_POLICY_LINK][PART_ANSWER_HEAD].ids;
    const struct lcl_ids *tail = &l->words->part[LCL_POLICY_LINK][PART_ANSWER_TAIL].ids;
    int64_t of_head = k->gap < head->n ? k->gap : head->n, of_turn = k->gap - of_head;
    enum lcl_target known = k->seen[way] ? LCL_TARGET : LCL_NO_TARGET;
    LCL_TRY(put_all(l, turn->ids.v, turn->image_at, LCL_NO_TARGET));
    LCL_TRY(put(l, k->key[way], LCL_NO_TARGET));
    LCL_TRY(put_all(l, turn->ids.v + turn->ids.n - of_turn, of_turn, LCL_NO_TARGET));
    LCL_TRY(put_all(l, head->v + head->n - of_head, of_head, LCL_NO_TARGET));
    struct lcl_ids label = {0};
    lcl_status status = lcl_tokenizer_encode_at(l->tokenizer, k->label[way], strlen(k->label[way]),
                                                LCL_TEXT_PLAIN, &label);
    if (status == LCL_OK)
        status = put_all(l, label.v, label.n, k->seen[way] ? LCL_TARGET_LABEL : LCL_NO_TARGET);
    lcl_ids_free(&label);
    if (status != LCL_OK) return status;
    k->seen[way] = true;
    return put_all(l, tail->v, tail->n, known);
}

/* Every key once or more in an order drawn, then one of them again. */
static lcl_status draw_recall(struct lcl_language *l, struct lcl_rng *rng)
{
    const struct batch_part *system = &l->words->part[LCL_POLICY_LINK][PART_SYSTEM];
    struct links k = {0};
    draw_links(l, rng, &k);
    uint32_t room = (uint32_t)(l->config->language_recall_shots - k.n_ways);
    int n_shots = k.n_ways + (int)lcl_rng_below(rng, room + 1);
    int32_t *way = malloc(((size_t)n_shots + 1) * sizeof *way);
    if (!way) return LCL_FAIL(LCL_MEMORY, "no memory for a sequence of %d turns", n_shots + 1);
    for (int i = 0; i <= n_shots; i++)
        way[i] = i < k.n_ways ? i : (int32_t)lcl_rng_below(rng, (uint32_t)k.n_ways);
    lcl_rng_shuffle(rng, way, n_shots);
    lcl_status status = put_all(l, system->ids.v, system->ids.n, LCL_NO_TARGET);
    for (int i = 0; i <= n_shots && status == LCL_OK; i++)
        status = put_turn(l, i ? PART_SUPPORT : PART_SUPPORT_FIRST, &k, way[i]);
    free(way);
    return status;
}

lcl_status lcl_language_append(struct lcl_language *l, uint32_t epoch, uint64_t sample,
                               struct lcl_batch_builder *builder)
{
    const struct lcl_config *c = l->config;
    struct lcl_rng rng = lcl_rng_stream((uint64_t)c->seed, LCL_RNG_LANGUAGE, epoch, sample);
    l->ids.n = 0;
    bool recall =
        c->language_recall_fraction > 0 && lcl_rng_uniform(&rng) < c->language_recall_fraction;
    LCL_TRY(recall ? draw_recall(l, &rng) : draw_repeats(l, &rng));
    return lcl_batch_append_tokens(builder, l->ids.v, l->target, l->ids.n);
}
