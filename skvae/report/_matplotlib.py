"""matplotlib, imported when something is drawn."""

from __future__ import annotations

from numbers import Integral

import numpy as np
import pandas as pd
from sklearn.utils import check_scalar

# So many classes have colours of their own; more numbers than that get a colour bar.
_MAX_GROUPS = 20


def pyplot():
    """Return ``matplotlib.pyplot``, or raise an error that names the extra."""
    try:
        import matplotlib.pyplot as plt
    except ImportError:
        raise ImportError("To draw pictures needs matplotlib: pip install skvae[plot].") from None
    return plt


def one_axes(ax, **figure_params):
    """Return the figure and axes to draw on: those of `ax`, or new ones."""
    if ax is not None:
        return ax.figure, ax
    return pyplot().subplots(layout="constrained", **figure_params)


def grid_of_axes(n: int, n_columns: int, width: float, height: float):
    """Return a new figure and `n` axes of that size in inches, row by row."""
    n_columns = min(check_scalar(n_columns, "n_columns", Integral, min_val=1), n)
    n_rows = -(-n // n_columns)
    size = (width * n_columns, height * n_rows)
    figure, axes = pyplot().subplots(
        n_rows, n_columns, figsize=size, squeeze=False, layout="constrained"
    )
    for ax in axes.flat[n:]:
        ax.remove()
    return figure, axes.ravel()[:n]


def strip(ax) -> None:
    """Leave out the frame that says nothing."""
    ax.spines[["top", "right"]].set_visible(False)


def draw_groups(ax, points: np.ndarray, labels, *, size: float) -> None:
    """Scatter points in the colours of their labels, with a legend, or a colour bar for numbers."""
    labels = pd.Series(np.asarray(labels))
    if pd.api.types.is_float_dtype(labels.dtype) and labels.nunique() > _MAX_GROUPS:
        drawn = ax.scatter(*points.T, c=labels, s=size, linewidths=0)
        ax.figure.colorbar(drawn, ax=ax)
        return
    codes, groups = pd.factorize(labels.astype(str).where(labels.notna()))
    # Numbers in their order, also where they are written as text.
    order = sorted(range(len(groups)), key=lambda k: (not groups[k].isdigit(), groups[k].zfill(9)))
    colours = pyplot().get_cmap("tab10" if len(groups) <= 10 else "tab20")
    if (codes < 0).any():
        ax.scatter(*points[codes < 0].T, color="#d0d5db", s=size, linewidths=0, label="none")
    for place, k in enumerate(order):
        colour = colours(place % colours.N)
        ax.scatter(*points[codes == k].T, color=colour, s=size, linewidths=0, label=groups[k])
    ax.legend(
        loc="center left",
        bbox_to_anchor=(1.0, 0.5),
        frameon=False,
        ncols=1 + len(groups) // (_MAX_GROUPS + 1),
        markerscale=max(1.0, (30.0 / size) ** 0.5),
    )
