"""Samplers that draw from the prior of one kind of model."""

import pickle

import numpy as np
import pytest
import torch
from torch import nn

import skvae
from skvae.models import VAMP, PoincareVAE
from skvae.samplers import HypersphereSampler, PoincareDiskSampler, VampSampler


class Prior:
    """Stands for a VAMP with three components far apart, of very different widths."""

    mu = torch.tensor([[-100.0, 0.0], [0.0, 50.0], [100.0, 0.0]])
    log_var = torch.tensor([[-6.0, -6.0], [0.0, 0.0], [3.0, 3.0]])

    def prior_components(self):
        return self.mu, self.log_var


def poincare(prior):
    torch.manual_seed(0)
    params = {"prior": prior, "curvature": 0.5, "prior_scale": 0.7}
    return PoincareVAE(nn.Linear(8, 16), nn.Linear(3, 8), latent_dim=3, **params)


class TestVamp:
    @pytest.fixture
    def fitted(self):
        return VampSampler().fit(np.zeros((5, 2)), model=Prior())

    def test_components_are_equally_likely_and_as_wide_as_they_are(self, fitted):
        drawn = fitted.sample(30_000, random_state=0)
        component = np.digitize(drawn[:, 0], [-50, 50])
        np.testing.assert_allclose(np.bincount(component) / 30_000, 1 / 3, atol=0.015)
        for k, expected in enumerate(np.exp([-3.0, 0.0, 1.5])):
            rows = drawn[component == k]
            np.testing.assert_allclose(rows.std(0), expected, rtol=0.05)
            np.testing.assert_allclose(rows.mean(0), Prior.mu[k], atol=0.15)

    def test_few_draws_are_from_random_components_too(self, fitted):
        firsts = {int(np.sign(fitted.sample(random_state=seed)[0, 0] + 50)) for seed in range(20)}
        assert firsts == {-1, 1}

    def test_goes_with_the_model_of_the_zoo(self):
        torch.manual_seed(0)
        x = torch.randn(50, 8)
        model = VAMP(nn.Linear(8, 16), nn.Linear(2, 8), latent_dim=2)
        model.build(x)
        Z = model.draw_latents(x).detach().numpy()
        sampler = VampSampler().fit(Z, model=model)
        mu, log_var = model.prior_components()
        np.testing.assert_allclose(sampler.means_, mu.detach(), rtol=1e-6)
        np.testing.assert_allclose(sampler.scales_**2, log_var.exp().detach(), rtol=1e-5)

    def test_latents_of_another_size_are_refused(self):
        with pytest.raises(ValueError, match="Z has 3 features"):
            VampSampler().fit(np.zeros((5, 3)), model=Prior())


class TestHypersphere:
    @pytest.mark.parametrize("dim", [1, 2, 5, 30])
    def test_is_uniform_on_the_sphere(self, dim):
        Z = HypersphereSampler().fit(np.eye(dim)).sample(40_000, random_state=0)
        np.testing.assert_allclose(np.linalg.norm(Z, axis=1), 1, atol=1e-6)
        np.testing.assert_allclose(Z.mean(0), 0, atol=0.02)
        np.testing.assert_allclose(np.cov(Z.T), np.eye(dim) / dim, atol=0.02)
        # Fourth moment of one coordinate: 3 / (d (d + 2)); of a normalised cube it is another.
        np.testing.assert_allclose((Z**4).mean(0), 3 / (dim * (dim + 2)), rtol=0.1)

    def test_latents_off_the_sphere_are_refused_by_their_norm(self):
        with pytest.raises(ValueError, match=r"norm 5, expected .* unit sphere"):
            HypersphereSampler().fit([[1.0, 0.0], [3.0, 4.0]])

    def test_latents_rounded_to_float32_lie_on_it(self):
        Z = np.random.default_rng(0).normal(size=(1000, 200))
        Z /= np.linalg.norm(Z, axis=1, keepdims=True)
        HypersphereSampler().fit(Z.astype(np.float32))


class TestPoincareDisk:
    @pytest.fixture(params=["wrapped_normal", "riemannian_normal"])
    def model(self, request):
        return poincare(request.param)

    @pytest.fixture
    def fitted(self, model):
        return PoincareDiskSampler().fit(np.zeros((4, 3)), model=model)

    def test_draws_from_the_prior_of_the_model(self, model, fitted):
        drawn = torch.from_numpy(fitted.sample(20_000, random_state=0))
        torch.manual_seed(1)
        expected = model.prior_distribution(drawn).rsample((20_000,))
        centre = torch.zeros(3)
        near, expected_near = (model.ball.distance(centre, z) for z in (drawn, expected))
        for power in (1, 2, 3):
            torch.testing.assert_close(
                (near**power).mean(), (expected_near**power).mean(), rtol=0.04, atol=0.0
            )
        assert drawn.mean(0).abs().max() < 0.02

    def test_the_wrapped_normal_has_the_distances_of_a_normal(self):
        model = poincare("wrapped_normal")
        fitted = PoincareDiskSampler().fit(np.zeros((4, 3)), model=model)
        drawn = torch.from_numpy(fitted.sample(20_000, random_state=0))
        square = model.ball.distance(torch.zeros(3), drawn).square().mean()
        assert float(square) == pytest.approx(3 * 0.7**2, rel=0.03)

    def test_draws_lie_in_the_ball(self, fitted):
        assert (np.linalg.norm(fitted.sample(5000, random_state=0), axis=1) < 0.5**-0.5).all()

    @pytest.mark.parametrize("n_samples", [0, 1, 7])
    def test_keeps_the_contract(self, fitted, n_samples):
        before = torch.get_rng_state()
        first, again = (fitted.sample(n_samples, random_state=3) for _ in range(2))
        assert torch.equal(torch.get_rng_state(), before)
        assert first.shape == (n_samples, 3)
        assert first.dtype == np.float32
        np.testing.assert_array_equal(first, again)

    def test_latents_of_another_size_are_refused(self, model):
        with pytest.raises(ValueError, match="Z has 2 features"):
            PoincareDiskSampler().fit(np.zeros((5, 2)), model=model)


@pytest.mark.parametrize("kind", ["vamp", "poincare_disk"])
def test_comes_back_from_a_file_without_its_model(kind, tmp_path):
    if kind == "vamp":
        sampler = VampSampler().fit(np.zeros((5, 2)), model=Prior())
    else:
        model = PoincareVAE(nn.Linear(8, 16), nn.Linear(2, 8), latent_dim=2)
        sampler = PoincareDiskSampler().fit(np.zeros((5, 2)), model=model)
    skvae.save(sampler, tmp_path / "sampler")
    for again in (skvae.load(tmp_path / "sampler"), pickle.loads(pickle.dumps(sampler))):
        np.testing.assert_array_equal(
            again.sample(9, random_state=0), sampler.sample(9, random_state=0)
        )
    assert b"torch" not in pickle.dumps(sampler)
