"""The loss on rows that are not trained on."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import torch
from torch import Tensor

from skvae.models.core import StepContext
from skvae.training.seeding import isolated_torch_seed

Batch = tuple[Tensor, ...]


def evaluate(model: Any, data: Batch, *, beta: float = 1.0, batch_size: int = 4096) -> float:
    """Mean loss over rows, one latent a row, the same noise at each call.

    Parameters
    ----------
    model : Module
        As for ``train``; left in eval mode.
    data : tuple of Tensor of shape (n_rows, ...)
        The rows.
    beta : float, default=1
        Weight of the divergence.
    batch_size : int, default=4096
        Rows at a time.

    Returns
    -------
    float
        In nats a row, without free nats.
    """
    return evaluate_terms(model, data, beta=beta, batch_size=batch_size)["loss"]


@torch.no_grad()
def evaluate_terms(
    model: Any, data: Batch, *, beta: float = 1.0, batch_size: int = 4096
) -> dict[str, float]:
    """Return the means over rows of the ``loss`` and of each of its terms; see ``evaluate``."""
    model.eval()
    n_rows, device = len(data[0]), data[0].device
    generator = torch.Generator(device).manual_seed(0)
    # The schedules of a model are at their ends.
    context = StepContext(step=1, n_rows=n_rows, beta=beta, generator=generator)
    sums: defaultdict[str, float] = defaultdict(float)
    with isolated_torch_seed(0, device):
        for start in range(0, n_rows, batch_size):
            batch = tuple(tensor[start : start + batch_size] for tensor in data)
            loss = model.training_loss(batch, context)
            for name, value in {"loss": loss.objective, **loss.diagnostics}.items():
                sums[name] += value.item() * len(batch[0])
    return {name: value / n_rows for name, value in sums.items()}
