"""Rows of a table drawn so that they agree with what is known of them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from skvae.models.autoregressive_tvae import AutoregressiveTVAE, ColumnNetwork
from skvae.models.code_tables import draw_codes, draw_tilted
from skvae.models.core import log_density_gaussian
from skvae.models.factorized_tvae import FactorizedTVAE
from skvae.models.lookahead import Lookahead
from skvae.models.particles import Evidence, Particles
from skvae.models.tabular import DECODE_ROWS, TabularVAE

# Particles double when this share of the way to the last column of the evidence is made: those
# that share their first columns cost less.
SPLIT_AT = (1 / 3, 2 / 3)


@dataclass
class Draws:
    """What ``draw_given`` returns.

    Attributes
    ----------
    codes : int64 Tensor of shape (n_rows, n_columns)
        Codes, group after group.
    places : float32 Tensor of shape (n_rows, n_columns)
        Places.
    z : Tensor of shape (n_rows, latent_dim)
        Latents.
    effective : float64 Tensor of shape (n_groups,)
        Particles of each group that its evidence left effective.
    """

    codes: Tensor
    places: Tensor
    z: Tensor
    effective: Tensor


@torch.no_grad()
def draw_given(
    model: TabularVAE,
    z: Tensor,
    sizes: Tensor,
    evidence: Evidence,
    counts: Tensor,
    *,
    log_weight: Tensor | None = None,
    temperature: float = 1.0,
    generator: torch.Generator | None = None,
    argmax: bool = False,
    lookahead: Lookahead | None = None,
) -> Draws:
    """Draw rows from p(x | evidence).

    Parameters
    ----------
    model : TabularVAE
        The model.
    z : Tensor of shape (sizes.sum(), latent_dim)
        Latents to begin with, group after group.
    sizes, counts : int64 Tensor of shape (n_groups,)
        Latents given, and rows wanted, for each group.
    evidence : Evidence
        What is known of the groups.
    log_weight : Tensor of shape (sizes.sum(),), optional
        Log weights of the latents, if they are not draws from the prior.
    temperature : float, default=1.0
        Divides the logits of all columns.
    generator : torch.Generator or None
        Source of the randomness.
    argmax : bool, default=False
        Whether cells of which nothing is known take their most probable code.
    lookahead : Lookahead or None, default=None
        What the evidence says of latents and of the columns before it: far fewer latents do
        then. For an ``AutoregressiveTVAE``, without ``argmax``.

    Returns
    -------
    Draws
    """
    particles = Particles.begin(z, sizes, model.n_columns)
    if log_weight is not None:
        particles.log_weight += log_weight
    if isinstance(model, AutoregressiveTVAE):
        run: Any = _ColumnFilter(model, evidence, temperature, generator, argmax, lookahead)
    else:
        assert isinstance(model, FactorizedTVAE)
        run = _LatentFilter(model, evidence, temperature, generator, argmax)
    return run(particles, counts)


@dataclass
class _Filter:
    """What the filters of both models share."""

    model: Any
    evidence: Evidence
    temperature: float
    generator: torch.Generator | None
    argmax: bool

    def draw(self, column: int, logits: Tensor) -> Tensor:
        """Draw codes of a column, none of those that never come."""
        if column in self.evidence.never:
            logits = logits.masked_fill(self.evidence.never[column], -math.inf)
        return draw_codes(logits, self.generator, self.argmax)

    def uniform(self, like: Tensor) -> Tensor:
        return torch.rand(
            like.shape, dtype=like.dtype, device=like.device, generator=self.generator
        )

    def interval(self, column: int, owner: Tensor, codes: Tensor) -> tuple[Tensor, Tensor]:
        """Return the places that drawn codes may take, each of shape (n_rows,)."""
        low, high = self.evidence.intervals[column]
        group = owner if len(low) > 1 else torch.zeros_like(owner)
        return low[group, codes], high[group, codes]


@dataclass
class _ColumnFilter(_Filter):
    """Column after column, weigh by what is known and draw what is not."""

    lookahead: Lookahead | None = None

    def __call__(self, particles: Particles, counts: Tensor) -> Draws:
        model = self.model
        n_rows = max(4 * len(particles.z), int(counts.sum()))
        self.reader = ColumnReader(model, self.temperature, min(DECODE_ROWS, n_rows))
        if self.lookahead is not None:
            particles.z = self.lookahead.steer(particles.z, particles.owner)
        self.shares = {
            column: self.evidence.log_shares(column) for column in self.evidence.intervals
        }
        particles.codes.fill_(model.layout.size)  # no code yet
        steps = self._steps()
        last = max((rank for rank, (_, informed, _) in enumerate(steps) if informed), default=0)
        splits = self._splits(steps, last)
        for rank, (column, informed, phase) in enumerate(steps):
            for _ in range(splits.count(rank)):
                particles.split(2)
            self._step(particles, column, informed, phase)
            if rank == last:
                n_particles = particles.sizes
                particles.select(counts, self.generator)
            elif rank == 0 and not splits and informed and self.lookahead is None:
                # Only latents are weighed on the way: one for each row is enough from here on.
                few = torch.maximum(counts, particles.sizes // 2)
                few = torch.where(particles.sizes <= 4 * counts, few, particles.sizes)
                particles.select(few, self.generator)
            elif informed:
                particles.resample_where_low(self.generator)
        codes = torch.empty_like(particles.codes)
        codes[:, model.sequence] = particles.codes
        codes -= model.offsets
        places = self._places(particles, codes)
        return Draws(codes, places, particles.z, particles.effective * n_particles)

    def _splits(self, steps: list[tuple[int, bool, str]], last: int) -> list[int]:
        """Return where each particle becomes two: nowhere if nothing is drawn blindly before."""
        if self.lookahead is not None or all(informed for _, informed, _ in steps[:last]):
            return []
        return sorted(max(1, round(share * (last + 1))) for share in SPLIT_AT)

    def _steps(self) -> list[tuple[int, bool, str]]:
        """Return columns, whether anything is known of them there, and whose turn it is.

        A model of any order sees all that is known first.
        """
        informed = self.evidence.known_columns
        if not self.model.any_order:
            return [(column, column in informed, "all") for column in self.model.sequence]
        first = [(column, True, "known") for column in informed]
        partly = {*self.evidence.intervals, *self.evidence.spelled}
        free = [c for c in self.model.sequence if c not in partly]
        return first + [(column, False, "free") for column in free]

    def _step(self, particles: Particles, column: int, informed: bool, phase: str) -> None:
        place = self.model.sequence.index(column)
        known = self.evidence.codes[:, column]
        rows = None
        partly = column in self.shares or column in self.evidence.spelled
        if phase == "known" and not partly:
            rows = (known[particles.owner] >= 0).nonzero().flatten()
        elif phase == "free":
            rows = (known[particles.owner] < 0).nonzero().flatten()
        for part in chunks(rows, len(particles.z)):
            owner = particles.owner[part]
            logits = self.reader.logits(column, particles.z[part], particles.codes[part])
            odds = None if phase == "free" else self._odds(column, owner)
            if informed:
                share = self._share(column, owner, particles.codes[part])
                drawn, gain = self._weigh(column, logits, known[owner], share, odds)
                if self.lookahead is not None:
                    drawn_yet = slice(None if self.model.any_order else place)
                    flat = particles.codes[part][:, drawn_yet]
                    gain -= self.lookahead.promised(column, particles.z[part], flat, owner)
                particles.log_weight[part] += gain
            elif odds is not None:
                drawn, mean_odds = draw_tilted(logits, odds.exp(), self.generator)
                particles.log_weight[part] += mean_odds.log()
            else:
                drawn = self.draw(column, logits)
            particles.codes[part, place] = drawn + self.model.offsets[column]

    def _odds(self, column: int, owner: Tensor) -> Tensor | None:
        """Return log odds of the codes by what is known later, of shape (1 or n_rows, n_codes)."""
        odds = None if self.lookahead is None else self.lookahead.odds_of(column)
        return odds if odds is None or len(odds) == 1 else odds[owner]

    def _share(self, column: int, owner: Tensor, flat: Tensor) -> Tensor | None:
        """Return log shares of the codes that may come, of shape (1 or n_rows, n_codes)."""
        if column in self.shares:
            share = self.shares[column]
            return share if len(share) == 1 else share[owner]
        if column not in self.evidence.spelled:
            return None
        spelling, sequence = self.evidence.spelled[column], self.model.sequence
        before = [flat[:, sequence.index(c)] - self.model.offsets[c] for c in spelling.before]
        return spelling.of_rows(owner, before).log()

    def _weigh(
        self,
        column: int,
        logits: Tensor,
        known: Tensor,
        share: Tensor | None,
        odds: Tensor | None,
    ) -> tuple[Tensor, Tensor]:
        """Return the codes, and the log probability of what is known of them."""
        total = logits.logsumexp(1)
        of_known = logits.gather(1, known.clamp(min=0)[:, None]).squeeze(1) - total
        if (known >= 0).all():
            return known, of_known
        gain = torch.zeros_like(total)
        if odds is not None:
            logits = logits + odds
        if share is not None:
            allowed = share.isfinite().any(0).nonzero().flatten()
            logits = logits[:, allowed] + share[:, allowed]
        if share is not None or odds is not None:
            gain = logits.logsumexp(1) - total
        if share is not None:
            drawn = allowed[draw_codes(logits, self.generator, self.argmax)]
        else:
            drawn = self.draw(column, logits)
        return torch.where(known >= 0, known, drawn), torch.where(known >= 0, of_known, gain)

    def _places(self, particles: Particles, codes: Tensor) -> Tensor:
        places = self.uniform(codes.to(particles.z.dtype))
        for column in self.evidence.intervals:
            low, high = self.interval(column, particles.owner, codes[:, column])
            low, high = low.clamp(0.0, 1.0), high.clamp(0.0, 1.0)
            places[:, column] = low + places[:, column] * (high - low)
        return places


class _LatentFilter(_Filter):
    """Weigh latents by what is known, then draw the columns: independent given the latent."""

    def __call__(self, particles: Particles, counts: Tensor) -> Draws:
        n_given = particles.sizes
        for part in chunks(None, len(particles.z)):
            logits, means = self._decode(particles.z[part])
            owner = particles.owner[part]
            for column in self.evidence.known_columns:
                log_prob = logits[column].log_softmax(1)
                particles.log_weight[part] += self._log_evidence(column, log_prob, means, owner)
        particles.select(counts, self.generator)
        codes, places = self._draw_columns(particles)
        return Draws(codes, places, particles.z, particles.effective * n_given)

    def _decode(self, z: Tensor) -> tuple[list[Tensor], Tensor | None]:
        logits, means = self.model.decode(z)
        logits = (logits + self.model.softmax.blocked) / self.temperature
        return list(logits.split(self.model.cardinalities, dim=1)), means

    def _place(self, column: int) -> int | None:
        """Return where a column stands among those that have places."""
        places = self.model.place_columns.tolist()
        return places.index(column) if column in places else None

    def _log_evidence(
        self, column: int, log_prob: Tensor, means: Tensor | None, owner: Tensor
    ) -> Tensor:
        """Return the log probability of what is known of a column, of shape (n_rows,)."""
        known = self.evidence.codes[owner, column]
        gain = log_prob.new_zeros(len(log_prob))
        if column in self.evidence.intervals:
            gain = (log_prob + self._log_shares(column, means, owner)).logsumexp(1)
        of_known = log_prob.gather(1, known.clamp(min=0)[:, None]).squeeze(1)
        index = self._place(column)
        if index is not None and means is not None:
            sigma = self.model.sigma[index]
            density = log_density_gaussian(
                self.evidence.places[owner, column], means[:, index], 2 * sigma.log()
            )
            of_known = of_known + density * (known < self.model.place_modes[index])
        return torch.where(known >= 0, of_known, gain)

    def _bounds(self, column: int, means: Tensor | None, owner: Tensor) -> tuple[Tensor, Tensor]:
        """Return how likely a place lies below the bounds of each code, (n_rows, n_codes)."""
        low, high = (
            bound.expand(len(owner), -1) if len(bound) == 1 else bound[owner]
            for bound in self.evidence.intervals[column]
        )
        index = self._place(column)
        if index is None or means is None:
            return (low > 0).to(low.dtype), (high > 0).to(high.dtype)
        centre, sigma = means[:, [index]], self.model.sigma[index]
        return tuple(torch.special.ndtr((bound - centre) / sigma) for bound in (low, high))

    def _log_shares(self, column: int, means: Tensor | None, owner: Tensor) -> Tensor:
        low, high = self._bounds(column, means, owner)
        return (high - low).clamp(min=0.0).log()

    def _draw_columns(self, particles: Particles) -> tuple[Tensor, Tensor]:
        z, owner = particles.z, particles.owner
        codes = torch.empty_like(particles.codes)
        places = self.uniform(codes.to(z.dtype))
        for part in chunks(None, len(z)):
            logits, means = self._decode(z[part])
            for column, scores in enumerate(logits):
                if column in self.evidence.intervals:
                    scores = scores + self._log_shares(column, means, owner[part])
                codes[part, column] = self.draw(column, scores.contiguous())
            if means is not None:
                self._draw_places(places, codes, means, owner, part)
        known = self.evidence.codes[owner]
        places = torch.where(known >= 0, self.evidence.places[owner], places)
        return torch.where(known >= 0, known, codes), places

    def _draw_places(
        self, places: Tensor, codes: Tensor, means: Tensor, owner: Tensor, part: Any
    ) -> None:
        """Draw places from their Gaussians, cut to what is known, by inverting the uniforms."""
        for index, column in enumerate(self.model.place_columns.tolist()):
            level = places[part, column]
            if column in self.evidence.intervals:
                low, high = self._bounds(column, means, owner[part])
                code = codes[part, column, None]
                low, high = low.gather(1, code).squeeze(1), high.gather(1, code).squeeze(1)
                level = low + level * (high - low)
            noise = torch.special.ndtri(level.clamp(1e-6, 1 - 1e-6))
            places[part, column] = means[:, index] + self.model.sigma[index] * noise


class ColumnReader:
    """Logits of the columns of an ``AutoregressiveTVAE``, each network built once.

    With ``n_rows``, the most that are read at a time, all logits go through the same memory.
    """

    def __init__(self, model: AutoregressiveTVAE, temperature: float, n_rows: int = 0) -> None:
        self.model, self.temperature = model, temperature
        self.vectors, self.heads = model.input_table(), model.head_table()
        self.scratch = model.scratch(n_rows, self.vectors) if n_rows else None
        self.networks: dict[int, ColumnNetwork] = {}

    def network(self, column: int) -> ColumnNetwork:
        """Return the network of a column."""
        if column not in self.networks:
            self.networks[column] = ColumnNetwork(
                self.model, column, self.vectors, self.heads, self.scratch
            )
        return self.networks[column]

    def logits(self, column: int, z: Tensor, flat: Tensor) -> Tensor:
        """Return logits given those codes of ``flat`` that the column may see."""
        if not self.model.any_order:
            flat = flat[:, : self.model.sequence.index(column)]
        logits = self.network(column).logits(z, flat)
        return logits if self.temperature == 1.0 else logits / self.temperature


def chunks(rows: Tensor | None, n_rows: int) -> Iterator[slice | Tensor]:
    """Yield slices of all rows, or pieces of an index."""
    if rows is None:
        for start in range(0, n_rows, DECODE_ROWS):
            yield slice(start, min(start + DECODE_ROWS, n_rows))
    else:
        yield from rows.split(DECODE_ROWS) if len(rows) else ()
