"""The floor of sequences, by hand and on real data."""

import os
from pathlib import Path

import pytest
import torch

from graphcl.data.sequences import load_sequences
from graphcl.recipes import own_history, popular_items
from graphcl.sequence import Sequences
from graphcl.sequence_rank import evaluate_next
from tests.test_sequence import log

TRAIN = Sequences.from_interactions(log([0, 0, 0, 1, 1, 2], [1, 1, 2, 1, 3, 3], num_items=5))
ROWS = torch.tensor([[3, 0, 3, 5], [4, 5, 5, 5]]), torch.tensor([3, 1])


def test_popularity_counts_repeats():
    scorer = popular_items.build(popular_items.Config(), TRAIN)
    assert scorer.score(*ROWS).tolist() == [[0, 3, 1, 2, 0]] * 2
    assert scorer.num_items == 5


def test_own_items_come_first_and_the_last_one_before_all():
    scorer = own_history.build(own_history.Config(), TRAIN)
    assert scorer.score(*ROWS)[0].argsort(descending=True, stable=True).tolist() == [3, 0, 1, 2, 4]
    assert scorer.score(*ROWS).tolist() == [[2, 0.75, 0.25, 3, 0], [0, 0.75, 0.25, 0.5, 1]]
    alone = own_history.build(own_history.Config(others="none"), TRAIN)
    assert alone.score(*ROWS).tolist() == [[2, 0, 0, 3, 0], [0, 0, 0, 0, 1]]


@pytest.mark.parametrize("recipe", [own_history, popular_items])
def test_round_trip(recipe):
    scorer = recipe.build(recipe.Config(), TRAIN)
    again = recipe.restore(recipe.Config(), TRAIN, scorer.state())
    assert again.score(*ROWS).equal(scorer.score(*ROWS))
    before = scorer.counts.clone()
    scorer.score(*ROWS)
    assert scorer.counts.equal(before)


def report(recipe, name, **settings):
    if not (Path(os.environ.get("GRAPHCL_DATA", "")) / "sequential" / name).is_dir():
        pytest.skip(f"$GRAPHCL_DATA/sequential/{name} is not here")
    made = load_sequences(name)
    return evaluate_next(recipe.build(recipe.Config(**settings), made.train), made.test)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "hr", "ndcg"),
    [
        ("mclrec_Amazon_Beauty", 0.0195, 0.0073),
        ("mclrec_Amazon_Sports_and_Outdoors", 0.0149, 0.0066),
        ("mclrec_Yelp", 0.0163, 0.0067),
    ],
)
def test_popularity_on_real_data(name, hr, ndcg):
    found = report(popular_items, name)
    assert (found.keep["hr@20"], found.keep["ndcg@20"]) == pytest.approx((hr, ndcg), abs=5e-5)


@pytest.mark.slow
def test_own_items_alone_on_yelp():
    found = report(own_history, "mclrec_Yelp", others="none")
    wanted = {"hr@5": 0.0547, "hr@10": 0.0620, "hr@20": 0.0653, "ndcg@5": 0.0389, "ndcg@10": 0.0414, "ndcg@20": 0.0422}
    assert {key: found.keep[key] for key in wanted} == pytest.approx(wanted, abs=5e-5)
    assert not any(found.mask.values())  # what it recommends is what is masked


@pytest.mark.slow
def test_with_seen_items_masked_popularity_is_left():
    """On histories without repeats."""
    assert report(own_history, "mclrec_Amazon_Beauty").mask == report(popular_items, "mclrec_Amazon_Beauty").mask
