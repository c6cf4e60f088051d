"""Peers without RecBole: what is written for it, and what is said where it cannot be asked."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from graphcl import bench
from graphcl.data.registry import find as find_data
from graphcl.data.split import split
from graphcl.integrations import peer
from graphcl.interactions import Interactions, Vocabulary

ROOT = Path(__file__).resolve().parents[2]
PEERS = [path for path in sorted((ROOT / "benchmarks" / "configs").glob("*.json")) if "peer" in json.loads(path.read_text())]


def log(times=True):
    users, items = np.array([0, 0, 0, 0, 1, 1, 1]), np.array([3, 1, 2, 0, 1, 2, 3])
    stamps = np.array([5.0, 9.0, 2.0, 5.0, 1.0, 1.0, 1.0]) if times else None
    ids = Vocabulary(np.array(["a\tb", "c"], dtype=object)), Vocabulary(np.arange(4))
    return Interactions(users, items, *ids, time=stamps, name="log")


def lines(path):
    head, *rows = path.read_text().splitlines()
    return head, [tuple(row.split("\t")) for row in rows]


def test_parts_are_written_by_row_numbers(tmp_path):
    made = split(log(), rule="leave_one_out")
    peer.write_parts(tmp_path, "log", made.parts)
    assert sorted(path.name for path in (tmp_path / "log").iterdir()) == ["log.test.inter", "log.train.inter", "log.valid.inter"]
    for name, part in made.parts.items():
        head, rows = lines(tmp_path / "log" / f"log.{name}.inter")
        assert head == "user_id:token\titem_id:token"
        assert rows == [(f"u{u}", f"i{i}") for u, i in zip(part.users.tolist(), part.items.tolist(), strict=True)]


@pytest.mark.parametrize("times", [True, False])
def test_a_history_is_written_in_order_and_ends_with_what_is_held_out(times, tmp_path):
    made = split(log(times), rule="leave_one_out")
    peer.write_history(tmp_path, "log", made)
    head, rows = lines(tmp_path / "log" / "log.inter")
    assert head == "user_id:token\titem_id:token\ttimestamp:float"
    names = made.train.user_ids.ids, made.train.item_ids.ids
    found = {}
    for u, i, place in rows:
        found.setdefault(names[0][int(u[1:])], {})[int(place)] = int(names[1][int(i[1:])])
    told = {user: [history[place] for place in range(len(history))] for user, history in found.items()}
    held_out = {
        names[0][user]: [int(names[1][part.items[part.users == user][0]]) for part in (made.valid, made.test)] for user in (0, 1)
    }
    # By time, and in the file's order where it is the same; which of equal times is held out is drawn.
    order = {"a\tb": [2, 3, 0, 1] if times else [3, 1, 2, 0], "c": [1, 2, 3]}
    assert told == {user: [i for i in items if i not in held_out[user]] + held_out[user] for user, items in order.items()}
    assert held_out["a\tb"][1] == (1 if times else 0)


def test_a_history_that_holds_out_a_pair_twice_is_refused(tmp_path):
    twice = log().take(np.array([0, 2, 1, 1, 4, 5]))
    with pytest.raises(ValueError, match="has 2 test rows: RecBole holds out one row"):
        peer.write_history(tmp_path, "log", split(twice, rule="leave_one_out", ratios=(0.5, 0.5)))


CONFIG = {"recipe": "recbole:BPR", "peer": "recbole", "data": "ml-100k", "protocol": "valid", "seeds": [0], "settings": {}}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"peer": "elliot"}, "toy: the one peer that is known is 'recbole'.*got 'elliot'"),
        ({"recipe": "lightgcn"}, "with recipes such as 'recbole:LightGCN'; got 'recbole' and 'lightgcn'"),
        ({"protocol": "as-published"}, "toy: RecBole masks as protocols valid and recbole do, not as 'as-published'"),
        ({"split": "temporal"}, "toy: split is the data set's own, or 'leave_one_out'; got 'temporal'"),
    ],
)
def test_a_peer_that_cannot_be_is_refused(change, message, tmp_path):
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "toy.json").write_text(json.dumps({**CONFIG, **change}))
    with pytest.raises(ValueError, match=message):
        bench.run("toy", root=tmp_path)


def test_without_the_environment_the_way_to_it_is_named(tmp_path):
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "toy.json").write_text(json.dumps(CONFIG))
    with pytest.raises(FileNotFoundError, match="make test-recbole creates the environment"):
        bench.run("toy", root=tmp_path)


@pytest.mark.parametrize("path", PEERS, ids=lambda path: path.stem)
def test_a_peers_configuration_names_what_exists(path):
    config = json.loads(path.read_text())
    peer._check(path.stem, config, Path(sys.executable))
    assert find_data(config["data"]).name == config["data"]
    assert config["published"] is None or config["published"]["source"]
    assert config["settings"]


@pytest.mark.parametrize("path", PEERS, ids=lambda path: path.stem)
def test_a_peers_result_is_of_its_configuration(path):
    config = json.loads(path.read_text())
    result = json.loads((ROOT / "benchmarks" / "results" / path.name).read_text())
    for key in ("recipe", "peer", "data", "protocol", "published"):
        assert result[key] == config[key]
    assert result["split"] == config.get("split")
    assert config["settings"].items() <= result["settings"].items()
    assert [seed["seed"] for seed in result["seeds"]] == config["seeds"]
    assert result["versions"]["packages"]["recbole"] == "1.2.1"


@pytest.mark.slow
def test_without_recbole_one_line_says_what_to_do():
    """Where RecBole's packages are too new or not there; where they are, it can be imported."""
    program = "import sys; sys.modules['recbole'] = None; import graphcl.integrations.recbole"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("ImportError: RecBole 1.2.1 runs with NumPy 1 and pandas 2")
    assert 'pip install -c constraints.txt -c constraints-recbole.txt -e ".[recbole]"' in last
