"""Shares of columns' values that rows are to have: how many rows of each, and of each together."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from numbers import Real

import numpy as np
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import csr_array, vstack

from skvae.tabular import CategoricalEncoder, MixtureEncoder, QuantileEncoder
from skvae.tabular.conditions import Condition, parse_condition, position_of

# The most combinations of values that rows are counted out for.
MAX_COMBINATIONS = 100_000
# Rounds of iterative proportional fitting, at most, and the error in rows at which it ends.
MAX_ROUNDS, TOLERANCE = 1000, 1e-3


def read_shares(transformer, rebalance, shared: Sequence[Condition]):
    """Read the shares that columns are to have.

    Parameters
    ----------
    transformer : TabularTransformer
        Fitted.
    rebalance : mapping of column to mapping of value to share
        What the user wants.
    shared : sequence of Condition
        What all rows are to fulfil besides.

    Returns
    -------
    list of (list of Condition, float array)
        For each column the conditions of which each row fulfils one, and their shares: the values
        named, and the others together where there are any.

    Raises
    ------
    ValueError
        Another form, a column or value that is not there, shares that do not add up, or too many
        combinations of values.
    """
    if not isinstance(rebalance, Mapping) or not rebalance:
        raise ValueError(
            f"rebalance={rebalance!r}, expected a dict of columns to the shares of their values, "
            "such as {'income': {'>50K': 0.5}}."
        )
    columns = [_of_column(transformer, name, shares, shared) for name, shares in rebalance.items()]
    sizes = [len(found) for found, _ in columns]
    if len(columns) > 1 and math.prod(sizes) > MAX_COMBINATIONS:
        raise ValueError(
            f"rebalance names columns of {' x '.join(map(str, sizes))} values, which make "
            f"{math.prod(sizes):,} combinations, expected at most {MAX_COMBINATIONS:,}. Name fewer "
            "columns or fewer values: those not named share what is left by nature."
        )
    return columns


def _of_column(transformer, name, shares, shared):
    """Return the conditions of which each row fulfils one, and their shares."""
    column, label = position_of(transformer, name, "rebalance"), f"rebalance[{name!r}]"
    if not isinstance(shares, Mapping) or not shares:
        raise ValueError(
            f"{label}={shares!r}, expected a dict of value to share, such as {{'a': 0.5}}."
        )
    if any(condition.column == column for condition in shared):
        raise ValueError(
            f"{label} and conditions[{name!r}] are on the same column. Keep one: name the values "
            "that may come in rebalance, with shares that sum to 1."
        )
    for value, share in shares.items():
        if not isinstance(share, Real) or isinstance(share, bool) or not 0 <= share <= 1:
            raise ValueError(f"{label}[{value!r}]={share!r}, expected a share from 0 to 1.")
    total = sum(shares.values())
    if total > 1 + 1e-9:
        raise ValueError(f"the shares of {label} sum to {total:g}, expected at most 1.")
    found = [_of_value(transformer, column, value, label) for value in shares]
    others = _others(transformer.encoders_[column], column, found, label)
    rest = max(1.0 - total, 0.0)
    left = (others.high > others.low) & (np.asarray(transformer.encoders_[column].code_counts_) > 0)
    if left.any():
        return [*found, others], np.array([*shares.values(), rest])
    if rest > 1e-9:
        raise ValueError(
            f"{label} names all values of the column, but the shares sum to {total:g}, expected 1."
        )
    return found, np.array([*shares.values()])


def _of_value(transformer, column: int, value, label: str) -> Condition:
    if isinstance(value, tuple):
        raise ValueError(
            f"{label} names {value!r}, but ranges have no shares. Name values that repeat, or give "
            "the range in conditions."
        )
    condition = parse_condition(transformer, column, value, "rebalance")
    encoder = transformer.encoders_[column]
    if condition.code is not None and _is_inner(encoder, condition.code):
        raise ValueError(
            f"{label} names {value!r}, a number among the rare ones of the column. Name values "
            "that repeat, or give a range in conditions."
        )
    return condition


def _others(encoder, column: int, found: Sequence[Condition], label: str) -> Condition:
    """Return the condition that a cell has none of the values found."""
    others = Condition(
        column,
        np.full(encoder.n_codes_, -np.inf, np.float32),
        np.full(encoder.n_codes_, np.inf, np.float32),
    )
    for condition in found:
        taken = condition.high > condition.low
        if not (others.high > others.low)[taken].all():
            raise ValueError(f"{label} names a value twice. Name each once.")
        others.low[taken], others.high[taken] = np.inf, -np.inf
    if isinstance(encoder, CategoricalEncoder) and encoder.has_unknown_:
        others.low[len(encoder.levels_)] = np.inf  # it is decoded as one of the levels
    return others


def _is_inner(encoder, code: int) -> bool:
    """Return whether a code stands for more than one number."""
    if isinstance(encoder, QuantileEncoder):
        return len(encoder.atoms_) <= code < len(encoder.atoms_) + encoder.n_bins_
    return isinstance(encoder, MixtureEncoder) and code < len(encoder.means_)


def whole(shares: np.ndarray, total: int) -> np.ndarray:
    """Return whole numbers that sum to ``total``, as near to the shares as can be."""
    exact = shares / shares.sum() * total
    counts = np.floor(exact).astype(np.int64)
    largest = np.argsort(counts - exact, kind="stable")[: total - counts.sum()]
    counts[largest] += 1
    return counts


def joint_counts(table: np.ndarray, margins: Sequence[np.ndarray]) -> np.ndarray:
    """Return how many rows each combination of values gets, so that each value gets its own.

    The ratios of odds of ``table`` are kept as far as whole numbers can: iterative proportional
    fitting (Deming and Stephan, "On a Least Squares Adjustment of a Sampled Frequency Table When
    the Expected Marginal Totals Are Known", 1940), then rounding that leaves the margins.

    Parameters
    ----------
    table : array of shape (n_1, ..., n_k)
        Rows of each combination by nature.
    margins : sequence of int array of shape (n_j,)
        Rows wanted of each value of each column; all sum to the same.

    Returns
    -------
    int64 array of shape (n_1, ..., n_k)

    Examples
    --------
    >>> import numpy as np
    >>> from skvae._synthesis.rebalancing import joint_counts
    >>> joint_counts(np.array([[60, 20], [10, 10]]), [np.array([50, 50]), np.array([40, 60])])
    array([[26, 24],
           [14, 36]])
    """
    fitted = _smoothed(table)
    for _ in range(MAX_ROUNDS):
        worst = 0.0
        for axis, margin in enumerate(margins):
            others = tuple(other for other in range(table.ndim) if other != axis)
            found = fitted.sum(others, keepdims=True)
            wanted = margin.reshape(found.shape)
            worst = max(worst, float(np.abs(found - wanted).max()))
            fitted *= np.divide(wanted, found, out=np.zeros_like(found), where=found > 0)
        if worst < TOLERANCE:
            break
    return _rounded(fitted, margins)


def _smoothed(table: np.ndarray) -> np.ndarray:
    """Return the table with one row more, spread as if the columns were independent.

    So no combination is impossible that the margins may ask for.
    """
    row = np.ones(table.shape)
    for axis in range(table.ndim):
        others = tuple(other for other in range(table.ndim) if other != axis)
        share = table.sum(others, keepdims=True) + 0.5
        row *= share / share.sum()
    return table + row


def _rounded(fitted: np.ndarray, margins: Sequence[np.ndarray]) -> np.ndarray:
    """Return whole numbers next to those fitted, with these margins."""
    places = np.indices(fitted.shape).reshape(fitted.ndim, -1)
    sums = vstack(
        [csr_array((np.ones(fitted.size), (place, np.arange(fitted.size)))) for place in places]
    )
    low, exact = np.floor(fitted + TOLERANCE).ravel(), np.concatenate(margins)
    wanted = LinearConstraint(sums, exact, exact)
    remainder = fitted.ravel() - low
    # Beyond two columns the whole numbers next to the fit may miss the margins.
    for bounds in (Bounds(low, low + 1), Bounds(0, np.inf)):
        cost = -remainder if bounds.ub is not np.inf else -np.log(fitted.ravel() + 1e-9)
        found = milp(cost, integrality=np.ones(fitted.size), bounds=bounds, constraints=wanted)
        if found.success:
            break
    return np.rint(found.x).astype(np.int64).reshape(fitted.shape)
