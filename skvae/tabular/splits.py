"""Columns of very many levels as a few narrow code columns, so that no layer is as wide as they."""

from __future__ import annotations

import numpy as np

from skvae.tabular.encoded import EncodedTable


class CodeSplit:
    """Write the codes of one column of very many levels as digits.

    The most frequent codes have digits of their own in the first code column. The others are
    sorted by frequency and cut into buckets of codes of like frequency: the first code column
    says which bucket, the second which code in it; and so on in more code columns where two
    would be too wide. Buckets of like frequency make the place in the bucket nearly
    independent of the bucket, which is easy to learn.

    Parameters
    ----------
    counts : int array of shape (n_codes,)
        Training rows behind each code.
    max_codes : int
        Most codes of a code column.
    always_own : int array
        Codes with a digit of their own whatever their frequency.

    Attributes
    ----------
    sizes_ : tuple of int
        Number of codes of each code column, none above ``max_codes``.
    n_own_ : int
        Codes with a digit of their own.

    Examples
    --------
    >>> import numpy as np
    >>> from skvae.tabular.splits import CodeSplit
    >>> split = CodeSplit(np.arange(10_000)[::-1], 200, np.array([9_999]))
    >>> split.sizes_
    (200, 101)
    >>> codes = np.array([0, 98, 99, 5_000, 9_999])
    >>> split.join(split.split(codes), np.random.default_rng(0)).tolist()
    [0, 98, 99, 5000, 9999]
    """

    def __init__(self, counts: np.ndarray, max_codes: int, always_own: np.ndarray):
        ranking = np.array(counts, dtype=np.float64)
        ranking[always_own] = np.inf
        order = np.argsort(-ranking, kind="stable")
        n_own = max(max_codes // 2, len(always_own))
        n_rest = len(order) - n_own
        self.n_digits_ = 2
        while _root(n_rest, self.n_digits_) > max_codes - n_own:
            self.n_digits_ += 1
        self.base_ = _root(n_rest, self.n_digits_)
        self.n_own_ = n_own
        self.order_ = order
        self.rank_ = np.argsort(order)
        self.sizes_ = (self.n_own_ + self.base_,) + (1 + self.base_,) * (self.n_digits_ - 1)

    def split(self, codes: np.ndarray) -> np.ndarray:
        """Return the digits of codes, int64 of shape (n_rows, n_digits); 0 where there is none.

        A code of -1, one that is not known, has digits of -1.
        """
        rank = self.rank_[codes]
        in_bucket = rank >= self.n_own_
        place = np.where(in_bucket, rank - self.n_own_, 0)
        digits = np.unravel_index(place, (self.base_,) * self.n_digits_)
        first = np.where(in_bucket, self.n_own_ + digits[0], rank)
        rest = [np.where(in_bucket, 1 + digit, 0) for digit in digits[1:]]
        return np.where(codes[:, None] < 0, -1, np.stack([first, *rest], axis=1))

    def join(self, digits: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Return the codes of digits, int64 of shape (n_rows,).

        Digits that no code has stand for a draw from the bucket.
        """
        rank = digits[:, 0].copy()
        rows = np.flatnonzero(rank >= self.n_own_)
        inside = digits[rows] - 1
        inside[:, 0] = rank[rows] - self.n_own_
        drawn = rng.integers(self.base_, size=inside.shape)
        inside = np.where(inside < 0, drawn, inside)
        place = np.ravel_multi_index(tuple(inside.T), (self.base_,) * self.n_digits_)
        n_rest = len(self.order_) - self.n_own_
        beyond = place >= n_rest
        place[beyond] = rng.integers(max(0, n_rest - self.base_), n_rest, size=int(beyond.sum()))
        rank[rows] = self.n_own_ + place
        return self.order_[rank]

    def shares_of(self, allowed: np.ndarray, counts: np.ndarray) -> list[np.ndarray]:
        """Return what a choice of codes says of each digit, given the digits before it.

        Each digit is weighted by the share of the rows behind it that are chosen, over that share
        behind the digits before: so the last digit takes back what the first ones promised.

        Parameters
        ----------
        allowed : bool array of shape (n_groups, n_codes)
            The codes that may come.
        counts : int array of shape (n_codes,)
            Training rows behind each code.

        Returns
        -------
        list of float32 array of shape (n_groups, n_prefixes, n_digit_codes)
            One for each digit, 0 where it may not come; ``n_prefixes`` are all combinations of
            the digits before, in the order of ``numpy.ravel_multi_index``.
        """
        digits = self.split(np.arange(len(counts)))
        rows = np.maximum(counts, 1e-3)  # a code without rows may be asked for
        before, shares = np.ones((len(allowed), 1)), []
        for n_digits in range(1, self.n_digits_ + 1):
            sizes = self.sizes_[:n_digits]
            place = np.ravel_multi_index(tuple(digits[:, :n_digits].T), sizes)
            held = np.bincount(place, rows, np.prod(sizes))
            chosen = np.stack([np.bincount(place, rows * may, len(held)) for may in allowed])
            share = np.divide(chosen, held, out=np.zeros_like(chosen), where=held > 0)
            share = share.reshape(len(allowed), -1, sizes[-1])
            within = np.zeros_like(share)
            np.divide(share, before[..., None], out=within, where=before[..., None] > 0)
            shares.append(within.astype(np.float32))
            before = share.reshape(len(allowed), -1)
        return shares


def code_columns(n_columns: int, splits: dict[int, CodeSplit]) -> list[list[int]]:
    """Return which code columns each column has: its own position, then those behind the rest."""
    columns = [[position] for position in range(n_columns)]
    stop = n_columns
    for position, split in splits.items():
        start, stop = stop, stop + split.n_digits_ - 1
        columns[position] += range(start, stop)
    return columns


def split_codes(
    splits: dict[int, CodeSplit], codes: np.ndarray, places: np.ndarray
) -> EncodedTable:
    """Lay the codes and places of columns out in code columns."""
    if not splits:
        return EncodedTable(codes, places)
    digits = {position: split.split(codes[:, position]) for position, split in splits.items()}
    first = codes.copy()
    for position, split in digits.items():
        first[:, position] = split[:, 0]
    more = [split[:, 1:] for split in digits.values()]
    codes = np.concatenate([first, *more], axis=1)
    if len(places):
        behind = np.zeros((len(places), codes.shape[1] - places.shape[1]), places.dtype)
        places = np.concatenate([places, behind], axis=1)
    return EncodedTable(codes, places)


def join_codes(
    splits: dict[int, CodeSplit],
    columns: list[list[int]],
    codes: np.ndarray,
    rng: np.random.Generator,
) -> np.ndarray:
    """Return one code for each cell from those of code columns."""
    if not splits:
        return codes
    joined = codes[:, : len(columns)].copy()
    for position, split in splits.items():
        joined[:, position] = split.join(codes[:, columns[position]], rng)
    return joined


def _root(number: int, degree: int) -> int:
    """Return the least whole number whose power reaches ``number``."""
    root = max(1, round(number ** (1 / degree)) - 1)
    while root**degree < number:
        root += 1
    return root
