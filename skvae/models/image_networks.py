"""Convolutional encoders and decoders for images of any size and number of channels."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from skvae.models.mlp import ACTIVATIONS

# Width of the layer between feature maps and latents.
HIDDEN = 256


class ConvBlock(nn.Module):
    """``x + conv(act(conv(act(x))))``, the identity at the start.

    Parameters
    ----------
    channels : int
        Channels on the way in and out.
    activation : str
        A key of ``ACTIVATIONS``.
    """

    def __init__(self, channels: int, activation: str) -> None:
        super().__init__()
        self.act = ACTIVATIONS[activation]()
        self.inner = nn.Conv2d(channels, channels, 3, padding=1)
        self.outer = nn.Conv2d(channels, channels, 3, padding=1)
        nn.init.zeros_(self.outer.weight)
        nn.init.zeros_(self.outer.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        """Map (batch, channels, height, width) to the same shape."""
        return x + self.outer(self.act(self.inner(self.act(x))))


class ConvEncoder(nn.Module):
    """Images to features, or to latents: each stage halves height and width.

    Parameters
    ----------
    input_shape : (int, int, int)
        Channels, height and width of an image. Sizes that the stages do not divide are padded
        with zeros.
    hidden_layer_sizes : sequence of int, default=(16, 32)
        Channels after each stage.
    n_outputs : int or None, default=None
        Size of a last linear map; None leaves it out, and there are 256 features.
    activation : {"relu", "silu", "gelu", "tanh"}, default="silu"
        What follows each layer.

    Examples
    --------
    >>> import torch
    >>> from skvae.models import ConvEncoder
    >>> ConvEncoder((3, 28, 30))(torch.zeros(2, 3, 28, 30)).shape
    torch.Size([2, 256])
    """

    # Residual blocks after each stage but the last, and after the last.
    n_blocks = (0, 1)

    def __init__(
        self,
        input_shape: Sequence[int],
        hidden_layer_sizes: Sequence[int] = (16, 32),
        n_outputs: int | None = None,
        *,
        activation: str = "silu",
    ) -> None:
        super().__init__()
        act = ACTIVATIONS[activation]
        self.padding, size = _padding(input_shape, len(hidden_layer_sizes))
        layers: list[nn.Module] = []
        before = input_shape[0]
        for stage, channels in enumerate(hidden_layer_sizes):
            if stage:
                layers.append(act())
            layers.append(nn.Conv2d(before, channels, 4, stride=2, padding=1))
            n_blocks = self.n_blocks[stage == len(hidden_layer_sizes) - 1]
            layers += [ConvBlock(channels, activation) for _ in range(n_blocks)]
            before = channels
        # A map of half the channels: the linear layer after it is the larger part of the weights.
        narrow = max(1, before // 2)
        layers += [act(), nn.Conv2d(before, narrow, 1), act(), nn.Flatten()]
        layers += [nn.Linear(narrow * size[0] * size[1], HIDDEN), act()]
        if n_outputs is not None:
            layers.append(nn.Linear(HIDDEN, n_outputs))
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        """Map (batch, channels, height, width) to (batch, 256) or (batch, n_outputs)."""
        if any(self.padding):
            x = F.pad(x, self.padding)
        # Convolutions on a processor are faster with the channels last in memory.
        return self.layers(x.contiguous(memory_format=torch.channels_last))


class ConvDecoder(nn.Module):
    """Latents to images: each stage doubles height and width; the last layer is linear.

    Parameters
    ----------
    latent_dim : int
        Size of the latent.
    output_shape : (int, int, int)
        Channels, height and width of an image; what the stages make too much of is cut off.
    hidden_layer_sizes : sequence of int, default=(32, 16)
        Channels before each stage.
    activation : {"relu", "silu", "gelu", "tanh"}, default="silu"
        What follows each layer.

    Examples
    --------
    >>> import torch
    >>> from skvae.models import ConvDecoder
    >>> ConvDecoder(5, (3, 28, 30))(torch.zeros(2, 5)).shape
    torch.Size([2, 3, 28, 30])
    """

    # Residual blocks before the first stage, and before each other.
    n_blocks = (1, 0)

    def __init__(
        self,
        latent_dim: int,
        output_shape: Sequence[int],
        hidden_layer_sizes: Sequence[int] = (32, 16),
        *,
        activation: str = "silu",
    ) -> None:
        super().__init__()
        act = ACTIVATIONS[activation]
        self.output_shape = tuple(output_shape)
        _, size = _padding(output_shape, len(hidden_layer_sizes))
        channels = list(hidden_layer_sizes)
        narrow = max(1, channels[0] // 2)
        layers: list[nn.Module] = [
            nn.Linear(latent_dim, HIDDEN),
            act(),
            nn.Linear(HIDDEN, narrow * size[0] * size[1]),
            act(),
            nn.Unflatten(1, (narrow, *size)),
            _ChannelsLast(),
            nn.Conv2d(narrow, channels[0], 1),
        ]
        for stage, width in enumerate(channels):
            layers += [ConvBlock(width, activation) for _ in range(self.n_blocks[stage > 0])]
            layers.append(act())
            if stage < len(channels) - 1:
                layers.append(nn.ConvTranspose2d(width, channels[stage + 1], 4, 2, 1))
        # The last doubling is a reordering of channels.
        layers.append(nn.Conv2d(channels[-1], 4 * output_shape[0], 3, padding=1))
        layers.append(nn.PixelShuffle(2))
        self.layers = nn.Sequential(*layers)
        self.bias = nn.Parameter(torch.zeros(self.output_shape))

    def forward(self, z: Tensor) -> Tensor:
        """Map (batch, latent_dim) to (batch, channels, height, width)."""
        _, height, width = self.output_shape
        return self.layers(z)[:, :, :height, :width] + self.bias

    @torch.no_grad()
    def start_at(self, output: Tensor) -> None:
        """Set the bias so that an untrained decoder gives ``output``, a tensor of a row's shape."""
        self.bias.copy_(output)


class ResNetEncoder(ConvEncoder):
    """Images to features, as ``ConvEncoder``, with two residual blocks after each stage.

    The default ``hidden_layer_sizes`` are those of ``ConvEncoder``.
    """

    n_blocks = (2, 2)


class ResNetDecoder(ConvDecoder):
    """Latents to images, as ``ConvDecoder``, with two residual blocks before each stage.

    The default ``hidden_layer_sizes`` are those of ``ConvDecoder``.
    """

    n_blocks = (2, 2)


class _ChannelsLast(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.contiguous(memory_format=torch.channels_last)


def _padding(
    image_shape: Sequence[int], n_stages: int
) -> tuple[tuple[int, int, int, int], tuple[int, int]]:
    """Return the padding that lets each stage halve an image, and the size after the last."""
    if len(image_shape) != 3:
        raise ValueError(
            f"Convolutional networks take images of (channels, height, width), got rows of shape "
            f"{tuple(image_shape)}. Give image_shape, or take network='mlp'."
        )
    unit = 2**n_stages
    _, height, width = image_shape
    down, right = -height % unit, -width % unit
    return (0, right, 0, down), ((height + down) // unit, (width + right) // unit)
