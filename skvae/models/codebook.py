"""Codebooks that follow what they quantise."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from skvae.models.precision import full_precision

# A code is dead when it is used less than this share of the mean of its group.
DEAD_SHARE = 0.1
# Pseudo-count of each code, in mean counts of its group.
LAPLACE = 1e-5
# Steps over which the codebook's memory grows to its length: at first latents move fast.
SETTLING_STEPS = 10


class Codebook(nn.Module):
    """Codebooks of several groups of numbers, learnt by a running k-means or by the gradient.

    Parameters
    ----------
    n_groups, n_codes, group_dim : int
        Codebooks, codes in each, size of a code's vector.
    decay : float
        Of the running counts and means (van den Oord et al. 2017, appendix A.1).
    by_gradient : bool
        Whether the vectors are left to the optimizer.
    """

    counts: Tensor
    n_updates: Tensor

    def __init__(
        self, n_groups: int, n_codes: int, group_dim: int, decay: float, by_gradient: bool
    ) -> None:
        super().__init__()
        self.decay, self.by_gradient = decay, by_gradient
        # A parameter also where it gets no gradient: early stopping then restores it with the
        # weights that it belongs to.
        self.vectors = nn.Parameter(torch.randn(n_groups, n_codes, group_dim))
        self.register_buffer("counts", torch.ones(n_groups, n_codes))
        self.register_buffer("n_updates", torch.zeros(()))

    @torch.no_grad()
    def nearest(self, z: Tensor) -> Tensor:
        """Return the nearest codes, int64 (batch, n_groups), of (batch, n_groups, group_dim)."""
        # Plain differences: a code is at distance 0 of itself.
        exact = "donot_use_mm_for_euclid_dist"
        with full_precision(z):
            distances = torch.cdist(z.transpose(0, 1), self.vectors, compute_mode=exact)
        return distances.argmin(2).T

    def forward(self, codes: Tensor) -> Tensor:
        """Return the vectors, (batch, n_groups, group_dim), of codes (batch, n_groups)."""
        vectors = self.vectors if self.by_gradient else self.vectors.detach()
        return vectors[torch.arange(codes.shape[1], device=codes.device), codes]

    @torch.no_grad()
    def learn(self, z: Tensor) -> None:
        """Move towards a batch of latents of shape (batch, n_groups, group_dim).

        With counts N and a batch of n rows at a code, ``N <- g N + (1 - g) n`` and the code's
        vector moves by ``(1 - g) / N`` times the sum of the rows' differences from it: eq. 6 to 8
        of van den Oord et al. (2017), with the sums written as N times the vector.
        """
        # A batch gone wrong is skipped by the training loop, and must leave nothing here.
        if not torch.isfinite(z.square().sum()):
            return
        if self.n_updates == 0:
            self._start(z)
        self.n_updates += 1
        decay = min(self.decay, 1 - SETTLING_STEPS / (float(self.n_updates) + SETTLING_STEPS))
        codes = self.nearest(z)
        members = F.one_hot(codes, self.counts.shape[1]).to(z)
        n_rows = members.sum(0)
        self.counts.lerp_(n_rows, 1 - decay)
        if not self.by_gradient:
            smoothed = self.counts + LAPLACE * self.counts.mean(1, keepdim=True)
            with full_precision(z):
                sums = torch.einsum("bgk,bgd->gkd", members, z)
            moves = sums - n_rows.unsqueeze(2) * self.vectors
            self.vectors.add_(moves * ((1 - decay) * (1 + LAPLACE) / smoothed).unsqueeze(2))
        self._redraw(z, codes)

    def _start(self, z: Tensor) -> None:
        """Put the codes at rows of a batch, different ones as long as there are any."""
        n_groups, n_codes = self.counts.shape
        order = torch.rand(n_groups, len(z), device=z.device).argsort(1)
        rows = order[:, torch.arange(n_codes, device=z.device) % len(z)]
        self.vectors.copy_(z[rows, torch.arange(n_groups, device=z.device).unsqueeze(1)])
        self.counts.fill_(len(z) / n_codes)

    def _redraw(self, z: Tensor, codes: Tensor) -> None:
        """Put dead codes at rows of a batch, with odds of their squared error [as k-means++]."""
        mean = self.counts.mean(1, keepdim=True)
        dead = self.counts < DEAD_SHARE * mean
        if not dead.any():
            return
        errors = (z - self(codes)).square().sum(2).T + torch.finfo(z.dtype).tiny
        rows = torch.multinomial(errors, dead.shape[1], replacement=True)
        drawn = z[rows, torch.arange(len(rows), device=z.device).unsqueeze(1)]
        self.vectors.copy_(torch.where(dead.unsqueeze(2), drawn, self.vectors))
        self.counts.copy_(torch.where(dead, 2 * DEAD_SHARE * mean, self.counts))

    @torch.no_grad()
    def variance(self) -> Tensor:
        """Return the variance of the codes in use, 0-d, a mean over groups and numbers."""
        shares = (self.counts / self.counts.sum(1, keepdim=True)).unsqueeze(2)
        centred = self.vectors - (shares * self.vectors).sum(1, keepdim=True)
        return (shares * centred.square()).sum(1).mean()
