"""Column shapes: each column's distribution on its own."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pandas as pd

from ._result import MetricResult
from ._tables import TablePair

# SDMetrics rounds to this many decimals so that differences in the last bit count as ties.
_DECIMALS = 14


def column_shapes(real, synthetic, *, discrete_columns: Iterable | None = None) -> MetricResult:
    """Score how well the distribution of every single column is reproduced.

    A numerical column scores one minus the Kolmogorov-Smirnov statistic, the largest distance
    between the two empirical distribution functions. Any other column scores one minus the total
    variation distance, half the sum over levels of the absolute difference in frequency. The
    result is the mean over columns. Missing cells are left out.

    Parameters
    ----------
    real, synthetic : DataFrame or 2-d array
        Tables with the same columns (in any order) and any numbers of rows.
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
    1/sqrt(n); compare with a real holdout scored as if it were synthetic.

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
    pair = TablePair.of(real, synthetic, discrete_columns)
    numerical = set(pair.numerical)
    rows = [
        (column, "ks", _ks_complement(*pair.numbers(column)))
        if column in numerical
        else (column, "tv", _tv_complement(*pair.codes(column)))
        for column in pair.real.columns
    ]
    details = pd.DataFrame(rows, columns=["column", "metric", "score"])
    return MetricResult("column shapes", float(details["score"].mean()), details)


def _ks_complement(real: np.ndarray, synthetic: np.ndarray) -> float:
    real, synthetic = (cells[~np.isnan(cells)] for cells in (real, synthetic))
    if not len(real) or not len(synthetic):
        return np.nan
    low = min(real.min(), synthetic.min())
    width = max(real.max(), synthetic.max()) - low
    if width <= 4 * (len(real) + len(synthetic)) and _whole(real) and _whole(synthetic):
        counts = (
            np.bincount((cells - low).astype(np.int64), minlength=int(width) + 1)
            for cells in (real, synthetic)
        )
        distributions = [np.cumsum(count) / count.sum() for count in counts]
        return 1.0 - float(np.abs(np.subtract(*distributions)).max())

    real, synthetic = (np.sort(_rounded(cells)) for cells in (real, synthetic))
    # The largest gap between two step functions lies at a step of one of them.
    largest = 0.0
    for steps in (real, synthetic):
        gap = np.searchsorted(real, steps, side="right") / len(real)
        gap -= np.searchsorted(synthetic, steps, side="right") / len(synthetic)
        largest = max(largest, float(np.abs(gap).max()))
    return 1.0 - largest


def _whole(cells: np.ndarray) -> bool:
    return bool((np.rint(cells) == cells).all())


def _rounded(cells: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore", invalid="ignore"):
        rounded = np.round(cells, _DECIMALS)
    return np.where(np.isfinite(rounded), rounded, cells)


def _tv_complement(real: np.ndarray, synthetic: np.ndarray, n_levels: int) -> float:
    frequencies = []
    for codes in (real, synthetic):
        counts = np.bincount(codes[codes >= 0], minlength=n_levels)
        if not counts.sum():
            return np.nan
        frequencies.append(counts / counts.sum())
    return float(np.minimum(*frequencies).sum())
