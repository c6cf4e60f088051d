"""What stands around the steps: reading, building the graph, sampling, ranking, importing; each against a peer written well."""

from __future__ import annotations

import gzip
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy import sparse
from torch import Tensor

from benchmarks.measure import OURS, ROOT, elsewhere, medians, row, skipped
from graphcl import runs
from graphcl.data import protocol as protocols
from graphcl.data import registry
from graphcl.data.sample import Triples
from graphcl.graph import bipartite
from graphcl.rank import DotScorer, evaluate
from graphcl.streams import Streams

LOOPED_USERS = 500  # whom the per-user ranking loop ranks
LOOPED_SHARE = 0.02  # of an epoch, that the sampling loop draws
IMPLICIT = ROOT / ".venv-implicit" / "bin" / "python"

# --- reading ----------------------------------------------------------------------------------------------------------------


def read_row(data: str = "gowalla", repeats: int = 5) -> dict[str, Any]:
    """From files to the normalised graph. Ours also checks ids and counts, finds what overlaps and orders rows by degree."""
    files = registry.locate(registry.find(data))

    def ours() -> Any:
        return bipartite(protocols.plan(runs.load_data(data)[0], "as-published").train)

    seconds = medians({OURS: ours, "Python and SciPy": lambda: read_plainly(files)}, repeats)
    return row(
        f"reading {data} and building its graph", seconds, limit=2,
        note="the peer reads the same files by int() and builds D^-1/2 A D^-1/2 in one COO to CSR conversion; it checks nothing. "
        "The releases fill a dictionary-of-keys matrix instead, which takes far longer and would be no measure",
    )  # fmt: skip


def read_plainly(files: dict[str, Path]) -> tuple[sparse.csr_matrix, dict[str, sparse.csr_matrix]]:
    """Adjacency lines to the normalised adjacency of the training pairs [U + I, U + I], and each part [U, I]."""
    parts = {role: plain_pairs(path) for role, path in files.items()}
    users, items = (1 + max(int(pair[side].max()) for pair in parts.values()) for side in (0, 1))
    held = {
        role: sparse.csr_matrix((np.ones(len(u), dtype=np.float32), (u, i)), shape=(users, items))
        for role, (u, i) in parts.items()
    }
    u, i = parts["train"]
    rows, cols = np.concatenate([u, i + users]), np.concatenate([i + users, u])
    adj = sparse.csr_matrix((np.ones(len(rows), dtype=np.float32), (rows, cols)), shape=(users + items, users + items))
    degree = np.asarray(adj.sum(1)).ravel()
    scale = np.where(degree > 0, 1 / np.sqrt(np.maximum(degree, 1)), 0).astype(np.float32)
    return (sparse.diags(scale) @ adj @ sparse.diags(scale)).tocsr(), held


def plain_pairs(path: Path) -> tuple[np.ndarray, np.ndarray]:
    users, lengths, items = [], [], []
    with gzip.open(path, "rt") if path.suffix == ".gz" else path.open() as lines:
        for line in lines:
            user, *mine = map(int, line.split())
            users.append(user)
            lengths.append(len(mine))
            items.extend(mine)
    return np.repeat(np.array(users, dtype=np.int64), lengths), np.array(items, dtype=np.int64)


# --- sampling ---------------------------------------------------------------------------------------------------------------


def sample_row(train: Any, repeats: int = 5) -> dict[str, Any]:
    """An epoch of triples, negatives rejected against train."""
    triples, rng = Triples(train, 2048), Streams(0)["batches"]
    matrix = train.matrix
    drawn = max(1, round(LOOPED_SHARE * matrix.nnz))
    held = [matrix.indices[a:b] for a, b in zip(matrix.indptr[:-1], matrix.indptr[1:], strict=True)]
    generator = np.random.default_rng(0)
    seconds = medians(
        {
            OURS: lambda: list(triples(rng)),
            "NumPy, vectorised": lambda: sampled_at_once(matrix, generator),
            "Python loop": lambda: sampled_by_loop(held, train.num_items, drawn, random.Random(0)),
        },
        repeats,
    )
    seconds["Python loop"] *= matrix.nnz / drawn
    return row(
        f"sampling an epoch of {matrix.nnz:,} triples with rejection", seconds, limit=0.3,
        note=f"the loop (a user at random, one of the items, negatives until one is new) drew {drawn:,} triples and was scaled",
    )  # fmt: skip


def sampled_by_loop(held: list[np.ndarray], num_items: int, number: int, rng: random.Random) -> np.ndarray:
    """[number, 3] users, positives, negatives: users uniform with replacement, as LightGCN's Python sampler draws them."""
    out = np.empty((number, 3), dtype=np.int64)
    filled = 0
    while filled < number:
        user = rng.randrange(len(held))
        mine = held[user]
        if not len(mine):
            continue
        positive = mine[rng.randrange(len(mine))]
        negative = rng.randrange(num_items)
        while negative in mine:
            negative = rng.randrange(num_items)
        out[filled] = user, positive, negative
        filled += 1
    return out


def sampled_at_once(matrix: sparse.csr_matrix, rng: np.random.Generator) -> np.ndarray:
    """[nnz, 3]: every pair once in random order; negatives by sorted codes, those that are taken drawn again."""
    num_items = matrix.shape[1]
    users = np.repeat(np.arange(matrix.shape[0]), np.diff(matrix.indptr))
    codes = users * num_items + matrix.indices  # sorted, for columns are
    order = rng.permutation(len(users))
    users, positives = users[order], matrix.indices[order].astype(np.int64)
    negatives = rng.integers(num_items, size=len(users))
    open_ = np.arange(len(users))
    while len(open_):
        wanted = users[open_] * num_items + negatives[open_]
        place = np.minimum(np.searchsorted(codes, wanted), len(codes) - 1)
        open_ = open_[codes[place] == wanted]
        negatives[open_] = rng.integers(num_items, size=len(open_))
    return np.stack([users, positives, negatives], axis=1)


# --- ranking ----------------------------------------------------------------------------------------------------------------


def rank_row(plan: Any, repeats: int = 3) -> dict[str, Any]:
    """Full ranking with masking and metrics, top 20; the peer ranks user by user, for some users."""
    rng = torch.Generator().manual_seed(0)
    users, items = (torch.randn(n, 64, generator=rng) for n in (plan.train.num_users, plan.train.num_items))
    scorer, truth, mask = DotScorer(users, items), plan.test.matrix, plan.train.matrix
    tested = np.flatnonzero(np.diff(truth.indptr))
    some = tested[:: max(1, len(tested) // LOOPED_USERS)][:LOOPED_USERS]
    seconds = medians(
        {
            OURS: lambda: evaluate(scorer, truth, mask=mask, train=mask, ks=(20,)),
            "user by user": lambda: ranked_by_loop(users, items, some, truth, mask),
        },
        repeats,
    )
    seconds["user by user"] *= len(tested) / len(some)
    return row(
        f"full ranking, {len(tested):,} users x {plan.train.num_items:,} items, top 20", seconds,
        limit=4, reach={"user by user": 20},
        note=f"the loop ranked {len(some)} users for recall and NDCG and was scaled; ours has every default metric",
    )  # fmt: skip


def ranked_by_loop(
    users: Tensor, items: Tensor, some: np.ndarray, truth: sparse.csr_matrix, mask: sparse.csr_matrix, k: int = 20
) -> tuple[np.ndarray, dict[str, float]]:
    """Lists [n, k] and mean recall and NDCG of some users, one after the other."""
    discount = 1 / np.log2(np.arange(2, k + 2))
    lists, recall, ndcg = [], 0.0, 0.0
    for user in some:
        scores = items @ users[user]
        scores[torch.from_numpy(mask.indices[mask.indptr[user] : mask.indptr[user + 1]]).long()] = -torch.inf
        top = scores.topk(k).indices.numpy()
        wanted = truth.indices[truth.indptr[user] : truth.indptr[user + 1]]
        hits = np.isin(top, wanted)
        recall += hits.sum() / len(wanted)
        ndcg += (hits * discount).sum() / discount[: len(wanted)].sum()
        lists.append(top)
    return np.stack(lists), {"recall": recall / len(some), "ndcg": ndcg / len(some)}


# --- starting ---------------------------------------------------------------------------------------------------------------


def start_rows(repeats: int = 5) -> list[dict[str, Any]]:
    """A new process each time; the first fills the caches of the disk and does not count."""
    clock = "import time; began = time.perf_counter(); import {}; print(time.perf_counter() - began)"
    taken: dict[str, list[float]] = {}
    for turn in range(repeats + 1):
        for name, module in ((OURS, "graphcl"), ("import torch", "torch"), ("import torch_geometric", "torch_geometric")):
            taken.setdefault(name, []).extend([elsewhere("-c", clock.format(module))] if turn else [])
    imports = {name: float(np.median(values)) for name, values in taken.items()}

    def process(*arguments: str) -> Callable[[], Any]:
        return lambda: subprocess.run([sys.executable, *arguments], cwd=ROOT, check=True, capture_output=True)

    helps = {OURS: process("-m", "graphcl.cli", "--help"), "python -c pass": process("-c", "pass")}
    return [
        row("import graphcl", imports, limit=0.3, note="a scale, not peers"),
        row("graphcl --help", medians(helps, repeats), limit=1, note="a scale, not a peer: Python's own start"),
    ]


# --- implicit ---------------------------------------------------------------------------------------------------------------


def implicit_row(train: Any, folder: Path, ours: dict[str, float], python: Path = IMPLICIT) -> dict[str, Any]:
    """An epoch of implicit's matrix factorisation; ``ours`` are seconds of our own epochs, for another model each."""
    what = "an epoch, beside implicit's BPR (other models)"
    if not python.exists():
        return skipped(what, "no .venv-implicit here; make bench-implicit creates it")
    sparse.save_npz(folder / "train.npz", train.matrix)
    found = elsewhere("-P", str(ROOT / "benchmarks" / "implicit_peer.py"), str(folder / "train.npz"), python=str(python))
    return row(
        what, {**ours, f"implicit {found['version']} BPR": found["seconds"]},
        note="implicit factorises the matrix by lock-free SGD on single triples, two threads; ours propagates through three layers "
        "(LightGCN), or none (the same model as implicit's, but Adam over whole tables in batches of 2048)",
    )  # fmt: skip
