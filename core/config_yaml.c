/* Config files: libyaml's events to settings, the merge of bases, stages and overrides, and the way
 * back to YAML.
 *
 * A file becomes a layer: settings for all stages, and settings of each stage. A derived file's
 * layer is laid over its base's. Each setting is checked where it is read, so that the message can
 * name its line. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <yaml.h>

#include "core/config_schema.h"
#include "core/fs.h"

enum {
    MAX_DEPTH = 8,
    MAX_FILE_BYTES = 1 << 20,
    MAX_KEYS = 256,
    KEY_BYTES = 128,
    PATH_BYTES = 4096
};
enum { ALL_STAGES = -1 };

struct setting {
    int key; /* index in lcl_config_keys */
    char *value;
};

struct settings {
    struct setting *v;
    int n, cap;
};

struct stage {
    char name[64];
    int line;
    struct settings own;
};

struct layer {
    struct settings common;
    int n_stages;
    struct stage stages[LCL_CONFIG_MAX_STAGES];
    bool lists_stages; /* `stages:` was a list, so it replaces the base's */
    char base[LCL_CONFIG_STR_BYTES];
    int base_line;
};

/* One file being read. */
struct reader {
    const char *path;
    yaml_parser_t parser;
    struct layer *layer;
    struct lcl_config scratch; /* settings are tried here first */
    int stage;                 /* being read, or ALL_STAGES */
    int seen_line[MAX_KEYS];   /* of each key in the present scope; 0: not yet */
    char where[PATH_BYTES + 16];
};

static void settings_free(struct settings *s)
{
    for (int i = 0; i < s->n; i++) free(s->v[i].value);
    free(s->v);
    *s = (struct settings){0};
}

static void layer_free(struct layer *l)
{
    settings_free(&l->common);
    for (int i = 0; i < l->n_stages; i++) settings_free(&l->stages[i].own);
    free(l);
}

static lcl_status settings_add(struct settings *s, int key, const char *value)
{
    if (s->n == s->cap) {
        int cap = s->cap ? 2 * s->cap : 32;
        struct setting *v = realloc(s->v, (size_t)cap * sizeof *v);
        if (!v) return LCL_FAIL(LCL_MEMORY, "no memory for %d settings", cap);
        s->v = v;
        s->cap = cap;
    }
    char *copy = strdup(value);
    if (!copy) return LCL_FAIL(LCL_MEMORY, "no memory for a setting");
    s->v[s->n++] = (struct setting){key, copy};
    return LCL_OK;
}

static lcl_status settings_append(struct settings *to, const struct settings *from)
{
    for (int i = 0; i < from->n; i++) LCL_TRY(settings_add(to, from->v[i].key, from->v[i].value));
    return LCL_OK;
}

static lcl_status settings_apply(struct lcl_config *c, const struct settings *s)
{
    for (int i = 0; i < s->n; i++)
        LCL_TRY(lcl_config_assign(c, &lcl_config_keys[s->v[i].key], s->v[i].value, "config"));
    return LCL_OK;
}

static const char *at_line(struct reader *r, int line)
{
    snprintf(r->where, sizeof r->where, "%s:%d", r->path, line);
    return r->where;
}

static const char *at_event(struct reader *r, const yaml_event_t *e)
{
    return at_line(r, (int)e->start_mark.line + 1);
}

/* The next event; the caller deletes it on LCL_OK. */
static lcl_status next_event(struct reader *r, yaml_event_t *e)
{
    if (!yaml_parser_parse(&r->parser, e)) {
        const yaml_parser_t *p = &r->parser;
        if (p->error == YAML_MEMORY_ERROR) return LCL_FAIL(LCL_MEMORY, "%s: no memory", r->path);
        int line = (int)(p->error == YAML_READER_ERROR ? p->mark.line : p->problem_mark.line) + 1;
        return LCL_FAIL_HINT(
            LCL_CONFIG, "lines are `key: value`; nested keys are indented by blanks",
            "%s: not YAML: %s", at_line(r, line), p->problem ? p->problem : "malformed");
    }
    if (e->type != YAML_ALIAS_EVENT) return LCL_OK;
    lcl_status status =
        LCL_FAIL_HINT(LCL_CONFIG, "write the value out, or put shared keys in a `base:` file",
                      "%s: YAML aliases (*name) are not supported", at_event(r, e));
    yaml_event_delete(e);
    return status;
}

static const char *scalar_text(const yaml_event_t *e) { return (const char *)e->data.scalar.value; }

/* Refuses NUL bytes in text, and values left out ("seed:" with nothing after it). */
static lcl_status check_scalar(struct reader *r, const yaml_event_t *e, const char *key)
{
    if (strlen(scalar_text(e)) != e->data.scalar.length)
        return LCL_FAIL(LCL_CONFIG, "%s: a NUL character in the value of %s", at_event(r, e), key);
    const char *t = scalar_text(e);
    if (e->data.scalar.style == YAML_PLAIN_SCALAR_STYLE &&
        (!*t || !strcmp(t, "~") || !strcmp(t, "null")))
        return LCL_FAIL_HINT(LCL_CONFIG, "leave the key out for its default; \"\" is empty text",
                             "%s: %s has no value", at_event(r, e), key);
    return LCL_OK;
}

/* Joins the numbers of a YAML sequence, whose start was just read, to "1,2,3". */
static lcl_status read_list(struct reader *r, const char *key, char *text, size_t size)
{
    size_t at = 0;
    text[0] = 0;
    for (;;) {
        yaml_event_t e;
        LCL_TRY(next_event(r, &e));
        lcl_status status = LCL_OK;
        bool end = e.type == YAML_SEQUENCE_END_EVENT;
        if (!end && e.type != YAML_SCALAR_EVENT)
            status =
                LCL_FAIL(LCL_CONFIG, "%s: %s is a list of whole numbers", at_event(r, &e), key);
        if (!end && status == LCL_OK) status = check_scalar(r, &e, key);
        if (!end && status == LCL_OK) {
            int n = snprintf(text + at, size - at, "%s%s", at ? "," : "", scalar_text(&e));
            if (n < 0 || (size_t)n >= size - at)
                status =
                    LCL_FAIL(LCL_RANGE, "%s: the list of %s is too long", at_event(r, &e), key);
            else
                at += (size_t)n;
        }
        yaml_event_delete(&e);
        if (status != LCL_OK || end) return status;
    }
}

static lcl_status add_setting(struct reader *r, int key, const char *value, int line)
{
    const char *name = lcl_config_keys[key].name;
    if (r->seen_line[key])
        return LCL_FAIL(LCL_CONFIG, "%s: %s is given twice (first in line %d)", at_line(r, line),
                        name, r->seen_line[key]);
    r->seen_line[key] = line;
    LCL_TRY(lcl_config_assign(&r->scratch, &lcl_config_keys[key], value, at_line(r, line)));
    struct settings *to =
        r->stage == ALL_STAGES ? &r->layer->common : &r->layer->stages[r->stage].own;
    return settings_add(to, key, value);
}

static bool is_group(const char *name)
{
    size_t n = strlen(name);
    for (int i = 0; i < lcl_config_n_keys; i++) {
        const struct lcl_key *k = &lcl_config_keys[i];
        if (k->kind != LCL_KEY_SECTION && !strncmp(k->name, name, n) && k->name[n] == '.')
            return true;
    }
    return false;
}

static lcl_status read_map(struct reader *r, const char *prefix, int depth);
static lcl_status read_stages(struct reader *r, const yaml_event_t *start);

/* The value of a schema key, whose first event is `e`. */
static lcl_status read_value(struct reader *r, const char *name, const yaml_event_t *e, int line,
                             int depth)
{
    int key = lcl_config_find(name, strlen(name));
    char list[1024];
    if (e->type == YAML_MAPPING_START_EVENT && is_group(name)) return read_map(r, name, depth + 1);
    if (key < 0) return lcl_config_unknown_key(name, at_line(r, line));
    const char *kind = lcl_config_kind_text(lcl_config_keys[key].kind);
    if (e->type == YAML_SCALAR_EVENT) {
        LCL_TRY(check_scalar(r, e, name));
        return add_setting(r, key, scalar_text(e), line);
    }
    if (e->type == YAML_SEQUENCE_START_EVENT && lcl_config_keys[key].kind == LCL_KEY_LIST) {
        LCL_TRY(read_list(r, name, list, sizeof list));
        return add_setting(r, key, list, line);
    }
    return LCL_FAIL(LCL_CONFIG, "%s: %s is %s, not a %s", at_line(r, line), name, kind,
                    e->type == YAML_SEQUENCE_START_EVENT ? "list" : "map");
}

static lcl_status read_base(struct reader *r, const yaml_event_t *e, int line)
{
    struct layer *l = r->layer;
    if (e->type != YAML_SCALAR_EVENT)
        return LCL_FAIL(LCL_CONFIG, "%s: base is the path of one file", at_line(r, line));
    if (l->base_line)
        return LCL_FAIL(LCL_CONFIG, "%s: base is given twice (first in line %d)", at_line(r, line),
                        l->base_line);
    LCL_TRY(check_scalar(r, e, "base"));
    if (e->data.scalar.length == 0 || e->data.scalar.length >= sizeof l->base)
        return LCL_FAIL(LCL_CONFIG, "%s: the path of base is empty or longer than %zu bytes",
                        at_line(r, line), sizeof l->base - 1);
    snprintf(l->base, sizeof l->base, "%s", scalar_text(e));
    l->base_line = line;
    return LCL_OK;
}

static lcl_status set_stage_name(struct reader *r, const char *name, int line)
{
    struct stage *s = &r->layer->stages[r->stage];
    static const char letters[] =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-";
    size_t n = strlen(name);
    if (s->name[0]) return LCL_FAIL(LCL_CONFIG, "%s: name is given twice", at_line(r, line));
    if (n == 0 || n >= sizeof s->name || strspn(name, letters) != n)
        return LCL_FAIL(
            LCL_CONFIG,
            "%s: a stage's name has 1 to %zu letters, digits, '-' or '_', not \"%.80s\"",
            at_line(r, line), sizeof s->name - 1, name);
    for (int i = 0; i < r->stage; i++)
        if (!strcmp(r->layer->stages[i].name, name))
            return LCL_FAIL(LCL_CONFIG, "%s: two stages are called %s (the first in line %d)",
                            at_line(r, line), name, r->layer->stages[i].line);
    snprintf(s->name, sizeof s->name, "%s", name);
    return LCL_OK;
}

/* One `key: value`; key_event is the key. */
static lcl_status read_pair(struct reader *r, const char *prefix, const yaml_event_t *key_event,
                            int depth)
{
    int line = (int)key_event->start_mark.line + 1;
    char name[KEY_BYTES];
    if (key_event->type != YAML_SCALAR_EVENT)
        return LCL_FAIL(LCL_CONFIG, "%s: a key is a word", at_line(r, line));
    int n =
        snprintf(name, sizeof name, "%s%s%s", prefix, *prefix ? "." : "", scalar_text(key_event));
    if (n <= 0 || n >= (int)sizeof name ||
        strlen(scalar_text(key_event)) != key_event->data.scalar.length)
        return LCL_FAIL(LCL_CONFIG, "%s: no key is called \"%.80s\"", at_line(r, line),
                        scalar_text(key_event));
    yaml_event_t value;
    LCL_TRY(next_event(r, &value));
    lcl_status status;
    bool top = !*prefix && r->stage == ALL_STAGES;
    if (top && !strcmp(name, "base"))
        status = read_base(r, &value, line);
    else if (top && !strcmp(name, "stages"))
        status = read_stages(r, &value);
    else if (!*prefix && r->stage != ALL_STAGES && !strcmp(name, "name") &&
             value.type == YAML_SCALAR_EVENT)
        status = r->layer->lists_stages
                     ? set_stage_name(r, scalar_text(&value), line)
                     : LCL_FAIL(LCL_CONFIG, "%s: this stage is named by its key", at_line(r, line));
    else
        status = read_value(r, name, &value, line, depth);
    yaml_event_delete(&value);
    return status;
}

/* The pairs of a map, whose start was just read. */
static lcl_status read_map(struct reader *r, const char *prefix, int depth)
{
    for (;;) {
        yaml_event_t e;
        LCL_TRY(next_event(r, &e));
        bool end = e.type == YAML_MAPPING_END_EVENT;
        lcl_status status = end ? LCL_OK : read_pair(r, prefix, &e, depth);
        yaml_event_delete(&e);
        if (status != LCL_OK || end) return status;
        if (depth > MAX_DEPTH)
            return LCL_FAIL(LCL_CONFIG, "%s: maps are nested more than %d deep", r->path,
                            MAX_DEPTH);
    }
}

/* Reads the map of one stage, whose start is `e` (name NULL: it is a key of the map). */
static lcl_status read_stage(struct reader *r, const yaml_event_t *e, const char *name)
{
    struct layer *l = r->layer;
    int line = (int)e->start_mark.line + 1;
    if (l->n_stages == LCL_CONFIG_MAX_STAGES)
        return LCL_FAIL(LCL_RANGE, "%s: more than %d stages", at_line(r, line),
                        LCL_CONFIG_MAX_STAGES);
    if (e->type != YAML_MAPPING_START_EVENT)
        return LCL_FAIL(LCL_CONFIG, "%s: a stage is a map with a name and overrides",
                        at_line(r, line));
    int outer[MAX_KEYS];
    memcpy(outer, r->seen_line, sizeof outer);
    memset(r->seen_line, 0, sizeof r->seen_line);
    r->stage = l->n_stages++;
    l->stages[r->stage] = (struct stage){.line = line};
    lcl_status status = name ? set_stage_name(r, name, line) : LCL_OK;
    if (status == LCL_OK) status = read_map(r, "", 1);
    if (status == LCL_OK && !l->stages[r->stage].name[0])
        status = LCL_FAIL(LCL_CONFIG, "%s: this stage has no name", at_line(r, line));
    r->stage = ALL_STAGES;
    memcpy(r->seen_line, outer, sizeof outer);
    return status;
}

/* One item of `stages:`; `e` is its first event: a map, or in the map form the stage's name. */
static lcl_status read_stage_item(struct reader *r, const yaml_event_t *e)
{
    if (r->layer->lists_stages) return read_stage(r, e, NULL);
    if (e->type != YAML_SCALAR_EVENT || strlen(scalar_text(e)) != e->data.scalar.length)
        return LCL_FAIL(LCL_CONFIG, "%s: the name of a stage must stand here", at_event(r, e));
    yaml_event_t value;
    LCL_TRY(next_event(r, &value));
    lcl_status status = read_stage(r, &value, scalar_text(e));
    yaml_event_delete(&value);
    return status;
}

static lcl_status read_stages(struct reader *r, const yaml_event_t *start)
{
    struct layer *l = r->layer;
    int line = (int)start->start_mark.line + 1;
    if (l->n_stages) return LCL_FAIL(LCL_CONFIG, "%s: stages is given twice", at_line(r, line));
    if (start->type != YAML_SEQUENCE_START_EVENT && start->type != YAML_MAPPING_START_EVENT)
        return LCL_FAIL(LCL_CONFIG, "%s: stages is a list of maps with names", at_line(r, line));
    l->lists_stages = start->type == YAML_SEQUENCE_START_EVENT;
    for (;;) {
        yaml_event_t e;
        LCL_TRY(next_event(r, &e));
        bool end = e.type == YAML_SEQUENCE_END_EVENT || e.type == YAML_MAPPING_END_EVENT;
        lcl_status status = end ? LCL_OK : read_stage_item(r, &e);
        yaml_event_delete(&e);
        if (status != LCL_OK) return status;
        if (end) break;
    }
    if (!l->n_stages) return LCL_FAIL(LCL_CONFIG, "%s: stages is empty", at_line(r, line));
    return LCL_OK;
}

/* Wants one event of a type; says `what` else. */
static lcl_status expect(struct reader *r, yaml_event_type_t type, const char *what)
{
    yaml_event_t e;
    LCL_TRY(next_event(r, &e));
    lcl_status status = LCL_OK;
    if (e.type != type) status = LCL_FAIL(LCL_CONFIG, "%s: %s", at_event(r, &e), what);
    yaml_event_delete(&e);
    return status;
}

static lcl_status read_document(struct reader *r)
{
    LCL_TRY(expect(r, YAML_STREAM_START_EVENT, "not YAML"));
    LCL_TRY(expect(r, YAML_DOCUMENT_START_EVENT, "the file is empty: a config is a map of keys"));
    LCL_TRY(expect(r, YAML_MAPPING_START_EVENT, "a config is a map of keys (`key: value`)"));
    LCL_TRY(read_map(r, "", 1));
    LCL_TRY(expect(r, YAML_DOCUMENT_END_EVENT, "something follows the config"));
    return expect(r, YAML_STREAM_END_EVENT, "a file holds one config, not several documents");
}

static lcl_status parse_file(const char *path, struct layer *layer)
{
    struct reader *r = calloc(1, sizeof *r);
    char *data = NULL;
    size_t size = 0;
    lcl_status status = LCL_OK;
    bool parser = false;
    if (!r) return LCL_FAIL(LCL_MEMORY, "no memory to read %s", path);
    r->path = path;
    r->layer = layer;
    r->stage = ALL_STAGES;
    LCL_TRY_GOTO(lcl_fs_read(path, MAX_FILE_BYTES, &data, &size));
    parser = yaml_parser_initialize(&r->parser);
    if (!parser) {
        status = LCL_FAIL(LCL_MEMORY, "no memory to read %s", path);
        goto out;
    }
    yaml_parser_set_input_string(&r->parser, (const unsigned char *)data, size);
    status = read_document(r);
out:
    if (parser) yaml_parser_delete(&r->parser);
    free(data);
    free(r);
    return status;
}

/* Files being read, innermost last: a chain that comes back to one of them is a cycle. */
struct chain {
    int n;
    dev_t device[MAX_DEPTH];
    ino_t inode[MAX_DEPTH];
};

static lcl_status chain_push(struct chain *c, const char *path)
{
    struct stat st;
    if (stat(path, &st) != 0)
        return LCL_FAIL_HINT(errno == ENOENT ? LCL_NOT_FOUND : LCL_IO,
                             "configs that come with lcl are in configs/", "config %s: %s", path,
                             strerror(errno));
    if (!S_ISREG(st.st_mode)) return LCL_FAIL(LCL_IO, "config %s is not a file", path);
    for (int i = 0; i < c->n; i++)
        if (c->device[i] == st.st_dev && c->inode[i] == st.st_ino)
            return LCL_FAIL(LCL_CONFIG, "base: %s is its own base", path);
    if (c->n == MAX_DEPTH)
        return LCL_FAIL(LCL_CONFIG, "base: %s is more than %d files deep", path, MAX_DEPTH);
    c->device[c->n] = st.st_dev;
    c->inode[c->n++] = st.st_ino;
    return LCL_OK;
}

static lcl_status merge_named_stages(struct layer *to, const struct layer *from, const char *path)
{
    for (int i = 0; i < from->n_stages; i++) {
        const struct stage *s = &from->stages[i];
        const char *names[LCL_CONFIG_MAX_STAGES];
        int found = -1;
        for (int j = 0; j < to->n_stages; j++) {
            names[j] = to->stages[j].name;
            if (!strcmp(s->name, names[j])) found = j;
        }
        if (found < 0) {
            const char *near = lcl_nearest_word(s->name, names, to->n_stages);
            char hint[128] = "new stages are written as a list: `- name: ...`";
            if (near) snprintf(hint, sizeof hint, "did you mean %s?", near);
            return LCL_FAIL_HINT(LCL_CONFIG, hint, "%s:%d: the base has no stage %s", path, s->line,
                                 s->name);
        }
        LCL_TRY(settings_append(&to->stages[found].own, &s->own));
    }
    return LCL_OK;
}

/* Lays a derived file over its base; takes the stages out of `from` where it lists them. */
static lcl_status merge(struct layer *to, struct layer *from, const char *path)
{
    LCL_TRY(settings_append(&to->common, &from->common));
    if (!from->lists_stages) return merge_named_stages(to, from, path);
    for (int i = 0; i < to->n_stages; i++) settings_free(&to->stages[i].own);
    memcpy(to->stages, from->stages, sizeof to->stages);
    to->n_stages = from->n_stages;
    from->n_stages = 0;
    return LCL_OK;
}

static lcl_status load_layer(const char *path, struct chain *chain, struct layer *out)
{
    lcl_status status = LCL_OK;
    struct layer *own = NULL;
    LCL_TRY(chain_push(chain, path));
    own = calloc(1, sizeof *own);
    if (!own) return LCL_FAIL(LCL_MEMORY, "no memory to read %s", path);
    LCL_TRY_GOTO(parse_file(path, own));
    if (own->base[0]) {
        char base[PATH_BYTES];
        const char *slash = own->base[0] == '/' ? NULL : strrchr(path, '/');
        int n = snprintf(base, sizeof base, "%.*s%s", slash ? (int)(slash - path + 1) : 0, path,
                         own->base);
        if (n >= (int)sizeof base) {
            status =
                LCL_FAIL(LCL_CONFIG, "%s:%d: the path of base is too long", path, own->base_line);
            goto out;
        }
        status = load_layer(base, chain, out);
        if (status != LCL_OK) {
            status = lcl_fail_context(status, "%s:%d", path, own->base_line);
            goto out;
        }
    }
    status = merge(out, own, path);
out:
    layer_free(own);
    return status;
}

static lcl_status find_stage(const struct lcl_run_config *c, const char *name, int *index)
{
    const char *names[LCL_CONFIG_MAX_STAGES];
    char hint[128] = "the file has no stages: leave NAME: out";
    for (int i = 0; i < c->n_stages; i++) {
        names[i] = c->stages[i].stage_name;
        if (!strcmp(names[i], name)) {
            *index = i;
            return LCL_OK;
        }
    }
    const char *near = lcl_nearest_word(name, names, c->n_stages);
    if (c->stages[0].stage_name[0])
        snprintf(hint, sizeof hint, "did you mean %s?", near ? near : names[0]);
    return LCL_FAIL_HINT(LCL_CONFIG, hint, "--set: %s has no stage \"%s\"", c->path, name);
}

/* "key=value" or "STAGE:key=value". */
static lcl_status apply_override(struct lcl_run_config *c, const char *text)
{
    const char *equals = strchr(text, '=');
    if (!equals || equals == text)
        return LCL_FAIL_HINT(LCL_CONFIG, "for example --set learning_rate=1e-4",
                             "--set: \"%.200s\" is not of the form key=value", text);
    char name[KEY_BYTES];
    if ((size_t)(equals - text) >= sizeof name)
        return LCL_FAIL(LCL_CONFIG, "--set: the key in \"%.100s...\" is too long", text);
    memcpy(name, text, (size_t)(equals - text));
    name[equals - text] = 0;
    int first = 0, last = c->n_stages - 1;
    char *key = strchr(name, ':');
    if (key) {
        *key++ = 0;
        LCL_TRY(find_stage(c, name, &first));
        last = first;
    } else {
        key = name;
    }
    for (int i = first; i <= last; i++)
        LCL_TRY(lcl_config_set(&c->stages[i], key, equals + 1, "--set"));
    return LCL_OK;
}

static lcl_status resolve(const struct layer *layer, const char *const *overrides, int n,
                          struct lcl_run_config *out)
{
    out->n_stages = layer->n_stages ? layer->n_stages : 1;
    for (int i = 0; i < out->n_stages; i++) {
        struct lcl_config *c = &out->stages[i];
        lcl_config_defaults(c);
        LCL_TRY(settings_apply(c, &layer->common));
        if (!layer->n_stages) continue;
        memcpy(c->stage_name, layer->stages[i].name, sizeof c->stage_name);
        LCL_TRY(settings_apply(c, &layer->stages[i].own));
    }
    for (int i = 0; i < n; i++) LCL_TRY(apply_override(out, overrides[i]));
    for (int i = 0; i < out->n_stages; i++) {
        lcl_status status = lcl_config_check(&out->stages[i]);
        if (status == LCL_OK) continue;
        const char *name = out->stages[i].stage_name;
        return name[0] ? lcl_fail_context(status, "%s: stage %s", out->path, name)
                       : lcl_fail_context(status, "%s", out->path);
    }
    return LCL_OK;
}

lcl_status lcl_config_load(const char *path, const char *const *overrides, int n,
                           struct lcl_run_config *out)
{
    struct chain chain = {0};
    if (strlen(path) >= sizeof out->path)
        return LCL_FAIL(LCL_CONFIG, "the path of the config has %zu bytes, at most %zu",
                        strlen(path), sizeof out->path - 1);
    struct layer *layer = calloc(1, sizeof *layer);
    if (!layer) return LCL_FAIL(LCL_MEMORY, "no memory to read %s", path);
    memset(out, 0, sizeof *out);
    snprintf(out->path, sizeof out->path, "%s", path);
    lcl_status status = load_layer(path, &chain, layer);
    if (status == LCL_OK) status = resolve(layer, overrides, n, out);
    layer_free(layer);
    return status;
}
