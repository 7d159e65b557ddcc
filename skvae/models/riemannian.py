"""The Hamiltonian VAE whose latent space has a learned Riemannian metric [1]_.

The inverse metric is a sum of kernels around centroids c_i in the latent space,

    G^-1(z) = sum_i L_i L_i^T exp(-|z - c_i|^2 / T^2) + lambda I,

with L_i a lower triangular matrix that a network finds for the row whose posterior mean is c_i: the
metric is small, and the latents move far, where there are data.

.. [1] Chadebec, Mantoux, Allassonniere, "Geometry-Aware Hamiltonian Variational Auto-Encoder",
   arXiv:2010.11518, 2020.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from skvae.models.checks import check_count, check_number
from skvae.models.hamiltonian import HVAE, eval_mode, saturated
from skvae.models.likelihoods import Likelihood

# Rows whose metric is computed at a time: what a step of the work needs stays in the cache.
CHUNK_ROWS = 2048
MIN_TEMPERATURE = 1e-3
# Below it the metric could not be inverted in float32.
MIN_REGULARIZATION = 1e-4
# Entries of the factors saturate at this size; of a metric's size itself, nothing depends.
MAX_ENTRY = 3.0
# Posteriors wider than this share of a kernel's width count as of that width in a step's size.
MAX_SHARE = 0.25
# The centroids are settled by this many rows, in this many rounds.
MAX_SPREAD_ROWS = 10_000
N_SPREAD_ROUNDS = 10


@dataclass(slots=True)
class MetricAt:
    """A metric at some points.

    Attributes
    ----------
    z : Tensor of shape (n, latent_dim)
        The points.
    kernels : Tensor of shape (n, n_centroids)
        exp(-|z - c_i|^2 / T^2).
    inverse, cholesky : Tensor of shape (n, latent_dim, latent_dim)
        The inverse metric and its lower triangular Cholesky factor.
    """

    z: Tensor
    kernels: Tensor
    inverse: Tensor
    cholesky: Tensor

    def log_det_inverse(self) -> Tensor:
        """Return log det G^-1 of each point, of shape (n,)."""
        return 2 * self.cholesky.diagonal(dim1=-2, dim2=-1).log().sum(-1)


class KernelMetric:
    """An inverse metric that is a sum of Gaussian kernels.

    Parameters
    ----------
    centroids : Tensor of shape (n_centroids, latent_dim)
        c_i.
    factors : Tensor of shape (n_centroids, latent_dim, latent_dim)
        L_i; those that are zero have no part in the metric.
    temperature : float
        T, the width of the kernels.
    regularization : float
        lambda, the inverse metric far from all centroids.
    """

    def __init__(
        self, centroids: Tensor, factors: Tensor, temperature: float, regularization: float
    ) -> None:
        self.centroids = centroids
        self.matrices = (factors @ factors.mT).flatten(1)
        self.temperature = temperature
        size = centroids.shape[1]
        self.floor = regularization * torch.eye(size).to(centroids)

    def kernels(self, z: Tensor) -> Tensor:
        """Return ``exp(-|z - c_i|^2 / T^2)``, (n, n_centroids), for points (n, latent_dim)."""
        squares = self.centroids.square().sum(1) + z.square().sum(1, keepdim=True)
        # Rounding may leave the square of a small distance below zero.
        squares = torch.addmm(squares, z, self.centroids.mT, alpha=-2).clamp(min=0)
        return torch.exp(squares * (-1 / self.temperature**2))

    def inverse(self, kernels: Tensor) -> Tensor:
        """Return G^-1, (n, latent_dim, latent_dim), where the kernels are these."""
        return (kernels @ self.matrices).unflatten(1, self.floor.shape) + self.floor

    def at(self, z: Tensor) -> MetricAt:
        """Return the metric at points (n, latent_dim)."""
        kernels = self.kernels(z)
        inverse = self.inverse(kernels)
        # Unlike linalg.cholesky this one lets what is not finite pass: the training loop skips it.
        return MetricAt(z, kernels, inverse, torch.linalg.cholesky_ex(inverse)[0])

    def force(self, at: MetricAt, metric: Tensor) -> Tensor:
        """Return how fast log det G / 2 + rho^T G^-1 rho / 2 rises with z, (n, latent_dim).

        It is sum_i (tr(G M_i) - rho^T M_i rho) exp(-|z - c_i|^2 / T^2) (z - c_i) / T^2 for
        M_i = L_i L_i^T.

        Parameters
        ----------
        at : MetricAt
            The points.
        metric : Tensor of shape (n, latent_dim, latent_dim)
            G - rho rho^T; or G, for the volume alone.
        """
        pulls = (metric.flatten(1) @ self.matrices.mT) * at.kernels
        pull = at.z * pulls.sum(1, keepdim=True) - pulls @ self.centroids
        return pull / self.temperature**2


class RHVAE(HVAE):
    """The geometry-aware Hamiltonian VAE of Chadebec, Mantoux and Allassonniere [1]_.

    An ``HVAE`` whose momentum is N(0, G(z)) for a metric G that is learned with it, and whose
    Hamiltonian -log p(x, z) + log det G(z) / 2 + rho^T G^-1(z) rho / 2 wants the implicit
    leapfrog steps of Girolami and Calderhead [2]_, solved by fixed-point iterations. The inverse
    metric is a sum of kernels, see ``metric``; its volume is what the sampler
    ``skvae.samplers.ManifoldSampler`` draws from.

    In training the kernels are those of the batch, or of as many of its rows as there are
    centroids; in evaluation those kept in the buffers ``centroids`` and ``factors``. The buffers
    hold the rows trained on last, until ``finalize`` replaces them by rows spread over the data.

    Steps are measured as in ``HVAE``: here a row's step is divided by the root of the norm of
    the inverse metric at its posterior's mean, in that posterior's standard deviations, so that
    the size of the metric does not matter, and no metric makes the steps unstable. The bound is
    exact up to the error of the fixed-point iterations: the volume they should keep changes by a
    thousandth or less at the default step size, and more with its third power.

    Parameters
    ----------
    encoder, decoder, latent_dim, likelihood, n_leapfrog, step_size, beta_zero, learn_step_size
        See ``HVAE``.
    metric_network : Module, optional
        From rows (batch, ...) to features (batch, width), in which the entries of L_i are linear.
        They saturate at 3. By default one hidden layer of 128 rectified units.
    n_centroids : int, default=200
        Kernels in the metric.
    temperature : float, default=1.5
        Width T of the kernels, in units of the latent space.
    regularization : float, default=0.01
        The inverse metric lambda far from all centroids.
    n_fixed_point : int, default=3
        Iterations that solve an implicit step.

    References
    ----------
    .. [1] Chadebec, Mantoux, Allassonniere, "Geometry-Aware Hamiltonian Variational
       Auto-Encoder", arXiv:2010.11518, 2020.
    .. [2] Girolami, Calderhead, "Riemann manifold Langevin and Hamiltonian Monte Carlo methods",
       JRSS B 73, 2011, section 6.

    Examples
    --------
    >>> import torch
    >>> from torch import nn
    >>> from skvae.models import RHVAE
    >>> encoder = nn.Sequential(nn.Linear(8, 16), nn.ReLU())
    >>> model = RHVAE(encoder, nn.Linear(2, 8), latent_dim=2, n_centroids=10)
    >>> x = torch.randn(50, 8)
    >>> model.build(x)
    >>> model.finalize(x)
    >>> G, G_inv, log_det_G = model.metric(torch.zeros(3, 2))
    >>> G.shape, log_det_G.shape
    (torch.Size([3, 2, 2]), torch.Size([3]))
    """

    default_sampler = "rhvae_manifold"
    centroids: Tensor
    factors: Tensor
    n_written: Tensor

    def __init__(
        self,
        encoder: nn.Module,
        decoder: nn.Module,
        latent_dim: int,
        *,
        likelihood: Likelihood | None = None,
        n_leapfrog: int = 3,
        step_size: float = 0.1,
        beta_zero: float = 0.3,
        learn_step_size: bool = True,
        metric_network: nn.Module | None = None,
        n_centroids: int = 200,
        temperature: float = 1.5,
        regularization: float = 0.01,
        n_fixed_point: int = 3,
    ) -> None:
        super().__init__(
            encoder,
            decoder,
            latent_dim,
            likelihood=likelihood,
            n_leapfrog=n_leapfrog,
            step_size=step_size,
            beta_zero=beta_zero,
            learn_step_size=learn_step_size,
        )
        check_count("n_centroids", n_centroids)
        check_count("n_fixed_point", n_fixed_point)
        check_number("temperature", temperature, MIN_TEMPERATURE)
        check_number("regularization", regularization, MIN_REGULARIZATION)
        self.n_centroids, self.n_fixed_point = n_centroids, n_fixed_point
        self.temperature, self.regularization = temperature, regularization
        if metric_network is None:
            metric_network = nn.Sequential(nn.Flatten(), nn.LazyLinear(128), nn.ReLU())
        self.metric_network = metric_network
        self.metric_head = nn.LazyLinear(latent_dim * (latent_dim + 1) // 2)
        self.register_buffer("centroids", torch.zeros(n_centroids, latent_dim))
        self.register_buffer("factors", torch.zeros(n_centroids, latent_dim, latent_dim))
        self.register_buffer("n_written", torch.zeros((), dtype=torch.long))

    def _forward_lazy(self, x: Tensor) -> None:
        super()._forward_lazy(x)
        # In evaluation the metric comes from the buffers alone.
        self._find_factors(x)

    @torch.no_grad()
    def finalize(self, x: Tensor) -> None:
        """Keep the metric of the trained model: that of rows whose latents are spread over all.

        Parameters
        ----------
        x : Tensor of shape (batch, ...)
            The training rows. Of at most 10,000 of them the means are clustered, and the row
            nearest to the middle of each cluster is kept.
        """
        stride = math.ceil(len(x) / MAX_SPREAD_ROWS)
        x = x[::stride]
        with eval_mode(self):
            means = torch.cat([self.embed(chunk) for chunk in x.split(CHUNK_ROWS)])
            rows = spread_rows(means, self.n_centroids)
            factors = self._find_factors(x[rows])
        self.n_written.zero_()
        self.factors.zero_()
        self._remember(means[rows], factors)

    @torch.no_grad()
    def metric(self, z: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the metric, its inverse and its volume in evaluation.

        Parameters
        ----------
        z : Tensor of shape (n, latent_dim)
            Points in the latent space.

        Returns
        -------
        G, G_inv : Tensor of shape (n, latent_dim, latent_dim)
        log_det_G : Tensor of shape (n,)
        """
        metric = self._metric(self.centroids, self.factors)
        found = [metric.at(chunk) for chunk in z.split(CHUNK_ROWS)]
        cholesky = torch.cat([at.cholesky for at in found])
        inverse = torch.cat([at.inverse for at in found])
        log_det = torch.cat([-at.log_det_inverse() for at in found])
        return torch.cholesky_inverse(cholesky), inverse, log_det

    def _metric(self, centroids: Tensor, factors: Tensor) -> KernelMetric:
        return KernelMetric(centroids, factors, self.temperature, self.regularization)

    def _find_factors(self, x: Tensor) -> Tensor:
        """Return L_i of rows, (batch, latent_dim, latent_dim): lower, the diagonal positive."""
        # Bounded, for a metric that can be inverted in float32.
        entries = MAX_ENTRY * torch.tanh(self.metric_head(self.metric_network(x)) / MAX_ENTRY)
        rows, columns = torch.tril_indices(self.latent_dim, self.latent_dim, device=x.device)
        positive = F.softplus(entries)
        factors = entries.new_zeros(len(x), self.latent_dim, self.latent_dim)
        factors[:, rows, columns] = torch.where(rows == columns, positive, entries)
        return factors

    def _remember(self, centroids: Tensor, factors: Tensor) -> None:
        """Write rows over the oldest of the buffers."""
        count = torch.arange(len(centroids), device=self.n_written.device)
        places = (self.n_written + count) % self.n_centroids
        self.centroids[places] = centroids.detach()
        self.factors[places] = factors.detach()
        self.n_written += len(centroids)

    def _current_metric(self, x: Tensor, mu: Tensor) -> KernelMetric:
        """Return the metric of the batch in training, the one kept in evaluation."""
        if not self.training:
            return self._metric(self.centroids, self.factors)
        centroids = mu[: self.n_centroids].detach()
        factors = self._find_factors(x[: self.n_centroids])
        self._remember(centroids, factors)
        return self._metric(centroids, factors)

    def _simulate(self, x: Tensor, encoded: Any) -> tuple[Tensor, Tensor]:
        """Let the latents of ``_encode`` move; see ``HVAE._simulate``."""
        metric = self._current_metric(x, encoded.mu)
        start = metric.at(encoded.z.flatten(0, 1))
        # By row and draw, as rows may share their noise.
        noise = torch.randn_like(encoded.z).flatten(0, 1)
        rho = torch.linalg.solve_triangular(start.cholesky.mT, noise.unsqueeze(-1), upper=True)
        rho = rho.squeeze(-1) / math.sqrt(self.beta_zero)
        end, rho = self._implicit_leapfrog(x, metric, start, rho, encoded)
        energies = (rho * _product(end.inverse, rho) - noise.square()).sum(-1)
        momentum = 0.5 * (energies + start.log_det_inverse() - end.log_det_inverse())
        shape = encoded.z.shape
        return end.z.view(shape), momentum.view(shape[:2])

    def _implicit_leapfrog(
        self, x: Tensor, metric: KernelMetric, at: MetricAt, rho: Tensor, encoded: Any
    ) -> tuple[MetricAt, Tensor]:
        """Return the metric at the latents, and the momenta, after the tempered steps."""
        shape = encoded.z.shape
        scale = torch.exp(0.5 * encoded.log_var).unsqueeze(1)
        half = 0.5 * self._row_steps(metric, encoded).expand(shape).flatten(0, 1)
        slope = self._potential_gradient(x, encoded.z, scale).flatten(0, 1)
        for cooling in self._cooling():
            G = torch.cholesky_inverse(at.cholesky)
            pushed = rho - half * slope
            for _ in range(self.n_fixed_point):
                rho = pushed - half * _kinetic_force(metric, at, G, rho)
            moved = at.z + half * _product(at.inverse, rho)
            z = at.z
            for _ in range(self.n_fixed_point):
                z = moved + half * _product(metric.inverse(metric.kernels(z)), rho)
            at = metric.at(z)
            slope = self._potential_gradient(x, z.view(shape), scale).flatten(0, 1)
            G = torch.cholesky_inverse(at.cholesky)
            rho = cooling * (rho - half * (slope + _kinetic_force(metric, at, G, rho)))
        return at, rho

    def _row_steps(self, metric: KernelMetric, encoded: Any) -> Tensor:
        """Return step sizes, (batch, 1, latent_dim), that are stable near the posterior's mean."""
        # The fixed-point iterations want steps over which the kernels change little.
        scale = torch.exp(0.5 * encoded.log_var).clamp(max=MAX_SHARE * self.temperature)
        inverse = metric.inverse(metric.kernels(encoded.mu))
        relative = inverse / (scale.unsqueeze(1) * scale.unsqueeze(2))
        norm = relative.flatten(1).norm(dim=1, keepdim=True)
        return (self.step_sizes() * torch.rsqrt(norm)).unsqueeze(1)


def _kinetic_force(metric: KernelMetric, at: MetricAt, G: Tensor, rho: Tensor) -> Tensor:
    """Return the gradient by z of -log N(rho; 0, G(z)), saturated for momenta out of bounds."""
    rho = saturated(rho, (rho * _product(at.inverse, rho)).sum(1))
    return metric.force(at, G - rho.unsqueeze(2) * rho.unsqueeze(1))


def _product(matrices: Tensor, vectors: Tensor) -> Tensor:
    return (matrices @ vectors.unsqueeze(-1)).squeeze(-1)


def spread_rows(points: Tensor, n_rows: int) -> Tensor:
    """Return the indices of at most ``n_rows`` points that are spread over all of them.

    Lloyd's k-means from points at equal places in the data, without randomness; then the point
    nearest to each mean.

    Parameters
    ----------
    points : Tensor of shape (n, latent_dim)
        The points.
    n_rows : int
        Most indices.

    Returns
    -------
    Tensor of shape (n_found,), in ascending order
    """
    if len(points) <= n_rows:
        return torch.arange(len(points), device=points.device)
    start = torch.linspace(0, len(points) - 1, n_rows, device=points.device).long()
    means = points[start]
    for _ in range(N_SPREAD_ROUNDS):
        nearest = torch.cdist(points, means).argmin(1)
        sums = torch.zeros_like(means).index_add_(0, nearest, points)
        sizes = nearest.bincount(minlength=n_rows).to(sums).unsqueeze(1)
        # A mean that no point is nearest to stays where it is.
        means = torch.where(sizes > 0, sums / sizes.clamp(min=1), means)
    return torch.cdist(means, points).argmin(1).unique()
