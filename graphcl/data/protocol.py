"""Evaluation protocols: what each trains on, chooses the epoch on, and masks."""

from __future__ import annotations

from dataclasses import dataclass

from graphcl.data.nearest import nearest
from graphcl.data.split import Split
from graphcl.interactions import Interactions, concat

PROTOCOLS = ("valid", "refit", "lightgcnpp", "recbole", "sslrec", "as-published", "all")


@dataclass(frozen=True, eq=False)
class Plan:
    """What a protocol makes of a split. Items of a user in a mask are left out of that user's ranking."""

    protocol: str
    train: Interactions
    select: Interactions | None  # the part that chooses the epoch
    select_mask: tuple[Interactions, ...]
    test: Interactions | None
    test_mask: tuple[Interactions, ...]
    selected_on: str | None  # "valid", "test" (labelled so in every output) or None


def plan(split: Split, protocol: str = "valid") -> Plan:
    """Parts and masks of a protocol.

    ============ ================== =============== ===============
    protocol     trains on          epoch chosen on masked at test
    ============ ================== =============== ===============
    valid        train              valid           train, valid
    refit        first as `valid`, then `refit_plan`
    lightgcnpp   train              valid           train
    recbole      train              valid           train, valid
    sslrec       train              valid           train
    as-published train and valid    test            train and valid
    all          every row          nothing         nothing
    ============ ================== =============== ===============

    Train is the split's train, which never holds validation pairs. Choosing on validation masks train alone. RecBole's
    metric settings, and its 8:1:1 split of an unsplit log, are the caller's.

    Raises: ValueError for an unknown protocol, and where the split lacks the part that the protocol chooses on.
    """
    if protocol not in PROTOCOLS:
        raise ValueError(f"unknown protocol {protocol!r}{nearest(protocol, PROTOCOLS)}; known: {', '.join(PROTOCOLS)}")
    train, valid, test = split.train, split.valid, split.test
    if protocol == "all":
        return Plan(protocol, concat(list(split.parts.values())), None, (), None, (), None)
    if protocol == "as-published":
        if test is None:
            raise ValueError(f"{split.name}: protocol 'as-published' chooses the epoch on test, and there is no test part")
        full = train if valid is None else concat([train, valid])
        return Plan(protocol, full, test, (full,), test, (full,), "test")
    valid = required_valid(split, protocol)
    test_mask = (train,) if protocol in ("lightgcnpp", "sslrec") else (train, valid)
    return Plan(protocol, train, valid, (train,), test, test_mask, "valid")


def refit_plan(split: Split) -> Plan:
    """The second run of `refit`: train and validation together, for as many epochs as the first run chose."""
    full = concat([split.train, required_valid(split, "refit")])
    return Plan("refit", full, None, (), split.test, (full,), "valid")


def required_valid(split: Split, protocol: str) -> Interactions:
    if split.valid is None:
        raise ValueError(
            f"{split.name}: protocol {protocol!r} chooses the epoch on validation, and there is no such part; hold one out "
            "(ratios such as (.8, .1, .1), or carve=.1), or take protocol 'all'"
        )
    return split.valid
