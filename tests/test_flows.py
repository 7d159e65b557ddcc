"""Flows against their Jacobians, and what makes them invertible."""

import itertools
import math

import pytest
import torch

from skvae.models.flows import (
    FlowSequence,
    InverseAutoregressiveFlow,
    MaskedAutoregressiveNetwork,
    PlanarFlow,
    RadialFlow,
)

DIMS = [1, 2, 5]
CONTEXT_DIM = 3


def scramble(module, size=1.0):
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter, std=size)
    return module.double()


def build(kind, dim):
    if kind == "planar":
        return PlanarFlow(dim)
    if kind == "radial":
        return RadialFlow(dim)
    if kind == "iaf":
        return InverseAutoregressiveFlow(dim, CONTEXT_DIM, hidden=(7, 6))
    return FlowSequence([build(name, dim) for name in ("planar", "iaf", "radial")])


@pytest.mark.parametrize("dim", DIMS)
@pytest.mark.parametrize("kind", ["planar", "radial", "iaf", "sequence"])
class TestEveryFlow:
    def test_gives_the_log_determinant_of_its_jacobian(self, kind, dim):
        for seed in range(10):
            torch.manual_seed(seed)
            flow = scramble(build(kind, dim))
            z, context = torch.randn(dim).double(), torch.randn(CONTEXT_DIM).double()
            jacobian = torch.autograd.functional.jacobian(
                lambda z, f=flow, c=context: f(z, c)[0], z
            )
            sign, expected = torch.linalg.slogdet(jacobian)
            assert sign > 0
            torch.testing.assert_close(flow(z, context)[1], expected)

    def test_takes_any_batch_and_a_context_that_broadcasts(self, kind, dim):
        torch.manual_seed(0)
        flow = scramble(build(kind, dim), 0.5)
        z, context = torch.randn(6, 4, dim).double(), torch.randn(4, CONTEXT_DIM).double()
        moved, log_det = flow(z, context)
        assert moved.shape == z.shape
        assert log_det.shape == (6, 4)
        for i, j in itertools.product(range(6), range(4)):
            alone, alone_det = flow(z[i, j], context[j])
            torch.testing.assert_close(moved[i, j], alone)
            torch.testing.assert_close(log_det[i, j], alone_det)

    def test_passes_gradients_to_all_it_learns(self, kind, dim):
        torch.manual_seed(0)
        flow = scramble(build(kind, dim), 0.5)
        z, context = torch.randn(8, dim).double(), torch.randn(8, CONTEXT_DIM).double()
        moved, log_det = flow(z, context)
        (moved.square().sum() + log_det.sum()).backward()
        for name, parameter in flow.named_parameters():
            assert parameter.grad.isfinite().all(), name
            # Before the first coordinate there is none to look at.
            assert parameter.grad.any() or (dim == 1 and name.endswith("layers.0.weight")), name


@pytest.mark.parametrize("kind", ["planar", "radial", "iaf", "sequence"])
def test_mass_is_kept_on_the_line(kind):
    torch.manual_seed(0)
    flow = scramble(build(kind, 1))
    z = torch.linspace(-10, 10, 20_001).double()[:, None]
    moved, log_det = flow(z, torch.randn(CONTEXT_DIM).double())
    moved = moved.squeeze(-1)
    assert (moved.diff() > 0).all()
    density = torch.exp(-0.5 * z.squeeze(-1).square() - log_det) / math.sqrt(2 * math.pi)
    assert torch.trapezoid(density, moved).item() == pytest.approx(1, rel=1e-4)


@pytest.mark.parametrize("kind", [PlanarFlow, RadialFlow])
class TestIdentity:
    def test_is_where_they_start(self, kind):
        torch.manual_seed(0)
        z = torch.randn(10, 4)
        moved, log_det = kind(4)(z)
        torch.testing.assert_close(moved, z, rtol=0, atol=0)
        torch.testing.assert_close(log_det, torch.zeros(10), rtol=0, atol=1e-6)

    def test_is_left_in_training(self, kind):
        # It must not be a point where gradients vanish.
        torch.manual_seed(0)
        flow, z = kind(4), torch.randn(10, 4)
        moved, _ = flow(z)
        moved.square().sum().backward()
        assert (flow.u if kind is PlanarFlow else flow.b).grad.any()


class TestPlanarFlow:
    @pytest.mark.parametrize("product", [-1e3, -30.0, -1.0, 0.0, 2.0])
    def test_is_invertible_wherever_its_parameters_go(self, product):
        flow = PlanarFlow(3)
        with torch.no_grad():
            flow.w.copy_(torch.tensor([0.6, 0.0, 0.8]))
            flow.u.copy_(product * flow.w + torch.tensor([0.0, 0.3, 0.0]))
        # Along w the map must rise.
        z = torch.linspace(-20, 20, 401)[:, None] * flow.w
        moved, log_det = flow(z)
        assert (torch.diff(moved @ flow.w) > -1e-6).all()
        # exp(-1000), the slope at the hyperplane, is 0.
        assert (log_det.isfinite() | (z @ flow.w).abs().lt(1e-6)).all()
        assert not log_det.isnan().any()

    def test_leaves_u_alone_where_the_map_is_invertible_anyway(self):
        flow = PlanarFlow(2).double()
        with torch.no_grad():
            flow.w.copy_(torch.tensor([1.0, 2.0]))
            flow.u.copy_(torch.tensor([0.5, 0.3]))
        z = torch.tensor([0.2, -0.7]).double()
        expected = z + flow.u * torch.tanh(z @ flow.w)
        torch.testing.assert_close(flow(z)[0], expected)

    def test_a_weight_of_zero_is_a_shift(self):
        flow = PlanarFlow(2)
        torch.nn.init.zeros_(flow.w)
        torch.nn.init.ones_(flow.u)
        torch.nn.init.ones_(flow.b)
        moved, log_det = flow(torch.zeros(2))
        torch.testing.assert_close(moved, torch.full((2,), math.tanh(1)))
        assert log_det == 0
        moved.sum().backward()
        assert flow.w.grad.isfinite().all()


class TestRadialFlow:
    @pytest.mark.parametrize("b", [-30.0, -1.0, 3.0])
    @pytest.mark.parametrize("log_alpha", [-3.0, 2.0])
    def test_is_invertible_wherever_its_parameters_go(self, b, log_alpha):
        torch.manual_seed(0)
        flow = RadialFlow(3)
        torch.nn.init.constant_(flow.b, b)
        torch.nn.init.constant_(flow.log_alpha, log_alpha)
        direction = torch.tensor([0.6, 0.0, 0.8])
        z = flow.center + torch.linspace(-9, 9, 300)[:, None] * direction
        moved, log_det = flow(z)
        assert (torch.diff(moved @ direction) > -1e-6).all()
        assert log_det.isfinite().all()

    def test_is_that_of_the_paper(self):
        torch.manual_seed(0)
        flow, z = scramble(RadialFlow(3)), torch.randn(5, 3).double()
        alpha, beta = flow.log_alpha.exp(), flow.log_alpha.exp() * torch.nn.functional.elu(flow.b)
        offset = z - flow.center
        expected = z + beta * offset / (alpha + offset.norm(dim=-1, keepdim=True))
        torch.testing.assert_close(flow(z)[0], expected)

    def test_has_gradients_at_its_centre(self):
        flow = RadialFlow(2)
        torch.nn.init.ones_(flow.b)
        z = flow.center.detach().clone().requires_grad_()
        moved, log_det = flow(z)
        (moved.sum() + log_det).backward()
        assert z.grad.isfinite().all()
        torch.testing.assert_close(log_det, torch.tensor(2 * math.log(2)))


@pytest.mark.parametrize("reverse", [False, True])
class TestMaskedAutoregressiveNetwork:
    def sensitivity(self, dim, reverse, hidden):
        """Which output depends on which coordinate: shape (n_outputs, dim, dim)."""
        torch.manual_seed(0)
        network = scramble(MaskedAutoregressiveNetwork(dim, 3, hidden, CONTEXT_DIM, reverse))
        context = torch.randn(CONTEXT_DIM).double()
        jacobian = torch.autograd.functional.jacobian(
            lambda z: torch.stack(network(z, context)), torch.randn(dim).double()
        )
        return jacobian != 0

    @pytest.mark.parametrize("hidden", [(40,), (40, 50), (64, 32, 64)])
    def test_each_coordinate_sees_all_of_those_before_it_and_no_other(self, reverse, hidden):
        for dim in (1, 2, 6):
            expected = torch.ones(dim, dim).tril(-1).bool()
            expected = expected.T if reverse else expected
            assert torch.equal(self.sensitivity(dim, reverse, hidden), expected.expand(3, dim, dim))

    def test_fewer_units_than_coordinates_still_look_only_back(self, reverse):
        seen = self.sensitivity(6, reverse, (2, 3))
        forbidden = torch.ones(6, 6).triu().bool()
        assert not seen[:, forbidden.T if reverse else forbidden].any()

    def test_every_coordinate_sees_the_context(self, reverse):
        for dim in (1, 4):
            torch.manual_seed(0)
            network = scramble(MaskedAutoregressiveNetwork(dim, 2, (16, 16), CONTEXT_DIM, reverse))
            jacobian = torch.autograd.functional.jacobian(
                lambda c, n=network, d=dim: torch.stack(n(torch.zeros(d).double(), c)),
                torch.randn(CONTEXT_DIM).double(),
            )
            assert (jacobian != 0).all()


class TestInverseAutoregressiveFlow:
    def test_starts_near_the_identity(self):
        torch.manual_seed(0)
        z, context = torch.randn(10, 4), torch.randn(10, CONTEXT_DIM)
        moved, log_det = InverseAutoregressiveFlow(4, CONTEXT_DIM)(z, context)
        gate = 1 / (1 + math.exp(-2))
        torch.testing.assert_close(moved, gate * z)
        torch.testing.assert_close(log_det, torch.full((10,), 4 * math.log(gate)))

    def test_is_that_of_the_paper(self):
        torch.manual_seed(0)
        flow = scramble(InverseAutoregressiveFlow(4, hidden=(9,)))
        z = torch.randn(10, 4).double()
        m, s = flow.network(z)
        sigma = torch.sigmoid(s + 2)
        moved, log_det = flow(z)
        torch.testing.assert_close(moved, sigma * z + (1 - sigma) * m)
        torch.testing.assert_close(log_det, sigma.log().sum(-1))

    def test_two_steps_in_turned_order_mix_all_coordinates(self):
        torch.manual_seed(0)
        flow = scramble(
            FlowSequence(
                [InverseAutoregressiveFlow(4, hidden=(16,), reverse=r) for r in (False, True)]
            )
        )
        jacobian = torch.autograd.functional.jacobian(lambda z: flow(z)[0], torch.randn(4).double())
        assert (jacobian != 0).all()

    @pytest.mark.parametrize(("context_dim", "given"), [(0, True), (2, False)])
    def test_says_when_the_context_is_amiss(self, context_dim, given):
        flow = InverseAutoregressiveFlow(3, context_dim)
        with pytest.raises(ValueError, match=r"was built for (no|a) context"):
            flow(torch.zeros(3), torch.zeros(2) if given else None)

    def test_asks_for_a_hidden_layer(self):
        with pytest.raises(ValueError, match="hidden must hold the size of one layer or more"):
            InverseAutoregressiveFlow(3, hidden=())

    def test_learns_a_dependence_between_coordinates(self):
        # To the density of (z1, z2 + z1^2) no diagonal Gaussian is nearer than 0.317 nats.
        torch.manual_seed(0)
        flow = FlowSequence(
            [InverseAutoregressiveFlow(2, hidden=(32,), reverse=r) for r in (False, True)]
        )
        optimizer = torch.optim.Adam(flow.parameters(), lr=0.02)

        def divergence(n):
            z = torch.randn(n, 2)
            moved, log_det = flow(z)
            bent = torch.stack([moved[:, 0], moved[:, 1] - moved[:, 0] ** 2], dim=-1)
            return (0.5 * (bent.square().sum(-1) - z.square().sum(-1)) - log_det).mean()

        for _ in range(400):
            optimizer.zero_grad()
            loss = divergence(256)
            loss.backward()
            optimizer.step()
        assert divergence(20_000).item() < 0.2
