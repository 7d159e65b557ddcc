"""Fixed values that a column keeps to: bounds of a constraint, and conditions of a sample."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from numbers import Real
from typing import Any

import numpy as np
import pandas as pd
from pandas.api import types as pdt

from skvae.constraints.columns import ColumnNumbers, bound_in


class Bounds:
    """Fixed bounds of a column.

    Parameters
    ----------
    numbers : ColumnNumbers
        The column.
    low, high : number, date, duration or None
        The bounds, as the user gave them.
    strict : bool
        Whether they are excluded.
    """

    def __init__(self, numbers: ColumnNumbers, low: Any, high: Any, *, strict: bool) -> None:
        self.numbers = numbers
        apart = 1 if strict and numbers.whole else 0
        self.low = None if low is None else bound_in(numbers, low) + apart
        self.high = None if high is None else bound_in(numbers, high) - apart

    def outside(self, values: np.ndarray) -> np.ndarray:
        """Return whether numbers lie beyond the bounds."""
        beyond = np.zeros(len(values), bool)
        if self.low is not None:
            beyond |= values < self.low
        if self.high is not None:
            beyond |= values > self.high
        return beyond

    def clip(self, columns: Mapping[Hashable, pd.Series]) -> pd.Series:
        """Return the column within its bounds."""
        column = columns[self.numbers.name]
        values, absent = self.numbers.read(columns)
        outside = ~absent & self.outside(values)
        if not outside.any():
            return column
        clipped = np.clip(values[outside], self.low, self.high)
        values = values.copy()
        values[outside] = clipped
        written = self.numbers.write(values, absent)
        return pd.Series(written, index=column.index, dtype=self.numbers.dtype)


class Given:
    """A condition on a column that is computed: what its cells are to be.

    Parameters
    ----------
    name : hashable
        The column.
    wanted : value, list of values, or tuple (low, high)
        Missing for a missing cell; bounds are included, either of them None for none.
    """

    def __init__(self, name: Hashable, wanted: Any) -> None:
        self.name, self.wanted = name, wanted

    def __repr__(self) -> str:
        """Name it as messages do."""
        return f"conditions[{self.name!r}]={self.wanted!r}"

    def holds(self, frame: pd.DataFrame) -> np.ndarray:
        """Return whether each row agrees.

        Raises
        ------
        TypeError, ValueError
            What is wanted is nothing that the column can hold.
        """
        column = frame[self.name]
        absent = column.isna().to_numpy()
        if isinstance(self.wanted, tuple):
            (numbers,) = ColumnNumbers.of(frame, [self.name])
            bounds = Bounds(numbers, *self.wanted, strict=False)
            return ~absent & ~bounds.outside(numbers.read(frame)[0])
        listed = pdt.is_list_like(self.wanted)
        wanted = pd.Series(list(self.wanted) if listed else [self.wanted], dtype=object)
        held = absent & bool(wanted.isna().any())
        wanted = wanted[wanted.notna()]
        if pdt.is_numeric_dtype(column.dtype) and not all(isinstance(w, Real) for w in wanted):
            raise ValueError(
                f"{self!r}, but the column holds numbers ({column.dtype}); expected a number, a "
                "list of them, or a range (low, high)."
            )
        if not isinstance(column.dtype, pd.CategoricalDtype) and column.dtype.kind in "mM":
            (numbers,) = ColumnNumbers.of(frame, [self.name])
            cells = numbers.read(frame)[0]
            return held | (~absent & np.isin(cells, [bound_in(numbers, cell) for cell in wanted]))
        return held | column.astype(object).isin(wanted).to_numpy()
