/* What any-shot conversations draw from: classes, values of attributes, rows. */
#include "data/any_shot.h"

#include <fnmatch.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "data/any_shot_internal.h"

/* ---- classes and values ---- */

static int find_value(const struct lcl_any_pool *p, const char *label)
{
    for (int32_t i = 0; i < p->n; i++)
        if (strcmp(p->value[i].label, label) == 0) return i;
    return -1;
}

static lcl_status pool_classes(const struct lcl_any_shot *s, struct lcl_any_pool *p)
{
    size_t n = (size_t)s->pack->n_classes;
    p->value = calloc(n + 1, sizeof *p->value);
    p->of_class_id = malloc((n + 1) * sizeof *p->of_class_id);
    if (!p->value || !p->of_class_id) return LCL_FAIL(LCL_MEMORY, "no memory for %zu classes", n);
    for (int32_t i = 0; i < s->pack->n_classes; i++) {
        const struct lcl_class *c = &s->pack->classes[i];
        struct any_value *v = &p->value[p->n];
        p->of_class_id[i] = -1;
        if (c->split != s->split || c->n_images < 2) continue;
        *v = (struct any_value){.images = c->images, .n_images = c->n_images, .class_id = i};
        lcl_label_of_name(c->name, v->label);
        p->of_class_id[i] = p->n++;
    }
    return LCL_OK;
}

/* The value of a picture, or -1. */
static int value_of(const struct lcl_any_attribute *a, const struct lcl_any_pool *p,
                    const char *name)
{
    for (int i = 0; i < a->n_patterns; i++)
        if (fnmatch(a->pattern[i], name, 0) == 0) return find_value(p, a->value[i]);
    return -1;
}

/* Pictures of the split by value: counted, then listed value by value. */
static lcl_status list_pictures(const struct lcl_any_shot *s, const struct lcl_any_attribute *a,
                                struct lcl_any_pool *p, int32_t *value)
{
    int64_t n = s->pack->n_images, at = 0;
    for (int64_t i = 0; i < n; i++) {
        const char *name;
        value[i] = -1;
        if (s->pack->classes[s->pack->image_class[i]].split != s->split) continue;
        LCL_TRY(lcl_pack_image_name(s->pack, i, &name));
        value[i] = value_of(a, p, name);
        if (value[i] >= 0) p->value[value[i]].n_images++;
    }
    for (int32_t v = 0; v < p->n; v++) {
        p->value[v].images = p->images + at;
        at += p->value[v].n_images;
        p->value[v].n_images = 0;
    }
    for (int64_t i = 0; i < n; i++) {
        if (value[i] < 0) continue;
        struct any_value *v = &p->value[value[i]];
        p->images[v->images - p->images + v->n_images++] = (int32_t)i;
    }
    return LCL_OK;
}

static lcl_status pool_attribute(const struct lcl_any_shot *s, const struct lcl_any_attribute *a,
                                 struct lcl_any_pool *p)
{
    size_t n = (size_t)s->pack->n_images;
    int32_t *value = malloc((n + 1) * sizeof *value), kept = 0;
    p->value = calloc((size_t)a->n_patterns, sizeof *p->value);
    p->images = malloc((n + 1) * sizeof *p->images);
    lcl_status status = LCL_OK;
    if (!value || !p->value || !p->images) {
        status = LCL_FAIL(LCL_MEMORY, "no memory for the attribute %s", a->name);
        goto out;
    }
    for (int i = 0; i < a->n_patterns; i++) {
        if (find_value(p, a->value[i]) >= 0) continue;
        p->value[p->n].class_id = -1;
        strcpy(p->value[p->n++].label, a->value[i]);
    }
    LCL_TRY_GOTO(list_pictures(s, a, p, value));
    for (int32_t v = 0; v < p->n; v++)
        if (p->value[v].n_images >= 2) p->value[kept++] = p->value[v];
    p->n = kept;
    if (p->n < 2)
        status = LCL_FAIL_HINT(
            LCL_CONFIG, "patterns are of names below the picture folder: drakes/*, *-attack*",
            "data.task_file: the attribute %s has %d values of two or more pictures in the %s "
            "split; wanted two or more",
            a->name, (int)p->n, s->split == LCL_SPLIT_TRAIN ? "train" : "test");
out:
    free(value);
    return status;
}

static lcl_status open_pools(struct lcl_any_shot *s, unsigned tasks)
{
    s->n_pools = 1 + (tasks & 1U << LCL_TURN_ATTRIBUTES ? s->tasks.n_attributes : 0);
    s->pool = calloc((size_t)s->n_pools, sizeof *s->pool);
    if (!s->pool) return LCL_FAIL(LCL_MEMORY, "no memory for classes");
    LCL_TRY(pool_classes(s, &s->pool[0]));
    for (int i = 1; i < s->n_pools; i++)
        LCL_TRY(pool_attribute(s, &s->tasks.attribute[i - 1], &s->pool[i]));
    return LCL_OK;
}

/* ---- what is there for each task ---- */

static lcl_status check_tasks(const struct lcl_any_shot *s, unsigned tasks)
{
    bool classes = tasks & (1U << LCL_TURN_CLASSES | 1U << LCL_TURN_FINE);
    const char *split = s->split == LCL_SPLIT_TRAIN ? "train" : "test";
    if (classes && s->pool[0].n < s->config->data_ways)
        return LCL_FAIL_HINT(LCL_CONFIG, "lower data.ways, or pack more classes",
                             "the %s split has %d classes of two or more pictures; data.ways is "
                             "%lld",
                             split, (int)s->pool[0].n, (long long)s->config->data_ways);
    if (tasks & 1U << LCL_TURN_FINE && !s->neighbors)
        return LCL_FAIL_HINT(LCL_CONFIG, "make one with lcl neighbors",
                             "task fine needs a neighbor table, and there is none");
    if (tasks & 1U << LCL_TURN_FINE && s->neighbors->n_classes != s->pack->n_classes)
        return LCL_FAIL(LCL_CONFIG, "the neighbor table is of %d classes, the pack of %d",
                        (int)s->neighbors->n_classes, (int)s->pack->n_classes);
    if (tasks & 1U << LCL_TURN_ATTRIBUTES && s->n_pools < 2)
        return LCL_FAIL_HINT(LCL_CONFIG, "name a file with \"attributes\" (docs/formats.md)",
                             "task attributes needs data.task_file");
    if (tasks & 1U << LCL_TURN_ROWS && s->n_sources == 0)
        return LCL_FAIL_HINT(LCL_CONFIG, "for example episodes=0.7, vqa.h5=0.3",
                             "task rows needs packs of rows in data.sources");
    return LCL_OK;
}

static lcl_status open_rows(struct lcl_any_shot *s, const struct lcl_any_rows *rows, int n)
{
    if (n > LCL_MOST_TURNS) return LCL_FAIL(LCL_RANGE, "%d packs of rows", n);
    s->source = calloc((size_t)n + 1, sizeof *s->source);
    if (!s->source) return LCL_FAIL(LCL_MEMORY, "no memory for %d packs", n);
    for (int i = 0; i < n; i++) {
        s->source[s->n_sources].rows = rows[i];
        LCL_TRY(any_group_rows(&s->source[s->n_sources++]));
    }
    return LCL_OK;
}

lcl_status lcl_any_shot_open(struct lcl_any_shot *s, const struct lcl_config *c,
                             const struct lcl_pack *pack, const struct lcl_neighbors *neighbors,
                             const struct lcl_any_rows *rows, int n_rows, enum lcl_split split,
                             unsigned tasks)
{
    *s = (struct lcl_any_shot){.config = c, .pack = pack, .neighbors = neighbors, .split = split};
    bool asked = tasks != 0;
    lcl_status status;
    LCL_TRY_GOTO(lcl_any_tasks_weights(c, s->weight));
    LCL_TRY_GOTO(lcl_any_tasks_formats(c, s->format));
    LCL_TRY_GOTO(lcl_any_tasks_load(c->data_task_file, &s->tasks));
    for (int i = 0; i < LCL_TURN_TASKS && !asked; i++) tasks |= s->weight[i] > 0 ? 1U << i : 0;
    LCL_TRY_GOTO(open_pools(s, tasks));
    if (tasks & 1U << LCL_TURN_ROWS) LCL_TRY_GOTO(open_rows(s, rows, n_rows));
    status = check_tasks(s, tasks);
out:
    if (status != LCL_OK) lcl_any_shot_close(s);
    return status;
}

void lcl_any_shot_close(struct lcl_any_shot *s)
{
    for (int i = 0; s->pool && i < s->n_pools; i++) {
        free(s->pool[i].value);
        free(s->pool[i].images);
        free(s->pool[i].of_class_id);
    }
    for (int i = 0; i < s->n_sources; i++) any_free_source(&s->source[i]);
    free(s->pool);
    free(s->source);
    lcl_any_tasks_free(&s->tasks);
    *s = (struct lcl_any_shot){0};
}

lcl_status lcl_any_shot_check_eval(const struct lcl_config *c, const struct lcl_pack *pack,
                                   const struct lcl_neighbors *neighbors)
{
    struct lcl_any_shot s;
    if (c->eval_steps == 0 || c->eval_task == LCL_TURN_ROWS) return LCL_OK;
    LCL_TRY(lcl_any_shot_open(&s, c, pack, neighbors, NULL, 0, (enum lcl_split)c->eval_split,
                              1U << c->eval_task));
    lcl_any_shot_close(&s);
    return LCL_OK;
}

/* ---- for people ---- */

static json_t *turn_json(const struct lcl_any_shot *s, const struct lcl_turn *turn)
{
    json_t *out = json_pack("{s:s}", "task", lcl_turn_task_names[turn->task]);
    if (turn->attribute >= 0)
        json_object_set_new(out, "attribute",
                            json_string(s->tasks.attribute[turn->attribute].name));
    if (turn->class_id >= 0)
        json_object_set_new(out, "class", json_string(s->pack->classes[turn->class_id].id));
    if (turn->way >= 0) {
        json_object_set_new(out, "way", json_integer(turn->way));
        json_object_set_new(out, "label", json_string(turn->label));
        json_object_set_new(out, "image", json_integer(turn->image));
    }
    if (turn->source >= 0) {
        json_object_set_new(out, "pack", json_string(s->source[turn->source].rows.pack->path));
        json_object_set_new(out, "row", json_integer(turn->row));
    }
    return out;
}

lcl_status lcl_any_turns_json(const struct lcl_any_shot *s, const struct lcl_any_turns *t,
                              const struct lcl_conversation_rules *rules, char **line)
{
    static const char *const roles[] = {
        [LCL_ROLE_SYSTEM] = "system", [LCL_ROLE_USER] = "user", [LCL_ROLE_ASSISTANT] = "assistant"};
    char *text;
    *line = NULL;
    LCL_TRY(lcl_conversation_text(&t->conversation, rules, &text));
    json_t *turns = json_array(), *messages = json_array();
    for (int i = 0; i < t->n; i++) json_array_append_new(turns, turn_json(s, &t->turn[i]));
    for (int i = 0; i < t->conversation.n_messages; i++) {
        const struct lcl_message *m = &t->conversation.messages[i];
        json_array_append_new(messages,
                              json_pack("{s:s, s:s, s:b}", "role", roles[m->role], "content",
                                        m->text, "supervised", (int)t->conversation.learned[i]));
    }
    json_t *out = json_pack("{s:I, s:o, s:o, s:b, s:s, s:s}", "sample", (json_int_t)t->sample,
                            "turns", turns, "messages", messages, "made_up", (int)t->made_up,
                            "format", lcl_answer_format_names[t->format], "text", text);
    free(text);
    if (out) *line = json_dumps(out, JSON_COMPACT);
    json_decref(out);
    return *line ? LCL_OK : LCL_FAIL(LCL_MEMORY, "no memory to print a conversation");
}
