"""A second VAE over the latents."""

import numpy as np
import pytest

from skvae.samplers import TwoStageSampler


def ring(n=2000, seed=0):
    """A circle of radius 3 with noise of deviation 0.3 across it."""
    rng = np.random.default_rng(seed)
    angle, radius = rng.uniform(0, 2 * np.pi, n), 3 + 0.3 * rng.normal(size=n)
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1)


@pytest.fixture(scope="module")
def fitted():
    return TwoStageSampler(random_state=0).fit(5 + ring())


def test_learns_a_ring(fitted):
    drawn = fitted.sample(10_000, random_state=0) - 5
    radius = np.linalg.norm(drawn, axis=1)
    np.testing.assert_allclose(drawn.mean(0), 0, atol=0.25)
    # 2.7 and 1.4, 47 % and 22 % for a Gaussian of the same covariance.
    assert radius.mean() == pytest.approx(2.8, abs=0.2)
    assert radius.std() < 0.9
    assert (np.abs(radius - 3) < 1).mean() > 0.75
    assert (radius < 1.5).mean() < 0.12


def test_draws_have_the_noise_of_the_likelihood():
    # Nothing in these latents is worth a latent of the second VAE: the noise is all there is.
    Z = np.random.default_rng(0).normal(size=(1500, 6)) * [1, 2, 3, 0.1, 1, 1]
    drawn = TwoStageSampler((32,), max_steps=300, random_state=0).fit(Z).sample(5000)
    np.testing.assert_allclose(drawn.std(0), Z.std(0), rtol=0.12)


def test_has_a_latent_of_the_same_size_and_a_variance_of_its_own(fitted):
    decoder_inputs = fitted.weights_["decoder.layers.0.weight"].shape[1]
    assert decoder_inputs == 2
    # The noise across the ring is (0.3 / 2.1)^2 of the latents' variance, the rest is explained.
    variance = float(fitted.weights_["likelihood.scale.value"])
    assert 0.002 < variance < 0.2


def test_a_width_of_the_users_own_is_taken():
    sampler = TwoStageSampler((7, 5), max_steps=1, random_state=0).fit(ring(30))
    assert sampler.weights_["encoder.1.weight"].shape == (7, 2)
    assert sampler.weights_["decoder.layers.0.weight"].shape == (5, 2)
    assert sampler.n_steps_ == 1
