"""VAEs with flows: the bound is the VAE's where the flow is the identity, and right where not."""

import math

import pytest
import torch
from torch import nn

from skvae.models import IAFVAE, VAE, GaussianLikelihood, LinearFlowVAE


def networks(latent_dim=2):
    torch.manual_seed(0)
    encoder = nn.Sequential(nn.Linear(6, 16), nn.Tanh())
    decoder = nn.Sequential(nn.Linear(latent_dim, 16), nn.Tanh(), nn.Linear(16, 6))
    return encoder, decoder


def built(cls, **params):
    model = cls(*networks(), 2, likelihood=GaussianLikelihood(1.0), **params)
    torch.manual_seed(1)
    model.build(torch.zeros(1, 6))
    return model.double()


@pytest.fixture
def x():
    return torch.randn(7, 6, generator=torch.Generator().manual_seed(2), dtype=torch.float64)


def log_weights(model, x, S=3):
    torch.manual_seed(3)
    return model.log_weights(x, S)


@pytest.mark.parametrize(
    ("cls", "params"),
    [
        (LinearFlowVAE, {"n_flows": 0}),
        (IAFVAE, {"n_flows": 0, "context_dim": 0}),
    ],
)
def test_without_flows_it_is_the_vae(cls, params, x):
    torch.testing.assert_close(log_weights(built(cls, **params), x), log_weights(built(VAE), x))


def test_a_planar_flow_of_u_zero_is_the_vae(x):
    model = built(LinearFlowVAE, n_flows=4)
    with torch.no_grad():
        for name, parameter in model.flow.named_parameters():
            if name.endswith(".u"):
                parameter.zero_()
    torch.testing.assert_close(log_weights(model, x), log_weights(built(VAE), x))


@pytest.mark.parametrize(
    ("cls", "params"),
    [
        (LinearFlowVAE, {"flow": "planar", "n_flows": 3}),
        (LinearFlowVAE, {"flow": "radial", "n_flows": 3}),
        (IAFVAE, {"context_dim": 5}),
    ],
)
class TestBent:
    def model(self, cls, params):
        model = built(cls, **params)
        torch.manual_seed(4)
        with torch.no_grad():
            for parameter in model.flow.parameters():
                noise = torch.randn_like(parameter) / math.sqrt((parameter.shape or (1,))[-1])
                parameter.add_(0.5 * noise)
            model.sampling_layer.log_var.bias.fill_(1.0)
        return model

    def test_the_importance_weights_agree_with_an_integral(self, cls, params, x):
        model = self.model(cls, params)
        grid = torch.linspace(-8, 8, 321, dtype=torch.float64)
        z = torch.cartesian_prod(grid, grid)
        with torch.no_grad():
            x_hat = model._decode(z.unsqueeze(0)).x_hat
            joint = model.likelihood.log_prob(x[:1], x_hat)[0] + model.log_prior(z)
            exact = joint.logsumexp(0) + 2 * math.log(16 / 320)
            torch.manual_seed(5)
            weights = model.log_weights(x[:1].expand(200, 6), 2000).flatten()
        estimate = weights.logsumexp(0) - math.log(len(weights))
        ratios = torch.exp(weights - exact)
        standard_error = ratios.std() / math.sqrt(len(ratios))
        assert abs(math.exp(estimate - exact) - 1) < 5 * standard_error
        assert standard_error < 0.05

    def test_the_embedding_is_the_flow_of_the_mean(self, cls, params, x):
        model = self.model(cls, params)
        output = model(x, sample=False)
        assert not torch.allclose(output.z, output.z0)
        torch.testing.assert_close(model.embed(x), output.z[:, 0])

    def test_gradients_reach_the_flow(self, cls, params, x):
        model = self.model(cls, params)
        model.compute_loss(x, model(x)).objective.backward()
        assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.flow.parameters())


def test_the_flow_sees_the_encoder(x):
    model = built(IAFVAE)
    with torch.no_grad():
        for parameter in model.flow.parameters():
            parameter.add_(0.3)
    z0 = torch.zeros(7, 1, 2, dtype=torch.float64)
    features = model.encoder(x)
    z, _ = model.flow(z0, model.context(features).unsqueeze(1))
    assert z.std(0).min() > 1e-3


def test_an_unknown_flow_is_refused():
    with pytest.raises(ValueError, match=r"flow='plane', expected one of \['planar', 'radial'\]"):
        LinearFlowVAE(*networks(), 2, flow="plane")
