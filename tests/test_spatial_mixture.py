import numpy as np
import pytest
from scipy.stats import multivariate_normal
from sklearn.metrics import adjusted_rand_score
from sklearn.mixture import GaussianMixture
from threadpoolctl import threadpool_info, threadpool_limits

from skvae.spatial import fit_from_labels, fit_tied_mixture


@pytest.fixture(scope="module")
def sample():
    """Return long parallel clusters, that k-means cuts across, and their labels."""
    rng = np.random.default_rng(0)
    labels = rng.integers(3, size=600)
    Z = rng.normal(size=(600, 4)) * [3, 1, 1, 1]
    Z[:, 1] += 5 * labels
    return Z + np.array([100, -50, 3, 0]), labels


def fit(Z, n_clusters, **kwargs):
    return fit_tied_mixture(Z, n_clusters, np.random.RandomState(0), **kwargs)


def test_it_finds_the_optimum_that_scikit_learn_finds(sample):
    Z, labels = sample
    mixture = fit(Z, 3)
    theirs = GaussianMixture(3, covariance_type="tied", n_init=10, tol=1e-6, random_state=0).fit(Z)
    assert adjusted_rand_score(labels, mixture.posteriors(Z).argmax(axis=1)) > 0.9
    assert mixture.score_samples(Z).mean() == pytest.approx(theirs.score(Z), abs=0.003)
    assert np.sort(mixture.weights) == pytest.approx(np.sort(theirs.weights_), abs=0.02)


def test_densities_and_posteriors_are_those_of_the_formula(sample):
    Z, _ = sample
    mixture = fit(Z, 3)
    lower = np.linalg.inv(mixture.whitening.T)
    joint = np.column_stack(
        [
            weight * multivariate_normal(mean, lower @ lower.T).pdf(Z)
            for weight, mean in zip(mixture.weights, mixture.means, strict=True)
        ]
    )
    np.testing.assert_allclose(mixture.score_samples(Z), np.log(joint.sum(axis=1)), atol=1e-7)
    np.testing.assert_allclose(
        mixture.posteriors(Z), joint / joint.sum(axis=1, keepdims=True), atol=1e-8
    )


def test_the_starts_are_those_of_the_seed(sample):
    Z, _ = sample
    np.testing.assert_array_equal(fit(Z, 5).means, fit(Z, 5).means)


def test_more_starts_find_no_worse_a_likelihood(sample):
    Z = np.random.default_rng(1).normal(size=(200, 5))
    scores = [fit(Z, 6, n_starts=n).score_samples(Z).mean() for n in (1, 12)]
    assert scores[1] > scores[0] - 1e-6


def test_the_unit_of_a_feature_changes_no_posteriors(sample):
    Z, labels = sample
    scales = np.array([1e-4, 1e3, 1.0, 10.0])
    # From one start: the ridge is of one size for all features.
    before = fit_from_labels(Z, labels, 3).posteriors(Z)
    after = fit_from_labels(Z * 1e5, labels, 3).posteriors(Z * 1e5)
    np.testing.assert_allclose(after, before, atol=1e-6)
    stretched = fit_from_labels(Z * scales, labels, 3).posteriors(Z * scales)
    assert np.mean(stretched.argmax(axis=1) == before.argmax(axis=1)) > 0.9


def test_fitting_from_labels_keeps_their_ids(sample):
    Z, labels = sample
    found = fit_from_labels(Z, labels, 3).posteriors(Z).argmax(axis=1)
    assert np.mean(found == labels) > 0.95


def test_one_cluster_is_one_gaussian(sample):
    Z, _ = sample
    mixture = fit(Z, 1)
    np.testing.assert_allclose(mixture.means[0], Z.mean(axis=0))
    np.testing.assert_array_equal(mixture.posteriors(Z), np.ones((600, 1)))
    expected = multivariate_normal(Z.mean(axis=0), np.cov(Z.T, bias=True)).logpdf(Z)
    np.testing.assert_allclose(mixture.score_samples(Z), expected, atol=1e-3)


def test_fewer_distinct_rows_than_clusters_leave_clusters_empty():
    Z = np.repeat([[0.0, 1.0], [4.0, 2.0]], 10, axis=0)
    posteriors = fit(Z, 5).posteriors(Z)
    assert np.isfinite(posteriors).all()
    assert adjusted_rand_score(np.repeat([0, 1], 10), posteriors.argmax(axis=1)) == 1


@pytest.mark.parametrize("Z", [np.ones((10, 3)), np.zeros((4, 1)), np.full((2, 2), 1e6)])
def test_constant_features_are_one_cluster(Z):
    posteriors = fit(Z, 2).posteriors(Z)
    assert np.isfinite(posteriors).all()
    assert len(np.unique(posteriors.argmax(axis=1))) == 1


def test_the_threads_of_the_user_are_left_as_they_were(sample):
    Z, labels = sample
    with threadpool_limits(2, user_api="blas"):
        before = threadpool_info()
        fit(Z, 3)
        fit_from_labels(Z, labels, 3)
        with pytest.raises(ValueError):
            fit(Z, 3, n_starts=0)
        assert threadpool_info() == before
