"""The hyperspherical VAE: latents, bound and ways on the sphere."""

import math

import pytest
import torch
from torch import nn

from skvae.models import GaussianLikelihood, SphericalVAE


@pytest.fixture
def model():
    torch.manual_seed(0)
    encoder = nn.Sequential(nn.Linear(5, 16), nn.Tanh())
    decoder = nn.Sequential(nn.Linear(3, 16), nn.Tanh(), nn.Linear(16, 5))
    model = SphericalVAE(encoder, decoder, 3, likelihood=GaussianLikelihood(1.0))
    model.build(torch.zeros(1, 5))
    return model.double()


@pytest.fixture
def x():
    return torch.randn(6, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def test_latents_and_embedding_have_length_one(model, x):
    output = model(x, S=4)
    torch.testing.assert_close(output.z.norm(dim=2), torch.ones(6, 4, dtype=torch.float64))
    torch.testing.assert_close(model.embed(x).norm(dim=1), torch.ones(6, dtype=torch.float64))


def test_the_divergence_is_that_of_the_densities(model, x):
    torch.manual_seed(2)
    output = model(x, S=20_000)
    ratio = model.log_posterior(output) - model.log_prior(output.z)
    standard_error = ratio.std(1) / math.sqrt(20_000)
    assert ((ratio.mean(1) - model.divergence(output)).abs() < 5 * standard_error).all()
    assert (model.divergence(output) > 0.05).all()


def test_the_importance_weights_agree_with_an_integral(model, x):
    # A grid that is even by area: in height and in angle.
    height = (torch.arange(200, dtype=torch.float64) + 0.5) / 100 - 1
    angle = 2 * math.pi * torch.arange(400, dtype=torch.float64) / 400
    h, a = torch.cartesian_prod(height, angle).T
    width = (1 - h.square()).sqrt()
    z = torch.stack([width * a.cos(), width * a.sin(), h], dim=1)
    with torch.no_grad():
        joint = model.likelihood.log_prob(x[:1], model._decode(z.unsqueeze(0)).x_hat)[0]
        exact = joint.logsumexp(0) - math.log(len(z))
        torch.manual_seed(3)
        weights = model.log_weights(x[:1], 50_000)[0]
    ratios = torch.exp(weights - exact)
    standard_error = ratios.std() / math.sqrt(len(ratios))
    assert abs(ratios.mean() - 1) < 5 * standard_error
    assert standard_error < 0.02


def test_ways_run_along_great_circles_at_an_even_pace(model):
    z0 = torch.tensor([[1.0, 0.0, 0.0]])
    z1 = torch.tensor([[0.0, 1.0, 0.0]])
    third = model.interpolate_latents(z0, z1, 1 / 3)
    expected = torch.tensor([[math.cos(math.pi / 6), math.sin(math.pi / 6), 0.0]])
    torch.testing.assert_close(third, expected)
    torch.testing.assert_close(model.interpolate_latents(z0, z0, 0.5), z0)
    assert torch.isfinite(model.interpolate_latents(z0, -z0, 0.5)).all()


def test_decoding_knows_directions_alone(model):
    z = torch.randn(4, 3, dtype=torch.float64)
    torch.testing.assert_close(model.decode_mean(z), model.decode_mean(5 * z))


def test_concentrations_are_above_one(model, x):
    assert (model(100 * x).kappa > 1).all()


def test_a_sphere_of_no_dimension_is_refused():
    with pytest.raises(ValueError, match="latent_dim=1: a sphere needs at least 2"):
        SphericalVAE(nn.Identity(), nn.Identity(), 1)
