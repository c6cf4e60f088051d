"""Meta-path neighbours of users and items as a view, against dense formulas on a tiny log."""

import numpy as np
import pandas as pd
import pytest
import torch

import graphcl
from graphcl.interactions import Interactions, Vocabulary
from graphcl.recipes import pathgcl, xsimgcl
from graphcl.recipes.pathgcl import PathNeighbours
from tests import dense
from tests.views.passes import begin, check
from tests.views.test_relayed import low_rank

USERS, ITEMS = [0, 0, 1, 1, 2], [0, 1, 1, 2, 3]


def log() -> Interactions:
    ids = Vocabulary(np.array([f"i{n}" for n in range(4)], dtype=object))
    return Interactions(np.array(USERS, dtype=np.int32), np.array(ITEMS, dtype=np.int32), Vocabulary(np.arange(3)), ids)


@pytest.fixture
def items(tmp_path):
    path = tmp_path / "toy.item"
    path.write_text("item_id:token\tclass:token_seq\ni0\tdrama\ni1\tdrama war\ni2\twar\ni3\tnoir\n")
    return str(path)


def test_the_operator_is_the_dense_formula(items):
    op = pathgcl.neighbours(pathgcl.Config(items=items, neighbours=10), log(), torch.Generator())
    genre = np.array([[1, 0, 0], [1, 1, 0], [0, 1, 0], [0, 0, 1]])
    history = np.zeros((3, 4), dtype=int)
    history[USERS, ITEMS] = 1
    expected = np.zeros((7, 7))
    for half, span in ((history @ genre, slice(0, 3)), (genre, slice(3, 7))):
        counts = half @ half.T
        scale = 1 / np.sqrt(counts.sum(1))
        expected[span, span] = scale[:, None] * counts.T * scale
    np.testing.assert_allclose(op.to_scipy().toarray(), expected, rtol=1e-6)


def test_without_weight_it_is_xsimgcl(items):
    ours = pathgcl.build(pathgcl.Config(path_weight=0.0, dim=4), log(), rng=torch.Generator().manual_seed(1))
    theirs = xsimgcl.build(xsimgcl.Config(dim=4), log(), rng=torch.Generator().manual_seed(1))
    assert ours.state_dict().keys() == theirs.state_dict().keys()
    assert [c.name for c in ours.contrasts] == [c.name for c in theirs.contrasts]
    both = pathgcl.build(pathgcl.Config(items=items, dim=4), log(), rng=torch.Generator().manual_seed(1))
    assert [c.name for c in both.contrasts] == ["contrast", "paths"]
    assert isinstance(both.contrasts[1].views, PathNeighbours)


def test_it_trains_and_the_run_needs_the_knowledge_no_more(items, tmp_path):
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"user": rng.integers(0, 20, 300), "item": [f"i{n}" for n in rng.integers(0, 4, 300)]}).drop_duplicates()
    settings = {"dim": 4, "epochs": 2, "batch_size": 16, "num_layers": 1, "neighbours": 2}
    graphcl.train(
        "pathgcl", frame, out=tmp_path / "run", items=items, options={"user_col": "user", "item_col": "item"}, **settings
    )
    (tmp_path / "toy.item").unlink()
    assert len(graphcl.load(tmp_path / "run").recommend(k=1, exclude_seen=False)) == frame["user"].nunique()


def test_bad_knowledge_is_refused(items):
    with pytest.raises(ValueError, match="set items, users, or kg with link"):
        pathgcl.neighbours(pathgcl.Config(), log(), torch.Generator())
    with pytest.raises(FileNotFoundError):
        pathgcl.neighbours(pathgcl.Config(items="nowhere.item"), log(), torch.Generator())
    with pytest.raises(ValueError, match="'user_paths': item-class-item starts at item, not at user"):
        pathgcl.neighbours(pathgcl.Config(items=items, user_paths=("item-class-item",)), log(), torch.Generator())
    with pytest.raises(ValueError, match="'item_paths' needs a meta-path"):
        pathgcl.neighbours(pathgcl.Config(items=items, item_paths=()), log(), torch.Generator())


def test_the_settings_are_the_contrasts(items):
    config = pathgcl.Config(items=items, dim=4, path_weight=0.7, path_temperature=0.3)
    paths = pathgcl.build(config, log(), rng=torch.Generator().manual_seed(1)).contrasts[1]
    assert (paths.weight, paths.objective.temperature) == (0.7, 0.3)


def test_pairs(monkeypatch):
    """Layer l of the one side is the neighbours' mean of layer l - 1 of the other; layer 0 is shared, and counts."""
    forward, table, _ = begin("all")
    op, matrix = low_rank(2)
    monkeypatch.setattr(pathgcl, "neighbours", lambda *_: op)
    view = PathNeighbours(pathgcl.Config(), log())
    view.start_epoch(dense.inputs(), 1, dense.generator(0))
    main = dense.propagate(table, dense.normalised(dense.adjacency()), 3)
    near = [table, *(matrix @ h for h in main[:-1])]
    items = torch.cat([dense.BATCH.positives, dense.BATCH.negatives])
    check(view(forward), [(dense.average(near), dense.average(main))], items)
