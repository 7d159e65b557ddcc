import numpy as np
import pytest
from scipy import linalg

from skvae.spatial import Neighbourhoods
from skvae.spatial.projections import (
    leading_directions,
    maf_directions,
    multispati_directions,
    spatial_moments,
)


@pytest.fixture
def tissue():
    """Return 20 x 20 spots with a weak smooth signal in their last feature, and their lag."""
    rng = np.random.default_rng(0)
    row, column = np.divmod(np.arange(400), 20)
    X = rng.normal(size=(400, 6)) * [5, 4, 3, 2, 1, 0.5]
    X[:, 5] += 0.5 * np.sin(column / 3)
    return X - X.mean(axis=0), Neighbourhoods(np.column_stack([column, row])).lag_matrix()


def test_moments_are_the_covariances_with_the_spots_and_with_their_neighbours(tissue):
    X, lag = tissue
    covariance, lagged = spatial_moments(X, lag)
    crossed = X.T @ lag.toarray() @ X / 400
    np.testing.assert_allclose(covariance, X.T @ X / 400)
    np.testing.assert_allclose(lagged, (crossed + crossed.T) / 2)


def test_maf_finds_the_smooth_direction_however_small_its_variance(tissue):
    directions = maf_directions(*spatial_moments(*tissue), 2)
    assert abs(directions[5, 0]) / np.linalg.norm(directions[:, 0]) > 0.95


def test_maf_scores_are_uncorrelated_with_falling_autocorrelation(tissue):
    X, lag = tissue
    scores = X @ maf_directions(*spatial_moments(X, lag), 6)
    np.testing.assert_allclose(scores.T @ scores / 400, np.eye(6), atol=1e-4)
    autocorrelations = np.sum(scores * (lag @ scores), axis=0) / 400
    assert np.all(np.diff(autocorrelations) < 0)


def test_maf_is_the_same_in_any_linear_coordinates_of_the_features(tissue):
    X, lag = tissue
    mixing = np.random.default_rng(1).normal(size=(6, 6))
    before = X @ maf_directions(*spatial_moments(X, lag), 3)
    after = X @ mixing @ maf_directions(*spatial_moments(X @ mixing, lag), 3)
    np.testing.assert_allclose(np.abs(np.sum(before * after, axis=0)) / 400, 1, atol=1e-3)


def test_multispati_takes_the_largest_signed_eigenvalues_first():
    lagged = np.diag([-3.0, 0.5, 1.0])
    np.testing.assert_allclose(multispati_directions(lagged, 2), np.eye(3)[:, [2, 1]])


def test_leading_directions_pick_the_first_components():
    np.testing.assert_array_equal(leading_directions(4, 2), np.eye(4)[:, :2])


def test_signs_do_not_depend_on_the_solver(tissue, monkeypatch):
    moments = spatial_moments(*tissue)
    maf, multispati = maf_directions(*moments, 4), multispati_directions(moments[1], 4)
    solve = linalg.eigh
    monkeypatch.setattr(linalg, "eigh", lambda *args: (solve(*args)[0], -solve(*args)[1]))
    np.testing.assert_array_equal(maf_directions(*moments, 4), maf)
    np.testing.assert_array_equal(multispati_directions(moments[1], 4), multispati)


@pytest.mark.parametrize("covariance", [np.zeros((3, 3)), np.diag([1.0, 1.0, 0.0])])
def test_constant_features_are_borne(covariance):
    assert np.isfinite(maf_directions(covariance, covariance / 2, 9)).all()
