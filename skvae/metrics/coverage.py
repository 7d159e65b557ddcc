"""Coverage: whether the levels and ranges of the real table come up in the synthetic one."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pandas as pd

from ._result import MetricResult
from ._tables import Tables


def coverage(
    real, synthetic, *, holdout=None, discrete_columns: Iterable | None = None
) -> MetricResult:
    """Score how much of the real levels and ranges the synthetic table covers.

    A discrete column scores the share of its real levels that come up in the synthetic column, a
    numerical one the share of the real range, from least to greatest, that lies within the
    synthetic range. The result is the mean over columns. Missing cells are left out.

    Parameters
    ----------
    real, synthetic : DataFrame or 2-d array
        Tables with the same columns (in any order) and any numbers of rows.
    holdout : DataFrame or 2-d array, optional
        Real rows that the synthesizer never saw, for the ``oracle``.
    discrete_columns : iterable of labels, optional
        Columns to treat as discrete whatever their dtype.

    Returns
    -------
    MetricResult
        ``value`` in 0..1, 1 is best. ``details`` has one row per column: ``column``, ``metric``
        ("levels" or "range"), ``score``, and ``outside``, the share of synthetic cells that hold a
        level the real column lacks, or lie outside its range. Both are NaN where all cells of a
        table are missing.

    Notes
    -----
    The scores are those of SDMetrics' CategoryCoverage and RangeCoverage [1]_. Rare levels and
    extreme values single people out: a synthesizer that protects them covers less, on purpose.

    References
    ----------
    .. [1] DataCebo, SDMetrics, https://docs.sdv.dev/sdmetrics

    Examples
    --------
    >>> import pandas as pd
    >>> from skvae.metrics import coverage
    >>> real = pd.DataFrame({"age": [20, 30, 40, 60], "job": ["a", "b", "c", "d"]})
    >>> synthetic = pd.DataFrame({"age": [20, 25, 40, 50], "job": ["a", "b", "b", "e"]})
    >>> coverage(real, synthetic).details
      column  metric  score  outside
    0    age   range   0.75     0.00
    1    job  levels   0.50     0.25
    """
    tables = Tables.of(real, synthetic, discrete_columns=discrete_columns)
    rows = []
    for column in tables.real.columns:
        if column in tables.numerical:
            rows.append((column, "range", *_range_coverage(*tables.numbers(column))))
        else:
            rows.append((column, "levels", *_level_coverage(tables.level_counts(column)[1])))
    details = pd.DataFrame(rows, columns=["column", "metric", "score", "outside"])
    oracle = None
    if holdout is not None:
        oracle = coverage(real, holdout, discrete_columns=discrete_columns).value
    return MetricResult("coverage", float(details["score"].mean()), details, oracle)


def _range_coverage(real: np.ndarray, synthetic: np.ndarray) -> tuple[float, float]:
    real, synthetic = (cells[~np.isnan(cells)] for cells in (real, synthetic))
    if not len(real) or not len(synthetic):
        return np.nan, np.nan
    low, high = real.min(), real.max()
    outside = float(np.mean((synthetic < low) | (synthetic > high)))
    if not np.isfinite(high - low):
        return np.nan, outside
    if low == high:
        return float((synthetic == low).any()), outside
    missed = max(0.0, synthetic.min() - low) + max(0.0, high - synthetic.max())
    return float(max(0.0, 1.0 - missed / (high - low))), outside


def _level_coverage(counts: np.ndarray) -> tuple[float, float]:
    # The categories of a dtype that no row holds are not there to be covered.
    is_real, is_synthetic = counts > 0
    if not is_real.any() or not is_synthetic.any():
        return np.nan, np.nan
    score = (is_real & is_synthetic).sum() / is_real.sum()
    return float(score), float(counts[1, ~is_real].sum() / counts[1].sum())
