"""Warnings that point at the line of the user, and not into this package."""

from __future__ import annotations

import os
import sys
import warnings
from importlib.util import find_spec

# Folders whose frames stand between the user's line and the warning.
_INSIDE = tuple(
    os.path.dirname(spec.origin) + os.sep
    for spec in map(find_spec, ("skvae", "sklearn", "joblib"))
    if spec is not None and spec.origin is not None
)


def warn_user(message: str, category: type[Warning] = UserWarning) -> None:
    """Warn at the innermost line outside skvae, scikit-learn and its joblib.

    Examples
    --------
    >>> import warnings
    >>> from skvae._warnings import warn_user
    >>> with warnings.catch_warnings(record=True) as caught:
    ...     warnings.simplefilter("always")
    ...     warn_user("Something to know.")
    >>> caught[0].filename.startswith("<doctest")
    True
    """
    frame, depth = sys._getframe(1), 2
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_INSIDE):
        frame, depth = frame.f_back, depth + 1
    warnings.warn(message, category, stacklevel=depth)
