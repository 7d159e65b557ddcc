"""Checks of what comes with the features of spots: coordinates, slides, morphology."""

from __future__ import annotations

import numpy as np
import pandas as pd
from sklearn.utils import check_array

# Distances are held in float32, which ends at 3e38.
MAX_COORDINATE = 1e30


def check_coordinates(coordinates, n_spots: int | None = None) -> np.ndarray:
    """Return coordinates as float64 of shape (n_spots, 2) or (n_spots, 3).

    Parameters
    ----------
    coordinates : array-like or DataFrame
        Where the spots lie, in any one unit of length.
    n_spots : int or None
        Rows that there must be, if known.

    Raises
    ------
    ValueError
        Another shape or length, or coordinates that are missing or infinite.
    """
    shape = _shape("coordinates", coordinates)
    if len(shape) != 2 or shape[1] not in (2, 3):
        raise ValueError(
            "coordinates must have shape (n_spots, 2) or (n_spots, 3), one row per spot, but "
            f"their shape is {shape}; labels of slides go into slide="
        )
    points = _numbers("coordinates", coordinates)
    if n_spots is not None:
        _check_length("coordinates", points, n_spots)
    _check_finite("coordinates", points, "drop these spots or fill their place in")
    if np.abs(points).max(initial=0) > MAX_COORDINATE:
        raise ValueError(
            f"coordinates reach {np.abs(points).max():.3g}, too far to measure distances in "
            "float32: give them in a larger unit"
        )
    return points


def check_slide(slide, n_spots: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the names of the slides, and the place of each spot's slide among them (int32)."""
    if slide is None:
        return np.zeros(1, dtype=int), np.zeros(n_spots, dtype=np.int32)
    labels = np.asarray(slide)
    if labels.ndim != 1:
        raise ValueError(
            f"slide must hold one label per spot, shape ({n_spots},), but its shape is "
            f"{labels.shape}"
        )
    _check_length("slide", labels, n_spots)
    missing = pd.isna(labels)
    if missing.any():
        raise ValueError(
            f"slide holds {missing.sum()} missing labels, the first in row {missing.argmax()}: "
            "name the slide of each spot, or drop these spots"
        )
    names, codes = np.unique(
        labels.astype(str) if labels.dtype == object else labels, return_inverse=True
    )
    return names, codes.astype(np.int32)


def check_morphology(morphology, n_spots: int, n_features: int | None = None) -> np.ndarray:
    """Return image features as float64 of shape (n_spots, n_image_features).

    ``n_features`` is the number of columns in fit, None in fit itself.

    Raises
    ------
    ValueError
        None where fit had some, another shape, or numbers that are missing or infinite.
    """
    if morphology is None:
        raise ValueError(
            "morphology is missing: the domains were found with image features; pass those of "
            "these spots, or fit with use_morphology=False"
        )
    shape = _shape("morphology", morphology)
    if len(shape) != 2 or shape[1] == 0:
        raise ValueError(
            f"morphology must have shape (n_spots, n_image_features), but its shape is {shape}"
        )
    image = _numbers("morphology", morphology)
    _check_length("morphology", image, n_spots)
    if n_features is not None and image.shape[1] != n_features:
        raise ValueError(
            f"morphology has {image.shape[1]} columns, but had {n_features} in fit: make the "
            "image features of all slides in the same way"
        )
    _check_finite("morphology", image, "fill them in, or drop these spots")
    return image


def _shape(name: str, rows) -> tuple[int, ...]:
    try:
        return np.shape(rows)
    except ValueError:
        raise ValueError(
            f"{name} has rows of different lengths: give as many numbers for each spot"
        ) from None


def _numbers(name: str, rows) -> np.ndarray:
    """Return rows as a float64 array, which may hold NaN."""
    try:
        return check_array(
            rows,
            dtype=np.float64,
            ensure_all_finite=False,
            ensure_min_samples=0,
            input_name=name,
        )
    except ValueError as error:
        reason = str(error).split("\n")[0]
        raise ValueError(
            f"{name} must hold numbers, but: {reason}; names of columns of X go into "
            f"{name}_columns="
        ) from None


def _check_length(name: str, rows: np.ndarray, n_spots: int) -> None:
    if len(rows) != n_spots:
        raise ValueError(
            f"{name} has {len(rows)} rows, but there are {n_spots} spots: give one row per spot, "
            "in the order of X"
        )


def _check_finite(name: str, rows: np.ndarray, way_out: str) -> None:
    bad = ~np.isfinite(rows).all(axis=1)
    if bad.any():
        raise ValueError(
            f"{name} holds NaN or infinity in {bad.sum()} rows, the first of them row "
            f"{bad.argmax()}: {way_out}"
        )
