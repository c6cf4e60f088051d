"""The command line as its users meet it: what it prints, what it writes, and one line for what they got wrong."""

import errno
import gzip
import importlib.metadata
import json
import os
import re
import resource
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from safetensors import safe_open

import graphcl
from graphcl import bench, cli, compare, rundir, runs, tune
from graphcl.cli.histories import read_histories
from graphcl.data import PROTOCOLS
from graphcl.data.fingerprint import of_split
from tests.toy import NUM_ITEMS, NUM_USERS, toy_csv, toy_frame

SMALL = "--set dim=4 --set batch_size=128 --set learning_rate=0.02 --set evaluate_every=1 --epochs 2"


@pytest.fixture
def graphcl_(monkeypatch, capsys):
    """Runs a command line in this process: exit code, stdout, stderr."""

    def call(line, *more):
        monkeypatch.setattr(sys, "argv", ["graphcl", *shlex.split(line), *map(str, more)])
        monkeypatch.setattr(sys, "path", list(sys.path))
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            cli.main()
        out, err = capsys.readouterr()
        return ended.value.code or 0, out, err

    return call


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An own working directory with the toy log."""
    monkeypatch.chdir(tmp_path)
    toy_csv(tmp_path / "toy.csv")
    return tmp_path


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cli")
    settings = {"dim": 4, "batch_size": 128, "learning_rate": 0.02, "evaluate_every": 1, "epochs": 2}
    return graphcl.train("lightgcn", toy_csv(folder / "toy.csv"), out=folder / "run", **settings)


def one_line(err):
    assert err.startswith("graphcl: ")
    assert err.count("\n") == 1
    assert "Traceback" not in err
    return err


# --- start ------------------------------------------------------------------------------------------------------------------


def test_importing_loads_nothing_heavy():
    program = (
        "import sys, graphcl, graphcl.cli;"
        "print([name for name in ('torch', 'pandas', 'numpy', 'scipy', 'numba', 'pyarrow') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_help_takes_less_than_a_second():
    """Of processor time, which a busy machine does not stretch."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run([sys.executable, "-m", "graphcl.cli", "--help"], capture_output=True, text=True, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 1
    for verb in ("train", "evaluate", "recommend", "similar", "embed", "compare", "recipes", "bench", "tune", "data"):
        assert re.search(rf"^  {verb} ", done.stdout, re.M)


def test_a_process_ends_with_the_code():
    done = subprocess.run([sys.executable, "-m", "graphcl.cli", "trian"], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    assert one_line(done.stderr) == "graphcl: No such command 'trian'. Did you mean 'train'?\n"


# --- train ------------------------------------------------------------------------------------------------------------------


def test_train_prints_one_json_object_last(graphcl_, here):
    code, out, err = graphcl_(f"train lightgcn toy.csv {SMALL} --seed 3 --out run --json")
    assert code == 0
    result = json.loads(out.splitlines()[-1])
    wanted = {
        "recipe",
        "dataset",
        "seed",
        "protocol",
        "epochs",
        "steps",
        "best_epoch",
        "selected_on",
        "metrics",
        "seconds",
        "run",
    }
    assert wanted <= result.keys()
    assert (result["recipe"], result["dataset"], result["seed"], result["run"]) == ("lightgcn", "toy", 3, "run")
    assert result["seconds"]["load"] > 0
    assert result["floor"].keys() == {"popular", "itemknn", "ease", "gfcf"}
    assert result["floor"]["popular"]["ndcg@20"] == graphcl.load("run/floor/popular").result["metrics"]["test"]["ndcg@20"]
    assert graphcl.load("run").result["metrics"] == result["metrics"]
    assert [line.split()[:2] for line in err.splitlines()] == [["epoch", "1"], ["epoch", "2"]]
    # Once more, by the settings of the run, but for one.
    code, out, _ = graphcl_("train lightgcn toy.csv --config run/config.json --set dim=8 --seed 3 --out again --no-floor --json")
    config = graphcl.load("again").config
    assert config["settings"] == {**graphcl.load("run").config["settings"], "dim": 8}
    assert config["sources"] == {**dict.fromkeys(config["settings"], "config"), "dim": "set"}
    assert "floor" not in json.loads(out.splitlines()[-1])


def test_train_prints_a_table_with_the_floor_and_says_what_chose_the_epoch(graphcl_, here):
    code, out, _ = graphcl_(f"train lightgcn toy.csv {SMALL} --protocol as-published")
    assert code == 0
    title, head, *rows, last = out.splitlines()
    assert title == "toy, protocol as-published, BEST EPOCH CHOSEN ON TEST, as papers do, test part of 24 users:"
    assert head.split()[:3] == ["recipe", "recall@20", "ndcg@20"]
    assert [row.split()[0] for row in rows] == ["lightgcn", "popular", "itemknn", "ease", "gfcf"]
    assert last == "Run: runs/lightgcn-toy-seed0"
    metrics = graphcl.load("runs/lightgcn-toy-seed0").result["metrics"]["test"]
    assert rows[0].split()[1:3] == [f"{metrics['recall@20']:.4f}", f"{metrics['ndcg@20']:.4f}"]
    _, out, _ = graphcl_("train popular toy.csv")
    assert out.startswith("toy, protocol valid, no epoch chosen, test part of 24 users:\n")
    assert len(out.splitlines()) == 4  # nothing of the floor beside the floor
    _, out, _ = graphcl_(f"train lightgcn toy.csv {SMALL} --no-floor")
    assert out.startswith("toy, protocol valid, epoch chosen on validation, test part of 24 users:\n")


@pytest.mark.parametrize("how", ["", "--json"])
def test_training_for_deployment_measures_nothing(graphcl_, here, how):
    """With --json the floor once broke for want of a test part."""
    code, out, _ = graphcl_(f"train lightgcn toy.csv {SMALL} --protocol all --out run {how}")
    assert code == 0
    if how:
        result = json.loads(out)
        assert (result["metrics"].keys(), result["selected_on"]) == ({"embedding"}, None)
    else:
        assert out.splitlines()[0] == "lightgcn on toy: 2 epochs, protocol all, no test part"
    assert not Path("run/floor").exists()


def test_a_recipe_in_the_working_directory(graphcl_, here, monkeypatch):
    """An installed command does not look there by itself."""
    Path("my_recipe.py").write_text("from graphcl.recipes.lightgcn import KIND, Config, build\n")
    Path("my").mkdir()
    Path("my/recipe.py").write_text("from graphcl.recipes.lightgcn import KIND, Config, build\n")
    monkeypatch.setattr(sys, "path", [place for place in sys.path if place])
    code, _, _ = graphcl_(f"train my.recipe toy.csv {SMALL} --out run --no-floor")
    assert code == 0
    assert graphcl.load("run").config["recipe"] == "my.recipe"
    code, out, _ = graphcl_("recipes my.recipe --json")  # without a docstring and presets
    assert (code, json.loads(out)["my.recipe"]["presets"], json.loads(out)["my.recipe"]["about"]) == (0, [], "")
    assert graphcl_("recipes my.recipe")[0] == 0
    code, _, err = graphcl_("train my_recipe toy.csv")  # a name without a dot is one of ours
    assert code == 2
    assert "unknown recipe 'my_recipe'" in one_line(err)


# --- use --------------------------------------------------------------------------------------------------------------------


def read(path):
    if path.suffix == ".csv":
        return pd.read_csv(path, dtype={"user": str})
    return pd.read_parquet(path) if path.suffix == ".parquet" else pd.read_json(path, lines=True, dtype={"user": str})


@pytest.mark.parametrize("suffix", ["csv", "parquet", "jsonl"])
def test_recommend_writes_ids_as_they_came(graphcl_, run, here, suffix):
    path = here / "new" / f"recommended.{suffix}"
    code, out, err = graphcl_("recommend", run.path, "--k", 5, "--out", path)
    assert (code, err) == (0, "")
    assert out == f"{5 * NUM_USERS} rows for {NUM_USERS} users: {path}\n"
    found, expected = read(path), run.recommend(k=5)
    assert found.columns.tolist() == ["user", "item", "score", "rank"]
    for column in ("user", "item", "rank"):
        assert found[column].tolist() == expected[column].tolist()
    np.testing.assert_allclose(found["score"], expected["score"], rtol=1e-6, atol=1e-9)
    assert os.listdir(path.parent) == [path.name]


def test_recommend_to_some_or_from_histories(graphcl_, run, here):
    Path("users.txt").write_text("007\r\n\n 003 \n")
    code, _, _ = graphcl_("recommend", run.path, "--users", "users.txt", "--k", 99, "--out", "r.csv")
    assert code == 0
    assert read(Path("r.csv")).groupby("user", sort=False).size().to_dict() == {"007": NUM_ITEMS - 8, "003": NUM_ITEMS - 8}
    code, _, _ = graphcl_("recommend", run.path, "--users", "users.txt", "--k", 99, "--include-seen", "--out", "r.csv")
    assert len(read(Path("r.csv"))) == 2 * NUM_ITEMS
    Path("history.csv").write_text("user,item\nnew,i01\nnew,i02\n007,i03\nnew,strange\n")
    code, _, err = graphcl_("recommend", run.path, "--history", "history.csv", "--k", 4, "--out", "r.csv")
    assert code == 0
    assert one_line(err) == "graphcl: warning: 1 of 4 items of the histories are not in the log; they play no part\n"
    expected = run.recommend(histories={"new": ["i01", "i02"], "007": ["i03"]}, k=4)
    assert (
        read(Path("r.csv"))[["user", "item", "rank"]].to_numpy().tolist()
        == expected[["user", "item", "rank"]].to_numpy().tolist()
    )


def test_a_history_is_filtered_by_rating_as_the_log_was(graphcl_, here):
    frame = pd.read_csv("toy.csv", dtype={"user": str}).assign(stars=lambda x: 1 + np.arange(len(x)) % 5)
    frame.to_csv("rated.csv", index=False)
    run = graphcl.train("itemknn", "rated.csv", out="rated", options={"rating_col": "stars", "min_rating": 2})
    Path("history.csv").write_text("user,item,stars\nnew,i01,1\nnew,i02,5\n")
    code, _, err = graphcl_("recommend rated --history history.csv --k 4 --out r.csv")
    assert code == 0, err
    expected = run.recommend(histories={"new": ["i02"]}, k=4)["item"].tolist()
    assert read(Path("r.csv"))["item"].tolist() == expected
    assert run.recommend(histories=pd.read_csv("history.csv"), k=4)["item"].tolist() == expected


@pytest.mark.parametrize(
    ("trained", "history"),
    [
        ("--user-col shopper --item-col sku", "shopper,sku\nv,i01\nv,i02\n"),  # the run's names, without its ratings
        ("--user-col shopper --item-col sku", "v,i01\nv,i02\n"),  # texts without a header, told by the run's format
        ("--user-col shopper --item-col sku", "v,i01\n"),
        ("--user-col shopper --item-col sku", "user,item,rating\nv,i01,\nv,i02,3\n"),  # ratings of a log that went by none
        ("--user-col shopper", "shopper,item\nv,i01\nv,i02\n"),  # one name alone
    ],
)
def test_histories_of_any_form(graphcl_, here, trained, history):
    names = {"user": "shopper"} | ({"item": "sku"} if "sku" in trained else {})
    pd.read_csv("toy.csv", dtype=str).rename(columns=names).assign(grade=1).to_csv("log.csv", index=False)
    graded = " --rating-col grade" if history.startswith("shopper,sku") else ""
    assert graphcl_(f"train popular log.csv {trained}{graded} --no-floor --out run")[0] == 0
    Path("h.csv").write_text(history)
    given = "" if "\n" in history.partition("i01\n")[0] or history.startswith("user") else " --format triples"
    code, _, err = graphcl_(f"recommend run --history h.csv{given} --k 3 --out r.csv")
    assert code == 0, err
    items = [item for item in ("i01", "i02") if item in history]
    assert read(Path("r.csv"))["item"].tolist() == graphcl.load("run").recommend(histories={"v": items}, k=3)["item"].tolist()


def test_histories_are_what_the_log_was(graphcl_, here):
    """A format that had to be told is tried first where a table has no names; typed names are names."""
    Path("log.txt").write_text("".join(f"{u} {u % 5} {(u + 1) % 5 + 5} {u % 4 + 10} {u % 3 + 14}\n" for u in range(12)))
    assert graphcl_("train popular log.txt --format adjacency --no-floor --out run")[0] == 0
    for text in ("1 5 6\n1 7 8\n", "1 5 6\n2 7 8\n3 5 9\n"):
        Path("h.txt").write_text(text)
        frame = read_histories(Path("h.txt"), graphcl.load("run").config, {})
        assert frame["item"].tolist() == [int(item) for line in text.splitlines() for item in line.split()[1:]]
    Path("h.csv").write_text("user,item\n1,5\n")
    assert read_histories(Path("h.csv"), graphcl.load("run").config, {})["item"].tolist() == [5]
    Path("s.inter").write_text("buyer:token\tthing:token\tts:float\tplayed:float\n1\t5\t1\t9\n1\t6\t2\t8\n")
    config = {"preset": None, "columns": {"user_col": "buyer", "item_col": "thing", "time_col": "played"}}
    assert read_histories(Path("s.inter"), config, {})["item"].tolist() == [6, 5]


def test_ratings_of_a_frame_of_histories(here):
    frame = pd.DataFrame({"user": ["a", "b", "a"], "item": ["i01", "i02", "i03"], "rating": [5, 1, 1], "time": [1, 2, 3]})
    log = toy_frame().assign(rating=5)
    run = graphcl.train("itemknn", log, out="rated", options={"min_rating": np.int64(3)})
    with pytest.warns(UserWarning, match="1 histories hold no item of the log and are left out: 'b'"):
        assert set(run.recommend(histories=frame, k=2)["user"]) == {"a"}
    with pytest.raises(ValueError, match=r"there is no history with an item of the log rated 3 or more$"):
        run.recommend(histories=frame.iloc[1:], k=2)
    with pytest.raises(ValueError, match="row 2 of the history has no user"):
        run.recommend(histories=frame.assign(user=["a", None, "a"], time=[1, 3, 2]))
    own = run.recommend(histories={"a": ["i01"]}, k=2)  # its scores are no ratings
    assert len(run.recommend(histories=own, k=2)) == 2


def test_a_frame_of_histories_goes_by_names(graphcl_, here):
    """Columns with well-known names were once passed over for the first two."""
    assert graphcl_("train itemknn toy.csv --no-floor --out run")[0] == 0
    run = graphcl.load("run")
    expected = run.recommend(histories={"v": ["i01", "i02"]}, k=3)
    frame = pd.DataFrame({"timestamp": [1, 2], "item_id": ["i01", "i02"], "user_id": ["v", "v"]})
    assert run.recommend(histories=frame, k=3).equals(expected)
    assert run.recommend(histories=pd.DataFrame({"who": ["v", "v"], "what": ["i01", "i02"]}), k=3).equals(expected)
    with pytest.raises(
        ValueError, match="a history has a column 'user_id', but none for the item; its columns are user_id, what"
    ):
        run.recommend(histories=pd.DataFrame({"user_id": ["v"], "what": ["i01"]}))
    with pytest.raises(ValueError, match="'user_id' and 'uid' could each be the user; call one of them 'user'"):
        run.recommend(histories=pd.DataFrame({"user_id": ["v"], "uid": ["v"], "item": ["i01"]}))


def test_a_history_is_filtered_as_a_registered_log_was():
    """ml-100k keeps ratings of 4 and 5, which nobody asked for."""
    from graphcl.run import rating_threshold

    assert (
        rating_threshold({"data": "ml-100k", "preset": None})
        == rating_threshold({"data": "ml-100k", "preset": "general/ml-100k"})
        == 4
    )
    assert rating_threshold({"data": "ml-100k", "preset": None, "options": {"min_rating": 2.0}}) == 2
    assert rating_threshold({"data": "gone.csv", "preset": None}) is rating_threshold({"preset": None}) is None


def test_ratios_and_cuts_of_a_split(graphcl_, here):
    assert graphcl_("train popular toy.csv --split random --ratios 0.5,0.5 --protocol refit")[0] == 2  # no validation part
    assert graphcl_("train popular toy.csv --split random --ratios 0.6,0.2,0.2 --out a")[0] == 0
    expected = graphcl.split(graphcl.read_interactions("toy.csv"), rule="random", ratios=(0.6, 0.2, 0.2))
    assert graphcl.load("a").config["fingerprint"] == of_split(expected)
    times = sorted(graphcl.read_interactions("toy.csv").time)
    assert graphcl_(f"train own_history toy.csv --split global_time --cuts {times[40]},{times[80]} --targets all --out b")[0] == 0
    assert "--ratios takes numbers" in one_line(graphcl_("train popular toy.csv --ratios some")[2])


def test_evaluate_gives_the_same_metrics(graphcl_, run):
    code, out, _ = graphcl_("evaluate", run.path, "--json")
    assert code == 0
    assert json.loads(out) == run.result
    code, out, _ = graphcl_("evaluate", run.path)
    told, *lines = out.splitlines()
    assert told == "toy, protocol valid, epoch chosen on validation:"
    assert dict(line.split() for line in lines)["ndcg@20"] == f"{run.result['metrics']['test']['ndcg@20']:.4f}"


def test_what_was_chosen_on_test_says_so_wherever_it_is_shown(graphcl_, tmp_path):
    csv = toy_csv(tmp_path / "toy.csv")
    names = [str(tmp_path / name) for name in ("a", "b")]
    for seed, name in enumerate(names):
        assert graphcl_(f"train lightgcn {csv} --protocol as-published {SMALL} --set num_layers={seed + 1} --out {name}")[0] == 0
    for command in (("evaluate", names[0]), ("compare", *names)):
        _, out, _ = graphcl_(*command)
        assert "BEST EPOCH CHOSEN ON TEST" in out.splitlines()[0]


@pytest.mark.parametrize("other", ["no locator available for file 'x.py'", "something else"])
def test_kernels_that_can_be_kept_nowhere_are_told(graphcl_, run, monkeypatch, other):
    def broken(path):
        raise RuntimeError(f"cannot cache function '_unit': {other}")

    monkeypatch.setattr("graphcl.runs.load", broken)
    if other == "something else":
        with pytest.raises(RuntimeError, match="something else"):
            graphcl_("evaluate", run.path)
        return
    code, _, err = graphcl_("evaluate", run.path)
    assert (code, err.count("\n")) == (1, 1)
    assert "NUMBA_CACHE_DIR" in err


def test_similar(graphcl_, run):
    code, out, _ = graphcl_("similar", run.path, "--item", "i07", "--k", 3, "--json")
    assert code == 0
    assert [row["item"] for row in json.loads(out)] == run.similar("i07", 3)["item"].tolist()
    _, out, _ = graphcl_("similar", run.path, "--item", "i07", "--k", 3)
    assert [line.split()[0] for line in out.splitlines()] == ["item", *run.similar("i07", 3)["item"]]


def test_embed(graphcl_, run, here):
    expected = run.embeddings()
    for name in ("e.npz", "e.parquet", "e.safetensors"):
        code, out, _ = graphcl_("embed", run.path, "--out", name)
        assert (code, out) == (0, f"{name}\n")
    with np.load("e.npz", allow_pickle=False) as found:
        assert "007" in found["user_ids"]
        np.testing.assert_array_equal(found["items"], expected.items)
    frame = pd.read_parquet("e.parquet").set_index("id")["embedding"]
    np.testing.assert_array_equal(frame["007"], expected.users[list(expected.user_ids).index("007")])
    with safe_open("e.safetensors", framework="np") as found:
        np.testing.assert_array_equal(found.get_tensor("users"), expected.users)


def test_compare(graphcl_, run, here):
    """Here three seeds of one method in a folder, and a run."""
    log = run.path.parent / "toy.csv"
    graphcl.train("popular", log, out="same")
    for seed in (0, 1, 2):
        graphcl.train("lightgcn", log, out=f"many/seed{seed}", seed=seed, **{**run.config["settings"], "epochs": 1})
    metrics = ["recall@20", "ndcg@10"]
    line = "compare --metric recall@20 --metric ndcg@10"
    code, out, err = graphcl_(line, run.path, "same", "many", "--json", "--plot", "forest.svg")
    assert (code, err) == (0, "")
    result = json.loads(out)
    assert result == json.loads(json.dumps(compare.compare([run.path, "same", "many"], metrics)))
    assert Path("forest.svg").read_text().startswith("<?xml")
    _, out, err = graphcl_(line, run.path, "same", "many", "--plot", "forest.pdf")
    assert err == "Plot: forest.pdf\n"
    protocol, *told = out.splitlines()
    assert protocol == "protocol valid"
    first = result["comparisons"][0]
    mean = result["runs"][0]["metrics"]["recall@20"]["mean"]
    assert told[0] == f"recall@20 of {NUM_USERS} users; reference {run.path}: {mean:.4f}"
    low, high = first["interval"]
    shown = told[2].split()
    assert shown[:6] == [
        "same", f"{first['mean']:.4f}", f"{first['difference']:+.4f}", f"{first['relative']:+.1%}",
        f"[{low:+.4f},", f"{high:+.4f}]",
    ]  # fmt: skip
    assert shown[8] == f"{first['wins']}/{first['ties']}/{first['losses']}"
    assert "many: no test over seeds: needs 2 seeds of each, there are 3 and 1" in told
    assert told[-1].endswith("corrected over all 4.")
    _, out, _ = graphcl_("compare same many --all-pairs --test permutation")
    assert "permutation over users" in out


def test_what_is_better_of_the_floor_is_told_with_a_command_that_runs(graphcl_, here, monkeypatch):
    frame = pd.read_csv("toy.csv", dtype={"user": str})
    frame.rename(columns={"user": "who", "item": "what of"}).to_csv("own.csv", index=False)
    columns = "--user-col who --item-col 'what of' --split random --ratios .6,.2,.2"
    line = f"train lightgcn own.csv {columns} --protocol refit {SMALL}"
    code, out, err = graphcl_(f"{line} --set select=ndcg@5 --out other")  # which the floor does not have
    assert code == 0, err
    assert "better; settings" not in out
    monkeypatch.setattr(bench, "above", lambda run, floor: [each.result["recipe"] for each in floor[1:3]])
    code, out, err = graphcl_(f"{line} --out run")
    assert code == 0, err
    (told,) = [each for each in out.splitlines() if each.startswith("On validation ")]
    better, command = told.split(" are better; settings of this log are searched for by: graphcl ")
    assert better == "On validation itemknn and ease"
    assert (
        command
        == "tune lightgcn own.csv --protocol refit --user-col who --item-col 'what of' --split random --ratios 0.6,0.2,0.2"
        " --set dim=4 --set batch_size=128 --set evaluate_every=1 --set epochs=2"  # and not what is searched
    )
    code, _, err = graphcl_(f"{command} --trials 1")
    assert code == 0, err


@pytest.mark.parametrize("options", ["--split random --ratios .6,.2,.2", "--split global_time --cuts 300,400"])
def test_the_command_that_tune_prints_splits_as_it_did(graphcl_, here, options):
    recipe = "sasrec" if "cuts" in options else "lightgcn"
    times = sorted(graphcl.read_interactions("toy.csv").time)
    options = options.replace("300,400", f"{times[40]},{times[80]}")
    code, out, err = graphcl_(f"tune {recipe} toy.csv {options} --trials 1 --epochs 1 --set dim=4")
    assert code == 0, err
    command = out.splitlines()[-1].removeprefix("Train with them: graphcl ")
    assert graphcl_(command + " --no-floor --out run")[0] == 0
    made = json.loads(Path("run/config.json").read_text())["options"]
    assert made.get("ratios") == ([0.6, 0.2, 0.2] if recipe == "lightgcn" else None)
    assert made.get("cuts") == (None if recipe == "lightgcn" else [times[40], times[80]])


def test_tune_prints_settings_and_the_command_that_trains_with_them(graphcl_, here):
    line = f"tune lightgcn toy.csv --split random {SMALL.replace('--set learning_rate=0.02', '')} --trials 2 --seed 3 --space eps=1:2"
    code, _, err = graphcl_(line)
    assert code == 2
    assert "unknown setting 'eps' of lightgcn" in one_line(err)
    line = line.replace("eps=1:2", "num_layers=1,2") + " --metric recall@10 --protocol refit"
    code, out, err = graphcl_(line)
    assert code == 0
    assert [told.split()[:2] for told in err.splitlines()] == [["trial", "1/2"], ["trial", "2/2"]]
    best = json.loads(Path("runs/tune-lightgcn-toy/best.json").read_text())
    shown = out.splitlines()
    assert shown[0].startswith(f"Best of 2 trials, validation recall@10 {best['score']:.4f}: learning_rate=")
    assert best["settings"]["dim"] == 4
    assert best["settings"]["num_layers"] in (1, 2)
    # The command, as it is printed, finds the same validation score at the same epoch.
    command = shown[-1].removeprefix("Train with them: graphcl ")
    assert "--split random" in command
    code, out, _ = graphcl_(command + " --no-floor --out run --json")
    result = json.loads(out)
    assert (code, result["best_epoch"], result["seed"], result["protocol"]) == (0, best["best_epoch"], 3, "refit")
    scores = [json.loads(row)["valid"]["recall@10"] for row in Path("run/metrics.jsonl").read_text().splitlines()[:2]]
    assert max(scores) == best["score"]
    # Once more: nothing is left to do.
    code, out, err = graphcl_(line + " --json")
    assert (code, err) == (0, "")
    assert json.loads(out) == {**best, "path": "runs/tune-lightgcn-toy", "command": f"graphcl {command}"}


def test_an_interrupted_search_goes_on(graphcl_, here, monkeypatch):
    def cut(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(tune, "_score", cut)
        code, out, err = graphcl_("tune itemknn toy.csv --trials 2")
    assert (code, out, err) == (130, "", "graphcl: interrupted; the same command goes on\n")
    code, out, _ = graphcl_("tune itemknn toy.csv --trials 2")
    assert (code, out.splitlines()[0].startswith("Best of 2 trials")) == (0, True)


def test_one_recipe_is_explained(graphcl_):
    code, out, _ = graphcl_("recipes sgl")
    lines = out.splitlines()
    assert code == 0
    assert lines[0].startswith("SGL: two graphs")
    assert "drop=ed                         ed, nd, rw; edges, nodes, or another edge drop in every layer" in lines
    assert "num_layers=3" in lines
    assert "patience=10                     evaluations without a better validation score before stopping; 0: never stop" in lines
    assert lines[-1] == "on general/amazon-book: weight=0.5"
    code, out, _ = graphcl_("recipes xsimgcl --json")
    assert json.loads(out).keys() == {"xsimgcl"}
    code, _, err = graphcl_("recipes sgcl")
    assert (code, err.startswith("graphcl: unknown recipe 'sgcl'; did you mean")) == (2, True)


def test_version(graphcl_):
    assert graphcl_("--version")[:2] == (0, importlib.metadata.version("graphcl") + "\n")


def test_recipes(graphcl_):
    code, out, _ = graphcl_("recipes --json")
    found = json.loads(out)
    assert code == 0
    assert found["xsimgcl"]["settings"]["eps"] == 0.2
    assert found["lightgcn"]["about"].startswith("LightGCN")
    _, out, _ = graphcl_("recipes")
    assert [line.split()[0] for line in out.splitlines() if not line.startswith(" ")] == list(found)


def test_protocols(graphcl_):
    code, out, _ = graphcl_("protocols --json")
    found = json.loads(out)
    assert (code, list(found)) == (0, list(PROTOCOLS))
    assert found["recbole"]["masks"] == ["train", "valid"]
    assert found["recbole"]["select"] == "mrr@10"
    _, out, _ = graphcl_("protocols")
    assert (
        out.splitlines()[2 * list(PROTOCOLS).index("lightgcnpp")] == "lightgcnpp      select on validation; train masked at test"
    )
    _, out, _ = graphcl_("train --help")
    *most, last = PROTOCOLS
    assert f"{','.join(most)}or{last};seegraphclprotocols." in "".join(out.split())  # lines break at hyphens too


def test_bench(graphcl_, here):
    Path("benchmarks/configs").mkdir(parents=True)
    config = {"recipe": "popular", "data": "toy.csv", "protocol": "valid", "seeds": [0]}
    Path("benchmarks/configs/toy.json").write_text(json.dumps(config))
    code, out, _ = graphcl_("bench toy")
    assert code == 0
    assert json.loads(out) == json.loads(Path("benchmarks/results/toy.json").read_text())["summary"]


# --- bad input --------------------------------------------------------------------------------------------------------------

LOG = toy_frame().to_csv(index=False)
BAD_LOGS = {
    "cut.csv.gz": (gzip.compress(LOG.encode())[:-40], "cut.csv.gz: the gzip file is truncated"),
    "junk.csv": (bytes(range(256)) * 4, "junk.csv: not a text file"),
    "empty.csv": (b"", "empty.csv: the file is empty"),
    "header.csv": (b"user,item,rating\n", "header.csv: a header and no rows"),
    "delimiter.csv": (
        LOG.replace(",", ";").replace("user;item;", "user,item,").encode(),
        "delimiter.csv:2: 1 fields where line 1 has 3",
    ),
    "nan.csv": (b"user,item,rating\na,x,4\na,y,nan\nb,x,3\n", "nan.csv:3: the rating nan is not a finite number"),
    "rating.csv": (b"user,item,rating\na,x,4\na,y,good\nb,x,3\n", "rating.csv:3: the rating good is not a finite number"),
    "time.csv": (b"user,item,timestamp\na,x,4\na,y,soon\nb,x,3\n", "time.csv:3: the time soon is not a finite number"),
    "id.csv": (b"user,item,rating\na,x,4\n,y,3\nb,x,3\n", "id.csv:3: the user id is empty"),
    "single.csv": (b"user,item\na,x\na,y\na,z\n", "single: only one user"),
    "short.csv": (b"user,item\na,x\nb,y\nc,z\n", "short: split rule 'random' leaves no test rows out of 3"),
}


@pytest.mark.parametrize("name", list(BAD_LOGS))
def test_a_bad_log_is_one_line(graphcl_, here, name):
    data, told = BAD_LOGS[name]
    Path(name).write_bytes(data)
    code, out, err = graphcl_("train popular", name, "--out", "run")
    assert (code, out) == (2, "")
    assert told in one_line(err)
    assert not Path("run").exists()


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("train popular nope.csv", "nope.csv: no such file"),
        ("train popular acm", "hetero/acm is a graph of labelled nodes, but a log of interactions is needed here"),
        ("data describe acm --k-core 5", "acm is a graph of labelled nodes; k_core cannot be set for it"),
        ("train popular gowala", "unknown data set 'gowala'; did you mean 'gowalla'?"),
        ("train popular toy.csv --user-col who", "toy.csv: no column 'who' for the user; the columns are: user, item, timestamp"),
        ("train popular toy.csv --split tmporal", "unknown split rule 'tmporal'; did you mean 'temporal'?"),
        ("train popular toy.csv --min-rating 3", "min_rating=3.0 needs a rating column"),
        ("train meow toy.csv", "toy.csv: is a file; a heterogeneous graph is a folder"),
        (
            "train popular toy.csv --num-clusters 3",
            "the option num_clusters is for attributed graphs and cannot be set for a log",
        ),
        ("train popullar toy.csv", "unknown recipe 'popullar'; did you mean 'popular'?"),
        ("train ./mine.py toy.csv", "unknown recipe './mine.py'"),
        ("train popular toy.csv --protocol refti", "unknown protocol 'refti'; did you mean 'refit'?"),
        ("train popular toy.csv --device tpu", "--device must be auto, cpu or cuda, got 'tpu'"),
        ("train popular toy.csv --seed x", "Invalid value for '--seed'"),
        ("train popular toy.csv --sed 1", "No such option: --sed"),
        ("data convert toy.csv --out toy.csv", "--out is the file that is read, toy.csv; write to another"),
        ("train lightgcn toy.csv --set dimm=8", "unknown setting 'dimm' of lightgcn; did you mean 'dim'?"),
        ("train lightgcn toy.csv --set dim=wide", "setting 'dim' must be int, got 'wide'"),
        ("train lightgcn toy.csv --set dim", "--set takes KEY=VALUE, got 'dim'"),
        ("train lightgcn toy.csv --set seed=3", "--set is for settings of the recipe, and 'seed' is none"),
        ("train lightgcn toy.csv --set select=ndgc@20", "no metric is called 'ndgc': did you mean 'ndcg'?"),
        ("train lightgcn toy.csv --set select=ndcg", "'ndcg' is not a metric: write name@K"),
        ("train lightgcn toy.csv --set evaluate_every=0", "setting 'evaluate_every' must be 1 or more"),
        ("train lightgcn toy.csv --config none.json", "none.json: No such file"),
        ("train lightgcn toy.csv --config broken.json", "broken.json:2: not JSON"),
        ("train lightgcn toy.csv --config list.json", "list.json: a JSON object of settings is needed"),
        ("train lightgcn toy.csv --config sgl.json", "sgl.json holds settings of 'sgl', not of 'lightgcn'"),
        ("train lightgcn toy.csv --config typo.json", "unknown setting 'dimm'"),
        ("train lightgcn toy.csv --config .", ".: Is a directory"),
        ("train popular toy.csv --out .", ". exists and is not a run; choose another --out"),
        ("train popular toy.csv --out toy.csv", "toy.csv exists and is not a run"),
        ("train popular toy.csv --resume", "resume needs the run's directory (--out DIR)"),
        ("data synth --users 9 --items 9 --interactions 5 --out s.csv", "interactions must lie in 9..36"),
        ("data synth --users 9 --items 9 --interactions 9 --out s.npz", "s.npz: a made-up log is written as .csv or .parquet"),
        ("data synth --users 9 --items 9 --out s.csv", "Missing option '--interactions'"),
        ("evaluate nowhere", "there is no run at nowhere"),
        ("evaluate .", "is not a complete run: config.json is missing"),
        ("compare RUN", "compare needs two runs or more"),
        ("compare RUN RUN", "run is given twice"),
        ("compare RUN nowhere", "there is no run at nowhere"),
        ("compare RUN .", ". is neither a run nor a folder of runs seed0, seed1, ..."),
        ("compare RUN RUN --metric ndgc@20", "did you mean 'ndcg'?"),
        ("compare RUN RUN --test wilcoxn", "unknown test 'wilcoxn'; did you mean 'wilcoxon'?"),
        ("compare RUN RUN --plot forest.jpg", "a plot is written as .png, .svg, .pdf, not as 'forest.jpg'"),
        ("tune itemknn toy.csv --trials 0", "trials must be 1 or more, got 0"),
        ("tune itemknn toy.csv --trials 2 --protocol as-published", "protocol 'as-published' has none"),
        ("tune itemknn toy.csv --trials 2 --space shrink", "--space takes KEY=LOW:HIGH, KEY=LOW:HIGH:log or KEY=a,b,c"),
        ("tune itemknn toy.csv --trials 2 --space shrink=3:1", "the range of 'shrink' must go from low to high"),
        ("tune itemknn toy.csv --trials 2 --set timeout=3", "--set is for settings of the recipe, and 'timeout' is none"),
        ("tune itemknn nope.csv --trials 2", "nope.csv: no such file"),
        ("tune popular toy.csv --trials 2", "nothing of popular is left to search"),
        ("recommend RUN", "Missing option '--out'"),
        ("recommend RUN --out r.xls", "--out must end in .parquet, .csv or .jsonl, got 'r.xls'"),
        ("recommend RUN --out r.csv --k 0", "k must be at least 1, got 0"),
        ("recommend RUN --out r.csv --users users.txt", "2 users are not in the log: '7', 'ann'; for people who are not in it"),
        ("recommend RUN --out r.csv --users none.txt", "none.txt: no such file"),
        ("recommend RUN --out r.csv --users empty.txt", "empty.txt: the file is empty"),
        ("recommend RUN --out r.csv --history strange.csv", "there is no history with an item of the log"),
        ("recommend RUN --out r.csv --history strange.csv --users users.txt", "--users and --history exclude each other"),
        ("recommend RUN --out toy.csv/r.csv", "toy.csv: "),
        ("similar RUN --item i7", "1 item is not in the log: 'i7'"),
        ("embed RUN --out e.pkl", "embeddings are written as .npz, .parquet, .safetensors, not as 'e.pkl'"),
        ("bench nowhere", "no benchmark 'nowhere'"),
    ],
)
def test_a_mistake_is_one_line(graphcl_, run, here, line, told):
    Path("broken.json").write_text('{"dim": 8,\n')
    Path("list.json").write_text("[8]")
    Path("sgl.json").write_text('{"recipe": "sgl", "settings": {"dim": 8}}')
    Path("typo.json").write_text('{"dimm": 8}')
    Path("users.txt").write_text("007\n7\nann\n")
    Path("empty.txt").touch()
    Path("strange.csv").write_text("user,item\nx,strange\n")
    before = sorted(os.listdir())
    code, out, err = graphcl_(line.replace("RUN", shlex.quote(str(run.path))))
    assert (code, out) == (2, "")
    assert told in one_line(err)
    assert sorted(os.listdir()) == before


def test_synth_writes_a_log_that_can_be_described(graphcl_, here):
    line = "data synth --users 30 --items 40 --interactions 300 --communities 4 --seed 3 --out made.parquet"
    assert graphcl_(line)[:2] == (0, "300 rows: made.parquet\n")
    code, out, _ = graphcl_("data describe made.parquet --json")
    found = json.loads(out)
    assert (code, found["rows"], found["pairs"], found["users"]) == (0, 300, 300, 30)


def test_a_graph_of_labelled_nodes_is_described(graphcl_, here):
    folder = Path("graph")
    folder.mkdir()
    (folder / "pa.txt").write_text("0 0\n1 0\n2 1\n")
    (folder / "pap.npz").touch()
    np.save(folder / "labels.npy", np.array([0, 0, 1]))
    code, out, _ = graphcl_("data describe graph --json")
    found = json.loads(out)
    assert (code, found["target"], found["relations"], found["metapaths"]) == (
        0, "P", {"P-A": 3}, {"PAP": {"pairs": 5, "instances": 5}},
    )  # fmt: skip
    code, out, _ = graphcl_("data describe graph")
    assert code == 0
    assert "follow_ids" in out
    assert "hetero/acm" in graphcl_("data list")[1]


def test_no_arguments_show_the_help(graphcl_):
    for line in ("", "data"):
        code, out, err = graphcl_(line)
        assert (code, out) == (2, "")
        assert err.startswith("Usage: ")


def test_other_data_under_the_same_name(graphcl_, here):
    graphcl_("train popular toy.csv --out run")
    before = {path: path.read_bytes() for path in Path("run").iterdir()}
    toy_csv(Path("toy.csv"), seed=1)
    code, _, err = graphcl_("train popular toy.csv --out run --resume")
    assert code == 2
    assert "run was trained on other data than 'toy' as it is now" in one_line(err)
    assert {path: path.read_bytes() for path in Path("run").iterdir()} == before


# --- interruptions ----------------------------------------------------------------------------------------------------------


def resumed_by(err):
    """The command that the last line of stderr tells."""
    told = err.splitlines()[-1]
    assert told.startswith("graphcl: ")
    assert "Traceback" not in err
    reason, _, command = told.removeprefix("graphcl: ").partition("; go on with: graphcl ")
    return reason, command


def test_a_full_disk_says_how_to_go_on(graphcl_, run, here, monkeypatch):
    left = iter([True, True])

    def save_file(*arguments, **named):
        if not next(left, False):
            raise OSError(errno.ENOSPC, "No space left on device")
        return whole(*arguments, **named)

    whole = rundir.save_file
    with monkeypatch.context() as patched:
        patched.setattr(rundir, "save_file", save_file)
        code, out, err = graphcl_(f"train lightgcn toy.csv {SMALL} --out 'my run' --no-floor")
    assert (code, out) == (1, "")
    reason, command = resumed_by(err)
    assert reason == "my run/checkpoint.safetensors could not be written: No space left on device"
    code, _, err = graphcl_(command)
    assert code == 0
    assert [line.split()[1] for line in err.splitlines()] == ["2"]  # epoch 1 was kept
    assert graphcl.load("my run").result["metrics"] == run.result["metrics"]
    assert Path("my run/model.safetensors").read_bytes() == (run.path / "model.safetensors").read_bytes()


def test_an_interrupted_floor_says_how_to_go_on(graphcl_, here, monkeypatch):
    def floor(*arguments, **named):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(bench, "floor", floor)
        code, _, err = graphcl_(f"train lightgcn toy.csv {SMALL}")
    assert code == 130
    reason, command = resumed_by(err)
    assert reason == "interrupted"
    code, out, err = graphcl_(command)
    assert (code, err) == (0, "")  # nothing is trained again
    assert out.splitlines()[-1] == "Run: runs/lightgcn-toy-seed0"
    assert "ease" in out


def test_other_verbs_are_interrupted_in_one_line(graphcl_, run, monkeypatch):
    def load(path):
        raise KeyboardInterrupt

    monkeypatch.setattr(runs, "load", load)
    assert graphcl_("evaluate", run.path) == (130, "", "graphcl: interrupted\n")


SLOW = '''"""LightGCN that takes its time, where it is told to."""
import os, time
from graphcl.recipes.lightgcn import KIND, Config, build
from graphcl.train import PlainStep

class Slow(PlainStep):
    def __call__(self, *arguments):
        time.sleep(float(os.environ.get("SLOW", 0)))
        return super().__call__(*arguments)

def step(config, model):
    return Slow(model, config.learning_rate)
'''


@pytest.mark.slow
def test_ctrl_c_leaves_a_run_that_goes_on(graphcl_, here):
    Path("slow").mkdir()
    Path("slow/recipe.py").write_text(SLOW)
    line = f"train slow.recipe toy.csv {SMALL} --no-floor --epochs 9"
    # Whatever started the tests may have told its children to ignore the signal.
    program = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); from graphcl.cli import main; main()"
    process = subprocess.Popen(
        [sys.executable, "-c", program, *shlex.split(line)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, "SLOW": "0.2"},
    )  # fmt: skip
    assert process.stderr is not None
    for told in process.stderr:
        if told.startswith("epoch 2 "):
            process.send_signal(signal.SIGINT)
            break
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (130, "")
    reason, command = resumed_by(err)
    assert reason == "interrupted"
    assert shlex.split(command)[-3:] == ["--out", "runs/slow.recipe-toy-seed0", "--resume"]

    code, _, err = graphcl_(command)
    assert code == 0
    trained = [int(told.split()[1]) for told in err.splitlines()]
    assert trained == list(range(trained[0], 10))  # from where it was, to the end
    assert trained[0] > 2
    graphcl_(f"{line} --out whole")
    first, whole = graphcl.load("runs/slow.recipe-toy-seed0"), graphcl.load("whole")
    assert first.result["metrics"] == whole.result["metrics"]
    assert (first.path / "model.safetensors").read_bytes() == (whole.path / "model.safetensors").read_bytes()
