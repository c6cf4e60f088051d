"""Which column is which."""

import pytest

from graphcl.data.columns import MissingColumn, choose


def test_a_column_that_is_not_there_is_told_apart_from_other_faults():
    with pytest.raises(MissingColumn, match=r"log\.csv: no column 'at' for the time; the columns are: user, item"):
        choose(["user", "item"], {"time": "at"}, "log.csv")
    with pytest.raises(MissingColumn, match="no column is known to hold the item"):
        choose(["user", "thing"], {}, "log.csv")
    with pytest.raises(ValueError, match="could each be the item") as found:
        choose(["user", "item", "product"], {}, "log.csv")
    assert type(found.value) is ValueError


@pytest.mark.parametrize("name", ["seen_at", "playedAt", "at", "WHEN", "order_date", "visit time", "last_played", "day"])
def test_what_looks_like_a_time_is_not_passed_over_in_silence(name):
    """Splits were random, and histories in order of the file."""
    with pytest.warns(UserWarning, match=f"log.csv: rows are taken to have no time; if {name} is one, say time_col="):
        assert choose(["user", "item", name], {}, "log.csv") == {"user": "user", "item": "item"}


@pytest.mark.parametrize("names", [["format", "category"], ["weekday"], ["time", "seen_at"], ["price"]])
@pytest.mark.filterwarnings("error")
def test_other_columns_are(names):
    choose(["user", "item", *names], {}, "log.csv")


@pytest.mark.filterwarnings("error")
def test_no_time_and_no_rating_may_be_asked_for():
    names = ["user", "item", "time", "rating", "at"]
    assert choose(names, {"time": "", "rating": ""}, "log.csv") == {"user": "user", "item": "item"}
    with pytest.raises(MissingColumn, match="no column '' for the user"):
        choose(names, {"user": ""}, "log.csv")
