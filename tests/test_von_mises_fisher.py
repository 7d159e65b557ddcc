"""The von Mises-Fisher distribution against scipy, quadrature and its own draws."""

import math

import numpy as np
import pytest
import torch
from scipy import integrate, special, stats
from torch.nn import functional as F

from skvae.models.noise import SharedNoise
from skvae.models.von_mises_fisher import VonMisesFisher, log_sphere_area, uniform_on_sphere

DIMS = [2, 3, 5, 10, 50, 200]
KAPPAS = [1e-3, 0.1, 1.0, 7.0, 50.0, 300.0, 1e4, 1e5]


def pole(dim, dtype=torch.float64):
    return F.one_hot(torch.tensor(0), dim).to(dtype)


def at_pole(dim, kappa, dtype=torch.float64):
    return VonMisesFisher(pole(dim, dtype), torch.as_tensor(kappa, dtype=dtype))


def log_bessel(order, kappa):
    """Of I_order(kappa); scipy's falls to zero for large orders, where the series is short."""
    scaled = special.ive(order, kappa)
    if scaled > 1e-280:
        return math.log(scaled) + kappa
    k = np.arange(200)
    terms = (order + 2 * k) * math.log(kappa / 2) - special.gammaln(k + 1)
    return special.logsumexp(terms - special.gammaln(order + k + 1))


@pytest.mark.parametrize("dim", DIMS)
class TestNormalizer:
    def test_is_that_of_bessel_functions(self, dim):
        order = dim / 2 - 1
        for kappa in KAPPAS:
            expected = 0.5 * dim * math.log(2 * math.pi) - order * math.log(kappa)
            expected += log_bessel(order, kappa)
            found = at_pole(dim, kappa).log_normalizer().item()
            assert found == pytest.approx(expected, rel=1e-11, abs=1e-11)

    def test_the_density_is_that_of_scipy(self, dim):
        torch.manual_seed(0)
        loc = uniform_on_sphere((dim,), dtype=torch.float64)
        for kappa in [0.5, 20.0, 300.0]:
            ours = VonMisesFisher(loc, torch.tensor(kappa, dtype=torch.float64))
            x = torch.cat([ours.rsample((20,)), uniform_on_sphere((20, dim), dtype=torch.float64)])
            expected = stats.vonmises_fisher(loc.numpy(), kappa).logpdf(x.numpy())
            np.testing.assert_allclose(ours.log_prob(x), expected, rtol=1e-9, atol=1e-9)

    def test_its_derivative_is_the_mean_resultant_length(self, dim):
        order = dim / 2 - 1
        for value in KAPPAS:
            kappa = torch.tensor(value, dtype=torch.float64, requires_grad=True)
            vmf = at_pole(dim, kappa)
            (slope,) = torch.autograd.grad(vmf.log_normalizer(), kappa)
            ratio = math.exp(log_bessel(order + 1, value) - log_bessel(order, value))
            assert vmf.mean_resultant_length.item() == pytest.approx(ratio, rel=1e-9)
            assert slope.item() == pytest.approx(ratio, rel=1e-9)

    def test_the_mean_resultant_length_has_its_derivative(self, dim):
        for value in KAPPAS:
            kappa = torch.tensor(value, dtype=torch.float64, requires_grad=True)
            length = at_pole(dim, kappa).mean_resultant_length
            (slope,) = torch.autograd.grad(length, kappa)
            # The differential equation of the ratio; its terms cancel for a large kappa.
            expected = 1 - length.item() ** 2 - (dim - 1) / value * length.item()
            assert slope.item() == pytest.approx(expected, rel=1e-6, abs=1e-12)

    def test_the_uniform_distribution_is_kappa_zero(self, dim):
        kappa = torch.tensor(0.0, dtype=torch.float64, requires_grad=True)
        vmf = at_pole(dim, kappa)
        assert vmf.log_normalizer().item() == pytest.approx(log_sphere_area(dim))
        assert vmf.mean_resultant_length.item() == 0
        assert vmf.kl_to_uniform().item() == pytest.approx(0, abs=1e-18)
        (vmf.kl_to_uniform() + vmf.mean_resultant_length + vmf.rsample().sum()).backward()
        assert kappa.grad.isfinite()

    def test_float32_is_as_good_as_its_digits(self, dim):
        for kappa in KAPPAS:
            narrow, wide = at_pole(dim, kappa, torch.float32), at_pole(dim, kappa)
            assert narrow.log_normalizer().dtype == torch.float32
            torch.testing.assert_close(narrow.kl_to_uniform().double(), wide.kl_to_uniform())
            x = wide.rsample((50,)).float()
            expected = VonMisesFisher(wide.loc, wide.kappa).log_prob(F.normalize(x.double(), dim=1))
            torch.testing.assert_close(narrow.log_prob(x).double(), expected, rtol=1e-5, atol=1e-3)


@pytest.mark.parametrize("kappa", [1e-3, 0.7, 12.0, 900.0])
class TestDensity:
    def test_integrates_to_one_on_the_circle(self, kappa):
        angle = torch.linspace(-math.pi, math.pi, 4001, dtype=torch.float64)[1:]
        points = torch.stack([angle.cos(), angle.sin()], dim=-1)
        loc = torch.tensor([0.6, -0.8], dtype=torch.float64)
        density = VonMisesFisher(loc, torch.tensor(kappa).double()).log_prob(points).exp()
        assert density.mean().item() * 2 * math.pi == pytest.approx(1, rel=1e-9)

    def test_integrates_to_one_on_the_sphere(self, kappa):
        height, weights = map(torch.from_numpy, np.polynomial.legendre.leggauss(400))
        around = torch.arange(400, dtype=torch.float64) * (2 * math.pi / 400)
        height, around = torch.meshgrid(height, around, indexing="ij")
        radius = (1 - height**2).sqrt()
        points = torch.stack([radius * around.cos(), radius * around.sin(), height], dim=-1)
        loc = torch.tensor([2.0, -1.0, 2.0], dtype=torch.float64) / 3
        density = VonMisesFisher(loc, torch.tensor(kappa).double()).log_prob(points).exp()
        total = (density.mean(dim=1) * weights).sum().item() * 2 * math.pi
        assert total == pytest.approx(1, rel=1e-8)


@pytest.mark.parametrize("dim", DIMS)
def test_the_divergence_is_the_integral_of_its_definition(dim):
    for kappa in [0.1, 3.0, 80.0]:
        vmf = at_pole(dim, kappa)
        at_mode = vmf.log_prob(pole(dim)).item()

        def integrand(angle, kappa=kappa, at_mode=at_mode):
            # Of q log(q / uniform), over the circle of latitude at this angle from the mode.
            log_q = at_mode + kappa * (math.cos(angle) - 1)
            log_area = log_sphere_area(dim - 1) if dim > 2 else math.log(2)
            log_width = (dim - 2) * math.log(math.sin(angle)) + log_area
            return math.exp(log_q + log_width) * (log_q + log_sphere_area(dim))

        expected, _ = integrate.quad(integrand, 0, math.pi, epsabs=1e-13, epsrel=1e-10, limit=500)
        assert vmf.kl_to_uniform().item() == pytest.approx(expected, rel=1e-7, abs=1e-10)


def test_the_divergence_has_the_right_gradient():
    kappa = torch.tensor([0.3, 4.0, 90.0], dtype=torch.float64, requires_grad=True)
    for dim in (2, 3, 40):
        loc = pole(dim).expand(3, dim)
        assert torch.autograd.gradcheck(
            lambda k, m=loc: VonMisesFisher(m, k).kl_to_uniform(), kappa
        )


@pytest.mark.parametrize("dim", [2, 3, 4, 10, 200])
class TestDraws:
    n = 20_000

    def draw(self, dim, kappa, requires_grad=False):
        torch.manual_seed(dim)
        loc = uniform_on_sphere((dim,), dtype=torch.float64).requires_grad_(requires_grad)
        kappa = torch.full((self.n,), kappa, dtype=torch.float64, requires_grad=requires_grad)
        vmf = VonMisesFisher(loc, kappa)
        return vmf, vmf.rsample()

    @pytest.mark.parametrize("kappa", [0.0, 1.0, 30.0, 1e4])
    def test_have_the_mean_and_the_law_of_their_cosine(self, dim, kappa):
        vmf, x = self.draw(dim, kappa)
        torch.testing.assert_close(x.norm(dim=-1), torch.ones(self.n, dtype=torch.float64))
        cosine = x @ vmf.loc
        error = cosine.std() / self.n**0.5
        assert abs(cosine.mean() - vmf.mean_resultant_length[0]) < 5 * error
        # No other direction is preferred to another.
        across = x - cosine[:, None] * vmf.loc
        spread = across.square().sum(dim=-1).mean() / (dim - 1) / self.n
        assert (across.mean(dim=0).square().sum() / spread).item() < dim + 5 * (2 * dim) ** 0.5 + 5
        grid = torch.linspace(0, math.pi, 200_001, dtype=torch.float64)[1:-1]
        log_density = kappa * (grid.cos() - 1) + (dim - 2) * grid.sin().log()
        cdf = (log_density - log_density.max()).exp().cumsum(0)
        angle = torch.atan2(across.norm(dim=-1), cosine)
        uniform = np.interp(angle, grid, cdf / cdf[-1])
        assert stats.kstest(uniform, "uniform").pvalue > 1e-3

    @pytest.mark.parametrize("kappa", [0.5, 10.0, 1e3])
    def test_carry_the_gradient_of_their_mean(self, dim, kappa):
        vmf, x = self.draw(dim, kappa, requires_grad=True)
        (slopes,) = torch.autograd.grad((x @ vmf.loc.detach()).sum(), vmf.kappa, retain_graph=True)
        (expected,) = torch.autograd.grad(vmf.mean_resultant_length.sum(), vmf.kappa)
        assert abs(slopes.mean() - expected[0]) < 5 * slopes.std() / self.n**0.5
        # E x = A loc: turning loc along a tangent turns the mean by A.
        tangent = F.normalize(torch.eye(dim).double()[-1] - vmf.loc * vmf.loc[-1], dim=0).detach()
        (slope,) = torch.autograd.grad((x @ tangent).mean(), vmf.loc)
        length = vmf.mean_resultant_length[0].item()
        assert (slope @ tangent).item() == pytest.approx(length, abs=0.05)

    def test_carry_the_gradient_of_the_inverse_distribution_function(self, dim):
        def quantile(kappa, level):
            grid = np.linspace(0, math.pi, 2_000_001)[1:-1]
            log_density = kappa * (np.cos(grid) - 1) + (dim - 2) * np.log(np.sin(grid))
            cdf = integrate.cumulative_trapezoid(
                np.exp(log_density - log_density.max()), grid, initial=0
            )
            return np.interp(level, cdf / cdf[-1], grid), np.interp(level, grid, cdf / cdf[-1])

        torch.manual_seed(1)
        kappa = torch.full((5,), 6.0, dtype=torch.float64, requires_grad=True)
        angle = VonMisesFisher(pole(dim), kappa).rsample()[:, 0].acos()
        (slopes,) = torch.autograd.grad(angle.sum(), kappa)
        _, level = quantile(6.0, angle.detach().numpy())
        expected = (quantile(6.01, level)[0] - quantile(5.99, level)[0]) / 0.02
        np.testing.assert_allclose(slopes, expected, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_a_mean_at_either_pole_has_finite_gradients(sign):
    loc = torch.tensor([sign, 0.0, 0.0], requires_grad=True)
    kappa = torch.tensor(20.0, requires_grad=True)
    torch.manual_seed(0)
    vmf = VonMisesFisher(loc, kappa)
    x = vmf.rsample((1000,))
    assert x.shape == (1000, 3)
    assert x.dtype == torch.float32
    assert abs(x[:, 0].mean() * sign - vmf.mean_resultant_length) < 0.01
    (x.sum() + vmf.log_prob(x).sum()).backward()
    assert loc.grad.isfinite().all()
    assert kappa.grad.isfinite()


def test_loc_and_kappa_broadcast():
    torch.manual_seed(0)
    loc = uniform_on_sphere((4, 1, 3))
    vmf = VonMisesFisher(loc, torch.rand(5))
    x = vmf.rsample((2,))
    assert x.shape == (2, 4, 5, 3)
    assert vmf.log_prob(x).shape == (2, 4, 5)


def test_draws_follow_the_default_generator():
    vmf = VonMisesFisher(torch.tensor([0.0, 1.0]), torch.tensor([3.0, 4.0]))
    torch.manual_seed(3)
    first = vmf.rsample((7,))
    torch.manual_seed(3)
    assert torch.equal(first, vmf.rsample((7,)))
    assert not torch.equal(first, vmf.rsample((7,)))


def test_with_shared_noise_a_draw_depends_on_its_own_parameters_alone():
    torch.manual_seed(0)
    loc = uniform_on_sphere((8, 4), dtype=torch.float64)
    kappa = 50 * torch.rand(8, dtype=torch.float64)

    def draw(rows):
        torch.manual_seed(1)
        with SharedNoise(len(rows)):
            return VonMisesFisher(loc[rows], kappa[rows]).rsample((8,))

    together = draw(list(range(8)))
    torch.testing.assert_close(draw([5, 2, 7]), together[:, [5, 2, 7]])
    assert (together.std(0) > 1e-3).all()
