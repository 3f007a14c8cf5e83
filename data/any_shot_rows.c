/* Rows of one instruction: those whose questions begin alike and whose answers are of one style. */
#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "data/any_shot_internal.h"
#include "data/pack_rows.h"

enum {
    KEY_WORDS = 2,     /* "what color", "how many", "describe this" */
    SHORT_ANSWER = 3,  /* words of an answer at most: one that names */
    ANSWER_LINE = 25,  /* a sentence; longer: a text */
    MAX_KEY_BYTES = 64 /* of a question's first words */
};

static const char *skip_mark(const char *at)
{
    for (;;) {
        while (*at && !isalnum((unsigned char)*at) && *at != '<' && !(*at & 0x80)) at++;
        if (strncmp(at, "<image>", 7) != 0) return at;
        at += 7;
    }
}

static int count_words(const char *text)
{
    int n = 0;
    for (bool in = false; *text; text++) {
        bool blank = isspace((unsigned char)*text);
        n += !blank && !in;
        in = !blank;
    }
    return n;
}

/* The first words of the first question, in lower case, and the style of the first answer. */
static uint64_t key_of(const struct lcl_conversation *c)
{
    const char *question = NULL, *answer = NULL;
    for (int i = c->n_messages - 1; i >= 0; i--) {
        if (c->messages[i].role == LCL_ROLE_USER) question = c->messages[i].text;
        if (c->messages[i].role == LCL_ROLE_ASSISTANT) answer = c->messages[i].text;
    }
    char key[MAX_KEY_BYTES + 2];
    size_t n = 0;
    const char *at = skip_mark(question ? question : "");
    for (int words = 0; *at && words < KEY_WORDS; at++) {
        bool letter = isalnum((unsigned char)*at) || (*at & 0x80);
        if (!letter && n > 0 && key[n - 1] != ' ') {
            if (++words < KEY_WORDS && n < MAX_KEY_BYTES) key[n++] = ' ';
        } else if (letter && n < MAX_KEY_BYTES) {
            key[n++] = (char)tolower((unsigned char)*at);
        }
    }
    int length = count_words(answer ? answer : "");
    key[n++] = length <= SHORT_ANSWER ? '1' : length <= ANSWER_LINE ? '2' : '3';
    key[n] = '\0';
    return lcl_hash_string(key);
}

struct keyed {
    uint64_t key;
    int32_t row;
};

static int by_key(const void *a, const void *b)
{
    const struct keyed *x = a, *y = b;
    if (x->key != y->key) return x->key < y->key ? -1 : 1;
    return x->row < y->row ? -1 : x->row > y->row;
}

static lcl_status read_keys(const struct lcl_any_source *s, struct keyed *k)
{
    for (int64_t i = 0; i < s->rows.pack->n_rows; i++) {
        struct lcl_conversation c;
        json_t *owner;
        LCL_TRY(lcl_pack_conversation(s->rows.pack, i, 0, &c, &owner));
        k[i] = (struct keyed){key_of(&c), (int32_t)i};
        lcl_pack_conversation_free(&c, owner);
    }
    return LCL_OK;
}

lcl_status any_group_rows(struct lcl_any_source *s)
{
    int64_t n = s->rows.pack->n_rows;
    lcl_status status = LCL_OK;
    struct keyed *k = malloc((size_t)n * sizeof *k);
    s->order = malloc((size_t)n * sizeof *s->order);
    s->group_of = malloc((size_t)n * sizeof *s->group_of);
    s->begin = malloc(((size_t)n + 1) * sizeof *s->begin);
    if (!k || !s->order || !s->group_of || !s->begin) {
        status = LCL_FAIL(LCL_MEMORY, "no memory for %lld rows", (long long)n);
        goto out;
    }
    LCL_TRY_GOTO(read_keys(s, k));
    qsort(k, (size_t)n, sizeof *k, by_key);
    s->n_groups = 0;
    for (int64_t i = 0; i < n; i++) {
        if (i == 0 || k[i].key != k[i - 1].key) s->begin[s->n_groups++] = i;
        s->order[i] = k[i].row;
        s->group_of[k[i].row] = s->n_groups - 1;
    }
    s->begin[s->n_groups] = n;
out:
    free(k);
    return status;
}

void any_free_source(struct lcl_any_source *s)
{
    free(s->order);
    free(s->group_of);
    free(s->begin);
}
