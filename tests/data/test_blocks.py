"""Reading in blocks: whatever their size, the same log and the same errors; and little memory."""

import gzip
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from graphcl.data import parquet, read_interactions, source, table
from graphcl.data.encode import IdRows
from graphcl.data.formats import Filling
from graphcl.data.sniff import Layout
from graphcl.data.source import text_blocks, whole_lines
from graphcl.data.survey import Survey, survey

rng = np.random.default_rng(0)
ROWS = [(f"{u}", f"{i}", f"{r / 2}", f"{t}") for u, i, r, t in rng.integers(1, 60, (400, 4)).tolist()]
HEADER = "user,item,rating,time\n"
CSV = HEADER + "".join(",".join(row) + "\n" for row in ROWS)
QUOTED = CSV.replace("\n7,", '\n"7",').replace(",8,", ',"8\n8, ""x""",')
ADJACENCY = "".join(f"{u} " + " ".join(map(str, range(u % 5, u % 11 + 1))) + "\n" for u in range(200))
TEXTS = {
    "csv": CSV,
    "csv.gz": CSV,
    "crlf.csv": CSV.replace("\n", "\r\n"),
    "cr.csv": CSV.replace("\n", "\r"),
    "blank.csv": CSV.replace("\n3", "\n\n \n3").replace(" \n", "\n"),
    "bom.csv": "\ufeff" + CSV,
    "open.csv": CSV[:-1],
    "quoted.csv": QUOTED,
    "late.csv": CSV + "007,x,1,1\n9,8,1,1\n",
    "spaced.csv": CSV.replace(",", ", ") + "\u00a07, 8,1,1\n",
    "dates.csv": HEADER + "".join(f"{u},{i},{r},2024-01-{int(t) % 28 + 1:02d}\n" for u, i, r, t in ROWS),
    "floats.csv": CSV + "7,8, 1e0,1\n",
    "bars.dat": CSV.replace(",", "::"),
    "tsv": CSV.replace(",", "\t"),
    "triples.txt": CSV[len(HEADER) :].replace(",", " ").replace("\n", " \n  "),
    "inter": CSV.replace(HEADER, "user_id:token,item_id:token,rating:float,timestamp:float\n").replace(",", "\t"),
    "adjacency.txt": ADJACENCY,
    "late.adjacency.txt": ADJACENCY + "300 1 2 3\n301 1 04 3\n",
    "colon.txt": ADJACENCY.replace(" ", ":", 1).replace("\n", "\n\n"),
    "tabs.txt": ADJACENCY.replace(" ", "\t"),
    "unicode.csv": "user,item\n" + "".join(f"ä{u},日{i}\n" for u, i, *_ in ROWS),
}
TEXTS["colon.txt"] = "".join(line.replace(" ", ":", 1) + "\n\n" for line in ADJACENCY.splitlines())


def put(tmp_path, text, name):
    path = tmp_path / name
    data = text if isinstance(text, bytes) else text.encode()
    path.write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    return path


def same(one, other):
    for what in ("users", "items", "time", "rating"):
        a, b = getattr(one, what), getattr(other, what)
        assert (a is None and b is None) or (a.dtype == b.dtype and a.tolist() == b.tolist()), what
    for a, b in ((one.user_ids.ids, other.user_ids.ids), (one.item_ids.ids, other.item_ids.ids)):
        assert a.dtype == b.dtype
        assert a.tolist() == b.tolist()


@pytest.mark.slow
@pytest.mark.parametrize("name", list(TEXTS))
def test_blocks_of_any_size_give_the_same_log(tmp_path, monkeypatch, name):
    path = put(tmp_path, TEXTS[name], name)
    whole = read_interactions(path)
    assert len(whole) >= 400
    for size in (1, 37, 1000):
        monkeypatch.setattr(source, "BLOCK_SIZE", size)
        same(read_interactions(path), whole)


def test_the_logs_are_what_stands_in_the_texts(tmp_path, monkeypatch):
    monkeypatch.setattr(source, "BLOCK_SIZE", 100)
    log = read_interactions(put(tmp_path, CSV, "x.csv"))
    assert log.user_ids.ids[log.users].tolist() == [int(row[0]) for row in ROWS]
    assert log.item_ids.ids[log.items].tolist() == [int(row[1]) for row in ROWS]
    assert log.rating.tolist() == [float(row[2]) for row in ROWS]
    assert log.time.tolist() == [float(row[3]) for row in ROWS]
    log = read_interactions(put(tmp_path, TEXTS["late.csv"], "x.csv"))
    assert log.user_ids.ids[log.users].tolist() == [row[0] for row in ROWS] + ["007", "9"]
    log = read_interactions(put(tmp_path, QUOTED, "x.csv"))
    assert log.item_ids.ids[log.items].tolist() == [row[1].replace("8", '8\n8, "x"') if row[1] == "8" else row[1] for row in ROWS]
    log = read_interactions(put(tmp_path, ADJACENCY, "x.txt"))
    wanted = [(u, i) for u in range(200) for i in range(u % 5, u % 11 + 1)]
    assert list(zip(log.user_ids.ids[log.users].tolist(), log.item_ids.ids[log.items].tolist(), strict=True)) == wanted


BAD = [
    (CSV + "7,,1,1\n", r"x:402: the item id is empty"),
    (CSV + "7,\u00a0,1,1\n7,,1,1\n", r"x:402: the item id is empty"),
    (CSV + "7,8,1,1\n\n7,8,bad,1\n", r"x:404: the rating bad is not a finite number"),
    (CSV + "7,8,nan,1\n", r"x:402: the rating nan is not a finite number"),
    (CSV + "7,8,1,\n", r"x:402: the time is missing"),
    (CSV + "7,8,1,2024-01-01\n", r"x:402: the time 2024-01-01 is not a finite number"),
    (TEXTS["dates.csv"] + "7,8,1,soon\n", r"x:402: the time soon is neither a number nor an ISO 8601 date"),
    (CSV + "7,8,1\n", r"x:402: 3 fields where line 1 has 4 \(separated by commas\)"),
    (QUOTED + "7,8,bad,1\n", rf"x:{QUOTED.count(chr(10)) + 1}: the rating bad"),
    (QUOTED + '7,8,1\n"9",8,1,1\n', r"fields where line 1 has 4"),
    (CSV.encode() + b"7,\xff,1,1\n", r"x:402: not UTF-8"),
    (gzip.compress(CSV.encode() * 3)[:-20], r"x: the gzip file is truncated"),
    (gzip.compress(CSV.encode())[:-8] + b"damaged!", r"x: the gzip file is corrupt"),
    (TEXTS["inter"] + "7\t8\n", r"x:402: 2 fields where the header has 4"),
    (TEXTS["colon.txt"] + "7 8\n", r"x:401: 0 colons"),
    (CSV[len(HEADER) :].replace(",", " ") + "1 2\n", r"x:401: 2 fields where most lines have 4"),
    ("".join(f"{n} {n + 1} 3\n" for n in range(99)), r"x: could be `user item rating` triples or"),
]


@pytest.mark.slow
@pytest.mark.parametrize(("text", "said"), BAD, ids=range(len(BAD)))
@pytest.mark.parametrize("size", [1, 64, 1 << 21])
def test_errors_name_the_line_in_whatever_block_it_stands(tmp_path, monkeypatch, size, text, said):
    monkeypatch.setattr(source, "BLOCK_SIZE", size)
    with pytest.raises(ValueError, match=said) as error:
        read_interactions(put(tmp_path, text, "x"))
    assert "\n" not in str(error.value)


def test_a_line_that_is_no_row_is_said_with_the_line_where_its_block_begins():
    chosen, layout = {"user": "user", "item": "item"}, Layout("csv", ",", ("user", "item"), 3)
    with pytest.raises(ValueError, match=r"x:7: no table can be read from here on \(.*Expected 2 columns, got 1"):
        table.parsed(b"1,2\n  \n3\n", chosen, layout, lambda: "x:7")
    assert table.parsed(b"1,2\n  \n3,4\n", chosen, layout, lambda: "x:7").num_rows == 2  # Arrow counts the blanks as a field


def test_blocks_are_cut_behind_lines_and_records(tmp_path, monkeypatch):
    monkeypatch.setattr(source, "BLOCK_SIZE", 4)
    path = put(tmp_path, "ab\ncd\n\nefghij\nk", "x")
    assert list(text_blocks(path)) == [b"ab\n", b"cd\n\n", b"efghij\n", b"k"]
    quoted = whole_lines(iter([b'a"\n', b'\n"b', b"\nc\n", b'"\n"\nd']), quoted=True)
    assert list(quoted) == [b'a"\n\n"b\nc\n', b'"\n"\n', b"d"]


def test_a_survey_keeps_counts_and_first_odd_lines(tmp_path, monkeypatch):
    monkeypatch.setattr(source, "BLOCK_SIZE", 3)
    found = survey(put(tmp_path, "\n1 2 3\n4 5\n\n6 7 8\n4 9\n", "x"))
    assert isinstance(found, Survey)
    assert (found.num_lines, found.number, found.head) == (4, 2, ["1 2 3", "4 5"])
    assert found.token_counts == {3: [2, 2], 2: [2, 3]}
    assert (found.num_tokens, found.whole, found.users_repeat, found.quotes) == (10, True, True, 0)
    found = survey(put(tmp_path, 'a,b\n"c\nd",e\nf,g,h\n', "x"))
    assert (found.odd[b","], found.quotes) == ((2, 0), 2)
    found = survey(put(tmp_path, 'a,b\n"c\nd",e\nf,g,h\n', "x"), quoted=True)
    assert (found.odd[b","], found.num_lines) == ((4, 2), 3)


def test_columns_that_were_made_too_long_give_the_rest_back():
    filling, users, items = Filling(1000, {"time": "when"}), IdRows(), IdRows()
    for values in ([5, 6], [6]):
        rows = [ids.of_numbers(np.array(values)) for ids in (users, items)]
        filling.add(*rows, None, pd.Series(values), str)
    columns = filling.finish(users, items, str, strip=True)
    assert [columns.users.tolist(), columns.items.tolist(), columns.time.tolist()] == [[0, 1, 1], [0, 1, 1], [5, 6, 6]]
    assert columns.user_ids.tolist() == [5, 6]
    assert columns.users.base is None


# --- Parquet ----------------------------------------------------------------------------------------------------------------

USERS = [int(row[0]) for row in ROWS]


@pytest.mark.parametrize(
    ("users", "ids"),
    [
        (pd.Series(USERS, dtype="int16"), USERS),
        (pd.Series(USERS, dtype="float64"), USERS),
        (pd.Series([*USERS[1:], 2**64 - 1], dtype="uint64"), [str(u) for u in (*USERS[1:], 2**64 - 1)]),
        (pd.Series(USERS).astype(str), [str(u) for u in USERS]),
        (pd.Series(USERS).astype(str).astype("category"), [str(u) for u in USERS]),
        (pd.Series(USERS).astype("category"), USERS),
        (pd.Series(USERS) > 30, [str(u > 30) for u in USERS]),
        (pd.to_datetime(pd.Series(USERS), unit="s"), [f"1970-01-01 00:00:{u:02d}" for u in USERS]),
    ],
)
@pytest.mark.parametrize("rows", [7, 1 << 17])
def test_parquet_batches_of_any_type_of_id(tmp_path, monkeypatch, users, ids, rows):
    monkeypatch.setattr(parquet, "BATCH_ROWS", rows)
    frame = pd.DataFrame({"user": users, "item": [row[1] for row in ROWS], "time": np.arange(400.0)})
    frame.to_parquet(tmp_path / "x.parquet", row_group_size=90)
    log = read_interactions(tmp_path / "x.parquet")
    assert log.user_ids.ids[log.users].tolist() == ids
    assert log.item_ids.ids[log.items].tolist() == [row[1] for row in ROWS]
    assert log.time.tolist() == list(range(400))


def test_a_folder_of_parquet_files_whose_users_are_partitions(tmp_path, monkeypatch):
    monkeypatch.setattr(parquet, "BATCH_ROWS", 3)
    frame = pd.DataFrame({"user": USERS, "item": [int(row[1]) for row in ROWS]}).sort_values("user", kind="stable")
    frame.to_parquet(tmp_path / "log", partition_cols=["user"])
    log = read_interactions(tmp_path / "log")
    found = pd.DataFrame({"user": log.user_ids.ids[log.users], "item": log.item_ids.ids[log.items]})
    assert found.sort_values("user", kind="stable").to_numpy().tolist() == frame.to_numpy().tolist()


def test_parquet_errors_name_the_row_in_a_later_batch(tmp_path, monkeypatch):
    monkeypatch.setattr(parquet, "BATCH_ROWS", 7)
    for column, value, said in (
        ("user", None, "the user id is missing"),
        ("item", "", "the item id is empty"),
        ("time", np.nan, "the time is missing"),
    ):
        frame = pd.DataFrame(
            {"user": pd.Series(USERS, dtype="Int64"), "item": [row[1] for row in ROWS], "time": np.arange(400.0)}
        )
        frame.loc[300, column] = value
        frame.to_parquet(tmp_path / "x.parquet")
        with pytest.raises(ValueError, match=rf"x\.parquet, row 301: {said}"):
            read_interactions(tmp_path / "x.parquet")


# --- memory -----------------------------------------------------------------------------------------------------------------

PROBE = """
import json, sys
from graphcl.data import read_interactions

def memory(field):
    return next(int(line.split()[1]) * 1024 for line in open("/proc/self/status") if line.startswith(field))

read_interactions(sys.argv[1])  # loads whatever is loaded on first use
open("/proc/self/clear_refs", "w").write("5")  # the high-water mark starts anew
before = memory("VmRSS:")
log = read_interactions(sys.argv[2])
columns = [column for column in (log.time, log.rating) if column is not None]
print(json.dumps({
    "peak": memory("VmHWM:") - before,
    "rows": len(log),
    "size": 8 * len(log) + sum(column.nbytes for column in columns) + log.user_ids.ids.nbytes + log.item_ids.ids.nbytes,
}))
"""


@pytest.mark.slow
@pytest.mark.skipif(not os.access("/proc/self/clear_refs", os.W_OK), reason="needs Linux's high-water mark of memory")
@pytest.mark.parametrize("ending", ["csv", "csv.gz", "parquet", "txt"])
def test_the_peak_of_reading_is_at_most_three_times_the_result(tmp_path, ending):
    """Three million rows: 24 MB of pairs. Before reading was done in blocks the peak was 9 (Parquet) to 17 times (text)."""
    num = 3_000_000
    rng = np.random.default_rng(0)
    users, items = np.sort(rng.integers(0, 60_000, num)), rng.integers(0, 20_000, num)
    for size, name in ((100, "tiny"), (num, "log")):
        path = tmp_path / f"{name}.{ending}"
        frame = pd.DataFrame({"user": users[:size] + 1000, "item": items[:size]})
        if ending == "parquet":
            frame.to_parquet(path)
        elif ending == "txt":
            grouped = frame.groupby("user")["item"]
            path.write_text("".join(f"{user} {' '.join(map(str, rows))}\n" for user, rows in grouped) + "0 1\n")
        else:
            import pyarrow as pa
            from pyarrow import csv

            text = pa.BufferOutputStream()
            csv.write_csv(pa.Table.from_pandas(frame, preserve_index=False), text)
            data = text.getvalue().to_pybytes()
            path.write_bytes(gzip.compress(data, 1) if ending == "csv.gz" else data)
    paths = [str(tmp_path / f"{name}.{ending}") for name in ("tiny", "log")]
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run(
        [sys.executable, "-c", PROBE, *paths], cwd=root, capture_output=True, text=True, timeout=120, check=True
    )
    found = json.loads(done.stdout)
    assert found["rows"] in (num, num + 1)
    assert found["peak"] <= 3 * found["size"], f"{found['peak'] / found['size']:.2f} times"
