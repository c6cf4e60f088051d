"""The main pass seen through another operator."""

import torch
from torch.testing import assert_close

from graphcl.encoders.readout import layer, total
from graphcl.ops import LowRank
from graphcl.views import Relayed
from tests import dense
from tests.views.passes import begin, check


def low_rank(rank: int) -> tuple[LowRank, torch.Tensor]:
    left, right = (torch.randn(dense.NODES, rank, generator=dense.generator(s), dtype=torch.float64) for s in (1, 2))
    return LowRank(left, right), left @ right.T


def test_pairs():
    """Layer l of the relayed side is the operator on the main side's layer l - 1; layer 0 is shared."""
    forward, table, encoder = begin("all")
    op, matrix = low_rank(2)
    view = Relayed(op, total(first=0))
    main = dense.propagate(table, dense.normalised(dense.adjacency()), 3)
    relayed = [table, *(matrix @ h for h in main[:-1])]
    items = torch.cat([dense.BATCH.positives, dense.BATCH.negatives])
    check(view(forward), [(sum(relayed), sum(main))], items)
    assert encoder.calls == 1
    assert view.passes == 0


def test_the_whole_svd_relays_what_the_graph_does():
    """With every singular vector G(l) = A~ E(l-1): both sides agree."""
    op = dense.normalised(dense.adjacency())
    u, s, vt = torch.linalg.svd(op)
    forward, _, _ = begin()
    for number in (1, 2, 3):
        for pair in Relayed(LowRank(u * s, vt.T.contiguous()), layer(number))(forward):
            assert_close(pair.query, pair.key.at(pair.positives), rtol=0, atol=1e-12)


class Elsewhere(LowRank):
    """Counts how often it is moved."""

    moves = 0

    def to(self, device):
        assert torch.device(device).type == "cpu"
        if not isinstance(self, Here):
            Elsewhere.moves += 1
            return Here(self.left, self.right)
        return self


class Here(Elsewhere):
    pass


def test_the_operator_is_moved_once():
    """``model.to("cuda")`` does not know operators: the view follows its main pass, and does not copy at every step."""
    view = Relayed(Elsewhere(*(torch.ones(dense.NODES, 1, dtype=torch.float64) for _ in range(2))), total())
    for _ in range(3):
        view(begin()[0])
    assert Elsewhere.moves == 1
    assert isinstance(view.op, Here)
