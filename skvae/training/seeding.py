"""torch's default generators, lent to a run and given back."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


class isolated_torch_seed:
    """Lend torch's default generators to a block of code, and give them back as they were.

    Parameters
    ----------
    seed : int or None
        Seeds them within the block; None lets them go on from the user's state, which the block
        does not move all the same.
    device : torch.device, optional
        Where the block computes: beside the CPU's generator, that of this CUDA device.

    Examples
    --------
    >>> import torch
    >>> from skvae.training.seeding import isolated_torch_seed
    >>> before = torch.get_rng_state()
    >>> with isolated_torch_seed(seed=0):
    ...     first = torch.rand(2)
    >>> torch.equal(torch.get_rng_state(), before)
    True
    """

    def __init__(self, seed: int | None, device: torch.device | None = None) -> None:
        self.seed = seed
        self._generators = _default_generators(device)
        self.states: list[torch.Tensor] = []  # those of whoever is out of turn

    def __enter__(self) -> isolated_torch_seed:
        self.states = [generator.get_state() for generator in self._generators]
        if self.seed is not None:
            for generator in self._generators:
                generator.manual_seed(self.seed)
        return self

    def __exit__(self, *error: object) -> None:
        self._swap()

    @contextmanager
    def suspended(self) -> Iterator[None]:
        """Give the user's generators back within the block."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    def go_on_from(self, states: list[torch.Tensor]) -> None:
        """Set the block's generators, as ``states`` had them when the block was suspended."""
        for generator, state in zip(self._generators, states, strict=True):
            generator.set_state(state)

    def _swap(self) -> None:
        parked = self.states
        self.states = [generator.get_state() for generator in self._generators]
        self.go_on_from(parked)


def draw_seed(generator: torch.Generator | None = None) -> int:
    """Draw a seed from a generator, by default torch's of the CPU."""
    device = None if generator is None else generator.device
    return int(torch.randint(2**62, (), generator=generator, device=device))


def generator_on(device: torch.device, generator: torch.Generator | None) -> torch.Generator:
    """Return the generator, or one seeded by it where it is of another device."""
    if generator is not None and torch.empty(0, device=generator.device).device == device:
        return generator
    return torch.Generator(device).manual_seed(draw_seed(generator))


def _default_generators(device: torch.device | None) -> list[torch.Generator]:
    generators = [torch.default_generator]
    if device is not None and device.type == "cuda":
        index = torch.cuda.current_device() if device.index is None else device.index
        generators.append(torch.cuda.default_generators[index])
    return generators
