"""Settings searched on validation: what is scored, what is seen, and how a study goes on."""

import json
import statistics
import sys
import time
from dataclasses import dataclass, replace
from types import SimpleNamespace

import numpy as np
import optuna
import pandas as pd
import pytest
import torch

import graphcl
from graphcl import claims, runs, tune
from graphcl import phase as phases
from graphcl import study as studies
from graphcl.data import protocol as protocols
from graphcl.data.sequences import load_sequences
from graphcl.planted import planted, planted_attributed
from graphcl.probe import k_means, modularity
from graphcl.recipes import itemknn, meow, own_history, scgc, svd_kmeans
from graphcl.sequence_rank import evaluate_next
from graphcl.streams import Streams
from graphcl.task import Asked, task
from tests.toy import toy_frame

SMALL = {"dim": 4, "batch_size": 128, "evaluate_every": 1, "epochs": 3}


@pytest.fixture(scope="module")
def made():
    return runs.load_data(toy_frame())[0]


def untimed(tuned):
    return tuned.trials.drop(columns="seconds")


# --- scores -----------------------------------------------------------------------------------------------------------------


def test_the_best_trial_is_the_argmax_of_settings_trained_one_by_one(made, tmp_path):
    tuned = tune.tune("lightgcn", made, trials=4, out=tmp_path / "study", seed=5, metric="recall@10", **SMALL)
    searched = ["learning_rate", "num_layers", "decay"]
    scores = []
    for number, row in tuned.trials.iterrows():
        run = graphcl.train(
            "lightgcn", made, out=tmp_path / str(number), seed=5, select="recall@10", **SMALL, **row[searched].to_dict()
        )
        assert row["score"] == run.result["metrics"]["valid"]["recall@10"]
        assert row["best_epoch"] == run.result["best_epoch"]
        scores.append(row["score"])
    assert len(set(scores)) > 2
    best = scores.index(max(scores))
    assert (tuned.best["trial"], tuned.best["score"], tuned.best["trials"]) == (best, scores[best], 4)
    # The settings that were written are all of them, and train as they are.
    written = json.loads((tmp_path / "study" / "best.json").read_text())
    assert written["settings"] == graphcl.load(tmp_path / str(best)).config["settings"]
    assert pd.read_csv(tmp_path / "study" / "trials.csv")["score"].tolist() == scores


def test_a_trial_is_scored_by_what_ranks(made, tmp_path):
    """A trial was scored by the embeddings alone, which know nothing of the weight of what stands beside them."""
    fixed = {
        **SMALL,
        "learning_rate": 0.02,
        "num_layers": 2,
        "eps": 0.1,
        "weight": 0.1,
        "temperature": 0.2,
        "decay": 0.0,
        "factors": 3,
    }
    space = {"beside_weight": [0.1, 10.0]}
    tuned = tune.tune("xsimgcf", made, trials=4, out=tmp_path / "study", space=space, **fixed)
    scores = {}
    for weight in space["beside_weight"]:
        run = graphcl.train("xsimgcf", made, out=tmp_path / str(weight), beside_weight=weight, **fixed)
        scores[weight] = run.result["metrics"]["valid"]["ndcg@20"], run.result["best_epoch"]
    assert scores[0.1] != scores[10.0]
    assert {row["beside_weight"] for _, row in tuned.trials.iterrows()} == set(scores)
    for _, row in tuned.trials.iterrows():
        assert (row["score"], row["best_epoch"]) == scores[row["beside_weight"]]


def test_drawn_epochs_stand_beside_those_trained(made, tmp_path):
    given = {**SMALL, "patience": 1, "learning_rate": 1e-9}
    del given["epochs"]
    tuned = tune.tune("lightgcn", made, trials=2, out=tmp_path / "study", seed=5, space={"epochs": [30, 40]}, **given)
    assert set(tuned.trials["epochs drawn"]) <= {20, 30, 40}
    assert (tuned.trials["epochs"] < 20).all()


def test_a_closed_form_is_searched_too(made, tmp_path):
    six = np.int64(6)
    tuned = tune.tune(
        "itemknn", made, trials=six, seed=np.int64(0), out=tmp_path, metric="hr@7", space={"neighbours": [1, 5, 30]}, shrink=2
    )
    plan = protocols.plan(made)
    for _, row in tuned.trials.iterrows():
        scorer = itemknn.build(itemknn.Config(row["neighbours"], 2.0), plan.train)
        assert row["score"] == phases.select_report(scorer, plan, "hr@7").means["hr@7"]
    assert tuned.best["score"] == tuned.trials["score"].max()
    assert tuned.best["settings"] == {"neighbours": tuned.trials["neighbours"][tuned.trials["score"].idxmax()], "shrink": 2.0}


def test_the_first_trial_is_the_recipe_as_it_stands(made, tmp_path, monkeypatch):
    """With its preset, where there is one, as far as the space holds it."""
    named = replace(made, name="toyset", citation="Nobody, 1999")
    monkeypatch.setitem(itemknn.PRESETS, "general/toyset", {"neighbours": 12})
    tuned = tune.tune("itemknn", named, trials=2, out=tmp_path, space={"shrink": (20.0, 30.0)})
    assert tuned.trials["neighbours"][0] == 12
    assert 20 <= tuned.trials["shrink"][0] <= 30
    assert tuned.trials["neighbours"][1] != 12


# --- what a trial sees ------------------------------------------------------------------------------------------------------


class Poison:
    """A test part that nobody may look at."""

    def __getattribute__(self, name):
        raise AssertionError(f"the test part's {name} was read")


@pytest.mark.slow
@pytest.mark.parametrize("protocol", ["valid", "refit", "lightgcnpp", "sslrec"])
def test_the_test_part_is_never_seen(made, tmp_path, protocol):
    with pytest.raises(AssertionError, match="the test part's"):
        graphcl.train("itemknn", replace(made, test=Poison()), out=tmp_path / "run", protocol=protocol)
    tuned = tune.tune("itemknn", replace(made, test=Poison()), trials=2, out=tmp_path / "poisoned", protocol=protocol)
    clean = tune.tune("itemknn", made, trials=2, out=tmp_path / "clean", protocol=protocol)
    pd.testing.assert_frame_equal(untimed(tuned), untimed(clean))


def test_training_never_sees_the_test_part_either(made, tmp_path):
    tuned = tune.tune("lightgcn", replace(made, test=Poison()), trials=1, out=tmp_path, **SMALL)
    assert tuned.trials["outcome"].tolist() == ["complete"]


def test_no_weights_are_kept(made, tmp_path):
    tune.tune("lightgcn", made, trials=1, out=tmp_path / "study", **SMALL)
    assert {path.name for path in (tmp_path / "study").iterdir()} == {"study.db", "trials.csv", "best.json"}


# --- how trials end ---------------------------------------------------------------------------------------------------------


def test_a_trial_below_the_median_of_its_epoch_is_cut_off(made, tmp_path, monkeypatch):
    """The median is over complete trials alone, and of what each scored at the same epoch."""
    curves = [[0.2, 0.4, 0.6], [0.1, 0.3, 0.2], [0.3, 0.2, 0.1], [0.1, 0.4, 0.5], [0.1, 0.4, 0.45]]
    monkeypatch.setattr(phases, "select_report", lambda *_: SimpleNamespace(means={"ndcg@20": next(left)}))
    monkeypatch.setattr(studies, "_STARTUP", 2)
    monkeypatch.setattr(studies, "_WARMUP", 2)

    complete, wanted = [], []
    for curve in curves:
        ends = [
            epoch
            for epoch in (2, 3)
            if len(complete) >= 2 and max(curve[:epoch]) < statistics.median(c[epoch - 1] for c in complete)
        ]
        wanted.append(("pruned", ends[0], max(curve[: ends[0]])) if ends else ("complete", 3, max(curve)))
        if not ends:
            complete.append(curve)
        else:
            del curve[ends[0] :]  # what is not asked for
    assert [epoch for outcome, epoch, _ in wanted if outcome == "pruned"] == [2, 3]
    left = iter([score for curve in curves for score in curve])
    tuned = tune.tune("lightgcn", made, trials=5, out=tmp_path / "pruned", **SMALL)
    assert list(tuned.trials[["outcome", "epochs", "score"]].itertuples(index=False, name=None)) == wanted
    assert (tuned.best["trial"], tuned.best["score"]) == (0, 0.6)

    left = iter([0.1 * n for n in range(15, 0, -1)])
    whole = tune.tune("lightgcn", made, trials=5, out=tmp_path / "whole", prune=False, **SMALL)
    assert whole.trials["outcome"].tolist() == ["complete"] * 5


def test_trials_that_diverge_or_are_refused_count_and_are_told(made, tmp_path):
    space = {"learning_rate": [0.01, 1e30], "num_layers": [1, 2]}
    tuned = tune.tune("lightgcn", made, trials=6, out=tmp_path / "diverged", space=space, **SMALL)
    diverged = tuned.trials["learning_rate"] == 1e30
    assert 0 < diverged.sum() < 6
    assert (tuned.trials["outcome"] == diverged.map({True: "diverged", False: "complete"})).all()
    assert tuned.trials["error"][diverged].str.contains("no longer finite").all()
    assert tuned.best["settings"]["learning_rate"] == 0.01

    with pytest.raises(ValueError, match="no trial came to an end; of the last one: neighbours must be at least 1"):
        tune.tune("itemknn", made, trials=2, out=tmp_path / "refused", space={"neighbours": [0, -1]})
    table = pd.read_csv(tmp_path / "refused" / "trials.csv")
    assert table["outcome"].tolist() == ["refused"] * 2
    assert not (tmp_path / "refused" / "best.json").exists()


def test_no_trial_begins_after_the_time(made, tmp_path):
    told = []

    def slow(tuned, trial):
        told.append((len(tuned.trials), trial["number"], trial["outcome"]))
        time.sleep(0.3)

    tuned = tune.tune("itemknn", made, trials=5, out=tmp_path, timeout=0.2, on_trial=slow)
    assert len(tuned.trials) == 1
    assert told == [(1, 0, "complete")]


# --- going on ---------------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_an_interrupted_study_goes_on_as_if_it_had_not_been(made, tmp_path, monkeypatch):
    """Beyond the ten trials that are drawn at random; cut off in the first trial, by Ctrl-C, by kill, and by asking for fewer."""
    whole = tune.tune("itemknn", made, trials=14, out=tmp_path / "whole", seed=5)
    out = tmp_path / "parts"
    for some in (0, 4):
        with monkeypatch.context() as patched:
            patched.setattr(tune, "_score", interrupted_after(some))
            with pytest.raises(KeyboardInterrupt):
                tune.tune("itemknn", made, trials=14, out=out, seed=5)
    assert len(tune.tune("itemknn", made, trials=6, out=out, seed=5).trials) == 6
    study(out).ask()  # a process that was killed leaves a trial running
    parts = tune.tune("itemknn", made, trials=14, out=out, seed=5)
    pd.testing.assert_frame_equal(untimed(parts), untimed(whole))
    assert parts.best == whole.best
    assert whole.trials["shrink"].nunique() == 14
    states = [trial.state for trial in study(out).trials]
    assert (states.count(optuna.trial.TrialState.FAIL), len(states)) == (3, 17)

    # A finished study is returned as it is; another seed draws others.
    again = tune.tune("itemknn", made, trials=3, out=out, seed=5)
    pd.testing.assert_frame_equal(again.trials, parts.trials)
    other = tune.tune("itemknn", made, trials=3, out=tmp_path / "other", seed=6)
    assert other.trials["shrink"][1] != whole.trials["shrink"][1]


def study(out):
    return optuna.load_study(study_name="tune", storage=f"sqlite:///{out / 'study.db'}")


def interrupted_after(some, score=tune._score):
    left = iter(range(some))

    def cut(*arguments):
        if next(left, None) is None:
            raise KeyboardInterrupt
        return score(*arguments)

    return cut


def test_each_trial_stands_in_the_database_with_what_made_it(made, tmp_path):
    tuned = tune.tune("itemknn", made, trials=2, out=tmp_path, seed=7)
    kept = study(tmp_path)
    assert kept.user_attrs["about"]["recipe"] == "itemknn"
    for trial, (_, row) in zip(kept.trials, tuned.trials.iterrows(), strict=True):
        assert trial.value == trial.user_attrs["score"] == row["score"]
        assert trial.user_attrs["seed"] == 7
        assert trial.params == {"neighbours": row["neighbours"], "shrink": row["shrink"]}


def test_a_setting_that_is_none_may_be_given_a_range(made, tmp_path, monkeypatch):
    """It was compared with the bounds; a negative seed was refused by the generator of draws."""

    @dataclass(frozen=True)
    class Config(itemknn.Config):
        most: int | None = None

    monkeypatch.setattr(itemknn, "Config", Config)
    tuned = tune.tune("itemknn", made, trials=2, out=tmp_path, space={"most": (1, 5)}, seed=-1)
    assert tuned.trials["most"].between(1, 5).all()


def test_a_study_of_something_else_is_refused(made, tmp_path):
    def again(*, recipe="itemknn", data=made, **more):
        return tune.tune(recipe, data, **{"trials": 1, "out": tmp_path, **more})

    again()
    before = (tmp_path / "best.json").read_bytes()
    other = runs.load_data(toy_frame(seed=1))[0]
    for told, what in {
        "holds a study with recipe 'itemknn', not 'ease'": {"recipe": "ease"},
        "was tuned on other data than 'interactions' as it is now": {"data": other},
        r"another space \(neighbours \[10, 1000, 'log'\] -> \[1, 9\]\)": {"space": {"neighbours": (1, 9)}},
        r"another space \(shrink \[0.0, 100.0\] -> None\)": {"shrink": 3},
        "holds a study with metric 'ndcg@20', not 'recall@20'": {"metric": "recall@20"},
        "holds a study with protocol 'valid', not 'refit'": {"protocol": "refit"},
        "holds a study with seed 0, not 1": {"seed": 1},
    }.items():
        with pytest.raises(ValueError, match=told):
            again(**what)
    assert (tmp_path / "best.json").read_bytes() == before


def test_a_directory_of_something_else_is_refused(made, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match="exists and holds no study"):
        tune.tune("itemknn", made, trials=1, out=tmp_path)
    with pytest.raises(ValueError, match="exists and holds no study"):
        tune.tune("itemknn", made, trials=1, out=tmp_path / "notes.txt")
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "study.db").write_text("this is no database" * 100)
    with pytest.raises(ValueError, match=r"study\.db can't be read as a study"):
        tune.tune("itemknn", made, trials=1, out=broken)
    with claims.alone(broken, "tuned"), pytest.raises(ValueError, match="is being tuned by another process"):
        tune.tune("itemknn", made, trials=1, out=broken)


def test_optuna_is_left_as_talkative_as_it_was(made, tmp_path, capfd):
    before = optuna.logging.get_verbosity()
    tune.tune("itemknn", made, trials=1, out=tmp_path)
    assert capfd.readouterr() == ("", "")
    assert optuna.logging.get_verbosity() == before


# --- bad input --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("recipe", "more", "told"),
    [
        ("itemknn", {"trials": 0}, "trials must be 1 or more, got 0"),
        ("itemknn", {"timeout": 0}, "timeout must be above 0 seconds, got 0"),
        ("itemknn", {"protocol": "as-published"}, "tuning is on validation alone, and protocol 'as-published' has none"),
        ("itemknn", {"protocol": "all"}, "protocol 'all' has none"),
        ("itemknn", {"protocol": "vaild"}, "unknown protocol 'vaild'; did you mean 'valid'"),
        ("itemnn", {}, "unknown recipe 'itemnn'; did you mean 'itemknn'"),
        ("popular", {}, "nothing of popular is left to search"),
        ("itemknn", {"shrink": 1, "neighbours": 3}, "nothing of itemknn is left to search"),
        ("itemknn", {"shrnk": 1}, "unknown setting 'shrnk' of itemknn; did you mean 'shrink'"),
        ("itemknn", {"shrink": 1, "space": {"shrink": (1, 2)}}, "setting 'shrink' is both fixed and searched"),
        ("itemknn", {"space": {"shrnk": (1, 2)}}, "unknown setting 'shrnk'"),
        ("itemknn", {"metric": "coverage@20"}, "cannot select on 'coverage@20'"),
        ("itemknn", {"metric": "ndgc@20"}, "no metric is called 'ndgc'"),
        ("lightgcn", {"metric": "ndcg@10", "select": "ndcg@20"}, "give the metric or the setting 'select', not both"),
        ("lightgcn", {"space": {"select": ["ndcg@10", "ndcg@20"]}}, "'select' is what trials are scored by"),
        ("lightgcn", {"epochs": 0}, "tuning needs an epoch or more"),
        ("lightgcn", {"patience": -1}, "setting 'patience' must be 0 or more"),
        ("lightgcn", {"options": {"num_clusters": 3}}, "num_clusters is for attributed graphs and cannot be set for a log"),
    ],
)
def test_what_cannot_be_tuned_leaves_nothing_behind(made, tmp_path, recipe, more, told):
    with pytest.raises(ValueError, match=told):
        tune.tune(recipe, made, **{"trials": 1, "out": tmp_path / "study", **more})
    assert not (tmp_path / "study").exists()


def test_what_is_scored_cannot_be_searched():
    with pytest.raises(ValueError, match="'seen' says which ranking trials are scored on"):
        tune.tune("sasrec", toy_frame(), trials=1, space={"seen": ["keep", "mask"]})


def test_a_split_without_validation(made, tmp_path):
    with pytest.raises(ValueError, match="chooses the epoch on validation, and there is no such part"):
        tune.tune("itemknn", replace(made, valid=None), trials=1, out=tmp_path / "study")
    assert not (tmp_path / "study").exists()


def test_without_optuna_the_extra_is_named(made, monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(ImportError, match=r"tuning needs Optuna: pip install 'graphcl\[tune\]'"):
        tune.tune("itemknn", made, trials=1)


# --- other kinds of recipes -------------------------------------------------------------------------------------------------


def trained_alike(recipe, data, tuned, folder, found, **settings):
    """Each trial's score is that of a run with its settings."""
    searched = list(tuned.best["space"])
    for number, row in tuned.trials.iterrows():
        run = graphcl.train(recipe, data, out=folder / str(number), seed=3, **settings, **row[searched].to_dict())
        assert row["score"] == pytest.approx(found(run), abs=1e-12)
        assert row["best_epoch"] == run.result["best_epoch"]
    assert tuned.trials["score"].nunique() > 1
    assert tuned.best["score"] == tuned.trials["score"].max()


@pytest.mark.parametrize("seen", ["keep", "mask"])
def test_histories(tmp_path, seen):
    split = load_sequences(toy_frame())
    settings = {"dim": 8, "inner": 8, "epochs": 3, "seen": seen}
    space = {"learning_rate": (1e-3, 0.1, "log")}
    poisoned = replace(split, test=Poison())
    tuned = tune.tune(
        "sasrec",
        poisoned,
        trials=3,
        out=tmp_path / "study",
        seed=3,
        metric="ndcg@7",
        space=space,
        dropout=0.1,
        num_layers=1,
        **settings,
    )
    part = "valid" if seen == "keep" else "valid_masked"
    trained_alike(
        "sasrec", split, tuned, tmp_path, lambda run: run.result["metrics"][part]["ndcg@7"], select="ndcg@7", dropout=0.1, num_layers=1, **settings
    )  # fmt: skip


@pytest.mark.slow
def test_labelled_nodes(tmp_path):
    data = planted()
    settings = {"dim": 8, "epochs": 4, "evaluate_every": 2, "neighbours": (8,), "clusters": (4, 6)}
    space = {"learning_rate": (1e-3, 0.1, "log")}
    free = {key: value for key, value in vars(meow.Config()).items() if key in meow.SPACE and key != "learning_rate"}
    tuned = tune.tune("meow", data, trials=2, out=tmp_path / "study", seed=3, space=space, **{**free, **settings})
    assert tuned.best["metric"] == "ma_f1"
    for number, row in tuned.trials.iterrows():
        run = graphcl.train(
            "meow",
            data,
            out=tmp_path / str(number),
            seed=3,
            select="ma_f1",
            learning_rate=row["learning_rate"],
            **{**free, **settings},
        )
        lines = [json.loads(line) for line in (run.path / "metrics.jsonl").read_text().splitlines()]
        assert row["score"] == max(line["valid"]["ma_f1"] for line in lines)


def test_attributed_graphs_need_no_label(tmp_path):
    known = planted_attributed()
    data = replace(known, labels=torch.full_like(known.labels, -1), splits={}, num_clusters=0)
    tuned = tune.tune(
        "svd_kmeans", data, trials=3, out=tmp_path / "study", space={"num_hops": [0, 1, 2], "dim": [3, 5]}, options={"num_clusters": 3}
    )  # fmt: skip
    assert tuned.best["metric"] == "modularity"
    for _, row in tuned.trials.iterrows():
        config = svd_kmeans.Config(num_hops=row["num_hops"], dim=row["dim"])
        clusters = k_means(svd_kmeans.embed(config, data, rng=Streams(0)["init"]), 3, seed=0)
        assert row["score"] == modularity(data.graph, clusters)


def test_a_study_of_tuples_goes_on(tmp_path):
    """The database gave them back as lists, and then took the same space for another."""
    data = planted_attributed()
    settings = {"epochs": 2, "pretrain_epochs": 1, "dim": 4, "space": {"layers": [(8,), (8, 8)]}}
    free = {key: value for key, value in vars(scgc.Config()).items() if key in scgc.SPACE}
    whole = tune.tune("scgc", data, trials=5, out=tmp_path / "whole", **{**free, **settings})
    for trials in (2, 5):
        parts = tune.tune("scgc", data, trials=trials, out=tmp_path / "parts", **{**free, **settings})
    pd.testing.assert_frame_equal(untimed(parts), untimed(whole))
    assert set(whole.trials["layers"]) == {(8,), (8, 8)}
    assert parts.best == whole.best
    assert whole.best["settings"]["layers"] == whole.trials["layers"][whole.best["trial"]]


def test_a_rule_for_histories():
    split = load_sequences(toy_frame())
    made = task(Asked("own_history", own_history, replace(split, test=Poison()), "valid", "hr@3", {}, {}, 0, "cpu"))
    ranks = evaluate_next(own_history.build(made.base, split.train, rng=Streams(0)["init"]), split.valid, ks=(3,))
    assert made.score(made.base, lambda kind, what: None) == (ranks.keep["hr@3"], None)


@pytest.mark.parametrize(
    ("recipe", "more", "told"),
    [
        ("sasrec", {"metric": "coverage@5"}, "cannot select on 'coverage@5'"),
        ("sasrec", {"protocol": "refit"}, "sequences have valid and all"),
        ("sasrec", {"epochs": 0}, "tuning needs an epoch or more"),
        ("meow", {"metric": "loss"}, "meow is tuned by ma_f1 or mi_f1, not by 'loss'"),
        ("meow", {"data": replace(planted(), splits={})}, "has no splits, so ma_f1 on validation nodes cannot choose"),
        ("meow", {"device": "cuda:99"}, "device 'cuda:99' cannot be used here"),
        ("meow", {"protocol": "refit"}, "it is tuned under protocol valid, not 'refit'"),
        ("meow", {"options": {"rule": "random"}}, "trains on a graph, for which rule cannot be set"),
        ("meow", {"options": {"num_clusters": 3}}, "trains on a graph, for which num_clusters cannot be set"),
        ("sasrec", {"options": {"num_clusters": 3}}, "num_clusters"),
        ("pamc", {"metric": "acc"}, "pamc is tuned by modularity, not by 'acc'"),
        ("meow", {"metric": "ma_f1", "select": "mi_f1"}, "give the metric or the setting 'select', not both"),
    ],
)  # fmt: skip
def test_what_other_kinds_refuse(tmp_path, recipe, more, told):
    with pytest.raises(ValueError, match=told):
        tune.tune(
            recipe, **{"data": toy_frame() if recipe == "sasrec" else planted(), "trials": 1, "out": tmp_path / "study", **more}
        )
    assert not (tmp_path / "study").exists()


def test_the_first_of_equally_good_trials_is_the_best(tmp_path, monkeypatch):
    told = {"outcome": "complete", "best_epoch": 1, "epochs": 1, "seconds": 1.0, "seed": 0, "error": ""}
    trials = [SimpleNamespace(value=v, params={"a": a}, user_attrs={**told, "score": v}) for a, v in enumerate((0.1, 0.5, 0.5))]
    monkeypatch.setattr(studies, "ended", lambda *_: trials)
    about = dict.fromkeys(("recipe", "dataset", "protocol", "metric", "seed", "fingerprint"), "x")
    best = studies.written(None, None, tmp_path, {**about, "space": {"a": (0, 9)}, "settings": {"a": 7, "b": 1}}).best
    assert (best["trial"], best["score"], best["settings"]) == (1, 0.5, {"a": 1, "b": 1})
