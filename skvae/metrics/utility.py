"""Utility: what a model learned from the synthetic rows knows about real ones."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pandas as pd
from sklearn.base import clone
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.metrics import (
    accuracy_score,
    f1_score,
    mean_absolute_error,
    r2_score,
    roc_auc_score,
    root_mean_squared_error,
)

from ._result import MetricResult
from ._tables import Tables, fill_empty_columns

# A numerical target of no more values is taken for classes.
_MAX_NUMERIC_CLASSES = 10


def utility(
    real,
    synthetic,
    target,
    *,
    holdout=None,
    task: str = "auto",
    estimator=None,
    discrete_columns: Iterable | None = None,
) -> MetricResult:
    """Train on the synthetic rows, test on real ones.

    A classifier or regressor learns to predict the target from the other columns of the synthetic
    table, and is tested on rows of the holdout; without a holdout, on the real rows.

    Parameters
    ----------
    real, synthetic : DataFrame or 2-d array
        Tables with the same columns (in any order).
    target : label
        The column to predict.
    holdout : DataFrame or 2-d array, optional
        Real rows that the synthesizer never saw. With them the same model is also trained on the
        real rows: the ``oracle``.
    task : {"auto", "classification", "regression"}, default="auto"
        What the target is. "auto" takes numbers of more than 10 different values for regression.
    estimator : scikit-learn classifier or regressor, optional
        Gets numbers as they are, levels as ordinal codes, and NaN for missing cells. By default
        gradient-boosted trees of depth 6 with 20 rows a leaf, or, in tables of fewer than 400
        rows, a twentieth of them.
    discrete_columns : iterable of labels, optional
        Columns to treat as discrete whatever their dtype.

    Returns
    -------
    MetricResult
        ``value`` is the area under the ROC curve (of one class against the rest, weighted by
        their frequency, if there are more than two) or, for regression, R squared. ``details`` has
        one row per ``metric``, with its ``score``, and its ``oracle`` where there is a holdout:
        AUC, accuracy and macro-averaged F1, or R squared, RMSE and mean absolute error, these two
        in units of the target (seconds, for dates).

    Raises
    ------
    ValueError
        If the tables have no column `target`, no other column, or the rows to test on hold only
        one class.

    Notes
    -----
    Known as "train on synthetic, test on real" [1]_, and as machine learning efficiency. Rows whose
    target is missing take no part. A synthetic table with only one class teaches nothing: its AUC
    is one half.

    References
    ----------
    .. [1] Esteban, Hyland, Rätsch, "Real-valued (Medical) Time Series Generation with Recurrent
       Conditional GANs", arXiv:1706.02633.

    Examples
    --------
    >>> import numpy as np, pandas as pd
    >>> from skvae.metrics import utility
    >>> rng = np.random.default_rng(0)
    >>> table = pd.DataFrame({"x": rng.normal(size=600)})
    >>> table["y"] = np.where(table["x"] + 0.1 * rng.normal(size=600) > 0, "up", "down")
    >>> real, synthetic, holdout = table[:200], table[200:400], table[400:]
    >>> result = utility(real, synthetic, "y", holdout=holdout)
    >>> bool(result.value > 0.95 and result.oracle > 0.95)
    True
    """
    if task not in ("auto", "classification", "regression"):
        raise ValueError(f'task must be "auto", "classification" or "regression", not {task!r}.')
    tables = Tables.of(real, synthetic, holdout, discrete_columns=discrete_columns)
    if target not in tables.real.columns:
        raise ValueError(
            f"target {target!r} is not a column of the tables; these are "
            f"{list(tables.real.columns)}."
        )
    features = [c for c in tables.real.columns if c != target]
    if not features:
        raise ValueError(f"there is no column beside target {target!r} to predict it from.")
    is_regression = task == "regression" or (task == "auto" and _is_continuous(tables, target))
    x = [np.where(np.isfinite(m), m, np.nan) for m in tables.matrices(features)]
    y = _target(tables, target, is_regression)
    known = [np.isfinite(cells) for cells in y]
    x, y = ([a[k] for a, k in zip(arrays, known, strict=True)] for arrays in (x, y))
    for name, cells in zip(("real", "synthetic", "holdout"), y, strict=False):
        if not len(cells):
            raise ValueError(f"all cells of target {target!r} are missing in {name}.")

    test = 0 if holdout is None else 2
    score = _score_regression if is_regression else _score_classification
    n_rows = min(map(len, y[:2]))
    model = estimator if estimator is not None else _default_model(is_regression, n_rows)
    x_train, x_test = fill_empty_columns(x[1], x[test])
    details = score(model, x_train, y[1], x_test, y[test])
    oracle = None
    if holdout is not None:
        x_train, x_test = fill_empty_columns(x[0], x[test])
        details["oracle"] = score(model, x_train, y[0], x_test, y[test])["score"]
        oracle = float(details["oracle"][0])
    return MetricResult("utility", float(details["score"][0]), details, oracle)


def _is_continuous(tables: Tables, target) -> bool:
    return target in tables.numerical and tables.real[target].nunique() > _MAX_NUMERIC_CLASSES


def _target(tables: Tables, target, is_regression: bool) -> list[np.ndarray]:
    if is_regression:
        if target not in tables.numerical:
            raise ValueError(
                f'target {target!r} is not numerical: task="regression" needs numbers.'
            )
        return tables.numbers(target)
    codes, _ = tables.codes(target)
    return [np.where(c < 0, np.nan, c) for c in codes]


def _default_model(is_regression: bool, n_rows: int):
    cls = HistGradientBoostingRegressor if is_regression else HistGradientBoostingClassifier
    # scikit-learn's 20 rows a leaf hide what sets a fifth of a hundred rows apart.
    leaf = max(1, min(20, n_rows // 20))
    return cls(
        max_iter=150, max_depth=6, min_samples_leaf=leaf, early_stopping=False, random_state=0
    )


def _score_classification(model, x, y, x_test, y_test) -> pd.DataFrame:
    y, y_test = y.astype(np.int64), y_test.astype(np.int64)
    classes = np.unique(y_test)
    if len(classes) < 2:
        raise ValueError("the rows to test on hold only one class of the target.")
    if len(np.unique(y)) < 2:
        guess, shares = np.full(len(y_test), y[0]), np.full((len(y_test), len(classes)), 0.5)
    else:
        model = clone(model).fit(x, y)
        guess, shares = model.predict(x_test), _shares(model, x_test, classes)
    aucs = [roc_auc_score(y_test == c, shares[:, k]) for k, c in enumerate(classes)]
    scores = {
        "auc": np.average(aucs, weights=[np.mean(y_test == c) for c in classes]),
        "accuracy": accuracy_score(y_test, guess),
        "f1_macro": f1_score(y_test, guess, average="macro", labels=classes, zero_division=0.0),
    }
    return pd.DataFrame({"metric": list(scores), "score": list(scores.values())})


def _shares(model, x_test, classes) -> np.ndarray:
    """Probability of each class to test on; 0 where the synthetic table lacks it."""
    shares = np.zeros((len(x_test), int(max(classes.max(), model.classes_.max())) + 1))
    shares[:, model.classes_] = model.predict_proba(x_test)
    return shares[:, classes]


def _score_regression(model, x, y, x_test, y_test) -> pd.DataFrame:
    guess = clone(model).fit(x, y).predict(x_test)
    scores = {
        "r2": r2_score(y_test, guess),
        "rmse": root_mean_squared_error(y_test, guess),
        "mae": mean_absolute_error(y_test, guess),
    }
    return pd.DataFrame({"metric": list(scores), "score": list(scores.values())})
