"""From a table to one that cannot break its constraints, and back."""

from __future__ import annotations

import copy
import difflib
from collections.abc import Hashable, Mapping, Sequence
from graphlib import CycleError, TopologicalSorter
from typing import Any

import numpy as np
import pandas as pd

from skvae.constraints.bounds import Bounds, Given
from skvae.constraints.columns import ColumnNumbers, with_known
from skvae.constraints.rules import (
    Constraint,
    FixedCombinations,
    Inequality,
    Predicate,
    Range,
    Total,
)
from skvae.constraints.steps import Combination, Derivation
from skvae.tabular.kinds import MADE_KINDS

# Rows shown of those that break a constraint.
N_SHOWN = 3


class ConstraintPlan:
    """What is done about a list of constraints on one table.

    Where it can be, a constraint is built in: a column is replaced by what it is beyond others,
    or several columns by one, so that whatever is learnt and drawn, the columns that come back
    keep to it. The rest are checked on the rows that come out.

    Parameters
    ----------
    constraints : sequence of Constraint
        What the user said.
    min_rows : int
        Least number of training rows behind a number that is stored.
    min_count : int
        Least number of rows of a combination that is stored.
    enforce_range, enforce_rounding : bool
        Whether columns that are computed keep to the range, and to the rounding, of training.

    Attributes
    ----------
    columns_ : list
        Columns of the table.
    steps_ : list of (Derivation or Combination)
        What is built in, in the order in which columns are computed.
    bounds_ : list of Bounds
        Fixed bounds, to which columns are clipped.
    checked_ : list of (Constraint or Combination)
        What a row that comes out is held to.
    redrawn_ : list of (Constraint or Combination)
        Those among them that are not built in.
    """

    def __init__(
        self,
        constraints: Sequence[Constraint],
        *,
        min_rows: int,
        min_count: int,
        enforce_range: bool = True,
        enforce_rounding: bool = True,
    ) -> None:
        self.constraints = list(constraints)
        self.min_rows, self.min_count = min_rows, min_count
        self.enforce_range, self.enforce_rounding = enforce_range, enforce_rounding

    def fit(self, frame: pd.DataFrame) -> ConstraintPlan:
        """Look at the table and decide what is built in.

        Raises
        ------
        TypeError, ValueError
            Something else than a constraint, one that names a column that is not there or cannot
            be compared, one that the table breaks, or several that cannot be held together.
        """
        self.columns_ = list(frame.columns)
        self.check(frame)
        self.steps_: list[Derivation | Combination] = []
        self.bounds_: list[Bounds] = []
        self.checked_: list[Any] = []
        self.redrawn_: list[Any] = []
        # Those that leave the least choice come first.
        for kind in (FixedCombinations, Total, Constraint):
            for constraint in self.constraints:
                special = isinstance(constraint, (FixedCombinations, Total))
                if isinstance(constraint, kind) and not (kind is Constraint and special):
                    self._build_in(constraint, frame)
        self.steps_ = _in_order(self.steps_) or []
        return self

    def check(self, frame: pd.DataFrame) -> None:
        """Raise for a table that a constraint does not go with, or that breaks one; see ``fit``."""
        for constraint in self.constraints:
            self._check(constraint, frame)

    def reduce(self, frame: pd.DataFrame) -> pd.DataFrame:
        """Return the table that is learnt in place of one with the columns of fit."""
        gone = {name for step in self.steps_ for name in step.replaces}
        made = {step.replaces[0]: step.reduce(frame) for step in self.steps_}
        names, columns = [], []
        for name in self.columns_:
            parts = made.get(name, {}) if name in gone else {name: frame[name]}
            names += parts.keys()
            columns += parts.values()
        out = pd.DataFrame(dict(enumerate(columns)), copy=False)
        out.columns = pd.Index(names, tupleize_cols=False)
        return out

    def restore(
        self,
        frame: pd.DataFrame,
        rng: np.random.Generator,
        known: pd.DataFrame | None = None,
    ) -> pd.DataFrame:
        """Return the table behind a reduced one, in the columns of fit.

        Cells of ``known``, a table with gaps in those columns, stand in place of what is computed,
        also for what is computed from them.
        """
        columns = self.restored(frame, rng, known)
        for bounds in self.bounds_:
            columns[bounds.numbers.name] = bounds.clip(columns)
        ordered = [columns[name] for name in self.columns_]
        out = pd.DataFrame(dict(enumerate(ordered)), copy=False, index=frame.index)
        out.columns = pd.Index(self.columns_, tupleize_cols=False)
        return out

    def restored(
        self,
        frame: pd.DataFrame,
        rng: np.random.Generator,
        known: pd.DataFrame | None = None,
        until: Derivation | None = None,
    ) -> dict[Hashable, pd.Series]:
        """Return columns of a reduced table and those computed from them; see ``restore``.

        With ``until``, as far as that step, whose column is what it computes, known or not.
        """
        columns = {name: frame[name] for name in frame.columns}
        if known is not None:
            columns.update(with_known(columns, known))
        for step in self.steps_:
            made = step.restore(columns, rng)
            columns.update(made)
            if step is until:
                break
            if known is not None:
                columns.update(with_known(made, known))
        return columns

    def holds(self, frame: pd.DataFrame) -> np.ndarray:
        """Return whether each row keeps to all constraints, bool of shape (n_rows,)."""
        held = np.ones(len(frame), bool)
        for check in self.checked_:
            held &= check.holds(frame)
        return held

    def under(self, conditions: Mapping[Hashable, Any]) -> ConstraintPlan:
        """Return the plan with conditions on columns added to what rows are held to."""
        plan = copy.copy(self)
        plan.checked_ = [*self.checked_, *(Given(*item) for item in conditions.items())]
        return plan

    def reduce_known(self, table: pd.DataFrame) -> pd.DataFrame:
        """Return known cells of a table as known cells of the reduced one; missing: not known.

        Raises
        ------
        ValueError
            Columns that the table does not have, or cells that say nothing without others.
        """
        unknown = [name for name in table.columns if name not in self.columns_]
        if unknown:
            raise ValueError(
                f"conditions names {unknown[0]!r}, which is not a column of fit: {self.columns_}."
            )
        frame = table.reindex(columns=self.columns_)
        for step in self.steps_:
            given = frame[step.replaces].notna().to_numpy()
            if isinstance(step, Derivation):
                lacking = given.any(axis=1) & frame[step.needs].isna().any(axis=1).to_numpy()
            else:
                lacking = given.any(axis=1) & ~given.all(axis=1)
            if lacking.any():
                raise ValueError(
                    f"conditions give {step.replaces} without {step.needs or 'each other'} in row "
                    f"{int(np.flatnonzero(lacking)[0])}, and a constraint binds them. Give both, "
                    "or give conditions as a dict, which draws until they hold."
                )
        return self.reduce_gaps(frame)

    def reduce_gaps(self, frame: pd.DataFrame) -> pd.DataFrame:
        """Return what a table with gaps says of the reduced one; missing: nothing."""
        reduced = self.reduce(frame)
        for step in self.steps_:
            if isinstance(step, Combination):
                whole = frame[step.replaces].notna().all(axis=1)
                reduced[step.name_] = reduced[step.name_].where(whole)
        return reduced

    def acceptance(self, frame: pd.DataFrame) -> str:
        """Say in words which share of rows keeps to each constraint."""
        shares = ((check, float(np.mean(check.holds(frame)))) for check in self.checked_)
        return ", ".join(f"{check!r}: {100 * share:.3g} %" for check, share in shares)

    def log_measure(self, frame: pd.DataFrame) -> np.ndarray:
        """Return what the columns that are computed add to the log density of rows.

        Minus infinity for rows that break a constraint, which are never drawn.
        """
        out = np.zeros(len(frame))
        for step in self.steps_:
            out += step.log_measure(frame)
        held = np.ones(len(frame), bool)
        for constraint in self.constraints:
            held &= constraint.holds(frame)
        return np.where(held, out, -np.inf)

    @property
    def derived_kinds(self) -> dict[Hashable, str]:
        """Names of the columns of the reduced table that the table does not have, and kinds."""
        return {name: kind for step in self.steps_ for name, kind in step.makes.items()}

    def categorical(self, features: Any) -> Any:
        """Return the names of categorical columns in the reduced table.

        Parameters
        ----------
        features : "auto", None or array-like of names, positions or booleans
            The categorical columns of the table.

        Raises
        ------
        ValueError
            A constraint takes one of them for numbers.
        """
        if features is None or isinstance(features, str):
            return features
        wanted, columns = list(features), self.columns_
        if len(wanted) == len(columns) and all(isinstance(w, (bool, np.bool_)) for w in wanted):
            wanted = [name for name, flag in zip(columns, wanted, strict=True) if flag]
        else:
            wanted = [_name(item, columns) for item in wanted]
        moved = [name for name in wanted if name not in self._combined]
        self.refuse_computed(moved, "categorical_features")
        return moved

    def kinds(
        self, kinds: Mapping[Hashable, str] | None, categorical: Any = "auto"
    ) -> dict[Hashable, str]:
        """Return kinds of columns of the reduced table, given some of the table's columns.

        Columns that are compared or added up are what they are compared as, whatever their cells
        look like, unless they are among the ``categorical`` ones.
        """
        named = {_name(item, self.columns_): kind for item, kind in (kinds or {}).items()}
        self.refuse_computed([name for name in named if name not in self._combined], "column_kinds")
        known = {name: kind for name, kind in named.items() if name not in self._combined}
        forced = () if categorical is None or isinstance(categorical, str) else categorical
        computed = {name for step in self.steps_ for name in step.replaces}
        compared = {
            numbers.name: numbers.learnt_as
            for step in self.steps_
            if isinstance(step, Derivation)
            for numbers in step.terms_
            if numbers.name not in computed and numbers.name not in forced
        }
        for name in compared.keys() & known.keys():
            if known[name] in MADE_KINDS:
                raise ValueError(
                    f"column_kinds[{name!r}] is {known[name]!r}, whose cells are made anew, but a "
                    "constraint compares them or adds them up. Leave it out of one of them."
                )
        return {**compared, **known, **self.derived_kinds}

    def refuse_computed(self, names: Sequence[Hashable] | None, parameter: str) -> None:
        """Raise ValueError where a parameter names columns that the model does not know."""
        for step in self.steps_:
            for name in names if names is not None else ():
                if name in step.replaces:
                    made = list(step.needs) or [other for other in step.replaces if other != name]
                    raise ValueError(
                        f"{parameter} names {name!r}, which a constraint computes from {made}. "
                        "Leave it out of one of them."
                    )

    @property
    def _combined(self) -> set[Hashable]:
        """Columns of combinations, which are categories already."""
        combinations = (step for step in self.steps_ if isinstance(step, Combination))
        return {name for step in combinations for name in step.replaces}

    def _check(self, constraint: Any, frame: pd.DataFrame) -> None:
        if not isinstance(constraint, Constraint):
            raise TypeError(
                f"constraints holds {constraint!r}, expected objects of skvae.constraints, such as "
                "Inequality('low', 'high')."
            )
        for name in constraint.named(self.columns_):
            if name not in self.columns_:
                near = difflib.get_close_matches(str(name), map(str, self.columns_), n=1)
                hint = f" Did you mean {near[0]!r}?" if near else ""
                raise ValueError(
                    f"constraints: {constraint!r} names {name!r}, which is no column.{hint} The "
                    f"columns are {self.columns_}."
                )
        try:
            broken = np.flatnonzero(~constraint.holds(frame))
        except TypeError as error:
            raise TypeError(f"constraints: {constraint!r}: {error}") from error
        if not len(broken):
            return
        named = constraint.named(self.columns_)
        shown_rows = broken[:N_SHOWN]
        cells = {name: frame[name].iloc[shown_rows].tolist() for name in named}
        shown = "; ".join(
            f"row {row}" + "".join(f", {name}={cells[name][place]!r}" for name in named)
            for place, row in enumerate(shown_rows.tolist())
        )
        raise ValueError(
            f"constraints: {constraint!r} does not hold in {len(broken)} of {len(frame)} training "
            f"rows ({shown}{'; ...' if len(broken) > N_SHOWN else ''}). Correct or drop these "
            "rows, or leave the constraint out."
        )

    def _build_in(self, constraint: Constraint, frame: pd.DataFrame) -> None:
        if isinstance(constraint, FixedCombinations):
            step = Combination(constraint.columns, self.min_count)
            if not self._take([step], frame):
                self.checked_.append(step.fit(frame))
                self.redrawn_.append(step)
            return
        if isinstance(constraint, Range):
            bounds = constraint.fixed_bounds(self.columns_)
            if bounds != (None, None):
                (numbers,) = ColumnNumbers.of(frame, [constraint.column])
                self.bounds_.append(Bounds(numbers, *bounds, strict=constraint.strict))
            inequalities = constraint.inequalities(self.columns_)
        else:
            inequalities = [constraint] if isinstance(constraint, Inequality) else []
        for one in inequalities:
            ways = [(one.high, {one.low: 1}, 1), (one.low, {one.high: 1}, -1)]
            if isinstance(constraint, Range):  # its column first
                ways.sort(key=lambda way: way[0] != constraint.column)
            if not self._take([self._derivation(*way, one.strict) for way in ways], frame):
                self.redrawn_.append(one)
        if isinstance(constraint, Total) and not self._take(self._ways_of(constraint), frame):
            raise ValueError(
                f"constraints: {constraint!r} cannot be held together with the others, which "
                "settle all of its columns already. Leave one of them out."
            )
        self.checked_.append(constraint)
        if isinstance(constraint, Predicate):
            self.redrawn_.append(constraint)

    def _ways_of(self, constraint: Total) -> list[Derivation]:
        parts, total, tolerance = constraint.parts, constraint.total, constraint.tolerance
        ways = [self._derivation(total, dict.fromkeys(parts, 1), tolerance=tolerance)]
        for part in parts:
            others = {other: -1 for other in parts if other != part}
            ways.append(self._derivation(part, {total: 1, **others}, tolerance=tolerance))
        return ways

    def _derivation(self, moved, base, direction=0, strict=False, tolerance=0.0) -> Derivation:
        return Derivation(
            moved,
            base,
            direction=direction,
            strict=strict,
            min_rows=self.min_rows,
            enforce_range=self.enforce_range,
            enforce_rounding=self.enforce_rounding,
            tolerance=tolerance,
        )

    def _take(self, ways: Sequence[Derivation | Combination], frame: pd.DataFrame) -> bool:
        """Build in the first way that goes with what is built in; False if there is none."""
        taken = {name for step in self.steps_ for name in step.replaces}
        for way in ways:
            if taken.isdisjoint(way.replaces) and _in_order([*self.steps_, way]) is not None:
                names = {*map(str, self.columns_), *map(str, self.derived_kinds)}
                self.steps_.append(way.fit(frame).take_names(names))
                return True
        return False


def _name(item: Any, columns: Sequence[Hashable]) -> Any:
    """Return the column that a name or a position means."""
    is_position = isinstance(item, (int, np.integer)) and item not in columns
    return columns[item] if is_position and 0 <= item < len(columns) else item


def _in_order(steps: Sequence[Derivation | Combination]) -> list | None:
    """Return steps with each after those whose columns it needs; None if they go in a circle."""
    maker = {name: place for place, step in enumerate(steps) for name in step.replaces}
    graph = {
        place: {maker[name] for name in step.needs if name in maker}
        for place, step in enumerate(steps)
    }
    try:
        return [steps[place] for place in TopologicalSorter(graph).static_order()]
    except CycleError:
        return None
