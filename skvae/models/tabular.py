"""What the autoencoders of tables share.

A batch is ``(codes, places)``: the mode of each cell, int64 of shape (batch, n_columns), and the
place within it, float32 of the same shape (the autoregressive model needs none).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from skvae.models.core import GaussianVAE

# Rows decoded at a time: few enough for the cache, and enough to outweigh the calls.
DECODE_ROWS = 8192


class TabularVAE(GaussianVAE):
    """What the two models of tables share: the columns' codes, and drawing them.

    Parameters
    ----------
    cardinalities : sequence of int
        Number of codes of each column.
    latent_dim : int
        Size of the latent.
    """

    offsets: Tensor  # where each column's codes begin among all

    def __init__(self, cardinalities: Sequence[int], latent_dim: int) -> None:
        super().__init__(latent_dim)
        self.cardinalities = [int(cardinality) for cardinality in cardinalities]

    @property
    def n_columns(self) -> int:
        """Number of columns."""
        return len(self.cardinalities)

    def log_density(self, x: tuple[Tensor, ...], params: Any) -> Tensor:
        """Return log p(x | z) for scoring, of shape (batch,); the likelihood by default."""
        return self.log_likelihood(x, params)

    def sample_columns(
        self,
        z: Tensor,
        *,
        generator: torch.Generator | None = None,
        argmax: bool = False,
        centre: bool = False,
        temperature: float = 1.0,
    ) -> tuple[Tensor, Tensor]:
        """Draw rows from p(x | z).

        Parameters
        ----------
        z : Tensor of shape (n_rows, latent_dim)
            Latents.
        generator : torch.Generator, optional
            Source of the randomness.
        argmax : bool, default=False
            Whether to take the most probable mode of each cell instead of a draw.
        centre : bool, default=False
            Whether to take the middle of each place's distribution instead of a draw.
        temperature : float, default=1.0
            Divides the logits of the modes.

        Returns
        -------
        codes : int64 Tensor of shape (n_rows, n_columns)
        places : float32 Tensor of shape (n_rows, n_columns)
        """
        raise NotImplementedError
