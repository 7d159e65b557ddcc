"""What all densities of latents owe their users."""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from skvae._random import private_random_state


class LatentSampler(BaseEstimator, ABC):
    """Base of the densities of latents: ``fit`` notes what ``_draw`` draws from.

    Attributes
    ----------
    n_features_in_ : int
        Size of the latent.
    """

    n_features_in_: int

    def sample(
        self, n_samples: int = 1, *, random_state: int | np.random.RandomState | None = None
    ) -> np.ndarray:
        """Draw latents, float32 of shape (n_samples, latent_dim).

        Parameters
        ----------
        n_samples : int, default=1
            Number of latents.
        random_state : int, RandomState instance or None, default=None
            Seeds the draw; None gives other latents each time.
        """
        check_is_fitted(self)
        return self._draw(n_samples, private_random_state(random_state))

    @abstractmethod
    def _draw(self, n_samples: int, rng: np.random.RandomState) -> np.ndarray:
        """Return latents, float32 of shape (n_samples, latent_dim)."""

    def _check_size(self, n_features: int, latent_dim: int) -> None:
        """Raise ValueError for latents of another size than the model's."""
        if n_features != latent_dim:
            raise ValueError(
                f"Z has {n_features} features, expected the model's latent_dim={latent_dim}."
            )

    def _wrong_model(self, model: object, expected: str) -> ValueError:
        """Return the error for a model that is missing, or of another kind than expected."""
        found = "no model" if model is None else f"a {type(model).__name__}"
        return ValueError(
            f"{type(self).__name__} got {found}, expected {expected}: fit(Z, model=model). For "
            "other models take their default_sampler."
        )
