/* Rows of a pack as conversations. */
#include <stdlib.h>
#include <string.h>

#include "core/fs.h"
#include "data/pack_rows.h"

static lcl_status damaged(const struct lcl_pack *p, int64_t row, const char *key)
{
    return LCL_FAIL_HINT(LCL_FORMAT, "make the pack again", "%s: row %lld: \"%s\" is no such thing",
                         p->path, (long long)row, key);
}

static bool read_message(const json_t *m, struct lcl_message *to, bool *learned)
{
    const char *role = json_string_value(json_object_get(m, "role"));
    to->text = json_string_value(json_object_get(m, "content"));
    if (!role || !to->text) return false;
    to->role = strcmp(role, "user") == 0        ? LCL_ROLE_USER
               : strcmp(role, "assistant") == 0 ? LCL_ROLE_ASSISTANT
                                                : LCL_ROLE_SYSTEM;
    *learned = to->role == LCL_ROLE_ASSISTANT && !json_is_false(json_object_get(m, "learn"));
    return to->role != LCL_ROLE_SYSTEM || strcmp(role, "system") == 0;
}

static lcl_status fill(const struct lcl_pack *p, int64_t row, int64_t first, const json_t *root,
                       struct lcl_conversation *c)
{
    const json_t *messages = json_object_get(root, "messages"),
                 *images = json_object_get(root, "images");
    size_t n = json_array_size(messages), pictures = json_array_size(images);
    if (n == 0) return damaged(p, row, "messages");
    c->name = lcl_strdupf("%s: row %lld", p->path, (long long)row);
    c->messages = calloc(n, sizeof *c->messages);
    c->learned = calloc(n, sizeof *c->learned);
    c->image = calloc(pictures + 1, sizeof *c->image);
    if (!c->name || !c->messages || !c->learned || !c->image)
        return LCL_FAIL(LCL_MEMORY, "no memory for a row");
    c->n_messages = (int)n;
    c->n_images = (int64_t)pictures;
    for (size_t i = 0; i < n; i++)
        if (!read_message(json_array_get(messages, i), &c->messages[i], &c->learned[i]))
            return damaged(p, row, "messages");
    for (size_t i = 0; i < pictures; i++) {
        const json_t *number = json_array_get(images, i);
        json_int_t k = json_integer_value(number);
        if (!json_is_integer(number) || k < 0 || k >= p->n_images) return damaged(p, row, "images");
        c->image[i] = first + k;
    }
    return LCL_OK;
}

lcl_status lcl_pack_conversation(const struct lcl_pack *pack, int64_t row, int64_t first_picture,
                                 struct lcl_conversation *c, json_t **owner)
{
    char *text;
    size_t size;
    *c = (struct lcl_conversation){0};
    *owner = NULL;
    LCL_TRY(lcl_pack_read_row(pack, row, &text, &size));
    *owner = json_loadb(text, size, JSON_REJECT_DUPLICATES, NULL);
    free(text);
    lcl_status status = json_is_object(*owner) ? fill(pack, row, first_picture, *owner, c)
                                               : damaged(pack, row, "row");
    if (status != LCL_OK) {
        lcl_pack_conversation_free(c, *owner);
        *owner = NULL;
    }
    return status;
}

void lcl_pack_conversation_free(struct lcl_conversation *c, json_t *owner)
{
    free((char *)(uintptr_t)c->name);
    free(c->messages);
    free(c->learned);
    free(c->image);
    json_decref(owner);
    *c = (struct lcl_conversation){0};
}
