"""SASRec: a causal transformer over a user's items, oldest first."""

from __future__ import annotations

from contextlib import nullcontext

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from graphcl.ops import causal_attention, dropout, gather_rows
from graphcl.ops.segment import pointers_of
from graphcl.streams import borrowed


class SASRec(nn.Module):
    """The state after each item, [B, T, d], or at given places only.

    The table has a row for each of the items 0..I - 1 and the row I, which stands for a masked item. Rows are padded on the right:
    causal attention never looks there, so no key mask is needed. Padding is never computed, but within attention on a GPU.

    Raises:
        ValueError: a width that heads can't share, a size below 1, a dropout outside [0, 1).

    Source: Kang and McAuley, "Self-Attentive Sequential Recommendation", ICDM 2018, in the post-norm form of RUCAIBox/RecBole@7b02be5
    (model/sequential_recommender/sasrec.py): learned positions, exact GELU, LayerNorm with eps 1e-12, weights from N(0, 0.02).
    Departs: a masked item is attended to like any other (MCLRec masks with the padding id, which removes the item).
    """

    def __init__(
        self,
        num_items: int,
        dim: int = 64,
        *,
        max_length: int = 50,
        num_layers: int = 2,
        num_heads: int = 2,
        inner: int = 256,
        dropout: float = 0.5,
        attention_dropout: float = 0.5,
        rng: torch.Generator,
    ):
        super().__init__()
        sizes = {
            "num_items": num_items,
            "max_length": max_length,
            "num_layers": num_layers,
            "num_heads": num_heads,
            "inner": inner,
        }
        for name, size in sizes.items():
            if size < 1:
                raise ValueError(f"{name} must be 1 or more, got {size}")
        if dim < 1 or dim % num_heads:
            raise ValueError(f"dim must be a multiple of num_heads ({num_heads}), got {dim}")
        for name, share in (("dropout", dropout), ("attention_dropout", attention_dropout)):
            if not 0 <= share < 1:
                raise ValueError(f"{name} must lie in [0, 1), got {share}")
        self.num_items, self.dropout = num_items, dropout
        self.draws = dropout > 0 or attention_dropout > 0  # in training
        self.items = nn.Parameter(torch.empty(num_items + 1, dim))
        self.positions = nn.Parameter(torch.empty(max_length, dim))
        self.norm = nn.LayerNorm(dim, eps=1e-12)
        with borrowed(rng):  # linear maps fill themselves when they are made
            self.blocks = nn.ModuleList(_Block(dim, num_heads, inner, dropout, attention_dropout) for _ in range(num_layers))
        for name, parameter in self.named_parameters():
            if parameter.dim() == 2:
                nn.init.normal_(parameter, std=0.02, generator=rng)
            elif name.endswith("bias"):
                nn.init.zeros_(parameter)

    def forward(
        self,
        items: Tensor,  # [B, T] int64
        lengths: Tensor,  # [B] int64, 1..T
        places: Tensor | None = None,  # [R] flat real positions b * T + t, rising
        *,
        rng: torch.Generator | None = None,  # for dropout in training
    ) -> Tensor:  # [R, d]; without places [B, T, d], zero where padded
        width = items.shape[1]
        if width > len(self.positions):
            raise ValueError(f"histories of at most {len(self.positions)} items are expected (max_length), got {width}")
        draws = self.training and self.draws
        assert rng is not None or not draws, "dropout in training needs rng"
        real = (torch.arange(width, device=items.device) < lengths[:, None]).flatten().nonzero()[:, 0]  # [n]
        pointers = pointers_of(lengths)
        with borrowed(rng) if draws and rng is not None else nullcontext():
            x = gather_rows(self.items, items.flatten()[real]) + gather_rows(self.positions, real % width)
            x = dropout(self.norm(x), self.dropout if self.training else 0.0)
            for block in self.blocks[:-1]:
                x = block(x, pointers, width)
            wanted = None if places is None else torch.searchsorted(real, places)
            x = self.blocks[-1](x, pointers, width, wanted)
        if places is not None:
            return x
        return x.new_zeros(items.numel(), x.shape[1]).index_copy(0, real, x).view(*items.shape, -1)

    def last(self, items: Tensor, lengths: Tensor, *, rng: torch.Generator | None = None) -> Tensor:  # [B, T], [B] -> [B, d]
        """The state after each row's last item."""
        return self(items, lengths, ends(items, lengths), rng=rng)


def ends(items: Tensor, lengths: Tensor) -> Tensor:  # [B, T], [B] -> [B]
    """Flat positions of the rows' last items."""
    return torch.arange(len(items), device=items.device) * items.shape[1] + lengths - 1


class _Block(nn.Module):
    """a = LN(x + W_o attention(x)), then LN(a + W_2 GELU(W_1 a)), dropout before each sum."""

    def __init__(self, dim: int, num_heads: int, inner: int, dropout: float, attention_dropout: float):
        super().__init__()
        self.num_heads, self.dropout, self.attention_dropout = num_heads, dropout, attention_dropout
        self.qkv, self.out = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
        self.up, self.down = nn.Linear(dim, inner), nn.Linear(inner, dim)
        self.attention_norm, self.norm = nn.LayerNorm(dim, eps=1e-12), nn.LayerNorm(dim, eps=1e-12)

    def forward(  # [n, d] -> [n, d], or the wanted rows
        self, x: Tensor, pointers: Tensor, longest: int, wanted: Tensor | None = None
    ) -> Tensor:
        share = self.attention_dropout if self.training else 0.0
        mixed = causal_attention(self.qkv(x), pointers, self.num_heads, share, longest=longest)
        if wanted is not None:  # what follows works token by token
            x, mixed = gather_rows(x, wanted), gather_rows(mixed, wanted)
        a = self.attention_norm(x + self.dropped(self.out(mixed)))
        return self.norm(a + self.dropped(self.down(F.gelu(self.up(a)))))

    def dropped(self, x: Tensor) -> Tensor:
        return dropout(x, self.dropout if self.training else 0.0)
