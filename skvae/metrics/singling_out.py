"""Singling out: descriptions that fit one person."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pandas as pd
from sklearn.utils import check_random_state

from ._result import PrivacyResult
from ._tables import HOLDOUT, REAL, SYNTHETIC, Tables, check_count

# Synthetic rows tried for each description that is wanted.
_TRIES = 4


def singling_out(
    real,
    synthetic,
    holdout,
    *,
    max_columns: int | None = None,
    n_attacks: int = 1000,
    discrete_columns: Iterable | None = None,
    random_state=0,
) -> PrivacyResult:
    """Attack that describes one person so that the description fits nobody else.

    A synthetic row is described column by column, in random order, until the description fits no
    other: by a level, or a number at least as large, or as small, as the row's. Descriptions that
    fit exactly one row learned from, beyond those that fit exactly one of as many rows of a
    holdout, single people out.

    Parameters
    ----------
    real : DataFrame or 2-d array
        The rows that the synthesizer learned from.
    synthetic : DataFrame or 2-d array
        The rows that it wrote.
    holdout : DataFrame or 2-d array
        Real rows of the same population that it never saw, at least two.
    max_columns : int, optional
        Most columns in a description. By default all.
    n_attacks : int, default=1000
        Most descriptions tried on real rows, one a synthetic row.
    discrete_columns : iterable of labels, optional
        Columns to treat as discrete whatever their dtype.
    random_state : int, RandomState instance or None, default=0
        Seeds the draws.

    Returns
    -------
    PrivacyResult
        ``value`` is the risk (attack - control) / (1 - control), of shares of descriptions that fit
        one row: ``ideal`` 0, 1 at worst. ``details`` has one row per ``description`` tried:
        ``n_real`` and ``n_holdout``, how many rows it fits.

    Notes
    -----
    The multivariate singling-out attack of Anonymeter [1]_, where descriptions have a fixed number
    of columns.

    References
    ----------
    .. [1] Giomi, Boenisch, Wehmeyer, Tasnádi, "A Unified Framework for Quantifying Privacy Risk in
       Synthetic Data", PoPETs 2023.

    Examples
    --------
    >>> import numpy as np, pandas as pd
    >>> from skvae.metrics import singling_out
    >>> rng = np.random.default_rng(0)
    >>> real, fresh, holdout = (pd.DataFrame(rng.normal(size=(500, 4))) for _ in range(3))
    >>> singling_out(real, fresh, holdout).flagged
    False
    >>> singling_out(real, real, holdout).flagged
    True
    """
    tables = Tables.with_holdout(real, synthetic, holdout, discrete_columns)
    check_count(n_attacks, "n_attacks")
    if max_columns is not None:
        check_count(max_columns, "max_columns")
    rng = check_random_state(random_state)
    matrices = [matrix.T.copy() for matrix in tables.matrices()]
    is_level = np.array([c in tables.discrete for c in tables.real.columns])
    for matrix in matrices:
        matrix[is_level] = np.nan_to_num(matrix[is_level], nan=-1.0)  # missing is a level
    medians = pd.DataFrame(matrices[SYNTHETIC].T).median().to_numpy()
    n = min(tables.sizes[REAL], tables.sizes[HOLDOUT])
    drawn = [matrices[t][:, rng.permutation(tables.sizes[t])[:n]] for t in (REAL, HOLDOUT)]

    found = []
    for row in rng.permutation(tables.sizes[SYNTHETIC])[: _TRIES * n_attacks]:
        cells = matrices[SYNTHETIC][:, row]
        signs = np.where(is_level, 0, np.where(cells >= medians, 1, -1))
        order = rng.permutation(np.flatnonzero(~np.isnan(cells)))[:max_columns]
        n_fitting = _n_fitting(matrices[SYNTHETIC], order, cells, signs)
        if 1 in n_fitting:
            order = order[: n_fitting.index(1) + 1]
            n_fitting = [_n_fitting(part, order, cells, signs)[-1] for part in drawn]
            found.append((_description(tables, row, order, signs), *n_fitting))
        if len(found) == n_attacks:
            break

    details = pd.DataFrame(found, columns=["description", "n_real", "n_holdout"])
    risk, error = 0.0, 0.0
    if found:
        attack, control = (details[name].eq(1).mean() for name in ("n_real", "n_holdout"))
        risk = (attack - control) / (1.0 - control) if control < 1.0 else 0.0
        smoothed = [(p * len(found) + 1) / (len(found) + 2) for p in (attack, control)]
        spread = sum(p * (1 - p) / len(found) for p in smoothed)
        error = np.sqrt(spread) / max(1.0 - control, 1 / len(found))
    return PrivacyResult(
        "singling out, risk",
        float(risk),
        details,
        ideal=0.0,
        leak=float(risk),
        standard_error=float(error),
    )


def _n_fitting(matrix: np.ndarray, columns, cells, signs) -> list[int]:
    """How many rows a description fits, as one column after the other is added to it."""
    rows, counts = np.arange(matrix.shape[1]), []
    for column in columns:
        x, cell, sign = matrix[column, rows], cells[column], signs[column]
        rows = rows[x == cell if sign == 0 else (x >= cell if sign > 0 else x <= cell)]
        counts.append(len(rows))
    return counts


def _description(tables: Tables, row: int, columns, signs) -> str:
    words = {0: "is", 1: ">=", -1: "<="}
    names, cells = tables.real.columns, tables.synthetic.iloc[row]
    return ", ".join(f"{names[c]} {words[signs[c]]} {cells.iloc[c]}" for c in columns)
