import numpy as np
import pytest

from graphcl.data.encode import CHUNK, IdRows, NumberRows, TextRows, bytes_of


def slow_rows(values):
    seen = {}
    return [seen.setdefault(value, len(seen)) for value in values], list(seen)


def where(row):
    return f"row {row}"


def encoded(blocks, *, whole=True, strip=True):
    """Rows and ids of texts that come in blocks."""
    ids = IdRows(whole=whole)
    rows = np.concatenate([ids.of_texts(*bytes_of(block)) for block in blocks])
    return rows, ids.finish(rows, "user", where, strip=strip)


@pytest.mark.parametrize("limit", [5, 3000, 2**62])
def test_rows_of_numbers_over_several_growths(limit):
    rng = np.random.default_rng(0)
    values = rng.integers(-limit, limit, 20_000)
    known = NumberRows()
    rows = np.concatenate([known.rows(part) for part in np.array_split(values, 7)])
    wanted, distinct = slow_rows(values.tolist())
    assert rows.tolist() == wanted
    assert known.ids.tolist() == distinct


@pytest.mark.parametrize("limit", [5, 3000, 2**62])
def test_rows_of_texts_over_several_growths(limit):
    rng = np.random.default_rng(0)
    values = [f"ä{value}" for value in rng.integers(0, limit, 20_000)]
    values[3] = ""
    known = TextRows()
    parts = [values[:1], values[1:9000], [], values[9000:]]
    rows = np.concatenate([known.rows(*bytes_of(part)) for part in parts])
    wanted, distinct = slow_rows(values)
    assert rows.tolist() == wanted
    assert known.ids == distinct


def test_more_than_a_chunk_at_once():
    values = np.arange(2 * CHUNK + 5) % (CHUNK + 3)
    assert NumberRows().rows(values).tolist() == values.tolist()
    assert TextRows().rows(*bytes_of(values)).tolist() == values.tolist()


@pytest.mark.parametrize("last", ["007", "-0", "1.0", "x", "+1", "9223372036854775808", "٣"])
def test_a_text_that_comes_late_makes_all_ids_text(last):
    rows, ids = encoded([["7", "-12", " 7"], ["0", "9223372036854775807", "7 "], ["-12", last, "7", last]])
    assert rows.tolist() == [0, 1, 0, 2, 3, 0, 1, 4, 0, 4]
    assert ids.tolist() == ["7", "-12", "0", "9223372036854775807", last]


def test_ids_that_print_back_become_numbers_at_both_ends_of_int64():
    low, high = -(2**63), 2**63 - 1
    rows, ids = encoded([[str(high), "1"], [str(low), "1"], ["\u00a05"]])  # the last two are only told from the whole
    assert rows.tolist() == [0, 1, 2, 1, 3]
    assert ids.dtype == np.int64
    assert ids.tolist() == [high, 1, low, 5]


def test_blanks_around_an_id_do_not_make_it_another():
    rows, ids = encoded([["a", " b"], ["\u3000a ", "c", "b"]])
    assert rows.tolist() == [0, 1, 0, 2, 1]
    assert ids.tolist() == ["a", "b", "c"]
    rows, ids = encoded([["a", " a"]], strip=False)
    assert ids.tolist() == ["a", " a"]


def test_text_that_is_said_to_be_text_stays_text():
    assert encoded([["7", "8"]], whole=False, strip=False)[1].tolist() == ["7", "8"]


def test_numbers_after_text_and_text_after_numbers():
    ids = IdRows()
    rows = [ids.of_numbers(np.array([5, 6])), ids.of_texts(*bytes_of(["6", "x"])), ids.of_numbers(np.array([7, 5]))]
    assert np.concatenate(rows).tolist() == [0, 1, 1, 2, 3, 0]
    assert len(ids) == 4


@pytest.mark.parametrize("blank", ["", " ", "\u00a0"])
@pytest.mark.parametrize("strip", [True, False])
def test_the_first_empty_id_is_named(blank, strip):
    with pytest.raises(ValueError, match=r"^row 3: the user id is empty$"):
        encoded([["1", "2"], ["1", blank, "2", blank]], strip=strip)
