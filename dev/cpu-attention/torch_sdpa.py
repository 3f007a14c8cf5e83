"""PyTorch's scaled_dot_product_attention on the shapes of bench.c: python torch_sdpa.py [threads]."""

import sys
import time

import torch

THREADS = int(sys.argv[1]) if len(sys.argv) > 1 else 1
clock = time.thread_time if THREADS == 1 else time.perf_counter  # as CLOCK_THREAD_CPUTIME_ID in bench.c
torch.set_num_threads(THREADS)
SHAPES = [
    ("llama 135M episode", 1, 1914, 9, 3, 64, True),
    ("long, 9 heads", 1, 2048, 9, 9, 64, True),
    ("long, full", 1, 2048, 4, 4, 64, False),
    ("vit-b/16, 9 images", 9, 197, 12, 12, 64, False),
    ("llama 7B heads", 1, 2048, 4, 4, 128, True),
    ("demo decoder", 4, 300, 2, 2, 48, True),
    ("demo vit", 64, 17, 4, 4, 32, False),
]


def best(f, budget=0.3):
    least, total, n = 1e9, 0.0, 0
    while total < budget or n < 3:
        start = clock()
        f()
        d = clock() - start
        least, total, n = min(least, d), total + d, n + 1
    return least


for name, runs, T, H, G, D, causal in SHAPES:
    for dtype in (torch.float32, torch.bfloat16):
        q = torch.randn(runs, H, T, D, dtype=dtype, requires_grad=True)
        k, v = (torch.randn(runs, G, T, D, dtype=dtype, requires_grad=True) for _ in range(2))
        d_out = torch.randn(runs, H, T, D, dtype=dtype)

        def forward():
            return torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=causal, enable_gqa=H != G)

        def both():
            torch.autograd.grad(forward(), (q, k, v), d_out)

        fwd = best(forward)
        bwd = best(both) - fwd
        pairs = T * (T + 1) / 2 if causal else T * T
        flop = 4e-9 * pairs * runs * H * D
        print(f"{name:20} {str(dtype)[6:]:9} fwd {fwd*1e3:8.3f} ms {flop/fwd:6.1f} GFLOP/s   bwd {bwd*1e3:8.3f} ms {2.5*flop/bwd:6.1f} GFLOP/s", flush=True)
