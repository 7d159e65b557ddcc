"""``VAEEmbedder`` as a scikit-learn estimator: contract, containers, scores, growing, errors."""

import pickle

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import multivariate_normal
from sklearn.base import clone
from sklearn.datasets import load_breast_cancer, load_digits
from sklearn.decomposition import PCA
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils import estimator_checks
from sklearn.utils.estimator_checks import parametrize_with_checks
from torch import nn

import skvae
from skvae import VAEEmbedder
from skvae.models import VAE, GaussianLikelihood, LaplaceLikelihood, MixedLikelihood
from skvae.samplers import GaussianMixtureSampler


def small(**params):
    return VAEEmbedder(
        **{"n_components": 2, "max_epochs": 3, "hidden_layer_sizes": (16,), "random_state": 0}
        | params
    )


@pytest.fixture(scope="module")
def digits():
    X, y = load_digits(return_X_y=True)
    return X / 16, y


@pytest.fixture(scope="module")
def fitted(digits):
    return small().fit(digits[0])


@parametrize_with_checks(
    [small(model=model) for model in ("vae", "ae", "wae_mmd", "beta_tc")],
)
def test_the_contract_of_scikit_learn(estimator, check):
    check(estimator)


@pytest.mark.parametrize(
    "name",
    [
        "check_dataframe_column_names_consistency",
        "check_param_validation",
        "check_transformer_get_feature_names_out",
        "check_transformer_get_feature_names_out_pandas",
        "check_set_output_transform",
        "check_set_output_transform_pandas",
        "check_set_output_transform_polars",
        "check_global_output_transform_pandas",
        "check_global_set_output_transform_polars",
        "check_get_feature_names_out_error",
        "check_inplace_ensure_writeable",
    ],
)
# They fit with names and transform without, and the other way round, on purpose.
@pytest.mark.filterwarnings("ignore:X (has|does not have valid) feature names:UserWarning")
@pytest.mark.parametrize("model", ["vae", "ae", "wae_mmd", "beta_tc"])
def test_the_checks_that_scikit_learn_leaves_uncalled(name, model):
    if "polars" in name:
        pytest.importorskip("polars")
    getattr(estimator_checks, name)("VAEEmbedder", small(model=model))


class TestQuality:
    def test_digits_are_told_apart_and_come_back(self, digits):
        """Twenty epochs; PCA of as many components reaches .937 and .0192."""
        X, y = digits
        embedder = VAEEmbedder(10, max_epochs=20, random_state=0).fit(X)
        Z = embedder.transform(X)
        assert cross_val_score(KNeighborsClassifier(5), Z, y, cv=5).mean() > 0.935
        error = np.mean((embedder.reconstruct(X) - X) ** 2)
        assert error < 0.013
        linear = PCA(10).fit(X)
        assert error < 0.7 * np.mean((linear.inverse_transform(linear.transform(X)) - X) ** 2)

    def test_the_posterior_is_alive(self, digits):
        embedder = VAEEmbedder(10, max_epochs=20, random_state=0).fit(digits[0])
        assert embedder.history_["kl_divergence"].iloc[-1] > 8
        assert (embedder.transform(digits[0]).std(0) > 0.5).sum() >= 8


class TestScores:
    def test_a_linear_model_reaches_the_density_of_its_data(self):
        """Rows of a factor model: the best bound is their density, and a good fit comes near."""
        rng = np.random.default_rng(0)
        loadings = rng.normal(size=(2, 5))
        covariance = loadings.T @ loadings + 0.3 * np.eye(5)
        mean = np.arange(5) * 10.0
        X, test = (
            rng.normal(size=(n, 2)) @ loadings + rng.normal(size=(n, 5)) * 0.3**0.5 + mean
            for n in (4000, 500)
        )
        exact = multivariate_normal(mean, covariance).logpdf(test)
        embedder = VAEEmbedder(2, max_epochs=30, random_state=0).fit(X)
        found = embedder.score_samples(test, n_draws=200)
        assert found.mean() < exact.mean() + 0.02
        assert found.mean() > exact.mean() - 0.15
        assert np.corrcoef(found, exact)[0, 1] > 0.95

    def test_scores_are_densities_in_the_units_of_the_data(self, digits):
        X = digits[0][:300]
        one, many = (small(max_epochs=10).fit(scale * X).score(scale * X) for scale in (1, 1000))
        assert one - many == pytest.approx(64 * np.log(1000), rel=1e-3)

    def test_more_draws_tighten_the_bound(self, fitted, digits):
        loose, tight = (fitted.score_samples(digits[0][:200], n_draws=n).mean() for n in (1, 100))
        assert tight > loose + 0.2

    def test_a_score_is_the_mean(self, fitted, digits):
        X = digits[0][:50]
        assert fitted.score(X) == pytest.approx(fitted.score_samples(X).mean())

    def test_a_row_scores_alike_in_any_company(self, fitted, digits):
        X = digits[0][:40]
        scores = fitted.score_samples(X)
        np.testing.assert_allclose(fitted.score_samples(X[::-1]), scores[::-1], atol=1e-9)
        np.testing.assert_allclose(fitted.score_samples(X[7:8]), scores[7:8], atol=1e-9)


class TestLikelihoods:
    def test_zeros_and_ones_are_bernoulli(self):
        X = (np.random.default_rng(0).random((100, 6)) < 0.3).astype(float)
        embedder = small().fit(X)
        assert type(embedder.model_.likelihood).__name__ == "BernoulliLikelihood"
        rows = embedder.sample(50, random_state=0)
        assert ((rows > 0) & (rows < 1)).all()
        assert set(np.unique(embedder.sample(50, noise=True, random_state=0))) == {0.0, 1.0}
        assert (embedder.score_samples(X) < 0).all()  # log probabilities

    @pytest.mark.parametrize(
        "likelihood",
        ["gaussian", "gaussian_per_feature", "gaussian_unit", "laplace"],
    )
    def test_each_by_name(self, likelihood, digits):
        embedder = small(likelihood=likelihood, max_epochs=2).fit(digits[0][:200])
        assert np.isfinite(embedder.score(digits[0][:20]))

    def test_one_of_ones_own(self, digits):
        mine = LaplaceLikelihood(0.5)
        embedder = small(likelihood=mine).fit(digits[0][:100])
        assert type(embedder.model_.likelihood) is LaplaceLikelihood
        assert embedder.model_.likelihood is not mine

    def test_one_hot_parts_stay_one_hot(self):
        rng = np.random.default_rng(0)
        level = rng.integers(3, size=400)
        number = level + 0.1 * rng.normal(size=400)
        X = np.column_stack([number, np.eye(3)[level]])
        embedder = small(likelihood=MixedLikelihood([1, 3]), max_epochs=80, learning_rate=0.01).fit(
            X
        )
        rows = pickle.loads(pickle.dumps(embedder)).sample(300, noise=True, random_state=0)
        assert (rows[:, 1:].sum(1) == 1).all()
        assert set(np.unique(rows[:, 1:])) == {0.0, 1.0}
        assert np.corrcoef(rows[:, 0], rows[:, 1:] @ np.arange(3))[0, 1] > 0.8
        with pytest.raises(ValueError, match="one"):
            small(likelihood=MixedLikelihood([1, 3])).fit(X + 0.5)

    def test_the_variance_is_that_of_the_reconstructions(self, digits):
        X = digits[0]
        embedder = VAEEmbedder(4, max_epochs=10, random_state=0).fit(X)
        variance = float(embedder.model_.likelihood.variance()) * embedder.scale_[0] ** 2
        residual = np.mean((embedder.reconstruct(X) - X) ** 2)
        # Draws of the latent reconstruct a little worse than its mean.
        assert residual < variance < 2 * residual

    def test_bernoulli_refuses_other_data(self, digits):
        with pytest.raises(ValueError, match=r"needs values in \[0, 1\], found -1 to 1"):
            small(likelihood="bernoulli").fit(2 * digits[0] - 1)

    def test_noise_has_the_scale_of_the_likelihood(self, fitted):
        still = fitted.sample(2000, random_state=0)
        noisy = fitted.sample(2000, noise=True, random_state=0)
        variance = float(fitted.model_.likelihood.variance()) * fitted.scale_[0] ** 2
        assert np.var(noisy - still) == pytest.approx(variance, rel=0.05)


class TestScales:
    def test_a_table_of_many_units_is_learnt_in_each_column(self):
        X = load_breast_cancer().data
        embedder = VAEEmbedder(6, max_epochs=30, random_state=0).fit(X)
        residual = ((embedder.reconstruct(X) - X) ** 2).mean(0) / X.var(0)
        assert residual.max() < 0.9
        assert (embedder.sample(1000, random_state=0).std(0) / X.std(0)).min() > 0.3
        assert (embedder.sample(1000, random_state=0).std(0) / X.std(0)).max() < 2

    def test_pixels_and_components_keep_their_weights(self, digits):
        X = PCA(30).fit_transform(digits[0])
        for rows in (digits[0], X):
            assert len(np.unique(small(max_epochs=1).fit(rows).scale_)) == 1


class TestContainers:
    def test_images_come_back_as_images(self, digits):
        X = digits[0][:60].reshape(-1, 8, 8)
        embedder = small(network="conv", max_epochs=1, hidden_layer_sizes=(4, 8)).fit(X)
        assert embedder.n_features_in_ == 64
        assert embedder.transform(X).shape == (60, 2)
        assert embedder.reconstruct(X).shape == embedder.sample(60).shape == (60, 8, 8)
        assert embedder.interpolate(X[:2], X[2:4], n_steps=3).shape == (2, 3, 8, 8)

    @pytest.mark.parametrize("shape", [(3, 5, 7), (1, 8, 8), (2, 1, 9)])
    @pytest.mark.parametrize("network", ["mlp", "conv", "resnet"])
    def test_images_of_any_size_and_channels(self, shape, network):
        X = np.random.default_rng(0).random((20, *shape))
        embedder = small(network=network, max_epochs=1, hidden_layer_sizes=(4, 8)).fit(X)
        assert embedder.sample(3).shape == (3, *shape)

    def test_structural_similarity_of_images(self, digits):
        embedder = small(
            n_components=8,
            likelihood="ms_ssim",
            image_shape=(8, 8),
            network="mlp",
            hidden_layer_sizes=(256,),
            max_epochs=10,
        ).fit(digits[0])
        assert np.mean((embedder.reconstruct(digits[0]) - digits[0]) ** 2) < 0.05

    def test_flat_images_are_told_their_shape(self, digits):
        X = digits[0][:60]
        embedder = small(image_shape=(8, 8), max_epochs=1, hidden_layer_sizes=(4, 8)).fit(X)
        assert type(embedder.model_.decoder).__name__ == "ConvDecoder"
        assert embedder.sample(3).shape == (3, 64)

    def test_channels_come_first(self):
        with pytest.raises(ValueError, match="have their channels last"):
            small(max_epochs=1).fit(np.zeros((5, 28, 28, 3)))

    def test_images_of_another_shape_are_refused(self, digits):
        X = digits[0][:60].reshape(-1, 4, 16)
        embedder = small(network="mlp", max_epochs=1).fit(X)
        with pytest.raises(ValueError, match=r"Rows of shape \(16, 4\) were given"):
            embedder.transform(X.reshape(-1, 16, 4))
        assert embedder.transform(X.reshape(60, 64)).shape == (60, 2)

    def test_ways_do_not_mind_set_output(self, digits):
        embedder = small().set_output(transform="pandas").fit(digits[0])
        assert embedder.interpolate(digits[0][:2], digits[0][2:4]).shape == (2, 10, 64)

    @pytest.mark.parametrize("image_shape", [(8, 9), (64,), (2, 8, 8), (1, 1, 8, 8)])
    def test_a_shape_that_does_not_fit_is_refused(self, image_shape, digits):
        with pytest.raises(ValueError, match=r"image_shape=.* does not fit rows of shape"):
            small(image_shape=image_shape).fit(digits[0])

    def test_convolutions_of_flat_rows_are_refused_with_the_way_out(self, digits):
        with pytest.raises(ValueError, match="Give image_shape, or take network='mlp'"):
            small(network="conv").fit(digits[0])

    def test_frames_come_back_as_frames(self):
        frame = pd.DataFrame(np.random.default_rng(0).normal(size=(50, 3)), columns=list("abc"))
        embedder = small().fit(frame)
        for rows in (embedder.sample(4), embedder.reconstruct(frame)):
            assert list(rows.columns) == ["a", "b", "c"]
        assert embedder.get_feature_names_out().tolist() == ["vaeembedder0", "vaeembedder1"]

    def test_reconstructions_stand_by_their_rows(self):
        frame = pd.DataFrame(np.random.default_rng(0).normal(size=(50, 3)), columns=list("abc"))
        frame.index = frame.index[::-1] * 7
        embedder = small().fit(frame)
        assert (frame - embedder.reconstruct(frame)).notna().all(axis=None)

    def test_torch_s_default_type_does_not_matter(self, digits):
        before = torch.get_default_dtype()
        torch.set_default_dtype(torch.float64)
        try:
            Z = small().fit(digits[0]).transform(digits[0])
        finally:
            torch.set_default_dtype(before)
        assert np.isfinite(Z).all()

    def test_set_output(self):
        frame = pd.DataFrame(np.random.default_rng(0).normal(size=(50, 3)), columns=list("abc"))
        Z = small().set_output(transform="pandas").fit_transform(frame)
        assert list(Z.columns) == ["vaeembedder0", "vaeembedder1"]

    def test_single_precision_comes_back_single(self, digits):
        X = digits[0][:50].astype(np.float32)
        assert small().fit(X).sample(2).dtype == np.float32

    def test_the_input_is_not_changed(self, digits):
        X = digits[0][:50].copy()
        small().fit(X).transform(X)
        np.testing.assert_array_equal(X, digits[0][:50])


class TestSearchAndPipelines:
    def test_a_grid_over_models_and_sizes(self, digits):
        X, y = digits
        pipeline = make_pipeline(StandardScaler(), small(max_epochs=2), KNeighborsClassifier())
        grid = {
            "vaeembedder__model": ["vae", "beta_tc", "wae_mmd"],
            "vaeembedder__n_components": [2, 6],
        }
        search = GridSearchCV(pipeline, grid, cv=2).fit(X[:300], y[:300])
        assert np.isfinite(search.cv_results_["mean_test_score"]).all()
        assert search.best_params_["vaeembedder__n_components"] == 6

    def test_its_own_score_serves_in_a_search(self, digits):
        search = GridSearchCV(small(max_epochs=8), {"n_components": [1, 8]}, cv=2)
        assert search.fit(digits[0][:400]).best_params_ == {"n_components": 8}

    def test_clones_keep_networks_and_samplers(self, digits):
        embedder = small(
            encoder=nn.Linear(64, 8),
            decoder=nn.Linear(2, 64),
            sampler=GaussianMixtureSampler(n_components=3),
        )
        again = clone(embedder).fit(digits[0])
        assert again.sampler_.mixture_.n_components == 3


class TestOwnNetworks:
    def test_modules_are_copied(self, digits):
        encoder, decoder = nn.Sequential(nn.Linear(64, 8), nn.Tanh()), nn.Linear(2, 64)
        before = encoder[0].weight.detach().clone()
        embedder = small(encoder=encoder, decoder=decoder).fit(digits[0])
        assert torch.equal(encoder[0].weight, before)
        assert not torch.equal(embedder.model_.encoder[0].weight, before)

    def test_functions_make_networks_with_the_seed(self, digits):
        params = {"encoder": make_encoder, "decoder": make_decoder}
        one, two = (small(**params).fit(digits[0]) for _ in range(2))
        np.testing.assert_array_equal(one.transform(digits[0]), two.transform(digits[0]))

    def test_a_model_of_ones_own(self, digits):
        model = VAE(nn.Linear(64, 8), nn.Linear(3, 64), 3, likelihood=GaussianLikelihood())
        embedder = VAEEmbedder(model=model, max_epochs=3, random_state=0).fit(digits[0])
        assert embedder.transform(digits[0]).shape == (1797, 3)
        again = pickle.loads(pickle.dumps(embedder))
        np.testing.assert_array_equal(again.transform(digits[0]), embedder.transform(digits[0]))

    @pytest.mark.parametrize(
        "params", [{"likelihood": "bernoulli"}, {"network": "conv"}, {"model_params": {"beta": 2}}]
    )
    def test_parameters_that_it_makes_void_are_refused(self, params, digits):
        model = VAE(nn.Linear(64, 8), nn.Linear(3, 64), 3)
        (name,) = params
        with pytest.raises(ValueError, match=f"{name}=.* was given, but model=VAE"):
            VAEEmbedder(model=model, **params).fit(digits[0])

    def test_a_class_of_ones_own(self, digits):
        embedder = small(model=Halved, model_params={"share": 0.25}).fit(digits[0])
        assert embedder.model_.share == 0.25

    def test_what_is_no_model_is_refused(self, digits):
        with pytest.raises(TypeError, match="model=Linear has no method 'training_loss'"):
            VAEEmbedder(model=nn.Linear(64, 2)).fit(digits[0])


class Halved(VAE):
    def __init__(self, encoder, decoder, latent_dim, *, share=0.5, likelihood=None):
        super().__init__(encoder, decoder, latent_dim, likelihood=likelihood)
        self.share = share

    def compute_loss(self, x, output, beta=1.0, likelihood=None, *, context=None):
        return super().compute_loss(x, output, self.share * beta, likelihood, context=context)


def make_encoder(input_shape):
    return nn.Sequential(nn.Flatten(), nn.Linear(input_shape[0], 8), nn.ReLU())


def make_decoder(latent_dim, input_shape):
    return nn.Linear(latent_dim, input_shape[0])


class TestLabels:
    def test_a_conditional_model_draws_what_it_is_asked_for(self, digits):
        X, y = digits
        names = np.array(list("abcdefghij"))[y]
        embedder = VAEEmbedder(6, model="conditional", max_epochs=25, random_state=0).fit(X, names)
        assert embedder.classes_.tolist() == list("abcdefghij")
        rows = embedder.sample(60, y="d", random_state=0)
        guesses = KNeighborsClassifier(5).fit(X, names).predict(rows)
        assert (guesses == "d").mean() > 0.85
        mixed = embedder.sample(400, random_state=0)
        guesses = KNeighborsClassifier(5).fit(X, names).predict(mixed)
        assert len(set(guesses)) == 10

    def test_labels_of_an_earlier_fit_are_forgotten(self, digits):
        embedder = small(model="conditional").fit(*digits)
        assert not hasattr(embedder.set_params(model="vae").fit(*digits), "classes_")

    def test_labels_are_needed_where_the_model_is_conditional(self, digits):
        with pytest.raises(ValueError, match=r"model='conditional' needs labels: fit\(X, y\)"):
            small(model="conditional").fit(digits[0])

    def test_labels_that_fit_did_not_see_are_named(self, digits):
        embedder = small(model="conditional").fit(*digits)
        with pytest.raises(ValueError, match=r"y holds \[12\], which fit did not see"):
            embedder.sample(3, y=12)

    @pytest.mark.parametrize("label", ["d", np.str_("d")])
    def test_one_label_stands_for_all_rows_in_every_method(self, digits, label):
        X, names = digits[0][:300], np.array(list("abcdefghij"))[digits[1][:300]]
        embedder = small(model="conditional").fit(X, names)
        Z, each = embedder.transform(X), np.full(300, "d")
        for one, all_rows in (
            (embedder.inverse_transform(Z, label), embedder.inverse_transform(Z, each)),
            (embedder.reconstruct(X, label), embedder.reconstruct(X, each)),
            (
                embedder.sample(300, y=label, random_state=0),
                embedder.sample(300, y=each, random_state=0),
            ),
        ):
            np.testing.assert_array_equal(one, all_rows)
        assert not np.allclose(embedder.inverse_transform(Z, "e"), one)
        with pytest.raises(ValueError, match=r"y has shape \(2,\), expected \(300,\)"):
            embedder.inverse_transform(Z, ["d", "e"])

    def test_labels_are_refused_where_nothing_decodes_by_them(self, fitted):
        with pytest.raises(ValueError, match="does not decode by labels"):
            fitted.sample(3, y=1)


@pytest.mark.parametrize("model", ["vae", "ae"])
@pytest.mark.parametrize(
    ("part", "network", "words"),
    [
        ("encoder", nn.Linear(9, 4), r"encoder cannot be used: .*rows of shape \(batch, 64\)"),
        ("decoder", nn.Linear(3, 64), r"decoder cannot be used: .*latents \(batch, 2\)"),
        ("decoder", nn.Linear(2, 63), r"x_hat has shape .*63\), expected"),
    ],
)
def test_a_network_of_a_wrong_width_is_named(digits, model, part, network, words):
    with pytest.raises(ValueError, match=words):
        VAEEmbedder(2, model=model, max_epochs=1, **{part: network}).fit(digits[0])


class TestFrames:
    def test_a_column_that_holds_no_numbers_is_named(self):
        frame = pd.DataFrame({"age": [1.0, 2.0, 3.0], "town": ["Rome", "Oslo", "Bern"]})
        with pytest.raises(ValueError, match=r"Column 'town' of X holds 'Rome'.*OneHotEncoder"):
            small().fit(frame)
        frame["town"] = pd.to_datetime(["2020-01-01"] * 3)
        with pytest.raises(ValueError, match="Column 'town' of X holds Timestamp"):
            small().fit(frame)

    def test_numbers_written_as_text_or_categories_are_numbers(self, digits):
        frame = pd.DataFrame(digits[0][:50, 2:6]).astype({1: "category"})
        frame[0] = frame[0].map(str)
        frame.columns = list("abcd")
        plain = small().fit(digits[0][:50, 2:6])
        expected = plain.transform(digits[0][:50, 2:6])
        np.testing.assert_allclose(small().fit(frame).transform(frame), expected, atol=1e-6)

    def test_single_precision_comes_back_as_it_came(self):
        X = np.random.default_rng(0).normal(size=(50, 3))
        frame = pd.DataFrame(X, columns=list("abc"), dtype=np.float32)
        assert (small(n_components=2).fit(frame).sample(4).dtypes == np.float32).all()
        frame["a"] = X[:, 0]
        assert (small(n_components=2).fit(frame).sample(4).dtypes == np.float64).all()


class TestGrowing:
    def test_partial_fit_learns_batch_by_batch(self, digits):
        X = digits[0]
        embedder = small(n_components=6, hidden_layer_sizes=(64,))
        losses = []
        for _ in range(6):
            for start in range(0, 1797, 300):
                embedder.partial_fit(X[start : start + 300])
            losses.append(np.mean((embedder.reconstruct(X) - X) ** 2))
        assert losses[-1] < 0.7 * losses[0]

    def test_partial_fit_goes_on_with_the_optimizer_where_it_stood(self, digits):
        X = digits[0][:256]
        params = {"batch_size": 256, "learning_rate": 1e-3}
        embedder = small(**params).partial_fit(X)
        before = embedder.model_.decoder.layers[0].weight.detach().clone()
        embedder.partial_fit(np.broadcast_to(X.mean(0), X.shape))
        step = (embedder.model_.decoder.layers[0].weight - before).abs()
        # The first step of Adam has the length of the learning rate in every weight.
        assert step.max() < 1.5e-3
        assert (step < 0.9e-3).float().mean() > 0.3
        again = pickle.loads(pickle.dumps(embedder)).partial_fit(X)
        np.testing.assert_array_equal(again.transform(X), embedder.partial_fit(X).transform(X))

    def test_partial_fit_takes_classes_that_come_later(self, digits):
        X, y = digits[0][:400], digits[1][:400]
        low = y < 5
        embedder = small(model="conditional").partial_fit(X[low], y[low], classes=range(10))
        embedder.partial_fit(X[~low], y[~low])
        np.testing.assert_array_equal(embedder.classes_, range(10))
        counts = np.bincount(y, minlength=10)
        np.testing.assert_allclose(embedder._labels.frequencies, counts / 400)
        assert embedder.sample(3, y=9).shape == (3, 64)

    def test_partial_fit_refuses_labels_beyond_its_classes_with_the_way_out(self, digits):
        X, y = digits
        message = r"y holds \[5, .*9\].* the classes \[0, .*4\]. .* partial_fit\(X, y, classes="
        with pytest.raises(ValueError, match=message):
            small(model="conditional").partial_fit(X, y, classes=range(5))
        embedder = small(model="conditional").partial_fit(X[y < 5], y[y < 5])
        with pytest.raises(ValueError, match=message):
            embedder.partial_fit(X, y)

    def test_partial_fit_refuses_other_columns(self, fitted, digits):
        embedder = clone(fitted).partial_fit(digits[0])
        with pytest.raises(ValueError, match="X has 63 features, but VAEEmbedder is expecting 64"):
            embedder.partial_fit(digits[0][:, :63])

    def test_warm_start_goes_on_where_the_last_fit_ended(self, digits):
        X = digits[0]
        cold = small(max_epochs=5, learning_rate_schedule="constant").fit(X)
        warm = small(max_epochs=5, learning_rate_schedule="constant", warm_start=True).fit(X)
        first = warm.loss_curve_[0]
        warm.fit(X)
        assert warm.loss_curve_[0] < 0.95 * first
        assert cold.fit(X).loss_curve_[0] == pytest.approx(first)

    def test_warm_start_refuses_another_model(self, digits):
        embedder = small(warm_start=True).fit(digits[0])
        with pytest.raises(ValueError, match="n_components=5, but the model that is to go on"):
            embedder.set_params(n_components=5).fit(digits[0])

    def test_a_fit_that_is_refused_leaves_the_one_before(self, digits):
        X, _ = digits
        embedder = small().fit(X)
        Z = embedder.transform(X)
        for params, rows in (({"model": "conditional"}, X[:, :9]), ({"sampler": "vamp"}, X)):
            with pytest.raises(ValueError, match=r"needs labels|does not go with"):
                embedder.set_params(**params).fit(rows)
            embedder.set_params(model="vae", sampler="auto")
            np.testing.assert_array_equal(embedder.transform(X), Z)

    @pytest.mark.parametrize("goes_on", [False, True])
    def test_a_fit_that_fails_late_leaves_the_one_before(self, goes_on, digits):
        def fail(log):
            raise RuntimeError("at the end of an epoch")

        X, y = digits
        embedder = small(model="conditional", warm_start=goes_on).fit(X, y)
        before, Z = dict(vars(embedder)), embedder.transform(X)
        rows = embedder.sample(3, random_state=0)
        embedder.set_params(callbacks=[fail])
        with pytest.raises(RuntimeError, match="end of an epoch"):
            embedder.fit(X[:99], y[:99])
        embedder.set_params(callbacks=None)
        assert {name for name in before if vars(embedder)[name] is not before[name]} <= {
            "callbacks"
        }
        np.testing.assert_array_equal(embedder.transform(X), Z)
        np.testing.assert_array_equal(embedder.sample(3, random_state=0), rows)

    def test_early_stopping_restores_the_best(self, digits):
        embedder = VAEEmbedder(
            20,
            max_epochs=400,
            early_stopping=True,
            n_iter_no_change=3,
            learning_rate_schedule="constant",
            learning_rate=0.01,
            random_state=0,
        ).fit(digits[0][:200])
        assert embedder.n_iter_ < 400
        validation = embedder.history_["validation_loss"]
        assert embedder.best_epoch_ == validation.idxmin() + 1
        assert embedder.n_iter_ == embedder.best_epoch_ + 3


class TestPersistence:
    def test_saved_and_loaded_it_is_the_same(self, fitted, digits, tmp_path):
        skvae.save(fitted, tmp_path / "digits.skvae")
        again = skvae.load(tmp_path / "digits.skvae")
        np.testing.assert_array_equal(again.transform(digits[0]), fitted.transform(digits[0]))
        np.testing.assert_array_equal(
            again.sample(5, random_state=0), fitted.sample(5, random_state=0)
        )

    def test_networks_of_ones_own_are_refused_by_save(self, digits, tmp_path):
        embedder = small(encoder=nn.Linear(64, 8)).fit(digits[0])
        with pytest.raises(TypeError, match=r"joblib\.dump"):
            skvae.save(embedder, tmp_path / "digits.skvae")
        assert not (tmp_path / "digits.skvae").exists()

    def test_a_fit_repeated_from_its_configuration_has_the_same_weights(self, fitted, digits):
        again = skvae.from_config(skvae.to_config(fitted)).fit(digits[0])
        np.testing.assert_array_equal(again.transform(digits[0]), fitted.transform(digits[0]))


class TestErrors:
    @pytest.mark.parametrize(
        ("params", "message"),
        [
            ({"model": "beta_vae"}, r"model='beta_vae' is not in the zoo. Did you mean 'beta'\?"),
            ({"model": "vamq"}, r"model='vamq' is not in the zoo. Did you mean 'vamp'\?"),
            ({"model_params": {"beta": 2}}, "model_params has 'beta', which VAE does not take"),
            (
                {"model": "beta", "model_params": {"bta": 2}},
                r"has 'bta', which BetaVAE does not take. Did you mean 'beta'\?",
            ),
            ({"hidden_layer_sizes": (8, 0)}, r"hidden_layer_sizes must be whole numbers above 0"),
            ({"n_components": 0}, "The 'n_components' parameter of VAEEmbedder must be an int"),
            ({"sampler": "vamp"}, "sampler='vamp' does not go with VAE"),
            ({"model": "ae", "sampler": "normal"}, "sampler='normal' does not go with AE"),
            ({"model": "vq", "sampler": "normal"}, "sampler='normal' does not go with VQVAE"),
            ({"device": "nowhere"}, "device='nowhere' cannot be used"),
        ],
    )
    def test_bad_parameters_are_named(self, params, message, digits):
        with pytest.raises(ValueError, match=message):
            small(**params).fit(digits[0])

    def test_a_wrong_sampler_is_refused_before_the_training(self, digits):
        epochs = []
        with pytest.raises(ValueError, match="does not go with"):
            small(sampler="hypersphere", callbacks=[epochs.append]).fit(digits[0])
        assert not epochs

    @pytest.mark.parametrize("method", ["transform", "sample", "score_samples", "reconstruct"])
    def test_nothing_works_before_fit(self, method, digits):
        with pytest.raises(NotFittedError):
            getattr(small(), method)(3 if method == "sample" else digits[0])

    def test_no_rows_are_held_out_of_a_single_one(self, digits):
        embedder = small(early_stopping=True).fit(digits[0][:2])
        with pytest.raises(ValueError, match="early_stopping=True holds rows out, but X has only"):
            embedder.fit(digits[0][:1])
        assert embedder.transform(digits[0]).shape == (1797, 2)

    def test_missing_cells_are_refused(self, digits):
        X = digits[0].copy()
        X[3, 4] = np.nan
        with pytest.raises(ValueError, match="contains NaN"):
            small().fit(X)

    def test_latents_of_another_size_are_refused(self, fitted):
        with pytest.raises(ValueError, match="Z has 3 features, but inverse_transform expects"):
            fitted.inverse_transform(np.zeros((2, 3)))

    def test_ways_need_as_many_ends_as_starts(self, fitted, digits):
        with pytest.raises(ValueError, match="X0 has 3 rows and X1 has 2"):
            fitted.interpolate(digits[0][:3], digits[0][:2])

    @pytest.mark.parametrize("n_samples", [-1, 2.5, True, "3"])
    def test_a_number_of_rows_must_be_one(self, fitted, n_samples):
        with pytest.raises(ValueError, match=r"n_samples=.* was asked for"):
            fitted.sample(n_samples)

    def test_draws_and_steps_must_be_numbers_too(self, fitted, digits):
        with pytest.raises(ValueError, match="n_draws=0 was asked for"):
            fitted.score_samples(digits[0], n_draws=0)
        with pytest.raises(ValueError, match="n_steps=1 was asked for"):
            fitted.interpolate(digits[0][:1], digits[0][1:2], n_steps=1)

    def test_no_rows_may_be_drawn(self, fitted):
        assert fitted.sample(0).shape == (0, 64)

    def test_an_interrupted_fit_leaves_it_unfitted(self, digits):
        def interrupt(log):
            raise KeyboardInterrupt

        embedder = small().fit(digits[0])
        embedder.set_params(callbacks=[interrupt])
        with pytest.raises(KeyboardInterrupt):
            embedder.fit(digits[0])
        with pytest.raises(NotFittedError):
            embedder.transform(digits[0])


def test_constant_columns_and_constant_data_do_no_harm():
    X = np.zeros((30, 4))
    X[:, 0] = np.arange(30)
    assert np.isfinite(small().fit(X).reconstruct(X)).all()
    assert np.isfinite(small().fit(np.ones((30, 4))).sample(3)).all()
