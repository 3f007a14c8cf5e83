/* What CLIP's tokenizer has of its own: a mark at the end of words, and its first files, vocab.json
 * and merges.txt, as the tokenizer.json that transformers' CLIPTokenizer stands for. */
#include <stdlib.h>
#include <string.h>

#include "data/tokenizer_internal.h"

/* end_of_word_suffix, as CLIP's "</w>". */
lcl_status tok_word_end_load(struct lcl_tokenizer *t, const json_t *model, bool unigram)
{
    const char *end = tok_string_of(model, "end_of_word_suffix");
    size_t n = strlen(end);
    if (n == 0) return LCL_OK;
    if (unigram || n > TOK_WORD_END_BYTES)
        return LCL_FAIL(LCL_FORMAT,
                        "model.end_of_word_suffix has %zu bytes, at most %d are read, of a BPE", n,
                        TOK_WORD_END_BYTES);
    return tok_step_set(&t->word_end, &t->word_end_size, end, n);
}

/* Decoded, the end of a word is a space, but the last. */
lcl_status tok_word_end_decode(struct lcl_tokenizer *t)
{
    struct tok_step *step;
    if (!t->word_end) return LCL_OK;
    LCL_TRY(tok_steps_push(&t->decode, &step));
    step->kind = TOK_FUSE;
    LCL_TRY(tok_steps_push(&t->decode, &step));
    step->kind = TOK_REPLACE;
    LCL_TRY(tok_step_set(&step->pattern, &step->pattern_size, t->word_end, t->word_end_size));
    LCL_TRY(tok_step_set(&step->content, &step->content_size, " ", 1));
    LCL_TRY(tok_steps_push(&t->decode, &step));
    step->kind = TOK_TRIM;
    step->start = step->stop = 1000;
    return tok_step_set(&step->content, &step->content_size, " ", 1);
}

/* merges.txt: a line "left right" each; the first may tell a version. */
static lcl_status read_merges(const char *text, size_t size, json_t *list)
{
    const char *end = text + size;
    for (int line = 1; text < end; line++) {
        const char *stop = memchr(text, '\n', (size_t)(end - text));
        size_t n = (size_t)((stop ? stop : end) - text);
        bool version = line == 1 && n > 8 && memcmp(text, "#version", 8) == 0;
        const char *begin = text;
        text += n + (stop != NULL);
        if (n > 0 && begin[n - 1] == '\r') n--;
        if (n == 0 || version) continue;
        if (json_array_append_new(list, json_stringn(begin, n)) != 0)
            return LCL_FAIL(LCL_FORMAT, "merges.txt:%d is not UTF-8", line);
    }
    return LCL_OK;
}

/* Everything but vocabulary, merges and the two added tokens: transformers' CLIPTokenizer. */
static json_t *frame(json_int_t start, json_int_t end)
{
    static const char words[] = "<\\|startoftext\\|>|<\\|endoftext\\|>|'s|'t|'re|'ve|'m|'ll|'d|"
                                "[\\p{L}]+|[\\p{N}]|[^\\s\\p{L}\\p{N}]+";
    return json_pack(
        "{s:s, s:[o, o], s:{s:s, s:[{s:s}, {s:s, s:{s:s}, s:s}, {s:s}]},"
        " s:{s:s, s:[{s:s, s:{s:s}, s:s, s:b}, {s:s, s:b}]},"
        " s:{s:s, s:[s, I], s:[s, I]}, s:{s:s}}",
        "version", "1.0", "added_tokens", tok_added_row(start, "<|startoftext|>", 15, true),
        tok_added_row(end, "<|endoftext|>", 13, true), "normalizer", "type", "Sequence",
        "normalizers", "type", "NFC", "type", "Replace", "pattern", "Regex", "\\s+", "content", " ",
        "type", "Lowercase", "pre_tokenizer", "type", "Sequence", "pretokenizers", "type", "Split",
        "pattern", "Regex", words, "behavior", "Removed", "invert", 1, "type", "ByteLevel",
        "add_prefix_space", 0, "post_processor", "type", "RobertaProcessing", "sep",
        "<|endoftext|>", end, "cls", "<|startoftext|>", start, "decoder", "type", "ByteLevel");
}

lcl_status tok_clip_json(const char *vocab, size_t vocab_size, const char *merges,
                         size_t merges_size, char **text)
{
    json_error_t error;
    json_t *ids = json_loadb(vocab, vocab_size, JSON_REJECT_DUPLICATES, &error);
    json_t *list = json_array(), *root = NULL, *model = NULL;
    const json_t *start = json_object_get(ids, "<|startoftext|>");
    const json_t *end = json_object_get(ids, "<|endoftext|>");
    lcl_status status;
    *text = NULL;
    if (!ids) {
        status = LCL_FAIL(LCL_FORMAT, "line %d: %s", error.line, error.text);
        goto out;
    }
    if (!json_is_integer(start) || !json_is_integer(end)) {
        status = LCL_FAIL(LCL_FORMAT, "it is no vocabulary of CLIP: <|startoftext|> or "
                                      "<|endoftext|> has no id");
        goto out;
    }
    LCL_TRY_GOTO(read_merges(merges, merges_size, list));
    root = frame(json_integer_value(start), json_integer_value(end));
    model = json_pack("{s:s, s:s, s:s, s:O, s:O}", "type", "BPE", "unk_token", "<|endoftext|>",
                      "end_of_word_suffix", "</w>", "vocab", ids, "merges", list);
    if (root && model && json_object_set(root, "model", model) == 0)
        *text = json_dumps(root, JSON_COMPACT);
    if (!*text) status = LCL_FAIL(LCL_MEMORY, "no memory for CLIP's tokenizer");
out:
    json_decref(model);
    json_decref(root);
    json_decref(list);
    json_decref(ids);
    return status;
}
