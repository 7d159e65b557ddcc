"""What a user may say of the rows of a table."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from skvae.constraints.columns import ColumnNumbers, bound_in, subtract


class Constraint:
    """Base of constraints: which columns they speak of, and which rows keep to them."""

    def named(self, known: Sequence[Hashable]) -> list[Hashable]:
        """Return the columns that the constraint names."""
        raise NotImplementedError

    def holds(self, frame: pd.DataFrame) -> np.ndarray:
        """Return whether each row keeps to the constraint, bool of shape (n_rows,).

        A missing cell breaks no constraint.
        """
        raise NotImplementedError


@dataclass(frozen=True)
class Inequality(Constraint):
    """One column is never above another: ``low <= high``.

    Parameters
    ----------
    low, high : column names
        Two columns of numbers, of dates and times, or of durations.
    strict : bool, default=False
        Whether equal cells are excluded too.

    Examples
    --------
    >>> import pandas as pd
    >>> from skvae.constraints import Inequality
    >>> stays = pd.DataFrame({"arrival": [1, 4, None], "departure": [3, 2, 5]})
    >>> Inequality("arrival", "departure").holds(stays)
    array([ True, False,  True])
    """

    low: Hashable
    high: Hashable
    strict: bool = False

    def named(self, known: Sequence[Hashable]) -> list[Hashable]:
        """Return both columns."""
        return [self.low, self.high]

    def holds(self, frame: pd.DataFrame) -> np.ndarray:
        """Return whether ``low`` is not above ``high``, row by row."""
        low, high = ColumnNumbers.of(frame, [self.low, self.high])
        difference, absent = subtract(high.read(frame), low.read(frame))
        return absent | (difference > 0 if self.strict else difference >= 0)


@dataclass(frozen=True)
class Range(Constraint):
    """A column lies between two bounds: ``low <= column <= high``.

    Parameters
    ----------
    column : column name
        A column of numbers, of dates and times, or of durations.
    low, high : number, date, column name or None, default=None
        The bounds. Strings and tuples that name a column of the table mean that column; a number
        is always itself (``Inequality`` takes columns that are named by numbers). None for none.
    strict : bool, default=False
        Whether the bounds themselves are excluded.

    Examples
    --------
    >>> import pandas as pd
    >>> from skvae.constraints import Range
    >>> Range("age", 18, 65).holds(pd.DataFrame({"age": [17, 18, 65, None]}))
    array([False,  True,  True,  True])
    """

    column: Hashable
    low: Any = None
    high: Any = None
    strict: bool = False

    def __post_init__(self) -> None:
        """Refuse a range without bounds."""
        if self.low is None and self.high is None:
            raise ValueError(f"Range({self.column!r}) has no bound: give low, high or both.")

    def named(self, known: Sequence[Hashable]) -> list[Hashable]:
        """Return the column, and the bounds that are columns."""
        bounds = [bound for bound in (self.low, self.high) if names_column(bound, known)]
        return [self.column, *bounds]

    def inequalities(self, known: Sequence[Hashable]) -> list[Inequality]:
        """Return what the bounds that are columns say."""
        found = []
        if names_column(self.low, known):
            found.append(Inequality(self.low, self.column, self.strict))
        if names_column(self.high, known):
            found.append(Inequality(self.column, self.high, self.strict))
        return found

    def fixed_bounds(self, known: Sequence[Hashable]) -> tuple[Any, Any]:
        """Return the bounds that are values; None for those that are columns or not there."""
        low, high = (
            None if names_column(bound, known) else bound for bound in (self.low, self.high)
        )
        return low, high

    def holds(self, frame: pd.DataFrame) -> np.ndarray:
        """Return whether the column lies within its bounds, row by row."""
        held = np.ones(len(frame), bool)
        for inequality in self.inequalities(frame.columns):
            held &= inequality.holds(frame)
        low, high = self.fixed_bounds(frame.columns)
        (numbers,) = ColumnNumbers.of(frame, [self.column])
        values, absent = numbers.read(frame)
        if low is not None:
            low = bound_in(numbers, low)
            held &= absent | (values > low if self.strict else values >= low)
        if high is not None:
            high = bound_in(numbers, high)
            held &= absent | (values < high if self.strict else values <= high)
        return held


@dataclass(frozen=True)
class FixedCombinations(Constraint):
    """Some columns hold only combinations of cells that stand together in the table.

    A missing cell is a cell like any other here. Combinations held by fewer rows than
    ``rare_category_min_count`` (or ``min_rows_per_value``) are neither stored nor reproduced:
    their share of rows goes to the others.

    Parameters
    ----------
    columns : sequence of column names
        At least two.

    Examples
    --------
    >>> from skvae.constraints import FixedCombinations
    >>> FixedCombinations(["city", "country"])
    FixedCombinations(columns=('city', 'country'))
    """

    columns: tuple[Hashable, ...]

    def __post_init__(self) -> None:
        """Take any sequence of two columns or more."""
        if isinstance(self.columns, str) or len(set(self.columns)) < 2:
            raise ValueError(
                f"FixedCombinations was given {self.columns!r}, expected a list of at least two "
                "columns."
            )
        object.__setattr__(self, "columns", tuple(self.columns))

    def named(self, known: Sequence[Hashable]) -> list[Hashable]:
        """Return the columns."""
        return list(self.columns)

    def holds(self, frame: pd.DataFrame) -> np.ndarray:
        """Return True: any combination will do as long as the table has it."""
        return np.ones(len(frame), bool)


@dataclass(frozen=True)
class Total(Constraint):
    """A column is the sum of others.

    Rows that come out have it rounded as the table has it, where the tolerance allows that.

    Parameters
    ----------
    parts : sequence of column names
        The columns that are added up.
    total : column name
        Their sum.
    tolerance : float, default=0.0
        By how much the sum may be off, beyond what floating point does (one part in 10^9).

    Examples
    --------
    >>> import pandas as pd
    >>> from skvae.constraints import Total
    >>> bills = pd.DataFrame({"net": [10.0, 20.0], "tax": [1.9, 3.8], "gross": [11.9, 23.0]})
    >>> Total(["net", "tax"], "gross").holds(bills)
    array([ True, False])
    """

    parts: tuple[Hashable, ...]
    total: Hashable
    tolerance: float = 0.0

    def __post_init__(self) -> None:
        """Take any sequence of columns."""
        if isinstance(self.parts, str) or not len(self.parts):
            raise ValueError(f"Total was given parts={self.parts!r}, expected a list of columns.")
        object.__setattr__(self, "parts", tuple(self.parts))
        if len({*self.parts, self.total}) != len(self.parts) + 1:
            raise ValueError(f"{self!r} names a column twice.")

    def named(self, known: Sequence[Hashable]) -> list[Hashable]:
        """Return the parts and the total."""
        return [*self.parts, self.total]

    def holds(self, frame: pd.DataFrame) -> np.ndarray:
        """Return whether the parts add up to the total, row by row."""
        *parts, total = ColumnNumbers.of(frame, [*self.parts, self.total])
        found, absent = total.read(frame)
        size = np.abs(np.asarray(found, np.float64))
        missing_by = found
        for part in parts:
            values, part_absent = part.read(frame)
            absent = absent | part_absent
            size = np.maximum(size, np.abs(np.asarray(values, np.float64)))
            missing_by = missing_by - values
        slack = 0.0 if total.whole and all(p.whole for p in parts) else 1e-9 * size
        return absent | (np.abs(missing_by) <= self.tolerance + slack)


@dataclass(frozen=True)
class Predicate(Constraint):
    """Any statement about a row, as a function.

    Enforced by drawing again, so the sample costs one over the share of rows that it accepts.

    Parameters
    ----------
    function : callable
        Takes a DataFrame with the columns and dtypes of the table and returns a boolean for each
        row. It must not change the DataFrame. A function of a module can be pickled with the
        estimator, a lambda cannot; ``skvae.save`` and ``skvae.to_config`` hold no functions.
    name : str or None, default=None
        What to call it in messages; the function's own name by default.

    Examples
    --------
    >>> import pandas as pd
    >>> from skvae.constraints import Predicate
    >>> def adults_only_drive(table):
    ...     return (table["age"] >= 18) | ~table["drives"]
    >>> table = pd.DataFrame({"age": [17, 30, 12], "drives": [False, True, True]})
    >>> Predicate(adults_only_drive).holds(table)
    array([ True,  True, False])
    """

    function: Callable[[pd.DataFrame], Any]
    name: str | None = None

    def __post_init__(self) -> None:
        """Refuse what cannot be called."""
        if not callable(self.function):
            raise TypeError(
                f"Predicate was given {self.function!r}, expected a function that takes a "
                "DataFrame and returns a boolean for each row."
            )

    def __repr__(self) -> str:
        """Name it as messages do."""
        return f"Predicate({self.name or getattr(self.function, '__name__', self.function)})"

    def named(self, known: Sequence[Hashable]) -> list[Hashable]:
        """Return no column: which ones the function looks at is its own affair."""
        return []

    def holds(self, frame: pd.DataFrame) -> np.ndarray:
        """Return what the function says of each row."""
        try:
            answer = self.function(frame.copy(deep=False))
        except Exception as error:
            raise ValueError(
                f"{self!r} raised {type(error).__name__}: {error}. It is given a DataFrame with "
                f"the columns {list(frame.columns)}."
            ) from error
        try:
            held = pd.array(np.asarray(answer).ravel(), dtype="boolean")
        except (TypeError, ValueError):
            held = None
        if held is None or len(held) != len(frame) or np.ndim(answer) != 1:
            raise ValueError(
                f"{self!r} returned {type(answer).__name__} of shape {np.shape(answer)}, expected "
                f"a boolean for each of {len(frame)} rows, such as table['a'] > 0."
            )
        return held.to_numpy(bool, na_value=True)


def names_column(bound, known: Sequence[Hashable]) -> bool:
    """Whether a bound of ``Range`` means a column."""
    return isinstance(bound, (str, tuple)) and bound in list(known)
