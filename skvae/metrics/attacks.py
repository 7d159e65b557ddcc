"""Privacy by attack: what someone with the synthetic table finds out about the real people."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
import pandas as pd
from sklearn.metrics import roc_auc_score
from sklearn.utils import check_random_state

from ._distances import encode, nearest, rows_of
from ._result import PrivacyResult
from ._tables import Tables
from .privacy import _HOLDOUT, _REAL, _SYNTHETIC, _with_holdout

# A guess of a number is right within this share of the span from the 5th to the 95th percentile.
_NUMBER_TOLERANCE = 0.05
# Synthetic rows tried for each description that is wanted.
_TRIES = 4


def membership_inference(
    real,
    synthetic,
    holdout,
    *,
    score_samples: Callable | None = None,
    max_rows: int = 5000,
    discrete_columns: Iterable | None = None,
    random_state=0,
) -> PrivacyResult:
    """Attack that tells the rows learned from and other real rows apart.

    As many real rows as rows of the holdout are put in order of suspicion: how near the nearest
    synthetic row lies or, with `score_samples`, how likely the row is under the model. The value is
    the area under the ROC curve of that order.

    Parameters
    ----------
    real : DataFrame or 2-d array
        The rows that the synthesizer learned from.
    synthetic : DataFrame or 2-d array
        The rows that it wrote.
    holdout : DataFrame or 2-d array
        Real rows of the same population that it never saw, at least two.
    score_samples : callable, optional
        Takes rows in the container of `real` and returns a log density each, such as
        ``TVAESynthesizer.score_samples`` or that of a density fitted to the synthetic rows. By
        default the distance, for which nobody needs the model.
    max_rows : int, default=5000
        Rows asked on either side; from longer tables they are drawn.
    discrete_columns : iterable of labels, optional
        Columns to treat as discrete whatever their dtype.
    random_state : int, RandomState instance or None, default=0
        Seeds the draws.

    Returns
    -------
    PrivacyResult
        ``value`` in 0..1, ``ideal`` 0.5, 1 when every row learned from is recognised. ``details``
        has one row per row asked: ``member``, whether it was learned from, ``row``, its position
        there, and ``suspicion``. By distance, the ``oracle`` lets one half of the holdout play the
        synthetic table.

    Notes
    -----
    By distance: the full black-box attack of GAN-Leaks [1]_, equation 4. By density: the attack on
    likelihoods of section 3 of [2]_. Neither trains shadow models. The standard error is that of
    Hanley and McNeil [3]_.

    References
    ----------
    .. [1] Chen, Yu, Zhang, Fritz, "GAN-Leaks: A Taxonomy of Membership Inference Attacks against
       Generative Models", CCS 2020.
    .. [2] van Breugel, Sun, Qian, van der Schaar, "Membership Inference Attacks against Synthetic
       Data through Overfitting Detection", AISTATS 2023.
    .. [3] Hanley and McNeil, "The meaning and use of the area under a receiver operating
       characteristic (ROC) curve", Radiology 143, 1982.

    Examples
    --------
    >>> import numpy as np, pandas as pd
    >>> from skvae.metrics import membership_inference
    >>> rng = np.random.default_rng(0)
    >>> real, fresh, holdout = (pd.DataFrame(rng.normal(size=(500, 4))) for _ in range(3))
    >>> membership_inference(real, fresh, holdout).flagged
    False
    >>> membership_inference(real, real, holdout).value
    1.0
    """
    tables = _with_holdout(real, synthetic, holdout, discrete_columns)
    rng = check_random_state(random_state)
    n = min(tables.sizes[_REAL], tables.sizes[_HOLDOUT], max_rows)
    sides = (_REAL, _HOLDOUT)
    rows = [np.sort(rng.permutation(tables.sizes[table])[:n]) for table in sides]
    oracle = None
    if score_samples is None:
        blocks = encode(tables)
        asked = [rows_of(blocks, table, i) for table, i in zip(sides, rows, strict=True)]
        written = rows_of(blocks, _SYNTHETIC)
        suspicion = [-nearest(part, written)[0][:, 0] for part in asked]
        others = rows_of(blocks, _HOLDOUT, np.setdiff1d(np.arange(tables.sizes[_HOLDOUT]), rows[1]))
        oracle = _oracle_auc(asked[0], asked[1], others)
    else:
        suspicion = [
            _densities(score_samples, table, i)
            for table, i in zip((real, holdout), rows, strict=True)
        ]
    auc = _auc(*suspicion)
    details = pd.DataFrame(
        {
            "member": np.repeat([True, False], n),
            "row": np.concatenate(rows),
            "suspicion": np.concatenate(suspicion),
        }
    )
    how = "distance" if score_samples is None else "density"
    return PrivacyResult(
        f"membership inference by {how}, AUC",
        auc,
        details,
        oracle,
        ideal=0.5,
        leak=auc - 0.5,
        standard_error=_auc_error(auc, n),
    )


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
    tables = _with_holdout(real, synthetic, holdout, discrete_columns)
    if tables.real.shape[1] < 2:
        raise ValueError("attribute_inference needs tables of at least two columns.")
    secrets = list(tables.real.columns) if columns is None else list(columns)
    unknown = [c for c in secrets if c not in tables.real.columns]
    if unknown or not secrets:
        raise ValueError(
            f"columns must name some columns of the tables; it has {unknown or 'none'}."
        )
    rng = check_random_state(random_state)
    blocks = encode(tables)
    n = min(tables.sizes[_REAL], tables.sizes[_HOLDOUT], n_attacks)
    rows = {table: rng.permutation(tables.sizes[table])[:n] for table in (_REAL, _HOLDOUT)}
    hits = {table: np.empty((n, len(secrets))) for table in rows}
    for j, secret in enumerate(secrets):
        written = rows_of(blocks, _SYNTHETIC, without=secret)
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
    tables = _with_holdout(real, synthetic, holdout, discrete_columns)
    rng = check_random_state(random_state)
    matrices = [matrix.T.copy() for matrix in tables.matrices()]
    is_level = np.array([c in tables.discrete for c in tables.real.columns])
    for matrix in matrices:
        matrix[is_level] = np.nan_to_num(matrix[is_level], nan=-1.0)  # missing is a level
    medians = pd.DataFrame(matrices[_SYNTHETIC].T).median().to_numpy()
    n = min(tables.sizes[_REAL], tables.sizes[_HOLDOUT])
    drawn = [matrices[t][:, rng.permutation(tables.sizes[t])[:n]] for t in (_REAL, _HOLDOUT)]

    found = []
    for row in rng.permutation(tables.sizes[_SYNTHETIC])[: _TRIES * n_attacks]:
        cells = matrices[_SYNTHETIC][:, row]
        signs = np.where(is_level, 0, np.where(cells >= medians, 1, -1))
        order = rng.permutation(np.flatnonzero(~np.isnan(cells)))[:max_columns]
        n_fitting = _n_fitting(matrices[_SYNTHETIC], order, cells, signs)
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


def _densities(score_samples: Callable, table, rows: np.ndarray) -> np.ndarray:
    part = table.iloc[rows] if isinstance(table, pd.DataFrame) else np.asarray(table)[rows]
    scores = np.asarray(score_samples(part), dtype=float)
    if scores.shape != (len(rows),) or np.isnan(scores).any():
        raise ValueError(
            "score_samples must return one number per row: for "
            f"{len(rows)} rows it returned shape {scores.shape}, "
            f"{int(np.isnan(scores).sum())} of them NaN."
        )
    return scores


def _auc(members: np.ndarray, others: np.ndarray) -> float:
    is_member = np.repeat([True, False], [len(members), len(others)])
    scores = np.nan_to_num(np.concatenate([members, others]))
    return float(roc_auc_score(is_member, scores))


def _oracle_auc(members: np.ndarray, others: np.ndarray, left_over: np.ndarray) -> float | None:
    """Return what the attack reaches when real rows play the synthetic table."""
    if not len(left_over):  # all rows of the holdout are asked: one half of them plays
        half = len(others) // 2
        others, left_over = others[:half], others[half:]
    return _auc(*(-nearest(part, left_over)[0][:, 0] for part in (members, others)))


def _auc_error(auc: float, n: int) -> float:
    """Hanley and McNeil's standard error with `n` rows on either side."""
    both, twice = auc / (2.0 - auc), 2.0 * auc**2 / (1.0 + auc)
    spread = auc * (1.0 - auc) + (n - 1) * (both + twice - 2.0 * auc**2)
    return float(np.sqrt(max(spread, 0.0)) / n)


def _is_right(
    tables: Tables, secret, table: int, asked: np.ndarray, guess: np.ndarray
) -> np.ndarray:
    if secret in tables.numerical:
        cells = tables.numbers(secret)
        known = cells[_REAL][~np.isnan(cells[_REAL])]
        span = np.subtract(*np.quantile(known, [0.95, 0.05])) if len(known) else 0.0
        truth, guessed = cells[table][asked], cells[_SYNTHETIC][guess]
        both_missing = np.isnan(truth) & np.isnan(guessed)
        return (np.abs(truth - guessed) <= _NUMBER_TOLERANCE * span) | both_missing
    codes, _ = tables.codes(secret)
    return codes[table][asked] == codes[_SYNTHETIC][guess]


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
