"""Dates, durations and times of day as whole numbers of the coarsest unit that holds them all.

A column of midnights is counted in days, one of firsts of the month in months, one of full minutes
in minutes; so what comes out lies on the same grid. Zoned timestamps are counted by the clock on
the wall: that is what people set dates by, and what stays on the grid when the clock changes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from pandas.api import types as pdt

from skvae.tabular.numeric import DOUBLE_PRECISION, EXACT
from skvae.tabular.schema import ColumnSchema

DATE_UNITS = ("Y", "M", "D", "h", "m", "s", "ms", "us", "ns")
_OFFSET_STEP = 10**15
# What pandas calls columns of Python's dates and times.
TEMPORAL_OBJECTS = {
    "date": "datetime",
    "datetime": "datetime",
    "datetime64": "datetime",
    "timedelta": "timedelta",
    "timedelta64": "timedelta",
    "time": "time",
}


def temporal_kind(present: pd.Series) -> str | None:
    """Return "datetime", "timedelta" or "time" for columns of such, None for all others.

    Parameters
    ----------
    present : Series
        The cells that are not missing.
    """
    dtype = present.dtype
    if pdt.is_datetime64_any_dtype(dtype):
        return "datetime"
    if pdt.is_timedelta64_dtype(dtype):
        return "timedelta"
    if isinstance(dtype, pd.ArrowDtype):
        arrow = str(dtype.pyarrow_dtype)
        names = {"timestamp": "datetime", "date": "datetime", "duration": "timedelta"}
        names["time"] = "time"
        return next((kind for name, kind in names.items() if arrow.startswith(name)), None)
    if pdt.is_object_dtype(dtype):
        return TEMPORAL_OBJECTS.get(pdt.infer_dtype(present, skipna=True))
    return None


@dataclass
class TemporalSchema(ColumnSchema):
    """One column of dates, durations or times of day.

    Attributes
    ----------
    unit : str
        What is counted, a unit of ``numpy.datetime64``: years, months, days, ... nanoseconds.
    cell : str
        Python type of the cells in a column of objects: "date", "datetime", "Timestamp",
        "timedelta", "Timedelta", "time"; "" for all other dtypes.
    zone : DatetimeTZDtype or None
        The zone of zoned timestamps.
    date_format : str or None
        How dates are written in a column of strings.
    """

    unit: str = "D"
    cell: str = ""
    zone: Any = None
    date_format: str | None = None

    @property
    def precision(self) -> float:
        """Relative spacing of the numbers that the column can hold."""
        return DOUBLE_PRECISION

    @property
    def units(self) -> Any:
        """What a column must share with this one for equal numbers to be equal cells."""
        return self.kind, self.unit, self.offset

    def learn(self, present: pd.Series, date_format: str | None) -> None:
        """Find the zone, the unit and the offset of the cells that are not missing."""
        self.date_format = date_format
        if pdt.is_object_dtype(self.dtype) and date_format is None and len(present):
            self.cell = type(present.iloc[0]).__name__
        self.zone = _zone_of(present)
        if self.cell:
            zoned = sum(getattr(cell, "tzinfo", None) is not None for cell in present)
            if 0 < zoned < len(present):
                raise ValueError(
                    f"Column {self.name!r} holds {zoned} cells with a time zone among "
                    f"{len(present)}, expected all or none. Give the others one with "
                    ".map(lambda cell: cell.replace(tzinfo=...)), or take it away with tzinfo=None."
                )
        if self.kind == "time" and self.zone is not None:
            raise ValueError(
                f"Column {self.name!r} holds times of day with a zone, expected times without. "
                "Remove the zone, for instance with .map(lambda cell: cell.replace(tzinfo=None))."
            )
        ticks = self._read(present)
        if len(ticks) == 0:
            return
        units = DATE_UNITS if ticks.dtype.kind == "M" else DATE_UNITS[2:]
        finest = np.datetime_data(ticks.dtype)[0]
        units = units[: units.index(finest) + 1]
        self.unit = next(u for u in units if (ticks.astype(_as(ticks, u)) == ticks).all())
        counts = ticks.astype(_as(ticks, self.unit)).astype(np.int64)
        if int(counts.max()) - int(counts.min()) > EXACT:
            # Nanoseconds over more than 104 days: float64 counts microseconds.
            self.unit = units[-2]
            counts = ticks.astype(_as(ticks, self.unit)).astype(np.int64)
        least, most = int(counts.min()), int(counts.max())
        if max(abs(least), abs(most)) > EXACT:
            self.offset = (least + most) // 2 // _OFFSET_STEP * _OFFSET_STEP

    def read_numbers(self, column: pd.Series) -> np.ndarray:
        """Return a column as counts of ``unit``, float64, missing cells as NaN.

        Raises
        ------
        ValueError
            The column holds something else than in fit.
        """
        present = column[column.notna()] if pdt.is_object_dtype(column.dtype) else column
        strings = self.date_format is not None
        found = pdt.infer_dtype(present) if strings else temporal_kind(present)
        zoned = not strings and len(present) and _zone_of(present) is not None
        if len(present) and (
            found not in (("string", "empty") if strings else (self.kind,))
            or zoned != (self.zone is not None)
        ):
            raise ValueError(
                f"Column {self.name!r} held {self.kind}s in fit (dtype {self.dtype}), but now "
                f"holds {found or column.dtype}{' with a zone' if zoned else ''}. Give it the "
                "dtype it had in fit."
            )
        ticks = self._read(column)
        absent = np.isnat(ticks)
        counts = ticks.astype(_as(ticks, self.unit)).astype(np.int64) - (self.offset or 0)
        return np.where(absent, np.nan, counts.astype(np.float64))

    def write_numbers(self, values: np.ndarray) -> Any:
        """Turn counts of ``unit`` (NaN = missing) into an array of this column's dtype."""
        absent = np.isnan(values)
        counts = np.rint(np.where(absent, 0.0, values)).astype(np.int64) + (self.offset or 0)
        letter = "M" if self.kind == "datetime" else "m"
        ticks = counts.astype(f"{letter}8[{self.unit}]")
        ticks[absent] = "NaT"
        if self.cell:
            return pd.Series(self._write_objects(ticks, absent), dtype=object)
        if self.date_format is not None:
            texts = pd.DatetimeIndex(ticks.astype("M8[s]" if self.unit in "YMDhms" else "M8[us]"))
            cells = texts.strftime(self.date_format).to_numpy(dtype=object)
            cells[absent] = self.missing
            return self.write_objects(cells, any_absent=bool(absent.any()))
        return self._write_array(ticks)

    def _read(self, column: pd.Series) -> np.ndarray:
        """Return a column as datetime64 (of the clock on the wall) or timedelta64."""
        dtype = column.dtype
        if isinstance(dtype, pd.DatetimeTZDtype):
            return column.dt.tz_convert(self.zone.tz).dt.tz_localize(None).to_numpy()
        if isinstance(dtype, np.dtype) and dtype.kind in "mM":
            return column.to_numpy()
        if isinstance(dtype, pd.ArrowDtype) and self.date_format is None:
            return self._read_arrow(column)
        present = column.notna().to_numpy()
        ticks = self._read_objects(column[present])
        out = np.full(len(column), "NaT", dtype=ticks.dtype)
        out[present] = ticks
        return out

    def _read_arrow(self, column: pd.Series) -> np.ndarray:
        import pyarrow as pa

        cells = pa.array(column.array)
        if self.kind == "time":
            unit = cells.type.unit
            width = pa.int32() if cells.type.bit_width == 32 else pa.int64()
            cells = cells.cast(width).cast(pa.int64()).cast(pa.duration(unit))
        ticks = cells.to_numpy(zero_copy_only=False)
        if self.zone is None:
            return ticks
        clock = pd.Series(ticks).dt.tz_localize("UTC").dt.tz_convert(self.zone.tz)
        return clock.dt.tz_localize(None).to_numpy()

    def _read_objects(self, present: pd.Series) -> np.ndarray:
        """Return cells that are Python objects, none missing."""
        if self.date_format is not None:
            dates = pd.to_datetime(present.astype(object), format=self.date_format)
            return dates.to_numpy()
        if self.zone is not None:
            clock = pd.DatetimeIndex(pd.to_datetime(present, utc=True)).tz_convert(self.zone.tz)
            return clock.tz_localize(None).to_numpy()
        if self.kind == "time":
            return pd.to_timedelta(present.astype(str)).to_numpy()
        cells = present.to_numpy(dtype=object)
        if self.cell == "date":
            return cells.astype("M8[D]")
        if self.cell in ("Timestamp", "Timedelta"):
            return (pd.to_datetime if self.kind == "datetime" else pd.to_timedelta)(
                cells
            ).to_numpy()
        return cells.astype("M8[us]" if self.kind == "datetime" else "m8[us]")

    def _write_array(self, ticks: np.ndarray) -> Any:
        dtype = self.dtype
        if isinstance(dtype, np.dtype):
            return ticks.astype(dtype)
        if isinstance(dtype, pd.DatetimeTZDtype):
            return self._localize(ticks, dtype.unit).array
        import pyarrow as pa

        arrow = dtype.pyarrow_dtype
        if self.kind == "time":
            counts = pa.array(ticks.astype(f"m8[{arrow.unit}]"), from_pandas=True).cast(pa.int64())
            width = pa.int32() if arrow.bit_width == 32 else pa.int64()
            return pd.array(counts.cast(width).cast(arrow), dtype=dtype)
        if self.zone is not None:
            ticks = self._localize(ticks, arrow.unit).tz_convert("UTC").tz_localize(None).to_numpy()
        unit = getattr(arrow, "unit", "s")
        cells = pa.array(ticks.astype(_as(ticks, unit)), from_pandas=True)
        return pd.array(cells.cast(arrow), dtype=dtype)

    def _write_objects(self, ticks: np.ndarray, absent: np.ndarray) -> np.ndarray:
        if self.zone is not None:
            clock = self._localize(ticks, "us" if self.cell == "datetime" else "ns")
            cells = clock.to_pydatetime() if self.cell == "datetime" else clock.astype(object)
        elif self.cell == "date":
            cells = ticks.astype("M8[D]").astype(object)
        elif self.kind == "time":
            cells = pd.DatetimeIndex(np.datetime64(0, "us") + ticks.astype("m8[us]")).time
        elif self.cell in ("Timestamp", "Timedelta"):
            index = pd.DatetimeIndex if self.kind == "datetime" else pd.TimedeltaIndex
            cells = index(ticks.astype(_as(ticks, "ns"))).astype(object)
        elif self.cell in ("datetime64", "timedelta64"):
            cells = np.array(list(ticks.astype(_as(ticks, "us"))), dtype=object)
        else:
            cells = ticks.astype(_as(ticks, "us")).astype(object)
        cells = np.array(cells, dtype=object)
        cells[absent] = self.missing
        return cells

    def _localize(self, ticks: np.ndarray, unit: str) -> pd.DatetimeIndex:
        """Return the moments at which the clock on the wall shows these times.

        Of an hour that comes twice the second is taken, and a time that is skipped moves to the
        end of the gap.
        """
        clock = pd.DatetimeIndex(ticks.astype(f"M8[{unit}]"))
        return clock.tz_localize(
            self.zone.tz, ambiguous=np.zeros(len(clock), bool), nonexistent="shift_forward"
        )


def _as(ticks: np.ndarray, unit: str) -> str:
    """Return the dtype of ``ticks`` with another unit."""
    return f"{ticks.dtype.kind}8[{unit}]"


def _zone_of(present: pd.Series) -> pd.DatetimeTZDtype | None:
    """Return the zone of a column of timestamps, that of the first cell in a column of objects."""
    dtype = present.dtype
    if isinstance(dtype, pd.DatetimeTZDtype):
        return dtype
    if isinstance(dtype, pd.ArrowDtype):
        zone = getattr(dtype.pyarrow_dtype, "tz", None)
    else:
        zone = getattr(present.iloc[0], "tzinfo", None) if len(present) else None
    return None if zone is None else pd.DatetimeTZDtype("ns", zone)
