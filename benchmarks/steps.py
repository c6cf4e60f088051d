"""Propagation and training steps against peers that do the same in plain torch; what a step needs in memory."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from benchmarks import peers
from benchmarks.measure import OURS, elsewhere, medians, row
from benchmarks.peers import Product, TorchStep, copied
from graphcl.contracts import Batch, Part
from graphcl.encoders.table import initial_table
from graphcl.graph import Graph
from graphcl.interactions import Interactions
from graphcl.perturb.edges import drop_edges
from graphcl.recipes import lightgcl, lightgcn, sgl, simgcl, xsimgcl
from graphcl.recipes.parts import batches_of, step_of
from graphcl.streams import Streams


class OurStep:
    """A recipe's model and step at seed 0, at the start of the first epoch."""

    def __init__(self, recipe: ModuleType, graph: Graph, data: Interactions, **settings: Any):
        self.graph, self.config, self._streams = graph, recipe.Config(**settings), Streams(0)
        self.model = recipe.build(self.config, data, rng=self._streams["init"]).to(graph.device).train()
        self.batches = batches_of(recipe, self.config, data)
        self._step = step_of(recipe, self.config, self.model)
        for part in self.model.modules():
            if isinstance(part, Part):
                part.start_epoch(graph, 1, self._streams["views"])

    @property
    def table(self) -> Tensor:  # [N, d]
        (table,) = self.model.parameters()
        return table

    def __call__(self, batch: Batch) -> Tensor:
        """The loss before the step."""
        return torch.stack(list(self._step(self.model, self.graph, batch, self._streams["views"]).values())).sum().detach()

    @property
    def epoch_steps(self) -> int:
        return len(self.batches)  # type: ignore[arg-type]

    def drawn(self, number: int) -> list[Batch]:
        """The first batches of an epoch, on the graph's device."""
        device = self.graph.device
        some = itertools.islice(self.batches(self._streams["batches"]), number)
        return [batch.to(device) for batch in some]


def step_row(
    what: str, ours: OurStep, others: Mapping[str, Callable[[Batch], Any]], *, repeats: int = 11, **about: Any
) -> dict[str, Any]:
    """Everybody takes the same batches in the same order."""
    batches = ours.drawn(16)

    def turns(step: Callable[[Batch], Any]) -> Callable[[], Any]:
        order = itertools.cycle(batches)
        return lambda: step(next(order))

    seconds = medians({name: turns(step) for name, step in {OURS: ours, **others}.items()}, repeats)
    return row(what, seconds, device=str(ours.graph.device), **about)


def torch_peers(
    ours: OurStep, make: Callable[[Product, Any], peers.Loss], matrices: Mapping[str, Tensor]
) -> dict[str, TorchStep]:
    """The same loss through each matrix, from our table as it is now."""
    rate = ours.config.learning_rate
    return {
        name: TorchStep(copied(ours.table), make(peers.times(matrix), ours.config), rate) for name, matrix in matrices.items()
    }


def product_row(graph: Graph, dim: int = 64, repeats: int = 33) -> dict[str, Any]:
    """One layer, forward and backward."""
    device = graph.device
    op, whole, rows = graph.ops[0], peers.coo(graph), peers.csr(graph)
    x, grad = (  # as tables of a model are, for all alike
        initial_table({"node": graph.num_nodes}, dim, 1.0, torch.Generator().manual_seed(seed)).to(device) for seed in (0, 1)
    )
    x.requires_grad_()
    products: dict[str, Product] = {
        OURS: lambda x: op @ x,
        "torch COO": peers.times(whole),
        "torch CSR": peers.times(rows),
        "torch CSR, symmetric by hand": lambda x: peers.SymmetricProduct.apply(rows, x),
    }
    seconds = medians(
        {name: lambda product=product: torch.autograd.grad(product(x), x, grad) for name, product in products.items()}, repeats
    )
    return row(
        f"propagation, forward and backward, d {dim}", seconds,
        reach={"torch COO": 10, "torch CSR": 5}, device=str(device),
        note="both torch peers build a transpose in every backward; by hand the matrix serves as its own",
    )  # fmt: skip


def lightgcn_row(graph: Graph, data: Interactions, *, repeats: int = 21, **settings: Any) -> dict[str, Any]:
    ours = OurStep(lightgcn, graph, data, **settings)
    others = torch_peers(ours, peers.lightgcn, {"torch COO": peers.coo(graph), "torch CSR": peers.csr(graph)})
    others["PyG"], form = peers.pyg_lightgcn(graph, ours.config, ours.table.detach())
    return step_row(
        named("LightGCN", ours), ours, others, repeats=repeats, reach={"torch COO": 7, "PyG": 5},
        note=f"PyG propagates through its fastest form here, the {form}",
    )  # fmt: skip


def xsimgcl_row(graph: Graph, data: Interactions, *, repeats: int = 21, **settings: Any) -> dict[str, Any]:
    ours = OurStep(xsimgcl, graph, data, **{"num_layers": 2, **settings})
    others = torch_peers(ours, peers.xsimgcl, {"torch COO": peers.coo(graph)})
    return step_row(
        named("XSimGCL", ours), ours, others, repeats=repeats, reach={"torch COO": 10}, stretch={"torch COO": 15}
    )  # fmt: skip


def simgcl_row(graph: Graph, data: Interactions, *, repeats: int = 5, **settings: Any) -> dict[str, Any]:
    ours = OurStep(simgcl, graph, data, **settings)
    return step_row(
        named("SimGCL", ours), ours, torch_peers(ours, peers.simgcl, {"torch COO": peers.coo(graph)}), repeats=repeats
    )


def sgl_row(graph: Graph, data: Interactions, *, repeats: int = 5, **settings: Any) -> dict[str, Any]:
    ours = OurStep(sgl, graph, data, **settings)
    views = sgl_views(ours)

    def make(product: Product, config: Any) -> peers.Loss:
        return peers.sgl(product, [peers.times(peers.coo(view)) for view in views], data.num_users, config)

    return step_row(
        named("SGL", ours), ours, torch_peers(ours, make, {"torch COO": peers.coo(graph)}), repeats=repeats,
        note="edges are dropped once an epoch and stand outside the step, for both",
    )  # fmt: skip


def sgl_views(ours: OurStep) -> Sequence[Graph]:
    """The two graphs that an epoch at seed 0 begins with, drawn again."""
    rng = Streams(0)["views"]
    return [drop_edges(ours.graph, ours.config.fraction, rng) for _ in range(2)]


def lightgcl_row(graph: Graph, data: Interactions, *, repeats: int = 3, **settings: Any) -> dict[str, Any]:
    ours = OurStep(lightgcl, graph, data, svd="exact", **settings)  # as the peer's, to compute the same

    def make(product: Product, config: Any) -> peers.Loss:
        return peers.lightgcl(product, graph, config)

    return step_row(
        named("LightGCL", ours), ours, torch_peers(ours, make, {"dense logits": peers.coo(graph)}),
        repeats=repeats, reach={"dense logits": 2.5},
    )  # fmt: skip


def memory_row(data: str = "sparse_yelp") -> dict[str, Any]:
    """Each side in a process of its own."""
    values = {
        name: elsewhere("-m", "benchmarks.memory", side, data)["mb"] for name, side in ((OURS, "ours"), ("dense logits", "peer"))
    }
    return row(
        "LightGCL step, peak memory above the tables", values, unit="MB", limit=400,
        note="growth of the resident set during a step, over parameters, gradient and Adam's state",
    )  # fmt: skip


def named(model: str, ours: OurStep) -> str:
    c = ours.config
    return f"{model} step, {c.num_layers} layers, d {c.dim}, batch {c.batch_size}"
