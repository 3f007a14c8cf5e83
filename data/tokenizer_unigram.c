/* Unigram models: the pieces whose scores sum to the most (Kudo 2018, by Viterbi). */
#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "data/tokenizer_internal.h"

/* Ways to a byte are as many as the longest piece is long. */
enum { MAX_PIECE_BYTES = 512 };

/* What a character that is no piece costs below the worst piece, as in SentencePiece. */
static const double unknown_penalty = 10;

lcl_status tok_unigram_load(struct lcl_tokenizer *t, const json_t *model)
{
    const json_t *list = json_object_get(model, "vocab"), *unk = json_object_get(model, "unk_id");
    double least = 0;
    t->score = calloc((size_t)t->n_ids + 1, sizeof *t->score);
    if (!t->score) return LCL_FAIL(LCL_MEMORY, "no memory for %d scores", (int)t->n_ids);
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *pair = json_array_get(list, i), *score = json_array_get(pair, 1);
        double x = json_number_value(score);
        if (!json_is_number(score) || !isfinite(x))
            return LCL_FAIL(LCL_FORMAT, "model.vocab[%zu] has no score", i);
        t->score[i] = x;
        t->token[i].piece = t->token[i].size > 0;
        if (x < least) least = x;
        if (t->token[i].size > t->longest_piece) t->longest_piece = t->token[i].size;
    }
    if (t->longest_piece > MAX_PIECE_BYTES)
        return LCL_FAIL(LCL_UNSUPPORTED, "model.vocab has a piece of %zu bytes, at most %d",
                        t->longest_piece, MAX_PIECE_BYTES);
    t->unknown_score = least - unknown_penalty;
    t->unk = json_is_integer(unk) ? (int32_t)json_integer_value(unk) : -1;
    if (json_is_integer(unk) &&
        (json_integer_value(unk) < 0 || json_integer_value(unk) >= t->n_ids))
        return LCL_FAIL(LCL_FORMAT, "model.unk_id is not in the vocabulary");
    if (t->unk >= 0) t->token[t->unk].piece = false;
    return LCL_OK;
}

/* The best way to each byte offset that a piece ends at. */
struct node {
    double score;
    size_t from;
    int32_t id; /* -1: an unknown character */
    bool reached;
};

static void reach(struct node *to, size_t from, int32_t id, double score)
{
    if (to->reached && score <= to->score) return;
    *to = (struct node){score, from, id, true};
}

static void pieces_from(const struct lcl_tokenizer *t, const char *s, size_t n, size_t at,
                        struct node *nodes)
{
    int first = tok_utf8(s + at, n - at, NULL);
    bool single = false;
    for (size_t end = at; end < n && end - at < t->longest_piece;) {
        end += (size_t)tok_utf8(s + end, n - end, NULL);
        int32_t id = tok_vocab_find(t, s + at, end - at);
        if (id < 0 || !t->token[id].piece || t->token[id].special) continue;
        reach(&nodes[end], at, id, nodes[at].score + t->score[id]);
        single |= end == at + (size_t)first;
    }
    if (!single) reach(&nodes[at + (size_t)first], at, -1, nodes[at].score + t->unknown_score);
}

static lcl_status push_unknown(const struct lcl_tokenizer *t, const char *s, size_t n, bool fused,
                               struct lcl_ids *out)
{
    bool bytes = t->byte_fallback;
    for (size_t i = 0; i < n; i++) bytes &= t->byte_id[(uint8_t)s[i]] >= 0;
    for (size_t i = 0; bytes && i < n; i++) LCL_TRY(lcl_ids_push(out, t->byte_id[(uint8_t)s[i]]));
    if (bytes || fused) return LCL_OK;
    if (t->unk < 0)
        return LCL_FAIL_HINT(LCL_FORMAT, "use a tokenizer with byte tokens or an unk_id",
                             "the tokenizer has no token for \"%.*s\"", (int)n, s);
    return lcl_ids_push(out, t->unk);
}

lcl_status tok_unigram(const struct lcl_tokenizer *t, const char *s, size_t n, struct lcl_ids *out)
{
    if (n == 0) return LCL_OK;
    struct node *nodes = calloc(n + 1, sizeof *nodes);
    size_t *ends = malloc((n + 1) * sizeof *ends), n_ends = 0;
    lcl_status status = LCL_OK;
    if (!nodes || !ends) {
        status = LCL_FAIL(LCL_MEMORY, "no memory to tokenize %zu bytes", n);
        goto out;
    }
    nodes[0].reached = true;
    for (size_t at = 0; at < n; at += (size_t)tok_utf8(s + at, n - at, NULL))
        pieces_from(t, s, n, at, nodes);
    for (size_t at = n; at > 0; at = nodes[at].from) ends[n_ends++] = at;
    bool unknown = false; /* the one before was: they become one */
    while (n_ends-- > 0) {
        const struct node *e = &nodes[ends[n_ends]];
        if (e->id >= 0)
            LCL_TRY_GOTO(lcl_ids_push(out, e->id));
        else
            LCL_TRY_GOTO(push_unknown(t, s + e->from, ends[n_ends] - e->from, unknown, out));
        unknown = e->id < 0;
    }
out:
    free(nodes);
    free(ends);
    return status;
}
