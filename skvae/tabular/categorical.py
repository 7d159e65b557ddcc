"""Categories as codes, with one more code for what is rare or unknown and one for missing."""

from __future__ import annotations

import numpy as np
import pandas as pd

from skvae.tabular.schema import ColumnSchema


class CategoricalEncoder:
    """Encode one categorical column.

    Levels held by fewer than ``min_rows_per_value`` training rows are not stored: they share one
    code, ``unknown``, with whatever transform meets for the first time. Decoded, that code is a
    draw from the stored levels; or, where most of the column is rare (an identifier, free text),
    a fresh label made of the column's name and a number, never a training value.

    Codes: levels in sorted order (the dtype's order for a pandas ``category``), then ``unknown``,
    then the missing cell if fit saw one. Booleans have both levels and no ``unknown``.

    Parameters
    ----------
    schema : ColumnSchema
        The column.
    min_rows_per_value : int
        Least number of training rows behind a stored level.

    Attributes
    ----------
    levels_ : ndarray of shape (n_levels,)
        Stored levels.
    fresh_labels_ : bool
        Whether ``unknown`` is decoded as a fresh label.
    n_codes_ : int
        Number of codes.
    code_counts_ : ndarray of shape (n_codes_,)
        Training rows behind each code (set by ``TabularTransformer``).
    """

    has_place = False

    def __init__(self, schema: ColumnSchema, min_rows_per_value: int):
        self.schema = schema
        self.min_rows_per_value = min_rows_per_value
        self.ordinal = schema.ordered

    def fit(self, column: pd.Series) -> CategoricalEncoder:
        """Find the levels of a column.

        Raises
        ------
        ValueError
            No level may be stored, and the dtype has no room for fresh labels.
        """
        self.has_missing_ = bool(column.isna().any())
        counts = column.value_counts(sort=False, dropna=True)
        inferred = pd.api.types.infer_dtype(counts.index, skipna=True)
        is_boolean = pd.api.types.is_bool_dtype(column.dtype) or inferred == "boolean"
        self.has_unknown_ = not is_boolean
        self.fresh_labels_ = False
        if is_boolean:
            self.levels_ = np.array([False, True], dtype=object)
            return self
        frequent = counts.index[counts >= self.min_rows_per_value]
        if isinstance(self.schema.dtype, pd.CategoricalDtype):
            categories = self.schema.dtype.categories
            frequent = categories[categories.isin(frequent)]
        else:
            frequent = frequent.sort_values()
        self.levels_ = np.asarray(frequent.astype(object), dtype=object)
        n_rare = int(counts.sum() - counts[counts >= self.min_rows_per_value].sum())
        if inferred == "string":
            self.fresh_labels_ = n_rare > 0.5 * int(counts.sum())
        elif n_rare and len(frequent) == 0:
            raise ValueError(
                f"Column {self.schema.name!r} is categorical ({self.schema.dtype}), but none of "
                f"its {len(counts)} levels is held by min_rows_per_value="
                f"{self.min_rows_per_value} rows, so none may be reproduced. Lower "
                "min_rows_per_value, merge levels, leave numbers numeric, or drop the column."
            )
        return self

    @property
    def n_codes_(self) -> int:
        return len(self.levels_) + int(self.has_unknown_) + int(self.has_missing_)

    def encode(self, column: pd.Series) -> np.ndarray:
        """Return the codes, int64 of shape (n_rows,).

        Raises
        ------
        ValueError
            A column that was boolean in fit holds something else now.
        """
        index = pd.Index(self.levels_, dtype=object)
        if isinstance(column.dtype, pd.CategoricalDtype):
            # Look up the categories, not the cells.
            cells = column.cat.codes.to_numpy()
            table = index.get_indexer(column.cat.categories.astype(object))
            absent = cells < 0
            codes = np.append(table, -1)[cells]
        else:
            absent = column.isna().to_numpy()
            codes = index.get_indexer(pd.Index(column.astype(object), dtype=object))
        unseen = (codes < 0) & ~absent
        if unseen.any():
            if not self.has_unknown_:
                raise ValueError(
                    f"Column {self.schema.name!r} held booleans in fit, but now holds "
                    f"{column[unseen].iloc[0]!r}."
                )
            codes = np.where(unseen, len(self.levels_), codes)
        if absent.any():
            # A missing cell where fit saw none counts as the most frequent level.
            fallback = self.n_codes_ - 1 if self.has_missing_ else int(self.code_counts_.argmax())
            codes = np.where(absent, fallback, codes)
        return codes.astype(np.int64, copy=False)

    def decode(self, codes: np.ndarray, rng: np.random.Generator):
        """Return the cells behind codes, as an array of the column's dtype."""
        labels = self.levels_
        n_levels = len(labels)
        absent = codes == self.n_codes_ - 1 if self.has_missing_ else np.zeros(len(codes), bool)
        unknown = np.flatnonzero((codes >= n_levels) & ~absent)
        if len(unknown):
            codes = codes.copy()
            if self.fresh_labels_:
                start = int(rng.integers(10**6, 10**9))
                names = [f"{self.schema.name}_{start + step}" for step in range(len(unknown))]
                labels = np.concatenate([labels, np.array(names, dtype=object)])
                codes[unknown] = n_levels + np.arange(len(unknown))
            else:
                counts = self.code_counts_[:n_levels]
                codes[unknown] = rng.choice(n_levels, size=len(unknown), p=counts / counts.sum())
        if absent.any():
            codes = np.where(absent, len(labels), codes)
        return self._write(codes, labels, bool(absent.any()))

    def _write(self, codes: np.ndarray, labels: np.ndarray, any_absent: bool):
        """Return the labels of codes under the column's dtype; one code too many is missing."""
        dtype = self.schema.dtype
        if isinstance(dtype, pd.CategoricalDtype):
            to_dtype = np.append(dtype.categories.get_indexer(pd.Index(labels, dtype=object)), -1)
            return pd.Categorical.from_codes(to_dtype[codes], dtype=dtype, validate=False)
        cells = np.append(labels, np.array([self.schema.missing], dtype=object))[codes]
        if dtype == object:
            return cells
        if isinstance(dtype, np.dtype) and not (any_absent and dtype.kind != "f"):
            return cells.astype(dtype)
        return pd.array(cells, dtype=dtype)
