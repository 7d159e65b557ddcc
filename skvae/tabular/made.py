"""Columns that are not learnt but made anew: identifiers, free text, personal data.

Of such a column a model keeps which cells are missing, and nothing of what they hold but its
pattern. What is decoded is never a value of the training table.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np
import pandas as pd
from pandas.api import types as pdt

from skvae.tabular.kinds import PERSONAL_KINDS
from skvae.tabular.patterns import (
    MOST_DIGITS,
    NumberRange,
    draw_codes_of,
    find_alphabets,
    find_numbered,
)
from skvae.tabular.schema import ColumnSchema

# Draws before a column counts as exhausted.
MAX_DRAWS = 60
# Above this share of distinct cells each decoded cell has a value of its own.
OWN_VALUES = 0.95


class SeenValues:
    """A set that tells for certain that a value is not in it, and never for certain that it is.

    Each value sets one bit of a table, by a keyed hash. At least 16 bits a value: of the values
    that were not seen, up to one in 16 is reported as seen too, so that a value's presence cannot
    be read off the table.

    Parameters
    ----------
    values : object array of str
        What is seen.
    rng : numpy.random.Generator
        Source of the key.

    Examples
    --------
    >>> import numpy as np
    >>> from skvae.tabular.made import SeenValues
    >>> seen = SeenValues(np.array(["ann", "bob"], dtype=object), np.random.default_rng(0))
    >>> seen.may_hold(np.array(["bob"], dtype=object)).tolist()
    [True]
    """

    def __init__(self, values: np.ndarray, rng: np.random.Generator):
        self._key = bytes(rng.integers(97, 123, size=16, dtype=np.uint8)).decode()
        self._bits = np.zeros(2 ** max(6, int(np.ceil(np.log2(2 * len(values) + 1)))), np.uint8)
        bits = self._places(values)
        np.bitwise_or.at(self._bits, bits >> np.uint64(3), self._masks(bits))

    def may_hold(self, values: np.ndarray) -> np.ndarray:
        """Return whether each value may have been seen: True for all that were."""
        bits = self._places(values)
        return (self._bits[bits >> np.uint64(3)] & self._masks(bits)) > 0

    def _places(self, values: np.ndarray) -> np.ndarray:
        hashes = pd.util.hash_array(values, hash_key=self._key, categorize=False)
        return hashes & np.uint64(8 * len(self._bits) - 1)

    def _masks(self, bits: np.ndarray) -> np.ndarray:
        return np.left_shift(1, bits & np.uint64(7), dtype=np.uint64).astype(np.uint8)


class MadeEncoder(ABC):
    """What the encoders of columns that are made anew share.

    Codes: present, and missing if fit saw that.

    Parameters
    ----------
    schema : ColumnSchema
        The column.
    min_rows_per_value : int
        Least number of training rows behind anything stored.
    random_state : int, default=0
        Seeds the key of ``seen_``.

    Attributes
    ----------
    distinct_share_ : float
        Distinct training cells by present ones: decoded cells repeat as often. 1 above .95.
    seen_ : SeenValues or None
        The training cells, as a table of bits; None if what is made cannot be one of them.
    n_codes_ : int
        Number of codes, 1 or 2.
    code_counts_ : ndarray of shape (n_codes_,)
        Training rows behind each code (set by ``TabularTransformer``).
    """

    has_place = False
    ordinal = False
    # First names, say, are too few to be distinct, or others than in the table.
    from_short_lists = False
    avoids_seen = True

    def __init__(self, schema: ColumnSchema, min_rows_per_value: int, random_state: int = 0):
        self.schema = schema
        self.min_rows_per_value = min_rows_per_value
        self.random_state = random_state

    def fit(self, column: pd.Series) -> MadeEncoder:
        """Read off a column what is needed to make others like it.

        Raises
        ------
        ValueError
            The cells are not what the column's kind can hold.
        """
        absent = column.isna().to_numpy()
        self.has_missing_ = bool(absent.any())
        values = self._cells(column[~absent])
        n_distinct = len(pd.unique(values))
        share = n_distinct / len(values) if len(values) else 1.0
        self.distinct_share_ = 1.0 if share > OWN_VALUES else share
        self._learn(values)
        self.seen_ = None
        if self.avoids_seen and not self.from_short_lists:
            rng = np.random.default_rng(self.random_state)
            self.seen_ = SeenValues(values.astype(str).astype(object), rng)
        return self

    def _cells(self, present: pd.Series) -> np.ndarray:
        """Return the cells as an object array of str."""
        kind = pdt.infer_dtype(present, skipna=True)
        if kind not in ("string", "empty"):
            raise ValueError(
                f"Column {self.schema.name!r} is of kind {self.schema.kind!r}, which takes "
                f"strings, but holds {kind}. Convert it with astype(str), or name another kind in "
                "column_kinds."
            )
        return present.to_numpy(dtype=object)

    @abstractmethod
    def _learn(self, values: np.ndarray) -> None:
        """Store what the values look like."""

    @abstractmethod
    def _draw(self, n_values: int, rng: np.random.Generator, level: int) -> np.ndarray:
        """Make values, an array of at most ``n_values``; at higher levels of more variety."""

    @property
    def n_codes_(self) -> int:
        """Number of codes."""
        return 1 + int(self.has_missing_)

    def encode(self, column: pd.Series) -> np.ndarray:
        """Return 0 for a present cell and 1 for a missing one, int64 of shape (n_rows,)."""
        absent = column.isna().to_numpy()
        return (absent & self.has_missing_).astype(np.int64)

    def decode(self, codes: np.ndarray, rng: np.random.Generator):
        """Return fresh cells behind codes, as an array of the column's dtype.

        Raises
        ------
        ValueError
            The dtype or the pattern has no room for so many fresh values.
        """
        present = codes == 0
        n_present = int(present.sum())
        cells = np.full(len(codes), self.schema.missing, dtype=object)
        if n_present:
            n_fresh = max(1, round(n_present * self.distinct_share_))
            fresh = self._fresh(n_fresh, rng)
            if n_fresh < n_present:
                fresh = fresh[rng.integers(n_fresh, size=n_present)]
            cells[present] = fresh
        return self.schema.write_objects(cells, any_absent=n_present < len(codes))

    def _fresh(self, n_values: int, rng: np.random.Generator) -> np.ndarray:
        """Return distinct values that fit did not see."""
        if self.from_short_lists:
            return self._draw(n_values, rng, 0)
        found = np.empty(0, dtype=object)
        level = 0
        for _ in range(MAX_DRAWS):
            needed = n_values - len(found)
            drawn = self._draw(needed + needed // 8 + 8, rng, level)
            if self.seen_ is not None:
                drawn = drawn[~self.seen_.may_hold(drawn.astype(str).astype(object))]
            before = len(found)
            found = pd.unique(np.concatenate([found, drawn.astype(object)]))
            if len(found) >= n_values:
                return found[:n_values]
            if len(found) - before < 0.5 * needed:
                level += 1
        raise ValueError(
            f"Column {self.schema.name!r} ({self.schema.kind}, dtype {self.schema.dtype}) has room "
            f"for {len(found)} values that are not in the training table, but {n_values} are "
            "needed. Ask for fewer rows, give the column a wider dtype before fit, or name another "
            "kind in column_kinds."
        )


class IdentifierEncoder(MadeEncoder):
    """Make identifiers: numbers, or strings of the pattern that the training cells have.

    Numbers that count the rows go on above a power of ten; others have as many digits. Strings of
    one length (UUIDs, hexadecimal, zero-padded codes) have the characters that stood at each
    place; a number between a prefix and a suffix is drawn like a number. Where there is no
    pattern, the column's name and a number stand for it.
    """

    def _cells(self, present: pd.Series) -> np.ndarray:
        is_number = pdt.is_float_dtype(present.dtype) or pdt.is_integer_dtype(present.dtype)
        if not is_number and pdt.infer_dtype(present, skipna=True) != "integer":
            return super()._cells(present)
        numbers = present.to_numpy()
        fractions = numbers[numbers != np.rint(numbers)] if is_number else []
        if len(fractions):
            raise ValueError(
                f"Column {self.schema.name!r} is of kind 'identifier', but holds fractions such as "
                f"{fractions[0]}. Name another kind in column_kinds."
            )
        return np.array([int(number) for number in numbers], dtype=object)

    @property
    def avoids_seen(self) -> bool:  # type: ignore[override]
        """Whether draws must be compared with what was seen: counted numbers lie above it."""
        return self.numbers_ is None or not self.numbers_.counted

    def _learn(self, values: np.ndarray) -> None:
        self.prefix_ = self.suffix_ = ""
        self.alphabets_ = self.numbers_ = None
        if len(values) == 0:
            self.of_strings_ = not pdt.is_numeric_dtype(self.schema.dtype)
        else:
            self.of_strings_ = isinstance(values[0], str)
        if not self.of_strings_:
            self.numbers_ = _range_of(values if len(values) else [0], self._limits())
            return
        around = find_numbered(values) if len(values) else None
        if len(values) and around is None:
            self.alphabets_ = find_alphabets(values, self.min_rows_per_value)
        elif around is not None:
            self.prefix_, self.suffix_ = around
            stop = -len(self.suffix_) or None
            inside = [int(value[len(self.prefix_) : stop]) for value in values]
            self.numbers_ = _range_of(inside, (0, 10**MOST_DIGITS))
        if self.alphabets_ is None and around is None:
            self.prefix_ = f"{self.schema.name}_"
            self.numbers_ = NumberRange(10**8, 10**9 - 1, 1, (0, 10**MOST_DIGITS))

    def _limits(self) -> tuple[int, int]:
        """Return the least and the largest whole number that the dtype holds exactly."""
        dtype = self.schema.dtype
        if pdt.is_object_dtype(dtype):
            return -(2**63), 2**63 - 1
        dtype = self.schema.numpy_dtype
        if dtype.kind == "f":
            exact = int(2 / np.finfo(dtype).eps)
            return -exact, exact
        return int(np.iinfo(dtype).min), int(np.iinfo(dtype).max)

    def _draw(self, n_values: int, rng: np.random.Generator, level: int) -> np.ndarray:
        if self.alphabets_ is not None:
            return draw_codes_of(self.alphabets_, n_values, rng, level)
        numbers = self.numbers_.draw(n_values, rng, level).astype(object)
        if self.of_strings_:
            return np.array([f"{self.prefix_}{n}{self.suffix_}" for n in numbers], dtype=object)
        return numbers


def _range_of(numbers, limits: tuple[int, int]) -> NumberRange:
    return NumberRange(min(numbers), max(numbers), len(numbers), limits)


class TextEncoder(MadeEncoder):
    """Make placeholder text: Latin words, about as many as the training cells have.

    Attributes
    ----------
    mean_words_ : float
        Mean number of words in a training cell.
    """

    def _learn(self, values: np.ndarray) -> None:
        counts = pd.Series(values, dtype=object).str.count(r"\S+")
        self.mean_words_ = max(2.0, float(counts.mean())) if len(values) else 2.0

    def _draw(self, n_values: int, rng: np.random.Generator, level: int) -> np.ndarray:
        from faker import Faker

        words = np.array(Faker("la").get_words_list(), dtype=object)
        n_words = 1 + level + rng.poisson(self.mean_words_ - 1, size=n_values)
        stops = np.cumsum(n_words)
        drawn = words[rng.integers(len(words), size=stops[-1])].tolist()
        texts = [
            " ".join(drawn[stop - count : stop]).capitalize() + "."
            for stop, count in zip(stops.tolist(), n_words.tolist(), strict=True)
        ]
        return np.array(texts, dtype=object)


class PersonalEncoder(MadeEncoder):
    """Make names, e-mail addresses, phone numbers and the like by Faker.

    Names of persons, first or last, are drawn from public lists, and so may be those of people in
    the training table; all other kinds never repeat a training cell.
    """

    @property
    def from_short_lists(self) -> bool:  # type: ignore[override]
        """Whether values may repeat, and be those of the training table."""
        return self.schema.kind in ("first_name", "last_name")

    def _learn(self, values: np.ndarray) -> None:
        """Nothing: neither the language nor the form of what the cells hold is stored."""

    def _draw(self, n_values: int, rng: np.random.Generator, level: int) -> np.ndarray:
        from faker import Faker

        # Evenly from its lists: ten times as fast, and fewer values come twice.
        fake = Faker(use_weighting=False)
        fake.seed_instance(int(rng.integers(2**32)))
        makers = [getattr(fake, method) for method in PERSONAL_KINDS[self.schema.kind]]
        values = [" ".join([make() for make in makers]) for _ in range(n_values)]
        if self.schema.kind == "address":
            values = [value.replace("\n", ", ") for value in values]
        if level:
            numbers = rng.integers(10**level, 10 ** (level + 1), size=n_values).tolist()
            values = [
                f"{number}{value}" if self.schema.kind == "email" else f"{value} {number}"
                for value, number in zip(values, numbers, strict=True)
            ]
        return np.array(values, dtype=object)
