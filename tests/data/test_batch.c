/* The batch builder: what the model and the loss rely on. */
#include "tests/data/fake_pack.h"

struct setup {
    struct lcl_tokenizer *tokenizer;
    struct lcl_batch_builder *a, *b;
    struct lcl_shot shots[4], queries[3];
    struct lcl_episode episode;
};

static void set_up(struct setup *s, enum lcl_layout layout, int64_t tokens_per_image)
{
    memset(s, 0, sizeof *s);
    const char *const *texts;
    size_t n = lcl_template_texts(layout, &texts);
    ASSERT_OK(lcl_tokenizer_train(texts, n, 512, &s->tokenizer));
    ASSERT_OK(lcl_batch_builder_create(s->tokenizer, layout, tokens_per_image, &s->a));
    ASSERT_OK(lcl_batch_builder_create(s->tokenizer, layout, tokens_per_image, &s->b));
    /* Pictures 7, 3, 7, 9 of ways 0, 1, 0, 1; picture 7 comes twice, once in another view. */
    const struct lcl_shot shots[] = {{.way = 0, .image = 7},
                                     {.way = 1, .image = 3},
                                     {.way = 0, .image = 7, .view = 1},
                                     {.way = 1, .image = 9}};
    const struct lcl_shot queries[] = {
        {.way = 0, .image = 11}, {.way = 1, .image = 3}, {.way = 0, .image = 12}};
    memcpy(s->shots, shots, sizeof shots);
    memcpy(s->queries, queries, sizeof queries);
    s->episode = (struct lcl_episode){.sample = 42, .n_ways = 2, .n_shots = 4, .n_queries = 1};
    s->episode.shots = s->shots;
    s->episode.queries = s->queries;
    strcpy(s->episode.label[0], "dax");
    strcpy(s->episode.label[1], "kit fox");
}

static void tear_down(struct setup *s)
{
    lcl_batch_builder_free(s->a);
    lcl_batch_builder_free(s->b);
    lcl_tokenizer_free(s->tokenizer);
}

static const struct lcl_batch *append(struct lcl_batch_builder *b, const struct lcl_episode *e,
                                      enum lcl_encode_mode mode, enum lcl_supervise supervise)
{
    ASSERT_OK(lcl_batch_append_episode(b, e, mode, supervise, NULL, 0));
    return lcl_batch_builder_get(b);
}

/* What holds of every batch. */
static void assert_invariants(const struct setup *s, const struct lcl_batch *m, int64_t per_image)
{
    int32_t image = lcl_tokenizer_image(s->tokenizer);
    int64_t slots = 0, end = 0;
    for (int64_t t = 0; t < m->T; t++) {
        if (m->id_T[t] != image) continue;
        assert_in_range(slots, 0, m->n_slots - 1);
        assert_int_equal(m->slot[slots], t);
        assert_int_equal(m->slot_row[slots] % per_image, slots % per_image);
        assert_in_range(m->slot_row[slots], 0, m->n_images * per_image - 1);
        slots++;
    }
    assert_int_equal(slots, m->n_slots);
    for (int64_t i = 0; i < m->n_images; i++)
        for (int64_t j = 0; j < i; j++)
            assert_false(m->image_I[i] == m->image_I[j] && m->view_I[i] == m->view_I[j]);
    for (int64_t r = 0; r < m->n_runs; r++) {
        const struct lcl_attn_run *run = &m->runs[r];
        assert_int_equal(run->q_begin, end); /* end to end */
        assert_int_equal(run->own_begin, run->q_begin);
        assert_int_equal(run->own_end, run->q_end);
        assert_true(run->prefix_end <= run->q_begin);
        int32_t from = run->prefix_end - run->prefix_begin;
        for (int32_t t = run->q_begin; t < run->q_end; t++)
            assert_int_equal(m->position_T[t], from + t - run->q_begin);
        end = run->q_end;
    }
    assert_int_equal(end, m->T);
    for (int64_t k = 0; k < m->S; k++) {
        assert_true(k == 0 || m->row_S[k] > m->row_S[k - 1]);
        assert_in_range(m->row_S[k], 0, m->T - 2);
        assert_int_equal(m->target_S[k], m->id_T[m->row_S[k] + 1]);
        assert_true(m->weight_S[k] > 0);
    }
}

/* The supervised targets [from, to) as text. */
static void assert_target_text(const struct setup *s, const struct lcl_batch *m, int64_t from,
                               int64_t to, const char *wanted)
{
    char *text;
    ASSERT_OK(lcl_tokenizer_decode(s->tokenizer, m->target_S + from, to - from, false, &text));
    assert_string_equal(text, wanted);
    free(text);
}

static void assert_label_text(const struct setup *s, const struct lcl_batch *m, const char *wanted)
{
    struct lcl_ids ids = {0};
    for (int64_t k = 0; k < m->S; k++)
        if (m->is_label_S[k]) ASSERT_OK(lcl_ids_push(&ids, m->target_S[k]));
    char *text;
    ASSERT_OK(lcl_tokenizer_decode(s->tokenizer, ids.v, ids.n, false, &text));
    assert_string_equal(text, wanted);
    free(text);
    lcl_ids_free(&ids);
}

static void test_one_query(void **state)
{
    (void)state;
    struct setup s;
    set_up(&s, LCL_LAYOUT_PLAIN, 2);
    const struct lcl_batch *m = append(s.a, &s.episode, LCL_ENCODE_TRAIN, LCL_SUPERVISE_LAST);
    assert_invariants(&s, m, 2);
    assert_int_equal(m->n_runs, 1);
    assert_int_equal(m->n_images, 5);
    assert_int_equal(m->n_slots, 10);
    assert_int_equal(m->id_T[0], lcl_tokenizer_bos(s.tokenizer));
    assert_int_equal(m->id_T[m->T - 1], lcl_tokenizer_eos(s.tokenizer));
    assert_target_text(&s, m, 0, m->S, " there is \"dax\" in the image.</s>");
    assert_label_text(&s, m, "dax");
    for (int64_t k = 0; k < m->S; k++) assert_true(m->weight_S[k] == 1);
    assert_int_equal(m->image_I[0], 7);
    assert_int_equal(m->image_I[1], 3);
    assert_int_equal(m->view_I[2], 1);
    tear_down(&s);
}

/* The ids are those of the episode's text, each picture's token once for every slot. */
static void check_ids_are_the_text(enum lcl_layout layout)
{
    struct setup s;
    set_up(&s, layout, 1);
    const struct lcl_batch *m = append(s.a, &s.episode, LCL_ENCODE_TRAIN, LCL_SUPERVISE_LAST);
    char *text;
    struct lcl_ids ids = {0};
    ASSERT_OK(lcl_episode_text(s.a, &s.episode, &text));
    ASSERT_OK(lcl_tokenizer_encode(s.tokenizer, text, true, &ids));
    assert_int_equal(ids.n, m->T);
    assert_memory_equal(ids.v, m->id_T, (size_t)ids.n * sizeof *ids.v);
    assert_non_null(strstr(text, "<image>"));
    static const char *const next[] = {"</s>USER:",
                                       "</s>USER:",
                                       "</s><image> is",
                                       " </s><s>[INST] Example",
                                       "</s><|start_header_id|>user",
                                       "</s>\n<|im_start|>user\n"};
    const char *label = layout == LCL_LAYOUT_TERSE ? "<image> is \"kit fox\"."
                                                   : "there is \"kit fox\" in the image.";
    const char *said = strstr(text, label);
    assert_non_null(said);
    said += strlen(label);
    assert_memory_equal(said, next[layout], strlen(next[layout]));
    free(text);
    lcl_ids_free(&ids);
    tear_down(&s);
}

static void test_ids_are_the_text(void **state)
{
    (void)state;
    check_ids_are_the_text(LCL_LAYOUT_PLAIN);
    check_ids_are_the_text(LCL_LAYOUT_VICUNA);
    check_ids_are_the_text(LCL_LAYOUT_TERSE);
    check_ids_are_the_text(LCL_LAYOUT_LLAMA_2);
    check_ids_are_the_text(LCL_LAYOUT_LLAMA_3);
    check_ids_are_the_text(LCL_LAYOUT_CHATML);
}

static void test_repeats(void **state)
{
    (void)state;
    struct setup s;
    set_up(&s, LCL_LAYOUT_PLAIN, 2);
    const struct lcl_batch *m = append(s.a, &s.episode, LCL_ENCODE_TRAIN, LCL_SUPERVISE_REPEATS);
    assert_invariants(&s, m, 2);
    /* Shots 3 and 4 show labels for the second time; then the query's. */
    assert_label_text(&s, m, "daxkit foxdax");
    assert_target_text(&s, m, 0, m->S,
                       " there is \"dax\" in the image.</s> there is \"kit fox\" in the image.</s>"
                       " there is \"dax\" in the image.</s>");
    tear_down(&s);
}

/* Every answer, each as its label is shown: the second shot's wrongly. */
static void test_supervise_all_and_wrong_labels(void **state)
{
    (void)state;
    struct setup s;
    set_up(&s, LCL_LAYOUT_PLAIN, 2);
    s.episode.shots[1].wrong = 1;
    const struct lcl_batch *m = append(s.a, &s.episode, LCL_ENCODE_TRAIN, LCL_SUPERVISE_ALL);
    assert_invariants(&s, m, 2);
    assert_label_text(&s, m, "daxdaxdaxkit foxdax");
    for (int64_t i = 0; i < m->S; i++) assert_true(m->weight_S[i] == 1);
    m = append(s.b, &s.episode, LCL_ENCODE_PROMPT, LCL_SUPERVISE_ALL);
    assert_int_equal(m->S, 0);
    s.episode.shots[1].wrong = 2;
    ASSERT_FAILS(
        lcl_batch_append_episode(s.a, &s.episode, LCL_ENCODE_TRAIN, LCL_SUPERVISE_ALL, NULL, 0),
        LCL_RANGE, "way or view out of range");
    tear_down(&s);
}

/* Several queries: each branch with its context is, token for token, the episode of that query
 * alone. */
static void test_shared_prefix_equals_separate(void **state)
{
    (void)state;
    struct setup s;
    set_up(&s, LCL_LAYOUT_VICUNA, 3);
    s.episode.n_queries = 3;
    const struct lcl_batch *m = append(s.a, &s.episode, LCL_ENCODE_TRAIN, LCL_SUPERVISE_LAST);
    const struct lcl_branch *branch = lcl_batch_builder_branches(s.a);
    assert_invariants(&s, m, 3);
    assert_int_equal(m->n_runs, 4);
    assert_int_equal(branch[0].query, -1);
    const struct lcl_attn_run *context = &m->runs[0];
    for (int q = 0; q < 3; q++) {
        const struct lcl_attn_run *run = &m->runs[q + 1];
        assert_int_equal(branch[q + 1].query, q);
        assert_int_equal(branch[q + 1].way, s.queries[q].way);
        assert_int_equal(run->prefix_begin, context->q_begin);
        assert_int_equal(run->prefix_end, context->q_end);
        assert_int_equal(run->group, context->group);
        struct lcl_episode one = s.episode;
        one.n_queries = 1;
        one.queries = &s.queries[q];
        lcl_batch_builder_reset(s.b);
        const struct lcl_batch *alone = append(s.b, &one, LCL_ENCODE_TRAIN, LCL_SUPERVISE_LAST);
        int32_t n = context->q_end - context->q_begin, own = run->q_end - run->q_begin;
        assert_int_equal(alone->T, n + own);
        assert_memory_equal(alone->id_T, m->id_T, (size_t)n * sizeof *m->id_T);
        assert_memory_equal(alone->id_T + n, m->id_T + run->q_begin, (size_t)own * sizeof *m->id_T);
        assert_memory_equal(alone->position_T + n, m->position_T + run->q_begin,
                            (size_t)own * sizeof *m->position_T);
    }
    for (int64_t k = 0; k < m->S; k++) assert_true(m->weight_S[k] == 1.0f / 3);
    assert_label_text(&s, m, "daxkit foxdax");
    tear_down(&s);
}

static void test_prompt_and_candidates(void **state)
{
    (void)state;
    struct setup s;
    set_up(&s, LCL_LAYOUT_PLAIN, 2);
    s.episode.n_queries = 2;
    const struct lcl_batch *m = append(s.a, &s.episode, LCL_ENCODE_PROMPT, LCL_SUPERVISE_LAST);
    assert_invariants(&s, m, 2);
    assert_int_equal(m->S, 0);
    assert_int_equal(m->n_runs, 3);
    char *text;
    ASSERT_OK(lcl_tokenizer_decode(s.tokenizer, m->id_T + m->runs[2].q_begin,
                                   m->runs[2].q_end - m->runs[2].q_begin, false, &text));
    assert_string_equal(text, "USER: what is in the image? <image><image> ASSISTANT:");
    free(text);

    m = append(s.b, &s.episode, LCL_ENCODE_CANDIDATES, LCL_SUPERVISE_LAST);
    const struct lcl_branch *branch = lcl_batch_builder_branches(s.b);
    assert_invariants(&s, m, 2);
    assert_int_equal(m->n_runs, 5);
    assert_label_text(&s, m, "daxkit foxdaxkit fox");
    for (int r = 1; r < 5; r++) {
        assert_int_equal(branch[r].episode, 0);
        assert_int_equal(branch[r].query, (r - 1) / 2);
        assert_int_equal(branch[r].way, (r - 1) % 2);
    }
    assert_int_equal(m->n_images, 5); /* query 2 is picture 3 of the support */
    tear_down(&s);
}

/* Without shots the context is the beginning alone. */
static void test_no_shots(void **state)
{
    (void)state;
    struct setup s;
    for (int layout = 0; layout < 2; layout++) {
        set_up(&s, (enum lcl_layout)layout, 1);
        s.episode.n_shots = 0;
        const struct lcl_batch *m = append(s.a, &s.episode, LCL_ENCODE_PROMPT, LCL_SUPERVISE_LAST);
        assert_invariants(&s, m, 1);
        assert_int_equal(m->n_runs, 2);
        char *whole;
        ASSERT_OK(lcl_episode_text(s.a, &s.episode, &whole));
        struct lcl_ids ids = {0};
        ASSERT_OK(lcl_tokenizer_encode(s.tokenizer, whole, true, &ids));
        assert_memory_equal(ids.v, m->id_T, (size_t)m->T * sizeof *ids.v);
        lcl_ids_free(&ids);
        free(whole);
        tear_down(&s);
    }
}

/* Labels given for the support change what it shows; the query's answer stays. */
static void test_other_support_labels(void **state)
{
    (void)state;
    struct setup s;
    set_up(&s, LCL_LAYOUT_PLAIN, 1);
    const int32_t labels[] = {1, 1, 1, 0}, wrong[] = {0, 0, 0, 2};
    ASSERT_OK(lcl_batch_append_episode(s.a, &s.episode, LCL_ENCODE_TRAIN, LCL_SUPERVISE_REPEATS,
                                       labels, 0));
    assert_label_text(&s, lcl_batch_builder_get(s.a), "kit foxkit foxdax");
    ASSERT_FAILS(
        lcl_batch_append_episode(s.a, &s.episode, LCL_ENCODE_TRAIN, LCL_SUPERVISE_LAST, wrong, 0),
        LCL_RANGE, "sample 42");
    tear_down(&s);
}

/* A failed append leaves the batch as it was; episodes and plain tokens lie end to end. */
static void test_many_in_one_batch(void **state)
{
    (void)state;
    struct setup s;
    set_up(&s, LCL_LAYOUT_PLAIN, 4);
    int64_t total = 0, n_images = 0;
    const int32_t ids[] = {20, 21, 22, 20, 21, 22};
    const uint8_t supervised[] = {1, 0, 0, 1, 1, 1};
    for (int i = 0; i < 40; i++) {
        struct lcl_episode e = s.episode;
        struct lcl_shot shots[4], query = {.way = i % 2, .image = 1000 + i};
        memcpy(shots, s.shots, sizeof shots);
        for (int k = 0; k < 4; k++) shots[k].image += 100 * (i % 5);
        e.shots = shots;
        e.queries = &query;
        const struct lcl_batch *m = append(s.a, &e, LCL_ENCODE_TRAIN, LCL_SUPERVISE_LAST);
        total = m->T;
        n_images = m->n_images;
        ASSERT_FAILS(
            lcl_batch_append_episode(s.a, &e, LCL_ENCODE_TRAIN, LCL_SUPERVISE_LAST, NULL, 60),
            LCL_RANGE, "sample 42: an episode of 4 shots is");
        assert_int_equal(lcl_batch_builder_get(s.a)->T, total);
        ASSERT_OK(lcl_batch_append_tokens(s.a, ids, supervised, 6));
        assert_int_equal(lcl_batch_builder_get(s.a)->T, total + 6);
    }
    const struct lcl_batch *m = lcl_batch_builder_get(s.a);
    assert_invariants(&s, m, 4);
    assert_int_equal(n_images, 5 * 4 + 40);
    assert_int_equal(m->n_runs, 80);
    for (int64_t r = 1; r < m->n_runs; r++) assert_true(m->runs[r].group != m->runs[r - 1].group);
    assert_int_equal(m->target_S[m->S - 1], 22);
    assert_int_equal(m->target_S[m->S - 3], 20);
    assert_int_equal(m->row_S[m->S - 3], m->T - 4);
    lcl_batch_builder_reset(s.a);
    assert_int_equal(lcl_batch_builder_get(s.a)->T, 0);
    m = append(s.a, &s.episode, LCL_ENCODE_TRAIN, LCL_SUPERVISE_LAST);
    assert_int_equal(m->n_images, 5);
    assert_invariants(&s, m, 4);
    tear_down(&s);
}

/* A SentencePiece-style tokenizer gives the same ids piece by piece as on the whole text. */
static void test_sentencepiece(void **state)
{
    (void)state;
    struct setup s;
    struct lcl_tokenizer *t;
    struct lcl_batch_builder *b;
    const char *path = shared_path("golden/llava-tiny/tokenizer.json"); /* may skip the test */
    set_up(&s, LCL_LAYOUT_VICUNA, 1);
    ASSERT_OK(lcl_tokenizer_load(path, &t));
    for (int layout = 0; layout < 2; layout++) {
        ASSERT_OK(lcl_batch_builder_create(t, (enum lcl_layout)layout, 1, &b));
        const struct lcl_batch *m = append(b, &s.episode, LCL_ENCODE_TRAIN, LCL_SUPERVISE_LAST);
        struct lcl_ids ids = {0};
        char *text;
        ASSERT_OK(lcl_episode_text(b, &s.episode, &text));
        ASSERT_OK(lcl_tokenizer_encode(t, text, true, &ids));
        assert_int_equal(ids.n, m->T);
        assert_memory_equal(ids.v, m->id_T, (size_t)ids.n * sizeof *ids.v);
        free(text);
        lcl_ids_free(&ids);
        lcl_batch_builder_free(b);
    }
    lcl_tokenizer_free(t);
    tear_down(&s);
}

static void test_bad_input(void **state)
{
    (void)state;
    struct setup s;
    struct lcl_batch_builder *b;
    set_up(&s, LCL_LAYOUT_PLAIN, 1);
    ASSERT_FAILS(lcl_batch_builder_create(s.tokenizer, LCL_LAYOUT_PLAIN, 0, &b), LCL_RANGE,
                 "0 tokens an image");
    ASSERT_FAILS(lcl_batch_builder_create(s.tokenizer, LCL_LAYOUT_PLAIN, (int64_t)1 << 40, &b),
                 LCL_RANGE, "tokens an image");
    s.shots[2].way = 2;
    ASSERT_FAILS(
        lcl_batch_append_episode(s.a, &s.episode, LCL_ENCODE_TRAIN, LCL_SUPERVISE_LAST, NULL, 0),
        LCL_RANGE, "sample 42");
    s.shots[2].way = 0;
    strcpy(s.episode.label[1], "a\xff");
    ASSERT_FAILS(
        lcl_batch_append_episode(s.a, &s.episode, LCL_ENCODE_TRAIN, LCL_SUPERVISE_LAST, NULL, 0),
        LCL_FORMAT, "sample 42");
    strcpy(s.episode.label[1], "");
    ASSERT_FAILS(
        lcl_batch_append_episode(s.a, &s.episode, LCL_ENCODE_TRAIN, LCL_SUPERVISE_LAST, NULL, 0),
        LCL_FORMAT, "empty");
    /* A class that is called like a special token is spelled out and adds no picture. */
    strcpy(s.episode.label[1], "<image></s>");
    const struct lcl_batch *m = append(s.a, &s.episode, LCL_ENCODE_TRAIN, LCL_SUPERVISE_LAST);
    assert_invariants(&s, m, 1);
    assert_int_equal(m->n_slots, 5);
    const int32_t negative[] = {3, -1};
    ASSERT_FAILS(lcl_batch_append_tokens(s.a, negative, NULL, 2), LCL_RANGE, "id -1");
    ASSERT_FAILS(lcl_batch_append_tokens(s.a, negative, NULL, 0), LCL_RANGE, "0 tokens");
    tear_down(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_one_query),
        cmocka_unit_test(test_ids_are_the_text),
        cmocka_unit_test(test_repeats),
        cmocka_unit_test(test_supervise_all_and_wrong_labels),
        cmocka_unit_test(test_shared_prefix_equals_separate),
        cmocka_unit_test(test_prompt_and_candidates),
        cmocka_unit_test(test_no_shots),
        cmocka_unit_test(test_other_support_labels),
        cmocka_unit_test(test_many_in_one_batch),
        cmocka_unit_test(test_sentencepiece),
        cmocka_unit_test(test_bad_input),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
