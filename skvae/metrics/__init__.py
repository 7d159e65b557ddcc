"""How close a synthetic table is to a real one, how useful, and what it gives away.

These metrics need numpy, pandas and scikit-learn only and know nothing of how the synthetic table
was made, so they serve the output of any synthesizer.

Fidelity: :func:`column_shapes`, each column on its own; :func:`pair_trends`, every two columns;
:func:`two_sample_score`, whether a classifier can tell the two tables apart, which sees everything
at once and is the hardest to pass; :func:`coverage`, levels and ranges; :func:`alpha_precision` and
:func:`beta_recall`, where the rows lie.

Utility: :func:`utility`, what a model trained on the synthetic rows knows about real ones.

Privacy: :func:`closest_record_share`, :func:`nearest_neighbour_ratio`, :func:`exact_copies`,
:func:`membership_inference`, :func:`attribute_inference` and :func:`singling_out`.

Each returns a small result with ``.value``, ``.details``, a DataFrame, and ``.oracle``, the value
that real rows reach, where a holdout is given. :class:`SampleScorer` makes scorers of them for
``GridSearchCV``.
"""

from ._result import CurveResult, MetricResult, PrivacyResult, TwoSampleResult
from .attributes import attribute_inference
from .coverage import coverage
from .membership import membership_inference
from .precision_recall import alpha_precision, beta_recall
from .privacy import closest_record_share, exact_copies, nearest_neighbour_ratio
from .scorers import SampleScorer, column_shapes_scorer, pair_trends_scorer, two_sample_scorer
from .shapes import column_shapes
from .singling_out import singling_out
from .trends import pair_trends
from .two_sample import two_sample_score
from .utility import utility

__all__ = [
    "CurveResult",
    "MetricResult",
    "PrivacyResult",
    "SampleScorer",
    "TwoSampleResult",
    "alpha_precision",
    "attribute_inference",
    "beta_recall",
    "closest_record_share",
    "column_shapes",
    "column_shapes_scorer",
    "coverage",
    "exact_copies",
    "membership_inference",
    "nearest_neighbour_ratio",
    "pair_trends",
    "pair_trends_scorer",
    "singling_out",
    "two_sample_score",
    "two_sample_scorer",
    "utility",
]
