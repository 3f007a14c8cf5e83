/* The CPU backend: the embedded default and the reference.
 *
 * The files of this room are compiled once for each instruction set (v2: SSE4.2, v3: AVX2 + FMA,
 * v4: AVX-512) with LCL_CPU_ISA set; the table of the best one that the machine has is chosen at
 * start (LCL_CPU_ISA=v3 in the environment forces one). Only cpu/backend.c is compiled once. */
#ifndef LCL_CPU_CPU_H
#define LCL_CPU_CPU_H

#include "core/ops.h"

/* The table for this machine. LCL_UNSUPPORTED where the environment asks for what the processor
 * lacks. */
LCL_CHECKED lcl_status lcl_cpu_ops(const struct lcl_ops **ops);
/* "v3 (AVX2), GEMM by oneDNN 2.6.3": for `lcl --version`. */
const char *lcl_cpu_describe(void);

#endif
