"""Variational autoencoders whose posteriors are bent by normalising flows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor, nn

from skvae.models.checks import check_count
from skvae.models.core import ModelOutput
from skvae.models.flows import FlowSequence, InverseAutoregressiveFlow, PlanarFlow, RadialFlow
from skvae.models.likelihoods import Likelihood
from skvae.models.vae import VAE

LINEAR_FLOWS: dict[str, type[nn.Module]] = {"planar": PlanarFlow, "radial": RadialFlow}


@dataclass(slots=True, repr=False)
class FlowEncodeOutput(ModelOutput):
    """What ``FlowVAE.encode`` returns.

    Attributes
    ----------
    z : Tensor of shape (batch, S, latent_dim)
        Latents after the flow.
    mu, log_var : Tensor of shape (batch, latent_dim)
        Mean and log variance of the Gaussian before the flow.
    z0 : Tensor of shape (batch, S, latent_dim)
        Latents before the flow.
    log_det : Tensor of shape (batch, S)
        Log determinant of the flow at them.
    """

    z: Tensor
    mu: Tensor
    log_var: Tensor
    z0: Tensor
    log_det: Tensor


@dataclass(slots=True, repr=False)
class FlowOutput(FlowEncodeOutput):
    """What ``FlowVAE.forward`` returns: beside the posterior the reconstruction.

    Attributes
    ----------
    x_hat : Tensor of shape (batch, S, ...)
        Parameters of the likelihood of x.
    """

    x_hat: Tensor


class FlowVAE(VAE):
    """Base of VAEs with ``z_K = flow(z_0)``, ``z_0 ~ N(mu, sigma^2)``.

    The divergence is estimated by the latents drawn (Rezende and Mohamed 2015, eq. 15).
    ``embed`` is the flow of ``mu``.

    Parameters
    ----------
    encoder, decoder, latent_dim, likelihood
        As in ``VAE``.
    flow : Module
        From latents (batch, S, latent_dim) and a context (batch, 1, context_dim), or None, to
        latents and log determinants.
    context_dim : int, default=0
        Size of the context, linear in the encoder's features; 0 for none.
    """

    def __init__(
        self,
        encoder: nn.Module,
        decoder: nn.Module,
        latent_dim: int,
        *,
        flow: nn.Module,
        context_dim: int = 0,
        likelihood: Likelihood | None = None,
    ) -> None:
        super().__init__(encoder, decoder, latent_dim, likelihood=likelihood)
        self.flow = flow
        self.context = nn.LazyLinear(context_dim) if context_dim else None

    def _encode(self, x: Tensor, S: int = 1, sample: bool = True) -> FlowEncodeOutput:
        features = self.encoder(x)
        z0, mu, log_var = self.sampling_layer(features, S=S, sample=sample)
        context = None if self.context is None else self.context(features).unsqueeze(1)
        z, log_det = self.flow(z0, context)
        return FlowEncodeOutput(z, mu, log_var, z0, log_det)

    def forward(self, x: Tensor, S: int = 1, sample: bool = True) -> FlowOutput:
        """Encode rows, draw S latents each, decode them."""
        encoded = self._encode(x, S=S, sample=sample)
        x_hat = self._decode(encoded.z).x_hat
        return FlowOutput(
            encoded.z, encoded.mu, encoded.log_var, encoded.z0, encoded.log_det, x_hat
        )

    def log_posterior(self, output: Any) -> Tensor:
        """Return log q(z_K | x) of the latents drawn, of shape (batch, S)."""
        before = FlowEncodeOutput(output.z0, output.mu, output.log_var, output.z0, output.log_det)
        return super().log_posterior(before) - output.log_det

    def divergence(self, output: Any) -> Tensor:
        """Return an estimate of KL(q(z | x) || p(z)) by the latents drawn, of shape (batch,)."""
        return (self.log_posterior(output) - self.log_prior(output.z)).mean(1)

    def embed(self, x: Tensor) -> Tensor:
        """Return the flow of the Gaussian's mean, of shape (batch, latent_dim)."""
        return self._encode(x, sample=False).z[:, 0]


class LinearFlowVAE(FlowVAE):
    """A VAE with planar or radial flows (Rezende and Mohamed [1]_).

    Parameters
    ----------
    encoder, decoder, latent_dim, likelihood
        As in ``VAE``.
    flow : {"planar", "radial"}, default="planar"
        Equation 10 or 14.
    n_flows : int, default=8
        Steps of the flow.

    References
    ----------
    .. [1] Rezende, Mohamed, "Variational Inference with Normalizing Flows", ICML 2015.

    Examples
    --------
    >>> import torch
    >>> from torch import nn
    >>> from skvae.models import LinearFlowVAE
    >>> model = LinearFlowVAE(nn.Linear(8, 16), nn.Linear(2, 8), latent_dim=2, n_flows=4)
    >>> model(torch.randn(5, 8), S=3).log_det.shape
    torch.Size([5, 3])
    """

    def __init__(
        self,
        encoder: nn.Module,
        decoder: nn.Module,
        latent_dim: int,
        *,
        flow: Literal["planar", "radial"] = "planar",
        n_flows: int = 8,
        likelihood: Likelihood | None = None,
    ) -> None:
        if flow not in LINEAR_FLOWS:
            raise ValueError(f"flow={flow!r}, expected one of {sorted(LINEAR_FLOWS)}.")
        check_count("n_flows", n_flows, 0)
        steps = FlowSequence(LINEAR_FLOWS[flow](latent_dim) for _ in range(n_flows))
        super().__init__(encoder, decoder, latent_dim, flow=steps, likelihood=likelihood)


class IAFVAE(FlowVAE):
    """A VAE with an inverse autoregressive flow (Kingma et al. [1]_, algorithm 1).

    Each step sees a context from the encoder, and the order of the latents is reversed between
    steps.

    Parameters
    ----------
    encoder, decoder, latent_dim, likelihood
        As in ``VAE``.
    n_flows : int, default=2
        Steps of the flow.
    hidden : sequence of int, default=(128, 128)
        Widths of the hidden layers of each step's network.
    context_dim : int, default=64
        Size of the context; 0 for none.

    References
    ----------
    .. [1] Kingma, Salimans, Jozefowicz, Chen, Sutskever, Welling, "Improving Variational Inference
       with Inverse Autoregressive Flow", NeurIPS 2016.

    Examples
    --------
    >>> import torch
    >>> from torch import nn
    >>> from skvae.models import IAFVAE
    >>> model = IAFVAE(nn.Linear(8, 16), nn.Linear(2, 8), latent_dim=2)
    >>> model(torch.randn(5, 8)).z.shape
    torch.Size([5, 1, 2])
    """

    def __init__(
        self,
        encoder: nn.Module,
        decoder: nn.Module,
        latent_dim: int,
        *,
        n_flows: int = 2,
        hidden: tuple[int, ...] = (128, 128),
        context_dim: int = 64,
        likelihood: Likelihood | None = None,
    ) -> None:
        check_count("n_flows", n_flows, 0)
        check_count("context_dim", context_dim, 0)
        steps = FlowSequence(
            InverseAutoregressiveFlow(latent_dim, context_dim, hidden, reverse=bool(step % 2))
            for step in range(n_flows)
        )
        super().__init__(
            encoder,
            decoder,
            latent_dim,
            flow=steps,
            context_dim=context_dim,
            likelihood=likelihood,
        )
