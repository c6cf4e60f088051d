"""MCLRec's losses by hand, and two steps of each kind of update against Adam by hand, in float64."""

import copy

import pytest
import torch

from graphcl.recipes import mclrec
from graphcl.recipes.mclrec import Alternating, MetaContrast
from graphcl.testing import undisturbed
from graphcl.train import PlainStep
from tests.histories import NUM_ITEMS, generator, histories, prefix_batch, user_batch
from tests.objectives.test_ntxent import slow_ntxent, slow_regulariser

LAMBDA, BETA, RATE = 0.2, 0.3, 0.01


def built(**settings):
    small = {
        "dim": 8, "inner": 12, "max_length": 6, "dropout": 0.0, "attention_dropout": 0.0, "num_layers": 1, "learning_rate": RATE,
        "weight": LAMBDA, "augmented_weight": BETA,
    }  # fmt: skip
    config = mclrec.Config(**{**small, **settings})
    return config, mclrec.build(config, histories(), rng=generator()).double()


def augmented_by_hand(model, first, second, regulariser):
    """L_cl2 and R."""
    a, b = (
        (made := augmenter(x)) / (made * made).sum(1, keepdim=True).sqrt()
        for augmenter, x in zip(model.contrasts["contrast"].augment.augmenters, (first, second), strict=True)
    )
    near = slow_ntxent(a, b, 1.0, False) + slow_ntxent(first, b, 1.0, False) + slow_ntxent(second, a, 1.0, False)
    if regulariser == "batch":
        return near, slow_regulariser(a, b, "batch")
    return near, sum(slow_regulariser(*pair, "row") for pair in ((first, b), (second, a), (a, b)))


def encoder_by_hand(model, batch, changed, regulariser):
    hidden = model.encoder(batch.items, batch.lengths).flatten(0, 1)[batch.places]
    following = torch.nn.functional.cross_entropy(hidden @ model.encoder.items[:NUM_ITEMS].T, batch.targets)
    first, second = model.encoder.last(*changed).chunk(2)
    near, apart = augmented_by_hand(model, first, second, regulariser)
    return following, LAMBDA * slow_ntxent(first, second, 1.0, False) + BETA * (near + 0.1 * apart)


def augmenters_by_hand(model, changed, regulariser, updates):
    with torch.no_grad():
        states = model.encoder.last(*changed).chunk(2)
    near, apart = augmented_by_hand(model, *states, regulariser)
    return near + (0.1 * BETA if updates == "AB" else 0.1) * apart


class Adam:
    def __init__(self, parameters):
        self.parameters, self.number = list(parameters), 0
        self.moments = [(torch.zeros_like(p), torch.zeros_like(p)) for p in self.parameters]

    def move(self, loss):
        self.number += 1
        gradients = torch.autograd.grad(loss, self.parameters, allow_unused=True)
        for p, g, (m, v) in zip(self.parameters, gradients, self.moments, strict=True):
            g = torch.zeros_like(p) if g is None else g
            m.mul_(0.9).add_(0.1 * g)
            v.mul_(0.999).add_(0.001 * g * g)
            p.data -= RATE * (m / (1 - 0.9**self.number)) / ((v / (1 - 0.999**self.number)).sqrt() + 1e-8)


@pytest.mark.slow
@pytest.mark.parametrize("regulariser", ["row", "batch"])
@pytest.mark.parametrize("updates", ["AB", "ABC", "joint"])
@pytest.mark.parametrize("make", [prefix_batch, user_batch])
def test_two_steps(make, updates, regulariser):
    config, model = built(updates=updates, regulariser=regulariser)
    twin, batch, data = copy.deepcopy(model), make(), histories()
    step = mclrec.step(config, model)
    phi = list(twin.contrasts["contrast"].augment.parameters())
    theta = [p for p in twin.parameters() if not any(p is q for q in phi)]
    encoder, augmenters, every = Adam(theta), Adam(phi), Adam([*theta, *phi])
    rng, draws = generator(5), generator(5)
    for _ in range(2):
        with undisturbed():
            terms = step(model, data, batch, rng)
        changed = twin.contrasts["contrast"].views.changed(batch.items, batch.lengths, draws)  # drawn once for all stages
        following, contrast = encoder_by_hand(twin, batch, changed, regulariser)
        torch.testing.assert_close(terms["next"], following)
        torch.testing.assert_close(terms["contrast"], contrast)
        if updates == "joint":
            every.move(following + contrast)
            continue
        encoder.move(following + contrast)
        loss = augmenters_by_hand(twin, changed, regulariser, updates)
        torch.testing.assert_close(terms["augmenters"], loss)
        augmenters.move(loss)
        if updates == "ABC":
            encoder.move(sum(encoder_by_hand(twin, batch, changed, regulariser)))
    assert torch.equal(rng.get_state(), draws.get_state())
    for (name, a), b in zip(model.named_parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-8, msg=name)


def test_dropout_is_drawn_anew_in_every_stage():
    config, model = built(dropout=0.5, updates="ABC")
    step, seen = mclrec.step(config, model), []
    model.encoder.norm.register_forward_hook(lambda module, args, out: None)
    model.encoder.blocks[0].register_forward_hook(lambda module, args, out: seen.append(args[0].detach().clone()))
    step(model, histories(), prefix_batch(), generator())
    kept = [x == 0 for x in seen]  # the five passes: main and changed of A, changed of B, main and changed of C
    assert len(kept) == 5
    assert not torch.equal(kept[0], kept[3])
    assert not torch.equal(kept[1], kept[2])
    assert not torch.equal(kept[2], kept[4])


def test_a_resumed_step_goes_on_as_if_uninterrupted():
    config, model = built(updates="ABC", dropout=0.2)
    data, batch, step = histories(), prefix_batch(), mclrec.step(config, model)
    assert isinstance(step, Alternating)
    step(model, data, batch, generator(1))
    config, other = built(updates="ABC", dropout=0.2)
    other.load_state_dict(model.state_dict())
    again = mclrec.step(config, other)
    again.load_state_dict(copy.deepcopy(step.state_dict()))
    step(model, data, batch, generator(2))
    again(other, data, batch, generator(2))
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), other.parameters(), strict=True))


def test_data_and_batch_are_not_written():
    config, model = built(dropout=0.2)
    data, batch = histories(), prefix_batch()
    before = [t.clone() for t in (data.items, data.pointers, *vars(batch).values())]
    step = mclrec.step(config, model)
    for seed in range(10):
        step(model, data, batch, generator(seed))
    assert all(map(torch.equal, before, (data.items, data.pointers, *vars(batch).values())))


def test_the_whole_loss_is_the_joint_one():
    config, model = built(updates="joint")
    assert isinstance(mclrec.step(config, model), PlainStep)
    assert isinstance(model.contrasts["contrast"], MetaContrast)
    terms = model.losses(histories(), prefix_batch(), generator(3))
    changed = model.contrasts["contrast"].views.changed(prefix_batch().items, prefix_batch().lengths, generator(3))
    following, contrast = encoder_by_hand(model, prefix_batch(), changed, "row")
    torch.testing.assert_close(terms, {"next": following, "contrast": contrast})


def test_presets_are_the_papers():
    assert mclrec.PRESETS["sequential/mclrec_Amazon_Beauty"] == {"weight": 0.0, "augmented_weight": 0.05}
    for preset in mclrec.PRESETS.values():
        assert mclrec.Config(**preset).batch_size == 256


def test_the_temperature_is_the_setting():
    _, model = built(updates="joint", temperature=0.5)
    contrast = model.contrasts["contrast"]
    x, y = torch.randn(2, 5, 8, dtype=torch.float64, generator=generator(1))
    a, b = contrast.augment(x, y)
    near = sum(slow_ntxent(*pair, 0.5, False) for pair in ((a, b), (x, b), (y, a)))
    torch.testing.assert_close(contrast.augmented(x, y)[0], near)
