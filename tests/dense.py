"""Toy data, dense float64 propagation and losses that tests of recipes and views share. Nothing here uses graphcl's operators."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor
from torch.testing import assert_close

from graphcl.contracts import Batch
from graphcl.graph import Graph, bipartite
from graphcl.interactions import Interactions, Vocabulary
from graphcl.ops import draw_key, uniform
from graphcl.recipes.model import Model

USERS, ITEMS, WIDTH = 5, 6, 4
NODES = USERS + ITEMS
USER_ROWS, ITEM_ROWS = slice(0, USERS), slice(USERS, NODES)
# (0, 1) stands twice; user 4 and item 5 have nothing.
PAIRS = [(0, 0), (0, 1), (1, 1), (1, 2), (1, 3), (2, 0), (2, 3), (3, 3), (3, 4), (0, 1)]
# A user, a positive and a negative come twice; row 10 is item 5, whom nobody has.
BATCH = Batch(torch.tensor([0, 1, 1, 3]), torch.tensor([5, 7, 8, 8]), torch.tensor([8, 10, 5, 10]))


def log() -> Interactions:
    users, items = np.array(PAIRS, dtype=np.int32).T
    return Interactions(users, items, Vocabulary(np.arange(USERS)), Vocabulary(np.arange(ITEMS)))


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def adjacency(pairs=PAIRS) -> Tensor:
    """[NODES, NODES] of zeros and ones, users first."""
    adj = torch.zeros(NODES, NODES, dtype=torch.float64)
    for user, item in pairs:
        adj[user, USERS + item] = adj[USERS + item, user] = 1
    return adj


def normalised(adj: Tensor, a: float = 0.5, b: float = 0.5) -> Tensor:
    """D^-a A WIDTH^-b entry by entry; an isolated node's row and column stay zero."""
    degree = adj.sum(1)
    out = torch.zeros_like(adj)
    for i, j in adj.nonzero().tolist():
        out[i, j] = degree[i] ** -a * degree[j] ** -b
    return out


def exact(graph: Graph) -> Graph:
    """The graph with its scales in float64, so that nothing is rounded to seven digits on the way."""
    ops = []
    for op in graph.ops:
        degree = op.degrees().double()
        left, right = (torch.where(degree > 0, degree.clamp_min(1) ** -e, 0.0) for e in graph.exponents)
        ops.append(op.scaled(left, left if graph.exponents[0] == graph.exponents[1] else right))
    return replace(graph, ops=tuple(ops))


def inputs() -> Graph:
    return exact(bipartite(log()))


def unit(x: Tensor) -> Tensor:
    """Unit rows; the zero rows of isolated nodes stay zero, without a gradient."""
    rows = [row / row.square().sum().sqrt() if bool((row != 0).any()) else torch.zeros_like(row) for row in x]
    return torch.stack(rows)


def layer_keys(rng: torch.Generator, num_layers: int) -> list[int]:
    """The keys that a pass with noise draws: one for each layer, from which the perturbation draws its own."""
    return [draw_key(generator(draw_key(rng))) for _ in range(num_layers)]


def moved(h: Tensor, eps: float, key: int) -> Tensor:
    """Each row by eps inside its orthant, along a direction that is uniform draws of (key, row, column)."""
    draws = uniform(key, torch.arange(len(h)), h.shape[1]).double()
    return h + eps * h.detach().sign() * draws / draws.square().sum(1, keepdim=True).sqrt()


def propagate(table: Tensor, op: Tensor, num_layers: int, *, eps: float = 0.0, keys: list[int] | None = None) -> list[Tensor]:
    layers = [table]
    for number in range(num_layers):
        h = op @ layers[-1]
        layers.append(h if keys is None else moved(h, eps, keys[number]))
    return layers


def average(layers: list[Tensor]) -> Tensor:
    return sum(layers) / len(layers)


def bpr(final: Tensor, batch: Batch = BATCH) -> Tensor:
    u, i, j = final[batch.users], final[batch.positives], final[batch.negatives]
    return (1 + (-((u * i).sum(1) - (u * j).sum(1))).exp()).log().mean()


def half_squares(table: Tensor, batch: Batch = BATCH) -> Tensor:
    """0.5 (|u|^2 + |i|^2 + |j|^2) / B over the triples, repeats and all."""
    total = sum(table[row].square().sum() for rows in (batch.users, batch.positives, batch.negatives) for row in rows)
    return total / 2 / len(batch.users)


def frobenius(final: Tensor, batch: Batch = BATCH) -> Tensor:
    """(|U|_F + |I+|_F) / B, not squared."""
    lengths = [final[rows].square().sum().sqrt() for rows in (batch.users, batch.positives)]
    return sum(lengths) / len(batch.users)


def nce(query: Tensor, key: Tensor, anchors: list[int], among: list[int], temperature: float) -> Tensor:
    """Mean over anchors (with repeats, as they stand in the list) of InfoNCE with cosines against the keys ``among``."""
    query, key = unit(query), unit(key)
    terms = []
    for b in anchors:
        logits = torch.stack([(query[b] * key[k]).sum() / temperature for k in among])
        terms.append(torch.logsumexp(logits, 0) - (query[b] * key[b]).sum() / temperature)
    return torch.stack(terms).mean()


def entries(op) -> Tensor:
    """An operator's matrix, from what it stores."""
    return torch.from_numpy(op.to_scipy().toarray()).double()


def unique(rows: Tensor) -> list[int]:
    return sorted(set(rows.tolist()))


def agree(
    model: Model,
    graph: Graph,
    expected: Callable[[Tensor, torch.Generator], dict[str, Tensor]],
    *,
    batch: Batch = BATCH,
    seed: int = 7,
) -> None:
    """Every term of the loss, and the gradient of their sum by every parameter, against ``expected(table, rng)``, which is given
    the embedding table as a leaf of its own; other parameters are the model's."""
    model = model.double().train()
    terms = model.losses(graph, batch, generator(seed))
    table = model.encoder.embedding.detach().clone().requires_grad_()
    wanted = expected(table, generator(seed))
    assert terms.keys() == wanted.keys()
    for name, value in wanted.items():
        assert_close(terms[name], value, rtol=1e-10, atol=1e-13, msg=lambda detail, name=name: f"{name}: {detail}")
    parameters = dict(model.named_parameters())
    grads = torch.autograd.grad(sum(terms.values()), list(parameters.values()))
    leaves = [table if name == "encoder.embedding" else p for name, p in parameters.items()]
    slow = torch.autograd.grad(sum(wanted.values()), leaves)
    for name, mine, theirs in zip(parameters, grads, slow, strict=True):
        assert theirs.abs().max() > 0
        assert_close(mine, theirs, rtol=1e-8, atol=1e-11, msg=lambda detail, name=name: f"gradient of {name}: {detail}")
