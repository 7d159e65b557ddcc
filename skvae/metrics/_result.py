"""What a metric returns."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd


@dataclass(frozen=True, eq=False, repr=False)
class MetricResult:
    """A score between 0 and 1 and what it is made of.

    Attributes
    ----------
    name : str
        The metric.
    value : float
        The score; 1 is best. NaN when not one part could be scored.
    details : pandas.DataFrame
        One row per part (column, pair of columns, fold) with its ``score``.

    Notes
    -----
    ``float(result)`` is ``result.value``.
    """

    name: str
    value: float
    details: pd.DataFrame

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
        return f"{self.name}: {self.value:.4f} (1 is best){self._explanation()}"

    def _explanation(self) -> str:
        lines = ["", f"lowest of {len(self.details)}:"]
        labels = [c for c in self.details.columns if c.startswith("column")]
        for _, row in self.worst(3).iterrows():
            lines.append(f"  {row['score']:.4f}  {' x '.join(str(row[c]) for c in labels)}")
        undefined = int(self.details["score"].isna().sum())
        if undefined:
            lines.append(f"  not defined for {undefined} (see .details)")
        return "\n".join(lines)


@dataclass(frozen=True, eq=False, repr=False)
class TwoSampleResult(MetricResult):
    """Result of :func:`skvae.metrics.two_sample_score`.

    Attributes
    ----------
    auc : float
        Mean over folds of the area under the ROC curve, not clipped: 0.5 is chance, 1 is told
        apart. Below 0.5 the synthetic table repeats real rows: the copies that a fold holds out
        were seen in training under the other label.
    classifier : str
        The classifier that was asked to tell the tables apart.
    """

    auc: float
    classifier: str

    def _explanation(self) -> str:
        folds = ", ".join(f"{auc:.3f}" for auc in np.asarray(self.details["auc"]))
        return f"\nAUC {self.auc:.4f} (0.5 is chance) by {self.classifier}; folds: {folds}"
