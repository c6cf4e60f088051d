"""Metric values against per-user formulas in plain Python, and against PyG."""

import math

import numpy as np
import pytest
import torch
from scipy import sparse

from graphcl import metrics

KS = (1, 5, 12)


def random_lists(seed: int = 0, n: int = 40, num_items: int = 60, k: int = 12):
    rng = np.random.default_rng(seed)
    top = np.stack([rng.permutation(num_items)[:k] for _ in range(n)])
    truth = (rng.random((n, num_items)) < rng.uniform(0.02, 0.5, size=(n, 1))).astype(np.float32)
    truth[truth.sum(1) == 0, 3] = 1
    return top, sparse.csr_matrix(truth)


def slow(top: list[int], held_out: set[int], k: int) -> dict[str, float]:
    hits = [item in held_out for item in top[:k]]
    dcg = sum(1 / math.log2(r + 2) for r, hit in enumerate(hits) if hit)
    ideal = sum(1 / math.log2(r + 2) for r in range(min(k, len(held_out))))
    first = next((r + 1 for r, hit in enumerate(hits) if hit), None)
    average = sum(sum(hits[: r + 1]) / (r + 1) for r, hit in enumerate(hits) if hit)
    return {
        "recall": sum(hits) / len(held_out),
        "precision": sum(hits) / k,
        "hr": float(any(hits)),
        "ndcg": dcg / ideal,
        "mrr": 1 / first if first else 0.0,
        "map": average / min(k, len(held_out)),
    }


def test_equals_the_formulas_user_by_user():
    top, truth = random_lists()
    top[3, 4:] = -1  # only four items could be ranked
    got = metrics.ranking_metrics(top, truth, KS, metrics.ACCURACY)
    assert set(got) == {f"{name}@{k}" for name in metrics.ACCURACY for k in KS}
    for u in range(len(top)):
        for k in KS:
            for name, value in slow(top[u].tolist(), set(truth[u].indices.tolist()), k).items():
                assert got[f"{name}@{k}"][u] == pytest.approx(value, abs=1e-12), (u, name, k)


def test_one_list_by_hand():
    truth = sparse.csr_matrix(np.array([[0, 1, 0, 1, 1]]))
    got = metrics.mean_metrics(metrics.ranking_metrics(np.array([[0, 1, 4]]), truth, (3,), metrics.ACCURACY))
    assert got["recall@3"] == pytest.approx(2 / 3)
    assert got["mrr@3"] == 0.5
    assert got["map@3"] == pytest.approx((1 / 2 + 2 / 3) / 3)
    assert got["ndcg@3"] == pytest.approx((1 / math.log2(3) + 1 / 2) / (1 + 1 / math.log2(3) + 1 / 2))


def test_repeated_and_unsorted_truth_entries_count_once():
    top, _ = random_lists()
    messy = sparse.csr_matrix((np.ones(5), np.array([4, 2, 2, 4, 1]), np.array([0, 5])), shape=(1, 60))
    tidy = sparse.csr_matrix((np.ones(3), np.array([1, 2, 4]), np.array([0, 3])), shape=(1, 60))
    for key, values in metrics.ranking_metrics(top[:1], messy, KS, metrics.ACCURACY).items():
        assert values == metrics.ranking_metrics(top[:1], tidy, KS, metrics.ACCURACY)[key]
    assert messy.nnz == 5  # left as it was


def test_equals_pyg():
    pyg = pytest.importorskip("torch_geometric.metrics")
    theirs = {
        "precision": pyg.LinkPredPrecision,
        "recall": pyg.LinkPredRecall,
        "ndcg": pyg.LinkPredNDCG,
        "mrr": pyg.LinkPredMRR,
        "map": pyg.LinkPredMAP,
        "hr": pyg.LinkPredHitRatio,
    }
    top, truth = random_lists(seed=1, n=200)
    rows, cols = truth.nonzero()
    edges = torch.from_numpy(np.stack([rows, cols])).long()
    for k in KS:
        ours = metrics.mean_metrics(metrics.ranking_metrics(top, truth, (k,), metrics.ACCURACY))
        for name, kind in theirs.items():
            metric = kind(k)
            metric.update(torch.from_numpy(top[:, :k].copy()), edges)
            assert ours[f"{name}@{k}"] == pytest.approx(float(metric.compute()), abs=1e-5), name


def test_slices_count_only_their_items():
    top, truth = random_lists(seed=2)
    members = np.arange(60) % 3 == 0
    got = metrics.sliced_metrics(top, truth, members, "head", KS)
    assert set(got) == {f"{name}@{k}/head" for name in ("recall", "ndcg") for k in KS}
    means = metrics.mean_metrics(got)
    for k in KS:
        values = []
        for u in range(len(top)):
            held_out = {i for i in truth[u].indices.tolist() if members[i]}
            expected = slow(top[u].tolist(), held_out, k)["ndcg"] if held_out else math.nan
            assert got[f"ndcg@{k}/head"][u] == pytest.approx(expected, abs=1e-12, nan_ok=True)
            values.append(expected)
        assert means[f"ndcg@{k}/head"] == pytest.approx(np.nanmean(values))
    assert np.isnan(metrics.mean_metrics(metrics.sliced_metrics(top, truth, members & ~members, "tail", (5,)))["recall@5/tail"])


def test_a_stored_zero_is_relevant_in_slices_too():
    truth = sparse.csr_matrix((np.array([0.0, 5.0]), np.array([0, 1]), np.array([0, 2])), shape=(1, 3))
    top = np.array([[0, 2]])
    whole, sliced = (
        metrics.ranking_metrics(top, truth, (2,)),
        metrics.sliced_metrics(top, truth, np.ones(3, dtype=bool), "head", (2,)),
    )
    assert whole["recall@2"] == sliced["recall@2/head"] == [0.5]


def test_head_is_the_smallest_set_that_covers_the_share():
    assert metrics.head_items(np.array([1, 5, 0, 3, 1]), 0.8).tolist() == [False, True, False, True, False]
    assert metrics.head_items(np.array([2, 2, 2, 2]), 0.5).tolist() == [True, True, False, False]  # ties: lower rows
    assert not metrics.head_items(np.zeros(3)).any()


def test_exposure_by_hand():
    top = np.array([[0, 1], [0, 2], [0, -1]])
    got = metrics.exposure_metrics(top, np.array([8, 4, 0, 2]), num_users=8, ks=(1, 2))
    assert got["coverage@1"] == 0.25
    assert got["coverage@2"] == 0.75
    assert got["popularity@2"] == pytest.approx((8 * 3 + 4 + 0) / 5)
    assert got["novelty@2"] == pytest.approx((0 * 3 + 1 + 3) / 5)  # an unknown item counts as one of 8 users: 3 bits
    counts = [3, 1, 1, 0]
    spread = sum(abs(a - b) for a in counts for b in counts) / (2 * 4 * sum(counts))  # mean absolute difference
    assert got["gini@2"] == pytest.approx(spread)
    assert metrics.gini(np.array([2, 2, 2])) == pytest.approx(0)


def test_nothing_shown():
    got = metrics.exposure_metrics(np.full((2, 3), -1), np.ones(4), num_users=2, ks=(3,))
    assert got["coverage@3"] == 0
    assert all(np.isnan(got[f"{name}@3"]) for name in ("gini", "novelty", "popularity"))


def test_parse():
    assert metrics.parse("ndcg@20") == ("ndcg", 20, None)
    assert metrics.parse("recall@5/tail") == ("recall", 5, "tail")
    assert metrics.parse("recall@5/tail").key == "recall@5/tail"


@pytest.mark.parametrize("key", ["ndcg", "ndcg@", "ndcg@0", "ndcg@-3", "ndcg@2.5", "ndcg@²"])
def test_parse_wants_a_cut_off(key):
    with pytest.raises(ValueError, match="name@K"):
        metrics.parse(key)


@pytest.mark.parametrize(("key", "near"), [("nDCG@20", "ndcg"), ("recal@20", "recall"), ("ndcg@20/tial", "ndcg/tail")])
def test_an_unknown_name_brings_the_nearest(key, near):
    with pytest.raises(ValueError, match=f"did you mean '{near}'"):
        metrics.parse(key)


def test_refusals():
    top, truth = random_lists()
    with pytest.raises(ValueError, match="did you mean 'recall'"):
        metrics.ranking_metrics(top, truth, (5,), ("recal",))
    with pytest.raises(ValueError, match="one user's list"):
        metrics.ranking_metrics(top, truth, (5,), ("coverage",))
    with pytest.raises(ValueError, match="cut-off 13"):
        metrics.ranking_metrics(top, truth, (13,))
    with pytest.raises(ValueError, match="one row per evaluated user"):
        metrics.ranking_metrics(top[:-1], truth, (5,))
    empty = truth.tolil()
    empty[7] = 0
    with pytest.raises(ValueError, match="row 7 of truth is empty"):
        metrics.ranking_metrics(top, empty.tocsr(), (5,))
    with pytest.raises(ValueError, match="60 items"):
        metrics.sliced_metrics(top, truth, np.ones(4, dtype=bool), "head", (5,))
    with pytest.raises(ValueError, match="top holds item row 60, but truth has 60 items"):
        metrics.ranking_metrics(np.where(top == top[0, 0], 60, top), truth, (5,))
    with pytest.raises(ValueError, match="share"):
        metrics.head_items(np.ones(3), 1.0)


def test_metrics_of_ranks_are_those_of_lists():
    """One held-out item: the list's metrics, and by hand."""
    ranks = np.array([1, 2, 5, 11])
    top = np.tile(np.arange(12), (4, 1))
    truth = sparse.csr_matrix((np.ones(4), (np.arange(4), ranks - 1)), shape=(4, 12))
    found = metrics.rank_metrics(ranks, (1, 5, 10))
    for key, values in metrics.ranking_metrics(top, truth, (1, 5, 10), ("hr", "ndcg", "mrr")).items():
        assert found.pop(key) == pytest.approx(values, rel=1e-12)
    assert not found
    assert metrics.rank_metrics([3], (5,), ("ndcg",))["ndcg@5"].tolist() == [0.5]


def test_masked_is_a_part_of_what_ranks_give():
    assert metrics.parse("ndcg@10/masked") == ("ndcg", 10, "masked")
    assert metrics.parse("hr@5/masked").key == "hr@5/masked"
    with pytest.raises(ValueError, match="no metric is called 'recall/masked'"):
        metrics.parse("recall@10/masked")
