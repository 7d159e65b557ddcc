"""The von Mises-Fisher distribution on the unit sphere: densities, divergence, draws.

On the sphere S^(m-1) in R^m its density is ``exp(kappa <loc, x>)`` over the normaliser
``area * 0F1(; m/2; kappa^2 / 4)``. With ``v = m/2 - 1``, the logarithm of that hypergeometric
function is ``phi(kappa) = log(Gamma(v + 1) (2 / kappa)^v I_v(kappa))``: zero at zero, and its
derivative is the mean resultant length ``I_(v+1)(kappa) / I_v(kappa)``. Both are found for a large
order by the uniform expansion of the Bessel function and are brought down to the wanted order by
its recurrence, every term of which is positive: there is nothing to cancel or overflow.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from skvae.models.implicit import (
    attach_derivative,
    implicit_derivative,
    rejection_sample,
    repeat_last,
    samples_first,
    widen,
)

# The uniform expansion starts at this order or above: with so many terms, 1e-11 of the value.
MIN_ORDER = 15.0
N_TERMS = 8


def _expansion_coefficients(n_terms: int) -> list[list[float]]:
    """Coefficients of the logarithm of the uniform expansion's sum.

    The sum is ``exp(sum_k D_k(p) / w^k)`` for the order w, and ``D_k(p) = p^k P_k(p^2)``. Written
    for the derivatives, the recurrence of its terms (DLMF 10.41.9) is
    ``D_(k+1)' = (a D_k')' + a sum_j D_j' D_(k-j)'`` with ``a = p^2 (1 - p^2) / 2``.

    Returns
    -------
    list of lists
        The coefficients of P_1, P_2, ..., lowest power first.
    """
    # D_k' = p^(k-1) S_k(p^2), by the coefficients of S_k.
    slopes = [[1 / 8, -5 / 8]]
    for k in range(1, n_terms):
        slope = [0.0] * (k + 2)
        for i, s in enumerate(slopes[-1]):
            power = k + 1 + 2 * i
            slope[i] += 0.5 * power * s
            slope[i + 1] -= 0.5 * (power + 2) * s
        for left, right in zip(slopes[:-1], reversed(slopes[:-1]), strict=True):
            for i, s in enumerate(left):
                for j, t in enumerate(right):
                    slope[i + j] += 0.5 * s * t
                    slope[i + j + 1] -= 0.5 * s * t
        slopes.append(slope)
    return [[s / (k + 2 * i) for i, s in enumerate(slope)] for k, slope in enumerate(slopes, 1)]


_COEFFICIENTS = _expansion_coefficients(N_TERMS)


def _log_series_and_ratio(kappa: Tensor, dim: int) -> tuple[Tensor, Tensor]:
    """Return phi(kappa), as in the head of this module, and its derivative."""
    order = dim / 2 - 1
    steps = max(0, math.ceil(MIN_ORDER - order))
    top = order + steps
    root = torch.sqrt(kappa.square() + top**2)
    excess = kappa.square() / (top * (top + root))
    log_series = top * (excess - torch.log1p(0.5 * excess)) - 0.5 * torch.log1p(excess)
    slope = torch.full_like(kappa, 0.5)
    p_squared = (top / root).square()
    for k, coefficients in enumerate(_COEFFICIENTS, 1):
        value, derivative = torch.zeros_like(kappa), torch.zeros_like(kappa)
        for i, c in reversed(list(enumerate(coefficients))):
            value = value * p_squared + c
            derivative = derivative * p_squared + (k + 2 * i) * c
        # Stirling's series, of Gamma(top + 1), is the same one at kappa = 0.
        log_series = log_series + (value / root**k - sum(coefficients) / top**k)
        slope = slope + derivative / root**k
    # F = 0F1(; order + 1; kappa^2 / 4), less 1, in units of that at the top.
    above = 2 * (top + 1) * (1 / (top + root) - slope / root.square()) - 1
    here = torch.zeros_like(kappa)
    for step in range(steps):
        u = top - step
        here, above = here + kappa.square() / (4 * u * (u + 1)) * (1 + above), here
    ratio = kappa / (2 * (order + 1)) * (1 + above) / (1 + here)
    return log_series + torch.log1p(here), ratio


def log_sphere_area(dim: int) -> float:
    """Return the logarithm of the area of the unit sphere in R^dim."""
    return math.log(2) + 0.5 * dim * math.log(math.pi) - math.lgamma(0.5 * dim)


def uniform_on_sphere(
    shape: Sequence[int], *, dtype: torch.dtype | None = None, device: torch.device | None = None
) -> Tensor:
    """Draw unit vectors, uniformly; ``shape[-1]`` is the dimension of the space around."""
    return F.normalize(torch.randn(*shape, dtype=dtype, device=device), dim=-1)


class VonMisesFisher:
    """The von Mises-Fisher distribution on the unit sphere of R^m, m >= 2.

    The normaliser is computed in float64 whatever the dtype: it is a few numbers a row.

    Parameters
    ----------
    loc : Tensor of shape (..., m)
        Mean directions, of length 1.
    kappa : Tensor of shape (...)
        Concentrations, 0 or more; 0 is the uniform distribution.

    Attributes
    ----------
    mean_resultant_length : Tensor of shape (...)
        Length of the mean, from 0 for the uniform distribution to 1 for a point.

    References
    ----------
    Davidson, Falorsi, De Cao, Kipf and Tomczak (2018), Hyperspherical variational auto-encoders.

    Examples
    --------
    >>> import torch
    >>> from skvae.models.von_mises_fisher import VonMisesFisher
    >>> north = VonMisesFisher(torch.tensor([0.0, 0.0, 1.0]), torch.tensor(5.0))
    >>> north.mean_resultant_length
    tensor(0.8001)
    >>> north.kl_to_uniform()
    tensor(1.3031)
    """

    def __init__(self, loc: Tensor, kappa: Tensor) -> None:
        self.loc, self.kappa = loc, kappa
        self.dim = loc.shape[-1]
        self._kappa = widen(kappa)
        self._log_series, self._ratio = _log_series_and_ratio(self._kappa, self.dim)
        self.mean_resultant_length = self._ratio.to(kappa)

    def log_normalizer(self) -> Tensor:
        """Logarithm of the integral of ``exp(kappa <loc, x>)`` over the sphere, of shape (...)."""
        return (self._log_series + log_sphere_area(self.dim)).to(self.kappa)

    def log_prob(self, x: Tensor) -> Tensor:
        """Log density by area at unit vectors (Davidson et al. 2018, section 3.1).

        Parameters
        ----------
        x : Tensor of shape (..., m)
            Points of the sphere.

        Returns
        -------
        Tensor of shape (...)
        """
        at_mode = (self._kappa - self._log_series - log_sphere_area(self.dim)).to(self.kappa)
        # <loc, x> - 1, to the last digit where they are close.
        return at_mode - 0.5 * self.kappa * (x - self.loc).square().sum(dim=-1)

    def kl_to_uniform(self) -> Tensor:
        """Divergence from the uniform distribution, in nats (Davidson et al. 2018, section 3.2).

        Returns
        -------
        Tensor of shape (...)
        """
        return (self._kappa * self._ratio - self._log_series).to(self.kappa)

    def rsample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        """Draw points, differentiable in ``loc`` and ``kappa``.

        The angle to ``loc`` is drawn by rejection (Ulrich 1984, as corrected by Wood 1994) and the
        direction about it uniformly; a Householder reflection brings the pole to ``loc`` (Davidson
        et al. 2018, algorithm 1). The derivative of an angle in ``kappa`` is that of the inverse
        distribution function: unlike the derivative of the accepted candidate, it needs no
        correction for the probability of having been accepted (Naesseth et al. 2017).

        Parameters
        ----------
        sample_shape : sequence of int, default=()
            Draws for each pair of ``loc`` and ``kappa``.

        Returns
        -------
        Tensor of shape (*sample_shape, ..., m)
        """
        batch = torch.broadcast_shapes(self.loc.shape[:-1], self.kappa.shape)
        # Before the angles: how many rounds those take, the directions must not feel.
        around = uniform_on_sphere(
            (*batch, *sample_shape, self.dim - 1), dtype=self.loc.dtype, device=self.loc.device
        )
        angle = self._rsample_angle(batch, sample_shape).to(self.loc)[..., None]
        around = samples_first(around, len(batch), sample_shape)
        angle = samples_first(angle, len(batch), sample_shape)
        # The pole is taken on the side away from loc: their difference is never near 0.
        pole = torch.where(self.loc[..., :1] < 0, 1.0, -1.0)
        point = torch.cat([pole * angle.cos(), angle.sin() * around], dim=-1)
        mirror = F.normalize(
            torch.cat([pole - self.loc[..., :1], -self.loc[..., 1:]], dim=-1), dim=-1
        )
        return point - 2 * (mirror * point).sum(dim=-1, keepdim=True) * mirror

    def _rsample_angle(self, batch: Sequence[int], sample_shape: Sequence[int]) -> Tensor:
        """Return angles of shape (*batch, *sample_shape)."""
        kappa = repeat_last(self._kappa, batch, sample_shape)
        ratio = repeat_last(self._ratio.detach(), batch, sample_shape)
        dim = self.dim

        with torch.no_grad():
            angle = rejection_sample(_propose_angle, dim, kappa)
            # Some eight standard deviations, at least.
            width = 8 * torch.sqrt(2 / (kappa + dim - 2))
            below = torch.cos(angle) > ratio
            end = torch.where(
                below, (angle - width).clamp(min=0.0), (angle + width).clamp(max=math.pi)
            )

            def log_density(theta: Tensor) -> Tensor:
                log_sine = theta.sin().clamp(min=torch.finfo(theta.dtype).tiny).log()
                return kappa[..., None] * theta.cos() + (dim - 2) * log_sine

            derivative = implicit_derivative(angle, log_density, torch.cos, ratio, end)
        return attach_derivative(angle, derivative, kappa)


def _propose_angle(normals: Tensor, kappa: Tensor) -> tuple[Tensor, Tensor]:
    """Candidates for the angle, and the logarithm of the probability of accepting them."""
    rate = float(normals.shape[1] - 1)
    b = rate / (2 * kappa + torch.sqrt(4 * kappa.square() + rate**2))
    # The squared cosine of half the angle from a pole to a uniform direction in R^m is
    # Beta((m - 1) / 2, (m - 1) / 2).
    half = 0.5 * torch.atan2(normals[:, 1:].norm(dim=1), normals[:, 0])
    cosine, sine = half.cos(), half.sin()
    share = 0.5 * (1 + b) / (sine.square() + b * cosine.square())
    angle = 2 * torch.atan2(torch.sqrt(b) * cosine, sine)
    return angle, rate * (share.log() - share + 1)
