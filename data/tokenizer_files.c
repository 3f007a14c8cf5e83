/* A tokenizer from its files: tokenizer.json or a SentencePiece model, and what lies beside it. */
#include <stdlib.h>
#include <string.h>

#include "core/fs.h"
#include "data/tokenizer_internal.h"

#define TOKENIZER_MAX_BYTES ((size_t)1 << 26)

/* A file beside tokenizer.json, or NULL where there is none. */
static lcl_status read_beside(const char *path, const char *name, char **text, size_t *size)
{
    char *beside = lcl_strdupf("%.*s%s", (int)(lcl_fs_basename(path) - path), path, name);
    lcl_status status = LCL_OK;
    if (!beside) return LCL_FAIL(LCL_MEMORY, "no memory to read %s", name);
    if (lcl_fs_exists(beside)) status = lcl_fs_read(beside, TOKENIZER_MAX_BYTES, text, size);
    free(beside);
    return status;
}

/* JSON begins with a brace; a SentencePiece model with the tag of its first piece. */
static bool is_sentencepiece(const char *text, size_t size)
{
    size_t i = 0;
    while (i < size && strchr(" \t\r\n", text[i])) i++;
    return size > 0 && text[0] == '\n' && i < size && text[i] != '{';
}

static lcl_status convert_model(const char *path, const char *config, size_t config_size,
                                char **text, size_t *size)
{
    char *added = NULL, *json = NULL;
    size_t added_size = 0;
    LCL_TRY(read_beside(path, "added_tokens.json", &added, &added_size));
    lcl_status status =
        tok_sp_json(path, *text, *size, config, config_size, added, added_size, &json);
    free(added);
    LCL_TRY(status);
    free(*text);
    *text = json;
    *size = strlen(json);
    return LCL_OK;
}

static lcl_status convert_clip(const char *path, char **text, size_t *size)
{
    char *merges = NULL, *json = NULL;
    size_t merges_size = 0;
    LCL_TRY(read_beside(path, "merges.txt", &merges, &merges_size));
    lcl_status status = merges ? tok_clip_json(*text, *size, merges, merges_size, &json)
                               : LCL_FAIL(LCL_NOT_FOUND, "there is no merges.txt beside it");
    free(merges);
    if (status != LCL_OK) return lcl_fail_context(status, "%s", path);
    free(*text);
    *text = json;
    *size = strlen(json);
    return LCL_OK;
}

lcl_status lcl_tokenizer_load(const char *tokenizer_json, struct lcl_tokenizer **out)
{
    char *json = NULL, *config = NULL, *specials = NULL;
    size_t size = 0, config_size = 0, specials_size = 0;
    lcl_status status;
    *out = NULL;
    LCL_TRY_GOTO(lcl_fs_read(tokenizer_json, TOKENIZER_MAX_BYTES, &json, &size));
    LCL_TRY_GOTO(read_beside(tokenizer_json, "tokenizer_config.json", &config, &config_size));
    if (is_sentencepiece(json, size))
        LCL_TRY_GOTO(convert_model(tokenizer_json, config, config_size, &json, &size));
    else if (strcmp(lcl_fs_basename(tokenizer_json), "vocab.json") == 0)
        LCL_TRY_GOTO(convert_clip(tokenizer_json, &json, &size));
    LCL_TRY_GOTO(read_beside(tokenizer_json, "special_tokens_map.json", &specials, &specials_size));
    LCL_TRY_GOTO(tok_load_text(tokenizer_json, json, size, config, config_size, out));
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

/* FOLDER/NAME of what is there, malloc'd: tokenizer.json first, in the folder and above it; last
 * CLIP's vocab.json, which needs merges.txt beside it. */
static char *find_file(const char *from)
{
    static const char *const names[] = {"tokenizer.json", "tokenizer.model", "../tokenizer.json",
                                        "vocab.json"};
    for (int i = 0; i < 4; i++) {
        char *path = lcl_strdupf("%s/%s", from, names[i]);
        if (path && lcl_fs_exists(path)) return path;
        free(path);
    }
    return NULL;
}

lcl_status lcl_tokenizer_load_folder(const char *from, struct lcl_tokenizer **out)
{
    *out = NULL;
    if (!lcl_fs_is_dir(from)) return lcl_tokenizer_load(from, out);
    char *path = find_file(from);
    if (!path)
        return LCL_FAIL_HINT(LCL_NOT_FOUND, "name one by the key tokenizer",
                             "%s holds neither tokenizer.json nor tokenizer.model", from);
    lcl_status status = lcl_tokenizer_load(path, out);
    free(path);
    return status;
}
