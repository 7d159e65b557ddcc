"""What a column of a table holds, and how to give it back.

A :class:`ColumnSchema` is read off a column's dtype and content once, at fit. It knows the kind,
how to read the cells into plain numpy arrays, and how to write generated cells back under the
dtype, integer width and missing-value marker that came in.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from pandas.api import types as pdt

from skvae.tabular.kinds import NUMBER_KINDS

# Sums and squares of spans must not overflow.
LARGEST = 1e300
# What pandas calls a column of Python numbers.
NUMBER_OBJECTS = ("integer", "floating", "mixed-integer-float")


@dataclass
class ColumnSchema:
    """One column: its name, kind and the dtype to restore.

    Attributes
    ----------
    name : hashable
        The column's label.
    kind : str
        What the column is, one of ``skvae.tabular.kinds.KINDS``.
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
    guessed : bool
        Whether the cells, and not the dtype or the user, say that the column is made anew.
    """

    name: Any
    kind: str
    dtype: Any
    integer: bool = False
    ordered: bool = False
    offset: int | None = None
    missing: Any = field(default=np.nan, repr=False)
    guessed: bool = False

    @property
    def is_number(self) -> bool:
        """Whether the cells are encoded as numbers."""
        return self.kind in NUMBER_KINDS

    @property
    def units(self) -> Any:
        """What a column must share with this one for equal numbers to be equal cells; or None."""
        return None if self.offset is not None or not self.is_number else "numbers"

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
            is_numeric = found == "empty" or found in NUMBER_OBJECTS
        else:
            found, is_numeric = dtype, is_number_dtype(dtype) or pdt.is_bool_dtype(dtype)
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

    def write_objects(self, cells: np.ndarray, *, any_absent: bool) -> Any:
        """Turn an object array (``missing`` for missing) into an array of this column's dtype."""
        dtype = self.dtype
        if pdt.is_object_dtype(dtype):
            # As a plain array, a column of dates would become one of datetime64.
            return pd.Series(cells, dtype=object)
        if isinstance(dtype, np.dtype) and not (any_absent and dtype.kind not in "fmM"):
            return cells.astype(dtype)
        return pd.array(cells, dtype=dtype)

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


def is_number_dtype(dtype) -> bool:
    """Return whether a column of this dtype holds numbers (booleans are none)."""
    is_number = pdt.is_integer_dtype(dtype) or pdt.is_float_dtype(dtype)
    return is_number or str(dtype).startswith("decimal")  # pyarrow's


def refuse_duplicate_names(columns: pd.Index) -> None:
    """Raise ValueError for a table in which two columns share a name."""
    if columns.is_unique:
        return
    name = columns[columns.duplicated()][0]
    positions = [position for position, other in enumerate(columns) if other == name]
    raise ValueError(
        f"Column name {name!r} stands {len(positions)} times, at positions {positions}. Names must "
        "be unique: rename or drop the others."
    )


def _refuse_infinity(name, values: np.ndarray) -> None:
    infinite, huge = np.isinf(values), np.abs(values) > LARGEST
    if infinite.any():
        first = int(np.flatnonzero(infinite)[0])
        raise ValueError(
            f"Column {name!r} contains infinity in {int(infinite.sum())} rows (the first at "
            f"position {first}). Replace infinities by NaN (a missing cell) or by a number."
        )
    if huge.any():
        raise ValueError(
            f"Column {name!r} contains numbers beyond {LARGEST:g} in {int(huge.sum())} rows; "
            "float64 does not hold their differences. Rescale them, or make them missing."
        )
