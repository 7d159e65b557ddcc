"""A VAE that learns from pairs of rows which factors of variation they share."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from skvae.models.core import LossResult, ModelOutput, StepContext, kl_divergence_diag_gaussian
from skvae.models.likelihoods import Likelihood, LikelihoodType
from skvae.models.vae import VAE, VAEEncodeOutput, VAEOutput


@dataclass(slots=True, repr=False)
class AdaGVAEOutput(ModelOutput):
    """What ``AdaGVAE.forward`` returns.

    Attributes
    ----------
    output1, output2 : VAEOutput
        Those of the first and the second rows of the pairs.
    """

    output1: VAEOutput
    output2: VAEOutput


class AdaGVAE(nn.Module):
    """A VAE trained on pairs of rows that share most factors of variation [1]_ (section 4).

    In training mode, latents whose posteriors are near each other in a pair, nearer than halfway
    between the nearest and the farthest, are taken for shared: both rows then get the Gaussian of
    the two means' and the two variances' average. In eval mode it is the VAE on each row.

    Parameters
    ----------
    vae : VAE
        With a Gaussian posterior. For single rows, use it directly, or ``embed``.

    References
    ----------
    .. [1] Locatello, Poole, Rätsch, Schölkopf, Bachem, Tschannen, "Weakly-Supervised
       Disentanglement Without Compromises", ICML 2020.

    Examples
    --------
    >>> import torch
    >>> from torch import nn
    >>> from skvae.models import VAE, AdaGVAE
    >>> encoder = nn.Sequential(nn.Linear(8, 16), nn.ReLU())
    >>> model = AdaGVAE(VAE(encoder, nn.Linear(2, 8), latent_dim=2))
    >>> pair = torch.randn(5, 8), torch.randn(5, 8)
    >>> output = model(pair)
    >>> output.output1.x_hat.shape
    torch.Size([5, 1, 8])
    >>> sorted(model.compute_loss(pair, output).diagnostics)[:2]
    ['elbo', 'kl_divergence_x1']
    """

    def __init__(self, vae: VAE) -> None:
        super().__init__()
        self.vae = vae

    @property
    def has_density(self) -> bool:
        """Whether the VAE has a density."""
        return self.vae.has_density

    @property
    def default_sampler(self) -> str:
        """The sampler that is right for the VAE."""
        return self.vae.default_sampler

    @property
    def latent_dim(self) -> int:
        """Size of the latent."""
        return self.vae.latent_dim

    @property
    def likelihood(self) -> Likelihood:
        """What the decoder's output says of the data."""
        return self.vae.likelihood

    def build(self, input_sample: Tensor) -> None:
        """Materialise lazy layers, given single rows (batch, ...); see ``VAE.build``."""
        self.vae.build(input_sample)

    def _encode_pair(
        self, x1: Tensor, x2: Tensor, S: int = 1
    ) -> tuple[VAEEncodeOutput, VAEEncodeOutput]:
        """Encode pairs, with the Gaussians of the latents taken for shared, in any mode."""
        layer: Any = self.vae.sampling_layer
        (mu1, log_var1), (mu2, log_var2) = (layer.get_params(self.vae.encoder(x)) for x in (x1, x2))
        distance = kl_divergence_diag_gaussian(mu1, log_var1, mu2, log_var2, reduce_sum=False)
        least, greatest = distance.aminmax(dim=1, keepdim=True)
        shared = distance < 0.5 * (least + greatest)
        mu = 0.5 * (mu1 + mu2)
        # log((v1 + v2) / 2), where no variance can overflow on the way.
        log_var = torch.logaddexp(log_var1, log_var2) - math.log(2)
        encoded = []
        for own_mu, own_log_var in ((mu1, log_var1), (mu2, log_var2)):
            parameters = torch.where(shared, mu, own_mu), torch.where(shared, log_var, own_log_var)
            encoded.append(VAEEncodeOutput(layer.reparametrize(*parameters, S=S), *parameters))
        return encoded[0], encoded[1]

    def forward(self, x: tuple[Tensor, Tensor], S: int = 1) -> AdaGVAEOutput:
        """Encode pairs of rows, draw S latents for each row, decode them.

        Parameters
        ----------
        x : (Tensor, Tensor), each of shape (batch, ...)
            The first rows of the pairs and the second.
        S : int, default=1
            Latents a row.
        """
        x1, x2 = x
        if not self.training:
            return AdaGVAEOutput(self.vae(x1, S=S), self.vae(x2, S=S))
        first, second = (
            VAEOutput(self.vae._decode(e.z).x_hat, e.z, e.mu, e.log_var)
            for e in self._encode_pair(x1, x2, S=S)
        )
        return AdaGVAEOutput(first, second)

    def compute_loss(
        self,
        x: tuple[Tensor, Tensor],
        output: AdaGVAEOutput,
        beta: float = 1.0,
        likelihood: str | LikelihoodType | None = None,
        *,
        context: StepContext | None = None,
    ) -> LossResult:
        """Sum of the VAE's losses of the two rows (Locatello et al. 2020, eq. 6).

        Parameters
        ----------
        x : (Tensor, Tensor), each of shape (batch, ...)
            The pairs.
        output : AdaGVAEOutput
            What ``forward`` returned for them.
        beta, likelihood, context
            As for ``VAE.compute_loss``.

        Returns
        -------
        LossResult
            With ``elbo``, the sum of both, and ``log_likelihood_x1``, ``log_likelihood_x2``,
            ``kl_divergence_x1`` and ``kl_divergence_x2``, in nats a pair.
        """
        first, second = (
            self.vae.compute_loss(rows, out, beta, likelihood, context=context)
            for rows, out in zip(x, (output.output1, output.output2), strict=True)
        )
        diagnostics = {"elbo": first.diagnostics["elbo"] + second.diagnostics["elbo"]}
        for name in ("log_likelihood", "kl_divergence"):
            diagnostics[f"{name}_x1"] = first.diagnostics[name]
            diagnostics[f"{name}_x2"] = second.diagnostics[name]
        return LossResult(first.objective + second.objective, diagnostics)

    def training_loss(self, batch: tuple[Tensor, ...], context: StepContext) -> LossResult:
        """Return the loss of a batch as the training loop asks for it, in nats a row, not a pair.

        Parameters
        ----------
        batch : tuple of Tensor
            The pairs, ``(x1, x2)``; or rows and their labels, ``(x, y)``, where each row is paired
            with another of its label, as far as the batch has one; or rows alone, ``(x,)``, each
            paired with the next.
        context : StepContext
            Where in the training run this is.
        """
        x1, *rest = batch
        if rest and rest[0].shape == x1.shape:
            x2 = rest[0]
        elif rest:
            x2 = x1[same_label_partners(rest[0])]
        else:
            x2 = x1.roll(-1, 0)
        pair = x1, x2
        loss = self.compute_loss(pair, self(pair), context=context)
        terms = loss.diagnostics
        return LossResult(
            0.5 * loss.objective,
            {
                "elbo": 0.5 * terms["elbo"],
                "log_likelihood": 0.5 * (terms["log_likelihood_x1"] + terms["log_likelihood_x2"]),
                "kl_divergence": 0.5 * (terms["kl_divergence_x1"] + terms["kl_divergence_x2"]),
            },
        )

    def player_parameters(self) -> dict[str, list[nn.Parameter]]:
        """Return no player: all parameters minimise the objective."""
        return {}

    def embed(self, x: Tensor) -> Tensor:
        """Return the posterior's mean, of shape (batch, latent_dim)."""
        return self.vae.embed(x)

    def draw_latents(self, x: Tensor) -> Tensor:
        """Draw one latent a row from the posterior, of shape (batch, latent_dim)."""
        return self.vae.draw_latents(x)

    def decode_mean(self, z: Tensor) -> Tensor:
        """Return the expected row for latents of (batch, latent_dim)."""
        return self.vae.decode_mean(z)

    def decode_draw(self, z: Tensor) -> Tensor:
        """Draw a row from p(x | z) for latents of (batch, latent_dim)."""
        return self.vae.decode_draw(z)

    def log_weights(self, x: Tensor, S: int) -> Tensor:
        """Return log p(x, z_s) - log q(z_s | x) of S latents a row, of shape (batch, S)."""
        return self.vae.log_weights(x, S)

    def interpolate_latents(self, z0: Tensor, z1: Tensor, t: float) -> Tensor:
        """Return the latents at time ``t`` in [0, 1] on the way from ``z0`` to ``z1``."""
        return self.vae.interpolate_latents(z0, z1, t)

    def finalize(self, x: Tensor) -> None:
        """Take stock of rows (batch, ...) after training; see ``VAE.finalize``."""
        self.vae.finalize(x)


def same_label_partners(y: Tensor) -> Tensor:
    """Return for each row the index of the next row of its label, around a circle of these.

    Parameters
    ----------
    y : Tensor of shape (batch,)
        Labels.

    Returns
    -------
    Tensor of int, of shape (batch,)
        A row alone with its label is its own partner.
    """
    if y.ndim != 1:
        raise ValueError(
            f"Labels of shape {tuple(y.shape)} were found, expected one a row, (batch,); or second "
            "rows of the shape of the first."
        )
    order = y.argsort(stable=True)
    _, group, counts = y[order].unique_consecutive(return_inverse=True, return_counts=True)
    last = counts.cumsum(0) - 1
    place = torch.arange(len(y), device=y.device)
    following = torch.where(place == last[group], (last - counts + 1)[group], place + 1)
    return torch.empty_like(order).scatter_(0, order, order[following])
