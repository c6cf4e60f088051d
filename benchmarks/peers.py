"""The models as the field's releases write them in plain torch, written well: what our steps are measured against.

One matrix that is ready before the first step, ``torch.sparse.mm`` with autograd, rows of a batch gathered once by
``index_select`` (whose backward is the fastest of torch's), fused dense Adam, no copy between devices and no Python loop
over rows. At the first step each has our loss: ``tests/test_benchmarks.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from scipy.sparse.linalg import svds
from torch import Tensor, nn

from benchmarks.measure import timed
from graphcl.contracts import Batch
from graphcl.graph import Graph
from graphcl.ops import csr_of

Loss = Callable[[Tensor, Batch], Tensor]  # table [N, d] and a batch -> scalar
Product = Callable[[Tensor], Tensor]  # [N, d] -> [N, d]


class TorchStep:
    """A loss of one table, and Adam."""

    def __init__(self, table: nn.Parameter, loss: Loss, learning_rate: float):
        self.table, self.loss = table, loss
        self.optimiser = torch.optim.Adam([table], lr=learning_rate, fused=True)

    def __call__(self, batch: Batch) -> Tensor:
        self.optimiser.zero_grad(set_to_none=True)
        loss = self.loss(self.table, batch)
        loss.backward()
        self.optimiser.step()
        return loss.detach()


def copied(table: Tensor) -> nn.Parameter:
    return nn.Parameter(table.detach().clone())


def coo(graph: Graph) -> Tensor:
    """The normalised adjacency, coalesced."""
    matrix = graph.ops[0].to_scipy().tocoo()  # type: ignore[attr-defined]
    indices = torch.from_numpy(np.stack([matrix.row, matrix.col]).astype(np.int64))
    made = torch.sparse_coo_tensor(indices, torch.from_numpy(matrix.data), matrix.shape, check_invariants=False)
    return made.coalesce().to(graph.device)


def csr(graph: Graph) -> Tensor:
    """The normalised adjacency with 32-bit indices, which torch multiplies faster than 64-bit ones."""
    matrix = graph.ops[0].to_scipy()  # type: ignore[attr-defined]
    pointers, columns = (torch.from_numpy(a.astype(np.int32)) for a in (matrix.indptr, matrix.indices))
    return csr_of(pointers, columns, torch.from_numpy(matrix.data), matrix.shape).to(graph.device)


def times(matrix: Tensor) -> Product:
    return lambda x: torch.sparse.mm(matrix, x)


class SymmetricProduct(torch.autograd.Function):
    """Whoever knows that the matrix is its own transpose need not let autograd make one."""

    @staticmethod
    def forward(ctx, matrix, x):
        ctx.matrix = matrix
        return matrix @ x

    @staticmethod
    def backward(ctx, grad):
        return None, ctx.matrix @ grad


def propagated(table: Tensor, product: Product, num_layers: int, eps: float = 0.0) -> list[Tensor]:
    """Layers 0..L; with ``eps`` each is moved inside its orthant, by torch's own generator."""
    layers = [table]
    for _ in range(num_layers):
        h = product(layers[-1])
        if eps:
            h = h + torch.sign(h) * F.normalize(torch.rand_like(h), dim=-1) * eps
        layers.append(h)
    return layers


def mean(layers: Sequence[Tensor]) -> Tensor:
    total = layers[0]
    for h in layers[1:]:
        total = total + h
    return total / len(layers)


def rows_of(table: Tensor, batch: Batch) -> tuple[Tensor, ...]:
    """Rows of users, positives and negatives, in one gather."""
    return table.index_select(0, torch.cat([batch.users, batch.positives, batch.negatives])).split(len(batch.users))


def bpr(users: Tensor, positives: Tensor, negatives: Tensor) -> Tensor:
    return F.softplus((users * negatives).sum(1) - (users * positives).sum(1)).mean()


def halved_squares(table: Tensor, batch: Batch) -> Tensor:
    return sum(rows.square().sum() for rows in rows_of(table, batch)) / (2 * len(batch.users))  # type: ignore[return-value]


def cosines(query: Tensor, keys: Tensor, own: Tensor, temperature: float) -> Tensor:
    """InfoNCE of rows [n, d] among keys [m, d]; the positive of row b is key ``own[b]``."""
    return F.cross_entropy(F.normalize(query, dim=-1) @ F.normalize(keys, dim=-1).T / temperature, own)


def in_batch(first: Tensor, second: Tensor, batch: Batch, temperature: float) -> Tensor:
    """Users of the batch against each other, and its positive items."""
    terms = []
    for rows in (batch.users.unique(), batch.positives.unique()):
        own = torch.arange(len(rows), device=rows.device)
        terms.append(cosines(first.index_select(0, rows), second.index_select(0, rows), own, temperature))
    return terms[0] + terms[1]


def lightgcn(product: Product, config: Any) -> Loss:
    def loss(table: Tensor, batch: Batch) -> Tensor:
        final = mean(propagated(table, product, config.num_layers))
        return bpr(*rows_of(final, batch)) + config.decay * halved_squares(table, batch)

    return loss


def xsimgcl(product: Product, config: Any) -> Loss:
    def loss(table: Tensor, batch: Batch) -> Tensor:
        layers = propagated(table, product, config.num_layers, config.eps)
        final = mean(layers[1:])
        users, positives, negatives = rows_of(final, batch)
        decay = config.decay * (users.norm() + positives.norm()) / len(users)
        contrast = in_batch(final, layers[config.contrast_layer], batch, config.temperature)
        return bpr(users, positives, negatives) + decay + config.weight * contrast

    return loss


def simgcl(product: Product, config: Any) -> Loss:
    def loss(table: Tensor, batch: Batch) -> Tensor:
        clean, first, second = (
            mean(propagated(table, product, config.num_layers, eps)[1:]) for eps in (0.0, config.eps, config.eps)
        )
        users, positives, negatives = rows_of(clean, batch)
        decay = config.decay * (users.norm() + positives.norm()) / len(users)
        return bpr(users, positives, negatives) + decay + config.weight * in_batch(first, second, batch, config.temperature)

    return loss


def sgl(product: Product, views: Sequence[Product], num_users: int, config: Any) -> Loss:
    """All users (items) are keys; a batch's repeats stay, as in the release."""

    def loss(table: Tensor, batch: Batch) -> Tensor:
        final = mean(propagated(table, product, config.num_layers))
        first, second = (mean(propagated(table, view, config.num_layers)) for view in views)
        total = bpr(*rows_of(final, batch)) + config.decay * halved_squares(table, batch)
        for rows, span in ((batch.users, slice(None, num_users)), (batch.positives, slice(num_users, None))):
            own = rows - (span.start or 0)
            total = total + config.weight * cosines(first.index_select(0, rows), second[span], own, config.temperature)
        return total

    return loss


def lightgcl(product: Product, graph: Graph, config: Any) -> Loss:
    """Full logits of every user, positive and negative of the batch, repeats and all, as in the release; but log-sum-exp
    replaces its ``log(sum(exp))``, which overflows, and the SVD is exact (ARPACK), where the release's is a sketch."""
    num_users = graph.kinds["user"].stop
    block = graph.ops[0].to_scipy()[:num_users, num_users:].astype(np.float64)  # type: ignore[attr-defined]
    u, s, vt = svds(block, k=config.rank, v0=np.random.default_rng(0).standard_normal(min(block.shape)))
    u_s, vt, v_s, ut = (torch.from_numpy(a.astype(np.float32)).to(graph.device) for a in (u * s, vt, vt.T * s, u.T))

    def relayed(h: Tensor) -> Tensor:
        return torch.cat([u_s @ (vt @ h[num_users:]), v_s @ (ut @ h[:num_users])])

    def loss(table: Tensor, batch: Batch) -> Tensor:
        layers = propagated(table, product, config.num_layers)
        final, other = sum(layers), sum([relayed(h) for h in layers[:-1]], table)
        total = bpr(*rows_of(final, batch)) + config.decay * table.square().sum()  # type: ignore[arg-type]
        items = torch.cat([batch.positives, batch.negatives])
        for rows, keys in ((batch.users, final[:num_users]), (items, final[num_users:])):  # type: ignore[index]
            query = other.index_select(0, rows) / config.temperature  # type: ignore[union-attr]
            positive = (query * final.index_select(0, rows)).sum(1).clamp(-config.clamp, config.clamp)  # type: ignore[union-attr]
            total = total + config.weight * ((query @ keys.T).logsumexp(1).mean() - positive.mean())
        return total

    return loss


def pyg_lightgcn(graph: Graph, config: Any, table: Tensor) -> tuple[TorchStep, str]:
    """PyG's LightGCN with its own ``recommendation_loss``, and which form of the edges it propagates fastest through.

    Weights are normalised beforehand; left to itself the model does that in every layer of every step.
    """
    from torch_geometric.nn import LightGCN

    model = LightGCN(len(table), table.shape[1], config.num_layers, normalize=False).to(table.device)
    model.embedding.weight = copied(table)
    whole = coo(graph)
    # Message passing sums over sources, the first row; the matrix is symmetric, so either order will do.
    forms: dict[str, tuple[Any, ...]] = {"CSR adjacency": (csr(graph),), "edge_index": (whole.indices(), whole.values())}

    def once(form: tuple[Any, ...]) -> None:
        model.get_embedding(*form).sum().backward()
        model.zero_grad()

    fastest = min(forms, key=lambda name: min(timed(lambda: once(forms[name])) for _ in range(2)))
    edges, *weight = forms[fastest]

    def loss(_: Tensor, batch: Batch) -> Tensor:
        ends = torch.cat([batch.positives, batch.negatives])
        asked = torch.stack([batch.users.repeat(2), ends])
        ranks = model(edges, asked, *weight)
        nodes = torch.cat([batch.users, ends])
        return model.recommendation_loss(*ranks.chunk(2), node_id=nodes, lambda_reg=config.decay / 2)

    return TorchStep(model.embedding.weight, loss, config.learning_rate), fastest
