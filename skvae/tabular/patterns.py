"""Patterns of identifiers: what a code looks like, read off many and written anew."""

from __future__ import annotations

import re
import string

import numpy as np

DIGITS, LOWER, UPPER = string.digits, string.ascii_lowercase, string.ascii_uppercase
# What the characters at one place of a code may be drawn from, narrowest first.
CLASSES = (
    DIGITS,
    DIGITS + "abcdef",
    DIGITS + "ABCDEF",
    LOWER,
    UPPER,
    DIGITS + LOWER,
    DIGITS + UPPER,
    LOWER + UPPER,
    DIGITS + LOWER + UPPER,
)
# So few characters at a place, each in enough codes, are all that may stand there.
FEW_CHARACTERS = 4
LONGEST_CODE = 64
# Most digits of a number behind a prefix.
MOST_DIGITS = 18


def find_alphabets(values: np.ndarray, min_rows: int) -> list[tuple[str, str]] | None:
    """Return which characters stand at each place of codes of one length; None for other strings.

    Parameters
    ----------
    values : object array of str
        The codes.
    min_rows : int
        Least number of codes behind a character that counts as seen.

    Returns
    -------
    list of (str, str)
        The characters seen, and all of their class, for each place: the same single character
        where no code has another.
    """
    length = len(values[0])
    if not 0 < length <= LONGEST_CODE:
        return None
    cells = values.astype(f"U{length + 1}")
    if not (np.strings.str_len(cells) == length).all():
        return None
    points = cells.astype(f"U{length}").view(np.uint32).reshape(len(values), length)
    places = []
    for place in range(length):
        found, counts = np.unique(points[:, place], return_counts=True)
        places.append(_alphabet("".join(map(chr, found)), int(counts.min()) >= min_rows))
    return places


def _alphabet(found: str, enough: bool) -> tuple[str, str]:
    """Return the characters that a place may have at first, and those if more are needed."""
    wide = next((known for known in CLASSES if set(found) <= set(known)), found)
    if enough and len(found) <= FEW_CHARACTERS:
        # A single character that is no digit is part of the pattern.
        return found, found if len(found) == 1 and found not in DIGITS else wide
    if wide == DIGITS and "0" not in found:
        return DIGITS[1:], DIGITS  # numbers without leading zeros
    return wide, wide


def draw_codes_of(
    alphabets: list[tuple[str, str]], n_codes: int, rng: np.random.Generator, level: int
) -> np.ndarray:
    """Draw codes, an object array of str of shape (n_codes,).

    ``level`` 0 draws from the characters seen, 1 from their classes, and more append as many
    characters less one.
    """
    choices = [wide if level else narrow for narrow, wide in alphabets]
    varied = [wide for _, wide in alphabets if len(wide) > 1] or [DIGITS]
    choices += [varied[-1]] * (level - 1)
    letters = np.empty((n_codes, len(choices)), dtype="U1")
    for place, characters in enumerate(choices):
        letters[:, place] = np.array(list(characters))[rng.integers(len(characters), size=n_codes)]
    return letters.view(f"U{len(choices)}").ravel().astype(object)


def find_numbered(values: np.ndarray) -> tuple[str, str] | None:
    """Return prefix and suffix of codes that are numbers of unlike lengths between the two.

    None for anything else. Zeros in front are not part of a number.
    """
    # What the first and the last in order begin with, all do.
    ends = (values.min(), values.max())
    prefix = re.sub(r"\d+$", "", _common_start(*ends))
    backwards = _common_start(*(value[::-1] for value in ends))
    if backwards:
        mirrored = [value[::-1] for value in values]
        backwards = _common_start(min(mirrored), max(mirrored))
    suffix = re.sub(r"^\d+", "", backwards[::-1])
    inside = re.compile(
        f"{re.escape(prefix)}(0|[1-9]\\d{{0,{MOST_DIGITS - 1}}}){re.escape(suffix)}"
    )
    if re.search(r"\s", prefix + suffix) or not all(map(inside.fullmatch, values)):
        return None
    return prefix, suffix


def _common_start(one: str, other: str) -> str:
    same = [a == b for a, b in zip(one, other, strict=False)]
    return one[: same.index(False) if False in same else len(same)]


class NumberRange:
    """Whole numbers that are not among those seen.

    Numbers that (nearly) count the rows go on above a power of ten; others are drawn with as many
    digits as those seen have. Neither the least nor the largest is stored, but the powers of ten
    around them.

    Parameters
    ----------
    least, most : int
        Of the numbers seen.
    n_seen : int
        How many there are.
    limits : (int, int)
        What the column's dtype holds.
    """

    def __init__(self, least: int, most: int, n_seen: int, limits: tuple[int, int]):
        self.counted = least >= 0 and most - least < 10 * n_seen and 10 * most < limits[1]
        self.limits = limits
        if self.counted:
            self.low = 10 ** len(str(most))
            self.high = 10 * self.low
        else:
            self.low = _power_below(least)
            self.high = 10 ** len(str(max(most, 1)))

    def draw(self, n_numbers: int, rng: np.random.Generator, level: int) -> np.ndarray:
        """Draw numbers, an int64 or uint64 array, distinct where the range is a counted one."""
        least, most = self.limits
        dtype = np.uint64 if most > np.iinfo(np.int64).max else np.int64
        if self.counted:
            room = min(self.high, most - n_numbers + 1)
            start = int(rng.integers(self.low, room)) if room > self.low else self.low
            stop = min(start + n_numbers, most + 1)
            return np.arange(start, max(start, stop), dtype=dtype)
        high = min(self.high * 10**level, most)
        low = max(self.low * (10**level if self.low < 0 else 1), least)
        if low >= high:  # what was seen is beyond the dtype made here
            low = high // 10
        return rng.integers(low, high, size=n_numbers, dtype=dtype, endpoint=True)


def _power_below(number: int) -> int:
    """Return the power of ten, or its negative, at or below a whole number; 0 for 0 to 9."""
    if number < 0:
        return -(10 ** len(str(-number)))
    return 10 ** (len(str(number)) - 1) if number >= 10 else 0
