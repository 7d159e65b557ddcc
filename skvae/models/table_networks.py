"""The pieces that the networks of tabular models are made of."""

from __future__ import annotations

import itertools
import math
from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from skvae.models.core import LOG_VAR_RANGE

# Products of a causal layer: more waste less, but each is smaller.
MAX_COLUMN_GROUPS = 6
MIN_GROUP_SIZE = 4


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


class ColumnMap(nn.Module):
    """Base of linear maps into each column from a latent and the columns before it.

    Parameters
    ----------
    n_columns : int
        Number of columns.
    latent_dim : int
        Size of the latent.
    embedding_dim : int
        Size of the vector of a column on the way in.
    width : int
        Size of the features of a column on the way out.
    order : sequence of int
        The order in which the columns' features come out.
    """

    order: Tensor

    def __init__(
        self,
        n_columns: int,
        latent_dim: int,
        embedding_dim: int,
        width: int,
        order: Sequence[int],
    ) -> None:
        super().__init__()
        self.n_columns, self.width = n_columns, width
        self.latent_dim, self.embedding_dim = latent_dim, embedding_dim
        self.register_buffer("order", torch.tensor(list(order)), persistent=False)
        self.bias = nn.Parameter(torch.zeros(n_columns * width))
        self._make_weights()

    @abstractmethod
    def _make_weights(self) -> None:
        """Draw the weights: those from the latent, and those from the columns."""


class CausalColumns(ColumnMap):
    """A linear map into each column from a latent and the columns that stand before it.

    Columns are taken in groups, each one product with the latent and all columns before the
    group's last. Within a group, weights from a column to itself or to one before it are zero: they
    start there and get no gradient. Parameters are those of ``ColumnMap``.
    """

    def _make_weights(self) -> None:
        n_columns, latent_dim = self.n_columns, self.latent_dim
        embedding_dim, width = self.embedding_dim, self.width
        n_groups = min(MAX_COLUMN_GROUPS, max(1, n_columns // MIN_GROUP_SIZE))
        bounds = np.linspace(0, n_columns, n_groups + 1).round().astype(int).tolist()
        self.groups: list[tuple[int, int]] = list(itertools.pairwise(bounds))
        self.weights = nn.ParameterList()
        for rank, (start, stop) in enumerate(self.groups):
            n_out = (stop - start) * width
            seen = torch.randn((stop - 1) * embedding_dim, n_out)
            seen *= math.sqrt(2 / (n_columns * embedding_dim))
            source = torch.arange(start, stop - 1).repeat_interleave(embedding_dim)
            target = torch.arange(start, stop).repeat_interleave(width)
            causal = (source[:, None] < target).float()
            seen[start * embedding_dim :] *= causal
            latent = torch.randn(latent_dim, n_out) * latent_dim**-0.5
            self.weights.append(nn.Parameter(torch.cat([latent, seen])))
            self.register_buffer(f"causal_{rank}", causal, persistent=False)

    def forward(self, context: Tensor) -> Tensor:
        """Map the context to the features of each column.

        Parameters
        ----------
        context : Tensor of shape (batch, latent_dim + n_columns * embedding_dim)
            The latent, then the vectors of the columns.

        Returns
        -------
        Tensor of shape (n_columns, batch, width)
            With the columns in ``order``.
        """
        widths = [(stop - start) * self.width for start, stop in self.groups]
        masks = [self.get_buffer(f"causal_{rank}") for rank in range(len(self.groups))]
        return _TriangularProduct.apply(
            context, self.bias, self.order, widths, masks, *self.weights
        )

    @torch.no_grad()
    def project_parameters(self) -> None:
        """Set the weights that would not be causal to zero, after a change from outside."""
        for rank, weight in enumerate(self.weights):
            mask = self.get_buffer(f"causal_{rank}")
            weight[len(weight) - len(mask) :] *= mask

    def weight_into(self, column: int) -> tuple[Tensor, Tensor]:
        """Return one column's weights: from the latent, and from each column before it.

        Returns
        -------
        latent : Tensor of shape (latent_dim, width)
        columns : Tensor of shape (column, embedding_dim, width)
        """
        rank = next(rank for rank, (_, stop) in enumerate(self.groups) if column < stop)
        first = (column - self.groups[rank][0]) * self.width
        weight = self.weights[rank][:, first : first + self.width]
        latent, seen = weight.split([self.latent_dim, len(weight) - self.latent_dim])
        before = seen[: column * self.embedding_dim]
        return latent, before.view(column, self.embedding_dim, self.width)


class _TriangularProduct(torch.autograd.Function):
    """``[x[:, :k_g] @ W_g for each g]`` side by side, plus a bias, cut into sorted columns.

    Left to autograd, the gradient of ``x`` would be a zero-filled copy for each slice, and their
    sum; here it is one buffer that each product adds to.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        bias: Tensor,
        order: Tensor,
        widths: list[int],
        masks: list[Tensor],
        *weights: Tensor,
    ) -> Tensor:
        out = bias.repeat(len(x), 1)
        for part, weight in zip(out.split(widths, dim=1), weights, strict=True):
            part.addmm_(x[:, : len(weight)], weight)
        ctx.save_for_backward(x, order, *weights)
        ctx.widths, ctx.masks = widths, masks
        return out.view(len(x), len(order), -1).transpose(0, 1).index_select(0, order)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, order, *weights = ctx.saved_tensors
        flat = grad.index_select(0, order.argsort()).transpose(0, 1).flatten(1)
        grad_x = torch.zeros_like(x)
        grad_weights = []
        parts = flat.split(ctx.widths, dim=1)
        for part, weight, mask in zip(parts, weights, ctx.masks, strict=True):
            seen = len(weight)
            grad_x[:, :seen].addmm_(part, weight.T)
            grad_weight = x[:, :seen].T @ part
            grad_weight[seen - len(mask) :] *= mask
            grad_weights.append(grad_weight)
        return grad_x, flat.sum(0), None, None, None, *grad_weights


class ColumnBlock(nn.Module):
    """``h + silu(h W + b)`` with weights of its own for each column.

    Parameters
    ----------
    n_columns : int
        Number of columns.
    width : int
        Size of the features of a column.
    """

    def __init__(self, n_columns: int, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(n_columns, width, width) * (4 * width) ** -0.5)
        self.bias = nn.Parameter(torch.zeros(n_columns, 1, width))

    def forward(self, h: Tensor) -> Tensor:
        """Map (n_columns, batch, width) to the same shape."""
        return _ResidualSiLU.apply(h, self.weight, self.bias)


class _ResidualSiLU(torch.autograd.Function):
    """``h + silu(h W + b)``.

    Features of all columns are more than a processor's cache holds: in-place sums spare passes over
    them that autograd would make.
    """

    @staticmethod
    def forward(ctx: Any, h: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        inner = torch.baddbmm(bias, h, weight)
        ctx.save_for_backward(h, weight, inner)
        return F.silu(inner).add_(h)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        h, weight, inner = ctx.saved_tensors
        grad_inner = torch.ops.aten.silu_backward(grad, inner)
        grad_h = torch.baddbmm(grad, grad_inner, weight.transpose(1, 2))
        grad_weight = torch.bmm(h.transpose(1, 2), grad_inner)
        return grad_h, grad_weight, grad_inner.sum(1, keepdim=True)
