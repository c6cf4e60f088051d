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
