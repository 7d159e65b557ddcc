"""A Gaussian mixture fitted to the latents after training [1]_."""

from __future__ import annotations

import warnings
from numbers import Integral
from typing import Any

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture
from sklearn.utils._param_validation import Interval
from sklearn.utils.validation import check_array

from skvae._random import private_random_state
from skvae.samplers.base import LatentSampler
from skvae.samplers.scaling import standardize

# The mixture is settled by this many latents; more only cost time.
MAX_FIT_ROWS = 10_000


class GaussianMixtureSampler(LatentSampler):
    """Draw latents from a mixture of Gaussians with full covariances.

    Worth its seconds where the posteriors together are far from N(0, I): a large ``free_nats`` or
    a small ``beta``.

    Parameters
    ----------
    n_components : int, default=16
        Gaussians in the mixture; fewer if there are fewer latents than ten for each.
    random_state : int, RandomState instance or None, default=None
        Seeds the start of the mixture and the choice of rows.

    Attributes
    ----------
    mean_, scale_ : float64 array of shape (latent_dim,)
        By which the latents are standardised.
    mixture_ : GaussianMixture
        The mixture, fitted to standardised latents.

    References
    ----------
    .. [1] Ghosh, Sajjadi, Vergari, Black, Scholkopf, "From Variational to Deterministic
       Autoencoders", ICLR 2020, section 4.

    Examples
    --------
    >>> import numpy as np
    >>> from skvae.samplers import GaussianMixtureSampler
    >>> Z = np.random.default_rng(0).normal(5, 1, size=(200, 2))
    >>> GaussianMixtureSampler(n_components=1).fit(Z).sample(100, random_state=0).mean() > 4
    np.True_
    """

    _parameter_constraints: dict[str, list[Any]] = {
        "n_components": [Interval(Integral, 1, None, closed="left")],
        "random_state": ["random_state"],
    }

    def __init__(
        self,
        n_components: int = 16,
        *,
        random_state: int | np.random.RandomState | None = None,
    ) -> None:
        self.n_components = n_components
        self.random_state = random_state

    def fit(self, Z: np.ndarray, y: None = None) -> GaussianMixtureSampler:
        """Fit the mixture.

        Parameters
        ----------
        Z : array-like of shape (n_samples, latent_dim)
            Latents of the training rows, drawn from their posteriors.
        y : None
            Ignored.
        """
        self._validate_params()
        Z = check_array(Z, dtype=np.float64)
        rng = private_random_state(self.random_state)
        self.n_features_in_ = Z.shape[1]
        if len(Z) > MAX_FIT_ROWS:
            Z = Z[rng.choice(len(Z), MAX_FIT_ROWS, replace=False)]
        if len(Z) == 1:
            Z = Z.repeat(2, axis=0)  # scikit-learn asks for two
        standard, self.mean_, self.scale_ = standardize(Z)
        self.mixture_ = GaussianMixture(
            max(1, min(self.n_components, len(Z) // 10)),
            reg_covar=1e-5,
            max_iter=60,
            random_state=rng.randint(2**31 - 1),
        )
        with warnings.catch_warnings():
            # A mixture that still moves a little after 60 rounds samples as well.
            warnings.simplefilter("ignore", ConvergenceWarning)
            self.mixture_.fit(standard)
        return self

    def _draw(self, n_samples: int, rng: np.random.RandomState) -> np.ndarray:
        if n_samples == 0:
            return np.empty((0, self.n_features_in_), np.float32)
        self.mixture_.random_state = rng.randint(2**31 - 1)
        standard, _ = self.mixture_.sample(n_samples)
        # scikit-learn returns the draws sorted by component.
        return (rng.permutation(standard) * self.scale_ + self.mean_).astype(np.float32)
