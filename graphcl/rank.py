"""Full ranking by tiles: score a block of users, leave out what they have seen, keep the k best.

Nothing [U, I] is ever held.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from scipy import sparse
from torch import Tensor

from graphcl import metrics as definitions
from graphcl.interactions import whole
from graphcl.ops import row_numbers
from graphcl.ops.selection import Selection

if TYPE_CHECKING:
    from graphcl.contracts import Scorer

# Scores of a block of users. On CPU 2^22 floats are 16 MB: malloc hands the same pages back for the next block (above 32 MB it
# maps fresh ones each time). Embeddings are multiplied by tiles of items instead, which stay in the second cache level.
TILE_CPU, TILE_DEVICE = 2**22, 2**28
TILE_ITEMS, TILE_USERS = 2048, 512
DEFAULT_METRICS = ("recall", "ndcg", "precision", "hr", "mrr", "map", *definitions.EXPOSURE)

Users = Any  # rows [n] as a tensor or an array, or histories [n, I] as a csr_matrix
Patterns = Any  # csr_matrix, several of them, or None
Progress = Callable[[Sequence[int]], Iterable[int]]


class DotScorer:
    """Scores are dot products of a user's and an item's embedding; on the device where the embeddings are."""

    def __init__(
        self,
        users: Tensor,  # [U, d]
        items: Tensor,  # [I, d]
        fold: Callable[[sparse.csr_matrix], Tensor] | None = None,  # histories [b, I] -> embeddings [b, d]
    ) -> None:
        if users.ndim != 2 or items.ndim != 2 or users.shape[1] != items.shape[1]:
            raise ValueError(f"users {tuple(users.shape)} and items {tuple(items.shape)} must be [U, d] and [I, d]")
        self.users, self.items, self.fold = users.detach(), items.detach(), fold
        self.num_items = len(items)
        self.device = self.items.device

    @torch.no_grad()
    def score(self, users: Tensor | sparse.csr_matrix) -> Tensor:  # [b, I]
        """**Raises** ValueError for histories when the recipe cannot embed them."""
        return self._embedded(users) @ self.items.T

    @torch.no_grad()
    def tiles(self, users: Tensor | sparse.csr_matrix) -> Iterator[tuple[int, Tensor]]:
        """What ``score`` gives, turned: the first item and the scores [items, b] of a tile at a time, in memory used again."""
        embedded = self._embedded(users).float()
        held = embedded.new_empty(min(TILE_ITEMS, self.num_items), len(embedded))
        for first in range(0, self.num_items, TILE_ITEMS):
            items = self.items[first : first + TILE_ITEMS].float()
            yield first, torch.mm(items, embedded.T, out=held[: len(items)])

    def _embedded(self, users: Tensor | sparse.csr_matrix) -> Tensor:  # [b, d]
        if not sparse.issparse(users):
            return self.users[torch.as_tensor(users, device=self.users.device)]
        if self.fold is None:
            raise ValueError(
                "this recipe has no fold-in: it embeds only users of its own log. Give user rows, or train with "
                "the histories in the log, or choose a recipe that scores histories (ease, itemknn, gfcf, ...)"
            )
        return self.fold(users).to(self.items)


def history_rows(users: Tensor | np.ndarray | sparse.csr_matrix, train: sparse.csr_matrix) -> sparse.csr_matrix:
    """Histories [b, I]: the train rows of known users, or the histories given (repeats merged by adding).

    **Raises** ValueError when histories do not cover the same items as ``train``.
    """
    if not sparse.issparse(users):
        return train[np.asarray(torch.as_tensor(users).cpu(), dtype=np.int64)]
    if users.shape[1] != train.shape[1]:
        raise ValueError(f"histories must have one column for each of {train.shape[1]} items, got {users.shape[1]}")
    return sparse.csr_matrix(users, dtype=np.float32)


def at_most(num_items: int, k: int) -> int:
    """Raises ValueError where k is no whole number."""
    return min(whole(k, "k"), num_items)


def top_k(
    scorer: Scorer,
    users: Users,  # [n] rows, or histories [n, I]
    k: int,
    *,
    seen: Patterns = None,
    block: int | None = None,
    progress: Progress | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """The k best items of each user and their scores: int64 [n, k] and float32 [n, k], best first.

    ``seen`` (one pattern or several) is left out. For user rows its rows are users [U, I]; for histories its rows are those of
    the histories [n, I]. Among equal scores the lower item row comes first, on every device and at every block size. A score
    of -inf also leaves an item out. Where fewer than k items remain, the rest is item -1 with score -inf.

    ``block`` is how many users are scored at a time: by default what fits the cache, or far more for a scorer whose ``device``
    is not the CPU. ``progress`` wraps the list of blocks, as ``tqdm`` does.

    **Raises** ValueError for a NaN score, k or block < 1, users that are no row numbers, or ``seen`` of another shape.
    """
    if k < 1:
        raise ValueError(f"k must be at least 1, got {k}")
    num = users.shape[0] if sparse.issparse(users) else len(users)
    items = np.full((num, k), -1, dtype=np.int64)
    scores = np.full((num, k), -np.inf, dtype=np.float32)
    for rows, best_items, best_scores in _ranked(scorer, users, k, seen, block, progress):
        items[rows], scores[rows] = best_items, best_scores
    return items, scores


@dataclass(frozen=True, eq=False)
class RankReport:
    """What an evaluation found. ``means`` also holds values of all lists together, such as ``coverage@20``."""

    means: dict[str, float]
    per_user: dict[str, np.ndarray]  # each [n]; NaN where a slice holds none of the user's held-out items
    users: np.ndarray  # [n] int64, the rows evaluated: those with a held-out item
    top: np.ndarray  # [n, K] int64


def evaluate(
    scorer: Scorer,
    truth: sparse.csr_matrix,  # [U, I]
    *,
    mask: Patterns,
    train: sparse.csr_matrix,  # [U, I], for popularity only
    ks: Sequence[int] = (10, 20, 40),
    metrics: Sequence[str] = DEFAULT_METRICS,
    block: int | None = None,
    progress: Progress | None = None,
) -> RankReport:
    """Ranks all items for every user with held-out items; ``metrics`` are names of ``graphcl.metrics.KNOWN``, each at every k.

    **Raises** ValueError for an unknown metric, or when no user has a held-out item.
    """
    for name in metrics:
        definitions.check_name(name)
    if not ks:
        raise ValueError("ks is empty: give at least one cut-off, such as (20,)")
    if truth.shape != train.shape:
        raise ValueError(f"truth {truth.shape} and train {train.shape} must have the same users and items")
    users = np.flatnonzero(np.diff(truth.indptr)).astype(np.int64)
    if not len(users):
        raise ValueError("no user has a held-out item: the split to evaluate on is empty")
    top, _ = top_k(scorer, torch.from_numpy(users), max(ks), seen=mask, block=block, progress=progress)
    held_out = truth[users]
    degree = np.bincount(train.indices, minlength=train.shape[1])
    per_user = definitions.ranking_metrics(top, held_out, ks, [name for name in metrics if name in definitions.ACCURACY])
    head = definitions.head_items(degree)
    for part, members in (("head", head), ("tail", ~head)):
        names = [name.partition("/")[0] for name in metrics if name.endswith(f"/{part}")]
        if names:
            per_user |= definitions.sliced_metrics(top, held_out, members, part, ks, names)
    means = definitions.mean_metrics(per_user)
    shown = [name for name in metrics if name in definitions.EXPOSURE]
    means |= definitions.exposure_metrics(top, degree, train.shape[0], ks, shown)
    return RankReport(means, per_user, users, top)


def _ranked(
    scorer: Scorer,
    users: Users,
    k: int,
    seen: Patterns,
    block: int | None,
    progress: Progress | None,
) -> Iterator[tuple[slice, np.ndarray, np.ndarray]]:
    """Block after block: which places of ``users``, their items [b, k] and scores [b, k]."""
    folded = sparse.issparse(users)
    num = users.shape[0] if folded else len(users)
    if block is not None and block < 1:
        raise ValueError(f"block must be at least 1, got {block}")
    if not folded:
        users = row_numbers(users)
    left_out = _merged(seen, scorer.num_items)
    owners = np.arange(num) if folded else users.cpu().numpy()  # rows of left_out
    if num and owners.min() < 0:
        raise ValueError(f"user rows must be 0 or more, got {int(owners.min())}: an id that is not in the log has the row -1")
    if left_out is not None and num and owners.max() >= left_out.shape[0]:
        raise ValueError(f"seen has {left_out.shape[0]} rows, too few for user row {int(owners.max())}")
    if block is None:
        on_cpu = torch.device(getattr(scorer, "device", "cpu")).type == "cpu"
        tile = TILE_CPU if on_cpu else TILE_DEVICE
        block = TILE_USERS if on_cpu and isinstance(scorer, DotScorer) else max(1, min(tile // max(scorer.num_items, 1), 4096))
    starts = range(0, num, block)
    for start in starts if progress is None else progress(starts):
        rows = slice(start, min(start + block, num))
        if isinstance(scorer, DotScorer) and scorer.device.type == "cpu":
            yield rows, *_select_cpu(scorer.tiles(users[rows]), k, left_out, owners[rows])
            continue
        scores = scorer.score(users[rows])
        if scores.shape != (rows.stop - rows.start, scorer.num_items):
            asked = f"{rows.stop - rows.start} users and {scorer.num_items} items"
            raise ValueError(f"the scorer gave {tuple(scores.shape)} for {asked}")
        if scores.device.type == "cpu":
            yield rows, *_select_cpu(_turned(scores), k, left_out, owners[rows])
        else:
            yield rows, *_select_torch(scores.float(), k, left_out, owners[rows])
        del scores  # before the next block asks for the same memory


def _merged(seen: Patterns, num_items: int) -> sparse.csr_matrix | None:
    """One pattern with sorted columns; None if there is nothing to leave out."""
    patterns: list[sparse.csr_matrix] = [] if seen is None else [seen] if sparse.issparse(seen) else list(seen)
    if not patterns:
        return None
    for pattern in patterns:
        if pattern.shape[1] != num_items or pattern.shape[0] != patterns[0].shape[0]:
            shapes = ", ".join(str(p.shape) for p in patterns)
            raise ValueError(f"seen must be [users, {num_items}] in every part, got {shapes}")
    if len(patterns) == 1:
        merged = sparse.csr_matrix(patterns[0])
    else:  # patterns are joined, not added: entries could cancel
        rows = np.concatenate([np.repeat(np.arange(p.shape[0]), np.diff(p.indptr)) for p in patterns])
        columns = np.concatenate([p.indices for p in patterns])
        merged = sparse.csr_matrix((np.ones(len(rows), dtype=np.int8), (rows, columns)), shape=patterns[0].shape)
    return merged if merged.has_sorted_indices else merged.sorted_indices()


def _refuse_nan(owner: int, item: int) -> None:
    raise ValueError(
        f"the score of row {owner} for item row {item} is NaN, so nothing can be ranked. Training has probably diverged: "
        "look at the losses, lower the learning rate, or raise the regularisation"
    )


def _select_cpu(
    tiles: Iterable[tuple[int, Tensor]], k: int, seen: sparse.csr_matrix | None, owners: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    if seen is None:
        indptr, indices = np.zeros(2, dtype=np.int64), np.zeros(0, dtype=np.int32)
        rows = np.zeros(len(owners), dtype=np.int64)
    else:
        # One signature, so the kernel is compiled once: scipy chooses the width of indices by the number of entries.
        indptr, indices = seen.indptr.astype(np.int64, copy=False), seen.indices.astype(np.int32, copy=False)
        rows = np.asarray(owners, dtype=np.int64)
    selection = Selection(rows, k, indptr, indices)
    for first, tile in tiles:
        selection.add(first, tile.numpy())
    if selection.broken.max(initial=-1) >= 0:
        row = int(np.argmax(selection.broken >= 0))
        _refuse_nan(int(owners[row]), int(selection.broken[row]))
    return selection.finish()


def _turned(scores: Tensor) -> Iterator[tuple[int, Tensor]]:
    """Scores [b, I] as tiles [items, b] with the first item of each."""
    for first in range(0, scores.shape[1], TILE_ITEMS):
        yield first, scores[:, first : first + TILE_ITEMS].T.float().contiguous()


def _select_torch(scores: Tensor, k: int, seen: sparse.csr_matrix | None, owners: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Any device. ``topk`` keeps any of equal scores; where the k-th is shared, that row is sorted whole and stably."""
    if bool(scores.isnan().any()):
        row, item = (int(x) for x in scores.isnan().nonzero()[0])
        _refuse_nan(int(owners[row]), item)
    if seen is not None:
        mine = seen[owners]
        rows = np.repeat(np.arange(len(owners)), np.diff(mine.indptr))
        where = torch.from_numpy(np.stack([rows, mine.indices.astype(np.int64)])).to(scores.device)
        scores = scores.clone()
        scores[where[0], where[1]] = -torch.inf
    width = min(k, scores.shape[1])
    best, items = scores.topk(width, dim=1)
    shared = ((scores >= best[:, -1:]).sum(1) > width).nonzero()[:, 0] if width else scores.new_zeros(0, dtype=torch.int64)
    if len(shared):
        best[shared], items[shared] = (x[:, :width] for x in scores[shared].sort(dim=1, descending=True, stable=True))
    items, order = items.sort(dim=1)
    best, order = best.gather(1, order).sort(dim=1, descending=True, stable=True)
    items = items.gather(1, order).masked_fill(best == -torch.inf, -1)
    pad = (0, k - width)
    items = torch.nn.functional.pad(items, pad, value=-1)
    best = torch.nn.functional.pad(best, pad, value=-torch.inf)
    return items.cpu().numpy(), best.cpu().numpy()
