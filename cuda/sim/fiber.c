#include "cuda/sim/fiber.h"

#include <stdint.h>

#ifdef LCL_FIBER_UCONTEXT

/* makecontext passes ints: the pointers travel in halves. */
static void trampoline(unsigned entry_low, unsigned entry_high, unsigned arg_low, unsigned arg_high)
{
    uintptr_t entry = (uintptr_t)entry_low | (uintptr_t)entry_high << 32,
              arg = (uintptr_t)arg_low | (uintptr_t)arg_high << 32;
    ((void (*)(void *))entry)((void *)arg);
}

void lcl_fiber_prepare(struct lcl_fiber *f, void *stack, size_t stack_bytes, void (*entry)(void *),
                       void *arg)
{
    getcontext(&f->context);
    f->context.uc_stack.ss_sp = stack;
    f->context.uc_stack.ss_size = stack_bytes;
    f->context.uc_link = NULL;
    uintptr_t e = (uintptr_t)entry, a = (uintptr_t)arg;
    makecontext(&f->context, (void (*)(void))trampoline, 4, (unsigned)e, (unsigned)(e >> 32),
                (unsigned)a, (unsigned)(a >> 32));
}

void lcl_fiber_switch(struct lcl_fiber *from, struct lcl_fiber *to)
{
    swapcontext(&from->context, &to->context);
}

#else

/* What the ABI asks a call to keep: rbx, rbp, r12 to r15 and the stack pointer. A fresh fiber
 * returns into lcl_fiber_start with its entry in r12 and its argument in r13. */
void lcl_fiber_start(void);
__asm__(".text\n"
        ".globl lcl_fiber_switch\n"
        ".type lcl_fiber_switch, @function\n"
        "lcl_fiber_switch:\n"
        "  pushq %rbp\n  pushq %rbx\n  pushq %r12\n  pushq %r13\n  pushq %r14\n  pushq %r15\n"
        "  movq %rsp, (%rdi)\n"
        "  movq (%rsi), %rsp\n"
        "  popq %r15\n  popq %r14\n  popq %r13\n  popq %r12\n  popq %rbx\n  popq %rbp\n"
        "  ret\n"
        ".size lcl_fiber_switch, . - lcl_fiber_switch\n"
        ".globl lcl_fiber_start\n"
        ".type lcl_fiber_start, @function\n"
        "lcl_fiber_start:\n"
        "  movq %r13, %rdi\n"
        "  call *%r12\n"
        "  ud2\n"
        ".size lcl_fiber_start, . - lcl_fiber_start\n");

void lcl_fiber_prepare(struct lcl_fiber *f, void *stack, size_t stack_bytes, void (*entry)(void *),
                       void *arg)
{
    uintptr_t top = ((uintptr_t)stack + stack_bytes) & ~(uintptr_t)15;
    void **sp = (void **)top;
    *--sp = (void *)(uintptr_t)lcl_fiber_start; /* `call` finds the stack at 16 bytes */
    *--sp = NULL;                               /* rbp */
    *--sp = NULL;                               /* rbx */
    *--sp = (void *)(uintptr_t)entry;           /* r12 */
    *--sp = arg;                                /* r13 */
    *--sp = NULL;                               /* r14 */
    *--sp = NULL;                               /* r15 */
    f->sp = sp;
}

#endif
