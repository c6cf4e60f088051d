"""Leaving out low ratings and rare users or items."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from numbers import Integral
from typing import Any

import numpy as np

from graphcl.interactions import Interactions, Vocabulary, renumber


def shrink(interactions: Interactions) -> Interactions:
    """The same rows over vocabularies without the ids that have none. The order of ids stays."""

    def kept(rows: np.ndarray, vocabulary: Vocabulary) -> tuple[np.ndarray, Vocabulary]:
        seen = np.bincount(rows, minlength=len(vocabulary)) > 0
        new = np.cumsum(seen, dtype=np.int32) - np.int32(1)
        return renumber(new, rows), Vocabulary(vocabulary.ids[seen])

    users, user_ids = kept(interactions.users, interactions.user_ids)
    items, item_ids = kept(interactions.items, interactions.item_ids)
    return replace(interactions, users=users, items=items, user_ids=user_ids, item_ids=item_ids)


def filter_rating(interactions: Interactions, min_rating: float) -> Interactions:
    """Rows rated `min_rating` or higher, over the users and items that are left.

    Raises: ValueError where there is no rating, or no row is left.
    """
    if interactions.rating is None:
        raise ValueError(f"{interactions.name}: min_rating={min_rating} needs a rating column, and there is none")
    keep = interactions.rating >= min_rating
    if not keep.any():
        raise ValueError(
            f"{interactions.name}: no rating is {min_rating} or higher; they run from "
            f"{interactions.rating.min():g} to {interactions.rating.max():g}"
        )
    return shrink(interactions.take(keep))


def k_core(interactions: Interactions, k: int | tuple[int, int]) -> Interactions:
    """The largest part of the log in which each user has at least k items and each item at least k users.

    `k`: one number, or (items per user, users per item). Partners are counted once however often a pair repeats.
    Raises: ValueError for a k below 1, or where nothing is left.
    """
    each = (k, k) if isinstance(k, Integral) else k
    if not isinstance(each, Sequence) or len(each) != 2 or not all(isinstance(n, Integral) and n >= 1 for n in each):
        raise ValueError(f"k_core must be a whole number of at least 1, or two (items per user, users per item), got {k!r}")
    per_user, per_item = each
    pairs = interactions.matrix.tocoo()
    users, items = pairs.row, pairs.col
    while True:
        user_stays = np.bincount(users, minlength=interactions.num_users) >= per_user
        item_stays = np.bincount(items, minlength=interactions.num_items) >= per_item
        stays = user_stays[users] & item_stays[items]
        if stays.all():
            break
        users, items = users[stays], items[stays]
    if not len(users):
        raise ValueError(f"{interactions.name}: the {k}-core is empty; choose a smaller k_core")
    return shrink(interactions.take(user_stays[interactions.users] & item_stays[interactions.items]))


def filtered(log: Interactions, options: Mapping[str, Any]) -> Interactions:
    """The log under the options `min_rating` and `k_core`, in this order; missing or None leaves out nothing."""
    if options.get("min_rating") is not None:
        log = filter_rating(log, options["min_rating"])
    return log if options.get("k_core") is None else k_core(log, options["k_core"])
