/* The contact sheet: pictures and names are where they should be, small ones stay crisp, odd ones
 * do no harm. */
#include "tests/support/support.h"

#include <math.h>

#include "core/fs.h"
#include "data/image.h"
#include "train/font.h"
#include "train/sheet.h"

static struct lcl_image flat(int width, int height, uint8_t r, uint8_t g, uint8_t b)
{
    struct lcl_image image = {.width = width, .height = height, .channels = 3};
    image.pixels = malloc((size_t)width * (size_t)height * 3);
    assert_non_null(image.pixels);
    for (size_t i = 0; i < (size_t)width * (size_t)height; i++) {
        image.pixels[3 * i] = r;
        image.pixels[3 * i + 1] = g;
        image.pixels[3 * i + 2] = b;
    }
    return image;
}

static int64_t count_colour(const struct lcl_image *image, uint8_t r, uint8_t g, uint8_t b)
{
    int64_t n = 0;
    for (int64_t i = 0; i < (int64_t)image->width * image->height; i++) {
        const uint8_t *p = image->pixels + 3 * i;
        n += p[0] == r && p[1] == g && p[2] == b;
    }
    return n;
}

static struct lcl_sheet_row make_row(int side)
{
    struct lcl_sheet_row row;
    memset(&row, 0, sizeof row);
    for (int k = 0; k < 4; k++) { /* the last two tiles stay empty */
        row.tiles[k].image = flat(side, side, (uint8_t)(200 + k), 10, 10);
        row.tiles[k].similarity = k ? 0.9 : (double)NAN;
        snprintf(row.tiles[k].name, sizeof row.tiles[k].name, "class %d", k);
    }
    return row;
}

static void free_row(struct lcl_sheet_row *row)
{
    for (int k = 0; k < LCL_SHEET_TILES; k++) lcl_image_free(&row->tiles[k].image);
}

static void every_picture_is_shown(void **state)
{
    (void)state;
    struct lcl_image sheet;
    struct lcl_sheet_row row = make_row(72);
    ASSERT_OK(lcl_sheet_draw(&row, 1, "title", &sheet));
    for (uint8_t k = 0; k < 4; k++) /* 72 pixels are doubled: nothing is blended */
        assert_int_equal(count_colour(&sheet, (uint8_t)(200 + k), 10, 10), 144 * 144);
    lcl_image_free(&sheet);
    free_row(&row);
}

static void large_and_long_pictures_fit(void **state)
{
    (void)state;
    struct lcl_image sheet;
    struct lcl_sheet_row row = make_row(500);
    lcl_image_free(&row.tiles[1].image);
    row.tiles[1].image = flat(1000, 2, 1, 250, 1);
    memset(row.tiles[2].name, 'w', sizeof row.tiles[2].name - 1); /* no blank to break at */
    ASSERT_OK(lcl_sheet_draw(&row, 1, "title", &sheet));
    assert_int_equal(count_colour(&sheet, 200, 10, 10), 144 * 144);
    assert_int_equal(count_colour(&sheet, 1, 250, 1), 144); /* 144 x 1 */
    lcl_image_free(&sheet);
    free_row(&row);
}

static void text_is_drawn_and_cut_at_the_edge(void **state)
{
    (void)state;
    const uint8_t ink[3] = {0, 0, 0};
    struct lcl_image image = flat(40, 12, 255, 255, 255);
    lcl_font_draw(&image, 1, 1, 1, ink, "I", 1); /* drawn as i: 1 + 2 + 1 + 1 + 1 + 3 dots */
    assert_int_equal(count_colour(&image, 0, 0, 0), 9);
    lcl_image_free(&image);

    struct lcl_image whole = flat(40, 30, 255, 255, 255), part = whole; /* rows 10..19 */
    part.height = 10;
    part.pixels += (size_t)10 * 40 * 3;
    lcl_font_draw(&part, 30, 4, 4, ink, "www", 3);
    lcl_font_draw(&part, -3, -20, 4, ink, "ggg", 3);
    int64_t in_part = count_colour(&part, 0, 0, 0);
    assert_true(in_part > 0);
    assert_int_equal(count_colour(&whole, 0, 0, 0), in_part);
    lcl_image_free(&whole);
}

static void every_letter_and_digit_has_its_own_shape(void **state)
{
    (void)state;
    static const char all[] = "abcdefghijklmnopqrstuvwxyz0123456789.,:-_'()/%&+=!? ";
    static uint8_t seen[sizeof all][8 * 12 * 3];
    const uint8_t ink[3] = {0, 0, 0};
    for (size_t i = 0; all[i]; i++) {
        struct lcl_image image = flat(8, 12, 255, 255, 255);
        lcl_font_draw(&image, 1, 1, 1, ink, &all[i], 1);
        memcpy(seen[i], image.pixels, sizeof seen[i]);
        lcl_image_free(&image);
        for (size_t k = 0; k < i; k++)
            if (memcmp(seen[i], seen[k], sizeof seen[i]) == 0)
                fail_msg("'%c' and '%c' look the same", all[i], all[k]);
    }
}

static void bad_input_is_refused(void **state)
{
    (void)state;
    struct lcl_image sheet;
    struct lcl_sheet_row row = make_row(8);
    ASSERT_FAILS(lcl_sheet_draw(&row, 0, "", &sheet), LCL_RANGE, "0 rows");
    row.tiles[1].image.channels = 4;
    ASSERT_FAILS(lcl_sheet_draw(&row, 1, "", &sheet), LCL_SHAPE, "class 1");
    free_row(&row);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(every_picture_is_shown),
                                       cmocka_unit_test(large_and_long_pictures_fit),
                                       cmocka_unit_test(text_is_drawn_and_cut_at_the_edge),
                                       cmocka_unit_test(every_letter_and_digit_has_its_own_shape),
                                       cmocka_unit_test(bad_input_is_refused)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
