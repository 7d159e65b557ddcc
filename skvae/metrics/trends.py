"""Pair trends: the dependence between every two columns."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import combinations

import numpy as np
import pandas as pd

from ._result import MetricResult
from ._tables import Tables

_N_BINS = 10
# Below this many cells a contingency table is counted densely, above it by its occupied cells.
_MAX_DENSE_CELLS = 1_000_000
# A variance below this share of the column's own is rounding noise: the column is constant there.
_ZERO_VARIANCE = 1e-13


def pair_trends(
    real,
    synthetic,
    *,
    bins: str = "own",
    holdout=None,
    discrete_columns: Iterable | None = None,
) -> MetricResult:
    """Score how well the dependence between every two columns is reproduced.

    Two numerical columns score ``1 - |r_real - r_synthetic| / 2`` with Pearson's correlation *r*
    over the rows where both are present. Any other pair scores one minus the total variation
    distance between the two contingency tables of relative frequencies, numerical columns cut
    into 10 bins of equal width. The result is the mean over pairs.

    Parameters
    ----------
    real, synthetic : DataFrame or 2-d array
        Tables with the same columns (in any order), at least two, and any numbers of rows.
    bins : {"own", "real"}, default="own"
        Where the edges of the bins come from. With "own", SDMetrics' behaviour, each table is cut
        by its own range; one new maximum in the synthetic table then moves all its bins. With
        "real" both are cut at the edges of the real table; this is the figure to look at when
        columns have long tails.
    holdout : DataFrame or 2-d array, optional
        Real rows that the synthesizer never saw. Scored as if they were synthetic, they give the
        ``oracle``: what to expect of a perfect synthesizer at that number of rows.
    discrete_columns : iterable of labels, optional
        Columns to treat as discrete whatever their dtype, such as integer codes. By default
        numbers, dates and durations are numerical, and everything else is discrete.

    Returns
    -------
    MetricResult
        ``value`` in 0..1, 1 is best. ``details`` has one row per pair: ``column_1``,
        ``column_2``, ``metric`` ("correlation" or "contingency"), the two correlations ``real``
        and ``synthetic`` where they apply, and ``score``, which is NaN, and left out of the mean,
        where a correlation is not defined (a constant column).

    See Also
    --------
    column_shapes : Each column on its own.

    Notes
    -----
    With ``bins="own"`` equal to the "Column Pair Trends" property of SDMetrics 0.32 [1]_ as used
    in the literature, without the thresholds that its ``QualityReport`` now applies by default,
    and on all rows, where SDMetrics draws 50,000 from longer tables. A missing cell of a discrete
    column is a level of its own. A missing or infinite cell of a numerical column is left out of
    correlations; in contingency tables it is a level of its own with ``bins="real"``, and falls
    in with the column's maximum with ``bins="own"``, as in SDMetrics.

    Independent columns already score well, as most pairs hardly depend on each other: on census
    data shuffling every column on its own scores .93. Compare with the oracle.

    References
    ----------
    .. [1] DataCebo, SDMetrics, quality report, metrics CorrelationSimilarity and
       ContingencySimilarity, https://docs.sdv.dev/sdmetrics

    Examples
    --------
    >>> import pandas as pd
    >>> from skvae.metrics import pair_trends
    >>> real = pd.DataFrame({"x": [1, 2, 3, 4], "y": [1, 2, 3, 4], "z": list("aabb")})
    >>> synthetic = real.assign(y=[4, 3, 2, 1])
    >>> result = pair_trends(real, synthetic)
    >>> round(result.value, 6)
    0.333333
    >>> result.details[["column_1", "column_2", "metric", "score"]]
      column_1 column_2       metric  score
    0        x        y  correlation    0.0
    1        x        z  contingency    1.0
    2        y        z  contingency    0.0
    """
    if bins not in ("own", "real"):
        raise ValueError(f'bins must be "own" or "real", not {bins!r}.')
    pair = Tables.of(real, synthetic, discrete_columns=discrete_columns)
    if pair.real.shape[1] < 2:
        raise ValueError("pair_trends needs tables of at least two columns.")

    numbers = {column: [_finite(x) for x in pair.numbers(column)] for column in pair.numerical}
    position = {column: j for j, column in enumerate(pair.numerical)}
    correlations = [
        _correlations(np.stack([numbers[c][side] for c in pair.numerical]))
        if pair.numerical
        else None
        for side in (0, 1)
    ]
    levels = {column: _levels_of_codes(*pair.codes(column)) for column in pair.discrete}
    if pair.discrete:  # else every pair is a correlation
        levels |= {c: _levels_of_numbers(*numbers[c], shared=bins == "real") for c in numbers}

    rows = []
    for a, b in combinations(pair.real.columns, 2):
        if a in position and b in position:
            r_real, r_synthetic = (r[position[a], position[b]] for r in correlations)
            score = 1.0 - abs(r_real - r_synthetic) / 2.0
            rows.append((a, b, "correlation", r_real, r_synthetic, score))
        else:
            score = _contingency_overlap(levels[a], levels[b])
            rows.append((a, b, "contingency", np.nan, np.nan, score))
    names = ["column_1", "column_2", "metric", "real", "synthetic", "score"]
    details = pd.DataFrame(rows, columns=names)
    oracle = None
    if holdout is not None:
        oracle = pair_trends(real, holdout, bins=bins, discrete_columns=discrete_columns).value
    return MetricResult("pair trends", float(details["score"].mean()), details, oracle)


def _finite(cells: np.ndarray) -> np.ndarray:
    return np.where(np.isfinite(cells), cells, np.nan)


def _correlations(columns: np.ndarray) -> np.ndarray:
    """Pearson's r of every two rows of `columns` where both are present; NaN if undefined.

    All pairs at once: one matrix product, or four where cells are missing.
    """
    x = columns.copy()
    missing = np.isnan(x)
    complete = not missing.any()
    if not complete:
        x[missing] = 0.0
    n_present = np.maximum((~missing).sum(axis=1), 1)
    first = np.take_along_axis(columns, missing.argmin(axis=1)[:, None], axis=1)
    varies = ((columns != first) & ~missing).any(axis=1)

    x -= (x.sum(axis=1) / n_present)[:, None]
    if not complete:
        x[missing] = 0.0
    spread = np.sqrt(np.einsum("ij,ij->i", x, x) / n_present)
    x *= np.divide(1.0, spread, out=np.zeros_like(spread), where=varies)[:, None]

    if complete:  # every mean is 0 and every variance 1, or 0 where constant
        covariance = x @ x.T / x.shape[1]
        variance = np.repeat(varies.astype(float)[:, None], len(x), axis=1)
    else:
        present = (~missing).astype(float)
        n = np.maximum(present @ present.T, 1)
        means = x @ present.T / n  # [i, j]: of column i over the rows where j is present too
        covariance = x @ x.T / n - means * means.T
        variance = (x**2) @ present.T / n - means**2
    variance = np.where(variance > _ZERO_VARIANCE, variance, np.nan)
    return np.clip(covariance / np.sqrt(variance * variance.T), -1.0, 1.0)


def _levels_of_codes(tables: list[np.ndarray], n_levels: int) -> tuple:
    """Codes with the missing cells as one more level."""
    return *(np.where(codes < 0, n_levels, codes) for codes in tables), n_levels + 1


def _levels_of_numbers(real: np.ndarray, synthetic: np.ndarray, *, shared: bool) -> tuple:
    """Code of the bin of each cell: 0 below the edges, 1 to 10 within, 11 from the last edge on."""
    tables = []
    edges = _edges(real)
    for cells in (real, synthetic):
        codes = np.digitize(cells, edges if shared else _edges(cells))
        # numpy sorts NaN after everything, so it lands where the maximum does.
        tables.append(np.where(np.isnan(cells), _N_BINS + 2, codes) if shared else codes)
    return *tables, _N_BINS + 3


def _edges(cells: np.ndarray) -> np.ndarray:
    return np.histogram_bin_edges(cells[~np.isnan(cells)], bins=_N_BINS)


def _contingency_overlap(a: tuple, b: tuple) -> float:
    """One minus the total variation distance between the tables' joint frequencies."""
    width = b[2]
    cells = [codes_a * width + codes_b for codes_a, codes_b in zip(a[:2], b[:2], strict=True)]
    n_cells = a[2] * width
    if n_cells > _MAX_DENSE_CELLS:
        occupied, codes = np.unique(np.concatenate(cells), return_inverse=True)
        cells = np.split(codes, [len(cells[0])])
        n_cells = len(occupied)
    real, synthetic = (np.bincount(c, minlength=n_cells) / len(c) for c in cells)
    return float(np.minimum(real, synthetic).sum())
