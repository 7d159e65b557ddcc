"""A real and a synthetic table side by side: checks, kinds of columns, numbers and codes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from pandas.api import types as pdt


@dataclass(frozen=True, eq=False)
class TablePair:
    """Two tables with the same columns in the same order.

    Attributes
    ----------
    real, synthetic : pandas.DataFrame
        The tables.
    numerical, discrete : list
        Column labels by kind, each in the order of the table.
    """

    real: pd.DataFrame
    synthetic: pd.DataFrame
    numerical: list = field(default_factory=list)
    discrete: list = field(default_factory=list)

    @classmethod
    def of(cls, real, synthetic, discrete_columns: Iterable | None = None) -> TablePair:
        """Check two tables and decide the kind of every column by the real one's dtype."""
        real, synthetic = _as_frame(real, "real"), _as_frame(synthetic, "synthetic")
        missing = [c for c in real.columns if c not in synthetic.columns]
        extra = [c for c in synthetic.columns if c not in real.columns]
        if missing or extra:
            raise ValueError(
                "real and synthetic must have the same columns: "
                f"synthetic lacks {missing} and adds {extra}."
            )
        declared = [] if discrete_columns is None else list(discrete_columns)
        unknown = [c for c in declared if c not in real.columns]
        if unknown:
            raise ValueError(f"discrete_columns names columns the tables do not have: {unknown}.")

        numerical, discrete = [], []
        for column in real.columns:
            is_discrete = column in declared or not is_numerical(real[column])
            (discrete if is_discrete else numerical).append(column)
        if not real.columns.equals(synthetic.columns):
            synthetic = synthetic[real.columns]
        return cls(real, synthetic, numerical, discrete)

    def numbers(self, column) -> tuple[np.ndarray, np.ndarray]:
        """One column of both tables as float64, missing cells as NaN."""
        return (
            as_numbers(self.real[column], f"column {column!r} of real"),
            as_numbers(self.synthetic[column], f"column {column!r} of synthetic"),
        )

    def codes(self, column) -> tuple[np.ndarray, np.ndarray, int]:
        """One column of both tables as codes of one common list of levels.

        The levels are sorted, or in the order of the categories where both tables share them.

        Returns
        -------
        real, synthetic : ndarray of int64
            Codes ``0 .. n_levels - 1``; a missing cell is -1.
        n_levels : int
        """
        real, synthetic = self.real[column], self.synthetic[column]
        if isinstance(real.dtype, pd.CategoricalDtype) and real.dtype == synthetic.dtype:
            synthetic = synthetic.cat.set_categories(real.cat.categories)
            codes = [c.cat.codes.to_numpy(np.int64) for c in (real, synthetic)]
            return *codes, len(real.cat.categories)
        if not _comparable_as_they_are(real.dtype, synthetic.dtype):
            real, synthetic = real.astype(object), synthetic.astype(object)
        cells = pd.concat([real, synthetic], ignore_index=True)
        with _comparing(column):
            codes, levels = pd.factorize(cells)
        order = _sorted_order(levels)
        ranks = np.empty(len(levels) + 1, dtype=np.int64)
        ranks[order] = np.arange(len(levels))
        ranks[-1] = -1
        codes = ranks[codes]
        return codes[: len(self.real)], codes[len(self.real) :], len(levels)

    def level_counts(self, column) -> tuple[dict, dict]:
        """Rows of either table that hold each level of a column; missing cells are left out."""
        with _comparing(column):
            return _level_counts(self.real[column]), _level_counts(self.synthetic[column])


def _level_counts(cells: pd.Series) -> dict:
    # Looking for missing levels afterwards is quicker than for missing cells before.
    counts = cells.value_counts(sort=False, dropna=False)
    levels = zip(counts.index.tolist(), counts.index.isna(), counts.tolist(), strict=True)
    return {level: count for level, is_missing, count in levels if not is_missing}


@contextmanager
def _comparing(column) -> Iterator[None]:
    try:
        yield
    except TypeError as error:
        raise TypeError(
            f"column {column!r} holds cells that cannot be compared ({error}); "
            "turn them into strings first."
        ) from error


def is_numerical(column: pd.Series) -> bool:
    """Whether a column counts as numerical: numbers, dates and durations, but not booleans."""
    dtype = column.dtype
    if isinstance(dtype, np.dtype):
        return dtype.kind in "iufcmM"
    if pdt.is_bool_dtype(dtype) or isinstance(dtype, pd.CategoricalDtype):
        return False
    return (
        pdt.is_numeric_dtype(dtype)
        or pdt.is_datetime64_any_dtype(dtype)
        or pdt.is_timedelta64_dtype(dtype)
    )


def as_numbers(column: pd.Series, where: str) -> np.ndarray:
    """Cells as float64: dates and durations in seconds, missing cells as NaN."""
    if isinstance(column.dtype, np.dtype) and column.dtype.kind in "iuf":
        return column.to_numpy(float)
    if pdt.is_datetime64_any_dtype(column.dtype):
        column = pd.to_datetime(column)
        return ((column - pd.Timestamp(0, tz=column.dt.tz)) / pd.Timedelta(1, "s")).to_numpy(float)
    if pdt.is_timedelta64_dtype(column.dtype):
        return (column / pd.Timedelta(1, "s")).to_numpy(float)
    try:
        return pd.to_numeric(column).to_numpy(dtype=float, na_value=np.nan)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"{where} should hold numbers, as the dtype of the real column says, but has dtype "
            f"{column.dtype} ({error}). Convert it, or name the column in discrete_columns."
        ) from error


def _as_frame(table, name: str) -> pd.DataFrame:
    if not isinstance(table, pd.DataFrame):
        if np.ndim(table) != 2:
            raise TypeError(
                f"{name} must be a pandas DataFrame or a 2-d array, not {type(table).__name__}."
            )
        table = pd.DataFrame(table)
    if table.shape[0] == 0 or table.shape[1] == 0:
        raise ValueError(f"{name} is empty: its shape is {table.shape}.")
    if not table.columns.is_unique:
        repeated = list(table.columns[table.columns.duplicated()].unique())
        raise ValueError(f"{name} has duplicate column names: {repeated}.")
    return table


def _comparable_as_they_are(real, synthetic) -> bool:
    """Whether cells of two dtypes meet without a detour through Python objects."""
    if isinstance(real, pd.CategoricalDtype) or isinstance(synthetic, pd.CategoricalDtype):
        return False
    both_numbers = all(
        pdt.is_numeric_dtype(d) and not pdt.is_bool_dtype(d) for d in (real, synthetic)
    )
    return real == synthetic or both_numbers


def _sorted_order(levels) -> np.ndarray:
    """Positions of the levels in sorted order; levels of mixed types go by type, then text."""
    try:
        return np.argsort(np.asarray(levels, dtype=object), kind="stable")
    except TypeError:
        keys = [(type(level).__name__, str(level)) for level in levels]
        return np.array(sorted(range(len(keys)), key=keys.__getitem__), dtype=np.int64)
