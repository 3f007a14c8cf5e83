#include "train/gguf_tokenizer.h"

#include <stdlib.h>

static lcl_status read_flag(const struct lcl_gguf *g, const char *key, int *flag)
{
    int64_t x = -1;
    LCL_TRY(lcl_gguf_get_int(g, key, 0, 1, &x));
    *flag = (int)x;
    return LCL_OK;
}

static lcl_status read_id(const struct lcl_gguf *g, const char *key, int32_t *id)
{
    int64_t x = -1;
    LCL_TRY(lcl_gguf_get_int(g, key, 0, UINT32_MAX, &x));
    *id = x > INT32_MAX ? -1 : (int32_t)x; /* 2^32 - 1 is none, too */
    return LCL_OK;
}

static lcl_status read_names(const struct lcl_gguf *g, struct lcl_tokenizer_tables *t)
{
    LCL_TRY(lcl_gguf_get_text(g, "tokenizer.ggml.model", &t->model));
    LCL_TRY(lcl_gguf_get_text(g, "tokenizer.ggml.pre", &t->pre));
    LCL_TRY(lcl_gguf_get_text(g, "tokenizer.chat_template", &t->chat_template));
    LCL_TRY(read_id(g, "tokenizer.ggml.bos_token_id", &t->bos));
    LCL_TRY(read_id(g, "tokenizer.ggml.eos_token_id", &t->eos));
    LCL_TRY(read_id(g, "tokenizer.ggml.unknown_token_id", &t->unk));
    LCL_TRY(read_id(g, "tokenizer.ggml.padding_token_id", &t->pad));
    LCL_TRY(read_flag(g, "tokenizer.ggml.add_bos_token", &t->add_bos));
    LCL_TRY(read_flag(g, "tokenizer.ggml.add_eos_token", &t->add_eos));
    return read_flag(g, "tokenizer.ggml.add_space_prefix", &t->add_space_prefix);
}

/* A list of numbers as long as the tokens, or NULL where the key is absent. */
static lcl_status read_numbers(const struct lcl_gguf *g, const char *key, size_t n_tokens,
                               double **list)
{
    size_t n;
    LCL_TRY(lcl_gguf_get_numbers(g, key, list, &n));
    if (!*list || n == n_tokens) return LCL_OK;
    free(*list);
    *list = NULL;
    return LCL_FAIL(LCL_FORMAT, "%s: %s has %zu entries for %zu tokens", g->path, key, n, n_tokens);
}

static lcl_status read_lists(const struct lcl_gguf *g, struct lcl_tokenizer_tables *t)
{
    double *scores = NULL, *types = NULL;
    lcl_status status;
    LCL_TRY_GOTO(lcl_gguf_get_texts(g, "tokenizer.ggml.tokens", &t->token, &t->n_tokens));
    LCL_TRY_GOTO(lcl_gguf_get_texts(g, "tokenizer.ggml.merges", &t->merge, &t->n_merges));
    LCL_TRY_GOTO(read_numbers(g, "tokenizer.ggml.scores", t->n_tokens, &scores));
    LCL_TRY_GOTO(read_numbers(g, "tokenizer.ggml.token_type", t->n_tokens, &types));
    if (scores) t->score = malloc((t->n_tokens + 1) * sizeof *t->score);
    if (types) t->type = malloc((t->n_tokens + 1) * sizeof *t->type);
    if ((scores && !t->score) || (types && !t->type)) {
        status = LCL_FAIL(LCL_MEMORY, "no memory for the tokenizer of %s", g->path);
        goto out;
    }
    for (size_t i = 0; i < t->n_tokens; i++) {
        if (scores) t->score[i] = (float)scores[i];
        if (types) t->type[i] = types[i] >= 0 && types[i] <= 100 ? (int32_t)types[i] : -1;
    }
out:
    free(scores);
    free(types);
    return status;
}

lcl_status lcl_gguf_tokenizer_read(const struct lcl_gguf *g, struct lcl_tokenizer_tables *t)
{
    *t = (struct lcl_tokenizer_tables){.bos = -1, .eos = -1, .unk = -1, .pad = -1};
    lcl_status status = read_names(g, t);
    if (status == LCL_OK) status = read_lists(g, t);
    if (status != LCL_OK) lcl_tokenizer_tables_free(t);
    return status;
}

lcl_status lcl_gguf_tokenizer_load(const struct lcl_gguf *g, int64_t n_rows,
                                   const char *image_token, struct lcl_tokenizer **out)
{
    struct lcl_tokenizer_tables t;
    lcl_status status;
    *out = NULL;
    LCL_TRY(lcl_gguf_tokenizer_read(g, &t));
    if (image_token) t.image_token = image_token;
    if (n_rows > 0 && t.n_tokens > 0 && (int64_t)t.n_tokens != n_rows)
        status = LCL_FAIL(LCL_FORMAT, "%s has %zu tokens and %lld rows of the embedding", g->path,
                          t.n_tokens, (long long)n_rows);
    else
        status = lcl_tokenizer_from_tables(&t, g->path, out);
    lcl_tokenizer_tables_free(&t);
    return status;
}

static void put_id(struct lcl_gguf_meta *meta, const char *key, int32_t id)
{
    if (id >= 0) lcl_gguf_put_u32(meta, key, (uint32_t)id);
}

void lcl_gguf_tokenizer_put(struct lcl_gguf_meta *meta, const struct lcl_tokenizer_tables *t)
{
    lcl_gguf_put_text(meta, "tokenizer.ggml.model", t->model);
    lcl_gguf_put_text(meta, "tokenizer.ggml.pre", t->pre ? t->pre : "default");
    lcl_gguf_put_texts(meta, "tokenizer.ggml.tokens", (const char *const *)t->token, t->n_tokens);
    lcl_gguf_put_i32s(meta, "tokenizer.ggml.token_type", t->type, t->n_tokens);
    if (t->score) lcl_gguf_put_f32s(meta, "tokenizer.ggml.scores", t->score, t->n_tokens);
    if (t->merge)
        lcl_gguf_put_texts(meta, "tokenizer.ggml.merges", (const char *const *)t->merge,
                           t->n_merges);
    put_id(meta, "tokenizer.ggml.bos_token_id", t->bos);
    put_id(meta, "tokenizer.ggml.eos_token_id", t->eos);
    put_id(meta, "tokenizer.ggml.unknown_token_id", t->unk);
    put_id(meta, "tokenizer.ggml.padding_token_id", t->pad);
    lcl_gguf_put_bool(meta, "tokenizer.ggml.add_bos_token", t->add_bos == 1);
    lcl_gguf_put_bool(meta, "tokenizer.ggml.add_eos_token", t->add_eos == 1);
    lcl_gguf_put_bool(meta, "tokenizer.ggml.add_space_prefix", t->add_space_prefix == 1);
    if (t->chat_template) lcl_gguf_put_text(meta, "tokenizer.chat_template", t->chat_template);
}
