/* lcl encode: episodes as the official code's token ids and labels, a JSON object a line. */
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "core/fs.h"
#include "data/official.h"
#include "tools/cli.h"
#include "tools/clone_texts.h"
#include "tools/encode_line.h"
#include "tools/lines.h"

static lcl_status print_ids(const struct lcl_ids *ids, const struct lcl_ids *labels)
{
    const struct lcl_ids *lists[] = {ids, labels};
    static const char *const names[] = {"{\"input_ids\": [", "], \"labels\": ["};
    for (int k = 0; k < 2; k++) {
        fputs(names[k], stdout);
        for (int64_t i = 0; i < lists[k]->n; i++) printf(i ? ", %d" : "%d", (int)lists[k]->v[i]);
    }
    return puts("]}") < 0 ? LCL_FAIL(LCL_IO, "cannot write to standard output") : LCL_OK;
}

struct encoding {
    const struct lcl_official *official;
    bool eval;
};

static lcl_status one_line(void *ctx, json_t *in)
{
    const struct encoding *c = ctx;
    struct lcl_ids ids = {0}, labels = {0};
    lcl_status status;
    struct lcl_official_episode e;
    const char **names;
    LCL_TRY(encode_read(in, &e, &names));
    LCL_TRY_GOTO(lcl_official_encode(c->official, &e, !c->eval && e.label, &ids, &labels));
    LCL_TRY_GOTO(print_ids(&ids, &labels));
out:
    free(names);
    lcl_ids_free(&ids);
    lcl_ids_free(&labels);
    return status;
}

static lcl_status load_template(const char *from, struct lcl_template *t)
{
    char *json;
    if (!lcl_fs_is_dir(from)) return lcl_template_load(from, t);
    LCL_TRY(clone_template(from, false, &json));
    lcl_status status = lcl_template_parse(from, json, strlen(json), t);
    free(json);
    return status;
}

static lcl_status encode(const char *templates, const char *model, int64_t image_tokens,
                         const char *in, bool eval)
{
    struct lcl_template t;
    struct lcl_tokenizer *tokenizer = NULL;
    struct lcl_official *o = NULL;
    lcl_status status;
    LCL_TRY(load_template(templates, &t));
    LCL_TRY_GOTO(lcl_tokenizer_load_slow(model, &tokenizer));
    LCL_TRY_GOTO(lcl_official_create(&t, tokenizer, image_tokens, &o));
    struct encoding c = {o, eval};
    LCL_TRY_GOTO(lines_read(in, one_line, &c));
out:
    lcl_official_free(o);
    lcl_tokenizer_free(tokenizer);
    lcl_template_free(&t);
    return status;
}

static lcl_status run(int argc, char **argv)
{
    const char *templates = NULL, *model = NULL, *in = "-";
    int64_t image_tokens = LCL_OFFICIAL_IMAGE_TOKENS;
    int layout = 0;
    bool eval = false;
    const struct cli_option options[] = {
        {"--layout", CLI_CHOICE, &layout, .words = "official",
         .doc = "the official code's, which is the only one"},
        {"--templates", CLI_STR, &templates, .value = "CLONE", .required = true,
         .doc = "clone of the official code, or the file that lcl import templates made of it"},
        {"--model", CLI_STR, &model, .value = "DIR", .required = true,
         .doc = "folder with tokenizer.model (or tokenizer.json), or such a file"},
        {"--image-tokens", CLI_INT, &image_tokens, .low = 1, .high = 1 << 20,
         .doc = "tokens of an image"},
        {"--in", CLI_STR, &in, .value = "FILE", .doc = "lines to read; -: standard input"},
        {"--eval", CLI_FLAG, &eval,
         .doc =
             "as an evaluation although labels are known: input_ids end where the answer begins"},
        CLI_END};
    const struct cli_spec spec = {
        .usage = "--layout official --templates CLONE --model DIR [--in FILE]",
        .about =
            "Reads episodes, {\"support\": [{\"label\":}, ...], \"query\": {\"label\":, "
            "\"question\":}} on each line, and\nwrites {\"input_ids\":, \"labels\":} as the "
            "official code of link-context learning makes them, -100\nwhere nothing is "
            "supervised. A query without a label, or with null, is an evaluation's: its\n"
            "input_ids end at the answer. Without a question, or with null, it asks the one of "
            "evaluations.\nPictures are not read.",
        .options = options,
        .notes = "Example:\n  lcl encode --layout official --templates Link-Context-Learning "
                 "--model vicuna-7b --in episodes.jsonl"};
    struct cli_args args;
    LCL_TRY(cli_parse(&spec, argc, argv, &args));
    return args.help ? LCL_OK : encode(templates, model, image_tokens, in, eval);
}

const struct cli_verb verb_encode = {"encode", "episodes as the official code's token ids", 92,
                                     run};
