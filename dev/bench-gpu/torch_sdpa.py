"""PyTorch's attention on the shapes of kernels.c, as a table: run by run.sh where torch is found."""

import torch
import torch.nn.functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

SHAPES = [("causal 8k, d128", 1, 32, 8192, 128, True), ("full 577, d64", 32, 16, 577, 64, False)]
BACKENDS = [SDPBackend.FLASH_ATTENTION, SDPBackend.CUDNN_ATTENTION]


def median_ms(run):
    for _ in range(3):
        run()
    events = [[torch.cuda.Event(enable_timing=True) for _ in range(2)] for _ in range(20)]
    for begin, end in events:
        begin.record()
        run()
        end.record()
    torch.cuda.synchronize()
    return sorted(begin.elapsed_time(end) for begin, end in events)[len(events) // 2]


def measure(backend, batch, heads, tokens, width, causal):
    q, k, v, d = (torch.randn(batch, heads, tokens, width, device="cuda", dtype=torch.bfloat16) for _ in range(4))
    for x in (q, k, v):
        x.requires_grad_()
    with sdpa_kernel(backend):
        forward = median_ms(lambda: F.scaled_dot_product_attention(q, k, v, is_causal=causal))
        out = F.scaled_dot_product_attention(q, k, v, is_causal=causal)
        backward = median_ms(lambda: torch.autograd.grad(out, (q, k, v), d, retain_graph=True))
    return forward, backward


print(f"\n## PyTorch {torch.__version__} on the same shapes\n\n| attention | backend | forward ms | backward ms |\n|---|---|---|---|")
for name, *shape in SHAPES:
    for backend in BACKENDS:
        try:
            forward, backward = measure(backend, *shape)
            print(f"| {name} | {backend.name} | {forward:.4f} | {backward:.4f} |")
        except RuntimeError as e:
            print(f"| {name} | {backend.name} | not run: {str(e).splitlines()[0][:80]} | |")
