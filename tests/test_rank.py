"""Tiled ranking against a full, stable sort."""

import numpy as np
import pytest
import torch
from scipy import sparse

from graphcl import metrics, rank

NUM_USERS, NUM_ITEMS = 37, 150


class Fixed:
    """Scores written down beforehand; a history is scored by the sum of its items' rows."""

    def __init__(self, scores: np.ndarray) -> None:
        self.scores = torch.from_numpy(scores.astype(np.float32))
        self.num_items = scores.shape[1]
        self.largest = 0

    def score(self, users):
        rows = users.shape[0] if sparse.issparse(users) else len(users)
        self.largest = max(self.largest, rows)
        if sparse.issparse(users):
            return torch.from_numpy(users.astype(np.float32) @ self.scores.numpy()[: users.shape[1]])
        return self.scores[users]


def with_ties(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(-4, 5, size=(NUM_USERS, NUM_ITEMS)).astype(np.float32)


def pattern(share: float, seed: int, rows: int = NUM_USERS) -> sparse.csr_matrix:
    return sparse.csr_matrix((np.random.default_rng(seed).random((rows, NUM_ITEMS)) < share).astype(np.float32))


def sorted_whole(scores: np.ndarray, seen: np.ndarray, k: int):
    left = np.where(seen, -np.inf, scores)
    items = np.argsort(-left, axis=1, kind="stable")[:, :k]
    values = np.take_along_axis(left, items, axis=1)
    items = np.where(np.isneginf(values), -1, items)
    pad = ((0, 0), (0, k - items.shape[1]))
    return np.pad(items, pad, constant_values=-1), np.pad(values, pad, constant_values=-np.inf)


def on_cpu(scores, *rest):
    return rank._select_cpu(rank._turned(scores), *rest)


SELECTIONS = [on_cpu, rank._select_torch]


@pytest.mark.parametrize("select", SELECTIONS)
@pytest.mark.parametrize("k", [1, 7, 64, 149, 150, 170])
@pytest.mark.parametrize("ties", [True, False])
def test_equals_a_stable_sort(select, k, ties):
    scores = with_ties() if ties else np.random.default_rng(1).normal(size=(NUM_USERS, NUM_ITEMS)).astype(np.float32)
    seen = pattern(0.2, seed=2)
    items, best = select(torch.from_numpy(scores), k, seen, np.arange(NUM_USERS))
    want_items, want_best = sorted_whole(scores, seen.toarray() > 0, k)
    np.testing.assert_array_equal(items, want_items)
    np.testing.assert_array_equal(best, want_best)
    assert (items.dtype, best.dtype) == (np.int64, np.float32)


@pytest.mark.parametrize("select", SELECTIONS)
def test_all_seen_all_equal_and_infinite_scores(select):
    scores = np.zeros((4, NUM_ITEMS), dtype=np.float32)
    scores[2, :] = -np.inf
    scores[2, [9, 100]] = -np.inf, 3  # -inf is left out like a seen item
    scores[3, [5, 80]] = np.inf
    seen = np.zeros((4, NUM_ITEMS), dtype=np.float32)
    seen[0] = 1
    items, best = select(torch.from_numpy(scores), 3, sparse.csr_matrix(seen), np.arange(4))
    assert items.tolist() == [[-1, -1, -1], [0, 1, 2], [100, -1, -1], [5, 80, 0]]
    assert np.isneginf(best[0]).all()
    assert best[2].tolist() == [3, -np.inf, -np.inf]


@pytest.mark.parametrize("block", [1, 5, 36, 37, 1000, None])
def test_block_size_changes_nothing(block):
    scorer, seen = Fixed(with_ties()), pattern(0.3, seed=3)
    users = torch.tensor([30, 2, 2, 17, 0, 36])
    items, best = rank.top_k(scorer, users, 9, seen=seen, block=block)
    want_items, want_best = sorted_whole(with_ties()[users], seen[users.numpy()].toarray() > 0, 9)
    np.testing.assert_array_equal(items, want_items)
    np.testing.assert_array_equal(best, want_best)
    assert scorer.largest <= (block or NUM_USERS)


def test_several_seen_patterns_unsorted_and_cancelling():
    one, two = pattern(0.2, seed=4), pattern(0.2, seed=5)
    two.data[:] = -1  # adding the two would lose what stands in both
    one.indices[one.indptr[3] : one.indptr[4]] = one.indices[one.indptr[3] : one.indptr[4]][::-1].copy()
    one.has_sorted_indices = False
    before = one.indices.copy()
    items, _ = rank.top_k(Fixed(with_ties()), np.arange(NUM_USERS), 20, seen=(one, two))
    want, _ = sorted_whole(with_ties(), (one.toarray() != 0) | (two.toarray() != 0), 20)
    np.testing.assert_array_equal(items, want)
    np.testing.assert_array_equal(one.indices, before)
    items, _ = rank.top_k(Fixed(with_ties()), np.arange(NUM_USERS), 20, seen=one)
    np.testing.assert_array_equal(items, sorted_whole(with_ties(), one.toarray() != 0, 20)[0])


def test_histories_leave_out_their_own_rows():
    square = np.random.default_rng(6).normal(size=(NUM_ITEMS, NUM_ITEMS)).astype(np.float32)
    histories = pattern(0.1, seed=7, rows=11)
    items, _ = rank.top_k(Fixed(square), histories, 10, seen=histories, block=4)
    want, _ = sorted_whole(histories.toarray() @ square, histories.toarray() > 0, 10)
    np.testing.assert_array_equal(items, want)


@pytest.mark.parametrize("select", SELECTIONS)
@pytest.mark.parametrize("item", [3, 149])
def test_nan_is_refused_with_its_place(select, item):
    scores = np.random.default_rng(8).normal(size=(3, NUM_ITEMS)).astype(np.float32)
    scores[1, item] = np.nan
    with pytest.raises(ValueError, match=f"row 21 for item row {item} is NaN.*learning rate"):
        select(torch.from_numpy(scores), 5, None, np.array([20, 21, 22]))


def test_rows_and_blocks_that_are_none():
    scorer = Fixed(with_ties())
    with pytest.raises(ValueError, match="block must be at least 1, got -1"):
        rank.top_k(scorer, [0, 1], 2, block=-1)
    with pytest.raises(ValueError, match=r"row numbers are integers, got torch\.bool"):
        rank.top_k(scorer, np.arange(NUM_USERS) < 2, 2)


def test_progress_sees_the_blocks():
    calls = []

    def watch(blocks):
        calls.append(len(blocks))
        return blocks

    rank.top_k(Fixed(with_ties()), np.arange(NUM_USERS), 3, block=10, progress=watch)
    assert calls == [4]


def test_no_users():
    items, best = rank.top_k(Fixed(with_ties()), np.arange(0), 3, seen=pattern(0.1, 0))
    assert items.shape == best.shape == (0, 3)


def test_refusals():
    scorer = Fixed(with_ties())
    with pytest.raises(ValueError, match="k must be at least 1"):
        rank.top_k(scorer, np.arange(3), 0)
    with pytest.raises(ValueError, match=r"seen must be \[users, 150\]"):
        rank.top_k(scorer, np.arange(3), 2, seen=sparse.csr_matrix((NUM_USERS, NUM_ITEMS + 1)))
    with pytest.raises(ValueError, match="too few for user row 36"):
        rank.top_k(scorer, np.arange(NUM_USERS), 2, seen=sparse.csr_matrix((NUM_USERS - 1, NUM_ITEMS)))
    for seen in (None, pattern(0.1, 0)):  # the last user's list, with nothing left out, would be another's
        with pytest.raises(ValueError, match="user rows must be 0 or more, got -1"):
            rank.top_k(scorer, np.array([2, -1]), 2, seen=seen)
    scorer.num_items = NUM_ITEMS + 1
    with pytest.raises(ValueError, match="the scorer gave"):
        rank.top_k(scorer, np.arange(3), 2)


def test_dot_scorer():
    users, items = torch.randn(NUM_USERS, 8), torch.randn(NUM_ITEMS, 8, requires_grad=True)
    scorer = rank.DotScorer(users, items)
    got = scorer.score(torch.tensor([4, 4, 0]))
    torch.testing.assert_close(got, users[[4, 4, 0]] @ items.detach().T)
    assert not got.requires_grad
    assert scorer.num_items == NUM_ITEMS
    with pytest.raises(ValueError, match="no fold-in"):
        scorer.score(pattern(0.1, 0))
    turned = np.concatenate([tile.numpy().copy() for _, tile in scorer.tiles(torch.tensor([4, 4, 0]))])
    np.testing.assert_allclose(turned.T, got.numpy(), rtol=1e-5, atol=1e-6)
    folding = rank.DotScorer(users, items, lambda h: torch.from_numpy(h.toarray()) @ items.detach())
    torch.testing.assert_close(folding.score(pattern(0.1, 0)), torch.from_numpy(pattern(0.1, 0).toarray()) @ items @ items.T)
    with pytest.raises(ValueError, match=r"\[U, d\]"):
        rank.DotScorer(users, items[:, :3])


@pytest.mark.parametrize("tile", [7, 64, 1000])
def test_embeddings_are_ranked_by_tiles_as_their_scores_are(monkeypatch, tile):
    monkeypatch.setattr(rank, "TILE_ITEMS", tile)
    rng = torch.Generator().manual_seed(4)
    users, items = (torch.randint(-3, 4, (n, 8), generator=rng).float() for n in (NUM_USERS, NUM_ITEMS))  # exact, with ties
    scorer, seen = rank.DotScorer(users, items), pattern(0.2, seed=11)
    found, best = rank.top_k(scorer, torch.arange(NUM_USERS), 10, seen=seen)
    want, want_best = sorted_whole((users @ items.T).numpy(), seen.toarray() > 0, 10)
    np.testing.assert_array_equal(found, want)
    np.testing.assert_array_equal(best, want_best)


def test_evaluate_equals_metrics_of_a_full_sort():
    train, truth = pattern(0.15, seed=9), pattern(0.05, seed=10)
    truth = truth.multiply(train.toarray() == 0).tolil()
    truth[5] = 0
    truth = truth.tocsr()
    seen = []

    def watch(blocks):
        seen.append(blocks)
        return blocks

    scorer = Fixed(with_ties())
    got = rank.evaluate(scorer, truth, mask=train, train=train, ks=(3, 10), metrics=metrics.KNOWN, progress=watch)
    users = np.flatnonzero(truth.toarray().sum(1))
    assert 5 not in users
    assert got.users.tolist() == users.tolist()
    assert len(seen) == 1
    top, _ = sorted_whole(with_ties()[users], train[users].toarray() > 0, 10)
    np.testing.assert_array_equal(got.top, top)
    want = metrics.ranking_metrics(top, truth[users], (3, 10), metrics.ACCURACY)
    head = metrics.head_items(train.toarray().sum(0))
    want |= metrics.sliced_metrics(top, truth[users], head, "head", (3, 10))
    want |= metrics.sliced_metrics(top, truth[users], ~head, "tail", (3, 10))
    assert set(got.per_user) == set(want)
    for key, values in want.items():
        np.testing.assert_array_equal(got.per_user[key], values)
        assert got.means[key] == pytest.approx(np.nanmean(values))
    shown = metrics.exposure_metrics(top, train.toarray().sum(0), NUM_USERS, (3, 10))
    assert {key: got.means[key] for key in shown} == pytest.approx(shown)


def test_evaluate_refuses():
    train = pattern(0.1, 0)
    with pytest.raises(ValueError, match="no user has a held-out item"):
        rank.evaluate(Fixed(with_ties()), sparse.csr_matrix((NUM_USERS, NUM_ITEMS)), mask=None, train=train)
    with pytest.raises(ValueError, match="did you mean 'ndcg'"):
        rank.evaluate(Fixed(with_ties()), train, mask=None, train=train, metrics=("ndgc",))
    with pytest.raises(ValueError, match="same users and items"):
        rank.evaluate(Fixed(with_ties()), train[:-1], mask=None, train=train)
    with pytest.raises(ValueError, match="ks is empty"):
        rank.evaluate(Fixed(with_ties()), train, mask=None, train=train, ks=())


def test_the_scorers_own_scores_are_not_written():
    scores = torch.rand(3, NUM_ITEMS)
    before = scores.clone()
    rank._select_torch(scores, 5, pattern(0.2, seed=2, rows=3), np.arange(3))
    assert torch.equal(scores, before)
