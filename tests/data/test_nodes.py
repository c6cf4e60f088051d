"""The folder format of HeCo and MEOW: what is read, what is refused, and the real folders against what they ship."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import sparse

from graphcl.data import load, registry
from graphcl.data.arrays import read_pairs
from graphcl.data.describe import describe_nodes, runs_at_random
from graphcl.data.nodes import UNKNOWN, LabelSplit, NodeData, _metapaths, load_nodes, read_nodes
from graphcl.hetero import HeteroGraph

PA, PS = [(0, 0), (0, 1), (1, 1), (2, 3)], [(0, 0), (1, 0), (2, 1), (3, 1)]  # author 2 and, in PA, paper 3 have none


def write_pairs(path: Path, pairs) -> None:
    path.write_text("".join(f"{a}\t{b}\n" for a, b in pairs))


@pytest.fixture
def folder(tmp_path):
    """Five papers, the last of them isolated; four authors, by the largest id; two subjects."""
    root = tmp_path / "toy"
    root.mkdir()
    write_pairs(root / "pa.txt", PA)
    write_pairs(root / "ps.txt", PS)
    np.save(root / "labels.npy", np.array([1.0, 3.0, 3.0, 1.0, 3.0]))
    sparse.save_npz(root / "p_feat.npz", sparse.csr_matrix(np.arange(15.0).reshape(5, 3)))
    for part, ids in {"train": [0, 0, 1], "val": [2], "test": [3, 4]}.items():
        np.save(root / f"{part}_20.npy", np.array(ids))
    for whole in ("pap", "psp"):
        (root / f"{whole}.npz").write_bytes(b"not read")
    return root


def test_what_is_read(folder):
    data = read_nodes(folder)
    assert data.name == "toy"
    assert data.graph.counts == {"P": 5, "A": 4, "S": 2}
    assert data.graph.target == "P"
    assert set(zip(*data.graph.relation("P", "A").nonzero(), strict=True)) == set(PA)
    assert set(zip(*data.graph.relation("P", "S").nonzero(), strict=True)) == set(PS)
    assert data.metapaths == ("PAP", "PSP")
    assert data.labels.tolist() == [0, 1, 1, 0, 1]
    assert data.classes == (1, 3)
    assert data.num_classes == 2
    assert [ids.tolist() for ids in data.splits[20]] == [[0, 0, 1], [2], [3, 4]]
    np.testing.assert_array_equal(data.graph.x["P"].toarray(), np.arange(15).reshape(5, 3))
    assert set(data.graph.x) == {"P"}
    assert data.positives is None


def test_isolated_targets_are_nodes_with_empty_rows(folder):
    graph = read_nodes(folder).graph
    assert graph.relation("P", "A")[4].nnz == graph.relation("P", "S")[4].nnz == 0
    assert graph.pathsim("PAP", 2, rng=torch.Generator().manual_seed(0))[4].nnz == 0
    for context in graph.contexts("PSP"):
        assert (context.mean @ torch.ones(context.mean.shape[1], 1)).flatten().tolist() == [1, 1, 1, 1, 0]


def test_heco_lies_over_meow(folder, tmp_path):
    root = tmp_path / "both"
    shutil.copytree(folder, root / "meow")
    (root / "heco").mkdir()
    np.save(root / "heco" / "train_20.npy", np.array([1]))
    sparse.save_npz(root / "heco" / "pos.npz", sparse.eye(5, format="coo"))
    np.save(root / "heco" / "nei_a.npy", np.array([[0], [0, 1]], dtype=object), allow_pickle=True)  # HeCo's: never read
    data = read_nodes(root)
    assert data.splits[20].train.tolist() == [1]
    assert data.positives.nnz == 5
    assert data.metapaths == ("PAP", "PSP")


def test_meta_paths_by_the_names_of_files(folder):
    for name in ("pap.npz", "psp.npz"):
        (folder / name).unlink()
    with pytest.raises(ValueError, match=r"toy: the target type can't be told, for there is no meta-path file such as pap\.npz"):
        read_nodes(folder)
    for name in ("pap.npz", "nei_pas.npz", "nei_papa.npz", "nei_pap.npz", "nei_a.npz", "nei_p.safe_csr.npz"):
        (folder / name).touch()
    with pytest.raises(ValueError, match="meta-path 'PASAP': there is no relation between A and S"):
        read_nodes(folder)
    (folder / "nei_pas.npz").rename(folder / "nei_ps.npz")
    assert read_nodes(folder).metapaths == ("PAP", "PSP", "PAPAPAP")
    (folder / "nei_papa.npz").unlink()
    assert read_nodes(folder).metapaths == ("PAP", "PSP")
    (folder / "asa.npz").touch()
    with pytest.raises(ValueError, match="the target type can't be told, for meta-paths start at a and p"):
        read_nodes(folder)


def test_a_table_with_the_ending_of_an_archive(folder):
    """DBLP's t_feat.npz is a .npy."""
    with (folder / "a_feat.npz").open("wb") as file:
        np.save(file, np.ones((4, 2), dtype=np.float64))
    assert torch.equal(read_nodes(folder).graph.x["A"], torch.ones(4, 2))


def test_features_say_how_many_there_are(folder):
    sparse.save_npz(folder / "a_feat.npz", sparse.coo_matrix(np.ones((6, 2))))
    data = read_nodes(folder)
    assert data.graph.counts["A"] == 6
    sparse.save_npz(folder / "a_feat.npz", sparse.coo_matrix(np.ones((3, 2))))
    with pytest.raises(ValueError, match=r"pa\.txt: there is no A 3; by the features there are 3"):
        read_nodes(folder)


@pytest.mark.parametrize("unknown", [np.nan, -1.0, -7.0])
def test_labels_for_some_nodes_only(folder, unknown):
    np.save(folder / "labels.npy", np.array([1.0, 3.0, unknown, 1.0, 3.0]))
    with pytest.raises(ValueError, match="toy: valid_20 names node 2, which has no label"):
        read_nodes(folder)
    np.save(folder / "val_20.npy", np.array([], dtype=np.int64))
    data = read_nodes(folder)
    assert data.labels.tolist() == [0, 1, UNKNOWN, 0, 1]
    assert data.classes == (1, 3)
    assert describe_nodes(data)["labels"]["unknown"] == 1


def unlabelled(folder: Path) -> Path:
    for path in (folder / "labels.npy", *folder.glob("*_20.npy")):
        path.unlink()
    return folder


@pytest.mark.parametrize(("features", "papers"), [(True, 5), (False, 4)])
def test_a_folder_without_labels(folder, features, papers):
    """Without features either, the largest id says how many targets there are."""
    unlabelled(folder)
    if not features:
        (folder / "p_feat.npz").unlink()
    data = read_nodes(folder)
    assert data.graph.counts == {"P": papers, "A": 4, "S": 2}
    assert data.labels.tolist() == [UNKNOWN] * papers
    assert (data.num_classes, data.classes, data.splits) == (0, (), {})
    assert describe_nodes(data)["labels"]["unknown"] == papers
    assert registry.kind_of(folder) == "hetero"


@pytest.mark.parametrize("name", ["train_20.npy", "val_20.npy", "test_20.npy"])
def test_a_split_of_a_folder_without_labels(folder, name):
    np.save(unlabelled(folder) / name, np.array([0]))
    with pytest.raises(FileNotFoundError, match=rf"toy: there is no labels\.npy, here or in .*, but {name} names labelled nodes"):
        read_nodes(folder)


def test_an_id_beyond_the_features_of_a_folder_without_labels(folder):
    write_pairs(unlabelled(folder) / "pa.txt", [(5, 1)])
    with pytest.raises(ValueError, match=r"pa\.txt: there is no P 5; by the features there are 5"):
        read_nodes(folder)


BAD_TEXTS = {
    "0 0\n1 1\n2\n": r"pa\.txt:3: two ids are expected, got '2'",
    "0 0 1\n": r"pa\.txt:1: two ids are expected, got '0 0 1'",
    "0 0\n\n1 1 4\n": r"pa\.txt:3: two ids",
    "0 0\n1 x\n": r"pa\.txt:2: two ids are expected, got '1 x'",
    "0 0\n1 1.5\n": r"pa\.txt:2: two ids",
    "0 0\n1 nan\n": r"pa\.txt:2: two ids",
    "0 0\n-1 1\n": r"pa\.txt:2: two ids",
    '0 0\n"1" 1\n': r"pa\.txt:2: two ids",
    "0,0\n1,1\n": r"pa\.txt:1: two ids are expected, got '0,0'",
    "0 0\n1 99999999999999999999\n": r"pa\.txt:2: two ids",
    "p a\n0 0\n": r"pa\.txt:1: two ids are expected, got 'p a'",
    "": r"pa\.txt: the file is empty",
    " \n\n": r"pa\.txt: the file is empty",
    "0 0\n5 1\n": r"pa\.txt: there is no P 5; by the features there are 5",
}


@pytest.mark.parametrize("text", list(BAD_TEXTS))
def test_texts_that_are_no_relation(folder, text):
    (folder / "pa.txt").write_text(text)
    with pytest.raises(ValueError, match=BAD_TEXTS[text]):
        read_nodes(folder)


@pytest.mark.parametrize("text", ["0 1\n2 3\n", "0\t1\r\n2\t3\r\n", "  0   1 \n\n2 3", "\ufeff0 1\n2 3\n", "00 1\n2 03\n"])
def test_pairs_in_any_spelling(tmp_path, text):
    (tmp_path / "pa.txt").write_bytes(text.encode())
    found = read_pairs(tmp_path / "pa.txt")
    assert found.dtype == np.int64
    assert found.tolist() == [[0, 2], [1, 3]]


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20])


def objects(path: Path) -> None:
    with path.open("wb") as file:
        np.save(file, np.array([[0], [1, 2]], dtype=object), allow_pickle=True)


def junk(path: Path) -> None:
    path.write_bytes(b"junk")


def holding(array):
    def write(path: Path) -> None:
        with path.open("wb") as file:
            np.save(file, np.array(array))

    return write


def archive(path: Path) -> None:
    with path.open("wb") as file:
        np.savez(file, a=np.ones(3))


def wide_matrix(path: Path) -> None:
    sparse.save_npz(path, sparse.eye(4, format="csr"))


def out_of_bounds(path: Path) -> None:
    matrix = sparse.eye(5, format="csr")
    np.savez(path, indices=matrix.indices + 9, indptr=matrix.indptr, data=matrix.data, shape=matrix.shape, format=b"csr")


@pytest.mark.parametrize(
    ("name", "change", "said"),
    [
        ("labels.npy", objects, r"labels\.npy: holds Python objects \(a pickle\), which are never loaded"),
        ("train_20.npy", objects, r"train_20\.npy: holds Python objects"),
        ("p_feat.npz", objects, r"p_feat\.npz: holds Python objects"),
        ("labels.npy", cut, r"labels\.npy: cannot be read"),
        ("labels.npy", junk, r"labels\.npy: not a \.npy file"),
        ("labels.npy", archive, r"labels\.npy: not a \.npy file"),
        ("p_feat.npz", cut, r"p_feat\.npz: not a sparse matrix saved by scipy"),
        ("p_feat.npz", junk, r"p_feat\.npz: not a sparse matrix"),
        ("p_feat.npz", archive, r"p_feat\.npz: not a sparse matrix"),
        ("p_feat.npz", out_of_bounds, r"p_feat\.npz: not a sparse matrix"),
        ("p_feat.npz", holding([1.0, 2.0]), r"p_feat\.npz: a table of numbers is expected, got float64 of shape \(2,\)"),
        ("p_feat.npz", holding([["a"]] * 5), r"p_feat\.npz: a table of numbers is expected, got <U1"),
        ("p_feat.npz", holding([[np.nan]] * 5), r"p_feat\.npz: a feature is not finite"),
        ("p_feat.npz", wide_matrix, "toy: 5 labels for 4 nodes of type P"),
        ("labels.npy", holding([0, 1, 1]), "toy: 3 labels for 5 nodes of type P"),
        ("labels.npy", holding([0.5, 1, 1, 0, 1]), r"labels\.npy: label 0\.5 is not a whole number"),
        ("labels.npy", holding([np.inf, 1, 1, 0, 1]), r"labels\.npy: label inf is not a whole number"),
        ("labels.npy", holding([[0, 1]] * 5), r"labels\.npy: one whole number a node is expected, got int64 of shape \(5, 2\)"),
        ("labels.npy", holding(list("abcde")), r"labels\.npy: one whole number a node is expected, got <U1"),
        ("train_20.npy", holding([0.0, 1.0]), r"train_20\.npy: a list of ids is expected, got float64"),
        ("train_20.npy", holding([[0], [1]]), r"a list of ids is expected, got int64 of shape \(2, 1\)"),
        ("train_20.npy", holding([0, 5]), "toy: train_20 names node 5, but there are 5"),
        ("test_20.npy", holding([3, -1]), "toy: test_20 names node -1, but there are 5"),
        ("val_20.npy", holding([0, 2]), "toy: 1 nodes, 0 first, are in both train_20 and valid_20"),
        ("test_20.npy", holding([1, 3, 0]), "toy: 2 nodes, 0 first, are in both train_20 and test_20"),
        ("test_20.npy", holding([2]), "toy: 1 nodes, 2 first, are in both valid_20 and test_20"),
        ("pos.npz", wide_matrix, r"pos\.npz: of shape \(4, 4\), but there are 5 P"),
        ("pos.npz", junk, r"pos\.npz: not a sparse matrix"),
        ("ap.txt", lambda path: path.write_text("0 0\n"), "is given both ways"),
    ],
)  # fmt: skip
def test_broken_files(folder, name, change, said):
    change(folder / name)
    with pytest.raises(ValueError, match=said):
        read_nodes(folder)


def test_absent_files(folder):
    with pytest.raises(FileNotFoundError, match="nowhere: no such folder"):
        read_nodes(folder.parent / "nowhere")
    with pytest.raises(NotADirectoryError, match=r"pa\.txt: is a file; a heterogeneous graph is a folder"):
        read_nodes(folder / "pa.txt")
    (folder / "val_20.npy").unlink()
    with pytest.raises(FileNotFoundError, match=r"toy: train_20\.npy has no val_20\.npy beside it"):
        read_nodes(folder)
    (folder / "labels.npy").unlink()
    with pytest.raises(
        FileNotFoundError, match=r"toy: there is no labels\.npy, here or in .*, but t\w+_20\.npy names labelled nodes"
    ):
        read_nodes(folder)
    np.save(folder / "labels.npy", np.zeros(5, dtype=int))
    for name in ("pa.txt", "ps.txt"):
        (folder / name).unlink()
    with pytest.raises(ValueError, match=r"toy: there is no relation; files such as pa\.txt are expected"):
        read_nodes(folder)


def test_another_order_of_targets(folder):
    sparse.save_npz(folder / "pos.npz", sparse.csr_matrix(([1.0], ([0], [3])), shape=(5, 5)))
    order = np.array([3, 0, 4, 1, 2])
    data, moved = read_nodes(folder), read_nodes(folder).reordered(order)
    assert moved.labels.tolist() == data.labels[order].tolist()
    assert moved.ids.tolist() == order.tolist()
    for part, ids in moved.splits[20]._asdict().items():
        assert order[ids.numpy()].tolist() == getattr(data.splits[20], part).tolist()
    assert moved.positives[1, 0] == 1  # paper 0 is number 1 now, paper 3 number 0
    assert moved.positives.nnz == 1
    np.testing.assert_array_equal(moved.graph.x["P"].toarray(), data.graph.x["P"].toarray()[order])
    again = moved.reordered(np.argsort(order))
    assert again.ids.tolist() == list(range(5))
    assert [ids.tolist() for ids in again.splits[20]] == [ids.tolist() for ids in data.splits[20]]


def test_a_meta_path_of_the_data_must_compose():
    graph = HeteroGraph.from_edges({"P": 2, "A": 1}, {("P", "A"): np.array([[0], [0]])}, "P")
    split = {20: LabelSplit(torch.tensor([0]), torch.tensor([1]), torch.tensor([], dtype=torch.int64))}
    assert NodeData("mine", graph, ("PAP",), torch.tensor([0, 1]), split).num_classes == 2
    with pytest.raises(ValueError, match="meta-path 'PPP': there is no relation between P and P"):
        NodeData("mine", graph, ("PPP",), torch.tensor([0, 1]), split)
    for metapath in ("PA", "AP", "APA"):  # heco found out in its first step, and left a run behind
        with pytest.raises(ValueError, match=f"mine: meta-path '{metapath}' must lead from the target type, P, to itself"):
            NodeData("mine", graph, (metapath,), torch.tensor([0, 1]), split)


def test_a_graph_of_ones_own():
    edges = {("paper", "author"): np.array([[0, 1, 2], [0, 0, 1]])}
    graph = HeteroGraph.from_edges({"paper": 3, "author": 2}, edges, "paper")
    bare = NodeData.from_graph(graph, ["paper-author-paper"])
    assert (bare.name, bare.metapaths, bare.labels.tolist()) == ("graph", ("paper-author-paper",), [UNKNOWN] * 3)
    assert (bare.num_classes, bare.classes, bare.splits) == (0, (), {})
    parts = tuple(torch.tensor([number]) for number in (2, 0))
    given = NodeData.from_graph(
        graph, ["PAP"], np.array([7, np.nan, 3]), {1: (*parts, torch.tensor([], dtype=torch.int64))}, "mine"
    )
    assert (given.name, given.labels.tolist(), given.classes) == ("mine", [1, UNKNOWN, 0], (3, 7))
    assert given.splits[1].valid.tolist() == [0]
    assert NodeData.from_graph(graph, ["PAP"], torch.tensor([4, 4, 2])).labels.tolist() == [1, 1, 0]
    for split in (([2], [0], [1]), tuple(torch.eye(3, dtype=torch.bool)[[2, 0, 1]])):  # lists, and masks as PyG has them
        made = NodeData.from_graph(graph, ["PAP"], [7, 7, 3], {1: split})
        assert [part.tolist() for part in made.splits[1]] == [[2], [0], [1]]
    with pytest.raises(ValueError, match=r"edges are keyed by two types, \(from, to\), got \('P', 'writes', 'A'\)"):
        HeteroGraph.from_edges({"P": 2, "A": 1}, {("P", "writes", "A"): np.zeros((2, 1), dtype=int)}, "P")


@pytest.mark.parametrize(
    ("metapaths", "more", "said"),
    [
        ("PAP", {}, r"graph: a list of meta-paths is needed, such as \['PAP'\], got 'PAP'"),
        ([], {}, r"graph: a list of meta-paths is needed, such as \['PAP'\], got \[\]"),
        (["PP"], {}, "meta-path 'PP': there is no relation between P and P"),
        (["PXP"], {}, "meta-path 'PXP': 'X' is no type"),
        (["PAP"], {"labels": [0, 1, 1]}, "graph: 3 labels for 2 nodes of type P"),
        (["PAP"], {"labels": [0.5, 1]}, "graph: labels: label 0.5 is not a whole number"),
        (["PAP"], {"labels": [[0], [1]]}, r"graph: labels: one whole number a node is expected, got int64 of shape \(2, 1\)"),
        (["PAP"], {"splits": {1: tuple(torch.tensor([[0], [1], []][i]).long() for i in range(3))}}, "train_1 names node 0, which has no label"),
        (["PAP"], {"splits": {1: ([True], [1], [])}}, r"graph: split 1: a part is node numbers, or a mask of 2 nodes, got torch.bool of shape \(1,\)"),
        (["PAP"], {"splits": {1: ([0.9], [1], [])}}, "got torch.float32 of shape"),
    ],
)  # fmt: skip
def test_what_a_graph_of_ones_own_refuses(metapaths, more, said):
    graph = HeteroGraph.from_edges({"P": 2, "A": 1}, {("P", "A"): np.array([[0], [0]])}, "P")
    with pytest.raises(ValueError, match=said):
        NodeData.from_graph(graph, metapaths, **more)


# --- description ------------------------------------------------------------------------------------------------------------


def test_description(folder):
    found = describe_nodes(read_nodes(folder))
    assert found["nodes"] == {
        "P": {"count": 5, "features": 3},
        "A": {"count": 4, "features": None},
        "S": {"count": 2, "features": None},
    }
    assert found["relations"] == {"P-A": 4, "P-S": 4}
    pap = np.array([[2, 1, 0], [1, 1, 0], [0, 0, 1]])
    assert found["metapaths"]["PAP"] == {"pairs": np.count_nonzero(pap), "instances": pap.sum()}
    assert found["metapaths"]["PSP"] == {"pairs": 8, "instances": 8}
    assert found["labels"]["classes"] == {"1": 2, "3": 3}
    assert found["labels"]["runs"] == 4
    assert not found["labels"]["follow_ids"]
    assert found["splits"] == {"20": {"train": 3, "valid": 1, "test": 2}}


def test_runs_at_random():
    """Mean and deviation of the runs of shuffled labels, and the two orders that the verdict is about."""
    rng, labels = np.random.default_rng(0), np.repeat([0, 1, 2], [60, 30, 10])
    runs = [1 + np.count_nonzero(np.diff(rng.permutation(labels))) for _ in range(4000)]
    mean, deviation = runs_at_random(np.bincount(labels))
    assert abs(np.mean(runs) - mean) < 4 * deviation / np.sqrt(4000)
    assert abs(np.std(runs) / deviation - 1) < 0.05
    graph = HeteroGraph.from_edges({"P": 100, "A": 1}, {("P", "A"): np.zeros((2, 1), dtype=int)}, "P")
    for order, follows in ((labels, True), (rng.permutation(labels), False)):
        assert describe_nodes(NodeData("x", graph, (), torch.from_numpy(order), {}))["labels"]["follow_ids"] == follows


# --- registered -------------------------------------------------------------------------------------------------------------

CONFIG = """
[dataset]
name = toy
group = hetero
title = A toy
citation = Nobody, nowhere
format = heco
metapaths = PSP, PAP
optional = pos

[files]
labels = labels.npy
pa = pa.txt
ps = ps.txt
p_feat = p_feat.npz
pos = pos.npz

[counts]
p = 5
a = 4
pa = 4
classes = 2
"""


@pytest.fixture
def toy(folder, tmp_path, monkeypatch):
    """The folder, registered: its files stand where $GRAPHCL_DATA says, its configuration elsewhere."""
    monkeypatch.setenv("GRAPHCL_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("GRAPHCL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(registry, "config_root", lambda: tmp_path / "datasets")
    for group in ("hetero", "general"):
        (tmp_path / "datasets" / group / "toy").mkdir(parents=True)
    config = tmp_path / "datasets" / "hetero" / "toy" / "dataset.cfg"
    config.write_text(CONFIG)
    files = tmp_path / "data" / "hetero" / "toy" / "meow"
    shutil.copytree(folder, files)
    return config, files


def test_a_registered_name(toy):
    data = load_nodes("toy")
    assert data.name == "toy"
    assert data.citation == "Nobody, nowhere"
    assert data.metapaths == ("PSP", "PAP")  # in the order of the configuration
    assert data.graph.counts == {"P": 5, "A": 4, "S": 2}
    assert data.splits == {}  # only what is registered is read
    assert data.positives is None
    sparse.save_npz(toy[1].parent / "pos.npz", sparse.eye(5, format="csr"))
    assert load_nodes("hetero/toy").positives.nnz == 5


def test_a_bare_name_is_looked_for_in_the_own_group_first(toy):
    general = toy[0].parents[2] / "general" / "toy" / "dataset.cfg"
    general.write_text("[dataset]\nname = toy\ngroup = general\n[files]\nlog = log.csv\n")
    assert load_nodes("toy").graph.target == "P"
    assert registry.find("toy").group == "general"
    with pytest.raises(
        ValueError, match="general/toy is a log of interactions, but a graph of labelled nodes of several types is needed here"
    ):
        load_nodes("general/toy")


def test_a_path_goes_to_the_folder(toy, folder):
    assert load_nodes(folder).splits.keys() == {20}
    assert load_nodes(str(folder)).citation == ""
    assert registry.kind_of(folder) == "hetero"
    assert registry.kind_of("toy") == "hetero"
    assert registry.kind_of(toy[1].parent) == "hetero"
    assert registry.kind_of(folder.parent) == "general"


def test_a_recommender_says_that_it_needs_a_log(toy):
    with pytest.raises(ValueError, match=r"hetero/toy is a graph of labelled nodes, but a log of interactions is needed here"):
        load("toy")


def test_a_promised_file_that_is_not_there(toy):
    (toy[1] / "p_feat.npz").unlink()
    with pytest.raises(FileNotFoundError, match=r"hetero/toy: its p_feat file \(p_feat\.npz\) is not here; put it into"):
        load_nodes("toy")


@pytest.mark.parametrize(
    ("name", "pairs", "said"),
    [("pa.txt", [*PA[:3], (2, 2)], "expected 4 a, found 3"), ("pa.txt", [*PA, (4, 3)], "expected 4 pa, found 5")],
)
def test_other_counts_than_registered(toy, name, pairs, said):
    write_pairs(toy[1] / name, pairs)
    with pytest.raises(ValueError, match=f"hetero/toy: {said}"):
        load_nodes("toy")


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("labels = labels.npy\n", "", r"needs \[files\] labels and \[dataset\] metapaths"),
        ("metapaths = PSP, PAP\n", "", r"needs \[files\] labels and \[dataset\] metapaths"),
        ("format = heco", "format = hecko", "unknown format 'hecko'; did you mean 'heco'"),
        ("p = 5", "p = five", r"\[counts\] p must be a number"),
    ],
)
def test_broken_configurations(toy, old, new, said):
    toy[0].write_text(CONFIG.replace(old, new))
    with pytest.raises(ValueError, match=rf"dataset\.cfg: .*{said}"):
        load_nodes("toy")


def test_unknown_names(toy):
    with pytest.raises(ValueError, match="unknown data set 'toi'; did you mean 'toy'"):
        load_nodes("toi")
    with pytest.raises(FileNotFoundError, match="no such folder"):
        load_nodes(Path("toi"))


# --- the real folders -------------------------------------------------------------------------------------------------------

DATA = Path(os.environ.get("GRAPHCL_DATA", "")) / "hetero"
RNG = torch.Generator


def real(name: str) -> NodeData:
    if not (DATA / name).is_dir():
        pytest.skip(f"$GRAPHCL_DATA/hetero/{name} is not here")
    return load_nodes(name)


@pytest.mark.parametrize(
    ("name", "counts", "sizes"),
    [
        ("acm", {"P": 4019, "A": 7167, "S": 60}, (1993, 965, 1061)),
        ("dblp", {"A": 4057, "P": 14328, "T": 7723, "C": 20}, (1197, 745, 1109, 1006)),
        ("aminer", {"P": 6564, "A": 13329, "R": 35890}, (1333, 1114, 526, 3591)),
        ("imdb", {"M": 4275, "A": 5432, "D": 2083, "K": 7313}, (1112, 1594, 1569)),
    ],
)
def test_nodes_and_classes(name, counts, sizes):
    data = real(name)
    assert data.graph.counts == counts
    assert tuple(torch.bincount(data.labels).tolist()) == sizes
    assert data.classes[0] == (1 if name == "imdb" else 0)
    assert {rate: [len(ids) for ids in split] for rate, split in data.splits.items()} == {
        rate: [rate * len(sizes), 1000, 1000] for rate in (20, 40, 60)
    }
    assert data.citation
    assert read_nodes(DATA / name).metapaths == data.metapaths  # the names of the files say the same
    assert (data.positives is None) == (name == "imdb")


@pytest.mark.parametrize(("name", "paths"), [("acm", "PAP PSP"), ("dblp", "APA"), ("imdb", "MAM MDM MKM"), ("aminer", "PAP PRP")])
def test_derived_graphs_equal_the_shipped_ones(name, paths):
    """With counts; AMiner's are patterns."""
    graph = real(name).graph
    for path in paths.split():
        derived = graph.pathsim(path, None)
        shipped = sparse.load_npz(DATA / name / "meow" / f"{path.lower()}.npz").tocsr()
        derived = derived > 0 if name == "aminer" else derived
        assert (derived != shipped.astype(derived.dtype)).nnz == 0


def test_shipped_incidences_are_the_contexts():
    graph = real("dblp").graph
    for path, context in (("APA", "ap"), ("APCPA", "apc"), ("APTPA", "apt")):
        shipped = sparse.load_npz(DATA / "dblp" / "meow" / f"nei_{context}.npz").tocsr()
        mean = graph.contexts(path)[len(context) - 2].mean
        assert ((mean.to_scipy() > 0) != (shipped > 0)).nnz == 0


def test_instances():
    graph = real("dblp").graph
    assert [graph.instances(path) for path in ("APA", "APCPA", "APTPA")] == [32_789, 30_803_571, 41_633_537]
    assert [graph.pairs(path) for path in ("APA", "APCPA", "APTPA")] == [11_113, 5_000_495, 7_043_571]
    assert graph.half("APTPA").nnz < 600_000


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "kept"),
    [
        ("acm", {"PAP": (110, 57_797), "PSP": (700, 2_147_611)}),
        ("dblp", {"APA": (25, 11_022), "APCPA": (200, 811_045), "APTPA": (40, 162_119)}),
        ("aminer", {"PAP": (5, 17_182), "PRP": (21, 75_869)}),
        ("imdb", {"MAM": (70, 80_861), "MDM": (10, 15_314), "MKM": (70, 203_882)}),
    ],
)
def test_entries_after_pruning(name, kept):
    """With the limits of MEOW."""
    graph = real(name).graph
    rng = RNG().manual_seed(0)
    assert {path: (k, graph.pathsim(path, k, rng=rng).nnz) for path, (k, _) in kept.items()} == kept


@pytest.mark.slow
def test_the_order_of_ids_leaks_labels_through_ties():
    """Of the 700 strongest of ACM's PSP: 68.1 % of the own class with random ties, 75.2 % with those of numpy's sort on a processor with
    AVX-512, 56.9 % on one without: numpy has a sort for each, and each leaves other ids last."""
    data = real("acm")

    def same(graph):
        ends = graph.tocoo()
        return float((data.labels[ends.row] == data.labels[ends.col]).double().mean())

    shares = [same(data.graph.pathsim("PSP", 700, rng=RNG().manual_seed(seed))) for seed in range(3)]
    assert np.allclose(shares, 0.681, atol=0.001)
    assert abs(same(data.graph.pathsim("PSP", 700, tie="released")) - 0.681) > 0.05
    assert same(data.graph.pathsim("PSP", None)) == pytest.approx(0.639, abs=0.001)


def test_random_ties_do_not_know_the_order_of_ids():
    data = real("acm")
    moved = data.reordered(np.random.default_rng(0).permutation(4019))

    def same(each):
        ends = each.graph.pathsim("PSP", 700, rng=RNG().manual_seed(0)).tocoo()
        return float((each.labels[ends.row] == each.labels[ends.col]).double().mean())

    assert same(data) == pytest.approx(same(moved), abs=0.001)


def test_neighbours_of_the_own_type_say_a_meta_path():
    names = ("pap.npz", "nei_a.npz", "nei_pp.npz")
    assert _metapaths(dict.fromkeys(names, Path("x")), Path("x")) == ("PAP", "PPP")
