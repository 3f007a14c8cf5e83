/* lcl eval vqa, pope, caption and box: from a model and rows to a number. With --support rows of
 * another table stand before each question with their answers: in-context learning, whose support
 * shows the task and has no link to the answer. */
#include "tools/eval_rows.h"

#include <stdlib.h>
#include <string.h>

#include "core/fs.h"
#include "core/log.h"
#include "data/chat.h"
#include "tools/eval_ask.h"
#include "tools/eval_rows_read.h"
#include "tools/scoring.h"
#include "train/answer.h"
#include "train/ranks.h"
#include "train/stats.h"

enum { UNIT = 8, STREAM = 7, MAX_CANDIDATES = 4096, MAX_TURNS = 4096, MAX_MARKS = 4096 };

static const struct kind {
    const char *name;
    enum scoring_name metric;
    const char *key; /* under which lines have the answers */
    bool first;      /* the first answer alone */
    int64_t max_new; /* tokens of an answer */
} kinds[] = {{"vqa", SCORING_VQA, "answers", false, 32},
             {"pope", SCORING_POPE, "target", true, 16},
             {"caption", SCORING_CIDER, "references", false, 64},
             {"box", SCORING_BOX, "target", true, 128}};

struct request {
    struct ask_options ask;
    const struct kind *kind;
    const char *rows, *images, *support, *support_images, *question;
    int64_t limit, max_new;
};

/* What answers of a shot count came to. */
struct cell {
    int64_t shots;
    struct scoring said, likeliest;
};

struct job {
    const struct request *r;
    struct lcl_config c;
    struct eval_rows rows, support;
    struct lcl_env env;
    struct lcl_gallery gallery;
    struct lcl_answerer answerer;
    struct record record;
    enum lcl_chat chat;
    int n_cells, n_candidates;
    struct cell cell[ASK_MAX_SHOTS];
    char *candidates[MAX_CANDIDATES];
};

/* ---- a question ---- */

/* A prompt as messages, and the pictures that it shows. */
struct prompt {
    int n;
    struct lcl_message m[MAX_TURNS];
    int64_t n_images, image[MAX_MARKS];
};

static enum lcl_role role_of(const json_t *turn)
{
    const char *role = json_string_value(json_object_get(turn, "role"));
    return strcmp(role, "user") == 0     ? LCL_ROLE_USER
           : strcmp(role, "system") == 0 ? LCL_ROLE_SYSTEM
                                         : LCL_ROLE_ASSISTANT;
}

static lcl_status show_pictures(struct job *j, struct eval_rows *rows, const struct eval_row *row,
                                struct prompt *p)
{
    const int64_t n = (int64_t)json_array_size(row->images);
    int64_t *number = p->image + p->n_images;
    if (p->n_images + n > MAX_MARKS)
        return LCL_FAIL(LCL_RANGE, "a prompt of over %d pictures", MAX_MARKS);
    if (row->number) {
        LCL_TRY(lcl_gallery_add_packed(&j->gallery, &rows->pack, row->number, n, number));
    } else {
        for (int64_t i = 0; i < n; i++) {
            const char *name = json_string_value(json_array_get(row->images, (size_t)i));
            char *path = rows->images[0] ? lcl_strdupf("%s/%s", rows->images, name)
                                         : lcl_strdupf("%s", name);
            if (!path) return LCL_FAIL(LCL_MEMORY, "no memory for a path");
            const char *paths[] = {path};
            lcl_status status = lcl_gallery_add(&j->gallery, paths, 1, &number[i], NULL);
            free(path);
            LCL_TRY(status);
        }
    }
    for (int64_t i = 0; i < n; i++) number[i] = -1 - number[i];
    p->n_images += n;
    return LCL_OK;
}

/* A row's turns, and its first answer where it is shown; a later row's system message is left out.
 */
static lcl_status put_row(struct job *j, struct eval_rows *rows, const struct eval_row *row,
                          bool answered, struct prompt *p)
{
    for (size_t i = 0; i < json_array_size(row->turns); i++) {
        const json_t *turn = json_array_get(row->turns, i);
        if (p->n + 2 > MAX_TURNS)
            return LCL_FAIL(LCL_RANGE, "a prompt of over %d turns", MAX_TURNS);
        if (role_of(turn) == LCL_ROLE_SYSTEM && p->n > 0) continue;
        p->m[p->n++] = (struct lcl_message){role_of(turn),
                                            json_string_value(json_object_get(turn, "content"))};
    }
    if (answered)
        p->m[p->n++] = (struct lcl_message){LCL_ROLE_ASSISTANT,
                                            json_string_value(json_array_get(row->answers, 0))};
    return show_pictures(j, rows, row, p);
}

/* Rows of the support for a question, other pictures than its own; more shots go on from fewer. */
static lcl_status put_shots(struct job *j, int64_t number, int64_t shots, struct prompt *p)
{
    const struct eval_row *row = &j->rows.v[number];
    const int64_t n = j->support.n;
    struct lcl_rng rng =
        lcl_rng_stream((uint64_t)j->c.eval_seed, LCL_RNG_EVAL, STREAM, (uint64_t)number);
    int64_t *order = malloc((size_t)(n + 1) * sizeof *order);
    lcl_status status = order ? LCL_OK : LCL_FAIL(LCL_MEMORY, "no memory for a draw");
    for (int64_t i = 0; i < n && order; i++) order[i] = i;
    for (int64_t i = 0, put = 0; put < shots && status == LCL_OK; i++) {
        if (i == n) {
            status = LCL_FAIL_HINT(LCL_RANGE, "give more rows to --support, or lower --shots",
                                   "%s has fewer than %lld rows of other pictures than those of "
                                   "row %lld",
                                   j->support.name, (long long)shots, (long long)number);
            break;
        }
        int64_t k = i + lcl_rng_below(&rng, (uint32_t)(n - i)), drawn = order[k];
        order[k] = order[i];
        if (json_array_size(row->images) && json_equal(j->support.v[drawn].images, row->images))
            continue;
        status = put_row(j, &j->support, &j->support.v[drawn], true, p);
        put++;
    }
    free(order);
    return status;
}

static lcl_status make_prompt(struct job *j, int64_t number, int64_t shots, struct prompt *p)
{
    p->n = 0;
    p->n_images = 0;
    lcl_gallery_cut(&j->gallery, 0);
    const json_t *first = json_array_get(j->rows.v[number].turns, 0);
    if (j->c.chat_system[0] && role_of(first) != LCL_ROLE_SYSTEM)
        p->m[p->n++] = (struct lcl_message){LCL_ROLE_SYSTEM, j->c.chat_system};
    LCL_TRY(put_shots(j, number, shots, p));
    return put_row(j, &j->rows, &j->rows.v[number], false, p);
}

/* ---- an answer ---- */

static lcl_status say(struct job *j, const struct prompt *p, char **answer)
{
    char *text;
    struct lcl_answer_how how = {.max_new = j->r->max_new ? j->r->max_new : j->r->kind->max_new,
                                 .end_token = lcl_chat_end(j->chat)};
    LCL_TRY(lcl_chat_text(j->chat, p->m, p->n, &text));
    struct lcl_prompt prompt = {text, p->image, p->n_images};
    lcl_status status = lcl_answer_prompts(&j->answerer, &prompt, 1, &how, answer);
    free(text);
    return status;
}

static lcl_status compare(struct job *j, struct prompt *p, double *logprob)
{
    struct lcl_conversation *c = calloc((size_t)j->n_candidates, sizeof *c);
    bool *learned = calloc((size_t)p->n + 1, sizeof *learned);
    struct lcl_message *m = calloc((size_t)j->n_candidates * ((size_t)p->n + 1), sizeof *m);
    lcl_status status =
        c && learned && m ? LCL_OK : LCL_FAIL(LCL_MEMORY, "no memory for candidates");
    if (status == LCL_OK) learned[p->n] = true;
    for (int i = 0; i < j->n_candidates && status == LCL_OK; i++) {
        struct lcl_message *own = m + (size_t)i * ((size_t)p->n + 1);
        memcpy(own, p->m, (size_t)p->n * sizeof *own);
        own[p->n] = (struct lcl_message){LCL_ROLE_ASSISTANT, j->candidates[i]};
        c[i] = (struct lcl_conversation){.name = j->candidates[i],
                                         .n_messages = p->n + 1,
                                         .messages = own,
                                         .learned = learned,
                                         .n_images = p->n_images,
                                         .image = p->image};
    }
    if (status == LCL_OK)
        status = lcl_answer_conversations(&j->answerer, c, j->n_candidates, logprob);
    free(c);
    free(learned);
    free(m);
    return status;
}

static lcl_status put_line(struct job *j, int64_t number, int64_t shots, const struct prompt *p,
                           const char *answer, const double *logprob, struct lcl_text *lines)
{
    const struct kind *k = j->r->kind;
    const struct eval_row *row = &j->rows.v[number];
    json_t *line = json_pack("{s:s, s:I, s:I, s:O, s:s}", "row", j->r->ask.row, "number",
                             (json_int_t)number, "shots", (json_int_t)shots, "images", row->images,
                             "question", p->m[p->n - 1].text);
    if (line)
        json_object_set(line, k->key, k->first ? json_array_get(row->answers, 0) : row->answers);
    if (line && answer) {
        struct lcl_text mended = {0}; /* an answer may end amid a letter */
        lcl_text_json_string(&mended, answer + strspn(answer, " \n"));
        json_object_set_new(line, "prediction",
                            json_loadb(mended.data, mended.size, JSON_DECODE_ANY, NULL));
        lcl_text_free(&mended);
    }
    int best = 0;
    json_t *list = logprob ? json_array() : NULL;
    for (int i = 0; i < j->n_candidates && list; i++) {
        json_array_append_new(list, json_real(logprob[i]));
        if (logprob[i] > logprob[best]) best = i;
    }
    if (line && list) {
        json_object_set_new(line, "likeliest", json_string(j->candidates[best]));
        json_object_set_new(line, "logprob", list);
    }
    char *text = line ? json_dumps(line, JSON_REAL_PRECISION(9)) : NULL;
    json_decref(line);
    if (!text) return LCL_FAIL(LCL_MEMORY, "no memory for an answer's line");
    lcl_text_printf(lines, "%s\n", text);
    free(text);
    return LCL_OK;
}

static lcl_status ask_row(struct job *j, int64_t number, int64_t shots, struct prompt *p,
                          struct lcl_text *lines)
{
    char *answer = NULL;
    double *logprob = j->n_candidates ? calloc((size_t)j->n_candidates, sizeof *logprob) : NULL;
    lcl_status status =
        logprob || !j->n_candidates ? LCL_OK : LCL_FAIL(LCL_MEMORY, "no memory for candidates");
    if (status == LCL_OK) status = make_prompt(j, number, shots, p);
    if (status == LCL_OK && !j->r->ask.no_greedy) status = say(j, p, &answer);
    if (status == LCL_OK && logprob) status = compare(j, p, logprob);
    if (status == LCL_OK) status = put_line(j, number, shots, p, answer, logprob, lines);
    free(answer);
    free(logprob);
    return status == LCL_OK
               ? status
               : lcl_fail_context(status, "%s, row %lld", j->rows.name, (long long)number);
}

/* UNIT rows, with each count of shots. */
static lcl_status ask_unit(void *ctx, int64_t unit, struct lcl_text *lines, struct lcl_text *aside)
{
    (void)aside;
    struct job *j = ctx;
    const int64_t first = unit * UNIT;
    struct prompt *p = malloc(sizeof *p);
    lcl_status status = p ? LCL_OK : LCL_FAIL(LCL_MEMORY, "no memory for a prompt");
    for (int64_t i = first; i < first + UNIT && i < j->rows.n && status == LCL_OK; i++)
        for (int k = 0; k < j->n_cells && status == LCL_OK; k++)
            status = ask_row(j, i, j->cell[k].shots, p, lines);
    free(p);
    return status;
}

static lcl_status ask_all(struct job *j)
{
    LCL_TRY(record_open(&j->record, lcl_ranks(), j->r->ask.anew));
    LCL_TRY(record_ask(&j->record, lcl_ranks(), ask_unit, j, "rows", UNIT));
    return record_finish(&j->record);
}

/* ---- numbers ---- */

static lcl_status score_line(void *ctx, const json_t *line)
{
    struct job *j = ctx;
    const struct scoring_metric *metric = &scoring_metrics[j->r->kind->metric];
    const json_t *shots = json_object_get(line, "shots");
    json_t *likeliest = json_object_get(line, "likeliest");
    int k = 0;
    while (k < j->n_cells &&
           (!json_is_integer(shots) || j->cell[k].shots != json_integer_value(shots)))
        k++;
    if (k == j->n_cells) return LCL_FAIL(LCL_FORMAT, "\"shots\": wanted one of --shots");
    if (json_object_get(line, "prediction"))
        LCL_TRY(metric->line(&j->cell[k].said, (json_t *)(uintptr_t)line));
    if (!likeliest) return LCL_OK;
    json_t *other = json_copy((json_t *)(uintptr_t)line);
    if (!other || json_object_set(other, "prediction", likeliest) != 0) {
        json_decref(other);
        return LCL_FAIL(LCL_MEMORY, "no memory for a line");
    }
    lcl_status status = metric->line(&j->cell[k].likeliest, other);
    json_decref(other);
    return status;
}

/* Mean over lines with its interval; each line is a draw of its own. */
static lcl_status interval_of(const struct job *j, const struct scoring *s,
                              struct lcl_interval *out)
{
    size_t n = (size_t)s->n_lines;
    double *sum = malloc((n + 1) * sizeof *sum), *count = malloc((n + 1) * sizeof *count);
    int32_t *group = malloc((n + 1) * sizeof *group);
    lcl_status status =
        sum && count && group ? LCL_OK : LCL_FAIL(LCL_MEMORY, "no memory for scores");
    for (size_t i = 0; i < n && status == LCL_OK; i++) {
        sum[i] = s->lines[i].sum;
        count[i] = s->lines[i].n;
        group[i] = (int32_t)i;
    }
    if (status == LCL_OK)
        status = lcl_stats_bootstrap_points(sum, count, group, (int64_t)n, (uint64_t)j->c.eval_seed,
                                            out);
    free(sum);
    free(count);
    free(group);
    return status;
}

static lcl_status report_one(struct job *j, struct scoring *s, const char *what, int64_t shots,
                             double *mean, double ci[2])
{
    struct lcl_interval i;
    if (s->n_lines == 0 && s->n_captions == 0) return LCL_OK;
    LCL_TRY(scoring_metrics[j->r->kind->metric].end(s));
    LCL_TRY(interval_of(j, s, &i));
    printf("  %3lld shots   %s %.4f [%.4f, %.4f]   %s\n", (long long)shots, what, i.mean, i.low,
           i.high, s->text);
    *mean = i.mean;
    if (ci) {
        ci[0] = i.low;
        ci[1] = i.high;
    }
    return LCL_OK;
}

static lcl_status report(struct job *j)
{
    const struct request *r = j->r;
    const bool cider = r->kind->metric == SCORING_CIDER;
    struct lcl_results *results = calloc(1, sizeof *results);
    lcl_status status;
    LCL_TRY_GOTO(results ? LCL_OK : LCL_FAIL(LCL_MEMORY, "no memory for results"));
    if (r->ask.results && lcl_fs_exists(r->ask.results))
        LCL_TRY_GOTO(lcl_results_load(r->ask.results, results));
    printf("%s: %lld rows\n", r->ask.row, (long long)j->rows.n);
    for (int k = 0; k < j->n_cells; k++) {
        struct cell *c = &j->cell[k];
        struct lcl_result_cell *to;
        double unkept;
        LCL_TRY_GOTO(lcl_results_cell(results, r->ask.row, c->shots, &to));
        to->episodes = (double)j->rows.n;
        LCL_TRY_GOTO(report_one(j, &c->said, r->ask.suite, c->shots,
                                cider ? &to->cider : &to->greedy, cider ? NULL : to->ci95));
        LCL_TRY_GOTO(report_one(j, &c->likeliest, "likeliest candidate", c->shots,
                                cider ? &unkept : &to->likelihood,
                                cider ? NULL : to->likelihood_ci95));
    }
    if (r->ask.results) LCL_TRY_GOTO(lcl_results_save(results, r->ask.results));
out:
    free(results);
    return status;
}

/* ---- all of it ---- */

static lcl_status read_candidates(struct job *j)
{
    const char *at = j->r->ask.candidates;
    while (at && *at) {
        size_t n = strcspn(at, ",");
        if (n == 0 || j->n_candidates == MAX_CANDIDATES)
            return LCL_FAIL(LCL_CONFIG, "--candidates: wanted at most %d texts between commas",
                            MAX_CANDIDATES);
        char *text = lcl_strdupf("%.*s", (int)n, at);
        if (!text) return LCL_FAIL(LCL_MEMORY, "no memory for candidates");
        j->candidates[j->n_candidates++] = text;
        at += n + (at[n] == ',');
    }
    if (j->r->ask.no_greedy && j->n_candidates == 0)
        return LCL_FAIL(LCL_CONFIG, "--no-greedy leaves nothing to ask without --candidates");
    return LCL_OK;
}

static lcl_status read_rows(struct job *j)
{
    const struct request *r = j->r;
    int64_t shots[ASK_MAX_SHOTS];
    LCL_TRY(eval_rows_read(r->rows, r->images, r->question, r->kind->metric == SCORING_CIDER,
                           r->limit, &j->rows));
    LCL_TRY(ask_parse_numbers(r->ask.shots, "--shots", MAX_TURNS / 4, ASK_MAX_SHOTS, shots,
                              &j->n_cells));
    bool any = false;
    for (int k = 0; k < j->n_cells; k++) {
        j->cell[k].shots = shots[k];
        any |= shots[k] > 0;
    }
    if (any && !r->support)
        return LCL_FAIL_HINT(LCL_CONFIG, "--support FILE: rows with their answers",
                             "--shots %s shows rows of a support table", r->ask.shots);
    if (!r->support) return LCL_OK;
    return eval_rows_read(r->support, r->support_images ? r->support_images : r->images,
                          r->question, false, 0, &j->support);
}

static lcl_status open_record(struct job *j)
{
    const struct request *r = j->r;
    int64_t part, parts;
    json_t *settings = ask_settings(&r->ask);
    json_t *more =
        json_pack("{s:s, s:s*, s:s*, s:s*, s:s*, s:I, s:I}", "rows", r->rows, "images", r->images,
                  "support", r->support, "support_images", r->support_images, "ask", r->question,
                  "limit", (json_int_t)r->limit, "max_new", (json_int_t)r->max_new);
    int failed = !settings || !more || json_object_update(settings, more);
    json_decref(more);
    j->record.settings = settings;
    if (failed) return LCL_FAIL(LCL_FORMAT, "a path or text of the evaluation is not UTF-8");
    LCL_TRY(record_parse_part(r->ask.part, &part, &parts));
    j->record.path = r->ask.predictions;
    j->record.units = (j->rows.n + UNIT - 1) / UNIT;
    j->record.part = part;
    j->record.parts = parts;
    j->record.take = score_line;
    j->record.ctx = j;
    return LCL_OK;
}

/* Boxes are of the padded picture. */
static lcl_status check_boxes(const struct job *j)
{
    if (!j->rows.packed || !j->rows.pack.rows_of_boxes || j->env.preprocess.mode == LCL_RESIZE_PAD)
        return LCL_OK;
    return LCL_FAIL_HINT(LCL_CONFIG, "--set data.resize=pad",
                         "boxes of %s are those of padded pictures, which the model does not see",
                         j->rows.name);
}

static lcl_status ask(struct job *j)
{
    if (j->r->ask.join)
        return lcl_comm_rank(lcl_ranks()) == 0 ? record_join(&j->record, j->r->ask.join) : LCL_OK;
    LCL_TRY(lcl_env_start(&j->env, &j->c));
    LCL_TRY(lcl_env_load_model(&j->env, j->r->ask.model, &j->c));
    LCL_TRY(check_boxes(j));
    j->chat = lcl_chat_for(&j->c, j->env.tokenizer);
    LCL_TRY(lcl_gallery_open(&j->gallery, &j->env));
    LCL_TRY(lcl_answerer_open(&j->answerer, &j->gallery, &j->c));
    return ask_all(j);
}

static lcl_status evaluate(const struct request *r)
{
    struct job *j = calloc(1, sizeof *j);
    lcl_status status;
    if (!j) return LCL_FAIL(LCL_MEMORY, "no memory for an evaluation");
    j->r = r;
    LCL_TRY_GOTO(read_candidates(j));
    LCL_TRY_GOTO(read_rows(j));
    LCL_TRY_GOTO(lcl_env_run_config(r->ask.model, r->ask.sets.v, r->ask.sets.n, &j->c));
    LCL_TRY_GOTO(open_record(j));
    LCL_TRY_GOTO(ask(j));
    if (j->record.parts > 1 && !r->ask.join)
        lcl_log_info("part %lld of %lld is asked", (long long)j->record.part,
                     (long long)j->record.parts);
    else if (lcl_comm_rank(lcl_ranks()) == 0) /* it has the answers */
        status = report(j);
out:
    record_close(&j->record);
    for (int k = 0; k < ASK_MAX_SHOTS; k++) {
        scoring_free(&j->cell[k].said);
        scoring_free(&j->cell[k].likeliest);
    }
    for (int i = 0; i < j->n_candidates; i++) free(j->candidates[i]);
    if (j->answerer.gallery) lcl_answerer_close(&j->answerer);
    if (j->gallery.env) lcl_gallery_close(&j->gallery);
    lcl_env_close(&j->env);
    eval_rows_free(&j->rows);
    eval_rows_free(&j->support);
    free(j);
    return status;
}

lcl_status eval_rows(int argc, char **argv)
{
    struct request r = {.ask.shots = "0"};
    const struct cli_option options[] = {
        {"--rows", CLI_STR, &r.rows, .value = "FILE", .required = true,
         .doc = "pack of rows (FILE.h5), or JSON lines {image, question, answers}"},
        {"--images", CLI_STR, &r.images, .value = "DIR",
         .doc = "folder that pictures of JSON lines begin in"},
        {"--ask", CLI_STR, &r.question, .value = "TEXT",
         .doc = "words in which {question} stands for that of a JSON line"},
        {"--limit", CLI_INT, &r.limit, .low = 0, .high = 1e12, .doc = "first rows alone; 0: all"},
        {"--max-new", CLI_INT, &r.max_new, .low = 0, .high = 4096,
         .doc = "longest answer in tokens; 0: 32, pope 16, caption 64, box 128"},
        {"--shots", CLI_STR, &r.ask.shots, .value = "LIST",
         .doc = "rows of --support before the question, with their answers"},
        {"--support", CLI_STR, &r.support, .value = "FILE",
         .doc = "rows that shots are drawn from, of this task or another"},
        {"--support-images", CLI_STR, &r.support_images, .value = "DIR",
         .doc = "folder of their pictures (default: --images)"},
        {"--candidates", CLI_STR, &r.ask.candidates, .value = "A,B,...",
         .doc = "answers whose likelihoods are compared, too; the likeliest is scored"},
        {"--no-greedy", CLI_FLAG, &r.ask.no_greedy, .doc = "candidates only"},
        ASK_OUTPUT_OPTIONS(&r.ask),
        CLI_END};
    const struct cli_spec spec = {
        .usage = "vqa|pope|caption|box --rows FILE --model MODEL [options]",
        .about = "Asks a model the questions of rows and scores what it generates: VQA accuracy, "
                 "yes or no (with F1),\nCIDEr-D of captions (rows of one picture are one), boxes "
                 "at IoU over 0.5; 95 % intervals by\nbootstrap over rows.",
        .options = options,
        .min_args = 1,
        .max_args = 1,
        .notes = "Example:\n  lcl eval vqa --rows vqa.jsonl --images coco/val2014 --model llava "
                 "--ask \"{question} Answer in a word.\""};
    struct cli_args args;
    LCL_TRY(cli_parse(&spec, argc, argv, &args));
    if (args.help) return LCL_OK;
    r.ask.suite = args.v[0];
    for (r.kind = kinds; strcmp(r.kind->name, r.ask.suite) != 0;) r.kind++;
    if (!r.ask.row) r.ask.row = r.ask.suite;
    return evaluate(&r);
}
