"""The Riemannian Hamiltonian VAE and its metric, against autograd and closed forms."""

import pickle

import pytest
import torch
from torch import nn
from torch.distributions import MultivariateNormal

from skvae.models import RHVAE, VAE, GaussianLikelihood, KernelMetric, StepContext
from skvae.models.riemannian import MAX_ENTRY, spread_rows


def small(cls=RHVAE, n_features=6, latent_dim=2, **params):
    torch.manual_seed(0)
    encoder = nn.Sequential(nn.Linear(n_features, 16), nn.Tanh())
    decoder = nn.Sequential(nn.Linear(latent_dim, 16), nn.Tanh(), nn.Linear(16, n_features))
    model = cls(encoder, decoder, latent_dim, **params)
    model.build(torch.zeros(2, n_features))
    return model


def random_metric(n_centroids=7, latent_dim=3, temperature=1.3, regularization=0.05):
    torch.manual_seed(1)
    centroids = torch.randn(n_centroids, latent_dim, dtype=torch.float64)
    factors = torch.randn(n_centroids, latent_dim, latent_dim, dtype=torch.float64).tril()
    return KernelMetric(centroids, factors, temperature, regularization), centroids, factors


def linear_gaussian(**params):
    """Return a model with a metric and p(x) = N(b, W W^T + I / 2), rows, and their log p(x)."""
    torch.manual_seed(0)
    decoder = nn.Linear(2, 3)
    likelihood = GaussianLikelihood(0.5)
    model = RHVAE(nn.Linear(3, 4), decoder, 2, likelihood=likelihood, n_centroids=20, **params)
    model.double()
    x = torch.randn(4, 3, dtype=torch.float64)
    model.build(x)
    with torch.no_grad():
        # Wide enough to cover the posteriors: the estimates then have a small variance.
        model.sampling_layer.mu.weight.mul_(0.5)
        model.sampling_layer.log_var.weight.zero_()
        model.sampling_layer.log_var.bias.fill_(0.3)
        model.metric_head.weight.mul_(5)
    model.finalize(torch.randn(40, 3, dtype=torch.float64))
    W, b = decoder.weight.detach(), decoder.bias.detach()
    covariance = W @ W.T + 0.5 * torch.eye(3, dtype=torch.float64)
    return model.eval(), x, MultivariateNormal(b, covariance).log_prob(x)


def adam_steps(model, x, n_steps, batch_size=32):
    model.train()
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    losses = []
    for step in range(n_steps):
        batch = x[torch.arange(step * batch_size, (step + 1) * batch_size) % len(x)]
        loss = model.training_loss((batch,), StepContext()).objective
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    return losses


class TestMetric:
    def test_the_inverse_is_the_sum_of_kernels(self):
        metric, centroids, factors = random_metric()
        z = torch.randn(5, 3, dtype=torch.float64)
        expected = 0.05 * torch.eye(3, dtype=torch.float64).repeat(5, 1, 1)
        for n in range(5):
            for c, L in zip(centroids, factors, strict=True):
                expected[n] += L @ L.T * torch.exp(-(z[n] - c).square().sum() / 1.3**2)
        at = metric.at(z)
        torch.testing.assert_close(at.inverse, expected)
        torch.testing.assert_close(at.cholesky @ at.cholesky.mT, expected)
        torch.testing.assert_close(at.log_det_inverse(), torch.logdet(expected))

    @pytest.mark.parametrize("with_momentum", [False, True])
    def test_the_force_is_the_gradient_of_the_energy(self, with_momentum):
        metric, *_ = random_metric()
        z = torch.randn(5, 3, dtype=torch.float64, requires_grad=True)
        rho = torch.randn(5, 3, dtype=torch.float64) * with_momentum
        inverse = metric.inverse(metric.kernels(z))
        kinetic = 0.5 * torch.einsum("ni,nij,nj->n", rho, inverse, rho)
        (expected,) = torch.autograd.grad((kinetic - 0.5 * torch.logdet(inverse)).sum(), z)
        at = metric.at(z.detach())
        outer = rho.unsqueeze(2) * rho.unsqueeze(1)
        found = metric.force(at, torch.linalg.inv(at.inverse) - outer)
        torch.testing.assert_close(found, expected)

    def test_factors_that_are_zero_have_no_part(self):
        metric, centroids, factors = random_metric()
        padded = KernelMetric(
            torch.cat([centroids, torch.zeros(4, 3)]),
            torch.cat([factors, torch.zeros(4, 3, 3)]),
            1.3,
            0.05,
        )
        z = torch.randn(5, 3, dtype=torch.float64)
        torch.testing.assert_close(padded.at(z).inverse, metric.at(z).inverse)

    def test_the_model_gives_metric_inverse_and_volume_of_many_points(self):
        model, *_ = linear_gaussian()
        z = torch.randn(5000, 2, dtype=torch.float64)  # more than one chunk
        G, inverse, log_det = model.metric(z)
        eye = torch.eye(2, dtype=torch.float64).expand_as(G)
        torch.testing.assert_close(G @ inverse, eye)
        torch.testing.assert_close(log_det, torch.logdet(G))
        assert torch.linalg.eigvalsh(inverse).min() >= model.regularization

    def test_far_from_the_data_it_is_the_floor(self):
        model, *_ = linear_gaussian(regularization=0.02)
        _, inverse, _ = model.metric(torch.full((1, 2), 50.0, dtype=torch.float64))
        torch.testing.assert_close(inverse[0], 0.02 * torch.eye(2, dtype=torch.float64))

    def test_factors_are_lower_triangular_positive_and_bounded(self):
        model = small(latent_dim=4)
        with torch.no_grad():
            model.metric_head.weight.mul_(100)
            factors = model._find_factors(torch.randn(50, 6))
        assert torch.equal(factors, factors.tril())
        assert (factors.diagonal(dim1=1, dim2=2) > 0).all()
        assert factors.abs().max() < MAX_ENTRY + 0.1

    def test_one_latent_dimension(self):
        model = small(latent_dim=1)
        model.training_loss((torch.randn(4, 6),), StepContext()).objective.backward()
        assert model.metric(torch.zeros(3, 1))[0].shape == (3, 1, 1)


class TestEstimator:
    @pytest.mark.parametrize("beta_zero", [0.3, 1.0])
    def test_estimates_of_the_density_are_unbiased(self, beta_zero):
        model, x, log_px = linear_gaussian(beta_zero=beta_zero, step_size=0.3)
        with torch.no_grad():
            ratios = torch.exp(model.log_weights(x, 20_000) - log_px.unsqueeze(1))
        mean, error = ratios.mean(1), ratios.std(1) / 20_000**0.5
        assert (error < 0.03).all()  # a wrong Jacobian is off by a factor of 0.3
        # The iterations' own error is small beside the noise here.
        assert ((mean - 1).abs() < 5 * error).all()

    def test_momenta_are_drawn_from_the_metric(self):
        model, x, _ = linear_gaussian(n_leapfrog=1, beta_zero=1.0, step_size=1e-3)
        with torch.no_grad():
            output = model(x, S=5000)
            # With hardly any motion energy stays: the momentum's densities cancel.
            rate = model.log_posterior(output) - model.log_prior(output.z)
        torch.testing.assert_close(output.rate, rate, atol=0.02, rtol=0)

    def test_the_volume_shrinks_by_the_tempering_alone(self):
        model, x, _ = linear_gaussian(beta_zero=0.3, step_size=0.3, n_fixed_point=12)
        metric = model._metric(model.centroids, model.factors)
        encoded = model._encode(x[:1])

        def flow(state):
            encoded.z = state[:2].view(1, 1, 2)
            at = metric.at(state[:2].view(1, 2))
            at, rho = model._implicit_leapfrog(x[:1], metric, at, state[2:].view(1, 2), encoded)
            return torch.cat([at.z, rho]).flatten()

        state = torch.tensor([0.3, -0.2, 1.0, 0.5], dtype=torch.float64)
        jacobian = torch.autograd.functional.jacobian(flow, state)
        expected = torch.tensor(0.3, dtype=torch.float64)
        torch.testing.assert_close(torch.linalg.det(jacobian), expected, rtol=1e-4, atol=0)
        # The metric varies enough over the step that an explicit one would not keep the volume.
        model.n_fixed_point = 1
        jacobian = torch.autograd.functional.jacobian(flow, state)
        assert (torch.linalg.det(jacobian) - expected).abs() > 1e-3

    def test_a_sharp_likelihood_does_not_blow_the_dynamics_up(self):
        model, x, _ = linear_gaussian(step_size=0.45)
        model.likelihood = GaussianLikelihood(1e-5).double()
        with torch.no_grad():
            output = model(x, S=500)
        assert torch.isfinite(output.rate).all()
        assert torch.isfinite(output.z).all()


class TestModel:
    def test_without_steps_it_is_the_vae(self):
        vae, model = small(VAE), small(n_leapfrog=0)
        state = {k: v for k, v in model.state_dict().items() if k in vae.state_dict()}
        vae.load_state_dict(state)
        x = torch.randn(5, 6)
        found = []
        for each in (vae, model):
            torch.manual_seed(3)
            result = each.training_loss((x,), StepContext())
            found.append((result.objective, each.log_weights(x, 4), torch.rand(1)))
        for expected, value in zip(*found, strict=True):
            torch.testing.assert_close(value, expected, rtol=0, atol=0)

    @pytest.mark.parametrize("n_rows", [1, 3])
    def test_gradients_reach_every_part_and_validation_needs_none(self, n_rows):
        model = small(n_centroids=2)
        x = torch.randn(n_rows, 6)
        model.training_loss((x,), StepContext()).objective.backward()
        for name, parameter in model.named_parameters():
            assert torch.isfinite(parameter.grad).all(), name
            assert parameter.grad.abs().sum() > 0, name
        model.eval()
        with torch.no_grad():
            assert not model.training_loss((x,), StepContext()).objective.requires_grad
            assert torch.isfinite(model.log_weights(x, 3)).all()

    def test_in_evaluation_rows_do_not_depend_on_their_batch(self):
        model, x, _ = linear_gaussian()
        found = []
        for rows in (x[[0, 1]], x[[0, 2]]):
            torch.manual_seed(0)
            found.append(model.draw_latents(rows)[0])
        torch.testing.assert_close(*found)

    def test_an_untrained_model_evaluates(self):
        model = small().eval()
        assert torch.isfinite(model.log_weights(torch.randn(3, 6), 2)).all()

    def test_images_and_doubles(self):
        torch.manual_seed(0)
        encoder = nn.Sequential(nn.Flatten(), nn.LazyLinear(8), nn.ReLU())
        decoder = nn.Sequential(nn.LazyLinear(32), nn.Unflatten(1, (2, 4, 4)))
        model = RHVAE(encoder, decoder, 3, n_centroids=4).double()
        x = torch.rand(5, 2, 4, 4, dtype=torch.float64)
        model.build(x)
        assert model(x, S=2).x_hat.shape == (5, 2, 2, 4, 4)
        model.finalize(x)
        assert model.eval()(x).rate.dtype == torch.float64

    def test_training_is_stable_as_the_likelihood_sharpens(self):
        torch.manual_seed(0)
        x = torch.randn(64, 2) @ torch.randn(2, 6)
        model = small(likelihood=GaussianLikelihood("optimal"), step_size=0.4)
        losses = adam_steps(model, x, 200)
        assert torch.isfinite(torch.tensor(losses)).all()
        assert model.likelihood.variance() < 0.4
        assert losses[-1] < losses[0] - 2

    @pytest.mark.parametrize(
        "params",
        [{"n_centroids": 0}, {"temperature": 0.0}, {"regularization": 0.0}, {"n_fixed_point": 0}],
    )
    def test_parameters_out_of_range_are_refused_by_name(self, params):
        with pytest.raises(ValueError, match=next(iter(params))):
            small(**params)


class TestBuffers:
    def test_training_keeps_the_last_rows(self):
        model = small(n_centroids=10).train()
        x = torch.randn(24, 6)
        for batch in x.split(6):
            model.training_loss((batch,), StepContext())
        assert model.n_written == 24
        kept = model.embed(x[-10:])
        distances = torch.cdist(model.centroids, kept)
        assert distances.min(1).values.max() < 1e-4
        assert distances.min(0).values.max() < 1e-4

    def test_large_batches_leave_as_many_rows_as_there_are_centroids(self):
        model = small(n_centroids=10).train()
        model.training_loss((torch.randn(50, 6),), StepContext())
        assert model.centroids.shape == (10, 2)
        assert model.factors.flatten(1).any(1).all()

    def test_evaluation_leaves_them_alone(self):
        model = small(n_centroids=10).eval()
        model.training_loss((torch.randn(5, 6),), StepContext())
        assert model.n_written == 0

    @pytest.mark.parametrize("n_rows", [3, 200])
    def test_finalize_takes_rows_spread_over_the_data(self, n_rows):
        model = small(n_centroids=10).train()
        x = torch.randn(n_rows, 6)
        model.training_loss((x[:3],), StepContext())
        model.finalize(x)
        assert model.training
        used = model.factors.flatten(1).any(1)
        assert used.sum() == min(n_rows, 10) == model.n_written
        means = model.embed(x)
        distances = torch.cdist(model.centroids[used], means)
        assert distances.min(1).values.max() < 1e-4
        rows = distances.argmin(1)
        torch.testing.assert_close(model.factors[used], model._find_factors(x[rows]))

    def test_spread_rows_covers_clusters_of_unlike_size(self):
        torch.manual_seed(0)
        centres = torch.tensor([[0.0, 0.0], [10.0, 0.0], [0.0, 10.0]])
        sizes = torch.tensor([900, 80, 20])
        labels = torch.repeat_interleave(torch.arange(3), sizes)
        points = centres[labels] + torch.randn(1000, 2)
        rows = spread_rows(points, 30)
        assert len(rows.unique()) == len(rows) <= 30
        assert set(labels[rows].tolist()) == {0, 1, 2}
        # Of all rows each is nearer to a kept one than to a like number of random ones.
        random = points[torch.randperm(1000)[: len(rows)]]
        kept_distance = torch.cdist(points, points[rows]).min(1).values.square().mean()
        random_distance = torch.cdist(points, random).min(1).values.square().mean()
        assert kept_distance < 0.8 * random_distance

    def test_pickle_and_state_dict_carry_the_metric(self):
        model, x, _ = linear_gaussian()
        z = torch.randn(6, 2, dtype=torch.float64)
        copy = pickle.loads(pickle.dumps(model))
        torch.testing.assert_close(copy.metric(z)[0], model.metric(z)[0], rtol=0, atol=0)
        fresh = RHVAE(nn.Linear(3, 4), nn.Linear(2, 3), 2, n_centroids=20).double()
        fresh.likelihood = model.likelihood
        fresh.build(torch.zeros_like(x))
        fresh.load_state_dict(model.state_dict())
        torch.testing.assert_close(fresh.metric(z)[0], model.metric(z)[0], rtol=0, atol=0)
