"""Draws from densities on a line for which there is no inverse distribution function.

They are drawn by rejection, and given by quadrature the derivative that the inverse would have had.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

# Where at least half of the candidates are accepted, a draw fails with probability 2^-128.
MAX_ROUNDS = 128
NODES, WEIGHTS = np.polynomial.legendre.leggauss(48)


def widen(x: Tensor) -> Tensor:
    """Return ``x`` in float64, on the CPU if its device knows none."""
    return x.to("cpu", torch.float64) if x.device.type == "mps" else x.to(torch.float64)


def quadrature(start: Tensor, stop: Tensor) -> tuple[Tensor, Tensor]:
    """Place the nodes and weights of Gauss and Legendre's rule from ``start`` to ``stop``.

    Returns
    -------
    nodes, weights : Tensor of shape (..., n_nodes)
        The weights are negative where ``stop`` lies below ``start``.
    """
    length = (stop - start).unsqueeze(-1)
    unit = torch.from_numpy(0.5 * (NODES + 1.0)).to(length)
    return start.unsqueeze(-1) + length * unit, length * torch.from_numpy(0.5 * WEIGHTS).to(length)


def samples_first(x: Tensor, n_batch: int, sample_shape: Sequence[int]) -> Tensor:
    """Move the dimensions of ``sample_shape`` from behind ``n_batch`` others to the front.

    Noise is drawn with the batch in front: what is drawn for a row then has its own place, where
    ``SharedNoise`` finds it.
    """
    n = len(sample_shape)
    return x.movedim(tuple(range(n_batch, n_batch + n)), tuple(range(n)))


def repeat_last(x: Tensor, batch: Sequence[int], sample_shape: Sequence[int]) -> Tensor:
    """Expand ``x`` to shape (*batch, *sample_shape)."""
    ones = (1,) * len(sample_shape)
    return x.expand(tuple(batch)).reshape((*batch, *ones)).expand((*batch, *sample_shape))


def rejection_sample(
    propose: Callable[..., tuple[Tensor, Tensor]],
    n_normals: int,
    *parameters: Tensor,
    rounds: int = MAX_ROUNDS,
) -> Tensor:
    """Draw one number for each set of parameters by rejection.

    Each round draws noise for all sets, also for those that have their number: what one gets does
    not depend on when the others got theirs.

    Parameters
    ----------
    propose : callable
        Maps standard normal numbers of shape (n, n_normals) and parameters of shape (n,) to
        candidates and to the logarithms of the probabilities of accepting them, each (n,).
    n_normals : int
        Normal numbers that a candidate is made of.
    *parameters : Tensor of shape (...)
        The parameters, all of one shape.
    rounds : int, default=128
        After that many, the last candidate stands.

    Returns
    -------
    Tensor of shape (...)
    """
    like = parameters[0]
    flat = [parameter.reshape(-1) for parameter in parameters]
    sample = torch.empty_like(flat[0])
    pending = torch.arange(len(sample), device=sample.device)
    for _ in range(rounds):
        normals = torch.randn(*like.shape, n_normals, dtype=like.dtype, device=like.device)
        uniform = torch.rand_like(like).reshape(-1)[pending]
        candidates, log_accept = propose(
            normals.reshape(-1, n_normals)[pending], *(parameter[pending] for parameter in flat)
        )
        sample[pending] = candidates
        pending = pending[uniform.log() > log_accept]
        if not len(pending):
            break
    return sample.view(like.shape)


@torch.no_grad()
def implicit_derivative(
    x: Tensor,
    log_density: Callable[[Tensor], Tensor],
    statistic: Callable[[Tensor], Tensor],
    mean: Tensor,
    end: Tensor,
) -> Tensor:
    """Differentiate draws from p(x) = b(x) exp(eta T(x)) / Z(eta) in the parameter eta.

    The derivative is that of the inverse distribution function at a fixed probability,
    ``-(dF/deta) / p(x)`` (Figurnov, Mohamed and Mnih 2018), where ``dF/deta`` is the integral of
    ``(T(t) - E T) p(t)`` up to x or, with the sign turned, from x on.

    Parameters
    ----------
    x : Tensor of shape (...)
        The draws.
    log_density : callable
        Log p at nodes of shape (..., n_nodes), up to a constant.
    statistic : callable
        T at such nodes.
    mean : Tensor of shape (...)
        The expectation of T.
    end : Tensor of shape (...)
        A place below x or above it beyond which p is negligible; best on the side of x where
        ``T - E T`` keeps its sign.

    Returns
    -------
    Tensor of shape (...)
    """
    nodes, weights = quadrature(x, end)
    ratio = torch.exp(log_density(nodes) - log_density(x.unsqueeze(-1)))
    return (weights * (statistic(nodes) - mean.unsqueeze(-1)) * ratio).sum(dim=-1)


def attach_derivative(x: Tensor, derivative: Tensor, parameter: Tensor) -> Tensor:
    """Return ``x`` with ``derivative`` as its gradient in ``parameter``."""
    return x.detach() + derivative.detach() * (parameter - parameter.detach())
