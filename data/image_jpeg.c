#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jerror.h>
#include <jpeglib.h>

#include "data/image_formats.h"

/* A hostile progressive file can hold very many scans of nothing: each goes over all pixels. */
enum { FREE_SCANS = 16, MAX_SCANS = 1000 };
enum { MOST_MEMORY_BYTES = 1 << 30 }; /* libjpeg's own, which holds a progressive file's terms */

struct jpeg_job {
    struct jpeg_error_mgr errors; /* first: libjpeg hands back this pointer */
    struct jpeg_decompress_struct d;
    struct jpeg_progress_mgr progress;
    jmp_buf jump;
    char error[JMSG_LENGTH_MAX];
    const struct lcl_image_file *f;
    struct lcl_image image;
    uint8_t *row;
    lcl_status status;
};

static void on_exit_error(j_common_ptr c)
{
    struct jpeg_job *j = (struct jpeg_job *)c->err;
    c->err->format_message(c, j->error);
    longjmp(j->jump, 1);
}

/* Missing data is only a warning to libjpeg, which then paints grey. Stray bytes between markers
 * are harmless. */
static void on_message(j_common_ptr c, int level)
{
    if (level >= 0) return;
    int code = c->err->msg_code;
    if (code == JWRN_JPEG_EOF || code == JWRN_HIT_MARKER) on_exit_error(c);
}

static void on_output(j_common_ptr c) { (void)c; }

static void on_progress(j_common_ptr c)
{
    struct jpeg_job *j = (struct jpeg_job *)c->err;
    int64_t pixels = (int64_t)j->d.image_width * j->d.image_height, scans = j->d.input_scan_number;
    if (scans <= FREE_SCANS || (scans <= MAX_SCANS && scans * pixels <= LCL_IMAGE_MAX_PIXELS * 16))
        return;
    snprintf(j->error, sizeof j->error, "%lld scans are more than are read", (long long)scans);
    longjmp(j->jump, 1);
}

static int exif_of(const struct jpeg_job *j)
{
    for (jpeg_saved_marker_ptr m = j->d.marker_list; m; m = m->next)
        if (m->marker == JPEG_APP0 + 1 && m->data_length > 6 && memcmp(m->data, "Exif\0\0", 6) == 0)
            return lcl_exif_orientation(m->data + 6, m->data_length - 6);
    return 1;
}

static void gray_row(const uint8_t *from, uint8_t *to, int width)
{
    for (int x = 0; x < width; x++, to += 3) to[0] = to[1] = to[2] = from[x];
}

/* Adobe's inverted CMYK, as Pillow takes every CMYK JPEG, and Pillow's way to RGB. */
static void cmyk_row(const uint8_t *from, uint8_t *to, int width)
{
    for (int x = 0; x < width; x++, from += 4, to += 3) {
        unsigned nk = from[3];
        for (int k = 0; k < 3; k++) to[k] = (uint8_t)(nk - lcl_muldiv255(255u - from[k], nk));
    }
}

static void read_jpeg(struct jpeg_job *j, int *orientation)
{
    jpeg_save_markers(&j->d, JPEG_APP0 + 1, 0xffff);
    jpeg_mem_src(&j->d, j->f->bytes, (unsigned long)j->f->size);
    jpeg_read_header(&j->d, TRUE);
    *orientation = exif_of(j);
    switch (j->d.jpeg_color_space) {
    case JCS_GRAYSCALE:
        j->d.out_color_space = JCS_GRAYSCALE;
        break;
    case JCS_CMYK:
    case JCS_YCCK:
        j->d.out_color_space = JCS_CMYK;
        break;
    default:
        j->d.out_color_space = JCS_RGB;
        break;
    }
    j->status = lcl_image_alloc(&j->image, j->d.image_width, j->d.image_height, 3, j->f->name);
    if (j->status != LCL_OK) return;
    j->d.mem->max_memory_to_use = MOST_MEMORY_BYTES;
    j->progress.progress_monitor = on_progress;
    j->d.progress = &j->progress;
    jpeg_start_decompress(&j->d);
    int w = j->image.width, parts = j->d.output_components;
    j->row = parts == 3 ? NULL : malloc((size_t)w * (size_t)parts);
    if (parts != 3 && !j->row) {
        j->status = LCL_FAIL(LCL_MEMORY, "%s: no memory for a row", j->f->name);
        return;
    }
    while (j->d.output_scanline < j->d.output_height) {
        uint8_t *to = j->image.pixels + (size_t)j->d.output_scanline * (size_t)w * 3;
        JSAMPROW row = parts == 3 ? to : j->row;
        if (jpeg_read_scanlines(&j->d, &row, 1) != 1) break;
        if (parts == 1) gray_row(j->row, to, w);
        if (parts == 4) cmyk_row(j->row, to, w);
    }
    jpeg_finish_decompress(&j->d);
}

lcl_status lcl_jpeg_decode(const struct lcl_image_file *f, struct lcl_image *out, int *orientation)
{
    struct jpeg_job *j = calloc(1, sizeof *j); /* on the heap: longjmp must not lose it */
    if (!j) return LCL_FAIL(LCL_MEMORY, "%s: no memory for a JPEG reader", f->name);
    j->f = f;
    j->d.err = jpeg_std_error(&j->errors);
    j->errors.error_exit = on_exit_error;
    j->errors.emit_message = on_message;
    j->errors.output_message = on_output;
    if (setjmp(j->jump) == 0) {
        jpeg_create_decompress(&j->d);
        read_jpeg(j, orientation);
    } else {
        j->status = LCL_FAIL(LCL_FORMAT, "%s: damaged or truncated JPEG: %s", f->name, j->error);
    }
    lcl_status status = j->status;
    if (status == LCL_OK)
        *out = j->image;
    else
        lcl_image_free(&j->image);
    jpeg_destroy_decompress(&j->d);
    free(j->row);
    free(j);
    return status;
}
