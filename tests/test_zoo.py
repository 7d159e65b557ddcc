"""The contract that every model of the zoo keeps, through ``VAEEmbedder`` as users meet it."""

import os
import pickle

import joblib
import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.datasets import load_digits

import skvae
from skvae import VAEEmbedder
from skvae.models import MODELS, StepContext, make_model
from skvae.training import TrainingConfig
from skvae.training.players import Players

N_COMPONENTS = 4
# Its loss is a game rather than a descent, and compares what a discriminator sees, not pixels.
GAMES = {"vae_gan"}
# A strong divergence takes longer to let anything through.
SLOW = {"beta": 3}


@pytest.fixture(scope="module")
def digits():
    X, y = load_digits(return_X_y=True)
    return X[:300] / 16, y[:300]


def embedder(name, **params):
    params = {"max_epochs": 4, "hidden_layer_sizes": (64,), "random_state": 0, **params}
    return VAEEmbedder(N_COMPONENTS, model=name, **params)


@pytest.fixture(scope="module", params=sorted(MODELS))
def name(request):
    return request.param


@pytest.fixture(scope="module")
def fitted(name, digits):
    return embedder(name, max_epochs=30 * SLOW.get(name, 1)).fit(*digits)


def weights(estimator):
    return torch.cat([p.detach().flatten() for p in estimator.model_.parameters()])


class TestLearning:
    def test_the_loss_is_finite_and_falls(self, name, fitted):
        losses = np.array(fitted.loss_curve_)
        assert np.isfinite(losses).all()
        assert np.isfinite(weights(fitted).numpy()).all()
        if name not in GAMES:
            assert losses[-3:].mean() < losses[0]

    def test_reconstruction_gains_on_the_mean_row(self, name, fitted, digits):
        X, y = digits
        labels = y if fitted._conditional else None
        error = np.mean((fitted.reconstruct(X, labels) - X) ** 2)
        if name not in GAMES:
            assert error < 0.85 * X.var(0).mean()
        # Nearest among the rows themselves: of the right digit far more often than one in ten.
        nearest = ((fitted.reconstruct(X, labels)[:, None] - X) ** 2).sum(2).argmin(1)
        assert (y[nearest] == y).mean() > 0.4

    def test_the_terms_of_the_loss_are_in_the_history(self, fitted):
        terms = set(fitted.history_) - {"epoch", "loss", "learning_rate", "seconds"}
        assert "log_likelihood" in terms
        assert np.isfinite(fitted.history_[sorted(terms)].to_numpy(dtype=float)).all()


class TestTransform:
    def test_is_deterministic_and_of_the_size_asked_for(self, fitted, digits):
        X, _ = digits
        Z = fitted.transform(X)
        assert Z.shape == (300, N_COMPONENTS)
        assert np.isfinite(Z).all()
        np.testing.assert_array_equal(Z, fitted.transform(X))

    def test_a_row_depends_on_itself_alone(self, fitted, digits):
        X, _ = digits
        Z = fitted.transform(X)
        order = np.random.default_rng(0).permutation(300)
        np.testing.assert_allclose(fitted.transform(X[order]), Z[order], atol=1e-9)
        alone = np.concatenate([fitted.transform(X[[i]]) for i in range(5)])
        np.testing.assert_allclose(alone, Z[:5], atol=1e-9)

    def test_rows_keep_what_tells_them_apart(self, fitted, digits):
        X, _ = digits
        assert (fitted.transform(X).std(0) > 1e-3).any()


class TestWayBack:
    def test_rows_come_back_in_the_shape_of_the_data(self, fitted, digits):
        X, _ = digits
        rows = fitted.inverse_transform(fitted.transform(X[:7]))
        assert rows.shape == (7, 64)
        assert np.isfinite(rows).all()

    def test_samples_are_finite_and_seeded(self, fitted):
        rows = fitted.sample(20, random_state=3)
        assert rows.shape == (20, 64)
        assert np.isfinite(rows).all()
        np.testing.assert_array_equal(rows, fitted.sample(20, random_state=3))
        assert not np.array_equal(fitted.sample(20), fitted.sample(20))

    def test_samples_lie_where_the_data_lies(self, fitted, digits):
        X, _ = digits
        rows = fitted.sample(200, random_state=0)
        # The mean image of samples is nearer to that of the data than a blank one.
        assert np.mean((rows.mean(0) - X.mean(0)) ** 2) < 0.5 * np.mean(X.mean(0) ** 2)

    def test_interpolation_starts_and_ends_at_the_reconstructions(self, fitted, digits):
        X, _ = digits
        way = fitted.interpolate(X[:3], X[3:6], n_steps=5)
        assert way.shape == (3, 5, 64)
        np.testing.assert_allclose(way[:, 0], fitted.reconstruct(X[:3]), atol=1e-6)
        np.testing.assert_allclose(way[:, -1], fitted.reconstruct(X[3:6]), atol=1e-6)

    def test_scores_are_finite_and_the_same_again(self, fitted, digits):
        X, _ = digits
        scores = fitted.score_samples(X[:50], n_draws=8)
        assert scores.shape == (50,)
        assert np.isfinite(scores).all()
        np.testing.assert_array_equal(scores, fitted.score_samples(X[:50], n_draws=8))

    def test_a_score_depends_on_its_row_alone(self, fitted, digits):
        X, _ = digits
        if not fitted.model_.has_density:
            return
        order = np.random.default_rng(0).permutation(20)
        scores = fitted.score_samples(X[:20], n_draws=8)
        shuffled = fitted.score_samples(X[:20][order], n_draws=8)
        np.testing.assert_allclose(shuffled, scores[order], atol=1e-6)
        # As many rows as draws, where dimensions may be taken for each other.
        as_many = fitted.score_samples(X[:8], n_draws=8)
        np.testing.assert_allclose(as_many, scores[:8], atol=1e-6)
        alone = fitted.score_samples(X[2:3], n_draws=8)
        np.testing.assert_allclose(alone, scores[2:3], atol=1e-6)

    def test_data_scores_better_than_noise(self, fitted, digits):
        X, _ = digits
        noise = np.random.default_rng(0).permuted(X[:100], axis=1)
        assert fitted.score(X[:100]) > fitted.score(noise)


class TestSeedsAndState:
    def test_one_seed_gives_the_same_weights(self, name, digits):
        one, two = (embedder(name, max_epochs=2).fit(*digits) for _ in range(2))
        assert torch.equal(weights(one), weights(two))
        np.testing.assert_array_equal(one.sample(5), two.sample(5))

    def test_another_seed_gives_others_from_the_start(self, name, digits):
        X, y = digits
        one, two = (
            embedder(name, max_epochs=1, learning_rate=1e-12, random_state=seed).fit(X, y)
            for seed in (0, 1)
        )
        assert not torch.allclose(weights(one), weights(two), atol=1e-3)

    def test_global_random_state_is_left_alone(self, name, digits):
        torch.manual_seed(5)
        np.random.seed(5)
        torch_state, numpy_state = torch.get_rng_state(), np.random.get_state()[1].copy()
        estimator = embedder(name, max_epochs=1).fit(*digits)
        estimator.sample(3)
        estimator.score_samples(digits[0][:3], n_draws=2)
        assert torch.equal(torch_state, torch.get_rng_state())
        np.testing.assert_array_equal(numpy_state, np.random.get_state()[1])

    @pytest.mark.parametrize("way", ["pickle", "joblib"])
    def test_a_dump_gives_the_same_numbers(self, fitted, digits, way, tmp_path):
        X, _ = digits
        if way == "pickle":
            again = pickle.loads(pickle.dumps(fitted))
        else:
            joblib.dump(fitted, tmp_path / "embedder.joblib")
            again = joblib.load(tmp_path / "embedder.joblib", mmap_mode="r")
        np.testing.assert_array_equal(again.transform(X[:9]), fitted.transform(X[:9]))
        np.testing.assert_array_equal(
            again.sample(4, random_state=0), fitted.sample(4, random_state=0)
        )

    def test_a_saved_file_gives_the_same_numbers(self, fitted, digits, tmp_path):
        X, _ = digits
        skvae.save(fitted, tmp_path / "embedder.skvae")
        again = skvae.load(tmp_path / "embedder.skvae")
        np.testing.assert_array_equal(again.transform(X[:9]), fitted.transform(X[:9]))
        np.testing.assert_array_equal(
            again.sample(4, random_state=0), fitted.sample(4, random_state=0)
        )

    def test_a_dump_holds_no_tensor(self, fitted):
        assert b"torch._utils" not in pickle.dumps(fitted)

    def test_a_clone_is_unfitted_and_has_the_parameters(self, fitted):
        again = clone(fitted)
        assert not hasattr(again, "model_")
        assert again.get_params() == fitted.get_params()


class TestOddData:
    def test_a_batch_of_one_row(self, name, digits):
        X, y = digits
        estimator = embedder(name, batch_size=1, max_epochs=1).fit(X[:12], y[:12])
        assert np.isfinite(weights(estimator).numpy()).all()

    def test_one_row(self, name, digits):
        X, y = digits
        assert np.isfinite(embedder(name, max_epochs=1).fit(X[:1], y[:1]).sample(2)).all()

    def test_one_row_more_than_a_batch(self, name, digits):
        X, y = digits
        estimator = embedder(name, batch_size=64, max_epochs=2).fit(X[:65], y[:65])
        assert np.isfinite(estimator.transform(X)).all()

    def test_data_far_from_the_unit_interval(self, name, digits):
        X, y = digits
        far = 1000 * X - 70
        estimator = embedder(name, max_epochs=20 * SLOW.get(name, 1)).fit(far, y)
        rows = estimator.reconstruct(far, y if estimator._conditional else None)
        assert np.isfinite(rows).all()
        if name not in GAMES:
            assert np.mean((rows - far) ** 2) < 0.95 * far.var(0).mean()

    def test_one_latent(self, name, digits):
        X, y = digits
        estimator = VAEEmbedder(1, model=name, max_epochs=1, random_state=0)
        if name == "spherical":  # there is no sphere in one dimension
            with pytest.raises(ValueError, match="n_components=2 or more"):
                estimator.fit(X, y)
            return
        estimator.fit(X[:100], y[:100])
        assert estimator.transform(X).shape == (300, 1)
        assert np.isfinite(estimator.sample(3)).all()


class TestShortFloats:
    def test_weights_stay_finite(self, name, digits):
        X, y = digits
        estimator = embedder(name, max_epochs=2, precision="bfloat16").fit(X[:100], y[:100])
        assert np.isfinite(weights(estimator).numpy()).all()
        assert np.isfinite(estimator.transform(X)).all()

    @pytest.mark.parametrize("name", ["poincare", "vae"])
    def test_scores_stay_near_those_of_float32(self, name, digits):
        X, _ = digits
        short, full = (
            embedder(name, max_epochs=30, precision=precision).fit(X).score(X)
            for precision in ("bfloat16", "float32")
        )
        assert abs(short - full) < 3


class TestPlayers:
    def test_each_parameter_has_at_most_one_loss_of_its_own(self, name):
        model = built(name)
        owned = [p for group in model.player_parameters().values() for p in group]
        everything = {id(p) for p in model.parameters()}
        assert len({id(p) for p in owned}) == len(owned)
        assert {id(p) for p in owned} <= everything

    def test_losses_name_the_players(self, name):
        model = built(name).train()
        result = loss(model)
        assert set(result.players) <= set(model.player_parameters())

    def test_gradients_are_those_of_ones_own_loss_alone(self, name):
        """As the training loop takes them, against each loss by itself on a fresh graph."""
        model = built(name).train()
        players = Players(model, TrainingConfig(n_epochs=1))
        players.differentiate(loss(model))
        found = {p: p.grad for p in model.parameters()}
        owners = model.player_parameters()
        owned = {id(p) for group in owners.values() for p in group}
        rest = [p for p in model.parameters() if p.requires_grad and id(p) not in owned]
        model = built(name).train()
        names = dict(zip(found, model.parameters(), strict=True))
        for player, group in {**owners, "": rest}.items():
            result = loss(model)
            value = result.players[player] if player else result.objective
            if value is None:
                continue
            twins = [names[p] for p in group]
            expected = torch.autograd.grad(value, twins, allow_unused=True, retain_graph=True)
            for parameter, gradient in zip(group, expected, strict=True):
                if gradient is not None:
                    torch.testing.assert_close(found[parameter], gradient)


def built(name, n_classes=3):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = make_model(name, (16,), 4, hidden_layer_sizes=(16,), n_classes=n_classes)
        model.build(torch.randn(12, 16))
    return model


def loss(model):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        batch = torch.randn(12, 16), torch.arange(12) % 3
        return model.training_loss(batch, StepContext(n_rows=12))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["hvae", "rhvae"])
@pytest.mark.parametrize("data", ["digits", "mnist"])
def test_hamiltonian_models_train_fifty_epochs_without_a_bad_step(name, data):
    """MNIST: the first 2,000 images of the folder that SKVAE_MNIST names."""
    if data == "digits":
        X = load_digits().data / 16
    elif "SKVAE_MNIST" not in os.environ:
        pytest.skip("SKVAE_MNIST names no folder")
    else:
        images, _ = skvae.datasets.read_images(os.environ["SKVAE_MNIST"])
        X = images[:2000].reshape(2000, -1)
    fitted = VAEEmbedder(10, model=name, max_epochs=50, random_state=0).fit(X)
    assert fitted.n_skipped_steps_ == 0
    assert np.isfinite(fitted.history_.to_numpy(float)).all()
    assert np.isfinite(weights(fitted).numpy()).all()
    Z = fitted.transform(X[:1797])
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(fitted)).transform(X[:1797]), Z)
