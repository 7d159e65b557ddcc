"""The uniform distribution on the sphere: the prior of models with spherical latents."""

from __future__ import annotations

import numpy as np
from sklearn.utils.validation import check_array

from skvae.samplers.base import LatentSampler

# Latents in float32, normalised by someone else.
TOLERANCE = 1e-3


class HypersphereSampler(LatentSampler):
    """Draw latents uniformly from the unit sphere.

    Attributes
    ----------
    n_features_in_ : int
        Size of the latent; the sphere has one dimension less.

    Examples
    --------
    >>> import numpy as np
    >>> from skvae.samplers import HypersphereSampler
    >>> Z = HypersphereSampler().fit(np.eye(3)).sample(2, random_state=0)
    >>> np.linalg.norm(Z, axis=1).round(5)
    array([1., 1.], dtype=float32)
    """

    def fit(self, Z: np.ndarray, y: None = None) -> HypersphereSampler:
        """Note the size of the latent.

        Parameters
        ----------
        Z : array-like of shape (n_samples, latent_dim)
            Latents of the training rows, of norm 1.
        y : None
            Ignored.

        Raises
        ------
        ValueError
            The latents do not lie on the unit sphere.
        """
        Z = check_array(Z, dtype=np.float64)
        norms = np.linalg.norm(Z, axis=1)
        worst = norms[np.abs(norms - 1).argmax()]
        if abs(worst - 1) > TOLERANCE:
            raise ValueError(
                f"Z has a row of norm {worst:.4g}, expected latents on the unit sphere, those of "
                "an SVAE. For other latents take GaussianMixtureSampler, or the model's "
                "default_sampler."
            )
        self.n_features_in_ = Z.shape[1]
        return self

    def _draw(self, n_samples: int, rng: np.random.RandomState) -> np.ndarray:
        generator = np.random.default_rng(rng.randint(2**31 - 1))
        Z = generator.standard_normal((n_samples, self.n_features_in_), dtype=np.float32)
        Z /= np.sqrt(np.einsum("ij,ij->i", Z, Z))[:, None]  # faster than norm along a short axis
        return Z
