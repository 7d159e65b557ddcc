"""Variational autoencoders trained on bounds that weigh several latents a row by importance."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal

from torch import Tensor, nn

from skvae.models.checks import check_count, check_number
from skvae.models.core import LossResult, StepContext
from skvae.models.likelihoods import Likelihood, LikelihoodType
from skvae.models.vae import VAE, bound_terms, log_mean_exp

Gradient = Literal["reparametrized", "doubly_reparametrized"]


class IWAE(VAE):
    """The importance weighted autoencoder of Burda et al. [1]_.

    Minimises minus the log of the mean importance weight of K latents a row (eq. 8), a bound that
    tightens with K: the decoder is learned better, though the encoder's gradient gets noisier.
    The objective is the bound itself, so it compares between models and with ``elbo``. The warm-up
    multiplies the log ratio of prior to posterior in each weight; free nats have no place here.

    Parameters
    ----------
    encoder, decoder, latent_dim, likelihood
        As for ``VAE``.
    n_samples : int, default=10
        Latents K in a bound. The paper tries 5 and 50.
    gradient : {"reparametrized", "doubly_reparametrized"}, default="reparametrized"
        The encoder's gradient: the paper's, or the one of Tucker et al. [2]_, with the
        same expectation and a noise that does not drown it as K grows. The second one acts
        through a hook on the latents: ask for one loss of each forward pass.

    References
    ----------
    .. [1] Burda, Grosse, Salakhutdinov, "Importance Weighted Autoencoders", ICLR 2016.
    .. [2] Tucker, Lawson, Gu, Maddison, "Doubly Reparameterized Gradient Estimators for Monte
       Carlo Objectives", ICLR 2019.

    Examples
    --------
    >>> import torch
    >>> from torch import nn
    >>> from skvae.models import IWAE
    >>> encoder = nn.Sequential(nn.Linear(8, 16), nn.ReLU())
    >>> model = IWAE(encoder, nn.Linear(2, 8), latent_dim=2, n_samples=5)
    >>> x = torch.randn(4, 8)
    >>> sorted(model.compute_loss(x, model(x, S=5)).diagnostics)
    ['elbo', 'iw_bound', 'kl_divergence', 'log_likelihood']
    """

    def __init__(
        self,
        encoder: nn.Module,
        decoder: nn.Module,
        latent_dim: int,
        *,
        n_samples: int = 10,
        gradient: Gradient = "reparametrized",
        likelihood: Likelihood | None = None,
    ) -> None:
        check_count("n_samples", n_samples)
        if gradient not in ("reparametrized", "doubly_reparametrized"):
            raise ValueError(
                f"gradient={gradient!r}, expected 'reparametrized' or 'doubly_reparametrized'."
            )
        super().__init__(encoder, decoder, latent_dim, likelihood=likelihood)
        self.n_samples = n_samples
        self.gradient = gradient
        self.n_draws = n_samples

    def compute_loss(
        self,
        x: Tensor,
        output: Any,
        beta: float = 1.0,
        likelihood: str | LikelihoodType | None = None,
        *,
        context: StepContext | None = None,
    ) -> LossResult:
        """Minus the importance weighted bound.

        Parameters
        ----------
        x, likelihood, context
            As for ``VAE.compute_loss``.
        output : VAEOutput
            What ``forward`` returned, of ``n_draws`` latents a row.
        beta : float, default=1
            Exponent of the ratio of prior to posterior in a weight.

        Returns
        -------
        LossResult
            With ``elbo``, ``log_likelihood``, ``kl_divergence`` and ``iw_bound``, in nats a row,
            none of them weighted by ``beta``.
        """
        weight = beta if context is None else beta * context.beta
        log_px = self.log_px(x, output, likelihood)
        log_ratio = self.log_prior(output.z) - self._log_posterior(output)
        log_weights = log_px + weight * log_ratio
        if self.gradient == "doubly_reparametrized":
            self._scale_gradient(output.z, log_weights, weight)
        mean_log_px, kl = log_px.mean(), self.divergence(output).mean()
        result = self._loss(log_weights, mean_log_px - weight * kl)
        true_bound = self._bound((log_px + log_ratio).detach())
        result.diagnostics |= {**bound_terms(mean_log_px, kl), "iw_bound": true_bound}
        return result

    def _loss(self, log_weights: Tensor, elbo: Tensor) -> LossResult:
        """Return the loss for log weights of shape (batch, S), without the common diagnostics."""
        return LossResult(-self._bound(log_weights))

    def _bound(self, log_weights: Tensor) -> Tensor:
        """Return the bound, 0-d, for log weights of shape (batch, S)."""
        return log_mean_exp(self._groups(log_weights), dim=2).mean()

    def _groups(self, log_weights: Tensor) -> Tensor:
        """Split (batch, S) into the weights of each estimate, (batch, M, K)."""
        return log_weights.unsqueeze(1)

    def _log_posterior(self, output: Any) -> Tensor:
        if self.gradient == "reparametrized":
            return self.log_posterior(output)
        # The part of the gradient that does not pass through z has been turned into one that does.
        fixed = replace(output, mu=output.mu.detach(), log_var=output.log_var.detach())
        return self.log_posterior(fixed)

    def _scale_gradient(self, z: Tensor, log_weights: Tensor, beta: float) -> None:
        """Multiply the gradient that reaches z by ``1 - beta (1 - w)``, for normalised weights w.

        With ``beta=1`` this makes the squared w of Tucker et al. (2019), as one w is in the
        gradient already.
        """
        if not z.requires_grad:
            return
        shares = self._groups(log_weights.detach()).softmax(dim=2).flatten(1).unsqueeze(2)
        factor = 1 - beta * (1 - shares)
        z.register_hook(lambda gradient: gradient * factor)


class MIWAE(IWAE):
    """The multiply importance weighted autoencoder of Rainforth et al. [1]_.

    Minimises minus the mean over M estimates of the bound of K latents each (section 5): between
    the VAE's bound (K = 1), whose encoder learns best, and the IWAE's (M = 1).

    Parameters
    ----------
    encoder, decoder, latent_dim, gradient, likelihood
        As for ``IWAE``.
    n_estimates : int, default=5
        Estimates M of the bound.
    n_samples : int, default=10
        Latents K in each of them. The paper takes 8 and 8.

    References
    ----------
    .. [1] Rainforth, Kosiorek, Le, Maddison, Igl, Wood, Teh, "Tighter Variational Bounds are Not
       Necessarily Better", ICML 2018.

    Examples
    --------
    >>> import torch
    >>> from torch import nn
    >>> from skvae.models import MIWAE
    >>> model = MIWAE(nn.Linear(8, 16), nn.Linear(2, 8), latent_dim=2, n_estimates=3, n_samples=4)
    >>> model.n_draws
    12
    >>> x = torch.randn(4, 8)
    >>> model.compute_loss(x, model(x, S=12)).objective.shape
    torch.Size([])
    """

    def __init__(
        self,
        encoder: nn.Module,
        decoder: nn.Module,
        latent_dim: int,
        *,
        n_estimates: int = 5,
        n_samples: int = 10,
        gradient: Gradient = "reparametrized",
        likelihood: Likelihood | None = None,
    ) -> None:
        check_count("n_estimates", n_estimates)
        super().__init__(
            encoder,
            decoder,
            latent_dim,
            n_samples=n_samples,
            gradient=gradient,
            likelihood=likelihood,
        )
        self.n_estimates = n_estimates
        self.n_draws = n_estimates * n_samples

    def _groups(self, log_weights: Tensor) -> Tensor:
        n_draws = log_weights.shape[1]
        # Fewer than one estimate takes, as of a forward pass without S, still make a bound.
        size = min(self.n_samples, n_draws)
        if n_draws % size:
            raise ValueError(
                f"The output has S={n_draws} latents a row, expected a multiple of "
                f"n_samples={self.n_samples}: model(x, S=model.n_draws)."
            )
        return log_weights.unflatten(1, (-1, size))


class PIWAE(MIWAE):
    """The partially importance weighted autoencoder of Rainforth et al. [1]_.

    The decoder is trained on the bound of all M times K latents at once, the encoder on the mean
    of M bounds of K each (section 5): a tight bound for the one, a clear gradient for the other.
    The encoder is a player of its own, ``"encoder"``. The objective and ``iw_bound`` are the
    decoder's bound; ``miwae_bound`` is the encoder's.

    Parameters
    ----------
    encoder, decoder, latent_dim, gradient, likelihood
        As for ``IWAE``.
    n_estimates : int, default=5
        Estimates M of the encoder's bound.
    n_samples : int, default=10
        Latents K in each of them.

    References
    ----------
    .. [1] Rainforth, Kosiorek, Le, Maddison, Igl, Wood, Teh, "Tighter Variational Bounds are Not
       Necessarily Better", ICML 2018.

    Examples
    --------
    >>> import torch
    >>> from torch import nn
    >>> from skvae.models import PIWAE
    >>> model = PIWAE(nn.Linear(8, 16), nn.Linear(2, 8), latent_dim=2, n_estimates=3, n_samples=4)
    >>> x = torch.randn(4, 8)
    >>> list(model.compute_loss(x, model(x, S=12)).players)
    ['encoder']
    """

    def player_parameters(self) -> dict[str, list[nn.Parameter]]:
        """Return the encoder's parameters, those of the posterior's layer among them."""
        parameters = [*self.encoder.parameters(), *self.sampling_layer.parameters()]
        return {"encoder": parameters}

    def _loss(self, log_weights: Tensor, elbo: Tensor) -> LossResult:
        encoder_bound = super()._bound(log_weights)
        diagnostics = {"miwae_bound": encoder_bound.detach()}
        return LossResult(-self._bound(log_weights), diagnostics, {"encoder": -encoder_bound})

    def _bound(self, log_weights: Tensor) -> Tensor:
        return log_mean_exp(log_weights, dim=1).mean()


class CIWAE(IWAE):
    """The combination importance weighted autoencoder of Rainforth et al. [1]_.

    Minimises minus ``beta`` of the VAE's bound and ``1 - beta`` of the IWAE's, from the same
    latents (section 5).

    Parameters
    ----------
    encoder, decoder, latent_dim, likelihood
        As for ``VAE``.
    n_samples : int, default=10
        Latents in the bound.
    beta : float, default=0.5
        Weight of the VAE's bound, 0 to 1: with 1 the model is a VAE of ``n_samples`` latents a
        row, with 0 an IWAE.

    References
    ----------
    .. [1] Rainforth, Kosiorek, Le, Maddison, Igl, Wood, Teh, "Tighter Variational Bounds are Not
       Necessarily Better", ICML 2018.

    Examples
    --------
    >>> import torch
    >>> from torch import nn
    >>> from skvae.models import CIWAE
    >>> model = CIWAE(nn.Linear(8, 16), nn.Linear(2, 8), latent_dim=2, beta=0.05)
    >>> x = torch.randn(4, 8)
    >>> model.compute_loss(x, model(x, S=10)).objective.shape
    torch.Size([])
    """

    def __init__(
        self,
        encoder: nn.Module,
        decoder: nn.Module,
        latent_dim: int,
        *,
        n_samples: int = 10,
        beta: float = 0.5,
        likelihood: Likelihood | None = None,
    ) -> None:
        check_number("beta", beta, maximum=1.0)
        super().__init__(encoder, decoder, latent_dim, n_samples=n_samples, likelihood=likelihood)
        self.beta = beta

    def _loss(self, log_weights: Tensor, elbo: Tensor) -> LossResult:
        bound = self._bound(log_weights)
        return LossResult(-(self.beta * elbo + (1 - self.beta) * bound))
