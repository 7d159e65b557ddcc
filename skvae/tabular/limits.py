"""What numbers that come out keep to, range and rounding, let go of where the user wants so."""

from __future__ import annotations

import numpy as np

from skvae.tabular.mixture import MixtureEncoder
from skvae.tabular.numeric import QuantileEncoder
from skvae.tabular.transformer import TabularTransformer


def release(transformer: TabularTransformer, *, range_: bool, rounding: bool) -> None:
    """Change the encoders of a fitted transformer so that numbers leave range or rounding.

    Parameters
    ----------
    transformer : TabularTransformer
        Fitted; changed in place.
    range_ : bool
        Whether the largest and the smallest numbers may go beyond those of training: by as much
        again as the last interval of the stored quantile function is wide, as far as the dtype
        goes. Values that repeat stay as they are.
    rounding : bool
        Whether numbers are no longer rounded to the decimals, or moved to the grid, of training.
    """
    for schema, encoder in zip(transformer.schema_, transformer.encoders_, strict=True):
        if isinstance(encoder, QuantileEncoder):
            if range_ and len(encoder.knots_) > 1:
                encoder.knots_ = np.clip(_widened(encoder.knots_), *_limits(schema))
            if rounding:
                encoder.bin_decimals_, encoder.bin_step_, encoder.bin_residue_ = None, 1, 0
        elif isinstance(encoder, MixtureEncoder) and len(encoder.means_):
            if range_:
                encoder.range_ = _limits(schema)
            if rounding:
                encoder.decimals_ = None


def _widened(knots: np.ndarray) -> np.ndarray:
    knots = knots.copy()
    knots[0] -= knots[1] - knots[0]
    knots[-1] += knots[-1] - knots[-2]
    return knots


def _limits(schema) -> tuple[float, float]:
    """Return what a column of this dtype can hold, in the numbers that are encoded."""
    dtype = schema.numpy_dtype if schema.kind == "numeric" and schema.dtype != object else None
    if dtype is None or dtype.kind not in "iu" or schema.offset is not None:
        return -np.inf, np.inf
    limits = np.iinfo(dtype)
    return float(limits.min), float(limits.max)
