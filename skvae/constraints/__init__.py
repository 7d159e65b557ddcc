"""What rows must keep to, for ``TVAESynthesizer(constraints=[...])``."""

from skvae.constraints.plan import ConstraintPlan
from skvae.constraints.rules import (
    Constraint,
    FixedCombinations,
    Inequality,
    Predicate,
    Range,
    Total,
)

__all__ = [
    "Constraint",
    "ConstraintPlan",
    "FixedCombinations",
    "Inequality",
    "Predicate",
    "Range",
    "Total",
]
