/* Names of this room's functions carry the instruction set that the file is compiled for:
 * LCL_CPU(rmsnorm_fwd) is lcl_cpu_rmsnorm_fwd_v3 when compiled with -DLCL_CPU_ISA=v3. */
#ifndef LCL_CPU_ISA_H
#define LCL_CPU_ISA_H

#include "core/ops_check.h"
#include "core/threads.h"

#ifndef LCL_CPU_ISA
#define LCL_CPU_ISA v3
#endif
#define LCL_CPU_PASTE2(name, isa) lcl_cpu_##name##_##isa
#define LCL_CPU_PASTE(name, isa) LCL_CPU_PASTE2(name, isa)
#define LCL_CPU(name) LCL_CPU_PASTE(name, LCL_CPU_ISA)

/* Declarations of every op of the table for this instruction set. */
#define DIFF(op)                                                                                 \
    LCL_CHECKED lcl_status LCL_CPU(op##_fwd)(struct lcl_exec *, const struct lcl_##op##_args *); \
    LCL_CHECKED lcl_status LCL_CPU(op##_bwd)(struct lcl_exec *, const struct lcl_##op##_args *);
#define FWD(op) \
    LCL_CHECKED lcl_status LCL_CPU(op##_fwd)(struct lcl_exec *, const struct lcl_##op##_args *);
LCL_OPS(DIFF, FWD)
#undef DIFF
#undef FWD

#endif
