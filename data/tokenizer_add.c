/* Special tokens added behind the vocabulary of a tokenizer. */
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "data/tokenizer_internal.h"

static lcl_status parse(const char *json, size_t size, const char *what, json_t **root)
{
    json_error_t error;
    *root = tok_config(json, size, &error);
    if (json_is_object(*root)) return LCL_OK;
    json_decref(*root);
    *root = NULL;
    return LCL_FAIL(LCL_FORMAT, "%s of the tokenizer is not a JSON object", what);
}

static lcl_status print(const json_t *root, char **text, size_t *size)
{
    *text = json_dumps(root, JSON_INDENT(2) | JSON_REAL_PRECISION(17));
    *size = *text ? strlen(*text) : 0;
    return *text ? LCL_OK : LCL_FAIL(LCL_MEMORY, "no memory for a tokenizer");
}

json_t *tok_added_row(json_int_t id, const char *text, size_t size, bool special)
{
    return json_pack("{s:I, s:s%, s:b, s:b, s:b, s:b, s:b}", "id", id, "content", text, size,
                     "single_word", 0, "lstrip", 0, "rstrip", 0, "normalized", 0, "special",
                     (int)special);
}

/* Those that the vocabulary lacks, behind it. */
static lcl_status add_to_list(const struct lcl_tokenizer *t, const struct lcl_special_token *tokens,
                              int n, char **text, size_t *size)
{
    json_t *root;
    int32_t id = lcl_tokenizer_vocab_size(t);
    LCL_TRY(parse(t->json, t->json_size, "tokenizer.json", &root));
    json_t *list = json_object_get(root, "added_tokens");
    if (!json_is_array(list)) {
        list = json_array();
        json_object_set_new(root, "added_tokens", list);
    }
    for (int i = 0; i < n; i++) {
        if (lcl_tokenizer_id(t, tokens[i].text) >= 0) continue;
        json_array_append_new(list,
                              tok_added_row(id++, tokens[i].text, strlen(tokens[i].text), true));
    }
    lcl_status status = print(root, text, size);
    json_decref(root);
    return status;
}

/* tokenizer_config.json or special_tokens_map.json with the tokens under keys that say nothing yet;
 * NULL stays NULL: saving makes it then. */
static lcl_status name_tokens(const char *json, size_t json_size, const char *what,
                              const struct lcl_special_token *tokens, int n, char **text,
                              size_t *size)
{
    json_t *root;
    *text = NULL;
    if (!json) return LCL_OK;
    LCL_TRY(parse(json, json_size, what, &root));
    for (int i = 0; i < n; i++) {
        const json_t *v = json_object_get(root, tokens[i].key);
        if (!v || json_is_null(v))
            json_object_set_new(root, tokens[i].key, json_string(tokens[i].text));
    }
    lcl_status status = print(root, text, size);
    json_decref(root);
    return status;
}

lcl_status lcl_tokenizer_with_tokens(const struct lcl_tokenizer *t,
                                     const struct lcl_special_token *tokens, int n,
                                     struct lcl_tokenizer **out)
{
    char *json = NULL, *config = NULL, *specials = NULL;
    size_t size = 0, config_size = 0, specials_size = 0;
    lcl_status status;
    *out = NULL;
    LCL_TRY_GOTO(add_to_list(t, tokens, n, &json, &size));
    LCL_TRY_GOTO(name_tokens(t->config_json, t->config_size, "tokenizer_config.json", tokens, n,
                             &config, &config_size));
    LCL_TRY_GOTO(name_tokens(t->specials_json, t->specials_size, "special_tokens_map.json", tokens,
                             n, &specials, &specials_size));
    LCL_TRY_GOTO(tok_load_text("tokenizer.json", json, size, config, config_size, out));
    (*out)->config_json = config;
    (*out)->config_size = config_size;
    (*out)->specials_json = specials;
    (*out)->specials_size = specials_size;
    config = specials = NULL;
out:
    free(json);
    free(config);
    free(specials);
    return status;
}

void lcl_tokenizer_set_image(struct lcl_tokenizer *t, const char *token)
{
    t->image = lcl_tokenizer_id(t, token);
}
