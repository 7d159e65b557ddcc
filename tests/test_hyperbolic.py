"""The Poincare ball's geometry, and the densities and draws of the distributions on it."""

import math

import numpy as np
import pytest
import torch
from scipy import integrate, special, stats

from skvae.models.hyperbolic import PoincareBall, RiemannianNormal, WrappedNormal
from skvae.models.noise import SharedNoise
from skvae.models.von_mises_fisher import log_sphere_area

CURVATURES = [0.3, 1.0, 2.5]
DISTRIBUTIONS = [WrappedNormal, RiemannianNormal]


def points(ball, *shape, spread=1.0):
    return ball.exp0(spread * torch.randn(*shape, dtype=torch.float64))


def normal(distribution, loc, scale, curvature=1.0, dtype=torch.float64):
    loc, scale = torch.as_tensor(loc, dtype=dtype), torch.as_tensor(scale, dtype=dtype)
    return distribution(loc, scale.reshape(1), PoincareBall(curvature))


@pytest.mark.parametrize("curvature", CURVATURES)
class TestGeometry:
    @pytest.fixture(autouse=True)
    def ball(self, curvature):
        torch.manual_seed(0)
        self.c, self.ball = curvature, PoincareBall(curvature)
        self.x, self.y = points(self.ball, 30, 4), points(self.ball, 30, 4)

    def test_mobius_addition_is_that_of_the_books(self):
        x, y = self.x, self.y
        xy, xx, yy = ((a * b).sum(-1, keepdim=True) * self.c for a, b in [(x, y), (x, x), (y, y)])
        expected = ((1 + 2 * xy + yy) * x + (1 - xx) * y) / (1 + 2 * xy + xx * yy)
        torch.testing.assert_close(self.ball.mobius_add(x, y), expected)
        torch.testing.assert_close(self.ball.mobius_add(-x, self.ball.mobius_add(x, y)), y)

    def test_the_distance_is_that_of_the_books(self):
        # The hyperbolic cosine's formula of the distance.
        gaps = [1 - self.c * a.square().sum(-1) for a in (self.x, self.y)]
        cosh = 1 + 2 * self.c * (self.x - self.y).square().sum(-1) / (gaps[0] * gaps[1])
        torch.testing.assert_close(self.ball.distance(self.x, self.y), cosh.acosh() / self.c**0.5)

    def test_the_distance_is_the_length_of_the_geodesic(self):
        # Its length is that of many chords, each by the metric in its middle.
        times = torch.linspace(0, 1, 4001, dtype=torch.float64)[:, None, None]
        path = self.ball.exp(self.x, times * self.ball.log(self.x, self.y))
        middle, chord = (path[1:] + path[:-1]) / 2, path[1:] - path[:-1]
        metric = 2 / (1 - self.c * middle.square().sum(-1))
        length = (metric * chord.norm(dim=-1)).sum(0)
        expected = self.ball.distance(self.x, self.y)
        torch.testing.assert_close(length, expected, rtol=1e-5, atol=0)

    def test_exp_and_log_are_inverse(self):
        ball, x, y = self.ball, self.x, self.y
        v = torch.randn_like(x) / ball.conformal_factor(x)
        torch.testing.assert_close(ball.exp(x, ball.log(x, y)), y)
        torch.testing.assert_close(ball.log(x, ball.exp(x, v)), v)
        torch.testing.assert_close(ball.exp0(ball.log0(y)), y)
        torch.testing.assert_close(ball.exp0(v), ball.exp(torch.zeros_like(v), v))

    def test_the_length_of_log_is_the_distance(self):
        length = self.ball.conformal_factor(self.x) * self.ball.log(self.x, self.y)
        torch.testing.assert_close(length.norm(dim=-1), self.ball.distance(self.x, self.y))

    def test_transport_keeps_lengths_and_moves_as_mobius_addition_does(self):
        v = torch.randn_like(self.x)
        moved = self.ball.transport0(self.x, v)
        lengths = self.ball.conformal_factor(self.x).squeeze(-1) * moved.norm(dim=-1)
        torch.testing.assert_close(lengths, 2 * v.norm(dim=-1))
        # Ganea et al. 2018, eq. 12.
        expected = self.ball.log(self.x, self.ball.mobius_add(self.x, self.ball.exp0(v)))
        torch.testing.assert_close(moved, expected)

    def test_the_volume_is_the_conformal_factor_to_the_dimension(self):
        expected = (2 / (1 - self.c * self.x.square().sum(-1))) ** 4
        torch.testing.assert_close(self.ball.log_volume(self.x).exp(), expected)

    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    def test_nothing_leaves_the_ball(self, dtype):
        far = 1e3 * torch.randn(50, 4, dtype=dtype)
        near = torch.randn(50, 4, dtype=dtype) * self.c**-0.5 / 10
        edge = self.ball.project(far)
        for x in (edge, self.ball.exp0(far), self.ball.mobius_add(edge, edge.flip(0))):
            assert (self.c * x.double().square().sum(-1) < 1).all()
        assert torch.equal(self.ball.project(near), near)
        assert self.ball.distance(edge, edge.flip(0)).isfinite().all()
        assert self.ball.log(edge, edge.flip(0)).isfinite().all()

    def test_float32_distances_are_right_when_short_and_near_the_edge(self):
        x = self.ball.exp0(2.0 * torch.randn(200, 3) / self.c**0.5)
        for y in (x.flip(0), self.ball.exp(x, 1e-3 * torch.randn(200, 3) / self.c**0.5)):
            expected = self.ball.distance(x.double(), y.double())
            found = self.ball.distance(x, y).double()
            torch.testing.assert_close(found, expected, rtol=0.02, atol=1e-3)


@pytest.mark.parametrize("value", [0, -1.0, math.inf, math.nan])
def test_a_curvature_that_is_none_is_refused(value):
    with pytest.raises(ValueError, match="curvature must be a finite number above 0"):
        PoincareBall(value)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
class TestGradients:
    def check(self, function, *inputs):
        inputs = [x.clone().requires_grad_() for x in inputs]
        grads = torch.autograd.grad(function(*inputs).sum(), inputs)
        assert all(grad.isfinite().all() for grad in grads)
        return grads

    def cases(self, dtype):
        origin, edge = torch.zeros(3, dtype=dtype), torch.tensor([5.0, 0, 0], dtype=dtype)
        return origin, PoincareBall().project(edge), torch.tensor([0.3, -0.2, 0.1], dtype=dtype)

    def test_are_finite_at_the_origin_at_equal_points_and_at_the_edge(self, dtype):
        ball, cases = PoincareBall(), self.cases(dtype)
        for x in cases:
            self.check(ball.exp0, x)
            self.check(ball.log0, x)
            self.check(ball.project, x)
            self.check(ball.log_volume, x)
            for y in cases:
                for function in (ball.distance, ball.log, ball.exp, ball.mobius_add):
                    self.check(function, x, y)

    def test_are_right_where_points_meet(self, dtype):
        ball, (origin, _, x) = PoincareBall(0.7), self.cases(dtype)
        eye = torch.eye(3, dtype=dtype)
        jacobian = torch.autograd.functional.jacobian
        torch.testing.assert_close(jacobian(ball.exp0, origin), eye)
        torch.testing.assert_close(jacobian(ball.log0, origin), eye)
        torch.testing.assert_close(jacobian(lambda v: ball.exp(x, v), origin), eye)
        torch.testing.assert_close(jacobian(lambda y: ball.log(x, y), x), eye)

    @pytest.mark.parametrize("distribution", DISTRIBUTIONS)
    def test_of_distributions_are_finite(self, dtype, distribution):
        torch.manual_seed(0)
        cases, ball = self.cases(dtype), PoincareBall()
        for loc in cases:
            for value in (1e-3, 0.5, 3.0):
                scale = torch.tensor([value], dtype=dtype)
                self.check(lambda m, s: distribution(m, s, ball).rsample((50,)), loc, scale)
                for z in cases:
                    log_prob = distribution(loc, scale, ball).log_prob(z)
                    assert log_prob.isfinite()
                    self.check(lambda m, s, z: distribution(m, s, ball).log_prob(z), loc, scale, z)


def integral_over_the_disc(log_prob, ball):
    """Of a density by Riemannian measure, by Euclidean polar coordinates."""
    c = ball.curvature
    radius, weights = map(torch.from_numpy, np.polynomial.legendre.leggauss(600))
    # In steps of distance: the edge is far away.
    reach = 14.0
    distance, weights = (radius + 1) * reach / 2, weights * reach / 2
    euclidean = torch.tanh(c**0.5 * distance / 2) / c**0.5
    angle = torch.arange(1200, dtype=torch.float64) * (2 * math.pi / 1200)
    z = euclidean[:, None, None] * torch.stack([angle.cos(), angle.sin()], dim=-1)
    density = (log_prob(z) + ball.log_volume(z)).exp()
    # d euclidean / d distance
    slope = (1 - c * euclidean**2) / 2
    return (weights * slope * euclidean * density.mean(dim=1)).sum().item() * 2 * math.pi


@pytest.mark.parametrize("distribution", DISTRIBUTIONS)
@pytest.mark.parametrize("curvature", CURVATURES)
class TestDensity:
    @pytest.mark.parametrize("scale", [0.2, 0.6, 1.0])
    def test_integrates_to_one_on_the_disc(self, distribution, curvature, scale):
        q = normal(distribution, [0.3, -0.2], scale, curvature)
        assert integral_over_the_disc(q.log_prob, q.ball) == pytest.approx(1, rel=1e-6)

    @pytest.mark.parametrize("scale", [0.2, 1.0, 1.5])
    def test_integrates_to_one_on_the_line(self, distribution, curvature, scale):
        q = normal(distribution, [-0.4], scale, curvature)
        x = PoincareBall(curvature).exp0(
            torch.linspace(-8, 8, 20_001, dtype=torch.float64)[:, None]
        )
        density = (q.log_prob(x) + q.ball.log_volume(x)).exp()
        assert integrate.trapezoid(density, x.squeeze(-1)) == pytest.approx(1, rel=1e-5)

    def test_is_the_same_seen_from_anywhere(self, distribution, curvature):
        # Moebius addition to the left is an isometry.
        torch.manual_seed(0)
        ball = PoincareBall(curvature)
        x, z, move = points(ball, 3, 20, 4)
        scale = torch.full((1,), 0.7, dtype=torch.float64)
        still = distribution(x, scale, ball).log_prob(z)
        moved = distribution(ball.mobius_add(move, x), scale, ball)
        torch.testing.assert_close(moved.log_prob(ball.mobius_add(move, z)), still)

    def test_of_draws_is_the_same_in_float32(self, distribution, curvature):
        torch.manual_seed(0)
        q = normal(distribution, [0.2, 0.1, -0.3], 0.8, curvature, torch.float32)
        z = q.rsample((500,))
        assert z.dtype == torch.float32
        wide = distribution(q.loc.double(), q.scale.double(), q.ball).log_prob(z.double())
        torch.testing.assert_close(q.log_prob(z).double(), wide, rtol=1e-3, atol=2e-3)


@pytest.mark.parametrize("distribution", DISTRIBUTIONS)
def test_without_curvature_it_is_the_normal_distribution(distribution):
    torch.manual_seed(0)
    v = torch.randn(20, 3, dtype=torch.float64)
    q = normal(distribution, [0.1, 0.0, 0.2], 0.9, 1e-8)
    # The metric at 0 is 4 times the Euclidean one.
    expected = stats.norm(0, 0.9).logpdf(2 * (v - q.loc)).sum(-1)
    torch.testing.assert_close(q.log_prob(v), torch.from_numpy(expected), rtol=1e-5, atol=1e-5)


def test_the_wrapped_normal_has_a_scale_for_each_axis():
    torch.manual_seed(0)
    ball, loc = PoincareBall(), torch.tensor([0.3, -0.2], dtype=torch.float64)
    q = WrappedNormal(loc, torch.tensor([0.3, 0.7], dtype=torch.float64), ball)
    assert integral_over_the_disc(q.log_prob, ball) == pytest.approx(1, rel=1e-6)
    v = ball.log(loc, q.rsample((4000,))) * ball.conformal_factor(loc)
    for axis, scale in enumerate([0.3, 0.7]):
        assert stats.kstest(v[:, axis], stats.norm(0, scale).cdf).pvalue > 1e-3


class TestRiemannianNormal:
    def log_integral(self, dim, scale, c):
        def log_integrand(r):
            return (dim - 1) * np.log(np.sinh(c**0.5 * r) / c**0.5) - r**2 / (2 * scale**2)

        grid = np.linspace(0, (dim - 1) * c**0.5 * scale**2 + 30 * scale, 20_001)[1:]
        top, peak = log_integrand(grid).max(), grid[log_integrand(grid).argmax()]
        bounds = (max(0, peak - 12 * scale), peak + 12 * scale)
        value, _ = integrate.quad(
            lambda r: math.exp(log_integrand(r) - top) if r else 0.0, *bounds, epsrel=1e-11
        )
        return math.log(value) + top + log_sphere_area(dim)

    @pytest.mark.parametrize("dim", range(2, 11))
    def test_normalizer_is_the_integral(self, dim):
        for curvature in CURVATURES:
            for scale in (0.05, 0.5, 2.0):
                q = normal(RiemannianNormal, torch.zeros(dim), scale, curvature)
                expected = self.log_integral(dim, scale, curvature)
                assert q.log_normalizer().item() == pytest.approx(expected, rel=1e-9)

    @pytest.mark.parametrize("dim", range(1, 9))
    def test_normalizer_is_its_closed_form_where_that_keeps_digits(self, dim):
        # Mathieu et al. 2019, appendix B.
        for curvature in CURVATURES:
            s = 1.2 * curvature**0.5
            n = dim - 1 - 2 * np.arange(dim)
            terms = special.binom(dim - 1, np.arange(dim)) * (-1.0) ** np.arange(dim)
            total = (terms * np.exp((n * s) ** 2 / 2) * (1 + special.erf(n * s / 2**0.5))).sum()
            expected = math.log(total * (math.pi / 2) ** 0.5 * 1.2) + log_sphere_area(dim)
            expected -= (dim - 1) * math.log(2 * curvature**0.5)
            q = normal(RiemannianNormal, torch.zeros(dim), 1.2, curvature)
            assert q.log_normalizer().item() == pytest.approx(expected, rel=1e-7, abs=1e-7)

    def test_normalizer_has_its_derivative(self):
        for dim in (1, 2, 7):
            scale = torch.tensor([[0.1], [1.0], [4.0]], dtype=torch.float64, requires_grad=True)
            assert torch.autograd.gradcheck(
                lambda s, d=dim: RiemannianNormal(
                    torch.zeros(d, dtype=torch.float64), s, PoincareBall(1.3)
                ).log_normalizer(),
                scale,
            )

    def test_normalizer_stays_finite(self):
        for dim in (1, 2, 64, 512):
            for scale in (1e-4, 1.0, 50.0):
                q = normal(RiemannianNormal, torch.zeros(dim), scale, dtype=torch.float32)
                assert q.log_normalizer().isfinite()

    def radial_cdf(self, dim, scale, c, grid):
        stretch = (dim - 1) * np.log(np.sinh(c**0.5 * grid))
        log_density = stretch - grid**2 / (2 * scale**2)
        density = np.exp(log_density - log_density.max())
        cdf = integrate.cumulative_trapezoid(density, grid, initial=0)
        return cdf / cdf[-1]

    @pytest.mark.parametrize("dim", [1, 2, 3, 10])
    def test_draws_have_the_law_of_their_radius(self, dim):
        torch.manual_seed(dim)
        for curvature, scale in [(1.0, 0.3), (1.0, 1.1), (2.5, 0.7)]:
            q = normal(RiemannianNormal, torch.full((dim,), 0.1), scale, curvature)
            radius = q.ball.distance(q.loc, q.rsample((5000,)))
            grid = np.linspace(1e-9, 25, 400_001)
            uniform = np.interp(radius, grid, self.radial_cdf(dim, scale, curvature, grid))
            assert stats.kstest(uniform, "uniform").pvalue > 1e-3

    @pytest.mark.parametrize("dim", [1, 2, 3, 10])
    def test_draws_carry_the_gradient_of_the_inverse_distribution_function(self, dim):
        torch.manual_seed(dim)
        curvature, value, step = 1.4, 0.8, 1e-2
        scale = torch.full((6, 1), value, dtype=torch.float64, requires_grad=True)
        origin, ball = torch.zeros(dim, dtype=torch.float64), PoincareBall(curvature)
        radius = ball.distance(origin, RiemannianNormal(origin, scale, ball).rsample())
        (slopes,) = torch.autograd.grad(radius.sum(), scale)
        grid = np.linspace(1e-9, 25, 400_001)
        levels = np.interp(radius.detach(), grid, self.radial_cdf(dim, value, curvature, grid))
        up, down = (
            np.interp(levels, self.radial_cdf(dim, value + h, curvature, grid), grid)
            for h in (step, -step)
        )
        np.testing.assert_allclose(slopes[:, 0], (up - down) / (2 * step), rtol=2e-3)

    def test_in_one_dimension_it_is_the_wrapped_normal(self):
        torch.manual_seed(0)
        z = points(PoincareBall(), 20, 1)
        riemannian, wrapped = (normal(kind, [0.3], 0.8) for kind in DISTRIBUTIONS)
        torch.testing.assert_close(riemannian.log_prob(z), wrapped.log_prob(z))


@pytest.mark.parametrize("distribution", DISTRIBUTIONS)
class TestDraws:
    def test_have_no_preferred_direction(self, distribution):
        torch.manual_seed(0)
        q = normal(distribution, [0.5, -0.3, 0.2], 0.6)
        v = q.ball.log(q.loc, q.rsample((20_000,)))
        error = v.std(dim=0) / 20_000**0.5
        assert (v.mean(dim=0).abs() < 5 * error).all()

    def test_agree_with_the_density(self, distribution):
        # E q f / q = the integral of f: importance sampling of one law's mass by the other's draws.
        torch.manual_seed(0)
        q = normal(distribution, [0.1, 0.2, 0.0], 0.9)
        p = normal(WrappedNormal, [0.0, 0.1, 0.1], 0.6)
        z = q.rsample((20_000,))
        weights = (p.log_prob(z) - q.log_prob(z)).exp()
        assert abs(weights.mean() - 1) < 5 * weights.std() / 20_000**0.5

    def test_carry_gradients_to_loc(self, distribution):
        # At loc = 0 and far from it, moving loc moves the draws with it.
        torch.manual_seed(0)
        for place in ([0.0, 0.0], [0.6, -0.5]):
            loc = torch.tensor(place, dtype=torch.float64, requires_grad=True)
            q = distribution(loc, torch.tensor([1e-4], dtype=torch.float64), PoincareBall())
            (grad,) = torch.autograd.grad(q.rsample((100,))[:, 0].mean(), loc)
            torch.testing.assert_close(grad, torch.tensor([1.0, 0.0]).double(), atol=1e-3, rtol=0)

    def test_broadcast_and_follow_the_default_generator(self, distribution):
        ball = PoincareBall(2.0)
        q = distribution(torch.zeros(4, 1, 3), torch.rand(5, 1) + 0.1, ball)
        torch.manual_seed(1)
        first = q.rsample((2,))
        torch.manual_seed(1)
        assert torch.equal(first, q.rsample((2,)))
        assert first.shape == (2, 4, 5, 3)
        assert q.log_prob(first).shape == (2, 4, 5)


@pytest.mark.parametrize("distribution", DISTRIBUTIONS)
def test_with_shared_noise_a_draw_depends_on_its_own_parameters_alone(distribution):
    torch.manual_seed(0)
    ball = PoincareBall()
    loc = ball.exp0(torch.randn(8, 3, dtype=torch.float64))
    scale = 0.1 + 2 * torch.rand(8, 1, dtype=torch.float64)

    def draw(rows):
        torch.manual_seed(1)
        with SharedNoise(len(rows)):
            return distribution(loc[rows], scale[rows], ball).rsample((8,))

    together = draw(list(range(8)))
    torch.testing.assert_close(draw([5, 2, 7]), together[:, [5, 2, 7]])
    assert (together.std(0) > 1e-3).all()
