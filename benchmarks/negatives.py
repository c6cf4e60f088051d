"""Denominators against the exact one: error, gradient, time by the number of keys, memory: ``graphcl bench negatives``.

Error and gradients are in float64 on made data: 2,000 unit keys about 20 directions, anchors the keys themselves without the own key
("symmetric"). Spread is the length of the noise over that of the direction, before rows are brought to unit length. Clusters are the
true ones. Times are of a forward and backward of InfoNCE over cosines with 4,096 anchors, against the exact tiled loss in the same
process; k-means is not part of a step and is told apart. Each case of memory runs in a process of its own.
"""

from __future__ import annotations

import json
import math
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn.functional import cosine_similarity

from benchmarks.measure import elsewhere, medians, peak_gib, stamped, timed
from graphcl import phase as phases
from graphcl import pretrain, rundir
from graphcl.cluster import kmeans
from graphcl.contracts import Pair, Part, Table
from graphcl.data import protocol, registry
from graphcl.data.attributed import AttributedData, load_attributed
from graphcl.graph import Graph
from graphcl.objectives import AllKeys, Clusters, ClusterSampled, ClusterState, InfoNCE, Sampled
from graphcl.ops import Sparse, truncated_svd, unit_rows
from graphcl.recipes import lightgcl
from graphcl.recipes.configure import configure, find

SPREADS = (0.1, 0.3, 0.6, 1.0)
TEMPERATURES = (0.05, 0.1, 0.2, 0.5)
SIZES = (10_000, 31_623, 100_000, 316_228, 1_000_000, 3_162_278, 10_000_000)
LIGHTGCL = ("sparse_yelp", "gowalla")
STEPS: dict[str, dict[str, Any]] = {
    "exact": {},
    "clusters": {"negatives": "clusters"},
    "order 1": {"negatives": "clusters", "own_cluster": "approx"},
    "order 2": {"negatives": "clusters", "cluster_order": "2"},
    "cluster sampled 64": {"negatives": "cluster_sampled", "num_negatives": 64},
    "sampled 1024": {"negatives": "sampled"},
    "batch": {"negatives": "batch"},
}
NODES = (10_000, 100_000, 1_000_000)
MANY = 200_000  # keys, from which a step is timed once
ANCHORS, DIM = 4096, 64
REAL = ("acm", "citeseer", "cora", "dblp")


def main(root: Path) -> dict[str, Any]:
    found: dict[str, Any] = {"error": [], "gradient": [], "real": [], "step": [], "pamc": [], "memory": [], "time": []}

    def kept(part: str, rows: list[dict[str, Any]]) -> None:
        found[part] += rows
        for line in rows:
            print(part, line, file=sys.stderr, flush=True)
        rundir.write_json(root / "results" / "negatives.json", stamped("negatives", **found, summary=summary(found)))

    for spread in (*SPREADS, None):
        for temperature in TEMPERATURES:
            error, gradient = synthetic(spread, temperature)
            kept("error", [error])
            kept("gradient", [gradient])
    for data in LIGHTGCL:
        kept("step", [elsewhere("-m", "benchmarks.negatives", "step", data)])
    for strategy in ("clusters", "approx", "exact"):
        kept("memory", [elsewhere("-m", "benchmarks.negatives", "memory", strategy)])
    for size in SIZES:
        kept("time", [elsewhere("-m", "benchmarks.negatives", "time", str(size))])
    kept("real", real())
    for recipe, size in (*(("pamc", size) for size in NODES), *(("scgc", size) for size in NODES[:2])):
        kept("pamc", [elsewhere("-m", "benchmarks.negatives", recipe, str(size))])
    return stamped("negatives", **found, summary=summary(found))


def steps_again(root: Path) -> dict[str, Any]:
    """The steps of LightGCL alone, anew: ``python -m benchmarks.negatives again benchmarks``. The result says which commit they are of."""
    path = root / "results" / "negatives.json"
    result = rundir.read_json(path)
    result["step"] = [elsewhere("-m", "benchmarks.negatives", "step", data) for data in LIGHTGCL]
    result["summary"] = summary(result)
    now = stamped("negatives")
    result["step_again"] = {name: now[name] for name in ("commit", "date", "threads")}
    rundir.write_json(path, result)
    return result["summary"]


def summary(found: dict[str, Any]) -> dict[str, Any]:
    """How many times the exact step takes what clusters take."""
    steps = {line["data"]: line["seconds"]["exact"] / line["seconds"]["clusters"] for line in found["step"]}
    return {
        **steps,
        **{f"{line['keys']:,} keys": line["seconds"]["exact"] / line["seconds"]["clusters"] for line in found["time"]},
    }


def strategies(assigned, rng):  # type: ignore[no-untyped-def]
    """Name -> a strategy, and how many draws its figures are over."""

    def state():  # type: ignore[no-untyped-def]
        return ClusterState({"node": len(assigned)}, given={"node": assigned})

    return {
        "order 1": (Clusters(state(), own_cluster="approx"), 1),
        "order 1, stopped": (Clusters(state(), own_cluster="approx", gradient="stop"), 1),
        "order 2": (Clusters(state(), order=2, own_cluster="approx"), 1),
        "order 2t": (Clusters(state(), order="2t", own_cluster="approx"), 1),
        "own exact": (Clusters(state()), 1),
        "own exact, 3 probes": (Clusters(state(), probe=3), 1),
        "own dropped": (Clusters(state(), own_cluster="drop"), 1),
        "sampled 20": (Sampled(20, rng=rng), 40),
        "sampled 200": (Sampled(200, rng=rng), 40),
        "cluster sampled 20": (ClusterSampled(state(), 20, rng=rng), 40),
    }


def synthetic(spread: float | None, temperature: float, n: int = 2000, dim: int = 32, clusters: int = 20) -> tuple[dict, dict]:
    """Error in nats, mean and (of drawn ones) std over anchors and draws; cosine and length of the gradient by the table."""
    rng = torch.Generator().manual_seed(0)
    if spread is None:  # no structure at all
        x = unit_rows(torch.randn(n, dim, generator=rng, dtype=torch.float64))
        assigned = kmeans(x, 45, rng=rng).nearest
    else:
        centres = unit_rows(torch.randn(clusters, dim, generator=rng, dtype=torch.float64))
        assigned = torch.arange(n) % clusters
        noise = unit_rows(torch.randn(n, dim, generator=rng, dtype=torch.float64)) * spread
        x = unit_rows(centres[assigned] + noise)
    error: dict[str, Any] = {"spread": spread, "temperature": temperature}
    gradient: dict[str, Any] = {"spread": spread, "temperature": temperature}
    exact, to_x = log_sums(x, None, temperature)
    for name, (strategy, draws) in strategies(assigned, rng).items():
        strategy.eval()
        found = [log_sums(x, strategy, temperature) for _ in range(draws)]
        off = torch.stack([lse - exact for lse, _ in found])
        error[name] = {"mean": float(off.mean()), "std": float(off.std())}
        gradient[name] = likeness([g for _, g in found], to_x)
    diagonal = diagonal_order_2(x, assigned, temperature)
    error["order 2, diagonal"] = {"mean": float((diagonal - exact).mean()), "std": float((diagonal - exact).std())}
    gradient["cluster pairs"] = likeness([cluster_pairs(x, assigned, temperature)], to_x)
    return error, gradient


def log_sums(x, strategy, temperature: float):  # type: ignore[no-untyped-def]
    """Log-sum-exp of each row with all others, and the gradient of its mean by the table."""
    table = x.clone().requires_grad_()
    ids = torch.arange(len(x))
    own = torch.sparse_csr_tensor(torch.arange(len(x) + 1), ids, torch.ones(len(x)), size=(len(x), len(x)))
    lse = (strategy or AllKeys())(table, Table(table), ids, temperature=temperature, exclude=own)
    (gradient,) = torch.autograd.grad(lse.mean(), table)
    return lse.detach(), gradient


def likeness(found: list, exact) -> dict[str, float]:  # type: ignore[no-untyped-def]
    cosines = [float(cosine_similarity(g.flatten(), exact.flatten(), 0)) for g in found]
    lengths = [float(g.norm() / exact.norm()) for g in found]
    return {"cosine": sum(cosines) / len(found), "length": sum(lengths) / len(found)}


def diagonal_order_2(x, assigned, temperature: float):  # type: ignore[no-untyped-def]
    """Order 2 with the variance of each coordinate alone, the own key removed from its cluster; dense."""
    out = []
    counts = torch.bincount(assigned)
    one_hot = torch.nn.functional.one_hot(assigned).to(x)
    sums, squares = one_hot.T @ x, one_hot.T @ x.square()
    for i, row in enumerate(x):
        c = assigned[i]
        n, s, q = counts.to(x), sums.clone(), squares.clone()
        n[c] -= 1
        s[c] -= row
        q[c] -= row.square()
        mean = s / n[:, None]
        variance = (q / n[:, None] - mean.square()) @ row.square()
        out.append((n.log() + mean @ row / temperature + variance / (2 * temperature**2)).logsumexp(0))
    return torch.stack(out)


def cluster_pairs(x, assigned, temperature: float):  # type: ignore[no-untyped-def]
    """The gradient of PamC's K x K negative term."""
    table = x.clone().requires_grad_()
    one_hot = torch.nn.functional.one_hot(assigned).to(x)
    sums = unit_rows(one_hot.T @ table)
    cosine = sums @ sums.T
    loss = (cosine - torch.diag(torch.diag(cosine))).div(temperature).logsumexp(1).mean()
    return torch.autograd.grad(loss, table)[0]


def real(dim: int = 64) -> list[dict[str, Any]]:
    """Features of attributed graphs after an SVD and two hops, of unit length, clustered by k-means into sqrt(N), and into the classes."""
    rows = []
    for name in REAL:
        data = load_attributed(name)
        assert isinstance(data.graph, Graph)
        found = truncated_svd(Sparse.from_scipy(data.x.tocsr()), dim)
        h = (found.u * found.s).double()
        op = data.graph.ops[0].to_scipy()
        for _ in range(2):
            h = (h + torch.from_numpy(op @ h.numpy())) / 2
        x = unit_rows(h)
        rng = torch.Generator().manual_seed(0)
        root = math.ceil(math.sqrt(len(x)))
        for temperature in (0.1, 0.2, 0.5):
            line: dict[str, Any] = {"data": name, "temperature": temperature}
            exact, _ = log_sums(x, None, temperature)
            for told, count in (("sqrt(N)", root), ("classes", data.num_classes)):
                assigned = kmeans(x, count, rng=rng).nearest
                state = ClusterState({"node": len(x)}, given={"node": assigned})
                for label, made in (
                    ("order 1", Clusters(state, own_cluster="approx")),
                    ("order 2", Clusters(state, order=2, own_cluster="approx")),
                    ("own exact", Clusters(state)),
                ):
                    made.eval()
                    line[f"{label}, K = {told}"] = float((log_sums(x, made, temperature)[0] - exact).mean())
            drawn = Sampled(root, rng=rng)
            drawn.eval()
            off = torch.stack([log_sums(x, drawn, temperature)[0] - exact for _ in range(20)])
            line["sampled, M = sqrt(N)"], line["its std"] = float(off.mean()), float(off.std())
            rows.append(line)
    return rows


def made_keys(size: int):  # type: ignore[no-untyped-def]
    """Unit keys about sqrt(size) directions, and their clusters."""
    rng = torch.Generator().manual_seed(0)
    count = math.ceil(math.sqrt(size))
    centres = unit_rows(torch.randn(count, DIM, generator=rng))
    assigned = torch.randint(count, (size,), generator=rng)
    keys = centres[assigned]
    for rows in keys.split(2**18):
        rows += torch.randn(rows.shape, generator=rng) * (0.6 / math.sqrt(DIM))
    return keys, assigned, rng


def timing(size: int) -> dict[str, Any]:
    keys, assigned, rng = made_keys(size)
    keys.requires_grad_()
    positives = torch.randint(size, (ANCHORS,), generator=rng)
    query = (keys.detach()[positives] + 0.05 * torch.randn(ANCHORS, DIM, generator=rng)).requires_grad_()
    state = ClusterState({"node": size}, given={"node": assigned})
    chosen = {
        "exact": AllKeys(), "clusters": Clusters(state), "order 1": Clusters(state, own_cluster="approx"),
        "cluster sampled 64": ClusterSampled(state, 64, rng=rng), "sampled 1024": Sampled(1024, rng=rng),
    }  # fmt: skip
    for made in chosen.values():
        if isinstance(made, torch.nn.Module):
            made.eval()

    def step(negatives):  # type: ignore[no-untyped-def]
        def run() -> None:
            query.grad = keys.grad = None
            InfoNCE(0.2, negatives=negatives)(Pair(query, Table(keys), positives)).backward()

        return run

    if size < MANY:
        seconds = medians({name: step(made) for name, made in chosen.items()}, 3)
    else:
        seconds = {name: timed(step(made)) for name, made in chosen.items()}
    began = time.perf_counter()
    found = ClusterState({"node": size})
    found.of("node", Table(keys.detach()), True, rng)
    return {"keys": size, "clusters": len(assigned.unique()), "seconds": seconds, "kmeans": time.perf_counter() - began}


def memory(strategy: str, size: int = 1_000_000) -> dict[str, Any]:
    keys, assigned, rng = made_keys(size)
    keys.requires_grad_()
    positives = torch.randint(size, (ANCHORS,), generator=rng)
    query = keys.detach()[positives].requires_grad_()
    state = ClusterState({"node": size}, given={"node": assigned})
    negatives = AllKeys() if strategy == "exact" else Clusters(state, own_cluster="exact" if strategy == "clusters" else "approx")
    if isinstance(negatives, torch.nn.Module):
        negatives.eval()
    objective = InfoNCE(0.2, negatives=negatives)
    small = torch.ones(8, DIM, requires_grad=True)
    InfoNCE(0.2)(Pair(small, Table(small), torch.arange(8))).backward()  # threads and kernels are there before
    before = peak_gib()
    objective(Pair(query, Table(keys), positives)).backward()
    return {"keys": size, "strategy": strategy, "mb": (peak_gib() - before) * 1024}


def lightgcl_step(name: str) -> dict[str, Any]:
    """A training step of LightGCL, propagation and optimiser included, by its negatives; width 64, batch 4,096."""
    made = registry.load(name)
    plan = protocol.plan(made, "valid")
    calls = {}
    for kind, settings in STEPS.items():
        config = lightgcl.Config(temperature=0.5, **settings)
        phase = phases.start(lightgcl, config, plan.train, 0, "cpu")
        phase.model.train()
        for part in phase.model.modules():
            if isinstance(part, Part):
                part.start_epoch(phase.inputs, 1, phase.streams["views"])
        batch = next(phase.batches(phase.streams["batches"]))

        def call(phase=phase, batch=batch) -> None:  # type: ignore[no-untyped-def]
            phase.step(phase.model, phase.inputs, batch, phase.streams["views"])

        calls[kind] = call
    return {"data": name, "seconds": medians(calls, 3)}


def clustering_step(recipe: str, size: int) -> dict[str, Any]:
    """An epoch (one step over all nodes) of PamC or SCGC on a made graph: 10 communities, 10 edges a node, 64 features."""
    rng = np.random.default_rng(0)
    labels = rng.integers(10, size=size)
    order = np.argsort(labels, kind="stable")
    starts = np.searchsorted(labels[order], np.arange(11))
    first = rng.integers(size, size=5 * size)
    near = labels[first]
    inside = order[(starts[near] + rng.random(len(first)) * (starts[near + 1] - starts[near])).astype(np.int64)]
    second = np.where(rng.random(len(first)) < 0.8, inside, rng.integers(size, size=len(first)))
    x = (rng.standard_normal((10, 64))[labels] + 2 * rng.standard_normal((size, 64))).astype(np.float32)
    data = AttributedData("made", Graph.from_pairs(first, second, size), torch.from_numpy(x), torch.from_numpy(labels))
    module = find(recipe)
    config, _ = configure(module, {"set": {"pretrain_epochs": 0}})
    began = time.perf_counter()
    phase = pretrain.start(module, config, data, 0, "cpu")
    phases.begin(phase)
    prepared = time.perf_counter() - began
    batch = next(phase.batches(phase.streams["batches"]))
    seconds = timed(lambda: phase.step(phase.model, phase.inputs, batch, phase.streams["views"]))
    return {"recipe": recipe, "nodes": size, "prepared": prepared, "seconds": seconds, "peak_gib": peak_gib()}


if __name__ == "__main__":
    what, value = sys.argv[1:]
    made = {
        "again": lambda: steps_again(Path(value)),
        "time": lambda: timing(int(value)),
        "memory": lambda: memory(value),
        "step": lambda: lightgcl_step(value),
    }
    made |= {recipe: lambda: clustering_step(what, int(value)) for recipe in ("pamc", "scgc")}
    print(json.dumps(made[what]()))
