#include "cpu/isa.h"

#define DIFF(op) .op##_fwd = LCL_CPU(op##_fwd), .op##_bwd = LCL_CPU(op##_bwd),
#define FWD(op) .op##_fwd = LCL_CPU(op##_fwd),
extern const struct lcl_ops LCL_CPU(table);
const struct lcl_ops LCL_CPU(table) = {.backend = "cpu", LCL_OPS(DIFF, FWD)};
