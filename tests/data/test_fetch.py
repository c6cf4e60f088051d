import gzip
import hashlib
import http.server
import importlib
import threading

import pytest

from graphcl.data import fetch, load

TRAIN = "".join(f"{user} {user} {user + 1} {user + 2} 9\n" for user in range(40)).encode()
TEST = b"0 5\n1 6\n2 30\n"

CONFIG = """
[dataset]
name = toy
group = general
format = adjacency

[files]
train = train.txt.gz, train.txt
test = test.txt

[split]
carve = 0

[train.txt]
url = {url}/raw/train.txt
sha256 = {sha256}

[test.txt]
url = {url}/raw/test.txt
md5 = {md5}
"""


class Server(http.server.BaseHTTPRequestHandler):
    """Files by name; `faults` says what goes wrong with one: corrupt, truncated, whole (ranges are ignored), 500."""

    def do_GET(self):
        name = self.path.rsplit("/", 1)[1]
        body = self.server.files.get(name)
        fault = self.server.faults.get(name)
        self.server.asked.append((name, self.headers.get("Range")))
        if body is None or fault == "500":
            self.send_error(404 if body is None else 500)
            return
        if fault == "corrupt":
            body = body[:-1] + b"!"
        start = int(self.headers.get("Range", "bytes=0-")[6:-1]) if fault != "whole" else 0
        if start and start >= len(body):
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(body)}")
            self.end_headers()
            return
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
        self.send_header("Content-Length", str(len(body) - start))
        self.end_headers()
        self.wfile.write(body[start : len(body) // 2 if fault == "truncated" else None])

    def log_message(self, *_):
        pass


@pytest.fixture
def server(tmp_path, monkeypatch):
    """A local server, and a data set `toy` registered with its address."""
    http_server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Server)
    http_server.files = {"train.txt": TRAIN, "test.txt": TEST}
    http_server.faults, http_server.asked = {}, []
    thread = threading.Thread(target=http_server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    http_server.url = f"http://127.0.0.1:{http_server.server_address[1]}"
    sums = {"sha256": hashlib.sha256(TRAIN).hexdigest(), "md5": hashlib.md5(TEST).hexdigest()}
    folder = tmp_path / "datasets" / "general" / "toy"
    folder.mkdir(parents=True)
    (folder / "dataset.cfg").write_text(CONFIG.format(url=http_server.url, **sums))
    monkeypatch.setattr(importlib.import_module("graphcl.data.registry"), "config_root", lambda: tmp_path / "datasets")
    monkeypatch.setenv("GRAPHCL_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("GRAPHCL_DATA", raising=False)
    yield http_server
    http_server.shutdown()
    http_server.server_close()


def test_fetched_files_load(server, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"train\.txt\.gz or train\.txt\) is not here; run `graphcl data fetch toy`"):
        load("toy")
    seen = []
    folder = fetch("toy", progress=seen.append)
    assert folder == tmp_path / "cache" / "general" / "toy"
    assert sum(seen) == len(TRAIN) + len(TEST)
    assert sorted(path.name for path in folder.iterdir()) == ["test.txt", "train.txt"]
    assert len(load("toy").train) == 160


def test_what_is_here_is_not_fetched_again(server, tmp_path, monkeypatch):
    fetch("toy")
    assert fetch("general/toy") == tmp_path / "cache" / "general" / "toy"
    assert len(server.asked) == 2
    other = tmp_path / "data" / "general" / "toy"
    other.mkdir(parents=True)
    (other / "train.txt.gz").write_bytes(gzip.compress(TRAIN))
    (other / "test.txt").write_bytes(TEST)
    monkeypatch.setenv("GRAPHCL_DATA", str(tmp_path / "data"))
    assert fetch("toy") == other
    assert len(server.asked) == 2
    fetch("toy", root=tmp_path / "elsewhere")
    assert (tmp_path / "elsewhere" / "general" / "toy" / "test.txt").read_bytes() == TEST


@pytest.mark.parametrize("name", ["train.txt", "test.txt"])  # one has a sha256, the other an md5
def test_a_corrupt_download_is_deleted(server, tmp_path, name):
    server.faults[name] = "corrupt"
    with pytest.raises(ValueError, match=rf"{name}: the download is corrupt and was deleted"):
        fetch("toy", root=tmp_path)
    assert not [path for path in (tmp_path / "general" / "toy").iterdir() if path.name.startswith(name)]


def test_a_broken_download_goes_on_where_it_stopped(server, tmp_path):
    server.faults["train.txt"] = "truncated"
    half = len(TRAIN) // 2
    with pytest.raises(ConnectionError, match=f"it broke off after {half} of {len(TRAIN)} bytes; run it again"):
        fetch("toy", root=tmp_path)
    folder = tmp_path / "general" / "toy"
    assert [path.name for path in folder.iterdir()] == ["train.txt.part"]
    server.faults.clear()
    fetch("toy", root=tmp_path)
    assert ("train.txt", f"bytes={half}-") in server.asked
    assert (folder / "train.txt").read_bytes() == TRAIN
    assert not (folder / "train.txt.part").exists()


def test_a_server_that_ignores_ranges_sends_the_whole_file(server, tmp_path):
    server.faults["train.txt"] = "whole"
    folder = tmp_path / "general" / "toy"
    folder.mkdir(parents=True)
    (folder / "train.txt.part").write_bytes(TRAIN[:100])
    fetch("toy", root=tmp_path)
    assert (folder / "train.txt").read_bytes() == TRAIN


@pytest.mark.parametrize("part", [TRAIN, TRAIN + b"more"])
def test_a_part_with_nothing_left_to_send(server, tmp_path, part):
    folder = tmp_path / "general" / "toy"
    folder.mkdir(parents=True)
    (folder / "train.txt.part").write_bytes(part)
    if part != TRAIN:
        with pytest.raises(ConnectionError, match="a part of another file was here"):
            fetch("toy", root=tmp_path)
    fetch("toy", root=tmp_path)
    assert (folder / "train.txt").read_bytes() == TRAIN


def test_a_mirror(server, tmp_path):
    server.files["train.txt.gz"] = gzip.compress(TRAIN)
    folder = fetch("toy", root=tmp_path, base_url=server.url + "/mirror/")
    assert (folder / "train.txt.gz").exists()


@pytest.mark.parametrize(("fault", "reason"), [("500", "500 Internal Server Error"), ("404", "404 Not Found")])
def test_refusals_of_the_server(server, tmp_path, fault, reason):
    server.faults["test.txt"] = fault
    if fault == "404":
        del server.files["test.txt"]
    with pytest.raises(ConnectionError, match=rf"general/toy: http.*/raw/test\.txt cannot be downloaded \({reason}\)") as error:
        fetch("toy", root=tmp_path)
    assert str(error.value).endswith(f"put it at {tmp_path / 'general' / 'toy' / 'test.txt'}")


def test_offline(server, tmp_path):
    with pytest.raises(ConnectionError, match=r"if this machine is offline, get train\.txt\.gz elsewhere and put it at"):
        fetch("toy", root=tmp_path, base_url="http://127.0.0.1:1")


def test_files_without_an_address(monkeypatch, tmp_path):
    monkeypatch.setenv("GRAPHCL_CACHE", str(tmp_path))
    with pytest.raises(FileNotFoundError, match=r"pip install --no-deps recbole==1\.2\.1"):
        fetch("ml-100k", root=tmp_path)
    with pytest.raises(ValueError, match="did you mean 'gowalla'"):
        fetch("gowala")
