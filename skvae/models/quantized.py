"""Autoencoders whose latent is a sequence of codes, and the one with product codes."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from skvae.models.autoencoder import AE, AEEncodeOutput, AEOutput
from skvae.models.checks import check_count, check_number
from skvae.models.codebook import Codebook
from skvae.models.core import LossResult, StepContext
from skvae.models.likelihoods import Likelihood, LikelihoodType, RunningScale
from skvae.models.precision import at_least_float32

# Least variance that a latent is measured in.
MIN_SCALE = 1e-12


@dataclass(slots=True, repr=False)
class QuantizedEncodeOutput(AEEncodeOutput):
    """What ``VQVAE.encode`` and ``HRQVAE.encode`` return.

    Attributes
    ----------
    z : Tensor of shape (batch, latent_dim)
        Quantised latents.
    z_e : Tensor of shape (batch, latent_dim)
        What the encoder gave.
    codes : int64 Tensor of shape (batch, code_length)
        The codes of ``z``.
    """

    z_e: Tensor
    codes: Tensor


@dataclass(slots=True, repr=False)
class QuantizedOutput(AEOutput):
    """What ``VQVAE.forward`` returns.

    Attributes
    ----------
    x_hat : Tensor of shape (batch, ...)
        Reconstructions.
    z : Tensor of shape (batch, latent_dim)
        Quantised latents, with the gradient of ``z_e``.
    z_e : Tensor of shape (batch, latent_dim)
        What the encoder gave.
    quantized : Tensor of shape (batch, latent_dim)
        Quantised latents, with the codebook's gradient.
    codes : int64 Tensor of shape (batch, code_length)
        The codes of ``z``.
    """

    z_e: Tensor
    quantized: Tensor
    codes: Tensor


class QuantizedAE(AE):
    """What the models with codes share.

    Parameters
    ----------
    encoder : Module
        From rows (batch, ...) to latents (batch, latent_dim).
    decoder : Module
        From latents to rows (batch, ...): means or logits.
    latent_dim : int
        Size of the latent.
    n_codes : int
        Codes in a codebook.
    code_length : int
        Codes of a row.
    likelihood : Likelihood, optional
        What the decoder's output says of the data.
    """

    default_sampler = "codes"

    def __init__(
        self,
        encoder: nn.Module,
        decoder: nn.Module,
        latent_dim: int,
        *,
        n_codes: int,
        code_length: int,
        likelihood: Likelihood | None = None,
    ) -> None:
        super().__init__(encoder, decoder, likelihood=likelihood)
        check_count("latent_dim", latent_dim)
        check_count("n_codes", n_codes)
        self.latent_dim = latent_dim
        self.n_codes = n_codes
        self.code_length = code_length

    @abstractmethod
    def quantize(self, z: Tensor) -> Tensor:
        """Return the codes, int64 of shape (batch, code_length), of (batch, latent_dim)."""

    @abstractmethod
    def look_up(self, codes: Tensor) -> Tensor:
        """Return the latents, of shape (batch, latent_dim), of (batch, code_length)."""

    @abstractmethod
    def code_vectors(self) -> Tensor:
        """Return what each code adds to a latent, (code_length, n_codes, latent_dim)."""

    def _latents(self, x: Tensor) -> Tensor:
        z = self.encoder(x)
        if z.ndim != 2 or z.shape[1] != self.latent_dim:
            raise ValueError(
                f"The encoder gave latents of shape {tuple(z.shape)}, expected (batch, "
                f"{self.latent_dim}), latent_dim={self.latent_dim}. End it with nn.Flatten() or a "
                "linear map."
            )
        return at_least_float32(z)

    def _encode(self, x: Tensor) -> Any:
        z_e = self._latents(x)
        codes = self.quantize(z_e)
        return QuantizedEncodeOutput(self.look_up(codes), z_e, codes)

    @torch.no_grad()
    def codes(self, x: Tensor) -> Tensor:
        """Return the codes of rows, int64 of shape (batch, code_length)."""
        return self.quantize(self._latents(x))

    @torch.no_grad()
    def decode_codes(self, codes: Tensor) -> Tensor:
        """Return the expected row, of shape (batch, ...), for codes of (batch, code_length)."""
        if codes.ndim != 2 or codes.shape[1] != self.code_length or codes.is_floating_point():
            raise ValueError(
                f"codes has shape {tuple(codes.shape)} and dtype {codes.dtype}, expected (batch, "
                f"{self.code_length}) of integers."
            )
        if len(codes) and not 0 <= int(codes.min()) <= int(codes.max()) < self.n_codes:
            raise ValueError(
                f"codes are from {int(codes.min())} to {int(codes.max())}, expected 0 to "
                f"{self.n_codes - 1}: n_codes={self.n_codes}."
            )
        return self.likelihood.mean(self._decode(self.look_up(codes.long())).x_hat)

    def draw_latents(self, x: Tensor) -> Tensor:
        """Return what the encoder gives, of shape (batch, latent_dim): ``quantize`` takes it."""
        return self._latents(x)

    def _perplexity(self, codes: Tensor) -> Tensor:
        """Return the number of codes that a batch uses, as if evenly, 0-d: a codebook's mean."""
        share = F.one_hot(codes, self.n_codes).float().mean(0)
        return torch.special.entr(share).sum(1).exp().mean()


class VQVAE(QuantizedAE):
    """The vector-quantised autoencoder of van den Oord et al. [1]_, with product codes.

    The latent is cut into groups, each replaced by the nearest of the ``n_codes`` vectors in the
    group's own codebook: there are ``n_codes ** n_groups`` different latents. The decoder's
    gradient passes to the encoder as if nothing had been replaced. The loss is that of eq. 3 in
    nats, with distances between latents and codes in units of the latent's variance: a quarter is
    the same weight whatever the scale that the encoder chooses.

    Codes start at encoded rows of the first batch; codes that fall out of use start again at rows
    far from their codes.

    Parameters
    ----------
    encoder : Module
        From rows (batch, ...) to latents (batch, latent_dim).
    decoder : Module
        From latents to rows (batch, ...): means or logits.
    latent_dim : int
        Size of the latent.
    n_codes : int, default=64
        Codes in the codebook of a group.
    n_groups : int or None, default=None
        Groups, of ``latent_dim / n_groups`` numbers each; None makes one of each number.
    commitment_weight : float, default=0.25
        Weight of the distance that pulls latents to their codes.
    decay : float, default=0.99
        Of the running counts and means that the codebook is made of.
    codebook : {"ema", "gradient"}, default="ema"
        Whether codes are running means of their latents (appendix A.1), or move by the gradient
        of their distance to them.
    likelihood : Likelihood, optional
        What the decoder's output says of the data; by default a Gaussian of variance one, without
        its constant.

    References
    ----------
    .. [1] van den Oord, Vinyals, Kavukcuoglu, "Neural Discrete Representation Learning", NeurIPS
       2017.

    Examples
    --------
    >>> import torch
    >>> from torch import nn
    >>> from skvae.models import VQVAE
    >>> model = VQVAE(nn.Linear(8, 4), nn.Linear(4, 8), latent_dim=4, n_codes=16, n_groups=2)
    >>> x = torch.randn(5, 8)
    >>> codes = model.codes(x)
    >>> codes.shape
    torch.Size([5, 2])
    >>> torch.equal(model.decode_codes(codes), model.decode_mean(model.embed(x)))
    True
    """

    def __init__(
        self,
        encoder: nn.Module,
        decoder: nn.Module,
        latent_dim: int,
        *,
        n_codes: int = 64,
        n_groups: int | None = None,
        commitment_weight: float = 0.25,
        decay: float = 0.99,
        codebook: Literal["ema", "gradient"] = "ema",
        likelihood: Likelihood | None = None,
    ) -> None:
        self.n_groups = latent_dim if n_groups is None else n_groups
        check_count("n_groups", self.n_groups)
        check_number("commitment_weight", commitment_weight)
        check_number("decay", decay, maximum=1.0)
        super().__init__(
            encoder,
            decoder,
            latent_dim,
            n_codes=n_codes,
            code_length=self.n_groups,
            likelihood=likelihood,
        )
        if latent_dim % self.n_groups:
            divisors = [n for n in range(1, latent_dim + 1) if latent_dim % n == 0]
            raise ValueError(
                f"n_groups={n_groups} does not cut latent_dim={latent_dim} into equal groups: take "
                f"one of {divisors}."
            )
        if codebook not in ("ema", "gradient"):
            raise ValueError(f"codebook={codebook!r}, expected 'ema' or 'gradient'.")
        self.commitment_weight = commitment_weight
        self.codebook = Codebook(
            self.n_groups, n_codes, latent_dim // self.n_groups, decay, codebook == "gradient"
        )
        self.scale = RunningScale(MIN_SCALE)

    def _groups(self, z: Tensor) -> Tensor:
        return z.unflatten(1, (self.n_groups, -1))

    def quantize(self, z: Tensor) -> Tensor:
        """Return the nearest codes, int64 (batch, n_groups), of latents (batch, latent_dim)."""
        return self.codebook.nearest(self._groups(z))

    def look_up(self, codes: Tensor) -> Tensor:
        """Return the latents, of shape (batch, latent_dim), of codes (batch, n_groups)."""
        return self.codebook(codes).flatten(1)

    def code_vectors(self) -> Tensor:
        """Return what each code adds to a latent, (n_groups, n_codes, latent_dim)."""
        vectors = self.codebook.vectors
        n_groups, n_codes, group_dim = vectors.shape
        padded = vectors.new_zeros(n_groups, n_codes, n_groups, group_dim)
        every = torch.arange(n_groups, device=vectors.device)
        padded[every, :, every] = vectors
        return padded.flatten(2)

    def forward(self, x: Tensor) -> QuantizedOutput:
        """Encode, quantise and decode rows; in training mode, the codebook learns from them."""
        z_e = self._latents(x)
        if self.training:
            self.codebook.learn(self._groups(z_e.detach()))
        codes = self.quantize(z_e)
        quantized = self.look_up(codes)
        # The difference is zero: z is the code to the last digit, and has the latent's gradient.
        z = quantized.detach() + (z_e - z_e.detach())
        return QuantizedOutput(self._decode(z).x_hat, z, z_e, quantized, codes)

    def compute_loss(
        self,
        x: Tensor,
        output: Any,
        likelihood: str | LikelihoodType | None = None,
        *,
        context: StepContext | None = None,
    ) -> LossResult:
        """Negative log likelihood, and the distance of latents and codes (eq. 3).

        Parameters
        ----------
        x, output, likelihood
            As for ``AE.compute_loss``.
        context : StepContext, optional
            Where in a training run this is; its ``beta`` is a factor on the commitment.

        Returns
        -------
        LossResult
            With ``log_likelihood``, in nats a row, ``commitment``, the squared distance in
            variances of the latent, and ``perplexity``, the number of codes that the batch uses
            (a mean over groups).
        """
        result = super().compute_loss(x, output, likelihood, context=context)
        z_e, quantized = output.z_e, output.quantized
        commitment = (z_e - quantized.detach()).square().sum(1).mean()
        variance = self.scale(self.codebook.variance() + commitment / self.latent_dim)
        commitment = commitment / variance
        weight = self.commitment_weight * (1.0 if context is None else context.beta)
        result.objective = result.objective + weight * commitment
        if self.codebook.by_gradient:
            to_latents = (z_e.detach() - quantized).square().sum(1).mean()
            result.objective = result.objective + to_latents / variance
        result.diagnostics["commitment"] = commitment.detach()
        result.diagnostics["perplexity"] = self._perplexity(output.codes)
        return result

    def decode_mean(self, z: Tensor) -> Tensor:
        """Return the expected row, of shape (batch, ...), for latents of (batch, latent_dim).

        A latent is replaced by its nearest codes first: the decoder has seen nothing else.
        """
        return super().decode_mean(self.look_up(self.quantize(z)))
