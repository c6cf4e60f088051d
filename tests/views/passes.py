"""A pass over the toy graph whose encoder calls are counted."""

import torch
from torch import Tensor, nn
from torch.testing import assert_close

from graphcl.contracts import Layers, Pair
from graphcl.encoders import LightGCN
from graphcl.encoders.readout import mean
from graphcl.graph import Graph
from graphcl.recipes.model import Model, Pass, Rows
from tests import dense


class Counted(nn.Module):
    def __init__(self, inner: nn.Module):
        super().__init__()
        self.inner, self.calls = inner, 0

    def forward(self, *args, **options) -> Layers:
        self.calls += 1
        return self.inner(*args, **options)


def begin(rows: Rows = "positives", *, num_layers: int = 3, seed: int = 7, encoder=LightGCN, graph: Graph | None = None):
    """A pass whose generator stands at ``seed``, its model's table, and the encoder, which counts."""
    made = encoder({"user": dense.USERS, "item": dense.ITEMS}, dense.WIDTH, num_layers, rng=dense.generator(0))
    model = Model(Counted(made), mean(), lambda forward, model: {}).double()
    forward = Pass(model, dense.inputs() if graph is None else graph, dense.BATCH, dense.generator(seed))
    forward.anchors(rows)
    return forward, made.embedding, model.encoder


def check(pairs: tuple[Pair, ...], sides: list[tuple[Tensor, Tensor]], items: Tensor = dense.BATCH.positives) -> None:
    """The pairs are the users' and the items' rows of each (query [N, d], key [N, d]), unique and in order, whole keys included."""
    wanted = [
        (kind, dense.unique(rows), span, *side)
        for side in sides
        for kind, rows, span in (("user", dense.BATCH.users, dense.USER_ROWS), ("item", items, dense.ITEM_ROWS))
    ]
    assert [p.kind for p in pairs] == [kind for kind, *_ in wanted]
    for pair, (_, rows, span, query, key) in zip(pairs, wanted, strict=True):
        rows = torch.tensor(rows)
        assert torch.equal(pair.positives, rows - span.start)
        assert len(pair.key) == span.stop - span.start
        assert_close(pair.query, query[rows], rtol=1e-12, atol=1e-14)
        assert_close(pair.key.at(pair.positives), key[rows], rtol=1e-12, atol=1e-14)
        assert_close(pair.key.all(), key[span], rtol=1e-12, atol=1e-14)
        other = torch.tensor([2, 0, 2])  # rows that are no anchors, and one twice
        assert_close(pair.key.at(other), key[span][other], rtol=1e-12, atol=1e-14)
