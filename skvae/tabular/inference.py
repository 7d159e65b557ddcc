"""Reading the schema off a table: the kind of each column, by the user, its dtype or its cells."""

from __future__ import annotations

from collections import Counter
from numbers import Real
from typing import Any

import numpy as np
import pandas as pd
from pandas.api import types as pdt

from skvae.tabular.guesses import (
    MIN_ROWS,
    guess_date_format,
    guess_integers,
    guess_strings,
)
from skvae.tabular.kinds import MADE_KINDS, declared_kinds
from skvae.tabular.numeric import EXACT
from skvae.tabular.schema import (
    LARGEST,
    NUMBER_OBJECTS,
    ColumnSchema,
    is_number_dtype,
    refuse_duplicate_names,
)
from skvae.tabular.temporal import TEMPORAL_OBJECTS, TemporalSchema, temporal_kind

_OFFSET_STEP = 10**15
_CATEGORY_OBJECTS = ("string", "boolean", "empty", "categorical")


def infer_schema(
    frame: pd.DataFrame, categorical_features="auto", column_kinds=None
) -> list[ColumnSchema]:
    """Read the schema off a table.

    Parameters
    ----------
    frame : DataFrame of shape (n_rows, n_columns)
        The table.
    categorical_features : "auto" or array-like of names, positions or booleans
        Columns to take as categorical whatever their dtype.
    column_kinds : dict of names to kinds, or None
        Kinds of columns; the others' follow from dtype and cells. A kind that was guessed from
        the cells is marked in the schema's ``guessed``.

    Returns
    -------
    list of ColumnSchema
        One for each column, in table order.

    Raises
    ------
    TypeError
        A column holds things that cannot be encoded, or a mixture.
    ValueError
        Two columns share a name, a number is infinite, or a parameter names a column or a kind
        that is not there, or a kind that the column's cells do not go with.

    Examples
    --------
    >>> import pandas as pd
    >>> from skvae.tabular import infer_schema
    >>> table = pd.DataFrame({"day": pd.to_datetime(["2024-01-31", "2024-02-29"]), "n": [3, 4]})
    >>> [schema.kind for schema in infer_schema(table)]
    ['datetime', 'numeric']
    """
    refuse_duplicate_names(frame.columns)
    declared = declared_kinds(frame.columns, categorical_features, column_kinds)
    return [
        _infer_column(name, frame.iloc[:, position], declared.get(position))
        for position, name in enumerate(frame.columns)
    ]


def _infer_column(name, column: pd.Series, declared: str | None) -> ColumnSchema:
    dtype = column.dtype
    missing: Any = np.nan if isinstance(dtype, np.dtype) else getattr(dtype, "na_value", np.nan)
    if isinstance(dtype, pd.CategoricalDtype):
        if declared not in (None, "categorical"):
            raise ValueError(
                f"column_kinds[{name!r}] is {declared!r}, but the column is a pandas category, "
                "whose dtype is a list of what may stand in it. Convert it with astype(str) first."
            )
        return ColumnSchema(name, "categorical", dtype, ordered=bool(dtype.ordered))
    absent = column.isna()
    present = column[~absent] if absent.any() else column
    if pdt.is_object_dtype(dtype) and len(present) < len(column):
        missing = column[absent].iloc[0]
    natural, integer = _natural_kind(name, present)
    date_format = None
    may_be_date = declared == "datetime" or (declared is None and len(present) >= MIN_ROWS)
    if natural == "categorical" and may_be_date and _is_strings(present):
        date_format = guess_date_format(present)
    guess = None
    if declared is None:
        guess = "datetime" if date_format else _guess(name, present, natural, integer)
    kind = declared or guess or natural
    _refuse_contradiction(name, dtype, kind, natural, date_format)
    if kind in ("datetime", "timedelta", "time"):
        schema: ColumnSchema = TemporalSchema(name, kind, dtype, True, missing=missing)
        schema.learn(present, date_format)
    else:
        schema = ColumnSchema(name, kind, dtype, integer, missing=missing)
        if kind == "numeric" and integer:
            schema.offset = _wide_integer_offset(name, present)
    schema.guessed = guess in MADE_KINDS
    return schema


def _natural_kind(name, present: pd.Series) -> tuple[str, bool]:
    """Return the kind that the dtype gives, and whether the column holds whole numbers."""
    dtype = present.dtype
    if pdt.is_object_dtype(dtype):
        return _object_kind(name, present)
    temporal = temporal_kind(present)
    if temporal is not None:
        return temporal, True
    if is_number_dtype(dtype):
        return "numeric", pdt.is_integer_dtype(dtype)
    if pdt.is_bool_dtype(dtype) or pdt.is_string_dtype(dtype) or str(dtype) == "null[pyarrow]":
        return "categorical", False
    raise TypeError(
        f"Column {name!r} has dtype {dtype}, expected numbers, booleans, strings, dates, times or "
        "a pandas category. Convert it first (a period, for instance, to a timestamp), or drop it."
    )


def _guess(name, present: pd.Series, natural: str, integer: bool) -> str | None:
    """Return a kind that the cells speak for against the dtype's, if any."""
    if natural == "numeric" and integer:
        return guess_integers(name, present)
    if natural == "categorical" and _is_strings(present):
        return guess_strings(name, present)
    return None


def _is_strings(present: pd.Series) -> bool:
    is_text = pdt.is_object_dtype(present.dtype) or pdt.is_string_dtype(present.dtype)
    return is_text and len(present) > 0 and isinstance(present.iloc[0], str)


def _refuse_contradiction(name, dtype, kind: str, natural: str, date_format) -> None:
    """Refuse a kind that the user gave to a column of something else."""
    fits = kind in (natural, "categorical", "identifier") or kind in MADE_KINDS
    if fits or (kind == "datetime" and date_format is not None):
        return
    way_out = {
        "numeric": f"Convert it, for instance with pd.to_numeric(df[{name!r}])",
        "datetime": f"Convert it, for instance with pd.to_datetime(df[{name!r}])",
        "timedelta": f"Convert it, for instance with pd.to_timedelta(df[{name!r}])",
        "time": "Convert it to datetime.time objects",
    }[kind]
    raise ValueError(
        f"column_kinds[{name!r}] is {kind!r}, but the column holds what is {natural} "
        f"(dtype {dtype}). {way_out}, or name another kind."
    )


def _object_kind(name, present: pd.Series) -> tuple[str, bool]:
    """Kind of a column of Python objects, and whether it holds whole numbers."""
    inferred = pdt.infer_dtype(present, skipna=True)
    if inferred in TEMPORAL_OBJECTS:
        return TEMPORAL_OBJECTS[inferred], True
    if inferred in NUMBER_OBJECTS:
        return "numeric", inferred == "integer"
    if inferred in _CATEGORY_OBJECTS:
        return "categorical", False
    counts = Counter(type(cell).__name__ for cell in present)
    found = ", ".join(f"{count} of type {kind}" for kind, count in counts.most_common(4))
    if all(isinstance(cell, (str, bool, np.bool_, Real)) for cell in present):
        raise TypeError(
            f"Column {name!r} mixes types: {found}. Expected one type in a column. Make it one, "
            f"for instance with df[{name!r}] = df[{name!r}].astype(str)."
        )
    raise TypeError(
        f"Column {name!r} holds objects that cannot be encoded: {found}. Each cell's "
        "argument must be a string or a real number (or a boolean, a date, a time, or missing). "
        "Convert them (with "
        "astype(float) or astype(str)), expand them into columns of their own, or drop the column."
    )


def _wide_integer_offset(name, present: pd.Series) -> int | None:
    """Return None, or what to subtract so that integers beyond 2**53 fit into float64."""
    if len(present) == 0:
        return None
    least, most = int(present.min()), int(present.max())
    if max(abs(least), abs(most)) <= EXACT:
        return None
    if max(abs(least), abs(most)) > LARGEST:
        raise ValueError(
            f"Column {name!r} holds integers beyond {LARGEST:g}. Convert them to str if they are "
            "identifiers, or drop the column."
        )
    if most - least > EXACT:
        raise ValueError(
            f"Column {name!r} holds integers spread over more than 2**53, which floating point "
            f"cannot tell apart. If they are identifiers, say column_kinds={{{name!r}: "
            "'identifier'}; if amounts, convert them to float."
        )
    # A round number near the middle: the leading digits that the cells share, of no single cell.
    middle = (least + most) // 2
    return middle // _OFFSET_STEP * _OFFSET_STEP
