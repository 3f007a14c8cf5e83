/* Language pretraining: what its sequences promise. */
#include "data/language.h"
#include "tests/data/fake_pack.h"

enum { VOCAB = 320, SEQUENCES = 400 };

struct setup {
    struct lcl_config config;
    struct lcl_tokenizer *tokenizer;
    struct lcl_batch_builder *builder;
    struct lcl_language *language;
};

static void set_up(struct setup *s, enum lcl_layout layout, double recall_fraction)
{
    memset(s, 0, sizeof *s);
    lcl_config_defaults(&s->config);
    s->config.data_layout = layout;
    s->config.language_recall_fraction = recall_fraction;
    const char *const *texts;
    size_t n = lcl_template_texts(layout, &texts);
    ASSERT_OK(lcl_tokenizer_train(texts, n, VOCAB, &s->tokenizer));
    ASSERT_OK(lcl_batch_builder_create(s->tokenizer, layout, 3, &s->builder));
    ASSERT_OK(lcl_language_create(&s->config, s->tokenizer, VOCAB, &s->language));
}

static void tear_down(struct setup *s)
{
    lcl_language_free(s->language);
    lcl_batch_builder_free(s->builder);
    lcl_tokenizer_free(s->tokenizer);
}

static const struct lcl_batch *draw(struct setup *s, uint32_t epoch, uint64_t sample)
{
    lcl_batch_builder_reset(s->builder);
    ASSERT_OK(lcl_language_append(s->language, epoch, sample, s->builder));
    return lcl_batch_builder_get(s->builder);
}

static void test_repeats(void **state)
{
    (void)state;
    struct setup s;
    set_up(&s, LCL_LAYOUT_PLAIN, 0);
    for (uint64_t sample = 0; sample < SEQUENCES; sample++) {
        const struct lcl_batch *m = draw(&s, 0, sample);
        assert_int_equal(m->T, s.config.language_length);
        int64_t segment = m->T - m->S - 1;
        assert_in_range(segment, s.config.language_min_segment, s.config.language_max_segment);
        for (int64_t t = 0; t < m->T; t++) {
            assert_in_range(m->id_T[t], 5, VOCAB - 1);
            if (t >= segment) assert_int_equal(m->id_T[t], m->id_T[t - segment]);
        }
        for (int64_t k = 0; k < m->S; k++) {
            assert_int_equal(m->row_S[k], segment + k);
            assert_int_equal(m->is_label_S[k], 0);
        }
    }
    tear_down(&s);
}

/* A recall sequence as a reader would take it apart, from its text alone. */
struct turn {
    int64_t key_at, label_at, label_end, end;
    char label[LCL_LABEL_BYTES];
};

static int64_t tokens_of(const struct setup *s, const char *text, enum lcl_text_place place)
{
    struct lcl_ids ids = {0};
    ASSERT_OK(lcl_tokenizer_encode_at(s->tokenizer, text, strlen(text), place, &ids));
    int64_t n = ids.n;
    lcl_ids_free(&ids);
    return n;
}

static int take_apart(const struct setup *s, const struct lcl_batch *m, struct turn *turns)
{
    int64_t before = tokens_of(s, "USER: what is in the image? <image>", LCL_TEXT_NEW) - 1;
    int64_t begin = strcmp(lcl_tokenizer_token(s->tokenizer, m->id_T[0]), "<s>") == 0;
    int n = 0;
    for (int64_t t = 0; t < m->T; t++) {
        if (m->id_T[t] != lcl_tokenizer_eos(s->tokenizer)) continue;
        struct turn *u = &turns[n++];
        *u = (struct turn){.key_at = begin + before, .end = t + 1};
        for (int64_t i = u->key_at + 1; i < t && !u->label_end; i++) {
            const char *token = lcl_tokenizer_token(s->tokenizer, m->id_T[i]);
            bool letter = token[0] >= 'a' && token[0] <= 'z' && !token[1];
            if (letter && !u->label_at) u->label_at = i;
            if (letter) strncat(u->label, token, 1);
            if (!letter && u->label_at) u->label_end = i;
        }
        assert_true(u->label_end > u->label_at && u->label_at > u->key_at);
        begin = t + 1;
    }
    return n;
}

static int64_t targets_between(const struct lcl_batch *m, int64_t begin, int64_t end, int is_label)
{
    int64_t n = 0;
    for (int64_t k = 0; k < m->S; k++)
        n += m->row_S[k] + 1 >= begin && m->row_S[k] + 1 < end && m->is_label_S[k] == is_label;
    return n;
}

/* One key has one label; the gap between them is the same in all turns; a label is a target,
 * counted by accuracy, from its key's second turn on. */
static void test_recall(void **state)
{
    (void)state;
    struct setup s;
    set_up(&s, LCL_LAYOUT_PLAIN, 1);
    int64_t longest = 0, most_turns = 0, of_gap[16] = {0};
    for (uint64_t sample = 0; sample < SEQUENCES; sample++) {
        const struct lcl_batch *m = draw(&s, 2, sample);
        struct turn turns[32];
        int n = take_apart(&s, m, turns), n_keys = 0;
        int64_t gap = turns[0].label_at - turns[0].key_at - 1, targets = 0;
        for (int i = 0; i < n; i++) {
            assert_int_equal(turns[i].label_at - turns[i].key_at - 1, gap);
            int first = 0;
            while (m->id_T[turns[first].key_at] != m->id_T[turns[i].key_at]) first++;
            assert_string_equal(turns[first].label, turns[i].label);
            for (int k = 0; k < i; k++)
                assert_int_equal(m->id_T[turns[k].key_at] == m->id_T[turns[i].key_at],
                                 strcmp(turns[k].label, turns[i].label) == 0);
            bool seen = first < i;
            n_keys += !seen;
            int64_t letters = turns[i].label_end - turns[i].label_at;
            int64_t tail = turns[i].end - turns[i].label_end;
            assert_int_equal(targets_between(m, turns[i].label_at, turns[i].label_end, 1),
                             seen ? letters : 0);
            assert_int_equal(targets_between(m, turns[i].label_end, turns[i].end, 0),
                             seen ? tail : 0);
            targets += seen ? letters + tail : 0;
        }
        assert_int_equal(targets, m->S);
        assert_in_range(n_keys, 2, s.config.language_recall_ways);
        assert_in_range(n, n_keys + 1, s.config.language_recall_shots + 1);
        assert_in_range(gap, 0, 15);
        of_gap[gap]++;
        if (gap > longest) longest = gap;
        if (n > most_turns) most_turns = n;
    }
    assert_int_equal(most_turns, s.config.language_recall_shots + 1);
    /* The longest gap is the layout's own; each is equally likely. */
    assert_int_equal(longest, tokens_of(&s, " ASSISTANT: there is \"", LCL_TEXT_CONTINUED));
    for (int64_t g = 0; g <= longest; g++)
        assert_in_range(of_gap[g] * (longest + 1), SEQUENCES / 2, 2 * SEQUENCES);
    tear_down(&s);
}

/* language.recall_gap bounds the words between a token and its label. */
static void test_recall_gap(void **state)
{
    (void)state;
    struct setup s;
    set_up(&s, LCL_LAYOUT_PLAIN, 1);
    s.config.language_recall_gap = 1;
    int64_t of_gap[2] = {0};
    for (uint64_t sample = 0; sample < SEQUENCES; sample++) {
        const struct lcl_batch *m = draw(&s, 0, sample);
        struct turn turns[32];
        assert_true(take_apart(&s, m, turns) > 2);
        int64_t gap = turns[0].label_at - turns[0].key_at - 1;
        assert_in_range(gap, 0, 1);
        of_gap[gap]++;
    }
    assert_in_range(of_gap[0], 2 * SEQUENCES / 5, 3 * SEQUENCES / 5);
    tear_down(&s);
}

/* A sequence depends on (seed, epoch, sample) alone, and on each of them. */
static void test_is_a_function_of_its_number(void **state)
{
    (void)state;
    struct setup s;
    set_up(&s, LCL_LAYOUT_VICUNA, 0.5);
    int64_t n_recall = 0;
    for (uint64_t sample = 0; sample < SEQUENCES; sample++) {
        const struct lcl_batch *m = draw(&s, 1, sample);
        int64_t n = m->T;
        int32_t *kept = malloc((size_t)n * sizeof *kept);
        memcpy(kept, m->id_T, (size_t)n * sizeof *kept);
        n_recall += m->S > 0 && (m->is_label_S[0] || m->is_label_S[m->S / 2]);
        m = draw(&s, 2, sample);
        assert_false(m->T == n && memcmp(kept, m->id_T, (size_t)n * sizeof *kept) == 0);
        m = draw(&s, 1, sample);
        assert_int_equal(m->T, n);
        assert_memory_equal(kept, m->id_T, (size_t)n * sizeof *kept);
        free(kept);
    }
    assert_in_range(n_recall, 2 * SEQUENCES / 5, 3 * SEQUENCES / 5);
    tear_down(&s);
}

static void test_refuses_a_vocabulary_too_small(void **state)
{
    (void)state;
    struct setup s;
    set_up(&s, LCL_LAYOUT_PLAIN, 1);
    struct lcl_language *l;
    ASSERT_FAILS(lcl_language_create(&s.config, s.tokenizer, 5, &l), LCL_CONFIG,
                 "a vocabulary of 5 tokens");
    assert_null(l);
    s.config.language_recall_ways = 64;
    ASSERT_FAILS(lcl_language_create(&s.config, s.tokenizer, 60, &l), LCL_CONFIG,
                 "language.recall_ways 64 needs as many");
    assert_null(l);
    tear_down(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_repeats),
        cmocka_unit_test(test_recall),
        cmocka_unit_test(test_recall_gap),
        cmocka_unit_test(test_is_a_function_of_its_number),
        cmocka_unit_test(test_refuses_a_vocabulary_too_small),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
