"""A kernel density estimate of the latents."""

from __future__ import annotations

from numbers import Real
from typing import Any, Literal

import numpy as np
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_array

from skvae.samplers.base import LatentSampler


class KernelDensitySampler(LatentSampler):
    """Draw one of the latents at random, and move it a little.

    The noise has the covariance of the latents times the square of the bandwidth. Each latent is
    first drawn towards the mean by as much as the noise adds, so that the draws have the mean and
    covariance of the latents themselves ([1]_).

    The sampler holds all latents that it was fitted on.

    Parameters
    ----------
    bandwidth : {"scott", "silverman"} or float, default="scott"
        Width of the kernel in standard deviations of the latents, at most 1: a number, or
        ``n ** (-1 / (d + 4))`` for n latents of d dimensions (Scott's), or
        ``(n * (d + 2) / 4) ** (-1 / (d + 4))`` (Silverman's).

    Attributes
    ----------
    n_features_in_ : int
        Size of the latent.
    bandwidth_ : float
        The bandwidth.
    mean_ : float32 array of shape (latent_dim,)
        Mean of the latents.
    latents_ : float32 array of shape (n_samples, latent_dim)
        The latents, less their mean.
    factor_ : float32 array of shape (latent_dim, latent_dim)
        Square root of their covariance.

    References
    ----------
    .. [1] Silverman, "Density Estimation for Statistics and Data Analysis", 1986, section 6.4.

    Examples
    --------
    >>> import numpy as np
    >>> from skvae.samplers import KernelDensitySampler
    >>> Z = np.random.default_rng(0).normal(5, 1, size=(200, 2))
    >>> KernelDensitySampler().fit(Z).sample(100, random_state=0).mean() > 4
    np.True_
    """

    _parameter_constraints: dict[str, list[Any]] = {
        "bandwidth": [StrOptions({"scott", "silverman"}), Interval(Real, 0, 1, closed="right")],
    }

    def __init__(self, bandwidth: Literal["scott", "silverman"] | float = "scott") -> None:
        self.bandwidth = bandwidth

    def fit(self, Z: np.ndarray, y: None = None) -> KernelDensitySampler:
        """Keep the latents.

        Parameters
        ----------
        Z : array-like of shape (n_samples, latent_dim)
            Latents of the training rows.
        y : None
            Ignored.
        """
        self._validate_params()
        Z = check_array(Z, dtype=np.float64)
        n, d = Z.shape
        self.n_features_in_ = d
        mean = Z.mean(axis=0)
        values, vectors = np.linalg.eigh((Z - mean).T @ (Z - mean) / n)
        if isinstance(self.bandwidth, str):
            effective = n if self.bandwidth == "scott" else n * (d + 2) / 4
            self.bandwidth_ = float(min(1.0, effective ** (-1 / (d + 4))))
        else:
            self.bandwidth_ = float(self.bandwidth)
        self.mean_ = mean.astype(np.float32)
        self.latents_ = (Z - mean).astype(np.float32)
        self.factor_ = (np.sqrt(values.clip(min=0))[:, None] * vectors.T).astype(np.float32)
        return self

    def _draw(self, n_samples: int, rng: np.random.RandomState) -> np.ndarray:
        generator = np.random.default_rng(rng.randint(2**31 - 1))
        chosen = self.latents_[generator.integers(len(self.latents_), size=n_samples)]
        noise = generator.standard_normal(chosen.shape, dtype=np.float32) @ self.factor_
        h = self.bandwidth_
        shrinkage = np.float32(np.sqrt(1 - h * h))
        return self.mean_ + shrinkage * chosen + np.float32(h) * noise
