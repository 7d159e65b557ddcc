"""The density of codes."""

import pickle

import numpy as np
import pytest
import torch
from torch import nn

from skvae.models import HRQVAE, VQVAE
from skvae.models.code_prior import CodePrior
from skvae.samplers import SAMPLERS, CodesSampler


def vqvae(n_groups=3, n_codes=2, latent_dim=3):
    torch.manual_seed(0)
    networks = nn.Linear(5, latent_dim), nn.Linear(latent_dim, 5)
    return VQVAE(*networks, latent_dim, n_codes=n_codes, n_groups=n_groups).eval()


def hrqvae():
    torch.manual_seed(0)
    return HRQVAE(nn.Linear(5, 3), nn.Linear(3, 5), 3, n_codes=4, n_levels=3).eval()


def latents(model, codes):
    return model.look_up(torch.from_numpy(codes)).detach().numpy()


def exclusive_or(n, seed=0):
    """Two fair bits, and a third that is set where they differ, but for one row in ten."""
    rng = np.random.default_rng(seed)
    first, second, slip = rng.random((3, n)) < [[0.5], [0.5], [0.1]]
    return np.stack([first, second, first ^ second ^ slip], 1).astype(np.int64)


def joint_frequencies(codes, n_codes=2):
    flat = codes @ n_codes ** np.arange(codes.shape[1])
    return np.bincount(flat, minlength=n_codes ** codes.shape[1]) / len(codes)


@pytest.fixture(scope="module")
def fitted():
    model = vqvae()
    Z = latents(model, exclusive_or(2000))
    return model, CodesSampler(max_steps=400, random_state=0).fit(Z, model=model)


def drawn_codes(model, sampler, n=20_000):
    return model.quantize(torch.from_numpy(sampler.sample(n, random_state=0))).numpy()


class TestDensity:
    def test_exclusive_or_comes_out_with_its_joint_frequencies(self, fitted):
        found = joint_frequencies(drawn_codes(*fitted))
        # Independent bits would have all eight at 0.125, where four are at 0.225.
        expected = np.where(np.array([bin(i).count("1") % 2 for i in range(8)]), 0.025, 0.225)
        np.testing.assert_allclose(found, expected, atol=0.02)

    def test_a_code_depends_on_one_far_back(self):
        model = vqvae(n_groups=6, n_codes=4, latent_dim=12)
        rng = np.random.default_rng(0)
        codes = rng.integers(4, size=(2000, 6))
        codes[:, 5] = (codes[:, 0] + 1) % 4
        sampler = CodesSampler(max_steps=300, random_state=0).fit(
            latents(model, codes), model=model
        )
        drawn = drawn_codes(model, sampler, 2000)
        assert (drawn[:, 5] == (drawn[:, 0] + 1) % 4).mean() > 0.95

    def test_latents_drawn_are_sums_of_code_vectors(self):
        model = hrqvae()
        z = torch.randn(500, 3)
        sampler = CodesSampler(max_steps=50, random_state=0).fit(z.numpy(), model=model)
        codes = torch.cartesian_prod(*[torch.arange(4)] * 3)
        distances = torch.cdist(torch.from_numpy(sampler.sample(200)), model.look_up(codes))
        assert distances.min(1).values.max() < 1e-3

    def test_a_code_never_seen_is_never_drawn(self):
        model = vqvae(n_codes=8)
        codes = np.random.default_rng(0).integers(5, size=(300, 3))
        codes[:, 1] = 6
        sampler = CodesSampler(max_steps=30, random_state=0).fit(latents(model, codes), model=model)
        drawn = drawn_codes(model, sampler)
        assert drawn[:, [0, 2]].max() == 4
        assert (drawn[:, 1] == 6).all()

    def test_like_codes_are_likely_alike(self):
        """A bell of 500 rows over 64 codes: frequencies are ragged, their shape is learnt."""
        model = vqvae(n_groups=2, n_codes=64, latent_dim=2)
        with torch.no_grad():
            model.codebook.vectors.copy_(torch.linspace(-3, 3, 64)[:, None])
        rng = np.random.default_rng(0)

        def draw(n):
            first = rng.normal(size=n)
            return np.stack([first, 0.95 * first + 0.3 * rng.normal(size=n)], 1)

        sampler = CodesSampler(max_steps=300, random_state=0).fit(draw(500), model=model)
        drawn = sampler.sample(5000, random_state=0)
        assert np.corrcoef(drawn.T)[0, 1] > 0.85
        np.testing.assert_allclose(drawn.std(0), 1, atol=0.12)


class TestFit:
    @pytest.mark.parametrize("model", [None, nn.Linear(3, 3)])
    def test_names_the_models_that_it_goes_with(self, model):
        with pytest.raises(ValueError, match=r"expected a VQVAE or an HRQVAE.*fit\(Z, model=model"):
            CodesSampler().fit(np.zeros((4, 3)), model=model)

    def test_latents_of_another_size_are_refused(self):
        with pytest.raises(ValueError, match=r"Z has 4 features.*latent_dim=3"):
            CodesSampler().fit(np.zeros((5, 4)), model=vqvae())

    @pytest.mark.parametrize("n", [2, 3, 19])
    @pytest.mark.parametrize("make", [vqvae, hrqvae])
    def test_few_latents(self, make, n):
        Z = np.random.default_rng(0).normal(size=(n, 3))
        sampler = CodesSampler(max_steps=5, random_state=0).fit(Z, model=make())
        assert np.isfinite(sampler.sample(7)).all()

    @pytest.mark.parametrize("params", [{"n_codes": 1}, {"latent_dim": 1, "n_groups": 1}])
    def test_the_least_of_everything(self, params):
        model = vqvae(**params)
        Z = np.random.default_rng(0).normal(size=(30, model.latent_dim))
        sampler = CodesSampler(max_steps=5, random_state=0).fit(Z, model=model)
        assert np.isfinite(sampler.sample(7)).all()

    def test_a_model_in_double_precision(self, fitted):
        model, sampler = fitted
        Z = latents(model, exclusive_or(2000)).astype(np.float64)
        again = CodesSampler(max_steps=400, random_state=0).fit(Z, model=model.double())
        model.float()
        np.testing.assert_array_equal(
            again.sample(9, random_state=0), sampler.sample(9, random_state=0)
        )


class TestSeedsAndState:
    @pytest.mark.parametrize("n", [0, 1, 17])
    def test_shape_and_dtype(self, fitted, n):
        Z = fitted[1].sample(n, random_state=0)
        assert Z.shape == (n, 3)
        assert Z.dtype == np.float32

    def test_a_seed_gives_the_same_rows_and_another_one_others(self, fitted):
        first, again, other = (fitted[1].sample(50, random_state=seed) for seed in (3, 3, 4))
        np.testing.assert_array_equal(first, again)
        assert not np.array_equal(first, other)

    def test_one_seed_gives_one_fit(self):
        model = vqvae()
        Z = latents(model, exclusive_or(100))
        first, again, other = (
            CodesSampler(max_steps=5, random_state=seed).fit(Z, model=model).weights_["inner"]
            for seed in (0, 0, 1)
        )
        np.testing.assert_array_equal(first, again)
        assert not np.array_equal(first, other)

    def test_global_random_state_is_left_alone(self):
        model = vqvae()
        torch_state, numpy_state = torch.get_rng_state(), np.random.get_state()[1].copy()
        CodesSampler(max_steps=5).fit(np.zeros((30, 3)), model=model).sample(5)
        np.testing.assert_array_equal(numpy_state, np.random.get_state()[1])
        assert torch.equal(torch_state, torch.get_rng_state())

    def test_a_dump_draws_the_same_and_holds_no_tensor(self, fitted):
        dump = pickle.dumps(fitted[1])
        assert b"torch" not in dump
        np.testing.assert_array_equal(
            pickle.loads(dump).sample(9, random_state=0), fitted[1].sample(9, random_state=0)
        )

    def test_has_its_name(self):
        assert SAMPLERS[VQVAE.default_sampler] is SAMPLERS[HRQVAE.default_sampler] is CodesSampler


class TestCodePrior:
    def test_probabilities_of_all_sequences_sum_to_one(self):
        torch.manual_seed(0)
        prior = CodePrior(torch.randn(3, 4, 5), torch.ones(3, 4)).eval()
        codes = torch.cartesian_prod(*[torch.arange(4)] * 3)
        assert prior.log_prob(codes).exp().sum().item() == pytest.approx(1, abs=1e-5)

    def test_draws_follow_the_probabilities(self):
        torch.manual_seed(0)
        prior = CodePrior(torch.randn(2, 3, 4), torch.tensor([[1.0, 2, 3], [3, 1, 1]])).eval()
        codes = torch.cartesian_prod(*[torch.arange(3)] * 2)
        drawn = prior.sample(50_000, torch.Generator().manual_seed(0))
        found = torch.bincount(3 * drawn[:, 0] + drawn[:, 1], minlength=9) / 50_000
        torch.testing.assert_close(found, prior.log_prob(codes).exp(), atol=0.01, rtol=0)
