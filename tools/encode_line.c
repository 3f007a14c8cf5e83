#include "tools/encode_line.h"

#include <stdlib.h>

enum { MAX_SHOTS = 1 << 16 };

static lcl_status wanted(const char *key, const char *what)
{
    return LCL_FAIL_HINT(LCL_FORMAT,
                         "{\"support\": [{\"label\": \"dax\"}, ...], \"query\": {\"label\": "
                         "\"dax\", \"question\": null}} on each line",
                         "\"%s\" must be %s", key, what);
}

/* A text, or NULL where the key is null or not there. */
static lcl_status get_text(const json_t *from, const char *key, const char *path, const char **text)
{
    const json_t *v = json_object_get(from, key);
    *text = json_string_value(v);
    return *text || !v || json_is_null(v) ? LCL_OK : wanted(path, "a text or null");
}

/* labels: [n_shots] */
static lcl_status read_episode(const json_t *in, const char **labels,
                               struct lcl_official_episode *e)
{
    const json_t *support = json_object_get(in, "support"), *query = json_object_get(in, "query");
    char key[64];
    for (int i = 0; i < e->n_shots; i++) {
        const json_t *shot = json_array_get(support, (size_t)i);
        labels[i] = json_string_value(json_object_get(shot, "label"));
        snprintf(key, sizeof key, "support[%d].label", i);
        if (!labels[i]) return wanted(key, "a text");
    }
    e->labels = labels;
    if (!json_is_object(query)) return wanted("query", "an object");
    LCL_TRY(get_text(query, "label", "query.label", &e->label));
    return get_text(query, "question", "query.question", &e->question);
}

lcl_status encode_read(const json_t *line, struct lcl_official_episode *e, const char ***labels)
{
    const json_t *support = json_object_get(line, "support");
    size_t n = json_array_size(support);
    *labels = NULL;
    if (!json_is_array(support) || n > MAX_SHOTS)
        return wanted("support", "a list of at most 65536 pictures");
    *e = (struct lcl_official_episode){.n_shots = (int)n};
    *labels = malloc((n + 1) * sizeof **labels);
    if (!*labels) return LCL_FAIL(LCL_MEMORY, "no memory for an episode");
    lcl_status status = read_episode(line, *labels, e);
    if (status != LCL_OK) {
        free(*labels);
        *labels = NULL;
    }
    return status;
}
