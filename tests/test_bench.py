"""Benchmarks: the floor, configurations over seeds."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

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
    monkeypatch.setattr(bench, "_QUICK", {"ease": 10, "gfcf": 10})
    assert bench.skipped(made) == ["ease", "gfcf"]


# --- a configuration over its seeds -----------------------------------------------------------------------------------------


def configured(root, **config):
    (root / "configs").mkdir(parents=True, exist_ok=True)
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
    assert (result["recipe"], result["protocol"]) == ("lightgcn", "valid")
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


def test_each_seed_keeps_what_it_was_measured_with(csv, tmp_path, monkeypatch):
    """The commit of the day stood in results of runs that had long finished, and one commit for seeds of several."""
    config = {"recipe": "popular", "data": str(csv), "protocol": "valid"}
    configured(tmp_path, **config, seeds=[0])
    monkeypatch.setattr(bench, "commit", lambda: "then")
    first = bench.run("toy", root=tmp_path)
    monkeypatch.setattr(bench, "commit", lambda: "now")
    assert bench.run("toy", root=tmp_path) == first
    (tmp_path / "results" / "toy.json").unlink()
    assert bench.run("toy", root=tmp_path) == first
    assert first["commit"] == first["seeds"][0]["commit"] == "then"
    configured(tmp_path, **config, seeds=[0, 1])
    result = bench.run("toy", root=tmp_path)
    assert result["commit"] == "now"
    assert [seed["commit"] for seed in result["seeds"]] == ["then", "now"]
    for seed in result["seeds"]:
        assert tuple(key for key in seed if key in bench.STAMP) == bench.STAMP

    copied = shutil.copytree(tmp_path / "runs" / "toy" / "seed1", tmp_path / "runs" / "toy" / "seed2")
    (copied / "stamp.json").unlink()  # as of a run that graphcl train made
    (copied / "result.json").write_text((copied / "result.json").read_text().replace('"seed": 1', '"seed": 2'))
    (copied / "config.json").write_text((copied / "config.json").read_text().replace('"seed": 1', '"seed": 2'))
    configured(tmp_path, **config, seeds=[2, 0])
    result = bench.run("toy", root=tmp_path)
    assert [(seed["seed"], seed["commit"]) for seed in result["seeds"]] == [(2, None), (0, "then")]


def test_the_commit_tells_of_changed_files_but_not_of_results(tmp_path, monkeypatch):
    def git(*words):
        subprocess.run(
            ["git", "-c", "user.name=a", "-c", "user.email=a@b", *words], cwd=tmp_path, check=True, capture_output=True
        )

    (tmp_path / "benchmarks" / "results").mkdir(parents=True)
    files = tmp_path / "code.py", tmp_path / "benchmarks" / "results" / "toy.json"
    monkeypatch.chdir(tmp_path)
    assert bench.commit() == "unknown"
    git("init", "-q")
    for file in files:
        file.write_text("1")
    git("add", ".")
    git("commit", "-qm", "one")
    clean = bench.commit()
    assert len(clean) == 12
    files[1].write_text("2")
    monkeypatch.chdir(tmp_path / "benchmarks")
    assert bench.commit() == clean
    files[0].write_text("2")
    assert bench.commit() == f"{clean}-dirty"


def test_a_result_is_extended_by_seeds_where_its_runs_are_gone(csv, tmp_path, monkeypatch):
    csv = shutil.copy(csv, tmp_path / "toy.csv")
    config = {"recipe": "lightgcn", "data": str(csv), "protocol": "valid", "settings": SMALL}
    configured(tmp_path, **config, seeds=[1, 2])
    monkeypatch.setattr(bench, "commit", lambda: "then")
    first = bench.run("toy", root=tmp_path)
    shutil.rmtree(tmp_path / "runs")
    assert bench.run("toy", root=tmp_path, extend=True) == first

    def interrupted(kind, what):
        raise KeyboardInterrupt

    configured(tmp_path, **config, seeds=[0, 1, 2])
    with pytest.raises(KeyboardInterrupt):
        bench.run("toy", root=tmp_path, extend=True, observe=interrupted)
    assert json.loads((tmp_path / "results" / "toy.json").read_text()) == first
    monkeypatch.setattr(bench, "commit", lambda: "now")
    result = bench.run("toy", root=tmp_path, extend=True)
    assert not (tmp_path / "runs" / "toy" / "seed1").exists()
    assert result["seeds"][1:] == first["seeds"]
    assert [(seed["seed"], seed["commit"]) for seed in result["seeds"]] == [(0, "now"), (1, "then"), (2, "then")]
    assert result["summary"] == bench.summary(result["seeds"])
    assert bench.run("toy", root=tmp_path, extend=True) == result == json.loads((tmp_path / "results" / "toy.json").read_text())
    configured(tmp_path, **config, seeds=[2], published={"ndcg@20": 0.5, "source": "nowhere"})
    fewer = bench.run("toy", root=tmp_path, extend=True)
    assert (fewer["seeds"], fewer["published"]["source"]) == (first["seeds"][1:], "nowhere")


def test_other_settings_or_data_cannot_extend_a_result(csv, tmp_path):
    csv = shutil.copy(csv, tmp_path / "toy.csv")
    config = {"recipe": "lightgcn", "data": str(csv), "protocol": "valid", "settings": {**SMALL, "num_layers": 1}}
    configured(tmp_path, **config, seeds=[0])
    bench.run("toy", root=tmp_path)
    shutil.rmtree(tmp_path / "runs")
    trained = []
    for settings, told in (
        ({**SMALL, "num_layers": 1, "dim": 3}, f"dim {SMALL['dim']} -> 3"),
        (SMALL, "num_layers 1 -> 3"),  # the default, which the result is not of
    ):
        configured(tmp_path, **{**config, "settings": settings}, seeds=[0, 1])
        with pytest.raises(ValueError, match=f"the result of toy has other settings and can't be extended: {told}$"):
            bench.run("toy", root=tmp_path, extend=True, observe=lambda *what: trained.append(what))
    text = Path(csv).read_text()
    Path(csv).write_text(text + text.splitlines()[1].replace("u", "anew", 1) + "\n")
    configured(tmp_path, **config, seeds=[0, 1])
    with pytest.raises(ValueError, match=r"seed1 has other data than the seeds in .*toy\.json"):
        bench.run("toy", root=tmp_path, extend=True, observe=lambda *what: trained.append(what))
    assert not trained


def test_what_is_not_of_our_recipes_cannot_be_extended(tmp_path):
    configured(tmp_path, recipe="recbole:BPR", peer="recbole", data="ml-100k", protocol="recbole", seeds=[0])
    (tmp_path / "speed.py").write_text("def main(root): return 1")
    for name in ("toy", "speed"):
        with pytest.raises(ValueError, match=f"only seeds of graphcl's own recipes can be extended, and {name} has none"):
            bench.run(name, root=tmp_path, extend=True)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"seeds": []}, r"seeds must be a list of different whole numbers, got \[\]"),
        ({"seeds": 3}, "seeds must be a list of different whole numbers, got 3"),
        ({"seeds": [1, 1]}, r"seeds must be .*, got \[1, 1\]"),
        ({"seeds": [True]}, r"seeds must be .*, got \[True\]"),
        ({"settings": [1]}, r"settings must be an object, got \[1\]"),
        ({"grid": {"l2": 3}}, "grid must hold the values of one setting in a list, got {'l2': 3}"),
        ({"grid": {"l2": []}}, "grid must hold"),
        ({"grid": {"l2": [1.0], "other": [2.0]}}, "grid must hold"),
        ({"protocol": "all"}, "protocol 'all' tests nothing"),
        (
            {"recipe": "lightgcn", "grid": {"num_layers": [1, 2]}},
            "a grid is searched for closed forms alone, and 'lightgcn' trains",
        ),
    ],
)
def test_a_bad_configuration_is_told_by_its_file_and_key(tmp_path, change, told):
    configured(tmp_path, **{"recipe": "ease", "data": "log.csv", "protocol": "valid", "seeds": [0], **change})
    with pytest.raises(ValueError, match=rf"toy\.json: {told}"):
        bench.run("toy", root=tmp_path)


def test_a_grid_is_laid_over_the_other_settings(csv, made, tmp_path):
    """Values were compared at the other settings' defaults."""
    settings = {"neighbours": 3}
    configured(
        tmp_path, recipe="itemknn", data=str(csv), protocol="valid", seeds=[0], settings=settings, grid={"shrink": [0.0, 100.0]}
    )
    result = bench.run("toy", root=tmp_path)
    best = str(result["settings"]["shrink"])
    assert result["settings"]["neighbours"] == 3
    assert result["grid"]["shrink"][best] == result["seeds"][0]["metrics"]["valid"]["ndcg@20"]


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


def test_a_value_may_be_chosen_on_the_most_popular_items(made):
    few = bench.popular_part(made, 8)
    degrees = dict(zip(made.train.item_ids.ids, made.train.matrix.getnnz(0), strict=True))
    names = set(few.train.item_ids.ids)
    assert len(names) == 8
    assert min(degrees[n] for n in names) >= max(d for n, d in degrees.items() if n not in names)
    for name, part in few.parts.items():
        rows, whole = (
            [(log.user_ids.ids[u], log.item_ids.ids[i]) for u, i in zip(log.users, log.items, strict=True)]
            for log in (part, made.parts[name])
        )
        assert rows == [pair for pair in whole if pair[1] in names]
    grid = [1.0, 100.0]
    _, scores = bench.choose(made, "ease", "l2", grid, most_popular=8)
    assert scores == bench.choose(few, "ease", "l2", grid)[1] != bench.choose(made, "ease", "l2", grid)[1]
