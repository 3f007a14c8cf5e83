#include "tools/inspect_rows.h"

#include <stdio.h>
#include <stdlib.h>

#include "core/fs.h"
#include "data/pack_rows.h"
#include "data/policy.h"

/* Chat formats that follow the tokenizer's tokens need one; vicuna else. */
static struct lcl_conversation_rules rules_of(const struct lcl_config *c)
{
    enum lcl_chat chat = (enum lcl_chat)c->chat_template;
    return (struct lcl_conversation_rules){.chat = chat == LCL_CHAT_AUTO ? LCL_CHAT_VICUNA : chat,
                                           .system = c->chat_system};
}

static json_t *picture_names(struct lcl_pack *pack, const struct lcl_conversation *c)
{
    json_t *names = json_array();
    for (int64_t i = 0; i < c->n_images; i++) {
        const char *name;
        if (lcl_pack_image_name(pack, c->image[i], &name) == LCL_OK)
            json_array_append_new(names, json_string(name));
    }
    return names;
}

static void print_text(struct lcl_pack *pack, int64_t row, const struct lcl_conversation *c,
                       const json_t *stored, char *text)
{
    const json_t *boxes = json_object_get(stored, "boxes");
    char *list = boxes ? json_dumps(boxes, JSON_COMPACT | JSON_REAL_PRECISION(3)) : NULL;
    printf("row %lld, line %lld of its table", (long long)row,
           (long long)json_integer_value(json_object_get(stored, "line")));
    for (int64_t i = 0; i < c->n_images; i++) {
        const char *name;
        if (lcl_pack_image_name(pack, c->image[i], &name) == LCL_OK)
            printf("%s %s", i ? "," : "; pictures:", name);
    }
    if (list) printf("; boxes: %s", list);
    printf("\n%s\n\n", lcl_printable(text));
    free(list);
}

static lcl_status print_json(struct lcl_pack *pack, int64_t row, int64_t sample,
                             const struct lcl_conversation *c, json_t *stored, const char *text)
{
    json_t *out =
        json_pack("{s:s, s:I, s:s, s:o, s:O, s:O}", "pack", pack->path, "row", (json_int_t)row,
                  "text", text, "pictures", picture_names(pack, c), "messages",
                  json_object_get(stored, "messages"), "line", json_object_get(stored, "line"));
    if (!out) return LCL_FAIL(LCL_MEMORY, "no memory to print a row");
    if (json_object_get(stored, "boxes"))
        json_object_set(out, "boxes", json_object_get(stored, "boxes"));
    if (sample >= 0) json_object_set_new(out, "sample", json_integer(sample));
    int failed = json_dumpf(out, stdout, JSON_COMPACT);
    json_decref(out);
    putchar('\n');
    return failed ? LCL_FAIL(LCL_IO, "cannot write to standard output") : LCL_OK;
}

static lcl_status add_to_page(struct inspect_page *page, struct lcl_pack *pack, int64_t row,
                              int64_t sample, const struct lcl_conversation *c, const char *text)
{
    const struct inspect_sample s = {
        .heading = sample < 0 ? lcl_strdupf("row %lld", (long long)row)
                              : lcl_strdupf("sample %lld: %s, row %lld", (long long)sample,
                                            pack->path, (long long)row),
        .text = text,
        .pack = pack,
        .image = c->image,
        .view = c->view,
        .n_images = c->n_images,
        .boxes = pack->rows_of_boxes};
    lcl_status status =
        s.heading ? inspect_page_add(page, &s) : LCL_FAIL(LCL_MEMORY, "no memory for a page");
    free((char *)(uintptr_t)s.heading);
    return status;
}

/* What rows become: lines, and a page. */
struct output {
    struct lcl_conversation_rules rules;
    bool json;
    struct inspect_page page;
};

/* sample -1: none. */
static lcl_status print_row(struct output *o, struct lcl_pack *pack, int64_t row, int64_t sample)
{
    struct lcl_conversation c;
    json_t *stored;
    char *text;
    LCL_TRY(lcl_pack_conversation(pack, row, 0, &c, &stored));
    lcl_status status = lcl_conversation_text(&c, &o->rules, &text);
    if (status == LCL_OK) status = add_to_page(&o->page, pack, row, sample, &c, text);
    if (status == LCL_OK && o->json) status = print_json(pack, row, sample, &c, stored, text);
    if (status == LCL_OK && !o->json) {
        if (sample >= 0) printf("sample %lld: %s, ", (long long)sample, pack->path);
        print_text(pack, row, &c, stored, text);
    }
    free(text);
    lcl_pack_conversation_free(&c, stored);
    return status;
}

lcl_status inspect_row_on_page(struct inspect_page *page,
                               const struct lcl_conversation_rules *rules, struct lcl_pack *pack,
                               int64_t row, int64_t sample)
{
    struct lcl_conversation c;
    json_t *stored;
    char *text;
    LCL_TRY(lcl_pack_conversation(pack, row, 0, &c, &stored));
    lcl_status status = lcl_conversation_text(&c, rules, &text);
    if (status == LCL_OK) status = add_to_page(page, pack, row, sample, &c, text);
    free(text);
    lcl_pack_conversation_free(&c, stored);
    return status;
}

lcl_status inspect_rows(const char *path, const struct lcl_config *c, int64_t n, bool json,
                        const char *sheet)
{
    struct lcl_pack pack;
    struct output o = {.rules = rules_of(c), .json = json};
    LCL_TRY(lcl_pack_open(path, &pack));
    lcl_status status = LCL_OK;
    if (pack.n_rows == 0)
        status =
            LCL_FAIL_HINT(LCL_CONFIG, "lcl pack --format llava, messages, ... makes such packs",
                          "%s holds no rows", path);
    if (status == LCL_OK) status = inspect_page_open(&o.page, sheet, path, c, pack.rows_of_boxes);
    for (int64_t i = 0; i < n && i < pack.n_rows && status == LCL_OK; i++)
        status = print_row(&o, &pack, i, -1);
    if (status == LCL_OK) status = inspect_page_save(&o.page);
    inspect_page_free(&o.page);
    lcl_pack_close(&pack);
    return status;
}

const char *inspect_strategy(const struct lcl_config *c, const struct lcl_mixture *m,
                             uint64_t sample)
{
    int named = lcl_mixture_strategy(m, sample), own = c->data_strategy;
    if (own == LCL_MIX) own = LCL_2WAY;
    return lcl_strategy_name((enum lcl_strategy)(named >= 0 ? named : own));
}

static void print_episode(const struct lcl_config *c, const struct lcl_mixture *m, int64_t sample,
                          bool json)
{
    const char *word = inspect_strategy(c, m, (uint64_t)sample);
    if (json)
        printf("{\"sample\":%lld,\"episode\":true,\"strategy\":\"%s\"}\n", (long long)sample, word);
    else
        printf("sample %lld: an episode, %s\n\n", (long long)sample, word);
}

lcl_status inspect_mixture(const struct lcl_config *c, uint32_t epoch, int64_t n, bool json,
                           const char *sheet)
{
    struct lcl_row_sources s;
    struct lcl_mixture m = {0};
    struct output o = {.rules = rules_of(c), .json = json};
    LCL_TRY(lcl_row_sources_open(&s, c, 0));
    lcl_status status =
        s.n ? lcl_mixture_open(&m, c, &s, epoch)
            : LCL_FAIL_HINT(LCL_CONFIG, "--episodes N prints episodes", "data.sources is not set");
    if (status == LCL_OK) status = inspect_page_open(&o.page, sheet, c->output_dir, c, false);
    for (int64_t i = 0; i < n && status == LCL_OK; i++) {
        int source;
        int64_t row;
        lcl_mixture_draw(&m, (uint64_t)i, &source, &row);
        if (source >= 0)
            status = print_row(&o, &s.source[source].pack, row, i);
        else
            print_episode(c, &m, i, json);
    }
    if (status == LCL_OK) status = inspect_page_save(&o.page);
    inspect_page_free(&o.page);
    lcl_mixture_close(&m);
    lcl_row_sources_close(&s);
    return status;
}
