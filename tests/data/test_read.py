import datetime
import gzip
import io
import os
import time
import zipfile

import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from graphcl.data import filter_rating, k_core, read_interactions, write_interactions
from graphcl.data.columns import MissingColumn

CSV = "userId,movieId,rating,timestamp\n7,10,4,100\n7,20,3.5,200\n9,10,1,300\n"
TRIPLES = "7 10 4\n7 20 3\n9 10 1\n"
ADJACENCY = "0 5 6 7\n3 6\n4\n"


def put(tmp_path, text, name="log.csv"):
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def pairs(log):
    return list(zip(log.user_ids.ids[log.users].tolist(), log.item_ids.ids[log.items].tolist(), strict=True))


WANTED = [(7, 10), (7, 20), (9, 10)]


# --- every format says the same ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("separator", [",", "\t", ";", "|", " ", "  ", "::"])
@pytest.mark.parametrize("ends", ["\n", "\r\n"])
@pytest.mark.parametrize("last", [True, False])
def test_delimiters_and_line_ends(tmp_path, separator, ends, last):
    text = CSV.replace(",", separator).replace("\n", ends)
    log = read_interactions(put(tmp_path, text if last else text.rstrip(), "log.txt"))
    assert pairs(log) == WANTED
    assert log.rating.tolist() == [4, 3.5, 1]
    assert log.time.tolist() == [100, 200, 300]
    assert (log.users.dtype, log.rating.dtype, log.time.dtype) == (np.int32, np.float32, np.float64)
    assert log.user_ids.ids.dtype == np.int64
    assert log.name == "log"


@pytest.mark.parametrize("separator", [",", "\t", " "])
@pytest.mark.parametrize("ends", ["\n", "\r\n"])
def test_a_table_without_header_is_triples(tmp_path, separator, ends):
    log = read_interactions(put(tmp_path, TRIPLES.replace(" ", separator).replace("\n", ends)))
    assert pairs(log) == WANTED
    assert log.rating.tolist() == [4, 3, 1]
    assert log.time is None


def test_triples_with_time_and_text_ids(tmp_path):
    log = read_interactions(put(tmp_path, "ann\tbook\t4\t100\nbob\tlamp\t3\t50\n"))
    assert pairs(log) == [("ann", "book"), ("bob", "lamp")]
    assert log.time.tolist() == [100, 50]


@pytest.mark.parametrize("text", [ADJACENCY, "0:5 6 7\n3: 6\n4:\n", "0\t5\t6\t7\n3\t6\n4\n", "0 5 6 7  \n\n3 6\r\n4 "])
def test_adjacency_lines(tmp_path, text):
    log = read_interactions(put(tmp_path, text, "train.txt"))
    assert pairs(log) == [(0, 5), (0, 6), (0, 7), (3, 6)]
    assert log.user_ids.ids.tolist() == [0, 3]  # user 4 has no item


def test_adjacency_with_text_ids_is_read_on_request(tmp_path):
    path = put(tmp_path, "ann book lamp\nbob 007\n")
    assert pairs(read_interactions(path, format="adjacency")) == [("ann", "book"), ("ann", "lamp"), ("bob", "007")]


def test_adjacency_ids_with_leading_zeros_or_beyond_18_digits_stay_exact(tmp_path):
    path = put(tmp_path, "0 07 5 6\n1 7\n")
    assert pairs(read_interactions(path)) == [(0, "07"), (0, "5"), (0, "6"), (1, "7")]
    path = put(tmp_path, "0 9223372036854775807 5 6\n1 7\n")
    assert read_interactions(path).item_ids.ids.tolist() == [2**63 - 1, 5, 6, 7]
    path = put(tmp_path, "0 9223372036854775808 5 6\n1 7\n")
    assert read_interactions(path).item_ids.ids.tolist() == ["9223372036854775808", "5", "6", "7"]


def test_inter(tmp_path):
    text = 'user_id:token\titem_id:token\trating:float\ttimestamp:float\n7\t10\t4\t100\n7\t5" disk\t3.5\t200\n'
    log = read_interactions(put(tmp_path, text, "toy.inter"))
    assert pairs(log) == [(7, "10"), (7, '5" disk')]
    assert log.time.tolist() == [100, 200]


@pytest.mark.parametrize("ending", ["parquet", "folder"])
def test_parquet(tmp_path, ending):
    frame = pd.DataFrame({"customer": [7, 7, 9], "product": ["a", "007", "a"], "stars": [4, 3, 1]})
    path = tmp_path / "log.parquet"
    if ending == "folder":
        path = tmp_path / "log"
        frame["day"] = ["x", "x", "y"]
        frame.to_parquet(path, partition_cols=["day"])
    else:
        frame.to_parquet(path)
    log = read_interactions(path)
    assert pairs(log) == [(7, "a"), (7, "007"), (9, "a")]
    assert log.rating.tolist() == [4, 3, 1]


def test_parquet_files_of_different_types(tmp_path):
    """Text was once made numbers where the first file had these: "007" and "7" became one."""
    for name, users in (("a", [1, 7]), ("b", ["007", "7"])):
        pd.DataFrame({"user": users, "item": ["x", "y"]}).to_parquet(tmp_path / f"{name}.parquet")
    with pytest.raises(ValueError, match=r"b\.parquet: column 'user' is text, but int64 in the first file; make it one type"):
        read_interactions(tmp_path)
    (tmp_path / "a.parquet").rename(tmp_path / "c.parquet")
    assert pairs(read_interactions(tmp_path)) == [("007", "x"), ("7", "y"), ("1", "x"), ("7", "y")]


def test_lines_of_blanks_alone(tmp_path):
    assert pairs(read_interactions(put(tmp_path, "user,item\n1,2\n \t\n3,4\n   \n"))) == [(1, 2), (3, 4)]
    assert pairs(read_interactions(put(tmp_path, 'user,item\n1,"a\nb"\n  \n3,4\n'))) == [(1, "a\nb"), (3, "4")]


def test_what_else_stands_in_a_folder_is_passed_over(tmp_path):
    pd.DataFrame({"user": [7, 9], "item": ["a", "b"]}).to_parquet(tmp_path / "part-0.parquet")
    (tmp_path / "notes.json").write_text("{}")
    (tmp_path / "_temporary").mkdir()
    (tmp_path / "_temporary" / "part-1.parquet").write_text("half")
    assert pairs(read_interactions(tmp_path)) == [(7, "a"), (9, "b")]
    (tmp_path / "part-2.parquet").write_text("half")
    with pytest.raises(ValueError, match="not a Parquet file that can be read"):
        read_interactions(tmp_path)


def test_npz(tmp_path):
    matrix = sparse.csr_matrix(np.array([[0, 1, 0], [0, 0, 0], [1, 0, 1.0]]))
    sparse.save_npz(tmp_path / "m.npz", matrix)
    log = read_interactions(tmp_path / "m.npz")
    assert pairs(log) == [(0, 1), (2, 0), (2, 2)]
    assert log.rating is None
    matrix.data[:] = [2, 0, 5]  # a stored zero is no interaction
    sparse.save_npz(tmp_path / "m.npz", matrix)
    log = read_interactions(tmp_path / "m.npz")
    assert pairs(log) == [(0, 1), (2, 2)]
    assert log.rating.tolist() == [2, 5]


def test_npz_never_unpickles(tmp_path):
    class Bomb:
        def __reduce__(self):
            return (pytest.fail, ("unpickled",))

    np.savez(tmp_path / "m.npz", format=np.array(b"csr"), data=np.array([Bomb()], dtype=object))
    with pytest.raises(ValueError, match=r"m\.npz: not a sparse matrix"):
        read_interactions(tmp_path / "m.npz")


def test_dataframe_ids_keep_their_type():
    day = datetime.date(2024, 1, 2)
    frame = pd.DataFrame({"user": [2**60, 2**60 + 1], "item": ["007", "7"], "date": [day, day]}, index=[5, 5])
    log = read_interactions(frame)
    assert pairs(log) == [(2**60, "007"), (2**60 + 1, "7")]
    assert log.time.tolist() == [1704153600.0] * 2
    assert log.name == "interactions"
    assert read_interactions(frame, name="mine").name == "mine"


@pytest.mark.parametrize(
    ("column", "ids"),
    [
        (pd.Series([1.0, 2.0]), [1, 2]),
        (pd.Series([1, 2], dtype="Int64"), [1, 2]),
        (pd.Series(["a", "b"], dtype="category"), ["a", "b"]),
        (pd.Series([3, 4]).astype("category"), [3, 4]),
        (pd.Series([2**64 - 1, 1], dtype="uint64"), [str(2**64 - 1), "1"]),
        (pd.Series([True, False]), ["True", "False"]),
        (pd.Series([1, "b"], dtype=object), ["1", "b"]),
        (pd.Series(pd.to_datetime(["2024-01-02", "2024-01-03"])), ["2024-01-02 00:00:00", "2024-01-03 00:00:00"]),
    ],
)
def test_dataframe_id_types(column, ids):
    log = read_interactions(pd.DataFrame({"user": column, "item": [0, 1]}))
    assert log.user_ids.ids.tolist() == ids


# --- gzip, encodings, quotes ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("text", "name"), [(CSV, "log.csv.gz"), (CSV, "plain.csv"), (TRIPLES, "log.txt.gz")])
def test_gzip_is_told_by_content(tmp_path, text, name):
    assert pairs(read_interactions(put(tmp_path, gzip.compress(text.encode()), name))) == WANTED


def test_byte_order_mark_and_unicode(tmp_path):
    log = read_interactions(put(tmp_path, "\ufeffuser,item\nä,日本\nb,c\n"))
    assert pairs(log) == [("ä", "日本"), ("b", "c")]


def test_quoted_fields_may_hold_delimiters_and_line_ends(tmp_path):
    path = put(tmp_path, 'user,item,rating\n"ann, b","la\nmp",3\n"say ""hi""",x,4\nz,y,bad\n')
    with pytest.raises(ValueError, match=r"log\.csv:5: the rating bad is not"):
        read_interactions(path)
    path = put(tmp_path, 'user,item,rating\n"ann, b","la\nmp",3\n"say ""hi""",x,4\n')
    assert pairs(read_interactions(path)) == [("ann, b", "la\nmp"), ('say "hi"', "x")]


def test_a_lone_quote_is_a_letter(tmp_path):
    assert pairs(read_interactions(put(tmp_path, 'user\titem\n1\t5" disk\n2\tx\n'))) == [(1, '5" disk'), (2, "x")]


def test_inch_marks_are_letters_however_many(tmp_path):
    """Two of them once made one record of the lines between, and ended in a csv.Error."""
    lines = ["user,item,title", '1,2,5" nail', "1,3,x", '2,3,6" nail', "2,4,q"]
    wanted = [(1, 2), (1, 3), (2, 3), (2, 4)]
    assert pairs(read_interactions(put(tmp_path, "\n".join(lines)))) == wanted
    assert pairs(read_interactions(put(tmp_path, "\n".join([lines[0], lines[2], lines[1], *lines[3:]])))) == sorted(
        wanted, key=[(1, 3), (1, 2), (2, 3), (2, 4)].index
    )


def test_blanks_before_a_quote_are_left_out(tmp_path):
    text = '"user id", "item id"\n"1",  "2"\n"3", "a, ""b"" "\n'
    assert pairs(read_interactions(put(tmp_path, text))) == [(1, "2"), (3, 'a, "b"')]


def test_semicolons_part_fields_where_commas_are_decimal(tmp_path):
    with pytest.raises(ValueError, match=r"log\.csv:1: the rating 3,5 is not a finite number"):
        read_interactions(put(tmp_path, "1;2;3,5\n1;3;4,0\n2;2;1,5\n"))
    log = read_interactions(put(tmp_path, "1,2;3\n1,3;4\n"))  # a pair of items is one id
    assert pairs(log) == [(1, "2;3"), (1, "3;4")]


def test_blanks_around_fields_are_left_out(tmp_path):
    log = read_interactions(put(tmp_path, "user, item, rating\n7, 10, 4\n7, 20, 3.5\n9, 10, 1\n"))
    assert pairs(log) == WANTED
    assert log.rating.tolist() == [4, 3.5, 1]


# --- ids and columns --------------------------------------------------------------------------------------------------------


def test_a_text_column_becomes_whole_numbers_only_if_every_id_prints_back(tmp_path):
    log = read_interactions(put(tmp_path, "user,item\n007,7\n7,-8\n"))
    assert pairs(log) == [("007", 7), ("7", -8)]
    for odd in ("1.0", "1_0", "+1", "1e3", "٣", "NA", "nan", "99999999999999999999"):
        log = read_interactions(put(tmp_path, f"user,item\n1,5\n{odd},6\n"))
        assert log.user_ids.ids.tolist() == ["1", odd]
    near = [2**53, 2**53 + 1]
    log = read_interactions(put(tmp_path, f"user,item\n{near[0]},5\n{near[1]},6\n"))
    assert log.user_ids.ids.tolist() == near


@pytest.mark.parametrize(
    "header", ["user,item", "user_id,item_id", "userId,movieId", "CustomerID,Product ID", "reviewer_id,asin", "uid,iid"]
)
def test_well_known_names(tmp_path, header):
    assert pairs(read_interactions(put(tmp_path, header + "\n7,10\n9,20\n"))) == [(7, 10), (9, 20)]


def test_a_log_with_gaps_is_read_without_its_ratings_and_times(tmp_path):
    """A gap in a column that nobody used made the log unreadable."""
    path = tmp_path / "log.csv"
    path.write_text("user,item,rating,time\na,x,5,\na,y,,7\n")
    with pytest.raises(ValueError, match="the rating is missing; rating_col='' reads the log without"):
        read_interactions(path, time_col="")
    for source in (path, pd.read_csv(path)):
        log = read_interactions(source, rating_col="", time_col="")
        assert (len(log), log.rating, log.time) == (2, None, None)
    (tmp_path / "lines.txt").write_text("0 1 2\n1 2\n")
    assert len(read_interactions(tmp_path / "lines.txt", format="adjacency", time_col="")) == 3


@pytest.mark.parametrize("value", [["x"], {"x": 1}])
def test_ids_that_are_no_single_values(tmp_path, value):
    frame = pd.DataFrame({"user": ["a", "b"], "item": [value, value]})
    frame.to_parquet(tmp_path / "log.parquet")
    for source in (frame, tmp_path / "log.parquet"):
        with pytest.raises(ValueError, match="ids must be numbers, text or dates, one a row"):
            read_interactions(source)


def test_named_columns_go_before_well_known_ones(tmp_path):
    path = put(tmp_path, "who,item,what,rating,when\n7,1,10,4,5\n9,2,20,3,6\n")
    log = read_interactions(path, user_col="who", item_col="what", time_col="when")
    assert pairs(log) == [(7, 10), (9, 20)]
    assert log.time.tolist() == [5, 6]


def test_times(tmp_path):
    text = "user,item,date\n1,2,1970-01-02\n1,3,1970-01-01T00:00:01.5\n1,4,1970-01-01 02:00:00+02:00\n1,5,1970-01-01T00:00:10Z\n"
    assert read_interactions(put(tmp_path, text)).time.tolist() == [86400, 1.5, 0, 10]
    zone = pd.to_datetime(["1970-01-01 01:00", "1970-01-01 02:00"]).tz_localize("Europe/Berlin")
    for when in (zone, zone.as_unit("s"), pd.Index([0, 3600]), pd.Index(["1970-01-01", "1970-01-01T01:00"])):
        log = read_interactions(pd.DataFrame({"user": [1, 2], "item": [1, 2], "time": when}))
        assert log.time.tolist() == [0, 3600]


def test_repeated_rows_are_kept_in_file_order(tmp_path):
    log = read_interactions(put(tmp_path, "user,item\n2,1\n1,1\n2,1\n"))
    assert pairs(log) == [(2, 1), (1, 1), (2, 1)]
    assert log.num_repeats == 1


# --- bad input: one sentence that names file and line -----------------------------------------------------------------------

BAD = [
    ("", {}, r"log\.csv: the file is empty"),
    (" \n\n", {}, r"log\.csv: the file is empty"),
    ("user,item\n", {}, r"log\.csv: a header and no rows"),
    ("user,rating\n1,2\n", {}, r"no column is known to hold the item; name it with item_col= .*columns are: user, rating"),
    (
        "user,item\n1,2\n",
        {"user_col": "usr"},
        r"no column 'usr' for the user; did you mean 'user'\?; the columns are: user, item",
    ),
    ("user,product,item\n1,2,3\n", {}, r"'product' and 'item' could each be the item; say which: item_col="),
    ("user,user,item\n1,2,3\n", {}, r"column 'user' stands twice"),
    ("user,item\n1,2\n", {"user_col": "item", "item_col": "item"}, r"column 'item' cannot be user and item at once"),
    ("user,item\n1,2\n", {"time_col": "item", "item_col": "item"}, r"column 'item' cannot be item and time at once"),
    ("a,b\nc,d\n", {}, r"log\.csv:1: \['a', 'b'\] may be column names or the first interaction"),
    ("1,2,3,4,5\n1,2,3,4,5\n", {}, r"log\.csv:1: 5 columns without a header"),
    ("user,item,rating\n1,2,3\n4,5\n", {}, r"log\.csv:3: 2 fields where line 1 has 3 \(separated by commas\)"),
    ("user,item\n1,2\n\n4;5\n", {}, r"log\.csv:4: 1 fields where line 1 has 2"),
    ("user^item\n1^2\n", {}, r"log\.csv:1: one field; columns must be separated by"),
    ("user,item\n1,2\n", {"format": "tsv"}, r"log\.csv:1: no tab in it"),
    ("user,item,rating\n1,2,3\n4,5,\n", {}, r"log\.csv:3: the rating is missing"),
    ("user,item,rating\n1,2,3\n4,5,good\n", {}, r"log\.csv:3: the rating good is not a finite number"),
    ("user,item,rating\n1,2,3\n4,5,nan\n", {}, r"log\.csv:3: the rating nan is not a finite number"),
    ("user,item,rating\n1,2,3\n\n4,5,inf\n", {}, r"log\.csv:4: the rating inf is not a finite number"),
    ("user,item,time\n1,2,3\n4,5,soon\n", {}, r"log\.csv:3: the time soon is not a finite number"),
    ("user,item,time\n1,2,2024-01-01\n4,5,soon\n", {}, r"log\.csv:3: the time soon is neither a number nor an ISO 8601"),
    ("user,item,time\n1,2,2024-01-01\n4,5,\n", {}, r"log\.csv:3: the time is missing"),
    ("user,item,time\n1,2,nan\n4,5,6\n", {}, r"log\.csv:2: the time nan"),
    ("user,item\n1,2\n,5\n", {}, r"log\.csv:3: the user id is empty"),
    ("user,item\n1,2\n3, \n", {}, r"log\.csv:3: the item id is empty"),
    ("0 1 2\n3 4 5\n", {}, r"log\.csv: could be `user item rating` triples or .* say format='triples' or format='adjacency'"),
    ("1 2 3\n1 4\n1 5 6\n", {}, r"log\.csv:2: 2 fields where most lines have 3"),
    ("0:1 2\n3 4\n", {}, r"log\.csv:2: 0 colons"),
    ("0:1 2\n3:4:5\n", {}, r"log\.csv:2: 2 colons"),
    ("0\n3\n", {"format": "adjacency"}, r"log\.csv: no line has an item"),
    (ADJACENCY, {"user_col": "user"}, r"log\.csv:1: 4 fields where most lines have 1"),
    (ADJACENCY, {"user_col": "user", "format": "adjacency"}, r"format adjacency has no named columns, so user_col='user'"),
    ("1 2\n3 4\n", {"format": "triple"}, r"unknown format 'triple'; did you mean 'triples'\?"),
    ("1 2 3 4 5\n1 2 3 4 6\n", {"format": "triples"}, r"triples have at most four"),
    ("user item\n1 2\n", {"format": "inter"}, r"log\.csv:1: 'user item' is no typed column of an \.inter file"),
    ("user_id:token\titem_id:token\n1\t2\n3\n", {}, r"log\.csv:3: 1 fields where the header has 2"),
    (b"user,item\n1,\xff\n", {}, r"log\.csv:2: not UTF-8"),
    ("user,item\n1,2\n".encode("utf-16"), {}, r"log\.csv: the text is UTF-16"),
    (b"\x00\x01\x02", {}, r"log\.csv: not a text file"),
    (b"PAR1 and no more", {}, r"log\.csv: not a Parquet file that can be read"),
    (b"PK\x03\x04 and no more", {}, r"log\.csv: not a sparse matrix"),
    (gzip.compress(CSV.encode() * 99)[:-20], {}, r"log\.csv: the gzip file is truncated"),
    (gzip.compress(CSV.encode())[:-8] + b"damaged!", {}, r"log\.csv: the gzip file is corrupt"),
    (gzip.compress(b""), {}, r"log\.csv: the file is empty"),
    ("user,item\n1,2\n", {"min_rating": 4}, r"min_rating=4 needs a rating column"),
    (CSV, {"min_rating": 6}, r"no rating is 6 or higher; they run from 1 to 4"),
    (CSV, {"k_core": 5}, r"the 5-core is empty"),
    (CSV, {"k_core": 0}, r"k_core must be a whole number of at least 1"),
    (CSV, {"k_core": (2,)}, r"k_core must be a whole number of at least 1, or two"),
]


@pytest.mark.parametrize(("text", "options", "said"), BAD, ids=range(len(BAD)))
def test_bad_files(tmp_path, text, options, said):
    with pytest.raises(ValueError, match=said) as error:
        read_interactions(put(tmp_path, text), **options)
    assert type(error.value) in (ValueError, MissingColumn)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("log.json", '[{"user": 1, "item": 2}]', "JSON, which is not read; convert it to CSV"),
        ("log.jsonl", '{"user": 1, "item": 2}\n', "JSON, which is not read; convert it to CSV"),
        ("late.jsonl", '\ufeff\n {"user": 1, "item": 2}\n', "JSON, which is not read; convert it to CSV"),
        ("log.zip", b"", "a zip archive, which is not read; convert it to CSV"),
    ],
)
def test_formats_that_are_not_read(tmp_path, name, text, told):
    path = put(tmp_path, text, name)
    if not text:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("log.csv", CSV)
    with pytest.raises(ValueError, match=rf"{name}: {told}"):
        read_interactions(path)


def test_a_pipe(tmp_path):
    """It was "cannot be read (None)"."""
    there, back = os.pipe()
    os.write(back, CSV.encode())
    os.close(back)
    with pytest.raises(ValueError, match="not a pipe"):
        read_interactions(f"/dev/fd/{there}")
    os.close(there)


def test_absent_files(tmp_path):
    put(tmp_path, CSV, "ratings.csv")
    with pytest.raises(FileNotFoundError, match=r"rating\.csv: no such file; did you mean 'ratings\.csv'\?"):
        read_interactions(tmp_path / "rating.csv")
    with pytest.raises(FileNotFoundError, match="no such file"):
        read_interactions(tmp_path / "nowhere" / "x.csv")
    with pytest.raises(ValueError, match=r"a folder without \.parquet files"):
        read_interactions(tmp_path)
    with pytest.raises(ValueError, match=r"ends in \.gz but it is not a gzip file"):
        read_interactions(put(tmp_path, CSV, "x.csv.gz"))


@pytest.mark.parametrize(
    ("column", "value", "said"),
    [
        ("user", None, "row 2: the user id is missing"),
        ("item", "", "row 2: the item id is empty"),
        ("user", 1.5, "row 2: the user id 1.5 is not a whole number"),
        ("rating", float("nan"), "row 2: the rating is missing"),
        ("rating", "good", "row 2: the rating good is not a finite number"),
        ("time", float("inf"), "row 2: the time inf is not a finite number"),
        ("time", pd.NaT, "row 2: the time is missing"),
    ],
)
def test_bad_cells_of_a_dataframe(tmp_path, column, value, said):
    frame = pd.DataFrame({"user": [1, 2], "item": ["a", "b"], "rating": [1, 2], "time": [3.0, 4.0]})
    first = pd.Timestamp(2024, 1, 1) if value is pd.NaT else frame[column][0]
    frame[column] = [first, value]
    with pytest.raises(ValueError, match=f"the DataFrame, {said}"):
        read_interactions(frame)
    if value != "good":  # Arrow refuses a column of two types itself
        frame.to_parquet(tmp_path / "log.parquet")
        with pytest.raises(ValueError, match=rf"log\.parquet, {said}"):
            read_interactions(tmp_path / "log.parquet")


def test_a_categorical_id_that_is_missing():
    frame = pd.DataFrame({"user": pd.Categorical([1, None, 2]), "item": [1, 2, 3]})
    with pytest.raises(ValueError, match="the DataFrame, row 2: the user id is missing"):
        read_interactions(frame)


def test_ids_of_two_types_that_print_alike():
    with pytest.raises(ValueError, match="ids of two types print as '1'"):
        read_interactions(pd.DataFrame({"user": pd.Series([1, "1"], dtype=object), "item": [1, 2]}))


def test_empty_and_odd_dataframes(tmp_path):
    with pytest.raises(ValueError, match="the DataFrame has no rows"):
        read_interactions(pd.DataFrame({"user": [], "item": []}))
    with pytest.raises(ValueError, match="no column is known to hold the user"):
        read_interactions(pd.DataFrame({0: [1], 1: [2]}))
    pd.DataFrame({"user": [], "item": []}).to_parquet(tmp_path / "x.parquet")
    with pytest.raises(ValueError, match="the file has no rows"):
        read_interactions(tmp_path / "x.parquet")


def test_parquet_whole_numbers_with_a_gap_do_not_become_floats(tmp_path):
    pd.DataFrame({"user": pd.Series([2**60 + 1, None], dtype="Int64"), "item": [1, 2]}).to_parquet(tmp_path / "x.parquet")
    with pytest.raises(ValueError, match="row 2: the user id is missing"):
        read_interactions(tmp_path / "x.parquet")


def test_a_third_column_of_times_is_warned_of(tmp_path):
    with pytest.warns(UserWarning, match="looks like a time"):
        read_interactions(put(tmp_path, "1,2,881250949\n2,3,881250950\n"))


# --- filters ----------------------------------------------------------------------------------------------------------------


def test_min_rating_keeps_the_threshold_and_shrinks(tmp_path):
    log = read_interactions(put(tmp_path, CSV), min_rating=3.5)
    assert pairs(log) == [(7, 10), (7, 20)]
    assert log.user_ids.ids.tolist() == [7]
    assert filter_rating(log, 4).item_ids.ids.tolist() == [10]


@pytest.mark.parametrize("k", [2, 3, (2, 4), (4, 2)])
def test_k_core_against_a_slow_loop(k):
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"user": rng.integers(0, 40, 220), "item": rng.integers(0, 30, 220)})
    log = k_core(read_interactions(frame), k)
    per_user, per_item = (k, k) if isinstance(k, int) else k
    rows = list(zip(frame["user"], frame["item"], strict=True))
    while True:
        distinct = set(rows)
        kept = [
            (u, i)
            for u, i in rows
            if sum(v == u for v, _ in distinct) >= per_user and sum(j == i for _, j in distinct) >= per_item
        ]
        if kept == rows:
            break
        rows = kept
    assert 0 < len(rows) < 220
    assert pairs(log) == rows
    assert set(log.user_ids.ids) == {u for u, _ in rows}


# --- writing ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", ["csv", "csv.gz", "tsv", "inter", "inter.gz", "parquet"])
@pytest.mark.parametrize("text_ids", [True, False])
def test_written_files_read_back_the_same(tmp_path, ending, text_ids):
    users = ["007", "b c", "007"] if text_ids else [7, 2**60 + 1, 7]
    frame = pd.DataFrame({"user": users, "item": [3, 1, 3], "rating": [4, 3.5, 5], "time": [881250949.0, 2.0, 3.25]})
    log = read_interactions(frame)
    again = read_interactions(write_interactions(log, tmp_path / f"log.{ending}"))
    assert pairs(again) == pairs(log)
    assert again.rating.tolist() == log.rating.tolist()
    assert again.time.tolist() == log.time.tolist()
    assert [path.name for path in tmp_path.iterdir()] == [f"log.{ending}"]


def test_npz_reads_back_with_repeats(tmp_path):
    log = read_interactions(pd.DataFrame({"user": [5, 2, 5], "item": [3, 1, 3], "rating": [4, 3.5, 5]}))
    again = read_interactions(write_interactions(log, tmp_path / "log.npz"))
    assert pairs(again) == pairs(log)
    assert again.rating.tolist() == [4, 3.5, 5]


def test_what_a_format_cannot_hold_is_refused_and_leaves_the_old_file(tmp_path):
    log = read_interactions(pd.DataFrame({"user": ["a\tb", "c"], "item": [1, 2], "rating": [0, 1]}))
    path = put(tmp_path, "old", "x.inter")
    with pytest.raises(ValueError, match="holds a tab or line end"):
        write_interactions(log, path)
    assert path.read_text() == "old"
    turned = read_interactions(pd.DataFrame({"user": ["a\rb", "c"], "item": [1, 2]}))
    with pytest.raises(ValueError, match=r"user_id 'a\\rb' holds a carriage return, which \.csv cannot; write \.parquet"):
        write_interactions(turned, tmp_path / "x.csv")
    with pytest.raises(ValueError, match="not every user_id is a whole number"):
        write_interactions(log, tmp_path / "x.npz")
    with pytest.raises(ValueError, match=r"no format ends in '\.xlsx'"):
        write_interactions(log, tmp_path / "x.xlsx")
    whole = {"user": [1, 2], "item": [1, 2]}
    with pytest.raises(ValueError, match="cannot hold a rating of 0"):
        write_interactions(read_interactions(pd.DataFrame({**whole, "rating": [0, 1]})), tmp_path / "x.npz")
    with pytest.raises(ValueError, match="cannot hold times"):
        write_interactions(read_interactions(pd.DataFrame({**whole, "time": [0, 1]})), tmp_path / "x.npz")


# --- speed ------------------------------------------------------------------------------------------------------------------


def test_a_million_adjacency_pairs_are_read_in_seconds(tmp_path):
    rng = np.random.default_rng(0)
    text = io.StringIO()
    for user in range(20_000):
        text.write(f"{user} " + " ".join(map(str, rng.integers(0, 40_000, 45 + user % 10))) + "\n")
    path = put(tmp_path, text.getvalue(), "train.txt")
    began = time.perf_counter()
    log = read_interactions(path)
    assert len(log) == 990_000
    assert time.perf_counter() - began < 4  # 0.4 s on an idle core


def test_ids_of_bytes_are_text():
    """As Spark and Hive write text into Parquet."""
    log = read_interactions(pd.DataFrame({"user": [b"cust-1", b"cust-2", b"cust-1"], "item": [b"a", b"b", b"b"]}))
    assert log.user_ids.ids.tolist() == ["cust-1", "cust-2"]
    assert log.item_ids.ids.tolist() == ["a", "b"]
    with pytest.raises(ValueError, match="is bytes, but no UTF-8 text"):
        read_interactions(pd.DataFrame({"user": [b"\xff", b"b"], "item": [1, 2]}))


def test_a_number_among_dates_is_told():
    frame = pd.DataFrame({"user": [1, 2], "item": [1, 2], "time": ["2020-01-01", "1600000000"]})
    with pytest.raises(ValueError, match="the time 1600000000 is a number, but others of the column are dates"):
        read_interactions(frame)


def test_ratings_go_before_the_core():
    """Of the core of all rows, u1 and i1 would be left with one partner each."""
    rows = [("u1", "i1", 5), ("u1", "i2", 1), ("u2", "i1", 1), ("u2", "i2", 5), ("u2", "i3", 5), ("u3", "i2", 5), ("u3", "i3", 5)]
    log = read_interactions(pd.DataFrame(rows, columns=["user", "item", "rating"]), min_rating=4, k_core=2)
    assert log.user_ids.ids.tolist() == ["u2", "u3"]
    assert log.item_ids.ids.tolist() == ["i2", "i3"]


def test_a_log_is_named_after_its_file_without_endings(tmp_path):
    (tmp_path / "taste.csv.gz").write_bytes(gzip.compress(b"user,item\n1,2\n3,4\n"))
    assert read_interactions(tmp_path / "taste.csv.gz").name == "taste"


def test_one_known_name_tells_a_header(tmp_path):
    (tmp_path / "log.csv").write_text("user,thing\nann,tea\nbob,jam\n")
    with pytest.raises(ValueError, match="no column is known to hold the item"):
        read_interactions(tmp_path / "log.csv")
