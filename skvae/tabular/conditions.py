"""Conditions on columns, in the user's words, as the codes and places that agree with them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from pandas.api import types as pdt

from skvae.tabular.asked_values import read_values, refuse_booleans, shown, what_there_is
from skvae.tabular.categorical import CategoricalEncoder
from skvae.tabular.mixture import MixtureEncoder
from skvae.tabular.numeric import QuantileEncoder, _rank_in, round_to

# A share of a bin below this counts as none: places are single precision.
LEAST_SHARE = 1e-6


@dataclass
class Condition:
    """What is known of one column.

    Attributes
    ----------
    column : int
        Position of the column.
    low, high : float32 arrays of shape (n_codes,)
        The places that each code may take; nothing where ``high <= low``.
    span : tuple of float or None
        The range that numbers are to lie in.
    members : ndarray or None
        The numbers, ascending, of which each is to be one.
    code : int or None
        The one code that agrees.
    place : float
        The place within it.
    """

    column: int
    low: np.ndarray
    high: np.ndarray
    span: tuple[float, float] | None = None
    members: np.ndarray | None = None
    code: int | None = None
    place: float = 0.5

    def settle(self, values: np.ndarray) -> np.ndarray:
        """Move numbers that agree but for their rounding to where they agree exactly."""
        if self.span is not None:
            return np.clip(values, *self.span)
        if self.members is None or len(self.members) == 0:
            return values
        middles = (self.members[1:] + self.members[:-1]) / 2
        nearest = self.members[np.searchsorted(middles, values)]
        return np.where(np.isnan(values), np.nan, nearest)


def parse_conditions(transformer, conditions: Mapping) -> list[Condition]:
    """Read conditions that all rows are to fulfil.

    Parameters
    ----------
    transformer : TabularTransformer
        Fitted.
    conditions : mapping of column to value, set or range
        A value, None or NaN for a missing cell; several of them in a list, set, array or Series;
        or a range, a tuple (low, high) with both ends included, of which either may be None.

    Returns
    -------
    list of Condition

    Raises
    ------
    ValueError
        A column that is not there, a condition of another form, or one that no row can fulfil;
        the message names the closest values that rows can have.
    """
    return [
        parse_condition(transformer, position_of(transformer, name), wanted)
        for name, wanted in conditions.items()
    ]


def position_of(transformer, name, parameter: str = "conditions") -> int:
    """Return the position of a column by its name.

    Raises
    ------
    ValueError
        There is none of that name.
    """
    names = [schema.name for schema in transformer.schema_]
    if name not in names:
        raise ValueError(f"{parameter} names {name!r}, which is not a column of fit: {names}.")
    return names.index(name)


def parse_condition(transformer, column: int, wanted, parameter: str = "conditions") -> Condition:
    """Read the condition on one column; see ``parse_conditions``.

    ``parameter`` is what errors blame.
    """
    encoder, schema = transformer.encoders_[column], transformer.schema_[column]
    label = f"{parameter}[{schema.name!r}]"
    if isinstance(wanted, tuple):
        if len(wanted) != 2:
            raise ValueError(
                f"{label}={wanted!r} is a tuple of {len(wanted)}, expected a range (low, high), "
                "either of them None for no bound, or a list of values."
            )
        condition = _range(encoder, schema, column, wanted, label)
    else:
        condition = _values(encoder, schema, column, _as_list(wanted, label), label)
    allowed = (condition.high > condition.low) & (np.asarray(encoder.code_counts_) > 0)
    if not allowed.any():
        raise ValueError(
            f"{label}={wanted!r} has no support: no row can have it. "
            f"{what_there_is(encoder, schema, wanted)}"
        )
    if condition.code is None and allowed.sum() == 1 and not _has_inside(encoder, allowed):
        condition.code = int(allowed.argmax())
    return condition


def _as_list(wanted, label: str) -> list:
    """Return several values as a list, and a single one as a list of it."""
    if isinstance(wanted, (list, set, frozenset, range, np.ndarray, pd.Series, pd.Index)):
        return list(wanted)
    if pdt.is_list_like(wanted):
        raise ValueError(
            f"{label} is of type {type(wanted).__name__}, expected a value, a list of values or a "
            "range (low, high)."
        )
    return [wanted]


def _empty(encoder, column: int) -> Condition:
    """Return a condition that no code fulfils."""
    shape = encoder.n_codes_
    return Condition(
        column, np.full(shape, np.inf, np.float32), np.full(shape, -np.inf, np.float32)
    )


def _allow(condition: Condition, codes, low=-np.inf, high=np.inf) -> None:
    """Let codes take some places more; ``codes`` may repeat."""
    np.minimum.at(condition.low, codes, np.asarray(low, np.float32))
    np.maximum.at(condition.high, codes, np.asarray(high, np.float32))


def _has_inside(encoder, allowed: np.ndarray) -> bool:
    """Return whether a code that may come has places."""
    if isinstance(encoder, QuantileEncoder):
        first = len(encoder.atoms_)
        return bool(allowed[first : first + encoder.n_bins_].any())
    return isinstance(encoder, MixtureEncoder) and bool(allowed[: len(encoder.means_)].any())


def _values(encoder, schema, column: int, wanted: list, label: str) -> Condition:
    """Return the condition that a cell is one of some values."""
    condition = _empty(encoder, column)
    present = [value for value in wanted if not pd.isna(value)]
    if len(present) < len(wanted):
        if not encoder.has_missing_:
            raise ValueError(
                f"{label} asks for missing cells, but fit saw none in that column. "
                f"{what_there_is(encoder, schema, None)}"
            )
        _allow(condition, encoder.n_codes_ - 1)
    if not present:
        return condition
    refuse_booleans(encoder, present, label)
    if isinstance(encoder, CategoricalEncoder):
        codes = pd.Index(encoder.levels_, dtype=object).get_indexer(pd.Index(present, dtype=object))
        _allow(condition, codes[codes >= 0])
        unknown = [value for value, code in zip(present, codes, strict=True) if code < 0]
    elif isinstance(encoder, (QuantileEncoder, MixtureEncoder)):
        values = read_values(schema, present, label)
        good = supported(encoder, values)
        condition.members = np.unique(values[good])
        unknown = [value for value, held in zip(present, good, strict=True) if not held]
        if good.any():
            _allow_members(encoder, condition)
    else:
        unknown = present
    if unknown:
        raise ValueError(
            f"{label} asks for {shown(unknown)}, which no row can have. "
            f"{what_there_is(encoder, schema, unknown[0])}"
        )
    return condition


def _allow_members(encoder, condition: Condition) -> None:
    """Let the codes come that hold some of the numbers wanted."""
    members = condition.members
    codes, places = encoder.encode(members)
    if len(members) == 1 and not (condition.high > condition.low).any():
        condition.code, condition.place = int(codes[0]), float(places[0])
        _allow(condition, codes)
        return
    half = _half_cell(encoder) or 1e-4 * np.ptp(members)
    if isinstance(encoder, MixtureEncoder):
        _allow_span(encoder, condition, members[0] - half, members[-1] + half)
        return
    in_bin = codes >= len(encoder.atoms_)
    _allow(condition, codes[~in_bin])
    codes, places, values = codes[in_bin], places[in_bin], members[in_bin]
    if len(values):
        ends = [_rank_in(encoder.knots_, values + side) for side in (-half, half)]
        reach = np.maximum((ends[1] - ends[0]) / encoder.n_intervals_, 10 * LEAST_SHARE) / 2
        _allow(condition, codes, np.maximum(places - reach, 0), np.minimum(places + reach, 1))


def _range(encoder, schema, column: int, wanted: tuple, label: str) -> Condition:
    """Return the condition that a cell lies between two ends, both included."""
    condition = _empty(encoder, column)
    if isinstance(encoder, CategoricalEncoder) and schema.ordered:
        return _range_of_levels(encoder, schema, condition, wanted, label)
    if not isinstance(encoder, (QuantileEncoder, MixtureEncoder)):
        raise ValueError(
            f"{label}={wanted!r} is a range, but the column has no order. Give the values in a "
            "list."
        )
    refuse_booleans(encoder, wanted, label)
    low, high = (
        unbounded if end is None else float(read_values(schema, [end], label)[0])
        for end, unbounded in zip(wanted, (-np.inf, np.inf), strict=True)
    )
    if not low <= high:
        raise ValueError(
            f"{label}={wanted!r} is a range whose ends are "
            f"{'missing' if np.isnan(low + high) else 'the wrong way round'}; expected "
            "low <= high, and None for no bound."
        )
    first, last = _to_grid(encoder, low, high)
    if first <= last:
        half = _half_cell(encoder)
        _allow_span(encoder, condition, first - half, last + half)
    if isinstance(encoder, QuantileEncoder):
        inside = np.flatnonzero((encoder.atoms_ >= low) & (encoder.atoms_ <= high))
        _allow(condition, inside)
        if len(inside):
            first = min(first, encoder.atoms_[inside[0]])
            last = max(last, encoder.atoms_[inside[-1]])
    condition.span = (first, last)
    return condition


def _allow_span(encoder, condition: Condition, low: float, high: float) -> None:
    """Let bins, or modes, take the places that lie between two numbers."""
    if isinstance(encoder, MixtureEncoder):
        smallest, largest = encoder.range_ if len(encoder.means_) else (np.inf, -np.inf)
        if low <= largest and high >= smallest:
            # Numbers beyond the range are clipped to it, and so come at its ends.
            ends = [(end - encoder.means_) / encoder.mode_widths_ for end in (low, high)]
            start = -np.inf if low <= smallest else ends[0]
            stop = np.inf if high >= largest else ends[1]
            _allow(condition, np.arange(len(encoder.means_)), start, stop)
        return
    knots = encoder.knots_
    if encoder.n_bins_ and low <= knots[-1] and high >= knots[0]:
        ends = np.clip([low, high], knots[0], knots[-1])
        bins = np.arange(encoder.n_bins_)
        start = _rank_in(knots, ends[:1], "left") / encoder.n_intervals_ - bins
        stop = _rank_in(knots, ends[1:], "right") / encoder.n_intervals_ - bins
        start, stop = start.clip(0, 1), stop.clip(0, 1)
        held = np.flatnonzero(stop - start > LEAST_SHARE)
        _allow(condition, len(encoder.atoms_) + held, start[held], stop[held])


def _range_of_levels(encoder, schema, condition: Condition, wanted: tuple, label: str) -> Condition:
    """Return the condition that a cell is in a range of an ordered column's categories."""
    categories = list(schema.dtype.categories)
    for end in wanted:
        if end is not None and end not in categories:
            raise ValueError(
                f"{label}={wanted!r}: {end!r} is not one of the categories {shown(categories)}."
            )
    first = 0 if wanted[0] is None else categories.index(wanted[0])
    last = len(categories) - 1 if wanted[1] is None else categories.index(wanted[1])
    within = set(categories[first : last + 1])
    _allow(condition, [code for code, level in enumerate(encoder.levels_) if level in within])
    return condition


def supported(encoder, values: np.ndarray) -> np.ndarray:
    """Return which numbers (NaN for a missing cell, taken as such) a column can come to hold."""
    if isinstance(encoder, MixtureEncoder):
        if len(encoder.means_) == 0:
            return np.isnan(values)
        smallest, largest = encoder.range_
        rounded = values if encoder.decimals_ is None else np.round(values, encoder.decimals_)
        ok = (values >= smallest) & (values <= largest) & np.isclose(rounded, values)
        return ok | np.isnan(values)
    ok = np.isin(values, encoder.atoms_)
    if encoder.n_bins_:
        ends = encoder.knots_[[0, -1]]
        first, last = (
            np.minimum(ends, encoder._snap(ends))[0],
            np.maximum(ends, encoder._snap(ends))[1],
        )
        inside = (values >= first) & (values <= last)
        tolerance = 1e-9 * np.maximum(1.0, np.abs(values))
        ok |= inside & (np.abs(encoder._snap(values) - values) <= tolerance)
    return ok | np.isnan(values)


def _half_cell(encoder) -> float:
    """Half the width of what is rounded to one number in a bin or mode; 0 if nothing is."""
    if isinstance(encoder, MixtureEncoder):
        return 0.0 if encoder.decimals_ is None else 0.5 * 10.0**-encoder.decimals_
    if encoder.bin_decimals_ is None:
        return 0.0
    return 0.5 * encoder.bin_step_ * 10.0**-encoder.bin_decimals_


def _to_grid(encoder, low: float, high: float) -> tuple[float, float]:
    """Return the first and the last number that a range holds, as bins or modes are rounded."""
    half = _half_cell(encoder)
    if half == 0:
        return low, high
    unit = 2 * half
    residue = 0.0
    if isinstance(encoder, QuantileEncoder):
        residue = encoder.bin_residue_ * 10.0**-encoder.bin_decimals_
    slack = 1e-9 * unit
    first = np.ceil((low - residue - slack) / unit) * unit + residue
    last = np.floor((high - residue + slack) / unit) * unit + residue
    decimals = encoder.decimals_ if isinstance(encoder, MixtureEncoder) else encoder.bin_decimals_
    return float(round_to(first, decimals)), float(round_to(last, decimals))
