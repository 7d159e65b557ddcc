"""Spots by the rings around them, which ``SpatialStudent`` looks at.

A view of spots brings together what a network needs to start, to learn and to embed; the clusterer
trains the network in between. ``windows`` has the other view.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from skvae.models import STUDENT_TRAINING, SpatialStudent
from skvae.spatial.consensus_members import find_directions
from skvae.spatial.neighbourhoods import Neighbourhoods

# Width in spacings of the kernel by which features are smoothed.
WIDTH = 1.25
N_RINGS = 3
# Neighbours among which the contrast draws.
N_NEAR = 6
# Share of the steps over which the learning rate rises.
WARMUP_SHARE = 0.3
# Spots embedded at a time.
CHUNK_SPOTS = 8192


class RingView:
    """Spots by their own features, smoothed ones, and means over the rings around them.

    Parameters
    ----------
    features : float32 array of shape (n_spots, n_features)
        Centred features.
    around : Neighbourhoods
        Of the same spots.
    width_factor : float
        By which the smoothing kernel is narrowed.

    Attributes
    ----------
    rows : float32 array of shape (n_spots, 5, n_features)
        What ``skvae.models.SpatialStudent`` takes.
    """

    network = "SpatialStudent"

    def __init__(self, features: np.ndarray, around: Neighbourhoods, width_factor: float) -> None:
        self.features, self.around = features, around
        self.rows = np.empty((len(features), 2 + N_RINGS, features.shape[1]), np.float32)
        self.rows[:, 0] = features
        self.rows[:, 1] = around.gaussian_kernel(WIDTH * width_factor) @ features
        for ring in range(1, 1 + N_RINGS):
            self.rows[:, 1 + ring] = around.ring_matrix(ring) @ features

    @staticmethod
    def arguments(params: Mapping[str, Any], n_features: int) -> dict[str, Any]:
        """Return arguments of the network that the clusterer's parameters come to."""
        weights, factor = tuple(params["modality_weights"]), params["triplet_weight"]
        return {
            "latent_dim": min(params["n_components"], n_features),
            "hidden_layer_sizes": tuple(params["hidden_layer_sizes"]),
            "reconstruction_weights": weights,
            "triplet_weights": tuple(factor * weight for weight in weights),
            "contrast_weight": params["contrast_weight"],
        }

    def training(self, max_steps: int) -> dict[str, Any]:
        """Return arguments of ``TrainingConfig``."""
        return {**STUDENT_TRAINING, "warmup_steps": round(WARMUP_SHARE * max_steps)}

    def start(self, model: SpatialStudent, chosen: np.ndarray) -> None:
        """Start the network as factors of largest autocorrelation, scaled by the chosen spots."""
        lag = self.around.lag_matrix()
        (directions,) = find_directions(self.features, lag, [("maf", model.latent_dim)])
        model.start(
            torch.from_numpy(self.rows[chosen]),
            torch.from_numpy(np.ascontiguousarray(directions)),
        )

    def batches(
        self, model: SpatialStudent, chosen: np.ndarray, labels: np.ndarray
    ) -> tuple[Tensor, ...]:
        """Return what the network learns from, given the labels of the chosen spots."""
        parts = torch.from_numpy(self.rows[chosen]), torch.from_numpy(labels)
        if not model.contrast_weight:
            return parts
        model.hold(torch.from_numpy(self.rows))
        return *parts, torch.from_numpy(self.around.nearest(N_NEAR)[chosen]).long()

    def embed(self, model: nn.Module) -> np.ndarray:
        """Return the latents, float64 of shape (n_spots, latent_dim).

        In float64 a spot's result does not depend on its batch.
        """
        model = copy.deepcopy(model).cpu().double()
        with torch.no_grad():
            parts = torch.from_numpy(self.rows).split(CHUNK_SPOTS)
            return torch.cat([model.embed(part.double()) for part in parts]).numpy()
