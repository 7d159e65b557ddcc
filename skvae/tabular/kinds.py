"""The kinds of columns there are, and what the user says about them."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

# Numbers, or what is stored as numbers.
NUMBER_KINDS = ("numeric", "datetime", "timedelta", "time")
# Columns that are not learnt but made anew, and the methods of Faker whose words make each.
PERSONAL_KINDS = {
    "name": ("first_name", "last_name"),
    "first_name": ("first_name",),
    "last_name": ("last_name",),
    "email": ("email",),
    "phone": ("phone_number",),
    "address": ("address",),
    "company": ("company",),
}
MADE_KINDS = ("identifier", "text", *PERSONAL_KINDS)
KINDS = (*NUMBER_KINDS, "categorical", *MADE_KINDS)


def declared_kinds(
    columns: pd.Index, categorical_features="auto", column_kinds: Mapping | None = None
) -> dict[int, str]:
    """Return the kinds that the user gave, by position of the column.

    Parameters
    ----------
    columns : Index
        Labels of the table's columns.
    categorical_features : "auto", None or array-like of names, positions or booleans
        Columns of kind ``"categorical"``.
    column_kinds : mapping of names (or positions) to kinds, or None
        Kinds of columns; it may repeat ``categorical_features``, but not contradict it.

    Raises
    ------
    ValueError
        A column or a kind that is not there, or two kinds for one column.
    """
    declared = dict.fromkeys(_categorical_positions(columns, categorical_features), "categorical")
    for item, kind in (column_kinds or {}).items():
        position = _position(columns, item, "column_kinds")
        if kind not in KINDS:
            raise ValueError(
                f"column_kinds[{item!r}] is {kind!r}, expected one of "
                f"{', '.join(map(repr, KINDS))}."
            )
        if declared.setdefault(position, kind) != kind:
            raise ValueError(
                f"Column {columns[position]!r} is {declared[position]!r} by categorical_features "
                f"or an earlier entry of column_kinds, and {kind!r} by column_kinds. Name it once."
            )
    return declared


def _categorical_positions(columns: pd.Index, categorical_features) -> set[int]:
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
    return {_position(columns, item, "categorical_features") for item in wanted}


def _position(columns: pd.Index, item, parameter: str) -> int:
    """Return the position of a column that a parameter names, by label or by position."""
    if item in columns:
        return int(columns.get_loc(item))
    if isinstance(item, (int, np.integer)) and 0 <= item < len(columns):
        return int(item)
    raise ValueError(
        f"{parameter} names {item!r}, which is not a column. The columns are {list(columns)}."
    )
