#include "train/episode_view.h"

#include <errno.h>
#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/fs.h"
#include "train/text.h"

#define MAX_FILE_BYTES ((size_t)1 << 30)
enum { PICTURE_SIDE = 160 };

void lcl_episode_view_free(struct lcl_episode_view *v)
{
    for (int i = 0; v->support && i < v->n_support; i++) free(v->support[i].png);
    free(v->support);
    free(v->query.png);
    free(v->answer);
    *v = (struct lcl_episode_view){0};
}

void lcl_episode_views_free(struct lcl_episode_view *views, size_t n)
{
    for (size_t i = 0; i < n; i++) lcl_episode_view_free(&views[i]);
    free(views);
}

/* ---- pictures ---- */

lcl_status lcl_view_picture_take(const struct lcl_image *image, struct lcl_view_picture *p)
{
    struct lcl_image small = {0};
    int longest = image->width > image->height ? image->width : image->height;
    if (longest <= PICTURE_SIDE) return lcl_image_encode_png(image, &p->png, &p->png_size);
    int width = (int)((int64_t)image->width * PICTURE_SIDE / longest);
    int height = (int)((int64_t)image->height * PICTURE_SIDE / longest);
    LCL_TRY(
        lcl_image_resize_bicubic(image, width > 0 ? width : 1, height > 0 ? height : 1, &small));
    lcl_status status = lcl_image_encode_png(&small, &p->png, &p->png_size);
    lcl_image_free(&small);
    return status;
}

static lcl_status fetch(struct lcl_pack *pack, struct lcl_view_picture *p)
{
    const struct lcl_decode_options options = {
        .composite_alpha = true, .background = {128, 128, 128}, .apply_exif = true};
    struct lcl_image image = {0};
    if (p->png) return LCL_OK;
    if (p->image < 0 || p->image >= pack->n_images)
        return LCL_FAIL(LCL_RANGE, "%s has no picture %lld (it holds %lld)", pack->path,
                        (long long)p->image, (long long)pack->n_images);
    LCL_TRY(lcl_pack_read_image(pack, p->image, &options, &image));
    lcl_status status = lcl_view_picture_take(&image, p);
    lcl_image_free(&image);
    return status;
}

lcl_status lcl_episode_view_fetch(struct lcl_episode_view *v, struct lcl_pack *pack)
{
    for (int i = 0; i < v->n_support; i++) LCL_TRY(fetch(pack, &v->support[i]));
    return fetch(pack, &v->query);
}

/* ---- writing ---- */

static void put_string(struct lcl_text *t, const char *key, const char *value)
{
    lcl_text_printf(t, ",\"%s\":", key);
    lcl_text_json_string(t, value);
}

static void put_picture(struct lcl_text *t, const struct lcl_view_picture *p)
{
    lcl_text_printf(t, "{\"image\":%lld", (long long)p->image);
    put_string(t, "class", p->class_name);
    if (p->label[0]) put_string(t, "label", p->label);
    if (p->png) {
        lcl_text_puts(t, ",\"png\":\"");
        lcl_text_base64(t, p->png, p->png_size);
        lcl_text_puts(t, "\"");
    }
    lcl_text_puts(t, "}");
}

static void put_view(struct lcl_text *t, const struct lcl_episode_view *v)
{
    lcl_text_puts(t, "{\"row\":");
    lcl_text_json_string(t, v->row);
    lcl_text_printf(t, ",\"sample\":%lld,\"shots\":%lld", (long long)v->sample,
                    (long long)v->shots);
    if (v->pack[0]) put_string(t, "pack", v->pack);
    lcl_text_puts(t, ",\"support\":[");
    for (int i = 0; i < v->n_support; i++) {
        if (i) lcl_text_puts(t, ",");
        put_picture(t, &v->support[i]);
    }
    lcl_text_puts(t, "],\"query\":");
    put_picture(t, &v->query);
    put_string(t, "expected", v->expected);
    put_string(t, "other", v->other);
    if (v->answer) {
        put_string(t, "answer", v->answer);
        put_string(t, "said", v->said);
    }
    lcl_text_printf(t, ",\"correct\":%s", v->correct ? "true" : "false");
    if (!isnan(v->logprob[0]) && !isnan(v->logprob[1])) {
        lcl_text_puts(t, ",\"logprob\":[");
        lcl_text_json_number(t, v->logprob[0]);
        lcl_text_puts(t, ",");
        lcl_text_json_number(t, v->logprob[1]);
        lcl_text_printf(t, "],\"likelihood_correct\":%s",
                        v->logprob[0] > v->logprob[1] ? "true" : "false");
    }
    lcl_text_puts(t, "}\n");
}

lcl_status lcl_episode_view_write(FILE *f, const struct lcl_episode_view *v)
{
    struct lcl_text t = {0};
    put_view(&t, v);
    lcl_status status = lcl_text_check(&t);
    if (status == LCL_OK && fwrite(t.data, 1, t.size, f) != t.size)
        status = LCL_FAIL(LCL_IO, "cannot write an episode: %s", strerror(errno));
    lcl_text_free(&t);
    return status;
}

/* ---- reading: helpers say which key is wrong, the caller adds file and line ---- */

static lcl_status get_string(const json_t *object, const char *key, bool required, char *out,
                             size_t out_bytes)
{
    const json_t *v = json_object_get(object, key);
    out[0] = '\0';
    if (!v && !required) return LCL_OK;
    if (!json_is_string(v) || json_string_length(v) >= out_bytes)
        return LCL_FAIL(LCL_FORMAT, "\"%s\" is not a string of fewer than %zu bytes", key,
                        out_bytes);
    snprintf(out, out_bytes, "%s", json_string_value(v));
    return LCL_OK;
}

static lcl_status get_integer(const json_t *object, const char *key, int64_t fallback, int64_t *out)
{
    const json_t *v = json_object_get(object, key);
    *out = v ? (int64_t)json_integer_value(v) : fallback;
    if (v && !json_is_integer(v)) return LCL_FAIL(LCL_FORMAT, "\"%s\" is not an integer", key);
    return LCL_OK;
}

static lcl_status get_picture(const json_t *object, struct lcl_view_picture *out)
{
    if (!json_is_object(object)) return LCL_FAIL(LCL_FORMAT, "a picture is no object");
    LCL_TRY(get_integer(object, "image", -1, &out->image));
    LCL_TRY(get_string(object, "class", false, out->class_name, sizeof out->class_name));
    LCL_TRY(get_string(object, "label", false, out->label, sizeof out->label));
    const json_t *png = json_object_get(object, "png");
    if (!png) return LCL_OK;
    if (!json_is_string(png)) return LCL_FAIL(LCL_FORMAT, "\"png\" is not a string");
    LCL_TRY(lcl_base64_decode(json_string_value(png), json_string_length(png), &out->png,
                              &out->png_size));
    if (out->png_size < 8 || memcmp(out->png, "\x89PNG\r\n\x1a\n", 8) != 0)
        return LCL_FAIL(LCL_FORMAT, "\"png\" holds no PNG picture");
    return LCL_OK;
}

static lcl_status get_support(const json_t *list, struct lcl_episode_view *v)
{
    size_t n = json_array_size(list);
    if (!json_is_array(list) || n > LCL_VIEW_MAX_SUPPORT)
        return LCL_FAIL(LCL_FORMAT, "\"support\" is not a list of at most %d pictures",
                        LCL_VIEW_MAX_SUPPORT);
    v->support = calloc(n + 1, sizeof *v->support);
    if (!v->support) return LCL_FAIL(LCL_MEMORY, "out of memory for %zu support pictures", n);
    v->n_support = (int)n;
    for (size_t i = 0; i < n; i++) LCL_TRY(get_picture(json_array_get(list, i), &v->support[i]));
    return LCL_OK;
}

static lcl_status get_view(const json_t *object, struct lcl_episode_view *v)
{
    LCL_TRY(get_string(object, "row", false, v->row, sizeof v->row));
    LCL_TRY(get_string(object, "pack", false, v->pack, sizeof v->pack));
    LCL_TRY(get_integer(object, "sample", 0, &v->sample));
    LCL_TRY(get_support(json_object_get(object, "support"), v));
    LCL_TRY(get_integer(object, "shots", v->n_support, &v->shots));
    if (v->shots < 0 || v->shots > 1000000000)
        return LCL_FAIL(LCL_FORMAT, "\"shots\" is %lld", (long long)v->shots);
    LCL_TRY(get_picture(json_object_get(object, "query"), &v->query));
    LCL_TRY(get_string(object, "expected", true, v->expected, sizeof v->expected));
    LCL_TRY(get_string(object, "other", false, v->other, sizeof v->other));
    LCL_TRY(get_string(object, "said", false, v->said, sizeof v->said));
    const json_t *answer = json_object_get(object, "answer");
    if (answer && !json_is_string(answer))
        return LCL_FAIL(LCL_FORMAT, "\"answer\" is not a string");
    if (answer && !(v->answer = strdup(json_string_value(answer))))
        return LCL_FAIL(LCL_MEMORY, "out of memory for an answer");
    const json_t *correct = json_object_get(object, "correct");
    if (!json_is_boolean(correct)) return LCL_FAIL(LCL_FORMAT, "\"correct\" is not true or false");
    v->correct = json_is_true(correct);
    const json_t *logprob = json_object_get(object, "logprob");
    for (size_t i = 0; i < 2; i++) {
        const json_t *x = json_array_get(logprob, i);
        v->logprob[i] = json_is_number(x) ? json_number_value(x) : (double)NAN;
    }
    return LCL_OK;
}

static lcl_status read_line(const char *line, size_t length, const char *path, size_t number,
                            struct lcl_episode_view *v)
{
    json_error_t error;
    json_t *object = json_loadb(line, length, JSON_REJECT_DUPLICATES, &error);
    lcl_status status = LCL_OK;
    if (!json_is_object(object))
        status = LCL_FAIL(LCL_FORMAT, "%s:%zu: no JSON object: %s", path, number,
                          object ? "another value" : error.text);
    else if ((status = get_view(object, v)) != LCL_OK)
        status = lcl_fail_context(status, "%s:%zu", path, number);
    json_decref(object);
    return status;
}

lcl_status lcl_episode_views_load(const char *path, size_t max, struct lcl_episode_view **views,
                                  size_t *n, size_t *total)
{
    lcl_status status = LCL_OK;
    char *data = NULL;
    size_t size = 0, lines = 0;
    *views = NULL;
    *n = *total = 0;
    LCL_TRY(lcl_fs_read(path, MAX_FILE_BYTES, &data, &size));
    for (size_t i = 0; i < size; i++) lines += data[i] == '\n';
    *total = lines;
    size_t wanted = lines < max ? lines : max;
    struct lcl_episode_view *list = calloc(wanted + 1, sizeof *list);
    if (!list) {
        status = LCL_FAIL(LCL_MEMORY, "out of memory for %zu episodes of %s", wanted, path);
        goto out;
    }
    const char *at = data;
    for (size_t i = 0; i < wanted; i++) {
        const char *newline = memchr(at, '\n', size - (size_t)(at - data));
        *n = i + 1;
        LCL_TRY_GOTO(read_line(at, (size_t)(newline - at), path, i + 1, &list[i]));
        at = newline + 1;
    }
    *views = list;
    list = NULL;
out:
    if (list) lcl_episode_views_free(list, *n);
    if (status != LCL_OK) *n = 0;
    free(data);
    return status;
}
