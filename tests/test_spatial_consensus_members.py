import numpy as np
import pytest

from skvae.spatial.consensus_members import n_leading, width_factor


def test_small_slides_narrow_the_kernels():
    assert width_factor(3600, 7) == 1
    assert width_factor(346, 5) == pytest.approx(np.sqrt(346 / 5) / 16)
    assert width_factor(10, 10) == 0.4


def test_few_spots_carry_few_features():
    assert [n_leading(*size) for size in [(60, 5000), (60, 300), (60, 90), (7, 90)]] == [
        50,
        15,
        10,
        7,
    ]
