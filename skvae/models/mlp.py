"""Multilayer perceptrons between rows of any shape and features or latents."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

ACTIVATIONS: dict[str, type[nn.Module]] = {
    "relu": nn.ReLU,
    "silu": nn.SiLU,
    "gelu": nn.GELU,
    "tanh": nn.Tanh,
}


def hidden_layers(widths: Sequence[int], activation: str) -> list[nn.Module]:
    """Linear maps between ``widths``, each followed by the activation."""
    layers: list[nn.Module] = []
    for before, after in itertools.pairwise(widths):
        layers += [nn.Linear(before, after), ACTIVATIONS[activation]()]
    return layers


class MLPEncoder(nn.Sequential):
    """Rows to features, or to latents.

    Parameters
    ----------
    input_shape : sequence of int
        Shape of a row; rows are flattened.
    hidden_layer_sizes : sequence of int, default=(512,)
        Widths of the hidden layers.
    n_outputs : int or None, default=None
        Size of a last linear map; None leaves it out, and the features are those of the last
        hidden layer.
    activation : {"relu", "silu", "gelu", "tanh"}, default="relu"
        What follows each hidden layer.

    Examples
    --------
    >>> import torch
    >>> from skvae.models import MLPEncoder
    >>> MLPEncoder((8, 8), (32, 16))(torch.zeros(3, 8, 8)).shape
    torch.Size([3, 16])
    """

    def __init__(
        self,
        input_shape: Sequence[int],
        hidden_layer_sizes: Sequence[int] = (512,),
        n_outputs: int | None = None,
        *,
        activation: str = "relu",
    ) -> None:
        widths = [math.prod(input_shape), *hidden_layer_sizes]
        layers = [nn.Flatten(), *hidden_layers(widths, activation)]
        if n_outputs is not None:
            layers.append(nn.Linear(widths[-1], n_outputs))
        super().__init__(*layers)


class MLPDecoder(nn.Module):
    """Latents to rows, the last layer linear.

    Parameters
    ----------
    latent_dim : int
        Size of the latent.
    output_shape : sequence of int
        Shape of a row.
    hidden_layer_sizes : sequence of int, default=(512,)
        Widths of the hidden layers, from the latent on.
    activation : {"relu", "silu", "gelu", "tanh"}, default="relu"
        What follows each hidden layer.

    Examples
    --------
    >>> import torch
    >>> from skvae.models import MLPDecoder
    >>> MLPDecoder(2, (8, 8), (16, 32))(torch.zeros(3, 2)).shape
    torch.Size([3, 8, 8])
    """

    def __init__(
        self,
        latent_dim: int,
        output_shape: Sequence[int],
        hidden_layer_sizes: Sequence[int] = (512,),
        *,
        activation: str = "relu",
    ) -> None:
        super().__init__()
        self.output_shape = tuple(output_shape)
        widths = [latent_dim, *hidden_layer_sizes]
        last = nn.Linear(widths[-1], math.prod(self.output_shape))
        self.layers = nn.Sequential(*hidden_layers(widths, activation), last)

    def forward(self, z: Tensor) -> Tensor:
        """Map (batch, latent_dim) to (batch, ...), rows of the shape of the output."""
        return self.layers(z).view(len(z), *self.output_shape)

    @torch.no_grad()
    def start_at(self, output: Tensor) -> None:
        """Set the bias so that an untrained decoder gives ``output``, a tensor of a row's shape."""
        last = self.layers[-1]
        assert isinstance(last, nn.Linear)
        last.bias.copy_(output.flatten())
