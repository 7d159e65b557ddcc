"""Missing cells of a fitted model as frequent as those of the table.

What a column's network learns is off by a little, and what it sees in a sample are drawn cells and
not those of the table: the missing rates of a sample come out off by as much as a sample of 20,000
rows varies. One number a column, added to the logit of the missing cell, makes up for it.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from skvae.models import AutoregressiveTVAE
from skvae.models.autoregressive_tvae import ColumnNetwork
from skvae.models.code_tables import draw_codes
from skvae.models.tabular import DECODE_ROWS
from skvae.samplers import NormalSampler
from skvae.tabular import TabularTransformer

# Rows drawn to measure the rates, powers of two for the sequence; fewer beyond so many cells.
N_MEASURED, LEAST_MEASURED, N_CELLS = 2**14, 2**12, 2**20
# Greatest shift of a logit: where a cell is missing whenever another is, no shift is right.
MAX_SHIFT = 0.5
# Newton steps to find it.
N_STEPS = 30


def missing_codes(transformer: TabularTransformer) -> dict[int, int]:
    """Return the code of the missing cell in each column that has one and others."""
    found = {}
    for position, encoder in enumerate(transformer.encoders_):
        if encoder.has_missing_ and encoder.n_codes_ > 1:
            split = transformer.splits_.get(position)
            found[position] = encoder.n_codes_ - 1 if split is None else int(split.rank_[-1])
    return found


@torch.no_grad()
def hold_missing_rates(
    model: AutoregressiveTVAE, sampler, transformer: TabularTransformer, seed: int
) -> None:
    """Shift the biases of missing cells, in place, so that their rates are those of the table.

    Column after column, as they are decoded: each sees those before it with their rates held.

    Parameters
    ----------
    model : AutoregressiveTVAE
        Trained.
    sampler : sampler
        The fitted density of the latent.
    transformer : TabularTransformer
        Its code counts say what the rates are to be.
    seed : int
        Seeds the rows that are drawn.
    """
    codes = missing_codes(transformer)
    if not codes:
        return
    device = next(model.parameters()).device
    generator = torch.Generator(device).manual_seed(seed)
    last = max(model.sequence.index(column) for column in codes)
    most = 2 ** int(np.log2(N_CELLS / (last + 1)))
    n_rows = min(max(most, LEAST_MEASURED), N_MEASURED)
    z = _latents(n_rows, model.latent_dim, sampler, seed).to(device)
    flat = torch.empty(len(z), model.n_columns, dtype=torch.int64, device=z.device)
    vectors, heads = model.input_table(), model.head_table()
    for place, column in enumerate(model.sequence[: last + 1]):
        network = ColumnNetwork(model, column, vectors, heads)
        drawn, log_odds = flat[:, place], torch.empty(len(z), device=z.device)
        code = codes.get(column)
        for start in range(0, len(z), DECODE_ROWS):
            rows = slice(start, start + DECODE_ROWS)
            logits = network.logits(z[rows], flat[rows, :place])
            if code is not None:
                of_missing = logits[:, code].clone()
                logits[:, code] = -torch.inf
                log_odds[rows] = of_missing - logits.logsumexp(1)
            drawn[rows] = draw_codes(logits, generator)
        if code is not None:
            counts = np.asarray(transformer.code_counts_[column], float)
            shift = _shift_to(counts[code] / counts.sum(), log_odds.double())
            _add_to_bias(model, column, code, shift)
            drawn[_spread(torch.sigmoid(log_odds.double() + shift), generator)] = code
        drawn += model.offsets[column]


def _latents(n_rows: int, latent_dim: int, sampler, seed: int) -> Tensor:
    """Draw latents; normal ones evenly, by a Sobol sequence: their rates vary less by chance."""
    if not isinstance(sampler, NormalSampler):
        Z = sampler.sample(n_rows, random_state=seed)
        return torch.from_numpy(np.ascontiguousarray(Z, dtype=np.float32))
    sobol = torch.quasirandom.SobolEngine(latent_dim, scramble=True, seed=seed)
    return torch.special.ndtri(sobol.draw(n_rows, dtype=torch.float32).clamp(1e-6, 1 - 1e-6))


def _shift_to(rate: float, log_odds: Tensor) -> float:
    """Return what, added to log odds, makes probabilities of that mean; within bounds."""
    shift = 0.0
    for _ in range(N_STEPS):
        proba = torch.sigmoid(log_odds + shift)
        slope = float((proba * (1 - proba)).mean())
        step = (rate - float(proba.mean())) / max(slope, 1e-9)
        shift = float(np.clip(shift + step, -MAX_SHIFT, MAX_SHIFT))
    return shift


def _add_to_bias(model: AutoregressiveTVAE, column: int, code: int, shift: float) -> None:
    for rank, bucket in enumerate(model.layout.buckets):
        if column in bucket.columns:
            bias = model.heads.get_parameter(f"block{rank}_bias")
            bias[bucket.columns.index(column), code] += shift


def _spread(proba: Tensor, generator: torch.Generator) -> Tensor:
    """Draw flags by their probabilities, as many as these sum up to (systematic sampling)."""
    shift = torch.rand((), generator=generator, dtype=proba.dtype, device=proba.device)
    counted = torch.floor(proba.cumsum(0) + shift)
    return torch.diff(counted, prepend=counted.new_zeros(1)) > 0
