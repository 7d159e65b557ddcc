"""The network of AESTETIK: a convolutional autoencoder of windows of tissue around spots."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from skvae.models.autoencoder import AEDecodeOutput, AEEncodeOutput
from skvae.models.checks import check_count, check_number
from skvae.models.core import LossResult, ModelOutput, StepContext
from skvae.models.spatial_base import (
    MODALITIES,
    IndexedAutoencoder,
    or_one,
    triplet_terms,
    weighted_sum,
)
from skvae.models.window_networks import window_decoders, window_encoders, window_sizes

# Arguments of ``WindowAutoencoder``, and of ``TrainingConfig``, by the name of the preset.
PRESETS: dict[str, dict[str, Any]] = {"paper": {"missing": "median", "bounded": True}}
WINDOW_TRAINING: dict[str, dict[str, Any]] = {
    "paper": {
        "n_epochs": 100,
        "batch_size": 8192,
        "optimizer": "adam",
        "amsgrad": True,
        "betas": (0.9, 0.999),
        "learning_rate": 1e-3,
        "weight_decay": 1e-6,
        "schedule": "constant",
        "warmup_steps": 0,
    }
}


@dataclass(slots=True, repr=False)
class WindowOutput(ModelOutput):
    """What ``WindowAutoencoder.forward`` returns.

    Attributes
    ----------
    x_hat : Tensor of shape (batch, n_all_features, window, window)
        Reconstructions.
    z : Tensor of shape (batch, latent_dim)
        Latents.
    x : Tensor of shape (batch, n_all_features, window, window)
        The windows, missing cells filled in.
    present : Tensor of bool, of shape (batch, 1, window, window)
        Which cells hold a spot.
    """

    x_hat: Tensor
    z: Tensor
    x: Tensor
    present: Tensor


class WindowAutoencoder(IndexedAutoencoder):
    """The autoencoder of AESTETIK [1]_: convolutions over a window of cells around each spot.

    Encoders and decoders are ensembles, each combined by the median of its members. An encoder is
    a convolution, batch normalisation, dropout of channels, ReLU, max-pooling by 3 and a linear
    map; a decoder goes the same way back. Both modalities are channels of one window. The loss is
    ``w_e (a R_e + b T_e) + w_m (a R_m + b T_m)`` with the mean error R of the reconstruction over
    cells and the triplet loss T of each modality's labels, ``w_m = morphology_weight`` and
    ``w_e = total_weight - w_m``.

    A batch is encoded once, and triplets are drawn inside it. An anchor is never its own positive,
    which in the paper it may be by chance.

    Parameters
    ----------
    n_features : int
        Features of expression.
    latent_dim : int, default=16
        Size of the latent.
    n_morphology_features : int, default=0
        Features of morphology; without any, ``morphology_weight`` counts as 0.
    window : int, default=7
        Cells along a side, odd, at least 3.
    kernel_size : int, default=3
        Of the convolutions; where it is not under ``window``, it is ``window - 1``.
    hidden_channels : int, default=64
        Channels between the convolutions.
    n_encoders, n_decoders : int, default=3
        Members of the ensembles.
    dropout : float, default=0.3
        Share of channels left out in training.
    total_weight, morphology_weight : float, default=3.0, 1.5
        Weights of the modalities; 0 leaves a modality out of the loss.
    reconstruction : {"l1", "mse"}, default="l1"
        The error R: absolute, as in the paper, or squared.
    reconstruction_weight, triplet_weight : float, default=1.0
        The factors a and b.
    margin : float, default=1.0
        Of the triplet loss.
    every_label : bool, default=True
        Whether an anchor has a triplet for each other label in a batch, or for a random one.
    n_repeats : int, default=1
        Triplets in place of one.
    missing : {"mask", "median"}, default="mask"
        Cells without a spot: are 0, told by one more channel, and are left out of the loss; or are
        the median of the feature in the window, as in the paper.
    bounded : bool, default=False
        Whether features are in [0, 1], so that decoders end with a sigmoid: ``start`` brings each
        there, as the paper does, which gives all the same weight, noise or not.

    See Also
    --------
    SpatialStudent : The same task by means over rings, a hundred times faster.

    Notes
    -----
    Batches are ``(windows,)`` or ``(windows, labels)``, with

    - windows, indices of shape (batch, window * window), row by row, into the rows given to
      ``hold``, features of shape (n_spots, n_features + n_morphology_features); -1 for a cell
      without a spot;
    - labels as for ``SpatialStudent``.

    Windows are gathered batch by batch: those of all spots never are in memory at once.

    References
    ----------
    .. [1] Nonchev et al., "Representation learning for multi-modal spatially resolved
       transcriptomics data", medRxiv 2024.06.04.24308256.

    Examples
    --------
    >>> import torch
    >>> from skvae.models import WindowAutoencoder
    >>> model = WindowAutoencoder.from_preset("paper", 15, n_morphology_features=15)
    >>> sum(parameter.numel() for parameter in model.parameters())
    110910
    >>> model.hold(torch.rand(100, 30))
    >>> windows = torch.randint(-1, 100, (5, 49))
    >>> windows[:, 24] = torch.arange(5)
    >>> model.eval().embed(windows).shape
    torch.Size([5, 16])
    """

    offset: Tensor
    scale: Tensor

    def __init__(
        self,
        n_features: int,
        latent_dim: int = 16,
        *,
        n_morphology_features: int = 0,
        window: int = 7,
        kernel_size: int = 3,
        hidden_channels: int = 64,
        n_encoders: int = 3,
        n_decoders: int = 3,
        dropout: float = 0.3,
        total_weight: float = 3.0,
        morphology_weight: float = 1.5,
        reconstruction: Literal["l1", "mse"] = "l1",
        reconstruction_weight: float = 1.0,
        triplet_weight: float = 1.0,
        margin: float = 1.0,
        every_label: bool = True,
        n_repeats: int = 1,
        missing: Literal["mask", "median"] = "mask",
        bounded: bool = False,
    ) -> None:
        super().__init__()
        counts = {"n_features": n_features, "latent_dim": latent_dim, "n_repeats": n_repeats}
        counts |= {"hidden_channels": hidden_channels, "kernel_size": kernel_size}
        for name, value in {**counts, "n_encoders": n_encoders, "n_decoders": n_decoders}.items():
            check_count(name, value)
        check_count("n_morphology_features", n_morphology_features, 0)
        check_number("dropout", dropout, 0.0, 1.0)
        numbers = {"reconstruction_weight": reconstruction_weight, "triplet_weight": triplet_weight}
        for name, number in {**numbers, "margin": margin}.items():
            check_number(name, number)
        check_number("total_weight", total_weight, 1e-6)
        check_number("morphology_weight", morphology_weight, 0.0, total_weight)
        if missing not in ("mask", "median"):
            raise ValueError(f"missing={missing!r}, expected 'mask' or 'median'.")
        if reconstruction not in ("l1", "mse"):
            raise ValueError(f"reconstruction={reconstruction!r}, expected 'l1' or 'mse'.")
        if not n_morphology_features:
            morphology_weight = 0.0
        self.blocks = [n for n in (n_features, n_morphology_features) if n]
        self.latent_dim, self.window = latent_dim, window
        self.modality_weights = (total_weight - morphology_weight, morphology_weight)
        self.reconstruction = reconstruction
        self.reconstruction_weight, self.triplet_weight = reconstruction_weight, triplet_weight
        self.margin, self.every_label, self.n_repeats = margin, every_label, n_repeats
        self.missing, self.bounded = missing, bounded
        n_all = sum(self.blocks)
        self.register_buffer("offset", torch.zeros(n_all))
        self.register_buffer("scale", torch.ones(n_all))
        sizes = window_sizes(window, kernel_size)
        self.encoder = window_encoders(
            n_all + (missing == "mask"), latent_dim, hidden_channels, n_encoders, dropout, sizes
        )
        self.decoder = window_decoders(
            latent_dim, n_all, hidden_channels, n_decoders, dropout, sizes
        )

    @classmethod
    def from_preset(cls, name: str, n_features: int, **params: Any) -> WindowAutoencoder:
        """Return the network of a preset.

        Parameters
        ----------
        name : {"paper"}
            AESTETIK 0.3.1 at its defaults. Train with
            ``TrainingConfig(**WINDOW_TRAINING["paper"])``, one step an epoch for up to 8,192
            spots, after ``start``, on windows of array coordinates.
        n_features : int
            Features of expression.
        **params
            Parameters beside those of the preset, or instead of them.
        """
        if name not in PRESETS:
            raise ValueError(f"preset {name!r} is unknown, expected one of {sorted(PRESETS)}.")
        return cls(n_features, **{**PRESETS[name], **params})

    @torch.no_grad()
    def start(self, rows: Tensor) -> None:
        """Set what features are brought to their range by, where spots come in any other.

        Parameters
        ----------
        rows : Tensor of shape (n_spots, n_all_features)
            Spots to learn from. With ``bounded``, each feature's least and greatest value become 0
            and 1, and new spots may lie beyond. Otherwise each modality is centred and divided by
            one number, the root mean square over its features.
        """
        self._check_table(rows)
        rows = rows.double()
        offset = rows.amin(0) if self.bounded else rows.mean(0)
        if self.bounded:
            scale = rows.amax(0) - offset
        else:
            parts = (rows - offset).split(self.blocks, dim=1)
            scale = torch.cat([p.square().mean().sqrt().expand(p.shape[1]) for p in parts])
        self.offset.copy_(offset)
        self.scale.copy_(or_one(scale))

    def _check_table(self, rows: Tensor) -> None:
        if rows.ndim != 2 or rows.shape[1] != sum(self.blocks):
            raise ValueError(
                f"The rows held have shape {tuple(rows.shape)}, expected "
                f"(n_spots, {sum(self.blocks)}): expression, then morphology."
            )

    def gather(self, windows: Tensor) -> tuple[Tensor, Tensor]:
        """Return the windows of indices (batch, cells), scaled and filled in, and where spots are.

        Returns
        -------
        x : Tensor of shape (batch, n_all_features, window, window)
        present : Tensor of bool, of shape (batch, 1, window, window)
        """
        if windows.ndim != 2 or windows.shape[1] != self.window**2:
            raise ValueError(
                f"Windows of shape {tuple(windows.shape)} were found, expected "
                f"(batch, {self.window**2}): {self.window} x {self.window} cells, row by row."
            )
        rows = self.held_rows()
        self._check_table(rows)
        present = (windows >= 0).unsqueeze(1)
        cells = ((rows[windows.clamp(min=0)] - self.offset) / self.scale).transpose(1, 2)
        fill = _window_medians(cells, present) if self.missing == "median" else 0.0
        cells = torch.where(present, cells, fill)
        shape = (self.window, self.window)
        return cells.unflatten(2, shape), present.unflatten(2, shape)

    def _encode(self, windows: Tensor) -> AEEncodeOutput:
        return AEEncodeOutput(self._encode_gathered(*self.gather(windows)))

    def _encode_gathered(self, x: Tensor, present: Tensor) -> Tensor:
        if self.missing == "mask":
            x = torch.cat([x, present.to(x)], dim=1)
        return self.encoder(x)

    def _decode(self, z: Tensor) -> AEDecodeOutput:
        x_hat: Tensor = self.decoder(z)
        # The median of the members' sigmoids is the sigmoid of their median.
        return AEDecodeOutput(x_hat.sigmoid() if self.bounded else x_hat)

    def forward(self, windows: Tensor) -> WindowOutput:
        """Gather, encode and decode windows."""
        x, present = self.gather(windows)
        z = self._encode_gathered(x, present)
        return WindowOutput(self._decode(z).x_hat, z, x, present)

    def embed(self, windows: Tensor, n_dropout_passes: int = 0) -> Tensor:
        """Return one latent a spot, of shape (batch, latent_dim).

        In eval mode, where batch normalisation goes by its running statistics, a spot's latent
        does not depend on its batch.

        Parameters
        ----------
        windows : Tensor of int, of shape (batch, window * window)
            Indices into the rows held.
        n_dropout_passes : int, default=0
            0: one pass as the mode has it, in eval mode without randomness. Else the mean over so
            many passes with dropout, of which the paper takes 1000; its batch normalisation, by
            the batch's own statistics, is not repeated.
        """
        x, present = self.gather(windows)
        if not n_dropout_passes:
            return self._encode_gathered(x, present)
        layers = [layer for layer in self.encoder.modules() if isinstance(layer, nn.Dropout2d)]
        modes = [layer.training for layer in layers]
        try:
            for layer in layers:
                layer.train()
            total = self._encode_gathered(x, present)
            for _ in range(n_dropout_passes - 1):
                total = total + self._encode_gathered(x, present)
        finally:
            for layer, mode in zip(layers, modes, strict=True):
                layer.train(mode)
        return total / n_dropout_passes

    def decode_mean(self, z: Tensor) -> Tensor:
        """Return windows, (batch, n_all_features, window, window), for latents."""
        return self._decode(z).x_hat * self.scale.view(-1, 1, 1) + self.offset.view(-1, 1, 1)

    def compute_loss(
        self,
        x: Tensor,
        output: WindowOutput,
        labels: Tensor | None = None,
        *,
        context: StepContext | None = None,
    ) -> LossResult:
        """Weighted sum of reconstruction errors and triplet losses.

        Parameters
        ----------
        x : Tensor of int, of shape (batch, window * window)
            The windows.
        output : WindowOutput
            What ``forward`` returned for them.
        labels : Tensor of int, of shape (batch,) or (batch, 2), optional
            Labels of expression, or of both modalities.
        context : StepContext, optional
            Where in a training run this is.

        Returns
        -------
        LossResult
            With ``reconstruction_`` and ``triplet_`` before the name of each modality, as far as
            they are part of the loss, not weighted.
        """
        terms: dict[str, tuple[float, Tensor]] = {}
        errors = output.x_hat - output.x
        errors = errors.abs() if self.reconstruction == "l1" else errors.square()
        if self.missing == "mask":
            # The mean over cells with a spot, as a mean over all.
            errors = errors * (output.present / output.present.to(errors).mean())
        for name, weight, part in zip(
            MODALITIES, self.modality_weights, errors.split(self.blocks, 1), strict=False
        ):
            if weight:
                terms[f"reconstruction_{name}"] = weight * self.reconstruction_weight, part.mean()
        if labels is not None and self.triplet_weight:
            terms |= triplet_terms(
                output.z,
                labels,
                [self.triplet_weight * weight for weight in self.modality_weights],
                margin=self.margin,
                every_label=self.every_label,
                n_repeats=self.n_repeats,
            )
        return weighted_sum(terms)

    def training_loss(self, batch: tuple[Tensor, ...], context: StepContext) -> LossResult:
        """Return the loss of a batch, ``(windows,)`` or ``(windows, labels)``."""
        windows, *rest = batch
        return self.compute_loss(windows, self(windows), *rest, context=context)


def _window_medians(cells: Tensor, present: Tensor) -> Tensor:
    """Return medians over present cells, (batch, features, 1), of (batch, features, cells)."""
    ordered = torch.where(present, cells, torch.inf).sort(dim=2).values
    count = present.sum(dim=2, keepdim=True).expand(-1, cells.shape[1], -1)
    middle = torch.cat([(count - 1) // 2, count // 2], dim=2)
    return ordered.gather(2, middle).mean(dim=2, keepdim=True)
