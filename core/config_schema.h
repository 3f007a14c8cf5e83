/* The schema as a table in memory: what config.c, config_yaml.c and config_docs.c share. Not for
 * other rooms. */
#ifndef LCL_CORE_CONFIG_SCHEMA_H
#define LCL_CORE_CONFIG_SCHEMA_H

#include "core/config.h"

enum lcl_key_kind {
    LCL_KEY_SECTION, /* a heading: name and doc only */
    LCL_KEY_INT,
    LCL_KEY_FLOAT,
    LCL_KEY_BOOL,
    LCL_KEY_STR,
    LCL_KEY_WORD,
    LCL_KEY_LIST
};

enum { LCL_CONFIG_VALUE_BYTES = LCL_CONFIG_STR_BYTES + 64 }; /* any value as text */

struct lcl_key {
    const char *name;
    enum lcl_key_kind kind;
    size_t offset; /* of the field in struct lcl_config */
    double low, high;
    const char *default_; /* as one would write it in a file */
    const char *words;    /* "a|b|c" of LCL_KEY_WORD */
    const char *doc;
};

extern const struct lcl_key lcl_config_keys[];
extern const int lcl_config_n_keys; /* sections included */

/* Index of a key, or -1. */
int lcl_config_find(const char *name, size_t n);
/* LCL_CONFIG with the nearest key as its hint. */
lcl_status lcl_config_unknown_key(const char *name, const char *where);
LCL_CHECKED lcl_status lcl_config_assign(struct lcl_config *c, const struct lcl_key *key,
                                         const char *value, const char *where);
/* The value as it is written in a file, without quotes; buf of LCL_CONFIG_VALUE_BYTES; returns buf.
 */
const char *lcl_config_value(const struct lcl_config *c, const struct lcl_key *key, char *buf);
bool lcl_config_same(const struct lcl_config *a, const struct lcl_config *b,
                     const struct lcl_key *key);
/* "a whole number", ...: what a value must be. */
const char *lcl_config_kind_text(enum lcl_key_kind kind);

#endif
