"""Rows to what a model says of them and latents to rows, a chunk at a time."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from skvae.models import BaseAutoencoder
from skvae.models.noise import SharedNoise
from skvae.models.vae import log_mean_exp
from skvae.rows import RowFormat
from skvae.training import isolated_torch_seed

# Rows encoded or decoded at a time: what passes between layers stays in the cache.
CHUNK_ROWS = 1024
# Numbers in a network's layers for the latents that are scored at a time, roughly.
SCORE_NUMBERS = 2**23


def over_rows(
    function: Callable[[Tensor], Tensor],
    rows: np.ndarray,
    row_format: RowFormat,
    model: BaseAutoencoder,
    chunk: int = CHUNK_ROWS,
) -> np.ndarray:
    """Apply a function of float64 batches, on the model's device, to all rows."""
    device = next(model.parameters()).device
    parts = []
    with torch.no_grad():
        for start in range(0, len(rows), chunk):
            x = row_format.to_tensor(rows[start : start + chunk], torch.float64).to(device)
            parts.append(function(x).cpu().numpy())
    return np.concatenate(parts)


def log_density_bound(
    rows: np.ndarray, row_format: RowFormat, model: BaseAutoencoder, n_draws: int
) -> np.ndarray:
    """Return the bound on the log density of each row, in nats and in the units of the data.

    ``n_draws`` latents are drawn a row.
    """

    def bound(x: Tensor) -> Tensor:
        # The same noise for each chunk, and for each row of it.
        with isolated_torch_seed(0, x.device), SharedNoise(len(x)):
            return log_mean_exp(model.log_weights(x, n_draws), 1)

    n_latents = SCORE_NUMBERS // max(512, 16 * rows.shape[1])
    scores = over_rows(bound, rows, row_format, model, max(1, n_latents // n_draws))
    return scores - row_format.log_measure


def ways_between(
    Z0: np.ndarray, Z1: np.ndarray, model: BaseAutoencoder, n_steps: int
) -> np.ndarray:
    """Return latents on the way from each row of ``Z0`` to that of ``Z1``.

    Their shape is (n_rows, n_steps, latent_dim).
    """
    device = next(model.parameters()).device
    ends = [torch.from_numpy(Z).to(device) for Z in (Z0, Z1)]
    times = np.linspace(0, 1, n_steps)
    with torch.no_grad():
        ways = [model.interpolate_latents(*ends, float(t)).cpu().numpy() for t in times]
    return np.stack(ways, axis=1)


def decode(
    Z: np.ndarray,
    codes: Tensor | None,
    row_format: RowFormat,
    model: BaseAutoencoder,
    noise_seed: int | None = None,
) -> np.ndarray:
    """Return rows for latents, flat and in the units of the data.

    Parameters
    ----------
    Z : ndarray of shape (n_rows, latent_dim)
        Latents.
    codes : int64 Tensor of shape (n_rows,) or None
        Positions of labels among the classes, for conditional models.
    row_format : RowFormat
        Of the fit.
    model : BaseAutoencoder
        Decodes in the type of its weights.
    noise_seed : int, optional
        Seeds a draw from p(x | z); without it rows are its mean.
    """
    parameter = next(model.parameters())
    codes = None if codes is None else codes.to(parameter.device)
    out = np.empty((len(Z), len(row_format.mean_)), row_format.dtype)
    one_chunk = model.decode_mean if noise_seed is None else model.decode_draw
    with torch.no_grad(), isolated_torch_seed(noise_seed or 0, parameter.device):
        for start in range(0, len(Z), CHUNK_ROWS):
            part = slice(start, start + CHUNK_ROWS)
            z = torch.from_numpy(np.ascontiguousarray(Z[part])).to(parameter)
            labels = () if codes is None else (codes[part],)
            row_format.to_rows(one_chunk(z, *labels), out[part])
    return out
