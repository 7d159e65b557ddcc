"""Guessing which columns are identifiers, dates written as strings, personal data or free text.

A guess is made on what all (or nearly all) cells show, in columns of at least ``MIN_ROWS`` present
cells; what is not plain stays what its dtype says. Floats are never taken for anything else.
"""

from __future__ import annotations

import re
import warnings

import numpy as np
import pandas as pd
from pandas.tseries.api import guess_datetime_format

from skvae.tabular.numeric import EXACT
from skvae.tabular.patterns import find_alphabets, find_numbered

# Fewer cells than this show nothing.
MIN_ROWS = 20
# Integers that count the rows are keys by that alone if there are this many.
MIN_COUNTED_ROWS = 100
# Cells looked at before all of them are.
PROBE = 200

# Amounts and times of day, which are no keys although they have a pattern.
AMOUNT = r"[-+]?\d*[.,]\d+|\d{1,2}:\d{2}(?::\d{2}(?:\.\d+)?)?"
KEY_NAME = re.compile(r"(?:(?:^|[\W_])(?i:id|key|uuid|guid|pk)|[a-z](?:Id|ID|Key|UUID|GUID))$")
EMAIL = r"[^@\s]+@[^@\s]+\.[A-Za-z]{2,}"
PHONE = r"\+\d[\d ().\-/]{6,18}\d"
PERSON = r"[^\W\d_][^\d@]*\s[^\d@]*[^\W\d_.)\"'][^\d@]*"
# Share of the cells that must look like an e-mail address, a phone number or a name.
NEARLY_ALL = 0.95
# Share of distinct cells in a column of free text.
NEARLY_UNIQUE = 0.9


def guess_integers(name, present: pd.Series) -> str | None:
    """Return "identifier" or "categorical" if integers are not measurements, None otherwise.

    Parameters
    ----------
    name : hashable
        The column's label. ``id``, ``key``, ``uuid``, ``guid`` or ``pk`` at its end counts.
    present : Series of integers
        The cells that are not missing.
    """
    n_rows = len(present)
    if n_rows < MIN_ROWS:
        return None
    if _probe(present).is_unique and present.is_unique:
        least, most = int(present.min()), int(present.max())
        # Values of their own for all rows, without a gap, from 0, 1, 100, 1001, ...
        counted = most - least + 1 == n_rows and n_rows >= MIN_COUNTED_ROWS
        digits = 10 ** max(len(str(abs(least))) - 1, 1)
        from_start = least in (0, 1) or (least >= 10 and least % digits <= 1)
        if KEY_NAME.search(str(name)) or (counted and from_start) or most - least > EXACT:
            return "identifier"
        return None
    return _guess_wide_integers(present)


def _guess_wide_integers(present: pd.Series) -> str | None:
    """Guess the kind of repeated integers that floating point cannot tell apart."""
    if int(present.max()) - int(present.min()) <= EXACT:
        return None
    middle = sorted(abs(int(cell)) for cell in _probe(present))[len(_probe(present)) // 2]
    if middle <= EXACT:
        return None
    return "categorical" if present.nunique() <= 0.1 * len(present) else "identifier"


def guess_strings(name, present: pd.Series) -> str | None:
    """Return "email", "phone", "name", "identifier" or "text", or None for categories.

    Parameters
    ----------
    name : hashable
        The column's label. A name that ends in ``name`` may hold those of persons.
    present : Series of str
        The cells that are not missing.
    """
    if len(present) < MIN_ROWS:
        return None
    probe = _probe(present)
    if probe.nunique() < 0.5 * len(probe):
        return None
    share = present.nunique() / len(present)
    if share < 0.5:
        return None
    cells = present.astype(object).str
    for kind, pattern in (("email", EMAIL), ("phone", PHONE)):
        shares = (part.astype(object).str.fullmatch(pattern).mean() for part in (probe, present))
        if all(share >= NEARLY_ALL for share in shares):
            return kind
    values = present.to_numpy(dtype=object)
    if share == 1 and (KEY_NAME.search(str(name)) or _looks_like_keys(values)):
        return "identifier"
    if share < NEARLY_UNIQUE:
        return None
    if str(name).lower().endswith("name") and cells.fullmatch(PERSON).mean() >= NEARLY_ALL:
        return "name"
    words = probe.astype(object).str.count(r"\s+") + 1
    lengths = probe.astype(object).str.len()
    return "text" if words.mean() >= 5 and lengths.mean() >= 25 else None


def guess_date_format(present: pd.Series) -> str | None:
    """Return the ``strftime`` format by which all strings are dates, None if there is none.

    A format must write each string back as it was.
    """
    first = present.iloc[0]
    if not re.search(r"\d\D|\D\d|^\d{8}$", first):
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of days that stand where it expects months
        month_first = guess_datetime_format(str(first))
    if month_first is None or not re.search("%[mbB]", month_first) or "%z" in month_first:
        return None
    day_first = month_first.translate(str.maketrans("dm", "md"))
    for date_format in (month_first, day_first):
        if all(_is_written(cells, date_format) for cells in (_probe(present), present)):
            return date_format
    return None


def _is_written(cells: pd.Series, date_format: str) -> bool:
    cells = cells.astype(object)
    dates = pd.to_datetime(cells, format=date_format, errors="coerce")
    return bool(dates.notna().all() and (dates.dt.strftime(date_format) == cells).all())


def _looks_like_keys(values: np.ndarray) -> bool:
    """Whether strings are of one length and pattern with digits, or a prefix and a number."""
    if re.fullmatch(AMOUNT, values[0]):
        return False
    if find_numbered(values) is not None:
        return True
    alphabets = find_alphabets(values, 1)
    if alphabets is None or any(characters.isspace() for characters, _ in alphabets):
        return False
    return any(set("0123456789") & set(wide) for _, wide in alphabets)


def _probe(present: pd.Series) -> pd.Series:
    """Return some cells from all over the column."""
    return present.iloc[:: max(1, len(present) // PROBE)]
