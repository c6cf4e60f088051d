import numpy as np
import pytest

from graphcl.interactions import Interactions, Vocabulary, concat, frequencies, renumber

WHOLE = Vocabulary(np.array([7, 3, 10**15]))
TEXT = Vocabulary(np.array(["7", "007", "ä b"], dtype=object))


def log(users, items, **columns):
    count = {"users": max(users) + 1, "items": max(items) + 1}
    return Interactions(
        users=np.array(users, dtype=np.int32),
        items=np.array(items, dtype=np.int32),
        user_ids=Vocabulary(np.arange(count["users"])),
        item_ids=Vocabulary(np.arange(count["items"])),
        **columns,
    )


@pytest.mark.parametrize(
    ("asked", "rows"),
    [
        ([3, 7, 4], [1, 0, -1]),
        (np.array([10**15, 3], dtype=np.int64), [2, 1]),
        (np.array([3, 7], dtype=np.uint8), [1, 0]),
        (np.array([7.0, 3.5, np.nan, np.inf]), [0, -1, -1, -1]),
        (["7", "007", " 3", "x", None], [0, -1, -1, -1, -1]),
        ([True, 2**70, "99999999999999999999"], [-1, -1, -1]),
        ([], []),
        (np.array([2**64 - 1], dtype=np.uint64), [-1]),
    ],
)
def test_rows_among_whole_ids(asked, rows):
    found = WHOLE.rows(asked)
    assert found.dtype == np.int64
    assert found.tolist() == rows


@pytest.mark.parametrize(
    ("asked", "rows"), [(["007", "7", "ä b", "8"], [1, 0, 2, -1]), ([7, 70], [0, -1]), (np.array([7]), [0]), ([], [])]
)
def test_rows_among_text_ids(asked, rows):
    assert TEXT.rows(asked).tolist() == rows


def test_large_ids_do_not_pass_through_floats():
    near = Vocabulary(np.array([2**53, 2**53 + 1]))
    assert near.rows([2**53 + 1, 2**53]).tolist() == [1, 0]


def test_an_id_that_stands_twice_is_refused():
    with pytest.raises(ValueError, match="'5' stands twice"):
        Vocabulary(np.array([5, 5])).rows([5])


def test_matrix_merges_repeats():
    some = log([0, 2, 0, 0], [1, 0, 1, 2])
    assert some.matrix.toarray().tolist() == [[0, 1, 1], [0, 0, 0], [1, 0, 0]]
    assert some.num_repeats == 1


def test_take_keeps_columns_and_vocabularies():
    some = log([0, 1, 1], [0, 0, 1], time=np.array([1.0, 2.0, 3.0]), rating=np.array([5, 4, 3], dtype=np.float32))
    part = some.take(np.array([False, True, True]))
    assert part.time.tolist() == [2.0, 3.0]
    assert part.rating.tolist() == [4, 3]
    assert part.user_ids is some.user_ids
    assert some.take(np.array([2])).items.tolist() == [1]


def test_columns_of_different_length_are_refused():
    with pytest.raises(ValueError, match="2 users but 3 time"):
        log([0, 1], [0, 1], time=np.zeros(3))


def test_concat():
    some = log([0, 1, 1], [0, 0, 1], time=np.array([1.0, 2.0, 3.0]))
    joined = concat([some.take(np.array([2])), some.take(np.array([0]))])
    assert joined.users.tolist() == [1, 0]
    assert joined.time.tolist() == [3.0, 1.0]
    with pytest.raises(ValueError, match="share their vocabularies"):
        concat([some, log([0, 1], [0, 1])])
    with pytest.raises(ValueError, match="no parts"):
        concat([])


def test_pieces_are_as_the_whole():
    rng = np.random.default_rng(0)
    rows = rng.integers(0, 50, 300_000).astype(np.int32)
    new = rng.permutation(50).astype(np.int32)
    assert np.array_equal(renumber(new, rows), new[rows])
    assert frequencies(rows, 60).tolist() == [(rows == id).sum() for id in range(60)]
    assert renumber(new, rows, out=rows) is rows


def test_a_pattern_merges_more_repeats_than_a_byte_can_count():
    some = log([0] * 256 + [1], [1] * 256 + [0])
    assert some.matrix.toarray()[:2, :2].tolist() == [[0, 1], [1, 0]]
    assert some.matrix.dtype == np.float32


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"items": np.array([0, 2], dtype=np.int32)}, r"items must be rows 0\.\.1, got 0\.\.2"),
        ({"users": np.array([-1, 0], dtype=np.int32)}, r"users must be rows 0\.\.1, got -1\.\.0"),
        ({"time": np.array([1.0, np.nan])}, "a time is not finite"),
        ({"time": np.array([-np.inf, np.inf])}, "a time is not finite"),
    ],
)
def test_rows_and_times_that_mean_nothing_are_refused(changed, told):
    ids, rows = Vocabulary(np.arange(2)), np.array([0, 1], dtype=np.int32)
    with pytest.raises(ValueError, match=told):
        Interactions(**{"users": rows, "items": rows, "user_ids": ids, "item_ids": ids, "time": np.array([3.0, 4.0]), **changed})
