"""The encoded table, and what is read off its codes."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from scipy.stats import rankdata


@dataclass
class EncodedTable:
    """A table as arrays: what the models train on.

    Attributes
    ----------
    codes : int64 array of shape (n_rows, n_columns)
        The mode (level, atom, bin, missing, ...) of each cell, from 0.
    places : float32 array of shape (n_rows, n_columns)
        Place within the mode; 0 in columns that have none.
    mode_places : list of float64 arrays of shape (n_rows, n_modes)
        For each column in the mixture encoding, the places within all of its modes; only where a
        density is asked for.
    """

    codes: np.ndarray
    places: np.ndarray
    mode_places: list[np.ndarray] = field(default_factory=list)


def mean_ranks(order: np.ndarray, codes: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Mean rank in (0, 1) of the rows behind each code; .5 for the missing ones."""
    present = ~np.isnan(order)
    if not present.any():
        return np.full(len(counts), 0.5)
    ranks = (rankdata(order[present]) - 0.5) / present.sum()
    sums = np.bincount(codes[present], weights=ranks, minlength=len(counts))
    seen = np.bincount(codes[present], minlength=len(counts))
    known = np.flatnonzero(seen)
    # A code without rows lies between its neighbours.
    scores = np.interp(np.arange(len(counts)), known, sums[known] / seen[known])
    scores[(seen == 0) & (counts > 0)] = 0.5
    return np.clip(scores, 0.001, 0.999)
