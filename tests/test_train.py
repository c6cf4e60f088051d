"""The training loop against LightGCN-BPR written out in NumPy: forward, gradient and Adam by hand, on dense matrices."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

from graphcl.contracts import Batch, Part
from graphcl.data.sample import Triples
from graphcl.encoders import LightGCN
from graphcl.encoders.readout import mean
from graphcl.objectives import InfoNCE
from graphcl.perturb.edges import drop_edges
from graphcl.perturb.noise import SignNoise
from graphcl.recipes.model import Contrast, Model
from graphcl.recipes.ranking import Ranking
from graphcl.streams import Streams
from graphcl.testing import tiny_batch, tiny_graph, tiny_interactions, undisturbed
from graphcl.train import Epoch, PlainStep, fit
from graphcl.views import TwoInputs
from tests.test_graph import TINY, dense_normalised

SIZES = {"user": 5, "item": 6}
RATE = 0.05
# A user, a positive and a negative stand twice in the first; row 8 is a positive and a negative. Their sizes differ.
BATCHES = [tiny_batch(), Batch(torch.tensor([2, 3]), torch.tensor([8, 9]), torch.tensor([6, 10]))]


def model_of(decay: str, weight: float, num_layers: int = 2, first: int = 0) -> Model:
    encoder = LightGCN(SIZES, 4, num_layers, init=0.5, rng=torch.Generator().manual_seed(0))
    return Model(encoder, mean(first), Ranking(weight, decay)).double()


def fixed_batches(rng):
    return iter(BATCHES)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def slow_step(table, batch, op, num_layers, first, decay, weight):
    """Loss terms and the gradient of their sum with respect to the table [N, d]."""
    users, positives, negatives = (t.numpy() for t in (batch.users, batch.positives, batch.negatives))
    count = len(users)
    powers = [np.linalg.matrix_power(op, n) for n in range(num_layers + 1)]
    readout = sum(powers[first:]) / (num_layers + 1 - first)  # final = readout @ table
    final = readout @ table

    bpr, d_final = 0.0, np.zeros_like(final)
    for u, i, j in zip(users, positives, negatives, strict=True):
        x = final[u] @ (final[j] - final[i])
        bpr += np.log(1 + np.exp(x)) / count
        slope = sigmoid(x) / count
        d_final[u] += slope * (final[j] - final[i])
        d_final[j] += slope * final[u]
        d_final[i] -= slope * final[u]

    d_table = np.zeros_like(table)
    if decay == "input":
        rows = np.concatenate([users, positives, negatives])
        value = 0.5 * (table[rows] ** 2).sum() / count
        for row in rows:
            d_table[row] += weight * table[row] / count
    elif decay == "output":
        value = 0.0
        for rows in (users, positives):
            length = np.sqrt((final[rows] ** 2).sum())
            value += length / count
            for row in rows:
                d_final[row] += weight * final[row] / length / count
    else:
        value = (table**2).sum()
        d_table += weight * 2 * table
    return {"bpr": bpr, "decay": weight * value}, d_table + readout.T @ d_final


class SlowAdam:
    """Kingma and Ba's algorithm 1 with torch's constants."""

    def __init__(self, rate: float):
        self.rate, self.t, self.m, self.v = rate, 0, 0.0, 0.0

    def move(self, x, gradient):
        self.t += 1
        self.m = 0.9 * self.m + 0.1 * gradient
        self.v = 0.999 * self.v + 0.001 * gradient**2
        m, v = self.m / (1 - 0.9**self.t), self.v / (1 - 0.999**self.t)
        return x - self.rate * m / (np.sqrt(v) + 1e-8)


@pytest.mark.parametrize("first", [0, 1])
@pytest.mark.parametrize(("decay", "weight"), [("input", 0.3), ("output", 0.3), ("parameters", 0.02)])
def test_two_epochs_of_two_steps(decay, weight, first):
    model = model_of(decay, weight, first=first)
    table, adam, op = model.encoder.embedding.detach().numpy().copy(), SlowAdam(RATE), dense_normalised(TINY)
    epochs = fit(
        model, tiny_graph(torch.float64), step=PlainStep(model, RATE), batches=fixed_batches, streams=Streams(0), epochs=2
    )
    for number, epoch in enumerate(epochs, 1):
        found = []
        for batch in BATCHES:
            terms, gradient = slow_step(table, batch, op, 2, first, decay, weight)
            table = adam.move(table, gradient)
            found.append(terms)
        assert (epoch.number, epoch.steps) == (number, 2)
        assert set(epoch.terms) == {"bpr", "decay"}
        for name, value in epoch.terms.items():
            assert value == pytest.approx((found[0][name] + found[1][name]) / 2, rel=1e-9)
        np.testing.assert_allclose(model.encoder.embedding.detach(), table, rtol=1e-7, atol=1e-9)
    assert number == 2


def test_without_a_weight_there_is_no_decay():
    model = model_of("input", 0.0)
    (epoch,) = fit(
        model, tiny_graph(torch.float64), step=PlainStep(model, RATE), batches=fixed_batches, streams=Streams(0), epochs=1
    )
    assert set(epoch.terms) == {"bpr"}


def test_learning_rate_by_epoch():
    model = model_of("parameters", 0.02)
    table, adam, op = model.encoder.embedding.detach().numpy().copy(), SlowAdam(RATE), dense_normalised(TINY)
    step = PlainStep(model, RATE, rate_decay=0.5, lowest_rate=RATE / 3)
    for rate, _ in zip(
        (RATE, RATE / 2, RATE / 3),
        fit(model, tiny_graph(torch.float64), step=step, batches=fixed_batches, streams=Streams(0), epochs=3),
        strict=True,
    ):
        adam.rate = rate
        for batch in BATCHES:
            table = adam.move(table, slow_step(table, batch, op, 2, 0, "parameters", 0.02)[1])
        np.testing.assert_allclose(model.encoder.embedding.detach(), table, rtol=1e-7, atol=1e-9)


def contrastive() -> Model:
    """Every source of randomness at once: two dropped graphs an epoch, noise on the main pass."""
    encoder = LightGCN(SIZES, 4, 2, rng=torch.Generator().manual_seed(0))
    views = TwoInputs(lambda graph, rng: drop_edges(graph, 0.3, rng), mean(), every="epoch")
    contrasts = [Contrast(views, InfoNCE(0.2), 0.5, rows="positives-repeated")]
    return Model(encoder, mean(1), Ranking(1e-3), contrasts, perturb=SignNoise(0.1)).double()


def run(model, step, streams, *, epochs, done=0):
    batches = Triples(tiny_interactions(), 4)
    return list(fit(model, tiny_graph(torch.float64), step=step, batches=batches, streams=streams, epochs=epochs, done=done))


def test_same_seed_same_numbers_and_no_global_generator():
    results = []
    for seed in (1, 1, 2):
        model = contrastive()
        with undisturbed():
            epochs = run(model, PlainStep(model, RATE), Streams(seed), epochs=2)
        results.append((model.encoder.embedding.detach(), [e.terms for e in epochs]))
    assert torch.equal(results[0][0], results[1][0])
    assert results[0][1] == results[1][1]
    assert results[0][1] != results[2][1]


def test_going_on_equals_never_having_stopped():
    whole = contrastive()
    uninterrupted = run(whole, PlainStep(whole, RATE, rate_decay=0.7), Streams(3), epochs=4)

    model, streams = contrastive(), Streams(3)
    step = PlainStep(model, RATE, rate_decay=0.7)
    first = run(model, step, streams, epochs=2)
    saved = copy.deepcopy((model.state_dict(), step.state_dict(), streams.state_dict()))

    other = contrastive()
    with torch.no_grad():
        other.encoder.embedding.fill_(9)
    again, fresh = PlainStep(other, RATE, rate_decay=0.7), Streams(3)
    other.load_state_dict(saved[0])
    again.load_state_dict(saved[1])
    fresh.load_state_dict(saved[2])
    rest = run(other, again, fresh, epochs=4, done=2)

    assert [e.number for e in [*first, *rest]] == [1, 2, 3, 4]
    assert [e.terms for e in [*first, *rest]] == [e.terms for e in uninterrupted]
    assert torch.equal(other.encoder.embedding, whole.encoder.embedding)


def test_yields_an_epoch_at_a_time():
    model = model_of("input", 0.1)
    started = model.encoder.embedding.detach().clone()
    counted = []
    epochs = fit(
        model, tiny_graph(torch.float64), step=PlainStep(model, RATE), batches=fixed_batches, streams=Streams(0), epochs=5,
        on_step=counted.append,
    )  # fmt: skip
    assert torch.equal(model.encoder.embedding, started)  # nothing is done before it is asked for
    epoch = next(epochs)
    assert isinstance(epoch, Epoch)
    assert epoch.seconds > 0
    assert counted == [1, 2]
    assert model.training
    model.eval()  # as an evaluation between epochs would
    next(epochs)
    assert model.training
    assert counted == [1, 2, 1, 2]


def test_nothing_is_left_to_do():
    model = model_of("input", 0.1)
    options = {"step": PlainStep(model, RATE), "batches": fixed_batches, "streams": Streams(0)}
    assert list(fit(model, tiny_graph(torch.float64), epochs=3, done=3, **options)) == []
    assert list(fit(model, tiny_graph(torch.float64), epochs=0, **options)) == []


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("from_step", [1, 2])
def test_the_term_that_is_not_finite_is_named(value, from_step):
    """By the end of the epoch all terms are, and once the first of them was named whatever had happened."""
    calls = []

    def task(forward, model):
        calls.append(None)
        factor = value if len(calls) >= from_step else 1.0
        return {"bpr": Ranking(0.0)(forward, model)["bpr"], "strange": model.encoder.embedding.sum() * factor}

    model = Model(model_of("input", 0.0).encoder, mean(), task).double()
    batches = lambda rng: iter(BATCHES * 2)  # noqa: E731
    epochs = fit(model, tiny_graph(torch.float64), step=PlainStep(model, RATE), batches=batches, streams=Streams(0), epochs=3)
    with pytest.raises(FloatingPointError, match=f"'strange' was no longer finite in step {from_step} of epoch 1"):
        next(epochs)


class Watcher(Part):
    """Notes when it is called, and draws."""

    def __init__(self):
        super().__init__()
        self.calls = []

    def start_epoch(self, inputs, epoch, rng):
        self.calls.append(("start", epoch, int(torch.randint(0, 10**9, (), generator=rng))))

    def after_step(self, inputs, step, rng):
        self.calls.append(("after", step))


def test_parts_are_told_of_epochs_and_steps():
    model = model_of("input", 0.1)
    model.watcher = Watcher()
    options = {"step": PlainStep(model, RATE), "batches": fixed_batches, "streams": Streams(0)}
    assert len(list(fit(model, tiny_graph(torch.float64), epochs=4, done=2, **options))) == 2
    told = [call[:2] for call in model.watcher.calls]
    assert told == [("start", 3), ("after", 1), ("after", 2), ("start", 4), ("after", 1), ("after", 2)]


def test_only_parameters_that_learn_are_moved():
    model = model_of("input", 0.1)
    model.frozen = nn.Parameter(torch.ones(3), requires_grad=False)
    next(fit(model, tiny_graph(torch.float64), step=PlainStep(model, RATE), batches=fixed_batches, streams=Streams(0), epochs=1))
    assert model.frozen.tolist() == [1, 1, 1]


@pytest.mark.parametrize("options", [{"rate_decay": 0.0}, {"rate_decay": 1.1}, {"lowest_rate": 1.0}, {"lowest_rate": -1.0}])
def test_rates_outside_their_range_are_refused(options):
    with pytest.raises(ValueError, match="rate_decay"):
        PlainStep(model_of("input", 0.1), RATE, **options)


def test_a_rate_of_zero_is_refused():
    with pytest.raises(ValueError, match="learning_rate"):
        PlainStep(model_of("input", 0.1), 0.0)
    with pytest.raises(ValueError, match="decay must be one of"):
        Ranking(0.1, "everything")


def test_weight_decay_is_adams_l2():
    """The gradient is -1 + 1 * 2: Adam's first step goes down by the rate, and without decay up."""
    model = nn.Linear(1, 1, bias=False)
    nn.init.constant_(model.weight, 2.0)
    model.losses = lambda inputs, batch, rng: {"l": -model.weight.sum()}
    PlainStep(model, 0.1, weight_decay=1.0)(model, None, None, None)
    assert model.weight.item() == pytest.approx(1.9)
