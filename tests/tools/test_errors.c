/* Bad input as a user meets it: the command says what is wrong, where, and what to do, and ends
 * with status 1. */
#include "tests/support/command.h"

#include <fcntl.h>
#include <glob.h>
#include <sys/file.h>
#include <unistd.h>

#include "core/fs.h"
#include "core/h5.h"
#include "tests/support/tiny.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
enum { ADDRESS_SPACE_IS_FREE = 0 }; /* the sanitizer maps terabytes */
#else
enum { ADDRESS_SPACE_IS_FREE = 1 };
#endif

static void flip_byte(const char *path, long from_end)
{
    FILE *f = fopen(path, "r+b");
    assert_non_null(f);
    assert_int_equal(fseek(f, -from_end, SEEK_END), 0);
    int byte = fgetc(f);
    assert_true(byte != EOF);
    assert_int_equal(fseek(f, -from_end, SEEK_END), 0);
    assert_true(fputc(byte ^ 0x10, f) != EOF);
    assert_int_equal(fclose(f), 0);
}

/* tiny.yaml with an output_dir below temp_dir(). */
static const char *config(const char *run)
{
    char yaml[4096], name[64];
    snprintf(yaml, sizeof yaml, "%soutput_dir: %s\n", tiny_yaml(), at(run));
    snprintf(name, sizeof name, "%s.yaml", run);
    return tiny_file(name, yaml);
}

/* ---- pictures and packs ---- */

/* A folder of two classes of three pictures each. */
static const char *small_folder(const char *name)
{
    const char *folder = at(name);
    for (int kind = 0; kind < 2; kind++)
        for (int i = 0; i < 3; i++) {
            char path[500];
            snprintf(path, sizeof path, "%s/%s", folder, kind ? "square" : "disc");
            ASSERT_OK(lcl_fs_mkdirs(path));
            snprintf(path, sizeof path, "%s/%s/%d.png", folder, kind ? "square" : "disc", i);
            tiny_write_picture(path, kind, i);
        }
    return folder;
}

#define PACK "pack --min-images 1 --images %s --out %s"

static void truncated_picture(void **state)
{
    (void)state;
    char path[500], *bytes;
    size_t size;
    const char *folder = small_folder("truncated"), *out = at("truncated.h5");
    snprintf(path, sizeof path, "%s/disc/1.png", folder);
    ASSERT_OK(lcl_fs_read(path, 1 << 20, &bytes, &size));
    ASSERT_OK(lcl_fs_write_atomic(path, bytes, size / 2));
    free(bytes);
    FAILS("1 bad picture in ", PACK, folder, out);
    says("disc/1.png");
    says("hint: mend or remove them, or leave them out with --skip-bad");
    assert_false(lcl_fs_exists(out));
    SUCCEEDS(PACK " --skip-bad", folder, out);
    says("disc/1.png");
    assert_true(lcl_fs_exists(out));
}

static void picture_that_is_none(void **state)
{
    (void)state;
    char path[500];
    const char *folder = small_folder("none");
    snprintf(path, sizeof path, "%s/square/2.png", folder);
    ASSERT_OK(lcl_fs_write_atomic(path, "not a picture", 13));
    FAILS("1 bad picture in ", PACK, folder, at("none.h5"));
    says("square/2.png");
}

static void empty_class(void **state)
{
    (void)state;
    char path[500];
    const char *folder = small_folder("empty");
    snprintf(path, sizeof path, "%s/triangle", folder);
    ASSERT_OK(lcl_fs_mkdirs(path));
    FAILS("1 class without a picture: triangle", PACK, folder, at("empty.h5"));
    says("hint: add pictures or remove the folder");
}

static void pack_of_another_version(void **state)
{
    (void)state;
    struct lcl_h5 f = {0};
    const char *pack = at("version.h5");
    SUCCEEDS(PACK, small_folder("version"), pack);
    ASSERT_OK(lcl_h5_open(pack, true, &f));
    ASSERT_OK(lcl_h5_set_u64(&f, "/format", "version", 9));
    ASSERT_OK(lcl_h5_close(&f));
    FAILS("pack format version 9, this lcl reads version 1", "train %s --set data.pack=%s",
          config("version"), pack);
    says("hint: make the pack again with this lcl");
}

static void flipped_byte_in_pack(void **state)
{
    (void)state;
    const char *pack = at("flipped.h5");
    struct lcl_h5 f = {0};
    struct lcl_h5_set set;
    SUCCEEDS(PACK, small_folder("flipped"), pack);
    ASSERT_OK(lcl_h5_open(pack, false, &f));
    ASSERT_OK(lcl_h5_set_open(&f, "/images/bytes", &set));
    long from_end = (long)(f.size_bytes - set.file_offset) - 150; /* in the bytes of a picture */
    lcl_h5_set_close(&set);
    ASSERT_OK(lcl_h5_close(&f));
    flip_byte(pack, from_end);
    FAILS("flipped.h5: picture ", "train %s --set data.pack=%s --set data.shots=2",
          config("flipped"), pack);
    says(".png): checksum ");
    says("hint: the file is damaged; copy or make it again");
}

static void missing_files(void **state)
{
    (void)state;
    FAILS("nowhere.yaml", "train %s", at("nowhere.yaml"));
    says("No such file");
    FAILS("nowhere.h5", "train %s --set data.pack=%s", config("missing"), at("nowhere.h5"));
    says("hint: ");
    FAILS("no folder ", PACK, at("nowhere"), at("nowhere.h5"));
    FAILS("there is no run or model ", "eval %s", at("nowhere"));
    says("nowhere");
    FAILS("there is no checkpoint ", "train %s --set init_from=%s", config("missing"),
          at("no-model"));
    says("no-model");
    FAILS("no-table.h5", "train %s --set data.neighbors=%s", config("missing"), at("no-table.h5"));
}

/* ---- configs ---- */

static void misspelt_keys_and_values(void **state)
{
    (void)state;
    const char *file = tiny_file("misspelt.yaml", "output_dir: x\nlearning_rat: 1e-3\n");
    FAILS("misspelt.yaml:2", "train %s", file);
    says("learning_rat");
    says("learning_rate");
    FAILS("nested.yaml:3", "train %s", tiny_file("nested.yaml", "data:\n  pack: x\n  shotz: 4\n"));
    says("data.shots");
    FAILS("cosin", "train %s --set lr_scheduler_type=cosin", config("misspelt"));
    says("cosine");
    FAILS("broken.yaml:", "train %s", tiny_file("broken.yaml", "data: {pack: x\nseed: 1\n"));
}

static void values_out_of_range(void **state)
{
    (void)state;
    FAILS("range.yaml:2", "train %s", tiny_file("range.yaml", "seed: 1\nlearning_rate: 20\n"));
    says("learning_rate");
    says("10");
    FAILS("lanes", "train %s --set lanes=0", config("range"));
    FAILS("max_steps", "train %s --set max_steps=5x", config("range"));
    FAILS("data.background \"1,2\" is not R,G,B", "train %s --set data.background=1,2",
          config("range"));
    FAILS("text.num_attention_heads", "train %s --set text.num_attention_heads=5", config("range"));
}

/* ---- runs ---- */

static void output_dir_that_holds_a_run(void **state)
{
    (void)state;
    const char *file = config("taken");
    SUCCEEDS("train %s", file);
    FAILS("taken holds a run already", "train %s", file);
    says("hint: --resume goes on with it, --force begins anew");
    SUCCEEDS("train %s --resume", file);
    /* What a new run cannot begin with leaves the old one alone; what is not the run's stays. */
    (void)tiny_file("taken/notes.txt", "mine");
    FAILS("nowhere.h5", "train %s --force --set data.pack=%s", file, at("nowhere.h5"));
    assert_true(lcl_fs_exists(at("taken/checkpoint-5/state.h5")));
    SUCCEEDS("train %s --force --set max_steps=3", file);
    FAILS("error: --profile: 0 is not within 1..1000", "train %s --force --profile 0", file);
    FAILS("error: --profile 3 takes 6 steps, 3 of them to warm up; stage train has ",
          "train %s --force --profile 3", file);
    assert_false(lcl_fs_exists(at("taken/checkpoint-5")));
    assert_true(lcl_fs_exists(at("taken/checkpoint-3/state.h5")));
    assert_true(lcl_fs_exists(at("taken/notes.txt")));
    FAILS("output_dir is not set", "train %s --set output_dir=", file);
}

static void output_dir_in_use(void **state)
{
    (void)state;
    const char *file = config("in-use");
    ASSERT_OK(lcl_fs_mkdirs(at("in-use")));
    int lock = open(at("in-use/.lock"), O_WRONLY | O_CREAT | O_CLOEXEC, 0666);
    assert_true(lock >= 0);
    assert_int_equal(flock(lock, LOCK_EX), 0);
    FAILS("another process is training in ", "train %s", file);
    FAILS("another process is training in ", "train %s --resume", file);
    close(lock);
    SUCCEEDS("train %s", file);
}

static void flipped_byte_in_checkpoint(void **state)
{
    (void)state;
    const char *file = config("damaged");
    SUCCEEDS("train %s", file);
    flip_byte(at("damaged/last/state.h5"), 3000);
    FAILS("state.h5 is damaged: CRC32C ", "eval %s --set eval.episodes=2", at("damaged/last"));
    FAILS("none of the 1 checkpoints in ", "eval %s --set eval.episodes=2", at("damaged"));
    FAILS("is passed over: ", "train %s --resume", file);
}

static void loss_that_is_not_finite(void **state)
{
    (void)state;
    const char *blow_up = "--set learning_rate=10 --set weight_decay=10 --set max_steps=60 "
                          "--set warmup_ratio=0 --set lr_scheduler_type=constant "
                          "--set logging_steps=1";
    FAILS("error: step ", "train %s %s --set save_steps=1", config("nan"), blow_up);
    says(" of stage train, last good checkpoint: checkpoint-");
    says("hint: lower learning_rate");
    /* The one it names is there and good. */
    char name[64], path[128];
    const char *found = strstr(output, "last good checkpoint: checkpoint-");
    assert_non_null(found);
    assert_int_equal(sscanf(found, "last good checkpoint: %63[a-z0-9-]", name), 1);
    snprintf(path, sizeof path, "nan/%s", name);
    SUCCEEDS("inspect %s", at(path));
    FAILS("last good checkpoint: none", "train %s %s", config("nan-unsaved"), blow_up);
}

static void nothing_supervised(void **state)
{
    (void)state;
    FAILS("no supervised tokens in samples 0..1",
          "train %s --set task=language --set language.length=8 --set language.min_segment=7 "
          "--set language.max_segment=7",
          config("unsupervised"));
    says("hint: ");
}

static void nothing_trains(void **state)
{
    (void)state;
    FAILS("data.images: none leaves no pictures to train on", "train %s --set data.images=none",
          config("no-pictures"));
    says("hint: set data.images: pack");
    FAILS("nothing trains: every part is frozen",
          "train %s --set freeze_text=true --set freeze_projector=true", config("frozen"));
    says("hint: set one of the freeze_ keys to false");
}

static void sequence_too_long(void **state)
{
    (void)state;
    FAILS("sample 0", "train %s --set model_max_length=40", config("long"));
    says("model_max_length");
    says("40");
}

static void class_too_small(void **state)
{
    (void)state;
    const char *file = config("small");
    FAILS("need 7 pictures of a class", "inspect %s --set data.shots=12 --episodes 1", file);
    says("a-thing");
    says("hint: lower the shots or the queries");
    SUCCEEDS("train %s --set data.shots=12", file);
    says("need 7 pictures of a class");
    says("fewer shots");
    FAILS("a-thing", "train %s --set data.queries=6 --force", file);
    says("hint: lower the shots or the queries");
}

/* ---- the machine ---- */

static void full_disk(void **state)
{
    (void)state;
    glob_t g;
    const char *out = at("full.h5");
    /* Files of at most 2 KiB, in blocks of 512 bytes. */
    FAILS_AFTER("ulimit -f 4;", "File too large", PACK, small_folder("full"), out);
    assert_false(lcl_fs_exists(out));
    FAILS_AFTER("ulimit -f 300;", "no room for the ", "train %s --set text.num_hidden_layers=4",
                config("full"));
    says("(earlier checkpoints are untouched)");
    says("hint: free some disk space");
    assert_int_equal(glob(at("full/checkpoint-*"), 0, NULL, &g), GLOB_NOMATCH);
}

static void feature_cache_that_cannot_be_kept(void **state)
{
    (void)state;
    char copy[1000];
    const char *pack = at("elsewhere.h5");
    snprintf(copy, sizeof copy, "cp %s %s", tiny_pack(), pack);
    assert_int_equal(system(copy), 0);
    (void)tiny_file("elsewhere.h5.features", "a file where the folder goes");
    SUCCEEDS("train %s --set data.pack=%s", config("elsewhere"), pack);
    says("warning: image features are not kept: ");
    says("Not a directory");
}

static void no_permission(void **state)
{
    (void)state;
    char below[500];
    const char *file = tiny_file("a-file", "text");
    snprintf(below, sizeof below, "%s/x.h5", file);
    FAILS("a-file", PACK, small_folder("permission"), below);
    says("Not a directory");
    FAILS("a-file", "train %s --set output_dir=%s/run", config("permission"), file);
    says("Not a directory");
}

static void too_little_memory(void **state)
{
    (void)state;
    FAILS("stage train needs ",
          "train %s --set memory_limit_mib=4 --set per_device_train_batch_size=800",
          config("memory"));
    says("activations");
    says("memory_limit_mib allows 4.0 MiB");
    says("hint: lower per_device_train_batch_size (800)");
    FAILS("parameters",
          "train %s --set memory_limit_mib=100 --set text.num_hidden_layers=500 "
          "--set text.hidden_size=512",
          config("memory"));
    says("memory_limit_mib allows 100 MiB");
    assert_false(lcl_fs_exists(at("memory/checkpoint-5")));
}

/* What the plan cannot know: another limit on the process. */
static void memory_that_cannot_be_had(void **state)
{
    (void)state;
    if (!ADDRESS_SPACE_IS_FREE) skip();
    FAILS_AFTER("ulimit -v 800000;", "parameters",
                "train %s --set text.hidden_size=1024 --set text.num_attention_heads=16 "
                "--set text.num_key_value_heads=0 --set text.intermediate_size=4096 "
                "--set text.num_hidden_layers=20",
                config("address-space"));
    says("GiB");
    says("hint: ");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(truncated_picture),
        cmocka_unit_test(picture_that_is_none),
        cmocka_unit_test(empty_class),
        cmocka_unit_test(pack_of_another_version),
        cmocka_unit_test(flipped_byte_in_pack),
        cmocka_unit_test(missing_files),
        cmocka_unit_test(misspelt_keys_and_values),
        cmocka_unit_test(values_out_of_range),
        cmocka_unit_test(output_dir_that_holds_a_run),
        cmocka_unit_test(output_dir_in_use),
        cmocka_unit_test(flipped_byte_in_checkpoint),
        cmocka_unit_test(loss_that_is_not_finite),
        cmocka_unit_test(nothing_supervised),
        cmocka_unit_test(nothing_trains),
        cmocka_unit_test(sequence_too_long),
        cmocka_unit_test(class_too_small),
        cmocka_unit_test(full_disk),
        cmocka_unit_test(feature_cache_that_cannot_be_kept),
        cmocka_unit_test(no_permission),
        cmocka_unit_test(too_little_memory),
        cmocka_unit_test(memory_that_cannot_be_had),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
