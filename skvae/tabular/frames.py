"""Tables at the door: checked on the way in, given back in the container they came in."""

from __future__ import annotations

import os
from collections.abc import Mapping

import numpy as np
import pandas as pd
from scipy.sparse import issparse
from sklearn.utils.validation import validate_data

from skvae.tabular.libraries import as_pandas, from_pandas
from skvae.tabular.schema import refuse_duplicate_names


def read_table(estimator, X, *, reset: bool) -> pd.DataFrame:
    """Check a table as scikit-learn does and return it as a DataFrame.

    DataFrames are taken as they are, without a copy; tables of polars and pyarrow are converted;
    arrays and lists become DataFrames with one dtype inferred for each column.

    Parameters
    ----------
    estimator : estimator
        Gets ``n_features_in_``, ``feature_names_in_`` and ``_container`` if ``reset``; its
        columns are compared otherwise.
    X : DataFrame (of pandas or polars), Table, array-like of shape (n_rows, n_columns)
        The table. Missing cells are allowed.
    reset : bool
        Whether this is fit.

    Raises
    ------
    ValueError
        No table, no rows, no columns, a name that stands twice, or other columns than in fit.
    TypeError
        A sparse matrix.
    """
    X, origin = as_pandas(X)
    if isinstance(X, pd.DataFrame):
        refuse_duplicate_names(X.columns)
        _refuse_empty(X)
        all_strings = all(isinstance(name, str) for name in X.columns)
        # scikit-learn refuses a mixture of names; numbers and tuples are fine here.
        checked = X if all_strings else X.set_axis(range(X.shape[1]), axis=1)
        if not (reset or (all_strings and hasattr(estimator, "feature_names_in_"))):
            _compare_names(estimator, X.columns)
        validate_data(estimator, checked, reset=reset, skip_check_array=True)
        if reset:
            estimator._container = ("frame", X.columns) if origin is None else origin
        return X
    if X is None or (isinstance(X, (str, os.PathLike, Mapping)) and not issparse(X)):
        raise ValueError(
            f"X is of type {type(X).__name__}, expected a table: a DataFrame or an array-like of "
            "shape (n_rows, n_columns). Make it one, for instance with pd.DataFrame(X) or "
            "pd.read_csv(X)."
        )
    if isinstance(X, (list, tuple)):
        X = _to_array(X)
    X = validate_data(estimator, X, reset=reset, dtype=None, ensure_all_finite=False)
    if reset:
        estimator._container = ("array", X.dtype)
    # An array's columns stand as in fit.
    kind, detail = estimator._container
    names = detail if kind == "frame" else getattr(estimator, "feature_names_in_", None)
    frame = pd.DataFrame(X, columns=names, copy=False)
    return frame.infer_objects() if X.dtype == object else frame


def restore_container(estimator, frame: pd.DataFrame):
    """Return a generated table as the kind of container that fit saw."""
    kind, detail = estimator._container
    if kind == "frame":
        frame.columns = detail
        return frame
    if kind != "array":
        return from_pandas(frame, (kind, detail))
    if detail.kind == "U":
        return frame.to_numpy(dtype=object).astype(str)  # labels may be longer now
    return frame.to_numpy(dtype=detail)


def _to_array(rows: list | tuple) -> np.ndarray:
    """Return rows as an array: of numbers if all are numbers, of objects otherwise."""
    try:
        array = np.asarray(rows)
    except ValueError:  # rows of unlike lengths
        return np.array(rows, dtype=object)
    # A plain array would turn numbers beside strings into strings, and booleans into numbers.
    mixed = array.dtype.kind in "USO" or (
        array.dtype.kind in "iuf"
        and array.ndim == 2
        and any(isinstance(cell, (bool, np.bool_)) for row in rows for cell in row)
    )
    return np.array(rows, dtype=object) if mixed else array


def _refuse_empty(X: pd.DataFrame) -> None:
    for count, what in ((X.shape[0], "sample(s)"), (X.shape[1], "feature(s)")):
        if count == 0:
            raise ValueError(
                f"Found array with 0 {what} (shape={X.shape}) while a minimum of 1 is required."
            )


def _compare_names(estimator, columns: pd.Index) -> None:
    kind, fitted = estimator._container
    if kind != "frame" or list(columns) == list(fitted):
        return
    fitted = list(fitted)
    missing = [name for name in fitted if name not in set(columns)]
    extra = [name for name in columns if name not in set(fitted)]
    if missing or extra:
        difference = f"missing: {missing}, not seen in fit: {extra}"
    else:
        difference = "they stand in another order"
    raise ValueError(f"The columns differ from those in fit: {difference}. Expected {fitted}.")
