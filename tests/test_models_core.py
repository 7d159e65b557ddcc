"""The parts that all models share, against torch.distributions and hand computations."""

import pytest
import torch
from torch import nn
from torch.distributions import Independent, Normal, kl_divergence

from skvae.models import GaussianVAE, kl_divergence_diag_gaussian, reparametrize
from skvae.models.core import LOG_VAR_RANGE
from skvae.models.mlp import hidden_layers
from skvae.models.table_networks import GaussianHead, ResidualBlock, ResidualTrunk


def normal(mu, log_var):
    return Normal(mu, torch.exp(0.5 * log_var))


@pytest.fixture
def moments():
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(7, 5, generator=generator, dtype=torch.float64) for _ in range(4)]


class TestDivergence:
    def test_to_the_standard_normal(self, moments):
        mu, log_var, *_ = moments
        standard = Normal(torch.zeros_like(mu), torch.ones_like(mu))
        expected = kl_divergence(Independent(normal(mu, log_var), 1), Independent(standard, 1))
        torch.testing.assert_close(kl_divergence_diag_gaussian(mu, log_var), expected)

    def test_between_two_gaussians(self, moments):
        mu_q, log_var_q, mu_p, log_var_p = moments
        expected = kl_divergence(normal(mu_q, log_var_q), normal(mu_p, log_var_p))
        found = kl_divergence_diag_gaussian(mu_q, log_var_q, mu_p, log_var_p, reduce_sum=False)
        torch.testing.assert_close(found, expected)
        found = kl_divergence_diag_gaussian(mu_q, log_var_q, mu_p, log_var_p)
        torch.testing.assert_close(found, expected.sum(1))

    def test_a_mean_alone_moves_the_second_gaussian(self, moments):
        mu_q, log_var_q, mu_p, _ = moments
        expected = kl_divergence(normal(mu_q, log_var_q), normal(mu_p, torch.zeros_like(mu_p)))
        found = kl_divergence_diag_gaussian(mu_q, log_var_q, mu_p, reduce_sum=False)
        torch.testing.assert_close(found, expected)


class TestReparametrize:
    def test_moments(self):
        mu = torch.tensor([-2.0, 0.0, 3.0]).expand(40_000, 3)
        log_var = torch.tensor([-2.0, 0.0, 1.5]).expand(40_000, 3)
        z = reparametrize(mu, log_var, torch.Generator().manual_seed(0))
        # Six standard errors of the mean, of at most 2.1 / 200, and of the log variance.
        torch.testing.assert_close(z.mean(0), mu[0], atol=0.06, rtol=0)
        torch.testing.assert_close(z.var(0).log(), log_var[0], atol=0.05, rtol=0)
        off_diagonal = torch.corrcoef(z.T) - torch.eye(3)
        assert off_diagonal.abs().max() < 0.03

    def test_gradients_reach_mean_and_variance(self):
        mu, log_var = torch.zeros(4, 2, requires_grad=True), torch.zeros(4, 2, requires_grad=True)
        z = reparametrize(mu, log_var, torch.Generator().manual_seed(0))
        z.sum().backward()
        torch.testing.assert_close(mu.grad, torch.ones(4, 2))
        torch.testing.assert_close(log_var.grad, 0.5 * z.detach())

    def test_the_generator_alone_decides(self):
        mu = torch.zeros(5, 2)
        state = torch.get_rng_state()
        draws = [reparametrize(mu, mu, torch.Generator().manual_seed(3)) for _ in range(2)]
        assert torch.equal(*draws)
        assert torch.equal(state, torch.get_rng_state())


class Toy(GaussianVAE):
    """Two numbers with a unit Gaussian around z; the posterior is the same for all rows."""

    def __init__(self, mu=0.5):
        super().__init__(latent_dim=2)
        self.mu = nn.Parameter(torch.full((2,), mu))
        self.log_var = nn.Parameter(torch.zeros(2))

    def encode(self, x):
        return self.mu.expand(len(x[0]), 2), self.log_var.expand(len(x[0]), 2)

    def decode(self, z, x):
        return z

    def log_likelihood(self, x, params):
        return Normal(params, 1.0).log_prob(x[0]).sum(1)


class TestLoss:
    X = (torch.arange(6.0).view(3, 2),)
    KL = 0.25  # two dimensions of 0.5 * 0.5 ** 2

    def loss(self, **kwargs):
        model = Toy()
        output = model(self.X, generator=torch.Generator().manual_seed(0))
        result = model.compute_loss(self.X, output, **kwargs)
        reconstruction = -Normal(output.z, 1.0).log_prob(self.X[0]).sum(1).mean()
        return model, result, reconstruction

    def test_is_the_negative_bound_in_nats_a_row(self):
        _, result, reconstruction = self.loss()
        torch.testing.assert_close(result.objective, reconstruction + self.KL)
        torch.testing.assert_close(result.diagnostics["log_likelihood"], -reconstruction.detach())
        assert result.diagnostics["kl_divergence"].item() == pytest.approx(self.KL)
        torch.testing.assert_close(result.diagnostics["elbo"], -result.objective.detach())

    def test_beta_weighs_the_divergence_but_not_the_bound_reported(self):
        _, result, reconstruction = self.loss(beta=3.0)
        torch.testing.assert_close(result.objective, reconstruction + 3 * self.KL)
        torch.testing.assert_close(result.diagnostics["elbo"], -(reconstruction + self.KL).detach())

    def test_below_the_free_nats_the_divergence_has_no_gradient(self):
        model, result, reconstruction = self.loss(beta=2.0, free_nats=1.5)
        torch.testing.assert_close(result.objective, reconstruction + 2.0 * 1.5)
        (result.objective - reconstruction).backward()
        assert model.mu.grad.abs().max() < 1e-6
        assert result.diagnostics["kl_divergence"].item() == pytest.approx(self.KL)  # unclamped

    def test_above_the_free_nats_they_change_nothing(self):
        _, result, reconstruction = self.loss(free_nats=0.2)
        torch.testing.assert_close(result.objective, reconstruction + self.KL)

    def test_diagnostics_are_detached(self):
        _, result, _ = self.loss()
        assert result.objective.requires_grad
        assert not any(term.requires_grad for term in result.diagnostics.values())


class TestNetworks:
    def test_a_residual_block_is_the_identity_at_the_start(self):
        u = torch.randn(3, 8, generator=torch.Generator().manual_seed(0))
        assert torch.equal(ResidualBlock(8)(u), u)

    @pytest.mark.parametrize("widths", [(6,), (6, 6), (6, 6, 4), (5, 7, 7)])
    def test_a_trunk_ends_at_the_last_width(self, widths):
        assert ResidualTrunk(widths)(torch.ones(2, widths[0])).shape == (2, widths[-1])

    def test_a_multilayer_perceptron_has_a_relu_after_each_map(self):
        layers = nn.Sequential(*hidden_layers((3, 4, 5), "relu"))
        x = torch.randn(6, 3, generator=torch.Generator().manual_seed(0))
        expected = torch.relu(layers[2](torch.relu(layers[0](x))))
        assert torch.equal(layers(x), expected)
        assert len(hidden_layers((3,), "relu")) == 0

    def test_the_log_variance_stays_where_its_exponential_is_finite(self):
        head = GaussianHead(4, 2)
        for scale in (-1e6, 1e6):
            mu, log_var = head(torch.full((3, 4), scale))
            assert mu.shape == log_var.shape == (3, 2)
            assert log_var.min() >= LOG_VAR_RANGE[0]
            assert log_var.max() <= LOG_VAR_RANGE[1]
