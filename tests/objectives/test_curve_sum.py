"""The tiled sum of a curve over pairs: by gradcheck, and how much the objectives over a batch hold at a time."""

import pytest
import torch

from graphcl.contracts import Pair
from graphcl.objectives import CCL, DCL, DHEL, JSD
from graphcl.objectives.align_uniform import uniformity
from graphcl.objectives.curve_sum import curve_sum
from graphcl.objectives.rows import same_ids
from tests.objectives.dense import Table, table
from tests.objectives.test_negatives import Largest


@pytest.mark.parametrize("tile_entries", [1, 8, 12, 100])
def test_gradients(tile_entries):
    """Blocks of one row, two, three, all five; nothing is left of the last row."""
    banned = (torch.tensor([0, 0, 2, 4, 4, 4, 4]), torch.tensor([1, 3, 0, 0, 1, 2, 3]))
    weights = torch.tensor([1.0, 2.0, 0.0, 0.5, 1.0], dtype=torch.float64)

    def total(query, keys):
        return 3 * curve_sum(
            query, keys, weights, lambda s: (s.tanh(), 1 - s.tanh() ** 2), banned=banned, tile_entries=tile_entries
        )

    query, keys = table(5, 3, 0), table(4, 3, 1)
    dense = (query @ keys.T).tanh().detach()
    dense[banned] = 0
    assert total(query, keys).item() == pytest.approx(3 * float(weights @ dense.sum(1)))
    assert torch.autograd.gradcheck(total, (query, keys))


def test_same_ids():
    rows, columns = same_ids(torch.tensor([7, 2, 7, 5, 7]))
    wanted = [(0, 0), (0, 2), (0, 4), (1, 1), (2, 0), (2, 2), (2, 4), (3, 3), (4, 0), (4, 2), (4, 4)]
    assert sorted(zip(rows.tolist(), columns.tolist(), strict=True)) == wanted
    assert rows.tolist() == sorted(rows.tolist())
    assert len(same_ids(torch.tensor([], dtype=torch.int64))[0]) == 0


@pytest.mark.parametrize(
    "objective",
    [
        CCL(tile_entries=40_000), CCL(among="all", tile_entries=40_000), DCL(sigma=0.5, tile_entries=40_000),
        DHEL(tile_entries=40_000), JSD(40_000),
        lambda pair: uniformity(pair.query, tile_entries=40_000) + 0 * pair.key.all().sum(),
    ],
    ids=["CCL", "CCL-all", "DCL", "DHEL", "JSD", "uniformity"],
)  # fmt: skip
def test_a_tile_is_held_at_a_time(objective):
    """1,500 rows make 2.25 million pairs."""
    draw = lambda seed: torch.randn(1500, 4, generator=torch.Generator().manual_seed(seed)).requires_grad_()  # noqa: E731
    query, keys = draw(0), draw(1)
    with Largest() as seen:
        objective(Pair(query, Table(keys), torch.arange(1500))).backward()
    assert 10_000 < seen.entries <= 40_000
