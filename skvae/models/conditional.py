"""The variational autoencoder of rows that have a class."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from skvae.models.checks import check_count
from skvae.models.core import LossResult, StepContext
from skvae.models.likelihoods import Likelihood
from skvae.models.vae import VAE, VAEDecodeOutput, VAEOutput


class ConditionalVAE(VAE):
    """A VAE whose decoder is told the class of a row: p(y) p(z) p(x | z, y).

    The generative model is M2 of Kingma et al. [1]_, the training on labelled rows that of Sohn
    et al. [2]_. The encoder is not told the class, so that rows without a label can be encoded:
    the latent holds what the class does not say of a row. Without labels, ``forward`` and
    ``decode`` draw them from the frequencies of the classes, ``decode_mean`` and ``log_weights``
    average over them.

    Parameters
    ----------
    encoder : Module
        From rows (batch, ...) to features (batch, width).
    decoder : Module
        From latents followed by the class as zeros and a one, (n, latent_dim + n_classes), to rows
        (n, ...): means or logits.
    latent_dim : int
        Size of the latent.
    n_classes : int
        Number of classes; labels are whole numbers from 0 to ``n_classes - 1``.
    likelihood : Likelihood, optional
        What the decoder's output says of the data; by default a Gaussian of variance one, without
        its constant.

    Attributes
    ----------
    class_counts : Tensor of shape (n_classes,)
        Labels seen in training. The frequencies of the classes are equal as long as there are none.

    References
    ----------
    .. [1] Kingma, Rezende, Mohamed, Welling, "Semi-supervised Learning with Deep Generative
       Models", NeurIPS 2014.
    .. [2] Sohn, Yan, Lee, "Learning Structured Output Representation using Deep Conditional
       Generative Models", NeurIPS 2015.

    Examples
    --------
    >>> import torch
    >>> from torch import nn
    >>> from skvae.models import ConditionalVAE
    >>> model = ConditionalVAE(nn.Linear(8, 16), nn.Linear(2 + 3, 8), latent_dim=2, n_classes=3)
    >>> x, y = torch.randn(4, 8), torch.tensor([0, 2, 1, 0])
    >>> output = model(x, y)
    >>> model.compute_loss(x, output).objective.shape
    torch.Size([])
    >>> model.decode_mean(torch.zeros(4, 2), y).shape
    torch.Size([4, 8])
    """

    class_counts: Tensor

    def __init__(
        self,
        encoder: nn.Module,
        decoder: nn.Module,
        latent_dim: int,
        *,
        n_classes: int,
        likelihood: Likelihood | None = None,
    ) -> None:
        check_count("n_classes", n_classes)
        super().__init__(encoder, decoder, latent_dim, likelihood=likelihood)
        self.n_classes = n_classes
        self.register_buffer("class_counts", torch.zeros(n_classes))

    # Labels come right after the rows, where a VAE takes S.
    def forward(  # type: ignore[override]
        self, x: Tensor, y: Tensor | None = None, S: int = 1, sample: bool = True
    ) -> VAEOutput:
        """Encode rows, draw S latents each, decode them with the rows' classes.

        Parameters
        ----------
        x : Tensor of shape (batch, ...)
            Rows.
        y : Tensor of int of shape (batch,), optional
            Their classes; by default drawn, whatever the row: the bound is then a looser one.
        S : int, default=1
            Latents a row.
        sample : bool, default=True
            Whether to draw latents, or to take the mean (then S must be 1).
        """
        encoded = self._encode(x, S=S, sample=sample)
        x_hat = self._decode(encoded.z, y).x_hat
        return VAEOutput(x_hat, encoded.z, encoded.mu, encoded.log_var)

    def _decode(self, z: Tensor, y: Tensor | None = None) -> VAEDecodeOutput:
        """Decode latents of shape (batch, S, latent_dim), for labels of shape (batch,)."""
        if z.ndim != 3 or z.shape[2] != self.latent_dim:
            raise ValueError(
                f"z has shape {tuple(z.shape)}, expected (batch, S, {self.latent_dim}), also for "
                "S = 1. One latent a row: z.unsqueeze(1)."
            )
        if y is None:
            y = torch.multinomial(self.class_frequencies(), len(z), replacement=True)
        return self._decode_classes(z, self._check_labels(y, len(z)).unsqueeze(1))

    def _decode_classes(self, z: Tensor, y: Tensor) -> VAEDecodeOutput:
        """Decode latents (batch, S, latent_dim) with labels that broadcast to (batch, S)."""
        one_hot = F.one_hot(y, self.n_classes).to(z).expand(*z.shape[:2], -1)
        x_hat = self.decoder(torch.cat([z, one_hot], dim=2).flatten(0, 1))
        return VAEDecodeOutput(x_hat.unflatten(0, z.shape[:2]))

    def _decode_all_classes(self, z: Tensor) -> Tensor:
        """Decode latents (batch, S, latent_dim) with each of C classes, (batch, S * C, ...)."""
        classes = torch.arange(self.n_classes, device=z.device).repeat(z.shape[1]).unsqueeze(0)
        return self._decode_classes(z.repeat_interleave(self.n_classes, dim=1), classes).x_hat

    def _check_labels(self, y: Tensor, n_rows: int) -> Tensor:
        if not isinstance(y, Tensor) or y.is_floating_point() or y.is_complex():
            found = f"dtype {y.dtype}" if isinstance(y, Tensor) else f"type {type(y).__name__}"
            raise ValueError(
                f"y has {found}, expected a tensor of whole numbers, the classes: y.long(), or "
                "sklearn's LabelEncoder before it."
            )
        if y.shape != (n_rows,):
            raise ValueError(f"y has shape {tuple(y.shape)}, expected ({n_rows},): a label a row.")
        y = y.long()
        if n_rows and (y.min() < 0 or y.max() >= self.n_classes):
            raise ValueError(
                f"y has labels from {int(y.min())} to {int(y.max())}, expected 0 to "
                f"{self.n_classes - 1} as n_classes={self.n_classes}."
            )
        return y

    def class_frequencies(self) -> Tensor:
        """Return p(y), of shape (n_classes,): that of the labels seen in training."""
        total = self.class_counts.sum()
        if total == 0:
            return torch.full_like(self.class_counts, 1 / self.n_classes)
        return self.class_counts / total

    def set_class_frequencies(self, frequencies: Tensor | Sequence[float]) -> None:
        """Set p(y), instead of what training counted so far.

        Parameters
        ----------
        frequencies : Tensor or sequence of float, of shape (n_classes,)
            Frequencies or counts, not negative. Later training adds its counts.
        """
        values = torch.as_tensor(frequencies).to(self.class_counts)
        if values.shape != (self.n_classes,) or not torch.isfinite(values).all():
            raise ValueError(
                f"frequencies has shape {tuple(values.shape)}, expected ({self.n_classes},) finite "
                "numbers."
            )
        if values.min() < 0 or values.sum() <= 0:
            raise ValueError(f"frequencies={frequencies!r}: none may be negative, nor all zero.")
        self.class_counts.copy_(values)

    def training_loss(self, batch: tuple[Tensor, ...], context: StepContext) -> LossResult:
        """Return the loss of rows and their labels; count the labels in training mode.

        Parameters
        ----------
        batch : (Tensor of shape (batch, ...), Tensor of int of shape (batch,))
            The rows and their classes.
        context : StepContext
            Where in the training run this is.
        """
        if len(batch) < 2:
            raise ValueError(
                "The batch has rows alone, expected rows and labels: ConditionalVAE is trained on "
                "(x, y)."
            )
        x, y = batch[0], self._check_labels(batch[1], len(batch[0]))
        if self.training:
            self.class_counts += torch.bincount(y, minlength=self.n_classes)
        return self.compute_loss(x, self(x, y, S=self.n_draws), context=context)

    def decode_mean(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        """Return the expected row, of shape (batch, ...), for latents of (batch, latent_dim).

        Parameters
        ----------
        z : Tensor of shape (batch, latent_dim)
            Latents.
        y : Tensor of int of shape (batch,), optional
            Their classes; by default the mean over the classes, by their frequencies.
        """
        z = z.unsqueeze(1)
        if y is not None:
            return self.likelihood.mean(self._decode(z, y).x_hat[:, 0])
        means = self.likelihood.mean(self._decode_all_classes(z))
        return torch.tensordot(means.movedim(1, -1), self.class_frequencies().to(means), dims=1)

    def decode_draw(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        """Draw a row from p(x | z, y), of shape (batch, ...), for latents of (batch, latent_dim).

        Parameters
        ----------
        z : Tensor of shape (batch, latent_dim)
            Latents.
        y : Tensor of int of shape (batch,), optional
            Their classes; by default drawn by their frequencies.
        """
        return self.likelihood.sample(self._decode(z.unsqueeze(1), y).x_hat[:, 0])

    def log_weights(self, x: Tensor, S: int, y: Tensor | None = None) -> Tensor:
        """Return the log importance weights of S latents a row, of shape (batch, S).

        Parameters
        ----------
        x : Tensor of shape (batch, ...)
            Rows.
        S : int
            Latents a row.
        y : Tensor of int of shape (batch,), optional
            Their classes, for log p(x, z | y) - log q(z | x); by default p(x, z), summed over the
            classes, takes the place of p(x, z | y).
        """
        encoded: Any = self._encode(x, S=S)
        ratio = self.log_prior(encoded.z) - self.log_posterior(encoded)
        parts = encoded.mu, encoded.log_var
        if y is not None:
            x_hat = self._decode(encoded.z, y).x_hat
            return self.log_px(x, VAEOutput(x_hat, encoded.z, *parts)) + ratio
        # One call for all classes: a running scale is one for all of them.
        output = VAEOutput(self._decode_all_classes(encoded.z), encoded.z, *parts)
        by_class = self.log_px(x, output).unflatten(1, (S, self.n_classes))
        return (by_class + self.class_frequencies().log().to(by_class)).logsumexp(2) + ratio
