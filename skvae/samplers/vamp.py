"""The prior of a VAMP: a mixture of the posteriors of its pseudo-inputs [1]_."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from sklearn.utils.validation import check_array

from skvae.samplers.base import LatentSampler


class VampSampler(LatentSampler):
    """Draw latents from the prior of a ``VAMP``.

    Attributes
    ----------
    n_features_in_ : int
        Size of the latent.
    means_, scales_ : float32 array of shape (n_components, latent_dim)
        Means and standard deviations of the prior's components, all equally likely.

    References
    ----------
    .. [1] Tomczak, Welling, "VAE with a VampPrior", AISTATS 2018, eq. 9.

    Examples
    --------
    >>> import torch
    >>> from torch import nn
    >>> from skvae.models import VAMP
    >>> from skvae.samplers import VampSampler
    >>> x = torch.randn(20, 8)
    >>> model = VAMP(nn.Linear(8, 16), nn.Linear(2, 8), latent_dim=2)
    >>> model.build(x)
    >>> Z = model.embed(x).detach().numpy()
    >>> VampSampler().fit(Z, model=model).sample(3, random_state=0).shape
    (3, 2)
    """

    def fit(self, Z: np.ndarray, y: None = None, *, model: Any = None) -> VampSampler:
        """Take the prior from the model.

        Parameters
        ----------
        Z : array-like of shape (n_samples, latent_dim)
            Latents of the training rows; only their shape plays a part.
        y : None
            Ignored.
        model : VAMP
            The model, trained.

        Raises
        ------
        ValueError
            The model is missing, has no such prior, or has latents of another size.
        """
        if not hasattr(model, "prior_components"):
            raise self._wrong_model(model, "a VAMP, whose prior it draws from")
        n_features = check_array(Z).shape[1]
        with torch.no_grad():
            mu, log_var = (part.float().cpu() for part in model.prior_components())
        self._check_size(n_features, mu.shape[1])
        self.n_features_in_ = n_features
        self.means_ = mu.numpy()
        self.scales_ = torch.exp(0.5 * log_var).numpy()
        return self

    def _draw(self, n_samples: int, rng: np.random.RandomState) -> np.ndarray:
        generator = np.random.default_rng(rng.randint(2**31 - 1))
        component = generator.integers(len(self.means_), size=n_samples)
        noise = generator.standard_normal((n_samples, self.n_features_in_), dtype=np.float32)
        return self.means_[component] + self.scales_[component] * noise
