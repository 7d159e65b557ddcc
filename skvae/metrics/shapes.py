"""Column shapes: each column's distribution on its own."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
import pandas as pd

from ._result import MetricResult
from ._tables import Tables

# SDMetrics rounds to this many decimals so that differences in the last bit count as ties.
_DECIMALS = 14
_N_BINS = 16_384


def column_shapes(
    real, synthetic, *, holdout=None, discrete_columns: Iterable | None = None
) -> MetricResult:
    """Score how well the distribution of every single column is reproduced.

    A numerical column scores one minus the Kolmogorov-Smirnov statistic, the largest distance
    between the two empirical distribution functions. Any other column scores one minus the total
    variation distance, half the sum over levels of the absolute difference in frequency. The
    result is the mean over columns. Missing cells are left out.

    Parameters
    ----------
    real, synthetic : DataFrame or 2-d array
        Tables with the same columns (in any order) and any numbers of rows.
    holdout : DataFrame or 2-d array, optional
        Real rows that the synthesizer never saw. Scored as if they were synthetic, they give the
        ``oracle``: what to expect of a perfect synthesizer at that number of rows.
    discrete_columns : iterable of labels, optional
        Columns to treat as discrete whatever their dtype, such as integer codes. By default
        numbers, dates and durations are numerical, and everything else is discrete.

    Returns
    -------
    MetricResult
        ``value`` in 0..1, 1 is best, 0 means disjoint. ``details`` has one row per column:
        ``column``, ``metric`` ("ks" or "tv") and ``score``, which is NaN, and left out of the
        mean, where all cells of a table are missing.

    See Also
    --------
    pair_trends : The dependence between columns.

    Notes
    -----
    Equal to the "Column Shapes" property of SDMetrics 0.32 [1]_, save for a term of 1e-6 counts
    that SDMetrics adds to levels that the real table lacks. A perfect marginal says nothing about
    the rest: shuffling every column on its own leaves this score at 1.

    A real sample does not score 1 either. The expected error of a sample of *n* rows falls as
    1/sqrt(n); that is what `holdout` is for.

    References
    ----------
    .. [1] DataCebo, SDMetrics, quality report, metrics KSComplement and TVComplement,
       https://docs.sdv.dev/sdmetrics

    Examples
    --------
    >>> import pandas as pd
    >>> from skvae.metrics import column_shapes
    >>> real = pd.DataFrame({"age": [20, 30, 40, 50], "sex": ["f", "m", "f", "m"]})
    >>> synthetic = pd.DataFrame({"age": [20, 30, 30, 50], "sex": ["f", "f", "f", "m"]})
    >>> result = column_shapes(real, synthetic)
    >>> result.value
    0.75
    >>> result.details
      column metric  score
    0    age     ks   0.75
    1    sex     tv   0.75
    """
    pair = Tables.of(real, synthetic, discrete_columns=discrete_columns)
    numerical = set(pair.numerical)
    rows = [
        (column, "ks", _ks_complement(*pair.numbers(column)))
        if column in numerical
        else (column, "tv", _tv_complement(*pair.level_counts(column)))
        for column in pair.real.columns
    ]
    details = pd.DataFrame(rows, columns=["column", "metric", "score"])
    oracle = None
    if holdout is not None:
        oracle = column_shapes(real, holdout, discrete_columns=discrete_columns).value
    return MetricResult("column shapes", float(details["score"].mean()), details, oracle)


def _ks_complement(real: np.ndarray, synthetic: np.ndarray) -> float:
    samples = [_known(real), _known(synthetic)]
    return 1.0 - _largest_gap(samples) if all(map(len, samples)) else np.nan


def _known(cells: np.ndarray) -> np.ndarray:
    missing = np.isnan(cells)
    return cells[~missing] if missing.any() else cells


def _largest_gap(samples: list[np.ndarray]) -> float:
    """Kolmogorov-Smirnov statistic of two samples: the largest gap between their step functions.

    Sorting would take most of the time. Bins of equal width are counted in its place, which tells
    the gap at their ends. Only rows in bins inside which, going by the counts, a larger gap may
    lie are looked at more closely: value by value where few whole numbers fit in, else sorted.
    """
    whole = all(bool((np.rint(cells) == cells).all()) for cells in samples)
    if not whole:
        samples = [_rounded(cells) for cells in samples]
    codes, heights, n_bins, unit = _equal_bins(samples, whole)
    gap, starts, ends = _gap_at_ends(codes, np.zeros((2, 1), dtype=np.int64), n_bins)
    if whole and unit == 1:
        return gap
    sizes = [len(cells) for cells in samples]
    low, high = (rows.T / sizes for rows in (starts, ends))
    is_open = np.maximum(high[:, 0] - low[:, 1], high[:, 1] - low[:, 0]) > gap
    below = starts[:, is_open]
    rank = np.cumsum(is_open) - 1
    kept = [np.flatnonzero(is_open[c]) for c in codes]
    codes = [c[k] for c, k in zip(codes, kept, strict=True)]
    if unit and below.shape[1] * unit <= 4 * sum(sizes):
        heights = [h[k].astype(np.int64) for h, k in zip(heights, kept, strict=True)]
        codes = [rank[c] * unit + h - c * unit for c, h in zip(codes, heights, strict=True)]
        return max(gap, _gap_at_ends(codes, below, unit, sizes)[0])
    samples = [cells[k] for cells, k in zip(samples, kept, strict=True)]
    return max(gap, _gap_inside(samples, [rank[c] for c in codes], below, sizes))


def _rounded(cells: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore", invalid="ignore"):
        rounded = np.round(cells, _DECIMALS)
    finite = np.isfinite(rounded)
    return rounded if finite.all() else np.where(finite, rounded, cells)


def _equal_bins(samples: list, whole: bool) -> tuple[list, list, int, int]:
    """Bin of each cell, its height above the lowest, the number of bins, and their width.

    The width is a power of two where all cells are whole, and otherwise not told.
    """
    low = min(cells.min() for cells in samples)
    with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
        width = max(cells.max() for cells in samples) - low
        scale = (_N_BINS - 1) / width
        scalable = np.isfinite(width * scale)
    if not scalable:  # one value, or an infinite one
        return [np.zeros(len(cells), dtype=np.int64) for cells in samples], samples, 1, 0
    unit = 0
    if whole:
        unit = 1 << max(0, math.ceil(math.log2((width + 1) / _N_BINS)))
        scale = 1.0 / unit
    heights = [cells - low for cells in samples]
    codes = [(h * scale).astype(np.int64) for h in heights]
    return codes, heights, int(width * scale) + 1, unit


def _gap_at_ends(codes: list, below: np.ndarray, n_parts: int, sizes=None) -> tuple:
    """Largest gap at the ends of bins, and the rows of either table up to their two ends.

    The bins are `n_parts` parts of each of some intervals, which have `below` rows below them.
    """
    n_bins = below.shape[1] * n_parts
    counts = np.stack([np.bincount(c, minlength=n_bins) for c in codes])
    ends = np.cumsum(counts.reshape(2, -1, n_parts), axis=2) + below[:, :, None]
    ends = ends.reshape(2, -1)
    real, synthetic = sizes or map(len, codes)
    gap = np.abs(ends[0] / real - ends[1] / synthetic).max(initial=0.0)
    return float(gap), ends - counts, ends


def _gap_inside(samples: list, codes: list, below: np.ndarray, sizes: list[int]) -> float:
    """Largest gap at the values inside intervals that have `below` rows below them."""
    samples, codes = ([np.sort(x) for x in arrays] for arrays in (samples, codes))
    firsts = [np.searchsorted(c, np.arange(below.shape[1])) for c in codes]
    largest = 0.0
    for steps, intervals in zip(samples, codes, strict=True):
        shares = [
            (np.searchsorted(x, steps, side="right") + (b - first)[intervals]) / n
            for x, b, first, n in zip(samples, below, firsts, sizes, strict=True)
        ]
        largest = max(largest, float(np.abs(shares[0] - shares[1]).max(initial=0.0)))
    return largest


def _tv_complement(real: dict, synthetic: dict) -> float:
    n_real, n_synthetic = sum(real.values()), sum(synthetic.values())
    if not n_real or not n_synthetic:
        return np.nan
    shared = real.keys() & synthetic.keys()
    return sum(min(real[level] / n_real, synthetic[level] / n_synthetic) for level in shared)
