"""Plain networks: the pieces that encoders and decoders are made of."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from skvae.models.core import LOG_VAR_RANGE


class ResidualBlock(nn.Module):
    """``u + B silu(A norm(u))``, the identity at the start."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.inner = nn.Linear(width, width)
        self.outer = nn.Linear(width, width)
        nn.init.zeros_(self.outer.weight)
        nn.init.zeros_(self.outer.bias)

    def forward(self, u: Tensor) -> Tensor:
        """Map (batch, width) to (batch, width)."""
        return u + self.outer(F.silu(self.inner(self.norm(u))))


class ResidualTrunk(nn.Module):
    """Hidden layers of an encoder: a residual block where the width stays, a map where not.

    Parameters
    ----------
    widths : sequence of int
        Widths of the hidden layers; the first is that of the input.
    """

    def __init__(self, widths: Sequence[int]) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for before, after in itertools.pairwise(widths):
            if before != after:
                layers += [nn.Linear(before, after), nn.SiLU()]
            else:
                layers.append(ResidualBlock(after))
        self.layers = nn.Sequential(*layers, nn.LayerNorm(widths[-1]))

    def forward(self, u: Tensor) -> Tensor:
        """Map (batch, widths[0]) to (batch, widths[-1])."""
        return self.layers(u)


def relu_mlp(widths: Sequence[int]) -> nn.Sequential:
    """Linear maps between ``widths``, each followed by a ReLU."""
    layers: list[nn.Module] = []
    for before, after in itertools.pairwise(widths):
        layers += [nn.Linear(before, after), nn.ReLU()]
    return nn.Sequential(*layers)


class GaussianHead(nn.Module):
    """Mean and log variance of a diagonal Gaussian, from features.

    Parameters
    ----------
    width : int
        Size of the features.
    latent_dim : int
        Size of the Gaussian.
    """

    def __init__(self, width: int, latent_dim: int) -> None:
        super().__init__()
        self.linear = nn.Linear(width, 2 * latent_dim)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Return ``mu`` and ``log_var``, each of shape (batch, latent_dim)."""
        mu, log_var = self.linear(features).chunk(2, dim=-1)
        return mu, torch.clamp(log_var, *LOG_VAR_RANGE)
