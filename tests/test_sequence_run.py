"""Runs on sequences: what chooses the epoch, what is kept, and what is recommended to whom."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

import graphcl
from graphcl import bench, cli, runs, sequence_run
from graphcl.compare import compare
from graphcl.data.sequences import load_sequences
from graphcl.sequence_run import SequenceRun

FAST = {"epochs": 6, "learning_rate": 0.1, "batch_size": 40, "max_length": 5}
ITEMS = [f"i{n:02d}" for n in range(12)]


def frame(seed=0, users=40) -> pd.DataFrame:
    """Walks over twelve items in a circle, two steps now and then; text ids, times."""
    rng = np.random.default_rng(seed)
    rows = []
    for user in range(users):
        place = rng.integers(12)
        for time in range(rng.integers(5, 10)):
            rows.append((f"{user:03d}", ITEMS[place], 100 * user + time))
            place = (place + rng.choice([1, 1, 1, 2])) % 12
    return pd.DataFrame(rows, columns=["user", "item", "time"]).sample(frac=1, random_state=0)


def trained(path, recipe="tests.transitions", data=None, **changes) -> SequenceRun:
    run = graphcl.train(recipe, frame() if data is None else data, out=path, **{**(FAST if "." in recipe else {}), **changes})
    assert isinstance(run, SequenceRun)
    return run


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> SequenceRun:
    return trained(tmp_path_factory.mktemp("sequence") / "run")


def lines(run) -> list[dict]:
    return [json.loads(line) for line in (run.path / "metrics.jsonl").read_text().splitlines()]


def test_a_run_holds_every_part_twice(run):
    metrics = run.result["metrics"]
    lie = metrics["embedding"]
    assert set(metrics) == {"test", "test_masked", "valid", "valid_masked", "embedding"}
    wanted = {f"{name}@{k}" for name in ("hr", "ndcg", "mrr") for k in (5, 10, 20)}
    assert all(set(part) == wanted for part in metrics.values() if part is not lie)
    table = torch.from_numpy(run.embeddings().items)
    values = torch.linalg.svdvals(table.double())
    shares = values / values.sum()
    assert lie["effective_rank"] == pytest.approx(float((-shares * shares.log()).sum().exp()), rel=1e-6)
    rows = torch.nn.functional.normalize(table.double(), dim=1)
    apart = torch.pdist(rows).square()
    assert lie["uniformity_item"] == pytest.approx(float((-2 * apart).exp().mean().log()), rel=1e-5)
    assert metrics["test"]["hr@5"] > 0.9  # a circle is easily learned
    again = runs.load(run.path)
    assert isinstance(again, SequenceRun)
    assert again.evaluate() == {part: metrics[part] for part in ("test", "test_masked")}
    assert run.result["steps"] == lines(run)[-1]["steps"] > 6


@pytest.mark.parametrize(("seen", "part"), [("keep", "valid"), ("mask", "valid_masked")])
def test_validation_chooses_the_epoch(tmp_path, seen, part):
    found = trained(tmp_path / "a", seen=seen, select="mrr@1", epochs=30, patience=4, learning_rate=0.3)
    scores = [line[part]["mrr@1"] for line in lines(found)]
    best = int(np.argmax(scores)) + 1
    assert found.result["best_epoch"] == best
    assert found.result["epochs"] == min(30, best + 4)
    assert found.result["metrics"][part]["mrr@1"] == max(scores)  # its weights are kept
    assert found.result["selected_on"] == "valid"
    assert all("test" not in line for line in lines(found))


def test_training_sees_no_held_out_item(tmp_path):
    """Two logs that differ in held-out items alone give the same weights after an epoch."""
    made = load_sequences(frame())
    held = torch.cat([made.valid.places, made.test.places])
    items = made.log.items.index_fill(0, held, 0)
    log = replace(made.log, items=items)
    other = replace(made, log=log, valid=replace(made.valid, log=log), test=replace(made.test, log=log))
    one, two = (trained(tmp_path / name, data=data, epochs=1) for name, data in (("a", made), ("b", other)))
    assert one.scorer.table.equal(two.scorer.table)
    assert one.result["metrics"]["test"] != two.result["metrics"]["test"]


def test_a_resumed_run_is_the_same(tmp_path):
    whole = trained(tmp_path / "whole")

    def stops(kind, what):
        if kind == "epoch" and what["epoch"] == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        trained(tmp_path / "cut", observe=stops)
    with pytest.raises(ValueError, match="has not finished"):
        _ = SequenceRun(tmp_path / "cut").result
    resumed = trained(tmp_path / "cut", resume=True)
    assert resumed.scorer.table.equal(whole.scorer.table)
    assert resumed.result["metrics"] == whole.result["metrics"]
    untimed = [{k: v for k, v in line.items() if k not in ("seconds", "elapsed")} for line in lines(resumed)]
    assert untimed == [{k: v for k, v in line.items() if k not in ("seconds", "elapsed")} for line in lines(whole)]
    trained(tmp_path / "less", epochs=2)
    assert trained(tmp_path / "less", resume=True).scorer.table.equal(whole.scorer.table)
    with pytest.raises(ValueError, match="other settings"):
        trained(tmp_path / "cut", resume=True, noise=0.2)
    with pytest.raises(ValueError, match="was trained on other data"):
        trained(tmp_path / "cut", resume=True, data=frame(1))


def test_a_run_that_read_a_file_needs_it_no_more_and_goes_on_with_no_other(tmp_path):
    rows = load_sequences(frame()).log.num_items
    rng = np.random.default_rng(0)
    np.save(tmp_path / "meaning.npy", rng.normal(size=(rows, 3)))
    settings = {
        "item_embeddings": str(tmp_path / "meaning.npy"),
        "num_neighbours": 2,
        "dim": 8,
        "batch_size": 32,
        "max_length": 5,
    }

    def stops(kind, what):
        if kind == "epoch" and what["epoch"] == 1:
            raise KeyboardInterrupt

    def trained_on_it(**more):
        return graphcl.train("sracl", frame(), out=tmp_path / "run", epochs=2, **settings, **more)

    with pytest.raises(KeyboardInterrupt):
        trained_on_it(observe=stops)
    kept = (tmp_path / "meaning.npy").read_bytes()
    np.save(tmp_path / "meaning.npy", rng.normal(size=(rows, 3)))
    with pytest.raises(ValueError, match="was trained with another file of item_embeddings than it is now"):
        trained_on_it(resume=True)
    (tmp_path / "meaning.npy").write_bytes(kept)
    run = trained_on_it(resume=True)
    (tmp_path / "meaning.npy").unlink()
    found = graphcl.load(run.path)
    assert found.evaluate()["test"] == pytest.approx(run.result["metrics"]["test"])
    assert len(found.recommend(k=3)) > 0


def test_training_tensors_are_not_written(tmp_path):
    made = load_sequences(frame())
    before = [t.clone() for t in (made.log.items, made.train.items, made.train.pointers)]
    trained(tmp_path / "a", data=made)
    assert all(a.equal(b) for a, b in zip(before, (made.log.items, made.train.items, made.train.pointers), strict=True))


# --- use --------------------------------------------------------------------------------------------------------------------


def history_of(user: str) -> list[str]:
    rows = frame()
    return rows[rows["user"] == user].sort_values("time")["item"].tolist()


def scores_after(run, item: str) -> dict[str, float]:
    ids = run.split.log.item_ids
    return dict(zip(ids.ids, run.scorer.table.detach()[int(ids.rows([item])[0])].tolist(), strict=True))


def test_known_users_are_recommended_from_their_whole_history(run):
    found = run.recommend(users=["007", "003"], k=4)
    assert found["user"].unique().tolist() == ["007", "003"]
    for user in ("007", "003"):
        history = history_of(user)
        scores = {item: score for item, score in scores_after(run, history[-1]).items() if item not in history}
        mine = found[found["user"] == user]
        assert mine["item"].tolist() == sorted(scores, key=lambda item: -scores[item])[:4]
        assert mine["score"].tolist() == pytest.approx(sorted(scores.values())[::-1][:4])
        assert mine["rank"].tolist() == list(range(1, len(mine) + 1))
    assert set(run.recommend(k=1)["user"]) == set(frame()["user"])


def test_anybody_is_recommended_from_a_given_history(run):
    found = run.recommend(histories={"visitor": ["i03", "i05"], "007": ["i05", "i03"]}, k=12, exclude_seen=False)
    for user, last in (("visitor", "i05"), ("007", "i03")):  # the order counts, and 007's own history plays no part
        scores = scores_after(run, last)
        assert found[found["user"] == user]["item"].tolist() == sorted(scores, key=lambda item: -scores[item])
    table = pd.DataFrame({"who": [5, 6, 5], "what": ["i03", "i01", "i05"]})
    by_frame = run.recommend(histories=table, k=10)
    assert by_frame["user"].tolist() == [5] * 10 + [6] * 10
    assert not set(by_frame[by_frame["user"] == 5]["item"]) & {"i03", "i05"}
    assert by_frame[by_frame["user"] == 5]["item"].tolist() == run.recommend(histories={0: ["i03", "i05"]}, k=10)["item"].tolist()


@pytest.mark.parametrize("times", [[30, 10, 20], ["30", "9", "20"], ["2024-03-01", "2024-01-01", "2024-02-01"]])
@pytest.mark.parametrize("name", ["time", "timestamp"])
def test_a_table_of_histories_is_in_order_of_time(run, name, times):
    table = pd.DataFrame({"user": "v", "item": ["i03", "i01", "i02"], name: times})
    found = run.recommend(histories=table, k=5)
    assert found.equals(run.recommend(histories={"v": ["i01", "i02", "i03"]}, k=5))
    table[name] = [times[0], None, times[2]]
    with pytest.raises(ValueError, match="row 2 of the history: the time is missing"):
        run.recommend(histories=table)


def test_one_long_history_fills_no_others(tmp_path, monkeypatch):
    run = trained(tmp_path / "a", "own_history")
    monkeypatch.setattr(sequence_run, "TILE_CPU", 40)
    shapes = []
    score = run.scorer.score
    monkeypatch.setattr(run.scorer, "score", lambda items, lengths: shapes.append(items.shape) or score(items, lengths))
    given = {user: [ITEMS[(user + n) % 12] for n in range(30 if user == 3 else 2)] for user in range(6)}
    found = run.recommend(histories=given, k=3, exclude_seen=False)
    assert max(count * width for count, width in shapes) <= 40
    one = pd.concat([run.recommend(histories={user: its}, k=3, exclude_seen=False) for user, its in given.items()])
    assert found["item"].tolist() == one["item"].tolist()


def test_only_the_last_items_of_a_history_are_scored_but_all_are_left_out(run, monkeypatch):
    widths, score = [], run.scorer.score
    monkeypatch.setattr(run.scorer, "score", lambda items, lengths: widths.append(items.shape[1]) or score(items, lengths))
    long = [ITEMS[n % 12] for n in range(9)]
    assert set(run.recommend(histories={0: long}, k=12)["item"]) == set(ITEMS) - set(long)
    assert max(widths) == FAST["max_length"] < len(long)


def test_item_vectors(run):
    made = run.embeddings()
    assert made.items.shape == (12, 12)
    assert made.item_ids is run.split.log.item_ids.ids
    near = run.similar("i04", k=3)
    table = torch.nn.functional.normalize(run.scorer.table.detach(), dim=1)
    row = int(run.split.log.item_ids.rows(["i04"])[0])
    cosine = (table @ table[row]).tolist()
    wanted = sorted((n for n in range(12) if n != row), key=lambda n: -cosine[n])[:3]
    assert near["item"].tolist() == made.item_ids[wanted].tolist()


def test_the_floor_has_no_vectors(tmp_path):
    run = trained(tmp_path / "a", "own_history")
    assert run.result["epochs"] == 0
    assert run.result["selected_on"] is None
    with pytest.raises(ValueError, match="own_history has no item vectors"):
        run.embeddings()
    assert run.similar("i04", k=2)["item"].tolist() == run.recommend(histories={0: ["i04"]}, k=2)["item"].tolist()
    assert run.recommend(histories={0: ["i04", "i07"]}, k=2, exclude_seen=False)["item"].tolist() == ["i07", "i04"]


def test_whole_numbers_stay_whole_numbers(tmp_path):
    data = frame().assign(user=lambda f: f["user"].astype(int), item=lambda f: f["item"].str[1:].astype(int))
    found = trained(tmp_path / "a", "popular_items", data).recommend(users=[7], k=2)
    assert found["user"].dtype.kind == found["item"].dtype.kind == "i"


def test_global_time_and_several_targets_a_user(tmp_path):
    made = trained(tmp_path / "a", options={"rule": "global_time", "targets": "all"})
    table = pd.read_parquet(made.path / "per_user.parquet")
    assert table["user"].is_unique
    assert len(table) == len(made.split.test.users.unique()) < len(made.split.test)
    assert table["ndcg@10"].mean() == pytest.approx(made.result["metrics"]["test"]["ndcg@10"])
    assert table["ndcg@10/masked"].mean() == pytest.approx(made.result["metrics"]["test_masked"]["ndcg@10"])


def test_all_trains_on_every_row_for_the_epochs_given(tmp_path):
    made = trained(tmp_path / "a", protocol="all", epochs=3)
    assert len(made.split.train.items) == len(frame())
    assert (list(made.result["metrics"]), made.result["best_epoch"], made.result["selected_on"]) == (["embedding"], 3, None)
    assert made.recommend(users=["001"], k=1)["rank"].tolist() == [1]
    with pytest.raises(ValueError, match="leaves no test part"):
        made.evaluate()


def test_runs_compare(run, tmp_path):
    floor = trained(tmp_path / "floor", "popular_items")
    found = compare([floor.path, run.path], ["ndcg@10", "ndcg@10/masked"], samples=99)
    for entry, key in zip(found["comparisons"], ("test", "test_masked"), strict=True):
        assert entry["mean"] == pytest.approx(run.result["metrics"][key]["ndcg@10"])
        assert entry["users"] == 40


def test_a_benchmark_keeps_both(tmp_path):
    frame().to_csv(tmp_path / "log.csv", index=False)
    config = {
        "recipe": "tests.transitions",
        "data": str(tmp_path / "log.csv"),
        "protocol": "valid",
        "seeds": [0, 1],
        "settings": FAST,
    }
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "toy.json").write_text(json.dumps(config))
    result = bench.run("toy", root=tmp_path)
    seeds = [seed["metrics"] for seed in result["seeds"]]
    for key, part in (("ndcg@10", "test"), ("ndcg@10/masked", "test_masked"), ("hr@20", "test")):
        values = [metrics[part][key.partition("/")[0]] for metrics in seeds]
        assert result["summary"][key]["mean"] == pytest.approx(np.mean(values))
        assert result["summary"][key]["std"] == pytest.approx(np.std(values, ddof=1))
    assert result["seeds"][0]["curve"][-1].keys() >= {"hr@10", "ndcg@10", "epoch", "seconds"}


# --- what is refused --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"protocol": "refit"}, "protocol 'refit' is for users and items without order; sequences have valid and all"),
        ({"select": "recall@10"}, "cannot select on 'recall@10'; sequences have hr, ndcg, mrr"),
        ({"select": "ndcg"}, "is not a metric"),
        ({"max_length": 0}, "max_length must be 1 or more, got 0"),
        ({"batch_size": 0}, "batch_size must be 1 or more, got 0"),
        ({"evaluate_every": 0}, "'evaluate_every' must be 1 or more"),
        ({"seen": "hide"}, "setting 'seen' must be one of keep, mask, got 'hide'"),
        ({"widht": 3}, "unknown setting 'widht'"),
        ({"options": {"rule": "all"}}, "split rule 'all' left no such part"),
        ({"options": {"rule": "global_time", "ratios": (0.8, 0.2)}}, "left no such part"),
    ],
)
def test_a_refused_run_leaves_no_directory(tmp_path, changes, told):
    with pytest.raises(ValueError, match=told):
        trained(tmp_path / "a", **changes)
    assert not (tmp_path / "a").exists()


def test_histories_by_the_columns_of_training(tmp_path, capsys, monkeypatch):
    """In order of the run's time column; a table with other names goes by those, or by names that are given."""
    monkeypatch.chdir(tmp_path)
    named = frame().rename(columns={"user": "who", "item": "what", "time": "at"})
    named.to_csv("log.csv", index=False)

    def called(*arguments):
        monkeypatch.setattr("sys.argv", ["graphcl", *arguments])
        with pytest.raises(SystemExit) as stopped:
            cli.main()
        assert not stopped.value.code, capsys.readouterr().err

    columns = ("--user-col", "who", "--item-col", "what", "--time-col", "at")
    called("train", "own_history", "log.csv", *columns, "--no-floor", "--out", "run")
    for header, given in (
        ("who,what,at", ()),
        ("user,item,time", ()),
        ("a,b,c", ("--user-col", "a", "--item-col", "b", "--time-col", "c")),
    ):
        (tmp_path / "visits.csv").write_text(f"{header}\nv,i04,2\nv,i03,1\n")
        called("recommend", "run", "--history", "visits.csv", *given, "--include-seen", "--k", "2", "--out", "next.csv")
        assert pd.read_csv("next.csv")["item"].tolist() == ["i04", "i03"]  # the newest first
    (tmp_path / "visits.csv").write_text("who,what\nv,i04\nv,i03\n")  # without times: in the order given
    called("recommend", "run", "--history", "visits.csv", "--include-seen", "--k", "2", "--out", "next.csv")
    assert pd.read_csv("next.csv")["item"].tolist() == ["i03", "i04"]


def test_a_fault_in_the_table_of_histories_is_told(tmp_path, monkeypatch, capsys):
    """Without the time column, or without any names, a table may be read in which a time or an id is missing."""
    monkeypatch.chdir(tmp_path)
    frame().rename(columns={"user": "who", "item": "what", "time": "at"}).to_csv("log.csv", index=False)
    monkeypatch.setattr(
        "sys.argv",
        [
            "graphcl",
            "train",
            "own_history",
            "log.csv",
            "--user-col",
            "who",
            "--item-col",
            "what",
            "--time-col",
            "at",
            "--no-floor",
            "--out",
            "run",
        ],
    )
    with pytest.raises(SystemExit):
        cli.main()
    capsys.readouterr()
    for row, told in (("v,i03,", "the time is missing"), ("v,,1", "the item id is empty")):
        (tmp_path / "visits.csv").write_text(f"who,what,at\nv,i04,2\n{row}\n")
        monkeypatch.setattr("sys.argv", ["graphcl", "recommend", "run", "--history", "visits.csv", "--out", "next.csv"])
        with pytest.raises(SystemExit) as stopped:
            cli.main()
        assert stopped.value.code
        assert f"visits.csv:3: {told}" in capsys.readouterr().err


def test_refused_recommendations(run):
    with pytest.raises(ValueError, match="1 user is not in the log: 'nobody'; for people who are not in it, give their items"):
        run.recommend(users=["nobody"])
    with pytest.raises(ValueError, match="give users or histories, not both"):
        run.recommend(users=["001"], histories={0: ["i01"]})
    with pytest.raises(ValueError, match="there is no history with an item of the log"):
        run.recommend(histories={0: [], 1: ["x"]})
    with pytest.raises(ValueError, match="users must be a list of ids, got the text '001'"):
        run.recommend(users="001")
    with pytest.warns(UserWarning, match="1 histories hold no item of the log and are left out: 1"):
        assert set(run.recommend(histories={0: ["i01"], 1: ["x"]}, k=3)["user"]) == {0}
    with pytest.warns(UserWarning, match="1 of 2 items of the histories are not in the log"):
        assert len(run.recommend(histories={0: ["i01", "x"]}, k=3)) == 3
    with pytest.raises(ValueError, match="k must be at least 1"):
        run.recommend(k=0)
    with pytest.raises(ValueError, match="1 item is not in the log"):
        run.similar("x")


def test_weights_of_another_recipe(run, tmp_path):
    import shutil

    shutil.copytree(run.path, tmp_path / "a")
    from graphcl import rundir

    rundir.write_tensors(tmp_path / "a" / "model.safetensors", {"other": torch.zeros(1)})
    with pytest.raises(ValueError, match="the weights do not fit the recipe"):
        _ = SequenceRun(tmp_path / "a").scorer


def test_command_line(tmp_path, capsys, monkeypatch):
    from graphcl import cli

    monkeypatch.chdir(tmp_path)
    frame().to_csv("log.csv", index=False)
    pd.DataFrame({"user": ["x", "x", "y"], "item": ["i05", "i03", "i01"], "time": [2, 1, 1]}).to_csv("new.csv", index=False)

    def called(*words) -> str:
        monkeypatch.setattr("sys.argv", ["graphcl", *map(str, words)])
        with pytest.raises(SystemExit) as stop:
            cli.main()
        out = capsys.readouterr()
        assert stop.value.code in (0, None), out.err
        return out.out

    sets = [word for key, value in FAST.items() for word in ("--set", f"{key}={value}")]
    result = json.loads(called("train", "tests.transitions", "log.csv", "--out", "run", "--json", *sets).splitlines()[-1])
    assert set(result["floor"]) == set(result["floor_masked"]) == {"popular_items", "own_history"}
    assert json.loads(called("evaluate", "run", "--json"))["metrics"] == result["metrics"]
    told = "log, protocol valid, epoch chosen on validation:\nseen items            kept    masked\n"
    assert called("evaluate", "run").startswith(told)
    called("recommend", "run", "--history", "new.csv", "--k", "3", "--out", "new.jsonl")
    made = pd.read_json("new.jsonl", lines=True)
    given = SequenceRun(tmp_path / "run").recommend(histories={"x": ["i03", "i05"], "y": ["i01"]}, k=3)  # by time
    assert made[["user", "item"]].to_numpy().tolist() == given[["user", "item"]].to_numpy().tolist()
    called("embed", "run", "--out", "z.npz")
    with np.load("z.npz", allow_pickle=False) as found:
        assert set(found) == {"item_ids", "items"}
    called("embed", "run", "--out", "z.parquet")
    assert set(pd.read_parquet("z.parquet")["kind"]) == {"item"}
    assert "score" in called("similar", "run", "--item", "i01")
    told = called("train", "own_history", "log.csv", "--split", "global_time", "--out", "floor")
    assert "seen items kept" in told
    assert "seen items masked" in told


def test_a_run_goes_on_with_no_other_cuts(tmp_path):
    frame = pd.DataFrame({"user": list("aabbcc"), "item": [1, 2] * 3, "time": [0, 10, 0, 20, 0, 30]})
    graphcl.train("popular_items", frame, out=tmp_path / "run", options={"rule": "global_time", "cuts": (5, 15)})
    with pytest.raises(ValueError, match="trained on other data"):
        graphcl.train("popular_items", frame, out=tmp_path / "run", resume=True, options={"rule": "global_time", "cuts": (5, 25)})
