#include "train/report.h"

#include <math.h>
#include <stdlib.h>

#include "core/fs.h"
#include "train/report_parts.h"

void report_percent(struct lcl_text *t, double share)
{
    if (isnan(share))
        lcl_text_puts(t, "n/a");
    else
        lcl_text_printf(t, "%.1f %%", 100 * share);
}

lcl_status lcl_report_write(const char *dir, const char *html_path)
{
    struct lcl_text page = {0};
    struct report *r = calloc(1, sizeof *r);
    if (!r) return LCL_FAIL(LCL_MEMORY, "out of memory for the report of %s", dir);
    lcl_status status = LCL_OK;
    LCL_TRY_GOTO(report_load(r, dir));
    report_html_page(&page, r);
    LCL_TRY_GOTO(lcl_text_check(&page));
    LCL_TRY_GOTO(lcl_fs_write_atomic(html_path, page.data, page.size));
out:
    lcl_text_free(&page);
    report_free(r);
    free(r);
    return status;
}
