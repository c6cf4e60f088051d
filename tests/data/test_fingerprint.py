import hashlib
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from graphcl.data.attributed import AttributedData
from graphcl.data.fingerprint import of_graph, of_histories, of_split
from graphcl.data.nodes import LabelSplit, NodeData
from graphcl.data.sequences import load_sequences, split_sequences
from graphcl.data.split import Split
from graphcl.graph import Graph
from graphcl.hetero import HeteroGraph
from graphcl.interactions import Interactions, Vocabulary
from graphcl.planted import planted


def test_a_split_is_hashed_as_whole_columns_of_int64():
    """Runs keep the digest, so it may never change; columns here are longer than the pieces that are hashed."""
    drawn = np.random.default_rng(0)
    ids = Vocabulary(np.arange(50)), Vocabulary(np.array([f"i{i}" for i in range(70)], dtype=object))
    train, test = (
        Interactions(drawn.integers(0, 50, n).astype(np.int32), drawn.integers(0, 70, n).astype(np.int32), *ids)
        for n in (300_000, 7)
    )
    digest = hashlib.sha256()
    for name, part in (("train", train), ("test", test)):
        digest.update(name.encode() + part.users.astype(np.int64).tobytes() + part.items.astype(np.int64).tobytes())
    for vocabulary in ids:
        digest.update(pd.util.hash_array(vocabulary.ids).tobytes())
    assert of_split(Split("toy", train, None, test, "files", 0)) == digest.hexdigest()


@pytest.mark.parametrize("rule", ["leave_one_out", "all"])
def test_histories_are_hashed_with_what_is_trained_on_and_what_is_held_out(rule):
    """Runs keep the digest: of items by user, where users begin, what trains, how many and which places are held out (-1: none), ids."""
    ids = Vocabulary(np.array([7, 5])), Vocabulary(np.array(["a", "b", "c"], dtype=object))
    users, items = np.array([0, 1, 0, 1, 0, 0], np.int32), np.array([2, 0, 1, 1, 2, 0], np.int32)
    split = split_sequences(Interactions(users, items, *ids), rule=rule)
    # Rows 0..3 are user 0's, who alone has three; places held out stand behind their number.
    held = ([2, 2], [1, 2], [1, 3]) if rule == "leave_one_out" else ([4, 2], [-1], [-1])
    digest = hashlib.sha256()
    for part in ([2, 1, 2, 0, 0, 1], [0, 4, 6], *held):
        digest.update(np.array(part, dtype=np.int64).tobytes())
    for vocabulary in ids:
        digest.update(pd.util.hash_array(vocabulary.ids).tobytes())
    assert of_histories(split) == digest.hexdigest()


def test_histories_cut_at_other_times_are_other_data():
    frame = pd.DataFrame({"user": list("aabbcc"), "item": [1, 2] * 3, "time": [0, 10, 0, 20, 0, 30]})
    made = [load_sequences(frame, rule="global_time", cuts=cuts) for cuts in ((5, 15), (5, 25))]
    assert [len(each.valid.places) for each in made] == [1, 2]
    assert of_histories(made[0]) != of_histories(made[1])


def test_a_fingerprint_is_of_who_is_joined_to_whom():
    """Degrees are the same, labels and features too."""
    found = set()
    for first, second in (([0, 2], [1, 3]), ([0, 1], [2, 3])):
        graph = Graph.from_pairs(np.array(first), np.array(second), 4)
        found.add(of_graph(AttributedData("toy", graph, torch.eye(4), torch.tensor([0, 0, 1, 1]))))
        edges = np.array([[0, 1], [0, 1] if first[1] == 2 else [1, 0]])
        found.add(of_graph(NodeData.from_graph(HeteroGraph.from_edges({"P": 2, "A": 2}, {("P", "A"): edges}, "P"), ["PAP"])))
    assert len(found) == 4


def test_a_fingerprint_is_of_rates_and_of_where_a_split_parts():
    data = planted()
    ((rate, split),) = list(data.splits.items())[:1]
    moved = LabelSplit(split.train, split.valid[:-1], split.test.new_tensor([*split.valid[-1:], *split.test]))
    for splits in ({rate: moved}, {rate + 1: split}):
        assert of_graph(replace(data, splits=splits)) != of_graph(replace(data, splits={rate: split}))
