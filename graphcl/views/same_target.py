"""DuoRec's views: the same history once more, and another that led to the same item."""

from __future__ import annotations

import torch
from torch import Tensor

from graphcl.ops import draw_key, uniform
from graphcl.sequence import SequenceBatch, Sequences, padded
from graphcl.views.two_sequences import Encode, Histories, Views, stacked


class SameTarget:
    """Each row encoded anew (other dropout), beside what another user had before the row's last target; beside itself if nobody else had it.

    Which places of the training part hold which item is sorted once, in O(E log E).

    Source: Qiu et al., "Contrastive Learning for Representation Degeneration Problem in Sequential Recommendation", WSDM 2022;
    RuihongQiu/DuoRec@4ebc30d (``us_x``). Departs: a user's own other visits to the item are left out too, since a batch knows users and
    not places; the index is never cached in a file.
    """

    def __init__(self, train: Sequences, max_length: int):
        self.max_length = max_length
        owners = train.users
        places = torch.arange(len(train.items), device=owners.device)
        places = places[places > train.pointers[owners]]  # something stands before them
        keys = train.items[places] * train.num_users + owners[places]
        self._keys, order = keys.sort(stable=True)  # by item, then user
        self._places, self._num_users = places[order], train.num_users

    def __call__(self, encode: Encode, inputs: Sequences, batch: SequenceBatch, rng: torch.Generator) -> Views:
        own = batch.items, batch.lengths
        first, second = encode(*stacked([own, self.others(inputs, batch, rng)], inputs.num_items)).chunk(2)
        return first, second

    def others(self, inputs: Sequences, batch: SequenceBatch, rng: torch.Generator) -> Histories:
        """For each row another history before its last target, [B, T'], [B]."""
        width, rows = batch.items.shape[1], torch.arange(len(batch.items), device=batch.items.device)
        ends = rows * width + batch.lengths - 1
        asked = torch.searchsorted(batch.places, ends).clamp_max(len(batch.places) - 1)
        known = batch.places[asked] == ends  # the row has a target after its last item
        item, count = batch.targets[asked], self._num_users
        keys, places = self._keys, self._places = self._keys.to(rows.device), self._places.to(rows.device)
        wanted = torch.stack([item * count, item * count + batch.users, item * count + batch.users + 1, (item + 1) * count])
        low, mine, after, high = torch.searchsorted(keys, wanted)
        others = (high - low) - (after - mine)
        drawn = low + (uniform(draw_key(rng), rows)[:, 0].double() * others).long()
        drawn = drawn + torch.where(drawn >= mine, after - mine, 0)  # past the user's own
        found = known & (others > 0)
        items, lengths = before(inputs, places[torch.where(found, drawn, 0)], self.max_length)
        items, own = stacked([(items, lengths), (batch.items, batch.lengths)], inputs.num_items)[0].chunk(2)
        return torch.where(found[:, None], items, own), torch.where(found, lengths, batch.lengths)


def before(data: Sequences, places: Tensor, max_length: int) -> Histories:
    """What the users had before these places of ``data.items``, at most the last ``max_length`` items: [n, T], [n]."""
    users = torch.searchsorted(data.pointers, places, right=True) - 1
    return ending(data, users, places, max_length)


def ending(data: Sequences, users: Tensor, stops: Tensor, max_length: int) -> Histories:
    """The last items of these users before these places."""
    lengths = (stops - data.pointers[users]).clamp_max(max_length)
    return padded(data.items, stops, lengths, data.num_items), lengths
