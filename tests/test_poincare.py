"""The Poincare VAE: latents, bound and ways in the ball."""

import itertools
import math

import pytest
import torch
from torch import nn

from skvae.models import GaussianLikelihood, PoincareVAE

KINDS = ["wrapped_normal", "riemannian_normal"]


def built(prior="wrapped_normal", posterior="wrapped_normal", curvature=1.0):
    torch.manual_seed(0)
    encoder = nn.Sequential(nn.Linear(5, 16), nn.Tanh())
    decoder = nn.Sequential(nn.Linear(2, 16), nn.Tanh(), nn.Linear(16, 5))
    model = PoincareVAE(
        encoder,
        decoder,
        2,
        prior=prior,
        posterior=posterior,
        curvature=curvature,
        likelihood=GaussianLikelihood(1.0),
    )
    model.build(torch.zeros(1, 5))
    return model.double()


@pytest.fixture
def x():
    return torch.randn(6, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


@pytest.mark.parametrize(("prior", "posterior"), list(itertools.product(KINDS, KINDS)))
@pytest.mark.parametrize("curvature", [0.5, 1.4])
def test_the_importance_weights_agree_with_an_integral(prior, posterior, curvature, x):
    model = built(prior, posterior, curvature)
    # A polar grid in the tangent space of the origin, with the volume of a hyperbolic ring.
    root = math.sqrt(curvature)
    r = torch.linspace(0, 9, 1801, dtype=torch.float64)[1:] - 0.0025
    angle = 2 * math.pi * torch.arange(90, dtype=torch.float64) / 90
    radius, a = torch.cartesian_prod(r, angle).T
    unit = torch.stack([a.cos(), a.sin()], dim=1)
    z = model.ball.exp0(unit * (radius / 2).unsqueeze(1))
    log_volume = torch.log(torch.sinh(root * radius) / root * 0.005 * 2 * math.pi / 90)
    assert (model.ball.distance(torch.zeros(2, dtype=z.dtype), z) - radius).abs().max() < 1e-3
    with torch.no_grad():
        joint = model.likelihood.log_prob(x[:1], model._decode(z.unsqueeze(0)).x_hat)[0]
        exact = (joint + model.log_prior(z) + log_volume).logsumexp(0)
        torch.manual_seed(3)
        weights = model.log_weights(x[:1], 40_000)[0]
    ratios = torch.exp(weights - exact)
    standard_error = ratios.std() / math.sqrt(len(ratios))
    assert abs(ratios.mean() - 1) < 5 * standard_error + 1e-3
    assert standard_error < 0.05


@pytest.mark.parametrize("posterior", KINDS)
def test_latents_and_embedding_lie_in_the_ball(posterior, x):
    model = built(posterior=posterior, curvature=4.0)
    assert (model(50 * x, S=9).z.norm(dim=2) < 0.5).all()
    assert (model.embed(50 * x).norm(dim=1) < 0.5).all()


@pytest.mark.parametrize("posterior", KINDS)
def test_gradients_are_finite_far_out(posterior, x):
    model = built(posterior=posterior)
    model.compute_loss(1000 * x, model(1000 * x)).objective.backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters())


def test_ways_are_geodesics_at_an_even_pace():
    model = built()
    z0 = torch.tensor([[0.6, -0.2]], dtype=torch.float64)
    z1 = torch.tensor([[-0.3, 0.5]], dtype=torch.float64)
    third = model.interpolate_latents(z0, z1, 1 / 3)
    whole = model.ball.distance(z0, z1)
    torch.testing.assert_close(model.ball.distance(z0, third), whole / 3)
    torch.testing.assert_close(model.ball.distance(third, z1), 2 * whole / 3)


def test_points_outside_the_ball_decode_as_its_edge():
    model = built()
    z = torch.tensor([[3.0, 4.0]], dtype=torch.float64)
    assert torch.isfinite(model.decode_mean(z)).all()


def test_unknown_distributions_are_refused():
    with pytest.raises(ValueError, match="posterior='normal', expected one of"):
        built(posterior="normal")
