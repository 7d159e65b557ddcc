"""A real table and others beside it: checks, kinds of columns, numbers and codes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from numbers import Integral

import numpy as np
import pandas as pd
from pandas.api import types as pdt
from sklearn.utils import check_scalar

# Positions in a list of tables.
REAL, SYNTHETIC, HOLDOUT = range(3)
# Of so many rows levels are counted quicker in one go over both tables.
_FEW_ROWS = 6000


@dataclass(frozen=True, eq=False)
class Tables:
    """Tables with the same columns in the same order, the real one first.

    Attributes
    ----------
    tables : list of pandas.DataFrame
        Real, synthetic and, where there is one, holdout.
    numerical, discrete : list
        Column labels by kind, each in the order of the table.
    """

    tables: list[pd.DataFrame]
    numerical: list
    discrete: list

    @classmethod
    def of(
        cls, real, synthetic, holdout=None, *, discrete_columns: Iterable | None = None
    ) -> Tables:
        """Check the tables and decide the kind of every column by the real one's dtype."""
        real = as_frame(real, "real")
        others = {"synthetic": synthetic} | ({} if holdout is None else {"holdout": holdout})
        tables = [real, *(_with_columns_of(real, table, name) for name, table in others.items())]
        declared = as_list(() if discrete_columns is None else discrete_columns, "discrete_columns")
        unknown = [c for c in declared if c not in real.columns]
        if unknown:
            raise ValueError(f"discrete_columns names columns the tables do not have: {unknown}.")

        numerical, discrete = [], []
        for column in real.columns:
            is_discrete = column in declared or not is_numerical(real[column])
            (discrete if is_discrete else numerical).append(column)
        return cls(tables, numerical, discrete)

    @classmethod
    def with_holdout(cls, real, synthetic, holdout, discrete_columns) -> Tables:
        """Check three tables of which the last holds rows that the synthesizer never saw."""
        if holdout is None:
            raise ValueError(
                "holdout must hold real rows that the synthesizer never saw: without them nothing "
                "says how near to the real rows is too near."
            )
        tables = cls.of(real, synthetic, holdout, discrete_columns=discrete_columns)
        if min(tables.sizes[REAL], tables.sizes[HOLDOUT]) < 2:
            raise ValueError("real and holdout must have at least two rows each.")
        return tables

    @property
    def real(self) -> pd.DataFrame:
        """The real table."""
        return self.tables[0]

    @property
    def synthetic(self) -> pd.DataFrame:
        """The synthetic table."""
        return self.tables[1]

    @property
    def sizes(self) -> list[int]:
        """Rows of each table."""
        return [len(table) for table in self.tables]

    def numbers(self, column, *, keep_integers: bool = False) -> list[np.ndarray]:
        """One column of each table as float64, missing cells as NaN; or all of them integers."""
        parts = [table[column] for table in self.tables]
        if keep_integers and all(_is_integer(part.dtype) for part in parts):
            return [part.to_numpy() for part in parts]
        names = ("real", "synthetic", "holdout")
        return [as_numbers(part, name) for part, name in zip(parts, names, strict=False)]

    def codes(self, column) -> tuple[list[np.ndarray], int]:
        """One column of each table as codes of one common list of levels.

        The levels are sorted, or in the order of the categories where all tables share them.

        Returns
        -------
        codes : list of ndarray of int64
            One array a table: ``0 .. n_levels - 1``; a missing cell is -1.
        n_levels : int
        """
        parts = [table[column] for table in self.tables]
        first = parts[0].dtype
        if isinstance(first, pd.CategoricalDtype) and all(p.dtype == first for p in parts):
            levels = first.categories
            parts = [part.cat.set_categories(levels) for part in parts]
            return [part.cat.codes.to_numpy(np.int64) for part in parts], len(levels)
        if not all(_comparable_as_they_are(first, part.dtype) for part in parts):
            parts = [part.astype(object) for part in parts]
        cells = pd.concat(parts, ignore_index=True)
        with _comparing(column):
            codes, levels = pd.factorize(cells)
        order = _sorted_order(levels)
        ranks = np.empty(len(levels) + 1, dtype=np.int64)
        ranks[order] = np.arange(len(levels))
        ranks[-1] = -1
        return np.split(ranks[codes], np.cumsum(self.sizes)[:-1]), len(levels)

    def matrices(self, columns: Iterable | None = None) -> list[np.ndarray]:
        """Each table as float64: numbers as they are, levels as codes, missing cells as NaN."""
        parts = []
        for column in self.real.columns if columns is None else columns:
            if column in self.numerical:
                parts.append(self.numbers(column))
            else:
                codes = self.codes(column)[0]
                parts.append([np.where(c < 0, np.nan, c) for c in codes])
        return [np.column_stack(table) for table in zip(*parts, strict=True)]

    def level_counts(self, column) -> tuple[list, np.ndarray]:
        """Levels of a column, and how many real and synthetic rows hold each; none are missing.

        Returns
        -------
        levels : list
        counts : ndarray of int64, shape (2, n_levels)
        """
        parts = [table[column] for table in self.tables[:2]]
        with _comparing(column):
            if sum(self.sizes[:2]) <= _FEW_ROWS and _are_of_one_numpy_kind(parts):
                codes, levels = pd.factorize(np.concatenate([part.to_numpy() for part in parts]))
                both = np.split(codes + 1, [len(parts[0])])
                counts = [np.bincount(c, minlength=len(levels) + 1)[1:] for c in both]
                return levels.tolist(), np.stack(counts)
            found = [_level_counts(part) for part in parts]
        levels = list(found[0] | found[1])
        return levels, np.array([[f.get(level, 0) for level in levels] for f in found], np.int64)


def as_list(names: Iterable, parameter: str) -> list:
    """Return the names as a list; a string would be taken for its letters."""
    if isinstance(names, str):
        raise TypeError(f"{parameter}={names!r} is one name, expected a list of them: [{names!r}].")
    return list(names)


def check_count(n, parameter: str) -> int:
    """Return a number of rows, columns or attacks that is at least 1."""
    return check_scalar(n, parameter, Integral, min_val=1)


def _are_of_one_numpy_kind(parts: list[pd.Series]) -> bool:
    dtypes = {part.dtype for part in parts}
    return len(dtypes) == 1 and isinstance(dtypes.pop(), np.dtype)


def _level_counts(cells: pd.Series) -> dict:
    # Looking for missing levels afterwards is quicker than for missing cells before.
    counts = cells.value_counts(sort=False, dropna=False)
    found = dict(zip(counts.index.tolist(), counts.tolist(), strict=True))
    for level in counts.index[counts.index.isna()] if counts.index.hasnans else ():
        del found[level]
    return found


@contextmanager
def _comparing(column) -> Iterator[None]:
    try:
        yield
    except TypeError as error:
        raise TypeError(
            f"column {column!r} holds cells that cannot be compared ({error}); "
            "turn them into strings first."
        ) from error


def _is_integer(dtype) -> bool:
    return isinstance(dtype, np.dtype) and dtype.kind == "i"


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


def as_numbers(column: pd.Series, table: str) -> np.ndarray:
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
            f"column {column.name!r} of {table} should hold numbers, as the dtype of the real "
            f"column says, but has dtype {column.dtype} ({error}). Convert it, or name the column "
            "in discrete_columns."
        ) from error


def fill_empty_columns(train: np.ndarray, test: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Put 0 into columns of which `train` knows no cell: scikit-learn's trees refuse them."""
    is_empty = np.isnan(train).all(axis=0)
    return np.where(is_empty, 0.0, train), np.where(is_empty, 0.0, test)


def as_frame(table, name: str) -> pd.DataFrame:
    """Check that a table has rows and columns of different names; arrays become frames."""
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


def _with_columns_of(real: pd.DataFrame, table, name: str) -> pd.DataFrame:
    table = as_frame(table, name)
    if table.columns.equals(real.columns):
        return table
    missing = [c for c in real.columns if c not in table.columns]
    extra = [c for c in table.columns if c not in real.columns]
    if missing or extra:
        raise ValueError(
            f"real and {name} must have the same columns: {name} lacks {missing} and adds {extra}."
        )
    return table[real.columns]


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
