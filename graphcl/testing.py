"""Contract tests and tiny data, for graphcl's own tests and for people who write their own parts.

Plain functions that assert; call them from a test of any framework. Each takes a part and fails with a sentence on what it breaks.

    def test_my_view():
        graphcl.testing.check_view(MyView(mean()))
"""

from __future__ import annotations

import copy
import dataclasses
import operator
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from types import ModuleType
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from graphcl.contracts import Batch, Encoder, Layers, Objective, Pair, Part, Scorer, Table, Terms, ViewGenerator
from graphcl.cycle import check_next_item
from graphcl.encoders import LightGCN
from graphcl.encoders.readout import mean
from graphcl.graph import Graph, bipartite
from graphcl.interactions import Interactions, Vocabulary
from graphcl.ops import Operator
from graphcl.perturb.noise import SignNoise
from graphcl.planted import check_pretraining
from graphcl.recipes.model import Model, Pass
from graphcl.recipes.model import Rows as AnchorRows
from graphcl.recipes.parts import batches_of, inputs_of, step_of
from graphcl.recipes.space import stated
from graphcl.streams import Streams
from graphcl.train import fit

WIDTH = 4  # of every table here: kernels are compiled for each width


def tiny_interactions() -> Interactions:
    """5 users, 6 items, 10 rows; the pair (0, 1) stands twice, user 4 and item 5 have none."""
    users = np.array([0, 0, 1, 1, 1, 2, 2, 3, 3, 0], dtype=np.int32)
    items = np.array([0, 1, 1, 2, 3, 0, 3, 3, 4, 1], dtype=np.int32)
    return Interactions(users, items, Vocabulary(np.arange(5)), Vocabulary(np.arange(6)), name="tiny")


def tiny_graph(dtype: torch.dtype = torch.float32) -> Graph:
    """:func:`tiny_interactions` as a graph of 11 nodes and 9 pairs; nodes 4 and 10 are isolated."""
    return bipartite(tiny_interactions(), dtype=dtype)


def tiny_batch() -> Batch:
    """Triples of :func:`tiny_graph`; a user, a positive and a negative stand twice, and item 5 (isolated) is a negative."""
    return Batch(torch.tensor([0, 1, 1, 3]), torch.tensor([5, 7, 8, 8]), torch.tensor([8, 10, 5, 10]))


def checkerboard(users: int = 16, items: int = 10) -> tuple[Interactions, np.ndarray]:
    """Users like the items of their own colour, user and item numbers being odd or even; one liked item is withheld from each.

    Returns the rest as interactions, and the withheld items [users].
    """
    if users < 6 or items < 6:
        raise ValueError(f"at least 6 users and 6 items are needed, got {users} and {items}")
    withheld = np.array([range(u % 2, items, 2)[u // 2 % len(range(u % 2, items, 2))] for u in range(users)])
    pairs = [(u, i) for u in range(users) for i in range(u % 2, items, 2) if i != withheld[u]]
    u, i = np.array(pairs, dtype=np.int32).T
    return Interactions(u, i, Vocabulary(np.arange(users)), Vocabulary(np.arange(items)), name="checkerboard"), withheld


@contextmanager
def undisturbed() -> Iterator[None]:
    """Fails if the code inside draws from the global generator of torch, NumPy or Python."""

    def states() -> list[Any]:
        numpy_state: Any = np.random.get_state()  # noqa: NPY002
        found: list[Any] = [torch.get_rng_state(), numpy_state[1].copy(), random.getstate()]
        return [*found, *(torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else ())]

    before = states()
    yield
    for was, now in zip(before, states(), strict=True):
        same = was == now if isinstance(was, tuple) else bool((was == now).all())
        assert same, "a global generator was drawn from; take draws from the `rng` that is handed in"


def check_operator(op: Operator, dense: Tensor) -> None:
    """``op`` does what the float64 matrix ``dense`` [n, m] does: products, transposes, rows, gradients, errors."""
    n, m = dense.shape
    rng = torch.Generator().manual_seed(0)
    x = torch.randn(m, WIDTH, generator=rng, dtype=torch.float64)
    y = torch.randn(n, WIDTH, generator=rng, dtype=torch.float64)
    kept = x.clone()
    assert op.shape == (n, m), f"shape {op.shape} instead of {(n, m)}"
    assert op.T.shape == (m, n), f"transpose of shape {op.T.shape} instead of {(m, n)}"
    product, back = op @ x, op.T @ y
    _close(product, dense @ x, "op @ x differs from the dense product")
    _close(back, dense.T @ y, "op.T @ y differs from the dense product")
    _close(op.T.T @ x, product, "op.T.T differs from op")
    _close((product * y).sum(), (x * back).sum(), "<A x, y> differs from <x, A.T y>")
    assert torch.equal(x, kept), "op @ x changed x"

    ids = torch.tensor([n - 1, 0, n // 2, 0])  # any order, a repeat
    some = op.rows(ids)
    _close(some @ x, product[ids], "op.rows(ids) @ x differs from (op @ x)[ids]")
    z = torch.randn(len(ids), WIDTH, generator=rng, dtype=torch.float64)
    _close(some.T @ z, dense[ids].T @ z, "op.rows(ids).T differs from the dense product")
    _close(op.T.rows(torch.tensor([m - 1, 0])) @ y, back[[m - 1, 0]], "op.T.rows(ids) @ y differs from (op.T @ y)[ids]")
    assert (op.rows(torch.tensor([], dtype=torch.int64)) @ x).shape == (0, WIDTH), "op.rows of no rows"
    _close(op.to("cpu") @ x, product, 'op.to("cpu") differs from op')

    x.requires_grad_()
    for which in (op, some):
        assert torch.autograd.gradcheck(partial(operator.matmul, which), (x,), fast_mode=True), "gradient with respect to x"
    for wrong in (torch.zeros(m + 1, WIDTH, dtype=torch.float64), torch.zeros(m, dtype=torch.float64)):
        _raises(partial(operator.matmul, op, wrong), f"a table of shape {tuple(wrong.shape)}")


def check_encoder(encoder: Any, graph: Graph | None = None) -> None:
    """L + 1 finite layers [N, d], input first; rows may be chosen first; no global generator; every parameter learns.

    Without ``graph``, the encoder is one of :func:`tiny_graph`'s 5 users and 6 items.
    """
    graph = tiny_graph(next(encoder.parameters()).dtype) if graph is None else graph
    rows = torch.tensor([graph.num_nodes - 1, 0, 1, 0])
    noise = SignNoise(0.25)

    def run(perturb: SignNoise | None) -> Layers:
        with undisturbed():
            return encoder(graph, rng=torch.Generator().manual_seed(1), perturb=perturb)

    clean, noisy, again = run(None), run(noise), run(noise)
    count = encoder.num_layers + 1
    for layers in (clean, noisy):
        assert len(layers) == count, f"{len(layers)} layers instead of {count}: the input and {encoder.num_layers} more"
        for number in range(count):
            h = layers[number]
            assert h.shape == (graph.num_nodes, layers[0].shape[1]), f"layer {number} has shape {tuple(h.shape)}"
            assert bool(h.isfinite().all()), f"layer {number} is not finite"
            _close(layers.at(rows)[number], h[rows], f"layer {number} differs when rows are chosen first")
    assert torch.equal(clean[0], noisy[0]), "noise moved the input; it belongs after each layer"
    for number in range(1, count):
        assert torch.equal(noisy[number], again[number]), f"layer {number} differs between two passes of one rng"
        assert not torch.equal(noisy[number], clean[number]), f"perturb was not applied to layer {number}"

    parameters = list(encoder.parameters())
    total = torch.stack([h.square().sum() for h in run(None).each]).sum()
    for gradient in torch.autograd.grad(total, parameters, allow_unused=True):
        assert gradient is not None, "a parameter reaches no layer"
        assert bool(gradient.isfinite().all()), "a gradient is not finite"


def check_view(
    view: ViewGenerator,
    *,
    num_layers: int = 2,
    rows: AnchorRows = "positives",
    num_keys: int | None = None,
    dtype: torch.dtype = torch.float32,
) -> None:
    """Pairs of the right shape; as many passes as stated; deterministic given ``rng``; no global generator; inputs unchanged.

    The view runs on :func:`tiny_graph`, whose isolated nodes it has to survive. ``dtype`` is that of the view's own tensors.
    ``num_keys``: how many keys each pair has, where they are not the nodes of its kind.
    """
    graph, batch = tiny_graph(dtype), tiny_batch()
    sizes = {kind: span.stop - span.start for kind, span in graph.kinds.items()}
    before = _contents(graph)

    def run(seed: int) -> tuple[list[Tensor], Tensor]:
        encoder = _Counted(LightGCN(sizes, WIDTH, num_layers, rng=torch.Generator().manual_seed(0)).to(dtype))
        model = Model(cast(Encoder, encoder), mean(), _no_task)
        table = encoder.inner.embedding
        start = table.detach().clone()
        rng = torch.Generator().manual_seed(seed)
        with undisturbed():
            if isinstance(view, Part):
                view.start_epoch(graph, 1, rng)
            forward = Pass(model, graph, batch, rng)
            forward.anchors(rows)
            _ = forward.main
            pairs = view(forward)
        assert encoder.calls - 1 == view.passes, f"the view states {view.passes} passes and makes {encoder.calls - 1}"
        assert torch.equal(table, start), "the view changed the parameters"
        assert all(torch.equal(a, b) for a, b in zip(before, _contents(graph), strict=True)), "the view changed the graph"
        assert isinstance(pairs, tuple), f"a view returns a tuple of pairs, not {type(pairs).__name__}"
        assert pairs, "the view has no pairs"
        found = []
        for pair in pairs:
            found += _check_pair(pair, graph, num_keys)
        (gradient,) = torch.autograd.grad(torch.stack([f.square().sum() for f in found]).sum(), table)
        assert bool(gradient.isfinite().all()), "a gradient is not finite"
        return found, gradient

    (first, gradient), (second, same) = run(1), run(1)
    assert len(first) == len(second), "the number of pairs differs between two calls with one rng"
    for a, b in zip([*first, gradient], [*second, same], strict=True):
        assert torch.equal(a, b), "the view is not a function of its inputs and rng"


def check_objective(objective: Objective) -> None:
    """A finite scalar at temperature 1e-3; the order and numbering of rows and the tile size do not matter; aligned beats opposed."""
    rng = torch.Generator().manual_seed(0)
    draw = lambda *shape: torch.randn(*shape, generator=rng, dtype=torch.float64)  # noqa: E731
    query, keys = draw(7, WIDTH), draw(12, WIDTH)
    positives = torch.randperm(12, generator=rng)[:7]
    loss = _loss(objective, query, keys, positives)

    order = torch.randperm(7, generator=rng)
    _close(_loss(objective, query[order], keys, positives[order]), loss, "the loss depends on the order of pairs")
    names = torch.randperm(12, generator=rng)
    renamed = torch.empty_like(keys).index_copy_(0, names, keys)
    _close(_loss(objective, query, renamed, names[positives]), loss, "the loss depends on the numbering of keys")
    for tile_entries in (1, 20):
        tiled = _with(objective, "tile_entries", tile_entries)
        if tiled is not None:
            _close(_loss(tiled, query, keys, positives), loss, "the loss depends on the tile size")

    aligned, opposed = (_loss(objective, sign * keys[positives], keys, positives) for sign in (1, -1))
    assert aligned < opposed, f"aligned pairs cost {aligned}, opposed ones {opposed}"
    cold = _with(objective, "temperature", 1e-3)
    zero = query.clone()
    zero[0] = 0  # an isolated node's embedding
    for part in (objective,) if cold is None else (objective, cold):
        for extreme in (query, keys[positives], -keys[positives], zero):
            _loss(part, extreme, keys, positives)


def check_recipe(module: ModuleType, *, epochs: int = 15, least: float = 0.9, **settings: Any) -> float:
    """Builds and trains the recipe on :func:`checkerboard`: each user's withheld item has to come first among the unseen ones,
    for a share ``least`` of users. Returns the share. A recipe without persons (``popular``) cannot pass. One on heterogeneous (or attributed)
    graphs is trained on :func:`graphcl.planted.planted` (or ``planted_attributed``), and macro-F1 of a probe has to be ``least``; one on histories on :func:`graphcl.cycle.cycle`,
    and the item that follows has to come first.

    ``settings`` replace those of a fast run: width 4, batches of 16, learning rate 0.05, rank 2, 3 clusters from the second epoch on,
    and a contrast's weight of at most 0.02, for with a large one the few nodes of the board would rather keep apart than match.
    """
    for part in ("KIND", "Config", "PRESETS"):
        assert part in vars(module), f"{module.__name__} lacks {part}"
    assert {"build", "embed"} & set(vars(module)), f"{module.__name__} lacks build (or embed, for a closed form on a graph)"
    fields = {f.name: f.default for f in dataclasses.fields(module.Config)}
    for name, preset in module.PRESETS.items():
        assert set(preset) <= set(fields), f"preset {name} sets {sorted(set(preset) - set(fields))}, which Config does not have"
    stated(module)  # raises for a SPACE that cannot be searched
    if module.KIND in ("hetero", "attributed"):
        return check_pretraining(module, undisturbed, epochs, least, settings)
    if module.KIND == "sequential":
        return check_next_item(module, undisturbed, epochs, least, settings)
    fast: dict[str, Any] = {
        "dim": WIDTH, "batch_size": 16, "learning_rate": 0.05, "rank": 2, "num_clusters": 3, "warm_up": 1,
    }  # fmt: skip
    weight = fields.get("weight")
    if isinstance(weight, float):
        fast["weight"] = min(weight, 0.02)
    config = module.Config(**{**{k: v for k, v in fast.items() if k in fields}, **settings})
    log, withheld = checkerboard()
    streams = Streams(0)
    with undisturbed():
        built = module.build(config, log, rng=streams["init"])
        scores = _trained(module, config, log, built, streams, epochs) if isinstance(built, Model) else _scored(built, log)
    assert scores.shape == (log.num_users, log.num_items), f"scores of shape {tuple(scores.shape)}"
    assert bool(scores.isfinite().all()), "scores are not finite"
    left = scores.masked_fill(torch.from_numpy(log.matrix.toarray() > 0), -torch.inf)
    share = float((left.argmax(1) == torch.from_numpy(withheld)).double().mean())
    assert share >= least, f"the withheld item comes first for {share:.0%} of users, not for {least:.0%}"
    return share


def _trained(module: ModuleType, config: Any, log: Interactions, model: Model, streams: Streams, epochs: int) -> Tensor:
    inputs, step, batches = inputs_of(module, config, log), step_of(module, config, model), batches_of(module, config, log)
    for epoch in fit(model, inputs, step=step, batches=batches, streams=streams, epochs=epochs):
        assert epoch.steps > 0, "an epoch without steps"
    table = model.embed(inputs)
    return table[inputs.kinds["user"]] @ table[inputs.kinds["item"]].T


def _scored(scorer: Scorer, log: Interactions) -> Tensor:
    assert scorer.num_items == log.num_items, f"a scorer of {scorer.num_items} items for {log.num_items}"
    return scorer.score(torch.arange(log.num_users))


class _Counted(nn.Module):
    """An encoder that counts its calls."""

    def __init__(self, inner: LightGCN):
        super().__init__()
        self.inner, self.calls = inner, 0

    def forward(self, *args: Any, **options: Any) -> Layers:
        self.calls += 1
        return self.inner(*args, **options)


def _no_task(forward: Pass, model: Model) -> Terms:
    return {}


def _check_pair(pair: Pair, graph: Graph, num_keys: int | None) -> list[Tensor]:
    """Query, keys of the positives and all keys of a pair that fits the graph."""
    assert pair.kind in graph.kinds, f"kind {pair.kind!r} is none of {', '.join(graph.kinds)}"
    span = graph.kinds[pair.kind]
    everything = pair.key.all()
    wanted = span.stop - span.start if num_keys is None else num_keys
    assert len(pair.key) == len(everything) == wanted, (
        f"{len(everything)} keys instead of {wanted}: one for each node of the kind"
    )
    found = [pair.query, everything]
    if pair.positives.layout == torch.sparse_csr:
        assert pair.positives.shape == (len(pair.query), len(pair.key)), "sparse positives are [n, m]"
    else:
        near = pair.key.at(pair.positives)
        assert near.shape == pair.query.shape, f"queries {tuple(pair.query.shape)} and positives {tuple(near.shape)}"
        _close(near, everything[pair.positives], "key.at(ids) differs from key.all()[ids]")
        found.append(near)
    if pair.weights is not None:
        assert pair.weights.shape == (len(pair.query),), "one weight for each query"
    for rows in found:
        assert bool(rows.isfinite().all()), "a row is not finite"
    return found


def _contents(graph: Graph) -> list[Tensor]:
    found = [graph.adj.rowptr, graph.adj.col, graph.pairs, graph.pair_of_entry]
    for op in graph.ops:
        found.append(torch.from_numpy(op.to_scipy().data))  # type: ignore[attr-defined]
    return [t.clone() for t in found]


def _loss(objective: Objective, query: Tensor, keys: Tensor, positives: Tensor) -> Tensor:
    query, keys = query.clone().requires_grad_(), keys.clone().requires_grad_()
    with undisturbed():
        loss = objective(Pair(query, Table(keys), positives))
    assert loss.shape == (), f"an objective returns a scalar, not shape {tuple(loss.shape)}"
    assert bool(loss.isfinite()), f"the loss is {loss.item()}"
    for gradient in torch.autograd.grad(loss, (query, keys)):
        assert bool(gradient.isfinite().all()), "a gradient is not finite"
    return loss.detach()


def _with(part: Any, name: str, value: Any) -> Any:
    """A copy of a dataclass or module with the field ``name`` replaced, at any depth; None where nothing has it."""
    if isinstance(part, nn.Module) and name in vars(part):
        changed = copy.copy(part)
        setattr(changed, name, value)
        return changed
    if not dataclasses.is_dataclass(part) or isinstance(part, type):
        return None
    names = [f.name for f in dataclasses.fields(part)]
    if name in names:
        return dataclasses.replace(part, **{name: value})
    for inner in names:
        changed = _with(getattr(part, inner), name, value)
        if changed is not None:
            return dataclasses.replace(part, **{inner: changed})
    return None


def _close(found: Tensor, expected: Tensor, what: str) -> None:
    tolerance = 1e-10 if found.dtype == torch.float64 else 1e-5
    torch.testing.assert_close(
        found.detach(), expected.detach().to(found.dtype), rtol=tolerance, atol=tolerance, msg=lambda detail: f"{what}: {detail}"
    )


def _raises(call: Callable[[], Any], what: str) -> None:
    try:
        call()
    except ValueError:
        return
    raise AssertionError(f"{what} has to raise ValueError")
