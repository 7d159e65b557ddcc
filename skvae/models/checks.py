"""Checks of the numbers that models take."""

from __future__ import annotations

import math
from numbers import Integral, Real


def check_count(name: str, value: int, minimum: int = 1) -> None:
    """Raise ValueError unless ``value`` is a whole number of at least ``minimum``."""
    if isinstance(value, bool) or not isinstance(value, Integral) or value < minimum:
        raise ValueError(f"{name}={value!r}, expected a whole number of at least {minimum}.")


def check_number(name: str, value: float, minimum: float = 0.0, maximum: float = math.inf) -> None:
    """Raise ValueError unless ``value`` is a finite number in [minimum, maximum]."""
    if (
        isinstance(value, bool)
        or not isinstance(value, Real)
        or not math.isfinite(value)
        or not minimum <= value <= maximum
    ):
        bounds = [f"at least {minimum:g}"] if minimum > -math.inf else []
        bounds += [f"at most {maximum:g}"] if maximum < math.inf else []
        raise ValueError(f"{name}={value!r}, expected a finite number {' and '.join(bounds)}.")
