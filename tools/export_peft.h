/* lcl export --to peft. */
#ifndef LCL_TOOLS_EXPORT_PEFT_H
#define LCL_TOOLS_EXPORT_PEFT_H

#include "core/config.h"
#include "core/dtype.h"

/* Writes the adapters of `from` as a PEFT folder, reads it back, compares, and moves it to `out`,
 * in the place of another adapter folder under `force`. */
LCL_CHECKED lcl_status export_peft(const char *from, const char *out, lcl_dtype dtype, bool force,
                                   const struct lcl_config *c);

#endif
