"""Variational autoencoders that weigh the total correlation of their latents."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from skvae.models.checks import check_number
from skvae.models.core import LossResult, StepContext, log_density_gaussian
from skvae.models.discriminator import MLPDiscriminator, discrimination_loss
from skvae.models.disentangled import PenalizedVAE
from skvae.models.likelihoods import Likelihood, LikelihoodType

# Elements of a table of pairs of rows at a time, so that large batches fit in memory.
MAX_PAIR_ELEMENTS = 2**22


class BetaTCVAE(PenalizedVAE):
    """The VAE of Chen et al. [1]_, which weighs the parts of the divergence apart (eq. 4).

    Over all rows together, the divergence is the information of the latents about the row, plus
    their total correlation (how far they are from independent), plus the divergence of each from
    its prior. The last two need the density of the latents of all rows together, which is
    estimated from the batch.

    The penalty is written as ``KL + (alpha - 1) MI + (beta - 1) TC + (gamma - 1) DW``, the
    divergence in closed form: the same in expectation as the paper's sum, with less noise.

    Parameters
    ----------
    encoder, decoder, latent_dim, likelihood
        As for ``VAE``.
    alpha, beta, gamma : float, default=1, 6 and 1
        Weights of information, total correlation and dimension-wise divergence. All one is a VAE.
    stratified : bool, default=True
        Whether the density of the latents is estimated by stratified sampling (appendix C.2), in
        which a row's own posterior weighs as one of all rows and the rest of the batch stands
        for the others; or by minibatch weighted sampling (appendix C.1), which is biased.

    References
    ----------
    .. [1] Chen, Li, Grosse, Duvenaud, "Isolating Sources of Disentanglement in Variational
       Autoencoders", NeurIPS 2018.

    Examples
    --------
    >>> import torch
    >>> from torch import nn
    >>> from skvae.models import BetaTCVAE
    >>> encoder = nn.Sequential(nn.Linear(8, 16), nn.ReLU())
    >>> model = BetaTCVAE(encoder, nn.Linear(2, 8), latent_dim=2)
    >>> x = torch.randn(5, 8)
    >>> sorted(model.compute_loss(x, model(x)).diagnostics)[:3]
    ['dimension_wise_kl', 'elbo', 'kl_divergence']
    """

    def __init__(
        self,
        encoder: nn.Module,
        decoder: nn.Module,
        latent_dim: int,
        *,
        alpha: float = 1.0,
        beta: float = 6.0,
        gamma: float = 1.0,
        stratified: bool = True,
        likelihood: Likelihood | None = None,
    ) -> None:
        for name, value in (("alpha", alpha), ("beta", beta), ("gamma", gamma)):
            check_number(name, value)
        super().__init__(encoder, decoder, latent_dim, likelihood=likelihood)
        self.alpha = alpha
        self.beta = beta
        self.gamma = gamma
        self.stratified = stratified

    def penalty(
        self, output: Any, kl: Tensor, context: StepContext | None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the divergence with its three parts weighed."""
        n_rows = len(output.mu) if context is None else context.n_rows
        joint, marginals = aggregate_log_density(
            output.z, output.mu, output.log_var, n_rows, stratified=self.stratified
        )
        information = (self.log_posterior(output) - joint).mean()
        correlation = (joint - marginals).mean()
        dimension_wise = (marginals - self.log_prior(output.z)).mean()
        penalty = (
            kl
            + (self.alpha - 1) * information
            + (self.beta - 1) * correlation
            + (self.gamma - 1) * dimension_wise
        )
        return penalty, {
            "mutual_information": information,
            "total_correlation": correlation,
            "dimension_wise_kl": dimension_wise,
        }


def aggregate_log_density(
    z: Tensor, mu: Tensor, log_var: Tensor, n_rows: int, *, stratified: bool = True
) -> tuple[Tensor, Tensor]:
    """Log density of latents over all rows, jointly and as if their elements were independent.

    Parameters
    ----------
    z : Tensor of shape (batch, S, latent_dim)
        Latents, drawn from the Gaussians of their rows.
    mu, log_var : Tensor of shape (batch, latent_dim)
        Means and log variances of those Gaussians.
    n_rows : int
        Rows of which the batch is a part.
    stratified : bool, default=True
        Whether a row's own Gaussian weighs ``1 / n_rows`` and the others share the rest evenly,
        as in Chen et al. (2018, appendix C.2) but for their one row with an odd weight: exact if
        the batch is all rows. Otherwise each weighs ``1 / (batch n_rows)`` (appendix C.1).

    Returns
    -------
    joint, marginals : Tensor of shape (batch, S)
        Log q(z), and the sum of the log q(z_j) over the elements.
    """
    batch, n_latents = mu.shape
    # A single row can only stand for itself.
    n = max(n_rows, batch) if batch > 1 else 1
    own = other = -math.log(n * batch)
    if stratified:
        own = -math.log(n)
        other = math.log((n - 1) / (n * max(batch - 1, 1))) if n > 1 else -math.inf
    joint, marginals = [], []
    size = max(1, MAX_PAIR_ELEMENTS // (batch * n_latents * z.shape[1]))
    for rows in torch.arange(batch, device=z.device).split(size):
        log_weights = z.new_full((len(rows), 1, batch, 1), other)
        log_weights[torch.arange(len(rows), device=z.device), 0, rows] = own
        # (rows, S, batch, latent_dim)
        pairs = log_density_gaussian(z[rows].unsqueeze(2), mu, log_var)
        joint.append((pairs.sum(-1) + log_weights.squeeze(-1)).logsumexp(-1))
        marginals.append((pairs + log_weights).logsumexp(2).sum(-1))
    return torch.cat(joint), torch.cat(marginals)


class FactorVAE(PenalizedVAE):
    """The VAE of Kim and Mnih [1]_, which penalises the total correlation alone (Algorithm 2).

    A discriminator tells latents from latents whose elements were shuffled among rows. What its
    logit says of the latents is their total correlation, in nats.

    Parameters
    ----------
    encoder, decoder, latent_dim, likelihood
        As for ``VAE``.
    gamma : float, default=10
        Weight of the total correlation. The paper takes 10 to 40, by data set.
    discriminator_hidden : sequence of int, default=(256, 256)
        Widths of the discriminator's hidden layers; the paper's has five of 1000.

    References
    ----------
    .. [1] Kim, Mnih, "Disentangling by Factorising", ICML 2018.

    Examples
    --------
    >>> import torch
    >>> from torch import nn
    >>> from skvae.models import FactorVAE, StepContext
    >>> encoder = nn.Sequential(nn.Linear(8, 16), nn.ReLU())
    >>> model = FactorVAE(encoder, nn.Linear(2, 8), latent_dim=2)
    >>> loss = model.training_loss((torch.randn(6, 8),), StepContext())
    >>> list(loss.players)
    ['adversary']
    """

    def __init__(
        self,
        encoder: nn.Module,
        decoder: nn.Module,
        latent_dim: int,
        *,
        gamma: float = 10.0,
        discriminator_hidden: Sequence[int] = (256, 256),
        likelihood: Likelihood | None = None,
    ) -> None:
        check_number("gamma", gamma)
        super().__init__(encoder, decoder, latent_dim, likelihood=likelihood)
        self.gamma = gamma
        self.discriminator = MLPDiscriminator(discriminator_hidden, n_inputs=latent_dim)

    def player_parameters(self) -> dict[str, list[nn.Parameter]]:
        """Return the discriminator's parameters, as ``"adversary"``."""
        return {"adversary": list(self.discriminator.parameters())}

    def penalty(
        self, output: Any, kl: Tensor, context: StepContext | None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the divergence and ``gamma`` times the total correlation."""
        correlation = self.discriminator(output.z.flatten(0, 1))[0].mean()
        return kl + self.gamma * correlation, {"total_correlation": correlation}

    def compute_loss(
        self,
        x: Tensor,
        output: Any,
        beta: float = 1.0,
        likelihood: str | LikelihoodType | None = None,
        *,
        context: StepContext | None = None,
    ) -> LossResult:
        """Return the loss of encoder and decoder, and the discriminator's as a player's.

        The paper shuffles the latents of another batch, so that none is compared with itself;
        here it is the other half of the batch. The discriminator sits out batches under three
        rows, where there is nothing to shuffle.

        Parameters
        ----------
        x, output, beta, likelihood, context
            As for ``PenalizedVAE.compute_loss``.

        Returns
        -------
        LossResult
            With ``total_correlation`` and, where there is one, the discriminator's loss
            ``adversary`` (log 2 where it guesses) beside the terms of a bound.
        """
        result = super().compute_loss(x, output, beta, likelihood, context=context)
        z = output.z.detach()
        half = len(z) // 2
        adversary = None
        if half and len(z) > 2:
            together = z[:half].flatten(0, 1)
            shuffled = permute_elements(z[half:].flatten(0, 1))
            logits, _ = self.discriminator(torch.cat([together, shuffled]))
            real, fake = logits.split([len(together), len(shuffled)])
            adversary = discrimination_loss(real, fake)
            result.diagnostics["adversary"] = adversary.detach()
        result.players["adversary"] = adversary
        return result


def permute_elements(z: Tensor) -> Tensor:
    """Shuffle each column of (n, latent_dim) by itself (Kim and Mnih 2018, Algorithm 1)."""
    return z.gather(0, torch.rand_like(z).argsort(0))
