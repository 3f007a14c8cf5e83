/* lcl import: models of other programs as HF folders. One row of `kinds` for each. */
#include <stdio.h>
#include <string.h>

#include "tools/import.h"

static const struct kind {
    const char *name, *summary;
    lcl_status (*run)(int argc, char **argv); /* argv[0] is "import NAME" */
} kinds[] = {
    {"join", "a vision tower and a language model, with a fresh projector between", import_join},
    {"delta", "a base and what is added to its weights: Vicuna, LLaVA v0, Shikra", import_delta},
    {"gguf", "a language model in a GGUF file, or with its tower in another", import_gguf},
    {"templates", "the texts of the official LCL layout, from a clone of its code",
     import_templates},
};
enum { N_KINDS = sizeof kinds / sizeof *kinds };

static lcl_status run(int argc, char **argv)
{
    char name[64];
    if (argc < 2 || strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0) {
        printf("Usage: lcl import KIND [options]\n\nMakes an HF folder of a model that another "
               "program wrote.\n\nKinds:\n");
        for (int i = 0; i < N_KINDS; i++) printf("  %-12s %s\n", kinds[i].name, kinds[i].summary);
        printf("\nlcl import KIND --help   the options of a kind\n");
        return LCL_OK;
    }
    for (int i = 0; i < N_KINDS; i++) {
        if (strcmp(argv[1], kinds[i].name) != 0) continue;
        snprintf(name, sizeof name, "import %s", kinds[i].name);
        argv[1] = name;
        return kinds[i].run(argc - 1, argv + 1);
    }
    return LCL_FAIL_HINT(LCL_CONFIG, "lcl import --help lists the kinds",
                         "lcl import knows no \"%s\"", argv[1]);
}

const struct cli_verb verb_import = {"import", "make an HF folder of another program's model", 58,
                                     run};
