"""The Poincare ball: its geometry, and two normal distributions on it.

Points are vectors x with ``curvature * |x|^2 < 1``, the ball of constant curvature ``-curvature``.
Formulas are those of Ganea, Becigneul and Hofmann (2018, section 2), turned so that differences of
points stand where they would otherwise come out of a subtraction of numbers near 1: distances are
right to float32's digits both between close points and near the edge.

Densities are by the Riemannian measure, ``conformal_factor(x)^d dx``: of two distributions on one
ball, the difference of ``log_prob`` is the log ratio of their densities by any other measure too.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from skvae.models.implicit import (
    attach_derivative,
    implicit_derivative,
    quadrature,
    rejection_sample,
    repeat_last,
    samples_first,
    widen,
)
from skvae.models.von_mises_fisher import log_sphere_area, uniform_on_sphere

# Shorter vectors are 0 to the functions below, which are smooth there.
MIN_LENGTH = 1e-15
# A radius lies within so many scales of the mode.
REACH = 8.5


def _length(x: Tensor) -> Tensor:
    """Euclidean length, of shape (..., 1), with gradient 0 at 0."""
    return x.square().sum(dim=-1, keepdim=True).clamp(min=MIN_LENGTH**2).sqrt()


def _log_sinhc(x: Tensor) -> Tensor:
    """``log(sinh(x) / x)`` for x >= 0."""
    small = x < 0.05
    near, far = torch.where(small, x, 0.0).square(), torch.where(small, 1.0, x)
    series = near * (1 / 6 - near * (1 / 180 - near / 2835))
    return torch.where(small, series, far + torch.log(-torch.expm1(-2 * far) / (2 * far)))


@dataclass(frozen=True)
class PoincareBall:
    """The ball of constant curvature ``-curvature``.

    Parameters
    ----------
    curvature : float, default=1.0
        Minus the curvature, above 0; the ball has radius ``curvature ** -0.5``.

    Examples
    --------
    >>> import torch
    >>> from skvae.models.hyperbolic import PoincareBall
    >>> ball = PoincareBall()
    >>> x = ball.exp0(torch.tensor([1.0, 0.0]))
    >>> x
    tensor([0.7616, 0.0000])
    >>> ball.distance(torch.zeros(2), x)
    tensor(2.)
    """

    curvature: float = 1.0

    def __post_init__(self) -> None:
        if not (self.curvature > 0 and math.isfinite(self.curvature)):
            raise ValueError(f"curvature must be a finite number above 0, got {self.curvature!r}.")

    @property
    def _root(self) -> float:
        return math.sqrt(self.curvature)

    def _gap(self, x: Tensor) -> Tensor:
        """``1 - c |x|^2``, of shape (..., 1), no nearer to 0 than it is on projected points."""
        gap = 1.0 - self.curvature * x.square().sum(dim=-1, keepdim=True)
        return gap.clamp(min=_margin(x.dtype))

    def project(self, x: Tensor) -> Tensor:
        """Bring points outside the ball, or too near its edge for their dtype, back inside."""
        limit = (1.0 - _margin(x.dtype)) / self._root
        length = _length(x)
        return torch.where(length > limit, x * (limit / length), x)

    def conformal_factor(self, x: Tensor) -> Tensor:
        """Return ``2 / (1 - c |x|^2)``, of shape (..., 1): a length at x over the Euclidean one."""
        return 2.0 / self._gap(x)

    def log_volume(self, x: Tensor) -> Tensor:
        """Log density of the Riemannian measure by the Euclidean one, of shape (...).

        Added to a ``log_prob``, it gives the log density by Euclidean volume.
        """
        return x.shape[-1] * self.conformal_factor(x).log().squeeze(-1)

    def mobius_add(self, x: Tensor, y: Tensor) -> Tensor:
        """Return ``x (+) y``, of shape (..., d)."""
        total = x + y
        square = self.curvature * total.square().sum(dim=-1, keepdim=True)
        gap = self._gap(x)
        return self.project((gap * total + square * x) / (gap * self._gap(y) + square))

    def distance(self, x: Tensor, y: Tensor) -> Tensor:
        """Length of the geodesic from x to y, of shape (...)."""
        return self._distance(x, y).squeeze(-1)

    def _distance(self, x: Tensor, y: Tensor) -> Tensor:
        ratio = self._root * _length(y - x) / torch.sqrt(self._gap(x) * self._gap(y))
        return 2.0 / self._root * torch.asinh(ratio)

    def exp0(self, v: Tensor) -> Tensor:
        """Follow the geodesic that leaves 0 with velocity v, for a unit of time."""
        length = self._root * _length(v)
        return self.project(torch.tanh(length) / length * v)

    def log0(self, y: Tensor) -> Tensor:
        """Return the velocity at 0 whose geodesic arrives at y: the inverse of ``exp0``."""
        return self.log(torch.zeros_like(y), y)

    def exp(self, x: Tensor, v: Tensor) -> Tensor:
        """Follow the geodesic that leaves x with velocity v, for a unit of time."""
        return self.mobius_add(x, self.exp0(v / self._gap(x)))

    def log(self, x: Tensor, y: Tensor) -> Tensor:
        """Return the velocity at x whose geodesic arrives at y: the inverse of ``exp``."""
        step, gap = y - x, self._gap(x)
        length = _length(step)
        square = self.curvature * length.square()
        # (-x) (+) y times its denominator, and the length of that.
        direction = gap * step - square * x
        norm = length * torch.sqrt(gap * self._gap(y) + square)
        return 0.5 * gap * self._distance(x, y) / norm * direction

    def transport0(self, x: Tensor, v: Tensor) -> Tensor:
        """Carry the tangent vector v at 0 to x, parallel along the geodesic."""
        return self._gap(x) * v


def _margin(dtype: torch.dtype) -> float:
    """Relative distance to the edge below which ``1 - c |x|^2`` has lost its digits."""
    return 64 * torch.finfo(dtype).eps


class WrappedNormal:
    """A normal distribution of the tangent space at ``loc``, wrapped on the ball.

    ``z = exp_loc(v / conformal_factor(loc))`` with ``v ~ N(0, scale^2)`` (Nagano et al. 2019,
    algorithm 1; in the scaling of Mathieu et al. 2019): the length of v is the distance from
    ``loc``, so that scales mean the same at every ``loc``.

    Parameters
    ----------
    loc : Tensor of shape (..., d)
        Points of the ball.
    scale : Tensor that broadcasts to (..., d)
        Standard deviations along the axes, in units of distance.
    ball : PoincareBall
        Where it lives.
    """

    def __init__(self, loc: Tensor, scale: Tensor, ball: PoincareBall) -> None:
        self.loc, self.scale, self.ball = loc, scale, ball

    def rsample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        """Draw points, differentiable in ``loc`` and ``scale``.

        Returns
        -------
        Tensor of shape (*sample_shape, ..., d)
        """
        shape = torch.broadcast_shapes(self.loc.shape, self.scale.shape)
        *batch, dim = shape
        noise = torch.randn(
            *batch, *sample_shape, dim, dtype=self.loc.dtype, device=self.loc.device
        )
        noise = samples_first(noise, len(batch), sample_shape)
        return _walk(self.ball, self.loc, self.scale * noise)

    def log_prob(self, z: Tensor) -> Tensor:
        """Log density by the Riemannian measure, of shape (...)."""
        v = self.ball.log(self.loc, z) * self.ball.conformal_factor(self.loc)
        v, scale = torch.broadcast_tensors(v, self.scale)
        terms = 0.5 * (v / scale).square() + scale.log() + 0.5 * math.log(2 * math.pi)
        stretch = _log_sinhc(math.sqrt(self.ball.curvature) * self.ball.distance(self.loc, z))
        return -terms.sum(dim=-1) - (z.shape[-1] - 1) * stretch


class RiemannianNormal:
    """The distribution with density ``exp(-distance(loc, z)^2 / (2 scale^2)) / normaliser``.

    Of all distributions with that mean and dispersion, the one of greatest entropy (Pennec 2006;
    Mathieu et al. 2019, appendix B). The radius has density
    ``exp(-r^2 / (2 scale^2)) (sinh(sqrt(c) r) / sqrt(c))^(d - 1)``: log-concave, and more so than
    the normal distribution of the same scale, which therefore bounds it in rejection sampling and
    bounds the interval for quadrature. The normaliser is found by quadrature, to 1e-12: its closed
    form is an alternating sum of d terms, which cancel for a small scale until nothing is left.

    Parameters
    ----------
    loc : Tensor of shape (..., d)
        Points of the ball.
    scale : Tensor that broadcasts to (..., 1)
        Scales, in units of distance.
    ball : PoincareBall
        Where it lives.
    """

    def __init__(self, loc: Tensor, scale: Tensor, ball: PoincareBall) -> None:
        self.loc, self.scale, self.ball = loc, scale, ball
        self.dim = loc.shape[-1]
        self._scale = widen(scale).squeeze(-1)
        with torch.no_grad():
            self._mode = self._mode_of_radius()
            reach = REACH * self._scale
            nodes, weights = quadrature((self._mode - reach).clamp(min=0.0), self._mode + reach)
        log_mass = self._log_radial(nodes, self._scale[..., None]) + weights.log()
        self._log_normalizer = log_mass.logsumexp(dim=-1) + log_sphere_area(self.dim)
        self._mean_square = (log_mass.softmax(dim=-1) * nodes.square()).sum(dim=-1)

    def _mode_of_radius(self) -> Tensor:
        # x = sqrt(c) r solves x = k coth(x). That is k sqrt(1 + 1 / x^2) at most, and nearly.
        k = (self.dim - 1) * self.ball.curvature * self._scale.square()
        x = torch.sqrt(0.5 * k * (k + torch.sqrt(k.square() + 4)))
        for _ in range(3):
            x = x.clamp(min=1e-30)
            x = x - (x - k / x.tanh()) / (1 + k / x.sinh().square())
        return x / math.sqrt(self.ball.curvature)

    def _log_radial(self, r: Tensor, scale: Tensor) -> Tensor:
        stretch = r.clamp(min=1e-300).log() + _log_sinhc(math.sqrt(self.ball.curvature) * r)
        return (self.dim - 1) * stretch - 0.5 * (r / scale).square()

    def log_normalizer(self) -> Tensor:
        """Logarithm of the integral of the unnormalised density by the Riemannian measure."""
        return self._log_normalizer.to(self.scale)

    def rsample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        """Draw points, differentiable in ``loc`` and ``scale``.

        The radius is drawn by rejection from the normal distribution about its mode, with the
        derivative of the inverse distribution function; the direction is uniform.

        Returns
        -------
        Tensor of shape (*sample_shape, ..., d)
        """
        batch = torch.broadcast_shapes(self.loc.shape[:-1], self._scale.shape)
        # Before the radii: how many rounds those take, the directions must not feel.
        direction = uniform_on_sphere(
            (*batch, *sample_shape, self.dim), dtype=self.loc.dtype, device=self.loc.device
        )
        radius = self._rsample_radius(batch, sample_shape).to(self.loc)[..., None]
        step = samples_first(radius * direction, len(batch), sample_shape)
        return _walk(self.ball, self.loc, step)

    def _rsample_radius(self, batch: Sequence[int], sample_shape: Sequence[int]) -> Tensor:
        """Return radii of shape (*batch, *sample_shape)."""
        scale = repeat_last(self._scale, batch, sample_shape)
        with torch.no_grad():
            mode = repeat_last(self._mode, batch, sample_shape)
            mean_square = repeat_last(self._mean_square, batch, sample_shape)
            radius = rejection_sample(self._propose_radius, 1, scale, mode)
            outward = torch.where(radius.square() < mean_square, -1.0, 1.0)
            end = (radius + outward * REACH * scale).clamp(min=0.0)
            derivative = implicit_derivative(
                radius,
                lambda r: self._log_radial(r, scale[..., None]),
                torch.square,
                mean_square,
                end,
            )
        return attach_derivative(radius, derivative, -0.5 / scale.square())

    def _propose_radius(
        self, normals: Tensor, scale: Tensor, mode: Tensor
    ) -> tuple[Tensor, Tensor]:
        noise = normals.squeeze(1)
        radius = mode + scale * noise
        log_accept = self._log_radial(radius.abs(), scale) - self._log_radial(mode, scale)
        log_accept = log_accept + 0.5 * noise.square()
        return radius.abs(), torch.where(radius > 0, log_accept, -torch.inf)

    def log_prob(self, z: Tensor) -> Tensor:
        """Log density by the Riemannian measure, of shape (...)."""
        square = (self.ball.distance(self.loc, z) / self.scale.squeeze(-1)).square()
        return -0.5 * square - self.log_normalizer()


def _walk(ball: PoincareBall, loc: Tensor, v: Tensor) -> Tensor:
    """From ``loc``, go the distance |v| in the direction of v."""
    return ball.exp(loc, v / ball.conformal_factor(loc))
