"""Benchmarks: the floor, configurations over seeds."""

import json
import shutil
import sys

import numba
import pytest
import torch

import graphcl
from graphcl import bench, runs
from tests.toy import toy_csv

SMALL = {"dim": 4, "batch_size": 128, "learning_rate": 0.02, "epochs": 2, "evaluate_every": 1}


@pytest.fixture(scope="module")
def csv(tmp_path_factory):
    return toy_csv(tmp_path_factory.mktemp("data") / "toy.csv")


@pytest.fixture(scope="module")
def made(csv):
    return runs.load_data(csv)[0]


@pytest.fixture(scope="module")
def floor(made, tmp_path_factory):
    return bench.floor(made, "valid", tmp_path_factory.mktemp("floor"))


# --- the floor --------------------------------------------------------------------------------------------------------------


def test_the_floor_has_every_baseline_with_the_regulariser_of_validation(made, floor):
    assert [run.config["recipe"] for run in floor] == ["popular", "itemknn", "ease", "gfcf"]
    best, scores = bench.choose(made, "ease", "l2", bench.EASE_GRID)
    assert list(scores) == list(bench.EASE_GRID)
    assert floor[2].config["settings"]["l2"] == best
    assert floor[2].result["metrics"]["valid"]["ndcg@20"] == scores[best] == max(scores.values())


def test_choose_scores_each_value_as_a_run_would(made, tmp_path):
    best, scores = bench.choose(made, "itemknn", "neighbours", [1, 30], "recall@10")
    for value, score in scores.items():
        run = graphcl.train("itemknn", made, out=tmp_path / str(value), neighbours=value)
        assert run.result["metrics"]["valid"]["recall@10"] == score
    assert scores[best] == max(scores.values())


def test_an_interrupted_floor_goes_on(made, floor, monkeypatch):
    """It once refused the directory of the baseline that was not finished."""
    out = floor[0].path.parent
    kept = (floor[1].path / "result.json").stat().st_mtime_ns
    (out / "gfcf" / "result.json").unlink()
    again = bench.floor(made, "valid", out)
    assert (out / "itemknn" / "result.json").stat().st_mtime_ns == kept
    assert [run.result["metrics"] for run in again] == [run.result["metrics"] for run in floor]


def test_what_is_slow_is_left_to_be_asked_for(made, monkeypatch):
    assert bench.skipped(made) == []
    monkeypatch.setattr(bench, "_QUICK_ITEMS", 10)
    assert bench.skipped(made) == ["ease", "gfcf"]


# --- a configuration over its seeds -----------------------------------------------------------------------------------------


def configured(root, **config):
    (root / "configs").mkdir(parents=True)
    (root / "configs" / "toy.json").write_text(json.dumps(config))


def test_a_benchmark_runs_its_seeds_and_goes_on_where_it_stopped(csv, tmp_path):
    configured(
        tmp_path, recipe="lightgcn", data=str(csv), protocol="valid", seeds=[0, 1], settings=SMALL,
        published={"ndcg@20": 0.5, "source": "nowhere"}, note="a toy",
    )  # fmt: skip

    epochs = []

    def stop(kind, what):
        if kind == "epoch":
            epochs.append(what["epoch"])
            if len(epochs) == 3:  # the first of seed 1
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        bench.run("toy", root=tmp_path, observe=stop)
    written = json.loads((tmp_path / "results" / "toy.json").read_text())
    assert [seed["seed"] for seed in written["seeds"]] == [0]
    del epochs[:]
    result = bench.run(
        "toy", root=tmp_path, observe=lambda kind, what: epochs.append(what.get("epoch")) if kind == "epoch" else None
    )
    assert epochs == [2]  # of seed 1; seed 0 is kept
    assert json.loads((tmp_path / "results" / "toy.json").read_text()) == result

    assert result["command"] == "graphcl bench toy"
    assert (result["recipe"], result["protocol"], result["note"]) == ("lightgcn", "valid", "a toy")
    assert result["published"] == {"ndcg@20": 0.5, "source": "nowhere"}
    assert SMALL.items() <= result["settings"].items()
    assert {"commit", "date", "versions", "hardware", "peak_memory_gb"} <= result.keys()
    assert result["hardware"]["cores"] >= 1
    assert 0.01 < result["peak_memory_gb"] < 1000
    assert [seed["seed"] for seed in result["seeds"]] == [0, 1]
    for seed in result["seeds"]:
        assert (seed["epochs"], seed["selected_on"]) == (2, "valid")
        assert [point["epoch"] for point in seed["curve"]] == [1, 2]
        assert {"terms", "recall@20", "ndcg@20"} <= seed["curve"][0].keys()
        assert 0 < seed["curve"][0]["seconds"] < seed["curve"][1]["seconds"] == pytest.approx(seed["seconds"]["train"])
        assert seed["threads"] == {"torch": torch.get_num_threads(), "numba": numba.get_num_threads()}
    assert result["hardware"]["threads"] == seed["threads"]
    values = [seed["metrics"]["test"]["ndcg@20"] for seed in result["seeds"]]
    mean = sum(values) / 2
    assert values[0] != values[1]
    assert result["summary"]["ndcg@20"] == pytest.approx({"mean": mean, "std": abs(values[0] - values[1]) / 2**0.5})


def test_a_grid_is_searched_on_validation_once(csv, made, tmp_path, monkeypatch):
    """Every later call searched again, though every seed had finished."""
    grid = [1.0, 50.0, 1000.0]
    configured(tmp_path, recipe="ease", data=str(csv), protocol="valid", seeds=[0], grid={"l2": grid})
    result = bench.run("toy", root=tmp_path)
    best, scores = bench.choose(made, "ease", "l2", grid)
    assert result["settings"] == {"l2": best}
    assert result["grid"] == {"l2": {str(value): score for value, score in scores.items()}}
    assert result["summary"]["recall@20"]["std"] == 0
    searched = []
    monkeypatch.setattr(
        bench, "choose", lambda *given, **more: searched.append(given[3]) or (given[3][0], dict.fromkeys(given[3], 0.5))
    )
    assert bench.run("toy", root=tmp_path) == result
    assert searched == []
    config = {"recipe": "ease", "data": str(csv), "protocol": "valid", "grid": {"l2": [2.0, 3.0]}}
    settings, found = bench.settings_of(config, tmp_path / "runs" / "toy" / "grid.json")  # asks for something else
    assert searched == [[2.0, 3.0]]
    assert (settings, found) == ({"l2": 2.0}, {"l2": {"2.0": 0.5, "3.0": 0.5}})


def test_a_result_that_is_written_again_keeps_what_it_was_measured_with(csv, tmp_path, monkeypatch):
    """The commit of the day stood in results of runs that had long finished."""
    configured(tmp_path, recipe="popular", data=str(csv), protocol="valid", seeds=[0])
    monkeypatch.setattr(bench, "commit", lambda: "then")
    first = bench.run("toy", root=tmp_path)
    monkeypatch.setattr(bench, "commit", lambda: "now")
    assert bench.run("toy", root=tmp_path) == first
    assert first["commit"] == "then"
    (tmp_path / "configs" / "toy.json").write_text(
        json.dumps({"recipe": "popular", "data": str(csv), "protocol": "valid", "seeds": [0, 1]})
    )
    assert bench.run("toy", root=tmp_path)["commit"] == "now"


def test_a_result_is_extended_by_seeds_where_its_runs_are_gone(csv, tmp_path, monkeypatch):
    csv = shutil.copy(csv, tmp_path / "toy.csv")
    config = {"recipe": "lightgcn", "data": str(csv), "protocol": "valid", "seeds": [0, 1], "settings": SMALL}
    configured(tmp_path, **config)
    monkeypatch.setattr(bench, "commit", lambda: "then")
    first = bench.run("toy", root=tmp_path)
    shutil.rmtree(tmp_path / "runs")
    assert bench.run("toy", root=tmp_path, extend=True) == first

    monkeypatch.setattr(bench, "commit", lambda: "now")
    (tmp_path / "configs" / "toy.json").write_text(json.dumps({**config, "seeds": [0, 1, 2]}))
    result = bench.run("toy", root=tmp_path, extend=True)
    assert not (tmp_path / "runs" / "toy" / "seed0").exists()
    assert result["seeds"][:2] == [{"commit": "then", "date": first["date"], **seed} for seed in first["seeds"]]
    assert (result["commit"], [seed["seed"] for seed in result["seeds"]]) == ("now", [0, 1, 2])
    assert result["summary"] == bench.summary(result["seeds"])
    again = bench.run("toy", root=tmp_path, extend=True)  # seed 2, measured "now", is in the result by now
    assert again == result

    whole = csv.read_text()
    csv.write_text(whole + whole.splitlines()[1].replace("u", "anew", 1) + "\n")
    (tmp_path / "configs" / "toy.json").write_text(json.dumps({**config, "seeds": [0, 1, 2, 3]}))
    with pytest.raises(ValueError, match=r"seed3 has other data than the seeds in .*toy\.json"):
        bench.run("toy", root=tmp_path, extend=True)
    csv.write_text(whole)

    (tmp_path / "configs" / "toy.json").write_text(json.dumps({**config, "settings": {**SMALL, "dim": 3}}))
    with pytest.raises(ValueError, match=rf"the result of toy has other settings and can't be extended: dim {SMALL['dim']}"):
        bench.run("toy", root=tmp_path, extend=True)


def test_a_curve_is_over_seconds_of_training(csv, tmp_path):
    done = graphcl.train("lightgcn", csv, out=tmp_path / "run", **{**SMALL, "epochs": 5, "evaluate_every": 2})
    lines = [json.loads(line) for line in (done.path / "metrics.jsonl").read_text().splitlines()]
    told = [(point["epoch"], point["seconds"]) for point in bench.record(done)["curve"]]
    assert told == [(line["epoch"], line["elapsed"]) for line in lines]
    assert [epoch for epoch, _ in told] == [2, 4, 5]


def test_a_program_may_import_its_neighbours_and_its_result_is_returned(tmp_path, monkeypatch):
    """It is told where results go. Files beside it that are no programs are not benchmarks."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    folder = tmp_path / "programs"
    folder.mkdir()
    (folder / "neighbour.py").write_text("SECONDS = 3\n")
    (folder / "speed.py").write_text("from programs.neighbour import SECONDS\n\ndef main(root):\n    return SECONDS, root\n")
    assert bench.run("speed", root=folder) == (3, folder)
    with pytest.raises(ValueError, match=r"no benchmark 'neighbour' in .*; known: speed"):
        bench.run("neighbour", root=folder)


def test_an_unknown_benchmark_names_the_nearest(tmp_path):
    configured(tmp_path)
    with pytest.raises(ValueError, match=r"no benchmark 'tou' in .*; did you mean 'toy'"):
        bench.run("tou", root=tmp_path)
    with pytest.raises(ValueError, match=r"toy\.json lacks data, protocol, recipe, seeds"):
        bench.run("toy", root=tmp_path)
    (tmp_path / "configs" / "toy.json").write_text("{")
    with pytest.raises(ValueError, match=r"toy\.json: not JSON"):
        bench.run("toy", root=tmp_path)
