/* Fibers: a stack each, switched by hand. On x86-64 a switch costs about 10 ns; elsewhere (and with
 * -DLCL_FIBER_UCONTEXT) ucontext does it, some thirty times slower. */
#ifndef LCL_CUDA_SIM_FIBER_H
#define LCL_CUDA_SIM_FIBER_H

#include <stddef.h>

#if !defined(__x86_64__) && !defined(LCL_FIBER_UCONTEXT)
#define LCL_FIBER_UCONTEXT 1
#endif
#ifdef LCL_FIBER_UCONTEXT
#include <ucontext.h>
#endif

struct lcl_fiber {
#ifdef LCL_FIBER_UCONTEXT
    ucontext_t context;
#else
    void *sp;
#endif
};

/* `f` will begin in entry(arg) on the given stack; entry must never return. */
void lcl_fiber_prepare(struct lcl_fiber *f, void *stack, size_t stack_bytes, void (*entry)(void *),
                       void *arg);
/* Saves where the caller is in `from` and goes on with `to`. */
void lcl_fiber_switch(struct lcl_fiber *from, struct lcl_fiber *to);

#endif
