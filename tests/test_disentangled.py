"""Weights on the divergence: identities with the VAE, and the course of the capacity."""

import pickle

import pytest
import torch
from torch import nn

from skvae.models import VAE, BetaVAE, DisentangledBetaVAE, StepContext

N_FEATURES = 6


def make(cls, latent_dim=2, **params):
    torch.manual_seed(0)
    encoder = nn.Sequential(nn.Linear(N_FEATURES, 8), nn.Tanh())
    model = cls(encoder, nn.Linear(latent_dim, N_FEATURES), latent_dim, **params)
    model.build(torch.zeros(2, N_FEATURES))
    return model


@pytest.fixture
def x():
    return 3 * torch.randn(7, N_FEATURES, generator=torch.Generator().manual_seed(1))


def gradients(loss, model):
    return torch.autograd.grad(loss.objective, list(model.parameters()))


class TestBetaVAE:
    def test_of_weight_one_is_a_vae(self, x):
        vae, model = make(VAE), make(BetaVAE, beta=1.0)
        output = vae(x)
        torch.manual_seed(3)
        expected = gradients(vae.compute_loss(x, vae(x)), vae)
        torch.manual_seed(3)
        found = gradients(model.compute_loss(x, model(x)), model)
        for one, other in zip(found, expected, strict=True):
            torch.testing.assert_close(one, other)
        assert model.compute_loss(x, output).diagnostics == vae.compute_loss(x, output).diagnostics

    def test_the_weight_changes_the_objective_but_not_the_bound(self, x):
        model = make(BetaVAE, beta=5.0)
        output = model(x)
        loss, terms = model.compute_loss(x, output), model.compute_loss(x, output).diagnostics
        expected = 5 * terms["kl_divergence"] - terms["log_likelihood"]
        torch.testing.assert_close(loss.objective.detach(), expected)
        torch.testing.assert_close(terms["elbo"], terms["log_likelihood"] - terms["kl_divergence"])

    def test_warm_up_and_free_nats_of_the_training_run(self, x):
        model = make(BetaVAE, beta=5.0)
        output = model(x)
        terms = model.compute_loss(x, output).diagnostics
        kl, log_px = terms["kl_divergence"], terms["log_likelihood"]
        loss = model.compute_loss(x, output, context=StepContext(beta=0.1))
        torch.testing.assert_close(loss.objective.detach(), 0.5 * kl - log_px)
        loss = model.compute_loss(x, output, context=StepContext(free_nats=100.0))
        torch.testing.assert_close(loss.objective.detach(), 500 - log_px)

    @pytest.mark.parametrize("beta", [-1.0, float("nan"), "4"])
    def test_a_weight_that_is_none_is_refused(self, beta):
        with pytest.raises(ValueError, match="beta="):
            make(BetaVAE, beta=beta)


class TestDisentangledBetaVAE:
    def test_without_capacity_is_a_beta_vae(self, x):
        model, beta = make(DisentangledBetaVAE, gamma=3.0, capacity=0.0), make(BetaVAE, beta=3.0)
        output = model(x)
        found, expected = model.compute_loss(x, output), beta.compute_loss(x, output)
        torch.testing.assert_close(found.objective, expected.objective)

    def test_the_capacity_pulls_from_both_sides(self, x):
        low = make(DisentangledBetaVAE, gamma=3.0, capacity=0.01)
        high = make(DisentangledBetaVAE, gamma=3.0, capacity=50.0)
        output = low(x)
        terms = low.compute_loss(x, output).diagnostics
        kl, log_px = terms["kl_divergence"], terms["log_likelihood"]
        assert 0.01 < kl < 50
        found = low.compute_loss(x, output).objective.detach()
        torch.testing.assert_close(found, 3 * (kl - 0.01) - log_px)
        found = high.compute_loss(x, output).objective.detach()
        torch.testing.assert_close(found, 3 * (50 - kl) - log_px)

    @pytest.mark.parametrize("n_steps", [100, 1000])
    def test_the_capacity_rises_over_a_share_of_the_run(self, x, n_steps):
        model = make(DisentangledBetaVAE, capacity=20.0, warmup=0.4)

        def capacity(share):
            context = StepContext(step=round(share * n_steps) - 1, n_steps=n_steps)
            return model.training_loss((x,), context).diagnostics["capacity"].item()

        shares = (0.1, 0.2, 0.4, 0.41, 1.0)
        assert [capacity(s) for s in shares] == pytest.approx([5, 10, 20, 20, 20])

    def test_outside_a_run_the_capacity_is_the_final_one(self, x):
        model = make(DisentangledBetaVAE, capacity=20.0, warmup=1.0)
        for context in (None, StepContext()):
            terms = model.compute_loss(x, model(x), context=context).diagnostics
            assert terms["capacity"] == 20

    @pytest.mark.parametrize(
        "params", [{"gamma": -1.0}, {"capacity": -1.0}, {"warmup": 1.5}, {"warmup": -0.1}]
    )
    def test_parameters_out_of_range_are_refused(self, params):
        with pytest.raises(ValueError, match=f"{next(iter(params))}="):
            make(DisentangledBetaVAE, **params)


@pytest.mark.parametrize("cls", [BetaVAE, DisentangledBetaVAE])
@pytest.mark.parametrize("latent_dim", [1, 3])
def test_a_single_row_in_double_precision(cls, latent_dim, x):
    model = pickle.loads(pickle.dumps(make(cls, latent_dim).double()))
    loss = model.training_loss((x[:1].double(),), StepContext())
    assert loss.objective.dtype == torch.float64
    assert all(torch.isfinite(gradient).all() for gradient in gradients(loss, model))
