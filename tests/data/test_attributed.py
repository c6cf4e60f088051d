"""Attributed graphs: the .npz format, PyG's Data, the registered sets, and what is refused."""

import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import sparse

import graphcl
from graphcl.data import registry
from graphcl.data.attributed import AttributedData, load_attributed, read_attributed, write_attributed
from graphcl.data.describe import describe_attributed
from graphcl.data.nodes import LabelSplit
from graphcl.graph import Graph

DATA = Path(os.environ.get("GRAPHCL_DATA", "")) / "attributed"
EDGES = [(0, 1), (0, 3), (1, 3), (2, 4)]
X = np.array([[1, 0, 1], [0, 0, 1], [0, 1, 0], [0, 0, 0], [1, 1, 1], [0, 1, 1]])  # node 3 has no word, node 5 no edge
Y = [0, 1, 0, 0, 2, 1]


def arrays(**changes):
    table = sparse.csr_matrix(X)
    made = {
        "edges": np.array(EDGES, dtype=np.int32), "y": np.array(Y), "x_shape": np.array(X.shape), "x_indptr": table.indptr,
        "x_indices": table.indices.astype(np.int16), "self_loops": np.array([2]),
    }  # fmt: skip
    return {key: value for key, value in {**made, **changes}.items() if value is not None}


def saved(path, **changes):
    np.savez(path, **arrays(**changes))
    return path


def split(*parts):
    return LabelSplit(*(torch.tensor(part) for part in parts))


def dense(data):
    return data.x.numpy() if isinstance(data.x, torch.Tensor) else data.x.toarray()


def test_a_binary_pattern(tmp_path):
    data = read_attributed(saved(tmp_path / "toy.npz"))
    assert (data.name, data.num_classes, data.num_clusters, data.splits) == ("toy", 3, 3, {})
    np.testing.assert_array_equal(dense(data), X)
    assert data.x.dtype == np.float32
    assert data.graph.pairs.T.tolist() == [list(pair) for pair in EDGES]
    assert data.graph.order is None
    assert data.labels.tolist() == Y


@pytest.mark.parametrize("dense_ones", [False, True])
def test_a_file_without_labels(tmp_path, dense_ones):
    path = saved(tmp_path / "toy.npz", y=None, x=X.astype(float) if dense_ones else None)
    data = read_attributed(path)
    assert (data.labels.tolist(), data.num_classes, data.num_clusters, data.splits) == ([-1] * 6, 0, 0, {})
    np.testing.assert_array_equal(dense(data), X)
    assert data.graph.pairs.T.tolist() == [list(pair) for pair in EDGES]
    assert registry.kind_of(path) == "attributed"


def test_real_features_by_column_and_dense_ones(tmp_path):
    values = X * np.array([0.5, -2.0, 3.0])
    columns = sparse.csc_matrix(values)
    given = {
        "xc_indptr": columns.indptr,
        "xc_indices": columns.indices.astype(np.int16),
        "xc_data": columns.data.astype(np.float32),
    }
    data = read_attributed(saved(tmp_path / "a.npz", x_indptr=None, x_indices=None, **given))
    np.testing.assert_array_equal(dense(data), values)
    data = read_attributed(saved(tmp_path / "b.npz", x_indptr=None, x_indices=None, x=values))
    assert data.x.dtype == torch.float32
    np.testing.assert_array_equal(dense(data), values)


def test_ids_of_small_types_are_widened(tmp_path):
    """40,000 columns fit no int16, but 30,000 do, and sums of them do not."""
    rows, columns = np.arange(6), np.full(6, 30_000, dtype=np.int16)
    path = saved(tmp_path / "a.npz", x_shape=np.array([6, 40_000]), x_indptr=np.arange(7, dtype=np.int16), x_indices=columns)
    data = read_attributed(path)
    assert data.x.nonzero()[1].tolist() == [30_000] * 6
    assert (data.x @ sparse.csr_matrix((np.ones(6), (columns.astype(int), rows)), (40_000, 6))).sum() == 36
    with pytest.raises(ValueError, match="are no sparse matrix"):
        read_attributed(
            saved(tmp_path / "b.npz", x_shape=np.array([6, 40_000]), x_indptr=np.arange(7), x_indices=columns - np.int16(30_001))
        )


def test_edges_merge_and_labels_are_numbered(tmp_path):
    edges = np.array([*EDGES, (3, 1), (0, 1), (5, 5)])
    data = read_attributed(saved(tmp_path / "a.npz", edges=edges, y=np.array([7, 9, 7, -1, 12, 9]), unlabelled_idx=np.array([1])))
    assert data.graph.pairs.T.tolist() == [list(pair) for pair in EDGES]
    assert data.labels.tolist() == [0, -1, 0, -1, 2, 1]
    assert data.classes == (7, 9, 12)


def test_a_split_stands_under_its_rate(tmp_path):
    ids = {"train_idx": np.array([0, 1, 4], dtype=np.int32), "val_idx": np.array([2]), "test_idx": np.array([3, 5])}
    data = read_attributed(saved(tmp_path / "a.npz", **ids))
    assert {rate: [part.tolist() for part in each] for rate, each in data.splits.items()} == {1: [[0, 1, 4], [2], [3, 5]]}


def test_a_folder_with_one_file(tmp_path):
    saved(tmp_path / "toy.npz")
    assert read_attributed(tmp_path).name == "toy"
    saved(tmp_path / "more.npz")
    with pytest.raises(FileNotFoundError, match=r"one \.npz file or Planetoid's"):
        read_attributed(tmp_path)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"edges": None}, "there is no array edges; it has y, x_shape"),
        ({"y": None, "x_shape": None}, "there is no array x_shape"),
        ({"y": None, "edges": np.array([(0, 6)])}, "edges names node 6, but there are 6"),
        ({"y": None, **{f"{part}_idx": np.array([i]) for i, part in enumerate(("train", "val", "test"))}}, "which has no label"),
        ({"x": np.zeros(6)}, r"x must be a table \[N, F\], got shape \(6,\)"),
        ({"x_shape": None}, "there is no array x_shape"),
        ({"x_indices": None}, "there is no array x_indices"),
        ({"y": np.array(Y[:-1])}, r"features of shape \(6, 3\) for 5 labels in y"),
        ({"y": np.array(Y) + 0.5}, "y must hold whole numbers in 1 dimensions, got float64"),
        ({"y": np.array(Y)[:, None]}, r"y must hold whole numbers in 1 dimensions, got int64 of shape \(6, 1\)"),
        ({"edges": np.array([(0, 6)])}, "edges names node 6, but there are 6"),
        ({"edges": np.array([(-1, 2)])}, "edges names node -1, but there are 6"),
        ({"edges": np.array([(0, 1, 2)])}, r"edges must be \[E, 2\]"),
        ({"unlabelled_idx": np.array([6])}, "unlabelled_idx names node 6"),
        ({"train_idx": np.array([0])}, "a split is train_idx, val_idx and test_idx, but only train_idx is there"),
        ({"train_idx": np.array([0]), "val_idx": np.array([0]), "test_idx": np.array([1])}, "are in both train_1 and valid_1"),
        ({"train_idx": np.array([0]), "val_idx": np.array([6]), "test_idx": np.array([1])}, "val_idx names node 6"),
        ({"train_idx": np.array([0]), "val_idx": np.array([], dtype=int), "test_idx": np.array([1])}, "valid_1 is empty"),
        ({"x_indptr": np.array([0, 1, 2])}, "are no sparse matrix"),
        ({"x_indptr": np.array([0, 2, 1, 1, 1, 1, 9])}, "are no sparse matrix"),
        ({"x_shape": np.array([6, 2])}, "are no sparse matrix"),
        ({"x": np.full((6, 2), np.nan)}, "a feature is not finite"),
        ({"x": np.full((6, 2), "a")}, "x must be a table of numbers"),
        ({"x": np.array([[None, []]] * 6, dtype=object)}, "holds Python objects"),
        ({"y": np.array([{}] * 6, dtype=object)}, "holds Python objects"),
    ],
)
def test_bad_files(tmp_path, changes, says):
    path = saved(tmp_path / "toy.npz", **changes)
    with pytest.raises(ValueError, match=f"toy.*: .*{says}"):
        read_attributed(path)


def test_arrays_that_are_not_read_are_told(tmp_path):
    with pytest.warns(UserWarning, match=r"toy\.npz: labels, train_mask will not be read; known arrays: .*y"):
        read_attributed(saved(tmp_path / "toy.npz", labels=np.array(Y), train_mask=np.ones(6)))
    with pytest.raises(ValueError, match=r"edge_weight will not be read.* what edges carry would be lost"):
        read_attributed(saved(tmp_path / "toy.npz", edge_weight=np.ones(3)))


@pytest.mark.parametrize("wrong", [np.array([3, 4]), np.array(2.7), np.array("x")])
def test_a_number_of_clusters_that_is_none(tmp_path, wrong):
    with pytest.raises(ValueError, match=r"toy\.npz: num_clusters must be one whole number, got"):
        read_attributed(saved(tmp_path / "toy.npz", num_clusters=wrong))


def test_damaged_and_foreign_files(tmp_path):
    path = saved(tmp_path / "toy.npz")
    whole = path.read_bytes()
    for cut in (whole[:-40], whole[: len(whole) // 2], whole[:300] + bytes(50) + whole[350:]):
        path.write_bytes(cut)
        with pytest.raises(ValueError, match=r"toy\.npz: cannot be read"):
            read_attributed(path)
    for other in (b"", b"graph", pickle.dumps([1])):
        path.write_bytes(other)
        with pytest.raises(ValueError, match=r"toy\.npz: not a \.npz file"):
            read_attributed(path)
    with pytest.raises(FileNotFoundError, match="no such file or folder"):
        read_attributed(tmp_path / "none.npz")


def made(**changes):
    fields = {
        "name": "toy",
        "graph": Graph.from_pairs(*np.array(EDGES).T, 6),
        "x": torch.from_numpy(X).float(),
        "labels": torch.tensor(Y),
    }
    return AttributedData(**{**fields, **changes})


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"labels": torch.tensor(Y[:-1])}, r"labels must be int64 of shape \(6,\), one a node, got torch.int64 of shape \(5,\)"),
        ({"labels": torch.tensor(Y).float()}, "got torch.float32"),
        (
            {"x": torch.zeros(5, 3)},
            r"features must be a float32 table of 6 rows, one a node, got torch.float32 of shape \(5, 3\)",
        ),
        ({"x": torch.zeros(6, 3).double()}, "got torch.float64"),
        ({"x": torch.full((6, 3), torch.inf)}, "features of toy must be finite numbers; 18 are not"),
        (
            {"x": sparse.csr_matrix(np.where(X, np.nan, 0).astype(np.float32))},
            "features of toy must be finite numbers; 9 are not",
        ),
        ({"splits": {1: split([0], [1], [0])}}, "are in both train_1 and test_1"),
        ({"splits": {1: split([0], [1], [9])}}, "test_1 names node 9, but there are 6"),
        ({"labels": torch.tensor([-1, *Y[1:]]), "splits": {1: split([0], [1], [2])}}, "train_1 names node 0, which has no label"),
        ({"num_clusters": -1}, "num_clusters must lie between 1 and the number of nodes, 6, or be 0 .*, got -1"),
        ({"num_clusters": 7}, "num_clusters must lie between 1 and the number of nodes, 6, or be 0 .*, got 7"),
    ],
)
def test_what_the_data_refuse(changes, says):
    with pytest.raises(ValueError, match=says):
        made(**changes)


def test_a_renumbered_graph_is_refused():
    torch_geometric = pytest.importorskip("torch_geometric")
    graph = Graph.from_pyg(torch_geometric.data.Data(edge_index=torch.tensor(EDGES).T, num_nodes=6))
    with pytest.raises(ValueError, match="rows were renumbered"):
        made(graph=graph)


def test_clusters_may_be_told():
    assert made(num_clusters=5).num_clusters == 5
    assert made(labels=torch.full((6,), -1), num_clusters=4).num_clusters == 4
    assert made(num_clusters=6).num_clusters == 6


def test_clusters_may_be_told_to_the_reader(toy):
    assert [load_attributed(each, num_clusters=2).num_clusters for each in ("toy", toy[1], made(), pyg())] == [2] * 4
    assert [load_attributed(each).num_clusters for each in ("toy", toy[1], made(num_clusters=5))] == [3, 3, 5]
    assert load_attributed("toy", num_clusters=2).citation == "Nobody, nowhere"
    for wrong in (-1, 7):
        with pytest.raises(ValueError, match=f"toy: num_clusters must lie between 1 and the number of nodes, 6, .* got {wrong}"):
            load_attributed("toy", num_clusters=wrong)


@pytest.mark.parametrize("real", [False, True])
@pytest.mark.parametrize("table", [False, True])
def test_what_is_written_is_read(tmp_path, real, table):
    x = (X * (0.5 if real else 1)).astype(np.float32)
    labels = torch.tensor([0, 1, 0, -1, 2, 1])
    data = made(x=torch.from_numpy(x) if table else sparse.csr_matrix(x), labels=labels, splits={1: split([0, 1, 4], [2], [5])})
    write_attributed(data, tmp_path / "toy.npz")
    found = read_attributed(tmp_path / "toy.npz")
    np.testing.assert_array_equal(dense(found), x)
    assert isinstance(found.x, torch.Tensor) == table
    assert torch.equal(found.labels, labels)
    assert torch.equal(found.graph.pairs, data.graph.pairs)
    assert [ids.tolist() for ids in found.splits[1]] == [[0, 1, 4], [2], [5]]
    more = made(x=data.x, labels=labels, classes=(5, 6, 9), num_clusters=4)
    write_attributed(more, tmp_path / "more.npz")
    found = read_attributed(tmp_path / "more.npz")
    assert (found.labels.tolist(), found.classes, found.num_clusters) == (labels.tolist(), (5, 6, 9), 4)
    with pytest.raises(ValueError, match="hold one split at most; the data have 2"):
        write_attributed(made(splits={1: split([0], [1], [2]), 2: split([3], [1], [2])}), tmp_path / "b.npz")
    with pytest.raises(ValueError, match=r"must end in \.npz"):
        write_attributed(data, tmp_path / "b.csv")


# --- PyG --------------------------------------------------------------------------------------------------------------------


def pyg(**changes):
    Data = pytest.importorskip("torch_geometric.data").Data
    masks = {
        f"{part}_mask": torch.isin(torch.arange(6), torch.tensor(ids))
        for part, ids in (("train", [0, 1, 4]), ("val", [2]), ("test", [5]))
    }
    edges = torch.tensor([*EDGES, (1, 0), (2, 2)]).T
    fields = {"x": torch.from_numpy(X), "edge_index": edges, "y": torch.tensor([3, 4, 3, -1, 9, 4]), **masks, **changes}
    return Data(**{key: value for key, value in fields.items() if value is not None})


def test_there_and_back():
    data = AttributedData.from_pyg(pyg(), "toy")
    assert data.graph.pairs.T.tolist() == [list(pair) for pair in EDGES]  # in the caller's order
    np.testing.assert_array_equal(dense(data), X)
    assert (data.labels.tolist(), data.classes) == ([0, 1, 0, -1, 2, 1], (3, 4, 9))
    assert [ids.tolist() for ids in data.splits[1]] == [[0, 1, 4], [2], [5]]
    back = data.to_pyg()
    assert sorted(map(tuple, back.edge_index.T.tolist())) == sorted([*EDGES, *((b, a) for a, b in EDGES)])
    assert torch.equal(back.train_mask, pyg().train_mask)
    again = AttributedData.from_pyg(back)
    assert torch.equal(again.labels, data.labels)
    assert [ids.tolist() for ids in again.splits[1]] == [[0, 1, 4], [2], [5]]


def test_sparse_features_columns_of_masks_and_what_may_be_absent():
    masks = {
        "train_mask": torch.tensor([[1, 1], [1, 1], [0, 1], [0, 0], [1, 1], [0, 1]]).bool(),
        "val_mask": torch.tensor([[0, 0], [0, 0], [1, 0], [0, 1], [0, 0], [0, 0]]).bool(),
        "test_mask": torch.tensor([[0, 0], [0, 0], [0, 0], [1, 0], [0, 0], [1, 0]]).bool(),
    }
    with pytest.raises(ValueError, match="test_2 is empty"):
        AttributedData.from_pyg(pyg(y=torch.tensor(Y)[:, None], **masks))
    masks["train_mask"][5, 1], masks["test_mask"][5, 1] = False, True
    with pytest.raises(ValueError, match="two splits have 1 training nodes a class"):
        AttributedData.from_pyg(pyg(y=torch.tensor(Y), **masks))
    part = pyg(x=torch.from_numpy(X).float().to_sparse_csr(), y=None, train_mask=None)
    with pytest.warns(UserWarning, match="only val_mask, test_mask is there, so there is none"):
        data = AttributedData.from_pyg(part, num_clusters=2)
    np.testing.assert_array_equal(data.x.toarray(), X)
    assert (data.labels.tolist(), data.splits, data.num_clusters) == ([-1] * 6, {}, 2)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"x": None}, "with edge_index and x is needed"),
        ({"edge_index": None}, "with edge_index and x is needed"),
        ({"edge_weight": torch.ones(6)}, "edge_weight would be lost"),
        ({"y": torch.tensor(Y[:-1])}, r"labels must be int64 of shape \(6,\)"),
        ({"y": torch.rand(6) + 0.1}, "is not a whole number"),
        ({"x": torch.full((6, 2), torch.nan)}, "must be finite numbers; 12 are not"),
        ({"edge_index": torch.tensor([[0], [6]])}, r"node numbers must lie in 0\.\.5"),
        ({"train_mask": torch.tensor([0, 1])}, "train_mask must be bool of 6 rows"),
    ],
)
def test_bad_pyg_data(changes, says):
    with pytest.raises(ValueError, match=says):
        AttributedData.from_pyg(pyg(**changes))


# --- registered sets --------------------------------------------------------------------------------------------------------

CONFIG = """[dataset]
name = toy
group = attributed
citation = Nobody, nowhere
format = attributed
hint = ask somebody
[files]
graph = toy.npz
[counts]
nodes = 6
edges = 4
features = 3
classes = 3
unlabelled = 0
"""


@pytest.fixture
def toy(tmp_path, monkeypatch):
    monkeypatch.setenv("GRAPHCL_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("GRAPHCL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(registry, "config_root", lambda: tmp_path / "datasets")
    config = tmp_path / "datasets" / "attributed" / "toy" / "dataset.cfg"
    config.parent.mkdir(parents=True)
    config.write_text(CONFIG)
    (tmp_path / "data" / "attributed" / "toy").mkdir(parents=True)
    return config, saved(tmp_path / "data" / "attributed" / "toy" / "toy.npz")


def test_a_registered_name(toy):
    data = load_attributed("toy")
    assert (data.name, data.citation) == ("toy", "Nobody, nowhere")
    assert load_attributed(toy[1]).citation == ""
    assert load_attributed(data) is data
    assert graphcl.load_attributed("attributed/toy").graph.num_pairs == 4


def test_kinds_are_told_apart(toy, tmp_path):
    assert [registry.kind_of(each) for each in ("toy", toy[1], toy[1].parent)] == ["attributed"] * 3
    log = tmp_path / "log.npz"
    sparse.save_npz(log, sparse.csr_matrix(X))
    assert registry.kind_of(log) == "general"
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "ind.cora.graph").touch()
    assert registry.kind_of(tmp_path / "raw") == "attributed"


def test_what_is_no_attributed_graph(toy):
    with pytest.raises(
        ValueError, match=r"attributed/toy is an attributed graph, but a log .*attributed\.load_attributed\('toy'\)"
    ):
        registry.load("toy")
    with pytest.raises(ValueError, match="attributed/toy is an attributed graph, but a graph of labelled nodes of several types"):
        graphcl.load_nodes("toy")
    with pytest.raises(
        ValueError, match="an attributed graph is needed: a name, a path, AttributedData or a PyG Data, got ndarray"
    ):
        load_attributed(np.eye(2))
    toy[0].write_text(CONFIG.replace("format = attributed\n", "").replace("graph = toy", "log = toy").partition("[counts]")[0])
    with pytest.raises(ValueError, match="attributed/toy is no attributed graph"):
        load_attributed("toy")


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("graph = toy.npz", "labels = toy.npz", r"an attributed graph needs \[files\] graph, and no other"),
        ("edges = 4", "edges = 5", "expected 5 edges, found 4"),
        ("unlabelled = 0", "unlabelled = 1", "expected 1 unlabelled, found 0"),
    ],
)
def test_other_configurations(toy, old, new, said):
    toy[0].write_text(CONFIG.replace(old, new))
    with pytest.raises(ValueError, match=said):
        load_attributed("toy")


def test_a_file_that_is_not_here(toy):
    toy[1].unlink()
    with pytest.raises(FileNotFoundError, match=r"its graph file \(toy\.npz\) is not here; put it into .*, or ask somebody"):
        load_attributed("toy")


def test_a_description():
    found = describe_attributed(made(labels=torch.tensor([0, 1, 0, 0, 2, -1]), splits={1: split([0], [1], [2])}))
    assert (found["nodes"], found["edges"], found["isolated"], found["components"]) == (6, 4, 1, 3)
    assert found["mean_degree"] == pytest.approx(8 / 6)
    assert found["homophily"] == pytest.approx(1 / 4)  # of (0, 1), (0, 3), (1, 3), (2, 4) only (0, 3)
    assert found["features"] == {"columns": 3, "entries": 9}
    assert found["labels"]["classes"] == {"0": 3, "1": 1, "2": 1}
    assert found["labels"]["unknown"] == 1
    assert found["splits"] == {"1": {"train": 1, "valid": 1, "test": 1}}
    nothing = describe_attributed(made(labels=torch.full((6,), -1)))
    assert (nothing["homophily"], nothing["labels"]["classes"], nothing["labels"]["follow_ids"]) == (None, {}, False)


NAMES = ("acm", "dblp", "cora", "citeseer", "amap", "amac", "coauthor_cs")


@pytest.mark.slow
@pytest.mark.skipif(not DATA.is_dir(), reason="$GRAPHCL_DATA/attributed is not here")
@pytest.mark.parametrize("name", NAMES)
def test_the_real_graphs(name):
    """Counts, checked by the loader; no self-loop, symmetric; Citeseer's fifteen."""
    data = load_attributed(f"attributed/{name}")
    adj = data.graph.adj.to_scipy()
    assert (adj != adj.T).nnz == 0
    assert adj.diagonal().sum() == 0
    unlabelled = data.labels < 0
    assert int(unlabelled.sum()) == (15 if name == "citeseer" else 0)
    if name == "citeseer":
        assert data.x[unlabelled.numpy()].nnz == 0
        assert {rate: [len(ids) for ids in each] for rate, each in data.splits.items()} == {20: [120, 500, 1000]}
