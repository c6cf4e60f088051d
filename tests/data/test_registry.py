import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from graphcl.data import describe, fetch, find, list_datasets, load, registry

DATA = os.environ.get("GRAPHCL_DATA", "")

CONFIG = """
[dataset]
name = toy
group = general
title = A toy
citation = Nobody, nowhere
format = adjacency

[files]
train = train.txt
test = test.txt

[split]
carve = 0

[counts]
users = 2
items = 4
train = 5
test = 2
"""


@pytest.fixture
def toy(tmp_path, monkeypatch):
    """A registered data set whose files stand beside its configuration's root."""
    monkeypatch.setenv("GRAPHCL_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("GRAPHCL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(registry, "config_root", lambda: tmp_path / "datasets")
    config = tmp_path / "datasets" / "general" / "toy" / "dataset.cfg"
    files = tmp_path / "data" / "general" / "toy"
    for folder in (config.parent, files):
        folder.mkdir(parents=True)
    config.write_text(CONFIG)
    (files / "train.txt").write_text("0 1 2 3\n1 1 2\n")
    (files / "test.txt").write_text("0 4\n1 3\n")
    return config, files


def pairs(part):
    return set(zip(part.user_ids.ids[part.users].tolist(), part.item_ids.ids[part.items].tolist(), strict=True))


# --- the registered data sets -----------------------------------------------------------------------------------------------


def test_every_configuration_reads_and_is_complete():
    configs = {config.full_name: config for config in list_datasets()}
    assert {f"general/{name}" for name in ("ml-100k", "gowalla", "yelp2018", "ml-1m", "lastfm", "sparse_yelp")} <= set(configs)
    for config in configs.values():
        assert (config.folder.parent.name, config.folder.name) == (config.group, config.name)
        assert config.title, config.name
        assert config.citation, config.name
        assert config.licence, config.name
        assert config.source, config.name
        assert (config.folder / "README.md").read_text().startswith(f"# {config.name}\n")


def test_every_checksum_belongs_to_a_listed_file_and_every_address_names_a_commit():
    for config in list_datasets():
        files = [file for accepted in config.files.values() for file in accepted]
        text = (config.folder / "dataset.cfg").read_text()
        sections = {line[1:-1] for line in text.splitlines() if line.startswith("[")}
        sections -= {"dataset", "files", "split", "counts", "columns"}
        assert sections <= {file.name for file in files}
        for file in files:
            assert len(file.sha256) in (0, 64)
            assert len(file.md5) in (0, 32)
            assert not file.url or len(file.url.split("/")[5]) == 40


def test_find_by_name_and_by_group():
    assert find("gowalla").counts["train"] == 810_128
    assert find("general/gowalla").full_name == "general/gowalla"
    with pytest.raises(ValueError, match=r"unknown data set 'gowala'; did you mean 'gowalla'\?; known: .*or give a path"):
        find("gowala")
    with pytest.raises(ValueError, match="did you mean 'gowalla'"):
        load("gowala")
    with pytest.raises(
        ValueError, match=r"known: .*\battributed/acm, attributed/dblp, .*gowalla, hetero/acm, hetero/dblp, imdb"
    ) as told:
        find("nothing")
    assert " acm," not in str(told.value)  # it said acm, acm


@pytest.mark.slow
def test_the_data_modules_import_without_torch():
    code = (
        "import sys, graphcl.data.registry, graphcl.data.fetch; sys.exit('torch' in sys.modules or 'pyarrow.csv' in sys.modules)"
    )
    package = Path(registry.__file__).parents[1] / "__init__.py"
    if "torch" in package.read_text():
        pytest.skip("graphcl/__init__.py imports torch itself")
    assert subprocess.run([sys.executable, "-c", code], cwd=package.parents[1]).returncode == 0


# --- loading a registered one -----------------------------------------------------------------------------------------------


def test_load(toy):
    made = load("toy")
    assert made.name == "toy"
    assert made.kind == "general"
    assert made.citation == "Nobody, nowhere"
    assert pairs(made.train) == {(0, 1), (0, 2), (0, 3), (1, 1), (1, 2)}
    assert pairs(made.test) == {(0, 4), (1, 3)}
    assert made.valid is None
    assert len(load("toy", carve=0.3, split_seed=2).valid) == 2


def test_the_cache_is_searched_second(toy, tmp_path):
    _, files = toy
    moved = tmp_path / "cache" / "general" / "toy"
    moved.parent.mkdir(parents=True)
    shutil.move(files, moved)
    assert len(load("toy").train) == 5
    (moved / "test.txt").unlink()
    with pytest.raises(
        FileNotFoundError, match=r"general/toy: its test file \(test\.txt\) is not here; put it into .*general/toy"
    ):
        load("toy")
    with pytest.raises(FileNotFoundError, match=r"is not here; put it into .*mine/general/toy$"):
        fetch("toy", root=tmp_path / "mine")


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("train.txt", "0 1 2 3\n1 1\n", "expected 5 train, found 4"),
        ("test.txt", "0 4\n1 3 4\n", "expected 2 test, found 3"),
        ("test.txt", "0 3\n1 3\n", "expected 4 items, found 3"),
        ("test.txt", "0 4\n2 3\n", "expected 2 users, found 3"),
    ],
)
@pytest.mark.filterwarnings("ignore:.*also in train")
def test_wrong_counts(toy, name, text, said):
    (toy[1] / name).write_text(text)
    with pytest.raises(ValueError, match=f"general/toy: {said}"):
        load("toy")


def test_a_file_with_another_checksum_is_warned_of(toy):
    config, _ = toy
    config.write_text(CONFIG + f"\n[train.txt]\nsha256 = {'0' * 64}\n")
    with pytest.warns(UserWarning, match=r"train\.txt: differs from the registered file"):
        load("toy")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"rule": "random"}, "general/toy: comes already split, so rule cannot be set"),
        ({"min_rating": 3}, "comes already split, so min_rating cannot be set"),
        ({"format": "triples"}, "is registered with its format; format cannot be set"),
        ({"user_col": "u"}, "is registered with its format; user_col cannot be set"),
    ],
)
def test_options_that_do_not_fit(toy, options, said):
    with pytest.raises(ValueError, match=said):
        load("toy", **options)


def test_a_validation_part_leaves_nothing_to_carve(toy):
    config, files = toy
    config.write_text(CONFIG.replace("carve = 0", "").replace("test = test.txt", "test = test.txt\nvalid_inside_train = v.txt"))
    (files / "v.txt").write_text("0 2\n")
    made = load("toy")
    assert pairs(made.valid) == {(0, 2)}
    assert len(made.train) == 4
    with pytest.raises(ValueError, match="comes with a validation part, so carve cannot be set"):
        load("toy", carve=0.2)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("[dataset]", "[dataset", "section"),
        ("[files]", "[fles]", r"section \[files\] is missing"),
        ("name = toy", "", r"\[dataset\] name is missing"),
        ("train = train.txt", "trian = train.txt", r"\[files\] trian is no role; did you mean 'train'\?"),
        ("train = train.txt", "", r"\[files\] needs a log, or a train file"),
        ("format = adjacency", "format = adjacent", r"unknown format 'adjacent'; did you mean 'adjacency'\?"),
        ("users = 2", "users = two", r"\[counts\] users must be a number, got 'two'"),
        ("users = 2", "user = 2", r"\[counts\] user is unknown; did you mean 'users'\?"),
        ("carve = 0", "curve = 0", r"\[split\] curve is unknown; did you mean 'carve'\?"),
        ("carve = 0", "rule = randm", "unknown split rule 'randm'"),
    ],
)
def test_broken_configurations(toy, old, new, said):
    config, _ = toy
    config.write_text(CONFIG.replace(old, new, 1))
    with pytest.raises(ValueError, match=rf"dataset\.cfg.*{said}"):
        load("toy")


# --- loading a path ---------------------------------------------------------------------------------------------------------

FRAME = pd.DataFrame({"user": np.repeat(np.arange(10), 10), "item": np.tile(np.arange(10), 10)})


def test_a_file_is_read_and_split(tmp_path):
    FRAME.assign(rating=FRAME["item"]).to_csv(tmp_path / "mine.csv", index=False)
    made = load(tmp_path / "mine.csv")
    assert made.name == "mine"
    assert made.rule == "random"
    assert [len(part) for part in made.parts.values()] == [80, 10, 10]
    made = load(str(tmp_path / "mine.csv"), min_rating=5, k_core=5, ratios=(0.8, 0.2), split_seed=3, user_col="user")
    assert [len(part) for part in made.parts.values()] == [40, 10]
    assert made.split_seed == 3
    with pytest.raises(ValueError, match="mine: carve parts a given train file"):
        load(tmp_path / "mine.csv", carve=0.1)


def test_a_registered_name_goes_before_a_file_and_dot_slash_after(toy, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    FRAME.to_parquet(tmp_path / "toy")
    assert load("toy").citation
    assert not load("./toy").citation
    FRAME.to_parquet(tmp_path / "other")
    assert load("other").name == "other"
    with pytest.raises(FileNotFoundError, match=r"absent\.csv: no such file, and no registered data set"):
        load("absent.csv")


@pytest.mark.parametrize("names", [("train", "valid", "test"), ("toy.train", "toy.dev", "toy.test"), ("Train", "val", "Test")])
def test_a_folder_of_parts(tmp_path, names):
    part = np.arange(100) % 10
    for name, chosen in zip(names, (part < 8, part == 8, part == 9), strict=True):
        FRAME[chosen].to_csv(tmp_path / f"{name}.csv", index=False)
    (tmp_path / "README.md").write_text("notes")
    made = load(tmp_path)
    assert made.rule == "files"
    assert {name: set(p.item_ids.ids[p.items]) for name, p in made.parts.items()} == {
        "train": set(range(8)),
        "valid": {8},
        "test": {9},
    }
    assert made.name == tmp_path.name.split(".")[0]


def test_a_folder_whose_validation_repeats_train(tmp_path):
    (tmp_path / "train.txt").write_text("0 1 2 3\n1 1 2\n")
    (tmp_path / "test.txt").write_text("0 4\n1 3\n")
    (tmp_path / "valid.txt").write_text("0 2\n")
    made = load(tmp_path, format="adjacency")
    assert made.rule == "files, valid inside train"
    assert pairs(made.train) == {(0, 1), (0, 3), (1, 1), (1, 2)}


def test_a_folder_with_its_own_configuration(toy):
    config, files = toy
    shutil.copy(config, files)
    config.unlink()
    assert load(files).citation == "Nobody, nowhere"


def test_folders_of_other_kinds(tmp_path):
    for folder in ("one", "two", "three", "four", "five"):
        (tmp_path / folder).mkdir()
    FRAME.to_csv(tmp_path / "one" / "log.csv", index=False)
    assert len(load(tmp_path / "one").train) == 80
    FRAME[:50].to_parquet(tmp_path / "two" / "a.parquet")
    FRAME[50:].to_parquet(tmp_path / "two" / "b.parquet")
    assert len(load(tmp_path / "two").train) == 80
    sparse.save_npz(tmp_path / "three" / "train.npz", sparse.eye(4))
    with pytest.raises(ValueError, match="has a train file, but a split needs both"):
        load(tmp_path / "three")
    (tmp_path / "three" / "train.txt").write_text("0 1")
    with pytest.raises(ValueError, match=r"train\.npz and train\.txt could each be the train file; keep one"):
        load(tmp_path / "three")
    with pytest.raises(ValueError, match=r"a folder without \.parquet files"):
        load(tmp_path / "four")
    text = "user_id:token\titem_id:token\n" + "".join(f"{u}\t{i}\n" for u, i in FRAME.to_numpy())
    (tmp_path / "five" / "five.inter").write_text(text)
    (tmp_path / "five" / "five.user").write_text("user_id:token\n")
    assert len(load(tmp_path / "five").train) == 80


# --- real data --------------------------------------------------------------------------------------------------------------


def real(name, **options):
    if not (Path(DATA) / "general" / name).is_dir():
        pytest.skip(f"$GRAPHCL_DATA/general/{name} is not here")
    return load(name, **options)


def test_ml_100k():
    made = real("ml-100k")
    assert [len(part) for part in made.parts.values()] == [45_063, 5_156, 5_156]
    assert (made.train.num_users, made.train.num_items) == (942, 1_447)
    assert made.train.rating.min() == 4
    assert real("ml-100k", rule="temporal").rule == "temporal"
    whole = real("ml-100k", min_rating=1)
    assert sum(len(part) for part in whole.parts.values()) == 100_000


def test_ml_100k_of_the_recbole_wheel_is_the_same(monkeypatch, tmp_path):
    monkeypatch.setenv("GRAPHCL_CACHE", str(tmp_path))
    folders = registry.search_path(find("ml-100k"))
    if "recbole" not in folders[-1].parts or not (folders[-1] / "ml-100k.inter").is_file():
        pytest.skip("recbole is not installed")
    monkeypatch.delenv("GRAPHCL_DATA", raising=False)
    made = load("ml-100k")
    assert len(made.train) == 45_063
    assert "recbole" not in sys.modules
    assert describe(made)["leakage"]["pairs_in_train_and_test"] == 0


def test_gowalla():
    """The counts of the papers, and degree order: the heaviest user is row 0."""
    made = real("gowalla")
    assert {name: len(part) for name, part in made.parts.items()} == {"train": 719_081, "valid": 91_047, "test": 217_242}
    assert (made.train.num_users, made.train.num_items) == (29_858, 40_981)
    assert np.all(np.diff(np.bincount(made.train.users)) <= 0)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "sizes", "cold"),
    [
        ("yelp2018", (1_093_508, 143_751, 324_147), None),
        ("ml-1m", (590_733, 80_897, 164_848), (0, 31)),
        ("lastfm", (38_739, 3_396, 10_533), None),
        ("sparse_yelp", (182_357, 13_025, 65_128), (533, 325)),
    ],
)
def test_the_other_files(name, sizes, cold):
    made = real(name)
    assert tuple(len(part) for part in made.parts.values()) == sizes
    told = describe(made)
    assert told["leakage"]["pairs_in_train_and_test"] == 0
    if cold:
        assert (told["parts"]["test"]["cold_users"], told["parts"]["test"]["cold_items"]) == cold
