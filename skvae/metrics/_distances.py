"""Distances between rows of mixed tables."""

from __future__ import annotations

import numpy as np
from sklearn.neighbors import NearestNeighbors

from ._tables import Tables

# A column of more levels is coded by this many random signs, so that memory stays bounded.
_MAX_ONE_HOT = 64


def encode(tables: Tables) -> dict:
    """Code rows so that the squared Euclidean distance adds up how far their cells are apart.

    Numbers become ranks among the real ones, from 0 to 1, and two different levels, or a missing
    and a known cell, are 1 apart: Gower's distance [1]_, squared and by ranks, which no outlier
    compresses. In columns of more than 64 levels they are 1 apart only on average.

    Returns
    -------
    blocks : dict
        For each column one float32 array per table, of shape (n_rows, width of the column).

    References
    ----------
    .. [1] J. C. Gower, "A General Coefficient of Similarity and Some of Its Properties",
       Biometrics 27, 1971.
    """
    blocks = {}
    for column in tables.real.columns:
        if column in tables.numerical:
            blocks[column] = _ranks(tables.numbers(column))
        else:
            blocks[column] = _indicators(*tables.codes(column))
    return blocks


def rows_of(blocks: dict, table: int, rows=slice(None), *, without=None) -> np.ndarray:
    """Return the coded rows of one table, all columns side by side but the one left out."""
    kept = [parts[table][rows] for column, parts in blocks.items() if column != without]
    return np.hstack(kept)


def nearest(queries: np.ndarray, targets: np.ndarray, k: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Distances to the `k` nearest targets of each query, and which they are; (n, k) both."""
    return NearestNeighbors(n_neighbors=k, algorithm="brute").fit(targets).kneighbors(queries)


def _ranks(numbers: list[np.ndarray]) -> list[np.ndarray]:
    known = np.sort(numbers[0][~np.isnan(numbers[0])])
    blocks = []
    some_missing = any(np.isnan(cells).any() for cells in numbers)
    for cells in numbers:
        below = np.searchsorted(known, cells) + np.searchsorted(known, cells, side="right")
        missing = np.isnan(cells)
        block = [np.where(missing, 0.5, below / max(1, 2 * len(known)))]
        if some_missing:
            # The ranks themselves are 1/12 from the middle on average, squared.
            block.append(missing * np.sqrt(11 / 12))
        blocks.append(np.column_stack(block).astype(np.float32))
    return blocks


def _indicators(codes: list[np.ndarray], n_levels: int) -> list[np.ndarray]:
    if n_levels < _MAX_ONE_HOT:
        code_book = np.eye(n_levels + 1, dtype=np.float32) / np.float32(np.sqrt(2.0))
    else:
        signs = np.random.default_rng(0).integers(0, 2, (n_levels + 1, _MAX_ONE_HOT)) * 2 - 1
        code_book = signs.astype(np.float32) / np.float32(np.sqrt(2.0 * _MAX_ONE_HOT))
    return [code_book[c] for c in codes]  # a missing cell, -1, is the last level
