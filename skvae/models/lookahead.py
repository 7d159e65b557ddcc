"""What the columns that are drawn first say about those that are known and come later.

Rows drawn without conditions, *pilots*, tell how much more often each code of an early column
comes with what is known of a later one. Particles drawn by these odds, and weighed by them again
where the later column is reached, are those of a filter that looks ahead (Guarniero, Johansen and
Lee, "The Iterated Auxiliary Particle Filter", 2017, algorithm 1): of the same distribution, with
weights that differ far less.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from skvae.models.autoregressive_tvae import AutoregressiveTVAE
from skvae.models.particles import Evidence

# One latent in so many is drawn from the prior, so that no weight is above it.
PRIOR_EVERY = 8
# Pilots of the prior by which the moments of latents are shrunk.
PRIOR_PILOTS = 20


@dataclass
class Pilots:
    """Rows of a model without conditions.

    Attributes
    ----------
    z : Tensor of shape (n_pilots, latent_dim) or None
        Their latents, if these are standard normal.
    codes : int32 or int64 Tensor of shape (n_pilots, n_columns)
        Their codes.
    """

    z: Tensor | None
    codes: Tensor


class Lookahead:
    """Odds of latents and early codes under what is known of later columns.

    Parameters
    ----------
    model : AutoregressiveTVAE
        The model. One of any order sees all that is known first.
    pilots : Pilots
        Its rows.
    evidence : Evidence
        What is known of groups of rows.

    Attributes
    ----------
    n_agree : float Tensor of shape (n_groups,)
        Pilots that agree with each group.
    order : list of int
        The columns as they are drawn.
    log_odds : dict of int to float Tensor of shape (n_groups, layout.size + 1)
        For each known column, log odds of the codes of the columns before, in the flat layout;
        0 for the last, which stands for no code.
    """

    def __init__(self, model: AutoregressiveTVAE, pilots: Pilots, evidence: Evidence) -> None:
        self.model = model
        self.log_odds: dict[int, Tensor] = {}
        self.moments: dict[int, tuple[Tensor, Tensor]] = {}
        codes, known_columns = pilots.codes.long(), evidence.known_columns
        self.order = list(model.sequence)
        if model.any_order:
            self.order = [*known_columns, *(c for c in self.order if c not in known_columns)]
        powers = None if pilots.z is None else powers_of(pilots.z)
        agree = torch.ones(len(evidence), len(codes), device=codes.device)
        self.n_agree = agree.sum(1)
        fixed = (evidence.codes >= 0).all(0).tolist()
        for known in [c for c in self.order if c in known_columns]:
            # Odds of a known column are those among the pilots that agree with the ones before.
            share = _agreement(evidence, known, codes)
            weight, agree = agree, agree * share
            total = agree.sum(1).clamp(min=1e-30)
            self.n_agree = total.square() / agree.square().sum(1).clamp(min=1e-30)
            counted = agree * (self.n_agree / total)[:, None]
            if powers is not None:
                untold = (share == 1).all(1, keepdim=True)
                weight = weight * self._see_latents(known, powers, counted, untold)
            size = model.layout.size + 1
            self.log_odds[known] = torch.zeros(len(agree), size, device=codes.device)
            for column in self.order[: self.order.index(known)]:
                if not fixed[column]:
                    weight = weight * self._see_column(known, column, codes, counted, weight)

    def _see_latents(self, known: int, powers: Tensor, counted: Tensor, untold: Tensor) -> Tensor:
        """Note the moments of latents that agree; return how much likelier they make these."""
        n = counted.sum(1, keepdim=True) + PRIOR_PILOTS
        mean, square = (counted @ powers / n).chunk(2, dim=1)
        spread = (square + PRIOR_PILOTS / n - mean.square()).sqrt()
        before = torch.zeros_like(mean), torch.ones_like(spread)
        if self.moments:
            before = next(reversed(self.moments.values()))
        self.moments[known] = (
            torch.where(untold, before[0], mean),
            torch.where(untold, before[1], spread),
        )
        return self._log_latent_odds(known, powers).exp().T

    def _see_column(
        self, known: int, column: int, codes: Tensor, counted: Tensor, weight: Tensor
    ) -> Tensor:
        """Note the odds of an early column; return those of the pilots' codes."""
        code, own = codes[:, column], self._own(column)
        expected = weight.new_zeros(len(weight), own.stop - own.start)
        held = expected.clone().index_add_(1, code, counted)
        expected.index_add_(1, code, weight)
        expected *= (self.n_agree / expected.sum(1).clamp(min=1e-30))[:, None]
        odds = _odds(held, expected)
        self.log_odds[known][:, own] = odds.log()
        return odds[:, code]

    def _own(self, column: int) -> slice:
        """Return where the codes of a column stand in the flat layout."""
        first = int(self.model.offsets[column])
        return slice(first, first + self.model.cardinalities[column])

    def steer(self, z: Tensor, owner: Tensor) -> Tensor:
        """Return latents that look ahead to all that is known, from those of the prior."""
        if not self.moments:
            return z
        mean, spread = next(reversed(self.moments.values()))
        of_prior = torch.arange(len(z), device=z.device) % PRIOR_EVERY == 0
        return torch.where(of_prior[:, None], z, mean[owner] + spread[owner] * z)

    def odds_of(self, column: int) -> Tensor | None:
        """Return log odds of a column's codes by all that is known later, (n_groups, n_codes)."""
        place = self.order.index
        later = [odds for known, odds in self.log_odds.items() if place(known) > place(column)]
        if not later:
            return None
        return sum(later[1:], later[0])[:, self._own(column)]

    def promised(self, known: int, z: Tensor, flat: Tensor, owner: Tensor) -> Tensor:
        """Return the log odds by which latents and codes before a known column were drawn.

        ``flat`` holds the codes drawn so far, in the flat layout, and the result has shape
        (n_rows,).
        """
        odds = self.log_odds[known]
        total = odds.flatten()[flat + (owner * odds.shape[1])[:, None]].sum(1)
        if not self.moments:
            return total
        latent = self._log_latent_odds(known, powers_of(z))
        return total + latent.gather(1, owner[:, None]).squeeze(1)

    def _log_latent_odds(self, known: int, powers: Tensor) -> Tensor:
        """Return log odds of latents by one known column, over those by the ones before.

        The result has shape (n, n_groups).
        """
        order = list(self.moments)
        rank = order.index(known)
        now = self._log_mixture(known, powers)
        return now - self._log_mixture(order[rank - 1], powers) if rank else now

    def _log_mixture(self, known: int, powers: Tensor) -> Tensor:
        mean, spread = self.moments[known]
        precision = spread**-2
        slopes = torch.cat([mean * precision, (1 - precision) / 2], dim=1)
        level = -(mean.square() * precision / 2 + spread.log()).sum(1)
        steered = torch.addmm(level, powers, slopes.T)
        return steered.exp().mul_(1 - 1 / PRIOR_EVERY).add_(1 / PRIOR_EVERY).log()

    def take(self, groups: slice) -> Lookahead:
        """Return that of some of the groups."""
        out = object.__new__(Lookahead)
        out.model, out.order, out.n_agree = self.model, self.order, self.n_agree[groups]
        out.log_odds = {known: odds[groups] for known, odds in self.log_odds.items()}
        out.moments = {k: (m[groups], s[groups]) for k, (m, s) in self.moments.items()}
        return out


def powers_of(z: Tensor) -> Tensor:
    """Return latents and their squares, of shape (n, 2 * latent_dim)."""
    return torch.cat([z, z.square()], dim=1)


def _agreement(evidence: Evidence, column: int, codes: Tensor) -> Tensor:
    """Return how far pilots agree with what is known of a column, (n_groups, n_pilots)."""
    known, code = evidence.codes[:, column, None], codes[:, column]
    share = ((known < 0) | (known == code)).to(torch.float32)
    if column in evidence.intervals:
        share = share * evidence.log_shares(column).exp()[:, code]
    if column in evidence.spelled:
        spelling = evidence.spelled[column]
        prefix = spelling.prefix([codes[:, other] for other in spelling.before])
        share = share * spelling.shares[:, prefix, code]
    return share


def _odds(counted: Tensor, expected: Tensor) -> Tensor:
    """Return how much more often codes come than expected, shrunk to 1 as far as chance may be.

    Counts are taken as Poisson about multiples of ``expected`` that are gamma of mean 1, and the
    variance of these is estimated from all codes of the column.
    """
    excess = ((counted - expected).square() - expected) / (1 + expected)
    variance = excess.sum(1, keepdim=True) / (expected.square() / (1 + expected)).sum(1, True)
    # NaN where no pilot agrees.
    prior = 1 / torch.nan_to_num(variance).clamp(min=1e-6, max=1.0)
    return (counted + prior) / (expected + prior)
