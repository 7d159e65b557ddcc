"""The maximum mean discrepancy against plain loops, and the two models that use it."""

import math

import pytest
import torch
from sklearn.datasets import load_digits
from torch import nn

from skvae.models import (
    VAE,
    WAE,
    GaussianLikelihood,
    InfoVAE,
    MLPDecoder,
    MLPEncoder,
    StepContext,
    maximum_mean_discrepancy,
)
from skvae.training import TrainingConfig, train

X = torch.randn(30, 6, generator=torch.Generator().manual_seed(0))


def normal(n, dim=2, seed=0, dtype=torch.float64):
    return torch.randn(n, dim, dtype=dtype, generator=torch.Generator().manual_seed(seed))


class TestDiscrepancy:
    @pytest.mark.parametrize("kernel", ["imq", "rbf"])
    def test_is_the_u_statistic(self, kernel):
        a, b = normal(6, 3), normal(4, 3, seed=1) + 0.5
        scales, bandwidth = (0.5, 2.0), 0.7

        def k(u, v):
            square = ((u - v) ** 2).sum()
            total = 0.0
            for scale in scales:
                c = 2 * 3 * bandwidth**2 * scale
                total += c / (c + square) if kernel == "imq" else math.exp(-square / c)
            return total

        within = [
            sum(k(u, v) for i, u in enumerate(s) for j, v in enumerate(s) if i != j)
            / (len(s) * (len(s) - 1))
            for s in (a, b)
        ]
        between = sum(k(u, v) for u in a for v in b) / (len(a) * len(b))
        found = maximum_mean_discrepancy(a, b, kernel, bandwidth=bandwidth, scales=scales)
        torch.testing.assert_close(found, torch.as_tensor(sum(within) - 2 * between).double())

    @pytest.mark.parametrize("kernel", ["imq", "rbf"])
    def test_tells_a_shifted_normal_from_an_equal_one(self, kernel):
        a = normal(1000, 1)
        equal = maximum_mean_discrepancy(a, normal(1000, 1, seed=1), kernel)
        shifted = maximum_mean_discrepancy(a, normal(1000, 1, seed=1) + 1, kernel)
        assert equal.abs() < 0.02
        assert shifted > 0.3

    def test_is_zero_on_average_for_equal_distributions(self):
        values = torch.stack(
            [
                maximum_mean_discrepancy(normal(5, seed=2 * i), normal(7, seed=2 * i + 1))
                for i in range(400)
            ]
        )
        # A biased statistic would be some 1.5 away, the noise is about 0.02.
        assert values.mean().abs() < 5 * values.std() / 20
        assert values.std() / 20 < 0.05

    def test_of_one_draw_is_zero(self):
        assert maximum_mean_discrepancy(normal(1), normal(1, seed=1)) == 0
        assert maximum_mean_discrepancy(normal(1), normal(9)) == 0

    def test_of_a_set_with_itself_counts_each_pair(self):
        a = normal(20)
        assert maximum_mean_discrepancy(a, a) == maximum_mean_discrepancy(a, a.clone())

    def test_its_gradient_brings_the_draws_closer(self):
        a = (normal(50) + 3).requires_grad_()
        maximum_mean_discrepancy(a, normal(50, seed=1)).backward()
        assert torch.isfinite(a.grad).all()
        assert (a.grad.mean(0) > 0).all()

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ((normal(3, 2), normal(3, 4)), r"\(3, 2\) and b \(3, 4\)"),
            ((normal(3, 2)[0], normal(3, 2)), "expected"),
            ((normal(3), normal(3), "cosine"), "kernel='cosine'"),
        ],
    )
    def test_bad_arguments_are_named(self, arguments, message):
        with pytest.raises(ValueError, match=message):
            maximum_mean_discrepancy(*arguments)
        with pytest.raises(ValueError, match="bandwidth=0"):
            maximum_mean_discrepancy(normal(3), normal(3), bandwidth=0)


def make_info(cls=InfoVAE, **params):
    torch.manual_seed(0)
    model = cls(nn.Sequential(nn.Linear(6, 8), nn.Tanh()), nn.Linear(2, 6), 2, **params)
    model.build(X)
    return model


def loss(model, x=X, **kwargs):
    torch.manual_seed(1)
    return model.compute_loss(x, model(x), **kwargs)


class TestInfoVAE:
    def test_without_weights_of_its_own_is_the_vae(self):
        info, vae = make_info(alpha=0.0, lambd=1.0), make_info(VAE)
        a, b = loss(info), loss(vae)
        assert a.objective == b.objective
        grads = [torch.autograd.grad(r.objective, m.parameters()) for r, m in ((a, info), (b, vae))]
        for one, other in zip(*grads, strict=True):
            torch.testing.assert_close(one, other)

    @pytest.mark.parametrize(("alpha", "lambd"), [(0.0, 10.0), (0.7, 3.0), (1.0, 5.0), (-1, 2)])
    @pytest.mark.parametrize("beta", [1.0, 0.25])
    def test_weighs_its_terms_as_the_paper_does(self, alpha, lambd, beta):
        result = loss(make_info(alpha=alpha, lambd=lambd), context=StepContext(beta=beta))
        terms = result.diagnostics
        penalty = (1 - alpha) * terms["kl_divergence"] + (alpha + lambd - 1) * terms["mmd"]
        torch.testing.assert_close(result.objective, beta * penalty - terms["log_likelihood"])

    def test_reports_the_bound_itself(self):
        terms = loss(make_info(alpha=0.5)).diagnostics
        torch.testing.assert_close(terms["elbo"], terms["log_likelihood"] - terms["kl_divergence"])

    def test_by_default_no_weight_is_negative(self):
        model = make_info()
        assert model.alpha + model.lambd - 1 > 0
        assert 1 - model.alpha > 0

    @pytest.mark.parametrize(
        ("params", "message"),
        [
            ({"lambd": 1e-3}, r"weight alpha \+ lambd - 1 = -0\.999"),
            ({"alpha": 1.5}, r"alpha=1\.5.* at most 1"),
            ({"lambd": -2.0}, r"lambd=-2\.0"),
            ({"lambd": math.nan}, "lambd=nan"),
        ],
    )
    def test_weights_that_reward_mismatch_are_refused(self, params, message):
        with pytest.raises(ValueError, match=message):
            make_info(**params)

    def test_a_batch_of_one_row_has_no_discrepancy(self):
        result = loss(make_info(), x=X[:1])
        assert result.objective.isfinite()
        assert result.diagnostics["mmd"] == 0


class TestWAE:
    def make(self, **params):
        torch.manual_seed(0)
        return WAE(nn.Linear(6, 2), nn.Linear(2, 6), **params)

    def test_adds_the_discrepancy_of_its_latents_to_the_prior(self):
        model = self.make(reg_weight=7.0)
        result = loss(model, context=StepContext(beta=0.5))
        torch.manual_seed(1)
        mmd = maximum_mean_discrepancy(model.encoder(X), torch.randn(len(X), 2))
        error = 0.5 * (model.decoder(model.encoder(X)) - X).square().sum(1).mean()
        torch.testing.assert_close(result.objective, error + 0.5 * 7 * mmd)
        torch.testing.assert_close(result.diagnostics["mmd"], mmd.detach())

    def test_a_batch_of_one_row_is_finite(self):
        result = loss(self.make(), x=X[:1])
        assert result.objective.isfinite()

    def test_a_negative_weight_is_refused(self):
        with pytest.raises(ValueError, match=r"reg_weight=-1\.0"):
            self.make(reg_weight=-1.0)


class TestTraining:
    def fit(self, model, digits):
        model.build(digits)
        config = TrainingConfig(n_epochs=25, batch_size=100, learning_rate=5e-3, warmup_steps=0)
        generator = torch.Generator().manual_seed(0)
        history = train(model, (digits,), config, generator=generator).history
        losses = [entry["loss"] for entry in history]
        assert all(math.isfinite(value) for value in losses)
        assert losses[-1] < losses[0] - 20
        with torch.no_grad():
            return (model.decode_mean(model.embed(digits)) - digits).square().mean()

    @pytest.fixture
    def digits(self):
        rows = torch.tensor(load_digits().data[:400], dtype=torch.float32)
        return (rows - rows.mean(0)) / rows.std()

    def test_info_vae_by_default_learns_to_reconstruct(self, digits):
        torch.manual_seed(0)
        networks = MLPEncoder((64,), (64,)), MLPDecoder(6, (64,), (64,))
        error = self.fit(InfoVAE(*networks, 6, likelihood=GaussianLikelihood()), digits)
        assert error < 0.6 * digits.var(0).mean()

    def test_wae_by_default_reconstructs_and_fills_the_prior(self, digits):
        torch.manual_seed(0)
        networks = MLPEncoder((64,), (64,), 6), MLPDecoder(6, (64,), (64,))
        model = WAE(*networks, likelihood=GaussianLikelihood())
        model.build(digits)
        with torch.no_grad():
            before = maximum_mean_discrepancy(model.embed(digits), torch.randn(400, 6))
        assert self.fit(model, digits) < 0.6 * digits.var(0).mean()
        with torch.no_grad():
            after = maximum_mean_discrepancy(model.embed(digits), torch.randn(400, 6))
        assert after < 0.2 * before
