"""How probable each code of a cell is, given the other cells of its row."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from skvae.models.autoregressive_tvae import AutoregressiveTVAE
from skvae.models.code_tables import draw_codes
from skvae.models.core import LOG_2PI, log_density_gaussian
from skvae.models.factorized_tvae import FactorizedTVAE
from skvae.models.given import ColumnReader
from skvae.models.tabular import DECODE_ROWS, TabularVAE

# One pair of latents in so many is drawn from the prior, the others from the encoder.
PRIOR_EVERY = 4


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

    One pair in four is drawn from the prior, the others from the posterior that the encoder gives
    when a cell that is not known enters as the mean of its column. With the prior in the mixture
    no weight is above 4 (Owen and Zhou, "Safe and Effective Importance Sampling", 2000). The
    latents of a row lie in opposite pairs along directions at right angles, which leaves averages
    over them less to chance.

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
    noise = _paired_noise(mu, n_latents, generator)
    of_prior = torch.arange(n_latents, device=mu.device) // 2 % PRIOR_EVERY == 0
    mu, log_var = mu[:, None], log_var[:, None]
    z = torch.where(of_prior[:, None], noise, mu + torch.exp(0.5 * log_var) * noise)
    log_prior = (-0.5 * (z.square() + LOG_2PI)).sum(2).flatten()
    log_posterior = log_density_gaussian(z, mu, log_var).sum(2).flatten()
    z = z.flatten(0, 1)
    share = float(of_prior.float().mean())
    if share == 1.0:
        return z, torch.zeros_like(log_prior)
    mixture = torch.logaddexp(log_prior + math.log(share), log_posterior + math.log(1 - share))
    return z, log_prior - mixture


def _paired_noise(like: Tensor, n_draws: int, generator: torch.Generator | None) -> Tensor:
    """Draw noise of unit variance in opposite pairs along directions at right angles.

    Choromanski, Rowland, Chen and Weller, "Unifying Orthogonal Monte Carlo Methods", ICML 2019.

    Parameters
    ----------
    like : Tensor of shape (n_rows, dim)
        The noise takes its dtype and device.
    n_draws : int
        For each row. Beyond ``2 * dim`` of them, further directions are drawn.
    generator : torch.Generator or None
        Source of the randomness.

    Returns
    -------
    Tensor of shape (n_rows, n_draws, dim)
    """
    n_rows, dim = like.shape
    n_pairs = -(-n_draws // 2)
    n_frames, width = -(-n_pairs // dim), min(n_pairs, dim)
    frames = torch.randn(
        n_rows, n_frames, dim, width, dtype=like.dtype, device=like.device, generator=generator
    )
    directions, triangle = torch.linalg.qr(frames)
    signs = triangle.diagonal(dim1=2, dim2=3).sign()[:, :, None]  # those of the frames
    lengths = frames.norm(dim=2, keepdim=True)  # independent of the directions
    drawn = (directions * signs * lengths).transpose(2, 3).flatten(1, 2)[:, :n_pairs]
    return torch.stack([drawn, -drawn], 2).flatten(1, 2)[:, :n_draws]


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
    never: Mapping[int, Tensor] | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Return log p(x_column = k | the cells that are known) for each code k.

    The joint p(x, z) of each code is averaged over latents with importance weights, the same
    latents for all codes. Of other cells that are not known, an ``AutoregressiveTVAE`` of one order
    draws one for each latent (and each code, if they come later).

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
    never : mapping of int to bool Tensor of shape (n_codes,), optional
        Codes that cells which are not known do not take.
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
        log_joint = _ColumnEnumerator(model, column, never or {}, generator)(z, many)
    else:
        log_joint = _log_joint_factorized(model, z, many, places, n_latents, column)
    log_joint = (log_joint + log_weight[:, None]).view(len(codes), n_latents, -1).logsumexp(1)
    return log_joint.log_softmax(1)


class _ColumnEnumerator:
    """The joint probability of each code of a column with the known cells, given latents."""

    def __init__(
        self,
        model: AutoregressiveTVAE,
        column: int,
        never: Mapping[int, Tensor],
        generator: torch.Generator | None,
    ) -> None:
        self.model, self.column = model, column
        self.never, self.generator = never, generator
        self.reader = ColumnReader(model, 1.0)
        self.first = int(model.offsets[column])
        place = model.sequence.index(column)
        self.before = [c for c in model.sequence if c != column]
        self.after: list[int] = []
        if not model.any_order:
            self.before, self.after = model.sequence[:place], model.sequence[place + 1 :]

    def __call__(self, z: Tensor, codes: Tensor) -> Tensor:
        """Return log p(known cells, x_column = k | z) up to a constant, of shape (n, n_codes)."""
        seen = torch.full_like(codes, self.model.layout.size)
        total = z.new_zeros(len(z))
        for other in self.before:
            total += self._advance(other, z, codes[:, other], seen)
        log_joint = self.reader.logits(self.column, z, seen).log_softmax(1) + total[:, None]
        gaps = (codes[:, self.after] < 0).any(1)
        for rows, follow in (
            ((~gaps).nonzero().flatten(), self._follow_known),
            (gaps.nonzero().flatten(), self._follow_gaps),
        ):
            for part in rows.split(max(1, DECODE_ROWS // log_joint.shape[1])):
                log_joint[part] += follow(z[part], codes[part], seen[part], log_joint.shape[1])
        return log_joint

    def _advance(self, column: int, z: Tensor, known: Tensor, seen: Tensor) -> Tensor:
        """Put a column's codes among those seen and return their log probability where known.

        A cell that is not known is drawn; not so in a model of any order, which does without.
        """
        place = self.model.sequence.index(column)
        logits = self.reader.logits(column, z, seen)
        gain = _log_prob(logits, known)
        flat = known + self.model.offsets[column]
        if self.model.any_order:
            seen[:, place] = torch.where(known >= 0, flat, self.model.layout.size)
            return gain
        if (known < 0).any():
            if column in self.never:
                logits = logits.masked_fill(self.never[column], -math.inf)
            drawn = draw_codes(logits, self.generator) + self.model.offsets[column]
            flat = torch.where(known >= 0, flat, drawn)
        seen[:, place] = flat
        return gain

    def _follow_known(self, z: Tensor, codes: Tensor, seen: Tensor, n_codes: int) -> Tensor:
        """Return how likely each candidate makes the later cells, all known."""
        sequence = self.model.sequence
        seen[:, [sequence.index(c) for c in self.after]] = (codes + self.model.offsets)[
            :, self.after
        ]
        seen[:, sequence.index(self.column)] = self.model.layout.size
        gain = z.new_zeros(len(z), n_codes)
        for other in self.after:
            network = self.reader.network(other)
            h = network.first_layer(z, seen[:, : sequence.index(other)])[:, None]
            h = h + network.added[self.first : self.first + n_codes]
            target = codes[:, other].repeat_interleave(n_codes)
            gain += _log_prob(network.logits_of(h.flatten(0, 1)), target).view(-1, n_codes)
        return gain

    def _follow_gaps(self, z: Tensor, codes: Tensor, seen: Tensor, n_codes: int) -> Tensor:
        """Return how likely each candidate makes the later cells, drawing those not known."""
        z, codes = z.repeat_interleave(n_codes, 0), codes.repeat_interleave(n_codes, 0)
        seen = seen.repeat_interleave(n_codes, 0)
        candidates = torch.arange(self.first, self.first + n_codes, device=z.device)
        seen[:, self.model.sequence.index(self.column)] = candidates.repeat(len(z) // n_codes)
        gain = z.new_zeros(len(z))
        for other in self.after:
            gain += self._advance(other, z, codes[:, other], seen)
        return gain.view(-1, n_codes)


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
