/* Several ranks under mpirun train as one does. */
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/fs.h"
#include "tests/support/kills.h"
#include "tests/support/mpi_job.h"
#include "tests/support/rank_runs.h"
#include "tests/support/support.h"
#include "tests/support/tiny.h"

static const char config[] = "configs/tests/ranks.yaml";

static void train_the_same(void **state)
{
    (void)state;
    static const int ranks[] = {1, 2, 4, 0};
    rank_runs_train_the_same(ranks);
}

/* 4 ranks to step 3, 3 to step 6, 1 to step 9, 8 to step 12, each with another stage of zero. */
static void resume_with_others(void **state)
{
    (void)state;
    static const int ranks[] = {4, 3, 1, 8};
    static struct mpi_job j;
    static struct mpi_losses straight, got;
    char dir[5][300], words[400];
    mpi_job_need_launcher();
    for (int i = 0; i < 5; i++) snprintf(dir[i], sizeof dir[i], "%s/leg-%d", temp_dir(), i);
    const char always[] = "--set deterministic=true --set max_steps=12 --set save_steps=3 "
                          "--set save_total_limit=9";
    mpi_job_run(&j, 0, config, dir[4], always);
    mpi_losses_read(&straight, dir[4]);
    for (int i = 0; i < 4; i++) {
        int used = snprintf(words, sizeof words, "%s --set zero=%d", always,
                            (MPI_JOB_STAGES - 1 + i) % MPI_JOB_STAGES);
        if (i > 0)
            snprintf(words + used, sizeof words - (size_t)used,
                     " --set resume_from_checkpoint=%s/checkpoint-%d", dir[i - 1], 3 * i);
        mpi_job_run(&j, ranks[i], config, dir[i], words);
        mpi_losses_read(&got, dir[i]);
        mpi_losses_assert_same(&straight, &got, 3 * i + 1, 0);
        kills_assert_same_state(dir[4], dir[i]);
    }
}

static void link_contexts_with_pictures(void **state)
{
    (void)state;
    static struct mpi_job j;
    static struct mpi_losses one, got;
    char yaml[3000], dir[300], words[40];
    mpi_job_need_launcher();
    snprintf(yaml, sizeof yaml,
             "%sdeterministic: true\neval_steps: 3\n"
             "stages:\n"
             "  - {name: warm, task: vision, max_steps: 3, lanes: 8, logging_steps: 1}\n"
             "  - {name: link, max_steps: 6, lanes: 8, logging_steps: 1}\n",
             tiny_yaml());
    const char *path = tiny_file("link.yaml", yaml);
    for (int n = 0; n <= 4; n = n ? 2 * n : 1) {
        snprintf(dir, sizeof dir, "%s/link-%d", temp_dir(), n);
        snprintf(words, sizeof words, "--set zero=%d", n > 1 ? MPI_JOB_STAGES - 1 : 0);
        mpi_job_run(&j, n, path, dir, words);
        mpi_losses_read(n == 0 ? &one : &got, dir);
        if (n > 0) mpi_losses_assert_same(&one, &got, 1, 0);
    }
    assert_int_equal(one.n, 9);
}

/* ---- as a user ---- */

enum { NOBODY = 65534 };

static void copy_for(const char *from, const char *to, mode_t mode)
{
    char *data;
    size_t size;
    ASSERT_OK(lcl_fs_read(from, (size_t)1 << 30, &data, &size));
    ASSERT_OK(lcl_fs_write_atomic(to, data, size));
    free(data);
    assert_int_equal(chmod(to, mode), 0);
}

static int run_as_nobody(const char *home)
{
    pid_t child = fork();
    int status, fd;
    assert_true(child >= 0);
    if (child == 0) {
        if (chdir(home) != 0 || setgid(NOBODY) != 0 || setuid(NOBODY) != 0) _exit(126);
        fd = open("log", O_WRONLY | O_CREAT | O_TRUNC, 0666);
        if (fd < 0 || dup2(fd, 1) < 0 || dup2(fd, 2) < 0) _exit(126);
        setenv("HOME", home, 1);
        setenv("TMPDIR", home, 1);
        execlp("mpirun", "mpirun", "--oversubscribe", "-np", "2", "./lcl", "train", "ranks.yaml",
               "--set", "output_dir=run", "--set", "max_steps=3", (char *)NULL);
        _exit(127);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128;
}

static void as_a_user(void **state)
{
    (void)state;
    char home[] = "/tmp/lcl-user-XXXXXX", path[64], *log = NULL;
    const char *bin = getenv("LCL_BIN");
    size_t size;
    mpi_job_need_launcher();
    if (geteuid() != 0) {
        print_message("skipped: this is no root: the others ran as a user\n");
        skip();
    }
    assert_non_null(mkdtemp(home));
    snprintf(path, sizeof path, "%s/lcl", home);
    copy_for(bin ? bin : "build/lcl", path, 0755);
    snprintf(path, sizeof path, "%s/ranks.yaml", home);
    copy_for(config, path, 0644);
    assert_int_equal(chown(home, NOBODY, NOBODY), 0);
    int rc = run_as_nobody(home);
    snprintf(path, sizeof path, "%s/log", home);
    ASSERT_OK(lcl_fs_read(path, 1 << 20, &log, &size));
    ASSERT_OK(lcl_fs_remove_tree(home));
    if (rc != 0 || !strstr(log, "3/3 steps")) fail_msg("exit status %d:\n%s", rc, log);
    free(log);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(train_the_same), cmocka_unit_test(resume_with_others),
        cmocka_unit_test(link_contexts_with_pictures), cmocka_unit_test(as_a_user)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
