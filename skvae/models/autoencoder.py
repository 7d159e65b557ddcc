"""Autoencoders without a posterior."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from skvae.models.core import BaseAutoencoder, LossResult, ModelOutput, StepContext
from skvae.models.likelihoods import GaussianLikelihood, Likelihood, LikelihoodType, log_likelihood


@dataclass(slots=True, repr=False)
class AEEncodeOutput(ModelOutput):
    """What ``AE.encode`` returns.

    Attributes
    ----------
    z : Tensor of shape (batch, ...)
        Latents.
    """

    z: Tensor


@dataclass(slots=True, repr=False)
class AEDecodeOutput(ModelOutput):
    """What ``AE.decode`` returns.

    Attributes
    ----------
    x_hat : Tensor of shape (batch, ...)
        Reconstructions.
    """

    x_hat: Tensor


@dataclass(slots=True, repr=False)
class AEOutput(ModelOutput):
    """What ``AE.forward`` returns.

    Attributes
    ----------
    x_hat : Tensor of shape (batch, ...)
        Reconstructions.
    z : Tensor of shape (batch, ...)
        Latents.
    """

    x_hat: Tensor
    z: Tensor


class AE(BaseAutoencoder):
    """An autoencoder around your networks.

    Parameters
    ----------
    encoder : Module
        From rows (batch, ...) to latents.
    decoder : Module
        From latents to rows (batch, ...): means or logits.
    likelihood : Likelihood, optional
        What the decoder's output says of the data; by default a Gaussian of variance one, without
        its constant.

    Examples
    --------
    >>> import torch
    >>> from torch import nn
    >>> from skvae.models import AE
    >>> model = AE(nn.Linear(8, 2), nn.Linear(2, 8))
    >>> x = torch.zeros(5, 8)
    >>> model(x)
    AEOutput(x_hat=Tensor(shape=(5, 8), dtype=torch.float32), z=Tensor(shape=(5, 2), ...
    """

    def __init__(
        self, encoder: nn.Module, decoder: nn.Module, *, likelihood: Likelihood | None = None
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.decoder = decoder
        if likelihood is None:
            likelihood = GaussianLikelihood(variance=1.0, normalize=False)
        self.likelihood = likelihood

    def _encode(self, x: Tensor) -> AEEncodeOutput:
        return AEEncodeOutput(self.encoder(x))

    def _decode(self, z: Tensor) -> AEDecodeOutput:
        return AEDecodeOutput(self.decoder(z))

    def forward(self, x: Tensor) -> AEOutput:
        """Encode and decode rows."""
        z = self._encode(x).z
        return AEOutput(self._decode(z).x_hat, z)

    def compute_loss(
        self,
        x: Tensor,
        output: Any,
        likelihood: str | LikelihoodType | None = None,
        *,
        context: StepContext | None = None,
    ) -> LossResult:
        """Mean negative log likelihood of the rows.

        Parameters
        ----------
        x : Tensor of shape (batch, ...)
            The rows.
        output : AEOutput
            What ``forward`` returned for them.
        likelihood : {"gaussian", "bernoulli"} or LikelihoodType, optional
            Instead of the model's own; see ``log_likelihood``.
        context : StepContext, optional
            Where in a training run this is.

        Returns
        -------
        LossResult
            With ``log_likelihood``, in nats a row.
        """
        log_px = self.log_px(x, output, likelihood).mean()
        return LossResult(-log_px, {"log_likelihood": log_px.detach()})

    def log_px(
        self, x: Tensor, output: Any, likelihood: str | LikelihoodType | None = None
    ) -> Tensor:
        """Return log p(x | z) of each row, of shape (batch,)."""
        if likelihood is not None:
            return log_likelihood(x, output.x_hat, likelihood).flatten(1).sum(1)
        if x.shape != output.x_hat.shape:
            raise ValueError(
                f"x_hat has shape {tuple(output.x_hat.shape)}, expected that of x, "
                f"{tuple(x.shape)}."
            )
        return self.likelihood.log_prob(x, output.x_hat.unsqueeze(1)).squeeze(1)

    def decode_mean(self, z: Tensor) -> Tensor:
        """Return the expected row, of shape (batch, ...), for latents of (batch, latent_dim)."""
        return self.likelihood.mean(self._decode(z).x_hat)

    def decode_draw(self, z: Tensor) -> Tensor:
        """Draw a row from p(x | z), of shape (batch, ...), for latents of (batch, latent_dim)."""
        return self.likelihood.sample(self._decode(z).x_hat)

    def log_weights(self, x: Tensor, S: int) -> Tensor:
        """Return log p(x | z) of the row's latent, of shape (batch, 1): no density is modelled."""
        return self.log_px(x, self(x)).unsqueeze(1)
