"""Changes of item histories: rows padded on the right in, new rows out, all rows at once and nothing written in place.

Every operator is ``operator(items, lengths, ..., rng=rng) -> (items, lengths)``. A share of a history of n items is floor(share * n)
items, in float64. ``no_item`` is the number that pads and masks; ``similar`` [I, k] has the items to put for, or before, each item.

Source: Xie et al., "Contrastive Learning for Sequential Recommendation", ICDE 2022 (crop, mask, reorder); Liu et al., "Contrastive
Self-supervised Sequential Recommendation with Robust Augmentation", 2021 (substitute, insert).
"""

from __future__ import annotations

import torch
from torch import Tensor

from graphcl.ops import draw_key, uniform

Changed = tuple[Tensor, Tensor]  # items [B, T], lengths [B]


def crop(items: Tensor, lengths: Tensor, *, keep: float, no_item: int, rng: torch.Generator) -> Changed:
    """One contiguous run of floor(keep * n) items, at least one; its start is uniform."""
    kept = _part(lengths, keep).clamp_min(1)
    start = _below(lengths - kept + 1, rng)
    places = torch.arange(items.shape[1], device=items.device)
    source = (places + start[:, None]).clamp_max(items.shape[1] - 1)
    return items.gather(1, source).masked_fill(places >= kept[:, None], no_item), kept


def mask(items: Tensor, lengths: Tensor, *, share: float, no_item: int, rng: torch.Generator) -> Changed:
    """floor(share * n) places, all different and the last as likely as any, hold ``no_item``."""
    return items.masked_fill(_chosen(items, lengths, _part(lengths, share), rng), no_item), lengths.clone()


def reorder(items: Tensor, lengths: Tensor, *, share: float, rng: torch.Generator) -> Changed:
    """One contiguous run of floor(share * n) items, its start uniform, is shuffled."""
    count = _part(lengths, share)
    start = _below(lengths - count + 1, rng)[:, None]
    places = torch.arange(items.shape[1], device=items.device).expand_as(items)
    inside = (places >= start) & (places < start + count[:, None])
    moved = start + count[:, None] * _draws(items, rng).double()
    order = torch.where(inside, moved, places.double()).argsort(dim=1, stable=True)
    return items.gather(1, order), lengths.clone()


def substitute(items: Tensor, lengths: Tensor, *, share: float, similar: Tensor, rng: torch.Generator) -> Changed:
    """max(1, floor(share * n)) items become one of their similar ones each, uniformly."""
    chosen = _chosen(items, lengths, _part(lengths, share).clamp_min(1), rng)
    return torch.where(chosen, _similar(items, similar, rng), items), lengths.clone()


def substitute_each(items: Tensor, lengths: Tensor, *, probability: float, similar: Tensor, rng: torch.Generator) -> Changed:
    """Each item by itself becomes one of its similar ones, uniformly, with this probability."""
    chosen = _draws(items, rng) < probability
    return torch.where(chosen, _similar(items, similar, rng), items), lengths.clone()


def insert(
    items: Tensor,
    lengths: Tensor,
    *,
    share: float,
    similar: Tensor,
    no_item: int,
    max_length: int,
    rng: torch.Generator,
) -> Changed:
    """A similar item is put before max(1, floor(share * n)) of the items; of a row that grows beyond ``max_length`` the last ones stay."""
    chosen = _chosen(items, lengths, _part(lengths, share).clamp_min(1), rng)
    grown = lengths + chosen.sum(1)
    kept = grown.clamp_max(max_length)
    width = int(kept.max()) if len(kept) else 0
    place = torch.arange(items.shape[1], device=items.device) + chosen.cumsum(1) - (grown - kept)[:, None]
    real = torch.arange(items.shape[1], device=items.device) < lengths[:, None]
    out = items.new_full((len(items), width + 1), no_item)  # the last column takes what is not kept
    out.scatter_(1, torch.where(real & (place >= 0), place, width), items)
    before = place - 1
    out.scatter_(1, torch.where(chosen & (before >= 0), before, width), _similar(items, similar, rng))
    return out[:, :width].contiguous(), kept


def _part(lengths: Tensor, share: float) -> Tensor:  # [B]
    return (lengths.double() * share).floor().long()


def _draws(items: Tensor, rng: torch.Generator) -> Tensor:  # U[0, 1) [B, T]
    return uniform(draw_key(rng), torch.arange(len(items), device=items.device), items.shape[1])


def _below(bounds: Tensor, rng: torch.Generator) -> Tensor:  # [B] -> [B], uniform in 0..bound - 1
    return (uniform(draw_key(rng), torch.arange(len(bounds), device=bounds.device))[:, 0].double() * bounds).long()


def _chosen(items: Tensor, lengths: Tensor, count: Tensor, rng: torch.Generator) -> Tensor:  # bool [B, T]
    """``count`` different real places of each row."""
    padding = torch.arange(items.shape[1], device=items.device) >= lengths[:, None]
    order = _draws(items, rng).masked_fill(padding, 2.0).argsort(1)
    ranks = torch.empty_like(order).scatter_(1, order, torch.arange(items.shape[1], device=items.device).expand_as(order))
    return ranks < count[:, None]


def _similar(items: Tensor, similar: Tensor, rng: torch.Generator) -> Tensor:  # [B, T]
    """One of each item's similar ones; what is no item stays."""
    known = items < len(similar)
    which = (_draws(items, rng).double() * similar.shape[1]).long()
    return torch.where(known, similar[torch.where(known, items, 0), which], items)
