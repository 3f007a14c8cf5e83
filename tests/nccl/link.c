/* NCCL's filling linked with the real NCCL and CUDA runtime, where there need not be a GPU: whether
 * all calls are there. What the backend would tell it is not asked for. */
#include <stdio.h>
#include <string.h>

#include "cuda/cuda.h"
#include "train/comm_nccl.h"

int lcl_cuda_number(const struct lcl_exec *ex)
{
    (void)ex;
    return 0;
}

void *lcl_cuda_stream(const struct lcl_exec *ex)
{
    (void)ex;
    return NULL;
}

int main(void)
{
    const char *text = lcl_nccl_describe();
    printf("linked with %s\n", text);
    return lcl_nccl_is_built() && !strncmp(text, "NCCL 2.", 7) ? 0 : 1;
}
