/* What lcl export writes for people: a model card and an example that runs. */
#ifndef LCL_TOOLS_EXPORT_CARD_H
#define LCL_TOOLS_EXPORT_CARD_H

#include "tools/export.h"

/* DIR/README.md: what the model is, how it was trained (the recipe and the record of the run that
 * r->from is or belongs to), what it began with, how it is used. DIR/example.py, where a program is
 * known to run it: two labelled pictures and a question, worded as c->data_layout words them. */
LCL_CHECKED lcl_status export_card_write(const struct export_request *r, const struct lcl_env *e,
                                         const struct lcl_config *c, const char *dir);
/* The text of that example, malloc'd. */
LCL_CHECKED lcl_status export_example(const struct export_request *r, const struct lcl_env *e,
                                      const struct lcl_config *c, char **text);

#endif
