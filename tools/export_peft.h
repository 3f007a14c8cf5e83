/* lcl export --to peft. */
#ifndef LCL_TOOLS_EXPORT_PEFT_H
#define LCL_TOOLS_EXPORT_PEFT_H

#include "tools/export.h"

/* Writes the adapters of r->from as a PEFT folder, reads it back, compares values and logits, and
 * moves it to r->out, in the place of another adapter folder under r->force. */
LCL_CHECKED lcl_status export_peft(const struct export_request *r, lcl_dtype dtype,
                                   const struct lcl_config *c);

#endif
