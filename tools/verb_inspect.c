/* lcl inspect: what a file or folder holds. Every kind fills one JSON object, which is printed as
 * JSON or as text. */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "checkpoint/ckpt.h"
#include "checkpoint/gguf.h"
#include "checkpoint/hf.h"
#include "checkpoint/peft.h"
#include "core/fs.h"
#include "core/h5.h"
#include "core/log.h"
#include "data/pack.h"
#include "data/policy.h"
#include "tools/cli.h"
#include "tools/inspect_episodes.h"
#include "tools/inspect_leaks.h"
#include "tools/inspect_model.h"
#include "tools/inspect_pictures.h"
#include "tools/inspect_rows.h"
#include "train/env.h"

/* ---- text ---- */

static bool is_table(const json_t *list)
{
    return json_is_array(list) && json_is_object(json_array_get(list, 0));
}

/* A value on one line: strings bare, lists as [1, 2], the rest as JSON. */
static char *one_line(const json_t *v)
{
    char *text = json_is_string(v) ? lcl_strdupf("%s", json_string_value(v)) : NULL;
    if (json_is_string(v)) return text ? lcl_printable(text) : NULL;
    return json_dumps(v, JSON_ENCODE_ANY | JSON_REAL_PRECISION(6));
}

static void print_table(const char *key, const json_t *list)
{
    const char *column;
    json_t *v;
    int width = 12;
    for (size_t i = 0; i < json_array_size(list); i++) {
        size_t n = json_string_length(json_object_get(json_array_get(list, i), "name"));
        if ((int)n > width && n < 100) width = (int)n;
    }
    printf("%s:\n", key);
    for (size_t i = 0; i < json_array_size(list); i++) {
        json_t *row = json_array_get(list, i);
        printf(" ");
        json_object_foreach(row, column, v)
        {
            char *text = one_line(v);
            if (json_is_boolean(v))
                printf(" %s", json_is_true(v) ? column : "");
            else
                printf(" %-*s", strcmp(column, "name") == 0 ? width : 14, text ? text : "?");
            free(text);
        }
        printf("\n");
    }
}

static void print_entry(int indent, const char *key, const json_t *v)
{
    char *text = one_line(v), *name = lcl_strdupf("%s", key);
    if (name) lcl_printable(name);
    printf("%*s%-*s %s\n", indent, "", 18 - indent, name ? name : "?", text ? text : "?");
    free(text);
    free(name);
}

static void print_text(const json_t *out)
{
    const char *key, *inner;
    json_t *v, *w;
    json_object_foreach((json_t *)(uintptr_t)out, key, v)
    {
        if (strcmp(key, "config") == 0 || strcmp(key, "config_yaml") == 0)
            continue; /* for --json */
        if (is_table(v)) {
            print_table(key, v);
        } else if (json_is_object(v)) {
            printf("%s:\n", key);
            json_object_foreach(v, inner, w) { print_entry(2, inner, w); }
        } else if (json_is_array(v)) {
            if (json_array_size(v) == 0) continue;
            printf("%s:\n", key);
            for (size_t i = 0; i < json_array_size(v); i++) {
                char *text = one_line(json_array_get(v, i));
                printf("  %s\n", text ? text : "?");
                free(text);
            }
        } else {
            print_entry(0, key, v);
        }
    }
}

/* ---- HDF5 files of data/ ---- */

static void copy_attr(const struct lcl_h5 *f, const char *object, const char *name, json_t *out)
{
    char text[4096];
    if (lcl_h5_has_attr(f, object, name) &&
        lcl_h5_get_str(f, object, name, text, sizeof text) == LCL_OK)
        json_object_set_new(out, name, json_string(text));
}

static void list_datasets(const struct lcl_h5 *f, json_t *out)
{
    char **names;
    size_t n;
    json_t *list = json_array();
    json_object_set_new(out, "datasets", list);
    if (lcl_h5_list_datasets(f, &names, &n) != LCL_OK) return;
    for (size_t i = 0; i < n; i++) {
        struct lcl_h5_set set;
        if (lcl_h5_set_open(f, names[i], &set) != LCL_OK) continue;
        json_t *shape = json_array();
        for (int d = 0; d < set.rank; d++)
            json_array_append_new(shape, json_integer((json_int_t)set.dims[d]));
        json_array_append_new(list, json_pack("{s:s, s:s, s:o}", "name", names[i], "dtype",
                                              lcl_h5_type_name(set.type), "shape", shape));
        lcl_h5_set_close(&set);
    }
    lcl_fs_list_free(names, n);
}

static lcl_status inspect_pack(const char *path, json_t *out)
{
    static const char *const source[] = {"format",  "folder", "date",
                                         "options", "md5",    "background"};
    struct lcl_pack pack;
    struct lcl_h5 f;
    LCL_TRY(lcl_h5_open(path, false, &f));
    for (int i = 0; i < 6; i++) copy_attr(&f, "/source", source[i], out);
    copy_attr(&f, "/images", "encoding", out);
    list_datasets(&f, out);
    lcl_h5_discard(&f);
    LCL_TRY(lcl_pack_open(path, &pack));
    lcl_status status = lcl_pack_verify(&pack);
    int64_t classes[2] = {0}, images[2] = {0};
    json_t *list = json_array();
    for (int32_t i = 0; i < pack.n_classes; i++) {
        const struct lcl_class *c = &pack.classes[i];
        int split = c->split == LCL_SPLIT_TEST;
        classes[split]++;
        images[split] += c->n_images;
        json_array_append_new(list, json_pack("{s:s, s:i, s:s, s:s}", "name", c->id, "images",
                                              (int)c->n_images, "split", split ? "test" : "train",
                                              "said", c->name));
    }
    json_object_set_new(out, "kind", json_string("pack"));
    if (status == LCL_OK) status = inspect_leaks(&pack, out);
    json_object_set_new(out, "checksums", json_string(status == LCL_OK ? "good" : "damaged"));
    json_object_set_new(out, "images",
                        json_pack("{s:I, s:I, s:I}", "train", (json_int_t)images[0], "test",
                                  (json_int_t)images[1], "total", (json_int_t)pack.n_images));
    json_object_set_new(
        out, "classes_of_split",
        json_pack("{s:I, s:I}", "train", (json_int_t)classes[0], "test", (json_int_t)classes[1]));
    json_object_set_new(out, "classes", list);
    if (pack.n_rows) json_object_set_new(out, "rows", json_integer((json_int_t)pack.n_rows));
    lcl_pack_close(&pack);
    return status;
}

static lcl_status inspect_h5(const char *path, json_t *out)
{
    struct lcl_h5 f;
    char magic[64] = "";
    LCL_TRY(lcl_h5_open(path, false, &f));
    if (lcl_h5_has_attr(&f, "/format", "magic") &&
        lcl_h5_get_str(&f, "/format", "magic", magic, sizeof magic) != LCL_OK)
        magic[0] = '\0';
    lcl_status status = LCL_OK;
    if (strcmp(magic, "lcl-pack") == 0) {
        lcl_h5_discard(&f);
        return inspect_pack(path, out);
    }
    json_object_set_new(out, "kind",
                        json_string(strcmp(magic, "lcl-neighbors") == 0 ? "neighbor table"
                                    : *magic                            ? magic
                                                                        : "HDF5 file"));
    copy_attr(&f, "/format", "creator", out);
    copy_attr(&f, "/format", "source", out);
    copy_attr(&f, "/format", "pack", out);
    list_datasets(&f, out);
    if (*magic) {
        status = lcl_h5_verify_all(&f);
        json_object_set_new(out, "checksums", json_string(status == LCL_OK ? "good" : "damaged"));
    }
    lcl_h5_discard(&f);
    return status;
}

/* ---- which kind ---- */

static bool ends_with(const char *s, const char *end)
{
    size_t n = strlen(s), m = strlen(end);
    return n >= m && strcmp(s + n - m, end) == 0;
}

static lcl_status inspect_folder(const char *path, json_t *out)
{
    char *state = lcl_strdupf("%s/state.h5", path);
    bool checkpoint = state && lcl_fs_exists(state);
    free(state);
    if (lcl_hf_is_folder(path)) return inspect_hf_folder(path, out);
    if (lcl_peft_is_folder(path)) return inspect_peft_folder(path, out);
    if (checkpoint) return inspect_checkpoint(path, out);
    if (lcl_checkpoint_is_folder(path)) return inspect_run(path, out);
    return LCL_FAIL_HINT(LCL_NOT_FOUND,
                         "give an HF folder (config.json), a PEFT adapter (adapter_config.json), a "
                         "checkpoint (state.h5) or a run folder (checkpoint-STEP/)",
                         "%s is a folder of no known kind", path);
}

static lcl_status inspect_path(const char *path, json_t *out)
{
    if (!lcl_fs_exists(path))
        return LCL_FAIL_HINT(LCL_NOT_FOUND, "check the spelling of the path", "there is no %s",
                             path);
    json_object_set_new(out, "path", json_string(path));
    if (lcl_fs_is_dir(path)) return inspect_folder(path, out);
    if (ends_with(path, "state.h5")) {
        char *dir = lcl_strdupf("%.*s.", (int)(lcl_fs_basename(path) - path), path);
        lcl_status status =
            dir ? inspect_checkpoint(dir, out) : LCL_FAIL(LCL_MEMORY, "no memory for a path");
        free(dir);
        return status;
    }
    if (ends_with(path, ".safetensors") || ends_with(path, ".safetensors.index.json") ||
        ends_with(path, ".bin") || ends_with(path, ".bin.index.json") || ends_with(path, ".pth") ||
        ends_with(path, ".pt"))
        return inspect_safetensors(path, out);
    if (lcl_gguf_is_file(path)) return inspect_gguf(path, out);
    if (ends_with(path, ".h5") || ends_with(path, ".hdf5")) return inspect_h5(path, out);
    return LCL_FAIL_HINT(LCL_FORMAT, "known are .h5, .safetensors, .bin, .gguf, .yaml and folders",
                         "%s is a file of no known kind", path);
}

/* ---- configs ---- */

static bool is_yaml(const char *path)
{
    return ends_with(path, ".yaml") || ends_with(path, ".yml");
}

/* The stage asked for, else the first that trains on episodes, else the first. */
static lcl_status pick_stage(const struct lcl_run_config *run, const char *name, int *stage)
{
    *stage = 0;
    for (int i = run->n_stages - 1; i >= 0; i--)
        if (!name && run->stages[i].task == LCL_TASK_LINK_CONTEXT) *stage = i;
    for (int i = 0; name && i < run->n_stages; i++) {
        *stage = i;
        if (strcmp(run->stages[i].stage_name, name) == 0) return LCL_OK;
    }
    return name ? LCL_FAIL(LCL_CONFIG, "%s has no stage \"%s\"", run->path, name) : LCL_OK;
}

static lcl_status describe_config(const struct lcl_run_config *run, json_t *out)
{
    static const char *const tasks[] = {"link-context", "vision", "language"};
    json_t *stages = json_array();
    for (int i = 0; i < run->n_stages; i++) {
        const struct lcl_config *c = &run->stages[i];
        json_t *row = json_pack("{s:s, s:s, s:I}", "name", *c->stage_name ? c->stage_name : "-",
                                "task", tasks[c->task], "max_steps", (json_int_t)c->max_steps);
        if (c->task == LCL_TASK_LINK_CONTEXT)
            json_object_set_new(
                row, "strategy",
                json_string(lcl_strategy_name((enum lcl_strategy)c->data_strategy)));
        json_array_append_new(stages, row);
    }
    json_object_set_new(out, "kind", json_string("config"));
    json_object_set_new(out, "path", json_string(run->path));
    json_object_set_new(out, "output_dir", json_string(run->stages[0].output_dir));
    json_object_set_new(out, "pack", json_string(lcl_config_source(&run->stages[0])));
    json_object_set_new(out, "stages", stages);
    return LCL_OK;
}

struct arguments {
    struct inspect_request request; /* of episodes; n 0: none */
    int64_t rows;                   /* 0: none */
    const char *stage;
    bool json, pictures;
    struct cli_list sets;
};

static lcl_status inspect_config(const char *path, const struct arguments *a, json_t *out)
{
    struct lcl_run_config *run = malloc(sizeof *run);
    if (!run) return LCL_FAIL(LCL_MEMORY, "no memory for a config");
    int stage = 0;
    lcl_status status;
    LCL_TRY_GOTO(lcl_config_load(path, a->sets.v, a->sets.n, run));
    LCL_TRY_GOTO(pick_stage(run, a->stage, &stage));
    struct inspect_request r = a->request;
    r.epoch = (uint32_t)stage;
    r.json = a->json;
    if (strcmp(run->stages[0].data_images, "none") == 0) lcl_env_forget_missing(run);
    status = a->rows > 0 ? inspect_mixture(&run->stages[stage], r.epoch, a->rows, a->json, r.sheet)
             : r.n > 0   ? inspect_episodes(&run->stages[stage], &r)
                         : describe_config(run, out);
out:
    free(run);
    return status;
}

/* Rows of a pack, in the chat format that --set says. */
static lcl_status inspect_pack_rows(const char *path, const struct arguments *a)
{
    struct lcl_config *c = malloc(sizeof *c);
    if (!c) return LCL_FAIL(LCL_MEMORY, "no memory for a config");
    lcl_status status = lcl_env_run_config("", a->sets.v, a->sets.n, c);
    if (status == LCL_OK) status = inspect_rows(path, c, a->rows, a->json, a->request.sheet);
    free(c);
    return status;
}

static lcl_status inspect_one(const char *path, const struct arguments *a)
{
    json_t *out = json_object();
    lcl_status status;
    if (is_yaml(path) || a->request.n > 0)
        status = inspect_config(path, a, out);
    else if (a->rows > 0)
        status = inspect_pack_rows(path, a);
    else if (a->pictures)
        status = inspect_pictures(path, a->json);
    else
        status = inspect_path(path, out);
    if (status == LCL_OK && json_object_size(out) > 0) {
        if (a->json)
            status = json_dumpf(out, stdout, JSON_INDENT(1)) == 0
                         ? LCL_OK
                         : LCL_FAIL(LCL_IO, "cannot print what %s holds", path);
        else
            print_text(out);
        if (a->json) printf("\n");
    }
    json_decref(out);
    return status;
}

static lcl_status run(int argc, char **argv)
{
    struct arguments a = {.request.world = 1};
    const char *tower = NULL;
    const struct cli_option options[] = {
        {"--json", CLI_FLAG, &a.json, .doc = "print JSON: one object, or one line an episode"},
        {"--episodes", CLI_INT, &a.request.n, .low = 0, .high = 1e9,
         .doc = "of a CONFIG: print its first N training episodes"},
        {"--from-step", CLI_INT, &a.request.from_step, .low = 0, .high = 1e9,
         .doc = "those from this step of the stage on, as a run that is resumed there draws them"},
        {"--rank", CLI_INT, &a.request.rank, .low = 0, .high = 1e6,
         .doc = "of those, the ones that this rank of --world draws"},
        {"--world", CLI_INT, &a.request.world, .low = 1, .high = 1e6, .doc = "number of ranks (1)"},
        {"--rows", CLI_INT, &a.rows, .low = 0, .high = 1e9,
         .doc =
             "of a pack of rows: print its first N rows, what is learned between [[ and ]]; of a "
             "CONFIG: its first N samples of data.sources"},
        {"--pictures", CLI_FLAG, &a.pictures,
         .doc = "of a pack: print its pictures, a line each: name, split, class, and what the "
                "class is called, with tabs between"},
        {"--sheet", CLI_STR, &a.request.sheet, .value = "FILE.html",
         .doc =
             "with --episodes or --rows: also a page of them with their pictures as the model is "
             "given them, boxes and points drawn in, and what is learned marked; with --episodes "
             "of a "
             "CONFIG with data.sources its rows too, each sample with what it is"},
        {"--stage", CLI_STR, &a.stage, .value = "NAME",
         .doc = "of a CONFIG: the stage whose episodes are printed (else the first that has any)"},
        CLI_TOWER_OPTION(&tower),
        CLI_SET_OPTION(&a.sets),
        CLI_END};
    const struct cli_spec spec = {
        .usage = "FILE|FOLDER [options]",
        .about = "Shows what a file holds: an HF LLaVA folder, a PEFT adapter, safetensors, a "
                 "GGUF file, a "
                 "checkpoint, a run folder,\na pack, a neighbor table, or a config. Checksums are "
                 "verified; damage "
                 "is an error that names it.",
        .options = options,
        .min_args = 1,
        .max_args = 1,
        .notes = "Examples:\n  lcl inspect runs/demo/last\n"
                 "  lcl inspect configs/demo/train.yaml --episodes 5 --json"};
    struct cli_args args;
    LCL_TRY(cli_parse(&spec, argc, argv, &args));
    if (args.help) return LCL_OK;
    if (a.request.sheet && a.rows == 0 && a.request.n == 0)
        return LCL_FAIL(LCL_CONFIG, "--sheet shows --episodes N or --rows N; neither is there");
    if (a.pictures && (a.rows > 0 || a.request.n > 0 || is_yaml(args.v[0])))
        return LCL_FAIL(LCL_CONFIG, "--pictures lists what a pack holds: without a config, --rows "
                                    "or --episodes");
    lcl_hf_use_tower(tower);
    return inspect_one(args.v[0], &a);
}

const struct cli_verb verb_inspect = {"inspect", "show what a file or folder holds", 80, run};
