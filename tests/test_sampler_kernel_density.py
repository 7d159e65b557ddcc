"""A kernel density estimate of the latents."""

import tracemalloc

import numpy as np
import pytest

from skvae.samplers import KernelDensitySampler


def clouds(n=2000, seed=0):
    rng = np.random.default_rng(seed)
    Z = rng.normal(size=(n, 2)) * [0.5, 2.0] @ np.array([[1.0, 0.4], [0.0, 1.0]])
    Z[:, 0] += np.where(rng.random(n) < 0.3, -4.0, 4.0)
    return Z


@pytest.mark.parametrize("bandwidth", ["scott", "silverman", 0.01, 0.5, 1.0])
def test_has_the_mean_and_covariance_of_the_latents_at_any_bandwidth(bandwidth):
    Z = clouds()
    drawn = KernelDensitySampler(bandwidth).fit(Z).sample(100_000, random_state=0)
    np.testing.assert_allclose(drawn.mean(0), Z.mean(0), atol=0.05)
    # A kernel that was only added would make it 1.25 and 2 times as large for the last two.
    np.testing.assert_allclose(np.cov(drawn.T), np.cov(Z.T), rtol=0.03, atol=0.1)


def test_keeps_clouds_apart():
    Z = clouds()
    drawn = KernelDensitySampler().fit(Z).sample(20_000, random_state=0)
    assert (np.abs(drawn[:, 0]) < 1).mean() < 0.03
    assert (drawn[:, 0] < 0).mean() == pytest.approx((Z[:, 0] < 0).mean(), abs=0.02)


def test_the_kernel_has_the_shape_of_the_covariance():
    Z = clouds()
    sampler = KernelDensitySampler(0.1).fit(Z)
    sampler.latents_[:] = 0.0  # what remains is the noise
    drawn = sampler.sample(50_000, random_state=0)
    np.testing.assert_allclose(np.cov(drawn.T), 0.01 * np.cov(Z.T), rtol=0.05, atol=0.002)


@pytest.mark.parametrize(
    ("bandwidth", "expected"),
    [("scott", 2000 ** (-1 / 6)), ("silverman", 2000 ** (-1 / 6)), (0.2, 0.2)],
)
def test_bandwidths_of_two_dimensions(bandwidth, expected):
    # In two dimensions the two rules are the same.
    assert KernelDensitySampler(bandwidth).fit(clouds()).bandwidth_ == pytest.approx(expected)


def test_bandwidths_of_one_dimension_are_those_of_scipy():
    stats = pytest.importorskip("scipy.stats")
    Z = clouds()[:, :1]
    for rule in ("scott", "silverman"):
        found = KernelDensitySampler(rule).fit(Z).bandwidth_
        assert found == pytest.approx(stats.gaussian_kde(Z.T, rule).factor)


@pytest.mark.parametrize("bandwidth", [0.0, -1.0, 1.5, "gauss"])
def test_a_bandwidth_out_of_range_is_refused(bandwidth):
    with pytest.raises(ValueError, match="bandwidth"):
        KernelDensitySampler(bandwidth).fit(clouds(20))


def test_draws_are_not_held_against_all_rows():
    sampler = KernelDensitySampler().fit(np.random.default_rng(0).normal(size=(10_000, 16)))
    tracemalloc.start()
    drawn = sampler.sample(10_000, random_state=0)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    # A table of draws by rows would take 600 times as much as the draws.
    assert peak < 20 * drawn.nbytes
