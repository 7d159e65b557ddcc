"""Reports and pictures.

:func:`evaluate` judges a synthetic table; its :class:`QualityReport` prints, and writes one HTML
page. The displays draw with matplotlib, in the pattern of scikit-learn's.
"""

from skvae.report.embeddings import (
    LatentSpaceDisplay,
    ReconstructionDisplay,
    SpatialDomainsDisplay,
)
from skvae.report.quality import QualityReport, evaluate
from skvae.report.tables import ColumnShapesDisplay, PairTrendsDisplay
from skvae.report.training import LossCurveDisplay

__all__ = [
    "ColumnShapesDisplay",
    "LatentSpaceDisplay",
    "LossCurveDisplay",
    "PairTrendsDisplay",
    "QualityReport",
    "ReconstructionDisplay",
    "SpatialDomainsDisplay",
    "evaluate",
]
