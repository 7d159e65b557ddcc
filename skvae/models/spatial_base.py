"""What the networks of tissue share: spots by index, two modalities, terms of a loss."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from skvae.models.checks import check_number
from skvae.models.core import BaseAutoencoder, LossResult
from skvae.models.triplets import draw_triplets, triplet_loss

# Blocks of features, and columns of labels, in their order.
MODALITIES = ("expression", "morphology")


class IndexedAutoencoder(BaseAutoencoder):
    """Base of autoencoders whose batches hold indices into a table of rows.

    The table is the model's while it learns or embeds: copies, pickles and state dictionaries
    leave it out.
    """

    rows: Tensor | None

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("rows", None, persistent=False)

    def hold(self, rows: Tensor | None) -> None:
        """Take the rows (n_rows, ...) that indices refer to; None lets go of them."""
        if rows is not None:
            rows = rows.to(next(self.parameters()))
        self.rows = rows

    def held_rows(self) -> Tensor:
        """Return the table, or raise ValueError where there is none."""
        if self.rows is None:
            raise ValueError("Indices were given without rows that they refer to: call hold(rows).")
        return self.rows

    def __getstate__(self) -> dict[str, Any]:
        """Return the state without the table."""
        return {**self.__dict__, "_buffers": {**self._buffers, "rows": None}}


def or_one(scale: Tensor) -> Tensor:
    """Return what to divide by: 1 where there is no spread."""
    return torch.where(scale > 0, scale, 1.0)


def check_weights(name: str, weights: tuple[float, float]) -> None:
    """Raise ValueError unless there are two numbers of at least 0."""
    if not isinstance(weights, (tuple, list)) or len(weights) != len(MODALITIES):
        raise ValueError(f"{name}={weights!r}, expected two numbers: {', '.join(MODALITIES)}.")
    for weight in weights:
        check_number(name, weight)


def triplet_terms(
    z: Tensor,
    labels: Tensor,
    weights: Sequence[float],
    *,
    margin: float,
    every_label: bool,
    n_repeats: int = 1,
) -> dict[str, tuple[float, Tensor]]:
    """Return weight and triplet loss of each modality whose weight is not 0, by their names.

    Parameters
    ----------
    z : Tensor of shape (batch, latent_dim)
        Latents of the batch.
    labels : Tensor of int, of shape (batch,) or (batch, 1 or 2)
        Labels.
    weights : sequence of two floats
        Of expression and morphology.
    margin, every_label, n_repeats
        As for ``triplet_loss`` and ``draw_triplets``.
    """
    columns = labels.unsqueeze(1) if labels.ndim == 1 else labels
    if columns.ndim != 2 or columns.shape[1] > len(MODALITIES):
        raise ValueError(
            f"Labels of shape {tuple(labels.shape)} were found, expected (batch,), or (batch, 2) "
            "with a column for expression and one for morphology."
        )
    terms: dict[str, tuple[float, Tensor]] = {}
    for name, weight, column in zip(MODALITIES, weights, columns.unbind(1), strict=False):
        if weight:
            triplets = draw_triplets(column, every_label=every_label, n_repeats=n_repeats)
            terms[f"triplet_{name}"] = weight, triplet_loss(z, triplets, margin=margin)
    return terms


def weighted_sum(terms: dict[str, tuple[float, Tensor]]) -> LossResult:
    """Return the sum of terms times their weights, with the plain terms as diagnostics."""
    total = torch.stack([weight * term for weight, term in terms.values()]).sum()
    return LossResult(total, {name: term.detach() for name, (_, term) in terms.items()})
