"""Normalising flows: invertible maps of a latent that make its posterior less plain.

Each maps ``z`` of shape (..., latent_dim), and a context if it takes one, to ``z'`` of the same
shape and ``log |det dz'/dz|`` of shape (...). Log density falls by as much:
``log q(z') = log q(z) - log_det`` (Rezende and Mohamed 2015, eq. 5).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

# sigmoid of this is what an inverse autoregressive step keeps of z at the start.
GATE_BIAS = 2.0


def _one_plus_elu(x: Tensor) -> Tensor:
    """``1 + elu(x)``, with all its digits where that is near 0."""
    return F.relu(x) + torch.exp(x.clamp(max=0.0))


class PlanarFlow(nn.Module):
    """``z + u_hat tanh(w^T z + b)`` (Rezende and Mohamed 2015, eq. 10 to 12).

    The map has an inverse if ``w^T u_hat > -1``. To that end u is moved along w until
    ``w^T u_hat = elu(w^T u)``. That is the appendix's remedy with elu for its ``softplus - 1``:
    unlike that one it leaves u alone where ``w^T u >= 0``, so that u = 0, where the flow starts,
    gives the identity.

    Parameters
    ----------
    latent_dim : int
        Size of the latent.
    """

    def __init__(self, latent_dim: int) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.randn(latent_dim) * latent_dim**-0.5)
        self.u = nn.Parameter(torch.zeros(latent_dim))
        self.b = nn.Parameter(torch.zeros(()))

    def forward(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Map ``z``; the context is not used."""
        product = self.w @ self.u
        square = self.w.square().sum().clamp(min=torch.finfo(z.dtype).tiny)
        u_hat = self.u + (F.elu(product) - product) / square * self.w
        h = torch.tanh(z @ self.w + self.b)
        # 1 + h' w^T u_hat, as a sum of nothing below 0.
        det = h.square() + (1 - h.square()) * _one_plus_elu(product)
        return z + u_hat * h.unsqueeze(-1), det.log()


class RadialFlow(nn.Module):
    """``z + beta (z - center) / (alpha + |z - center|)`` (Rezende and Mohamed 2015, eq. 14).

    With ``alpha > 0`` and ``beta = alpha elu(b) > -alpha`` the map has an inverse; it starts as the
    identity, at b = 0.

    Parameters
    ----------
    latent_dim : int
        Size of the latent.
    """

    def __init__(self, latent_dim: int) -> None:
        super().__init__()
        self.center = nn.Parameter(torch.randn(latent_dim))
        self.log_alpha = nn.Parameter(torch.zeros(()))
        self.b = nn.Parameter(torch.zeros(()))

    def forward(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Map ``z``; the context is not used."""
        alpha, keep = self.log_alpha.exp(), _one_plus_elu(self.b)
        offset = z - self.center
        # The gradient of the length at the centre is 0, not undefined.
        r = offset.square().sum(dim=-1).clamp(min=torch.finfo(z.dtype).tiny).sqrt()
        total = alpha + r
        moved = (alpha * F.elu(self.b) / total).unsqueeze(-1) * offset
        # 1 + beta h across the radius, 1 + beta (h + h' r) along it; h = 1 / (alpha + r).
        across = torch.log(r + alpha * keep) - total.log()
        along = torch.log(r * (r + 2 * alpha) + alpha.square() * keep) - 2 * total.log()
        return z + moved, (z.shape[-1] - 1) * across + along


class MaskedLinear(nn.Linear):
    """A linear map that only some inputs pass to some outputs.

    Parameters
    ----------
    mask : Tensor of shape (n_out, n_in)
        1 where a weight may be other than 0, else 0.
    """

    mask: Tensor

    def __init__(self, mask: Tensor) -> None:
        super().__init__(mask.shape[1], mask.shape[0])
        self.register_buffer("mask", mask, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., n_in) to (..., n_out)."""
        return F.linear(x, self.weight * self.mask, self.bias)


class MaskedAutoregressiveNetwork(nn.Module):
    """Numbers for each coordinate out of the coordinates before it and a context.

    The MADE of Germain et al. (2015, eq. 8 and 9), with hidden units of degree 0 besides, which
    see the context only: there is something to learn for the first coordinate, even alone.

    Parameters
    ----------
    latent_dim : int
        Number of coordinates, 1 or more.
    n_outputs : int
        Numbers for each.
    hidden : sequence of int
        Sizes of the hidden layers, one or more.
    context_dim : int, default=0
        Size of the context; 0 for none.
    reverse : bool, default=False
        Whether "before" is after: coordinates see those of higher index.
    """

    def __init__(
        self,
        latent_dim: int,
        n_outputs: int,
        hidden: Sequence[int],
        context_dim: int = 0,
        reverse: bool = False,
    ) -> None:
        if not hidden:
            raise ValueError("hidden must hold the size of one layer or more, got none.")
        super().__init__()
        self.n_outputs = n_outputs
        # A unit of degree k sees the first k coordinates, in the order taken.
        places = torch.arange(1, latent_dim + 1)
        degrees = [places.flip(0) if reverse else places]
        degrees += [torch.linspace(0, latent_dim - 1, size).round() for size in hidden]
        self.layers = nn.ModuleList(
            MaskedLinear((after[:, None] >= before).float())
            for before, after in itertools.pairwise(degrees)
        )
        last = (degrees[0][:, None] > degrees[-1]).float()
        self.last = MaskedLinear(last.repeat(n_outputs, 1))
        self.context = nn.Linear(context_dim, hidden[0], bias=False) if context_dim else None

    def forward(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, ...]:
        """Map latents to their numbers.

        Parameters
        ----------
        z : Tensor of shape (..., latent_dim)
            The coordinates.
        context : Tensor that broadcasts to (..., context_dim), or None
            Given if, and only if, the network was built for one.

        Returns
        -------
        tuple of ``n_outputs`` Tensors of shape (..., latent_dim)
        """
        if (context is None) != (self.context is None):
            expected = "no context" if self.context is None else "a context"
            raise ValueError(f"this network was built for {expected}: see context_dim.")
        h = z
        for rank, layer in enumerate(self.layers):
            h = layer(h)
            if rank == 0 and self.context is not None:
                h = h + self.context(context)
            h = F.elu(h)
        return self.last(h).chunk(self.n_outputs, dim=-1)


class InverseAutoregressiveFlow(nn.Module):
    """``sigma z + (1 - sigma) m``, gated by coordinate (Kingma et al. 2016, algorithm 1).

    ``m`` and ``sigma`` of a coordinate come out of the coordinates before it and the context. At
    the start m is 0 and sigma the sigmoid of 2: near the identity (ibid., section 4).

    Parameters
    ----------
    latent_dim : int
        Size of the latent, 1 or more.
    context_dim : int, default=0
        Size of the context that the encoder gives; 0 for none.
    hidden : sequence of int, default=(128, 128)
        Sizes of the network's hidden layers, one or more.
    reverse : bool, default=False
        Whether coordinates see those of higher index; to be turned from one step to the next.
    """

    def __init__(
        self,
        latent_dim: int,
        context_dim: int = 0,
        hidden: Sequence[int] = (128, 128),
        reverse: bool = False,
    ) -> None:
        super().__init__()
        self.network = MaskedAutoregressiveNetwork(latent_dim, 2, hidden, context_dim, reverse)
        nn.init.zeros_(self.network.last.weight)
        nn.init.zeros_(self.network.last.bias)

    def forward(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Map ``z`` under ``context``, which broadcasts to (..., context_dim)."""
        m, gate = self.network(z, context)
        gate = gate + GATE_BIAS
        return torch.lerp(m, z, gate.sigmoid()), F.logsigmoid(gate).sum(dim=-1)


class FlowSequence(nn.Module):
    """Flows one after the other, under one context.

    Parameters
    ----------
    flows : iterable of Module
        In the order of use.

    Examples
    --------
    >>> import torch
    >>> from skvae.models.flows import FlowSequence, InverseAutoregressiveFlow
    >>> steps = [InverseAutoregressiveFlow(3, reverse=bool(step % 2)) for step in range(2)]
    >>> z, log_det = FlowSequence(steps)(torch.ones(4, 3))
    >>> z[0].detach(), log_det[0].detach()
    (tensor([0.7758, 0.7758, 0.7758]), tensor(-0.7616))
    """

    def __init__(self, flows: Iterable[nn.Module]) -> None:
        super().__init__()
        self.flows = nn.ModuleList(flows)

    def forward(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Map ``z``, and sum the log determinants."""
        log_det = z.new_zeros(z.shape[:-1])
        for flow in self.flows:
            z, step = flow(z, context)
            log_det = log_det + step
        return z, log_det
