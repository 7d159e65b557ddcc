"""Draws from the volume of a Riemannian metric, against a density integrated on a grid."""

import pickle

import numpy as np
import pytest
import torch
from scipy import stats
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from torch import nn

from skvae.models import RHVAE, VAE
from skvae.samplers import SAMPLERS, ManifoldSampler
from skvae.samplers.manifold import REACH

TEMPERATURE, REGULARIZATION = 1.5, 0.01


def model_with(centroids, factors):
    """Return an RHVAE whose metric has these kernels, and a last one that is not used."""
    n_centroids, latent_dim = np.shape(centroids)
    model = RHVAE(
        nn.Linear(3, 4),
        nn.Linear(latent_dim, 3),
        latent_dim,
        n_centroids=n_centroids + 1,
        temperature=TEMPERATURE,
        regularization=REGULARIZATION,
    )
    model.build(torch.zeros(2, 3))
    model.centroids[:n_centroids] = torch.as_tensor(centroids)
    model.factors[:n_centroids] = torch.as_tensor(factors)
    return model


def one_kernel(latent_dim, scale):
    return model_with(np.full((1, latent_dim), 0.5), scale * np.eye(latent_dim)[None])


def fit(model):
    return ManifoldSampler().fit(np.zeros((2, model.latent_dim)), model=model)


def radial_cdf(latent_dim, scale):
    """Integrate sqrt(det G^-1) of one kernel over spheres."""
    r = np.linspace(0, REACH * TEMPERATURE, 20_001)
    volume = scale**2 * np.exp(-((r / TEMPERATURE) ** 2)) + REGULARIZATION
    density = r ** (latent_dim - 1) * volume ** (latent_dim / 2)
    cumulative = np.cumsum(density)
    return lambda radius: np.interp(radius, r, cumulative / cumulative[-1])


class TestDensity:
    @pytest.mark.parametrize(("latent_dim", "scale"), [(1, 1.0), (2, 0.2), (2, 3.0), (6, 1.0)])
    def test_radii_about_one_centroid_follow_the_volume(self, latent_dim, scale):
        Z = fit(one_kernel(latent_dim, scale)).sample(4000, random_state=0)
        radii = np.linalg.norm(Z - 0.5, axis=1)
        test = stats.kstest(radii, radial_cdf(latent_dim, scale))
        assert test.pvalue > 1e-3

    def test_chains_leave_where_they_start(self):
        start = np.random.default_rng(0).normal(size=(4000, 2)) * TEMPERATURE / 2**0.5
        test = stats.kstest(np.linalg.norm(start, axis=1), radial_cdf(2, 0.2))
        assert test.pvalue < 1e-6  # that this start is far from what the test above finds

    def test_all_directions_are_alike_about_one_centroid(self):
        # The kernels are round whatever their matrices: only the volume counts.
        factor = np.array([[[1.0, 0.0], [0.9, 0.2]]])
        Z = fit(model_with([[0.0, 0.0]], factor)).sample(4000, random_state=0)
        standard_error = Z.std() / 4000**0.5
        assert np.abs(Z.mean(0)).max() < 5 * standard_error
        assert Z[:, 0].std() == pytest.approx(Z[:, 1].std(), rel=0.08)
        assert abs(np.corrcoef(Z.T)[0, 1]) < 5 / 4000**0.5

    def test_two_near_centroids_share_by_their_volume(self):
        # A grid over the plane: chains that cross must leave the right masses on both sides.
        centroids = np.array([[-0.8, 0.0], [0.8, 0.0]])
        model = model_with(centroids, np.array([0.3, 1.0])[:, None, None] * np.eye(2))
        sampler = ManifoldSampler(n_steps=40).fit(np.zeros((2, 2)), model=model)
        Z = sampler.sample(4000, random_state=0)
        axis = np.linspace(-5, 5, 201)
        grid = torch.tensor(np.stack(np.meshgrid(axis, axis, indexing="ij"), -1).reshape(-1, 2))
        density = torch.exp(-0.5 * model.metric(grid.float())[2]).double()
        near = torch.cdist(grid, torch.tensor(centroids)).min(1).values <= REACH * TEMPERATURE
        density = density * near
        share = float(density[grid[:, 0] > 0].sum() / density.sum())
        found = (Z[:, 0] > 0).mean()
        assert share > 0.65  # the start gives half
        assert found == pytest.approx(share, abs=5 * (share * (1 - share) / 4000) ** 0.5)

    def test_far_centroids_keep_equal_shares_and_unused_ones_none(self):
        Z = fit(model_with([[100.0], [200.0]], np.ones((2, 1, 1)))).sample(2000, random_state=0)
        assert (Z > 50).all()
        assert (Z > 150).mean() == pytest.approx(0.5, abs=0.06)

    @pytest.mark.parametrize(("latent_dim", "scale"), [(1, 0.1), (2, 1.0), (10, 1.0), (10, 100.0)])
    def test_the_step_size_gives_a_good_acceptance(self, latent_dim, scale):
        assert 0.6 < fit(one_kernel(latent_dim, scale)).acceptance_rate_ < 0.9


class TestSampler:
    def test_it_is_registered_for_its_model(self):
        assert SAMPLERS[RHVAE.default_sampler] is ManifoldSampler

    @pytest.mark.parametrize("n_samples", [0, 1, 3000])
    def test_shape_and_dtype(self, n_samples):
        Z = fit(one_kernel(3, 1.0)).sample(n_samples, random_state=0)
        assert Z.shape == (n_samples, 3)
        assert Z.dtype == np.float32
        assert np.isfinite(Z).all()

    def test_a_seed_gives_the_same_rows_and_another_one_others(self):
        sampler = fit(one_kernel(2, 1.0))
        first, again, other = (sampler.sample(50, random_state=seed) for seed in (3, 3, 4))
        np.testing.assert_array_equal(first, again)
        assert not np.array_equal(first, other)
        assert not np.array_equal(sampler.sample(50), sampler.sample(50))

    def test_fits_agree_and_global_random_states_stay(self):
        states = np.random.get_state()[1].copy(), torch.get_rng_state()
        model = one_kernel(2, 1.0)
        torch.set_rng_state(states[1])
        assert fit(model).step_size_ == fit(model).step_size_
        fit(model).sample(10)
        np.testing.assert_array_equal(np.random.get_state()[1], states[0])
        assert torch.equal(torch.get_rng_state(), states[1])

    def test_state_is_arrays_that_pickle_and_leave_the_model_alone(self):
        model = one_kernel(2, 1.0).double()
        sampler = fit(model)
        assert sampler.centroids_.shape == (1, 2)
        for value in vars(sampler).values():
            assert isinstance(value, np.ndarray | int | float)
        copy = pickle.loads(pickle.dumps(sampler))
        before = copy.sample(20, random_state=0)
        model.centroids.add_(100)
        np.testing.assert_array_equal(sampler.sample(20, random_state=0), before)

    def test_clones_are_unfitted(self):
        sampler = clone(fit(one_kernel(2, 1.0)))
        with pytest.raises(NotFittedError):
            sampler.sample(1)


class TestErrors:
    @pytest.mark.parametrize("model", [None, VAE(nn.Linear(3, 4), nn.Linear(2, 3), 2)])
    def test_models_without_a_metric_are_refused(self, model):
        with pytest.raises(ValueError, match="expected a trained RHVAE"):
            ManifoldSampler().fit(np.zeros((3, 2)), model=model)

    def test_a_metric_without_centroids_is_refused(self):
        model = RHVAE(nn.Linear(3, 4), nn.Linear(2, 3), 2)
        with pytest.raises(ValueError, match="finalize"):
            fit(model)

    def test_latents_of_another_size_are_refused(self):
        with pytest.raises(ValueError, match="Z has 3"):
            ManifoldSampler().fit(np.zeros((3, 3)), model=one_kernel(2, 1.0))

    @pytest.mark.parametrize("name", ["n_steps", "n_leapfrog"])
    def test_counts_below_one_are_refused(self, name):
        with pytest.raises(ValueError, match=name):
            ManifoldSampler(**{name: 0}).fit(np.zeros((3, 2)), model=one_kernel(2, 1.0))
