"""The variational autoencoder, and its model of conditional data."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from skvae.models.core import (
    LOG_2PI,
    BaseAutoencoder,
    LossResult,
    ModelOutput,
    StepContext,
    kl_divergence_diag_gaussian,
    log_density_gaussian,
)
from skvae.models.likelihoods import (
    GaussianLikelihood,
    Likelihood,
    LikelihoodType,
    log_likelihood,
    sum_over_features,
)


@dataclass(slots=True, repr=False)
class VAEEncodeOutput(ModelOutput):
    """What ``VAE.encode`` returns.

    Attributes
    ----------
    z : Tensor of shape (batch, S, latent_dim)
        Latents.
    mu, log_var : Tensor of shape (batch, latent_dim)
        Mean and log variance of q(z | x).
    """

    z: Tensor
    mu: Tensor
    log_var: Tensor


@dataclass(slots=True, repr=False)
class VAEDecodeOutput(ModelOutput):
    """What ``VAE.decode`` returns.

    Attributes
    ----------
    x_hat : Tensor of shape (batch, S, ...)
        Parameters of the likelihood of x.
    """

    x_hat: Tensor


@dataclass(slots=True, repr=False)
class VAEOutput(ModelOutput):
    """What ``VAE.forward`` returns.

    Attributes
    ----------
    x_hat : Tensor of shape (batch, S, ...)
        Parameters of the likelihood of x.
    z : Tensor of shape (batch, S, latent_dim)
        Latents.
    mu, log_var : Tensor of shape (batch, latent_dim)
        Mean and log variance of q(z | x).
    """

    x_hat: Tensor
    z: Tensor
    mu: Tensor
    log_var: Tensor


class FullyFactorizedGaussian(nn.Module):
    """Features to a Gaussian with diagonal covariance, and draws from it.

    Parameters
    ----------
    latent_dim : int
        Size of the Gaussian. The size of the features is found at the first call.
    """

    def __init__(self, latent_dim: int) -> None:
        super().__init__()
        self.latent_dim = latent_dim
        self.mu = nn.LazyLinear(latent_dim)
        self.log_var = nn.LazyLinear(latent_dim)

    def get_params(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and log variance, each (batch, latent_dim), for features (batch, width)."""
        check_features(x)
        return self.mu(x), self.log_var(x)

    def forward(self, x: Tensor, S: int = 1, sample: bool = True) -> tuple[Tensor, Tensor, Tensor]:
        """Return S latents a row, their mean and log variance.

        Parameters
        ----------
        x : Tensor of shape (batch, width)
            Features.
        S : int, default=1
            Latents a row.
        sample : bool, default=True
            Whether to draw, or to take the mean (then S must be 1).

        Returns
        -------
        z : Tensor of shape (batch, S, latent_dim)
        mu, log_var : Tensor of shape (batch, latent_dim)
        """
        check_draws(S, sample)
        mu, log_var = self.get_params(x)
        z = self.reparametrize(mu, log_var, S) if sample else mu.unsqueeze(1)
        return z, mu, log_var

    def reparametrize(self, mu: Tensor, log_var: Tensor, S: int = 1) -> Tensor:
        """Draw S latents a row, (batch, S, latent_dim) (Kingma and Welling 2014, eq. 10)."""
        check_draws(S, True)
        if mu.ndim != 2 or mu.shape != log_var.shape:
            raise ValueError(
                f"mu has shape {tuple(mu.shape)} and log_var {tuple(log_var.shape)}, expected "
                "(batch, latent_dim) for both."
            )
        noise = torch.randn(len(mu), S, mu.shape[1], dtype=mu.dtype, device=mu.device)
        return torch.addcmul(mu.unsqueeze(1), torch.exp(0.5 * log_var).unsqueeze(1), noise)


class VAE(BaseAutoencoder):
    """The variational autoencoder of Kingma and Welling [1]_, around your networks.

    Every latent and reconstruction has a dimension S of latents a row, also when S is 1.

    Parameters
    ----------
    encoder : Module
        From rows (batch, ...) to features (batch, width). The posterior's mean and log variance
        are linear in the features.
    decoder : Module
        From latents (n, latent_dim) to rows (n, ...): means or logits.
    latent_dim : int
        Size of the latent.
    likelihood : Likelihood, optional
        What the decoder's output says of the data; by default a Gaussian of variance one, without
        its constant.

    References
    ----------
    .. [1] Kingma, Welling, "Auto-Encoding Variational Bayes", ICLR 2014.

    Examples
    --------
    >>> import torch
    >>> from torch import nn
    >>> from skvae.models import VAE
    >>> encoder = nn.Sequential(nn.Linear(8, 16), nn.ReLU())
    >>> model = VAE(encoder, nn.Linear(2, 8), latent_dim=2)
    >>> x = torch.randn(5, 8)
    >>> output = model(x, S=3)
    >>> output
    VAEOutput(x_hat=Tensor(shape=(5, 3, 8), dtype=torch.float32), z=Tensor(shape=(5, 3, 2), ...
    >>> sorted(model.compute_loss(x, output).diagnostics)
    ['elbo', 'kl_divergence', 'log_likelihood']
    """

    has_density = True
    default_sampler = "normal"
    # Latents drawn a row in training.
    n_draws = 1

    def __init__(
        self,
        encoder: nn.Module,
        decoder: nn.Module,
        latent_dim: int,
        *,
        likelihood: Likelihood | None = None,
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.decoder = decoder
        self.latent_dim = latent_dim
        self.sampling_layer = self._make_sampling_layer()
        if likelihood is None:
            likelihood = GaussianLikelihood(variance=1.0, normalize=False)
        self.likelihood = likelihood

    def _make_sampling_layer(self) -> nn.Module:
        """Return the module from features to the posterior's parameters and latents."""
        return FullyFactorizedGaussian(self.latent_dim)

    def _encode(self, x: Tensor, S: int = 1, sample: bool = True) -> Any:
        """Return S latents a row with the posterior's parameters."""
        return VAEEncodeOutput(*self.sampling_layer(self.encoder(x), S=S, sample=sample))

    @torch.no_grad()
    def encode(self, x: Tensor, S: int = 1, sample: bool = False) -> Any:
        """Encode without gradients; ``z`` is the posterior's mean unless ``sample``."""
        return self._encode(x, S=S, sample=sample)

    def _decode(self, z: Tensor) -> VAEDecodeOutput:
        """Decode latents of shape (batch, S, latent_dim)."""
        if z.ndim != 3 or z.shape[2] != self.latent_dim:
            raise ValueError(
                f"z has shape {tuple(z.shape)}, expected (batch, S, {self.latent_dim}), also for "
                "S = 1. One latent a row: z.unsqueeze(1)."
            )
        x_hat = self.decoder(z.flatten(0, 1))
        return VAEDecodeOutput(x_hat.view(*z.shape[:2], *x_hat.shape[1:]))

    def forward(self, x: Tensor, S: int = 1, sample: bool = True) -> Any:
        """Encode rows, draw S latents each, decode them."""
        encoded = self._encode(x, S=S, sample=sample)
        x_hat = self._decode(encoded.z).x_hat
        return VAEOutput(x_hat, encoded.z, encoded.mu, encoded.log_var)

    def compute_loss(
        self,
        x: Tensor,
        output: Any,
        beta: float = 1.0,
        likelihood: str | LikelihoodType | None = None,
        *,
        context: StepContext | None = None,
    ) -> LossResult:
        """Negative evidence lower bound (Kingma and Welling 2014, eq. 7).

        Parameters
        ----------
        x : Tensor of shape (batch, ...)
            The rows.
        output : VAEOutput
            What ``forward`` returned for them.
        beta : float, default=1
            Weight of the divergence.
        likelihood : {"gaussian", "bernoulli"} or LikelihoodType, optional
            Instead of the model's own; see ``log_likelihood``.
        context : StepContext, optional
            Where in a training run this is.

        Returns
        -------
        LossResult
            With ``elbo`` (with the weighted divergence), ``log_likelihood`` and
            ``kl_divergence``, in nats a row.
        """
        log_px = self.log_px(x, output, likelihood).mean()
        kl = self.divergence(output).mean()
        weight = beta if context is None else beta * context.beta
        floor = 0.0 if context is None else context.free_nats
        divergence = kl.clamp(min=floor) if floor else kl
        # A product with one would be a pass more, forward and back.
        objective = (divergence if weight == 1 else weight * divergence) - log_px
        return LossResult(objective, bound_terms(log_px, kl, beta))

    def log_px(
        self, x: Tensor, output: Any, likelihood: str | LikelihoodType | None = None
    ) -> Tensor:
        """Return log p(x | z) of each latent, of shape (batch, S), after checking the shapes."""
        x_hat = output.x_hat
        if x_hat.ndim != x.ndim + 1 or x_hat.shape[:1] + x_hat.shape[2:] != x.shape:
            expected = ", ".join(map(str, (len(x), "S", *x.shape[1:])))
            hint = " Without its S dimension: x_hat.unsqueeze(1)." if x_hat.ndim == x.ndim else ""
            raise ValueError(
                f"x_hat has shape {tuple(x_hat.shape)}, expected ({expected}): for one latent the "
                f"decoder must give the shape of one row.{hint}"
            )
        if x_hat.shape[1] < 1:
            raise ValueError(f"x_hat has shape {tuple(x_hat.shape)}: S must be at least 1.")
        self._check_posterior(x, output)
        if likelihood is None:
            return self.likelihood.log_prob(x, x_hat)
        elements = log_likelihood(x.unsqueeze(1).expand_as(x_hat), x_hat, likelihood)
        return sum_over_features(elements)

    def _check_posterior(self, x: Tensor, output: Any) -> None:
        expected = (len(x), self.latent_dim)
        if output.mu.shape != expected or output.log_var.shape != expected:
            raise ValueError(
                f"mu has shape {tuple(output.mu.shape)} and log_var "
                f"{tuple(output.log_var.shape)}, expected {expected} for both."
            )

    def log_prior(self, z: Tensor) -> Tensor:
        """Return log p(z), of shape (...), for latents (..., latent_dim)."""
        return -0.5 * (z.square().sum(-1) + z.shape[-1] * LOG_2PI)

    def log_posterior(self, output: Any) -> Tensor:
        """Return log q(z | x) of the latents drawn, of shape (batch, S)."""
        mu, log_var = output.mu.unsqueeze(1), output.log_var.unsqueeze(1)
        return log_density_gaussian(output.z, mu, log_var).sum(-1)

    def divergence(self, output: Any) -> Tensor:
        """Return KL(q(z | x) || p(z)) of each row, of shape (batch,)."""
        return kl_divergence_diag_gaussian(output.mu, output.log_var)

    def training_loss(self, batch: tuple[Tensor, ...], context: StepContext) -> LossResult:
        """Return the loss of a batch as the training loop asks for it."""
        x = batch[0]
        return self.compute_loss(x, self(x, S=self.n_draws), context=context)

    def embed(self, x: Tensor) -> Tensor:
        """Return the posterior's mean, of shape (batch, latent_dim)."""
        return self._encode(x, sample=False).mu

    def draw_latents(self, x: Tensor) -> Tensor:
        """Draw one latent a row from the posterior, of shape (batch, latent_dim)."""
        return self._encode(x).z[:, 0]

    def decode_mean(self, z: Tensor) -> Tensor:
        """Return the expected row, of shape (batch, ...), for latents of (batch, latent_dim)."""
        return self.likelihood.mean(self._decode(z.unsqueeze(1)).x_hat[:, 0])

    def decode_draw(self, z: Tensor) -> Tensor:
        """Draw a row from p(x | z), of shape (batch, ...), for latents of (batch, latent_dim)."""
        return self.likelihood.sample(self._decode(z.unsqueeze(1)).x_hat[:, 0])

    def log_weights(self, x: Tensor, S: int) -> Tensor:
        """Return log p(x, z_s) - log q(z_s | x) of S latents a row, of shape (batch, S)."""
        output = self(x, S=S)
        return self.log_px(x, output) + self.log_prior(output.z) - self.log_posterior(output)


def check_features(features: Tensor) -> None:
    """Raise ValueError unless an encoder's features have shape (batch, width)."""
    if features.ndim != 2:
        raise ValueError(
            f"The encoder gave features of shape {tuple(features.shape)}, expected "
            "(batch, width). End it with nn.Flatten()."
        )


def log_mean_exp(values: Tensor, dim: int) -> Tensor:
    """Return the log of the mean exponential over a dimension."""
    return values.logsumexp(dim) - math.log(values.shape[dim])


def bound_terms(log_px: Tensor, kl: Tensor, beta: float = 1.0) -> dict[str, Tensor]:
    """Diagnostics of a bound."""
    log_px, kl = log_px.detach(), kl.detach()
    elbo = torch.sub(log_px, kl, alpha=beta)
    return {"elbo": elbo, "log_likelihood": log_px, "kl_divergence": kl}


def check_draws(S: int, sample: bool) -> None:
    """Raise ValueError unless S latents a row can be had, drawn or not."""
    if S < 1:
        raise ValueError(f"S={S} latents a row were asked for, expected at least 1.")
    if S != 1 and not sample:
        raise ValueError(
            f"S={S} latents a row were asked for with sample=False, which takes the mean: S must "
            "be 1, or sample=True."
        )
