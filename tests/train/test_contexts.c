/* Contexts that are read once: as often as is said, and with the answers of a whole batch. */
#include <math.h>

#include "core/threads.h"
#include "tests/support/support.h"
#include "tests/support/tiny.h"
#include "tests/support/tiny_run.h"
#include "train/answer.h"

enum { QUERIES = 150 }; /* several batches */

struct world {
    struct lcl_config config;
    struct lcl_env env;
    struct lcl_gallery gallery;
    struct lcl_answerer answerer;
    struct lcl_support support;
    int64_t query[QUERIES];
};

/* Two classes of three pictures each, then queries out of other classes' pictures, `first` on. */
static void show(struct world *w, int64_t first)
{
    static const char *const labels[] = {"dax", "wug"};
    lcl_gallery_cut(&w->gallery, 0);
    lcl_support_free(&w->support);
    for (int c = 0; c < 2; c++) {
        for (int i = 0; i < 3; i++) {
            const int64_t image = w->env.pack.classes[first + c].images[i];
            ASSERT_OK(lcl_support_add(&w->support, labels[c], "from the pack", 0));
            ASSERT_OK(lcl_gallery_add_packed(&w->gallery, &w->env.pack, &image, 1,
                                             &w->support.classes[c].image[i]));
        }
    }
    for (int64_t q = 0; q < QUERIES; q++) {
        const int64_t image = (7 * q + first) % w->env.pack.n_images;
        ASSERT_OK(lcl_gallery_add_packed(&w->gallery, &w->env.pack, &image, 1, &w->query[q]));
    }
}

static void open_world(struct world *w, const char *overrides)
{
    *w = (struct world){0};
    tiny_config(&w->config, overrides);
    tiny_env_open(&w->env, &w->config);
    ASSERT_OK(lcl_gallery_open(&w->gallery, &w->env));
    ASSERT_OK(lcl_answerer_open(&w->answerer, &w->gallery, &w->config));
    show(w, 0);
}

static void close_world(struct world *w)
{
    lcl_answerer_close(&w->answerer);
    lcl_gallery_close(&w->gallery);
    lcl_support_free(&w->support);
    lcl_env_close(&w->env);
}

static struct lcl_episode *episode(const struct world *w, int64_t per_class, int64_t n)
{
    const int way[] = {0, 1};
    struct lcl_episode *e = calloc(1, sizeof *e);
    assert_non_null(e);
    ASSERT_OK(lcl_support_episode(&w->support, way, 2, per_class, NULL, w->query, n, e));
    return e;
}

static void free_episode(struct lcl_episode *e)
{
    lcl_episode_free(e);
    free(e);
}

/* logprob [n_queries, 2] in one batch, without a cache; gives its context's tokens. */
static int64_t in_one_batch(struct world *w, const struct lcl_episode *e, double *logprob)
{
    struct lcl_batch_builder *builder;
    struct lcl_pass p = {.exec = &w->env.exec, .model = &w->env.model};
    const int64_t row = w->gallery.row;
    double loss;
    ASSERT_OK(lcl_batch_builder_for(&w->config, w->env.tokenizer,
                                    lcl_tokens_per_image(&w->env.model.config), &builder));
    ASSERT_OK(
        lcl_batch_append_episode(builder, e, LCL_ENCODE_CANDIDATES, LCL_SUPERVISE_LAST, NULL, 0));
    const struct lcl_batch *b = lcl_batch_builder_get(builder);
    const struct lcl_branch *branch = lcl_batch_builder_branches(builder);
    float *features = malloc((size_t)(b->n_images * row) * sizeof *features);
    assert_non_null(features);
    for (int64_t i = 0; i < b->n_images; i++)
        memcpy(features + i * row, w->gallery.rows + (-1 - b->image_I[i]) * row,
               (size_t)row * sizeof *features);
    ASSERT_OK(lcl_model_loss(&p, b, &(struct lcl_images){.features = features}, &loss, NULL));
    for (int64_t r = 0, s = 0; r < b->n_runs; r++) {
        double sum = 0;
        for (; s < b->S && b->row_S[s] < b->runs[r].q_end; s++) sum += (double)p.row_logprob[s];
        if (branch[r].query >= 0) logprob[2 * branch[r].query + branch[r].way] = sum;
    }
    const int64_t context = b->runs[0].q_end;
    assert_int_equal(branch[0].query, -1);
    free(features);
    lcl_pass_free(&p);
    lcl_batch_builder_free(builder);
    return context;
}

static void assert_near(const double *a, const double *b, int64_t n, double tolerance)
{
    for (int64_t i = 0; i < n; i++)
        if (!(fabs(a[i] - b[i]) <= tolerance * fabs(a[i])))
            fail_msg("%lld: %.9g instead of %.9g", (long long)i, b[i], a[i]);
}

/* Whatever is asked about it: scores of three batches, then words of three. */
static void a_support_set_is_read_once(void **state)
{
    (void)state;
    struct world w;
    double want[2 * QUERIES], got[2 * QUERIES];
    char *text[QUERIES];
    open_world(&w, "");
    struct lcl_episode *e = episode(&w, 3, QUERIES);
    const int64_t context = in_one_batch(&w, e, want);
    ASSERT_OK(lcl_answer_likelihood(&w.answerer, e, got));
    assert_near(want, got, 2 * QUERIES, 1e-5);
    ASSERT_OK(lcl_answer(&w.answerer, e, &(struct lcl_answer_how){0}, text));
    assert_int_equal(w.answerer.generator.contexts.tokens_read, context);
    for (int q = 0; q < QUERIES; q++) { /* a batch of one query, after another context */
        struct lcl_episode *alone = episode(&w, 3, 1), *other = episode(&w, 1, 1);
        char *said, *else_said;
        alone->queries[0] = e->queries[q];
        if (q % 50 == 0) {
            ASSERT_OK(lcl_answer(&w.answerer, other, &(struct lcl_answer_how){0}, &else_said));
            ASSERT_OK(lcl_answer(&w.answerer, alone, &(struct lcl_answer_how){0}, &said));
            assert_string_equal(text[q], said);
            free(said);
            free(else_said);
        }
        free_episode(alone);
        free_episode(other);
        free(text[q]);
    }
    free_episode(e);
    close_world(&w);
}

/* Shot counts in turn, as an evaluation asks them of each batch of questions. */
static void several_are_kept_where_there_is_room(void **state)
{
    (void)state;
    for (int room = 0; room < 2; room++) {
        struct world w;
        int64_t read[4] = {0};
        double score[2][2 * QUERIES];
        open_world(&w, "");
        struct lcl_contexts *c = &w.answerer.generator.contexts;
        c->most_rows = room ? 4096 : 0;
        for (int turn = 0; turn < 2; turn++)
            for (int64_t shots = 1; shots <= 3; shots++) {
                struct lcl_episode *e = episode(&w, shots, 70);
                int64_t before = c->tokens_read;
                ASSERT_OK(lcl_answer_likelihood(&w.answerer, e, score[turn]));
                if (turn == 0) read[shots] = c->tokens_read - before;
                assert_int_equal(c->tokens_read - before, turn && room ? 0 : read[shots]);
                free_episode(e);
            }
        assert_memory_equal(score[0], score[1], 140 * sizeof(double)); /* of three shots */
        assert_true(read[1] > 0 && read[3] > read[2] && read[2] > read[1]);
        assert_int_equal(c->n, room ? 3 : 1);
        lcl_contexts_clear(c);
        assert_int_equal(c->rows, 0);
        close_world(&w);
    }
}

/* Pictures in the places of others are other pictures. */
static void other_pictures_are_another_context(void **state)
{
    (void)state;
    struct world w;
    double want[40], got[40], before[40];
    open_world(&w, "");
    for (int64_t first = 0; first < 3; first += 2) {
        show(&w, first);
        struct lcl_episode *e = episode(&w, 2, 20);
        (void)in_one_batch(&w, e, want);
        ASSERT_OK(lcl_answer_likelihood(&w.answerer, e, got));
        assert_near(want, got, 40, 1e-5);
        if (first) assert_memory_not_equal(before, got, sizeof got);
        memcpy(before, got, sizeof got);
        free_episode(e);
    }
    assert_int_equal(w.answerer.generator.contexts.n, 1);
    close_world(&w);
}

/* Candidate answers go on from the question, which is read once; alone there is nothing to share.
 */
static void candidates_share_their_question(void **state)
{
    (void)state;
    enum { N = 70 };
    struct world w;
    char label[N][24];
    struct lcl_message m[N][2];
    struct lcl_conversation c[N];
    double all[N], one;
    bool learned[2] = {false, true};
    open_world(&w, "");
    int64_t image[] = {-1 - w.query[0], -1 - w.query[1]};
    struct lcl_contexts *kept = &w.answerer.generator.contexts;
    for (int i = 0; i < N; i++) {
        snprintf(label[i], sizeof label[i], "%s%d", i % 2 ? "da" : "dax of ", i);
        m[i][0] = (struct lcl_message){LCL_ROLE_USER, "<image>\n<image>\nwhat is in the images?"};
        m[i][1] = (struct lcl_message){LCL_ROLE_ASSISTANT, label[i]};
        c[i] = (struct lcl_conversation){.name = label[i],
                                         .n_messages = 2,
                                         .messages = m[i],
                                         .learned = learned,
                                         .n_images = 2,
                                         .image = image};
    }
    ASSERT_OK(lcl_answer_conversations(&w.answerer, c, N, all));
    const int64_t question = kept->tokens_read;
    assert_int_equal(kept->n, 1);
    assert_int_equal(kept->v[0].n, question); /* once for two batches */
    assert_int_equal(kept->v[0].n_pictures, 2);
    for (int i = 0; i < N; i++) {
        ASSERT_OK(lcl_answer_conversations(&w.answerer, &c[i], 1, &one));
        assert_near(&one, &all[i], 1, 1e-5);
    }
    assert_int_equal(kept->tokens_read, question);
    close_world(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_support_set_is_read_once),
        cmocka_unit_test(several_are_kept_where_there_is_room),
        cmocka_unit_test(other_pictures_are_another_context),
        cmocka_unit_test(candidates_share_their_question),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
