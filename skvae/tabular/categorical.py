"""Categories as codes, with one more code for what is rare or unknown and one for missing."""

from __future__ import annotations

from collections.abc import Hashable

import numpy as np
import pandas as pd
from pandas.api import types as pdt

from skvae.tabular.schema import ColumnSchema

# What a column holds, in words, and the type that all of its cells have.
_CONTENTS = {"string": ("strings", str), "boolean": ("booleans", bool)}


class CategoricalEncoder:
    """Encode one categorical column.

    Levels held by fewer than ``min_rows_per_value`` training rows are not stored: they share one
    code, ``unknown``, with whatever transform meets for the first time. Decoded, that code is a
    draw from the stored levels; or, where most of a column of strings is rare (an identifier, free
    text), a fresh label made of the column's name and a number, never a training value.

    Codes: levels in sorted order (the dtype's order for a pandas ``category``), then ``unknown``,
    then the missing cell if fit saw one. Booleans have both levels, however rare, and no
    ``unknown``. The dtype of a pandas ``category`` is the user's declaration of its domain: it is
    restored with all of its categories, the rare ones unused.

    Parameters
    ----------
    schema : ColumnSchema
        The column.
    min_rows_per_value : int
        Least number of training rows behind a stored level.
    max_categories : int, default=1000
        In a column of more levels than this the rarer half stands in for ``unknown``, evenly, so
        that the frequent ones keep their share; else all levels do, by their frequency.

    Attributes
    ----------
    levels_ : ndarray of shape (n_levels,)
        Stored levels.
    content_ : str
        What fit found in the column: "string", "boolean", "categories" (of a pandas dtype), ...
    fresh_labels_ : bool
        Whether ``unknown`` is decoded as a fresh label.
    n_codes_ : int
        Number of codes.
    code_counts_ : ndarray of shape (n_codes_,)
        Training rows behind each code (set by ``TabularTransformer``).
    """

    has_place = False

    def __init__(self, schema: ColumnSchema, min_rows_per_value: int, max_categories: int = 1000):
        self.schema = schema
        self.min_rows_per_value = min_rows_per_value
        self.max_categories = max_categories
        self.ordinal = schema.ordered

    def fit(self, column: pd.Series) -> CategoricalEncoder:
        """Find the levels of a column.

        Raises
        ------
        ValueError
            No level may be stored, and the dtype has no room for fresh labels.
        """
        self.has_missing_ = bool(column.isna().any())
        levels, counts = _count_levels(column)
        if isinstance(column.dtype, pd.CategoricalDtype):
            self.content_ = "categories"
        else:
            self.content_ = pdt.infer_dtype(levels, skipna=False)
        self.has_unknown_ = self.content_ != "boolean"
        self.fresh_labels_ = False
        if not self.has_unknown_:
            self.levels_ = np.array([False, True], dtype=object)
            return self
        frequent = counts >= self.min_rows_per_value
        self.levels_ = levels[frequent]
        n_rare = counts[~frequent].sum()
        if self.content_ == "string":
            self.fresh_labels_ = bool(n_rare > 0.5 * counts.sum())
            self._prefix = _unused_prefix(self.schema.name, levels) if self.fresh_labels_ else ""
        elif n_rare and not frequent.any():
            raise ValueError(
                f"Column {self.schema.name!r} is categorical ({self.schema.dtype}), but none of "
                f"its {len(levels)} levels is held by {self.min_rows_per_value} rows, so none "
                "may be reproduced. Lower min_rows_per_value (or rare_category_min_count), merge "
                "levels, leave numbers numeric, make identifiers strings, or drop the column."
            )
        return self

    @property
    def n_codes_(self) -> int:
        """Number of codes."""
        return len(self.levels_) + int(self.has_unknown_) + int(self.has_missing_)

    def encode(self, column: pd.Series) -> np.ndarray:
        """Return the codes, int64 of shape (n_rows,).

        Raises
        ------
        ValueError
            A column that held strings, or booleans, in fit holds something else now.
        """
        index = pd.Index(self.levels_, dtype=object)
        if isinstance(column.dtype, pd.CategoricalDtype):
            # Look up the categories, not the cells.
            cells = column.cat.codes.to_numpy()
            absent = cells < 0
            table = index.get_indexer(column.cat.categories.astype(object))
            codes = np.append(table, -1)[cells]
        else:
            absent = column.isna().to_numpy()
            try:
                codes = index.get_indexer(pd.Index(column.astype(object), dtype=object))
            except TypeError:  # a list or a dict has no hash
                codes = np.full(len(column), -1)
        unseen = (codes < 0) & ~absent
        if unseen.any():
            self._refuse_other_content(column[unseen])
            codes = np.where(unseen, len(self.levels_), codes)
        if absent.any():
            # A missing cell where fit saw none counts as the most frequent level.
            fallback = self.n_codes_ - 1 if self.has_missing_ else int(self.code_counts_.argmax())
            codes = np.where(absent, fallback, codes)
        return codes.astype(np.int64, copy=False)

    def _refuse_other_content(self, unseen: pd.Series) -> None:
        """Raise where cells that fit did not see cannot be categories of this column."""
        held, allowed = _CONTENTS.get(self.content_, ("categories", Hashable))
        for cell in unseen:
            if not isinstance(cell, allowed):
                raise ValueError(
                    f"Column {self.schema.name!r} held {held} in fit, but now holds {cell!r} of "
                    f"type {type(cell).__name__}. Give the column the dtype it had in fit."
                )

    def decode(self, codes: np.ndarray, rng: np.random.Generator):
        """Return the cells behind codes, as an array of the column's dtype."""
        labels = self.levels_
        n_levels = len(labels)
        absent = codes == self.n_codes_ - 1 if self.has_missing_ else np.zeros(len(codes), bool)
        unknown = np.flatnonzero((codes >= n_levels) & ~absent)
        if len(unknown) and self.fresh_labels_:
            start = int(rng.integers(10**6, 10**9))
            fresh = [f"{self._prefix}{start + step}" for step in range(len(unknown))]
            labels = np.concatenate([labels, np.array(fresh, dtype=object)])
            codes = codes.copy()
            codes[unknown] = n_levels + np.arange(len(unknown))
        elif len(unknown) and n_levels:
            codes = codes.copy()
            codes[unknown] = rng.choice(n_levels, size=len(unknown), p=self._stand_in_shares())
        elif len(unknown):
            absent = np.ones(len(codes), bool)  # fit saw missing cells only
        if absent.any():
            codes = np.where(absent, len(labels), codes)
        return self._write(codes, labels, bool(absent.any()))

    def _stand_in_shares(self) -> np.ndarray:
        """Return how often each level stands in for a rare one, of shape (n_levels,)."""
        counts = self.code_counts_[: len(self.levels_)]
        if len(counts) > self.max_categories:
            counts = counts <= np.median(counts)
        return counts / counts.sum()

    def _write(self, codes: np.ndarray, labels: np.ndarray, any_absent: bool):
        """Return the labels of codes under the column's dtype; one code too many is missing."""
        dtype = self.schema.dtype
        if isinstance(dtype, pd.CategoricalDtype):
            to_dtype = np.append(dtype.categories.get_indexer(pd.Index(labels, dtype=object)), -1)
            return pd.Categorical.from_codes(to_dtype[codes], dtype=dtype, validate=False)
        cells = np.append(labels, np.array([self.schema.missing], dtype=object))[codes]
        return self.schema.write_objects(cells, any_absent=any_absent)


def _count_levels(column: pd.Series) -> tuple[np.ndarray, np.ndarray]:
    """Return the levels of a column in order, as objects, and the rows that hold each."""
    if isinstance(column.dtype, pd.CategoricalDtype):
        cells = column.cat.codes.to_numpy()
        levels = np.asarray(column.cat.categories.astype(object), dtype=object)
        counts = np.bincount(cells[cells >= 0], minlength=len(levels))
        return levels[counts > 0], counts[counts > 0]
    counts = column.value_counts(sort=False, dropna=True).sort_index()
    return np.asarray(counts.index.astype(object), dtype=object), counts.to_numpy(dtype=np.int64)


def _unused_prefix(name, levels: np.ndarray) -> str:
    """Return a beginning, made of the column's name, that no level has."""
    prefix = f"{name}_"
    while any(level.startswith(prefix) for level in levels):
        prefix = f"new_{prefix}"
    return prefix
