"""The recipe's loss by each setting, its scores, and two steps against Adam by hand."""

import dataclasses

import pytest
import torch

from graphcl.objectives import next_item
from graphcl.recipes import sasrec
from graphcl.recipes.sequence_model import NextItem, SequenceModel, SequenceSettings
from graphcl.testing import undisturbed
from graphcl.train import PlainStep
from tests.histories import NUM_ITEMS, generator, histories, padded, prefix_batch, user_batch

SMALL = {"dim": 8, "inner": 12, "max_length": 6}


def built(**settings):
    config = sasrec.Config(**{**SMALL, **settings})
    return sasrec.build(config, histories(), rng=generator())


def test_losses_are_those_of_the_objective():
    model, batch = built(dropout=0.0, attention_dropout=0.0), user_batch()
    hidden = model.encoder(batch.items, batch.lengths).flatten(0, 1)[batch.places]
    items = model.encoder.items[:NUM_ITEMS]
    drawn = torch.randint(NUM_ITEMS, (5,), generator=generator(3))
    expected = {
        "ce": torch.nn.functional.cross_entropy(hidden @ items.T, batch.targets),
        "sampled": next_item.sampled_softmax(hidden, items, batch.targets, drawn),
        "gbce": next_item.calibrated_binary(hidden, items, batch.targets, drawn, calibration=0.75),
    }
    cases = [
        *((loss, {}, value) for loss, value in expected.items()),
        ("sampled", {"log_q": True}, next_item.sampled_softmax(hidden, items, batch.targets, drawn, log_q=True)),
        ("gbce", {"calibration": 0.2}, next_item.calibrated_binary(hidden, items, batch.targets, drawn, calibration=0.2)),
    ]
    assert len({float(value.detach()) for *_, value in cases}) == len(cases)
    for loss, more, value in cases:
        model.task.config = sasrec.Config(**SMALL, loss=loss, num_negatives=5, **more)
        torch.testing.assert_close(model.losses(histories(), batch, generator(3)), {"next": value})


def test_bce_draws_what_the_user_has_not_had(monkeypatch):
    model, batch = built(loss="bce"), user_batch()
    seen = []
    monkeypatch.setattr("graphcl.recipes.sequence_model.binary", lambda h, items, targets, drawn: seen.append(drawn) or h.sum())
    for seed in range(50):
        model.losses(histories(), batch, generator(seed))
    drawn = torch.cat(seen, 1)
    users = batch.users[batch.places // batch.items.shape[1]].tolist()
    for user, found in zip(users, drawn.tolist(), strict=True):
        assert set(found) == set(range(NUM_ITEMS)) - set([[0, 1, 2, 3], [2, 4], [5, 1, 2]][user])


def test_rows_of_users_and_of_prefixes_have_the_same_terms():
    """Without dropout a target's term does not depend on the row it stands in."""
    model = built(dropout=0.0, attention_dropout=0.0)
    by_user, by_prefix = (model.losses(histories(), batch, generator())["next"] for batch in (user_batch(), prefix_batch()))
    torch.testing.assert_close(by_user, by_prefix)


def test_scores_are_products_without_dropout():
    model = built().train()
    items, lengths = padded([[0, 1, 2], [5]])
    expected = model.eval().encoder.last(items, lengths) @ model.item_vectors().T
    model.train()
    with undisturbed():
        assert torch.equal(model.score(items, lengths), expected)
    assert model.training
    assert expected.shape == (2, NUM_ITEMS)
    assert model.num_items == NUM_ITEMS
    assert not model.score(items, lengths).requires_grad


def test_two_steps_are_adams():
    """float64, gradients by autograd through the dense softmax, moments by hand."""
    batch, data = user_batch(), histories()
    model, twin = (built(dropout=0.0, attention_dropout=0.0).double() for _ in range(2))
    step = PlainStep(model, 0.01)
    parameters = list(twin.parameters())
    first, second = ([torch.zeros_like(p) for p in parameters] for _ in range(2))
    for number in (1, 2):
        before = [t.clone() for t in (batch.items, batch.lengths, batch.places, batch.targets)]
        step(model, data, batch, generator())
        assert all(map(torch.equal, before, (batch.items, batch.lengths, batch.places, batch.targets)))
        hidden = twin.encoder(batch.items, batch.lengths).flatten(0, 1)[batch.places]
        loss = torch.nn.functional.cross_entropy(hidden @ twin.encoder.items[:NUM_ITEMS].T, batch.targets)
        for p, g, m, v in zip(parameters, torch.autograd.grad(loss, parameters), first, second, strict=True):
            m.mul_(0.9).add_(0.1 * g)
            v.mul_(0.999).add_(0.001 * g * g)
            p.data -= 0.01 * (m / (1 - 0.9**number)) / ((v / (1 - 0.999**number)).sqrt() + 1e-8)
    for (name, a), b in zip(model.named_parameters(), parameters, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-7, atol=1e-9, msg=name)


@pytest.mark.slow
@pytest.mark.parametrize("loss", ["ce", "sampled", "gbce", "bce"])
def test_learns_what_follows_what(loss):
    """A cycle of items, each followed by the next. Ranked are items that the user has not had before: BCE sees no others."""
    rows = [[(start + t) % 12 for t in range(5)] for start in range(12)]
    config = sasrec.Config(dim=16, inner=32, max_length=5, loss=loss, num_negatives=8, dropout=0.1, attention_dropout=0.1)
    data, batch = histories(rows, 12), user_batch(rows, 12)
    model = sasrec.build(config, data, rng=generator())
    step, rng = PlainStep(model, 0.01), generator(1)
    for _ in range(250):
        step(model, data, batch, rng)
    scores = model.score(batch.items, batch.lengths).scatter(1, batch.items, -torch.inf)
    assert (scores.argmax(1) == torch.tensor([row[-1] for row in rows])).all()


def test_settings():
    assert issubclass(sasrec.Config, SequenceSettings)
    assert isinstance(built(), SequenceModel)
    assert isinstance(built().task, NextItem)
    assert dataclasses.replace(sasrec.Config(), loss="gbce").calibration == 0.75
    with pytest.raises(ValueError, match="num_negatives must be 1"):
        sasrec.Config(num_negatives=0)
    with pytest.raises(ValueError, match="calibration must lie"):
        sasrec.Config(calibration=1.5)
