"""Attribute inference: a cell of a person, guessed from the others."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pandas as pd
from sklearn.utils import check_random_state

from ._distances import encode, nearest, rows_of
from ._result import PrivacyResult
from ._tables import HOLDOUT, REAL, SYNTHETIC, Tables, as_list, check_count

# A guess of a number is right within this share of the span from the 5th to the 95th percentile.
_NUMBER_TOLERANCE = 0.05


def attribute_inference(
    real,
    synthetic,
    holdout,
    *,
    columns: Iterable | None = None,
    n_attacks: int = 1000,
    discrete_columns: Iterable | None = None,
    random_state=0,
) -> PrivacyResult:
    """Attack that guesses one cell of a person whose other cells are known.

    The guess is the cell of the synthetic row nearest in the other columns. What it gets right of
    the rows learned from beyond what it gets right of a holdout is not knowledge of the population
    but of these people.

    Parameters
    ----------
    real : DataFrame or 2-d array
        The rows that the synthesizer learned from.
    synthetic : DataFrame or 2-d array
        The rows that it wrote.
    holdout : DataFrame or 2-d array
        Real rows of the same population that it never saw, at least two.
    columns : iterable of labels, optional
        The columns to guess, one at a time. By default all.
    n_attacks : int, default=1000
        Rows asked on either side.
    discrete_columns : iterable of labels, optional
        Columns to treat as discrete whatever their dtype.
    random_state : int, RandomState instance or None, default=0
        Seeds the draws.

    Returns
    -------
    PrivacyResult
        ``value`` is the risk (attack - control) / (1 - control), of the shares of cells guessed
        right: ``ideal`` 0, 1 at worst. ``details`` has one row per ``column``: its shares
        ``attack`` and ``control``, its ``risk``, and ``score``, one minus the risk.

    Notes
    -----
    The inference attack of Anonymeter [1]_. A level counts as right when it is the same, a number
    within a twentieth of the span between the real 5th and 95th percentiles.

    References
    ----------
    .. [1] Giomi, Boenisch, Wehmeyer, Tasnádi, "A Unified Framework for Quantifying Privacy Risk in
       Synthetic Data", PoPETs 2023.

    Examples
    --------
    >>> import numpy as np, pandas as pd
    >>> from skvae.metrics import attribute_inference
    >>> rng = np.random.default_rng(0)
    >>> real, fresh, holdout = (pd.DataFrame(rng.normal(size=(500, 4))) for _ in range(3))
    >>> attribute_inference(real, fresh, holdout).flagged
    False
    >>> attribute_inference(real, real, holdout).value
    1.0
    """
    tables = Tables.with_holdout(real, synthetic, holdout, discrete_columns)
    if tables.real.shape[1] < 2:
        raise ValueError("attribute_inference needs tables of at least two columns.")
    secrets = list(tables.real.columns) if columns is None else as_list(columns, "columns")
    unknown = [c for c in secrets if c not in tables.real.columns]
    if unknown or not secrets:
        raise ValueError(
            f"columns must name some columns of the tables; it has {unknown or 'none'}."
        )
    rng = check_random_state(random_state)
    check_count(n_attacks, "n_attacks")
    blocks = encode(tables)
    n = min(tables.sizes[REAL], tables.sizes[HOLDOUT], n_attacks)
    rows = {table: rng.permutation(tables.sizes[table])[:n] for table in (REAL, HOLDOUT)}
    hits = {table: np.empty((n, len(secrets))) for table in rows}
    for j, secret in enumerate(secrets):
        written = rows_of(blocks, SYNTHETIC, without=secret)
        for table, asked in rows.items():
            _, guess = nearest(rows_of(blocks, table, asked, without=secret), written)
            hits[table][:, j] = _is_right(tables, secret, table, asked, guess[:, 0])

    attack, control = (hits[table].mean(axis=0) for table in rows)
    left = 1.0 - control
    risk = np.divide(attack - control, left, out=np.zeros(len(left)), where=left > 0)
    value = float((attack - control).sum() / left.sum()) if left.any() else 0.0
    details = pd.DataFrame(
        {
            "column": secrets,
            "attack": attack,
            "control": control,
            "risk": risk,
            "score": 1.0 - risk,
        }
    )
    spreads = [hits[table].mean(axis=1).var() / n for table in rows]
    return PrivacyResult(
        "attribute inference, risk",
        value,
        details,
        ideal=0.0,
        leak=value,
        standard_error=float(np.sqrt(sum(spreads))) / (left.mean() or 1.0),
    )


def _is_right(
    tables: Tables, secret, table: int, asked: np.ndarray, guess: np.ndarray
) -> np.ndarray:
    if secret in tables.numerical:
        cells = tables.numbers(secret)
        known = cells[REAL][~np.isnan(cells[REAL])]
        span = np.subtract(*np.quantile(known, [0.95, 0.05])) if len(known) else 0.0
        truth, guessed = cells[table][asked], cells[SYNTHETIC][guess]
        both_missing = np.isnan(truth) & np.isnan(guessed)
        return (np.abs(truth - guessed) <= _NUMBER_TOLERANCE * span) | both_missing
    codes, _ = tables.codes(secret)
    return codes[table][asked] == codes[SYNTHETIC][guess]
