"""The autoencoder with residual codes: each level takes what the levels before have left over."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from skvae.models.autoencoder import AEOutput
from skvae.models.checks import check_count, check_number
from skvae.models.core import LossResult, StepContext
from skvae.models.likelihoods import Likelihood, LikelihoodType
from skvae.models.precision import full_precision
from skvae.models.quantized import QuantizedAE

# Temperatures fall more slowly from one level to the next by this factor.
LEVEL_SLOWDOWN = 1.5
# Codes move so much faster than the weights: each is seen by few rows.
CODE_SPEED = 5.0


@dataclass(slots=True, repr=False)
class HRQVAEOutput(AEOutput):
    """What ``HRQVAE.forward`` returns.

    Attributes
    ----------
    x_hat : Tensor of shape (batch, ...)
        Reconstructions.
    z : Tensor of shape (batch, latent_dim)
        Sums of the levels' vectors.
    parts : Tensor of shape (batch, n_levels, latent_dim)
        The levels' vectors.
    logits : Tensor of shape (batch, n_levels, n_codes)
        Unnormalised log probabilities of the codes.
    codes : int64 Tensor of shape (batch, n_levels)
        The codes of ``parts``, or those with the largest share in them.
    """

    parts: Tensor
    logits: Tensor
    codes: Tensor


class HRQVAE(QuantizedAE):
    """The hierarchical residual quantiser of Hosking, Tang and Lapata [1]_.

    A latent is a sum of one vector a level: each level's codebook takes what the levels before it
    have left over. In training a level's vector is a mixture of codes with the weights of a Gumbel
    softmax, whose temperature falls; in evaluation each level takes the nearest code.

    The encoder's output is centred and scaled by the first batch, so that latents are as long as
    the first level's vectors.

    Parameters
    ----------
    encoder : Module
        From rows (batch, ...) to latents (batch, latent_dim).
    decoder : Module
        From latents to rows (batch, ...): means or logits.
    latent_dim : int
        Size of the latent.
    n_codes : int, default=64
        Codes of a level.
    n_levels : int, default=4
        Levels.
    kl_weight : float, default=0.1
        Weight of the divergence of the codes' distribution from the uniform one, summed over
        levels.
    init_scale, init_decay : float, default=1, 0.5
        Length of the first level's vectors at the start, and the factor from a level to the next.
    norm_loss_weight : float, default=0.5
        Weight of the penalty on levels whose vectors are long beside those of the level before.
    norm_loss_scale : float, default=1.5
        How many times longer the level before must be for there to be no penalty.
    temperature_rate, min_temperature : float, default=3, 0.5
        The temperature at level d, from 0, is ``exp(-temperature_rate * t / 1.5 ** d)`` once the
        share t of the training steps is done, and at least ``min_temperature``.
    depth_dropout : float, default=0.1
        Probability that a row's levels end before a level; the first one always stays.
    likelihood : Likelihood, optional
        What the decoder's output says of the data; by default a Gaussian of variance one, without
        its constant.

    References
    ----------
    .. [1] Hosking, Tang, Lapata, "Hierarchical Sketch Induction for Paraphrase Generation", ACL
       2022, section 3.

    Examples
    --------
    >>> import torch
    >>> from torch import nn
    >>> from skvae.models import HRQVAE
    >>> model = HRQVAE(nn.Linear(8, 4), nn.Linear(4, 8), latent_dim=4, n_codes=16, n_levels=3)
    >>> model.codes(torch.randn(5, 8)).shape
    torch.Size([5, 3])
    """

    center: Tensor
    gain: Tensor
    is_scaled: Tensor

    def __init__(
        self,
        encoder: nn.Module,
        decoder: nn.Module,
        latent_dim: int,
        *,
        n_codes: int = 64,
        n_levels: int = 4,
        kl_weight: float = 0.1,
        init_scale: float = 1.0,
        init_decay: float = 0.5,
        norm_loss_weight: float = 0.5,
        norm_loss_scale: float = 1.5,
        temperature_rate: float = 3.0,
        min_temperature: float = 0.5,
        depth_dropout: float = 0.1,
        likelihood: Likelihood | None = None,
    ) -> None:
        check_count("n_levels", n_levels)
        weights = {
            "kl_weight": kl_weight,
            "norm_loss_weight": norm_loss_weight,
            "norm_loss_scale": norm_loss_scale,
            "temperature_rate": temperature_rate,
        }
        for name, value in weights.items():
            check_number(name, value)
        for name, value in {"init_scale": init_scale, "min_temperature": min_temperature}.items():
            check_number(name, value, minimum=1e-6)
        check_number("init_decay", init_decay, minimum=1e-6)
        check_number("depth_dropout", depth_dropout, maximum=1.0)
        super().__init__(
            encoder,
            decoder,
            latent_dim,
            n_codes=n_codes,
            code_length=n_levels,
            likelihood=likelihood,
        )
        self.n_levels = n_levels
        self.kl_weight = kl_weight
        self.norm_loss_weight, self.norm_loss_scale = norm_loss_weight, norm_loss_scale
        self.temperature_rate, self.min_temperature = temperature_rate, min_temperature
        self.depth_dropout = depth_dropout
        lengths = init_scale * init_decay ** torch.arange(n_levels)
        directions = F.normalize(torch.randn(n_levels, n_codes, latent_dim), dim=2)
        self._slow_vectors = nn.Parameter(lengths[:, None, None] * directions / CODE_SPEED)
        self.register_buffer("center", torch.zeros(latent_dim))
        self.register_buffer("gain", torch.ones(()))
        self.register_buffer("is_scaled", torch.zeros((), dtype=torch.bool))

    @property
    def vectors(self) -> Tensor:
        """The levels' vectors, of shape (n_levels, n_codes, latent_dim)."""
        return CODE_SPEED * self._slow_vectors

    def _latents(self, x: Tensor) -> Tensor:
        return (super()._latents(x) - self.center) * self.gain

    @torch.no_grad()
    def _scale_by(self, z: Tensor) -> None:
        """Centre latents and make them as long as the first level's vectors, once and for all."""
        center = z.mean(0)
        length = (z - center).square().sum(1).mean().sqrt()
        if torch.isfinite(length) and length > 0:
            self.center.copy_(center)
            self.gain.copy_(self.vectors[0].norm(dim=1).mean() / length)
            self.is_scaled.fill_(True)

    def quantize(self, z: Tensor) -> Tensor:
        """Return the nearest codes, int64 (batch, n_levels), of latents (batch, latent_dim)."""
        return self._descend(z, None)[2]

    def look_up(self, codes: Tensor) -> Tensor:
        """Return the latents, of shape (batch, latent_dim), of codes (batch, n_levels)."""
        return self.vectors[torch.arange(self.n_levels, device=codes.device), codes].sum(1)

    def code_vectors(self) -> Tensor:
        """Return what each code adds to a latent, (n_levels, n_codes, latent_dim)."""
        return self.vectors

    def _descend(
        self, z: Tensor, temperatures: list[float] | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return parts, logits and codes: mixtures at the temperatures, or the nearest if None."""
        levels = []
        for level, vectors in enumerate(self.vectors):
            # Minus the squared distance, without the part that all codes have in common.
            with full_precision(z):
                logits = 2 * z @ vectors.T - vectors.square().sum(1)
            if temperatures is None:
                codes = logits.argmax(1)
                part = vectors[codes]
            else:
                weights = F.gumbel_softmax(logits, temperatures[level])
                codes = weights.argmax(1)
                with full_precision(z):
                    part = weights @ vectors
            z = z - part
            levels.append((part, logits, codes))
        parts, scores, chosen = (torch.stack(tensors, 1) for tensors in zip(*levels, strict=True))
        return parts, scores, chosen

    def temperatures(self, progress: float) -> list[float]:
        """Return each level's temperature once a share of the training steps is done."""
        return [
            max(
                math.exp(-self.temperature_rate * progress / LEVEL_SLOWDOWN**level),
                self.min_temperature,
            )
            for level in range(self.n_levels)
        ]

    def forward(self, x: Tensor, progress: float = 1.0) -> HRQVAEOutput:
        """Encode, quantise and decode rows.

        Parameters
        ----------
        x : Tensor of shape (batch, ...)
            The rows.
        progress : float, default=1
            Share of the training steps done, for the temperature in training mode.
        """
        if self.training and not self.is_scaled:
            self._scale_by(self._latents(x))
        temperatures = self.temperatures(progress) if self.training else None
        parts, logits, codes = self._descend(self._latents(x), temperatures)
        z = (parts * self._depths(parts)).sum(1) if self.training else parts.sum(1)
        return HRQVAEOutput(self._decode(z).x_hat, z, parts, logits, codes)

    def _depths(self, parts: Tensor) -> Tensor:
        """Draw which levels of each row stay: ones, then zeros, of shape (batch, n_levels, 1)."""
        stays = torch.rand_like(parts[:, :, :1]) >= self.depth_dropout
        stays[:, 0] = True
        return stays.to(parts).cumprod(1)

    def training_loss(self, batch: tuple[Tensor, ...], context: StepContext) -> LossResult:
        """Return the loss of a batch as the training loop asks for it."""
        x = batch[0]
        progress = context.step / max(context.n_steps - 1, 1)
        return self.compute_loss(x, self(x, progress=progress), context=context)

    def compute_loss(
        self,
        x: Tensor,
        output: Any,
        likelihood: str | LikelihoodType | None = None,
        *,
        context: StepContext | None = None,
    ) -> LossResult:
        """Negative log likelihood, divergence of the codes and penalty on lengths.

        Parameters
        ----------
        x, output, likelihood
            As for ``AE.compute_loss``.
        context : StepContext, optional
            Where in a training run this is; its ``beta`` is a factor on the divergence, and its
            ``free_nats`` are free.

        Returns
        -------
        LossResult
            With ``log_likelihood`` and ``kl_divergence`` in nats a row, ``norm_loss`` and
            ``perplexity``, the number of codes that the batch uses (a mean over levels).
        """
        result = super().compute_loss(x, output, likelihood, context=context)
        kl = self.divergence(output).mean()
        weight, floor = self.kl_weight, 0.0
        if context is not None:
            weight, floor = weight * context.beta, context.free_nats
        norm_loss = self._norm_loss(output.parts).mean()
        result.objective = (
            result.objective
            + weight * (kl.clamp(min=floor) if floor else kl)
            + self.norm_loss_weight * norm_loss
        )
        result.diagnostics["kl_divergence"] = kl.detach()
        result.diagnostics["norm_loss"] = norm_loss.detach()
        result.diagnostics["perplexity"] = self._perplexity(output.codes)
        return result

    def divergence(self, output: HRQVAEOutput) -> Tensor:
        """Return KL(q(codes | x) || uniform) of each row, summed over levels, of (batch,)."""
        log_probs = output.logits.log_softmax(2)
        negative_entropy = (log_probs.exp() * log_probs).sum((1, 2))
        return negative_entropy + self.n_levels * math.log(self.n_codes)

    def _norm_loss(self, parts: Tensor) -> Tensor:
        """Return the squared excess of each level's length over its share of that before."""
        lengths = torch.linalg.vector_norm(parts, dim=2)
        above = lengths[:, :-1].clamp(min=torch.finfo(parts.dtype).eps)
        excess = (self.norm_loss_scale * lengths[:, 1:] / above - 1).clamp(min=0)
        return excess.square().sum(1) / max(self.n_levels - 1, 1)
