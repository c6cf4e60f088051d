"""Speed against peers in the same run: ratios of medians, threads stated.

    graphcl bench speed            # gowalla, from $GRAPHCL_DATA or the cache

The peer is what the field's releases do, written well: one coalesced COO matrix, ``torch.sparse.mm`` with autograd, noise by
``rand_like``, rows gathered by indexing, fused dense Adam, no copies between devices, no Python loop in the step.
"""

from __future__ import annotations

import datetime
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from graphcl import bench, rundir, runs
from graphcl.data import protocol as protocols
from graphcl.data.sample import Triples
from graphcl.graph import Graph, bipartite
from graphcl.ops import Sparse
from graphcl.rank import DotScorer, evaluate
from graphcl.recipes import xsimgcl
from graphcl.streams import Streams
from graphcl.train import PlainStep

REPEATS = 11


def medians(peers: dict[str, Callable[[], Any]], repeats: int = REPEATS) -> dict[str, float]:
    """Seconds of each, taken in turns so that a noisy neighbour meets all of them; the first call of each warms up."""
    for call in peers.values():
        call()
    taken: dict[str, list[float]] = {name: [] for name in peers}
    for _ in range(repeats):
        for name, call in peers.items():
            began = time.perf_counter()
            call()
            taken[name].append(time.perf_counter() - began)
    return {name: float(np.median(values)) for name, values in taken.items()}


class TorchXSimGCL:
    """XSimGCL (2 layers) in plain torch."""

    def __init__(self, graph: Graph, config: xsimgcl.Config, table: torch.Tensor):
        op = graph.ops[0]
        assert isinstance(op, Sparse)
        rows = torch.repeat_interleave(torch.arange(graph.num_nodes), op.degrees())
        indices = torch.stack([rows, op.col.long()])
        self.adj = torch.sparse_coo_tensor(indices, op.entries(), op.shape).coalesce()
        self.table = torch.nn.Parameter(table.clone())
        self.optimiser = torch.optim.Adam([self.table], lr=config.learning_rate, fused=True)
        self.config = config

    def step(self, batch: Any) -> torch.Tensor:
        c = self.config
        h, layers = self.table, []
        for _ in range(c.num_layers):
            h = torch.sparse.mm(self.adj, h)
            h = h + torch.sign(h) * F.normalize(torch.rand_like(h), dim=-1) * c.eps
            layers.append(h)
        final = torch.stack(layers).mean(0)
        users, positives, negatives = final[batch.users], final[batch.positives], final[batch.negatives]
        loss = F.softplus((users * negatives).sum(1) - (users * positives).sum(1)).mean()
        loss = loss + c.decay * (users.norm() + positives.norm()) / len(users)
        for rows in (batch.users.unique(), batch.positives.unique()):
            query, key = F.normalize(final[rows], dim=-1), F.normalize(layers[c.contrast_layer - 1][rows], dim=-1)
            loss = loss + c.weight * F.cross_entropy(query @ key.T / c.temperature, torch.arange(len(rows)))
        self.optimiser.zero_grad()
        loss.backward()
        self.optimiser.step()
        return loss.detach()


def step_row(graph: Graph, data: Any) -> dict[str, Any]:
    """One XSimGCL step: 2 layers, d 64, batch 2048."""
    config = xsimgcl.Config(num_layers=2)
    streams = Streams(0)
    model = xsimgcl.build(config, data, rng=streams["init"])
    ours = PlainStep(model, config.learning_rate)
    peer = TorchXSimGCL(graph, config, model.encoder.embedding.detach())
    batches = list(Triples(data, config.batch_size)(streams["batches"]))
    numbers = iter(range(10**6))

    def batch() -> Any:
        return batches[next(numbers) % len(batches)]

    seconds = medians({"graphcl": lambda: ours(model, graph, batch(), streams["views"]), "torch COO": lambda: peer.step(batch())})
    return row("XSimGCL step, 2 layers, d 64, batch 2048", seconds, reach=6)


def product_row(graph: Graph) -> dict[str, Any]:
    """Forward and backward of one propagation layer."""
    op = graph.ops[0]
    assert isinstance(op, Sparse)
    rows = torch.repeat_interleave(torch.arange(graph.num_nodes), op.degrees())
    coo = torch.sparse_coo_tensor(torch.stack([rows, op.col.long()]), op.entries(), op.shape).coalesce()
    x = torch.randn(graph.num_nodes, 64, requires_grad=True)
    grad = torch.randn(graph.num_nodes, 64)
    seconds = medians(
        {
            "graphcl": lambda: torch.autograd.grad(op @ x, x, grad),
            "torch COO": lambda: torch.autograd.grad(torch.sparse.mm(coo, x), x, grad),
        }
    )
    return row("propagation, forward and backward, d 64", seconds)


def rank_row(plan: Any) -> dict[str, Any]:
    """Full ranking with masking and metrics, top 20; the peer ranks user by user, for 500 users."""
    generator = torch.Generator().manual_seed(0)
    users = torch.randn(plan.train.num_users, 64, generator=generator)
    items = torch.randn(plan.train.num_items, 64, generator=generator)
    scorer, truth, mask = DotScorer(users, items), plan.test.matrix, plan.train.matrix
    some = np.flatnonzero(np.diff(truth.indptr))[:500]

    def one_by_one() -> None:
        for user in some:
            scores = items @ users[user]
            scores[mask.indices[mask.indptr[user] : mask.indptr[user + 1]]] = -torch.inf
            top = scores.topk(20).indices.numpy()
            np.isin(top, truth.indices[truth.indptr[user] : truth.indptr[user + 1]]).sum()

    ranked = int((np.diff(truth.indptr) > 0).sum())
    seconds = medians(
        {
            "graphcl": lambda: evaluate(scorer, truth, mask=mask, train=mask, ks=(20,)),
            "user by user": one_by_one,
        },
        repeats=3,
    )
    seconds["user by user"] *= ranked / len(some)
    return row(f"full ranking, {ranked:,} users x {plan.train.num_items:,} items, top 20", seconds)


def row(what: str, seconds: dict[str, float], reach: float | None = None) -> dict[str, Any]:
    peer = next(name for name in seconds if name != "graphcl")
    return {"what": what, "seconds": seconds, "peer": peer, "ratio": seconds[peer] / seconds["graphcl"], "reach": reach}


def main(root: Path = Path("benchmarks"), data: str = "gowalla") -> dict[str, Any]:
    began = time.perf_counter()
    made, _ = runs.load_data(data)
    read = time.perf_counter() - began
    plan = protocols.plan(made, "as-published")
    began = time.perf_counter()
    graph = bipartite(plan.train)
    built = time.perf_counter() - began
    rows = [product_row(graph), step_row(graph, plan.train), rank_row(plan)]
    result = {
        "name": "speed",
        "command": "graphcl bench speed",
        "data": data,
        "rows": rows,
        "seconds": {"read and split": read, "build graph": built},
        "commit": bench.commit(),
        "date": datetime.date.today().isoformat(),
        "versions": runs.versions(),
        "hardware": bench.hardware(),
        "summary": {r["what"]: f"{r['ratio']:.1f} x {r['peer']} ({r['seconds']['graphcl'] * 1e3:.0f} ms)" for r in rows},
    }
    rundir.write_json(root / "results" / "speed.json", result)
    return result


if __name__ == "__main__":
    print(main()["summary"])
