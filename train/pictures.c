#include "train/pictures.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/log.h"
#include "core/rng.h"
#include "core/threads.h"
#include "data/jigsaw.h"
#include "train/ranks.h"
#include "train/share.h"

enum { READ_BATCH = 256 };

static int64_t plane(const struct lcl_pictures *p)
{
    return (int64_t)p->preprocess.size * p->preprocess.size;
}

/* The resized byte that a normalised value came from. */
static uint8_t to_byte(const struct lcl_pictures *p, int c, float x)
{
    double v = ((double)x * (double)p->preprocess.std[c] + (double)p->preprocess.mean[c]) * 255;
    long byte = lrint(v);
    return (uint8_t)(byte < 0 ? 0 : byte > 255 ? 255 : byte);
}

/* Those of this rank, and then all. */
static lcl_status preload(struct lcl_pictures *p)
{
    struct lcl_comm *ranks = lcl_ranks();
    int64_t per = 3 * plane(p), n = p->pack->n_images;
    float *pixels = malloc((size_t)(READ_BATCH * per) * sizeof *pixels);
    int64_t *index = malloc(READ_BATCH * sizeof *index);
    p->bytes = malloc((size_t)(n * per));
    lcl_status status = LCL_OK;
    if (!pixels || !index || !p->bytes) {
        status = LCL_FAIL(LCL_MEMORY, "no memory for %lld pictures", (long long)n);
        goto out;
    }
    struct lcl_progress progress;
    lcl_progress_begin(&progress, "reading pictures", "pictures", n);
    for (int64_t begin = 0; begin < n; begin += READ_BATCH) {
        int64_t count = n - begin < READ_BATCH ? n - begin : READ_BATCH;
        if (!lcl_share_is_mine(ranks, begin / READ_BATCH)) continue;
        for (int64_t i = 0; i < count; i++) index[i] = begin + i;
        LCL_TRY_GOTO(lcl_pack_read_pixels(p->pack, index, count, &p->preprocess, pixels));
        for (int64_t i = 0; i < count * 3; i++)
            for (int64_t k = 0; k < plane(p); k++)
                p->bytes[begin * per + i * plane(p) + k] =
                    to_byte(p, (int)(i % 3), pixels[i * plane(p) + k]);
        lcl_progress_update(&progress, begin + count, NULL);
    }
    lcl_progress_end(&progress, NULL);
    status = lcl_share_gather(ranks, "pictures", p->bytes, (size_t)per, READ_BATCH, n);
out:
    free(pixels);
    free(index);
    return status;
}

void lcl_pictures_on_demand(struct lcl_pictures *p, struct lcl_pack *pack,
                            const struct lcl_preprocess *preprocess, const struct lcl_config *c)
{
    *p = (struct lcl_pictures){
        .pack = pack,
        .preprocess = *preprocess,
        .augment = {(uint64_t)c->seed, c->classifier_shift, c->classifier_jitter}};
    for (int channel = 0; channel < 3; channel++)
        for (int v = 0; v < 256; v++)
            p->value[channel][v] = (float)(((double)v / 255 - (double)preprocess->mean[channel]) /
                                           (double)preprocess->std[channel]);
}

lcl_status lcl_pictures_open(struct lcl_pictures *p, struct lcl_pack *pack,
                             const struct lcl_preprocess *preprocess, const struct lcl_config *c)
{
    lcl_pictures_on_demand(p, pack, preprocess, c);
    if (pack->n_images * 3 * plane(p) > (int64_t)1 << 30) return LCL_OK;
    lcl_status status = preload(p);
    if (status != LCL_OK) lcl_pictures_close(p);
    return status;
}

lcl_status lcl_pictures_add(struct lcl_pictures *p, struct lcl_pack *pack,
                            const struct lcl_config *c)
{
    while (p->next) p = p->next;
    p->next = calloc(1, sizeof *p->next);
    if (!p->next) return LCL_FAIL(LCL_MEMORY, "no memory for pictures");
    return lcl_pictures_open(p->next, pack, &p->preprocess, c);
}

/* The pack that a picture is of, and its number there. */
static struct lcl_pictures *part_of(struct lcl_pictures *p, int64_t *image)
{
    for (; *image >= p->pack->n_images && p->next; p = p->next) *image -= p->pack->n_images;
    return p;
}

void lcl_pictures_close(struct lcl_pictures *p)
{
    if (p->next) lcl_pictures_close(p->next);
    free(p->next);
    free(p->bytes);
    *p = (struct lcl_pictures){0};
}

struct warp {
    bool flip;
    int dx, dy;
    float contrast, brightness;
};

static struct warp draw_warp(const struct lcl_pictures *p, int64_t image, int32_t view)
{
    struct lcl_rng rng =
        lcl_rng_stream(p->augment.seed, LCL_RNG_AUGMENT, (uint32_t)view, (uint64_t)image);
    uint32_t span = (uint32_t)(2 * p->augment.shift + 1);
    struct warp w = {.flip = lcl_rng_below(&rng, 2) == 1};
    w.dx = (int)lcl_rng_below(&rng, span) - (int)p->augment.shift;
    w.dy = (int)lcl_rng_below(&rng, span) - (int)p->augment.shift;
    w.contrast = (float)(1 + p->augment.jitter * (2 * lcl_rng_uniform(&rng) - 1));
    w.brightness = (float)(p->augment.jitter * (2 * lcl_rng_uniform(&rng) - 1));
    return w;
}

/* A plane of values in 0..1 scale terms: out = ((v - .5) contrast + .5 + brightness) in normalised
 * units; background outside. */
static void warp_plane(const struct lcl_pictures *p, int c, const float *in, const struct warp *w,
                       float *out)
{
    int S = p->preprocess.size;
    float mean = p->preprocess.mean[c], std = p->preprocess.std[c];
    float offset = ((mean - 0.5f) * w->contrast + 0.5f + w->brightness - mean) / std;
    float background = p->value[c][p->preprocess.background[c]];
    for (int y = 0; y < S; y++) {
        int from_y = y - w->dy;
        for (int x = 0; x < S; x++) {
            int from_x = (w->flip ? S - 1 - x : x) - w->dx;
            bool inside = from_y >= 0 && from_y < S && from_x >= 0 && from_x < S;
            float v = inside ? in[from_y * S + from_x] : background;
            out[y * S + x] = v * w->contrast + offset;
        }
    }
}

/* A tile or a jigsaw, which is cut from the picture in its own size. */
static bool is_cut(const int32_t *view, int64_t i) { return view && lcl_jigsaw_is_view(view[i]); }

struct read_ctx {
    struct lcl_pictures *p;
    const int64_t *image;
    const int32_t *view;
    float *out;
};

static lcl_status read_one(void *arg, int64_t i)
{
    struct read_ctx *ctx = arg;
    struct lcl_pictures *p = ctx->p;
    int64_t P = plane(p);
    float *out = ctx->out + i * 3 * P;
    int64_t own = ctx->image[i];
    if (is_cut(ctx->view, i)) return LCL_OK;
    const struct lcl_pictures *part = part_of(p, &own);
    if (part->bytes) {
        const uint8_t *bytes = part->bytes + own * 3 * P;
        for (int c = 0; c < 3; c++)
            for (int64_t k = 0; k < P; k++) out[c * P + k] = p->value[c][bytes[c * P + k]];
    }
    if (!ctx->view || ctx->view[i] == 0) return LCL_OK;
    float *copy = lcl_thread_scratch(0, (size_t)P * sizeof *copy);
    if (!copy) return LCL_FAIL(LCL_MEMORY, "no memory for a picture");
    struct warp w = draw_warp(p, ctx->image[i], ctx->view[i]);
    for (int c = 0; c < 3; c++) {
        memcpy(copy, out + c * P, (size_t)P * sizeof *copy);
        warp_plane(p, c, copy, &w, out + c * P);
    }
    return LCL_OK;
}

/* Those that are not kept in memory, and what is cut from pictures, pack by pack. */
static lcl_status read_from_packs(struct lcl_pictures *p, const int64_t *image, const int32_t *view,
                                  int64_t n, float *out)
{
    int64_t *own = malloc((size_t)n * sizeof *own + 1), end;
    lcl_status status = own ? LCL_OK : LCL_FAIL(LCL_MEMORY, "no memory for a batch of pictures");
    for (int64_t begin = 0; begin < n && status == LCL_OK; begin = end) {
        bool cut = is_cut(view, begin);
        float *to = out + begin * 3 * plane(p);
        own[begin] = image[begin];
        struct lcl_pictures *part = part_of(p, &own[begin]);
        for (end = begin + 1; end < n && is_cut(view, end) == cut; end++) {
            own[end] = image[end];
            if (part_of(p, &own[end]) != part) break;
        }
        if (cut)
            status = lcl_jigsaw_read_pixels(part->pack, own + begin, view + begin, end - begin,
                                            &p->preprocess, to);
        else if (!part->bytes)
            status = lcl_pack_read_pixels(part->pack, own + begin, end - begin, &p->preprocess, to);
    }
    free(own);
    return status;
}

static bool any_cut(const int32_t *view, int64_t n)
{
    for (int64_t i = 0; view && i < n; i++)
        if (lcl_jigsaw_is_view(view[i])) return true;
    return false;
}

static bool all_kept(const struct lcl_pictures *p)
{
    while (p && p->bytes) p = p->next;
    return !p;
}

lcl_status lcl_pictures_read(struct lcl_pictures *p, const int64_t *image, const int32_t *view,
                             int64_t n, float *out)
{
    if (!all_kept(p) || any_cut(view, n)) LCL_TRY(read_from_packs(p, image, view, n, out));
    struct read_ctx ctx = {p, image, view, out};
    return lcl_parallel(n, read_one, &ctx);
}

static bool any_augmented(const int32_t *view, int64_t n)
{
    for (int64_t i = 0; view && i < n; i++)
        if (view[i]) return true;
    return false;
}

/* Makes a malloc'd buffer hold at least `want` elements, with room to grow; its content is not
 * kept. */
static void *grown(void *buffer, size_t *cap, size_t want, size_t size)
{
    if (*cap >= want) return buffer;
    free(buffer);
    buffer = malloc((want + want / 4) * size);
    *cap = buffer ? want + want / 4 : 0;
    return buffer;
}

static lcl_status gather_bytes(struct lcl_pictures *p, const int64_t *image, int64_t n,
                               struct lcl_picture_buffer *b)
{
    size_t per = (size_t)(3 * plane(p)), wanted = (size_t)n * per;
    b->bytes = grown(b->bytes, &b->bytes_cap, wanted, 1);
    if (b->bytes_cap < wanted) return LCL_FAIL(LCL_MEMORY, "no memory for the pictures of a batch");
    for (int64_t i = 0; i < n; i++) {
        int64_t own = image[i];
        const struct lcl_pictures *part = part_of(p, &own);
        memcpy(b->bytes + (size_t)i * per, part->bytes + (size_t)own * per, per);
    }
    return LCL_OK;
}

lcl_status lcl_pictures_batch(struct lcl_pictures *p, const int64_t *image, const int32_t *view,
                              int64_t n, struct lcl_picture_buffer *buffer,
                              struct lcl_images *images)
{
    *images = (struct lcl_images){0};
    if (all_kept(p) && !any_augmented(view, n)) {
        LCL_TRY(gather_bytes(p, image, n, buffer));
        images->bytes = buffer->bytes;
        memcpy(images->mean, p->preprocess.mean, sizeof images->mean);
        memcpy(images->std, p->preprocess.std, sizeof images->std);
        return LCL_OK;
    }
    LCL_TRY(lcl_floats_reserve(&buffer->pixels, &buffer->pixels_cap, (size_t)(n * 3 * plane(p))));
    images->pixels = buffer->pixels;
    return lcl_pictures_read(p, image, view, n, buffer->pixels);
}

void lcl_picture_buffer_free(struct lcl_picture_buffer *buffer)
{
    free(buffer->pixels);
    free(buffer->bytes);
    *buffer = (struct lcl_picture_buffer){0};
}

lcl_status lcl_floats_reserve(float **buffer, size_t *cap, size_t want)
{
    *buffer = grown(*buffer, cap, want, sizeof **buffer);
    return *cap >= want ? LCL_OK : LCL_FAIL(LCL_MEMORY, "no memory for the pictures of a batch");
}
