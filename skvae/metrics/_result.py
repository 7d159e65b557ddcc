"""What a metric returns."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd


@dataclass(frozen=True, eq=False, repr=False)
class MetricResult:
    """A score, 1 being the best, and what it is made of.

    Attributes
    ----------
    name : str
        The metric.
    value : float
        The score; 1 is best. NaN when not one part could be scored.
    details : pandas.DataFrame
        One row per part (column, pair of columns, fold) with its ``score``.
    oracle : float or None
        The score of real rows that the synthesizer never saw, None if there were none to score.

    Notes
    -----
    ``float(result)`` is ``result.value``.
    """

    name: str
    value: float
    details: pd.DataFrame
    oracle: float | None = None

    @property
    def error_percent(self) -> float:
        """Distance to a perfect score in percent, 100 (1 - value): the papers' unit."""
        return 100.0 * (1.0 - self.value)

    def worst(self, n: int = 5) -> pd.DataFrame:
        """Return the `n` rows of ``details`` with the lowest scores, lowest first."""
        return self.details.sort_values("score", kind="stable").head(n).reset_index(drop=True)

    def __float__(self) -> float:
        return float(self.value)

    def __repr__(self) -> str:
        oracle = "" if self.oracle is None else f"; real rows reach {self.oracle:.4f}"
        return f"{self.name}: {self.value:.4f} ({self._best}{oracle}){self._explanation()}"

    @property
    def _best(self) -> str:
        return "1 is best"

    def _explanation(self) -> str:
        labels = [c for c in self.details.columns if c.startswith("column")]
        if labels:
            lines, rows = ["", f"lowest of {len(self.details)}:"], self.worst(3)
        else:  # metrics in units of their own
            labels, lines, rows = ["metric"], [""], self.details
        for _, row in rows.iterrows():
            lines.append(f"  {row['score']:.4f}  {' x '.join(str(row[c]) for c in labels)}")
        undefined = int(self.details["score"].isna().sum())
        if undefined:
            lines.append(f"  not defined for {undefined} (see .details)")
        return "\n".join(lines)


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class TwoSampleResult(MetricResult):
    """Result of :func:`skvae.metrics.two_sample_score`.

    Attributes
    ----------
    auc : float
        Mean over folds of the area under the ROC curve, not clipped: 0.5 is chance, 1 is told
        apart. Below 0.5 the synthetic table repeats real rows: the copies that a fold holds out
        were seen in training under the other label.
    standard_error : float
        Of the AUC, by the numbers of rows and folds.
    classifier : str
        The classifier that was asked to tell the tables apart.
    importances : pandas.DataFrame or None
        Which columns it went by.
    """

    auc: float
    standard_error: float
    classifier: str
    importances: pd.DataFrame | None = None

    def _explanation(self) -> str:
        folds = ", ".join(f"{auc:.3f}" for auc in np.asarray(self.details["auc"]))
        return f"\nAUC {self.auc:.4f} (0.5 is chance) by {self.classifier}; folds: {folds}"


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class CurveResult(MetricResult):
    """Result of :func:`skvae.metrics.alpha_precision` and :func:`skvae.metrics.beta_recall`.

    ``details`` is the curve: the shares ``expected`` and ``found``, and ``score``, one minus the
    distance between them.
    """

    @property
    def _best(self) -> str:
        return "about 0.5 is best" if self.name == "beta-recall" else super()._best

    def _explanation(self) -> str:
        worst = self.worst(1).iloc[0]
        return f"\nfarthest off: {worst['found']:.3f} where {worst['expected']:.3f} is expected"


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class PrivacyResult(MetricResult):
    """What a privacy metric found.

    Attributes
    ----------
    value : float
        The figure; what it means is the metric's to say, ``ideal`` what it should be.
    ideal : float or None
        The value of a table that leaks nothing. None where that hangs on the data and there was no
        holdout to ask.
    leak : float or None
        How far the value lies from the ideal on the side where rows leak; below 0 on the other.
    standard_error : float
        Of the leak.
    tolerance : float
        A leak up to this is not worth a warning.
    """

    ideal: float | None
    leak: float | None
    standard_error: float
    tolerance: float = 0.02

    @property
    def flagged(self) -> bool | None:
        """Whether the table leaks: by three standard errors more than the tolerance.

        None where there was nothing to hold the value against.
        """
        if self.leak is None:
            return None
        return bool(self.leak - 3.0 * self.standard_error > self.tolerance)

    def __repr__(self) -> str:
        if self.ideal is None:
            return f"{self.name}: {self.value:.4f} (no holdout to compare with)"
        verdict = "LEAKS" if self.flagged else "no leak found"
        oracle = "" if self.oracle is None else f"; real rows reach {self.oracle:.4f}"
        return (
            f"{self.name}: {self.value:.4f} (ideal {self.ideal:.4f}{oracle})\n"
            f"leak {self.leak:+.4f} +- {self.standard_error:.4f}: {verdict}"
        )
