"""Importance weighted models, against each other, the VAE, and a model with known evidence."""

import itertools
import math

import pytest
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.distributions import Normal

from skvae.models import (
    CIWAE,
    IWAE,
    MIWAE,
    PIWAE,
    VAE,
    GaussianLikelihood,
    MLPDecoder,
    MLPEncoder,
    StepContext,
)
from skvae.training import TrainingConfig, train

X = torch.randn(4, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def make(cls, **params):
    """Return a model of the class, with the same weights whatever the class."""
    torch.manual_seed(0)
    encoder = nn.Sequential(nn.Linear(6, 8), nn.Tanh())
    model = cls(encoder, nn.Linear(2, 6), 2, **params)
    model.build(X.float())
    return model.double()


def loss(model, S=None, context=None, seed=1):
    torch.manual_seed(seed)
    output = model(X, S=model.n_draws if S is None else S)
    return model.compute_loss(X, output, context=context)


def log_weights(model, S, seed=1):
    """log p(x, z) - log q(z | x), by torch.distributions."""
    torch.manual_seed(seed)
    output = model(X, S=S)
    mu, sigma = output.mu[:, None], torch.exp(0.5 * output.log_var[:, None])
    # The likelihood comes without its constant.
    log_px = (Normal(output.x_hat, 1.0).log_prob(X[:, None]) + 0.5 * math.log(2 * math.pi)).sum(-1)
    ratio = Normal(0.0, 1.0).log_prob(output.z) - Normal(mu, sigma).log_prob(output.z)
    return log_px + ratio.sum(-1)


def gradients(objective, parameters):
    return torch.autograd.grad(objective, list(parameters), retain_graph=True)


def encoder_parameters(model):
    return [*model.encoder.parameters(), *model.sampling_layer.parameters()]


class TestTheBound:
    def test_of_iwae_is_the_log_of_the_mean_weight(self):
        model = make(IWAE, n_samples=7)
        expected = log_weights(model, 7).exp().mean(1).log().mean()
        result = loss(model)
        torch.testing.assert_close(-result.objective, expected)
        torch.testing.assert_close(result.diagnostics["iw_bound"], expected.detach())

    def test_of_miwae_is_the_mean_over_estimates_of_the_log_of_the_mean_weight(self):
        model = make(MIWAE, n_estimates=2, n_samples=3)
        weights = log_weights(model, 6).exp()
        first, second = weights[:, :3].mean(1).log(), weights[:, 3:].mean(1).log()
        torch.testing.assert_close(-loss(model).objective, 0.5 * (first + second).mean())

    def test_of_ciwae_weighs_the_two(self):
        expected = 0.3 * loss(make(VAE), S=5).objective
        expected = expected + 0.7 * loss(make(IWAE, n_samples=5)).objective
        found = loss(make(CIWAE, n_samples=5, beta=0.3)).objective
        torch.testing.assert_close(found, expected)

    def test_of_piwae_is_that_of_all_latents_for_the_decoder_alone(self):
        result = loss(make(PIWAE, n_estimates=2, n_samples=3))
        torch.testing.assert_close(result.objective, loss(make(IWAE, n_samples=6)).objective)
        bound = loss(make(MIWAE, n_estimates=2, n_samples=3)).objective
        torch.testing.assert_close(result.players["encoder"], bound)
        torch.testing.assert_close(result.diagnostics["miwae_bound"], -bound.detach())

    def test_the_elbo_beside_it_is_that_of_the_vae(self):
        expected = loss(make(VAE), S=6).diagnostics
        for cls in (IWAE, MIWAE, PIWAE, CIWAE):
            found = loss(make(cls), S=6).diagnostics
            for name, value in expected.items():
                torch.testing.assert_close(found[name], value)
            assert found["iw_bound"] > found["elbo"]

    def test_warm_up_takes_the_ratio_out_of_the_objective_and_not_out_of_the_reports(self):
        model = make(IWAE, n_samples=5)
        result = loss(model, context=StepContext(beta=0.0))
        torch.manual_seed(1)
        log_px = model.log_px(X, model(X, S=5))
        torch.testing.assert_close(-result.objective, log_px.exp().mean(1).log().mean())
        for name, value in loss(model).diagnostics.items():
            torch.testing.assert_close(result.diagnostics[name], value)


class TestIdentities:
    @pytest.mark.parametrize(
        ("one", "other"),
        [
            ((MIWAE, {"n_estimates": 1, "n_samples": 5}), (IWAE, {"n_samples": 5})),
            ((PIWAE, {"n_estimates": 1, "n_samples": 5}), (IWAE, {"n_samples": 5})),
            ((CIWAE, {"n_samples": 5, "beta": 0.0}), (IWAE, {"n_samples": 5})),
            ((CIWAE, {"n_samples": 5, "beta": 1.0}), (VAE, {})),
        ],
    )
    def test_two_models_are_one(self, one, other):
        one, other = (make(cls, **params) for cls, params in (one, other))
        a, b = loss(one, S=5), loss(other, S=5)
        torch.testing.assert_close(a.objective, b.objective)
        for found, expected in zip(
            gradients(a.objective, one.parameters()),
            gradients(b.objective, other.parameters()),
            strict=True,
        ):
            torch.testing.assert_close(found, expected)

    def test_estimates_of_one_latent_make_the_vae_s_bound(self):
        model = make(MIWAE, n_estimates=6, n_samples=1)
        torch.testing.assert_close(-loss(model).objective, log_weights(model, 6).mean())

    def test_estimates_and_latents_do_not_swap(self):
        many_latents = loss(make(MIWAE, n_estimates=2, n_samples=12)).objective
        many_estimates = loss(make(MIWAE, n_estimates=12, n_samples=2)).objective
        # The bound of 12 latents is the tighter one, by far more than the noise of 24 of them.
        assert many_latents < many_estimates - 0.1


class TestGradients:
    def test_piwae_has_the_encoder_s_of_miwae_and_the_decoder_s_of_iwae(self):
        piwae = make(PIWAE, n_estimates=2, n_samples=3)
        miwae, iwae = make(MIWAE, n_estimates=2, n_samples=3), make(IWAE, n_samples=6)
        result = loss(piwae)
        player = piwae.player_parameters()["encoder"]
        assert {id(p) for p in player} == {id(p) for p in encoder_parameters(piwae)}
        pairs = [
            (
                gradients(result.players["encoder"], player),
                gradients(loss(miwae).objective, encoder_parameters(miwae)),
            ),
            (
                gradients(result.objective, piwae.decoder.parameters()),
                gradients(loss(iwae).objective, iwae.decoder.parameters()),
            ),
        ]
        for found, expected in pairs:
            for a, b in zip(found, expected, strict=True):
                torch.testing.assert_close(a, b)

    @pytest.mark.parametrize("beta", [1.0, 0.4])
    @pytest.mark.parametrize(
        ("cls", "params"), [(IWAE, {"n_samples": 4}), (MIWAE, {"n_estimates": 2, "n_samples": 4})]
    )
    def test_the_doubly_reparametrized_one_is_the_same_on_average(self, cls, params, beta):
        context = StepContext(beta=beta)
        means, errors = [], []
        for gradient in ("reparametrized", "doubly_reparametrized"):
            model = make(cls, gradient=gradient, **params)
            bias = model.sampling_layer.mu.bias
            torch.manual_seed(3)
            draws = []
            for _ in range(100):
                x = X.repeat(50, 1)
                objective = model.compute_loss(x, model(x, S=model.n_draws), context=context)
                draws.append(gradients(objective.objective, [bias])[0])
            draws = torch.stack(draws)
            means.append(draws.mean(0))
            errors.append(draws.std(0) / 10)
        assert (errors[1] < errors[0]).all()
        assert ((means[0] - means[1]).abs() < 5 * (errors[0] ** 2 + errors[1] ** 2).sqrt()).all()
        # The test can tell: the two are far from zero.
        assert (means[0].abs() > 20 * errors[0]).any()

    def test_the_decoder_s_does_not_depend_on_the_encoder_s_estimator(self):
        found = [
            gradients(loss(model).objective, model.decoder.parameters())
            for model in (make(IWAE), make(IWAE, gradient="doubly_reparametrized"))
        ]
        for a, b in zip(*found, strict=True):
            torch.testing.assert_close(a, b)

    def test_the_doubly_reparametrized_one_has_no_noise_at_the_true_posterior(self):
        model = linear_gaussian(IWAE, share=0.5, variance=0.5, gradient="doubly_reparametrized")
        x = torch.randn(20, 1, dtype=torch.float64)
        plain = linear_gaussian(IWAE, share=0.5, variance=0.5)
        for candidate, noisy in ((model, False), (plain, True)):
            torch.manual_seed(0)
            objective = candidate.compute_loss(x, candidate(x, S=10)).objective
            norms = [g.abs().max() for g in gradients(objective, encoder_parameters(candidate))]
            assert (max(norms) > 1e-3) == noisy

    def test_the_loss_is_there_without_gradients(self):
        model = make(IWAE, gradient="doubly_reparametrized")
        with torch.no_grad():
            assert math.isfinite(loss(model).objective)


def linear_gaussian(cls, share, variance, **params):
    """Return p(z) = N(0, 1), p(x | z) = N(z, 1), q(z | x) = N(share x, variance)."""
    model = cls(nn.Identity(), nn.Identity(), 1, likelihood=GaussianLikelihood(1.0), **params)
    model.build(torch.zeros(2, 1))
    layer = model.sampling_layer
    with torch.no_grad():
        layer.mu.weight.fill_(share), layer.mu.bias.zero_()
        layer.log_var.weight.zero_(), layer.log_var.bias.fill_(math.log(variance))
    return model.double()


class TestKnownEvidence:
    def test_bounds_rise_with_the_latents_and_stay_below(self):
        torch.manual_seed(0)
        x = math.sqrt(2) * torch.randn(20_000, 1, dtype=torch.float64)
        evidence = Normal(0.0, math.sqrt(2)).log_prob(x).mean().item()
        bounds = []
        for n_samples in (1, 3, 10):
            model = linear_gaussian(IWAE, share=0.3, variance=0.9, n_samples=n_samples)
            with torch.no_grad():
                output = model(x, S=n_samples)
                bounds.append(-model.compute_loss(x, output).objective.item())
        # Standard errors of the steps are some 0.003.
        assert all(after > before + 0.02 for before, after in itertools.pairwise(bounds))
        assert evidence - 0.02 < bounds[-1] < evidence

    def test_the_bound_is_exact_at_the_true_posterior(self):
        x = torch.randn(5, 1, dtype=torch.float64)
        model = linear_gaussian(MIWAE, share=0.5, variance=0.5, n_estimates=2, n_samples=3)
        expected = Normal(0.0, math.sqrt(2)).log_prob(x).mean()
        torch.testing.assert_close(-model.compute_loss(x, model(x, S=6)).objective, expected)


class TestTraining:
    @pytest.mark.parametrize("cls", [IWAE, MIWAE, PIWAE, CIWAE])
    def test_the_bound_rises_on_digits(self, cls):
        digits = torch.tensor(load_digits().data[:400] / 16, dtype=torch.float32)
        torch.manual_seed(0)
        networks = MLPEncoder((64,), (32,)), MLPDecoder(4, (64,), (32,))
        model = cls(*networks, 4, n_samples=3, likelihood=GaussianLikelihood())
        model.build(digits)
        config = TrainingConfig(n_epochs=15, batch_size=100, learning_rate=5e-3, warmup_steps=0)
        generator = torch.Generator().manual_seed(0)
        history = train(model, (digits,), config, generator=generator).history
        bounds = [entry["iw_bound"] for entry in history]
        assert all(math.isfinite(bound) for bound in bounds)
        assert bounds[-1] > bounds[0] + 20

    def test_as_many_latents_are_drawn_as_the_bound_needs(self):
        drawn = []
        model = make(MIWAE, n_estimates=2, n_samples=3)
        model.decoder.register_forward_hook(lambda module, args, output: drawn.append(len(output)))
        model.training_loss((X,), StepContext())
        assert drawn == [len(X) * 6]

    def test_fewer_latents_than_an_estimate_takes_make_one_estimate(self):
        found = loss(make(MIWAE, n_estimates=2, n_samples=5), S=1).objective
        torch.testing.assert_close(found, loss(make(IWAE), S=1).objective)


class TestErrors:
    @pytest.mark.parametrize(
        ("cls", "params", "message"),
        [
            (IWAE, {"n_samples": 0}, "n_samples=0"),
            (IWAE, {"n_samples": 2.5}, r"n_samples=2\.5"),
            (MIWAE, {"n_estimates": 0}, "n_estimates=0"),
            (CIWAE, {"beta": 1.5}, r"beta=1\.5.*at least 0 and at most 1"),
            (IWAE, {"gradient": "score"}, "gradient='score'"),
        ],
    )
    def test_parameters_out_of_range_are_named(self, cls, params, message):
        with pytest.raises(ValueError, match=message):
            make(cls, **params)

    def test_latents_that_do_not_make_whole_estimates_are_refused(self):
        with pytest.raises(ValueError, match=r"S=7 .* multiple of n_samples=3"):
            loss(make(MIWAE, n_estimates=2, n_samples=3), S=7)
