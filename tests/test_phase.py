"""One training phase: when it evaluates, stops, saves and goes on."""

import itertools
import json
import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from graphcl import phase as phases
from graphcl.data import protocol as protocols
from graphcl.data.read import read_interactions
from graphcl.data.split import split
from graphcl.recipes import lightgcn, sgl
from graphcl.streams import Streams
from tests.toy import toy_frame

SETTINGS = {"dim": 4, "batch_size": 64, "learning_rate": 0.02, "evaluate_every": 1, "patience": 0}


@pytest.fixture(scope="module")
def made():
    return split(read_interactions(toy_frame()))


def started(made, *, recipe=lightgcn, protocol="valid", **changes):
    config = recipe.Config(**{**SETTINGS, **changes})
    plan = protocols.plan(made, protocol)
    return phases.start(recipe, config, plan.train, 3, "cpu"), plan, config


def weights(phase):
    return {name: value.clone() for name, value in phase.model.state_dict().items()}


def lines(directory):
    return [json.loads(line) for line in (directory / "metrics.jsonl").read_text().splitlines()]


def same(found, expected):
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert torch.equal(found[name], value), name


@pytest.fixture
def scripted(monkeypatch):
    """Evaluations that give written-down scores, one after the other."""

    def give(*scores, key="ndcg@20"):
        left = iter(scores)
        monkeypatch.setattr(phases, "select_report", lambda *_: SimpleNamespace(means={key: next(left)}))

    return give


def test_the_learning_rate_falls_as_the_settings_say(made):
    phase, plan, config = started(made, rate_decay=0.5, lowest_rate=0.006)
    rates = []
    phases.run(
        phase, plan, config, None, epochs=3,
        observe=lambda kind, _: rates.append(phase.step.optimiser.param_groups[0]["lr"]) if kind == "epoch" else None,
    )  # fmt: skip
    assert rates == [0.02, 0.01, 0.006]
    with pytest.raises(ValueError, match="rate_decay must lie in"):
        started(made, rate_decay=1.5)


def test_patience_counts_evaluations_without_a_better_score(made, tmp_path, scripted):
    """Equal is not better; the weights that stay are those of the best epoch."""
    phase, plan, config = started(made, patience=2)
    scripted(0.1, 0.3, 0.3, 0.2, 0.9)
    at = {}
    phases.run(
        phase, plan, config, tmp_path, epochs=10, observe=lambda kind, what: at.update({what.get("epoch"): weights(phase)})
    )
    p = phase.progress
    assert (p.epoch, p.best_epoch, p.best_score, p.waited) == (4, 2, 0.3, 2)
    same(weights(phase), at[2])
    assert not torch.equal(at[2]["encoder.embedding"], at[4]["encoder.embedding"])
    assert [line["best_epoch"] for line in lines(tmp_path)] == [1, 2, 2, 2]


def test_patience_waits_for_a_warm_up(made, tmp_path, scripted):
    """As NCL's: part of its loss begins after some epochs, and counting before once ended runs that never had it."""
    phase, plan, config = started(made, patience=2)
    scripted(0.3, 0.2, 0.2, 0.1, 0.1, 0.1, 0.4)
    phases.run(phase, plan, SimpleNamespace(**vars(config), warm_up=4), tmp_path, epochs=10)
    assert (phase.progress.epoch, phase.progress.best_epoch) == (6, 1)


def test_patience_of_nothing_goes_to_the_end(made, tmp_path, scripted):
    phase, plan, config = started(made, patience=0)
    scripted(0.5, 0.1, 0.1, 0.1)
    phases.run(phase, plan, config, tmp_path, epochs=4)
    assert (phase.progress.epoch, phase.progress.best_epoch) == (4, 1)


def test_a_line_and_a_checkpoint_for_each_evaluated_epoch_and_the_last(made, tmp_path, scripted):
    phase, plan, config = started(made, evaluate_every=2)
    scripted(0.1, 0.2, 0.3)
    heard = []
    phases.run(phase, plan, config, tmp_path, epochs=5, observe=lambda kind, what: heard.append((kind, what.get("epoch"))))
    found = lines(tmp_path)
    assert [line["epoch"] for line in found] == [2, 4, 5]
    assert [line["valid"] for line in found] == [{"ndcg@20": score} for score in (0.1, 0.2, 0.3)]
    assert [epoch for kind, epoch in heard if kind == "epoch"] == [1, 2, 3, 4, 5]
    pairs = len(plan.train.matrix.data)
    steps = -(-pairs // 64)
    assert sum(kind == "step" for kind, _ in heard) == 5 * steps
    assert [line["steps"] for line in found] == [2 * steps, 4 * steps, 5 * steps]


def test_without_a_part_to_select_on_every_epoch_is_trained(made, tmp_path, monkeypatch):
    phase, plan, config = started(made, protocol="all", patience=1)
    monkeypatch.setattr(phases, "select_report", None)  # would raise
    phases.run(phase, plan, config, tmp_path, epochs=3)
    assert (phase.progress.epoch, phase.progress.best_epoch, phase.best) == (3, 3, {})
    assert [sorted(line) for line in lines(tmp_path)] == [["elapsed", "epoch", "seconds", "steps", "terms"]] * 3


def test_seconds_are_added_up(made, tmp_path):
    phase, plan, config = started(made)
    phases.run(phase, plan, config, tmp_path, epochs=3)
    found = lines(tmp_path)
    assert [line["elapsed"] for line in found] == pytest.approx(np.cumsum([line["seconds"] for line in found]))
    assert phase.progress.seconds == found[-1]["elapsed"]


def test_seconds_of_ranking_are_added_up(made, scripted, monkeypatch):
    phase, plan, config = started(made)
    scripted(0.1, 0.2, 0.3)
    clock = itertools.count()
    monkeypatch.setattr(phases.time, "perf_counter", lambda: float(next(clock)))
    phases.run(phase, plan, config, None, epochs=3)
    assert phase.progress.rank_seconds == 3.0  # one tick each


@pytest.mark.parametrize("recipe", [lightgcn, sgl])
def test_a_phase_from_its_checkpoint_goes_on_bit_for_bit(made, tmp_path, recipe):
    """Interrupted in epoch 3, between two evaluations: epoch 3 is trained again, and everything after it is the same."""
    whole, plan, config = started(made, recipe=recipe, evaluate_every=2)
    (tmp_path / "whole").mkdir()
    phases.run(whole, plan, config, tmp_path / "whole", epochs=5)

    def stop(kind, what):
        if what.get("epoch") == 3:
            raise RuntimeError("the power went")

    first, *_ = started(made, recipe=recipe, evaluate_every=2)
    (tmp_path / "parts").mkdir()
    with pytest.raises(RuntimeError, match="the power went"):
        phases.run(first, plan, config, tmp_path / "parts", epochs=5, observe=stop)
    again, *_ = started(made, recipe=recipe, evaluate_every=2)
    phases.run(again, plan, config, tmp_path / "parts", epochs=5)
    same(weights(again), weights(whole))
    same(again.best, whole.best)
    same(again.streams.state_dict(), whole.streams.state_dict())
    for p, q in zip(lines(tmp_path / "parts"), lines(tmp_path / "whole"), strict=True):
        assert {**p, "seconds": 0, "elapsed": 0} == {**q, "seconds": 0, "elapsed": 0}


def test_a_checkpoint_holds_all_of_a_phase(made, tmp_path):
    phase, plan, config = started(made)
    phases.run(phase, plan, config, tmp_path, epochs=2)
    back, *_ = started(made)
    phases.restore(back, tmp_path / "checkpoint.safetensors")
    assert back.progress == phase.progress
    same(back.best, phase.best)
    same(back.streams.state_dict(), phase.streams.state_dict())
    found, expected = back.step.state_dict(), phase.step.state_dict()
    assert found["param_groups"][0]["lr"] == expected["param_groups"][0]["lr"] == 0.02
    assert tuple(found["param_groups"][0]["betas"]) == expected["param_groups"][0]["betas"]
    assert found["state"].keys() == expected["state"].keys() == {0}  # whole numbers, not text
    same(found["state"][0], expected["state"][0])


def test_a_phase_that_has_no_score_yet_is_saved(made, tmp_path):
    """-inf is no JSON."""
    phase, *_ = started(made)
    phases.save(phase, tmp_path / "c.safetensors")
    back, *_ = started(made)
    phases.restore(back, tmp_path / "c.safetensors")
    assert back.progress == phase.progress
    assert back.progress.best_score == -math.inf


def test_a_checkpoint_of_another_model_is_refused(made, tmp_path):
    phase, *_ = started(made)
    phases.save(phase, tmp_path / "c.safetensors")
    wider, *_ = started(made, dim=8)
    with pytest.raises(ValueError, match=r"c\.safetensors: the checkpoint does not fit this recipe and data"):
        phases.restore(wider, tmp_path / "c.safetensors")


def test_warming_up_moves_nothing(made):
    phase, _, config = started(made, recipe=sgl)
    before, streams = weights(phase), phase.streams.state_dict()
    phases.warm_up(sgl, config, phase)
    same(weights(phase), before)
    same(phase.streams.state_dict(), streams)
    assert not phase.step.state_dict()["state"]


def test_a_phase_starts_from_its_seed_alone(made):
    found = [weights(started(made)[0]) for _ in range(2)]
    same(*found)
    other = phases.start(lightgcn, lightgcn.Config(**SETTINGS), protocols.plan(made).train, 4, "cpu")
    assert not torch.equal(other.model.encoder.embedding, found[0]["encoder.embedding"])
    drawn = lightgcn.build(lightgcn.Config(**SETTINGS), made.train, rng=Streams(3)["init"])
    same(found[0], drawn.state_dict())


@pytest.mark.parametrize(("key", "wanted"), [("ndcg@20", "ndcg@20"), ("recall@05", "recall@5"), ("mrr@1", "mrr@1")])
def test_metrics_that_choose_an_epoch(key, wanted):
    assert phases.check_selection(key) == wanted


@pytest.mark.parametrize(
    ("key", "told"),
    [
        ("ndgc@20", "did you mean 'ndcg'"),
        ("ndcg", "write name@K"),
        ("ndcg@0", "write name@K"),
        ("coverage@20", "cannot select on 'coverage@20'"),
        ("ndcg@20/tail", "cannot select on 'ndcg@20/tail'"),
    ],
)
def test_metrics_that_cannot_choose_an_epoch(key, told):
    """A slice once chose by the whole, without a word."""
    with pytest.raises(ValueError, match=told):
        phases.check_selection(key)


@pytest.mark.parametrize(("key", "value"), [("epochs", -1), ("evaluate_every", 0), ("patience", -1)])
def test_settings_that_steer_nothing_are_refused(key, value):
    """evaluate_every=0 once was a division by zero."""
    with pytest.raises(ValueError, match=f"setting '{key}' must be . or more, got {value}"):
        phases.check(lightgcn.Config(**{**SETTINGS, key: value}))
