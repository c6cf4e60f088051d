"""Logs with attributes and triples as graphs of several types, from small files written here."""

import warnings

import numpy as np
import pandas as pd
import pytest
import torch

from graphcl.data import find, load, read_interactions, registry
from graphcl.data.atomic import read_atomic
from graphcl.data.knowledge import knowledge_graph

LOG = pd.DataFrame({"user": ["u", "v", "u", "w", "u"], "item": [30, 10, 10, 20, 10]})  # items in the order 30, 10, 20
ITEM = "item_id:token\ttitle:token_seq\tyear:token\tprice:float\tclass:token_seq\n"
ITEM += "10\tToy  Story\t1995\t1\tComedy Drama\n20\tHeat\t1995\t2\tCrime\n30\tToy\t\t3\tDrama Comedy\n"
USER = "user_id:token\tage:token\tyear:token\nv\t24\t1995\nu\t24\t1970\nw\t30\t1970\n"
KG = "head_id:token\trelation_id:token\ttail_id:token\nm1\tgenre\tg\nm2\tgenre\tg\nm2\tgenre\th\np\tmade\tm3\nm1\tsequel\tm3\n"
LINK = "item_id:token\tentity_id:token\n10\tm1\n20\tm2\n30\tm3\n"


@pytest.fixture
def files(tmp_path):
    for name, text in {"item": ITEM, "user": USER, "kg": KG, "link": LINK}.items():
        (tmp_path / f"x.{name}").write_text(text)
    return {"items": tmp_path / "x.item", "users": tmp_path / "x.user", "kg": tmp_path / "x.kg", "link": tmp_path / "x.link"}


def log():
    return read_interactions(LOG)


def table(graph, end, name):
    return graph.relation(end, name).toarray().tolist()


def test_users_and_items_are_the_rows_of_the_log(files):
    graph = knowledge_graph(log(), items=files["items"])
    assert log().item_ids.ids.tolist() == [30, 10, 20]
    assert (graph.counts["user"], graph.counts["item"], graph.target) == (3, 3, "item")
    assert table(graph, "user", "item") == [[1, 1, 0], [0, 1, 0], [0, 0, 1]]
    part = log().take(np.array([1, 3]))  # a training part knows all ids, and has its own pairs only
    assert table(knowledge_graph(part, items=files["items"]), "user", "item") == [[0, 0, 0], [0, 1, 0], [0, 0, 1]]


def test_a_tilde_is_the_home(files, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    graph = knowledge_graph(log(), items="~/x.item", kg="~/x.kg", link="~/x.link")
    assert graph.counts == knowledge_graph(log(), items=files["items"], kg=files["kg"], link=files["link"]).counts


def test_columns_become_types(files):
    """A node for each value in order of appearance, for each word of a sequence; none for a blank; numbers are no types."""
    graph = knowledge_graph(log(), items=files["items"])
    assert set(graph.counts) == {"user", "item", "title", "year", "class"}
    assert table(graph, "item", "class") == [[1, 1, 0], [1, 1, 0], [0, 0, 1]]  # Comedy, Drama, Crime by items 30, 10, 20
    assert table(graph, "item", "title") == [[1, 0, 0], [1, 1, 0], [0, 0, 1]]
    assert table(graph, "item", "year") == [[0], [1], [1]]


def test_meta_paths_through_genres(files):
    graph = knowledge_graph(log(), items=files["items"], columns={"class": "genre"}, target="user")
    assert set(graph.counts) == {"user", "item", "genre"}
    ui, ig = np.array(table(graph, "user", "item")), np.array(table(graph, "item", "genre"))
    for path, dense in {"item-genre-item": ig @ ig.T, "user-item-genre-item-user": ui @ ig @ ig.T @ ui.T}.items():
        np.testing.assert_array_equal((graph.path(path) @ torch.eye(3)).numpy(), dense)
        np.testing.assert_array_equal(graph.pathsim(path, None).toarray(), dense)
    assert [c.type for c in graph.contexts("UIGIU")] == ["item", "genre", "item"]


def test_a_name_of_both_files_is_one_type(files):
    graph = knowledge_graph(log(), items=files["items"], users=files["users"], columns=["year", "age"])
    assert set(graph.counts) == {"user", "item", "year", "age"}
    assert table(graph, "item", "year") == [[0, 0], [1, 0], [1, 0]]  # 1995, 1970
    assert table(graph, "user", "year") == [[0, 1], [1, 0], [0, 1]]
    assert table(graph, "user", "age") == [[1, 0], [1, 0], [0, 1]]
    assert graph.instances("user-year-item") == 2  # v, born in 1995, and the items 10 and 20


def test_relation_names_become_types(files):
    graph = knowledge_graph(log(), kg=files["kg"], link=files["link"])
    assert graph.counts == {"user": 3, "item": 3, "genre": 2, "made": 1, "sequel": 2}
    assert table(graph, "item", "genre") == [[0, 0], [1, 0], [1, 1]]  # g, h
    assert table(graph, "item", "made") == [[1], [0], [0]]  # the item is the tail
    assert table(graph, "item", "sequel") == [[0, 1], [1, 0], [0, 0]]  # m3, m1: each of the two is joined to the other
    assert graph.instances("item-genre-item") == 5


def test_everything_at_once_is_silent(files):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        graph = knowledge_graph(log(), **files)
    assert set(graph.counts) == {"user", "item", "title", "year", "class", "age", "genre", "made", "sequel"}


def test_what_the_log_does_not_have_is_counted_and_left_out(files):
    files["items"].write_text(ITEM + "40\tRan\t1985\t1\tWar\n50\tIkiru\t1952\t1\tDrama\n")
    with pytest.warns(UserWarning, match=r"x\.item: 2 of 5 items are not in the log and are left out"):
        graph = knowledge_graph(log(), items=files["items"])
    assert graph.counts["class"] == 3
    files["link"].write_text(LINK + "40\tm4\n")
    files["kg"].write_text(KG + "m4\tgenre\tz\ng\tkind\th\n")
    with pytest.warns(UserWarning, match="left out") as told:
        graph = knowledge_graph(log(), kg=files["kg"], link=files["link"])
    said = "\n".join(str(each.message) for each in told)
    assert "x.link: 1 of 4 items are not in the log and are left out" in said
    assert "x.kg: 2 of 7 triples have no item of the log and are left out" in said
    assert graph.counts == {"user": 3, "item": 3, "genre": 2, "made": 1, "sequel": 2}


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("items", "item_id\ttitle:token\n1\tx\n", r"x\.item:1: 'item_id' is no typed column such as item_id:token"),
        ("items", "\n item_id:token title:token\n", r"x\.item:2: 'item_id:token title:token' is no typed column"),
        ("items", "item:token\tt:token\n10\tx\n", r"x\.item:1: no column 'item_id'.*; the columns are: item, t"),
        ("items", "item_id:token\titem_id:token\n10\t20\n", r"x\.item:1: column 'item_id' stands twice"),
        ("items", ITEM + "40\tRan\n", r"x\.item:5: 2 fields where the header has 5"),
        ("items", ITEM + "\n\tRan\t1\t1\tx\n", r"x\.item:6: the item_id is empty"),
        ("items", "", r"x\.item: the file is empty"),
        (
            "items",
            ITEM.replace("10\t", "100\t").replace("20\t", "7\t").replace("30\t", "8\t"),
            r"x\.item: none of its items is in",
        ),
        ("items", "item_id:token\tuser:token\n10\tx\n", "there is a type user already; give the column another name"),
        ("kg", KG + "m1\tgenre\t\n", r"x\.kg:7: the tail_id is empty"),
        ("kg", KG + "m1\tgenre\n", r"x\.kg:7: 2 fields where the header has 3"),
        ("kg", KG.replace("head_id", "head"), r"x\.kg:1: no column 'head_id'; did you mean 'head'\?"),
        ("link", LINK.replace("entity_id", "entity"), r"x\.link:1: no column 'entity_id'; did you mean 'entity'\?"),
    ],
)
@pytest.mark.filterwarnings("ignore:.*left out")
def test_broken_files(files, name, text, said):
    files[name].write_text(text)
    with pytest.raises(ValueError, match=said):
        knowledge_graph(log(), **files)


def test_wrong_arguments(files):
    for one in ("kg", "link"):
        with pytest.raises(ValueError, match="kg and link go together"):
            knowledge_graph(log(), **{one: files[one]})
    with pytest.raises(ValueError, match="no column 'clas'; did you mean 'class'"):
        knowledge_graph(log(), items=files["items"], columns=["clas"])
    with pytest.raises(ValueError, match="no column 'class'; the columns are: none"):
        knowledge_graph(log(), columns=["class"])
    with pytest.raises(ValueError, match="column 'price' is float; only token and token_seq columns become types"):
        knowledge_graph(log(), items=files["items"], columns=["price"])
    with pytest.raises(ValueError, match="the target 'film' is no type"):
        knowledge_graph(log(), items=files["items"], target="film")
    with pytest.raises(FileNotFoundError, match=r"nope\.item: no such file"):
        knowledge_graph(log(), items="nope.item")


def test_fields_stay_text(tmp_path):
    path = tmp_path / "x.item"
    path.write_bytes('\ufeffitem_id:token\tt:token_seq\r\n007\t"NA\r\n8\tnull \r\n'.encode())
    frame, types = read_atomic(path, ["item_id"])
    assert frame.to_numpy().tolist() == [["007", '"NA'], ["8", "null"]]
    assert types == {"item_id": "token", "t": "token_seq"}


def test_ml_100k():
    """Genres of the films that the wheel of RecBole ships, over the training part."""
    folder = registry.search_path(find("ml-100k"))[-1]
    if not (folder / "ml-100k.item").is_file():
        pytest.skip("recbole is not installed")
    train = load("ml-100k").train
    with pytest.warns(UserWarning, match="235 of 1,682 items are not in the log"):
        graph = knowledge_graph(train, items=folder / "ml-100k.item", columns={"class": "genre"})
    assert (graph.counts["user"], graph.counts["item"]) == (942, 1447)
    lines = [line.split("\t") for line in (folder / "ml-100k.item").read_text().splitlines()]
    text = {fields[0]: fields[3].split() for fields in lines}
    expected = [len(text[str(item)]) for item in train.item_ids.ids]
    np.testing.assert_array_equal(graph.relation("item", "genre").sum(axis=1).ravel(), [expected])
    assert graph.relation("user", "item").nnz == 45_063
    with pytest.warns(UserWarning, match="left out"):
        graph = knowledge_graph(train, kg=folder / "ml-100k.kg", link=folder / "ml-100k.link", target="user")
    assert graph.types("user-item-film.film.actor-item-user")[2] == "film.film.actor"
    assert graph.half("item-film.film.genre-item").nnz > 5_000
