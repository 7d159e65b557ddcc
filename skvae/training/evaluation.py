"""The loss on rows that are not trained on."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import torch

from skvae.models.core import StepContext
from skvae.training.data import Data, Source, as_source
from skvae.training.seeding import isolated_torch_seed


def evaluate(model: Any, data: Data, *, beta: float = 1.0, batch_size: int = 4096) -> float:
    """Mean loss over rows, one latent a row, the same noise at each call.

    Parameters
    ----------
    model : Module
        As for ``train``; left in eval mode.
    data : tuple of Tensor, Dataset, or iterable of batches
        The rows, as for ``train``.
    beta : float, default=1
        Weight of the divergence.
    batch_size : int, default=4096
        Rows at a time; data that comes in batches keeps its own.

    Returns
    -------
    float
        In nats a row, without free nats.
    """
    return evaluate_terms(model, as_source(data, model), beta=beta, batch_size=batch_size)["loss"]


@torch.no_grad()
def evaluate_terms(
    model: Any, source: Source, *, beta: float = 1.0, batch_size: int = 4096
) -> dict[str, float]:
    """Return the means over rows of the ``loss`` and of each of its terms; see ``evaluate``."""
    model.eval()
    generator = torch.Generator(source.device).manual_seed(0)
    sums: defaultdict[str, float] = defaultdict(float)
    n_rows = 0
    with isolated_torch_seed(0, source.device):
        for batch in source.in_order(batch_size):
            n_rows += len(batch[0])
            # The schedules of a model are at their ends.
            context = StepContext(step=1, n_rows=source.n_rows, beta=beta, generator=generator)
            loss = model.training_loss(batch, context)
            for name, value in {"loss": loss.objective, **loss.diagnostics}.items():
                sums[name] += value.item() * len(batch[0])
    return {name: value / n_rows for name, value in sums.items()}
