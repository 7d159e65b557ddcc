"""The prior of a model with latents in hyperbolic space."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from sklearn.utils.validation import check_array

from skvae.models.hyperbolic import PoincareBall
from skvae.models.poincare import DISTRIBUTIONS
from skvae.samplers.base import LatentSampler
from skvae.training.seeding import isolated_torch_seed


class PoincareDiskSampler(LatentSampler):
    """Draw latents from the prior of a ``PoincareVAE`` [1]_, points of the Poincare ball.

    Attributes
    ----------
    n_features_in_ : int
        Size of the latent.
    prior_ : {"wrapped_normal", "riemannian_normal"}
        The distribution, around the centre of the ball.
    scale_ : float
        Its scale, in units of distance.
    curvature_ : float
        The ball has the constant curvature ``-curvature_``.

    References
    ----------
    .. [1] Mathieu, Le Lan, Maddison, Tomioka, Teh, "Continuous Hierarchical Representations with
       Poincare Variational Auto-Encoders", NeurIPS 2019, section 3.2.

    Examples
    --------
    >>> import numpy as np
    >>> import torch
    >>> from torch import nn
    >>> from skvae.models import PoincareVAE
    >>> from skvae.samplers import PoincareDiskSampler
    >>> model = PoincareVAE(nn.Linear(8, 16), nn.Linear(2, 8), latent_dim=2)
    >>> Z = model.embed(torch.randn(20, 8)).detach().numpy()
    >>> sampler = PoincareDiskSampler().fit(Z, model=model)
    >>> bool((np.linalg.norm(sampler.sample(100, random_state=0), axis=1) < 1).all())
    True
    """

    def fit(self, Z: np.ndarray, y: None = None, *, model: Any = None) -> PoincareDiskSampler:
        """Take the prior from the model.

        Parameters
        ----------
        Z : array-like of shape (n_samples, latent_dim)
            Latents of the training rows; only their shape plays a part.
        y : None
            Ignored.
        model : PoincareVAE
            The model.

        Raises
        ------
        ValueError
            The model is missing, has no such prior, or has latents of another size.
        """
        if not hasattr(model, "curvature"):
            raise self._wrong_model(model, "a PoincareVAE, whose prior it draws from")
        n_features = check_array(Z).shape[1]
        self._check_size(n_features, model.latent_dim)
        self.n_features_in_ = n_features
        self.prior_ = str(model.prior)
        self.scale_ = float(model.prior_scale)
        self.curvature_ = float(model.curvature)
        return self

    def _draw(self, n_samples: int, rng: np.random.RandomState) -> np.ndarray:
        origin, scale = torch.zeros(self.n_features_in_), torch.full((1,), self.scale_)
        prior = DISTRIBUTIONS[self.prior_](origin, scale, PoincareBall(self.curvature_))
        with isolated_torch_seed(rng.randint(2**31 - 1)), torch.no_grad():
            return prior.rsample((n_samples,)).numpy()
