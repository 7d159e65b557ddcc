"""The hyperspherical variational autoencoder."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from skvae.models.core import ModelOutput
from skvae.models.likelihoods import Likelihood
from skvae.models.precision import at_least_float32, full_precision
from skvae.models.vae import VAE, VAEDecodeOutput, check_draws, check_features
from skvae.models.von_mises_fisher import VonMisesFisher, log_sphere_area


@dataclass(slots=True, repr=False)
class SphericalEncodeOutput(ModelOutput):
    """What ``SphericalVAE.encode`` returns.

    Attributes
    ----------
    z : Tensor of shape (batch, S, latent_dim)
        Latents, of length one.
    mu : Tensor of shape (batch, latent_dim)
        Mean directions of q(z | x).
    kappa : Tensor of shape (batch,)
        Its concentrations.
    posterior : VonMisesFisher
        Both together.
    """

    z: Tensor
    mu: Tensor
    kappa: Tensor
    posterior: VonMisesFisher


@dataclass(slots=True, repr=False)
class SphericalOutput(SphericalEncodeOutput):
    """What ``SphericalVAE.forward`` returns: beside the posterior the reconstruction.

    Attributes
    ----------
    x_hat : Tensor of shape (batch, S, ...)
        Parameters of the likelihood of x.
    """

    x_hat: Tensor


class VonMisesFisherHead(nn.Module):
    """Features to a von Mises-Fisher distribution, and draws from it.

    Parameters
    ----------
    latent_dim : int
        Dimension of the space that the sphere lies in.
    """

    def __init__(self, latent_dim: int) -> None:
        super().__init__()
        self.mu = nn.LazyLinear(latent_dim)
        self.kappa = nn.LazyLinear(1)

    def forward(self, features: Tensor, S: int = 1, sample: bool = True) -> SphericalEncodeOutput:
        """Return S latents a row and their distribution, for features (batch, width)."""
        check_draws(S, sample)
        check_features(features)
        with full_precision(features):
            features = at_least_float32(features)
            mu = F.normalize(self.mu(features), dim=1)
            # Above one, as below it there is next to nothing that a draw tells of the mean.
            kappa = F.softplus(self.kappa(features)).squeeze(1) + 1
        posterior = VonMisesFisher(mu, kappa)
        z = posterior.rsample((S,)).movedim(0, 1) if sample else mu.unsqueeze(1)
        return SphericalEncodeOutput(z, mu, kappa, posterior)


class SphericalVAE(VAE):
    """A VAE with latents on the unit sphere (Davidson et al. [1]_).

    The posterior is von Mises-Fisher and the prior uniform (section 3): no latent is nearer to the
    centre than another, and only directions tell rows apart. The divergence has a closed form
    (section 3.2).

    Parameters
    ----------
    encoder, decoder, likelihood
        As in ``VAE``.
    latent_dim : int
        Dimension of the space that the sphere lies in, 2 or more.

    References
    ----------
    .. [1] Davidson, Falorsi, De Cao, Kipf, Tomczak, "Hyperspherical Variational Auto-Encoders",
       UAI 2018.

    Examples
    --------
    >>> import torch
    >>> from torch import nn
    >>> from skvae.models import SphericalVAE
    >>> model = SphericalVAE(nn.Linear(8, 16), nn.Linear(3, 8), latent_dim=3)
    >>> model.embed(torch.randn(5, 8)).norm(dim=1).round(decimals=4)
    tensor([1., 1., 1., 1., 1.], grad_fn=<RoundBackward1>)
    """

    default_sampler = "hypersphere"

    def __init__(
        self,
        encoder: nn.Module,
        decoder: nn.Module,
        latent_dim: int,
        *,
        likelihood: Likelihood | None = None,
    ) -> None:
        if latent_dim < 2:
            raise ValueError(
                f"latent_dim={latent_dim}: a sphere needs at least 2 dimensions around it (give "
                "n_components=2 or more)."
            )
        super().__init__(encoder, decoder, latent_dim, likelihood=likelihood)

    def _make_sampling_layer(self) -> nn.Module:
        return VonMisesFisherHead(self.latent_dim)

    def _encode(self, x: Tensor, S: int = 1, sample: bool = True) -> SphericalEncodeOutput:
        return self.sampling_layer(self.encoder(x), S=S, sample=sample)

    def forward(self, x: Tensor, S: int = 1, sample: bool = True) -> SphericalOutput:
        """Encode rows, draw S latents each, decode them."""
        encoded = self._encode(x, S=S, sample=sample)
        x_hat = self._decode(encoded.z).x_hat
        return SphericalOutput(encoded.z, encoded.mu, encoded.kappa, encoded.posterior, x_hat)

    def _decode(self, z: Tensor) -> VAEDecodeOutput:
        """Decode latents of shape (batch, S, latent_dim), taken to the sphere."""
        return super()._decode(F.normalize(z, dim=-1))

    def _check_posterior(self, x: Tensor, output: Any) -> None:
        pass  # an output of another shape has no von Mises-Fisher distribution

    def log_prior(self, z: Tensor) -> Tensor:
        """Return the log density of the uniform distribution by area, of shape (...)."""
        return z.new_full(z.shape[:-1], -log_sphere_area(self.latent_dim))

    def log_posterior(self, output: Any) -> Tensor:
        """Return log q(z | x) of the latents drawn, by area, of shape (batch, S)."""
        z = output.z.movedim(1, 0)
        return output.posterior.log_prob(z).movedim(0, 1)

    def divergence(self, output: Any) -> Tensor:
        """Return KL(q(z | x) || uniform) of each row, of shape (batch,)."""
        return output.posterior.kl_to_uniform()

    def interpolate_latents(self, z0: Tensor, z1: Tensor, t: float) -> Tensor:
        """Return the latents at time ``t`` on the great circle from ``z0`` to ``z1``."""
        z0, z1 = F.normalize(z0, dim=-1), F.normalize(z1, dim=-1)
        # By half chords, which stay exact where the cosine of a small angle is one.
        angle = 2 * torch.atan2((z1 - z0).norm(dim=-1), (z1 + z0).norm(dim=-1)).unsqueeze(-1)
        way = torch.sin((1 - t) * angle) * z0 + torch.sin(t * angle) * z1
        return F.normalize(torch.where(angle > 1e-6, way, torch.lerp(z0, z1, t)), dim=-1)
