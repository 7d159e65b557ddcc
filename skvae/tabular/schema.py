"""Which kind of thing each column of a table holds, and how to give it back.

A :class:`ColumnSchema` is read off a column's dtype and content once, at fit. It knows the kind
(``"numeric"`` or ``"categorical"``), how to read the cells into plain numpy arrays, and how to
write generated cells back under the dtype, integer width and missing-value marker that came in.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from numbers import Real
from typing import Any

import numpy as np
import pandas as pd
from pandas.api import types as pdt

# Beyond this, float64 no longer holds every integer.
_EXACT = 2**53
_OFFSET_STEP = 10**15
# Sums and squares of spans must not overflow.
_LARGEST = 1e300

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
    offset : int or None
        Subtracted from integers before they become floats, in a column that holds some beyond
        2**53; None in all others.
    missing : object
        What a missing cell is written as: ``nan``, ``None`` or ``pandas.NA``, whichever a column
        of Python objects holds first.
    """

    name: Any
    kind: str
    dtype: Any
    integer: bool = False
    ordered: bool = False
    offset: int | None = None
    missing: Any = field(default=np.nan, repr=False)

    @property
    def numpy_dtype(self) -> np.dtype:
        """The numpy dtype behind ``dtype``."""
        if isinstance(self.dtype, pd.SparseDtype):
            return self.dtype.subtype
        return np.dtype(getattr(self.dtype, "numpy_dtype", self.dtype))

    @property
    def precision(self) -> float:
        """Relative spacing of the numbers that a numeric column can hold."""
        dtype = self.numpy_dtype
        return float(np.finfo(dtype if dtype.kind == "f" else np.float64).eps)

    def read_numbers(self, column: pd.Series) -> np.ndarray:
        """Return a numeric column as float64, missing cells as NaN, ``offset`` subtracted.

        Raises
        ------
        ValueError
            The column holds something else than numbers, or infinities.
        """
        self._refuse_other_kinds(column)
        values = column.to_numpy(dtype=np.float64, na_value=np.nan)
        _refuse_infinity(self.name, values)
        if self.offset is not None:
            # By Python's integers: exact, whatever the width.
            present = ~np.isnan(values)
            values = values.copy()  # it may be the column's own memory
            values[present] = [float(int(cell) - self.offset) for cell in column[present]]
        return values

    def _refuse_other_kinds(self, column: pd.Series) -> None:
        dtype = column.dtype
        if pdt.is_object_dtype(dtype):
            found = pdt.infer_dtype(column, skipna=True)
            is_numeric = found == "empty" or _OBJECT_KINDS.get(found) == "numeric"
        else:
            found, is_numeric = dtype, _is_number_dtype(dtype) or pdt.is_bool_dtype(dtype)
        if not is_numeric:
            raise ValueError(
                f"Column {self.name!r} held numbers in fit (dtype {self.dtype}), but now holds "
                f"{found}. Give it the dtype it had in fit."
            )

    def write_numbers(self, values: np.ndarray) -> Any:
        """Turn float64 values (NaN = missing) into an array of this column's dtype."""
        dtype = self.dtype
        absent = np.isnan(values)
        cells = self._to_whole_numbers(np.where(absent, 0.0, values)) if self.integer else values
        if pdt.is_object_dtype(dtype):
            cells = cells.astype(object)
            cells[absent] = self.missing
            return cells
        if isinstance(dtype, np.dtype):
            return cells.astype(dtype, copy=False)
        masked = pd.arrays.IntegerArray if self.integer else pd.arrays.FloatingArray
        return pd.array(masked(cells, absent), dtype=dtype)

    def _to_whole_numbers(self, values: np.ndarray) -> np.ndarray:
        """Round to integers, adding the offset and staying within the dtype's range."""
        if self.offset is None:
            return np.rint(values).astype(np.int64)
        # Python's integers: neither float64 nor int64 would do.
        whole = np.array([int(value) for value in np.rint(values)], dtype=object) + self.offset
        if pdt.is_object_dtype(self.dtype):
            return whole
        limits = np.iinfo(self.numpy_dtype)
        return np.clip(whole, limits.min, limits.max).astype(self.numpy_dtype)


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
    if pdt.is_object_dtype(dtype):
        if absent.any():
            missing = column[absent].iloc[0]
        kind, integer = _object_kind(name, column[~absent])
    elif _is_number_dtype(dtype):
        kind, integer = "numeric", pdt.is_integer_dtype(dtype)
    elif pdt.is_bool_dtype(dtype) or pdt.is_string_dtype(dtype) or str(dtype) == "null[pyarrow]":
        kind, integer = "categorical", False
    else:
        raise TypeError(
            f"Column {name!r} has dtype {dtype}, expected numbers, booleans, strings or a pandas "
            "category. Convert it first (a date, for instance, to a number of days), or drop it."
        )
    schema = ColumnSchema(name, kind, dtype, integer, missing=missing)
    if forced:
        schema.kind = "categorical"
    elif integer:
        schema.offset = _wide_integer_offset(name, column[~absent])
    return schema


def _is_number_dtype(dtype) -> bool:
    is_number = pdt.is_integer_dtype(dtype) or pdt.is_float_dtype(dtype)
    return is_number or str(dtype).startswith("decimal")  # pyarrow's


def _object_kind(name, present: pd.Series) -> tuple[str, bool]:
    """Kind of a column of Python objects, and whether it holds whole numbers."""
    inferred = pdt.infer_dtype(present, skipna=True)
    if inferred in _OBJECT_KINDS:
        return _OBJECT_KINDS[inferred], inferred == "integer"
    counts = Counter(type(cell).__name__ for cell in present)
    found = ", ".join(f"{count} of type {kind}" for kind, count in counts.most_common(4))
    if all(isinstance(cell, (str, bool, np.bool_, Real)) for cell in present):
        raise TypeError(
            f"Column {name!r} mixes types: {found}. Expected one type in a column. Make it one, "
            f"for instance with df[{name!r}] = df[{name!r}].astype(str)."
        )
    raise TypeError(
        f"Column {name!r} holds objects that cannot be encoded: {found}. Each cell's "
        "argument must be a string or a real number (or a boolean, or missing). Convert them (with "
        "astype(float) or astype(str)), expand them into columns of their own, or drop the column."
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
    infinite, huge = np.isinf(values), np.abs(values) > _LARGEST
    if infinite.any():
        first = int(np.flatnonzero(infinite)[0])
        raise ValueError(
            f"Column {name!r} contains infinity in {int(infinite.sum())} rows (the first at "
            f"position {first}). Replace infinities by NaN (a missing cell) or by a number."
        )
    if huge.any():
        raise ValueError(
            f"Column {name!r} contains numbers beyond {_LARGEST:g} in {int(huge.sum())} rows; "
            "float64 does not hold their differences. Rescale them, or make them missing."
        )


def _wide_integer_offset(name, present: pd.Series) -> int | None:
    """Return None, or what to subtract so that integers beyond 2**53 fit into float64."""
    if len(present) == 0:
        return None
    least, most = int(present.min()), int(present.max())
    if max(abs(least), abs(most)) <= _EXACT:
        return None
    if max(abs(least), abs(most)) > _LARGEST:
        raise ValueError(
            f"Column {name!r} holds integers beyond {_LARGEST:g}. Convert them to str if they are "
            "identifiers, or drop the column."
        )
    if most - least > _EXACT:
        raise ValueError(
            f"Column {name!r} holds integers spread over more than 2**53, which floating point "
            "cannot tell apart. If they are identifiers, convert them to str or drop the column; "
            "if amounts, convert them to float."
        )
    # A round number near the middle: the leading digits that the cells share, of no single cell.
    middle = (least + most) // 2
    return middle // _OFFSET_STEP * _OFFSET_STEP
