/* A page of samples as training sees them: text with what is learned marked, pictures cut to the
 * model's square, boxes and points drawn in. */
#ifndef LCL_TOOLS_INSPECT_PAGE_H
#define LCL_TOOLS_INSPECT_PAGE_H

#include "core/config.h"
#include "data/pack.h"
#include "train/text.h"

struct inspect_page {
    const char *path; /* the caller's; NULL: nothing is written */
    struct lcl_text html;
    struct lcl_config *config;
    struct lcl_preprocess preprocess;
    int64_t n_pictures;
};

struct inspect_sample {
    const char *heading;
    const char *text; /* learned stretches between [[ and ]] */
    struct lcl_pack *pack;
    struct lcl_pack *const *packs; /* [n_images] each picture's, where they are of several; NULL:
                                      all are of pack */
    const int64_t *image; /* [n_images] of their pack, in the order of the text's <image> marks */
    const int32_t *view;  /* as lcl_pictures_read takes them; NULL: as they are */
    int64_t n_images;
    bool boxes; /* [x1,y1,x2,y2] and [x,y] of the text are places in the first picture */
};

/* path: of an HTML file; NULL: every call does nothing. Pictures are cut as the config says, with
 * `pad` padded to a square whatever it says. */
LCL_CHECKED lcl_status inspect_page_open(struct inspect_page *p, const char *path,
                                         const char *title, const struct lcl_config *c, bool pad);
LCL_CHECKED lcl_status inspect_page_add(struct inspect_page *p, const struct inspect_sample *s);
/* Writes the file, and says so. */
LCL_CHECKED lcl_status inspect_page_save(struct inspect_page *p);
void inspect_page_free(struct inspect_page *p);

/* A box (4 numbers) or a point (2) that a text names: [x1,y1,x2,y2;...] with decimals, fractions of
 * a square. Gives the bytes of the whole mark, 0 where there is none, and up to `most` places. */
struct inspect_place {
    int n; /* 2 or 4 */
    double at[4];
};
size_t inspect_places(const char *text, struct inspect_place *places, int most, int *n);

#endif
