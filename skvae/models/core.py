"""What every variational autoencoder here shares: posterior, divergence, bound."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

# Keeps exp(log_var) and its inverse finite in float32.
LOG_VAR_RANGE = (-12.0, 4.0)


@dataclass
class LossResult:
    """A loss and what it is made of.

    Attributes
    ----------
    objective : Tensor, 0-d
        What to minimise.
    diagnostics : dict of str to Tensor, 0-d, detached
        Its terms in nats per row.
    """

    objective: Tensor
    diagnostics: dict[str, Tensor] = field(default_factory=dict)


@dataclass
class VAEOutput:
    """What a forward pass returns.

    Attributes
    ----------
    params : object
        Parameters of the likelihood p(x | z), in the form that the model's likelihood takes.
    z : Tensor of shape (batch, latent_dim)
        The latents drawn.
    mu, log_var : Tensor of shape (batch, latent_dim)
        Mean and log variance of the posterior q(z | x).
    """

    params: Any
    z: Tensor
    mu: Tensor
    log_var: Tensor


def reparametrize(mu: Tensor, log_var: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Draw ``mu + sigma * eps`` with standard normal ``eps`` (Kingma and Welling 2014, eq. 10)."""
    noise = torch.randn(mu.shape, dtype=mu.dtype, device=mu.device, generator=generator)
    return torch.addcmul(mu, torch.exp(0.5 * log_var), noise)


def kl_divergence_diag_gaussian(
    mu_q: Tensor,
    log_var_q: Tensor,
    mu_p: Tensor | None = None,
    log_var_p: Tensor | None = None,
    reduce_sum: bool = True,
) -> Tensor:
    """Kullback-Leibler divergence of two Gaussians with diagonal covariance, in nats.

    Parameters
    ----------
    mu_q, log_var_q : Tensor of shape (batch, latent_dim)
        Mean and log variance of q.
    mu_p, log_var_p : Tensor of shape (batch, latent_dim) or None
        Those of p; None stands for 0, so by default p is the standard normal
        (Kingma and Welling 2014, appendix B).
    reduce_sum : bool, default=True
        Whether to sum over the latent dimensions.

    Returns
    -------
    Tensor of shape (batch,) or (batch, latent_dim)

    Examples
    --------
    >>> import torch
    >>> from skvae.models import kl_divergence_diag_gaussian
    >>> kl_divergence_diag_gaussian(torch.ones(1, 3), torch.zeros(1, 3))
    tensor([1.5000])
    """
    delta = mu_q if mu_p is None else mu_q - mu_p
    if log_var_p is None:
        twice = delta.square() + log_var_q.exp() - log_var_q
    else:
        ratio = log_var_q - log_var_p
        twice = delta.square() * torch.exp(-log_var_p) + ratio.exp() - ratio
    # The constant comes last: a pass less over each element.
    return 0.5 * (twice.sum(dim=-1) - twice.shape[-1]) if reduce_sum else 0.5 * (twice - 1.0)


class GaussianVAE(nn.Module, ABC):
    """A VAE with a diagonal Gaussian posterior and a standard normal prior.

    A subclass says how to get the posterior's parameters (``encode``), the likelihood's
    parameters (``decode``) and the log likelihood of a batch under them (``log_likelihood``).

    Parameters
    ----------
    latent_dim : int
        Size of the latent.
    """

    def __init__(self, latent_dim: int) -> None:
        super().__init__()
        self.latent_dim = latent_dim

    @abstractmethod
    def encode(self, x: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
        """Return mean and log variance of q(z | x), each of shape (batch, latent_dim)."""

    @abstractmethod
    def decode(self, z: Tensor, x: tuple[Tensor, ...]) -> Any:
        """Return the likelihood's parameters; ``x`` for decoders that see earlier columns."""

    @abstractmethod
    def log_likelihood(self, x: tuple[Tensor, ...], params: Any) -> Tensor:
        """Return log p(x | z), in nats, of shape (batch,)."""

    def forward(
        self, x: tuple[Tensor, ...], *, generator: torch.Generator | None = None
    ) -> VAEOutput:
        """Encode a batch, draw one latent a row, decode it."""
        mu, log_var = self.encode(x)
        z = reparametrize(mu, log_var, generator)
        return VAEOutput(self.decode(z, x), z, mu, log_var)

    def compute_loss(
        self,
        x: tuple[Tensor, ...],
        output: VAEOutput,
        *,
        beta: float = 1.0,
        free_nats: float = 0.0,
    ) -> LossResult:
        """Negative evidence lower bound with a floor under its rate.

        ``reconstruction + beta * max(kl, free_nats)``: the bound of Kingma and Welling (2014,
        eq. 7) for ``beta=1`` and ``free_nats=0``, with the weight of Higgins et al. (2017, eq. 4)
        and the free bits of Kingma et al. (2016, eq. 15), taken over the whole latent.

        Parameters
        ----------
        x : tuple of Tensor
            The batch that ``forward`` saw.
        output : VAEOutput
            What ``forward`` returned.
        beta : float, default=1
            Weight of the divergence.
        free_nats : float, default=0
            The mean divergence of a batch below which there is nothing to gain, in nats a row.

        Returns
        -------
        LossResult
            With diagnostics ``reconstruction`` (sum over features), ``kl`` and ``elbo``, means
            over the rows, in nats.
        """
        reconstruction = -self.log_likelihood(x, output.params).mean()
        kl = kl_divergence_diag_gaussian(output.mu, output.log_var).mean()
        objective = reconstruction + beta * kl.clamp(min=free_nats)
        diagnostics = {
            "reconstruction": reconstruction.detach(),
            "kl": kl.detach(),
            "elbo": -(reconstruction + kl).detach(),
        }
        return LossResult(objective, diagnostics)
