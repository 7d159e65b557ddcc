"""Columns that are computed from others, so that a constraint cannot be broken."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import pandas as pd

from skvae._warnings import warn_user
from skvae.constraints.columns import ColumnNumbers
from skvae.tabular import QuantileEncoder
from skvae.tabular.numeric import EXACT, MIN_GRID_VALUES, find_decimals, find_step

_RARE = "rare"


class Derivation:
    """A column as what it is beyond a sum of others: ``moved = base + direction * rest``.

    The reduced table has the rest in its place, which is never negative; or nothing where the rest
    is always zero (``direction`` 0). Rows in which the base is missing keep the column as it is,
    in a column of its own.

    Parameters
    ----------
    moved : hashable
        The column that is replaced.
    base : dict of hashable to {1, -1}
        The columns that are summed, and their signs.
    direction : {1, -1, 0}
        On which side of the base the column lies; 0 if it equals it.
    strict : bool
        Whether the rest is above zero.
    min_rows : int
        Least number of training rows behind a number that is stored.
    enforce_range, enforce_rounding : bool
        Whether the column keeps to its range, and its rounding, in training.
    tolerance : float, default=0.0
        By how much a column that equals its base may be off to be rounded, beyond what floating
        point does.
    """

    def __init__(
        self,
        moved: Hashable,
        base: Mapping[Hashable, int],
        *,
        direction: int,
        strict: bool,
        min_rows: int,
        enforce_range: bool,
        enforce_rounding: bool,
        tolerance: float = 0.0,
    ) -> None:
        self.moved, self.base = moved, dict(base)
        self.direction, self.strict = direction, strict
        self.min_rows = min_rows
        self.enforce_range, self.enforce_rounding = enforce_range, enforce_rounding
        self.tolerance = tolerance
        self.replaces, self.needs = [moved], list(base)

    def fit(self, frame: pd.DataFrame) -> Derivation:
        """Learn units, grid and range from the training table."""
        self.numbers_, *self.terms_ = ColumnNumbers.of(frame, [self.moved, *self.base])
        values, absent = self.numbers_.read(frame)
        base, base_absent = self._sum(frame)
        present, both = values[~absent], ~absent & ~base_absent
        self.whole_ = self.numbers_.whole and all(term.whole for term in self.terms_)
        self._fit_grid(present, frame)
        rest = self.direction * (values - base)[both]
        self.rest_decimals_ = None if self.whole_ else self._common_decimals(frame)
        self.unit_ = self._find_unit(rest) if self.whole_ else 1
        few = len(present) < self.min_rows
        self.range_ = None if few or not self.direction else _extremes(present, self.min_rows)
        self.resolution_ = 1.0 if self.whole_ or few else _resolution(present, self.min_rows)
        # Columns of the reduced table, where there is something for them to say.
        self.has_rest_ = bool(self.direction) or bool((absent & ~base_absent).any())
        self.has_alone_ = bool((~absent & base_absent).any())
        return self

    def take_names(self, known: set[str]) -> Derivation:
        """Name the columns of the reduced table unlike any other column."""
        name = " ".join([str(self.moved), *(f"{'-+'[s < 0]} {b}" for b, s in self.base.items())])
        self.rest_name_ = _unused(name, known)
        self.alone_name_ = _unused(f"{self.moved} alone", known)
        return self

    @property
    def makes(self) -> dict[Hashable, str]:
        """Columns of the reduced table, and their kinds."""
        rest = {self.rest_name_: "numeric"} if self.has_rest_ else {}
        alone = {self.alone_name_: self.numbers_.learnt_as} if self.has_alone_ else {}
        return {**rest, **alone}

    def reduce(self, frame: pd.DataFrame) -> dict[Hashable, Any]:
        """Return the columns of the reduced table."""
        values, absent = self.numbers_.read(frame)
        base, base_absent = self._sum(frame)
        out: dict[Hashable, Any] = {}
        if self.has_rest_:
            rest = self.direction * (values - base)
            unknown = absent | base_absent
            if self.whole_:
                whole = np.where(unknown, 0, rest) // self.unit_
                cells = pd.array(pd.arrays.IntegerArray(whole.astype(np.int64), unknown))
            else:
                cells = np.where(unknown, np.nan, rest)
                if self.rest_decimals_ is not None:
                    cells = np.round(cells, self.rest_decimals_)
            out[self.rest_name_] = pd.Series(cells, index=frame.index)
        if self.has_alone_:
            out[self.alone_name_] = frame[self.moved].where(base_absent)
        return out

    def restore(self, columns: Mapping[Hashable, pd.Series], rng) -> dict[Hashable, pd.Series]:
        """Return the column from those of the reduced table that are restored so far."""
        base, absent = self._sum(columns)
        alone = absent
        rest = np.zeros(len(base), base.dtype)
        if self.has_rest_:
            cells = columns[self.rest_name_]
            absent = absent | cells.isna().to_numpy()
            rest = cells.to_numpy(np.float64, na_value=0.0)
            rest = np.rint(rest).astype(np.int64) * self.unit_ if self.whole_ else rest
        values = base + self.direction * rest
        values = self._settle(values, base)
        if self.has_alone_:
            kept, kept_absent = self.numbers_.read({self.moved: columns[self.alone_name_]})
            values = np.where(alone, kept, values)
            absent = np.where(alone, kept_absent, absent)
        written = self.numbers_.write(values, absent)
        index = columns[self.needs[0]].index
        return {self.moved: pd.Series(written, index=index, dtype=self.numbers_.dtype)}

    def log_measure(self, frame: pd.DataFrame) -> np.ndarray:
        """Return the log density of a column that its base settles: one cell of its grid."""
        if self.direction:
            return np.zeros(len(frame))  # the rest has the column's own units
        settled = ~(self.numbers_.read(frame)[1] | self._sum(frame)[1])
        return np.where(settled, -np.log(self.resolution_), 0.0)

    def _sum(self, columns) -> tuple[np.ndarray, np.ndarray]:
        total: Any = 0
        absent: Any = False
        for term, sign in zip(self.terms_, self.base.values(), strict=True):
            values, missing = term.read(columns)
            total, absent = total + sign * values, absent | missing
        return total, absent

    def _fit_grid(self, present: np.ndarray, frame: pd.DataFrame) -> None:
        """Find the grid on which the column lies: decimals, and step and residue in their units."""
        self.step_, self.residue_, self.decimals_ = 1, 0, None
        if not self.numbers_.whole:
            self.decimals_ = find_decimals(present) if self.enforce_rounding else None
            self.step_, self.residue_ = find_step(present, self.decimals_)
        elif self.enforce_rounding:
            distinct = np.unique(present)
            if len(distinct) >= MIN_GRID_VALUES:
                self.step_ = int(np.gcd.reduce(np.diff(distinct)))
                self.residue_ = int(distinct[0] % self.step_)

    def _common_decimals(self, frame: pd.DataFrame) -> int | None:
        """Return the most decimals of the columns; None if one of them is not rounded."""
        found = []
        for numbers in (self.numbers_, *self.terms_):
            values, absent = numbers.read(frame)
            found.append(find_decimals(np.asarray(values[~absent], np.float64)))
        return None if None in found else max(found)

    def _find_unit(self, rest: np.ndarray) -> int:
        """Return the common step of the rests; it is coarser where float64 would not hold them."""
        if not len(rest):
            return 1
        step = int(np.gcd.reduce(rest)) if self.numbers_.kind != "number" else 1
        step = max(step, 1)
        return step * (int(np.abs(rest).max()) // step // EXACT + 1)

    def _settle(self, values: np.ndarray, base: np.ndarray) -> np.ndarray:
        """Move values to range and grid, but not across the base."""
        if not self.direction:
            snapped = self._snap(values)
            # A sum that is too far from the column's grid stays as it is.
            whole = self.whole_ or self.numbers_.whole
            return snapped if whole else if_near(snapped, values, self.tolerance)
        if self.enforce_range and self.range_ is not None:
            values = np.clip(values, *self.range_)
        values = self._snap(values)
        least = 0.0
        if self.strict:
            least = 1 if self.whole_ else 0.0 if self.decimals_ is None else 10.0**-self.decimals_
        limit = base + self.direction * least
        crossed = self.direction * (values - limit) < 0
        return np.where(crossed, self._snap(limit, self.direction), values)

    def _snap(self, values: np.ndarray, direction: int = 0) -> np.ndarray:
        """Move values to the grid: to the nearest point, or to the next one in a direction."""
        if self.decimals_ is not None:
            scaled = np.asarray(values, np.float64) * 10.0**self.decimals_
            steps = (scaled - self.residue_) / self.step_
            steps = np.ceil(direction * steps - 1e-6) * direction if direction else np.rint(steps)
            units = steps * self.step_ + self.residue_
            return np.round(units / 10.0**self.decimals_, self.decimals_)
        if not self.numbers_.whole:
            return values
        if not self.whole_:  # whole numbers from others that are not
            values = np.ceil(direction * values) * direction if direction else np.rint(values)
            values = values.astype(np.int64)
        shift = {1: self.step_ - 1, 0: self.step_ // 2, -1: 0}[direction]
        return (values - self.residue_ + shift) // self.step_ * self.step_ + self.residue_


class Combination:
    """Several columns as one: which combination of cells, of those that enough rows hold.

    Parameters
    ----------
    columns : sequence of hashable
        The columns.
    min_count : int
        Least number of training rows of a combination that is stored.
    """

    def __init__(self, columns, min_count: int) -> None:
        self.replaces, self.needs = list(columns), []
        self.min_count = min_count

    def __repr__(self) -> str:
        """Name the constraint, as messages do."""
        return f"FixedCombinations(columns={tuple(self.replaces)!r})"

    def fit(self, frame: pd.DataFrame) -> Combination:
        """Store the combinations that enough rows hold.

        Raises
        ------
        ValueError
            There are none.
        """
        keys = np.zeros(len(frame), np.int64)
        for name in self.replaces:
            codes, levels = pd.factorize(frame[name], use_na_sentinel=False)
            keys = pd.factorize(keys * len(levels) + codes)[0]
        _, first, counts = np.unique(keys, return_index=True, return_counts=True)
        kept = counts >= self.min_count
        share = counts[kept].sum() / len(frame)
        if share < 0.5:
            found = f"{int(kept.sum())} of {len(kept)} combinations of columns {self.replaces}"
            says = (
                f"{found} are held by at least {self.min_count} rows, together by "
                f"{100 * share:.2g} % of the table; no other may be reproduced. Lower "
                "rare_category_min_count, or name fewer columns in FixedCombinations."
            )
            if not kept.any():
                raise ValueError(f"constraints: {says}")
            warn_user(says)
        rows = first[kept]
        self.counts_ = counts[kept]
        self.cells_ = [frame[name].iloc[rows].to_numpy(object) for name in self.replaces]
        self.dtypes_ = [frame[name].dtype for name in self.replaces]
        return self

    def take_names(self, known: set[str]) -> Combination:
        """Name the column of the reduced table unlike any other."""
        self.name_ = _unused(" & ".join(map(str, self.replaces)), known)
        return self

    @property
    def makes(self) -> dict[Hashable, str]:
        """The column of the reduced table, and its kind."""
        return {self.name_: "categorical"}

    def reduce(self, frame: pd.DataFrame) -> dict[Hashable, Any]:
        """Return the column of the reduced table."""
        labels = np.append(np.arange(len(self.counts_)).astype(str).astype(object), _RARE)
        return {self.name_: pd.Series(labels[self._codes(frame)], index=frame.index)}

    def restore(self, columns: Mapping[Hashable, pd.Series], rng) -> dict[Hashable, pd.Series]:
        """Return the columns behind that of the reduced table."""
        labels = columns[self.name_]
        codes = pd.to_numeric(labels, errors="coerce").to_numpy(np.float64, na_value=np.nan)
        rare = np.isnan(codes)
        frequencies = self.counts_ / self.counts_.sum()
        codes[rare] = rng.choice(len(frequencies), size=int(rare.sum()), p=frequencies)
        codes = codes.astype(np.int64)
        return {
            name: pd.Series(pd.Series(cells, dtype=dtype).array.take(codes), index=labels.index)
            for name, cells, dtype in zip(self.replaces, self.cells_, self.dtypes_, strict=True)
        }

    def holds(self, frame: pd.DataFrame) -> np.ndarray:
        """Return whether each row holds one of the stored combinations."""
        return self._codes(frame) >= 0

    def log_measure(self, frame: pd.DataFrame) -> np.ndarray:
        """Return what the numbers among the columns add to the log density: nothing."""
        return np.zeros(len(frame))

    def _codes(self, frame: pd.DataFrame) -> np.ndarray:
        """Return which stored combination each row holds; -1 for none."""
        # Column by column: which of the beginnings of stored combinations a row has so far.
        stored = np.zeros(len(self.counts_), np.int64)
        codes = np.zeros(len(frame), np.int64)
        for name, cells in zip(self.replaces, self.cells_, strict=True):
            index = pd.Index(cells[~pd.isna(cells)], dtype=object).unique()
            width = len(index) + 1
            there = _places(index, cells)
            here = _places(index, frame[name].to_numpy(object))
            beginnings = pd.Index(stored * width + there)
            distinct = beginnings.unique()
            stored = distinct.get_indexer(beginnings)
            known = (codes >= 0) & (here >= 0)
            codes = np.where(known, distinct.get_indexer(pd.Index(codes * width + here)), -1)
        order = np.empty(len(stored), np.int64)
        order[stored] = np.arange(len(stored))
        return np.where(codes >= 0, order[codes], -1)


def _places(index: pd.Index, cells: np.ndarray) -> np.ndarray:
    """Return where cells stand in an index; its length for missing ones, -1 for others."""
    return np.where(pd.isna(cells), len(index), index.get_indexer(pd.Index(cells, dtype=object)))


def _unused(name: str, known: set[str]) -> str:
    while name in known:
        name = f"{name}_"
    known.add(name)
    return name


def _extremes(present: np.ndarray, width: int) -> tuple:
    """Return the ends of the range, each the mean of so many training values."""
    ends = np.partition(present, [width - 1, len(present) - width])
    # Means of differences: sums of dates would overflow.
    low, high = ends[0:width].min(), ends[-width:].max()
    least = low + (ends[:width] - low).mean()
    most = high - (high - ends[-width:]).mean()
    if present.dtype.kind == "i":
        return int(np.ceil(least)), int(np.floor(most))
    return float(least), float(most)


def _resolution(present: np.ndarray, min_rows: int) -> float:
    return QuantileEncoder(1, min_rows).fit(np.asarray(present, np.float64)).resolution_


def if_near(snapped: np.ndarray, values: np.ndarray, tolerance: float = 0.0) -> np.ndarray:
    """Return the snapped values within a tolerance and rounding, and the others as they were."""
    near = np.abs(snapped - values) <= tolerance + 1e-9 * np.abs(values)
    return np.where(near, snapped, values)
