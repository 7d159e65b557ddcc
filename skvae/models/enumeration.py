"""How probable each code of a cell is, given the other cells of its row."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from skvae.models.autoregressive_tvae import AutoregressiveTVAE
from skvae.models.core import LOG_2PI, log_density_gaussian
from skvae.models.factorized_tvae import FactorizedTVAE
from skvae.models.given import ColumnReader
from skvae.models.tabular import DECODE_ROWS, TabularVAE


@torch.no_grad()
def propose_latents(
    model: TabularVAE,
    codes: Tensor,
    places: Tensor,
    counts: Sequence[Tensor],
    n_latents: int,
    generator: torch.Generator | None = None,
) -> tuple[Tensor, Tensor]:
    """Draw latents for rows of which some cells are known, with their importance weights.

    Each latent is drawn from the prior or, as often, from the posterior that the encoder gives
    when a cell that is not known enters as the mean of its column. With the prior in the mixture
    no weight is above 2 (Owen and Zhou, "Safe and Effective Importance Sampling", 2000).

    Parameters
    ----------
    model : TabularVAE
        The model.
    codes : int64 Tensor of shape (n_rows, n_columns)
        Codes, -1 where a cell is not known.
    places : float32 Tensor of shape (n_rows, n_columns)
        Places of the known cells.
    counts : sequence of float Tensor of shape (n_codes,)
        Training rows behind each code of each column.
    n_latents : int
        Latents for each row.
    generator : torch.Generator or None
        Source of the randomness.

    Returns
    -------
    z : Tensor of shape (n_rows * n_latents, latent_dim)
        Row after row.
    log_weight : Tensor of shape (n_rows * n_latents,)
        Log density of the prior less that of the proposal.
    """
    mu, log_var = _partial_posterior(model, codes, places, counts)
    mu, log_var = mu.repeat_interleave(n_latents, 0), log_var.repeat_interleave(n_latents, 0)
    noise = torch.randn(mu.shape, dtype=mu.dtype, device=mu.device, generator=generator)
    of_prior = torch.arange(len(mu), device=mu.device) % n_latents % 2 == 0
    z = torch.where(of_prior[:, None], noise, mu + torch.exp(0.5 * log_var) * noise)
    log_prior = (-0.5 * (z.square() + LOG_2PI)).sum(1)
    log_posterior = log_density_gaussian(z, mu, log_var).sum(1)
    share = (n_latents + 1) // 2 / n_latents
    if share == 1.0:
        return z, torch.zeros_like(log_prior)
    mixture = torch.logaddexp(log_prior + math.log(share), log_posterior + math.log(1 - share))
    return z, log_prior - mixture


def _partial_posterior(
    model: TabularVAE, codes: Tensor, places: Tensor, counts: Sequence[Tensor]
) -> tuple[Tensor, Tensor]:
    """Return mean and log variance of q(z | x) with the mean vector for each unknown cell."""
    if isinstance(model, AutoregressiveTVAE):
        table = model.encoder_table()
    else:
        assert isinstance(model, FactorizedTVAE)
        table = model.input_table
    means = []
    for column, count in enumerate(counts):
        first = int(model.offsets[column])
        share = count.to(table) / count.sum()
        means.append(share @ table[first : first + model.cardinalities[column]])
    stand_in = len(table) + torch.arange(model.n_columns, device=codes.device)
    flat = torch.where(codes >= 0, codes + model.offsets, stand_in)
    cells = F.embedding_bag(flat, torch.cat([table, torch.stack(means)]), mode="sum")
    if isinstance(model, AutoregressiveTVAE):
        return model.posterior(model.trunk(F.silu(cells)))
    known = torch.where(codes >= 0, places, 0.0)[:, model.place_columns]
    features = model.encoder(F.relu(cells + model.input_bias + known @ model.place_weight))
    return model.mu(features), model.log_var(features)


@torch.no_grad()
def code_log_proba(
    model: TabularVAE,
    codes: Tensor,
    places: Tensor,
    column: int,
    counts: Sequence[Tensor],
    *,
    n_latents: int = 32,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Return log p(x_column = k | the cells that are known) for each code k.

    The joint p(x, z) of each code is averaged over latents with importance weights, the same
    latents for all codes. An ``AutoregressiveTVAE`` of one order needs all other cells known.

    Parameters
    ----------
    model : TabularVAE
        The model.
    codes, places : Tensor of shape (n_rows, n_columns)
        Cells, -1 among the codes where one is not known; what ``column`` holds is not looked at.
    column : int
        The column asked for.
    counts : sequence of float Tensor of shape (n_codes,)
        Training rows behind each code of each column.
    n_latents : int, default=32
        Latents for each row.
    generator : torch.Generator or None
        Source of the randomness.

    Returns
    -------
    Tensor of shape (n_rows, n_codes)
    """
    codes = codes.clone()
    codes[:, column] = -1
    z, log_weight = propose_latents(model, codes, places, counts, n_latents, generator)
    many = codes.repeat_interleave(n_latents, 0)
    if isinstance(model, AutoregressiveTVAE):
        log_joint = _log_joint(model, z, many, column)
    else:
        log_joint = _log_joint_factorized(model, z, many, places, n_latents, column)
    log_joint = (log_joint + log_weight[:, None]).view(len(codes), n_latents, -1).logsumexp(1)
    return log_joint.log_softmax(1)


def _log_joint(model: AutoregressiveTVAE, z: Tensor, codes: Tensor, column: int) -> Tensor:
    """Return log p(known cells, x_column = k | z) up to a constant, of shape (n, n_codes)."""
    reader = ColumnReader(model, 1.0)
    flat = torch.where(codes >= 0, codes + model.offsets, model.layout.size)[:, model.sequence]
    place = model.sequence.index(column)
    before = (
        [c for c in model.sequence if c != column] if model.any_order else model.sequence[:place]
    )
    after = [] if model.any_order else model.sequence[place + 1 :]
    visible = torch.full_like(flat, model.layout.size)
    total = z.new_zeros(len(z))
    for other in before:
        total += _log_prob(reader.logits(other, z, visible), codes[:, other])
        visible[:, model.sequence.index(other)] = flat[:, model.sequence.index(other)]
    log_joint = reader.logits(column, z, visible).log_softmax(1) + total[:, None]
    n_codes = log_joint.shape[1]
    first = int(model.offsets[column])
    candidates = slice(first, first + n_codes)
    flat[:, place] = model.layout.size
    step = max(1, DECODE_ROWS // n_codes)
    for other in after:
        network = reader.network(other)
        seen = flat[:, : model.sequence.index(other)]
        for start in range(0, len(z), step):
            rows = slice(start, start + step)
            h = network.first_layer(z[rows], seen[rows])[:, None] + network.added[candidates]
            target = codes[rows, other].repeat_interleave(n_codes)
            gain = _log_prob(network.logits_of(h.flatten(0, 1)), target)
            log_joint[rows] += gain.view(-1, n_codes)
    return log_joint


def _log_prob(logits: Tensor, codes: Tensor) -> Tensor:
    """Return the log probability of each code, 0 where it is not known, of shape (n,)."""
    chosen = logits.gather(1, codes.clamp(min=0)[:, None]).squeeze(1)
    return torch.where(codes >= 0, chosen - logits.logsumexp(1), 0.0)


def _log_joint_factorized(
    model: TabularVAE, z: Tensor, codes: Tensor, places: Tensor, n_latents: int, column: int
) -> Tensor:
    """Return log p(known cells, x_column = k | z), of shape (n, n_codes)."""
    assert isinstance(model, FactorizedTVAE)
    logits, means = model.decode(z)
    segments = logits.split(model.cardinalities, dim=1)
    total = z.new_zeros(len(z))
    for other, scores in enumerate(segments):
        total += _log_prob(scores, codes[:, other])
    if means is not None:
        at = places.repeat_interleave(n_latents, 0)[:, model.place_columns]
        density = log_density_gaussian(at, means, 2 * model.sigma.log())
        code = codes[:, model.place_columns]
        total = total + (density * ((code >= 0) & (code < model.place_modes))).sum(1)
    return segments[column].log_softmax(1) + total[:, None]
