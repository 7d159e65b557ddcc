"""Draws from the volume of a learned Riemannian metric [1]_."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from sklearn.utils.validation import check_array
from torch import Tensor

from skvae.models.riemannian import RHVAE, KernelMetric
from skvae.samplers.base import LatentSampler

# Chains that run at a time: their kernels stay in the cache.
CHUNK_CHAINS = 2048
# Chains and steps from which the step size is found, towards this share of accepted moves.
N_PILOT_CHAINS = 256
N_PILOT_STEPS = 25
TARGET_ACCEPTANCE = 0.8
# Relative range of a chain's step size: no length of a path is resonant.
JITTER = 0.5
# Multiple of the kernels' width, around the centroids, where the density is cut off: the inverse
# metric is all but constant beyond, and the volume without end.
REACH = 2.0


class ManifoldSampler(LatentSampler):
    """Draw latents where the metric of an ``RHVAE`` says that there are data.

    The density is proportional to sqrt(det G^-1(z)), the volume of the inverse metric (Chadebec et
    al. [1]_), within two kernel widths T of a centroid: beyond, it tends to a constant, over which
    no probability can be spread. Hamiltonian Monte Carlo chains, one a draw, start about centroids
    chosen at random. Chains rarely cross between centroids that are far apart, so these keep equal
    shares of the draws.

    Parameters
    ----------
    n_steps : int, default=15
        Moves of a chain, each accepted or not.
    n_leapfrog : int, default=3
        Leapfrog steps in a move.

    Attributes
    ----------
    centroids_ : ndarray of shape (n_centroids, latent_dim)
        Centres of the kernels.
    factors_ : ndarray of shape (n_centroids, latent_dim, latent_dim)
        Lower triangular L_i: the inverse metric at a centroid is about L_i L_i^T.
    temperature_, regularization_ : float
        Width T of the kernels, and the inverse metric far from all of them.
    step_size_ : float
        Mean size of a leapfrog step, found in ``fit``.
    acceptance_rate_ : float
        Share of moves that short chains accepted with that step size in ``fit``.
    n_features_in_ : int
        Size of the latent.

    References
    ----------
    .. [1] Chadebec, Thibeau-Sutre, Burgos, Allassonniere, "Data Augmentation in High Dimensional
       Low Sample Size Setting Using a Geometry-Based Variational Autoencoder", IEEE TPAMI 45, 2023.

    Examples
    --------
    >>> import torch
    >>> from torch import nn
    >>> from skvae.models import RHVAE
    >>> from skvae.samplers import ManifoldSampler
    >>> model = RHVAE(nn.Linear(8, 16), nn.Linear(2, 8), latent_dim=2)
    >>> x = torch.randn(50, 8)
    >>> model.build(x)
    >>> model.finalize(x)
    >>> sampler = ManifoldSampler().fit(model.encode(x).mu, model=model)
    >>> sampler.sample(100, random_state=0).shape
    (100, 2)
    """

    def __init__(self, n_steps: int = 15, n_leapfrog: int = 3) -> None:
        self.n_steps = n_steps
        self.n_leapfrog = n_leapfrog

    def fit(self, Z: np.ndarray, y: None = None, *, model: Any = None) -> ManifoldSampler:
        """Take the metric of a trained model, and find the step size.

        Parameters
        ----------
        Z : array-like of shape (n_samples, latent_dim)
            Latents of the training rows, of which only the size is used.
        y : None
            Ignored.
        model : RHVAE
            The trained model.

        Raises
        ------
        ValueError
            The model has no metric, or none yet, or its latents are not of the size of Z.
        """
        if not isinstance(model, RHVAE):
            raise self._wrong_model(model, "a trained RHVAE, by whose metric it draws")
        for name in ("n_steps", "n_leapfrog"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)}, expected 1 or more.")
        n_features = check_array(Z).shape[1]
        self._check_size(n_features, model.latent_dim)
        factors = model.factors.detach().cpu().float()
        used = factors.flatten(1).any(1)
        if not used.any():
            raise ValueError(
                "The model's metric has no centroids. Train it, or call model.finalize(x)."
            )
        self.centroids_ = model.centroids.detach().cpu().float()[used].numpy()
        self.factors_ = factors[used].numpy()
        self.temperature_ = float(model.temperature)
        self.regularization_ = float(model.regularization)
        self.n_features_in_ = n_features
        self._find_step_size()
        return self

    def _draw(self, n_samples: int, rng: np.random.RandomState) -> np.ndarray:
        generator = torch.Generator().manual_seed(rng.randint(2**31 - 1))
        draws = torch.empty(n_samples, self.n_features_in_)
        for chunk in draws.split(CHUNK_CHAINS):
            chains = _Chains(self._metric(), len(chunk), generator)
            for _ in range(self.n_steps):
                chains.move(self.step_size_, self.n_leapfrog)
            chunk.copy_(chains.z)
        return draws.numpy()

    def _metric(self) -> KernelMetric:
        return KernelMetric(
            torch.tensor(self.centroids_),
            torch.tensor(self.factors_),
            self.temperature_,
            self.regularization_,
        )

    def _find_step_size(self) -> None:
        """Let a few chains run, and move the step size towards the acceptance wanted."""
        # The same draws at each fit: a fit is no matter of chance.
        chains = _Chains(self._metric(), N_PILOT_CHAINS, torch.Generator().manual_seed(0))
        log_step = math.log(chains.width)
        rates = []
        for step in range(N_PILOT_STEPS):
            rates.append(chains.move(math.exp(log_step), self.n_leapfrog))
            log_step += (rates[-1] - TARGET_ACCEPTANCE) / math.sqrt(1 + step)
        self.step_size_ = math.exp(log_step)
        rates = [chains.move(self.step_size_, self.n_leapfrog) for _ in range(N_PILOT_STEPS)]
        self.acceptance_rate_ = sum(rates) / N_PILOT_STEPS


class _Chains:
    """Hamiltonian Monte Carlo chains on the volume of an inverse metric, side by side."""

    def __init__(self, metric: KernelMetric, n_chains: int, generator: torch.Generator) -> None:
        self.metric = metric
        self.generator = generator
        start = torch.randint(len(metric.centroids), (n_chains,), generator=generator)
        # About one centroid the density is about a Gaussian of this standard deviation.
        self.width = metric.temperature / math.sqrt(metric.centroids.shape[1])
        centres = metric.centroids[start]
        self.z = centres + self.width * torch.randn(centres.shape, generator=generator)
        self.log_density, self.slope = self._density(self.z)

    def move(self, step_size: float, n_leapfrog: int) -> float:
        """Propose a move of each chain; return the share that was accepted."""
        rho = torch.randn(self.z.shape, generator=self.generator)
        jitter = 2 * torch.rand((len(rho), 1), generator=self.generator) - 1
        step = step_size * (1 + JITTER * jitter)
        energy = 0.5 * rho.square().sum(1) - self.log_density
        z, slope, log_density = self.z, self.slope, self.log_density
        for _ in range(n_leapfrog):
            rho = rho + 0.5 * step * slope
            z = z + step * rho
            log_density, slope = self._density(z)
            rho = rho + 0.5 * step * slope
        # In logs: no energy is so high that it would overflow.
        log_ratio = energy - 0.5 * rho.square().sum(1) + log_density
        accepted = torch.rand(len(z), generator=self.generator).log() < log_ratio
        self.log_density = torch.where(accepted, log_density, self.log_density)
        self.z = torch.where(accepted.unsqueeze(1), z, self.z)
        self.slope = torch.where(accepted.unsqueeze(1), slope, self.slope)
        return float(accepted.float().mean())

    def _density(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Return the log density of points, up to a constant, and its gradient."""
        at = self.metric.at(z)
        log_density = 0.5 * at.log_det_inverse()
        outside = at.kernels.amax(1) < math.exp(-(REACH**2))
        log_density = log_density.masked_fill(outside, -math.inf)
        return log_density, -self.metric.force(at, torch.cholesky_inverse(at.cholesky))
