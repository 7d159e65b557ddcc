"""Variational autoencoders whose latents are pushed to vary one by one."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

from torch import Tensor, nn

from skvae.models.checks import check_number
from skvae.models.core import LossResult, StepContext
from skvae.models.likelihoods import Likelihood, LikelihoodType
from skvae.models.vae import VAE, bound_terms


class PenalizedVAE(VAE):
    """A VAE with another penalty on its latents than the divergence.

    The penalty may have no use for the training loop's free nats.

    Parameters
    ----------
    encoder, decoder, latent_dim, likelihood
        As for ``VAE``.
    """

    @abstractmethod
    def penalty(
        self, output: Any, kl: Tensor, context: StepContext | None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the penalty, 0-d, in nats, and diagnostics.

        Parameters
        ----------
        output : VAEOutput
            What ``forward`` returned.
        kl : Tensor, 0-d
            The mean divergence.
        context : StepContext or None
            Where in a training run this is.
        """

    def compute_loss(
        self,
        x: Tensor,
        output: Any,
        beta: float = 1.0,
        likelihood: str | LikelihoodType | None = None,
        *,
        context: StepContext | None = None,
    ) -> LossResult:
        """Penalty minus log likelihood.

        Parameters
        ----------
        x, output, likelihood, context
            As for ``VAE.compute_loss``.
        beta : float, default=1
            A further factor on the penalty.

        Returns
        -------
        LossResult
            With the model's own terms and ``elbo`` (the bound itself, without the model's
            weights), ``log_likelihood`` and ``kl_divergence``, in nats a row.
        """
        log_px = self.log_px(x, output, likelihood).mean()
        kl = self.divergence(output).mean()
        penalty, terms = self.penalty(output, kl, context)
        weight = beta * (1.0 if context is None else context.beta)
        own = {name: term.detach() for name, term in terms.items()}
        return LossResult(weight * penalty - log_px, {**bound_terms(log_px, kl), **own})


class BetaVAE(PenalizedVAE):
    """The VAE of Higgins et al. [1]_, whose divergence has a weight (eq. 4).

    Parameters
    ----------
    encoder, decoder, latent_dim, likelihood
        As for ``VAE``.
    beta : float, default=4
        Weight of the divergence. Above one, latents that tell little are switched off, and those
        left tend to be independent; reconstructions lose detail. One is a VAE.

    References
    ----------
    .. [1] Higgins et al., "beta-VAE: Learning Basic Visual Concepts with a Constrained
       Variational Framework", ICLR 2017.

    Examples
    --------
    >>> import torch
    >>> from torch import nn
    >>> from skvae.models import BetaVAE
    >>> encoder = nn.Sequential(nn.Linear(8, 16), nn.ReLU())
    >>> model = BetaVAE(encoder, nn.Linear(2, 8), latent_dim=2, beta=6.0)
    >>> x = torch.randn(5, 8)
    >>> sorted(model.compute_loss(x, model(x)).diagnostics)
    ['elbo', 'kl_divergence', 'log_likelihood']
    """

    def __init__(
        self,
        encoder: nn.Module,
        decoder: nn.Module,
        latent_dim: int,
        *,
        beta: float = 4.0,
        likelihood: Likelihood | None = None,
    ) -> None:
        check_number("beta", beta)
        super().__init__(encoder, decoder, latent_dim, likelihood=likelihood)
        self.beta = beta

    def penalty(
        self, output: Any, kl: Tensor, context: StepContext | None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the divergence times ``beta``, no less than that of the free nats."""
        floor = 0.0 if context is None else context.free_nats
        return self.beta * (kl.clamp(min=floor) if floor else kl), {}


class DisentangledBetaVAE(PenalizedVAE):
    """The VAE of Burgess et al. [1]_, whose divergence is held at a rising capacity (eq. 8).

    The penalty is ``gamma |KL - C|``, where C rises linearly from zero in training: the latents
    take up one factor of variation after the other, the most telling first.

    Parameters
    ----------
    encoder, decoder, latent_dim, likelihood
        As for ``VAE``.
    gamma : float, default=10
        Weight of the distance from the capacity. The paper takes 1000, in runs of a million
        steps; in short ones so much leaves nothing to the reconstruction.
    capacity : float, default=25
        What C rises to, in nats a row. It is the divergence that the trained model has, whatever
        the data: take less for simple data or small latents.
    warmup : float, default=0.5
        Share of the training run over which C rises.

    References
    ----------
    .. [1] Burgess et al., "Understanding disentangling in beta-VAE", 2018, arXiv:1804.03599.

    Examples
    --------
    >>> import torch
    >>> from torch import nn
    >>> from skvae.models import DisentangledBetaVAE
    >>> encoder = nn.Sequential(nn.Linear(8, 16), nn.ReLU())
    >>> model = DisentangledBetaVAE(encoder, nn.Linear(2, 8), latent_dim=2, capacity=5.0)
    >>> x = torch.randn(5, 8)
    >>> model.compute_loss(x, model(x)).diagnostics["capacity"]
    tensor(5.)
    """

    def __init__(
        self,
        encoder: nn.Module,
        decoder: nn.Module,
        latent_dim: int,
        *,
        gamma: float = 10.0,
        capacity: float = 25.0,
        warmup: float = 0.5,
        likelihood: Likelihood | None = None,
    ) -> None:
        check_number("gamma", gamma)
        check_number("capacity", capacity)
        check_number("warmup", warmup, maximum=1.0)
        super().__init__(encoder, decoder, latent_dim, likelihood=likelihood)
        self.gamma = gamma
        self.capacity = capacity
        self.warmup = warmup

    def penalty(
        self, output: Any, kl: Tensor, context: StepContext | None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Return ``gamma`` times the distance of the divergence from the capacity of this step."""
        n_warmup = 0.0 if context is None else self.warmup * context.n_steps
        progress = 1.0
        if context is not None and context.step < n_warmup:
            progress = min(1.0, (context.step + 1) / n_warmup)
        capacity = self.capacity * progress
        return self.gamma * (kl - capacity).abs(), {"capacity": kl.new_tensor(capacity)}
