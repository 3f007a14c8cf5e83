/* Evaluations: the same answers however they are computed, and views that agree with the numbers.
 */
#include "tests/support/support.h"

#include <math.h>

#include "core/log.h"
#include "tests/support/tiny.h"
#include "tests/support/tiny_run.h"

static void assert_near(double wanted, double got, double relative)
{
    if (!(fabs(wanted - got) <= relative * fabs(wanted)))
        fail_msg("%.9g instead of %.9g", got, wanted);
}

static struct lcl_eval_outcome evaluate(const char *overrides)
{
    struct lcl_config c;
    struct lcl_eval_request q = {
        .shots = 4, .episodes = 40, .queries = 2, .greedy = true, .likelihood = true, .n_views = 3};
    tiny_config(&c, overrides);
    return tiny_evaluate(&c, &q);
}

static void evaluation_is_the_same_on_threads_and_from_a_cache(void **state)
{
    (void)state;
    struct lcl_eval_outcome a = evaluate("threads=3"),
                            b = evaluate("threads=1 cache_features=false");
    assert_int_equal(a.n_queries, 80);
    assert_int_equal(b.n_queries, 80);
    assert_memory_equal(&a.likelihood, &b.likelihood, sizeof a.likelihood);
    assert_memory_equal(&a.greedy, &b.greedy, sizeof a.greedy);
    assert_true(a.unparsed == b.unparsed && a.official == b.official);
    assert_true(a.likelihood.mean > 0 && a.likelihood.mean < 1);
    assert_int_equal(a.n_views, 3);
    for (int i = 0; i < 3; i++) {
        const struct lcl_episode_view *v = &a.views[i], *w = &b.views[i];
        assert_int_equal(v->n_support, 4);
        assert_int_equal(v->query.image, w->query.image);
        assert_string_equal(v->expected, w->expected);
        assert_string_equal(v->answer, w->answer);
        assert_near(v->logprob[0], w->logprob[0], 1e-5);
        assert_near(v->logprob[1], w->logprob[1], 1e-5);
        for (int s = 0; s < 4; s++) /* the query is none of the support's pictures */
            assert_true(v->support[s].image != v->query.image);
    }
    lcl_eval_outcome_free(&a);
    lcl_eval_outcome_free(&b);
}

static void views_without_answers_tell_by_likelihood(void **state)
{
    (void)state;
    struct lcl_config c;
    struct lcl_env e;
    struct lcl_eval_outcome o;
    struct lcl_eval_request q = {.shots = 2, .episodes = 8, .likelihood = true, .n_views = 8};
    int correct = 0;
    tiny_config(&c, "");
    tiny_env_open(&e, &c);
    ASSERT_OK(lcl_eval_run(&e, &c, NULL, &q, &o));
    for (int i = 0; i < 8; i++) {
        const struct lcl_episode_view *v = &o.views[i];
        assert_int_equal(v->n_support, 2);
        assert_null(v->answer);
        assert_true(strlen(v->expected) > 0 && strlen(v->query.class_name) > 0);
        assert_int_equal(v->correct, v->logprob[0] > v->logprob[1]);
        correct += v->correct;
    }
    assert_near(correct / 8.0, o.likelihood.mean, 1e-12);
    lcl_eval_outcome_free(&o);
    lcl_env_close(&e);
}

static int quiet(void **state)
{
    (void)state;
    lcl_log_set_level(LCL_LOG_QUIET);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(evaluation_is_the_same_on_threads_and_from_a_cache),
        cmocka_unit_test(views_without_answers_tell_by_likelihood),
    };
    return cmocka_run_group_tests(tests, quiet, NULL);
}
