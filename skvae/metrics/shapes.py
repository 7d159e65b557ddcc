"""Column shapes: each column's distribution on its own."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
import pandas as pd

from ._result import MetricResult
from ._tables import Tables

# SDMetrics rounds to 14 decimals so that differences in the last bit count as ties.
_DECIMALS = 1e14
_MAX_BINS = 16_384
# Beyond it, differences of whole numbers leave int64.
_MAX_WHOLE = 2.0**61


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
        (column, "ks", _ks_complement(pair.numbers(column, keep_integers=True)))
        if column in numerical
        else (column, "tv", _tv_complement(pair.level_counts(column)[1]))
        for column in pair.real.columns
    ]
    details = pd.DataFrame(rows, columns=["column", "metric", "score"])
    oracle = None
    if holdout is not None:
        oracle = column_shapes(real, holdout, discrete_columns=discrete_columns).value
    return MetricResult("column shapes", float(details["score"].mean()), details, oracle)


def _ks_complement(samples: list[np.ndarray]) -> float:
    samples = [_known(cells) for cells in samples]
    return 1.0 - _largest_gap(samples) if all(map(len, samples)) else np.nan


def _known(cells: np.ndarray) -> np.ndarray:
    # The minimum of any NaN is NaN.
    return cells[~np.isnan(cells)] if len(cells) and np.isnan(cells.min()) else cells


def _largest_gap(samples: list[np.ndarray]) -> float:
    """Kolmogorov-Smirnov statistic of two samples: the largest gap between their step functions.

    Sorting would take most of the time. Bins of equal width are counted in its place, which tells
    the gap at their ends. Only rows in bins inside which, going by the counts, a larger gap may
    lie are looked at more closely: value by value where few whole numbers fit in, else sorted.
    """
    sizes = [len(cells) for cells in samples]
    # Gaps are whole numbers when a row counts as many as the other table has rows.
    weights = [size // math.gcd(*sizes) for size in reversed(sizes)]
    low = min(cells.min().item() for cells in samples)
    high = max(cells.max().item() for cells in samples)
    if -_MAX_WHOLE < low <= high < _MAX_WHOLE and all(map(_is_whole, samples)):
        samples = [cells.astype(np.int64, copy=False) for cells in samples]
        codes, n_bins, shift = _whole_bins(samples, int(low), int(high))
    else:
        codes, n_bins, shift = _equal_bins(samples, low, high)
    up, down = _rises(codes, weights, n_bins)
    ends = np.cumsum(up - down)
    gap = max(ends.max(), -ends.min())
    if shift != 0:
        is_open = (ends + down > gap) | (ends - up < -gap)
        opened = np.flatnonzero(is_open)
        starts = ends[opened] - up[opened] + down[opened]
        kept = [np.flatnonzero(is_open[c]) for c in codes]
        samples = [cells[k] for cells, k in zip(samples, kept, strict=True)]
        if shift and len(starts) << shift <= 4 * sum(sizes):
            first = np.zeros(n_bins, dtype=np.int64)
            first[opened] = int(low) + ((opened - np.arange(len(opened))) << shift)
            codes = [x - first[c[k]] for x, c, k in zip(samples, codes, kept, strict=True)]
            up, down = _rises(codes, weights, len(starts) << shift)
            inside = np.cumsum((up - down).reshape(-1, 1 << shift), axis=1) + starts[:, None]
            gap = max(gap, np.abs(inside).max(initial=0))
        else:
            gap = max(gap, _gap_inside(samples, [up[opened], down[opened]], starts, weights))
    return float(gap / (sizes[0] * weights[0]))


def _is_whole(cells: np.ndarray) -> bool:
    if cells.dtype.kind == "i":
        return True
    # Most columns that are not whole show it at once.
    return all(bool((np.rint(part) == part).all()) for part in (cells[:50], cells))


def _n_bins(n_rows: int) -> int:
    return min(_MAX_BINS, 1 << (n_rows.bit_length() - 1))


def _whole_bins(samples: list, low: int, high: int) -> tuple[list, int, int]:
    """Bin of each whole number, how many there are, and their width, 2**shift."""
    width, n_rows = high - low, sum(map(len, samples))
    shift = 0 if width < 2 * n_rows else width.bit_length() - _n_bins(n_rows).bit_length() + 1
    codes = [cells - low for cells in samples]
    if shift:
        for c in codes:
            c >>= shift
    return codes, (width >> shift) + 1, shift


def _equal_bins(samples: list, low: float, high: float) -> tuple[list, int, None]:
    """Bin of each number, rounded as SDMetrics does, and how many there are."""
    with np.errstate(all="ignore"):
        low, high = np.rint(low * _DECIMALS), np.rint(high * _DECIMALS)
        scale = np.divide(_n_bins(sum(map(len, samples))) - 1, high - low)
        n_bins = (high - low) * scale
    if not np.isfinite(n_bins):  # one value, or an infinite one
        return [np.zeros(len(cells), dtype=np.int64) for cells in samples], 1, None
    codes = []
    for cells in samples:
        heights = _rounded(cells)
        heights -= low
        heights *= scale
        codes.append(heights.astype(np.int64))
    return codes, int(n_bins) + 1, None


def _rounded(cells: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):
        scaled = cells * _DECIMALS
    return np.rint(scaled, out=scaled)


def _rises(codes: list, weights: list[int], n_bins: int) -> list[np.ndarray]:
    """How far either step function rises within each bin."""
    counts = [np.bincount(c, minlength=n_bins) for c in codes]
    for count, weight in zip(counts, weights, strict=True):
        if weight > 1:
            count *= weight
    return counts


def _gap_inside(samples: list, rises: list, starts: np.ndarray, weights: list[int]) -> int:
    """Largest gap at the values inside intervals, `starts` being the gaps before them."""
    samples = [np.sort(_rounded(x) if x.dtype.kind == "f" else x) for x in samples]
    up, down = (np.cumsum(rise) - rise for rise in rises)
    offsets = starts - up + down
    largest = 0
    for steps, rise, weight in zip(samples, rises, weights, strict=True):
        up, down = (
            np.searchsorted(x, steps, side="right") * w
            for x, w in zip(samples, weights, strict=True)
        )
        gaps = up - down + np.repeat(offsets, rise // weight)
        largest = max(largest, np.abs(gaps).max(initial=0))
    return largest


def _tv_complement(counts: np.ndarray) -> float:
    real, synthetic = counts.sum(axis=1)
    if not real or not synthetic:
        return np.nan
    overlap = np.minimum(counts[0] * synthetic, counts[1] * real).sum()
    return float(overlap / (real * synthetic))
