/* Rows of public data sets, a function each: which keys they have and what turns they become. */
#include <stdio.h>
#include <string.h>

#include "data/row_write.h"

/* ---- conversations ---- */

/* The pictures of "image" (a path or a list) or "images" (a list of paths or {"path":}). */
static lcl_status add_pictures(struct row *r)
{
    const char *key;
    const json_t *v = row_either(r->in, "image", "images", &key);
    if (!v || json_is_null(v)) return LCL_OK;
    if (json_is_string(v)) return row_picture(r, key, json_string_value(v));
    if (!json_is_array(v)) return row_wrong(r, key, "a path or a list of paths", v);
    for (size_t i = 0; i < json_array_size(v); i++) {
        const json_t *one = json_array_get(v, i);
        const json_t *path = json_is_object(one) ? json_object_get(one, "path") : one;
        if (!json_is_string(path)) return row_wrong(r, key, "a list of paths", v);
        LCL_TRY(row_picture(r, key, json_string_value(path)));
    }
    return LCL_OK;
}

static const char *role_of(const char *from)
{
    static const char *const known[][2] = {{"human", "user"},
                                           {"user", "user"},
                                           {"gpt", "assistant"},
                                           {"assistant", "assistant"},
                                           {"system", "system"}};
    for (size_t i = 0; from && i < sizeof known / sizeof *known; i++)
        if (strcmp(from, known[i][0]) == 0) return known[i][1];
    return NULL;
}

static lcl_status llava(void *row)
{
    struct row *r = row;
    const json_t *turns;
    LCL_TRY(add_pictures(r));
    LCL_TRY(row_list(r, r->in, "conversations", 1, &turns));
    for (size_t i = 0; i < json_array_size(turns); i++) {
        const json_t *turn = json_array_get(turns, i), *from = json_object_get(turn, "from");
        const char *role = role_of(json_string_value(from)), *text;
        if (!role) return row_wrong(r, "from", "human, gpt or system", from);
        LCL_TRY(row_text(r, turn, "value", &text));
        LCL_TRY(row_say(r, role, text, true));
    }
    return LCL_OK;
}

/* The path of a part {"type": "image", "image": or "path":} or {"type": "image_url", "image_url":
 * {"url":}}. */
static lcl_status part_picture(struct row *r, const json_t *part)
{
    const char *key;
    const json_t *v = row_either(part, "image_url", "image", &key);
    if (!v) v = row_either(part, "path", "url", &key);
    if (json_is_object(v)) v = row_either(v, "url", "path", &key);
    const char *name = json_string_value(v);
    if (name && strncmp(name, "file://", 7) == 0) name += 7;
    if (!name || strstr(name, "://") || strncmp(name, "data:", 5) == 0)
        return row_wrong(r, key, "a path of a file", v);
    return row_picture(r, key, name);
}

static lcl_status part_text(struct row *r, const json_t *part, const char **text)
{
    const json_t *type = json_object_get(part, "type");
    const char *kind = json_string_value(type);
    if (kind && (strcmp(kind, "image") == 0 || strcmp(kind, "image_url") == 0)) {
        *text = "<image>";
        return part_picture(r, part);
    }
    if (!kind || strcmp(kind, "text") != 0)
        return row_wrong(r, "type", "text, image or image_url", type);
    return row_text(r, part, "text", text);
}

static lcl_status content_text(struct row *r, const json_t *message, const char **text)
{
    const json_t *content = json_object_get(message, "content");
    if (!json_is_array(content)) return row_text(r, message, "content", text);
    char *all = NULL;
    size_t size = 0;
    FILE *f = open_memstream(&all, &size);
    lcl_status status = f ? LCL_OK : LCL_FAIL(LCL_MEMORY, "no memory for a row");
    for (size_t i = 0; i < json_array_size(content) && status == LCL_OK; i++) {
        const char *part;
        status = part_text(r, json_array_get(content, i), &part);
        if (status == LCL_OK) fputs(part, f);
    }
    if (f) fclose(f);
    *text = row_keep(r, all, size);
    return status;
}

static lcl_status messages(void *row)
{
    struct row *r = row;
    const json_t *list;
    LCL_TRY(add_pictures(r));
    LCL_TRY(row_list(r, r->in, "messages", 1, &list));
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *m = json_array_get(list, i), *as = json_object_get(m, "role");
        const json_t *weight = json_object_get(m, "weight");
        const char *role = role_of(json_string_value(as)), *text;
        if (!role) return row_wrong(r, "role", "system, user or assistant", as);
        if (weight && !json_is_number(weight)) return row_wrong(r, "weight", "0 or 1", weight);
        LCL_TRY(content_text(r, m, &text));
        LCL_TRY(row_say(r, role, text, !weight || json_number_value(weight) > 0));
    }
    return LCL_OK;
}

static lcl_status text(void *row)
{
    struct row *r = row;
    const char *words;
    LCL_TRY(row_text(r, r->in, "text", &words));
    return row_say(r, "assistant", words, true);
}

/* ---- captions and questions ---- */

static lcl_status caption(void *row)
{
    struct row *r = row;
    const char *key, *words;
    row_either(r->in, "img_path", "image", &key);
    LCL_TRY(row_picture_of(r, r->in, key));
    LCL_TRY(row_text(r, r->in, "caption", &words));
    return row_ask(r, &(struct row_fills){0}, words);
}

/* "question": the text, or {"question":, "image_id":}; "annotation": {"multiple_choice_answer":},
 * or both keys in the row itself. */
static lcl_status vqav2(void *row)
{
    struct row *r = row;
    const char *question, *answer;
    const json_t *q = json_object_get(r->in, "question"), *a = json_object_get(r->in, "annotation");
    if (!json_is_object(q)) q = r->in;
    if (!json_is_object(a)) a = r->in;
    const json_t *by = json_object_get(a, "image_id") ? a : q;
    LCL_TRY(row_picture_of(r, by, "image_id"));
    LCL_TRY(row_text(r, q, "question", &question));
    LCL_TRY(row_text(r, a, "multiple_choice_answer", &answer));
    return row_ask(r, &(struct row_fills){.question = question},
                   row_format(r, "The answer is %s.", answer));
}

/* "explanation" or "justification": a text, or a list that begins with one. */
static lcl_status explained(void *row)
{
    struct row *r = row;
    const char *key, *question, *answer;
    const json_t *v = row_either(r->in, "explanation", "justification", &key);
    const char *why = json_string_value(json_is_array(v) ? json_array_get(v, 0) : v);
    LCL_TRY(row_picture_of(r, r->in, "file_path"));
    LCL_TRY(row_text(r, r->in, "question", &question));
    LCL_TRY(row_text(r, r->in, "answer", &answer));
    if (!why || !*why) return row_wrong(r, key, "a text, or a list of texts", v);
    size_t n = strlen(why);
    const char *stop = strchr(".!?", why[n - 1]) ? "" : ".";
    return row_ask(r, &(struct row_fills){.question = question},
                   row_format(r, "%s%s So the answer is %s.", why, stop, answer));
}

static lcl_status question_about(struct row *r, const char *image, const char *asked)
{
    const char *question, *answer;
    LCL_TRY(row_picture_of(r, r->in, image));
    LCL_TRY(row_text(r, r->in, asked, &question));
    LCL_TRY(row_text(r, r->in, "answer", &answer));
    return row_ask(r, &(struct row_fills){.question = question},
                   row_format(r, "The answer is %s.", answer));
}

static lcl_status gqa(void *row) { return question_about(row, "imageId", "question"); }
static lcl_status clevr(void *row) { return question_about(row, "image_filename", "question"); }

static lcl_status pope(void *row)
{
    struct row *r = row;
    const json_t *label = json_object_get(r->in, "label");
    const char *question, *answer = json_string_value(label);
    LCL_TRY(row_picture_of(r, r->in, "image"));
    LCL_TRY(row_text(r, r->in, "text", &question));
    if (!answer || (strcmp(answer, "yes") != 0 && strcmp(answer, "no") != 0))
        return row_wrong(r, "label", "yes or no", label);
    return row_ask(r, &(struct row_fills){.question = question},
                   row_format(r, "The answer is %s .", answer));
}

/* ---- boxes and points ---- */

static lcl_status expression(struct row *r, const char **words, const char **box)
{
    LCL_TRY(row_picture_of(r, r->in, "img_path"));
    LCL_TRY(row_text(r, r->in, "expression", words));
    return row_box(r, "bbox", json_object_get(r->in, "bbox"), box);
}

static lcl_status rec(void *row)
{
    struct row *r = row;
    const char *words, *box;
    LCL_TRY(expression(r, &words, &box));
    return row_ask(r, &(struct row_fills){.expr = words}, row_format(r, "Answer: %s .", box));
}

static lcl_status reg(void *row)
{
    struct row *r = row;
    const char *words, *box;
    LCL_TRY(expression(r, &words, &box));
    return row_ask(r, &(struct row_fills){.objs = box, .boxes = box}, words);
}

/* "sentence" with <ph_st>phrase<ph_ed>; boxes_seq[k] numbers the boxes of phrase k. */
static lcl_status write_phrases(struct row *r, const char *at, const json_t *boxes,
                                const json_t *seq, FILE *f)
{
    const char *const open = "<ph_st>", *const shut = "<ph_ed>";
    size_t phrase = 0;
    for (const char *mark; (mark = strstr(at, open)); phrase++) {
        const char *end = strstr(mark, shut), *text;
        if (!end || phrase >= json_array_size(seq)) break;
        LCL_TRY(row_boxes(r, "boxes_seq", boxes, json_array_get(seq, phrase), &text));
        fprintf(f, "%.*s%.*s %s", (int)(mark - at), at, (int)(end - mark - 7), mark + 7, text);
        at = end + strlen(shut);
    }
    fputs(at, f);
    if (phrase == json_array_size(seq) && !strstr(at, open) && !strstr(at, shut)) return LCL_OK;
    return row_wrong(r, "boxes_seq", "a list of boxes for each <ph_st>phrase<ph_ed>", seq);
}

static lcl_status flickr(void *row)
{
    struct row *r = row;
    const char *sentence;
    const json_t *boxes, *seq;
    LCL_TRY(row_picture_of(r, r->in, "image_id"));
    LCL_TRY(row_text(r, r->in, "sentence", &sentence));
    LCL_TRY(row_list(r, r->in, "boxes", 1, &boxes));
    LCL_TRY(row_list(r, r->in, "boxes_seq", 1, &seq));
    if (json_array_size(seq) > 256) return row_wrong(r, "boxes_seq", "at most 256 phrases", seq);
    char *all = NULL;
    size_t size = 0;
    FILE *f = open_memstream(&all, &size);
    if (!f) return LCL_FAIL(LCL_MEMORY, "no memory for a row");
    lcl_status status = write_phrases(r, sentence, boxes, seq, f);
    fclose(f);
    const char *words = row_keep(r, all, size);
    return status == LCL_OK ? row_ask(r, &(struct row_fills){0}, words) : status;
}

/* PointQA (a question about a point, or a box) and the pointing questions of Visual7W (which of the
 * boxes in "candidates"; the answer is a box). */
static lcl_status point(void *row)
{
    struct row *r = row;
    const char *question, *where, *answer;
    const json_t *in = r->in, *candidates = json_object_get(in, "candidates");
    LCL_TRY(row_picture_of(r, in, "file_path"));
    LCL_TRY(row_text(r, in, "question", &question));
    if (candidates) {
        LCL_TRY(row_boxes(r, "candidates", candidates, NULL, &where));
        where = row_format(r, "%s Candidates: %s", question, where);
    } else {
        const json_t *at = json_object_get(in, "point");
        LCL_TRY(at ? row_point(r, "point", at, &where)
                   : row_box(r, "bbox", json_object_get(in, "bbox"), &where));
        where = row_format(r, "%s %s", question, where);
    }
    if (json_is_array(json_object_get(in, "answer")))
        LCL_TRY(row_box(r, "answer", json_object_get(in, "answer"), &answer));
    else
        LCL_TRY(row_text(r, in, "answer", &answer));
    return row_ask(r, &(struct row_fills){.question = where},
                   row_format(r, "The answer is %s .", answer));
}

/* ---- Visual commonsense reasoning ---- */

/* Words and lists of numbers of objects, as in ["Why", "is", [0], "here", "?"]. */
static lcl_status write_tokens(struct row *r, const char *key, const json_t *tokens, FILE *f)
{
    const json_t *names = json_object_get(r->in, "objects");
    const json_t *boxes = json_object_get(r->in, "boxes");
    for (size_t i = 0; i < json_array_size(tokens); i++) {
        const json_t *token = json_array_get(tokens, i);
        const char *word = json_string_value(token), *where;
        bool joined = i == 0 || (word && word[0] && strchr(".,?!';:)", word[0]));
        if (!joined) fputc(' ', f);
        if (word) {
            fputs(word, f);
            continue;
        }
        const json_t *first = json_array_get(token, 0);
        const char *name =
            json_is_integer(first) && json_integer_value(first) >= 0
                ? json_string_value(json_array_get(names, (size_t)json_integer_value(first)))
                : NULL;
        if (!name) return row_wrong(r, key, "words, and lists of numbers of objects", token);
        LCL_TRY(row_boxes(r, key, boxes, token, &where));
        fprintf(f, "%s %s", name, where);
    }
    return LCL_OK;
}

static lcl_status tokens_text(struct row *r, const char *key, const json_t *tokens,
                              const char **words)
{
    char *all = NULL;
    size_t size = 0, n = json_array_size(tokens);
    if (n == 0 || n > 512) return row_wrong(r, key, "a list of 1 to 512 words", tokens);
    FILE *f = open_memstream(&all, &size);
    if (!f) return LCL_FAIL(LCL_MEMORY, "no memory for a row");
    lcl_status status = write_tokens(r, key, tokens, f);
    fclose(f);
    *words = row_keep(r, all, size);
    return status == LCL_OK && !*words ? LCL_FAIL(LCL_MEMORY, "no memory for a row") : status;
}

/* The choice that `label` numbers. */
static lcl_status choice(struct row *r, const char *key, const char *label, const char **words)
{
    const json_t *choices, *number = json_object_get(r->in, label);
    LCL_TRY(row_list(r, r->in, key, 1, &choices));
    json_int_t k = json_integer_value(number);
    if (!json_is_integer(number) || k < 0 || (size_t)k >= json_array_size(choices))
        return row_wrong(r, label, "the number of a choice, from 0", number);
    return tokens_text(r, key, json_array_get(choices, (size_t)k), words);
}

static lcl_status vcr_parts(struct row *r, const char **q, const char **a, const char **why)
{
    LCL_TRY(row_picture_of(r, r->in, "img_fn"));
    LCL_TRY(tokens_text(r, "question", json_object_get(r->in, "question"), q));
    LCL_TRY(choice(r, "answer_choices", "answer_label", a));
    return why ? choice(r, "rationale_choices", "rationale_label", why) : LCL_OK;
}

static lcl_status vcr_q_a(void *row)
{
    struct row *r = row;
    const char *q, *a;
    LCL_TRY(vcr_parts(r, &q, &a, NULL));
    return row_ask(r, &(struct row_fills){.question = q}, a);
}

static lcl_status vcr_qa_r(void *row)
{
    struct row *r = row;
    const char *q, *a, *why;
    LCL_TRY(vcr_parts(r, &q, &a, &why));
    return row_ask(
        r, &(struct row_fills){.question = row_format(r, "%s The answer: %s Why?", q, a)}, why);
}

static lcl_status vcr_q_ar(void *row)
{
    struct row *r = row;
    const char *q, *a, *why;
    LCL_TRY(vcr_parts(r, &q, &a, &why));
    return row_ask(r, &(struct row_fills){.question = row_format(r, "%s Say why.", q)},
                   row_format(r, "%s %s", a, why));
}

/* ---- the table ---- */

static const char *const of_caption[] = {"<image>\nDescribe the picture in one sentence.",
                                         "<image>\nWhat is to be seen here? Answer briefly.",
                                         "Write a short caption for this picture.\n<image>", NULL};
static const char *const of_question[] = {"<image>\n<question>", NULL};
static const char *const of_short[] = {"<image>\n<question> Answer with a word or a few.",
                                       "<image>\n<question> A short answer is enough.", NULL};
static const char *const of_reasons[] = {"<image>\n<question> Give your reasons, then the answer.",
                                         "<image>\n<question> Explain before you answer.", NULL};
static const char *const of_rec[] = {
    "<image>\nWhere is <expr>? Give the box as [x1,y1,x2,y2].",
    "<image>\nFind <expr> in the picture and answer with its box [x1,y1,x2,y2].", NULL};
static const char *const of_reg[] = {
    "<image>\nWhich words single out what lies at <objs>?",
    "<image>\nRefer to the thing in the box <objs> so that nothing else is meant.", NULL};
static const char *const of_gc[] = {"<image>\nDescribe what lies in the box <objs>.",
                                    "<image>\nWhat does the region <objs> show?", NULL};
static const char *const of_flickr[] = {
    "<image>\nDescribe the picture, with a box [x1,y1,x2,y2] behind each thing you name.",
    "<image>\nWrite a caption and say where its things are, as boxes [x1,y1,x2,y2].", NULL};

static const struct lcl_row_format formats[] = {
    {"llava", "conversations [{from: human|gpt, value}], image or images", NULL, NULL, NULL, false,
     false, llava},
    {"messages", "messages [{role, content}], parts of type text and image, or images", NULL, NULL,
     NULL, false, false, messages},
    {"caption", "img_path (or image), caption", of_caption, NULL, NULL, false, false, caption},
    {"webdataset-captions", "a picture with .txt or .json", of_caption, NULL, NULL, false, true,
     caption},
    {"vqav2", "question, annotation.multiple_choice_answer, image_id", of_short, "<question>",
     "COCO_train2014_{id:12}.jpg", false, false, vqav2},
    {"vqa-e", "file_path, question, answer, explanation", of_reasons, "<question>", NULL, false,
     false, explained},
    {"vqa-x", "file_path, question, answer, justification", of_reasons, "<question>", NULL, false,
     false, explained},
    {"rec", "img_path, expression, bbox", of_rec, "<expr>", NULL, true, false, rec},
    {"reg", "img_path, expression, bbox", of_reg, "<objs>", NULL, true, false, reg},
    {"gc", "img_path, expression, bbox", of_gc, "<objs>", NULL, true, false, reg},
    {"flickr", "image_id, sentence, boxes, boxes_seq", of_flickr, NULL, "{id}.jpg", true, false,
     flickr},
    {"point", "file_path, question, answer, and point, bbox or candidates", of_question,
     "<question>", NULL, true, false, point},
    {"vcr-q-a", "img_fn, objects, boxes, question, answer_choices, answer_label", of_question,
     "<question>", NULL, true, false, vcr_q_a},
    {"vcr-qa-r", "the same, rationale_choices, rationale_label", of_question, "<question>", NULL,
     true, false, vcr_qa_r},
    {"vcr-q-ar", "the same", of_question, "<question>", NULL, true, false, vcr_q_ar},
    {"gqa", "imageId, question, answer", of_short, "<question>", "{id}.jpg", false, false, gqa},
    {"clevr", "image_filename, question, answer", of_short, "<question>", NULL, false, false,
     clevr},
    {"pope", "image, text, label", of_question, "<question>", NULL, false, false, pope},
    {"text", "text", NULL, NULL, NULL, false, false, text},
};

const struct lcl_row_format *lcl_row_format_at(size_t i)
{
    return i < sizeof formats / sizeof *formats ? &formats[i] : NULL;
}

const struct lcl_row_format *lcl_row_format_find(const char *name)
{
    for (size_t i = 0; i < sizeof formats / sizeof *formats; i++)
        if (strcmp(name, formats[i].name) == 0) return &formats[i];
    return NULL;
}
