"""Two-sample score: whether a classifier can tell synthetic rows from real ones."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.exceptions import ConvergenceWarning
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import RobustScaler

from ._result import TwoSampleResult
from ._tables import Tables, fill_empty_columns

_CLASSIFIERS = ("auto", "xgboost", "hist_gradient_boosting", "logistic")


def two_sample_score(
    real,
    synthetic,
    *,
    classifier: str = "auto",
    n_splits: int = 3,
    holdout=None,
    importances: bool = False,
    random_state=None,
) -> TwoSampleResult:
    """Score how hard it is for a classifier to tell the synthetic rows from the real ones.

    The two tables are stacked and a classifier learns, in a stratified and shuffled k-fold, to
    separate them. With the area under the ROC curve AUC of each fold the score is
    ``1 - mean(2 max(0.5, AUC) - 1)``: 1 when no fold does better than chance, 0 when every row is
    recognised.

    Parameters
    ----------
    real, synthetic : DataFrame or 2-d array
        Tables with the same columns (in any order), at least `n_splits` rows each. Leave out
        identifiers and free text, which give any table away.
    classifier : {"auto", "hist_gradient_boosting", "xgboost", "logistic"}, default="auto"
        - "hist_gradient_boosting", which is what "auto" stands for: gradient-boosted trees of
          scikit-learn, depth 6, categories as ordinal codes. No extra dependency; scores are
          close to, not the same as, those of "xgboost".
        - "xgboost": the protocol of the published tables, see Notes. Needs the extra
          ``skvae[bench]``.
        - "logistic": SDMetrics' ``LogisticDetection``, the same protocol with a logistic
          regression. It misses all that is not linear: a weak test.
    n_splits : int, default=3
        Number of folds.
    holdout : DataFrame or 2-d array, optional
        Real rows that the synthesizer never saw. Scored as if they were synthetic, they give the
        ``oracle``.
    importances : bool, default=False
        Whether to find out which columns give the synthetic rows away.
    random_state : int, RandomState instance or None, default=None
        Seeds the folds. Scores vary by about .01 between seeds on tables of 20,000 rows.

    Returns
    -------
    TwoSampleResult
        ``value`` in 0..1, 1 is best; ``auc``, the plain mean over folds; ``details`` with one row
        per fold: ``fold``, ``auc`` and ``score``. With `importances` also a DataFrame
        ``importances`` with one row per ``column``, the most telling first: its ``importance`` is
        how far the AUC of the last fold falls when the column is shuffled among the rows held out.

    Raises
    ------
    ImportError
        If `classifier` is "xgboost" and xgboost is not installed.

    Notes
    -----
    "xgboost" follows SDMetrics' detection metric with the classifier of the TabPC study [1]_:
    missing numbers become the real mean and missing booleans the real mode; strings and
    categories are one-hot coded over the real levels, a missing cell being one; integer codes
    stay numbers; infinities count as missing. Each fold is imputed, scaled by ``RobustScaler``
    and classified by ``XGBClassifier(eval_metric="logloss", enable_categorical=True,
    random_state=0)``. Where SDMetrics raises an error, on a synthetic level that the real table
    lacks, the level is coded by zeros here; and the folds are seeded.

    The standard error is that of Hanley and McNeil, widened by the correction of [3]_ for folds
    that share their training rows, ``1 + n_splits / (n_splits - 1)`` for the variance.

    Which rows `real` holds matters. Against the rows that the synthesizer was trained on, a
    memoriser scores 1. Against rows that it never saw the score is honest: read it beside that of
    another real sample.

    References
    ----------
    .. [1] "A Sobering Look at Tabular Data Generation via Probabilistic Circuits",
       arXiv:2603.23016, 2026.
    .. [2] D. Lopez-Paz and M. Oquab, "Revisiting Classifier Two-Sample Tests", ICLR 2017.
    .. [3] Nadeau and Bengio, "Inference for the Generalization Error", Machine Learning 52, 2003.

    Examples
    --------
    >>> import numpy as np, pandas as pd
    >>> from skvae.metrics import two_sample_score
    >>> rng = np.random.default_rng(0)
    >>> x = rng.normal(size=(3, 400))
    >>> real = pd.DataFrame({"x": x[0], "y": x[0] + 0.1 * x[1]})
    >>> independent = pd.DataFrame({"x": x[2], "y": rng.permutation(real["y"])})
    >>> bool(two_sample_score(real, independent, random_state=0).value < 0.2)
    True
    """
    if classifier not in _CLASSIFIERS:
        raise ValueError(f"classifier must be one of {_CLASSIFIERS}, not {classifier!r}.")
    name = "hist_gradient_boosting" if classifier == "auto" else classifier
    pair = Tables.of(real, synthetic)
    smallest = min(len(pair.real), len(pair.synthetic))
    if not 2 <= n_splits <= smallest:
        raise ValueError(
            f"n_splits must be at least 2 and at most the rows of the smaller table, {smallest}; "
            f"got {n_splits}."
        )

    model = _make_classifier(name)
    if name == "hist_gradient_boosting":
        x, owners = np.concatenate(pair.matrices()), list(pair.real.columns)
    else:
        x, owners = _one_hot_matrix(pair)
    y = np.repeat([1, 0], pair.sizes)
    folds = StratifiedKFold(n_splits=n_splits, shuffle=True, random_state=random_state)
    aucs = []
    for train, test in folds.split(x, y):
        x_train, x_test = fill_empty_columns(x[train], x[test])
        with warnings.catch_warnings():
            # SDMetrics stops the logistic regression after 100 iterations, converged or not.
            warnings.simplefilter("ignore", ConvergenceWarning)
            model.fit(x_train, y[train])
        aucs.append(roc_auc_score(y[test], model.predict_proba(x_test)[:, 1]))
    scores = 2.0 - 2.0 * np.maximum(aucs, 0.5)

    oracle = None
    if holdout is not None:
        options = {"classifier": name, "n_splits": n_splits, "random_state": random_state}
        oracle = two_sample_score(real, holdout, **options).value
    return TwoSampleResult(
        "two-sample score",
        float(scores.mean()),
        pd.DataFrame({"fold": np.arange(n_splits), "auc": aucs, "score": scores}),
        oracle,
        auc=float(np.mean(aucs)),
        standard_error=auc_error(np.mean(aucs), *pair.sizes) * np.sqrt(2.0 + 1.0 / (n_splits - 1)),
        classifier=name,
        importances=_importances(model, x_test, y[test], owners, aucs[-1]) if importances else None,
    )


def auc_error(auc: float, n_first: int, n_second: int) -> float:
    """Hanley and McNeil's standard error of an AUC [1]_ with so many rows of either class.

    References
    ----------
    .. [1] Hanley and McNeil, "The meaning and use of the area under a receiver operating
       characteristic (ROC) curve", Radiology 143, 1982.
    """
    both, twice = auc / (2.0 - auc), 2.0 * auc**2 / (1.0 + auc)
    spread = auc * (1.0 - auc)
    spread += (n_first - 1) * (both - auc**2) + (n_second - 1) * (twice - auc**2)
    return float(np.sqrt(max(spread, 0.0) / (n_first * n_second)))


def _make_classifier(name: str):
    if name == "hist_gradient_boosting":
        # Depth, rate and number of trees as in xgboost's defaults.
        return HistGradientBoostingClassifier(
            max_iter=100,
            learning_rate=0.3,
            max_depth=6,
            max_leaf_nodes=None,
            min_samples_leaf=4,
            l2_regularization=1.0,
            early_stopping=False,
            random_state=0,
        )
    if name == "logistic":
        last = LogisticRegression(solver="lbfgs")
    else:
        try:
            from xgboost import XGBClassifier
        except ImportError as error:
            raise ImportError(
                'classifier="xgboost" needs xgboost: pip install "skvae[bench]". '
                'classifier="hist_gradient_boosting" does without.'
            ) from error
        last = XGBClassifier(eval_metric="logloss", enable_categorical=True, random_state=0)
    return make_pipeline(SimpleImputer(), RobustScaler(), last)


def _one_hot_matrix(pair: Tables) -> tuple[np.ndarray, list]:
    """SDMetrics' encoding by dtype, fitted on the real table; and whose each part of it is."""
    plain, one_hot = {}, {}
    for column in pair.real.columns:
        present = pair.real[column].dropna().infer_objects()
        if pd.api.types.is_bool_dtype(present.dtype):
            cells = _boolean_numbers(pair, column)
            fill = pd.Series(cells[: len(pair.real)]).mode().iloc[0]
        elif column in pair.numerical:
            cells = np.concatenate(pair.numbers(column))
            fill = pd.Series(cells[: len(pair.real)]).mean()
        else:
            one_hot[column] = _one_hot(*pair.codes(column)[0])
            continue
        plain[column] = np.where(np.isnan(cells), fill, cells)[:, None]
    parts = plain | one_hot
    x = np.hstack(list(parts.values()))
    x[np.isinf(x)] = np.nan
    return x, [column for column, part in parts.items() for _ in range(part.shape[1])]


def _boolean_numbers(pair: Tables, column) -> np.ndarray:
    cells = pd.concat([pair.real[column], pair.synthetic[column]], ignore_index=True)
    return pd.to_numeric(cells, errors="coerce").to_numpy(dtype=float, na_value=np.nan)


def _one_hot(real: np.ndarray, synthetic: np.ndarray) -> np.ndarray:
    """Code as indicators of the levels that `real` holds, a missing cell being the last."""
    codes = np.concatenate([real, synthetic])
    levels = np.unique(real)
    levels = np.roll(levels, -1) if levels[0] < 0 else levels
    return (codes[:, None] == levels).astype(float)


def _importances(model, x: np.ndarray, y: np.ndarray, owners: list, auc: float) -> pd.DataFrame:
    """Fall of the AUC on held-out rows when one column at a time is shuffled."""
    rng = np.random.default_rng(0)
    order = rng.permutation(len(x))
    rows = []
    for column in dict.fromkeys(owners):
        own = np.flatnonzero([owner == column for owner in owners])
        shuffled = x.copy()
        shuffled[:, own] = x[order][:, own]
        rows.append((column, auc - roc_auc_score(y, model.predict_proba(shuffled)[:, 1])))
    table = pd.DataFrame(rows, columns=["column", "importance"])
    return table.sort_values("importance", ascending=False, ignore_index=True)
