"""Rows of a table that agree with what is known of them: weighted particles, resampled.

Evidence on a column that comes late in the decoding cannot steer the columns before it. Many
latents and rows are therefore drawn, *particles*, each weighted by how likely it makes the
evidence, and those of little weight give way to copies of the others (sequential Monte Carlo,
Doucet and Johansen, "A Tutorial on Particle Filtering and Smoothing", 2009, section 4.1).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

# Below this share of effective particles a group is resampled (Doucet and Johansen, eq. 53).
MIN_EFFECTIVE = 0.7


@dataclass
class Spelling:
    """Which codes of a column may come, by the codes of columns before that spell with it.

    Attributes
    ----------
    before : list of int
        These columns.
    sizes : list of int
        Their numbers of codes.
    shares : float32 Tensor of shape (n_groups or 1, n_prefixes, n_codes)
        The weight of each code after each combination of codes before, 0 if it may not come.
    """

    before: list[int]
    sizes: list[int]
    shares: Tensor

    def prefix(self, before: list[Tensor]) -> Tensor:
        """Return the position of a combination of codes before, of shape (n_rows,)."""
        place = torch.zeros_like(before[0])
        for size, codes in zip(self.sizes, before, strict=True):
            place = place * size + codes
        return place

    def of_rows(self, owner: Tensor, before: list[Tensor]) -> Tensor:
        """Return the weights of all codes in rows, of shape (n_rows, n_codes)."""
        return self.shares[owner if len(self.shares) > 1 else 0, self.prefix(before)]


@dataclass
class Evidence:
    """What is known of groups of rows; the rows of a group share it.

    Attributes
    ----------
    codes : int64 Tensor of shape (n_groups, n_columns)
        The code of each cell that is known, -1 for the others.
    places : float32 Tensor of shape (n_groups, n_columns)
        The places of known cells, for models that have a density over places.
    intervals : dict of int to (low, high), Tensors of shape (n_groups or 1, n_codes)
        For columns of which something is known: the places that each code may take. Nothing
        where ``high <= low``; -inf and inf where the whole code may come.
    never : dict of int to bool Tensor of shape (n_codes,)
        Codes that are not drawn for cells of which nothing is known.
    spelled : dict of int to Spelling
        For columns of which something is known that depends on columns before.
    """

    codes: Tensor
    places: Tensor
    intervals: dict[int, tuple[Tensor, Tensor]] = field(default_factory=dict)
    never: dict[int, Tensor] = field(default_factory=dict)
    spelled: dict[int, Spelling] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.codes)

    @property
    def known_columns(self) -> list[int]:
        """Columns of which something is known in some group."""
        fixed = (self.codes >= 0).any(0).nonzero().flatten().tolist()
        return sorted({*fixed, *self.intervals, *self.spelled})

    def take(self, groups: slice) -> Evidence:
        """Return some of the groups."""
        intervals = {
            column: (low, high) if len(low) == 1 else (low[groups], high[groups])
            for column, (low, high) in self.intervals.items()
        }
        spelled = {
            column: spelling
            if len(spelling.shares) == 1
            else replace(spelling, shares=spelling.shares[groups])
            for column, spelling in self.spelled.items()
        }
        return Evidence(self.codes[groups], self.places[groups], intervals, self.never, spelled)

    def log_shares(self, column: int) -> Tensor:
        """Return the log share of each code that may come, of shape (n_groups or 1, n_codes).

        For places that are uniform in [0, 1).
        """
        low, high = (bound.clamp(0.0, 1.0) for bound in self.intervals[column])
        return (high - low).clamp(min=0.0).log()


@dataclass
class Particles:
    """Weighted draws for the groups of an ``Evidence``, the particles of a group in a row.

    Attributes
    ----------
    z : Tensor of shape (n_particles, latent_dim)
        Latents.
    owner : int64 Tensor of shape (n_particles,)
        The group of each particle.
    sizes : int64 Tensor of shape (n_groups,)
        Particles in each group.
    log_weight : float64 Tensor of shape (n_particles,)
        Unnormalised log weights.
    codes : int64 Tensor of shape (n_particles, n_columns)
        Codes in the flat layout (``AutoregressiveTVAE``), in the order of the decoding.
    effective : float64 Tensor of shape (n_groups,)
        Share of the particles of each group that is effective, over all that was resampled.
    """

    z: Tensor
    owner: Tensor
    sizes: Tensor
    log_weight: Tensor
    codes: Tensor
    effective: Tensor

    @classmethod
    def begin(cls, z: Tensor, sizes: Tensor, n_columns: int) -> Particles:
        """Return particles of which only the latents are drawn, of equal weight."""
        owner = torch.repeat_interleave(torch.arange(len(sizes), device=z.device), sizes)
        codes = torch.empty(len(z), n_columns, dtype=torch.int64, device=z.device)
        weight = torch.zeros(len(z), dtype=torch.float64, device=z.device)
        whole = torch.ones(len(sizes), dtype=torch.float64, device=z.device)
        return cls(z, owner, sizes, weight, codes, whole)

    def weights(self) -> tuple[Tensor, Tensor]:
        """Return weights that sum to 1 in each group, and each group's effective share."""
        top = torch.full((len(self.sizes),), -math.inf, dtype=torch.float64, device=self.z.device)
        top = top.scatter_reduce(0, self.owner, self.log_weight, "amax")
        weight = (self.log_weight - top[self.owner]).exp()
        weight = weight / self._sum(weight)[self.owner]
        return weight, 1.0 / (self._sum(weight.square()) * self.sizes)

    def _sum(self, values: Tensor) -> Tensor:
        total = torch.zeros(len(self.sizes), dtype=values.dtype, device=values.device)
        return total.index_add(0, self.owner, values)

    def take(self, index: Tensor, sizes: Tensor) -> None:
        """Keep the particles at ``index``, ``sizes`` of them in each group."""
        self.z, self.owner = self.z[index], self.owner[index]
        self.codes, self.log_weight = self.codes[index], self.log_weight[index]
        self.sizes = sizes

    def split(self, parts: int) -> None:
        """Let each particle become several."""
        index = torch.arange(len(self.z), device=self.z.device).repeat_interleave(parts)
        self.take(index, self.sizes * parts)

    def resample_where_low(self, generator: torch.Generator | None) -> None:
        """Resample the groups of which too few particles are effective."""
        weight, share = self.weights()
        low = share < MIN_EFFECTIVE
        if not low.any():
            return
        index = torch.arange(len(self.z), device=self.z.device)
        drawn = systematic(weight, self.sizes, self.sizes, generator)
        index = torch.where(low[self.owner], drawn, index)
        self.effective = torch.where(low, self.effective * share, self.effective)
        self.take(index, self.sizes)
        self.log_weight[low[self.owner]] = 0.0

    def select(self, counts: Tensor, generator: torch.Generator | None) -> None:
        """Keep ``counts`` particles of each group, drawn by weight."""
        weight, share = self.weights()
        self.effective = self.effective * share
        self.take(systematic(weight, self.sizes, counts, generator), counts)
        self.log_weight = torch.zeros_like(self.log_weight)


def systematic(
    weight: Tensor, sizes: Tensor, counts: Tensor, generator: torch.Generator | None
) -> Tensor:
    """Draw positions by weight within each of many groups, with one uniform number a group.

    Parameters
    ----------
    weight : float64 Tensor of shape (n,)
        Weights, group after group, that sum to 1 in each.
    sizes, counts : int64 Tensor of shape (n_groups,)
        How many weights each group has, and how many positions to draw in it.
    generator : torch.Generator or None
        Source of the uniform numbers.

    Returns
    -------
    int64 Tensor of shape (counts.sum(),)
    """
    n_groups, device = len(sizes), weight.device
    owner = torch.repeat_interleave(torch.arange(n_groups, device=device), counts)
    first = counts.cumsum(0) - counts
    rank = torch.arange(len(owner), device=device) - first[owner]
    shift = torch.rand(n_groups, dtype=weight.dtype, device=device, generator=generator)
    # The cumulative weights of group g run from g to g + 1.
    position = owner + (rank + shift[owner]) / counts[owner]
    index = torch.searchsorted(weight.cumsum(0), position)
    stop = sizes.cumsum(0)
    return torch.minimum(torch.maximum(index, (stop - sizes)[owner]), stop[owner] - 1)
