"""A training step of MEOW and AdaMEOW against the dense formulation of the release, and an epoch at growing size: ``graphcl bench hetero``.

The dense form is written here from the method's formulas as the release lays them out: every adjacency a dense N x N matrix, weights
of pairs by one-hot products, k-means from five starts in every step, AdaMEOW's sums of pairs as an N x N x d tensor. Each case runs in a
process of its own, one after the other, so that its peak of memory is its own; threads are as the environment sets them.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch

from benchmarks.measure import elsewhere, peak_gib, stamped
from graphcl import pretrain, rundir
from graphcl.cluster import kmeans
from graphcl.contracts import Pair, Table, Targets
from graphcl.data.nodes import NodeData, load_nodes
from graphcl.hetero import HeteroGraph
from graphcl.recipes.configure import configure, find
from graphcl.recipes.metapaths import MetaPaths

STEPS = 5
DENSE_ADAMEOW = 2000  # the largest N whose pair tensors, N x N x 64 floats, fit beside their gradients in 16 GiB
SIZES = (10_000, 100_000, 1_000_000)


def main(root: Path) -> dict[str, Any]:
    cases = [
        *((recipe, form, "acm") for recipe in ("meow", "adameow") for form in ("graphcl", "dense")),
        *(("meow", "batches", str(size)) for size in SIZES),
    ]
    found = []
    for case in cases:
        try:
            found.append(elsewhere("-m", "benchmarks.hetero", *case))
        except RuntimeError as error:
            found.append({"case": case, "failed": str(error)})
        print(found[-1], file=sys.stderr, flush=True)
        result = stamped("hetero", cases=found, summary=summary(found))
        rundir.write_json(root / "results" / "hetero.json", result)
    return result


def summary(found: list[dict[str, Any]]) -> dict[str, Any]:
    out: dict[str, Any] = {}
    for recipe in ("meow", "adameow"):
        ours = [f for f in found if f.get("recipe") == recipe and f.get("form") == "graphcl"]
        dense = [f for f in found if f.get("recipe") == recipe and f.get("form") == "dense"]
        if ours and dense:
            same = next((f for f in ours if f["targets"] == dense[0]["targets"]), ours[0])
            out[recipe] = {
                "dense / graphcl": dense[0]["seconds"] / same["seconds"],
                "targets": dense[0]["targets"],
                "graphcl_gb": ours[0]["peak_gb"],
            }
    out["epoch"] = {
        str(f["targets"]): {"seconds": f["seconds"], "peak_gb": f["peak_gb"]} for f in found if f.get("form") == "batches"
    }
    return out


def case(recipe: str, form: str, what: str) -> dict[str, Any]:
    module = find(recipe)
    if form == "batches":
        began = time.perf_counter()
        data = synthetic(int(what))
        config, _ = configure(module, {"set": {"batch_size": 4096, "norm": "row", "neighbours": (50,), "fanouts": (5, 3)}})
        phase = pretrain.start(module, config, data, 0, "cpu")
        prepared = time.perf_counter() - began
        began = time.perf_counter()
        steps = 0
        phase.model.train()
        for batch in phase.batches(phase.streams["batches"]):
            phase.step(phase.model, phase.inputs, batch, phase.streams["views"])
            steps += 1
        seconds = time.perf_counter() - began
        return {
            "recipe": recipe,
            "form": form,
            "targets": int(what),
            "prepared": prepared,
            "steps": steps,
            "seconds": seconds,
            "peak_gb": peak_gib(),
        }
    data = load_nodes(what)
    if recipe == "adameow":
        data = part(data, DENSE_ADAMEOW)
    config, _ = configure(
        module,
        {
            "preset": module.PRESETS[f"hetero/{what}"]
            if recipe == "meow"
            else {**module.PRESETS[f"hetero/{what}"], "neighbours": (300,)}
        },
    )
    phase = pretrain.start(module, config, data, 0, "cpu")
    batch = next(phase.batches(phase.streams["batches"]))
    step = (
        dense_step(phase, config, recipe)
        if form == "dense"
        else lambda: phase.step(phase.model, phase.inputs, batch, phase.streams["views"])
    )
    phase.model.train()
    times = []
    for _ in range(STEPS + 1):
        began = time.perf_counter()
        step()
        times.append(time.perf_counter() - began)
    return {
        "recipe": recipe, "form": form, "targets": data.graph.num_targets, "seconds": median(times[1:]), "peak_gb": peak_gib(),
        "torch_threads": torch.get_num_threads(),
    }  # fmt: skip


def part(data: Any, count: int) -> Any:
    """The data of a random part of the targets."""
    keep = np.sort(np.random.default_rng(0).permutation(data.graph.num_targets)[:count])
    graph, target = data.graph, data.graph.target
    relations = {}
    for (a, b), matrix in graph.relations.items():
        rows = matrix[keep] if a == target else matrix
        relations[a, b] = rows[:, keep] if b == target else rows
    x = {name: table[keep] if name == target else table for name, table in graph.x.items()}
    smaller = HeteroGraph({**graph.counts, target: count}, relations, target, x)
    return NodeData(data.name, smaller, data.metapaths, data.labels[torch.from_numpy(keep)], {})


def synthetic(count: int) -> Any:
    """``count`` papers with three authors of count / 2, one of count / 100 venues and two of count / 20 terms; no features."""
    rng = np.random.default_rng(0)
    sizes = {"P": count, "A": count // 2, "V": count // 100, "T": count // 20}
    papers = np.arange(count)
    edges = {
        ("P", kind): np.stack([np.repeat(papers, n), rng.integers(sizes[kind], size=n * count)])
        for kind, n in (("A", 3), ("V", 1), ("T", 2))
    }
    graph = HeteroGraph.from_edges(sizes, edges, "P")
    return NodeData("synthetic", graph, ("PAP", "PVP", "PTP"), torch.zeros(count, dtype=torch.int64), {})


def dense_step(phase: Any, config: Any, recipe: str) -> Any:
    """A step of the same parameters by the release's dense layout."""
    inputs, model = phase.inputs, phase.model

    def dense(op: Any) -> torch.Tensor:
        return torch.from_numpy(np.asarray(op.to_scipy().todense(), dtype=np.float32))

    paths, masked = tuple(dense(op) for op in inputs.paths), tuple(dense(op) for op in inputs.masked)
    matrices = MetaPaths(inputs.target, inputs.x, inputs.masked_x, paths, masked, inputs.contexts)
    coarse = torch.stack(paths).mean(0)
    views = model.views

    def whole(found: Any) -> tuple[torch.Tensor, torch.Tensor]:
        tables = views.tables(found)
        return views.encoder(tables[found.target], coarse)[-1], views.fine(found, tables)

    views.whole = whole
    rng = torch.Generator().manual_seed(0)

    def meow() -> torch.Tensor:
        q, p = views(matrices, Targets(), rng)
        clusterings = []
        for centroids in model.centroids:
            starts = [kmeans(p, len(centroids), metric="cosine", max_iterations=20, tolerance=-1.0, rng=rng) for _ in range(5)]
            clusterings.append(min(starts, key=lambda found: found.inertia))
        similar = (q @ p.T / config.temperature).exp()
        gamma = sum(1 - (one := torch.nn.functional.one_hot(c.nearest).float()) @ one.T for c in clusterings)
        contrast = -(similar.diagonal() / (gamma * similar).sum(1)).log().mean()
        return contrast + config.prototype_weight * model.prototypes(Pair(q, Table(p), torch.arange(len(q))), clusterings)

    def adameow() -> torch.Tensor:
        q, p = views(matrices, Targets(), rng)  # candidates, anchors
        pairs = p[:, None] + q[None]  # [N, N, d]
        first, second = model.contrast.inner, model.contrast.outer
        gamma = torch.sigmoid(second(torch.tanh(first(pairs))))[..., 0]
        similar = (p @ q.T / config.temperature).exp()
        return -(similar.diagonal() / (gamma * similar).sum(1)).log().mean()

    def step() -> float:
        phase.step.optimiser.zero_grad(set_to_none=True)
        loss = (meow if recipe == "meow" else adameow)()
        loss.backward()
        phase.step.optimiser.step()
        return float(loss.detach())

    return step


if __name__ == "__main__":
    print(json.dumps(case(*sys.argv[1:4])))
