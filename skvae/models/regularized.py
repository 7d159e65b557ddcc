"""Autoencoders without a posterior that are kept smooth by noise or by penalties."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, Literal

import torch
from torch import Tensor, nn

from skvae.models.autoencoder import AE, AEOutput
from skvae.models.checks import check_number
from skvae.models.core import LossResult, StepContext
from skvae.models.likelihoods import Likelihood, LikelihoodType


class DenoisingAE(AE):
    """The denoising autoencoder of Vincent et al. [1]_.

    In training mode the encoder sees rows with noise, and the decoder has to give them without.
    In evaluation, and in ``encode`` and ``embed`` always, there is no noise.

    Parameters
    ----------
    encoder, decoder, likelihood
        As for ``AE``.
    noise : {"gaussian", "masking"}, default="gaussian"
        What happens to a row: normal noise is added (Vincent et al. 2010), or each of its elements
        is set to zero by chance (section 2.3), which for centred data is the mean.
    noise_scale : float, default=0.1
        Standard deviation of the normal noise, in units of the data; or the probability with which
        an element is masked (the paper tries 0.1 to 0.4).

    References
    ----------
    .. [1] Vincent, Larochelle, Bengio, Manzagol, "Extracting and Composing Robust Features with
       Denoising Autoencoders", ICML 2008.

    Examples
    --------
    >>> import torch
    >>> from torch import nn
    >>> from skvae.models import DenoisingAE
    >>> model = DenoisingAE(nn.Linear(8, 2), nn.Linear(2, 8), noise="masking", noise_scale=0.25)
    >>> x = torch.randn(5, 8)
    >>> model(x)
    AEOutput(x_hat=Tensor(shape=(5, 8), dtype=torch.float32), z=Tensor(shape=(5, 2), ...
    """

    def __init__(
        self,
        encoder: nn.Module,
        decoder: nn.Module,
        *,
        noise: Literal["gaussian", "masking"] = "gaussian",
        noise_scale: float = 0.1,
        likelihood: Likelihood | None = None,
    ) -> None:
        if noise not in ("gaussian", "masking"):
            raise ValueError(f"noise={noise!r}, expected 'gaussian' or 'masking'.")
        if noise == "masking":
            check_number("noise_scale", noise_scale, maximum=1.0)
        else:
            check_number("noise_scale", noise_scale)
        super().__init__(encoder, decoder, likelihood=likelihood)
        self.noise, self.noise_scale = noise, noise_scale

    def forward(self, x: Tensor) -> AEOutput:
        """Encode and decode rows, with noise before it in training mode."""
        return super().forward(self._corrupt(x) if self.training else x)

    def _corrupt(self, x: Tensor) -> Tensor:
        if self.noise == "gaussian":
            return x + self.noise_scale * torch.randn_like(x)
        return x * (torch.rand_like(x) >= self.noise_scale)


class _RegularizedAE(AE):
    """The loss L_RAE of Ghosh et al. (2020): reconstruction, latents, regularised decoder."""

    def __init__(
        self,
        encoder: nn.Module,
        decoder: nn.Module,
        *,
        embedding_weight: float = 0.1,
        reg_weight: float = 0.1,
        likelihood: Likelihood | None = None,
    ) -> None:
        check_number("embedding_weight", embedding_weight)
        check_number("reg_weight", reg_weight)
        super().__init__(encoder, decoder, likelihood=likelihood)
        self.embedding_weight, self.reg_weight = embedding_weight, reg_weight

    def compute_loss(
        self,
        x: Tensor,
        output: Any,
        likelihood: str | LikelihoodType | None = None,
        *,
        context: StepContext | None = None,
    ) -> LossResult:
        """Negative log likelihood with penalties on the latents and on the decoder.

        Parameters
        ----------
        x, output, likelihood, context
            As for ``AE.compute_loss``.

        Returns
        -------
        LossResult
            With ``log_likelihood``, and the unweighted ``embedding_norm``, half the squared
            length of a latent, and ``decoder_penalty``.
        """
        result = super().compute_loss(x, output, likelihood, context=context)
        norm = 0.5 * output.z.flatten(1).square().sum(1).mean()
        penalty = self._decoder_penalty(output)
        weighted = self.embedding_weight * norm + self.reg_weight * penalty
        result.objective = result.objective + (1.0 if context is None else context.beta) * weighted
        result.diagnostics |= {
            "embedding_norm": norm.detach(),
            "decoder_penalty": penalty.detach(),
        }
        return result

    @abstractmethod
    def _decoder_penalty(self, output: Any) -> Tensor:
        """Return what keeps the decoder smooth, 0-d."""


class RAE_L2(_RegularizedAE):
    """The regularised autoencoder of Ghosh et al. [1]_, with a penalty on the decoder's weights.

    Minimises minus the log likelihood plus ``embedding_weight`` times half the squared length of
    the latent plus ``reg_weight`` times the sum of squares of the decoder's parameters.

    Parameters
    ----------
    encoder, decoder, likelihood
        As for ``AE``.
    embedding_weight : float, default=0.1
        Weight of the latent's length, in nats. It fixes the scale of the latents,
        which the decoder's penalty would let grow. The paper's 1e-4 goes with squared errors,
        which are worth much more in nats.
    reg_weight : float, default=0.01
        Weight of the squares of the decoder's parameters, in nats.

    References
    ----------
    .. [1] Ghosh, Sajjadi, Vergari, Black, Schölkopf, "From Variational to Deterministic
       Autoencoders", ICLR 2020.

    Examples
    --------
    >>> import torch
    >>> from torch import nn
    >>> from skvae.models import RAE_L2
    >>> model = RAE_L2(nn.Linear(8, 2), nn.Linear(2, 8))
    >>> x = torch.randn(5, 8)
    >>> sorted(model.compute_loss(x, model(x)).diagnostics)
    ['decoder_penalty', 'embedding_norm', 'log_likelihood']
    """

    def __init__(
        self,
        encoder: nn.Module,
        decoder: nn.Module,
        *,
        embedding_weight: float = 0.1,
        reg_weight: float = 0.01,
        likelihood: Likelihood | None = None,
    ) -> None:
        super().__init__(
            encoder,
            decoder,
            embedding_weight=embedding_weight,
            reg_weight=reg_weight,
            likelihood=likelihood,
        )

    def _decoder_penalty(self, output: Any) -> Tensor:
        squares = [parameter.square().sum() for parameter in self.decoder.parameters()]
        return torch.stack(squares).sum() if squares else output.z.new_zeros(())


class RAE_GP(_RegularizedAE):
    """The regularised autoencoder of Ghosh et al. [1]_, with a penalty on the decoder's gradient.

    Minimises minus the log likelihood plus ``embedding_weight`` times half the squared length of
    the latent plus ``reg_weight`` times the sum of squares of the Jacobian of the decoder's output
    in the latent. That sum is estimated without bias from the gradient of one random projection
    of the output (Hutchinson), at the cost of a second backward pass through the decoder.

    Parameters
    ----------
    encoder, likelihood
        As for ``AE``.
    decoder : Module
        From latents to rows (batch, ...): means or logits. Each row's output must be its own
        latent's alone, which it is not with batch normalisation.
    embedding_weight : float, default=0.1
        Weight of the latent's length, in nats; see ``RAE_L2``.
    reg_weight : float, default=0.1
        Weight of the squares of the Jacobian, in nats.

    References
    ----------
    .. [1] Ghosh, Sajjadi, Vergari, Black, Schölkopf, "From Variational to Deterministic
       Autoencoders", ICLR 2020.

    Examples
    --------
    >>> import torch
    >>> from torch import nn
    >>> from skvae.models import RAE_GP
    >>> model = RAE_GP(nn.Linear(8, 2), nn.Linear(2, 8))
    >>> x = torch.randn(5, 8)
    >>> with torch.no_grad():  # validation
    ...     loss = model.compute_loss(x, model(x))
    >>> bool(loss.diagnostics["decoder_penalty"] > 0)
    True
    """

    def _decoder_penalty(self, output: Any) -> Tensor:
        z, x_hat, track = output.z, output.x_hat, torch.is_grad_enabled()
        if not (z.requires_grad and x_hat.requires_grad):
            with torch.enable_grad():
                z = z.detach().requires_grad_()
                x_hat = self._decode(z).x_hat
        signs = torch.randint_like(x_hat, 2) * 2 - 1
        (gradient,) = torch.autograd.grad(x_hat, z, signs, create_graph=track)
        return gradient.square().flatten(1).sum(1).mean()
