"""Cells that rows have already, under constraints: what they settle, and what they leave open."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any, NoReturn

import numpy as np
import pandas as pd

from skvae.constraints.columns import ColumnNumbers
from skvae.constraints.plan import ConstraintPlan
from skvae.constraints.rules import Predicate
from skvae.constraints.steps import Combination, Derivation, if_near

# Ways of making the cells of a row agree that are tried, at most.
MAX_WAYS = 16


@dataclass(frozen=True)
class Absorber:
    """A column of the reduced table that gives way, so that a known cell comes out as it is.

    Attributes
    ----------
    step : Derivation
        What computes the known cell.
    column : hashable or None
        The column that gives way; None if none can.
    numbers : ColumnNumbers or Derivation or None
        What reads the column: of the table, or of the step whose rest it is. None for the rest of
        ``step`` itself, which follows from the cells of the row.
    sign : {1, -1}
        What one more in the known cell means for it.
    """

    step: Derivation
    column: Hashable | None
    numbers: Any = None
    sign: int = 1


def refuse_broken(plan: ConstraintPlan, frame: pd.DataFrame) -> None:
    """Raise ValueError for a row whose known cells break a constraint, whatever the others are.

    A ``Predicate`` is asked about rows without a gap alone: it may look at any cell.
    """
    whole = np.flatnonzero(frame.notna().all(axis=1))
    for constraint in plan.constraints:
        rows = whole if isinstance(constraint, Predicate) else np.arange(len(frame))
        broken = rows[~constraint.holds(frame.iloc[rows])]
        if len(broken):
            named = constraint.named(plan.columns_)
            refuse_row(frame, int(broken[0]), constraint, named)


def refuse_row(frame: pd.DataFrame, row: int, rule: Any, named: Sequence[Hashable]) -> NoReturn:
    """Raise ValueError for the row at a position, whose known cells break a rule."""
    there = [name for name in named if pd.notna(frame[name].iloc[row])]
    cells = ", ".join(f"{name}={frame[name].iloc[[row]].tolist()[0]!r}" for name in there)
    raise ValueError(
        f"Row {frame.index[[row]].tolist()[0]!r} breaks {rule!r} by the cells that it has"
        f"{f' ({cells})' if cells else ''}. Correct them, make them missing, or drop the row."
    )


def agreeing(step: Combination, frame: pd.DataFrame) -> np.ndarray:
    """Return which stored combinations go with the known cells of each row.

    Those that fill all gaps; or those that leave some, where there are no others.

    Returns
    -------
    bool array of shape (n_rows, n_combinations)
        Without a True in rows that go with none.
    """
    whole = np.ones((len(frame), len(step.counts_)), bool)
    partly = whole.copy()
    for name, cells in zip(step.replaces, step.cells_, strict=True):
        levels = pd.Index(cells[~pd.isna(cells)], dtype=object).unique()
        stored = levels.get_indexer(pd.Index(cells, dtype=object))  # -1 for a missing cell
        column = frame[name].to_numpy(object)
        open_ = pd.isna(column)[:, None]
        found = levels.get_indexer(pd.Index(column, dtype=object))
        same = (found[:, None] == stored) & (found[:, None] >= 0)
        partly &= open_ | same
        whole &= np.where(open_, stored >= 0, same)
    return np.where(whole.any(axis=1, keepdims=True), whole, partly)


def links(plan: ConstraintPlan, missing: set[Hashable]) -> list[Derivation]:
    """Return the steps that compute a known cell from cells of which some are missing."""
    return [
        step
        for step in plan.steps_
        if isinstance(step, Derivation)
        and step.moved not in missing
        and not missing.isdisjoint(step.base)
    ]


def ways(plan: ConstraintPlan, missing: set[Hashable]) -> list[tuple[Absorber, ...]]:
    """Return the ways of making drawn cells agree with the known ones: what gives way to each."""
    options = [
        list(_absorbers(plan, step, step, missing, 1)) or [Absorber(step, None)]
        for step in links(plan, missing)
    ]
    return list(product(*options))[:MAX_WAYS]


def _absorbers(
    plan: ConstraintPlan, link: Derivation, step: Derivation, missing: set[Hashable], sign: int
) -> Iterator[Absorber]:
    if step.direction:
        own = step is link
        yield Absorber(link, step.rest_name_, None if own else step, sign * step.direction)
    makers = {name: maker for maker in plan.steps_ for name in maker.replaces}
    for (name, term_sign), numbers in zip(step.base.items(), step.terms_, strict=True):
        maker = makers.get(name)
        if name in missing and maker is None:
            yield Absorber(link, name, numbers, sign * term_sign)
        elif name in missing and isinstance(maker, Derivation):
            yield from _absorbers(plan, link, maker, missing, sign * term_sign)


def complete(
    plan: ConstraintPlan,
    reduced: pd.DataFrame,
    known: pd.DataFrame,
    way: Sequence[Absorber],
    rng: np.random.Generator,
) -> pd.DataFrame:
    """Return the rows behind drawn rows of the reduced table, with the known cells in them.

    Parameters
    ----------
    plan : ConstraintPlan
        Fitted.
    reduced : DataFrame
        Drawn rows.
    known : DataFrame
        As many rows of the table, with gaps.
    way : sequence of Absorber
        What gives way to known cells that are computed.
    rng : numpy.random.Generator
        Source of what rare combinations stand for.
    """
    for absorber in way:
        if absorber.numbers is not None:
            gap = _gap(plan, reduced, known, absorber.step, rng)
            reduced = reduced.copy(deep=False)
            reduced[absorber.column] = _moved(reduced, absorber, gap)
    return plan.restore(reduced, rng, known)


def _gap(plan, reduced, known, step: Derivation, rng) -> np.ndarray:
    """Return by how much a known cell is above what the drawn ones make of it."""
    columns = plan.restored(reduced, rng, known, until=step)
    return step.numbers_.read(known)[0] - step.numbers_.read(columns)[0]


def _moved(reduced: pd.DataFrame, absorber: Absorber, gap: np.ndarray) -> pd.Series:
    """Return a column of the reduced table that makes up for a gap."""
    to, of_link = absorber.numbers, absorber.step.numbers_
    step = to if isinstance(to, Derivation) else None
    numbers = to if step is None else step.numbers_
    gap = absorber.sign * gap
    if of_link.unit != numbers.unit:
        gap = gap * (np.timedelta64(1, of_link.unit) / np.timedelta64(1, numbers.unit))
    if step is None:
        values, absent = numbers.read(reduced)
        values = values + gap
        decimals = absorber.step.rest_decimals_
        if decimals is not None:
            values = if_near(np.round(values, decimals), values)
        written = numbers.write(np.rint(values) if numbers.whole else values, absent)
        return pd.Series(written, index=reduced.index)
    column = reduced[absorber.column]
    values = column.to_numpy(np.float64) + gap / step.unit_
    return pd.Series(np.rint(values) if step.whole_ else values).astype(column.dtype)


def number_readers(plan: ConstraintPlan) -> dict[Hashable, tuple[Callable, Callable]]:
    """Return what reads the numbers of each column that is computed as float64, and writes them."""

    def pair(numbers: ColumnNumbers) -> tuple[Callable, Callable]:
        def read(column: pd.Series) -> np.ndarray:
            return numbers.read({numbers.name: column})[0].astype(np.float64)

        def write(values: np.ndarray) -> Any:
            values = np.rint(values) if numbers.whole else values
            return numbers.write(values, np.zeros(len(values), bool))

        return read, write

    steps = (step for step in plan.steps_ if isinstance(step, Derivation))
    return {step.moved: pair(step.numbers_) for step in steps}
