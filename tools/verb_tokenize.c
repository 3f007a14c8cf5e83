/* lcl tokenize: texts in, token ids and the decoded text out, a JSON object a line. */
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "data/tokenizer.h"
#include "tools/cli.h"

static json_t *list_of(const struct lcl_ids *ids)
{
    json_t *list = json_array();
    for (int64_t i = 0; i < ids->n; i++) json_array_append_new(list, json_integer(ids->v[i]));
    return list;
}

static lcl_status set_text(json_t *out, const char *key, const struct lcl_tokenizer *t,
                           const struct lcl_ids *ids, bool skip_special)
{
    char *text;
    size_t size;
    LCL_TRY(lcl_tokenizer_decode_bytes(t, ids->v, ids->n, skip_special, &text, &size));
    json_t *string = json_stringn(text, size);
    free(text);
    if (!string) return LCL_FAIL(LCL_INTERNAL, "the decoded text is not UTF-8");
    json_object_set_new(out, key, string);
    return LCL_OK;
}

/* The decoded texts are those of the ids that are not put around the text. */
static lcl_status describe(const struct lcl_tokenizer *t, const json_t *text, json_t *out)
{
    struct lcl_ids whole = {0}, bare = {0};
    lcl_status status;
    const char *s = json_string_value(text);
    size_t n = json_string_length(text);
    LCL_TRY_GOTO(lcl_tokenizer_encode_bytes(t, s, n, true, &whole));
    LCL_TRY_GOTO(lcl_tokenizer_encode_bytes(t, s, n, false, &bare));
    json_object_set_new(out, "ids", list_of(&whole));
    json_object_set_new(out, "ids_no_special", list_of(&bare));
    LCL_TRY_GOTO(set_text(out, "decoded", t, &bare, false));
    LCL_TRY_GOTO(set_text(out, "decoded_skip_special", t, &bare, true));
out:
    lcl_ids_free(&whole);
    lcl_ids_free(&bare);
    return status;
}

static lcl_status one_line(const struct lcl_tokenizer *t, const char *line, size_t size)
{
    json_error_t error;
    json_t *in = json_loadb(line, size, JSON_ALLOW_NUL, &error), *out = json_object();
    const json_t *text = json_object_get(in, "text");
    lcl_status status;
    if (!in)
        status = LCL_FAIL(LCL_FORMAT, "%s", error.text);
    else if (!json_is_string(text))
        status = LCL_FAIL_HINT(LCL_FORMAT, "{\"text\": \"...\"} on each line",
                               "there is no string \"text\"");
    else
        status = describe(t, text, out);
    if (status == LCL_OK) {
        json_dumpf(out, stdout, JSON_COMPACT);
        printf("\n");
    }
    json_decref(in);
    json_decref(out);
    return status;
}

static lcl_status tokenize(const char *model)
{
    struct lcl_tokenizer *t;
    char *line = NULL;
    size_t cap = 0;
    ssize_t size;
    lcl_status status = LCL_OK;
    LCL_TRY(lcl_tokenizer_load_folder(model, &t));
    for (int64_t n = 1; status == LCL_OK && (size = getline(&line, &cap, stdin)) >= 0; n++) {
        if (strspn(line, " \t\r\n") == (size_t)size) continue;
        status = one_line(t, line, (size_t)size);
        if (status != LCL_OK)
            status = lcl_fail_context(status, "standard input, line %lld", (long long)n);
    }
    free(line);
    lcl_tokenizer_free(t);
    return status;
}

static lcl_status run(int argc, char **argv)
{
    const char *model = NULL;
    const struct cli_option options[] = {{"--model", CLI_STR, &model, .value = "DIR",
                                          .required = true,
                                          .doc = "HF folder or run folder, or a tokenizer file"},
                                         CLI_END};
    const struct cli_spec spec = {
        .usage = "--model DIR < texts.jsonl",
        .about = "Reads {\"text\": ...} lines from standard input and writes, for each, the ids "
                 "with and without\nthe special tokens that the model puts around a text, and what "
                 "the latter decode to.",
        .options = options,
        .notes = "Example:\n  echo '{\"text\": \"a dax\"}' | lcl tokenize --model build/hf"};
    struct cli_args args;
    LCL_TRY(cli_parse(&spec, argc, argv, &args));
    return args.help ? LCL_OK : tokenize(model);
}

const struct cli_verb verb_tokenize = {"tokenize", "texts as token ids, and back", 91, run};
