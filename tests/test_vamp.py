"""The VampPrior against mixtures of torch.distributions, and its pseudo-inputs."""

import math
import pickle

import pytest
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal

from skvae.models import VAE, VAMP, GaussianLikelihood, MLPDecoder, MLPEncoder, StepContext
from skvae.training import TrainingConfig, train

X = 3 * torch.randn(40, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) + 5


def make(cls=VAMP, build=True, latent_dim=2, **params):
    torch.manual_seed(0)
    encoder = nn.Sequential(nn.Linear(6, 8), nn.Tanh()).double()
    model = cls(encoder, nn.Linear(latent_dim, 6).double(), latent_dim, **params)
    model.sampling_layer.double()
    if build:
        model.build(X)
    return model


def mixture(model):
    mu, log_var = (part.detach() for part in model.prior_components())
    parts = Independent(Normal(mu, torch.exp(0.5 * log_var)), 1)
    return MixtureSameFamily(Categorical(torch.ones(len(mu))), parts)


class TestPrior:
    @pytest.mark.parametrize("latent_dim", [1, 3])
    def test_is_the_mixture_of_the_posteriors_at_the_pseudo_inputs(self, latent_dim):
        model = make(n_pseudo_inputs=5, latent_dim=latent_dim)
        mu, log_var = model.prior_components()
        encoded = model.encode(model.pseudo_inputs)
        assert torch.equal(mu, encoded.mu)
        assert torch.equal(log_var, encoded.log_var)
        z = torch.randn(7, 3, latent_dim, dtype=torch.float64)
        torch.testing.assert_close(model.log_prior(z).detach(), mixture(model).log_prob(z))

    def test_of_one_standard_normal_component_is_the_vae_s(self):
        model = make(n_pseudo_inputs=1)
        for layer in (model.sampling_layer.mu, model.sampling_layer.log_var):
            nn.init.zeros_(layer.weight), nn.init.zeros_(layer.bias)
        z = torch.randn(7, 3, 2, dtype=torch.float64)
        torch.testing.assert_close(model.log_prior(z), VAE.log_prior(model, z))

    def test_the_divergence_is_right_on_average(self):
        model = make(n_pseudo_inputs=3)
        x = X[:4]
        with torch.no_grad():
            output = model(x, S=20_000)
            found = model.divergence(output)
            posterior = Independent(Normal(output.mu, torch.exp(0.5 * output.log_var)), 1)
            prior = mixture(model)
            z = posterior.sample((20_000,))
            draws = posterior.log_prob(z) - prior.log_prob(z)
        error = draws.std(0) / math.sqrt(20_000)
        assert (found.shape, (found - draws.mean(0)).abs().lt(6 * error).all()) == ((4,), True)
        # Far from that to the standard normal.
        assert ((VAE.divergence(model, output) - found).abs() > 0.05).any()

    def test_weights_average_to_the_elbo(self):
        model = make(n_pseudo_inputs=10)
        with torch.no_grad():
            elbo = model.compute_loss(X, model(X, S=2000)).diagnostics["elbo"]
            weights = model.log_weights(X, 2000)
        error = weights.std(1).mean() / math.sqrt(2000 * len(X))
        assert (weights.mean() - elbo).abs() < 6 * math.sqrt(2) * error

    def test_trains_its_pseudo_inputs_and_warms_up(self):
        model = make(n_pseudo_inputs=5)
        for beta, moves in ((1.0, True), (0.0, False)):
            result = model.training_loss((X,), StepContext(beta=beta))
            (grad,) = torch.autograd.grad(result.objective, [model.pseudo_inputs])
            assert (grad.abs().amax(1) > 0).all() == moves


class TestPseudoInputs:
    def test_start_from_rows_spread_over_the_sample(self):
        model = make(n_pseudo_inputs=3)
        assert torch.equal(model.pseudo_inputs.detach(), X[[0, 20, 39]])
        assert model.pseudo_inputs.requires_grad

    def test_are_rows_with_noise_where_there_are_too_few(self):
        model = make(n_pseudo_inputs=100)
        nearest = torch.cdist(model.pseudo_inputs.detach(), X).min(1).values
        assert len(torch.unique(model.pseudo_inputs.detach(), dim=0)) == 100
        # A tenth of the standard deviation of the data, of 3, in each of six features.
        assert nearest.max() < 0.3 * math.sqrt(6) * 3
        assert nearest.mean() > 0.3

    @pytest.mark.parametrize("x", [X[:1], torch.full((1, 6), 2.0).double()])
    def test_differ_even_if_there_is_one_row(self, x):
        model = make(build=False, n_pseudo_inputs=4)
        model.build(x)
        assert len(torch.unique(model.pseudo_inputs.detach(), dim=0)) == 4

    def test_are_kept_by_another_build(self):
        model = make()
        before = model.pseudo_inputs.detach().clone()
        model.build(X + 100)
        assert torch.equal(model.pseudo_inputs.detach(), before)

    def test_have_the_shape_of_images(self):
        encoder = nn.Sequential(nn.Flatten(), nn.Linear(16, 8))
        decoder = nn.Sequential(nn.Linear(2, 16), nn.Unflatten(1, (1, 4, 4)))
        model = VAMP(encoder, decoder, 2, n_pseudo_inputs=7)
        x = torch.randn(5, 1, 4, 4)
        model.build(x)
        assert model.pseudo_inputs.shape == (7, 1, 4, 4)
        model.compute_loss(x[:1], model(x[:1])).objective.backward()

    def test_without_them_only_the_prior_fails_and_says_so(self):
        model = make(build=False)
        output = model(X)
        assert output.x_hat.shape == (40, 1, 6)
        assert model.embed(X).shape == (40, 2)
        with pytest.raises(RuntimeError, match=r"call model\.build\(x\)"):
            model.compute_loss(X, output)

    @pytest.mark.parametrize("build", [True, False])
    def test_come_back_with_a_state(self, build):
        model, again = make(), make(build=False)
        if build:
            again.build(torch.zeros_like(X))
        again.load_state_dict(model.state_dict())
        z = torch.randn(3, 2, dtype=torch.float64)
        assert torch.equal(again.log_prior(z), model.log_prior(z))
        copy = pickle.loads(pickle.dumps(model))
        assert torch.equal(copy.log_prior(z), model.log_prior(z))

    def test_their_number_is_checked(self):
        with pytest.raises(ValueError, match="n_pseudo_inputs=0"):
            make(n_pseudo_inputs=0)


def test_the_prior_learned_on_digits_fits_the_latents_better_than_a_normal():
    digits = torch.tensor(load_digits().data[:400], dtype=torch.float32)
    digits = (digits - digits.mean(0)) / digits.std()
    torch.manual_seed(0)
    networks = MLPEncoder((64,), (64,)), MLPDecoder(4, (64,), (64,))
    model = VAMP(*networks, 4, n_pseudo_inputs=20, likelihood=GaussianLikelihood())
    model.build(digits)
    config = TrainingConfig(n_epochs=25, batch_size=100, learning_rate=5e-3, warmup_steps=0)
    generator = torch.Generator().manual_seed(0)
    history = train(model, (digits,), config, generator=generator).history
    losses = [entry["loss"] for entry in history]
    assert all(math.isfinite(value) for value in losses)
    assert losses[-1] < losses[0] - 20
    with torch.no_grad():
        torch.manual_seed(0)
        z = model.draw_latents(digits)
        normal = Normal(z.mean(0), z.std(0)).log_prob(z).sum(1)
        assert model.log_prior(z).mean() > normal.mean()
