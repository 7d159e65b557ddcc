"""Autoencoders that learn against a discriminator."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from skvae.models.checks import check_number
from skvae.models.core import LossResult, StepContext
from skvae.models.discriminator import MLPDiscriminator, discrimination_loss, gradient_penalty
from skvae.models.likelihoods import GaussianLikelihood, Likelihood, LikelihoodType
from skvae.models.vae import VAE, FullyFactorizedGaussian, check_features


class PointPosterior(FullyFactorizedGaussian):
    """One latent a row: a Gaussian of variance zero around a mean linear in the features."""

    def __init__(self, latent_dim: int) -> None:
        super().__init__(latent_dim)
        del self.log_var

    def get_params(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and log variance, minus infinity, for features (batch, width)."""
        check_features(x)
        mu = self.mu(x)
        return mu, torch.full_like(mu, -math.inf)


class AdversarialAE(VAE):
    """The adversarial autoencoder of Makhzani et al. [1]_.

    In place of a divergence, a discriminator tells the latents of rows from draws of the prior,
    and the encoder is trained so that it cannot: over all rows together, the latents have the
    prior's distribution, while each row may keep a single latent.

    Parameters
    ----------
    encoder : Module
        From rows (batch, ...) to features (batch, width), in which the latent's mean is linear.
    decoder : Module
        From latents (n, latent_dim) to rows (n, ...): means or logits.
    latent_dim : int
        Size of the latent.
    weight : float, default=30
        Weight of the encoder's adversarial loss, minus the log probability that the discriminator
        gives to its latents being the prior's, against the reconstruction in nats a row. With the
        optimal variance the reconstruction is worth about a nat a feature; with a fixed variance
        of one, on data of small scale, it is worth so little that a weight of one is enough.
    posterior : {"deterministic", "gaussian"}, default="deterministic"
        Whether a row has one latent, or a Gaussian around it (section 2).
    gradient_penalty : float, default=1
        Weight of the penalty on the slope of the discriminator at the prior's draws [2]_, without
        which the latents circle around the prior. The paper has none.
    discriminator_hidden : sequence of int, default=(256, 256)
        Widths of the hidden layers of the discriminator.
    likelihood : Likelihood, optional
        What the decoder's output says of the data; by default a Gaussian of variance one, without
        its constant.

    References
    ----------
    .. [1] Makhzani, Shlens, Jaitly, Goodfellow, Frey, "Adversarial Autoencoders", 2015,
       arXiv:1511.05644.
    .. [2] Mescheder, Geiger, Nowozin, "Which Training Methods for GANs do actually Converge?",
       ICML 2018, eq. 9.

    Examples
    --------
    >>> import torch
    >>> from torch import nn
    >>> from skvae.models import AdversarialAE, StepContext
    >>> encoder = nn.Sequential(nn.Linear(8, 16), nn.ReLU())
    >>> model = AdversarialAE(encoder, nn.Linear(2, 8), latent_dim=2)
    >>> loss = model.training_loss((torch.randn(5, 8),), StepContext())
    >>> sorted(loss.players), sorted(loss.diagnostics)
    (['adversary'], ['adversary', 'deception', 'log_likelihood'])
    """

    has_density = False

    def __init__(
        self,
        encoder: nn.Module,
        decoder: nn.Module,
        latent_dim: int,
        *,
        weight: float = 30.0,
        posterior: Literal["deterministic", "gaussian"] = "deterministic",
        gradient_penalty: float = 1.0,
        discriminator_hidden: Sequence[int] = (256, 256),
        likelihood: Likelihood | None = None,
    ) -> None:
        check_number("weight", weight)
        check_number("gradient_penalty", gradient_penalty)
        if posterior not in ("deterministic", "gaussian"):
            raise ValueError(f"posterior={posterior!r}, expected 'deterministic' or 'gaussian'.")
        super().__init__(encoder, decoder, latent_dim, likelihood=likelihood)
        if posterior == "deterministic":
            self.sampling_layer = PointPosterior(latent_dim)
        self.weight = weight
        self.gradient_penalty = gradient_penalty
        self.discriminator = MLPDiscriminator(discriminator_hidden, n_inputs=latent_dim)

    def player_parameters(self) -> dict[str, list[nn.Parameter]]:
        """Return the discriminator's parameters, as ``"adversary"``."""
        return {"adversary": list(self.discriminator.parameters())}

    def compute_loss(
        self,
        x: Tensor,
        output: Any,
        beta: float = 1.0,
        likelihood: str | LikelihoodType | None = None,
        *,
        context: StepContext | None = None,
    ) -> LossResult:
        """Reconstruction and deception; the discriminator's loss is the player's.

        Parameters
        ----------
        x, output, likelihood, context
            As for ``VAE.compute_loss``.
        beta : float, default=1
            Factor on the weight of the deception.

        Returns
        -------
        LossResult
            With ``log_likelihood``, ``deception`` (the encoder's adversarial loss, unweighted)
            and ``adversary`` (the discriminator's loss; log 2 where it is at a loss).
        """
        log_px = self.log_px(x, output, likelihood).mean()
        z = output.z.flatten(0, 1)
        drawn = torch.randn_like(z).requires_grad_(torch.is_grad_enabled())
        logits, _ = self.discriminator(torch.cat([z, drawn]))
        latent, prior = logits.chunk(2)
        adversary = discrimination_loss(prior, latent)
        penalty = self.gradient_penalty * gradient_penalty(prior, drawn)
        deception = F.softplus(-latent).mean()
        weight = self.weight * beta * (1.0 if context is None else context.beta)
        terms = {"log_likelihood": log_px, "deception": deception, "adversary": adversary}
        diagnostics = {name: term.detach() for name, term in terms.items()}
        objective = weight * deception - log_px
        return LossResult(objective, diagnostics, {"adversary": adversary + penalty})

    def log_weights(self, x: Tensor, S: int) -> Tensor:
        """Return log p(x | z) of the row's mean latent, (batch, 1): no density is modelled."""
        return self.log_px(x, self(x, sample=False))


class VAEGAN(VAE):
    """The autoencoder of Larsen et al. [1]_ whose errors are judged by a discriminator (Alg. 1).

    A discriminator tells rows from reconstructions and from decoded draws of the prior.
    Reconstructions are compared with their rows not number by number but in the discriminator's
    features, which notice what makes rows look real: sharp where a VAE is blurred. There are three
    players. The encoder minimises the divergence and the feature reconstruction, the decoder
    ``gamma`` times the feature reconstruction and minus the log probability that the
    discriminator takes its rows for real, the discriminator its cross entropy.

    Three things are sounder than in the paper. The features' Gaussian has not variance one, whose
    meaning changes whenever the features grow, but the optimal variance [2]_, and more features
    than a row has numbers count as so many. The slope of the discriminator at the rows is
    penalised [3]_. And a player much stronger than the other waits for it: the discriminator sits
    a step out where either of its losses is under ``equilibrium - margin``, the decoder learns
    from the features alone where either is over ``equilibrium + margin``.

    The likelihood's own scale is fitted beside the players, who do not maximise it: a bound on
    log p(x) would rank rows by what the model was not trained for, so ``has_density`` is False.

    Parameters
    ----------
    encoder : Module
        From rows (batch, ...) to features (batch, width). The posterior's mean and log variance
        are linear in the features.
    decoder : Module
        From latents (n, latent_dim) to rows (n, ...): means or logits.
    latent_dim : int
        Size of the latent.
    gamma : float, default=0.1
        Weight of the feature reconstruction, in nats a row, in the decoder's loss.
    equilibrium, margin : float, default=0.68 and 0.4
        Cross entropies of real and fake rows between which both players learn; about log 2 is a
        discriminator that guesses. A margin of infinity lets both learn always.
    gradient_penalty : float, default=1
        Weight of the penalty on the discriminator's slope.
    discriminator : Module, optional
        From rows (n, ...) to a pair of logits (n,) and features (n, width); by default an
        ``MLPDiscriminator``.
    likelihood : Likelihood, optional
        What the decoder's output says of the data; by default a Gaussian of variance one, without
        its constant. The discriminator sees its mean.

    References
    ----------
    .. [1] Larsen, Sønderby, Larochelle, Winther, "Autoencoding beyond pixels using a learned
       similarity metric", ICML 2016.
    .. [2] Rybkin, Daniilidis, Levine, "Simple and Effective VAE Training with Calibrated
       Decoders", ICML 2021, eq. 5.
    .. [3] Mescheder, Geiger, Nowozin, "Which Training Methods for GANs do actually Converge?",
       ICML 2018, eq. 9.

    Examples
    --------
    >>> import torch
    >>> from torch import nn
    >>> from skvae.models import VAEGAN, StepContext
    >>> encoder = nn.Sequential(nn.Linear(8, 16), nn.ReLU())
    >>> model = VAEGAN(encoder, nn.Linear(2, 8), latent_dim=2)
    >>> x = torch.randn(5, 8)
    >>> model.build(x)
    >>> sorted(model.training_loss((x,), StepContext()).players)
    ['adversary', 'encoder']
    """

    has_density = False

    def __init__(
        self,
        encoder: nn.Module,
        decoder: nn.Module,
        latent_dim: int,
        *,
        gamma: float = 0.1,
        equilibrium: float = 0.68,
        margin: float = 0.4,
        gradient_penalty: float = 1.0,
        discriminator: nn.Module | None = None,
        likelihood: Likelihood | None = None,
    ) -> None:
        check_number("gamma", gamma)
        check_number("equilibrium", equilibrium)
        check_number("gradient_penalty", gradient_penalty)
        super().__init__(encoder, decoder, latent_dim, likelihood=likelihood)
        self.gamma = gamma
        self.equilibrium = equilibrium
        self.margin = margin
        self.gradient_penalty = gradient_penalty
        self.discriminator = MLPDiscriminator() if discriminator is None else discriminator
        self.feature_likelihood = GaussianLikelihood("optimal")

    def player_parameters(self) -> dict[str, list[nn.Parameter]]:
        """Return the parameters of the encoder, and the discriminator's, as ``"adversary"``."""
        return {
            "encoder": [*self.encoder.parameters(), *self.sampling_layer.parameters()],
            "adversary": list(self.discriminator.parameters()),
        }

    def _forward_lazy(self, x: Tensor) -> None:
        super()._forward_lazy(x)
        self.discriminator(x)

    def compute_loss(
        self,
        x: Tensor,
        output: Any,
        beta: float = 1.0,
        likelihood: str | LikelihoodType | None = None,
        *,
        context: StepContext | None = None,
    ) -> LossResult:
        """Return the decoder's loss, and those of encoder and discriminator as players.

        Parameters
        ----------
        x, output, likelihood, context
            As for ``VAE.compute_loss``.
        beta : float, default=1
            Weight of the divergence.

        Returns
        -------
        LossResult
            With ``log_likelihood`` of the rows, ``feature_log_likelihood``, ``kl_divergence``,
            ``deception`` (the decoder's adversarial loss) and ``adversary``, the discriminator's
            loss, which is log 2 where it guesses.
        """
        # No player's business but the likelihood's own, if it has a scale to learn.
        fixed = replace(output, x_hat=output.x_hat.detach())
        log_px = self.log_px(x, fixed, likelihood).mean()
        kl = self.divergence(output).mean()
        rows = x.detach().requires_grad_(torch.is_grad_enabled())
        log_features, real, fake = self._judge(rows, output)
        penalty = self.gradient_penalty * gradient_penalty(real, rows)
        real_loss, fake_loss = F.softplus(-real).mean(), F.softplus(fake).mean()
        adversary = 0.5 * (real_loss + fake_loss)
        deception = F.softplus(-fake).mean()
        decoder_learns, adversary_learns = self._gates(real_loss, fake_loss)
        objective = -self.gamma * log_features
        if decoder_learns:
            objective = objective + deception
        if log_px.requires_grad:
            objective = objective - log_px
        weight = beta * (1.0 if context is None else context.beta)
        terms = {
            "log_likelihood": log_px,
            "feature_log_likelihood": log_features,
            "kl_divergence": kl,
            "deception": deception,
            "adversary": adversary,
        }
        players = {
            "encoder": weight * kl - log_features,
            "adversary": adversary + penalty if adversary_learns else None,
        }
        return LossResult(objective, {name: term.detach() for name, term in terms.items()}, players)

    def _judge(self, x: Tensor, output: Any) -> tuple[Tensor, Tensor, Tensor]:
        """Return the mean log likelihood of the features, logits of rows and logits of fakes."""
        shape = output.z.shape[:2]
        drawn = self._decode(torch.randn_like(output.z)).x_hat
        fakes = self.likelihood.mean(torch.cat([output.x_hat, drawn]).flatten(0, 1))
        logits, features = self.discriminator(torch.cat([x, fakes]))
        reconstructed = features[len(x) : len(x) + shape.numel()].unflatten(0, shape)
        target = features[: len(x)].detach()
        log_features = self.feature_likelihood.log_prob(target, reconstructed).mean()
        # More features than numbers in a row do not tell more of it.
        log_features = log_features * min(1.0, x[0].numel() / features.shape[1])
        return log_features, logits[: len(x)], logits[len(x) :]

    def _gates(self, real_loss: Tensor, fake_loss: Tensor) -> tuple[bool, bool]:
        """Return whether the decoder learns from the discriminator, and the discriminator."""
        if not self.training or math.isinf(self.margin):
            return True, True
        low, high = sorted(torch.stack([real_loss, fake_loss]).tolist())
        weak = high > self.equilibrium + self.margin
        strong = low < self.equilibrium - self.margin
        # Where one side is too good and the other too bad, neither has to wait.
        return (True, True) if weak and strong else (not weak, not strong)

    def log_weights(self, x: Tensor, S: int) -> Tensor:
        """Return log p(x | z) of the row's mean latent, (batch, 1): no density is modelled."""
        return self.log_px(x, self(x, sample=False))
