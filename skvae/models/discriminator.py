"""The network that adversarial models learn against, its loss and what keeps it smooth."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class MLPDiscriminator(nn.Module):
    """Tells real from fake: flattened rows to a logit, and to the features it comes of.

    Parameters
    ----------
    hidden_layer_sizes : sequence of int, default=(256, 256)
        Widths of the hidden layers, at least one. The features are all of them side by side:
        those of the last alone forget what does not tell real from fake.
    n_inputs : int, optional
        Numbers in a row; by default those of the first batch seen.

    Examples
    --------
    >>> import torch
    >>> from skvae.models import MLPDiscriminator
    >>> logits, features = MLPDiscriminator((32, 16))(torch.zeros(5, 8, 8))
    >>> logits.shape, features.shape
    (torch.Size([5]), torch.Size([5, 48]))
    """

    def __init__(
        self, hidden_layer_sizes: Sequence[int] = (256, 256), *, n_inputs: int | None = None
    ) -> None:
        super().__init__()
        width = hidden_layer_sizes[0]
        first = nn.LazyLinear(width) if n_inputs is None else nn.Linear(n_inputs, width)
        rest = [nn.Linear(*widths) for widths in itertools.pairwise(hidden_layer_sizes)]
        self.layers = nn.ModuleList([first, *rest])
        self.logit = nn.Linear(hidden_layer_sizes[-1], 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return logits of being real, (batch,), and features, (batch, width)."""
        hidden = x.flatten(1)
        features = []
        for layer in self.layers:
            # Not a ReLU: the player that is told apart needs a slope everywhere.
            hidden = F.silu(layer(hidden))
            features.append(hidden)
        return self.logit(hidden).squeeze(1), torch.cat(features, dim=1)


def discrimination_loss(real: Tensor, fake: Tensor) -> Tensor:
    """Cross entropy of telling real from fake by their logits; log 2 where they are the same."""
    return 0.5 * (F.softplus(-real).mean() + F.softplus(fake).mean())


def gradient_penalty(logits: Tensor, x: Tensor) -> Tensor:
    """Half the mean squared norm of the logits' gradient in the rows ``x`` they were taken of.

    It keeps two players from circling around their equilibrium (Mescheder et al. 2018, eq. 9).
    Zero where no gradients are tracked.
    """
    if not torch.is_grad_enabled():
        return logits.new_zeros(())
    (gradient,) = torch.autograd.grad(logits.sum(), x, create_graph=True)
    return 0.5 * gradient.flatten(1).square().sum(1).mean()
