"""Drawing rows again until enough of them keep to their constraints."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pandas as pd

from skvae.constraints.plan import ConstraintPlan

# Rows drawn for each row wanted, and in any case, before the draw is given up.
MAX_DRAWS, LEAST_DRAWS = 100, 10_000
# Rows drawn at a time, at most.
MOST_AT_ONCE = 200_000


def draw_valid(
    draw: Callable[[int], pd.DataFrame], plan: ConstraintPlan, n_rows: int
) -> pd.DataFrame:
    """Draw rows until so many keep to the constraints.

    Raises
    ------
    ValueError
        Too few of them do.
    """
    rows = draw(n_rows)
    held = plan.holds(rows)
    if held.all():
        return rows
    parts, n_drawn, n_valid = [rows[held]], n_rows, int(held.sum())
    budget = max(MAX_DRAWS * n_rows, LEAST_DRAWS)
    while n_valid < n_rows:
        if n_drawn >= budget:
            raise ValueError(
                f"{n_valid} of {n_drawn} rows drawn keep to the constraints and conditions, too "
                f"few for the {n_rows} asked for ({plan.acceptance(rows)}). Train longer, ask for "
                "fewer rows, widen the conditions that few rows meet, or say by Inequality, Range, "
                "Total or FixedCombinations what a Predicate says: these are built in and cost no "
                "draws."
            )
        wanted = math.ceil(1.1 * (n_rows - n_valid) * n_drawn / max(n_valid, 1)) + 10
        rows = draw(min(wanted, budget - n_drawn, MOST_AT_ONCE))
        held = plan.holds(rows)
        n_drawn += len(rows)
        n_valid += int(held.sum())
        if held.any():
            parts.append(rows[held])
    parts = [part for part in parts if len(part)]
    return pd.concat(parts, ignore_index=True).iloc[:n_rows]


def redraw_broken(
    rows: pd.DataFrame, draw: Callable[[np.ndarray], pd.DataFrame], plan: ConstraintPlan
) -> pd.DataFrame:
    """Draw those rows again that break a constraint, each where it stands.

    ``draw`` takes positions of rows, and gives as many rows.

    Raises
    ------
    ValueError
        A row keeps breaking one.
    """
    broken = np.flatnonzero(~plan.holds(rows))
    good = rows.drop(index=broken)
    for _ in range(MAX_DRAWS):
        if not len(broken):
            return good.sort_index()
        again = draw(broken).set_axis(broken, axis=0)
        held = plan.holds(again)
        good = pd.concat([good, again[held]]) if len(good) else again[held]
        broken = broken[~held]
    raise ValueError(
        f"{len(broken)} of {len(rows)} latents give no row that keeps to the constraints in "
        f"{MAX_DRAWS} draws each ({plan.acceptance(again)}). Leave these latents out, or the "
        "constraint."
    )
