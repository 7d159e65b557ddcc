"""The encoders and decoders of AESTETIK: convolutions over a window, in ensembles."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from skvae.models.checks import check_count

POOL_STRIDE = 3


class WindowSizes(NamedTuple):
    """Sides of the kernel, and of the maps after the convolution and after pooling."""

    kernel: int
    inner: int
    pooled: int


class Ensemble(nn.Module):
    """Networks side by side as groups of channels, combined by the median of each output."""

    def __init__(self, n_members: int, *layers: nn.Module) -> None:
        super().__init__()
        self.n_members = n_members
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        """Map (batch, ...) to the median over the members of what they give."""
        out: Tensor = self.layers(x)
        members = out.unflatten(1, (self.n_members, -1))
        if self.n_members == 3:
            # The median of three in a few passes, where a sort of each triple takes many.
            a, b, c = members.unbind(1)
            return torch.clamp(c, torch.minimum(a, b), torch.maximum(a, b))
        return members.median(1).values


def window_sizes(window: int, kernel_size: int) -> WindowSizes:
    """Return the sizes of the networks of a window, or raise ValueError where there are none."""
    check_count("window", window, 3)
    if window % 2 == 0:
        raise ValueError(f"window={window}, expected an odd number: the spot is in its middle.")
    kernel = kernel_size if kernel_size < window else window - 1
    inner = window - kernel + 1
    if inner < kernel:
        raise ValueError(
            f"kernel_size={kernel_size} leaves nothing to pool of a window of {window}: take at "
            f"most {(window + 1) // 2}."
        )
    return WindowSizes(kernel, inner, (inner - kernel) // POOL_STRIDE + 1)


def window_encoders(
    n_channels: int,
    latent_dim: int,
    hidden_channels: int,
    n_members: int,
    dropout: float,
    sizes: WindowSizes,
) -> Ensemble:
    """Return encoders of windows (batch, n_channels, window, window)."""
    n_inner = n_members * hidden_channels
    return Ensemble(
        n_members,
        nn.Conv2d(n_channels, n_inner, sizes.kernel),
        nn.BatchNorm2d(n_inner),
        nn.Dropout2d(dropout),
        nn.ReLU(),
        nn.MaxPool2d(sizes.kernel, stride=POOL_STRIDE),
        nn.Conv2d(n_inner, n_members * latent_dim, sizes.pooled, groups=n_members),
        nn.Flatten(),
    )


def window_decoders(
    latent_dim: int,
    n_channels: int,
    hidden_channels: int,
    n_members: int,
    dropout: float,
    sizes: WindowSizes,
) -> Ensemble:
    """Return decoders to windows (batch, n_channels, window, window)."""
    n_inner = n_members * hidden_channels
    return Ensemble(
        n_members,
        nn.Linear(latent_dim, n_inner * sizes.pooled**2),
        nn.Unflatten(1, (n_inner, sizes.pooled, sizes.pooled)),
        nn.ReLU(),
        nn.UpsamplingNearest2d((sizes.inner, sizes.inner)),
        nn.Dropout2d(dropout),
        nn.ConvTranspose2d(n_inner, n_members * n_channels, sizes.kernel, groups=n_members),
        nn.BatchNorm2d(n_members * n_channels),
    )
