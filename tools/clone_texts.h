/* Texts in a user's clone of isekai-portal/Link-Context-Learning. */
#ifndef LCL_TOOLS_CLONE_TEXTS_H
#define LCL_TOOLS_CLONE_TEXTS_H

#include <stdbool.h>

#include "core/status.h"

/* The clone's texts as a file for data.template (docs/formats.md), malloc'd. print: says on stdout
 * where each was found. LCL_NOT_FOUND names what is missing. */
LCL_CHECKED lcl_status clone_template(const char *dir, bool print, char **json);

#endif
