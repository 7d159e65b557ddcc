"""An autoregressive density of the codes of quantised latents [1]_."""

from __future__ import annotations

from numbers import Integral
from typing import Any

import numpy as np
import torch
from sklearn.utils._param_validation import Interval
from sklearn.utils.validation import check_array
from torch import Tensor

from skvae._random import private_random_state
from skvae.models.code_prior import CodePrior
from skvae.models.quantized import QuantizedAE
from skvae.samplers.neural import NeuralSampler


class CodesSampler(NeuralSampler):
    """Draw latents of a model with codes, one code after the other.

    Every latent drawn is a sum of the model's code vectors. The distribution of a code given those
    before it is a small network's, ``CodePrior``, which knows where the codes lie.

    Parameters
    ----------
    n_hidden : int, default=64
        Width of the network of each position.
    max_steps : int, default=1000
        Most optimizer steps.
    batch_size : int, default=128
        Latents in a step.
    learning_rate : float, default=3e-3
        Of the optimizer.
    random_state : int, RandomState instance or None, default=None
        Seeds the network and its training.

    Attributes
    ----------
    n_features_in_ : int
        Size of the latent.
    code_vectors_ : float32 array of shape (code_length, n_codes, latent_dim)
        What each code adds to a latent.
    counts_ : int64 array of shape (code_length, n_codes)
        How often each code was seen; one that never was is never drawn.
    weights_ : dict of str to ndarray
        State of the network.
    n_steps_ : int
        Optimizer steps made.

    References
    ----------
    .. [1] van den Oord, Vinyals, Kavukcuoglu, "Neural Discrete Representation Learning", NeurIPS
       2017, section 3.3.

    Examples
    --------
    >>> import torch
    >>> from torch import nn
    >>> from skvae.models import VQVAE
    >>> from skvae.samplers import CodesSampler
    >>> model = VQVAE(nn.Linear(8, 4), nn.Linear(4, 8), latent_dim=4, n_codes=8)
    >>> Z = model.embed(torch.randn(50, 8)).detach().numpy()
    >>> sampler = CodesSampler(max_steps=20, random_state=0).fit(Z, model=model)
    >>> sampler.sample(3, random_state=0).shape
    (3, 4)
    """

    _parameter_constraints = {
        **NeuralSampler._parameter_constraints,
        "n_hidden": [Interval(Integral, 1, None, closed="left")],
    }

    def __init__(
        self,
        n_hidden: int = 64,
        *,
        max_steps: int = 1000,
        batch_size: int = 128,
        learning_rate: float = 3e-3,
        random_state: int | np.random.RandomState | None = None,
    ) -> None:
        self.n_hidden = n_hidden
        self.max_steps = max_steps
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.random_state = random_state

    def fit(self, Z: np.ndarray, y: None = None, *, model: Any = None) -> CodesSampler:
        """Learn the density of the codes.

        Parameters
        ----------
        Z : array-like of shape (n_samples, latent_dim)
            Latents of the training rows: what ``model.draw_latents`` gives. Those of a ``VQVAE``
            may be quantised already.
        y : None
            Ignored.
        model : VQVAE or HRQVAE
            The model whose latents they are.

        Raises
        ------
        ValueError
            The model is missing, has no codes, or has latents of another size.
        """
        self._validate_params()
        if not isinstance(model, QuantizedAE):
            raise self._wrong_model(model, "a VQVAE or an HRQVAE, whose codes it draws")
        Z = check_array(Z, dtype=np.float64)
        self._check_size(Z.shape[1], model.latent_dim)
        with torch.no_grad():
            vectors = model.code_vectors()
            codes = model.quantize(torch.from_numpy(Z).to(vectors)).cpu()
        self.n_features_in_ = Z.shape[1]
        # Code vectors are what they are: there is nothing to standardise.
        self.mean_, self.scale_ = np.zeros(Z.shape[1]), np.ones(Z.shape[1])
        self.limits_ = np.array([[-np.inf], [np.inf]])
        self.code_vectors_ = vectors.float().cpu().numpy()
        self.counts_ = np.stack([np.bincount(c, minlength=model.n_codes) for c in codes.numpy().T])
        rng = private_random_state(self.random_state)
        self._fit_network(codes, rng, learnable=len(codes) > 1)
        return self

    def _make_network(self, latent_dim: int) -> CodePrior:
        vectors, counts = torch.tensor(self.code_vectors_), torch.tensor(self.counts_)
        return CodePrior(vectors, counts, self.n_hidden)

    def _draw_standard(self, network: CodePrior, n_samples: int) -> Tensor:
        codes = network.sample(n_samples).numpy()
        vectors = self.code_vectors_[np.arange(codes.shape[1]), codes]
        return torch.from_numpy(vectors.sum(axis=1))
