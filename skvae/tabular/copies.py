"""Columns that repeat earlier ones: a number that equals another of its row is coded as a copy."""

from __future__ import annotations

import numpy as np

from skvae.tabular.numeric import QuantileEncoder

# A column may copy from earlier ones if it equals them in this share of the rows.
MIN_COPY_SHARE = 0.01
MAX_COPY_SOURCES = 3


def find_copies(encoders, schemas, cells) -> None:
    """Let binned columns copy from earlier ones that they often equal.

    Parameters
    ----------
    encoders : list of encoders
        Fitted. ``copies_`` of the quantile encoders is set: positions of the columns to copy from.
    schemas : list of ColumnSchema
        Columns of other ``units`` do not count as equal; wide integers take no part.
    cells : list of ndarray or Series
        The training cells of each column; float64 arrays for the numeric ones.
    """
    binned = [
        column
        for column, encoder in enumerate(encoders)
        if isinstance(encoder, QuantileEncoder)
        and encoder.n_bins_ > 1
        and schemas[column].units is not None
    ]
    for rank, column in enumerate(binned):
        encoder, values = encoders[column], cells[column]
        free = ~np.isin(values, encoder.atoms_)
        shares = [
            (float(np.mean((values == cells[i]) & free)), i)
            for i in binned[:rank]
            if schemas[i].units == schemas[column].units
        ]
        often = sorted((pair for pair in shares if pair[0] >= MIN_COPY_SHARE), reverse=True)
        encoder.copies_ = [source for _, source in often[:MAX_COPY_SOURCES]]


def copied_from(encoder: QuantileEncoder, values: np.ndarray, cells) -> np.ndarray | None:
    """Return which of its sources each cell equals, the first of several; -1 for none.

    None if the column copies from no other.
    """
    if not encoder.copies_:
        return None
    copy_of = np.full(len(values), -1)
    for rank in reversed(range(len(encoder.copies_))):
        copy_of[values == cells[encoder.copies_[rank]]] = rank
    return copy_of
