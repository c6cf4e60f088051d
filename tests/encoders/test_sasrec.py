"""SASRec against an encoder that is written out in loops over rows, heads and positions, in float64."""

import math

import pytest
import torch

from graphcl.encoders import SASRec
from graphcl.encoders.sasrec import ends
from graphcl.testing import undisturbed
from tests.histories import generator, padded

ITEMS = 9


def made(dtype=torch.float64, **options) -> SASRec:
    found = SASRec(ITEMS, 6, max_length=12, num_heads=2, inner=10, rng=generator(), **options).to(dtype)
    for number, parameter in enumerate(found.parameters()):  # norms and biases too, or their place is not tested
        parameter.data += torch.randn(parameter.shape, generator=generator(number), dtype=dtype) * 0.3
    return found


def norm(x, layer):
    mean = x.sum() / len(x)
    variance = ((x - mean) ** 2).sum() / len(x)
    return (x - mean) / (variance + 1e-12).sqrt() * layer.weight + layer.bias


def gelu(x):
    return x * (1 + torch.erf(x / math.sqrt(2))) / 2


def slow(encoder: SASRec, row: list[int], kept: float = 1.0) -> list[torch.Tensor]:
    """The states of one history; ``kept`` stands for every dropout but the attention's."""
    xs = [kept * norm(encoder.items[item] + encoder.positions[t], encoder.norm) for t, item in enumerate(row)]
    for block in encoder.blocks:
        dim = len(xs[0])
        width = dim // block.num_heads
        projected = [(block.qkv.weight @ x + block.qkv.bias).split(dim) for x in xs]
        after = []
        for t, x in enumerate(xs):
            heads = []
            for h in range(block.num_heads):
                span = slice(h * width, (h + 1) * width)
                scores = [projected[t][0][span] @ projected[s][1][span] / math.sqrt(width) for s in range(t + 1)]
                total = sum(score.exp() for score in scores)
                heads.append(sum(score.exp() / total * projected[s][2][span] for s, score in enumerate(scores)))
            a = norm(x + kept * (block.out.weight @ torch.cat(heads) + block.out.bias), block.attention_norm)
            inner = gelu(block.up.weight @ a + block.up.bias)
            after.append(norm(a + kept * (block.down.weight @ inner + block.down.bias), block.norm))
        xs = after
    return xs


ROWS = [[3, 1, 4, 1, 5], [2], [8, 9, 7], [0, 1, 2, 3, 4, 5, 6, 7, 8, 0, 3], [6, 6]]  # 9 masks; the longest leaves the first width


def test_dropout_is_of_the_embedding_and_of_what_each_sum_adds(monkeypatch):
    """By a dropout that multiplies alone."""
    monkeypatch.setattr("graphcl.encoders.sasrec.dropout", lambda x, share: (1 + share) * x)
    encoder = made(dropout=0.3, attention_dropout=0.0)
    found = encoder(*padded(ROWS, ITEMS), rng=generator())
    for row, states in zip(ROWS, found, strict=True):
        torch.testing.assert_close(states[: len(row)], torch.stack(slow(encoder, row, kept=1.3)), rtol=1e-10, atol=1e-12)


def test_values_and_gradients():
    encoder = made().eval()
    items, lengths = padded(ROWS, ITEMS)
    found = encoder(items, lengths)
    expected = [torch.stack(slow(encoder, row)) for row in ROWS]
    for row, states in enumerate(expected):
        torch.testing.assert_close(found[row, : len(states)], states, rtol=1e-10, atol=1e-12)
        assert (found[row, len(states) :] == 0).all()
    weights = [torch.randn(each.shape, generator=generator(7), dtype=torch.float64) for each in expected]
    slowly = torch.autograd.grad(sum((w * e).sum() for w, e in zip(weights, expected, strict=True)), list(encoder.parameters()))
    total = sum((w * found[row, : len(w)]).sum() for row, w in enumerate(weights))
    for (name, _), a, b in zip(
        encoder.named_parameters(), torch.autograd.grad(total, list(encoder.parameters())), slowly, strict=True
    ):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-11, msg=name)


def test_places_are_rows_of_the_whole():
    encoder = made().eval()
    items, lengths = padded(ROWS, ITEMS)
    whole = encoder(items, lengths).flatten(0, 1)
    places = torch.tensor([0, 3, 4, 11, 2 * 11 + 1, 3 * 11 + 10, 4 * 11])
    torch.testing.assert_close(encoder(items, lengths, places), whole[places])
    assert ends(items, lengths).tolist() == [4, 11, 24, 43, 45]
    torch.testing.assert_close(encoder.last(items, lengths), whole[[4, 11, 24, 43, 45]])


def test_what_comes_later_changes_nothing():
    encoder = made().eval()
    a, b = [1, 2, 3, 4, 5, 6], [1, 2, 3, 8, 0, 1]
    first, second = encoder(*padded([a], ITEMS)), encoder(*padded([b], ITEMS))
    torch.testing.assert_close(first[0, :3], second[0, :3], rtol=0, atol=0)
    assert (first[0, 3:] != second[0, 3:]).any(1).all()


def test_padding_changes_nothing():
    encoder = made().eval()
    rows = [[1, 2, 3], [4]]
    narrow, wide = encoder(*padded(rows, ITEMS)), encoder(*padded(rows, ITEMS, width=12))
    torch.testing.assert_close(wide[:, :3], narrow)
    items, lengths = padded(rows, ITEMS, width=12)
    items[1, 1:] = 5  # whatever fills the row
    assert torch.equal(encoder(items, lengths), wide)
    alone = encoder(*padded(rows[1:], ITEMS))
    torch.testing.assert_close(alone[0], narrow[1, :1])


def test_initial_weights_are_recboles():
    with undisturbed():
        encoder = SASRec(3000, 64, rng=generator())
    assert encoder.items.shape == (3001, 64)
    for name, parameter in encoder.named_parameters():
        if parameter.dim() == 2:
            assert float(parameter.detach().std()) == pytest.approx(0.02, rel=0.05), name
        else:
            assert (parameter == (0 if name.endswith("bias") else 1)).all(), name
    assert sum(p.numel() for p in encoder.parameters()) == 3001 * 64 + 50 * 64 + 2 * 49_984 + 128
    again = SASRec(3000, 64, rng=generator())
    assert all(torch.equal(a, b) for a, b in zip(encoder.parameters(), again.parameters(), strict=True))


def test_dropout_draws_from_rng_alone():
    encoder = made(torch.float32)
    items, lengths = padded(ROWS, ITEMS)
    with undisturbed():
        first, same, other = (encoder(items, lengths, rng=generator(seed)) for seed in (1, 1, 2))
    assert torch.equal(first, same)
    assert not torch.equal(first, other)
    assert not torch.equal(first, encoder.eval()(items, lengths))


def test_dropout_is_where_it_should_be():
    """With one item and dropout of attention alone, the state is scaled or not: attention is on the item itself."""
    encoder = made(dropout=0.0, attention_dropout=0.5, num_layers=1)
    items, lengths = padded([[1]] * 400, ITEMS)
    found = encoder(items, lengths, rng=generator())[:, 0]
    kinds = found.mul(1e6).round().unique(dim=0)
    assert len(kinds) == 4  # two heads, each kept and doubled, or dropped
    undropped = made(dropout=0.0, attention_dropout=0.0)
    torch.testing.assert_close(undropped(items, lengths), undropped.eval()(items, lengths))


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"num_heads": 4}, "multiple of num_heads"),
        ({"num_layers": 0}, "num_layers must be 1"),
        ({"dropout": 1.0}, "dropout must lie"),
        ({"attention_dropout": -0.1}, "attention_dropout must lie"),
    ],
)
def test_bad_settings(options, match):
    with pytest.raises(ValueError, match=match):
        SASRec(3, 6, **{"num_heads": 2, "rng": generator(), **options})


def test_histories_that_are_too_long():
    with pytest.raises(ValueError, match=r"at most 12 items are expected \(max_length\), got 13"):
        made()(*padded([[1] * 13], ITEMS))
