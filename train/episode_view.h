/* An evaluated episode as a person looks at it, and its line in predictions.jsonl / episodes.jsonl
 * (in data order).
 *
 *   {"row":"lcl","sample":12,"shots":2,"pack":"build/demo/pack.h5",
 *    "support":[{"image":17,"class":"elvish fighter","label":"kxw"},{"image":94,"class":"drake
 * burner","label":"drake burner"}], "query":{"image":23,"class":"elvish
 * fighter"},"expected":"kxw","other":"drake burner", "answer":"there is \"kxw\" in the
 * image.","said":"kxw","correct":true,"logprob":[-0.2,-7.9],"likelihood_correct":true}
 *
 * A picture may carry "png" (base64) beside or instead of its number in the pack, so that a report
 * needs no pack. */
#ifndef LCL_TRAIN_EPISODE_VIEW_H
#define LCL_TRAIN_EPISODE_VIEW_H

#include <stdio.h>

#include "core/status.h"
#include "data/pack.h"

enum { LCL_VIEW_NAME_BYTES = 128, LCL_VIEW_MAX_SUPPORT = 1024 };

struct lcl_view_picture {
    int64_t image; /* picture number in the pack; -1: not from the pack */
    char class_name[LCL_VIEW_NAME_BYTES];
    char label[LCL_VIEW_NAME_BYTES]; /* as the support answer shows it; "" for the query */
    uint8_t *png;                    /* malloc'd PNG bytes, or NULL */
    size_t png_size;
};

struct lcl_episode_view {
    char row[64]; /* which row of results.json it belongs to: "lcl" */
    int64_t sample, shots;
    char pack[512]; /* path of the pack, "" when pictures carry their PNG */
    int n_support;
    struct lcl_view_picture *support; /* malloc'd */
    struct lcl_view_picture query;
    char expected[LCL_VIEW_NAME_BYTES], other[LCL_VIEW_NAME_BYTES];
    char *answer;                   /* greedy text, malloc'd; NULL: not generated */
    char said[LCL_VIEW_NAME_BYTES]; /* first quoted string of the answer; "" when there is none */
    bool correct;                   /* greedy, or by likelihood where there is no answer */
    double logprob[2];              /* of expected and other; NaN: not computed */
};

void lcl_episode_view_free(struct lcl_episode_view *v); /* what it owns */
/* Gives p a small copy of a picture, at most 160 pixels a side. */
LCL_CHECKED lcl_status lcl_view_picture_take(const struct lcl_image *image,
                                             struct lcl_view_picture *p);
/* The same of all pictures of a view that have none, by their numbers in the pack. */
LCL_CHECKED lcl_status lcl_episode_view_fetch(struct lcl_episode_view *v, struct lcl_pack *pack);
/* Appends one line. */
LCL_CHECKED lcl_status lcl_episode_view_write(FILE *f, const struct lcl_episode_view *v);
/* Reads the first `max` lines of a file of at most 1 GiB; *total: lines in all. Malformed lines (a
 * last one cut short excepted) are LCL_FORMAT with file and line. */
LCL_CHECKED lcl_status lcl_episode_views_load(const char *path, size_t max,
                                              struct lcl_episode_view **views, size_t *n,
                                              size_t *total);
void lcl_episode_views_free(struct lcl_episode_view *views, size_t n);

#endif
