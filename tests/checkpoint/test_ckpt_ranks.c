/* Checkpoints that any number of ranks writes, in the background or not, and any number reads. */
#include "tests/support/support.h"

#include "checkpoint/ckpt.h"

#include <signal.h>
#include <sys/resource.h>

#include "core/fs.h"
#include "core/h5.h"
#include "tests/support/ckpt_ranks.h"
#include "tests/support/fake_ranks.h"

/* Where in dir/checkpoint-STEP its datasets lie and what their checksums are; malloc'd. */
static char *describe(const char *dir, int step)
{
    char path[500], *text;
    size_t size;
    snprintf(path, sizeof path, "%s/checkpoint-%d/manifest.json", dir, step);
    ASSERT_OK(lcl_fs_read(path, 1 << 20, &text, &size));
    char *from = strstr(text, "\"datasets\""), *end = strstr(text, "\n }");
    for (char *next = end; next; next = strstr(next + 1, "\n }")) end = next;
    assert_true(from && end > from);
    char *out = lcl_strdupf("%.*s", (int)(end - from), from);
    free(text);
    return out;
}

/* ---- writing ---- */

static void check_file(const char *dir, int step)
{
    char path[500], found[512];
    struct lcl_h5 f;
    snprintf(path, sizeof path, "%s/checkpoint-%d/state.h5", dir, step);
    ASSERT_OK(lcl_h5_open(path, false, &f));
    ASSERT_OK(lcl_h5_verify_all(&f)); /* by HDF5's reads */
    lcl_h5_discard(&f);
    ASSERT_OK(lcl_checkpoint_find(dir, found, sizeof found)); /* the manifest's sum over the file */
    snprintf(path, sizeof path, "checkpoint-%d", step);
    assert_non_null(strstr(found, path));
}

static void any_number_writes_the_same(void **state)
{
    (void)state;
    static const int sizes[] = {1, 3, 8};
    for (int kind = 0; kind < CKPT_KINDS; kind++) {
        char dir[400], *wanted = NULL;
        struct ckpt_table t;
        snprintf(dir, sizeof dir, "%s/write-%d", temp_dir(), kind);
        ASSERT_OK(ckpt_table_make(&t, kind));
        ckpt_table_fill(&t, 100);
        for (int i = 0; i < 6; i++) {
            struct ckpt_task k = {
                .dir = dir, .step = i, .kind = kind, .async = i % 2, .shared = i > 1, .table = &t};
            fake_ranks(sizes[i / 2], ckpt_save, &k);
            check_file(dir, i);
            char *got = describe(dir, i);
            if (!wanted) wanted = lcl_strdupf("%s", got);
            if (strcmp(got, wanted) != 0)
                fail_msg("kind %d, %d ranks, async %d: %s\nnot %s", kind, sizes[i / 2], i % 2, got,
                         wanted);
            free(got);
        }
        free(wanted);
        ckpt_table_free(&t);
    }
}

/* ---- reading ---- */

static void any_number_reads(void **state)
{
    (void)state;
    for (int kind = 0; kind < CKPT_KINDS; kind++) {
        char dir[400];
        struct ckpt_table t;
        snprintf(dir, sizeof dir, "%s/read-%d", temp_dir(), kind);
        ASSERT_OK(ckpt_table_make(&t, kind));
        ckpt_table_fill(&t, 200);
        struct ckpt_task k = {.dir = dir, .step = 7, .kind = kind, .table = &t};
        fake_ranks(3, ckpt_save, &k);
        static const int sizes[] = {1, 2, 7};
        for (int i = 0; i < 6; i++) {
            k.shared = i % 2;
            k.values = k.shared && i > 1;
            fake_ranks(sizes[i / 2], ckpt_load, &k);
        }
        ckpt_table_free(&t);
    }
}

/* Damage is found by all ranks, also where no rank reads the dataset as a whole. */
static lcl_status load_damaged(struct lcl_comm *c, void *ctx)
{
    const struct ckpt_task *k = ctx;
    const struct lcl_checkpoint_share share = {c, k->values};
    struct lcl_run_state_loaded s;
    struct ckpt_table t;
    char path[500];
    snprintf(path, sizeof path, "%s/checkpoint-%d", k->dir, k->step);
    LCL_TRY(ckpt_table_make(&t, k->kind));
    FAKE_CHECK(lcl_checkpoint_load_shared(path, &t.params, true, &share, &s) == LCL_CORRUPT);
    FAKE_CHECK(strstr(lcl_error_message(), "/params/d.weight: checksum"));
    FAKE_CHECK(!s.config_yaml);
    ckpt_table_free(&t);
    return LCL_OK;
}

static void damage_is_found_by_all(void **state)
{
    (void)state;
    char dir[400], path[500], *data;
    size_t size;
    struct ckpt_table t;
    snprintf(dir, sizeof dir, "%s/damaged", temp_dir());
    ASSERT_OK(ckpt_table_make(&t, 0));
    ckpt_table_fill(&t, 300);
    struct ckpt_task k = {.dir = dir, .step = 3, .table = &t};
    fake_ranks(2, ckpt_save, &k);
    snprintf(path, sizeof path, "%s/checkpoint-3/state.h5", dir);
    ASSERT_OK(lcl_fs_read(path, 1 << 24, &data, &size));
    const struct lcl_param *p = &t.params.rows[4];
    char *at = memmem(data, size, lcl_param_value(&t.params, p), p->count * sizeof(float));
    assert_non_null(at);
    at[6000 * sizeof(float)] ^= 16;
    ASSERT_OK(lcl_fs_write_atomic(path, data, size));
    free(data);
    for (int i = 0; i < 4; i++) {
        k.values = i % 2;
        fake_ranks(i < 2 ? 1 : 3, load_damaged, &k);
    }
    ckpt_table_free(&t);
}

/* ---- in the background ---- */

static struct lcl_checkpoint_saver *open_saver(void)
{
    struct lcl_checkpoint_saver *s;
    ASSERT_OK(lcl_checkpoint_saver_open(&s));
    return s;
}

/* What changes after the begin is not in the checkpoint. */
static void a_snapshot_is_what_is_saved(void **state)
{
    (void)state;
    for (int kind = 0; kind < CKPT_KINDS; kind++) {
        char dir[400];
        struct ckpt_table t, was;
        snprintf(dir, sizeof dir, "%s/snapshot-%d", temp_dir(), kind);
        ASSERT_OK(ckpt_table_make(&t, kind));
        ASSERT_OK(ckpt_table_make(&was, kind));
        ckpt_table_fill(&t, 400);
        ckpt_table_fill(&was, 400);
        struct ckpt_task k = {.dir = dir, .step = 1, .async = true, .kind = kind, .table = &t};
        struct lcl_checkpoint_saver *s = open_saver();
        ASSERT_OK(ckpt_begin(s, NULL, &k));
        ckpt_table_fill(&t, 500);
        k.step = 2;
        ASSERT_OK(ckpt_begin(s, NULL, &k)); /* ends the first */
        char path[500];
        snprintf(path, sizeof path, "%s/checkpoint-1", dir);
        k.table = &was;
        k.step = 1;
        struct ckpt_task first = k;
        first.dir = path;
        fake_ranks(1, ckpt_load, &first);
        ASSERT_OK(lcl_checkpoint_finish(s));
        ASSERT_OK(lcl_checkpoint_finish(s)); /* nothing is left to do */
        lcl_checkpoint_saver_close(s);
        k.table = &t;
        k.step = 2;
        fake_ranks(1, ckpt_load, &k);
        ckpt_table_free(&t);
        ckpt_table_free(&was);
    }
}

static void assert_names(const char *dir, const char *wanted)
{
    char **names, text[400] = "";
    size_t n;
    ASSERT_OK(lcl_fs_list(dir, &names, &n));
    for (size_t i = 0; i < n; i++)
        snprintf(text + strlen(text), sizeof text - strlen(text), "%s ", names[i]);
    lcl_fs_list_free(names, n);
    assert_string_equal(text, wanted);
}

static void what_is_given_up_leaves_nothing(void **state)
{
    (void)state;
    char dir[400];
    struct ckpt_table t;
    snprintf(dir, sizeof dir, "%s/given-up", temp_dir());
    ASSERT_OK(ckpt_table_make(&t, 0));
    ckpt_table_fill(&t, 600);
    struct ckpt_task k = {.dir = dir, .step = 1, .table = &t};
    fake_ranks(1, ckpt_save, &k);
    struct lcl_checkpoint_saver *s = open_saver();
    k.async = true;
    k.step = 2;
    ASSERT_OK(ckpt_begin(s, NULL, &k));
    assert_true(lcl_checkpoint_is_saving(s));
    lcl_checkpoint_saver_close(s);
    lcl_checkpoint_saver_close(NULL);
    assert_names(dir, "checkpoint-1 last ");
    k.step = 1;
    fake_ranks(1, ckpt_load, &k);
    ckpt_table_free(&t);
}

static lcl_status make_large(struct ckpt_table *t)
{
    int index;
    *t = (struct ckpt_table){0};
    lcl_params_init(&t->params);
    LCL_TRY(lcl_params_add(&t->params, "large", 2, (int64_t[]){2048, 2048},
                           (struct lcl_param_spec){.part = LCL_PART_TEXT}, &index));
    return ckpt_table_reserve(t);
}

/* The disk fills up while a thread writes: a limit on the size of files, set once it does. It may
 * have ended by then, so this is tried until it has not. */
static void a_disk_that_fills_up_meanwhile(void **state)
{
    (void)state;
    char dir[400], wanted[100];
    struct ckpt_table t;
    struct rlimit old;
    lcl_status status = LCL_OK;
    snprintf(dir, sizeof dir, "%s/fills", temp_dir());
    ASSERT_OK(make_large(&t));
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
    void (*handler)(int) = signal(SIGXFSZ, SIG_IGN);
    struct lcl_checkpoint_saver *s = open_saver();
    struct ckpt_task k = {.dir = dir, .async = true, .table = &t};
    for (k.step = 0; k.step < 50 && status == LCL_OK; k.step++) {
        ASSERT_OK(ckpt_begin(s, NULL, &k));
        assert_int_equal(setrlimit(RLIMIT_FSIZE,
                                   &(struct rlimit){k.step ? 1 << 16 : old.rlim_cur, old.rlim_max}),
                         0);
        status = lcl_checkpoint_finish(s);
        assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
    }
    signal(SIGXFSZ, handler);
    assert_int_equal(status, LCL_IO);
    snprintf(wanted, sizeof wanted, "fills/checkpoint-%d (earlier checkpoints are untouched)",
             k.step - 1);
    if (!strstr(lcl_error_message(), wanted) || !strstr(lcl_error_message(), "File too large") ||
        !strstr(lcl_error_hint(), "disk space"))
        fail_msg("it said: %s; hint: %s", lcl_error_message(), lcl_error_hint());
    char path[512];
    ASSERT_OK(lcl_checkpoint_find(dir, path, sizeof path));
    assert_false(lcl_checkpoint_is_saving(s));
    ASSERT_OK(ckpt_begin(s, NULL, &k)); /* there is room again */
    ASSERT_OK(lcl_checkpoint_finish(s));
    check_file(dir, k.step);
    lcl_checkpoint_saver_close(s);
    ckpt_table_free(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(any_number_writes_the_same),
        cmocka_unit_test(any_number_reads),
        cmocka_unit_test(damage_is_found_by_all),
        cmocka_unit_test(a_snapshot_is_what_is_saved),
        cmocka_unit_test(what_is_given_up_leaves_nothing),
        cmocka_unit_test(a_disk_that_fills_up_meanwhile),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
