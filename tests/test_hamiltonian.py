"""The Hamiltonian VAE, against the closed form of a linear Gaussian model."""

import pickle
import warnings

import pytest
import torch
from torch import nn
from torch.distributions import MultivariateNormal

from skvae.models import HVAE, VAE, BernoulliLikelihood, GaussianLikelihood, StepContext
from skvae.models.hamiltonian import MAX_STEP_SIZE, eval_mode


def small(cls=HVAE, n_features=6, latent_dim=2, seed=0, **params):
    torch.manual_seed(seed)
    encoder = nn.Sequential(nn.Linear(n_features, 16), nn.Tanh())
    decoder = nn.Sequential(nn.Linear(latent_dim, 16), nn.Tanh(), nn.Linear(16, n_features))
    model = cls(encoder, decoder, latent_dim, **params)
    model.build(torch.zeros(2, n_features))
    return model


def linear_gaussian(cls=HVAE, variance=0.5, **params):
    """Return a model with p(x) = N(b, W W^T + variance I), rows, and their log p(x)."""
    torch.manual_seed(0)
    decoder = nn.Linear(2, 3)
    likelihood = GaussianLikelihood(variance)
    model = cls(nn.Linear(3, 4), decoder, 2, likelihood=likelihood, **params).double()
    x = torch.randn(4, 3, dtype=torch.float64)
    model.build(x)
    with torch.no_grad():
        # Wide enough to cover the posteriors: the estimates then have a small variance.
        model.sampling_layer.mu.weight.mul_(0.2)
        model.sampling_layer.log_var.weight.zero_()
        model.sampling_layer.log_var.bias.fill_(0.3)
    W, b = decoder.weight.detach(), decoder.bias.detach()
    covariance = W @ W.T + variance * torch.eye(3, dtype=torch.float64)
    return model.eval(), x, MultivariateNormal(b, covariance).log_prob(x)


@torch.no_grad()
def mean_ratio(model, x, log_px, n_draws=20_000):
    """Return the mean of the estimates of p(x) over p(x), and its standard error."""
    ratios = torch.exp(model.log_weights(x, n_draws) - log_px.unsqueeze(1))
    return ratios.mean(1), ratios.std(1) / n_draws**0.5


def adam_steps(model, x, n_steps, learning_rate=1e-2):
    model.train()
    optimizer = torch.optim.Adam(model.parameters(), learning_rate)
    losses = []
    for _ in range(n_steps):
        loss = model.training_loss((x,), StepContext()).objective
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    return losses


class TestEstimator:
    @pytest.mark.parametrize("n_leapfrog", [0, 1, 3])
    @pytest.mark.parametrize("beta_zero", [0.3, 1.0])
    def test_estimates_of_the_density_are_unbiased(self, n_leapfrog, beta_zero):
        model, x, log_px = linear_gaussian(
            n_leapfrog=n_leapfrog, beta_zero=beta_zero, step_size=0.3
        )
        mean, error = mean_ratio(model, x, log_px)
        assert (error < 0.03).all()  # a wrong Jacobian is off by factors of 0.3
        assert ((mean - 1).abs() < 5 * error).all()

    def test_the_bound_lies_below_the_density_and_dynamics_raise_it(self):
        bounds = {}
        for n_leapfrog in (0, 3):
            model, x, log_px = linear_gaussian(n_leapfrog=n_leapfrog, beta_zero=1.0, step_size=0.4)
            with torch.no_grad():
                bounds[n_leapfrog] = model.log_weights(x, 5000).mean(1)
            assert (bounds[n_leapfrog] < log_px).all()
        assert bounds[3].mean() > bounds[0].mean() + 0.05

    def test_the_loss_is_the_mean_of_the_log_weights(self):
        model, x, _ = linear_gaussian()
        torch.manual_seed(1)
        weights = model.log_weights(x, 5)
        torch.manual_seed(1)
        result = model.compute_loss(x, model(x, S=5))
        torch.testing.assert_close(result.objective, -weights.mean())
        torch.testing.assert_close(result.diagnostics["elbo"], weights.mean().detach())

    def test_the_warm_up_and_free_nats_weigh_the_rate(self):
        model, x, _ = linear_gaussian()
        output = model(x)
        rate, log_px = output.rate.mean(), model.log_px(x, output).mean()
        halved = model.compute_loss(x, output, context=StepContext(beta=0.5)).objective
        torch.testing.assert_close(halved, 0.5 * rate - log_px)
        floored = model.compute_loss(x, output, context=StepContext(free_nats=100.0)).objective
        torch.testing.assert_close(floored, 100 - log_px)

    def test_a_sharp_likelihood_does_not_blow_the_dynamics_up(self):
        model, x, _ = linear_gaussian(variance=1e-4, step_size=0.45)
        with torch.no_grad():
            output = model(x, S=200)
        # The posterior is 1/100 as wide as this encoder's: forces are far out of proportion.
        assert torch.isfinite(output.rate).all()
        assert (output.z - output.mu.unsqueeze(1)).abs().max() < 50


class TestDynamics:
    @pytest.mark.parametrize("beta_zero", [0.1, 1.0])
    def test_the_volume_shrinks_by_the_tempering_alone(self, beta_zero):
        model = small(beta_zero=beta_zero, step_size=0.4).double().eval()
        x, log_var = torch.randn(1, 6, dtype=torch.float64), torch.full((1, 2), -1.0).double()

        def flow(state):
            z, rho = state.view(2, 1, 1, 2)
            return torch.cat(model._leapfrog(x, z, rho, log_var)).flatten()

        state = torch.randn(4, dtype=torch.float64)
        jacobian = torch.autograd.functional.jacobian(flow, state)
        expected = torch.tensor(beta_zero, dtype=torch.float64)  # sqrt(beta_zero) per dimension
        torch.testing.assert_close(torch.linalg.det(jacobian), expected)

    def test_steps_conserve_energy_to_their_second_order(self):
        model, x, _ = linear_gaussian(beta_zero=1.0)
        z, rho = torch.randn(2, 4, 50, 2, dtype=torch.float64)
        log_var = torch.full((4, 2), -1.0, dtype=torch.float64)

        @torch.no_grad()
        def energy_error(step_size):
            model.n_leapfrog = round(1 / step_size)
            model.step_logits.fill_(torch.logit(torch.tensor(step_size / MAX_STEP_SIZE)))

            def energy(z, rho):
                log_joint = model.likelihood.log_prob(x, model._decode(z).x_hat)
                return 0.5 * rho.square().sum(-1) - log_joint - model.log_prior(z)

            end = model._leapfrog(x, z, rho, log_var)
            return (energy(*end) - energy(z, rho)).abs().mean()

        assert energy_error(0.1) < 0.02
        ratio = float(energy_error(0.2) / energy_error(0.1))
        assert ratio == pytest.approx(4, rel=0.1)

    def test_tempering_has_an_effect_and_ends_at_temperature_one(self):
        model = small(beta_zero=0.3)
        factors = torch.tensor(model._cooling())
        assert (factors < 1).all()
        torch.testing.assert_close(factors.prod(), torch.tensor(0.3).sqrt())

    def test_the_dynamics_see_the_likelihood_as_in_evaluation(self):
        model = small(likelihood=GaussianLikelihood("optimal")).train()
        x = torch.randn(8, 6)
        model(x)
        assert model.likelihood.scale.n_updates == 0
        assert model.likelihood.training
        model.training_loss((x,), StepContext())
        assert model.likelihood.scale.n_updates == 1

    def test_steps_are_proportional_to_the_width_of_the_posterior(self):
        model = small(step_size=0.1, n_leapfrog=1, beta_zero=1.0).eval()
        with torch.no_grad():
            for layer in (model.decoder[0], model.sampling_layer.log_var):
                layer.weight.zero_()
            model.sampling_layer.log_var.bias.copy_(torch.tensor([-8.0, 0.0]))
            x = torch.randn(2, 6)
            torch.manual_seed(0)
            end = model(x, S=500)
            torch.manual_seed(0)
            start = model._encode(x, S=500)
        moved = (end.z - start.z).std((0, 1))
        torch.testing.assert_close(
            moved[0] / moved[1], torch.exp(torch.tensor(-4.0)), rtol=0.2, atol=0
        )


class TestModel:
    def test_without_steps_it_is_the_vae(self):
        vae, model = small(VAE), small(n_leapfrog=0)
        vae.load_state_dict({k: v for k, v in model.state_dict().items() if k != "step_logits"})
        x = torch.randn(5, 6)
        found = []
        for each in (vae, model):
            torch.manual_seed(3)
            result = each.training_loss((x,), StepContext())
            result.objective.backward()
            gradient = each.decoder[0].weight.grad
            found.append((result.objective, gradient, each.log_weights(x, 4), torch.rand(1)))
        for expected, value in zip(*found, strict=True):
            torch.testing.assert_close(value, expected, rtol=0, atol=0)

    def test_embeddings_are_the_means_of_the_encoder(self):
        model = small().eval()
        x = torch.randn(5, 6)
        torch.testing.assert_close(model.embed(x), model.encode(x).mu)
        assert model.draw_latents(x).shape == (5, 2)
        assert not torch.equal(model.draw_latents(x), model.draw_latents(x))

    def test_the_mean_is_decoded_without_dynamics(self):
        model = small().eval()
        x = torch.randn(5, 6)
        output = model(x, sample=False)
        torch.testing.assert_close(output.z[:, 0], output.mu)

    @pytest.mark.parametrize("n_rows", [1, 3])
    def test_validation_works_without_gradients_and_training_with_them(self, n_rows):
        model = small()
        x = torch.randn(n_rows, 6)
        model.eval()
        with torch.no_grad():
            result = model.training_loss((x,), StepContext())
            assert not result.objective.requires_grad
            assert torch.isfinite(model.log_weights(x, 3)).all()
            assert not model.draw_latents(x).requires_grad
        model.train()
        model.training_loss((x,), StepContext()).objective.backward()
        for name, parameter in model.named_parameters():
            assert torch.isfinite(parameter.grad).all(), name
            assert parameter.grad.abs().sum() > 0, name

    def test_the_gradient_goes_through_the_dynamics(self):
        model, x, _ = linear_gaussian(n_leapfrog=2)

        def loss(weight):
            torch.manual_seed(0)
            output = torch.func.functional_call(model, {"decoder.weight": weight}, (x,))
            return output.rate.mean()

        weight = model.decoder.weight.detach().clone().requires_grad_()
        assert torch.autograd.gradcheck(loss, weight)

    def test_frozen_encoders_leave_the_decoder_to_learn(self):
        model = small().requires_grad_(False)
        model.decoder.requires_grad_(True)
        model.training_loss((torch.randn(4, 6),), StepContext()).objective.backward()
        assert model.decoder[0].weight.grad.abs().sum() > 0

    def test_step_sizes_start_as_asked_and_stay_fixed_if_not_learned(self):
        model = small(step_size=0.2, learn_step_size=False)
        adam_steps(model, torch.randn(8, 6), 3)
        torch.testing.assert_close(model.step_sizes(), torch.full((2,), 0.2))
        model = small(step_size=0.2)
        adam_steps(model, torch.randn(8, 6), 3)
        assert (model.step_sizes() != 0.2).all()

    def test_images_doubles_and_other_likelihoods(self):
        torch.manual_seed(0)
        encoder = nn.Sequential(nn.Flatten(), nn.LazyLinear(8), nn.ReLU())
        decoder = nn.Sequential(nn.LazyLinear(32), nn.Unflatten(1, (2, 4, 4)))
        model = HVAE(encoder, decoder, 3, likelihood=BernoulliLikelihood()).double()
        x = torch.rand(5, 2, 4, 4, dtype=torch.float64)
        model.build(x)
        output = model(x, S=2)
        assert output.x_hat.shape == (5, 2, 2, 4, 4)
        assert output.rate.dtype == torch.float64
        assert model.log_weights(x, 7).shape == (5, 7)

    def test_training_is_stable_as_the_likelihood_sharpens(self):
        torch.manual_seed(0)
        x = torch.randn(64, 2) @ torch.randn(2, 6)
        model = small(likelihood=GaussianLikelihood("optimal"), step_size=0.4)
        losses = adam_steps(model, x, 300)
        assert torch.isfinite(torch.tensor(losses)).all()
        assert model.likelihood.variance() < 0.1
        assert losses[-1] < losses[0] - 2

    def test_rows_of_large_scale_leave_everything_finite(self):
        model = small()
        x = 1e4 * torch.randn(8, 6)
        result = model.training_loss((x,), StepContext())
        result.objective.backward()
        assert torch.isfinite(result.objective)
        for name, parameter in model.named_parameters():
            assert torch.isfinite(parameter.grad).all(), name

    def test_pickles(self):
        model = small().eval()
        copy = pickle.loads(pickle.dumps(model))
        x = torch.randn(3, 6)
        found = []
        for each in (model, copy):
            torch.manual_seed(0)
            found.append(each(x).rate)
        torch.testing.assert_close(*found, rtol=0, atol=0)

    @pytest.mark.parametrize(
        "params",
        [{"n_leapfrog": -1}, {"beta_zero": 0.0}, {"beta_zero": 2.0}, {"step_size": 0.5}],
    )
    def test_parameters_out_of_range_are_refused_by_name(self, params):
        with pytest.raises(ValueError, match=next(iter(params))):
            small(**params)


def test_eval_mode_restores_each_part():
    model = nn.Sequential(nn.Dropout(), nn.Dropout())
    model[1].eval()
    with warnings.catch_warnings(), eval_mode(model):
        assert not any(part.training for part in model.modules())
    assert [part.training for part in model.modules()] == [True, True, False]
