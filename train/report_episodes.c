/* The episodes section: support pictures with their labels, the query, the answer, right or wrong.
 */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "train/report_parts.h"

/* Width and height of a PNG (its header comes first, big endian), or false. */
static bool png_size(const struct lcl_view_picture *p, uint32_t *width, uint32_t *height)
{
    if (!p->png || p->png_size < 24) return false;
    const uint8_t *b = p->png + 16;
    *width = (uint32_t)b[0] << 24 | (uint32_t)b[1] << 16 | (uint32_t)b[2] << 8 | b[3];
    *height = (uint32_t)b[4] << 24 | (uint32_t)b[5] << 16 | (uint32_t)b[6] << 8 | b[7];
    return true;
}

static void put_picture(struct lcl_text *t, const struct lcl_view_picture *p, const char *role)
{
    uint32_t width = 0, height = 0;
    if (!p->png) {
        lcl_text_puts(t,
                      "<span class=\"none\" role=\"img\" aria-label=\"picture left out\"></span>");
        return;
    }
    bool small = png_size(p, &width, &height) && width <= 96 && height <= 96;
    lcl_text_printf(t, "<img%s loading=\"lazy\" alt=\"%s", small ? " class=\"px\"" : "", role);
    lcl_text_html(t, p->class_name[0] ? p->class_name : "a picture");
    if (p->label[0]) {
        lcl_text_puts(t, ", labelled ");
        lcl_text_html(t, p->label);
    }
    lcl_text_puts(t, "\" title=\"");
    lcl_text_html(t, p->class_name);
    lcl_text_puts(t, "\" src=\"data:image/png;base64,");
    lcl_text_base64(t, p->png, p->png_size);
    lcl_text_puts(t, "\">");
}

/* The answer with what it says as the label underlined. */
static void put_answer(struct lcl_text *t, const struct lcl_episode_view *v)
{
    char quoted[LCL_VIEW_NAME_BYTES + 2];
    snprintf(quoted, sizeof quoted, "\"%s", v->said);
    const char *at = v->said[0] ? strstr(v->answer, quoted) : NULL;
    if (!at) {
        lcl_text_html(t, v->answer[0] ? v->answer : "(nothing)");
        return;
    }
    struct lcl_text before = {0};
    lcl_text_bytes(&before, v->answer, (size_t)(at + 1 - v->answer));
    lcl_text_html(t, before.data ? before.data : "");
    lcl_text_puts(t, "<mark>");
    lcl_text_html(t, v->said);
    lcl_text_puts(t, "</mark>");
    lcl_text_html(t, at + 1 + strlen(v->said));
    t->failed = t->failed || before.failed;
    lcl_text_free(&before);
}

static void put_ask(struct lcl_text *t, const struct lcl_episode_view *v)
{
    lcl_text_puts(t, "<div class=\"ask\"><figure>");
    put_picture(t, &v->query, "Query picture: ");
    lcl_text_puts(t, "<figcaption>query</figcaption></figure><dl>");
    if (v->answer) {
        lcl_text_puts(t, "<dt>answer</dt><dd>");
        put_answer(t, v);
        lcl_text_puts(t, "</dd>");
    }
    lcl_text_puts(t, "<dt>expected</dt><dd>");
    lcl_text_html(t, v->expected);
    lcl_text_puts(t, "</dd>");
    if (!isnan(v->logprob[0]) && !isnan(v->logprob[1])) {
        /* Probability of the expected label against the other one. */
        double p = 1 / (1 + exp(v->logprob[1] - v->logprob[0]));
        lcl_text_puts(t, "<dt>by likelihood</dt><dd>");
        report_percent(t, p);
        lcl_text_puts(t, " for the expected label</dd>");
    }
    lcl_text_puts(t, "</dl></div>\n");
}

/* Which class a label that is not the class's own name stands for, for each label once. */
static void put_meanings(struct lcl_text *t, const struct lcl_episode_view *v)
{
    bool any = false;
    for (int i = 0; i < v->n_support; i++) {
        const struct lcl_view_picture *p = &v->support[i];
        bool seen = !p->class_name[0] || strcmp(p->class_name, p->label) == 0;
        for (int k = 0; k < i && !seen; k++)
            seen = strcmp(v->support[k].label, p->label) == 0 &&
                   strcmp(v->support[k].class_name, p->class_name) == 0;
        if (seen) continue;
        lcl_text_puts(t, any ? "; " : "<p class=\"means\">");
        any = true;
        lcl_text_html(t, p->label);
        lcl_text_puts(t, " stands for ");
        lcl_text_html(t, p->class_name);
    }
    if (any) lcl_text_puts(t, "</p>\n");
}

static void put_episode(struct lcl_text *t, const struct lcl_episode_view *v)
{
    const char *verdict = v->correct ? "right" : "wrong";
    lcl_text_printf(t,
                    "<article class=\"card ep %s\"><header><span>%lld shots &#183; episode %lld"
                    "</span><span class=\"verdict\">%s %s</span></header>\n<div class=\"support\">",
                    verdict, (long long)v->shots, (long long)v->sample,
                    v->correct ? "&#10003;" : "&#10007;", verdict);
    for (int i = 0; i < v->n_support; i++) {
        bool positive = v->n_support && strcmp(v->support[i].label, v->expected) == 0;
        lcl_text_printf(t, "<figure%s>", positive ? " class=\"w0\"" : "");
        put_picture(t, &v->support[i], "Support picture: ");
        lcl_text_puts(t, "<figcaption>");
        lcl_text_html(t, v->support[i].label);
        lcl_text_puts(t, "</figcaption></figure>");
    }
    lcl_text_puts(t, "</div>\n");
    put_ask(t, v);
    put_meanings(t, v);
    lcl_text_puts(t, "</article>\n");
}

void report_html_episodes(struct lcl_text *t, struct report *r)
{
    size_t right = 0;
    if (!r->n_views) return;
    for (size_t i = 0; i < r->n_views; i++) right += r->views[i].correct;
    lcl_text_printf(t,
                    "<section id=\"episodes\"><h2>Episodes</h2>\n<p class=\"sub\">%zu of %zu in "
                    "%s, the first ones of each shot count, not picked by outcome: %zu right, "
                    "%zu wrong. A frame and a bold label mark the pictures that carry the expected "
                    "label.</p>\n<div class=\"episodes\">\n",
                    r->n_views, r->total_views, r->views_file, right, r->n_views - right);
    for (size_t i = 0; i < r->n_views; i++) put_episode(t, &r->views[i]);
    lcl_text_puts(t, "</div></section>\n");
}
