"""The distribution of one column in two tables, ready to be drawn."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from skvae.metrics._tables import Tables

MAX_LEVELS = 7
_MAX_BINS = 30
_LONGEST_LABEL = 18
REAL, SYNTHETIC, ACCENT = "#9aa5b1", "#d1495b", "#00798c"


@dataclass(frozen=True, eq=False)
class ColumnPanel:
    """Shares of rows, real and synthetic, in the bins or levels of a column.

    Attributes
    ----------
    column : label
        The column.
    edges : ndarray of shape (n_bins + 1,) or None
        Edges of the bins of numbers; dates and durations in seconds. None for levels.
    labels : list of str
        The levels, the most frequent first, or the texts of the first and last edge.
    real, synthetic : ndarray
        Shares of all rows, missing ones included.
    """

    column: object
    edges: np.ndarray | None
    labels: list[str]
    real: np.ndarray
    synthetic: np.ndarray


def column_panels(tables: Tables) -> list[ColumnPanel]:
    """Return a panel for each column of the tables."""
    return [
        _of_numbers(tables, column) if column in tables.numerical else _of_levels(tables, column)
        for column in tables.real.columns
    ]


def short(label: object) -> str:
    """Cut a label to what fits beside a bar."""
    text = str(label)
    return text if len(text) <= _LONGEST_LABEL else text[: _LONGEST_LABEL - 1] + "…"


def _of_numbers(tables: Tables, column) -> ColumnPanel:
    numbers = tables.numbers(column)[:2]
    known = [cells[np.isfinite(cells)] for cells in numbers]
    if not all(map(len, known)):
        return _of_levels(tables, column)
    edges = _edges(known[0])
    # What lies beyond is counted in the outermost bins.
    shares = [
        np.histogram(np.clip(cells, edges[0], edges[-1]), edges)[0] / len(all_cells)
        for cells, all_cells in zip(known, numbers, strict=True)
    ]
    dtype = tables.real[column].dtype
    # Around whole numbers the edges lie halfway between them.
    is_whole = (edges % 1 == 0.5).all()
    ends = (edges[0] + 0.5, edges[-1] - 0.5) if is_whole else edges[[0, -1]]
    return ColumnPanel(column, edges, [_edge_text(e, dtype) for e in ends], *shares)


def _edges(cells: np.ndarray) -> np.ndarray:
    """Bins of one width over all real cells but the outermost half percents."""
    low, high = np.quantile(cells, [0.005, 0.995])
    if low == high:
        low, high = cells.min(), cells.max()
    if (np.rint(cells) == cells).all():
        # Bins of a whole width hold equally many whole numbers.
        width = max(1, int(np.ceil((high - low + 1) / _MAX_BINS)))
        return np.arange(low, high + width + 1, width) - 0.5
    return np.linspace(low, high, _MAX_BINS + 1)


def _edge_text(edge: float, dtype) -> str:
    if pd.api.types.is_datetime64_any_dtype(dtype):
        return str(pd.Timestamp(edge, unit="s").date())
    if pd.api.types.is_timedelta64_dtype(dtype):
        return str(pd.Timedelta(edge, unit="s").round("s"))
    return (
        f"{edge:,.4g}" if abs(edge) < 1e4 else f"{edge:,.0f}" if abs(edge) < 1e9 else f"{edge:.2e}"
    )


def _of_levels(tables: Tables, column) -> ColumnPanel:
    levels, counts = tables.level_counts(column)
    labels = pd.Index(levels, dtype=object, tupleize_cols=False)
    counts = pd.DataFrame(counts.T.astype(float), labels, ["real", "synthetic"])
    n_missing = [int(t[column].isna().sum()) for t in tables.tables[:2]]
    if any(n_missing):
        counts.loc["(missing)"] = n_missing
    shares = (counts / tables.sizes[:2]).sort_values("real", ascending=False, kind="stable")
    if len(shares) > MAX_LEVELS:
        others = shares.iloc[MAX_LEVELS - 1 :]
        shares = shares.iloc[: MAX_LEVELS - 1].copy()
        shares.loc[f"{len(others)} others"] = others.sum()
    labels = [short(level) for level in shares.index]
    return ColumnPanel(
        column, None, labels, shares["real"].to_numpy(), shares["synthetic"].to_numpy()
    )
