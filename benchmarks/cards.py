"""Tolerance cards: a published number, ours, and whether ours is near enough. The verdict follows from the results alone."""

from __future__ import annotations

from dataclasses import dataclass

from benchmarks.report import table
from benchmarks.rows import Row

REACH = 0.985  # of the published number, where a configuration states nothing else


@dataclass(frozen=True)
class Card:
    """One reproduction, or one aim without a published number of its own."""

    row: Row

    @property
    def published(self) -> dict[str, float]:
        return {key: self.row.published[key] for key in self.row.shows.metrics if key in self.row.published}

    @property
    def reach(self) -> dict[str, float]:
        """What the mean over seeds must come to, for each metric.

        Raises:
            ValueError: a share that is not one, a value that is none of a metric, or nothing to take a share of.
        """
        wanted = self.row.config.get("reach", REACH)
        name = f"{self.row.name}: reach {wanted!r}"
        if not isinstance(wanted, dict):
            if not 0.5 <= wanted <= 1.5:
                raise ValueError(f"{name} is to be a share of the published numbers, such as .985, or values by metric")
            if not self.published:
                raise ValueError(f"{name} is a share, and no number is published; give values by metric")
            return {key: wanted * value for key, value in self.published.items()}
        values = {key: value for key, value in wanted.items() if key != "source"}
        if not values or not set(values) <= set(self.row.shows.metrics) or not all(0 < value < 1 for value in values.values()):
            raise ValueError(
                f"{name} is to hold fractions for {' or '.join(self.row.shows.metrics)}, and at most a source beside them"
            )
        return values

    @property
    def ratios(self) -> dict[str, float]:
        """Ours over the published."""
        return {key: self.row.mean(key) / value for key, value in self.published.items()} if self.row.seeds else {}

    @property
    def verdict(self) -> str:
        """Whether every metric reaches what it should: "pass" or "short"; "" before the first result."""
        if not self.row.seeds:
            return ""
        return "pass" if all(self.row.mean(key) >= value for key, value in self.reach.items()) else "short"

    @property
    def why(self) -> str:
        return self.row.config.get("why") or ""

    @property
    def source(self) -> str:
        wanted = self.row.config.get("reach")
        told = [self.row.published.get("source"), wanted.get("source") if isinstance(wanted, dict) else None]
        return "; to reach: ".join(source for source in told if source)


def cards(found: list[Row]) -> list[Card]:
    return [Card(row) for row in found if row.published or "reach" in row.config]


def unexplained(made: list[Card]) -> list[str]:
    """Names of those that are short and do not say why."""
    return [card.row.name for card in made if card.verdict == "short" and not card.why.strip()]


def page(made: list[Card]) -> str:
    """The table of cards, and below it why some are short."""
    heads = [
        "data",
        "protocol",
        "recipe",
        "metrics",
        "published",
        "to reach",
        "ours",
        "ours / published",
        "seeds",
        "verdict",
        "source",
    ]
    lines = []
    for card in made:
        row, keys = card.row, list(card.reach)
        lines.append(
            [
                row.config["data"], row.config["protocol"], f"`{row.label}`", " / ".join(row.shows.metrics[key] for key in keys),
                " / ".join(f"{value:.4f}" for value in card.published.values()) or "none",
                " / ".join(f"{value:.4f}" for value in card.reach.values()),
                " / ".join(row.figure(key) for key in keys) if row.seeds else "not measured yet",
                " / ".join(f"{ratio:.1%}" for ratio in card.ratios.values()),
                row.told_seeds, {"pass": "pass", "short": "**short**", "": ""}[card.verdict], card.source,
            ]
        )  # fmt: skip
    short = [card for card in made if card.verdict == "short"]
    count = sum(card.verdict == "pass" for card in made)
    said = f"{count} of {count + len(short)} measured reach what they should. Mean and spread over seeds."
    reasons = "\n".join(f"- {card.row.name}: {card.why}" for card in short)
    return "\n\n".join(part for part in (said, table(heads, lines), f"Why some are short:\n\n{reasons}" if short else "") if part)
