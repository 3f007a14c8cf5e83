/* lcl import templates: a file for data.template from a user's clone of the official code. */
#include <stdlib.h>
#include <string.h>

#include "core/fs.h"
#include "data/episode.h"
#include "tools/clone_texts.h"
#include "tools/import.h"

static lcl_status convert(const char *from, const char *out, bool force)
{
    struct lcl_template t;
    char *json = NULL;
    lcl_status status;
    if (lcl_fs_exists(out) && !force)
        return LCL_FAIL_HINT(LCL_EXISTS, "--force replaces it", "%s exists", out);
    LCL_TRY(clone_template(from, true, &json));
    LCL_TRY_GOTO(lcl_fs_write_atomic(out, json, strlen(json)));
    LCL_TRY_GOTO(lcl_template_load(out, &t)); /* what was made can be read */
    lcl_template_free(&t);
    printf("%s: for --set data.template=%s\n", out, out);
out:
    free(json);
    return status;
}

lcl_status import_templates(int argc, char **argv)
{
    const char *from = NULL, *out = "lcl-templates.json";
    bool force = false;
    const struct cli_option options[] = {
        {"--from", CLI_STR, &from, .value = "DIR", .required = true,
         .doc = "clone of the official code of link-context learning"},
        {"--out", CLI_STR, &out, .value = "FILE", .doc = "file to write, for data.template"},
        {"--force", CLI_FLAG, &force, .doc = "replace FILE"},
        CLI_END};
    const struct cli_spec spec = {
        .usage = "--from DIR [--out FILE]",
        .about = "Looks in a clone of isekai-portal/Link-Context-Learning for the texts of its "
                 "layout: the system\nline, the marks of examples and of the final question, the "
                 "question and answer of a shot,\nand the list of questions. Prints where each was "
                 "found, so that it can be looked over,\nand writes them as a file that "
                 "data.template names.",
        .options = options,
        .notes = "Example:\n  lcl import templates --from Link-Context-Learning\n"
                 "  lcl train CONFIG --set data.template=lcl-templates.json"};
    struct cli_args args;
    LCL_TRY(cli_parse(&spec, argc, argv, &args));
    return args.help ? LCL_OK : convert(from, out, force);
}
