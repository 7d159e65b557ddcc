"""The prior of a VAMP: a mixture of the posteriors of its pseudo-inputs [1]_."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_array, check_is_fitted

from skvae._random import private_random_state


class VampSampler(BaseEstimator):
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
            found = "no model" if model is None else f"a {type(model).__name__}"
            raise ValueError(
                f"VampSampler got {found}, expected a VAMP, whose prior it draws from: "
                "fit(Z, model=model). For other models take their default_sampler."
            )
        n_features = check_array(Z).shape[1]
        with torch.no_grad():
            mu, log_var = (part.float().cpu() for part in model.prior_components())
        if mu.shape[1] != n_features:
            raise ValueError(
                f"Z has {n_features} features, expected the model's latent_dim={mu.shape[1]}."
            )
        self.n_features_in_ = n_features
        self.means_ = mu.numpy()
        self.scales_ = torch.exp(0.5 * log_var).numpy()
        return self

    def sample(
        self, n_samples: int = 1, *, random_state: int | np.random.RandomState | None = None
    ) -> np.ndarray:
        """Draw latents, float32 of shape (n_samples, latent_dim)."""
        check_is_fitted(self)
        rng = np.random.default_rng(private_random_state(random_state).randint(2**31 - 1))
        component = rng.integers(len(self.means_), size=n_samples)
        noise = rng.standard_normal((n_samples, self.n_features_in_), dtype=np.float32)
        return self.means_[component] + self.scales_[component] * noise
