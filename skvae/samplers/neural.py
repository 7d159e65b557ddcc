"""What the samplers around a small network share: training, weights as arrays, draws."""

from __future__ import annotations

import math
from abc import abstractmethod
from numbers import Integral, Real
from typing import Any

import numpy as np
import torch
from sklearn.utils._param_validation import Interval
from sklearn.utils.validation import check_array
from torch import Tensor, nn

from skvae._random import private_random_state
from skvae.samplers.base import LatentSampler
from skvae.samplers.scaling import standardize
from skvae.training import TrainingConfig, steps_per_epoch, train
from skvae.training.seeding import isolated_torch_seed

# Share of the latents held out: a few hundred of them are soon known by heart.
HELD_OUT = 0.1
# Latents drawn at a time.
CHUNK = 10_000


class NeuralSampler(LatentSampler):
    """Base of samplers that train a network on the latents.

    The latents are standardised. A tenth of them is held out; the weights that come out are those
    that did best on it, and training ends when there is no gain. A dimension that does not vary
    comes back as it was.

    A subclass says how to make the network, which has the ``training_loss`` that the training
    loop asks for, and how to draw from it.

    Attributes
    ----------
    n_features_in_ : int
        Size of the latent.
    mean_, scale_ : float64 array of shape (latent_dim,)
        By which the latents are standardised.
    limits_ : float64 array of shape (2, latent_dim)
        Within which draws are kept, in standardised units: one standard deviation beyond the
        latents seen.
    weights_ : dict of str to ndarray
        State of the network.
    n_steps_ : int
        Optimizer steps made.
    """

    _parameter_constraints: dict[str, list[Any]] = {
        "hidden_layer_sizes": [tuple, list],
        "max_steps": [Interval(Integral, 1, None, closed="left")],
        "batch_size": [Interval(Integral, 1, None, closed="left")],
        "learning_rate": [Interval(Real, 0, None, closed="neither")],
        "random_state": ["random_state"],
    }

    # Steps without gain on the latents held out after which training ends.
    _patience = 100
    # Steps over which the weight of a divergence rises.
    _beta_warmup_steps = 0

    # Every subclass takes these.
    hidden_layer_sizes: tuple[int, ...]
    max_steps: int
    batch_size: int
    learning_rate: float
    random_state: int | np.random.RandomState | None

    @abstractmethod
    def _make_network(self, latent_dim: int) -> nn.Module:
        """Return the network for standardised latents, each of its weights in its final shape."""

    @abstractmethod
    def _draw_standard(self, network: Any, n_samples: int) -> Tensor:
        """Draw standardised latents, of shape (n_samples, latent_dim)."""

    def fit(self, Z: np.ndarray, y: None = None) -> NeuralSampler:
        """Train the network.

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
        standard, self.mean_, self.scale_ = standardize(Z)
        # Noise stands in for what does not vary: a density has no value there.
        still = self.scale_ == 0
        standard[:, still] = rng.standard_normal((len(Z), still.sum()))
        self.limits_ = np.stack([standard.min(axis=0) - 1, standard.max(axis=0) + 1])
        rows = torch.from_numpy(standard).float()
        self._fit_network(rows, rng, learnable=bool(self.scale_.any()))
        return self

    def _fit_network(self, rows: Tensor, rng: np.random.RandomState, *, learnable: bool) -> None:
        """Make the network, train it if there is anything to learn, and keep its weights."""
        generator = torch.Generator().manual_seed(rng.randint(2**31 - 1))
        with isolated_torch_seed(rng.randint(2**31 - 1)):
            network = self._make_network(self.n_features_in_)
        self.n_steps_ = 0
        if learnable:
            self._train(network, rows, generator)
        self.weights_ = {key: value.numpy() for key, value in network.state_dict().items()}

    def _train(self, network: nn.Module, Z: Tensor, generator: torch.Generator) -> None:
        n_held_out = max(1, round(HELD_OUT * len(Z)))
        held_out, rest = Z[torch.randperm(len(Z), generator=generator)].tensor_split([n_held_out])
        steps = steps_per_epoch(len(rest), self.batch_size)
        config = TrainingConfig(
            n_epochs=math.ceil(self.max_steps / steps),
            max_steps=self.max_steps,
            batch_size=self.batch_size,
            learning_rate=self.learning_rate,
            beta_warmup_steps=self._beta_warmup_steps,
            average_decay=0.99,
            max_grad_norm=10.0,
            n_iter_no_change=math.ceil(self._patience / steps),
        )
        result = train(network, (rest,), config, generator=generator, validation_data=(held_out,))
        self.n_steps_ = result.n_steps

    def _draw(self, n_samples: int, rng: np.random.RandomState) -> np.ndarray:
        drawn = np.empty((n_samples, self.n_features_in_), np.float32)
        with isolated_torch_seed(rng.randint(2**31 - 1)), torch.no_grad():
            network = self._rebuild()
            for start in range(0, n_samples, CHUNK):
                rows = drawn[start : start + CHUNK]
                standard = self._draw_standard(network, len(rows)).numpy().clip(*self.limits_)
                rows[:] = standard * self.scale_ + self.mean_
        return drawn

    def _rebuild(self) -> nn.Module:
        """Return the network with its weights, in eval mode."""
        network = self._make_network(self.n_features_in_)
        # Copies: arrays may come from a read-only memory map.
        network.load_state_dict({k: torch.from_numpy(v.copy()) for k, v in self.weights_.items()})
        return network.eval()
