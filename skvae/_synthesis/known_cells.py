"""Cells of rows that are known, as codes and places, and rows put back around them."""

from __future__ import annotations

import numpy as np
import pandas as pd
import torch
from sklearn.utils import check_random_state

from skvae.models.particles import Evidence
from skvae.tabular import MixtureEncoder, QuantileEncoder
from skvae.tabular.copies import copied_from
from skvae.tabular.splits import split_codes

# Cells of the tables of particles, or of candidates, that are held in memory at a time.
MAX_CELLS = 2_000_000


class KnownCellsMixin:
    """What sampling under conditions and imputation share."""

    def _rng_of(self, random_state):
        return self._sample_rng if random_state is None else check_random_state(random_state)

    def _known_evidence(self, codes, places, never=None) -> Evidence:
        """Return known cells as evidence, one group a row."""
        device = next(self.model_.parameters()).device
        tensors = (torch.from_numpy(array).to(device) for array in (codes, places))
        return Evidence(*tensors, never={c: flag.to(device) for c, flag in (never or {}).items()})

    def _read_known(self, frame):
        """Return the cells of each column; NaN in numeric columns of which nothing is known."""
        cells = []
        for position, schema in enumerate(self.transformer_.schema_):
            column = frame.iloc[:, position]
            numeric = is_numeric(self.transformer_.encoders_[position])
            if numeric and column.isna().all():
                cells.append(np.full(len(column), np.nan))
            elif numeric:
                cells.append(schema.read_numbers(column))
            else:
                cells.append(column)
        return cells

    def _codes_of(self, frame, cells) -> tuple[np.ndarray, np.ndarray]:
        """Return codes, -1 where a cell is missing or tells nothing, and places."""
        codes = np.full(frame.shape, -1, np.int64)
        places = np.zeros(frame.shape, np.float32)
        absent = frame.isna().to_numpy()
        for position, encoder in enumerate(self.transformer_.encoders_):
            if absent[:, position].all():
                continue
            if isinstance(encoder, QuantileEncoder):
                source = copied_from(encoder, cells[position], cells)
                code, places[:, position] = encoder.encode(cells[position], source)
            elif isinstance(encoder, MixtureEncoder):
                code, places[:, position] = encoder.encode(cells[position])
            else:
                code = encoder.encode(cells[position])
            # A code without training rows has no probability worth the name.
            tells = ~absent[:, position] & (np.asarray(encoder.code_counts_)[code] > 0)
            codes[:, position] = np.where(tells, code, -1)
        known = split_codes(self.transformer_.splits_, codes, places)
        return known.codes, known.places

    def _encode_known(self, frame):
        return self._codes_of(frame, self._read_known(frame))

    def _put(self, frame, rows, absent, table, wanted=False):
        """Return a copy of ``frame`` with the missing cells of some rows from ``table``."""
        columns = {}
        for position, schema in enumerate(self.transformer_.schema_):
            column = frame.iloc[:, position]
            gaps = absent[rows, position]
            if wanted and gaps.all():
                columns[position] = table.iloc[:, position].array
                continue
            columns[position] = _filled(column, rows[gaps], table.iloc[gaps, position], schema)
        filled = pd.DataFrame(columns, index=frame.index, copy=False)
        filled.columns = pd.Index([schema.name for schema in self.transformer_.schema_])
        return filled


def is_numeric(encoder) -> bool:
    return isinstance(encoder, (QuantileEncoder, MixtureEncoder))


def blocks(cells: np.ndarray):
    """Yield slices of groups that have, together, about as many cells as memory is for."""
    block = np.cumsum(cells) // MAX_CELLS
    bounds = np.flatnonzero(np.diff(block)) + 1
    for start, stop in zip([0, *bounds], [*bounds, len(cells)], strict=True):
        yield slice(int(start), int(stop))


def _filled(column: pd.Series, rows: np.ndarray, values: pd.Series, schema):
    """Return an array of the column with values put at some rows, in the dtype of fit."""
    if column.dtype == schema.dtype:
        array = column.array.copy()
        array[rows] = values.array
        return array
    cells = column.astype(object).array.copy()
    cells[rows] = values.astype(object).array
    written = pd.Series(cells).astype(schema.dtype)
    same = (written.astype(object).array == cells) | pd.isna(cells)
    if not np.asarray(same, bool).all():
        return pd.Series(cells).infer_objects().array  # the dtype of fit does not hold them
    return written.array
