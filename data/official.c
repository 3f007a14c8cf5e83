/* The official code's form of an episode. A turn's text is put together first, with the image marks
 * in it, and tokenised whole; what is supervised is found by counting the tokens of its parts. */
#include "data/official.h"

#include <stdlib.h>
#include <string.h>

#include "core/fs.h"

enum { TURN_LIMIT = 2048, MODEL_LIMIT = 30000, IGNORED = LCL_OFFICIAL_IGNORED };

#define ANSWER_MARK " ASSISTANT: "
#define END_MARK "</s>"

struct lcl_official {
    struct lcl_tokenizer *tokenizer;
    int32_t patch, start, end, unk;
    bool marked;                                    /* a space mark stands before a text */
    char *marks;                                    /* <im_start><im_patch>...<im_end> */
    struct policy_texts {                           /* all NULL: the template has none */
        char *first_head, *next_head, *support_end; /* a support turn up to its label, and on */
        char *asked;                                /* the query's turn up to its answer */
        char *answer_head, *answer_end;             /* its answer around the label */
    } of[LCL_POLICY_COUNT];
    char **questions; /* [n_questions] turns as `asked` that ask other questions */
    int n_questions;
    char *turn_head, *turn_end; /* the query's turn around a question of one's own */
    char *question;             /* the fixed one */
    char *example_mark;         /* ends a support answer, and is taken out of a query's; or NULL */
};

static lcl_status no_memory(void)
{
    return LCL_FAIL(LCL_MEMORY, "no memory for an episode's text");
}

/* text with `by` for every `what`, malloc'd; NULL when memory ran out. */
static char *replace_all(const char *text, const char *what, const char *by)
{
    size_t n = strlen(what), n_by = strlen(by), times = 0;
    for (const char *at = text; (at = strstr(at, what)); at += n) times++;
    char *out = malloc(strlen(text) + times * n_by + 1), *to = out;
    for (const char *at; out && (at = strstr(text, what)); text = at + n) {
        memcpy(to, text, (size_t)(at - text));
        to = stpcpy(to + (at - text), by);
    }
    if (out) strcpy(to, text);
    return out;
}

/* The parts of a text before and after a mark that it holds once. */
static lcl_status cut(const char *text, const char *mark, char **head, char **end)
{
    const char *at = strstr(text, mark);
    if (!at) return LCL_FAIL(LCL_FORMAT, "the template has no %s where it must", mark);
    *head = lcl_strdupf("%.*s", (int)(at - text), text);
    *end = lcl_strdupf("%s", at + strlen(mark));
    return *head && *end ? LCL_OK : no_memory();
}

/* What a support answer says after what a query's says. */
static lcl_status find_example_mark(struct lcl_official *o, const struct lcl_template *t)
{
    size_t shot = strlen(t->shot_answer), n = strlen(t->answer), end = strlen(END_MARK);
    if (n < end || shot <= n || strncmp(t->shot_answer, t->answer, n - end) != 0) return LCL_OK;
    o->example_mark = lcl_strdupf("%.*s", (int)(shot - n), t->shot_answer + n - end);
    return o->example_mark ? LCL_OK : no_memory();
}

/* The turns of a policy. A support text without {label} says nothing of its own. */
static lcl_status make_policy(const struct lcl_official *o, const char *system,
                              const struct lcl_turns *t, struct policy_texts *to)
{
    char *support = replace_all(t->support, "<image>", o->marks), *head = NULL;
    lcl_status status = support ? LCL_OK : no_memory();
    to->asked = replace_all(t->query, "<image>", o->marks);
    if (status == LCL_OK && !strstr(support, "{label}")) {
        head = lcl_strdupf("%s", support);
        to->support_end = lcl_strdupf("%s", "");
        if (!head || !to->support_end) status = no_memory();
    } else if (status == LCL_OK) {
        status = cut(support, "{label}", &head, &to->support_end);
    }
    LCL_TRY_GOTO(status);
    to->first_head = lcl_strdupf("%s %s", system, head);
    to->next_head = lcl_strdupf(" %s", head);
    LCL_TRY_GOTO(to->first_head && to->next_head && to->asked ? LCL_OK : no_memory());
    LCL_TRY_GOTO(cut(t->answer, "{label}", &to->answer_head, &to->answer_end));
out:
    free(support);
    free(head);
    return status;
}

static lcl_status make_questions(struct lcl_official *o, const struct lcl_template *t)
{
    o->questions = calloc((size_t)t->n_questions + 1, sizeof *o->questions);
    if (!o->questions) return no_memory();
    for (int i = 0; i < t->n_questions; i++) {
        o->questions[i] = replace_all(t->questions[i], "<image>", o->marks);
        if (!o->questions[i]) return no_memory();
        o->n_questions++;
    }
    return LCL_OK;
}

static lcl_status make_texts(struct lcl_official *o, const struct lcl_template *t,
                             int64_t n_patches)
{
    static const char start[] = "<im_start>", patch[] = "<im_patch>", end[] = "<im_end>";
    if (!t->turn)
        return LCL_FAIL_HINT(LCL_FORMAT, "lcl import templates makes one",
                             "a template for the official layout must be a file");
    o->marks = malloc(sizeof start + sizeof end + (size_t)n_patches * (sizeof patch - 1));
    if (!o->marks) return no_memory();
    char *to = stpcpy(o->marks, start);
    for (int64_t i = 0; i < n_patches; i++) to = stpcpy(to, patch);
    strcpy(to, end);
    o->question = lcl_strdupf("%s", t->question);
    if (!o->question) return no_memory();
    const struct lcl_turns link = {t->support, t->query, t->shot_answer, t->answer};
    LCL_TRY(make_policy(o, t->system, &link, &o->of[LCL_POLICY_LINK]));
    if (t->ref.support) LCL_TRY(make_policy(o, t->system, &t->ref, &o->of[LCL_POLICY_REF]));
    if (t->jigsaw.support)
        LCL_TRY(make_policy(o, t->system, &t->jigsaw, &o->of[LCL_POLICY_JIGSAW]));
    LCL_TRY(cut(t->turn, "{question}", &o->turn_head, &o->turn_end));
    LCL_TRY(make_questions(o, t));
    return find_example_mark(o, t);
}

static const struct lcl_special_token image_tokens[] = {{"<im_patch>", "image_token"},
                                                        {"<im_start>", "image_start_token"},
                                                        {"<im_end>", "image_end_token"}};

lcl_status lcl_official_tokenizer(const struct lcl_tokenizer *t, struct lcl_tokenizer **out)
{
    LCL_TRY(lcl_tokenizer_with_tokens(t, image_tokens, 3, out));
    lcl_tokenizer_set_image(*out, image_tokens[0].text);
    return LCL_OK;
}

lcl_status lcl_official_create(const struct lcl_template *t, const struct lcl_tokenizer *tokenizer,
                               int64_t tokens_per_image, struct lcl_official **out)
{
    lcl_status status;
    *out = NULL;
    if (tokens_per_image < 1 || tokens_per_image > 1 << 20)
        return LCL_FAIL(LCL_RANGE, "%lld tokens an image; wanted 1..1048576",
                        (long long)tokens_per_image);
    struct lcl_official *o = calloc(1, sizeof *o);
    if (!o) return no_memory();
    LCL_TRY_GOTO(make_texts(o, t, tokens_per_image));
    LCL_TRY_GOTO(lcl_official_tokenizer(tokenizer, &o->tokenizer));
    LCL_TRY_GOTO(lcl_tokenizer_marks_start(o->tokenizer, &o->marked));
    o->patch = lcl_tokenizer_id(o->tokenizer, image_tokens[0].text);
    o->start = lcl_tokenizer_id(o->tokenizer, image_tokens[1].text);
    o->end = lcl_tokenizer_id(o->tokenizer, image_tokens[2].text);
    o->unk = lcl_tokenizer_unk(o->tokenizer);
    if (o->unk < 0)
        status = LCL_FAIL_HINT(LCL_FORMAT, "the official layout wants a LLaMA tokenizer",
                               "the tokenizer has no unk_token");
out:
    if (status == LCL_OK)
        *out = o;
    else
        lcl_official_free(o);
    return status;
}

void lcl_official_free(struct lcl_official *o)
{
    if (!o) return;
    lcl_tokenizer_free(o->tokenizer);
    char *texts[] = {o->marks, o->turn_head, o->turn_end, o->question, o->example_mark};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) free(texts[i]);
    for (int i = 0; i < LCL_POLICY_COUNT; i++) {
        struct policy_texts *p = &o->of[i];
        char *own[] = {p->first_head, p->next_head,   p->support_end,
                       p->asked,      p->answer_head, p->answer_end};
        for (size_t k = 0; k < sizeof own / sizeof *own; k++) free(own[k]);
    }
    for (int i = 0; i < o->n_questions; i++) free(o->questions[i]);
    free(o->questions);
    free(o);
}

/* ---- one turn ---- */

static lcl_status count(const struct lcl_official *o, const char *text, size_t n, int64_t *tokens)
{
    struct lcl_ids ids = {0};
    lcl_status status = lcl_tokenizer_encode_slow(o->tokenizer, o->marked, text, n, true, &ids);
    *tokens = ids.n;
    lcl_ids_free(&ids);
    return status;
}

static void ignore(struct lcl_ids *labels, int64_t begin, int64_t end)
{
    for (int64_t i = begin < 0 ? 0 : begin; i < end && i < labels->n; i++) labels->v[i] = IGNORED;
}

/* Supervises what follows the answer mark of each round (a text up to </s>): `labels` are the
 * turn's ids. The mark's tokens are counted with a trailing space, hence the 2 less. Where the
 * counts do not add up to the ids that are not <unk>, which pads too, nothing is supervised: so it
 * is with an <unk>, an end mark or an answer mark in a label. */
static lcl_status supervise(const struct lcl_official *o, const char *text, struct lcl_ids *labels)
{
    int64_t total = 0, at = 1;
    for (int64_t i = 0; i < labels->n; i++) total += labels->v[i] != o->unk;
    ignore(labels, 0, 1);
    for (bool more = true; more;) {
        const char *end = strstr(text, END_MARK), *mark = strstr(text, ANSWER_MARK);
        size_t n = end ? (size_t)(end - text) : strlen(text), mark_n = strlen(ANSWER_MARK);
        const char *second = mark ? strstr(mark + mark_n, ANSWER_MARK) : NULL;
        int64_t round, asked;
        if (n == 0 || !mark || mark + mark_n > text + n) break;
        if (second && second + mark_n <= text + n) break;
        LCL_TRY(count(o, text, n, &round));
        LCL_TRY(count(o, text, (size_t)(mark - text) + mark_n, &asked));
        ignore(labels, at, at + asked - 2);
        at += round;
        more = end != NULL;
        if (more) text = end + strlen(END_MARK);
    }
    ignore(labels, at, labels->n);
    if (at < MODEL_LIMIT && at != total) ignore(labels, 0, labels->n);
    return LCL_OK;
}

static bool is_image(const struct lcl_official *o, int32_t id)
{
    return id == o->patch || id == o->start || id == o->end;
}

/* Cuts a turn to TURN_LIMIT ids from `begin` on: off its end, or where image tokens lie beyond the
 * limit, the last ids that are none. The labels, from `label` on, go with them. */
static lcl_status shorten(const struct lcl_official *o, struct lcl_ids *ids, int64_t begin,
                          struct lcl_ids *labels, int64_t label)
{
    int64_t n = ids->n - begin, drop = n - TURN_LIMIT, n_labels = labels->n - label;
    if (drop <= 0) return LCL_OK;
    bool plain = true;
    for (int64_t i = TURN_LIMIT; i < n; i++) plain = plain && !is_image(o, ids->v[begin + i]);
    int64_t others = 0;
    for (int64_t i = 0; i < n; i++) others += !is_image(o, ids->v[begin + i]);
    if (!plain && others < drop)
        return LCL_FAIL_HINT(LCL_RANGE, "fewer tokens an image (--image-tokens), or images a turn",
                             "a turn has %lld image tokens, over the %d of the official layout",
                             (long long)(n - others), TURN_LIMIT);
    int64_t keep = plain ? TURN_LIMIT : others - drop, kept = 0, seen = 0; /* keep: of the others */
    for (int64_t i = 0; i < n; i++) {
        bool image = is_image(o, ids->v[begin + i]);
        if (plain ? i >= TURN_LIMIT : !image && seen >= keep) continue;
        if (i >= n_labels)
            return LCL_FAIL(LCL_RANGE, "a turn is cut where the official code has no labels left");
        seen += !image;
        ids->v[begin + kept] = ids->v[begin + i];
        labels->v[label + kept++] = labels->v[label + i];
    }
    ids->n = begin + kept;
    labels->n = label + kept;
    return LCL_OK;
}

/* A turn's ids and labels. asked: bytes of the text that an evaluation shows. */
static lcl_status put_turn(const struct lcl_official *o, const char *text, size_t asked, bool train,
                           struct lcl_ids *ids, struct lcl_ids *labels)
{
    int64_t begin = ids->n, label = labels->n;
    size_t n = strlen(text);
    LCL_TRY(lcl_tokenizer_encode_slow(o->tokenizer, o->marked, text, train ? n : asked, true, ids));
    LCL_TRY(lcl_tokenizer_encode_slow(o->tokenizer, o->marked, text, n, train, labels));
    struct lcl_ids turn = {.v = labels->v + label, .n = labels->n - label};
    for (int64_t i = 0; !train && i < turn.n; i++)
        if (turn.v[i] == o->unk) turn.v[i] = IGNORED;
    if (train) LCL_TRY(supervise(o, text, &turn));
    return shorten(o, ids, begin, labels, label);
}

/* ---- an episode ---- */

static lcl_status check_text(const char *what, const char *text, bool images)
{
    const char *held = !images && strstr(text, "<image>") ? "<image>"
                       : strstr(text, "<boxes>")          ? "<boxes>"
                                                          : NULL;
    if (!held) return LCL_OK;
    return LCL_FAIL_HINT(LCL_FORMAT, "the official code refuses such a text too", "%s holds %s",
                         what, held);
}

lcl_status lcl_official_support(const struct lcl_official *o, enum lcl_policy policy,
                                const char *label, bool first, bool train, struct lcl_ids *ids,
                                struct lcl_ids *labels)
{
    const struct policy_texts *p = &o->of[policy];
    const char *said = *p->support_end ? label : "";
    LCL_TRY(check_text("a label", said, false));
    char *text = lcl_strdupf("%s%s%s", first ? p->first_head : p->next_head, said, p->support_end);
    lcl_status status = text ? put_turn(o, text, strlen(text), train, ids, labels) : no_memory();
    free(text);
    if (status != LCL_OK || first) return status;
    ids->n--; /* the end mark, or what a cut left there */
    labels->n--;
    return LCL_OK;
}

/* The query's turn up to its answer. The space on either side of an empty question goes with it. */
static lcl_status ask(const struct lcl_official *o, const char *question, char **text)
{
    LCL_TRY(check_text("the question", question, true));
    char *shown = replace_all(question, "<image>", o->marks);
    bool empty = *question == '\0';
    size_t n = strlen(o->turn_head), skip = empty && o->turn_end[0] == ' ';
    n -= empty && n > 0 && o->turn_head[n - 1] == ' ';
    *text = shown ? lcl_strdupf("%.*s%s%s", (int)n, o->turn_head, shown, o->turn_end + skip) : NULL;
    free(shown);
    return *text ? LCL_OK : no_memory();
}

/* The last turn: `asked`, and the answer that says label; label NULL: it is not known. */
static lcl_status put_query(const struct lcl_official *o, const struct policy_texts *p,
                            const char *asked, const char *label, bool train, struct lcl_ids *ids,
                            struct lcl_ids *labels)
{
    char *said = NULL, *text = NULL;
    int64_t before = labels->n;
    lcl_status status;
    if (label) LCL_TRY(check_text("the label", label, false));
    said = label && o->example_mark ? replace_all(label, o->example_mark, "")
                                    : lcl_strdupf("%s", label ? label : "");
    text = said ? lcl_strdupf("%s%s%s%s", asked, p->answer_head, said, p->answer_end) : NULL;
    LCL_TRY_GOTO(text ? LCL_OK : no_memory());
    LCL_TRY_GOTO(put_turn(o, text, strlen(asked), train, ids, labels));
    ignore(labels, 0, before);
    if (label) goto out;
    labels->n = 0;
    while (labels->n < ids->n) LCL_TRY_GOTO(lcl_ids_push(labels, IGNORED));
out:
    free(said);
    free(text);
    return status;
}

/* Ids of a turn that spell its label: counted, as those of the texts up to it and behind it. */
static lcl_status find_label(const struct lcl_official *o, const char *asked,
                             const struct policy_texts *p, const char *label, int64_t at[2])
{
    char *text = lcl_strdupf("%s%s%s", asked, p->answer_head, label);
    if (!text) return no_memory();
    size_t n = strlen(text);
    lcl_status status = count(o, text, n - strlen(label), &at[0]);
    if (status == LCL_OK) status = count(o, text, n, &at[1]);
    free(text);
    return status;
}

lcl_status lcl_official_query(const struct lcl_official *o, enum lcl_policy policy,
                              uint32_t question, const char *label, struct lcl_ids *ids,
                              struct lcl_ids *labels, int64_t label_at[2])
{
    const struct policy_texts *p = &o->of[policy];
    const char *asked = p->asked;
    int64_t begin = ids->n;
    if (policy == LCL_POLICY_LINK && question > 0 && o->n_questions > 0)
        asked = o->questions[(question - 1) % (uint32_t)o->n_questions];
    LCL_TRY(put_query(o, p, asked, label, label != NULL, ids, labels));
    if (!label || !label_at) return LCL_OK;
    LCL_TRY(find_label(o, asked, p, label, label_at));
    label_at[0] += begin;
    label_at[1] += begin;
    return LCL_OK;
}

lcl_status lcl_official_encode(const struct lcl_official *o, const struct lcl_official_episode *e,
                               bool train, struct lcl_ids *ids, struct lcl_ids *labels)
{
    if (train && !e->label)
        return LCL_FAIL_HINT(LCL_FORMAT, "only an evaluation goes without",
                             "the query of a training episode has no label");
    for (int i = 0; i < e->n_shots; i++)
        LCL_TRY(lcl_official_support(o, LCL_POLICY_LINK, e->labels[i], i == 0, train, ids, labels));
    char *asked = NULL;
    LCL_TRY(ask(o, e->question ? e->question : o->question, &asked));
    lcl_status status = put_query(o, &o->of[LCL_POLICY_LINK], asked, e->label, train, ids, labels);
    free(asked);
    return status;
}
