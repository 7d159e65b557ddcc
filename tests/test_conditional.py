"""The conditional VAE: what labels do, and what is done without them."""

import math
import pickle

import pytest
import torch
from sklearn.datasets import load_digits
from torch import nn

from skvae.models import (
    VAE,
    BernoulliLikelihood,
    ConditionalVAE,
    GaussianLikelihood,
    MLPDecoder,
    MLPEncoder,
    StepContext,
)
from skvae.training import TrainingConfig, train

X = torch.randn(8, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
Y = torch.tensor([0, 1, 2, 2, 1, 0, 0, 2])
FREQUENCIES = torch.tensor([0.5, 0.2, 0.3], dtype=torch.float64)


def make(frequencies=FREQUENCIES, latent_dim=2, **params):
    torch.manual_seed(0)
    encoder = nn.Sequential(nn.Linear(6, 8), nn.Tanh())
    decoder = nn.Sequential(nn.Linear(latent_dim + 3, 8), nn.Tanh(), nn.Linear(8, 6))
    model = ConditionalVAE(encoder, decoder, latent_dim, n_classes=3, **params)
    model.build(X.float())
    model.double().eval()
    if frequencies is not None:
        model.set_class_frequencies(frequencies)
    return model


class TestWithLabels:
    def test_the_decoder_sees_the_latent_and_then_the_class(self):
        model = make()
        output = model(X, Y, S=3)
        assert output.x_hat.shape == (8, 3, 6)
        one_hot = torch.eye(3, dtype=torch.float64)[Y]
        for s in range(3):
            expected = model.decoder(torch.cat([output.z[:, s], one_hot], dim=1))
            torch.testing.assert_close(output.x_hat[:, s], expected)

    def test_the_encoder_does_not(self):
        model = make()
        assert torch.equal(model(X, Y).mu, model(X, (Y + 1) % 3).mu)
        assert torch.equal(model.embed(X), model(X, Y).mu)

    def test_a_decoder_deaf_to_classes_makes_a_vae(self):
        model = make()
        torch.manual_seed(0)
        vae = VAE(model.encoder, nn.Linear(2, 6).double(), 2)
        vae.sampling_layer = model.sampling_layer
        model.decoder = Deaf(vae.decoder)
        results = []
        for m, args in ((vae, ()), (model, (Y,))):
            torch.manual_seed(1)
            results.append(m.compute_loss(X, m(X, *args)).objective)
        torch.testing.assert_close(*results)
        weights = []
        for m in (vae, model):
            torch.manual_seed(1)
            weights.append(m.log_weights(X, 4))
        torch.testing.assert_close(*weights)

    def test_decode_mean_and_decode_agree(self):
        model = make(likelihood=BernoulliLikelihood())
        z = torch.randn(8, 2, dtype=torch.float64)
        expected = torch.sigmoid(model.decode(z.unsqueeze(1), Y).x_hat[:, 0])
        torch.testing.assert_close(model.decode_mean(z, Y), expected)

    def test_weights_average_to_the_elbo(self):
        model = make()
        with torch.no_grad():
            elbo = model.compute_loss(X, model(X, Y, S=5000)).diagnostics["elbo"]
            weights = model.log_weights(X, 5000, Y)
        error = weights.std(1).mean() / math.sqrt(5000 * len(X))
        assert (weights.mean() - elbo).abs() < 6 * math.sqrt(2) * error

    def test_labels_may_be_of_any_whole_type(self):
        model = make()
        z = torch.randn(8, 2, dtype=torch.float64)
        for dtype in (torch.uint8, torch.int32):
            assert torch.equal(model.decode_mean(z, Y.to(dtype)), model.decode_mean(z, Y))


class Deaf(nn.Module):
    """A decoder that leaves the class out."""

    def __init__(self, decoder):
        super().__init__()
        self.decoder = decoder

    def forward(self, z):
        return self.decoder(z[:, :2])


class TestWithoutLabels:
    def test_weights_sum_over_the_classes(self):
        model = make()
        parts = []
        for k in range(3):
            torch.manual_seed(1)
            parts.append(model.log_weights(X, 5, torch.full((8,), k)) + FREQUENCIES[k].log())
        torch.manual_seed(1)
        torch.testing.assert_close(model.log_weights(X, 5), torch.stack(parts).logsumexp(0))

    def test_a_class_that_does_not_occur_counts_for_nothing(self):
        model = make(frequencies=[0.0, 1.0, 0.0])
        torch.manual_seed(1)
        expected = model.log_weights(X, 5, torch.ones(8, dtype=torch.int64))
        torch.manual_seed(1)
        torch.testing.assert_close(model.log_weights(X, 5), expected)

    def test_the_mean_is_that_over_the_classes(self):
        model = make(likelihood=BernoulliLikelihood())
        z = torch.randn(5, 2, dtype=torch.float64)
        expected = sum(FREQUENCIES[k] * model.decode_mean(z, torch.full((5,), k)) for k in range(3))
        torch.testing.assert_close(model.decode_mean(z), expected)

    def test_draws_are_of_the_classes_by_their_frequencies(self):
        model = make(likelihood=GaussianLikelihood(1e-6))
        z = torch.zeros(4000, 2, dtype=torch.float64)
        rows = torch.cat([model.decode_mean(z[:1], torch.tensor([k])) for k in range(3)])
        torch.manual_seed(0)
        for draws in (model.decode_draw(z), model.decode(z.unsqueeze(1)).x_hat[:, 0]):
            nearest = torch.cdist(draws.detach(), rows.detach()).argmin(1)
            shares = torch.bincount(nearest, minlength=3) / 4000
            torch.testing.assert_close(shares.double(), FREQUENCIES, atol=0.04, rtol=0)

    def test_the_bound_is_a_looser_one(self):
        model, x = make(likelihood=GaussianLikelihood(0.1)), X.repeat(500, 1)
        with torch.no_grad():
            elbo = model.compute_loss(x, model(x)).diagnostics["elbo"]
            assert elbo < model.log_weights(x, 1).mean() - 0.2

    def test_frequencies_are_equal_before_any_label(self):
        torch.testing.assert_close(make(None).class_frequencies(), torch.full((3,), 1 / 3).double())


class TestCounting:
    def test_training_counts_labels_and_evaluation_does_not(self):
        model = make(None)
        model.train().training_loss((X, Y), StepContext())
        model.training_loss((X, Y), StepContext())
        model.eval().training_loss((X, torch.zeros(8, dtype=torch.int64)), StepContext())
        assert model.class_counts.tolist() == [6, 4, 6]
        expected = torch.tensor([6, 4, 6]).double() / 16
        torch.testing.assert_close(model.class_frequencies(), expected)

    def test_counts_are_part_of_the_state(self):
        model = make()
        again = make(None)
        again.load_state_dict(model.state_dict())
        assert torch.equal(again.class_frequencies(), model.class_frequencies())
        copy = pickle.loads(pickle.dumps(model))
        assert torch.equal(copy.decode_mean(X[:, :2]), model.decode_mean(X[:, :2]))

    @pytest.mark.parametrize(
        ("frequencies", "message"),
        [
            ([0.5, 0.5], r"shape \(2,\), expected \(3,\)"),
            ([0.5, -0.1, 0.6], "none may be negative"),
            ([0.0, 0.0, 0.0], "nor all zero"),
            ([1.0, math.nan, 0.0], "finite"),
        ],
    )
    def test_bad_frequencies_are_refused(self, frequencies, message):
        with pytest.raises(ValueError, match=message):
            make(frequencies)


class TestGuards:
    @pytest.mark.parametrize(
        ("y", "message"),
        [
            (Y.double(), r"dtype torch\.float64.*y\.long\(\)"),
            (Y.tolist(), "type list"),
            (Y[:5], r"shape \(5,\), expected \(8,\)"),
            (Y[:, None], r"shape \(8, 1\), expected \(8,\)"),
            (Y + 1, "labels from 1 to 3, expected 0 to 2"),
            (Y - 1, "labels from -1 to 1, expected 0 to 2"),
        ],
    )
    def test_labels_that_are_none_are_refused(self, y, message):
        model = make()
        for call in (
            lambda: model(X, y),
            lambda: model.decode_mean(X[:, :2], y),
            lambda: model.log_weights(X, 2, y),
            lambda: model.training_loss((X, y), StepContext()),
        ):
            with pytest.raises(ValueError, match=message):
                call()

    def test_training_without_labels_is_refused(self):
        with pytest.raises(ValueError, match=r"expected rows and labels"):
            make().training_loss((X,), StepContext())

    def test_latents_of_another_shape_are_refused(self):
        for z in (X[:, :2], X[:, None, :3]):
            with pytest.raises(ValueError, match=r"expected \(batch, S, 2\)"):
                make().decode(z, Y)

    def test_the_number_of_classes_is_checked(self):
        with pytest.raises(ValueError, match="n_classes=0"):
            ConditionalVAE(nn.Identity(), nn.Identity(), 2, n_classes=0)


def test_images_one_row_and_one_latent():
    encoder = nn.Sequential(nn.Flatten(), nn.Linear(16, 8))
    decoder = nn.Sequential(nn.Linear(1 + 3, 16), nn.Unflatten(1, (1, 4, 4)))
    model = ConditionalVAE(encoder, decoder, 1, n_classes=3)
    x, y = torch.randn(1, 1, 4, 4), torch.tensor([2])
    model.build(x)
    model.training_loss((x, y), StepContext()).objective.backward()
    assert model.decode_mean(torch.zeros(5, 1)).shape == (5, 1, 4, 4)
    assert model.log_weights(x, 4).shape == (1, 4)


def test_digits_are_drawn_in_the_class_asked_for():
    data = load_digits()
    x = torch.tensor(data.data, dtype=torch.float32)
    x, y = (x - x.mean(0)) / x.std(), torch.tensor(data.target)
    torch.manual_seed(0)
    networks = MLPEncoder((64,), (128,)), MLPDecoder(4 + 10, (64,), (128,))
    model = ConditionalVAE(*networks, 4, n_classes=10, likelihood=GaussianLikelihood())
    model.build(x)
    config = TrainingConfig(n_epochs=10, batch_size=128, learning_rate=5e-3, warmup_steps=0)
    generator = torch.Generator().manual_seed(0)
    losses = [e["loss"] for e in train(model, (x, y), config, generator=generator).history]
    assert all(math.isfinite(value) for value in losses)
    assert losses[-1] < losses[0] - 20
    shares = torch.bincount(y) / len(y)
    torch.testing.assert_close(model.class_frequencies(), shares, atol=0.005, rtol=0)
    torch.manual_seed(0)
    labels = torch.arange(10).repeat(20)
    with torch.no_grad():
        drawn = model.decode_mean(torch.randn(200, 4), labels)
    centroids = torch.stack([x[y == k].mean(0) for k in range(10)])
    hits = (torch.cdist(drawn, centroids).argmin(1) == labels).float().mean()
    assert hits > 0.6  # by chance: 0.1
