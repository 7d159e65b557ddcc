"""Likelihoods p(x | x_hat): what a decoder's output says of the data.

Each is a module with ``log_prob``, ``mean`` and ``sample``. Log likelihoods are sums over features,
in nats, with their normalising constants: they compare between likelihoods of the same data.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from enum import Enum
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from skvae.models.core import LOG_2PI

# Scales of a likelihood never fall below this share of the data's own scale of one.
MIN_VARIANCE = 1e-6
# Batches over which a running variance is averaged.
N_AVERAGED = 50


class LikelihoodType(Enum):
    """The likelihoods without parameters, by name."""

    GAUSSIAN = "gaussian"
    BERNOULLI = "bernoulli"


def log_likelihood(
    x: Tensor, x_hat: Tensor, likelihood: str | LikelihoodType = LikelihoodType.GAUSSIAN
) -> Tensor:
    """Log likelihood of each element, up to a constant.

    Parameters
    ----------
    x : Tensor of shape (batch, ...)
        Data.
    x_hat : Tensor of the same shape
        Means of a Gaussian of variance one, or logits of a Bernoulli.
    likelihood : {"gaussian", "bernoulli"} or LikelihoodType, default="gaussian"
        Whatever its case. The Gaussian comes without its constant, half the log of 2 pi.

    Returns
    -------
    Tensor of the same shape
        In nats.

    Raises
    ------
    ValueError
        The shapes differ (nothing is broadcast), or the likelihood is unknown.

    Examples
    --------
    >>> import torch
    >>> from skvae.models import log_likelihood
    >>> log_likelihood(torch.ones(1, 2), torch.zeros(1, 2))
    tensor([[-0.5000, -0.5000]])
    """
    if x.shape != x_hat.shape:
        raise ValueError(
            f"x has shape {tuple(x.shape)} and x_hat {tuple(x_hat.shape)}: they must be the same, "
            "as broadcasting would pair elements that do not belong together."
        )
    if isinstance(likelihood, str):
        likelihood = LikelihoodType(likelihood.lower())
    if likelihood is LikelihoodType.GAUSSIAN:
        return -0.5 * (x - x_hat).square()
    if likelihood is LikelihoodType.BERNOULLI:
        return -F.binary_cross_entropy_with_logits(x_hat, x, reduction="none")
    raise ValueError(
        f"likelihood={likelihood!r} is unknown: take {[t.value for t in LikelihoodType]}."
    )


class Likelihood(nn.Module, ABC):
    """Base of likelihoods.

    A decoder gives, for each latent, a tensor of the shape of a row: ``x_hat``.
    """

    @abstractmethod
    def log_prob(self, x: Tensor, x_hat: Tensor) -> Tensor:
        """Return log p(x | x_hat), summed over features.

        Parameters
        ----------
        x : Tensor of shape (batch, ...)
            Data.
        x_hat : Tensor of shape (batch, S, ...)
            The decoder's output for S latents a row.

        Returns
        -------
        Tensor of shape (batch, S)
            In nats.
        """

    @abstractmethod
    def mean(self, x_hat: Tensor) -> Tensor:
        """Return the expected data, of the shape of ``x_hat``."""

    @abstractmethod
    def sample(self, x_hat: Tensor) -> Tensor:
        """Draw data, of the shape of ``x_hat``."""

    def forget_scale(self) -> None:
        """Let the next batches in training mode alone decide a running scale, if there is one."""

    def check(self, x: Tensor) -> None:
        """Raise ValueError if rows (batch, ...) are none that the likelihood has room for."""

    def start(self, x: Tensor) -> Tensor:
        """Return the output, of a row's shape, of a decoder that knows of rows only their mean."""
        return x.mean(0)


def sum_over_features(values: Tensor) -> Tensor:
    """Sum (batch, S, ...) over all but the first two dimensions."""
    return values.flatten(2).sum(2) if values.ndim > 2 else values


class RunningScale(nn.Module):
    """The best scale for the batch in training, a running average of it in evaluation.

    Parameters
    ----------
    minimum : float
        Least value.
    shape : tuple of int, default=()
        Shape of the scale: one number, or one for each of several features.
    """

    value: Tensor
    n_updates: Tensor

    def __init__(self, minimum: float, shape: tuple[int, ...] = ()) -> None:
        super().__init__()
        self.minimum = minimum
        self.register_buffer("value", torch.ones(shape))
        self.register_buffer("n_updates", torch.zeros(()))

    def forward(self, best: Tensor) -> Tensor:
        """Return the scale to use for a batch whose own best scale is ``best``."""
        if not self.training:
            return self.value
        best = best.detach().clamp(min=self.minimum)
        # A batch gone wrong is skipped by the training loop, and must leave nothing here.
        finite = best < math.inf  # which no NaN is either
        if best.ndim:
            finite = finite.all()
        value, n_updates = self.value, self.n_updates
        n_updates.add_(finite)
        weight = finite / n_updates.clamp(1, N_AVERAGED)
        value.lerp_(torch.where(finite, best, value).to(value), weight)
        return best


class GaussianLikelihood(Likelihood):
    """A Gaussian around the decoder's output.

    Parameters
    ----------
    variance : "optimal", "learned" or float, default="optimal"
        ``"optimal"`` takes the mean squared error of the batch, the variance of greatest
        likelihood [1]_ (eq. 5): reconstruction and divergence balance by themselves, where a
        variance of one makes the posterior collapse on data of small scale. ``"learned"`` has one
        parameter a feature. A number fixes it.
    feature_shape : tuple of int, optional
        Shape of a row; needed for ``"learned"``.
    normalize : bool, default=True
        Whether the log likelihood has its constant, half the log of 2 pi a feature.

    References
    ----------
    .. [1] Rybkin, Daniilidis, Levine, "Simple and Effective VAE Training with Calibrated
       Decoders", ICML 2021.

    Examples
    --------
    >>> import torch
    >>> from skvae.models import GaussianLikelihood
    >>> GaussianLikelihood(variance=1.0).log_prob(torch.zeros(1, 2), torch.ones(1, 1, 2))
    tensor([[-2.8379]])
    """

    def __init__(
        self,
        variance: float | Literal["optimal", "learned"] = "optimal",
        *,
        feature_shape: tuple[int, ...] | None = None,
        normalize: bool = True,
    ) -> None:
        super().__init__()
        self.constant = LOG_2PI if normalize else 0.0
        self.scale: RunningScale | None = None
        self.log_variance: Tensor | None = None
        if variance == "optimal":
            self.scale = RunningScale(MIN_VARIANCE)
        elif variance == "learned":
            if feature_shape is None:
                raise ValueError("variance='learned' needs feature_shape, the shape of a row.")
            self.log_variance = nn.Parameter(torch.zeros(feature_shape))
        elif isinstance(variance, str) or not variance > 0:
            raise ValueError(
                f"variance={variance!r} is neither 'optimal', 'learned' nor a number above 0."
            )
        else:
            self.register_buffer("fixed", torch.tensor(float(variance)), persistent=False)

    def log_prob(self, x: Tensor, x_hat: Tensor) -> Tensor:
        """Return log p(x | x_hat), of shape (batch, S)."""
        squares = F.mse_loss(x_hat, x.unsqueeze(1).expand_as(x_hat), reduction="none")
        n_features = math.prod(x.shape[1:])
        if self.log_variance is not None:
            variance = self.variance()
            terms = squares / variance + variance.log()
            return -0.5 * (sum_over_features(terms) + n_features * self.constant)
        errors = sum_over_features(squares)
        if self.scale is None:
            variance = self.get_buffer("fixed")
        else:
            variance = self.scale(errors.detach().mean() / n_features)
        # Few operations on single numbers: in a small model they cost as much as the products.
        offset = (variance.log() + self.constant) * (-0.5 * n_features)
        return torch.addcmul(offset, errors, -0.5 / variance)

    def mean(self, x_hat: Tensor) -> Tensor:
        """Return the expected data: the output itself."""
        return x_hat

    def sample(self, x_hat: Tensor) -> Tensor:
        """Draw data around the output."""
        return x_hat + self.variance().sqrt() * torch.randn_like(x_hat)

    def variance(self) -> Tensor:
        """Return the variance in evaluation: 0-d, or one a feature."""
        if self.log_variance is not None:
            # Added rather than clamped, so that the gradient finds the way back up.
            return self.log_variance.exp() + MIN_VARIANCE
        return self.get_buffer("fixed") if self.scale is None else self.scale.value

    def forget_scale(self) -> None:
        """Let the next batches in training mode alone decide the variance."""
        if self.scale is not None:
            self.scale.n_updates.zero_()


class LaplaceLikelihood(Likelihood):
    """A Laplace density around the decoder's output: absolute errors, for data with outliers.

    Parameters
    ----------
    scale : "optimal" or float, default="optimal"
        ``"optimal"`` takes the mean absolute error of the batch, the scale of greatest likelihood.
    """

    def __init__(self, scale: float | Literal["optimal"] = "optimal") -> None:
        super().__init__()
        self.scale: RunningScale | None = None
        if scale == "optimal":
            self.scale = RunningScale(MIN_VARIANCE**0.5)
        elif isinstance(scale, str) or not scale > 0:
            raise ValueError(f"scale={scale!r} is neither 'optimal' nor a number above 0.")
        else:
            self.register_buffer("fixed", torch.tensor(float(scale)), persistent=False)

    def log_prob(self, x: Tensor, x_hat: Tensor) -> Tensor:
        """Return log p(x | x_hat), of shape (batch, S)."""
        errors = sum_over_features((x_hat - x.unsqueeze(1)).abs())
        n_features = math.prod(x.shape[1:])
        if self.scale is None:
            scale = self.get_buffer("fixed")
        else:
            scale = self.scale(errors.mean() / n_features)
        return -errors / scale - n_features * (2 * scale).log()

    def mean(self, x_hat: Tensor) -> Tensor:
        """Return the expected data: the output itself."""
        return x_hat

    def sample(self, x_hat: Tensor) -> Tensor:
        """Draw data around the output."""
        scale = self.get_buffer("fixed") if self.scale is None else self.scale.value
        uniform = torch.rand_like(x_hat) - 0.5
        # The clamp keeps the logarithm finite where the draw is exactly a half.
        tail = torch.log1p(-2 * uniform.abs().clamp(max=0.5 - 1e-7))
        return x_hat - scale * uniform.sign() * tail

    def forget_scale(self) -> None:
        """Let the next batches in training mode alone decide the scale."""
        if self.scale is not None:
            self.scale.n_updates.zero_()


class BernoulliLikelihood(Likelihood):
    """A Bernoulli on the decoder's logits, for data in [0, 1].

    Parameters
    ----------
    None
    """

    def log_prob(self, x: Tensor, x_hat: Tensor) -> Tensor:
        """Return log p(x | x_hat), of shape (batch, S)."""
        target = x.unsqueeze(1).expand_as(x_hat)
        entropy = F.binary_cross_entropy_with_logits(x_hat, target, reduction="none")
        return -sum_over_features(entropy)

    def check(self, x: Tensor) -> None:
        """Raise ValueError for rows outside [0, 1]."""
        low, high = float(x.min()), float(x.max())
        if not (low >= 0 and high <= 1):
            raise ValueError(
                f"likelihood='bernoulli' needs values in [0, 1], found {low:g} to {high:g}. "
                "Rescale X, or take likelihood='gaussian'."
            )

    def start(self, x: Tensor) -> Tensor:
        """Return the logits of the means, which are kept from 0 and 1."""
        return torch.logit(x.mean(0), eps=0.01)

    def mean(self, x_hat: Tensor) -> Tensor:
        """Return the probabilities."""
        return torch.sigmoid(x_hat)

    def sample(self, x_hat: Tensor) -> Tensor:
        """Draw zeros and ones."""
        return torch.bernoulli(torch.sigmoid(x_hat))
