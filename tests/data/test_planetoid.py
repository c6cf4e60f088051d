"""Planetoid's pickles as Python 2 wrote them, and pickles that are refused."""

import io
import pickle
import struct
from collections import defaultdict

import numpy as np
import pytest
from scipy import sparse

from graphcl.data.attributed import AttributedData, read_attributed
from graphcl.data.planetoid import ADMITTED, Planetoid, read_planetoid

# 4 nodes in allx (2 of them to train with), tests 6, 4 and 7 in this order; nobody is 5.
ALLX = np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 0]])
ALLY = np.array([[1, 0], [0, 1], [1, 0], [0, 0]])  # node 3 has no label
TX, TY, TEST = np.array([[0, 1, 1], [1, 0, 1], [1, 1, 1]]), np.array([[0, 1], [1, 0], [0, 1]]), [6, 4, 7]
GRAPH = {0: [1, 2, 2], 1: [0], 2: [0, 2], 3: [], 4: [6], 5: [], 6: [4], 7: [0]}


class Python2(pickle._Pickler):
    """Texts and bytes are one type, under the names that NumPy and SciPy had."""

    def text(self, value):
        data = value.encode("latin1") if isinstance(value, str) else value
        self.write(b"T" + struct.pack("<i", len(data)) + data)
        self.memoize(value)

    dispatch = {**pickle._Pickler.dispatch, str: text, bytes: text}  # noqa: RUF012


def pickled(value, protocol=2):
    out = io.BytesIO()
    Python2(out, protocol, fix_imports=True).dump(value)
    text = out.getvalue().replace(b"scipy.sparse._csr\n", b"scipy.sparse.csr\n").replace(b"numpy._core.", b"numpy.core.")
    assert b"_codecs" not in text  # as Python 3 writes bytes
    return text


def parts(**changes):
    made = {
        "x": sparse.csr_matrix(ALLX[:2].astype(np.float32)), "y": ALLY[:2], "allx": sparse.csr_matrix(ALLX.astype(np.float32)), "ally": ALLY,
        "tx": sparse.csr_matrix(TX.astype(np.float32)), "ty": TY, "graph": defaultdict(list, GRAPH),
    }  # fmt: skip
    return {**made, **changes}


def folder(path, test=TEST, protocol=2, raw=None, **changes):
    path.mkdir(exist_ok=True)
    for part, value in parts(**changes).items():
        (path / f"ind.toy.{part}").write_bytes(pickled(value, protocol))
    for part, data in (raw or {}).items():
        (path / f"ind.toy.{part}").write_bytes(data)
    (path / "ind.toy.test.index").write_text("".join(f"{i}\n" for i in test))
    return path


@pytest.mark.parametrize("protocol", [0, 1, 2])
def test_rows_go_where_the_index_says(tmp_path, protocol):
    found = read_planetoid(folder(tmp_path / "a", protocol=protocol), "toy")
    assert isinstance(found, Planetoid)
    expected = np.zeros((8, 3))
    expected[:4] = ALLX
    expected[6], expected[4], expected[7] = TX
    np.testing.assert_array_equal(found.x.toarray(), expected)
    assert found.x.dtype == np.float32
    assert found.labels.tolist() == [0, 1, 0, -1, 0, -1, 1, 1]
    assert [each.tolist() for each in found.split] == [[0, 1], [2, 3], [4, 6, 7]]
    assert sorted(map(tuple, found.edges.tolist())) == sorted((a, b) for a, others in GRAPH.items() for b in others)


def test_it_becomes_a_graph(tmp_path):
    data = read_attributed(folder(tmp_path / "a", ally=np.array([[1, 0], [0, 1], [1, 0], [0, 1]])))
    assert isinstance(data, AttributedData)
    assert data.name == "toy"
    assert data.graph.pairs.T.tolist() == [[0, 1], [0, 2], [0, 7], [4, 6]]  # once each, without the loop of 2
    assert data.labels.tolist() == [0, 1, 0, 1, 0, -1, 1, 1]
    assert {rate: [ids.tolist() for ids in split] for rate, split in data.splits.items()} == {1: [[0, 1], [2, 3], [4, 6, 7]]}


def test_the_real_module_names_are_the_admitted_ones():
    """Otherwise the fixture would test its own names."""
    text = pickled(sparse.csr_matrix(np.eye(2))) + pickled(np.eye(2)) + pickled(np.float64(1))
    for module, name in (
        ("scipy.sparse.csr", "csr_matrix"),
        ("numpy.core.multiarray", "_reconstruct"),
        ("numpy.core.multiarray", "scalar"),
    ):
        assert f"c{module}\n{name}\n".encode() in text
        assert (module, name) in ADMITTED


class Calls:
    """A pickle of it calls a function."""

    def __init__(self, function, *arguments):
        self.function, self.arguments = function, arguments

    def __reduce__(self):
        return self.function, self.arguments


def touched(path):
    return f"__import__('pathlib').Path({str(path)!r}).touch()"


@pytest.mark.parametrize("protocol", [0, 2, 4])
@pytest.mark.parametrize("hidden", [False, True])
def test_a_pickle_that_calls_something_is_refused_and_calls_nothing(tmp_path, protocol, hidden):
    mark = tmp_path / "called"
    evil = pickle.dumps([Calls(eval, touched(mark))] if hidden else Calls(eval, touched(mark)), protocol)
    pickle.loads(evil)
    assert mark.exists()  # it would have worked
    mark.unlink()
    path = folder(tmp_path / "a", raw={"graph": evil})
    with pytest.raises(
        ValueError, match=r"ind\.toy\.graph: not one of Planetoid's pickles \(it names (__builtin__|builtins)\.eval, which is not"
    ):
        read_planetoid(path, "toy")
    assert not mark.exists()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (b"cos\nsystem\n(S'true'\ntR.", r"it names os\.system"),
        (b"cposix\nsystem\n(S'true'\ntR.", r"it names posix\.system"),
        (b"cnumpy\nload\n(S'x'\ntR.", r"it names numpy\.load"),
        (b"c__builtin__\ngetattr\n(c__builtin__\nlist\nS'append'\ntR.", r"it names __builtin__\.getattr"),
        (b"\x80\x04\x8c\x05numpy\x8c\x11ndarray.__class__\x93.", r"it names numpy\.ndarray\.__class__"),
        (b"ccopy_reg\n_reconstructor\n(c__builtin__\nlist\nc__builtin__\nobject\nNtR.", "only a CSR matrix may be made so"),
        (b"Pperson\n.", "persistent"),
        (b"", "not one of Planetoid's pickles"),
        (b"\x80\x02", "not one of Planetoid's pickles"),
    ],
)
def test_other_names_are_refused(tmp_path, text, says):
    with pytest.raises(ValueError, match=rf"ind\.toy\.ally: .*{says}"):
        read_planetoid(folder(tmp_path / "a", raw={"ally": text}), "toy")


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"ally": np.array([[object()] * 2] * 4)}, "it names __builtin__.object|ally: a table"),
        ({"ally": np.array([[None, []]] * 4, dtype=object)}, r"ally: a table of one-hot labels is expected"),
        ({"tx": [1, 2]}, "tx: a CSR matrix of numbers is expected, got list"),
        ({"tx": sparse.csr_matrix(TX[:2].astype(np.float32))}, "tx: 2 rows, but 3 are expected"),
        ({"ty": TY[:, :1]}, "the parts differ in their numbers of features or of classes"),
        ({"y": np.ones((5, 2))}, "y: 5 rows, but allx has 4"),
        ({"graph": {0: [8]}}, r"graph: ids must lie in 0\.\.7, got 0\.\.8"),
        ({"graph": [1]}, "graph: a dict of lists of ids is expected"),
        ({"test": [6, 4, 4]}, "ids must differ and follow the 4 rows of allx"),
        ({"test": [6, 4, 3]}, "ids must differ and follow the 4 rows of allx"),
        ({"test": [6, 4, "x"]}, "one id a line is expected"),
    ],
)
def test_bad_files(tmp_path, changes, says):
    with pytest.raises(ValueError, match=says):
        read_planetoid(folder(tmp_path / "a", **changes), "toy")


def test_a_matrix_whose_indices_lie_outside(tmp_path):
    broken = sparse.csr_matrix(TX.astype(np.float32))
    broken.indices[0] = 7
    with pytest.raises(ValueError, match="tx: a CSR matrix of numbers is expected"):
        read_planetoid(folder(tmp_path / "a", tx=broken), "toy")


def test_a_missing_file_and_two_sets_in_a_folder(tmp_path):
    path = folder(tmp_path / "a")
    (path / "ind.toy.ty").unlink()
    with pytest.raises(FileNotFoundError, match=r"ind\.toy\.ty: missing"):
        read_attributed(path)
    (path / "ind.other.graph").touch()
    with pytest.raises(ValueError, match="holds other, toy; keep the files of one data set"):
        read_attributed(path)
