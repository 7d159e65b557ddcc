"""Random state that is nobody else's."""

from __future__ import annotations

import numpy as np
from sklearn.utils import check_random_state


def private_random_state(
    random_state: int | np.random.RandomState | None,
) -> np.random.RandomState:
    """Return scikit-learn's ``check_random_state``, but for None fresh entropy.

    There scikit-learn takes numpy's global state and moves it on; that state is the user's.
    """
    return np.random.RandomState() if random_state is None else check_random_state(random_state)
