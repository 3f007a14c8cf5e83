#include "tools/inspect_pictures.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "data/pack.h"

static lcl_status print_json(const char *image, const char *split, const struct lcl_class *c)
{
    json_t *line = json_pack("{s:s, s:s, s:s, s:s}", "image", image, "split", split, "class", c->id,
                             "name", c->name);
    if (!line) return LCL_FAIL(LCL_MEMORY, "no memory to print a picture");
    int failed = json_dumpf(line, stdout, JSON_COMPACT) || putchar('\n') == EOF;
    json_decref(line);
    return failed ? LCL_FAIL(LCL_IO, "cannot write to standard output") : LCL_OK;
}

/* A tab or a line's end within a field would make two of it: those become question marks. */
static lcl_status print_field(const char *text, char after)
{
    char *copy = strdup(text);
    if (!copy) return LCL_FAIL(LCL_MEMORY, "no memory to print a picture");
    for (char *p = copy; *p; p++)
        if (*p == '\t' || *p == '\n') *p = '?';
    int failed = printf("%s%c", lcl_printable(copy), after) < 0;
    free(copy);
    return failed ? LCL_FAIL(LCL_IO, "cannot write to standard output") : LCL_OK;
}

static lcl_status print_picture(const struct lcl_pack *pack, int64_t i, bool json)
{
    const struct lcl_class *c = &pack->classes[pack->image_class[i]];
    const char *image, *split = c->split == LCL_SPLIT_TEST ? "test" : "train";
    LCL_TRY(lcl_pack_image_name(pack, i, &image));
    if (json) return print_json(image, split, c);
    LCL_TRY(print_field(image, '\t'));
    LCL_TRY(print_field(split, '\t'));
    LCL_TRY(print_field(c->id, '\t'));
    return print_field(c->name, '\n');
}

lcl_status inspect_pictures(const char *path, bool json)
{
    struct lcl_pack pack;
    LCL_TRY(lcl_pack_open(path, &pack));
    lcl_status status = LCL_OK;
    for (int64_t i = 0; i < pack.n_images && status == LCL_OK; i++)
        status = print_picture(&pack, i, json);
    lcl_pack_close(&pack);
    return status;
}
