#include "tools/inspect_page.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "core/fs.h"
#include "core/log.h"
#include "train/env.h"
#include "train/font.h"
#include "train/pictures.h"

enum {
    MOST_MARKS = 256,     /* different places of a text */
    MOST_PLACES = 256,    /* between two brackets */
    MOST_PICTURES = 4096, /* of a page */
    SHOWN_SIDE = 448,     /* pixels, at least, of a picture with places drawn in */
    LINE = 3,
    N_COLOURS = 8
};

/* Dark enough for text on white, and told apart without hue by their numbers. */
static const uint8_t colour[N_COLOURS][3] = {{198, 40, 40},  {0, 104, 168}, {0, 122, 90},
                                             {176, 71, 143}, {181, 84, 0},  {106, 61, 154},
                                             {110, 90, 0},   {60, 70, 80}};

static const char style[] =
    "body{margin:0;background:#f6f6f3;color:#1b1f24;font:16px/1.55 system-ui,-apple-system,"
    "'Segoe UI',Roboto,'Liberation Sans',sans-serif}\n"
    "main{max-width:1080px;margin:0 auto;padding:24px 20px 60px}\n"
    "h1{font-size:22px}h2{font-size:16px;margin:0 0 10px;overflow-wrap:anywhere}\n"
    "section{background:#fff;border:1px solid #e0e2e5;border-radius:8px;padding:16px;"
    "margin:0 0 16px}\n"
    "p{white-space:pre-wrap;overflow-wrap:anywhere;margin:10px 0 0}\n"
    "mark{background:#d9f2e3;color:inherit;border-bottom:2px solid #00664a}\n"
    "figure{display:inline-block;margin:0 12px 8px 0;vertical-align:top;max-width:100%}\n"
    "figcaption{color:#59616c;font-size:13px;overflow-wrap:anywhere}\n"
    "img{display:block;max-width:100%;border:1px solid #e0e2e5}\n"
    "b.i{font-weight:600;color:#59616c;background:#eceef0;border-radius:4px;padding:0 4px}\n"
    "b.m{color:#fff;border-radius:4px;padding:0 4px;font-size:12px;margin-left:2px}\n";

/* ---- places ---- */

/* "0.125": a fraction with its full stop, of at most 1. */
static const char *read_fraction(const char *p, double *x)
{
    char *end;
    if ((p[0] != '0' && p[0] != '1') || p[1] != '.') return NULL;
    *x = strtod(p, &end);
    for (const char *q = p + 2; q < end; q++)
        if (*q < '0' || *q > '9') return NULL; /* no exponents */
    return end > p + 2 && *x <= 1 ? end : NULL;
}

size_t inspect_places(const char *text, struct inspect_place *places, int most, int *n)
{
    const char *p = text;
    *n = 0;
    if (*p != '[') return 0;
    do {
        struct inspect_place one = {0};
        do {
            if (one.n == 4) return 0;
            p = read_fraction(p + 1, &one.at[one.n++]);
        } while (p && *p == ',');
        if (!p || (one.n != 2 && one.n != 4) || (*p != ';' && *p != ']')) return 0;
        if (*n < most) places[(*n)++] = one;
    } while (*p == ';');
    return (size_t)(p + 1 - text);
}

/* The places of a text, each different one once. */
struct marks {
    int n;
    struct inspect_place place[MOST_MARKS];
};

/* The number of a place that was seen, or that it gets; -1 when there are too many. */
static int number_of(struct marks *m, const struct inspect_place *p)
{
    for (int i = 0; i < m->n; i++)
        if (m->place[i].n == p->n && memcmp(m->place[i].at, p->at, sizeof p->at) == 0) return i;
    if (m->n == MOST_MARKS) return -1;
    m->place[m->n] = *p;
    return m->n++;
}

/* ---- text ---- */

static void put_escaped(struct lcl_text *t, const char *from, size_t n)
{
    char *copy = lcl_strdupf("%.*s", (int)n, from);
    if (copy)
        lcl_text_html(t, copy);
    else
        t->failed = true;
    free(copy);
}

/* The places between two brackets, each in the colour and with the number that it has in the
 * picture. */
static void put_places(struct lcl_text *t, const char *at, const struct inspect_place *places,
                       int n, struct marks *m)
{
    for (int i = 0; i < n; i++) {
        size_t bytes = strcspn(at + 1, ";]");
        int number = number_of(m, &places[i]);
        const uint8_t *c = colour[(number < 0 ? 0 : number) % N_COLOURS];
        lcl_text_bytes(t, at, 1);
        if (number >= 0)
            lcl_text_printf(t, "<span style=\"color:rgb(%d,%d,%d)\">", c[0], c[1], c[2]);
        put_escaped(t, at + 1, bytes);
        if (number >= 0)
            lcl_text_printf(t, "</span><b class=m style=\"background:rgb(%d,%d,%d)\">%d</b>", c[0],
                            c[1], c[2], number + 1);
        at += 1 + bytes;
    }
    lcl_text_puts(t, "]");
}

static void put_text(struct lcl_text *t, const struct inspect_sample *s, struct marks *m)
{
    static const char image[] = "<image>";
    struct inspect_place places[MOST_PLACES];
    bool learned = false;
    int64_t picture = 0;
    int n;
    lcl_text_puts(t, "<p>");
    for (const char *p = s->text, *plain = p;; p++) {
        size_t bytes = s->boxes ? inspect_places(p, places, MOST_PLACES, &n) : 0;
        bool opens = !bytes && !learned && strncmp(p, "[[", 2) == 0;
        bool closes = !bytes && learned && strncmp(p, "]]", 2) == 0 && p[2] != ']';
        bool shows = strncmp(p, image, sizeof image - 1) == 0;
        if (*p && !bytes && !opens && !closes && !shows) continue;
        put_escaped(t, plain, (size_t)(p - plain));
        if (!*p) break;
        if (bytes) put_places(t, p, places, n, m);
        if (opens || closes) lcl_text_puts(t, opens ? "<mark>" : "</mark>");
        if (opens || closes) learned = opens;
        if (shows) lcl_text_printf(t, "<b class=i>picture %lld</b>", (long long)++picture);
        p += (bytes ? bytes : shows ? sizeof image - 1 : 2) - 1;
        plain = p + 1;
    }
    lcl_text_puts(t, learned ? "</mark></p>\n" : "</p>\n");
}

/* ---- pictures ---- */

static void put_pixel(struct lcl_image *im, int x, int y, const uint8_t rgb[3])
{
    if (x >= 0 && y >= 0 && x < im->width && y < im->height)
        memcpy(im->pixels + ((size_t)y * (size_t)im->width + (size_t)x) * 3, rgb, 3);
}

static void fill(struct lcl_image *im, int x0, int y0, int x1, int y1, const uint8_t rgb[3])
{
    for (int y = y0; y < y1; y++)
        for (int x = x0; x < x1; x++) put_pixel(im, x, y, rgb);
}

/* The mark's number on its colour, within the picture. */
static void draw_tag(struct lcl_image *im, int x, int y, int number)
{
    static const uint8_t white[3] = {255, 255, 255};
    char text[12];
    int n = snprintf(text, sizeof text, "%d", number + 1);
    int width = n * LCL_FONT_ADVANCE * 2 + 4, height = LCL_FONT_HEIGHT * 2 + 2;
    if (x + width > im->width) x = im->width - width;
    if (y + height > im->height) y = im->height - height;
    if (x < 0) x = 0;
    if (y < 0) y = 0;
    fill(im, x, y, x + width, y + height, colour[number % N_COLOURS]);
    lcl_font_draw(im, x + 3, y + 2, 2, white, text, (size_t)n);
}

/* A frame, or a cross, in the mark's colour with a white edge that stands off any ground. */
static void draw_place(struct lcl_image *im, const struct inspect_place *p, int number)
{
    static const uint8_t white[3] = {255, 255, 255};
    int v[4];
    for (int k = 0; k < p->n; k++) v[k] = (int)lrint(p->at[k] * (k % 2 ? im->height : im->width));
    for (int pass = 0; pass < 2; pass++) {
        const uint8_t *rgb = pass ? colour[number % N_COLOURS] : white;
        int out = pass ? 0 : 1, in = LINE + out;
        if (p->n == 2) {
            int arm = 10 + out, half = LINE / 2 + out;
            fill(im, v[0] - arm, v[1] - half, v[0] + arm + 1, v[1] + half + 1, rgb);
            fill(im, v[0] - half, v[1] - arm, v[0] + half + 1, v[1] + arm + 1, rgb);
        } else {
            fill(im, v[0] - out, v[1] - out, v[2] + out, v[1] + in, rgb);
            fill(im, v[0] - out, v[3] - in, v[2] + out, v[3] + out, rgb);
            fill(im, v[0] - out, v[1] - out, v[0] + in, v[3] + out, rgb);
            fill(im, v[2] - in, v[1] - out, v[2] + out, v[3] + out, rgb);
        }
    }
    draw_tag(im, p->n == 2 ? v[0] + 10 : v[0], p->n == 2 ? v[1] + 4 : v[1], number);
}

/* Bytes of what the model is given, each pixel `times` wide and high. */
static lcl_status to_image(const struct lcl_preprocess *p, const float *in_3SS, int times,
                           struct lcl_image *out)
{
    size_t S = (size_t)p->size, side = S * (size_t)times;
    *out = (struct lcl_image){(int)side, (int)side, 3, malloc(side * side * 3)};
    if (!out->pixels) return LCL_FAIL(LCL_MEMORY, "no memory for a picture");
    for (size_t y = 0; y < side; y++)
        for (size_t x = 0; x < side; x++)
            for (size_t c = 0; c < 3; c++) {
                float z = in_3SS[(c * S + y / (size_t)times) * S + x / (size_t)times];
                double v = ((double)z * (double)p->std[c] + (double)p->mean[c]) * 255;
                out->pixels[(y * side + x) * 3 + c] = (uint8_t)lrint(v < 0 ? 0 : v > 255 ? 255 : v);
            }
    return LCL_OK;
}

static struct lcl_pack *pack_of(const struct inspect_sample *s, int64_t i)
{
    return s->packs ? s->packs[i] : s->pack;
}

static lcl_status put_picture(struct inspect_page *page, const struct inspect_sample *s, int64_t i,
                              const float *pixels, const struct marks *m)
{
    struct lcl_image im;
    uint8_t *png = NULL;
    size_t size = 0;
    const char *name = "";
    int side = page->preprocess.size;
    bool drawn = i == 0 && m->n > 0;
    int times = drawn && side < SHOWN_SIDE ? (SHOWN_SIDE + side - 1) / side : 1;
    lcl_status status = to_image(&page->preprocess, pixels, times, &im);
    for (int k = 0; k < m->n && drawn && status == LCL_OK; k++) draw_place(&im, &m->place[k], k);
    if (status == LCL_OK) status = lcl_image_encode_png(&im, &png, &size);
    if (status == LCL_OK) status = lcl_pack_image_name(pack_of(s, i), s->image[i], &name);
    if (status == LCL_OK) {
        lcl_text_puts(&page->html, "<figure><img alt=\"\" src=\"data:image/png;base64,");
        lcl_text_base64(&page->html, png, size);
        lcl_text_printf(&page->html, "\"><figcaption>picture %lld: ", (long long)(i + 1));
        lcl_text_html(&page->html, name);
        lcl_text_puts(&page->html, s->view && s->view[i] ? " (augmented)</figcaption></figure>\n"
                                                         : "</figcaption></figure>\n");
    }
    free(png);
    lcl_image_free(&im);
    return status;
}

static lcl_status put_pictures(struct inspect_page *page, const struct inspect_sample *s,
                               const struct marks *m)
{
    size_t plane = 3 * (size_t)page->preprocess.size * (size_t)page->preprocess.size;
    struct lcl_pictures pictures = {0};
    float *pixels = malloc(plane * sizeof *pixels);
    lcl_status status = pixels ? LCL_OK : LCL_FAIL(LCL_MEMORY, "no memory for a picture");
    for (int64_t i = 0; i < s->n_images && status == LCL_OK; i++) {
        if (page->n_pictures++ == MOST_PICTURES)
            status = LCL_FAIL_HINT(LCL_RANGE, "fewer rows or episodes", "%s: over %d pictures",
                                   page->path, MOST_PICTURES);
        if (i == 0 || pack_of(s, i) != pack_of(s, i - 1)) {
            lcl_pictures_close(&pictures);
            lcl_pictures_on_demand(&pictures, pack_of(s, i), &page->preprocess, page->config);
        }
        if (status == LCL_OK)
            status =
                lcl_pictures_read(&pictures, s->image + i, s->view ? s->view + i : NULL, 1, pixels);
        if (status == LCL_OK) status = put_picture(page, s, i, pixels, m);
    }
    lcl_pictures_close(&pictures);
    free(pixels);
    return status;
}

/* ---- the page ---- */

lcl_status inspect_page_open(struct inspect_page *p, const char *path, const char *title,
                             const struct lcl_config *c, bool pad)
{
    *p = (struct inspect_page){.path = path};
    if (!path) return LCL_OK;
    const char *dot = strrchr(path, '.');
    if (!dot || (strcasecmp(dot, ".html") != 0 && strcasecmp(dot, ".htm") != 0))
        return LCL_FAIL_HINT(LCL_CONFIG, "--sheet samples.html", "--sheet %s: wanted a name.html",
                             path);
    p->config = malloc(sizeof *p->config);
    if (!p->config) return LCL_FAIL(LCL_MEMORY, "no memory for a page");
    *p->config = *c;
    lcl_preprocess_defaults(&p->preprocess, (int)c->vision_image_size);
    p->preprocess.mode = pad || c->data_resize == 1 ? LCL_RESIZE_PAD : LCL_RESIZE_CROP;
    LCL_TRY(lcl_parse_background(c->data_background, p->preprocess.background));
    lcl_text_puts(&p->html, "<!DOCTYPE html>\n<html lang=en><meta charset=utf-8>\n<meta "
                            "name=viewport content=\"width=device-width\"><title>");
    lcl_text_html(&p->html, title);
    lcl_text_printf(&p->html, "</title>\n<style>\n%s</style>\n<main><h1>", style);
    lcl_text_html(&p->html, title);
    lcl_text_printf(&p->html,
                    "</h1>\n<p>What training sees: pictures as they are given to the model, %d x "
                    "%d pixels; <mark>what is learned</mark>; boxes and points by the number that "
                    "stands behind them.</p>\n",
                    p->preprocess.size, p->preprocess.size);
    return LCL_OK;
}

lcl_status inspect_page_add(struct inspect_page *p, const struct inspect_sample *s)
{
    if (!p->path) return LCL_OK;
    struct marks m = {0};
    struct lcl_text text = {0};
    put_text(&text, s, &m);
    lcl_text_puts(&p->html, "<section><h2>");
    lcl_text_html(&p->html, s->heading);
    lcl_text_puts(&p->html, "</h2>\n");
    lcl_status status = put_pictures(p, s, &m);
    if (text.data) lcl_text_puts(&p->html, text.data);
    lcl_text_puts(&p->html, "</section>\n");
    if (status == LCL_OK) status = lcl_text_check(&text);
    lcl_text_free(&text);
    return status == LCL_OK ? lcl_text_check(&p->html) : status;
}

lcl_status inspect_page_save(struct inspect_page *p)
{
    if (!p->path) return LCL_OK;
    lcl_text_puts(&p->html, "</main></html>\n");
    LCL_TRY(lcl_text_check(&p->html));
    LCL_TRY(lcl_fs_write_atomic(p->path, p->html.data, p->html.size));
    lcl_log_info("wrote %s", p->path);
    return LCL_OK;
}

void inspect_page_free(struct inspect_page *p)
{
    lcl_text_free(&p->html);
    free(p->config);
    *p = (struct inspect_page){0};
}
