/* Picks the op table of the best instruction set that this build has and the processor runs. */
#include "cpu/cpu.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#if !defined(LCL_HAVE_ISA_v2) && !defined(LCL_HAVE_ISA_generic)
#error "the build names its instruction sets: -DLCL_HAVE_ISA_v2=1 ..."
#endif

struct isa {
    const char *name, *text;
    const struct lcl_ops *table;
    const char *(*gemm_library)(void);
    bool (*supported)(void);
};

#define DECLARE(isa)                                 \
    extern const struct lcl_ops lcl_cpu_table_##isa; \
    const char *lcl_cpu_gemm_library_##isa(void);
#define ROW(isa, text)                                                                \
    {                                                                                 \
#isa, text, &lcl_cpu_table_##isa, lcl_cpu_gemm_library_##isa, isa##_supported \
    }

/* Features by name: the psABI level names are unknown to compilers before GCC 12. */
#ifdef LCL_HAVE_ISA_v4
DECLARE(v4)
static bool v4_supported(void)
{
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512dq") &&
           __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx2") &&
           __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi2");
}
#endif
#ifdef LCL_HAVE_ISA_v3
DECLARE(v3)
static bool v3_supported(void)
{
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
           __builtin_cpu_supports("bmi") && __builtin_cpu_supports("bmi2");
}
#endif
#ifdef LCL_HAVE_ISA_v2
DECLARE(v2)
static bool v2_supported(void)
{
    return __builtin_cpu_supports("sse4.2") && __builtin_cpu_supports("ssse3") &&
           __builtin_cpu_supports("popcnt");
}
#endif
#ifdef LCL_HAVE_ISA_generic
DECLARE(generic)
static bool generic_supported(void) { return true; }
#endif

static const struct isa isas[] = {
/* best first */
#ifdef LCL_HAVE_ISA_v4
    ROW(v4, "AVX-512"),
#endif
#ifdef LCL_HAVE_ISA_v3
    ROW(v3, "AVX2"),
#endif
#ifdef LCL_HAVE_ISA_v2
    ROW(v2, "SSE4.2"),
#endif
#ifdef LCL_HAVE_ISA_generic
    ROW(generic, "plain C"),
#endif
};
enum { N_ISAS = sizeof isas / sizeof isas[0] };

static lcl_status choose(const struct isa **out)
{
    const char *wanted = getenv("LCL_CPU_ISA");
    if (wanted && !*wanted) wanted = NULL;
    char names[64] = "";
    for (int i = 0; i < N_ISAS; i++) {
        bool named = wanted && strcmp(wanted, isas[i].name) == 0;
        if ((named || !wanted) && isas[i].supported()) {
            *out = &isas[i];
            return LCL_OK;
        }
        if (named)
            return LCL_FAIL_HINT(LCL_UNSUPPORTED, "unset LCL_CPU_ISA to use what it has",
                                 "LCL_CPU_ISA=%s, but this processor lacks %s", wanted,
                                 isas[i].text);
        size_t used = strlen(names);
        snprintf(names + used, sizeof names - used, "%s%s", i ? ", " : "", isas[i].name);
    }
    if (wanted) return LCL_FAIL(LCL_UNSUPPORTED, "LCL_CPU_ISA=%s is not one of %s", wanted, names);
    return LCL_FAIL(LCL_UNSUPPORTED, "this processor runs none of the built instruction sets (%s)",
                    names);
}

lcl_status lcl_cpu_ops(const struct lcl_ops **ops)
{
    const struct isa *isa;
    LCL_TRY(choose(&isa));
    *ops = isa->table;
    return LCL_OK;
}

const char *lcl_cpu_describe(void)
{
    static char text[128];
    const struct isa *isa;
    if (choose(&isa) != LCL_OK) return "no usable instruction set";
    snprintf(text, sizeof text, "%s (%s), GEMM by %s", isa->name, isa->text, isa->gemm_library());
    return text;
}
