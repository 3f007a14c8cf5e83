/* data.layout: official: what training and evaluation read, against the whole episode's encoding.
 */
#include "core/fs.h"
#include "data/official.h"
#include "tests/data/fake_pack.h"
#include "tests/support/sp_file.h"

enum { SLOTS = 3 };

#define SHOT(asks, says) \
    "\"support\": \"USER: " asks " ASSISTANT:" says "</s>\", \"shot_answer\": \"" says "</s>\""

static const char texts[] =
    "{\"format\": \"lcl-template-1\", \"system\": \"ab\", \"first\": \" \", \"next\": \"\", " SHOT(
        "[e] a <image>?",
        " c {label} b. [/e]") ", \"query\": \"[F]:  USER: {question} ASSISTANT:\", \"question\": "
                              "\"bc <image>?\", "
                              "\"questions\": [\"a <image> b\", \"<image> cab\"], \"answer\": \" c "
                              "{label} b.</s>\", "
                              "\"ref\": {" SHOT(
                                  "a <image>",
                                  " b {label} [/e]") ", \"query\": \"[F]:  USER: b <image> "
                                                     "ASSISTANT:\", \"answer\": \" {label}</s>\"}, "
                                                     "\"jigsaw\": {" SHOT(
                                                         "<image> c",
                                                         " [/e]") ", \"query\": \"[F]:  USER: c "
                                                                  "<image> "
                                                                  "ASSISTANT:\", \"answer\": \" a "
                                                                  "{label}.</s>\"}}";

struct world {
    struct fake fake;
    struct lcl_sampler sampler;
    struct lcl_tokenizer *tokenizer;
    struct lcl_template words;
    struct lcl_official *official;
    struct lcl_batch_builder *builder;
    int32_t patch;
};

static void open_world(struct world *w, enum lcl_strategy strategy, int64_t queries)
{
    struct lcl_config *c = &w->fake.config;
    struct torch_bytes b = {0};
    fake_make(&w->fake, 12, 4, 20);
    c->data_strategy = (int)strategy;
    c->data_shots = 6;
    c->data_queries = queries;
    c->data_layout = LCL_LAYOUT_OFFICIAL;
    snprintf(c->tokenizer, sizeof c->tokenizer, "%s/tokenizer.model", temp_dir());
    snprintf(c->data_template, sizeof c->data_template, "%s/official.json", temp_dir());
    sp_small(&b, SP_BPE, true);
    ASSERT_OK(lcl_fs_write_atomic(c->tokenizer, b.v, b.n));
    free(b.v);
    ASSERT_OK(lcl_fs_write_atomic(c->data_template, texts, strlen(texts)));
    ASSERT_OK(lcl_config_check(c));
    ASSERT_OK(lcl_tokenizer_for_config(c, &w->tokenizer));
    ASSERT_OK(lcl_template_for(c, &w->words));
    ASSERT_OK(lcl_official_create(&w->words, w->tokenizer, SLOTS, &w->official));
    ASSERT_OK(lcl_batch_builder_for(c, w->tokenizer, SLOTS, &w->builder));
    ASSERT_OK(lcl_sampler_init(&w->sampler, c, &w->fake.pack, &w->fake.neighbors, LCL_SPLIT_TRAIN));
    w->patch = lcl_tokenizer_id(w->tokenizer, "<im_patch>");
    assert_int_equal(lcl_tokenizer_image(w->tokenizer), w->patch);
}

static void close_world(struct world *w)
{
    lcl_sampler_free(&w->sampler);
    lcl_batch_builder_free(w->builder);
    lcl_official_free(w->official);
    lcl_template_free(&w->words);
    lcl_tokenizer_free(w->tokenizer);
    fake_free(&w->fake);
}

/* The whole episode as lcl encode prints it: query q answered by label, or an evaluation's. */
static void encode(const struct world *w, const struct lcl_episode *e, const char *label,
                   struct lcl_ids *ids, struct lcl_ids *said)
{
    const char *shown[64];
    struct lcl_official_episode o = {.labels = shown, .n_shots = e->n_shots, .label = label};
    const char *questions[] = {"a <image> b", "<image> cab"};
    ids->n = said->n = 0;
    for (int i = 0; i < e->n_shots; i++) shown[i] = e->label[lcl_episode_shown(e, i)];
    o.question = e->question ? questions[(e->question - 1) % 2] : NULL;
    ASSERT_OK(lcl_official_encode(w->official, &o, label != NULL, ids, said));
}

/* Tokens [begin, end) of a batch are these from `from` on; so are the rows that are targets. */
static void assert_tokens(const struct lcl_batch *m, int64_t begin, int64_t end,
                          const struct lcl_ids *ids, const struct lcl_ids *said, int64_t from)
{
    int64_t targets = 0, rows = 0;
    for (int64_t t = begin; t < end; t++) {
        assert_int_equal(m->id_T[t], ids->v[from + t - begin]);
        targets += said && said->v[from + t - begin] != LCL_OFFICIAL_IGNORED;
    }
    for (int64_t s = 0; s < m->S; s++) {
        int64_t t = m->row_S[s] + 1;
        if (t < begin || t >= end) continue;
        assert_int_equal(m->target_S[s], m->id_T[t]);
        assert_int_equal(said->v[from + t - begin], m->id_T[t]);
        rows++;
    }
    assert_int_equal(rows, targets);
}

/* Each picture's slots are its patches, in order of appearance. */
static void assert_slots(const struct world *w, const struct lcl_batch *m)
{
    int64_t slot = 0;
    for (int64_t t = 0; t < m->T; t++)
        if (m->id_T[t] == w->patch) {
            assert_in_range(slot, 0, m->n_slots - 1);
            assert_int_equal(m->slot[slot], t);
            assert_int_equal(m->slot_row[slot] % SLOTS, slot % SLOTS);
            slot++;
        }
    assert_int_equal(slot, m->n_slots);
}

static void training_reads_the_official_ids(void **state)
{
    (void)state;
    struct world w;
    struct lcl_ids ids = {0}, said = {0};
    open_world(&w, LCL_2WAY, 1);
    for (uint64_t i = 0; i < 50; i++) {
        struct lcl_episode e;
        char *label;
        ASSERT_OK(lcl_sampler_draw(&w.sampler, 0, i, 0, &e));
        lcl_batch_builder_reset(w.builder);
        ASSERT_OK(
            lcl_batch_append_episode(w.builder, &e, LCL_ENCODE_TRAIN, LCL_SUPERVISE_LAST, NULL, 0));
        const struct lcl_batch *m = lcl_batch_builder_get(w.builder);
        encode(&w, &e, e.label[e.queries[0].way], &ids, &said);
        assert_int_equal(m->T, ids.n);
        assert_int_equal(m->n_runs, 1);
        assert_tokens(m, 0, m->T, &ids, &said, 0);
        assert_slots(&w, m);
        for (int k = 0; k <= e.n_shots; k++)
            assert_int_equal(m->image_I[m->slot_row[k * SLOTS] / SLOTS],
                             k < e.n_shots ? e.shots[k].image : e.queries[0].image);
        struct lcl_ids spelled = {0};
        for (int64_t s = 0; s < m->S; s++)
            if (m->is_label_S[s]) ASSERT_OK(lcl_ids_push(&spelled, m->target_S[s]));
        ASSERT_OK(lcl_tokenizer_decode(w.tokenizer, spelled.v, spelled.n, false, &label));
        assert_string_equal(label + (*label == ' '), e.label[e.queries[0].way]);
        free(label);
        lcl_ids_free(&spelled);
        lcl_episode_free(&e);
    }
    lcl_ids_free(&ids);
    lcl_ids_free(&said);
    close_world(&w);
}

/* A context run, and a branch for each: together they are the whole episode. */
static void evaluations_read_them_too(void **state)
{
    (void)state;
    struct world w;
    struct lcl_episode e;
    struct lcl_ids ids = {0}, said = {0};
    open_world(&w, LCL_2WAY, 2);
    ASSERT_OK(lcl_sampler_draw_eval(&w.sampler, 4, 3, false, &e));
    for (int mode = LCL_ENCODE_PROMPT; mode <= LCL_ENCODE_CANDIDATES; mode++) {
        bool candidates = mode == LCL_ENCODE_CANDIDATES;
        lcl_batch_builder_reset(w.builder);
        ASSERT_OK(lcl_batch_append_episode(w.builder, &e, (enum lcl_encode_mode)mode,
                                           LCL_SUPERVISE_LAST, NULL, 0));
        const struct lcl_batch *m = lcl_batch_builder_get(w.builder);
        const struct lcl_branch *branch = lcl_batch_builder_branches(w.builder);
        assert_int_equal(m->n_runs, candidates ? 3 : 2);
        int64_t context = m->runs[0].q_end;
        assert_slots(&w, m);
        assert_int_equal(branch[0].episode, -1);
        for (int64_t r = 1; r < m->n_runs; r++) {
            const struct lcl_attn_run *run = &m->runs[r];
            encode(&w, &e, candidates ? e.label[branch[r].way] : NULL, &ids, &said);
            assert_int_equal(run->prefix_begin, 0);
            assert_int_equal(run->prefix_end, context);
            assert_int_equal(m->position_T[run->q_begin], context);
            assert_int_equal(context + run->q_end - run->q_begin, ids.n);
            assert_tokens(m, 0, context, &ids, &said, 0);
            assert_tokens(m, run->q_begin, run->q_end, &ids, &said, context);
        }
    }
    lcl_ids_free(&ids);
    lcl_ids_free(&said);
    lcl_episode_free(&e);
    close_world(&w);
}

static char *targets_as_text(const struct world *w)
{
    const struct lcl_batch *m = lcl_batch_builder_get(w->builder);
    char *text;
    ASSERT_OK(lcl_tokenizer_decode(w->tokenizer, m->target_S, m->S, false, &text));
    return text;
}

/* The other policies: the answer alone is learned, or every answer; a piece says nothing. */
static void other_policies_have_their_turns(void **state)
{
    (void)state;
    for (int k = 0; k < 2; k++) {
        struct world w;
        struct lcl_episode e;
        open_world(&w, k ? LCL_JIGSAW : LCL_REF, 1);
        ASSERT_OK(lcl_sampler_draw(&w.sampler, 0, 4, 0, &e));
        ASSERT_OK(
            lcl_batch_append_episode(w.builder, &e, LCL_ENCODE_TRAIN, LCL_SUPERVISE_LAST, NULL, 0));
        assert_slots(&w, lcl_batch_builder_get(w.builder));
        char *text = targets_as_text(&w);
        assert_non_null(strstr(text, e.said[e.n_shots]));
        assert_null(strstr(text, "/e"));
        free(text);
        lcl_batch_builder_reset(w.builder);
        ASSERT_OK(
            lcl_batch_append_episode(w.builder, &e, LCL_ENCODE_TRAIN, LCL_SUPERVISE_ALL, NULL, 0));
        text = targets_as_text(&w);
        assert_non_null(strstr(text, "/e"));
        for (int i = 0; i < e.n_shots && k == 0; i++) assert_non_null(strstr(text, e.said[i]));
        free(text);
        lcl_episode_free(&e);
        close_world(&w);
    }
}

static void what_is_refused(void **state)
{
    (void)state;
    struct world w;
    struct lcl_episode e;
    struct lcl_batch_builder *b;
    struct lcl_template t;
    open_world(&w, LCL_2WAY, 1);
    ASSERT_OK(lcl_sampler_draw(&w.sampler, 0, 7, 0, &e));
    ASSERT_FAILS(
        lcl_batch_append_episode(w.builder, &e, LCL_ENCODE_TRAIN, LCL_SUPERVISE_LAST, NULL, 50),
        LCL_RANGE, "sample 7: an episode of 6 shots");
    assert_int_equal(lcl_batch_builder_get(w.builder)->T, 0);
    snprintf(e.label[e.shots[0].way], LCL_LABEL_BYTES, "<im_patch>");
    ASSERT_FAILS(
        lcl_batch_append_episode(w.builder, &e, LCL_ENCODE_TRAIN, LCL_SUPERVISE_LAST, NULL, 0),
        LCL_FORMAT, "sample 7: a turn of the official layout has 4 image tokens, wanted 3");
    assert_int_equal(lcl_batch_builder_get(w.builder)->T, 0);
    lcl_episode_free(&e);
    ASSERT_FAILS(lcl_batch_builder_create(w.tokenizer, LCL_LAYOUT_OFFICIAL, 1, &b), LCL_CONFIG,
                 "data.template");
    w.fake.config.data_template[0] = '\0';
    ASSERT_FAILS(lcl_template_for(&w.fake.config, &t), LCL_CONFIG, "data.template");
    ASSERT_FAILS(lcl_config_check(&w.fake.config), LCL_CONFIG, "data.template");
    close_world(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(training_reads_the_official_ids),
                                       cmocka_unit_test(evaluations_read_them_too),
                                       cmocka_unit_test(other_policies_have_their_turns),
                                       cmocka_unit_test(what_is_refused)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
