"""Alpha-precision and beta-recall: fidelity and diversity of the synthetic rows."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
import pandas as pd
from sklearn.utils import check_random_state

from ._distances import nearest
from ._result import CurveResult
from ._tables import Tables, check_count

_LEVELS = np.linspace(0.0, 1.0, 30)


def alpha_precision(
    real,
    synthetic,
    *,
    holdout=None,
    max_rows: int = 8000,
    discrete_columns: Iterable | None = None,
    random_state=0,
) -> CurveResult:
    """Score whether the synthetic rows lie where the real rows lie (fidelity).

    Around the mean of the real rows the ball that holds a share alpha of them should hold the same
    share of the synthetic rows, for every alpha.

    Parameters
    ----------
    real, synthetic : DataFrame or 2-d array
        Tables with the same columns (in any order).
    holdout : DataFrame or 2-d array, optional
        Real rows that the synthesizer never saw, for the ``oracle``.
    max_rows : int, default=8000
        Rows drawn from either table, as many from the one as from the other.
    discrete_columns : iterable of labels, optional
        Columns to treat as discrete whatever their dtype.
    random_state : int, RandomState instance or None, default=0
        Seeds the draw.

    Returns
    -------
    CurveResult
        ``value``, one minus the sum of the distances from the diagonal over the sum of the alphas,
        is at most 1, which is best. ``details`` holds the curve: ``expected`` and ``found`` shares
        and ``score``, one minus their distance.

    See Also
    --------
    beta_recall : Whether all real rows have a synthetic row nearby.

    Notes
    -----
    Section 3 of [1]_ as synthcity computes its "naive" version [2]_, on numbers divided by their
    real range and indicators of levels: the figure of the published tables.

    References
    ----------
    .. [1] Alaa, van Breugel, Saveliev, van der Schaar, "How Faithful is your Synthetic Data?
       Sample-level Metrics for Evaluating and Auditing Generative Models", ICML 2022.
    .. [2] Qian, Cebere, van der Schaar, "Synthcity", arXiv:2301.07573.

    Examples
    --------
    >>> import numpy as np, pandas as pd
    >>> from skvae.metrics import alpha_precision
    >>> rng = np.random.default_rng(0)
    >>> real, fresh = (pd.DataFrame(rng.normal(size=(500, 3))) for _ in range(2))
    >>> bool(alpha_precision(real, fresh).value > 0.9)
    True
    >>> bool(alpha_precision(real, 3 * fresh).value < 0.6)
    True
    """
    options = (max_rows, discrete_columns, random_state)
    return _compare("alpha-precision", _precision, real, synthetic, holdout, *options)


def beta_recall(
    real,
    synthetic,
    *,
    holdout=None,
    max_rows: int = 8000,
    discrete_columns: Iterable | None = None,
    random_state=0,
) -> CurveResult:
    """Score whether the real rows all have a synthetic row nearby (diversity).

    A real row is covered at beta if its nearest synthetic row is no farther than its nearest real
    row, and lies in the ball around the mean of the synthetic rows that holds a share beta of those
    nearest rows.

    Parameters
    ----------
    real, synthetic : DataFrame or 2-d array
        Tables with the same columns (in any order), at least two real rows.
    holdout : DataFrame or 2-d array, optional
        Real rows that the synthesizer never saw, for the ``oracle``.
    max_rows : int, default=8000
        Rows drawn from either table, as many from the one as from the other.
    discrete_columns : iterable of labels, optional
        Columns to treat as discrete whatever their dtype.
    random_state : int, RandomState instance or None, default=0
        Seeds the draw.

    Returns
    -------
    CurveResult
        ``value`` and ``details`` as those of :func:`alpha_precision`. Fresh real rows score about
        one half: **that is the best there is to reach**, and more is a sign of copies.

    Notes
    -----
    As [1]_ and [2]_ there.

    References
    ----------
    .. [1] Alaa, van Breugel, Saveliev, van der Schaar, "How Faithful is your Synthetic Data?
       Sample-level Metrics for Evaluating and Auditing Generative Models", ICML 2022.
    .. [2] Qian, Cebere, van der Schaar, "Synthcity", arXiv:2301.07573.

    Examples
    --------
    >>> import numpy as np, pandas as pd
    >>> from skvae.metrics import beta_recall
    >>> rng = np.random.default_rng(0)
    >>> real, fresh = (pd.DataFrame(rng.normal(size=(500, 3))) for _ in range(2))
    >>> bool(0.4 < beta_recall(real, fresh).value < 0.6)
    True
    >>> bool(beta_recall(real, real.mean() + 0 * fresh).value < 0.1)
    True
    """
    options = (max_rows, discrete_columns, random_state)
    return _compare("beta-recall", _recall, real, synthetic, holdout, *options)


def _compare(name: str, curve: Callable, real, synthetic, holdout, *options) -> CurveResult:
    """Draw a curve of two tables, and for the oracle that of the real rows and the holdout."""
    found = curve(*_drawn(real, synthetic, *options))
    details = pd.DataFrame(
        {"expected": _LEVELS, "found": found, "score": 1.0 - np.abs(_LEVELS - found)}
    )
    oracle = None if holdout is None else _summary(curve(*_drawn(real, holdout, *options)))
    return CurveResult(name, _summary(found), details, oracle)


def _drawn(real, synthetic, max_rows, discrete_columns, random_state) -> list[np.ndarray]:
    """Draw rows of both tables, numbers over their real range and levels as indicators."""
    tables = Tables.of(real, synthetic, discrete_columns=discrete_columns)
    if len(tables.real) < 2:
        raise ValueError("real must have at least two rows.")
    rng = check_random_state(random_state)
    check_count(max_rows, "max_rows")
    n_rows = min(*tables.sizes, max_rows)  # more rows on one side would lie nearer
    rows = [rng.permutation(n)[:n_rows] for n in tables.sizes]
    parts = []
    for column in tables.real.columns:
        if column in tables.numerical:
            cells = tables.numbers(column)
            known = cells[0][np.isfinite(cells[0])]
            low, width = (known.min(), np.ptp(known)) if len(known) else (0.0, 0.0)
            middle = known.mean() if len(known) else 0.0
            cells = [
                np.where(np.isfinite(c), c, middle)[i] for c, i in zip(cells, rows, strict=True)
            ]
            parts.append([((c - low) / (width or 1.0))[:, None] for c in cells])
        else:
            codes, _ = tables.codes(column)
            codes = [c[i] for c, i in zip(codes, rows, strict=True)]
            levels = np.unique(np.concatenate(codes))
            parts.append([(c[:, None] == levels).astype(float) for c in codes])
    return [np.hstack(table).astype(np.float32) for table in zip(*parts, strict=True)]


def _precision(real: np.ndarray, synthetic: np.ndarray) -> np.ndarray:
    centre = real.mean(axis=0)
    radii = np.quantile(np.linalg.norm(real - centre, axis=1), _LEVELS)
    distances = np.sort(np.linalg.norm(synthetic - centre, axis=1))
    return np.searchsorted(distances, radii, side="right") / len(distances)


def _recall(real: np.ndarray, synthetic: np.ndarray) -> np.ndarray:
    to_real = nearest(real, real, k=2)[0][:, 1]
    to_synthetic, which = (found[:, 0] for found in nearest(real, synthetic))
    closest = np.linalg.norm(synthetic[which] - synthetic.mean(axis=0), axis=1)
    radii = np.quantile(closest, _LEVELS)
    covered = to_synthetic <= to_real
    return np.array([np.mean(covered & (closest <= radius)) for radius in radii])


def _summary(found: np.ndarray) -> float:
    return float(1.0 - np.abs(_LEVELS - found).sum() / _LEVELS.sum())
