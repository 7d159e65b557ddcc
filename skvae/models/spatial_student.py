"""The student of spatial domains: an autoencoder of spots and the tissue around them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from skvae.models.autoencoder import AEDecodeOutput, AEEncodeOutput, AEOutput
from skvae.models.checks import check_count, check_number
from skvae.models.core import LossResult, StepContext
from skvae.models.likelihoods import GaussianLikelihood
from skvae.models.mlp import MLPDecoder, MLPEncoder
from skvae.models.spatial_base import (
    MODALITIES,
    IndexedAutoencoder,
    check_weights,
    or_one,
    triplet_terms,
    weighted_sum,
)

# Arguments of ``TrainingConfig`` for a ``SpatialStudent``. The rate rises over 90 of 300 steps and
# falls along a cosine: with 2.5e-3 it comes to 2e-3, as a one-cycle schedule of that peak would.
STUDENT_TRAINING: dict[str, Any] = {
    "n_epochs": 300,
    "max_steps": 300,
    "batch_size": 256,
    "optimizer": "adam",
    "learning_rate": 2.5e-3,
    "warmup_steps": 90,
}


class SpatialStudent(IndexedAutoencoder):
    """An autoencoder of spots that learns domains from labels, and starts as a linear map.

    A row is the spot's own features x, the same smoothed over its surroundings s, and their means
    over rings around it: ``torch.stack([x, s, r1, r2, r3], dim=1)``. Features of expression come
    first, then those of morphology, both centred. With each modality divided by one number, the
    root mean square of x,

    - the latent is ``z = W's + f(s, r1, r2, r3)``,
    - from it ``V z + b + g(z)`` stands for x, r1, r2 and r3,

    where f and g are perceptrons that start at zero. So at the start z is the linear map alone:
    ``start`` sets W, such as to factors of largest spatial autocorrelation, and V and b to the best
    linear reconstruction.

    The loss is the reconstruction error plus triplet losses, which draw spots of one label
    together: expected labels are those of a consensus of clusterings, whose knowledge z then holds
    in one embedding for spots of any slide.

    Parameters
    ----------
    n_features : int
        Features of expression.
    latent_dim : int, default=16
        Size of the latent.
    n_morphology_features : int, default=0
        Features of morphology.
    n_rings : int, default=3
        Rings in a row.
    hidden_layer_sizes : sequence of int, default=(64,)
        Widths of the hidden layers of f; those of g in reverse.
    reconstruction : {"mse", "l1", "gaussian"}, default="mse"
        The error of a modality: mean over spots and entries of squared or absolute errors, or of
        the negative log likelihood under a Gaussian of the best variance, in nats.
    reconstruction_weights : (float, float), default=(1.0, 1.0)
        Weights of that of expression and that of morphology.
    triplet_weights : (float, float), default=(0.3, 0.3)
        Weights of the triplet losses by the first and the second column of labels.
    margin : float, default=1.0
        Of the triplet loss.
    every_label : bool, default=True
        Whether an anchor has a triplet for each other label in a batch [1]_, or for a random one.
    contrast_weight : float, default=0.0
        Weight of InfoNCE [2]_ between a spot and one of its neighbours, drawn at random, among
        those of the other spots.
    temperature : float, default=0.2
        By which InfoNCE divides the cosines.

    See Also
    --------
    WindowAutoencoder : The network of AESTETIK.

    Notes
    -----
    Batches are ``(x,)``, ``(x, labels)`` or ``(x, labels, neighbors)``, with

    - x of shape (batch, 2 + n_rings, n_features + n_morphology_features),
    - labels, whole numbers of shape (batch,), or (batch, 2) with one column for each modality;
      below 0 a spot has none. A joint labelling of both modalities is one column;
    - neighbors, indices of shape (batch, k) into the rows given to ``hold``, -1 for none. They are
      needed, and spots are encoded for them, only where ``contrast_weight`` is not 0.

    Train with ``TrainingConfig(**STUDENT_TRAINING)``.

    References
    ----------
    .. [1] Nonchev et al., "Representation learning for multi-modal spatially resolved
       transcriptomics data", medRxiv 2024.06.04.24308256.
    .. [2] van den Oord, Li, Vinyals, "Representation Learning with Contrastive Predictive Coding",
       arXiv 1807.03748 (eq. 4).

    Examples
    --------
    >>> import torch
    >>> from skvae.models import STUDENT_TRAINING, SpatialStudent
    >>> from skvae.training import TrainingConfig, train
    >>> labels = torch.arange(200) % 3
    >>> x = torch.randn(200, 5, 8, generator=torch.Generator().manual_seed(0))
    >>> x[:, 1:, :3] += torch.eye(3)[labels].unsqueeze(1)
    >>> student = SpatialStudent(8, latent_dim=2)
    >>> student.start(x, torch.eye(8)[:, :2])
    >>> config = TrainingConfig(**{**STUDENT_TRAINING, "max_steps": 5})
    >>> train(student, (x, labels), config).n_steps
    5
    >>> student.embed(x).shape
    torch.Size([200, 2])
    """

    scale: Tensor

    def __init__(
        self,
        n_features: int,
        latent_dim: int = 16,
        *,
        n_morphology_features: int = 0,
        n_rings: int = 3,
        hidden_layer_sizes: Sequence[int] = (64,),
        reconstruction: Literal["mse", "l1", "gaussian"] = "mse",
        reconstruction_weights: tuple[float, float] = (1.0, 1.0),
        triplet_weights: tuple[float, float] = (0.3, 0.3),
        margin: float = 1.0,
        every_label: bool = True,
        contrast_weight: float = 0.0,
        temperature: float = 0.2,
    ) -> None:
        super().__init__()
        check_count("n_features", n_features)
        check_count("n_morphology_features", n_morphology_features, 0)
        check_count("latent_dim", latent_dim)
        check_count("n_rings", n_rings, 0)
        if reconstruction not in ("mse", "l1", "gaussian"):
            raise ValueError(
                f"reconstruction={reconstruction!r}, expected 'mse', 'l1' or 'gaussian'."
            )
        check_weights("reconstruction_weights", reconstruction_weights)
        check_weights("triplet_weights", triplet_weights)
        check_number("margin", margin)
        check_number("contrast_weight", contrast_weight)
        check_number("temperature", temperature, 1e-6)
        self.latent_dim, self.n_rings = latent_dim, n_rings
        self.blocks = [n for n in (n_features, n_morphology_features) if n]
        self.reconstruction = reconstruction
        self.reconstruction_weights = tuple(reconstruction_weights)
        self.triplet_weights = tuple(triplet_weights)
        self.margin, self.every_label = margin, every_label
        self.contrast_weight, self.temperature = contrast_weight, temperature
        if reconstruction == "gaussian":
            self.likelihoods = nn.ModuleList(GaussianLikelihood("optimal") for _ in self.blocks)
        n_all, widths = sum(self.blocks), tuple(hidden_layer_sizes)
        self.register_buffer("scale", torch.ones(n_all))
        self.skip = nn.Linear(n_all, latent_dim, bias=False)
        self.encoder = MLPEncoder(
            (1 + n_rings, n_all), widths, n_outputs=latent_dim, activation="gelu"
        )
        self.unskip = nn.Linear(latent_dim, (1 + n_rings) * n_all)
        self.decoder = MLPDecoder(latent_dim, (1 + n_rings, n_all), widths[::-1], activation="gelu")
        nn.init.eye_(self.skip.weight)
        self._silence()

    def _silence(self) -> None:
        """Let the perceptrons give zero: only the linear maps are left."""
        for last in (self.encoder[-1], self.decoder.layers[-1]):
            assert isinstance(last, nn.Linear)
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)

    @torch.no_grad()
    def start(self, x: Tensor, directions: Tensor) -> None:
        """Set scales and linear maps by rows to learn from.

        Parameters
        ----------
        x : Tensor of shape (n_spots, 2 + n_rings, n_all_features)
            Rows.
        directions : Tensor of shape (n_all_features, latent_dim)
            Directions that the smoothed features are projected on; each is scaled so that its
            scores have standard deviation one.
        """
        self._check_rows(x)
        expected = (x.shape[2], self.latent_dim)
        if directions.shape != expected:
            raise ValueError(
                f"directions has shape {tuple(directions.shape)}, expected {expected}: one for "
                "each latent dimension. Lower latent_dim, or give more directions."
            )
        x, directions = x.to(self.scale), directions.to(self.scale.device, torch.float64)
        parts = x[:, 0].double().split(self.blocks, dim=1)
        scales = [or_one(part.square().mean().sqrt()).expand(part.shape[1]) for part in parts]
        self.scale.copy_(torch.cat(scales))
        spread = or_one((x[:, 1].double() @ directions).std(0, correction=0))
        self.skip.weight.copy_((directions / spread).T * self.scale)
        self._silence()
        design = F.pad(self._encode(x).z.double(), (0, 1), value=1.0)
        target = (self.targets(x) / self.scale).flatten(1).double()
        # By normal equations, for constant features and on any device.
        gram = torch.linalg.pinv(design.T @ design, hermitian=True)
        solution = gram @ (design.T @ target)
        self.unskip.weight.copy_(solution[:-1].T)
        self.unskip.bias.copy_(solution[-1])

    def targets(self, x: Tensor) -> Tensor:
        """Return what is reconstructed of rows: all but the smoothed features."""
        return torch.cat([x[:, :1], x[:, 2:]], dim=1)

    def _check_rows(self, x: Tensor) -> None:
        expected = (2 + self.n_rings, sum(self.blocks))
        if x.shape[1:] != expected:
            raise ValueError(
                f"x has shape {tuple(x.shape)}, expected (batch, {expected[0]}, {expected[1]}): "
                f"own features, smoothed ones, and means over {self.n_rings} rings."
            )

    def _encode(self, x: Tensor) -> AEEncodeOutput:
        self._check_rows(x)
        around = x[:, 1:] / self.scale
        return AEEncodeOutput(self.skip(around[:, 0]) + self.encoder(around))

    def _decode(self, z: Tensor) -> AEDecodeOutput:
        inner: Tensor = self.decoder(z)
        return AEDecodeOutput((inner + self.unskip(z).view_as(inner)) * self.scale)

    def forward(self, x: Tensor) -> AEOutput:
        """Encode and decode rows; ``x_hat`` is of the shape of ``targets(x)``."""
        z = self._encode(x).z
        return AEOutput(self._decode(z).x_hat, z)

    def decode_mean(self, z: Tensor) -> Tensor:
        """Return own features and ring means, (batch, 1 + n_rings, n_all_features), of latents."""
        return self._decode(z).x_hat

    def compute_loss(
        self,
        x: Tensor,
        output: AEOutput,
        labels: Tensor | None = None,
        neighbors: Tensor | None = None,
        *,
        context: StepContext | None = None,
    ) -> LossResult:
        """Weighted sum of reconstruction errors, triplet losses and contrast.

        Parameters
        ----------
        x : Tensor of shape (batch, 2 + n_rings, n_all_features)
            The rows.
        output : AEOutput
            What ``forward`` returned for them.
        labels, neighbors : Tensor, optional
            As in a batch; without them their terms are left out.
        context : StepContext, optional
            Where in a training run this is.

        Returns
        -------
        LossResult
            With ``reconstruction_`` and ``triplet_`` before the name of each modality, and
            ``contrast``, as far as they are part of the loss, not weighted.
        """
        terms: dict[str, tuple[float, Tensor]] = {}
        target, x_hat = self.targets(x) / self.scale, output.x_hat / self.scale
        pairs = zip(target.split(self.blocks, 2), x_hat.split(self.blocks, 2), strict=True)
        for block, (own, own_hat) in enumerate(pairs):
            name = f"reconstruction_{MODALITIES[block]}"
            terms[name] = self.reconstruction_weights[block], self._error(block, own, own_hat)
        if labels is not None:
            terms |= triplet_terms(
                output.z,
                labels,
                self.triplet_weights,
                margin=self.margin,
                every_label=self.every_label,
            )
        if self.contrast_weight:
            if neighbors is None:
                raise ValueError(
                    "contrast_weight is not 0 and the batch has no neighbors: train on "
                    "(x, labels, neighbors), or set contrast_weight=0."
                )
            terms["contrast"] = self.contrast_weight, self._contrast(output.z, neighbors)
        return weighted_sum(terms)

    def training_loss(self, batch: tuple[Tensor, ...], context: StepContext) -> LossResult:
        """Return the loss of a batch, ``(x,)``, ``(x, labels)`` or ``(x, labels, neighbors)``."""
        x, *rest = batch
        return self.compute_loss(x, self(x), *rest, context=context)

    def _error(self, block: int, x: Tensor, x_hat: Tensor) -> Tensor:
        """Return the mean error over the entries of a modality."""
        if self.reconstruction == "mse":
            return F.mse_loss(x_hat, x)
        if self.reconstruction == "l1":
            return F.l1_loss(x_hat, x)
        likelihood = self.likelihoods[block]
        assert isinstance(likelihood, GaussianLikelihood)
        return -likelihood.log_prob(x, x_hat.unsqueeze(1)).mean() / x[0].numel()

    def _contrast(self, z: Tensor, neighbors: Tensor) -> Tensor:
        """Tell a spot's neighbour from those of others (van den Oord et al. 2018, eq. 4)."""
        draws = torch.rand(neighbors.shape, device=z.device) - (neighbors < 0).to(z)
        picked = neighbors.gather(1, draws.argmax(1, keepdim=True)).squeeze(1)
        anchors = torch.nonzero(picked >= 0).squeeze(1)
        near = self._encode(self.held_rows()[picked[anchors]]).z
        cosines = F.normalize(z[anchors]) @ F.normalize(near).T
        own = torch.arange(len(anchors), device=z.device)
        total = F.cross_entropy(cosines / self.temperature, own, reduction="sum")
        return total / max(1, len(anchors))
