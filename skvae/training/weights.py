"""Rows that count more than others, and the steps that fit into a time."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from skvae.training.callbacks import Callback
from skvae.training.config import TrainingConfig
from skvae.training.data import Batch, Data, steps_per_epoch
from skvae.training.loop import train

# Steps that are made, and steps that are timed, to learn how long one takes.
WARMING_STEPS, TIMED_STEPS = 3, 20
# Share of a time budget that steps are planned for; the rest is for what they do not cover.
PLANNED_SHARE = 0.93


class WeightedRows:
    """Batches in which a row stands as often as its weight says.

    A pass has as many rows as there are. Row i stands in it floor(w_i) or ceil(w_i) times, w_i
    being its weight over the mean weight, and w_i times on average (systematic resampling, drawn
    anew for each pass).

    Parameters
    ----------
    rows : tuple of Tensor of shape (n_rows, ...)
        The rows.
    weights : Tensor of shape (n_rows,)
        Not negative, and not all zero.
    batch_size : int
        Rows in a batch.
    generator : torch.Generator
        Source of the draws, on the device of the rows.

    Examples
    --------
    >>> import torch
    >>> from skvae.training import WeightedRows
    >>> rows, weights = torch.arange(4), torch.tensor([0.0, 1.0, 1.0, 2.0])
    >>> batches = WeightedRows((rows,), weights, 4, torch.Generator().manual_seed(0))
    >>> sorted(next(iter(batches))[0].tolist())
    [1, 2, 3, 3]
    """

    def __init__(
        self,
        rows: tuple[Tensor, ...],
        weights: Tensor,
        batch_size: int,
        generator: torch.Generator,
    ) -> None:
        self.rows, self.generator = rows, generator
        self.dataset = rows[0]  # tells how many rows a pass has
        self.batch_size = min(batch_size, len(rows[0]))
        cumulative = weights.double().cumsum(0)
        self.places = cumulative * (len(weights) / cumulative[-1])

    def __len__(self) -> int:
        return steps_per_epoch(len(self.dataset), self.batch_size)

    def draw(self) -> Tensor:
        """Return the rows of a pass, by their numbers, in their order."""
        device = self.places.device
        shift = torch.rand((), generator=self.generator, device=device, dtype=torch.float64)
        points = torch.arange(len(self.places), device=device, dtype=torch.float64) + shift
        # The last point may round to the very end.
        return torch.searchsorted(self.places, points, right=True).clamp(max=len(points) - 1)

    def __iter__(self) -> Iterator[Batch]:
        index = self.draw()
        order = torch.randperm(len(index), generator=self.generator, device=index.device)
        for start in range(0, len(self) * self.batch_size, self.batch_size):
            chosen = index[order[start : start + self.batch_size]]
            yield tuple(part[chosen] for part in self.rows)


class TimeBudget(Callback):
    """End a fit at the step in which its time runs out, its learning rate run down by then.

    Parameters
    ----------
    seconds : float
        From the beginning of the training.

    Examples
    --------
    >>> from skvae.training import TimeBudget
    >>> budget = TimeBudget(60.0)
    >>> budget.on_fit_begin(None, n_epochs=20)
    >>> budget.progress() < 0.1
    True
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._start = time.perf_counter()

    def on_fit_begin(self, model: nn.Module, n_epochs: int) -> None:
        """Start the clock."""
        self._start = time.perf_counter()

    def progress(self) -> float:
        """Look at the clock."""
        elapsed = time.perf_counter() - self._start
        return elapsed / self.seconds if self.seconds > 0 else 1.0


class LastWeights(Callback):
    """Keep the weights of the last step, where the model comes out with averages of them.

    Attributes
    ----------
    weights : dict of str to Tensor
        Parameters and buffers of the model after its last epoch.
    """

    def __init__(self) -> None:
        self.weights: dict[str, Tensor] = {}

    def on_state(self, epoch: int, state: Callable[[], dict[str, Any]]) -> None:
        """Copy the weights."""
        self.weights = {name: tensor.clone() for name, tensor in state()["weights"].items()}


def steps_within(
    model: nn.Module, data: Data, config: TrainingConfig, seconds: float, **options: Any
) -> int:
    """Return how many steps of training fit into a time, at least 1.

    Measured on a copy of the model, which takes part of the time.

    Parameters
    ----------
    model, data, config
        As for ``train``.
    seconds : float
        The time, the measurement included.
    **options
        More arguments of ``train``.
    """
    start = time.perf_counter()
    trial = copy.deepcopy(model)
    took: list[float] = []
    for n_steps in (WARMING_STEPS, TIMED_STEPS):
        # The first steps are slow, and are no measure unless there is time for no others.
        if took and (time.perf_counter() - start) * n_steps / WARMING_STEPS > seconds / 4:
            break
        begin = time.perf_counter()
        train(trial, data, replace(config, max_steps=n_steps, n_iter_no_change=None), **options)
        took.append((time.perf_counter() - begin) / n_steps)
    left = seconds - (time.perf_counter() - start)
    return max(1, int(PLANNED_SHARE * left / took[-1]))
