"""How close a synthetic table is to a real one.

These metrics need numpy, pandas and scikit-learn only and know nothing of how the synthetic table
was made, so they serve the output of any synthesizer:

- :func:`column_shapes`: each column's distribution on its own;
- :func:`pair_trends`: the dependence between every two columns;
- :func:`two_sample_score`: whether a classifier can tell the two tables apart, which sees
  everything at once and is the hardest to pass.

Each returns a small result with ``.value`` in 0..1 (1 is best) and ``.details``, a DataFrame.
"""

from .shapes import column_shapes
from .trends import pair_trends
from .two_sample import two_sample_score

__all__ = ["column_shapes", "pair_trends", "two_sample_score"]
