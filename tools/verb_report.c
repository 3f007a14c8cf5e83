/* lcl report: the HTML page of a run, and the plot of its accuracies. */
#include <stdio.h>
#include <stdlib.h>

#include "core/fs.h"
#include "core/log.h"
#include "tools/cli.h"
#include "train/report.h"

static lcl_status write_svg(const char *dir, const char *svg)
{
    struct lcl_results *results = calloc(1, sizeof *results);
    char *path = lcl_strdupf("%s/results.json", dir);
    lcl_status status = LCL_OK;
    if (!path || !results) {
        status = LCL_FAIL(LCL_MEMORY, "out of memory for the results of %s", dir);
        goto out;
    }
    LCL_TRY_GOTO(lcl_results_load(path, results));
    LCL_TRY_GOTO(lcl_plot_accuracy_file(results, svg));
    printf("%s\n", svg);
out:
    free(path);
    free(results);
    return status;
}

static lcl_status run(int argc, char **argv)
{
    const char *out = NULL, *svg = NULL, *figures = NULL;
    const struct cli_option options[] = {
        {"--out", CLI_STR, &out, .value = "FILE",
         .doc = "the page (default: report.html in that folder)"},
        {"--svg", CLI_STR, &svg, .value = "FILE",
         .doc = "also draw accuracy by shots, from results.json, as a picture of its own"},
        {"--figures", CLI_STR, &figures, .value = "DIR",
         .doc = "of a sweep: also write each figure as a picture, and figures.md with their "
                "tables, into this folder"},
        CLI_END};
    const struct cli_spec spec = {
        .usage = "RUN_OR_DEMO_DIR [--out report.html] [--svg accuracy.svg] [--figures DIR]",
        .about =
            "Writes one self-contained HTML file about a run, or a folder of runs: accuracy by "
            "shots, episodes, training curves, neighbors, time and config. Prints its path.",
        .options = options,
        .min_args = 1,
        .max_args = 1};
    struct cli_args args;
    LCL_TRY(cli_parse(&spec, argc, argv, &args));
    if (args.help) return LCL_OK;
    char *standard = lcl_strdupf("%s/report.html", args.v[0]);
    if (!standard) return LCL_FAIL(LCL_MEMORY, "out of memory for a path in %s", args.v[0]);
    lcl_status status = lcl_report_write(args.v[0], out ? out : standard);
    if (status == LCL_OK) printf("%s\n", out ? out : standard);
    free(standard);
    if (status == LCL_OK && svg) status = write_svg(args.v[0], svg);
    if (status == LCL_OK && figures) status = lcl_report_figures(args.v[0], figures);
    if (status == LCL_OK && figures) printf("%s/figures.md\n", figures);
    return status;
}

const struct cli_verb verb_report = {"report", "write the HTML report of a run", 90, run};
