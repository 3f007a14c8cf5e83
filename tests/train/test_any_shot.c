/* Any-shot tuning from end to end: classes, attributes and rows in one run that is stopped and goes
 * on, evaluations of 0 to 8 shots, and that rows of one instruction stand together. */
#include <math.h>
#include <signal.h>
#include <sys/stat.h>

#include "core/fs.h"
#include "core/log.h"
#include "tests/support/kills.h"
#include "tests/support/support.h"
#include "tests/support/tiny.h"
#include "tests/support/tiny_run.h"
#include "train/loop.h"
#include "train/plan.h"

enum { ROWS = 24 };

/* Rows of three instructions: 8 "How many ...", 8 "What color ...", 8 captions. */
static const char *rows_pack(void)
{
    static const char *pack;
    char table[8192];
    size_t used = 0;
    if (pack) return pack;
    for (int i = 0; i < ROWS; i++) {
        static const char *const asked[] = {"<image>\\nHow many things, number %d?",
                                            "What color has thing %d? <image>",
                                            "Describe thing %d.\\n<image>"};
        char question[80];
        snprintf(question, sizeof question, asked[i % 3], i);
        used += (size_t)snprintf(
            table + used, sizeof table - used,
            "{\"image\": \"%s.png\", \"conversations\": [{\"from\": \"human\", \"value\": \"%s\"}, "
            "{\"from\": \"gpt\", \"value\": \"%s %d\"}]}\n",
            i % 2 ? "a" : "b", question, i % 3 == 2 ? "a thing on a ground, number" : "x", i);
    }
    return pack = tiny_rows_pack("asked.h5", table);
}

static const char *tasks(void)
{
    return tiny_file("tasks.json",
                     "{\"format\": \"lcl-tasks-1\", \"attributes\": {\"number\": {\"values\": "
                     "{\"*/[0-2].png\": \"early\", \"*\": \"late\"}}}}");
}

static void config(struct lcl_config *c, const char *overrides)
{
    char all[1024];
    snprintf(all, sizeof all,
             "data.strategy=any-shot data.sources=episodes,%s data.task_file=%s %s", rows_pack(),
             tasks(), overrides);
    tiny_config(c, all);
}

static void rows_of_one_instruction_stand_together(void **state)
{
    (void)state;
    static const enum lcl_coherence modes[] = {LCL_COHERENT_CONCEPT, LCL_COHERENT_TASK};
    struct lcl_config c;
    struct lcl_env e = {0};
    config(&c, "data.tasks=rows data.turns=12 data.formats=plain,upper");
    ASSERT_OK(lcl_env_open_data(&e, &c));
    ASSERT_OK(lcl_env_open_sources(&e, &c));
    for (int m = 0; m < 2; m++) {
        struct lcl_any_shot s;
        int mixed = 0, longest = 0;
        c.data_coherence = modes[m];
        ASSERT_OK(lcl_row_sources_any_shot(&e.sources, &c, &e.pack, NULL, LCL_SPLIT_TRAIN, 0, &s));
        for (uint64_t k = 0; k < 500; k++) {
            struct lcl_any_turns t;
            bool seen[ROWS] = {false};
            ASSERT_OK(lcl_any_shot_draw(&s, 0, k, 0, &t));
            if (t.n > longest) longest = t.n;
            for (int i = 0; i < t.n; i++) {
                mixed += t.turn[i].row % 3 != t.turn[0].row % 3;
                assert_false(seen[t.turn[i].row]);
                seen[t.turn[i].row] = true;
                assert_in_range(t.conversation.image[i], e.pack.n_images, e.pack.n_images + 1);
                const char *said = t.conversation.messages[2 * i + 1].text;
                if (t.turn[i].row % 3 < 2)
                    assert_int_equal(*said, t.format == LCL_ANSWER_UPPER ? 'X' : 'x');
            }
            lcl_any_turns_free(&t);
        }
        assert_int_equal(longest, m ? 12 : 8); /* as long as an instruction has rows */
        assert_true(m ? mixed > 500 : mixed == 0);
        lcl_any_shot_close(&s);
    }
    lcl_env_close(&e);
}

/* Every answer is learned to its end token, of conversations and of rows that are replayed. */
static void every_answer_is_supervised(void **state)
{
    (void)state;
    struct lcl_config c;
    struct lcl_env e;
    struct tiny_lane l;
    config(&c, "data.tasks=classes,attributes,rows data.turns=5 data.made_up_fraction=0.5 lanes=1 "
               "data.formats=plain,suffix per_device_train_batch_size=8");
    tiny_env_open(&e, &c);
    tiny_lane_open(&l, &e, &c);
    int64_t answers = 0, labels = 0, eos = lcl_tokenizer_eos(e.tokenizer);
    for (int64_t step = 0; step < 50; step++) {
        int64_t ends = 0, supervised = 0;
        ASSERT_OK(lcl_lane_fill(&l.lane, &l.source, step, 50, 0));
        const struct lcl_batch *b = l.lane.batch;
        for (int64_t t = 0; t < b->T; t++) ends += b->id_T[t] == eos;
        for (int64_t i = 0; i < b->S; i++) supervised += b->target_S[i] == eos;
        for (int64_t i = 0; i < b->S; i++) labels += b->is_label_S[i];
        for (int64_t i = 0; i < b->S; i++) assert_false(b->is_label_S[i] && b->target_S[i] == eos);
        assert_int_equal(ends, supervised);
        answers += ends;
    }
    assert_true(answers > 50 * 8);
    assert_true(labels > 200 && labels < answers * 12);
    assert_int_equal(l.source.n_shortened + l.source.n_left_out, 0);
    tiny_lane_close(&l);
    c.model_max_length = 90; /* whole turns are left out where the rule is not to refuse */
    c.data_too_long = LCL_LONG_DROP;
    tiny_lane_open(&l, &e, &c);
    for (int64_t step = 0; step < 50; step++) {
        ASSERT_OK(lcl_lane_fill(&l.lane, &l.source, step, 50, 0));
        for (int64_t r = 0; r < l.lane.batch->n_runs; r++)
            assert_true(l.lane.batch->runs[r].q_end - l.lane.batch->runs[r].q_begin <= 90);
    }
    assert_true(l.source.n_shortened > 20);
    tiny_lane_close(&l);
    lcl_env_close(&e);
}

/* Stopped near its end, it ends as the run that was not; then it is evaluated. */
static void a_run_goes_on(void **state)
{
    (void)state;
    static struct kills k;
    char keys[1600], dir[300];
    snprintf(keys, sizeof keys,
             "data.sources: episodes=3,%s\ndata.strategy: any-shot\ndata.task_file: %s\n"
             "data.tasks: classes,attributes,rows\ndata.turns: 4\ndata.zero_shot_fraction: 0.2\n"
             "data.coherence: concept\neval.task: attributes\n",
             rows_pack(), tasks());
    kills_set_up(&k, keys);
    snprintf(dir, sizeof dir, "%s/any-shot", temp_dir());
    assert_int_equal(kills_run(&k, dir, (long)(0.8 * (double)k.n_calls), SIGTERM, NULL), 0);
    assert_non_null(strstr(k.output, "stopped by signal 15"));
    assert_int_equal(kills_run(&k, dir, -1, 0, NULL), 0);
    kills_assert_same(&k, dir);
}

/* What a later stage names wrongly is refused before the first step. */
static void sources_are_refused_before_the_run(void **state)
{
    (void)state;
    char yaml[2048], dir[300];
    bool interrupted = false;
    struct lcl_run_config *run = malloc(sizeof *run);
    assert_non_null(run);
    snprintf(dir, sizeof dir, "%s/refused", temp_dir());
    tiny_file("base.yaml", tiny_yaml());
    snprintf(yaml, sizeof yaml,
             "base: base.yaml\noutput_dir: %s\ndata.sources: \"episodes,2-way=1\"\nstages:\n"
             "  - {name: link, max_steps: 1}\n"
             "  - {name: turns, max_steps: 1, data.strategy: any-shot}\n",
             dir);
    ASSERT_OK(lcl_config_load(tiny_file("refused.yaml", yaml), NULL, 0, run));
    ASSERT_FAILS(lcl_train_run(run, &(struct lcl_train_options){0}, &interrupted), LCL_CONFIG,
                 "\"2-way\": data.strategy: any-shot draws");
    snprintf(dir, sizeof dir, "%s/refused/metrics.jsonl", temp_dir());
    assert_false(lcl_fs_exists(dir));
    free(run);
}

static struct lcl_eval_outcome evaluate(const char *overrides, int64_t shots)
{
    struct lcl_config c;
    struct lcl_eval_request q = {
        .shots = shots, .episodes = 40, .greedy = true, .likelihood = true, .n_views = 3};
    config(&c, overrides);
    return tiny_evaluate(&c, &q);
}

/* On threads from a cache, and one by one by the tower: the same answers of every task. */
static void evaluations_of_every_task(void **state)
{
    (void)state;
    static const char *const of[] = {"classes", "attributes", "rows"};
    for (int i = 0; i < 3; i++)
        for (int64_t shots = 0; shots <= 8; shots += 4) {
            char sets[200], tower[260];
            snprintf(sets, sizeof sets, "eval.task=%s eval.format=upper threads=3", of[i]);
            snprintf(tower, sizeof tower, "eval.task=%s eval.format=upper cache_features=false",
                     of[i]);
            struct lcl_eval_outcome a = evaluate(sets, shots), b = evaluate(tower, shots);
            assert_memory_equal(&a.greedy, &b.greedy, sizeof a.greedy);
            if (i < 2) assert_memory_equal(&a.likelihood, &b.likelihood, sizeof a.likelihood);
            assert_int_equal(isnan(a.likelihood.mean), i == 2);
            if (i < 2) assert_true(a.likelihood.mean > 0.1 && a.likelihood.mean < 0.9);
            assert_int_equal(a.n_views, 3);
            assert_true(a.views[0].n_support <= shots);
            if (i < 2) assert_int_equal(a.views[0].n_support, shots);
            assert_true(strlen(a.views[0].expected) > 0);
            lcl_eval_outcome_free(&a);
            lcl_eval_outcome_free(&b);
        }
}

/* Without a pack, a plan takes the longest conversation that the config allows: turns and what is
 * supervised in all of them. */
static void plans_count_turns(void **state)
{
    (void)state;
    struct lcl_config c;
    struct lcl_env e = {0};
    struct lcl_plan p[2];
    config(&c, "data.ways=3 data.shots=2");
    ASSERT_OK(lcl_env_start(&e, &c));
    ASSERT_OK(lcl_env_shape_model(&e, &c, false));
    for (int i = 0; i < 2; i++) {
        c.data_turns = i ? 8 : 2;
        ASSERT_OK(lcl_plan_stage(&e, &c, 0, 1, &p[i]));
    }
    assert_true(p[1].tokens > 3.9 * p[0].tokens && p[1].tokens < 4.1 * p[0].tokens);
    assert_true(p[1].activations > 2 * p[0].activations);
    lcl_env_close(&e);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(rows_of_one_instruction_stand_together),
                                       cmocka_unit_test(every_answer_is_supervised),
                                       cmocka_unit_test(a_run_goes_on),
                                       cmocka_unit_test(sources_are_refused_before_the_run),
                                       cmocka_unit_test(evaluations_of_every_task),
                                       cmocka_unit_test(plans_count_turns)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
