/* Many ranks as a user prepares for them: plans of clusters that are not here, and the files of
 * configs/launch/, whose jobs run with stand-ins for Slurm's commands. */
#include "tests/support/command.h"

#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <yaml.h>

#include "core/fs.h"

#define PAPER "plan configs/paper/2-way.yaml "

static void plans_for_ranks_are_printed(void **state)
{
    (void)state;
    SUCCEEDS(PAPER "--ranks 8 --device h100");
    says("8 ranks on h100 (1 node, ib400), a model, not a result");
    says("lanes: 8, at most 1 a rank");
    says("efficiency");
    says("70 % of 450 GB/s within a node of 8");
    SUCCEEDS(PAPER "--ranks 64 --device h200 --network eth100");
    says("lanes: 8 are fewer than 64 ranks: planned for one a rank, as lanes: 64 has it");
    says("64 ranks on h200 (8 nodes, eth100)");
    SUCCEEDS(PAPER "--ranks 4");
    says("(--device KIND adds times)");
}

static void plans_for_ranks_are_read_by_programs(void **state)
{
    (void)state;
    PRINTS(PAPER "--ranks 4 --json");
    json_t *root = json_loads(output, 0, NULL);
    json_t *stage = json_array_get(json_object_get(root, "stages"), 0);
    json_t *ranks = json_object_get(stage, "ranks"), *zero = json_object_get(ranks, "zero");
    const double trainable = (double)json_integer_value(json_object_get(stage, "trainable"));
    const double sent = json_real_value(json_object_get(json_array_get(zero, 0), "sent_bytes"));
    assert_int_equal(json_integer_value(json_object_get(ranks, "lanes_per_rank")), 2);
    assert_int_equal(json_array_size(zero), 4);
    /* f32 sums, out and back, but for one's own; printed with nine digits */
    assert_true(fabs(sent / (8 * trainable * 3 / 4) - 1) < 1e-8);
    assert_null(json_object_get(json_array_get(zero, 1), "seconds_per_step"));
    json_decref(root);
}

static void plans_for_ranks_are_refused(void **state)
{
    (void)state;
    FAILS("no GPU is called \"h10\"", PAPER "--ranks 4 --device h10");
    FAILS("no network is called \"ib40\"", PAPER "--ranks 4 --device h100 --network ib40");
    FAILS("9 ranks are more than the 8 of a node",
          PAPER "--ranks 9 --device h100 --network nvlink");
    says("hint: name a network: --network ib400");
    FAILS("of a GPU's memory at least; free are 15 GiB",
          PAPER "--ranks 4 --device h100 --gpu-memory 16");
}

/* 1234567 as 1,234,567 */
static const char *with_commas(double number, char text[32])
{
    char digits[32];
    int n = snprintf(digits, sizeof digits, "%.0f", number), k = 0;
    for (int i = 0; i < n; i++) {
        if (i > 0 && (n - i) % 3 == 0) text[k++] = ',';
        text[k++] = digits[i];
    }
    text[k] = '\0';
    return text;
}

static double number(const json_t *o, const char *key)
{
    return json_number_value(json_object_get(o, key));
}

/* The numbers of docs/scale.md are those that the commands above them print. */
static void the_page_says_what_plans_print(void **state)
{
    (void)state;
    static const char *const options[] = {"--ranks 8", "--ranks 64 --network ib400 --set lanes=64"};
    char *page, row[256], commas[32];
    size_t size;
    ASSERT_OK(lcl_fs_read("docs/scale.md", 1 << 20, &page, &size));
    for (int i = 0; i < 2; i++) {
        PRINTS(PAPER "%s --device h100 --json", options[i]);
        json_t *root = json_loads(output, 0, NULL), *z;
        json_t *stage = json_array_get(json_object_get(root, "stages"), 0);
        json_t *zero = json_object_get(json_object_get(stage, "ranks"), "zero");
        size_t k;
        json_array_foreach(zero, k, z)
        {
            const double gib = 1 << 30;
            snprintf(row, sizeof row,
                     "| %zu | %.0f GiB | %.0f GiB | %.3f s | %.3g s | %.3f s | %s | %.1f %% |\n", k,
                     number(json_object_get(z, "memory_bytes"), "total") / gib,
                     number(z, "sent_bytes") / gib, number(z, "lanes_seconds"),
                     number(z, "exposed_seconds"), number(z, "seconds_per_step"),
                     with_commas(number(z, "tokens_per_second"), commas),
                     100 * number(z, "efficiency"));
            if (!strstr(page, row)) fail_msg("docs/scale.md lacks this row:\n%s", row);
        }
        json_decref(root);
    }
    free(page);
}

/* ---- configs/launch/ ---- */

#define LAUNCH "configs/launch/"
static const char *const jobs[] = {"slurm-node", "slurm-nodes", "slurm-sweep"};
enum { N_JOBS = sizeof jobs / sizeof *jobs };

/* Runs a shell's command; its exit status, what it wrote in `output`. */
static int LCL_PRINTF(1, 2) shell(const char *format, ...)
{
    char command[4096];
    va_list args;
    va_start(args, format);
    vsnprintf(command, sizeof command, format, args);
    va_end(args);
    FILE *f = popen(command, "r");
    assert_non_null(f);
    size_t n = fread(output, 1, sizeof output - 1, f);
    output[n] = '\0';
    int ended = pclose(f);
    assert_true(WIFEXITED(ended));
    return WEXITSTATUS(ended);
}

static void jobs_are_sound_shell_scripts(void **state)
{
    (void)state;
    for (int i = 0; i < N_JOBS; i++) {
        if (shell("bash -n " LAUNCH "%s.sbatch 2>&1", jobs[i]) != 0) fail_msg("%s", output);
        if (shell("command -v shellcheck >/dev/null || exit 0; shellcheck " LAUNCH "%s.sbatch 2>&1",
                  jobs[i]) != 0)
            fail_msg("%s", output);
    }
}

static void write_script(const char *name, const char *text)
{
    ASSERT_OK(lcl_fs_write_atomic(at(name), text, strlen(text)));
    assert_int_equal(chmod(at(name), 0755), 0);
}

/* The job with commands of ours in front of all others; what it did is in `output`. */
static int run_job(const char *job)
{
    return shell("here=$PWD && cd %s && dir=$PWD && rm -f calls && SLURM_JOB_ID=42 "
                 "SLURM_ARRAY_JOB_ID=42 SLURM_ARRAY_TASK_ID=7 SLURM_CPUS_PER_TASK=3 LCL=$dir/lcl "
                 "PATH=$dir:$PATH bash \"$here\"/" LAUNCH "%s.sbatch run.yaml >said 2>&1; "
                 "status=$?; cat said calls; exit $status",
                 temp_dir(), job);
}

static void begins_the_run(const char *job)
{
    if (strcmp(job, "slurm-sweep") == 0) {
        says("lcl sweep run.yaml --unit 7");
        return;
    }
    says("srun --mpi=pmix --kill-on-bad-exit=1");
    says("lcl train --device cuda --auto-resume run.yaml");
    says("3 processors a task");
}

static void write_commands(const char *body)
{
    static const char *const names[] = {"srun", "lcl"};
    for (int i = 0; i < 2; i++) {
        char *text = lcl_strdupf("#!/bin/bash\n"
                                 "echo \"%s $*\" >> calls\n"
                                 "echo \"${SRUN_CPUS_PER_TASK:-no} processors a task\" >> calls\n"
                                 "%s\n",
                                 names[i], body);
        assert_non_null(text);
        write_script(names[i], text);
        free(text);
    }
    write_script("scontrol", "#!/bin/bash\necho \"scontrol $*\" >> calls\n");
}

/* The time limit is near: the signal is handed on, the job waits for the run's end and comes back
 * in the queue. */
static void a_job_saves_and_comes_back(void **state)
{
    (void)state;
    write_commands("trap 'echo saved >> calls; exit 0' USR1 TERM\n"
                   "while :; do kill -USR1 $PPID; sleep 0.02; done");
    for (int i = 0; i < N_JOBS; i++) {
        assert_int_equal(run_job(jobs[i]), 0);
        begins_the_run(jobs[i]);
        const char *saved = strstr(output, "saved\n");
        const char *queued =
            strstr(output, strcmp(jobs[i], "slurm-sweep") == 0 ? "scontrol requeue 42_7\n"
                                                               : "scontrol requeue 42\n");
        if (!saved || !queued || queued < saved) fail_msg("%s: %s", jobs[i], output);
    }
}

static void a_job_that_ends_stays_away(void **state)
{
    (void)state;
    for (int status = 0; status <= 3; status += 3) {
        write_commands(status == 0 ? "exit 0" : "exit 3");
        for (int i = 0; i < N_JOBS; i++) {
            assert_int_equal(run_job(jobs[i]), status);
            begins_the_run(jobs[i]);
            assert_null(strstr(output, "scontrol"));
        }
    }
    for (int i = 0; i < N_JOBS; i++) { /* without a config */
        assert_true(shell("bash " LAUNCH "%s.sbatch 2>&1", jobs[i]) != 0);
        says("usage: sbatch ");
    }
}

/* Follows keys of maps from the root; NULL where one is not there. */
static yaml_node_t *yaml_at(yaml_document_t *d, const char *const *keys)
{
    yaml_node_t *node = yaml_document_get_root_node(d);
    for (; node && *keys; keys++) {
        yaml_node_t *found = NULL;
        if (node->type != YAML_MAPPING_NODE) return NULL;
        for (yaml_node_pair_t *p = node->data.mapping.pairs.start; p < node->data.mapping.pairs.top;
             p++) {
            const yaml_node_t *key = yaml_document_get_node(d, p->key);
            if (!strcmp((const char *)key->data.scalar.value, *keys))
                found = yaml_document_get_node(d, p->value);
        }
        node = found;
    }
    return node;
}

static const char *yaml_text(yaml_document_t *d, const char *const *keys)
{
    const yaml_node_t *node = yaml_at(d, keys);
    assert_true(node && node->type == YAML_SCALAR_NODE);
    return (const char *)node->data.scalar.value;
}

/* The first container of a kind of replica: the words of one of its lists, each with a space. */
static void yaml_words(yaml_document_t *d, const char *replica, const char *list, char *words,
                       size_t size)
{
    const char *const containers[] = {"spec", "mpiReplicaSpecs", replica,     "template",
                                      "spec", "containers",      (void *)NULL};
    const yaml_node_t *all = yaml_at(d, containers);
    assert_true(all && all->type == YAML_SEQUENCE_NODE);
    const yaml_node_t *first = yaml_document_get_node(d, *all->data.sequence.items.start);
    words[0] = '\0';
    for (yaml_node_pair_t *p = first->data.mapping.pairs.start; p < first->data.mapping.pairs.top;
         p++) {
        const yaml_node_t *key = yaml_document_get_node(d, p->key),
                          *value = yaml_document_get_node(d, p->value);
        if (strcmp((const char *)key->data.scalar.value, list) != 0) continue;
        for (yaml_node_item_t *w = value->data.sequence.items.start;
             w < value->data.sequence.items.top; w++) {
            const size_t n = strlen(words);
            snprintf(words + n, size - n, "%s ",
                     (const char *)yaml_document_get_node(d, *w)->data.scalar.value);
        }
    }
}

static void the_mpijob_asks_for_what_it_starts(void **state)
{
    (void)state;
    yaml_parser_t parser;
    yaml_document_t d;
    char words[1024];
    FILE *f = fopen(LAUNCH "mpijob.yaml", "r");
    assert_non_null(f);
    assert_true(yaml_parser_initialize(&parser));
    yaml_parser_set_input_file(&parser, f);
    assert_true(yaml_parser_load(&parser, &d));
    assert_string_equal(yaml_text(&d, (const char *[]){"kind", NULL}), "MPIJob");
    assert_string_equal(yaml_text(&d, (const char *[]){"apiVersion", NULL}),
                        "kubeflow.org/v2beta1");
    const char *slots = yaml_text(&d, (const char *[]){"spec", "slotsPerWorker", NULL});
    const char *workers =
        yaml_text(&d, (const char *[]){"spec", "mpiReplicaSpecs", "Worker", "replicas", NULL});
    yaml_words(&d, "Launcher", "command", words, sizeof words);
    assert_string_equal(words, "mpirun ");
    yaml_words(&d, "Launcher", "args", words, sizeof words);
    char ranks[32], lanes[32];
    snprintf(ranks, sizeof ranks, "-np %d ", atoi(slots) * atoi(workers));
    snprintf(lanes, sizeof lanes, "lanes=%d ", atoi(slots) * atoi(workers));
    if (!strstr(words, ranks) || !strstr(words, lanes) || !strstr(words, "--auto-resume "))
        fail_msg("%s", words);
    yaml_document_delete(&d);
    yaml_parser_delete(&parser);
    fclose(f);
}

static void the_hostfile_is_one_of_open_mpis(void **state)
{
    (void)state;
    /* whatever is no comment is a name and its slots */
    assert_int_equal(shell("grep -v '^#' " LAUNCH "hostfile"), 0);
    assert_int_equal(
        shell("grep -v '^#' " LAUNCH "hostfile | grep -Evx '[a-z0-9.-]+ slots=[0-9]+'"), 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(plans_for_ranks_are_printed),
        cmocka_unit_test(plans_for_ranks_are_read_by_programs),
        cmocka_unit_test(plans_for_ranks_are_refused),
        cmocka_unit_test(the_page_says_what_plans_print),
        cmocka_unit_test(jobs_are_sound_shell_scripts),
        cmocka_unit_test(a_job_saves_and_comes_back),
        cmocka_unit_test(a_job_that_ends_stays_away),
        cmocka_unit_test(the_mpijob_asks_for_what_it_starts),
        cmocka_unit_test(the_hostfile_is_one_of_open_mpis),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
