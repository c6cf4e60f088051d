"""XSimGCF: the sum of two scorers, and a run that ranks by it."""

import json

import numpy as np
import pytest
import torch

import graphcl
from graphcl import runs
from graphcl.rank import DotScorer
from graphcl.recipes import bspm, ease, gfcf, xsimgcf, xsimgcl
from graphcl.streams import Streams
from tests.recipes.floor import random_log
from tests.toy import toy_csv

SMALL = {"dim": 4, "batch_size": 128, "learning_rate": 0.02, "epochs": 2, "beside": "gfcf", "factors": 3, "alpha": 0.3}


def learned(num_users=40, num_items=30, dim=3):
    rng = np.random.default_rng(0)
    users, items = (torch.from_numpy(rng.standard_normal((n, dim)).astype(np.float32)) for n in (num_users, num_items))
    return DotScorer(users, items), (users @ items.T).double().numpy()


@pytest.mark.parametrize(("beside", "weight"), [("bspm", 0.5), ("gfcf", 0.25), ("ease", 1.5)])
def test_equals_the_formula(beside, weight):
    data = random_log()
    config = xsimgcf.Config(beside=beside, beside_weight=weight, factors=5, alpha=0.3, l2=20.0, sharpen=0.8)
    first, dots = learned()
    other = {
        "bspm": bspm.build(bspm.Config(5, sharpen=0.8, solver="euler"), data),
        "gfcf": gfcf.build(gfcf.Config(5), data),
        "ease": ease.build(ease.Config(20.0), data),
    }[beside]
    second = other.score(torch.arange(40)).double().numpy()
    want = np.zeros_like(dots)
    for user in range(40):
        for scores, factor in ((dots[user], 1.0), (second[user], weight)):
            spread = np.sqrt(np.mean((scores - scores.mean()) ** 2))
            want[user] += factor * scores / spread if spread > 0 else 0
    got = xsimgcf.scorer(config, data, first).score(torch.arange(40))
    np.testing.assert_allclose(got.numpy(), want, rtol=1e-4, atol=1e-5)


def test_a_user_whom_one_of_them_knows_nothing_of_is_ranked_by_the_other():
    data = random_log()
    first, _ = learned()
    first.users[3] = 0
    config = xsimgcf.Config(beside="gfcf", factors=5, alpha=0.3)
    got = xsimgcf.scorer(config, data, first).score(torch.tensor([3]))
    alone = gfcf.build(gfcf.Config(5), data).score(torch.tensor([3]))
    assert torch.isfinite(got).all()
    assert got.argsort(stable=True).tolist() == alone.argsort(stable=True).tolist()


def test_a_diverged_user_is_not_hidden():
    first, _ = learned()
    first.users[3, 0] = torch.nan
    got = xsimgcf.scorer(xsimgcf.Config(beside="gfcf", factors=5, alpha=0.3), random_log(), first).score(torch.tensor([2, 3]))
    assert got[0].isfinite().all()
    assert got[1].isnan().all()


def test_weight_zero_is_xsimgcl():
    data = random_log()
    first, _ = learned()
    assert xsimgcf.scorer(xsimgcf.Config(beside_weight=0.0), data, first) is first
    a, b = (m.build(m.Config(dim=4), data, rng=Streams(0)["init"]) for m in (xsimgcf, xsimgcl))
    assert torch.equal(a.encoder.embedding, b.encoder.embedding)


@pytest.mark.parametrize(
    "change",
    [{"beside": "popular"}, {"beside_weight": -0.1}, {"beside_weight": float("nan")}],
)
def test_settings_out_of_range(change):
    with pytest.raises(ValueError, match=next(iter(change))):
        xsimgcf.Config(**change)


def test_settings_of_the_closed_form_are_checked_before_training():
    with pytest.raises(ValueError, match="sharpen must be 0 or more"):
        xsimgcf.Config(beside="bspm", sharpen=-1.0)


def test_a_run_ranks_by_the_sum_and_does_so_again_when_loaded(tmp_path):
    data = graphcl.split(graphcl.read_interactions(toy_csv(tmp_path / "log.csv")))
    both = runs.train("xsimgcf", data, out=tmp_path / "both", beside_weight=2.0, **SMALL)
    alone = runs.train(
        "xsimgcl", data, out=tmp_path / "alone", **{k: v for k, v in SMALL.items() if k not in ("beside", "factors", "alpha")}
    )
    again = runs.load(tmp_path / "both")
    users = torch.arange(data.train.num_users)
    want = xsimgcf.Beside(alone.scorer, gfcf.build(gfcf.Config(3), again.plan.train), 2.0).score(
        users
    )  # the same embeddings: training knows nothing of the other scorer
    torch.testing.assert_close(again.scorer.score(users), want)
    torch.testing.assert_close(both.scorer.score(users), want)
    assert both.result["metrics"] != alone.result["metrics"]
    assert again.evaluate().means == pytest.approx(json.loads((tmp_path / "both" / "result.json").read_text())["metrics"]["test"])
    np.testing.assert_array_equal(again.embeddings().items, alone.embeddings().items)
    histories = {"new": list(data.train.item_ids.ids[:2])}
    frame = again.recommend(histories=histories, k=3)
    assert len(frame) == 3
    assert not set(frame["item"]) & set(histories["new"])
