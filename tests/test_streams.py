"""Named generators."""

import copy

import torch

from graphcl.streams import Streams, borrowed
from graphcl.testing import undisturbed


def draw(rng: torch.Generator, n: int = 4) -> list[float]:
    return torch.rand(n, generator=rng).tolist()


def test_a_stream_is_a_function_of_seed_and_name():
    assert draw(Streams(3)["negatives"]) == draw(Streams(3)["negatives"])
    different = [
        draw(Streams(seed)[name]) for seed, name in ((3, "negatives"), (3, "views"), (4, "negatives"), (-3, "negatives"))
    ]
    assert len({tuple(d) for d in different}) == 4


def test_a_new_consumer_moves_nobody_elses_numbers():
    alone, shared = Streams(0), Streams(0)
    first = draw(alone["batches"]), draw(alone["batches"])
    _ = draw(shared["views"], 100)
    one = draw(shared["batches"])
    _ = draw(shared["a new part"], 7)
    assert (one, draw(shared["batches"])) == first


def test_a_stream_goes_on_where_it_was():
    streams = Streams(0)
    assert streams["views"] is streams["views"]
    assert draw(streams["views"]) != draw(streams["views"])


def test_seed_and_name_are_kept_apart():
    """ "1" + "1/x" and "11" + "/x" would be the same text without a separator."""
    assert draw(Streams(1)["1/x"]) != draw(Streams(11)["x"])


def test_state_restores_every_stream():
    streams = Streams(5)
    _ = draw(streams["a"]), draw(streams["b"], 3)
    state = copy.deepcopy(streams.state_dict())
    assert set(state) == {"a", "b"}
    assert all(value.dtype == torch.uint8 for value in state.values())
    expected = [draw(streams[name]) for name in ("a", "b", "c")]
    fresh = Streams(5)
    fresh.load_state_dict(state)
    assert [draw(fresh[name]) for name in ("a", "b", "c")] == expected


def test_state_takes_back_streams_that_it_does_not_know():
    """A stream first used after the state was taken starts anew with it; it once went on where it was."""
    streams = Streams(5)
    state = streams.state_dict()
    first = draw(streams["late"])
    streams.load_state_dict(state)
    assert draw(streams["late"]) == first


def test_borrowed_lends_the_global_generator():
    def run(seed: int) -> torch.Tensor:
        rng = torch.Generator().manual_seed(seed)
        with undisturbed(), borrowed(rng):
            return torch.cat([torch.nn.functional.dropout(torch.ones(50)), torch.rand(3)])

    assert torch.equal(run(1), run(1))
    assert not torch.equal(run(1), run(2))


def test_borrowing_twice_draws_anew_and_moves_the_lender_by_one_draw():
    rng, twin = torch.Generator().manual_seed(0), torch.Generator().manual_seed(0)
    with borrowed(rng):
        first = torch.rand(1000)
    with borrowed(rng):
        assert not torch.equal(first, torch.rand(1000))
    with borrowed(twin), borrowed(twin):
        pass
    assert torch.equal(rng.get_state(), twin.get_state())


def test_the_global_generator_is_given_back_after_an_error():
    with undisturbed():
        try:
            with borrowed(torch.Generator()):
                torch.rand(3)
                raise KeyError
        except KeyError:
            pass
