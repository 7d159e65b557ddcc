"""Which kind of thing each column of a table holds, and how to give it back.

A :class:`ColumnSchema` is read off a column's dtype and content once, at fit. It knows the kind
(``"numeric"`` or ``"categorical"``), how to read the cells into plain numpy arrays, and how to
write generated cells back under the dtype, integer width and missing-value marker that came in.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from pandas.api import types as pdt

# Beyond this, float64 no longer holds every integer.
MAX_EXACT_INTEGER = 2**53

_OBJECT_KINDS = {
    "string": "categorical",
    "boolean": "categorical",
    "empty": "categorical",
    "categorical": "categorical",
    "integer": "numeric",
    "floating": "numeric",
    "mixed-integer-float": "numeric",
}


@dataclass
class ColumnSchema:
    """One column: its name, kind and the dtype to restore.

    Attributes
    ----------
    name : hashable
        The column's label.
    kind : {"numeric", "categorical"}
        How the column is encoded.
    dtype : numpy or pandas dtype
        The dtype to restore.
    integer : bool
        Whether a numeric column holds whole numbers only, by its dtype.
    ordered : bool
        Whether a categorical column has an order (an ordered pandas ``category``).
    offset : int
        Subtracted from integers beyond 2**53 before they become floats; 0 for all others.
    missing : object
        What a missing cell is written as (``nan``, ``None`` or ``pandas.NA``).
    """

    name: Any
    kind: str
    dtype: Any
    integer: bool = False
    ordered: bool = False
    offset: int = 0
    missing: Any = field(default=np.nan, repr=False)

    def read_numbers(self, column: pd.Series) -> np.ndarray:
        """Return a numeric column as float64, missing cells as NaN, ``offset`` subtracted."""
        try:
            if self.offset:
                return _read_wide_integers(column, self.offset)
            values = column.to_numpy(dtype=np.float64, na_value=np.nan)
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"Column {self.name!r} was numeric ({self.dtype}) in fit, but now has dtype "
                f"{column.dtype} and could not convert string to float or similar: {error}. "
                "Give it the dtype it had in fit."
            ) from None
        _refuse_infinity(self.name, values)
        return values

    def write_numbers(self, values: np.ndarray) -> Any:
        """Turn float64 values (NaN = missing) into an array of this column's dtype."""
        dtype = self.dtype
        absent = np.isnan(values)
        if not self.integer:
            if dtype == object:
                cells = values.astype(object)
                cells[absent] = self.missing
                return cells
            if isinstance(dtype, np.dtype):
                return values.astype(dtype, copy=False)
            return pd.array(pd.arrays.FloatingArray(values, absent), dtype=dtype)
        whole = _to_whole_numbers(np.where(absent, 0.0, values), self.offset, dtype)
        if isinstance(dtype, np.dtype) and dtype != object:
            return whole.astype(dtype, copy=False)
        nullable = pd.arrays.IntegerArray(whole, absent)
        if dtype == object:
            cells = nullable.astype(object)
            cells[absent] = self.missing
            return cells
        return pd.array(nullable, dtype=dtype)


def infer_schema(frame: pd.DataFrame, categorical_features="auto") -> list[ColumnSchema]:
    """Read the schema off a table.

    Parameters
    ----------
    frame : DataFrame of shape (n_rows, n_columns)
        The table.
    categorical_features : "auto" or array-like of names, positions or booleans
        Columns to take as categorical whatever their dtype. With ``"auto"`` numbers are numeric;
        strings, booleans and pandas categories are always categorical.

    Returns
    -------
    list of ColumnSchema
        One for each column, in table order.

    Raises
    ------
    TypeError
        A column holds things that are neither numbers, booleans nor strings, or a mixture.
    ValueError
        Two columns share a name, a number is infinite, or ``categorical_features`` names a
        column that is not there.
    """
    _refuse_duplicate_names(frame.columns)
    forced = _forced_categorical(frame.columns, categorical_features)
    return [
        _infer_column(name, frame.iloc[:, position], position in forced)
        for position, name in enumerate(frame.columns)
    ]


def _infer_column(name, column: pd.Series, forced: bool) -> ColumnSchema:
    dtype = column.dtype
    absent = column.isna()
    missing: Any = np.nan if isinstance(dtype, np.dtype) else getattr(dtype, "na_value", np.nan)
    if isinstance(dtype, pd.CategoricalDtype):
        return ColumnSchema(name, "categorical", dtype, ordered=bool(dtype.ordered))
    if dtype == object:
        if absent.any():
            missing = column[absent].iloc[0]
        kind, integer = _object_kind(name, column[~absent])
    elif pdt.is_bool_dtype(dtype) or pdt.is_string_dtype(dtype):
        kind, integer = "categorical", False
    elif pdt.is_integer_dtype(dtype):
        kind, integer = "numeric", True
    elif pdt.is_float_dtype(dtype) or str(dtype).startswith("decimal"):
        kind, integer = "numeric", False
    else:
        raise TypeError(
            f"Column {name!r} has dtype {dtype}, expected numbers, booleans, strings or a pandas "
            "category. Convert it first (a date, for instance, to a number of days), or drop it."
        )
    schema = ColumnSchema(name, kind, dtype, integer, missing=missing)
    if kind == "numeric":
        if integer:
            schema.offset = _wide_integer_offset(column, absent)
        else:
            schema.read_numbers(column)  # refuses infinities before any work is done
        if forced:
            schema.kind = "categorical"
    return schema


def _object_kind(name, present: pd.Series) -> tuple[str, bool]:
    """Kind of a column of Python objects, and whether it holds whole numbers."""
    inferred = pdt.infer_dtype(present, skipna=True)
    if inferred in _OBJECT_KINDS:
        return _OBJECT_KINDS[inferred], inferred == "integer"
    counts = Counter(type(cell).__name__ for cell in present)
    found = ", ".join(f"{count} of type {kind}" for kind, count in counts.most_common(4))
    if set(counts) <= {"str", "int", "float", "bool", "float64", "int64", "bool_"}:
        raise TypeError(
            f"Column {name!r} mixes types: {found}. Expected one type in a column. Make it one, "
            f"for instance with df[{name!r}] = df[{name!r}].astype(str)."
        )
    raise TypeError(
        f"Column {name!r} holds objects that cannot be encoded: {found}. Each cell's "
        "argument must be a string or a real number (or a boolean, or missing). Expand or drop "
        "the column."
    )


def _forced_categorical(columns: pd.Index, categorical_features) -> set[int]:
    """Positions of the columns that the user wants categorical."""
    if categorical_features is None or isinstance(categorical_features, str):
        if categorical_features in (None, "auto"):
            return set()
        raise ValueError(
            "categorical_features must be 'auto' or a list of column names, positions or "
            f"booleans, got {categorical_features!r}."
        )
    wanted = list(categorical_features)
    if wanted and all(isinstance(item, (bool, np.bool_)) for item in wanted):
        if len(wanted) != len(columns):
            raise ValueError(
                f"categorical_features is a mask of {len(wanted)} booleans, but the table has "
                f"{len(columns)} columns. Give one for each column, or names."
            )
        return {position for position, flag in enumerate(wanted) if flag}
    names = {name: position for position, name in enumerate(columns)}
    positions = set()
    for item in wanted:
        is_position = isinstance(item, (int, np.integer)) and 0 <= item < len(columns)
        if item in names:
            positions.add(names[item])
        elif is_position:
            positions.add(int(item))
        else:
            raise ValueError(
                f"categorical_features names {item!r}, which is not a column. "
                f"The columns are {list(columns)}."
            )
    return positions


def _refuse_duplicate_names(columns: pd.Index) -> None:
    if columns.is_unique:
        return
    name = columns[columns.duplicated()][0]
    positions = [position for position, other in enumerate(columns) if other == name]
    raise ValueError(
        f"Column name {name!r} stands {len(positions)} times, at positions {positions}. Names must "
        "be unique: rename or drop the others."
    )


def _refuse_infinity(name, values: np.ndarray) -> None:
    infinite = np.isinf(values)
    if infinite.any():
        first = int(np.flatnonzero(infinite)[0])
        raise ValueError(
            f"Column {name!r} contains infinity in {int(infinite.sum())} rows (the first at "
            f"position {first}). Replace infinities by NaN (a missing cell) or by a number."
        )


def _integer_cells(column: pd.Series, absent) -> np.ndarray:
    """Return the present cells of an integer column as int64 or uint64, exactly."""
    present = column[~absent]
    if present.dtype == object:
        present = pd.Series(present.tolist())
    if pdt.is_unsigned_integer_dtype(present.dtype):
        return present.to_numpy(dtype=np.uint64)
    return present.to_numpy(dtype=np.int64)


def _wide_integer_offset(column: pd.Series, absent) -> int:
    """Return 0, or what to subtract so that integers beyond 2**53 fit into float64."""
    try:
        cells = _integer_cells(column, absent)
    except (OverflowError, TypeError, ValueError):
        raise ValueError(
            f"Column {column.name!r} holds integers beyond 64 bits. Convert it to float, or to "
            "str if the numbers are identifiers."
        ) from None
    if len(cells) == 0 or max(abs(int(cells.min())), abs(int(cells.max()))) <= MAX_EXACT_INTEGER:
        return 0
    # The mean, and not the least value: no single cell may be stored.
    return int(np.clip(cells.astype(np.float64).mean(), -(2.0**63), 2.0**64 - 4096))


def _read_wide_integers(column: pd.Series, offset: int) -> np.ndarray:
    absent = column.isna().to_numpy()
    cells = _integer_cells(column, absent)
    # Two's complement arithmetic wraps, so the difference is exact below 2**63.
    difference = cells.view(np.int64) - np.array([offset & (2**64 - 1)], np.uint64).view(np.int64)
    values = np.full(len(column), np.nan)
    values[~absent] = difference
    return values


def _to_whole_numbers(values: np.ndarray, offset: int, dtype) -> np.ndarray:
    """Round to int64 (or uint64), adding the offset and staying within the dtype's range."""
    if offset == 0:
        return np.rint(values).astype(np.int64)
    signed = np.clip(np.rint(values), -(2.0**63), 2.0**63 - 1024).astype(np.int64)
    shift = np.array([offset & (2**64 - 1)], np.uint64).view(np.int64)
    whole = signed + shift
    return whole.view(np.uint64) if "uint" in str(dtype).lower() else whole
