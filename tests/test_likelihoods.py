"""Likelihoods of rows, against distributions of torch and integrals."""

import math

import numpy as np
import pytest
import torch
from scipy import integrate
from torch.distributions import Bernoulli, Laplace, Normal

from skvae.models import (
    LIKELIHOODS,
    BernoulliLikelihood,
    GaussianLikelihood,
    LaplaceLikelihood,
    LikelihoodType,
    log_likelihood,
)
from skvae.models.likelihoods import MIN_VARIANCE, N_AVERAGED, RunningScale
from skvae.models.mixed import MixedLikelihood

SHAPE = (2, 3, 4)
ALL = {
    "fixed": lambda: GaussianLikelihood(0.49),
    "optimal": lambda: GaussianLikelihood("optimal"),
    "learned": lambda: GaussianLikelihood("learned", feature_shape=SHAPE),
    "laplace": lambda: LaplaceLikelihood(0.7),
    "laplace_optimal": lambda: LaplaceLikelihood(),
    "bernoulli": lambda: BernoulliLikelihood(),
    "ms_ssim": lambda: LIKELIHOODS["ms_ssim"](SHAPE),
}


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def distribution(likelihood, x_hat):
    """What torch has for a likelihood in evaluation."""
    if isinstance(likelihood, BernoulliLikelihood):
        return Bernoulli(logits=x_hat)
    if isinstance(likelihood, LaplaceLikelihood):
        scale = (
            likelihood.get_buffer("fixed") if likelihood.scale is None else likelihood.scale.value
        )
        return Laplace(x_hat, scale)
    return Normal(x_hat, likelihood.variance().sqrt())


def ready(name, variance=0.3):
    """A likelihood in evaluation, with a scale of its own."""
    likelihood = ALL[name]().eval()
    if getattr(likelihood, "scale", None) is not None:
        likelihood.scale.value.fill_(variance)
    if name == "learned":
        likelihood.log_variance.data = torch.randn(SHAPE)
    return likelihood


@pytest.fixture(params=sorted(ALL))
def name(request):
    return request.param


@pytest.fixture(params=sorted(set(ALL) - {"ms_ssim"}))
def normalised(request):
    return request.param


class TestDensities:
    def test_are_those_of_torch_summed_over_features(self, normalised):
        likelihood = ready(normalised)
        x, x_hat = torch.rand(5, *SHAPE).round(), torch.randn(5, 6, *SHAPE)
        found = likelihood.log_prob(x, x_hat)
        expected = distribution(likelihood, x_hat).log_prob(x.unsqueeze(1).expand_as(x_hat))
        assert found.shape == (5, 6)
        torch.testing.assert_close(found, expected.flatten(2).sum(2))

    @pytest.mark.parametrize(
        "likelihood",
        [
            GaussianLikelihood(0.49),
            GaussianLikelihood("optimal"),
            GaussianLikelihood("learned", feature_shape=(1,)),
            LaplaceLikelihood(0.7),
            LaplaceLikelihood(),
            MixedLikelihood([1]),
        ],
    )
    def test_integrate_to_one(self, likelihood):
        likelihood.double().eval()
        if getattr(likelihood, "log_variance", None) is not None:
            likelihood.log_variance.data.fill_(-1.7)
        x_hat = torch.full((1, 1, 1), 0.3, dtype=torch.float64)

        def density(x):
            return float(likelihood.log_prob(x_hat.new_full((1, 1), x), x_hat).detach().exp())

        total = integrate.quad(density, -30, 30, points=[0.3], limit=200)[0]
        assert total == pytest.approx(1, abs=1e-6)

    def test_of_zeros_and_ones_sum_to_one(self):
        x_hat = torch.randn(1, 1, 3)
        cells = torch.cartesian_prod(*[torch.tensor([0.0, 1.0])] * 3)
        total = BernoulliLikelihood().log_prob(cells, x_hat.expand(8, 1, 3)).exp().sum()
        assert float(total) == pytest.approx(1, abs=1e-6)

    def test_without_the_constant_differ_by_it(self):
        x, x_hat = torch.randn(5, 4), torch.randn(5, 2, 4)
        with_it, without = (GaussianLikelihood(2.0, normalize=flag) for flag in (True, False))
        gap = without.log_prob(x, x_hat) - with_it.log_prob(x, x_hat)
        torch.testing.assert_close(gap, torch.full((5, 2), 2 * math.log(2 * math.pi)))

    @pytest.mark.parametrize("logit", [-200.0, 200.0])
    def test_of_logits_of_any_size_are_finite(self, logit):
        x_hat = torch.full((1, 1, 1), logit)
        for value in (0.0, 1.0):
            log_prob = BernoulliLikelihood().log_prob(torch.full((1, 1), value), x_hat)
            expected = -200.0 if (logit > 0) != (value > 0) else 0.0
            assert float(log_prob) == pytest.approx(expected, abs=1e-6)


class TestEveryLikelihood:
    def test_treats_each_latent_of_each_row_by_itself(self, name):
        likelihood = ready(name)
        x, x_hat = torch.rand(5, *SHAPE), torch.randn(5, 3, *SHAPE)
        together = likelihood.log_prob(x, x_hat)
        for row, draw in ((0, 0), (4, 2), (2, 1)):
            alone = likelihood.log_prob(x[row : row + 1], x_hat[row : row + 1, draw : draw + 1])
            torch.testing.assert_close(alone, together[row : row + 1, draw : draw + 1])

    @pytest.mark.parametrize("training", [True, False])
    def test_works_in_double_precision(self, name, training):
        likelihood = ALL[name]().double().train(training)
        x = torch.rand(5, *SHAPE, dtype=torch.float64)
        x_hat = torch.randn(5, 2, *SHAPE, dtype=torch.float64)
        assert likelihood.log_prob(x, x_hat).dtype == torch.float64
        assert likelihood.sample(x_hat).dtype == torch.float64
        assert likelihood.mean(x_hat).dtype == torch.float64

    def test_a_batch_of_one_row(self, name):
        x, x_hat = torch.rand(1, *SHAPE), torch.randn(1, 1, *SHAPE)
        assert torch.isfinite(ALL[name]().log_prob(x, x_hat)).all()

    def test_perfect_reconstructions_are_finite_with_finite_gradients(self, name):
        likelihood = ALL[name]()
        x = torch.rand(4, *SHAPE)
        x_hat = x.unsqueeze(1).clone().requires_grad_()
        for _ in range(3):
            log_prob = likelihood.log_prob(x, x_hat)
            log_prob.sum().backward()
        assert torch.isfinite(log_prob).all()
        assert torch.isfinite(x_hat.grad).all()

    def test_better_outputs_are_likelier(self, name):
        likelihood = ready(name)
        x = torch.rand(30, *SHAPE).round()
        logits = name == "bernoulli"
        best = (20 * x - 10 if logits else x).unsqueeze(1)
        noise = torch.randn_like(best)
        scores = [
            likelihood.log_prob(x, best + (10 if logits else 1) * s * noise).mean()
            for s in (0, 1, 4)
        ]
        assert scores[0] > scores[1] > scores[2]

    def test_its_state_comes_back(self, name):
        likelihood = ALL[name]()
        x, x_hat = 3 * torch.rand(9, *SHAPE).round() / 3, torch.randn(9, 1, *SHAPE)
        likelihood.log_prob(x, x_hat)
        again = ALL[name]()
        again.load_state_dict(likelihood.state_dict())
        likelihood.eval(), again.eval()
        torch.testing.assert_close(again.log_prob(x, x_hat), likelihood.log_prob(x, x_hat))


class TestMeanAndDraws:
    def test_have_the_moments_of_the_density(self, normalised):
        likelihood = ready(normalised)
        x_hat = torch.randn(1, *SHAPE)
        reference = distribution(likelihood, x_hat)
        draws = likelihood.sample(x_hat.expand(40_000, *SHAPE))
        torch.testing.assert_close(likelihood.mean(x_hat), reference.mean)
        error = (reference.variance / 40_000).sqrt()
        assert ((draws.mean(0) - reference.mean[0]).abs() < 5 * error).all()
        torch.testing.assert_close(
            draws.var(0), reference.variance.expand(1, *SHAPE)[0], rtol=0.08, atol=0.003
        )

    def test_laplace_draws_have_its_tails(self):
        draws = LaplaceLikelihood(2.0).sample(torch.zeros(100_000))
        for level in (1.0, 4.0, 10.0):
            assert float((draws > level).float().mean()) == pytest.approx(
                0.5 * math.exp(-level / 2), rel=0.15
            )

    def test_a_start_gives_the_mean_of_the_rows(self, name):
        likelihood = ALL[name]()
        x = torch.rand(50, *SHAPE)
        start = likelihood.start(x)
        assert start.shape == SHAPE
        torch.testing.assert_close(likelihood.mean(start), x.mean(0))

    def test_a_start_of_zeros_or_ones_alone_is_finite(self):
        assert BernoulliLikelihood().start(torch.ones(4, 2)).abs().max() < 5


class TestOptimalScale:
    @pytest.mark.parametrize("make", [GaussianLikelihood, LaplaceLikelihood])
    def test_is_that_of_greatest_likelihood(self, make):
        x, x_hat = torch.randn(40, 3, 5), torch.randn(40, 2, 3, 5)
        likelihood = make("optimal")
        best = likelihood.log_prob(x, x_hat).mean()
        scale = float(likelihood.scale.value)
        errors = (x_hat - x.unsqueeze(1)).abs()
        expected = errors.square().mean() if make is GaussianLikelihood else errors.mean()
        assert scale == pytest.approx(float(expected), rel=1e-5)
        for factor in (0.9, 1.1):
            assert make(scale * factor).log_prob(x, x_hat).mean() < best - 0.02

    @pytest.mark.parametrize("make", [GaussianLikelihood, LaplaceLikelihood])
    def test_has_no_gradient_of_its_own(self, make):
        """At the optimum it makes none: that of the errors is as with the scale fixed."""
        x, x_hat = torch.randn(8, 3), torch.randn(8, 1, 3, requires_grad=True)
        likelihood = make("optimal")
        likelihood.log_prob(x, x_hat).sum().backward()
        free, x_hat.grad = x_hat.grad, None
        make(float(likelihood.scale.value)).log_prob(x, x_hat).sum().backward()
        torch.testing.assert_close(x_hat.grad, free)

    @pytest.mark.parametrize("make", [GaussianLikelihood, LaplaceLikelihood])
    def test_evaluation_uses_and_keeps_the_average_of_training(self, make):
        likelihood = make("optimal")
        x, x_hat = torch.randn(8, 3), torch.randn(8, 1, 3)
        likelihood.log_prob(x, x_hat)
        scale = float(likelihood.scale.value)
        likelihood.eval()
        found = likelihood.log_prob(5 * x, x_hat)
        assert float(likelihood.scale.value) == scale
        torch.testing.assert_close(found, make(scale).log_prob(5 * x, x_hat))

    def test_is_not_below_a_floor(self):
        likelihood = GaussianLikelihood()
        x = torch.randn(8, 3)
        likelihood.log_prob(x, x.unsqueeze(1))
        assert float(likelihood.variance()) == pytest.approx(MIN_VARIANCE)

    @pytest.mark.parametrize("make", [GaussianLikelihood, LaplaceLikelihood])
    @pytest.mark.parametrize("value", [torch.inf, torch.nan])
    def test_a_batch_gone_wrong_leaves_it_alone(self, make, value):
        likelihood = make("optimal")
        x, x_hat = torch.randn(8, 3), torch.randn(8, 1, 3)
        likelihood.log_prob(x, x_hat)
        before = likelihood.scale.value.clone()
        wrong = x_hat.clone()
        wrong[2, 0, 1] = value
        assert not torch.isfinite(likelihood.log_prob(x, wrong)).all()
        assert torch.equal(likelihood.scale.value, before)
        assert float(likelihood.scale.n_updates) == 1

    @pytest.mark.parametrize("make", [GaussianLikelihood, LaplaceLikelihood])
    def test_is_learnt_anew_once_forgotten(self, make):
        likelihood = make("optimal")
        x, x_hat = torch.randn(8, 3), torch.randn(8, 1, 3)
        for _ in range(5):
            likelihood.log_prob(100 * x, x_hat)
        likelihood.forget_scale()
        likelihood.log_prob(x, x_hat)
        fresh = make("optimal")
        fresh.log_prob(x, x_hat)
        torch.testing.assert_close(likelihood.scale.value, fresh.scale.value)

    @pytest.mark.parametrize("make", [GaussianLikelihood, LaplaceLikelihood])
    def test_one_that_is_given_has_nothing_to_forget(self, make):
        likelihood = make(0.5)
        likelihood.forget_scale()
        assert float(likelihood.get_buffer("fixed")) == 0.5


class TestRunningScale:
    def test_is_at_first_the_plain_average(self):
        scale = RunningScale(1e-6)
        values = torch.rand(10)
        for value in values:
            assert scale(value) == value
        torch.testing.assert_close(scale.value, values.mean())

    def test_forgets_what_is_long_past(self):
        scale = RunningScale(1e-6)
        for _ in range(10):
            scale(torch.tensor(9.0))
        for _ in range(10 * N_AVERAGED):
            scale(torch.tensor(1.0))
        assert float(scale.value) == pytest.approx(1, abs=1e-3)

    def test_in_evaluation_ignores_the_batch(self):
        scale = RunningScale(1e-6).eval()
        assert float(scale(torch.tensor(7.0))) == float(scale.value) == 1

    def test_of_several_features_skips_a_batch_with_any_wrong(self):
        scale = RunningScale(1e-6, (2,))
        scale(torch.tensor([1.0, 4.0]))
        scale(torch.tensor([3.0, torch.inf]))
        torch.testing.assert_close(scale.value, torch.tensor([1.0, 4.0]))


class TestLearnedVariance:
    def test_converges_to_the_errors_of_each_feature(self):
        std = torch.tensor([0.1, 1.0, 5.0])
        x = torch.randn(4000, 3) * std
        x_hat = torch.zeros(4000, 1, 3)
        likelihood = GaussianLikelihood("learned", feature_shape=(3,))
        optimizer = torch.optim.Adam(likelihood.parameters(), lr=0.05, betas=(0.9, 0.9))
        for _ in range(300):
            optimizer.zero_grad()
            (-likelihood.log_prob(x, x_hat).mean()).backward()
            optimizer.step()
        torch.testing.assert_close(
            likelihood.variance().detach(), x.square().mean(0), rtol=0.02, atol=0
        )

    def test_finds_the_way_back_from_the_floor(self):
        likelihood = GaussianLikelihood("learned", feature_shape=(1,))
        likelihood.log_variance.data.fill_(-16.0)
        assert float(likelihood.variance().detach()) >= MIN_VARIANCE
        optimizer = torch.optim.Adam(likelihood.parameters(), lr=0.1, betas=(0.9, 0.9))
        for _ in range(300):
            optimizer.zero_grad()
            (-likelihood.log_prob(torch.ones(5, 1), torch.zeros(5, 1, 1)).mean()).backward()
            optimizer.step()
        assert float(likelihood.variance().detach()) == pytest.approx(1, abs=0.2)

    def test_draws_and_densities_use_one_variance(self):
        likelihood = GaussianLikelihood("learned", feature_shape=(1,))
        likelihood.log_variance.data.fill_(-40.0)
        draws = likelihood.sample(torch.zeros(10_000, 1)).detach()
        at_zero = likelihood.log_prob(torch.zeros(1, 1), torch.zeros(1, 1, 1)).detach()
        expected = Normal(0.0, float(draws.std())).log_prob(torch.zeros(()))
        assert float(at_zero) == pytest.approx(float(expected), abs=0.05)


class TestChecks:
    @pytest.mark.parametrize(
        ("params", "message"),
        [
            ({"variance": "best"}, "variance='best' is neither 'optimal', 'learned' nor a number"),
            ({"variance": 0.0}, "variance=0.0 is neither"),
            ({"variance": -1.0}, "variance=-1.0 is neither"),
            ({"variance": "learned"}, "variance='learned' needs feature_shape"),
        ],
    )
    def test_a_variance_is_named(self, params, message):
        with pytest.raises(ValueError, match=message):
            GaussianLikelihood(**params)

    @pytest.mark.parametrize("scale", ["best", 0.0, -2.0])
    def test_a_scale_is_named(self, scale):
        with pytest.raises(ValueError, match=f"scale={scale!r} is neither 'optimal' nor a number"):
            LaplaceLikelihood(scale)

    @pytest.mark.parametrize(("low", "high"), [(-0.5, 1.0), (0.0, 16.0)])
    def test_bernoulli_refuses_rows_outside_the_unit_interval(self, low, high):
        with pytest.raises(ValueError, match=rf"values in \[0, 1\], found {low:g} to {high:g}"):
            BernoulliLikelihood().check(torch.tensor([[low, 0.5, high]]))

    def test_bernoulli_refuses_what_is_no_number(self):
        with pytest.raises(ValueError, match="found nan to nan"):
            BernoulliLikelihood().check(torch.tensor([[0.5, torch.nan]]))

    def test_others_take_any_rows(self):
        for likelihood in (GaussianLikelihood(), LaplaceLikelihood()):
            likelihood.check(1e6 * torch.randn(3, 2))
        BernoulliLikelihood().check(torch.rand(3, 2))


class TestLogLikelihood:
    """The function of elements, as pyautoencoder has it."""

    def test_of_a_gaussian_comes_without_its_constant(self):
        x, x_hat = torch.randn(4, 3), torch.randn(4, 3)
        expected = Normal(x_hat, 1.0).log_prob(x) + 0.5 * math.log(2 * math.pi)
        torch.testing.assert_close(log_likelihood(x, x_hat), expected)

    def test_of_a_bernoulli_is_on_logits(self):
        x, x_hat = torch.rand(4, 3).round(), torch.randn(4, 3)
        expected = Bernoulli(logits=x_hat).log_prob(x)
        torch.testing.assert_close(log_likelihood(x, x_hat, "bernoulli"), expected)

    @pytest.mark.parametrize("likelihood", ["Bernoulli", "BERNOULLI", LikelihoodType.BERNOULLI])
    def test_names_are_of_any_case(self, likelihood):
        x, x_hat = torch.rand(4, 3), torch.randn(4, 3)
        expected = log_likelihood(x, x_hat, "bernoulli")
        assert torch.equal(log_likelihood(x, x_hat, likelihood), expected)

    @pytest.mark.parametrize("shape", [(4, 1), (1, 3), (4, 3, 1), (3,)])
    def test_nothing_is_broadcast(self, shape):
        with pytest.raises(ValueError, match=r"x has shape \(4, 3\) and x_hat .* must be the same"):
            log_likelihood(torch.zeros(4, 3), torch.zeros(shape))

    @pytest.mark.parametrize("likelihood", ["poisson", 3])
    def test_unknown_ones_are_refused(self, likelihood):
        with pytest.raises(ValueError, match=f"{likelihood}"):
            log_likelihood(torch.zeros(1), torch.zeros(1), likelihood)


def test_one_variance_makes_reconstruction_independent_of_units():
    """The gradient of the optimal likelihood scales as one over the units: KL weighs the same."""
    x, x_hat = torch.randn(20, 3), torch.randn(20, 1, 3)
    grads = []
    for unit in (1.0, 100.0):
        output = (unit * x_hat).requires_grad_()
        GaussianLikelihood().log_prob(unit * x, output).sum().backward()
        grads.append(unit * output.grad)
    torch.testing.assert_close(grads[0], grads[1])
    np.testing.assert_array_less(0, grads[0].abs().mean())
