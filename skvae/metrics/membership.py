"""Membership inference: whether a person was among those learned from."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
import pandas as pd
from sklearn.metrics import roc_auc_score
from sklearn.utils import check_random_state

from ._distances import encode, nearest, rows_of
from ._result import PrivacyResult
from ._tables import HOLDOUT, REAL, SYNTHETIC, Tables, check_count
from .two_sample import auc_error


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
    tables = Tables.with_holdout(real, synthetic, holdout, discrete_columns)
    rng = check_random_state(random_state)
    check_count(max_rows, "max_rows")
    n = min(tables.sizes[REAL], tables.sizes[HOLDOUT], max_rows)
    sides = (REAL, HOLDOUT)
    rows = [np.sort(rng.permutation(tables.sizes[table])[:n]) for table in sides]
    oracle = None
    if score_samples is None:
        blocks = encode(tables)
        asked = [rows_of(blocks, table, i) for table, i in zip(sides, rows, strict=True)]
        written = rows_of(blocks, SYNTHETIC)
        suspicion = [-nearest(part, written)[0][:, 0] for part in asked]
        others = rows_of(blocks, HOLDOUT, np.setdiff1d(np.arange(tables.sizes[HOLDOUT]), rows[1]))
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
        standard_error=auc_error(auc, n, n),
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
