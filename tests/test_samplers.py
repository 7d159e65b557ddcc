"""What every density of the latent space owes its users, and the two plainest of them."""

import inspect
import pickle

import joblib
import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

import skvae
from skvae.samplers import SAMPLERS, GaussianMixtureSampler, NormalSampler
from skvae.samplers import gaussian_mixture as gaussian_mixture_module

NEEDS_NO_MODEL = sorted(
    name for name, cls in SAMPLERS.items() if "model" not in inspect.signature(cls.fit).parameters
)
NEEDS_A_MODEL = sorted(set(SAMPLERS) - set(NEEDS_NO_MODEL))
# Those whose draws do not follow what they were fitted on.
PRIORS = {"normal", "hypersphere"}
# Enough to go through all of the code.
QUICK = {name: {"max_steps": 30} for name in ("two_stage", "maf", "iaf")}
FAITHFUL = sorted(set(NEEDS_NO_MODEL) - PRIORS)


def bimodal(n=2000, seed=0):
    """Two clouds at -4 and 4 on the first axis, 30 % and 70 %, with axes that correlate."""
    rng = np.random.default_rng(seed)
    Z = rng.normal(size=(n, 3)) * [0.5, 1.0, 2.0]
    Z[:, 1] += 0.3 * Z[:, 2]
    Z[:, 0] += np.where(rng.random(n) < 0.3, -4.0, 4.0)
    return Z.astype(np.float32)


def suited(name, Z):
    """Bring latents to where those of the models that go with a sampler live."""
    return Z / np.linalg.norm(Z, axis=1, keepdims=True) if name == "hypersphere" else Z


def make(name, **params):
    """Return an unfitted sampler; one without a random_state of its own takes none."""
    if name in ("maf", "iaf"):
        pytest.importorskip("zuko")
    sampler = SAMPLERS[name](**QUICK.get(name, {}))
    known = sampler.get_params()
    return sampler.set_params(**{key: value for key, value in params.items() if key in known})


@pytest.fixture(scope="module", params=NEEDS_NO_MODEL)
def fitted(request):
    return make(request.param, random_state=0).fit(suited(request.param, bimodal(500)))


@pytest.fixture(params=NEEDS_NO_MODEL)
def name(request):
    return request.param


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

    def test_without_a_seed_the_rows_are_fresh(self, fitted):
        assert not np.array_equal(fitted.sample(50), fitted.sample(50))

    def test_rows_are_distinct(self, fitted):
        assert len(np.unique(fitted.sample(1000, random_state=0), axis=0)) == 1000

    def test_a_long_sample_is_as_one_of_many_parts(self, fitted):
        Z = fitted.sample(25_000, random_state=0)
        assert np.isfinite(Z).all()
        assert np.abs(Z[:12_500].mean(0) - Z[12_500:].mean(0)).max() < 0.25

    @pytest.mark.parametrize("dump", ["pickle", "joblib", "memory map", "skvae.save"])
    def test_comes_back_from_a_file_and_draws_the_same(self, fitted, dump, tmp_path):
        if dump == "pickle":
            again = pickle.loads(pickle.dumps(fitted))
        elif dump == "skvae.save":
            skvae.save(fitted, tmp_path / "sampler")
            again = skvae.load(tmp_path / "sampler")
        else:
            joblib.dump(fitted, tmp_path / "sampler")
            mode = "r" if dump == "memory map" else None
            again = joblib.load(tmp_path / "sampler", mmap_mode=mode)
        np.testing.assert_array_equal(
            again.sample(20, random_state=0), fitted.sample(20, random_state=0)
        )

    def test_holds_no_torch_module(self, fitted):
        assert b"torch" not in pickle.dumps(fitted)

    def test_global_random_states_are_left_alone(self, name):
        numpy_before, torch_before = np.random.get_state()[1].copy(), torch.get_rng_state()
        for random_state in (0, None):
            sampler = make(name, random_state=random_state).fit(suited(name, bimodal(100)))
            sampler.sample(5, random_state=random_state)
        np.testing.assert_array_equal(np.random.get_state()[1], numpy_before)
        assert torch.equal(torch.get_rng_state(), torch_before)

    def test_one_random_state_gives_one_fit_whatever_the_global_states(self, name):
        draws = []
        for seed in (1, 2):
            np.random.seed(seed)
            torch.manual_seed(seed)
            sampler = make(name, random_state=0).fit(suited(name, bimodal(200)))
            draws.append(sampler.sample(20, random_state=0))
        np.testing.assert_array_equal(*draws)

    def test_init_only_stores_and_a_clone_is_unfitted(self, fitted):
        copied = clone(fitted)
        assert copied.get_params() == fitted.get_params()
        assert set(vars(copied)) == set(copied.get_params())
        with pytest.raises(NotFittedError):
            copied.sample(3)

    def test_fit_returns_the_sampler_and_ignores_y(self, name):
        sampler = make(name)
        Z = suited(name, bimodal(50))
        assert sampler.fit(Z, np.arange(50)) is sampler

    def test_what_is_not_a_number_is_refused(self, name):
        for bad, word in ((np.nan, "NaN"), (np.inf, "infinity")):
            with pytest.raises(ValueError, match=word):
                make(name).fit([[bad, 1.0], [0.0, 1.0]])

    @pytest.mark.parametrize("n_latents", [1, 2, 5, 19])
    def test_fewer_latents_than_components(self, name, n_latents):
        sampler = make(name, random_state=0).fit(suited(name, bimodal(n_latents)))
        assert np.isfinite(sampler.sample(40, random_state=0)).all()

    def test_one_dimension(self, name):
        Z = suited(name, bimodal(200)[:, :1])
        drawn = make(name, random_state=0).fit(Z).sample(40, random_state=0)
        assert drawn.shape == (40, 1)
        assert np.isfinite(drawn).all()

    def test_lists_and_doubles_are_latents_too(self, name):
        Z = suited(name, bimodal(60)).astype(np.float64)
        drawn = make(name, random_state=0).fit(Z.tolist()).sample(3, random_state=0)
        assert drawn.dtype == np.float32


class TestEverySamplerThatLearns:
    @pytest.mark.parametrize("name", FAITHFUL)
    @pytest.mark.parametrize(("scale", "shift"), [(1e-4, 0.0), (1.0, -30.0), (1e4, 1e6)])
    def test_knows_neither_place_nor_scale(self, name, scale, shift):
        Z = bimodal(500).astype(np.float64)
        draws = (
            make(name, random_state=0).fit(latents).sample(200, random_state=0).astype(np.float64)
            for latents in (Z, Z * scale + shift)
        )
        plain, moved = draws
        np.testing.assert_allclose((moved - shift) / scale, plain, atol=0.02)

    @pytest.mark.parametrize("name", FAITHFUL)
    def test_latents_that_do_not_vary_come_back(self, name):
        drawn = make(name, random_state=0).fit(np.full((15, 2), 0.1)).sample(9, random_state=0)
        np.testing.assert_allclose(drawn, 0.1, atol=1e-6)

    @pytest.mark.parametrize("name", FAITHFUL)
    def test_a_dimension_that_does_not_vary_comes_back_beside_others_that_do(self, name):
        Z = bimodal(300)
        Z[:, 1] = -7.3
        drawn = make(name, random_state=0).fit(Z).sample(500, random_state=0)
        np.testing.assert_allclose(drawn[:, 1], -7.3, atol=1e-5)
        assert drawn[:, 2].std() > 1


class TestSamplersOfOneModel:
    @pytest.mark.parametrize("name", NEEDS_A_MODEL)
    @pytest.mark.parametrize("model", [None, torch.nn.Linear(2, 2)])
    def test_name_the_models_that_they_go_with(self, name, model):
        with pytest.raises(ValueError, match=r"expected a.*fit\(Z, model=model\)"):
            SAMPLERS[name]().fit(bimodal(20), model=model)


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

    def test_a_number_of_components_below_one_is_refused(self):
        with pytest.raises(ValueError, match="n_components"):
            GaussianMixtureSampler(n_components=0).fit(bimodal(20))
