"""The variational autoencoder with latents in hyperbolic space."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor, nn
from torch.nn import functional as F

from skvae.models.core import ModelOutput
from skvae.models.hyperbolic import PoincareBall, RiemannianNormal, WrappedNormal
from skvae.models.likelihoods import Likelihood
from skvae.models.precision import at_least_float32, full_precision
from skvae.models.vae import VAE, VAEDecodeOutput, check_draws, check_features

Kind = Literal["wrapped_normal", "riemannian_normal"]
HyperbolicNormal = WrappedNormal | RiemannianNormal
DISTRIBUTIONS: dict[str, type[HyperbolicNormal]] = {
    "wrapped_normal": WrappedNormal,
    "riemannian_normal": RiemannianNormal,
}


@dataclass(slots=True, repr=False)
class PoincareEncodeOutput(ModelOutput):
    """What ``PoincareVAE.encode`` returns.

    Attributes
    ----------
    z : Tensor of shape (batch, S, latent_dim)
        Latents, points of the ball.
    mu : Tensor of shape (batch, latent_dim)
        Means of q(z | x), points of the ball.
    scale : Tensor of shape (batch, latent_dim) or (batch, 1)
        Its scales, in units of distance.
    posterior : WrappedNormal or RiemannianNormal
        Both together.
    """

    z: Tensor
    mu: Tensor
    scale: Tensor
    posterior: HyperbolicNormal


@dataclass(slots=True, repr=False)
class PoincareOutput(PoincareEncodeOutput):
    """What ``PoincareVAE.forward`` returns: beside the posterior the reconstruction.

    Attributes
    ----------
    x_hat : Tensor of shape (batch, S, ...)
        Parameters of the likelihood of x.
    """

    x_hat: Tensor


class HyperbolicHead(nn.Module):
    """Features to a normal distribution on the Poincare ball, and draws from it.

    Parameters
    ----------
    latent_dim : int
        Dimension of the ball.
    ball : PoincareBall
        Where it lives.
    kind : {"wrapped_normal", "riemannian_normal"}
        The distribution.
    """

    def __init__(self, latent_dim: int, ball: PoincareBall, kind: Kind) -> None:
        super().__init__()
        self.ball, self.kind = ball, kind
        self.mu = nn.LazyLinear(latent_dim)
        self.scale = nn.LazyLinear(latent_dim if kind == "wrapped_normal" else 1)

    def forward(self, features: Tensor, S: int = 1, sample: bool = True) -> PoincareEncodeOutput:
        """Return S latents a row and their distribution, for features (batch, width)."""
        check_draws(S, sample)
        check_features(features)
        with full_precision(features):
            features = at_least_float32(features)
            mu = self.ball.exp0(self.mu(features))
            scale = F.softplus(self.scale(features)) + 1e-4
        posterior = DISTRIBUTIONS[self.kind](mu, scale, self.ball)
        z = posterior.rsample((S,)).movedim(0, 1) if sample else mu.unsqueeze(1)
        return PoincareEncodeOutput(z, mu, scale, posterior)


class PoincareVAE(VAE):
    """A VAE with latents in the Poincare ball (Mathieu et al. [1]_), for data with a hierarchy.

    Volume in the ball grows with the distance as the nodes of a tree do. Densities are by the
    Riemannian measure. The decoder sees latents in the tangent space of the origin.

    Parameters
    ----------
    encoder, decoder, latent_dim, likelihood
        As in ``VAE``.
    prior, posterior : {"wrapped_normal", "riemannian_normal"}, default="wrapped_normal"
        Distributions of the latent (section 3.2, and appendix B).
    curvature : float, default=1.0
        The ball has the constant curvature ``-curvature``, and the radius ``curvature ** -0.5``.
    prior_scale : float, default=1.0
        Scale of the prior, in units of distance.

    References
    ----------
    .. [1] Mathieu, Le Lan, Maddison, Tomioka, Teh, "Continuous Hierarchical Representations with
       Poincare Variational Auto-Encoders", NeurIPS 2019.

    Examples
    --------
    >>> import torch
    >>> from torch import nn
    >>> from skvae.models import PoincareVAE
    >>> model = PoincareVAE(nn.Linear(8, 16), nn.Linear(2, 8), latent_dim=2)
    >>> bool((model.embed(torch.randn(5, 8)).norm(dim=1) < 1).all())
    True
    """

    default_sampler = "poincare_disk"

    def __init__(
        self,
        encoder: nn.Module,
        decoder: nn.Module,
        latent_dim: int,
        *,
        prior: Kind = "wrapped_normal",
        posterior: Kind = "wrapped_normal",
        curvature: float = 1.0,
        prior_scale: float = 1.0,
        likelihood: Likelihood | None = None,
    ) -> None:
        for name, kind in (("prior", prior), ("posterior", posterior)):
            if kind not in DISTRIBUTIONS:
                raise ValueError(f"{name}={kind!r}, expected one of {sorted(DISTRIBUTIONS)}.")
        self.prior, self.posterior = prior, posterior
        self.ball, self.prior_scale = PoincareBall(curvature), prior_scale
        super().__init__(encoder, decoder, latent_dim, likelihood=likelihood)

    @property
    def curvature(self) -> float:
        """Curvature of the ball, without its sign."""
        return self.ball.curvature

    def _make_sampling_layer(self) -> nn.Module:
        return HyperbolicHead(self.latent_dim, self.ball, self.posterior)

    def _encode(self, x: Tensor, S: int = 1, sample: bool = True) -> PoincareEncodeOutput:
        return self.sampling_layer(self.encoder(x), S=S, sample=sample)

    def forward(self, x: Tensor, S: int = 1, sample: bool = True) -> PoincareOutput:
        """Encode rows, draw S latents each, decode them."""
        encoded = self._encode(x, S=S, sample=sample)
        x_hat = self._decode(encoded.z).x_hat
        return PoincareOutput(encoded.z, encoded.mu, encoded.scale, encoded.posterior, x_hat)

    def _decode(self, z: Tensor) -> VAEDecodeOutput:
        """Decode latents of shape (batch, S, latent_dim), taken into the ball."""
        return super()._decode(self.ball.log0(self.ball.project(z)))

    def _check_posterior(self, x: Tensor, output: Any) -> None:
        pass  # an output of another shape has no distribution on the ball

    def prior_distribution(self, like: Tensor) -> HyperbolicNormal:
        """Return the prior, in the dtype and on the device of a tensor."""
        origin = like.new_zeros(self.latent_dim)
        scale = like.new_full((1,), self.prior_scale)
        return DISTRIBUTIONS[self.prior](origin, scale, self.ball)

    def log_prior(self, z: Tensor) -> Tensor:
        """Return log p(z) by the Riemannian measure, of shape (...)."""
        return self.prior_distribution(z).log_prob(z)

    def log_posterior(self, output: Any) -> Tensor:
        """Return log q(z | x) of the latents drawn, by the Riemannian measure, (batch, S)."""
        z = output.z.movedim(1, 0)
        return output.posterior.log_prob(z).movedim(0, 1)

    def divergence(self, output: Any) -> Tensor:
        """Return an estimate of KL(q(z | x) || p(z)) by the latents drawn, of shape (batch,)."""
        return (self.log_posterior(output) - self.log_prior(output.z)).mean(1)

    def interpolate_latents(self, z0: Tensor, z1: Tensor, t: float) -> Tensor:
        """Return the latents at time ``t`` on the geodesic from ``z0`` to ``z1``."""
        z0, z1 = self.ball.project(z0), self.ball.project(z1)
        return self.ball.exp(z0, t * self.ball.log(z0, z1))
