/* Capture and graphs: what a stream is asked for between cudaStreamBeginCapture and
 * cudaStreamEndCapture is kept, with a copy of its parameters, and done at each launch. What a
 * device refuses to capture (waits, allocations, copies from or to the host's pageable memory) is
 * refused, and spoils the capture. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cuda/sim/runtime.h"

struct node {
    lcl_status (*run)(void *params);
    void *params;
};

struct lcl_sim_graph {
    struct node *nodes;
    int n, cap;
    bool spoiled;
};

static __thread struct lcl_sim_graph *capturing;
static __thread char failure[1024]; /* of a launch */

bool lcl_sim_capturing(void) { return capturing != NULL; }

lcl_status lcl_sim_capture(lcl_status (*run)(void *params), const void *head, size_t head_bytes,
                           const void *tail, size_t tail_bytes)
{
    struct lcl_sim_graph *g = capturing;
    if (g->n == g->cap) {
        int cap = g->cap ? 2 * g->cap : 64;
        struct node *nodes = realloc(g->nodes, (size_t)cap * sizeof *nodes);
        if (!nodes) return LCL_FAIL(LCL_MEMORY, "no memory for the emulator's graph");
        g->nodes = nodes;
        g->cap = cap;
    }
    unsigned char *params = malloc(head_bytes + tail_bytes);
    if (!params) return LCL_FAIL(LCL_MEMORY, "no memory for the emulator's graph");
    memcpy(params, head, head_bytes);
    if (tail_bytes) memcpy(params + head_bytes, tail, tail_bytes);
    g->nodes[g->n++] = (struct node){run, params};
    return LCL_OK;
}

cudaError_t lcl_sim_uncaptured(void)
{
    if (!capturing) return cudaSuccess;
    capturing->spoiled = true;
    return cudaErrorStreamCaptureUnsupported;
}

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, enum cudaStreamCaptureMode mode)
{
    (void)stream, (void)mode;
    if (capturing) return lcl_sim_uncaptured();
    capturing = calloc(1, sizeof *capturing);
    return capturing ? cudaSuccess : cudaErrorMemoryAllocation;
}

cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t *graph)
{
    (void)stream;
    struct lcl_sim_graph *g = capturing;
    capturing = NULL;
    *graph = g;
    if (!g || !g->spoiled) return g ? cudaSuccess : cudaErrorStreamCaptureInvalidated;
    cudaGraphDestroy(g);
    *graph = NULL;
    return cudaErrorStreamCaptureInvalidated;
}

/* The graph itself is what is launched: it goes over to the caller, who destroys both. */
cudaError_t cudaGraphInstantiate(cudaGraphExec_t *exec, cudaGraph_t graph, unsigned long long flags)
{
    (void)flags;
    struct lcl_sim_graph *g = calloc(1, sizeof *g);
    if (!g) return cudaErrorMemoryAllocation;
    *g = *graph;
    *graph = (struct lcl_sim_graph){0};
    *exec = g;
    return cudaSuccess;
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t exec, cudaStream_t stream)
{
    (void)stream;
    lcl_sim_copies_arrive();
    for (int i = 0; i < exec->n; i++)
        if (exec->nodes[i].run(exec->nodes[i].params) != LCL_OK) {
            snprintf(failure, sizeof failure, "%s", lcl_error_message());
            return cudaErrorLaunchFailure;
        }
    return cudaSuccess;
}

cudaError_t cudaGraphDestroy(cudaGraph_t graph)
{
    for (int i = 0; graph && i < graph->n; i++) free(graph->nodes[i].params);
    if (graph) free(graph->nodes);
    free(graph);
    return cudaSuccess;
}

cudaError_t cudaGraphExecDestroy(cudaGraphExec_t exec) { return cudaGraphDestroy(exec); }

const char *cudaGetErrorString(cudaError_t e)
{
    switch (e) {
    case cudaSuccess:
        return "no error";
    case cudaErrorMemoryAllocation:
        return "out of memory";
    case cudaErrorLaunchFailure:
        return failure;
    case cudaErrorStreamCaptureUnsupported:
        return "operation not permitted when stream is capturing";
    case cudaErrorStreamCaptureInvalidated:
        return "operation failed due to a previous error during capture";
    }
    return "unknown error";
}
