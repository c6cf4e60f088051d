"""Evaluation protocols: what each trains on, chooses the epoch on, and masks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from graphcl.data.nearest import nearest
from graphcl.data.split import Split
from graphcl.interactions import Interactions, concat


@dataclass(frozen=True)
class Protocol:
    """A way to evaluate. Parts are called as in `Split.parts`; train never holds the validation pairs."""

    name: str
    about: str  # one line, for tables
    trains_on: tuple[str, ...]
    selects_on: str | None  # the part that chooses the epoch; what is trained on is masked while it does
    masks: tuple[str, ...]  # left out of a user's ranking at test
    used_by: str
    refits_on: tuple[str, ...] = ()  # a second run trains on these, for as many epochs as the first chose
    rule: str | None = None  # by which the whole log is split anew, in the default ratios
    select: str | None = None  # the metric that chooses, where no setting says otherwise

    @property
    def needs(self) -> tuple[str, ...]:
        """Parts without which it cannot be followed; others that a split lacks are passed over."""
        return ("train",) if self.selects_on is None else ("train", self.selects_on)


PROTOCOLS: dict[str, Protocol] = {
    each.name: each
    for each in (
        Protocol(
            "valid", "select on validation; train and validation masked at test",
            trains_on=("train",), selects_on="valid", masks=("train", "valid"), used_by="the default here",
        ),
        Protocol(
            "refit", "select on validation, then train on it too, for as many epochs; train and validation masked at test",
            trains_on=("train",), selects_on="valid", masks=("train", "valid"), used_by="whoever deploys a selected model",
            refits_on=("train", "valid"),
        ),
        Protocol(
            "lightgcnpp", "select on validation; train masked at test",
            trains_on=("train",), selects_on="valid", masks=("train",), used_by="LightGCN++",
        ),
        # RecBole's metrics are ours at cut-off 10. How often it evaluates and how long it waits are settings of a recipe.
        Protocol(
            "recbole", "split 8:1:1 at random within each user; select on validation by mrr@10; train and validation masked at test",
            trains_on=("train",), selects_on="valid", masks=("train", "valid"), used_by="RecBole, RecBole-GNN",
            rule="random", select="mrr@10",
        ),
        Protocol(
            "sslrec", "select on validation; train masked at test",
            trains_on=("train",), selects_on="valid", masks=("train",), used_by="SSLRec",
        ),
        Protocol(
            "as-published", "select on TEST, as papers do; train and validation masked at test",
            trains_on=("train", "valid"), selects_on="test", masks=("train", "valid"),
            used_by="LightGCN, SGL, SELFRec, LightGCL and most papers; only to compare with them",
        ),
        Protocol(
            "all", "train on every row; nothing is selected or tested",
            trains_on=("train", "valid", "test"), selects_on=None, masks=(), used_by="deployment, with the epochs given",
        ),
    )
}  # fmt: skip


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


def find(name: str) -> Protocol:
    """Raises ValueError for an unknown protocol."""
    if name not in PROTOCOLS:
        raise ValueError(f"unknown protocol {name!r}{nearest(name, PROTOCOLS)}; known: {', '.join(PROTOCOLS)}")
    return PROTOCOLS[name]


def plan(split: Split, protocol: str = "valid") -> Plan:
    """Parts and masks of a protocol (of ``refit`` the first run's). The rule of a protocol that splits anew is the caller's.

    Raises: ValueError for an unknown protocol, and where the split lacks the part that the protocol chooses on.
    """
    wanted = find(protocol)
    check_parts(split, wanted)
    train = joined(split, wanted.trains_on)
    select = None if wanted.selects_on is None else split.parts[wanted.selects_on]
    masked = (train,) if select is not None else ()
    test, masks = tested(split, wanted, train, wanted.trains_on)
    return Plan(protocol, train, select, masked, test, masks, wanted.selects_on)


def refit_plan(split: Split, protocol: str = "refit") -> Plan:
    """The second run of a protocol that refits: train and validation together, for as many epochs as the first run chose."""
    wanted = find(protocol)
    check_parts(split, wanted)
    full = joined(split, wanted.refits_on)
    test, masks = tested(split, wanted, full, wanted.refits_on)
    return Plan(protocol, full, None, (), test, masks, wanted.selects_on)


def joined(split: Split, names: Sequence[str]) -> Interactions:
    return concat([split.parts[name] for name in names if name in split.parts])


def tested(
    split: Split, wanted: Protocol, train: Interactions, trained_on: tuple[str, ...]
) -> tuple[Interactions | None, tuple[Interactions, ...]]:
    """The test part and its masks; nothing is tested where it was trained on."""
    if "test" in trained_on:
        return None, ()
    if wanted.masks == trained_on:
        return split.test, (train,)
    return split.test, tuple(split.parts[name] for name in wanted.masks if name in split.parts)


def check_parts(split: Split, wanted: Protocol) -> None:
    if "valid" in wanted.needs:
        required_valid(split, wanted.name)
    if "test" in wanted.needs and split.test is None:
        raise ValueError(f"{split.name}: protocol {wanted.name!r} chooses the epoch on test, and there is no test part")


def required_valid(split: Split, protocol: str) -> Interactions:
    if split.valid is None:
        raise ValueError(
            f"{split.name}: protocol {protocol!r} chooses the epoch on validation, and there is no such part; hold one out "
            "(ratios such as (.8, .1, .1), or carve=.1), or take protocol 'all'"
        )
    return split.valid
