"""One seed, many named generators: a new consumer of randomness moves nobody else's."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor


class Streams:
    """``streams["batches"]`` is the generator of that name, made from the seed on first use."""

    def __init__(self, seed: int):
        self.seed = seed
        self._generators: dict[str, torch.Generator] = {}

    def __getitem__(self, name: str) -> torch.Generator:
        if name not in self._generators:
            self._generators[name] = torch.Generator().manual_seed(self._start(name))
        return self._generators[name]

    def _start(self, name: str) -> int:
        digest = hashlib.blake2b(f"{self.seed}/{name}".encode(), digest_size=8).digest()
        return int.from_bytes(digest, "little") >> 1

    def state_dict(self) -> dict[str, Tensor]:
        """The state of every stream used so far, uint8 tensors."""
        return {name: g.get_state() for name, g in self._generators.items()}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Every stream as it was; one that had not been used by then starts anew."""
        for name in self._generators.keys() - state.keys():
            self._generators[name].manual_seed(self._start(name))
        for name, value in state.items():
            self[name].set_state(value)


@contextmanager
def borrowed(rng: torch.Generator) -> Iterator[None]:
    """Runs code that draws from torch's global generator (dropout, SDPA) on ``rng`` instead; both are left consistent."""
    seed = int(torch.randint(0, 2**62, (), generator=rng))
    devices = list(range(torch.cuda.device_count())) if torch.cuda.is_initialized() else []
    with torch.random.fork_rng(devices=devices):
        torch.default_generator.manual_seed(seed)
        if devices:
            torch.cuda.manual_seed_all(seed)
        yield
