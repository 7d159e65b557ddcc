"""Spots by the window of lattice cells around them, which the network of AESTETIK looks at."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from skvae.models import WINDOW_TRAINING, WindowAutoencoder
from skvae.spatial.lattices import HEX, window_indices
from skvae.spatial.neighbourhoods import Neighbourhoods

# Spots embedded at a time: a window has many cells.
CHUNK_SPOTS = 1024


class WindowView:
    """Spots by the cells of a lattice around them.

    Parameters
    ----------
    features : float32 array of shape (n_spots, n_features)
        Features.
    around : Neighbourhoods
        Of the same spots.
    size : int
        Cells along a side, odd.
    paper : bool, default=False
        Whether windows are those of the paper: of array coordinates, in which a hexagonal lattice
        leaves every second cell empty, with medians in empty cells and features in [0, 1].

    Attributes
    ----------
    windows : int32 array of shape (n_spots, size * size)
        The spot in each cell, row by row; -1 where there is none.

    Raises
    ------
    ValueError
        The spots of a slide lie on no lattice.
    """

    network = "WindowAutoencoder"

    def __init__(
        self, features: np.ndarray, around: Neighbourhoods, size: int, *, paper: bool = False
    ) -> None:
        self.features = features
        kind, cells = find_lattice(around)
        if paper and kind == HEX:
            cells = np.column_stack([cells[:, 0], 2 * cells[:, 1] + cells[:, 0]])
        self.windows = window_indices(cells, size, around.slides)

    @staticmethod
    def arguments(params: Mapping[str, Any], n_features: int) -> dict[str, Any]:
        """Return arguments of the network that the clusterer's parameters come to."""
        expression, morphology = params["modality_weights"]
        paper = params["neighbourhood"] == "paper_window"
        return {
            "latent_dim": params["n_components"],
            "window": params["window_size"],
            "hidden_channels": int(params["hidden_layer_sizes"][0]),
            "total_weight": expression + morphology,
            "morphology_weight": morphology,
            "triplet_weight": params["triplet_weight"],
            "missing": "median" if paper else "mask",
            "bounded": paper,
        }

    def training(self, max_steps: int) -> dict[str, Any]:
        """Return arguments of ``TrainingConfig``."""
        return WINDOW_TRAINING["paper"]

    def start(self, model: WindowAutoencoder, chosen: np.ndarray) -> None:
        """Set the scales of the features by the chosen spots."""
        model.start(torch.from_numpy(self.features[chosen]))

    def batches(
        self, model: WindowAutoencoder, chosen: np.ndarray, labels: np.ndarray
    ) -> tuple[Tensor, ...]:
        """Return what the network learns from, given the labels of the chosen spots."""
        model.hold(torch.from_numpy(self.features))
        return torch.from_numpy(self.windows[chosen]).long(), torch.from_numpy(labels)

    def embed(self, model: nn.Module) -> np.ndarray:
        """Return the latents, float64 of shape (n_spots, latent_dim), without dropout."""
        model = copy.deepcopy(model).cpu().double()
        model.hold(torch.from_numpy(self.features))
        with torch.no_grad():
            parts = torch.from_numpy(self.windows).split(CHUNK_SPOTS)
            return torch.cat([model.embed(part.long()) for part in parts]).numpy()


def find_lattice(around: Neighbourhoods) -> tuple[str, np.ndarray]:
    """Return the kind of lattice and the cells of spots; a slide of one spot is one cell.

    Raises
    ------
    ValueError
        The spots of a slide lie on no lattice.
    """
    sizes = np.bincount(around.slides)
    alone = sizes[around.slides] == 1
    cells = np.zeros((around.n_spots, 2), dtype=np.int32)
    if alone.all():
        return HEX, cells
    slides = around
    if alone.any():
        kept = around.slide_names[around.slides[~alone]]
        slides = Neighbourhoods(around.coordinates[~alone], kept)
    try:
        kind, cells[~alone] = slides.lattice_cells()
    except ValueError as error:
        raise ValueError(f"{error}. Take neighbourhood='rings'.") from None
    return kind, cells
