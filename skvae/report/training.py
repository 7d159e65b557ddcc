"""Picture of a fit."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pandas as pd

from skvae.report._columns import ACCENT, SYNTHETIC
from skvae.report._matplotlib import grid_of_axes, strip

# What a history holds beside terms of the loss, or says twice.
_NO_TERMS = ("epoch", "elbo", "learning_rate", "seconds")


class LossCurveDisplay:
    """The loss and its terms over the epochs, each on axes of its own.

    Parameters
    ----------
    history : DataFrame
        ``history_`` of an estimator: one row per epoch.

    Attributes
    ----------
    axes_ : ndarray of matplotlib Axes
        One for each term.
    figure_ : matplotlib Figure
        What they are on.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from skvae import VAEEmbedder
    >>> from skvae.report import LossCurveDisplay
    >>> X, _ = load_digits(return_X_y=True)
    >>> embedder = VAEEmbedder(n_components=2, max_epochs=2, random_state=0).fit(X[:200])
    >>> display = LossCurveDisplay.from_estimator(embedder, terms=["loss"])
    >>> display.axes_[0].get_xlabel()
    'epoch'
    """

    def __init__(self, history: pd.DataFrame) -> None:
        self.history = history

    @classmethod
    def from_estimator(
        cls, estimator, *, terms: Iterable[str] | None = None, n_columns: int = 3
    ) -> LossCurveDisplay:
        """Draw the history of a fitted estimator; parameters as in ``plot``."""
        if not hasattr(estimator, "history_"):
            raise ValueError(
                f"{type(estimator).__name__} has no history_ yet: fit it first, then draw."
            )
        return cls(estimator.history_).plot(terms=terms, n_columns=n_columns)

    def plot(self, *, terms: Iterable[str] | None = None, n_columns: int = 3) -> LossCurveDisplay:
        """Draw on a new figure.

        Parameters
        ----------
        terms : iterable of str, optional
            Columns of the history to draw, each with its ``validation_`` column where there is
            one. By default the loss and all of its terms.
        n_columns : int, default=3
            Pictures side by side.
        """
        known = [c for c in self.history if c not in _NO_TERMS and not c.startswith("validation_")]
        if isinstance(terms, str):
            raise TypeError(f"terms={terms!r} is one name, expected a list of them: [{terms!r}].")
        terms = known if terms is None else list(terms)
        unknown = [term for term in terms if term not in self.history]
        if unknown or not terms:
            raise ValueError(
                f"terms must name columns of the history, {known}; got {unknown or terms}."
            )
        self.figure_, self.axes_ = grid_of_axes(len(terms), n_columns, 3.8, 2.9)
        for ax, term in zip(self.axes_, terms, strict=True):
            self._draw(ax, term)
        self.axes_[0].set_ylabel("nats per row")
        return self

    def _draw(self, ax, term: str) -> None:
        curves = [(term, ACCENT, "training"), (f"validation_{term}", SYNTHETIC, "held out")]
        curves = [curve for curve in curves if curve[0] in self.history]
        marker = "o" if len(self.history) == 1 else None
        for name, colour, label in curves:
            ax.plot(self.history["epoch"], self.history[name], colour, marker=marker, label=label)
        # The first epochs would flatten all that comes after them.
        late = self.history[[name for name, *_ in curves]].iloc[len(self.history) // 20 :]
        low, high = np.nanmin(late.to_numpy(float)), np.nanmax(late.to_numpy(float))
        if np.isfinite(high - low) and high > low:
            ax.set_ylim(low - 0.06 * (high - low), high + 0.06 * (high - low))
        ax.set_title(term.replace("_", " "), loc="left", fontsize=10)
        ax.set_xlabel("epoch")
        ax.locator_params(axis="x", nbins=6, integer=True)
        ax.grid(axis="y", alpha=0.3)
        strip(ax)
        if len(curves) > 1:
            ax.legend(frameon=False)
