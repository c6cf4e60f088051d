"""Files of a run directory: whole or as they were."""

import errno
import json
import os
import pickle
import resource
from contextlib import contextmanager

import numpy as np
import pytest
import torch

import graphcl
from graphcl import claims, rundir
from graphcl.interactions import Interactions, Vocabulary
from graphcl.testing import checkerboard


@contextmanager
def full_disk(bytes_left):
    """Files of this process cannot grow past so many bytes, which the operating system says as it says a full disk."""
    was = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (bytes_left, was[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, was)


def test_a_write_that_fails_leaves_the_old_file_and_no_neighbour(tmp_path):
    path = tmp_path / "new" / "value.json"
    rundir.write_json(path, {"a": 1})

    def broken(part):
        part.write_text("half")
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OSError, match=r"value\.json could not be written: No space left on device") as caught:
        rundir.atomically(path, broken)
    assert caught.value.errno == errno.ENOSPC
    assert rundir.read_json(path) == {"a": 1}
    assert os.listdir(path.parent) == ["value.json"]


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_failing_flush_or_rename_leaves_the_old_file(tmp_path, monkeypatch, step):
    path = tmp_path / "value.json"
    rundir.write_json(path, {"a": 1})

    def broken(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, step, broken)
    with pytest.raises(OSError, match="No space left"):
        rundir.write_json(path, {"a": 2})
    assert rundir.read_json(path) == {"a": 1}
    assert os.listdir(tmp_path) == ["value.json"]


def test_tensors_on_a_full_disk(tmp_path):
    """safetensors raises an error of its own, no OSError, which once ended in a stack trace."""
    path = tmp_path / "w.safetensors"
    rundir.write_tensors(path, {"w": torch.ones(3)})
    before = path.read_bytes()
    with full_disk(1000), pytest.raises(OSError, match=r"w\.safetensors could not be written"):
        rundir.write_tensors(path, {"w": torch.ones(10_000)})
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["w.safetensors"]


def test_tensors_are_as_readable_as_other_files(tmp_path):
    """save_file alone makes a file that nobody but its owner can read."""
    rundir.write_json(tmp_path / "a.json", 1)
    rundir.write_tensors(tmp_path / "a.safetensors", {"w": torch.ones(3)})
    assert (tmp_path / "a.safetensors").stat().st_mode == (tmp_path / "a.json").stat().st_mode


def test_tensors_come_back_with_what_is_said_about_them(tmp_path):
    rng = torch.Generator().manual_seed(0)
    tensors = {
        "a/b": torch.randn(3, 4, generator=rng).T,  # not contiguous
        "stream": rng.get_state(),
        "none": torch.zeros(0, 2, dtype=torch.float64),
        "count": torch.tensor(7),
    }
    about = {"best": 0.1, "names": ["ü", "x"], "nothing": None}
    rundir.write_tensors(tmp_path / "t.safetensors", tensors, about)
    found, told = rundir.read_tensors(tmp_path / "t.safetensors")
    assert told == about
    assert found.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert found[name].dtype == tensor.dtype
        assert torch.equal(found[name], tensor)


@pytest.mark.parametrize("kept", [0, 4, 100, -1])
def test_a_cut_tensor_file_is_named(tmp_path, kept):
    path = tmp_path / "t.safetensors"
    rundir.write_tensors(path, {"w": torch.ones(100)})
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(ValueError, match=r"t\.safetensors: not a whole safetensors file"):
        rundir.read_tensors(path)


def test_a_pickle_is_refused(tmp_path):
    path = tmp_path / "t.safetensors"
    path.write_bytes(pickle.dumps({"w": [1, 2, 3] * 100}))
    with pytest.raises(ValueError, match="not a whole safetensors file"):
        rundir.read_tensors(path)


@pytest.mark.parametrize("read", [rundir.read_json, rundir.read_tensors])
def test_a_missing_file_is_named(tmp_path, read):
    with pytest.raises(ValueError, match=r"is not a complete run: result\.json is missing"):
        read(tmp_path / "result.json")


def test_broken_json_is_named(tmp_path):
    (tmp_path / "config.json").write_text('{"a": 1,')
    with pytest.raises(ValueError, match=r"config\.json: not JSON"):
        rundir.read_json(tmp_path / "config.json")


@pytest.mark.parametrize("ids", [np.array(["007", "7", "ü"], dtype=object), np.array([2**60, -5, 7])])
def test_a_log_stands_on_its_own(tmp_path, ids):
    users, items = Vocabulary(ids), Vocabulary(np.array([10, 20, 30, 40]))
    parts = {
        "train": Interactions(np.array([0, 1, 1, 0], np.int32), np.array([3, 0, 0, 2], np.int32), users, items, name="toy"),
        "test": Interactions(np.array([1], np.int32), np.array([1], np.int32), users, items, name="toy"),
    }
    rundir.write_log(tmp_path, parts)
    found = rundir.read_log(tmp_path)
    assert found.keys() == parts.keys()
    assert found["train"].user_ids is found["test"].user_ids
    assert found["train"].user_ids.ids.tolist() == ids.tolist()
    assert found["train"].user_ids.ids.dtype == ids.dtype
    assert found["train"].item_ids.ids.tolist() == [10, 20, 30, 40]
    for name, part in parts.items():
        assert found[name].users.tolist() == part.users.tolist()  # repeats and their order too
        assert found[name].items.tolist() == part.items.tolist()
        assert found[name].name == "toy"


def test_a_log_without_its_ids_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"is not a complete run: users\.parquet is missing"):
        rundir.read_log(tmp_path)


def test_lines_are_cut_back_to_those_that_count(tmp_path):
    path = tmp_path / "metrics.jsonl"
    rundir.keep_lines(path, 3)  # nothing there yet
    assert not path.exists()
    for number in range(3):
        rundir.append_line(path, {"epoch": number})
    with path.open("a") as file:
        file.write('{"epo')  # the disk was full here
    rundir.keep_lines(path, 2)
    rundir.append_line(path, {"epoch": 9})
    assert [json.loads(line)["epoch"] for line in path.read_text().splitlines()] == [0, 1, 9]


def test_a_lock_that_its_holder_removed_is_none(tmp_path, monkeypatch):
    """Opened while another process held it, and got when that one was done and had removed the file."""
    import fcntl

    flock, path = fcntl.flock, tmp_path / "lock"

    def late(file, how):
        monkeypatch.setattr(fcntl, "flock", flock)
        path.unlink()
        return flock(file, how)

    monkeypatch.setattr(fcntl, "flock", late)
    with claims.alone(tmp_path, "trained"):
        assert path.exists()
        with pytest.raises(ValueError, match="being trained by another process"), claims.alone(tmp_path, "trained"):
            pass
    assert not path.exists()


def test_two_processes_do_not_train_in_one_directory(tmp_path):
    """Each would write over the other's lines and weights, and tell the other's result as its own."""
    log, _ = checkerboard()
    out = tmp_path / "run"
    with claims.alone(out, "trained"), pytest.raises(ValueError, match="run is being trained by another process; choose another"):
        graphcl.train("popular", log, out=out)
    run = graphcl.train("popular", log, out=out)
    assert not (run.path / "lock").exists()
