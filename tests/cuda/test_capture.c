/* The emulator's graphs. */
#include "cuda/sim/runtime.h"
#include "tests/support/support.h"

/* Captured calls run at each launch and not before; what no device captures spoils the capture. */
static void test_capture(void **state)
{
    (void)state;
    void *p, *q;
    unsigned char host[8] = {0};
    cudaGraph_t graph;
    cudaGraphExec_t exec;
    assert_int_equal(cudaMalloc(&p, 8), cudaSuccess);
    assert_int_equal(cudaMalloc(&q, 8), cudaSuccess);
    memset(p, 1, 8);
    memset(q, 2, 8);
    assert_int_equal(cudaStreamBeginCapture(NULL, cudaStreamCaptureModeThreadLocal), cudaSuccess);
    assert_int_equal(cudaMemcpyAsync(q, p, 8, cudaMemcpyDeviceToDevice, NULL), cudaSuccess);
    assert_int_equal(cudaMemsetAsync(p, 3, 4, NULL), cudaSuccess);
    assert_int_equal(cudaStreamEndCapture(NULL, &graph), cudaSuccess);
    assert_int_equal(cudaGraphInstantiate(&exec, graph, 0), cudaSuccess);
    assert_int_equal(cudaGraphDestroy(graph), cudaSuccess);
    assert_int_equal(((unsigned char *)p)[0], 1);
    assert_int_equal(((unsigned char *)q)[0], 2);
    for (int i = 0; i < 2; i++) {
        memset(p, 5 + i, 8); /* as it is by then */
        assert_int_equal(cudaGraphLaunch(exec, NULL), cudaSuccess);
        assert_int_equal(((unsigned char *)q)[7], 5 + i);
        assert_int_equal(((unsigned char *)p)[3], 3);
        assert_int_equal(((unsigned char *)p)[4], 5 + i);
    }
    assert_int_equal(cudaGraphExecDestroy(exec), cudaSuccess);
    for (int what = 0; what < 4; what++) {
        cudaError_t e;
        void *r = NULL;
        assert_int_equal(cudaStreamBeginCapture(NULL, cudaStreamCaptureModeThreadLocal),
                         cudaSuccess);
        e = what == 0   ? cudaStreamSynchronize(NULL)
            : what == 1 ? cudaMalloc(&r, 8)
            : what == 2 ? cudaFree(p)
                        : cudaMemcpyAsync(p, host, 8, cudaMemcpyHostToDevice, NULL);
        assert_int_equal(e, cudaErrorStreamCaptureUnsupported);
        assert_int_equal(cudaStreamEndCapture(NULL, &graph), cudaErrorStreamCaptureInvalidated);
        assert_null(graph);
    }
    cudaFree(p);
    cudaFree(q);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_capture)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
