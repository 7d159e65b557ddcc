"""A second variational autoencoder fitted to the latents of the first [1]_."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from skvae.models.likelihoods import GaussianLikelihood
from skvae.models.mlp import MLPDecoder, MLPEncoder
from skvae.models.vae import VAE
from skvae.samplers.neural import NeuralSampler


class TwoStageSampler(NeuralSampler):
    """Draw latents from a second VAE, trained on the latents of the first.

    Where the posteriors of a VAE together are far from its prior, the second one has the easier
    task: latents of full dimension, of which its own can have the density of the prior (section
    4). Its likelihood is a Gaussian of the variance that fits best, from which latents are drawn
    with their noise.

    Parameters
    ----------
    hidden_layer_sizes : tuple of int, default=(128, 128)
        Widths of the encoder's hidden layers; the decoder's are the same in reverse.
    max_steps : int, default=1000
        Most optimizer steps. A tenth of the latents is held out, and training ends once there is
        no gain on it.
    batch_size : int, default=256
        Latents in a step.
    learning_rate : float, default=5e-3
        Of AdamW.
    random_state : int, RandomState instance or None, default=None
        Seeds the networks' start, the noise, and the order of the latents.

    Attributes
    ----------
    n_features_in_ : int
        Size of the latent.
    mean_, scale_ : float64 array of shape (latent_dim,)
        By which the latents are standardised.
    weights_ : dict of str to ndarray
        State of the second VAE.
    n_steps_ : int
        Optimizer steps made.

    References
    ----------
    .. [1] Dai, Wipf, "Diagnosing and Enhancing VAE Models", ICLR 2019, section 4.

    Examples
    --------
    >>> import numpy as np
    >>> from skvae.samplers import TwoStageSampler
    >>> Z = np.random.default_rng(0).normal(5, 1, size=(200, 2))
    >>> sampler = TwoStageSampler(max_steps=50, random_state=0).fit(Z)
    >>> sampler.sample(100, random_state=0).mean() > 4
    np.True_
    """

    # The latents of the second VAE mean nothing at first, and must not be given up for that.
    _patience = 300
    _beta_warmup_steps = 50

    def __init__(
        self,
        hidden_layer_sizes: tuple[int, ...] = (128, 128),
        *,
        max_steps: int = 1000,
        batch_size: int = 256,
        learning_rate: float = 5e-3,
        random_state: int | np.random.RandomState | None = None,
    ) -> None:
        self.hidden_layer_sizes = hidden_layer_sizes
        self.max_steps = max_steps
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.random_state = random_state

    def _make_network(self, latent_dim: int) -> nn.Module:
        sizes = tuple(self.hidden_layer_sizes)
        network = VAE(
            MLPEncoder((latent_dim,), sizes, activation="silu"),
            MLPDecoder(latent_dim, (latent_dim,), sizes[::-1], activation="silu"),
            latent_dim,
            likelihood=GaussianLikelihood("optimal"),
        )
        network.build(torch.zeros(1, latent_dim))
        return network

    def _draw_standard(self, network: Any, n_samples: int) -> Tensor:
        return network.decode_draw(torch.randn(n_samples, self.n_features_in_))
