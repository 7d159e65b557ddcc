"""Numbers as quantile modes: atoms for repeated values, bins of equal mass for the rest.

A cell becomes (mode, place within the mode). Values that many rows share are *atoms*, modes of
their own; the other values fall into bins whose quantile function is stored as knots. Nothing
narrower than ``min_rows_per_value`` training rows is kept: an atom is held by at least that many
rows, and a knot is the mean of that many neighbouring values, the extreme ones included. A column
with fewer present cells than that counts as missing altogether.
"""

from __future__ import annotations

import numpy as np

# A column with at most this many distinct values gets one code per (frequent enough) value.
MAX_LEVELS = 150
# Intervals of the stored quantile function within a bin, where the table is long enough.
KNOT_INTERVALS = 16
# Decimals beyond this are not looked for: the column counts as continuous.
MAX_DECIMALS = 8
# Distinct values that show a grid such as multiples of five.
MIN_GRID_VALUES = 20
# Share of a column's span that a value of a continuous column stands for.
FINE_SHARE = 1e-8
# Beyond this, float64 no longer holds every integer.
EXACT = 2**53
# Relative spacing of the numbers that float64 holds.
DOUBLE_PRECISION = float(np.finfo(np.float64).eps)


class QuantileEncoder:
    """Encode one numeric column as modes (atoms, quantile bins) and places within the bins.

    Codes come in this order: atoms by value, bins by value, copies of earlier columns, and last
    the missing cell, each only if fit saw it.

    Parameters
    ----------
    n_bins : int
        Bins for the values that are not atoms; fewer in short tables.
    min_rows_per_value : int
        Least number of training rows behind any stored number.
    rows_per_bin : int
        Least number of training rows in a bin.
    integer : bool, default=False
        Whether the column holds whole numbers only.
    precision : float, default=2.2e-16
        Relative spacing of the numbers that the column's dtype holds.

    Attributes
    ----------
    atoms_ : ndarray of shape (n_atoms,)
        Repeated values, ascending.
    knots_ : ndarray of shape (n_bins_ * n_intervals_ + 1,)
        Quantile function of the other values; empty if there are none.
    n_bins_, n_intervals_ : int
        Bins, and knot intervals in each.
    bin_decimals_ : int or None
        Decimals of the values in bins (negative: tens, hundreds, ...); None if they are not
        rounded.
    bin_step_, bin_residue_ : int
        In units of the last decimal: values in bins lie a whole number of steps from the residue
        (prices that end in .99, times to five minutes); 1 and 0 if on no coarser grid.
    resolution_ : float
        Width of the cell of real numbers that a value of the column stands for: 1 for whole
        numbers, .01 with two decimals, a tiny share of the span if the values are not rounded.
    copies_ : list of int
        Positions of the earlier columns that a cell may equal (set by ``TabularTransformer``).
    n_codes_ : int
        Number of codes.
    code_counts_ : ndarray of shape (n_codes_,)
        Training rows behind each code.
    """

    ordinal = True

    def __init__(
        self,
        n_bins: int,
        min_rows_per_value: int,
        rows_per_bin: int = 10,
        *,
        integer: bool = False,
        precision: float = DOUBLE_PRECISION,
    ):
        self.n_bins = n_bins
        self.min_rows_per_value = min_rows_per_value
        self.rows_per_bin = rows_per_bin
        self.integer = integer
        self.precision = precision

    def fit(self, values: np.ndarray) -> QuantileEncoder:
        """Find atoms and bins of ``values``, float64 of shape (n_rows,) with NaN for missing."""
        present = present_values(values, self.min_rows_per_value)
        present.sort()
        self.has_missing_ = len(present) < len(values)
        self.copies_: list[int] = []
        distinct, counts = np.unique(present, return_counts=True)
        least = self.min_rows_per_value
        if len(distinct) > MAX_LEVELS:
            least = max(least, int(np.ceil(0.5 / self.n_bins * len(present))))
        self.atoms_ = distinct[counts >= least]
        rest = present[np.repeat(counts < least, counts)]
        if len(rest) < self.min_rows_per_value:
            rest = rest[:0]  # too few to hide among: they go to the nearest atom
        self.bin_decimals_ = find_decimals(rest, integer=self.integer, precision=self.precision)
        self.bin_step_, self.bin_residue_ = find_step(rest, self.bin_decimals_)
        self._fit_knots(rest)
        self.resolution_ = self._find_resolution(present)
        return self

    def _fit_knots(self, rest: np.ndarray) -> None:
        """Store the quantile function of ``rest`` (sorted) at knots of several rows each."""
        rows, width = len(rest), self.min_rows_per_value
        if rows == 0:
            self.n_bins_, self.n_intervals_, self.knots_ = 0, 1, np.empty(0)
            return
        n_intervals = rows // width
        self.n_bins_ = max(1, min(self.n_bins, rows // self.rows_per_bin, n_intervals))
        self.n_intervals_ = min(KNOT_INTERVALS, n_intervals // self.n_bins_)
        ranks = np.linspace(0, rows, self.n_bins_ * self.n_intervals_ + 1)
        # Each knot is the mean of a window of training values around its rank.
        starts = np.clip(np.rint(ranks - width / 2).astype(int), 0, rows - width)
        knots = np.lib.stride_tricks.sliding_window_view(rest, width)[starts].mean(axis=1)
        # A window of equal values must give that very value, which their mean only nearly does.
        flat = rest[starts] == rest[starts + width - 1]
        self.knots_ = np.maximum.accumulate(np.where(flat, rest[starts], knots))

    def _find_resolution(self, present: np.ndarray) -> float:
        if self.integer:
            return 1.0
        decimals = find_decimals(present, precision=self.precision)
        if decimals is not None:
            return 10.0**-decimals
        # Read off what is stored, and not off the extreme training values.
        stored = np.concatenate([self.atoms_, self.knots_])
        return max(FINE_SHARE * np.ptp(stored), self.precision * np.abs(stored).max())

    @property
    def n_codes_(self) -> int:
        """Number of codes."""
        return len(self.atoms_) + self.n_bins_ + len(self.copies_) + int(self.has_missing_)

    @property
    def has_place(self) -> bool:
        """Whether there are modes with an inside."""
        return self.n_bins_ > 0

    def encode(self, values: np.ndarray, copy_of: np.ndarray | None = None):
        """Return codes, int64, and places within the bin in [0, 1], both of shape (n_rows,).

        ``copy_of`` tells, row by row, which entry of ``copies_`` the cell equals, or -1.
        """
        n_atoms = len(self.atoms_)
        present = np.nan_to_num(values, nan=0.0)
        atom, is_atom = self._nearest_atom(present)
        codes, places = atom, np.full(len(values), 0.5)
        if self.n_bins_:
            position = np.clip(_rank_in(self.knots_, present), 0, len(self.knots_) - 1)
            in_bins = position / self.n_intervals_
            bins = np.clip(np.ceil(in_bins).astype(np.int64) - 1, 0, self.n_bins_ - 1)
            codes = np.where(is_atom, atom, n_atoms + bins)
            places = np.where(is_atom, 0.5, in_bins - bins)
        if copy_of is not None and self.copies_:
            copied = (copy_of >= 0) & ~is_atom
            codes = np.where(copied, n_atoms + self.n_bins_ + copy_of, codes)
            places = np.where(copied, 0.5, places)
        absent = np.isnan(values)
        if absent.any():
            # A missing cell where fit saw none counts as the most frequent value.
            fallback = self.n_codes_ - 1 if self.has_missing_ else int(self.code_counts_.argmax())
            codes = np.where(absent, fallback, codes)
            places = np.where(absent, 0.5, places)
        return codes, places

    def _nearest_atom(self, values: np.ndarray):
        """Code of the nearest atom, and whether the value is that atom."""
        if len(self.atoms_) == 0:
            return np.zeros(len(values), np.int64), np.zeros(len(values), bool)
        right = np.searchsorted(self.atoms_, values).clip(max=len(self.atoms_) - 1)
        left = np.maximum(right - 1, 0)
        nearer_left = values - self.atoms_[left] < self.atoms_[right] - values
        nearest = np.where(nearer_left, left, right)
        return nearest, self.atoms_[nearest] == values

    def decode(self, codes: np.ndarray, places: np.ndarray, earlier=None) -> np.ndarray:
        """Return the values behind codes and places; NaN for missing cells.

        ``earlier`` holds the decoded values of the columns before this one, for the copies.
        """
        n_atoms, n_bins = len(self.atoms_), self.n_bins_
        values = np.empty(len(codes))
        if n_bins:
            # The places of all bins lie on one axis, so one interpolation serves the column.
            position = (codes - n_atoms + places) * self.n_intervals_
            values = np.interp(position, np.arange(len(self.knots_)), self.knots_)
            values = self._snap(values)
        if n_atoms:
            is_atom = codes < n_atoms
            values = np.where(is_atom, self.atoms_[np.minimum(codes, n_atoms - 1)], values)
        for index, source in enumerate(self.copies_):
            rows = np.flatnonzero(codes == n_atoms + n_bins + index)
            copied = earlier[source][rows]
            # Where the source came out missing, the middle of this column stands in.
            copied = np.where(np.isnan(copied), self.knots_[len(self.knots_) // 2], copied)
            copied = np.clip(copied, self.knots_[0], self.knots_[-1])
            values[rows] = self._snap(copied)
        if self.has_missing_:
            values[codes == self.n_codes_ - 1] = np.nan
        return values

    def _snap(self, values: np.ndarray) -> np.ndarray:
        """Move values in bins to the grid that the training values lie on."""
        if self.bin_step_ > 1:
            units = values * 10.0**self.bin_decimals_ - self.bin_residue_
            units = np.round(units / self.bin_step_) * self.bin_step_ + self.bin_residue_
            values = units / 10.0**self.bin_decimals_
        return round_to(values, self.bin_decimals_)

    def log_measure(self, values: np.ndarray, codes: np.ndarray) -> np.ndarray:
        """Log density of each value given its code, in the units of the column.

        A value stands for the cell of numbers that round to it: its density is the mass of that
        cell over its width (over 1 for whole numbers). Given its code, an atom or a copy has mass
        1, and a value in a bin has the mass that the bin's stored quantile function gives its
        cell. Of a cell that lies across two bins only the part in the value's own bin counts, so
        this is a lower bound where cells are wide. A value that its code cannot write (beyond the
        learnt range, between the atoms) shares, with all its like, the mass that one more row
        would have.
        """
        n_atoms, known = len(self.atoms_), ~np.isnan(values)
        log_density = np.where(known, -np.log(self.resolution_), 0.0)
        in_bin = known & (codes >= n_atoms) & (codes < n_atoms + self.n_bins_)
        if in_bin.any():
            log_density[in_bin] = self._log_density_in_bins(values[in_bin], codes[in_bin])
        if n_atoms:
            distance = np.abs(values - self.atoms_[np.minimum(codes, n_atoms - 1)])
            off = known & (codes < n_atoms) & (distance > 0)
            span = np.ptp(self.atoms_)
            log_density[off] = self._log_density_beyond(distance[off], span, codes[off])
        return log_density

    def _log_density_in_bins(self, values: np.ndarray, codes: np.ndarray) -> np.ndarray:
        bins = codes - len(self.atoms_)
        first, last = bins * self.n_intervals_, (bins + 1) * self.n_intervals_
        if self.bin_decimals_ is None:
            # The slope of the quantile function, over a small share of the knots' interval.
            right = np.clip(np.searchsorted(self.knots_, values), first + 1, last)
            gaps = self.knots_[right] - self.knots_[right - 1]
            half = np.maximum(0.005 * gaps, 0.5 * self.resolution_)
            width, on_grid = 2 * half, True
        else:
            half = 0.5 * self.bin_step_ * 10.0**-self.bin_decimals_
            width = self.resolution_
            on_grid = np.abs(self._snap(values) - values) < 0.1 * half
        low = np.clip(_rank_in(self.knots_, values - half, side="left"), first, last)
        high = np.clip(_rank_in(self.knots_, values + half, side="right"), first, last)
        mass = (high - low) / self.n_intervals_
        lower, upper = self.knots_[first], self.knots_[last]
        distance = np.maximum(np.maximum(lower - values, values - upper), 0.0)
        beyond = self._log_density_beyond(distance, upper - lower, codes)
        within = on_grid & (mass > 1e-9)
        return np.where(within, np.log(np.where(within, mass / width, 1.0)), beyond)

    def _log_density_beyond(self, distance, span, codes: np.ndarray) -> np.ndarray:
        """Heavy-tailed log density at a distance from all that a code can write."""
        span = span + self.resolution_
        share = 1.0 / (1.0 + self.code_counts_[codes])
        return np.log(share * span) - 2 * np.log(span + distance)


def present_values(values: np.ndarray, min_rows: int) -> np.ndarray:
    """Return a copy of the cells that are not NaN; none if they are too few to hide in."""
    present = values[~np.isnan(values)]
    return present if len(present) >= min_rows else present[:0]


def find_decimals(
    values: np.ndarray, *, integer: bool = False, precision: float = DOUBLE_PRECISION
) -> int | None:
    """Return the least number of decimals that changes no value; None beyond ``MAX_DECIMALS``.

    Negative numbers mean tens, hundreds and so on. ``precision`` is the relative spacing of the
    numbers that the column's dtype holds: as float32, 0.1 has one decimal.
    """
    largest = np.abs(values).max(initial=0.0)
    if largest == 0:
        return 0
    spacing = 0.0 if integer else precision * largest
    probe = values[:: max(1, len(values) // 2000)]
    for decimals in range(-9, MAX_DECIMALS + 1):
        unit = 10.0**-decimals
        if unit < spacing:
            return None  # finer than the dtype can tell
        tolerance = min(4 * spacing, 0.05 * unit)
        if all(np.abs(np.round(v, decimals) - v).max() <= tolerance for v in (probe, values)):
            return decimals
    return None


def find_step(values: np.ndarray, decimals: int | None) -> tuple[int, int]:
    """Return the coarsest grid that holds all values: step and residue, in units of 10^-decimals.

    ``(1, 0)`` where there is none coarser than the units themselves, or too few distinct values
    to tell one from chance.
    """
    if decimals is None or len(values) == 0 or np.abs(values).max() * 10.0**decimals > EXACT:
        return 1, 0
    units = np.unique(np.rint(values * 10.0**decimals).astype(np.int64))
    step = int(np.gcd.reduce(np.diff(units))) if len(units) >= MIN_GRID_VALUES else 1
    return step, int(units[0] % step)


def round_to(values: np.ndarray, decimals: int | None) -> np.ndarray:
    """Round to decimals, or leave as they are for None."""
    return values if decimals is None else np.round(values, decimals)


def _rank_in(knots: np.ndarray, values: np.ndarray, side: str = "middle") -> np.ndarray:
    """Return where values lie on the axis of knot numbers, by linear interpolation.

    A value equal to several knots lies at their left end, right end or middle.
    """
    left = np.searchsorted(knots, values, "left")
    right = np.searchsorted(knots, values, "right")
    last = len(knots) - 1
    lower = np.clip(left - 1, 0, max(last - 1, 0))
    upper = np.minimum(lower + 1, last)
    width = knots[upper] - knots[lower]
    inside = np.clip(values - knots[lower], 0, width)  # widths may be tiny beside the numbers
    share = np.divide(inside, width, out=np.zeros(len(values)), where=width > 0)
    tied = {"left": left, "right": right - 1, "middle": (left + right - 1) / 2}[side]
    return np.where(right > left, tied, lower + share)
