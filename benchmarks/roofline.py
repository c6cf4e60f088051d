"""How far each kernel is from what the machine allows: bytes that must move over bandwidth, or flops over the rate of a GEMM.

Formulas, floats of 4 bytes, E entries, N rows, width d, n rows of a batch with e entries, m keys or items:

    product            x in, y out: 8 N d; columns 4 E, pointers 8 N, scales 8 N. Gathered from a cache: 4 E d more
    product with noise the same; its draws are arithmetic
    product of rows    columns 4 e, gathered 4 e d, y out 4 n d
    its adjoint        g in 4 n d, every row out 4 N d, added to and read back 8 e d
    Adam               parameter, gradient and two moments in, three of them out: 28 N d
    gather             8 n d
    scatter            zeros 4 N d, g in 4 n d, read and added to 8 n d
    all-key InfoNCE    8 n m d flops: logits twice, and two products in the backward; n m exponentials twice besides
    ranking tile       2 n m d flops, scores out and in 8 n m bytes

The largest of a kernel's bounds counts. Rates are those of copies, which themselves read what they are about to write; a kernel whose
tables stay in a cache between calls, or which reads more than it writes, can come out below 1.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.measure import medians
from graphcl.contracts import Table
from graphcl.graph import Graph
from graphcl.objectives import AllKeys
from graphcl.ops import gather_rows
from graphcl.rank import DotScorer, top_k


@dataclass(frozen=True)
class Machine:
    """Bytes a second of copies (read and written), flops a second of a square product, float32."""

    memory: float  # a copy far larger than any cache
    cache: float  # a copy of a table's size
    gemm: float


@dataclass(frozen=True)
class Kernel:
    name: str
    call: Callable[[], Any]
    memory: float = 0  # bytes that must come from or go to memory once
    cache: float = 0  # bytes that move again, from a cache at best
    flops: float = 0  # of dense products


def machine(table_bytes: int = 18 * 2**20, large_bytes: int = 2**29, side: int = 2048) -> Machine:
    a, b = torch.randn(side, side), torch.randn(side, side)
    product = medians({"gemm": lambda: a @ b}, repeats=7)["gemm"]
    return Machine(copied_a_second(large_bytes), copied_a_second(table_bytes), 2 * side**3 / product)


def copied_a_second(size: int) -> float:
    """Bytes read and written, by the faster of torch's copy (which may be one thread's) and a product by one."""
    source, target = (torch.ones(size // 4) for _ in range(2))
    ways = {"copy": lambda: target.copy_(source), "times one": lambda: torch.mul(source, 1.0, out=target)}
    return 2 * size / min(medians(ways, repeats=7).values())


def kernels(graph: Graph, rows: Tensor, dim: int = 64) -> Iterator[Kernel]:
    """What a step is made of, on a graph and a batch's rows (each once); the names of graphcl.ops are used here only."""
    op: Any = graph.ops[0]
    N, E, n, d = graph.num_nodes, op.nnz, len(rows), dim
    e = int(op.degrees()[rows].sum())
    x, g, some = torch.randn(N, d), torch.randn(N, d), torch.randn(n, d)
    leaf = torch.randn(N, d, requires_grad=True)
    table = torch.nn.Parameter(torch.randn(N, d))
    table.grad = g
    adam = torch.optim.Adam([table], fused=True)
    batch = op.rows(rows)
    made, picked = batch @ leaf, gather_rows(leaf, rows)
    fixed = 4 * E + 16 * N
    yield Kernel("product", lambda: op @ x, memory=8 * N * d + fixed, cache=4 * E * d)
    yield Kernel("product with noise", lambda: op.noisy(x, 0.2, 1), memory=8 * N * d + fixed, cache=4 * E * d)
    yield Kernel("product of a batch's rows", lambda: batch @ x, memory=4 * e + 4 * n * d, cache=4 * e * d)
    yield Kernel(
        "its adjoint", lambda: torch.autograd.grad(made, leaf, some, retain_graph=True),
        memory=4 * N * d + 4 * e + 4 * n * d, cache=8 * e * d,
    )  # fmt: skip
    yield Kernel("Adam", adam.step, memory=28 * N * d)
    yield Kernel("gather", lambda: gather_rows(x, rows), cache=8 * n * d)
    yield Kernel(
        "scatter", lambda: torch.autograd.grad(picked, leaf, some, retain_graph=True), memory=4 * N * d, cache=12 * n * d
    )
    yield from dense_kernels(n, graph.kinds["item"].stop - graph.kinds["item"].start, d)


def dense_kernels(n: int, m: int, d: int) -> Iterator[Kernel]:
    """``n`` anchors against ``m`` keys; 1,000 users against ``m`` items."""
    query, keys = torch.randn(n, d, requires_grad=True), torch.randn(m, d, requires_grad=True)
    own, grad, users = torch.arange(n) % m, torch.randn(n), 1000
    compared = AllKeys()

    def both_ways() -> Any:
        lse = compared(query, Table(keys), own, temperature=0.2, normalise=False)
        return torch.autograd.grad(lse, (query, keys), grad)

    scorer = DotScorer(torch.randn(users, d), keys.detach())
    yield Kernel("all-key InfoNCE, forward and backward", both_ways, memory=16 * (n + m) * d, flops=8 * n * m * d)
    yield Kernel(
        "ranking, top 20", lambda: top_k(scorer, np.arange(users), 20), cache=8 * users * m, flops=2 * users * m * d
    )  # fmt: skip


def against(kernels: Iterator[Kernel], allowed: Machine, repeats: int = 7) -> list[dict[str, Any]]:
    """Each kernel's seconds, its bound, and how many times the bound it takes."""
    lines = []
    for kernel in kernels:
        seconds = medians({"it": kernel.call}, repeats)["it"]
        bounds = {
            "memory": kernel.memory / allowed.memory,
            "cache": kernel.cache / allowed.cache,
            "flops": kernel.flops / allowed.gemm,
        }
        by = max(bounds, key=bounds.__getitem__)
        lines.append(
            {
                "kernel": kernel.name, "seconds": seconds, "bound": bounds[by], "by": by, "times": seconds / bounds[by],
                "memory_bytes": kernel.memory, "cache_bytes": kernel.cache, "flops": kernel.flops,
            }
        )  # fmt: skip
    return lines
