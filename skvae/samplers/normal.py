"""The standard normal: the prior that the divergence of a VAE is taken to."""

from __future__ import annotations

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_array, check_is_fitted

from skvae._random import private_random_state


class NormalSampler(BaseEstimator):
    """Draw latents from N(0, I).

    Attributes
    ----------
    n_features_in_ : int
        Size of the latent.

    Examples
    --------
    >>> import numpy as np
    >>> from skvae.samplers import NormalSampler
    >>> NormalSampler().fit(np.zeros((10, 3))).sample(2, random_state=0).shape
    (2, 3)
    """

    def fit(self, Z: np.ndarray, y: None = None) -> NormalSampler:
        """Note the size of the latent.

        Parameters
        ----------
        Z : array-like of shape (n_samples, latent_dim)
            Latents of the training rows.
        y : None
            Ignored.
        """
        self.n_features_in_ = check_array(Z).shape[1]
        return self

    def sample(
        self, n_samples: int = 1, *, random_state: int | np.random.RandomState | None = None
    ) -> np.ndarray:
        """Draw latents, float32 of shape (n_samples, latent_dim)."""
        check_is_fitted(self)
        seed = private_random_state(random_state).randint(2**31 - 1)
        rng = np.random.default_rng(seed)
        return rng.standard_normal((n_samples, self.n_features_in_), dtype=np.float32)
