"""The standard normal: the prior that the divergence of a VAE is taken to."""

from __future__ import annotations

import numpy as np
from sklearn.utils.validation import check_array

from skvae.samplers.base import LatentSampler


class NormalSampler(LatentSampler):
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

    def _draw(self, n_samples: int, rng: np.random.RandomState) -> np.ndarray:
        generator = np.random.default_rng(rng.randint(2**31 - 1))
        return generator.standard_normal((n_samples, self.n_features_in_), dtype=np.float32)
