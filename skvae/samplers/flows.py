"""Autoregressive flows fitted to the latents after training."""

from __future__ import annotations

from numbers import Integral
from types import ModuleType
from typing import Any

import numpy as np
import torch
from sklearn.utils._param_validation import Interval
from torch import Tensor, nn

from skvae.models.core import LossResult, StepContext
from skvae.samplers.neural import NeuralSampler

# Pieces of the spline that a flow of one dimension is made of.
N_PIECES = 8


class _Flow(nn.Module):
    """A flow as the training loop asks for it."""

    def __init__(self, flow: Any) -> None:
        super().__init__()
        self.flow = flow

    def training_loss(self, batch: tuple[Tensor, ...], context: StepContext) -> LossResult:
        """Return the mean negative log density, in nats a row."""
        return LossResult(-self.flow().log_prob(batch[0]).mean())


class FlowSampler(NeuralSampler):
    """Base of the samplers by a flow: all but the direction in which it is autoregressive."""

    _parameter_constraints = {
        **NeuralSampler._parameter_constraints,
        "n_transforms": [Interval(Integral, 1, None, closed="left")],
    }

    def __init__(
        self,
        n_transforms: int = 3,
        *,
        hidden_layer_sizes: tuple[int, ...] = (64, 64),
        max_steps: int = 1000,
        batch_size: int = 256,
        learning_rate: float = 5e-3,
        random_state: int | np.random.RandomState | None = None,
    ) -> None:
        self.n_transforms = n_transforms
        self.hidden_layer_sizes = hidden_layer_sizes
        self.max_steps = max_steps
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.random_state = random_state

    def _transforms(self, zuko: ModuleType, latent_dim: int) -> list[Any]:
        """Return the maps from latents to noise, autoregressive in alternating orders."""
        options: dict[str, Any] = {"hidden_features": tuple(self.hidden_layer_sizes)}
        if latent_dim == 1:
            # An affine map of a normal variable is normal: one dimension wants more.
            shapes = [(N_PIECES,), (N_PIECES,), (N_PIECES - 1,)]
            options = {"univariate": zuko.transforms.MonotonicRQSTransform, "shapes": shapes}
        order = torch.arange(latent_dim)
        return [
            zuko.flows.MaskedAutoregressiveTransform(
                latent_dim, order=order.flip(0) if i % 2 else order, **options
            )
            for i in range(self.n_transforms)
        ]

    def _make_network(self, latent_dim: int) -> nn.Module:
        zuko = _import_zuko(type(self).__name__)
        noise = zuko.distributions.DiagNormal
        base = zuko.lazy.UnconditionalDistribution(
            noise, torch.zeros(latent_dim), torch.ones(latent_dim), buffer=True
        )
        return _Flow(zuko.lazy.Flow(self._transforms(zuko, latent_dim), base))

    def _draw_standard(self, network: Any, n_samples: int) -> Tensor:
        return network.flow().sample((n_samples,))


class MaskedAutoregressiveFlowSampler(FlowSampler):
    """Draw latents from a masked autoregressive flow [1]_.

    Densities take one pass of the networks, draws as many as the latent has dimensions. In one
    dimension the flow is a spline.

    Parameters
    ----------
    n_transforms : int, default=3
        Autoregressive maps, one after the other, in alternating orders of the dimensions.
    hidden_layer_sizes : tuple of int, default=(64, 64)
        Widths of the hidden layers of each map's network.
    max_steps : int, default=1000
        Most optimizer steps. A tenth of the latents is held out, and training ends once there is
        no gain on it.
    batch_size : int, default=256
        Latents in a step.
    learning_rate : float, default=5e-3
        Of AdamW.
    random_state : int, RandomState instance or None, default=None
        Seeds the networks' start, the choice of rows held out and the order of the others.

    Attributes
    ----------
    n_features_in_ : int
        Size of the latent.
    mean_, scale_ : float64 array of shape (latent_dim,)
        By which the latents are standardised.
    weights_ : dict of str to ndarray
        State of the networks.
    n_steps_ : int
        Optimizer steps made.

    References
    ----------
    .. [1] Papamakarios, Pavlakou, Murray, "Masked Autoregressive Flow for Density Estimation",
       NeurIPS 2017, eq. 4.

    Examples
    --------
    >>> import numpy as np
    >>> from skvae.samplers import MaskedAutoregressiveFlowSampler
    >>> Z = np.random.default_rng(0).normal(5, 1, size=(200, 2))
    >>> sampler = MaskedAutoregressiveFlowSampler(max_steps=50, random_state=0).fit(Z)
    >>> sampler.sample(100, random_state=0).mean() > 4
    np.True_
    """


class InverseAutoregressiveFlowSampler(FlowSampler):
    """Draw latents from an inverse autoregressive flow [1]_.

    The other direction of a masked autoregressive flow: draws take one pass of the networks, and
    densities, which training needs, as many as the latent has dimensions. In one dimension the
    flow is a spline.

    Parameters
    ----------
    n_transforms, hidden_layer_sizes, max_steps, batch_size, learning_rate, random_state
        As for ``MaskedAutoregressiveFlowSampler``, and so are the attributes.

    References
    ----------
    .. [1] Kingma, Salimans, Jozefowicz, Chen, Sutskever, Welling, "Improved Variational Inference
       with Inverse Autoregressive Flow", NeurIPS 2016, section 3.

    Examples
    --------
    >>> import numpy as np
    >>> from skvae.samplers import InverseAutoregressiveFlowSampler
    >>> Z = np.random.default_rng(0).normal(5, 1, size=(200, 2))
    >>> sampler = InverseAutoregressiveFlowSampler(max_steps=50, random_state=0).fit(Z)
    >>> sampler.sample(100, random_state=0).mean() > 4
    np.True_
    """

    def _transforms(self, zuko: ModuleType, latent_dim: int) -> list[Any]:
        return [transform.inv for transform in super()._transforms(zuko, latent_dim)]


def _import_zuko(asker: str) -> ModuleType:
    try:
        import zuko
        import zuko.lazy
    except ImportError as error:
        raise ImportError(
            f"{asker} needs zuko, which is not installed: pip install skvae[flows]. "
            "GaussianMixtureSampler needs nothing more."
        ) from error
    return zuko
