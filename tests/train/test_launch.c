/* Which launcher started a process, by the variables that each sets. */
#include "tests/support/support.h"

#include "train/ranks.h"

static const char *const *environment; /* name, value, ..., NULL */

static const char *fake_get(const char *name)
{
    for (const char *const *at = environment; *at; at += 2)
        if (strcmp(at[0], name) == 0) return at[1];
    return NULL;
}

static struct lcl_launch detect(const char *const *with)
{
    struct lcl_launch l;
    environment = with;
    ASSERT_OK(lcl_launch_detect(fake_get, &l));
    return l;
}

static void assert_launch(struct lcl_launch l, enum lcl_launcher launcher, int rank, int size,
                          int local_rank, int local_size)
{
    assert_string_equal(lcl_launcher_name(l.launcher), lcl_launcher_name(launcher));
    assert_int_equal(l.rank, rank);
    assert_int_equal(l.size, size);
    assert_int_equal(l.local_rank, local_rank);
    assert_int_equal(l.local_size, local_size);
}

static void alone(void **state)
{
    (void)state;
    static const char *const none[] = {"PATH", "/bin", NULL};
    assert_launch(detect(none), LCL_LAUNCHER_NONE, 0, 1, -1, -1);
}

static void open_mpi(void **state)
{
    (void)state;
    static const char *const two_nodes[] = {"OMPI_COMM_WORLD_SIZE",
                                            "16",
                                            "OMPI_COMM_WORLD_RANK",
                                            "11",
                                            "OMPI_COMM_WORLD_LOCAL_SIZE",
                                            "8",
                                            "OMPI_COMM_WORLD_LOCAL_RANK",
                                            "3",
                                            NULL};
    assert_launch(detect(two_nodes), LCL_LAUNCHER_OPEN_MPI, 11, 16, 3, 8);
}

static void pmi(void **state)
{
    (void)state;
    static const char *const mpich[] = {
        "PMI_SIZE", "4", "PMI_RANK", "2", "MPI_LOCALNRANKS", "2", "MPI_LOCALRANKID", "0", NULL};
    static const char *const bare[] = {"PMI_SIZE", "4", "PMI_RANK", "3", NULL};
    assert_launch(detect(mpich), LCL_LAUNCHER_PMI, 2, 4, 0, 2);
    assert_launch(detect(bare), LCL_LAUNCHER_PMI, 3, 4, -1, -1);
}

static void slurm(void **state)
{
    (void)state;
    static const char *const step[] = {"SLURM_JOB_ID",
                                       "7",
                                       "SLURM_NTASKS",
                                       "8",
                                       "SLURM_STEP_NUM_TASKS",
                                       "8",
                                       "SLURM_PROCID",
                                       "5",
                                       "SLURM_LOCALID",
                                       "1",
                                       NULL};
    /* An sbatch script: of the job's eight tasks, it is none. */
    static const char *const batch[] = {
        "SLURM_JOB_ID", "7", "SLURM_NTASKS", "8", "SLURM_PROCID", "0", "SLURM_LOCALID", "0", NULL};
    /* mpirun within a step: ranks are mpirun's. */
    static const char *const both[] = {"SLURM_STEP_NUM_TASKS",
                                       "1",
                                       "SLURM_PROCID",
                                       "0",
                                       "OMPI_COMM_WORLD_SIZE",
                                       "4",
                                       "OMPI_COMM_WORLD_RANK",
                                       "3",
                                       NULL};
    assert_launch(detect(step), LCL_LAUNCHER_SLURM, 5, 8, 1, -1);
    assert_launch(detect(batch), LCL_LAUNCHER_NONE, 0, 1, -1, -1);
    assert_launch(detect(both), LCL_LAUNCHER_OPEN_MPI, 3, 4, -1, -1);
}

static void nonsense(void **state)
{
    (void)state;
    static const char *const words[] = {"", "two", "-1", "4x", "99999999999999999999", NULL};
    struct lcl_launch l;
    for (const char *const *w = words; *w; w++) {
        const char *const size[] = {"OMPI_COMM_WORLD_SIZE", *w, "OMPI_COMM_WORLD_RANK", "0", NULL};
        const char *const rank[] = {"PMI_SIZE", "4", "PMI_RANK", *w, NULL};
        environment = size;
        ASSERT_FAILS(lcl_launch_detect(fake_get, &l), LCL_CONFIG, "OMPI_COMM_WORLD_SIZE is \"");
        environment = rank;
        ASSERT_FAILS(lcl_launch_detect(fake_get, &l), LCL_CONFIG, "PMI_RANK is \"");
    }
    static const char *const outside[] = {"PMI_SIZE", "4", "PMI_RANK", "4", NULL};
    environment = outside;
    ASSERT_FAILS(lcl_launch_detect(fake_get, &l), LCL_CONFIG, "PMI_RANK is 4, but PMI_SIZE is 4");
    static const char *const no_ranks[] = {"PMI_SIZE", "0", "PMI_RANK", "0", NULL};
    environment = no_ranks;
    ASSERT_FAILS(lcl_launch_detect(fake_get, &l), LCL_CONFIG, "PMI_SIZE is 0");
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(alone), cmocka_unit_test(open_mpi),
                                       cmocka_unit_test(pmi), cmocka_unit_test(slurm),
                                       cmocka_unit_test(nonsense)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
