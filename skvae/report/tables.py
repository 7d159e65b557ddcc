"""Pictures of a synthetic table beside the real one."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pandas as pd

from skvae import metrics
from skvae.metrics._tables import Tables
from skvae.report._columns import REAL, SYNTHETIC, ColumnPanel, column_panels, short
from skvae.report._matplotlib import grid_of_axes, one_axes, pyplot, strip

# A column most of whose rows share one bin shows the rest only on a logarithmic scale.
_SPIKE = 0.8


class ColumnShapesDisplay:
    """Each column's distribution, real against synthetic, as small multiples.

    Parameters
    ----------
    panels : list of ColumnPanel
        What is to be drawn, such as ``QualityReport.panels``; ``from_tables`` counts it.

    Attributes
    ----------
    axes_ : ndarray of matplotlib Axes
        One for each column.
    figure_ : matplotlib Figure
        What they are on.

    Examples
    --------
    >>> from skvae.datasets import load_adult
    >>> from skvae.report import ColumnShapesDisplay
    >>> adult = load_adult()
    >>> display = ColumnShapesDisplay.from_tables(adult[:1000], adult[1000:2000])
    >>> len(display.axes_)
    15
    """

    def __init__(self, panels: list[ColumnPanel]) -> None:
        self.panels = panels

    @classmethod
    def from_tables(
        cls, real, synthetic, *, discrete_columns: Iterable | None = None, n_columns: int = 3
    ) -> ColumnShapesDisplay:
        """Count both tables and draw them.

        Parameters
        ----------
        real, synthetic : DataFrame or 2-d array
            Tables with the same columns.
        discrete_columns : iterable of labels, optional
            Columns to treat as discrete whatever their dtype.
        n_columns : int, default=3
            Pictures side by side.
        """
        tables = Tables.of(real, synthetic, discrete_columns=discrete_columns)
        return cls(column_panels(tables)).plot(n_columns=n_columns)

    def plot(self, *, n_columns: int = 3) -> ColumnShapesDisplay:
        """Draw on a new figure."""
        self.figure_, self.axes_ = grid_of_axes(len(self.panels), n_columns, 4.0, 2.3)
        for ax, panel in zip(self.axes_, self.panels, strict=True):
            (_draw_levels if panel.edges is None else _draw_numbers)(ax, panel)
            ax.set_title(str(panel.column), loc="left", fontsize=10, fontweight="bold")
            ax.tick_params(labelsize=8)
            strip(ax)
        handles = [pyplot().Rectangle((0, 0), 1, 1, color=c) for c in (REAL, SYNTHETIC)]
        self.figure_.legend(
            handles, ["real", "synthetic"], loc="outside upper right", ncols=2, frameon=False
        )
        return self


class PairTrendsDisplay:
    """How well the dependence of every two columns is kept, as a heat map.

    Parameters
    ----------
    details : DataFrame
        ``details`` of the result of :func:`skvae.metrics.pair_trends`.

    Attributes
    ----------
    ax_ : matplotlib Axes
        Axes with the heat map.
    figure_ : matplotlib Figure
        What they are on.

    Examples
    --------
    >>> from skvae.datasets import load_adult
    >>> from skvae.report import PairTrendsDisplay
    >>> adult = load_adult()
    >>> display = PairTrendsDisplay.from_tables(adult[:1000], adult[1000:2000])
    >>> display.ax_.get_title(loc="left")
    'Pair trends'
    """

    def __init__(self, details: pd.DataFrame) -> None:
        self.details = details

    @classmethod
    def from_tables(
        cls,
        real,
        synthetic,
        *,
        bins: str = "real",
        discrete_columns: Iterable | None = None,
        ax=None,
    ) -> PairTrendsDisplay:
        """Score both tables and draw the scores; parameters are those of ``pair_trends``."""
        result = metrics.pair_trends(real, synthetic, bins=bins, discrete_columns=discrete_columns)
        return cls(result.details).plot(ax=ax)

    def plot(self, *, ax=None, cmap: str = "Reds_r", vmin: float = 0.8) -> PairTrendsDisplay:
        """Draw on `ax`, or on a new figure.

        Parameters
        ----------
        ax : matplotlib Axes, optional
            Axes to draw on.
        cmap : str, default="Reds_r"
            Colours, of the score.
        vmin : float, default=0.8
            Scores down to this are told apart by colour.
        """
        pairs = self.details[["column_1", "column_2"]]
        columns = list(dict.fromkeys(pairs.to_numpy().T.ravel()))
        side = 0.3 * len(columns) + 2.6
        self.figure_, self.ax_ = one_axes(ax, figsize=(side + 0.6, side))
        place = {column: k for k, column in enumerate(columns)}
        scores = np.full((len(columns), len(columns)), np.nan)
        i, j = (pairs[name].map(place).to_numpy() for name in pairs)
        scores[i, j] = scores[j, i] = self.details["score"]
        drawn = self.ax_.imshow(scores, cmap=cmap, vmin=vmin, vmax=1.0)
        names = [short(column) for column in columns]
        self.ax_.set_xticks(range(len(names)), names, rotation=90)
        self.ax_.set_yticks(range(len(names)), names)
        self.ax_.tick_params(length=0)
        self.ax_.set_title("Pair trends", loc="left")
        self.figure_.colorbar(
            drawn, ax=self.ax_, extend="min", shrink=0.7, label="score, 1 is best"
        )
        return self


def _draw_numbers(ax, panel: ColumnPanel) -> None:
    ax.stairs(panel.real, panel.edges, fill=True, color=REAL)
    ax.stairs(panel.synthetic, panel.edges, color=SYNTHETIC, linewidth=1.5)
    if panel.real.max() > _SPIKE:
        ax.set_yscale("log")
        ax.minorticks_off()
    ax.yaxis.set_major_formatter(lambda share, _: f"{100 * share:.4g} %")
    ax.set_xticks(panel.edges[[0, -1]], panel.labels)
    first, last = ax.get_xticklabels()
    first.set_horizontalalignment("left")
    last.set_horizontalalignment("right")


def _draw_levels(ax, panel: ColumnPanel) -> None:
    places = np.arange(len(panel.labels))[::-1]
    ax.barh(places + 0.2, panel.real, height=0.4, color=REAL)
    ax.barh(places - 0.2, panel.synthetic, height=0.4, color=SYNTHETIC)
    ax.set_yticks(places, panel.labels)
    # Two levels alone in a panel would become two slabs.
    ax.set_ylim(min(-0.7, len(places) - 4.5), len(places) - 0.3)
    ax.xaxis.set_major_formatter(lambda share, _: f"{100 * share:.4g} %")
