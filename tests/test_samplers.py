"""Densities of the latent space."""

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

from skvae.samplers import SAMPLERS, GaussianMixtureSampler, NormalSampler
from skvae.samplers import gaussian_mixture as gaussian_mixture_module


def bimodal(n=2000, seed=0):
    """Two clouds at -4 and 4 on the first axis, 30 % and 70 %, with axes that correlate."""
    rng = np.random.default_rng(seed)
    Z = rng.normal(size=(n, 3)) * [0.5, 1.0, 2.0]
    Z[:, 1] += 0.3 * Z[:, 2]
    Z[:, 0] += np.where(rng.random(n) < 0.3, -4.0, 4.0)
    return Z.astype(np.float32)


@pytest.fixture(scope="module", params=sorted(SAMPLERS))
def fitted(request):
    sampler = SAMPLERS[request.param]()
    return sampler.fit(bimodal(500))


class TestEverySampler:
    @pytest.mark.parametrize("n_samples", [0, 1, 17])
    def test_shape_and_dtype(self, fitted, n_samples):
        Z = fitted.sample(n_samples, random_state=0)
        assert Z.shape == (n_samples, 3)
        assert Z.dtype == np.float32

    def test_one_row_by_default(self, fitted):
        assert fitted.sample().shape == (1, 3)

    def test_a_seed_gives_the_same_rows_and_another_one_others(self, fitted):
        first, again, other = (fitted.sample(50, random_state=seed) for seed in (3, 3, 4))
        np.testing.assert_array_equal(first, again)
        assert not np.array_equal(first, other)

    def test_a_generator_is_used_up(self, fitted):
        rng = np.random.RandomState(3)
        first, second = (fitted.sample(50, random_state=rng) for _ in range(2))
        np.testing.assert_array_equal(first, fitted.sample(50, random_state=3))
        assert not np.array_equal(first, second)

    def test_the_global_random_state_is_left_alone(self, fitted):
        before = np.random.get_state()[1].copy()
        clone(fitted).set_params(
            **({"random_state": 0} if "random_state" in fitted.get_params() else {})
        ).fit(bimodal(100)).sample(5, random_state=0)
        np.testing.assert_array_equal(np.random.get_state()[1], before)

    def test_rows_are_distinct(self, fitted):
        assert len(np.unique(fitted.sample(1000, random_state=0), axis=0)) == 1000

    def test_nan_is_refused(self, fitted):
        with pytest.raises(ValueError, match="NaN"):
            clone(fitted).fit([[np.nan, 1.0], [0.0, 1.0]])

    @pytest.mark.parametrize("n_latents", [2, 5, 19])
    def test_few_latents(self, fitted, n_latents):
        sampler = clone(fitted).fit(bimodal(n_latents))
        assert np.isfinite(sampler.sample(40, random_state=0)).all()


class TestNormal:
    def test_moments(self):
        Z = NormalSampler().fit(np.zeros((4, 3))).sample(40_000, random_state=0)
        np.testing.assert_allclose(Z.mean(0), 0, atol=0.03)
        np.testing.assert_allclose(np.cov(Z.T), np.eye(3), atol=0.04)
        np.testing.assert_allclose((Z**4).mean(0), 3, atol=0.25)

    def test_what_it_was_fitted_on_plays_no_part(self):
        first, second = (NormalSampler().fit(Z) for Z in (bimodal(), np.zeros((1, 3))))
        np.testing.assert_array_equal(
            first.sample(5, random_state=0), second.sample(5, random_state=0)
        )


class TestGaussianMixture:
    def test_recovers_a_bimodal_latent(self):
        Z = bimodal()
        drawn = GaussianMixtureSampler(random_state=0).fit(Z).sample(20_000, random_state=0)
        # A normal density would put over a third of its rows between the clouds.
        assert (np.abs(drawn[:, 0]) < 2).mean() < 0.01
        assert (drawn[:, 0] < 0).mean() == pytest.approx((Z[:, 0] < 0).mean(), abs=0.02)
        np.testing.assert_allclose(drawn.mean(0), Z.mean(0), atol=0.15)
        np.testing.assert_allclose(np.cov(drawn.T), np.cov(Z.T), atol=0.35)

    def test_rows_do_not_come_sorted_by_component(self):
        drawn = GaussianMixtureSampler(random_state=0).fit(bimodal()).sample(1000, random_state=0)
        left = drawn[:, 0] < 0
        # 0.3 and 0.7 in any order change sides 420 times in 1,000; sorted, at most 16 times.
        assert (left[1:] != left[:-1]).sum() > 300
        assert abs(left[:500].mean() - left[500:].mean()) < 0.15

    def test_one_seed_gives_one_fit(self):
        first, again, other = (
            GaussianMixtureSampler(random_state=seed).fit(bimodal()).mixture_.means_
            for seed in (0, 0, 1)
        )
        np.testing.assert_array_equal(first, again)
        assert not np.array_equal(first, other)

    @pytest.mark.parametrize(("n_latents", "expected"), [(2, 1), (19, 1), (50, 5), (400, 16)])
    def test_has_ten_latents_for_each_component(self, n_latents, expected):
        sampler = GaussianMixtureSampler(random_state=0).fit(bimodal(n_latents))
        assert sampler.mixture_.n_components == expected

    def test_is_fitted_on_rows_from_all_over_a_long_table(self, monkeypatch):
        monkeypatch.setattr(gaussian_mixture_module, "MAX_FIT_ROWS", 200)
        Z = bimodal()
        Z = Z[np.argsort(Z[:, 0])]  # the first 200 rows are all of one cloud
        drawn = GaussianMixtureSampler(random_state=0).fit(Z).sample(2000, random_state=0)
        assert (drawn[:, 0] < 0).mean() == pytest.approx(0.3, abs=0.1)

    def test_latents_that_do_not_vary(self):
        drawn = GaussianMixtureSampler(random_state=0).fit(np.ones((15, 2))).sample(9)
        np.testing.assert_allclose(drawn, 1, atol=0.05)

    def test_fit_comes_first(self):
        with pytest.raises((NotFittedError, AttributeError)):
            GaussianMixtureSampler().sample(3)
