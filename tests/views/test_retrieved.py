"""Retrieval and synthesis against loops over rows and candidates, in float64."""

import math

import pytest
import torch

from graphcl.testing import undisturbed
from graphcl.views import Retrieved, retrieved
from graphcl.views.retrieved import nearest
from tests.histories import NUM_ITEMS, generator, histories, prefix_batch

ROWS = [[0, 1, 2, 3], [2, 2, 4], [5, 1, 2], [3], [], [6, 3, 1, 0, 2]]
VECTORS = torch.randn(NUM_ITEMS, 5, generator=generator(9), dtype=torch.float64)


def made(**options):
    settings = {"num_neighbours": 3, "max_length": 4, "dim": 6, "dropout": 0.0, "rng": generator(), **options}
    return Retrieved(histories(ROWS), VECTORS, **settings).double()


def cosine(a, b):
    return float(a @ b / (a.norm() * b.norm()))


def encode(items, lengths):
    """A state that tells every item and its place."""
    places = torch.arange(1, items.shape[1] + 1)
    real = places <= lengths[:, None]
    return torch.stack([(items * places * real).sum(1), lengths, ((items + 1) ** 2 * real).sum(1)], 1).double()


def state(row):
    return encode(torch.tensor([row]), torch.tensor([len(row)]))[0]


def by_hand(view, batch, attention):
    """Rows' states and mixtures."""
    means = {user: torch.stack([VECTORS[item] for item in row]).mean(0) for user, row in enumerate(ROWS) if row}
    mixed = []
    for b, user in enumerate(batch.users.tolist()):
        query = torch.stack([VECTORS[item] for item in batch.items[b, : batch.lengths[b]]]).mean(0)
        others = sorted((u for u in means if u != user), key=lambda u: -cosine(query, means[u]))[:3]
        scores = []
        for other in others:
            q, c = view.project @ query, view.project @ means[other]
            if attention == "dot":
                scores.append(q @ c / math.sqrt(6))
            else:
                e = torch.cat([view.score[0], view.score[1]]) @ torch.cat([q, c])
                scores.append(e if e > 0 else 0.2 * e)
        total = sum(s.exp() for s in scores)
        mixed.append(sum(s.exp() / total * state(ROWS[u][-4:]) for s, u in zip(scores, others, strict=True)))
    return torch.stack(mixed)


@pytest.mark.parametrize("attention", ["static", "dot"])
def test_values_and_gradients(attention):
    view, batch = made(attention=attention), prefix_batch(ROWS)
    with undisturbed():
        first, second = view(encode, histories(ROWS), batch, generator())
    assert torch.equal(first, encode(batch.items, batch.lengths))
    expected = by_hand(view, batch, attention)
    torch.testing.assert_close(second, expected, rtol=1e-10, atol=1e-10)
    parameters = [view.project, view.score] if attention == "static" else [view.project]
    weights = torch.randn(expected.shape, generator=generator(3), dtype=torch.float64)
    fast, slow = (torch.autograd.grad((weights * x).sum(), parameters) for x in (second, expected))
    for a, b in zip(fast, slow, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-8, atol=1e-9)


def test_states_of_neighbours_have_gradients():
    view, batch = made(), prefix_batch(ROWS)
    scale = torch.ones((), dtype=torch.float64, requires_grad=True)
    _, second = view(lambda items, lengths: scale * encode(items, lengths), histories(ROWS), batch, generator())
    (gradient,) = torch.autograd.grad(second.sum(), scale)
    torch.testing.assert_close(gradient, second.sum().detach())  # linear in the scale


@pytest.mark.parametrize("tile_entries", [1, 20])
def test_similarities_are_held_for_some_rows_at_a_time(monkeypatch, tile_entries):
    """A batch's were held all at once."""
    view, batch = made(), prefix_batch(ROWS)
    whole = view.retrieve(batch)
    topk, held = torch.Tensor.topk, []
    monkeypatch.setattr(torch.Tensor, "topk", lambda x, *more: held.append(x.numel()) or topk(x, *more))
    monkeypatch.setattr(retrieved, "TILE_ENTRIES", tile_entries)
    blocks = view.retrieve(batch)
    assert max(held) <= max(tile_entries, len(ROWS))
    assert all(torch.equal(a, b) for a, b in zip(whole, blocks, strict=True))


def test_a_given_matrix_of_histories():
    vectors = torch.randn(len(ROWS), 4, generator=generator(5), dtype=torch.float64)
    view, batch = made(sequence_vectors=vectors), prefix_batch(ROWS)
    meaning, chosen = view.retrieve(batch)
    assert torch.equal(meaning, vectors[batch.users])
    for user, found in zip(batch.users.tolist(), chosen.tolist(), strict=True):
        others = [u for u in range(len(ROWS)) if u not in (user, 4)]  # user 4 has no history
        assert found == sorted(others, key=lambda u: -cosine(vectors[user], vectors[u]))[:3]


@pytest.mark.parametrize("tile_entries", [1, 40, 2**20])
def test_nearest(monkeypatch, tile_entries):
    monkeypatch.setattr(retrieved, "TILE_ENTRIES", tile_entries)
    vectors = torch.randn(12, 3, generator=generator(), dtype=torch.float64)
    vectors[5] = 2 * vectors[4]  # as similar as itself, and not itself
    found = nearest(vectors, 4)
    for row in range(12):
        best = sorted((cosine(vectors[row], vectors[r]) for r in range(12) if r != row), reverse=True)[:4]
        assert [cosine(vectors[row], vectors[r]) for r in found[row].tolist()] == pytest.approx(best)  # 4 and 5 tie
        assert row not in found[row]
        assert len(found[row].unique()) == 4
    assert found[4, 0] == 5
    assert found[5, 0] == 4
    assert nearest(vectors[:3], 10).shape == (3, 2)


def test_dropout_of_weights_is_not_made_up_for():
    view, batch = made(dropout=0.5), prefix_batch(ROWS)
    one = lambda items, lengths: torch.ones(len(items), 1, dtype=torch.float64)  # noqa: E731
    with undisturbed():
        sums = torch.stack([view(one, histories(ROWS), batch, generator(seed))[1].detach() for seed in range(400)])
    assert sums.mean() == pytest.approx(1, abs=0.03)  # kept weights are doubled
    assert sums.std() > 0.2
    full = view.eval()(one, histories(ROWS), batch, generator())[1]
    torch.testing.assert_close(full, torch.ones_like(full))


def test_nothing_held_out_and_nothing_of_the_data_is_kept_in_a_checkpoint():
    assert set(made().state_dict()) == {"project", "score"}


def test_bad_input():
    with pytest.raises(ValueError, match="fewer than two have one"):
        Retrieved(histories([[1, 2], []]), VECTORS, max_length=4, rng=generator())
    with pytest.raises(ValueError, match="7 rows of item vectors are expected, one an item, got 6"):
        Retrieved(histories(ROWS), VECTORS[:6], max_length=4, rng=generator())
    with pytest.raises(ValueError, match="6 rows of sequence vectors are expected, one a user, got 7"):
        made(sequence_vectors=VECTORS)
    with pytest.raises(ValueError, match="attention must be static or dot"):
        made(attention="gat")
    with pytest.raises(ValueError, match="num_neighbours must be 1"):
        made(num_neighbours=0)
