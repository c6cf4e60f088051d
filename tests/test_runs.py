"""Runs from beginning to end on a toy log."""

import errno
import importlib
import json
import os
import shutil
import subprocess
import sys
from collections import defaultdict
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

import graphcl
from graphcl import claims, phase, rundir, runs
from graphcl.data import protocol as protocols
from graphcl.data import registry
from graphcl.data.fingerprint import of_split
from graphcl.interactions import Vocabulary, concat
from graphcl.rank import evaluate
from graphcl.recipes import ease, lightgcn
from graphcl.recipes.configure import find
from graphcl.run import known_items
from graphcl.streams import Streams
from tests.toy import NUM_ITEMS, NUM_USERS, toy_csv, toy_frame

SMALL = {"dim": 8, "batch_size": 64, "learning_rate": 0.02, "epochs": 4, "evaluate_every": 1}
FLOOR = ("popular", "itemknn", "ease", "gfcf")


@pytest.fixture(scope="module")
def csv(tmp_path_factory):
    return toy_csv(tmp_path_factory.mktemp("data") / "toy.csv")


@pytest.fixture(scope="module")
def run(csv, tmp_path_factory):
    return graphcl.train("lightgcn", csv, out=tmp_path_factory.mktemp("runs") / "run", num_layers=2, **SMALL)


@pytest.fixture(scope="module")
def floor(csv, tmp_path_factory):
    folder = tmp_path_factory.mktemp("floor")
    return {name: graphcl.train(name, csv, out=folder / name) for name in FLOOR}


def had(*parts):
    """Items of each user, by external ids."""
    found = defaultdict(set)
    for part in parts:
        for user, item in zip(part.user_ids.ids[part.users], part.item_ids.ids[part.items], strict=True):
            found[user].add(item)
    return found


def dense(part):
    matrix = np.zeros((NUM_USERS, NUM_ITEMS))
    matrix[part.users, part.items] = 1
    return matrix


def dense_layers(table, matrix, num_layers):
    """LightGCN on the whole adjacency matrix, float64."""
    adjacency = np.block([[np.zeros((NUM_USERS,) * 2), matrix], [matrix.T, np.zeros((NUM_ITEMS,) * 2)]])
    degree = np.maximum(adjacency.sum(1), 1)
    adjacency = adjacency / np.sqrt(degree)[:, None] / np.sqrt(degree)[None, :]
    layers = [table.astype(np.float64)]
    for _ in range(num_layers):
        layers.append(adjacency @ layers[-1])
    return layers


def table_of(run):
    return load_file(run.path / "model.safetensors")["encoder.embedding"].numpy()


def dense_recall(run, held_out, mask, k=10):
    """From the embeddings, user by user."""
    found = run.embeddings()
    scores = found.users.astype(np.float64) @ found.items.T.astype(np.float64)
    scores[mask > 0] = -np.inf
    each = []
    for user in np.flatnonzero(held_out.sum(1)):
        top = [item for item in np.argsort(-scores[user], kind="stable")[:k] if np.isfinite(scores[user, item])]
        each.append(held_out[user, top].sum() / held_out[user].sum())
    return np.mean(each)


def lines(path):
    return [json.loads(line) for line in (Path(path) / "metrics.jsonl").read_text().splitlines()]


def outcome(run):
    """All that must be the same after an interruption: weights to the bit, lines and results without the clock."""
    result = {key: value for key, value in run.result.items() if key not in ("seconds", "run")}
    told = [{key: value for key, value in line.items() if key not in ("seconds", "elapsed")} for line in lines(run.path)]
    return (run.path / "model.safetensors").read_bytes(), (run.path / "per_user.parquet").read_bytes(), result, told


# --- what a run leaves ------------------------------------------------------------------------------------------------------


def test_a_run_leaves_what_is_promised(run):
    names = {path.name for path in run.path.iterdir()}
    assert names == {
        "config.json", "versions.json", "metrics.jsonl", "result.json", "per_user.parquet", "users.parquet", "items.parquet",
        "log.safetensors", "checkpoint.safetensors", "model.safetensors",
    }  # fmt: skip
    config = json.loads((run.path / "config.json").read_text())
    assert config["settings"]["dim"] == 8
    assert config["sources"] == dict.fromkeys([*SMALL, "num_layers"], "set")
    assert config["split"] == {"rule": "temporal", "seed": 0}
    assert {"torch", "numpy", "graphcl"} <= json.loads((run.path / "versions.json").read_text())["packages"].keys()
    assert [line["epoch"] for line in lines(run.path)] == [1, 2, 3, 4]
    assert lines(run.path)[0].keys() == {"epoch", "steps", "terms", "seconds", "elapsed", "valid", "best_epoch"}


def test_the_result_has_the_promised_keys(run):
    result = json.loads((run.path / "result.json").read_text())
    assert result == run.result
    steps = -(-len(run.split.train) // 64)
    known = {"recipe": "lightgcn", "dataset": "toy", "seed": 0, "protocol": "valid", "epochs": 4, "steps": 4 * steps}
    assert known.items() <= result.items()
    assert result["selected_on"] == "valid"
    assert result["run"] == str(run.path)
    assert result["seconds"].keys() == {"load", "train", "rank"}
    assert all(value > 0 for value in result["seconds"].values())
    keys = {f"{name}@{k}" for name in ("recall", "ndcg", "hr", "mrr", "precision", "map", "coverage") for k in (10, 20, 40)}
    assert keys <= result["metrics"]["test"].keys()
    assert all(0 <= result["metrics"]["test"][key] <= 1 for key in keys)


def test_values_of_each_user_are_under_their_own_ids(run):
    frame = pd.read_parquet(run.path / "per_user.parquet")
    assert sorted(frame["user"]) == sorted(toy_frame()["user"].unique())  # "007", not 7
    for key in frame.columns.drop("user"):
        assert frame[key].mean() == pytest.approx(run.result["metrics"]["test"][key], abs=1e-12)


def test_a_run_that_stays_above_chance_has_learned(run):
    """Users have 7 of 8 items in their own block of ten."""
    assert run.result["metrics"]["test"]["recall@10"] > 0.6


def test_no_file_is_a_pickle(run, floor):
    for each in (run, *floor.values()):
        for path in each.path.rglob("*"):
            data = path.read_bytes()
            assert path.suffix in (".json", ".jsonl", ".parquet", ".safetensors")
            assert not data.startswith((b"\x80", b"PK"))


def test_embeddings_are_those_of_the_paper(run):
    layers = dense_layers(table_of(run), dense(run.split.train), 2)
    expected = np.mean(layers, axis=0)
    found = run.embeddings()
    np.testing.assert_allclose(np.concatenate([found.users, found.items]), expected, rtol=1e-5, atol=1e-6)
    assert set(found.user_ids) == set(toy_frame()["user"])
    assert set(found.item_ids) == set(toy_frame()["item"])


def test_the_best_epoch_is_the_one_that_is_kept(csv, tmp_path):
    """Chosen on test, the result is the best line's; nothing is trained after patience is spent."""
    run = graphcl.train("lightgcn", csv, out=tmp_path / "run", protocol="as-published", patience=2, **{**SMALL, "epochs": 40})
    scores = [line["test"]["ndcg@20"] for line in lines(run.path)]
    best = int(np.argmax(scores))
    assert run.result["best_epoch"] == best + 1
    assert len(scores) == run.result["epochs"] == best + 3 < 40
    for key, value in lines(run.path)[best]["test"].items():
        assert run.result["metrics"]["test"][key] == value


def test_validation_metrics_are_the_best_epochs(run):
    best = lines(run.path)[run.result["best_epoch"] - 1]
    assert run.result["metrics"]["valid"] == best["valid"]


# --- recommend, similar, evaluate -------------------------------------------------------------------------------------------


def test_recommendations_hold_nothing_that_the_user_had(run):
    frame = run.recommend(k=10)
    assert frame.columns.tolist() == ["user", "item", "score", "rank"]
    assert len(frame) == 10 * NUM_USERS
    known = had(*run.split.parts.values())
    assert sum(map(len, known.values())) == len(toy_frame())  # test and validation too
    found = run.embeddings()
    users, items = list(found.user_ids), list(found.item_ids)
    for user, rows in frame.groupby("user"):
        assert isinstance(user, str)
        assert rows["rank"].tolist() == list(range(1, 11))
        scores = found.users[users.index(user)] @ found.items.T
        wanted = [items[i] for i in np.argsort(-scores) if items[i] not in known[user]][:10]
        assert rows["item"].tolist() == wanted
        np.testing.assert_allclose(rows["score"], scores[[items.index(i) for i in wanted]], rtol=1e-5)


def test_more_than_there_is(run):
    frame = run.recommend(["007", "003"], k=1000)
    assert frame["user"].unique().tolist() == ["007", "003"]
    assert frame.groupby("user").size().tolist() == [NUM_ITEMS - 8] * 2
    whole = run.recommend(["007"], k=1000, exclude_seen=False)
    assert sorted(whole["item"]) == sorted(toy_frame()["item"].unique())
    assert whole["rank"].tolist() == list(range(1, NUM_ITEMS + 1))
    assert (np.diff(whole["score"]) <= 0).all()


def test_whole_ids_stay_whole(csv, tmp_path):
    frame = toy_frame()
    frame["user"], frame["item"] = frame["user"].astype(int) + 2**40, frame["item"].str[1:].astype(int)
    run = graphcl.train("lightgcn", frame, out=tmp_path / "run", **SMALL)
    found = run.recommend([2**40 + 7], k=3)
    assert found.dtypes[["user", "item", "rank"]].tolist() == [np.int64] * 3
    assert found["user"].tolist() == [2**40 + 7] * 3
    # The same log under other names: the same run.
    text = graphcl.train("lightgcn", toy_frame().drop(columns="timestamp"), out=tmp_path / "text", **SMALL)
    assert text.config["split"]["rule"] == "random"
    assert text.recommend(["007"], k=3)["item"].str.startswith("i").all()


def test_no_users_no_rows(run):
    assert len(run.recommend([])) == 0


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"users": ["007", "7"]}, r"1 user is not in the log: '7'; for people who are not in it, give their items as histories"),
        ({"users": [str(n) for n in range(100, 109)]}, r"9 users are not in the log: '100', .*'104', \.\.\."),
        ({"k": 0}, "k must be at least 1, got 0"),
        ({"users": ["007"], "histories": {"x": ["i01"]}}, "give users or histories, not both"),
        ({"histories": {"x": [], "y": ["nothing", "known"]}}, "there is no history with an item of the log"),
        ({"histories": {}}, "there is no history"),
        ({"users": "007"}, "users must be a list of ids, got the text '007'"),
        ({"histories": {"x": "i01"}}, "the history of 'x' must be a list of ids, got the text 'i01'"),
        ({"histories": [["i01"]]}, r"histories are a table, or items by user \(\{user: \[item, ...\]\}\), got list"),
        ({"histories": pd.DataFrame({"user": ["x"]})}, "needs two columns"),
        ({"histories": pd.DataFrame({"user": ["x", None], "item": ["i01", "i02"]})}, "row 2 of the history has no user"),
    ],
)
def test_what_cannot_be_recommended_is_said(run, arguments, told):
    with pytest.raises(ValueError, match=told):
        run.recommend(**arguments)


def test_whoever_has_no_known_item_is_left_out_and_told(run):
    alone = run.recommend(histories={"x": (item for item in ["i01"])}, k=3)
    with pytest.warns(UserWarning, match="2 histories hold no item of the log and are left out: 'w', 'y'"):
        found = run.recommend(histories={"w": [], "x": ["i01"], "y": ["nothing", "known"]}, k=3)
    pd.testing.assert_frame_equal(found, alone)


def test_a_table_of_histories_is_read_by_its_names(run):
    """Of the log's columns, or user and item; by time where there is one; by place only where there are no such names."""
    plain = run.recommend(histories={"x": ["i01", "i02"], "y": ["i03"]}, k=3)
    table = pd.DataFrame({"item": ["i03", "i02", "i01"], "note": 1, "user": ["y", "x", "x"]})
    found = run.recommend(histories=table.iloc[::-1], k=3)
    pd.testing.assert_frame_equal(found, plain)
    pd.testing.assert_frame_equal(run.recommend(histories=table.assign(time=[3, 2, 1]), k=3), plain)
    placed = table[["user", "item"]].iloc[::-1].set_axis(["who", "what"], axis=1)
    pd.testing.assert_frame_equal(run.recommend(histories=placed, k=3), plain)
    with pytest.raises(ValueError, match="has a column 'item', but none for the user; its columns are item, who"):
        run.recommend(histories=table[["item"]].assign(who=1), k=3)


def test_users_that_nothing_is_known_of_are_told(tmp_path):
    frame = pd.DataFrame({"user": [1, 1, 2, 2, 2, 3, 3], "item": [1, 2, 2, 3, 1, 1, 3], "time": [1.0, 2, 1, 2, 3, 8, 9]})
    options = {"rule": "global_time", "cuts": (5.0,)}
    with pytest.warns(UserWarning, match="1 of 1 test users have nothing in the part that is trained on"):
        run = graphcl.train("popular", frame, out=tmp_path / "run", protocol="as-published", options=options)
    assert run.result["users"] == {"test": 1}
    with pytest.warns(UserWarning, match="1 of 2 users have nothing in the part that was trained on"):
        run.recommend(users=[1, 3], k=1, exclude_seen=False)


def test_the_model_is_handed_out(run):
    model, graph = run.model()
    assert np.array_equal(model.embed(graph)[:NUM_USERS].numpy(), run.embeddings().users)
    assert model.readout(model.layers(graph)).requires_grad
    with pytest.raises(ValueError, match="popular has no parameters"):
        graphcl.train("popular", toy_frame(), out=run.path.parent / "popular").model()


def test_people_outside_the_log_are_folded_in(run):
    """Layer 0 is zero; layer l sends the items' layer l - 1 through D_u^-1/2 H D_i^-1/2, items keeping their train degrees."""
    train = dense(run.split.train)
    layers = dense_layers(table_of(run), train, 2)
    items = [layer[NUM_USERS:] for layer in layers]
    row = 5
    history = train[row]
    degrees = np.maximum(train.sum(0), 1)
    sent = [np.zeros(8)]
    for number in range(2):
        sent.append((history / np.sqrt(degrees)) @ items[number] / np.sqrt(history.sum()))
    scores = np.mean(sent, axis=0) @ np.mean(items, axis=0).T
    ids = run.split.train.item_ids.ids
    given = [*ids[history > 0], "not in the log"]
    with pytest.warns(UserWarning, match=f"1 of {len(given)} items of the histories are not in the log"):
        frame = run.recommend(histories={"someone": given}, k=NUM_ITEMS, exclude_seen=False)
    given = given[:-1]
    assert frame["user"].unique().tolist() == ["someone"]
    np.testing.assert_allclose(frame.set_index("item")["score"][ids], scores, rtol=1e-4, atol=1e-6)
    # Two people at once, as a frame with repeats, do not disturb each other; what they gave is left out.
    both = pd.DataFrame([("other", ids[3])] + [("someone", item) for item in [*given, given[0]]])
    alone = run.recommend(histories={"someone": given}, k=NUM_ITEMS)
    together = run.recommend(histories=both, k=NUM_ITEMS)
    assert not set(alone["item"]) & set(given)
    mine = together[together["user"] == "someone"].reset_index(drop=True)
    assert mine["item"].tolist() == alone["item"].tolist()
    np.testing.assert_allclose(mine["score"], alone["score"], rtol=1e-6)


@pytest.mark.parametrize("name", FLOOR)
def test_the_floor_scores_histories_as_it_scores_its_users(floor, name):
    run = floor[name]
    assert run.result["best_epoch"] is None
    assert run.result["selected_on"] is None
    train = had(run.split.train)
    user = "007"
    by_row = run.recommend([user], k=NUM_ITEMS, exclude_seen=False)
    by_items = run.recommend(histories={user: sorted(train[user])}, k=NUM_ITEMS, exclude_seen=False)
    np.testing.assert_allclose(
        by_items.set_index("item")["score"][by_row["item"]], by_row.set_index("item")["score"], rtol=1e-5, atol=1e-6
    )
    assert run.evaluate().means == run.result["metrics"]["test"]


def test_a_result_says_how_the_embeddings_lie(run, floor):
    """Over the pairs of what was trained on; a closed form has no embeddings."""
    found = run.embeddings()
    users, items = (x.astype(np.float64) / np.linalg.norm(x, axis=1, keepdims=True) for x in (found.users, found.items))
    trained = run.plan.train
    apart = [((users[u] - items[i]) ** 2).sum() for u, i in set(zip(trained.users, trained.items, strict=True))]
    told = run.result["metrics"]["embedding"]
    assert told["alignment"] == pytest.approx(np.mean(apart), rel=1e-5)
    for kind, x in (("user", users), ("item", items)):
        near = [np.exp(-2 * ((x[i] - x[j]) ** 2).sum()) for i in range(len(x)) for j in range(i)]
        assert told[f"uniformity_{kind}"] == pytest.approx(np.log(np.mean(near)), rel=1e-5)
    values = np.linalg.svd(np.concatenate([found.users, found.items]).astype(np.float64), compute_uv=False)
    share = values / values.sum()
    assert told["effective_rank"] == pytest.approx(np.exp(-(share * np.log(share)).sum()), rel=1e-6)
    assert run.geometry() == told
    for other in floor.values():
        assert "embedding" not in other.result["metrics"]
        assert other.geometry() == {}


def test_ease_by_the_dense_inverse(floor):
    run = floor["ease"]
    x = dense(run.split.train)
    inverse = np.linalg.inv(x.T @ x + ease.Config().l2 * np.eye(NUM_ITEMS))
    weights = -inverse / np.diag(inverse)
    np.fill_diagonal(weights, 0)
    frame = run.recommend(["001"], k=NUM_ITEMS, exclude_seen=False).set_index("item")
    row = run.split.train.user_ids.rows(["001"])[0]
    np.testing.assert_allclose(frame["score"][run.split.train.item_ids.ids], x[row] @ weights, rtol=1e-3, atol=1e-6)


def test_similar_is_cosine_without_the_item_itself(run):
    found = run.embeddings()
    items = list(found.item_ids)
    at = items.index("i07")
    unit = found.items / np.linalg.norm(found.items, axis=1, keepdims=True)
    cosine = unit @ unit[at]
    wanted = [i for i in np.argsort(-cosine) if i != at]
    frame = run.similar("i07", k=5)
    assert frame.columns.tolist() == ["item", "score", "rank"]
    assert frame["item"].tolist() == [items[i] for i in wanted[:5]]
    np.testing.assert_allclose(frame["score"], cosine[wanted[:5]], rtol=1e-5)
    assert len(run.similar("i07", k=1000)) == NUM_ITEMS - 1
    with pytest.raises(ValueError, match="1 item is not in the log: 'i7'"):
        run.similar("i7")


def test_similar_without_embeddings_is_what_the_item_alone_recommends(floor):
    run = floor["itemknn"]
    frame = run.similar("i07", k=5)
    expected = run.recommend(histories={"x": ["i07"]}, k=5).drop(columns="user")
    pd.testing.assert_frame_equal(frame, expected)
    with pytest.raises(ValueError, match="itemknn has no embeddings"):
        run.embeddings()


@pytest.mark.slow
def test_a_run_says_the_same_in_another_process_without_its_data(csv, tmp_path):
    data = tmp_path / "toy.csv"
    shutil.copy(csv, data)
    run = graphcl.train("lightgcn", data, out=tmp_path / "run", **SMALL)
    data.unlink()
    program = (
        "import sys, json, graphcl; run = graphcl.load(sys.argv[1]);"
        "print(json.dumps([run.evaluate().means, run.recommend(['007'], k=5).to_dict('list'), run.similar('i03', 2).to_dict('list')]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(run.path)], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    means, recommended, similar = json.loads(done.stdout)
    assert means == run.result["metrics"]["test"]
    assert recommended == run.recommend(["007"], k=5).to_dict("list")
    assert similar == run.similar("i03", 2).to_dict("list")


def test_what_is_no_run_is_said(run, tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no run at"):
        graphcl.load(tmp_path / "nowhere")
    with pytest.raises(ValueError, match=r"is not a complete run: config\.json is missing"):
        graphcl.load(tmp_path)
    copy = tmp_path / "copy"
    shutil.copytree(run.path, copy)
    weights = (copy / "model.safetensors").read_bytes()
    (copy / "model.safetensors").write_bytes(weights[:-5])
    with pytest.raises(ValueError, match=r"model\.safetensors: not a whole safetensors file"):
        graphcl.load(copy).recommend(["007"])
    rundir.write_tensors(copy / "model.safetensors", {"encoder.embedding": torch.zeros(3, 8)})
    with pytest.raises(ValueError, match="the weights do not fit the recipe"):
        graphcl.load(copy).recommend(["007"])
    shutil.copy(run.path / "model.safetensors", copy / "log.safetensors")
    with pytest.raises(ValueError, match=r"log\.safetensors: holds no 'encoder.users'"):
        graphcl.load(copy).recommend(["007"])
    shutil.copy(run.path / "log.safetensors", copy / "log.safetensors")
    rundir.write_json(copy / "result.json", "x")
    with pytest.raises(ValueError, match=r"result\.json: a JSON object is needed, not str"):
        _ = graphcl.load(copy).result
    (copy / "result.json").unlink()
    with pytest.raises(ValueError, match=r"has not finished; go on with it by resume \(--resume --out"):
        graphcl.load(copy).recommend(["007"])
    rundir.write_json(copy / "config.json", {**run.config, "format": 99})
    with pytest.raises(ValueError, match="written in format 99, this version reads 1"):
        graphcl.load(copy)
    for broken, told in (
        (b"[]", "a JSON object is needed, not list"),
        (b'{"a": "\xe9"}', "not JSON"),
        (b'{"format": 1}', "holds no "),
    ):
        (copy / "config.json").write_bytes(broken)
        with pytest.raises(ValueError, match=rf"config\.json: {told}"):
            graphcl.load(copy).recommend(["007"])


def test_without_an_epoch_nothing_chose_one(csv, tmp_path):
    result = graphcl.train("lightgcn", csv, out=tmp_path / "run", num_layers=2, **{**SMALL, "epochs": 0}).result
    assert (result["best_epoch"], result["selected_on"]) == (None, None)


# --- protocols --------------------------------------------------------------------------------------------------------------

TRAINED_ON = {
    "valid": ("train",),
    "refit": ("train", "valid"),
    "lightgcnpp": ("train",),
    "recbole": ("train",),
    "sslrec": ("train",),
    "as-published": ("train", "valid"),
    "all": ("train", "valid", "test"),
}
MASKED = {**TRAINED_ON, "valid": ("train", "valid"), "recbole": ("train", "valid")}


@pytest.mark.parametrize("protocol", list(TRAINED_ON))
def test_what_a_protocol_trains_on_selects_on_and_masks(csv, tmp_path, protocol):
    settings = {**SMALL, "epochs": 1}
    run = graphcl.train("lightgcn", csv, out=tmp_path / "run", protocol=protocol, num_layers=2, **settings)
    parts = run.split.parts
    assert {name: len(part) for name, part in parts.items()} == {"train": 144, "valid": 24, "test": 24}
    assert run.config["split"]["rule"] == ("random" if protocol == "recbole" else "temporal")

    trained_on = sum(dense(parts[name]) for name in TRAINED_ON[protocol])
    found = run.embeddings()
    expected = np.mean(dense_layers(table_of(run), trained_on, 2), axis=0)
    np.testing.assert_allclose(np.concatenate([found.users, found.items]), expected, rtol=1e-5, atol=1e-6)

    told = lines(run.path)
    if protocol == "all":
        assert run.result["selected_on"] is None
        assert run.result["metrics"].keys() == {"embedding"}
        assert told[0].keys() == {"epoch", "steps", "terms", "seconds", "elapsed"}
        with pytest.raises(ValueError, match="'all' leaves no test part to evaluate on"):
            run.evaluate()
        assert len(run.recommend(["007"], k=NUM_ITEMS)) == NUM_ITEMS - 8
        return
    masked = sum(dense(parts[name]) for name in MASKED[protocol])
    recall = dense_recall(run, dense(parts["test"]), masked)
    assert run.result["metrics"]["test"]["recall@10"] == pytest.approx(recall)
    assert run.evaluate().means == run.result["metrics"]["test"]
    chosen_on = "test" if protocol == "as-published" else "valid"
    assert run.result["selected_on"] == chosen_on
    if protocol == "refit":
        assert [line.get("phase") for line in told] == [None, "refit"]
        assert "valid" in told[0]
        assert not {"valid", "test"} & told[1].keys()
        assert "valid" not in run.result["metrics"]  # it was trained on
        assert run.result["steps"] == told[0]["steps"] + told[1]["steps"]
        return
    recall = dense_recall(run, dense(parts[chosen_on]), trained_on)
    assert told[0][chosen_on]["recall@10"] == pytest.approx(recall)
    assert {"valid", "test"} & told[0].keys() == {chosen_on}  # fit never sees the test part


def test_recbole_selects_as_recbole_does(csv, tmp_path):
    run = graphcl.train("lightgcn", csv, out=tmp_path / "run", protocol="recbole", **SMALL)
    assert run.config["settings"]["select"] == "mrr@10"
    assert run.config["sources"]["select"] == "protocol"
    # The same split once more, where the floor is measured beside a run.
    again, _ = runs.load_data(run.split, "recbole")
    assert of_split(again) == run.config["fingerprint"]


def test_recbole_splits_a_log_as_recbole_does(csv):
    """8:1:1 within each user, at random though there are times; a split that is asked for beside it was once thrown away."""
    made, _ = runs.load_data(csv, "recbole")
    held = [np.bincount(part.users, minlength=len(part.user_ids)) for part in made.parts.values()]
    for train, valid, test in zip(*held, strict=True):
        each = max(1, (train + valid + test) // 10)
        assert (valid, test) == (each, each)
    plainly = runs.load_data(csv, "valid", rule="random")[0]
    for name, part in made.parts.items():
        both = [set(zip(p.user_ids.ids[p.users], p.item_ids.ids[p.items], strict=True)) for p in (part, plainly.parts[name])]
        assert both[0] == both[1]
    runs.load_data(csv, "recbole", rule="random")
    for options in ({"rule": "temporal"}, {"ratios": (0.6, 0.2, 0.2)}):
        with pytest.raises(ValueError, match=rf"'recbole' splits by rule 'random' in its own ratios, so {next(iter(options))} "):
            runs.load_data(csv, "recbole", **options)


def test_a_split_without_the_needed_part(tmp_path):
    whole = graphcl.split(graphcl.read_interactions(toy_frame()), ratios=(0.8, 0.2))
    for protocol in ("valid", "refit"):
        with pytest.raises(ValueError, match="chooses the epoch on validation, and there is no such part"):
            graphcl.train("lightgcn", whole, out=tmp_path / "run", protocol=protocol, **SMALL)
    assert not (tmp_path / "run").exists()
    assert graphcl.train("popular", whole, out=tmp_path / "run", protocol="as-published").result["metrics"].keys() == {"test"}


@pytest.mark.parametrize("recipe", ["itemknn", "ease", "gfcf", "bspm"])
def test_a_closed_form_is_refitted_on_validation_too(csv, tmp_path, recipe):
    """It was fitted on train alone, and scored train and validation once it was loaded."""
    settings = {"factors": 5} if recipe == "gfcf" else {}
    run = graphcl.train(recipe, csv, out=tmp_path / "run", protocol="refit", **settings)
    full = protocols.joined(run.split, ("train", "valid"))
    module = find(recipe)
    built = module.build(module.Config(**settings), full, rng=Streams(0)["init"])
    users = torch.arange(full.num_users)
    torch.testing.assert_close(graphcl.load(run.path).scorer.score(users), built.score(users), rtol=1e-5, atol=1e-6)
    means = evaluate(
        built, run.split.test.matrix, mask=[full.matrix], train=full.matrix, ks=(10, 20, 40), metrics=("recall", "ndcg")
    ).means
    assert {key: run.result["metrics"]["test"][key] for key in means} == pytest.approx(means)
    assert run.evaluate().means == run.result["metrics"]["test"]
    assert "valid" not in run.result["metrics"]  # it was fitted on it


@pytest.mark.parametrize("device", ["cuda:99", "gpu"])
@pytest.mark.parametrize("recipe", ["lightgcn", "popular"])
def test_a_device_that_is_not_there(csv, tmp_path, recipe, device):
    with pytest.raises(ValueError, match=f"device '{device}' cannot be used here"):
        graphcl.train(recipe, csv, out=tmp_path / "run", device=device)
    assert not (tmp_path / "run").exists()


# --- the same again ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("recipe", ["lightgcn", "sgl"])
def test_the_same_seed_gives_the_same_numbers_to_the_bit(csv, tmp_path, recipe):
    made = [graphcl.train(recipe, csv, out=tmp_path / str(n), seed=seed, **SMALL) for n, seed in enumerate((1, 1, 2))]
    assert outcome(made[0]) == outcome(made[1])
    assert outcome(made[0])[0] != outcome(made[2])[0]
    assert made[0].config["fingerprint"] == made[2].config["fingerprint"]  # the seed does not move the split


class Stop:
    """Raises when it hears of the given event."""

    def __init__(self, error, kind, **what):
        self.error, self.kind, self.what = error, kind, what
        self.epoch = 0

    def __call__(self, kind, what):
        if kind == "epoch":
            self.epoch = what["epoch"]
        else:
            what = {**what, "epoch": self.epoch + 1}
        if kind == self.kind and self.what.items() <= what.items():
            raise self.error("stopped here")


@pytest.mark.parametrize(
    ("recipe", "protocol", "stop"),
    [
        ("lightgcn", "valid", Stop(KeyboardInterrupt, "epoch", epoch=2)),
        ("xsimgcl", "valid", Stop(RuntimeError, "step", epoch=3, step=2)),
        ("sgl", "valid", Stop(RuntimeError, "epoch", epoch=1)),
        ("lightgcl_paper", "valid", Stop(KeyboardInterrupt, "epoch", epoch=2)),  # a step and batches of its own
        ("lightgcn", "as-published", Stop(KeyboardInterrupt, "step", epoch=1, step=1)),
        ("lightgcn", "refit", Stop(KeyboardInterrupt, "epoch", epoch=2)),
        ("lightgcn", "refit", Stop(RuntimeError, "epoch", epoch=2, phase="refit")),
    ],
    ids=lambda value: f"{value.kind}-{value.what}" if isinstance(value, Stop) else value,
)
def test_an_interrupted_run_goes_on_bit_for_bit(csv, tmp_path, recipe, protocol, stop):
    """The second phase of refit once went on with the lines of the first alone."""
    whole = graphcl.train(recipe, csv, out=tmp_path / "whole", protocol=protocol, **SMALL)
    if protocol == "refit":
        assert whole.result["best_epoch"] > 2  # or nothing is left to do after the interruption
    with pytest.raises(stop.error):
        graphcl.train(recipe, csv, out=tmp_path / "parts", protocol=protocol, observe=stop, **SMALL)
    assert not (tmp_path / "parts" / "result.json").exists()
    resumed = graphcl.train(recipe, csv, out=tmp_path / "parts", protocol=protocol, resume=True, **SMALL)
    assert outcome(resumed) == outcome(whole)


class FullDisk:
    """The k-th call fails as on a full disk; what the last checkpoint held then is kept."""

    def __init__(self, call, k, directory):
        self.call, self.left, self.directory = call, k, directory
        self.checkpoint = None

    def __call__(self, *arguments, **named):
        self.left -= 1
        if self.left == 0:
            self.checkpoint = content(self.directory / "checkpoint.safetensors")
            raise OSError(errno.ENOSPC, "No space left on device")
        return self.call(*arguments, **named)


def content(path):
    return path.read_bytes() if path.exists() else None


@pytest.mark.parametrize(
    ("module", "function", "k"),
    [
        (rundir, "save_file", 1),  # the log
        (rundir, "save_file", 2),  # the first checkpoint
        (rundir, "save_file", 6),  # the weights
        (os, "replace", 1),  # config.json
        (os, "replace", 8),  # a checkpoint
        (os, "replace", 12),  # result.json
        (os, "fsync", 8),  # a line of metrics
    ],
)
def test_a_full_disk_loses_nothing(csv, run, tmp_path, monkeypatch, module, function, k):
    out = tmp_path / "run"
    full = FullDisk(getattr(module, function), k, out)
    settings = {**SMALL, "num_layers": 2}
    with monkeypatch.context() as patched:
        patched.setattr(module, function, full)
        with pytest.raises(OSError, match="No space left on device"):
            graphcl.train("lightgcn", csv, out=out, **settings)
    assert full.left == 0
    assert content(out / "checkpoint.safetensors") == full.checkpoint
    assert not (out / "result.json").exists()
    begun = (out / "config.json").exists()
    assert begun == ((function, k) != ("replace", 1))
    resumed = graphcl.train("lightgcn", csv, out=out, resume=begun, **settings)
    assert outcome(resumed) == outcome(run)


def test_a_finished_run_is_resumed_as_it_is(run, csv):
    before = {path: path.stat().st_mtime_ns for path in run.path.iterdir()}
    again = graphcl.train("lightgcn", csv, out=run.path, resume=True, num_layers=2, **SMALL)
    assert again.result == run.result
    assert {path: path.stat().st_mtime_ns for path in run.path.iterdir()} == before


def test_a_run_cannot_go_on_with_fewer_epochs_than_it_has_trained(csv, tmp_path):
    def interrupt(kind, what):
        if kind == "epoch" and what["epoch"] == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        graphcl.train("lightgcn", csv, out=tmp_path / "run", observe=interrupt, **SMALL)
    with pytest.raises(ValueError, match="has trained 3 epochs, more than epochs=2"):
        graphcl.train("lightgcn", csv, out=tmp_path / "run", resume=True, **{**SMALL, "epochs": 2})
    with (tmp_path / "run" / "metrics.jsonl").open("a") as log:
        log.write('{"epoch": 4, "ter')  # as a power cut may leave it
    assert graphcl.train("lightgcn", csv, out=tmp_path / "run", resume=True, **SMALL).result["epochs"] == 4


@pytest.mark.parametrize("protocol", ["valid", "refit", "as-published"])
@pytest.mark.parametrize("ranked", [True, False])
def test_a_run_that_ended_goes_on_with_more_epochs(csv, tmp_path, protocol, ranked):
    """One that had only to be ranked was once written down with epochs that it never trained."""
    settings = {**SMALL, "protocol": protocol, "patience": 0}
    whole = graphcl.train("lightgcn", csv, out=tmp_path / "whole", **{**settings, "epochs": 6})

    def interrupt(kind, what):
        if kind == "epoch" and what["epoch"] == 4 and what.get("phase") is None and not ranked:
            raise KeyboardInterrupt

    with nullcontext() if ranked else pytest.raises(KeyboardInterrupt):
        graphcl.train("lightgcn", csv, out=tmp_path / "run", observe=interrupt, **{**settings, "epochs": 4})
    more = graphcl.train("lightgcn", csv, out=tmp_path / "run", resume=True, **{**settings, "epochs": 6})
    assert outcome(more) == outcome(whole)
    assert graphcl.load(more.path).config["settings"]["epochs"] == 6
    with pytest.raises(ValueError, match="has trained 6 epochs, more than epochs=5"):
        graphcl.train("lightgcn", csv, out=tmp_path / "run", resume=True, **{**settings, "epochs": 5})


def test_a_run_whose_patience_was_spent_goes_on_no_further(csv, tmp_path, monkeypatch):
    scores = iter((0.3, 0.2, 0.1))
    select_report = phase.select_report
    monkeypatch.setattr(phase, "select_report", lambda *given: worse(select_report(*given), next(scores, 0.0)))
    run = graphcl.train("lightgcn", csv, out=tmp_path / "run", **{**SMALL, "patience": 2, "epochs": 9})
    assert run.result["epochs"] == 3
    before = {path: path.read_bytes() for path in run.path.iterdir()}
    with pytest.raises(ValueError, match="ended with epoch 3, its patience spent; epochs=12 changes nothing"):
        graphcl.train("lightgcn", csv, out=run.path, resume=True, **{**SMALL, "patience": 2, "epochs": 12})
    assert {path: path.read_bytes() for path in run.path.iterdir()} == before


def worse(report, score):
    return replace(report, means=dict.fromkeys(report.means, score))


def test_a_table_that_the_last_step_broke_is_told(csv, tmp_path, monkeypatch):
    """No loss has seen it, and with all of the log trained on nothing is ranked."""
    whole = phase.fit

    def breaking(model, *arguments, **options):
        for epoch in whole(model, *arguments, **options):
            with torch.no_grad():
                next(model.parameters())[0, 0] = torch.nan
            yield epoch

    monkeypatch.setattr(phase, "fit", breaking)
    with pytest.raises(FloatingPointError, match="is not finite after the last step"):
        graphcl.train("lightgcn", csv, out=tmp_path / "run", protocol="all", **{**SMALL, "epochs": 1})
    assert not (tmp_path / "run" / "model.safetensors").exists()


def test_what_is_no_log():
    for wrong in (None, 3, [("u", "i")]):
        with pytest.raises(ValueError, match=f"a log is needed: .*, got {type(wrong).__name__}"):
            graphcl.train("popular", wrong)
    with pytest.raises(ValueError, match=r"sequences need a whole log: .*, got Split"):
        graphcl.train("popular_items", graphcl.split(graphcl.read_interactions(toy_frame())))


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"recipe": "sgl"}, "has recipe 'lightgcn', not 'sgl'"),
        ({"seed": 3}, "has seed 0, not 3"),
        ({"protocol": "refit"}, "has protocol 'valid', not 'refit'"),
        ({"dim": 16}, r"finished with other settings \(dim 8 -> 16\)"),
        ({"data": "other"}, "was trained on other data than 'toy' as it is now"),
        ({"resume": False}, "holds a run already"),
    ],
)
def test_a_run_goes_on_only_as_what_it_was(run, csv, tmp_path, changed, told):
    arguments = {"recipe": "lightgcn", "data": csv, "resume": True, "num_layers": 2, **SMALL, **changed}
    if changed.get("data") == "other":
        arguments["data"] = toy_csv(tmp_path / "toy.csv", seed=1)
    before = {path: path.read_bytes() for path in run.path.iterdir()}
    with pytest.raises(ValueError, match=told):
        graphcl.train(out=run.path, **arguments)
    assert {path: path.read_bytes() for path in run.path.iterdir()} == before


def test_directories_that_are_no_runs(csv, tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").touch()
    (tmp_path / "file").touch()
    for name in ("full", "file"):
        with pytest.raises(ValueError, match="exists and is not a run; choose another --out"):
            graphcl.train("popular", csv, out=tmp_path / name)
    with pytest.raises(ValueError, match="there is no run to resume at"):
        graphcl.train("popular", csv, out=tmp_path / "new", resume=True)
    (tmp_path / "full" / "thesis.tex").rename(tmp_path / "full" / ".config.json.77.part")  # of a process that was killed
    (tmp_path / "full" / "lock").touch()
    run = graphcl.train("popular", csv, out=tmp_path / "full")
    assert not list(run.path.glob(".*"))
    assert run.result["run"] == str(tmp_path / "full")
    moved = graphcl.load(run.path.rename(tmp_path / "moved"))
    assert moved.result == {**run.result, "run": str(tmp_path / "moved")}
    with pytest.raises(ValueError, match="resume needs the run's directory"):
        graphcl.train("popular", csv, resume=True)


def test_a_tilde_is_the_home(csv, tmp_path, monkeypatch):
    """It once made a folder of that name."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    shutil.copy(csv, tmp_path / "own.csv")
    run = graphcl.train("popular", "~/own.csv", out="~/run", options={"split_seed": np.int64(3)})
    assert run.path == tmp_path / "run"
    assert graphcl.load("~/run").config["split"]["seed"] == 3
    assert not Path("~").exists()
    shutil.copy(csv, tmp_path / "~no-such-user.csv")
    assert graphcl.train("popular", "~no-such-user.csv", out="~no-such-user").path == Path("~no-such-user")


def test_an_unnamed_run_never_meets_an_older_one(csv, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = [graphcl.train("popular", csv).path.as_posix() for _ in range(3)]
    assert found == [f"runs/popular-toy-seed0{end}" for end in ("", "-2", "-3")]


# --- settings and data ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"select": "ndgc@20"}, "did you mean 'ndcg'"),
        ({"evaluate_every": 0}, "setting 'evaluate_every' must be 1 or more"),
        ({"num_layers": -1}, "'num_layers' must be 0 or more"),
        ({"learning_rate": 0}, "learning_rate must be above 0"),
        ({"batch_size": 0}, "batch_size must be 1 or more"),
        ({"dimm": 3}, "unknown setting 'dimm' of lightgcn; did you mean 'dim'"),
        ({"protocol": "vaild"}, "unknown protocol 'vaild'; did you mean 'valid'"),
        ({"options": {"user-col": "user"}}, "unknown option 'user-col'; did you mean 'user_col'"),
        ({"seed": 1.5}, "seed must be a whole number, got 1.5"),
    ],
)
def test_refused_settings_leave_no_directory(csv, tmp_path, changed, told):
    """The corrected command once met a directory that held a run already."""
    with pytest.raises(ValueError, match=told):
        graphcl.train("lightgcn", csv, out=tmp_path / "run", **{**SMALL, **changed})
    assert not (tmp_path / "run").exists()


def test_a_user_with_every_item_is_named(tmp_path):
    frame = pd.DataFrame(
        [(u, i) for u in ("ann", "bob", "eve") for i in range(3) if u == "ann" or i < 2], columns=["user", "item"]
    )
    made = graphcl.split(graphcl.read_interactions(frame), rule="all")
    with pytest.raises(ValueError, match="user 'ann' has every one of the 3 items, so no negative can be drawn"):
        graphcl.train("lightgcn", made, out=tmp_path / "run", protocol="all", **SMALL)
    assert not (tmp_path / "run").exists()


@pytest.fixture
def registered(tmp_path):
    folder = tmp_path / "toyset"
    folder.mkdir()
    toy_csv(folder / "log.csv")
    (folder / "dataset.cfg").write_text(
        "[dataset]\nname = toyset\ngroup = general\ncitation = Nobody 2026\nformat = csv\n[files]\nlog = log.csv\n"
    )
    return folder


def test_settings_go_over_the_config_over_the_preset(registered, tmp_path, monkeypatch):
    monkeypatch.setitem(lightgcn.PRESETS, "general/toyset", {"dim": 4, "epochs": 1, "num_layers": 1})
    run = graphcl.train("lightgcn", registered, out=tmp_path / "run", config={"epochs": 2, "decay": 0.5}, decay=0.25)
    assert run.config["preset"] == "general/toyset"
    assert run.config["sources"] == {"dim": "preset", "num_layers": "preset", "epochs": "config", "decay": "set"}
    chosen = {key: run.config["settings"][key] for key in run.config["sources"]}
    assert chosen == {"dim": 4, "num_layers": 1, "epochs": 2, "decay": 0.25}
    # A split keeps the name of its data set's presets, also where RecBole's rule parts it anew.
    for protocol in ("valid", "recbole"):
        made, key = runs.load_data(registry.load(registered), protocol)
        assert key == "general/toyset"
        assert (made.name, made.kind) == ("toyset", "general")


def test_data_of_ones_own_has_no_preset(csv, monkeypatch):
    assert runs.load_data(csv)[1] is None
    assert runs.load_data(toy_frame())[1] is None


def test_a_log_that_is_read_is_filtered_like_a_file(csv):
    log, options = graphcl.read_interactions(csv), {"k_core": 2}
    assert of_split(runs.load_data(log, **options)[0]) == of_split(runs.load_data(csv, **options)[0])
    for data, wrong in ((log, "user_col"), (log, "carve"), (toy_frame(), "carve")):
        with pytest.raises(ValueError, match=f"{wrong}: not for"):
            runs.load_data(data, **{wrong: "x"})
    for options in ({"split_seed": 0.7}, {"ratios": (float("nan"), 0.1, 0.1)}):
        with pytest.raises(ValueError, match=r"must be"):
            runs.load_data(csv, **options)


def test_a_log_in_every_shape_is_the_same_log(csv):
    named = {"user_col": "who", "item_col": "what", "time_col": "when"}
    frame = toy_frame().set_axis(["who", "what", "when"], axis=1)
    log = graphcl.read_interactions(csv)
    found = [
        runs.load_data(csv)[0],
        runs.load_data(str(csv))[0],
        runs.load_data(frame, **named)[0],
        runs.load_data(log)[0],
        runs.load_data(graphcl.split(log))[0],
    ]
    assert len({of_split(made) for made in found}) == 1
    assert of_split(runs.load_data(log, rule="random")[0]) != of_split(found[0])
    whole = had(*found[0].parts.values())
    assert {user: sorted(items) for user, items in whole.items()} == toy_frame().groupby("user")["item"].apply(sorted).to_dict()


def test_options_for_a_split_that_is_made_are_refused(csv):
    made, _ = runs.load_data(csv)
    with pytest.raises(ValueError, match="toy is split already, so rule cannot be set"):
        runs.load_data(made, rule="random")


def test_the_fingerprint_sees_ids_and_pairs(csv):
    made, _ = runs.load_data(csv)
    renamed = toy_frame()
    renamed.loc[renamed["user"] == "007", "user"] = "700"
    assert of_split(runs.load_data(renamed)[0]) != of_split(made)
    assert of_split(runs.load_data(toy_frame(seed=1))[0]) != of_split(made)


def test_a_recipe_from_outside_the_project(csv, tmp_path, monkeypatch):
    folder = tmp_path / "outside"
    folder.mkdir()
    (folder / "__init__.py").touch()
    (folder / "shallow.py").write_text(
        '"""LightGCN without layers."""\n'
        "from dataclasses import dataclass\n"
        "from graphcl.recipes import lightgcn\n"
        "KIND = 'general'\n"
        "@dataclass(frozen=True)\n"
        "class Config(lightgcn.Config):\n"
        "    num_layers: int = 0\n"
        "build = lightgcn.build\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    run = graphcl.train("outside.shallow", csv, out=tmp_path / "run", **SMALL)
    assert run.config["recipe"] == "outside.shallow"
    found = graphcl.load(run.path).embeddings()
    np.testing.assert_array_equal(np.concatenate([found.users, found.items]), table_of(run))


def test_the_public_train_is_the_function():
    """The file of the same name took its place as soon as anything had imported it."""
    importlib.import_module("graphcl.train")
    assert graphcl.train is runs.train
    assert graphcl.streams is sys.modules["graphcl.streams"]  # other files are reached as ever


def test_every_row_of_the_log_is_in_the_run(run):
    whole = concat(list(run.split.parts.values()))
    assert len(whole) == len(toy_frame())
    assert run.split.valid is not None
    assert set(run.split.parts) == {"train", "valid", "test"}


def test_an_unfinished_run_may_end_earlier(csv, tmp_path):
    class Cut(Exception):
        pass

    def cut(kind, what):
        if kind == "epoch" and what["epoch"] == 3:
            raise Cut

    fast = {"dim": 8, "batch_size": 16, "patience": 0, "num_layers": 2}
    with pytest.raises(Cut):
        graphcl.train("xsimgcl", csv, out=tmp_path / "cut", observe=cut, epochs=6, **fast)
    ended = graphcl.train("xsimgcl", csv, out=tmp_path / "cut", resume=True, epochs=3, **fast)
    whole = graphcl.train("xsimgcl", csv, out=tmp_path / "whole", epochs=3, **fast)
    assert ended.result["epochs"] == 3
    assert ended.result["metrics"] == whole.result["metrics"]


@pytest.mark.parametrize("named", [True, False])
def test_a_run_that_another_finished_meanwhile_is_not_written_over(csv, tmp_path, monkeypatch, named):
    """The directory was looked at before the model was built, and never again."""
    monkeypatch.chdir(tmp_path)
    out, build, inner = "run" if named else None, ease.build, []

    def slow(config, data, *, rng):
        if not inner:
            inner.append(None)
            inner[0] = graphcl.train("ease", csv, out=out, l2=100.0)
        return build(config, data, rng=rng)

    monkeypatch.setattr(ease, "build", slow)
    if named:
        with pytest.raises(ValueError, match="run holds a run already; resume it"):
            graphcl.train("ease", csv, out=out, l2=900.0)
    else:
        other = graphcl.train("ease", csv, out=out, l2=900.0)
        assert (other.path.name, other.config["settings"]["l2"]) == ("ease-toy-seed0-2", 900.0)
    first = graphcl.load(inner[0].path)
    assert first.config["settings"]["l2"] == 100.0
    assert first.result == inner[0].result
    assert not list(tmp_path.rglob("lock"))


def test_a_directory_in_which_nothing_was_trained_is_free(csv, tmp_path):
    """What was refused only after it had begun blocked its own correction."""

    def stop(path):
        raise RuntimeError("no")

    with pytest.raises(RuntimeError):
        graphcl.train("lightgcn", csv, out=tmp_path / "run", on_start=stop, **SMALL)
    assert not claims.has_trained(tmp_path / "run")
    other = pd.read_csv(csv).iloc[::-1].iloc[10:]
    run = graphcl.train("lightgcn", other, out=tmp_path / "run", **{**SMALL, "dim": 3})
    assert run.config["settings"]["dim"] == 3
    assert sum(map(len, run.split.parts.values())) == len(other)
    with pytest.raises(ValueError, match="run holds a run already"):
        graphcl.train("lightgcn", csv, out=tmp_path / "run", **SMALL)


def test_a_run_says_what_its_log_was_read_with(csv, tmp_path):
    options = {"k_core": 2, "ratios": (0.5, 0.25, 0.25), "time_col": "timestamp", "min_rating": None}
    run = graphcl.train("popular", csv, out=tmp_path / "run", options=options)
    assert run.config["data"] == str(csv)
    assert run.config["columns"] == {"time_col": "timestamp"}
    assert run.config["options"] == {"k_core": 2, "ratios": [0.5, 0.25, 0.25]}
    with pytest.raises(ValueError, match=r"was trained on other data than 'toy' as it is now \(k_core 2 -> None, ratios"):
        graphcl.train("popular", csv, out=run.path, resume=True, options={"time_col": "timestamp"})


@pytest.mark.parametrize(
    ("recipe", "settings", "told"),
    [
        ("xsimgcf", {"beside": "ease", "l2": 0.0}, "l2 must be positive"),
        ("xsimgcf", {"factors": 0}, "factors must be at least 1"),
        ("sgl", {"fraction": 1.5}, r"fraction must lie in \[0, 1\)"),
        ("sgl", {"drop": "rw", "fraction": -0.1}, "fraction must lie"),
        ("lightgcl", {"dropout": 1.0}, "dropout must lie"),
        ("lightgcn", {"init": -1.0}, "init must be 'xavier' or a standard deviation of 0 or more, got -1.0"),
        ("xsimgcl", {"decay": -1.0}, "decay must be 0 or more"),
        ("xsimgcl", {"weight": -1.0}, "'weight' must be 0 or more"),
    ],
)
def test_settings_out_of_range_leave_nothing_behind(csv, tmp_path, recipe, settings, told):
    with pytest.raises(ValueError, match=told):
        graphcl.train(recipe, csv, out=tmp_path / "run", **settings)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("k", [2.5, None, "3"])
def test_the_length_of_a_list_is_a_whole_number(csv, tmp_path, k):
    run = graphcl.train("popular", csv, out=tmp_path / "run")
    with pytest.raises(ValueError, match="k must be a whole number"):
        run.recommend(k=k)


def test_a_history_keeps_ratings_at_the_threshold_and_goes_by_time():
    frame = pd.DataFrame({"user": ["a"] * 3, "item": ["i1", "i2", "i3"], "rating": [3, 5, 2], "time": [3, 1, 2]})
    ids = Vocabulary(np.array(["i1", "i2", "i3"], dtype=object))
    names, owner, rows = known_items(frame, ids, {"options": {"min_rating": 3}})
    assert (names.tolist(), owner.tolist(), rows.tolist()) == (["a"], [0, 0], [1, 0])


def test_a_refitted_run_lies_as_it_did(tmp_path):
    run = graphcl.train("lightgcn", toy_frame(), out=tmp_path / "run", protocol="refit", dim=4, epochs=1, evaluate_every=1)
    assert graphcl.load(run.path).geometry() == pytest.approx(run.result["metrics"]["embedding"])
