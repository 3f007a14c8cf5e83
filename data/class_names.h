/* Files that name the classes of a data set by number or by id: ImageNet's synset words and class
 * index, or a name a line. */
#ifndef LCL_DATA_CLASS_NAMES_H
#define LCL_DATA_CLASS_NAMES_H

#include "data/pack.h"

enum { LCL_CLASS_SYNSET_BYTES = 32 };

struct lcl_class_name {
    char id[LCL_CLASS_SYNSET_BYTES]; /* "n01440764"; empty where the file has names alone */
    char name[LCL_CLASS_NAME_BYTES];
};

struct lcl_class_names {
    struct lcl_class_name *list; /* by number, from 0 */
    const struct lcl_class_name **by_id;
    int32_t n;
};

/* Lines "n01440764 tench, Tinca tinca" (the first name counts) or of a name each, a JSON list of
 * names, or an object {"0": ["n01440764", "tench"], ...}; at most 4 MiB and 2^17 classes.
 * LCL_FORMAT names file and line or key. */
LCL_CHECKED lcl_status lcl_class_names_load(const char *path, struct lcl_class_names *out);
void lcl_class_names_free(struct lcl_class_names *n);
/* NULL where no class has this id. */
const struct lcl_class_name *lcl_class_names_find(const struct lcl_class_names *n, const char *id);
/* The file that `given` says; where it is NULL, the first of the usual names in `folder`. Leaves
 * names empty for "none", and where there is no such file: *found says which. */
LCL_CHECKED lcl_status lcl_class_names_choose(const char *given, const char *folder,
                                              struct lcl_class_names *out, bool *found);
/* A synset's number: n and eight digits, then `end`. */
bool lcl_class_names_is_synset(const char *text, char end);

#endif
