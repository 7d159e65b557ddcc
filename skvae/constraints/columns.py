"""Columns of numbers, dates and durations as exact arrays that can be added up, and back."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any

import numpy as np
import pandas as pd
from pandas.api import types as pdt

# From coarse to fine.
_UNITS = ("s", "ms", "us", "ns")
_MOMENTS = {"datetime", "datetime64", "date"}
_DURATIONS = {"timedelta", "timedelta64"}


@dataclass
class ColumnNumbers:
    """One column as int64 or float64.

    Attributes
    ----------
    name : hashable
        The column.
    kind : {"number", "moment", "duration"}
        What its cells are. Moments and durations become counts of ``unit``.
    dtype : dtype
        To write.
    whole : bool
        Whether the cells become int64.
    unit : str or None
        Of moments and durations.
    zone : str or None
        Time zone of moments.
    cell : str
        What cells of Python objects are, in pandas' words.
    missing : object
        What a missing cell is written as, in columns of Python objects.
    """

    name: Hashable
    kind: str
    dtype: Any
    whole: bool = False
    unit: str | None = None
    zone: str | None = None
    cell: str = ""
    missing: Any = None

    @classmethod
    def of(cls, frame: pd.DataFrame, names: Sequence[Hashable]) -> list[ColumnNumbers]:
        """Describe columns that are compared or added up: of one kind, in one unit.

        Raises
        ------
        TypeError
            A column holds something else, or they are of several kinds.
        """
        found = [_describe(name, frame[name]) for name in names]
        first = next((column for column in found if column.kind), found[0])
        for other in found:
            if not other.kind:  # without a cell, it is what the others are
                other.kind = first.kind or "number"
                other.unit, other.zone, other.whole = first.unit, first.zone, first.whole
            zones = first.zone is None, other.zone is None
            if other.kind != first.kind or (first.kind == "moment" and len(set(zones)) > 1):
                raise TypeError(
                    f"Columns {first.name!r} ({first.dtype}) and {other.name!r} ({other.dtype}) "
                    "cannot be compared: expected two columns of numbers, of moments (both with a "
                    "time zone or neither), or of durations."
                )
        if first.unit is not None:
            finest = max((str(column.unit) for column in found), key=_UNITS.index)
            for column in found:
                column.unit = finest
        return found

    def read(self, frame: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
        """Return the cells, 0 where they are missing, and whether they are; shape (n_rows,)."""
        column = frame[self.name]
        absent = column.isna().to_numpy()
        if self.kind != "number":
            times = _times(column, self.kind).dt.as_unit(self.unit)
            counts = times.to_numpy(f"{self._code}[{self.unit}]").view(np.int64)
            return np.where(absent, 0, counts), absent
        if self.whole and not pdt.is_float_dtype(column.dtype):
            return column.to_numpy(np.int64, na_value=0), absent
        return np.nan_to_num(column.to_numpy(np.float64, na_value=np.nan)), absent

    @property
    def learnt_as(self) -> str:
        """Kind of the column for ``TabularTransformer``."""
        return {"number": "numeric", "moment": "datetime", "duration": "timedelta"}[self.kind]

    @property
    def _code(self) -> str:
        return "M8" if self.kind == "moment" else "m8"

    def write(self, values: np.ndarray, absent: np.ndarray) -> Any:
        """Return cells under the dtype of the column."""
        if self.kind == "number":
            return self._write_numbers(values, absent)
        cells = values.astype(np.int64).view(f"{self._code}[{self.unit}]")
        times = pd.Series(np.where(absent, np.array("NaT", cells.dtype), cells))
        if self.zone is not None:
            times = times.dt.tz_localize("UTC").dt.tz_convert(self.zone)
        if not (pdt.is_object_dtype(self.dtype) or self.cell == "date"):
            return times.astype(self.dtype).array
        objects = times.dt.date if self.cell == "date" else times.astype(object)
        objects = objects.to_numpy(object)
        if self.cell in ("datetime", "timedelta"):
            objects = np.array([_to_python(cell) for cell in objects], dtype=object)
        objects[absent] = self.missing
        return objects if pdt.is_object_dtype(self.dtype) else pd.array(objects, dtype=self.dtype)

    def _write_numbers(self, values: np.ndarray, absent: np.ndarray) -> Any:
        values = values.astype(np.int64 if self.whole else np.float64)
        if pdt.is_object_dtype(self.dtype):
            objects = values.astype(object)
            objects[absent] = self.missing
            return objects
        if isinstance(self.dtype, np.dtype):
            return (np.where(absent, np.nan, values) if absent.any() else values).astype(self.dtype)
        masked = pd.arrays.IntegerArray if self.whole else pd.arrays.FloatingArray
        return pd.array(masked(values, absent), dtype=self.dtype)


def subtract(minuend, subtrahend) -> tuple[np.ndarray, np.ndarray]:
    """Subtract two columns as ``ColumnNumbers.read`` returns them."""
    return minuend[0] - subtrahend[0], minuend[1] | subtrahend[1]


def with_known(
    columns: Mapping[Hashable, pd.Series], known: pd.DataFrame
) -> dict[Hashable, pd.Series]:
    """Return columns with the cells that are known in them, under their own dtypes."""
    found = {}
    for name in known.columns.intersection(list(columns)):
        there = known[name].notna().to_numpy()
        drawn, cells = columns[name], known[name]
        if drawn.dtype == cells.dtype and there.any():
            found[name] = drawn.where(~there, cells)
        elif there.any():
            cells = drawn.astype(object).where(~there, cells.astype(object))
            found[name] = cells.astype(drawn.dtype)
    return found


def bound_in(numbers: ColumnNumbers, bound: Any) -> int | float:
    """Return a user's bound in the numbers of a column.

    Raises
    ------
    TypeError
        It is none that the column can be compared with.
    """
    expected = {"number": "a number", "moment": "a date", "duration": "a duration"}[numbers.kind]
    refusal = TypeError(
        f"A bound of column {numbers.name!r} ({numbers.dtype}) is {bound!r}, expected {expected} "
        "or the name of a column."
    )
    if numbers.kind == "number":
        if isinstance(bound, bool) or not isinstance(bound, Real):
            raise refusal
        return bound.item() if isinstance(bound, np.generic) else bound  # type: ignore[return-value]
    if isinstance(bound, Real):
        raise refusal
    try:
        if numbers.kind == "duration":
            return int(pd.Timedelta(bound).as_unit(numbers.unit).asm8.view("i8"))
        moment = pd.Timestamp(bound)
    except (TypeError, ValueError):
        raise refusal from None
    if numbers.zone is not None and moment.tzinfo is None:
        moment = moment.tz_localize(numbers.zone)
    elif numbers.zone is None and moment.tzinfo is not None:
        raise refusal
    return int(moment.as_unit(numbers.unit).asm8.view("i8"))


def _describe(name: Hashable, column: pd.Series) -> ColumnNumbers:
    dtype = column.dtype
    absent = column.isna()
    missing = column[absent].iloc[0] if absent.any() and pdt.is_object_dtype(dtype) else None
    inferred = pdt.infer_dtype(column, skipna=True)
    if pdt.is_bool_dtype(dtype) or isinstance(dtype, pd.CategoricalDtype):
        inferred = "categories"
    if inferred in _MOMENTS or inferred in _DURATIONS:
        kind = "moment" if inferred in _MOMENTS else "duration"
        times = _times(column, kind)
        zone = str(times.dt.tz) if kind == "moment" and times.dt.tz is not None else None
        return ColumnNumbers(name, kind, dtype, True, times.dt.unit, zone, inferred, missing)
    if inferred in ("integer", "floating", "mixed-integer-float", "decimal", "integer-na") or (
        pdt.is_numeric_dtype(dtype) and inferred != "categories"
    ):
        whole = pdt.is_integer_dtype(dtype) or (
            pdt.is_object_dtype(dtype) and inferred == "integer"
        )
        return ColumnNumbers(name, "number", dtype, whole, cell=inferred, missing=missing)
    if inferred == "empty":
        return ColumnNumbers(name, "", dtype, missing=missing)
    raise TypeError(
        f"Column {name!r} holds {inferred} ({dtype}), expected numbers, dates or durations: a "
        "constraint compares its cells or adds them up. Convert the column."
    )


def _times(column: pd.Series, kind: str) -> pd.Series:
    """Return moments (without a zone: as if in UTC) or durations as a Series of numpy's kind."""
    dtype = column.dtype
    if not (isinstance(dtype, (np.dtype, pd.DatetimeTZDtype)) and dtype.kind in "mM"):
        column = column.astype(object)
        column = column.where(column.notna(), None)
        if pdt.infer_dtype(column, skipna=True) == "date":
            # Through seconds: dates go beyond what nanoseconds reach.
            days = np.array(column.to_numpy(), dtype="M8[D]")
            return pd.Series(days.astype("M8[s]"), index=column.index)
        column = pd.to_datetime(column) if kind == "moment" else pd.to_timedelta(column)
    return column


def _to_python(cell: Any) -> Any:
    if cell is pd.NaT:
        return cell
    return cell.to_pydatetime() if isinstance(cell, pd.Timestamp) else cell.to_pytimedelta()
