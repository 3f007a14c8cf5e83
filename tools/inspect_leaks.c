#include "tools/inspect_leaks.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum { EXAMPLES = 10 };

static lcl_status name_of(struct lcl_pack *pack, int64_t i, json_t *list)
{
    const char *name;
    LCL_TRY(lcl_pack_image_name(pack, i, &name));
    json_array_append_new(list, json_string(name));
    return LCL_OK;
}

static lcl_status count_copies(struct lcl_pack *pack, const int32_t *first, json_t *out)
{
    int64_t across_splits = 0, across_classes = 0, within = 0;
    json_t *examples = json_array();
    json_object_set_new(out, "examples", examples);
    for (int64_t i = 0; i < pack->n_images; i++) {
        if (first[i] == i) continue;
        int32_t a = pack->image_class[first[i]], b = pack->image_class[i];
        bool split = pack->classes[a].split != pack->classes[b].split;
        across_splits += split;
        across_classes += !split && a != b;
        within += a == b;
        if (json_array_size(examples) >= EXAMPLES || a == b) continue;
        json_t *pair = json_array();
        json_array_append_new(examples, pair);
        LCL_TRY(name_of(pack, first[i], pair));
        LCL_TRY(name_of(pack, i, pair));
    }
    json_object_set_new(out, "across_splits", json_integer(across_splits));
    json_object_set_new(out, "across_classes", json_integer(across_classes));
    json_object_set_new(out, "within_classes", json_integer(within));
    return LCL_OK;
}

static int by_name(const void *a, const void *b)
{
    const struct lcl_class *const *p = a, *const *q = b;
    int order = strcasecmp((*p)->name, (*q)->name);
    return order ? order : strcmp((*p)->id, (*q)->id);
}

/* [{"name", "classes": [id...]}...] of names, whatever their case, that several classes have. */
static lcl_status shared_names(const struct lcl_pack *pack, json_t *list)
{
    size_t n = (size_t)pack->n_classes;
    const struct lcl_class **v = malloc((n + 1) * sizeof *v);
    if (!v) return LCL_FAIL(LCL_MEMORY, "no memory to compare %zu names", n);
    for (size_t i = 0; i < n; i++) v[i] = &pack->classes[i];
    qsort(v, n, sizeof *v, by_name);
    for (size_t i = 0, end; i < n; i = end) {
        for (end = i + 1; end < n && strcasecmp(v[i]->name, v[end]->name) == 0;) end++;
        if (end == i + 1) continue;
        json_t *ids = json_array();
        for (size_t k = i; k < end; k++) json_array_append_new(ids, json_string(v[k]->id));
        json_array_append_new(list, json_pack("{s:s, s:o}", "name", v[i]->name, "classes", ids));
    }
    free(v);
    return LCL_OK;
}

lcl_status inspect_leaks(struct lcl_pack *pack, json_t *out)
{
    int32_t *first;
    json_t *copies = json_object(), *names = json_array();
    json_object_set_new(out, "same_pictures", copies);
    json_object_set_new(out, "shared_names", names);
    LCL_TRY(shared_names(pack, names));
    LCL_TRY(lcl_pack_find_copies(pack, &first));
    lcl_status status = count_copies(pack, first, copies);
    free(first);
    return status;
}
