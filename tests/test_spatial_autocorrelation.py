import numpy as np
import pytest

from skvae.spatial import GATE, Neighbourhoods, range_ratio
from skvae.spatial.autocorrelation import autocorrelation_range


@pytest.fixture(scope="module")
def around():
    row, column = np.divmod(np.arange(1600), 40)
    return Neighbourhoods(np.column_stack([column, row]))


def domains(around, seed=0):
    rng = np.random.default_rng(seed)
    return (around.coordinates[:, :1] // 14) * [2.0, -1, 1] + rng.normal(size=(1600, 3))


def texture(around):
    return around.gaussian_kernel(1.0) @ np.random.default_rng(2).normal(size=(1600, 3))


def test_the_range_is_the_autocorrelation_at_ring_three_over_that_of_neighbours(around):
    X = domains(around)
    centred = X - X.mean(axis=0)
    far = np.sum(centred * (around.ring_matrix(3) @ centred))
    near = np.sum(centred * (around.lag_matrix() @ centred))
    assert autocorrelation_range(X, around) == pytest.approx(far / near)


def test_domains_pass_the_gate_and_texture_does_not(around):
    assert range_ratio(domains(around), domains(around, seed=1), around) > GATE
    assert range_ratio(domains(around), texture(around), around) < 0.5 < GATE


def test_scale_and_shift_of_a_modality_change_nothing(around):
    X, image = domains(around), domains(around, seed=1)
    ratio = range_ratio(X, image, around)
    assert range_ratio(100 * X + 7, image / 50 - 3, around) == pytest.approx(ratio)


def test_only_the_leading_features_are_asked(around):
    X = domains(around)
    padded = np.hstack([X, np.zeros((1600, 12)), 9 * texture(around)])
    assert autocorrelation_range(padded, around) == pytest.approx(autocorrelation_range(X, around))


def test_a_constant_image_opens_no_gate(around):
    assert not range_ratio(domains(around), np.ones((1600, 2)), around) >= GATE
    assert not range_ratio(np.ones((1600, 2)), domains(around), around) >= GATE
